//! What goes over the wire in words, for `-d`.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use crate::proto::sn::wire::{FilterRef, Message, Publish, QosField, TopicRef};

pub(super) fn sending(client_id: &str, datagram: &[u8]) {
    line(client_id, "sending", datagram);
}

pub(super) fn received(client_id: &str, datagram: &[u8]) {
    line(client_id, "received", datagram);
}

fn line(client_id: &str, verb: &str, datagram: &[u8]) {
    let _reader_gone = writeln!(io::stdout(), "Client {client_id} {verb} {}", describe(datagram));
}

/// One message in words.
fn describe(datagram: &[u8]) -> String {
    let message = match Message::decode(datagram) {
        Ok(message) => message,
        Err(fault) => return format!("{} bytes that are no message ({fault})", datagram.len()),
    };
    let mut text = message.message_type().to_string();
    let _infallible = match message {
        Message::Connack(code) | Message::WillTopicResp(code) | Message::WillMsgResp(code) => {
            write!(text, " ({})", code.0)
        }
        Message::Connect(connect) => write!(
            text,
            " (c{}, w{}, k{})",
            u8::from(connect.clean_session),
            u8::from(connect.will),
            connect.duration_s
        ),
        Message::Register { topic_id, msg_id, name } => {
            write!(text, " (Mid: {msg_id}, Topic: {}, Id: {topic_id})", String::from_utf8_lossy(name))
        }
        Message::Regack(ack) | Message::Puback(ack) | Message::Suback { ack, .. } => {
            write!(text, " (Mid: {}, Id: {}, RC:{})", ack.msg_id, ack.topic_id, ack.code.0)
        }
        Message::Publish(Publish { dup, qos, retain, topic, msg_id, data }) => write!(
            text,
            " (d{}, q{}, r{}, m{msg_id}, {}, ... ({} bytes))",
            u8::from(dup),
            qos_number(qos),
            u8::from(retain),
            topic_words(topic),
            data.len()
        ),
        Message::Pubrec { msg_id }
        | Message::Pubrel { msg_id }
        | Message::Pubcomp { msg_id }
        | Message::Unsuback { msg_id } => write!(text, " (Mid: {msg_id})"),
        Message::Subscribe { msg_id, filter, .. } | Message::Unsubscribe { msg_id, filter } => {
            let filter = match filter {
                FilterRef::Name(name) => String::from_utf8_lossy(name).into_owned(),
                FilterRef::Short(name) => topic_words(TopicRef::Short(name)),
                FilterRef::Predefined(id) => topic_words(TopicRef::Predefined(id)),
                FilterRef::Reserved => "?".into(),
            };
            write!(text, " (Mid: {msg_id}, Topic: {filter})")
        }
        Message::Disconnect { duration_s: Some(duration) } => write!(text, " (sleep {duration} s)"),
        Message::GwInfo { gateway_id, .. } | Message::Advertise { gateway_id, .. } => write!(text, " ({gateway_id})"),
        _ => Ok(()),
    };
    text
}

fn qos_number(qos: QosField) -> i8 {
    match qos {
        QosField::MinusOne => -1,
        QosField::AtMostOnce => 0,
        QosField::AtLeastOnce => 1,
        QosField::ExactlyOnce => 2,
    }
}

fn topic_words(topic: TopicRef) -> String {
    match topic {
        TopicRef::Normal(id) => format!("id {id}"),
        TopicRef::Predefined(id) => format!("#{id}"),
        TopicRef::Short(name) => format!("'{}'", String::from_utf8_lossy(&name)),
        TopicRef::Reserved(id) => format!("reserved {id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_in_words() {
        for (bytes, words) in [
            (&b"\x07\x04\x04\x01\0\x3Cc"[..], "CONNECT (c1, w0, k60)"),
            (b"\x03\x05\x00", "CONNACK (0)"),
            (b"\x08\x0C\x00\0\x07\0\0x", "PUBLISH (d0, q0, r0, m0, id 7, ... (1 bytes))"),
            (b"\x08\x0C\x72ab\0\0x", "PUBLISH (d0, q-1, r1, m0, 'ab', ... (1 bytes))"),
            (b"\x08\x0C\xC1\0\x07\0\x02x", "PUBLISH (d1, q2, r0, m2, #7, ... (1 bytes))"),
            (b"\x08\x12\x20\0\x01a/b", "SUBSCRIBE (Mid: 1, Topic: a/b)"),
            (b"\x08\x13\x20\0\x05\0\x01\0", "SUBACK (Mid: 1, Id: 5, RC:0)"),
            (b"\x04\x18\x01\x2C", "DISCONNECT (sleep 300 s)"),
            (b"\x02\x17", "PINGRESP"),
            (b"\x03\x17", "2 bytes that are no message (length field and datagram differ)"),
        ] {
            assert_eq!(describe(bytes), words);
        }
    }
}
