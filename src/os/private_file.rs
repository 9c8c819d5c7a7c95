//! Opening files that hold secrets or may be planted by others, such as a log file in a shared directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::users;

/// True when the environment variable `MOSQUITTO_UNSAFE_ALLOW_SYMLINKS` is set: symbolic links are then followed.
#[must_use]
pub fn symlinks_allowed() -> bool {
    std::env::var_os("MOSQUITTO_UNSAFE_ALLOW_SYMLINKS").is_some()
}

/// Opens a file for appending, made with mode 0600 when it does not exist. It must be a regular file and, unless
/// `follow` ([`symlinks_allowed`]), no symbolic link.
///
/// # Errors
/// What the system says, or `InvalidInput` for something that is no regular file.
pub fn append(path: &Path, follow: bool) -> io::Result<File> {
    open_with(File::options().append(true).create(true).mode(0o600), path, follow)
}

/// Opens a file for reading, by the same rules as [`append`].
///
/// # Errors
/// What the system says, or `InvalidInput` for something that is no regular file.
pub fn open(path: &Path, follow: bool) -> io::Result<File> {
    open_with(File::options().read(true), path, follow)
}

fn open_with(options: &mut OpenOptions, path: &Path, follow: bool) -> io::Result<File> {
    // Non-blocking, so that a FIFO nobody reads is an error; the C broker waits for a reader for good.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | if follow { 0 } else { libc::O_NOFOLLOW };
    let file = options.custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// What is wrong with who may read a file that holds secrets, as lines to log as information: others may, or it belongs
/// to another user or group than the broker's. Nothing is refused for that.
#[must_use]
pub fn remarks(path: &Path, file: &File) -> Vec<String> {
    file.metadata()
        .map_or(Vec::new(), |found| remarks_on(path, found.mode(), (found.uid(), found.gid()), users::effective_ids()))
}

fn remarks_on(path: &Path, mode: u32, owner: (u32, u32), own: (u32, u32)) -> Vec<String> {
    const LATER: &str = "Future versions will refuse to load this file.";
    let path = path.display();
    let mut lines = Vec::new();
    if mode & 0o007 != 0 {
        lines.push(format!("Warning: File {path} has world readable permissions. {LATER}"));
        lines.push(format!("To fix this, use `chmod 0600 {path}`."));
    }
    if owner.0 != own.0 {
        let name = users::user_name(own.0);
        lines.push(format!("Warning: File {path} owner is not {name}. {LATER}"));
        lines.push(format!("To fix this, use `chown {name} {path}`."));
    }
    if owner.1 != own.1 {
        let name = users::group_name(own.1);
        lines.push(format!("Warning: File {path} group is not {name}. {LATER}"));
        lines.push(format!("To fix this, use `chgrp {name} {path}`."));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_file_is_private_and_an_old_one_is_appended_to() {
        let directory = std::env::temp_dir().join(format!("mosquitto-private-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("log");
        let link = directory.join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();

        append(&path, false).unwrap().write_all(b"one ").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        append(&path, false).unwrap().write_all(b"two ").unwrap();
        assert!(append(&link, false).is_err(), "a link is not followed");
        append(&link, true).unwrap().write_all(b"three").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one two three");
        assert!(append(&directory, false).is_err());
        assert!(append(Path::new("/dev/null"), false).is_err());
        assert_eq!(std::io::read_to_string(open(&path, false).unwrap()).unwrap(), "one two three");
        assert!(open(&link, false).is_err());
        assert!(open(&directory.join("missing"), false).is_err());
        let fifo = std::ffi::CString::new(directory.join("fifo").into_os_string().into_encoded_bytes()).unwrap();
        // SAFETY: the name ends with NUL.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        assert!(append(&directory.join("fifo"), false).is_err(), "a FIFO without a reader is not waited for");
        assert!(open(&directory.join("fifo"), false).is_err(), "nor one without a writer");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn remarks_name_who_should_own_the_file_and_what_to_do() {
        let path = Path::new("/p");
        assert_eq!(remarks_on(path, 0o100_660, (0, 0), (0, 0)), Vec::<String>::new());
        assert_eq!(
            remarks_on(path, 0o100_644, (1, 0), (0, 0)),
            [
                "Warning: File /p has world readable permissions. Future versions will refuse to load this file.",
                "To fix this, use `chmod 0600 /p`.",
                "Warning: File /p owner is not root. Future versions will refuse to load this file.",
                "To fix this, use `chown root /p`.",
            ]
        );
        assert_eq!(
            remarks_on(path, 0o100_600, (0, 1), (0, 0)),
            [
                "Warning: File /p group is not root. Future versions will refuse to load this file.",
                "To fix this, use `chgrp root /p`.",
            ]
        );
    }
}
