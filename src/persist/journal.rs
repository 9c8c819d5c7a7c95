//! The journal beside the snapshot: what changed since the snapshot was made, appended and synced before it is promised
//! to anybody.
//!
//! ```text
//! file   = header  copy of the header at byte 512  frames from byte 1024 on
//! header = magic:16 version:4 base:4 key:16 check:8                      integers little endian
//! frame  = length:4 check of the body:4 check of the head:4 body
//! body   = one group of changes, see `broker::changes::record`
//! ```
//!
//! **Which snapshot it follows.** Every snapshot has a token, a number drawn at its moment, which stands where
//! `mosquitto.db` has a checksum that no version uses; C Mosquitto reads over it and writes 0. The journal names in its header
//! the token of the snapshot that it goes on from. When a new snapshot begins, a change with its token marks the moment
//! within the journal. As long as that snapshot is not complete, the journal still belongs to the old one, mark or no
//! mark; as soon as it has its name, the journal counts from the mark on. Then what stands behind the mark is copied to a
//! new journal, which takes the place of the old. So a crash at any point leaves a snapshot and a journal that know each
//! other. A journal that knows nothing of the snapshot, because C Mosquitto was here meanwhile, is not used.
//!
//! **Damage.** Checks are keyed with random numbers from the header, so that nobody who publishes can write bytes that look
//! like a frame, and they cover the place of the frame in the file, so that no old frame counts. A frame that is broken
//! costs its group; the reader looks for the next one. What is broken at the end of the file was being written when the
//! power went, and promised to nobody yet: it is cut off.

pub mod append;
pub mod read;
pub mod replay;

#[cfg(test)]
mod tests;

use std::hash::Hasher;
use std::path::{Path, PathBuf};

use siphasher::sip::SipHasher13;

use crate::broker::changes::GROUP_HEAD;

/// The start of every journal.
pub const MAGIC: [u8; 16] = *b"\x00\xB5\x00mosquitto log";

/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// Where the second copy of the header stands: in another sector than the first.
const COPY_AT: usize = 512;

/// Where the frames begin.
pub const START: u64 = 1024;

/// Bytes of a header.
const HEADER_LEN: usize = 48;

/// Where the token stands in a snapshot: the checksum that no version uses.
const TOKEN_AT: std::ops::Range<usize> = 15..19;

/// The token of a snapshot that starts with `header`; 0 when it was not made beside a journal.
#[must_use]
pub fn token_of(header: &[u8]) -> u32 {
    let bytes = header.get(TOKEN_AT).filter(|_| header.starts_with(&super::MAGIC));
    bytes.and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Puts the token into the header that a snapshot starts with.
pub fn put_token(header: &mut [u8], token: u32) {
    if let Some(place) = header.get_mut(TOKEN_AT) {
        place.copy_from_slice(&token.to_be_bytes());
    }
}

/// Where the journal of a snapshot stands.
#[must_use]
pub fn path_of(snapshot: &Path) -> PathBuf {
    super::disk::beside(snapshot, ".journal")
}

/// What a journal says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The token of the snapshot it goes on from.
    pub base: u32,
    /// What keys its checks.
    pub key: [u64; 2],
}

impl Header {
    /// The start of the file up to the first frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut one = Vec::with_capacity(HEADER_LEN);
        one.extend_from_slice(&MAGIC);
        one.extend_from_slice(&VERSION.to_le_bytes());
        one.extend_from_slice(&self.base.to_le_bytes());
        for part in self.key {
            one.extend_from_slice(&part.to_le_bytes());
        }
        let check = check([0, 0], 0, &[&one]);
        one.extend_from_slice(&check.to_le_bytes());
        let mut all = one.clone();
        all.resize(COPY_AT, 0);
        all.extend_from_slice(&one);
        all.resize(usize::try_from(START).unwrap_or(0), 0);
        all
    }

    /// The header of a file that starts with `bytes`. One sound copy is enough.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn decode(bytes: &[u8]) -> Result<Header, Unreadable> {
        let copy = |at: usize| Header::decode_copy(bytes.get(at..at.saturating_add(HEADER_LEN))?);
        let copies = [copy(0), copy(COPY_AT)];
        if let Some(Ok(header)) = copies.into_iter().flatten().find(Result::is_ok) {
            return Ok(header);
        }
        let newer = copies.into_iter().flatten().find_map(Result::err).flatten();
        Err(newer.map_or(Unreadable::Header, Unreadable::Version))
    }

    /// A copy; `None` for one that is not sound, its version for one that is of another.
    fn decode_copy(bytes: &[u8]) -> Option<Result<Header, Option<u32>>> {
        let (body, end) = bytes.split_last_chunk::<8>()?;
        let (magic, fields) = body.split_first_chunk::<16>()?;
        if *magic != MAGIC || u64::from_le_bytes(*end) != check([0, 0], 0, &[body]) {
            return Some(Err(None));
        }
        let (version, fields) = fields.split_first_chunk::<4>()?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Some(Err(Some(version)));
        }
        let (base, fields) = fields.split_first_chunk::<4>()?;
        let (first, second) = fields.split_first_chunk::<8>()?;
        let key = [u64::from_le_bytes(*first), u64::from_le_bytes(*second.first_chunk()?)];
        Some(Ok(Header { base: u32::from_le_bytes(*base), key }))
    }
}

/// Why nothing of a journal can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreadable {
    /// No sound header: it is something else, or both copies are damaged.
    Header,
    /// It has another version.
    Version(u32),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unreadable::Header => f.write_str("its header is damaged, or it is no journal"),
            Unreadable::Version(n) => write!(f, "it has the unsupported version {n} (need {VERSION})"),
        }
    }
}

/// What precedes the body of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FrameHead {
    len: u32,
    body_check: u32,
}

impl FrameHead {
    fn encode(self, key: [u64; 2], offset: u64) -> [u8; GROUP_HEAD] {
        let mut bytes = [0; GROUP_HEAD];
        let (fields, end) = bytes.split_at_mut(8);
        let (first, second) = fields.split_at_mut(4);
        first.copy_from_slice(&self.len.to_le_bytes());
        second.copy_from_slice(&self.body_check.to_le_bytes());
        end.copy_from_slice(&low(check(key, offset, &[fields])).to_le_bytes());
        bytes
    }

    /// The head at `offset`; `None` when it is not sound.
    fn decode(bytes: [u8; GROUP_HEAD], key: [u64; 2], offset: u64) -> Option<FrameHead> {
        let (fields, end) = bytes.split_last_chunk::<4>()?;
        if u32::from_le_bytes(*end) != low(check(key, offset, &[fields])) {
            return None;
        }
        let (len, body_check) = fields.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes(*len);
        let body_check = u32::from_le_bytes(*body_check.first_chunk()?);
        Some(FrameHead { len, body_check })
    }
}

/// Fills the heads of groups that will stand at `offset`. False when the lengths before them do not add up.
pub fn seal(groups: &mut [u8], key: [u64; 2], offset: u64) -> bool {
    let mut at = 0usize;
    while at < groups.len() {
        let Some((head, rest)) = groups.get_mut(at..).and_then(|rest| rest.split_first_chunk_mut::<GROUP_HEAD>())
        else {
            return false;
        };
        let len = head.first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
        let Some(body) = usize::try_from(len).ok().and_then(|len| rest.get(..len)) else { return false };
        let place = offset.saturating_add(at as u64);
        let body_check = low(check(key, place, &[body]));
        *head = FrameHead { len, body_check }.encode(key, place);
        at = at.saturating_add(GROUP_HEAD).saturating_add(body.len());
    }
    true
}

fn check(key: [u64; 2], offset: u64, parts: &[&[u8]]) -> u64 {
    let [first, second] = key;
    let mut hasher = SipHasher13::new_with_keys(first, second);
    hasher.write_u64(offset);
    for part in parts {
        hasher.write(part);
    }
    hasher.finish()
}

#[allow(clippy::cast_possible_truncation)]
const fn low(check: u64) -> u32 {
    check as u32
}
