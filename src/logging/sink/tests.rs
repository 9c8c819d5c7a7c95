use std::path::PathBuf;

use super::*;

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
    let config = Log { file: Some(path.clone()), timestamp: false, types: LogTypes::NOTICE, ..silent() };
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

#[test]
fn control_characters_cannot_begin_a_line_or_speak_to_a_terminal() {
    let sink = &mut configured(&Log { timestamp: false, ..silent() }, Verbosity::Configured);
    for (text, expected) in [
        ("a\n1718000000: forged", "a\\x0a1718000000: forged"),
        ("\r\u{1b}[2J\0", "\\x0d\\x1b[2J\\x00"),
        ("\u{7f}\u{85}\u{9b}", "\\x7f\\x85\\x9b"),
        ("\tindented", "\tindented"),
        ("caf\u{e9} \u{a0}\u{20ac}", "caf\u{e9} \u{a0}\u{20ac}"),
    ] {
        assert_eq!(line(sink, text), expected);
    }
    assert_eq!(line(sink, &"\n".repeat(5000)).len(), 999, "a cut escape");
    assert_eq!(line(sink, &format!("{}\n", "x".repeat(999))).len(), 999);
}

#[test]
fn a_flood_is_summed_up_in_every_destination() {
    let config = Log { topic: true, timestamp: false, rate_limit: 50, ..silent() };
    let mut sink = configured(&config, Verbosity::Configured);
    let at = |ms| Now { mono_ms: (1u64 << 32) + ms, wall_s: WALL_S };
    let place = Place { file: "a.rs", line: 1 };
    let flood = |sink: &mut Sink, kind, lines: u32| {
        let mut written = Vec::new();
        for _ in 0..lines {
            sink.log(place, kind, format_args!("{}", "x".repeat(200)), at(0));
            sink.topic_lines.drain(&mut |suffix, line| written.push(format!("{suffix} {line}")));
        }
        written
    };
    assert_eq!(
        flood(&mut sink, LogTypes::NOTICE, 5000).len(),
        2000 * 128 / 201 + 1,
        "with its newline a line has 201 bytes"
    );
    assert_eq!(sink.summary_due_ms(), Some(at(5000).mono_ms));
    sink.summarise(at(5000), false);
    let mut lines = Vec::new();
    sink.topic_lines.drain(&mut |suffix, line| lines.push(format!("{suffix} {line}")));
    let example = "x".repeat(160);
    assert_eq!(
        lines,
        [format!("N 3726 more lines like \"{example}...\" were not logged in the last 5 seconds, see log_rate_limit.")]
    );
    assert_eq!(sink.summary_due_ms(), None);
    for (verbosity, types) in [(Verbosity::All, LogTypes::DEFAULT), (Verbosity::Configured, LogTypes::ALL)] {
        let mut sink = configured(&Log { types, ..config.clone() }, verbosity);
        assert_eq!(flood(&mut sink, LogTypes::NOTICE, 5000).len(), 5000, "with debug lines nothing is left out");
    }
    let mut sink = configured(&Log { rate_limit: 0, ..config }, Verbosity::Configured);
    assert_eq!(flood(&mut sink, LogTypes::NOTICE, 5000).len(), 5000);
}

#[test]
fn a_log_file_that_others_may_read_is_remarked_in_the_log() {
    use std::os::unix::fs::PermissionsExt;
    let path = temporary("readable");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let config = Log { file: Some(path.clone()), timestamp: false, ..silent() };
    let logged = |types| {
        std::fs::write(&path, "").unwrap();
        configured(&Log { types, ..config.clone() }, Verbosity::Configured);
        std::fs::read_to_string(&path).unwrap()
    };
    let shown = path.display();
    assert!(logged(LogTypes::DEFAULT).starts_with(&format!("Warning: File {shown} has world readable permissions. ")));
    assert_eq!(logged(LogTypes::ERROR), "");
    std::fs::remove_file(&path).unwrap();
}
