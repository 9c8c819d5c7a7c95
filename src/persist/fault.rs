//! What can be wrong with a file.

use std::fmt;

use super::chunk::Kind;
use super::{HEADER_LEN, OLDEST_VERSION, VERSION};
use crate::wire::error::PropFault;
use crate::wire::topic::TopicError;

/// Why a file, or a chunk of it, cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The file has no bytes. C Mosquitto starts with such a file as if there were none.
    Empty,
    /// It starts as no database does.
    Foreign,
    /// It starts as a database does and ends within the header.
    ShortHeader,
    /// A version that is not read: newer, or older than 2.
    Version(u32),
    /// Store ids of another size than 8 bytes.
    IdSize(u8),
    /// The file ends within a chunk or its header.
    Truncated,
    /// The chunk's length is not that of what it holds.
    Length,
    /// A chunk type that no version has, where no trust is left to skip it.
    Type(u32),
    /// Properties that cannot be read.
    Properties(PropFault),
    /// A message without topic.
    NoTopic,
    /// Store id 0, which no message can have.
    NoStoreId,
    /// A direction that is neither in nor out.
    Direction(u8),
}

impl Fault {
    /// True when nothing behind it can be read.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Fault::Empty
            | Fault::Foreign
            | Fault::ShortHeader
            | Fault::Version(_)
            | Fault::IdSize(_)
            | Fault::Truncated
            | Fault::Type(_) => true,
            Fault::Length | Fault::Properties(_) | Fault::NoTopic | Fault::NoStoreId | Fault::Direction(_) => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Empty => f.write_str("the file is empty"),
            Fault::Foreign => f.write_str("unrecognised file format"),
            Fault::ShortHeader => write!(f, "the file ends within its header of {HEADER_LEN} bytes"),
            Fault::Version(n) => write!(f, "unsupported format version {n} (need {OLDEST_VERSION} to {VERSION})"),
            Fault::IdSize(n) => write!(f, "incompatible store ids of {n} bytes (need 8)"),
            Fault::Truncated => f.write_str("the file ends too early"),
            Fault::Length => f.write_str("its length does not fit its content"),
            Fault::Type(n) => write!(f, "there is no chunk type {n}"),
            Fault::Properties(PropFault::Unknown) => f.write_str("it has a property that does not exist"),
            Fault::Properties(PropFault::Utf8) => f.write_str("a property is not valid text"),
            Fault::Properties(_) => f.write_str("its properties cannot be read"),
            Fault::NoTopic => f.write_str("it has no topic"),
            Fault::NoStoreId => f.write_str("its store id is 0"),
            Fault::Direction(n) => write!(f, "its direction is {n}"),
        }
    }
}

/// A place where the file is broken. Everything before it was handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Where the chunk starts in the file; 0 for the header.
    pub offset: u64,
    /// The chunk's kind, if it is known.
    pub kind: Option<Kind>,
    /// What is wrong.
    pub fault: Fault,
    /// Nothing follows. Otherwise only this chunk is lost and reading goes on behind it.
    pub is_final: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "{} at byte {}: {}", kind.name(), self.offset, self.fault),
            None => write!(f, "at byte {}: {}", self.offset, self.fault),
        }
    }
}

/// Something odd that reading dealt with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Oddity {
    /// The user name goes on with other memory of the writer, which was cut off, or is that of the client before: a
    /// defect of C Mosquitto 1.6.11 to 2.0.15.
    LeakedUsername,
    /// The port is that of the client before with its bytes swapped, by the same defect; it was set to 0.
    LeakedPort,
    /// The client's or publisher's user name, or the publisher's id, is not UTF-8; it was left out.
    Text,
    /// The client id or topic is not UTF-8; the chunk was dropped.
    NotUtf8,
    /// The client id is empty; the chunk was dropped.
    NoClientId,
    /// The topic or filter is none that MQTT permits; the chunk was dropped.
    Topic(TopicError),
    /// A chunk of unknown type was skipped.
    UnknownType(u32),
    /// Properties that are not stored there, are repeated or have an impossible value were left out.
    Property,
    /// Bytes behind the properties were ignored.
    Trailing,
    /// A QoS, retain handling, state, subscription identifier or option bit that does not exist was replaced by the
    /// nearest that does.
    Value,
    /// The file comes from a machine with the other byte order.
    ForeignByteOrder,
    /// The file comes from a 32-bit x86 machine, which pads less.
    ShortPadding,
}

/// Something odd that reading dealt with, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Where the chunk starts in the file.
    pub offset: u64,
    /// The chunk's kind, if it is known.
    pub kind: Option<Kind>,
    /// What is odd.
    pub what: Oddity,
}

impl Finding {
    /// True when the file holds something that was not handed over.
    #[must_use]
    pub const fn loses_data(&self) -> bool {
        match self.what {
            Oddity::NotUtf8 | Oddity::NoClientId | Oddity::Topic(_) | Oddity::UnknownType(_) | Oddity::Property => true,
            Oddity::LeakedUsername
            | Oddity::LeakedPort
            | Oddity::Text
            | Oddity::Trailing
            | Oddity::Value
            | Oddity::ForeignByteOrder
            | Oddity::ShortPadding => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "{} at byte {}: ", kind.name(), self.offset)?,
            None => write!(f, "at byte {}: ", self.offset)?,
        }
        match self.what {
            Oddity::LeakedUsername => f.write_str("the user name may be another client's, by a defect of its writer"),
            Oddity::LeakedPort => f.write_str("the listener's port is another client's, by a defect of its writer"),
            Oddity::Text => f.write_str("a name that is not UTF-8 was left out"),
            Oddity::NotUtf8 => f.write_str("client id or topic is not UTF-8; dropped"),
            Oddity::NoClientId => f.write_str("the client id is empty; dropped"),
            Oddity::Topic(_) => f.write_str("no valid topic; dropped"),
            Oddity::UnknownType(n) => write!(f, "chunk of unknown type {n} skipped"),
            Oddity::Property => f.write_str("a property that is not valid there was left out"),
            Oddity::Trailing => f.write_str("bytes behind the properties were ignored"),
            Oddity::Value => f.write_str("a value that does not exist was replaced"),
            Oddity::ForeignByteOrder => f.write_str("written by a machine with the other byte order"),
            Oddity::ShortPadding => f.write_str("written by a 32-bit x86 machine"),
        }
    }
}

/// The first of them, and how many there were: a broken file can hold one in every few bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    count: u64,
    loses_data: bool,
}

impl Findings {
    /// The most that are kept.
    pub const MOST: usize = 100;

    pub(super) fn add(&mut self, finding: Finding) {
        self.count = self.count.saturating_add(1);
        self.loses_data |= finding.loses_data();
        if self.list.len() < Findings::MOST {
            self.list.push(finding);
        }
    }

    /// The first [`Findings::MOST`].
    #[must_use]
    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// How many there were.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// True when one of all [loses data](Finding::loses_data).
    #[must_use]
    pub const fn loses_data(&self) -> bool {
        self.loses_data
    }
}
