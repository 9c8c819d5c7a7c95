//! Enhanced authentication: AUTH packets between CONNECT and CONNACK, and on a connection that lives [MQTT 4.12].

use super::connect::Refused;
use super::login::{At, Gate, Known};
use super::{Handled, Phase, Server};
use crate::broker::SessionId;
use crate::broker::auth::exchange::{Exchange, Step};
use crate::broker::auth::{Failure, Identity};
use crate::proto::close::Refusal;
use crate::proto::{CloseReason, Turn, conformance};
use crate::wire::connect::Connect;
use crate::wire::control::Auth;
use crate::wire::packet::{self, Packet};
use crate::wire::{ReasonCode, Role};

/// A client that proves anew who it is [MQTT 4.12.1]. Meanwhile its other packets count as before.
pub(super) struct Reauthentication {
    pub(super) session: SessionId,
    exchange: Box<dyn Exchange>,
}

impl Server {
    /// True when CONNECT named an authentication method.
    pub(super) fn has_method(&self) -> bool {
        self.method().is_some()
    }

    fn method(&self) -> Option<&str> {
        self.extra.as_ref()?.method.as_deref()
    }

    /// Begins the exchange that CONNECT asks for, unless the guard against guessing wants it to wait.
    pub(super) fn begin_exchange(&self, turn: &Turn<'_>, method: &str) -> Result<Gate, Refused> {
        let wait_ms = turn.broker.login_wait_ms(turn.now, self.peer.ip());
        if wait_ms > 0 {
            return self.wait(turn, wait_ms);
        }
        let exchange = turn.broker.logins.begin.and_then(|begin| begin(method));
        exchange.map(Gate::Exchange).ok_or((Some(ReasonCode::BAD_AUTHENTICATION_METHOD), Refusal::DisallowedFeature))
    }

    /// One step of an exchange before CONNACK.
    pub(super) fn step(
        &mut self,
        turn: &mut Turn<'_>,
        packet: (u8, &[u8]),
        connect: &Connect<'_>,
        mut exchange: Box<dyn Exchange>,
        data: Option<&[u8]>,
    ) -> Handled {
        match exchange.step(data) {
            Step::Continue(data) => {
                if !self.keep(turn, packet, At::Exchange(exchange)) {
                    return self.turn_away(turn, connect, (Some(ReasonCode::SERVER_BUSY), Refusal::ServerBusy));
                }
                self.send_auth(turn, ReasonCode::CONTINUE_AUTHENTICATION, connect.auth_method, data.as_deref());
                Ok(())
            }
            Step::Done { identity, data } => self.decide(turn, packet, connect, &Known::Exchanged { identity, data }),
            Step::Refused => {
                turn.broker.exchange_failed(turn.now, self.peer.ip());
                self.log_failure(connect, connect.username, Failure::Exchange);
                let code = conformance::not_authorised(turn.strict(), connect.version, true);
                self.turn_away(turn, connect, (Some(code), Refusal::NotAuthorised))
            }
        }
    }

    /// A packet between CONNECT and CONNACK: AUTH, or DISCONNECT [MQTT-3.1.2-30]. For anything else C Mosquitto sends
    /// DISCONNECT, which must not come before CONNACK [MQTT-3.14.0-1].
    pub(super) fn on_exchange(&mut self, turn: &mut Turn<'_>, first: u8, body: &[u8]) -> Handled {
        let Some(pending) = self.take_pending(turn, |at| matches!(at, At::Exchange(_))) else { return Ok(()) };
        let (kept, At::Exchange(exchange)) = (pending.packet, pending.at) else { return Ok(()) };
        self.with_packet(turn, &kept, |server, turn, connect| {
            match packet::decode(server.version, Role::FromClient, first, body) {
                Ok(Packet::Auth(auth))
                    if auth.reason == ReasonCode::CONTINUE_AUTHENTICATION && auth.method == connect.auth_method =>
                {
                    server.step(turn, (kept.0, &kept.1), connect, exchange, auth.data)
                }
                Ok(Packet::Disconnect(_)) => Err(CloseReason::Disconnect { with_will: false, expiry_s: None }),
                _ => server.turn_away(turn, connect, (Some(ReasonCode::PROTOCOL_ERROR), Refusal::Exchange)),
            }
        })
    }

    /// AUTH from a client that is connected and named a method.
    pub(super) fn on_auth(&mut self, turn: &mut Turn<'_>, session: SessionId, auth: Auth<'_>) -> Handled {
        if auth.method.is_none() || auth.method != self.method() {
            return Err(CloseReason::ProtocolError);
        }
        let method = auth.method.unwrap_or_default();
        let under_way = std::mem::replace(&mut self.phase, Phase::Live(session));
        let exchange = match (under_way, auth.reason) {
            (Phase::Live(_), ReasonCode::REAUTHENTICATE) => turn.broker.logins.begin.and_then(|begin| begin(method)),
            (Phase::Reauthenticating(so_far), ReasonCode::CONTINUE_AUTHENTICATION) => Some(so_far.exchange),
            _ => return Err(CloseReason::ProtocolError),
        };
        let Some(mut exchange) = exchange else { return Err(CloseReason::NoLongerAllowed) };
        match exchange.step(auth.data) {
            Step::Continue(data) => {
                self.phase = Phase::Reauthenticating(Box::new(Reauthentication { session, exchange }));
                self.send_auth(turn, ReasonCode::CONTINUE_AUTHENTICATION, Some(method), data.as_deref());
                Ok(())
            }
            Step::Done { identity, data } if is_the_same(turn, session, identity.as_ref()) => {
                self.send_auth(turn, ReasonCode::SUCCESS, Some(method), data.as_deref());
                Ok(())
            }
            Step::Done { .. } | Step::Refused => {
                turn.broker.exchange_failed(turn.now, self.peer.ip());
                Err(CloseReason::NoLongerAllowed)
            }
        }
    }

    fn send_auth(&mut self, turn: &mut Turn<'_>, reason: ReasonCode, method: Option<&str>, data: Option<&[u8]>) {
        log::debug!("Sending AUTH to {} (rc{})", self.peer, reason.0);
        self.reply(turn, |out, _| Auth { reason, method, data }.encode(out));
    }
}

/// A client may not become another user: its session and what is queued there belong to the first.
fn is_the_same(turn: &Turn<'_>, session: SessionId, identity: Option<&Identity>) -> bool {
    let client = turn.broker.client(turn.now, session);
    let username = client.as_ref().and_then(|client| client.username);
    identity.is_none_or(|identity| Some(&*identity.username) == username)
}

#[cfg(test)]
mod tests;
