//! Endpoints and a core without sockets: time is what the test says it is.

use super::*;
use crate::broker::ConnId;
use crate::config::{Config, Listener};
use crate::proto::Outbox;
use crate::slab::Key;
use crate::timer::Now;

const CONNECT_V5: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x01p";
const CONNECT_V311: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01p";

/// A core with its endpoints, one for each connection that was opened.
pub(super) struct World {
    pub(super) broker: Broker,
    config: Config,
    pub(super) listener: Listener,
    pub(super) servers: Vec<(Server, Outbox)>,
    pub(super) now: Now,
    budget: u32,
}

impl World {
    pub(super) fn new() -> World {
        let now = Now { mono_ms: 1_000_000, wall_s: 1_700_000_000 };
        let config = Config::local_only(&[1883]);
        World {
            broker: Broker::new(config.global.clone(), [1, 2], now),
            config,
            listener: Listener { allow_anonymous: Some(true), ..Listener::new(1883, None) },
            servers: Vec::new(),
            now,
            budget: 4096,
        }
    }

    fn open(&mut self) -> usize {
        self.open_from("127.0.0.1:1")
    }

    pub(super) fn open_from(&mut self, addr: &str) -> usize {
        let peer = Peer::new(addr.parse().unwrap());
        self.servers.push((Server::new(self.now, peer), Outbox::default()));
        self.servers.len() - 1
    }

    pub(super) fn with<R>(&mut self, at: usize, act: impl FnOnce(&mut Server, &mut Turn<'_>) -> R) -> R {
        let World { broker, config, listener, servers, now, budget } = self;
        let (server, out) = &mut servers[at];
        let conn = ConnId(Key::from_bits(u32::try_from(at).unwrap()));
        act(server, &mut Turn { now: *now, broker, out, conn, config, listener, budget: *budget })
    }

    pub(super) fn send(&mut self, at: usize, bytes: &[u8]) -> Flow {
        self.with(at, |server, turn| server.on_bytes(turn, bytes))
    }

    /// Everything that is to be sent to the client.
    pub(super) fn received(&mut self, at: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let more = self.with(at, |server, turn| server.flush(turn));
            let out = &mut self.servers[at].1;
            while !out.is_empty() {
                let mut slices = [std::io::IoSlice::new(&[]); 8];
                let used = out.slices(&mut slices);
                let part: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
                all.extend_from_slice(&part);
                out.advance(part.len());
            }
            if !more {
                return all;
            }
        }
    }
}

pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
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

#[test]
fn an_acknowledgement_waits_until_what_it_promises_is_on_disk() {
    let mut world = World::new();
    world.broker.changes().start_journal();
    let id = world.open();
    world.send(id, CONNECT_V5);
    assert_eq!(world.received(id)[0], 0x20, "a session that ends with the connection promises nothing");
    world.send(id, b"\x82\x07\x00\x01\x00\x00\x01t\x01");
    assert_eq!(world.received(id), b"\x90\x04\x00\x01\x00\x01");
    world.send(id, b"\x33\x07\x00\x01t\x00\x01\x00x");
    world.send(id, b"\xc0\x00");
    let publish = b"\x32\x07\x00\x01t\x00\x01\x00x";
    assert_eq!(world.received(id), publish, "delivered, but neither PUBACK nor the PINGRESP behind it");
    let seq = world.broker.changes().take(Vec::new()).1;
    world.broker.set_synced(seq);
    let mut dirty = Vec::new();
    world.broker.take_dirty(&mut dirty);
    assert!(!dirty.is_empty(), "the connection is to be flushed");
    assert_eq!(world.received(id), b"\x40\x02\x00\x01\xd0\x00", "both, in their order");
}

#[test]
fn a_turn_ends_when_its_budget_is_used_up_and_goes_on_with_what_was_left() {
    let mut world = World::new();
    let id = world.open();
    world.send(id, CONNECT_V5);
    world.received(id);
    world.budget = 3;
    assert!(matches!(world.send(id, &b"\xc0\x00".repeat(8)), Flow::Again));
    assert_eq!(world.received(id).len(), 6);
    assert!(matches!(world.send(id, b""), Flow::Again));
    assert!(matches!(world.send(id, b""), Flow::Continue));
    assert_eq!(world.received(id).len(), 10);
}

#[test]
fn who_does_not_read_its_replies_is_not_read() {
    let mut world = World::new();
    world.budget = u32::MAX;
    let id = world.open();
    world.send(id, CONNECT_V5);
    assert!(matches!(world.send(id, &b"\xc0\x00".repeat(20_000)), Flow::Paused));
    assert!(world.with(id, |_, turn| turn.out.len()) < 2 * HIGH_WATER);
    world.received(id);
    assert!(!matches!(world.send(id, b""), Flow::Close(_)));
    assert!(!world.received(id).is_empty());
}

#[test]
fn keepalive_counts_from_the_last_packet() {
    let mut world = World::new();
    let id = world.open();
    assert_eq!(world.with(id, |server, _| server.deadline()), Some(1_030_000), "CONNECT within 30 s");
    world.send(id, CONNECT_V5);
    assert_eq!(world.with(id, |server, _| server.deadline()), Some(1_015_000));
    world.now.mono_ms += 14_999;
    assert!(matches!(world.with(id, |server, turn| server.on_timer(turn)), Flow::Continue));
    world.send(id, b"\xc0\x00");
    world.now.mono_ms += 14_999;
    assert!(matches!(world.with(id, |server, turn| server.on_timer(turn)), Flow::Continue));
    world.now.mono_ms += 1;
    assert!(matches!(world.with(id, |server, turn| server.on_timer(turn)), Flow::Close(CloseReason::Timeout)));
}

#[test]
fn a_packet_that_trickles_in_does_not_keep_a_connection_alive() {
    let mut world = World::new();
    let id = world.open();
    world.send(id, CONNECT_V5);
    world.send(id, b"\x30\x80\x80\x04\x00\x01t");
    for _ in 0..29 {
        world.now.mono_ms += 500;
        world.send(id, &[0; 10]);
    }
    world.now.mono_ms += 15_500;
    assert!(matches!(world.with(id, |server, turn| server.on_timer(turn)), Flow::Close(CloseReason::Stalled)));
}

#[test]
fn by_the_letter_a_growing_packet_is_no_sign_of_life() {
    // [MQTT-3.1.2-22]
    for strict in [false, true] {
        let mut world = World::new();
        world.config.global.strict_conformance = strict;
        let id = world.open();
        world.send(id, CONNECT_V5);
        world.send(id, b"\x30\x80\x80\x40\x00\x01t");
        for _ in 0..15 {
            world.now.mono_ms += 1000;
            world.send(id, &[0; 2000]);
        }
        let flow = world.with(id, |server, turn| server.on_timer(turn));
        assert_eq!(matches!(flow, Flow::Close(CloseReason::Timeout)), strict, "{flow:?}");
    }
}

#[test]
fn by_the_letter_the_receive_maximum_is_counted_for_each_connection() {
    // [MQTT 4.9]: the quota starts anew, and what the client sends again is not more.
    let mut world = World::new();
    world.config.global.strict_conformance = true;
    world.config.global.max_inflight_messages = 2;
    world.broker.set_settings(world.config.global.clone(), world.now);
    let expiry = [0x11, 0, 0, 0, 60];
    let qos2 = |id: u8| packet(0x34, &[0, 1, b't', 0, id, 0, b'x']);
    let first = world.open();
    world.send(first, &connect(5, true, 60, &expiry, "c"));
    for id in 1..=2 {
        assert!(matches!(world.send(first, &qos2(id)), Flow::Continue));
    }
    world.with(first, |server, turn| server.close(turn, &CloseReason::ClosedByClient));

    let second = world.open();
    world.send(second, &connect(5, false, 60, &expiry, "c"));
    for id in [1, 2, 1, 2] {
        assert!(matches!(world.send(second, &qos2(id)), Flow::Continue), "sent again");
    }
    for id in 1..=2 {
        world.send(second, &[0x62, 2, 0, id]);
    }
    for id in [3, 4] {
        assert!(matches!(world.send(second, &qos2(id)), Flow::Continue), "the others are complete");
    }
    assert!(matches!(world.send(second, &qos2(5)), Flow::Close(CloseReason::ReceiveMaximumExceeded)));
    world.with(second, |server, turn| server.close(turn, &CloseReason::ReceiveMaximumExceeded));

    let third = world.open();
    world.send(third, &connect(5, false, 60, &expiry, "c"));
    assert!(matches!(world.send(third, &qos2(5)), Flow::Continue), "two of another connection do not count");
}

#[test]
fn a_large_packet_on_its_way_keeps_a_connection_alive() {
    let mut world = World::new();
    let id = world.open();
    world.send(id, CONNECT_V5);
    world.send(id, b"\x30\x80\x80\x40\x00\x01t");
    for _ in 0..100 {
        world.now.mono_ms += 1000;
        world.send(id, &[0; 2000]);
        if world.with(id, |server, _| server.deadline()).is_some_and(|deadline| deadline <= world.now.mono_ms) {
            assert!(matches!(world.with(id, |server, turn| server.on_timer(turn)), Flow::Continue));
        }
    }
    world.now.mono_ms += 9_000;
    assert!(matches!(world.with(id, |server, turn| server.on_timer(turn)), Flow::Continue), "ahead of its rate");
    world.now.mono_ms += 16_000;
    assert!(matches!(world.with(id, |server, turn| server.on_timer(turn)), Flow::Close(_)));
}

#[test]
fn the_control_api_is_asked_when_it_is_on_even_without_memory() {
    use crate::broker::Action;
    let request =
        |payload: &str| packet(0x32, &[&b"\0\x12$CONTROL/broker/v1\0\x07\0"[..], payload.as_bytes()].concat());
    for (on, over_memory) in [(false, false), (true, false), (true, true)] {
        if on && !cfg!(feature = "control") {
            continue;
        }
        let mut world = World::new();
        world.config.global.enable_control_api = on;
        let id = world.open();
        world.send(id, CONNECT_V5);
        world.received(id);
        if over_memory {
            world.broker.settings.memory_limit = 1;
            world.broker.stats.heap = 2;
        }
        let flow = world.send(id, &request("{}"));
        let session = world.servers[id].0.session().unwrap();
        let received = world.received(id);
        assert!(received.ends_with(b"\x40\x02\0\x07"), "acknowledged with success: {received:02X?}");
        if on {
            let asked = Action::Control { from: session, request: b"{}".as_slice().into() };
            assert_eq!(world.broker.take_action(), Some(asked));
            assert!(matches!(flow, Flow::Again), "that is enough for one turn");
        } else {
            assert_eq!(world.broker.take_action(), None);
            assert!(received.windows(12).any(|part| part == b"endpoint not"), "{received:02X?}");
        }
    }
}

#[test]
fn by_the_letter_a_client_may_send_what_it_was_told_also_after_a_reload() {
    // [MQTT-3.3.4-7], [conf: max_inflight_messages]
    let mut world = World::new();
    let set = |world: &mut World, max_inflight_messages| {
        world.config.global.strict_conformance = true;
        world.config.global.max_inflight_messages = max_inflight_messages;
        world.broker.set_settings(world.config.global.clone(), world.now);
    };
    set(&mut world, 2);
    let at = world.open();
    world.send(at, &connect(5, true, 10, &[], "c"));
    set(&mut world, 1);
    let publish = |id: u8| packet(0x34, &[0, 1, b't', 0, id, 0]);
    for id in [1, 2] {
        assert!(matches!(world.send(at, &publish(id)), Flow::Continue), "{id}");
    }
    assert!(matches!(world.send(at, &publish(3)), Flow::Close(CloseReason::ReceiveMaximumExceeded)));
    let at = world.open();
    world.send(at, &connect(5, true, 10, &[], "d"));
    world.send(at, &publish(1));
    assert!(matches!(world.send(at, &publish(2)), Flow::Close(CloseReason::ReceiveMaximumExceeded)));
}

/// The body of a SUBSCRIBE or UNSUBSCRIBE with so many filters `0` to `n - 1`, of which `wrong` is none.
fn many_filters(version: ProtocolVersion, subscribe: bool, n: usize, wrong: Option<usize>) -> Vec<u8> {
    let mut body = vec![0, 7];
    if version == ProtocolVersion::V5 {
        body.push(0);
    }
    for i in 0..n {
        let filter = if wrong == Some(i) { "#/#".into() } else { i.to_string() };
        crate::wire::writer::put_str(&mut body, &filter);
        if subscribe {
            body.push(1);
        }
    }
    body
}

/// Turns until the connection has nothing more to do; how many there were, and how it ended.
fn turns_for(world: &mut World, at: usize, bytes: &[u8]) -> (usize, Flow) {
    let mut flow = world.send(at, bytes);
    let mut turns = 1;
    while matches!(flow, Flow::Again) {
        assert!(world.received(at).is_empty(), "nothing comes before the answer");
        flow = world.send(at, &[]);
        turns += 1;
    }
    (turns, flow)
}

#[test]
fn a_large_subscribe_is_handled_in_slices() {
    const FILTERS: usize = 10_000;
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let mut world = World::new();
        let at = world.open();
        world.send(at, if version == ProtocolVersion::V5 { CONNECT_V5 } else { CONNECT_V311 });
        world.received(at);
        let ping = [0xC0, 0];
        for (subscribe, first, answer) in [(true, 0x82, 0x90), (false, 0xA2, 0xB0)] {
            let request = packet(first, &many_filters(version, subscribe, FILTERS, None));
            let (turns, flow) = turns_for(&mut world, at, &[&request[..], &ping].concat());
            assert!(matches!(flow, Flow::Continue), "{flow:?}");
            // With the usual budget of 4096 a filter costs 4.
            assert!((10..12).contains(&turns), "{turns} turns");
            let codes = if subscribe || version == ProtocolVersion::V5 { FILTERS } else { 0 };
            let got = world.received(at);
            let mut wanted = vec![0, 7];
            if version == ProtocolVersion::V5 {
                wanted.push(0);
            }
            wanted.extend(std::iter::repeat_n(u8::from(subscribe), codes));
            assert_eq!(got, [&packet(answer, &wanted)[..], &[0xD0, 0]].concat());
            assert_eq!(world.broker.subscription_counts().0, if subscribe { FILTERS } else { 0 });
        }
        // A fault behind the first slice: what stands before it counts, nothing behind it.
        let request = packet(0x82, &many_filters(version, true, FILTERS, Some(5_000)));
        let (_, flow) = turns_for(&mut world, at, &request);
        assert!(matches!(flow, Flow::Close(CloseReason::Decode(_))), "{flow:?}");
        assert_eq!(world.broker.subscription_counts().0, 5_000);
    }
}

#[test]
fn a_client_whose_subscribe_takes_many_turns_is_not_timed_out() {
    let mut world = World::new();
    let at = world.open();
    world.send(at, &connect(4, true, 2, &[], "c"));
    world.received(at);
    let request = packet(0x82, &many_filters(ProtocolVersion::V311, true, 10_000, None));
    assert!(matches!(world.send(at, &request), Flow::Again));
    for _ in 0..5 {
        world.now.mono_ms += 2000;
        assert!(matches!(world.send(at, &[]), Flow::Again));
        assert!(matches!(world.with(at, |server, turn| server.on_timer(turn)), Flow::Continue));
    }
    let (_, flow) = turns_for(&mut world, at, &[]);
    assert!(matches!(flow, Flow::Continue), "{flow:?}");
}

#[test]
fn a_client_that_goes_in_the_midst_of_its_subscribe_leaves_nothing() {
    let mut world = World::new();
    let at = world.open();
    world.send(at, CONNECT_V5);
    world.received(at);
    let request = packet(0x82, &many_filters(ProtocolVersion::V5, true, 10_000, None));
    assert!(matches!(world.send(at, &request), Flow::Again));
    world.with(at, |server, turn| server.close(turn, &CloseReason::ClosedByClient));
    assert!(matches!(world.send(at, &[]), Flow::Continue));
    world.broker.on_timers(world.now);
    assert_eq!((world.broker.session_count(), world.broker.subscription_counts()), (0, (0, 0)));
}

#[test]
fn far_above_the_memory_limit_a_large_subscribe_is_not_kept() {
    let mut world = World::new();
    world.broker.set_settings(crate::config::Global { memory_limit: 1000, ..Default::default() }, world.now);
    let (large, small) = (world.open(), world.open());
    for (at, id) in [(large, "large"), (small, "small")] {
        world.send(at, &connect(5, true, 60, &[], id));
        world.received(at);
    }
    let many = |n| packet(0x82, &many_filters(ProtocolVersion::V5, true, n, None));
    assert!(matches!(world.send(large, &many(5000)), Flow::Again));
    world.budget = 64;
    assert!(matches!(world.send(small, &many(100)), Flow::Again));
    world.broker.set_heap(2000);
    assert!(matches!(world.send(large, &[]), Flow::Close(CloseReason::OutOfMemory)));
    assert!(matches!(turns_for(&mut world, small, &[]).1, Flow::Continue));
    assert_eq!(world.received(small)[0], 0x90, "it has its answer");
}
