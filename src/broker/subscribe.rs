//! SUBSCRIBE and UNSUBSCRIBE as the core sees them.

use std::borrow::Cow;

use super::Broker;
use super::SessionId;
use super::changes::record::Change;
use super::deliver::mark_dirty;
use super::inflight::Replay;
use super::retain::Cursor;
use super::stored::StoredSubscription;
use super::subs::{Added, SubOptions};
use crate::wire::{ProtocolVersion, QoS};

/// Retained look-ups that may wait for one client at once. A client needs one for each filter that has retained messages,
/// and only until it has read them.
const MAX_REPLAYS: usize = 100_000;

/// A filter that is done within this many look-ups needs no replay.
const FIRST_LOOK: u32 = 4;

/// One filter to subscribe to; checked, mount point included.
#[derive(Clone, Copy, Debug)]
pub struct SubscribeRequest<'a> {
    /// The topic filter, without `$share`.
    pub filter: &'a str,
    /// The share name.
    pub share: Option<&'a str>,
    /// QoS and v5 options.
    pub options: SubOptions,
    /// The v5 subscription identifier; 0 for none.
    pub id: u32,
}

/// A session may not have more of this (reason code 0x97).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeRefused;

impl Broker {
    /// Adds or replaces a subscription; retained messages follow with the next [`Broker::pull`]s. Returns the granted QoS.
    pub fn subscribe(&mut self, id: SessionId, request: SubscribeRequest<'_>) -> Result<QoS, SubscribeRefused> {
        if self.over_memory() {
            return Err(SubscribeRefused);
        }
        let Some(session) = self.sessions.get_mut(id) else { return Err(SubscribeRefused) };
        if session.flow.as_ref().is_some_and(|flow| flow.replays.len() >= MAX_REPLAYS) {
            return Err(SubscribeRefused);
        }
        if session.lasts() {
            if self.changes.is_refusing() {
                return Err(SubscribeRefused);
            }
            self.storage.before_subs(id, session, &session.subs, &self.subs);
            self.storage.count();
        }
        let mut options = request.options;
        if session.bridge && session.version < ProtocolVersion::V5 {
            // As C Mosquitto: a v3 client that says it is a bridge must not get its own messages back.
            options.no_local = request.share.is_none();
            options.retain_as_published = true;
        }
        let online = session.online();
        let added = self
            .subs
            .subscribe(id, &mut session.subs, request.filter, request.share, options, request.id, online)
            .map_err(|_| SubscribeRefused)?;
        let wanted = match options.retain_handling {
            0 => true,
            1 => added == Added::New,
            _ => false,
        };
        if wanted && request.share.is_none() && self.settings.retain_available {
            // One look tells all about a filter without wildcards; for others there are as many as the turn has left.
            let exact = !request.filter.contains(['+', '#']);
            let share = if exact { 1 } else { self.looks_left.min(FIRST_LOOK) };
            let (mut left, mut cursor) = (share, Cursor::default());
            let found = self.retained.scan(request.filter, &mut cursor, &mut left);
            self.looks_left = self.looks_left.saturating_sub(share - left);
            if !matches!(found, super::retain::Step::Done) {
                session.flow_mut().replays.push_back(Replay {
                    filter: request.filter.into(),
                    cursor: Cursor::default(),
                    qos: options.qos,
                    sub_id: request.id,
                });
                mark_dirty(&mut self.dirty, session);
            }
        }
        if session.lasts() && self.changes.has_journal() {
            let filter = full_filter(request.share, request.filter);
            let sub = StoredSubscription { filter: &filter, options, id: request.id };
            self.changes.record(|| Change::Subscribed { client_id: session.client_id(), sub });
        }
        Ok(options.qos)
    }

    /// Removes a subscription; false when there was none.
    pub fn unsubscribe(&mut self, id: SessionId, filter: &str, share: Option<&str>) -> bool {
        let Some(session) = self.sessions.get_mut(id) else { return false };
        if session.lasts() {
            self.storage.before_subs(id, session, &session.subs, &self.subs);
            self.storage.count();
        }
        let existed = self.subs.unsubscribe(id, &mut session.subs, filter, share);
        if existed && session.lasts() && self.changes.has_journal() {
            let filter = full_filter(share, filter);
            self.changes.record(|| Change::Unsubscribed { client_id: session.client_id(), filter: &filter });
        }
        existed
    }

    /// Subscriptions that are not shared, and those that are.
    #[must_use]
    pub fn subscription_counts(&self) -> (usize, usize) {
        let shared = self.subs.shared_count();
        (self.subs.count().saturating_sub(shared), shared)
    }
}

fn full_filter<'a>(share: Option<&str>, filter: &'a str) -> Cow<'a, str> {
    match share {
        Some(share) => Cow::Owned(format!("$share/{share}/{filter}")),
        None => Cow::Borrowed(filter),
    }
}
