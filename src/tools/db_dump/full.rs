//! All that can be known of a file as JSON.

use std::io::{self, Write};

use super::json::{Json, properties, property_name, property_value};
use super::text::option_bits;
use super::{Facts, View};
use crate::persist::chunk::{Chunk, Direction, Kind};
use crate::persist::read::Item;
use crate::wire::props;

/// Collects the arrays, whose elements stand mixed in the file.
#[derive(Default)]
pub(super) struct Full {
    order: Vec<Json>,
    configs: Vec<Json>,
    messages: Vec<Json>,
    clients: Vec<Json>,
    client_messages: Vec<Json>,
    retained: Vec<Json>,
    subscriptions: Vec<Json>,
}

/// Null instead of nothing.
fn optional(text: &str) -> Json {
    if text.is_empty() { Json::Null } else { text.into() }
}

impl View for Full {
    fn chunk(&mut self, _out: &mut dyn Write, item: &Item<'_>) -> io::Result<()> {
        let mut members = vec![("file_offset", item.offset.into()), ("length", item.length.into())];
        let (name, list) = match &item.chunk {
            Chunk::Config(config) => {
                members.extend([
                    ("last_db_id", config.last_db_id.into()),
                    ("shutdown", Json::flag(config.shutdown)),
                    ("dbid_size", 8u8.into()),
                ]);
                ("cfg", &mut self.configs)
            }
            Chunk::Message(message) => {
                members.extend([
                    ("store_id", message.store_id.into()),
                    ("expiry_time", message.expiry_time.into()),
                    ("source_mid", message.source_packet_id.into()),
                    ("source_port", message.source_port.into()),
                    ("qos", (message.qos as u8).into()),
                    ("retain", Json::flag(message.retain)),
                    ("source_id", message.source_id.into()),
                    ("source_username", optional(message.source_username)),
                    ("topic", message.topic.into()),
                    match std::str::from_utf8(message.payload) {
                        Ok(text) => ("payload_utf8", text.into()),
                        Err(_) => ("payload_b64", Json::base64(message.payload)),
                    },
                    ("payload_len", Json::Number(message.payload.len() as i128)),
                    ("properties", properties(&message.props, property)),
                ]);
                ("base_msg", &mut self.messages)
            }
            Chunk::Client(client) => {
                members.extend([
                    ("session_expiry_time", client.session_expiry_time.into()),
                    ("session_expiry_interval", client.session_expiry_interval.into()),
                    ("last_mid", client.last_packet_id.into()),
                    ("listener_port", client.listener_port.into()),
                    ("disconnect_t", client.disconnected_at.into()),
                    ("client_id", client.id.into()),
                    ("username", optional(client.username)),
                    ("doubtful", Json::Bool(client.doubtful)),
                ]);
                ("client", &mut self.clients)
            }
            Chunk::ClientMessage(message) => {
                let direction = if message.direction == Direction::In { "in" } else { "out" };
                let identifier = property_object(props::SUBSCRIPTION_ID, message.subscription_id.into());
                let identifier = (message.subscription_id > 0).then_some(identifier);
                members.extend([
                    ("client_id", message.client_id.into()),
                    ("store_id", message.store_id.into()),
                    ("mid", message.packet_id.into()),
                    ("qos", (message.qos as u8).into()),
                    ("state", (message.state as u8).into()),
                    ("retain", Json::flag(message.retain)),
                    ("dup", Json::flag(message.dup)),
                    ("direction", direction.into()),
                    ("properties", Json::Array(identifier.into_iter().collect())),
                ]);
                ("client_msg", &mut self.client_messages)
            }
            Chunk::Retained(retained) => {
                members.push(("store_id", retained.store_id.into()));
                ("retain", &mut self.retained)
            }
            Chunk::Subscription(subscription) => {
                members.extend([
                    ("client_id", subscription.client_id.into()),
                    ("topic", subscription.filter.into()),
                    ("qos", (subscription.options.qos as u8).into()),
                    ("options", option_bits(subscription).into()),
                    ("identifier", subscription.identifier.into()),
                ]);
                ("sub", &mut self.subscriptions)
            }
            Chunk::Dropped(_) | Chunk::Unknown(_) => return Ok(()),
        };
        list.push(Json::Object(members));
        self.order.push(name.into());
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write, facts: &Facts<'_>) -> io::Result<()> {
        let told = |offset: u64, kind: Option<Kind>, text: String| {
            let kind = kind.map_or(Json::Null, |kind| kind.name().into());
            Json::Object(vec![("file_offset", offset.into()), ("kind", kind), ("text", Json::Text(text))])
        };
        let damage = facts.damage.iter().map(|d| told(d.offset, d.kind, d.to_string())).collect();
        let findings = facts.findings.list().iter().map(|f| told(f.offset, f.kind, f.to_string())).collect();
        let header = vec![("crc", facts.crc.into()), ("db_version", facts.version.into())];
        let full = std::mem::take(self);
        let all = Json::Object(vec![
            ("header", Json::Object(header)),
            ("chunk_order", Json::Array(full.order)),
            ("cfg", Json::Array(full.configs)),
            ("base_messages", Json::Array(full.messages)),
            ("clients", Json::Array(full.clients)),
            ("client_messages", Json::Array(full.client_messages)),
            ("subscriptions", Json::Array(full.subscriptions)),
            ("retained", Json::Array(full.retained)),
            ("damage", Json::Array(damage)),
            ("findings", Json::Array(findings)),
        ]);
        out.write_all(all.print().as_bytes())
    }

    fn shows_damaged(&self) -> bool {
        true
    }
}

fn property_object(id: u8, value: Json) -> Json {
    Json::Object(vec![("identifier", property_name(id).into()), ("value", value)])
}

fn property(p: props::Prop<'_>) -> Json {
    let value = match p.value {
        props::Value::Pair(name, value) => Json::Object(vec![("name", name.into()), ("value", value.into())]),
        value => property_value(value),
    };
    property_object(p.id, value)
}
