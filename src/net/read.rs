//! Steps 1 to 3 of a PUBLISH: from a readable socket to the endpoint, and the end of a connection.

use std::io;

use super::conn::Stage;
use super::flush::{ROUNDS, Wrote};
use super::slots::BRIDGES;
use super::transport::{Arrival, MAX_PENDING};
use super::{DRAIN_MS, EventLoop};
use crate::broker::ConnId;
use crate::proto::{CloseReason, Flow};
use crate::timer::Now;

/// What one read of a socket gave.
enum Input {
    /// So many bytes; `drained` when the socket has no more for now.
    Bytes { len: usize, drained: bool },
    /// Nothing there.
    Nothing,
    /// The connection is over.
    Ended(CloseReason),
}

impl EventLoop {
    /// Lets a connection use its turn: what its endpoint had left over first, then one read.
    pub(super) fn read(&mut self, now: Now, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        match conn.stage {
            Stage::Open if conn.is.paused => return,
            Stage::Open => {}
            Stage::Draining { .. } => return self.discard(id),
            Stage::Closed => return,
        }
        let client = conn.endpoint.is_client();
        if client && self.broker.is_congested() {
            return self.list_as_ready(id);
        }
        if conn.is_handshaking() && !self.work.handshake() {
            return self.list_as_ready(id);
        }
        if std::mem::take(&mut conn.is.leftover) && !self.feed(now, id, 0) {
            return;
        }
        match self.read_socket(id) {
            Input::Nothing => {}
            Input::Ended(CloseReason::ClosedByClient) if self.is_answering(id) => {}
            Input::Ended(reason) => self.close(now, id, &reason),
            Input::Bytes { len, drained } => {
                if client {
                    self.broker.stats.bytes_in += len as u64;
                }
                if self.feed(now, id, len) && !drained {
                    self.list_as_ready(id);
                }
            }
        }
    }

    /// Reads once into the scratch buffer.
    fn read_socket(&mut self, id: ConnId) -> Input {
        let Some(conn) = self.conns.get_mut(id.0) else { return Input::Nothing };
        loop {
            return match conn.stream.read(&mut self.scratch) {
                Ok(0) => Input::Ended(CloseReason::ClosedByClient),
                // A short read means that the socket is empty, and an edge will tell when it no longer is, unless the
                // end of the stream was announced: that edge has passed.
                Ok(len) => Input::Bytes { len, drained: len < self.scratch.len() && !conn.is.read_closed },
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => Input::Nothing,
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                        Input::Ended(CloseReason::ClosedByClient)
                    }
                    _ => Input::Ended(CloseReason::Socket(error_text(&error))),
                },
            };
        }
    }

    /// Hands the first `len` bytes of the scratch buffer to the endpoint, through the stages before it. True when it wants
    /// more.
    fn feed(&mut self, now: Now, id: ConnId, len: usize) -> bool {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut plain = std::mem::take(&mut self.buffers.plain);
        let raw = scratch.get_mut(..len).unwrap_or_default();
        let staged = self.decode(now, id, raw, &mut plain);
        let input = if staged { &plain[..] } else { raw };
        let flow = if input.is_empty() && len > 0 {
            // A piece of a header or of a handshake.
            Some(Flow::Continue)
        } else {
            self.with_endpoint(now, id, |endpoint, turn| endpoint.on_bytes(turn, input))
        };
        self.scratch = scratch;
        plain.clear();
        self.buffers.plain = plain;
        // At once: later both sessions may have ended, and with them the client id that the log has to name.
        self.run_closes(now);
        let Some(conn) = self.conns.get_mut(id.0) else { return false };
        let owes = conn.pending() > MAX_PENDING;
        if conn.has_output() {
            self.list_for_flush(id);
        }
        if self.broker.wants_flush() {
            self.flush(now);
        }
        match flow {
            None => return false,
            Some(Flow::Close(reason)) => {
                self.close(now, id, &reason);
                return false;
            }
            Some(Flow::Again) => {
                conn_is(self, id, |is| is.leftover = true);
                self.list_as_ready(id);
            }
            Some(Flow::Paused) => {
                conn_is(self, id, |is| (is.leftover, is.paused) = (true, true));
                self.list_for_flush(id);
            }
            // It may have its answer already.
            Some(Flow::Waiting) => conn_is(self, id, |is| is.leftover = true),
            Some(Flow::Report) => self.report(now, id),
            Some(Flow::Continue) => {
                let ended = self.conns.get(id.0).and_then(|conn| conn.ended().cloned());
                if let Some(reason) = ended.filter(|_| !self.is_answering(id)) {
                    self.close(now, id, &reason);
                    return false;
                }
                self.arm(id);
                if !owes {
                    return true;
                }
                // It does not read what the stages have for it.
                conn_is(self, id, |is| (is.leftover, is.paused) = (true, true));
            }
        }
        self.arm(id);
        false
    }

    /// Runs input through the stages of a connection, which gives `plain`. False for a connection without any: the input is
    /// what it is.
    fn decode(&mut self, now: Now, id: ConnId, input: &mut [u8], plain: &mut Vec<u8>) -> bool {
        let Some(conn) = self.conns.get_mut(id.0) else { return false };
        let Some(transport) = &mut conn.transport else { return false };
        if input.is_empty() {
            return true;
        }
        let (listener, peer) = (self.slots.settings(conn.listener), conn.endpoint.peer());
        let is_client = conn.listener != BRIDGES;
        let arrival = Arrival { now, listener, config: &self.config, peer, is_client };
        let learned = transport.read(input, arrival, plain, &mut self.buffers);
        if transport.is_needless() {
            conn.transport = None;
        }
        if let Some(source) = learned.proxied {
            conn.endpoint.set_peer(source.unwrap_or(peer));
            if conn.endpoint.is_client() && self.config.global.connection_messages {
                crate::notice!("New connection from {} on port {}.", conn.endpoint.peer(), listener.port);
            }
        }
        if let Some(client) = learned.forwarded {
            conn.endpoint.set_peer(client);
        }
        if learned.identity.is_some() {
            conn.endpoint.set_identity(learned.identity);
        }
        true
    }

    /// A peer that has closed its side may still wait for an answer; it is written, or time runs out.
    fn is_answering(&self, id: ConnId) -> bool {
        self.conns.get(id.0).is_some_and(|conn| conn.endpoint.is_answering() || conn.serving_until().is_some())
    }

    /// Hands an endpoint the figures it wants, or has it wait for the next turn when this one has had enough of that.
    #[cold]
    fn report(&mut self, now: Now, id: ConnId) {
        if !self.work.walk(self.conns.len() + self.broker.session_count()) {
            conn_is(self, id, |is| is.leftover = true);
            return self.list_as_ready(id);
        }
        self.count_waiting();
        let figures = self.figures();
        self.with_endpoint(now, id, |endpoint, turn| endpoint.report(turn, &figures));
        self.list_for_flush(id);
    }

    /// Throws away what a connection still sends that was told goodbye.
    fn discard(&mut self, id: ConnId) {
        // Bounded: 16 reads, then it has heard enough.
        for _ in 0..16 {
            match self.read_socket(id) {
                Input::Nothing => return,
                Input::Bytes { drained: true, .. } => return,
                Input::Bytes { .. } => {}
                Input::Ended(_) => break,
            }
        }
        self.drop_conn(id);
    }

    /// A connection's timer: keepalive, a stalled packet, or the end of patience.
    pub(super) fn conn_due(&mut self, now: Now, id: ConnId) {
        let Some(conn) = self.conns.get(id.0) else { return };
        match (conn.stage, conn.serving_until()) {
            (Stage::Open, Some(until_ms)) if until_ms <= now.mono_ms => self.close(now, id, &CloseReason::Timeout),
            (Stage::Open, Some(_)) => self.arm(id),
            (Stage::Open, None) => match self.with_endpoint(now, id, |endpoint, turn| endpoint.on_timer(turn)) {
                Some(flow @ (Flow::Close(_) | Flow::Again)) => self.after_login(now, id, Some(flow)),
                _ => self.arm(id),
            },
            (Stage::Draining { until_s }, _) if u64::from(until_s) * 1000 <= now.mono_ms => self.drop_conn(id),
            (Stage::Draining { .. }, _) => self.arm(id),
            (Stage::Closed, _) => {}
        }
    }

    /// Ends a connection: its endpoint says goodbye and detaches, one attempt is made to send that, then it is closed.
    pub(super) fn close(&mut self, now: Now, id: ConnId, reason: &CloseReason) {
        if let Some(id) = id.sn() {
            return self.close_sn(now, id, reason);
        }
        let cut = self.conns.get(id.0).and_then(|conn| conn.cut_short(reason));
        let reason = cut.as_ref().unwrap_or(reason);
        let Some(spoke) = self.with_endpoint(now, id, |endpoint, turn| endpoint.close(turn, reason)) else { return };
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        let transport = conn.transport.as_ref();
        let spoke = spoke || transport.is_some_and(|transport| transport.says_goodbye());
        // Whose end of the stream was read has nothing more to say that could be thrown away; one that only said goodbye
        // within a stage waits for the answer.
        let ended = transport.is_some_and(|transport| transport.ended().is_some());
        let gone = matches!(reason, CloseReason::ClosedByClient | CloseReason::Socket(_)) && !ended;
        if spoke && !gone {
            self.write_last(now, id, reason);
        }
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        (conn.outbox, conn.transport) = (None, None);
        let of_bridge = conn.listener == BRIDGES;
        if conn.endpoint.is_client() {
            self.broker.stats.open_sockets = self.broker.stats.open_sockets.saturating_sub(1);
        }
        if spoke && !gone && !self.stop {
            conn.stream.finish();
            let until_s = u32::try_from((now.mono_ms + DRAIN_MS).div_ceil(1000)).unwrap_or(u32::MAX);
            conn.stage = Stage::Draining { until_s };
            let announced = conn.is.read_closed;
            self.arm(id);
            if announced {
                // Its end is in the socket already, and no event will tell.
                self.list_as_ready(id);
            }
        } else {
            self.drop_conn(id);
        }
        if of_bridge {
            self.bridge_closed(now, id, reason);
        }
    }

    /// One attempt to send what is left, with the goodbyes of the stages behind it.
    fn write_last(&mut self, now: Now, id: ConnId, reason: &CloseReason) {
        if self.conns.get(id.0).is_none_or(|conn| conn.transport.is_none()) {
            self.write_once(id);
            return;
        }
        for _ in 0..ROUNDS {
            match self.write_once(id) {
                Wrote::All => break,
                Wrote::Some => {}
                Wrote::Blocked | Wrote::Failed(_) => return,
            }
        }
        let Some(conn) = self.conns.get_mut(id.0).filter(|conn| !conn.has_output()) else { return };
        if let Some(transport) = &mut conn.transport {
            transport.say_goodbye(now, reason, &mut self.buffers);
        }
        self.write_once(id);
    }

    /// Sends a connection to the graveyard.
    fn drop_conn(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0).filter(|conn| conn.stage != Stage::Closed) else { return };
        conn.stage = Stage::Closed;
        self.slots.disconnected(conn.listener);
        self.graveyard.push(id);
    }
}

fn conn_is(this: &mut EventLoop, id: ConnId, set: impl FnOnce(&mut super::conn::Readiness)) {
    if let Some(conn) = this.conns.get_mut(id.0) {
        set(&mut conn.is);
    }
}

/// The system's words for an error, without Rust's "(os error N)".
pub(super) fn error_text(error: &io::Error) -> Box<str> {
    match error.raw_os_error() {
        Some(code) => crate::os::errors::text(code).into(),
        None => error.to_string().into(),
    }
}
