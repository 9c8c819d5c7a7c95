//! Who may connect, publish and read. So far the rules that hold without any password or ACL file.

pub mod access;
pub mod acl;
#[cfg(feature = "argon2")]
pub mod argon2id;
pub mod guard;
pub mod password;

/// Who a client is by other means than its password, such as a certificate or an exchange of AUTH packets: this user name
/// takes the place of the one in CONNECT, and no password is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user name.
    pub username: Box<str>,
}

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

/// True when a client that gave `username` (`None` or empty is anonymous) may connect. Without a password file a user
/// name proves nothing, so it does not help.
#[must_use]
pub fn may_connect(_username: Option<&str>, anonymous_allowed: bool) -> bool {
    anonymous_allowed
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
}
