//! Reads configuration files line by line, finds each option in the table and lets its row store the value.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::current::{Cursor, Place};
use super::error::{ConfigError, ErrorKind, Feature, Location, Severity};
use super::options::{self, Kind, Lack, OptionRow};
use super::{Config, Listener, LogTypes, value};
use crate::os::errors::describe;
use crate::os::private_file;

/// A configuration and what is to be said about it, in order. The log is not open yet while files are read, so the
/// caller prints the lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Lines to print.
    pub lines: Vec<(Severity, String)>,
}

impl Config {
    /// Reads the file at `path` on top of `earlier`, the result of another file if `-c` was given more than once.
    /// Call [`Config::finish`] once after the last file.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place, or else the first option that needs what is not built in. Nothing
    /// of the file counts then.
    pub fn load(path: &Path, earlier: Option<Config>) -> Result<Loaded, ConfigError> {
        let mut parser = Parser::new(earlier);
        parser.config.file = Some(path.into());
        parser.file(path)?;
        parser.end()
    }

    /// Reads `text` as the content of a file called `name`. No file is touched unless `text` names one to include.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse_str(name: &str, text: impl AsRef<[u8]>) -> Result<Loaded, ConfigError> {
        let mut parser = Parser::new(None);
        parser.text(name, text.as_ref())?;
        parser.end()
    }
}

/// The state of reading files; the rows of the table store into it.
pub struct Parser {
    pub(super) config: Config,
    pub(super) lines: Vec<(Severity, String)>,
    pub(super) cursor: Cursor,
    /// The listener of options that come before any `listener` line.
    pub(super) default: Option<Listener>,
    /// `port` or `bind_address` asks for the default listener even without another one.
    pub(super) default_opens: bool,
    pub(super) default_port_given: bool,
    /// An option was seen that `per_listener_settings` governs.
    pub(super) security_seen: bool,
    pub(super) log_dest_seen: bool,
    pub(super) log_type_seen: bool,
    /// The bridge that options go to.
    pub(super) bridge: Option<usize>,
    /// An option that loads a plugin stands above.
    pub(super) plugin: bool,
    /// The names of `plugin_load`.
    pub(super) plugins: BTreeSet<String>,
    /// Where each option was seen last.
    pub(super) marks: BTreeMap<(Place, &'static str), Vec<Location>>,
    /// The first option that needs what is not built in. The rest of the file is validated before it is told.
    pub(super) refusal: Option<ConfigError>,
    /// The lines that lead to here, innermost last.
    pub(super) places: Vec<Location>,
    /// The option of the line as written.
    pub(super) option: String,
}

impl Parser {
    pub(super) fn new(earlier: Option<Config>) -> Parser {
        let config = earlier.unwrap_or_else(Config::empty);
        // The first line replaces the default destinations and types, but not those of an earlier file.
        let log = &config.global.log;
        let chosen = (log.stdout, log.stderr, log.syslog, log.topic, log.file.is_some());
        Parser {
            log_dest_seen: chosen != (false, true, false, false, false),
            log_type_seen: log.types != LogTypes::DEFAULT,
            config,
            lines: Vec::new(),
            cursor: Cursor::None,
            default: None,
            default_opens: false,
            default_port_given: false,
            security_seen: false,
            bridge: None,
            plugin: false,
            plugins: BTreeSet::new(),
            marks: BTreeMap::new(),
            refusal: None,
            places: Vec::new(),
            option: String::new(),
        }
    }

    /// Checks the whole and adds the default listener if it is to be opened.
    fn end(mut self) -> Result<Loaded, ConfigError> {
        self.check()?;
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        if let Some(listener) = self.default.take() {
            if self.default_opens || !self.config.listeners.is_empty() {
                self.config.listeners.push(listener);
            } else {
                self.say(
                    Severity::Warning,
                    "Warning: Listener options without a 'listener' line have no effect in local only mode.".into(),
                );
            }
        }
        Ok(Loaded { config: self.config, lines: self.lines })
    }

    /// Lets the end of the file be a refusal for this option.
    pub(super) fn refuse(&mut self, kind: ErrorKind) {
        if self.refusal.is_none() {
            self.refusal = Some(self.error(kind));
        }
    }

    /// Lets the end of the file be a refusal for this option unless this build has `feature`.
    pub(super) fn refuse_without(&mut self, feature: Feature) {
        if !feature.is_built() {
            self.refuse(ErrorKind::Unavailable(feature));
        }
    }

    pub(super) fn say(&mut self, severity: Severity, line: String) {
        self.lines.push((severity, line));
    }

    /// A warning about the option of this line; the place is added.
    pub(super) fn warn(&mut self, text: &str) {
        let place = self.places.last().map(ToString::to_string).unwrap_or_default();
        self.say(Severity::Warning, format!("Warning: {text} ({place})"));
    }

    /// A warning that the option is ignored because `feature` is missing.
    pub(super) fn warn_unavailable(&mut self, feature: Feature) {
        let text = feature.sentence(&self.option);
        self.warn(&format!("{text} The option is ignored."));
    }

    fn error(&self, kind: ErrorKind) -> ConfigError {
        let locations = self.places.iter().rev().cloned().collect();
        ConfigError { option: self.option.clone(), kind, locations }
    }

    fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let name = path.display().to_string();
        if path.is_dir() {
            return Err(self.error(ErrorKind::Directory(name)));
        }
        let mut text = Vec::new();
        // Links are followed: many a configuration is one. A FIFO is an error, not a wait for somebody who writes to it.
        private_file::open(path, true)
            .and_then(|mut file| file.read_to_end(&mut text))
            .map_err(|error| self.error(ErrorKind::Open(name.clone(), describe(&error))))?;
        self.text(&name, &text)
    }

    pub(super) fn text(&mut self, name: &str, text: &[u8]) -> Result<(), ConfigError> {
        // Editors put a byte order mark there; it says nothing.
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        for (i, line) in text.split(|&b| b == b'\n').enumerate() {
            self.places.push(Location { file: name.into(), line: i + 1 });
            self.line(line)?;
            self.places.pop();
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), ConfigError> {
        self.option.clear();
        // C Mosquitto takes a NUL byte for the end of the file and drops the rest without a word.
        if line.contains(&0) {
            return Err(self.error(ErrorKind::Nul));
        }
        // C Mosquitto separates by spaces only; a TAB and an indented comment are accepted here too.
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(());
        }
        let Ok(line) = std::str::from_utf8(line) else { return Err(self.error(ErrorKind::MalformedUtf8)) };
        let (name, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        self.option.push_str(name);
        if name == "include_dir" {
            return self.include_dir(rest.trim_ascii());
        }
        let Some(row) = options::find(name) else {
            return Err(self.error(ErrorKind::Unknown(options::nearest(name))));
        };
        self.option(row, rest.trim_ascii()).map_err(|kind| self.error(kind))
    }

    fn option(&mut self, row: &'static OptionRow, rest: &str) -> Result<(), ErrorKind> {
        if let Kind::Gone(text) = row.kind {
            self.warn(text);
            return Ok(());
        }
        self.enter(row.scope)?;
        if let Some(hint) = row.deprecated {
            let line =
                format!("The '{}' option is now deprecated and will be removed in version 3.0. {hint}", self.option);
            self.say(Severity::Notice, line);
        }
        if rest.is_empty() {
            return Err(ErrorKind::Empty);
        }
        let place = self.place(row.scope);
        let here = self.places.iter().rev().cloned().collect();
        if self.marks.insert((place, row.name), here).is_some() && row.once {
            return Err(ErrorKind::Duplicate);
        }
        let word = rest.split([' ', '\t']).next().unwrap_or_default();
        self.store(row, word, rest)?;
        match row.lack {
            Some(_) if row.is_default(word) => Ok(()),
            Some(Lack::Error(feature)) => {
                self.refuse_without(feature);
                Ok(())
            }
            Some(Lack::Warning(feature)) => {
                self.warn_unavailable(feature);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn store(&mut self, row: &OptionRow, word: &str, rest: &str) -> Result<(), ErrorKind> {
        let one_word = match row.kind {
            Kind::Bool(store) => {
                store(self, value::boolean(word)?)?;
                true
            }
            Kind::Int { min, max, store, .. } => {
                let n = value::integer(word)?;
                if !(min..=max).contains(&n) {
                    return Err(ErrorKind::Range(n.into()));
                }
                store(self, n)?;
                true
            }
            Kind::Choice(choices, store) => {
                if !choices.contains(&word) {
                    return Err(ErrorKind::Invalid(word.into()));
                }
                store(self, word)?;
                true
            }
            Kind::Text(_, store) => {
                value::check_text(rest)?;
                store(self, rest)?;
                false
            }
            Kind::Words(_, store) => {
                store(self, rest)?;
                false
            }
            Kind::Gone(_) => false,
        };
        let left = rest[word.len()..].trim_ascii_start();
        if one_word && !left.is_empty() && !left.starts_with('#') {
            let text = format!("The text after the value of '{}' is ignored.", self.option);
            self.warn(&text);
        }
        Ok(())
    }

    /// Reads the `*.conf` files of a directory at this point of the file. Each starts without a current listener,
    /// bridge or plugin, and those of this file are current again afterwards.
    fn include_dir(&mut self, dir: &str) -> Result<(), ConfigError> {
        if self.places.len() > 1 {
            return Err(self.error(ErrorKind::NestedInclude));
        }
        if dir.is_empty() {
            return Err(self.error(ErrorKind::Empty));
        }
        let paths = conf_files(Path::new(dir))
            .map_err(|error| self.error(ErrorKind::IncludeDir(dir.into(), describe(&error))))?;
        for path in paths {
            self.say(Severity::Information, format!("Loading config file '{}'", path.display()));
            let outer = (self.cursor, self.bridge, self.plugin);
            (self.cursor, self.bridge, self.plugin) = (Cursor::None, None, false);
            self.file(&path)?;
            (self.cursor, self.bridge, self.plugin) = outer;
        }
        Ok(())
    }
}

/// The files of `dir` that `include_dir` reads, in its order.
fn conf_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.len() >= 6 && bytes.ends_with(b".conf") {
            names.push(name);
        }
    }
    // Without regard to case, but where two names differ only in case, upper case comes first at that character.
    let key = |b: &u8| (b.to_ascii_uppercase(), *b);
    names.sort_by(|a, b| {
        let (a, b) = (a.as_encoded_bytes(), b.as_encoded_bytes());
        a.iter().map(key).cmp(b.iter().map(key))
    });
    Ok(names.iter().map(|name| dir.join(name)).collect())
}
