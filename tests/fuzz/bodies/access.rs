//! Password and ACL files: reading them never panics, an error names a line there is, and what was read can be asked.

use mosquitto::broker::auth::acl::{Acl, Decision, Right, Who};
use mosquitto::broker::auth::password::{Hash, Passwords, split_line};

/// What hashes may cost that are really compared.
const CHEAP: u32 = 3;

/// First byte: which kind of file the rest is.
pub fn access(data: &[u8]) {
    match data.split_first() {
        Some((kind, text)) if kind & 1 == 0 => passwords(text),
        Some((_, text)) => acl(text),
        None => {}
    }
}

fn passwords(text: &[u8]) {
    let lines = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text).split(|b| *b == b'\n');
    let passwords = match Passwords::parse(text) {
        Ok(passwords) => passwords,
        Err(error) => {
            assert!((1..=lines.count()).contains(&(error.line as usize)));
            assert!(error.text("f").starts_with("password-file: Error: "));
            return;
        }
    };
    let mut found = 0;
    for (user, hash) in lines.filter_map(split_line) {
        let user = std::str::from_utf8(user).unwrap();
        let Some(known) = passwords.find(user) else { continue };
        found += 1;
        // What it is written as is read as the same.
        assert_eq!(Hash::parse(&known.to_string()).as_ref(), Ok(known));
        if let Hash::Sha512 { .. } = known {
            assert!(!known.verify(b""));
            let _either_way = known.verify(hash);
        }
        if matches!(known, Hash::Pbkdf2 { iterations, .. } if iterations.get() <= CHEAP) {
            let _either_way = known.verify(hash);
        }
    }
    assert!(found >= passwords.len());
    assert_eq!(passwords.decoy(found as u64).is_none(), passwords.is_empty());
}

fn acl(text: &[u8]) {
    let lines = text.split(|b| *b == b'\n').count();
    match Acl::parse(text) {
        Err(error) => {
            assert!((1..=lines).contains(&(error.line as usize)));
            assert!(error.text("f").starts_with("Error: "));
        }
        Ok((acl, _)) => {
            for username in [None, Some("u"), Some("a/b"), Some("+")] {
                for client_id in ["c", "a/b", "#", ""] {
                    for topic in ["a", "a/b", "a/b/c", "/", "$SYS/x", "c/u", "\u{fffd}"] {
                        for access in [Right::Read, Right::Write] {
                            let who = Who { client_id, username };
                            if let Decision::Allowed(line) | Decision::Denied(line) = acl.check(who, topic, access) {
                                assert!((1..=lines).contains(&(line as usize)), "{topic}");
                            }
                        }
                    }
                }
            }
        }
    }
}
