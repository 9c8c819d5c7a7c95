//! Reading a journal, one group at a time, from a file of any size and in any state.

use std::io::{self, Read};

use super::{FrameHead, Header, START, Unreadable, check, low};
use crate::broker::changes::GROUP_HEAD;

/// Bytes that are read ahead.
const AHEAD: usize = 64 * 1024;

/// What is wrong with reading a journal.
#[derive(Debug)]
pub enum ReadError {
    /// The file cannot be read.
    Io(io::Error),
    /// It can, and makes no sense.
    Unreadable(Unreadable),
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadError::Io(error) => write!(f, "{error}"),
            ReadError::Unreadable(why) => write!(f, "{why}"),
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Io(error)
    }
}

/// One step of reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step<'r> {
    /// A sound group.
    Group(&'r [u8]),
    /// So many bytes were skipped that are no sound frame.
    Damage(u64),
    /// There are no more. The file is good up to `good`; behind that is what was not written to its end.
    End {
        /// Where the next frame belongs.
        good: u64,
        /// Bytes of that.
        torn: u64,
    },
}

/// A journal that is read from its start. Memory for one group, and never for more than the file has.
pub struct Reader<R> {
    from: R,
    header: Header,
    buf: Vec<u8>,
    /// What of `buf` was handed over.
    used: usize,
    /// Where `buf` starts in the file.
    offset: u64,
    /// The file has no more than what is in `buf`.
    at_end: bool,
    /// Where the first broken frame was found, while no sound one has come behind it.
    broken_at: Option<u64>,
    /// Where the last sound frame ended.
    good: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the header of `from`, which stands at the start of the file.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn new(from: R) -> Result<Reader<R>, ReadError> {
        let header = Header { base: 0, key: [0, 0] };
        let mut this =
            Reader { from, header, buf: Vec::new(), used: 0, offset: 0, at_end: false, broken_at: None, good: START };
        let start = usize::try_from(START).unwrap_or(0);
        this.fill(start)?;
        this.header = Header::decode(&this.buf).map_err(ReadError::Unreadable)?;
        if this.buf.len() < start {
            // The header is there, and the file ends before the first frame can begin.
            this.offset = START;
            this.buf.clear();
        } else {
            this.used = start;
        }
        Ok(this)
    }

    /// What the journal says of itself.
    #[must_use]
    pub const fn header(&self) -> Header {
        self.header
    }

    /// The next group. Damage is told when a sound group behind it shows that it is no torn end.
    ///
    /// # Errors
    /// What the system says.
    pub fn step(&mut self) -> io::Result<Step<'_>> {
        loop {
            let place = self.place();
            match self.frame()? {
                Found::Frame(len) => {
                    if let Some(from) = self.broken_at.take() {
                        return Ok(Step::Damage(place.saturating_sub(from)));
                    }
                    let start = self.used.saturating_add(GROUP_HEAD);
                    self.used = start.saturating_add(len);
                    self.good = self.place();
                    return Ok(Step::Group(self.buf.get(start..self.used).unwrap_or_default()));
                }
                Found::Broken => {
                    self.broken_at.get_or_insert(place);
                    self.used = self.used.saturating_add(1);
                }
                Found::End => {
                    let torn = place.saturating_add((self.buf.len().saturating_sub(self.used)) as u64);
                    return Ok(Step::End { good: self.good, torn: torn.saturating_sub(self.good) });
                }
            }
        }
    }

    fn place(&self) -> u64 {
        self.offset.saturating_add(self.used as u64)
    }

    /// Looks at the frame that begins here.
    fn frame(&mut self) -> io::Result<Found> {
        self.fill(GROUP_HEAD)?;
        let place = self.place();
        let Some(bytes) = self.rest().first_chunk::<GROUP_HEAD>() else { return Ok(Found::End) };
        let Some(head) = FrameHead::decode(*bytes, self.header.key, place) else { return Ok(Found::Broken) };
        let Ok(len) = usize::try_from(head.len) else { return Ok(Found::Broken) };
        self.fill(GROUP_HEAD.saturating_add(len))?;
        let body = self.rest().get(GROUP_HEAD..GROUP_HEAD.saturating_add(len));
        let sound = body.is_some_and(|body| low(check(self.header.key, place, &[body])) == head.body_check);
        Ok(if sound { Found::Frame(len) } else { Found::Broken })
    }

    fn rest(&self) -> &[u8] {
        self.buf.get(self.used..).unwrap_or_default()
    }

    /// Sees to it that `n` bytes from here on are in memory, if the file has them.
    fn fill(&mut self, n: usize) -> io::Result<()> {
        if self.rest().len() >= n || self.at_end {
            return Ok(());
        }
        self.buf.drain(..self.used);
        self.offset = self.offset.saturating_add(self.used as u64);
        self.used = 0;
        while self.buf.len() < n && !self.at_end {
            // Grows with what is there, not with what a broken length claims.
            let want = n.saturating_sub(self.buf.len()).clamp(AHEAD, 16 * AHEAD);
            let got = (&mut self.from).take(want as u64).read_to_end(&mut self.buf)?;
            self.at_end = got < want;
        }
        Ok(())
    }
}

enum Found {
    /// A sound one with a body of this length.
    Frame(usize),
    Broken,
    End,
}
