//! While a bridge is connected to another address than its first, the first is tried every few seconds, and served again
//! as soon as it takes a connection `[conf: round_robin]`.

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::names::Found;
use super::{EventLoop, Kept, socket};
use crate::net::stream::Stream;
use crate::proto::bridge::Link;
use crate::timer::Now;

/// Tokens of tries, by the bridge's place in the list; no connection can have them, as those of signals.
const FIRST_TOKEN: usize = u32::MAX as usize - 768;
/// Bridges that can have a try at the same time; one further down in the configuration goes without.
const MOST: usize = 512;
/// How long the first address may take to answer, in milliseconds.
const PATIENCE_MS: u64 = 4_000;

/// How far a try of the first address is.
pub(super) enum Probe {
    None,
    /// Its name is being looked up.
    Resolving,
    /// A socket that is only to see whether somebody answers, until this time.
    Connecting(Stream, u64),
}

impl Probe {
    pub(super) fn is_resolving(&self) -> bool {
        matches!(self, Probe::Resolving)
    }
}

impl Kept {
    /// When something has to be done about the first address.
    pub(super) fn primary_due(&self) -> Option<u64> {
        match &self.probe {
            Probe::None => self.connector.primary_due(),
            Probe::Resolving => None,
            Probe::Connecting(_, until_ms) => Some(*until_ms),
        }
    }
}

/// The bridge that an event is about.
pub(super) fn bridge_of(token: Token) -> Option<usize> {
    token.0.checked_sub(FIRST_TOKEN).filter(|at| *at < MOST)
}

impl EventLoop {
    /// Begins a try that is due, and ends one that takes too long.
    pub(super) fn run_primary(&mut self, now: Now, at: usize) {
        let Some(kept) = self.bridges.all.get_mut(at) else { return };
        if at >= MOST || kept.primary_due().is_none_or(|due| due > now.mono_ms) {
            return;
        }
        if matches!(kept.probe, Probe::Connecting(..)) {
            kept.probe = Probe::None;
            kept.connector.primary_tried(now);
            return;
        }
        kept.connector.primary_tried(now);
        kept.probe = Probe::Resolving;
        if let Some(found) = self.resolve_primary(now, at) {
            self.probe_primary(now, at, &found);
        }
    }

    /// The first address is known: tries to connect to it.
    pub(super) fn probe_primary(&mut self, now: Now, at: usize, found: &Found) {
        let Some(kept) = self.bridges.all.get_mut(at) else { return };
        kept.probe = Probe::None;
        let config = &kept.connector.profile().config;
        let stream = found.addrs.first().map(|addr| socket::connect(config, found.bind, *addr));
        let Some(Ok(mut stream)) = stream.filter(|_| kept.connector.link() == Link::Live) else { return };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if register(self, &mut stream, Token(FIRST_TOKEN + at), interest)
            && let Some(kept) = self.bridges.all.get_mut(at)
        {
            kept.probe = Probe::Connecting(Stream::Tcp(stream), now.mono_ms.saturating_add(PATIENCE_MS));
        }
    }

    /// Something happened to the socket of a try.
    pub(super) fn primary_event(&mut self, now: Now, at: usize) {
        let Some(kept) = self.bridges.all.get_mut(at) else { return };
        let Probe::Connecting(stream, _) = &kept.probe else { return };
        match socket::is_connected(stream) {
            Ok(false) => {}
            Ok(true) => {
                kept.probe = Probe::None;
                crate::notice!(
                    "Bridge {}: the first address can be reached again, returning to it.",
                    kept.connector.profile().config.name
                );
                kept.connector.return_to_primary();
                self.end_bridge(now, at, "returning to the first address");
            }
            Err(_) => {
                kept.probe = Probe::None;
                kept.connector.primary_tried(now);
            }
        }
    }
}

fn register(this: &EventLoop, stream: &mut TcpStream, token: Token, interest: Interest) -> bool {
    mio::event::Source::register(stream, this.poll.registry(), token, interest).is_ok()
}
