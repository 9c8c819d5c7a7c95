//! Reading the database at the start.

use std::fmt;
use std::fs;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use super::OldJournal;
use crate::broker::{Broker, message};
use crate::os::errors::describe;
use crate::os::{private_file, users};
use crate::persist::HEADER_LEN;
use crate::persist::disk::RealDisk;
use crate::persist::fault::{Damage, Fault};
use crate::persist::journal::append::Journal;
use crate::persist::journal::read::ReadError;
use crate::persist::journal::replay::{self, Found};
use crate::persist::journal::{path_of, token_of};
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
    /// The same of the journal; why, in words.
    DamagedJournal(PathBuf, String),
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
            DatabaseError::DamagedJournal(path, why) => {
                writeln!(f, "Error: The journal {}: {why}.", path.display())?;
                f.write_str(
                    "'persistence_strict' is true, so the broker does not start and the file was not changed. With 'false' \
                     it restores what it can and keeps the file under another name.\n",
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
    /// Its length.
    pub(super) len: u64,
    /// What a journal calls it; `None` when it has no such name and has to be written before there can be a journal.
    pub(super) base: Option<u32>,
    /// The journal that follows it, to go on with.
    pub(super) journal: Option<Journal>,
    /// The journal held something.
    pub(super) journal_content: bool,
    /// A journal that is there and that the broker does not go on with.
    pub(super) old_journal: Option<OldJournal>,
}

/// Restores the file at `name` as far as it can be read; with `strict` only if it is sound.
/// With `journaled` messages get the numbers by which a journal knows them.
pub(super) fn restore(
    name: &Path,
    strict: bool,
    journaled: bool,
    broker: &mut Broker,
    now: Now,
) -> Result<Restored, DatabaseError> {
    let mut restored = restore_snapshot(name, strict, journaled, broker, now)?;
    let token = restored.base.unwrap_or_default();
    let journal = path_of(&restored.path);
    let first = message::next_number();
    match replay::replay(&RealDisk, &restored.path, token, broker, now) {
        Ok(Found::None) => {}
        Ok(Found::Stranger) => {
            log::warn!(
                "Warning: The journal {} does not follow the database {}, which was saved by another broker or brought \
                 back since. It is not used.",
                journal.display(),
                name.display()
            );
            restored.old_journal = Some(OldJournal::Stranger);
        }
        Ok(Found::Replayed { header, good, report }) => {
            tell_journal(&journal, &report);
            if strict && report.damaged > 0 {
                let why = format!("{} bytes in {} places are damaged", report.damaged_bytes, report.damaged);
                return Err(DatabaseError::DamagedJournal(journal, why));
            }
            if report.highest >= first && first != 0 {
                message::number_from(report.highest.saturating_add(1));
            }
            restored.journal_content = report.changes > 0;
            if report.damaged > 0 {
                restored.old_journal = Some(OldJournal::Damaged);
            } else if journaled {
                let open = Journal::open(Box::new(RealDisk), &restored.path, header, good);
                restored.journal = Some(open.map_err(|error| DatabaseError::Unreadable(journal, error))?);
            } else {
                restored.old_journal = Some(OldJournal::Restored);
            }
        }
        Err(ReadError::Io(error)) => return Err(DatabaseError::Unreadable(journal, error)),
        Err(ReadError::Unreadable(why)) if strict => {
            return Err(DatabaseError::DamagedJournal(journal, why.to_string()));
        }
        Err(ReadError::Unreadable(why)) => {
            log::warn!("Warning: The journal {} cannot be used: {why}.", journal.display());
            restored.old_journal = Some(OldJournal::Damaged);
        }
    }
    if restored.old_journal.is_some() {
        // What it held is in memory alone until the database is saved.
        restored.base = None;
    }
    Ok(restored)
}

fn tell_journal(path: &Path, report: &replay::Report) {
    let path = path.display();
    log::info!("Restored {} changes from the journal {path}.", report.changes);
    if report.torn_bytes > 0 {
        log::info!(
            "The last {} bytes of the journal were not written to their end; nobody was promised them.",
            report.torn_bytes
        );
    }
    if report.damaged > 0 {
        log::warn!(
            "Warning: The journal {path} is damaged in {} places, {} bytes in all; what stood there is lost.",
            report.damaged,
            report.damaged_bytes
        );
    }
    if report.unmatched > 0 {
        log::info!("{} changes in the journal {path} had nothing to change.", report.unmatched);
    }
}

fn restore_snapshot(
    name: &Path,
    strict: bool,
    journaled: bool,
    broker: &mut Broker,
    now: Now,
) -> Result<Restored, DatabaseError> {
    let none = Restored {
        path: name.into(),
        found: false,
        damaged: false,
        unclean: false,
        len: 0,
        base: None,
        journal: None,
        journal_content: false,
        old_journal: None,
    };
    if journaled {
        message::number_from(1);
    }
    let unreadable = |error| DatabaseError::Unreadable(name.into(), error);
    let path = match fs::canonicalize(name) {
        Ok(path) => path,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unreadable(error)),
        Err(_) if fs::symlink_metadata(name).is_ok() => return Err(DatabaseError::Dangling(name.into())),
        Err(_) => return Ok(none),
    };
    let mut file = private_file::open(&path, true).map_err(unreadable)?;
    for line in private_file::remarks(&path, &file) {
        log::info!("{line}");
    }
    let mut header = [0; HEADER_LEN];
    let head = file.read(&mut header).map_err(unreadable)?;
    let token = token_of(header.get(..head).unwrap_or_default());
    let len = file.metadata().map_err(unreadable)?.len();
    file.rewind().map_err(unreadable)?;
    let numbered = journaled && token != 0;
    let report = load::load(broker, file, now, numbered || path_of(&path).exists()).map_err(unreadable)?;
    if numbered {
        message::number_from(report.highest.saturating_add(1));
    }
    let empty = matches!(report.damage[..], [Damage { fault: Fault::Empty, .. }]);
    if strict && !report.damage.is_empty() {
        return Err(DatabaseError::Damaged(name.into(), report.damage));
    }
    if empty {
        log::warn!("Warning: Persistence file is empty.");
    } else {
        tell(name, &report);
    }
    let sound = report.damage.is_empty();
    Ok(Restored {
        path,
        found: sound,
        damaged: report.loses_data() && !empty,
        unclean: report.findings.count() > 0,
        len,
        base: Some(token).filter(|token| *token != 0),
        ..none
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
