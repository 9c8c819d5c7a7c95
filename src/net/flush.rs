//! Steps 7 and 8 of a PUBLISH: connections with output encode what their sessions have for them and write it at once.

use std::io::{self, IoSlice};

use super::EventLoop;
use super::conn::Stage;
use super::read::error_text;
use crate::broker::ConnId;
use crate::proto::server::HIGH_WATER;
use crate::proto::{CloseReason, Flushed};
use crate::timer::Now;

/// Slices given to one vectored write.
const SLICES: usize = 64;
/// Fill-and-write rounds of one connection in one turn; after that others get theirs.
const ROUNDS: usize = 8;

/// What one write did.
pub(super) enum Wrote {
    /// Everything is out.
    All,
    /// Some is out, more may go at once.
    Some,
    /// The socket takes no more.
    Blocked,
    Failed(CloseReason),
}

impl EventLoop {
    /// Fills the outbox from the session and writes it, until there is nothing left, the socket is full, or it is
    /// somebody else's turn.
    pub(super) fn flush_conn(&mut self, now: Now, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        conn.is.flush = false;
        if conn.stage != Stage::Open {
            return;
        }
        for _ in 0..ROUNDS {
            let Some(left) = self.with_endpoint(now, id, |endpoint, turn| endpoint.flush(turn)) else { return };
            let wrote = self.write_once(id);
            self.unpause(id);
            match wrote {
                Wrote::Blocked => return,
                Wrote::Failed(reason) => return self.close(now, id, &reason),
                Wrote::Some => {}
                Wrote::All => match left {
                    Flushed::More => {}
                    Flushed::Enough => return,
                    Flushed::Last => return self.close(now, id, &CloseReason::Answered),
                },
            }
        }
        self.list_for_flush(id);
    }

    /// Lets a client ask again that has taken its replies, even if it has not taken all of its messages: those may never
    /// end.
    fn unpause(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0).filter(|conn| conn.is.paused) else { return };
        if conn.outbox.as_ref().is_none_or(|out| out.owed() <= HIGH_WATER) {
            conn.is.paused = false;
            self.list_as_ready(id);
        }
    }

    /// Writes what the connection's outbox holds with one system call.
    pub(super) fn write_once(&mut self, id: ConnId) -> Wrote {
        let Some(conn) = self.conns.get_mut(id.0) else { return Wrote::Blocked };
        let Some(mut out) = conn.outbox.take() else { return Wrote::All };
        let result = if conn.is.writable {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = out.slices(&mut slices);
            let offered: usize = slices.iter().take(used).map(|slice| slice.len()).sum();
            let written = conn.stream.write(slices.get(..used).unwrap_or_default());
            match written {
                Ok(n) => {
                    if conn.endpoint.is_client() {
                        self.broker.stats.bytes_out += n as u64;
                    }
                    out.advance(n);
                    conn.is.writable = n == offered;
                    match (out.is_empty(), conn.is.writable) {
                        (true, _) => Wrote::All,
                        (false, true) => Wrote::Some,
                        (false, false) => Wrote::Blocked,
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        conn.is.writable = false;
                        Wrote::Blocked
                    }
                    io::ErrorKind::Interrupted => Wrote::Some,
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                        Wrote::Failed(CloseReason::ClosedByClient)
                    }
                    _ => Wrote::Failed(CloseReason::Socket(error_text(&error))),
                },
            }
        } else {
            Wrote::Blocked
        };
        self.put_back(id, out);
        result
    }
}
