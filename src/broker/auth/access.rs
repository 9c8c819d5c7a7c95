//! The rules that passwords and access are decided by, as the files say: one set for the whole broker, or one for each
//! listener under `[conf: per_listener_settings]`. [`Access::may`] is the one place that decides who may publish and read
//! what.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::acl::{Acl, Decision, Right, Who};
use super::password::Passwords;
use crate::broker::message::{Msg, Source};
use crate::notice;

/// A set of rules; listeners and sessions refer to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RulesId(pub u16);

impl RulesId {
    /// The rules of the whole broker.
    pub const GLOBAL: RulesId = RulesId(0);
    /// The session of a bridge of this broker: no file has a say, what it carries is the operator's choice
    /// `[conf: topic]`.
    pub const BRIDGE: RulesId = RulesId(u16::MAX);
}

/// Who may connect, and what they may do; without a file everything that the other rules leave open.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `[conf: password_file]`.
    pub passwords: Option<Rc<Passwords>>,
    /// `[conf: acl_file]`.
    pub acl: Option<Rc<Acl>>,
}

/// The files that a set of rules comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFiles {
    /// `[conf: password_file]`.
    pub passwords: Option<PathBuf>,
    /// `[conf: acl_file]`.
    pub acl: Option<PathBuf>,
}

/// Every set of rules there is. The first holds for the whole broker; the others belong to listeners and keep their number
/// over reloads, also when no listener has them any more: sessions that came in there still do.
#[derive(Clone, Debug, Default)]
pub struct Access {
    sets: Vec<(RuleFiles, Rules)>,
    /// Some set has rules about topics.
    restricts: bool,
    /// Port and rules of each listener under `[conf: per_listener_settings]`; without it the global rules hold everywhere.
    listeners: Option<Vec<(u16, RulesId)>>,
}

impl Access {
    /// The rules with this number.
    #[must_use]
    pub fn rules(&self, id: RulesId) -> Option<&Rules> {
        self.sets.get(usize::from(id.0)).map(|(_, rules)| rules)
    }

    /// Puts the rules of the whole broker in force.
    pub fn set_global(&mut self, files: RuleFiles, rules: Rules) {
        match self.sets.first_mut() {
            Some(first) => *first = (files, rules),
            None => self.sets.push((files, rules)),
        }
        self.note_restrictions();
    }

    /// Puts the rules that come from `files` in force for listeners, in the place of those that came from the same files
    /// before. `None` when there are too many sets.
    pub fn set_listener(&mut self, files: RuleFiles, rules: Rules) -> Option<RulesId> {
        if self.sets.is_empty() {
            self.sets.push(Default::default());
        }
        let at = self.sets.iter().skip(1).position(|(other, _)| *other == files).map(|at| at + 1);
        let at = at.unwrap_or(self.sets.len());
        let id = RulesId(u16::try_from(at).ok()?);
        if id == RulesId::BRIDGE {
            return None;
        }
        match self.sets.get_mut(at) {
            Some(set) => *set = (files, rules),
            None => self.sets.push((files, rules)),
        }
        self.note_restrictions();
        Some(id)
    }

    fn note_restrictions(&mut self) {
        self.restricts = self.sets.iter().any(|(_, rules)| rules.acl.is_some());
    }

    /// Says which listener has which rules; `None` when the global ones hold for all.
    pub fn set_listeners(&mut self, listeners: Option<Vec<(u16, RulesId)>>) {
        self.listeners = listeners;
    }

    /// The rules of the listener with this port, of the first if there are several; `None` when there is none any more.
    #[must_use]
    pub fn at_port(&self, port: u16) -> Option<RulesId> {
        match &self.listeners {
            None => Some(RulesId::GLOBAL),
            Some(all) => all.iter().find(|(other, _)| *other == port).map(|(_, rules)| *rules),
        }
    }

    /// The rules that a session is under which has `now` and came in at this port: of several listeners with the port, as
    /// of UNIX sockets, the one that has these; when there is none any more, what its clients had stays.
    #[must_use]
    pub fn follow(&self, port: u16, now: RulesId) -> RulesId {
        let has_both = |all: &Vec<_>| all.contains(&(port, now));
        if self.listeners.as_ref().is_some_and(has_both) { now } else { self.at_port(port).unwrap_or(now) }
    }

    /// True when some rules are about topics: without that nobody's reading has to be checked.
    #[must_use]
    pub fn restricts(&self) -> bool {
        self.restricts
    }

    /// Decides whether a client may do something with a topic: first by the rules of the broker itself, then by the
    /// client's. The topic is the whole one, mount point included.
    #[must_use]
    pub fn may(&self, rules: RulesId, who: Who<'_>, topic: &str, right: Right) -> bool {
        if rules == RulesId::BRIDGE {
            // Nobody administers this broker from another one, and `$share` is not a topic.
            return right == Right::Read || !(topic.starts_with("$CONTROL") || topic.starts_with("$share"));
        }
        if right == Right::Write && !super::may_publish(topic) {
            return false;
        }
        if !self.restricts {
            return true;
        }
        let set = self.sets.get(usize::from(rules.0));
        let Some((files, Rules { acl: Some(acl), .. })) = set else { return true };
        let decision = acl.check(who, topic, right);
        log_decision(files, who, topic, right, decision);
        decision.allows()
    }

    /// Whether whoever published a retained message still may, by the rules of its listener now
    /// `[conf: check_retain_source]`. One whose listener is gone may not; what has no source, as from the broker, is
    /// exempt.
    #[must_use]
    pub fn source_may(&self, msg: &Msg) -> bool {
        let Some(Source { client_id, username, port }) = msg.source().filter(|_| self.restricts) else { return true };
        let may = |rules| self.may(rules, Who { username, client_id }, msg.topic(), Right::Write);
        self.at_port(port).is_some_and(may)
    }
}

/// Names the rule that decided.
fn log_decision(files: &RuleFiles, who: Who<'_>, topic: &str, right: Right, decision: Decision) {
    match (decision, who.username) {
        (Decision::DangerousUsername, Some(name)) => {
            notice!("ACL denying access to client with dangerous username \"{name}\"");
        }
        (Decision::DangerousClientId, _) => {
            notice!("ACL denying access to client with dangerous client id \"{}\"", who.client_id);
        }
        _ => {}
    }
    if log::log_enabled!(log::Level::Debug) {
        let file = files.acl.as_deref().unwrap_or(Path::new("")).display();
        let (client, user) = (who.client_id, who.username.map(|name| format!(", user {name}")).unwrap_or_default());
        let may = if decision.allows() { "may" } else { "may not" };
        let verb = if right == Right::Read { "read" } else { "write" };
        let line = match decision {
            Decision::Allowed(line) | Decision::Denied(line) => format!("{file}:{line}"),
            Decision::NoRule => format!("{file}, which has no rule for it"),
            Decision::DangerousUsername | Decision::DangerousClientId => format!("{file}, which has patterns"),
        };
        log::debug!("Client {client}{user} {may} {verb} '{topic}' by {line}.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_listeners_keep_their_numbers() {
        let files = |name: &str| RuleFiles { passwords: Some(name.into()), acl: None };
        let mut access = Access::default();
        assert!(access.rules(RulesId::GLOBAL).is_none());
        assert_eq!(access.set_listener(files("a"), Rules::default()), Some(RulesId(1)));
        assert_eq!(access.set_listener(files("b"), Rules::default()), Some(RulesId(2)));
        access.set_global(files("a"), Rules { acl: Some(Rc::default()), ..Rules::default() });
        assert_eq!(access.set_listener(files("a"), Rules::default()), Some(RulesId(1)));
        assert!(access.rules(RulesId(1)).is_some_and(|rules| rules.acl.is_none()));
        assert!(access.rules(RulesId::GLOBAL).is_some_and(|rules| rules.acl.is_some()));
    }

    #[test]
    fn a_listener_is_found_by_its_port() {
        let mut access = Access::default();
        assert_eq!(access.at_port(7), Some(RulesId::GLOBAL));
        access.set_listeners(Some(vec![(1, RulesId(4)), (2, RulesId(5)), (1, RulesId(6))]));
        assert_eq!(
            (access.at_port(1), access.at_port(2), access.at_port(7)),
            (Some(RulesId(4)), Some(RulesId(5)), None)
        );
    }

    #[test]
    fn the_broker_s_own_rules_come_first_and_each_set_has_its_own() {
        let acl = |text: &str| Some(Rc::new(Acl::parse(text.as_bytes()).expect("rules").0));
        let files = |name: &str| RuleFiles { passwords: None, acl: Some(name.into()) };
        let mut access = Access::default();
        let who = Who { username: None, client_id: "c" };
        let may = |access: &Access, rules, topic, right| access.may(RulesId(rules), who, topic, right);
        assert!(may(&access, 0, "$SYS/x", Right::Read) && may(&access, 9, "a", Right::Write) && !access.restricts());
        assert!(!may(&access, 0, "$SYS/x", Right::Write) && !may(&access, 0, "$share/g/a", Right::Write));
        access.set_global(files("g"), Rules { acl: acl("topic #\ntopic $SYS/#\n"), ..Rules::default() });
        let own = Rules { acl: acl("topic read a\n"), ..Rules::default() };
        assert_eq!(access.set_listener(files("l"), own), Some(RulesId(1)));
        let open = access.set_listener(RuleFiles::default(), Rules::default()).expect("a third set").0;
        assert!(access.restricts());
        for (rules, topic, right, allowed) in [
            (0, "a", Right::Write, true),
            (0, "$SYS/x", Right::Read, true),
            (0, "$SYS/x", Right::Write, false),
            (0, "$SYS/broker/connection/b/state", Right::Write, true),
            (0, "$CONTROL/broker/v1", Right::Write, false),
            (1, "a", Right::Read, true),
            (1, "a", Right::Write, false),
            (1, "b", Right::Read, false),
            (1, "$SYS/broker/connection/b/state", Right::Write, false),
            (open, "b", Right::Write, true),
            (open, "$CONTROL/broker/v1", Right::Write, true),
        ] {
            assert_eq!(may(&access, rules, topic, right), allowed, "{rules} {topic} {right:?}");
        }
    }
}
