//! One connection to a listener with `protocol metrics`: `GET /metrics` answers the counters in the text format 0.0.4 of
//! Prometheus, `GET /healthz` whether the broker is well.
//!
//! ```text
//! Reading ──a request──▶ Asked ──report──▶ Answered ──written──▶ closed
//!    └──────────health, refusals──────────────▲
//! ```
//!
//! One answer for each connection, with `Connection: close`: what else the peer sends, a body or further requests, is
//! thrown away, so nobody can make us guess where a request begins. These peers are no clients: they stand in none of the
//! counters.

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

mod page;
#[cfg(test)]
mod tests;

use super::endpoint::{Flushed, LoopFigures};
use super::http::{self, BadHead, MAX_HEAD, RequestHead};
use super::{CloseReason, Flow, Peer, Turn};
use crate::broker::Broker;
use crate::timer::Now;

/// How long a peer may take for its request.
const HEAD_MS: u64 = 10_000;
/// How long a peer may take to read the answer.
const ANSWER_MS: u64 = 30_000;
/// What a page costs of a turn's budget, beside the walks over sessions and connections.
const PAGE_WORK: u32 = 256;

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The request is not complete.
    Reading,
    /// The page was asked for, with or without a body, and waits for what only the loop knows.
    Asked { body: bool },
    /// An answer with this status is on its way.
    Answered(&'static str),
}

/// The server side of one connection.
#[derive(Debug)]
pub struct Metrics {
    peer: Peer,
    state: State,
    deadline_ms: u64,
    /// The request so far, at most [`MAX_HEAD`] bytes.
    head: Vec<u8>,
}

/// What a request gets.
enum Route {
    Page,
    Health,
    Refused(Refusal),
}

/// An answer to a request that cannot be served.
struct Refusal {
    status: &'static str,
    /// A further header field, with its end.
    field: &'static str,
    text: &'static str,
}

impl Refusal {
    const fn new(status: &'static str, text: &'static str) -> Refusal {
        Refusal { status, field: "", text }
    }
}

impl Metrics {
    /// A connection from `peer` that was accepted now.
    #[must_use]
    pub fn new(now: Now, peer: Peer) -> Metrics {
        let deadline_ms = now.mono_ms.saturating_add(HEAD_MS);
        Metrics { peer, state: State::Reading, deadline_ms, head: Vec::new() }
    }

    /// When [`Metrics::on_timer`] has to be called at the latest, in milliseconds.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.deadline_ms
    }

    /// Where the peer is.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// A proxy says where the peer really is.
    pub fn set_peer(&mut self, peer: Peer) {
        self.peer = peer;
    }

    /// True from the request on: the answer goes out also to a peer that will send nothing more.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        self.state != State::Reading
    }

    /// Takes input until the request is complete; what follows is ignored. [`Flow::Report`] until
    /// [`Metrics::report`] was called.
    pub fn on_bytes(&mut self, turn: &mut Turn<'_>, input: &[u8]) -> Flow {
        match self.state {
            State::Reading if !input.is_empty() => {}
            State::Asked { .. } => return Flow::Report,
            State::Reading | State::Answered(_) => return Flow::Continue,
        }
        let first = self.head.is_empty();
        let room = MAX_HEAD.saturating_sub(self.head.len());
        let taken = input.get(..room).unwrap_or(input);
        self.head.extend_from_slice(taken);
        // A head that comes in drops is looked at once for each line, not for each drop.
        if !first && !taken.contains(&b'\n') && self.head.len() < MAX_HEAD {
            return Flow::Continue;
        }
        turn.charge(u32::try_from(self.head.len() / 64).unwrap_or(u32::MAX).saturating_add(1));
        let (route, body) = match RequestHead::parse(&self.head, MAX_HEAD) {
            Ok(None) => return Flow::Continue,
            Ok(Some(head)) => (route(&head), head.method != "HEAD"),
            Err(error) => (Route::Refused(refuse(error)), true),
        };
        self.head = Vec::new();
        match route {
            Route::Page => {
                self.state = State::Asked { body };
                return Flow::Report;
            }
            Route::Health => match illness(turn.broker) {
                None => self.answer(turn, "200 OK", TEXT, "", "ok", body),
                Some(reason) => self.answer(turn, "503 Service Unavailable", TEXT, "", reason, body),
            },
            Route::Refused(why) => self.answer(turn, why.status, TEXT, why.field, why.text, body),
        }
        Flow::Continue
    }

    /// Answers the page that was asked for; else does nothing.
    pub fn report(&mut self, turn: &mut Turn<'_>, figures: &LoopFigures) {
        if let State::Asked { body } = self.state {
            turn.charge(PAGE_WORK);
            let text = page::text(turn.broker, turn.now, figures);
            self.answer(turn, "200 OK", PROMETHEUS, "", &text, body);
        }
    }

    fn answer(&mut self, turn: &mut Turn<'_>, status: &'static str, kind: &str, field: &str, text: &str, body: bool) {
        let head = format!(
            "HTTP/1.1 {status}\r\nDate: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{field}\
             Connection: close\r\n\r\n",
            http::date(turn.now.wall_s),
            text.len()
        );
        let out = turn.out.packet();
        out.extend_from_slice(head.as_bytes());
        if body {
            out.extend_from_slice(text.as_bytes());
        }
        self.state = State::Answered(status);
        self.deadline_ms = turn.now.mono_ms.saturating_add(ANSWER_MS);
    }

    /// What waits for the socket is the end, once there is an answer.
    #[must_use]
    pub fn flush(&self) -> Flushed {
        match self.state {
            State::Answered(_) => Flushed::Last,
            State::Reading | State::Asked { .. } => Flushed::Enough,
        }
    }

    /// Ends a connection whose request, or whose reading of the answer, takes too long.
    #[must_use]
    pub fn on_timer(&self, turn: &Turn<'_>) -> Flow {
        if self.deadline_ms <= turn.now.mono_ms { Flow::Close(CloseReason::Timeout) } else { Flow::Continue }
    }

    /// Ends the connection and logs the one line. True when the peer was answered and may need time to read.
    pub fn close(&mut self, turn: &mut Turn<'_>, reason: &CloseReason) -> bool {
        let started = !self.head.is_empty();
        if matches!((reason, self.state), (CloseReason::Timeout, State::Reading)) && started {
            self.answer(turn, "408 Request Timeout", TEXT, "", "The request took too long.\n", true);
        }
        self.head = Vec::new();
        // The peer's words stay out of the log.
        match self.state {
            _ if !turn.config.global.connection_messages => {}
            State::Answered(status) if matches!(reason, CloseReason::Answered) => {
                log::debug!("Metrics for {}: {status}.", self.peer);
            }
            State::Answered(status) => log::debug!("Metrics for {}: {status}, {reason}", self.peer),
            State::Reading | State::Asked { .. } => log::debug!("Metrics for {}: {reason}", self.peer),
        }
        matches!(self.state, State::Answered(_))
    }
}

fn refuse(error: BadHead) -> Refusal {
    match error {
        BadHead::Malformed => Refusal::new("400 Bad Request", "This is not an HTTP request.\n"),
        BadHead::Version => Refusal::new("505 HTTP Version Not Supported", "HTTP/1.0 and HTTP/1.1 are spoken here.\n"),
        BadHead::TooLarge => Refusal::new("431 Request Header Fields Too Large", "The request is too large.\n"),
    }
}

fn route(head: &RequestHead<'_>) -> Route {
    if !head.has_valid_host() {
        return Route::Refused(Refusal::new("400 Bad Request", "The Host field is missing or wrong.\n"));
    }
    let route = match head.path() {
        Some("/metrics") => Route::Page,
        Some("/healthz") => Route::Health,
        _ => return Route::Refused(Refusal::new("404 Not Found", "There are /metrics and /healthz.\n")),
    };
    if head.method != "GET" && head.method != "HEAD" {
        let text = "Only GET and HEAD are answered.\n";
        return Route::Refused(Refusal { status: "405 Method Not Allowed", field: "Allow: GET, HEAD\r\n", text });
    }
    if head.announces_body() {
        return Route::Refused(Refusal::new("400 Bad Request", "A request with a body is not answered.\n"));
    }
    route
}

/// Why the broker is not well, if it is not.
fn illness(broker: &Broker) -> Option<&'static str> {
    if broker.over_memory() {
        Some("over memory_limit: new work is refused\n")
    } else if broker.is_congested() {
        Some("storage is behind: nothing is read from clients\n")
    } else {
        None
    }
}
