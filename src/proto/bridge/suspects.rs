//! Messages that the other broker cannot stand: one closes the connection on a topic, another on QoS 2, and sent again
//! after each reconnect such a message would hold up everything behind it for ever.
//!
//! A connection that the peer ends makes suspects of what was outstanding: the first message in flight, and the first of
//! QoS 0 that nothing has come back after. The same suspect twice in a row, and the next connection is on probation: the
//! link is proved by a ping, then messages go one by one, each only when the one before was acknowledged, or for QoS 0
//! when a ping behind it was. Who ends such a connection names the culprit. Three ends in a row with the same message,
//! the last of them on probation, and it is set aside.

use std::collections::VecDeque;

use crate::broker::message::Msg;
use crate::timer::Now;
use crate::wire::{PacketId, QoS};

/// Ends in a row with the same message until it is set aside.
const STRIKES: u32 = 3;
/// Ends in a row from which on messages go one by one.
const DOUBTFUL: u32 = 2;
/// The same for a message that the peer says it has no room for: that may change.
const QUOTA_STRIKES: u32 = 20;
/// Messages that have to pass one by one until probation ends; more when that was not enough.
const PROOF: u32 = 20;
const MOST_PROOF: u32 = 20_000;
/// A connection that lasted so long, in milliseconds, was well.
const WELL_MS: u64 = 60_000;
/// How long messages with the topic of one that was set aside follow it, in milliseconds; then one may try again.
const ASIDE_MS: u64 = 600_000;
/// Topics that are remembered.
const MOST_TOPICS: usize = 64;

/// What was outstanding when a connection ended.
#[derive(Clone)]
pub struct Suspect {
    /// The message; `None` when only its release was under way.
    pub msg: Option<Msg>,
    /// Its packet identifier; `None` for QoS 0.
    pub packet: Option<PacketId>,
    /// The QoS it was sent with.
    pub qos: QoS,
    /// The peer said that it has no room for it.
    pub quota: bool,
}

impl Suspect {
    fn same(&self, other: &Suspect) -> bool {
        match (&self.msg, &other.msg) {
            (Some(a), Some(b)) => a.same(b),
            (None, None) => self.packet == other.packet,
            _ => false,
        }
    }

    /// The topic at this broker, for the log.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.msg.as_ref().map_or("", Msg::topic)
    }
}

/// What is to be done about a suspect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing yet.
    Open,
    /// The peer has no QoS 2: it gets QoS 1.
    LowerQos,
    /// It is taken out of the way.
    SetAside,
    /// The peer cannot stand what the connection begins with: it is told no state.
    NoNotification,
}

/// How the peer ended a connection.
#[derive(Clone, Default)]
pub struct Ended {
    /// The first message in flight.
    pub first: Option<Suspect>,
    /// The first message of QoS 0 that nothing came back after.
    pub unproved: Option<Suspect>,
    /// On probation: the one message that was under way.
    pub alone: Option<Suspect>,
    /// Nothing came behind CONNACK: what the connection begins with may be the cause.
    pub ungreeted: bool,
    /// Enough messages have passed one by one.
    pub proved: bool,
    /// Milliseconds from CONNACK to the end.
    pub lasted_ms: u64,
}

/// The suspects of one bridge.
pub struct Suspects {
    /// What was outstanding at the last end, and at how many ends in a row.
    strikes: Vec<(Suspect, u32)>,
    is_probation: bool,
    /// Ends in a row without a word behind CONNACK.
    ungreeted: u32,
    /// Messages that have to pass one by one.
    proof: u32,
    aside: VecDeque<(Box<str>, u64)>,
}

impl Default for Suspects {
    fn default() -> Self {
        Suspects { strikes: Vec::new(), is_probation: false, ungreeted: 0, proof: PROOF, aside: VecDeque::new() }
    }
}

impl Suspects {
    /// How the next connection begins: `None` unless messages are to go one by one.
    #[must_use]
    pub(super) fn probation(&self) -> Option<Probation> {
        self.is_probation.then(|| Probation { needed: self.proof, ..Probation::default() })
    }

    /// The peer has ended a connection. The suspect is the one that the verdict is about.
    pub fn ended_by_peer(&mut self, ended: Ended) -> (Verdict, Option<Suspect>) {
        if ended.proved || ended.lasted_ms >= WELL_MS {
            // Not enough, as it seems: the culprit stands further behind.
            self.proof = if ended.lasted_ms >= WELL_MS { PROOF } else { self.proof.saturating_mul(4).min(MOST_PROOF) };
            self.is_probation = false;
        }
        self.ungreeted = if ended.ungreeted { self.ungreeted.saturating_add(1) } else { 0 };
        if self.ungreeted >= STRIKES {
            self.ungreeted = 0;
            return (Verdict::NoNotification, None);
        }
        let isolated = ended.alone.is_some();
        let outstanding = if isolated { [ended.alone, None] } else { [ended.first, ended.unproved] };
        let before = std::mem::take(&mut self.strikes);
        for suspect in outstanding.into_iter().flatten() {
            let strikes = before.iter().find(|(known, _)| known.same(&suspect)).map_or(0, |(_, strikes)| *strikes);
            self.strikes.push((suspect, strikes.saturating_add(1)));
        }
        self.is_probation |= self.strikes.iter().any(|(_, strikes)| *strikes >= DOUBTFUL);
        let Some((suspect, strikes)) = self.strikes.first() else { return (Verdict::Open, None) };
        let guilty = if suspect.quota { *strikes >= QUOTA_STRIKES } else { isolated && *strikes >= STRIKES };
        if !guilty {
            return (Verdict::Open, None);
        }
        let suspect = suspect.clone();
        self.strikes.clear();
        let lower = suspect.qos == QoS::ExactlyOnce && !suspect.quota;
        (if lower { Verdict::LowerQos } else { Verdict::SetAside }, Some(suspect))
    }

    /// Remembers a topic that the peer does not stand.
    pub fn set_aside(&mut self, now: Now, topic: &str) {
        self.aside.retain(|(known, _)| **known != *topic);
        if self.aside.len() >= MOST_TOPICS {
            self.aside.pop_front();
        }
        self.aside.push_back((topic.into(), now.mono_ms.saturating_add(ASIDE_MS)));
    }

    /// The topics that no message is sent to now.
    #[must_use]
    pub fn topics(&self, now: Now) -> Vec<Box<str>> {
        self.aside.iter().filter(|(_, until)| *until > now.mono_ms).map(|(topic, _)| topic.clone()).collect()
    }
}

/// One connection on probation.
#[derive(Default)]
pub(super) struct Probation {
    needed: u32,
    passed: u32,
    /// A ping is under way behind what is outstanding, or before anything.
    pub(super) awaits_pong: bool,
    /// The message that is outstanding.
    pub(super) outstanding: Option<Suspect>,
}

impl Probation {
    /// Whether the next message may go.
    pub(super) fn may_send(&self) -> bool {
        !self.awaits_pong && self.outstanding.is_none()
    }

    /// What was outstanding has passed. True when that is enough.
    pub(super) fn passed(&mut self) -> bool {
        self.awaits_pong = false;
        if self.outstanding.take().is_some() {
            self.passed = self.passed.saturating_add(1);
        }
        self.passed >= self.needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::NewMessage;

    fn suspect(msg: &Msg, qos: QoS) -> Suspect {
        Suspect { msg: Some(msg.clone()), packet: PacketId::new(1), qos, quota: false }
    }

    fn message(topic: &str) -> Msg {
        let new = NewMessage { topic, payload: b"x", qos: QoS::AtLeastOnce, retain: false, props: &[], expiry_s: None };
        Msg::new(Now::default(), &new).unwrap()
    }

    /// Ends a connection as the suspects have it: on probation the message was alone, else the first in flight.
    fn end(suspects: &mut Suspects, suspect: Suspect) -> Verdict {
        let probation = suspects.probation().is_some();
        let (first, alone) = if probation { (None, Some(suspect)) } else { (Some(suspect), None) };
        suspects.ended_by_peer(Ended { first, alone, ..Ended::default() }).0
    }

    #[test]
    fn the_third_end_in_a_row_sets_aside_and_only_one_that_was_alone() {
        let (a, b) = (message("a"), message("b"));
        let one = |msg: &Msg| suspect(msg, QoS::AtLeastOnce);
        let mut suspects = Suspects::default();
        assert_eq!(end(&mut suspects, one(&b)), Verdict::Open, "another one");
        for wanted in [Verdict::Open, Verdict::Open, Verdict::SetAside, Verdict::Open] {
            assert_eq!(end(&mut suspects, one(&a)), wanted);
        }
        let first = || Ended { first: Some(one(&b)), ..Ended::default() };
        let verdicts = [(); 5].map(|()| suspects.ended_by_peer(first()).0);
        assert_eq!(verdicts, [Verdict::Open; 5], "nothing is set aside that had company");
    }

    #[test]
    fn qos_2_is_lowered_before_anything_is_lost() {
        let a = message("a");
        let mut suspects = Suspects::default();
        let mut third = |qos| [(); 3].map(|()| end(&mut suspects, suspect(&a, qos)))[2];
        assert_eq!(third(QoS::ExactlyOnce), Verdict::LowerQos);
        assert_eq!(third(QoS::AtLeastOnce), Verdict::SetAside);
    }

    #[test]
    fn a_full_peer_has_more_patience() {
        let full = Suspect { quota: true, ..suspect(&message("a"), QoS::ExactlyOnce) };
        let mut suspects = Suspects::default();
        let verdicts: Vec<_> = (0..QUOTA_STRIKES).map(|_| end(&mut suspects, full.clone())).collect();
        assert!(verdicts[..19].iter().all(|verdict| *verdict == Verdict::Open));
        assert_eq!(verdicts[19], Verdict::SetAside);
    }

    #[test]
    fn the_same_suspect_twice_leads_to_probation_and_a_proof_out_of_it() {
        let (a, b) = (message("a"), message("b"));
        let mut suspects = Suspects::default();
        let ended = |msg: &Msg| Ended { unproved: Some(suspect(msg, QoS::AtMostOnce)), ..Ended::default() };
        for (msg, probation) in [(&a, false), (&b, false), (&a, false), (&a, true)] {
            suspects.ended_by_peer(ended(msg));
            assert_eq!(suspects.probation().is_some(), probation);
        }
        suspects.ended_by_peer(Ended { proved: true, ..ended(&b) });
        assert!(suspects.probation().is_none());
        suspects.ended_by_peer(ended(&b));
        assert_eq!(suspects.probation().map(|p| p.needed), Some(PROOF * 4), "it stands further behind");
        suspects.ended_by_peer(Ended { lasted_ms: WELL_MS, ..Ended::default() });
        assert!(suspects.probation().is_none() && suspects.proof == PROOF);

        let mut probation = Probation { needed: 3, awaits_pong: true, ..Probation::default() };
        assert!(!probation.may_send() && !probation.passed(), "the link is proved first");
        for n in 1..=3 {
            assert!(probation.may_send());
            probation.outstanding = Some(suspect(&a, QoS::AtMostOnce));
            assert!(!probation.may_send());
            assert_eq!(probation.passed(), n == 3);
        }
    }

    #[test]
    fn a_peer_that_goes_before_it_has_said_anything_is_told_no_state() {
        let mut suspects = Suspects::default();
        let mut end = |ungreeted| suspects.ended_by_peer(Ended { ungreeted, ..Ended::default() }).0;
        assert_eq!([end(true), end(true), end(false)], [Verdict::Open; 3]);
        assert_eq!([end(true), end(true), end(true)], [Verdict::Open, Verdict::Open, Verdict::NoNotification]);
    }

    #[test]
    fn topics_are_remembered_for_a_while_and_not_too_many() {
        let mut suspects = Suspects::default();
        let at = |mono_ms| Now { mono_ms, wall_s: 0 };
        (0..100).for_each(|n| suspects.set_aside(at(1000), &format!("t/{n}")));
        suspects.set_aside(at(2000), "t/99");
        assert_eq!(suspects.topics(at(1000)).len(), MOST_TOPICS);
        assert_eq!(suspects.topics(at(1000 + ASIDE_MS)).iter().map(|t| &**t).collect::<Vec<_>>(), ["t/99"]);
    }
}
