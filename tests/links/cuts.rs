//! Links that are cut under load, again and again: the bridge comes back, says the truth about itself, loses nothing, and
//! local clients do not notice.

use std::thread;
use std::time::{Duration, Instant};

use crate::broker::program;
use crate::dns::Answer;
use crate::latency::{Latency, Sample, p99};
use crate::namespace::Namespace;
use crate::proxy::{Event, Towards};
use crate::rng::Rng;
use crate::scene::{Kind, LIMIT, Load, PEER, Plan, Scene};
use crate::settings::{cuts, full, side_by_side};
use crate::traffic::{Collector, Publisher};

/// How soon a bridge has to be back once the link is, with `restart_timeout 1`.
const BACK: Duration = Duration::from_secs(5);
/// How soon it has to notice that the peer is gone when that is told.
const NOTICED: Duration = Duration::from_secs(2);
/// And when nothing is told: the keepalive of five seconds, as long again for the answer, and some time to look.
const NOTICED_SILENCE: Duration = Duration::from_secs(13);

/// Room for all messages that a bridge misses.
const PLENTY: u32 = 100_000;
/// Room for far less.
const LITTLE: u32 = 50;

/// What happens to the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// A reset, at once or in the middle of a packet; for a while nobody listens.
    Reset,
    /// Nothing arrives any more, and whoever connects hears nothing.
    Silence,
    /// A reset, and the name does not resolve.
    NameFailure,
    /// The other broker restarts.
    PeerRestart,
    /// The peer moves to another address.
    AddressChange,
}

const CUTS: [Cut; 5] = [Cut::Reset, Cut::Silence, Cut::NameFailure, Cut::PeerRestart, Cut::AddressChange];

/// One cut: the link goes, the bridge says so, the link comes back, the bridge too. Returns when it went and when the
/// bridge was back.
fn cut(scene: &mut Scene, kind: Cut, rng: &mut Rng) -> (Instant, Instant) {
    let away = Duration::from_millis(rng.below(2500));
    let begin = Instant::now();
    match kind {
        Cut::Reset => {
            scene.proxy.refuse();
            match rng.below(3) {
                0 => scene.proxy.reset(),
                1 => scene.proxy.cut_after(Towards::Peer, rng.size(1, 300)),
                _ => scene.proxy.cut_after(Towards::Bridge, rng.size(1, 300)),
            }
        }
        Cut::Silence => {
            scene.proxy.set_mute(true);
            scene.proxy.forget();
        }
        Cut::NameFailure => {
            scene.names.set(PEER, *rng.pick(&[Answer::No, Answer::Failure, Answer::Silence]));
            scene.proxy.reset();
        }
        Cut::PeerRestart => {
            scene.proxy.refuse();
            scene.stop_remote();
        }
        Cut::AddressChange => {
            scene.move_peer();
            scene.proxy.refuse();
            scene.proxy.reset();
        }
    }
    let down = match kind {
        // C Mosquitto 2.0.11 drops a silent peer without a word on its state topic, and tries again.
        Cut::Silence if !ours() => wait_for_attempt(scene, begin),
        Cut::Silence => scene.wait_for_state(b"0", begin, NOTICED_SILENCE),
        _ => scene.wait_for_state(b"0", begin, if ours() { NOTICED } else { LIMIT }),
    };
    thread::sleep(away);
    if kind == Cut::PeerRestart {
        scene.start_remote();
    }
    let said = scene.states();
    assert!(said.iter().all(|(at, value)| *at < down || *value == b'0'), "connected to nobody? {said:?}");
    // From here on the bridge may be back at any moment.
    let returned = Instant::now();
    scene.correct_name();
    if kind == Cut::Silence {
        scene.proxy.set_mute(false);
        // Connections that the peer knows nothing about end by the first packet that gets there.
        scene.proxy.reset();
    } else if kind != Cut::NameFailure {
        scene.listen();
    }
    let up = scene.wait_for_state(b"1", returned, LIMIT);
    let took = up - returned;
    println!("{kind:?}: noticed after {:?}, away for {:?}, back after {took:?}", down - begin, returned - begin);
    assert!(took <= BACK || !ours(), "{kind:?}: back after {took:?}");
    (begin, up)
}

/// Waits until the bridge connects again.
fn wait_for_attempt(scene: &Scene, since: Instant) -> Instant {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some((at, _)) = scene.proxy.events().iter().find(|(at, what)| *at > since && *what == Event::Accepted) {
            return *at;
        }
        assert!(Instant::now() < deadline, "no attempt to connect");
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// Whether the bridging broker is the one that has to be as good as said here.
fn ours() -> bool {
    program().ends_with("target/debug/mosquitto") || std::env::var_os("MOSQUITTO_UNDER_TEST").is_none()
}

/// Cuts of all kinds, in an order that the seed gives.
fn run(test: &str, plan: &Plan, seed: u64, count: usize) {
    if !plan.remote.is_there(test) {
        return;
    }
    let Some(inside) = Namespace::new(test) else { return };
    inside.run(|| {
        let mut rng = Rng::new(seed);
        let mut scene = Scene::start(plan);
        let far_state = scene.watch_far();
        let latency = Latency::start(scene.local.addr());
        let load = Load::start(&scene);
        let (mut disturbed, mut restarts) = (Vec::new(), Vec::new());
        for n in 0..count {
            let kind = CUTS[n % CUTS.len()];
            // Time without trouble, to compare with.
            thread::sleep(Duration::from_millis(1000));
            scene.wait_until_steady();
            let before = load.acknowledged();
            let (begin, up) = cut(&mut scene, kind, &mut rng);
            disturbed.push((begin, up + Duration::from_millis(200)));
            if kind == Cut::PeerRestart {
                restarts.push((begin, up));
            }
            assert!(load.acknowledged() > before, "the load has stopped");
            // A broker that stops says nothing about its clients.
            scene.wait_for_far_state(&far_state, (kind != Cut::PeerRestart).then_some(begin));
        }
        // A bridge whose queue was full takes all that comes now.
        let place = scene.near.clone();
        let late = Collector::start(&scene.far, "late", "out/late", 1);
        let publisher = Publisher::start(&place, "out/late", 1, Duration::from_millis(20), 0);
        thread::sleep(Duration::from_secs(1));
        let sent = publisher.finish(LIMIT);
        assert!(!late.counts("out/late", sent, LIMIT).contains(&0), "not all of {sent}");
        // One that is too short to be noticed changes nothing.
        let before = scene.states().len();
        scene.proxy.set_frozen(true);
        thread::sleep(Duration::from_secs(2));
        scene.proxy.set_frozen(false);
        let tallies = load.finish(if plan.queue == LITTLE { Duration::from_secs(5) } else { LIMIT });
        // With a queue that is too short, what came in that time may have been too much for one connection.
        assert!(plan.queue == LITTLE || scene.states().len() == before, "{:?}", scene.states());
        for tally in &tallies {
            println!("{tally}");
            // With queues that are too short some have to be lost, but not the order, and nothing comes twice. What comes
            // from the other broker has to pass the queue of a local client, which is as short.
            let loses = plan.queue == LITTLE;
            assert!(if loses { tally.lost > 0 || tally.topic.starts_with("in") } else { tally.lost == 0 }, "{tally}");
            let doubles = tally.doubles.iter().filter(|all| !plan.remote.doubles_itself(all, &restarts)).count();
            assert_eq!(doubles, 0, "seed {seed}: {tally}; cuts, ago: {:?}", ago(&disturbed));
            assert!(tally.late == 0 || !ours(), "seed {seed}: {tally}");
        }
        compare(&latency.finish(), &disturbed);
    });
}

/// When the cuts began and ended, to compare with the arrivals of a message that came twice.
fn ago(cuts: &[(Instant, Instant)]) -> Vec<(Duration, Duration)> {
    cuts.iter().map(|(begin, end)| (begin.elapsed(), end.elapsed())).collect()
}

/// Latency inside and outside of these times.
fn compare(samples: &[Sample], disturbed: &[(Instant, Instant)]) {
    let is_disturbed = |at: Instant| disturbed.iter().any(|(begin, end)| *begin <= at && at <= *end);
    let part = |wanted: bool| samples.iter().filter(move |(at, _)| is_disturbed(*at) == wanted).map(|(_, took)| *took);
    let (calm, rough) = (p99(part(false)), p99(part(true)));
    let worst = samples.iter().map(|(_, took)| *took).max().unwrap_or_default();
    println!(
        "local latency: p99 {calm:?} undisturbed ({} samples), {rough:?} during cuts ({} samples), at most {worst:?}",
        part(false).count(),
        part(true).count()
    );
    if ours() {
        // A look-up or a connection that blocks takes three seconds here.
        assert!(worst < Duration::from_secs(2), "local clients waited {worst:?}");
        // Only many samples on a machine that does nothing else say something about the tail.
        assert!(!full() || rough <= 2 * calm, "{rough:?} is more than twice {calm:?}");
    }
}

fn cuts_to_debians_broker() {
    let plan = Plan { remote: Kind::Debian, version: "mqttv311", queue: PLENTY };
    run("cuts", &plan, 1, cuts());
}

fn cuts_to_our_broker() {
    let plan = Plan { remote: Kind::Ours, version: "mqttv50", queue: PLENTY };
    run("cuts", &plan, 2, cuts());
}

fn cuts_with_a_full_queue() {
    let plan = Plan { remote: Kind::Ours, version: "mqttv311", queue: LITTLE };
    run("cuts with a full queue", &plan, 3, cuts());
}

fn a_backlog_of_qos_2_that_is_longer_than_the_queue() {
    // Before version 5 the other broker may have all of it in flight at once.
    let test = "a long backlog";
    let Some(inside) = Namespace::new(test) else { return };
    inside.run(|| {
        let scene = Scene::start(&Plan { remote: Kind::Ours, version: "mqttv311", queue: LITTLE });
        // QoS 0, because this client has no longer queue either.
        let near = Collector::start(&scene.near, "near", "in/#", 0);
        let begin = Instant::now();
        scene.proxy.refuse();
        scene.proxy.reset();
        scene.wait_for_state(b"0", begin, NOTICED);
        let publisher = Publisher::start(&scene.far, "in/two", 2, Duration::from_millis(1), 0);
        while publisher.acknowledged() < 1000 {
            thread::park_timeout(Duration::from_millis(5));
        }
        let sent = publisher.finish(LIMIT);
        scene.listen();
        let counts = near.counts("in/two", sent, LIMIT);
        let lost = counts.iter().filter(|count| **count == 0).count();
        assert_eq!((lost, counts.iter().max()), (0, Some(&1)), "of {sent}");
        assert!(near.arrivals("in/two").is_sorted_by_key(|arrival| arrival.number()), "in another order");
        let connections = scene.states().iter().filter(|(_, value)| *value == b'1').count();
        println!("{sent} messages in {connections} connections");
    });
}

#[test]
fn links_that_are_cut() {
    side_by_side(&[
        ("cuts_to_debians_broker", cuts_to_debians_broker),
        ("cuts_to_our_broker", cuts_to_our_broker),
        ("cuts_with_a_full_queue", cuts_with_a_full_queue),
        ("a_backlog_of_qos_2_that_is_longer_than_the_queue", a_backlog_of_qos_2_that_is_longer_than_the_queue),
    ]);
}
