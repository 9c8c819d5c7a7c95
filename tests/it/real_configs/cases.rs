//! The configurations, and what each is to do.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use super::{
    Case, Debian, Running, Who, asks_for_passwords, enter, knock, passes, refuses, serves, speaks_tls,
    upgrades_to_websockets,
};
use crate::client::{publish, subscribe};

/// What Debian's file says: the log in its file, the pid in its own.
fn keeps_debians_files(broker: &Running) {
    broker.wait_for_text("log/mosquitto.log", " running");
    let stderr = broker.place.read("stderr");
    assert!(!stderr.lines().any(|line| line.ends_with(" running")), "the log goes to standard error:\n{stderr}");
    let pid = broker.place.read("run/mosquitto.pid");
    if broker.place.read("mosquitto.conf").lines().any(|line| line.starts_with("pid_file")) {
        assert_eq!(pid.trim(), broker.child.id().to_string());
    } else {
        assert_eq!(pid, "");
    }
}

fn local_and_open(broker: &Running) {
    keeps_debians_files(broker);
    serves(broker.addr(1));
    broker.wait_for_text("log/mosquitto.log", "Starting in local only mode");
    if let Some(addr) = another_address() {
        let other = TcpStream::connect((addr, broker.place.ports[0]));
        assert!(other.is_err(), "{:?} can be reached at {addr}", broker.who);
    }
}

/// An address of this machine that is not a loopback one; nothing is sent to find it.
fn another_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    socket.local_addr().ok().map(|addr| addr.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

const LISTENER: (&str, &str) = ("conf.d/10-listener.conf", "listener @PORT1@\n");
const ANONYMOUS: (&str, &str) = ("conf.d/20-anonymous.conf", "allow_anonymous true\n");
const PASSWORDS: (&str, &str) =
    ("conf.d/default.conf", "allow_anonymous false\npassword_file @DIR@/passwd\nlistener @PORT1@\n");
const NOT_READ: (&str, &str) = ("conf.d/old.conf.bak", "no_such_option\n");

fn closed_to_strangers(broker: &Running) {
    keeps_debians_files(broker);
    refuses(broker.addr(1), None);
    refuses(broker.addr(1), Some(("user1", "secret")));
}

fn open_with_debians_files(broker: &Running) {
    keeps_debians_files(broker);
    serves(broker.addr(1));
    // A name that nobody asks for does not hinder.
    enter(broker.addr(1), "it-named", Some(("somebody", "x"))).ping();
}

fn passwords_with_debians_files(broker: &Running) {
    keeps_debians_files(broker);
    asks_for_passwords(broker.addr(1));
}

fn first_is_open(broker: &Running) {
    serves(broker.addr(1));
}

pub(super) const CASES: &[Case] = &[
    // Debian, as installed and with what the guides tell people to put into conf.d.
    Case::runs("debian-bookworm", &[1], local_and_open).local(),
    Case::runs("debian-bookworm, listener", &[1], closed_to_strangers).of("debian-bookworm").with(&[LISTENER]),
    Case::runs("debian-bookworm, anonymous only", &[1], local_and_open)
        .of("debian-bookworm")
        .with(&[ANONYMOUS, NOT_READ])
        .local(),
    Case::runs("debian-bookworm, open", &[1], open_with_debians_files)
        .of("debian-bookworm")
        .with(&[LISTENER, ANONYMOUS, NOT_READ]),
    Case::runs("debian-bookworm, passwords", &[1], passwords_with_debians_files)
        .of("debian-bookworm")
        .with(&[PASSWORDS]),
    Case::runs("debian-trixie", &[1], local_and_open).local(),
    Case::runs("debian-trixie, open", &[1], open_with_debians_files).of("debian-trixie").with(&[LISTENER, ANONYMOUS]),
    Case::runs("debian-trixie, passwords", &[1], passwords_with_debians_files).of("debian-trixie").with(&[PASSWORDS]),
    Case::runs("debian-without-persistence", &[1], local_and_open).local(),
    Case::runs("debian-without-persistence, listener", &[1], closed_to_strangers)
        .of("debian-without-persistence")
        .with(&[LISTENER, NOT_READ]),
    Case::runs("debian-without-persistence, anonymous only", &[1], local_and_open)
        .of("debian-without-persistence")
        .with(&[ANONYMOUS])
        .local(),
    Case::runs("debian-without-persistence, open", &[1], open_with_debians_files)
        .of("debian-without-persistence")
        .with(&[LISTENER, ANONYMOUS, NOT_READ]),
    Case::runs("debian-without-persistence, passwords", &[1], passwords_with_debians_files)
        .of("debian-without-persistence")
        .with(&[PASSWORDS]),
    // Home Assistant.
    Case::refused("ha-addon", "needs loadable plugins, which this broker does not have"),
    Case::runs("ha-handmade", &[1], |broker| {
        asks_for_passwords(broker.addr(1));
        for file in ["log/mosquitto.log", "stdout"] {
            broker.wait_for_text(file, " running");
        }
    }),
    Case::runs("ha-passwords", &[1], |broker| asks_for_passwords(broker.addr(1))),
    // Listeners of different kinds.
    Case::runs("per-listener", &[1, 2, 3], |broker| {
        serves(broker.addr(1));
        enter(broker.addr(1), "it-named", Some(("user1", "wrong"))).ping();
        asks_for_passwords(broker.addr(2));
        let (garden, user1) = (broker.addr(3), Some(("user1", "secret")));
        refuses(garden, Some(("user1", "wrong")));
        assert!(passes(garden, user1, "home/lamp"));
        assert!(!passes(garden, user1, "cellar/lamp"));
        assert!(!passes(garden, None, "home/lamp"));
        assert!(!passes(garden, None, "clock/time"), "anybody may only read it");
        assert!(passes(broker.addr(2), user1, "cellar/lamp"));
    }),
    Case::runs("per-listener-anonymous", &[1, 2, 3], |broker| {
        serves(broker.addr(1));
        refuses(broker.addr(2), None);
        refuses(broker.addr(3), None);
        assert_ne!(knock(broker.addr(1), "", None).1, Some(0), "an empty client id");
    }),
    Case::runs("listener-allow-anonymous", &[1, 2], |broker| {
        serves(broker.addr(1));
        refuses(broker.addr(2), None);
    })
    .debian(Debian::NotAsked("listener_allow_anonymous and others are options of 2.1")),
    Case::runs("acl-only", &[1], |broker| {
        assert!(!passes(broker.addr(1), None, "home/lamp"));
        assert!(!passes(broker.addr(1), None, "clock/time"));
        assert!(!passes(broker.addr(1), None, "status/somebody"));
    }),
    // Tutorials.
    Case::runs("tls-letsencrypt", &[1, 2], |broker| {
        asks_for_passwords(broker.addr(1));
        speaks_tls(broker.addr(2));
    }),
    Case::runs("tls-websockets", &[1, 2], |broker| {
        speaks_tls(broker.addr(1));
        speaks_tls(broker.addr(2));
    }),
    Case::runs("tls-client-certificates", &[1], |broker| speaks_tls(broker.addr(1))),
    Case::refused("psk", "needs TLS-PSK, which this broker does not have")
        .debian(Debian::Differs("TLS-PSK is what this broker will not have")),
    Case::runs("bridge-cloud", &[1], first_is_open),
    Case::runs("docker-no-auth", &[1], first_is_open),
    Case::runs("docker-layout", &[1], |broker| {
        serves(broker.addr(1));
        for file in ["log/mosquitto.log", "stdout"] {
            broker.wait_for_text(file, " running");
        }
    }),
    Case::runs("docker-stdout", &[1], |broker| {
        serves(broker.addr(1));
        if broker.who == Who::Debian {
            return;
        }
        broker.wait_for_text("stdout", "as it-writer (p");
        let log = broker.place.read("stdout");
        let line = log.lines().next().unwrap_or_default();
        assert!(line.get(4..5) == Some("-") && line.get(10..11) == Some("T"), "{line}");
        assert!(log.contains("Received PUBLISH from it-writer"), "{log}");
    }),
    Case::runs("websockets", &[1, 2], |broker| {
        serves(broker.addr(1));
        upgrades_to_websockets(broker.addr(2));
    }),
    Case::runs("version-1.6", &[1], |broker| {
        serves(broker.addr(1));
        refuses_prefix(broker);
        broker.wait_for_text("stderr", "as it-writer (p");
    }),
    Case::runs("windows", &[1], first_is_open),
    Case::runs("unix-socket", &[1], |broker| {
        serves(broker.addr(1));
        UnixStream::connect(broker.place.dir.join("run/mosquitto.sock")).expect("the socket");
    }),
    Case::runs("proxy", &[1, 2], |broker| {
        serves(broker.addr(1));
        let (_, code) = knock(broker.addr(2), "it-direct", None);
        assert_eq!(code, None, "a client without a header before it");
    })
    .debian(Debian::NotAsked("enable_proxy_protocol is an option of 2.1")),
    Case::refused("dynamic-security", "needs loadable plugins, which this broker does not have")
        .debian(Debian::Differs("it has the plugin")),
    Case::runs("tuned", &[1, 2], |broker| {
        serves(broker.addr(2));
        // Only QoS 1 and below a mount point.
        let mut inside = enter(broker.addr(1), "it-inside", None);
        inside.send(&subscribe(4, 1, "lamp", 2));
        inside.expect(&[0x90, 3, 0, 1, 1]);
        let mut outside = enter(broker.addr(2), "it-outside", None);
        outside.send(&publish(4, 0, "site-7/lamp", 0, b"on"));
        // 2.0.11 leaves the mount point on.
        let topic = if broker.who == Who::Ours { "lamp" } else { "site-7/lamp" };
        inside.expect(&publish(4, 0, topic, 0, b"on"));
        inside.ping();
    }),
    // OpenWrt, before and after somebody has filled in the form.
    Case::runs("openwrt-default", &[1], |broker| serves(broker.addr(1))).local(),
    Case::runs("openwrt-uci", &[1, 2], |broker| {
        serves(broker.addr(1));
        let mut guest = enter(broker.addr(2), "it-guest", None);
        guest.send(&publish(4, 1, "lamp", 0, b"on"));
        guest.ping();
        let mut client = enter(broker.addr(1), "it-owner", None);
        client.send(&subscribe(4, 1, "guests/lamp", 0));
        client.expect(&[0x90, 3, 0, 1, 0]);
        client.expect(&publish(4, 1, "guests/lamp", 0, b"on"));
        broker.wait_for_text("stderr", " running");
    }),
    // What is wrong with both.
    Case::refused("typing-error", "Unknown configuration variable"),
    Case::refused("tls-half", "Both certfile and keyfile must be provided to enable a TLS listener.")
        .debian(Debian::Differs("2.0 opens the listener without TLS")),
    Case::refused("late-per-listener", "per_listener_settings must be set before any other security settings."),
    Case::refused("empty-value", "Empty 'password_file' value in configuration."),
    Case::refused("missing-include", "Unable to open include_dir"),
];

/// `clientid_prefixes it-` of the old file.
fn refuses_prefix(broker: &Running) {
    assert_eq!(knock(broker.addr(1), "other", None).1, Some(5), "{:?}", broker.who);
}
