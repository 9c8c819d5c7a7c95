//! Who may come and how much: networks, forwarders, rates and caps.

use super::*;
use crate::proto::sn::ClientList;

/// One message of a node behind the forwarder at port 1.
fn wrapped(node_id: &[u8], message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    super::super::super::wire::encapsulate(&mut out, Encapsulation { radius: 0, node_id });
    message.encode(&mut out).unwrap();
    out
}

/// [SN 5.5]
#[test]
fn a_forwarder_stands_for_many_nodes() {
    let mut world = World::with("allow_anonymous true\nmqttsn_allow_forwarder 127.0.0.0/8");
    for (node, client_id) in [(&[1u8][..], "one"), (&[2], "two"), (&[1, 1], "three")] {
        world.raw(1, &wrapped(node, &connect(client_id, true, 60)));
        assert_eq!(world.take(1), [wrapped(node, &ACCEPTED)]);
    }
    // And for itself.
    world.join(1, "itself");
    assert_eq!(world.gateway.len(), 4);
    let subscribe =
        Message::Subscribe { dup: false, qos: QosField::AtMostOnce, msg_id: 5, filter: FilterRef::Short(*b"xy") };
    world.raw(1, &wrapped(&[2], &subscribe));
    world.take(1);
    world.publish("xy", b"x", QoS::AtMostOnce, false);
    assert_eq!(world.take(1), [wrapped(&[2], &publish(QosField::AtMostOnce, TopicRef::Short(*b"xy"), 0))]);
    // A node that nobody knows is told so, in its envelope.
    world.raw(1, &wrapped(&[9], &Message::Pingreq { client_id: b"" }));
    assert_eq!(world.take(1), [wrapped(&[9], &GOODBYE)]);
    world.raw(1, &wrapped(&[9], &Message::SearchGw { radius: 0 }));
    assert_eq!(world.take(1), [wrapped(&[9], &Message::GwInfo { gateway_id: 1, address: &[] })]);
    // Sleep and waking up through another node id of the same client.
    world.raw(1, &wrapped(&[1], &Message::Disconnect { duration_s: Some(60) }));
    world.take(1);
    world.raw(1, &wrapped(&[7], &Message::Pingreq { client_id: b"one" }));
    assert_eq!(world.take(1), [wrapped(&[7], &Message::Pingresp)]);
    // Broken envelopes.
    for bad in [&[3, 0xFE, 0, 2, 0x16][..], &[4, 0xFE, 0, 1], &[5, 0xFE, 0, 1, 4, 0xFE, 0, 1, 2, 0x16], &[2, 0xFE]] {
        world.raw(1, bad);
        world.expect(1, &[]);
    }
    assert_eq!(world.broker.stats.sn.malformed, 4);
}

/// `[conf: mqttsn_allow_forwarder]`
#[test]
fn forwarders_are_welcome_only_where_the_options_say() {
    for (options, answers) in [("", 0), ("mqttsn_allow_forwarder 10.0.0.0/8", 0), ("mqttsn_allow_forwarder true", 1)] {
        let mut world = World::with(&format!("allow_anonymous true\n{options}"));
        world.raw(1, &wrapped(&[1], &connect("dev", true, 60)));
        assert_eq!(world.take(1).len(), answers, "{options}");
    }
}

/// `[conf: mqttsn_allow_from]`
#[test]
fn other_networks_are_not_heard() {
    for (options, answers) in [("mqttsn_allow_from 10.0.0.0/8", 0), ("mqttsn_allow_from 10.0.0.0/8 127.0.0.1", 1)] {
        let mut world = World::with(&format!("allow_anonymous true\n{options}"));
        world.send(1, connect("dev", true, 60));
        assert_eq!(world.take(1).len(), answers, "{options}");
        assert_eq!(world.broker.stats.sn.unwelcome, 1 - answers as u64);
    }
}

/// `[conf: mqttsn_clients_file]`
#[test]
fn a_list_says_who_and_from_where() {
    let mut world = World::with("");
    let listener = world.config.listeners[0].clone();
    let clients = ClientList::parse(b"dev,127.0.0.1,user=u\nfar,10.0.0.1").unwrap().0;
    let clients = Some(clients);
    world.gateway.set_door(0, Door { listener, anonymous: true, predefined: Predefined::default(), clients });
    world.join(1, "dev");
    let session = world.broker.find_client("dev").unwrap();
    assert_eq!(world.broker.client(world.now, session).unwrap().username, Some("u"));
    for client_id in ["far", "nobody"] {
        world.ask(2, connect(client_id, true, 60), &[Message::Connack(ReturnCode::NOT_SUPPORTED)]);
    }
}

/// `[conf: mqttsn_rate_limit]`
#[test]
fn a_stranger_has_so_many_datagrams_and_a_client_as_many_as_it_likes() {
    let mut world = World::with("allow_anonymous true\nmqttsn_rate_limit 20");
    for _ in 0..50 {
        world.send(1, Message::Pingreq { client_id: b"" });
    }
    assert_eq!(world.take(1).len(), 5, "and answers are fewer");
    assert_eq!((world.broker.stats.sn.rate_limited, world.broker.stats.sn.unknown_client), (30, 20));
    world.send(1, connect("dev", true, 60));
    world.expect(1, &[]);
    world.join(2, "dev");
    for _ in 0..50 {
        world.ask(2, Message::Pingreq { client_id: b"" }, &[Message::Pingresp]);
    }
}

/// Clients that are being asked for their will: of all and of one address.
#[test]
fn half_open_dialogues_have_a_bound() {
    let mut world = World::new();
    let busy = Message::Connack(ReturnCode::CONGESTION);
    for port in 1..=64 {
        world.ask(port, connect_with_will(&format!("c{port}"), true), &[Message::WillTopicReq]);
    }
    world.ask(65, connect_with_will("c65", true), &[busy]);
    world.join(66, "plain");
    // They free themselves.
    (0..5).for_each(|_| world.wait(10_000));
    world.take(65);
    world.ask(65, connect_with_will("c65", true), &[Message::WillTopicReq]);
    assert_eq!(world.gateway.dialogues.len(), 1);
    // The newer one wins.
    world.ask(67, connect_with_will("c65", true), &[Message::WillTopicReq]);
    assert_eq!(world.gateway.dialogues.len(), 1);
}

/// Nothing that a stranger gets is longer than what he sent.
#[test]
fn answers_to_strangers_do_not_amplify() {
    let mut world = World::with("allow_anonymous true\nmqttsn_allow_forwarder true\nmqttsn_allow_qos_minus_one true");
    let mut state = 77u32;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    for round in 0..20_000u32 {
        let len = 2 + next() as usize % 20;
        let mut datagram: Vec<u8> = (0..len).map(|_| next().to_le_bytes()[0]).collect();
        datagram[0] = u8::try_from(len).unwrap();
        datagram[1] %= 0x1E;
        // Anything but a client that comes in properly: from then on it is no stranger.
        if datagram[1] == 4 && len > 3 {
            datagram[3] = 2;
        }
        let port = u16::try_from(round % 60_000).unwrap();
        world.now.mono_ms += 1;
        world.raw(port, &datagram);
        let sent: usize = world.take(port).iter().map(Vec::len).sum();
        assert!(sent <= datagram.len(), "{datagram:?}");
    }
}

/// The ids of sessions whose clients are away are given up with the sessions.
#[test]
fn topic_ids_are_kept_only_for_sessions_that_are_there() {
    let mut world = World::new();
    for n in 0..300u16 {
        let name = format!("c{n}");
        world.join_for_long(n + 1, &name);
        world.register(n + 1, "a/b");
        world.ask(n + 1, GOODBYE, &[GOODBYE]);
        if n % 2 == 0 {
            let session = world.broker.find_client(&name).unwrap();
            world.broker.end_absent(world.now, session);
        }
    }
    assert!(world.gateway.table.stored() <= 256, "{}", world.gateway.table.stored());
}
