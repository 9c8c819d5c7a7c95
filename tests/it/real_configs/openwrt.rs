//! What OpenWrt's start script makes of /etc/config/mosquitto, line by line, and what the brokers make of each line.

use std::path::Path;

use super::{DEBIAN, Outcome, Place, Running, Who, expected_refusal, has_debian, make_certificates, none, test_config};
use crate::broker::note;

/// How the script writes a value.
#[derive(Clone, Copy)]
enum Kind {
    /// As it is.
    Value,
    /// `true` or `false`.
    Bool,
    /// A line for each word, and for each entry of a list.
    Words,
    /// A line of its own when it is on.
    WhenOn(&'static str),
    /// Under the name before and under this one as well.
    Twice(&'static str),
}

use Kind::{Bool, Twice, Value, WhenOn, Words};

/// The rows of a section: the name in the form, the name in mosquitto.conf, how; in the order of the script.
type Rows = &'static [(&'static str, &'static str, Kind)];

const GENERAL: Rows = &[
    ("log_dest", "log_dest", Words),
    ("no_remote_access", "", WhenOn("bind_address localhost")),
    ("port", "port", Value),
    ("per_listener_settings", "per_listener_settings", Bool),
    ("acl_file", "acl_file", Value),
    ("allow_anonymous", "allow_anonymous", Bool),
    ("allow_duplicate_messages", "allow_duplicate_messages", Bool),
    ("clientid_prefixes", "clientid_prefixes", Value),
    ("connection_messages", "connection_messages", Bool),
    ("include_dir", "include_dir", Value),
    ("log_facility", "log_facility", Value),
    ("log_timestamp", "log_timestamp", Bool),
    ("log_types", "log_type", Words),
    ("max_inflight_bytes", "max_inflight_bytes", Value),
    ("max_inflight_messages", "max_inflight_messages", Value),
    ("max_queued_bytes", "max_queued_bytes", Value),
    ("max_queued_messages", "max_queued_messages", Value),
    ("message_size_limit", "message_size_limit", Value),
    ("password_file", "password_file", Value),
    ("pid_file", "pid_file", Value),
    ("psk_file", "psk_file", Value),
    ("queue_qos0_messages", "queue_qos0_messages", Bool),
    ("retain_available", "retain_available", Bool),
    ("set_tcp_nodelay", "set_tcp_nodelay", Bool),
    ("protocol", "protocol", Value),
    ("sys_interval", "sys_interval", Value),
    ("upgrade_outgoing_qos", "upgrade_outgoing_qos", Bool),
    ("user", "user", Value),
    ("websockets_log_level", "websockets_log_level", Value),
    ("websockets_headers_size", "websockets_headers_size", Value),
    ("auth_plugin", "auth_plugin", Value),
];

const PERSISTENCE: Rows = &[
    ("client_expiration", "persistent_client_expiration", Value),
    ("autosave_interval", "autosave_interval", Value),
    ("autosave_on_changes", "autosave_on_changes", Bool),
    ("persistence", "persistence", Bool),
    ("file", "persistence_file", Value),
    ("store_clean_interval", "store_clean_interval", Value),
    ("location", "persistence_location", Value),
];

const LISTENER: Rows = &[
    ("http_dir", "http_dir", Value),
    ("max_connections", "max_connections", Value),
    ("max_qos", "max_qos", Value),
    ("max_topic_alias", "max_topic_alias", Value),
    ("mount_point", "mount_point", Value),
    ("protocol", "protocol", Value),
    ("socket_domain", "socket_domain", Value),
    ("use_username_as_clientid", "use_username_as_clientid", Bool),
    ("cafile", "cafile", Value),
    ("capath", "capath", Value),
    ("certfile", "certfile", Value),
    // The name with a dot cannot be read from the form; what is read instead is the option before.
    ("ciphers", "ciphers", Twice("ciphers_tls1.3")),
    ("crlfile", "crlfile", Value),
    ("dhparamfile", "dhparamfile", Value),
    ("keyfile", "keyfile", Value),
    ("require_certificate", "require_certificate", Bool),
    ("tls_engine", "tls_engine", Value),
    ("tls_engine_kpass_sha1", "tls_engine_kpass_sha1", Value),
    ("tls_keyform", "tls_keyform", Value),
    ("tls_version", "tls_version", Value),
    // The only boolean that is copied as it stands.
    ("allow_anonymous", "allow_anonymous", Value),
    ("use_identity_as_username", "use_identity_as_username", Bool),
    ("use_subject_as_username", "use_subject_as_username", Bool),
    ("psk_hint", "psk_hint", Value),
    ("auth_plugin", "auth_plugin", Value),
];

const BRIDGE: Rows = &[
    ("connection", "connection", Value),
    ("address", "address", Value),
    ("attempt_unsubscribe", "bridge_attempt_unsubscribe", Bool),
    ("bind_address", "bridge_bind_address", Value),
    ("max_packet_size", "bridge_max_packet_size", Value),
    ("outgoing_retain", "bridge_outgoing_retain", Bool),
    ("protocol_version", "bridge_protocol_version", Value),
    ("cleansession", "cleansession", Bool),
    ("local_cleansession", "local_cleansession", Bool),
    ("keepalive_interval", "keepalive_interval", Value),
    ("idle_timeout", "idle_timeout", Value),
    ("local_clientid", "local_clientid", Value),
    ("local_password", "local_password", Value),
    ("local_username", "local_username", Value),
    ("notifications", "notifications", Bool),
    ("notifications_local_only", "notifications_local_only", Bool),
    ("notification_topic", "notification_topic", Value),
    ("clientid", "remote_clientid", Value),
    ("remote_clientid", "remote_clientid", Value),
    ("password", "remote_password", Value),
    ("remote_password", "remote_password", Value),
    ("username", "remote_username", Value),
    ("remote_username", "remote_username", Value),
    ("restart_timeout", "restart_timeout", Value),
    ("round_robin", "round_robin", Bool),
    ("start_type", "start_type", Value),
    ("threshold", "threshold", Value),
    ("try_private", "try_private", Bool),
    ("alpn", "bridge_alpn", Value),
    ("cafile", "bridge_cafile", Value),
    ("capath", "bridge_capath", Value),
    ("certfile", "bridge_certfile", Value),
    ("identity", "bridge_identity", Value),
    ("keyfile", "bridge_keyfile", Value),
    ("psk", "bridge_psk", Value),
    ("tls_version", "bridge_tls_version", Value),
    ("insecure", "bridge_insecure", Bool),
    ("require_ocsp", "bridge_require_ocsp", Bool),
];

/// One `config` of the form.
struct Section {
    kind: String,
    /// Names and values; a list has several of one name.
    options: Vec<(String, String)>,
}

impl Section {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.options.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn get<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).last()
    }

    fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(on)
    }
}

/// The shell library's idea of a boolean; what it does not know counts as off.
fn on(value: &str) -> bool {
    matches!(value, "1" | "on" | "true" | "yes" | "enabled")
}

fn sections(form: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in form.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').expect("a word and more");
        let rest = rest.trim();
        if word == "config" {
            let kind = rest.split(' ').next().unwrap_or_default().into();
            sections.push(Section { kind, options: Vec::new() });
            continue;
        }
        let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let value = value.trim().trim_matches('\'').to_owned();
        sections.last_mut().expect("a section").options.push((name.into(), value));
    }
    sections
}

/// The lines of /tmp/mosquitto.generated.conf.
pub(super) fn convert(form: &str) -> String {
    let sections = sections(form);
    let mut out = Vec::new();
    let of = |kind: &'static str| sections.iter().filter(move |section| section.kind == kind);
    for section in of("mosquitto") {
        write_rows(&mut out, section, GENERAL);
        write_plugin_options(&mut out, section);
    }
    for section in of("persistence") {
        write_rows(&mut out, section, PERSISTENCE);
    }
    for section in of("listener") {
        let Some(port) = section.get("port") else { continue };
        let local = section.is_on("no_remote_access").then_some("127.0.0.1");
        let address = section.get("bind_address").or(local).unwrap_or_default();
        out.push(format!("listener {port} {address}").trim_end().to_owned());
        write_rows(&mut out, section, LISTENER);
        write_plugin_options(&mut out, section);
    }
    for section in of("bridge") {
        if section.get("connection").is_none() || section.get("address").is_none() || section.get("topic").is_none() {
            continue;
        }
        // The topics stand between `threshold` and `try_private`.
        let at = BRIDGE.iter().position(|(name, ..)| *name == "try_private").expect("a row");
        write_rows(&mut out, section, &BRIDGE[..at]);
        out.extend(section.all("topic").map(|topic| format!("topic {topic}")));
        write_rows(&mut out, section, &BRIDGE[at..]);
    }
    out.push(String::new());
    out.join("\n")
}

fn write_rows(out: &mut Vec<String>, section: &Section, rows: Rows) {
    for (name, option, kind) in rows {
        let Some(value) = section.get(name) else { continue };
        match kind {
            Value => out.push(format!("{option} {value}")),
            Bool => out.push(format!("{option} {}", on(value))),
            Words => {
                let words = section.all(name).flat_map(|value| value.split(' '));
                out.extend(words.map(|word| format!("{option} {word}")));
            }
            WhenOn(line) => out.extend(on(value).then(|| (*line).to_owned())),
            Twice(other) => out.extend([option, other].map(|option| format!("{option} {value}"))),
        }
    }
}

fn write_plugin_options(out: &mut Vec<String>, section: &Section) {
    let opts = section.options.iter().filter(|(name, _)| name.starts_with("auth_opt_"));
    out.extend(opts.map(|(name, value)| format!("{name} {value}")));
}

/// Each option of the form on its own: the section, the option with a value, further options it cannot do without, the
/// lines it gives, and what becomes of them.
struct Line {
    section: &'static str,
    option: (&'static str, &'static str),
    also: &'static [(&'static str, &'static str)],
    gives: &'static str,
    fate: Fate,
}

enum Fate {
    /// Both brokers take it.
    Taken,
    /// Both refuse it, ours for this reason.
    Refused(&'static str),
    /// Ours takes it, Debian's does not, for this reason.
    OnlyOurs(&'static str),
    /// Ours refuses it with the first text, Debian's takes it.
    OnlyDebian(&'static str),
}

use Fate::{OnlyDebian, OnlyOurs, Refused, Taken};

const fn line(section: &'static str, option: (&'static str, &'static str), gives: &'static str) -> Line {
    Line { section, option, also: &[], gives, fate: Taken }
}

impl Line {
    const fn also(mut self, also: &'static [(&'static str, &'static str)]) -> Line {
        self.also = also;
        self
    }

    const fn fate(mut self, fate: Fate) -> Line {
        self.fate = fate;
        self
    }

    fn name(&self) -> String {
        let value = if self.option.1 == "websockets" { " websockets" } else { "" };
        format!("uci {} {}{value}", self.section, self.option.0)
    }

    fn form(&self) -> String {
        let mut form = String::from("config owrt\n\toption use_uci '1'\n");
        // The default listener of the general section is moved out of the way of whoever has 1883.
        let opens_default =
            self.section == "mosquitto" && ["protocol", "no_remote_access", "port"].contains(&self.option.0);
        match self.section {
            "listener" => {}
            _ if opens_default => {}
            _ => form += "config listener\n\toption port '@PORT1@'\n\toption bind_address '127.0.0.1'\n",
        }
        form += &format!("config {}\n", self.section);
        if self.section == "listener" && self.option.0 != "port" {
            form += "\toption port '@PORT1@'\n";
        }
        if self.section == "bridge" {
            for (name, value) in [("connection", "house"), ("address", "127.0.0.1:@PORT4@"), ("topic", "a/# out 0")] {
                if name != self.option.0 {
                    form += &format!("\toption {name} '{value}'\n");
                }
            }
        }
        for (name, value) in [&[self.option], self.also].concat() {
            form += &format!("\toption {name} '{value}'\n");
        }
        form
    }
}

const TLS: &[(&str, &str)] = &[("certfile", "@DIR@/tls/cert.pem"), ("keyfile", "@DIR@/tls/privkey.pem")];
const BRIDGE_TLS: &[(&str, &str)] = &[("cafile", "@DIR@/tls/cert.pem")];
const PORT: &[(&str, &str)] = &[("port", "@PORT1@")];
const PLUGIN: &[(&str, &str)] = &[("auth_plugin", "@PLUGIN@"), ("auth_opt_config_file", "@DIR@/dynsec.json")];
const SHA1: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
const NO_PLUGINS: &str = "needs loadable plugins, which this broker does not have";
const NO_PSK: &str = "needs TLS-PSK, which this broker does not have";
const NO_ENGINES: &str = "needs OpenSSL engines, which this broker does not have";

const LINES: &[Line] = &[
    line("mosquitto", ("log_dest", "stderr stdout"), "log_dest stderr\nlog_dest stdout"),
    line("mosquitto", ("no_remote_access", "1"), "bind_address localhost\nport @PORT1@").also(PORT),
    line("mosquitto", ("port", "@PORT1@"), "port @PORT1@"),
    line("mosquitto", ("per_listener_settings", "0"), "per_listener_settings false"),
    line("mosquitto", ("acl_file", "@DIR@/acl"), "acl_file @DIR@/acl"),
    line("mosquitto", ("allow_anonymous", "enabled"), "allow_anonymous true"),
    line("mosquitto", ("allow_duplicate_messages", "yes"), "allow_duplicate_messages true"),
    line("mosquitto", ("clientid_prefixes", "house-"), "clientid_prefixes house-"),
    line("mosquitto", ("connection_messages", "off"), "connection_messages false"),
    line("mosquitto", ("include_dir", "@DIR@/conf.d"), "include_dir @DIR@/conf.d"),
    line("mosquitto", ("log_facility", "5"), "log_facility 5"),
    line("mosquitto", ("log_timestamp", "no"), "log_timestamp false"),
    line("mosquitto", ("log_types", "error all"), "log_type error\nlog_type all"),
    line("mosquitto", ("max_inflight_bytes", "5000"), "max_inflight_bytes 5000"),
    line("mosquitto", ("max_inflight_messages", "40"), "max_inflight_messages 40"),
    line("mosquitto", ("max_queued_bytes", "90000"), "max_queued_bytes 90000"),
    line("mosquitto", ("max_queued_messages", "200"), "max_queued_messages 200"),
    line("mosquitto", ("message_size_limit", "10240"), "message_size_limit 10240"),
    line("mosquitto", ("password_file", "@DIR@/passwd"), "password_file @DIR@/passwd"),
    line("mosquitto", ("pid_file", "@DIR@/run/mosquitto.pid"), "pid_file @DIR@/run/mosquitto.pid"),
    line("mosquitto", ("psk_file", "@DIR@/psk"), "psk_file @DIR@/psk").fate(OnlyDebian(NO_PSK)),
    line("mosquitto", ("queue_qos0_messages", "true"), "queue_qos0_messages true"),
    line("mosquitto", ("retain_available", "false"), "retain_available false"),
    line("mosquitto", ("set_tcp_nodelay", "1"), "set_tcp_nodelay true"),
    line("mosquitto", ("protocol", "mqtt"), "port @PORT1@\nprotocol mqtt").also(PORT),
    line("mosquitto", ("sys_interval", "60"), "sys_interval 60"),
    line("mosquitto", ("upgrade_outgoing_qos", "maybe"), "upgrade_outgoing_qos false"),
    line("mosquitto", ("user", "mosquitto"), "user mosquitto"),
    line("mosquitto", ("websockets_log_level", "0"), "websockets_log_level 0"),
    line("mosquitto", ("websockets_headers_size", "1024"), "websockets_headers_size 1024"),
    line("mosquitto", ("auth_plugin", "@DIR@/none.so"), "auth_plugin @DIR@/none.so").fate(Refused(NO_PLUGINS)),
    line("mosquitto", ("auth_opt_lone", "1"), "auth_opt_lone 1").fate(Refused("requires plugin")),
    line("persistence", ("client_expiration", "7d"), "persistent_client_expiration 7d"),
    line("persistence", ("autosave_interval", "600"), "autosave_interval 600"),
    line("persistence", ("autosave_on_changes", "0"), "autosave_on_changes false"),
    line("persistence", ("persistence", "on"), "persistence true\npersistence_location @DIR@/data/")
        .also(&[("location", "@DIR@/data/")]),
    line("persistence", ("file", "house.db"), "persistence_file house.db"),
    line("persistence", ("store_clean_interval", "10"), "store_clean_interval 10")
        .fate(Refused("Unknown configuration variable 'store_clean_interval'.")),
    line("persistence", ("location", "@DIR@/data/"), "persistence_location @DIR@/data/"),
    line("listener", ("port", "@PORT1@"), "listener @PORT1@"),
    line("listener", ("bind_address", "127.0.0.1"), "listener @PORT1@ 127.0.0.1"),
    line("listener", ("no_remote_access", "1"), "listener @PORT1@ 127.0.0.1"),
    line("listener", ("http_dir", "@DIR@"), "http_dir @DIR@"),
    line("listener", ("max_connections", "100"), "max_connections 100"),
    line("listener", ("max_qos", "1"), "max_qos 1"),
    line("listener", ("max_topic_alias", "4"), "max_topic_alias 4"),
    line("listener", ("mount_point", "guests/"), "mount_point guests/"),
    line("listener", ("protocol", "mqtt"), "protocol mqtt"),
    line("listener", ("protocol", "websockets"), "protocol websockets")
        .fate(OnlyOurs("2.0.11 needs a listener for MQTT beside it")),
    line("listener", ("socket_domain", "ipv4"), "socket_domain ipv4"),
    line("listener", ("use_username_as_clientid", "0"), "use_username_as_clientid false"),
    line("listener", ("cafile", "@DIR@/tls/cert.pem"), "cafile @DIR@/tls/cert.pem").also(TLS),
    line("listener", ("capath", "@DIR@/tls"), "capath @DIR@/tls").also(TLS),
    line("listener", ("certfile", "@DIR@/tls/cert.pem"), "certfile @DIR@/tls/cert.pem")
        .also(&[("keyfile", "@DIR@/tls/privkey.pem")]),
    line("listener", ("keyfile", "@DIR@/tls/privkey.pem"), "keyfile @DIR@/tls/privkey.pem")
        .also(&[("certfile", "@DIR@/tls/cert.pem")]),
    line("listener", ("ciphers", "HIGH"), "ciphers HIGH\nciphers_tls1.3 HIGH")
        .also(TLS)
        .fate(OnlyOurs("a list of TLS 1.2 is none of 1.3")),
    line("listener", ("crlfile", "@DIR@/tls/crl.pem"), "crlfile @DIR@/tls/crl.pem").also(TLS),
    line("listener", ("dhparamfile", "@DIR@/tls/none.pem"), "dhparamfile @DIR@/tls/none.pem")
        .also(TLS)
        .fate(OnlyOurs("2.0 reads the file, 2.1 and ours need it no longer")),
    line("listener", ("require_certificate", "1"), "require_certificate true").also(TLS),
    line("listener", ("tls_engine", "dynamic"), "tls_engine dynamic").fate(OnlyDebian(NO_ENGINES)),
    line("listener", ("tls_engine_kpass_sha1", SHA1), "tls_engine_kpass_sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709")
        .fate(OnlyDebian(NO_ENGINES)),
    line("listener", ("tls_keyform", "pem"), "tls_keyform pem"),
    line("listener", ("tls_version", "tlsv1.3"), "tls_version tlsv1.3").also(TLS),
    line("listener", ("allow_anonymous", "1"), "allow_anonymous 1"),
    line("listener", ("use_identity_as_username", "1"), "use_identity_as_username true").also(TLS),
    line("listener", ("use_subject_as_username", "1"), "use_subject_as_username true").also(TLS),
    line("listener", ("psk_hint", "house"), "psk_hint house").fate(OnlyDebian(NO_PSK)),
    line("listener", ("auth_plugin", "@DIR@/none.so"), "auth_plugin @DIR@/none.so").fate(Refused(NO_PLUGINS)),
    line("listener", ("auth_opt_log_level", "none"), "auth_plugin @PLUGIN@").also(PLUGIN).fate(OnlyDebian(NO_PLUGINS)),
    line("bridge", ("connection", "garden"), "connection garden"),
    line("bridge", ("address", "127.0.0.1:@PORT3@"), "address 127.0.0.1:@PORT3@"),
    line("bridge", ("topic", "a/# both 2 local/ remote/"), "topic a/# both 2 local/ remote/"),
    line("bridge", ("attempt_unsubscribe", "0"), "bridge_attempt_unsubscribe false"),
    line("bridge", ("bind_address", "127.0.0.1"), "bridge_bind_address 127.0.0.1"),
    line("bridge", ("max_packet_size", "10000"), "bridge_max_packet_size 10000"),
    line("bridge", ("outgoing_retain", "0"), "bridge_outgoing_retain false"),
    line("bridge", ("protocol_version", "mqttv311"), "bridge_protocol_version mqttv311"),
    line("bridge", ("cleansession", "1"), "cleansession true"),
    line("bridge", ("local_cleansession", "1"), "local_cleansession true"),
    line("bridge", ("keepalive_interval", "30"), "keepalive_interval 30"),
    line("bridge", ("idle_timeout", "90"), "idle_timeout 90"),
    line("bridge", ("local_clientid", "here"), "local_clientid here"),
    line("bridge", ("local_password", "x"), "local_password x"),
    line("bridge", ("local_username", "y"), "local_username y"),
    line("bridge", ("notifications", "0"), "notifications false"),
    line("bridge", ("notifications_local_only", "1"), "notifications_local_only true"),
    line("bridge", ("notification_topic", "state/bridge"), "notification_topic state/bridge"),
    line("bridge", ("clientid", "there"), "remote_clientid there"),
    line("bridge", ("remote_clientid", "there"), "remote_clientid there"),
    line("bridge", ("password", "z"), "remote_password z").also(&[("username", "u")]),
    line("bridge", ("remote_password", "z"), "remote_password z").also(&[("username", "u")]),
    line("bridge", ("username", "u"), "remote_username u"),
    line("bridge", ("remote_username", "u"), "remote_username u"),
    line("bridge", ("restart_timeout", "5 20"), "restart_timeout 5 20"),
    line("bridge", ("round_robin", "1"), "round_robin true"),
    line("bridge", ("start_type", "lazy"), "start_type lazy"),
    line("bridge", ("threshold", "20"), "threshold 20"),
    line("bridge", ("try_private", "0"), "try_private false"),
    line("bridge", ("alpn", "mqtt"), "bridge_alpn mqtt").also(BRIDGE_TLS),
    line("bridge", ("cafile", "@DIR@/tls/cert.pem"), "bridge_cafile @DIR@/tls/cert.pem"),
    line("bridge", ("capath", "@DIR@/tls"), "bridge_capath @DIR@/tls"),
    line("bridge", ("certfile", "@DIR@/tls/cert.pem"), "bridge_certfile @DIR@/tls/cert.pem")
        .also(&[("cafile", "@DIR@/tls/cert.pem"), ("keyfile", "@DIR@/tls/privkey.pem")]),
    line("bridge", ("keyfile", "@DIR@/tls/privkey.pem"), "bridge_keyfile @DIR@/tls/privkey.pem")
        .also(&[("cafile", "@DIR@/tls/cert.pem"), ("certfile", "@DIR@/tls/cert.pem")]),
    line("bridge", ("identity", "me"), "bridge_identity me\nbridge_psk 0123abcd")
        .also(&[("psk", "0123abcd")])
        .fate(OnlyDebian(NO_PSK)),
    line("bridge", ("psk", "0123abcd"), "bridge_psk 0123abcd").also(&[("identity", "me")]).fate(OnlyDebian(NO_PSK)),
    line("bridge", ("tls_version", "tlsv1.2"), "bridge_tls_version tlsv1.2").also(BRIDGE_TLS),
    line("bridge", ("insecure", "1"), "bridge_insecure true").also(BRIDGE_TLS),
    line("bridge", ("require_ocsp", "0"), "bridge_require_ocsp false").also(BRIDGE_TLS),
];

pub(super) fn names() -> impl Iterator<Item = String> {
    LINES.iter().map(Line::name)
}

/// The files of a line; the place and what the script generated.
fn lay_out(line: &Line) -> (Place, String) {
    let place = Place::new();
    if line.form().contains("tls/") {
        make_certificates(&place);
    }
    let generated = place.fill_in(&convert(&line.form()));
    let plugin = "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so";
    place.write(Path::new("dynsec.json"), "{}");
    place.write(Path::new("mosquitto.conf"), &generated.replace("@PLUGIN@", plugin));
    (place, generated)
}

#[test]
fn every_option_of_the_form_is_tested() {
    for (section, rows) in
        [("mosquitto", GENERAL), ("persistence", PERSISTENCE), ("listener", LISTENER), ("bridge", BRIDGE)]
    {
        for (name, ..) in rows {
            let tested = LINES.iter().any(|line| line.section == section && line.option.0 == *name);
            assert!(tested, "{section} {name}");
        }
    }
}

#[test]
fn each_generated_line_is_taken_or_refused_as_meant() {
    let mut failures = Vec::new();
    for line in LINES {
        let (place, generated) = lay_out(line);
        let wanted = place.fill_in(line.gives);
        let lines: Vec<&str> = generated.lines().collect();
        for wanted in wanted.lines() {
            assert!(lines.contains(&wanted), "{} gives not {wanted:?} but\n{generated}", line.name());
        }
        let (code, said) = test_config(&place).expect("the broker runs");
        let refusal = expected_refusal(&line.name()).or(match line.fate {
            Refused(reason) | OnlyDebian(reason) => Some(reason),
            Taken | OnlyOurs(_) => None,
        });
        let right = match refusal {
            Some(reason) => code == Some(3) && said.contains(reason),
            None => code == Some(0),
        };
        if !right {
            failures.push(format!("{} ends with {code:?}, not {refusal:?}:\n{said}{generated}", line.name()));
        }
    }
    none(&failures);
}

#[test]
fn debians_broker_agrees_on_each_generated_line() {
    if !has_debian() {
        return;
    }
    let mut failures = Vec::new();
    for line in LINES {
        let outcome = loop {
            let (place, _) = lay_out(line);
            match Running::start(Who::Debian, place, false, &[1]) {
                Outcome::Refused { said, .. } if said.contains("in use") => {}
                outcome => break outcome,
            }
        };
        let wanted = match line.fate {
            Taken | OnlyDebian(_) => true,
            Refused(_) => false,
            OnlyOurs(reason) => {
                note(&format!("{}: {DEBIAN} differs: {reason}", line.name()));
                false
            }
        };
        match outcome {
            Outcome::Running(broker) if !wanted => failures.push(format!("{} runs:\n{}", line.name(), broker.said())),
            Outcome::Refused { code, said } if wanted => {
                failures.push(format!("{} is refused with {code:?}:\n{said}", line.name()));
            }
            _ => {}
        }
    }
    none(&failures);
}

#[test]
fn a_form_becomes_a_file() {
    let form = "
config owrt 'owrt'
	option use_uci '1'

config bridge
	option connection 'cloud'
	option address 'broker.example:8883'
	list topic 'a/# out 1'
	list topic 'b/# in'
	option try_private '0'
	option username 'me'

config mosquitto 'mosquitto'
	list log_dest 'syslog'
	list log_dest 'topic'
	option log_types 'error notice'
	option retain_available 'perhaps'

config listener
	option max_qos '1'
";
    let file = "log_dest syslog\nlog_dest topic\nretain_available false\n";
    let file = file.replace("retain", "log_type error\nlog_type notice\nretain");
    let bridge = "connection cloud\naddress broker.example:8883\nremote_username me\ntopic a/# out 1\ntopic b/# in\n\
                  try_private false\n";
    assert_eq!(convert(form), file + bridge);
}
