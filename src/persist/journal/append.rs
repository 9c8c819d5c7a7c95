//! Writing a journal: appending batches, and going over to a new one when a snapshot is complete. Runs on the thread that
//! waits for the disk.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::read::{ReadError, Reader, Step};
use super::{Header, START, path_of, seal};
use crate::broker::changes::GROUP_HEAD;
use crate::broker::changes::record::Change;
use crate::persist::disk::{Access, Disk, DiskFile, Stream, beside, write_all_at};

/// Bytes that are copied to a new journal with one write.
const COPY: usize = 64 * 1024;

/// An open journal.
pub struct Journal {
    disk: Box<dyn Disk>,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    header: Header,
    /// Where the next batch belongs: everything before is synced.
    end: u64,
    /// The file may go on behind `end` with what a crash left, and what stands before may not be synced.
    tail: bool,
    /// The file may not have its name after a power cut.
    nameless: bool,
}

impl Journal {
    /// A new journal for the snapshot at `snapshot`, which has the token `base`, in the place of one that is there.
    ///
    /// # Errors
    /// What the system says; what was there still is.
    pub fn create(disk: Box<dyn Disk>, snapshot: &Path, header: Header) -> io::Result<Journal> {
        let path = path_of(snapshot);
        let (file, end) = replace(&*disk, &path, header, |_, _| Ok(()))?;
        let mut this = Journal { disk, path, file, header, end, tail: false, nameless: true };
        this.settle()?;
        Ok(this)
    }

    /// Goes on with a journal that was read up to `good`.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(disk: Box<dyn Disk>, snapshot: &Path, header: Header, good: u64) -> io::Result<Journal> {
        let path = path_of(snapshot);
        let file = disk.open(&path, Access::Write)?;
        let mut this = Journal { disk, path, file, header, end: good, tail: true, nameless: true };
        this.settle()?;
        Ok(this)
    }

    /// Makes last what has to before anything is appended.
    fn settle(&mut self) -> io::Result<()> {
        if self.tail {
            // What a crash left would follow the next batch.
            self.file.set_len(self.end)?;
            self.file.sync()?;
            self.tail = false;
        }
        if self.nameless {
            self.disk.sync_directory(&self.path)?;
            self.nameless = false;
        }
        Ok(())
    }

    /// The snapshot has all there is: the journal is no longer needed. A new one is made when there is something to write.
    ///
    /// # Errors
    /// What the system says; it stays and does no harm then.
    pub fn remove(self) -> io::Result<()> {
        self.disk.remove(&self.path)?;
        self.disk.sync_directory(&self.path)
    }

    /// The token of the snapshot it goes on from.
    #[must_use]
    pub const fn base(&self) -> u32 {
        self.header.base
    }

    /// Bytes of the file that count.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.end
    }

    /// Appends groups and syncs them. After an error nothing of it counts; it is to be tried again with the
    /// same groups and perhaps more behind them, never with others.
    ///
    /// # Errors
    /// What the system says.
    pub fn append(&mut self, groups: &mut [u8]) -> io::Result<()> {
        if !seal(groups, self.header.key, self.end) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.settle()?;
        write_all_at(&mut *self.file, self.end, groups)?;
        self.file.sync()?;
        self.end = self.end.saturating_add(groups.len() as u64);
        Ok(())
    }

    /// The snapshot with this token is complete: what came before it goes. Bytes that were written for it. When the journal
    /// does not have its mark, all of it stays.
    ///
    /// # Errors
    /// What the system says; the old journal is there and in use then.
    pub fn compact(&mut self, token: u32, key: [u64; 2]) -> io::Result<u64> {
        if self.header.base == token {
            self.settle()?;
            return Ok(0);
        }
        let stream = Stream::new(self.disk.open(&self.path, Access::Read)?);
        // Not what a batch that failed has left behind: it is tried again.
        let mut reader = Reader::new(stream.take(self.end)).map_err(into_io)?;
        if !seek(&mut reader, token)? {
            return Ok(0);
        }
        let header = Header { base: token, key };
        let (file, end) = replace(&*self.disk, &self.path, header, |file, end| copy(&mut reader, file, header, end))?;
        (self.file, self.header, self.end, self.tail) = (file, header, end, false);
        // The old one may still have the name after a power cut, and lacks what is appended from now on.
        self.nameless = true;
        self.settle()?;
        Ok(end)
    }
}

/// Reads on to behind the mark of a snapshot; false when there is none.
pub(super) fn seek(reader: &mut Reader<impl Read>, token: u32) -> io::Result<bool> {
    loop {
        match reader.step()? {
            Step::Group(group) if is_mark(group, token) => return Ok(true),
            Step::Group(_) | Step::Damage(_) => {}
            Step::End { .. } => return Ok(false),
        }
    }
}

fn is_mark(group: &[u8], token: u32) -> bool {
    Change::decode_group(group).any(|change| matches!(change, Ok(Change::Snapshot { token: t, .. }) if t == token))
}

/// Copies the groups that are left to `end` of a new file, as batches of their own.
fn copy(reader: &mut Reader<impl Read>, file: &mut dyn DiskFile, header: Header, end: &mut u64) -> io::Result<()> {
    let mut batch = Vec::new();
    loop {
        let step = reader.step()?;
        let ends = matches!(step, Step::End { .. });
        if let Step::Group(group) = step {
            let len = u32::try_from(group.len()).unwrap_or(u32::MAX);
            let mut head = [0; GROUP_HEAD];
            if let Some(first) = head.first_chunk_mut::<4>() {
                *first = len.to_le_bytes();
            }
            batch.extend_from_slice(&head);
            batch.extend_from_slice(group);
        }
        if batch.len() >= COPY || ends {
            seal(&mut batch, header.key, *end);
            write_all_at(file, *end, &batch)?;
            *end = end.saturating_add(batch.len() as u64);
            batch.clear();
        }
        if ends {
            return Ok(());
        }
    }
}

/// Writes a journal beside the old one, with what `fill` puts into it, and gives it the name, which lasts only when the
/// directory is synced. Where its next batch belongs.
fn replace(
    disk: &dyn Disk,
    path: &Path,
    header: Header,
    fill: impl FnOnce(&mut dyn DiskFile, &mut u64) -> io::Result<()>,
) -> io::Result<(Box<dyn DiskFile>, u64)> {
    let new = beside(path, ".new");
    let written = (|| {
        let mut file = disk.create(&new)?;
        write_all_at(&mut *file, 0, &header.encode())?;
        let mut end = START;
        fill(&mut *file, &mut end)?;
        file.sync()?;
        disk.rename(&new, path)?;
        Ok((file, end))
    })();
    if written.is_err() {
        // Nobody reads it; the next one takes its place if it cannot be removed.
        let _left = disk.remove(&new);
    }
    written
}

fn into_io(error: ReadError) -> io::Error {
    match error {
        ReadError::Io(error) => error,
        ReadError::Unreadable(why) => io::Error::new(io::ErrorKind::InvalidData, why.to_string()),
    }
}
