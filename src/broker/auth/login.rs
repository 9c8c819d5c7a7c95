//! Logins that take time: how many there may be, who has to wait, and what remains of a password when it was right.
//!
//! Passwords themselves are kept nowhere: a session remembers a fingerprint of the stored hash that it was let in by, so
//! that a reload can tell whose hash is gone or another. C Mosquitto keeps the passwords of all clients and checks them
//! again; here a user whose unchanged password was hashed anew has to log in again.

use core::net::IpAddr;
use std::fmt;
use std::hash::Hasher;
use std::num::NonZeroU32;

use siphasher::sip::SipHasher24;

use super::access::{Rules, RulesId};
use super::exchange::Begin;
use super::guard::Guard;
use super::password::Hash;
use super::{Claim, judge};
use crate::broker::{Broker, ConnId, SessionId};
use crate::timer::Now;

/// Bytes of CONNECT packets that may wait for an answer.
const MAX_HELD: usize = 4 << 20;
/// Connections that may wait for an answer.
const MAX_PENDING: usize = 4096;
/// CONNECT packets above this may use only half of the room: a few of them must not keep the ordinary ones out.
const LARGE: usize = 4096;
/// Logins of one address that may be looked at in the same moment; the next wait.
const LOOKS_PER_ADDRESS: usize = 64;
/// How long these wait before they ask again, in milliseconds.
const ASK_AGAIN_MS: u64 = 250;

/// A password to be compared with a hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Check {
    /// The address that the guard watches; `None` for one that it does not.
    pub ip: Option<IpAddr>,
    hash: Hash,
    password: Box<[u8]>,
    known: bool,
}

impl Check {
    /// The work; may take long.
    #[must_use]
    pub fn is_right(&self) -> bool {
        // Both, so that the time is the same.
        self.hash.verify(&self.password) & self.known
    }

    /// Bytes of memory that the work takes meanwhile.
    #[must_use]
    pub fn scratch(&self) -> usize {
        self.hash.scratch()
    }

    /// Rounds of the hash, where it has some.
    #[must_use]
    pub fn rounds(&self) -> Option<NonZeroU32> {
        match &self.hash {
            Hash::Pbkdf2 { iterations, .. } => Some(*iterations),
            _ => None,
        }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("ip", &self.ip).finish_non_exhaustive()
    }
}

/// The answer to a [`Check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the password.
    Right,
    /// It is not, or there is no such user.
    Wrong,
    /// Nobody looked: there is too much to do.
    Busy,
}

/// What is to be done with a login.
#[derive(Debug)]
pub enum Login {
    /// The client is welcome; the fingerprint of the hash that says so, 0 when none was needed.
    Welcome(u64),
    /// It is not.
    Refused(super::Failure),
    /// The guard wants it to wait for so many milliseconds.
    Wait(u64),
    /// This has to be found out first, elsewhere; the fingerprint to come back with.
    Check(Box<Check>, u64),
}

/// A login as the endpoint presents it. Without `Debug`, so that no password is printed.
#[derive(Clone, Copy)]
pub struct LoginRequest<'a> {
    /// The rules of its listener.
    pub rules: RulesId,
    /// The user name, `None` for an empty one, too.
    pub username: Option<&'a str>,
    /// The password.
    pub password: Option<&'a [u8]>,
    /// Whether the listener lets anybody in.
    pub anonymous_allowed: bool,
    /// Where it comes from; `None` at a UNIX socket.
    pub ip: Option<IpAddr>,
    /// The fingerprint that a [`Check`] came back right with.
    pub checked: Option<u64>,
}

/// The logins under way.
pub struct Logins {
    guard: Guard,
    keys: [u64; 2],
    /// The addresses whose passwords are being compared elsewhere.
    looking: Vec<u64>,
    pending: usize,
    held: usize,
    /// The mechanisms of enhanced authentication.
    pub begin: Option<Begin>,
}

impl Logins {
    pub(crate) fn new(keys: [u64; 2]) -> Logins {
        Logins { guard: Guard::new(keys), keys, looking: Vec::new(), pending: 0, held: 0, begin: None }
    }

    /// Asks for room for a CONNECT of `len` bytes that has to wait; false when there is none. Those that the guard holds
    /// back get only half of it: whoever guesses must not keep the others out.
    pub fn hold(&mut self, len: usize, held_back: bool) -> bool {
        let part = if held_back { 2 } else { 1 };
        let room = if len > LARGE { MAX_HELD / 2 } else { MAX_HELD } / part;
        if self.pending >= MAX_PENDING / part || self.held.saturating_add(len) > room {
            return false;
        }
        self.pending += 1;
        self.held += len;
        true
    }

    /// Gives it back.
    pub fn release(&mut self, len: usize) {
        debug_assert!(self.pending > 0 && self.held >= len);
        self.pending = self.pending.saturating_sub(1);
        self.held = self.held.saturating_sub(len);
    }

    /// Connections that wait for an answer, and the bytes of their packets.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.pending, self.held)
    }

    /// A [`Check`] was answered; counts also when its connection is gone.
    pub fn answered(&mut self, now: Now, ip: Option<IpAddr>, verdict: Verdict) {
        let Some(ip) = ip else { return };
        let tag = self.guard.tag(ip);
        if let Some(at) = self.looking.iter().position(|other| *other == tag) {
            self.looking.swap_remove(at);
        }
        if verdict == Verdict::Wrong {
            self.guard.failed(now.mono_ms, ip);
        }
    }

    /// Milliseconds that a login from there has to wait.
    fn wait_ms(&self, now: Now, ip: IpAddr) -> u64 {
        let wait_ms = self.guard.wait_ms(now.mono_ms, ip);
        if wait_ms == 0 && !self.looking.is_empty() {
            let tag = self.guard.tag(ip);
            if self.looking.iter().filter(|other| **other == tag).count() >= LOOKS_PER_ADDRESS {
                return ASK_AGAIN_MS;
            }
        }
        wait_ms
    }

    fn hash(&self, feed: impl FnOnce(&mut SipHasher24)) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(!self.keys[0], self.keys[1]);
        feed(&mut hasher);
        hasher.finish().max(1)
    }

    fn fingerprint(&self, hash: &Hash) -> u64 {
        self.hash(|hasher| hash.feed(hasher))
    }
}

/// The address the guard watches: not one of this machine, which all clients behind a local proxy, bridge or tunnel share.
fn guarded(ip: Option<IpAddr>) -> Option<IpAddr> {
    ip.map(|ip| ip.to_canonical()).filter(|ip| !ip.is_loopback())
}

impl Broker {
    /// Decides about a login, or says what has to be done first.
    pub fn login(&mut self, now: Now, request: &LoginRequest<'_>) -> Login {
        let LoginRequest { rules, username, password, anonymous_allowed, checked, .. } = *request;
        let choice = self.logins.hash(|hasher| hasher.write(username.unwrap_or_default().as_bytes()));
        let ip = guarded(request.ip);
        let wait_ms = self.login_wait_ms(now, request.ip);
        match judge(self.access.rules(rules), username, password, anonymous_allowed, choice) {
            Claim::Welcome => Login::Welcome(0),
            Claim::Refused(failure) if !failure.is_guess() => Login::Refused(failure),
            Claim::Refused(failure) => {
                if wait_ms > 0 {
                    return Login::Wait(wait_ms);
                }
                self.login_failed(now, ip);
                Login::Refused(failure)
            }
            Claim::Password { hash, known } => {
                let fingerprint = self.logins.fingerprint(hash);
                if known && checked == Some(fingerprint) {
                    return Login::Welcome(fingerprint);
                }
                if wait_ms > 0 {
                    return Login::Wait(wait_ms);
                }
                let password = password.unwrap_or_default();
                if hash.is_slow() {
                    let check = Check { ip, hash: hash.clone(), password: password.into(), known };
                    if let Some(ip) = ip {
                        let tag = self.logins.guard.tag(ip);
                        self.logins.looking.push(tag);
                    }
                    return Login::Check(Box::new(check), fingerprint);
                }
                if hash.verify(password) & known {
                    return Login::Welcome(fingerprint);
                }
                self.login_failed(now, ip);
                Login::Refused(if known { super::Failure::WrongPassword } else { super::Failure::UnknownUser })
            }
        }
    }

    /// An exchange of AUTH packets with a client from there came to nothing.
    pub fn exchange_failed(&mut self, now: Now, ip: Option<IpAddr>) {
        self.login_failed(now, guarded(ip));
    }

    fn login_failed(&mut self, now: Now, ip: Option<IpAddr>) {
        if let Some(ip) = ip {
            self.logins.guard.failed(now.mono_ms, ip);
        }
    }

    /// Milliseconds that a login from there has to wait before it is looked at.
    #[must_use]
    pub fn login_wait_ms(&self, now: Now, ip: Option<IpAddr>) -> u64 {
        guarded(ip).map_or(0, |ip| self.logins.wait_ms(now, ip))
    }

    /// Why a [`Check`] was answered with [`Verdict::Wrong`], for the log.
    #[must_use]
    pub fn login_failure(&self, rules: RulesId, username: Option<&str>) -> super::Failure {
        let passwords = self.access.rules(rules).and_then(|rules| rules.passwords.as_deref());
        let known = username.zip(passwords).is_some_and(|(username, passwords)| passwords.find(username).is_some());
        if known { super::Failure::WrongPassword } else { super::Failure::UnknownUser }
    }

    /// Notes what a client was let in by: a fingerprint, 0 when no password was asked, or another proof.
    pub fn set_proof(&mut self, id: SessionId, proof: Proof) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.details.is_some() {
            session.details_mut().proof = proof;
        }
    }

    /// After a reload: puts every connected client under the rules of its listener, of which `listener` tells the terms,
    /// and finds those who may no longer be here.
    pub fn recheck(&mut self, listener: impl Fn(ConnId) -> Option<Terms>) -> Vec<ConnId> {
        let mut leaving = Vec::new();
        for id in self.sessions.ids() {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            let Some(conn) = session.conn() else { continue };
            let Some(terms) = listener(conn) else { continue };
            session.rules = terms.rules;
            let proof = session.details.as_ref().map_or(Proof::Hash(0), |details| details.proof);
            let username = session.username();
            if !may_stay(&self.logins, self.access.rules(terms.rules), username, proof, terms) {
                leaving.push(conn);
            }
        }
        leaving
    }
}

/// What a client was let in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The hash with this fingerprint; 0 when no password was asked.
    Hash(u64),
    /// A certificate, whose name is the user's.
    Certificate,
    /// An exchange of AUTH packets.
    Exchange,
    /// The word of the listener: MQTT-SN has nothing that proves more, and the gateway asks it again after a reload.
    Listener,
}

impl Default for Proof {
    fn default() -> Proof {
        Proof::Hash(0)
    }
}

/// What a listener asks of its clients.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Its rules.
    pub rules: RulesId,
    /// Whether it lets anybody in.
    pub anonymous_allowed: bool,
    /// User names come from certificates.
    pub named_by_certificate: bool,
}

fn may_stay(logins: &Logins, rules: Option<&Rules>, username: Option<&str>, proof: Proof, terms: Terms) -> bool {
    let fingerprint = match proof {
        Proof::Hash(fingerprint) if !terms.named_by_certificate => fingerprint,
        Proof::Hash(_) => return false,
        Proof::Certificate => return terms.named_by_certificate,
        Proof::Exchange | Proof::Listener => return true,
    };
    let passwords = rules.and_then(|rules| rules.passwords.as_deref());
    let (Some(username), Some(passwords)) = (username, passwords) else { return terms.anonymous_allowed };
    passwords.find(username).is_some_and(|hash| logins.fingerprint(hash) == fingerprint)
}

#[cfg(test)]
mod tests;
