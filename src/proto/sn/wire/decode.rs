//! Messages from bytes. Every field is checked before any is used; bytes that no field claims are a fault.

use super::{
    Connect, Fault, FilterRef, Message, MessageType, Publish, QosField, ReturnCode, TopicAck, TopicRef, WillTopic,
    frame,
};
use crate::wire::Reader;
use crate::wire::reader::ReadError;

/// The flags octet [SN 5.3.4].
#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    const fn dup(self) -> bool {
        self.0 & 0x80 != 0
    }

    const fn qos(self) -> QosField {
        QosField::from_bits(self.0 >> 5)
    }

    const fn retain(self) -> bool {
        self.0 & 0x10 != 0
    }

    const fn will(self) -> bool {
        self.0 & 0x08 != 0
    }

    const fn clean_session(self) -> bool {
        self.0 & 0x04 != 0
    }

    const fn topic_id_type(self) -> u8 {
        self.0 & 0x03
    }
}

impl<'a> Message<'a> {
    /// The message that these bytes, without an encapsulation, are.
    ///
    /// # Errors
    /// The fault; see [`Fault`].
    pub fn decode(bytes: &'a [u8]) -> Result<Message<'a>, Fault> {
        let (byte, body) = frame::open(bytes)?;
        let message_type = MessageType::from_byte(byte).ok_or(Fault::Type(byte))?;
        let mut r = Reader::new(body);
        match read(message_type, &mut r) {
            Ok(message) if r.is_empty() => Ok(message),
            _ => Err(Fault::Size(message_type)),
        }
    }
}

/// The fields of one message.
fn read<'a>(message_type: MessageType, r: &mut Reader<'a>) -> Result<Message<'a>, ReadError> {
    use MessageType as T;
    Ok(match message_type {
        T::Advertise => Message::Advertise { gateway_id: r.u8()?, duration_s: r.u16()? },
        T::SearchGw => Message::SearchGw { radius: r.u8()? },
        T::GwInfo => Message::GwInfo { gateway_id: r.u8()?, address: remainder(r) },
        T::Connect => {
            let flags = Flags(r.u8()?);
            Message::Connect(Connect {
                will: flags.will(),
                clean_session: flags.clean_session(),
                protocol_id: r.u8()?,
                duration_s: r.u16()?,
                client_id: remainder(r),
            })
        }
        T::Connack => Message::Connack(ReturnCode(r.u8()?)),
        T::WillTopicReq => Message::WillTopicReq,
        T::WillTopic => Message::WillTopic(will_topic(r)?),
        T::WillMsgReq => Message::WillMsgReq,
        T::WillMsg => Message::WillMsg(remainder(r)),
        T::Register => Message::Register { topic_id: r.u16()?, msg_id: r.u16()?, name: remainder(r) },
        T::Regack => Message::Regack(topic_ack(r)?),
        T::Publish => {
            let flags = Flags(r.u8()?);
            Message::Publish(Publish {
                dup: flags.dup(),
                qos: flags.qos(),
                retain: flags.retain(),
                topic: TopicRef::new(flags.topic_id_type(), r.u16()?),
                msg_id: r.u16()?,
                data: remainder(r),
            })
        }
        T::Puback => Message::Puback(topic_ack(r)?),
        T::Pubrec => Message::Pubrec { msg_id: r.u16()? },
        T::Pubrel => Message::Pubrel { msg_id: r.u16()? },
        T::Pubcomp => Message::Pubcomp { msg_id: r.u16()? },
        T::Subscribe => {
            let flags = Flags(r.u8()?);
            Message::Subscribe {
                dup: flags.dup(),
                qos: flags.qos(),
                msg_id: r.u16()?,
                filter: filter(r, flags.topic_id_type())?,
            }
        }
        T::Suback => Message::Suback { qos: Flags(r.u8()?).qos(), ack: topic_ack(r)? },
        T::Unsubscribe => {
            let flags = Flags(r.u8()?);
            Message::Unsubscribe { msg_id: r.u16()?, filter: filter(r, flags.topic_id_type())? }
        }
        T::Unsuback => Message::Unsuback { msg_id: r.u16()? },
        T::Pingreq => Message::Pingreq { client_id: remainder(r) },
        T::Pingresp => Message::Pingresp,
        T::Disconnect => Message::Disconnect { duration_s: if r.is_empty() { None } else { Some(r.u16()?) } },
        T::WillTopicUpd => Message::WillTopicUpd(will_topic(r)?),
        T::WillTopicResp => Message::WillTopicResp(ReturnCode(r.u8()?)),
        T::WillMsgUpd => Message::WillMsgUpd(remainder(r)),
        T::WillMsgResp => Message::WillMsgResp(ReturnCode(r.u8()?)),
    })
}

/// Everything up to the end of the message.
fn remainder<'a>(r: &mut Reader<'a>) -> &'a [u8] {
    let rest = r.rest();
    *r = Reader::new(&[]);
    rest
}

/// Topic id, message id and return code.
fn topic_ack(r: &mut Reader<'_>) -> Result<TopicAck, ReadError> {
    Ok(TopicAck { topic_id: r.u16()?, msg_id: r.u16()?, code: ReturnCode(r.u8()?) })
}

/// Nothing at all, or flags and at least one octet of topic [SN 5.4.7].
fn will_topic<'a>(r: &mut Reader<'a>) -> Result<Option<WillTopic<'a>>, ReadError> {
    if r.is_empty() {
        return Ok(None);
    }
    let flags = Flags(r.u8()?);
    let topic = remainder(r);
    if topic.is_empty() {
        return Err(ReadError::Truncated);
    }
    Ok(Some(WillTopic { qos: flags.qos(), retain: flags.retain(), topic }))
}

/// What a SUBSCRIBE names; an empty name is for the answer to refuse.
fn filter<'a>(r: &mut Reader<'a>, type_bits: u8) -> Result<FilterRef<'a>, ReadError> {
    Ok(match type_bits {
        0 => FilterRef::Name(remainder(r)),
        3 => {
            remainder(r);
            FilterRef::Reserved
        }
        _ => match TopicRef::new(type_bits, r.u16()?) {
            TopicRef::Short(name) => FilterRef::Short(name),
            topic => FilterRef::Predefined(topic.id()),
        },
    })
}
