//! A disk in memory that fails as disks do, from a seed: writes that are cut short, no space, errors, and a crash at any
//! operation, after which of what was not synced any sector and any name may be old, new, or torn.

#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Access, Disk, DiskFile};

/// What a disk writes as a whole or not at all.
const SECTOR: usize = 512;

/// A small generator: the same seed fails the same way.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True once in `n` times; never for 0.
    pub fn once_in(&mut self, n: u64) -> bool {
        n != 0 && self.below(n) == 0
    }
}

/// How often what goes wrong; 0 is never, 1 is always.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A write takes only a part.
    pub short_write: u64,
    /// A write or a sync fails with EIO.
    pub io_error: u64,
    /// Opening, creating, renaming or removing fails with EIO.
    pub name_error: u64,
    /// The bytes that all files together may have; `None` is any number.
    pub space: Option<u64>,
    /// So many operations until the power goes.
    pub crash_after: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What a reader sees.
    now: Vec<u8>,
    /// What was synced.
    lasting: Vec<u8>,
    /// What was written since.
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
enum Pending {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug)]
enum Naming {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Debug)]
struct State {
    rng: Rng,
    faults: Faults,
    crashed: bool,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    lasting_names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<Naming>,
    written: u64,
    syncs: u64,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct FaultyDisk(Arc<Mutex<State>>);

struct FaultyFile {
    disk: FaultyDisk,
    inode: usize,
}

impl FaultyDisk {
    /// An empty disk that works until [`FaultyDisk::set_faults`].
    #[must_use]
    pub fn new(seed: u64) -> FaultyDisk {
        FaultyDisk(Arc::new(Mutex::new(State {
            rng: Rng::new(seed),
            faults: Faults::default(),
            crashed: false,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            lasting_names: BTreeMap::new(),
            pending_names: Vec::new(),
            written: 0,
            syncs: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// From now on it fails so often.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// True once the power is gone: nothing works until [`FaultyDisk::restart`].
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// Bytes written, and syncs of files.
    #[must_use]
    pub fn wear(&self) -> (u64, u64) {
        let state = self.state();
        (state.written, state.syncs)
    }

    /// The power goes if it has not gone yet, and comes back: of what was not synced some is there. Nothing fails from
    /// here on. Open files are of no use any more.
    pub fn restart(&self) {
        let mut state = self.state();
        let State { rng, inodes, names, lasting_names, pending_names, .. } = &mut *state;
        // A file system logs its names in order.
        let kept = rng.below(pending_names.len() as u64 + 1);
        for naming in pending_names.drain(..).take(usize::try_from(kept).unwrap_or(0)) {
            apply_naming(lasting_names, naming);
        }
        *names = lasting_names.clone();
        for inode in inodes.iter_mut() {
            settle(rng, inode);
            inode.now = inode.lasting.clone();
        }
        state.faults = Faults::default();
        state.crashed = false;
    }

    /// As [`FaultyDisk::restart`] after a kill of the process alone: the system still has all that was written.
    pub fn restart_process(&self) {
        let mut state = self.state();
        state.faults = Faults::default();
        state.crashed = false;
    }

    /// What a reader would see under this name.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.inodes.get(*state.names.get(path)?).map(|inode| inode.now.clone())
    }

    /// Puts a file there that lasts.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let mut state = self.state();
        let inode = state.inodes.len();
        state.inodes.push(Inode { now: content.to_vec(), lasting: content.to_vec(), pending: Vec::new() });
        state.names.insert(path.into(), inode);
        state.lasting_names.insert(path.into(), inode);
    }

    /// The names there are.
    #[must_use]
    pub fn names(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }
}

/// Lets a random part of what is pending come to the disk.
fn settle(rng: &mut Rng, inode: &mut Inode) {
    for pending in std::mem::take(&mut inode.pending) {
        match pending {
            Pending::Length(len) => {
                if rng.once_in(2) {
                    inode.lasting.resize(len, 0);
                }
            }
            Pending::Write { at, bytes } => {
                let mut from = 0;
                while from < bytes.len() {
                    let to = bytes.len().min(from + SECTOR - (at + from) % SECTOR);
                    if rng.once_in(2) {
                        put_at(&mut inode.lasting, at + from, &bytes[from..to]);
                        if rng.once_in(16) {
                            // Torn within the sector.
                            let torn = at + from + usize::try_from(rng.below((to - from) as u64)).unwrap_or(0);
                            inode.lasting[torn..at + to].fill(0);
                        }
                    }
                    from = to;
                }
            }
        }
    }
}

fn put_at(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

fn apply_naming(names: &mut BTreeMap<PathBuf, usize>, naming: Naming) {
    match naming {
        Naming::Create(path, inode) => {
            names.insert(path, inode);
        }
        Naming::Rename(from, to) => {
            if let Some(inode) = names.remove(&from) {
                names.insert(to, inode);
            }
        }
        Naming::Remove(path) => {
            names.remove(&path);
        }
    }
}

impl State {
    /// Counts one operation, which may be the last.
    fn operate(&mut self, error_once_in: u64) -> io::Result<()> {
        if let Some(left) = &mut self.faults.crash_after {
            self.crashed |= *left == 0;
            *left = left.saturating_sub(1);
        }
        if self.crashed || self.rng.once_in(error_once_in) {
            Err(io::Error::from_raw_os_error(libc::EIO))
        } else {
            Ok(())
        }
    }

    fn name(&mut self, naming: Naming) {
        apply_naming(&mut self.names, naming.clone());
        self.pending_names.push(naming);
    }

    fn used(&self) -> u64 {
        let open_or_named = self.names.values().filter_map(|inode| self.inodes.get(*inode));
        open_or_named.map(|inode| inode.now.len() as u64).sum()
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, _access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let errors = state.faults.name_error;
        state.operate(errors)?;
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), inode }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let errors = state.faults.name_error;
        state.operate(errors)?;
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.name(Naming::Create(path.into(), inode));
        Ok(Box::new(FaultyFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let errors = state.faults.name_error;
        state.operate(errors)?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.name(Naming::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let errors = state.faults.name_error;
        state.operate(errors)?;
        if state.names.contains_key(path) {
            state.name(Naming::Remove(path.into()));
        }
        Ok(())
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let errors = state.faults.io_error;
        state.operate(errors)?;
        let State { lasting_names, pending_names, .. } = &mut *state;
        for naming in pending_names.drain(..) {
            apply_naming(lasting_names, naming);
        }
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.operate(0)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = state.inodes[self.inode].now.get(from..).unwrap_or_default();
        let n = rest.len().min(into.len());
        into[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        let Faults { io_error, short_write, .. } = state.faults;
        let done = state.operate(io_error);
        let short = state.rng.once_in(short_write) || (state.crashed && state.rng.once_in(2));
        let mut n = bytes.len();
        if short {
            n = usize::try_from(state.rng.below(n as u64)).unwrap_or(0).max(usize::from(done.is_ok()));
        } else {
            done?;
        }
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(space) = state.faults.space {
            let len = state.inodes[self.inode].now.len();
            let room = space.saturating_sub(state.used()).saturating_add(len.saturating_sub(at) as u64);
            n = n.min(usize::try_from(room).unwrap_or(usize::MAX));
            if n == 0 {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
        }
        state.written += n as u64;
        let inode = &mut state.inodes[self.inode];
        put_at(&mut inode.now, at, &bytes[..n]);
        inode.pending.push(Pending::Write { at, bytes: bytes[..n].to_vec() });
        if state.crashed { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(n) }
    }

    fn size(&mut self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.operate(0)?;
        Ok(state.inodes[self.inode].now.len() as u64)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let errors = state.faults.io_error;
        state.operate(errors)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let inode = &mut state.inodes[self.inode];
        inode.now.resize(len, 0);
        inode.pending.push(Pending::Length(len));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let errors = state.faults.io_error;
        state.syncs += 1;
        let done = state.operate(errors);
        let State { rng, inodes, crashed, .. } = &mut *state;
        let inode = &mut inodes[self.inode];
        match done {
            Ok(()) => {
                inode.lasting = inode.now.clone();
                inode.pending.clear();
            }
            // The system tells of a failure once; what it could not write it takes for written from then on.
            Err(_) if !*crashed => settle(rng, inode),
            Err(_) => {}
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::super::write_all_at;
    use super::*;

    fn path() -> PathBuf {
        "/store/file".into()
    }

    #[test]
    fn what_was_synced_survives_and_nothing_else_must() {
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let disk = FaultyDisk::new(seed);
            let mut file = disk.create(&path()).unwrap();
            write_all_at(&mut *file, 0, b"lasting").unwrap();
            file.sync().unwrap();
            disk.sync_directory(&path()).unwrap();
            write_all_at(&mut *file, 7, &[7; 1000]).unwrap();
            disk.restart();
            let content = disk.content(&path()).unwrap();
            assert_eq!(&content[..7], b"lasting");
            match content.len() {
                7 => lost += 1,
                1007 if content[7..].iter().all(|byte| *byte == 7) => kept += 1,
                _ => torn += 1,
            }
        }
        assert!(lost > 10 && kept > 10 && torn > 10, "{lost} {kept} {torn}");
    }

    #[test]
    fn a_rename_lasts_only_with_its_directory() {
        let (mut old, mut new) = (0, 0);
        for seed in 0..100 {
            let disk = FaultyDisk::new(seed);
            disk.put(&path(), b"old");
            let beside = super::super::beside(&path(), ".new");
            let mut file = disk.create(&beside).unwrap();
            write_all_at(&mut *file, 0, b"new").unwrap();
            file.sync().unwrap();
            disk.rename(&beside, &path()).unwrap();
            disk.restart();
            match disk.content(&path()).unwrap().as_slice() {
                b"old" => old += 1,
                b"new" => new += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(old > 10 && new > 10, "{old} {new}");
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_says_so() {
        let disk = FaultyDisk::new(1);
        disk.set_faults(Faults { space: Some(10), ..Faults::default() });
        let mut file = disk.create(&path()).unwrap();
        let error = write_all_at(&mut *file, 0, &[1; 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.size().unwrap(), 10);
        write_all_at(&mut *file, 0, &[2; 10]).unwrap();
        disk.remove(&path()).unwrap();
        let mut file = disk.create(&path()).unwrap();
        write_all_at(&mut *file, 0, &[3; 10]).unwrap();
    }

    #[test]
    fn what_a_failed_sync_took_is_gone_for_the_next() {
        let mut lost = 0;
        for seed in 0..100 {
            let disk = FaultyDisk::new(seed);
            disk.put(&path(), b"");
            let mut file = disk.open(&path(), Access::Write).unwrap();
            write_all_at(&mut *file, 0, b"data").unwrap();
            disk.set_faults(Faults { io_error: 1, ..Faults::default() });
            file.sync().unwrap_err();
            disk.restart_process();
            assert_eq!(disk.content(&path()).unwrap(), b"data", "a reader cannot tell");
            disk.restart();
            lost += usize::from(disk.content(&path()).unwrap() != b"data");
        }
        assert!(lost > 10, "{lost}");
    }

    #[test]
    fn after_the_power_went_nothing_works() {
        let disk = FaultyDisk::new(3);
        disk.set_faults(Faults { crash_after: Some(2), ..Faults::default() });
        let mut file = disk.create(&path()).unwrap();
        write_all_at(&mut *file, 0, b"x").unwrap();
        assert!(!disk.has_crashed());
        file.sync().unwrap_err();
        assert!(disk.has_crashed() && disk.remove(&path()).is_err() && file.size().is_err());
        assert_eq!(disk.wear(), (1, 1));
        disk.restart();
        assert!(!disk.has_crashed() && disk.names().len() <= 1);
    }
}
