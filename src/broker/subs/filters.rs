//! The topic filters somebody subscribed to: filters without wildcards in one map keyed by the whole filter, so that
//! they cost one probe however deep the topic is; filters with wildcards in a trie, whose edges all live in one map
//! keyed (parent, level token). A publish meets only filters whose levels match so far: nobody can make foreign topics
//! slower. The map keys are the values in the arenas, nothing is stored twice.

use std::collections::BTreeMap;

use super::pool::{List, NONE, Pool, Slot};
use super::tokens::{HASH, Keys, PLUS, Tokens};
use crate::broker::index::Index;

const ROOT: u32 = 0;
/// A stack entry whose own filter matches, whatever stands below it.
const MATCHED: u32 = u32::MAX;
/// Scratch entries that are kept between publishes.
pub(super) const SCRATCH: usize = 1024;

/// A level of a filter with wildcards.
struct Node {
    parent: u32,
    token: u32,
    /// The filter that ends here.
    filter: u32,
    /// The number of children, and in the two top bits whether `+` and `#` are among them.
    children: u32,
}

impl Node {
    const HAS_PLUS: u32 = 1 << 31;
    const HAS_HASH: u32 = 1 << 30;

    fn new(parent: u32, token: u32) -> Node {
        Node { parent, token, filter: NONE, children: 0 }
    }

    const fn wildcard_bit(token: u32) -> u32 {
        match token {
            PLUS => Node::HAS_PLUS,
            HASH => Node::HAS_HASH,
            _ => 0,
        }
    }

    fn has_literals(&self) -> bool {
        let wildcards = (self.children & (Node::HAS_PLUS | Node::HAS_HASH)).count_ones();
        self.children & !(Node::HAS_PLUS | Node::HAS_HASH) > wildcards
    }
}

impl Default for Node {
    fn default() -> Node {
        Node::new(NONE, NONE)
    }
}

impl Slot for Node {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.parent
    }
}

/// Where the name of a filter is.
enum Name {
    Exact(Box<str>),
    Wild(u32),
}

/// A filter with its subscribers.
pub(super) struct Filter {
    name: Name,
    /// Normal subscriptions, in the order they were made.
    pub(super) subscribers: List,
    /// Groups of shared subscriptions.
    pub(super) groups: List,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { name: Name::Wild(NONE), subscribers: List::default(), groups: List::default() }
    }
}

impl Slot for Filter {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.subscribers.head
    }
}

/// Buffers of a walk, kept so that a publish allocates nothing.
#[derive(Default)]
pub(super) struct Scratch {
    stack: Vec<(u32, u32)>,
    levels: Vec<u32>,
}

#[cfg(test)]
impl Scratch {
    pub(super) fn levels_capacity(&self) -> usize {
        self.levels.capacity()
    }
}

/// See the module.
pub(super) struct Filters {
    keys: Keys,
    pub(super) tokens: Tokens,
    nodes: Pool<Node>,
    edges: Index<u32>,
    filters: Pool<Filter>,
    exact: Index<u32>,
}

impl std::ops::Index<u32> for Filters {
    type Output = Filter;

    fn index(&self, index: u32) -> &Filter {
        &self.filters[index]
    }
}

impl std::ops::IndexMut<u32> for Filters {
    fn index_mut(&mut self, index: u32) -> &mut Filter {
        &mut self.filters[index]
    }
}

/// The hash of a filter without wildcards.
fn exact_hash(keys: Keys, filter: &Filter) -> u64 {
    match &filter.name {
        Name::Exact(name) => keys.text(name),
        Name::Wild(_) => 0,
    }
}

fn has_wildcard(filter: &str) -> bool {
    filter.split('/').any(|level| level == "+" || level == "#")
}

impl Filters {
    pub(super) fn new(keys: [u64; 2]) -> Filters {
        let mut filters = Filters {
            keys: Keys(keys),
            tokens: Tokens::new(Keys(keys)),
            nodes: Pool::new(),
            edges: Index::default(),
            filters: Pool::new(),
            exact: Index::default(),
        };
        filters.nodes.insert(Node::new(NONE, NONE));
        filters
    }

    pub(super) const fn keys(&self) -> Keys {
        self.keys
    }

    fn child(&self, parent: u32, token: u32) -> Option<u32> {
        let same = |&node: &u32| self.nodes[node].parent == parent && self.nodes[node].token == token;
        self.edges.find(self.keys.pair(parent, token), same)
    }

    fn add_child(&mut self, parent: u32, level: &str) -> u32 {
        let token = self.tokens.intern(level);
        let node = self.nodes.insert(Node::new(parent, token));
        let above = &mut self.nodes[parent];
        above.children = (above.children + 1) | Node::wildcard_bit(token);
        let (keys, nodes) = (self.keys, &self.nodes);
        let rehash = |&node: &u32| keys.pair(nodes[node].parent, nodes[node].token);
        self.edges.insert(keys.pair(parent, token), node, rehash);
        node
    }

    /// Removes a node without children and filter, and then the nodes above it that nothing needs any more.
    fn prune(&mut self, mut node: u32) {
        while node != ROOT && self.nodes[node].children == 0 && self.nodes[node].filter == NONE {
            let Node { parent, token, .. } = self.nodes[node];
            let (keys, nodes) = (self.keys, &self.nodes);
            let hash_of = |&node: &u32| keys.pair(nodes[node].parent, nodes[node].token);
            self.edges.remove(keys.pair(parent, token), |&other| other == node, hash_of);
            self.nodes.remove(node);
            self.tokens.release(token);
            let above = &mut self.nodes[parent];
            above.children = (above.children - 1) & !Node::wildcard_bit(token);
            node = parent;
        }
    }

    /// The deepest node on the path of a filter, and the levels that have none.
    fn descend<'f>(&self, filter: &'f str) -> (u32, std::str::Split<'f, char>) {
        let mut node = ROOT;
        let mut levels = filter.split('/');
        loop {
            let rest = levels.clone();
            let Some(level) = levels.next() else { return (node, rest) };
            match self.tokens.find(level).and_then(|token| self.child(node, token)) {
                Some(child) => node = child,
                None => return (node, rest),
            }
        }
    }

    /// The filter, if anybody subscribed to it.
    pub(super) fn find(&self, filter: &str) -> Option<u32> {
        if has_wildcard(filter) {
            let (node, mut rest) = self.descend(filter);
            let index = self.nodes[node].filter;
            return (rest.next().is_none() && index != NONE).then_some(index);
        }
        let same = |&index: &u32| matches!(&self.filters[index].name, Name::Exact(name) if **name == *filter);
        self.exact.find(self.keys.text(filter), same)
    }

    /// The filter, made if need be, and the number of trie nodes this took; `None` when that would be more than
    /// `allowed`. A new filter has no subscribers: give it one, or call [`Filters::release`].
    pub(super) fn find_or_insert(&mut self, filter: &str, allowed: u32) -> Option<(u32, u32)> {
        if !has_wildcard(filter) {
            if let Some(index) = self.find(filter) {
                return Some((index, 0));
            }
            let index = self.filters.insert(Filter { name: Name::Exact(filter.into()), ..Filter::default() });
            let (keys, filters) = (self.keys, &self.filters);
            self.exact.insert(keys.text(filter), index, |&index| exact_hash(keys, &filters[index]));
            return Some((index, 0));
        }
        let (mut node, rest) = self.descend(filter);
        let missing = u32::try_from(rest.clone().count()).ok().filter(|missing| *missing <= allowed)?;
        for level in rest {
            node = self.add_child(node, level);
        }
        if self.nodes[node].filter == NONE {
            self.nodes[node].filter = self.filters.insert(Filter { name: Name::Wild(node), ..Filter::default() });
        }
        Some((self.nodes[node].filter, missing))
    }

    /// Removes a filter that has neither subscribers nor groups.
    pub(super) fn release(&mut self, index: u32) {
        if self.filters[index].subscribers.len > 0 || self.filters[index].groups.len > 0 {
            return;
        }
        if let Name::Wild(node) = self.filters[index].name {
            self.filters.remove(index);
            self.nodes[node].filter = NONE;
            return self.prune(node);
        }
        let (keys, filters) = (self.keys, &self.filters);
        let hash_of = |&index: &u32| exact_hash(keys, &filters[index]);
        self.exact.remove(hash_of(&index), |&other| other == index, hash_of);
        self.filters.remove(index);
    }

    /// The text of a filter.
    pub(super) fn name(&self, index: u32) -> String {
        let mut node = match &self.filters[index].name {
            Name::Exact(name) => return String::from(&**name),
            Name::Wild(node) => *node,
        };
        let mut levels = Vec::new();
        while node != ROOT {
            levels.push(self.tokens.name(self.nodes[node].token));
            node = self.nodes[node].parent;
        }
        levels.reverse();
        levels.join("/")
    }

    /// Every filter, in no particular order.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        let wild = self.edges.iter().map(|node| self.nodes[node].filter).filter(|&filter| filter != NONE);
        self.exact.iter().chain(wild)
    }

    /// Calls `hit` with every filter that matches the topic: the one that equals it, then those of the trie, at each
    /// level the name before `+` before `#`, deeper ones first. Returns the number of nodes visited.
    ///
    /// A wildcard at the root does not match a topic that starts with `$` [MQTT-4.7.2-1]; `#` also matches the level
    /// above it.
    pub(super) fn matches(&self, topic: &str, scratch: &mut Scratch, mut hit: impl FnMut(u32)) -> u32 {
        let mut visited = 1u32;
        let same = |&index: &u32| matches!(&self.filters[index].name, Name::Exact(name) if **name == *topic);
        if let Some(index) = self.exact.find(self.keys.text(topic), same) {
            hit(index);
        }
        if self.edges.is_empty() {
            return visited;
        }
        let Scratch { stack, levels } = scratch;
        // Levels are looked up when the walk first gets that deep: most topics leave the trie early.
        let mut unread = topic.split('/');
        levels.clear();
        let mut all_read = false;
        stack.clear();
        stack.push((ROOT, 0));
        while let Some((index, depth)) = stack.pop() {
            visited = visited.saturating_add(1);
            let node = &self.nodes[index];
            if depth == MATCHED {
                hit(node.filter);
                continue;
            }
            if depth as usize == levels.len() && !all_read {
                match unread.next() {
                    Some(level) => levels.push(self.tokens.find(level).unwrap_or(NONE)),
                    None => all_read = true,
                }
            }
            let hidden = index == ROOT && topic.starts_with('$');
            let hash = if node.children & Node::HAS_HASH != 0 && !hidden { self.child(index, HASH) } else { None };
            let hash = hash.filter(|&hash| self.nodes[hash].filter != NONE).map(|hash| (hash, MATCHED));
            let Some(&token) = levels.get(depth as usize) else {
                stack.extend((node.filter != NONE).then_some((index, MATCHED)));
                stack.extend(hash);
                continue;
            };
            stack.extend(hash);
            if node.children & Node::HAS_PLUS != 0 && !hidden {
                stack.extend(self.child(index, PLUS).map(|child| (child, depth + 1)));
            }
            // A level of a topic is never a wildcard, but this module does not rely on its caller for that.
            if node.has_literals() && token != NONE && token != PLUS && token != HASH {
                stack.extend(self.child(index, token).map(|child| (child, depth + 1)));
            }
        }
        levels.clear();
        stack.shrink_to(SCRATCH);
        levels.shrink_to(SCRATCH);
        visited
    }

    /// Slots in all arenas, used or not.
    #[cfg(test)]
    pub(super) fn arena_capacity(&self) -> usize {
        self.tokens.capacity() + self.nodes.capacity() + self.filters.capacity()
    }

    /// Whether one filter matches a topic.
    pub(super) fn matches_one(&self, index: u32, topic: &str, scratch: &mut Scratch) -> bool {
        let mut node = match &self.filters[index].name {
            Name::Exact(name) => return **name == *topic,
            Name::Wild(node) => *node,
        };
        let path = &mut scratch.levels;
        path.clear();
        while node != ROOT {
            path.push(self.nodes[node].token);
            node = self.nodes[node].parent;
        }
        if topic.starts_with('$') && matches!(path.last(), Some(&PLUS | &HASH)) {
            return false;
        }
        let mut levels = topic.split('/');
        for &token in path.iter().rev() {
            match levels.next() {
                _ if token == HASH => return true,
                Some(level) if token == PLUS || *level == *self.tokens.name(token) => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Panics when maps, counts and links disagree; `group_names` are the tokens that groups use.
    pub(super) fn check(&self, group_names: impl Iterator<Item = u32>) {
        let mut children = BTreeMap::<u32, u32>::new();
        let mut uses = BTreeMap::from([(PLUS, 1u32), (HASH, 1)]);
        for index in self.edges.iter() {
            let node = &self.nodes[index];
            assert_eq!(self.child(node.parent, node.token), Some(index));
            assert!(node.children != 0 || node.filter != NONE, "a node nothing needs");
            *children.entry(node.parent).or_default() += 1;
            *children.entry(node.parent).or_default() |= Node::wildcard_bit(node.token);
            *uses.entry(node.token).or_default() += 1;
        }
        for index in self.edges.iter().chain([ROOT]) {
            assert_eq!(self.nodes[index].children, children.get(&index).copied().unwrap_or(0));
        }
        assert_eq!(self.nodes.len(), self.edges.len() + 1);
        for name in group_names {
            *uses.entry(name).or_default() += 1;
        }
        self.tokens.check(&uses);
        let mut count = 0;
        for filter in self.all() {
            count += 1;
            assert_eq!(self.find(&self.name(filter)), Some(filter));
        }
        assert_eq!(self.filters.len(), count);
    }
}

/// The size of a trie node.
#[cfg(test)]
pub(super) const fn node_size() -> usize {
    size_of::<Node>()
}
