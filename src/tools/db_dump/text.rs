//! The content as text.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::View;
use crate::persist::chunk::{Chunk, Client, ClientMessage, Message, Subscription};
use crate::persist::read::Item;
use crate::wire::QoS;
use crate::wire::props::{self, Section};

/// Payloads of this many bytes and more are not shown.
const LONG_PAYLOAD: usize = 256;

pub(super) struct Text;

impl View for Text {
    fn start(&mut self, out: &mut dyn Write, crc: u32, version: u32) -> io::Result<()> {
        writeln!(out, "Mosquitto DB dump\nCRC: {crc}\nDB version: {version}")?;
        super::newer(version).map_or(Ok(()), |warning| writeln!(out, "{warning}"))
    }

    fn chunk(&mut self, out: &mut dyn Write, item: &Item<'_>) -> io::Result<()> {
        let name = match item.chunk {
            Chunk::Config(_) => "CFG",
            Chunk::Message(_) => "BASE_MSG",
            Chunk::ClientMessage(_) => "CLIENT_MSG",
            Chunk::Retained(_) => "RETAIN",
            Chunk::Subscription(_) => "SUB",
            Chunk::Client(_) => "CLIENT",
            Chunk::Dropped(_) | Chunk::Unknown(_) => return Ok(()),
        };
        writeln!(out, "DB_CHUNK_{name}:\n\tLength: {}", item.length)?;
        match &item.chunk {
            Chunk::Config(config) => writeln!(
                out,
                "\tShutdown: {}\n\tDB ID size: 8\n\tLast DB ID: {}",
                u8::from(config.shutdown),
                config.last_db_id
            ),
            Chunk::Message(message) => put_message(out, message),
            Chunk::ClientMessage(message) => put_client_message(out, message),
            Chunk::Retained(retained) => writeln!(out, "\tStore ID: {}", retained.store_id),
            Chunk::Subscription(subscription) => put_subscription(out, subscription),
            Chunk::Client(client) => put_client(out, client),
            Chunk::Dropped(_) | Chunk::Unknown(_) => Ok(()),
        }
    }
}

fn put_message(out: &mut dyn Write, message: &Message<'_>) -> io::Result<()> {
    writeln!(
        out,
        "\tStore ID: {}\n\tSource Port: {}\n\tSource MID: {}\n\tTopic: {}\n\tQoS: {}\n\tRetain: {}\n\tPayload Length: \
         {}\n\tExpiry Time: {}",
        message.store_id,
        message.source_port,
        message.source_packet_id,
        message.topic,
        message.qos as u8,
        u8::from(message.retain),
        message.payload.len(),
        message.expiry_time
    )?;
    match std::str::from_utf8(message.payload) {
        Ok(text) if message.payload.len() < LONG_PAYLOAD => writeln!(out, "\tPayload: {text}")?,
        _ => {}
    }
    if message.props.is_empty() {
        return Ok(());
    }
    let mut lines = String::from("\tProperties:\n");
    // The reader has checked them, and what goes into a `String` does not fail.
    let _ = props::walk(&message.props, Section::Publish, |p| {
        let _ = match p.id {
            props::PAYLOAD_FORMAT => writeln!(lines, "\t\tPayload format indicator: {}", p.value.number()),
            props::CONTENT_TYPE => writeln!(lines, "\t\tContent type: {}", p.value.str()),
            props::RESPONSE_TOPIC => writeln!(lines, "\t\tResponse topic: {}", p.value.str()),
            props::CORRELATION_DATA => {
                lines.push_str("\t\tCorrelation data: ");
                for byte in p.value.binary() {
                    let _ = write!(lines, "{byte:02X}");
                }
                writeln!(lines)
            }
            _ => match p.value {
                props::Value::Pair(name, value) => writeln!(lines, "\t\tUser property: {name} , {value}"),
                _ => Ok(()),
            },
        };
    });
    out.write_all(lines.as_bytes())
}

fn put_client(out: &mut dyn Write, client: &Client<'_>) -> io::Result<()> {
    writeln!(out, "\tClient ID: {}", client.id)?;
    if !client.username.is_empty() {
        writeln!(out, "\tUsername: {}", client.username)?;
    }
    if client.listener_port > 0 {
        writeln!(out, "\tListener port: {}", client.listener_port)?;
    }
    writeln!(
        out,
        "\tLast MID: {}\n\tSession expiry time: {}\n\tSession expiry interval: {}",
        client.last_packet_id, client.session_expiry_time, client.session_expiry_interval
    )
}

fn put_client_message(out: &mut dyn Write, message: &ClientMessage<'_>) -> io::Result<()> {
    writeln!(
        out,
        "\tClient ID: {}\n\tStore ID: {}\n\tMID: {}\n\tQoS: {}\n\tRetain: {}\n\tDirection: {}\n\tState: {}\n\tDup: {}",
        message.client_id,
        message.store_id,
        message.packet_id,
        message.qos as u8,
        u8::from(message.retain),
        message.direction as u8,
        message.state as u8,
        u8::from(message.dup)
    )?;
    match message.subscription_id {
        0 => Ok(()),
        id => writeln!(out, "\tSubscription identifier: {id}"),
    }
}

fn put_subscription(out: &mut dyn Write, subscription: &Subscription<'_>) -> io::Result<()> {
    writeln!(
        out,
        "\tClient ID: {}\n\tTopic: {}\n\tQoS: {}\n\tSubscription ID: {}\n\tOptions: 0x{:02X}",
        subscription.client_id,
        subscription.filter,
        subscription.options.qos as u8,
        subscription.identifier,
        option_bits(subscription)
    )
}

/// The options byte of the file, which has the QoS apart.
pub(super) fn option_bits(subscription: &Subscription<'_>) -> u8 {
    subscription.options.bits() & !(QoS::AtLeastOnce as u8 | QoS::ExactlyOnce as u8)
}
