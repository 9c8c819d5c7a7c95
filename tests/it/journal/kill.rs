//! Publishers and subscribers under load, and a broker that is killed again and again. `KILLS=200` says how often.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{broker, kill, lines, stop};
use crate::broker::{Broker, note};
use crate::client::{Client, Missing, connect_with, publish, string, subscribe};
use crate::folder::Folder;

/// The number of the last message.
const END: u32 = u32::MAX;
/// Messages a publisher has under way.
const WINDOW: usize = 8;

/// What a step of a conversation gave.
enum Heard {
    Packet(Vec<u8>),
    Nothing,
    Gone,
}

fn hear(client: &mut Client) -> Heard {
    let head = match client.recv(1) {
        Ok(head) => head[0],
        Err(Missing::TimedOut(_)) => return Heard::Nothing,
        Err(Missing::Closed(_)) => return Heard::Gone,
    };
    let (mut packet, mut len, mut shift) = (vec![head], 0usize, 0);
    loop {
        let Ok(byte) = client.recv(1) else { return Heard::Gone };
        packet.push(byte[0]);
        len |= usize::from(byte[0] & 0x7F) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    match client.recv(len) {
        Ok(rest) => Heard::Packet([packet, rest].concat()),
        Err(_) => Heard::Gone,
    }
}

fn connect(addr: SocketAddr, id: &str) -> Option<Client> {
    let mut client = Client::try_open(addr).ok()?;
    client.send(&connect_with(4, 0, 60, &[], &[&string(id)]));
    match hear(&mut client) {
        Heard::Packet(ack) => {
            assert_eq!((ack[0], ack[3]), (0x20, 0), "CONNACK of {id}: {ack:?}");
            Some(client)
        }
        _ => None,
    }
}

/// Publishes numbers with QoS 1 and 2 by turns, and now and then retains one.
struct Publisher {
    id: String,
    next: u32,
    packet_id: u16,
    /// Packet identifier, number, and whether PUBREC came.
    open: VecDeque<(u16, u32, bool)>,
    acked: Vec<u32>,
}

impl Publisher {
    fn qos(number: u32) -> u8 {
        1 + u8::from(number % 2 == 0)
    }

    fn packet(&self, (id, number, _): (u16, u32, bool), dup: bool) -> Vec<u8> {
        let flags = Publisher::qos(number) << 1 | if dup { 8 } else { 0 };
        publish(4, flags, &format!("load/{}", self.id), id, &number.to_be_bytes())
    }

    /// Until the broker is gone or, when it is `done`, everything is acknowledged.
    fn run(&mut self, addr: SocketAddr, done: &AtomicBool) {
        let Some(mut client) = connect(addr, &self.id) else { return };
        client.set_limit(Duration::from_millis(100));
        for entry in self.open.clone() {
            let (id, _, received) = entry;
            let [high, low] = id.to_be_bytes();
            client.send(&if received { vec![0x62, 2, high, low] } else { self.packet(entry, true) });
        }
        loop {
            while self.open.len() < WINDOW && !done.load(Ordering::Relaxed) {
                self.next += 1;
                self.packet_id = self.packet_id % 60_000 + 1;
                let entry = (self.packet_id, self.next, false);
                self.open.push_back(entry);
                client.send(&self.packet(entry, false));
                if self.next % 5 == 0 {
                    let retain = publish(4, 1, &format!("kept/{}", self.id), 0, &self.next.to_be_bytes());
                    client.send(&retain);
                }
            }
            if self.open.is_empty() {
                return;
            }
            match hear(&mut client) {
                Heard::Packet(packet) => self.heard(&mut client, &packet),
                Heard::Nothing => {}
                Heard::Gone => return,
            }
        }
    }

    fn heard(&mut self, client: &mut Client, packet: &[u8]) {
        let id = u16::from_be_bytes([packet[2], packet[3]]);
        let Some(at) = self.open.iter().position(|open| open.0 == id) else { return };
        match packet[0] {
            0x40 | 0x70 => {
                if let Some((_, number, _)) = self.open.remove(at) {
                    self.acked.push(number);
                }
            }
            0x50 => {
                self.open[at].2 = true;
                client.send(&[0x62, 2, packet[2], packet[3]]);
            }
            other => panic!("{}: unexpected {other:02X}", self.id),
        }
    }
}

/// Gets everything with QoS 2 and a session that stays.
struct Subscriber {
    id: &'static str,
    qos: u8,
    subscribed: bool,
    /// QoS 2 messages that were not released.
    received: BTreeSet<u16>,
    /// By publisher and number.
    got: BTreeMap<(String, u32), u32>,
    ended: bool,
}

impl Subscriber {
    fn new(id: &'static str, qos: u8) -> Subscriber {
        Subscriber { id, qos, subscribed: false, received: BTreeSet::new(), got: BTreeMap::new(), ended: false }
    }

    fn run(&mut self, addr: SocketAddr) {
        let Some(mut client) = connect(addr, self.id) else { return };
        client.set_limit(Duration::from_millis(100));
        if !self.subscribed {
            client.send(&subscribe(4, 1, "load/#", self.qos));
        }
        let mut since = Instant::now();
        while !self.ended {
            match hear(&mut client) {
                Heard::Packet(packet) => {
                    since = Instant::now();
                    self.heard(&mut client, &packet);
                }
                Heard::Nothing => assert!(since.elapsed() < Duration::from_secs(20), "{}: nothing more came", self.id),
                Heard::Gone => return,
            }
        }
    }

    fn heard(&mut self, client: &mut Client, packet: &[u8]) {
        match packet[0] {
            0x90 => self.subscribed = true,
            0x62 => {
                self.received.remove(&u16::from_be_bytes([packet[2], packet[3]]));
                client.send(&[0x70, 2, packet[2], packet[3]]);
            }
            head if head >> 4 == 3 => self.message(client, packet),
            other => panic!("{}: unexpected {other:02X}", self.id),
        }
    }

    fn message(&mut self, client: &mut Client, packet: &[u8]) {
        let len = usize::from(packet[3]);
        let topic = String::from_utf8(packet[4..4 + len].to_vec()).expect("text");
        let rest = &packet[4 + len..];
        let id = [rest[0], rest[1]];
        let number = u32::from_be_bytes(rest[2..6].try_into().expect("a number"));
        let qos = packet[0] >> 1 & 3;
        let fresh = qos == 1 || self.received.insert(u16::from_be_bytes(id));
        client.send(&[if qos == 1 { 0x40 } else { 0x50 }, 2, id[0], id[1]]);
        if fresh {
            *self.got.entry((topic, number)).or_default() += 1;
        }
        self.ended = number == END;
    }
}

/// A broker that drops nothing.
fn loaded(folder: &Folder, mode: &str) -> Broker {
    Broker::start_with(&format!("{}max_queued_messages 0\nlog_type error\nlog_type warning\n", lines(folder, mode)))
}

/// Kills the broker so often under load, and reckons then.
fn survive(mode: &str, kills: u32, seed: u32) -> (usize, u64) {
    let folder = Folder::new();
    let mut publishers: Vec<Publisher> = (0..3)
        .map(|n| Publisher { id: format!("p{n}"), next: 0, packet_id: 0, open: VecDeque::new(), acked: Vec::new() })
        .collect();
    let mut online = [Subscriber::new("s-two", 2), Subscriber::new("s-one", 1)];
    let mut offline = Subscriber::new("s-away", 2);
    // Both subscriptions are promised before there is any load.
    let first = loaded(&folder, mode);
    for subscriber in online.iter_mut().chain([&mut offline]) {
        let mut client = connect(first.addr(), subscriber.id).expect("a broker");
        client.send(&subscribe(4, 1, "load/#", subscriber.qos));
        client.expect(&[0x90, 3, 0, 1, subscriber.qos]);
        subscriber.subscribed = true;
    }
    kill(first);
    let mut random = seed;
    let mut below = |n: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % n
    };
    for _ in 0..kills {
        let running = loaded(&folder, mode);
        let addr = running.addr();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for publisher in &mut publishers {
                scope.spawn(|| publisher.run(addr, &done));
            }
            for subscriber in &mut online {
                scope.spawn(|| subscriber.run(addr));
            }
            // The moment is what this is about, not something to wait for.
            thread::sleep(Duration::from_millis(below(150).into()));
            if below(3) == 0 {
                running.signal("USR1");
                thread::sleep(Duration::from_micros(below(8000).into()));
            }
            kill(running);
        });
    }
    reckon(&folder, mode, publishers, online, offline)
}

fn reckon(
    folder: &Folder,
    mode: &str,
    mut publishers: Vec<Publisher>,
    mut online: [Subscriber; 2],
    mut offline: Subscriber,
) -> (usize, u64) {
    let running = loaded(folder, mode);
    let done = AtomicBool::new(true);
    for publisher in &mut publishers {
        publisher.run(running.addr(), &done);
        assert!(publisher.open.is_empty(), "{}: everything is acknowledged", publisher.id);
    }
    let mut last = Client::connect(running.addr(), 4, "last");
    last.send(&publish(4, 4, "load/end", 1, &END.to_be_bytes()));
    last.expect(&[0x50, 2, 0, 1]);
    last.send(&[0x62, 2, 0, 1]);
    last.expect(&[0x70, 2, 0, 1]);
    for subscriber in online.iter_mut().chain([&mut offline]) {
        subscriber.run(running.addr());
    }
    let mut acknowledged = 0;
    for publisher in &publishers {
        let topic = format!("load/{}", publisher.id);
        acknowledged += publisher.acked.len();
        for number in &publisher.acked {
            for subscriber in online.iter().chain([&offline]) {
                let count = subscriber.got.get(&(topic.clone(), *number)).copied().unwrap_or(0);
                let what = format!("{topic} {number} (QoS {}) for {}", Publisher::qos(*number), subscriber.id);
                assert!(count > 0, "acknowledged and lost: {what}");
                if Publisher::qos(*number) == 2 && subscriber.qos == 2 {
                    assert!(count == 1, "{count} times: {what}");
                }
            }
        }
    }
    let size = std::fs::metadata(folder.file()).map_or(0, |data| data.len());
    stop(running);
    (acknowledged, size)
}

fn kills() -> u32 {
    std::env::var("KILLS").ok().map_or(10, |text| text.parse().expect("KILLS is a number"))
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled() {
    let started = Instant::now();
    let (acknowledged, _) = survive("journal", kills(), 1);
    note(&format!("{acknowledged} messages acknowledged over {} kills in {:?}", kills(), started.elapsed()));
    assert!(acknowledged > 100, "there was load: {acknowledged}");
}

/// Without a journal messages may be lost, but the file is always a sound one.
#[test]
fn a_snapshot_always_loads() {
    let folder = Folder::new();
    for n in 0..kills() {
        let running = Broker::start_with(&format!(
            "{}persistence_strict true\nautosave_interval 1\n",
            lines(&folder, "snapshot")
        ));
        let mut writer = Client::connect(running.addr(), 4, "writer");
        for k in 0..200u32 {
            writer.send(&publish(4, 3, &format!("kept/{}", k % 50), 7, &[0; 2000]));
            writer.expect(&[0x40, 2, 0, 7]);
            if k == 100 {
                running.signal("USR1");
            }
            if k > 100 && k - 100 == n * 7 % 100 {
                break;
            }
        }
        kill(running);
    }
    stop(broker(&folder, "snapshot"));
}
