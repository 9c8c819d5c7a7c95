//! The sink of the log: Mosquitto's message types and destinations behind the `log` crate.
//!
//! A record's type follows from its level and target (see [`log_macros`](crate::log_macros)); records of other crates
//! are dropped. Until [`init`] everything goes to standard error with the default types. Lines for `[conf: log_dest
//! topic]` wait here until the loop publishes them with [`drain_topic_lines`].

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use log::{Level, LevelFilter, Metadata, Record};

use crate::config::{Log, LogTypes, Severity};
use crate::log_macros::{NOTICE, SUBSCRIBE, UNSUBSCRIBE, WEBSOCKETS};
use crate::os::syslog::{self, Priority};
use crate::os::{clock, local_time, private_file};

/// The longest line in bytes, timestamp included, newline not.
const MAX_LINE: usize = 999;
/// The most bytes of lines that wait to be published as topics; what comes on top is not published.
const MAX_TOPIC_BYTES: usize = 64 * 1024;

/// What the command line says about the types to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// The types of the configuration.
    #[default]
    Configured,
    /// Every type `[-v]`.
    All,
    /// No type `[-q]`, which wins over `-v`.
    Nothing,
}

static LOGGER: Logger = Logger { types: AtomicU16::new(LogTypes::DEFAULT.0), sink: Mutex::new(Sink::BEFORE_INIT) };

thread_local! {
    /// This thread is inside the sink; a record made there (by a value's own `Display`) would lock it up.
    static WRITING: Cell<bool> = const { Cell::new(false) };
    /// This thread publishes waiting lines; what that logs must not become the next line to publish, for ever.
    static DRAINING: Cell<bool> = const { Cell::new(false) };
}

/// Starts logging to standard error, with the default types and the default timestamp. The first thing `main` does.
pub fn install() {
    // Fails only when a logger is set already, which is then this one.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level_of(LogTypes(LOGGER.types.load(Relaxed))));
}

/// Logs as configured from now on. A file that cannot be opened leaves only errors, on standard error.
pub fn init(config: &Log, verbosity: Verbosity) {
    install();
    LOGGER.change(|sink| {
        sink.verbosity = verbosity;
        sink.configure(config);
    });
}

/// Takes over a changed configuration; what the command line said stays.
pub fn reconfigure(config: &Log) {
    LOGGER.change(|sink| sink.configure(config));
}

/// Closes and reopens the log file, so that it can be rotated.
pub fn reopen() {
    LOGGER.change(|sink| {
        if let Some(config) = sink.config.take() {
            sink.configure(&config);
        }
    });
}

/// Logs what a configuration has to say.
pub fn tell(lines: &[(Severity, String)]) {
    for (severity, line) in lines {
        match severity {
            Severity::Warning => log::warn!("{line}"),
            Severity::Notice => crate::notice!("{line}"),
            Severity::Information => log::info!("{line}"),
        }
    }
}

/// Hands over the lines that wait to be published: the rest of the topic behind `$SYS/broker/log/` and the text, the
/// oldest first. Lines logged while `publish` runs go to the other destinations only.
pub fn drain_topic_lines(publish: &mut impl FnMut(&str, &str)) {
    let mut lines = {
        let mut sink = LOGGER.lock();
        if sink.topic_lines.ends.is_empty() {
            return;
        }
        std::mem::take(&mut sink.topic_lines)
    };
    DRAINING.set(true);
    lines.drain(publish);
    DRAINING.set(false);
    // Keeps the buffers, unless another thread logged meanwhile: its lines come next.
    let mut sink = LOGGER.lock();
    if sink.topic_lines.ends.is_empty() {
        sink.topic_lines = lines;
    }
}

struct Logger {
    /// The types that are logged, to answer without the lock.
    types: AtomicU16,
    sink: Mutex<Sink>,
}

impl Logger {
    fn lock(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the sink, then lets the level filter follow.
    fn change(&self, change: impl FnOnce(&mut Sink)) {
        let mut sink = self.lock();
        change(&mut sink);
        self.types.store(sink.types.0, Relaxed);
        log::set_max_level(level_of(sink.types));
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        type_of(metadata).is_some_and(|kind| LogTypes(self.types.load(Relaxed)).contains(kind))
    }

    fn log(&self, record: &Record<'_>) {
        let Some(kind) = type_of(record.metadata()) else { return };
        // A limiter of lines that a stranger can repeat at will belongs here, before anything is formatted.
        if !LogTypes(self.types.load(Relaxed)).contains(kind) || WRITING.replace(true) {
            return;
        }
        self.lock().write(kind, *record.args(), clock::wall_s());
        WRITING.set(false);
    }

    fn flush(&self) {
        let _ = std::io::stdout().flush();
    }
}

/// The type of a record, `None` for one of another crate.
fn type_of(metadata: &Metadata<'_>) -> Option<LogTypes> {
    let target = metadata.target();
    match target.strip_prefix("mosquitto") {
        Some(rest) if rest.is_empty() || rest.starts_with("::") => {}
        _ => return None,
    }
    match metadata.level() {
        Level::Error => Some(LogTypes::ERROR),
        Level::Warn => Some(LogTypes::WARNING),
        Level::Info if target == NOTICE => Some(LogTypes::NOTICE),
        Level::Info => Some(LogTypes::INFORMATION),
        Level::Debug => Some(match target {
            SUBSCRIBE => LogTypes::SUBSCRIBE,
            UNSUBSCRIBE => LogTypes::UNSUBSCRIBE,
            WEBSOCKETS => LogTypes::WEBSOCKETS,
            _ => LogTypes::DEBUG,
        }),
        Level::Trace => None,
    }
}

/// The lowest level that lets all of `types` through.
fn level_of(types: LogTypes) -> LevelFilter {
    const DEBUG: u16 = LogTypes::DEBUG.0 | LogTypes::SUBSCRIBE.0 | LogTypes::UNSUBSCRIBE.0 | LogTypes::WEBSOCKETS.0;
    const INFO: u16 = LogTypes::NOTICE.0 | LogTypes::INFORMATION.0;
    if types.0 & DEBUG != 0 {
        LevelFilter::Debug
    } else if types.0 & INFO != 0 {
        LevelFilter::Info
    } else if types.contains(LogTypes::WARNING) {
        LevelFilter::Warn
    } else if types.contains(LogTypes::ERROR) {
        LevelFilter::Error
    } else {
        LevelFilter::Off
    }
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
struct Sink {
    /// `None` until configured.
    config: Option<Log>,
    verbosity: Verbosity,
    types: LogTypes,
    stdout: bool,
    stderr: bool,
    syslog: bool,
    topic: bool,
    file: Option<File>,
    timestamp: Timestamp,
    line: Vec<u8>,
    topic_lines: TopicLines,
}

/// What stands before a line.
#[derive(Debug, PartialEq, Eq)]
enum Timestamp {
    None,
    Seconds,
    Format(CString),
}

impl Sink {
    const BEFORE_INIT: Sink = Sink {
        config: None,
        verbosity: Verbosity::Configured,
        types: LogTypes::DEFAULT,
        stdout: false,
        stderr: true,
        syslog: false,
        topic: false,
        file: None,
        timestamp: Timestamp::Seconds,
        line: Vec::new(),
        topic_lines: TopicLines { text: String::new(), ends: Vec::new() },
    };

    fn configure(&mut self, config: &Log) {
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
        if let Some(path) = &config.file {
            match private_file::append(path, private_file::symlinks_allowed()) {
                Ok(file) => self.file = Some(file),
                Err(_) => self.fall_back(path),
            }
        }
        if self.syslog {
            syslog::open(config.facility);
        }
        self.config = Some(config.clone());
    }

    /// Only errors, on standard error, because the log file cannot be opened.
    fn fall_back(&mut self, path: &Path) {
        (self.stdout, self.stderr, self.topic, self.syslog) = (false, true, false, false);
        self.types = LogTypes(self.types.0 & LogTypes::ERROR.0);
        self.write(
            LogTypes::ERROR,
            format_args!("Error: Unable to open log file {} for writing.", path.display()),
            clock::wall_s(),
        );
    }

    /// Formats one line and hands it to every destination. A destination that fails loses the line.
    fn write(&mut self, kind: LogTypes, text: fmt::Arguments<'_>, wall_s: u64) {
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

/// Appends text until the line is full, and then says so, which ends the formatting early.
struct Limited<'a> {
    line: &'a mut Vec<u8>,
}

impl fmt::Write for Limited<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = text.len().min(MAX_LINE.saturating_sub(self.line.len()));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.line.extend_from_slice(&text.as_bytes()[..end]);
        if end == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Lines that wait to be published, in two buffers that are kept.
#[derive(Default)]
struct TopicLines {
    text: String,
    /// For each line its suffix and where it ends in `text`.
    ends: Vec<(&'static str, usize)>,
}

impl TopicLines {
    fn push(&mut self, suffix: &'static str, line: &[u8]) {
        if self.text.len() + line.len() > MAX_TOPIC_BYTES {
            return;
        }
        self.text.push_str(&String::from_utf8_lossy(line));
        self.ends.push((suffix, self.text.len()));
    }

    fn drain(&mut self, publish: &mut impl FnMut(&str, &str)) {
        let mut start = 0;
        for (suffix, end) in self.ends.drain(..) {
            publish(suffix, &self.text[start..end]);
            start = end;
        }
        self.text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const WALL_S: u64 = 1_718_000_000;

    fn silent() -> Log {
        Log { stderr: false, ..Log::default() }
    }

    fn configured(config: &Log, verbosity: Verbosity) -> Sink {
        let mut sink = Sink { verbosity, ..Sink::BEFORE_INIT };
        sink.configure(config);
        sink
    }

    fn line(sink: &mut Sink, text: &str) -> String {
        sink.format(format_args!("{text}"), WALL_S);
        String::from_utf8(sink.line.clone()).unwrap()
    }

    fn temporary(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("mosquitto-logging-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_line_is_prefix_colon_text() {
        let format =
            |timestamp, format: Option<&str>| Log { timestamp, timestamp_format: format.map(Into::into), ..silent() };
        let cases = [
            (Log::default(), "1718000000: text"),
            (format(false, None), "text"),
            (format(false, Some("%Y")), "text"),
            (format(true, Some("%Y")), "2024: text"),
            (format(true, Some("")), "Time error: text"),
        ];
        for (config, expected) in cases {
            assert_eq!(line(&mut configured(&config, Verbosity::Configured), "text"), expected);
        }
    }

    #[test]
    fn a_line_ends_after_999_bytes_at_a_whole_character() {
        let sink = &mut configured(&Log { timestamp: false, ..silent() }, Verbosity::Configured);
        assert_eq!(line(sink, &"x".repeat(999)).len(), 999);
        assert_eq!(line(sink, &"x".repeat(5000)).len(), 999);
        let euros = line(sink, &format!("x{}", "\u{20ac}".repeat(500)));
        assert_eq!(euros.len(), 997);
        assert!(euros.ends_with('\u{20ac}'));
        sink.format(format_args!("{}{}{}", "x".repeat(998), "\u{20ac}", "yyy"), WALL_S);
        assert_eq!(sink.line.len(), 998, "nothing follows a cut");
        let long_format = Log { timestamp_format: Some("x".repeat(1010)), ..silent() };
        assert_eq!(line(&mut configured(&long_format, Verbosity::Configured), "text").len(), 999);
    }

    #[test]
    fn the_line_buffer_is_reused() {
        let sink = &mut configured(&silent(), Verbosity::Configured);
        line(sink, &"x".repeat(999));
        let before = (sink.line.as_ptr(), sink.line.capacity());
        for _ in 0..10 {
            sink.write(LogTypes::NOTICE, format_args!("{}", 1), WALL_S);
        }
        assert_eq!((sink.line.as_ptr(), sink.line.capacity()), before);
    }

    #[test]
    fn the_type_follows_from_level_and_target() {
        let cases = [
            (Level::Error, "mosquitto::net", Some(LogTypes::ERROR)),
            (Level::Warn, "mosquitto", Some(LogTypes::WARNING)),
            (Level::Info, NOTICE, Some(LogTypes::NOTICE)),
            (Level::Info, "mosquitto::proto", Some(LogTypes::INFORMATION)),
            (Level::Debug, "mosquitto::proto", Some(LogTypes::DEBUG)),
            (Level::Debug, SUBSCRIBE, Some(LogTypes::SUBSCRIBE)),
            (Level::Debug, UNSUBSCRIBE, Some(LogTypes::UNSUBSCRIBE)),
            (Level::Debug, WEBSOCKETS, Some(LogTypes::WEBSOCKETS)),
            (Level::Trace, "mosquitto", None),
            (Level::Error, "mio::poll", None),
            (Level::Error, "mosquitto_client", None),
        ];
        for (level, target, expected) in cases {
            let metadata = Metadata::builder().level(level).target(target).build();
            assert_eq!(type_of(&metadata), expected, "{level} {target}");
        }
    }

    #[test]
    fn the_level_lets_every_configured_type_through_and_no_more() {
        let cases = [
            (LogTypes::NONE, LevelFilter::Off),
            (LogTypes::INTERNAL, LevelFilter::Off),
            (LogTypes::ERROR, LevelFilter::Error),
            (LogTypes::WARNING, LevelFilter::Warn),
            (LogTypes::NOTICE, LevelFilter::Info),
            (LogTypes::DEFAULT, LevelFilter::Info),
            (LogTypes::SUBSCRIBE, LevelFilter::Debug),
            (LogTypes::ERROR.with(LogTypes::WEBSOCKETS), LevelFilter::Debug),
            (LogTypes::ALL, LevelFilter::Debug),
        ];
        for (types, level) in cases {
            assert_eq!(level_of(types), level, "{types:?}");
        }
    }

    #[test]
    fn the_command_line_overrides_the_types_also_on_reload() {
        let config = Log { types: LogTypes::SUBSCRIBE, ..silent() };
        for (verbosity, types) in [
            (Verbosity::Configured, LogTypes::SUBSCRIBE),
            (Verbosity::All, LogTypes::ALL),
            (Verbosity::Nothing, LogTypes::NONE),
        ] {
            let mut sink = configured(&config, verbosity);
            assert_eq!(sink.types, types);
            sink.configure(&config);
            assert_eq!(sink.types, types);
        }
    }

    #[test]
    fn a_file_is_appended_to_and_reopened() {
        let (path, rotated) = (temporary("file"), temporary("rotated"));
        std::fs::write(&path, "before\n").unwrap();
        let config = Log { file: Some(path.clone()), timestamp: false, ..silent() };
        let mut sink = configured(&config, Verbosity::Configured);
        sink.write(LogTypes::NOTICE, format_args!("one"), WALL_S);
        std::fs::rename(&path, &rotated).unwrap();
        sink.write(LogTypes::NOTICE, format_args!("two"), WALL_S);
        sink.configure(&config);
        sink.write(LogTypes::NOTICE, format_args!("three"), WALL_S);
        assert_eq!(std::fs::read_to_string(&rotated).unwrap(), "before\none\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&rotated).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_opened_leaves_errors_on_standard_error() {
        let config = Log { file: Some("/dev/null".into()), stdout: true, topic: true, ..silent() };
        let mut sink = configured(&config, Verbosity::All);
        assert_eq!((sink.stdout, sink.stderr, sink.topic, sink.file.is_some()), (false, true, false, false));
        assert_eq!(sink.types, LogTypes::ERROR);
        assert!(sink.line.ends_with(b": Error: Unable to open log file /dev/null for writing.\n"));
        sink.configure(&Log { file: None, ..config });
        assert_eq!((sink.stdout, sink.types), (true, LogTypes::ALL), "a reload mends it");
    }

    #[test]
    fn debug_lines_are_never_published_and_the_rest_have_their_suffix() {
        let mut sink = configured(&Log { topic: true, timestamp: false, ..silent() }, Verbosity::All);
        for (kind, text) in [
            (LogTypes::ERROR, "a"),
            (LogTypes::DEBUG, "b"),
            (LogTypes::SUBSCRIBE, "c"),
            (LogTypes::UNSUBSCRIBE, ""),
            (LogTypes::INTERNAL, "e"),
            (LogTypes::WEBSOCKETS, "f"),
        ] {
            sink.write(kind, format_args!("{text}"), WALL_S);
        }
        let mut lines = Vec::new();
        sink.topic_lines.drain(&mut |suffix, text| lines.push(format!("{suffix} {text}")));
        assert_eq!(lines, ["E a", "M/subscribe c", "M/unsubscribe ", "WS f"]);
        sink.topic_lines.drain(&mut |_, _| panic!("a line is handed over once"));
    }

    #[test]
    fn waiting_lines_are_bounded() {
        let mut sink = configured(&Log { topic: true, ..silent() }, Verbosity::All);
        let text = "x".repeat(900);
        for _ in 0..10_000 {
            sink.write(LogTypes::ERROR, format_args!("{text}"), WALL_S);
        }
        assert!(sink.topic_lines.text.len() <= MAX_TOPIC_BYTES);
        assert!(sink.topic_lines.ends.len() > 60);
    }

    /// The one test of the global logger. Other tests may log too, so it looks for its own text.
    #[test]
    fn publishing_a_line_does_not_make_another_to_publish() {
        let config = Log { topic: true, types: LogTypes::SUBSCRIBE, ..silent() };
        init(&config, Verbosity::Configured);
        assert!(log::log_enabled!(target: SUBSCRIBE, Level::Debug));
        assert!(!log::log_enabled!(Level::Debug));
        assert!(!log::log_enabled!(Level::Error));
        let mut lines = Vec::new();
        for round in 0..3 {
            crate::log_subscribe!("own-mark {round}");
            drain_topic_lines(&mut |suffix, text| {
                if text.contains("own-mark") {
                    lines.push((suffix.to_owned(), text.split_once(": ").unwrap().1.to_owned()));
                }
                crate::log_subscribe!("own-mark from within");
            });
        }
        let expected: Vec<_> = (0..3).map(|round| ("M/subscribe".to_owned(), format!("own-mark {round}"))).collect();
        assert_eq!(lines, expected);

        /// Logs while it is being formatted.
        struct Chatty;
        impl fmt::Display for Chatty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                crate::log_subscribe!("own-mark inner");
                f.write_str("own-mark outer")
            }
        }
        crate::log_subscribe!("{Chatty}");
        let mut texts = Vec::new();
        drain_topic_lines(&mut |_, text| texts.push(text.to_owned()));
        assert!(texts.iter().any(|text| text.ends_with("own-mark outer")));
        assert!(!texts.iter().any(|text| text.contains("inner")));
        init(&Log::default(), Verbosity::Configured);
    }
}
