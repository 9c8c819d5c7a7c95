//! The example and the manual page say what the table says.

use super::*;

/// Every name of the table is among the entries of a document, and every entry is in the table.
fn describes_every_option(document: &str, entries: &[String]) {
    for row in OPTIONS {
        for name in std::iter::once(&row.name).chain(row.aliases) {
            let found = match name.strip_suffix('*') {
                Some(start) => entries.iter().any(|entry| entry.starts_with(start)),
                None => entries.iter().any(|entry| entry == name),
            };
            assert!(found, "{name} is missing in {document}");
        }
    }
    for name in entries {
        assert!(options::find(name).is_some(), "{name} of {document} is no option");
    }
}

/// An entry of the example: `#name value`.
fn example_entry(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic))
}

#[test]
fn the_example_describes_every_option() {
    let text = include_str!("../../../mosquitto.conf.example");
    let name = |entry: &str| entry.split(' ').next().unwrap_or_default().to_string();
    describes_every_option(
        "mosquitto.conf.example",
        &text.lines().filter_map(example_entry).map(name).collect::<Vec<_>>(),
    );
}

#[test]
fn the_manual_describes_every_option() {
    let text = include_str!("../../../man/mosquitto.conf.5");
    let name = |line: &str| Some(line.strip_prefix("\\fB")?.split_once("\\fR")?.0.to_string());
    describes_every_option("mosquitto.conf.5", &text.lines().filter_map(name).collect::<Vec<_>>());
}

#[test]
fn every_entry_of_the_example_can_be_uncommented() {
    let text = include_str!("../../../mosquitto.conf.example");
    assert_eq!(load(text).lines, [], "as it is, the example changes nothing");
    let available = |name: &str| options::find(name).is_some_and(|row| row.lack.is_none() && name != "include_dir");
    for (i, line) in text.lines().enumerate() {
        let Some(entry) = example_entry(line) else { continue };
        let name = entry.split(' ').next().unwrap_or_default();
        let mut lines: Vec<&str> = text.lines().collect();
        lines[i] = entry;
        lines[0] = "listener 1883";
        match Config::parse_str("example", lines.join("\n")) {
            Err(ConfigError { kind: ErrorKind::Unknown(_), .. }) => panic!("{entry}: unknown"),
            Err(e) if available(name) => panic!("{entry}: {e}"),
            _ => {}
        }
    }
}
