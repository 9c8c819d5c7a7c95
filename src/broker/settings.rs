//! What new options do to the sessions there are. Most options are read when they are needed and need nothing here.

use super::Broker;
use super::auth::access::{Access, RulesId};
use super::deliver::mark_dirty;
use super::lifecycle::{Sweep, record_session};
use super::session::{Attachment, NEVER, Session};
use crate::config::Global;
use crate::timer::Now;

impl Broker {
    /// Puts new options in force; they apply to what exists.
    pub fn set_settings(&mut self, settings: Global, now: Now) {
        let old = std::mem::replace(&mut self.settings, settings);
        let new = &self.settings;
        if new.retain_expiry_interval != old.retain_expiry_interval {
            self.sweep = Sweep::new(new, now);
        }
        if let Some(cap) = new.persistent_client_expiration {
            self.cap_sessions(now, cap);
        }
        let limits = |settings: &Global| (settings.max_inflight_messages, settings.max_inflight_bytes);
        if limits(&self.settings) != limits(&old) {
            self.wake_queues();
        }
        self.follow_sys(&old);
    }

    /// The rules of passwords and access in force.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Puts other rules in force: for every session those of its listener, as far as its port tells, and for what is
    /// queued, each message before it is sent.
    pub fn set_access(&mut self, access: Access) {
        self.access = access;
        for id in self.sessions.ids() {
            let others = |session: &&mut Session| session.rules != RulesId::BRIDGE;
            let Some(session) = self.sessions.get_mut(id).filter(others) else { continue };
            session.rules = self.access.follow(session.listener_port, session.rules);
            if let Some(flow) = session.flow.as_mut().filter(|_| self.access.restricts()) {
                flow.distrust_queues();
            }
        }
    }

    /// Lets every session end by the new `persistent_client_expiration` at the latest. For one that is offline the time
    /// counts from when its client left; where that is not known, because it was to stay for ever, from now. A cap
    /// that was lifted does not bring back what clients once asked for.
    fn cap_sessions(&mut self, now: Now, cap: u32) {
        for id in self.sessions.ids() {
            let ends = |session: &&mut Session| session.expiry_s > cap && session.rules != RulesId::BRIDGE;
            let Some(session) = self.sessions.get_mut(id).filter(ends) else { continue };
            let left_ms = match session.expiry_s {
                NEVER => now.mono_ms,
                s => session.ends_ms.saturating_sub(u64::from(s) * 1000),
            };
            self.storage.before_session(id, session);
            self.storage.alter_if(session.lasts());
            session.expiry_s = cap;
            let offline = session.attachment == Attachment::Offline;
            if offline {
                session.ends_ms = left_ms.saturating_add(u64::from(cap) * 1000);
            }
            record_session(&mut self.changes, now, session);
            if offline {
                self.arm(id);
            }
        }
    }

    /// Flushes what may have waited for a smaller window.
    fn wake_queues(&mut self) {
        for id in self.sessions.ids() {
            if let Some(session) = self.sessions.get_mut(id).filter(|session| session.flow.is_some()) {
                mark_dirty(&mut self.dirty, session);
            }
        }
    }
}

#[cfg(test)]
mod tests;
