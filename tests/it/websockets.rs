//! MQTT over WebSockets from the outside: the upgrade, frames, the end of a connection, files, and clients that others
//! wrote: MQTT.js in Node and in a browser. `tests/interop/setup.sh` gets those that are not there.

use std::fs;
#[cfg(feature = "tls")]
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::broker::{Broker, free_port, note, wait_exit};
use crate::client::{Client, LIMIT, Missing, connect, connect_with, publish, string, subscribe};

const FIELDS: &str = "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// A broker whose second listener has WebSockets; the lines belong to that one.
struct Served {
    broker: Broker,
    addr: SocketAddr,
}

fn serve(lines: &str) -> Served {
    serve_with("", lines)
}

/// The same with lines above the listener.
fn serve_with(global: &str, lines: &str) -> Served {
    let port = free_port();
    let lines = format!("{global}\nlistener {port} 127.0.0.1\nprotocol websockets\n{lines}");
    let broker = Broker::start_with(&lines);
    // By then the second listener is open too.
    broker.wait_for_log(&format!("Listener {port} on "), LIMIT);
    Served { broker, addr: SocketAddr::from(([127, 0, 0, 1], port)) }
}

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(0x80 | u8::try_from(short).expect("short")),
        medium @ 126..=65535 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(medium).expect("medium").to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A client that speaks WebSocket by hand.
struct WsClient {
    raw: Client,
    /// What came in binary frames and was not read yet.
    data: Vec<u8>,
}

impl WsClient {
    fn open(addr: SocketAddr) -> WsClient {
        WsClient::open_with(addr, "")
    }

    /// With these further fields in the request.
    fn open_with(addr: SocketAddr, fields: &str) -> WsClient {
        let mut raw = Client::open(addr);
        raw.send(format!("GET /mqtt HTTP/1.1\r\n{FIELDS}{fields}Sec-WebSocket-Protocol: mqtt\r\n\r\n").as_bytes());
        raw.expect(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
        );
        WsClient { raw, data: Vec::new() }
    }

    /// With CONNECT and its answer.
    fn connect(addr: SocketAddr, version: u8, client_id: &str) -> WsClient {
        let mut client = WsClient::open(addr);
        client.send(&connect(version, client_id));
        let ack = client.packet();
        assert!(ack[0] == 0x20 && ack[3] == 0, "CONNACK {ack:02X?}");
        client
    }

    /// Sends packets in one frame.
    fn send(&mut self, packets: &[u8]) {
        self.raw.send(&frame(0x82, packets));
    }

    /// One frame of the broker: its first byte and its payload.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.raw.recv(2).expect("a frame");
        let len = match head[1] {
            short @ 0..=125 => usize::from(short),
            126 => {
                let len = self.raw.recv(2).expect("a length");
                let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
                assert!(len > 125, "the shortest form");
                len
            }
            127 => {
                let len = self.raw.recv(8).expect("a length");
                let len = usize::try_from(u64::from_be_bytes(len.try_into().expect("8 bytes"))).expect("a length");
                assert!(len > 65535, "the shortest form");
                len
            }
            _ => panic!("a masked frame"),
        };
        (head[0], self.raw.recv(len).expect("a payload"))
    }

    /// So many bytes from binary frames.
    fn recv(&mut self, n: usize) -> Vec<u8> {
        while self.data.len() < n {
            let (first, payload) = self.frame();
            assert_eq!(first, 0x82, "a whole binary frame");
            assert!(!payload.is_empty());
            self.data.extend(payload);
        }
        self.data.drain(..n).collect()
    }

    /// One packet.
    fn packet(&mut self) -> Vec<u8> {
        let mut packet = self.recv(2);
        let (mut len, mut shift) = (usize::from(packet[1] & 0x7F), 7);
        while packet.last().is_some_and(|byte| byte & 0x80 != 0) {
            let byte = self.recv(1)[0];
            len |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            packet.push(byte);
        }
        packet.extend(self.recv(len));
        packet
    }

    fn ping(&mut self) {
        self.send(&[0xC0, 0]);
        assert_eq!(self.packet(), [0xD0, 0]);
    }

    /// Expects a close frame with this code, then the end of the connection.
    fn expect_close(&mut self, code: u16) {
        assert_eq!(self.frame(), (0x88, code.to_be_bytes().to_vec()));
        self.raw.expect_closed();
    }
}

/// Sends a request and reads the whole answer: its head and its body.
fn request(addr: SocketAddr, text: &str) -> (String, Vec<u8>) {
    let mut client = Client::open(addr);
    client.send(text.as_bytes());
    answer(&mut client)
}

fn answer(client: &mut Client) -> (String, Vec<u8>) {
    let Err(Missing::Closed(bytes)) = client.recv(64 << 20) else { panic!("no end") };
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    (String::from_utf8(bytes[..end].to_vec()).expect("text"), bytes[end + 4..].to_vec())
}

/// [MQTT-6.0.0-2]
#[test]
fn packets_may_span_and_share_frames() {
    let served = serve("");
    for version in [3, 4, 5] {
        let mut client = WsClient::connect(served.addr, version, "a");
        client.send(&[subscribe(version, 1, "t", 0), vec![0xC0, 0], publish(version, 0, "t", 0, b"x")].concat());
        assert_eq!(client.packet()[0], 0x90);
        assert_eq!(client.packet(), [0xD0, 0]);
        assert_eq!(client.packet(), publish(version, 0, "t", 0, b"x"));
        // One packet in many frames and fragments, with control frames between.
        let long = publish(version, 0, "t", 0, &[7; 300]);
        client.raw.send(&frame(0x02, &long[..1]));
        client.raw.send(&frame(0x89, b"still there?"));
        client.raw.send(&frame(0x00, &long[1..3]));
        client.raw.send(&frame(0x8A, b"nobody asked"));
        client.raw.send(&frame(0x80, b""));
        for byte in frame(0x82, &long[3..]) {
            client.raw.send(&[byte]);
        }
        assert_eq!(client.frame(), (0x8A, b"still there?".to_vec()));
        assert_eq!(client.packet(), long);
        client.send(&[0xE0, 0]);
        client.expect_close(1000);
    }
}

#[test]
fn frames_of_every_size_go_both_ways() {
    let served = serve("");
    let mut client = WsClient::connect(served.addr, 4, "sizes");
    client.send(&subscribe(4, 1, "t", 0));
    client.packet();
    for size in [0, 1, 125, 126, 127, 65535, 65536, 200_000] {
        // The frame has this size when the packet is cut there.
        let packet = publish(4, 0, "t", 0, &vec![9; size + 10]);
        client.raw.send(&frame(0x82, &packet[..size]));
        client.raw.send(&frame(0x82, &packet[size..]));
        assert_eq!(client.packet(), packet, "{size}");
        // The answer is a frame of this size, when that is large enough for a packet.
        for head in 5..8 {
            let Some(payload) = size.checked_sub(head) else { continue };
            let packet = publish(4, 0, "t", 0, &vec![8; payload]);
            if packet.len() == size {
                client.send(&packet);
                assert_eq!(client.frame(), (0x82, packet));
            }
        }
    }
    client.ping();
}

/// Among them text [MQTT-6.0.0-1].
#[test]
fn frames_that_break_a_rule_end_the_connection_with_their_code() {
    let served = serve("");
    let unmasked = vec![0x82, 2, 0xC0, 0];
    let ping = |payload: &[u8]| frame(0x89, payload);
    let head = |bytes: &[u8]| [bytes, &[0; 4]].concat();
    let cases: [(&str, Vec<u8>, u16); 22] = [
        ("text", frame(0x81, b"hello"), 1003),
        ("text, fragmented", frame(0x01, b"hello"), 1003),
        ("not masked", unmasked, 1002),
        ("reserved bit 1", frame(0xC2, &[0xC0, 0]), 1002),
        ("reserved bit 2", frame(0xA2, &[0xC0, 0]), 1002),
        ("reserved bit 3 of a ping", frame(0x99, b""), 1002),
        ("opcode 3", frame(0x83, b""), 1002),
        ("opcode 7", frame(0x87, b"x"), 1002),
        ("opcode 11", frame(0x8B, b""), 1002),
        ("opcode 15", frame(0x8F, b"x"), 1002),
        ("continuation of nothing", frame(0x80, &[0xC0, 0]), 1002),
        ("continuation after the end", [frame(2, &[0xC0]), frame(0x80, &[0]), frame(0, b"x")].concat(), 1002),
        ("a message within a message", [frame(2, b""), frame(0x82, b"")].concat(), 1002),
        ("a ping in fragments", frame(0x09, b"x"), 1002),
        ("a ping of 126 bytes", ping(&[b'x'; 126]), 1002),
        ("126 for 125 bytes", head(&[0x82, 0xFE, 0, 125]), 1002),
        ("127 for 65535 bytes", head(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]), 1002),
        ("a length of 64 bits", head(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]), 1002),
        ("a close with half a code", frame(0x88, &[3]), 1002),
        ("a close with a code that is never sent", frame(0x88, &1005u16.to_be_bytes()), 1002),
        ("a close with code 999", frame(0x88, &999u16.to_be_bytes()), 1002),
        ("a close with a reason that is no text", frame(0x88, &[0x03, 0xE8, 0xC3]), 1002),
    ];
    for (name, bytes, code) in cases {
        for bytewise in [false, true] {
            let mut client = WsClient::connect(served.addr, 5, "bad");
            let mark = served.broker.log_mark();
            if bytewise {
                bytes.iter().for_each(|byte| client.raw.send(&[*byte]));
            } else {
                client.raw.send(&bytes);
            }
            if name == "continuation after the end" {
                assert_eq!(client.packet(), [0xD0, 0]);
            }
            assert_eq!(client.frame(), (0x88, code.to_be_bytes().to_vec()), "{name}");
            client.raw.expect_closed();
            served.broker.wait_for_log_after(mark, "disconnected: Protocol error.", LIMIT);
        }
    }
}

#[test]
fn pings_are_answered_whatever_their_size_and_number() {
    let served = serve("");
    let mut client = WsClient::connect(served.addr, 4, "pings");
    for size in [0, 1, 124, 125] {
        client.raw.send(&frame(0x89, &vec![b'p'; size]));
        assert_eq!(client.frame(), (0x8A, vec![b'p'; size]));
    }
    // Many at once: the last is answered, and most of the others need not be.
    let many: Vec<u8> = (0..1000u16).flat_map(|n| frame(0x89, &n.to_be_bytes())).collect();
    client.raw.send(&many);
    let mut last = client.frame();
    while last.1 != 999u16.to_be_bytes() {
        assert_eq!(last.0, 0x8A);
        last = client.frame();
    }
    client.ping();
}

#[test]
fn who_does_not_read_pongs_gets_few() {
    let served = serve("");
    let mut client = WsClient::connect(served.addr, 4, "deaf");
    client.ping();
    let before = served.broker.memory();
    let many = frame(0x89, &[b'x'; 125]).repeat(2000);
    for _ in 0..100 {
        client.raw.send(&many);
    }
    let mut other = WsClient::connect(served.addr, 4, "other");
    other.ping();
    let grown = served.broker.memory().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more for pongs that nobody reads");
}

#[test]
fn a_close_is_answered_with_its_code_after_what_came_before() {
    let served = serve("");
    for (payload, code) in [(&b""[..], 1000), (&[0x03, 0xE8], 1000), (&[0x0F, 0xA0, b'b', b'y', b'e'], 4000)] {
        let mut client = WsClient::connect(served.addr, 5, "closes");
        client.raw.send(&[frame(0x82, &[0xC0, 0]), frame(0x88, payload), frame(0x82, &[0xC0, 0])].concat());
        assert_eq!(client.packet(), [0xD0, 0]);
        client.expect_close(code);
    }
    served.broker.wait_for_log("disconnected: connection closed by client.", LIMIT);
}

#[test]
fn the_will_of_a_client_that_closes_without_disconnect_is_published() {
    let served = serve("");
    let mut watcher = Client::connect(served.broker.addr(), 4, "watcher");
    watcher.send(&subscribe(4, 1, "w", 0));
    watcher.packet();
    for end in [frame(0x88, &[0x03, 0xE8]), frame(0x81, b"text")] {
        let mut client = WsClient::open(served.addr);
        client.send(&connect_with(4, 0x06, 60, &[], &[&string("gone"), &string("w"), &string("bye")]));
        assert_eq!(client.packet(), [0x20, 2, 0, 0]);
        client.raw.send(&end);
        watcher.expect(&publish(4, 0, "w", 0, b"bye"));
    }
}

#[test]
fn the_broker_says_why_it_closes() {
    let mut served = serve_with("max_packet_size 1000", "");
    let mut first = WsClient::connect(served.addr, 5, "twin");
    let mut second = WsClient::connect(served.addr, 5, "twin");
    assert_eq!(first.packet(), [0xE0, 1, 0x8E], "session taken over");
    first.expect_close(1000);
    second.send(&publish(5, 0, "t", 0, &[0; 2000]));
    assert_eq!(second.packet(), [0xE0, 1, 0x95], "packet too large");
    second.expect_close(1009);
    let mut unknown = WsClient::open(served.addr);
    unknown.send(b"\x10\x04\0\x02XX");
    assert_eq!(unknown.frame().0, 0x88);
    let mut last = WsClient::connect(served.addr, 5, "last");
    served.broker.signal("TERM");
    assert_eq!(last.packet(), [0xE0, 1, 0x8B], "server shutting down");
    last.expect_close(1001);
    assert!(served.broker.wait_exit().success());
}

#[test]
fn upgrades_that_are_none_get_a_short_answer() {
    let served = serve_with("websockets_headers_size 1000", "websockets_origin https://good.example");
    let long = format!("{FIELDS}X: {}\r\nSec-WebSocket-Protocol: mqtt\r\n", "x".repeat(1000));
    let upgrade = |fields: &str| format!("GET /mqtt HTTP/1.1\r\n{FIELDS}{fields}\r\n");
    for (text, status, field) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "404 Not Found", ""),
        (upgrade(""), "400 Bad Request", ""),
        (upgrade("Sec-WebSocket-Protocol: m\r\n"), "400 Bad Request", ""),
        (
            upgrade("Sec-WebSocket-Protocol: mqtt\r\n").replace(": 13", ": 8"),
            "426 Upgrade Required",
            "Sec-WebSocket-Version: 13",
        ),
        (upgrade("Sec-WebSocket-Protocol: mqtt\r\n").replace("GET", "POST"), "405 Method Not Allowed", "Allow: GET"),
        (upgrade("Origin: https://good.example.evil\r\nSec-WebSocket-Protocol: mqtt\r\n"), "403 Forbidden", ""),
        (format!("GET / HTTP/1.1\r\n{long}\r\n"), "431 Request Header Fields Too Large", ""),
        ("\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0\r\n".to_owned(), "400 Bad Request", ""),
        ("\x16\x03\x01\x02\0".to_owned(), "400 Bad Request", ""),
    ] {
        let mark = served.broker.log_mark();
        let (head, body) = request(served.addr, &text);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{text:?}: {head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())) && !body.is_empty(), "{head}");
        assert!(head.contains(field) && head.ends_with("Connection: close"), "{head}");
        let line = if status.starts_with("403") {
            "disconnected: non-matching http origin."
        } else {
            "disconnected: bad socket read/write: Unknown error"
        };
        served.broker.wait_for_log_after(mark, line, LIMIT);
    }
    WsClient::open_with(served.addr, "Origin: https://good.example\r\n");
    WsClient::connect(served.addr, 4, "no-origin");
}

/// [MQTT-6.0.0-3], [MQTT-6.0.0-4]
#[test]
fn the_first_known_sub_protocol_of_any_line_is_taken() {
    let served = serve("");
    for (fields, protocol) in [
        ("Sec-WebSocket-Protocol: mqtt, mqttv3.1\r\n", "mqtt"),
        ("Sec-WebSocket-Protocol: chat\r\nsec-websocket-protocol:mqttv3.1,mqtt\r\n", "mqttv3.1"),
    ] {
        let mut client = Client::open(served.addr);
        // In pieces, and with a frame right behind it.
        for piece in format!("GET / HTTP/1.1\r\n{FIELDS}{fields}\r\n").as_bytes().chunks(7) {
            client.send(piece);
        }
        client.send(&frame(0x82, &connect(4, "sub")));
        let end = format!("Sec-WebSocket-Protocol: {protocol}\r\n\r\n");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(client.recv(1).expect("an answer"));
        }
        assert!(head.ends_with(end.as_bytes()), "{}", String::from_utf8_lossy(&head));
        client.expect(&[0x82, 4, 0x20, 2, 0, 0]);
    }
}

#[test]
fn origins_follow_a_reload() {
    let served = serve("websockets_origin https://a");
    let ask = |origin: &str| {
        let mut client = Client::open(served.addr);
        let text = format!("GET / HTTP/1.1\r\n{FIELDS}Origin: {origin}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n");
        client.send(text.as_bytes());
        String::from_utf8(client.recv(12).expect("a status")).expect("text")
    };
    assert_eq!([ask("https://a"), ask("https://b")], ["HTTP/1.1 101", "HTTP/1.1 403"]);
    let mut stays = WsClient::connect(served.addr, 4, "stays");
    let port = served.addr.port();
    let lines = format!("listener {port} 127.0.0.1\nprotocol websockets\nwebsockets_origin https://b");
    served.broker.write_config(&lines);
    served.broker.signal("HUP");
    let deadline = Instant::now() + LIMIT;
    while ask("https://b") != "HTTP/1.1 101" {
        assert!(Instant::now() < deadline, "no reload");
    }
    assert_eq!(ask("https://a"), "HTTP/1.1 403");
    stays.ping();
}

#[test]
fn a_proxy_on_this_machine_says_who_the_client_is() {
    let served = serve("");
    for (fields, address) in [
        ("X-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9:"),
        ("X-Forwarded-For: 198.51.100.1, 203.0.113.8\r\n", "203.0.113.8:"),
        ("X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: [2001:db8::7]:4711\r\n", "2001:db8::7:4711"),
        ("X-Forwarded-For: nonsense\r\n", "127.0.0.1:"),
    ] {
        let mark = served.broker.log_mark();
        let mut client = WsClient::open_with(served.addr, fields);
        client.send(&connect(4, "behind"));
        assert_eq!(client.packet(), [0x20, 2, 0, 0]);
        served.broker.wait_for_log_after(mark, &format!("New client connected from {address}"), LIMIT);
    }
}

/// A directory of files for a broker, with something beside it that is nobody's business.
struct Site(PathBuf);

impl Site {
    fn new(name: &str) -> Site {
        let top = std::env::temp_dir().join(format!("mosquitto-site-{name}-{}", std::process::id()));
        fs::create_dir_all(top.join("www/sub")).expect("a directory");
        let site = Site(top);
        fs::write(site.0.join("secret.txt"), "secret").expect("a file");
        site.write("index.html", b"<p>top");
        site.write("sub/index.html", b"<p>sub");
        site.write("a b.js", b"1");
        site
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.www().join(name), content).expect("a file");
    }

    fn www(&self) -> PathBuf {
        self.0.join("www")
    }

    fn serve(&self) -> Served {
        serve(&format!("http_dir {}", self.www().display()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_are_served_and_nothing_else() {
    let site = Site::new("files");
    fs::create_dir(site.www().join("empty")).expect("a directory");
    site.write("nothing", b"");
    std::os::unix::fs::symlink("../secret.txt", site.www().join("link.txt")).expect("a link");
    std::os::unix::fs::symlink("sub/index.html", site.www().join("inside.html")).expect("a link");
    let served = site.serve();
    for (line, status, kind, body) in [
        ("GET /", "200", "text/html; charset=utf-8", "<p>top"),
        ("GET /index.html?a=b", "200", "text/html; charset=utf-8", "<p>top"),
        ("GET /sub/", "200", "text/html; charset=utf-8", "<p>sub"),
        ("GET /inside.html", "200", "text/html; charset=utf-8", "<p>sub"),
        ("GET /a%20b.js", "200", "text/javascript; charset=utf-8", "1"),
        ("GET /nothing", "200", "application/octet-stream", ""),
        ("HEAD /", "200", "text/html; charset=utf-8", ""),
        ("GET /sub", "301", "", ""),
        ("GET /empty/", "404", "", "There is nothing here.\n"),
        ("GET /missing", "404", "", "There is nothing here.\n"),
        ("HEAD /missing", "404", "", ""),
        ("GET /index.html/", "404", "", "There is nothing here.\n"),
        ("GET /link.txt", "404", "", "There is nothing here.\n"),
        ("GET /../secret.txt", "404", "", "There is nothing here.\n"),
        ("GET /sub/..%2f..%2Fsecret.txt", "404", "", "There is nothing here.\n"),
        ("GET /%2e%2e/secret.txt", "404", "", "There is nothing here.\n"),
        ("GET //etc/passwd", "404", "", "There is nothing here.\n"),
        ("POST /", "405", "", "Not with this method.\n"),
    ] {
        let (head, got) = request(served.addr, &format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {head}");
        assert_eq!(String::from_utf8_lossy(&got), body, "{line}");
        assert!(head.contains(&format!("Content-Type: {kind}")) || kind.is_empty(), "{line}: {head}");
        if line.starts_with("GET") || status == "405" {
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", got.len())), "{line}: {head}");
        }
    }
    let (head, _) = request(served.addr, "HEAD / HTTP/1.0\r\n\r\n");
    assert!(head.contains("\r\nContent-Length: 6\r\n"), "{head}");
    // The same listener has WebSockets too.
    WsClient::connect(served.addr, 4, "beside").ping();
}

#[test]
fn large_files_are_never_in_memory_as_a_whole() {
    let site = Site::new("large");
    let content: Vec<u8> = (0..40_000_000u32).map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)]).collect();
    site.write("large.bin", &content);
    let served = site.serve();
    let before = served.broker.memory();
    let mut slow: Vec<Client> = (0..4).map(|_| Client::open(served.addr)).collect();
    for client in &mut slow {
        client.send(b"GET /large.bin HTTP/1.1\r\nHost: h\r\n\r\n");
        client.recv(1000).expect("a part");
    }
    let mut other = WsClient::connect(served.addr, 4, "meanwhile");
    other.ping();
    let grown = served.broker.memory().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more while four slow readers have begun");
    let (head, got) = request(served.addr, "GET /large.bin HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(head.contains("Content-Length: 40000000") && got == content, "{head}, {} bytes", got.len());
    // The others have their own place in the file.
    for client in &mut slow {
        let Err(Missing::Closed(rest)) = client.recv(64 << 20) else { panic!("no end") };
        assert!(content.ends_with(&rest) && rest.len() > content.len() - 2000, "{} bytes", rest.len());
    }
}

/// Where `tests/interop/setup.sh` puts the client for JavaScript, or `None` after saying why not.
fn mqtt_js() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let module = target.join("npm/node_modules/mqtt");
    if !module.join("dist/mqtt.min.js").exists() {
        note(&format!("MQTT.js skipped: no {} (tests/interop/setup.sh makes it)", module.display()));
        return None;
    }
    Some(module)
}

/// Whether this program can be started; says so when not.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.as_ref().is_ok_and(std::process::ExitStatus::success) {
        note(&format!("MQTT.js skipped: no {program}"));
        return false;
    }
    true
}

/// Runs every case of `mqttjs_cases.cjs` against this address.
fn run_in_node(module: &Path, url: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/mqttjs_cases.cjs");
    let mut child = Command::new("node")
        .args([Path::new(script), module])
        .arg(url)
        // The certificate is its own authority.
        .env("NODE_TLS_REJECT_UNAUTHORIZED", "0")
        .env("NODE_NO_WARNINGS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node");
    let status = wait_exit(&mut child, Duration::from_secs(30));
    let _ = child.kill();
    let output = child.wait_with_output().expect("its output");
    assert!(status.is_some_and(|status| status.success()), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn mqtt_js_in_node() {
    let Some(module) = mqtt_js().filter(|_| has("node")) else { return };
    let served = serve("");
    run_in_node(&module, &format!("ws://{}/mqtt", served.addr));
}

/// A listener with TLS and files, if there is a tool that makes a certificate.
#[cfg(feature = "tls")]
fn serve_tls(site: &Site) -> Option<Served> {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=localhost",
        ])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "30", "-keyout", "key", "-out", "cert"])
        .current_dir(&site.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !made.as_ref().is_ok_and(std::process::ExitStatus::success) {
        note("WebSockets over TLS skipped: no openssl");
        return None;
    }
    let _ = Command::new("chmod").arg("644").arg(site.0.join("key")).status();
    let [cert, key] = ["cert", "key"].map(|name| site.0.join(name).display().to_string());
    Some(serve(&format!("http_dir {}\ncertfile {cert}\nkeyfile {key}", site.www().display())))
}

#[cfg(feature = "tls")]
#[test]
fn mqtt_js_in_node_over_tls() {
    let site = Site::new("node-tls");
    let Some(module) = mqtt_js().filter(|_| has("node")) else { return };
    let Some(served) = serve_tls(&site) else { return };
    run_in_node(&module, &format!("wss://{}/mqtt", served.addr));
}

#[cfg(feature = "tls")]
#[test]
fn files_over_tls() {
    let site = Site::new("files-tls");
    let content: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)]).collect();
    site.write("large.bin", &content);
    let Some(served) = serve_tls(&site) else { return };
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &served.addr.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    let mut stdin = client.stdin.take().expect("a pipe");
    stdin.write_all(b"GET /large.bin HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request");
    let output = client.wait_with_output().expect("its output");
    drop(stdin);
    assert!(output.stdout.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(output.stdout.ends_with(&content), "{} bytes", output.stdout.len());
}

/// A page that the broker itself serves connects back to it, publishes and subscribes.
#[test]
fn mqtt_js_in_a_browser() {
    let Some(module) = mqtt_js().filter(|_| has("chromium")) else { return };
    let site = Site::new("browser");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/browser");
    for (from, name) in [(&source, "index.html"), (&source, "page.js"), (&module.join("dist"), "mqtt.min.js")] {
        fs::copy(from.join(name), site.www().join(name)).expect("a file of the page");
    }
    let served = site.serve();
    let mut plain = Client::connect(served.broker.addr(), 4, "observer");
    plain.send(&subscribe(4, 1, "browser/result", 0));
    plain.packet();
    plain.send(&subscribe(4, 2, "browser/answer", 0));
    plain.packet();
    let mut browser = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--no-proxy-server", "--remote-debugging-port=0"])
        .arg(format!("--user-data-dir={}", site.0.join("profile").display()))
        .arg(format!("http://{}/", served.addr))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromium");
    plain.set_limit(Duration::from_secs(60));
    let result = plain.recv(18 + 4).map(|packet| String::from_utf8_lossy(&packet).into_owned());
    let told = result.as_ref().is_ok_and(|text| text.ends_with("browser/resultok 3"));
    if told {
        plain.send(&publish(4, 0, "browser/question", 0, b"how much is it"));
        plain.expect(&publish(4, 0, "browser/answer", 0, b"how much is it"));
    }
    let _ = browser.kill();
    let _ = browser.wait();
    assert!(told, "{result:?}");
}
