//! Shared subscriptions: a group is a share name and a filter (MQTT 5, 4.8.2). Each message goes to one member, in
//! strict rotation among those online; offline members are asked only when none of those takes it. That differs from
//! C Mosquitto, which keeps offline members in the rotation and so loses every QoS 0 message whose turn is theirs.

use super::pool::{Link, Linked, List, NONE, Slot};
use super::{Match, OfOwner, OfSession, Record, SessionId, Sink, SubList, Subs};

/// The most members one message is offered to: a group full of members that refuse must not stall the broker.
const MAX_TRIES: u32 = 64;

/// The most shared subscriptions of a session that are searched for the one a message came from: a session with many of
/// them and many unacknowledged messages must not stall the broker when it ends. Passing on is a courtesy to QoS 1.
const MAX_PASS_ON: usize = 256;

/// A group of shared subscriptions.
pub(super) struct Group {
    /// The token of its share name.
    pub(super) name: u32,
    pub(super) filter: u32,
    /// Its neighbours among the groups of the filter.
    in_filter: Link,
    /// The members whose sessions are connected, the one whose turn it is first.
    pub(super) online: List,
    /// The other members, likewise.
    pub(super) offline: List,
}

impl Default for Group {
    fn default() -> Group {
        let (online, offline) = (List::default(), List::default());
        Group { name: NONE, filter: NONE, in_filter: Link::default(), online, offline }
    }
}

impl Slot for Group {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.filter
    }
}

/// The list of a filter's groups.
pub(super) struct OfFilter;

impl Linked<OfFilter> for Group {
    fn link(&self) -> &Link {
        &self.in_filter
    }
    fn link_mut(&mut self) -> &mut Link {
        &mut self.in_filter
    }
}

impl Group {
    fn list_mut(&mut self, online: bool) -> &mut List {
        if online { &mut self.online } else { &mut self.offline }
    }
}

impl Subs {
    /// Tells the groups of a session that it connected or disconnected. Costs nothing without shared subscriptions.
    pub fn set_online(&mut self, list: &SubList, online: bool) {
        let mut at = list.records.head;
        for _ in 0..list.shared {
            let record = &mut self.records[at];
            let next = record.in_session.next;
            if record.is(Record::ONLINE) != online {
                record.flags ^= Record::ONLINE;
                let group = &mut self.groups[record.owner];
                self.records.unlink::<OfOwner>(group.list_mut(!online), at);
                self.records.push_back::<OfOwner>(group.list_mut(online), at);
            }
            at = next;
        }
    }

    /// Gives a message that the member `leaving` has not acknowledged to another member of its group. Not for QoS 2
    /// messages that were already sent, which go to nobody else [MQTT-4.8.2-5].
    ///
    /// The group is found among the latest 256 shared subscriptions of the session, whose filters match
    /// `topic`; those with the subscription identifier `sub_id` come first, and `skip` of them are passed over, for a
    /// session that has the message from several groups. False when there is no such group or nobody takes the
    /// message. To be called while the session still has its subscriptions.
    pub fn pass_on(
        &mut self,
        list: &SubList,
        leaving: SessionId,
        topic: &str,
        sub_id: u32,
        skip: usize,
        sink: &mut impl Sink,
    ) -> bool {
        let shared = (list.shared as usize).min(MAX_PASS_ON);
        let mut groups = Vec::new();
        for index in self.records.iter::<OfSession>(list.records).take(shared) {
            let Record { owner, id, .. } = self.records[index];
            if self.filters.matches_one(self.groups[owner].filter, topic, &mut self.scratch) {
                groups.push((id != sub_id, owner));
            }
        }
        // Stable, so that `skip` counts the same way as long as the session subscribes to nothing else.
        groups.sort_by_key(|&(other_id, _)| other_id);
        groups.get(skip).is_some_and(|&(_, group)| self.offer(group, Some(leaving), sink).0)
    }

    /// Offers a message to the members of a group in turn: who was asked goes to the end of the list, whether it took
    /// the message or not, so that members that refuse cannot hide the others behind them. Says whether somebody took
    /// it, and how many were asked.
    pub(super) fn offer(&mut self, group: u32, except: Option<SessionId>, sink: &mut impl Sink) -> (bool, u32) {
        let mut tries = 0;
        for online in [true, false] {
            let list = self.groups[group].list_mut(online);
            for _ in 0..list.len.min(MAX_TRIES - tries) {
                let sub: Match = self.records[list.head].to_match();
                self.records.rotate::<OfOwner>(list);
                tries += 1;
                if Some(sub.session) != except && sink.offer(&sub, online) {
                    return (true, tries);
                }
            }
        }
        (false, tries)
    }

    pub(super) fn share_name(&self, group: u32) -> &str {
        self.filters.tokens.name(self.groups[group].name)
    }

    pub(super) fn find_group(&self, filter: u32, share: &str) -> Option<u32> {
        let name = self.filters.tokens.find(share)?;
        let same = |&group: &u32| self.groups[group].filter == filter && self.groups[group].name == name;
        self.group_index.find(self.filters.keys().pair(filter, name), same)
    }

    /// The record with which a session is a member of a group; walks the shorter of the two lists.
    pub(super) fn find_member(&self, session: SessionId, list: &SubList, group: u32) -> Option<u32> {
        let Group { online, offline, .. } = &self.groups[group];
        if online.len + offline.len <= list.shared {
            let mut members = self.records.iter::<OfOwner>(*online).chain(self.records.iter::<OfOwner>(*offline));
            members.find(|&index| self.records[index].session == session)
        } else {
            let mut own = self.records.iter::<OfSession>(list.records).take(list.shared as usize);
            own.find(|&index| self.records[index].owner == group)
        }
    }

    /// Makes a new record a member of the group with this name at a filter.
    pub(super) fn join(&mut self, index: u32, filter: u32, share: &str, online: bool) {
        let group = self.find_group(filter, share).unwrap_or_else(|| {
            let name = self.filters.tokens.intern(share);
            let group = self.groups.insert(Group { name, filter, ..Group::default() });
            self.groups.push_back::<OfFilter>(&mut self.filters[filter].groups, group);
            let (keys, groups) = (self.filters.keys(), &self.groups);
            self.group_index
                .insert(keys.pair(filter, name), group, |&group| keys.pair(groups[group].filter, groups[group].name));
            group
        });
        let record = &mut self.records[index];
        record.owner = group;
        record.flags = Record::SHARED | if online { Record::ONLINE } else { 0 };
        self.records.push_back::<OfOwner>(self.groups[group].list_mut(online), index);
        self.shared += 1;
    }

    /// Takes a record out of its group, and the group away when it was the last member.
    pub(super) fn leave(&mut self, index: u32) {
        let record = &self.records[index];
        let (owner, online) = (record.owner, record.is(Record::ONLINE));
        self.records.unlink::<OfOwner>(self.groups[owner].list_mut(online), index);
        self.shared -= 1;
        let Group { name, filter, online, offline, .. } = self.groups[owner];
        if online.len + offline.len > 0 {
            return;
        }
        let (keys, groups) = (self.filters.keys(), &self.groups);
        let hash_of = |&group: &u32| keys.pair(groups[group].filter, groups[group].name);
        self.group_index.remove(keys.pair(filter, name), |&other| other == owner, hash_of);
        self.groups.unlink::<OfFilter>(&mut self.filters[filter].groups, owner);
        self.groups.remove(owner);
        self.filters.tokens.release(name);
        self.filters.release(filter);
    }
}
