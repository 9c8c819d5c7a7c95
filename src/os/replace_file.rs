//! Changing a file so that a crash leaves the old or the new content, never a piece of either: at once with [`replace`],
//! or piece by piece with [`NewFile`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Replaces the content of the file at `path`, or makes it with mode 0600: writes beside it, syncs, renames, and syncs
/// the directory. Owner, group and mode of an existing file stay; of a symbolic link the target is replaced.
///
/// A file that cannot be renamed over because it is a mount point of its own is overwritten where it is.
///
/// # Errors
/// What the system says; the old content is still there then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let path = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_path_buf(),
        Err(error) => return Err(error),
    };
    let old = match fs::metadata(&path) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let beside = Beside::create(&path, &format!(".{:016x}.new", super::random::seed()))?;
    let mut file = &beside.file;
    file.write_all(content)?;
    if let Some(old) = &old {
        // Only root may give a file away; for others the owner is right already or cannot be kept.
        let _not_root = fchown(file, Some(old.uid()), Some(old.gid()));
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
    }
    file.sync_all()?;
    match fs::rename(&beside.path, &path) {
        Ok(()) => beside.keep(),
        Err(error) if old.is_some() && error.raw_os_error() == Some(libc::EBUSY) => overwrite(&path, content)?,
        Err(error) => return Err(error),
    }
    sync_directory(&path)
}

/// Makes sure that the name of a file is on disk, not only its content.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(directory) {
        // Whoever may not list it can still have files in it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => opened?.sync_all(),
    }
}

/// A file that is being written and will take the place of another: PATH.new, mode 0600. Dropped before
/// [`NewFile::keep`], it is removed and the other stays as it is.
#[derive(Debug)]
pub struct NewFile {
    beside: Beside,
    path: PathBuf,
    len: u64,
}

impl NewFile {
    /// Begins the file that is to replace `path`, which is no symbolic link. What an earlier attempt left is removed.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: &Path) -> io::Result<NewFile> {
        match fs::remove_file(with_suffix(path, ".new")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(NewFile { beside: Beside::create(path, ".new")?, path: path.to_path_buf(), len: 0 })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// What the system says; the file can only be dropped then.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.len = self.len.saturating_add(bytes.len() as u64);
        (&self.beside.file).write_all(bytes)
    }

    /// Puts the file in its place, when all of it is on disk. The old file goes, unless `aside` is given: then it is kept
    /// under its name with that behind it, and a number if such a file exists.
    ///
    /// # Errors
    /// What the system says; unless only the sync of the directory failed, the old file is still there.
    pub fn keep(self, aside: Option<&str>) -> io::Result<Kept> {
        self.beside.file.sync_all()?;
        let aside = match aside {
            Some(suffix) => keep_aside(&self.path, suffix)?,
            None => None,
        };
        fs::rename(&self.beside.path, &self.path)?;
        self.beside.keep();
        sync_directory(&self.path)?;
        Ok(Kept { len: self.len, aside })
    }
}

/// What [`NewFile::keep`] did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Bytes of the file.
    pub len: u64,
    /// What the old file is called now.
    pub aside: Option<PathBuf>,
}

/// Gives a file another name, with `suffix` behind it and a number if that exists; `None` when there is no such file.
///
/// # Errors
/// What the system says.
pub fn move_aside(path: &Path, suffix: &str) -> io::Result<Option<PathBuf>> {
    let aside = keep_aside(path, suffix)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_directory(path).map(|()| aside),
    }
}

/// Gives a file another name; `None` when there is none. The first name stays too, where the file system has hard links:
/// it is about to be replaced, and at no time is there neither an old nor a new file.
fn keep_aside(path: &Path, suffix: &str) -> io::Result<Option<PathBuf>> {
    for n in 0..1000 {
        let number = if n == 0 { String::new() } else { format!(".{n}") };
        let aside = with_suffix(path, &format!("{suffix}{number}"));
        match fs::hard_link(path, &aside) {
            Ok(()) => return Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) if fs::symlink_metadata(path).is_err() => return Ok(None),
            Err(_) if fs::symlink_metadata(&aside).is_err() => {
                return fs::rename(path, &aside).map(|()| Some(aside));
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    path.with_file_name(name)
}

/// Waits until nobody else holds the file at `path` and holds it, until the result is dropped: for whoever reads it first
/// and then replaces it. Where files cannot be locked, it is not.
///
/// # Errors
/// What the system says when it cannot be opened.
pub fn hold(path: &Path) -> io::Result<File> {
    loop {
        let file = File::open(path)?;
        // SAFETY: the descriptor is open.
        while unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } != 0 {
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return Ok(file);
            }
        }
        // Whoever held it may have put another in its place.
        let (held, there) = (file.metadata()?, fs::metadata(path)?);
        if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
            return Ok(file);
        }
    }
}

fn overwrite(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)?;
    file.sync_all()
}

/// The new file until it has its name; removed when that fails.
#[derive(Debug)]
struct Beside {
    file: File,
    path: PathBuf,
}

impl Beside {
    fn create(path: &Path, suffix: &str) -> io::Result<Beside> {
        let path = with_suffix(path, suffix);
        // `create_new` follows no symbolic link.
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Beside { file, path })
    }

    fn keep(mut self) {
        self.path.clear();
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_what_is_there_and_keeps_its_mode() {
        let directory = std::env::temp_dir().join(format!("mosquitto-replace-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (path, link) = (directory.join("file"), directory.join("link"));
        replace(&path, b"one").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace(&link, b"two, longer").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two, longer");
        assert_eq!(mode(&path), 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(replace(&directory, b"x").is_err());
        assert!(replace(&directory.join("none/file"), b"x").is_err());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "nothing is left beside");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_new_file_is_there_when_it_is_whole_and_not_before() {
        let directory = std::env::temp_dir().join(format!("mosquitto-new-file-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("db");
        fs::write(&path, "old").unwrap();
        let beside = directory.join("db.new");
        // A link that somebody planted is removed, not followed.
        std::os::unix::fs::symlink(&path, &beside).unwrap();
        let mut new = NewFile::create(&path).unwrap();
        new.write(b"new").unwrap();
        drop(new);
        assert!(!beside.exists());
        let mut new = NewFile::create(&path).unwrap();
        new.write(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(new.keep(None).unwrap(), Kept { len: 3, aside: None });
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(NewFile::create(&directory.join("none/db")).is_err());

        for (n, content) in ["new", "0", "1"].into_iter().enumerate() {
            let aside = directory.join(["db.damaged", "db.damaged.1", "db.damaged.2"][n]);
            let mut new = NewFile::create(&path).unwrap();
            new.write(n.to_string().as_bytes()).unwrap();
            assert_eq!(new.keep(Some(".damaged")).unwrap().aside.as_deref(), Some(aside.as_path()));
            assert_eq!(fs::read_to_string(aside).unwrap(), content);
        }
        assert_eq!(fs::read(&path).unwrap(), b"2");
        fs::remove_file(&path).unwrap();
        let new = NewFile::create(&path).unwrap();
        assert_eq!(new.keep(Some(".damaged")).unwrap().aside, None, "there is nothing to be kept");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 4);
        fs::remove_dir_all(&directory).unwrap();
    }
}
