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
    let limits = FrameLimits { version, max_packet_size: 2_000_000 };
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
