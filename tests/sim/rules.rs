//! Rules of access for some of the runs: what the broker is told, and what nobody may ever see, worked out on its own.

use std::rc::Rc;

use mosquitto::broker::auth::access::{Access, RuleFiles, Rules};
use mosquitto::broker::auth::acl::Acl;
use mosquitto::wire::topic;

/// Users of the noisy clients; nobody else has a name.
pub(crate) const USERS: [&str; 3] = ["", "u", "v"];

/// What each user may read under each of the sets that a reload changes between.
const READ: [[&[&str]; 2]; 2] = [[&["n/a/#", "will/x"], &["n/b/#", "n"]], [&["n/b/#"], &["n/a/#", "n/b", "$SYS/#"]]];

/// What each may publish, always.
const WRITE: [&[&str]; 2] = [&["n/#", "will/x"], &["n/a", "will/x"]];

fn at(user: &str) -> Option<usize> {
    USERS.iter().skip(1).position(|other| *other == user)
}

/// The rules as the broker takes them. Who has no name may do everything.
pub(crate) fn access(set: usize) -> Access {
    let mut text = String::from("topic #\ntopic $SYS/#\ntopic $CONTROL/#\n");
    for user in &USERS[1..] {
        let at = at(user).expect("one of them");
        text += &format!("user {user}\n");
        READ[set][at].iter().for_each(|filter| text += &format!("topic read {filter}\n"));
        WRITE[at].iter().for_each(|filter| text += &format!("topic write {filter}\n"));
    }
    let acl = Some(Rc::new(Acl::parse(text.as_bytes()).expect("rules").0));
    let mut access = Access::default();
    access.set_global(RuleFiles::default(), Rules { acl, ..Rules::default() });
    access
}

/// Whether the user may read this under a set.
pub(crate) fn may_read(set: usize, user: &str, name: &str) -> bool {
    at(user).is_none_or(|user| READ[set][user].iter().any(|filter| topic::matches(filter, name)))
}

/// Whether the user may publish this.
pub(crate) fn may_write(user: &str, name: &str) -> bool {
    at(user).is_none_or(|user| WRITE[user].iter().any(|filter| topic::matches(filter, name)))
}
