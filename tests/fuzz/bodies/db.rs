//! A `mosquitto.db`: reading never panics, pieces give what the whole gives, and what was read can be written and reads
//! back as the same.

use std::io;

use mosquitto::broker::auth::access::RulesId;
use mosquitto::broker::{Broker, ConnId, ConnectRequest, NEVER, Outgoing, Pulled, SnapshotState};
use mosquitto::config::Global;
use mosquitto::persist::chunk::Chunk;
use mosquitto::persist::db::Db;
use mosquitto::persist::fault::Findings;
use mosquitto::persist::load::load;
use mosquitto::persist::read::{Reader, Source, SourceError};
use mosquitto::persist::save::Saver;
use mosquitto::persist::write::Writer;
use mosquitto::slab::Key;
use mosquitto::timer::Now;
use mosquitto::wire::ProtocolVersion;

use super::Random;

/// Gives its bytes in pieces of any size.
struct Pieces<'a>(&'a [u8], Random);

impl io::Read for Pieces<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = (1 + self.1.below(50)).min(self.0.len()).min(to.len());
        let (piece, rest) = self.0.split_at(n);
        to[..n].copy_from_slice(piece);
        self.0 = rest;
        Ok(n)
    }
}

/// The input is a file.
pub fn db(file: &[u8]) {
    let (mut reader, mut rest) = (Reader::new(), file);
    let mut source = Source::new(Pieces(file, Random(1 + file.len() as u64)));
    let (mut end, mut lost) = (0, 0);
    loop {
        let whole = reader.next_of(&mut rest);
        match (&whole, source.next_item()) {
            (Ok(whole), Ok(piece)) => assert_eq!(whole, &piece),
            (Err(whole), Err(SourceError::Damage(piece))) => assert_eq!(whole, &piece),
            (whole, piece) => panic!("{whole:?} or {piece:?}"),
        }
        match whole {
            Ok(None) => break,
            Ok(Some(item)) => {
                assert!(item.offset >= end && lost < Reader::MOST_DAMAGE);
                end = item.offset;
                let mut out = Vec::new();
                let written = Writer::NATIVE.chunk(&mut out, &item.chunk);
                let nothing = matches!(item.chunk, Chunk::Dropped(_) | Chunk::Unknown(_));
                assert_eq!(written.is_err(), nothing, "{:?}", item.chunk);
            }
            Err(damage) => {
                assert!(damage.offset >= end && damage.offset <= file.len() as u64);
                assert!(!damage.to_string().is_empty());
                lost += 1;
            }
        }
        assert!(reader.offset() <= file.len() as u64);
    }
    assert!(reader.findings().list().len() <= Findings::MOST);
    assert!(reader.findings().list().iter().all(|finding| !finding.to_string().is_empty()));

    let loaded = Db::from_slice(file);
    assert_eq!(loaded.damage.len(), lost);
    let (again, odd) = rewritten(&loaded.db);
    let (third, _) = rewritten(&Db::from_slice(&again).db);
    // Names of two clients can look as if one had leaked, and the first id as if it had another byte order.
    assert!(odd || again == third, "not the same when written again");
    served(file, &loaded.db);
}

const NOW: Now = Now { mono_ms: 1_000_000, wall_s: 1_795_000_000 };

/// A broker that has restored a file.
fn restored(file: &[u8]) -> Broker {
    let mut broker = Broker::new(Global { sys_interval: 0, persistence: true, ..Global::default() }, [3, 4], NOW);
    load(&mut broker, file, NOW, false).expect("a slice can always be read");
    broker.restored(NOW);
    broker.check_invariants();
    broker
}

/// What a broker saves.
fn saved(broker: &mut Broker) -> Vec<u8> {
    let mut saver = Saver::new(NOW, true, 0);
    broker.begin_snapshot(NOW, true);
    while broker.snapshot_slice(7, &mut |item| saver.add(&item)) == SnapshotState::More {}
    assert_eq!(saver.left_out(), 0);
    saver.take_out().expect("at least a header")
}

/// A broker takes what the file holds, saves it, takes that again and serves clients with it.
fn served(file: &[u8], db: &Db<'_>) {
    let mut broker = restored(file);
    let first = saved(&mut broker);
    let loaded = Db::from_slice(&first);
    assert_eq!(loaded.damage, []);
    assert!(!loaded.findings.loses_data(), "{:?}", loaded.findings);
    // Names of two clients can look as if one had leaked.
    let odd = loaded.findings.count() > 0;
    let mut second = restored(&first);
    assert_eq!(second.retained_count(), broker.retained_count());
    // Shared subscriptions come out in turned order each time.
    let third = saved(&mut restored(&saved(&mut second)));
    assert!(odd || third == first, "not the same when saved again");
    for (n, client) in (0..).zip(db.clients.iter().take(4)) {
        serve(&mut broker, n, client.id);
    }
    broker.on_timers(Now { mono_ms: NOW.mono_ms + 5_000_000, wall_s: NOW.wall_s + 5000 });
    broker.check_invariants();
}

/// The client comes back, gets what it has and acknowledges it.
fn serve(broker: &mut Broker, n: u32, client_id: &str) {
    let request = ConnectRequest {
        conn: ConnId(Key::from_bits(n)),
        client_id,
        username: None,
        clean_start: false,
        expiry_s: NEVER,
        version: ProtocolVersion::V5,
        bridge: false,
        rules: RulesId::GLOBAL,
        listener_port: 1883,
        receive_maximum: None,
        will: None,
    };
    let Ok(connected) = broker.connect(NOW, request) else { return };
    for _ in 0..1000 {
        let Pulled::Item(item) = broker.pull(NOW, connected.session, &mut 1000) else { break };
        match item {
            Outgoing::Publish { id: Some(id), .. } => {
                broker.puback(connected.session, id);
                broker.pubrec(connected.session, id, false);
            }
            Outgoing::Publish { .. } => {}
            Outgoing::Pubrel(id) => _ = broker.pubcomp(connected.session, id),
        }
    }
    broker.check_invariants();
}

/// The file of a store, which is sound; and whether something is odd in it.
fn rewritten(db: &Db<'_>) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    db.write(Writer::NATIVE, &mut out).expect("what was read can be written");
    let loaded = Db::from_slice(&out);
    assert_eq!(loaded.damage, []);
    assert!(!loaded.findings.loses_data(), "{:?}", loaded.findings);
    let odd = loaded.findings.count() > 0;
    assert!(odd || loaded.db.messages == db.messages);
    (out, odd)
}
