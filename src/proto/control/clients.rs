//! A client as JSON.

use super::Context;
use super::json::{Object, put_text};
use crate::broker::{ConnId, SessionId};
use crate::wire::ProtocolVersion;

/// Subscriptions that are shown of one client, at most.
const MAX_SUBSCRIPTIONS: usize = 100;
/// No further subscription is shown once they take so many bytes.
const MAX_SUBSCRIPTION_BYTES: usize = 64 * 1024;

/// Appends all about a client, and its subscriptions if they are wanted. False when there is no such client any more.
pub(super) fn put_client(out: &mut String, context: &Context<'_>, id: SessionId, subscriptions: bool) -> bool {
    let Some(client) = context.broker.client(context.now, id) else { return false };
    let connection = client.conn.and_then(context.connection);
    let mut object = Object::new(out);
    object.text("clientid", client.client_id);
    if let Some(username) = client.username {
        object.text("username", username);
    }
    object.raw("connected", client.conn.is_some());
    let since = if client.conn.is_some() { "connectedSince" } else { "disconnectedSince" };
    if client.since_s != 0 {
        object.raw(since, client.since_s);
    }
    if let Some(connection) = &connection {
        object.text("address", &connection.peer.host().to_string());
        object.raw("remotePort", connection.peer.port());
        object.raw("port", connection.listener_port);
        object.raw("keepalive", connection.keepalive_s);
    }
    object.text(
        "protocolVersion",
        match (client.conn.and_then(ConnId::sn), client.version) {
            (Some(_), _) => "MQTT-SN 1.2",
            (None, ProtocolVersion::V31) => "3.1",
            (None, ProtocolVersion::V311) => "3.1.1",
            (None, ProtocolVersion::V5) => "5.0",
        },
    );
    if client.bridge {
        object.raw("bridge", true);
    }
    object.raw("sessionExpiryInterval", client.expiry_s);
    if let Some(seconds) = client.ends_in_s {
        object.raw("expiresIn", seconds);
    }
    object.raw("subscriptionCount", client.subscriptions);
    for (name, (messages, bytes)) in
        [("queued", client.queued), ("inflight", client.inflight), ("incoming", client.incoming)]
    {
        object.raw(&format!("{name}Messages"), messages);
        object.raw(&format!("{name}Bytes"), bytes);
    }
    if let Some(connection) = &connection {
        object.raw("socketBytes", connection.waiting_bytes);
    }
    if client.dropping {
        object.raw("dropping", true);
    }
    if let Some(will) = client.will {
        let mut inner = object.object("will");
        inner.text("topic", &will.topic);
        inner.raw("qos", will.qos as u8);
        inner.raw("retain", will.retain);
        inner.raw("delayInterval", will.delay_s);
        inner.end();
    }
    if subscriptions {
        put_subscriptions(&mut object, context, id);
    }
    object.end();
    true
}

fn put_subscriptions(object: &mut Object<'_>, context: &Context<'_>, id: SessionId) {
    let mut left = context.broker.subscriptions_of(id).take(MAX_SUBSCRIPTIONS);
    let mut bytes = 0usize;
    object.array("subscriptions", |out| {
        let Some(sub) = left.next().filter(|_| bytes < MAX_SUBSCRIPTION_BYTES) else { return false };
        let before = out.len();
        let mut entry = Object::new(out);
        match sub.share {
            Some(share) => entry.text("filter", &format!("$share/{share}/{}", sub.filter)),
            None => entry.text("filter", &sub.filter),
        }
        entry.raw("qos", sub.options.qos as u8);
        for (name, set) in [("noLocal", sub.options.no_local), ("retainAsPublished", sub.options.retain_as_published)] {
            if set {
                entry.raw(name, true);
            }
        }
        if sub.options.retain_handling != 0 {
            entry.raw("retainHandling", sub.options.retain_handling);
        }
        if sub.id != 0 {
            entry.raw("subscriptionIdentifier", sub.id);
        }
        entry.end();
        bytes = bytes.saturating_add(out.len().saturating_sub(before));
        true
    });
}

/// Appends the client id alone. False when there is no such client any more.
pub(super) fn put_client_id(out: &mut String, context: &Context<'_>, id: SessionId) -> bool {
    let Some(client) = context.broker.client(context.now, id) else { return false };
    put_text(out, client.client_id);
    true
}
