//! The database on disk: restored at the start, written now and then, on demand and at the end.
//!
//! A save takes a snapshot of the core in slices, one a turn, so that no client waits for it; the disk worker writes what
//! each slice gave, syncs and renames. At the end of the broker the rest of it is done at once. `[conf: persistence]`

mod journal;
mod restore;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mio::Waker;

use super::worker::Worker;
use crate::broker::changes::ChangeSeq;
use crate::broker::{Broker, SnapshotState};
use crate::config::{Config, Global, PersistenceMode};
use crate::os::errors::describe;
use crate::os::replace_file::{Kept, NewFile};
use crate::os::{local_time, replace_file, users};
use crate::persist::journal::path_of;
use crate::persist::save::Saver;
use crate::timer::Now;
use journal::Keeper;

pub use restore::DatabaseError;

/// Items of a snapshot for one turn: about half a millisecond.
const ITEMS_PER_TURN: usize = 2000;
/// Bytes that are handed to the disk at once. So much again may be made meanwhile.
const PIECE: usize = 256 * 1024;
/// How long to wait after a save that failed. It is logged each time, and so once a minute.
const RETRY_MS: u64 = 60_000;

/// The database of this broker; nothing at all with `persistence false`.
pub(super) struct Store(Option<Box<Database>>);

struct Database {
    /// As it was configured, for the log.
    name: PathBuf,
    /// The file itself, behind symbolic links.
    path: PathBuf,
    disk: Worker<Job, Answer>,
    save: Option<Save>,
    /// What a save that is over has kept and still lets go.
    releasing: Option<Saver>,
    /// Asked for while another one was under way.
    again: bool,
    /// The next look whether to save `[conf: autosave_interval]`.
    due_ms: Option<u64>,
    /// When to try again after a failure.
    retry_ms: Option<u64>,
    /// Changes of the core that `autosave_on_changes` has counted.
    counted: u64,
    /// The file there is was damaged, and has to be kept.
    damaged: bool,
    /// There is a file that shows what was last saved or restored.
    on_disk: bool,
    /// There will be no other save.
    stopping: bool,
    /// Its length, as far as it is known.
    len: u64,
    /// The journal `[conf: persistence_mode]`.
    keeper: Option<Keeper>,
    /// A journal there is that is no longer needed when the database is saved, and whether it has to be kept under
    /// another name.
    old_journal: Option<OldJournal>,
}

/// What becomes of a journal that the broker does not go on with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum OldJournal {
    /// All of it was restored.
    Restored,
    /// It is damaged.
    Damaged,
    /// It follows another database.
    Stranger,
}

/// A save under way.
struct Save {
    saver: Saver,
    /// What the journal calls it.
    token: u32,
    /// The change that was its moment.
    mark: ChangeSeq,
    /// The snapshot has given everything.
    complete: bool,
    /// The file while the disk worker does not have it.
    file: Option<NewFile>,
}

/// What the disk worker does; the file goes with it.
enum Job {
    Create(PathBuf),
    Write(NewFile, Vec<u8>),
    /// Puts it in its place; the old one gets this behind its name.
    Keep(NewFile, Option<String>),
}

enum Answer {
    /// Go on; the buffer may be used again.
    Ready(NewFile, Vec<u8>),
    /// The file is in its place.
    Kept(Kept),
    Failed(io::Error),
}

fn work(job: Job) -> Answer {
    let done = match job {
        Job::Create(path) => NewFile::create(&path).map(|file| Answer::Ready(file, Vec::new())),
        Job::Write(mut file, mut bytes) => file.write(&bytes).map(|()| {
            bytes.clear();
            Answer::Ready(file, bytes)
        }),
        Job::Keep(file, aside) => file.keep(aside.as_deref()).map(Answer::Kept),
    };
    done.unwrap_or_else(Answer::Failed)
}

impl Store {
    /// Restores what the file of the configuration holds. It is only read here: a start that fails changes nothing.
    pub(super) fn open(
        config: &Config,
        waker: Arc<Waker>,
        broker: &mut Broker,
        now: Now,
    ) -> Result<Store, DatabaseError> {
        if !config.global.persistence {
            return Ok(Store(None));
        }
        let name = config.global.persistence_path();
        let journaled = config.global.persistence_mode == PersistenceMode::Journal;
        let restored = restore::restore(&name, config.global.persistence_strict, journaled, broker, now)?;
        broker.restored(now);
        broker.set_unaltered();
        if restored.unclean || restored.journal_content {
            broker.set_altered();
        }
        let keeper = journaled.then(|| {
            broker.changes().start_journal();
            let path = path_of(&name);
            log::info!("Changes are in the journal {} before they are acknowledged.", path.display());
            Keeper::new(Arc::clone(&waker), &restored.path, restored.journal, restored.base)
        });
        let disk = Worker::new("disk", 1, waker, work);
        let mut database = Database {
            name,
            path: restored.path,
            disk,
            save: None,
            releasing: None,
            again: false,
            due_ms: None,
            retry_ms: None,
            counted: broker.stored_changes(),
            damaged: restored.damaged,
            on_disk: restored.found,
            stopping: false,
            len: restored.len,
            keeper,
            old_journal: restored.old_journal,
        };
        database.schedule(&config.global, now);
        Ok(Store(Some(Box::new(database))))
    }

    /// The start has succeeded. A file that was damaged gets another name, and what was salvaged is saved at once: until
    /// then only memory has it.
    pub(super) fn settle(&mut self, broker: &mut Broker, now: Now) {
        let Store(Some(database)) = self else { return };
        // A journal needs a database that it follows.
        let baseless = database.keeper.as_ref().is_some_and(|keeper| !keeper.has_base());
        if database.damaged || database.old_journal.is_some() || baseless {
            database.save_now(broker, now, false);
        } else if let Err(error) = NewFile::create(&database.path) {
            // Better known now than when everything is to be saved.
            log::error!(
                "Error: The database cannot be saved, unable to write {}.new: {}. What changes from now on will be lost, \
                 unless user {} may write there.",
                database.path.display(),
                describe(&error),
                users::user_name(users::effective_ids().0)
            );
        }
        if let Some(keeper) = &database.keeper {
            keeper.refuse(broker);
        }
    }

    /// When [`Store::turn`] has something to do.
    pub(super) fn deadline(&self) -> Option<u64> {
        let database = self.0.as_ref()?;
        let save = if database.save.is_none() { database.retry_ms.or(database.due_ms) } else { None };
        let journal = database.keeper.as_ref().and_then(Keeper::deadline);
        [save, journal].into_iter().flatten().min()
    }

    /// Takes what the journal's thread has done: what waited for it may leave.
    pub(super) fn synced(&mut self, broker: &mut Broker, now: Now) {
        let Some(keeper) = self.0.as_mut().and_then(|database| database.keeper.as_mut()) else { return };
        broker.changes().set_now(now);
        keeper.synced(broker, now);
    }

    /// Has the journal written, if somebody waits for what was recorded.
    pub(super) fn record(&mut self, broker: &mut Broker, now: Now) {
        if let Some(keeper) = self.0.as_mut().and_then(|database| database.keeper.as_mut()) {
            keeper.write(broker, now);
        }
    }

    /// True while there is something to do that waits for nothing.
    pub(super) fn is_busy(&self) -> bool {
        let Store(Some(database)) = self else { return false };
        database.releasing.is_some() || database.save.as_ref().is_some_and(Save::wants_slice)
    }

    /// Goes on with a save, or begins one that is due.
    pub(super) fn turn(&mut self, settings: &Global, broker: &mut Broker, now: Now) {
        let Store(Some(database)) = self else { return };
        database.releasing.take_if(|saver| saver.release(ITEMS_PER_TURN));
        if database.save.is_some() {
            database.advance(broker, now);
        } else if database.is_due(settings, broker, now) {
            database.begin(broker, now);
        }
    }

    /// An operator wants a save, whether anything changed or not.
    pub(super) fn request(&mut self, broker: &mut Broker, now: Now) {
        match self {
            Store(None) => log::warn!("Warning: There is no database to save: 'persistence' is false."),
            Store(Some(database)) if database.save.is_some() => database.again = true,
            Store(Some(database)) => database.begin(broker, now),
        }
    }

    /// Follows a reload.
    pub(super) fn reconfigure(&mut self, settings: &Global, broker: &Broker, now: Now) {
        if let Store(Some(database)) = self {
            database.counted = broker.stored_changes();
            database.schedule(settings, now);
        }
    }

    /// The broker stops: saves everything before anybody is disconnected.
    pub(super) fn finish(&mut self, broker: &mut Broker, now: Now) {
        let Store(Some(database)) = self else { return };
        if let Some(keeper) = &mut database.keeper {
            // First: whatever becomes of the save, nothing is lost.
            keeper.finish(broker, now);
        }
        if database.save.take().is_some() {
            broker.abort_snapshot();
            // The worker may have the file; it must be gone before another is made.
            database.disk.wait();
        }
        let journaled = database.keeper.as_ref().is_some_and(Keeper::has_content);
        if database.on_disk && !broker.is_altered() && !broker.has_limited_online() && !journaled {
            return log::debug!("Nothing has changed since {} was saved.", database.name.display());
        }
        database.save_now(broker, now, true);
    }
}

impl Database {
    fn schedule(&mut self, settings: &Global, now: Now) {
        if self.keeper.is_some() {
            // The journal has what a save would have.
            return;
        }
        let seconds = Some(u64::from(settings.autosave_interval)).filter(|s| *s != 0 && !settings.autosave_on_changes);
        self.due_ms = seconds.map(|seconds| now.mono_ms.saturating_add(seconds * 1000));
    }

    fn is_due(&mut self, settings: &Global, broker: &mut Broker, now: Now) -> bool {
        if let Some(retry) = self.retry_ms {
            return retry <= now.mono_ms;
        }
        if let Some(keeper) = &self.keeper {
            return keeper.wants_snapshot(broker, self.len);
        }
        let timed = self.due_ms.is_some_and(|due| due <= now.mono_ms);
        if timed {
            self.schedule(settings, now);
        }
        let wanted = u64::from(settings.autosave_interval);
        let counted = settings.autosave_on_changes
            && wanted != 0
            && broker.stored_changes().saturating_sub(self.counted) >= wanted;
        if counted {
            self.counted = broker.stored_changes();
        }
        if !timed && !counted {
            return false;
        }
        if self.on_disk && !broker.is_altered() {
            log::debug!("Nothing has changed since {} was saved.", self.name.display());
            return false;
        }
        true
    }

    fn say_saving(&self) {
        log::info!("Saving in-memory database to {}.", self.name.display());
    }

    /// Begins a save that goes on in slices.
    fn begin(&mut self, broker: &mut Broker, now: Now) {
        self.say_saving();
        self.save = Some(self.snapshot(broker, now, false));
        if self.disk.submit(Job::Create(self.path.clone())).is_err() {
            self.failed(broker, now, &io::ErrorKind::WouldBlock.into());
        }
    }

    /// The moment of a save.
    fn snapshot(&mut self, broker: &mut Broker, now: Now, stopping: bool) -> Save {
        broker.begin_snapshot(now, stopping);
        let token = match &mut self.keeper {
            Some(keeper) => {
                let token = Keeper::new_token();
                keeper.begin_snapshot(broker, token);
                token
            }
            None => 0,
        };
        let saver = Saver::new(now, stopping, token);
        Save { saver, token, mark: broker.last_change(), complete: false, file: None }
    }

    fn advance(&mut self, broker: &mut Broker, now: Now) {
        let Some(save) = &mut self.save else { return };
        if save.wants_slice() {
            save.slice(broker);
        }
        match self.disk.next_answer() {
            None => {}
            Some(Answer::Ready(file, buffer)) => save.take_back(file, buffer),
            Some(Answer::Kept(kept)) => return self.kept(broker, now, &kept),
            Some(Answer::Failed(error)) => return self.failed(broker, now, &error),
        }
        let damaged = self.damaged;
        // Else a crash would leave a journal that does not know the new file.
        let known = self.keeper.as_ref().is_none_or(|keeper| keeper.knows(save.mark));
        if let Some(job) = save.next_job(known, || aside_name(damaged, now))
            && self.disk.submit(job).is_err()
        {
            self.failed(broker, now, &io::ErrorKind::WouldBlock.into());
        }
    }

    fn kept(&mut self, broker: &mut Broker, now: Now, kept: &Kept) {
        self.saved(broker, now, kept);
        if std::mem::take(&mut self.again) {
            self.begin(broker, now);
        }
    }

    fn saved(&mut self, broker: &mut Broker, now: Now, kept: &Kept) {
        if let Some(Save { saver, token, mark, .. }) = self.save.take() {
            if saver.left_out() > 0 {
                log::warn!("Warning: {} items did not fit the format of the database.", saver.left_out());
            }
            self.releasing = Some(saver);
            self.drop_old_journal(now);
            if let Some(keeper) = &mut self.keeper {
                keeper.snapshot_kept(broker, token, mark);
            }
        }
        self.len = kept.len;
        if self.retry_ms.take().is_some() {
            crate::notice!("The database could be saved again.");
        }
        if let Some(aside) = &kept.aside {
            crate::notice!("The damaged database was kept as {}.", aside.display());
        }
        self.damaged = false;
        self.on_disk = true;
        broker.stats.saves += 1;
        broker.stats.saved_bytes += kept.len;
        broker.stats.saved_at_s = now.wall_s;
    }

    /// What an earlier journal held is saved, or cannot be used.
    fn drop_old_journal(&mut self, now: Now) {
        let Some(old) = self.old_journal.take() else { return };
        let path = path_of(&self.path);
        let suffix = match old {
            OldJournal::Restored => None,
            OldJournal::Damaged => aside_name(true, now),
            OldJournal::Stranger => Some(dated(b".stale-", now)),
        };
        let done = match suffix {
            Some(suffix) => replace_file::move_aside(&path, &suffix).map(|aside| {
                if let Some(aside) = aside {
                    crate::notice!("The journal was kept as {}.", aside.display());
                }
            }),
            None => std::fs::remove_file(&path),
        };
        if let Err(error) =
            done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
        {
            log::warn!("Warning: Unable to put the journal {} away: {}", path.display(), describe(&error));
        }
    }

    /// The old file stays, and the next try follows in a minute. Clients do not notice.
    fn failed(&mut self, broker: &mut Broker, now: Now, error: &io::Error) {
        self.releasing = self.save.take().map(|save| save.saver);
        self.again = false;
        broker.abort_snapshot();
        broker.set_altered();
        broker.stats.saves_failed += 1;
        self.retry_ms = Some(now.mono_ms.saturating_add(RETRY_MS));
        let next = if self.stopping { "What changed since is lost." } else { "The next try follows in a minute." };
        log::error!(
            "Error saving in-memory database, unable to write {}: {}. The last file that was saved stays. {next}",
            self.name.display(),
            describe(error)
        );
    }

    /// Saves without going back to the loop.
    fn save_now(&mut self, broker: &mut Broker, now: Now, stopping: bool) {
        self.stopping = stopping;
        self.say_saving();
        let saved = NewFile::create(&self.path).and_then(|mut file| {
            let mut save = self.snapshot(broker, now, stopping);
            while !save.complete {
                save.slice(broker);
                let out = save.saver.out();
                if save.complete || out.len() >= PIECE {
                    file.write(out)?;
                    out.clear();
                }
            }
            if let Some(keeper) = &mut self.keeper {
                keeper.finish(broker, now);
                if !keeper.knows(save.mark) {
                    return Err(io::Error::other("the journal cannot be written"));
                }
            }
            self.save = Some(save);
            file.keep(aside_name(self.damaged, now).as_deref())
        });
        match saved {
            Ok(kept) => {
                self.saved(broker, now, &kept);
                if let Some(keeper) = self.keeper.as_mut().filter(|_| stopping) {
                    keeper.remove();
                }
            }
            Err(error) => self.failed(broker, now, &error),
        }
    }
}

impl Save {
    fn wants_slice(&self) -> bool {
        !self.complete && self.saver.out_len() < PIECE
    }

    fn slice(&mut self, broker: &mut Broker) {
        let saver = &mut self.saver;
        let mut left = ITEMS_PER_TURN;
        // In small steps, since some items are large.
        while left > 0 && saver.out_len() < PIECE && !self.complete {
            let step = left.min(64);
            self.complete = broker.snapshot_slice(step, &mut |item| saver.add(&item)) == SnapshotState::Done;
            left -= step;
        }
    }

    fn take_back(&mut self, file: NewFile, buffer: Vec<u8>) {
        self.file = Some(file);
        // One that held a large message is not worth keeping.
        if buffer.capacity() <= 2 * PIECE {
            self.saver.give_spare(buffer);
        }
    }

    /// What the worker can do now, if it is not at work already.
    /// With `known` the whole file may take its place.
    fn next_job(&mut self, known: bool, aside: impl FnOnce() -> Option<String>) -> Option<Job> {
        let full = self.saver.out_len() >= PIECE;
        if !full && !self.complete {
            return None;
        }
        if self.saver.out_len() == 0 && !known {
            return None;
        }
        let file = self.file.take()?;
        Some(match self.saver.take_out() {
            Some(bytes) => Job::Write(file, bytes),
            None => Job::Keep(file, aside()),
        })
    }
}

/// What a damaged file gets behind its name.
fn aside_name(damaged: bool, now: Now) -> Option<String> {
    damaged.then(|| dated(b".damaged-", now))
}

fn dated(before: &[u8], now: Now) -> String {
    let mut suffix = before.to_vec();
    local_time::append(&mut suffix, c"%Y%m%d-%H%M%S", now.wall_s);
    String::from_utf8_lossy(&suffix).into_owned()
}
