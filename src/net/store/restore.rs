//! Reading the database at the start.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::broker::Broker;
use crate::os::errors::describe;
use crate::os::{private_file, users};
use crate::persist::fault::{Damage, Fault};
use crate::persist::load::{self, Report};
use crate::timer::Now;

/// Places of a damaged file that are logged one by one.
const TOLD: usize = 5;

/// Why the broker does not start with this database. `Display` gives the lines to log. The file is as it was.
#[derive(Debug)]
pub enum DatabaseError {
    /// It is there and cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A symbolic link to nothing.
    Dangling(PathBuf),
    /// It is damaged, and `[conf: persistence_strict]` is true.
    Damaged(PathBuf, Vec<Damage>),
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseError::Unreadable(path, error) => {
                let (path, user) = (path.display(), users::user_name(users::effective_ids().0));
                writeln!(f, "Error: Unable to read the persistent database {path}: {}.", describe(error))?;
                writeln!(
                    f,
                    "The next save would replace it, so the broker does not start. Let user {user} read and write it, or \
                     move it away to start without."
                )?;
            }
            DatabaseError::Dangling(path) => {
                writeln!(f, "Error: The persistent database {} is a symbolic link to nothing.", path.display())?;
                f.write_str("Bring back what it pointed to, or remove the link to start without.\n")?;
            }
            DatabaseError::Damaged(path, damage) => {
                for line in lines_of(path, damage) {
                    writeln!(f, "Error: {line}")?;
                }
                f.write_str(
                    "'persistence_strict' is true, so the broker does not start and the file was not changed. With 'false' \
                     it restores what it can and keeps the file under another name; mosquitto_db_dump shows what that \
                     would be.\n",
                )?;
            }
        }
        f.write_str("Error: Couldn't open database.")
    }
}

/// What was found.
pub(super) struct Restored {
    /// Where the file is, behind symbolic links.
    pub(super) path: PathBuf,
    /// There was one, and all of it was restored.
    pub(super) found: bool,
    /// It holds something that was not restored, so that it has to be kept.
    pub(super) damaged: bool,
    /// It held something that should not stay on disk, such as names that its writer left there by mistake.
    pub(super) unclean: bool,
}

/// Restores the file at `name` as far as it can be read; with `strict` only if it is sound.
pub(super) fn restore(name: &Path, strict: bool, broker: &mut Broker, now: Now) -> Result<Restored, DatabaseError> {
    let unreadable = |error| DatabaseError::Unreadable(name.into(), error);
    let path = match fs::canonicalize(name) {
        Ok(path) => path,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unreadable(error)),
        Err(_) if fs::symlink_metadata(name).is_ok() => return Err(DatabaseError::Dangling(name.into())),
        Err(_) => return Ok(Restored { path: name.into(), found: false, damaged: false, unclean: false }),
    };
    let file = private_file::open(&path, true).map_err(unreadable)?;
    for line in private_file::remarks(&path, &file) {
        log::info!("{line}");
    }
    let report = load::load(broker, file, now).map_err(unreadable)?;
    let empty = matches!(report.damage[..], [Damage { fault: Fault::Empty, .. }]);
    if strict && !report.damage.is_empty() {
        return Err(DatabaseError::Damaged(name.into(), report.damage));
    }
    if empty {
        log::warn!("Warning: Persistence file is empty.");
    } else {
        tell(name, &report);
    }
    Ok(Restored {
        path,
        found: report.damage.is_empty(),
        damaged: report.loses_data() && !empty,
        unclean: report.findings.count() > 0,
    })
}

/// Says what was restored, and what was not.
fn tell(name: &Path, report: &Report) {
    for line in lines_of(name, &report.damage) {
        log::warn!("Warning: {line}");
    }
    let findings = &report.findings;
    let mut told = findings.list().iter().filter(|finding| finding.loses_data());
    for finding in told.by_ref().take(TOLD) {
        log::warn!("Warning: The persistent database {}: {finding}.", name.display());
    }
    let odd = findings.count();
    if let Some(first) = findings.list().iter().find(|finding| !finding.loses_data()) {
        log::info!(
            "The persistent database {} has {odd} oddities that were dealt with, the first {first}.",
            name.display()
        );
    }
    let counts = report.counts;
    log::info!("Restored {} base messages", counts.messages);
    log::info!("Restored {} retained messages", counts.retained);
    log::info!("Restored {} clients", counts.clients);
    log::info!("Restored {} subscriptions", counts.subscriptions);
    log::info!("Restored {} client messages", counts.client_messages);
    if report.loses_data() {
        log::warn!("Warning: That is all that could be salvaged of {}.", name.display());
    }
}

/// What is wrong with a file, as lines to log.
fn lines_of(name: &Path, damage: &[Damage]) -> Vec<String> {
    let name = name.display();
    let mut lines: Vec<String> =
        damage.iter().take(TOLD).map(|place| format!("The persistent database {name} is damaged: {place}.")).collect();
    if damage.len() > TOLD {
        lines.push(format!("The persistent database {name} is damaged in {} more places.", damage.len() - TOLD));
    }
    lines
}
