//! ACL files: reading never panics, a fault is named with its line, and the compiled rules answer as the lines do when they
//! are tried one after the other.

use std::str;

use mosquitto::broker::auth::acl::{Acl, Decision, Right, Who};
use mosquitto::wire::topic;

/// A rule as it stands in the file.
struct Rule<'a> {
    line: u32,
    user: Option<&'a str>,
    pattern: bool,
    grant: &'a str,
    filter: &'a str,
}

/// The input is a user name, a client id and a topic, each ended by a NUL byte, and the text of a file.
pub fn acl(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (user, id, name, text) = (part(), part(), part(), part());
    let acl = match Acl::parse(text) {
        Ok((acl, warnings)) => {
            let lines = text.split(|byte| *byte == b'\n').count();
            assert!(warnings.iter().all(|warning| (1..=lines).contains(&(warning.line as usize))));
            acl
        }
        Err(error) => {
            let lines = text.split(|byte| *byte == b'\n').count();
            assert!((1..=lines).contains(&(error.line as usize)), "line {}", error.line);
            let said = error.text("f");
            assert!(said.starts_with("Error: ") && said.contains("\"f\"") && !said.contains('\n'), "{said}");
            return;
        }
    };
    let [Ok(user), Ok(id), Ok(name)] = [user, id, name].map(str::from_utf8) else { return };
    if topic::check_name(name).is_err() {
        return;
    }
    let who = Who { username: Some(user).filter(|user| !user.is_empty()), client_id: id };
    let rules = rules(text);
    for right in [Right::Read, Right::Write] {
        let decision = acl.check(who, name, right);
        let expected = expect(&rules, who, name, right);
        match (decision, expected) {
            (Decision::Allowed(line), Ok(lines)) | (Decision::Denied(line), Err(lines)) => {
                assert!(lines.contains(&line), "{decision:?}, but {lines:?}");
            }
            (Decision::NoRule | Decision::DangerousUsername | Decision::DangerousClientId, Err(lines)) => {
                assert!(lines.is_empty(), "{decision:?}, but {lines:?}");
            }
            (decision, expected) => panic!("{decision:?}, but {expected:?}"),
        }
    }
}

/// The rules of a file without a fault.
fn rules(text: &[u8]) -> Vec<Rule<'_>> {
    let (mut rules, mut user) = (Vec::new(), None);
    for (line, text) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        // Only a comment may be no text.
        let text = str::from_utf8(text).unwrap_or_default().trim_ascii();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let rest = rest.trim_ascii();
        if word == "user" {
            user = Some(rest);
            continue;
        }
        let (grant, filter) = rest.split_once([' ', '\t']).unwrap_or(("readwrite", rest));
        rules.push(Rule { line, user, pattern: word == "pattern", grant, filter: filter.trim_ascii() });
    }
    rules
}

/// The lines that may have allowed it, or those that may have refused it.
fn expect(rules: &[Rule<'_>], who: Who<'_>, name: &str, right: Right) -> Result<Vec<u32>, Vec<u32>> {
    let wanted = if right == Right::Read { "read" } else { "write" };
    for pattern in [false, true] {
        let dangerous = |text: &str| text.contains(['+', '#']);
        if pattern && (who.username.is_some_and(dangerous) || dangerous(who.client_id)) {
            return Err(Vec::new());
        }
        let of = rules.iter().filter(|rule| rule.pattern == pattern && (pattern || rule.user == who.username));
        let hits: Vec<_> = of.filter(|rule| is_about(rule, who, name)).collect();
        let lines = |grants: &[&str]| -> Vec<u32> {
            hits.iter().filter(|rule| grants.contains(&rule.grant)).map(|rule| rule.line).collect()
        };
        let (denied, allowed) = (lines(&["deny"]), lines(&["readwrite", wanted]));
        if !denied.is_empty() {
            return Err(denied);
        }
        if !allowed.is_empty() {
            return Ok(allowed);
        }
    }
    Err(Vec::new())
}

fn is_about(rule: &Rule<'_>, who: Who<'_>, name: &str) -> bool {
    if name.starts_with('$') && !rule.filter.starts_with('$') {
        return false;
    }
    let mut levels = name.split('/');
    for part in rule.filter.split('/') {
        if part == "#" {
            return true;
        }
        let Some(level) = levels.next() else { return false };
        let same = match part {
            "+" => true,
            "%c" if rule.pattern => level == who.client_id && !level.is_empty(),
            "%u" if rule.pattern => who.username == Some(level) && !level.is_empty(),
            text => text == level,
        };
        if !same {
            return false;
        }
    }
    levels.next().is_none()
}
