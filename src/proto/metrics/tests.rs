//! Requests and answers without sockets.

use super::*;
use crate::broker::ConnId;
use crate::broker::changes::{self, record::Change};
use crate::config::{Config, Global, Listener};
use crate::proto::{Endpoint, Outbox};
use crate::slab::Key;

const NOW: Now = Now { mono_ms: 1_000_000, wall_s: 1_700_000_000 };

struct World {
    broker: Broker,
    config: Config,
    listener: Listener,
    endpoint: Metrics,
    out: Outbox,
    now: Now,
}

impl World {
    fn new() -> World {
        World::with_settings(Global::default())
    }

    fn with_settings(global: Global) -> World {
        let config = Config { global, ..Config::local_only(&[1883]) };
        World {
            broker: Broker::new(config.global.clone(), [1, 2], NOW),
            config,
            listener: Listener::new(9234, None),
            endpoint: Metrics::new(NOW, Peer::new("127.0.0.1:1".parse().unwrap())),
            out: Outbox::default(),
            now: NOW,
        }
    }

    fn with<R>(&mut self, act: impl FnOnce(&mut Metrics, &mut Turn<'_>) -> R) -> R {
        let World { broker, config, listener, endpoint, out, now } = self;
        let conn = ConnId(Key::from_bits(0));
        act(endpoint, &mut Turn { now: *now, broker, out, conn, config, listener, budget: 4096 })
    }

    fn send(&mut self, bytes: &[u8]) -> Flow {
        let flow = self.with(|endpoint, turn| endpoint.on_bytes(turn, bytes));
        if matches!(flow, Flow::Report) {
            let figures = LoopFigures { listeners: vec![(1883, 3), (9234, 1)], ..LoopFigures::default() };
            self.with(|endpoint, turn| endpoint.report(turn, &figures));
            return Flow::Continue;
        }
        flow
    }

    fn answer(&mut self) -> String {
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let used = self.out.slices(&mut slices);
        let all: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
        self.out.clear();
        String::from_utf8(all).unwrap()
    }

    /// Head and body of the answer to one request on a new connection.
    fn ask(&mut self, request: &str) -> (String, String) {
        self.endpoint = Metrics::new(self.now, self.endpoint.peer);
        assert!(matches!(self.send(request.as_bytes()), Flow::Continue), "{request:?}");
        let answer = self.answer();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request:?} gave {answer:?}"));
        (format!("{head}\r\n"), body.to_owned())
    }
}

#[test]
fn every_request_gets_one_answer_and_the_end() {
    let mut world = World::new();
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(MAX_HEAD));
    for (request, status) in [
        ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK"),
        ("GET /metrics HTTP/1.0\r\n\r\n", "200 OK"),
        ("GET /metrics?name[]=x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", "200 OK"),
        ("GET http://a:1/metrics HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK"),
        ("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK"),
        ("GET /healthz HTTP/1.0\r\n\r\n", "200 OK"),
        ("GET /healthz HTTP/1.0\r\nContent-Length: 0\r\n\r\n", "200 OK"),
        ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK"),
        ("GET /metrics HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 Bad Request"),
        ("GET /metrics HTTP/1.0\r\nContent-Length: 5\r\n\r\nabcde", "400 Bad Request"),
        ("GET /metrics HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 Bad Request"),
        ("\x10\x0e\0\x04MQTT\x05\x02\0\x0a\0\0\x01p", "400 Bad Request"),
        ("\x16\x03\x01\x02\0\x01\0\x01", "400 Bad Request"),
        ("GET / HTTP/1.0\r\n\r\n", "404 Not Found"),
        ("GET /Metrics HTTP/1.0\r\n\r\n", "404 Not Found"),
        ("GET /metrics/ HTTP/1.0\r\n\r\n", "404 Not Found"),
        ("GET /metrics/../metrics HTTP/1.0\r\n\r\n", "404 Not Found"),
        ("OPTIONS * HTTP/1.0\r\n\r\n", "404 Not Found"),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde", "405 Method Not Allowed"),
        ("get /metrics HTTP/1.0\r\n\r\n", "405 Method Not Allowed"),
        ("BREW /healthz HTTP/1.0\r\n\r\n", "405 Method Not Allowed"),
        (&long, "431 Request Header Fields Too Large"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 HTTP Version Not Supported"),
    ] {
        let (head, body) = world.ask(request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?} gave {head}");
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        assert_eq!(head.contains("\r\nAllow: GET, HEAD\r\n"), status.starts_with("405"), "{head}");
        let len = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
        if request.starts_with("HEAD") {
            assert!(body.is_empty() && len.parse::<usize>().unwrap() > 2000, "{len}");
        } else {
            assert_eq!(len, body.len().to_string());
        }
        assert_eq!(world.with(|endpoint, _| endpoint.flush()), Flushed::Last);
        world.send(b"GET /metrics HTTP/1.0\r\n\r\n");
        assert!(world.out.is_empty(), "one answer only");
        assert!(world.with(|endpoint, turn| endpoint.close(turn, &CloseReason::Answered)), "time to read it");
    }
}

#[test]
fn a_request_may_come_in_any_pieces() {
    let request = b"\r\nGET /healthz HTTP/1.1\r\nHost: a\r\nX-Y: zzzz\r\n\r\n";
    for size in 1..request.len() {
        let mut world = World::new();
        for piece in request.chunks(size) {
            assert_eq!(world.with(|endpoint, _| endpoint.flush()), Flushed::Enough);
            world.send(piece);
        }
        assert!(world.answer().starts_with("HTTP/1.1 200 OK\r\n"), "pieces of {size}");
    }
}

#[test]
fn a_head_without_end_is_refused_at_the_limit() {
    for byte in [b'x', b'\n', b'\r'] {
        let mut world = World::new();
        world.send(b"GET /metrics HTTP/1.1\r\nA: ");
        for _ in 0..2 * MAX_HEAD {
            world.send(&[byte]);
            assert!(world.endpoint.head.capacity() <= 2 * MAX_HEAD);
        }
        assert!(world.answer().starts_with("HTTP/1.1 4"), "{byte}");
    }
}

#[test]
fn whoever_is_too_slow_goes() {
    for (sent, told, answered) in [
        (&b""[..], "", false),
        (b"GET /metr", "HTTP/1.1 408 Request Timeout\r\n", true),
        (b"GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", true),
    ] {
        let mut world = World::new();
        world.send(sent);
        let limit = if told.contains("200") { ANSWER_MS } else { HEAD_MS };
        assert_eq!(world.endpoint.deadline(), NOW.mono_ms + limit);
        world.now.mono_ms += limit - 1;
        assert!(matches!(world.with(|endpoint, turn| endpoint.on_timer(turn)), Flow::Continue));
        world.now.mono_ms += 1;
        let Flow::Close(reason) = world.with(|endpoint, turn| endpoint.on_timer(turn)) else { panic!("still there") };
        assert_eq!(reason, CloseReason::Timeout);
        assert_eq!(world.with(|endpoint, turn| endpoint.close(turn, &reason)), answered);
        assert!(world.answer().starts_with(told));
    }
}

#[test]
fn health_follows_memory_and_storage() {
    let mut world = World::with_settings(Global { memory_limit: 1000, ..Global::default() });
    let ask = |world: &mut World| {
        let (head, body) = world.ask("GET /healthz HTTP/1.0\r\n\r\n");
        (head.lines().next().unwrap_or_default().to_owned(), body)
    };
    assert_eq!(ask(&mut world), ("HTTP/1.1 200 OK".into(), "ok".into()));
    world.broker.stats.heap = 1001;
    let (status, body) = ask(&mut world);
    assert!(status == "HTTP/1.1 503 Service Unavailable" && body.contains("memory_limit"), "{status} {body}");
    world.broker.stats.heap = 1000;
    world.broker.changes().start_journal();
    let topic = "t".repeat(60_000);
    while world.broker.changes().pending() < changes::CAPACITY {
        world.broker.changes().record(|| Change::Cleared { topic: &topic });
    }
    let (status, body) = ask(&mut world);
    assert!(status == "HTTP/1.1 503 Service Unavailable" && body.contains("storage"), "{status} {body}");
}

#[test]
fn the_page_holds_every_counter() {
    let mut world = World::new();
    world.now.mono_ms += 61_999;
    // Every field by name: a new one does not compile until it is on the page.
    world.broker.stats = crate::broker::stats::Stats {
        sockets: 101,
        connects: 102,
        packets_in: 103,
        packets_out: 104,
        bytes_in: 105,
        bytes_out: 106,
        publishes_in: 107,
        publishes_out: 108,
        publish_bytes_in: 109,
        publish_bytes_out: 110,
        dropped: 111,
        expired_sessions: 112,
        journal_bytes: 121,
        journal_syncs: 122,
        saves: 117,
        saves_failed: 118,
        saved_bytes: 119,
        saved_at_s: 120,
        open_sockets: 113,
        waiting_packets: 114,
        waiting_bytes: 115,
        heap: 116,
        heap_maximum: u64::MAX,
        sn: crate::broker::stats::SnStats {
            sockets: 1,
            active: 201,
            asleep: 202,
            lost: 203,
            packets_in: 204,
            packets_out: 205,
            malformed: 206,
            unknown_client: 207,
            rate_limited: 208,
            unwelcome: 209,
            oversize: 210,
            undeliverable: 211,
            retransmissions: 212,
            qos_minus_one: 213,
        },
    };
    let (head, page) = world.ask("GET /metrics HTTP/1.0\r\n\r\n");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        &format!("info{{version=\"{version}\"}} 1"),
        "start_time_seconds 1700000000",
        "uptime_seconds 61",
        "sessions 0",
        "sessions_connected 0",
        "sessions_offline 0",
        "sessions_expired_total 112",
        "sockets_open 113",
        "sockets_accepted_total 101",
        "connects_received_total 102",
        "packets_received_total 103",
        "packets_sent_total 104",
        "received_bytes_total 105",
        "sent_bytes_total 106",
        "publishes_received_total 107",
        "publishes_sent_total 108",
        "publishes_dropped_total 111",
        "publish_received_bytes_total 109",
        "publish_sent_bytes_total 110",
        "subscriptions 0",
        "shared_subscriptions 0",
        "retained_messages 0",
        "stored_messages 0",
        "stored_bytes 0",
        "waiting_packets 114",
        "waiting_bytes 115",
        "database_saves_total 117",
        "database_saves_failed_total 118",
        "database_written_bytes_total 119",
        "database_saved_time_seconds 120",
        "journal_written_bytes_total 121",
        "journal_syncs_total 122",
        "heap_bytes 116",
        "mqttsn_clients_active 201",
        "mqttsn_clients_asleep 202",
        "mqttsn_clients_lost_total 203",
        "mqttsn_packets_received_total 204",
        "mqttsn_packets_sent_total 205",
        "mqttsn_dropped_malformed_total 206",
        "mqttsn_dropped_unknown_client_total 207",
        "mqttsn_dropped_rate_limited_total 208",
        "mqttsn_dropped_not_allowed_total 209",
        "mqttsn_dropped_oversize_total 210",
        "mqttsn_dropped_undeliverable_total 211",
        "mqttsn_retransmissions_total 212",
        "mqttsn_qos_minus_one_received_total 213",
        "heap_max_bytes 18446744073709551615",
        "listener_connections{listener=\"1883\"} 3",
        "listener_connections{listener=\"9234\"} 1",
    ] {
        assert_eq!(page.lines().filter(|l| *l == format!("mosquitto_{line}")).count(), 1, "{line}\n{page}");
    }
    world.broker.stats.heap = 0;
    assert!(!world.ask("GET /metrics HTTP/1.0\r\n\r\n").1.contains("heap"), "heap is only shown where it is counted");
}

#[test]
fn the_listener_decides_which_endpoint_a_connection_has() {
    let peer = Peer::new("127.0.0.1:1".parse().unwrap());
    for (protocol, client) in [(crate::config::Protocol::Mqtt, true), (crate::config::Protocol::Metrics, false)] {
        let endpoint = Endpoint::new(protocol, NOW, peer);
        assert_eq!((endpoint.is_client(), endpoint.session(), endpoint.is_answering()), (client, None, false));
    }
}
