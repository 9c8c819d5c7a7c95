//! Bytes that wait for one socket: headers and small payloads in one vector, large payloads as references to their
//! messages, so that a payload is never copied per subscriber. Exists only while there is something to send.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::broker::message::Msg;

/// Payloads below this are cheaper to copy than to send as a slice of their own.
const COPY_BELOW: usize = 512;
/// A drained outbox keeps at most this much memory for its next use.
const KEEP: usize = 64 * 1024;

/// A payload between two bytes of the vector.
struct Splice {
    at: usize,
    msg: Msg,
}

/// Output of one connection, in order.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Bytes of the vector that were sent.
    sent: usize,
    splices: VecDeque<Splice>,
    /// Bytes of the first splice's payload that were sent.
    splice_sent: usize,
    spliced: usize,
    packets: u32,
    owed: usize,
    /// Bytes that were sent since the outbox was last empty.
    gone: usize,
    /// Replies that count as sent once `gone` has come this far.
    due: Option<Due>,
}

/// The first `bytes` of the replies that are owed end before the byte `end`.
#[derive(Clone, Copy)]
struct Due {
    end: usize,
    bytes: usize,
}

impl Outbox {
    /// The end of the byte vector, for one packet or the head of one. What the client caused by its own requests is
    /// reported with [`Outbox::owe`].
    pub fn packet(&mut self) -> &mut Vec<u8> {
        self.packets += 1;
        &mut self.bytes
    }

    /// Appends the payload of a message behind the head just written.
    pub fn payload(&mut self, msg: &Msg) {
        let payload = msg.payload();
        if payload.len() < COPY_BELOW {
            self.bytes.extend_from_slice(payload);
            return;
        }
        self.spliced += payload.len();
        self.splices.push_back(Splice { at: self.bytes.len(), msg: msg.clone() });
    }

    /// Counts `bytes` as a reply the client made us owe.
    pub fn owe(&mut self, bytes: usize) {
        self.owed += bytes;
        if self.due.is_none() {
            self.due = Some(Due { end: self.gone + self.len(), bytes: self.owed });
        }
    }

    /// Bytes of replies that were not sent yet, roughly: never too few, and none once everything that waits now is sent.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.owed
    }

    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.spliced - self.splice_sent
    }

    /// True when nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Packets written since the outbox was last empty; those that wait are among them.
    #[must_use]
    pub fn packets(&self) -> u32 {
        self.packets
    }

    /// Fills `slices` with what is to be sent next and returns how many it used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.slices_within(usize::MAX, slices)
    }

    /// The same with at most the next `left` bytes.
    pub fn slices_within<'a>(&'a self, mut left: usize, slices: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        let mut from = self.sent;
        let mut skip = self.splice_sent;
        let mut room = slices.iter_mut();
        let mut put = |part: &'a [u8]| {
            let part = part.get(..left).unwrap_or(part);
            let Some(slot) = room.next().filter(|_| !part.is_empty()) else { return false };
            *slot = IoSlice::new(part);
            left -= part.len();
            used += 1;
            true
        };
        for splice in &self.splices {
            let before = self.bytes.get(from..splice.at).unwrap_or_default();
            let payload = splice.msg.payload().get(skip..).unwrap_or_default();
            if (!before.is_empty() && !put(before)) || (!payload.is_empty() && !put(payload)) {
                return used;
            }
            from = splice.at;
            skip = 0;
        }
        let rest = self.bytes.get(from..).unwrap_or_default();
        if !rest.is_empty() {
            put(rest);
        }
        used
    }

    /// Says that the first `n` bytes were sent.
    pub fn advance(&mut self, mut n: usize) {
        self.gone += n;
        while n > 0 {
            let until = self.splices.front().map_or(self.bytes.len(), |splice| splice.at);
            let step = n.min(until.saturating_sub(self.sent));
            self.sent += step;
            n -= step;
            if self.sent < until || n == 0 {
                break;
            }
            let Some(splice) = self.splices.front() else { break };
            let payload = splice.msg.payload().len();
            let step = n.min(payload - self.splice_sent);
            self.splice_sent += step;
            n -= step;
            if self.splice_sent == payload {
                self.spliced -= payload;
                self.splice_sent = 0;
                self.splices.pop_front();
            }
        }
        if let Some(due) = self.due.filter(|due| due.end <= self.gone) {
            self.owed = self.owed.saturating_sub(due.bytes);
            self.due = (self.owed > 0).then(|| Due { end: self.gone + self.len(), bytes: self.owed });
        }
        if self.is_empty() {
            self.clear();
        } else if self.sent > KEEP {
            self.compact();
        }
    }

    /// Forgets everything, keeping a little memory for the next use.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEEP);
        self.splices.clear();
        self.splices.shrink_to(64);
        (self.sent, self.splice_sent, self.spliced, self.packets, self.owed) = (0, 0, 0, 0, 0);
        (self.gone, self.due) = (0, None);
    }

    fn compact(&mut self) {
        self.bytes.drain(..self.sent);
        for splice in &mut self.splices {
            splice.at -= self.sent;
        }
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::NewMessage;
    use crate::timer::Now;
    use crate::wire::QoS;

    fn message(payload: &[u8]) -> Msg {
        let new = NewMessage { topic: "t", payload, qos: QoS::AtMostOnce, retain: false, props: &[], expiry_s: None };
        Msg::new(Now::default(), &new).unwrap()
    }

    fn drain(out: &mut Outbox, steps: &mut dyn FnMut() -> usize) -> Vec<u8> {
        let mut got = Vec::new();
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let used = out.slices(&mut slices);
            let all: Vec<u8> = slices[..used].iter().flat_map(|s| s.iter().copied()).collect();
            let n = steps().clamp(1, all.len());
            got.extend_from_slice(&all[..n]);
            out.advance(n);
        }
        got
    }

    #[test]
    fn any_split_of_the_writes_gives_the_same_bytes() {
        let mut state = 1u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize
        };
        for _ in 0..300 {
            let (mut out, mut expected) = (Outbox::default(), Vec::new());
            for i in 0..random() % 30 {
                let head = vec![u8::try_from(i).unwrap(); random() % 4];
                let msg = message(&vec![b'x'; [0, 3, 511, 512, 4000][random() % 5]]);
                out.packet().extend_from_slice(&head);
                out.payload(&msg);
                expected.extend_from_slice(&head);
                expected.extend_from_slice(msg.payload());
                if random() % 7 == 0 && !out.is_empty() {
                    out.advance(1);
                    expected.remove(0);
                }
            }
            assert_eq!(out.len(), expected.len());
            assert!(drain(&mut out, &mut || random() % 1500) == expected);
            assert_eq!((out.packets(), out.len()), (0, 0));
        }
    }

    #[test]
    fn a_limit_cuts_what_is_offered_and_nothing_else() {
        let mut out = Outbox::default();
        for _ in 0..3 {
            out.packet().extend_from_slice(b"head");
            out.payload(&message(&[b'x'; 600]));
        }
        let all = [&b"head"[..], &[b'x'; 600]].concat().repeat(3);
        for sent in [0, 3, 100, 700] {
            out.advance(sent);
            let all = &all[all.len() - out.len()..];
            for left in 0..=out.len() + 1 {
                let mut slices = [IoSlice::new(&[]); 8];
                let used = out.slices_within(left, &mut slices);
                let got: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
                assert!(got == all[..left.min(all.len())], "{sent} {left}");
            }
        }
    }

    #[test]
    fn a_large_payload_is_referred_to_not_copied() {
        let (mut out, msg) = (Outbox::default(), message(&[7; 100_000]));
        out.packet().push(1);
        out.payload(&msg);
        assert_eq!((out.len(), out.bytes.len()), (100_001, 1));
    }

    #[test]
    fn replies_are_paid_also_by_an_outbox_that_never_empties() {
        let mut out = Outbox::default();
        for _ in 0..1000 {
            out.packet().extend_from_slice(&[0x40, 2, 0, 1]);
            out.owe(4);
            out.packet().extend_from_slice(&[0x30; 96]);
            if out.len() > 1000 {
                out.advance(100);
            }
            assert!(out.owed() <= 100, "{}", out.owed());
            assert!(out.owed() >= out.len() / 100 * 4, "{} of {}", out.owed(), out.len());
        }
    }
}
