//! From a stream of bytes to whole packets. Packets inside one read are slices of it; only an incomplete one at the end
//! is copied, into a buffer that grows with what arrived and never with what was claimed.

use super::ProtocolVersion;
use super::error::DecodeError;
use super::packet::PacketType;

/// The time a packet has to grow by [`STALL_BYTES`].
pub const STALL_MS: u64 = 30_000;
/// The bytes by which an incomplete packet must grow in [`STALL_MS`].
pub const STALL_BYTES: usize = 30 * 1024;

/// Largest Remaining Length of a CONNECT, and of SUBSCRIBE, UNSUBSCRIBE and AUTH in version 5.
const LARGE: usize = 100_000;
/// Largest Remaining Length of the other packets without payload in version 5.
const SMALL: usize = 10_000;

/// What a connection accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameLimits {
    /// The version; `None` while CONNECT is outstanding, and then nothing else is accepted.
    pub version: Option<ProtocolVersion>,
    /// Largest packet, counted as its first byte and its Remaining Length [conf: max_packet_size]; 0 is no limit.
    pub max_packet_size: u32,
}

/// What [`Framer::next`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framed<'a> {
    /// The input is used up.
    NeedMore,
    /// A whole packet.
    Frame {
        /// The first byte: type and flags.
        first: u8,
        /// What follows the fixed header.
        body: &'a [u8],
    },
    /// The stream is broken: the connection ends, and the framer must not be used again.
    Bad(DecodeError),
}

/// Finds the packets in what one connection reads. Idle it is one pointer without a buffer.
///
/// The frames that it returns borrow it. An owner that needs itself while it handles a frame takes the framer out with
/// `std::mem::take` for the loop over one read and puts it back behind it.
#[derive(Default, Debug)]
pub struct Framer {
    tail: Option<Box<Tail>>,
}

#[derive(Default, Debug)]
struct Tail {
    /// Bytes from the front of which `done` were handed out.
    bytes: Vec<u8>,
    done: usize,
    /// When the present window of an incomplete packet began; `None` unless one is incomplete.
    window: Option<u64>,
    /// Bytes that came in the present window.
    arrived: usize,
}

/// A fixed header.
struct Header {
    first: u8,
    len: usize,
    body: usize,
}

impl Framer {
    /// A framer at the start of a stream.
    #[must_use]
    pub const fn new() -> Framer {
        Framer { tail: None }
    }

    /// Takes the next packet from what was kept and then from `input`, which moves forward. Call it until it returns
    /// [`Framed::NeedMore`], or hand the rest of the input to [`Framer::keep`]. `now_ms` is the monotonic clock.
    pub fn next<'f, 'i: 'f>(&'f mut self, input: &mut &'i [u8], limits: &FrameLimits, now_ms: u64) -> Framed<'f> {
        if self.tail.as_ref().is_some_and(|t| t.done == t.bytes.len()) {
            self.tail = None;
        }
        if self.tail.is_none() {
            match split(input, limits) {
                Err(error) => return Framed::Bad(error),
                Ok(Some((frame, rest))) => {
                    *input = rest;
                    return frame;
                }
                Ok(None) if input.is_empty() => return Framed::NeedMore,
                Ok(None) => {
                    self.tail = Some(Box::new(Tail::starting(input, now_ms)));
                    *input = &[];
                    return Framed::NeedMore;
                }
            }
        }
        let Some(tail) = &mut self.tail else { return Framed::NeedMore };
        match tail.complete(input, limits, now_ms) {
            Err(error) => Framed::Bad(error),
            Ok(None) => Framed::NeedMore,
            Ok(Some(header)) => {
                let start = tail.done.saturating_add(header.len);
                tail.done = start.saturating_add(header.body);
                tail.window = None;
                let body = tail.bytes.get(start..tail.done).unwrap_or_default();
                Framed::Frame { first: header.first, body }
            }
        }
    }

    /// Keeps the rest of the input for later, when the owner stops before [`Framed::NeedMore`]. A later
    /// [`Framer::next`] with empty input goes on with it; while [`Framer::has_kept`] nothing more should be read.
    pub fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        let tail = self.tail.get_or_insert_default();
        tail.compact();
        tail.bytes.extend_from_slice(rest);
        tail.window = None;
    }

    /// True if kept bytes may hold whole packets, so that [`Framer::next`] is worth a call without input.
    #[must_use]
    pub fn has_kept(&self) -> bool {
        self.tail.as_ref().is_some_and(|t| t.window.is_none() && t.done < t.bytes.len())
    }

    /// True if nothing is buffered: the last packet was complete and handled.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.tail.as_ref().is_none_or(|t| t.done == t.bytes.len())
    }

    /// True if an incomplete packet grew by less than [`STALL_BYTES`] in a window of [`STALL_MS`]: the connection ends.
    /// After a window with more the next one begins. Call it at [`Framer::deadline`].
    pub fn stalled(&mut self, now_ms: u64) -> bool {
        let Some(tail) = &mut self.tail else { return false };
        match tail.window {
            Some(start) if now_ms >= start.saturating_add(STALL_MS) => {
                let slow = tail.arrived < STALL_BYTES;
                tail.window = Some(now_ms);
                tail.arrived = 0;
                slow
            }
            _ => false,
        }
    }

    /// When [`Framer::stalled`] is to be asked, in milliseconds of the monotonic clock; `None` without an incomplete
    /// packet.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.tail.as_ref()?.window.map(|start| start.saturating_add(STALL_MS))
    }
}

impl Tail {
    fn starting(bytes: &[u8], now_ms: u64) -> Tail {
        Tail { bytes: bytes.to_vec(), done: 0, window: Some(now_ms), arrived: bytes.len() }
    }

    /// The header of a packet that is complete at `done`, with bytes from `input` as far as this packet needs them.
    fn complete(
        &mut self,
        input: &mut &[u8],
        limits: &FrameLimits,
        now_ms: u64,
    ) -> Result<Option<Header>, DecodeError> {
        loop {
            let have = self.bytes.get(self.done..).unwrap_or_default();
            let header = header(have, limits)?;
            let missing = match &header {
                Some(h) => h.len.saturating_add(h.body).saturating_sub(have.len()),
                None => 1,
            };
            if missing == 0 {
                return Ok(header);
            }
            if self.window.is_none() {
                self.window = Some(now_ms);
                self.arrived = have.len();
            }
            if input.is_empty() {
                return Ok(None);
            }
            self.compact();
            let (more, rest) = input.split_at(missing.min(input.len()));
            self.bytes.extend_from_slice(more);
            self.arrived = self.arrived.saturating_add(more.len());
            *input = rest;
        }
    }

    /// Drops what was handed out, once it is at least as much as what would have to move.
    fn compact(&mut self) {
        if self.done >= self.bytes.len().saturating_sub(self.done) {
            self.bytes.drain(..self.done);
            self.done = 0;
        }
    }
}

/// The packet at the start of `input` and what follows it; `None` if it is not complete.
fn split<'i>(input: &'i [u8], limits: &FrameLimits) -> Result<Option<(Framed<'i>, &'i [u8])>, DecodeError> {
    let Some(h) = header(input, limits)? else { return Ok(None) };
    let body = input.get(h.len..).and_then(|rest| rest.split_at_checked(h.body));
    Ok(body.map(|(body, rest)| (Framed::Frame { first: h.first, body }, rest)))
}

/// The fixed header at the start of `bytes`; `None` if it is not complete. What it says is checked before any of the
/// body has arrived.
fn header(bytes: &[u8], limits: &FrameLimits) -> Result<Option<Header>, DecodeError> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let packet = match (PacketType::of(first), limits.version) {
        (Some(PacketType::Connect), _) => PacketType::Connect,
        (_, None) => return Err(DecodeError::FirstNotConnect(first)),
        (None, _) => return Err(DecodeError::Reserved),
        (Some(packet), _) => packet,
    };
    let mut body = 0usize;
    for (&byte, (shift, len)) in rest.iter().zip([(0, 2), (7, 3), (14, 4), (21, 5)]) {
        body |= usize::from(byte & 0x7F).wrapping_shl(shift);
        if byte & 0x80 == 0 {
            check(packet, body, limits)?;
            return Ok(Some(Header { first, len, body }));
        }
    }
    if rest.len() >= 4 { Err(DecodeError::RemainingLength) } else { Ok(None) }
}

fn check(packet: PacketType, body: usize, limits: &FrameLimits) -> Result<(), DecodeError> {
    use PacketType as P;
    let v5 = limits.version == Some(ProtocolVersion::V5);
    let largest = match packet {
        P::Connect => LARGE,
        P::Puback | P::Pubrec | P::Pubrel | P::Pubcomp | P::Disconnect if v5 => SMALL,
        P::Subscribe | P::Unsubscribe | P::Auth if v5 => LARGE,
        P::Puback | P::Pubrec | P::Pubrel | P::Pubcomp if body != 2 => return Err(DecodeError::Length(packet)),
        P::Disconnect if body != 0 => return Err(DecodeError::Length(packet)),
        P::Pingreq | P::Pingresp if body != 0 => return Err(DecodeError::Length(packet)),
        _ => usize::MAX,
    };
    let max = usize::try_from(limits.max_packet_size).unwrap_or(usize::MAX);
    if max > 0 && body.saturating_add(1) > max {
        Err(DecodeError::PacketTooLarge)
    } else if body > largest {
        Err(DecodeError::TypeTooLarge(packet))
    } else {
        Ok(())
    }
}
