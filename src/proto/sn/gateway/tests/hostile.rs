//! Bad input: section 4 of the reference.

use super::*;

/// A datagram that is no message changes nothing, whatever it is.
#[test]
fn malformed_datagrams_are_dropped() {
    let mut world = World::new();
    world.join(1, "dev");
    world.register(1, "a/b");
    let bad: &[&[u8]] = &[
        &[],
        &[0],
        &[1],
        &[2],
        &[0, 0x16],
        &[3, 0x16],
        &[2, 0x16, 0],
        &[1, 0, 3, 0x16],
        &[1, 0, 0],
        &[1, 0xFF, 0xFF, 0x16],
        &[2, 0x03],
        &[2, 0xFF],
        &[6, 0x0C, 0, 0, 1, 0],
        &[3, 0x18, 0],
        &[3, 0x07, 0],
        &[6, 0x0D, 0, 1, 0, 1],
        &[255, 0x0C],
    ];
    for datagram in bad {
        world.raw(1, datagram);
        world.raw(9, datagram);
    }
    world.expect(1, &[]);
    world.expect(9, &[]);
    assert_eq!(world.broker.stats.sn.malformed, bad.len() as u64 * 2);
    world.ask(1, Message::Pingreq { client_id: b"" }, &[Message::Pingresp]);
}

/// What only a gateway sends, and acknowledgements of nothing.
#[test]
fn messages_out_of_place_are_ignored() {
    let mut world = World::new();
    world.join(1, "dev");
    let ack = TopicAck { topic_id: 1, msg_id: 1, code: ReturnCode::ACCEPTED };
    for message in [
        ACCEPTED,
        Message::WillTopicReq,
        Message::WillMsgReq,
        Message::Suback { qos: QosField::AtMostOnce, ack },
        Message::Unsuback { msg_id: 1 },
        Message::WillTopicResp(ReturnCode::ACCEPTED),
        Message::WillMsgResp(ReturnCode::ACCEPTED),
    ] {
        world.ask(1, message, &[]);
        // Two gateways must not talk to each other for ever.
        world.ask(9, message, &[]);
    }
    for message in [Message::Pingresp, Message::Regack(ack), Message::Puback(ack), Message::Pubcomp { msg_id: 1 }] {
        world.ask(1, message, &[]);
        world.wait(1000);
        world.ask(9, message, &[GOODBYE]);
    }
    assert_eq!(world.state_of("dev"), Client::Active);
}

/// `[conf: max_mqtts_packet_size]`
#[test]
fn a_message_that_is_too_large_is_dropped() {
    let mut world = World::with("allow_anonymous true\nmax_mqtts_packet_size 50");
    world.join(1, "dev");
    let (watcher, _) = world.mqtt("watcher", "#");
    let topic = TopicRef::Short(*b"xy");
    let with = |data| Publish { dup: false, qos: QosField::AtMostOnce, retain: false, topic, msg_id: 0, data };
    world.send(1, Message::Publish(with(&[7; 43])));
    world.send(1, Message::Publish(with(&[7; 44])));
    assert_eq!(world.read(watcher).len(), 1);
    assert_eq!(world.broker.stats.sn.oversize, 1);
}

/// `[conf: memory_limit]`
#[test]
fn memory_that_is_short_is_congestion() {
    let mut world = World::with("allow_anonymous true\nmemory_limit 1000");
    world.join(1, "dev");
    let id = world.register(1, "a/b");
    world.broker.set_heap(2000);
    let one = QosField::AtLeastOnce;
    let busy = ReturnCode::CONGESTION;
    world.ask(1, publish(one, TopicRef::Normal(id), 5), &[puback(id, 5, busy)]);
    world.ask(1, publish(QosField::ExactlyOnce, TopicRef::Normal(id), 5), &[puback(id, 5, busy)]);
    world.ask(1, Message::Register { topic_id: 0, msg_id: 9, name: b"new" }, &[regack(0, 9, busy)]);
    let ack = TopicAck { topic_id: 0, msg_id: 5, code: busy };
    let subscribe = Message::Subscribe { dup: false, qos: one, msg_id: 5, filter: FilterRef::Short(*b"xy") };
    world.ask(1, subscribe, &[Message::Suback { qos: QosField::AtMostOnce, ack }]);
    world.ask(2, connect("other", true, 60), &[Message::Connack(busy)]);
    world.ask(1, Message::WillMsgUpd(b"larger"), &[Message::WillMsgResp(busy)]);
    world.ask(1, Message::Pingreq { client_id: b"" }, &[Message::Pingresp]);
    assert_eq!(world.gateway.len(), 1);
}

/// Random and half-random datagrams from a few addresses, with time passing: the tables never contradict each other.
#[test]
fn any_sequence_of_datagrams_leaves_the_tables_whole() {
    for seed in 1..=40u32 {
        let mut state = seed;
        let mut next = move |n: u32| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state % n
        };
        let mut world = World::with(
            "allow_anonymous true\nmqttsn_allow_forwarder true\nmqttsn_allow_qos_minus_one true\n\
             mqttsn_max_topic_ids 5\nmax_queued_messages 5\nmqttsn_max_inflight 2\nmax_connections 5\n\
             mqttsn_predefined_topic 1 pre/one",
        );
        let names: [&[u8]; 6] = [b"a", b"xy", b"a/b", b"#", b"a/+", b"$share/g/a/#"];
        for _ in 0..300 {
            let id = u16::try_from(next(4)).unwrap();
            let qos = QosField::from_bits(next(4).to_le_bytes()[0]);
            let topic = TopicRef::new(next(4).to_le_bytes()[0], id);
            let client_id: &[u8] = [&b"c1"[..], b"c2", b"c3", b""][next(4) as usize];
            let name = names[next(6) as usize];
            let code = ReturnCode(next(4).to_le_bytes()[0]);
            let ack = TopicAck { topic_id: id, msg_id: id, code };
            let filter = match next(3) {
                0 => FilterRef::Name(name),
                1 => FilterRef::Predefined(id),
                _ => FilterRef::Short(*b"xy"),
            };
            let (yes, no) = (next(2) == 0, next(2) == 0);
            let will = Some(crate::proto::sn::wire::WillTopic { qos, retain: yes, topic: name });
            let message = match next(20) {
                0 | 1 => Message::Connect(Connect {
                    will: yes,
                    clean_session: no,
                    protocol_id: 1,
                    duration_s: 20,
                    client_id,
                }),
                2 => Message::WillTopic(will),
                3 => Message::WillMsg(name),
                4 => Message::Register { topic_id: 0, msg_id: id, name },
                5 => Message::Regack(ack),
                6..=8 => Message::Publish(Publish { dup: yes, qos, retain: no, topic, msg_id: id, data: name }),
                9 => Message::Puback(ack),
                10 => Message::Pubrec { msg_id: id },
                11 => Message::Pubrel { msg_id: id },
                12 => Message::Pubcomp { msg_id: id },
                13 | 14 => Message::Subscribe { dup: no, qos, msg_id: id, filter },
                15 => Message::Unsubscribe { msg_id: id, filter },
                16 => Message::Pingreq { client_id },
                17 => Message::Disconnect { duration_s: yes.then_some(id) },
                18 => Message::WillTopicUpd(will),
                _ => Message::WillMsgUpd(name),
            };
            let mut datagram = Vec::new();
            if next(4) == 0 {
                let node_id = &[1 + next(2).to_le_bytes()[0]];
                super::super::super::wire::encapsulate(&mut datagram, Encapsulation { radius: 0, node_id });
            }
            message.encode(&mut datagram).unwrap();
            if next(10) == 0 {
                let at = next(u32::try_from(datagram.len()).unwrap()) as usize;
                datagram[at] ^= 1 << next(8);
            }
            world.raw(1 + u16::try_from(next(3)).unwrap(), &datagram);
            if next(5) == 0 {
                world.wait(u64::from(next(8000)));
            }
            if next(20) == 0 {
                world.publish("a/b", b"x", QoS::ExactlyOnce, false);
            }
            if next(30) == 0 {
                world.mqtt("c1", "a/#");
            }
            for bytes in world.sent.drain(..).map(|(_, bytes)| bytes) {
                assert!(type_of(&bytes).is_some(), "seed {seed}: {bytes:?}");
            }
        }
        let count = world.gateway.len() as u64;
        assert_eq!(world.broker.stats.sn.active + world.broker.stats.sn.asleep, count, "seed {seed}");
        let moves: i64 = world.gateway.take_moves().map(|(_, came)| if came { 1 } else { -1 }).sum();
        assert_eq!(moves.unsigned_abs(), count, "seed {seed}");
    }
}
