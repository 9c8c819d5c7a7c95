//! The core's lasting state at one moment, given out in slices while the broker serves on.
//!
//! [`Broker::begin_snapshot`] sets the moment. [`Broker::snapshot_slice`] then walks over the sessions, their
//! subscriptions and the retained messages, a bounded piece each time. Whoever is about to change something that the walk has
//! not reached yet has it copied first: a session's queue when its client takes from it, the subscriptions of a session
//! when it subscribes, a retained message when it is replaced. What is copied is references to messages, never their bytes.
//! A message that is only queued costs no copy: the walk remembers how long the queue was. So a file made from the
//! slices is the state of one moment, in which a message is with its publisher or with its subscribers but never lost between
//! them and never doubled, and no turn of the loop pays for more than one session.
//!
//! The same places count what changed: see [`Storage`].

use std::collections::{BTreeMap, VecDeque};

use super::inflight::EntryCursor;
use super::message::Msg;
use super::retain::Retained;
use super::session::{NEVER, Session, Sessions};
use super::stored::{Item, StoredEntry, StoredSession, StoredSubscription, is_own_topic};
use super::subs::{SubCursor, SubList, Subs};
use super::{Broker, SessionId};
use crate::timer::Now;

/// What storage has to know of the core: how much changed, and what a snapshot under way still needs.
#[derive(Default)]
pub(crate) struct Storage {
    /// Changes, counted as C Mosquitto counts them for `[conf: autosave_on_changes]`, of what lasts.
    changes: u64,
    /// Something changed that a snapshot would show.
    altered: bool,
    walk: Option<Box<Walk>>,
}

/// How a snapshot goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotState {
    /// There is more.
    More,
    /// That was all.
    Done,
}

/// A snapshot under way.
struct Walk {
    /// Its moment.
    now: Now,
    /// The broker stops: sessions of connected clients end by the clock, too.
    stopping: bool,
    stage: Stage,
    /// Sessions that were given, were copied, or are younger than the snapshot; by their place in the table.
    sessions_done: Marks,
    /// The same for their subscriptions.
    subs_done: Marks,
    /// Queues that grew: how long they were.
    queue_lens: BTreeMap<u32, usize>,
    /// The session whose messages are being given.
    current: Option<(SessionId, EntryCursor)>,
    /// The session whose subscriptions are being given.
    current_subs: Option<(SessionId, SubCursor)>,
    copies: VecDeque<SessionCopy>,
    sub_copies: VecDeque<SubsCopy>,
    /// Retained messages as they were, for topics that changed; `None` where there was none.
    retained: BTreeMap<Box<str>, Option<Msg>>,
}

/// Where the walk is.
enum Stage {
    /// At this part of the table of sessions.
    Sessions(usize),
    /// At this part of the table of sessions, for the subscriptions.
    Subscriptions(usize),
    /// Behind this topic.
    Retained(Option<Box<str>>),
    /// At the retained messages that changed meanwhile.
    Replaced,
}

struct SessionCopy {
    client_id: Box<str>,
    /// `None` when it was given already, and only messages are left.
    session: Option<(Option<Box<str>>, StoredSession<'static>)>,
    entries: VecDeque<StoredEntry<Msg>>,
}

struct SubsCopy {
    client_id: Box<str>,
    subs: VecDeque<(Box<str>, StoredSubscription<'static>)>,
}

/// A set of small numbers.
#[derive(Default)]
struct Marks(Vec<u64>);

impl Marks {
    fn has(&self, n: u32) -> bool {
        self.0.get(n as usize / 64).is_some_and(|word| word & (1 << (n % 64)) != 0)
    }

    fn set(&mut self, n: u32) {
        let at = n as usize / 64;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        if let Some(word) = self.0.get_mut(at) {
            *word |= 1 << (n % 64);
        }
    }
}

/// A session as it is stored at `now`; `None` when it ends with its connection. `queue_len` messages of its queue count.
pub(super) fn stored_session(
    session: &Session,
    now: Now,
    stopping: bool,
    queue_len: usize,
) -> Option<StoredSession<'_>> {
    if !session.lasts() {
        return None;
    }
    let left_s = match session.expiry_s {
        NEVER => None,
        expiry_s if session.online() => stopping.then_some(u64::from(expiry_s)),
        _ => Some(session.ends_ms.saturating_sub(now.mono_ms).div_ceil(1000)),
    };
    let with_id = session.flow.as_ref().map_or(0, |flow| flow.queued_with_id(queue_len));
    Some(StoredSession {
        client_id: session.client_id(),
        username: session.username(),
        listener_port: session.listener_port,
        expiry_s: session.expiry_s,
        ends_wall_s: left_s.map(|left| now.wall_s.saturating_add(left)),
        last_id: advanced(session.last_id, with_id),
    })
}

/// The packet identifier that is `count` behind another; 0 is none and is skipped.
fn advanced(id: u16, count: usize) -> u16 {
    let sum = (usize::from(id) + count).saturating_sub(1) % 65535 + 1;
    if id == 0 && count == 0 { 0 } else { u16::try_from(sum).unwrap_or(id) }
}

fn queue_len(session: &Session) -> usize {
    session.flow.as_ref().map_or(0, |flow| flow.queued())
}

impl Storage {
    /// Something changed that a snapshot would show.
    pub(super) fn alter(&mut self) {
        self.altered = true;
    }

    /// The same, if it is so.
    pub(super) fn alter_if(&mut self, altered: bool) {
        self.altered |= altered;
    }

    /// The same, and C Mosquitto counts it.
    pub(super) fn count(&mut self) {
        self.changes += 1;
        self.altered = true;
    }

    /// Counts what C Mosquitto counts although a snapshot would be the same.
    pub(super) fn count_only(&mut self) {
        self.changes += 1;
    }

    /// A new session took this place.
    pub(super) fn inserted(&mut self, id: SessionId) {
        if let Some(walk) = &mut self.walk {
            walk.sessions_done.set(id.0.index());
            walk.subs_done.set(id.0.index());
        }
    }

    /// A message is about to be appended to the session's queue.
    pub(super) fn queueing(&mut self, id: SessionId, session: &Session) {
        if !session.lasts() {
            return;
        }
        self.count();
        if let Some(walk) = &mut self.walk
            && !walk.sessions_done.has(id.0.index())
        {
            walk.queue_lens.entry(id.0.index()).or_insert_with(|| queue_len(session));
        }
    }

    /// The session, its messages or who it belongs to are about to change; its subscriptions are not.
    pub(super) fn before_session(&mut self, id: SessionId, session: &Session) {
        if let Some(walk) = &mut self.walk {
            walk.copy_session(id, session);
        }
    }

    /// The subscriptions of a session are about to change.
    pub(super) fn before_subs(&mut self, id: SessionId, session: &Session, list: &SubList, subs: &Subs) {
        if let Some(walk) = &mut self.walk {
            walk.copy_subs(id, session, list, subs);
        }
    }

    /// The session as a whole is about to change, or to end.
    pub(super) fn before_all(&mut self, id: SessionId, session: &Session, subs: &Subs) {
        self.before_session(id, session);
        self.before_subs(id, session, &session.subs, subs);
    }

    /// The retained message of a topic is about to change.
    pub(super) fn before_retained(&mut self, topic: &str, retained: &Retained) {
        if is_own_topic(topic) {
            return;
        }
        self.count();
        let Some(walk) = &mut self.walk else { return };
        let passed = match &walk.stage {
            Stage::Sessions(_) | Stage::Subscriptions(_) => false,
            Stage::Retained(at) => at.as_deref().is_some_and(|at| topic <= at),
            Stage::Replaced => true,
        };
        if !passed && !walk.retained.contains_key(topic) {
            walk.retained.insert(topic.into(), retained.get(topic).cloned());
        }
    }
}

impl Walk {
    #[cold]
    fn copy_session(&mut self, id: SessionId, session: &Session) {
        let index = id.0.index();
        if self.sessions_done.has(index) {
            return;
        }
        self.sessions_done.set(index);
        let queue_len = self.queue_lens.remove(&index).unwrap_or_else(|| queue_len(session));
        let (header, mut cursor) = match self.current.take_if(|(current, _)| *current == id) {
            Some((_, cursor)) => (None, cursor),
            None => {
                let Some(stored) = stored_session(session, self.now, self.stopping, queue_len) else { return };
                let username = stored.username.map(Into::into);
                let header = StoredSession { client_id: "", username: None, ..stored };
                (Some((username, header)), EntryCursor::new(queue_len, session.last_id))
            }
        };
        let mut entries = VecDeque::new();
        if let Some(flow) = &session.flow {
            flow.stored(&mut cursor, usize::MAX, &mut |entry| entries.push_back(entry.cloned()));
        }
        self.copies.push_back(SessionCopy { client_id: session.client_id().into(), session: header, entries });
    }

    #[cold]
    fn copy_subs(&mut self, id: SessionId, session: &Session, list: &SubList, subs: &Subs) {
        let index = id.0.index();
        if self.subs_done.has(index) {
            return;
        }
        self.subs_done.set(index);
        let mut cursor = match self.current_subs.take_if(|(current, _)| *current == id) {
            Some((_, cursor)) => cursor,
            None if session.lasts() => SubCursor::new(list),
            None => return,
        };
        let mut copy = SubsCopy { client_id: session.client_id().into(), subs: VecDeque::new() };
        while let Some(sub) = subs.next_of_session(&mut cursor) {
            let stored = StoredSubscription { filter: "", options: sub.options, id: sub.id };
            copy.subs.push_back((sub.full_filter().into(), stored));
        }
        self.sub_copies.push_back(copy);
    }
}

impl Broker {
    /// Changes of what lasts, counted as C Mosquitto does `[conf: autosave_on_changes]`.
    #[must_use]
    pub fn stored_changes(&self) -> u64 {
        self.storage.changes
    }

    /// Whether anything that a snapshot would show changed since the start, or since [`Broker::begin_snapshot`].
    #[must_use]
    pub fn is_altered(&self) -> bool {
        self.storage.altered
    }

    /// Says that a snapshot would show something else, for example because the last one was not written.
    pub fn set_altered(&mut self) {
        self.storage.altered = true;
    }

    /// Says that what is stored is what there is: it has just been restored.
    pub fn set_unaltered(&mut self) {
        self.storage.altered = false;
    }

    /// Sets the moment of a snapshot; one that is under way is given up. `stopping` says that connections end now, so that
    /// the time of their sessions begins to run.
    pub fn begin_snapshot(&mut self, now: Now, stopping: bool) {
        self.storage.altered = false;
        self.storage.walk = Some(Box::new(Walk {
            now,
            stopping,
            stage: Stage::Sessions(0),
            sessions_done: Marks::default(),
            subs_done: Marks::default(),
            queue_lens: BTreeMap::new(),
            current: None,
            current_subs: None,
            copies: VecDeque::new(),
            sub_copies: VecDeque::new(),
            retained: BTreeMap::new(),
        }));
    }

    /// Gives up a snapshot; what it would have shown counts as changed.
    pub fn abort_snapshot(&mut self) {
        if self.storage.walk.take().is_some() {
            self.storage.altered = true;
        }
    }

    /// Whether sessions of connected clients would be stored with another time when the broker stops.
    #[must_use]
    pub fn has_limited_online(&self) -> bool {
        self.sessions.iter().any(|(_, session)| session.lasts() && session.online() && session.expiry_s != NEVER)
    }

    /// Gives about `most` further items of the snapshot. A session comes before its messages, and all sessions before
    /// the subscriptions; last come the retained messages.
    pub fn snapshot_slice(&mut self, most: usize, each: &mut dyn FnMut(Item<'_>)) -> SnapshotState {
        let Broker { storage, sessions, subs, retained, .. } = self;
        let Some(walk) = &mut storage.walk else { return SnapshotState::Done };
        let mut left = most.max(1);
        while left > 0 {
            let given = walk.step(sessions, subs, retained, left, each);
            let Some(given) = given else {
                storage.walk = None;
                return SnapshotState::Done;
            };
            left = left.saturating_sub(given);
        }
        SnapshotState::More
    }
}

impl Walk {
    /// Does one step and returns what it cost; `None` at the end.
    fn step(
        &mut self,
        sessions: &Sessions,
        subs: &Subs,
        retained: &Retained,
        most: usize,
        each: &mut dyn FnMut(Item<'_>),
    ) -> Option<usize> {
        if let Some(cost) = self.give_copy(most, each) {
            return Some(cost);
        }
        match &mut self.stage {
            Stage::Sessions(part) => {
                if self.current.is_some() {
                    return Some(self.give_entries(sessions, most, each));
                }
                let part = *part;
                if part >= sessions.parts() {
                    self.stage = Stage::Subscriptions(0);
                    return Some(1);
                }
                let next = sessions.part(part).find(|id| !self.sessions_done.has(id.0.index()));
                match next {
                    Some(id) => self.begin_session(sessions, id, each),
                    None => self.stage = Stage::Sessions(part + 1),
                }
                Some(1)
            }
            Stage::Subscriptions(part) => {
                if self.current_subs.is_some() {
                    return Some(self.give_subs(sessions, subs, most, each));
                }
                let part = *part;
                if part >= sessions.parts() {
                    self.stage = Stage::Retained(None);
                    return Some(1);
                }
                let next = sessions.part(part).find(|id| !self.subs_done.has(id.0.index()));
                match next.map(|id| (id, sessions.get(id).filter(|session| session.lasts()))) {
                    Some((id, Some(session))) => self.current_subs = Some((id, SubCursor::new(&session.subs))),
                    Some((id, None)) => self.subs_done.set(id.0.index()),
                    None => self.stage = Stage::Subscriptions(part + 1),
                }
                Some(1)
            }
            Stage::Retained(at) => {
                let (mut given, mut last) = (0, None);
                for msg in retained.behind(at.as_deref()).take(most) {
                    if !is_own_topic(msg.topic()) && !self.retained.contains_key(msg.topic()) {
                        each(Item::Retained(msg));
                    }
                    given += 1;
                    last = Some(msg);
                }
                self.stage = match last {
                    Some(last) => Stage::Retained(Some(last.topic().into())),
                    None => Stage::Replaced,
                };
                Some(given.max(1))
            }
            Stage::Replaced => {
                let (_, msg) = self.retained.pop_first()?;
                if let Some(msg) = &msg {
                    each(Item::Retained(msg));
                }
                Some(1)
            }
        }
    }

    /// Gives what was copied; sessions at once, subscriptions when all sessions were given.
    fn give_copy(&mut self, most: usize, each: &mut dyn FnMut(Item<'_>)) -> Option<usize> {
        if let Some(copy) = self.copies.front_mut() {
            if let Some((username, session)) = copy.session.take() {
                each(Item::Session(StoredSession {
                    client_id: &copy.client_id,
                    username: username.as_deref(),
                    ..session
                }));
            }
            let n = copy.entries.len().min(most);
            for entry in copy.entries.drain(..n) {
                each(Item::Entry(&copy.client_id, entry.by_ref()));
            }
            if copy.entries.is_empty() {
                self.copies.pop_front();
            }
            return Some(n + 1);
        }
        if matches!(self.stage, Stage::Sessions(_)) {
            return None;
        }
        let copy = self.sub_copies.front_mut()?;
        let n = copy.subs.len().min(most);
        for (filter, stored) in copy.subs.drain(..n) {
            each(Item::Subscription(&copy.client_id, StoredSubscription { filter: &filter, ..stored }));
        }
        if copy.subs.is_empty() {
            self.sub_copies.pop_front();
        }
        Some(n + 1)
    }

    fn begin_session(&mut self, sessions: &Sessions, id: SessionId, each: &mut dyn FnMut(Item<'_>)) {
        let index = id.0.index();
        let Some(session) = sessions.get(id) else { return self.sessions_done.set(index) };
        let queue_len = self.queue_lens.remove(&index).unwrap_or_else(|| queue_len(session));
        match stored_session(session, self.now, self.stopping, queue_len) {
            Some(stored) => {
                each(Item::Session(stored));
                self.current = Some((id, EntryCursor::new(queue_len, session.last_id)));
            }
            None => self.sessions_done.set(index),
        }
    }

    fn give_entries(&mut self, sessions: &Sessions, most: usize, each: &mut dyn FnMut(Item<'_>)) -> usize {
        let Some((id, cursor)) = &mut self.current else { return 1 };
        let index = id.0.index();
        let mut given = 1;
        let done = sessions.get(*id).is_none_or(|session| {
            let client_id = session.client_id();
            session.flow.as_ref().is_none_or(|flow| {
                flow.stored(cursor, most, &mut |entry| {
                    given += 1;
                    each(Item::Entry(client_id, entry));
                })
            })
        });
        if done {
            self.sessions_done.set(index);
            self.current = None;
        }
        given
    }

    fn give_subs(&mut self, sessions: &Sessions, subs: &Subs, most: usize, each: &mut dyn FnMut(Item<'_>)) -> usize {
        let Some((id, cursor)) = &mut self.current_subs else { return 1 };
        let index = id.0.index();
        let client_id = sessions.get(*id).map_or("", |session| session.client_id());
        for given in 0..most {
            let Some(sub) = subs.next_of_session(cursor) else {
                self.subs_done.set(index);
                self.current_subs = None;
                return given + 1;
            };
            let filter = sub.full_filter();
            each(Item::Subscription(
                client_id,
                StoredSubscription { filter: &filter, options: sub.options, id: sub.id },
            ));
        }
        most
    }
}

#[cfg(test)]
mod tests;
