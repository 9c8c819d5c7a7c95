//! Views of the whole table: the subscription tree on SIGUSR2, and the checks of its inner order for tests.

use super::pool::List;
use super::shares::OfFilter;
use super::{OfOwner, Record, SessionId, Subs};

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

    /// Panics when the table contradicts itself; for tests. Takes time linear in the table.
    pub fn check_invariants(&self) {
        let (mut records, mut shared, mut groups) = (0, 0, Vec::new());
        for filter in self.filters.all() {
            let lists = &self.filters[filter];
            assert!(lists.subscribers.len + lists.groups.len > 0, "a filter nobody subscribed to");
            records += self.check_list(lists.subscribers, filter, 0);
            for group in self.groups.iter::<OfFilter>(lists.groups) {
                let entry = &self.groups[group];
                assert_eq!(entry.filter, filter);
                assert_eq!(self.find_group(filter, self.share_name(group)), Some(group));
                let members = self.check_list(entry.online, group, Record::SHARED | Record::ONLINE)
                    + self.check_list(entry.offline, group, Record::SHARED);
                assert!(members > 0, "a group without members");
                shared += members;
                groups.push(entry.name);
            }
        }
        assert_eq!((self.count(), self.shared_count()), (records + shared, shared));
        assert_eq!((self.groups.len(), self.group_index.len()), (groups.len(), groups.len()));
        assert!(self.large.iter().all(|index| self.records[index].is(Record::INDEXED)));
        assert!(self.due.is_empty());
        self.filters.check(groups.into_iter());
    }

    /// Checks the members of a filter or group and returns their number.
    fn check_list(&self, list: List, owner: u32, flags: u8) -> usize {
        let members: Vec<u32> = self.records.iter::<OfOwner>(list).collect();
        for (at, &index) in members.iter().enumerate() {
            let record = &self.records[index];
            assert_eq!((record.owner, record.flags & !Record::INDEXED), (owner, flags));
            let same = |&other: &u32| other == index;
            let found = self.large.find(self.filters.keys().pair(record.session.0.to_bits(), owner), same).is_some();
            assert_eq!(found, record.is(Record::INDEXED));
            assert_eq!(record.in_owner.next, members[(at + 1) % members.len()]);
            assert_eq!(record.in_owner.prev, members[(at + members.len() - 1) % members.len()]);
        }
        members.len()
    }
}
