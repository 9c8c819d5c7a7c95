//! The bridging broker itself is stopped while messages wait for the bridge or are on their way: with `persistence true`
//! whatever it acknowledged arrives all the same.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::broker::{Broker, program};
use crate::directory::Directory;
use crate::proxy::Proxy;
use crate::session::Place;
use crate::settings::{full, side_by_side};
use crate::traffic::{Arrival, Collector, Publisher};

const LIMIT: Duration = Duration::from_secs(60);
const STATE: &str = "$SYS/broker/connection/edge/state";

/// A bridging broker with a database, the other broker, and a proxy between them.
struct Pair {
    local: Option<Broker>,
    remote: Broker,
    proxy: Proxy,
    near: Place,
    directory: Directory,
    version: &'static str,
}

impl Pair {
    fn start(name: &str, version: &'static str) -> Pair {
        let directory = Directory::new(name);
        let remote = Broker::start_with("max_queued_messages 100000\nmax_inflight_messages 0\n");
        let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], 0)), remote.addr());
        let near = Place::new(proxy.addr());
        let mut pair = Pair { local: None, remote, proxy, near, directory, version };
        pair.start_local();
        pair
    }

    fn start_local(&mut self) {
        let lines = format!(
            "persistence true\npersistence_location {}/\nuser root\nmax_queued_messages 100000\nconnection link\n\
             address {}\nbridge_protocol_version {}\ntopic out/# out 2\nremote_clientid edge\nrestart_timeout 1\n\
             cleansession false\n{}",
            self.directory.path().display(),
            self.proxy.addr(),
            self.version,
            if self.version == "mqttv50" { "bridge_session_expiry_interval 3600\n" } else { "" }
        );
        let local = Broker::start_command(&lines, || Command::new(program()));
        self.near.set(local.addr());
        self.local = Some(local);
    }

    fn stop_local(&mut self) {
        let mut local = self.local.take().expect("a running broker");
        local.signal("TERM");
        local.wait_exit();
    }

    fn wait_until_up(&self) {
        let watch = Collector::start(&self.near, "state", STATE, 1);
        let up = watch.wait_for(STATE, LIMIT, |seen| seen.last().is_some_and(|last| last.payload == b"1"));
        assert!(up, "the bridge is not connected");
    }

    fn collector(&self) -> Collector {
        Collector::start(&Place::new(self.remote.addr()), "far", "out/#", 2)
    }
}

fn publishers(near: &Place) -> [(Publisher, &'static str, u8); 2] {
    [("out/one", 1), ("out/two", 2)]
        .map(|(topic, qos)| (Publisher::start(near, topic, qos, Duration::from_millis(2), 50), topic, qos))
}

fn wait(all: &[(Publisher, &'static str, u8)], more: u32) {
    let marks: Vec<u32> = all.iter().map(|(publisher, ..)| publisher.acknowledged() + more).collect();
    while all.iter().zip(&marks).any(|((publisher, ..), mark)| publisher.acknowledged() < *mark) {
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn check(what: &str, far: &Collector, all: &[(Publisher, &'static str, u8)]) {
    all.iter().for_each(|(publisher, ..)| publisher.stop());
    for (publisher, topic, qos) in all {
        let sent = publisher.finish(LIMIT);
        let counts = far.counts(topic, sent, LIMIT);
        let lost = counts.iter().filter(|count| **count == 0).count();
        let twice = counts.iter().filter(|count| **count > 1).count();
        println!("{what}, {topic}: {sent} sent, {lost} lost, {twice} more than once");
        assert_eq!(lost, 0, "{what}, {topic}: lost of {sent}");
        assert!(*qos == 1 || twice == 0, "{what}, {topic}: {twice} of {sent} more than once");
        let mut first = far.arrivals(topic);
        let mut seen = std::collections::HashSet::new();
        first.retain(|arrival| seen.insert(arrival.number()));
        assert!(first.is_sorted_by_key(Arrival::number), "{what}, {topic}: in another order");
    }
}

/// The peer is away, messages wait, and the broker is stopped.
fn waiting(version: &'static str) {
    let mut pair = Pair::start("waiting", version);
    pair.wait_until_up();
    let far = pair.collector();
    pair.proxy.refuse();
    pair.proxy.reset();
    let all = publishers(&pair.near);
    wait(&all, if full() { 10_000 } else { 300 });
    pair.stop_local();
    pair.start_local();
    wait(&all, 20);
    pair.proxy.listen(pair.proxy.addr());
    check(&format!("stopped while they wait, {version}"), &far, &all);
}

/// The broker is stopped under load, again and again.
fn on_their_way(version: &'static str) {
    let mut pair = Pair::start("moving", version);
    pair.wait_until_up();
    let far = pair.collector();
    let all = publishers(&pair.near);
    for _ in 0..if full() { 50 } else { 4 } {
        wait(&all, 100);
        pair.stop_local();
        pair.start_local();
    }
    check(&format!("stopped on the way, {version}"), &far, &all);
}

fn what_waits_outlives_the_broker() {
    waiting("mqttv311");
}

fn what_waits_outlives_the_broker_v5() {
    waiting("mqttv50");
}

fn what_is_on_its_way_outlives_the_broker() {
    on_their_way("mqttv311");
}

fn what_is_on_its_way_outlives_the_broker_v5() {
    on_their_way("mqttv50");
}

#[test]
fn bridging_brokers_that_stop() {
    side_by_side(&[
        ("what_waits_outlives_the_broker", what_waits_outlives_the_broker),
        ("what_waits_outlives_the_broker_v5", what_waits_outlives_the_broker_v5),
        ("what_is_on_its_way_outlives_the_broker", what_is_on_its_way_outlives_the_broker),
        ("what_is_on_its_way_outlives_the_broker_v5", what_is_on_its_way_outlives_the_broker_v5),
    ]);
}
