//! Opening files that strangers may name: never outside one directory, whatever links lie in it.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What a path names.
#[derive(Debug)]
pub enum Found {
    /// A regular file, open for reading, and its length in bytes.
    File(File, u64),
    /// A directory.
    Directory,
}

/// Non-blocking, so that a FIFO is found out and not waited for.
const FLAGS: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// Opens what `path` names, seen from the directory `root`, which is canonical. Symbolic links are followed as long as they
/// stay below it; those to absolute paths do not count as such.
///
/// # Errors
/// What the system says, or `PermissionDenied` for what lies elsewhere or is neither file nor directory.
pub fn open(root: &Path, path: &str) -> io::Result<Found> {
    let path = if path.is_empty() { "." } else { path };
    let file = match resolve_beneath(root, path) {
        // Older kernels do not know the call, and some containers forbid what they do not know.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => look_first(root, path)?,
        other => other?,
    };
    let found = file.metadata()?;
    if found.is_dir() {
        Ok(Found::Directory)
    } else if found.is_file() {
        Ok(Found::File(file, found.len()))
    } else {
        Err(elsewhere())
    }
}

fn elsewhere() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

/// The kernel makes sure, at every step of the way.
fn resolve_beneath(root: &Path, path: &str) -> io::Result<File> {
    const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
    const RESOLVE_BENEATH: u64 = 0x08;
    let root = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(root)?;
    let path = CString::new(path)?;
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC | FLAGS) as u64;
    // `struct open_how`: flags, mode, resolve.
    let how = [flags, 0, RESOLVE_NO_MAGICLINKS | RESOLVE_BENEATH];
    for _ in 0..3 {
        // SAFETY: the directory is open, `path` ends in NUL, and `how` has the size that is given.
        let fd = unsafe {
            libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), how.as_ptr(), size_of_val(&how))
        };
        if let Ok(fd @ 0..) = i32::try_from(fd) {
            // SAFETY: the call has just opened it, and nobody else knows of it.
            return Ok(unsafe { File::from_raw_fd(fd) });
        }
        let error = io::Error::last_os_error();
        // Something was renamed on the way.
        if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) {
            return Err(error);
        }
    }
    Err(elsewhere())
}

/// The same for all but those who can change the directory at the right moment.
fn look_first(root: &Path, path: &str) -> io::Result<File> {
    let path = fs::canonicalize(root.join(path))?;
    if !path.starts_with(root) {
        return Err(elsewhere());
    }
    fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | FLAGS).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// A directory `www` with files and links, beside something that is nobody's business.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let top = std::env::temp_dir().join(format!("mosquitto-beneath-{name}-{}", std::process::id()));
            let root = top.join("www");
            fs::create_dir_all(root.join("sub")).unwrap();
            fs::write(top.join("secret"), "secret").unwrap();
            fs::create_dir(top.join("www-other")).unwrap();
            fs::write(top.join("www-other/secret"), "secret").unwrap();
            fs::write(root.join("a"), "a").unwrap();
            fs::write(root.join("sub/b"), "bb").unwrap();
            symlink("sub/b", root.join("inside")).unwrap();
            symlink("../a", root.join("sub/up")).unwrap();
            symlink("../secret", root.join("outside")).unwrap();
            symlink(top.join("secret"), root.join("absolute")).unwrap();
            symlink("..", root.join("parent")).unwrap();
            symlink("../www-other", root.join("other")).unwrap();
            symlink("/proc/self/root", root.join("magic")).unwrap();
            symlink("loop", root.join("loop")).unwrap();
            let fifo = CString::new(root.join("fifo").to_str().unwrap()).unwrap();
            // SAFETY: the path ends in NUL.
            assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
            Place(fs::canonicalize(&top).unwrap())
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn content(file: io::Result<File>) -> Option<String> {
        let (mut file, mut text) = (file.ok()?, String::new());
        file.read_to_string(&mut text).ok()?;
        Some(text)
    }

    #[test]
    fn no_link_leads_out_of_the_directory() {
        let place = Place::new("links");
        let root = place.0.join("www");
        for (path, text) in [
            ("a", Some("a")),
            ("sub/b", Some("bb")),
            ("inside", Some("bb")),
            ("sub/up", Some("a")),
            ("outside", None),
            ("absolute", None),
            ("parent/secret", None),
            ("other/secret", None),
            ("magic/etc/passwd", None),
            ("loop", None),
            ("a/b", None),
            ("missing", None),
            ("../secret", None),
        ] {
            assert_eq!(content(resolve_beneath(&root, path)).as_deref(), text, "{path}");
            assert_eq!(content(look_first(&root, path)).as_deref(), text, "{path}, looking first");
            let whole = open(&root, path).ok().map(|found| match found {
                Found::File(file, len) => (content(Ok(file)).unwrap(), len),
                Found::Directory => panic!("{path} is a directory"),
            });
            assert_eq!(whole, text.map(|text| (text.to_owned(), text.len() as u64)), "{path}");
        }
    }

    #[test]
    fn only_regular_files_are_files() {
        let place = Place::new("kinds");
        let root = place.0.join("www");
        assert!(matches!(open(&root, ""), Ok(Found::Directory)));
        assert!(matches!(open(&root, "sub"), Ok(Found::Directory)));
        assert!(open(&root, "fifo").is_err() && open(&root, "parent").is_err());
    }
}
