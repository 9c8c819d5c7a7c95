//! From a journal at the start of the broker: everything that follows the snapshot is done again.

use std::io;
use std::path::Path;

use super::append::seek;
use super::read::{ReadError, Reader, Step};
use super::{Header, path_of};
use crate::broker::Broker;
use crate::broker::changes::record::Change;
use crate::broker::replay::Bodies;
use crate::persist::disk::{Access, Disk, Stream};
use crate::timer::Now;

/// What came of a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Changes that were done again.
    pub changes: u64,
    /// Changes that refer to something that is not there, or that make no sense.
    pub unmatched: u64,
    /// Places where groups are missing because the file is damaged.
    pub damaged: u64,
    /// Bytes of these.
    pub damaged_bytes: u64,
    /// Bytes at the end that were being written when the power went.
    pub torn_bytes: u64,
    /// The highest number of a message.
    pub highest: u64,
}

/// How a journal stands to a snapshot.
#[derive(Debug)]
pub enum Found {
    /// There is none.
    None,
    /// It follows the snapshot and was done again.
    Replayed {
        /// What it says of itself.
        header: Header,
        /// Where the next batch belongs.
        good: u64,
        /// What it held.
        report: Report,
    },
    /// It follows another snapshot.
    Stranger,
}

/// Does again what the journal of the snapshot at `snapshot` holds, which has this token. The caller restored the snapshot
/// before and ends with [`Broker::restored`].
///
/// # Errors
/// [`ReadError`]; the broker may have a part of it then.
pub fn replay(disk: &dyn Disk, snapshot: &Path, token: u32, broker: &mut Broker, now: Now) -> Result<Found, ReadError> {
    let open = || disk.open(&path_of(snapshot), Access::Read).map(Stream::new);
    let stream = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::None),
        stream => stream?,
    };
    let mut reader = Reader::new(stream)?;
    let header = reader.header();
    // What was damaged before the mark is in the snapshot.
    if header.base != token && (token == 0 || !seek(&mut reader, token)?) {
        return Ok(Found::Stranger);
    }
    let mut bodies = Bodies::default();
    let mut report = Report::default();
    let mut usable = true;
    loop {
        match reader.step()? {
            Step::Damage(bytes) => {
                report.damaged = report.damaged.saturating_add(1);
                report.damaged_bytes = report.damaged_bytes.saturating_add(bytes);
            }
            Step::Group(group) => {
                for change in Change::decode_group(group) {
                    // Behind a gap only the snapshot that makes up for it helps, and that is not there.
                    usable &= !matches!(change, Ok(Change::Snapshot { gap: true, .. }));
                    let done = usable && change.is_ok_and(|change| broker.replay(now, &mut bodies, &change));
                    let count = if done { &mut report.changes } else { &mut report.unmatched };
                    *count = count.saturating_add(1);
                }
            }
            Step::End { good, torn } => {
                report.torn_bytes = torn;
                report.highest = bodies.highest();
                return Ok(Found::Replayed { header, good, report });
            }
        }
    }
}
