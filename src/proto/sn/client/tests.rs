//! The client against a gateway that the tests play themselves.

use super::*;
use crate::proto::sn::wire::{FilterRef, Publish, TopicAck, TopicRef};

const RETRY_MS: u64 = 10_000;
const OK: ReturnCode = ReturnCode::ACCEPTED;

/// A client, the time, and what the gateway is about to say.
struct Bench {
    client: Client,
    now_ms: u64,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Settings)) -> Bench {
        let mut settings = Settings::new("c");
        change(&mut settings);
        Bench { client: Client::new(settings), now_ms: 1000 }
    }

    /// A bench with a connected client.
    fn connected(change: impl FnOnce(&mut Settings)) -> Bench {
        let mut bench = Bench::new(change);
        bench.connect();
        bench
    }

    fn connect(&mut self) {
        self.client.connect(self.now_ms);
        assert_eq!(self.sent().first().map(|bytes| bytes[1]), Some(0x04));
        self.hear(&Message::Connack(OK));
        assert_eq!(self.client.take_event(), Some(Event::Connected));
    }

    /// Everything the client sent.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.client.take_datagram()).collect()
    }

    /// The client sent exactly this.
    #[track_caller]
    fn expect(&mut self, wanted: &[Message<'_>]) {
        let sent = self.sent();
        let got: Vec<_> = sent.iter().map(|bytes| Message::decode(bytes).expect("a message")).collect();
        assert_eq!(got, wanted);
    }

    fn hear(&mut self, message: &Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).expect("short enough");
        self.client.on_datagram(self.now_ms, &bytes);
    }

    /// Lets the client's next deadline pass, which is so far away.
    #[track_caller]
    fn wait(&mut self, ms: u64) {
        assert_eq!(self.client.deadline(), Some(self.now_ms + ms));
        self.now_ms += ms;
        self.client.on_timer(self.now_ms);
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.take_event()).collect()
    }

    fn publish(&mut self, topic: &str, qos: QoS, payload: &[u8]) -> Ticket {
        self.client.publish(self.now_ms, Topic::new(topic), qos, false, payload).expect("short enough")
    }

    fn subscribe(&mut self, topic: Topic, qos: QoS) -> Ticket {
        self.client.subscribe(self.now_ms, topic, qos).expect("short enough")
    }

    /// Connected, with `a/b` known as topic id 7.
    fn with_topic(change: impl FnOnce(&mut Settings)) -> Bench {
        let mut bench = Bench::connected(change);
        bench.publish("a/b", QoS::AtMostOnce, b"");
        let msg_id = 1;
        bench.expect(&[Message::Register { topic_id: 0, msg_id, name: b"a/b" }]);
        bench.hear(&Message::Regack(ack(7, msg_id, OK)));
        bench.sent();
        bench.events();
        bench
    }
}

fn ack(topic_id: u16, msg_id: u16, code: ReturnCode) -> TopicAck {
    TopicAck { topic_id, msg_id, code }
}

fn publish(topic: TopicRef, qos: QoS, msg_id: u16, data: &[u8]) -> Publish<'_> {
    Publish { dup: false, qos: qos.into(), retain: false, topic, msg_id, data }
}

fn received(topic: Topic, qos: QoS, msg_id: u16, payload: &[u8]) -> Event {
    Event::Message(Received { topic, qos, retain: false, dup: false, msg_id, payload: payload.into() })
}

fn name(text: &str) -> Topic {
    Topic::Name(text.into())
}

#[test]
fn a_name_of_two_octets_is_a_short_one() {
    assert_eq!(Topic::new("ab"), Topic::Short(*b"ab"));
    for text in ["a", "abc", "+a", "a#", "#", ""] {
        assert_eq!(Topic::new(text), name(text));
    }
}

/// [SN 6.2]
#[test]
fn the_will_dialogue() {
    let will = Will { topic: "w".into(), payload: b"gone".to_vec(), qos: QoS::AtLeastOnce, retain: true };
    let mut bench = Bench::new(|s| {
        s.will = Some(will);
        s.clean_session = false;
    });
    let connect =
        Message::Connect(Connect { will: true, clean_session: false, protocol_id: 1, duration_s: 60, client_id: b"c" });
    let topic = Message::WillTopic(Some(WillTopic { qos: QosField::AtLeastOnce, retain: true, topic: b"w" }));
    bench.client.connect(1000);
    bench.expect(&[connect]);
    bench.hear(&Message::WillTopicReq);
    bench.expect(&[topic]);
    // Its answer is lost: the gateway asks again, or the client begins again.
    bench.hear(&Message::WillTopicReq);
    bench.expect(&[topic]);
    bench.wait(RETRY_MS);
    bench.expect(&[connect]);
    bench.hear(&Message::WillTopicReq);
    bench.hear(&Message::WillMsgReq);
    bench.expect(&[topic, Message::WillMsg(b"gone")]);
    bench.hear(&Message::Connack(OK));
    assert_eq!(bench.events(), [Event::Connected]);
    // A copy of CONNECT came late; the gateway must not wait in vain.
    bench.hear(&Message::WillTopicReq);
    bench.hear(&Message::WillMsgReq);
    bench.expect(&[topic, Message::WillMsg(b"gone")]);
    assert!(bench.client.is_active());
}

#[test]
fn a_refusal_and_silence_end_the_set_up() {
    let mut bench = Bench::new(|_| {});
    bench.client.connect(1000);
    bench.hear(&Message::Connack(ReturnCode::CONGESTION));
    assert_eq!(bench.events(), [Event::Refused(ReturnCode::CONGESTION)]);
    assert!(bench.client.is_disconnected());
    bench.client.connect(1000);
    for _ in 0..4 {
        bench.wait(RETRY_MS);
    }
    // Both first tries and three more.
    assert_eq!(bench.sent().len(), 2 + 3);
    assert_eq!(bench.events(), [Event::Lost]);
    assert_eq!(bench.client.deadline(), None);
}

/// [SN 6.5, 6.6]
#[test]
fn a_name_is_registered_once_and_before_its_first_message() {
    let mut bench = Bench::connected(|_| {});
    let first = bench.publish("a/b", QoS::AtLeastOnce, b"1");
    let second = bench.publish("a/b", QoS::AtMostOnce, b"2");
    bench.expect(&[Message::Register { topic_id: 0, msg_id: 2, name: b"a/b" }]);
    // An answer to something else changes nothing.
    bench.hear(&Message::Regack(ack(9, 77, OK)));
    bench.expect(&[]);
    bench.hear(&Message::Regack(ack(7, 2, OK)));
    bench.expect(&[Message::Publish(publish(TopicRef::Normal(7), QoS::AtLeastOnce, 1, b"1"))]);
    bench.hear(&Message::Puback(ack(7, 1, OK)));
    bench.expect(&[Message::Publish(publish(TopicRef::Normal(7), QoS::AtMostOnce, 0, b"2"))]);
    assert_eq!(bench.events(), [first, second].map(|ticket| Event::Finished(ticket, Outcome::Done)));
}

#[test]
fn short_and_predefined_topics_need_no_registration() {
    let mut bench = Bench::connected(|_| {});
    bench.publish("ab", QoS::AtMostOnce, b"x");
    bench.client.publish(1000, Topic::Predefined(9), QoS::AtMostOnce, false, b"y").unwrap();
    bench.expect(&[
        Message::Publish(publish(TopicRef::Short(*b"ab"), QoS::AtMostOnce, 0, b"x")),
        Message::Publish(publish(TopicRef::Predefined(9), QoS::AtMostOnce, 0, b"y")),
    ]);
}

/// [SN 6.10]
#[test]
fn a_forgotten_topic_id_is_registered_again_and_not_for_ever() {
    let mut bench = Bench::with_topic(|_| {});
    let ticket = bench.publish("a/b", QoS::AtLeastOnce, b"1");
    for turn in 0..4 {
        let sent = bench.sent();
        assert_eq!(sent.len(), 1);
        let Message::Publish(publish) = Message::decode(&sent[0]).unwrap() else { panic!("{sent:?}") };
        let (id, msg_id) = (publish.topic.id(), publish.msg_id);
        assert_eq!(publish.dup, turn != 0);
        bench.hear(&Message::Puback(ack(id, msg_id, ReturnCode::INVALID_TOPIC_ID)));
        if turn < 3 {
            let sent = bench.sent();
            let Message::Register { msg_id, .. } = Message::decode(&sent[0]).unwrap() else { panic!("{sent:?}") };
            bench.hear(&Message::Regack(ack(id + 1, msg_id, OK)));
        }
    }
    assert_eq!(bench.events(), [Event::Finished(ticket, Outcome::Refused(ReturnCode::INVALID_TOPIC_ID))]);
    // QoS 0: only the next one can do better.
    bench.publish("a/b", QoS::AtMostOnce, b"1");
    let sent = bench.sent();
    let Message::Register { msg_id, .. } = Message::decode(&sent[0]).unwrap() else { panic!("{sent:?}") };
    bench.hear(&Message::Regack(ack(20, msg_id, OK)));
    bench.hear(&Message::Puback(ack(20, 0, ReturnCode::INVALID_TOPIC_ID)));
    bench.sent();
    bench.publish("a/b", QoS::AtMostOnce, b"1");
    assert_eq!(bench.sent()[0][1], 0x0A);
}

/// [SN 6.13]
#[test]
fn qos_2_through_losses() {
    let mut bench = Bench::with_topic(|_| {});
    let ticket = bench.publish("a/b", QoS::ExactlyOnce, b"x");
    let first = publish(TopicRef::Normal(7), QoS::ExactlyOnce, 2, b"x");
    bench.expect(&[Message::Publish(first)]);
    bench.wait(RETRY_MS);
    bench.expect(&[Message::Publish(Publish { dup: true, ..first })]);
    // A PUBACK that refuses nothing is no answer to QoS 2, nor is PUBCOMP yet.
    bench.hear(&Message::Puback(ack(7, 2, OK)));
    bench.hear(&Message::Pubcomp { msg_id: 2 });
    bench.expect(&[]);
    bench.hear(&Message::Pubrec { msg_id: 2 });
    bench.expect(&[Message::Pubrel { msg_id: 2 }]);
    bench.wait(RETRY_MS);
    bench.hear(&Message::Pubrec { msg_id: 2 });
    bench.expect(&[Message::Pubrel { msg_id: 2 }; 2]);
    assert_eq!(bench.events(), []);
    bench.hear(&Message::Pubcomp { msg_id: 2 });
    bench.hear(&Message::Pubcomp { msg_id: 2 });
    assert_eq!(bench.events(), [Event::Finished(ticket, Outcome::Done)]);
    // The answer to a late copy of our PUBLISH: a PUBREL would make two messages of it.
    bench.hear(&Message::Pubrec { msg_id: 2 });
    bench.expect(&[]);
}

#[test]
fn a_lost_gateway_and_a_kept_session() {
    let mut bench = Bench::with_topic(|s| s.clean_session = false);
    let ticket = bench.publish("a/b", QoS::ExactlyOnce, b"x");
    bench.publish("cd", QoS::AtMostOnce, b"y");
    for _ in 0..4 {
        bench.wait(RETRY_MS);
    }
    assert_eq!(bench.sent().len(), 1 + 3);
    assert_eq!(bench.events(), [Event::Lost]);
    assert_eq!(bench.client.pending(), 2);
    bench.connect();
    // The gateway may have given the id to another name.
    bench.expect(&[Message::Register { topic_id: 0, msg_id: 3, name: b"a/b" }]);
    bench.hear(&Message::Regack(ack(8, 3, OK)));
    let again = Publish { dup: true, ..publish(TopicRef::Normal(8), QoS::ExactlyOnce, 2, b"x") };
    bench.expect(&[Message::Publish(again)]);
    bench.hear(&Message::Pubrec { msg_id: 2 });
    bench.sent();
    // Dismissed in the middle: PUBREL goes on.
    bench.hear(&Message::Disconnect { duration_s: None });
    assert_eq!(bench.events(), [Event::Dismissed]);
    bench.connect();
    bench.expect(&[Message::Pubrel { msg_id: 2 }]);
    bench.hear(&Message::Pubcomp { msg_id: 2 });
    assert_eq!(bench.events()[0], Event::Finished(ticket, Outcome::Done));
    assert_eq!((bench.sent().len(), bench.client.pending()), (1, 0));
}

#[test]
fn a_clean_session_ends_with_what_was_under_way() {
    let mut bench = Bench::with_topic(|_| {});
    let publish = bench.publish("a/b", QoS::AtLeastOnce, b"x");
    let subscribe = bench.subscribe(name("s"), QoS::AtLeastOnce);
    bench.hear(&Message::Disconnect { duration_s: None });
    let abandoned = Outcome::Abandoned;
    assert_eq!(
        bench.events(),
        [
            Event::Finished(publish, abandoned),
            Event::Subscribed(subscribe, abandoned, QoS::AtMostOnce),
            Event::Dismissed
        ]
    );
    assert_eq!(bench.client.pending(), 0);
}

/// [SN 6.9, 6.10]
#[test]
fn messages_arrive_under_the_name_of_their_id() {
    let mut bench = Bench::connected(|_| {});
    let plain = bench.subscribe(name("a/b"), QoS::AtLeastOnce);
    let wild = bench.subscribe(name("w/#"), QoS::ExactlyOnce);
    let filter = FilterRef::Name(b"a/b");
    let qos = QosField::AtLeastOnce;
    bench.expect(&[Message::Subscribe { dup: false, qos, msg_id: 1, filter }]);
    bench.wait(RETRY_MS);
    bench.expect(&[Message::Subscribe { dup: true, qos, msg_id: 1, filter }]);
    bench.hear(&Message::Suback { qos, ack: ack(5, 1, OK) });
    bench.hear(&Message::Suback { qos: QosField::ExactlyOnce, ack: ack(0, 2, OK) });
    assert_eq!(
        bench.events(),
        [
            Event::Subscribed(plain, Outcome::Done, QoS::AtLeastOnce),
            Event::Subscribed(wild, Outcome::Done, QoS::ExactlyOnce)
        ]
    );
    bench.sent();
    let message = |id, msg_id| Message::Publish(publish(TopicRef::Normal(id), QoS::AtLeastOnce, msg_id, b"p"));
    bench.hear(&message(5, 1));
    bench.hear(&message(6, 2));
    bench.expect(&[Message::Puback(ack(5, 1, OK)), Message::Puback(ack(6, 2, ReturnCode::INVALID_TOPIC_ID))]);
    assert_eq!(bench.events(), [received(name("a/b"), QoS::AtLeastOnce, 1, b"p")]);
    bench.hear(&Message::Register { topic_id: 6, msg_id: 3, name: b"w/x" });
    bench.hear(&message(6, 2));
    bench.expect(&[Message::Regack(ack(6, 3, OK)), Message::Puback(ack(6, 2, OK))]);
    assert_eq!(bench.events(), [received(name("w/x"), QoS::AtLeastOnce, 2, b"p")]);
    for (topic_id, bad) in [(0, "a"), (0xFFFF, "a"), (8, "a/+"), (8, "")] {
        bench.hear(&Message::Register { topic_id, msg_id: 4, name: bad.as_bytes() });
        let sent = bench.sent();
        assert!(matches!(Message::decode(&sent[0]), Ok(Message::Regack(ack)) if ack.code.is_refusal()), "{bad}");
    }
    bench.client.unsubscribe(1000, name("w/#")).unwrap();
    bench.expect(&[Message::Unsubscribe { msg_id: 3, filter: FilterRef::Name(b"w/#") }]);
    bench.hear(&Message::Unsuback { msg_id: 3 });
    assert!(matches!(bench.events()[..], [Event::Finished(_, Outcome::Done)]));
}

#[test]
fn qos_2_arrives_once() {
    let mut bench = Bench::connected(|_| {});
    let first = publish(TopicRef::Short(*b"ab"), QoS::ExactlyOnce, 1, b"p");
    bench.hear(&Message::Publish(first));
    bench.hear(&Message::Publish(Publish { dup: true, ..first }));
    bench.hear(&Message::Pubrel { msg_id: 1 });
    // A copy that the network held back, and a PUBREL whose PUBCOMP was lost.
    bench.hear(&Message::Publish(first));
    bench.hear(&Message::Pubrel { msg_id: 1 });
    let (rec, comp) = (Message::Pubrec { msg_id: 1 }, Message::Pubcomp { msg_id: 1 });
    bench.expect(&[rec, rec, comp, rec, comp]);
    assert_eq!(bench.events(), [received(Topic::Short(*b"ab"), QoS::ExactlyOnce, 1, b"p")]);
    // Another message under the same id, and the same message again when no copy can be left.
    bench.hear(&Message::Publish(Publish { data: b"q", ..first }));
    bench.hear(&Message::Pubrel { msg_id: 1 });
    bench.now_ms += RETRY_MS;
    bench.hear(&Message::Publish(first));
    assert_eq!(bench.events().len(), 2);
}

/// [SN 6.14]
#[test]
fn sleep_and_awake() {
    let mut bench = Bench::connected(|s| s.clean_session = false);
    bench.subscribe(name("a/#"), QoS::AtLeastOnce);
    bench.sent();
    bench.client.sleep(1000, 300);
    // First what was asked for before.
    bench.expect(&[]);
    bench.hear(&Message::Suback { qos: QosField::AtLeastOnce, ack: ack(0, 1, OK) });
    let goodbye = Message::Disconnect { duration_s: Some(300) };
    bench.expect(&[goodbye]);
    bench.wait(RETRY_MS);
    bench.expect(&[goodbye]);
    bench.events();
    bench.hear(&Message::Disconnect { duration_s: None });
    assert_eq!((bench.events(), bench.client.is_asleep()), (vec![Event::Asleep], true));
    assert_eq!(bench.client.deadline(), None);
    // It does not listen.
    let message = Message::Publish(publish(TopicRef::Short(*b"a/"), QoS::AtLeastOnce, 1, b"p"));
    bench.hear(&message);
    assert_eq!((bench.sent().len(), bench.events()), (0, vec![]));
    bench.client.wake(bench.now_ms);
    bench.expect(&[Message::Pingreq { client_id: b"c" }]);
    bench.wait(RETRY_MS);
    bench.expect(&[Message::Pingreq { client_id: b"c" }]);
    bench.now_ms += RETRY_MS - 1;
    bench.hear(&message);
    bench.expect(&[Message::Puback(ack(u16::from_be_bytes(*b"a/"), 1, OK))]);
    // What comes counts as a sign of life.
    assert_eq!(bench.client.deadline(), Some(bench.now_ms + RETRY_MS));
    bench.hear(&Message::Pingresp);
    assert_eq!(bench.events(), [received(Topic::Short(*b"a/"), QoS::AtLeastOnce, 1, b"p"), Event::Asleep]);
    // What is asked for waits until the client is active again.
    bench.publish("ab", QoS::AtMostOnce, b"x");
    bench.expect(&[]);
    bench.client.connect(bench.now_ms);
    bench.hear(&Message::Connack(OK));
    assert_eq!(bench.sent().last().map(|bytes| bytes[1]), Some(0x0C));
}

#[test]
fn a_sleeper_changes_its_time_and_leaves() {
    let mut bench = Bench::connected(|_| {});
    bench.client.sleep(1000, 300);
    bench.hear(&Message::Disconnect { duration_s: None });
    bench.client.sleep(1000, 60);
    bench.hear(&Message::Disconnect { duration_s: None });
    bench.client.disconnect(1000);
    bench.hear(&Message::Disconnect { duration_s: None });
    bench.expect(&[Some(300), Some(60), None].map(|duration_s| Message::Disconnect { duration_s }));
    assert_eq!(bench.events(), [Event::Asleep, Event::Asleep, Event::Disconnected]);
}

/// [SN 6.11]
#[test]
fn pings_in_time_and_notices_silence() {
    let mut bench = Bench::connected(|s| s.keepalive_s = 40);
    let ping = Message::Pingreq { client_id: &[] };
    bench.wait(30_000);
    bench.expect(&[ping]);
    bench.hear(&Message::Pingresp);
    bench.hear(&Message::Pingreq { client_id: &[] });
    bench.expect(&[Message::Pingresp]);
    bench.wait(30_000);
    for _ in 0..4 {
        bench.wait(RETRY_MS);
    }
    bench.expect(&[ping; 4]);
    assert_eq!(bench.events(), [Event::Lost]);
    let bench = Bench::connected(|s| s.keepalive_s = 0);
    assert_eq!(bench.client.deadline(), None);
}

/// [SN 6.1, 6.8]
#[test]
fn without_a_connection() {
    let mut bench = Bench::new(|_| {});
    bench.client.publish_minus_one(1000, &Topic::new("ab"), true, b"x").unwrap();
    bench.client.publish_minus_one(1000, &Topic::Predefined(3), false, b"y").unwrap();
    assert_eq!(bench.client.publish_minus_one(1000, &Topic::new("a/b"), false, b"z"), Err(TooLong));
    assert_eq!(bench.sent(), [b"\x08\x0C\x72ab\0\0x", b"\x08\x0C\x61\0\x03\0\0y"]);
    bench.client.search(1000, 2);
    bench.wait(RETRY_MS);
    bench.expect(&[Message::SearchGw { radius: 2 }; 2]);
    bench.hear(&Message::GwInfo { gateway_id: 5, address: &[] });
    assert_eq!(bench.events(), [Event::Gateway { gateway_id: 5, address: vec![] }]);
    assert!(bench.client.is_disconnected() && bench.client.deadline().is_none());
}

/// [SN 6.4]
#[test]
fn the_will_changes() {
    let mut bench = Bench::connected(|_| {});
    bench.client.update_will_topic(1000, Some(("t".into(), QoS::ExactlyOnce, true))).unwrap();
    bench.client.update_will_message(1000, b"m").unwrap();
    bench.client.update_will_topic(1000, None).unwrap();
    let topic = WillTopic { qos: QosField::ExactlyOnce, retain: true, topic: b"t" };
    bench.expect(&[Message::WillTopicUpd(Some(topic))]);
    bench.hear(&Message::WillMsgResp(OK));
    bench.expect(&[]);
    bench.hear(&Message::WillTopicResp(OK));
    bench.expect(&[Message::WillMsgUpd(b"m")]);
    bench.hear(&Message::WillMsgResp(ReturnCode::NOT_SUPPORTED));
    bench.expect(&[Message::WillTopicUpd(None)]);
    bench.hear(&Message::WillTopicResp(OK));
    let refused = Outcome::Refused(ReturnCode::NOT_SUPPORTED);
    let outcomes = [(1, Outcome::Done), (2, refused), (3, Outcome::Done)];
    assert_eq!(bench.events(), outcomes.map(|(n, outcome)| Event::Finished(Ticket(n), outcome)));
}

#[test]
fn what_no_message_can_hold() {
    let mut bench = Bench::connected(|_| {});
    let long = "x".repeat(65_527);
    assert_eq!(bench.client.subscribe(1000, Topic::new(&long), QoS::AtMostOnce), Err(TooLong));
    assert_eq!(bench.client.publish(1000, name("ab"), QoS::AtMostOnce, false, long.as_bytes()), Err(TooLong));
    bench.client.publish(1000, Topic::Predefined(1), QoS::AtMostOnce, false, &long.as_bytes()[1..]).unwrap();
    assert_eq!(bench.sent()[0].len(), 65_535);
}

#[test]
fn noise_is_no_reason_to_act() {
    let mut bench = Bench::connected(|_| {});
    for bytes in [&b""[..], b"\x02", b"\x02\x16\0", b"\x03\x04\0", b"\x05\xFE\0aa\x02\x16", b"\x01\0\x03"] {
        bench.client.on_datagram(1000, bytes);
    }
    bench.hear(&Message::WillTopicReq);
    bench.hear(&Message::SearchGw { radius: 1 });
    bench.hear(&Message::Publish(publish(TopicRef::Short(*b"ab"), QoS::AtLeastOnce, 0, b"")));
    bench.hear(&Message::Connack(ReturnCode::NOT_SUPPORTED));
    assert_eq!((bench.sent().len(), bench.events()), (0, vec![]));
    assert!(bench.client.is_active());
}
