//! The secrets of every connection in the format that Wireshark reads, for `--tls-keylog`.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use rustls::KeyLog;

/// A file that takes key log lines; one for all listeners.
#[derive(Clone)]
pub struct KeyLogFile(Arc<Mutex<File>>);

impl KeyLogFile {
    /// Lines go to the end of `file`, which the caller opened with care: who reads it can read everything.
    #[must_use]
    pub fn new(file: File) -> KeyLogFile {
        KeyLogFile(Arc::new(Mutex::new(file)))
    }
}

impl fmt::Debug for KeyLogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLogFile")
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = format!("{label} ");
        let mut hex = |bytes: &[u8], end| {
            for byte in bytes {
                let _never_fails = write!(line, "{byte:02x}");
            }
            line.push(end);
        };
        hex(client_random, ' ');
        hex(secret, '\n');
        if let Ok(mut file) = self.0.lock() {
            // Not worth a connection: the disk may be full.
            let _lost = file.write_all(line.as_bytes());
        }
    }
}
