//! Rules of the whole parser: how lines are read, files, and what is told. `table` has a case for each option.

mod documents;
mod table;
mod whole;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use super::options::{self, OPTIONS};
use super::*;
use crate::wire::QoS;

fn parse(text: &str) -> Config {
    load(text).config
}

fn load(text: &str) -> Loaded {
    Config::parse_str("a.conf", text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn refusal(text: impl AsRef<[u8]>) -> String {
    Config::parse_str("a.conf", text).map(|loaded| loaded.lines).expect_err("refused").to_string()
}

fn lines(text: &str) -> Vec<String> {
    load(text).lines.into_iter().map(|(_, line)| line).collect()
}

/// A directory of this test alone.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str, files: &[(&str, &str)]) -> Directory {
        let path = env::temp_dir().join(format!("mosquitto-config-{}-{name}", process::id()));
        fs::create_dir_all(&path).expect("temporary directory");
        for (file, text) in files {
            fs::write(path.join(file), text).expect("temporary file");
        }
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn lines_are_split_as_written() {
    for text in [
        "max_keepalive 7",
        "max_keepalive 7\n",
        "max_keepalive 7\r\n",
        "   max_keepalive    7   ",
        "\tmax_keepalive\t7\t",
        "\u{feff}max_keepalive 7",
        "# max_keepalive 8\n  # indented\n\t\n\r\n   \nmax_keepalive 7",
        "max_keepalive 7 # comment",
        "max_keepalive 0x7",
        "max_keepalive 9\nmax_keepalive 7",
    ] {
        assert_eq!(parse(text).global.max_keepalive, 7, "{text:?}");
        assert_eq!(load(text).lines, [], "{text:?}");
    }
    let latin1 = b"# f\xFCr alle\nmax_keepalive 7";
    assert!(Config::parse_str("a.conf", latin1).is_ok(), "comments may have any encoding");
    let config = parse("log_timestamp_format   %H  %M # x \r\n");
    assert_eq!(config.global.log.timestamp_format.as_deref(), Some("%H  %M # x"), "text is the rest of the line");
    assert_eq!(
        load("max_keepalive 5 6").lines,
        [(Severity::Warning, "Warning: The text after the value of 'max_keepalive' is ignored. (a.conf:1)".into())]
    );
}

#[test]
fn refused_lines_say_what_and_where() {
    let long = format!("user {}", "x".repeat(65_536));
    let listener = |line: &str| format!("listener 1883\n{line}");
    for (text, reason) in [
        ("Listener 1883".into(), "Unknown configuration variable 'Listener'.\nDid you mean 'listener'?"),
        ("max_keepalve 1".into(), "Unknown configuration variable 'max_keepalve'.\nDid you mean 'max_keepalive'?"),
        ("store_clean_interval 1".into(), "Unknown configuration variable 'store_clean_interval'."),
        ("x".into(), "Unknown configuration variable 'x'."),
        ("plugin_opt_ab 1".into(), "Unknown configuration variable 'plugin_opt_ab'.\nDid you mean 'plugin_opt_*'?"),
        ("queue_qos0_messages yes".into(), "Invalid 'queue_qos0_messages' value (yes)."),
        ("queue_qos0_messages True".into(), "Invalid 'queue_qos0_messages' value (True)."),
        ("queue_qos0_messages".into(), "Empty 'queue_qos0_messages' value in configuration."),
        ("queue_qos0_messages  \r".into(), "Empty 'queue_qos0_messages' value in configuration."),
        ("sys_interval ten".into(), "'sys_interval' value not a number."),
        ("sys_interval 10s".into(), "'sys_interval' value not a number."),
        ("sys_interval 4294967296".into(), "'sys_interval' value out of range."),
        ("sys_interval 65536".into(), "Invalid 'sys_interval' value (65536)."),
        ("sys_interval -1".into(), "Invalid 'sys_interval' value (-1)."),
        ("max_keepalive 65536".into(), "Invalid 'max_keepalive' value (65536)."),
        ("max_inflight_messages 65536".into(), "'max_inflight_messages' must be <= 65535."),
        ("max_packet_size 19".into(), "'max_packet_size' must be >= 20."),
        ("max_qos 3".into(), "'max_qos' must be between 0 and 2 inclusive."),
        ("maximum_qos -1".into(), "'maximum_qos' must be between 0 and 2 inclusive."),
        ("message_size_limit 268435456".into(), "Invalid 'message_size_limit' value (268435456)."),
        ("memory_limit -1".into(), "Invalid 'memory_limit' value (-1)."),
        ("retain_expiry_interval 0".into(), "Invalid 'retain_expiry_interval' value (0)."),
        (
            "persistent_client_expiration 3 d".into(),
            "Invalid 'persistent_client_expiration' duration in configuration.",
        ),
        ("log_facility 8".into(), "Invalid 'log_facility' value (8)."),
        ("log_dest files".into(), "Invalid 'log_dest' value (files)."),
        ("log_dest file".into(), "Empty 'log_dest file' value in configuration."),
        ("log_dest file a\nlog_dest file b".into(), "Duplicate \"log_dest file\" value."),
        ("log_type fatal".into(), "Invalid 'log_type' value (fatal)."),
        ("listener".into(), "Empty 'listener port' value in configuration."),
        ("listener # x".into(), "Empty 'listener port' value in configuration."),
        ("listener mqtt".into(), "'listener port' value not a number."),
        ("listener 65536".into(), "Invalid 'port' value (65536)."),
        ("listener -1".into(), "Invalid 'port' value (-1)."),
        ("listener 0".into(), "A listener with port 0 must provide a Unix socket path."),
        ("port 0".into(), "Invalid 'port' value (0)."),
        ("bind_address".into(), "Empty 'default listener bind_address' value in configuration."),
        (
            "bind_address a\nlistener 1\nbind_address b".into(),
            "Duplicate 'default listener bind_address' value in configuration.",
        ),
        ("pid_file a\npid_file b".into(), "Duplicate 'pid_file' value in configuration."),
        ("auto_id_prefix a\nauto_id_prefix b".into(), "Duplicate 'auto_id_prefix' value in configuration."),
        (format!("auto_id_prefix {}", "x".repeat(51)), "'auto_id_prefix' length must be <= 50."),
        ("socket_domain".into(), "Empty 'start_type' value in configuration."),
        ("socket_domain unix".into(), "Invalid 'socket_domain' value 'unix' in configuration."),
        ("protocol mqttsm".into(), "Invalid 'protocol' value (mqttsm)."),
        ("mount_point a/".into(), "The 'mount_point' option requires a listener to be defined first."),
        (listener("mount_point a/#"), "Invalid 'mount_point' value (a/#). Does it contain a wildcard character?"),
        (listener("max_topic_alias 65536"), "Invalid 'max_topic_alias' value (65536)."),
        (listener("enable_proxy_protocol 3"), "enable_proxy_protocol must be 1 or 2."),
        (listener("tls_version ssl3"), "Unsupported tls_version \"ssl3\"."),
        ("address example".into(), "The 'address' option requires a bridge to be defined first."),
        (
            "plugin_opt_key 1".into(),
            "The 'plugin_opt_key' option requires plugin/global_plugin/plugin_load to be defined first.",
        ),
        ("user a\u{1}b".into(), "Malformed UTF-8 in configuration."),
        ("user a\u{fffe}b".into(), "Malformed UTF-8 in configuration."),
        (long, "'user' value is longer than 65535 bytes."),
        ("max_keepalive 7\0".into(), "NUL byte in configuration."),
        ("include_dir".into(), "Empty 'include_dir' value in configuration."),
        (
            "include_dir /nonexistent/x".into(),
            "Unable to open include_dir '/nonexistent/x'.\nReason: No such file or directory.",
        ),
    ] {
        let text: String = text;
        let line = text.lines().count();
        assert_eq!(refusal(&text), format!("Error: {reason}\nError found at a.conf:{line}."));
    }
    assert_eq!(refusal(b"user \xff"), "Error: Malformed UTF-8 in configuration.\nError found at a.conf:1.");
}

#[test]
fn outdated_options_are_told() {
    assert_eq!(
        load("port 1884").lines,
        [
            (
                Severity::Notice,
                "The 'port' option is now deprecated and will be removed in version 3.0. Use 'listener' instead."
                    .to_string()
            ),
            (Severity::Information, "Creating default listener due to 'port' option.".into()),
            (
                Severity::Information,
                "It is better to start with a 'listener' line: 'port' without one will be an error one day.".into()
            ),
        ]
    );
    let twice = "Warning: Default listener port specified multiple times. Only the latest will be used.";
    assert!(lines("port 1884\nport 1885").contains(&twice.to_string()));
    assert_eq!(parse("port 1884\nport 1885").listeners.len(), 1);
    assert_eq!(
        lines("retry_interval"),
        ["Warning: The 'retry_interval' option is no longer available; for MQTT-SN there is 'mqttsn_retry_interval'. \
         (a.conf:1)"]
    );
    assert_eq!(lines("dhparamfile x"), ["Warning: dhparamfile is no longer required. (a.conf:1)"]);
    assert_eq!(
        lines("retain_expiry_interval 10000001"),
        ["Warning: 'retain_expiry_interval' is capped at 19 years. (a.conf:1)"]
    );
    assert_eq!(lines("log_dest dlt").len(), 1);
    let lost = "Warning: The 'log_dest' option needs the $SYS topics, which is not available in this build.";
    let told = [format!("{lost} The option is ignored. (a.conf:1)")];
    assert_eq!(lines("log_dest topic"), if cfg!(feature = "sys-tree") { &[][..] } else { &told[..] });
    assert_eq!(lines("set_tcp_nodelay false").len(), 1);
}

#[test]
fn without_a_listener_only_this_machine_is_served() {
    let ports = |config: &Config| -> Vec<(u16, String)> {
        config.listeners.iter().map(|l| (l.port, l.host.clone().unwrap_or_default())).collect()
    };
    let pair = |port| [(port, "127.0.0.1".to_string()), (port, "::1".to_string())];
    for text in ["", "max_keepalive 7", "max_connections 7"] {
        let done = parse(text).finish(&[]);
        assert!(done.config.local_only, "{text}");
        assert_eq!(ports(&done.config), pair(1883), "{text}");
        assert!(done.config.anonymous_allowed(&done.config.listeners[0]));
        assert_eq!(done.config.listeners[0].max_connections, None, "the default listener is not opened");
    }
    assert!(lines("max_connections 7").iter().any(|line| line.contains("no effect in local only mode")));

    let done = parse("").finish(&[1884, 1885]);
    assert_eq!(ports(&done.config), [pair(1884), pair(1885)].concat());
    let done = parse("allow_anonymous false").finish(&[]);
    assert!(!done.config.anonymous_allowed(&done.config.listeners[0]));

    for (text, host) in [("listener 1886", ""), ("port 1886", ""), ("bind_address localhost\nport 1886", "localhost")] {
        let done = parse(text).finish(&[1884]);
        assert!(!done.config.local_only, "{text}");
        assert_eq!(ports(&done.config), [(1886, host.to_string())], "{text}");
        assert!(!done.config.anonymous_allowed(&done.config.listeners[0]));
        assert_eq!(done.lines.len(), 1, "-p is told to be ignored");
    }
    let done = parse("bind_address localhost").finish(&[]);
    assert_eq!(ports(&done.config), [(1883, "localhost".into())]);
    let done = parse("max_connections 7\nlistener 1884").finish(&[]);
    assert_eq!(ports(&done.config), [(1884, String::new()), (1883, String::new())]);
}

#[test]
fn nobody_can_connect_without_a_known_version() {
    let loaded = load("listener 1\naccept_protocol_versions 6");
    assert_eq!(
        loaded.lines,
        [(
            Severity::Warning,
            "Warning: Unknown protocol version '6' in 'accept_protocol_versions' is ignored. (a.conf:2)".into()
        )]
    );
    assert_eq!(loaded.config.finish(&[]).lines.len(), 1);
}

#[test]
#[cfg(all(feature = "tls", feature = "proxy", feature = "websockets"))]
fn options_that_do_nothing_are_told() {
    let told = |text: &str| -> Vec<String> {
        let lines = parse(&format!("listener 1\n{text}")).finish(&[]).lines;
        lines.into_iter().filter(|(severity, _)| *severity == Severity::Warning).map(|(_, line)| line).collect()
    };
    let tls = "certfile a\nkeyfile b\n";
    for (option, enough) in [
        ("require_certificate true", tls.to_owned()),
        ("require_certificate true", "enable_proxy_protocol 2\n".into()),
        ("crlfile x", format!("{tls}require_certificate true\n")),
        ("disable_client_cert_date_checks true", format!("{tls}require_certificate true\n")),
        ("ciphers HIGH", tls.to_owned()),
        ("ciphers_tls1.3 TLS_AES_128_GCM_SHA256", tls.to_owned()),
        ("proxy_protocol_v2_require_tls true", "enable_proxy_protocol 2\n".into()),
        ("websockets_origin https://a", "protocol websockets\n".into()),
        ("http_dir /", "protocol websockets\n".into()),
    ] {
        let name = option.split(' ').next().unwrap();
        let start = format!("Warning: Listener 1 on all addresses: '{name}' has no effect without '");
        assert!(matches!(&told(option)[..], [line] if line.starts_with(&start)), "{option}: {:?}", told(option));
        assert_eq!(told(&format!("{enough}{option}")), Vec::<String>::new(), "{option}");
    }
    for option in ["use_identity_as_username", "use_subject_as_username"] {
        for lacking in ["", tls] {
            let line = &told(&format!("{lacking}{option} true"))[0];
            assert!(line.contains(&format!(": '{option}' refuses every client without '")), "{line}");
        }
        let enough = format!("{tls}require_certificate true\n{option} true");
        assert_eq!(told(&enough), Vec::<String>::new());
    }
    assert_eq!(told("enable_proxy_protocol 2\nuse_identity_as_username true"), Vec::<String>::new());
}

#[test]
fn per_listener_settings_moves_security_options_to_their_listener() {
    let config = parse(
        "per_listener_settings true\nlistener 1\nallow_anonymous true\nauto_id_prefix a\n\
         allow_zero_length_clientid false\nlistener 2\nauto_id_prefix b",
    );
    let [one, two] = &config.listeners[..] else { panic!("two listeners") };
    assert!(config.anonymous_allowed(one) && !config.anonymous_allowed(two));
    assert_eq!((one.auto_id_prefix.as_deref(), two.auto_id_prefix.as_deref()), (Some("a"), Some("b")));
    assert_eq!((one.allow_zero_length_clientid, two.allow_zero_length_clientid), (Some(false), None));
    assert_eq!(config.global.allow_anonymous, None);

    assert!(parse("per_listener_settings true\nper_listener_settings false").global.per_listener_settings);
    for (text, reason) in [
        (
            "per_listener_settings true\nallow_anonymous true",
            "The 'allow_anonymous' option requires a listener to be defined first.",
        ),
        (
            "allow_anonymous true\nper_listener_settings true",
            "per_listener_settings must be set before any other security settings.",
        ),
        (
            "auto_id_prefix x\nper_listener_settings false",
            "per_listener_settings must be set before any other security settings.",
        ),
        (
            "per_listener_settings true\nlistener 1\nauto_id_prefix a\nauto_id_prefix b",
            "Duplicate 'auto_id_prefix' value in configuration.",
        ),
    ] {
        let line = text.lines().count();
        assert_eq!(refusal(text), format!("Error: {reason}\nError found at a.conf:{line}."));
    }
    let lines = lines("per_listener_settings true\nlistener 1\nallow_anonymous true");
    assert!(lines.iter().any(|line| line.contains("listener_allow_anonymous")), "{lines:?}");
}

#[test]
fn included_files_come_in_order() {
    let names = [
        ".x.conf", "00.conf", "01.conf", "A.conf", "Aa.conf", "A_.conf", "a-b.conf", "a.b.conf", "a.conf", "ab.conf",
        "B.conf", "b.conf",
    ];
    let mut files: Vec<(&str, &str)> = names.iter().map(|&name| (name, "")).collect();
    files.extend([(".conf", "bad"), ("x.txt", "bad"), ("x.conf~", "bad"), ("x.CONF", "bad")]);
    let dir = Directory::new("order", &files);
    let dir = dir.0.display();
    let expected: Vec<String> = names.iter().map(|name| format!("Loading config file '{dir}/{name}'")).collect();
    assert_eq!(lines(&format!("include_dir {dir}")), expected);
}

#[test]
fn included_files_share_all_but_the_current_listener() {
    let dir = Directory::new("scope", &[("a.conf", "max_qos 1\nlistener 2\nmax_qos 0"), ("b.conf", "max_keepalive 9")]);
    let config = parse(&format!("listener 1\ninclude_dir {}\nmount_point x", dir.0.display()));
    let found: Vec<_> = config.listeners.iter().map(|l| (l.port, l.max_qos, l.mount_point.as_deref())).collect();
    assert_eq!(
        found,
        [
            (1, QoS::ExactlyOnce, Some("x")),
            (2, QoS::AtMostOnce, None),
            (1883, QoS::AtLeastOnce, None), // The default listener.
        ]
    );
    assert_eq!(config.global.max_keepalive, 9);
}

#[test]
fn errors_in_included_files_name_both_places() {
    let dir = Directory::new("errors", &[("a.conf", "\n\nnonsense 1")]);
    let main = dir.0.join("main");
    fs::write(&main, format!("# x\ninclude_dir {}\n", dir.0.display())).expect("temporary file");
    let (path, main_name) = (dir.0.display(), main.display());
    let error = Config::load(&main, None).expect_err("refused").to_string();
    assert_eq!(
        error,
        format!(
            "Error: Unknown configuration variable 'nonsense'.\nError found at '{path}/a.conf:3'.\n\
             Error found at {main_name}:2."
        )
    );
    fs::write(dir.0.join("a.conf"), "include_dir /").expect("temporary file");
    let error = Config::load(&main, None).expect_err("refused").to_string();
    assert!(error.starts_with("Error: The include_dir option is only valid in the main configuration file.\n"));
    fs::remove_file(dir.0.join("a.conf")).expect("temporary file");
    fs::create_dir(dir.0.join("a.conf")).expect("temporary directory");
    let error = Config::load(&main, None).expect_err("refused").to_string();
    assert_eq!(error, format!("Error: Config file '{path}/a.conf' is a directory.\nError found at {main_name}:2."));
}

#[test]
fn files_are_read_on_top_of_each_other() {
    let dir = Directory::new(
        "load",
        &[("a", "max_keepalive 7\nlistener 1\nlog_dest stdout"), ("b", "sys_interval 3\nlistener 2\nlog_dest syslog")],
    );
    let first = Config::load(&dir.0.join("a"), None).expect("first").config;
    let both = Config::load(&dir.0.join("b"), Some(first)).expect("second").config;
    assert_eq!((both.global.max_keepalive, both.global.sys_interval), (7, 3));
    assert_eq!(both.listeners.iter().map(|l| l.port).collect::<Vec<_>>(), [1, 2]);
    assert!(both.global.log.stdout && both.global.log.syslog && !both.global.log.stderr);
    assert_eq!(both.file, Some(dir.0.join("b")));

    let path = dir.0.display();
    let refused = |name: &str| Config::load(&dir.0.join(name), None).expect_err("refused").to_string();
    let unable = |name: &str, why: &str| format!("Error: Unable to open config file '{path}/{name}'.\nReason: {why}.");
    assert_eq!(refused("none"), unable("none", "No such file or directory"));
    assert_eq!(refused("a/b"), unable("a/b", "Not a directory"));
    assert_eq!(refused("."), format!("Error: Config file '{path}/.' is a directory."));
    // Nobody will write to it: to wait for that would be for ever.
    let made = std::process::Command::new("mkfifo").arg(dir.0.join("fifo")).status().expect("mkfifo");
    assert!(made.success());
    assert_eq!(refused("fifo"), unable("fifo", "not a regular file"));
    let error = Config::load(Path::new("/dev/null"), None).expect_err("refused").to_string();
    assert_eq!(error, "Error: Unable to open config file '/dev/null'.\nReason: not a regular file.");
    let included = Config::parse_str("m", format!("include_dir {path}/none")).expect_err("refused").to_string();
    let unable = format!("Error: Unable to open include_dir '{path}/none'.");
    assert_eq!(included, format!("{unable}\nReason: No such file or directory.\nError found at m:1."));
}

#[test]
fn random_bytes_never_panic() {
    let names: Vec<&str> =
        OPTIONS.iter().flat_map(|row| std::iter::once(&row.name).chain(row.aliases)).copied().collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let scraps = [
        "0",
        "-1",
        "65535",
        "true",
        "file",
        "é",
        "\u{feff}",
        "\t",
        "x",
        "#",
        "2147483647",
        "0x",
        "d",
        "none",
        " ",
        "\"",
        "\"\"",
        "a/#",
        ":",
        "[::1]",
        "lazy",
        "out",
    ];
    for _ in 0..20_000 {
        let mut text = Vec::new();
        if next(2) == 0 {
            text.extend(b"connection b\nlistener 1\nplugin x\n");
        }
        for _ in 0..next(6) {
            match next(4) {
                0 => text.extend((0..next(12)).map(|_| u8::try_from(next(256)).expect("a byte"))),
                _ => {
                    let name = names[next(names.len())];
                    // Random bytes must not lead to random directories.
                    text.extend(name.replace("include_dir", "include").bytes());
                    text.push(b' ');
                    text.extend(scraps[next(scraps.len())].bytes());
                    text.extend(scraps[next(scraps.len())].bytes());
                }
            }
            text.push(if next(4) == 0 { b' ' } else { b'\n' });
        }
        if let Ok(loaded) = Config::parse_str("fuzz", &text) {
            assert!(!loaded.config.finish(&[]).config.listeners.is_empty());
        }
    }
}

#[test]
fn the_table_is_sorted_and_its_names_are_unique() {
    assert!(OPTIONS.is_sorted_by(|a, b| a.name < b.name));
    let mut seen = BTreeSet::new();
    for row in OPTIONS {
        for name in std::iter::once(&row.name).chain(row.aliases) {
            assert!(seen.insert(*name), "{name}");
            let written = name.replace('*', "key");
            assert_eq!(options::find(&written).map(|found| found.name), Some(row.name), "{name}");
        }
    }
}
