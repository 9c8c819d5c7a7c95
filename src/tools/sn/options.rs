//! The command line of both tools. An option may be repeated, and the last one counts, except for those of which there
//! can be many.

use std::ffi::OsString;
use std::str::FromStr;

use getopts::{Fail, Matches, Options, ParsingStyle};

use super::{Failure, USAGE};
use crate::os::random;
use crate::proto::sn::client::{Settings, Topic, Will};
use crate::wire::{QoS, topic};

const DEFAULT_PORT: u16 = 1884;
const DEFAULT_KEEPALIVE_S: u16 = 60;
const DEFAULT_RETRY_S: u16 = 5;
const DEFAULT_RETRIES: u32 = 3;

/// Options with a value: one letter, or none, and the name.
const VALUES: [(&str, &str); 14] = [
    ("A", "bind"),
    ("h", "host"),
    ("i", "id"),
    ("I", "id-prefix"),
    ("k", "keepalive"),
    ("p", "port"),
    ("q", "qos"),
    ("t", "topic"),
    ("", "predefined"),
    ("", "retries"),
    ("", "retry-interval"),
    ("", "will-payload"),
    ("", "will-qos"),
    ("", "will-topic"),
];
/// Options without one.
const FLAGS: [(&str, &str); 7] = [
    ("c", "disable-clean-session"),
    ("d", "debug"),
    ("", "help"),
    ("", "quiet"),
    ("", "search"),
    ("", "version"),
    ("", "will-retain"),
];

/// What both tools need to know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Common {
    pub(super) host: String,
    pub(super) port: u16,
    /// The local address to send from.
    pub(super) bind: Option<String>,
    /// The address is asked for gateways, and the first one that answers is taken.
    pub(super) search: bool,
    pub(super) settings: Settings,
    pub(super) debug: bool,
    pub(super) quiet: bool,
}

/// What the first look at a command line gives.
pub(super) enum Asked {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// Everything else.
    Words(Words),
}

/// A command line taken apart; what it means is still to be checked.
pub(super) struct Words(Matches);

/// An error in the options.
pub(super) fn wrong(text: impl AsRef<str>) -> Failure {
    Failure::new(USAGE, format!("Error: {}", text.as_ref()))
}

impl Words {
    /// Takes the arguments apart; `values` and `flags` are the options that only this tool has.
    pub(super) fn parse(args: &[OsString], values: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Asked, Failure> {
        let mut options = Options::new();
        options.parsing_style(ParsingStyle::StopAtFirstFree);
        for (short, long) in VALUES.iter().chain(values) {
            options.optmulti(short, long, "", "");
        }
        for (short, long) in FLAGS.iter().chain(flags) {
            options.optflagmulti(short, long, "");
        }
        if let Some(at) = args.iter().position(|arg| arg.to_str().is_none()) {
            let text = format!("Argument {} is not UTF-8. Send such a payload with -f or -s.", at + 1);
            return Err(wrong(text));
        }
        let matches = options.parse(args).map_err(|fail| match fail {
            Fail::ArgumentMissing(name) => wrong(format!("{} argument given but no value specified.", dashed(&name))),
            Fail::UnrecognizedOption(name) => unknown(&dashed(&name)),
            other => wrong(format!("{other}.")),
        })?;
        if matches.opt_present("help") {
            return Ok(Asked::Help);
        }
        if matches.opt_present("version") {
            return Ok(Asked::Version);
        }
        match matches.free.first() {
            Some(word) => Err(unknown(word)),
            None => Ok(Asked::Words(Words(matches))),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.opt_present(name)
    }

    /// The value that counts.
    pub(super) fn last(&self, name: &str) -> Option<String> {
        self.0.opt_strs(name).pop()
    }

    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.opt_strs(name)
    }

    /// A number in these bounds, or what `error` says of the word that is none.
    pub(super) fn number<T: FromStr + PartialOrd>(
        &self,
        name: &str,
        bounds: std::ops::RangeInclusive<T>,
        error: impl Fn(&str) -> String,
    ) -> Result<Option<T>, Failure> {
        let Some(word) = self.last(name) else { return Ok(None) };
        match word.parse() {
            Ok(number) if bounds.contains(&number) => Ok(Some(number)),
            _ => Err(wrong(error(&word))),
        }
    }

    /// The ids that `--predefined` names.
    pub(super) fn predefined(&self) -> Result<Vec<Topic>, Failure> {
        let id = |word: &String| match word.parse::<u16>() {
            Ok(id) if id != 0 && id != u16::MAX => Ok(Topic::Predefined(id)),
            _ => Err(wrong(format!("Invalid predefined topic id '{word}', it must be between 1 and 65534."))),
        };
        self.all("predefined").iter().map(id).collect()
    }

    /// A QoS by its number.
    pub(super) fn qos(&self, name: &str, error: &str) -> Result<QoS, Failure> {
        let number = self.number(name, 0..=2, |word| format!("{error}{word}."))?;
        Ok(QoS::from_bits(number.unwrap_or(0)).unwrap_or_default())
    }

    /// Everything both tools need.
    pub(super) fn common(&self) -> Result<Common, Failure> {
        let port = self.number("port", 1..=u16::MAX, |word| format!("Invalid port given: {word}"))?;
        let keepalive = self.number("keepalive", 5..=u16::MAX, |_| {
            "Invalid keepalive given, it must be between 5 and 65535 inclusive.".into()
        })?;
        let retry = self.number("retry-interval", 1..=3600u16, |word| {
            format!("Invalid retry interval \"{word}\", it must be between 1 and 3600 seconds.")
        })?;
        let retries = self.number("retries", 0..=100, |word| {
            format!("Invalid number of retries \"{word}\", it must be between 0 and 100.")
        })?;
        let clean_session = !self.has("disable-clean-session");
        let client_id = match (self.last("id"), self.last("id-prefix")) {
            (Some(_), Some(_)) => return Err(wrong("-i and -I argument cannot be used together.")),
            (Some(id), None) if id.is_empty() => return Err(wrong("Invalid client id: it must not be empty.")),
            (Some(id), None) => id,
            (None, Some(prefix)) => format!("{prefix}{}", std::process::id()),
            (None, None) if clean_session => format!("mosq-{:016x}", random::seed()),
            (None, None) => return Err(wrong("You must provide a client id if you are using the -c option.")),
        };
        Ok(Common {
            host: self.last("host").unwrap_or_else(|| "localhost".into()),
            port: port.unwrap_or(DEFAULT_PORT),
            bind: self.last("bind"),
            search: self.has("search"),
            settings: Settings {
                client_id,
                clean_session,
                keepalive_s: keepalive.unwrap_or(DEFAULT_KEEPALIVE_S),
                will: self.will()?,
                retry_ms: u64::from(retry.unwrap_or(DEFAULT_RETRY_S)) * 1000,
                retries: retries.unwrap_or(DEFAULT_RETRIES),
            },
            debug: self.has("debug"),
            quiet: self.has("quiet"),
        })
    }

    fn will(&self) -> Result<Option<Will>, Failure> {
        let (payload, retain) = (self.last("will-payload"), self.has("will-retain"));
        let qos = self.qos("will-qos", "Invalid will QoS ")?;
        match self.last("will-topic") {
            Some(topic) if topic::check_name(&topic).is_err() => {
                Err(wrong(format!("Invalid will topic '{topic}', does it contain '+' or '#'?")))
            }
            Some(topic) => Ok(Some(Will { topic, payload: payload.unwrap_or_default().into_bytes(), qos, retain })),
            None if payload.is_some() => Err(wrong("Will payload given, but no will topic given.")),
            None if retain => Err(wrong("Will retain given, but no will topic given.")),
            None => Ok(None),
        }
    }
}

/// An option as it stands on the command line.
fn dashed(name: &str) -> String {
    format!("{}{name}", if name.chars().count() == 1 { "-" } else { "--" })
}

fn unknown(word: &str) -> Failure {
    wrong(format!("Unknown option '{word}'."))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Every option stands in the help and in the manual page, and nothing else does.
    pub(in super::super) fn check_documents(help: &str, page: &str, values: &[(&str, &str)], flags: &[(&str, &str)]) {
        let page = page.replace("\\-", "-").replace("\\fR", " ");
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let words: Vec<&str> = page.split(|c| !word(c)).collect();
        let mut known = Vec::new();
        for (short, long) in VALUES.iter().chain(values).chain(&FLAGS).chain(flags) {
            let names = [(short, "-"), (long, "--")].into_iter().filter(|(name, _)| !name.is_empty());
            let names: Vec<String> = names.map(|(name, dashes)| format!("{dashes}{name}")).collect();
            assert!(
                help.split(|c| !word(c)).any(|word| names.iter().any(|name| name == word)),
                "{names:?} in the help"
            );
            names.iter().for_each(|name| assert!(words.contains(&name.as_str()), "{name} in the manual page"));
            known.extend(names);
        }
        for word in words.iter().chain(&help.split(|c| !word(c)).collect::<Vec<_>>()) {
            let option = word.starts_with("--") && word.len() > 2;
            assert!(!option || known.iter().any(|name| name == word), "{word} is no option");
        }
    }
}
