//! Which topic ids stand for which names, for both directions [SN 6.5].

use std::collections::BTreeMap;

use super::Topic;
use crate::proto::sn::wire::TopicRef;

/// Names a gateway may give a client to remember.
const MAX_NAMES: usize = 4096;

/// The normal topic ids of one session.
#[derive(Default)]
pub(super) struct Topics {
    /// What the gateway means by an id.
    names: BTreeMap<u16, String>,
    /// Ids to publish with; only those of this connection, since a gateway may have forgotten older ones.
    ids: BTreeMap<String, u16>,
}

/// The topic on the wire if it needs no table.
pub(super) fn without_table(topic: &Topic) -> Option<TopicRef> {
    match topic {
        Topic::Name(_) => None,
        Topic::Short(name) => Some(TopicRef::Short(*name)),
        Topic::Predefined(id) => Some(TopicRef::Predefined(*id)),
    }
}

impl Topics {
    /// A connection begins.
    pub(super) fn on_connected(&mut self, clean_session: bool) {
        self.ids.clear();
        if clean_session {
            self.names.clear();
        }
    }

    /// The topic on the wire; `None` if its name has no id yet.
    pub(super) fn sendable(&self, topic: &Topic) -> Option<TopicRef> {
        match topic {
            Topic::Name(name) => self.ids.get(name).map(|id| TopicRef::Normal(*id)),
            _ => without_table(topic),
        }
    }

    /// The topic of a message from the gateway; `None` if its id is unknown.
    pub(super) fn known(&self, topic: TopicRef) -> Option<Topic> {
        match topic {
            TopicRef::Normal(id) => self.names.get(&id).cloned().map(Topic::Name),
            TopicRef::Predefined(id) => Some(Topic::Predefined(id)),
            TopicRef::Short(name) => Some(Topic::Short(name)),
            TopicRef::Reserved(_) => None,
        }
    }

    /// The gateway gave a name an id. False when there is no room for it.
    pub(super) fn learn(&mut self, id: u16, name: &str) -> bool {
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(&id) {
            return false;
        }
        if let Some(old) = self.names.insert(id, name.into())
            && old != name
        {
            self.ids.remove(&old);
        }
        self.ids.insert(name.into(), id);
        true
    }

    /// The gateway does not know this id for publishing.
    pub(super) fn forget(&mut self, id: u16) {
        self.ids.retain(|_, known| *known != id);
    }
}
