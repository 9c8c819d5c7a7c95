//! The other end of one connection: reads every byte the broker sends and checks it as a strict client would.

use std::collections::{BTreeMap, BTreeSet};

use mosquitto::wire::connect::{self, ConnackForm};
use mosquitto::wire::packet;
use mosquitto::wire::{
    FrameLimits, Framed, Framer, Packet, PacketId, PacketType, ProtocolVersion, QoS, ReasonCode, Role,
};

/// What a client knows.
#[derive(Default)]
pub struct Client {
    sent: Framer,
    got: Framer,
    /// Fixed by CONNECT; before that nobody knows.
    asked: Option<Asked>,
    /// The first packet of the client was no CONNECT, or the stream is broken.
    silent: bool,
    connected: bool,
    /// Nothing may come any more.
    over: bool,
    aliases: BTreeMap<u16, String>,
    inflight: BTreeMap<u16, QoS>,
    /// An acknowledgement came before its packet, so identifiers prove nothing any more.
    unsure: bool,
    /// Identifiers of SUBSCRIBE and UNSUBSCRIBE that were sent, in order of the first use.
    requests: BTreeSet<(u8, u16)>,
}

struct Asked {
    version: ProtocolVersion,
    receive_maximum: Option<u16>,
    max_packet_size: usize,
    topic_alias_maximum: u16,
}

impl Client {
    /// The Receive Maximum that it asked for.
    pub fn receive_maximum(&self) -> Option<usize> {
        self.asked.as_ref()?.receive_maximum.map(usize::from)
    }

    /// Takes note of what the client sends.
    pub fn sends(&mut self, mut bytes: &[u8]) {
        while !self.silent {
            let version = self.asked.as_ref().map(|asked| asked.version);
            let mut framer = std::mem::take(&mut self.sent);
            match framer.next(&mut bytes, &FrameLimits { version, max_packet_size: 0, strict: false }, 1) {
                Framed::NeedMore => {
                    self.sent = framer;
                    return;
                }
                Framed::Bad(_) => self.silent = true,
                Framed::Frame { first, body } => self.sends_packet(first, body),
            }
            self.sent = framer;
        }
    }

    fn sends_packet(&mut self, first: u8, body: &[u8]) {
        let Some(Asked { version, .. }) = self.asked else {
            match connect::decode(first, body) {
                Ok(connect) => {
                    self.asked = Some(Asked {
                        version: connect.version,
                        receive_maximum: connect.receive_maximum,
                        max_packet_size: connect.max_packet_size.unwrap_or(u32::MAX) as usize,
                        topic_alias_maximum: connect.topic_alias_maximum,
                    });
                }
                Err(_) => self.silent = true,
            }
            return;
        };
        let done = |inflight: &mut BTreeMap<u16, QoS>, id: PacketId, qos: QoS| {
            let known = inflight.get(&id.get()) == Some(&qos);
            if known {
                inflight.remove(&id.get());
            }
            known
        };
        let known = match packet::decode(version, Role::FromClient, first, body) {
            Ok(Packet::Puback(ack)) => done(&mut self.inflight, ack.id, QoS::AtLeastOnce),
            Ok(Packet::Pubrec(ack)) if ack.reason.is_error() => done(&mut self.inflight, ack.id, QoS::ExactlyOnce),
            Ok(Packet::Pubcomp(ack)) => done(&mut self.inflight, ack.id, QoS::ExactlyOnce),
            Ok(Packet::Subscribe(subscribe)) => {
                self.requests.insert((PacketType::Suback as u8, subscribe.id.get()));
                true
            }
            Ok(Packet::Unsubscribe(unsubscribe)) => {
                self.requests.insert((PacketType::Unsuback as u8, unsubscribe.id.get()));
                true
            }
            Ok(_) => true,
            Err(_) => {
                self.silent = true;
                true
            }
        };
        self.unsure |= !known;
    }

    /// Checks what the client receives.
    pub fn receives(&mut self, mut bytes: &[u8]) {
        loop {
            // A refusal of version 5 can be longer than the client's own version would let it be.
            let version = Some(self.asked.as_ref().map_or(ProtocolVersion::V5, |asked| asked.version));
            let mut framer = std::mem::take(&mut self.got);
            match framer.next(&mut bytes, &FrameLimits { version, max_packet_size: 0, strict: false }, 1) {
                Framed::NeedMore => {
                    self.got = framer;
                    return;
                }
                Framed::Bad(error) => panic!("the broker sent something else than packets: {error}"),
                Framed::Frame { first, body } => self.receives_packet(first, body),
            }
            self.got = framer;
        }
    }

    fn receives_packet(&mut self, first: u8, body: &[u8]) {
        assert!(!self.over, "{first:02X} {body:02X?} after the last packet");
        let Some(asked) = &self.asked else {
            assert_eq!(first >> 4, PacketType::Connack as u8, "without CONNECT there is only a refusal");
            self.over = true;
            return;
        };
        let version = asked.version;
        if version == ProtocolVersion::V5 && matches!((first, body), (0x40 | 0x50, [_, _, 0x95])) {
            // No code of an acknowledgement by the specification, but C Mosquitto's answer over `message_size_limit`.
            return;
        }
        let found = packet::decode(version, Role::FromServer, first, body)
            .unwrap_or_else(|e| panic!("{version:?} {first:02X} {body:02X?}: {e}"));
        assert_eq!(self.connected, !matches!(found, Packet::Connack(_)), "CONNACK is the first packet, once");
        let len = body.len() + 1 + mosquitto::wire::writer::varint_len(body.len());
        match found {
            Packet::Connack(ack) => {
                self.connected = true;
                match ack.code {
                    ConnackForm::V3(code) => {
                        assert!(version != ProtocolVersion::V5 && code <= 5, "{code}");
                        self.over = code != 0;
                    }
                    ConnackForm::V5(code) => {
                        assert!(version == ProtocolVersion::V5);
                        self.over = code != ReasonCode::SUCCESS;
                    }
                }
                assert!(!self.over || !ack.session_present, "[MQTT-3.2.2-4]");
            }
            Packet::Publish(publish) => {
                assert!(len <= asked.max_packet_size, "[MQTT-3.1.2-24]: {len}");
                if let Some(alias) = publish.topic_alias {
                    assert!(alias <= asked.topic_alias_maximum, "[MQTT-3.1.2-26]: {alias}");
                    if !publish.topic.is_empty() {
                        self.aliases.insert(alias, publish.topic.into());
                    }
                    assert!(self.aliases.contains_key(&alias), "alias {alias} was never set");
                }
                if let Some(id) = publish.packet_id
                    && !self.unsure
                {
                    assert_eq!(self.inflight.insert(id.get(), publish.qos), None, "{} is in use", id.get());
                    assert!(
                        self.inflight.len() <= usize::from(asked.receive_maximum.unwrap_or(u16::MAX)),
                        "[MQTT-3.3.4-9]"
                    );
                }
            }
            Packet::Suback(ack) => {
                assert!(self.requests.contains(&(PacketType::Suback as u8, ack.id.get())), "a SUBACK nobody asked for");
                let good = |code: &u8| matches!(code, 0..=2 | 0x80) || (version == ProtocolVersion::V5 && *code > 0x80);
                assert!(ack.codes.iter().all(good), "{:02X?}", ack.codes);
            }
            Packet::Unsuback(ack) => {
                assert!(self.requests.contains(&(PacketType::Unsuback as u8, ack.id.get())));
                assert!(version == ProtocolVersion::V5 || ack.codes.is_empty());
            }
            Packet::Disconnect(_) => {
                assert!(version == ProtocolVersion::V5, "MQTT 3 has no DISCONNECT from a server");
                self.over = true;
            }
            Packet::Puback(_) | Packet::Pubrec(_) | Packet::Pubrel(_) | Packet::Pubcomp(_) | Packet::Pingresp => {}
            Packet::Auth(_) => panic!("no authentication was agreed on"),
            Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Pingreq => panic!("not from a server"),
        }
    }
}
