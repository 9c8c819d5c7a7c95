//! WebSockets: the upgrade from HTTP, and frames against a second, simpler reader. However the input is cut and whenever
//! the output is written, the same comes out, and what the broker says are whole frames.

use mosquitto::proto::ws::frame::CloseCode;
use mosquitto::proto::ws::{End, Options, Stage, Upgraded};
use mosquitto::timer::Now;

use super::{Random, byte};

const REQUEST: &str = "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
const OPTIONS: Options<'_> = Options { max_head: 4096, origins: &[], files: false, local: false };
const NOW: Now = Now { mono_ms: 1, wall_s: 1_700_000_000 };

/// What a stage made of a request.
type Outcome = (Vec<u8>, Option<Result<Upgraded, End>>, Vec<u8>);

fn request(data: &[u8], options: &Options<'_>, mut piece: impl FnMut() -> usize) -> Outcome {
    let mut stage = Stage::new();
    let (mut plain, mut outcome) = (Vec::new(), None);
    let mut rest = data;
    while !rest.is_empty() {
        let (now, after) = rest.split_at(piece().clamp(1, rest.len()));
        rest = after;
        let taken = stage.on_bytes(NOW, &mut now.to_vec(), options, &mut plain);
        if let Some(upgraded) = taken.upgraded {
            assert!(outcome.replace(Ok(upgraded)).is_none(), "one upgrade");
        }
        if let Some(end) = taken.end {
            // The frames behind an upgrade are the other target's.
            outcome = outcome.or(Some(Err(end)));
            break;
        }
    }
    assert!(plain.len() <= data.len());
    let out = stage.output().to_vec();
    assert!(out.len() < 1024);
    (out, outcome, plain)
}

/// First byte: what the listener allows, and how the request is cut. The rest is what the client sends.
pub fn upgrade(mut data: &[u8]) {
    let choice = byte(&mut data);
    let origins = ["https://a".to_owned()];
    let options = Options {
        max_head: if choice & 1 != 0 { 300 } else { 4096 },
        origins: if choice & 2 != 0 { &origins } else { &[] },
        files: choice & 4 != 0,
        local: choice & 8 != 0,
    };
    let mut random = Random(u64::from(choice) + 1);
    let most = [1, 7, 100][usize::from(choice >> 4) % 3];
    let whole = request(data, &options, || usize::MAX);
    let cut = request(data, &options, || 1 + random.below(most));
    if let (Some(whole), Some(cut)) = (&whole.1, &cut.1) {
        assert_eq!(whole, cut);
    }
    assert!(whole.1.is_some() || cut.1.is_none(), "only pieces were decided");

    let text = String::from_utf8(whole.0).expect("text");
    match whole.1 {
        None => assert_eq!(text, ""),
        Some(Ok(Upgraded { protocol, forwarded })) => {
            assert!(text.starts_with("HTTP/1.1 101 ") && text.contains(&format!("-Protocol: {protocol}\r\n")));
            assert!(forwarded.is_none() || options.local);
            assert!(data.windows(4).any(|part| part == b"mqtt"));
        }
        Some(Err(End::Refused(refusal))) => {
            assert!(text.starts_with(&format!("HTTP/1.1 {}\r\n", refusal.status)), "{text}");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            assert!(body.is_empty() || head.contains(&format!("Content-Length: {}\r\n", body.len())));
        }
        Some(Err(End::File(file))) => {
            assert!(options.files && text.is_empty());
            let names = || file.path.split('/');
            assert!(file.path.is_empty() || names().all(|name| !matches!(name, "" | "." | "..")), "{file:?}");
            assert!(!file.path.contains(['\\', '\0', '\r', '\n']), "{file:?}");
            let mut out = Vec::new();
            file.put_redirect(&mut out, "now");
            assert!(file.slash || !String::from_utf8_lossy(&out).contains("Location: //"));
        }
        Some(Err(other)) => panic!("{other:?}"),
    }
}

/// The bytes of the messages, the payloads of the pings, and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    data: Vec<u8>,
    pings: Vec<Vec<u8>>,
    end: Option<(bool, u16)>,
}

/// RFC 6455, 5.2 to 5.5, over the whole stream at once.
fn by_hand(mut data: &[u8]) -> Read {
    let mut read = Read::default();
    let mut fragmented = false;
    while read.end.is_none() {
        let Some(&first) = data.first() else { break };
        let (fin, opcode) = (first & 0x80 != 0, first & 15);
        let control = opcode >= 8;
        let bad = if first & 0x70 != 0 || !matches!(opcode, 0 | 1 | 2 | 8 | 9 | 10) || (control && !fin) {
            Some(1002)
        } else {
            (opcode == 1).then_some(1003)
        };
        if let Some(code) = bad {
            read.end = Some((false, code));
            break;
        }
        let Some(&second) = data.get(1) else { break };
        let (short, field) =
            (second & 127, [0, 2, 8][usize::from(second & 127 > 125) + usize::from(second & 127 > 126)]);
        if second & 128 == 0 || (control && short > 125) {
            read.end = Some((false, 1002));
            break;
        }
        let Some(digits) = data.get(2..2 + field) else { break };
        let long = digits.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
        let len = if field == 0 { u64::from(short) } else { long };
        if (field == 2 && len < 126) || (field == 8 && (len < 0x1_0000 || len >> 63 != 0)) {
            read.end = Some((false, 1002));
            break;
        }
        let Some(mask) = data.get(2 + field..6 + field) else { break };
        let fits = control || (opcode == 0) == fragmented;
        if !fits {
            read.end = Some((false, 1002));
            break;
        }
        if !control {
            fragmented = !fin;
        }
        let rest = &data[6 + field..];
        let there = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
        let payload: Vec<u8> = rest[..there].iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
        if !control {
            read.data.extend(payload);
        } else if (there as u64) < len {
            break;
        } else if opcode == 9 {
            read.pings.push(payload);
        } else if opcode == 8 {
            read.end = Some(match payload.as_slice() {
                [] => (true, 1000),
                [high, low, reason @ ..] => match u16::from_be_bytes([*high, *low]) {
                    code @ (1000..=1003 | 1007..=1014 | 3000..=4999) if std::str::from_utf8(reason).is_ok() => {
                        (true, code)
                    }
                    _ => (false, 1002),
                },
                _ => (false, 1002),
            });
        }
        data = &rest[there..];
    }
    read
}

/// Reads what the broker sent: the bytes of binary frames, pongs, and the code of the close, behind which there is nothing.
fn read_ours(mut out: &[u8]) -> (usize, Vec<Vec<u8>>, Option<u16>) {
    let (mut data, mut pongs) = (0, Vec::new());
    while let [first, second, rest @ ..] = out {
        let field = [0, 2, 8][usize::from(*second > 125) + usize::from(*second > 126)];
        let long = rest[..field].iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
        let len = if field == 0 { usize::from(*second) } else { long };
        let (payload, after) = rest[field..].split_at(len);
        match first {
            0x82 => {
                assert!(len > 0 && payload.iter().all(|b| *b == b'x'));
                data += len;
            }
            0x8A => pongs.push(payload.to_vec()),
            0x88 => {
                assert!(after.is_empty() && len == 2, "nothing follows a close");
                return (data, pongs, Some(u16::from_be_bytes([payload[0], payload[1]])));
            }
            other => panic!("{other:#x}"),
        }
        out = after;
    }
    assert!(out.is_empty(), "a frame is not whole");
    (data, pongs, None)
}

/// First 4 bytes: how the stream is cut, and when and how much is written. The rest is what a client sends that has its
/// upgrade.
pub fn websocket(mut data: &[u8]) {
    let seed = (0..4).fold(1, |seed, _| seed << 8 | u64::from(byte(&mut data)));
    let mut random = Random(seed);
    let mut stage = Stage::new();
    let mut got = Read::default();
    let taken = stage.on_bytes(NOW, &mut REQUEST.as_bytes().to_vec(), &OPTIONS, &mut got.data);
    assert!(taken.upgraded.is_some() && taken.end.is_none());
    let head = stage.output().len();
    assert_eq!((stage.advance(head), stage.output()), (0, &[][..]));

    let want = by_hand(data);
    let most = [1, 5, 60, 100_000][random.below(4)];
    let (mut out, mut waiting, mut offered) = (Vec::new(), 0, 0);
    let mut rest = data;
    while !rest.is_empty() && got.end.is_none() {
        let (piece, after) = rest.split_at((1 + random.below(most)).min(rest.len()));
        rest = after;
        let taken = stage.on_bytes(NOW, &mut piece.to_vec(), &OPTIONS, &mut got.data);
        assert!(taken.upgraded.is_none(), "a second upgrade");
        match taken.end {
            None => {}
            Some(End::Closed(CloseCode(code))) => got.end = Some((true, code)),
            Some(End::BadFrame(CloseCode(code))) => got.end = Some((false, code)),
            Some(other) => panic!("{other:?}"),
        }
        assert!(stage.output().len() <= 300, "unread output is bounded");
        if random.below(3) == 0 {
            let more = [1, 125, 126, 1000][random.below(4)];
            (waiting, offered) = (waiting + more, offered + more);
        }
        if random.below(3) == 0 {
            write(&mut stage, &mut waiting, &mut out, || random.below(200));
        }
    }
    assert_eq!((&got.data, got.end), (&want.data, want.end));
    while write(&mut stage, &mut waiting, &mut out, || usize::MAX) {}
    if got.end.is_some() || random.below(2) == 0 {
        stage.close(CloseCode::GOING_AWAY);
        // Else the end comes from our side.
        got.end.get_or_insert((true, 1001));
    }
    while write(&mut stage, &mut waiting, &mut out, || usize::MAX) {}
    let (sent, pongs, code) = read_ours(&out);
    assert_eq!(code, got.end.map(|(_, code)| code));
    assert_eq!((sent, waiting), (offered, 0));
    // Pings that came too fast are answered by the pong to a later one.
    let mut pings = want.pings.iter();
    assert!(pongs.iter().all(|pong| pings.any(|ping| ping == pong)), "{pongs:?} for {:?}", want.pings);
    let answered = want.pings.last() == pongs.last();
    assert!(answered || code.is_some(), "the last ping is answered");
}

/// One write of so many bytes; false when there is nothing to write.
fn write(stage: &mut Stage, waiting: &mut usize, out: &mut Vec<u8>, most: impl FnOnce() -> usize) -> bool {
    let theirs = stage.frame(*waiting);
    assert!(theirs <= *waiting);
    let mut bytes = stage.output().to_vec();
    bytes.extend(std::iter::repeat_n(b'x', theirs));
    let n = most().min(bytes.len());
    *waiting -= stage.advance(n);
    out.extend_from_slice(&bytes[..n]);
    !bytes.is_empty()
}
