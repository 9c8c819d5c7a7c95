//! A case for every option: what it accepts and where that goes, what it refuses in which words, its default, scope,
//! repeat rule and whether SIGHUP applies it.

mod bridge;
mod global;
mod listener;
mod mqttsn;

use super::super::bridge::Bridge;
use super::super::options::{Kind, Lack, OptionRow, Scope};
use super::*;

type Check = fn(&Config) -> bool;

/// What a second line of an option does.
#[derive(Clone, Copy, PartialEq)]
enum Repeat {
    /// It counts alone.
    Last,
    /// It is an error.
    Error,
    /// It counts too.
    Adds,
}

/// What is expected of one option.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    scope: Scope,
    default: &'static str,
    /// What stands before it; else whatever its scope needs.
    after: Option<&'static str>,
    good: &'static [(&'static str, Check)],
    bad: &'static [(&'static str, &'static str)],
    repeat: Repeat,
    reload: bool,
}

const fn case(name: &'static str, scope: Scope, default: &'static str) -> Case {
    Case { name, scope, default, after: None, good: &[], bad: &[], repeat: Repeat::Last, reload: true }
}

impl Case {
    const fn good(mut self, good: &'static [(&'static str, Check)]) -> Self {
        self.good = good;
        self
    }

    const fn bad(mut self, bad: &'static [(&'static str, &'static str)]) -> Self {
        self.bad = bad;
        self
    }

    const fn after(mut self, after: &'static str) -> Self {
        self.after = Some(after);
        self
    }

    const fn once(mut self) -> Self {
        self.repeat = Repeat::Error;
        self
    }

    const fn adds(mut self) -> Self {
        self.repeat = Repeat::Adds;
        self
    }

    const fn restart(mut self) -> Self {
        self.reload = false;
        self
    }

    fn row(&self) -> &'static OptionRow {
        OPTIONS.iter().find(|row| row.name == self.name).unwrap_or_else(|| panic!("{} is not in the table", self.name))
    }

    /// The lines that must stand before the option.
    fn start(&self) -> &'static str {
        self.after.unwrap_or(match self.scope {
            Scope::Global | Scope::GlobalOrListener => "",
            Scope::Listener | Scope::ListenerOrDefault => "listener 1\n",
            Scope::Bridge => "connection b\n",
            Scope::Plugin => "plugin x.so\n",
        })
    }

    fn line(&self, value: &str) -> String {
        format!("{} {value}", written(self.name))
    }

    fn with(&self, value: &str) -> String {
        format!("{}{}", self.start(), self.line(value))
    }
}

/// A name of the table as it may stand in a file.
fn written(name: &str) -> String {
    name.replace('*', "key")
}

fn cases() -> impl Iterator<Item = &'static Case> {
    global::CASES.iter().chain(listener::CASES).chain(bridge::CASES).chain(mqttsn::CASES)
}

/// The first listener.
fn l(config: &Config) -> &Listener {
    &config.listeners[0]
}

/// The first bridge.
fn b(config: &Config) -> &Bridge {
    &config.bridges[0]
}

/// The state after the last line of `text`: what is not built in is stored but not refused yet.
fn read(text: &str) -> Result<Parser, ConfigError> {
    let mut parser = Parser::new(None);
    parser.text("a.conf", text.as_bytes())?;
    Ok(parser)
}

fn stored(text: &str) -> Parser {
    read(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn refused(text: &str) -> String {
    read(text).map(|parser| parser.config).expect_err(text).to_string()
}

fn error(text: &str, reason: &str) -> String {
    format!("Error: {reason}\nError found at a.conf:{}.", text.lines().count())
}

/// A value that needs a part of its own; the option itself does not.
fn is_special(name: &str, value: &str) -> bool {
    (name == "listener" && value.starts_with("0 ")) || (name == "protocol" && value != "mqtt")
}

#[test]
fn every_option_has_a_case_and_every_case_an_option() {
    let mut names: Vec<_> = cases().map(|case| case.name).collect();
    names.sort_unstable();
    assert_eq!(names, OPTIONS.iter().map(|row| row.name).collect::<Vec<_>>());
}

#[test]
fn scope_default_repeat_and_reload_are_those_of_the_cases() {
    for case in cases() {
        let row = case.row();
        let found = (row.scope, row.default, row.once, row.reload);
        assert_eq!(
            found,
            (case.scope, case.default, case.repeat == Repeat::Error, case.reload),
            "{}: scope, default, once, reload",
            case.name
        );
    }
}

#[test]
fn accepted_values_reach_their_fields() {
    for case in cases() {
        let row = case.row();
        let switch = matches!(row.kind, Kind::Bool(_));
        assert!(!case.good.is_empty() || matches!(case.name, "include_dir"), "{} accepts something", case.name);
        for name in std::iter::once(&row.name).chain(row.aliases) {
            for (value, check) in case.good {
                let text = format!("{}{} {value}", case.start(), written(name));
                let config = stored(&text).config;
                assert!(check(&config), "{text}: {config:?}");
                if switch {
                    let digit = text.replace(" true", " 1").replace(" false", " 0");
                    assert_eq!(stored(&digit).config, config, "{digit}");
                }
            }
        }
    }
}

#[test]
fn refused_values_are_told_with_file_and_line() {
    for case in cases() {
        let row = case.row();
        let check = |value: &str, reason: &str| {
            let text = case.with(value);
            assert_eq!(refused(&text), error(&text, reason), "{text}");
        };
        for (value, reason) in case.bad {
            check(value, reason);
        }
        let name = written(case.name);
        let told = |value: &str| case.bad.iter().any(|(bad, _)| bad == &value);
        if !told("") && !matches!(row.kind, Kind::Gone(_)) {
            check("", &format!("Empty '{name}' value in configuration."));
        }
        match row.kind {
            Kind::Bool(_) => {
                for value in ["yes", "True", "on", "2"] {
                    check(value, &format!("Invalid '{name}' value ({value})."));
                }
            }
            Kind::Int { min, max, .. } => {
                check("ten", &format!("'{name}' value not a number."));
                check("1x", &format!("'{name}' value not a number."));
                check("4294967296", &format!("'{name}' value out of range."));
                for n in [min.checked_sub(1), max.checked_add(1)].into_iter().flatten() {
                    if !told(&n.to_string()) {
                        check(&n.to_string(), &format!("Invalid '{name}' value ({n})."));
                    }
                }
            }
            Kind::Choice(..) if !told("nothing") => check("nothing", &format!("Invalid '{name}' value (nothing).")),
            Kind::Text(..) if case.name != "include_dir" => {
                check("a\u{1}", "Malformed UTF-8 in configuration.");
                check(&"x".repeat(65_536), &format!("'{}' value is longer than 65535 bytes.", shown(&name)));
            }
            _ => {}
        }
    }
}

/// What a message calls an option.
fn shown(name: &str) -> &str {
    match name {
        "bind_address" => "default listener bind_address",
        "remote_clientid" => "bridge remote clientid",
        "local_clientid" => "bridge local clientd",
        "remote_password" => "bridge remote_password",
        name => name,
    }
}

#[test]
fn the_default_changes_nothing() {
    for case in cases() {
        let row = case.row();
        let simple = matches!(row.kind, Kind::Bool(_) | Kind::Int { .. } | Kind::Choice(..));
        if !simple || case.default == "none" || matches!(case.name, "port" | "allow_anonymous" | "log_type") {
            continue;
        }
        let (set, unset) = (stored(&case.with(case.default)), stored(case.start()));
        assert_eq!(set.config, unset.config, "{}", case.name);
        assert_eq!(set.refusal, unset.refusal, "{}", case.name);
        let words = ["message_size_limit", "per_listener_settings", "allow_duplicate_messages"];
        assert!(set.lines.is_empty() || words.contains(&case.name), "{}: {:?}", case.name, set.lines);
    }
}

#[test]
fn options_stand_where_they_belong() {
    for case in cases() {
        let Some((value, _)) = case.good.first() else { continue };
        let (line, name) = (case.line(value), written(case.name));
        let wrong = |start: &str, reason: String| {
            let text = format!("{start}{line}");
            assert_eq!(refused(&text), error(&text, &reason));
        };
        let listener = format!("The '{name}' option requires a listener to be defined first.");
        match case.scope {
            Scope::Global if matches!(case.name, "listener" | "port" | "bind_address" | "connection") => {}
            // Behind a listener they belong to it; a test of their own shows that.
            Scope::Global if case.name.starts_with("mqttsn_predefined_topic") => {}
            Scope::Global => {
                let (alone, within) = (stored(&case.with(value)), stored(&format!("listener 9\nconnection q\n{line}")));
                assert_eq!(within.config.global, alone.config.global, "{line}");
                assert_eq!(within.config.listeners, [Listener::new(9, None)], "{line}");
                assert_eq!(within.config.bridges, [Bridge::new("q".into())], "{line}");
            }
            Scope::GlobalOrListener => {
                let before = stored(&format!("listener 9\n{line}"));
                assert_eq!(before.config.listeners, [Listener::new(9, None)], "global without per_listener_settings");
                wrong("per_listener_settings true\n", listener);
                let own = stored(&format!("per_listener_settings true\nlistener 8\nlistener 9\n{line}"));
                assert_eq!(own.config.global, Global { per_listener_settings: true, ..Global::default() }, "{line}");
                assert_eq!(own.config.listeners[0], Listener::new(8, None), "{line}");
                let late = format!("{line}\nper_listener_settings true");
                let reason = "per_listener_settings must be set before any other security settings.";
                assert_eq!(refused(&late), error(&late, reason));
            }
            Scope::Listener | Scope::ListenerOrDefault => {
                let load = case.start().split_once("listener").map_or("", |(load, _)| load);
                let two = stored(&format!("{load}listener 8\nlistener 9\n{line}"));
                assert_eq!(two.config.listeners[0], Listener::new(8, None), "{line}");
                assert_eq!(two.config.global, Global::default(), "{line}");
                if case.scope == Scope::Listener {
                    wrong(&format!("connection q\n{load}"), listener);
                } else {
                    let alone = stored(&line);
                    let opened = format!("Creating default listener due to '{name}' option.");
                    assert!(alone.lines.contains(&(Severity::Information, opened)), "{line}: {:?}", alone.lines);
                }
            }
            Scope::Bridge => {
                wrong("listener 1\n", format!("The '{name}' option requires a bridge to be defined first."));
                let two = stored(&format!("connection q\nlistener 9\nconnection b\nlistener 8\n{line}"));
                assert_eq!(two.config.bridges[0], Bridge::new("q".into()), "{line}");
                assert_eq!(two.config.listeners[1], Listener::new(8, None), "{line}");
            }
            Scope::Plugin => {
                let reason =
                    format!("The '{name}' option requires plugin/global_plugin/plugin_load to be defined first.");
                wrong("listener 1\n", reason);
                for opener in ["plugin x", "auth_plugin x", "global_plugin x", "plugin_load n x"] {
                    assert!(read(&format!("{opener}\n{line}")).is_ok(), "{opener}");
                }
            }
        }
    }
}

#[test]
fn a_second_line_does_what_the_repeat_rule_says() {
    for case in cases() {
        let [(first, _), .., (last, _)] = case.good else {
            assert!(case.good.len() < 2);
            let Some((value, _)) = case.good.first() else { continue };
            second(case, value, value);
            continue;
        };
        second(case, first, last);
    }
}

fn second(case: &Case, first: &str, last: &str) {
    let both = format!("{}\n{}", case.with(first), case.line(last));
    let name = written(case.name);
    match case.repeat {
        Repeat::Error if case.name == "address" => {
            assert_eq!(refused(&both), error(&both, "'address' only allowed once."))
        }
        Repeat::Error => {
            let reason = format!("Duplicate '{}' value in configuration.", shown(&name));
            assert_eq!(refused(&both), error(&both, &reason));
        }
        Repeat::Last => assert_eq!(stored(&both).config, stored(&case.with(last)).config, "{both}"),
        Repeat::Adds => assert!(
            first == last || stored(&both).config != stored(&case.with(first)).config || case.row().lack.is_some(),
            "{both}"
        ),
    }
}

/// What is not built in is refused at the end, or told and ignored, by option, file and line; never taken in silence.
#[test]
fn what_is_missing_is_answered_by_name() {
    for case in cases() {
        let row = case.row();
        let before = stored(case.start());
        for (value, _) in case.good {
            let text = case.with(value);
            let parser = stored(&text);
            let place = format!("a.conf:{}", text.lines().count());
            match row.lack {
                None if is_special(case.name, value) => {}
                None => assert_eq!(parser.refusal, before.refusal, "{text}"),
                Some(_) if row.is_default(value) => {
                    assert_eq!((&parser.refusal, &parser.lines), (&before.refusal, &before.lines), "{text}");
                }
                Some(Lack::Error(feature)) => match &before.refusal {
                    Some(refusal) => assert_eq!(parser.refusal.as_ref(), Some(refusal), "{text}: one answer is enough"),
                    None => {
                        let refusal = parser.refusal.unwrap_or_else(|| panic!("{text} is refused")).to_string();
                        let start =
                            format!("Error: The '{}' option needs {}, which ", written(case.name), feature.name());
                        assert!(refusal.starts_with(&start), "{refusal}");
                        assert!(refusal.ends_with(&format!(".\nError found at {place}.")), "{refusal}");
                    }
                },
                Some(Lack::Warning(feature)) => {
                    let line = format!(
                        "Warning: The '{}' option needs {}, which is not available in this build. The option is \
                         ignored. ({place})",
                        case.name,
                        feature.name()
                    );
                    assert!(parser.lines.contains(&(Severity::Warning, line)), "{text}: {:?}", parser.lines);
                }
            }
        }
    }
}

/// Only these may be dropped with a warning; everything else that is missing stops the start.
#[test]
fn few_options_are_ignored_with_a_warning() {
    let ignored: Vec<_> =
        OPTIONS.iter().filter(|row| matches!(row.lack, Some(Lack::Warning(_)))).map(|row| row.name).collect();
    let control = if cfg!(feature = "control") { None } else { Some("enable_control_api") };
    let sys = if cfg!(feature = "sys-tree") { None } else { Some("sys_interval") };
    let strict = if cfg!(feature = "persistence") { None } else { Some("persistence_strict") };
    let [files, origin] = ["http_dir", "websockets_origin"].map(|name| (!cfg!(feature = "websockets")).then_some(name));
    let expected: Vec<_> = control.into_iter().chain(files).chain(strict).chain(sys).chain(origin).collect();
    assert_eq!(ignored, expected);
}
