//! ADVERTISE, SEARCHGW and GWINFO [SN 6.1].

use super::super::wire::Message;
use super::{Gateway, Turn, Visit, count_sent};
use crate::config::SearchReply;
use crate::notice;

/// How often the log tells of another gateway with the same id.
const NOTE_EVERY_MS: u64 = 3_600_000;

/// When which socket says that its gateway is there.
#[derive(Default)]
pub(super) struct Adverts {
    list: Vec<Advert>,
    /// When the log last told of a gateway with an id of ours.
    noted_ms: Option<u64>,
}

struct Advert {
    socket: u16,
    door: u16,
    due_ms: u64,
}

impl Adverts {
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.list.iter().map(|advert| advert.due_ms).min()
    }
}

impl Gateway {
    /// Says which sockets there are, as (socket, listener): those with an interval advertise, new ones at once.
    pub fn set_sockets(&mut self, turn: &mut Turn<'_>, sockets: &[(u16, u16)]) {
        turn.broker.stats.sn.sockets = sockets.len() as u64;
        let now = turn.now;
        let before = std::mem::take(&mut self.adverts.list);
        for &(socket, door) in sockets {
            let interval = self.door(door).map_or(0, |door| interval_ms(door.sn().advertise_interval));
            if interval == 0 {
                continue;
            }
            let known = before.iter().find(|advert| (advert.socket, advert.door) == (socket, door));
            // A shorter interval counts from now.
            let latest = now.mono_ms.saturating_add(interval);
            let due_ms = known.map_or(now.mono_ms, |advert| advert.due_ms.min(latest));
            self.adverts.list.push(Advert { socket, door, due_ms });
        }
    }

    /// Sends the ADVERTISEs that are due.
    pub(super) fn advertise_due(&mut self, turn: &mut Turn<'_>) {
        let mut list = std::mem::take(&mut self.adverts.list);
        for advert in list.iter_mut().filter(|advert| advert.due_ms <= turn.now.mono_ms) {
            let Some(door) = self.door(advert.door) else { continue };
            let duration_s = door.sn().advertise_interval;
            advert.due_ms = turn.now.mono_ms.saturating_add(interval_ms(duration_s).max(1000));
            // Only while somebody could come in.
            let full =
                door.listener.max_connections.is_some_and(|max| self.table.count_of(advert.door) >= max as usize);
            if full || turn.broker.over_memory() {
                continue;
            }
            let message = Message::Advertise { gateway_id: door.sn().gateway_id, duration_s };
            let len = self.out.put_groups(advert.socket, &message);
            count_sent(turn.broker, len);
        }
        self.adverts.list = list;
    }

    /// Somebody looks for a gateway. The answer is as long as the question, and not given too often.
    pub(super) fn on_search(&mut self, turn: &mut Turn<'_>, visit: &Visit<'_>) {
        let sn = visit.door.sn();
        let reply = sn.search_reply;
        if reply == SearchReply::None || !self.limits.answer(turn.now, &visit.from) {
            return;
        }
        let message = Message::GwInfo { gateway_id: sn.gateway_id, address: &[] };
        if matches!(reply, SearchReply::Unicast | SearchReply::Both) {
            self.answer(turn, &visit.from, &message);
        }
        let groups = !sn.multicast_groups.is_empty() && visit.from.node.is_empty();
        if matches!(reply, SearchReply::Multicast | SearchReply::Both) && groups {
            let len = self.out.put_groups(visit.from.socket, &message);
            count_sent(turn.broker, len);
        }
    }

    /// Another gateway is there, which is none of our business unless it has our id.
    pub(super) fn on_other_gateway(&mut self, turn: &mut Turn<'_>, visit: &Visit<'_>, gateway_id: u8) {
        let noted = self.adverts.noted_ms;
        // What we say ourselves comes back when it may.
        let own = visit.door.sn().multicast_loopback && visit.from.addr.port() == visit.door.listener.port;
        let again = noted.is_none_or(|last| turn.now.mono_ms >= last.saturating_add(NOTE_EVERY_MS));
        if gateway_id == visit.door.sn().gateway_id && again && !own {
            self.adverts.noted_ms = Some(turn.now.mono_ms);
            notice!(
                "Another MQTT-SN gateway with id {gateway_id} is at {}: give one of them another 'mqttsn_gateway_id'.",
                visit.from
            );
        }
    }
}

fn interval_ms(interval_s: u16) -> u64 {
    u64::from(interval_s).saturating_mul(1000)
}
