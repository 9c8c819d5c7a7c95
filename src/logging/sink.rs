//! The destinations and the one line buffer behind the logger.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use super::Verbosity;
use super::limiter::{Limiter, Place, Summary, Verdict};
use crate::config::{Log, LogTypes};
use crate::os::syslog::{self, Priority};
use crate::os::{clock, local_time, private_file};
use crate::timer::Now;

/// The longest line in bytes, timestamp included, newline not.
const MAX_LINE: usize = 999;
/// The most bytes of lines that wait to be published as topics; what comes on top is not published.
const MAX_TOPIC_BYTES: usize = 64 * 1024;

thread_local! {
    /// This thread publishes waiting lines; what that logs must not become the next line to publish, for ever.
    pub(super) static DRAINING: Cell<bool> = const { Cell::new(false) };
}

/// What stands behind `$SYS/broker/log/` for a type, `None` for the types that are never published.
fn topic_suffix(kind: LogTypes) -> Option<&'static str> {
    match kind {
        LogTypes::ERROR => Some("E"),
        LogTypes::WARNING => Some("W"),
        LogTypes::NOTICE => Some("N"),
        LogTypes::INFORMATION => Some("I"),
        LogTypes::SUBSCRIBE => Some("M/subscribe"),
        LogTypes::UNSUBSCRIBE => Some("M/unsubscribe"),
        LogTypes::WEBSOCKETS => Some("WS"),
        _ => None,
    }
}

fn priority(kind: LogTypes) -> Priority {
    match kind {
        LogTypes::WARNING => Priority::Warning,
        LogTypes::NOTICE | LogTypes::SUBSCRIBE | LogTypes::UNSUBSCRIBE => Priority::Notice,
        LogTypes::INFORMATION => Priority::Information,
        LogTypes::DEBUG | LogTypes::WEBSOCKETS => Priority::Debug,
        _ => Priority::Error,
    }
}

/// The destinations and the one line buffer.
pub(super) struct Sink {
    /// `None` until configured.
    pub(super) config: Option<Log>,
    pub(super) verbosity: Verbosity,
    pub(super) types: LogTypes,
    pub(super) topic_lines: TopicLines,
    limiter: Limiter,
    stdout: bool,
    stderr: bool,
    syslog: bool,
    topic: bool,
    file: Option<File>,
    timestamp: Timestamp,
    line: Vec<u8>,
}

/// What stands before a line.
#[derive(Debug, PartialEq, Eq)]
enum Timestamp {
    None,
    Seconds,
    Format(CString),
}

impl Sink {
    pub(super) const BEFORE_INIT: Sink = Sink {
        config: None,
        verbosity: Verbosity::Configured,
        types: LogTypes::DEFAULT,
        topic_lines: TopicLines { text: String::new(), ends: Vec::new() },
        limiter: Limiter::new(),
        stdout: false,
        stderr: true,
        syslog: false,
        topic: false,
        file: None,
        timestamp: Timestamp::Seconds,
        line: Vec::new(),
    };

    /// Closes what is open and logs as configured from now on.
    pub(super) fn configure(&mut self, config: &Log) {
        if self.syslog {
            syslog::close();
        }
        self.types = match self.verbosity {
            Verbosity::Configured => config.types,
            Verbosity::All => LogTypes::ALL,
            Verbosity::Nothing => LogTypes::NONE,
        };
        self.timestamp = match (config.timestamp, &config.timestamp_format) {
            (false, _) => Timestamp::None,
            (true, None) => Timestamp::Seconds,
            // A file's line cannot hold a NUL.
            (true, Some(format)) => CString::new(format.as_str()).map_or(Timestamp::Seconds, Timestamp::Format),
        };
        self.stdout = config.stdout;
        self.stderr = config.stderr;
        self.topic = config.topic;
        self.syslog = config.syslog;
        self.file = None;
        // Whoever asks for debug lines wants them all.
        self.limiter.set_rate(if self.types.contains(LogTypes::DEBUG) { 0 } else { config.rate_limit });
        local_time::read_zone();
        if self.syslog {
            syslog::open(config.facility);
        }
        if let Some(path) = &config.file {
            match private_file::append(path, private_file::symlinks_allowed()) {
                Ok(file) => {
                    let remarks = private_file::remarks(path, &file);
                    self.file = Some(file);
                    self.write_remarks(&remarks);
                }
                Err(_) => self.fall_back(path),
            }
        }
        self.config = Some(config.clone());
    }

    fn write_remarks(&mut self, remarks: &[String]) {
        if self.types.contains(LogTypes::INFORMATION) {
            for remark in remarks {
                self.write(LogTypes::INFORMATION, format_args!("{remark}"), clock::wall_s());
            }
        }
    }

    /// Only errors, on standard error, because the log file cannot be opened.
    fn fall_back(&mut self, path: &Path) {
        if self.syslog {
            syslog::close();
        }
        (self.stdout, self.stderr, self.topic, self.syslog) = (false, true, false, false);
        self.types = LogTypes(self.types.0 & LogTypes::ERROR.0);
        self.write(
            LogTypes::ERROR,
            format_args!("Error: Unable to open log file {} for writing.", path.display()),
            clock::wall_s(),
        );
    }

    /// Writes a line unless its place has logged too much already.
    pub(super) fn log(&mut self, place: Place, kind: LogTypes, text: fmt::Arguments<'_>, now: Now) {
        match self.limiter.admit(place, kind, now.mono_ms) {
            Verdict::Count => {}
            Verdict::CountWithExample => {
                self.line.clear();
                let _ = Limited { line: &mut self.line }.write_fmt(text);
                self.limiter.keep_example(&String::from_utf8_lossy(&self.line));
            }
            Verdict::Write => {
                self.write(kind, text, now.wall_s);
                self.limiter.charge(self.line.len());
            }
        }
    }

    /// True when the loop has to publish lines or to sum up.
    pub(super) fn waits(&self) -> bool {
        !self.topic_lines.ends.is_empty() || self.limiter.due_ms().is_some()
    }

    /// When [`Sink::summarise`] has something to write, `None` while nothing is left out.
    pub(super) fn summary_due_ms(&self) -> Option<u64> {
        self.limiter.due_ms()
    }

    /// Says what was left out and is due to be said, or everything.
    pub(super) fn summarise(&mut self, now: Now, everything: bool) {
        while let Some(Summary { kind, lines, seconds, example }) = self.limiter.take_summary(now.mono_ms, everything) {
            if self.types.contains(kind) {
                let text = format_args!(
                    "{lines} more lines like \"{example}\" were not logged in the last {seconds} seconds, see \
                     log_rate_limit."
                );
                self.write(kind, text, now.wall_s);
            }
        }
    }

    /// Formats one line and hands it to every destination. A destination that fails loses the line.
    pub(super) fn write(&mut self, kind: LogTypes, text: fmt::Arguments<'_>, wall_s: u64) {
        self.format(text, wall_s);
        if let (true, false, Some(suffix)) = (self.topic, DRAINING.get(), topic_suffix(kind)) {
            self.topic_lines.push(suffix, &self.line);
        }
        if self.syslog {
            self.line.push(0);
            // A NUL within the text ends the line early.
            if let Ok(line) = CStr::from_bytes_until_nul(&self.line) {
                syslog::write(priority(kind), line);
            }
            self.line.pop();
        }
        // With its newline the line is one write call, which no other process's line can split.
        self.line.push(b'\n');
        if self.stdout {
            let _ = std::io::stdout().lock().write_all(&self.line);
        }
        if self.stderr {
            let _ = std::io::stderr().lock().write_all(&self.line);
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(&self.line);
        }
    }

    /// Puts `PREFIX: TEXT` into the line buffer, cut to [`MAX_LINE`] bytes at a character's border.
    fn format(&mut self, text: fmt::Arguments<'_>, wall_s: u64) {
        self.line.clear();
        match &self.timestamp {
            Timestamp::None => {}
            Timestamp::Seconds => {
                let _ = write!(self.line, "{wall_s}: ");
            }
            Timestamp::Format(format) => {
                local_time::append(&mut self.line, format, wall_s);
                self.line.extend_from_slice(b": ");
            }
        }
        self.line.truncate(MAX_LINE);
        let _ = Limited { line: &mut self.line }.write_fmt(text);
    }
}

/// Appends text until the line is full, and then says so, which ends the formatting early. Control characters are
/// written as `\xHH`, so that nothing a stranger chose can begin a line of its own or speak to a terminal; the text of
/// our own lines has none but the tabulator.
struct Limited<'a> {
    line: &'a mut Vec<u8>,
}

impl Limited<'_> {
    fn push(&mut self, text: &str) -> fmt::Result {
        let start = cut(text, MAX_LINE.saturating_sub(self.line.len()));
        self.line.extend_from_slice(start.as_bytes());
        if start.len() == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl fmt::Write for Limited<'_> {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        // A client id may have 64 KiB. What is cut off here would not fit either, and the rest still shows that.
        text = cut(text, MAX_LINE + 4);
        let harmless = |byte: u8| byte >= b' ' && byte != 0x7f && byte != 0xc2 || byte == b'\t';
        if text.bytes().all(harmless) {
            return self.push(text);
        }
        let is_control = |c: char| c.is_control() && c != '\t';
        while let Some((before, control, after)) = text
            .char_indices()
            .find(|&(_, c)| is_control(c))
            .map(|(at, c)| (&text[..at], c, &text[at + c.len_utf8()..]))
        {
            self.push(before)?;
            self.push(&format!("\\x{:02x}", u32::from(control)))?;
            text = after;
        }
        self.push(text)
    }
}

/// At most the first `max` bytes of `text`, whole characters.
pub(super) fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Lines that wait to be published, in two buffers that are kept.
#[derive(Default)]
pub(super) struct TopicLines {
    pub(super) text: String,
    /// For each line its suffix and where it ends in `text`.
    pub(super) ends: Vec<(&'static str, usize)>,
}

impl TopicLines {
    fn push(&mut self, suffix: &'static str, line: &[u8]) {
        if self.text.len() + line.len() > MAX_TOPIC_BYTES {
            return;
        }
        self.text.push_str(&String::from_utf8_lossy(line));
        self.ends.push((suffix, self.text.len()));
    }

    pub(super) fn drain(&mut self, publish: &mut impl FnMut(&str, &str)) {
        let mut start = 0;
        for (suffix, end) in self.ends.drain(..) {
            publish(suffix, &self.text[start..end]);
            start = end;
        }
        self.text.clear();
    }
}
