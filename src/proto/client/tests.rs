use super::*;
use crate::wire::connect::{ConnackProps, encode_connack};
use ProtocolVersion::{V5, V31, V311};

const TERMS: Terms = Terms { patience_ms: 5000, max_packet_in: 1000, max_packet_out: 0, max_aliases_out: 2 };

/// What came of input, in short words.
fn take(client: &mut Client, now_ms: u64, input: &[u8]) -> Result<Vec<String>, Fault> {
    let mut seen = Vec::new();
    client.on_bytes(now_ms, input, |_, event| {
        seen.push(match event {
            Event::Connected { session_present } => format!("connected {session_present}"),
            Event::Refused(form) => format!("{form:?}"),
            Event::Publish(publish, topic) => format!("{topic}={}", String::from_utf8_lossy(publish.payload)),
            Event::Suback(id, codes) => format!("suback {} {codes:?}", id.get()),
            Event::Unsuback(id) => format!("unsuback {}", id.get()),
            Event::Unasked(packet, id) => format!("unasked {packet} {}", id.get()),
            other => format!("{other:?}"),
        });
        Ok::<bool, Fault>(true)
    })?;
    Ok(seen)
}

fn begun(version: ProtocolVersion) -> Client {
    let mut out = Vec::new();
    let connect = Connect { topic_alias_maximum: 2, ..Connect::new(version, "c", 10) };
    let client = Client::connect(0, &mut out, &connect, TERMS);
    assert_eq!(out[0], 0x10);
    client
}

fn live(version: ProtocolVersion) -> Client {
    let mut client = begun(version);
    let connack: &[u8] = if version == V5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
    assert_eq!(take(&mut client, 0, connack).unwrap(), ["connected false"]);
    client
}

#[test]
fn connack_comes_first_and_once() {
    for (version, input, wanted) in [
        (V311, &[0x20, 2, 1, 0][..], Ok("connected true")),
        (V31, &[0x20, 2, 1, 0], Ok("connected false")),
        (V311, &[0x20, 2, 0, 5], Ok("V3(5)")),
        (V5, &[0x20, 2, 0, 1], Ok("V3(1)")),
        (V5, &[0x20, 3, 0, 0x84, 0], Ok("V5(ReasonCode(132))")),
        (V5, &[0x20, 2, 0, 0], Err(Fault::Decode(DecodeError::Truncated(PacketType::Connack)))),
        (V311, &[0x90, 3, 0, 1, 0], Err(Fault::NotConnack(PacketType::Suback))),
        (V311, &[0xD0, 0], Err(Fault::NotConnack(PacketType::Pingresp))),
        (V311, &[0x20, 2, 0, 0, 0x20, 2, 0, 0], Err(Fault::Unexpected(PacketType::Connack))),
    ] {
        let got = take(&mut begun(version), 0, input);
        assert_eq!(got.as_ref().map(|seen| &*seen[0]), wanted.as_ref().map(|text| *text), "{version:?} {input:02X?}");
    }
    let mut refused = begun(V311);
    take(&mut refused, 0, &[0x20, 2, 0, 5, 0x20, 2, 0, 0]).unwrap();
    assert!(!refused.is_live() && refused.deadline().is_none());
    assert_eq!(take(&mut refused, 0, &[0x20, 2, 0, 0]).unwrap(), [""; 0], "nothing is taken any more");
}

#[test]
fn any_split_of_the_input_gives_the_same_events() {
    let input = [&[0x20, 2, 0, 0][..], &[0x30, 4, 0, 1, b't', b'x'], &[0xD0, 0], &[0x40, 2, 0, 9]].concat();
    let whole = take(&mut begun(V311), 0, &input).unwrap();
    assert_eq!(whole.len(), 4);
    for at in 0..input.len() {
        let mut client = begun(V311);
        let mut seen = take(&mut client, 0, &input[..at]).unwrap();
        seen.extend(take(&mut client, 0, &input[at..]).unwrap());
        assert_eq!(seen, whole, "{at}");
    }
    // An owner that stops gets the rest later.
    let (mut client, mut seen) = (begun(V311), 0);
    let mut count = |client: &mut Client, input: &[u8]| {
        client.on_bytes::<Fault>(0, input, |_, _| {
            seen += 1;
            Ok(false)
        })
    };
    count(&mut client, &input).unwrap();
    while client.has_kept() {
        count(&mut client, &[]).unwrap();
    }
    assert_eq!(seen, 4);
}

#[test]
fn what_the_server_takes_is_learned() {
    let props = ConnackProps {
        server_keep_alive: Some(3),
        topic_alias_maximum: 9,
        retain_available: Some(false),
        max_packet_size: Some(20),
        receive_maximum: Some(4),
        maximum_qos: Some(1),
        ..ConnackProps::default()
    };
    let mut connack = Vec::new();
    encode_connack(&mut connack, ConnackForm::V5(ReasonCode::SUCCESS), false, &props);
    let mut client = begun(V5);
    take(&mut client, 1000, &connack).unwrap();
    assert_eq!(
        *client.limits(),
        ServerLimits {
            receive_maximum: 4,
            said_receive_maximum: true,
            maximum_qos: QoS::AtLeastOnce,
            retain_available: false
        }
    );
    assert_eq!((client.keepalive_s(), client.deadline()), (3, Some(3000)), "from CONNECT on, the last that was sent");
    let head = |topic, payload_len| PublishHead {
        version: V5,
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: None,
        forwardable: &[],
        expiry: None,
        topic_alias: None,
        subscription_id: None,
        payload_len,
    };
    let alias = |client: &mut Client, topic| {
        let mut head = head(topic, 1);
        client.fit(&mut head).map(|()| head.topic_alias)
    };
    assert_eq!(alias(&mut client, "a"), Ok(Some(1)));
    assert_eq!(alias(&mut client, "b"), Ok(Some(2)));
    assert_eq!(alias(&mut client, "c"), Ok(None), "our own terms count too");
    assert_eq!(client.fit(&mut head("c", 100)), Err(106));
}

#[test]
fn answers_are_those_to_what_was_asked() {
    let id = |n| PacketId::new(n).unwrap();
    let options = SubscribeOptions::default();
    for (version, input, wanted) in [
        (V311, &[0x90, 3, 0, 7, 1][..], Ok("suback 7 [1]")),
        (V311, &[0x90, 2, 0, 7], Err((0, 1))),
        (V311, &[0x90, 4, 0, 7, 0, 0], Err((2, 1))),
        (V311, &[0x90, 3, 0, 8, 0], Ok("unasked SUBACK 8")),
        (V311, &[0xB0, 2, 0, 8], Ok("unsuback 8")),
        (V311, &[0xB0, 2, 0, 7], Ok("unasked UNSUBACK 7")),
        (V5, &[0xB0, 4, 0, 8, 0, 17], Ok("unsuback 8")),
        (V5, &[0xB0, 3, 0, 8, 0], Err((0, 1))),
        (V5, &[0x90, 4, 0, 7, 0, 0x87], Ok("suback 7 [135]")),
    ] {
        let mut client = live(version);
        let mut out = Vec::new();
        client.subscribe(0, &mut out, id(7), &[("a", options)]);
        client.unsubscribe(0, &mut out, id(8), &["b"]);
        match (take(&mut client, 0, input), wanted) {
            (Ok(seen), Ok(wanted)) => assert_eq!(seen, [wanted]),
            (Err(Fault::Codes { codes, filters, .. }), Err(wanted)) => assert_eq!((codes, filters), wanted),
            other => panic!("{input:02X?}: {other:?}"),
        }
        // An answer comes once.
        if wanted.is_ok_and(|wanted| !wanted.starts_with("unasked")) {
            assert!(take(&mut client, 0, input).unwrap()[0].starts_with("unasked"));
        }
    }
}

#[test]
fn aliases_of_the_server_are_kept_within_what_was_agreed() {
    let mut client = live(V5);
    let publish = |topic: &[u8], alias: u8| {
        let mut bytes = vec![0x30, u8::try_from(topic.len() + 7).unwrap(), 0, u8::try_from(topic.len()).unwrap()];
        bytes.extend_from_slice(topic);
        bytes.extend_from_slice(&[3, 0x23, 0, alias, b'x']);
        bytes
    };
    assert_eq!(take(&mut client, 0, &publish(b"a", 1)).unwrap(), ["a=x"]);
    assert_eq!(take(&mut client, 0, &publish(b"", 1)).unwrap(), ["a=x"]);
    assert_eq!(take(&mut client, 0, &publish(b"b", 1)).unwrap(), ["b=x"]);
    assert_eq!(take(&mut client, 0, &publish(b"", 1)).unwrap(), ["b=x"]);
    for (topic, alias) in [(&b""[..], 2), (b"c", 3)] {
        let mut client = live(V5);
        assert_eq!(take(&mut client, 0, &publish(topic, alias)), Err(Fault::TopicAlias(u16::from(alias))));
    }
}

#[test]
fn what_is_not_for_a_client_ends_the_connection() {
    for (version, input, code) in [
        (V311, &[0xE0, 0][..], 0x82),
        (V5, &[0xF0, 2, 0, 0], 0x82),
        (V5, &[0xC0, 0], 0x82),
        (V5, &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0], 0x82),
        (V5, &[0x30, 0xFF, 0x7F], 0x95),
    ] {
        let fault = take(&mut live(version), 0, input).unwrap_err();
        assert_eq!(fault.code(), Some(ReasonCode(code)), "{input:02X?}: {fault}");
        assert!(!fault.to_string().ends_with('.'), "{fault}");
    }
    let mut client = live(V5);
    assert_eq!(take(&mut client, 0, &[0xE0, 1, 0x8B]).unwrap(), ["Disconnect(ReasonCode(139))"]);
    assert!(!client.is_live());
}

#[test]
fn silence_is_noticed_and_every_packet_is_a_sign_of_life() {
    let mut out = Vec::new();
    let mut waiting = begun(V311);
    assert_eq!(waiting.deadline(), Some(5000));
    assert_eq!(waiting.on_timer(4999, &mut out), Ok(false));
    assert_eq!(waiting.on_timer(5000, &mut out), Err(Fault::NoConnack));

    let mut client = live(V311);
    assert_eq!((client.on_timer(9999, &mut out), client.deadline()), (Ok(false), Some(10_000)));
    assert_eq!((client.on_timer(10_000, &mut out), &*out), (Ok(true), &control::PINGREQ[..]));
    assert_eq!(take(&mut client, 10_050, &[0xD0, 0]).unwrap(), ["Pingresp"]);
    // Much was sent, and nothing came: that is silence too.
    client.sent(15_000);
    assert_eq!(client.on_timer(20_000, &mut out), Ok(false));
    assert_eq!(client.on_timer(20_050, &mut out), Ok(true));
    take(&mut client, 25_000, &[0x40, 2, 0, 1]).unwrap();
    assert_eq!(client.on_timer(34_999, &mut out), Ok(false), "the packet counts");
    assert_eq!(client.on_timer(35_000, &mut out), Err(Fault::Silence));

    // Without a keepalive nothing is ever due, but for a packet that does not go on.
    let connect = Connect::new(V311, "c", 0);
    let mut client = Client::connect(0, &mut Vec::new(), &connect, TERMS);
    take(&mut client, 0, &[0x20, 2, 0, 0]).unwrap();
    assert_eq!(client.deadline(), None);
    take(&mut client, 0, &[0x30, 100, 0]).unwrap();
    let due = client.deadline().unwrap();
    assert_eq!(client.on_timer(due, &mut out), Err(Fault::Stalled));
}
