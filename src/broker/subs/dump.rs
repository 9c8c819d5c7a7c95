//! Views of the whole table: the subscription tree on SIGUSR2, and the checks of its inner order for tests.

use super::{OfOwner, SessionId, Subs};

impl Subs {
    /// Appends the subscription tree as text, for SIGUSR2: a line for each level of each filter, indented by four
    /// spaces and two more a level, with ` (CLIENTID, QOS)` for each subscriber; the normal tree first, then that of
    /// shared subscriptions, which shows no subscribers. Levels are sorted, unlike in C Mosquitto.
    pub fn write_tree(&self, name_of: impl Fn(SessionId) -> String, out: &mut String) {
        let mut named: Vec<(String, u32)> =
            self.filters.all().map(|filter| (self.filters.name(filter), filter)).collect();
        named.sort_by(|a, b| a.0.split('/').cmp(b.0.split('/')));
        for shared in [false, true] {
            let mut above: Vec<&str> = Vec::new();
            for (name, filter) in &named {
                let filter = &self.filters[*filter];
                if if shared { filter.groups.len } else { filter.subscribers.len } == 0 {
                    continue;
                }
                let levels: Vec<&str> = name.split('/').collect();
                let common = above.iter().zip(&levels).take_while(|(a, b)| a == b).count();
                for (depth, level) in levels.iter().enumerate().skip(common) {
                    if depth > common {
                        out.push('\n');
                    }
                    out.extend(std::iter::repeat_n(' ', 4 + 2 * depth));
                    out.push_str(level);
                }
                if !shared {
                    for record in self.records.iter::<OfOwner>(filter.subscribers) {
                        let sub = self.records[record].to_match();
                        out.push_str(&format!(" ({}, {})", name_of(sub.session), sub.options.qos as u8));
                    }
                }
                out.push('\n');
                above = levels;
            }
        }
    }
}
