//! WILLTOPICUPD and WILLMSGUPD [SN 6.4].

use super::super::wire::{Message, ReturnCode, WillTopic};
use super::connect::{check_will_topic, own_will};
use super::{Gateway, Turn, Visit};
use crate::broker::will::Will;
use crate::broker::{SessionId, SnId};

impl Gateway {
    /// Another topic, QoS and retain flag; the empty form deletes the will.
    pub(super) fn on_will_topic_update(
        &mut self,
        turn: &mut Turn<'_>,
        visit: &Visit<'_>,
        (id, session): (SnId, SessionId),
        topic: Option<WillTopic<'_>>,
    ) {
        let code = match topic {
            None => {
                turn.broker.set_will(session, None);
                ReturnCode::ACCEPTED
            }
            Some(topic) => match check_will_topic(turn, visit, &topic) {
                Err((code, _)) => code,
                Ok((name, qos)) => {
                    let mount = self.door_of(id).and_then(|number| self.door(number));
                    let mount = mount.as_deref().unwrap_or(&visit.door).mount().to_owned();
                    let payload = turn.broker.will_of(session).map(|will| will.payload.clone()).unwrap_or_default();
                    let will = own_will(&mount, name, qos, topic.retain, &payload);
                    store(turn, session, will)
                }
            },
        };
        self.acknowledge(turn, id, &Message::WillTopicResp(code));
    }

    /// Another message. Without a topic so far it is kept for when one comes.
    pub(super) fn on_will_msg_update(&mut self, turn: &mut Turn<'_>, (id, session): (SnId, SessionId), payload: &[u8]) {
        let limit = turn.config.global.message_size_limit as usize;
        let code = if limit != 0 && payload.len() > limit {
            ReturnCode::NOT_SUPPORTED
        } else {
            let will = match turn.broker.will_of(session).cloned() {
                Some(will) => Will { payload: payload.into(), ..will },
                None => own_will("", "", crate::wire::QoS::AtMostOnce, false, payload),
            };
            store(turn, session, will)
        };
        self.acknowledge(turn, id, &Message::WillMsgResp(code));
    }
}

/// Puts a will in place, unless it is larger than the one before and there is no room for that.
fn store(turn: &mut Turn<'_>, session: SessionId, will: Will) -> ReturnCode {
    let had = turn.broker.will_of(session).map_or(0, Will::size);
    if turn.broker.over_memory() && will.size() > had {
        return ReturnCode::CONGESTION;
    }
    turn.broker.set_will(session, Some(will));
    ReturnCode::ACCEPTED
}
