//! The sink of the log: Mosquitto's message types and destinations behind the `log` crate.
//!
//! A record's type follows from its level and target (see [`log_macros`](crate::log_macros)); records of other crates
//! are dropped. Until [`init`] everything goes to standard error with the default types. Lines for `[conf: log_dest
//! topic]` wait here until the loop publishes them with [`drain_topic_lines`]. A place in the source that logs too much
//! falls silent and is summed up `[conf: log_rate_limit]`.

mod limiter;
mod sink;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use log::{Level, LevelFilter, Metadata, Record};

use crate::config::{Log, LogTypes, Severity};
use crate::log_macros::{NOTICE, SUBSCRIBE, UNSUBSCRIBE, WEBSOCKETS};
use crate::os::clock;
use crate::timer::Now;
use limiter::Place;
use sink::{DRAINING, Sink};

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

static LOGGER: Logger = Logger {
    types: AtomicU16::new(LogTypes::DEFAULT.0),
    waits: AtomicBool::new(false),
    sink: Mutex::new(Sink::BEFORE_INIT),
};

thread_local! {
    /// This thread is inside the sink; a record made there (by a value's own `Display`) would lock it up.
    static WRITING: Cell<bool> = const { Cell::new(false) };
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

/// When [`summarise`] has something to say, in milliseconds of [`Now::mono_ms`]; `None` while no line was left out
/// `[conf: log_rate_limit]`.
#[must_use]
pub fn summary_due_ms() -> Option<u64> {
    LOGGER.waits().then(|| LOGGER.lock().summary_due_ms()).flatten()
}

/// True while lines wait for [`drain_topic_lines`].
#[must_use]
pub fn has_topic_lines() -> bool {
    LOGGER.waits() && !LOGGER.lock().topic_lines.ends.is_empty()
}

/// Says how many lines were left out, as far as that is due.
pub fn summarise(now: Now) {
    if LOGGER.waits() {
        LOGGER.change(|sink| sink.summarise(now, false));
    }
}

/// Says how many lines were left out, because nothing will be logged any more.
pub fn finish() {
    LOGGER.change(|sink| sink.summarise(clock::now(), true));
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
    if !LOGGER.waits() {
        return;
    }
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
    LOGGER.change(|sink| {
        if sink.topic_lines.ends.is_empty() {
            sink.topic_lines = lines;
        }
    });
}

struct Logger {
    /// The types that are logged, to answer without the lock.
    types: AtomicU16,
    /// Whether something waits for the loop, to answer without the lock: it asks in every turn.
    waits: AtomicBool,
    sink: Mutex<Sink>,
}

impl Logger {
    fn lock(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits(&self) -> bool {
        self.waits.load(Relaxed)
    }

    /// Changes the sink, then lets the level filter follow.
    fn change(&self, change: impl FnOnce(&mut Sink)) {
        let mut sink = self.lock();
        change(&mut sink);
        self.waits.store(sink.waits(), Relaxed);
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
        if !LogTypes(self.types.load(Relaxed)).contains(kind) || WRITING.replace(true) {
            return;
        }
        let place = Place { file: record.file_static().unwrap_or_default(), line: record.line().unwrap_or_default() };
        let mut sink = self.lock();
        sink.log(place, kind, *record.args(), clock::now());
        self.waits.store(sink.waits(), Relaxed);
        drop(sink);
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
