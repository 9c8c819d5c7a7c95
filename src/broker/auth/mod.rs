//! Who may connect, publish and read.

pub mod access;
pub mod acl;
#[cfg(feature = "argon2")]
pub mod argon2id;
pub mod exchange;
pub mod guard;
pub mod login;
pub mod password;

use access::Rules;
use password::Hash;

/// True when a client may publish to `topic`: `$SYS` belongs to the broker, except the bridge states, and `$share` is not
/// a topic.
#[must_use]
pub fn may_publish(topic: &str) -> bool {
    if !topic.starts_with('$') {
        return true;
    }
    if topic.starts_with("$SYS") {
        let middle = topic.strip_prefix("$SYS/broker/connection/").and_then(|rest| rest.strip_suffix("/state"));
        return middle.is_some_and(|level| !level.contains('/'));
    }
    !topic.starts_with("$share")
}

/// Who a client is by other means than its password, such as a certificate or an exchange of AUTH packets: this user name
/// takes the place of the one in CONNECT, and no password is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user name.
    pub username: Box<str>,
}

/// What the user name and the password in a CONNECT come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim<'a> {
    /// No password is needed.
    Welcome,
    /// Refused without a look at any password.
    Refused(Failure),
    /// The password decides, with this hash.
    Password {
        /// The user's hash, or for an unknown one somebody else's, so that the time does not tell.
        hash: &'a Hash,
        /// Whether the user is known; another is refused in any case.
        known: bool,
    },
}

/// Why a login is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Without a user name, or with one that no file could know, and that is not allowed.
    Anonymous,
    /// The user is not in the file.
    UnknownUser,
    /// The user gave no password, or an empty one.
    NoPassword,
    /// The password is another.
    WrongPassword,
    /// An exchange of AUTH packets came to nothing.
    Exchange,
}

impl Failure {
    /// True when it may be one of many attempts to guess a password.
    #[must_use]
    pub fn is_guess(self) -> bool {
        self != Failure::Anonymous
    }

    /// For the log.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Failure::Anonymous => "anonymous",
            Failure::UnknownUser => "unknown user",
            Failure::NoPassword => "no password",
            Failure::WrongPassword => "wrong password",
            Failure::Exchange => "authentication refused",
        }
    }
}

/// Judges what a client says of itself by the rules of its listener. `username` is `None` for an empty one, too; `choice`
/// is a number that comes from it. Without a password file a user name proves nothing, so it does not help.
#[must_use]
pub fn judge<'a>(
    rules: Option<&'a Rules>,
    username: Option<&str>,
    password: Option<&[u8]>,
    anonymous_allowed: bool,
    choice: u64,
) -> Claim<'a> {
    let passwords = rules.and_then(|rules| rules.passwords.as_deref());
    let (Some(username), Some(passwords)) = (username, passwords) else {
        return if anonymous_allowed { Claim::Welcome } else { Claim::Refused(Failure::Anonymous) };
    };
    if password.is_none_or(|password| password.is_empty() || password.starts_with(b"\0")) {
        return Claim::Refused(Failure::NoPassword);
    }
    match (passwords.find(username), passwords.decoy(choice)) {
        (Some(hash), _) => Claim::Password { hash, known: true },
        (None, Some(hash)) => Claim::Password { hash, known: false },
        (None, None) => Claim::Refused(Failure::UnknownUser),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_topics_belong_to_the_broker_except_bridge_states() {
        for (topic, allowed) in [
            ("a/b", true),
            ("$SYS/broker/uptime", false),
            ("$SYSfoo", false),
            ("$SYS/broker/connection/x/state", true),
            ("$SYS/broker/connection/x/y/state", false),
            ("$SYS/broker/connection//state", true),
            ("$share/a/b", false),
            ("$CONTROL/x", true),
            ("$other", true),
        ] {
            assert_eq!(may_publish(topic), allowed, "{topic}");
        }
    }

    /// `[security 1.2]`: user name, password and what comes of them, with and without a password file.
    #[test]
    fn who_may_connect() {
        let line = Hash::new(password::Scheme::Sha512, &[1; 12], b"right").unwrap();
        let file = password::Passwords::parse(format!("known:{line}\n").as_bytes()).unwrap();
        let rules = Rules { passwords: Some(file.into()), acl: None };
        let empty = Rules { passwords: Some(password::Passwords::default().into()), acl: None };
        let open = Rules::default();
        let refused = |failure| Claim::Refused(failure);
        let asked = |known| Claim::Password { hash: &line, known };
        for anonymous in [false, true] {
            let free = if anonymous { Claim::Welcome } else { refused(Failure::Anonymous) };
            for (rules, username, password, wanted) in [
                (&open, None, None, free),
                (&open, Some("known"), Some(&b"right"[..]), free),
                (&rules, None, None, free),
                (&rules, None, Some(b"right"), free),
                (&rules, Some("known"), Some(b"right"), asked(true)),
                (&rules, Some("known"), Some(b"wrong"), asked(true)),
                (&rules, Some("known"), None, refused(Failure::NoPassword)),
                (&rules, Some("known"), Some(b""), refused(Failure::NoPassword)),
                (&rules, Some("known"), Some(b"\0right"), refused(Failure::NoPassword)),
                (&rules, Some("unknown"), Some(b"right"), asked(false)),
                (&rules, Some("unknown"), None, refused(Failure::NoPassword)),
                (&empty, Some("unknown"), Some(b"right"), refused(Failure::UnknownUser)),
                (&empty, None, None, free),
            ] {
                assert_eq!(judge(Some(rules), username, password, anonymous, 7), wanted, "{username:?} {password:?}");
            }
            assert_eq!(judge(None, Some("known"), None, anonymous, 0), free);
        }
    }
}
