//! A journal: reading never panics, what is sound comes back however the file is broken around it, and any changes can be
//! done to a broker.

use mosquitto::broker::Broker;
use mosquitto::broker::changes::GROUP_HEAD;
use mosquitto::broker::changes::record::Change;
use mosquitto::broker::replay::Bodies;
use mosquitto::config::Global;
use mosquitto::persist::journal::read::{Reader, Step};
use mosquitto::persist::journal::{Header, START, seal};
use mosquitto::timer::Now;

const NOW: Now = Now { mono_ms: 1 << 33, wall_s: 1_700_000_000 };
const HEADER: Header = Header { base: 1, key: [2, 3] };

/// The groups that can be read of a file.
fn groups(file: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut reader = Reader::new(file).ok()?;
    let mut found = Vec::new();
    loop {
        match reader.step().expect("a slice can always be read") {
            Step::Group(group) => found.push(group.to_vec()),
            Step::Damage(bytes) => assert!(bytes > 0),
            Step::End { good, torn } => {
                assert_eq!(good + torn, (file.len() as u64).max(START));
                return Some(found);
            }
        }
    }
}

/// The first byte says where the file is broken; the rest are changes.
pub fn journal(data: &[u8]) {
    groups(data);
    let Some((&at, changes)) = data.split_first() else { return };
    let mut broker = Broker::new(Global::default(), [1, 2], NOW);
    let mut bodies = Bodies::default();
    let (mut batch, mut written) = (Vec::new(), Vec::new());
    for change in Change::decode_group(changes).flatten() {
        broker.replay(NOW, &mut bodies, &change);
        let mut group = vec![0; GROUP_HEAD];
        change.encode(&mut group);
        let body = group[GROUP_HEAD..].to_vec();
        assert_eq!(Change::decode_group(&body).collect::<Vec<_>>(), [Ok(change)]);
        group[..4].copy_from_slice(&u32::try_from(body.len()).expect("small").to_le_bytes());
        batch.extend(group);
        written.push(body);
    }
    broker.restored(NOW);
    #[cfg(debug_assertions)]
    broker.check_invariants();
    assert!(seal(&mut batch, HEADER.key, START));
    let mut file = [HEADER.encode(), batch].concat();
    assert_eq!(groups(&file).as_ref(), Some(&written));
    let start = usize::try_from(START).expect("small");
    let hit = start + usize::from(at) * (file.len() - start) / 256;
    if let Some(byte) = file.get_mut(hit) {
        *byte ^= 1;
        assert_eq!(groups(&file).map(|found| found.len()), Some(written.len() - 1), "one group is lost");
    }
}
