//! The example and the manual page say what the table says: names, defaults and marks, in both directions.

use super::super::options::{Kind, Lack, OptionRow};
use super::*;

const EXAMPLE: &str = include_str!("../../../mosquitto.conf.example");
const MANUAL: &str = include_str!("../../../man/mosquitto.conf.5");

/// What a document says about an option.
struct Entry {
    /// The names that share the text.
    names: Vec<String>,
    /// On one line.
    text: String,
}

/// An option of the example: `#name value`.
fn option_line(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic))
}

fn first_word(line: &str) -> String {
    line.split(' ').next().unwrap_or_default().into()
}

/// Paragraphs of the example that end in options.
fn entries_of_the_example() -> Vec<Entry> {
    let paragraphs = EXAMPLE.split("\n\n");
    let entry = |paragraph: &str| {
        let names: Vec<_> = paragraph.lines().filter_map(option_line).map(first_word).collect();
        let text: Vec<_> = paragraph.lines().filter_map(|line| line.strip_prefix("# ")).collect();
        (!names.is_empty()).then(|| Entry { names, text: text.join(" ") })
    };
    paragraphs.filter_map(entry).collect()
}

/// Paragraphs of the manual page that start with options.
fn entries_of_the_manual() -> Vec<Entry> {
    let paragraphs = MANUAL.split("\n.SH ").flat_map(|section| section.split("\n.TP\n"));
    let entry = |paragraph: &str| {
        let name = |line: &str| Some(line.strip_prefix("\\fB")?.split_once("\\fR")?.0.to_string());
        let names: Vec<_> = paragraph.lines().filter_map(name).collect();
        let text: Vec<_> = paragraph.lines().filter(|line| !line.starts_with(['.', '\\'])).collect();
        (!names.is_empty()).then(|| Entry { names, text: text.join(" ").replace("\\-", "-") })
    };
    paragraphs.filter_map(entry).collect()
}

fn documents() -> [(&'static str, Vec<Entry>); 2] {
    [("mosquitto.conf.example", entries_of_the_example()), ("mosquitto.conf.5", entries_of_the_manual())]
}

/// The row that all names of an entry belong to.
fn row_of(document: &str, entry: &Entry) -> &'static OptionRow {
    let row = |name: &String| options::find(name).unwrap_or_else(|| panic!("{name} of {document} is no option"));
    let found = row(&entry.names[0]);
    assert!(entry.names.iter().all(|name| row(name).name == found.name), "{document}: {:?}", entry.names);
    found
}

#[test]
fn every_option_and_older_name_is_described_once() {
    for (document, entries) in documents() {
        let mut told: Vec<_> = entries.iter().flat_map(|entry| entry.names.clone()).collect();
        told.sort_unstable();
        let key = if document.ends_with('5') { "KEY" } else { "key" };
        let names = OPTIONS.iter().flat_map(|row| std::iter::once(&row.name).chain(row.aliases));
        let mut expected: Vec<_> = names.map(|name| name.replace('*', key)).collect();
        expected.sort_unstable();
        assert_eq!(told, expected, "{document}");
        for entry in entries {
            row_of(document, &entry);
        }
    }
}

#[test]
fn defaults_are_those_of_the_table() {
    for (document, entries) in documents() {
        for entry in entries {
            let row = row_of(document, &entry);
            let told: Vec<_> = entry.text.split("Default: ").skip(1).collect();
            let [told] = told[..] else { panic!("{document}: {} has one default: {}", row.name, entry.text) };
            let end = told.strip_prefix(row.default);
            let ends = |rest: &str| rest == "." || rest.starts_with(". ") || rest.starts_with(" (");
            assert!(end.is_some_and(ends), "{document}: {} is {}, not {told}", row.name, row.default);
        }
    }
}

#[test]
fn marks_are_those_of_the_table() {
    // What may be left out of a build is not missing.
    let missing = |feature: Feature| {
        use Feature::{
            Acl, Bridges, ControlApi, Metrics, MqttSn, Persistence, Proxy, SysTree, Tls, UnixSockets, Websockets,
        };
        !matches!(
            feature,
            Acl | Bridges
                | ControlApi
                | Metrics
                | MqttSn
                | Persistence
                | Proxy
                | SysTree
                | Tls
                | UnixSockets
                | Websockets
        )
    };
    for (document, entries) in documents() {
        for entry in entries {
            let row = row_of(document, &entry);
            let has = |mark: &str| entry.text.contains(mark);
            let lack = |mark: &str, expected: bool| assert_eq!(has(mark), expected, "{document}: {} {mark}", row.name);
            lack("Restart.", !row.reload);
            lack("Deprecated: ", row.deprecated.is_some());
            // Of these some values are missing.
            let refused = row.name == "protocol";
            let ignored = row.name == "log_dest" || matches!(row.kind, Kind::Gone(_));
            lack("[not available]", refused || matches!(row.lack, Some(Lack::Error(f)) if missing(f)));
            lack("[ignored]", ignored || matches!(row.lack, Some(Lack::Warning(f)) if missing(f)));
        }
    }
}

#[test]
fn the_example_changes_nothing() {
    let loaded = load(EXAMPLE);
    assert_eq!((loaded.config, loaded.lines), (parse(""), vec![]));
}

#[test]
fn every_line_of_the_example_can_be_uncommented() {
    for entry in EXAMPLE.lines().filter_map(option_line) {
        let name = first_word(entry);
        let row = options::find(&name).unwrap_or_else(|| panic!("{name} is no option"));
        // These need directories.
        if matches!(row.name, "include_dir" | "http_dir") {
            continue;
        }
        let above = "plugin_load example x\nlistener 1\nconnection b\naddress a\ntopic a\n";
        let above = match row.name {
            "plugin_load" | "connection" | "per_listener_settings" => "",
            "address" => "connection b\ntopic a\n",
            _ => above,
        };
        let mut parser = Parser::new(None);
        let done = parser.text("example", format!("{above}{entry}").as_bytes());
        assert_eq!(done, Ok(()), "{entry}");
    }
}
