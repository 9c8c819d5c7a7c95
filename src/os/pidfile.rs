//! The file with the process id `[conf: pid_file]`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Removes the file when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the decimal process id without a newline. An existing file is overwritten, symbolic links are followed,
    /// and the mode follows the umask; nothing but a regular file will do.
    ///
    /// # Errors
    /// What the system says, or `InvalidInput` for something that is no regular file.
    pub fn write(path: &Path) -> io::Result<PidFile> {
        // Non-blocking, so that a FIFO nobody reads is an error and not a wait.
        let mut file =
            File::options().write(true).create(true).truncate(false).custom_flags(libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        file.set_len(0)?;
        let written = PidFile { path: path.to_owned() };
        write!(file, "{}", std::process::id())?;
        Ok(written)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Nobody is left to tell: the process is ending.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_stands_without_a_newline_until_the_end() {
        let path = std::env::temp_dir().join(format!("mosquitto-pidfile-{}", std::process::id()));
        fs::write(&path, "an older and much longer file\n").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn only_a_regular_file_will_do() {
        assert!(PidFile::write(Path::new("/dev/null")).is_err());
        assert!(PidFile::write(&std::env::temp_dir()).is_err());
        assert!(PidFile::write(Path::new("/no/such/directory/pid")).is_err());
    }
}
