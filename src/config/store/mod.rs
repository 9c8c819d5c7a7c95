//! The rows of the table that do more than put a value into its field: here those of the whole broker.

pub(super) mod bridge;
pub(super) mod listener;
pub(super) mod mqttsn;

use super::error::{ErrorKind, Feature, Severity};
use super::parse::Parser;
use super::{Log, LogTypes, value};

/// What separates words.
const fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// The words of `rest` up to one that starts a comment.
fn words(rest: &str) -> impl Iterator<Item = &str> {
    rest.split(blank).filter(|word| !word.is_empty()).take_while(|word| !word.starts_with('#'))
}

/// Checks each word of `rest` as text, so that the line may be of any length.
fn check_words(rest: &str) -> Done {
    rest.split(blank).try_for_each(value::check_text)
}

/// What storing a value ends with.
pub(super) type Done = Result<(), ErrorKind>;

/// Nothing went wrong.
pub(super) fn done() -> Done {
    Ok(())
}

/// Puts a value into its field.
pub(super) fn set<T>(field: &mut T, value: T) -> Done {
    *field = value;
    Ok(())
}

/// Puts a number of at most 16 bits into its field.
pub(super) fn short(field: &mut u16, n: i32) -> Done {
    *field = u16::try_from(n).map_err(|_| ErrorKind::Range(n.into()))?;
    Ok(())
}

/// A limit where zero and less mean none.
pub(super) fn limit(n: i32) -> Option<u32> {
    u32::try_from(n).ok().filter(|&n| n > 0)
}

/// A size where less than zero means zero.
pub(super) fn size(n: i32) -> u32 {
    u32::try_from(n).unwrap_or(0)
}

/// `log_dest`: the first line replaces the default, the others add; `none` clears.
pub(super) fn log_dest(p: &mut Parser, rest: &str) -> Done {
    let (word, path) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    let path = path.trim_ascii();
    // Checked first, so that a bad line leaves the destinations alone.
    if !["none", "stdout", "stderr", "syslog", "topic", "file", "dlt", "android"].contains(&word) {
        return Err(ErrorKind::Invalid(word.into()));
    }
    let first = !std::mem::replace(&mut p.log_dest_seen, true);
    let log = &mut p.config.global.log;
    if first || word == "none" {
        *log = Log { stdout: false, stderr: false, syslog: false, topic: false, file: None, ..log.clone() };
    }
    match word {
        "stdout" => log.stdout = true,
        "stderr" => log.stderr = true,
        "syslog" => log.syslog = true,
        "topic" if Feature::SysTree.is_built() => log.topic = true,
        "topic" => p.warn_unavailable(Feature::SysTree),
        "file" if path.is_empty() => {
            return Err(ErrorKind::Other("Empty 'log_dest file' value in configuration.".into()));
        }
        "file" if log.file.is_some() => return Err(ErrorKind::Other("Duplicate \"log_dest file\" value.".into())),
        "file" => {
            value::check_text(path)?;
            log.file = Some(path.into());
        }
        "dlt" | "android" => p.warn_unavailable(Feature::Dlt),
        _ => {}
    }
    done()
}

/// The words of `log_type`.
pub(super) const LOG_TYPES: &[&str] = &[
    "debug",
    "error",
    "warning",
    "notice",
    "information",
    "subscribe",
    "unsubscribe",
    "websockets",
    "internal",
    "none",
    "all",
];

/// `log_type`: the first line replaces the default, the others add; `none` clears.
pub(super) fn log_type(p: &mut Parser, word: &str) -> Done {
    let first = !std::mem::replace(&mut p.log_type_seen, true);
    let types = &mut p.config.global.log.types;
    let before = if first { LogTypes::NONE } else { *types };
    *types = match word {
        "debug" => before.with(LogTypes::DEBUG),
        "error" => before.with(LogTypes::ERROR),
        "warning" => before.with(LogTypes::WARNING),
        "notice" => before.with(LogTypes::NOTICE),
        "information" => before.with(LogTypes::INFORMATION),
        "subscribe" => before.with(LogTypes::SUBSCRIBE),
        "unsubscribe" => before.with(LogTypes::UNSUBSCRIBE),
        "websockets" => before.with(LogTypes::WEBSOCKETS),
        "internal" => before.with(LogTypes::INTERNAL),
        "all" => LogTypes::ALL,
        _ => LogTypes::NONE,
    };
    done()
}

pub(super) fn log_facility(p: &mut Parser, n: i32) -> Done {
    set(&mut p.config.global.log.facility, u8::try_from(n).ok())
}

/// `max_inflight_messages`: 65535 is all that packet identifiers allow, so it is no limit, as is less than zero.
pub(super) fn max_inflight_messages(p: &mut Parser, n: i32) -> Done {
    let n = u16::try_from(n).unwrap_or(0);
    set(&mut p.config.global.max_inflight_messages, if n == u16::MAX { 0 } else { n })
}

pub(super) fn message_size_limit(p: &mut Parser, n: i32) -> Done {
    p.say(
        Severity::Notice,
        "Note: 'max_packet_size' is recommended instead of 'message_size_limit': v5 clients learn of it.".into(),
    );
    set(&mut p.config.global.message_size_limit, size(n))
}

pub(super) fn persistent_client_expiration(p: &mut Parser, text: &str) -> Done {
    let Some(seconds) = value::duration(text) else {
        let text = "Invalid 'persistent_client_expiration' duration in configuration.";
        return Err(ErrorKind::Other(text.into()));
    };
    set(&mut p.config.global.persistent_client_expiration, Some(seconds))
}

/// `retain_expiry_interval` in minutes, at most 10 million.
pub(super) fn retain_expiry_interval(p: &mut Parser, minutes: i32) -> Done {
    const MOST: u32 = 10_000_000;
    let mut minutes = size(minutes);
    if minutes > MOST {
        p.warn("'retain_expiry_interval' is capped at 19 years.");
        minutes = MOST;
    }
    set(&mut p.config.global.retain_expiry_interval, Some(minutes * 60))
}

/// `autosave_interval`: less than zero means zero.
pub(super) fn autosave_interval(p: &mut Parser, n: i32) -> Done {
    set(&mut p.config.global.autosave_interval, size(n))
}

/// `set_tcp_nodelay`: packets are gathered before they are written, so delaying them further would gain nothing.
pub(super) fn set_tcp_nodelay(p: &mut Parser, on: bool) -> Done {
    if !on {
        let line = "'set_tcp_nodelay false' has no effect: packets are always sent at once.";
        p.say(Severity::Information, line.into());
    }
    done()
}
