//! What `$SYS` tells of bridges besides their state: `$SYS/broker/connection/REMOTE_CLIENTID/queued`, the messages that
//! wait for the other broker, and `…/set_aside`, those that it does not take.

use super::EventLoop;
use crate::timer::Now;

/// The topics and which of the two figures they show.
const TOPICS: [&str; 2] = ["queued", "set_aside"];

fn topic(remote_id: &str, name: &str) -> String {
    format!("$SYS/broker/connection/{remote_id}/{name}")
}

impl EventLoop {
    /// Begins, or ends, telling `[conf: sys_interval]`.
    pub(super) fn watch_bridges(&mut self, now: Now) {
        let is_on = cfg!(feature = "sys-tree") && self.config.global.sys_interval != 0 && !self.bridges.all.is_empty();
        self.bridges.sys_due_ms = is_on.then_some(now.mono_ms);
    }

    /// Tells what has changed, when that is due.
    pub(super) fn tell_sys(&mut self, now: Now) {
        if self.bridges.sys_due_ms.is_none_or(|due| due > now.mono_ms) {
            return;
        }
        let interval_ms = u64::from(self.config.global.sys_interval).saturating_mul(1000);
        self.bridges.sys_due_ms = Some(now.mono_ms.saturating_add(interval_ms));
        for at in 0..self.bridges.all.len() {
            let Some(figures) = self.figures_of(at) else { continue };
            let Some(kept) = self.bridges.all.get_mut(at) else { continue };
            let told = kept.told.replace((figures.queued, figures.set_aside));
            let remote_id = kept.connector.profile().remote_id.clone();
            let before = told.map(|(queued, aside)| [queued, aside]);
            for (i, (name, value)) in TOPICS.into_iter().zip([figures.queued, figures.set_aside]).enumerate() {
                if before.is_none_or(|before| before.get(i) != Some(&value)) {
                    self.broker.publish_of_bridge(now, &topic(&remote_id, name), &value.to_string());
                }
            }
        }
    }

    /// Clears what was told of a bridge that is gone.
    pub(super) fn forget_in_sys(&mut self, now: Now, remote_id: &str) {
        for name in TOPICS {
            self.broker.publish_of_bridge(now, &topic(remote_id, name), "");
        }
    }
}
