//! Names of other brokers are looked up on a thread of their own: a name server that does not answer costs nobody but the
//! bridge, and others whose names wait behind it.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use mio::Waker;

use super::EventLoop;
use super::primary::Probe;
use crate::config::bridge::Address;
use crate::net::read::error_text;
use crate::net::worker::Worker;
use crate::os::random;
use crate::proto::bridge::Step;
use crate::timer::Now;

/// Names that may wait for the thread.
const BOUND: usize = 64;
/// An answer that came too late is good for so long, in milliseconds.
const LATE_MS: u64 = 60_000;

/// An address of another broker, and where the connection to it is to start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Query {
    address: Address,
    bind: Option<String>,
}

/// What came of a query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    query: Query,
    found: Result<Found, String>,
}

/// What the names of a query stand for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) addrs: Vec<SocketAddr>,
    pub(super) bind: Option<IpAddr>,
}

/// The thread, and what it was asked.
pub(super) struct Names {
    worker: Worker<Query, Answer>,
    asked: Vec<Query>,
    /// Answers that nobody waited for any more, and when they came.
    late: Vec<(Query, Found, u64)>,
}

impl Names {
    pub(super) fn new(waker: Arc<Waker>) -> Names {
        let worker = Worker::new("names", BOUND, waker, |query: Query| {
            let found = look_up(&query);
            Answer { query, found }
        });
        Names { worker, asked: Vec::new(), late: Vec::new() }
    }

    /// What a query comes to, as far as that needs no looking up or was found out meanwhile.
    fn known(&mut self, now: Now, query: &Query) -> Option<Found> {
        self.late.retain(|(_, _, when)| when.saturating_add(LATE_MS) > now.mono_ms);
        if let Some(at) = self.late.iter().position(|(known, _, _)| known == query) {
            return Some(self.late.swap_remove(at).1);
        }
        let ip: IpAddr = query.address.host.parse().ok()?;
        let bind = match &query.bind {
            Some(bind) => Some(bind.parse().ok()?),
            None => None,
        };
        Some(Found { addrs: vec![SocketAddr::new(ip, query.address.port)], bind })
    }

    /// Asks for a name, unless it is asked for already. False when too many wait.
    fn ask(&mut self, query: Query) -> bool {
        if self.asked.contains(&query) {
            return true;
        }
        let asked = self.worker.submit(query.clone()).is_ok();
        if asked {
            self.asked.push(query);
        }
        asked
    }
}

/// Blocks for as long as the name server likes.
fn look_up(query: &Query) -> Result<Found, String> {
    let words = |error: std::io::Error| error_text(&error).to_string();
    let bind = match &query.bind {
        None => None,
        Some(bind) => {
            let mut all = (bind.as_str(), 0).to_socket_addrs().map_err(|error| format!("{bind}: {}", words(error)))?;
            all.next().map(|addr| addr.ip())
        }
    };
    let addrs: Vec<SocketAddr> = (query.address.host.as_str(), query.address.port)
        .to_socket_addrs()
        .map_err(words)?
        // A socket that starts at one family does not lead to the other.
        .filter(|addr| bind.is_none_or(|ip| ip.is_ipv4() == addr.is_ipv4()))
        .collect();
    Ok(Found { addrs, bind })
}

impl EventLoop {
    /// Finds out what an address stands for, at once or later.
    pub(super) fn resolve(&mut self, now: Now, at: usize, address: &Address) -> Step {
        let Some(kept) = self.bridges.all.get_mut(at) else { return Step::Nothing };
        let query = Query { address: address.clone(), bind: kept.connector.profile().config.bind_address.clone() };
        if let Some(found) = self.bridges.names.known(now, &query) {
            kept.bind = found.bind;
            return kept.connector.resolved(now, address, Ok(found.addrs), random::seed());
        }
        if self.bridges.names.ask(query) {
            return Step::Nothing;
        }
        kept.connector.failed(now, "too many names are being looked up", random::seed())
    }

    /// What the first address of a bridge stands for; `None` when that is not known yet.
    pub(super) fn resolve_primary(&mut self, now: Now, at: usize) -> Option<Found> {
        let config = &self.bridges.all.get(at)?.connector.profile().config;
        let query = Query { address: config.addresses.first()?.clone(), bind: config.bind_address.clone() };
        let known = self.bridges.names.known(now, &query);
        if known.is_none() {
            // When too many wait it is asked again with the next try.
            let _asked = self.bridges.names.ask(query);
        }
        known
    }

    /// Hands out the answers that have come.
    pub(super) fn take_names(&mut self, now: Now) {
        while let Some(Answer { query, found }) = self.bridges.names.worker.next_answer() {
            self.bridges.names.asked.retain(|asked| *asked != query);
            let mut wanted = false;
            for at in 0..self.bridges.all.len() {
                let Some(kept) = self.bridges.all.get_mut(at) else { continue };
                let config = &kept.connector.profile().config;
                if config.bind_address != query.bind {
                    continue;
                }
                if kept.connector.awaits(&query.address) {
                    wanted = true;
                    kept.bind = found.as_ref().ok().and_then(|found| found.bind);
                    let addrs = found.clone().map(|found| found.addrs);
                    let step = kept.connector.resolved(now, &query.address, addrs, random::seed());
                    self.take_step(now, at, step);
                } else if kept.probe.is_resolving() && config.addresses.first() == Some(&query.address) {
                    wanted = true;
                    match &found {
                        Ok(found) => self.probe_primary(now, at, found),
                        Err(_) => kept.probe = Probe::None,
                    }
                }
            }
            if let (false, Ok(found)) = (wanted, found) {
                self.bridges.names.late.push((query, found, now.mono_ms));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(host: &str, bind: Option<&str>) -> Query {
        Query { address: Address { host: host.into(), port: 7 }, bind: bind.map(Into::into) }
    }

    #[test]
    fn names_of_this_machine_and_of_no_machine() {
        let found = look_up(&query("localhost", Some("127.0.0.1"))).unwrap();
        assert_eq!(found.addrs, ["127.0.0.1:7".parse().unwrap()]);
        assert_eq!(found.bind, Some("127.0.0.1".parse().unwrap()));
        assert!(look_up(&query("name.invalid", None)).is_err());
        assert!(look_up(&query("localhost", Some("name.invalid"))).is_err_and(|why| why.starts_with("name.invalid:")));
    }
}
