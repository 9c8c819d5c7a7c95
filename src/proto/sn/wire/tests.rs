//! Each message in both directions, and every way its bytes can be wrong.

use super::*;

fn ack(topic_id: u16, msg_id: u16, code: u8) -> TopicAck {
    TopicAck { topic_id, msg_id, code: ReturnCode(code) }
}

/// One message of every type and form, with its bytes after the length octet.
fn examples() -> Vec<(Message<'static>, &'static [u8])> {
    use Message as M;
    let will = |qos, retain| Some(WillTopic { qos, retain, topic: b"w" });
    let publish = |dup, qos, retain, topic, msg_id, data| M::Publish(Publish { dup, qos, retain, topic, msg_id, data });
    let connect = |will, clean_session, duration_s, client_id| {
        M::Connect(Connect { will, clean_session, protocol_id: 1, duration_s, client_id })
    };
    let subscribe = |dup, qos, filter| M::Subscribe { dup, qos, msg_id: 9, filter };
    vec![
        (M::Advertise { gateway_id: 7, duration_s: 900 }, &[0x00, 7, 3, 0x84]),
        (M::SearchGw { radius: 2 }, &[0x01, 2]),
        (M::GwInfo { gateway_id: 7, address: b"" }, &[0x02, 7]),
        (M::GwInfo { gateway_id: 7, address: &[10, 0, 0, 1] }, &[0x02, 7, 10, 0, 0, 1]),
        (connect(false, true, 60, b"dev"), &[0x04, 0x04, 1, 0, 60, b'd', b'e', b'v']),
        (connect(true, false, 0x1234, b"d"), &[0x04, 0x08, 1, 0x12, 0x34, b'd']),
        (connect(false, true, 0, b""), &[0x04, 0x04, 1, 0, 0]),
        (M::Connack(ReturnCode::CONGESTION), &[0x05, 1]),
        (M::WillTopicReq, &[0x06]),
        (M::WillTopic(None), &[0x07]),
        (M::WillTopic(will(QosField::AtLeastOnce, true)), &[0x07, 0x30, b'w']),
        (M::WillMsgReq, &[0x08]),
        (M::WillMsg(b"gone"), b"\x09gone"),
        (M::WillMsg(b""), &[0x09]),
        (M::Register { topic_id: 0, msg_id: 5, name: b"a/b" }, &[0x0A, 0, 0, 0, 5, b'a', b'/', b'b']),
        (M::Regack(ack(3, 5, 2)), &[0x0B, 0, 3, 0, 5, 2]),
        (publish(false, QosField::AtMostOnce, false, TopicRef::Normal(1), 0, b"x"), &[0x0C, 0, 0, 1, 0, 0, b'x']),
        (publish(true, QosField::AtLeastOnce, true, TopicRef::Predefined(2), 3, b""), &[0x0C, 0xB1, 0, 2, 0, 3]),
        (
            publish(false, QosField::ExactlyOnce, false, TopicRef::Short(*b"ab"), 3, b""),
            &[0x0C, 0x42, b'a', b'b', 0, 3],
        ),
        (publish(false, QosField::MinusOne, false, TopicRef::Reserved(4), 0, b""), &[0x0C, 0x63, 0, 4, 0, 0]),
        (M::Puback(ack(1, 2, 0)), &[0x0D, 0, 1, 0, 2, 0]),
        (M::Pubcomp { msg_id: 2 }, &[0x0E, 0, 2]),
        (M::Pubrec { msg_id: 2 }, &[0x0F, 0, 2]),
        (M::Pubrel { msg_id: 0x0203 }, &[0x10, 2, 3]),
        (subscribe(false, QosField::AtLeastOnce, FilterRef::Name(b"a/#")), &[0x12, 0x20, 0, 9, b'a', b'/', b'#']),
        (subscribe(true, QosField::ExactlyOnce, FilterRef::Predefined(8)), &[0x12, 0xC1, 0, 9, 0, 8]),
        (subscribe(false, QosField::AtMostOnce, FilterRef::Short(*b"ab")), &[0x12, 0x02, 0, 9, b'a', b'b']),
        (subscribe(false, QosField::MinusOne, FilterRef::Reserved), &[0x12, 0x63, 0, 9]),
        (subscribe(false, QosField::AtMostOnce, FilterRef::Name(b"")), &[0x12, 0, 0, 9]),
        (M::Suback { qos: QosField::ExactlyOnce, ack: ack(1, 9, 0) }, &[0x13, 0x40, 0, 1, 0, 9, 0]),
        (M::Unsubscribe { msg_id: 9, filter: FilterRef::Name(b"a") }, &[0x14, 0, 0, 9, b'a']),
        (M::Unsubscribe { msg_id: 9, filter: FilterRef::Predefined(8) }, &[0x14, 1, 0, 9, 0, 8]),
        (M::Unsubscribe { msg_id: 9, filter: FilterRef::Short(*b"ab") }, &[0x14, 2, 0, 9, b'a', b'b']),
        (M::Unsuback { msg_id: 9 }, &[0x15, 0, 9]),
        (M::Pingreq { client_id: b"" }, &[0x16]),
        (M::Pingreq { client_id: b"dev" }, b"\x16dev"),
        (M::Pingresp, &[0x17]),
        (M::Disconnect { duration_s: None }, &[0x18]),
        (M::Disconnect { duration_s: Some(300) }, &[0x18, 1, 44]),
        (M::WillTopicUpd(None), &[0x1A]),
        (M::WillTopicUpd(will(QosField::ExactlyOnce, false)), &[0x1A, 0x40, b'w']),
        (M::WillTopicResp(ReturnCode::ACCEPTED), &[0x1B, 0]),
        (M::WillMsgUpd(b"m"), b"\x1Cm"),
        (M::WillMsgUpd(b""), &[0x1C]),
        (M::WillMsgResp(ReturnCode::NOT_SUPPORTED), &[0x1D, 3]),
    ]
}

fn short(rest: &[u8]) -> Vec<u8> {
    let length = u8::try_from(rest.len() + 1).unwrap();
    [&[length], rest].concat()
}

fn long(rest: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(rest.len() + 3).unwrap().to_be_bytes();
    [&[1, high, low], rest].concat()
}

fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out).unwrap();
    out
}

/// [SN 5.4]
#[test]
fn every_message_has_its_bytes_in_both_length_forms() {
    for (message, rest) in examples() {
        assert_eq!(encoded(&message), short(rest), "{message:?}");
        assert_eq!(Message::decode(&short(rest)), Ok(message));
        // [SN 5.2.1]: a small message may take the long form.
        assert_eq!(Message::decode(&long(rest)), Ok(message));
    }
}

/// [SN 5.2.2]
#[test]
fn every_type_has_an_example_and_the_others_are_reserved() {
    let seen: Vec<MessageType> = examples().iter().map(|(message, _)| message.message_type()).collect();
    for byte in 0..=255u8 {
        match MessageType::from_byte(byte) {
            Some(message_type) => {
                assert_eq!(message_type as u8, byte);
                assert!(seen.contains(&message_type), "{message_type}");
            }
            None => {
                assert!(matches!(byte, 3 | 0x11 | 0x19 | 0x1E..), "{byte:02X}");
                assert_eq!(Message::decode(&[2, byte]), Err(Fault::Type(byte)));
            }
        }
    }
}

/// Least and most octets of the variable part, `None` for up to the end [SN 5.4].
fn sizes(message_type: MessageType) -> (usize, Option<usize>) {
    use MessageType as T;
    match message_type {
        T::Advertise => (3, Some(3)),
        T::SearchGw | T::Connack | T::WillTopicResp | T::WillMsgResp => (1, Some(1)),
        T::GwInfo => (1, None),
        T::Connect => (4, None),
        T::WillTopicReq | T::WillMsgReq | T::Pingresp => (0, Some(0)),
        T::WillTopic | T::WillTopicUpd | T::WillMsg | T::WillMsgUpd | T::Pingreq => (0, None),
        T::Register => (4, None),
        T::Regack | T::Puback => (5, Some(5)),
        T::Publish => (5, None),
        T::Pubrec | T::Pubrel | T::Pubcomp | T::Unsuback => (2, Some(2)),
        T::Subscribe | T::Unsubscribe => (3, None),
        T::Suback => (6, Some(6)),
        T::Disconnect => (0, Some(2)),
    }
}

/// [SN 5.2]
#[test]
fn a_message_that_is_cut_or_too_long_is_a_fault() {
    for byte in 0..=0x1D {
        let Some(message_type) = MessageType::from_byte(byte) else { continue };
        let (least, most) = sizes(message_type);
        for len in 0..12 {
            let bytes = short(&[&[byte][..], &vec![0; len]].concat());
            let fits = len >= least && most.is_none_or(|most| len <= most);
            // The gaps: a will topic of one octet is flags without a topic, a duration has two octets.
            let gap = matches!(byte, 0x07 | 0x1A | 0x18) && len == 1;
            let got = Message::decode(&bytes);
            if fits && !gap {
                assert_eq!(got.map(|m| m.message_type()), Ok(message_type), "{len}");
            } else {
                assert_eq!(got, Err(Fault::Size(message_type)), "{len}");
            }
        }
    }
    // The id forms of SUBSCRIBE have exactly two octets there.
    for flags in [1, 2] {
        for rest in [&[][..], &[1], &[1, 2, 3]] {
            for byte in [0x12, 0x14] {
                let bytes = short(&[&[byte, flags, 0, 1], rest].concat());
                assert!(matches!(Message::decode(&bytes), Err(Fault::Size(_))), "{bytes:?}");
            }
        }
    }
}

/// [SN 5.2.1]
#[test]
fn the_length_says_exactly_how_long_the_datagram_is() {
    for bytes in [&[][..], &[0], &[1], &[2], &[1, 0], &[1, 0, 3], &[1, 0, 4]] {
        assert_eq!(Message::decode(bytes), Err(Fault::Short), "{bytes:?}");
    }
    for bytes in [
        &[0, 0x17][..],
        &[3, 0x17],
        &[2, 0x17, 0],
        &[1, 0, 0, 0x17],
        &[1, 0, 3, 0x17],
        &[1, 0, 5, 0x17],
        &[1, 0, 4, 0x17, 0],
        &[1, 0xFF, 0xFF, 0x17],
        &[255, 0x17],
    ] {
        assert_eq!(Message::decode(bytes), Err(Fault::Length), "{bytes:?}");
    }
    for (_, rest) in examples() {
        for bytes in [short(rest), long(rest)] {
            for cut in 0..bytes.len() {
                assert!(Message::decode(&bytes[..cut]).is_err(), "{bytes:?} cut to {cut}");
            }
            assert_eq!(Message::decode(&[&bytes[..], &[0]].concat()), Err(Fault::Length));
        }
    }
}

/// [SN 5.2.1]
#[test]
fn both_forms_meet_at_255_octets_and_end_at_65535() {
    let publish = |len: usize| Publish {
        dup: false,
        qos: QosField::AtMostOnce,
        retain: false,
        topic: TopicRef::Normal(1),
        msg_id: 0,
        data: &DATA[..len],
    };
    static DATA: [u8; 70_000] = [0xAB; 70_000];
    // 248 octets of data fill the short form; one more takes two octets more of header.
    for (len, total) in [(247, 254), (248, 255), (249, 258), (250, 259), (1391, 1400), (65_526, 65_535)] {
        let message = Message::Publish(publish(len));
        let bytes = encoded(&message);
        assert_eq!((bytes.len(), bytes[0]), (total, u8::try_from(total).unwrap_or(1)));
        assert_eq!(Message::decode(&bytes), Ok(message));
    }
    // Nobody needs the long form for 256 or 257 octets, but it can say so.
    for total in [254u16, 255, 256, 257] {
        let [high, low] = total.to_be_bytes();
        let bytes = [&[1, high, low, 0x0C, 0, 0, 1, 0, 0][..], &DATA[..usize::from(total) - 9]].concat();
        assert_eq!(Message::decode(&bytes), Ok(Message::Publish(publish(usize::from(total) - 9))));
    }
    let mut out = vec![1, 2, 3];
    assert_eq!(Message::Publish(publish(65_535 - 8)).encode(&mut out), Err(TooLong));
    assert_eq!(out, [1, 2, 3]);
}

/// [SN 5.3.4]
#[test]
fn flags_that_a_message_does_not_use_are_ignored() {
    let bare = Message::decode(&[8, 4, 0xF3, 1, 0, 9, b'i', b'd']).unwrap();
    assert_eq!(
        bare,
        Message::Connect(Connect {
            will: false,
            clean_session: false,
            protocol_id: 1,
            duration_s: 9,
            client_id: b"id"
        })
    );
    let will = Message::decode(&[4, 7, 0x8F, b'w']).unwrap();
    assert_eq!(will, Message::WillTopic(Some(WillTopic { qos: QosField::AtMostOnce, retain: false, topic: b"w" })));
    let unsubscribe = Message::decode(&[6, 0x14, 0xFC, 0, 9, b'a']).unwrap();
    assert_eq!(unsubscribe, Message::Unsubscribe { msg_id: 9, filter: FilterRef::Name(b"a") });
    let suback = Message::decode(&[8, 0x13, 0xBF, 0, 1, 0, 9, 0]).unwrap();
    assert_eq!(suback, Message::Suback { qos: QosField::AtLeastOnce, ack: ack(1, 9, 0) });
}

/// [SN 5.5]
#[test]
fn an_encapsulation_holds_one_message_and_one_node() {
    for len in [1usize, 2, 30, frame::MAX_NODE_ID] {
        let node_id = vec![0xFE; len];
        let mut bytes = Vec::new();
        encapsulate(&mut bytes, Encapsulation { radius: 2, node_id: &node_id });
        Message::Pingresp.encode(&mut bytes).unwrap();
        assert_eq!(usize::from(bytes[0]), len + 3);
        let (by, inner) = frame::split(&bytes).unwrap();
        assert_eq!(by, Some(Encapsulation { radius: 2, node_id: &node_id }));
        assert_eq!(Message::decode(inner), Ok(Message::Pingresp));
    }
    // The inner message may be long.
    let inner = long(&[0x17]);
    let bytes = [&[4, 0xFE, 0xFD, 9], &inner[..]].concat();
    assert_eq!(frame::split(&bytes), Ok((Some(Encapsulation { radius: 1, node_id: &[9] }), &inner[..])));
    for bytes in [
        &[3, 0xFE, 0, 2, 0x17][..],
        &[2, 0xFE, 0, 2, 0x17],
        &[0, 0xFE, 0, 2, 0x17],
        &[4, 0xFE, 0, 9],
        &[4, 0xFE, 0],
        &[200, 0xFE, 0, 9, 2, 0x17],
        &[4, 0xFE, 0, 9, 4, 0xFE, 0, 9, 2, 0x17],
    ] {
        assert_eq!(frame::split(bytes), Err(Fault::Encapsulation), "{bytes:?}");
    }
    // Not one at all: what it is instead, the message decoder says.
    for bytes in [&[][..], &[2], &[2, 0xFE], &[2, 0x17]] {
        assert_eq!(frame::split(bytes), Ok((None, bytes)));
    }
    assert_eq!(Message::decode(&[2, 0xFE]), Err(Fault::Type(0xFE)));
    assert_eq!(Message::decode(&[1, 0, 4, 0xFE]), Err(Fault::Type(0xFE)));
}

/// Decodes to the same again after encoding, and never panics.
#[test]
fn whatever_decodes_encodes_to_the_same() {
    let mut state = 0x2545_F491u32;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut decoded = 0;
    for _ in 0..200_000 {
        let len = next() as usize % 14;
        let mut bytes: Vec<u8> = (0..len).map(|_| next().to_le_bytes()[0]).collect();
        if let Some(first) = bytes.first_mut().filter(|_| next() % 4 != 0) {
            *first = u8::try_from(len).unwrap();
        }
        if let Some(second) = bytes.get_mut(1).filter(|_| next() % 2 != 0) {
            *second %= 0x20;
        }
        let Ok((_, inner)) = frame::split(&bytes) else { continue };
        let Ok(message) = Message::decode(inner) else { continue };
        decoded += 1;
        assert_eq!(Message::decode(&encoded(&message)), Ok(message), "{bytes:02X?}");
    }
    assert!(decoded > 10_000, "{decoded}");
}
