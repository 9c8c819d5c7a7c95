//! WebSocket frames (RFC 6455): what a client sends becomes a stream of bytes, and what goes to it is put into frames.
//!
//! Payload is unmasked where it lies and handed on as it comes, so a frame of any length needs no buffer; only a header or
//! a control frame in pieces is kept.

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

/// The longest payload of a control frame.
const MAX_CONTROL: usize = 125;
/// The longest header of a frame from a client: two bytes, a length of eight, a mask of four.
const MAX_HEADER: usize = 14;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Close codes of RFC 6455, 7.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// Done.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// The frames break a rule.
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// The broker stops.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// Text, where MQTT is binary [MQTT-6.0.0-1].
    pub const UNSUPPORTED_DATA: CloseCode = CloseCode(1003);
    /// The client may not be here.
    pub const POLICY_VIOLATION: CloseCode = CloseCode(1008);
    /// A packet is larger than what is taken.
    pub const TOO_BIG: CloseCode = CloseCode(1009);
}

/// What stands next in the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// Nothing whole; call again with more.
    NeedMore,
    /// Bytes of the stream.
    Data(&'a [u8]),
    /// A ping: answer with a pong of the same payload.
    Ping(ControlPayload),
    /// The client closes: answer with the same, then close.
    Close(CloseCode),
    /// A rule is broken: say this code, then close.
    Bad(CloseCode),
}

/// The payload of a ping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ControlPayload {
    bytes: [u8; MAX_CONTROL],
    len: u8,
}

impl ControlPayload {
    const EMPTY: ControlPayload = ControlPayload { bytes: [0; MAX_CONTROL], len: 0 };

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(slot) = self.bytes.get_mut(usize::from(self.len)) {
                *slot = *byte;
                self.len = self.len.saturating_add(1);
            }
        }
    }
}

impl std::fmt::Debug for ControlPayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// The frame that is being read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    left: u64,
    mask: [u8; 4],
}

impl Frame {
    /// Unmasks so many bytes of the payload, by words: a compiler makes wide ones of that.
    fn unmask(&mut self, bytes: &mut [u8]) {
        let mask = u32::from_ne_bytes(self.mask);
        let mut words = bytes.chunks_exact_mut(4);
        for word in &mut words {
            if let Ok(word) = <&mut [u8; 4]>::try_from(word) {
                *word = (u32::from_ne_bytes(*word) ^ mask).to_ne_bytes();
            }
        }
        for (byte, mask) in words.into_remainder().iter_mut().zip(self.mask) {
            *byte ^= mask;
        }
        self.mask.rotate_left(bytes.len() % 4);
        self.left = self.left.saturating_sub(bytes.len() as u64);
    }
}

/// Reads the frames of one client. Idle, it owns no memory.
#[derive(Debug, Default)]
pub struct Deframer {
    /// A header of which not all has come, and how much of it has.
    header: [u8; MAX_HEADER],
    header_len: u8,
    frame: Option<Frame>,
    control: Option<Box<ControlPayload>>,
    /// A message of several frames is under way.
    fragmented: bool,
}

impl Deframer {
    /// Takes what stands next from the front of `input`. After [`Next::Close`] and [`Next::Bad`] nothing more is to be
    /// read.
    pub fn next<'a>(&mut self, input: &mut &'a mut [u8]) -> Next<'a> {
        loop {
            let mut frame = match self.frame {
                Some(frame) => frame,
                None => match self.next_header(input) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => return Next::NeedMore,
                    Err(code) => return Next::Bad(code),
                },
            };
            if frame.left > 0 && input.is_empty() {
                self.frame = Some(frame);
                return Next::NeedMore;
            }
            let len = usize::try_from(frame.left).unwrap_or(usize::MAX).min(input.len());
            let all = std::mem::take(input);
            let Some((payload, rest)) = all.split_at_mut_checked(len) else { return Next::NeedMore };
            *input = rest;
            frame.unmask(payload);
            self.frame = (frame.left > 0).then_some(frame);
            match frame.opcode {
                CONTINUATION | BINARY if payload.is_empty() => {}
                CONTINUATION | BINARY => return Next::Data(payload),
                opcode => {
                    let control = self.control.get_or_insert_with(|| Box::new(ControlPayload::EMPTY));
                    control.push(payload);
                    if frame.left > 0 {
                        continue;
                    }
                    let whole = self.control.take().map_or(ControlPayload::EMPTY, |control| *control);
                    match opcode {
                        PING => return Next::Ping(whole),
                        CLOSE => return close(whole.as_slice()),
                        _ => {}
                    }
                }
            }
        }
    }

    /// The header of the next frame, once it is complete.
    fn next_header(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, CloseCode> {
        loop {
            match parse_header(self.header.get(..usize::from(self.header_len)).unwrap_or_default())? {
                Some((fin, frame)) => {
                    self.header_len = 0;
                    self.check_sequence(fin, frame.opcode)?;
                    return Ok(Some(frame));
                }
                None => {
                    let all = std::mem::take(input);
                    let Some((first, rest)) = all.split_first_mut() else { return Ok(None) };
                    *input = rest;
                    if let Some(place) = self.header.get_mut(usize::from(self.header_len)) {
                        *place = *first;
                        self.header_len = self.header_len.saturating_add(1);
                    }
                }
            }
        }
    }

    /// Control frames may stand between the frames of one message, other messages may not (RFC 6455, 5.4).
    fn check_sequence(&mut self, fin: bool, opcode: u8) -> Result<(), CloseCode> {
        match opcode {
            CONTINUATION if !self.fragmented => Err(CloseCode::PROTOCOL_ERROR),
            BINARY if self.fragmented => Err(CloseCode::PROTOCOL_ERROR),
            CONTINUATION | BINARY => {
                self.fragmented = !fin;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Whether the frame is the last of its message, and the frame; `None` when bytes are missing. Everything that can be
/// told from the first bytes is checked before the others have come.
fn parse_header(bytes: &[u8]) -> Result<Option<(bool, Frame)>, CloseCode> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
    match opcode {
        // No extension was agreed on that could use these bits.
        _ if first & 0x70 != 0 => return Err(CloseCode::PROTOCOL_ERROR),
        TEXT => return Err(CloseCode::UNSUPPORTED_DATA),
        CONTINUATION | BINARY => {}
        CLOSE | PING | PONG if fin => {}
        _ => return Err(CloseCode::PROTOCOL_ERROR),
    }
    let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
    // A client has to mask (RFC 6455, 5.1), so that it cannot make a proxy take its bytes for a request. C Mosquitto takes
    // both.
    if second & 0x80 == 0 {
        return Err(CloseCode::PROTOCOL_ERROR);
    }
    let (left, rest) = match second & 0x7F {
        len @ 0..=125 => (u64::from(len), rest),
        _ if opcode >= CLOSE => return Err(CloseCode::PROTOCOL_ERROR),
        126 => match rest.split_first_chunk() {
            Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest),
            None => return Ok(None),
        },
        _ => match rest.split_first_chunk() {
            Some((len, rest)) => (u64::from_be_bytes(*len), rest),
            None => return Ok(None),
        },
    };
    // The shortest form is asked for, and the highest bit must be 0 (RFC 6455, 5.2).
    let shortest = match second & 0x7F {
        126 => left > 125,
        127 => left > u64::from(u16::MAX) && left >> 63 == 0,
        _ => true,
    };
    if !shortest {
        return Err(CloseCode::PROTOCOL_ERROR);
    }
    let Some((mask, _)) = rest.split_first_chunk() else { return Ok(None) };
    Ok(Some((fin, Frame { opcode, left, mask: *mask })))
}

/// What a close frame says, and whether it may say so (RFC 6455, 7.4).
fn close<'a>(payload: &[u8]) -> Next<'a> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Next::Close(CloseCode::NORMAL) } else { Next::Bad(CloseCode::PROTOCOL_ERROR) };
    };
    let code = u16::from_be_bytes(*code);
    let valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) && std::str::from_utf8(reason).is_ok();
    if valid { Next::Close(CloseCode(code)) } else { Next::Bad(CloseCode::PROTOCOL_ERROR) }
}

/// Appends the header of an unmasked frame with `len` bytes of MQTT behind it.
pub fn put_binary_header(out: &mut Vec<u8>, len: usize) {
    put_header(out, BINARY, len);
}

/// Appends the answer to a ping.
pub fn put_pong(out: &mut Vec<u8>, payload: &ControlPayload) {
    put_header(out, PONG, payload.as_slice().len());
    out.extend_from_slice(payload.as_slice());
}

/// Appends a close frame.
pub fn put_close(out: &mut Vec<u8>, code: CloseCode) {
    put_header(out, CLOSE, 2);
    out.extend_from_slice(&code.0.to_be_bytes());
}

fn put_header(out: &mut Vec<u8>, opcode: u8, len: usize) {
    out.push(0x80 | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x12, 0x34, 0x56, 0x78];
        let mut bytes = Vec::new();
        put_header(&mut bytes, first & 0x0F, payload.len());
        bytes[0] = first;
        bytes[1] |= 0x80;
        bytes.extend_from_slice(&mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    #[derive(Debug, PartialEq, Eq, Default)]
    struct Read {
        data: Vec<u8>,
        pings: Vec<Vec<u8>>,
        end: Option<Result<u16, u16>>,
    }

    /// Reads the bytes in pieces of so many.
    fn read(bytes: &[u8], piece: usize) -> Read {
        let mut deframer = Deframer::default();
        let mut read = Read::default();
        for piece in bytes.chunks(piece) {
            let mut piece = piece.to_vec();
            let mut input = &mut piece[..];
            loop {
                match deframer.next(&mut input) {
                    Next::NeedMore => break,
                    Next::Data(data) => read.data.extend_from_slice(data),
                    Next::Ping(payload) => read.pings.push(payload.as_slice().to_vec()),
                    Next::Close(code) => read.end = Some(Ok(code.0)),
                    Next::Bad(code) => read.end = Some(Err(code.0)),
                }
                if read.end.is_some() {
                    return read;
                }
            }
        }
        read
    }

    #[test]
    fn frames_become_a_stream_however_they_are_split() {
        let long = vec![7; 70_000];
        let medium = vec![9; 300];
        let bytes = [
            frame(0x82, b"abc"),
            frame(0x02, &medium),
            frame(0x89, b"are you there"),
            frame(0x00, b""),
            frame(0x8A, b"unasked"),
            frame(0x80, &long),
            frame(0x89, b""),
            frame(0x88, &[0x03, 0xE8, b'b', b'y', b'e']),
        ]
        .concat();
        let expected = Read {
            data: [&b"abc"[..], &medium, &long].concat(),
            pings: vec![b"are you there".to_vec(), Vec::new()],
            end: Some(Ok(1000)),
        };
        for piece in [1, 2, 3, 5, 7, 13, 1000, 100_000] {
            assert_eq!(read(&bytes, piece), expected, "{piece}");
        }
    }

    #[test]
    fn broken_rules_have_their_codes() {
        let unmasked = |first: u8| vec![first, 1, b'x'];
        let masked = |head: &[u8]| [head, &[0; 4]].concat();
        for (bytes, code) in [
            (frame(0x81, b"text"), 1003),
            (frame(0x01, b"text"), 1003),
            (unmasked(0x82), 1002),
            (frame(0xC2, b"x"), 1002),
            (frame(0x83, b"x"), 1002),
            (frame(0x8B, b"x"), 1002),
            (frame(0x09, b"x"), 1002),
            (frame(0x80, b"x"), 1002),
            ([frame(0x02, b"x"), frame(0x82, b"x")].concat(), 1002),
            (frame(0x89, &[0; 126]), 1002),
            (masked(&[0x82, 0xFE, 0, 125]), 1002),
            (masked(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]), 1002),
            (masked(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 1, 0, 0]), 1002),
            (frame(0x88, &[3]), 1002),
            (frame(0x88, &[0x03, 0xEC]), 1002),
            (frame(0x88, &[0x03, 0xE8, 0xFF]), 1002),
        ] {
            for piece in [1, 1000] {
                assert_eq!(read(&bytes, piece).end, Some(Err(code)), "{bytes:02X?}");
            }
        }
        assert_eq!(read(&frame(0x88, &[]), 1).end, Some(Ok(1000)));
        assert_eq!(read(&frame(0x88, &4999u16.to_be_bytes()), 1).end, Some(Ok(4999)));
    }

    #[test]
    fn a_claimed_length_costs_nothing() {
        let mut deframer = Deframer::default();
        let mut bytes = [0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, b'x'];
        assert_eq!(deframer.next(&mut &mut bytes[..]), Next::Data(b"x"));
        assert!(deframer.control.is_none() && size_of::<Deframer>() <= 56, "{}", size_of::<Deframer>());
    }

    #[test]
    fn headers_have_the_shortest_form() {
        for (len, header) in [
            (0, vec![0x82, 0]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (65_535, vec![0x82, 126, 0xFF, 0xFF]),
            (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            put_binary_header(&mut out, len);
            assert_eq!(out, header);
        }
        let mut out = Vec::new();
        put_close(&mut out, CloseCode::NORMAL);
        assert_eq!(out, [0x88, 2, 0x03, 0xE8]);
    }
}
