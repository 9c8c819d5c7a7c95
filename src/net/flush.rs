//! Steps 7 and 8 of a PUBLISH: connections with output encode what their sessions have for them and write it at once.

use std::io::{self, IoSlice};

use super::EventLoop;
use super::conn::Stage;
use super::read::error_text;
use super::stream::Stream;
use super::transport::{MAX_PENDING, Sent};
use crate::broker::ConnId;
use crate::proto::server::HIGH_WATER;
use crate::proto::{CloseReason, Flushed, Outbox};
use crate::timer::Now;

/// Slices given to one vectored write.
pub(super) const SLICES: usize = 64;
/// Fill-and-write rounds of one connection in one turn; after that others get theirs.
pub(super) const ROUNDS: usize = 8;

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
        if conn.serving_until().is_some() {
            return self.serve(now, id);
        }
        for _ in 0..ROUNDS {
            // While something waits that the session has given, it gives no more.
            if self.conns.get(id.0).is_some_and(|conn| conn.pending() > 0) {
                let wrote = self.write_once(id);
                self.unpause(id);
                match wrote {
                    Wrote::Blocked => return,
                    Wrote::Failed(reason) => return self.close(now, id, &reason),
                    Wrote::Some | Wrote::All => {}
                }
            }
            let Some(left) = self.with_endpoint(now, id, |endpoint, turn| endpoint.flush(turn)) else { return };
            self.note_negotiated(id);
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

    /// Sends what a connection gets instead of what its endpoint has.
    fn serve(&mut self, now: Now, id: ConnId) {
        for _ in 0..ROUNDS {
            let Some(conn) = self.conns.get_mut(id.0) else { return };
            if conn.pending() == 0 {
                let Some(transport) = &mut conn.transport else { return };
                match transport.serve(now) {
                    Ok(true) => {}
                    Ok(false) => return self.close(now, id, &CloseReason::Answered),
                    Err(error) => return self.close(now, id, &CloseReason::Socket(error_text(&error))),
                }
            }
            match self.write_once(id) {
                Wrote::Blocked => return,
                Wrote::Failed(reason) => return self.close(now, id, &reason),
                Wrote::Some | Wrote::All => {}
            }
        }
        self.list_for_flush(id);
    }

    /// Says once how the connection of a client that has come in is encrypted.
    fn note_negotiated(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        let (Some(transport), Some(session)) = (&mut conn.transport, conn.endpoint.session()) else { return };
        let Some((version, cipher)) = transport.take_negotiated() else { return };
        if self.config.global.connection_messages {
            crate::notice!("Client {} negotiated {version} cipher {cipher}", self.broker.client_id(session));
        }
    }

    /// Lets a client ask again that has taken its replies, even if it has not taken all of its messages: those may never
    /// end.
    fn unpause(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0).filter(|conn| conn.is.paused) else { return };
        if conn.outbox.as_ref().is_none_or(|out| out.owed() <= HIGH_WATER) && conn.pending() <= MAX_PENDING {
            conn.is.paused = false;
            self.list_as_ready(id);
        }
    }

    /// Writes what the connection's stages and its outbox hold with one system call.
    pub(super) fn write_once(&mut self, id: ConnId) -> Wrote {
        let Some(conn) = self.conns.get_mut(id.0) else { return Wrote::Blocked };
        if !conn.has_output() {
            return Wrote::All;
        }
        if !conn.is.writable {
            return Wrote::Blocked;
        }
        let mut out = conn.outbox.take().or_else(|| self.spare.pop()).unwrap_or_default();
        let sent = match &mut conn.transport {
            None => write_plain(&mut conn.stream, &mut out),
            Some(transport) => transport.write(&mut conn.stream, &mut out, &mut self.buffers),
        };
        let result = match sent {
            Ok(sent) => {
                if conn.endpoint.is_client() {
                    self.broker.stats.bytes_out += sent.bytes as u64;
                }
                conn.is.writable = !sent.is_full;
                match (out.is_empty() && conn.pending() == 0, sent.is_full) {
                    (true, _) => Wrote::All,
                    // Nothing can leave before the stages are ready for it.
                    (false, false) if sent.bytes == 0 => Wrote::Blocked,
                    (false, false) => Wrote::Some,
                    (false, true) => Wrote::Blocked,
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
        };
        self.put_back(id, out);
        result
    }
}

/// One write without any stages.
fn write_plain(stream: &mut Stream, out: &mut Outbox) -> io::Result<Sent> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let used = out.slices(&mut slices);
    let offered: usize = slices.iter().take(used).map(|slice| slice.len()).sum();
    let n = stream.write(slices.get(..used).unwrap_or_default())?;
    out.advance(n);
    Ok(Sent { bytes: n, is_full: n < offered })
}
