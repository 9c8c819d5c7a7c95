//! A listener with `protocol metrics`: the page in Prometheus' text format, the health check, and peers that mean no good.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::broker::{Broker, free_port, note};
use crate::client::{Client, LIMIT, connect, publish, subscribe};

const PAGE: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The line behind those about the listeners.
const RUNNING: &str = concat!("version ", env!("CARGO_PKG_VERSION"), " running");

/// A broker with a metrics listener, and where that is.
fn start(lines: &str) -> (Broker, SocketAddr) {
    let port = free_port();
    let broker = Broker::start_with(&format!("{lines}\nlistener {port}\nprotocol metrics"));
    // Its first listener may be there before the others.
    broker.wait_for_log(RUNNING, Duration::from_secs(10));
    (broker, SocketAddr::from(([127, 0, 0, 1], port)))
}

fn open(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, LIMIT).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a read limit");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Everything the broker sends until it closes.
fn rest(mut stream: &TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap_or_else(|e| panic!("{e} after {:?}", String::from_utf8_lossy(&answer)));
    String::from_utf8(answer).expect("text")
}

/// The answer to these bytes, up to the close.
fn ask(addr: SocketAddr, request: &[u8]) -> String {
    let mut stream = open(addr);
    stream.write_all(request).expect("the request is taken");
    rest(&stream)
}

/// The body of a 200 answer.
fn body(answer: &str) -> &str {
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    answer.split_once("\r\n\r\n").expect("an empty line").1
}

/// The samples of the page now, by name and labels; the page is checked on the way.
fn scrape(addr: SocketAddr) -> BTreeMap<String, f64> {
    let answer = ask(addr, PAGE.as_bytes());
    check(body(&answer)).unwrap_or_else(|why| panic!("{why}\n{answer}"))
}

fn is_name(name: &str, colon: bool) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':'))
}

/// What follows the labels of a sample; an error when they are not as the format wants them.
fn after_labels(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('{')?;
    loop {
        let (label, value) = rest.split_once("=\"")?;
        is_name(label, false).then_some(())?;
        let mut chars = value.char_indices();
        let end = loop {
            match chars.next()? {
                (_, '\\') => matches!(chars.next()?.1, '\\' | '"' | 'n').then_some(())?,
                (at, '"') => break at,
                (_, '\n') => return None,
                _ => {}
            }
        };
        rest = &value[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return rest.strip_prefix('}'),
        }
    }
}

/// The rules of the text format 0.0.4, and those of good names: every sample has HELP and TYPE before it, stands with its
/// kin, comes once, and only counters end in `_total`.
fn check(page: &str) -> Result<BTreeMap<String, f64>, String> {
    let (mut seen, mut samples) = (BTreeSet::new(), BTreeMap::new());
    let (mut helped, mut current) = (None, None);
    if !page.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    for line in page.lines() {
        let wrong = |what: &str| Err(format!("{what}: {line}"));
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap_or((help, ""));
            if !is_name(name, true) || !name.starts_with("mosquitto_") || text.is_empty() {
                return wrong("HELP");
            }
            if !seen.insert(name.to_owned()) {
                return wrong("twice");
            }
            (helped, current) = (Some(name), None);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = kind.split_once(' ') else { return wrong("TYPE") };
            if helped.take() != Some(name) {
                return wrong("TYPE without its HELP");
            }
            match kind {
                "counter" if name.ends_with("_total") => {}
                "gauge" if !name.ends_with("_total") => {}
                _ => return wrong("type and name"),
            }
            current = Some(name);
        } else {
            let name = &line[..line.find(['{', ' ']).unwrap_or(line.len())];
            if current != Some(name) {
                return wrong("not with its TYPE");
            }
            let labels = &line[name.len()..];
            let Some(value) = (if labels.starts_with('{') { after_labels(labels) } else { Some(labels) }) else {
                return wrong("labels");
            };
            let Some(value) = value.strip_prefix(' ').and_then(|value| value.parse::<f64>().ok()) else {
                return wrong("value");
            };
            let key = line.rsplit_once(' ').unwrap_or_default().0;
            if samples.insert(key.to_owned(), value).is_some() {
                return wrong("twice");
            }
        }
    }
    let families: BTreeSet<_> =
        samples.keys().map(|key| key.split('{').next().unwrap_or_default().to_owned()).collect();
    if families != seen {
        return Err("a metric without a sample".into());
    }
    Ok(samples)
}

#[test]
fn the_check_of_the_page_finds_faults() {
    let good =
        "# HELP mosquitto_a A.\n# TYPE mosquitto_a gauge\nmosquitto_a{b=\"\\\"\\\\\\n\",c=\"\"} 1\nmosquitto_a 2\n";
    assert_eq!(check(good).expect("a good page").len(), 2);
    for (from, to) in [
        (" 2\n", " 2"),
        (" 2\n", " 2\nmosquitto_a 3\n"),
        (" 2\n", " x\n"),
        (" 2\n", "\n"),
        (" 2\n", " 2\n\n"),
        ("# HELP mosquitto_a A.\n", ""),
        ("# HELP mosquitto_a A.", "# HELP mosquitto_a"),
        ("# TYPE mosquitto_a gauge\n", ""),
        ("gauge", "counter"),
        ("gauge", "number"),
        ("c=\"\"", "c=\""),
        ("c=\"\"", "c="),
        ("c=\"\"", "1c=\"\""),
        ("\\n", "\\t"),
        ("mosquitto_a 2", "mosquitto_b 2"),
        ("# HELP mosquitto_a A.", "# HELP mosquitto_z Z.\n# TYPE mosquitto_z gauge\n# HELP mosquitto_a A."),
    ] {
        let bad = good.replacen(from, to, 1);
        assert!(bad != good && check(&bad).is_err(), "{bad}");
    }
    assert!(check(&good.replace("mosquitto_a", "mosquitto-a")).is_err());
    assert!(check(&good.repeat(2)).is_err());
}

#[test]
fn counters_rise_with_traffic_and_gauges_follow() {
    let (broker, addr) = start("");
    let before = scrape(addr);
    let mut reader = Client::connect(broker.addr(), 4, "reader");
    reader.send(&subscribe(4, 1, "t/#", 0));
    reader.expect(&[0x90, 3, 0, 1, 0]);
    reader.send(&subscribe(4, 2, "$share/g/s", 0));
    reader.expect(&[0x90, 3, 0, 2, 0]);
    let mut writer = Client::connect(broker.addr(), 5, "writer");
    for _ in 0..10 {
        writer.send(&publish(5, 0, "t/a", 0, &[b'x'; 100]));
        reader.expect(&publish(4, 0, "t/a", 0, &[b'x'; 100]));
    }
    writer.send(&publish(5, 1, "t/kept", 0, b"kept"));
    reader.expect(&publish(4, 0, "t/kept", 0, b"kept"));
    // Open, and nothing said.
    let silent = Client::open(broker.addr());
    broker.wait_for_log(&format!("New connection from 127.0.0.1:{}", silent.local_port()), LIMIT);
    let after = scrape(addr);

    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    let rise = |name: &str| after[&format!("mosquitto_{name}")] - before[&format!("mosquitto_{name}")];
    for (name, by) in [
        ("sessions", 2.0),
        ("sessions_connected", 2.0),
        ("sessions_offline", 0.0),
        ("sockets_accepted_total", 3.0),
        ("connects_received_total", 2.0),
        ("packets_received_total", 15.0),
        ("packets_sent_total", 15.0),
        ("publishes_received_total", 11.0),
        ("publishes_sent_total", 11.0),
        ("publish_received_bytes_total", 1004.0),
        ("publish_sent_bytes_total", 1004.0),
        ("publishes_dropped_total", 0.0),
        ("subscriptions", 1.0),
        ("shared_subscriptions", 1.0),
        ("waiting_packets", 0.0),
    ] {
        assert!((rise(name) - by).abs() < 0.5, "{name} rose by {}, not {by}", rise(name));
    }
    for name in ["received_bytes_total", "sent_bytes_total", "retained_messages", "stored_messages", "stored_bytes"] {
        assert!(rise(name) > 0.0, "{name}");
    }
    assert!(after["mosquitto_heap_bytes"] > 10_000.0);
    assert!(after["mosquitto_heap_max_bytes"] >= after["mosquitto_heap_bytes"]);
    assert!(after["mosquitto_start_time_seconds"] > 1.6e9);
    let port = broker.port();
    let listener = |port: u16| after[&format!("mosquitto_listener_connections{{listener=\"{port}\"}}")];
    assert!(listener(port) >= 3.0 && listener(addr.port()) >= 1.0, "{after:#?}");
    // A session that stays is offline afterwards.
    let mut lasting = Client::open(broker.addr());
    lasting.send(&crate::client::connect_with(4, 0, 60, &[], &[&crate::client::string("lasting")]));
    lasting.expect(&[0x20, 2, 0, 0]);
    lasting.send(&[0xE0, 0]);
    lasting.expect_closed();
    let now = scrape(addr);
    assert!((now["mosquitto_sessions_offline"] - 1.0).abs() < 0.5 && (now["mosquitto_sessions"] - 3.0).abs() < 0.5);
}

#[test]
fn peers_of_the_page_are_no_clients() {
    let (broker, addr) = start("");
    let mut client = Client::connect(broker.addr(), 4, "one");
    client.ping();
    let first = scrape(addr);
    let idle: Vec<TcpStream> = (0..5).map(|_| open(addr)).collect();
    for _ in 0..20 {
        ask(addr, HEALTH.as_bytes());
    }
    let second = scrape(addr);
    for name in ["sockets_open", "sockets_accepted_total", "received_bytes_total", "sent_bytes_total", "waiting_bytes"]
    {
        let name = format!("mosquitto_{name}");
        assert_eq!(first[&name].to_bits(), second[&name].to_bits(), "{name}");
    }
    let own = format!("mosquitto_listener_connections{{listener=\"{}\"}}", addr.port());
    assert!(second[&own] >= 6.0, "{} open", second[&own]);
    drop(idle);
    // Nobody who looks every few seconds fills the log.
    client.ping();
    let log = broker.log_text();
    let port = format!("on port {}.", addr.port());
    let noisy = log.lines().filter(|line| line.contains("New connection") && line.contains(&port));
    assert_eq!(noisy.count(), 0, "{log}");
}

#[cfg(feature = "sys-tree")]
#[test]
fn the_page_and_sys_tell_the_same() {
    let (broker, addr) = start("sys_interval 1");
    let mut client = Client::connect(broker.addr(), 4, "watch");
    for _ in 0..7 {
        client.send(&publish(4, 0, "nobody", 0, b"12345"));
    }
    client.ping();
    let page = scrape(addr);
    for (topic, name, value) in [
        ("publish/messages/received", "publishes_received_total", 7.0),
        ("publish/bytes/received", "publish_received_bytes_total", 35.0),
        ("connections/socket/count", "sockets_accepted_total", page["mosquitto_sockets_accepted_total"]),
        ("subscriptions/count", "subscriptions", 0.0),
    ] {
        assert!((page[&format!("mosquitto_{name}")] - value).abs() < 0.5, "{name}");
        // Each on a connection of its own, which adds to no counter in this list but the sockets; those rise by what
        // the page shows later.
        let mut reader = Client::connect(broker.addr(), 4, &format!("sys-{name}"));
        reader.send(&subscribe(4, 1, &format!("$SYS/broker/{topic}"), 0));
        reader.expect(&[0x90, 3, 0, 1, 0]);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            assert!(Instant::now() < deadline, "$SYS never shows what the page shows for {name}");
            let packet = reader.packet();
            let text = String::from_utf8_lossy(&packet).into_owned();
            let told = text.rsplit_once(topic).expect("the topic").1.parse::<f64>().expect("a number");
            if (told - scrape(addr)[&format!("mosquitto_{name}")]).abs() < 0.5 {
                break;
            }
        }
    }
}

#[test]
fn health_is_ok_until_the_memory_limit() {
    let (_broker, addr) = start("");
    assert_eq!(body(&ask(addr, HEALTH.as_bytes())), "ok");
    let (_broker, addr) = start("memory_limit 1");
    let answer = ask(addr, HEALTH.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n") && answer.contains("memory_limit"), "{answer}");
    scrape(addr);
}

#[test]
fn without_a_host_the_page_is_for_this_machine_only() {
    let (broker, addr) = start("");
    ask(addr, HEALTH.as_bytes());
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], addr.port()));
    assert!(TcpStream::connect_timeout(&elsewhere, LIMIT).is_err(), "every address is open");
    let v6: SocketAddr = format!("[::1]:{}", addr.port()).parse().expect("an address");
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        assert_eq!(body(&ask(v6, HEALTH.as_bytes())), "ok");
    } else {
        note("no IPv6 here: ::1 is not tried");
    }
    broker.wait_for_log(&format!("Opening ipv4 listen socket on port {}.", addr.port()), LIMIT);
    // A host that is given counts.
    let port = free_port();
    let broker = Broker::start_with(&format!("listener {port} 127.0.0.2\nprotocol metrics"));
    broker.wait_for_log(RUNNING, LIMIT);
    assert_eq!(body(&ask(SocketAddr::from(([127, 0, 0, 2], port)), HEALTH.as_bytes())), "ok");
}

#[test]
fn the_page_is_there_for_whoever_wants_to_know_why_clients_are_turned_away() {
    let port = free_port();
    let broker = Broker::start_with(&format!("global_max_connections 1\nlistener {port}\nprotocol metrics"));
    broker.wait_for_log(RUNNING, LIMIT);
    let page = SocketAddr::from(([127, 0, 0, 1], port));
    let _readers: Vec<_> = (0..3).map(|_| open(page)).collect();
    // Those who read the page take no client's place.
    let deadline = Instant::now() + LIMIT;
    let mut client = loop {
        let mut client = Client::open(broker.addr());
        client.send(&connect(4, "c"));
        if client.recv(4).is_ok() {
            break client;
        }
        assert!(Instant::now() < deadline, "the connection of the start is gone");
    };
    Client::open(broker.addr()).expect_closed();
    let mut reader = open(page);
    reader.write_all(HEALTH.as_bytes()).unwrap();
    assert!(rest(&reader).ends_with("ok"));
    client.ping();
}

#[test]
fn max_connections_counts_on_the_page_too() {
    let port = free_port();
    let broker = Broker::start_with(&format!("listener {port}\nprotocol metrics\nmax_connections 2"));
    broker.wait_for_log(RUNNING, LIMIT);
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let (first, second) = (open(addr), open(addr));
    let third = open(addr);
    assert_eq!(rest(&third), "");
    broker.wait_for_log("denied: max_connections exceeded.", LIMIT);
    drop((first, second));
    let deadline = Instant::now() + LIMIT;
    while TcpStream::connect(addr)
        .and_then(|mut s| {
            s.write_all(HEALTH.as_bytes())?;
            let mut answer = String::new();
            s.read_to_string(&mut answer).map(|_| !answer.ends_with("ok"))
        })
        .unwrap_or(true)
    {
        assert!(Instant::now() < deadline, "the places are not free again");
    }
}

#[test]
fn hostile_requests_are_refused_and_nobody_else_notices() {
    let (broker, addr) = start("");
    let mut client = Client::connect(broker.addr(), 5, "bystander");
    let huge_head = [b"GET /metrics HTTP/1.1\r\nHost: a\r\nA: ".to_vec(), vec![b'x'; 1 << 20]].concat();
    let huge_body =
        [b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n".to_vec(), vec![b'x'; 300_000]];
    let many = [PAGE; 1000].concat();
    let chunked = b"GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
    for (bytes, status) in [
        (connect(5, "lost"), "400"),
        ((0..=255).cycle().take(3000).collect(), "400"),
        (b"\r\n\r\n\r\n\0".to_vec(), "400"),
        (b"GET /metrics HTTP/1.1\r\n\r\n".to_vec(), "400"),
        (chunked.to_vec(), "400"),
        (b"DELETE /metrics HTTP/1.0\r\n\r\n".to_vec(), "405"),
        (b"GET /etc/passwd HTTP/1.0\r\n\r\n".to_vec(), "404"),
        (huge_body.concat(), "405"),
        (many.clone().into_bytes(), "200"),
        (b"GET http://elsewhere/metrics HTTP/1.0\r\n\r\n".to_vec(), "200"),
        (b"GET /metrics HTTP/1.0\n\n".to_vec(), "200"),
    ] {
        let answer = ask(addr, &bytes);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "one answer to one connection");
    }
    // Whoever sends a megabyte may be cut off before it has read the answer, but not before it was sent.
    let mut stream = open(addr);
    let _cut_off = stream.write_all(&huge_head);
    let mut start = [0; 12];
    if stream.read_exact(&mut start).is_ok() {
        assert_eq!(&start, b"HTTP/1.1 431");
    }
    for end in [0, 1, 5, PAGE.len() - 1, PAGE.len()] {
        let mut stream = open(addr);
        stream.write_all(&PAGE.as_bytes()[..end]).expect("taken");
        drop(stream);
    }
    let mut drip = open(addr);
    for byte in PAGE.bytes() {
        drip.write_all(&[byte]).expect("taken");
    }
    check(body(&rest(&drip))).expect("a good page");
    client.ping();
    let text = broker.log_text();
    assert!(!text.contains("passwd") && !text.contains("elsewhere"), "the peer's words are in the log");
}

#[test]
fn who_has_said_everything_still_gets_the_answer() {
    let (_broker, addr) = start("");
    for _ in 0..50 {
        let mut stream = open(addr);
        stream.write_all(PAGE.as_bytes()).expect("taken");
        stream.shutdown(Shutdown::Write).expect("half a close");
        check(body(&rest(&stream))).expect("a whole page");
    }
}

#[test]
fn a_flood_of_requests_holds_up_nobody() {
    let (broker, addr) = start("");
    let mut client = Client::connect(broker.addr(), 4, "calm");
    let mut streams: Vec<TcpStream> = (0..500).map(|_| open(addr)).collect();
    for stream in &mut streams {
        stream.write_all(PAGE.as_bytes()).expect("taken");
    }
    client.ping();
    for stream in &streams {
        check(body(&rest(stream))).expect("a whole page");
    }
    client.ping();
}

#[test]
fn who_asks_for_nothing_goes_after_ten_seconds() {
    let (broker, addr) = start("");
    let begun = Instant::now();
    let silent = open(addr);
    let mut slow = open(addr);
    slow.write_all(b"GET /metrics HT").expect("taken");
    assert_eq!(rest(&silent), "");
    assert!(begun.elapsed() >= Duration::from_millis(9500), "{:?}", begun.elapsed());
    assert!(rest(&slow).starts_with("HTTP/1.1 408 "));
    assert!(begun.elapsed() < Duration::from_secs(14), "{:?}", begun.elapsed());
    broker.wait_for_log("exceeded timeout", LIMIT);
}

/// The parser of the Prometheus project, from `target/venv`, or `None` after saying why not.
fn parser() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let python = target.join("venv/bin/python");
    let found = Command::new(&python).args(["-c", "import prometheus_client.parser"]).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        note(&format!("no prometheus_client for {}: tests/interop/setup.sh installs it", python.display()));
        return None;
    }
    Some(python)
}

#[test]
fn the_parser_of_prometheus_takes_the_page() {
    let Some(python) = parser() else { return };
    let (broker, addr) = start("");
    Client::connect(broker.addr(), 4, "somebody").ping();
    let answer = ask(addr, PAGE.as_bytes());
    let page = body(&answer);
    let script = "
import sys
from prometheus_client.parser import text_string_to_metric_families as families
for family in families(sys.stdin.read()):
    assert family.documentation and family.type in ('counter', 'gauge'), family
    for sample in family.samples:
        print(sample.name, family.type, sample.labels, int(sample.value))
";
    let mut child = Command::new(&python)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    child.stdin.take().expect("a pipe").write_all(page.as_bytes()).expect("the page is taken");
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success());
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(lines.lines().count(), check(page).expect("a good page").len(), "{lines}");
    for line in [
        "mosquitto_connects_received_total counter {} 1",
        &format!("mosquitto_info gauge {{'version': '{}'}} 1", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(lines.lines().any(|l| l == line), "{line}\n{lines}");
    }
}
