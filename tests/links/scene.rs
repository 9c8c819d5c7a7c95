//! Two brokers, the bridge between them, the proxy and the name server on its way, load in both directions, and who
//! watches. All of it in a namespace of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::broker::{Broker, program};
use crate::directory::Directory;
use crate::dns::{Answer, NameServer};
use crate::proxy::Proxy;
use crate::session::Place;
use crate::traffic::{Arrival, Collector, Publisher, wait_for_way};

/// Where the bridge believes its peer to be.
pub(crate) const PEER: &str = "peer.test";
const PORT: u16 = 18_830;
/// What a bridge says about itself.
const STATE: &str = "$SYS/broker/connection/edge/state";
/// Time for anything that has no limit of its own.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const DEBIAN: &str = "/usr/sbin/mosquitto";

/// What the other broker may keep. Debian's forgets queued messages of a connected client under load unless it need not
/// queue any.
const REMOTE_LIMITS: &str = "max_queued_messages 100000\nmax_inflight_messages 0\n";

/// Which broker is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Debian,
}

impl Kind {
    fn program(self) -> PathBuf {
        match self {
            Kind::Ours => env!("CARGO_BIN_EXE_mosquitto").into(),
            Kind::Debian => DEBIAN.into(),
        }
    }

    /// Debian's broker publishes some QoS 2 messages again when it restarts, also to clients of its own. These arrivals
    /// are of one message; `restarts` tells when it was stopped and when it was back.
    pub(crate) fn doubles_itself(self, arrivals: &[Arrival], restarts: &[(Instant, Instant)]) -> bool {
        let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) else { return false };
        // What it was sent just before it stopped arrives just before that.
        let near = Duration::from_millis(500);
        self == Kind::Debian && restarts.iter().any(|(begin, up)| first.at <= *up && last.at + near >= *begin)
    }

    /// Whether it is there; says so when it is not.
    pub(crate) fn is_there(self, test: &str) -> bool {
        let there = self.program().exists();
        if !there {
            crate::broker::note(&format!("{test} skipped: no {DEBIAN} (package mosquitto)"));
        }
        there
    }
}

/// What is bridged and how.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) remote: Kind,
    /// `bridge_protocol_version`.
    pub(crate) version: &'static str,
    /// Messages that the bridging broker keeps for the bridge: `max_queued_messages`.
    pub(crate) queue: u32,
}

/// Everything but the load. Fields are dropped in this order.
pub(crate) struct Scene {
    pub(crate) state: Collector,
    pub(crate) local: Broker,
    remote: Option<Broker>,
    pub(crate) proxy: Proxy,
    pub(crate) names: NameServer,
    /// Where local clients go.
    pub(crate) near: Place,
    /// Where clients of the other broker go, not through the proxy.
    pub(crate) far: Place,
    host: u8,
    plan: Plan,
    directory: Directory,
}

impl Scene {
    /// Starts it in the namespace of this thread and waits until the bridge is connected.
    pub(crate) fn start(plan: &Plan) -> Scene {
        let begin = Instant::now();
        let directory = Directory::new("scene");
        std::fs::create_dir_all(directory.path().join("db")).expect("a temporary directory");
        let remote = start_remote(plan, &directory);
        let names = NameServer::start();
        let host = 2;
        names.set(PEER, Answer::Is(address(host).0));
        let proxy = Proxy::start(address(host).1, remote.addr());
        let lines = format!(
            "max_queued_messages {}\nconnection link\naddress {PEER}:{PORT}\nbridge_protocol_version {}\n\
             topic out/# out 2\ntopic in/# in 2\nrestart_timeout 1\nkeepalive_interval 5\ncleansession false\n\
             remote_clientid edge\n{}",
            plan.queue,
            plan.version,
            // Else a session of version 5 ends with its connection, and what is on its way is lost.
            if plan.version == "mqttv50" && !program().starts_with("/usr") {
                "bridge_session_expiry_interval 3600\n"
            } else {
                ""
            }
        );
        // A look-up without an answer takes three seconds.
        let command = || names.command(&program(), directory.path(), "timeout:3 attempts:1");
        let local = Broker::start_command(&lines, command);
        let (near, far) = (Place::new(local.addr()), Place::new(remote.addr()));
        let state = Collector::start(&near, "state", STATE, 1);
        let scene =
            Scene { state, local, remote: Some(remote), proxy, names, near, far, host, plan: plan.clone(), directory };
        scene.wait_for_state(b"1", begin, LIMIT);
        scene
    }

    /// Waits until the state topic says this, in a message after `since`; returns when it was said.
    pub(crate) fn wait_for_state(&self, value: &[u8], since: Instant, limit: Duration) -> Instant {
        let is = |last: &Arrival| last.payload == value && last.at >= since;
        let came = self.state.wait_for(STATE, limit, |seen| seen.last().is_some_and(is));
        assert!(came, "the state is not {} within {limit:?}: {:?}", value[0] - b'0', self.states());
        self.state.arrivals(STATE).last().expect("it came").at
    }

    /// Waits until the bridge has been connected for a while: with a short queue it takes a backlog in several connections.
    pub(crate) fn wait_until_steady(&self) {
        let deadline = Instant::now() + LIMIT;
        let steady = |(at, value): &(Instant, u8)| *value == b'1' && at.elapsed() > Duration::from_millis(500);
        while !self.states().last().is_some_and(steady) {
            assert!(Instant::now() < deadline, "no steady connection: {:?}", self.states());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// All that the state topic said, and when.
    pub(crate) fn states(&self) -> Vec<(Instant, u8)> {
        self.state.arrivals(STATE).iter().map(|state| (state.at, state.payload[0])).collect()
    }

    /// What the other broker says about the bridge.
    pub(crate) fn watch_far(&self) -> Collector {
        Collector::start(&self.far, "far-state", STATE, 1)
    }

    /// Waits until the other broker says that the bridge is connected; with `was_gone`, that it was not at some time after
    /// that.
    pub(crate) fn wait_for_far_state(&self, watch: &Collector, was_gone: Option<Instant>) {
        let gone = |seen: &[Arrival]| {
            was_gone.is_none_or(|since| seen.iter().any(|state| state.at >= since && state.payload == b"0"))
        };
        let came =
            watch.wait_for(STATE, LIMIT, |seen| seen.last().is_some_and(|last| last.payload == b"1") && gone(seen));
        assert!(came, "what the other broker says is not true: {:?}", watch.arrivals(STATE));
    }

    /// The proxy listens again where the name points.
    pub(crate) fn listen(&self) {
        self.proxy.listen(address(self.host).1);
    }

    /// The peer moves to another address, and the name with it.
    pub(crate) fn move_peer(&mut self) {
        self.host = if self.host == 250 { 2 } else { self.host + 1 };
    }

    /// The name points to where the peer is.
    pub(crate) fn correct_name(&self) {
        self.names.set(PEER, Answer::Is(address(self.host).0));
    }

    /// Stops the other broker in good order.
    pub(crate) fn stop_remote(&mut self) {
        let mut remote = self.remote.take().expect("a running broker");
        remote.signal("TERM");
        remote.wait_exit();
    }

    /// Starts it again, with what it saved.
    pub(crate) fn start_remote(&mut self) {
        let remote = start_remote(&self.plan, &self.directory);
        self.far.set(remote.addr());
        self.proxy.set_target(remote.addr());
        self.remote = Some(remote);
    }
}

fn start_remote(plan: &Plan, directory: &Directory) -> Broker {
    let db = directory.path().join("db");
    // Debian's gives up root for a user who could not write there.
    let lines = format!("persistence true\npersistence_location {}/\nuser root\n{REMOTE_LIMITS}", db.display());
    Broker::start_command(&lines, || Command::new(plan.remote.program()))
}

fn address(host: u8) -> (Ipv4Addr, SocketAddr) {
    let ip = Ipv4Addr::new(127, 0, 0, host);
    (ip, SocketAddr::from((ip, PORT)))
}

/// Load in both directions at QoS 1 and 2, and those who count.
pub(crate) struct Load {
    streams: Vec<(&'static str, u8, Publisher)>,
    far: Collector,
    near: Collector,
    /// Gets what the other broker says at that broker, without any bridge.
    control: Collector,
}

/// What became of one stream.
pub(crate) struct Tally {
    pub(crate) topic: &'static str,
    pub(crate) qos: u8,
    pub(crate) sent: u32,
    pub(crate) lost: usize,
    pub(crate) first_lost: Option<usize>,
    pub(crate) twice: usize,
    /// First arrivals behind a later one.
    pub(crate) late: usize,
    /// The arrivals of QoS 2 messages that came more than once.
    pub(crate) doubles: Vec<Vec<Arrival>>,
    /// How many the other broker handed out more than once to a client of its own.
    pub(crate) twice_there: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { topic, qos, sent, lost, first_lost, twice, late, doubles, twice_there } = self;
        write!(
            f,
            "{topic}, QoS {qos}: {sent} sent, {lost} lost {first_lost:?}, {twice} more than once {doubles:?} ({twice_there} there), \
             {late} out of order"
        )
    }
}

impl Load {
    pub(crate) fn start(scene: &Scene) -> Load {
        let far = Collector::start(&scene.far, "far", "out/#", 2);
        let near = Collector::start(&scene.near, "near", "in/#", 2);
        let control = Collector::start(&scene.far, "control", "in/#", 2);
        wait_for_way(&scene.far, "in/probe", &near);
        wait_for_way(&scene.near, "out/probe", &far);
        let stream = |topic: &'static str, place: &Place, qos: u8| {
            (topic, qos, Publisher::start(place, topic, qos, Duration::from_millis(10), 100))
        };
        let streams = vec![
            stream("out/one", &scene.near, 1),
            stream("out/two", &scene.near, 2),
            stream("in/one", &scene.far, 1),
            stream("in/two", &scene.far, 2),
        ];
        Load { streams, far, near, control }
    }

    /// How many messages were acknowledged, over all streams.
    pub(crate) fn acknowledged(&self) -> u32 {
        self.streams.iter().map(|(.., publisher)| publisher.acknowledged()).sum()
    }

    /// Ends the load and waits so long for all that is still under way.
    pub(crate) fn finish(self, limit: Duration) -> Vec<Tally> {
        self.streams.iter().for_each(|(.., publisher)| publisher.stop());
        let tally = |(topic, qos, publisher): &(&'static str, u8, Publisher)| {
            let sent = publisher.finish(LIMIT);
            let collector = if topic.starts_with("out") { &self.far } else { &self.near };
            let counts = collector.counts(topic, sent, limit);
            let (mut late, mut highest, mut seen) = (0, 0, vec![false; counts.len()]);
            for number in collector.arrivals(topic).iter().filter_map(Arrival::number) {
                if !std::mem::replace(&mut seen[number], true) {
                    late += usize::from(number < highest);
                    highest = highest.max(number);
                }
            }
            let mut doubles: BTreeMap<usize, Vec<Arrival>> = BTreeMap::new();
            for arrival in collector.arrivals(topic) {
                if let Some(number) = arrival.number().filter(|number| *qos == 2 && counts[*number] > 1) {
                    doubles.entry(number).or_default().push(arrival);
                }
            }
            let there = self.control.counts(topic, sent, Duration::ZERO);
            Tally {
                topic,
                qos: *qos,
                sent,
                first_lost: counts.iter().position(|count| *count == 0),
                lost: counts.iter().filter(|count| **count == 0).count(),
                twice: counts.iter().filter(|count| **count > 1).count(),
                late,
                doubles: doubles.into_values().collect(),
                twice_there: there.iter().filter(|count| **count > 1).count(),
            }
        };
        self.streams.iter().map(tally).collect()
    }
}
