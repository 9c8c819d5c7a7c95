//! The format against itself: what is written reads back, and every kind of damage costs what it must and no more.

use std::borrow::Cow;
use std::io;

use super::chunk::{
    Chunk, Client, ClientMessage, Config, Direction, Kind, Message, NEVER, Retained, State, Subscription,
};
use super::db::Db;
use super::fault::{Fault, Findings, Oddity};
use super::read::{Reader, Source, SourceError};
use super::write::{Unwritable, Writer};
use super::{ByteOrder, HEADER_LEN, MAGIC};
use crate::wire::QoS;
use crate::wire::error::PropFault;
use crate::wire::subscribe::{RetainHandling, SubscribeOptions};
use crate::wire::topic::TopicError;

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    fn number(&mut self) -> u64 {
        let bits = self.below(65) as u32;
        if bits == 0 { 0 } else { self.next() >> (64 - bits) }
    }

    fn text(&mut self, least: u64, most: u64) -> String {
        (0..least + self.below(most - least + 1)).map(|_| ['a', 'é', '/', '7', '💧'][self.below(5) as usize]).collect()
    }

    fn qos(&mut self) -> QoS {
        QoS::from_bits(self.below(3) as u8).unwrap()
    }
}

/// Owners of what a random store borrows.
struct Pool {
    texts: Vec<String>,
    payloads: Vec<Vec<u8>>,
}

impl Pool {
    fn new(random: &mut Random) -> Pool {
        let mut texts: Vec<String> = (0..20).map(|_| random.text(1, 40)).collect();
        texts.push("x".repeat(65_535));
        let payloads = (0..10).map(|_| (0..random.below(300)).map(|_| random.next() as u8).collect()).collect();
        Pool { texts, payloads }
    }

    fn text(&self, random: &mut Random) -> &str {
        loop {
            let text = &self.texts[random.below(self.texts.len() as u64) as usize];
            // A topic and a filter may not be too deep; nothing else is wrong with these texts.
            if text.bytes().filter(|b| *b == b'/').count() < 100 {
                return text;
            }
        }
    }

    fn maybe(&self, random: &mut Random) -> &str {
        if random.flag() { self.text(random) } else { "" }
    }

    fn store(&self, random: &mut Random) -> Db<'_> {
        let n = |random: &mut Random| 0..random.below(8);
        let id = |random: &mut Random| random.number() & 0x00FF_FFFF_FFFF_FFFE | 1;
        let mut db = Db {
            config: random.flag().then(|| Config { last_db_id: id(random), shutdown: random.flag() }),
            ..Db::default()
        };
        for _ in n(random) {
            let mut props = Vec::new();
            if random.flag() {
                props.extend([1, random.below(2) as u8]);
                for _ in n(random) {
                    props.extend([0x26]);
                    for _ in 0..2 {
                        let text = random.text(0, 30);
                        props.extend((text.len() as u16).to_be_bytes());
                        props.extend(text.as_bytes());
                    }
                }
            }
            db.messages.push(Message {
                store_id: id(random),
                expiry_time: random.number() as i64,
                source_packet_id: random.number() as u16,
                source_port: random.number() as u16,
                qos: random.qos(),
                retain: random.flag(),
                source_id: self.maybe(random),
                source_username: self.maybe(random),
                topic: self.text(random),
                payload: &self.payloads[random.below(10) as usize],
                props: Cow::Owned(props),
            });
        }
        for number in n(random) {
            let interval = if random.flag() { NEVER } else { random.number() as u32 };
            let client = Client {
                id: &self.texts[number as usize],
                session_expiry_time: if interval == NEVER { 0 } else { random.number() as i64 },
                session_expiry_interval: interval,
                last_packet_id: random.number() as u16,
                // Palindromes: no port and no length can look like the one before, swapped.
                listener_port: (random.below(256) * 0x101) as u16,
                username: self.maybe(random),
                ..Client::default()
            };
            db.clients.push(client);
            for _ in n(random) {
                db.client_messages.push(ClientMessage {
                    client_id: client.id,
                    store_id: id(random),
                    packet_id: random.number() as u16,
                    qos: random.qos(),
                    state: State::of(random.below(12) as u8).unwrap(),
                    retain: random.flag(),
                    dup: random.flag(),
                    direction: if random.flag() { Direction::In } else { Direction::Out },
                    subscription_id: if random.flag() { 0 } else { random.below(268_435_456) as u32 },
                });
            }
        }
        // Clients with one id would have their queues grouped.
        let mut seen = std::collections::BTreeSet::new();
        if !db.clients.iter().all(|client| seen.insert(client.id)) {
            db.clients.clear();
            db.client_messages.clear();
        }
        for _ in n(random) {
            let retain_handling =
                [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend][random.below(3) as usize];
            db.subscriptions.push(Subscription {
                client_id: self.text(random),
                filter: self.text(random),
                options: SubscribeOptions {
                    qos: random.qos(),
                    no_local: random.flag(),
                    retain_as_published: random.flag(),
                    retain_handling,
                },
                identifier: random.below(268_435_456) as u32,
            });
            db.retained.push(Retained { store_id: id(random) });
        }
        db
    }
}

fn written(db: &Db<'_>, writer: Writer) -> Vec<u8> {
    let mut out = Vec::new();
    db.write(writer, &mut out).unwrap();
    out
}

/// Small, with every kind of chunk.
fn sample() -> Vec<u8> {
    let mut db = Db { config: Some(Config { last_db_id: 9, shutdown: true }), ..Db::default() };
    db.messages.push(Message {
        store_id: 7,
        topic: "dev/status",
        source_id: "publisher",
        source_username: "bob",
        payload: b"on",
        qos: QoS::AtLeastOnce,
        props: Cow::Borrowed(&[1, 1, 0x26, 0, 1, b'k', 0, 1, b'v']),
        ..Message::default()
    });
    db.messages.push(Message { store_id: 9, topic: "b", ..Message::default() });
    db.clients.push(Client { id: "c", session_expiry_interval: NEVER, username: "carol", ..Client::default() });
    let message =
        ClientMessage { client_id: "c", store_id: 7, packet_id: 1, state: State::Queued, ..Default::default() };
    db.client_messages.extend([message, ClientMessage { subscription_id: 300, packet_id: 2, ..message }]);
    db.subscriptions.push(Subscription { client_id: "c", filter: "dev/#", identifier: 300, ..Default::default() });
    db.retained.push(Retained { store_id: 9 });
    written(&db, Writer::NATIVE)
}

/// The items of a file with their bytes: offset, whole length.
fn layout(file: &[u8]) -> Vec<(usize, usize, Kind)> {
    let mut reader = Reader::new();
    let mut rest = file;
    let mut all = Vec::new();
    while let Some(item) = reader.next_of(&mut rest).unwrap() {
        all.push((item.offset as usize, item.length as usize + 8, Kind::of(item.chunk.number()).unwrap()));
    }
    all
}

/// The first chunk of a kind in [`sample`].
fn place(kind: Kind) -> usize {
    layout(&sample()).into_iter().find(|(.., k)| *k == kind).unwrap().0
}

#[test]
fn random_stores_read_back_in_every_layout() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for round in 0..300 {
        let pool = Pool::new(&mut random);
        let db = pool.store(&mut random);
        for order in [ByteOrder::Little, ByteOrder::Big] {
            for short_padding in [false, true] {
                // Without an id the byte order cannot be seen.
                if order != ByteOrder::NATIVE && db.config.is_none() {
                    continue;
                }
                if order != ByteOrder::NATIVE && db.config.is_some_and(|c| c.last_db_id >= 1 << 54) {
                    continue;
                }
                let writer = Writer { order, short_padding };
                let file = written(&db, writer);
                let loaded = Db::from_slice(&file);
                if loaded.findings.list().iter().any(|f| f.what == Oddity::LeakedUsername) {
                    // Random names can repeat with a length that looks swapped.
                    continue;
                }
                if order != ByteOrder::NATIVE
                    && !loaded.findings.list().iter().any(|f| f.what == Oddity::ForeignByteOrder)
                {
                    // An id whose top byte is 0 in both orders tells nothing.
                    assert!(db.config.is_some_and(|c| c.last_db_id & 0xFF == 0), "{:?}", db.config);
                    continue;
                }
                assert_eq!(loaded.damage, [], "round {round}");
                assert_eq!(loaded.db, db, "round {round}, {writer:?}");
                assert_eq!(written(&loaded.db, writer), file, "round {round}");
            }
        }
    }
}

#[test]
fn a_source_gives_what_the_slice_gives() {
    /// Gives a few bytes at a time, and interrupts.
    struct Drip<'a>(&'a [u8], Random);
    impl io::Read for Drip<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            if self.1.below(4) == 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let n = (1 + self.1.below(40) as usize).min(self.0.len()).min(to.len());
            let (now, rest) = self.0.split_at(n);
            to[..n].copy_from_slice(now);
            self.0 = rest;
            Ok(n)
        }
    }
    let file = sample();
    for end in 0..=file.len() {
        let cut = &file[..end];
        let mut source = Source::new(Drip(cut, Random(7 + end as u64)));
        let (mut reader, mut rest) = (Reader::new(), cut);
        loop {
            let want = reader.next_of(&mut rest);
            match source.next_item() {
                Ok(item) => {
                    assert_eq!(Ok(item.clone()), want, "cut at {end}");
                    if item.is_none() {
                        break;
                    }
                }
                Err(SourceError::Damage(damage)) => assert_eq!(Err(damage), want, "cut at {end}"),
                Err(SourceError::Io(error)) => panic!("{error}"),
            }
        }
        assert_eq!(source.reader().offset(), reader.offset());
    }
}

#[test]
fn every_truncation_keeps_what_is_whole() {
    let file = sample();
    let chunks = layout(&file);
    for end in 0..file.len() {
        let loaded = Db::from_slice(&file[..end]);
        let whole = chunks.iter().filter(|(at, len, _)| at + len <= end).count();
        let db = &loaded.db;
        let got = usize::from(db.config.is_some())
            + db.messages.len()
            + db.clients.len()
            + db.client_messages.len()
            + db.subscriptions.len()
            + db.retained.len();
        assert_eq!(got, whole, "cut at {end}");
        let at_border = end == HEADER_LEN || chunks.iter().any(|(at, len, _)| at + len == end);
        assert_eq!(loaded.damage.is_empty(), at_border, "cut at {end}");
        if let [damage] = loaded.damage[..] {
            let fault = match end {
                0 => Fault::Empty,
                1..HEADER_LEN => Fault::ShortHeader,
                _ => Fault::Truncated,
            };
            assert_eq!((damage.fault, damage.is_final), (fault, true), "cut at {end}");
            let start =
                chunks.iter().map(|(at, ..)| *at).filter(|at| *at <= end && end > HEADER_LEN).max().unwrap_or(0);
            assert_eq!(damage.offset as usize, start, "cut at {end}");
        }
    }
}

#[test]
fn a_bad_header_is_told_apart() {
    let file = sample();
    let with_version = |n: u32| [&file[..19], &n.to_be_bytes(), &file[HEADER_LEN..]].concat();
    for (bytes, want) in [
        (b"".to_vec(), Fault::Empty),
        (MAGIC[..3].to_vec(), Fault::ShortHeader),
        (file[..22].to_vec(), Fault::ShortHeader),
        (b"x".to_vec(), Fault::Foreign),
        (b"\0\xB5\x01".to_vec(), Fault::Foreign),
        (b"SQLite format 3\0\0\0\0\0\0\0\0\0".to_vec(), Fault::Foreign),
        (vec![0; 4096], Fault::Foreign),
        (with_version(0), Fault::Version(0)),
        (with_version(1), Fault::Version(1)),
        (with_version(7), Fault::Version(7)),
        (with_version(0x0600_0000), Fault::Version(0x0600_0000)),
    ] {
        let loaded = Db::from_slice(&bytes);
        let [damage] = loaded.damage[..] else { panic!("{:?}", loaded.damage) };
        assert_eq!((damage.offset, damage.kind, damage.fault, damage.is_final), (0, None, want, true));
        assert_eq!(loaded.db, Db::default());
    }
    let mut newer = &with_version(7)[..];
    let mut reader = Reader::new().accept_newer();
    assert!(reader.next_of(&mut newer).unwrap().is_some());
    // The checksum means nothing.
    let crc = [&file[..15], &[1, 2, 3, 4], &file[19..]].concat();
    assert_eq!(Db::from_slice(&crc).db, Db::from_slice(&file).db);
}

/// `file` with these bytes at `at`.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = sample();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn damage_costs_its_chunk_where_the_length_can_be_trusted() {
    let whole = Db::from_slice(&sample()).db.client_messages.len();
    let [config, message, queued] = [Kind::Config, Kind::Message, Kind::ClientMessage].map(place);
    // What follows the fixed part of the first message: 9 + 3 + 10 + 2 bytes, then the properties.
    let props = message + 8 + 32 + 24;
    for (name, file, offset, fault, is_final) in [
        ("config shorter", patched(config + 7, &[15]), config, Fault::Length, false),
        ("id size", patched(config + 8 + 9, &[4]), config, Fault::IdSize(4), true),
        ("topic longer", patched(message + 8 + 26, &[0xFF, 0xFF]), message, Fault::Length, false),
        ("payload huge", patched(message + 8 + 16, &[0xFF; 4]), message, Fault::Length, false),
        ("store id", patched(message + 8, &[0; 8]), message, Fault::NoStoreId, false),
        ("length huge", patched(message + 4, &[0xFF; 4]), message, Fault::Length, true),
        ("length beyond", patched(message + 4, &[0, 0xFF, 0, 0]), message, Fault::Truncated, true),
        ("property", patched(props + 1, &[0x7F]), message, Fault::Properties(PropFault::Unknown), false),
        ("block longer", patched(props, &[0x70]), message, Fault::Properties(PropFault::Truncated), false),
        ("type zero", patched(queued, &[0; 4]), queued, Fault::Type(0), true),
        ("direction", patched(queued + 8 + 15, &[9]), queued, Fault::Direction(9), false),
        ("id longer", patched(queued + 8 + 10, &[1]), queued, Fault::Length, false),
    ] {
        let loaded = Db::from_slice(&file);
        let first = loaded.damage.first().unwrap_or_else(|| panic!("{name}: no damage"));
        assert_eq!((first.offset as usize, first.fault, first.is_final), (offset, fault, is_final), "{name}");
        if is_final {
            assert_eq!(loaded.damage.len(), 1, "{name}");
        } else if name != "config shorter" {
            let lost = usize::from(offset == queued);
            assert_eq!(loaded.db.client_messages.len(), whole - lost, "{name}: what follows was not read");
            assert_eq!(loaded.db.retained.len(), 1, "{name}");
        }
    }
}

#[test]
fn an_unknown_chunk_is_skipped_unless_it_may_be_garbage() {
    let file = sample();
    let at = place(Kind::Client);
    let chunk =
        |kind: u32, length: u32, n: usize| [&kind.to_be_bytes()[..], &length.to_be_bytes(), &vec![7; n]].concat();
    let with = |chunk: &[u8]| [&file[..at], chunk, &file[at..]].concat();
    let good = with(&chunk(99, 100_000, 100_000));
    let loaded = Db::from_slice(&good);
    assert_eq!((loaded.damage.len(), &loaded.db), (0, &Db::from_slice(&file).db));
    assert_eq!(loaded.findings.list()[0].what, Oddity::UnknownType(99));
    assert!(loaded.findings.loses_data());
    let mut source = Source::new(&good[..]);
    let mut items = 0;
    while source.next_item().unwrap().is_some() {
        items += 1;
    }
    assert_eq!(items, layout(&file).len() + 1);

    let beyond = Db::from_slice(&with(&chunk(99, 1_000_000, 10)).clone()).damage;
    assert_eq!(beyond[0].fault, Fault::Truncated);

    // Behind a chunk that was lost the same header is no longer believed.
    let mut damaged = with(&chunk(99, 4, 4));
    damaged[place(Kind::Message) + 8..][..8].fill(0);
    let loaded = Db::from_slice(&damaged);
    assert_eq!(loaded.damage.iter().map(|d| d.fault).collect::<Vec<_>>(), [Fault::NoStoreId, Fault::Type(99)]);
}

#[test]
fn a_claim_is_not_allocated() {
    // A message that claims 256 MB, of which ten bytes come.
    let claim = [&sample()[..HEADER_LEN], &2u32.to_be_bytes()[..], &268_000_000u32.to_be_bytes(), &[1; 10]].concat();
    let mut source = Source::new(&claim[..]);
    assert!(matches!(source.next_item(), Err(SourceError::Damage(d)) if d.fault == Fault::Truncated));
    assert!(source.next_item().unwrap().is_none());
    // Findings are counted but not kept.
    let mut file = sample()[..HEADER_LEN].to_vec();
    for _ in 0..1000 {
        file.extend([0, 0, 0, 99, 0, 0, 0, 0]);
    }
    let findings = Db::from_slice(&file).findings;
    assert_eq!((findings.list().len(), findings.count()), (Findings::MOST, 1000));
    // So is damage: chunks without a store id.
    let mut file = sample()[..HEADER_LEN].to_vec();
    for _ in 0..1000 {
        file.extend([&[0, 0, 0, 2, 0, 0, 0, 32][..], &[0; 32]].concat());
    }
    assert_eq!(Db::from_slice(&file).damage.len(), Reader::MOST_DAMAGE);
}

/// A version 6 client chunk as the file has it.
fn client_chunk(id: &str, username: &[u8], port: u16) -> Vec<u8> {
    let length = (24 + id.len() + username.len()) as u32;
    let mut out = [&6u32.to_be_bytes()[..], &length.to_be_bytes(), &[0; 8], &[0xFF; 4], &[0, 0]].concat();
    for n in [id.len() as u16, port, username.len() as u16] {
        out.extend(n.to_be_bytes());
    }
    [&out[..], &[0; 4], id.as_bytes(), username].concat()
}

#[test]
fn names_and_ports_of_the_client_before_are_found() {
    let mut leaked = b"alice\0secret".to_vec();
    leaked.resize(1280, 0xA5);
    let swapped = 18831u16.swap_bytes();
    let file = [
        sample()[..HEADER_LEN].to_vec(),
        client_chunk("named", b"alice", 18831),
        client_chunk("second", &leaked, swapped),
        client_chunk("third", b"alice", 18831),
        client_chunk("other", b"dave", 0),
        client_chunk("again", b"dave", 18831),
        client_chunk("binary", &[0xFF, 0xFE], 18831),
        client_chunk("none", b"", 18831),
    ]
    .concat();
    let loaded = Db::from_slice(&file);
    assert_eq!(loaded.damage, []);
    let got: Vec<_> =
        loaded.db.clients.iter().map(|c| (c.id, c.username, c.trusted_username(), c.listener_port)).collect();
    assert_eq!(
        got,
        [
            ("named", "alice", "alice", 18831),
            ("second", "alice", "", 0),
            ("third", "alice", "", 18831),
            ("other", "dave", "dave", 0),
            ("again", "dave", "dave", 18831),
            ("binary", "", "", 18831),
            ("none", "", "", 18831),
        ]
    );
    let told: Vec<_> = loaded.findings.list().iter().map(|f| f.what).collect();
    assert_eq!(told, [Oddity::LeakedUsername, Oddity::LeakedPort, Oddity::LeakedUsername, Oddity::Text]);
    assert!(!loaded.findings.loses_data());
    // Nothing of the other client, and nothing of the writer's memory, is written again.
    let again = written(&loaded.db, Writer::NATIVE);
    assert!(!again.windows(6).any(|w| w == b"secret"));
    assert_eq!(Db::from_slice(&again).db.clients[1].username, "");
}

#[test]
fn what_cannot_be_is_replaced_or_dropped() {
    let [message, queued, sub] = [Kind::Message, Kind::ClientMessage, Kind::Subscription].map(place);
    let topic = message + 8 + 32 + 12;
    let props = topic + 12;
    type Check = fn(&Db<'_>) -> bool;
    let cases: [(&str, Vec<u8>, Oddity, Check); 11] = [
        ("qos", patched(message + 8 + 30, &[3]), Oddity::Value, |db| db.messages[0].qos == QoS::ExactlyOnce),
        ("wildcard", patched(topic, b"#"), Oddity::Topic(TopicError::Wildcard), |db| db.messages.len() == 1),
        ("topic text", patched(topic, &[0xFF]), Oddity::NotUtf8, |db| db.messages.len() == 1),
        ("source text", patched(topic - 12, &[0xFF]), Oddity::Text, |db| db.messages[0].source_id.is_empty()),
        ("flag", patched(props + 2, &[7]), Oddity::Property, |db| {
            db.messages[0].props[..] == [0x26, 0, 1, b'k', 0, 1, b'v']
        }),
        ("block shorter", patched(props, &[2]), Oddity::Trailing, |db| db.messages[0].props[..] == [1, 1]),
        ("state", patched(queued + 8 + 13, &[12]), Oddity::Value, |db| db.client_messages[0].state == State::Invalid),
        ("sub bits", patched(sub + 8 + 9, &[0xC4]), Oddity::Value, |db| {
            db.subscriptions[0].options == SubscribeOptions { no_local: true, ..Default::default() }
        }),
        ("sub qos", patched(sub + 8 + 8, &[3]), Oddity::Value, |db| {
            db.subscriptions[0].options.qos == QoS::ExactlyOnce
        }),
        ("sub id", patched(sub + 8, &[0xFF]), Oddity::Value, |db| db.subscriptions[0].identifier == 0),
        ("filter", patched(sub + 8 + 12 + 1, b"#"), Oddity::Topic(TopicError::Placement), |db| {
            db.subscriptions.is_empty()
        }),
    ];
    for (name, file, want, check) in cases {
        let loaded = Db::from_slice(&file);
        assert_eq!(loaded.damage, [], "{name}");
        assert_eq!(loaded.findings.list().iter().map(|f| f.what).collect::<Vec<_>>(), [want], "{name}");
        assert!(check(&loaded.db), "{name}: {:?}", loaded.db);
    }
}

#[test]
fn only_properties_that_are_stored_are_kept() {
    let message = |props: &[u8]| {
        let length = (32 + 1 + 1 + props.len()) as u32;
        let fixed = [&[7, 0, 0, 0, 0, 0, 0, 0][..], &[0; 8], &[0; 10], &[0, 1, 0, 0, 0, 0]].concat();
        [&sample()[..HEADER_LEN], &2u32.to_be_bytes(), &length.to_be_bytes(), &fixed, b"t", &[props.len() as u8], props]
            .concat()
    };
    let user = [0x26, 0, 0, 0, 1, b'v'];
    for (props, want, odd) in [
        (vec![], vec![], false),
        (user.to_vec(), user.to_vec(), false),
        ([&user[..], &user].concat(), [&user[..], &user].concat(), false),
        ([&[2, 0, 0, 0, 9][..], &user, &[0x0B, 5, 0x23, 0, 1]].concat(), user.to_vec(), true),
        ([&[0x11, 0, 0, 0, 9][..], &user].concat(), user.to_vec(), true),
        ([&[1, 1, 1, 0][..], &user].concat(), [&[1, 1][..], &user].concat(), true),
    ] {
        let file = message(&props);
        let loaded = Db::from_slice(&file);
        assert_eq!((&loaded.damage[..], loaded.findings.count() > 0), (&[][..], odd), "{props:02X?}");
        assert_eq!(loaded.db.messages[0].props, want, "{props:02X?}");
    }
}

#[test]
fn old_versions_have_no_session_expiry_and_a_time_of_any_size() {
    let text = |s: &str| [&(s.len() as u16).to_be_bytes(), s.as_bytes()].concat();
    let chunk = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &(body.len() as u32).to_be_bytes(), body].concat();
    let id = ByteOrder::NATIVE.bytes(5);
    for (version, time) in [(2, 0), (3, 4), (3, 8), (4, 8)] {
        let seconds = ByteOrder::NATIVE.bytes(1_700_000_000);
        let seconds = if ByteOrder::NATIVE == ByteOrder::Little { &seconds[..time] } else { &seconds[8 - time..] };
        let source = if version == 4 { [text("user"), vec![7, 91]].concat() } else { vec![] };
        let file = [
            MAGIC.to_vec(),
            vec![0, 0, 0, 0, 0, 0, 0, version],
            chunk(1, &[&[1, 8][..], &id].concat()),
            chunk(2, &[&id[..], &text("p"), &source, &[0, 3, 0, 0], &text("t"), &[1, 1, 0, 0, 0, 2], b"ab"].concat()),
            chunk(6, &[&text("c")[..], &[0, 9], seconds].concat()),
            chunk(3, &[&text("c")[..], &id, &[0, 4, 2, 1, 0, 7, 1]].concat()),
            chunk(5, &[&text("c")[..], &text("t/#"), &[2]].concat()),
            chunk(4, &id),
        ]
        .concat();
        let loaded = Db::from_slice(&file);
        assert_eq!((&loaded.damage[..], loaded.findings.count(), loaded.version), (&[][..], 0, u32::from(version)));
        let (username, port) = if version == 4 { ("user", 0x075B) } else { ("", 0) };
        let want = Db {
            config: Some(Config { last_db_id: 5, shutdown: true }),
            messages: vec![Message {
                store_id: 5,
                source_packet_id: 3,
                source_port: port,
                qos: QoS::AtLeastOnce,
                retain: true,
                source_id: "p",
                source_username: username,
                topic: "t",
                payload: b"ab",
                ..Message::default()
            }],
            retained: vec![Retained { store_id: 5 }],
            clients: vec![Client {
                id: "c",
                session_expiry_interval: NEVER,
                last_packet_id: 9,
                disconnected_at: if time > 0 { 1_700_000_000 } else { 0 },
                ..Client::default()
            }],
            client_messages: vec![ClientMessage {
                client_id: "c",
                store_id: 5,
                packet_id: 4,
                qos: QoS::ExactlyOnce,
                state: State::AwaitPubrel,
                retain: true,
                dup: true,
                direction: Direction::In,
                subscription_id: 0,
            }],
            subscriptions: vec![Subscription {
                client_id: "c",
                filter: "t/#",
                options: SubscribeOptions { qos: QoS::ExactlyOnce, ..Default::default() },
                identifier: 0,
            }],
        };
        assert_eq!(loaded.db, want, "version {version}");
    }
}

#[test]
fn what_no_reader_takes_is_not_written() {
    let long = "x".repeat(65_536);
    let writer = Writer::NATIVE;
    let message = Message { store_id: 1, topic: "t", ..Message::default() };
    for (chunk, want) in [
        (Chunk::Message(Message { store_id: 0, ..message.clone() }), Unwritable::NoStoreId),
        (Chunk::Message(Message { topic: "", ..message.clone() }), Unwritable::NoTopic),
        (Chunk::Message(Message { topic: &long, ..message.clone() }), Unwritable::Text),
        (Chunk::Retained(Retained { store_id: 0 }), Unwritable::NoStoreId),
        (Chunk::Client(Client::default()), Unwritable::NoClientId),
        (Chunk::Client(Client { id: "c", username: &long, ..Client::default() }), Unwritable::Text),
        (Chunk::Subscription(Subscription { client_id: "c", ..Default::default() }), Unwritable::NoClientId),
        (Chunk::ClientMessage(ClientMessage { store_id: 1, ..Default::default() }), Unwritable::NoClientId),
        (Chunk::Unknown(9), Unwritable::Nothing),
    ] {
        let mut out = vec![1];
        assert_eq!(writer.chunk(&mut out, &chunk), Err(want));
        assert_eq!(out, [1]);
    }
}

#[test]
fn the_example_of_the_reference_is_written_byte_for_byte() {
    let db = Db {
        config: Some(Config { last_db_id: 61, shutdown: true }),
        messages: vec![Message {
            store_id: 61,
            source_packet_id: 15,
            source_port: 18831,
            qos: QoS::AtLeastOnce,
            retain: true,
            source_id: "publisher",
            source_username: "bob",
            topic: "dev/status",
            payload: b"on",
            ..Message::default()
        }],
        ..Db::default()
    };
    let want = [
        &b"\0\xB5\0mosquitto db\0\0\0\0\0\0\0\x06\0\0\0\x01\0\0\0\x10\x3D\0\0\0\0\0\0\0\x01\x08\0\0\0\0\0\0"[..],
        b"\0\0\0\x02\0\0\0\x38\x3D\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\x0F\0\x09\0\x03\0\x0A\x49\x8F\x01\x01",
        b"publisherbobdev/statuson",
    ]
    .concat();
    assert_eq!(written(&db, Writer { order: ByteOrder::Little, short_padding: false }), want);
}

#[test]
fn expiry_is_judged_by_the_clock_that_is_given() {
    for (time, now, want) in [
        (0, 100, false),
        (-5, 100, false),
        (99, 100, true),
        (100, 100, false),
        (100 + i64::from(u32::MAX), 100, false),
        (101 + i64::from(u32::MAX), 100, true),
        (i64::MAX, i64::MIN, true),
    ] {
        assert_eq!(Message { expiry_time: time, ..Message::default() }.is_expired(now), want, "{time} at {now}");
    }
    let client =
        |time, interval| Client { session_expiry_time: time, session_expiry_interval: interval, ..Client::default() };
    assert_eq!(client(5, NEVER).expires_at(9), None);
    assert_eq!(client(5, 10).expires_at(9), Some(5));
    assert_eq!(client(0, 10).expires_at(9), Some(19));
}
