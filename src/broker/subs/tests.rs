use std::collections::BTreeMap;

use super::oracle::{Random, matches};
use super::*;

fn random_topic(random: &mut Random) -> String {
    let topic = random.levels(&["a", "b", "c", "", "$s", "a-"]);
    if topic.is_empty() { "a".into() } else { topic }
}

fn random_filter(random: &mut Random) -> String {
    let mut filter = random.levels(&["a", "b", "c", "", "$s", "a-", "+", "+", "+"]);
    match random.below(4) {
        0 => filter.push_str("/#"),
        1 if random.below(4) == 0 => filter = "#".into(),
        _ => {}
    }
    if filter.is_empty() { "a".into() } else { filter }
}

fn session(n: u32) -> SessionId {
    SessionId(Key::from_bits(n))
}

fn number(session: SessionId) -> u32 {
    session.0.to_bits()
}

fn qos(qos: QoS) -> SubOptions {
    SubOptions { qos, ..SubOptions::default() }
}

/// Records what it gets; sessions in `refuse` take no shared messages.
#[derive(Default)]
struct Seen {
    normal: Vec<Match>,
    shared: Vec<(u32, bool)>,
    refuse: Vec<u32>,
    offers: usize,
}

impl Sink for Seen {
    fn deliver(&mut self, sub: &Match) {
        assert!(!sub.shared && self.offers == 0, "normal subscribers come first");
        self.normal.push(*sub);
    }

    fn offer(&mut self, sub: &Match, online: bool) -> bool {
        assert!(sub.shared);
        self.offers += 1;
        let takes = !self.refuse.contains(&number(sub.session));
        if takes {
            self.shared.push((number(sub.session), online));
        }
        takes
    }
}

/// A table with its sessions.
struct World {
    subs: Subs,
    lists: Vec<SubList>,
}

impl World {
    fn new(sessions: usize) -> World {
        World { subs: Subs::new([1, 2]), lists: (0..sessions).map(|_| SubList::default()).collect() }
    }

    fn add(&mut self, who: u32, filter: &str, share: Option<&str>, options: SubOptions, id: u32) -> Added {
        let list = &mut self.lists[who as usize];
        self.subs.subscribe(session(who), list, filter, share, options, id, true).unwrap()
    }

    fn plain(&mut self, who: u32, filter: &str) {
        self.add(who, filter, None, SubOptions::default(), 0);
    }

    fn drop(&mut self, who: u32, filter: &str, share: Option<&str>) -> bool {
        self.subs.unsubscribe(session(who), &mut self.lists[who as usize], filter, share)
    }

    fn clear(&mut self, who: u32) {
        self.subs.remove_some(session(who), &mut self.lists[who as usize], u32::MAX);
    }

    fn publish(&mut self, topic: &str) -> Seen {
        let mut seen = Seen::default();
        self.subs.publish(topic, &mut seen);
        seen
    }

    fn subscribers(&mut self, topic: &str) -> Vec<u32> {
        self.publish(topic).normal.iter().map(|sub| number(sub.session)).collect()
    }

    /// Who got the message of a shared subscription, and whether as an online member.
    fn member(&mut self, topic: &str, refuse: &[u32]) -> Option<(u32, bool)> {
        let mut seen = Seen { refuse: refuse.to_vec(), ..Seen::default() };
        self.subs.publish(topic, &mut seen);
        assert!(seen.shared.len() < 2);
        seen.shared.first().copied()
    }
}

#[test]
fn filters_match_as_the_standard_says() {
    for (filter, topic, expected) in [
        ("a/b", "a/b", true),
        ("a/b", "a/B", false),
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/#", "sport", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$SYS/x", false),
        ("+/x", "$SYS/x", false),
        ("$SYS/#", "$SYS/x", true),
        ("$SYS/+", "$SYS/x", true),
        ("a/+", "a/$x", true),
        ("+/+/#", "a/b", true),
        ("+/#", "$SYS", false),
    ] {
        let mut world = World::new(1);
        world.plain(0, filter);
        assert_eq!(!world.subscribers(topic).is_empty(), expected, "{filter} {topic}");
        assert_eq!(matches(filter, topic), expected, "oracle: {filter} {topic}");
    }
}

#[test]
fn the_equal_filter_comes_first_then_plus_then_hash_deepest_first() {
    let mut world = World::new(9);
    for (who, filter) in (0u32..).zip(["#", "+/#", "a/#", "+/+", "a/+", "a/b/#", "+/b", "a/b", "+/b/#"]) {
        world.plain(who, filter);
    }
    assert_eq!(world.subscribers("a/b"), [7, 5, 4, 2, 8, 6, 3, 1, 0]);
}

#[test]
fn subscribing_again_replaces_options_in_place() {
    let mut world = World::new(3);
    for filter in ["t", "+"] {
        for who in 0..3 {
            assert_eq!(world.add(who, filter, None, qos(QoS::AtMostOnce), 1), Added::New);
        }
        let options =
            SubOptions { qos: QoS::ExactlyOnce, no_local: true, retain_as_published: true, retain_handling: 2 };
        assert_eq!(world.add(0, filter, None, options, 268_435_455), Added::Replaced);
        let seen = world.publish(if filter == "t" { "t" } else { "u" }).normal;
        let first = Match { session: session(0), options, id: 268_435_455, shared: false };
        assert_eq!((seen[0], seen.len(), number(seen[2].session)), (first, 3, 2));
        assert!(world.drop(0, filter, None) && !world.drop(0, filter, None));
        world.subs.check_invariants();
    }
}

#[test]
fn options_survive_their_byte() {
    for bits in (0..48u8).filter(|bits| bits & 3 != 3) {
        assert_eq!(SubOptions::from_bits(bits).to_bits(), bits);
    }
}

#[test]
fn random_operations_agree_with_a_list_of_subscriptions() {
    let mut random = Random(42);
    let mut work = 0u64;
    for round in 0..400 {
        let mut world = World::new(6);
        let mut online = [true; 6];
        let mut model = BTreeMap::<(u32, String, Option<&str>), (SubOptions, u32)>::new();
        for _ in 0..50 {
            let who = u32::try_from(random.below(6)).unwrap();
            let filter = random_filter(&mut random);
            let share = if random.below(3) == 0 { Some(random.pick(&["g", "h", "a"])) } else { None };
            match random.below(12) {
                0 => {
                    world.clear(who);
                    model.retain(|(session, ..), _| *session != who);
                }
                1 | 2 => {
                    let known = model.remove(&(who, filter.clone(), share)).is_some();
                    assert_eq!(world.drop(who, &filter, share), known);
                }
                3 => {
                    let keys: Vec<_> = model.keys().filter(|(session, ..)| *session == who).cloned().collect();
                    for (_, filter, share) in keys.iter().skip(1) {
                        assert!(world.drop(who, filter, *share));
                        model.remove(&(who, filter.clone(), *share));
                    }
                }
                4 => {
                    online[who as usize] ^= true;
                    world.subs.set_online(&world.lists[who as usize], online[who as usize]);
                }
                _ => {
                    let options = qos(QoS::from_bits(u8::try_from(random.below(3)).unwrap()).unwrap());
                    let id = u32::try_from(random.below(3)).unwrap();
                    let list = &mut world.lists[who as usize];
                    let added =
                        world.subs.subscribe(session(who), list, &filter, share, options, id, online[who as usize]);
                    let old = model.insert((who, filter, share), (options, id));
                    assert_eq!(added, Ok(if old.is_some() { Added::Replaced } else { Added::New }));
                }
            }
            world.subs.check_invariants();
            for topic in [random_topic(&mut random), random_topic(&mut random)] {
                let mut seen = Seen::default();
                work += u64::from(world.subs.publish(&topic, &mut seen));
                let mut normal: Vec<_> =
                    seen.normal.iter().map(|sub| (number(sub.session), sub.options.to_bits(), sub.id)).collect();
                normal.sort_unstable();
                let hits = || model.iter().filter(|((_, filter, _), _)| matches(filter, &topic));
                let plain = hits().filter(|((.., share), _)| share.is_none());
                let mut expected: Vec<_> =
                    plain.map(|((who, ..), (options, id))| (*who, options.to_bits(), *id)).collect();
                expected.sort_unstable();
                assert_eq!(normal, expected, "round {round}, topic {topic}");
                let mut groups = BTreeMap::<_, bool>::new();
                for ((who, filter, share), _) in hits().filter(|((.., share), _)| share.is_some()) {
                    *groups.entry((filter, share)).or_default() |= online[*who as usize];
                }
                let by_online = seen.shared.iter().filter(|(_, online)| *online).count();
                assert_eq!(seen.shared.len(), groups.len());
                assert_eq!(by_online, groups.values().filter(|online| **online).count());
            }
        }
        for (who, list) in (0u32..).zip(&world.lists) {
            let mut own: Vec<_> =
                world.subs.of_session(list).map(|sub| (sub.filter, sub.share, sub.options.to_bits(), sub.id)).collect();
            own.sort_unstable();
            let expected = model.iter().filter(|((session, ..), _)| *session == who);
            let mut expected: Vec<_> =
                expected.map(|((_, f, share), (o, id))| (f.clone(), *share, o.to_bits(), *id)).collect();
            expected.sort_unstable();
            assert_eq!(own, expected);
            assert_eq!(list.len(), expected.len());
            assert_eq!(list.shared(), expected.iter().filter(|sub| sub.1.is_some()).count());
        }
        (0..6).for_each(|who| world.clear(who));
        world.subs.check_invariants();
        assert_eq!((world.subs.count(), world.subs.filters.all().count()), (0, 0));
        assert!(world.lists.iter().all(|list| list.nodes == 0 && list.shared == 0));
    }
    assert!(work > 0);
}

#[test]
fn random_sets_of_filters_match_like_the_naive_loop() {
    let mut random = Random(7);
    for _ in 0..20_000 {
        let mut world = World::new(1);
        let mut filters: Vec<String> = (0..1 + random.below(6)).map(|_| random_filter(&mut random)).collect();
        filters.sort_unstable();
        filters.dedup();
        for (id, filter) in (0u32..).zip(&filters) {
            world.add(0, filter, None, SubOptions::default(), id);
        }
        for _ in 0..4 {
            let topic = random_topic(&mut random);
            let mut ids: Vec<u32> = world.publish(&topic).normal.iter().map(|sub| sub.id).collect();
            ids.sort_unstable();
            for filter in &filters {
                let Subs { filters, scratch, .. } = &mut world.subs;
                let index = filters.find(filter).unwrap();
                assert_eq!(filters.matches_one(index, &topic, scratch), matches(filter, &topic), "{filter} {topic}");
            }
            let expected = (0u32..).zip(&filters).filter(|(_, filter)| matches(filter, &topic));
            assert_eq!(ids, expected.map(|(id, _)| id).collect::<Vec<_>>(), "{filters:?} {topic}");
        }
    }
}

#[test]
fn shared_messages_go_round_the_online_members() {
    let mut world = World::new(4);
    for who in 0..4 {
        world.add(who, "t/+", Some("g"), SubOptions::default(), 0);
    }
    let turn = |world: &mut World, refuse: &[u32]| world.member("t/x", refuse);
    let taken: Vec<_> = (0..8).map(|_| turn(&mut world, &[]).unwrap().0).collect();
    assert_eq!(taken, [0, 1, 2, 3, 0, 1, 2, 3]);
    world.add(1, "t/+", Some("g"), qos(QoS::AtLeastOnce), 0);
    assert_eq!(turn(&mut world, &[0]), Some((1, true)), "who refuses is passed over, subscribing again keeps the turn");
    world.subs.set_online(&world.lists[2], false);
    world.subs.set_online(&world.lists[2], false);
    assert_eq!(turn(&mut world, &[]), Some((3, true)));
    assert_eq!(turn(&mut world, &[0, 1, 3]), Some((2, false)), "offline members come last");
    world.subs.check_invariants();
    world.subs.set_online(&world.lists[2], true);
    let taken: Vec<_> = (0..4).map(|_| turn(&mut world, &[]).unwrap().0).collect();
    assert_eq!(taken, [0, 1, 3, 2]);
    assert_eq!(turn(&mut world, &[0, 1, 2, 3]), None);
}

#[test]
fn each_group_gets_one_copy_after_the_normal_subscribers() {
    let mut world = World::new(3);
    for (filter, share) in [("#", Some("g")), ("t", Some("g")), ("t", Some("h")), ("t", None), ("+", None)] {
        world.add(0, filter, share, SubOptions::default(), 0);
        world.add(1, filter, share, SubOptions::default(), 0);
    }
    let seen = world.publish("t");
    assert_eq!((seen.normal.len(), seen.shared.len()), (4, 3));
    assert_eq!(world.subs.shared_count(), 6);
}

#[test]
fn a_group_of_members_that_refuse_costs_a_bounded_number_of_offers_and_hides_nobody() {
    let mut world = World::new(201);
    for who in 0..201 {
        world.add(who, "t", Some("g"), SubOptions::default(), 0);
    }
    for who in 150..200 {
        world.subs.set_online(&world.lists[who], false);
    }
    let refuse: Vec<u32> = (0..200).collect();
    let mut seen = Seen { refuse, ..Seen::default() };
    let work = world.subs.publish("t", &mut seen);
    assert_eq!((seen.offers, seen.shared.len()), (64, 0));
    assert!(work < 70);
    for _ in 0..2 {
        world.subs.publish("t", &mut seen);
    }
    assert_eq!(seen.shared, [(200, true)]);
}

#[test]
fn a_message_of_a_leaving_member_goes_to_another_member() {
    let mut world = World::new(3);
    for (filter, share, id, members) in
        [("t/#", "g", 1, &[0, 1][..]), ("t/x", "h", 2, &[0, 2]), ("u", "g", 2, &[0, 1]), ("+/x", "i", 3, &[1, 2])]
    {
        for &who in members {
            world.add(who, filter, Some(share), SubOptions::default(), id);
        }
    }
    let mut pass = |topic: &str, id: u32, skip: usize| {
        let mut seen = Seen::default();
        let passed = world.subs.pass_on(&world.lists[0], session(0), topic, id, skip, &mut seen);
        assert_eq!(passed, seen.shared.len() == 1);
        seen.shared.first().map(|taken| taken.0)
    };
    assert_eq!(pass("t/x", 1, 0), Some(1));
    assert_eq!(pass("t/x", 2, 0), Some(2));
    assert_eq!(pass("t/x", 2, 1), Some(1));
    assert_eq!(pass("t/x", 2, 2), None);
    assert_eq!(pass("t/y", 9, 0), Some(1), "another identifier is better than no member");
    assert_eq!(pass("v", 1, 0), None);
    world.clear(1);
    let mut seen = Seen::default();
    assert!(!world.subs.pass_on(&world.lists[0], session(0), "u", 2, 0, &mut seen), "it never goes back");
    assert_eq!(seen.offers, 0);
}

#[test]
fn shapes_below_another_prefix_cost_a_publish_nothing() {
    let mut world = World::new(1);
    for shape in 0..16_384u32 {
        let levels: Vec<&str> = (0..14).map(|bit| if shape >> bit & 1 == 1 { "+" } else { "x" }).collect();
        world.plain(0, &format!("evil/{}", levels.join("/")));
    }
    let work = world.subs.publish(&format!("good{}", "/x".repeat(14)), &mut Seen::default());
    assert!(work < 5, "{work}");
    let work = world.subs.publish(&format!("evil{}", "/x".repeat(14)), &mut Seen::default());
    assert!(work > 16_384, "{work}");
}

#[test]
fn a_filter_may_be_as_deep_as_a_topic() {
    let mut world = World::new(2);
    let topic = "/".repeat(65_534);
    world.plain(0, &format!("+{topic}"));
    world.plain(1, "+/#");
    assert_eq!(world.subscribers(&topic), [0, 1]);
    assert!(world.subs.scratch.levels_capacity() <= filters::SCRATCH);
    world.clear(0);
    world.subs.check_invariants();
    assert_eq!(world.lists[0].nodes, 0);
}

#[test]
fn many_subscribers_of_one_filter_come_and_leave_in_linear_time() {
    for (filter, share) in [("t", None), ("t/+", None), ("t", Some("g"))] {
        let mut world = World::new(100_000);
        for who in 0..100_000 {
            world.add(who, filter, share, SubOptions::default(), 0);
            world.add(who, filter, share, SubOptions::default(), 1);
        }
        for who in (0..100_000).rev() {
            assert!(world.drop(who, filter, share));
        }
        assert_eq!(world.subs.count(), 0);
    }
}

#[test]
fn a_subscription_is_found_among_many_without_a_walk() {
    const MANY: u32 = 30_000;
    for share in [None, Some("g")] {
        let mut world = World::new(MANY as usize);
        for who in 0..MANY {
            world.add(who, "t", share, SubOptions::default(), 0);
        }
        for i in 0..MANY {
            world.add(0, &format!("own/{i}"), share, SubOptions::default(), 0);
        }
        // Walks would take a billion steps.
        for i in 0..MANY {
            world.add(0, "t", share, SubOptions::default(), i);
        }
        world.subs.check_invariants();
        for i in 0..MANY {
            assert!(world.drop(0, &format!("own/{i}"), share));
        }
        assert!(world.drop(0, "t", share) && !world.drop(0, "t", share));
        world.subs.check_invariants();
    }
}

#[test]
fn a_session_goes_to_and_fro_between_few_and_many_subscriptions() {
    let mut world = World::new(2);
    let filter = |i: u32| (if i % 3 == 0 { format!("{i}/+") } else { i.to_string() }, (i % 5 == 0).then_some("g"));
    let mut there = std::collections::BTreeSet::new();
    let mut state = 1u32;
    for round in 0..20 {
        // Up and down around the border.
        let goal = if round % 2 == 0 { WALKED + 20 } else { WALKED - 20 };
        while there.len() != goal as usize {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let i = state >> 8 & 0x3FF;
            let (name, share) = filter(i);
            if there.len() < goal as usize {
                world.add(0, &name, share, SubOptions::default(), i);
                world.add(1, &name, share, SubOptions::default(), 0);
                there.insert(i);
            } else {
                assert_eq!(world.drop(0, &name, share), there.remove(&i));
            }
        }
        world.subs.check_invariants();
        assert_eq!(world.lists[0].len(), there.len());
    }
    let (id, list) = (session(0), &mut world.lists[0]);
    assert_eq!(world.subs.remove_some(id, list, u32::MAX) as usize, there.len());
    assert!(world.subs.large.len() <= world.lists[1].len());
    world.subs.check_invariants();
}

#[test]
fn a_million_cycles_leave_the_arenas_where_they_were() {
    let mut world = World::new(1);
    for i in 0..1_000_000u32 {
        let (filter, share) = match i % 4 {
            0 => (format!("a/{i}"), None),
            1 => (format!("{i}/+/x"), None),
            2 => (format!("b/{i}/#"), Some("g")),
            _ => (format!("b/{i}"), Some("h")),
        };
        world.add(0, &filter, share, SubOptions::default(), 0);
        assert!(world.drop(0, &filter, share));
    }
    world.subs.check_invariants();
    let subs = &world.subs;
    let capacity = subs.filters.arena_capacity() + subs.records.capacity() + subs.groups.capacity();
    assert_eq!(capacity, 64 * 5);
}

#[test]
fn arenas_give_memory_back_when_most_subscriptions_are_gone() {
    let mut world = World::new(1);
    let name = |i: u32| match i % 4 {
        0 => (format!("a/{i}"), None),
        1 => (format!("{i}/+/x"), None),
        2 => (format!("b/{i}/#"), Some("g")),
        _ => (format!("b/{i}"), Some("h")),
    };
    let capacity = |world: &World| {
        let subs = &world.subs;
        subs.filters.arena_capacity() + subs.records.capacity() + subs.groups.capacity()
    };
    let stays = |i: u32| i % 1000 < 4;
    for _ in 0..2 {
        for i in 0..20_000 {
            world.add(0, &name(i).0, name(i).1, SubOptions::default(), 0);
        }
        let full = capacity(&world);
        for i in (0..20_000).filter(|i| !stays(*i)) {
            assert!(world.drop(0, &name(i).0, name(i).1));
        }
        world.subs.check_invariants();
        assert!(capacity(&world) < full / 4, "{} of {full}", capacity(&world));
        assert_eq!(world.subs.count(), 80);
    }
}

#[test]
fn a_session_past_its_share_of_the_table_is_refused() {
    let mut world = World::new(2);
    let deep = |i: u32| format!("{i}{}/+", "/x".repeat(198));
    let fit = MAX_WILDCARD_NODES_PER_SESSION / 200;
    (0..fit).for_each(|i| world.plain(0, &deep(i)));
    let add = |world: &mut World, who: usize, filter: &str| {
        let who_id = session(u32::try_from(who).unwrap());
        world.subs.subscribe(who_id, &mut world.lists[who], filter, None, SubOptions::default(), 0, true)
    };
    assert_eq!(add(&mut world, 0, "one/more/+"), Err(QuotaExceeded));
    world.subs.check_invariants();
    assert_eq!(add(&mut world, 0, "without/wildcards"), Ok(Added::New));
    assert_eq!(add(&mut world, 0, &deep(0)), Ok(Added::Replaced));
    assert_eq!(add(&mut world, 1, "one/more/+"), Ok(Added::New));
    assert_eq!(add(&mut world, 0, "one/more/+"), Ok(Added::New), "the levels were there already");
    assert!(world.drop(0, &deep(0), None));
    assert_eq!(add(&mut world, 0, "two/more/+"), Ok(Added::New));
    world.lists[1].records.len = MAX_SUBSCRIPTIONS_PER_SESSION;
    let list = &mut world.lists[1];
    assert_eq!(world.subs.subscribe(session(1), list, "t", None, qos(QoS::AtMostOnce), 0, true), Err(QuotaExceeded));
}

#[test]
fn a_session_may_have_only_so_many_shared_subscriptions() {
    let mut world = World::new(1);
    world.lists[0].shared = MAX_SHARED_SUBSCRIPTIONS_PER_SESSION;
    let list = &mut world.lists[0];
    let mut add = |share| world.subs.subscribe(session(0), list, "t", share, qos(QoS::AtMostOnce), 0, true);
    assert_eq!(add(Some("g")), Err(QuotaExceeded));
    world.lists[0].shared = 0;
    let list = &mut world.lists[0];
    let mut add = |share| world.subs.subscribe(session(0), list, "t", share, qos(QoS::AtMostOnce), 0, true);
    assert_eq!((add(None), add(Some("g"))), (Ok(Added::New), Ok(Added::New)));
}

#[test]
fn the_tree_is_written_with_its_subscribers() {
    let mut world = World::new(3);
    world.add(0, "a/b", None, qos(QoS::AtLeastOnce), 0);
    world.add(1, "a/b", None, qos(QoS::AtMostOnce), 0);
    world.add(1, "a/+/c", None, qos(QoS::AtMostOnce), 0);
    world.add(2, "a", None, qos(QoS::ExactlyOnce), 0);
    world.add(2, "s/t", Some("g"), qos(QoS::ExactlyOnce), 0);
    let mut out = String::new();
    world.subs.write_tree(|session| format!("c{}", number(session)), &mut out);
    let expected = ["    a (c2, 2)", "      +", "        c (c1, 0)", "      b (c0, 1) (c1, 0)", "    s", "      t"];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn sizes_are_what_the_memory_budget_assumes() {
    assert_eq!(size_of::<Record>(), 32);
    assert_eq!(filters::node_size(), 16);
    assert!(size_of::<tokens::Token>() <= 24);
    assert!(size_of::<filters::Filter>() <= 32);
    assert!(size_of::<Group>() <= 32);
    assert_eq!(size_of::<SubList>(), 16);
}
