//! Connections without sockets: what is decided about acknowledgements, keepalive and the work of one turn.

use super::*;
use crate::broker::ConnId;
use crate::config::{Config, Global};
use crate::proto::Outbox;
use crate::slab::Slab;
use crate::timer::Now;

const CONNECT_V5: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x01p";
const PUBLISH_1: &[u8] = b"\x32\x06\x00\x01t\x00\x01\x00";

/// One broker and its connections.
struct World {
    config: Config,
    broker: Broker,
    conns: Slab<(Server, Outbox)>,
    now: Now,
    budget: u32,
}

impl World {
    fn new() -> World {
        let config = Config { global: Global { sys_interval: 0, ..Global::default() }, ..Config::local_only(&[]) };
        let now = Now { mono_ms: 1_000_000, wall_s: 1 };
        World { broker: Broker::new(config.global.clone(), [1, 2], now), config, conns: Slab::new(), now, budget: 4096 }
    }

    fn open(&mut self) -> ConnId {
        let peer = Peer::new("127.0.0.1:1".parse().unwrap());
        ConnId(self.conns.insert((Server::new(self.now, peer), Outbox::default())).ok().unwrap())
    }

    fn with<R>(&mut self, id: ConnId, act: impl FnOnce(&mut Server, &mut Turn<'_>) -> R) -> R {
        let (server, out) = self.conns.get_mut(id.0).unwrap();
        let mut turn = Turn {
            now: self.now,
            broker: &mut self.broker,
            out,
            conn: id,
            config: &self.config,
            listener: &self.config.listeners[0],
            budget: self.budget,
        };
        act(server, &mut turn)
    }

    fn feed(&mut self, id: ConnId, bytes: &[u8]) -> Flow {
        self.with(id, |server, turn| server.on_bytes(turn, bytes))
    }

    /// Flushes, and takes everything the client would get.
    fn read(&mut self, id: ConnId) -> Vec<u8> {
        self.with(id, |server, turn| {
            server.flush(turn);
            let mut slices = [std::io::IoSlice::new(&[]); 8];
            let used = turn.out.slices(&mut slices);
            let bytes = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
            turn.out.clear();
            bytes
        })
    }
}

#[test]
fn an_acknowledgement_waits_until_what_it_promises_is_on_disk() {
    let mut world = World::new();
    world.broker.changes().start_journal();
    let id = world.open();
    world.feed(id, CONNECT_V5);
    assert_eq!(world.read(id)[0], 0x20, "a session that ends with the connection promises nothing");
    world.feed(id, b"\x82\x07\x00\x01\x00\x00\x01t\x01");
    assert_eq!(world.read(id), b"\x90\x04\x00\x01\x00\x01");
    world.feed(id, PUBLISH_1);
    world.feed(id, b"\xc0\x00");
    let publish = b"\x32\x06\x00\x01t\x00\x01\x00";
    assert_eq!(world.read(id), publish, "delivered, but neither PUBACK nor the PINGRESP behind it");
    let seq = world.broker.changes().drain().1;
    world.broker.set_synced(seq);
    let mut dirty = Vec::new();
    world.broker.take_dirty(&mut dirty);
    assert!(dirty.contains(&id), "the connection is to be flushed");
    assert_eq!(world.read(id), b"\x40\x02\x00\x01\xd0\x00", "both, in their order");
}

#[test]
fn a_turn_ends_when_its_budget_is_used_up_and_goes_on_with_what_was_left() {
    let mut world = World::new();
    let id = world.open();
    world.feed(id, CONNECT_V5);
    world.read(id);
    world.budget = 3;
    assert!(matches!(world.feed(id, &b"\xc0\x00".repeat(8)), Flow::Again));
    assert_eq!(world.read(id).len(), 6);
    assert!(matches!(world.feed(id, b""), Flow::Again));
    assert!(matches!(world.feed(id, b""), Flow::Continue));
    assert_eq!(world.read(id).len(), 10);
}

#[test]
fn who_does_not_read_its_replies_is_not_read() {
    let mut world = World::new();
    world.budget = u32::MAX;
    let id = world.open();
    world.feed(id, CONNECT_V5);
    assert!(matches!(world.feed(id, &b"\xc0\x00".repeat(20_000)), Flow::Paused));
    assert!(world.with(id, |_, turn| turn.out.len()) < 2 * HIGH_WATER);
    world.read(id);
    assert!(!matches!(world.feed(id, b""), Flow::Close(_)));
    assert!(!world.read(id).is_empty());
}

#[test]
fn keepalive_counts_from_the_last_packet() {
    let mut world = World::new();
    let id = world.open();
    assert_eq!(world.with(id, |server, _| server.deadline()), Some(1_030_000), "CONNECT within 30 s");
    world.feed(id, CONNECT_V5);
    assert_eq!(world.with(id, |server, _| server.deadline()), Some(1_015_000));
    world.now.mono_ms += 14_999;
    assert!(matches!(world.with(id, |server, turn| server.on_timer(turn)), Flow::Continue));
    world.feed(id, b"\xc0\x00");
    world.now.mono_ms += 14_999;
    assert!(matches!(world.with(id, |server, turn| server.on_timer(turn)), Flow::Continue));
    world.now.mono_ms += 1;
    assert!(matches!(world.with(id, |server, turn| server.on_timer(turn)), Flow::Close(CloseReason::Timeout)));
}

#[test]
fn a_packet_that_trickles_in_does_not_keep_a_connection_alive() {
    let mut world = World::new();
    let id = world.open();
    world.feed(id, CONNECT_V5);
    world.feed(id, b"\x30\x80\x80\x04\x00\x01t");
    for _ in 0..29 {
        world.now.mono_ms += 500;
        world.feed(id, &[0; 10]);
    }
    world.now.mono_ms += 15_500;
    assert!(matches!(world.with(id, |server, turn| server.on_timer(turn)), Flow::Close(CloseReason::Stalled)));
}

#[test]
fn a_large_packet_on_its_way_keeps_a_connection_alive() {
    let mut world = World::new();
    let id = world.open();
    world.feed(id, CONNECT_V5);
    world.feed(id, b"\x30\x80\x80\x40\x00\x01t");
    for _ in 0..100 {
        world.now.mono_ms += 1000;
        world.feed(id, &[0; 2000]);
        if world.with(id, |server, _| server.deadline()).is_some_and(|deadline| deadline <= world.now.mono_ms) {
            assert!(matches!(world.with(id, |server, turn| server.on_timer(turn)), Flow::Continue));
        }
    }
    world.now.mono_ms += 9_000;
    assert!(matches!(world.with(id, |server, turn| server.on_timer(turn)), Flow::Continue), "ahead of its rate");
    world.now.mono_ms += 16_000;
    assert!(matches!(world.with(id, |server, turn| server.on_timer(turn)), Flow::Close(_)));
}
