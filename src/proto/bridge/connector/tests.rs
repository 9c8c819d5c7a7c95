//! The link of a bridge, without sockets.

use super::*;
use crate::config::Config;

fn profile(lines: &str) -> Rc<Profile> {
    let text = format!("listener 1\nconnection b\ntopic a/# out 1\n{lines}\n");
    let config = Config::parse_str("a.conf", &text).unwrap().config.finish(&[]).config;
    Rc::new(Profile::new(config.bridges[0].clone(), "host"))
}

fn connector(lines: &str) -> Connector {
    Connector::new(profile(lines), at(0))
}

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, wall_s: 0 }
}

fn lost(error: &str) -> Lost {
    Lost {
        was_live: false,
        error: error.into(),
        refusal: None,
        before_connack: false,
        max_qos: QoS::ExactlyOnce,
        sent: 0,
        received: 0,
        refused: 0,
        by_peer: None,
    }
}

fn addr(last: u8) -> SocketAddr {
    ([127, 0, 0, last], 1883).into()
}

/// The address that the next step resolves, after the wait before it.
fn next_address(connector: &mut Connector) -> String {
    let due = connector.deadline().expect("a wait");
    match connector.on_timer(at(due), 0) {
        Step::Resolve(address) => address.host,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_link_goes_through_its_states_and_comes_back() {
    let mut connector = connector("address x\nrestart_timeout 2");
    let Step::Resolve(address) = connector.on_timer(at(0), 0) else { panic!("at once") };
    assert_eq!((connector.link().name(), connector.deadline()), ("resolving", Some(RESOLVE_MS)));
    assert_eq!(connector.resolved(at(5), &address, Ok(vec![addr(1), addr(2)]), 0), Step::Connect(addr(1)));
    assert_eq!((connector.link(), connector.deadline()), (Link::Connecting, None));
    // The name has a second address.
    assert_eq!(connector.ended(at(6), lost("no"), 0).0, Step::Connect(addr(2)));
    for link in [Link::TlsHandshake, Link::AwaitConnack, Link::Live] {
        connector.reached(at(7), link);
    }
    let live = Lost { was_live: true, sent: 3, received: 4, refused: 1, ..lost("over") };
    assert_eq!(connector.ended(at(1000), live, 0).0, Step::Nothing);
    assert_eq!(connector.link(), Link::Backoff(3000));
    assert_eq!(connector.on_timer(at(2999), 0), Step::Nothing);
    let Step::Resolve(address) = connector.on_timer(at(3000), 0) else { panic!("again") };
    connector.resolved(at(3000), &address, Ok(vec![addr(1)]), 0);
    connector.reached(at(3001), Link::Live);
    let backlog = Backlog { queued: 2, inflight: 3 };
    let figures = connector.figures(backlog, (10, 20));
    assert_eq!((figures.state, figures.queued, figures.sent, figures.received), ("live", 5, 13, 24));
    assert_eq!((figures.reconnects, figures.set_aside, &*figures.last_error), (1, 1, "over"));
}

#[test]
fn names_that_are_not_found_or_not_answered_make_way_for_the_next_address() {
    let mut connector = connector("address a b c\nrestart_timeout 1");
    assert_eq!(next_address(&mut connector), "a");
    let a = connector.address().unwrap().clone();
    assert_eq!(connector.resolved(at(1), &a, Err("no".into()), 0), Step::Nothing);
    assert_eq!(connector.resolved(at(2), &a, Ok(vec![addr(1)]), 0), Step::Nothing, "too late");
    assert_eq!(next_address(&mut connector), "b");
    let due = connector.deadline().unwrap();
    assert_eq!(connector.on_timer(at(due), 0), Step::Nothing);
    assert_eq!(next_address(&mut connector), "c", "b did not answer");
    let c = connector.address().unwrap().clone();
    assert_eq!(connector.resolved(at(0), &c, Ok(Vec::new()), 0), Step::Nothing);
    assert_eq!(next_address(&mut connector), "a", "from the beginning");
}

#[test]
fn the_first_address_is_tried_only_while_another_one_serves() {
    for (lines, wanted) in [("address a b", true), ("address a b\nround_robin true", false)] {
        let mut connector = connector(lines);
        next_address(&mut connector);
        connector.reached(at(0), Link::Live);
        assert_eq!(connector.primary_due(), None, "this is the first");
        connector.ended(at(0), Lost { was_live: true, ..lost("") }, 0);
        assert_eq!(next_address(&mut connector), "b");
        connector.reached(at(100), Link::Live);
        assert_eq!(connector.primary_due(), wanted.then_some(100 + PRIMARY_MS));
        connector.primary_tried(at(6000));
        assert_eq!(connector.primary_due(), wanted.then_some(6000 + PRIMARY_MS));
        connector.return_to_primary();
        connector.restarted(at(7000), &lost(""), true);
        assert_eq!((next_address(&mut connector), connector.deadline()), ("a".into(), Some(7000 + RESOLVE_MS)));
    }
}

#[test]
fn once_and_lazy_bridges_rest() {
    let mut once = connector("address a b\nstart_type once");
    next_address(&mut once);
    once.failed(at(0), "no", 0);
    assert_eq!((once.link(), once.deadline()), (Link::Idle, None));
    let mut lazy = connector("address a\nstart_type lazy\nthreshold 3");
    let backlog = |queued| Backlog { queued, inflight: 1 };
    assert!(!lazy.is_woken_by(backlog(100)), "it is on its way");
    next_address(&mut lazy);
    lazy.reached(at(0), Link::Live);
    lazy.restarted(at(0), &lost(""), false);
    assert!(!lazy.is_woken_by(backlog(1)) && lazy.is_woken_by(backlog(2)));
    assert!(matches!(lazy.wake(at(9)), Step::Resolve(_)));
    assert!(!once.is_woken_by(backlog(1000)));
}

#[test]
fn what_is_refused_is_not_offered_again_and_the_next_attempt_follows_at_once() {
    let refused = |form| Lost { refusal: Some(form), ..lost("") };
    let mut connector = connector("address a\nbridge_protocol_version mqttv50");
    let steps = [
        (ConnackForm::V5(ReasonCode::RETAIN_NOT_SUPPORTED), true),
        (ConnackForm::V5(ReasonCode::RETAIN_NOT_SUPPORTED), false),
        (ConnackForm::V5(ReasonCode::QOS_NOT_SUPPORTED), true),
        (ConnackForm::V5(ReasonCode::QOS_NOT_SUPPORTED), true),
        (ConnackForm::V5(ReasonCode::QOS_NOT_SUPPORTED), false),
        (ConnackForm::V5(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION), true),
        (ConnackForm::V3(1), true),
        (ConnackForm::V3(1), false),
        (ConnackForm::V3(5), false),
    ];
    for (form, at_once) in steps {
        next_address(&mut connector);
        let now = connector.deadline().unwrap();
        connector.ended(at(now), refused(form), 0);
        assert_eq!(connector.link() == Link::Backoff(now), at_once, "{form:?}");
    }
    let lowest =
        Offer { version: ProtocolVersion::V311, private: false, retain: false, max_qos: QoS::AtMostOnce, notify: true };
    assert_eq!(*connector.offer(), lowest);
}

#[test]
fn closes_without_connack_lower_the_offer_for_a_while() {
    let mut connector = connector("address a\nbridge_protocol_version mqttv311");
    let closed = |connector: &mut Connector| {
        next_address(connector);
        connector.ended(at(connector.deadline().unwrap()), Lost { before_connack: true, ..lost("") }, 0);
        connector.offer().private
    };
    assert_eq!([closed(&mut connector), closed(&mut connector)], [true, false]);
    assert_eq!([closed(&mut connector), closed(&mut connector)], [false, false], "it was not that");
    assert!(!connector.offer().notify, "nor is it told the state");
    assert_eq!([closed(&mut connector), closed(&mut connector)], [false, true], "it was not that either");
    assert_eq!([closed(&mut connector), closed(&mut connector)], [true, false]);
    next_address(&mut connector);
    connector.reached(at(0), Link::Live);
    connector.ended(at(9), Lost { was_live: true, ..lost("") }, 0);
    assert!(connector.offer().private, "offered again");
    assert!(!closed(&mut connector), "and one close is enough");
}

#[test]
fn a_changed_bridge_counts_from_the_next_connection() {
    let mut connector = connector("address a");
    next_address(&mut connector);
    connector.reached(at(0), Link::Live);
    connector.reconfigure(at(1), profile("address z\nbridge_protocol_version mqttv50"));
    assert_eq!(connector.profile().config.addresses[0].host, "a");
    assert_eq!(connector.newest().config.addresses[0].host, "z");
    connector.ended(at(2), Lost { was_live: true, ..lost("") }, 0);
    assert_eq!(next_address(&mut connector), "z");
    assert_eq!(connector.offer().version, ProtocolVersion::V5);
    // One that rests, or waits, begins anew.
    let mut once = connector_once();
    once.reconfigure(at(5), profile("address z"));
    assert_eq!(once.deadline(), Some(5));
}

fn connector_once() -> Connector {
    let mut once = connector("address a\nstart_type once");
    next_address(&mut once);
    once.failed(at(0), "no", 0);
    once
}
