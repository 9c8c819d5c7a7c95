//! The subscription table: who gets a message with this topic. It delivers nothing itself, a [`Sink`] does.
//!
//! A subscription is a 32-byte record in two circular lists: that of its filter, or of its group when it is shared, and
//! that of its session. `filters` finds the filters of a topic, `shares` chooses members of shared subscriptions.

mod dump;
mod filters;
#[cfg(test)]
pub(super) mod oracle;
mod pool;
mod shares;
#[cfg(test)]
mod tests;
mod tokens;

use self::filters::{Filters, Scratch};
use self::pool::{Link, Linked, List, NONE, Pool, Slot};
use self::shares::Group;
use super::SessionId;
use super::index::Index;
use crate::slab::Key;
use crate::wire::QoS;

/// The most subscriptions of one session; more are refused with 0x97, quota exceeded.
pub const MAX_SUBSCRIPTIONS_PER_SESSION: u32 = 1_000_000;

/// Of these the most shared ones; more are refused likewise. Their groups are told whenever the client comes or goes.
pub const MAX_SHARED_SUBSCRIPTIONS_PER_SESSION: u32 = 50_000;

/// With more subscriptions than this a session has an index of them: nobody can make us walk over more than so many to
/// find one.
const WALKED: u32 = 256;

/// The most levels of wildcard filters one session may add to the table; more are refused with 0x97, quota exceeded. A
/// level costs about 50 bytes for as little as two bytes of filter.
pub const MAX_WILDCARD_NODES_PER_SESSION: u32 = 250_000;

/// Subscription options (MQTT 5, 3.8.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SubOptions {
    /// The granted QoS.
    pub qos: QoS,
    /// Messages this session published itself are not delivered to it.
    pub no_local: bool,
    /// Messages keep the retain flag they were published with.
    pub retain_as_published: bool,
    /// Retained messages on subscribe: 0 send, 1 send when the subscription is new, 2 do not send.
    pub retain_handling: u8,
}

impl SubOptions {
    /// The options as the byte of a v5 SUBSCRIBE.
    #[must_use]
    pub const fn to_bits(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling & 3) << 4
    }

    /// The options in the byte of a v5 SUBSCRIBE; bits that mean nothing are ignored, QoS 3 is read as 2.
    #[must_use]
    pub const fn from_bits(bits: u8) -> SubOptions {
        let qos = match QoS::from_bits(bits & 3) {
            Some(qos) => qos,
            None => QoS::ExactlyOnce,
        };
        SubOptions { qos, no_local: bits & 4 != 0, retain_as_published: bits & 8 != 0, retain_handling: bits >> 4 & 3 }
    }
}

/// The subscriptions of one session, kept in the session. It must be emptied with [`Subs::remove_some`] before it is
/// dropped, and only ever be used with the table and session it was first used with.
#[derive(Default, Debug)]
pub struct SubList {
    /// Shared subscriptions stand in front, the latest first; then the normal ones in the order they were made.
    records: List,
    shared: u32,
    /// Trie nodes that were made for subscriptions still in the list.
    nodes: u32,
}

impl SubList {
    /// The number of subscriptions.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records.len as usize
    }

    /// True when there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.len == 0
    }

    /// The number of shared ones among them.
    #[must_use]
    pub const fn shared(&self) -> usize {
        self.shared as usize
    }
}

/// A subscription that matches a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// Whose it is.
    pub session: SessionId,
    /// Its options.
    pub options: SubOptions,
    /// Its v5 subscription identifier; 0 is none.
    pub id: u32,
    /// True when the session gets the message as a member of a group.
    pub shared: bool,
}

/// Receives the matches of a publish.
pub trait Sink {
    /// A normal subscription matches.
    fn deliver(&mut self, sub: &Match);

    /// It is the turn of this member of a shared subscription. False when it does not take the message, which then
    /// goes to another one.
    fn offer(&mut self, sub: &Match, online: bool) -> bool;
}

/// What [`Subs::subscribe`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Added {
    /// There was no such subscription.
    New,
    /// Options and identifier of an existing subscription were replaced, its position kept [MQTT-3.8.4-3].
    Replaced,
}

/// The session has as many subscriptions or wildcard levels as it may: reason code 0x97.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuotaExceeded;

impl std::fmt::Display for QuotaExceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("too many subscriptions in one session")
    }
}

/// A subscription of a session, see [`Subs::of_session`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionSub<'a> {
    /// The topic filter, without the share prefix.
    pub filter: String,
    /// The share name of a shared subscription.
    pub share: Option<&'a str>,
    /// Its options.
    pub options: SubOptions,
    /// Its v5 subscription identifier; 0 is none.
    pub id: u32,
}

impl SessionSub<'_> {
    /// The filter with its `$share` part.
    #[must_use]
    pub fn full_filter(&self) -> String {
        match self.share {
            Some(share) => format!("$share/{share}/{}", self.filter),
            None => self.filter.clone(),
        }
    }
}

/// How far a walk over a session's subscriptions got, see [`Subs::next_of_session`].
#[derive(Clone, Copy, Debug)]
pub struct SubCursor {
    at: u32,
    left: u32,
}

impl SubCursor {
    /// At the start.
    #[must_use]
    pub const fn new(list: &SubList) -> SubCursor {
        SubCursor { at: list.records.head, left: list.records.len }
    }
}

/// One subscription.
struct Record {
    session: SessionId,
    /// The filter, or the group of a shared subscription.
    owner: u32,
    in_owner: Link,
    in_session: Link,
    id: u32,
    /// Trie nodes made for it, charged to the session as long as it lives, even when others need them longer.
    nodes: u16,
    options: u8,
    flags: u8,
}

impl Record {
    const SHARED: u8 = 1;
    /// It stands in the list of the members that are online.
    const ONLINE: u8 = 2;
    /// It stands in the index.
    const INDEXED: u8 = 4;

    const fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    const fn to_match(&self) -> Match {
        let options = SubOptions::from_bits(self.options);
        Match { session: self.session, options, id: self.id, shared: self.is(Record::SHARED) }
    }
}

impl Default for Record {
    fn default() -> Record {
        Record {
            session: SessionId(Key::from_bits(NONE)),
            owner: NONE,
            in_owner: Link::default(),
            in_session: Link::default(),
            id: 0,
            nodes: 0,
            options: 0,
            flags: 0,
        }
    }
}

impl Slot for Record {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.owner
    }
}

/// The list of a filter or group.
struct OfOwner;
/// The list of a session.
struct OfSession;

impl Linked<OfOwner> for Record {
    fn link(&self) -> &Link {
        &self.in_owner
    }
    fn link_mut(&mut self) -> &mut Link {
        &mut self.in_owner
    }
}

impl Linked<OfSession> for Record {
    fn link(&self) -> &Link {
        &self.in_session
    }
    fn link_mut(&mut self) -> &mut Link {
        &mut self.in_session
    }
}

/// Every subscription of the broker.
pub struct Subs {
    records: Pool<Record>,
    filters: Filters,
    groups: Pool<Group>,
    group_index: Index<u32>,
    /// Records by session and owner: all those of sessions that have more than [`WALKED`].
    large: Index<u32>,
    shared: u32,
    scratch: Scratch,
    /// Groups a publish has to serve after the normal subscribers; empty between publishes.
    due: Vec<u32>,
}

impl Subs {
    /// An empty table. `keys` seed the hashes of everything clients choose; they must be unpredictable outside tests.
    #[must_use]
    pub fn new(keys: [u64; 2]) -> Subs {
        Subs {
            records: Pool::new(),
            filters: Filters::new(keys),
            groups: Pool::new(),
            group_index: Index::default(),
            large: Index::default(),
            shared: 0,
            scratch: Scratch::default(),
            due: Vec::new(),
        }
    }

    /// The number of subscriptions, shared ones included.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.records.len()
    }

    /// The number of shared subscriptions.
    #[must_use]
    pub const fn shared_count(&self) -> usize {
        self.shared as usize
    }

    /// Adds or replaces a subscription. `filter` is valid and without its `$share` prefix, `share` is the share name;
    /// `id` is the v5 subscription identifier, 0 for none; `online` says whether the session is connected now.
    ///
    /// # Errors
    /// [`QuotaExceeded`] past [`MAX_SUBSCRIPTIONS_PER_SESSION`], [`MAX_SHARED_SUBSCRIPTIONS_PER_SESSION`] or
    /// [`MAX_WILDCARD_NODES_PER_SESSION`]; the table is unchanged then.
    #[expect(clippy::too_many_arguments, reason = "the parts of a SUBSCRIBE, and a struct would be used once")]
    pub fn subscribe(
        &mut self,
        session: SessionId,
        list: &mut SubList,
        filter: &str,
        share: Option<&str>,
        options: SubOptions,
        id: u32,
        online: bool,
    ) -> Result<Added, QuotaExceeded> {
        if let Some(found) = self.find(session, list, filter, share) {
            let record = &mut self.records[found];
            record.id = id;
            record.options = options.to_bits();
            return Ok(Added::Replaced);
        }
        let too_many_shared = share.is_some() && list.shared >= MAX_SHARED_SUBSCRIPTIONS_PER_SESSION;
        if list.records.len >= MAX_SUBSCRIPTIONS_PER_SESSION || too_many_shared {
            return Err(QuotaExceeded);
        }
        let allowed = MAX_WILDCARD_NODES_PER_SESSION.saturating_sub(list.nodes);
        let (filter, nodes) = self.filters.find_or_insert(filter, allowed).ok_or(QuotaExceeded)?;
        let nodes = u16::try_from(nodes).unwrap_or(u16::MAX);
        list.nodes += u32::from(nodes);
        let record = Record { session, id, nodes, options: options.to_bits(), ..Record::default() };
        let index = self.records.insert(record);
        if let Some(share) = share {
            self.records.push_front::<OfSession>(&mut list.records, index);
            list.shared += 1;
            self.join(index, filter, share, online);
        } else {
            self.records.push_back::<OfSession>(&mut list.records, index);
            self.records[index].owner = filter;
            self.records.push_back::<OfOwner>(&mut self.filters[filter].subscribers, index);
        }
        match list.records.len.checked_sub(WALKED) {
            None | Some(0) => {}
            Some(1) => {
                let all: Vec<u32> = self.records.iter::<OfSession>(list.records).collect();
                all.into_iter().for_each(|index| self.put_into_index(index));
            }
            Some(_) => self.put_into_index(index),
        }
        Ok(Added::New)
    }

    /// Removes a subscription; false when there is none.
    pub fn unsubscribe(&mut self, session: SessionId, list: &mut SubList, filter: &str, share: Option<&str>) -> bool {
        let found = self.find(session, list, filter, share);
        if let Some(index) = found {
            self.remove(list, index);
        }
        found.is_some()
    }

    /// Removes at most `most` subscriptions of a session; how many it were. The session may be gone already, as long as no
    /// other has its id.
    pub fn remove_some(&mut self, session: SessionId, list: &mut SubList, most: u32) -> u32 {
        let count = list.records.len.min(most);
        for _ in 0..count {
            debug_assert_eq!(self.records[list.records.head].session, session);
            self.remove(list, list.records.head);
        }
        count
    }

    /// Hands the topic's subscriptions to the sink: the filter that equals it, then those with wildcards, at each level
    /// the name before `+` before `#`, deeper ones first; last the groups, each of which offers the message to its
    /// members in turn. Returns the work done: nodes visited and subscriptions handed over.
    pub fn publish(&mut self, topic: &str, sink: &mut impl Sink) -> u32 {
        let mut due = std::mem::take(&mut self.due);
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut handed = 0u32;
        let visited = self.filters.matches(topic, &mut scratch, |filter| {
            let filter = &self.filters[filter];
            for record in self.records.iter::<OfOwner>(filter.subscribers) {
                sink.deliver(&self.records[record].to_match());
            }
            handed = handed.saturating_add(filter.subscribers.len);
            due.extend(self.groups.iter(filter.groups));
        });
        self.scratch = scratch;
        for group in due.drain(..) {
            let (_, tries) = self.offer(group, None, sink);
            handed = handed.saturating_add(tries);
        }
        due.shrink_to(filters::SCRATCH);
        self.due = due;
        visited.saturating_add(handed)
    }

    /// The subscriptions of a session: shared ones, the latest first, then normal ones in the order they were made.
    pub fn of_session(&self, list: &SubList) -> impl Iterator<Item = SessionSub<'_>> {
        self.records.iter::<OfSession>(list.records).map(|index| self.session_sub(index))
    }

    /// The next one of them, for a walk that stops and goes on later. They must not change meanwhile.
    pub fn next_of_session(&self, cursor: &mut SubCursor) -> Option<SessionSub<'_>> {
        cursor.left = cursor.left.checked_sub(1)?;
        let index = cursor.at;
        cursor.at = self.records[index].in_session.next;
        Some(self.session_sub(index))
    }

    fn session_sub(&self, index: u32) -> SessionSub<'_> {
        let Match { options, id, shared, .. } = self.records[index].to_match();
        let owner = self.records[index].owner;
        let (filter, share) =
            if shared { (self.groups[owner].filter, Some(self.share_name(owner))) } else { (owner, None) };
        SessionSub { filter: self.filters.name(filter), share, options, id }
    }

    /// The record of a session's subscription. Looks into the index for a session that has many; else it walks the session's
    /// list or that of the filter or group, whichever is shorter.
    fn find(&self, session: SessionId, list: &SubList, filter: &str, share: Option<&str>) -> Option<u32> {
        let filter = self.filters.find(filter)?;
        let group = match share {
            Some(share) => Some(self.find_group(filter, share)?),
            None => None,
        };
        if list.records.len > WALKED {
            let owner = group.unwrap_or(filter);
            return self.large.find(self.filters.keys().pair(session.0.to_bits(), owner), |&index| {
                let record = &self.records[index];
                (record.session, record.owner, record.is(Record::SHARED)) == (session, owner, group.is_some())
            });
        }
        if let Some(group) = group {
            return self.find_member(session, list, group);
        }
        let subscribers = self.filters[filter].subscribers;
        let normal = list.records.len - list.shared;
        if subscribers.len <= normal {
            self.records.iter::<OfOwner>(subscribers).find(|&index| self.records[index].session == session)
        } else {
            let mut own = self.records.iter::<OfSession>(list.records).rev().take(normal as usize);
            own.find(|&index| self.records[index].owner == filter)
        }
    }

    fn put_into_index(&mut self, index: u32) {
        if self.records[index].is(Record::INDEXED) {
            return;
        }
        self.records[index].flags |= Record::INDEXED;
        let (keys, records) = (self.filters.keys(), &self.records);
        let hash_of = |&index: &u32| keys.pair(records[index].session.0.to_bits(), records[index].owner);
        self.large.insert(hash_of(&index), index, hash_of);
    }

    /// Removes a record, and its group and filter when they are not needed any more.
    fn remove(&mut self, list: &mut SubList, index: u32) {
        self.records.unlink::<OfSession>(&mut list.records, index);
        if self.records[index].is(Record::INDEXED) {
            let (keys, records) = (self.filters.keys(), &self.records);
            let hash_of = |&index: &u32| keys.pair(records[index].session.0.to_bits(), records[index].owner);
            self.large.remove(hash_of(&index), |&other| other == index, hash_of);
        }
        let record = &self.records[index];
        list.nodes -= u32::from(record.nodes);
        let owner = record.owner;
        if record.is(Record::SHARED) {
            list.shared -= 1;
            self.leave(index);
        } else {
            self.records.unlink::<OfOwner>(&mut self.filters[owner].subscribers, index);
            self.filters.release(owner);
        }
        self.records.remove(index);
    }
}
