//! Opening files that hold secrets or may be planted by others, such as a log file in a shared directory.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

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
    // Non-blocking, so that a FIFO nobody reads is an error; the C broker waits for a reader for good.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | if follow { 0 } else { libc::O_NOFOLLOW };
    let file = File::options().append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
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
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
