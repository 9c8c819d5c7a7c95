//! Load and its bookkeeping: who was promised what, what arrived and when.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::{publish, subscribe};
use crate::session::{Next, Place, Session};

/// Messages of one publisher that are under way at once.
const WINDOW: usize = 100;
/// How often a thread looks whether it is to end.
const TICK: Duration = Duration::from_millis(20);

/// Publishes numbered messages, from 0, to one topic.
pub(crate) struct Publisher {
    shared: Arc<Sent>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Sent {
    enough: AtomicBool,
    stop: AtomicBool,
    /// Numbers below this were sent.
    sent: AtomicU32,
    /// How many of them were acknowledged.
    acknowledged: AtomicU32,
}

impl Publisher {
    /// Starts: one message each `interval`, of at least `size` bytes.
    pub(crate) fn start(place: &Place, topic: &str, qos: u8, interval: Duration, size: usize) -> Publisher {
        let shared = Arc::new(Sent::default());
        let session = Session::new(place, &format!("publisher-{}", topic.replace('/', "-")));
        let mut work = Sending {
            shared: Arc::clone(&shared),
            session,
            topic: topic.to_owned(),
            qos,
            size,
            next_id: 1,
            under_way: BTreeMap::new(),
        };
        let thread = thread::spawn(move || work.run(interval));
        Publisher { shared, thread: Some(thread) }
    }

    /// How many were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u32 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Sends no more.
    pub(crate) fn stop(&self) {
        self.shared.enough.store(true, Ordering::SeqCst);
    }

    /// Sends no more, waits until all are acknowledged, and says how many there were.
    pub(crate) fn finish(&self, limit: Duration) -> u32 {
        self.stop();
        let deadline = Instant::now() + limit;
        loop {
            // One that was under way when `enough` was set counts in both.
            let (done, sent) = (self.acknowledged(), self.shared.sent.load(Ordering::SeqCst));
            if done == sent && self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
                return sent;
            }
            assert!(Instant::now() < deadline, "{done} of {sent} messages acknowledged in {limit:?}");
            thread::park_timeout(TICK);
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Sending {
    shared: Arc<Sent>,
    session: Session,
    topic: String,
    qos: u8,
    size: usize,
    next_id: u16,
    /// By packet identifier: the next packet to send when the connection is new.
    under_way: BTreeMap<u16, Vec<u8>>,
}

impl Sending {
    fn run(&mut self, interval: Duration) {
        let mut due = Instant::now();
        let mut connected = false;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let enough = self.shared.enough.load(Ordering::SeqCst);
            if enough && self.under_way.is_empty() {
                return;
            }
            let now = Instant::now();
            let may = connected && !enough && self.under_way.len() < WINDOW;
            if may && due <= now {
                self.send_next();
                // After a pause it goes on at its pace instead of catching up.
                due = if now > due + 10 * interval { now + interval } else { due + interval };
                continue;
            }
            let until = if may { due.min(now + TICK) } else { now + TICK };
            match self.session.next(until) {
                Next::Packet(packet) => self.answer(&packet),
                Next::Connected => {
                    connected = true;
                    for packet in self.under_way.values_mut() {
                        if packet[0] & 0xF0 == 0x30 {
                            packet[0] |= 0x08; // DUP
                        }
                        self.session.send(packet);
                    }
                }
                Next::Nothing => {}
            }
        }
    }

    fn send_next(&mut self) {
        let number = self.shared.sent.fetch_add(1, Ordering::SeqCst);
        let mut payload = number.to_string().into_bytes();
        payload.resize(payload.len().max(self.size), b' ');
        let id = self.next_id;
        let packet = publish(4, self.qos << 1, &self.topic, id, &payload);
        self.session.send(&packet);
        if self.qos == 0 {
            self.shared.acknowledged.fetch_add(1, Ordering::SeqCst);
            return;
        }
        self.next_id = id % u16::MAX + 1;
        self.under_way.insert(id, packet);
    }

    fn answer(&mut self, packet: &[u8]) {
        let id = u16::from_be_bytes([packet[2], packet[3]]);
        match packet[0] {
            0x40 | 0x70 if self.under_way.remove(&id).is_some() => {
                self.shared.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            0x50 => {
                let release = vec![0x62, 2, packet[2], packet[3]];
                self.session.send(&release);
                self.under_way.entry(id).and_modify(|packet| *packet = release);
            }
            _ => {}
        }
    }
}

/// A message as it arrived.
#[derive(Clone)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) payload: Vec<u8>,
    /// The first byte of the packet, with DUP, QoS and retain flag.
    pub(crate) first: u8,
    /// The packet identifier; 0 for QoS 0.
    pub(crate) id: u16,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.payload);
        write!(f, "{:02X} m{} {:?} {:?} ago", self.first, self.id, text.trim(), self.at.elapsed())
    }
}

impl Arrival {
    /// The number that [`Publisher`] gave it.
    pub(crate) fn number(&self) -> Option<usize> {
        std::str::from_utf8(&self.payload).ok()?.trim().parse().ok()
    }
}

#[derive(Default)]
struct Received {
    by_topic: HashMap<String, Vec<Arrival>>,
    subscribed: bool,
    stop: bool,
}

/// Subscribes and keeps what arrives, by topic.
pub(crate) struct Collector {
    shared: Arc<(Mutex<Received>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Starts and waits until the subscription stands.
    pub(crate) fn start(place: &Place, id: &str, filter: &str, qos: u8) -> Collector {
        let shared: Arc<(Mutex<Received>, Condvar)> = Arc::default();
        let mut work = Receiving {
            shared: Arc::clone(&shared),
            session: Session::new(place, id),
            filter: filter.to_owned(),
            qos,
            promised: Vec::new(),
        };
        let thread = thread::spawn(move || work.run());
        let collector = Collector { shared, thread: Some(thread) };
        let standing = collector.wait(|received| received.subscribed, Duration::from_secs(30)).is_some();
        assert!(standing, "no subscription to {filter}");
        collector
    }

    fn lock(&self) -> MutexGuard<'_, Received> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, is: impl Fn(&Received) -> bool, limit: Duration) -> Option<MutexGuard<'_, Received>> {
        let deadline = Instant::now() + limit;
        let mut received = self.lock();
        while !is(&received) {
            let left = deadline.checked_duration_since(Instant::now())?;
            received = self.shared.1.wait_timeout(received, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(received)
    }

    /// Everything that came on this topic.
    pub(crate) fn arrivals(&self, topic: &str) -> Vec<Arrival> {
        self.lock().by_topic.get(topic).cloned().unwrap_or_default()
    }

    /// The topics on which anything came, in order.
    pub(crate) fn topics(&self) -> Vec<String> {
        let mut topics: Vec<String> = self.lock().by_topic.keys().cloned().collect();
        topics.sort_unstable();
        topics
    }

    /// Waits until the messages of the topic are as wanted; false when the time is up.
    pub(crate) fn wait_for(&self, topic: &str, limit: Duration, is: impl Fn(&[Arrival]) -> bool) -> bool {
        self.wait(|received| is(received.by_topic.get(topic).map_or(&[], Vec::as_slice)), limit).is_some()
    }

    /// How often each of the numbers below `count` came, once all have come or the time is up.
    pub(crate) fn counts(&self, topic: &str, count: u32, limit: Duration) -> Vec<u32> {
        let count = count as usize;
        let tally = |arrivals: &[Arrival]| {
            let mut counts = vec![0u32; count];
            for number in arrivals.iter().filter_map(Arrival::number) {
                if let Some(n) = counts.get_mut(number) {
                    *n += 1;
                }
            }
            counts
        };
        let deadline = Instant::now() + limit;
        loop {
            let counts = tally(&self.arrivals(topic));
            if !counts.contains(&0) || Instant::now() > deadline {
                return counts;
            }
            thread::park_timeout(5 * TICK);
        }
    }
}

/// Waits until what is published to `topic` at `place` arrives at the collector: only then do all subscriptions on the way
/// stand, and a bridge says that it is connected before they do.
pub(crate) fn wait_for_way(place: &Place, topic: &str, collector: &Collector) {
    let probe = Publisher::start(place, topic, 0, TICK, 0);
    let there = collector.wait_for(topic, Duration::from_secs(60), |seen| !seen.is_empty());
    assert!(there, "nothing gets through to {topic}");
    drop(probe);
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.lock().stop = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Receiving {
    shared: Arc<(Mutex<Received>, Condvar)>,
    session: Session,
    filter: String,
    qos: u8,
    /// Identifiers of QoS 2 messages that are kept and not yet released.
    promised: Vec<u16>,
}

impl Receiving {
    fn lock(&self) -> MutexGuard<'_, Received> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&mut self) {
        while !self.lock().stop {
            match self.session.next(Instant::now() + TICK) {
                Next::Packet(packet) => self.take(&packet),
                Next::Connected => self.session.send(&subscribe(4, 1, &self.filter, self.qos)),
                Next::Nothing => {}
            }
        }
    }

    fn take(&mut self, packet: &[u8]) {
        match packet[0] & 0xF0 {
            0x30 => self.keep(packet),
            0x60 => {
                self.promised.retain(|id| id.to_be_bytes() != packet[2..4]);
                self.session.send(&[0x70, 2, packet[2], packet[3]]);
            }
            0x90 => {
                self.lock().subscribed = true;
                self.shared.1.notify_all();
            }
            _ => {}
        }
    }

    fn keep(&mut self, packet: &[u8]) {
        let qos = packet[0] >> 1 & 3;
        let start = 1 + packet[1..].iter().position(|byte| byte & 0x80 == 0).expect("a length") + 1;
        let topic_end = start + 2 + usize::from(u16::from_be_bytes([packet[start], packet[start + 1]]));
        let topic = String::from_utf8_lossy(&packet[start + 2..topic_end]).into_owned();
        let mut rest = &packet[topic_end..];
        let mut id = 0;
        if qos > 0 {
            id = u16::from_be_bytes([rest[0], rest[1]]);
            self.session.send(&[if qos == 1 { 0x40 } else { 0x50 }, 2, rest[0], rest[1]]);
            rest = &rest[2..];
            if qos == 2 && self.promised.contains(&id) {
                return;
            }
            if qos == 2 {
                self.promised.push(id);
            }
        }
        let arrival = Arrival { at: Instant::now(), payload: rest.to_vec(), first: packet[0], id };
        self.lock().by_topic.entry(topic).or_default().push(arrival);
        self.shared.1.notify_all();
    }
}
