//! Links that are slow, lose packets, or are gone for a while, and names that are slow or lead nowhere.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::{Broker, free_port, program};
use crate::directory::Directory;
use crate::dns::{Answer, NameServer};
use crate::fake::Fake;
use crate::latency::{Latency, p99};
use crate::namespace::Namespace;
use crate::relay::Relay;
use crate::session::Place;
use crate::settings::{full, side_by_side};
use crate::traffic::{Arrival, Collector, Publisher, wait_for_way};

/// The slow line carries some ten messages a second.
const LIMIT: Duration = Duration::from_secs(600);
const STATE: &str = "$SYS/broker/connection/edge/state";

/// Two brokers with a line between them.
struct Line {
    near: Namespace,
    far: Namespace,
    relay: Relay,
    local: Broker,
    remote: Broker,
    addr: SocketAddr,
}

impl Line {
    /// `remote` is the program at the other end; `None` and a note when there can be no line.
    fn start(test: &str, remote: &str, version: &str, more: &str) -> Option<Line> {
        let (near, far) = (Namespace::new(test)?, Namespace::new(test)?);
        let relay = match Relay::join((&near, "10.77.0.1/24"), (&far, "10.77.0.2/24"), 7) {
            Ok(relay) => relay,
            Err(e) => {
                crate::broker::note(&format!("{test} skipped: no TAP device ({e})"));
                return None;
            }
        };
        let addr = SocketAddr::from(([10, 77, 0, 2], free_port()));
        let lines = format!(
            "listener {} 10.77.0.2\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n",
            addr.port()
        );
        let remote = far.run(|| Broker::start_command(&lines, || Command::new(remote)));
        let lines = format!(
            "max_queued_messages 10000\nconnection link\naddress {addr}\nbridge_protocol_version {version}\n\
             topic out/# out 2\ntopic in/# in 2\nrestart_timeout 1\nkeepalive_interval 5\nremote_clientid edge\n{more}"
        );
        let local = near.run(|| Broker::start_command(&lines, || Command::new(program())));
        Some(Line { near, far, relay, local, remote, addr })
    }

    fn watch(&self) -> Collector {
        self.near.run(|| Collector::start(&Place::new(self.local.addr()), "state", STATE, 1))
    }
}

fn wait_for_state(state: &Collector, value: &[u8], since: Option<Instant>, limit: Duration) -> Instant {
    let is = |last: &Arrival| last.payload == value && since.is_none_or(|since| last.at >= since);
    let came = state.wait_for(STATE, limit, |seen| seen.last().is_some_and(is));
    assert!(came, "the state is not {} in {limit:?}: {:?}", value[0] - b'0', state.arrivals(STATE));
    state.arrivals(STATE).last().expect("it came").at
}

/// Messages in both directions at QoS 1 and 2 over a line that is late and loses.
fn slow_and_lossy(remote: &str, version: &str) {
    let Some(line) = Line::start("the slow line", remote, version, "") else { return };
    let state = line.watch();
    wait_for_state(&state, b"1", None, LIMIT);
    let latency = line.near.run(|| Latency::start(line.local.addr()));
    let calm_until = Instant::now() + Duration::from_secs(if full() { 20 } else { 2 });
    thread::sleep(calm_until - Instant::now());
    line.relay.set(300, 50);
    let (near, far) = (Place::new(line.local.addr()), Place::new(line.remote.addr()));
    let collector = |inside: &Namespace, place: &Place, filter: &str| {
        inside.run(|| Collector::start(place, filter.split('/').next().expect("a level"), filter, 2))
    };
    let (arrived_far, arrived_near) = (collector(&line.far, &far, "out/#"), collector(&line.near, &near, "in/#"));
    line.far.run(|| wait_for_way(&far, "in/probe", &arrived_near));
    line.near.run(|| wait_for_way(&near, "out/probe", &arrived_far));
    let pace = Duration::from_millis(20);
    let streams = [
        (line.near.run(|| Publisher::start(&near, "out/one", 1, pace, 100)), "out/one", 1),
        (line.near.run(|| Publisher::start(&near, "out/two", 2, pace, 100)), "out/two", 2),
        (line.far.run(|| Publisher::start(&far, "in/one", 1, pace, 100)), "in/one", 1),
        (line.far.run(|| Publisher::start(&far, "in/two", 2, pace, 100)), "in/two", 2),
    ];
    let count = if full() { 1000 } else { 150 };
    while streams.iter().any(|(publisher, ..)| publisher.acknowledged() < count) {
        thread::park_timeout(Duration::from_millis(10));
    }
    streams.iter().for_each(|(publisher, ..)| publisher.stop());
    for (publisher, topic, qos) in &streams {
        let sent = publisher.finish(LIMIT);
        let counts = if topic.starts_with("out") { &arrived_far } else { &arrived_near }.counts(topic, sent, LIMIT);
        let lost = counts.iter().filter(|count| **count == 0).count();
        let twice = counts.iter().filter(|count| **count > 1).count();
        assert_eq!(lost, 0, "{topic}: lost of {sent}");
        assert!(*qos == 1 || twice == 0, "{topic}: {twice} twice of {sent}");
    }
    let took = Instant::now() - calm_until;
    let (passed, lost) = line.relay.frames();
    assert!(lost > 0, "the line has lost nothing");
    let ups = state.arrivals(STATE).iter().filter(|state| state.payload == b"1").count();
    let samples = latency.finish();
    let part = |calm: bool| samples.iter().filter(move |(at, _)| (*at < calm_until) == calm).map(|(_, took)| *took);
    let (calm, rough) = (p99(part(true)), p99(part(false)));
    println!(
        "{version} to {remote}: {count} messages a stream in {took:?}, {lost} frames lost of {passed}, {ups} connections, \
         local p99 {calm:?} before, {rough:?} then"
    );
    assert!(!full() || rough <= 2 * calm, "local clients notice");
}

fn a_slow_line_that_loses_packets_to_our_broker() {
    slow_and_lossy(env!("CARGO_BIN_EXE_mosquitto"), "mqttv50");
}

fn a_slow_line_that_loses_packets_to_debians_broker() {
    if crate::scene::Kind::Debian.is_there("the slow line") {
        slow_and_lossy("/usr/sbin/mosquitto", "mqttv311");
    }
}

fn a_line_that_is_dead_for_a_while() {
    let ours = env!("CARGO_BIN_EXE_mosquitto");
    let Some(line) = Line::start("the dead line", ours, "mqttv311", "") else { return };
    let state = line.watch();
    wait_for_state(&state, b"1", None, LIMIT);
    // The system tries to connect again after 1, 3, 7, 15 and 31 seconds: whoever waits for it waits long.
    for away in if full() { vec![2, 9, 17, 30, 45, 70] } else { vec![8] } {
        line.relay.set_dead(true);
        let begin = Instant::now();
        wait_for_state(&state, b"0", Some(begin), Duration::from_secs(13));
        thread::sleep(Duration::from_secs(away));
        line.relay.set_dead(false);
        let returned = Instant::now();
        let took = wait_for_state(&state, b"1", Some(returned), LIMIT) - returned;
        println!("dead for {:?}, back after {took:?}", returned - begin);
        assert!(took < Duration::from_secs(5), "back after {took:?}");
    }
    assert!(line.addr.port() > 0);
}

fn names_that_are_slow_or_lead_nowhere_hold_up_nobody() {
    let Some(inside) = Namespace::new("slow names") else { return };
    // The system's resolver asks again after at most 30 seconds and takes no answer to the question before.
    let late = Duration::from_secs(if full() { 28 } else { 4 });
    inside.run(|| {
        let names = NameServer::start();
        names.set("late.test", Answer::Late(Ipv4Addr::LOCALHOST, late));
        let peers: Vec<Fake> = (0..3).map(|_| Fake::start(false, Vec::new())).collect();
        let connection = |name: &str, host: &str, port: u16| {
            format!(
                "connection {name}\naddress {host}:{port}\ntopic out/# out 1\nrestart_timeout 1\n\
                 remote_clientid {name}\n"
            )
        };
        let lines = [
            connection("nowhere", "nowhere.test", peers[0].addr().port()),
            connection("late", "late.test", peers[1].addr().port()),
            connection("plain", "127.0.0.1", peers[2].addr().port()),
        ]
        .concat();
        let directory = Directory::new("slow");
        let begin = Instant::now();
        // One question, answered in time or not: the system itself does not give up before.
        let local = Broker::start_command(&lines, || {
            names.command(&program(), directory.path(), "timeout:30 attempts:2 single-request")
        });
        let started = begin.elapsed();
        assert!(started < Duration::from_secs(3), "the start took {started:?}");
        let latency = Latency::start(local.addr());
        let near = Place::new(local.addr());
        let publisher = Publisher::start(&near, "out/x", 1, Duration::from_millis(50), 0);
        assert!(peers[2].wait_for("out/x", Duration::from_secs(5)), "the bridge that needs no name waits for one");
        let limit = late + Duration::from_secs(10);
        assert!(peers[1].wait_for("out/x", 2 * late + limit), "the late name does not help");
        println!("connected by a name that takes {late:?} after {:?}", begin.elapsed());
        assert_eq!(peers[0].connections(), 0);
        names.set("nowhere.test", Answer::Is(Ipv4Addr::LOCALHOST));
        let returned = Instant::now();
        assert!(peers[0].wait_for("out/x", LIMIT), "the name that is there now does not help");
        println!("connected {:?} after the name is there", returned.elapsed());
        assert!(returned.elapsed() < Duration::from_secs(5));
        let worst = latency.finish().into_iter().map(|(_, took)| took).max().unwrap_or_default();
        assert!(worst < Duration::from_secs(2), "local clients waited {worst:?}");
        drop(publisher);
    });
}

#[test]
fn links_that_are_bad() {
    side_by_side(&[
        ("a_slow_line_that_loses_packets_to_our_broker", a_slow_line_that_loses_packets_to_our_broker),
        ("a_slow_line_that_loses_packets_to_debians_broker", a_slow_line_that_loses_packets_to_debians_broker),
        ("a_line_that_is_dead_for_a_while", a_line_that_is_dead_for_a_while),
        ("names_that_are_slow_or_lead_nowhere_hold_up_nobody", names_that_are_slow_or_lead_nowhere_hold_up_nobody),
    ]);
}
