//! A `mosquitto.db`: reading never panics, pieces give what the whole gives, and what was read can be written and reads
//! back as the same.

use std::io;

use mosquitto::persist::chunk::Chunk;
use mosquitto::persist::db::Db;
use mosquitto::persist::fault::Findings;
use mosquitto::persist::read::{Reader, Source, SourceError};
use mosquitto::persist::write::Writer;

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
