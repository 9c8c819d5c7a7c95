//! `enable_proxy_protocol`: the header of a proxy before the bytes of the client.

use std::time::Duration;

use crate::broker::{Broker, free_port};
use crate::client::{Client, connect, publish, subscribe};

/// How long a busy machine may take to log a line.
const PATIENT: Duration = Duration::from_secs(10);

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// 1.2.3.4:1000 to 5.6.7.8:1883.
const ADDRESSES: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8, 0x03, 0xE8, 0x07, 0x5B];

fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).expect("short").to_be_bytes(), value].concat()
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).expect("short").to_be_bytes();
    [SIGNATURE, &[command, family], &len, body].concat()
}

/// A header of version 2 that says the client used TLS.
fn v2_tls(flags: u8, verify: u8, name: &str) -> Vec<u8> {
    let inner = [
        &[flags, 0, 0, 0, verify][..],
        &field(0x21, b"TLSv1.3"),
        &field(0x23, b"TLS_AES"),
        &field(0x22, name.as_bytes()),
    ];
    v2(0x21, 0x11, &[ADDRESSES, &field(0x20, &inner.concat())].concat())
}

/// A broker whose second listener expects these headers.
fn start(version: u8, more: &str) -> (Broker, std::net::SocketAddr) {
    let port = free_port();
    let broker = Broker::start_with(&format!("listener {port} 127.0.0.1\nenable_proxy_protocol {version}\n{more}"));
    broker.wait_for_log(concat!("mosquitto version ", env!("CARGO_PKG_VERSION"), " running"), PATIENT);
    // Whoever looked whether the broker is there has gone after this.
    drop(Client::connect(broker.addr(), 4, "first"));
    broker.wait_for_log("Client first [", PATIENT);
    (broker, ([127, 0, 0, 1], port).into())
}

/// Sends the pieces one by one and expects CONNACK.
fn enter(addr: std::net::SocketAddr, pieces: &[&[u8]]) -> Client {
    let mut client = Client::open(addr);
    for piece in pieces {
        client.send(piece);
    }
    let ack = client.packet();
    assert_eq!((ack[0], ack[3]), (0x20, 0), "{ack:02X?}");
    client
}

#[test]
fn the_address_of_a_header_takes_the_place_of_the_proxys() {
    let v1 = b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 1883\r\n".to_vec();
    for (version, header) in [(1, v1), (2, v2(0x21, 0x11, ADDRESSES))] {
        let (broker, addr) = start(version, "");
        let mark = broker.log_mark();
        let all = [&header[..], &connect(4, "real"), &subscribe(4, 1, "t", 0)].concat();
        let mut client = enter(addr, &[&all]);
        client.expect(&[0x90, 3, 0, 1, 0]);
        client.send(&publish(4, 0, "t", 0, b"x"));
        client.expect(&publish(4, 0, "t", 0, b"x"));
        client.send(&[0xE0, 0]);
        client.expect_closed();
        broker.wait_for_log_after(mark, "Client real [1.2.3.4:1000] disconnected.", PATIENT);
        let log = broker.log_after(mark);
        assert!(log.contains(&format!("New connection from 1.2.3.4:1000 on port {}.", addr.port())), "{log}");
        assert!(log.contains("New client connected from 1.2.3.4:1000 as real"), "{log}");
        assert!(!log.contains("127.0.0.1"), "{log}");
        // Any split, and byte by byte.
        for at in 1..header.len() + 3 {
            enter(addr, &[&all[..at], &all[at..]]);
        }
        enter(addr, &all.chunks(1).collect::<Vec<_>>());
    }
}

#[test]
fn a_client_that_the_proxy_does_not_know_keeps_the_sockets_address() {
    for (version, header) in [(1, b"PROXY UNKNOWN\r\n".to_vec()), (2, v2(0x21, 0x31, &[0; 216]))] {
        let (broker, addr) = start(version, "");
        let client = enter(addr, &[&header, &connect(5, "unknown")]);
        let port = client.local_port();
        broker.wait_for_log(&format!("New client connected from 127.0.0.1:{port} as unknown"), PATIENT);
    }
}

#[test]
fn nothing_but_a_header_of_the_right_version_is_taken() {
    let v1: &[u8] = b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 1883\r\n";
    let (one, two) = (start(1, ""), start(2, ""));
    let long_line = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
    let long_body = v2(0x21, 0x11, &[0; 501]);
    for ((broker, addr), bad) in [
        (&one, &connect(4, "bare")[..]),
        (&one, &v2(0x21, 0x11, ADDRESSES)),
        (&one, b"PROXY TCP4 1.2.3.4\r\n"),
        (&one, &long_line),
        (&two, &connect(4, "bare")[..]),
        (&two, v1),
        (&two, &long_body),
        (&two, &v2(0x21, 0x12, ADDRESSES)),
    ] {
        let mark = broker.log_mark();
        let mut client = Client::open(*addr);
        client.send(bad);
        client.expect_closed();
        let peer = format!("127.0.0.1:{}", client.local_port());
        broker.wait_for_log_after(mark, &format!("Connection from {peer} rejected, corrupt PROXY header."), PATIENT);
        let ending = format!("Client 127.0.0.1 [{peer}] disconnected: bad socket read/write: Invalid input");
        broker.wait_for_log_after(mark, &ending, PATIENT);
    }
}

#[test]
fn a_header_is_not_believed_where_none_was_asked_for() {
    let broker = Broker::start();
    for header in [b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 1883\r\n".to_vec(), v2(0x21, 0x11, ADDRESSES)] {
        let mut client = Client::open(broker.addr());
        client.send(&[&header[..], &connect(4, "liar")].concat());
        client.expect_closed();
    }
    assert!(!broker.log_text().contains("1.2.3.4"));
}

#[test]
fn a_health_check_is_closed_without_a_word() {
    let (broker, addr) = start(2, "");
    let mark = broker.log_mark();
    for body in [&[][..], ADDRESSES] {
        let mut client = Client::open(addr);
        client.send(&v2(0x20, 0, body));
        client.expect_closed();
    }
    let _after = Client::connect(broker.addr(), 4, "after");
    broker.wait_for_log_after(mark, "as after", PATIENT);
    let log = broker.log_after(mark);
    assert!(!log.contains(&format!("port {}", addr.port())) && !log.contains("disconnected"), "{log}");
}

#[test]
fn tls_with_the_proxy_can_be_asked_for() {
    let (broker, addr) = start(2, "proxy_protocol_v2_require_tls true");
    let mut client = Client::open(addr);
    client.send(&[v2(0x21, 0x11, ADDRESSES), connect(4, "plain")].concat());
    client.expect_closed();
    broker.wait_for_log("Connection from 1.2.3.4:1000 rejected, client did not connect using TLS.", PATIENT);
    enter(addr, &[&v2_tls(1, 0, ""), &connect(4, "secret")]);
    broker.wait_for_log("Connection from 1.2.3.4:1000 negotiated TLSv1.3 cipher TLS_AES", PATIENT);
}

#[cfg(feature = "tls")] // as require_certificate
#[test]
fn the_name_of_a_certificate_that_the_proxy_verified_is_the_user_name() {
    let (broker, addr) = start(2, "require_certificate true\nuse_identity_as_username true");
    for (flags, verify) in [(1, 0), (7, 1)] {
        let mut client = Client::open(addr);
        client.send(&[v2_tls(flags, verify, "alice"), connect(4, "anybody")].concat());
        client.expect_closed();
        broker.wait_for_log("rejected, client did not provide a certificate.", PATIENT);
    }
    enter(addr, &[&v2_tls(7, 0, "alice"), &connect(4, "a")]);
    broker.wait_for_log("as a (p4, c1, k60, u'alice').", PATIENT);
    // No name: nobody.
    let mut client = Client::open(addr);
    client.send(&[v2_tls(7, 0, ""), connect(5, "nameless")].concat());
    let ack = client.packet();
    assert!(ack[0] == 0x20 && ack[3] != 0 || ack.is_empty(), "{ack:02X?}");
}

#[test]
fn half_a_header_waits_and_holds_up_nobody() {
    let (broker, addr) = start(2, "");
    let mut half: Vec<_> = (0..200).map(|_| Client::open(addr)).collect();
    let header = v2(0x21, 0x11, ADDRESSES);
    for client in &mut half {
        client.send(&header[..20]);
    }
    Client::connect(broker.addr(), 4, "other").ping();
    for client in &mut half {
        client.send(&header[20..]);
        client.send(&connect(4, ""));
        assert_eq!(client.packet()[0], 0x20);
    }
    // One that goes before its header is complete.
    let mark = broker.log_mark();
    let mut gone = Client::open(addr);
    gone.send(&header[..5]);
    let peer = format!("127.0.0.1:{}", gone.local_port());
    drop(gone);
    let line = format!("Client 127.0.0.1 [{peer}] disconnected: connection closed by client.");
    broker.wait_for_log_after(mark, &line, PATIENT);
}
