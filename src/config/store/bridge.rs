//! Rows of bridges that do more than put a value into its field.

use std::net::Ipv6Addr;

use super::{Done, blank, check_words, done, listener::tls_version, set, words};
use crate::config::bridge::{Address, Bridge, Direction, ReloadType, Restart, StartType, TcpKeepalive, Topic};
use crate::config::error::{ErrorKind, Severity};
use crate::config::parse::Parser;
use crate::config::value;
use crate::wire::{ProtocolVersion, QoS, topic as names};

fn other<T>(text: impl Into<String>) -> Result<T, ErrorKind> {
    Err(ErrorKind::Other(text.into()))
}

/// `connection NAME`.
pub(in crate::config) fn connection(p: &mut Parser, rest: &str) -> Done {
    check_words(rest)?;
    let mut words = words(rest);
    let name = words.next().ok_or(ErrorKind::Empty)?;
    if p.config.bridges.iter().any(|bridge| bridge.name == name) {
        return other(format!("Duplicate bridge name '{name}'."));
    }
    if words.next().is_some() {
        p.warn("The text after the name of a 'connection' is ignored.");
    }
    p.open_bridge(Bridge::new(name.into()));
    done()
}

/// `address HOST[:PORT] …`.
pub(in crate::config) fn address(p: &mut Parser, rest: &str) -> Done {
    check_words(rest)?;
    let addresses = words(rest).map(one_address).collect::<Result<Vec<_>, _>>()?;
    if addresses.is_empty() {
        return Err(ErrorKind::Empty);
    }
    set(&mut p.bridge().addresses, addresses)
}

fn one_address(word: &str) -> Result<Address, ErrorKind> {
    let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    let (host, port) = match word.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None => return Err(ErrorKind::Invalid(word.into())),
        },
        None => match word.rsplit_once(':') {
            // C Mosquitto takes the last group of an IPv6 address for the port even if nothing sensible is left.
            Some((host, _)) if is_v6(word) && !is_v6(host) => (word, None),
            Some((host, port)) => (host, Some(port)),
            None => (word, None),
        },
    };
    let port = match port {
        None => 1883,
        Some(port) => match value::integer(port).ok().and_then(|n| u16::try_from(n).ok()) {
            Some(n) if n > 0 => n,
            _ => return other(format!("Invalid bridge port value ({port}).")),
        },
    };
    if host.is_empty() { Err(ErrorKind::Invalid(word.into())) } else { Ok(Address { host: host.into(), port }) }
}

/// `topic PATTERN [DIRECTION [QOS [LOCAL_PREFIX [REMOTE_PREFIX]]]]`.
pub(in crate::config) fn topic(p: &mut Parser, rest: &str) -> Done {
    check_words(rest)?;
    let (pattern, rest) = pattern(rest)?;
    let mut words = rest.split(blank).filter(|word| !word.is_empty());
    let direction = match words.next() {
        None => Direction::Out,
        Some(word) => match word.to_ascii_lowercase().as_str() {
            "out" => Direction::Out,
            "in" => Direction::In,
            "both" => Direction::Both,
            _ => return other(format!("Invalid bridge topic direction '{word}'.")),
        },
    };
    // Only from here on may a comment follow.
    let mut words = words.take_while(|word| !word.starts_with('#'));
    let qos = words.next().map_or(Ok(QoS::AtMostOnce), |word| qos(p, word))?;
    let mut prefix = || words.next().filter(|&word| word != "\"\"").unwrap_or_default();
    let (local, remote) = (prefix(), prefix());
    if words.next().is_some() {
        p.warn("The text after the remote prefix of a bridge 'topic' is ignored.");
    }
    let local = side("local", local, pattern)?;
    let remote = side("remote", remote, pattern)?;
    if pattern.is_empty() && (local.is_empty() || remote.is_empty()) {
        return other("Invalid bridge remapping.");
    }
    let topic =
        Topic { pattern: pattern.into(), direction, qos, local_prefix: local.into(), remote_prefix: remote.into() };
    let topics = &mut p.bridge().topics;
    // C Mosquitto also takes lines for equal of which one lacks what the other has.
    if topics.contains(&topic) {
        let line = format!("The bridge topic '{pattern}' stands there twice in the same words: once is enough.");
        p.say(Severity::Information, line);
    } else {
        topics.push(topic);
    }
    done()
}

/// The pattern at the start of the line and what follows. Quotes let it hold blanks.
fn pattern(line: &str) -> Result<(&str, &str), ErrorKind> {
    let (word, rest) = line.split_once(blank).unwrap_or((line, ""));
    let Some(quoted) = line.strip_prefix('"') else { return Ok((word, rest)) };
    // C Mosquitto looks for the closing quote behind the first word only, so a quoted word is an error there.
    match quoted.split_once('"') {
        Some((_, rest)) if !rest.is_empty() && !rest.starts_with(blank) => {
            other(format!("Text stands directly behind the closing quote in topic value ({line})."))
        }
        Some((pattern, rest)) => Ok((pattern, rest)),
        None => other(format!("Missing closing quote in topic value ({}).", rest.trim_ascii())),
    }
}

/// The QoS of a topic; text counts as 0, as in C Mosquitto.
fn qos(p: &mut Parser, word: &str) -> Result<QoS, ErrorKind> {
    match value::integer(word) {
        Ok(n) => match u8::try_from(n).ok().and_then(QoS::from_bits) {
            Some(qos) => Ok(qos),
            None => other(format!("Invalid bridge QoS level '{word}'.")),
        },
        Err(_) => {
            p.warn(&format!("The bridge QoS level '{word}' is not a number and counts as 0."));
            Ok(QoS::AtMostOnce)
        }
    }
}

/// Checks the prefix of one side and its combination with the pattern; returns the prefix.
fn side<'a>(side: &str, prefix: &'a str, pattern: &str) -> Result<&'a str, ErrorKind> {
    if prefix.contains(['+', '#']) {
        return other(format!("Invalid bridge topic {side} prefix '{prefix}'."));
    }
    let filter = format!("{prefix}{pattern}");
    // An empty filter is a matter of remapping.
    if filter.is_empty() || names::check_filter(&filter).is_ok() {
        return Ok(prefix);
    }
    match prefix {
        "" => other(format!("Invalid bridge topic pattern '{pattern}'.")),
        _ => other(format!("Invalid bridge topic {side} prefix and pattern combination '{filter}'.")),
    }
}

/// `notification_topic`.
pub(in crate::config) fn notification_topic(p: &mut Parser, text: &str) -> Done {
    if names::check_name(text).is_err() {
        return Err(ErrorKind::Invalid(text.into()));
    }
    set(&mut p.bridge().notification_topic, Some(text.into()))
}

/// The words of `start_type`; the last was taken back long ago and is refused by name.
pub(in crate::config) const START_TYPES: &[&str] = &["automatic", "lazy", "once", "manual"];

pub(in crate::config) fn start_type(p: &mut Parser, word: &str) -> Done {
    let start = match word {
        "automatic" => StartType::Automatic,
        "lazy" => StartType::Lazy,
        "once" => StartType::Once,
        _ => return other("Manual start_type not supported."),
    };
    set(&mut p.bridge().start_type, start)
}

/// At least `least`, else that with a notice.
fn raised(p: &mut Parser, n: i32, least: u32, unit: &str) -> u32 {
    match u32::try_from(n) {
        Ok(n) if n >= least => n,
        _ => {
            let line = format!("'{}' is too low: it is {least} {unit}.", p.option);
            p.say(Severity::Notice, line);
            least
        }
    }
}

/// At most `most`, else that with a notice.
fn lowered(p: &mut Parser, n: u32, most: u32) -> u32 {
    if n > most {
        let line = format!("'{}' is too high: it is {most} seconds.", p.option);
        p.say(Severity::Notice, line);
    }
    n.min(most)
}

pub(in crate::config) fn threshold(p: &mut Parser, n: i32) -> Done {
    let n = raised(p, n, 1, "message");
    set(&mut p.bridge().threshold, n)
}

pub(in crate::config) fn idle_timeout(p: &mut Parser, n: i32) -> Done {
    let n = raised(p, n, 1, "second");
    set(&mut p.bridge().idle_timeout, n)
}

pub(in crate::config) fn keepalive_interval(p: &mut Parser, n: i32) -> Done {
    let n = raised(p, n, 5, "seconds");
    set(&mut p.bridge().keepalive, u16::try_from(n).unwrap_or(u16::MAX))
}

/// `restart_timeout BASE [CAP [STABLE]]`.
pub(in crate::config) fn restart_timeout(p: &mut Parser, rest: &str) -> Done {
    let numbers = words(rest).map(value::integer).collect::<Result<Vec<_>, _>>()?;
    let restart = match numbers[..] {
        [] => return Err(ErrorKind::Empty),
        [base] => {
            let base = raised(p, base, 1, "second");
            let base = lowered(p, base, 3600);
            Restart { base, cap: base, stable: 0 }
        }
        [base, cap, ref rest @ ..] => {
            if cap < base {
                return other("backoff cap is lower than the base in restart_timeout.");
            }
            let Ok(stable) = u32::try_from(rest.first().copied().unwrap_or(0)) else {
                return other("stable connection period cannot be negative.");
            };
            if rest.len() > 1 {
                p.warn("The text after the third value of 'restart_timeout' is ignored.");
            }
            let base = raised(p, base, 1, "second");
            let base = lowered(p, base, 3600);
            let cap = lowered(p, u32::try_from(cap).unwrap_or(0), 7200).max(base);
            Restart { base, cap, stable }
        }
    };
    set(&mut p.bridge().restart, restart)
}

pub(in crate::config) fn protocol_version(p: &mut Parser, word: &str) -> Done {
    let version = match word {
        "mqttv31" => ProtocolVersion::V31,
        "mqttv311" => ProtocolVersion::V311,
        _ => ProtocolVersion::V5,
    };
    set(&mut p.bridge().version, version)
}

pub(in crate::config) fn receive_maximum(p: &mut Parser, n: i32) -> Done {
    set(&mut p.bridge().receive_maximum, u16::try_from(n).ok())
}

pub(in crate::config) fn reload_type(p: &mut Parser, word: &str) -> Done {
    let reload = if word == "lazy" { ReloadType::Lazy } else { ReloadType::Immediate };
    set(&mut p.bridge().reload, reload)
}

/// `bridge_tcp_keepalive IDLE INTERVAL COUNT`.
pub(in crate::config) fn tcp_keepalive(p: &mut Parser, rest: &str) -> Done {
    let numbers = words(rest).map(value::integer).collect::<Result<Vec<_>, _>>()?;
    let positive = |n: i32| u32::try_from(n).ok().filter(|&n| n > 0);
    let [Some(idle), Some(interval), Some(count)] = numbers.into_iter().map(positive).collect::<Vec<_>>()[..] else {
        return Err(ErrorKind::Invalid(rest.into()));
    };
    set(&mut p.bridge().tcp_keepalive, Some(TcpKeepalive { idle, interval, count }))
}

pub(in crate::config) fn insecure(p: &mut Parser, on: bool) -> Done {
    if on {
        p.warn("With 'bridge_insecure true' any host with a trusted certificate can pose as the other broker.");
    }
    set(&mut p.bridge().tls.insecure, on)
}

pub(in crate::config) fn bridge_tls_version(p: &mut Parser, word: &str) -> Done {
    let version = tls_version(p, word);
    set(&mut p.bridge().tls.version, version)
}

/// Refuses a certificate option behind a key shared beforehand in the same bridge.
pub(in crate::config) fn certificate(p: &Parser) -> Done {
    if p.marked(&["bridge_identity", "bridge_psk"]) { both(p) } else { done() }
}

/// Refuses a key shared beforehand behind a certificate option in the same bridge.
pub(in crate::config) fn shared_key(p: &Parser) -> Done {
    if p.marked(&["bridge_cafile", "bridge_capath", "bridge_certfile", "bridge_keyfile"]) { both(p) } else { done() }
}

fn both(p: &Parser) -> Done {
    other(format!("'{}': Cannot use both certificate and psk encryption in a single bridge.", p.option))
}
