//! Where the seeds come from: valid packets of every type, and runs that reach far into the broker.

use ProtocolVersion::{V5, V31, V311};
use mosquitto::wire::connect::{ConnackForm, ConnackProps, Connect, Will, encode_connack};
use mosquitto::wire::publish::PublishProps;
use mosquitto::wire::{ProtocolVersion, QoS, ReasonCode};

/// The seeds of every target.
pub(crate) fn all() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut v3 = packets(V311, 0);
    v3.extend(packets(V31, 2));
    let frames = [V5, V311].into_iter().zip([0x40, 0x41]).map(|(version, choice)| {
        let stream = bytes(version).into_iter().flat_map(|(_, bytes)| bytes);
        [choice, 0, 1, 2, 3, 4].into_iter().chain(stream).collect::<Vec<u8>>()
    });
    let frames = frames.chain([connect_first()]).collect();
    vec![
        ("server", server()),
        ("packet_v5", packets(V5, 0)),
        ("packet_v3", v3),
        ("frames", frames),
        ("config", config()),
        ("acl", acl()),
        ("bridge", bridge()),
        ("metrics", metrics()),
        ("access", access()),
        ("db", db()),
        ("journal", journal()),
        ("proxy", proxy()),
        ("upgrade", upgrade()),
        ("websocket", websocket()),
        ("tls", tls()),
        ("mqttsn", mqttsn()),
    ]
}

/// The changes of a session with a message both ways, and of a retained one.
fn journal() -> Vec<Vec<u8>> {
    let message = |number: u8| [&[1, number, 2, 0, 0, 1, b't', 0, 1][..], b"p"].concat();
    let client = [0, 1, b'c'];
    let of = |kind: u8, rest: &[u8]| [&[kind][..], &client, rest].concat();
    let session = of(2, &[0, 0, 0, 7, 0x5B, 255, 255, 255, 255, 0, 0, 1]);
    let life = [
        vec![0x40],
        session,
        of(4, &[0, 1, b't', 2, 0]),
        message(1),
        of(8, &[1, 2, 0]),
        of(9, &[0, 5, 1]),
        of(10, &[0, 5]),
        of(12, &[0, 5]),
        message(2),
        of(13, &[0, 9, 2]),
        of(14, &[0, 9]),
        of(8, &[2, 1, 0]),
        of(11, &[2]),
        vec![6, 2],
        vec![7, 0, 1, b't'],
        of(5, &[0, 1, b't']),
        vec![15, 0, 0, 0, 1, 0],
        of(3, &[]),
    ];
    vec![life.concat(), life[..8].concat(), message(3)]
}

/// A configuration, and a device that comes, does everything once, sleeps and wakes up.
fn mqttsn() -> Vec<Vec<u8>> {
    let connect = [7, 1, 0x3C];
    let life: [&[u8]; 14] = [
        &[7, 18, 0x24], // SUBSCRIBE
        &[7, 6, 0x20],  // REGISTER
        &[7, 9, 0x05],
        &[0x13, 2],
        &[7, 13, 0x10],
        &[7, 11, 0x09],
        &[7, 16, 0x01],
        &[7, 27, 0x20], // DISCONNECT with a duration
        &[0x13, 2],
        &[7, 22, 0x00], // PINGREQ
        &[7, 13, 0x20],
        &[2, 2, 2],
        &[0x14],
        &[7, 26, 0],
    ];
    let mut all = Vec::new();
    for choice in 0..4u8 {
        all.push([&[choice], &connect[..], &life.concat()].concat());
        // With a will, and behind a forwarder.
        let will = [7, 1, 0xBC, 7, 4, 0x24, 7, 5, 0x20];
        all.push([&[choice], &will[..], &life.concat()].concat());
        let behind: Vec<u8> = life.concat().iter().map(|b| if *b == 7 { 0x87 } else { *b }).collect();
        all.push([&[choice, 0x87, 1, 0x3C][..], &behind].concat());
        // Raw datagrams of both length forms.
        all.push([&[choice, 0, 7, 7, 4, 4, 1, 0, 60, b'a', 0, 4, 1, 0, 4, 0x16][..], &[0, 3, 2, 0x18, 0]].concat());
    }
    all
}

/// A bridge, the rest of the configuration, and steps: CONNACK, answers, messages both ways, ends.
fn bridge() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for config in 0..8 {
        // Connected; SUBACK and PUBACK; messages out with every QoS and their answers; one in with every QoS.
        let live = [config, config / 2, 1, 0, 8, 0, 0, 12, 12, 12, 12];
        let out = [3, 0x00, 1, 3, 0x09, 2, 3, 0x13, 3, 12, 12, 12, 12, 12, 12, 3, 0x29, 5];
        let incoming = [9, 0x00, 0, 9, 0x09, 1, 9, 0x11, 2, 0x2A, 2, 9, 0x4C, 3, 9, 0x0E, 0x14, 9, 0x0F, 0x24];
        all.push([&live[..], &out, &incoming, &[0, 2, 9, 1, 1]].concat());
        // Closed again and again with something outstanding.
        let again = [3, 0x09, 1, 3, 0x12, 1, 0, 2, 9, 1, 0, 8, 0, 0, 12];
        all.push([&live[..], &again, &again, &again, &again, &again].concat());
        // Refused in every way, and limits.
        for code in [1, 2, 5, 0x84, 0x9A, 0x9B, 0x9B] {
            all.push([&[config, 3, 1, 0, 8, 0x80, code][..], &[2, 9, 1, 0, 8, 0x7F, 0x15], &out, &incoming].concat());
        }
        // Silence, and bytes that are no packets.
        all.push([&live[..], &[2, 60, 2, 60, 2, 60, 2, 60, 7, 5, 0x20, 0xFF, 0xFF, 0xFF, 0x7F]].concat());
    }
    all
}

/// A choice, a seed, and a script or garbage.
fn tls() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for choice in 0..4 {
        // Both sides say something, keys change, and one side ends it.
        all.push(vec![choice, 0, 0, 0, choice, 1, 0xFA, 0, 0xFB, 5, 0, 0x22, 0x2B, 0, 6, 0, 0x23, 0, 7, 0]);
        for change in 0..6 {
            let change = change << 3 | 4;
            all.push(vec![choice, 0, 0, 1, change, change]);
            all.push(vec![choice, 0, 0, 2, change, 0, change]);
            all.push(vec![choice, 0, 0, 3, change, 1, 0x52, change, 0x13, 0]);
        }
        let hello = [0x16, 3, 1, 0, 8, 1, 0, 0, 4, 3, 3, 0, 0];
        all.push([&[choice | 4, 0, 0, 0, 5][..], &hello, &[0x14, 3, 3, 0, 1, 1, 0x15, 3, 3, 0, 2, 2, 40]].concat());
        all.push([&[choice | 12, 0, 0, 0, 6][..], &[0x17, 3, 3, 0, 20], &[9; 20], &hello].concat());
    }
    all
}

fn connect_first() -> Vec<u8> {
    let mut out = vec![0, 3, 1, 2, 3, 4];
    Connect::new(V5, "a", 10).encode(&mut out);
    out.extend_from_slice(&[0x30, 4, 0, 1, b'a', 0, 0xC0, 0]);
    out
}

/// Packets without their length, behind the role.
fn packets(version: ProtocolVersion, choice: u8) -> Vec<Vec<u8>> {
    let unframed = |(role, bytes): (u8, Vec<u8>)| {
        let skip = 1 + bytes.iter().skip(1).take_while(|b| **b >= 0x80).count() + 1;
        [&[choice | role, bytes[0]], &bytes[skip..]].concat()
    };
    bytes(version).into_iter().map(unframed).collect()
}

/// Role (0 for a client) and bytes of a few packets of each type.
fn bytes(version: ProtocolVersion) -> Vec<(u8, Vec<u8>)> {
    let v5 = version == V5;
    let mut out = Vec::new();
    let mut put = |role: u8, first: u8, v3: &[u8], five: &[u8]| {
        let body = if v5 { five } else { v3 };
        out.push((role, [&[first, u8::try_from(body.len()).expect("a short body")], body].concat()));
    };
    let alias = &[0, 1, b'a', 3, 0x23, 0, 1, b'x'];
    let long = [
        &[0, 3, b'a', b'/', b'b', 0, 1, 42, 1, 1, 2, 0, 0, 0, 9, 3, 0, 1, b't', 8, 0, 1, b'r', 9, 0, 1, 7][..],
        &[0x26, 0, 1, b'k', 0, 1, b'v', 0x26, 0, 1, b'k', 0, 1, b'w', 0x26, 0, 0, 0, 0, 0x23, 0, 2, b'x'],
    ]
    .concat();
    for role in 0..2 {
        put(role, 0x30, &[0, 1, b'a', b'x'], &[0, 1, b'a', 0, b'x']);
        put(role, 0x3B, &[0, 1, b'a', 0, 1, b'x'], &[0, 1, b'a', 0, 1, 0, b'x']);
        put(role, 0x34, &[0, 1, b'a', 0, 1], &long);
        put(role, 0x30, &[0, 1, b'a'], alias);
        for first in [0x40, 0x50, 0x62, 0x70] {
            let reason = if first < 0x60 { 0x10 } else { 0x92 };
            put(role, first, &[0, 1], &[0, 1, reason, 4, 0x1F, 0, 1, b'p']);
        }
        put(role, 0xE0, &[], &[0x80, 5, 0x11, 0, 0, 0, 1]);
    }
    put(0, 0x82, &[0, 1, 0, 3, b'a', b'/', b'#', 1], &[0, 1, 2, 0x0B, 1, 0, 3, b'a', b'/', b'+', 0x2D]);
    put(0, 0x82, b"\0\x01\0\x0A$share/g/a\x02", b"\0\x01\0\0\x0A$share/g/a\x02\0\x01a\0");
    put(0, 0xA2, &[0, 1, 0, 1, b'a'], &[0, 1, 0, 0, 1, b'a', 0, 1, b'#']);
    put(0, 0xC0, &[], &[]);
    put(0, 0xF0, &[], &[0x18, 8, 0x15, 0, 1, b'm', 0x16, 0, 1, 1]);
    put(1, 0x30, &[0, 1, b'a'], &[0, 1, b'a', 2, 0x0B, 1]);
    put(1, 0x90, &[0, 1, 0, 0x80], &[0, 1, 0, 2, 0x87]);
    put(1, 0xB0, &[0, 1], &[0, 1, 0, 0, 0x11]);
    put(1, 0xD0, &[], &[]);
    let props = ConnackProps {
        server_keep_alive: Some(9),
        topic_alias_maximum: 10,
        assigned_client_id: Some("auto-1"),
        receive_maximum: Some(20),
        maximum_qos: Some(1),
        ..ConnackProps::default()
    };
    let form = if v5 { ConnackForm::V5(ReasonCode::SUCCESS) } else { ConnackForm::V3(0) };
    let mut connack = Vec::new();
    encode_connack(&mut connack, form, true, &props);
    out.push((1, connack));
    let will = Will {
        topic: "w",
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_s: 3,
        expiry: Some(9),
        props: PublishProps::default(),
    };
    let full = Connect {
        will: Some(will),
        username: Some("u"),
        password: Some(b"p"),
        session_expiry: Some(9),
        receive_maximum: Some(3),
        max_packet_size: Some(100),
        topic_alias_maximum: 4,
        request_problem_info: false,
        request_response_info: true,
        auth_method: Some("m"),
        auth_data: Some(b"d"),
        clean_start: false,
        ..Connect::new(version, "id", 60)
    };
    for connect in [Connect::new(version, "", 0), full] {
        let mut bytes = Vec::new();
        connect.encode(&mut bytes);
        out.push((0, bytes));
    }
    out
}

/// Steps as `bodies/server.rs` reads them, for each of its configurations.
fn server() -> Vec<Vec<u8>> {
    // A client: its number and kind of step in one byte. The two after CONNECT's first are will and limits.
    let on = |client: u8, kind: u8| client << 5 | kind;
    let connect = |client: u8, what: [u8; 3]| [on(client, 1), what[0], what[1], what[2]].to_vec();
    let come = |first: [u8; 3], second: [u8; 3]| [connect(0, first), connect(1, second)].concat();
    // Persistent v5 and v3.1.1 with wills, clean v3.1, limits and aliases.
    let (five, four, three) = ([0x24, 0xC1, 0x80], [0x44, 0xAA, 8], [0x95, 0, 8]);
    let limited = [0x60, 0xC8, 0xF4];
    let talk = [
        [on(1, 10), 0x31, 0x82],
        [on(1, 10), 0x29, 0x41],
        [on(0, 18), 0x10, 1],
        [on(0, 18), 0x68, 0x92],
        [on(0, 18), 0x90, 3],
        [on(0, 27), 3, on(1, 7)],
        [on(1, 25), 1, on(1, 7)],
        [on(1, 26), 2, on(1, 7)],
        [on(1, 28), 2, on(1, 29)],
        [on(1, 16), 0x11, on(0, 29)],
    ]
    .concat();
    let slow = [
        &[on(1, 10), 0x03, 0x82, on(1, 3), 2, on(0, 31), on(0, 18), 0xD0, 1, on(0, 18), 0xD0, 2][..],
        &[on(1, 3), 40, on(1, 7), on(1, 31), on(1, 4), on(1, 7)],
    ]
    .concat();
    let away = [
        &[on(1, 10), 0x03, 2, on(1, 0), on(0, 18), 0x90, 1, on(0, 18), 0x88, 2, on(0, 5), 0x9F][..],
        &connect(1, four),
        &[on(0, 30), 0, 9, on(1, 5), 0xFF, on(1, 7)],
        &connect(2, five),
        &connect(3, five),
        &[on(2, 1), 4, 0xC0, 0, 0xC0, 0, on(3, 1), 2, 0, 0],
    ]
    .concat();
    // Rules of access that change while messages are on their way.
    let restricted = [
        &[on(1, 10), 0x03, 2, on(0, 8), 1, on(0, 18), 0x90, 1, on(0, 18), 0x91, 2, on(1, 8), 0][..],
        &[on(0, 18), 0xA8, 3, on(1, 10), 0x03, 2, on(1, 25), 1, on(1, 0), on(0, 8), 3],
        &connect(1, [0x44, 0xAA, 0]),
        &[on(1, 27), 3, on(0, 27), 3, on(1, 8), 2, on(1, 7)],
    ]
    .concat();
    // Every request there is, and one of the input's own; the answers reach the second client.
    let mut operate = vec![on(1, 10), 0x0E, 0x80, on(0, 18), 0x30, 1];
    for request in (0..10).chain([14]) {
        operate.extend([on(0, 18), 0x0D, 2, request]);
        operate.extend_from_slice(if request == 14 { b"{\"commands\":7}" } else { b"" });
        // A turn by whoever stays; who was sent away comes back.
        operate.push(on(if request == 4 { 0 } else { 1 }, 7));
        match request {
            3 => operate.extend(connect(0, five)),
            4 => operate.extend(connect(1, four)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    for config in 0..8u8 {
        let pairs = [(five, four), (limited, five), (four, three), (three, limited)];
        for (i, part) in [&talk, &slow, &away, &restricted].into_iter().enumerate() {
            let (first, second) = pairs[(usize::from(config) + i) % pairs.len()];
            let flags = if i == 2 { 0xC0 } else { 0 };
            all.push([vec![config | flags], come(first, second), part.clone()].concat());
        }
    }
    // Passwords: right, wrong, unknown and none, on the fast and the slow way.
    for config in [0x11, 0x16, 0x13] {
        let mut logins = vec![config | 0x40];
        for (at, more, last) in
            [(0, 0x80, 0x0A), (1, 0x80, 0x0B), (2, 0x10, 0x0A), (3, 0x18, 0x0A), (4, 0, 8), (5, 0, 2)]
        {
            logins.extend(connect(at, [0x24 | at, more, last]));
            logins.extend([on(at, 7), on(at, 5), 0xE1]);
        }
        all.push([&logins[..], &talk].concat());
    }
    for config in [1, 4] {
        all.push([vec![config | 0x40], come(five, four), operate.clone()].concat());
    }
    all
}

/// A byte that says how the request is cut, and the request.
fn metrics() -> Vec<Vec<u8>> {
    let fields = "GET /metrics HTTP/1.1\r\nHost: a\r\n".to_owned() + &"a: b\r\n".repeat(70) + "\r\n";
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(5000));
    [
        "\0GET /metrics HTTP/1.1\r\nHost: localhost:9234\r\nAccept: text/plain;version=0.0.4\r\n\r\n",
        "\x01GET /healthz HTTP/1.1\r\nHost: [::1]\r\n\r\n",
        "\x02HEAD /metrics HTTP/1.0\r\n\r\n",
        "\x04GET /healthz?a=b HTTP/1.0\n\nGET /metrics HTTP/1.0\n\n",
        "\x06POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde",
        "\x08GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "\x0aGET http://a:1/metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "\x10OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
        "\x20PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\0\x10\x0e\0\x04MQTT\x05\x02\0\x0a\0\0\x01p",
        "\x40GET /metr",
        &format!("\x7f{fields}"),
        &format!("\x7f{long}"),
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// The kind of file, and its text.
fn access() -> Vec<Vec<u8>> {
    let passwords = include_str!("bodies/passwords.txt");
    let other = "# a\n \nb:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE\n";
    let files = ["", passwords, &format!("\u{feff} x : y\r\n{passwords}"), other, "a:plain\n", ":\n", "a\nb\n"];
    let rules = [
        "topic read a/#\ntopic write a/b\ntopic deny a/b/c\n",
        "user u\ntopic readwrite +/b\nuser a/b\ntopic a\nuser u\ntopic deny #\n",
        "pattern read %c/%u\npattern write $SYS/#\npattern deny a/%u\n# x\n  \n",
        "topic read a b\ntopic a b\n",
        "pattern readwrite #\ntopic\n",
        "user\nfoo\n",
        "topic read a/+b\n",
    ];
    let kinds = files.iter().map(|text| (0, *text)).chain(rules.iter().map(|text| (1, *text)));
    kinds.map(|(kind, text)| [&[kind], text.as_bytes()].concat()).collect()
}

/// User name, client id, topic and file.
fn acl() -> Vec<Vec<u8>> {
    [
        "\0me\0a/b\0topic read a/#\ntopic write in\ntopic deny a/b\n",
        "ann\0me\0c/me\0topic #\nuser ann\ntopic readwrite x y/+\npattern c/%c\npattern deny %u/#\n",
        "ann\0me\0ann/x/me\0# comment\n\n  pattern read %u/+/%c/#\nuser bob\nuser ann\ntopic deny +/x\n",
        "a+\0me\0b\0user a+\ntopic write b\npattern read b\n",
        "ann\0i#\0$x/a\0user ann\ntopic #\ntopic $x/+\npattern $x/%c\n",
        "a/b\0\0a//b\0pattern +/%c/%u\npattern q%u/%c%u\ntopic\ta\n",
        "\0\0a\0topic read\n",
        "\0\0a\0topic a b\n",
        "\0\0a\0user\n",
        "\0\0a\0topic a/#/b\n",
        "\0\0a\0readwrite a\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// The version, a header, and the first bytes of a client.
fn proxy() -> Vec<Vec<u8>> {
    let lines = [
        "PROXY TCP4 1.2.3.4 5.6.7.8 1000 1883\r\n\x10\x0c",
        "PROXY TCP6 2001:db8::1 ::1 65535 1883\r\n",
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN ffff:: ffff:: 1 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 0 1883\r\n",
        "PROXY TCP4 1.2.3.400 5.6.7.8 1 01\r\n",
        "GET / HTTP/1.1\r\n",
    ];
    let mut all: Vec<Vec<u8>> = lines.iter().map(|line| [&b"\0"[..], line.as_bytes()].concat()).collect();
    all.push([&b"\0PROXY UNKNOWN "[..], &[b'x'; 120][..], b"\r\n"].concat());
    let field = |kind: u8, value: &[u8]| [&[kind, 0, u8::try_from(value.len()).expect("short")], value].concat();
    let v2 = |command: u8, family: u8, body: &[u8]| {
        let len = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&b"\x01\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &len[..], body, b"\x10\x0c"].concat()
    };
    let ipv4 = [1, 2, 3, 4, 5, 6, 7, 8, 3, 0xE8, 7, 0x5B];
    let names = [field(0x21, b"TLSv1.3"), field(0x22, b"ann"), field(0x23, b"AES"), field(0x25, b"RSA")].concat();
    let tls = field(0x20, &[&[7, 0, 0, 0, 0][..], &names].concat());
    all.push(v2(0x20, 0, &[]));
    all.push(v2(0x21, 0x11, &ipv4));
    all.push(v2(0x21, 0x11, &[&ipv4[..], &field(4, b"pad"), &tls].concat()));
    all.push(v2(0x21, 0x21, &[&[1; 36][..], &field(0x20, &[1, 0, 0, 0, 1])].concat()));
    all.push(v2(0x21, 0x31, &[0; 216]));
    all.push(v2(0x21, 0x12, &ipv4));
    all.push(v2(0x21, 0x11, &[&ipv4[..], &[0x20, 0, 9, 1]].concat()));
    all.push(v2(0x21, 0x11, &[0; 501]));
    all
}

/// A byte that says what is allowed and how the request is cut, and the request.
fn upgrade() -> Vec<Vec<u8>> {
    const BASE: &str = "GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    [
        format!("\0{BASE}Sec-WebSocket-Protocol: mqtt\r\n\r\n"),
        format!("\x10{BASE}Sec-WebSocket-Protocol: chat, mqttv3.1\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n\u{2}"),
        format!("\x22{BASE}Origin: https://a\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"),
        format!("\x02{BASE}Origin: https://b\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"),
        format!("\x18{BASE}X-Forwarded-For: 1.1.1.1, [2001:db8::1]:5\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"),
        format!("\x01{BASE}Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"),
        format!("\x20{}\r\n", BASE.replace("13", "8")),
        "\x04GET / HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "\x14\r\nGET /a//%2e%2e/b%2F%5c/?x HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "\x24HEAD http://h/a%20b/%C3%A9.html HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "\x04POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx".into(),
        "\0\u{10}\u{e}\0\u{4}MQTT\u{5}\u{2}\0\u{a}\0\0\u{1}p".into(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// Four bytes that say how the stream is cut, and masked frames.
fn websocket() -> Vec<Vec<u8>> {
    let frame = |first: u8, payload: &[u8]| {
        let len = match payload.len() {
            short @ 0..=125 => vec![0x80 | u8::try_from(short).expect("short")],
            len => [&[0xFE][..], &u16::try_from(len).expect("not so long").to_be_bytes()].concat(),
        };
        let mask = [7u8, 1, 9, 4];
        let masked: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
        [&[first][..], &len, &mask, &masked].concat()
    };
    let mut connect = Vec::new();
    Connect::new(V5, "a", 10).encode(&mut connect);
    let parts = [frame(2, &connect[..5]), frame(0x89, b"p"), frame(0, b""), frame(0x80, &connect[5..])].concat();
    let streams = [
        [parts.clone(), frame(0x88, &[3, 0xE8])].concat(),
        [parts, frame(0x82, &[0xE0, 0]), frame(0x88, b"")].concat(),
        [frame(0x82, &[1; 125]), frame(0x82, &[2; 126]), frame(0x8A, b"x"), frame(0x88, &[0x0F, 0xA0, b'b'])].concat(),
        [frame(0x89, b"1"), frame(0x89, b"2"), frame(0x89, &[3; 125]), frame(2, b"open")].concat(),
        [frame(0x82, &[5; 500]), frame(0x81, b"text")].concat(),
        [&[0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4][..], &[9; 300]].concat(),
        vec![0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4, 5],
        vec![0x82, 1, b'x'],
        [frame(0x80, b"x"), frame(0x88, &[3])].concat(),
    ];
    let seeds = (0u8..).map(|n| [n, n.wrapping_mul(77), 3, n]);
    streams.into_iter().zip(seeds).map(|(stream, seed)| [&seed[..], &stream].concat()).collect()
}

fn config() -> Vec<Vec<u8>> {
    [
        "",
        "# nothing\n\nlistener 1883\n",
        "listener 1883 127.0.0.1\nmax_connections 5\nmount_point m/\nprotocol mqtt\nmax_qos 1\n",
        "per_listener_settings true\nlistener 1\nallow_anonymous true\nauto_id_prefix x-\nlistener 2 ::1\n",
        "log_dest file /tmp/x\nlog_dest topic\nlog_type debug\nlog_type all\nlog_timestamp_format %H:%M\nlog_facility 3\n",
        "max_packet_size 0x100\nmax_keepalive 010\nmemory_limit 12k\npersistent_client_expiration 2w\nsys_interval 0\n",
        "port 1884\nbind_address localhost\nsocket_domain ipv4\nbind_interface lo\nmax_topic_alias 5\n",
        "listener 8883\ncafile /etc/ca.crt\ncertfile c\nkeyfile k\ntls_version tlsv1.2\n",
        "password_file /etc/p\nacl_file /etc/a\npersistence true\nautosave_interval 30\n",
        "connection a\naddress b:1883\ntopic # both 2\nplugin x.so\nplugin_opt_y z\n",
        "lisstener 1\n",
        "accept_protocol_versions 3,4, 5\nuse_username_as_clientid true\nmax_inflight_messages 70000\n",
        "max_queued_messages 10\nmax_queued_messages 11\nmax_queued_bytes -1\nuser\n",
        "\u{feff}retain_available false\r\nretain_expiry_interval 5\nqueue_qos0_messages 1\nallow_anonymous maybe\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// A small store in each version of the file: little endian, as the fuzzer's machine.
fn db() -> Vec<Vec<u8>> {
    let head = |version: u8| [&b"\0\xB5\0mosquitto db\0\0\0\0\0\0\0"[..], &[version]].concat();
    let text = |s: &str| [&[0, u8::try_from(s.len()).expect("short")], s.as_bytes()].concat();
    let chunk = |header: &[u8], parts: &[&[u8]]| {
        let body = parts.concat();
        [header, &u32::try_from(body.len()).expect("short").to_be_bytes(), &body].concat()
    };
    let id = |n: u8| [n, 0, 0, 0, 0, 0, 0, 0];
    let packed = |version: u8| {
        let put = |kind: u8, parts: &[&[u8]]| chunk(&[0, kind], parts);
        let source = if version == 4 { [text("user"), vec![7, 91]].concat() } else { Vec::new() };
        let time = if version > 2 { &[1, 2, 3, 4, 0, 0, 0, 0][..] } else { &[] };
        [
            head(version),
            put(1, &[&[1, 8], &id(9)]),
            put(2, &[&id(5), &text("pub"), &source, &[0, 3, 0, 0], &text("a/b"), &[1, 1, 0, 0, 0, 2], b"hi"]),
            put(6, &[&text("c"), &[0, 9], time]),
            put(3, &[&text("c"), &id(5), &[0, 4, 2, 0, 1, 11, 0]]),
            put(5, &[&text("c"), &text("a/#"), &[2]]),
            put(4, &[&id(5)]),
        ]
        .concat()
    };
    let structs = |version: u8| {
        let put = |kind: u8, parts: &[&[u8]]| chunk(&[0, 0, 0, kind], parts);
        let props: &[u8] = &[16, 1, 1, 3, 0, 1, b't', 9, 0, 1, 7, 0x26, 0, 0, 0, 1, b'v'];
        let forever = &[0xFF; 4][..];
        let client = |name: &str, len: u8, user: &[u8]| {
            let more = [0x49, 0x8F, len, if len > 0 { 0 } else { 5 }, 0, 0, 0, 0];
            let (more, user) = if version > 5 { (&more[..], user) } else { (&[][..], &[][..]) };
            put(6, &[&id(0), forever, &[0, 9, 0, 1], more, name.as_bytes(), user])
        };
        [
            head(version),
            put(1, &[&id(9), &[0, 8, 0, 0, 0, 0, 0, 0]]),
            put(2, &[&id(5), &id(0), &[0, 0, 0, 2, 0, 3, 0, 3, 0, 1, 0, 3, 7, 91, 1, 1], b"pubua/bhi", props]),
            client("c", 0, b"carol"),
            put(3, &[&id(5), &[0, 4, 0, 1, 1, 11, 0x11, 1], b"c", &[2, 0x0B, 7]]),
            client("d", 5, &[&b"carol"[..], &[0; 1275]].concat()),
            put(5, &[&[0, 0, 0, 7, 0, 1, 0, 3, 1, 0x2C, 0, 0], b"ca/#"]),
            put(4, &[&id(5)]),
        ]
        .concat()
    };
    let mut all: Vec<_> = [2, 3, 4].map(packed).into_iter().chain([5, 6].map(structs)).collect();
    all.push([head(6), vec![0, 0, 0, 99, 0, 0, 0, 3, 1, 2, 3], structs(6)[23..].to_vec()].concat());
    all.push(structs(6)[..100].to_vec());
    all.push([head(6), vec![0; 64]].concat());
    all.push(head(6)[..10].to_vec());
    all
}
