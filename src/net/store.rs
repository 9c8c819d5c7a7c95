//! The database on disk: restored at the start, written now and then, on demand and at the end.
//!
//! A save takes a snapshot of the core in slices, one a turn, so that no client waits for it; the disk worker writes what
//! each slice gave, syncs and renames. At the end of the broker the rest of it is done at once. `[conf: persistence]`

mod restore;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mio::Waker;

use super::worker::Worker;
use crate::broker::{Broker, SnapshotState};
use crate::config::{Config, Global};
use crate::os::errors::describe;
use crate::os::replace_file::{Kept, NewFile};
use crate::os::{local_time, users};
use crate::persist::save::Saver;
use crate::timer::Now;

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
}

/// A save under way.
struct Save {
    saver: Saver,
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
        let restored = restore::restore(&name, config.global.persistence_strict, broker, now)?;
        broker.restored(now);
        broker.set_unaltered();
        if restored.unclean {
            broker.set_altered();
        }
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
        };
        database.schedule(&config.global, now);
        Ok(Store(Some(Box::new(database))))
    }

    /// The start has succeeded. A file that was damaged gets another name, and what was salvaged is saved at once: until
    /// then only memory has it.
    pub(super) fn settle(&mut self, broker: &mut Broker, now: Now) {
        let Store(Some(database)) = self else { return };
        if database.damaged {
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
    }

    /// When [`Store::turn`] has something to do.
    pub(super) fn deadline(&self) -> Option<u64> {
        let database = self.0.as_ref().filter(|database| database.save.is_none())?;
        database.retry_ms.or(database.due_ms)
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
        if database.save.take().is_some() {
            broker.abort_snapshot();
            // The worker may have the file; it must be gone before another is made.
            database.disk.wait();
        }
        if database.on_disk && !broker.is_altered() && !broker.has_limited_online() {
            return log::debug!("Nothing has changed since {} was saved.", database.name.display());
        }
        database.save_now(broker, now, true);
    }
}

impl Database {
    fn schedule(&mut self, settings: &Global, now: Now) {
        let seconds = Some(u64::from(settings.autosave_interval)).filter(|s| *s != 0 && !settings.autosave_on_changes);
        self.due_ms = seconds.map(|seconds| now.mono_ms.saturating_add(seconds * 1000));
    }

    fn is_due(&mut self, settings: &Global, broker: &Broker, now: Now) -> bool {
        if let Some(retry) = self.retry_ms {
            return retry <= now.mono_ms;
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
        broker.begin_snapshot(now, false);
        self.save = Some(Save { saver: Saver::new(now, false), complete: false, file: None });
        if self.disk.submit(Job::Create(self.path.clone())).is_err() {
            self.failed(broker, now, &io::ErrorKind::WouldBlock.into());
        }
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
        if let Some(job) = save.next_job(|| aside_name(damaged, now))
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
        self.releasing = self.save.take().map(|save| save.saver);
        let left_out = self.releasing.as_ref().map_or(0, Saver::left_out);
        if left_out > 0 {
            log::warn!("Warning: {left_out} items did not fit the format of the database.");
        }
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
            broker.begin_snapshot(now, stopping);
            let mut save = Save { saver: Saver::new(now, stopping), complete: false, file: None };
            while !save.complete {
                save.slice(broker);
                let out = save.saver.out();
                if save.complete || out.len() >= PIECE {
                    file.write(out)?;
                    out.clear();
                }
            }
            self.save = Some(save);
            file.keep(aside_name(self.damaged, now).as_deref())
        });
        match saved {
            Ok(kept) => self.saved(broker, now, &kept),
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
    fn next_job(&mut self, aside: impl FnOnce() -> Option<String>) -> Option<Job> {
        let full = self.saver.out_len() >= PIECE;
        if !full && !self.complete {
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
    let mut suffix = b".damaged-".to_vec();
    local_time::append(&mut suffix, c"%Y%m%d-%H%M%S", now.wall_s);
    damaged.then(|| String::from_utf8_lossy(&suffix).into_owned())
}
