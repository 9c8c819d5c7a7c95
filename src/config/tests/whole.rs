//! Rules between options, and the order of answers: what is wrong comes before what is not built in.

use super::*;

#[test]
fn contradictions_are_blamed_on_a_line() {
    const BRIDGE: &str = "connection b\naddress a\ntopic a";
    for (text, line, reason) in [
        ("listener 1\ncertfile a", 2, "Both certfile and keyfile must be provided to enable a TLS listener."),
        (
            "listener 1\nkeyfile a\nlistener 2",
            2,
            "Both certfile and keyfile must be provided to enable a TLS listener.",
        ),
        (
            "listener 1\ncertfile a\nlistener 2\nkeyfile a",
            2,
            "Both certfile and keyfile must be provided to enable a TLS listener.",
        ),
        ("max_connections 5\ncertfile a", 2, "Both certfile and keyfile must be provided to enable a TLS listener."),
        ("listener 1\ncafile a", 2, "cafile specified without certfile and keyfile."),
        ("listener 1\n\ncapath a", 3, "capath specified without certfile and keyfile."),
        (
            "listener 1\nenable_proxy_protocol 2\nuse_subject_as_username true",
            2,
            "'use_subject_as_username' cannot be used with version 2 of the PROXY protocol.",
        ),
        (
            "listener 1\ncertfile a\nkeyfile b\nenable_proxy_protocol 2",
            4,
            "'certfile' and 'keyfile' cannot be used with version 2 of the PROXY protocol.",
        ),
        (
            "listener 1\ncertfile a\npsk_file b",
            3,
            "Cannot use both certificate and psk encryption in a single listener.",
        ),
        ("connection b\ntopic a", 1, "Invalid bridge configuration: no remote addresses defined."),
        ("\nconnection b\naddress a", 2, "Invalid bridge configuration: no topics defined."),
        (&format!("{BRIDGE}\nbridge_psk 00"), 4, "Invalid bridge configuration: missing bridge_identity."),
        (&format!("{BRIDGE}\nbridge_identity x"), 4, "Invalid bridge configuration: missing bridge_psk."),
        (
            &format!("{BRIDGE}\nlocal_clientid x\nconnection c\naddress a\ntopic a\nlocal_clientid x"),
            8,
            "Invalid bridge configuration: local client id 'x' is used twice.",
        ),
        (
            &format!("{BRIDGE}\nremote_clientid x\nconnection c\naddress a\ntopic a\nremote_clientid x"),
            8,
            "Invalid bridge configuration: local client id 'local.x' is used twice.",
        ),
    ] {
        assert_eq!(refusal(text), format!("Error: {reason}\nError found at a.conf:{line}."), "{text}");
    }
    for text in [
        "listener 1\nenable_proxy_protocol 1\ncertfile a\nkeyfile b",
        "listener 1\nenable_proxy_protocol 2\nuse_identity_as_username true\nrequire_certificate true",
        "listener 1\npsk_hint a\nlistener 2\ncertfile a\nkeyfile b\ncafile c",
        "psk_file a\nlistener 1\ncertfile a\nkeyfile b",
        &format!("{BRIDGE}\nconnection c\naddress a\ntopic a"),
        &format!("{BRIDGE}\nbridge_identity x\nbridge_psk 00"),
    ] {
        // A feature may be missing, but nothing is wrong.
        let read = Config::parse_str("a.conf", text).map_err(|error| error.to_string());
        assert!(read.is_ok() || read.is_err_and(|error| error.contains(" option needs ")), "{text}");
    }
}

#[test]
fn the_first_missing_feature_is_told_after_every_other_mistake() {
    let plugin = "listener 1\nglobal_plugin x\nconnection b\naddress a\ntopic a\n";
    assert!(refusal(plugin).ends_with("Error found at a.conf:2."), "{}", refusal(plugin));
    assert_eq!(refusal(format!("{plugin}bridge_psk 00\nbridge_identity x")), refusal(plugin), "the first counts");
    assert_eq!(
        refusal(format!("{plugin}threshold x")),
        "Error: 'threshold' value not a number.\nError found at a.conf:6."
    );
    let wrong = "Error: 'max_qos' must be between 0 and 2 inclusive.\nError found at a.conf:3.";
    assert_eq!(refusal("listener 1\nglobal_plugin x\nmax_qos 3"), wrong);
}

#[test]
fn what_this_broker_will_never_have_is_refused_with_advice() {
    for (text, line, answer) in [
        (
            "listener 1\npsk_hint x",
            2,
            "The 'psk_hint' option needs TLS-PSK, which this broker does not have. Use certificates ('cafile', \
             'certfile' and 'keyfile') instead.",
        ),
        (
            "psk_file x",
            1,
            "The 'psk_file' option needs TLS-PSK, which this broker does not have. Use certificates ('cafile', \
             'certfile' and 'keyfile') instead.",
        ),
        (
            "listener 1\ntls_engine x",
            2,
            "The 'tls_engine' option needs OpenSSL engines, which this broker does not have. Name a file with the \
             private key by 'keyfile' instead.",
        ),
        (
            "listener 1\ntls_keyform engine",
            2,
            "The 'tls_keyform' option needs OpenSSL engines, which this broker does not have. Name a file with the \
             private key by 'keyfile' instead.",
        ),
        (
            "listener 1\nprotocol http_api",
            2,
            "The 'protocol' option needs the HTTP API, which this broker does not have. Use a listener with 'protocol \
             metrics' instead.",
        ),
        (
            "plugin /x.so\nplugin_opt_key 1",
            1,
            "The 'plugin' option needs loadable plugins, which this broker does not have. Use the built-in access \
             control ('password_file' and 'acl_file') instead.",
        ),
        (
            "auth_plugin /usr/lib/mosquitto_password_file.so",
            1,
            "The 'auth_plugin' option needs loadable plugins, which this broker does not have. Use 'password_file' \
             instead: the broker reads password files itself.",
        ),
        (
            "global_plugin mosquitto_acl_file.so",
            1,
            "The 'global_plugin' option needs loadable plugins, which this broker does not have. Use 'acl_file' \
             instead: the broker reads access control files itself.",
        ),
        (
            "plugin_load dynsec /usr/lib/mosquitto_dynamic_security.so\nlistener 1\nplugin_use dynsec",
            1,
            "The 'plugin_load' option needs loadable plugins, which this broker does not have. Dynamic security is \
             not available: use 'password_file' and 'acl_file' instead.",
        ),
    ] {
        assert_eq!(refusal(text), format!("Error: {answer}\nError found at a.conf:{line}."), "{text}");
    }
}

#[test]
fn oddities_of_bridges_and_tls_are_told() {
    let told = |text: &str| {
        let mut parser = Parser::new(None);
        parser.text("a.conf", text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        parser.lines
    };
    let warning = |text: &str, place: &str| (Severity::Warning, format!("Warning: {text} ({place})"));
    for (line, severity, text) in [
        ("idle_timeout 0", Severity::Notice, "'idle_timeout' is too low: it is 1 second."),
        ("threshold 0", Severity::Notice, "'threshold' is too low: it is 1 message."),
        ("keepalive_interval 4", Severity::Notice, "'keepalive_interval' is too low: it is 5 seconds."),
        ("restart_timeout 0", Severity::Notice, "'restart_timeout' is too low: it is 1 second."),
        ("restart_timeout 9999", Severity::Notice, "'restart_timeout' is too high: it is 3600 seconds."),
        ("restart_timeout 5 9999", Severity::Notice, "'restart_timeout' is too high: it is 7200 seconds."),
    ] {
        assert_eq!(told(&format!("connection b\n{line}")), [(severity, text.to_string())]);
    }
    for (line, text) in [
        (
            "bridge_insecure true",
            "With 'bridge_insecure true' any host with a trusted certificate can pose as the other broker.",
        ),
        ("topic a out x", "The bridge QoS level 'x' is not a number and counts as 0."),
        ("topic a out 0 l/ r/ x", "The text after the remote prefix of a bridge 'topic' is ignored."),
        ("restart_timeout 1 2 3 4", "The text after the third value of 'restart_timeout' is ignored."),
        ("listener 1 a b", "The text after the host or path of a 'listener' is ignored."),
        ("connection c d", "The text after the name of a 'connection' is ignored."),
        ("bridge_tls_version tlsv1.1", "TLS 1.1 is not safe any more and not spoken: TLS 1.2 is the oldest version."),
    ] {
        assert_eq!(told(&format!("connection b\n{line}")), [warning(text, "a.conf:2")]);
    }
    assert_eq!(
        told("listener 1\ntls_version tlsv1.1"),
        [warning("TLS 1.1 is not safe any more and not spoken: TLS 1.2 is the oldest version.", "a.conf:2")]
    );
    let twice = "The bridge topic 'a' stands there twice in the same words: once is enough.";
    assert_eq!(told("connection b\ntopic a\ntopic a out 0"), [(Severity::Information, twice.into())]);
}

#[test]
fn names_of_bridges_follow_from_each_other() {
    let mut bridge = bridge::Bridge::new("b".into());
    let ids = |bridge: &bridge::Bridge| [bridge.remote_id("h"), bridge.local_id("h"), bridge.state_topic("h")];
    assert_eq!(ids(&bridge), ["h.b", "local.h.b", "$SYS/broker/connection/h.b/state"]);
    bridge.remote_clientid = Some("r".into());
    assert_eq!(ids(&bridge), ["r", "local.r", "$SYS/broker/connection/r/state"]);
    bridge.local_clientid = Some("l".into());
    assert_eq!(ids(&bridge), ["r", "l", "$SYS/broker/connection/r/state"]);
}

#[test]
fn included_files_start_without_bridge_and_plugin() {
    for (above, inside, reason) in [
        ("connection b", "address a", "The 'address' option requires a bridge to be defined first."),
        (
            "plugin x",
            "plugin_opt_key 1",
            "The 'plugin_opt_key' option requires plugin/global_plugin/plugin_load to be defined first.",
        ),
    ] {
        let dir = Directory::new(&above.replace(' ', "-"), &[("a.conf", inside)]);
        let refused = refusal(format!("{above}\ninclude_dir {}", dir.0.display()));
        assert!(refused.starts_with(&format!("Error: {reason}\n")), "{refused}");
    }
    let dir = Directory::new("bridge", &[("a.conf", "connection inner\naddress a\ntopic a")]);
    let text = format!("connection outer\ninclude_dir {}\naddress b\ntopic b", dir.0.display());
    let mut parser = Parser::new(None);
    parser.text("a.conf", text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
    let hosts: Vec<_> = parser.config.bridges.iter().map(|b| (&*b.name, &*b.addresses[0].host)).collect();
    assert_eq!(hosts, [("outer", "b"), ("inner", "a")]);
}

#[test]
fn per_listener_settings_moves_files_to_their_listener() {
    let mut parser = Parser::new(None);
    let text = b"per_listener_settings true\nlistener 1\npassword_file a\nlistener 2\nacl_file b\npassword_file c";
    parser.text("a.conf", text).unwrap_or_else(|e| panic!("{e}"));
    let files: Vec<_> = parser
        .config
        .listeners
        .iter()
        .map(|l| [l.password_file.clone(), l.acl_file.clone()].map(|f| f.map(|f| f.display().to_string())))
        .collect();
    assert_eq!(files, [[Some("a".into()), None], [Some("c".into()), Some("b".into())]]);
    assert_eq!((parser.config.global.password_file, parser.config.global.acl_file), (None, None));
}

#[test]
fn lines_may_be_long() {
    let origin = "x".repeat(65_535);
    assert_eq!(parse(&format!("log_timestamp_format {origin}\r\n")).global.log.timestamp_format, Some(origin));
    assert_eq!(parse(&format!("#{}\nmax_keepalive 7", " y".repeat(100_000))).global.max_keepalive, 7);
    assert_eq!(parse(&format!("max_keepalive{}7{}", " ".repeat(70_000), " ".repeat(70_000))).global.max_keepalive, 7);
    let addresses: String = (0..20_000).map(|n| format!(" host{n}:1883")).collect();
    let mut parser = Parser::new(None);
    parser.text("a.conf", format!("connection b\naddress{addresses}").as_bytes()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(parser.config.bridges[0].addresses.len(), 20_000);
}

#[test]
fn what_does_nothing_for_a_bridge_is_told() {
    let bridge = "listener 1\nconnection b\naddress a\ntopic a\n";
    let told = |lines: &str| -> Vec<String> {
        let config = Config::parse_str("a.conf", format!("{bridge}{lines}")).unwrap().config;
        config.finish(&[]).lines.into_iter().map(|(_, line)| line).collect()
    };
    for (lines, option) in [
        ("bridge_certfile x\nbridge_keyfile y", "bridge_certfile"),
        ("bridge_insecure true", "bridge_insecure"),
        ("bridge_alpn mqtt", "bridge_alpn"),
        ("remote_password x", "remote_password"),
    ] {
        let start = format!("Warning: Bridge b: '{option}' has no effect without '");
        assert!(told(lines).iter().any(|line| line.starts_with(&start)), "{lines}: {:?}", told(lines));
    }
    for lines in [
        "bridge_cafile z\nbridge_certfile x\nbridge_keyfile y\nbridge_insecure true",
        "remote_username u\nremote_password x",
        "remote_password x\nbridge_protocol_version mqttv50",
    ] {
        assert!(told(lines).iter().all(|line| !line.contains("has no effect")), "{lines}: {:?}", told(lines));
    }
}
