//! Doing recorded changes again, on the restored state of the snapshot they follow. Nothing is decided anew: who got which
//! message stands in the changes. One that refers to what is not there does nothing.

use std::collections::HashMap;

use super::changes::record::{Body, Change, Queued};
use super::inflight::{Delivery, Flags, Out};
use super::message::{Msg, NewMessage, Source};
use super::stored::{StoredSession, is_own_topic};
use super::{Broker, SessionId};
use crate::timer::Now;
use crate::wire::topic;

/// The messages that changes refer to, by their numbers, while a journal is read.
#[derive(Default)]
pub struct Bodies {
    messages: HashMap<u64, Msg>,
    highest: u64,
}

impl Bodies {
    /// The highest number there was.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.highest
    }
}

impl Broker {
    /// Does a recorded change again. False when it refers to something that is not there, or the table of sessions is full.
    pub fn replay(&mut self, now: Now, bodies: &mut Bodies, change: &Change<'_>) -> bool {
        match *change {
            Change::Message(body) => bodies.add(now, &body),
            Change::Session(stored) => self.replay_session(now, &stored),
            Change::SessionEnded { client_id } => self.forget_session(client_id),
            Change::Subscribed { client_id, sub } => {
                self.sessions.find(client_id).is_some_and(|id| self.restore_subscription(id, &sub))
            }
            Change::Unsubscribed { client_id, filter } => self.replay_unsubscribe(client_id, filter),
            Change::Retained { number } => {
                let msg = bodies.messages.get(&number).filter(|msg| !is_own_topic(msg.topic()));
                msg.is_some_and(|msg| self.restore_retained(msg.clone()))
            }
            Change::Cleared { topic } => self.retained.remove(topic).is_some(),
            Change::Queued { client_id, entry } => {
                let (id, msg) = (self.sessions.find(client_id), bodies.messages.get(&entry.number));
                id.zip(msg).is_some_and(|(id, msg)| self.replay_queued(id, msg.clone(), &entry))
            }
            Change::Sent { client_id, number, id } => self.with_flow(client_id, |flow, last_id| {
                let moved = flow.replay_sent(number, id);
                if moved {
                    *last_id = id.get();
                }
                moved
            }),
            Change::Received { client_id, id } => {
                self.with_flow(client_id, |flow, _| flow.pubrec(id, false) == super::Acked::Done)
            }
            Change::Finished { client_id, number } => self.with_flow(client_id, |flow, _| flow.replay_finished(number)),
            Change::Completed { client_id, id } => self.with_flow(client_id, |flow, _| {
                flow.abandon(id);
                true
            }),
            Change::Stored { client_id, id, number } => {
                let msg = bodies.messages.get(&number).cloned();
                msg.is_some_and(|msg| {
                    self.with_flow(client_id, |flow, _| {
                        flow.store_inbound(id, msg, false);
                        true
                    })
                })
            }
            Change::Released { client_id, id } => self.with_flow(client_id, |flow, _| flow.release(id).is_some()),
            Change::Snapshot { .. } => true,
        }
    }

    fn replay_session(&mut self, now: Now, stored: &StoredSession<'_>) -> bool {
        let Some(id) = self.restore_session(now, stored) else { return false };
        let Some(session) = self.sessions.get_mut(id) else { return false };
        // Here the later name counts.
        if stored.username.is_some() || session.details.is_some() {
            session.details_mut().username = stored.username.map(Into::into);
        }
        true
    }

    /// Removes a session without passing anything on: what became of its shared messages is recorded.
    fn forget_session(&mut self, client_id: &str) -> bool {
        let Some(id) = self.sessions.find(client_id) else { return false };
        if let Some(session) = self.sessions.get_mut(id) {
            let mut list = std::mem::take(&mut session.subs);
            self.subs.remove_some(id, &mut list, u32::MAX);
        }
        self.sessions.remove(id).is_some()
    }

    fn replay_unsubscribe(&mut self, client_id: &str, filter: &str) -> bool {
        let Ok(split) = topic::split_share(filter) else { return false };
        let (share, filter) = split.map_or((None, filter), |(share, filter)| (Some(share), filter));
        let Some(id) = self.sessions.find(client_id) else { return false };
        let Some(session) = self.sessions.get_mut(id) else { return false };
        self.subs.unsubscribe(id, &mut session.subs, filter, share)
    }

    fn replay_queued(&mut self, id: SessionId, msg: Msg, entry: &Queued) -> bool {
        let Some(session) = self.sessions.get_mut(id) else { return false };
        let flags = Flags::new(entry.qos, entry.retain, entry.shared);
        let delivery = Delivery { msg: Some(msg), sub_id: entry.sub_id, id: 0, out: Out::Queued, flags };
        session.flow_mut().push(delivery, false);
        true
    }

    fn with_flow(&mut self, client_id: &str, act: impl FnOnce(&mut super::inflight::Flow, &mut u16) -> bool) -> bool {
        let Some(session) = self.sessions.find(client_id).and_then(|id| self.sessions.get_mut(id)) else {
            return false;
        };
        let mut last_id = session.last_id;
        let done = act(session.flow_mut(), &mut last_id);
        session.last_id = last_id;
        done
    }
}

impl Bodies {
    fn add(&mut self, now: Now, body: &Body<'_>) -> bool {
        let new = NewMessage {
            topic: body.topic,
            payload: body.payload,
            qos: body.qos,
            retain: body.retain,
            props: body.props,
            expiry_s: match body.expires_wall_s {
                0 => None,
                at => Some(u32::try_from(at.saturating_sub(now.wall_s)).unwrap_or(u32::MAX)),
            },
        };
        let source = body.source.map(|(client_id, username, port)| Source {
            client_id,
            username: Some(username).filter(|name| !name.is_empty()),
            port,
        });
        let valid = body.number != 0 && topic::check_name(body.topic).is_ok();
        let Some(msg) = Msg::numbered(now, &new, true, source, body.number).filter(|_| valid) else { return false };
        self.highest = self.highest.max(body.number);
        self.messages.insert(body.number, msg);
        true
    }
}
