//! Giving up root at start.

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;

use super::errors::describe;

/// Who the broker runs as after [`drop_privileges`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// It was not started as root, or the snap set the user already: nothing was changed.
    Unchanged,
    /// Still root, as configured. Deserves a warning.
    Root,
    /// The named user.
    Name(String),
    /// The user id of `PUID`.
    Id(u32),
}

/// Why privileges could not be dropped. `Display` is the line to log.
#[derive(Debug)]
pub enum UserError {
    /// `[conf: user]` names nobody.
    Unknown(String),
    /// Neither the default user nor `nobody` exists.
    NoFallback,
    /// `PUID` or `PGID` is not a number, or none that fits.
    BadId(&'static str, String),
    /// `PUID` or `PGID` is below 0.
    NegativeId(&'static str),
    /// The system refused; the first field says what.
    Refused(&'static str, io::Error),
}

impl UserError {
    /// The exit status of the process.
    #[must_use]
    pub fn exit_status(&self) -> i32 {
        match self {
            UserError::Unknown(_) | UserError::BadId(..) | UserError::NegativeId(_) => 3,
            UserError::NoFallback | UserError::Refused(..) => 14,
        }
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserError::Unknown(user) => {
                write!(f, "Error: Unable to drop privileges to '{user}' because this user does not exist.")
            }
            UserError::NoFallback => {
                f.write_str("Error: Unable to drop privileges to 'nobody' because this user does not exist.")
            }
            UserError::BadId(name, text) => write!(f, "Error: {name} not a valid ID '{text}'"),
            UserError::NegativeId(name) => write!(f, "Error: {name} must not be negative"),
            UserError::Refused(what, error) => {
                write!(f, "Error: Unable to drop privileges, {what}: {}", describe(error))
            }
        }
    }
}

/// The environment variables that have a say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `PUID`: the numeric user to become; 0 leaves the user alone.
    pub puid: Option<String>,
    /// `PGID`: the numeric group to become; 0 leaves the group alone.
    pub pgid: Option<String>,
    /// `SNAP_NAME`: `mosquitto` inside the snap, which drops privileges itself.
    pub snap_name: Option<String>,
}

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Environment {
        let text = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Environment { puid: text("PUID"), pgid: text("PGID"), snap_name: text("SNAP_NAME") }
    }
}

/// The user `[conf: user]` holds unless configured; the only one that may be missing.
const DEFAULT_USER: &str = "mosquitto";

/// Becomes `user` `[conf: user]`, or the ids of `PUID` and `PGID`, when started as root; root's supplementary groups
/// go with it.
///
/// A `PGID` without `PUID` replaces only the group, and the user is still taken from the configuration: staying root
/// because of a group would surprise.
///
/// # Errors
/// See [`UserError`]; the process must not go on.
pub fn drop_privileges(user: &str, environment: &Environment) -> Result<Identity, UserError> {
    // SAFETY: has no preconditions.
    if environment.snap_name.as_deref() == Some("mosquitto") || unsafe { libc::geteuid() } != 0 {
        return Ok(Identity::Unchanged);
    }
    let puid = environment.puid.as_deref().map(|text| numeric_id("PUID", text)).transpose()?;
    let pgid = environment.pgid.as_deref().map(|text| numeric_id("PGID", text)).transpose()?;
    match (puid, pgid) {
        (Some(0), None | Some(0)) => Ok(Identity::Root),
        (Some(0), Some(gid)) => {
            set_group(gid)?;
            Ok(Identity::Root)
        }
        (Some(uid), gid) => {
            set_groups(gid.filter(|&gid| gid != 0).as_slice())?;
            if let Some(gid) = gid.filter(|&gid| gid != 0) {
                set_group(gid)?;
            }
            set_user(uid)?;
            Ok(Identity::Id(uid))
        }
        (None, gid) => become_named(user, gid.filter(|&gid| gid != 0)),
    }
}

fn become_named(user: &str, gid: Option<u32>) -> Result<Identity, UserError> {
    if user == "root" {
        if let Some(gid) = gid {
            set_group(gid)?;
        }
        return Ok(Identity::Root);
    }
    let (user, entry) = match (find(user)?, user) {
        (Some(entry), _) => (user, entry),
        (None, DEFAULT_USER) => {
            log::error!("{} Trying 'nobody' instead.", UserError::Unknown(user.to_owned()));
            ("nobody", find("nobody")?.ok_or(UserError::NoFallback)?)
        }
        (None, _) => return Err(UserError::Unknown(user.to_owned())),
    };
    let gid = gid.unwrap_or(entry.gid);
    // SAFETY: `name` ends with NUL.
    check("initgroups", unsafe { libc::initgroups(entry.name.as_ptr(), gid) })?;
    set_group(gid)?;
    set_user(entry.uid)?;
    Ok(if entry.uid == 0 { Identity::Root } else { Identity::Name(user.to_owned()) })
}

/// Text of `PUID` or `PGID` as an id.
fn numeric_id(name: &'static str, text: &str) -> Result<u32, UserError> {
    let bad = || UserError::BadId(name, text.to_owned());
    let id = text.trim().parse::<i64>().map_err(|_| bad())?;
    if id < 0 {
        return Err(UserError::NegativeId(name));
    }
    // The highest id means "no change" to the system calls.
    u32::try_from(id).ok().filter(|&id| id != u32::MAX).ok_or_else(bad)
}

struct Entry {
    name: CString,
    uid: u32,
    gid: u32,
}

/// Looks a user name up; `None` when there is none.
fn find(user: &str) -> Result<Option<Entry>, UserError> {
    let Ok(name) = CString::new(user) else { return Ok(None) };
    let mut strings: Vec<libc::c_char> = vec![0; 1024];
    loop {
        // SAFETY: a zeroed passwd is a valid value (null pointers and numbers).
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid for the call and the length is that of `strings`.
        let error = unsafe {
            libc::getpwnam_r(CStr::as_ptr(&name), &raw mut entry, strings.as_mut_ptr(), strings.len(), &raw mut found)
        };
        if !found.is_null() {
            return Ok(Some(Entry { name, uid: entry.pw_uid, gid: entry.pw_gid }));
        }
        match error {
            libc::ERANGE if strings.len() < 1 << 20 => strings.resize(strings.len() * 2, 0),
            libc::EINTR => {}
            // Some systems report a name that is not there as one of these.
            0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            error => return Err(UserError::Refused("user lookup", io::Error::from_raw_os_error(error))),
        }
    }
}

/// The name of a user, or the number where it has none.
#[must_use]
pub fn user_name(uid: u32) -> String {
    name_of(uid, |strings| {
        // SAFETY: a zeroed passwd is a valid value (null pointers and numbers).
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid for the call and the length is that of `strings`.
        let error =
            unsafe { libc::getpwuid_r(uid, &raw mut entry, strings.as_mut_ptr(), strings.len(), &raw mut found) };
        (error, if found.is_null() { std::ptr::null() } else { entry.pw_name })
    })
}

/// The name of a group, or the number where it has none.
#[must_use]
pub fn group_name(gid: u32) -> String {
    name_of(gid, |strings| {
        // SAFETY: a zeroed group is a valid value (null pointers and numbers).
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid for the call and the length is that of `strings`.
        let error =
            unsafe { libc::getgrgid_r(gid, &raw mut entry, strings.as_mut_ptr(), strings.len(), &raw mut found) };
        (error, if found.is_null() { std::ptr::null() } else { entry.gr_name })
    })
}

/// Asks `look_up` with ever more room for strings; it returns the error and the name, null when there is none, which
/// points into that room.
fn name_of(id: u32, mut look_up: impl FnMut(&mut [libc::c_char]) -> (libc::c_int, *const libc::c_char)) -> String {
    let mut strings: Vec<libc::c_char> = vec![0; 1024];
    loop {
        let (error, name) = look_up(&mut strings);
        if !name.is_null() {
            // SAFETY: the name ends with NUL and lies within `strings`.
            return unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        }
        match error {
            libc::ERANGE if strings.len() < 1 << 20 => strings.resize(strings.len() * 2, 0),
            libc::EINTR => {}
            _ => return id.to_string(),
        }
    }
}

/// The user and the group that this process acts as.
#[must_use]
pub fn effective_ids() -> (u32, u32) {
    // SAFETY: neither has preconditions.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

fn set_groups(groups: &[u32]) -> Result<(), UserError> {
    // SAFETY: the pointer and the length are those of `groups`.
    check("setgroups", unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })
}

fn set_group(gid: u32) -> Result<(), UserError> {
    // SAFETY: takes a number.
    check("setgid", unsafe { libc::setgid(gid) })
}

fn set_user(uid: u32) -> Result<(), UserError> {
    // SAFETY: takes a number.
    check("setuid", unsafe { libc::setuid(uid) })
}

fn check(what: &'static str, result: libc::c_int) -> Result<(), UserError> {
    if result == 0 { Ok(()) } else { Err(UserError::Refused(what, io::Error::last_os_error())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puid_and_pgid_are_plain_numbers() {
        let id = |text| numeric_id("PUID", text).map_err(|error| (error.to_string(), error.exit_status()));
        assert_eq!(id("0"), Ok(0));
        assert_eq!(id("1883"), Ok(1883));
        assert_eq!(id("-1"), Err(("Error: PUID must not be negative".into(), 3)));
        for text in ["", "12x", "mosquitto", "4294967295", "99999999999999999999"] {
            assert_eq!(id(text), Err((format!("Error: PUID not a valid ID '{text}'"), 3)));
        }
    }

    #[test]
    fn the_snap_leaves_the_user_alone() {
        let environment = Environment { snap_name: Some("mosquitto".into()), ..Environment::default() };
        assert_eq!(drop_privileges("no-such-user-here", &environment).unwrap(), Identity::Unchanged);
    }

    #[test]
    fn an_unknown_user_ends_a_start_as_root_with_status_3() {
        // SAFETY: has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            return;
        }
        let error = drop_privileges("no-such-user-here", &Environment::default()).unwrap_err();
        assert_eq!(error.exit_status(), 3);
        assert_eq!(
            error.to_string(),
            "Error: Unable to drop privileges to 'no-such-user-here' because this user does not exist."
        );
    }

    #[test]
    fn root_is_found_by_name() {
        let root = find("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(find("no-such-user-here").unwrap().is_none());
        assert!(find("a\0b").unwrap().is_none());
    }

    #[test]
    fn ids_have_names_or_stay_numbers() {
        assert_eq!((user_name(0).as_str(), group_name(0).as_str()), ("root", "root"));
        assert_eq!(user_name(4_000_000_123), "4000000123");
        assert_eq!(group_name(4_000_000_123), "4000000123");
    }

    #[test]
    fn a_refusal_has_status_14() {
        let refused = UserError::Refused("setgid", io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(refused.exit_status(), 14);
        assert!(refused.to_string().starts_with("Error: Unable to drop privileges, setgid: "));
        assert_eq!(UserError::NoFallback.exit_status(), 14);
    }
}
