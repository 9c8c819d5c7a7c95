//! A cursor over the bytes of one packet, and the UTF-8 rules of MQTT.

use super::error::DecodeError;
use super::packet::PacketType;

/// Why a field could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// The packet ends inside the field, or a variable byte integer is longer than needed or than four bytes.
    Truncated,
    /// A string breaks the rules of [`utf8`].
    Utf8,
}

/// A cursor that only moves forward; a failed read leaves it where it was or at the end of the field.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What was not read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True at the end of the packet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes that were not read yet.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.rest.len()
    }

    /// A cursor before the last `n` bytes of what is left; at its start when there are fewer.
    #[must_use]
    pub fn last(&self, n: usize) -> Reader<'a> {
        let from = self.rest.len().saturating_sub(n);
        Reader { rest: self.rest.get(from..).unwrap_or_default() }
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when fewer are left.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], ReadError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(ReadError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, ReadError> {
        let (&byte, rest) = self.rest.split_first().ok_or(ReadError::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    /// Two byte integer.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when fewer bytes are left.
    pub fn u16(&mut self) -> Result<u16, ReadError> {
        let (bytes, rest) = self.rest.split_first_chunk::<2>().ok_or(ReadError::Truncated)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    /// Four byte integer.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when fewer bytes are left.
    pub fn u32(&mut self) -> Result<u32, ReadError> {
        let (bytes, rest) = self.rest.split_first_chunk::<4>().ok_or(ReadError::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// Variable byte integer of one to four bytes in its shortest form [MQTT-1.5.5-1].
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when it does not end, or is not in its shortest form.
    pub fn varint(&mut self) -> Result<u32, ReadError> {
        let mut value = 0u32;
        for shift in [0u32, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F).wrapping_shl(shift);
            if byte & 0x80 == 0 {
                return if shift > 0 && byte == 0 { Err(ReadError::Truncated) } else { Ok(value) };
            }
        }
        Err(ReadError::Truncated)
    }

    /// Binary data: a two byte length and that many bytes.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when fewer bytes are left.
    pub fn binary(&mut self) -> Result<&'a [u8], ReadError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A string: binary data that satisfies [`utf8`].
    ///
    /// # Errors
    /// Either [`ReadError`].
    pub fn string(&mut self) -> Result<&'a str, ReadError> {
        utf8(self.binary()?).ok_or(ReadError::Utf8)
    }

    /// Checks that `body`, which this reader reads, is used up.
    pub(super) fn finish(&self, packet: PacketType, body: &[u8]) -> Result<(), DecodeError> {
        if self.is_empty() {
            return Ok(());
        }
        let len = body.len();
        let used = len.saturating_sub(self.rest.len());
        let size = |n| u32::try_from(n).unwrap_or(u32::MAX);
        Err(DecodeError::Trailing { packet, used: size(used), len: size(len) })
    }

    /// The bytes of a property section behind its variable byte length.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when the length is bad or fewer bytes are left.
    pub fn section(&mut self) -> Result<&'a [u8], ReadError> {
        let len = self.varint()?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }
}

/// `bytes` as a string if MQTT permits it in every version: valid UTF-8 without surrogates and overlong forms
/// [MQTT-1.5.4-1], without U+0000 [MQTT-1.5.4-2], and without the control characters U+0001 to U+001F and U+007F to
/// U+009F and the non-characters, which the specification leaves to the receiver. U+FEFF is kept [MQTT-1.5.4-3].
#[must_use]
pub fn utf8(bytes: &[u8]) -> Option<&str> {
    let text = core::str::from_utf8(bytes).ok()?;
    (printable_ascii(bytes) || text.chars().all(permitted)).then_some(text)
}

/// 0x01 in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The top bit of each byte.
const TOPS: u64 = 0x8080_8080_8080_8080;

/// True if every byte is U+0020 to U+007E. Nearly every string ends here, so it looks at eight bytes at a time, which
/// the compiler does not do for us when it optimises for size.
fn printable_ascii(mut bytes: &[u8]) -> bool {
    while let Some((chunk, rest)) = bytes.split_first_chunk::<8>() {
        let v = u64::from_ne_bytes(*chunk);
        // A top bit is set in `v` by what is not ASCII, in the difference by a byte under 0x20, in the sum by 0x7F.
        let bad = v | v.wrapping_sub(ONES.wrapping_mul(0x20)) | v.wrapping_add(ONES);
        if bad & TOPS != 0 {
            return false;
        }
        bytes = rest;
    }
    bytes.iter().all(|b| matches!(b, 0x20..=0x7E))
}

/// True if one of the bytes is `a` or `b`.
pub(super) fn holds_either(mut bytes: &[u8], a: u8, b: u8) -> bool {
    let has_zero = |v: u64| v.wrapping_sub(ONES) & !v & TOPS != 0;
    let (all_a, all_b) = (ONES.wrapping_mul(u64::from(a)), ONES.wrapping_mul(u64::from(b)));
    while let Some((chunk, rest)) = bytes.split_first_chunk::<8>() {
        let v = u64::from_ne_bytes(*chunk);
        if has_zero(v ^ all_a) || has_zero(v ^ all_b) {
            return true;
        }
        bytes = rest;
    }
    bytes.iter().any(|&c| c == a || c == b)
}

fn permitted(c: char) -> bool {
    let n = c as u32;
    !(n < 0x20 || (0x7F..=0x9F).contains(&n) || (0xFDD0..=0xFDEF).contains(&n) || n & 0xFFFE == 0xFFFE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_takes_one_to_four_bytes_in_the_shortest_form() {
        for (bytes, want) in [
            (&[0x00][..], Ok(0)),
            (&[0x7F], Ok(127)),
            (&[0x80, 0x01], Ok(128)),
            (&[0xFF, 0x7F], Ok(16_383)),
            (&[0xFF, 0xFF, 0x7F], Ok(2_097_151)),
            (&[0xFF, 0xFF, 0xFF, 0x7F], Ok(268_435_455)),
            (&[0x80, 0x00], Err(ReadError::Truncated)),
            (&[0x80, 0x80, 0x00], Err(ReadError::Truncated)),
            (&[0x80, 0x80, 0x80, 0x80, 0x01], Err(ReadError::Truncated)),
            (&[0xFF], Err(ReadError::Truncated)),
            (&[], Err(ReadError::Truncated)),
        ] {
            assert_eq!(Reader::new(bytes).varint(), want, "{bytes:02X?}");
        }
    }

    #[test]
    fn strings_follow_the_utf8_rules() {
        for good in
            ["", "a/b", " ~", "\u{A0}", "\u{FEFF}x", "\u{FDCF}\u{FDF0}", "\u{FFFD}", "\u{10000}", "größe", "\u{10FFFD}"]
        {
            assert_eq!(utf8(good.as_bytes()), Some(good));
        }
        for bad in [
            &b"top\0"[..],
            b"a\x01",
            b"\x1F",
            b"\x7F",
            "\u{80}".as_bytes(),
            "\u{9F}".as_bytes(),
            "\u{FDD0}".as_bytes(),
            "\u{FDEF}".as_bytes(),
            "\u{FFFE}".as_bytes(),
            "\u{FFFF}".as_bytes(),
            "\u{1FFFE}".as_bytes(),
            "\u{10FFFF}".as_bytes(),
            b"\xC0\x80",
            b"\xC1\xBF",
            b"\xE0\x80\x80",
            b"\xED\xA0\x80",
            b"\xED\xBF\xBF",
            b"\xF4\x90\x80\x80",
            b"\xF8\x88\x80\x80\x80",
            b"\xE2\x82",
            b"\xFF",
        ] {
            assert_eq!(utf8(bad), None, "{bad:02X?}");
        }
    }

    #[test]
    fn eight_bytes_at_a_time_agree_with_one() {
        for len in 0..20 {
            for at in 0..len {
                for byte in 0..=255u8 {
                    let mut bytes = vec![b'~'; len];
                    bytes[at] = byte;
                    assert_eq!(printable_ascii(&bytes), (0x20..0x7F).contains(&byte), "{byte:02X} at {at} of {len}");
                    assert_eq!(
                        holds_either(&bytes, b'+', b'#'),
                        byte == b'+' || byte == b'#',
                        "{byte:02X} at {at} of {len}"
                    );
                }
            }
        }
        // Carries between neighbours hide nothing and find nothing.
        for (a, b) in (0..=255u8).flat_map(|a| (0..=255u8).map(move |b| (a, b))) {
            let bytes = [b'a', b'a', a, b, a, b, b'a', b'a'];
            let want = bytes.iter().all(|c| (0x20..0x7F).contains(c));
            assert_eq!(printable_ascii(&bytes), want, "{bytes:02X?}");
            let want = bytes.iter().any(|c| b"+#".contains(c));
            assert_eq!(holds_either(&bytes, b'+', b'#'), want, "{bytes:02X?}");
        }
    }

    #[test]
    fn strings_and_binary_stop_at_the_end() {
        let mut r = Reader::new(&[0, 2, b'a', b'b', 0, 1]);
        assert_eq!(r.string(), Ok("ab"));
        assert_eq!(r.binary(), Err(ReadError::Truncated));
        assert_eq!(Reader::new(&[0]).string(), Err(ReadError::Truncated));
        assert_eq!(Reader::new(&[0, 1, 0xFF]).string(), Err(ReadError::Utf8));
        assert_eq!(Reader::new(&[3, 1, 2]).section(), Err(ReadError::Truncated));
        assert_eq!(Reader::new(&[2, 1, 2, 9]).section(), Ok(&[1, 2][..]));
    }
}
