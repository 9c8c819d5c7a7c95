//! A file's bytes to chunks, one after another.

use std::io;

use super::chunk::{Chunk, Kind};
use super::decode::Decoder;
use super::fault::{Damage, Fault, Findings, Oddity};
use super::{ByteOrder, HEADER_LEN, MAGIC, OLDEST_VERSION, VERSION};
use crate::wire::Reader as Cursor;

/// A chunk and where it stood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item<'a> {
    /// Where its header starts in the file.
    pub offset: u64,
    /// Bytes behind its header, as the header says.
    pub length: u32,
    /// What it holds.
    pub chunk: Chunk<'a>,
}

/// What stands at the start of the bytes that are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    /// Nothing yet: more bytes are needed.
    NeedMore,
    /// This many bytes have nothing for anyone and are to be removed.
    Skip(usize),
    /// A chunk of this many bytes, header included, for [`Reader::chunk`].
    Chunk(usize),
    /// The end of the file, or of what can be read of it.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Header,
    Chunks,
    /// Within an unknown chunk, with this many bytes to go.
    Unknown(u32),
    Over,
}

/// The state of reading one file. It is handed bytes and keeps none, so it serves whole files and pieces alike.
#[derive(Debug)]
pub struct Reader {
    state: State,
    decoder: Decoder,
    crc: u32,
    /// Bytes of the file that were taken.
    offset: u64,
    /// Chunks that were lost. Since the first, the place of what follows is not certain.
    lost: usize,
    accept_newer: bool,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader::new()
    }
}

impl Reader {
    /// With this many chunks lost, nothing more is believed of the file: the damage is final.
    pub const MOST_DAMAGE: usize = 100;

    /// At the start of a file.
    #[must_use]
    pub fn new() -> Reader {
        Reader { state: State::Header, decoder: Decoder::new(VERSION), crc: 0, offset: 0, lost: 0, accept_newer: false }
    }

    /// Reads a version newer than 6 as if it were 6, for a look at what nobody knows.
    #[must_use]
    pub fn accept_newer(mut self) -> Reader {
        self.accept_newer = true;
        self
    }

    /// The file's version; 6 until the header was read.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.decoder.version
    }

    /// The header's checksum field, which is always 0 and means nothing.
    #[must_use]
    pub const fn crc(&self) -> u32 {
        self.crc
    }

    /// The byte order of the file as far as it is known; until then the machine's.
    #[must_use]
    pub const fn byte_order(&self) -> ByteOrder {
        self.decoder.order()
    }

    /// Bytes of the file that were taken.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// What was odd so far.
    #[must_use]
    pub const fn findings(&self) -> &Findings {
        &self.decoder.findings
    }

    /// What stands at the start of `input`, the bytes of the file from [`Reader::offset`] on; `ended` says that none
    /// follow. The header is part of what is skipped.
    ///
    /// # Errors
    /// Damage that is final.
    pub fn frame(&mut self, input: &[u8], ended: bool) -> Result<Frame, Damage> {
        let framed = match self.state {
            State::Header => self.header(input, ended),
            State::Chunks => self.chunk_frame(input, ended),
            State::Unknown(rest) => self.unknown(rest, input, ended),
            State::Over => Ok(Frame::End),
        };
        framed.map_err(|fault| self.damage(fault))
    }

    fn damage(&mut self, fault: Fault) -> Damage {
        self.lost = self.lost.saturating_add(1);
        // A length that cannot be leaves no place to go on from.
        let is_final = fault.is_final() || self.state == State::Over || self.lost >= Reader::MOST_DAMAGE;
        if is_final {
            self.state = State::Over;
        }
        Damage { offset: self.decoder.offset, kind: self.decoder.kind, fault, is_final }
    }

    fn take(&mut self, n: usize) {
        self.offset = self.offset.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
    }

    fn header(&mut self, input: &[u8], ended: bool) -> Result<Frame, Fault> {
        let Some(header) = input.first_chunk::<HEADER_LEN>() else {
            let as_expected = MAGIC.iter().zip(input).all(|(a, b)| a == b);
            return match (ended, input.is_empty(), as_expected) {
                (false, ..) => Ok(Frame::NeedMore),
                (true, true, _) => Err(Fault::Empty),
                (true, false, true) => Err(Fault::ShortHeader),
                (true, false, false) => Err(Fault::Foreign),
            };
        };
        let mut r = Cursor::new(header);
        if r.take(MAGIC.len())? != MAGIC {
            return Err(Fault::Foreign);
        }
        self.crc = r.u32()?;
        let version = r.u32()?;
        self.decoder.version = version;
        if version < OLDEST_VERSION || (version > VERSION && !self.accept_newer) {
            return Err(Fault::Version(version));
        }
        self.state = State::Chunks;
        self.take(HEADER_LEN);
        Ok(Frame::Skip(HEADER_LEN))
    }

    /// Type and length of the chunk at the start of `input`, and the length of its header.
    fn chunk_header(&self, input: &[u8]) -> Option<(u32, u32, usize)> {
        let mut r = Cursor::new(input);
        let (number, header) =
            if self.decoder.is_packed() { (u32::from(r.u16().ok()?), 6) } else { (r.u32().ok()?, 8) };
        Some((number, r.u32().ok()?, header))
    }

    fn chunk_frame(&mut self, input: &[u8], ended: bool) -> Result<Frame, Fault> {
        self.decoder.offset = self.offset;
        self.decoder.kind = None;
        if input.is_empty() && ended {
            self.state = State::Over;
            return Ok(Frame::End);
        }
        let Some((number, length, header)) = self.chunk_header(input) else {
            return if ended { Err(Fault::Truncated) } else { Ok(Frame::NeedMore) };
        };
        let Some(kind) = Kind::of(number) else {
            // Zeros are what a lost block looks like, not a type of the future; and after damage the place is a guess.
            return if number == 0 || self.lost > 0 { Err(Fault::Type(number)) } else { Ok(Frame::Chunk(header)) };
        };
        self.decoder.kind = Some(kind);
        if length > Decoder::most(kind) {
            self.state = State::Over;
            return Err(Fault::Length);
        }
        let whole = header.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        if input.len() >= whole {
            Ok(Frame::Chunk(whole))
        } else if ended {
            Err(Fault::Truncated)
        } else {
            Ok(Frame::NeedMore)
        }
    }

    fn unknown(&mut self, rest: u32, input: &[u8], ended: bool) -> Result<Frame, Fault> {
        let n = input.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let left = rest.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
        if n == 0 && rest > 0 {
            return if ended { Err(Fault::Truncated) } else { Ok(Frame::NeedMore) };
        }
        self.state = if left == 0 { State::Chunks } else { State::Unknown(left) };
        self.take(n);
        Ok(Frame::Skip(n))
    }

    /// The chunk that `bytes` are, as [`Frame::Chunk`] said.
    ///
    /// # Errors
    /// Damage; unless it is final, reading goes on behind this chunk.
    pub fn chunk<'a>(&mut self, bytes: &'a [u8]) -> Result<Item<'a>, Damage> {
        let offset = self.offset;
        self.take(bytes.len());
        let Some((number, length, header)) = self.chunk_header(bytes) else {
            return Err(self.damage(Fault::Truncated));
        };
        let Some(kind) = Kind::of(number) else {
            self.decoder.note(Oddity::UnknownType(number));
            self.state = State::Unknown(length);
            return Ok(Item { offset, length, chunk: Chunk::Unknown(number) });
        };
        let body = bytes.get(header..).unwrap_or_default();
        match self.decoder.chunk(kind, body) {
            Ok(chunk) => Ok(Item { offset, length, chunk }),
            Err(fault) => Err(self.damage(fault)),
        }
    }

    /// The next chunk of a file whose rest is `input`, which is advanced; `None` at its end.
    ///
    /// # Errors
    /// As [`Reader::chunk`]; after final damage the next call gives `None`.
    pub fn next_of<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, Damage> {
        loop {
            match self.frame(input, true)? {
                Frame::NeedMore | Frame::End => return Ok(None),
                Frame::Skip(n) => _ = split_off(input, n),
                Frame::Chunk(n) => return self.chunk(split_off(input, n)).map(Some),
            }
        }
    }
}

/// Takes `n` bytes off the front.
fn split_off<'a>(input: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (front, rest) = input.split_at_checked(n).unwrap_or((input, &[]));
    *input = rest;
    front
}

/// Why the next chunk did not come.
#[derive(Debug)]
pub enum SourceError {
    /// The bytes could not be read; this says nothing of the file.
    Io(io::Error),
    /// The file is damaged.
    Damage(Damage),
}

/// Bytes asked for at once.
const READ_SIZE: usize = 64 * 1024;

/// Reads chunks from anything that can be read, in memory for one chunk, which grows with the bytes that come.
#[derive(Debug)]
pub struct Source<R> {
    from: R,
    reader: Reader,
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that were used.
    used: usize,
    /// Bytes of the buffer that were read into, the used ones included.
    filled: usize,
    ended: bool,
}

impl<R: io::Read> Source<R> {
    /// At the start of what `from` gives.
    pub fn new(from: R) -> Source<R> {
        Source::with(Reader::new(), from)
    }

    /// The same with a reader of one's own.
    pub fn with(reader: Reader, from: R) -> Source<R> {
        Source { from, reader, buffer: Vec::new(), used: 0, filled: 0, ended: false }
    }

    /// Version, findings and place.
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Reads the header, so that [`Reader::version`] tells the truth; [`Source::next_item`] does it by itself.
    ///
    /// # Errors
    /// As [`Source::next_item`].
    pub fn read_header(&mut self) -> Result<(), SourceError> {
        while self.reader.state == State::Header {
            self.step()?;
        }
        Ok(())
    }

    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// [`SourceError::Io`] as often as reading fails, or [`SourceError::Damage`]: unless it is final, call again for what
    /// follows.
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>, SourceError> {
        let len = loop {
            match self.step()? {
                Frame::Chunk(len) => break len,
                Frame::End => return Ok(None),
                Frame::NeedMore | Frame::Skip(_) => {}
            }
        };
        let bytes = self.buffer.get(self.used..).and_then(|rest| rest.get(..len)).unwrap_or_default();
        self.used = self.used.saturating_add(len);
        self.reader.chunk(bytes).map(Some).map_err(SourceError::Damage)
    }

    /// Finds out what comes next, and reads or removes bytes for it.
    fn step(&mut self) -> Result<Frame, SourceError> {
        let input = self.buffer.get(self.used..self.filled).unwrap_or_default();
        let frame = self.reader.frame(input, self.ended).map_err(SourceError::Damage)?;
        match frame {
            Frame::NeedMore => self.fill().map_err(SourceError::Io)?,
            Frame::Skip(n) => self.used = self.used.saturating_add(n),
            Frame::Chunk(_) | Frame::End => {}
        }
        Ok(frame)
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.used..self.filled, 0);
        self.filled = self.filled.saturating_sub(self.used);
        self.used = 0;
        // A long message goes, and so does its memory.
        if self.filled < READ_SIZE && self.buffer.len() > READ_SIZE.saturating_mul(16) {
            self.buffer.truncate(READ_SIZE.saturating_mul(2));
            self.buffer.shrink_to_fit();
        }
        let wanted = self.filled.saturating_add(READ_SIZE);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let n = loop {
            match self.from.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.filled = self.filled.saturating_add(n);
        self.ended = n == 0;
        Ok(())
    }
}
