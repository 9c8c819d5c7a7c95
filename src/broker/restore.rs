//! Taking stored state in, piece by piece and in any order, into a broker that serves nobody yet. Nothing of it is
//! recorded as a change. When all is there, [`Broker::restored`] lets time go on.

use super::message::{Msg, NewMessage, Source};
use super::session::{Attachment, NEVER};
use super::stored::{StoredEntry, StoredSession, StoredSubscription, ends_ms, is_own_topic};
use super::{Broker, SessionId};
use crate::timer::Now;
use crate::wire::{ProtocolVersion, topic};

impl Broker {
    /// Adds a session, or completes one that [`Broker::restore_stub`] made. Of two with the same client id the later one
    /// counts, but the user name stays. `None` when the table is full.
    pub fn restore_session(&mut self, now: Now, stored: &StoredSession<'_>) -> Option<SessionId> {
        let id = self.restore_stub(stored.client_id)?;
        let expiry_s = match self.settings.persistent_client_expiration {
            Some(cap) => stored.expiry_s.min(cap),
            None => stored.expiry_s,
        };
        let rules = self.access.at_port(stored.listener_port);
        let session = self.sessions.get_mut(id)?;
        session.expiry_s = expiry_s;
        session.recorded = true;
        session.ends_ms = ends_ms(now, expiry_s, stored.ends_wall_s);
        // When its client left is not stored.
        session.since_s = u32::try_from(now.wall_s).unwrap_or(u32::MAX);
        session.listener_port = stored.listener_port;
        session.rules = rules.unwrap_or(session.rules);
        if stored.last_id != 0 {
            session.last_id = stored.last_id;
        }
        if let Some(username) = stored.username.filter(|_| session.username().is_none()) {
            session.details_mut().username = Some(username.into());
        }
        Some(id)
    }

    /// The session of a client id; one that is not there is made, and ends at once unless [`Broker::restore_session`]
    /// completes it. `None` when the table is full.
    pub fn restore_stub(&mut self, client_id: &str) -> Option<SessionId> {
        if let Some(known) = self.sessions.find(client_id) {
            return Some(known);
        }
        self.sessions.insert(client_id, ProtocolVersion::V311)
    }

    /// Makes a message that was stored; `left_s` are the seconds until it expires, `None` for never; `number` is
    /// the one it had, 0 for a new one or none. `None` as for
    /// [`Msg::new`].
    #[must_use]
    pub fn restore_message(
        &self,
        now: Now,
        new: &NewMessage<'_>,
        left_s: Option<u32>,
        source: Option<Source<'_>>,
        number: u64,
    ) -> Option<Msg> {
        let new = NewMessage { expiry_s: left_s, ..*new };
        match number {
            0 => Msg::from_source(now, &new, true, source),
            number => Msg::numbered(now, &new, true, source, number),
        }
    }

    /// Adds a message behind those that the session has; false when it cannot be one. An identifier that is 0 or in use is
    /// replaced by a fresh one, as far as the client cannot know it. Limits of queues do not apply.
    pub fn restore_entry(&mut self, id: SessionId, entry: StoredEntry<Msg>) -> bool {
        let Some(session) = self.sessions.get_mut(id) else { return false };
        let mut last_id = session.last_id;
        let taken = session.flow_mut().restore(entry, &mut last_id);
        session.last_id = last_id;
        taken
    }

    /// Adds or replaces a subscription; false when its filter is not valid or the session has too many.
    pub fn restore_subscription(&mut self, id: SessionId, stored: &StoredSubscription<'_>) -> bool {
        let Ok(split) = topic::check_filter(stored.filter).and_then(|()| topic::split_share(stored.filter)) else {
            return false;
        };
        let (share, filter) = split.map_or((None, stored.filter), |(name, filter)| (Some(name), filter));
        let Some(session) = self.sessions.get_mut(id) else { return false };
        let online = session.online();
        self.subs.subscribe(id, &mut session.subs, filter, share, stored.options, stored.id, online).is_ok()
    }

    /// Stores a retained message, or clears its topic if it has no payload. False for the broker's own topics, which it
    /// fills itself.
    pub fn restore_retained(&mut self, msg: Msg) -> bool {
        if is_own_topic(msg.topic()) {
            return false;
        }
        if msg.payload_len() == 0 {
            self.retained.remove(msg.topic());
        } else {
            self.retained.insert(msg);
        }
        true
    }

    /// Everything is there: from now on sessions end when their time has come. Those whose time passed meanwhile, and those
    /// that nothing but their messages or subscriptions was known of, do so with the next [`Broker::on_timers`].
    pub fn restored(&mut self, now: Now) {
        for id in self.sessions.ids() {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            if session.attachment == Attachment::Offline && session.ends_ms == 0 && session.expiry_s != NEVER {
                session.ends_ms = ends_ms(now, session.expiry_s, None);
            }
            session.trim();
            self.arm(id);
        }
    }
}

#[cfg(test)]
mod tests;
