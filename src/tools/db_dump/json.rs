//! The content as JSON, with the names that C Mosquitto 2.1 has for it.

use std::fmt::Write as _;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::text::option_bits;
use super::{Facts, View};
use crate::persist::chunk::Chunk;
use crate::persist::read::Item;
use crate::wire::props::{self, Prop, Section};

/// A value of JSON. Numbers are whole here.
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(i128),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.into())
    }
}

macro_rules! from_numbers {
    ($($number:ty)*) => {
        $(impl From<$number> for Json {
            fn from(n: $number) -> Json {
                Json::Number(n.into())
            }
        })*
    };
}

from_numbers! { u8 u16 u32 u64 i64 }

impl Json {
    /// `0` or `1`, as the tool shows flags.
    pub(super) fn flag(on: bool) -> Json {
        u8::from(on).into()
    }

    pub(super) fn base64(bytes: &[u8]) -> Json {
        Json::Text(BASE64.encode(bytes))
    }

    /// Text for a reader who likes tabs: members on lines of their own, elements of an array side by side.
    pub(super) fn print(&self) -> String {
        let mut out = String::new();
        self.put(&mut out, 0);
        out.push('\n');
        out
    }

    fn put(&self, out: &mut String, depth: usize) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(on) => out.push_str(if *on { "true" } else { "false" }),
            // What goes into a `String` does not fail.
            Json::Number(n) => drop(write!(out, "{n}")),
            Json::Text(text) => put_text(out, text),
            Json::Array(all) => {
                out.push('[');
                for (i, json) in all.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    json.put(out, depth + 1);
                }
                out.push(']');
            }
            Json::Object(all) => {
                out.push('{');
                for (i, (name, json)) in all.iter().enumerate() {
                    out.push_str(if i > 0 { ",\n" } else { "\n" });
                    out.extend(std::iter::repeat_n('\t', depth + 1));
                    put_text(out, name);
                    out.push_str(":\t");
                    json.put(out, depth + 1);
                }
                if !all.is_empty() {
                    out.push('\n');
                    out.extend(std::iter::repeat_n('\t', depth));
                }
                out.push('}');
            }
        }
    }
}

fn put_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The specification's name of a property that is stored.
pub(super) const fn property_name(id: u8) -> &'static str {
    match id {
        props::PAYLOAD_FORMAT => "payload-format-indicator",
        props::CONTENT_TYPE => "content-type",
        props::RESPONSE_TOPIC => "response-topic",
        props::CORRELATION_DATA => "correlation-data",
        props::SUBSCRIPTION_ID => "subscription-identifier",
        _ => "user-property",
    }
}

/// Each property of a checked section, by `each`.
pub(super) fn properties(raw: &[u8], mut each: impl FnMut(Prop<'_>) -> Json) -> Json {
    let mut all = Vec::new();
    let _checked_before = props::walk(raw, Section::Publish, |p| all.push(each(p)));
    Json::Array(all)
}

/// The value of a property that is no pair.
pub(super) fn property_value(value: props::Value<'_>) -> Json {
    match value {
        props::Value::Str(text) | props::Value::Pair(_, text) => text.into(),
        props::Value::Binary(bytes) => Json::base64(bytes),
        number => number.number().into(),
    }
}

fn property(p: Prop<'_>) -> Json {
    let mut members = vec![("identifier", property_name(p.id).into())];
    if let props::Value::Pair(name, _) = p.value {
        members.push(("name", name.into()));
    }
    members.push(("value", property_value(p.value)));
    Json::Object(members)
}

/// Collects the arrays, whose elements stand mixed in the file.
#[derive(Default)]
pub(super) struct Dump {
    messages: Vec<Json>,
    clients: Vec<Json>,
    client_messages: Vec<Json>,
    retained: Vec<Json>,
    subscriptions: Vec<Json>,
}

impl View for Dump {
    fn chunk(&mut self, _out: &mut dyn Write, item: &Item<'_>) -> io::Result<()> {
        match &item.chunk {
            Chunk::Message(message) => {
                let mut members = vec![
                    ("storeid", message.store_id.into()),
                    ("expiry-time", message.expiry_time.into()),
                    ("source-mid", message.source_packet_id.into()),
                    ("source-port", message.source_port.into()),
                    ("qos", (message.qos as u8).into()),
                    ("retain", Json::flag(message.retain)),
                    ("topic", message.topic.into()),
                    ("clientid", message.source_id.into()),
                ];
                if !message.source_username.is_empty() {
                    members.push(("username", message.source_username.into()));
                }
                if !message.payload.is_empty() {
                    members.push(("payload", Json::base64(message.payload)));
                }
                if !message.props.is_empty() {
                    members.push(("properties", properties(&message.props, property)));
                }
                self.messages.push(Json::Object(members));
            }
            Chunk::Client(client) => {
                let mut members = vec![("clientid", client.id.into())];
                if !client.username.is_empty() {
                    members.push(("username", client.username.into()));
                }
                members.extend([
                    ("session-expiry-time", client.session_expiry_time.into()),
                    ("session-expiry-interval", client.session_expiry_interval.into()),
                    ("last-mid", client.last_packet_id.into()),
                    ("listener-port", client.listener_port.into()),
                ]);
                self.clients.push(Json::Object(members));
            }
            Chunk::ClientMessage(message) => {
                let retain_dup = u8::from(message.retain) << 4 | u8::from(message.dup);
                let mut members = vec![
                    ("clientid", message.client_id.into()),
                    ("storeid", message.store_id.into()),
                    ("mid", message.packet_id.into()),
                    ("qos", (message.qos as u8).into()),
                    ("state", (message.state as u8).into()),
                    ("retain-dup", retain_dup.into()),
                    ("direction", (message.direction as u8).into()),
                ];
                if message.subscription_id > 0 {
                    members.push(("subscription-identifier", message.subscription_id.into()));
                }
                self.client_messages.push(Json::Object(members));
            }
            Chunk::Retained(retained) => {
                self.retained.push(Json::Object(vec![("storeid", retained.store_id.into())]));
            }
            Chunk::Subscription(subscription) => self.subscriptions.push(Json::Object(vec![
                ("clientid", subscription.client_id.into()),
                ("topic", subscription.filter.into()),
                ("qos", (subscription.options.qos as u8).into()),
                ("options", option_bits(subscription).into()),
                ("identifier", subscription.identifier.into()),
            ])),
            Chunk::Config(_) | Chunk::Dropped(_) | Chunk::Unknown(_) => {}
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write, _facts: &Facts<'_>) -> io::Result<()> {
        let Dump { messages, clients, client_messages, retained, subscriptions } = std::mem::take(self);
        let all = Json::Object(vec![
            ("base-messages", Json::Array(messages)),
            ("clients", Json::Array(clients)),
            ("client-messages", Json::Array(client_messages)),
            ("retained-messages", Json::Array(retained)),
            ("subscriptions", Json::Array(subscriptions)),
        ]);
        out.write_all(all.print().as_bytes())
    }
}
