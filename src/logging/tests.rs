use std::fmt;

use super::*;

#[test]
fn the_type_follows_from_level_and_target() {
    let cases = [
        (Level::Error, "mosquitto::net", Some(LogTypes::ERROR)),
        (Level::Warn, "mosquitto", Some(LogTypes::WARNING)),
        (Level::Info, NOTICE, Some(LogTypes::NOTICE)),
        (Level::Info, "mosquitto::proto", Some(LogTypes::INFORMATION)),
        (Level::Debug, "mosquitto::proto", Some(LogTypes::DEBUG)),
        (Level::Debug, SUBSCRIBE, Some(LogTypes::SUBSCRIBE)),
        (Level::Debug, UNSUBSCRIBE, Some(LogTypes::UNSUBSCRIBE)),
        (Level::Debug, WEBSOCKETS, Some(LogTypes::WEBSOCKETS)),
        (Level::Trace, "mosquitto", None),
        (Level::Error, "mio::poll", None),
        (Level::Error, "mosquitto_client", None),
    ];
    for (level, target, expected) in cases {
        let metadata = Metadata::builder().level(level).target(target).build();
        assert_eq!(type_of(&metadata), expected, "{level} {target}");
    }
}

#[test]
fn the_level_lets_every_configured_type_through_and_no_more() {
    let cases = [
        (LogTypes::NONE, LevelFilter::Off),
        (LogTypes::INTERNAL, LevelFilter::Off),
        (LogTypes::ERROR, LevelFilter::Error),
        (LogTypes::WARNING, LevelFilter::Warn),
        (LogTypes::NOTICE, LevelFilter::Info),
        (LogTypes::DEFAULT, LevelFilter::Info),
        (LogTypes::SUBSCRIBE, LevelFilter::Debug),
        (LogTypes::ERROR.with(LogTypes::WEBSOCKETS), LevelFilter::Debug),
        (LogTypes::ALL, LevelFilter::Debug),
    ];
    for (types, level) in cases {
        assert_eq!(level_of(types), level, "{types:?}");
    }
}

/// The one test of the global logger. Other tests may log too, so it looks for its own text.
#[test]
fn publishing_a_line_does_not_make_another_to_publish() {
    let config = Log { topic: true, types: LogTypes::SUBSCRIBE, stderr: false, ..Log::default() };
    init(&config, Verbosity::Configured);
    assert!(log::log_enabled!(target: SUBSCRIBE, Level::Debug));
    assert!(!log::log_enabled!(Level::Debug));
    assert!(!log::log_enabled!(Level::Error));
    let mut lines = Vec::new();
    for round in 0..3 {
        crate::log_subscribe!("own-mark {round}");
        drain_topic_lines(&mut |suffix, text| {
            if text.contains("own-mark") {
                lines.push((suffix.to_owned(), text.split_once(": ").unwrap().1.to_owned()));
            }
            crate::log_subscribe!("own-mark from within");
        });
    }
    let expected: Vec<_> = (0..3).map(|round| ("M/subscribe".to_owned(), format!("own-mark {round}"))).collect();
    assert_eq!(lines, expected);

    /// Logs while it is being formatted.
    struct Chatty;
    impl fmt::Display for Chatty {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            crate::log_subscribe!("own-mark inner");
            f.write_str("own-mark outer")
        }
    }
    crate::log_subscribe!("{Chatty}");
    let mut texts = Vec::new();
    drain_topic_lines(&mut |_, text| texts.push(text.to_owned()));
    assert!(texts.iter().any(|text| text.ends_with("own-mark outer")));
    assert!(!texts.iter().any(|text| text.contains("inner")));
    init(&Log::default(), Verbosity::Configured);
}
