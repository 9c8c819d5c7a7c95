//! The journal of the database: what the core recorded goes to disk, and what waits for it may leave. `[conf:
//! persistence_mode]`
//!
//! A thread of its own writes and syncs, one batch at a time; what is recorded meanwhile is the next batch. A batch begins
//! at once when somebody waits for it, and otherwise after a second, so that what nobody waits for costs few writes. When the
//! disk is full the batch is tried again every second, and until it is written the core refuses what it would have to
//! promise.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mio::Waker;

use crate::broker::Broker;
use crate::broker::changes::ChangeSeq;
use crate::net::worker::Worker;
use crate::os::errors::describe;
use crate::os::random;
use crate::persist::disk::RealDisk;
use crate::persist::journal::append::Journal;
use crate::persist::journal::{Header, path_of};
use crate::timer::Now;

/// How long changes may wait that nobody waits for.
const LAZY_MS: u64 = 1000;
/// Bytes that do not wait.
const EAGER: usize = 64 * 1024;
/// A buffer larger than this is not kept.
const KEPT_BUFFER: usize = 256 * 1024;
/// How long to wait after a failure.
const RETRY_MS: u64 = 1000;
/// How often a failure that goes on is logged.
const NOTE_MS: u64 = 60_000;
/// Below this size a journal is not worth a snapshot.
const LEAST_COMPACTED: u64 = 256 * 1024;

/// Keeps the journal.
pub(super) struct Keeper {
    worker: Worker<Job, Answer>,
    /// The snapshot it belongs to.
    snapshot: PathBuf,
    file: Place,
    /// What is being written, or has to be written again.
    batch: Vec<u8>,
    under_way: Mark,
    /// The last change that was written.
    written: ChangeSeq,
    /// When changes that nobody waits for are written.
    due_ms: Option<u64>,
    /// Somebody else than a client waits.
    urgent: bool,
    /// When to try again after a failure.
    retry_ms: Option<u64>,
    noted_ms: Option<u64>,
    /// A snapshot that is complete and still to be told to the journal.
    compact: Option<u32>,
    /// Not before.
    compact_ms: u64,
    /// Bytes of the journal.
    size: u64,
}

/// The changes of a batch.
#[derive(Clone, Copy, Default)]
struct Mark {
    last: ChangeSeq,
    /// The last of them that may be promised.
    promised: ChangeSeq,
}

/// Where the journal is.
enum Place {
    /// There is none yet; it will follow the snapshot with this token. Without a snapshot that has one there can be none.
    Missing(Option<u32>),
    Here(Box<Journal>),
    /// The thread has it.
    Away,
}

/// What the thread does.
enum Job {
    Append(File, Vec<u8>),
    Compact(Box<Journal>, u32, [u64; 2]),
}

enum File {
    Open(Box<Journal>),
    New(PathBuf, Header),
}

struct Answer {
    file: Result<Box<Journal>, u32>,
    batch: Option<Vec<u8>>,
    /// Bytes written to the file.
    done: io::Result<u64>,
}

fn work(job: Job) -> Answer {
    match job {
        Job::Append(file, mut batch) => {
            let opened = match file {
                File::Open(journal) => Ok(journal),
                File::New(snapshot, header) => {
                    let made = Journal::create(Box::new(RealDisk), &snapshot, header);
                    made.map(Box::new).map_err(|error| (header.base, error))
                }
            };
            match opened {
                Ok(mut journal) => {
                    let done = journal.append(&mut batch).map(|()| batch.len() as u64);
                    Answer { file: Ok(journal), batch: Some(batch), done }
                }
                Err((base, error)) => Answer { file: Err(base), batch: Some(batch), done: Err(error) },
            }
        }
        Job::Compact(mut journal, token, key) => {
            let done = journal.compact(token, key);
            Answer { file: Ok(journal), batch: None, done }
        }
    }
}

impl Keeper {
    /// Keeps the journal of the snapshot at `snapshot`: goes on with `journal`, or makes one for the snapshot with the token
    /// `base` when there is something to write.
    pub(super) fn new(waker: Arc<Waker>, snapshot: &Path, journal: Option<Journal>, base: Option<u32>) -> Keeper {
        Keeper {
            worker: Worker::new("journal", 1, waker, work),
            snapshot: snapshot.into(),
            size: journal.as_ref().map_or(0, Journal::size),
            file: journal.map_or(Place::Missing(base), |journal| Place::Here(Box::new(journal))),
            batch: Vec::new(),
            under_way: Mark::default(),
            written: ChangeSeq::default(),
            due_ms: None,
            urgent: false,
            retry_ms: None,
            noted_ms: None,
            compact: None,
            compact_ms: 0,
        }
    }

    /// Whether there is a snapshot that the journal follows.
    pub(super) fn has_base(&self) -> bool {
        !matches!(self.file, Place::Missing(None))
    }

    /// A token for the next snapshot.
    pub(super) fn new_token() -> u32 {
        loop {
            let [a, b, c, d, ..] = random::seed().to_le_bytes();
            let token = u32::from_le_bytes([a, b, c, d]);
            if token != 0 {
                return token;
            }
        }
    }

    /// When [`Keeper::write`] has something to do.
    pub(super) fn deadline(&self) -> Option<u64> {
        match self.file {
            Place::Away | Place::Missing(None) => None,
            Place::Here(_) | Place::Missing(Some(_)) => self.retry_ms.or(self.due_ms),
        }
    }

    /// Whether the journal has grown so far that a snapshot of `len` bytes is worth it, or is the only way to go on.
    pub(super) fn wants_snapshot(&self, broker: &mut Broker, len: u64) -> bool {
        let grown = self.size > len.max(LEAST_COMPACTED) && self.compact.is_none();
        self.retry_ms.is_none() && (grown || broker.changes().has_gap() || matches!(self.file, Place::Missing(None)))
    }

    /// Whether the journal has anything that the snapshot has not.
    pub(super) fn has_content(&self) -> bool {
        self.size > crate::persist::journal::START
    }

    /// The moment of a snapshot: marks it. Nothing before it needs to be written if there is no journal yet.
    pub(super) fn begin_snapshot(&mut self, broker: &mut Broker, token: u32) {
        if let Place::Missing(None) = self.file {
            // All of it is in the snapshot, and nothing is written before that is complete.
            self.batch.clear();
            broker.changes().take(Vec::new());
        }
        broker.changes().mark_snapshot(token);
        self.urgent = true;
    }

    /// Whether the snapshot whose moment was this change may take its place: as soon as the journal has the mark.
    pub(super) fn knows(&self, mark: ChangeSeq) -> bool {
        self.written >= mark || matches!(self.file, Place::Missing(None))
    }

    /// A snapshot is complete: everything up to its moment is on disk.
    pub(super) fn snapshot_kept(&mut self, broker: &mut Broker, token: u32, mark: ChangeSeq) {
        broker.set_synced(mark);
        broker.changes().snapshot_lasts();
        self.refuse(broker);
        match &mut self.file {
            Place::Missing(base) => *base = Some(token),
            Place::Here(_) | Place::Away => (self.compact, self.compact_ms) = (Some(token), 0),
        }
    }

    /// Takes what the thread has done.
    pub(super) fn synced(&mut self, broker: &mut Broker, now: Now) {
        if let Some(answer) = self.worker.next_answer() {
            self.take(broker, now, answer);
        }
    }

    fn take(&mut self, broker: &mut Broker, now: Now, answer: Answer) {
        self.file = match answer.file {
            Ok(journal) => {
                self.size = journal.size();
                Place::Here(journal)
            }
            Err(base) => Place::Missing(Some(base)),
        };
        let appended = answer.batch.is_some();
        if let Some(batch) = answer.batch {
            self.batch = batch;
        }
        match answer.done {
            Ok(bytes) => {
                broker.stats.journal_bytes += bytes;
                if appended {
                    broker.stats.journal_syncs += 1;
                    self.batch.clear();
                    self.written = self.under_way.last;
                    broker.set_synced(self.under_way.promised);
                } else {
                    self.compact = None;
                }
                if appended && self.retry_ms.take().is_some() && self.noted_ms.take().is_some() {
                    crate::notice!("The journal could be written again.");
                }
            }
            Err(error) if !appended => {
                // It goes on as it is, only longer than it had to be.
                self.compact_ms = now.mono_ms.saturating_add(NOTE_MS);
                let journal = path_of(&self.snapshot);
                log::warn!("Warning: Unable to shorten the journal {}: {}", journal.display(), describe(&error));
            }
            Err(error) => self.failed(now, &error),
        }
        self.refuse(broker);
    }

    fn failed(&mut self, now: Now, error: &io::Error) {
        self.retry_ms = Some(now.mono_ms.saturating_add(RETRY_MS));
        if self.noted_ms.is_none_or(|last| now.mono_ms >= last.saturating_add(NOTE_MS)) {
            self.noted_ms = Some(now.mono_ms);
            log::error!(
                "Error: Unable to write the journal {}: {}. Nothing that was acknowledged is lost; until it can be written, \
                 QoS 1 and 2 messages, subscriptions and sessions that are to last are refused.",
                path_of(&self.snapshot).display(),
                describe(error)
            );
        }
    }

    /// While the journal cannot be written, nothing can be promised.
    pub(super) fn refuse(&self, broker: &mut Broker) {
        let refusing = self.retry_ms.is_some() || broker.changes().has_gap() || !self.has_base();
        broker.changes().set_refusing(refusing);
    }

    /// Hands the next batch to the thread, if it is free and there is a reason.
    pub(super) fn write(&mut self, broker: &mut Broker, now: Now) {
        if let Place::Away | Place::Missing(None) = self.file {
            return;
        }
        if self.retry_ms.is_some_and(|retry| retry > now.mono_ms) {
            return;
        }
        if self.batch.is_empty() {
            if let Some(token) = self.compact.filter(|_| self.compact_ms <= now.mono_ms)
                && let Place::Here(journal) = std::mem::replace(&mut self.file, Place::Away)
            {
                return self.submit(broker, now, Job::Compact(journal, token, new_key()));
            }
            if !self.take_batch(broker, now) {
                return;
            }
        }
        let batch = std::mem::take(&mut self.batch);
        let file = match std::mem::replace(&mut self.file, Place::Away) {
            Place::Here(journal) => File::Open(journal),
            Place::Missing(base) => {
                File::New(self.snapshot.clone(), Header { base: base.unwrap_or_default(), key: new_key() })
            }
            Place::Away => return,
        };
        self.submit(broker, now, Job::Append(file, batch));
    }

    /// Takes what was recorded as the next batch; false when it can wait.
    fn take_batch(&mut self, broker: &mut Broker, now: Now) -> bool {
        let changes = broker.changes();
        let pending = changes.pending();
        if pending == 0 {
            (self.due_ms, self.urgent) = (None, false);
            return false;
        }
        let due = *self.due_ms.get_or_insert(now.mono_ms.saturating_add(LAZY_MS));
        if !(changes.is_awaited() || self.urgent || pending >= EAGER || due <= now.mono_ms) {
            return false;
        }
        (self.due_ms, self.urgent) = (None, false);
        let spare = std::mem::take(&mut self.batch);
        let spare = if spare.capacity() > KEPT_BUFFER { Vec::new() } else { spare };
        let (batch, promised) = changes.take(spare);
        self.batch = batch;
        self.under_way = Mark { last: changes.last(), promised };
        true
    }

    fn submit(&mut self, broker: &mut Broker, now: Now, job: Job) {
        if let Err(job) = self.worker.submit(job) {
            // No thread can be had.
            let again = io::Error::from(io::ErrorKind::WouldBlock);
            let answer = match job {
                Job::Append(File::Open(journal), batch) => {
                    Answer { file: Ok(journal), batch: Some(batch), done: Err(again) }
                }
                Job::Append(File::New(_, header), batch) => {
                    Answer { file: Err(header.base), batch: Some(batch), done: Err(again) }
                }
                Job::Compact(journal, ..) => Answer { file: Ok(journal), batch: None, done: Err(again) },
            };
            self.take(broker, now, answer);
        }
    }

    /// Writes all there is, without going back to the loop: the broker stops.
    pub(super) fn finish(&mut self, broker: &mut Broker, now: Now) {
        if let Some(answer) = self.worker.wait_for_answer() {
            self.take(broker, now, answer);
        }
        self.compact = None;
        // First what failed before, then the rest.
        for _ in 0..2 {
            self.urgent = true;
            if self.batch.is_empty() && !self.take_batch(broker, now) {
                return;
            }
            let batch = std::mem::take(&mut self.batch);
            let file = match std::mem::replace(&mut self.file, Place::Away) {
                Place::Here(journal) => File::Open(journal),
                Place::Missing(Some(base)) => File::New(self.snapshot.clone(), Header { base, key: new_key() }),
                other => {
                    self.file = other;
                    return;
                }
            };
            let answer = work(Job::Append(file, batch));
            let failed = answer.done.is_err();
            self.take(broker, now, answer);
            if failed {
                return;
            }
        }
    }

    /// The last snapshot has everything: the journal goes.
    pub(super) fn remove(&mut self) {
        if let Place::Here(journal) = std::mem::replace(&mut self.file, Place::Missing(None))
            && let Err(error) = journal.remove()
        {
            log::warn!(
                "Warning: Unable to remove the journal {}, of which nothing is needed any more: {}",
                path_of(&self.snapshot).display(),
                describe(&error)
            );
        }
    }
}

fn new_key() -> [u64; 2] {
    [random::seed(), random::seed()]
}
