//! The retained messages, ordered by topic, so that a wildcard filter finds its topics by seeking from one candidate to
//! the next and a long replay can stop and go on later.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Included, Unbounded};

use super::message::Msg;
use crate::timer::Now;

/// A message ordered by its topic alone, which is thus stored once.
struct Entry(Msg);

impl Borrow<str> for Entry {
    fn borrow(&self) -> &str {
        self.0.topic()
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        self.0.topic().cmp(other.0.topic())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

/// How far a scan or sweep got; the default is the beginning. It holds a topic, not a message, so a replay that waits
/// keeps no message alive that was replaced or removed meanwhile, and it may lie between topics when a slice ended
/// without a hit.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Cursor {
    at: String,
    /// Go on behind `at`, not with it.
    past: bool,
}

impl Cursor {
    fn set(&mut self, parts: [&str; 3], past: bool) {
        self.at.clear();
        self.at.extend(parts);
        self.past = past;
    }

    fn started(&self) -> bool {
        self.past || !self.at.is_empty()
    }
}

/// One step of a scan or sweep.
#[derive(Clone, Debug)]
pub enum Step {
    /// The next message.
    Hit(Msg),
    /// There are no more.
    Done,
    /// The budget is used up; go on later with the same cursor.
    OutOfBudget,
}

/// What a topic says about the next one that can match.
#[derive(Debug, PartialEq, Eq)]
enum Verdict<'t> {
    Match,
    /// The first topic that is equal to or behind these parts put together.
    Seek([&'t str; 3]),
    /// The next topic there is.
    Next,
    Done,
}

/// The retained messages, at most one a topic.
#[derive(Default)]
pub struct Retained {
    messages: BTreeSet<Entry>,
}

impl Retained {
    /// An empty store.
    #[must_use]
    pub const fn new() -> Retained {
        Retained { messages: BTreeSet::new() }
    }

    /// The number of retained messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Stores a message under its topic and returns the one it replaces [MQTT-3.3.1-5].
    pub fn insert(&mut self, msg: Msg) -> Option<Msg> {
        self.messages.replace(Entry(msg)).map(|old| old.0)
    }

    /// Removes the message of a topic [MQTT-3.3.1-6].
    pub fn remove(&mut self, topic: &str) -> Option<Msg> {
        self.messages.take(topic).map(|old| old.0)
    }

    /// The message of a topic.
    #[must_use]
    pub fn get(&self, topic: &str) -> Option<&Msg> {
        self.messages.get(topic).map(|entry| &entry.0)
    }

    /// Every message in the order of the topics.
    pub fn iter(&self) -> impl Iterator<Item = &Msg> {
        self.messages.iter().map(|entry| &entry.0)
    }

    /// The messages behind a topic, or all of them, in the order of the topics.
    pub fn behind(&self, topic: Option<&str>) -> impl Iterator<Item = &Msg> {
        let from = topic.map_or(Unbounded, Excluded);
        self.messages.range::<str, _>((from, Unbounded)).map(|entry| &entry.0)
    }

    /// The next message whose topic matches the filter, in the order of the topics. Each look-up takes 1 of `budget`,
    /// also those that only skip topics. The store may change between the calls: a topic that stays in it is given
    /// exactly once. Whether a message expired is left to the caller.
    ///
    /// A wildcard at the root does not match a topic that starts with `$` [MQTT-4.7.2-1]; `#` also matches the level
    /// above it.
    pub fn scan(&self, filter: &str, cursor: &mut Cursor, budget: &mut u32) -> Step {
        let exact = !filter.split('/').any(|level| level == "+" || level == "#");
        if exact && cursor.started() {
            return Step::Done;
        }
        loop {
            let Some(left) = budget.checked_sub(1) else { return Step::OutOfBudget };
            *budget = left;
            if exact {
                cursor.set(["", filter, ""], true);
                return self.get(filter).cloned().map_or(Step::Done, Step::Hit);
            }
            let Some(msg) = self.seek(cursor).next() else { return Step::Done };
            let topic = msg.topic();
            match judge(filter, topic) {
                Verdict::Match => {
                    cursor.set(["", topic, ""], true);
                    return Step::Hit(msg.clone());
                }
                Verdict::Seek(parts) => cursor.set(parts, false),
                Verdict::Next => cursor.set(["", topic, ""], true),
                Verdict::Done => return Step::Done,
            }
        }
    }

    /// Removes and returns the next message that has expired; each one looked at takes 1 of `budget`. The store may
    /// change between the calls.
    pub fn sweep(&mut self, now: Now, cursor: &mut Cursor, budget: &mut u32) -> Step {
        let mut last: Option<&Msg> = None;
        let step = 'walk: {
            for msg in self.seek(cursor) {
                let Some(left) = budget.checked_sub(1) else { break 'walk Step::OutOfBudget };
                *budget = left;
                last = Some(msg);
                if msg.expired(now) {
                    break 'walk Step::Hit(msg.clone());
                }
            }
            Step::Done
        };
        if let Some(last) = last {
            cursor.set(["", last.topic(), ""], true);
        }
        if let Step::Hit(msg) = &step {
            self.remove(msg.topic());
        }
        step
    }

    fn seek(&self, cursor: &Cursor) -> impl Iterator<Item = &Msg> {
        let at = cursor.at.as_str();
        let from = if cursor.past { Excluded(at) } else { Included(at) };
        self.messages.range::<str, _>((from, Unbounded)).map(|entry| &entry.0)
    }
}

/// Whether a topic matches a filter with wildcards, and if not, where the next one that does can be.
///
/// Topics below `a` are those that start with `a/`: one block, but not next to `a` itself, since `a-` and `a.` sort
/// before `a/`. Behind the block stands what starts with `a0`, the character after the slash.
fn judge<'t>(filter: &'t str, topic: &'t str) -> Verdict<'t> {
    const BEHIND_SLASH: &str = "0";
    const BEHIND_DOLLAR: &str = "%";
    // The end of the level that the deepest `+` stands for: where to go on when nothing below it can match any more.
    let mut deepest_plus = None;
    let behind = |end: Option<usize>| match end {
        Some(end) => Verdict::Seek(["", topic.get(..end).unwrap_or_default(), BEHIND_SLASH]),
        None => Verdict::Done,
    };
    let mut levels = filter.split('/').peekable();
    // Where the level begins in the topic.
    let mut start = 0;
    while let Some(level) = levels.next() {
        let rest = topic.get(start..).unwrap_or_default();
        if start == 0 && topic.starts_with('$') && (level == "+" || level == "#") {
            return Verdict::Seek(["", "", BEHIND_DOLLAR]);
        }
        let is_last = levels.peek().is_none();
        let parent_matches = levels.peek() == Some(&"#");
        match level {
            "#" => return Verdict::Match,
            "+" => match rest.find('/') {
                None if is_last || parent_matches => return Verdict::Match,
                None => return Verdict::Next,
                Some(len) if is_last => return behind(Some(start + len)),
                Some(len) => {
                    deepest_plus = Some(start + len);
                    start += len + 1;
                }
            },
            _ => {
                let above = topic.get(..start).unwrap_or_default();
                let below = rest.strip_prefix(level).map(|below| (below, below.starts_with('/')));
                match below {
                    Some(("", _)) if is_last || parent_matches => return Verdict::Match,
                    Some((_, true)) if !is_last => start += level.len() + 1,
                    _ if rest < level && (is_last || parent_matches) => return Verdict::Seek([above, level, ""]),
                    _ if !is_last && rest.bytes().lt(level.bytes().chain([b'/'])) => {
                        return Verdict::Seek([above, level, "/"]);
                    }
                    _ => return behind(deepest_plus),
                }
            }
        }
    }
    Verdict::Done
}

#[cfg(test)]
mod tests;
