//! SUBSCRIBE and UNSUBSCRIBE: filters are applied one by one, so those before a bad one take effect. A packet may hold half
//! a million of them: what the turn has no time for waits for the next one, and everything behind the packet waits for it.

use std::borrow::Cow;
use std::mem;

use super::{Handled, Server};
use crate::broker::subs::SubOptions;
use crate::broker::{SessionId, SubscribeRequest};
use crate::proto::{CloseReason, Turn, conformance, mount};
use crate::wire::error::DecodeError;
use crate::wire::packet::{self, Packet, PacketType};
use crate::wire::subscribe::{Subscribe, Unsubscribe, encode_suback, encode_unsuback};
use crate::wire::{ProtocolVersion, ReasonCode, Role};
use crate::{log_subscribe, log_unsubscribe};

/// Work charged for one filter.
const FILTER_WORK: u32 = 4;

/// A packet of which some filters are done.
pub(super) struct Unfinished {
    first: u8,
    body: Box<[u8]>,
    done: Progress,
}

/// How much of a packet is done.
#[derive(Default)]
pub(super) struct Progress {
    /// Bytes of filters that are left; `None` before the first.
    left: Option<usize>,
    codes: Vec<ReasonCode>,
}

/// What is left to do, if anything.
type Done = Result<Option<Progress>, CloseReason>;

impl Server {
    /// True while filters of a packet wait for their turn.
    pub(super) fn is_unfinished(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.unfinished.is_some())
    }

    /// Bytes that are kept for it.
    pub(super) fn unfinished_len(&self) -> usize {
        let unfinished = self.extra.as_ref().and_then(|extra| extra.unfinished.as_ref());
        unfinished.map_or(0, |unfinished| unfinished.body.len())
    }

    /// Keeps what the turn had no time for.
    pub(super) fn keep_unfinished(&mut self, first: u8, body: &[u8], left: Option<Progress>) {
        if let Some(done) = left {
            self.extra().unfinished = Some(Box::new(Unfinished { first, body: body.into(), done }));
        }
    }

    /// Goes on with a packet that an earlier turn had no time for.
    pub(super) fn go_on(&mut self, turn: &mut Turn<'_>) -> Handled {
        let unfinished = self.extra.as_mut().and_then(|extra| extra.unfinished.take());
        let (Some(mut unfinished), Some(session)) = (unfinished, self.session()) else { return Ok(()) };
        // It waits for us, not we for it.
        self.last_in_ms = turn.now.mono_ms;
        let done = mem::take(&mut unfinished.done);
        let left = match packet::decode(self.version, Role::FromClient, unfinished.first, &unfinished.body)? {
            Packet::Subscribe(packet) => self.on_subscribe(turn, session, &packet, done)?,
            Packet::Unsubscribe(packet) => self.on_unsubscribe(turn, session, &packet, done)?,
            _ => None,
        };
        if let Some(done) = left {
            unfinished.done = done;
            self.extra().unfinished = Some(unfinished);
        }
        Ok(())
    }

    pub(super) fn on_subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        session: SessionId,
        packet: &Subscribe<'_>,
        done: Progress,
    ) -> Done {
        let Progress { left, mut codes } = done;
        let refused = conformance::filter_refusal(turn.strict(), self.version);
        let mut filters = if turn.strict() { packet.filters_strict() } else { packet.filters() };
        match left {
            Some(left) => filters.go_on_at(left),
            None => {
                log::debug!("Received SUBSCRIBE from {}", turn.broker.client_id(session));
                if turn.strict() {
                    check_whole(packet.filters_strict(), refused)?;
                }
            }
        }
        loop {
            if turn.budget == 0 && filters.left() > 0 {
                return Ok(Some(Progress { left: Some(filters.left()), codes }));
            }
            let Some(item) = filters.next() else { break };
            turn.charge(FILTER_WORK);
            let found = item.and_then(|(filter, wanted)| Ok((target(turn, filter, PacketType::Subscribe)?, wanted)));
            let ((share, filter), wanted) = match (found, refused) {
                (Err(DecodeError::Filter(..)), Some(code)) => {
                    codes.push(code);
                    continue;
                }
                (found, _) => found?,
            };
            let filter = filter.as_ref();
            if share.is_some() && wanted.no_local {
                return Err(DecodeError::ShareNoLocal.into());
            }
            let options = SubOptions {
                qos: wanted.qos.min(turn.listener.max_qos),
                no_local: wanted.no_local,
                retain_as_published: wanted.retain_as_published,
                retain_handling: wanted.retain_handling as u8,
            };
            let request = SubscribeRequest { filter, share, options, id: packet.subscription_id.unwrap_or(0) };
            codes.push(match turn.broker.subscribe(session, request) {
                Ok(qos) => {
                    log::debug!("\t{filter} (QoS {})", qos as u8);
                    log_subscribe!("{} {} {filter}", turn.broker.client_id(session), qos as u8);
                    ReasonCode(qos as u8)
                }
                Err(_) => {
                    log::debug!("\t{filter} (denied)");
                    match self.version {
                        ProtocolVersion::V5 => ReasonCode::QUOTA_EXCEEDED,
                        // What is granted has to last.
                        ProtocolVersion::V31 if turn.broker.is_storage_full() => return Err(CloseReason::StorageFull),
                        // MQTT 3.1 knows no failure here; C Mosquitto grants in name only.
                        ProtocolVersion::V31 => ReasonCode(options.qos as u8),
                        ProtocolVersion::V311 => ReasonCode::UNSPECIFIED,
                    }
                }
            });
        }
        log::debug!("Sending SUBACK to {}", turn.broker.client_id(session));
        let id = packet.id;
        let encode = |out: &mut Vec<u8>, version| encode_suback(out, version, id, &codes);
        match codes.iter().all(|code| code.is_error()) {
            true => self.reply(turn, encode),
            false => self.acknowledge(turn, encode),
        }
        Ok(None)
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        turn: &mut Turn<'_>,
        session: SessionId,
        packet: &Unsubscribe<'_>,
        done: Progress,
    ) -> Done {
        let Progress { left, mut codes } = done;
        let refused = conformance::filter_refusal(turn.strict(), self.version);
        let mut filters = if turn.strict() { packet.filters_strict() } else { packet.filters() };
        match left {
            Some(left) => filters.go_on_at(left),
            None => {
                log::debug!("Received UNSUBSCRIBE from {}", turn.broker.client_id(session));
                if turn.strict() {
                    check_whole(packet.filters_strict(), refused)?;
                }
            }
        }
        loop {
            if turn.budget == 0 && filters.left() > 0 {
                return Ok(Some(Progress { left: Some(filters.left()), codes }));
            }
            let Some(item) = filters.next() else { break };
            turn.charge(FILTER_WORK);
            // C Mosquitto forgets the mount point here, so its clients can never unsubscribe.
            let found = item.and_then(|filter| target(turn, filter, PacketType::Unsubscribe));
            let (share, filter) = match (found, refused) {
                (Err(DecodeError::Filter(..)), Some(code)) => {
                    codes.push(code);
                    continue;
                }
                (found, _) => found?,
            };
            let filter = filter.as_ref();
            let existed = turn.broker.unsubscribe(session, filter, share);
            log::debug!("\t{filter}");
            log_unsubscribe!("{} {filter}", turn.broker.client_id(session));
            codes.push(if existed { ReasonCode::SUCCESS } else { ReasonCode::NO_SUBSCRIPTION_EXISTED });
        }
        log::debug!("Sending UNSUBACK to {}", turn.broker.client_id(session));
        let id = packet.id;
        self.acknowledge(turn, |out, version| encode_unsuback(out, version, id, &codes));
        Ok(None)
    }
}

/// Finds what is malformed before any filter takes effect; a filter that gets a code is none of it.
fn check_whole<T>(
    filters: impl Iterator<Item = Result<T, DecodeError>>,
    refused: Option<ReasonCode>,
) -> Result<(), DecodeError> {
    for item in filters {
        match item {
            Err(DecodeError::Filter(..)) if refused.is_some() => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// As [`mount::target`], with the fault of the packet.
fn target<'a>(
    turn: &Turn<'_>,
    filter: &'a str,
    packet: PacketType,
) -> Result<(Option<&'a str>, Cow<'a, str>), DecodeError> {
    mount::target(turn.listener, turn.strict(), filter).map_err(|error| DecodeError::Filter(packet, error))
}
