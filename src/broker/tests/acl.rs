//! Rules of access in force: what they keep from whom, and what becomes of it all when rules and users change.

use std::rc::Rc;

use super::*;
use crate::broker::auth::access::{RuleFiles, Rules, RulesId};
use crate::broker::auth::acl::{Acl, Right};
use crate::broker::auth::login::Terms;

const ID: PacketId = PacketId::MIN;

fn rules(text: &str) -> Rules {
    Rules { acl: Some(Rc::new(Acl::parse(text.as_bytes()).expect("rules").0)), ..Rules::default() }
}

fn global(text: &str) -> Access {
    let mut access = Access::default();
    access.set_global(RuleFiles::default(), rules(text));
    access
}

impl World {
    fn under(text: &str) -> World {
        let mut world = World::new();
        world.broker.set_access(global(text));
        world
    }

    fn come(&mut self, client_id: &'static str, user: &'static str) -> (SessionId, ConnId) {
        let username = Some(user).filter(|user| !user.is_empty());
        let request = ConnectRequest { username, ..self.request(client_id, NEVER) };
        let conn = request.conn;
        (self.broker.connect(self.now, request).expect("a session").session, conn)
    }

    fn message(&mut self, from: SessionId, topic: &str, qos: QoS, retain: bool) -> Msg {
        let new = NewMessage { topic, payload: b"x", qos, retain, props: &[], expiry_s: None };
        self.broker.message(self.now, from, &new).expect("a message")
    }

    fn retain(&mut self, from: SessionId, topic: &str) {
        let msg = self.message(from, topic, QoS::AtLeastOnce, true);
        self.broker.publish(self.now, Some(from), &msg);
    }
}

#[test]
fn only_what_may_be_read_is_delivered_live_and_retained() {
    let mut world = World::under("topic read a/#\nuser u\ntopic read b\n");
    let (nobody, u) = (world.come("n", "").0, world.come("c", "u").0);
    for session in [nobody, u] {
        world.subscribe(session, None, "#", QoS::AtLeastOnce);
    }
    for topic in ["a/1", "b", "c", "$SYS/x"] {
        world.retain(nobody, topic);
    }
    assert_eq!(world.topics(nobody), ["a/1"]);
    assert_eq!(world.topics(u), ["b"]);
    for session in [nobody, u] {
        world.subscribe(session, None, "+", QoS::AtMostOnce);
        world.subscribe(session, None, "a/1", QoS::AtMostOnce);
        world.subscribe(session, None, "$SYS/#", QoS::AtMostOnce);
    }
    assert_eq!(world.topics(nobody), ["a/1"]);
    assert_eq!(world.topics(u), ["b"]);
}

#[test]
fn a_shared_message_goes_to_a_member_that_may_read_it() {
    let mut world = World::under("user u\ntopic read t\n");
    let (a, b) = (world.come("a", "v").0, world.come("b", "u").0);
    for session in [a, b] {
        world.subscribe(session, Some("g"), "t", QoS::AtLeastOnce);
    }
    for _ in 0..4 {
        world.publish("t", QoS::AtLeastOnce);
    }
    assert_eq!((world.topics(a).len(), world.topics(b).len()), (0, 4));
}

#[test]
fn new_rules_apply_to_what_is_queued() {
    let mut world = World::under("topic #\n");
    let there = world.come("there", "");
    let away = world.come("away", "");
    for (session, _) in [there, away] {
        world.subscribe(session, None, "#", QoS::AtLeastOnce);
    }
    world.drop_conn(away);
    for topic in ["a", "b", "a", "c"] {
        world.publish(topic, QoS::AtLeastOnce);
        world.publish(topic, QoS::AtMostOnce);
    }
    world.broker.set_access(global("topic read a\ntopic read d\n"));
    world.publish("d", QoS::AtLeastOnce);
    world.publish("b", QoS::AtLeastOnce);
    assert_eq!(world.topics(there.0), ["a", "a", "a", "a", "d"]);
    // It left and came back before: the new rules hold for what it did not get by then.
    world.broker.set_access(global("topic read c\n"));
    let away = world.come("away", "");
    assert_eq!(world.topics(away.0), ["c"]);
    assert_eq!(world.broker.client(world.now, away.0).expect("here").queued, (0, 0));
}

#[test]
fn to_check_a_queue_again_is_charged() {
    let mut world = World::under("topic #\n");
    let session = world.come("c", "").0;
    world.subscribe(session, None, "#", QoS::AtLeastOnce);
    for _ in 0..50 {
        world.publish("b", QoS::AtLeastOnce);
    }
    world.publish("a", QoS::AtLeastOnce);
    world.broker.set_access(global("topic read a\n"));
    let mut turns = 0;
    loop {
        let mut budget = 10;
        turns += 1;
        match world.broker.pull(world.now, session, &mut budget) {
            Pulled::Later => assert_eq!(budget, 0),
            Pulled::Item(Outgoing::Publish { msg, .. }) => break assert_eq!(msg.topic(), "a"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(turns, 6);
    assert!(matches!(world.broker.pull(world.now, session, &mut 0), Pulled::Empty));
}

#[test]
fn another_user_gets_only_what_it_may_read_of_queue_and_flight() {
    let mut world = World::under("user u\ntopic #\nuser v\ntopic v/#\n");
    let first = world.come("c", "u");
    world.subscribe(first.0, None, "#", QoS::ExactlyOnce);
    for topic in ["secret", "v/1"] {
        world.publish(topic, QoS::AtLeastOnce);
        world.publish(topic, QoS::ExactlyOnce);
    }
    assert_eq!(world.topics(first.0).len(), 4);
    // The second "secret" is received, so its PUBREL tells nothing.
    world.broker.pubrec(first.0, PacketId::new(2).expect("not 0"), false);
    for topic in ["secret", "v/2"] {
        world.publish(topic, QoS::AtLeastOnce);
    }
    // A take-over, with the old client still there.
    let second = world.come("c", "v");
    assert_eq!(second.0, first.0);
    let got: Vec<_> =
        world.pull(second.0).into_iter().map(|(topic, id, _)| (topic, id.map_or(0, |id| id.get()))).collect();
    assert_eq!(got, [("PUBREL", 2), ("v/1", 3), ("v/1", 4), ("v/2", 5)].map(|(topic, id)| (topic.to_string(), id)));
    world.publish("secret", QoS::AtLeastOnce);
    assert!(world.pull(second.0).is_empty(), "its subscription is the old one, its rights are not");
    assert_eq!(world.broker.client(world.now, second.0).expect("here").inflight.0, 4);
}

#[test]
fn a_qos_2_message_is_checked_again_when_it_is_released() {
    for taken_over in [false, true] {
        let mut world = World::under("user u\ntopic #\nuser w\ntopic read #\n");
        let u = world.come("c", "u").0;
        let witness = world.come("w", "w").0;
        world.subscribe(witness, None, "#", QoS::ExactlyOnce);
        let msg = world.message(u, "t", QoS::ExactlyOnce, false);
        assert_eq!(world.broker.receive_qos2(u, ID, msg), Received::Stored);
        if taken_over {
            world.come("c", "v");
        } else {
            world.broker.set_access(global("user u\ntopic read #\nuser w\ntopic read #\n"));
        }
        let published = world.broker.release(world.now, u, ID).expect("it was stored");
        assert!(!published.matched);
        assert!(world.topics(witness).is_empty());
        assert_eq!(world.broker.release(world.now, u, ID), None, "and is gone");
    }
}

#[test]
fn a_refused_repetition_forgets_the_qos_2_message() {
    let mut world = World::under("topic #\n");
    let session = world.come("c", "").0;
    let msg = world.message(session, "t", QoS::ExactlyOnce, false);
    world.broker.receive_qos2(session, ID, msg);
    world.broker.forget_qos2(session, ID);
    assert_eq!(world.broker.release(world.now, session, ID), None);
    assert_eq!(world.broker.client(world.now, session).expect("here").incoming, (0, 0));
}

#[test]
fn a_will_needs_the_right_when_it_is_published() {
    let (allowed, refused) = ("topic #\n", "topic read #\n");
    for (before, after, comes) in [(allowed, allowed, 1), (allowed, refused, 0), (refused, allowed, 1)] {
        let mut world = World::under(before);
        let witness = world.come("w", "").0;
        world.subscribe(witness, None, "#", QoS::AtMostOnce);
        let mortal = world.connect_with_will("m", NEVER, 5);
        world.drop_conn(mortal);
        world.broker.set_access(global(after));
        world.wait(6000);
        assert_eq!(world.topics(witness).len(), comes, "{before}{after}");
    }
}

#[test]
fn a_retained_message_goes_with_the_right_of_its_publisher() {
    let before = "user u\ntopic #\n";
    let mut world = World::under(before);
    world.broker.settings.check_retain_source = true;
    let (u, anybody) = (world.come("c", "u").0, world.come("d", "").0);
    world.retain(u, "t/u");
    world.retain(anybody, "t/d");
    world.broker.settings.check_retain_source = false;
    world.retain(u, "t/unknown");
    world.broker.settings.check_retain_source = true;
    let reader = world.come("r", "r").0;
    let ask = |world: &mut World, text: &str| {
        world.broker.set_access(global(&format!("{text}user r\ntopic read #\n")));
        world.subscribe(reader, None, "t/#", QoS::AtMostOnce);
        world.topics(reader)
    };
    assert_eq!(ask(&mut world, before), ["t/u", "t/unknown"]);
    assert_eq!(ask(&mut world, "topic t/#\n"), ["t/d", "t/unknown"]);
    assert_eq!(ask(&mut world, "pattern write t/%c\npattern write t/%u\n"), ["t/d", "t/u", "t/unknown"]);
    world.broker.settings.check_retain_source = false;
    assert_eq!(ask(&mut world, ""), ["t/d", "t/u", "t/unknown"]);
    // Under rules of listeners, one that is gone leaves nobody who might publish.
    world.broker.settings.check_retain_source = true;
    let mut access = global("user r\ntopic read #\n");
    access.set_listeners(Some(vec![(1, RulesId::GLOBAL)]));
    world.broker.set_access(access);
    world.subscribe(reader, None, "t/#", QoS::AtMostOnce);
    assert_eq!(world.topics(reader), ["t/unknown"]);
}

#[test]
fn sessions_follow_the_rules_of_their_listener() {
    let mut world = World::under("topic read g\n");
    let here = world.come("here", "");
    let away = world.come("away", "");
    world.drop_conn(away);
    let may = |world: &World, id: SessionId| ["g", "l", "m"].map(|topic| world.broker.may(id, topic, Right::Read));
    let mut access = world.broker.access().clone();
    let files = |name: &str| RuleFiles { acl: Some(name.into()), ..RuleFiles::default() };
    let l = access.set_listener(files("l"), rules("topic read l\n")).expect("room");
    let m = access.set_listener(files("m"), rules("topic read m\n")).expect("room");
    access.set_listeners(Some(vec![(1883, l), (1883, m)]));
    world.broker.set_access(access.clone());
    let terms = Terms { rules: m, anonymous_allowed: true, named_by_certificate: false };
    // The connection knows better which of the two it is.
    assert_eq!(world.broker.recheck(|conn| (conn == here.1).then_some(terms)), []);
    assert_eq!((may(&world, here.0), may(&world, away.0)), ([false, false, true], [false, true, false]));
    world.drop_conn(here);
    world.broker.set_access(access.clone());
    assert_eq!(may(&world, here.0), [false, false, true], "and that lasts");
    access.set_listeners(Some(vec![(7, l)]));
    world.broker.set_access(access.clone());
    assert_eq!(may(&world, here.0), [false, false, true], "its listener is gone, its rules are not");
    access.set_listeners(None);
    world.broker.set_access(access);
    assert_eq!((may(&world, here.0), may(&world, away.0)), ([true, false, false], [true, false, false]));
}

#[test]
fn an_answer_of_control_needs_the_right_to_read_it() {
    let mut world = World::under("topic write $CONTROL/#\nuser u\ntopic $CONTROL/#\n");
    let (nobody, u) = (world.come("n", "").0, world.come("c", "u").0);
    for session in [nobody, u] {
        world.broker.answer(world.now, session, "$CONTROL/x/response", b"{}");
    }
    assert_eq!((world.topics(nobody).len(), world.topics(u).len()), (0, 1));
}
