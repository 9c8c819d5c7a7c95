//! The rules that passwords and access are decided by, as the files say: one set for the whole broker, or one for each
//! listener under `[conf: per_listener_settings]`.

use std::path::PathBuf;
use std::rc::Rc;

use super::acl::Acl;
use super::password::Passwords;

/// A set of rules; listeners and sessions refer to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RulesId(pub u16);

impl RulesId {
    /// The rules of the whole broker.
    pub const GLOBAL: RulesId = RulesId(0);
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
        match self.sets.get_mut(at) {
            Some(set) => *set = (files, rules),
            None => self.sets.push((files, rules)),
        }
        Some(id)
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
}
