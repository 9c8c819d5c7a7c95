//! The file of a journal, over a disk that fails.

use super::append::Journal;
use super::read::{ReadError, Reader, Step};
use super::*;
use crate::broker::changes::record::Change;
use crate::persist::disk::faulty::{Faults, FaultyDisk, Rng};
use crate::persist::disk::{Access, Disk, Stream};

const KEY: [u64; 2] = [3, 4];

fn snapshot() -> PathBuf {
    "/store/mosquitto.db".into()
}

/// A group as the core records it: one change that carries a number.
fn group(number: u64) -> Vec<u8> {
    framed(&Change::Retained { number })
}

fn framed(change: &Change<'_>) -> Vec<u8> {
    let mut bytes = vec![0; GROUP_HEAD];
    change.encode(&mut bytes);
    let len = u32::try_from(bytes.len() - GROUP_HEAD).unwrap();
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes
}

fn mark(token: u32) -> Vec<u8> {
    framed(&Change::Snapshot { token, gap: false })
}

/// What one reading of a journal gave.
#[derive(Debug, Default, PartialEq, Eq)]
struct Content {
    numbers: Vec<u64>,
    marks: Vec<u32>,
    damage: Vec<u64>,
    good: u64,
    torn: u64,
}

fn read_bytes(bytes: &[u8]) -> Result<Content, Unreadable> {
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(ReadError::Unreadable(why)) => return Err(why),
        Err(ReadError::Io(error)) => panic!("{error}"),
    };
    let mut content = Content::default();
    loop {
        match reader.step().unwrap() {
            Step::Group(group) => {
                for change in Change::decode_group(group) {
                    match change.unwrap() {
                        Change::Retained { number } => content.numbers.push(number),
                        Change::Snapshot { token, .. } => content.marks.push(token),
                        other => panic!("{other:?}"),
                    }
                }
            }
            Step::Damage(bytes) => content.damage.push(bytes),
            Step::End { good, torn } => return Ok(Content { good, torn, ..content }),
        }
    }
}

fn create(disk: &FaultyDisk, base: u32) -> Journal {
    Journal::create(Box::new(disk.clone()), &snapshot(), Header { base, key: KEY }).unwrap()
}

fn file(disk: &FaultyDisk) -> Vec<u8> {
    disk.content(&path_of(&snapshot())).unwrap()
}

/// Appends `groups` as one batch.
fn append(journal: &mut Journal, groups: &[Vec<u8>]) {
    journal.append(&mut groups.concat()).unwrap();
}

#[test]
fn what_was_appended_is_read() {
    let disk = FaultyDisk::new(1);
    let mut journal = create(&disk, 7);
    assert_eq!(journal.size(), START);
    append(&mut journal, &[group(1), group(2)]);
    append(&mut journal, &[group(3)]);
    let bytes = file(&disk);
    let want = Content { numbers: vec![1, 2, 3], good: journal.size(), ..Content::default() };
    assert_eq!(read_bytes(&bytes), Ok(want));
    assert_eq!(Reader::new(&bytes[..]).ok().map(|reader| reader.header()), Some(Header { base: 7, key: KEY }));
    assert!(!disk.names().iter().any(|name| name.ends_with("mosquitto.db.journal.new")));
}

#[test]
fn a_torn_end_is_cut_and_what_follows_is_appended_there() {
    let disk = FaultyDisk::new(1);
    let mut journal = create(&disk, 7);
    append(&mut journal, &[group(1)]);
    let good = journal.size();
    append(&mut journal, &[group(2), group(3)]);
    let bytes = file(&disk);
    for len in usize::try_from(good).unwrap()..bytes.len() {
        let content = read_bytes(&bytes[..len]).unwrap();
        let whole = if content.numbers.len() == 2 { 2 } else { 1 };
        assert_eq!((content.numbers.len(), content.damage), (whole, vec![]), "{len}");
        assert_eq!(content.good + content.torn, len as u64);
        disk.put(&path_of(&snapshot()), &bytes[..len]);
        let header = Header { base: 7, key: KEY };
        let mut journal = Journal::open(Box::new(disk.clone()), &snapshot(), header, content.good).unwrap();
        append(&mut journal, &[group(9)]);
        let content = read_bytes(&file(&disk)).unwrap();
        assert_eq!((content.numbers.last(), content.torn), (Some(&9), 0));
    }
}

#[test]
fn a_broken_byte_costs_its_group_alone() {
    let disk = FaultyDisk::new(1);
    let mut journal = create(&disk, 7);
    let mut ends = vec![journal.size()];
    for n in 1..=5 {
        append(&mut journal, &[group(n)]);
        ends.push(journal.size());
    }
    let bytes = file(&disk);
    for at in usize::try_from(START).unwrap()..bytes.len() {
        let mut broken = bytes.clone();
        broken[at] ^= 1 << (at % 8);
        let hit = ends.iter().take_while(|end| **end <= at as u64).count() as u64;
        let content = read_bytes(&broken).unwrap();
        let want: Vec<u64> = (1..=5).filter(|n| *n != hit).collect();
        assert_eq!(content.numbers, want, "byte {at}");
        let size = ends[1] - ends[0];
        assert_eq!((content.damage, content.torn), if hit == 5 { (vec![], size) } else { (vec![size], 0) });
    }
}

#[test]
fn one_sound_header_is_enough_and_a_newer_one_is_told() {
    let header = Header { base: 0xAABB_CCDD, key: [u64::MAX, 1] };
    let bytes = header.encode();
    assert_eq!(bytes.len() as u64, START);
    for at in 0..bytes.len() {
        let mut broken = bytes.clone();
        broken[at] ^= 0x10;
        assert_eq!(Header::decode(&broken), Ok(header), "byte {at}");
    }
    let mut broken = bytes.clone();
    (broken[3], broken[COPY_AT + 20]) = (9, 9);
    assert_eq!(Header::decode(&broken), Err(Unreadable::Header));
    assert_eq!(read_bytes(b""), Err(Unreadable::Header));
    assert_eq!(read_bytes(&[0; 4096]), Err(Unreadable::Header));
    assert_eq!(read_bytes(&bytes[..HEADER_LEN]).map(|content| content.good), Ok(START), "cut before the first frame");

    let mut newer = bytes;
    for at in [0, COPY_AT] {
        newer[at + 16] = 2;
        let check = check([0, 0], 0, &[&newer[at..at + HEADER_LEN - 8]]);
        newer[at + HEADER_LEN - 8..at + HEADER_LEN].copy_from_slice(&check.to_le_bytes());
    }
    assert_eq!(Header::decode(&newer), Err(Unreadable::Version(2)));
}

#[test]
fn nobody_can_publish_what_looks_like_a_group() {
    // The bytes of a journal with another key, within a frame that is broken.
    let other = FaultyDisk::new(1);
    let mut journal = Journal::create(Box::new(other.clone()), &snapshot(), Header { base: 7, key: [9, 9] }).unwrap();
    append(&mut journal, &[group(666)]);
    let payload = file(&other).split_off(usize::try_from(START).unwrap());
    let disk = FaultyDisk::new(1);
    let mut journal = create(&disk, 7);
    let body = crate::broker::changes::record::Body { number: 1, topic: "t", payload: &payload, ..Default::default() };
    append(&mut journal, &[framed(&Change::Message(body)), group(2)]);
    let mut bytes = file(&disk);
    bytes[usize::try_from(START).unwrap()] ^= 1;
    assert_eq!(read_bytes(&bytes).unwrap().numbers, [2]);
    // Nor do frames count at another place than theirs.
    let start = usize::try_from(START).unwrap();
    let mut moved = bytes[..start].to_vec();
    moved.push(0);
    moved.extend_from_slice(&bytes[start..]);
    assert_eq!(read_bytes(&moved).unwrap().numbers, [0; 0]);
}

#[test]
fn when_a_snapshot_is_complete_only_what_follows_its_mark_stays() {
    let disk = FaultyDisk::new(1);
    let mut journal = create(&disk, 7);
    append(&mut journal, &[group(1), mark(8), group(2)]);
    append(&mut journal, &[group(3), mark(9)]);
    append(&mut journal, &[group(4)]);
    assert_eq!(journal.compact(5, [1, 1]).unwrap(), 0, "an unknown one changes nothing");
    assert_eq!(journal.base(), 7);
    journal.compact(8, [1, 1]).unwrap();
    append(&mut journal, &[group(5)]);
    let content = read_bytes(&file(&disk)).unwrap();
    assert_eq!((content.numbers, content.marks), (vec![2, 3, 4, 5], vec![9]));
    assert_eq!((journal.base(), journal.size()), (8, content.good));
    journal.compact(9, [2, 2]).unwrap();
    assert_eq!(read_bytes(&file(&disk)).unwrap().numbers, [4, 5]);
    journal.remove().unwrap();
    assert!(disk.names().is_empty());
}

#[test]
fn a_full_disk_costs_nothing_but_time() {
    let disk = FaultyDisk::new(1);
    let mut journal = create(&disk, 7);
    append(&mut journal, &[group(1)]);
    let mut batch = [group(2), group(3)].concat();
    disk.set_faults(Faults { space: Some(journal.size() + 20), ..Faults::default() });
    assert_eq!(journal.append(&mut batch).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(read_bytes(&file(&disk)).unwrap().numbers, [1, 2], "a part of a batch, not of a group");
    disk.set_faults(Faults::default());
    batch.extend(group(4));
    journal.append(&mut batch).unwrap();
    assert_eq!(read_bytes(&file(&disk)).unwrap().numbers, [1, 2, 3, 4]);
}

/// One life of a journal after another on a disk that fails: what was promised is there, in order, and nothing else but
/// what was being written.
fn survives(seed: u64) {
    let mut rng = Rng::new(seed);
    let disk = FaultyDisk::new(seed);
    let mut token = 1;
    let mut journal = create(&disk, token);
    let (mut promised, mut next, mut next_token, mut marked) = (Vec::new(), 0u64, 1, None);
    for _life in 0..4 {
        disk.set_faults(Faults {
            short_write: rng.below(8),
            io_error: rng.below(20),
            name_error: rng.below(8),
            space: rng.once_in(3).then(|| 2000 + rng.below(3000)),
            crash_after: Some(rng.below(80)),
        });
        // What was tried and not promised; a prefix of it may be there.
        let mut tried: Vec<u8> = Vec::new();
        let mut tried_numbers = Vec::new();
        for _ in 0..40 {
            for _ in 0..rng.below(4) {
                next += 1;
                tried.extend(group(next));
                tried_numbers.push(next);
            }
            if !tried.is_empty() && journal.append(&mut tried).is_ok() {
                tried.clear();
                promised.append(&mut tried_numbers);
            }
            if rng.once_in(10) && tried.is_empty() {
                next_token += 1;
                let new = next_token;
                if journal.append(&mut mark(new)).is_ok() {
                    marked = Some((new, promised.len()));
                } else {
                    // As a broker whose journal fails: it tries the same bytes again, until it dies.
                    break;
                }
            }
            if let Some((new, at)) = marked
                && rng.once_in(4)
            {
                let done = journal.compact(new, [rng.next(), rng.next()]).is_ok();
                if done || journal.base() == new {
                    promised.drain(..at);
                    (token, marked) = (new, None);
                }
            }
            if disk.has_crashed() {
                break;
            }
        }
        disk.restart();
        let content = read_bytes(&file(&disk)).unwrap();
        let stream = Stream::new(disk.open(&path_of(&snapshot()), Access::Read).unwrap());
        let header = Reader::new(stream).ok().unwrap().header();
        // A journal of the snapshot before has all of that one, too.
        let lost: Vec<u64> = promised.iter().copied().filter(|n| !content.numbers.contains(n)).collect();
        assert_eq!(lost, [0; 0], "seed {seed}: promised and lost; {header:?}");
        let ascending = content.numbers.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(ascending, "seed {seed}: {:?}", content.numbers);
        let known =
            |n: &u64| promised.contains(n) || tried_numbers.contains(n) || header.base != token || marked.is_some();
        assert!(content.numbers.iter().all(known), "seed {seed}: more than there was");
        token = header.base;
        promised = content.numbers;
        marked = None;
        journal = Journal::open(Box::new(disk.clone()), &snapshot(), header, content.good).unwrap();
    }
}

#[test]
fn what_was_promised_survives_a_failing_disk() {
    let seeds = std::env::var("DISK_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    for seed in 0..seeds {
        survives(seed);
    }
}

#[test]
fn the_token_stands_where_nobody_looks() {
    let mut header = Vec::new();
    crate::persist::write::Writer::NATIVE.header(&mut header);
    assert_eq!(token_of(&header), 0);
    put_token(&mut header, 0x0102_0304);
    assert_eq!((token_of(&header), token_of(&header[..18]), token_of(b"else")), (0x0102_0304, 0, 0));
    let loaded = crate::persist::db::Db::from_slice(&header);
    assert!(loaded.damage.is_empty() && loaded.version == 6);
}
