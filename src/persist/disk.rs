//! The files of the store as persistence needs them: by position, with every step that makes something last spelled out.
//! [`RealDisk`] is the file system. Tests have one that loses, tears and
//! refuses.
//!
//! What is written lasts after [`DiskFile::sync`]; what is created, renamed or removed after [`Disk::sync_directory`].

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[cfg(any(debug_assertions, test))]
#[doc(hidden)]
pub mod faulty;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// To read.
    Read,
    /// To read and to write.
    Write,
}

/// Names and what they stand for. Handed to the thread that waits for the disk.
pub trait Disk: Send {
    /// Opens a file that is there.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a new file that only its owner can read, in the place of one that a crash left under this name.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, in the place of what had it.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name. One that is not there is no error.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes what was created, renamed and removed beside `path` last.
    ///
    /// # Errors
    /// What the system says.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send {
    /// Reads from `offset` on; may read less than there is, 0 only at the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes at `offset`; may write less than was asked for.
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize>;

    /// The length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn size(&mut self) -> io::Result<u64>;

    /// Cuts the file, or lengthens it with zeros.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Makes what was written last. After an error nobody knows what lasts of all that was written since the sync before:
    /// it has to be written again.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&mut self) -> io::Result<()>;
}

/// Writes all of `bytes` at `offset`.
///
/// # Errors
/// What the system says; some of it may be written then.
pub fn write_all_at(file: &mut dyn DiskFile, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(offset, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                offset = offset.saturating_add(n as u64);
                bytes = bytes.get(n..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The name beside `path` that ends with `suffix`: `mosquitto.db` and `.new` make `mosquitto.db.new`.
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// A file from its start to its end, for who reads or writes it once.
pub struct Stream {
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl Stream {
    /// From the start of `file`.
    #[must_use]
    pub fn new(file: Box<dyn DiskFile>) -> Stream {
        Stream { file, offset: 0 }
    }

    /// Where the next byte is read or written.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The file itself.
    pub fn file(&mut self) -> &mut dyn DiskFile {
        &mut *self.file
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(self.offset, into)?;
        self.offset = self.offset.saturating_add(n as u64);
        Ok(n)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write_at(self.offset, bytes)?;
        self.offset = self.offset.saturating_add(n as u64);
        Ok(n)
    }

    /// Nothing is held back. What was written lasts only after [`DiskFile::sync`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The file system.
#[derive(Clone, Copy, Default, Debug)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let file = File::options().read(true).write(access == Access::Write).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Box::new(file))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        // What is left there may be a link to something else.
        self.remove(path)?;
        Ok(Box::new(File::options().read(true).write(true).create_new(true).mode(0o600).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}

impl DiskFile for File {
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn size(&mut self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_does_as_it_is_told() {
        let directory = std::env::temp_dir().join(format!("mosquitto-disk-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("store");
        let new = beside(&path, ".new");
        assert_eq!(new.file_name().unwrap(), "store.new");
        assert_eq!(RealDisk.open(&path, Access::Read).err().unwrap().kind(), io::ErrorKind::NotFound);
        std::os::unix::fs::symlink("/dev/null", &new).unwrap();
        let mut file = RealDisk.create(&new).unwrap();
        write_all_at(&mut *file, 2, b"cdef").unwrap();
        write_all_at(&mut *file, 0, b"ab").unwrap();
        file.set_len(5).unwrap();
        file.sync().unwrap();
        assert_eq!(file.size().unwrap(), 5);
        RealDisk.rename(&new, &path).unwrap();
        RealDisk.sync_directory(&path).unwrap();
        let mut text = String::new();
        Stream::new(RealDisk.open(&path, Access::Read).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");
        assert!(RealDisk.open(&directory, Access::Read).is_err(), "a directory is no file");
        RealDisk.remove(&path).unwrap();
        RealDisk.remove(&path).unwrap();
        fs::remove_dir(&directory).unwrap();
    }
}
