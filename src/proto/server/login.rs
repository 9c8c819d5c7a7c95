//! CONNECT while it is found out who the client is: the packet is kept, and what follows it is not read.

use super::connect::Refused;
use super::{Handled, Phase, Server};
use crate::broker::auth::access::RulesId;
use crate::broker::auth::exchange::Exchange;
use crate::broker::auth::login::{Check, Login, LoginRequest, Proof, Verdict};
use crate::broker::auth::{Failure, Identity};
use crate::proto::close::Refusal;
use crate::proto::{CloseReason, Flow, Turn, conformance};
use crate::wire::connect::{self, Connect};
use crate::wire::{ProtocolVersion, ReasonCode};
use std::mem;

/// A CONNECT that waits.
pub(super) struct Pending {
    /// The first byte of the packet, and what follows its length.
    pub(super) packet: (u8, Box<[u8]>),
    pub(super) at: At,
}

/// What it waits for.
pub(super) enum At {
    /// The guard wants it to wait until then.
    Guard { until_ms: u64 },
    /// [`Server::on_login`]; the fingerprint of the hash that is compared.
    Verdict { fingerprint: u64 },
    /// The next AUTH.
    Exchange(Box<dyn Exchange>),
}

/// What is known of the client beside its CONNECT.
pub(super) enum Known {
    Nothing,
    /// Its password belongs to the hash with this fingerprint.
    Checked(u64),
    /// An exchange of AUTH packets is done.
    Exchanged {
        identity: Option<Identity>,
        data: Option<Vec<u8>>,
    },
}

impl Known {
    /// The Authentication Data for CONNACK.
    pub(super) fn last_data(&self) -> Option<&[u8]> {
        match self {
            Known::Exchanged { data, .. } => data.as_deref(),
            Known::Nothing | Known::Checked(_) => None,
        }
    }
}

/// Whether a client comes in, or what first.
pub(super) enum Gate {
    /// It does.
    Open(Proof),
    /// After this time.
    Guard(u64),
    /// After this was found out, which is about the hash with this fingerprint.
    Check(Box<Check>, u64),
    /// After this.
    Exchange(Box<dyn Exchange>),
}

impl Pending {
    /// Gives the room back that it had.
    pub(super) fn release(&self, turn: &mut Turn<'_>) {
        turn.broker.logins.release(self.packet.1.len());
    }
}

impl Server {
    /// Accepts or refuses a CONNECT, or keeps it until more is known.
    pub(super) fn decide(
        &mut self,
        turn: &mut Turn<'_>,
        packet: (u8, &[u8]),
        connect: &Connect<'_>,
        known: &Known,
    ) -> Handled {
        match self.accept(turn, connect, known) {
            Ok(Gate::Open(_)) => Ok(()),
            Err(refused) => self.turn_away(turn, connect, refused),
            Ok(Gate::Exchange(exchange)) => self.step(turn, packet, connect, exchange, connect.auth_data),
            Ok(Gate::Guard(until_ms)) => match self.keep(turn, packet, At::Guard { until_ms }) {
                true => Ok(()),
                false => self.turn_away(turn, connect, busy(connect.version)),
            },
            Ok(Gate::Check(check, fingerprint)) => {
                let ip = check.ip;
                if self.keep(turn, packet, At::Verdict { fingerprint }) {
                    turn.broker.ask_login(turn.conn, check);
                    return Ok(());
                }
                turn.broker.logins.answered(turn.now, ip, Verdict::Busy);
                self.turn_away(turn, connect, busy(connect.version))
            }
        }
    }

    /// Keeps a CONNECT; false when there is no room for it.
    pub(super) fn keep(&mut self, turn: &mut Turn<'_>, (first, body): (u8, &[u8]), at: At) -> bool {
        if !turn.broker.logins.hold(body.len(), matches!(at, At::Guard { .. })) {
            return false;
        }
        self.phase = Phase::Authenticating(Box::new(Pending { packet: (first, body.into()), at }));
        true
    }

    /// The kept CONNECT, if it waits for what `wanted` says.
    pub(super) fn take_pending(&mut self, turn: &mut Turn<'_>, wanted: impl Fn(&At) -> bool) -> Option<Box<Pending>> {
        match mem::replace(&mut self.phase, Phase::AwaitConnect) {
            Phase::Authenticating(pending) if wanted(&pending.at) => {
                pending.release(turn);
                Some(pending)
            }
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Runs `act` with a kept CONNECT.
    pub(super) fn with_packet(
        &mut self,
        turn: &mut Turn<'_>,
        packet: &(u8, Box<[u8]>),
        act: impl FnOnce(&mut Server, &mut Turn<'_>, &Connect<'_>) -> Handled,
    ) -> Handled {
        match connect::decode_with(packet.0, &packet.1, turn.strict()) {
            Ok(connect) => act(self, turn, &connect),
            // Only when `strict_conformance` was switched on meanwhile.
            Err(failed) => Err(failed.error.into()),
        }
    }

    /// Takes the answer to a password that was compared elsewhere. One that nobody waits for any more is nothing.
    pub fn on_login(&mut self, turn: &mut Turn<'_>, verdict: Verdict) -> Flow {
        let Some(pending) = self.take_pending(turn, |at| matches!(at, At::Verdict { .. })) else {
            return Flow::Continue;
        };
        let Pending { packet, at: At::Verdict { fingerprint } } = *pending else { return Flow::Continue };
        let handled = self.with_packet(turn, &packet, |server, turn, connect| match verdict {
            Verdict::Right => server.decide(turn, (packet.0, &packet.1), connect, &Known::Checked(fingerprint)),
            Verdict::Busy => server.turn_away(turn, connect, busy(connect.version)),
            Verdict::Wrong => {
                let failure = turn.broker.login_failure(RulesId(turn.listener.rules), connect.username);
                let refused = server.failed(turn, connect, connect.username, failure);
                server.turn_away(turn, connect, refused)
            }
        });
        self.flow_after(handled)
    }

    fn flow_after(&self, handled: Handled) -> Flow {
        match handled {
            Err(reason) => Flow::Close(reason),
            Ok(()) if self.awaits_verdict() => Flow::Waiting,
            Ok(()) => Flow::Again,
        }
    }

    /// True while nothing should be read.
    pub(super) fn awaits_verdict(&self) -> bool {
        match &self.phase {
            Phase::Authenticating(pending) => !matches!(pending.at, At::Exchange(_)),
            _ => false,
        }
    }

    /// When the guard lets a login be looked at.
    pub(super) fn login_deadline(&self) -> Option<u64> {
        match &self.phase {
            Phase::Authenticating(pending) => match pending.at {
                At::Guard { until_ms } => Some(until_ms),
                At::Verdict { .. } | At::Exchange(_) => None,
            },
            _ => None,
        }
    }

    /// Looks at a login that the guard let wait; `None` when there is none that is due.
    pub(super) fn login_due(&mut self, turn: &mut Turn<'_>) -> Option<Flow> {
        let now_ms = turn.now.mono_ms;
        if self.login_deadline()? > now_ms || self.keepalive_deadline().is_some_and(|deadline| deadline <= now_ms) {
            return None;
        }
        // Others of the same address may have been faster.
        let again_ms = turn.broker.login_wait_ms(turn.now, self.peer.ip());
        if again_ms > 0
            && let Phase::Authenticating(pending) = &mut self.phase
        {
            pending.at = At::Guard { until_ms: now_ms.saturating_add(again_ms) };
            return Some(Flow::Waiting);
        }
        let pending = self.take_pending(turn, |at| matches!(at, At::Guard { .. }))?;
        let packet = &pending.packet;
        let handled = self.with_packet(turn, packet, |server, turn, connect| {
            server.decide(turn, (packet.0, &packet.1), connect, &Known::Nothing)
        });
        Some(self.flow_after(handled))
    }

    /// The keepalive is over, or the time for CONNECT; a client that only waited is told that it was too much.
    pub(super) fn time_is_up(&mut self, turn: &mut Turn<'_>) -> Flow {
        let Some(pending) = self.take_pending(turn, |at| !matches!(at, At::Exchange(_))) else {
            return Flow::Close(CloseReason::Timeout);
        };
        let refuse = |server: &mut Server, turn: &mut Turn<'_>, connect: &Connect<'_>| {
            server.turn_away(turn, connect, busy(connect.version))
        };
        match self.with_packet(turn, &pending.packet, refuse) {
            Err(reason) => Flow::Close(reason),
            Ok(()) => Flow::Close(CloseReason::Timeout),
        }
    }

    /// Who the client is by other means than a password.
    pub(super) fn identity_of(&self, turn: &Turn<'_>, known: &Known) -> Result<Option<Identity>, Refused> {
        if let Known::Exchanged { identity: Some(identity), .. } = known {
            return Ok(Some(identity.clone()));
        }
        let tls = &turn.listener.tls;
        let identity = self.extra.as_ref().and_then(|extra| extra.identity.clone());
        if identity.is_none() && (tls.use_identity_as_username || tls.use_subject_as_username) {
            return Err((Some(ReasonCode::BAD_USER_NAME_OR_PASSWORD), Refusal::NoIdentity));
        }
        Ok(identity)
    }

    /// Decides by user name and password, or says what comes first.
    pub(super) fn log_in(
        &mut self,
        turn: &mut Turn<'_>,
        connect: &Connect<'_>,
        username: Option<&str>,
        known: &Known,
    ) -> Result<Gate, Refused> {
        let request = LoginRequest {
            rules: RulesId(turn.listener.rules),
            username,
            password: connect.password,
            anonymous_allowed: turn.config.anonymous_allowed(turn.listener),
            ip: self.peer.ip(),
            checked: if let Known::Checked(fingerprint) = known { Some(*fingerprint) } else { None },
        };
        // A hash that is compared here costs about as much as a few packets.
        turn.charge(4);
        match turn.broker.login(turn.now, &request) {
            Login::Welcome(fingerprint) => Ok(Gate::Open(Proof::Hash(fingerprint))),
            Login::Refused(failure) => Err(self.failed(turn, connect, username, failure)),
            Login::Check(check, fingerprint) => Ok(Gate::Check(check, fingerprint)),
            Login::Wait(ms) => self.wait(turn, ms),
        }
    }

    /// Has a client wait for the guard, if it would be looked at before its time is up.
    pub(super) fn wait(&self, turn: &Turn<'_>, ms: u64) -> Result<Gate, Refused> {
        let until_ms = turn.now.mono_ms.saturating_add(ms);
        let too_late = self.keepalive_deadline().is_some_and(|deadline| deadline <= until_ms);
        if too_late { Err(busy(self.version)) } else { Ok(Gate::Guard(until_ms)) }
    }

    fn failed(&self, turn: &Turn<'_>, connect: &Connect<'_>, username: Option<&str>, failure: Failure) -> Refused {
        self.log_failure(connect, username, failure);
        let code = conformance::not_authorised(turn.strict(), connect.version, username.is_some());
        (Some(code), Refusal::NotAuthorised)
    }

    /// Logs a login that failed, in one line that tools against guessing can read also when `connection_messages` is off.
    /// What the peer chose stands before its address, so that it cannot pass for another.
    pub(super) fn log_failure(&self, connect: &Connect<'_>, username: Option<&str>, failure: Failure) {
        if failure.is_guess() {
            let (id, username, peer) = (connect.client_id, username.unwrap_or_default(), self.peer);
            crate::notice!(
                "Login refused: client '{id}', user '{username}', from {} port {}: {}.",
                peer.host(),
                peer.port(),
                failure.words()
            );
        }
    }
}

/// The answer when there is too much to do.
fn busy(version: ProtocolVersion) -> Refused {
    let v5 = version == ProtocolVersion::V5;
    let code = if v5 { ReasonCode::SERVER_BUSY } else { ReasonCode::SERVER_UNAVAILABLE };
    (Some(code), Refusal::ServerBusy)
}

#[cfg(test)]
mod tests;
