//! What has to come true: every message that was published, every will, and what the rules say of them.

use std::collections::BTreeMap;

use mosquitto::broker::NEVER;
use mosquitto::proto::CloseReason;
use mosquitto::slab::Key;
use mosquitto::wire::QoS;

/// A published message; its number stands in its payload.
pub(crate) struct Message {
    pub(crate) publisher: usize,
    pub(crate) user: &'static str,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) expiry_s: Option<u32>,
    /// When the broker handled it last.
    pub(crate) arrived_ms: u64,
    /// PUBACK or PUBCOMP came.
    pub(crate) completed: bool,
}

/// What a connection said in CONNECT, for the rules of wills.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) client_id: String,
    pub(crate) clean: bool,
    pub(crate) expiry_s: u32,
    /// Number and delay.
    pub(crate) will: Option<(usize, u32)>,
}

/// Where a will stands.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Will {
    /// Its client is connected, or never was.
    Held,
    /// Nobody may get it any more.
    Void,
    /// It was due when its client came back in the same turn: both are right.
    Either,
    Due(u64),
    Published,
}

/// The ledger of a run.
#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) messages: Vec<Message>,
    /// The last message that was published with retain to a topic, as far as one publisher alone decides it.
    pub(crate) retained: BTreeMap<String, Vec<u8>>,
    /// QoS 0 messages may go out with QoS 1, and then more than once.
    upgrade: bool,
    /// Queues are short: what does not fit is dropped.
    lossy: bool,
    /// The letter of the specifications counts.
    strict: bool,
    wills: Vec<Will>,
    /// The connection each client id belongs to.
    current: BTreeMap<String, (Key, Terms)>,
    /// The will of a client id that is away.
    away: BTreeMap<String, usize>,
}

impl Oracle {
    pub(crate) fn new(upgrade: bool, lossy: bool, strict: bool) -> Oracle {
        Oracle { upgrade, lossy, strict, ..Oracle::default() }
    }

    pub(crate) fn new_will(&mut self) -> usize {
        self.wills.push(Will::Held);
        self.wills.len() - 1
    }

    /// A CONNECT was accepted. [reference: take-over, wills]
    pub(crate) fn connected(&mut self, now_ms: u64, key: Key, terms: Terms) {
        if let Some((_, old)) = self.current.remove(&terms.client_id)
            && let Some((will, delay)) = old.will
        {
            let ends = terms.clean || old.expiry_s == 0;
            let published = if self.strict { ends || delay == 0 } else { ends && delay == 0 };
            self.wills[will] = if published { Will::Due(now_ms) } else { Will::Void };
        }
        if let Some(will) = self.away.remove(&terms.client_id)
            && let Will::Due(due) = self.wills[will]
        {
            self.wills[will] = match due <= now_ms {
                true => Will::Either,
                false if self.strict && terms.clean => Will::Due(now_ms),
                false => Will::Void,
            };
        }
        self.current.insert(terms.client_id.clone(), (key, terms));
    }

    /// A connection ended.
    pub(crate) fn closed(&mut self, now_ms: u64, key: Key, reason: &CloseReason) {
        let Some(id) = self.current.iter().find(|(_, (k, _))| *k == key).map(|(id, _)| id.clone()) else { return };
        let Some((_, terms)) = self.current.remove(&id) else { return };
        let Some((will, delay)) = terms.will else { return };
        let mut expiry = terms.expiry_s;
        if let CloseReason::Disconnect { with_will, expiry_s } = reason {
            if !with_will {
                self.wills[will] = Will::Void;
                return;
            }
            expiry = expiry_s.unwrap_or(expiry);
        }
        // By the letter the end of the session ends the delay.
        let delay = if self.strict && expiry == 0 { 0 } else { delay };
        let mut due = now_ms + u64::from(delay) * 1000;
        if expiry != 0 && expiry != NEVER {
            due = due.min(now_ms + u64::from(expiry) * 1000);
        }
        self.wills[will] = Will::Due(due);
        if delay != 0 {
            self.away.insert(id, will);
        }
    }

    /// The broker died: wills that did not come before will not come.
    pub(crate) fn crashed(&mut self) {
        self.current.clear();
        self.away.clear();
        for will in &mut self.wills {
            if *will != Will::Published {
                *will = Will::Void;
            }
        }
    }

    /// The watcher got a will that was encoded at `at_ms`; `previous_ms` is the turn before.
    pub(crate) fn will_seen(&mut self, will: usize, at_ms: u64, previous_ms: u64) {
        match self.wills[will] {
            Will::Either => {}
            Will::Due(due) => {
                assert!(at_ms >= due, "will {will} came {} ms early", due - at_ms);
                assert!(previous_ms <= due + 1000, "will {will} came {} ms late", at_ms - due);
            }
            state => panic!("will {will} came, but it is {state:?}"),
        }
        self.wills[will] = Will::Published;
    }

    /// Every will that was due has come.
    pub(crate) fn check_wills(&self, now_ms: u64) {
        for (will, state) in self.wills.iter().enumerate() {
            if let Will::Due(due) = state {
                assert!(*due + 1000 > now_ms, "will {will} never came, {} ms after it was due", now_ms - due);
            }
        }
    }

    /// The topic was published to with retain, by its only publisher.
    pub(crate) fn retain(&mut self, topic: &str, payload: &[u8]) {
        if payload.is_empty() {
            self.retained.remove(topic);
        } else {
            self.retained.insert(topic.into(), payload.into());
        }
    }

    /// What a subscriber that never ended its session must have got. `got` are its messages in order, one entry for each
    /// arrival at message level; `max_qos` what it subscribed with.
    pub(crate) fn check_witness(&self, name: &str, got: &[usize], max_qos: QoS, publishers: &[usize], ordered: bool) {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        let mut last: BTreeMap<(usize, &str, QoS), usize> = BTreeMap::new();
        for &n in got {
            let count = counts.entry(n).or_default();
            *count += 1;
            let message = &self.messages[n];
            // Where copies are dropped, the first to arrive may be one that was sent again later.
            if ordered && *count == 1 && !(self.lossy && message.qos == QoS::AtLeastOnce) {
                let before = last.insert((message.publisher, &message.topic, message.qos), n);
                let what = format!("{name}: message {n} ({:?} from {}) came", message.qos, message.publisher);
                assert!(before.is_none_or(|before| before < n), "{what} after {before:?}");
            }
        }
        for (n, message) in self.messages.iter().enumerate() {
            let count = counts.get(&n).copied().unwrap_or(0);
            if !message.topic.starts_with("w/") || !publishers.contains(&message.publisher) {
                continue;
            }
            let what = format!("{name}: message {n} on {} with {:?} came {count} times", message.topic, message.qos);
            let once = match message.qos {
                QoS::AtMostOnce => !self.upgrade,
                QoS::AtLeastOnce => false,
                QoS::ExactlyOnce => max_qos == QoS::ExactlyOnce,
            };
            if once {
                assert!(count <= 1, "{what}");
            }
            if message.completed && !self.lossy {
                assert!(count >= 1, "{what}");
            }
        }
    }
}
