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
    /// By the letter of the specification [conf: strict_conformance]: the Remaining Length in its shortest form
    /// [MQTT-1.5.5-1], every byte of a packet counted, and no limit besides `max_packet_size` behind CONNECT.
    pub strict: bool,
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

    /// Bytes that wait, of an incomplete packet or kept.
    #[must_use]
    pub fn held(&self) -> usize {
        self.tail.as_ref().map_or(0, |t| t.bytes.len().saturating_sub(t.done))
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

    /// True if an incomplete packet has grown fast enough so far in its window: a sign of life, though no packet is
    /// complete.
    #[must_use]
    pub fn is_growing(&self, now_ms: u64) -> bool {
        let Some((tail, start)) = self.tail.as_ref().and_then(|tail| tail.window.map(|start| (tail, start))) else {
            return false;
        };
        let arrived = u64::try_from(tail.arrived).unwrap_or(u64::MAX);
        let needed = now_ms.saturating_sub(start).saturating_mul(STALL_BYTES as u64).checked_div(STALL_MS);
        needed.is_some_and(|needed| arrived >= needed)
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
            let have_len = have.len();
            self.compact();
            let (more, rest) = input.split_at(missing.min(input.len()));
            // By a quarter, not to the double, and not beyond the packet: many may be under way.
            let ahead = missing.min(have_len.checked_div(4).unwrap_or_default()).max(more.len());
            self.bytes.reserve_exact(ahead);
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
            if limits.strict && len > 2 && byte == 0 {
                return Err(DecodeError::RemainingLength);
            }
            check(packet, len, body, limits)?;
            return Ok(Some(Header { first, len, body }));
        }
    }
    if rest.len() >= 4 { Err(DecodeError::RemainingLength) } else { Ok(None) }
}

fn check(packet: PacketType, header: usize, body: usize, limits: &FrameLimits) -> Result<(), DecodeError> {
    use PacketType as P;
    let v5 = limits.version == Some(ProtocolVersion::V5);
    let counted = if limits.strict { header } else { 1 };
    let largest = match packet {
        P::Connect => LARGE,
        _ if v5 && limits.strict => usize::MAX,
        P::Puback | P::Pubrec | P::Pubrel | P::Pubcomp | P::Disconnect if v5 => SMALL,
        P::Subscribe | P::Unsubscribe | P::Auth if v5 => LARGE,
        P::Puback | P::Pubrec | P::Pubrel | P::Pubcomp if body != 2 => return Err(DecodeError::Length(packet)),
        P::Disconnect if body != 0 => return Err(DecodeError::Length(packet)),
        P::Pingreq | P::Pingresp if body != 0 => return Err(DecodeError::Length(packet)),
        _ => usize::MAX,
    };
    let max = usize::try_from(limits.max_packet_size).unwrap_or(usize::MAX);
    if max > 0 && body.saturating_add(counted) > max {
        Err(DecodeError::PacketTooLarge)
    } else if body > largest {
        Err(DecodeError::TypeTooLarge(packet))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProtocolVersion::{V5, V311};

    const V5_LIMITS: FrameLimits = FrameLimits { version: Some(V5), max_packet_size: 0, strict: false };

    fn limits(version: Option<ProtocolVersion>) -> FrameLimits {
        FrameLimits { version, max_packet_size: 2_000_000, strict: false }
    }

    fn random(seed: &mut u64) -> usize {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed as usize
    }

    /// PUBLISH packets with bodies of many sizes, as one stream and as the frames that are in it.
    fn stream(seed: &mut u64) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (mut bytes, mut frames) = (Vec::new(), Vec::new());
        for _ in 0..random(seed) % 40 {
            let len = match random(seed) % 8 {
                0..=4 => random(seed) % 20,
                5 | 6 => random(seed) % 400,
                _ => random(seed) % 40_000,
            };
            let body: Vec<u8> = (0..len).map(|_| random(seed) as u8).collect();
            bytes.push(0x30);
            super::super::writer::put_varint(&mut bytes, len);
            bytes.extend_from_slice(&body);
            frames.push(body);
        }
        (bytes, frames)
    }

    /// Takes at most `budget` frames, keeps the rest.
    fn drain(framer: &mut Framer, mut input: &[u8], budget: usize, frames: &mut Vec<Vec<u8>>) {
        for _ in 0..budget {
            match framer.next(&mut input, &V5_LIMITS, 1) {
                Framed::NeedMore => {
                    assert!(input.is_empty());
                    return;
                }
                Framed::Frame { first, body } => {
                    assert_eq!(first, 0x30);
                    frames.push(body.to_vec());
                }
                Framed::Bad(error) => panic!("{error}"),
            }
        }
        framer.keep(input);
    }

    #[test]
    fn any_cut_and_any_budget_gives_the_same_frames() {
        let mut seed = 0x1234_5678_9ABC_DEF1;
        for round in 0..200 {
            let (bytes, want) = stream(&mut seed);
            let mut got = Vec::new();
            let mut framer = Framer::new();
            let mut rest = &bytes[..];
            let most = [2, 50, 5_000, 200_000][round % 4];
            while !rest.is_empty() {
                while framer.has_kept() && random(&mut seed) % 4 > 0 {
                    let budget = random(&mut seed) % 3 + 1;
                    drain(&mut framer, &[], budget, &mut got);
                }
                let (read, later) = rest.split_at((random(&mut seed) % most + 1).min(rest.len()));
                rest = later;
                let budget = if random(&mut seed) % 3 == 0 { 2 } else { usize::MAX };
                drain(&mut framer, read, budget, &mut got);
            }
            drain(&mut framer, &[], usize::MAX, &mut got);
            assert!(got == want, "round {round}: {} frames of {}", got.len(), want.len());
            assert!(framer.is_idle() && framer.tail.is_none() && framer.deadline().is_none());
        }
    }

    #[test]
    fn an_idle_framer_is_a_pointer() {
        assert!(size_of::<Framer>() <= 16);
    }

    #[test]
    fn whole_frames_are_slices_of_the_input() {
        let bytes = [0x30, 2, 7, 8, 0xC0, 0, 0x30];
        let mut input = &bytes[..];
        let mut framer = Framer::new();
        let Framed::Frame { body, .. } = framer.next(&mut input, &V5_LIMITS, 1) else { panic!() };
        assert_eq!(body.as_ptr(), bytes[2..].as_ptr());
        assert_eq!(framer.next(&mut input, &V5_LIMITS, 1), Framed::Frame { first: 0xC0, body: &[] });
        assert!(framer.is_idle());
        assert_eq!(framer.next(&mut input, &V5_LIMITS, 1), Framed::NeedMore);
        assert!(!framer.is_idle() && !framer.has_kept());
    }

    #[test]
    fn by_the_letter_lengths_are_short_and_every_byte_counts() {
        let header = |strict: bool, max_packet_size: u32, bytes: &[u8]| {
            let limits = FrameLimits { version: Some(V5), max_packet_size, strict };
            header(bytes, &limits).map(|found| found.map(|header| header.body)).map_err(|error| error.strict_reason().0)
        };
        let (subscribe, puback) = ([0x82, 0xA1, 0x8D, 0x06], [0x40, 0x91, 0x4E]);
        for (max, bytes, default, strict) in [
            (0, &[0xC0, 0x80, 0x00][..], Ok(Some(0)), Err(0x81)),
            (0, &[0x30, 0x80, 0x80, 0x00], Ok(Some(0)), Err(0x81)),
            (0, &[0x30, 0x80, 0x01], Ok(Some(128)), Ok(Some(128))),
            (0, &[0xC0, 0x00], Ok(Some(0)), Ok(Some(0))),
            (0, &[0x30, 0xFF, 0xFF, 0xFF, 0xFF], Err(0x81), Err(0x81)),
            (9, &[0x30, 8], Ok(Some(8)), Err(0x95)),
            (10, &[0x30, 8], Ok(Some(8)), Ok(Some(8))),
            (130, &[0x30, 0x80, 0x01], Ok(Some(128)), Err(0x95)),
            (131, &[0x30, 0x80, 0x01], Ok(Some(128)), Ok(Some(128))),
            (0, &subscribe, Err(0x95), Ok(Some(100_001))),
            (0, &puback, Err(0x95), Ok(Some(10_001))),
            (0, &[0x10, 0xA1, 0x8D, 0x06], Err(0x95), Err(0x95)),
        ] {
            assert_eq!(header(false, max, bytes), default, "{bytes:02X?}");
            assert_eq!(header(true, max, bytes), strict, "{bytes:02X?} by the letter");
        }
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let mut framer = Framer::new();
        let mut input = &[0x30, 0xFF, 0xFF, 0xFF, 0x7F, 1, 2, 3][..];
        assert_eq!(framer.next(&mut input, &V5_LIMITS, 1), Framed::NeedMore);
        assert!(framer.tail.as_ref().unwrap().bytes.capacity() < 64);
    }

    #[test]
    fn many_small_kept_frames_are_not_moved_again_and_again() {
        let mut framer = Framer::new();
        framer.keep(&[0xC0, 0].repeat(32_768));
        let start = framer.tail.as_ref().unwrap().bytes.as_ptr();
        for _ in 0..32_768 {
            assert_eq!(framer.next(&mut &[][..], &V5_LIMITS, 1), Framed::Frame { first: 0xC0, body: &[] });
            assert_eq!(framer.tail.as_ref().unwrap().bytes.as_ptr(), start);
        }
        assert_eq!(framer.next(&mut &[][..], &V5_LIMITS, 1), Framed::NeedMore);
        assert!(framer.tail.is_none());
    }

    #[test]
    fn headers_are_refused_before_their_body_arrives() {
        use DecodeError as E;
        use PacketType as P;
        let cases: &[(_, &[u8], _)] = &[
            (None, &[0x30], E::FirstNotConnect(0x30)),
            (None, &[0x00], E::FirstNotConnect(0)),
            (None, &[0x10, 0xA1, 0x8D, 0x06], E::TypeTooLarge(P::Connect)),
            (Some(V5), &[0x00], E::Reserved),
            (Some(V5), &[0x0F], E::Reserved),
            (Some(V5), &[0x62, 0x80, 0x80, 0x80, 0x80], E::RemainingLength),
            (Some(V5), &[0x30, 0x80, 0x89, 0x7A], E::PacketTooLarge),
            (Some(V5), &[0x40, 0x91, 0x4E], E::TypeTooLarge(P::Puback)),
            (Some(V5), &[0xE0, 0x91, 0x4E], E::TypeTooLarge(P::Disconnect)),
            (Some(V5), &[0x82, 0xA1, 0x8D, 0x06], E::TypeTooLarge(P::Subscribe)),
            (Some(V5), &[0xC0, 1], E::Length(P::Pingreq)),
            (Some(V5), &[0xD0, 1], E::Length(P::Pingresp)),
            (Some(V311), &[0x40, 3], E::Length(P::Puback)),
            (Some(V311), &[0x62, 0], E::Length(P::Pubrel)),
            (Some(V311), &[0xE0, 1], E::Length(P::Disconnect)),
        ];
        for (version, bytes, want) in cases {
            for cut in 0..bytes.len() {
                let mut framer = Framer::new();
                let (mut a, mut b) = bytes.split_at(cut);
                assert_eq!(framer.next(&mut a, &limits(*version), 1), Framed::NeedMore, "{bytes:02X?}");
                assert_eq!(framer.next(&mut b, &limits(*version), 1), Framed::Bad(*want), "{bytes:02X?}");
            }
        }
        // The largest that are accepted only wait for their body.
        for (version, bytes) in [
            (None, &[0x10, 0xA0, 0x8D, 0x06][..]),
            (Some(V5), &[0x30, 0xFF, 0x88, 0x7A]),
            (Some(V5), &[0x40, 0x90, 0x4E]),
            (Some(V311), &[0x82, 0xA1, 0x8D, 0x06]),
        ] {
            let mut input = bytes;
            assert_eq!(Framer::new().next(&mut input, &limits(version), 1), Framed::NeedMore, "{bytes:02X?}");
        }
    }

    #[test]
    fn a_packet_must_grow_by_thirty_kib_in_thirty_seconds() {
        let mut framer = Framer::new();
        assert_eq!(framer.deadline(), None);
        let feed = |framer: &mut Framer, n: usize, now| {
            let bytes = vec![0; n];
            assert_eq!(framer.next(&mut &bytes[..], &V5_LIMITS, now), Framed::NeedMore);
        };
        let mut head = &[0x30, 0xFF, 0xFF, 0x7F][..];
        assert_eq!(framer.next(&mut head, &V5_LIMITS, 1_000), Framed::NeedMore);
        assert_eq!(framer.deadline(), Some(31_000));
        feed(&mut framer, STALL_BYTES - 4, 20_000);
        assert!(!framer.stalled(30_999));
        assert!(!framer.stalled(31_000));
        assert_eq!(framer.deadline(), Some(61_000));
        feed(&mut framer, STALL_BYTES - 1, 60_000);
        assert!(!framer.stalled(60_999));
        assert!(framer.stalled(61_000));
        // A complete packet ends the watch.
        let mut framer = Framer::new();
        let mut half = &[0xC0][..];
        assert_eq!(framer.next(&mut half, &V5_LIMITS, 5), Framed::NeedMore);
        let mut rest = &[0][..];
        assert_eq!(framer.next(&mut rest, &V5_LIMITS, 6), Framed::Frame { first: 0xC0, body: &[] });
        assert_eq!(framer.deadline(), None);
        assert!(!framer.stalled(1_000_000));
    }
}
