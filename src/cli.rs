//! The command line of the broker: text in, [`Arguments`] out. Reads no file and prints nothing.
//!
//! Beyond what C Mosquitto takes, short flags may be combined (`-vd`) and values attached (`-p1884`,
//! `--port=1884`).

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

use getopts::{Fail, Options};

use crate::logging::Verbosity;

/// The version as it is printed, logged and published.
pub const VERSION: &str = concat!("mosquitto version ", env!("CARGO_PKG_VERSION"));

/// What `--version` prints.
pub const VERSION_TEXT: &str = concat!(
    "mosquitto version ",
    env!("CARGO_PKG_VERSION"),
    "\n\nCopyright (C) 2026 the authors of this program.\nLicence: ",
    env!("CARGO_PKG_LICENSE"),
    ".\n"
);

/// What `--help` prints.
pub const USAGE: &str = concat!(
    "mosquitto version ",
    env!("CARGO_PKG_VERSION"),
    "

mosquitto is an MQTT v5.0/v3.1.1/v3.1 broker

Usage: mosquitto [-c config_file] [-d] [-h] [-p port] [-v]
                 [-q] [--test-config] [--tls-keylog file] [--version]

 -c, --config-file : read this file; a later one adds to an earlier one.
 -d, --daemon : go to the background once everything is set up.
 -h, --help : show this text.
 -p, --port : listen on this port of this machine (default 1883, up to 10),
              when no configuration file defines a listener.
 -q, --quiet : log nothing, whatever else says so.
 -v, --verbose : log everything, whatever the configuration file says.
 --test-config : check the configuration file and stop.
 --tls-keylog : append the secrets of TLS connections to this file, for a look
                into them with Wireshark. Never leave this on.
 --version : show the version and stop.

See https://mosquitto.org/ for more information.

"
);

/// Every option: its letter, its name, and whether a value follows.
const OPTIONS: [(&str, &str, bool); 9] = [
    ("c", "config-file", true),
    ("d", "daemon", false),
    ("h", "help", false),
    ("p", "port", true),
    ("q", "quiet", false),
    ("v", "verbose", false),
    ("", "test-config", false),
    ("", "tls-keylog", true),
    ("", "version", false),
];

/// The most ports that `-p` may name.
const MAX_PORTS: usize = 10;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Action {
    /// Be a broker.
    #[default]
    Run,
    /// Check the configuration and stop.
    TestConfig,
    /// Print [`USAGE`].
    Help,
    /// Print [`VERSION_TEXT`].
    Version,
}

/// A valid command line.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Arguments {
    /// What to do.
    pub action: Action,
    /// Files of `-c` in the order given; all are read again on SIGHUP.
    pub config_files: Vec<PathBuf>,
    /// `-d`: go to the background.
    pub daemon: bool,
    /// Ports of `-p`, 1 to 65535, at most 10; only for a broker that serves this machine alone.
    pub ports: Vec<u16>,
    /// `--tls-keylog`: the file for the secrets of TLS connections.
    pub tls_keylog: Option<PathBuf>,
    /// `-v` and `-q`.
    pub verbosity: Verbosity,
}

/// Why a command line is not valid. `Display` is the line to print; the exit status is 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CliError {
    /// No such option, or a word that belongs to none. The only error that is followed by the usage text.
    Unknown(String),
    /// The option needs an argument: its name and what is missing.
    MissingArgument(&'static str, &'static str),
    /// Not within 1 to 65535.
    InvalidPort(i64),
    /// More than 10 ports.
    TooManyPorts,
    /// `--test-config` without `-c`.
    NothingToTest,
    /// `--tls-keylog` in a build without TLS. Not silently ignored, because somebody waits for that file.
    NoTls,
}

impl CliError {
    /// The exit status of the process.
    pub const EXIT_STATUS: i32 = 3;
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CliError::Unknown(option) => write!(f, "Error: Unknown option '{option}'."),
            CliError::MissingArgument(option, what) => {
                write!(f, "Error: {option} argument given, but no {what} specified.")
            }
            CliError::InvalidPort(port) => write!(f, "Error: Invalid port specified ({port})."),
            CliError::TooManyPorts => {
                write!(f, "Error: Only {MAX_PORTS} ports can be specified on the command line.")
            }
            CliError::NothingToTest => f.write_str("Please provide a configuration file to test."),
            CliError::NoTls => f.write_str("Error: --tls-keylog is not available, TLS is not part of this build."),
        }
    }
}

/// Understands the arguments behind the program's name.
///
/// # Errors
/// See [`CliError`].
pub fn parse(args: &[impl AsRef<OsStr>]) -> Result<Arguments, CliError> {
    let mut options = Options::new();
    for (letter, name, takes_value) in OPTIONS {
        if takes_value {
            options.optmulti(letter, name, "", "");
        } else {
            options.optflagmulti(letter, name, "");
        }
    }
    let matches = options.parse(args).map_err(|fail| from_fail(fail, args))?;
    if let Some(word) = matches.free.first() {
        return Err(CliError::Unknown(word.clone()));
    }
    let action = if matches.opt_present("help") {
        Action::Help
    } else if matches.opt_present("version") {
        Action::Version
    } else if matches.opt_present("test-config") {
        Action::TestConfig
    } else {
        Action::Run
    };
    if matches!(action, Action::Help | Action::Version) {
        return Ok(Arguments { action, ..Arguments::default() });
    }
    let tls_keylog = matches.opt_strs("tls-keylog").pop().map(PathBuf::from);
    if tls_keylog.is_some() && !cfg!(feature = "tls") {
        return Err(CliError::NoTls);
    }
    let ports = matches.opt_strs("port").iter().map(|text| port(text)).collect::<Result<Vec<_>, _>>()?;
    if ports.len() > MAX_PORTS {
        return Err(CliError::TooManyPorts);
    }
    let config_files: Vec<PathBuf> = matches.opt_strs("config-file").into_iter().map(Into::into).collect();
    if action == Action::TestConfig && config_files.is_empty() {
        return Err(CliError::NothingToTest);
    }
    let verbosity = if matches.opt_present("quiet") {
        Verbosity::Nothing
    } else if matches.opt_present("verbose") {
        Verbosity::All
    } else {
        Verbosity::Configured
    };
    Ok(Arguments { action, config_files, daemon: matches.opt_present("daemon"), ports, tls_keylog, verbosity })
}

fn from_fail(fail: Fail, args: &[impl AsRef<OsStr>]) -> CliError {
    match fail {
        Fail::ArgumentMissing(name) => match name.as_str() {
            "c" | "config-file" => CliError::MissingArgument("-c", "config file"),
            "p" | "port" => CliError::MissingArgument("-p", "port"),
            _ => CliError::MissingArgument("--tls-keylog", "file"),
        },
        Fail::UnrecognizedOption(name)
        | Fail::UnexpectedArgument(name)
        | Fail::OptionMissing(name)
        | Fail::OptionDuplicated(name) => CliError::Unknown(as_typed(&name, args)),
    }
}

/// The argument in which `getopts` met the option `name`, which it reports without its dashes.
fn as_typed(name: &str, args: &[impl AsRef<OsStr>]) -> String {
    let of_option = |arg: &&str| match arg.strip_prefix("--") {
        Some(long) => long.split('=').next() == Some(name),
        None => name.chars().count() == 1 && arg.len() > 1 && arg.starts_with('-') && arg.contains(name),
    };
    args.iter().filter_map(|arg| arg.as_ref().to_str()).find(of_option).unwrap_or(name).to_owned()
}

/// A port as leniently as C's `atoi` reads it: leading space, a sign, digits, and whatever else behind them.
fn port(text: &str) -> Result<u16, CliError> {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut number = 0i64;
    for digit in digits.bytes().take_while(u8::is_ascii_digit) {
        number = number.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
    }
    let number = if negative { -number } else { number };
    u16::try_from(number).ok().filter(|&port| port != 0).ok_or(CliError::InvalidPort(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, CliError> {
        parse(&line.split_whitespace().collect::<Vec<_>>())
    }

    fn message(line: &str) -> String {
        parsed(line).unwrap_err().to_string()
    }

    #[test]
    fn nothing_means_a_broker_without_a_file() {
        assert_eq!(parsed(""), Ok(Arguments::default()));
    }

    #[test]
    fn long_and_short_names_mean_the_same() {
        for (long, short) in [
            ("--config-file a.conf", "-c a.conf"),
            ("--daemon", "-d"),
            ("--help", "-h"),
            ("--port 1884", "-p 1884"),
            ("--quiet", "-q"),
            ("--verbose", "-v"),
            ("--config-file=a.conf --port=1884", "-ca.conf -p1884"),
            ("--verbose --daemon", "-vd"),
        ] {
            assert!(parsed(long).is_ok());
            assert_eq!(parsed(long), parsed(short), "{long}");
        }
    }

    #[test]
    fn files_and_ports_keep_their_order() {
        let arguments = parsed("-c b.conf -p 2 -v --config-file a.conf -p 1").unwrap();
        assert_eq!(arguments.config_files, [PathBuf::from("b.conf"), PathBuf::from("a.conf")]);
        assert_eq!(arguments.ports, [2, 1]);
    }

    #[test]
    fn flags_may_be_repeated_and_quiet_wins_over_verbose() {
        assert_eq!(parsed("-v -v -v").unwrap().verbosity, Verbosity::All);
        assert_eq!(parsed("-v -q -v").unwrap().verbosity, Verbosity::Nothing);
        assert_eq!(parsed("-d").unwrap().verbosity, Verbosity::Configured);
        assert!(parsed("-d -d").unwrap().daemon);
    }

    #[test]
    fn help_and_version_need_nothing_else_to_be_right() {
        assert_eq!(parsed("-p 0 -h --version").unwrap().action, Action::Help);
        assert_eq!(parsed("--version --test-config").unwrap().action, Action::Version);
    }

    #[test]
    fn a_configuration_can_be_tested_only_if_there_is_one() {
        assert_eq!(parsed("--test-config -c a.conf").unwrap().action, Action::TestConfig);
        assert_eq!(message("--test-config"), "Please provide a configuration file to test.");
    }

    #[test]
    fn unknown_options_are_named_as_typed() {
        for (line, option) in [
            ("--bogus", "--bogus"),
            ("--bogus=1", "--bogus=1"),
            ("-x", "-x"),
            ("-v -vx", "-vx"),
            ("-foo", "-foo"),
            ("word", "word"),
            ("-d word", "word"),
            ("-- -d", "-d"),
            ("-", "-"),
            ("--daemon=yes", "--daemon=yes"),
        ] {
            assert_eq!(message(line), format!("Error: Unknown option '{option}'."), "{line}");
        }
    }

    #[test]
    fn missing_arguments_are_named() {
        for (line, expected) in [
            ("-c", "Error: -c argument given, but no config file specified."),
            ("-v --config-file", "Error: -c argument given, but no config file specified."),
            ("-p", "Error: -p argument given, but no port specified."),
            ("--port", "Error: -p argument given, but no port specified."),
            ("--tls-keylog", "Error: --tls-keylog argument given, but no file specified."),
        ] {
            assert_eq!(message(line), expected);
        }
    }

    #[test]
    fn ports_are_read_leniently_but_must_be_ports() {
        let ports = |text| parse(&["-p", text]).map(|arguments| arguments.ports);
        assert_eq!(ports("1"), Ok(vec![1]));
        assert_eq!(ports(" +65535x"), Ok(vec![65535]));
        for (text, number) in [("0", 0), ("65536", 65536), ("-1", -1), ("mqtt", 0), ("", 0), ("-", 0)] {
            assert_eq!(ports(text), Err(CliError::InvalidPort(number)), "{text:?}");
        }
        assert!(ports("99999999999999999999999").is_err());
        assert_eq!(message("-p 65536"), "Error: Invalid port specified (65536).");
    }

    #[test]
    fn ten_ports_are_enough() {
        assert_eq!(parsed(&"-p 1 ".repeat(10)).unwrap().ports.len(), 10);
        assert_eq!(message(&"-p 1 ".repeat(11)), "Error: Only 10 ports can be specified on the command line.");
    }

    #[test]
    fn a_key_log_is_refused_without_tls() {
        let expected = if cfg!(feature = "tls") { Ok(Some("keys".into())) } else { Err(CliError::NoTls) };
        assert_eq!(parsed("--tls-keylog keys").map(|arguments| arguments.tls_keylog), expected);
    }

    /// The options that stand at the head of an entry of the manual's section OPTIONS, without markup.
    fn in_the_manual() -> Vec<String> {
        let manual = include_str!("../man/mosquitto.8");
        let section = manual.split(".SH ").find(|section| section.starts_with("OPTIONS")).unwrap();
        let heads = section.split(".TP\n").skip(1).map(|entry| entry.lines().next().unwrap());
        let bare = |word: &str| word.replace('\\', "").trim_start_matches("fB").trim_end_matches("fR").to_owned();
        heads
            .flat_map(|head| head.split([' ', ',']).map(bare).collect::<Vec<_>>())
            .map(|word| word.trim_end_matches("fR").to_owned())
            .filter(|word| word.starts_with('-'))
            .collect()
    }

    #[test]
    fn the_manual_and_the_usage_text_name_every_option_and_no_other() {
        let mut known = Vec::new();
        for (letter, name, takes_value) in OPTIONS {
            if !letter.is_empty() {
                known.push(format!("-{letter}"));
            }
            known.push(format!("--{name}"));
            let argument = if takes_value { "1" } else { "" };
            assert_ne!(
                parsed(&format!("--{name} {argument}")),
                Err(CliError::Unknown(format!("--{name}"))),
                "the table is the parser's"
            );
        }
        let mut manual = in_the_manual();
        manual.sort();
        known.sort();
        assert_eq!(manual, known);
        let words: Vec<&str> = USAGE.split([' ', ',', '\n', '[', ']']).filter(|word| word.starts_with('-')).collect();
        assert!(known.iter().all(|name| words.contains(&name.as_str())), "{words:?}");
        assert!(words.iter().all(|word| known.iter().any(|name| name == word)), "{words:?}");
    }

    #[test]
    fn the_usage_text_fits_a_screen() {
        assert!(USAGE.lines().count() <= 24);
        assert!(USAGE.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn the_usage_text_has_the_usual_shape() {
        let lines: Vec<&str> = USAGE.lines().collect();
        assert_eq!(lines[0], VERSION);
        assert_eq!(lines[1], "");
        assert!(lines[2].contains("is an MQTT v5.0/v3.1.1/v3.1 broker"));
        assert_eq!(lines[4], "Usage: mosquitto [-c config_file] [-d] [-h] [-p port] [-v]");
        assert!(USAGE.ends_with("\n\n"));
        assert_eq!(VERSION_TEXT.lines().filter(|line| !line.is_empty()).count(), 3);
    }
}
