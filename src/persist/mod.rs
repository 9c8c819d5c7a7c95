//! The format of `mosquitto.db`, the snapshot that C Mosquitto writes and reads: bytes to values and back. Pure: nothing
//! here opens a file or reads a clock. Only [`load`] and [`save`] know the core, to which they hand what was read and from
//! which comes what is to be written.
//!
//! [`read::Reader`] takes versions 2 to 6 and yields one [`chunk::Chunk`] after another; [`read::Source`] does so from
//! anything that can be read, with memory for one chunk. [`write::Writer`] appends chunks of version 6 to a buffer that
//! its caller empties when it likes, so that neither way needs the whole store at once. [`db::Db`] is the whole store,
//! for tests and tools.
//!
//! What old writers did wrong is cleaned and told as a [`fault::Finding`]. Damage is a [`fault::Damage`]: what came
//! before it counts, and where the chunk's length can be trusted, so does what follows. A file with damage, or with a
//! finding that [loses data](fault::Finding::loses_data), must not be overwritten before it was set aside.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]
#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

pub mod chunk;
pub mod db;
mod decode;
pub mod disk;
pub mod fault;
pub mod journal;
pub mod load;
pub mod read;
pub mod save;
pub mod write;

#[cfg(test)]
mod tests;

/// The start of every file.
pub const MAGIC: [u8; 15] = *b"\x00\xB5\x00mosquitto db";

/// Bytes of the file's header: magic, checksum field (which no version uses) and version.
pub const HEADER_LEN: usize = 23;

/// The version that is written.
pub const VERSION: u32 = 6;

/// The oldest version that is read.
pub const OLDEST_VERSION: u32 = 2;

/// Order of the bytes in 64-bit fields, which C Mosquitto writes as the machine has them; all others are big endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteOrder {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl ByteOrder {
    /// That of this machine.
    pub const NATIVE: ByteOrder = if cfg!(target_endian = "big") { ByteOrder::Big } else { ByteOrder::Little };

    /// The number whose bytes stand in a file.
    #[must_use]
    pub const fn number(self, bytes: [u8; 8]) -> u64 {
        match self {
            ByteOrder::Little => u64::from_le_bytes(bytes),
            ByteOrder::Big => u64::from_be_bytes(bytes),
        }
    }

    /// The bytes of `number` in a file.
    #[must_use]
    pub const fn bytes(self, number: u64) -> [u8; 8] {
        match self {
            ByteOrder::Little => number.to_le_bytes(),
            ByteOrder::Big => number.to_be_bytes(),
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> ByteOrder {
        match self {
            ByteOrder::Little => ByteOrder::Big,
            ByteOrder::Big => ByteOrder::Little,
        }
    }
}
