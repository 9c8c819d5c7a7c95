//! The listeners' certificates: read at start and on each reload, and watched until they end.

use std::fmt;
use std::path::{Path, PathBuf};

use super::EventLoop;
use super::tls::{KeyLogFile, ServerTls, TlsLoadError};
use crate::config::{Config, Listener};
use crate::timer::Now;

/// Days before the end of a certificate at which the log says so.
const WARN_AT_DAYS: [i64; 3] = [1, 7, 30];
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// TLS of a listener could not be set up. `Display` gives the lines to log.
#[derive(Debug)]
pub struct TlsFileError {
    text: String,
    /// The line that a reload begins with.
    reload: String,
}

impl TlsFileError {
    fn new(listener: &Listener, error: &TlsLoadError) -> TlsFileError {
        let file = |path: &Option<PathBuf>| path.as_deref().unwrap_or(Path::new("")).display().to_string();
        let (certificate, key) = (file(&listener.tls.certfile), file(&listener.tls.keyfile));
        TlsFileError {
            text: format!("{error}\nThis is the TLS of listener {}.", listener.name()),
            reload: format!("Error when reloading certificate '{certificate}' or key '{key}'."),
        }
    }

    /// The same for a reload.
    pub(super) fn on_reload(&self) -> String {
        format!("{}\n{}", self.reload, self.text)
    }
}

impl fmt::Display for TlsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// TLS of each listener, in the order of the configuration. What is worth telling is logged.
///
/// # Errors
/// The first file or option that cannot be used.
pub(super) fn load(config: &Config, key_log: Option<&KeyLogFile>) -> Result<Vec<Option<ServerTls>>, TlsFileError> {
    let load = |listener: &Listener| {
        if listener.tls.certfile.is_none() {
            return Ok(None);
        }
        let loaded = ServerTls::load(&listener.tls, key_log).map_err(|error| TlsFileError::new(listener, &error))?;
        for line in loaded.notes.iter().flat_map(|note| note.lines()) {
            log::warn!("{line}");
        }
        Ok(Some(loaded.tls))
    };
    config.listeners.iter().map(load).collect()
}

/// Reads what a configuration names for TLS, to see whether it can be used.
///
/// # Errors
/// The first file or option that cannot.
pub fn check_tls(config: &Config) -> Result<(), TlsFileError> {
    load(config, None).map(drop)
}

/// The next limit that a certificate is below; `None` when it has long to go.
fn band(days: i64) -> Option<i64> {
    if days < 0 { Some(0) } else { WARN_AT_DAYS.into_iter().find(|limit| days <= *limit) }
}

impl EventLoop {
    /// Looks how long each certificate is valid, tells `$SYS`, and warns of those that end soon, each time that one comes
    /// below a limit. Once a day, and after each reload.
    pub(super) fn watch_certificates(&mut self, now: Now) {
        let today_s = now.wall_s;
        let mut days: Vec<(u16, i64)> = Vec::new();
        let mut warned = Vec::new();
        for (listener, tls) in self.config.listeners.iter().zip(&self.tls) {
            let Some(tls) = tls else { continue };
            let left = tls.days_left(today_s);
            match days.iter_mut().find(|(port, _)| *port == listener.port) {
                // Several addresses of one port: what ends first counts.
                Some((_, least)) => *least = left.min(*least),
                None => days.push((listener.port, left)),
            }
            let Some(band) = band(left) else { continue };
            let known = (listener.name(), band);
            if !self.certificates_warned.contains(&known) {
                let file = listener.tls.certfile.as_deref().unwrap_or(Path::new("")).display();
                let name = &known.0;
                match left {
                    ..0 => log::error!("Error: The certificate \"{file}\" of listener {name} has expired."),
                    _ => log::warn!(
                        "Warning: The certificate \"{file}\" of listener {name} expires in {left} day{}.",
                        if left == 1 { "" } else { "s" }
                    ),
                }
            }
            warned.push(known);
        }
        self.certificates_warned = warned;
        self.certificates_due_ms = (!days.is_empty()).then_some(now.mono_ms + DAY_MS);
        self.broker.set_certificate_days(now, days);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_at_30_7_and_1_days_and_when_it_has_expired() {
        let mut lines = Vec::new();
        let mut before = None;
        for days in (-2..40).rev() {
            let now = band(days);
            if now.is_some() && now != before {
                lines.push(days);
            }
            before = now;
        }
        assert_eq!(lines, [30, 7, 1, -1]);
    }
}
