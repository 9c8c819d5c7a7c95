//! The chunks of versions 2 to 4, whose fields follow each other without padding; strings stand behind their lengths.

use std::borrow::Cow;

use super::super::ByteOrder;
use super::super::chunk::{Chunk, Client, ClientMessage, Kind, Message, NEVER};
use super::super::fault::Fault;
use super::{Decoder, payload};
use crate::wire::Reader;

impl Decoder {
    pub(super) fn message_packed<'a>(&mut self, r: &mut Reader<'a>) -> Result<Chunk<'a>, Fault> {
        let store_id = self.telling_id(r)?;
        let source_id = r.binary()?;
        let (source_username, source_port) = if self.version == 4 { (r.binary()?, r.u16()?) } else { (&[][..], 0) };
        let source_packet_id = r.u16()?;
        let _unused = r.u16()?;
        let topic = r.binary()?;
        let (qos, retain) = (r.u8()?, r.u8()?);
        let payload_len = r.u32()?;
        let payload = payload(r, payload_len)?;
        let Some(topic) = self.topic(store_id, topic)? else { return Ok(Chunk::Dropped(Kind::Message)) };
        Ok(Chunk::Message(Message {
            store_id,
            expiry_time: 0,
            source_packet_id,
            source_port,
            qos: self.qos(qos),
            retain: retain != 0,
            source_id: self.name(source_id),
            source_username: self.name(source_username),
            topic,
            payload,
            props: Cow::Borrowed(&[]),
        }))
    }

    pub(super) fn client_message_packed<'a>(&mut self, r: &mut Reader<'a>) -> Result<Chunk<'a>, Fault> {
        let client_id = r.binary()?;
        let store_id = self.reference(r)?;
        let packet_id = r.u16()?;
        let (qos, retain, direction, state, dup) = (r.u8()?, r.u8()?, r.u8()?, r.u8()?, r.u8()?);
        let message = ClientMessage { store_id, packet_id, ..ClientMessage::default() };
        self.queued(client_id, message, [qos, state, direction], [retain != 0, dup != 0])
    }

    pub(super) fn client_packed<'a>(&mut self, r: &mut Reader<'a>) -> Result<Chunk<'a>, Fault> {
        let id = r.binary()?;
        let last_packet_id = r.u16()?;
        // The writer's `time_t`, which 32-bit systems had with four bytes.
        let disconnected_at = match r.rest().len() {
            8 => self.time(r)?,
            4 => {
                let bytes = r.take(4)?.first_chunk::<4>().ok_or(Fault::Length)?;
                i64::from(match self.order() {
                    ByteOrder::Little => i32::from_le_bytes(*bytes),
                    ByteOrder::Big => i32::from_be_bytes(*bytes),
                })
            }
            _ => 0,
        };
        Ok(match self.client_id(id) {
            Some(id) => Chunk::Client(Client {
                id,
                last_packet_id,
                disconnected_at,
                session_expiry_interval: NEVER,
                ..Client::default()
            }),
            None => Chunk::Dropped(Kind::Client),
        })
    }
}
