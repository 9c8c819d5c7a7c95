//! SIGHUP while clients are connected: who stays, who has to go, and what is open afterwards.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::broker::{Broker, free_port};
use crate::client::{Client, Missing, connect, connect_with, hex, packet, publish, string, subscribe};

/// How long a reload may take on a busy machine.
const PATIENT: Duration = Duration::from_secs(10);

/// The log without the lines of every packet, which would be too many to search.
const FEW_LINES: &str = "log_type none\nlog_type error\nlog_type warning\nlog_type notice\nlog_type information\n";

/// A broker all of whose listeners are open; the one it is tried with is the first.
fn start_with(lines: &str) -> Broker {
    let broker = Broker::start_with(lines);
    broker.wait_for_log(concat!("mosquitto version ", env!("CARGO_PKG_VERSION"), " running"), PATIENT);
    broker
}

/// Sends SIGHUP and waits until the broker is done; returns what it said.
fn hup(broker: &Broker) -> String {
    hup_until(broker, "Config reloaded.")
}

fn hup_until(broker: &Broker, done: &str) -> String {
    let mark = broker.log_mark();
    broker.signal("HUP");
    broker.wait_for_log_after(mark, done, PATIENT);
    broker.log_after(mark)
}

/// Writes the configuration file, reloads and returns what the broker said.
fn reload(broker: &Broker, lines: &str) -> String {
    broker.write_config(lines);
    hup(broker)
}

/// Writes the configuration file without the usual lines, reloads and returns what the broker said.
fn reload_only(broker: &Broker, text: &str) -> String {
    fs::write(broker.dir().join("mosquitto.conf"), text).expect("a config file");
    hup(broker)
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn refused(addr: SocketAddr) -> bool {
    Client::try_open(addr).is_err()
}

/// A client with a will on `wills`.
fn with_will(addr: SocketAddr, version: u8, id: &str) -> Client {
    let mut client = Client::open(addr);
    client.set_limit(PATIENT);
    let props: &[u8] = if version == 5 { &[0] } else { &[] };
    client.send(&connect_with(version, 0x06, 60, &[], &[&string(id), props, &string("wills"), &string(id)]));
    let ack = client.packet();
    assert_eq!((ack[0], ack[3]), (0x20, 0), "{}", hex(&ack));
    client
}

/// The end of a client that is not allowed any more.
fn expect_sent_away(client: &mut Client, version: u8) {
    if version == 5 {
        client.expect(&[0xE0, 1, 0x87]);
    }
    client.expect_closed();
}

/// A client that subscribed to what it publishes itself.
struct Chatter {
    client: Client,
    topic: String,
    sent: u16,
}

impl Chatter {
    fn new(addr: SocketAddr, id: &str) -> Chatter {
        let mut client = Client::connect(addr, 4, id);
        client.set_limit(PATIENT);
        let topic = format!("chat/{id}");
        client.send(&subscribe(4, 1, &topic, 0));
        client.expect(&[0x90, 3, 0, 1, 0]);
        Chatter { client, topic, sent: 0 }
    }

    fn send(&mut self) {
        self.sent += 1;
        self.client.send(&publish(4, 2, &self.topic, self.sent, &self.sent.to_be_bytes()));
    }

    /// Its message and the acknowledgement.
    fn receive(&mut self) {
        self.client.expect(&publish(4, 0, &self.topic, 0, &self.sent.to_be_bytes()));
        let [high, low] = self.sent.to_be_bytes();
        self.client.expect(&[0x40, 2, high, low]);
    }
}

/// What the `k`th file says about the listener of those who stay, and about everything.
fn changing(k: usize) -> String {
    let one_of: [&[&str]; 6] = [
        &["", "mount_point a/", "mount_point b/", ""],
        &[
            "max_connections 1",
            "max_qos 1",
            "max_topic_alias 0",
            "max_topic_alias_broker 0",
            "accept_protocol_versions 3",
        ],
        &["max_inflight_messages 1", "max_inflight_messages 0", "max_inflight_bytes 100", "max_keepalive 100", ""],
        &[
            "max_queued_messages 2000",
            "max_queued_bytes 100000",
            "queue_qos0_messages true",
            "upgrade_outgoing_qos true",
        ],
        &[
            "sys_interval 0",
            "sys_interval 1",
            "retain_available false",
            "retain_expiry_interval 1",
            "connection_messages false",
        ],
        &[
            "persistent_client_expiration 1h",
            "max_packet_size 1000",
            "message_size_limit 500",
            "memory_limit 1000000000",
        ],
    ];
    one_of.iter().map(|lines| format!("{}\n", lines[k % lines.len()])).collect()
}

#[test]
fn under_traffic_nobody_is_lost_who_may_stay_and_nobody_stays_who_may_not() {
    const STEADY: usize = 150;
    const THREADS: usize = 3;
    const OTHERS: usize = 50;
    let (second, third) = (free_port(), free_port());
    let open = format!("listener {second} 127.0.0.1\n");
    let broker = start_with(&format!("{FEW_LINES}{open}"));
    let mut watcher = Client::connect(broker.addr(), 4, "watcher");
    watcher.send(&subscribe(4, 1, "wills", 0));
    watcher.expect(&[0x90, 3, 0, 1, 0]);

    let stop = Arc::new(AtomicBool::new(false));
    let chats: Vec<_> = (0..THREADS)
        .map(|n| {
            let (stop, addr) = (Arc::clone(&stop), broker.addr());
            let mut chatters: Vec<Chatter> =
                (0..STEADY / THREADS).map(|i| Chatter::new(addr, &format!("steady-{n}-{i}"))).collect();
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    chatters.iter_mut().for_each(Chatter::send);
                    chatters.iter_mut().for_each(Chatter::receive);
                }
                chatters.iter().map(|chatter| usize::from(chatter.sent)).sum::<usize>()
            })
        })
        .collect();

    let version = |i: usize| if i % 2 == 0 { 4 } else { 5 };
    let mut others: Vec<Client> = Vec::new();
    for k in 0..50 {
        // The second listener: there twice, then closed to its clients in one of two ways, then away or elsewhere.
        let (lines, welcome) = match (k % 5, k % 10 < 5) {
            (0, _) => (open.clone(), true),
            (1, _) => (format!("{open}max_connections {}\nmax_topic_alias {k}\n", 100 + k), true),
            (2, true) => (format!("{open}listener_allow_anonymous false\n"), false),
            (2, false) | (3, true) => (String::new(), false),
            (3, false) => (format!("listener {third} 127.0.0.1\n"), false),
            _ => (open.clone(), false),
        };
        let said = reload(&broker, &format!("{FEW_LINES}{}{lines}", changing(k)));
        assert!(!said.contains("rror"), "{said}");
        if welcome {
            others.iter_mut().for_each(Client::ping);
            let addr = local(second);
            while others.len() < OTHERS {
                let i = others.len();
                others.push(with_will(addr, version(i), &format!("other-{i}")));
            }
        } else {
            for (i, client) in others.iter_mut().enumerate() {
                expect_sent_away(client, version(i));
            }
            if !others.is_empty() {
                let line = if k % 10 < 5 {
                    format!("Disconnecting clients that are no longer allowed: {OTHERS}.")
                } else {
                    format!("Listener {second} on 127.0.0.1 was closed; connections closed with it: {OTHERS}.")
                };
                assert!(said.contains(&line), "no {line:?} in:\n{said}");
            }
            others.clear();
            assert_eq!(refused(local(second)), !lines.starts_with(&open), "step {k}");
        }
        if k % 10 == 8 {
            Client::connect(local(third), 4, "moved").ping();
        }
    }
    stop.store(true, Ordering::Relaxed);
    let sent: usize = chats.into_iter().map(|chat| chat.join().expect("nobody was lost")).sum();
    assert!(sent >= STEADY, "{sent} messages");
    // No will was published: the answer comes first.
    watcher.ping();
    let log = broker.log_text();
    assert!(log.contains("Client other-0 [127.0.0.1:") && log.contains("] disconnected."), "{log}");
}

#[test]
fn a_crowd_is_closed_while_others_are_served() {
    let port = free_port();
    let broker = start_with(&format!("{FEW_LINES}listener {port} 127.0.0.1\n"));
    let mut crowd: Vec<Client> = (0..700).map(|i| Client::connect(local(port), 4, &format!("crowd-{i}"))).collect();
    let mut silent = Client::open(local(port));
    let mut other = Client::connect(broker.addr(), 4, "other");
    let said = reload(&broker, FEW_LINES);
    other.ping();
    silent.expect_closed();
    for client in &mut crowd {
        client.set_limit(PATIENT);
        client.expect_closed();
    }
    let line = format!("Listener {port} on 127.0.0.1 was closed; connections closed with it: 701.");
    assert!(said.contains(&line), "{said}");
    assert!(refused(local(port)));
}

#[test]
fn a_session_outlives_a_client_that_is_sent_away() {
    let port = free_port();
    let listener = format!("listener {port} 127.0.0.1\n");
    let broker = start_with(&listener);
    let connect = connect_with(5, 0, 60, &[0x11, 0, 0, 0, 100], &[&string("c")]);
    let mut client = Client::open(local(port));
    client.send(&connect);
    assert_eq!(client.packet()[2..4], [0, 0]);
    client.send(&subscribe(5, 1, "t", 1));
    client.expect(&[0x90, 4, 0, 1, 0, 1]);
    reload(&broker, &format!("{listener}listener_allow_anonymous false\n"));
    expect_sent_away(&mut client, 5);
    broker.wait_for_log(&format!("Client c [127.0.0.1:{}] disconnected.", client.local_port()), PATIENT);
    let mut publisher = Client::connect(broker.addr(), 4, "p");
    publisher.send(&publish(4, 2, "t", 1, b"kept"));
    publisher.expect(&[0x40, 2, 0, 1]);
    let mut refused = Client::open(local(port));
    refused.send(&connect);
    refused.expect(&[0x20, 3, 0, 0x87, 0]);
    reload(&broker, &listener);
    let mut client = Client::open(local(port));
    client.send(&connect);
    assert_eq!(client.packet()[2..4], [1, 0], "the session is present");
    client.expect(&publish(5, 2, "t", 1, b"kept"));
}

#[test]
fn listeners_come_go_and_move() {
    let (a, b) = (free_port(), free_port());
    let broker = Broker::start();
    let mut old = Client::connect(broker.addr(), 4, "old");
    let said = reload(&broker, &format!("listener {a} 127.0.0.1\nlistener {b}\n"));
    let meaning = |place: &str| format!("Listener {place}: mqtt, no TLS, anonymous yes, passwords none, acl none.");
    assert!(said.contains(&meaning(&format!("{a} on 127.0.0.1"))), "{said}");
    assert!(said.contains(&meaning(&format!("{b} on all addresses"))), "{said}");
    assert_eq!(said.matches("Warning: Anybody who reaches listener").count(), 1, "{said}");
    let mut on_a = Client::connect(local(a), 5, "a");
    let mut on_b = Client::connect(local(b), 5, "b");
    let mut on_b6 = Client::connect((Ipv6Addr::LOCALHOST, b).into(), 5, "b6");

    // Nothing changed: nothing is said or done.
    let said = hup(&broker);
    assert!(!said.contains("Listener") && !said.contains("Opening"), "{said}");

    // Other sockets for b: who came by an address that is still served stays.
    let said = reload(&broker, &format!("listener {a} 127.0.0.1\nlistener {b}\nsocket_domain ipv4\n"));
    on_b.ping();
    expect_sent_away(&mut on_b6, 5);
    let line = "connections closed with it: 1; gone over to another listener: 1.";
    assert!(said.contains(&format!("Listener {b} on all addresses was closed; {line}")), "{said}");
    assert!(refused((Ipv6Addr::LOCALHOST, b).into()));

    // The limit of the new listener counts those who came over.
    let limited = format!("listener {b} 127.0.0.1\nmax_connections 1\n");
    reload(&broker, &format!("{limited}listener {a} 127.0.0.1\n"));
    on_b.ping();
    Client::open(local(b)).expect_closed();

    // A mount point for new connections only; the limit is for both kinds.
    let mounted = format!("listener {b} 127.0.0.1\nmount_point m/\nmax_connections 2\n");
    reload(&broker, &format!("{mounted}listener {a} 127.0.0.1\n"));
    let mut below = Client::connect(local(b), 4, "below");
    for (client, version, filter) in [(&mut on_b, 5, "t"), (&mut old, 4, "m/t"), (&mut below, 4, "t")] {
        client.send(&subscribe(version, 1, filter, 0));
        client.expect(if version == 5 { &[0x90, 4, 0, 1, 0, 0] } else { &[0x90, 3, 0, 1, 0] });
    }
    below.send(&publish(4, 0, "t", 0, b"below"));
    old.expect(&publish(4, 0, "m/t", 0, b"below"));
    below.expect(&publish(4, 0, "t", 0, b"below"));
    on_b.ping();
    Client::open(local(b)).expect_closed();

    // Moved: a is where b was.
    let said = reload(&broker, &format!("listener {b} 127.0.0.1\nmount_point m/\n"));
    assert!(said.contains(&format!("Listener {a} on 127.0.0.1 was closed; connections closed with it: 1.")), "{said}");
    expect_sent_away(&mut on_a, 5);
    assert!(refused(local(a)));
    on_b.ping();
    below.ping();
    old.ping();

    // Gone, with those of both mount points.
    let said = reload(&broker, "");
    let closed: Vec<&str> = said.lines().filter(|line| line.contains("was closed")).collect();
    assert_eq!(closed.len(), 1, "{said}");
    assert!(closed[0].ends_with(&format!("Listener {b} on 127.0.0.1 was closed; connections closed with it: 2.")));
    expect_sent_away(&mut on_b, 5);
    expect_sent_away(&mut below, 4);
    old.ping();
}

#[test]
fn a_listener_that_cannot_be_opened_is_named_and_the_rest_goes_on() {
    let broker = start_with("max_keepalive 30");
    // Not one that the system gives out: a client of another test could get it as soon as it is free.
    let bound = || std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).ok();
    let taken = std::iter::repeat_with(bound).take(100).flatten().next().expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let other = free_port();
    let mut client = Client::connect(broker.addr(), 5, "c");
    let lines = format!(
        "max_keepalive 20\nlistener {port} 127.0.0.1\nlistener {other} 127.0.0.1\nlistener {other} no-such-host.invalid\n"
    );
    let said = reload(&broker, &lines);
    let error = format!("Error: Listener {port} on 127.0.0.1 was not opened: Address already in use.");
    assert!(said.contains(&error), "{said}");
    assert!(said.contains(&format!("Error: Listener {other} on no-such-host.invalid was not opened: ")), "{said}");
    client.ping();
    let mut new = Client::open(local(other));
    new.send(&connect(5, "new"));
    assert_eq!(new.packet()[5..8], [0x13, 0, 20], "the other options count");
    // It is tried again each time.
    drop(taken);
    assert!(!hup(&broker).contains(&error));
    Client::connect(local(port), 5, "late").ping();

    // Without any listener the broker still runs, and comes back.
    let main = broker.port();
    let said = reload_only(&broker, &format!("log_type all\nlistener {main} no-such-host.invalid\n"));
    assert!(said.contains("Error: No listener is open: nobody can connect until a reload opens one."), "{said}");
    expect_sent_away(&mut client, 5);
    reload(&broker, "");
    Client::connect(broker.addr(), 4, "back").ping();
}

#[test]
fn a_bad_file_changes_nothing() {
    let port = free_port();
    let listener = format!("listener {port} 127.0.0.1\n");
    let dir = std::env::temp_dir().join(format!("mosquitto-it-reload-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let include = format!("include_dir {}\n", dir.display());
    let broker = start_with(&format!("{listener}max_keepalive 30\n{include}"));
    let mut client = Client::connect(local(port), 5, "c");
    let kept = "Error: The configuration was not reloaded; the settings before stay in force.";
    let config = broker.dir().join("mosquitto.conf");

    let unchanged = |client: &mut Client| {
        client.ping();
        let mut new = Client::open(local(port));
        new.send(&connect(5, "new"));
        assert_eq!(new.packet()[5..8], [0x13, 0, 30]);
    };
    // Everything before the bad line would do harm.
    broker.write_config("allow_anonymous false\nmax_keepalive 10\nmax_qos 3\n");
    let said = hup_until(&broker, kept);
    assert!(said.contains("Error: 'max_qos' must be between 0 and 2 inclusive."), "{said}");
    assert!(said.contains(&format!("Error found at {}:6.", config.display())), "{said}");
    unchanged(&mut client);

    fs::remove_file(&config).expect("the config file");
    let said = hup_until(&broker, kept);
    assert!(said.contains(&format!("Error: Unable to open config file '{}'.", config.display())), "{said}");
    unchanged(&mut client);
    fs::create_dir(&config).expect("a directory");
    hup_until(&broker, kept);
    unchanged(&mut client);
    fs::remove_dir(&config).expect("the directory");

    broker.write_config(&format!("{listener}max_keepalive 10\n{include}"));
    let included = dir.join("a.conf");
    fs::write(&included, "no_such_option 1\n").expect("a file");
    let said = hup_until(&broker, kept);
    assert!(said.contains(&format!("Error found at '{}:1'.", included.display())), "{said}");
    unchanged(&mut client);

    // A file that came to the directory counts, and so does its going.
    let added = free_port();
    fs::write(&included, format!("listener {added} 127.0.0.1\nlistener_allow_anonymous true\n")).expect("a file");
    hup(&broker);
    let mut late = Client::connect(local(added), 5, "late");
    fs::remove_file(&included).expect("the file");
    hup(&broker);
    expect_sent_away(&mut late, 5);
    client.ping();
    fs::remove_dir_all(&dir).expect("the directory");
}

#[test]
fn without_descriptors_a_reload_loses_nothing() {
    const LIMIT: usize = 48;
    let broker = Broker::start_with_descriptors("", 48);
    let log_file = broker.dir().join("log");
    // A broker that was started as root has given it up.
    fs::set_permissions(broker.dir(), fs::Permissions::from_mode(0o777)).expect("its directory");
    // The connection that the start was tried with is gone.
    broker.wait_for_log("Client 127.0.0.1 [", PATIENT);
    let added = free_port();
    let lines = format!("log_dest stderr\nlog_dest file {}\nlistener {added}\n", log_file.display());
    let full = |free: usize, clients: &mut Vec<Client>| {
        while broker.descriptors(LIMIT) < LIMIT - free {
            clients.push(Client::connect(broker.addr(), 4, &format!("c{}", clients.len())));
        }
        assert_eq!(broker.descriptors(LIMIT), LIMIT - free);
    };
    let mut clients = Vec::new();

    // None left: the file cannot be read.
    full(0, &mut clients);
    broker.write_config(&lines);
    let kept = "Error: The configuration was not reloaded; the settings before stay in force.";
    let said = hup_until(&broker, kept);
    assert!(said.contains("Error: Unable to open config file"), "{said}");
    clients.iter_mut().for_each(Client::ping);

    // One left: the file is read, the log file is opened, the listener is not.
    drop(clients.pop());
    broker.wait_for_log("disconnected: connection closed by client.", PATIENT);
    let mut waited = 0;
    while broker.descriptors(LIMIT) == LIMIT {
        waited += 1;
        assert!(waited < 100_000, "the descriptor is not given back");
        thread::yield_now();
    }
    let said = hup(&broker);
    let error = format!("Error: Listener {added} on all addresses was not opened: Too many open files.");
    assert!(said.contains(&error), "{said}");
    assert!(fs::read_to_string(&log_file).expect("the log file").contains(&error));
    clients.iter_mut().for_each(Client::ping);
    assert!(refused(local(added)));

    // Room again: all is well, and the old listener was never lost.
    for _ in 0..4 {
        drop(clients.pop());
    }
    let mark = broker.log_mark();
    Client::connect(broker.addr(), 4, "fresh").ping();
    broker.wait_for_log_after(mark, "Client fresh [", PATIENT);
    hup(&broker);
    Client::connect(local(added), 4, "late").ping();
    clients.iter_mut().for_each(Client::ping);
}

#[test]
fn local_only_mode_comes_and_goes() {
    let port = free_port();
    let broker = Broker::start_with_local_port("", port);
    let main = broker.port();
    let mut client = Client::connect(broker.addr(), 5, "c");
    let said = reload_only(&broker, "log_type all\n");
    assert!(said.contains("Starting in local only mode."), "{said}");
    assert!(said.contains(&format!("Listener {port} on 127.0.0.1: mqtt, no TLS, anonymous yes")), "{said}");
    expect_sent_away(&mut client, 5);
    assert!(refused(broker.addr()));
    let mut local_client = Client::connect(local(port), 5, "l");
    Client::connect((Ipv6Addr::LOCALHOST, port).into(), 4, "l6").ping();

    // The same addresses by name: nobody is anonymous there any more.
    let said = reload_only(&broker, &format!("log_type all\nlistener {port} 127.0.0.1\n"));
    assert!(said.contains("Disconnecting clients that are no longer allowed: 1."), "{said}");
    expect_sent_away(&mut local_client, 5);
    let mut refused_client = Client::open(local(port));
    refused_client.send(&connect(4, "r"));
    refused_client.expect(&[0x20, 2, 0, 5]);

    // A default listener with `port`, and back to where it began.
    reload_only(&broker, &format!("log_type all\nport {main}\nbind_address 127.0.0.1\nallow_anonymous true\n"));
    let mut client = Client::connect(broker.addr(), 4, "p");
    assert!(refused(local(port)));
    reload(&broker, "");
    client.ping();
    client.send(&packet(0xE0, &[]));
    assert_eq!(client.recv(1), Err(Missing::Closed(vec![])));
}

#[test]
fn new_limits_hold_for_those_who_are_connected() {
    let broker = start_with("");
    let large = [b'x'; 200];
    let with_alias = |topic: &str| packet(0x30, &[&string(topic)[..], &[3, 0x23, 0, 1], b"x"].concat());
    for (lines, sent, answer, closed) in [
        // At once, for whoever is there.
        ("max_packet_size 100", publish(5, 0, "t", 0, &large), vec![0xE0, 1, 0x95], true),
        ("max_qos 1", publish(5, 4, "t", 1, b""), vec![0xE0, 1, 0x9B], true),
        ("retain_available false", publish(5, 1, "t", 0, b"x"), vec![0xE0, 1, 0x9A], true),
        ("message_size_limit 10", publish(5, 2, "t", 1, &large), vec![0x40, 3, 0, 1, 0x95], false),
        ("memory_limit 1", publish(5, 2, "t", 1, b"x"), vec![0x40, 3, 0, 1, 0x97], false),
        ("memory_limit 1", subscribe(5, 1, "t", 0), vec![0x90, 4, 0, 1, 0, 0x97], false),
        // What was agreed on when the client connected.
        ("max_topic_alias 0", with_alias(""), vec![], false),
        (
            "max_inflight_messages 1",
            [publish(5, 4, "t", 1, b""), publish(5, 4, "u", 2, b"")].concat(),
            vec![0x50, 2, 0, 1, 0x50, 2, 0, 2],
            false,
        ),
        // What is asked when a client comes.
        ("max_keepalive 1", vec![], vec![], false),
        ("accept_protocol_versions 3", vec![], vec![], false),
        ("clientid_prefixes other", vec![], vec![], false),
        ("max_connections 1", vec![], vec![], false),
        ("global_max_connections 1", vec![], vec![], false),
        ("global_max_clients 1", vec![], vec![], false),
        ("mount_point m/", vec![], vec![], false),
    ] {
        reload(&broker, "");
        let mut client = Client::connect(broker.addr(), 5, "c");
        client.send(&with_alias("t"));
        client.ping();
        reload(&broker, lines);
        client.send(&sent);
        let got = client.recv(answer.len()).unwrap_or_default();
        assert_eq!(hex(&got), hex(&answer), "{lines}");
        if closed {
            client.expect_closed();
        } else {
            client.ping();
        }
    }
}
