//! HTTP on a metrics listener: whatever comes, in whatever pieces, gets at most one well-formed answer, the same one, from
//! bounded memory.

use std::io::IoSlice;

use mosquitto::broker::{Broker, ConnId};
use mosquitto::config::{Config, Global, Listener, Protocol};
use mosquitto::proto::{CloseReason, Endpoint, Flow, Flushed, LoopFigures, Outbox, Peer, Turn};
use mosquitto::slab::Key;
use mosquitto::timer::Now;

use super::{Random, byte};

const STATUSES: [&str; 8] = [
    "200 OK",
    "400 Bad Request",
    "404 Not Found",
    "405 Method Not Allowed",
    "408 Request Timeout",
    "431 Request Header Fields Too Large",
    "503 Service Unavailable",
    "505 HTTP Version Not Supported",
];

struct World {
    broker: Broker,
    config: Config,
    listener: Listener,
    now: Now,
}

/// One connection.
struct Peered {
    endpoint: Endpoint,
    out: Outbox,
    reports: u32,
}

impl World {
    fn open(&self) -> Peered {
        let peer = Peer::new(([127, 0, 0, 1], 1000).into());
        Peered { endpoint: Endpoint::new(Protocol::Metrics, self.now, peer), out: Outbox::default(), reports: 0 }
    }

    fn with<R>(&mut self, peer: &mut Peered, act: impl FnOnce(&mut Endpoint, &mut Turn<'_>) -> R) -> R {
        let mut turn = Turn {
            now: self.now,
            broker: &mut self.broker,
            out: &mut peer.out,
            conn: ConnId(Key::from_bits(0)),
            config: &self.config,
            listener: &self.listener,
            budget: 64,
        };
        act(&mut peer.endpoint, &mut turn)
    }

    fn send(&mut self, peer: &mut Peered, bytes: &[u8]) {
        match self.with(peer, |endpoint, turn| endpoint.on_bytes(turn, bytes)) {
            Flow::Continue => {}
            Flow::Report => {
                assert!(matches!(self.with(peer, |endpoint, turn| endpoint.on_bytes(turn, &[])), Flow::Report));
                peer.reports += 1;
                let figures = LoopFigures { listeners: vec![(1883, 1)], ..LoopFigures::default() };
                self.with(peer, |endpoint, turn| endpoint.report(turn, &figures));
            }
            other => panic!("{other:?}"),
        }
        assert!(peer.reports <= 1 && peer.out.len() < 64 * 1024, "one answer");
    }

    /// The answer, and whether the connection would end by itself.
    fn answer(&mut self, peer: &mut Peered) -> Option<Vec<u8>> {
        let last = self.with(peer, |endpoint, turn| endpoint.flush(turn)) == Flushed::Last;
        let mut slices = [IoSlice::new(&[]); 8];
        let used = peer.out.slices(&mut slices);
        let all: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
        assert_eq!((last, peer.endpoint.is_answering()), (!all.is_empty(), last), "an answer is the end");
        last.then_some(all)
    }
}

/// Checks an answer and returns its status.
fn check(answer: &[u8], head_only: bool) -> String {
    let text = std::str::from_utf8(answer).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("a status line").to_owned();
    assert!(STATUSES.contains(&&*status), "{status}");
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a field");
        if name == "Content-Length" {
            length = value.parse::<usize>().ok();
        }
    }
    assert!(head.contains("\r\nConnection: close"));
    let length = length.expect("a length");
    assert!(length == body.len() || (head_only && body.is_empty()), "{length} and {}", body.len());
    status
}

/// The first byte chooses how the rest is cut into pieces and whether the broker is well; the rest is what the peer sends.
pub fn metrics(mut data: &[u8]) {
    let choice = byte(&mut data);
    let now = Now { mono_ms: 1_000_000, wall_s: 1_700_000_000 };
    let global = Global { memory_limit: u64::from(choice & 1), ..Global::default() };
    let config = Config { global, ..Config::local_only(&[1883]) };
    let mut broker = Broker::new(config.global.clone(), [1, 2], now);
    broker.stats.heap = 2;
    let mut world = World { broker, config, listener: Listener::new(9234, None), now };
    let mut random = Random(u64::from(choice) + 1);

    let mut whole = world.open();
    world.send(&mut whole, data);
    let mut cut = world.open();
    let mut rest = data;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + random.below(1 + usize::from(choice))).min(rest.len()));
        world.send(&mut cut, piece);
        rest = after;
    }
    let head_only = data.windows(5).any(|word| word == b"HEAD ");
    let answers = (world.answer(&mut whole), world.answer(&mut cut));
    if let (Some(whole), Some(cut)) = &answers {
        assert!(whole == cut, "{} or {}", String::from_utf8_lossy(whole), String::from_utf8_lossy(cut));
    }
    assert!(answers.0.is_some() || answers.1.is_none(), "only pieces were answered");
    if let Some(answer) = &answers.0 {
        let status = check(answer, head_only);
        let contains = |word: &[u8]| data.windows(word.len()).any(|part| part == word);
        assert!(!status.starts_with("200") || contains(b"/metrics") || contains(b"/healthz"));
        assert_eq!(whole.reports == 1, answer.windows(15).any(|part| part == b"version=0.0.4; "), "the page");
    }

    // Time ends every connection, whatever was sent, and a slow peer is told at most once.
    for mut peer in [whole, cut] {
        let before = peer.out.len();
        world.now.mono_ms = peer.endpoint.deadline().expect("a limit");
        let Flow::Close(reason) = world.with(&mut peer, |endpoint, turn| endpoint.on_timer(turn)) else {
            panic!("still there")
        };
        assert_eq!(reason, CloseReason::Timeout);
        let told = world.with(&mut peer, |endpoint, turn| endpoint.close(turn, &reason));
        assert_eq!(told, !peer.out.is_empty());
        assert!(before == 0 || peer.out.len() == before, "a second answer");
    }
}
