//! Endpoints and a core without sockets: time is what the test says it is.

use super::*;
use crate::broker::ConnId;
use crate::config::{Config, Listener};
use crate::proto::Outbox;
use crate::slab::Key;
use crate::timer::Now;

/// A core with its endpoints, one for each connection that was opened.
struct World {
    broker: Broker,
    config: Config,
    listener: Listener,
    servers: Vec<(Server, Outbox)>,
    now: Now,
}

impl World {
    fn new() -> World {
        let now = Now { mono_ms: 1_000_000, wall_s: 1_700_000_000 };
        let config = Config::local_only(&[1883]);
        World {
            broker: Broker::new(config.global.clone(), [1, 2], now),
            config,
            listener: Listener { allow_anonymous: Some(true), ..Listener::new(1883, None) },
            servers: Vec::new(),
            now,
        }
    }

    fn open(&mut self) -> usize {
        let peer = Peer::new("127.0.0.1:1".parse().unwrap());
        self.servers.push((Server::new(self.now, peer), Outbox::default()));
        self.servers.len() - 1
    }

    fn with<R>(&mut self, at: usize, act: impl FnOnce(&mut Server, &mut Turn<'_>) -> R) -> R {
        let World { broker, config, listener, servers, now } = self;
        let (server, out) = &mut servers[at];
        let conn = ConnId(Key::from_bits(u32::try_from(at).unwrap()));
        act(server, &mut Turn { now: *now, broker, out, conn, config, listener, budget: 4096 })
    }

    fn send(&mut self, at: usize, bytes: &[u8]) -> Flow {
        self.with(at, |server, turn| server.on_bytes(turn, bytes))
    }

    /// Everything that is to be sent to the client.
    fn received(&mut self, at: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let more = self.with(at, |server, turn| server.flush(turn));
            let out = &mut self.servers[at].1;
            while !out.is_empty() {
                let mut slices = [std::io::IoSlice::new(&[]); 8];
                let used = out.slices(&mut slices);
                let part = slices[..used].concat_bytes();
                all.extend_from_slice(&part);
                out.advance(part.len());
            }
            if !more {
                return all;
            }
        }
    }
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for [std::io::IoSlice<'_>] {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|slice| slice.iter().copied()).collect()
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    crate::wire::writer::put_varint(&mut bytes, body.len());
    bytes.extend_from_slice(body);
    bytes
}

/// CONNECT without will and user; `props` only in version 5.
fn connect(version: u8, clean: bool, keepalive: u8, props: &[u8], id: &str) -> Vec<u8> {
    let mut body = vec![0, 4];
    body.extend_from_slice(b"MQTT");
    body.extend([version, if clean { 2 } else { 0 }, 0, keepalive]);
    if version == 5 {
        body.push(u8::try_from(props.len()).unwrap());
        body.extend_from_slice(props);
    }
    body.extend([0, u8::try_from(id.len()).unwrap()]);
    body.extend_from_slice(id.as_bytes());
    packet(0x10, &body)
}

#[test]
fn the_timer_of_a_connection_that_was_taken_over_is_not_due_for_ever() {
    let mut world = World::new();
    let (old, new) = (world.open(), world.open());
    world.send(old, &connect(4, true, 2, &[], "c"));
    world.now.mono_ms += 3000;
    world.send(new, &connect(4, true, 2, &[], "c"));
    assert!(matches!(world.with(old, |server, turn| server.on_timer(turn)), Flow::Continue));
    assert!(world.servers[old].0.deadline().is_none_or(|deadline| deadline > world.now.mono_ms));
}

#[test]
fn a_large_packet_that_comes_in_is_a_sign_of_life() {
    let mut world = World::new();
    let client = world.open();
    world.send(client, &connect(4, true, 2, &[], "c"));
    let publish = packet(0x30, &[&[0, 1, b't'][..], &[0; 20_000]].concat());
    for part in publish.chunks(2000) {
        assert!(matches!(world.send(client, part), Flow::Continue));
        world.now.mono_ms += 1400;
        assert!(matches!(world.with(client, |server, turn| server.on_timer(turn)), Flow::Continue));
    }
    world.now.mono_ms += 1600;
    let flow = world.with(client, |server, turn| server.on_timer(turn));
    assert!(matches!(flow, Flow::Close(CloseReason::Timeout)), "then silence counts again");
}

#[test]
fn what_is_sent_again_keeps_to_the_receive_maximum() {
    // [MQTT-3.3.4-9]: the client may come back with a smaller one.
    let mut world = World::new();
    let expiry = [0x11, 0, 0, 0, 60];
    let first = world.open();
    world.send(first, &connect(5, true, 60, &expiry, "c"));
    world.send(first, &packet(0x82, &[0, 1, 0, 0, 1, b't', 1]));
    let publisher = world.open();
    world.send(publisher, &connect(4, true, 60, &[], "p"));
    for id in 1..=3 {
        world.send(publisher, &packet(0x32, &[0, 1, b't', 0, id, b'0' + id]));
    }
    let again = |id: u8, first: u8| packet(first, &[0, 1, b't', 0, id, 0, b'0' + id]);
    let sent = world.received(first);
    assert!(sent.ends_with(&[again(1, 0x32), again(2, 0x32), again(3, 0x32)].concat()), "{sent:02X?}");
    world.with(first, |server, turn| server.close(turn, &CloseReason::ClosedByClient));

    let second = world.open();
    world.send(second, &connect(5, false, 60, &[&expiry[..], &[0x21, 0, 1]].concat(), "c"));
    let sent = world.received(second);
    assert!(sent.ends_with(&again(1, 0x3A)), "{sent:02X?}");
    for id in 1..=3 {
        world.send(second, &[0x40, 2, 0, id]);
        let want = if id < 3 { again(id + 1, 0x3A) } else { Vec::new() };
        assert_eq!(world.received(second), want);
    }
}

#[test]
fn a_message_that_fits_only_without_a_new_alias_is_sent_without() {
    let mut world = World::new();
    let client = world.open();
    // Maximum packet size 20, topic alias maximum 5.
    world.send(client, &connect(5, true, 60, &[0x27, 0, 0, 0, 20, 0x22, 0, 5], "c"));
    world.send(client, &packet(0x82, &[0, 1, 0, 0, 1, b't', 0]));
    world.received(client);
    let message = packet(0x30, &[&[0, 1, b't', 0][..], &[7; 14]].concat());
    world.send(client, &message);
    assert_eq!(world.received(client), message);
}
