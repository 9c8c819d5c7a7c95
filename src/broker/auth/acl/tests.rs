//! The grammar, the precedence, and a naive evaluation of the same file that must agree on random rules.

use super::*;

thread_local! {
    /// Nodes that checks on this thread have looked at.
    pub(super) static VISITS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn acl(text: &str) -> Acl {
    Acl::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{}", e.text("f"))).0
}

fn who<'a>(username: &'a str, client_id: &'a str) -> Who<'a> {
    Who { username: (!username.is_empty()).then_some(username), client_id }
}

#[test]
fn sections_and_precedence() {
    let text = "\
        topic read public/#\n\
        topic write in\n\
        # comment\n\
        \n\
        user alice\n\
        topic a/b\n\
        topic read c/+/d\n\
        topic deny c/x/#\n\
        topic readwrite with blanks in/it\n\
        user bob smith\r\n\
        topic write #\n\
        topic $SYS/#\n\
        user alice\n\
        topic write late\n\
        pattern read own/%c/%u/#\n\
        pattern deny own/%c/secret\n\
        pattern write dev/%u\n\
        pattern q%u/x\n";
    let acl = acl(text);
    use Right::{Read, Write};
    for (user, topic, access, allowed) in [
        ("", "public/x", Read, true),
        ("", "public", Read, true),
        ("", "public/x", Write, false),
        ("", "in", Write, true),
        ("", "in", Read, false),
        ("", "a/b", Read, false),
        ("alice", "public/x", Read, false),
        ("alice", "a/b", Read, true),
        ("alice", "a/b", Write, true),
        ("alice", "a/b/c", Write, false),
        ("alice", "c/y/d", Read, true),
        ("alice", "c/y/d", Write, false),
        ("alice", "c/x/d", Read, false),
        ("alice", "c/x", Read, false),
        ("alice", "with blanks in/it", Write, true),
        ("alice", "late", Write, true),
        ("alice", "own/me/alice/x", Read, true),
        ("alice", "own/me/bob/x", Read, false),
        ("alice", "own/me/alice", Write, false),
        ("alice", "own/me/secret", Read, false),
        ("alice", "dev/alice", Write, true),
        ("alice", "dev/bob", Write, false),
        ("alice", "q%u/x", Write, true),
        ("alice", "qalice/x", Write, false),
        ("", "dev/", Write, false),
        ("bob smith", "anything/at all", Write, true),
        ("bob smith", "anything", Read, false),
        ("bob smith", "$SYS/broker/uptime", Read, true),
        ("bob smith", "$CONTROL/x", Write, false),
        ("carol", "public/x", Read, false),
        ("carol", "own/me/carol/1", Read, true),
    ] {
        assert_eq!(acl.check(who(user, "me"), topic, access).allows(), allowed, "{user:?} {topic} {access:?}");
    }
}

#[test]
fn a_wildcard_in_a_name_does_not_widen_patterns() {
    let acl = acl("user u+\ntopic mine\npattern read x/%c\npattern read y/%u\n");
    assert_eq!(acl.check(who("u+", "c"), "mine", Right::Read), Decision::Allowed(2), "the user's own rules come first");
    assert_eq!(acl.check(who("u+", "c"), "x/c", Right::Read), Decision::DangerousUsername);
    assert_eq!(acl.check(who("u", "#"), "y/u", Right::Read), Decision::DangerousClientId);
    assert_eq!(acl.check(who("u", "a/b"), "x/a/b", Right::Read), Decision::NoRule);
    assert_eq!(self::acl("pattern read x/%u/%c\n").check(who("u", ""), "x/u/", Right::Read), Decision::NoRule);
    let without = self::acl("user u+\ntopic mine\n");
    assert_eq!(without.check(who("u+", "#"), "else", Right::Read), Decision::NoRule, "no pattern, no danger");
}

#[test]
fn the_broker_s_topics_need_rules_of_their_own() {
    let acl = acl("topic #\ntopic +/x\ntopic $SYS/broker/+\npattern %c/x\n");
    for (topic, allowed) in
        [("a", true), ("$SYS/x", false), ("$SYS/broker/uptime", true), ("$CONTROL/x", false), ("$SYS/broker", false)]
    {
        assert_eq!(acl.check(who("", "$CONTROL"), topic, Right::Read).allows(), allowed, "{topic}");
    }
}

#[test]
fn the_deciding_line_is_named() {
    let acl = acl("topic read a\ntopic a\ntopic deny b\ntopic b\n");
    assert_eq!(acl.check(who("", "c"), "a", Right::Read), Decision::Allowed(1));
    assert_eq!(acl.check(who("", "c"), "a", Right::Write), Decision::Allowed(2));
    assert_eq!(acl.check(who("", "c"), "b", Right::Write), Decision::Denied(3));
}

#[test]
fn bad_lines_are_named() {
    for (text, error) in [
        ("topic\n", "Error: Empty topic in acl_file \"f\"."),
        ("topic   \n", "Error: Empty topic in acl_file \"f\"."),
        ("pattern\n", "Error: Empty topic in acl_file \"f\"."),
        ("topic a b\n", "Error: Invalid topic access type \"a\" in acl_file \"f\"."),
        ("topic READ b\n", "Error: Invalid topic access type \"READ\" in acl_file \"f\"."),
        ("topic read a#\n", "Error: Invalid ACL topic \"a#\" in acl_file \"f\"."),
        ("pattern %c/#/x\n", "Error: Invalid ACL topic \"%c/#/x\" in acl_file \"f\"."),
        ("user\n", "Error: Missing username in acl_file \"f\"."),
        ("users x\n", "Error: Invalid line in acl_file \"f\": users."),
        ("Topic x\n", "Error: Invalid line in acl_file \"f\": Topic."),
    ] {
        let error_found = Acl::parse(format!("# first\n{text}").as_bytes()).expect_err(text);
        assert_eq!(error_found.text("f"), error);
        assert_eq!(error_found.line, 2);
    }
    assert_eq!(Acl::parse(b"topic \xff").expect_err("no text").kind, AclErrorKind::NotUtf8);
    assert!(Acl::parse(b"").is_ok_and(|(acl, _)| !acl.check(who("", ""), "a", Right::Read).allows()));
}

#[test]
fn one_word_is_the_filter_and_patterns_without_placeholder_are_told() {
    let (acl, warnings) = Acl::parse(b"topic read\npattern read all/#\npattern x/%uu\n").expect("fine");
    assert!(acl.check(who("", ""), "read", Right::Write).allows());
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "Warning: ACL pattern 'all/#' does not contain '%c' or '%u'.",
            "Warning: ACL pattern 'x/%uu' does not contain '%c' or '%u'."
        ]
    );
}

/// Rules as a list, tried one after the other as the file's description says.
fn naive(rules: &[(String, bool, Grant, String)], who: Who<'_>, topic: &str, right: Right) -> bool {
    let matches = |pattern: bool, filter: &str| {
        let mut text = Vec::new();
        for level in levels(filter) {
            text.push(match level {
                "%c" if pattern => who.client_id,
                "%u" if pattern => match who.username {
                    Some(name) => name,
                    None => return false,
                },
                other => other,
            });
        }
        if pattern && text.len() != levels(&text.join("/")).count() {
            return false;
        }
        // A rule that starts with a placeholder does not start with `$`, whatever its value.
        let first = filter.starts_with('$') == topic.starts_with('$');
        first && topic::matches(&text.join("/"), topic)
    };
    let grants = |grant: Grant| match right {
        Right::Read => matches!(grant, Grant::Read | Grant::ReadWrite),
        Right::Write => matches!(grant, Grant::Write | Grant::ReadWrite),
    };
    for pattern in [false, true] {
        let of_section = |rule: &&(String, bool, Grant, String)| {
            rule.1 == pattern && (pattern || rule.0 == who.username.unwrap_or_default())
        };
        let hits = || rules.iter().filter(of_section).filter(|rule| matches(rule.1, &rule.3));
        if hits().any(|rule| rule.2 == Grant::Deny) {
            return false;
        }
        if hits().any(|rule| grants(rule.2)) {
            return true;
        }
        if !pattern && (who.client_id.contains(['+', '#']) || who.username.is_some_and(|u| u.contains(['+', '#']))) {
            return false;
        }
    }
    false
}

#[test]
fn agrees_with_the_rules_tried_one_by_one() {
    let mut seed = 0x9E37_79B9_7F4A_7C15u64;
    let mut below = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % n as u64).expect("small")
    };
    let words = ["a", "b", "c", "u", "", "$SYS", "%c", "%u", "+", "#"];
    let mut allowed = 0;
    for _ in 0..2000 {
        let mut rules = Vec::new();
        let mut text = String::new();
        for user in ["", "u", "v+"] {
            if !user.is_empty() {
                text += &format!("user {user}\n");
            }
            for _ in 0..below(5) {
                let mut filter = (0..=below(3)).map(|_| words[below(9)]).collect::<Vec<_>>().join("/");
                if below(4) == 0 {
                    filter += "/#";
                }
                if filter.is_empty() {
                    continue;
                }
                let (word, grant) = [
                    ("read", Grant::Read),
                    ("write", Grant::Write),
                    ("readwrite", Grant::ReadWrite),
                    ("deny", Grant::Deny),
                ][below(4)];
                let pattern = below(3) == 0;
                text += &format!("{} {word} {filter}\n", if pattern { "pattern" } else { "topic" });
                rules.push((user.to_string(), pattern, grant, filter));
            }
        }
        let acl = acl(&text);
        for _ in 0..20 {
            let topic = (0..=below(3)).map(|_| words[below(6)]).collect::<Vec<_>>().join("/");
            if topic.is_empty() {
                continue;
            }
            let who = who(["", "u", "v+", "a"][below(4)], ["c", "a", "x#", "b"][below(4)]);
            for access in [Right::Read, Right::Write] {
                let expected = naive(&rules, who, &topic, access);
                allowed += usize::from(expected);
                assert_eq!(acl.check(who, &topic, access).allows(), expected, "{who:?} {access:?} {topic}\n{text}");
            }
        }
    }
    assert!(allowed > 1000, "the cases are about something: {allowed}");
}

#[test]
fn a_check_costs_what_applies_however_many_rules_there_are() {
    use std::fmt::Write;
    let cost = |rules: usize| {
        let mut text = String::from("user ann\ntopic read a/+/c\n");
        for n in 0..rules {
            writeln!(text, "topic read x{n}/#\ntopic deny a/b{n}\ntopic a/b/c/{n}\npattern write p{n}/%u").unwrap();
        }
        for n in 0..rules {
            writeln!(text, "user u{n}\ntopic read #").unwrap();
        }
        let acl = acl(&text);
        VISITS.set(0);
        assert_eq!(acl.check(who("ann", "c"), "a/b/c", Right::Read), Decision::Allowed(2));
        assert_eq!(acl.check(who("ann", "c"), "none/of/these", Right::Write), Decision::NoRule);
        VISITS.get()
    };
    assert_eq!(cost(2000), cost(1));
}
