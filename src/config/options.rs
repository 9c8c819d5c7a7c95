//! The one table of options: what each is called, where it may stand, what it takes and who stores it.

use super::error::Feature;
use super::parse::Parser;
use super::store::{self, Done, done, limit, set, size};
use super::value;

/// One option.
#[derive(Debug)]
pub struct OptionRow {
    /// The name; one ending in `*` stands for every name that starts so.
    pub name: &'static str,
    /// Older names.
    pub aliases: &'static [&'static str],
    /// Where it may stand.
    pub scope: Scope,
    /// What it takes.
    pub kind: Kind,
    /// The value that changes nothing, as text; `none` if no value says so.
    pub default: &'static str,
    /// True when SIGHUP applies a new value.
    pub reload: bool,
    /// True when a second line is an error.
    pub once: bool,
    /// Set when the option is outdated: what to use instead.
    pub deprecated: Option<&'static str>,
    /// Set when the option needs something that this build does not have.
    pub lack: Option<Lack>,
}

/// Where an option may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Anywhere; it holds for the whole broker.
    Global,
    /// As global, but after a listener and for it alone under `per_listener_settings`.
    GlobalOrListener,
    /// After a listener.
    Listener,
    /// After a listener; without one it creates the default listener.
    ListenerOrDefault,
    /// After `connection`.
    Bridge,
    /// After an option that loads a plugin.
    Plugin,
}

/// What an option takes, and the function that stores it.
#[derive(Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool(fn(&mut Parser, bool) -> Done),
    /// An integer.
    Int {
        /// The least value allowed.
        min: i32,
        /// The greatest value allowed.
        max: i32,
        /// What it counts.
        unit: &'static str,
        /// Stores it.
        store: fn(&mut Parser, i32) -> Done,
    },
    /// One of these words.
    Choice(&'static [&'static str], fn(&mut Parser, &str) -> Done),
    /// The rest of the line as text; first what it means.
    Text(&'static str, fn(&mut Parser, &str) -> Done),
    /// The rest of the line in a form of its own; first that form.
    Words(&'static str, fn(&mut Parser, &str) -> Done),
    /// Whatever stands there is ignored with this warning.
    Gone(&'static str),
}

/// What happens to an option whose feature is missing, unless its value is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The configuration is refused: going on would be less secure, lose data or leave a listener out.
    Error(Feature),
    /// The option is ignored with a warning.
    Warning(Feature),
}

impl OptionRow {
    /// True when `word`, a value the row accepted, only says what holds anyway. A file called `none` does not.
    pub(super) fn is_default(&self, word: &str) -> bool {
        match self.kind {
            Kind::Bool(_) => value::boolean(word) == value::boolean(self.default),
            Kind::Int { .. } => value::integer(word) == value::integer(self.default),
            Kind::Choice(..) => word == self.default,
            Kind::Text(..) | Kind::Words(..) | Kind::Gone(_) => false,
        }
    }

    const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn fixed(mut self) -> Self {
        self.reload = false;
        self
    }

    const fn once(mut self) -> Self {
        self.once = true;
        self
    }

    const fn deprecated(mut self, hint: &'static str) -> Self {
        self.deprecated = Some(hint);
        self
    }

    const fn needs(mut self, feature: Feature) -> Self {
        if !feature.is_built() {
            self.lack = Some(Lack::Error(feature));
        }
        self
    }

    const fn wants(mut self, feature: Feature) -> Self {
        if !feature.is_built() {
            self.lack = Some(Lack::Warning(feature));
        }
        self
    }
}

const fn row(name: &'static str, scope: Scope, kind: Kind, default: &'static str) -> OptionRow {
    OptionRow { name, aliases: &[], scope, kind, default, reload: true, once: false, deprecated: None, lack: None }
}

const fn int(min: i32, max: i32, unit: &'static str, store: fn(&mut Parser, i32) -> Done) -> Kind {
    Kind::Int { min, max, unit, store }
}

/// A switch, number, word or text whose value nobody uses: its feature is missing, or it means nothing here.
const ANY_BOOL: Kind = Kind::Bool(|_, _| done());
const ANY_TEXT: Kind = Kind::Text("text", |_, _| done());
const FILE: Kind = Kind::Text("file", |_, _| done());
const DIRECTORY: Kind = Kind::Text("directory", |_, _| done());

const fn any_int(min: i32, max: i32, unit: &'static str) -> Kind {
    int(min, max, unit, |_, _| done())
}

const fn any_of(choices: &'static [&'static str]) -> Kind {
    Kind::Choice(choices, |_, _| done())
}

/// The row of the option called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static OptionRow> {
    if let Ok(i) = OPTIONS.binary_search_by_key(&name, |row| row.name) {
        return Some(&OPTIONS[i]);
    }
    let is = |known: &str| match known.strip_suffix('*') {
        // The key of a plugin's option has at least three characters.
        Some(start) => name.strip_prefix(start).is_some_and(|key| key.len() >= 3),
        None => known == name,
    };
    OPTIONS.iter().find(|row| is(row.name) || row.aliases.iter().any(|alias| is(alias)))
}

/// The known name that someone who wrote `name` most likely meant.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > 64 {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let names = OPTIONS.iter().flat_map(|row| std::iter::once(&row.name).chain(row.aliases));
    let (distance, best) =
        names.map(|&known| (distance(&lower, known), known)).min_by_key(|&(distance, _)| distance)?;
    (distance <= (name.len() / 4).clamp(1, 3) && distance < name.len()).then_some(best)
}

/// The number of bytes to insert, remove or replace to get from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

use Scope::{Bridge, Global, GlobalOrListener, Listener, ListenerOrDefault, Plugin};

/// Every option, sorted by name.
pub static OPTIONS: &[OptionRow] = &[
    row("accept_protocol_versions", Listener, Kind::Words("3, 4, 5", store::accept_protocol_versions), "3, 4, 5"),
    row("acl_file", GlobalOrListener, FILE, "none").needs(Feature::Acl),
    row("address", Bridge, Kind::Words("host[:port] …", |_, _| done()), "none")
        .alias(&["addresses"])
        .once()
        .needs(Feature::Bridges),
    row("allow_anonymous", GlobalOrListener, Kind::Bool(store::allow_anonymous), "false"),
    row(
        "allow_duplicate_messages",
        Global,
        Kind::Bool(|p, v| set(&mut p.config.global.allow_duplicate_messages, v)),
        "true",
    )
    .deprecated("Leave it at 'true'."),
    row("allow_zero_length_clientid", GlobalOrListener, Kind::Bool(store::allow_zero_length_clientid), "true"),
    row("auth_plugin_deny_special_chars", Plugin, ANY_BOOL, "true").fixed().needs(Feature::Plugins),
    row("auto_id_prefix", GlobalOrListener, Kind::Text("prefix", store::auto_id_prefix), "auto-")
        .once()
        .deprecated("Use 'listener_auto_id_prefix' instead."),
    row("autosave_interval", Global, any_int(i32::MIN, i32::MAX, "seconds, or changes"), "1800"),
    row("autosave_on_changes", Global, ANY_BOOL, "false"),
    row("bind_address", Global, Kind::Text("host", store::bind_address), "none")
        .fixed()
        .once()
        .deprecated("Use 'listener' instead."),
    row(
        "bind_interface",
        ListenerOrDefault,
        Kind::Text("interface", |p, v| set(&mut p.listener().bind_interface, Some(v.into()))),
        "none",
    )
    .fixed()
    .once(),
    row("bridge_alpn", Bridge, ANY_TEXT, "none").once().needs(Feature::Bridges),
    row("bridge_attempt_unsubscribe", Bridge, ANY_BOOL, "true").needs(Feature::Bridges),
    row("bridge_bind_address", Bridge, ANY_TEXT, "none").once().needs(Feature::Bridges),
    row("bridge_cafile", Bridge, FILE, "none").once().needs(Feature::Bridges),
    row("bridge_capath", Bridge, DIRECTORY, "none").once().needs(Feature::Bridges),
    row("bridge_certfile", Bridge, FILE, "none").once().needs(Feature::Bridges),
    row("bridge_ciphers", Bridge, ANY_TEXT, "none").once().needs(Feature::Bridges),
    row("bridge_ciphers_tls1.3", Bridge, ANY_TEXT, "none").once().needs(Feature::Bridges),
    row("bridge_identity", Bridge, ANY_TEXT, "none").once().needs(Feature::Bridges),
    row("bridge_insecure", Bridge, ANY_BOOL, "false").needs(Feature::Bridges),
    row("bridge_keyfile", Bridge, FILE, "none").needs(Feature::Bridges),
    row("bridge_max_packet_size", Bridge, any_int(i32::MIN, i32::MAX, "bytes"), "0").needs(Feature::Bridges),
    row("bridge_max_topic_alias", Bridge, any_int(0, 65535, "aliases"), "10").needs(Feature::Bridges),
    row("bridge_outgoing_retain", Bridge, ANY_BOOL, "true").needs(Feature::Bridges),
    row("bridge_protocol_version", Bridge, any_of(&["mqttv31", "mqttv311", "mqttv50"]), "mqttv311")
        .needs(Feature::Bridges),
    row("bridge_psk", Bridge, ANY_TEXT, "none").once().needs(Feature::Bridges),
    row("bridge_receive_maximum", Bridge, any_int(1, 65535, "messages"), "none").needs(Feature::Bridges),
    row("bridge_reload_type", Bridge, any_of(&["lazy", "immediate"]), "lazy").needs(Feature::Bridges),
    row("bridge_require_ocsp", Bridge, ANY_BOOL, "false").needs(Feature::Bridges),
    row("bridge_session_expiry_interval", Bridge, any_int(0, i32::MAX, "seconds"), "0").needs(Feature::Bridges),
    row("bridge_tcp_keepalive", Bridge, Kind::Words("idle interval count", |_, _| done()), "none")
        .needs(Feature::Bridges),
    row("bridge_tcp_user_timeout", Bridge, any_int(0, i32::MAX, "milliseconds"), "none").needs(Feature::Bridges),
    row("bridge_tls_use_os_certs", Bridge, ANY_BOOL, "false").needs(Feature::Bridges),
    row("bridge_tls_version", Bridge, any_of(&["tlsv1.3", "tlsv1.2", "tlsv1.1"]), "none")
        .once()
        .needs(Feature::Bridges),
    row("cafile", Listener, FILE, "none").needs(Feature::Tls),
    row("capath", ListenerOrDefault, DIRECTORY, "none").needs(Feature::Tls),
    row("certfile", ListenerOrDefault, FILE, "none").needs(Feature::Tls),
    row("check_retain_source", Global, ANY_BOOL, "false").wants(Feature::Acl),
    row("ciphers", ListenerOrDefault, ANY_TEXT, "none").needs(Feature::Tls),
    row("ciphers_tls1.3", ListenerOrDefault, ANY_TEXT, "none").needs(Feature::Tls),
    row("cleansession", Bridge, ANY_BOOL, "false").needs(Feature::Bridges),
    row(
        "clientid_prefixes",
        Global,
        Kind::Text("prefix", |p, v| set(&mut p.config.global.clientid_prefixes, Some(v.into()))),
        "none",
    )
    .deprecated("Use access control instead."),
    row("connection", Global, Kind::Words("name", |_, _| done()), "none").needs(Feature::Bridges),
    row("connection_messages", Global, Kind::Bool(|p, v| set(&mut p.config.global.connection_messages, v)), "true"),
    row("crlfile", ListenerOrDefault, FILE, "none").needs(Feature::Tls),
    row("dhparamfile", Listener, Kind::Gone("dhparamfile is no longer required."), "none").fixed(),
    row("disable_client_cert_date_checks", Listener, ANY_BOOL, "false").needs(Feature::Tls),
    row("enable_control_api", Global, Kind::Bool(|p, v| set(&mut p.config.global.enable_control_api, v)), "false")
        .wants(Feature::ControlApi),
    row("enable_proxy_protocol", Listener, any_int(1, 2, "version"), "none").needs(Feature::Proxy),
    row(
        "global_max_clients",
        Global,
        int(i32::MIN, i32::MAX, "clients", |p, n| set(&mut p.config.global.global_max_clients, limit(n))),
        "-1",
    ),
    row(
        "global_max_connections",
        Global,
        int(i32::MIN, i32::MAX, "connections", |p, n| set(&mut p.config.global.global_max_connections, limit(n))),
        "-1",
    ),
    row("global_plugin", Global, FILE, "none").fixed().needs(Feature::Plugins),
    row("http_dir", Listener, DIRECTORY, "none").fixed().once().wants(Feature::Websockets),
    row("idle_timeout", Bridge, any_int(i32::MIN, i32::MAX, "seconds"), "60").needs(Feature::Bridges),
    row("include_dir", Global, Kind::Text("directory", |_, _| done()), "none"),
    row("keepalive_interval", Bridge, any_int(i32::MIN, 65535, "seconds"), "60").needs(Feature::Bridges),
    row("keyfile", ListenerOrDefault, FILE, "none").needs(Feature::Tls),
    row("listener", Global, Kind::Words("port [host]", store::listener), "none").fixed(),
    row(
        "listener_allow_anonymous",
        Listener,
        Kind::Bool(|p, v| set(&mut p.listener().allow_anonymous, Some(v))),
        "none",
    ),
    row("listener_auto_id_prefix", Listener, Kind::Text("prefix", store::listener_auto_id_prefix), "none").once(),
    row("local_cleansession", Bridge, ANY_BOOL, "false").needs(Feature::Bridges),
    row("local_clientid", Bridge, ANY_TEXT, "none").once().needs(Feature::Bridges),
    row("local_password", Bridge, ANY_TEXT, "none").once().needs(Feature::Bridges),
    row("local_username", Bridge, ANY_TEXT, "none").once().needs(Feature::Bridges),
    row("log_dest", Global, Kind::Words("none, stdout, stderr, syslog, topic, file PATH", store::log_dest), "stderr"),
    row("log_facility", Global, int(0, 7, "of local0 to local7", store::log_facility), "none"),
    row(
        "log_rate_limit",
        Global,
        int(0, 100_000, "lines per second", |p, n| set(&mut p.config.global.log.rate_limit, size(n))),
        "50",
    ),
    row("log_timestamp", Global, Kind::Bool(|p, v| set(&mut p.config.global.log.timestamp, v)), "true"),
    row(
        "log_timestamp_format",
        Global,
        Kind::Text("strftime format", |p, v| set(&mut p.config.global.log.timestamp_format, Some(v.into()))),
        "none",
    )
    .once(),
    row("log_type", Global, Kind::Choice(store::LOG_TYPES, store::log_type), "error, warning, notice, information"),
    row(
        "max_connections",
        ListenerOrDefault,
        int(i32::MIN, i32::MAX, "connections", |p, n| set(&mut p.listener().max_connections, limit(n))),
        "-1",
    ),
    row(
        "max_inflight_bytes",
        Global,
        int(i32::MIN, i32::MAX, "bytes", |p, n| set(&mut p.config.global.max_inflight_bytes, size(n))),
        "0",
    ),
    row("max_inflight_messages", Global, int(i32::MIN, 65535, "messages", store::max_inflight_messages), "20"),
    row(
        "max_keepalive",
        Global,
        int(0, 65535, "seconds", |p, n| store::short(&mut p.config.global.max_keepalive, n)),
        "0",
    ),
    row(
        "max_packet_size",
        Global,
        int(20, i32::MAX, "bytes", |p, n| set(&mut p.config.global.max_packet_size, size(n))),
        "2000000",
    ),
    row("max_qos", ListenerOrDefault, int(0, 2, "QoS", store::max_qos), "2").alias(&["maximum_qos"]),
    row(
        "max_queued_bytes",
        Global,
        int(i32::MIN, i32::MAX, "bytes", |p, n| set(&mut p.config.global.max_queued_bytes, size(n))),
        "0",
    ),
    row(
        "max_queued_messages",
        Global,
        int(i32::MIN, i32::MAX, "messages", |p, n| set(&mut p.config.global.max_queued_messages, size(n))),
        "1000",
    ),
    row(
        "max_topic_alias",
        Listener,
        int(0, 65535, "aliases", |p, n| store::short(&mut p.listener().max_topic_alias, n)),
        "10",
    ),
    row(
        "max_topic_alias_broker",
        Listener,
        int(0, 65535, "aliases", |p, n| store::short(&mut p.listener().max_topic_alias_broker, n)),
        "10",
    ),
    row(
        "memory_limit",
        Global,
        Kind::Words("bytes", |p, v| set(&mut p.config.global.memory_limit, value::lenient_size(v)?)),
        "0",
    ),
    row("message_size_limit", Global, int(0, 268_435_455, "bytes", store::message_size_limit), "0"),
    row("mount_point", Listener, Kind::Text("topic prefix", store::mount_point), "none"),
    row("notification_topic", Bridge, ANY_TEXT, "none").once().needs(Feature::Bridges),
    row("notifications", Bridge, ANY_BOOL, "true").needs(Feature::Bridges),
    row("notifications_local_only", Bridge, ANY_BOOL, "false").needs(Feature::Bridges),
    row("packet_buffer_size", Global, any_int(0, 65535, "bytes"), "4096").alias(&["websockets_headers_size"]),
    row("password_file", GlobalOrListener, FILE, "none").needs(Feature::Passwords),
    row("per_listener_settings", Global, Kind::Bool(|p, v| p.per_listener_settings(v)), "false")
        .deprecated("Use the options that start with 'listener_' instead."),
    row("persistence", Global, ANY_BOOL, "false").alias(&["retained_persistence"]).needs(Feature::Persistence),
    row("persistence_file", Global, FILE, "mosquitto.db").once(),
    row("persistence_location", Global, DIRECTORY, "none").once(),
    row(
        "persistent_client_expiration",
        Global,
        Kind::Text("number and one of s, h, d, w, m, y", store::persistent_client_expiration),
        "none",
    ),
    row("pid_file", Global, Kind::Text("file", |p, v| set(&mut p.config.global.pid_file, Some(v.into()))), "none")
        .fixed()
        .once(),
    row("plugin", GlobalOrListener, FILE, "none").alias(&["auth_plugin"]).fixed().needs(Feature::Plugins),
    row("plugin_load", Global, Kind::Words("name file", |_, _| done()), "none").fixed().needs(Feature::Plugins),
    row("plugin_opt_*", Plugin, ANY_TEXT, "none").alias(&["auth_opt_*"]).fixed().needs(Feature::Plugins),
    row("plugin_use", Listener, ANY_TEXT, "none").fixed().needs(Feature::Plugins),
    row("port", Global, int(0, 65535, "port", store::port), "1883").fixed().deprecated("Use 'listener' instead."),
    row(
        "protocol",
        ListenerOrDefault,
        Kind::Choice(&["mqtt", "websockets", "http_api", "metrics"], store::protocol),
        "mqtt",
    )
    .fixed(),
    row("proxy_protocol_v2_require_tls", Listener, ANY_BOOL, "false").needs(Feature::Proxy),
    row("psk_file", GlobalOrListener, FILE, "none").needs(Feature::TlsPsk),
    row("psk_hint", ListenerOrDefault, ANY_TEXT, "none").fixed().once().needs(Feature::TlsPsk),
    row("queue_qos0_messages", Global, Kind::Bool(|p, v| set(&mut p.config.global.queue_qos0_messages, v)), "false"),
    row("remote_clientid", Bridge, ANY_TEXT, "none").alias(&["clientid"]).once().needs(Feature::Bridges),
    row("remote_password", Bridge, ANY_TEXT, "none").alias(&["password"]).once().needs(Feature::Bridges),
    row("remote_username", Bridge, ANY_TEXT, "none").alias(&["username"]).once().needs(Feature::Bridges),
    row("require_certificate", ListenerOrDefault, ANY_BOOL, "false").needs(Feature::Tls),
    row("restart_timeout", Bridge, Kind::Words("base [cap [stable]]", |_, _| done()), "5 30").needs(Feature::Bridges),
    row("retain_available", Global, Kind::Bool(|p, v| set(&mut p.config.global.retain_available, v)), "true"),
    row("retain_expiry_interval", Global, int(1, i32::MAX, "minutes", store::retain_expiry_interval), "none"),
    row("retry_interval", Global, Kind::Gone("The 'retry_interval' option is no longer available."), "none"),
    row("round_robin", Bridge, ANY_BOOL, "false").needs(Feature::Bridges),
    row("set_tcp_nodelay", Global, Kind::Bool(store::set_tcp_nodelay), "true"),
    row("socket_domain", ListenerOrDefault, Kind::Choice(&["ipv4", "ipv6"], store::socket_domain), "none").fixed(),
    row("start_type", Bridge, any_of(&["automatic", "lazy", "once"]), "automatic").needs(Feature::Bridges),
    row("strict_conformance", Global, Kind::Bool(|p, v| set(&mut p.config.global.strict_conformance, v)), "false"),
    row(
        "sys_interval",
        Global,
        int(0, 65535, "seconds", |p, n| store::short(&mut p.config.global.sys_interval, n)),
        "10",
    ),
    row("threshold", Bridge, any_int(i32::MIN, i32::MAX, "messages"), "10").needs(Feature::Bridges),
    row("tls_engine", ListenerOrDefault, ANY_TEXT, "none").fixed().once().needs(Feature::TlsEngine),
    row("tls_engine_kpass_sha1", ListenerOrDefault, ANY_TEXT, "none").fixed().needs(Feature::TlsEngine),
    row("tls_keyform", ListenerOrDefault, any_of(&["pem", "engine"]), "pem").fixed().needs(Feature::TlsEngine),
    row("tls_version", Listener, any_of(&["tlsv1.3", "tlsv1.2", "tlsv1.1"]), "none").fixed().once().needs(Feature::Tls),
    row("topic", Bridge, Kind::Words("pattern [direction [qos [local [remote]]]]", |_, _| done()), "none")
        .needs(Feature::Bridges),
    row("try_private", Bridge, ANY_BOOL, "true").needs(Feature::Bridges),
    row("upgrade_outgoing_qos", Global, Kind::Bool(|p, v| set(&mut p.config.global.upgrade_outgoing_qos, v)), "false"),
    row("use_identity_as_username", ListenerOrDefault, ANY_BOOL, "false").needs(Feature::Tls),
    row("use_subject_as_username", ListenerOrDefault, ANY_BOOL, "false").needs(Feature::Tls),
    row(
        "use_username_as_clientid",
        ListenerOrDefault,
        Kind::Bool(|p, v| set(&mut p.listener().use_username_as_clientid, v)),
        "false",
    ),
    row("user", Global, Kind::Text("user name", |p, v| set(&mut p.config.global.user, v.into())), "mosquitto").fixed(),
    row("websockets_log_level", Global, any_int(i32::MIN, i32::MAX, "level"), "0"),
    row("websockets_origin", Listener, ANY_TEXT, "none").wants(Feature::Websockets),
];
