//! A journal and a snapshot on a disk that fails, as `net::store` keeps them, and the broker's death.

use std::path::{Path, PathBuf};

use mosquitto::broker::changes::ChangeSeq;
use mosquitto::broker::{Broker, SnapshotState, message};
use mosquitto::persist::disk::faulty::{Faults, FaultyDisk};
use mosquitto::persist::disk::{Access, Disk, Stream, beside, write_all_at};
use mosquitto::persist::journal::append::Journal;
use mosquitto::persist::journal::replay::{Found, replay};
use mosquitto::persist::journal::{Header, token_of};
use mosquitto::persist::load;
use mosquitto::persist::save::Saver;
use mosquitto::timer::Now;

use crate::rng::Rng;

/// Brokers can die and come back.
pub(crate) const CRASHES: bool = true;

pub(crate) struct Store {
    disk: FaultyDisk,
    journal: Journal,
    batch: Vec<u8>,
    /// The last change of the batch.
    last: ChangeSeq,
    written: ChangeSeq,
    save: Option<Save>,
    tokens: u32,
}

/// A snapshot under way.
struct Save {
    saver: Saver,
    complete: bool,
    token: u32,
    mark: ChangeSeq,
}

fn path() -> PathBuf {
    "/store/mosquitto.db".into()
}

impl Store {
    pub(crate) fn new(seed: u64, broker: &mut Broker) -> Store {
        let disk = FaultyDisk::new(seed);
        message::number_from(1);
        // An empty snapshot, for the journal to follow.
        let mut saver = Saver::new(Now::default(), false, 1);
        disk.put(&path(), saver.out());
        broker.changes().start_journal();
        let header = Header { base: 1, key: [seed, 1] };
        let journal = Journal::create(Box::new(disk.clone()), &path(), header).expect("a disk that works");
        let (last, written) = (ChangeSeq::default(), ChangeSeq::default());
        Store { disk, journal, batch: Vec::new(), last, written, save: None, tokens: 1 }
    }

    /// The disk fails for a while, or works again.
    pub(crate) fn trouble(&mut self, rng: &mut Rng, calm: bool) {
        if calm {
            self.disk.set_faults(Faults::default());
        } else if rng.one_in(10) {
            let often = *rng.pick(&[0, 0, 3, 10]);
            let space = Some(rng.range(2000, 60_000)).filter(|_| rng.one_in(3));
            let faults = Faults { short_write: often, io_error: often, name_error: often, space, crash_after: None };
            self.disk.set_faults(faults);
        }
    }

    /// What has happened so far goes to disk; if that takes it, it may be promised.
    pub(crate) fn sync(&mut self, broker: &mut Broker) {
        if self.batch.is_empty() {
            (self.batch, self.last) = broker.changes().take(Vec::new());
        }
        if self.batch.is_empty() {
            return;
        }
        if self.journal.append(&mut self.batch).is_ok() {
            self.batch.clear();
            self.written = self.last;
            broker.set_synced(self.last);
        }
    }

    /// A step of a snapshot.
    pub(crate) fn snapshot(&mut self, broker: &mut Broker, now: Now, rng: &mut Rng) {
        let Some(save) = &mut self.save else {
            broker.begin_snapshot(now, false);
            self.tokens += 1;
            broker.changes().mark_snapshot(self.tokens);
            let saver = Saver::new(now, false, self.tokens);
            self.save = Some(Save { saver, complete: false, token: self.tokens, mark: broker.last_change() });
            return;
        };
        while !save.complete && !rng.one_in(3) {
            let most = rng.size(1, 8);
            save.complete = broker.snapshot_slice(most, &mut |item| save.saver.add(&item)) == SnapshotState::Done;
        }
        if !save.complete || self.written < save.mark {
            return;
        }
        let (token, mark) = (save.token, save.mark);
        let mut bytes = std::mem::take(save.saver.out());
        let kept = self.keep(&mut bytes);
        self.save = None;
        if kept.is_ok() {
            broker.set_synced(mark);
            broker.changes().snapshot_lasts();
            let _may_stay_long = self.journal.compact(token, [token.into(), 7]);
        }
    }

    fn keep(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let new = beside(&path(), ".new");
        let mut file = self.disk.create(&new)?;
        write_all_at(&mut *file, 0, bytes)?;
        file.sync()?;
        self.disk.rename(&new, &path())?;
        self.disk.sync_directory(&path())
    }

    /// The broker died; a new one takes over what is on disk.
    pub(crate) fn restart(&mut self, broker: &mut Broker, now: Now, power: bool) {
        if power {
            self.disk.restart();
        } else {
            self.disk.restart_process();
        }
        let bytes = self.disk.content(&path()).expect("there is always a snapshot");
        let token = token_of(&bytes);
        message::number_from(1);
        let stream = Stream::new(self.disk.open(&path(), Access::Read).expect("it works again"));
        let report = load::load(broker, stream, now, true).expect("it works again");
        assert!(!report.loses_data(), "{report:?}");
        message::number_from(report.highest + 1);
        let found = replay(&self.disk, Path::new(&path()), token, broker, now).expect("a sound journal");
        let Found::Replayed { header, good, report } = found else { panic!("{found:?} beside token {token}") };
        let first = message::next_number();
        message::number_from(first.max(report.highest + 1));
        broker.restored(now);
        broker.changes().start_journal();
        self.journal = Journal::open(Box::new(self.disk.clone()), &path(), header, good).expect("it works again");
        self.batch.clear();
        (self.last, self.written) = (ChangeSeq::default(), ChangeSeq::default());
        self.save = None;
    }
}
