use std::collections::BTreeMap;

use super::*;
use crate::broker::message::NewMessage;
use crate::broker::subs::oracle::{Random, matches};
use crate::wire::QoS;

fn random_topic(random: &mut Random) -> String {
    let topic = random.levels(&["a", "b", "", "$s", "a-", "a.b", "a0", "é", "-", "!"]);
    if topic.is_empty() { "a".into() } else { topic }
}

fn random_filter(random: &mut Random) -> String {
    let mut filter = random.levels(&["a", "b", "", "$s", "a-", "a.b", "+", "+", "+", "é"]);
    match random.below(4) {
        0 => filter.push_str("/#"),
        1 if random.below(4) == 0 => filter = "#".into(),
        _ => {}
    }
    if filter.is_empty() { "a".into() } else { filter }
}

const START: Now = Now { mono_ms: 0, wall_s: 0 };

fn message(topic: &str, payload: &[u8], expiry_s: Option<u32>) -> Msg {
    let new = NewMessage { topic, payload, qos: QoS::AtMostOnce, retain: true, props: &[], expiry_s };
    Msg::new(START, &new).unwrap()
}

fn store(topics: &[&str]) -> Retained {
    let mut store = Retained::new();
    for topic in topics {
        assert!(store.insert(message(topic, b"", None)).is_none());
    }
    store
}

/// Every topic a filter finds in one go, and what that cost.
fn scan(store: &Retained, filter: &str) -> (Vec<String>, u32) {
    let (mut cursor, mut budget, mut found) = (Cursor::default(), u32::MAX, Vec::new());
    loop {
        match store.scan(filter, &mut cursor, &mut budget) {
            Step::Hit(msg) => found.push(msg.topic().to_owned()),
            Step::Done => return (found, u32::MAX - budget),
            Step::OutOfBudget => panic!("the budget cannot end"),
        }
    }
}

#[test]
fn a_topic_has_one_message_the_latest() {
    let mut store = store(&["a", "a/b"]);
    let old = store.insert(message("a", b"new", None)).unwrap();
    assert_eq!((old.payload(), store.len()), (&b""[..], 2));
    assert_eq!(store.get("a").unwrap().payload(), b"new");
    assert_eq!(store.remove("a").unwrap().payload(), b"new");
    assert!(store.remove("a").is_none() && store.get("a").is_none() && !store.is_empty());
    assert_eq!(store.iter().map(Msg::topic).collect::<Vec<_>>(), ["a/b"]);
}

#[test]
fn a_topic_and_its_subtree_are_found_though_others_stand_between() {
    let store = store(&["$SYS/a", "a", "a-", "a-/b", "a.b/b", "a/", "a/b", "a/b-", "a/b/c", "a0/b", "b"]);
    for (filter, expected) in [
        ("a/#", &["a", "a/", "a/b", "a/b-", "a/b/c"][..]),
        ("a/b/#", &["a/b", "a/b/c"]),
        ("a/+", &["a/", "a/b", "a/b-"]),
        ("+/b", &["a-/b", "a.b/b", "a/b", "a0/b"]),
        ("+/b/#", &["a-/b", "a.b/b", "a/b", "a/b/c", "a0/b"]),
        ("+", &["a", "a-", "b"]),
        ("+/+/c", &["a/b/c"]),
        ("a/b", &["a/b"]),
        ("c", &[]),
        ("$SYS/#", &["$SYS/a"]),
        ("$SYS/+", &["$SYS/a"]),
        ("+/a", &[]),
    ] {
        assert_eq!(scan(&store, filter).0, expected, "{filter}");
    }
    assert_eq!(scan(&store, "#").0.len(), 10, "a root wildcard hides $SYS");
}

#[test]
fn random_sets_of_topics_are_scanned_like_the_naive_loop() {
    let mut random = Random(11);
    for _ in 0..20_000 {
        let mut store = Retained::new();
        for _ in 0..random.below(16) {
            store.insert(message(&random_topic(&mut random), b"", None));
        }
        for _ in 0..3 {
            let filter = random_filter(&mut random);
            let expected: Vec<&str> = store.iter().map(Msg::topic).filter(|topic| matches(&filter, topic)).collect();
            let (found, seeks) = scan(&store, &filter);
            assert_eq!(found, expected, "{filter}");
            assert!(seeks as usize <= 2 * store.len() + 5, "{seeks} seeks among {}", store.len());
        }
    }
}

#[test]
fn a_scan_in_slices_misses_and_repeats_nothing_while_the_store_changes() {
    let mut random = Random(13);
    let mut slices = 0;
    for _ in 0..10_000 {
        let mut store = Retained::new();
        for _ in 0..random.below(24) {
            store.insert(message(&random_topic(&mut random), b"", None));
        }
        // Whether a topic was there all the time.
        let mut stayed: BTreeMap<String, bool> = store.iter().map(|msg| (msg.topic().to_owned(), true)).collect();
        let filter = random_filter(&mut random);
        let (mut cursor, mut found) = (Cursor::default(), Vec::<String>::new());
        'replay: loop {
            let mut budget = u32::try_from(random.below(4)).unwrap();
            loop {
                match store.scan(&filter, &mut cursor, &mut budget) {
                    Step::Hit(msg) => {
                        assert!(matches(&filter, msg.topic()) && store.get(msg.topic()).unwrap().same(&msg));
                        assert!(found.last().is_none_or(|last| **last < *msg.topic()), "in order, so none twice");
                        found.push(msg.topic().to_owned());
                    }
                    Step::Done => break 'replay,
                    Step::OutOfBudget => break,
                }
            }
            slices += 1;
            for _ in 0..random.below(3) {
                let topic = if random.below(2) == 0 && !found.is_empty() {
                    found[random.below(found.len())].clone()
                } else {
                    random_topic(&mut random)
                };
                if random.below(2) == 0 {
                    store.remove(&topic);
                    stayed.insert(topic, false);
                } else {
                    store.insert(message(&topic, b"2", None));
                    stayed.entry(topic).or_insert(false);
                }
            }
        }
        for (topic, _) in stayed.iter().filter(|(topic, stayed)| **stayed && matches(&filter, topic)) {
            assert!(found.contains(topic), "{filter} missed {topic}");
        }
    }
    assert!(slices > 10_000);
}

#[test]
fn a_scan_costs_what_it_finds_not_what_is_stored() {
    let topics: Vec<String> =
        (0..100).flat_map(|area| (0..100).map(move |device| format!("area{area:02}/dev{device:02}/t"))).collect();
    let store = store(&topics.iter().map(String::as_str).collect::<Vec<_>>());
    for (filter, hits, most) in [
        ("area07/dev07/t", 1, 1),
        ("area07/dev07/u", 0, 1),
        ("area07/#", 100, 103),
        ("area07/+/t", 100, 203),
        ("+/dev07/t", 100, 303),
        ("+/dev07/u", 0, 303),
        ("nowhere/+/+/#", 0, 2),
    ] {
        let (found, seeks) = scan(&store, filter);
        assert_eq!(found.len(), hits, "{filter}");
        assert!(seeks <= most, "{filter}: {seeks}");
    }
}

#[test]
fn a_sweep_removes_what_expired_and_nothing_else() {
    let now = Now { mono_ms: 60_000, wall_s: 0 };
    let mut random = Random(17);
    for _ in 0..500 {
        let mut store = Retained::new();
        for _ in 0..random.below(30) {
            let expiry = [None, Some(10), Some(100)][random.below(3)];
            store.insert(message(&random_topic(&mut random), b"", expiry));
        }
        let lives: Vec<Msg> = store.iter().filter(|msg| !msg.expired(now)).cloned().collect();
        let (before, mut removed, mut spent) = (store.len(), 0, 0);
        let mut cursor = Cursor::default();
        'sweep: loop {
            let given = u32::try_from(random.below(4)).unwrap();
            let mut budget = given;
            loop {
                match store.sweep(now, &mut cursor, &mut budget) {
                    Step::Hit(msg) => {
                        assert!(msg.expired(now));
                        removed += 1;
                    }
                    Step::Done => {
                        spent += given - budget;
                        break 'sweep;
                    }
                    Step::OutOfBudget => break,
                }
            }
            spent += given;
        }
        assert_eq!((store.len(), removed), (lives.len(), before - lives.len()));
        assert!(store.iter().zip(&lives).all(|(a, b)| a.same(b)));
        assert_eq!(spent as usize, before, "every message is looked at once");
    }
}

#[test]
fn an_entry_is_no_more_than_its_pointer() {
    assert_eq!(size_of::<Entry>(), size_of::<usize>());
    assert!(size_of::<Cursor>() <= 4 * size_of::<usize>());
}
