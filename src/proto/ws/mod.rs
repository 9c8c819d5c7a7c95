//! MQTT over WebSockets (RFC 6455): the stage below an endpoint, which sees a stream of bytes.
//!
//! ```text
//! Head ──upgrade──▶ Frames ──close, broken rule──▶ Over
//!   ├────refused, a file is asked for───────────────▲
//! ```
//!
//! Packets and frames need not begin or end together [MQTT-6.0.0-2]. What comes in is unmasked where it lies. What goes out
//! is the endpoint's, in one binary frame for each batch that a flush leaves; only what stands between is ours: the answer
//! to the upgrade, headers of frames, pongs and the close frame. Idle, a connection owns no buffer.
//!
//! C Mosquitto puts each packet into a frame of its own, and waits for the end of the connection where this answers a close
//! frame.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

pub mod files;
pub mod frame;
pub mod handshake;
#[cfg(test)]
mod tests;

use core::net::IpAddr;

use super::http::{self, RequestHead};
use crate::timer::Now;
use files::FileRequest;
use frame::{CloseCode, ControlPayload, Deframer, Next};
pub use handshake::Options;
use handshake::{Decision, Refusal};

/// An upgrade that was agreed on.
#[derive(Debug, PartialEq, Eq)]
pub struct Upgraded {
    /// The sub-protocol.
    pub protocol: &'static str,
    /// The client that a proxy on this machine speaks for, and its port where it is told.
    pub forwarded: Option<(IpAddr, Option<u16>)>,
}

/// What a piece of input was, beside the bytes for the endpoint.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The upgrade was agreed on, before these bytes.
    pub upgraded: Option<Upgraded>,
    /// How the connection ends, behind these bytes. Nothing is taken any more.
    pub end: Option<End>,
}

/// Why a stage wants the connection to end. An answer to a request waits in its output; a close frame comes with
/// [`Stage::close`], when the endpoint has nothing more to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The request was refused.
    Refused(Refusal),
    /// A file is asked for; the answer is the caller's ([`Stage::answer`]).
    File(FileRequest),
    /// The client sent a close frame.
    Closed(CloseCode),
    /// The frames break a rule.
    BadFrame(CloseCode),
}

#[derive(Debug)]
enum State {
    /// The request so far.
    Head(Vec<u8>),
    /// The connection is open.
    Frames(Deframer),
    /// Nothing more is read.
    Over,
}

/// From the HTTP request on: the upgrade, then frames.
#[derive(Debug)]
pub struct Stage {
    state: State,
    /// Bytes of ours that go out next.
    ahead: Vec<u8>,
    /// How many of them are out.
    ahead_sent: usize,
    /// Bytes of the endpoint that belong to the frame under way.
    frame_left: usize,
    /// The answer to the last ping, when the frame is out. A client that does not read gets no more than that one
    /// (RFC 6455, 5.5.3).
    pong: Option<Box<ControlPayload>>,
    /// How the client's end is answered.
    close: Option<CloseCode>,
    /// Frames may be written.
    framed: bool,
}

impl Default for Stage {
    fn default() -> Stage {
        Stage::new()
    }
}

impl Stage {
    /// A connection that was accepted now.
    #[must_use]
    pub fn new() -> Stage {
        Stage {
            state: State::Head(Vec::new()),
            ahead: Vec::new(),
            ahead_sent: 0,
            frame_left: 0,
            pong: None,
            close: None,
            framed: false,
        }
    }

    /// Takes input, unmasks it in place and appends the endpoint's bytes to `plain`: never more than came. The answer to
    /// the request, pongs and the like go to the output, of which an unread part stays below a few KiB whatever comes in.
    pub fn on_bytes(&mut self, now: Now, input: &mut [u8], options: &Options<'_>, plain: &mut Vec<u8>) -> Taken {
        let mut taken = Taken::default();
        let mut rest = input;
        if let State::Head(head) = &mut self.state {
            let Some((decision, body, used)) = take_head(head, options, rest) else { return taken };
            rest = rest.get_mut(used..).unwrap_or_default();
            match decision {
                Decision::Upgrade(agreed) => {
                    agreed.put(&mut self.ahead);
                    self.state = State::Frames(Deframer::default());
                    self.framed = true;
                    taken.upgraded = Some(Upgraded { protocol: agreed.protocol, forwarded: agreed.forwarded });
                }
                Decision::Refuse(refusal) => {
                    refusal.put(&mut self.ahead, &http::date(now.wall_s), body);
                    self.state = State::Over;
                    taken.end = Some(End::Refused(refusal));
                    return taken;
                }
                Decision::File(file) => {
                    self.state = State::Over;
                    taken.end = Some(End::File(file));
                    return taken;
                }
            }
        }
        taken.end = self.take_frames(rest, plain);
        self.settle();
        taken
    }

    fn take_frames(&mut self, mut input: &mut [u8], plain: &mut Vec<u8>) -> Option<End> {
        let State::Frames(deframer) = &mut self.state else { return None };
        let (end, code) = loop {
            match deframer.next(&mut input) {
                Next::NeedMore => return None,
                Next::Data(bytes) => plain.extend_from_slice(bytes),
                Next::Ping(payload) => self.pong = Some(Box::new(payload)),
                Next::Close(code) => break (End::Closed(code), code),
                Next::Bad(code) => break (End::BadFrame(code), code),
            }
        };
        self.pong = None;
        self.close = Some(code);
        self.state = State::Over;
        Some(end)
    }

    /// True from the upgrade to the end.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Frames(_))
    }

    /// Between frames and with nothing of ours on the way, puts out the pong that waits.
    fn settle(&mut self) {
        if self.framed && self.frame_left == 0 && self.ahead.is_empty() {
            if let Some(pong) = self.pong.take() {
                frame::put_pong(&mut self.ahead, &pong);
            }
        }
    }

    /// The endpoint has `waiting` bytes: returns how many of them follow [`Stage::output`] in the frame that is under way,
    /// and begins one when there is none. 0 before the upgrade and after the close.
    pub fn frame(&mut self, waiting: usize) -> usize {
        self.settle();
        if self.framed && self.frame_left == 0 && waiting > 0 {
            frame::put_binary_header(&mut self.ahead, waiting);
            self.frame_left = waiting;
        }
        self.frame_left
    }

    /// What goes out before the endpoint's bytes of the present frame; empty when those come next. Control frames wait
    /// within the stage until the frame is complete.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.ahead.get(self.ahead_sent..).unwrap_or_default()
    }

    /// So many bytes went out: of the output first, then of the endpoint's bytes of the present frame. Returns how many
    /// were the endpoint's.
    pub fn advance(&mut self, n: usize) -> usize {
        let ours = n.min(self.output().len());
        self.ahead_sent = self.ahead_sent.saturating_add(ours);
        if self.ahead_sent >= self.ahead.len() {
            self.ahead = Vec::new();
            self.ahead_sent = 0;
        }
        let theirs = n.saturating_sub(ours).min(self.frame_left);
        self.frame_left = self.frame_left.saturating_sub(theirs);
        self.settle();
        theirs
    }

    /// Says goodbye by a close frame, if the upgrade is done, no other was sent and no frame is under way: everything else
    /// has gone out. The code counts when the end is not the client's; its own is answered as it deserves.
    pub fn close(&mut self, code: CloseCode) {
        self.state = State::Over;
        self.pong = None;
        if self.framed && self.frame_left == 0 {
            frame::put_close(&mut self.ahead, self.close.unwrap_or(code));
            // Nothing may follow.
            self.framed = false;
        }
    }

    /// Answers a request that has begun and was not completed in time.
    pub fn time_out(&mut self, now: Now) {
        if matches!(&self.state, State::Head(head) if !head.is_empty()) {
            Refusal::TIMEOUT.put(&mut self.ahead, &http::date(now.wall_s), true);
            self.state = State::Over;
        }
    }

    /// Where an answer goes that the caller makes up, for [`End::File`]: a head, then the content piece by piece.
    pub fn answer(&mut self) -> &mut Vec<u8> {
        &mut self.ahead
    }
}

/// Adds input to a head; once that is complete or hopeless, what becomes of the request, whether a body of an answer is
/// wanted, and how much of the input was the head.
fn take_head(head: &mut Vec<u8>, options: &Options<'_>, mut input: &[u8]) -> Option<(Decision, bool, usize)> {
    let all = input.len();
    if head.is_empty() {
        // Empty lines before a request mean nothing (RFC 9112, 2.2), and need not be kept.
        let start = input.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(all);
        input = input.get(start..).unwrap_or_default();
    }
    if input.is_empty() {
        return None;
    }
    let skipped = all.saturating_sub(input.len());
    let (first, before) = (head.is_empty(), head.len());
    let room = options.max_head.saturating_sub(before);
    let taken = input.get(..room).unwrap_or(input);
    head.extend_from_slice(taken);
    // A head that comes in drops is looked at once for each line, not for each drop.
    if !first && !taken.contains(&b'\n') && head.len() < options.max_head {
        return None;
    }
    let decided = match RequestHead::parse(head, options.max_head) {
        Ok(None) => return None,
        Ok(Some(parsed)) => {
            let used = parsed.len.saturating_sub(before).saturating_add(skipped);
            (handshake::decide(&parsed, options), parsed.method != "HEAD", used)
        }
        Err(error) => (Decision::Refuse(error.into()), true, all),
    };
    *head = Vec::new();
    Some(decided)
}
