//! Tests over several modules: the packet cases of the conformance data, round trips, streams cut anywhere.

use serde_json::Value as Json;

use super::acks::Ack;
use super::connect::{self, Connack, ConnackForm, ConnackProps, Connect, Will};
use super::control::{Auth, Disconnect};
use super::error::DecodeError;
use super::packet::{self, Packet, PacketType, Role};
use super::publish::{PublishHead, encode_publish, publish_len};
use super::subscribe::{self, RetainHandling, SubscribeOptions};
use super::topic::TopicError;
use super::{FrameLimits, Framed, Framer, PacketId, ProtocolVersion, QoS, ReasonCode, props, topic, writer};
use ProtocolVersion::{V5, V31, V311};

fn bytes_of(payload: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for token in payload.split_ascii_whitespace() {
        let (kind, rest) = token.split_at(1);
        let number = || rest.parse::<u64>().unwrap_or_else(|e| panic!("{token}: {e}"));
        match kind {
            "'" => out.extend_from_slice(rest.strip_suffix('\'').unwrap().as_bytes()),
            "i" => out.push(number() as u8),
            "H" | "k" | "m" | "s" => writer::put_u16(&mut out, number() as u16),
            "L" => writer::put_u32(&mut out, number() as u32),
            "v" | "r" => {
                let mut n = number();
                while n >= 0x80 {
                    out.push(n as u8 | 0x80);
                    n >>= 7;
                }
                out.push(n as u8);
            }
            _ => out.extend((0..token.len()).step_by(2).map(|i| u8::from_str_radix(&token[i..i + 2], 16).unwrap())),
        }
    }
    out
}

/// What a server does about one packet, as far as the codec decides it.
#[derive(PartialEq, Eq, Debug)]
enum Outcome {
    Fine,
    /// The end without a packet.
    Silence,
    Disconnect(u8),
    Connack(Vec<u8>),
}

fn refusal(version: ProtocolVersion, error: DecodeError) -> Outcome {
    match error.reason() {
        Some(reason) if version == V5 => Outcome::Disconnect(reason.0),
        _ => Outcome::Silence,
    }
}

fn on_packet(version: ProtocolVersion, first: u8, body: &[u8]) -> Outcome {
    let decoded = packet::decode(version, Role::FromClient, first, body);
    if version == V5 && PacketType::of(first) == Some(PacketType::Auth) {
        return refusal(version, DecodeError::AuthWithoutMethod);
    }
    let faults = decoded.and_then(|packet| match packet {
        Packet::Subscribe(s) => s.filters().try_for_each(|filter| {
            let share = topic::split_share(filter?.0);
            share.map(|_| ()).map_err(|e| DecodeError::Filter(PacketType::Subscribe, e))
        }),
        Packet::Unsubscribe(u) => u.filters().try_for_each(|filter| filter.map(|_| ())),
        _ => Ok(()),
    });
    match faults {
        Ok(()) if PacketType::of(first) == Some(PacketType::Disconnect) => Outcome::Silence,
        Ok(()) => Outcome::Fine,
        Err(error) => refusal(version, error),
    }
}

fn on_bytes(version: Option<ProtocolVersion>, mut bytes: &[u8]) -> Outcome {
    let mut framer = Framer::new();
    let limits = FrameLimits { version, max_packet_size: 2_000_000, strict: false };
    loop {
        let outcome = match (framer.next(&mut bytes, &limits, 1), version) {
            (Framed::NeedMore, _) => return Outcome::Fine,
            (Framed::Bad(error), Some(version)) => refusal(version, error),
            (Framed::Bad(_), None) => Outcome::Silence,
            (Framed::Frame { first, body }, Some(version)) => on_packet(version, first, body),
            (Framed::Frame { first, body }, None) => match connect::decode(first, body) {
                Ok(connect) if connect.auth_method.is_some() => {
                    Outcome::Connack(vec![0x20, 3, 0, ReasonCode::BAD_AUTHENTICATION_METHOD.0, 0])
                }
                Ok(connect) if connect.client_id.is_empty() && connect.version == V311 && !connect.clean_start => {
                    Outcome::Connack(vec![0x20, 2, 0, 2])
                }
                Ok(connect) if connect.max_packet_size.is_some_and(|n| n < 16) => Outcome::Silence,
                Ok(connect) if connect.version == V5 => {
                    Outcome::Connack(bytes_of("20 r14 00000B 22 H10 27 L2000000 21 H20"))
                }
                Ok(_) => Outcome::Connack(vec![0x20, 2, 0, 0]),
                Err(refused) => match refused.answer {
                    None => Outcome::Silence,
                    Some(form) => {
                        let mut out = Vec::new();
                        connect::encode_connack(&mut out, form, false, &ConnackProps::default());
                        Outcome::Connack(out)
                    }
                },
            },
        };
        if outcome != Outcome::Fine {
            return outcome;
        }
    }
}

/// Cases that end because of what a session or a listener knows.
fn decided_elsewhere(group: &str, name: &str) -> bool {
    (group.contains("FLOW") && name.contains("PUBLISH-PUB"))
        || name.contains("topic alias >")
        || name.contains("alias unknown")
}

#[test]
fn packet_cases_get_the_answer_of_the_original() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance/mqtt-packets");
    let Ok(files) = std::fs::read_dir(&dir) else {
        println!("skipped: no packet cases at {}", dir.display());
        return;
    };
    let (mut checked, mut skipped, mut wrong) = (0, 0, Vec::new());
    for file in files.map(|f| f.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "json")) {
        let groups: Json = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        for group in groups.as_array().unwrap() {
            for case in group["tests"].as_array().unwrap() {
                let of = |key: &str| case.get(key).or_else(|| group.get(key)).cloned();
                let name = case["name"].as_str().unwrap();
                let group_name = group["group"].as_str().unwrap();
                if decided_elsewhere(group_name, name) {
                    skipped += 1;
                    continue;
                }
                let version = match of("ver").and_then(|v| v.as_u64()).unwrap_or(4) {
                    3 => V31,
                    4 => V311,
                    _ => V5,
                };
                let connected = of("connect").is_none_or(|v| v.as_bool().unwrap());
                let ends = of("expect_disconnect").is_none_or(|v| v.as_bool().unwrap());
                let messages = case["msgs"].as_array().unwrap();
                let kind = |m: &Json| m["type"].as_str().unwrap().to_owned();
                let payload = |m: &Json| bytes_of(m["payload"].as_str().unwrap());
                let sends: Vec<_> = messages.iter().filter(|m| kind(m) == "send").map(payload).collect();
                let Some((last, before)) = sends.split_last() else { continue };
                let mut state = (!connected).then_some(()).map_or(Some(version), |()| None);
                for earlier in before {
                    let got = on_bytes(state, earlier);
                    if !matches!(got, Outcome::Fine | Outcome::Connack(_)) {
                        wrong.push(format!("{group_name} | {name}: {got:?} before the end"));
                    }
                    state = Some(version);
                }
                let answer = messages.last().filter(|m| kind(m) == "recv").map(payload);
                let want = match (answer.as_deref(), ends) {
                    (Some(bytes), _) if state.is_none() => Outcome::Connack(bytes.to_vec()),
                    (Some(&[0xE0, 1, code]), _) => Outcome::Disconnect(code),
                    (_, true) => Outcome::Silence,
                    (_, false) => Outcome::Fine,
                };
                let got = on_bytes(state, last);
                checked += 1;
                if got != want {
                    wrong.push(format!("{group_name} | {name}: {got:?}, not {want:?}"));
                }
            }
        }
    }
    println!("{checked} cases checked, {skipped} decided elsewhere");
    assert!(wrong.is_empty(), "{} of {checked} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked > 500);
}

/// A small generator of values for packets.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| value(self))
    }

    fn u16(&mut self) -> u16 {
        self.below(65_535) as u16 + 1
    }

    fn u32(&mut self) -> u32 {
        let bits = self.below(31);
        self.below(1 << (bits + 1)) as u32 + 1
    }

    fn id(&mut self) -> PacketId {
        PacketId::new(self.u16()).unwrap()
    }

    fn qos(&mut self) -> QoS {
        QoS::from_bits(self.below(3) as u8).unwrap()
    }

    fn text(&mut self) -> String {
        const CHARS: [char; 8] = ['a', 'b', '/', '$', ' ', 'ß', '€', '𝄞'];
        let most = [1, 4, 40, 400][self.below(4) as usize];
        let len = self.below(most) + 1;
        (0..len).map(|_| CHARS[self.below(8) as usize]).collect()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let most = [1, 4, 40, 400][self.below(4) as usize];
        (0..self.below(most)).map(|_| self.below(256) as u8).collect()
    }

    /// Properties that travel, in any order.
    fn travelling(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut order: Vec<u8> = (0..5).collect();
        for i in 0..5 {
            order.swap(i, self.below(5) as usize);
        }
        for what in order {
            match what {
                _ if self.flag() => {}
                0 => writer::put_prop_u8(&mut out, props::PAYLOAD_FORMAT, self.below(2) as u8),
                1 => writer::put_prop_binary(&mut out, props::CONTENT_TYPE, self.text().as_bytes()),
                2 => writer::put_prop_binary(&mut out, props::RESPONSE_TOPIC, b"a/b"),
                3 => writer::put_prop_binary(&mut out, props::CORRELATION_DATA, &self.bytes()),
                _ => {
                    for _ in 0..self.below(3) {
                        writer::put_prop_binary(&mut out, props::USER_PROPERTY, self.text().as_bytes());
                        writer::put_str(&mut out, &self.text());
                    }
                }
            }
        }
        out
    }
}

/// First byte and body of a packet, through the framer.
fn unframed(bytes: &[u8]) -> (u8, Vec<u8>) {
    let mut input = bytes;
    let limits = FrameLimits { version: Some(V5), max_packet_size: 0, strict: false };
    match Framer::new().next(&mut input, &limits, 0) {
        Framed::Frame { first, body } if input.is_empty() => (first, body.to_vec()),
        other => panic!("{other:?} of {bytes:02X?}"),
    }
}

#[test]
fn a_connect_survives_the_wire() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for _ in 0..3_000 {
        let version = [V31, V311, V5][random.below(3) as usize];
        let v5 = version == V5;
        let (client_id, topic, username, method) = (random.text(), random.text(), random.text(), random.text());
        let (payload, password, data, section) = (random.bytes(), random.bytes(), random.bytes(), random.travelling());
        // The only way to properties of a will is through the decoder.
        let mut publish = b"\0\x01t".to_vec();
        writer::put_varint(&mut publish, section.len());
        publish.extend_from_slice(&section);
        let props = super::publish::decode(V5, Role::FromClient, 0x30, &publish).unwrap().props;
        let will = Will {
            topic: &topic,
            payload: &payload,
            qos: random.qos(),
            retain: random.flag(),
            delay_s: if v5 { random.u32() } else { 0 },
            expiry: random.maybe(Random::u32).filter(|_| v5),
            props: if v5 { props } else { super::publish::PublishProps::default() },
        };
        let mut connect = Connect {
            bridge: !v5 && random.flag(),
            clean_start: random.flag(),
            will: random.flag().then_some(will),
            username: random.flag().then_some(username.as_str()),
            ..Connect::new(version, &client_id, random.u16())
        };
        connect.password = random.flag().then_some(&password[..]).filter(|_| v5 || connect.username.is_some());
        if v5 {
            connect.session_expiry = random.maybe(Random::u32);
            connect.receive_maximum = random.maybe(Random::u16);
            connect.max_packet_size = random.maybe(Random::u32);
            connect.topic_alias_maximum = random.u16();
            connect.request_problem_info = random.flag();
            connect.request_response_info = random.flag();
            connect.auth_method = random.flag().then_some(&method);
            connect.auth_data = connect.auth_method.and(random.flag().then_some(&data));
        }
        let mut out = Vec::new();
        connect.encode(&mut out);
        let (first, body) = unframed(&out);
        assert_eq!(connect::decode(first, &body), Ok(connect));
    }
}

#[test]
fn a_publish_survives_the_wire() {
    let mut random = Random(0xD1B5_4A32_D192_ED03);
    for _ in 0..3_000 {
        let version = [V31, V311, V5][random.below(3) as usize];
        let v5 = version == V5;
        let (topic, payload, section) = (random.text(), random.bytes(), random.travelling());
        let qos = random.qos();
        let head = PublishHead {
            version,
            dup: qos != QoS::AtMostOnce && random.flag(),
            qos,
            retain: random.flag(),
            topic: &topic,
            packet_id: (qos != QoS::AtMostOnce).then(|| random.id()),
            forwardable: &section,
            expiry: random.maybe(Random::u32),
            topic_alias: random.maybe(Random::u16),
            subscription_id: random.maybe(Random::u32).map(|n| n % 0x0FFF_FFFF + 1),
            payload_len: payload.len(),
        };
        let mut out = Vec::new();
        encode_publish(&mut out, &head);
        out.extend_from_slice(&payload);
        assert_eq!(out.len(), publish_len(&head));
        let (first, body) = unframed(&out);
        let got = super::publish::decode(version, Role::FromServer, first, &body).unwrap();
        assert_eq!((got.dup, got.qos, got.retain, got.topic), (head.dup, qos, head.retain, &*topic));
        assert_eq!((got.packet_id, got.payload), (head.packet_id, &payload[..]));
        let forwardable = got.props.forwardable();
        let mut ids = Vec::new();
        got.subscription_ids.for_each(|n| ids.push(n));
        if v5 {
            assert_eq!(*forwardable, section);
            assert_eq!((got.expiry, got.topic_alias), (head.expiry, head.topic_alias));
            assert_eq!(ids, head.subscription_id.as_slice());
        } else {
            assert_eq!((forwardable.len(), got.expiry, got.topic_alias, ids.len()), (0, None, None, 0));
        }
    }
}

#[test]
fn the_other_packets_survive_the_wire() {
    let mut random = Random(0xA076_1D64_78BD_642F);
    for _ in 0..3_000 {
        let version = [V31, V311, V5][random.below(3) as usize];
        let v5 = version == V5;
        let id = random.id();
        let check = |out: &[u8], role, same: &dyn Fn(Packet<'_>) -> bool| {
            let (first, body) = unframed(out);
            let got = packet::decode(version, role, first, &body).unwrap();
            assert!(same(got.clone()), "{got:?} of {out:02X?}");
        };

        let failed = v5 && random.flag();
        let reason = |code| if failed { code } else { ReasonCode::SUCCESS };
        let (ack, completion) =
            (Ack { id, reason: reason(ReasonCode(0x97)) }, Ack { id, reason: reason(ReasonCode(0x92)) });
        let mut encode = |ack: Ack, kind, want: Packet<'_>| {
            let mut out = Vec::new();
            ack.encode(&mut out, version, kind);
            check(&out, [Role::FromClient, Role::FromServer][random.below(2) as usize], &|got| got == want);
        };
        encode(ack, PacketType::Puback, Packet::Puback(ack));
        encode(ack, PacketType::Pubrec, Packet::Pubrec(ack));
        encode(completion, PacketType::Pubrel, Packet::Pubrel(completion));
        encode(completion, PacketType::Pubcomp, Packet::Pubcomp(completion));

        let filters: Vec<_> = (0..random.below(4) + 1)
            .map(|_| {
                let options = SubscribeOptions {
                    qos: random.qos(),
                    no_local: v5 && random.flag(),
                    retain_as_published: v5 && random.flag(),
                    retain_handling: [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]
                        [if v5 { random.below(3) as usize } else { 0 }],
                };
                (format!("x{}/#", random.text()), options)
            })
            .collect();
        let subscription_id = if v5 { random.maybe(Random::u16).map(u32::from) } else { None };
        let mut out = Vec::new();
        let borrowed = filters.iter().map(|(f, o)| (f.as_str(), *o));
        subscribe::encode_subscribe(&mut out, version, id, subscription_id, borrowed);
        check(&out, Role::FromClient, &|got| match got {
            Packet::Subscribe(s) => {
                (s.id, s.subscription_id) == (id, subscription_id)
                    && s.filters().eq(filters.iter().map(|(f, o)| Ok((f.as_str(), *o))))
            }
            _ => false,
        });
        let mut out = Vec::new();
        subscribe::encode_unsubscribe(&mut out, version, id, filters.iter().map(|(f, _)| f.as_str()));
        check(&out, Role::FromClient, &|got| match got {
            Packet::Unsubscribe(u) => u.id == id && u.filters().eq(filters.iter().map(|(f, _)| Ok(f.as_str()))),
            _ => false,
        });

        let mut out = Vec::new();
        let leaving = Disconnect {
            reason: if v5 { ReasonCode(random.below(256) as u8) } else { ReasonCode::SUCCESS },
            session_expiry: random.maybe(Random::u32).filter(|_| v5),
        };
        leaving.encode(&mut out, version);
        check(&out, Role::FromClient, &|got| got == Packet::Disconnect(leaving));
        check(&super::control::PINGREQ, Role::FromClient, &|got| got == Packet::Pingreq);
        check(&super::control::PINGRESP, Role::FromServer, &|got| got == Packet::Pingresp);

        let (method, data) = (random.text(), random.bytes());
        let auth = Auth {
            reason: ReasonCode::CONTINUE_AUTHENTICATION,
            method: random.flag().then_some(&method),
            data: random.flag().then_some(&data),
        };
        let mut out = Vec::new();
        auth.encode(&mut out);
        if v5 {
            check(&out, Role::FromClient, &|got| got == Packet::Auth(auth));
        }

        let mut props = ConnackProps::default();
        let mut code = ConnackForm::V3(random.below(6) as u8);
        if v5 {
            code = ConnackForm::V5(ReasonCode(random.below(256) as u8));
            props.server_keep_alive = random.maybe(Random::u16);
            props.topic_alias_maximum = random.u16();
            props.assigned_client_id = random.flag().then_some(&method);
            props.retain_available = random.maybe(Random::flag);
            props.maximum_qos = random.maybe(|r| r.below(2) as u8);
            props.max_packet_size = random.maybe(Random::u32);
            props.receive_maximum = random.maybe(Random::u16);
        }
        let connack = Connack { session_present: random.flag(), code, props };
        let mut out = Vec::new();
        connect::encode_connack(&mut out, code, connack.session_present, &props);
        check(&out, Role::FromServer, &|got| got == Packet::Connack(connack));
    }
}

#[test]
fn random_bytes_are_decoded_or_refused_and_walked_to_the_end() {
    let mut random = Random(0xE703_7ED1_A0B4_28DB);
    let (mut fine, mut refused) = (0, 0);
    for _ in 0..200_000 {
        let first = random.below(256) as u8;
        let version = [V31, V311, V5][random.below(3) as usize];
        let role = [Role::FromClient, Role::FromServer][random.below(2) as usize];
        // Small numbers, so that lengths often fit.
        let body: Vec<u8> =
            (0..random.below(24)).map(|_| [0, 0, 1, 2, 4, 0x1F, 0x26, b'a', 0xFF][random.below(9) as usize]).collect();
        let _ = connect::decode(first | 0x10, &body);
        match packet::decode(version, role, first, &body) {
            Ok(packet) => {
                fine += 1;
                match packet {
                    Packet::Subscribe(s) => assert!(s.filters().count() <= body.len()),
                    Packet::Unsubscribe(u) => assert!(u.filters().count() <= body.len()),
                    Packet::Publish(p) => assert!(p.props.forwardable().len() <= body.len()),
                    _ => {}
                }
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty() && !error.ending().to_string().is_empty());
                let _ = error.log_line();
            }
        }
    }
    assert!(fine > 1_000 && refused > 1_000);
}

#[test]
fn faults_have_the_log_lines_of_the_original() {
    use super::error::{ConnectFault as C, DecodeError as E, PropFault, Who};
    use PacketType as P;
    let line = |error: E| {
        let line = error.log_line()?;
        let who = match line.who {
            Who::Id => "ID",
            Who::Address => "ADDR",
            Who::AddressPort => "ADDR:PORT",
            Who::Null => "(null)",
        };
        let detail = if line.detail { error.to_string() } else { String::new() };
        Some(format!("{}{who}{}{detail}", line.before, line.after))
    };
    for (error, text, ending) in [
        (E::FirstNotConnect(0x30), "Protocol error from ADDR:PORT: First packet not CONNECT (30).", "protocol error."),
        (
            E::Connect(C::NameLength(0x102)),
            "Client from ADDR:PORT appears to be using TLS to connect to a non-TLS listener.",
            "protocol error.",
        ),
        (E::SecondConnect, "Bad client ADDR:PORT sending multiple CONNECT messages.", "protocol error."),
        (E::Reserved, "Protocol error from ID: RESERVED packet.", "protocol error."),
        (E::PublishQos, "Invalid QoS in PUBLISH from ID, disconnecting.", "malformed packet."),
        (E::PublishDup, "Invalid PUBLISH (QoS=0 and DUP=1) from ID, disconnecting.", "malformed packet."),
        (E::PacketIdZero(P::Publish), "Protocol error from ID: PUBLISH packet with mid = 0.", "protocol error."),
        (E::PacketIdZero(P::Puback), "Protocol error from ID: PUBACK with mid = 0.", "protocol error."),
        (E::Reason(P::Pubrec, 255), "Protocol error from ID: PUBREC with reason code = 255.", "protocol error."),
        (
            E::Trailing { packet: P::Disconnect, used: 2, len: 3 },
            "Protocol error from ID: DISCONNECT packet with overlong remaining length (2:3).",
            "protocol error.",
        ),
        (
            E::Flags(P::Disconnect, 0xE1),
            "Protocol error from ID: DISCONNECT packet with incorrect flags E1.",
            "malformed packet.",
        ),
        (
            E::Filter(P::Subscribe, TopicError::Placement),
            "Invalid subscription string from ADDR, disconnecting.",
            "malformed packet.",
        ),
        (
            E::Property(P::Subscribe, PropFault::Unknown),
            "Protocol error from ID: SUBSCRIBE packet with invalid properties.",
            "malformed packet.",
        ),
        (E::ShareNoLocal, "Protocol error from ID: $share subscription with no-local set.", "protocol error."),
        (E::Unexpected(P::Connack), "Protocol error from ID: CONNACK when not a bridge.", "protocol error."),
        (
            E::Connect(C::Name(*b"MQTX\0\0")),
            "Protocol error from ADDR:PORT: CONNECT with invalid protocol \"MQTX\".",
            "protocol error.",
        ),
        (
            E::Connect(C::NoClientId),
            "Protocol error from ADDR:PORT CONNECT with missing clientid string.",
            "protocol error.",
        ),
        (E::Connect(C::WillTopicEmpty), "Protocol error from (null): Will with empty topic.", "protocol error."),
        (
            E::Connect(C::Property(PropFault::Value(props::RECEIVE_MAXIMUM))),
            "Protocol error from ADDR:PORT: CONNECT packet with receive-maximum = 0.",
            "protocol error.",
        ),
    ] {
        assert_eq!(line(error).as_deref(), Some(text), "{error:?}");
        assert_eq!(error.ending().to_string(), ending, "{error:?}");
    }
    for error in [
        E::Filter(P::Subscribe, TopicError::Empty),
        E::Utf8(P::Publish),
        E::RemainingLength,
        E::Connect(C::Property(PropFault::Duplicate)),
    ] {
        assert_eq!(line(error), None, "{error:?}");
    }
    let twice = E::Property(P::Puback, PropFault::Duplicate);
    assert_eq!(twice.ending().to_string(), "bad socket read/write: Duplicate property in property list");
}
