//! SIGHUP: bridges come, go and change `[conf: bridge_reload_type]`.

use std::rc::Rc;

use super::EventLoop;
use super::primary::Probe;
use crate::config::bridge::{Bridge, ReloadType};
use crate::proto::bridge::Profile;
use crate::timer::Now;

impl EventLoop {
    /// Makes the bridges those of the configuration. Unlike C Mosquitto, a bridge that did not change is left alone, and a
    /// new one connects at once.
    pub(in crate::net) fn reload_bridges(&mut self, now: Now) {
        let wanted = self.config.bridges.clone();
        let mut at = 0;
        while let Some(kept) = self.bridges.all.get_mut(at) {
            kept.probe = Probe::None;
            // Certificates may have changed under the same names.
            kept.tls = None;
            let name = kept.connector.profile().config.name.clone();
            match wanted.iter().find(|bridge| bridge.name == name) {
                Some(bridge) => {
                    self.change_bridge(now, at, bridge);
                    at += 1;
                }
                None => self.remove_bridge(now, at),
            }
        }
        for bridge in wanted {
            if !self.bridges.all.iter().any(|kept| kept.connector.profile().config.name == bridge.name) {
                self.open_bridge(now, bridge);
            }
        }
        self.watch_bridges(now);
    }

    fn change_bridge(&mut self, now: Now, at: usize, bridge: &Bridge) {
        let Some(kept) = self.bridges.all.get_mut(at) else { return };
        if kept.connector.newest().config == *bridge {
            return;
        }
        let old = Rc::clone(kept.connector.newest());
        let profile = Rc::new(Profile::new(bridge.clone(), &self.bridges.hostname));
        kept.connector.reconfigure(now, Rc::clone(&profile));
        if bridge.reload == ReloadType::Immediate {
            self.end_bridge(now, at, "its configuration has changed");
        }
        // A connection that goes on keeps its session until it ends.
        if self.bridges.all.get(at).is_some_and(|kept| kept.conn.is_none()) {
            self.follow_session(now, at);
        }
        if old.state_topic != profile.state_topic && old.config.notifications {
            self.broker.publish_of_bridge(now, &old.state_topic, "");
        }
    }

    /// Ends a bridge with everything that waits for it.
    fn remove_bridge(&mut self, now: Now, at: usize) {
        self.end_bridge(now, at, "it is not configured any more");
        let kept = self.bridges.all.remove(at);
        let profile = kept.connector.newest();
        let waiting = self.broker.backlog(&profile.local_id);
        self.broker.close_bridge(&profile.local_id);
        self.forget_in_sys(now, &profile.remote_id);
        let count = waiting.queued.saturating_add(waiting.inflight);
        crate::notice!("Bridge {} was removed; messages that waited for it: {count}.", profile.config.name);
    }
}
