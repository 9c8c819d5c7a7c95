//! One run: who there is, what happens at random, and the reckoning at the end.

use std::collections::BTreeMap;

use mosquitto::broker::auth::access::{RuleFiles, Rules};
use mosquitto::broker::auth::password::Passwords;
use mosquitto::broker::message;
use mosquitto::config::{Config, Listener};
use mosquitto::slab::Key;
use mosquitto::timer::Now;
use mosquitto::wire::control::{Disconnect, PINGREQ};
use mosquitto::wire::subscribe::{RetainHandling, SubscribeOptions};
use mosquitto::wire::{ProtocolVersion, QoS, ReasonCode};

use crate::client::{Client, Draft, Kind, LONG, QOS};
use crate::disk::CRASHES;
use crate::net::{Event, Net};
use crate::oracle::{Oracle, Terms};
use crate::rng::Rng;

/// `sim` has the password `x`, behind a hash that is compared elsewhere.
const PASSWORDS: &[u8] = include_bytes!("passwords.txt");
const VERSIONS: [ProtocolVersion; 3] = [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];
const NOISE_TOPICS: [&str; 6] = ["n/a", "n/b", "n/a/b", "n/b/a", "n", "n/a/b/c"];
const NOISE_FILTERS: [&str; 12] = [
    "n/#",
    "#",
    "n/+",
    "n/a",
    "+/a/b",
    "n/a/#",
    "$share/g/n/#",
    "$share/g/n/+",
    "$share/h/#",
    "w/#",
    "$SYS/#",
    "will/#",
];

pub(crate) struct World {
    rng: Rng,
    net: Net,
    oracle: Oracle,
    clients: Vec<Client>,
    /// What the CONNECT of each connection said.
    terms: BTreeMap<Key, Terms>,
    /// Connections their clients have given up without a word.
    orphans: Vec<Key>,
    /// Nothing is held up.
    calm: bool,
}

/// Runs one seed and returns the hash of everything that went over the wires.
pub(crate) fn run(seed: u64) -> u64 {
    let mut world = World::new(seed);
    world.set_up();
    world.calm = false;
    let steps = world.rng.range(100, 700);
    for _ in 0..steps {
        world.step();
    }
    world.calm = true;
    world.drain();
    world.check_messages();
    world.check_retained();
    world.let_time_pass(300_000);
    let now_ms = world.net.now.mono_ms;
    world.oracle.check_wills(now_ms);
    world.net.hash
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let mut config = Config::local_only(&[1883]);
        let global = &mut config.global;
        global.connection_messages = false;
        let strict = seed % 4 == 3;
        global.strict_conformance = strict;
        global.allow_anonymous = Some(true);
        global.max_inflight_messages = u16::try_from(rng.range(1, 20)).unwrap();
        global.max_inflight_bytes = *rng.pick(&[0, 0, 3000]);
        let lossy = rng.one_in(6);
        global.max_queued_messages = if lossy { u32::try_from(rng.range(8, 30)).unwrap() } else { 0 };
        global.allow_duplicate_messages = !rng.one_in(3);
        global.queue_qos0_messages = rng.one_in(3);
        global.upgrade_outgoing_qos = rng.one_in(8);
        global.retain_expiry_interval = Some(60).filter(|_| rng.one_in(2));
        global.enable_control_api = seed % 3 == 0;
        let upgrade = global.upgrade_outgoing_qos;
        config.listeners = vec![Listener::new(1883, None)];
        let start = Now { mono_ms: (1 << 32) + rng.below(5000), wall_s: 1_000_000 };
        let mut net = Net::new(config, [seed, !seed], start);
        message::number_from(0);
        if rng.one_in(3) {
            net.start_journal(seed);
        }
        if seed % 5 == 2 {
            net.set_rules(0);
        } else if rng.one_in(2) {
            // Compared by the worker, as the hash is a slow one.
            let passwords = Passwords::parse(PASSWORDS).expect("a password file");
            let mut access = net.broker.access().clone();
            access.set_global(RuleFiles::default(), Rules { passwords: Some(passwords.into()), acl: None });
            net.broker.set_access(access);
            net.passwords = true;
        }
        let mut world = World {
            rng,
            net,
            oracle: Oracle::new(upgrade && !strict, lossy, strict),
            clients: Vec::new(),
            terms: BTreeMap::new(),
            orphans: Vec::new(),
            calm: true,
        };
        world.add("watcher", Kind::Watcher, ProtocolVersion::V5);
        let version = *world.rng.pick(&VERSIONS);
        world.add("w2", Kind::Witness(QoS::ExactlyOnce), version);
        let version = *world.rng.pick(&VERSIONS);
        world.add("w1", Kind::Witness(QoS::AtLeastOnce), version);
        for n in 0..world.rng.range(1, 3) {
            let version = *world.rng.pick(&VERSIONS);
            world.add(&format!("p{n}"), Kind::Publisher, version);
        }
        if world.rng.one_in(2) {
            for n in 0..2 {
                let version = *world.rng.pick(&VERSIONS);
                world.add(&format!("s{n}"), Kind::Member, version);
            }
        }
        for n in 0..world.rng.range(0, 2) {
            let version = *world.rng.pick(&VERSIONS);
            world.add(&format!("m{n}"), Kind::Mortal, version);
        }
        for n in 0..world.rng.range(0, 4) {
            world.add(&format!("x{n}"), Kind::Noise, ProtocolVersion::V5);
        }
        world
    }

    fn add(&mut self, name: &str, kind: Kind, version: ProtocolVersion) {
        self.clients.push(Client::new(self.clients.len(), name.into(), kind, version));
    }

    /// Every witness gets its session and its subscription before anything goes wrong.
    fn set_up(&mut self) {
        for at in 0..self.clients.len() {
            self.connect(at, true);
            self.settle();
            let qos = |qos| SubscribeOptions { qos, ..SubscribeOptions::default() };
            let client = &mut self.clients[at];
            match client.kind {
                Kind::Witness(q) => client.subscribe(&mut self.net, "w/#", qos(q), None),
                Kind::Member => client.subscribe(&mut self.net, "$share/all/w/#", qos(QoS::ExactlyOnce), None),
                // Without a window that would hold a will up.
                Kind::Watcher => client.subscribe(&mut self.net, "will/#", qos(QoS::AtMostOnce), None),
                Kind::Publisher | Kind::Mortal | Kind::Noise => continue,
            }
            self.settle();
            assert!(self.clients[at].subscribed);
        }
    }

    fn connect(&mut self, at: usize, calm: bool) {
        let terms = self.clients[at].connect(&mut self.rng, &mut self.net, &mut self.oracle, calm);
        if let Some(key) = self.clients[at].conn {
            self.terms.insert(key, terms);
        }
    }

    fn take_events(&mut self) {
        let now_ms = self.net.now.mono_ms;
        for event in std::mem::take(&mut self.net.events) {
            match event {
                Event::Connected(key) => self.oracle.connected(now_ms, key, self.terms[&key].clone()),
                Event::Closed(key, reason) => self.oracle.closed(now_ms, key, &reason),
                Event::Arrived(message, at_ms) => self.oracle.messages[message].arrived_ms = at_ms,
            }
        }
    }

    /// The rest of a turn; the watcher always reads.
    fn finish_turn(&mut self) {
        if let Some(store) = &mut self.net.store {
            store.trouble(&mut self.rng, self.calm);
        }
        if self.calm || self.rng.one_in(4) {
            self.net.sync();
        }
        if !self.calm && self.rng.one_in(20) {
            self.net.snapshot(&mut self.rng);
        }
        while self.calm || self.net.owes_login() || self.rng.one_in(2) {
            if !self.net.answer_login() {
                break;
            }
        }
        self.net.finish_turn();
        self.take_events();
        let clients = &self.clients;
        self.net.bury(|key| clients.iter().any(|client| client.conn == Some(key)));
        self.clients[0].read(&mut self.net, &mut self.oracle, usize::MAX);
        self.clients[0].acknowledge(&mut self.net, usize::MAX);
        if let Some(key) = self.clients[0].conn {
            self.net.read(key, usize::MAX);
            self.take_events();
        }
    }

    fn step(&mut self) {
        match self.rng.below(40) {
            0..=9 => {
                let ms = self.rng.range(1, 400);
                self.let_time_pass(ms);
            }
            10 => {
                let ms = self.rng.range(500, 20_000);
                self.let_time_pass(ms);
            }
            11 if self.rng.one_in(4) => {
                // The machine slept.
                let ms = self.rng.range(1000, 60_000);
                self.net.set_time(self.net.now.mono_ms + ms);
            }
            _ => {}
        }
        for _ in 0..self.rng.range(1, 6) {
            self.event();
            self.take_events();
        }
        self.finish_turn();
    }

    fn event(&mut self) {
        if CRASHES && self.net.store.is_some() && self.rng.one_in(150) {
            return self.crash();
        }
        if let Some(set) = self.net.rules
            && self.rng.one_in(60)
        {
            self.net.set_rules(1 - set);
        }
        let at = self.rng.size(1, self.clients.len() - 1);
        match self.rng.below(20) {
            0..=6 => {
                let keys = self.net.conns.keys();
                let key = *self.rng.pick(&keys);
                let max = *self.rng.pick(&[1, 7, 40, 300, 5000]);
                self.net.read(key, max);
            }
            7..=11 => {
                let max = *self.rng.pick(&[1, 10, 100, 1000, 10_000]);
                let stall = self.rng.one_in(30);
                let client = &mut self.clients[at];
                if stall {
                    client.stall = 20;
                }
                client.stall = client.stall.saturating_sub(1);
                if client.stall == 0 {
                    client.read(&mut self.net, &mut self.oracle, max);
                }
            }
            12..=13 => {
                let n = self.rng.size(1, 4);
                self.clients[at].acknowledge(&mut self.net, n);
            }
            _ => self.act(at),
        }
    }

    /// The broker dies. Of what it wrote to its clients some still arrives.
    fn crash(&mut self) {
        for client in &mut self.clients[1..] {
            let n = *self.rng.pick(&[0, 0, 10, 100, 10_000]);
            client.read(&mut self.net, &mut self.oracle, n);
        }
        for client in &mut self.clients {
            client.forget_connection();
        }
        self.oracle.crashed();
        self.orphans.clear();
        self.terms.clear();
        let power = self.rng.one_in(2);
        self.net.crash(power);
        self.calm = true;
        self.connect(0, true);
        self.settle();
        let options = SubscribeOptions { retain_handling: RetainHandling::DoNotSend, ..SubscribeOptions::default() };
        self.clients[0].subscribe(&mut self.net, "will/#", options, None);
        self.settle();
        self.calm = false;
    }

    fn act(&mut self, at: usize) {
        let Some(key) = self.clients[at].conn else {
            if self.rng.one_in(2) {
                self.connect(at, false);
            }
            return;
        };
        if self.rng.one_in(25) {
            return self.lose(at, key);
        }
        if !self.clients[at].connected {
            return;
        }
        if self.rng.one_in(10) {
            return self.net.send(key, &PINGREQ, None);
        }
        match self.clients[at].kind {
            Kind::Publisher => self.publish(at),
            Kind::Noise if self.net.config.global.enable_control_api && self.rng.one_in(6) => self.operate(at),
            Kind::Noise if self.rng.one_in(2) => self.publish(at),
            Kind::Noise => {
                let filter = *self.rng.pick(&NOISE_FILTERS);
                let client = &mut self.clients[at];
                if self.rng.one_in(4) {
                    return client.unsubscribe(&mut self.net, filter);
                }
                let options = SubscribeOptions {
                    qos: *self.rng.pick(&QOS),
                    no_local: !filter.starts_with('$') && self.rng.one_in(4),
                    retain_as_published: self.rng.one_in(3),
                    retain_handling: *self.rng.pick(&[
                        RetainHandling::Send,
                        RetainHandling::SendIfNew,
                        RetainHandling::DoNotSend,
                    ]),
                };
                let id = Some(u32::try_from(self.rng.range(1, 300)).unwrap()).filter(|n| n % 2 == 0);
                client.subscribe(&mut self.net, filter, options, id);
            }
            Kind::Witness(_) | Kind::Member | Kind::Mortal | Kind::Watcher => {}
        }
    }

    /// Sends somebody away, but not the watcher; or looks who is there.
    fn operate(&mut self, at: usize) {
        let who = self.rng.size(1, self.clients.len() - 1);
        let name = &self.clients[who].name;
        let request = match self.rng.below(4) {
            0 => r#"{"commands":[{"command":"listClients","verbose":true}]}"#.to_string(),
            1 => format!(r#"{{"commands":[{{"command":"getClient","clientid":"{name}"}}]}}"#),
            _ => format!(r#"{{"commands":[{{"command":"disconnectClient","clientid":"{name}"}}]}}"#),
        };
        self.clients[at].ask(&mut self.net, &request);
    }

    fn publish(&mut self, at: usize) {
        let qos = *self.rng.pick(&QOS);
        if !self.clients[at].may_publish(&self.net) {
            return;
        }
        let own = format!("r/{}/{}", self.clients[at].name, self.rng.below(3));
        let publisher = self.clients[at].kind == Kind::Publisher;
        let kind = self.rng.below(10);
        let (topic, retain, qos, expiry_s) = match kind {
            0..=6 if publisher => (*self.rng.pick(&["w/a", "w/b", "w/a/c"]), self.rng.one_in(6), qos, None),
            7 if publisher => (own.as_str(), true, QoS::AtLeastOnce, None),
            _ => {
                let expiry = *self.rng.pick(&[None, Some(1), Some(3), Some(60), Some(LONG)]);
                (*self.rng.pick(&NOISE_TOPICS), self.rng.one_in(3), qos, expiry)
            }
        };
        let any = self.rng.size(4, 160);
        let size = *self.rng.pick(&[any, any, any, 4, 127, 511, 512, 1500]);
        let draft = Draft { topic, qos, retain, size, empty: topic.starts_with("r/") && self.rng.one_in(4), expiry_s };
        self.clients[at].publish(&mut self.rng, &mut self.net, &mut self.oracle, draft);
        if topic.starts_with("r/") {
            let payload = self.oracle.messages.last().map(|message| message.payload.clone()).unwrap_or_default();
            self.oracle.retain(topic, &payload);
        }
    }

    /// A connection ends, one way or another.
    fn lose(&mut self, at: usize, key: Key) {
        let version = self.clients[at].version;
        let way = self.rng.below(5);
        if let (0, true) = (way, self.clients[at].connected) {
            let mut bytes = Vec::new();
            let with_will = version == ProtocolVersion::V5 && self.rng.one_in(2);
            let reason = if with_will { ReasonCode::DISCONNECT_WITH_WILL } else { ReasonCode::SUCCESS };
            // Only who has an expiry may change it.
            let may = self.terms.get(&key).is_some_and(|terms| terms.expiry_s != 0) && !self.clients[at].stable();
            let session_expiry = may.then(|| *self.rng.pick(&[None, Some(0), Some(2), Some(20)])).flatten();
            Disconnect { reason, session_expiry }.encode(&mut bytes, version);
            self.net.send(key, &bytes, None);
        }
        let Some(conn) = self.net.conns.get_mut(key) else { return self.clients[at].forget_connection() };
        if way == 1 {
            // What was under way is lost from any byte on.
            let keep = self.rng.size(0, conn.to_broker.len());
            conn.to_broker.truncate(keep);
        }
        if way == 2 {
            // Nobody tells the broker.
            self.orphans.push(key);
        } else {
            conn.client_done = true;
        }
        if way == 3 {
            self.net.read(key, usize::MAX);
        }
        self.clients[at].forget_connection();
    }

    /// Lets time pass as the loop sees it: one turn at each deadline.
    fn let_time_pass(&mut self, ms: u64) {
        let until = self.net.now.mono_ms + ms;
        for turns in 0.. {
            assert!(turns < 10_000, "timers fire without end");
            let Some(due) = self.net.next_deadline().filter(|due| *due <= until) else { break };
            self.net.set_time(due);
            self.finish_turn();
        }
        self.net.set_time(until);
        self.finish_turn();
    }

    /// Everybody reads and writes until nothing is under way.
    fn settle(&mut self) {
        for rounds in 0.. {
            assert!(rounds < 20_000, "there is no end of traffic");
            let before = self.net.hash;
            for key in self.net.conns.keys() {
                self.net.read(key, 4096);
                self.take_events();
            }
            self.finish_turn();
            for client in &mut self.clients {
                client.read(&mut self.net, &mut self.oracle, 4096);
                client.acknowledge(&mut self.net, usize::MAX);
            }
            let waiting = self.net.conns.iter().any(|(_, conn)| conn.open && !conn.to_broker.is_empty());
            if before == self.net.hash && !waiting && !self.net.busy() {
                return;
            }
        }
    }

    /// Everybody comes back and finishes what was begun.
    fn drain(&mut self) {
        for key in std::mem::take(&mut self.orphans) {
            if let Some(conn) = self.net.conns.get_mut(key) {
                conn.client_done = true;
            }
        }
        for round in 0.. {
            assert!(round < 100, "somebody is never done");
            for at in 0..self.clients.len() {
                if self.clients[at].conn.is_none() && (self.clients[at].stable() || round == 0) {
                    self.connect(at, true);
                }
            }
            self.settle();
            if self.clients.iter().filter(|client| client.stable()).all(Client::idle) {
                return;
            }
        }
    }

    fn check_messages(&self) {
        let publishers: Vec<usize> =
            self.clients.iter().filter(|client| client.kind == Kind::Publisher).map(|client| client.index).collect();
        let mut shared = Vec::new();
        for client in &self.clients {
            match client.kind {
                Kind::Witness(qos) => self.oracle.check_witness(&client.name, &client.got, qos, &publishers, true),
                Kind::Member => shared.extend_from_slice(&client.got),
                _ => {}
            }
        }
        if self.clients.iter().any(|client| client.kind == Kind::Member) {
            self.oracle.check_witness("share", &shared, QoS::ExactlyOnce, &publishers, false);
        }
    }

    /// A newcomer gets exactly the last retained message of each topic that one publisher has for itself.
    fn check_retained(&mut self) {
        self.add("newcomer", Kind::Mortal, ProtocolVersion::V5);
        let at = self.clients.len() - 1;
        self.connect(at, true);
        self.settle();
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        self.clients[at].subscribe(&mut self.net, "r/#", options, None);
        self.settle();
        assert_eq!(self.clients[at].retained_got, self.oracle.retained, "retained messages");
    }
}
