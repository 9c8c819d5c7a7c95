//! Clients that mean harm, and load at the edges: what one does must not be felt by the others.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::broker::Broker;
use crate::client::{Client, Missing, connect, connect_with, packet, publish, string, subscribe};
use crate::tokens::variable_int;

/// Packets by the hundred thousand are not for the log.
const QUIET: &str = "log_type none\nlog_type error\nlog_type warning\nlog_type notice";

/// How long another client may wait for its answer, on a busy machine and without optimisation.
const PROMPT: Duration = Duration::from_millis(900);

/// How long everything that was asked of the broker may take.
const DONE: Duration = Duration::from_secs(20);

const MB: u64 = 1024 * 1024;

/// Pings until `done`; the longest time that an answer took.
fn slowest_ping(client: &mut Client, done: &AtomicBool) -> Duration {
    let mut slowest = Duration::ZERO;
    client.set_limit(DONE);
    loop {
        let last = done.load(Ordering::Relaxed);
        let start = Instant::now();
        client.ping();
        slowest = slowest.max(start.elapsed());
        if last {
            return slowest;
        }
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// Does `work` while another client pings, and checks that nobody kept it waiting.
fn while_others_are_served<R>(broker: &Broker, work: impl FnOnce() -> R) -> R {
    struct Finally<'a>(&'a AtomicBool);
    impl Drop for Finally<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    let mut other = Client::connect(broker.addr(), 4, "other");
    let (result, slowest) = thread::scope(|scope| {
        let pings = scope.spawn(|| slowest_ping(&mut other, &done));
        let result = {
            let _finally = Finally(&done);
            work()
        };
        (result, pings.join().expect("the other client is served"))
    });
    assert!(slowest < PROMPT, "another client waited {slowest:?}");
    result
}

/// A connection with small buffers on its side, so that it is full soon.
fn narrow(broker: &Broker, first: &[u8]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.set_send_buffer_size(4096).expect("a small buffer");
    socket.set_tcp_mss(1000).expect("small segments");
    socket.connect(&broker.addr().into()).expect("a connection");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DONE)).expect("a limit");
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a limit");
    stream.write_all(first).expect("CONNECT is taken");
    let mut ack = [0; 4];
    stream.read_exact(&mut ack).expect("CONNACK");
    assert_eq!(ack, [0x20, 2, 0, 0]);
    stream
}

/// Writes packets made by `next` until the socket has taken nothing for half a second; the packets begun and what is
/// left of the last one.
fn write_until_full(stream: &mut TcpStream, mut next: impl FnMut(usize) -> Vec<u8>) -> (usize, Vec<u8>) {
    let (mut count, mut written) = (0, 0);
    let mut chunk: Vec<u8> = Vec::new();
    loop {
        assert!(written < 64 << 20, "still read after {written} bytes and {count} packets");
        while chunk.len() < 4096 {
            chunk.extend(next(count));
            count += 1;
        }
        match stream.write(&chunk) {
            Ok(n) => {
                written += n;
                chunk.drain(..n);
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return (count, chunk),
            Err(e) => panic!("after {written} bytes: {e}"),
        }
    }
}

/// Makes a packet with this packet identifier, if it has one.
type Make = fn(u16) -> Vec<u8>;

#[test]
fn a_flood_that_nobody_reads_the_answers_of_is_not_read_either() {
    let numbered = |n: usize| u16::try_from(n % 60_000 + 1).expect("below 65536");
    let kinds: [(&str, Make, usize); 3] = [
        ("PINGREQ", |_| vec![0xC0, 0], 2),
        ("SUBSCRIBE", |n| subscribe(4, n, &format!("t/{}", n % 100), 0), 5),
        ("PUBLISH", |n| publish(4, 2, "t", n, b""), 4),
    ];
    for (name, make, answer) in kinds {
        let broker = Broker::start_with(QUIET);
        let mut flooder = narrow(&broker, &connect(4, "flooder"));
        let before = broker.memory();
        let (count, rest) = while_others_are_served(&broker, || write_until_full(&mut flooder, |n| make(numbered(n))));
        let grown = broker.memory().saturating_sub(before);
        assert!(grown < 8 * MB, "{name}: {grown} bytes for {count} packets");

        // It reads again, and nothing was lost.
        let mut writer = flooder.try_clone().expect("a second handle");
        writer.set_write_timeout(Some(DONE)).expect("a limit");
        thread::scope(|scope| {
            scope.spawn(move || writer.write_all(&[&rest[..], &[0xC0, 0]].concat()).expect("read on"));
            let mut answers = vec![0; count * answer + 2];
            flooder.read_exact(&mut answers).unwrap_or_else(|e| panic!("{name}: {count} answers: {e}"));
            assert_eq!(answers[answers.len() - 2..], [0xD0, 0], "{name}");
            let first = make(1)[0] >> 4;
            let wanted = [(0xC, 0xD0), (8, 0x90), (3, 0x40)].into_iter().find(|w| w.0 == first).expect("known").1;
            assert!(answers[..count * answer].chunks(answer).all(|one| one[0] == wanted), "{name}");
        });
    }
}

#[test]
fn a_flooder_that_dies_while_it_is_not_read_is_noticed() {
    let broker = Broker::start_with(QUIET);
    let mut flooder = narrow(&broker, &connect(4, "flooder"));
    let port = flooder.local_addr().expect("a local address").port();
    write_until_full(&mut flooder, |_| vec![0xC0, 0]);
    drop(flooder);
    let line = format!("Client flooder [127.0.0.1:{port}] disconnected: connection closed by client.");
    broker.wait_for_log(&line, Duration::from_secs(2));
}

#[test]
fn subscribers_that_do_not_read_cost_little_and_their_losses_are_counted() {
    const SUBSCRIBERS: usize = 50;
    const MESSAGES: usize = 3000;
    let broker = Broker::start_with(&format!("{QUIET}\nsys_interval 1"));
    let mut slow: Vec<TcpStream> =
        (0..SUBSCRIBERS).map(|n| narrow(&broker, &connect(4, &format!("slow-{n}")))).collect();
    for stream in &mut slow {
        stream.write_all(&subscribe(4, 1, "t", 0)).expect("SUBSCRIBE is taken");
        stream.read_exact(&mut [0; 5]).expect("SUBACK");
    }
    let mut watch = Client::connect(broker.addr(), 4, "watch");
    watch.send(&subscribe(4, 1, "$SYS/broker/publish/messages/dropped", 0));
    assert_eq!(watch.packet()[0], 0x90);
    let before = broker.memory();
    while_others_are_served(&broker, || {
        let mut publisher = Client::connect(broker.addr(), 4, "publisher");
        publisher.set_limit(DONE);
        let message = publish(4, 0, "t", 0, &vec![b'x'; 65_536]);
        for _ in 0..MESSAGES {
            publisher.send(&message);
        }
        publisher.ping();
    });
    let grown = broker.memory().saturating_sub(before);
    assert!(grown < 80 * MB, "{} MB", grown / MB);

    // 1000 may wait for each, and a few are in the kernel's buffers.
    let least = SUBSCRIBERS * (MESSAGES - 1000 - 200);
    let deadline = Instant::now() + Duration::from_secs(5);
    watch.set_limit(Duration::from_secs(3));
    loop {
        let message = watch.packet();
        let digits = String::from_utf8_lossy(&message).rsplit("dropped").next().map(str::to_owned);
        let dropped: usize = digits.and_then(|digits| digits.parse().ok()).expect("a number");
        assert!(dropped <= SUBSCRIBERS * (MESSAGES - 1000), "{dropped} dropped");
        if dropped >= least {
            break;
        }
        assert!(Instant::now() < deadline, "only {dropped} dropped");
    }
    let log = broker.log_text();
    for n in 0..SUBSCRIBERS {
        let line = format!("Outgoing messages are being dropped for client slow-{n}.");
        assert_eq!(log.lines().filter(|other| other.ends_with(&line)).count(), 1, "{line}");
    }
}

#[test]
fn a_claimed_length_allocates_nothing() {
    let broker = Broker::start_with(QUIET);
    let mut clients: Vec<Client> =
        (0..200).map(|n| Client::connect(broker.addr(), 4, &format!("claims-{n}"))).collect();
    let before = broker.memory();
    let header = [&[0x30][..], &variable_int(1_900_000), &string("t"), b"few"].concat();
    for client in &mut clients {
        client.send(&header);
    }
    // A ping on a later connection is answered after all of them were read.
    Client::connect(broker.addr(), 4, "other").ping();
    let grown = broker.memory().saturating_sub(before);
    assert!(grown < 2 * MB, "{grown} bytes");
}

#[test]
fn too_many_topic_levels_are_malformed() {
    let broker = Broker::start();
    let slashes = "/".repeat(65_535);
    for bytes in [publish(5, 0, &slashes, 0, b"x"), subscribe(5, 1, &slashes, 0)] {
        let mut client = Client::connect(broker.addr(), 5, "deep");
        client.send(&bytes);
        client.expect(&[0xE0, 1, 0x81]);
        client.expect_closed();
    }
    for bytes in [publish(4, 0, &slashes, 0, b"x"), subscribe(4, 1, &slashes, 0)] {
        let mut client = Client::connect(broker.addr(), 4, "deep");
        client.send(&bytes);
        client.expect_closed();
    }
    let will = [string("deep"), vec![0], string(&slashes), string("")].concat();
    let mut client = Client::open(broker.addr());
    client.send(&connect_with(5, 6, 60, &[], &[&will]));
    client.expect(&[0x20, 3, 0, 0x90, 0]);
    client.expect_closed();
}

#[test]
fn ten_thousand_user_properties_are_passed_on() {
    let broker = Broker::start_with(QUIET);
    let mut client = Client::connect(broker.addr(), 5, "properties");
    client.send(&subscribe(5, 1, "t", 0));
    assert_eq!(client.packet()[0], 0x90);
    let mut old = Client::connect(broker.addr(), 4, "old");
    old.send(&subscribe(4, 1, "t", 0));
    assert_eq!(old.packet()[0], 0x90);
    let props: Vec<u8> = (0..10_000).flat_map(|n| [vec![0x26], string(&n.to_string()), string("v")].concat()).collect();
    let message = [string("t"), variable_int(props.len() as u64), props, b"x".to_vec()].concat();
    let message = packet(0x30, &message);
    client.send(&message);
    client.expect(&message);
    old.expect(&publish(4, 0, "t", 0, b"x"));
}

/// SUBSCRIBE packets of a thousand filters each.
fn subscriptions(count: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..count / 1000).map(|packet_at| {
        let id = u16::try_from(packet_at + 1).expect("few packets");
        let filters = (0..1000).flat_map(|n| [string(&format!("s/{packet_at}/{n}")), vec![0]].concat());
        packet(0x82, &id.to_be_bytes().into_iter().chain(filters).collect::<Vec<u8>>())
    })
}

#[test]
fn a_hundred_thousand_subscriptions_of_one_client_stop_nobody() {
    let broker = Broker::start_with(QUIET);
    while_others_are_served(&broker, || {
        let mut many = Client::connect(broker.addr(), 4, "many");
        many.set_limit(DONE);
        for packet in subscriptions(100_000) {
            many.send(&packet);
            assert_eq!(many.packet().len(), 2 + 1 + 2 + 1000);
        }
        let message = publish(4, 0, "s/99/999", 0, b"found");
        many.send(&message);
        many.expect(&message);
        // The end of the session takes all of them along.
        many.send(&[0xE0, 0]);
        many.expect_closed();
    });
}

/// A broker with `count` retained messages `r/N/x/y`.
fn retaining(count: usize) -> Broker {
    let broker = Broker::start_with(QUIET);
    let mut publisher = Client::connect(broker.addr(), 4, "publisher");
    publisher.set_limit(DONE);
    let messages: Vec<u8> = (0..count).flat_map(|n| publish(4, 1, &format!("r/{n}/x/y"), 0, b"kept")).collect();
    for part in messages.chunks(60_000) {
        publisher.send(part);
    }
    publisher.ping();
    broker
}

#[test]
fn fifty_thousand_retained_messages_stop_nobody() {
    let broker = retaining(50_000);
    while_others_are_served(&broker, || {
        let mut reader = Client::connect(broker.addr(), 4, "reader");
        reader.set_limit(DONE);
        reader.send(&subscribe(4, 1, "#", 0));
        assert_eq!(reader.packet()[0], 0x90);
        let wanted: usize = (0..50_000).map(|n| publish(4, 1, &format!("r/{n}/x/y"), 0, b"kept").len()).sum();
        assert_eq!(reader.recv(wanted).expect("all of them").len(), wanted);
        reader.ping();
    });
}

#[test]
fn retained_look_ups_in_vain_stop_nobody() {
    let broker = retaining(50_000);
    while_others_are_served(&broker, || {
        let mut searchers: Vec<Client> =
            (0..4).map(|n| Client::connect(broker.addr(), 4, &format!("search-{n}"))).collect();
        for client in &mut searchers {
            let filters = ["+/+/+/zz", "+/+/zz/+", "r/+/zz/#", "r/+/+/zz"];
            let body = filters.iter().flat_map(|filter| [string(filter), vec![0]].concat());
            client.send(&packet(0x82, &[0, 1].into_iter().chain(body).collect::<Vec<u8>>()));
        }
        for client in &mut searchers {
            client.set_limit(DONE);
            client.expect(&[0x90, 6, 0, 1, 0, 0, 0, 0]);
            // What comes after a look-up waits for it, and comes.
            client.send(&subscribe(4, 2, "r/777/x/y", 0));
            client.expect(&[0x90, 3, 0, 2, 0]);
            client.expect(&publish(4, 1, "r/777/x/y", 0, b"kept"));
        }
    });
}

#[test]
fn many_look_ups_at_once_stop_nobody() {
    let broker = retaining(20_000);
    let in_vain = |count| {
        let filters = (0..count).flat_map(|_| [string("+/+/+/zz"), vec![0]].concat());
        packet(0x82, &[0, 1].into_iter().chain(filters).collect::<Vec<u8>>())
    };
    // Many filters in one packet.
    while_others_are_served(&broker, || {
        let mut client = Client::connect(broker.addr(), 4, "search");
        client.set_limit(DONE);
        client.send(&in_vain(20_000));
        assert_eq!(client.packet()[0], 0x90);
    });
    // Many clients, each with look-ups that go on for long.
    while_others_are_served(&broker, || {
        let mut searchers: Vec<Client> =
            (0..200).map(|n| Client::connect(broker.addr(), 4, &format!("search-{n}"))).collect();
        for client in &mut searchers {
            client.send(&in_vain(100));
        }
        for client in &mut searchers {
            client.set_limit(DONE);
            assert_eq!(client.packet()[0], 0x90);
            client.ping();
        }
    });
    // Many packets of a client while its look-up goes on.
    while_others_are_served(&broker, || {
        let mut client = Client::connect(broker.addr(), 4, "search");
        client.set_limit(DONE);
        client.send(&in_vain(100));
        assert_eq!(client.packet()[0], 0x90);
        client.send(&(1..=4000).flat_map(|n| publish(4, 2, "q", n, b"")).collect::<Vec<u8>>());
        for n in 1..=4000_u16 {
            client.expect(&[&[0x40, 2][..], &n.to_be_bytes()].concat());
        }
    });
}

#[test]
fn many_busy_clients_stop_nobody() {
    let broker = Broker::start_with(QUIET);
    let mut busy: Vec<Client> = (0..150).map(|n| Client::connect(broker.addr(), 4, &format!("busy-{n}"))).collect();
    let work = publish(4, 0, "t", 0, b"x").repeat(4000);
    while_others_are_served(&broker, || {
        for client in &mut busy {
            client.set_limit(DONE);
            client.send(&work);
        }
        for client in &mut busy {
            client.ping();
        }
    });
}

#[test]
fn a_take_over_storm_ends_with_one_session() {
    let broker = Broker::start_with(&format!("{QUIET}\nsys_interval 1"));
    for (version, flags) in [(4, 2), (4, 0), (5, 2)] {
        let mut clients: Vec<Client> = (0..300).map(|_| Client::open(broker.addr())).collect();
        let ports: Vec<u16> = clients.iter().map(Client::local_port).collect();
        for client in &mut clients {
            client.send(&connect_with(version, flags, 60, &[], &[&string("storm")]));
        }
        let mut alive = Vec::new();
        for mut client in clients {
            assert_eq!(client.packet()[0], 0x20, "everyone was let in");
            client.send(&[0xC0, 0]);
            match client.recv(2) {
                Ok(answer) if answer == [0xD0, 0] => alive.push(client),
                Ok(answer) => assert_eq!(answer, [0xE0, 1]),
                Err(Missing::Closed(_)) => {}
                Err(Missing::TimedOut(_)) => panic!("neither served nor closed"),
            }
        }
        // A ping may have been answered just before the take-over; in the end one is left.
        alive.retain_mut(|client| {
            client.send(&[0xC0, 0]);
            client.recv(2).is_ok_and(|answer| answer == [0xD0, 0])
        });
        assert_eq!(alive.len(), 1);
        let survivor = alive[0].local_port();
        let gone = || ports.iter().filter(|port| **port != survivor);
        // The lines reach us through a pipe, a moment after the connections ended.
        for port in gone() {
            broker.wait_for_log(&format!("[127.0.0.1:{port}] disconnected"), Duration::from_secs(5));
        }
        let log = broker.log_text();
        for port in gone() {
            let mark = format!("[127.0.0.1:{port}] disconnected");
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(&mark)).collect();
            assert_eq!(lines.len(), 1, "{lines:?}");
            let wanted = format!("Client storm {mark}: session taken over.");
            assert!(lines[0].ends_with(&wanted), "{}", lines[0]);
        }
    }
}

#[test]
fn half_done_qos_2_messages_are_acknowledged_window_by_window() {
    const COUNT: u16 = 500;
    let broker = Broker::start_with(QUIET);
    let mut reader = Client::connect(broker.addr(), 4, "reader");
    reader.send(&subscribe(4, 1, "t", 0));
    assert_eq!(reader.packet()[0], 0x90);
    let mut sender = Client::connect(broker.addr(), 4, "sender");
    let all: Vec<u8> = (1..=COUNT).flat_map(|n| publish(4, 4, "t", n, &n.to_be_bytes())).collect();
    sender.send(&all);
    let pubrec = |n: u16| [&[0x50, 2][..], &n.to_be_bytes()].concat();
    let pubcomp = |n: u16| [&[0x70, 2][..], &n.to_be_bytes()].concat();
    for n in 1..=20 {
        sender.expect(&pubrec(n));
    }
    // No further PUBREC before the answer to a ping.
    sender.ping();
    for n in 1..=COUNT {
        sender.send(&[&[0x62, 2][..], &n.to_be_bytes()].concat());
        sender.expect(&pubcomp(n));
        if n + 20 <= COUNT {
            sender.expect(&pubrec(n + 20));
        }
    }
    sender.ping();
    for n in 1..=COUNT {
        reader.expect(&publish(4, 0, "t", 0, &n.to_be_bytes()));
    }
    reader.ping();
}

#[test]
fn too_many_half_done_qos_2_messages_end_the_connection_unacknowledged() {
    let broker = Broker::start_with(&format!("{QUIET}\nmax_queued_messages 10\nmax_inflight_messages 5"));
    let mut sender = Client::connect(broker.addr(), 4, "sender");
    let port = sender.local_port();
    for n in 1..=15 {
        sender.send(&publish(4, 4, "t", n, b"x"));
    }
    for n in 1..=5 {
        sender.expect(&[0x50, 2, 0, n]);
    }
    sender.ping();
    sender.send(&publish(4, 4, "t", 16, b"x"));
    sender.expect_closed();
    let line = format!("Client sender [127.0.0.1:{port}] disconnected: quota exceeded.");
    broker.wait_for_log(&line, Duration::from_secs(2));
}

#[test]
fn a_version_5_client_past_the_receive_maximum_is_refused_and_warned_of() {
    let broker = Broker::start_with(&format!("{QUIET}\nmax_inflight_messages 5"));
    let mut reader = Client::connect(broker.addr(), 4, "reader");
    reader.send(&subscribe(4, 1, "t", 0));
    assert_eq!(reader.packet()[0], 0x90);
    let mut sender = Client::connect(broker.addr(), 5, "sender");
    for n in 1..=7 {
        sender.send(&publish(5, 4, "t", n, &n.to_be_bytes()));
    }
    for n in 1..=5 {
        sender.expect(&[0x50, 2, 0, n]);
    }
    for n in 6..=7 {
        sender.expect(&[0x50, 3, 0, n, 0x97]);
    }
    broker.wait_for_log(
        "Client sender has exceeded its receive-maximum quota. This behaviour must be fixed on the client.",
        Duration::from_secs(2),
    );
    for n in 1..=5 {
        sender.send(&[0x62, 2, 0, n]);
        sender.expect(&[0x70, 2, 0, n]);
        reader.expect(&publish(4, 0, "t", 0, &[0, n]));
    }
    reader.ping();
    // The window is free again.
    sender.send(&publish(5, 4, "t", 8, b"x"));
    sender.expect(&[0x50, 2, 0, 8]);
}

#[test]
fn without_descriptors_clients_go_on_and_new_ones_wait() {
    let broker = Broker::start_with_descriptors(QUIET, 40);
    let mut first = Client::connect(broker.addr(), 4, "first");
    // The kernel completes these connections whether the broker takes them or not.
    let mut clients: Vec<Client> = (0..60).map(|_| Client::open(broker.addr())).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&connect(4, &format!("n-{n}")));
    }
    broker.wait_for_log(
        "Unable to accept new connection, system socket count has been exceeded. Try increasing \"ulimit -n\" or \
         equivalent.",
        Duration::from_secs(5),
    );
    first.ping();
    clients[0].expect(&[0x20, 2, 0, 0]);
    clients[0].ping();
    let last = clients.last_mut().expect("sixty");
    last.set_limit(Duration::from_millis(300));
    assert_eq!(last.recv(1), Err(Missing::TimedOut(vec![])), "the last one waits");
    // Those who leave make room for those who wait.
    let mut waiting = clients.split_off(30);
    drop(clients);
    for client in &mut waiting {
        client.set_limit(Duration::from_secs(5));
        client.expect(&[0x20, 2, 0, 0]);
        client.ping();
    }
    first.ping();
    let log = broker.log_text();
    assert_eq!(log.matches("system socket count").count(), 1, "said once, not for each");
}
