//! Passwords are compared on a thread of their own: one hash may take 90 ms and 46 MiB.

use std::net::IpAddr;
use std::sync::Arc;

use mio::Waker;

use super::EventLoop;
use super::conn::Conn;
use super::slots::BRIDGES;
use super::worker::Worker;
use crate::broker::ConnId;
use crate::broker::auth::login::{Check, Verdict};
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
}

pub(super) type LoginWorker = Worker<Job, Answer>;

/// The thread; it starts with the first login that needs it.
pub(super) fn worker(waker: Arc<Waker>) -> LoginWorker {
    Worker::new("logins", BOUND, waker, |job: Job| Answer {
        conn: job.conn,
        ip: job.check.ip,
        right: job.check.is_right(),
    })
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
            let Some(Answer { conn, ip, right }) = self.logins.next_answer() else { break };
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
        self.broker.recheck(|id| {
            let here = |conn: &&Conn| conn.listener != BRIDGES && !slots.is_closed(conn.listener);
            let conn = conns.get(id.0).filter(here)?;
            let listener = slots.settings(conn.listener);
            Some((crate::broker::auth::access::RulesId(listener.rules), config.anonymous_allowed(listener)))
        })
    }
}
