//! Reads the password and ACL files that the configuration names, at start and on each reload.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::broker::auth::access::{Access, RuleFiles, Rules, RulesId};
use crate::broker::auth::acl::{Acl, AclError};
use crate::broker::auth::password::{PasswordFileError, Passwords};
use crate::config::Config;
use crate::os::{errors, private_file};

/// Why the rules could not be read. `Display` gives the lines to log.
#[derive(Debug)]
pub enum AccessError {
    /// A password file cannot be opened.
    OpenPasswords(PathBuf, io::Error),
    /// A line of a password file is wrong.
    Passwords(PathBuf, PasswordFileError),
    /// An ACL file cannot be opened.
    OpenAcl(PathBuf, io::Error),
    /// A line of an ACL file is wrong.
    Acl(PathBuf, AclError),
    /// More listeners with files of their own than can be told apart.
    TooMany,
}

impl AccessError {
    /// The exit status of a start that ends with it.
    #[must_use]
    pub fn exit_status(&self) -> i32 {
        match self {
            AccessError::OpenPasswords(..) | AccessError::OpenAcl(..) => 13,
            AccessError::Passwords(..) | AccessError::Acl(..) | AccessError::TooMany => 3,
        }
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessError::OpenPasswords(path, error) => write!(
                f,
                "password-file: Error: Unable to open pwfile \"{}\".\nError: {}",
                path.display(),
                errors::describe(error)
            ),
            AccessError::Passwords(path, error) => {
                let path = path.display().to_string();
                write!(f, "{}\nError found at {path}:{}.", error.text(&path), error.line)
            }
            AccessError::OpenAcl(path, error) => {
                write!(f, "Error: Unable to open acl_file \"{}\".\nError: {}", path.display(), errors::describe(error))
            }
            AccessError::Acl(path, error) => {
                let path = path.display().to_string();
                write!(f, "{}\nError found at {path}:{}.", error.text(&path), error.line)
            }
            AccessError::TooMany => f.write_str("Error: Too many listeners with files of their own."),
        }
    }
}

/// Reads the files that a configuration names, to see whether they can be used.
///
/// # Errors
/// The first file that cannot.
pub fn check_access(config: &Config) -> Result<(), AccessError> {
    load(&mut config.clone(), &Access::default()).map(drop)
}

/// Reads every file that `config` names and notes with each listener which rules hold there. `before` are the rules in
/// force, whose numbers stay. Nothing of `before` changes when a file is wrong.
///
/// # Errors
/// The first file that cannot be read or is wrong.
pub(super) fn load(config: &mut Config, before: &Access) -> Result<Access, AccessError> {
    let mut files = Files::default();
    let mut access = before.clone();
    if config.global.per_listener_settings {
        for listener in &mut config.listeners {
            let named = RuleFiles { passwords: listener.password_file.clone(), acl: listener.acl_file.clone() };
            let rules = files.rules(&named)?;
            listener.rules = access.set_listener(named, rules).ok_or(AccessError::TooMany)?.0;
        }
        access.set_listeners(Some(config.listeners.iter().map(|l| (l.port, RulesId(l.rules))).collect()));
    } else {
        let named = RuleFiles { passwords: config.global.password_file.clone(), acl: config.global.acl_file.clone() };
        let rules = files.rules(&named)?;
        access.set_global(named, rules);
        for listener in &mut config.listeners {
            listener.rules = RulesId::GLOBAL.0;
        }
        access.set_listeners(None);
    }
    Ok(access)
}

/// Each file is read once, however many listeners name it.
#[derive(Default)]
struct Files {
    passwords: BTreeMap<PathBuf, Rc<Passwords>>,
    acls: BTreeMap<PathBuf, Rc<Acl>>,
}

impl Files {
    fn rules(&mut self, named: &RuleFiles) -> Result<Rules, AccessError> {
        Ok(Rules {
            passwords: named.passwords.as_deref().map(|path| self.passwords(path)).transpose()?,
            acl: named.acl.as_deref().map(|path| self.acl(path)).transpose()?,
        })
    }

    fn passwords(&mut self, path: &Path) -> Result<Rc<Passwords>, AccessError> {
        if let Some(known) = self.passwords.get(path) {
            return Ok(Rc::clone(known));
        }
        let text = read(path).map_err(|error| AccessError::OpenPasswords(path.into(), error))?;
        let passwords = Passwords::parse(&text).map_err(|error| AccessError::Passwords(path.into(), error))?;
        let passwords = Rc::new(passwords);
        self.passwords.insert(path.into(), Rc::clone(&passwords));
        Ok(passwords)
    }

    fn acl(&mut self, path: &Path) -> Result<Rc<Acl>, AccessError> {
        if let Some(known) = self.acls.get(path) {
            return Ok(Rc::clone(known));
        }
        let text = read(path).map_err(|error| AccessError::OpenAcl(path.into(), error))?;
        let (acl, warnings) = Acl::parse(&text).map_err(|error| AccessError::Acl(path.into(), error))?;
        for warning in warnings {
            log::warn!("{warning} ({}:{})", path.display(), warning.line);
        }
        let acl = Rc::new(acl);
        self.acls.insert(path.into(), Rc::clone(&acl));
        Ok(acl)
    }
}

/// The content of a file that others should not read, with remarks in the log when they can.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = private_file::open(path, private_file::symlinks_allowed())?;
    for line in private_file::remarks(path, &file) {
        log::info!("{line}");
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(text)
}
