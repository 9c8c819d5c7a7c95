//! The stage as a whole, as a client sees it.

use super::*;

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
const OPTIONS: Options<'_> = Options { max_head: 4096, origins: &[], files: false, local: false };

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put_binary_header(&mut bytes, payload.len());
    bytes[0] = first;
    bytes[1] |= 0x80;
    let mask = [1, 2, 3, 4];
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A stage after the upgrade, with nothing left to write.
fn open() -> Stage {
    let mut stage = Stage::new();
    let mut plain = Vec::new();
    let taken = stage.on_bytes(Now::default(), &mut REQUEST.as_bytes().to_vec(), &OPTIONS, &mut plain);
    assert_eq!(taken, Taken { upgraded: Some(Upgraded { protocol: "mqtt", forwarded: None }), end: None });
    assert!(written(&mut stage, 0).starts_with(b"HTTP/1.1 101 "));
    stage
}

/// Gives bytes to a stage in pieces of so many, up to its end.
fn give(stage: &mut Stage, bytes: &[u8], piece: usize) -> (Vec<u8>, Option<End>) {
    let mut plain = Vec::new();
    for piece in bytes.chunks(piece) {
        let taken = stage.on_bytes(Now::default(), &mut piece.to_vec(), &OPTIONS, &mut plain);
        if taken.end.is_some() {
            return (plain, taken.end);
        }
    }
    (plain, None)
}

/// Everything the stage writes when the endpoint has so many bytes, which are shown as `x`.
fn written(stage: &mut Stage, mut waiting: usize) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let theirs = stage.frame(waiting);
        let ours = stage.output().to_vec();
        if ours.is_empty() && theirs == 0 {
            return all;
        }
        all.extend_from_slice(&ours);
        all.extend(vec![b'x'; theirs]);
        assert_eq!(stage.advance(ours.len() + theirs), theirs);
        waiting -= theirs;
    }
}

#[test]
fn any_split_of_the_input_gives_the_same() {
    let long = vec![9; 70_000];
    let closes = [
        frame(0x02, b"ab"),
        frame(0x89, b"1"),
        frame(0x80, b"c"),
        frame(0x82, &long),
        frame(0x89, b"2"),
        frame(0x88, &[0x0F, 0xA0]),
        frame(0x82, b"too late"),
    ]
    .concat();
    let breaks = [frame(0x82, b"abc"), frame(0x81, b"text"), frame(0x89, b"3")].concat();
    for (frames, data, end) in [
        (closes, [b"abc", &long[..]].concat(), End::Closed(CloseCode(4000))),
        (breaks, b"abc".to_vec(), End::BadFrame(CloseCode::UNSUPPORTED_DATA)),
    ] {
        let bytes = [REQUEST.as_bytes(), &frames].concat();
        for piece in [1, 2, 3, 7, 50, 1000, 1_000_000] {
            let mut stage = Stage::new();
            assert_eq!(give(&mut stage, &bytes, piece), (data.clone(), Some(end.clone())), "{piece}");
            stage.close(CloseCode::GOING_AWAY);
            let out = written(&mut stage, 0);
            let code = if let End::Closed(code) | End::BadFrame(code) = end { code.0.to_be_bytes() } else { [0; 2] };
            let frames = out.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            assert_eq!(out[frames..], [&[0x88, 2], &code[..]].concat(), "{piece}");
            assert_eq!((stage.frame(5), stage.output()), (0, &[][..]), "nothing follows a close");
        }
    }
}

#[test]
fn a_batch_is_a_frame_and_control_frames_go_between() {
    let mut stage = open();
    assert_eq!(stage.frame(3), 3);
    assert_eq!(stage.output(), [0x82, 3]);
    assert_eq!(stage.advance(3), 1);
    // The frame keeps its length, whatever else comes up.
    assert_eq!(give(&mut stage, &frame(0x89, b"p"), 1), (Vec::new(), None));
    assert_eq!((stage.frame(200), stage.output()), (2, &[][..]));
    assert_eq!(stage.advance(2), 2);
    assert_eq!(stage.output(), [0x8A, 1, b'p']);
    assert_eq!(stage.frame(198), 198);
    assert_eq!(stage.output(), [0x8A, 1, b'p', 0x82, 126, 0, 198]);
    assert_eq!(stage.advance(7 + 198), 198);
    assert_eq!((stage.frame(0), stage.output()), (0, &[][..]));
}

#[test]
fn only_the_last_of_many_pings_is_answered() {
    let mut stage = open();
    assert_eq!(stage.frame(10), 10);
    for n in 0..100u8 {
        assert_eq!(give(&mut stage, &frame(0x89, &[n; 125]), 200), (Vec::new(), None));
    }
    assert_eq!(written(&mut stage, 10), [&[0x82, 10][..], &[b'x'; 10], &[0x8A, 125], &[99; 125]].concat());
    for n in 0..100u8 {
        assert_eq!(give(&mut stage, &frame(0x89, &[n; 125]), 200), (Vec::new(), None));
        assert!(stage.output().len() <= 127);
    }
    assert_eq!(written(&mut stage, 0), [&[0x8A, 125][..], &[0; 125], &[0x8A, 125], &[99; 125]].concat());
}

#[test]
fn a_close_comes_last_and_is_said_once() {
    let mut stage = open();
    assert_eq!(stage.frame(2), 2);
    stage.advance(3);
    assert_eq!(give(&mut stage, &frame(0x88, b""), 9), (Vec::new(), Some(End::Closed(CloseCode::NORMAL))));
    assert_eq!(give(&mut stage, &frame(0x82, b"x"), 9), (Vec::new(), None), "nothing is taken any more");
    stage.close(CloseCode::GOING_AWAY);
    assert_eq!(written(&mut stage, 4), [b'x', 0x82, 3, b'x', b'x', b'x'], "not within a frame");
    stage.close(CloseCode::GOING_AWAY);
    stage.close(CloseCode::GOING_AWAY);
    assert_eq!(written(&mut stage, 9), [0x88, 2, 0x03, 0xE8], "the client's own code");
    let mut stage = open();
    assert!(stage.is_open());
    stage.close(CloseCode::GOING_AWAY);
    stage.close(CloseCode::NORMAL);
    assert!(!stage.is_open());
    assert_eq!(written(&mut stage, 9), [0x88, 2, 0x03, 0xE9]);
}

#[test]
fn before_the_upgrade_there_are_no_frames() {
    let mut stage = Stage::new();
    assert_eq!(give(&mut stage, b"\r\n\r\n", 1), (Vec::new(), None));
    stage.time_out(Now::default());
    stage.close(CloseCode::NORMAL);
    assert_eq!(written(&mut stage, 5), b"", "somebody who said nothing is told nothing");
    let mut stage = Stage::new();
    assert_eq!(give(&mut stage, b"\r\nGET / HT", 1), (Vec::new(), None));
    stage.time_out(Now::default());
    assert!(written(&mut stage, 5).starts_with(b"HTTP/1.1 408 "));
}

#[test]
fn heads_are_bounded_and_refusals_have_their_status() {
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(5000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(70));
    for (text, status) in [
        (&*long, "431"),
        (&*many, "431"),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "404"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
        ("\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0\r\n", "400"),
    ] {
        for piece in [1, 100, 10_000] {
            let mut stage = Stage::new();
            let (plain, end) = give(&mut stage, text.as_bytes(), piece);
            let Some(End::Refused(refusal)) = end else { panic!("{end:?} for {text:?}") };
            assert_eq!((plain.len(), &refusal.status[..3]), (0, status), "{text:?}");
            let answer = String::from_utf8(written(&mut stage, 7)).unwrap();
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {}\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n", refusal.status))
            );
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");
        }
    }
    let mut small = Stage::new();
    let options = Options { max_head: 100, ..OPTIONS };
    let taken = small.on_bytes(Now::default(), &mut REQUEST.as_bytes().to_vec(), &options, &mut Vec::new());
    assert!(matches!(taken.end, Some(End::Refused(refusal)) if refusal.status.starts_with("431")));
    let mut head = Stage::new();
    let bytes = b"HEAD / HTTP/1.1\r\n\r\n";
    assert!(head.on_bytes(Now::default(), &mut bytes.to_vec(), &OPTIONS, &mut Vec::new()).end.is_some());
    assert!(written(&mut head, 0).ends_with(b"\r\n\r\n"));
}

#[test]
fn an_idle_connection_owns_no_buffer() {
    let mut stage = open();
    let bytes = [frame(0x82, &[1; 300]), frame(0x89, b"ping")].concat();
    give(&mut stage, &bytes, 11);
    written(&mut stage, 20);
    assert_eq!((stage.ahead.capacity(), stage.pong.is_some()), (0, false));
    assert!(size_of::<Stage>() <= 112, "{}", size_of::<Stage>());
}
