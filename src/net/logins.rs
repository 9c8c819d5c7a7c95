//! Passwords are compared on a thread of their own: one hash may take 90 ms and 46 MiB.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use mio::Waker;

use super::EventLoop;
use super::slots::BRIDGES;
use super::worker::Worker;
use crate::broker::ConnId;
use crate::broker::auth::access::RulesId;
use crate::broker::auth::login::{Check, Terms, Verdict};
use crate::os::{alloc, clock};
use crate::proto::Flow;
use crate::timer::Now;

/// Logins that may wait for the thread; with the slowest usual hash that is about 20 s.
const BOUND: usize = 256;

pub(super) struct Job {
    conn: ConnId,
    check: Box<Check>,
}

pub(super) struct Answer {
    conn: ConnId,
    ip: Option<IpAddr>,
    right: bool,
    /// Rounds that would be better, where checking a password is cheap.
    better_rounds: Option<u32>,
}

pub(super) type LoginWorker = Worker<Job, Answer>;

/// The thread; it starts with the first login that needs it.
pub(super) fn worker(waker: Arc<Waker>) -> LoginWorker {
    Worker::new("logins", BOUND, waker, |Job { conn, check }: Job| {
        // Else each guess of a stranger could bring the broker to its memory limit.
        let _aside = alloc::set_aside(check.scratch());
        let start_us = clock::monotonic_us();
        let right = check.is_right();
        let took_us = clock::monotonic_us().saturating_sub(start_us);
        Answer { conn, ip: check.ip, right, better_rounds: check.rounds().and_then(|n| better_rounds(n, took_us)) }
    })
}

/// How many rounds would take some 20 ms on this machine, in a round number, where so many take less than a quarter of
/// that.
fn better_rounds(rounds: NonZeroU32, took_us: u64) -> Option<u32> {
    const GOAL_US: u64 = 20_000;
    if took_us >= GOAL_US / 4 {
        return None;
    }
    let more = (u64::from(rounds.get()) * GOAL_US / took_us.max(1)).min(1_000_000);
    let digit = 10u64.pow(more.checked_ilog10().unwrap_or(0));
    u32::try_from(more / digit * digit).ok().filter(|more| *more > rounds.get())
}

impl EventLoop {
    /// Has a password compared; when too many wait already, the answer is there at once.
    pub(super) fn check_login(&mut self, now: Now, conn: ConnId, check: Box<Check>) {
        if let Err(Job { conn, check }) = self.logins.submit(Job { conn, check }) {
            self.answer_login(now, conn, check.ip, Verdict::Busy);
        }
    }

    /// Hands out the answers that have come, unless persistence has to catch up first.
    pub(super) fn take_logins(&mut self, now: Now) {
        while !self.broker.is_congested() {
            let Some(Answer { conn, ip, right, better_rounds }) = self.logins.next_answer() else { break };
            if let Some(rounds) = better_rounds.filter(|_| right && !self.rounds_noted) {
                self.rounds_noted = true;
                log::info!(
                    "Passwords are checked quickly on this machine, by whoever guesses at a stolen file, too. \
                     Hashes made by mosquitto_passwd -I {rounds} would take about 20 ms each."
                );
            }
            self.answer_login(now, conn, ip, if right { Verdict::Right } else { Verdict::Wrong });
            // As after input: who was taken over has its line before both sessions may have ended.
            self.run_closes(now);
        }
    }

    fn answer_login(&mut self, now: Now, conn: ConnId, ip: Option<IpAddr>, verdict: Verdict) {
        self.broker.logins.answered(now, ip, verdict);
        let flow = self.with_endpoint(now, conn, |endpoint, turn| endpoint.on_login(turn, verdict));
        self.after_login(now, conn, flow);
    }

    /// Goes on with a connection whose login was decided, or waits for something else.
    pub(super) fn after_login(&mut self, now: Now, id: ConnId, flow: Option<Flow>) {
        match flow {
            None => return,
            Some(Flow::Close(reason)) => return self.close(now, id, &reason),
            Some(Flow::Waiting) => {}
            Some(_) => self.read_on(id),
        }
        self.arm(id);
    }

    /// Reads again what the endpoint kept and what the socket has: no event will tell of it.
    fn read_on(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        conn.is.leftover = true;
        if conn.outbox.is_some() {
            self.list_for_flush(id);
        }
        self.list_as_ready(id);
    }

    /// Lists the clients that the rules after a reload do not let in.
    pub(super) fn no_longer_allowed(&mut self) -> Vec<ConnId> {
        let (conns, slots, config) = (&self.conns, &self.slots, &self.config);
        let udp = &self.udp;
        self.broker.recheck(|id| {
            let slot = match id.sn() {
                Some(id) => udp.slot_of(id),
                None => conns.get(id.0).map(|conn| conn.listener),
            };
            let listener = slots.settings(slot.filter(|slot| *slot != BRIDGES && !slots.is_closed(*slot))?);
            Some(Terms {
                rules: RulesId(listener.rules),
                anonymous_allowed: config.anonymous_allowed(listener),
                named_by_certificate: listener.tls.use_identity_as_username || listener.tls.use_subject_as_username,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_rounds_are_suggested_where_they_are_cheap() {
        for (rounds, took_us, better) in [
            (101, 100, Some(20_000)),
            (1000, 930, Some(20_000)),
            (1000, 4999, Some(4000)),
            (1000, 5000, None),
            (1000, 30_000, None),
            (1000, 0, Some(1_000_000)),
            (1_000_000, 10, None),
            (20_000, 19_000, None),
        ] {
            assert_eq!(better_rounds(NonZeroU32::new(rounds).unwrap(), took_us), better, "{rounds} in {took_us}");
        }
    }
}
