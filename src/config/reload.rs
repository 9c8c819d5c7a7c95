//! SIGHUP: reads the files of the command line again and takes over what may change while the broker runs, which is
//! everything but the exceptions that [`take_over`] names. What a new value does to the clients and sessions there are
//! stands in the table `EFFECTS` of the tests below, option by option.

use std::path::PathBuf;

use super::{Config, ConfigError, Global, Severity};

/// Where the configuration comes from: read once at start and again on each SIGHUP, with the same result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The files of `-c` in their order; each adds to those before it. C Mosquitto reads only the last again.
    pub files: Vec<PathBuf>,
    /// The ports of `-p`, for local-only mode.
    pub ports: Vec<u16>,
}

impl Sources {
    /// Reads every file, always beginning with an empty configuration. `tell` is given the lines to print, file by file.
    ///
    /// # Errors
    /// The first thing that is wrong in any file.
    pub fn read(&self, tell: impl FnMut(&[(Severity, String)])) -> Result<Config, ConfigError> {
        let mut config = self.read_files(tell)?;
        // As C Mosquitto 2.1: the environment wins over `persistence_location`.
        if let Some(location) = std::env::var_os("MOSQUITTO_PERSISTENCE_LOCATION").filter(|text| !text.is_empty()) {
            config.global.persistence_location = Some(location.into());
        }
        Ok(config)
    }

    fn read_files(&self, mut tell: impl FnMut(&[(Severity, String)])) -> Result<Config, ConfigError> {
        let mut config = None;
        for file in &self.files {
            let loaded = Config::load(file, config.take())?;
            tell(&loaded.lines);
            config = Some(loaded.config);
        }
        let Some(config) = config else { return Ok(Config::local_only(&self.ports)) };
        let loaded = config.finish(&self.ports);
        tell(&loaded.lines);
        Ok(loaded.config)
    }
}

/// The configuration that holds after a reload: `new`, but for the options that need a restart, which keep their value
/// from `old`. Also one line for each of those that changed.
///
/// The listeners are those of `new`; whoever holds the sockets opens and closes what differs.
#[must_use]
pub fn take_over(old: &Config, new: Config) -> (Config, Vec<String>) {
    let mut notes = Vec::new();
    let mut note = |option: &str, changed: bool| {
        if changed {
            notes.push(format!("The new value of '{option}' takes effect at the next start."));
        }
    };
    let mut global = new.global;
    let before = &old.global;
    note("user", global.user != before.user);
    note("pid_file", global.pid_file != before.pid_file);
    note("persistence", global.persistence != before.persistence);
    note("persistence_file", global.persistence_file != before.persistence_file);
    note("persistence_location", global.persistence_location != before.persistence_location);
    note("persistence_mode", global.persistence_mode != before.persistence_mode);
    note("persistence_strict", global.persistence_strict != before.persistence_strict);
    global = Global {
        user: before.user.clone(),
        pid_file: before.pid_file.clone(),
        persistence: before.persistence,
        persistence_file: before.persistence_file.clone(),
        persistence_location: before.persistence_location.clone(),
        persistence_mode: before.persistence_mode,
        persistence_strict: before.persistence_strict,
        ..global
    };
    (Config { global, ..new }, notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::{OPTIONS, Scope};

    /// When a new value counts.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum When {
        /// At once, for whoever is there.
        Now,
        /// For connections made from then on; those there keep what they came with.
        NewConnections,
        /// For the listening sockets: they are opened and closed.
        Sockets,
        /// Read again, and there is nothing that could change.
        Nothing,
        /// At the next start.
        Restart,
    }
    use When::{NewConnections, Nothing, Now, Restart, Sockets};

    /// Every option of this build, what a reload does with a new value, and what that means for what exists.
    const EFFECTS: &[(&str, When, &str)] = &[
        ("accept_protocol_versions", NewConnections, "read at CONNECT"),
        (
            "acl_file",
            Now,
            "the file is read again even if its name is the same; publishing, deliveries, retained messages and wills are \
             checked by the new rules, queued messages before they are sent; subscriptions stay",
        ),
        ("allow_anonymous", Now, "read at CONNECT; after a reload clients that are not welcome any more are closed"),
        ("allow_duplicate_messages", Now, "read for each publish; copies in queues stay"),
        ("allow_zero_length_clientid", NewConnections, "read at CONNECT"),
        ("auto_id_prefix", NewConnections, "read at CONNECT; client ids that were made stay"),
        ("bind_address", Sockets, "as `listener`"),
        ("bind_interface", Sockets, "closed and opened; clients stay whose address is still served"),
        ("check_retain_source", Now, "read for each retained message sent; those stored before it was true are sent"),
        ("clientid_prefixes", NewConnections, "read at CONNECT, as in C Mosquitto"),
        (
            "connection",
            Now,
            "bridges are added and removed; one that changed connects anew, or at its next connection, by \
             `bridge_reload_type`; the others stay",
        ),
        ("connection_messages", Now, "read for each line"),
        ("dhparamfile", Nothing, "ignored altogether"),
        ("enable_control_api", Now, "read for each request"),
        ("global_max_clients", Now, "read when a session is made; sessions above a lower limit stay"),
        ("global_max_connections", Now, "read when a connection comes; those above a lower limit stay"),
        ("http_dir", Now, "read for each request; a file that is on its way is still sent"),
        ("include_dir", Now, "the directory is listed anew: files come and go"),
        ("listener", Sockets, "opened and closed; clients of one that is gone are closed, unless another serves them"),
        ("listener_allow_anonymous", Now, "as `allow_anonymous`"),
        ("listener_auto_id_prefix", NewConnections, "as `auto_id_prefix`"),
        ("log_dest", Now, "the log is closed and opened"),
        ("log_facility", Now, "as `log_dest`"),
        ("log_rate_limit", Now, "read for each line"),
        ("log_timestamp", Now, "as `log_dest`"),
        ("log_timestamp_format", Now, "as `log_dest`"),
        ("log_type", Now, "as `log_dest`; -v and -q on the command line still win"),
        ("max_connections", Now, "read when a connection comes; those above a lower limit stay"),
        ("max_inflight_bytes", Now, "read for each message sent; queues that waited go on"),
        (
            "max_inflight_messages",
            Now,
            "read for each message sent, queues that waited go on; what a v5 client was told it may send holds for its \
             connection, since to refuse it would lose a message",
        ),
        ("max_keepalive", NewConnections, "agreed on at CONNECT"),
        ("max_packet_size", Now, "read for each packet; a v5 client that was told more gets 0x95 and learns it anew"),
        ("max_qos", Now, "read for each PUBLISH; a v5 client that was told more gets 0x9B and learns it anew"),
        ("max_queued_bytes", Now, "read for each message queued; what is queued above a lower limit stays"),
        ("max_queued_messages", Now, "as `max_queued_bytes`"),
        ("max_topic_alias", NewConnections, "agreed on at CONNECT: aliases in use must not turn invalid"),
        ("max_topic_alias_broker", NewConnections, "agreed on at CONNECT"),
        ("memory_limit", Now, "read whenever something new is to be kept"),
        ("message_size_limit", Now, "read for each PUBLISH"),
        (
            "mount_point",
            NewConnections,
            "a connection keeps the one it came with: its subscriptions, will and queue are below it",
        ),
        ("packet_buffer_size", Now, "read while a request comes in"),
        ("autosave_interval", Now, "the next save counts from the reload"),
        ("autosave_on_changes", Now, "as `autosave_interval`"),
        ("persistence", Restart, "what stands in the file must be restored before it may be replaced"),
        ("persistence_file", Restart, "as `persistence`"),
        ("persistence_location", Restart, "as `persistence`"),
        ("persistence_mode", Restart, "promises given under one cannot be kept under the other"),
        ("persistence_strict", Restart, "read at the start"),
        (
            "password_file",
            Now,
            "read again, as its content is; clients are closed whose user is gone or has another hash there",
        ),
        ("per_listener_settings", Now, "decides which of the values read anew count"),
        (
            "persistent_client_expiration",
            Now,
            "caps every session: offline ones from when their client left, or from the reload where that is not known; \
             a higher cap counts for sessions to come",
        ),
        ("pid_file", Restart, "written once"),
        ("port", Sockets, "as `listener`"),
        (
            "cafile",
            NewConnections,
            "read again with everything that TLS needs; one bad file and the reload changes nothing",
        ),
        ("capath", NewConnections, "as `cafile`"),
        ("certfile", NewConnections, "as `cafile`; a listener that gets or loses it is closed and opened"),
        ("ciphers", NewConnections, "as `cafile`"),
        ("ciphers_tls1.3", NewConnections, "as `cafile`"),
        ("crlfile", NewConnections, "as `cafile`"),
        ("disable_client_cert_date_checks", NewConnections, "as `cafile`"),
        ("keyfile", NewConnections, "as `cafile`"),
        ("require_certificate", NewConnections, "as `cafile`"),
        ("tls_version", Restart, "as in C Mosquitto"),
        ("use_identity_as_username", NewConnections, "read when the handshake is done"),
        ("use_subject_as_username", NewConnections, "as `use_identity_as_username`"),
        ("enable_proxy_protocol", NewConnections, "read when a connection comes, and while its header is on the way"),
        ("proxy_protocol_v2_require_tls", NewConnections, "read when a header is complete"),
        ("protocol", Sockets, "closed and opened; clients are closed"),
        ("queue_qos0_messages", Now, "read for each message queued; what is queued stays"),
        (
            "retain_available",
            Now,
            "retained messages are refused and not sent; those stored wait for it to be true again",
        ),
        ("retain_expiry_interval", Now, "the next search counts from the reload if the value changed"),
        ("retry_interval", Nothing, "ignored altogether"),
        ("advertise", Sockets, "as `mqttsn_multicast_group`"),
        ("ipv6", Sockets, "as `socket_domain`"),
        ("max_mqtts_packet_size", Now, "read for each datagram"),
        ("mqttsn_advertise_interval", Now, "a shorter one counts from the reload"),
        ("mqttsn_allow_address_change", Now, "read when a sleeping client calls"),
        ("mqttsn_allow_forwarder", Now, "read for each datagram"),
        ("mqttsn_allow_from", Now, "read for each datagram; after a reload clients that are outside are sent away"),
        ("mqttsn_allow_qos_minus_one", Now, "read for each PUBLISH"),
        ("mqttsn_clients_file", Now, "read again; clients that are no longer on the list are sent away"),
        ("mqttsn_gateway_id", Now, "read for each answer"),
        ("mqttsn_max_inflight", NewConnections, "read at CONNECT"),
        ("mqttsn_max_retries", Now, "read for each retransmission"),
        ("mqttsn_max_send_size", Now, "read for each message sent"),
        ("mqttsn_max_sleep_duration", Now, "read when a client goes to sleep"),
        ("mqttsn_max_topic_ids", Now, "read for each new topic id; those above a lower limit stay"),
        ("mqttsn_multicast_group", Sockets, "closed and opened; clients are sent away"),
        ("mqttsn_multicast_interface", Sockets, "as `mqttsn_multicast_group`"),
        ("mqttsn_multicast_loopback", Sockets, "as `mqttsn_multicast_group`"),
        ("mqttsn_multicast_ttl", Sockets, "as `mqttsn_multicast_group`"),
        ("mqttsn_predefined_topic", Now, "read for each message"),
        ("mqttsn_predefined_topics_file", Now, "read again; a bad file and the reload changes nothing"),
        ("mqttsn_qos_minus_one_long_names", Now, "read for each PUBLISH"),
        ("mqttsn_qos_minus_one_user", Now, "read for each PUBLISH"),
        ("mqttsn_queue_qos0_asleep", Now, "read when a client goes to sleep"),
        ("mqttsn_rate_limit", Now, "read for each datagram"),
        ("mqttsn_retry_interval", Now, "read for each message sent"),
        ("mqttsn_search_reply", Now, "read for each SEARCHGW"),
        (
            "mqttsn_use_clientid_as_username",
            NewConnections,
            "read at CONNECT; clients without a name any more are sent away",
        ),
        ("mqttsn_user", NewConnections, "as `mqttsn_use_clientid_as_username`"),
        ("trace_level", Nothing, "ignored altogether"),
        ("set_tcp_nodelay", Nothing, "packets are always sent at once"),
        ("socket_domain", Sockets, "as `bind_interface`"),
        ("strict_conformance", Now, "read where it matters"),
        ("sys_interval", Now, "an update follows at once; with 0 the tree is removed"),
        ("upgrade_outgoing_qos", Now, "read for each message queued"),
        ("use_username_as_clientid", NewConnections, "read at CONNECT"),
        ("user", Restart, "root is given up once"),
        ("websockets_log_level", Nothing, "ignored altogether"),
        ("websockets_origin", NewConnections, "read at the upgrade"),
    ];

    #[test]
    fn every_option_of_this_build_says_what_a_reload_does() {
        for row in OPTIONS {
            let effect = EFFECTS.iter().find(|(name, ..)| *name == row.name);
            match effect {
                Some((name, when, _)) => assert_eq!(*when != Restart, row.reload, "{name}"),
                None => assert!(
                    row.lack.is_some() || matches!(row.scope, Scope::Bridge | Scope::Plugin),
                    "what a reload does with '{}' is missing",
                    row.name
                ),
            }
        }
        for (name, ..) in EFFECTS {
            assert!(OPTIONS.iter().any(|row| row.name == *name), "there is no '{name}'");
        }
    }

    fn config(text: &str) -> Config {
        Config::parse_str("a.conf", text).unwrap_or_else(|e| panic!("{e}")).config.finish(&[]).config
    }

    #[test]
    fn everything_is_taken_over_but_what_needs_a_restart() {
        let old = config("user a\npid_file p\nlistener 1\nlistener 2 ::1\nmax_qos 1\nallow_anonymous true");
        let text = "max_keepalive 9\nlistener 2 ::1\nsocket_domain ipv6\nlistener 3";
        let (merged, notes) = take_over(&old, config(&format!("user b\n{text}")));
        assert_eq!(
            notes,
            ["user", "pid_file"].map(|o| format!("The new value of '{o}' takes effect at the next start."))
        );
        assert_eq!(merged, config(&format!("user a\npid_file p\n{text}")), "as after a restart with the old values");
        let (_, notes) = take_over(&merged, merged.clone());
        assert!(notes.is_empty());
    }

    #[test]
    fn a_listener_does_not_become_anonymous_because_the_file_lost_it() {
        let old = config("listener 1883");
        let (merged, _) = take_over(&old, config(""));
        assert!(merged.local_only);
        assert!(!merged.listeners.contains(&old.listeners[0]), "it is closed, and loopback alone is open");
        let (merged, _) = take_over(&config(""), config("listener 1883 127.0.0.1\nlistener 1883 ::1"));
        assert!(!merged.local_only && !merged.anonymous_allowed(&merged.listeners[0]), "the same ones, now by name");
    }

    #[test]
    fn all_files_are_read_again_from_the_start() {
        let dir = std::env::temp_dir().join(format!("mosquitto-reload-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(dir.join(name), text).unwrap();
            dir.join(name)
        };
        let files = vec![write("a", "listener 1\nlog_dest stdout"), write("b", "log_dest stderr\nmax_keepalive 5")];
        let sources = Sources { files, ports: vec![9] };
        let mut told = Vec::new();
        let first = sources.read(|lines| told.extend_from_slice(lines)).unwrap();
        assert!(first.global.log.stdout && first.global.log.stderr);
        assert_eq!((first.listeners.len(), first.global.max_keepalive), (1, 5));
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(sources.read(|_| ()).unwrap(), first, "nothing adds up");
        write("a", "max_keepalive 6");
        write("b", "sys_interval 7");
        let second = sources.read(|_| ()).unwrap();
        assert_eq!((second.global.max_keepalive, second.global.sys_interval), (6, 7));
        assert_eq!(second.listeners[0].port, 9, "local-only on the ports of the command line");
        write("a", "listener 1\nno_such_option");
        let error = sources.read(|_| ()).unwrap_err().to_string();
        assert!(error.contains("no_such_option") && error.ends_with("a:2."), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(sources.read(|_| ()).is_err());
    }
}
