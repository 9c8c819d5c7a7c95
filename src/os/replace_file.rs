//! Changing a file so that a crash leaves the old or the new content, never a piece of either.

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
    let beside = Beside::create(&path)?;
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
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
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
struct Beside {
    file: File,
    path: PathBuf,
}

impl Beside {
    fn create(path: &Path) -> io::Result<Beside> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{:016x}.new", super::random::seed()));
        let path = path.with_file_name(name);
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
}
