//! Right control lists: the grammar of `[conf: acl_file]` and the answer to "may this client read or write this topic?".
//!
//! The rules of one section (a user's, those of clients without a name, the patterns) form a tree of topic levels, so a
//! check walks the topic and never sees the rules beside its way. A section's answer is: a matching `deny` refuses, else a
//! matching rule with the wanted right allows, else the next section is asked. Their order in the file does not matter.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::wire::topic::{self, levels};

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// A message is about to be delivered to it.
    Read,
    /// It publishes, or its will is published.
    Write,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// The user name; `None` for a client without one.
    pub username: Option<&'a str>,
    /// The client id.
    pub client_id: &'a str,
}

/// What decided about a right, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The rule on this line allows it.
    Allowed(u32),
    /// The `deny` rule on this line refuses it.
    Denied(u32),
    /// No rule is about it, which refuses it.
    NoRule,
    /// The user name holds a wildcard, so patterns could mean more than they say.
    DangerousUsername,
    /// The client id holds a wildcard.
    DangerousClientId,
}

impl Decision {
    /// True when it is allowed.
    #[must_use]
    pub fn allows(self) -> bool {
        matches!(self, Decision::Allowed(_))
    }
}

/// The rules of one file.
#[derive(Debug, Default)]
pub struct Acl {
    anonymous: Section,
    users: HashMap<Box<str>, Section>,
    patterns: Section,
}

/// What is wrong with a line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclError {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub kind: AclErrorKind,
}

/// The kinds of [`AclError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AclErrorKind {
    /// `topic` or `pattern` without a filter.
    EmptyTopic,
    /// The word where the access should stand.
    AccessType(String),
    /// No topic filter.
    Topic(String),
    /// `user` without a name.
    MissingUsername,
    /// A line that starts with this word.
    Line(String),
    /// Not UTF-8: no client could ever have such a name or topic.
    NotUtf8,
}

impl AclError {
    /// The line for the log about `file`.
    #[must_use]
    pub fn text(&self, file: &str) -> String {
        match &self.kind {
            AclErrorKind::EmptyTopic => format!("Error: Empty topic in acl_file \"{file}\"."),
            AclErrorKind::AccessType(word) => {
                format!("Error: Invalid topic access type \"{word}\" in acl_file \"{file}\".")
            }
            AclErrorKind::Topic(text) => format!("Error: Invalid ACL topic \"{text}\" in acl_file \"{file}\"."),
            AclErrorKind::MissingUsername => format!("Error: Missing username in acl_file \"{file}\"."),
            AclErrorKind::Line(word) => format!("Error: Invalid line in acl_file \"{file}\": {word}."),
            AclErrorKind::NotUtf8 => format!("Error: Malformed UTF-8 in acl_file \"{file}\"."),
        }
    }
}

/// What a rule grants or refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grant {
    Read,
    Write,
    ReadWrite,
    Deny,
}

/// The lines of the rules that end at one place of the tree; 0 for none.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    read: u32,
    write: u32,
    deny: u32,
}

impl Lines {
    fn add(&mut self, grant: Grant, line: u32) {
        let first = |at: &mut u32| {
            if *at == 0 {
                *at = line;
            }
        };
        match grant {
            Grant::Read => first(&mut self.read),
            Grant::Write => first(&mut self.write),
            Grant::ReadWrite => {
                first(&mut self.read);
                first(&mut self.write);
            }
            Grant::Deny => first(&mut self.deny),
        }
    }

    fn merge(&mut self, other: Lines) {
        for (mine, other) in
            [(&mut self.read, other.read), (&mut self.write, other.write), (&mut self.deny, other.deny)]
        {
            if *mine == 0 || (other != 0 && other < *mine) {
                *mine = other;
            }
        }
    }

    fn decide(self, right: Right) -> Option<Decision> {
        let allowed = match right {
            Right::Read => self.read,
            Right::Write => self.write,
        };
        match (self.deny, allowed) {
            (0, 0) => None,
            (0, line) => Some(Decision::Allowed(line)),
            (line, _) => Some(Decision::Denied(line)),
        }
    }
}

/// One level of the tree.
#[derive(Debug, Default)]
struct Node {
    literal: BTreeMap<Box<str>, u32>,
    /// Below `+`, `%c` and `%u`; 0 for nothing, as the root is below nothing.
    plus: u32,
    client_id: u32,
    username: u32,
    /// Rules that end here.
    exact: Lines,
    /// Rules that end with `#` at the next level.
    hash: Lines,
}

/// Rules that are asked together.
#[derive(Debug, Default)]
struct Section {
    /// The root first; empty when there is no rule.
    nodes: Vec<Node>,
}

impl Section {
    fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a rule. `%c` and `%u` stand for their values only in `patterns`, and only as a whole level.
    fn add(&mut self, filter: &str, patterns: bool, grant: Grant, line: u32) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0usize;
        for level in levels(filter) {
            let next = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
            let Some(node) = self.nodes.get_mut(at) else { return };
            let slot = match level {
                "#" => return node.hash.add(grant, line),
                "+" => &mut node.plus,
                "%c" if patterns => &mut node.client_id,
                "%u" if patterns => &mut node.username,
                text => node.literal.entry(text.into()).or_default(),
            };
            if *slot == 0 {
                *slot = next;
            }
            at = *slot as usize;
            if at == self.nodes.len() {
                self.nodes.push(Node::default());
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.exact.add(grant, line);
        }
    }

    /// Everything the rules say about `topic`.
    fn about(&self, who: Who<'_>, topic: &str) -> Lines {
        let mut found = Lines::default();
        if !self.is_empty() {
            self.walk(0, who, topic.starts_with('$'), levels(topic), &mut found);
        }
        found
    }

    /// Collects the rules at and below one node. The depth is that of the topic, at most 201 levels.
    fn walk(&self, at: u32, who: Who<'_>, broker_s: bool, mut rest: core::str::Split<'_, char>, found: &mut Lines) {
        let Some(node) = self.nodes.get(at as usize) else { return };
        #[cfg(test)]
        tests::VISITS.with(|visits| visits.set(visits.get() + 1));
        // Neither `#` nor anything else but its own text reaches a name that starts with `$`.
        let own_text_only = at == 0 && broker_s;
        if !own_text_only {
            found.merge(node.hash);
        }
        let Some(level) = rest.next() else { return found.merge(node.exact) };
        let mut go = |next: u32| {
            if next != 0 {
                self.walk(next, who, broker_s, rest.clone(), found);
            }
        };
        go(node.literal.get(level).copied().unwrap_or(0));
        if !own_text_only {
            go(node.plus);
            // An empty value would match an empty level, which nobody means.
            if !level.is_empty() && level == who.client_id {
                go(node.client_id);
            }
            if !level.is_empty() && Some(level) == who.username {
                go(node.username);
            }
        }
    }
}

impl Acl {
    /// Reads a file's content. Returns the rules and the warnings about them.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &[u8]) -> Result<(Acl, Vec<AclWarning>), AclError> {
        let mut acl = Acl::default();
        let mut warnings = Vec::new();
        let mut user: Option<Box<str>> = None;
        for (line, text) in (1u32..).zip(text.split(|&b| b == b'\n')) {
            let error = |kind| AclError { line, kind };
            let text = text.trim_ascii_end();
            if text.first() == Some(&b'#') {
                continue;
            }
            // A tab between the words and a comment behind blanks are kinder than C Mosquitto, which refuses both.
            let text = text.trim_ascii_start();
            if text.is_empty() || text.first() == Some(&b'#') {
                continue;
            }
            let text = std::str::from_utf8(text).map_err(|_| error(AclErrorKind::NotUtf8))?;
            let (keyword, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
            let rest = rest.trim_ascii();
            match keyword {
                "topic" | "pattern" => {
                    let pattern = keyword == "pattern";
                    let (grant, filter) = grant_and_filter(rest).map_err(error)?;
                    topic::check_filter(filter).map_err(|_| error(AclErrorKind::Topic(filter.into())))?;
                    if pattern && !levels(filter).any(|level| matches!(level, "%c" | "%u")) {
                        warnings.push(AclWarning { line, pattern: filter.into() });
                    }
                    let section = match &user {
                        _ if pattern => &mut acl.patterns,
                        None => &mut acl.anonymous,
                        Some(name) => acl.users.entry(name.clone()).or_default(),
                    };
                    section.add(filter, pattern, grant, line);
                }
                "user" if rest.is_empty() => return Err(error(AclErrorKind::MissingUsername)),
                "user" => {
                    user = Some(rest.into());
                    acl.users.entry(rest.into()).or_default();
                }
                word => return Err(error(AclErrorKind::Line(word.into()))),
            }
        }
        Ok((acl, warnings))
    }

    /// Decides about one right. That some topics belong to the broker is not its business; see
    /// [`Access::may`](super::access::Access::may).
    #[must_use]
    pub fn check(&self, who: Who<'_>, topic: &str, right: Right) -> Decision {
        let section = match who.username {
            None => Some(&self.anonymous),
            Some(name) => self.users.get(name),
        };
        if let Some(decision) = section.and_then(|section| section.about(who, topic).decide(right)) {
            return decision;
        }
        if self.patterns.is_empty() {
            return Decision::NoRule;
        }
        if who.username.is_some_and(|name| name.contains(['+', '#'])) {
            return Decision::DangerousUsername;
        }
        if who.client_id.contains(['+', '#']) {
            return Decision::DangerousClientId;
        }
        self.patterns.about(who, topic).decide(right).unwrap_or(Decision::NoRule)
    }
}

/// A pattern that holds for everybody alike, which may be a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclWarning {
    /// The line, from 1.
    pub line: u32,
    /// The pattern.
    pub pattern: String,
}

impl fmt::Display for AclWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Warning: ACL pattern '{}' does not contain '%c' or '%u'.", self.pattern)
    }
}

/// Splits `[read|write|readwrite|deny] FILTER`; without an access word the filter has no blanks.
fn grant_and_filter(rest: &str) -> Result<(Grant, &str), AclErrorKind> {
    if rest.is_empty() {
        return Err(AclErrorKind::EmptyTopic);
    }
    let Some((word, filter)) = rest.split_once([' ', '\t']) else { return Ok((Grant::ReadWrite, rest)) };
    let grant = match word {
        "read" => Grant::Read,
        "write" => Grant::Write,
        "readwrite" => Grant::ReadWrite,
        "deny" => Grant::Deny,
        _ => return Err(AclErrorKind::AccessType(word.into())),
    };
    Ok((grant, filter.trim_ascii()))
}

#[cfg(test)]
mod tests;
