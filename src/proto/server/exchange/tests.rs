//! Enhanced authentication with a mechanism that counts.

use super::super::tests::{World, packet};
use super::*;
use crate::broker::auth::exchange::Begin;
use crate::proto::Flow;
use crate::wire::ProtocolVersion;

/// The client has to say `1`, `2` and its name; `x` is wrong, and an empty name tells nothing.
struct Counting(u8);

impl Exchange for Counting {
    fn step(&mut self, data: Option<&[u8]>) -> Step {
        self.0 += 1;
        match (self.0, data) {
            (_, Some(b"x")) => Step::Refused,
            (1 | 2, Some(data)) if data == [b'0' + self.0] => Step::Continue(Some(vec![self.0])),
            (3, Some(name)) => Step::Done {
                identity: std::str::from_utf8(name)
                    .ok()
                    .filter(|name| !name.is_empty())
                    .map(|name| Identity { username: name.into() }),
                data: Some(b"bye".to_vec()),
            },
            _ => Step::Refused,
        }
    }
}

const BEGIN: Begin = |method| (method == "count").then(|| Box::new(Counting(0)) as Box<dyn Exchange>);

fn world() -> World {
    let mut world = World::new();
    world.listener.allow_anonymous = Some(false);
    world.broker.logins.begin = Some(BEGIN);
    world
}

fn connect(method: &str, data: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let plain = Connect::new(ProtocolVersion::V5, "c", 60);
    Connect { auth_method: Some(method), auth_data: data, ..plain }.encode(&mut bytes);
    bytes
}

fn auth(reason: ReasonCode, method: Option<&str>, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Auth { reason, method, data: Some(data) }.encode(&mut bytes);
    bytes
}

fn next(data: &[u8]) -> Vec<u8> {
    auth(ReasonCode::CONTINUE_AUTHENTICATION, Some("count"), data)
}

fn again(data: &[u8]) -> Vec<u8> {
    auth(ReasonCode::REAUTHENTICATE, Some("count"), data)
}

impl World {
    fn says(&mut self, at: usize, bytes: &[u8]) -> (Flow, Vec<u8>) {
        let flow = self.send(at, bytes);
        if let Flow::Close(reason) = &flow {
            self.with(at, |server, turn| server.close(turn, reason));
            assert_eq!(self.broker.logins.waiting(), (0, 0));
        }
        (flow, self.received(at))
    }

    /// A client that came in as "joe".
    fn come_in(&mut self) -> usize {
        let at = self.open_from("192.0.2.1:5");
        assert_eq!(self.says(at, &connect("count", Some(b"1"))).1, next(&[1]));
        assert_eq!(self.says(at, &next(b"2")).1, next(&[2]));
        let connack = self.says(at, &next(b"joe")).1;
        assert_eq!(connack[..1], [0x20]);
        assert_eq!(connack[3], 0);
        assert!(connack.windows(8).any(|bytes| bytes == b"\x15\0\x05count"), "{connack:02X?}");
        assert!(connack.windows(6).any(|bytes| bytes == b"\x16\0\x03bye"), "{connack:02X?}");
        at
    }
}

#[test]
fn a_method_leads_from_connect_to_connack() {
    let mut world = world();
    let at = world.come_in();
    let session = world.servers[at].0.session().unwrap();
    assert_eq!(world.broker.client(world.now, session).unwrap().username, Some("joe"));
    assert_eq!(world.broker.logins.waiting(), (0, 0));
}

#[test]
fn a_client_that_errs_before_connack_is_refused_in_connack() {
    for (bytes, code) in [
        (next(b"x"), 0x87),
        (auth(ReasonCode::CONTINUE_AUTHENTICATION, Some("other"), b"2"), 0x82),
        (auth(ReasonCode::CONTINUE_AUTHENTICATION, None, b"2"), 0x82),
        (again(b"2"), 0x82),
        (vec![0xC0, 0], 0x82),
        (packet(0x30, &[0, 1, b't', 0]), 0x82),
        (connect("count", Some(b"1")), 0x82),
    ] {
        let mut world = world();
        let at = world.open_from("192.0.2.1:5");
        world.says(at, &connect("count", Some(b"1")));
        let (flow, read) = world.says(at, &bytes);
        assert!(matches!(flow, Flow::Close(_)));
        assert_eq!((read[0], read[3]), (0x20, code), "{bytes:02X?}");
    }
    let mut world = world();
    let at = world.open_from("192.0.2.1:5");
    assert_eq!(world.says(at, &connect("count", Some(b"x"))).1[3], 0x87);
    let at = world.open_from("192.0.2.1:5");
    assert_eq!(world.says(at, &connect("other", Some(b"1"))).1[3], 0x8C);
    let at = world.open_from("192.0.2.1:5");
    world.says(at, &connect("count", Some(b"1")));
    let (flow, read) = world.says(at, &[0xE0, 0]);
    assert!(matches!(flow, Flow::Close(CloseReason::Disconnect { with_will: false, .. })) && read.is_empty());
}

#[test]
fn a_mechanism_that_names_nobody_leaves_the_rules_for_user_names() {
    for allowed in [true, false] {
        let mut world = world();
        world.listener.allow_anonymous = Some(allowed);
        let at = world.open_from("192.0.2.1:5");
        world.says(at, &connect("count", Some(b"1")));
        world.says(at, &next(b"2"));
        assert_eq!(world.says(at, &next(b"")).1[3], if allowed { 0 } else { 0x87 });
    }
}

#[test]
fn an_exchange_has_thirty_seconds() {
    let mut world = world();
    let at = world.open_from("192.0.2.1:5");
    world.says(at, &connect("count", Some(b"1")));
    world.now.mono_ms += 29_000;
    world.says(at, &next(b"2"));
    world.now.mono_ms = world.servers[at].0.deadline().unwrap();
    assert!(world.now.mono_ms <= 1_030_000);
    let flow = world.with(at, |server, turn| server.on_timer(turn));
    assert!(matches!(flow, Flow::Close(CloseReason::Timeout)));
}

#[test]
fn a_client_proves_anew_who_it_is_while_its_other_packets_go_on() {
    let mut world = world();
    let at = world.come_in();
    assert_eq!(world.says(at, &again(b"1")).1, next(&[1]));
    assert_eq!(world.says(at, &[0xC0, 0]).1, [0xD0, 0]);
    assert_eq!(world.says(at, &next(b"2")).1, next(&[2]));
    assert_eq!(world.says(at, &next(b"joe")).1, auth(ReasonCode::SUCCESS, Some("count"), b"bye"));
    assert!(world.servers[at].0.session().is_some());
}

#[test]
fn a_client_that_errs_after_connack_is_disconnected() {
    let wrong = |bytes: Vec<u8>| vec![bytes];
    for (steps, code) in [
        (wrong(again(b"x")), 0x87),
        (vec![again(b"1"), next(b"x")], 0x87),
        (vec![again(b"1"), next(b"2"), next(b"jane")], 0x87),
        (vec![again(b"1"), again(b"1")], 0x82),
        (wrong(next(b"1")), 0x82),
        (wrong(auth(ReasonCode::REAUTHENTICATE, Some("other"), b"1")), 0x82),
        (wrong(auth(ReasonCode::REAUTHENTICATE, None, b"1")), 0x82),
        (wrong(auth(ReasonCode::SUCCESS, Some("count"), b"1")), 0x82),
    ] {
        let mut world = world();
        let at = world.come_in();
        let mut read = Vec::new();
        for step in &steps {
            read = world.says(at, step).1;
        }
        assert_eq!(read, [0xE0, 1, code], "{steps:02X?}");
    }
}

#[test]
fn auth_without_a_method_in_connect_is_a_protocol_error() {
    for version in [ProtocolVersion::V5, ProtocolVersion::V311] {
        let mut world = world();
        world.listener.allow_anonymous = Some(true);
        let at = world.open_from("192.0.2.1:5");
        let mut bytes = Vec::new();
        Connect::new(version, "c", 60).encode(&mut bytes);
        world.says(at, &bytes);
        let (flow, read) = world.says(at, &again(b"1"));
        assert!(matches!(flow, Flow::Close(_)));
        assert_eq!(read, if version == ProtocolVersion::V5 { &[0xE0, 1, 0x82][..] } else { &[] });
    }
}

#[test]
fn whoever_guesses_at_a_mechanism_has_to_wait() {
    let mut world = world();
    let mut asked = 0;
    let at = loop {
        let at = world.open_from("192.0.2.1:5");
        match world.says(at, &connect("count", Some(b"x"))) {
            (Flow::Close(_), read) => assert_eq!(read[3], 0x87),
            (flow, read) => {
                assert!(matches!(flow, Flow::Waiting) && read.is_empty(), "{flow:?} {read:02X?}");
                break at;
            }
        }
        asked += 1;
        assert!(asked < 100, "nobody counts");
    };
    assert_eq!(asked, 11, "ten for free, and one that is paid for");
    let other = world.open_from("192.0.2.2:5");
    for (bytes, first) in [(connect("count", Some(b"1")), 0xF0), (next(b"2"), 0xF0), (next(b"ann"), 0x20)] {
        assert_eq!(world.says(other, &bytes).1[0], first, "another address");
    }
    let due = world.with(at, |server, _| server.deadline()).unwrap();
    world.now.mono_ms = due;
    assert!(matches!(world.with(at, |server, turn| server.on_timer(turn)), Flow::Close(_)));
    assert_eq!(world.received(at)[3], 0x87, "looked at when its time has come");
    world.says(other, &[0xE0, 0]);
    // A wrong answer of somebody who is here counts as well.
    world.now.mono_ms += 60_000;
    for _ in 0..11 {
        let at = world.come_in();
        let (flow, _) = world.says(at, &again(b"x"));
        assert!(matches!(flow, Flow::Close(CloseReason::NoLongerAllowed)), "{flow:?}");
    }
    let at = world.open_from("192.0.2.1:5");
    assert!(matches!(world.says(at, &connect("count", Some(b"1"))).0, Flow::Waiting));
}
