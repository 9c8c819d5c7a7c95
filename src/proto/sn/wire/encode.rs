//! Messages to bytes.

use super::frame::{put, put_ids};
use super::{FilterRef, Message, QosField, TooLong, TopicAck, WillTopic};
use crate::wire::writer::put_u16;

const DUP: u8 = 0x80;
const RETAIN: u8 = 0x10;
const WILL: u8 = 0x08;
const CLEAN_SESSION: u8 = 0x04;

impl Message<'_> {
    /// Appends the message, in the short length form when that can say its length.
    ///
    /// # Errors
    /// [`TooLong`] when it has more than 65535 octets; `out` is unchanged then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        put(out, self.message_type() as u8, |out| self.put_body(out))
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        match *self {
            Message::Advertise { gateway_id, duration_s } => {
                out.push(gateway_id);
                put_u16(out, duration_s);
            }
            Message::SearchGw { radius } => out.push(radius),
            Message::GwInfo { gateway_id, address } => {
                out.push(gateway_id);
                out.extend_from_slice(address);
            }
            Message::Connect(connect) => {
                out.push(flag(connect.will, WILL) | flag(connect.clean_session, CLEAN_SESSION));
                out.push(connect.protocol_id);
                put_u16(out, connect.duration_s);
                out.extend_from_slice(connect.client_id);
            }
            Message::Connack(code) | Message::WillTopicResp(code) | Message::WillMsgResp(code) => out.push(code.0),
            Message::WillTopicReq | Message::WillMsgReq | Message::Pingresp => {}
            Message::WillTopic(topic) | Message::WillTopicUpd(topic) => put_will_topic(out, topic),
            Message::WillMsg(bytes) | Message::WillMsgUpd(bytes) | Message::Pingreq { client_id: bytes } => {
                out.extend_from_slice(bytes);
            }
            Message::Register { topic_id, msg_id, name } => {
                put_ids(out, &[topic_id, msg_id]);
                out.extend_from_slice(name);
            }
            Message::Regack(ack) | Message::Puback(ack) => put_ack(out, ack),
            Message::Publish(publish) => {
                let retain = flag(publish.retain, RETAIN);
                out.push(flag(publish.dup, DUP) | qos(publish.qos) | retain | publish.topic.type_bits());
                put_ids(out, &[publish.topic.id(), publish.msg_id]);
                out.extend_from_slice(publish.data);
            }
            Message::Pubrec { msg_id }
            | Message::Pubrel { msg_id }
            | Message::Pubcomp { msg_id }
            | Message::Unsuback { msg_id } => put_u16(out, msg_id),
            Message::Subscribe { dup, qos: field, msg_id, filter } => {
                put_filter(out, flag(dup, DUP) | qos(field), msg_id, filter);
            }
            Message::Suback { qos: field, ack } => {
                out.push(qos(field));
                put_ack(out, ack);
            }
            Message::Unsubscribe { msg_id, filter } => put_filter(out, 0, msg_id, filter),
            Message::Disconnect { duration_s } => duration_s.into_iter().for_each(|duration| put_u16(out, duration)),
        }
    }
}

const fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

const fn qos(field: QosField) -> u8 {
    (field as u8) << 5
}

fn put_ack(out: &mut Vec<u8>, ack: TopicAck) {
    put_ids(out, &[ack.topic_id, ack.msg_id]);
    out.push(ack.code.0);
}

fn put_will_topic(out: &mut Vec<u8>, topic: Option<WillTopic<'_>>) {
    if let Some(will) = topic {
        out.push(qos(will.qos) | flag(will.retain, RETAIN));
        out.extend_from_slice(will.topic);
    }
}

fn put_filter(out: &mut Vec<u8>, flags: u8, msg_id: u16, filter: FilterRef<'_>) {
    let type_bits = match filter {
        FilterRef::Name(_) => 0,
        FilterRef::Predefined(_) => 1,
        FilterRef::Short(_) => 2,
        FilterRef::Reserved => 3,
    };
    out.push(flags | type_bits);
    put_u16(out, msg_id);
    match filter {
        FilterRef::Name(name) => out.extend_from_slice(name),
        FilterRef::Predefined(id) => put_u16(out, id),
        FilterRef::Short(name) => out.extend_from_slice(&name),
        FilterRef::Reserved => {}
    }
}
