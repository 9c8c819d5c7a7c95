//! SUBSCRIBE and UNSUBSCRIBE: filters are applied one by one, so those before a bad one take effect.

use super::{Handled, Server};
use crate::broker::subs::SubOptions;
use crate::broker::{SessionId, SubscribeRequest};
use crate::proto::Turn;
use crate::wire::error::DecodeError;
use crate::wire::packet::PacketType;
use crate::wire::subscribe::{Subscribe, Unsubscribe, encode_suback, encode_unsuback};
use crate::wire::topic::split_share;
use crate::wire::{ProtocolVersion, ReasonCode};
use crate::{log_subscribe, log_unsubscribe};

/// Work charged for one filter.
const FILTER_WORK: u32 = 4;

impl Server {
    pub(super) fn on_subscribe(&mut self, turn: &mut Turn<'_>, session: SessionId, packet: &Subscribe<'_>) -> Handled {
        log::debug!("Received SUBSCRIBE from {}", turn.broker.client_id(session));
        let mut codes = Vec::new();
        for item in packet.filters() {
            let (filter, wanted) = item?;
            let mounted = mounted(turn, filter);
            let (share, filter) = split(mounted.as_deref(), filter, PacketType::Subscribe)?;
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
            turn.charge(FILTER_WORK);
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
                        // MQTT 3.1 knows no failure here; C Mosquitto grants in name only.
                        ProtocolVersion::V31 => ReasonCode(options.qos as u8),
                        ProtocolVersion::V311 => ReasonCode::UNSPECIFIED,
                    }
                }
            });
        }
        log::debug!("Sending SUBACK to {}", turn.broker.client_id(session));
        let id = packet.id;
        self.acknowledge(turn, |out, version| encode_suback(out, version, id, &codes));
        Ok(())
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        turn: &mut Turn<'_>,
        session: SessionId,
        packet: &Unsubscribe<'_>,
    ) -> Handled {
        log::debug!("Received UNSUBSCRIBE from {}", turn.broker.client_id(session));
        let mut codes = Vec::new();
        for item in packet.filters() {
            let filter = item?;
            // C Mosquitto forgets the mount point here, so its clients can never unsubscribe.
            let mounted = mounted(turn, filter);
            let (share, filter) = split(mounted.as_deref(), filter, PacketType::Unsubscribe)?;
            turn.charge(FILTER_WORK);
            let existed = turn.broker.unsubscribe(session, filter, share);
            log::debug!("\t{filter}");
            log_unsubscribe!("{} {filter}", turn.broker.client_id(session));
            codes.push(if existed { ReasonCode::SUCCESS } else { ReasonCode::NO_SUBSCRIPTION_EXISTED });
        }
        log::debug!("Sending UNSUBACK to {}", turn.broker.client_id(session));
        let id = packet.id;
        self.acknowledge(turn, |out, version| encode_unsuback(out, version, id, &codes));
        Ok(())
    }
}

/// The filter behind the listener's mount point; `None` without one.
fn mounted(turn: &Turn<'_>, filter: &str) -> Option<String> {
    turn.listener.mount_point.as_ref().map(|mount| format!("{mount}{filter}"))
}

/// Share name and filter. Behind a mount point `$share` is an ordinary level, as in C Mosquitto.
fn split<'a>(
    mounted: Option<&'a str>,
    filter: &'a str,
    packet: PacketType,
) -> Result<(Option<&'a str>, &'a str), DecodeError> {
    if let Some(mounted) = mounted {
        return Ok((None, mounted));
    }
    match split_share(filter) {
        Ok(Some((share, filter))) => Ok((Some(share), filter)),
        Ok(None) => Ok((None, filter)),
        Err(error) => Err(DecodeError::Filter(packet, error)),
    }
}
