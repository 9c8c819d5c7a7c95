//! Fields onto the end of a `Vec<u8>`.

/// The largest Remaining Length that a fixed header can say.
pub const MAX_REMAINING_LENGTH: usize = 268_435_455;

/// Bytes of `n` as a variable byte integer: 1 to 4 for all that the encoding holds.
#[must_use]
pub const fn varint_len(n: usize) -> usize {
    match n {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer. `n` is at most [`MAX_REMAINING_LENGTH`]; more is cut to that.
pub fn put_varint(out: &mut Vec<u8>, n: usize) {
    let mut n = n.min(MAX_REMAINING_LENGTH);
    loop {
        let low = u8::try_from(n & 0x7F).unwrap_or(0);
        n >>= 7;
        if n == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends a two byte integer.
pub fn put_u16(out: &mut Vec<u8>, n: u16) {
    out.extend_from_slice(&n.to_be_bytes());
}

/// Appends a four byte integer.
pub fn put_u32(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&n.to_be_bytes());
}

/// Appends binary data behind its two byte length. Only the first 65535 bytes fit.
pub fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes);
    put_u16(out, u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    out.extend_from_slice(bytes);
}

/// Appends a string; it is at most 65535 bytes long, as every string from the wire is.
pub fn put_str(out: &mut Vec<u8>, text: &str) {
    put_binary(out, text.as_bytes());
}

/// Appends a property of one byte.
pub fn put_prop_u8(out: &mut Vec<u8>, id: u8, n: u8) {
    out.extend_from_slice(&[id, n]);
}

/// Appends a property of two bytes.
pub fn put_prop_u16(out: &mut Vec<u8>, id: u8, n: u16) {
    out.push(id);
    put_u16(out, n);
}

/// Appends a property of four bytes.
pub fn put_prop_u32(out: &mut Vec<u8>, id: u8, n: u32) {
    out.push(id);
    put_u32(out, n);
}

/// Appends a property of a variable byte integer.
pub fn put_prop_varint(out: &mut Vec<u8>, id: u8, n: u32) {
    out.push(id);
    put_varint(out, usize::try_from(n).unwrap_or(usize::MAX));
}

/// Appends a property of binary data or, as bytes, a string.
pub fn put_prop_binary(out: &mut Vec<u8>, id: u8, bytes: &[u8]) {
    out.push(id);
    put_binary(out, bytes);
}

/// Appends a packet whose body is short and built by `body`: first byte, Remaining Length, body.
pub(super) fn put_packet(out: &mut Vec<u8>, first: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(first);
    with_length(out, body);
}

/// Appends what `body` appends, preceded by its length as a variable byte integer.
pub(super) fn with_length(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(0);
    let from = out.len();
    body(out);
    let len = out.len().saturating_sub(from);
    let extra = varint_len(len).saturating_sub(1);
    if extra > 0 {
        out.resize(out.len().saturating_add(extra), 0);
        out.copy_within(from..from.saturating_add(len), from.saturating_add(extra));
    }
    let mut n = len.min(MAX_REMAINING_LENGTH);
    for slot in out.iter_mut().skip(start).take(extra.saturating_add(1)) {
        let low = u8::try_from(n & 0x7F).unwrap_or(0);
        n >>= 7;
        *slot = if n == 0 { low } else { low | 0x80 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Reader;

    #[test]
    fn a_variable_byte_integer_reads_back_and_has_the_length_it_said() {
        for n in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, MAX_REMAINING_LENGTH] {
            let mut out = Vec::new();
            put_varint(&mut out, n);
            assert_eq!(out.len(), varint_len(n));
            assert_eq!(Reader::new(&out).varint().map(|v| v as usize), Ok(n));
        }
    }

    #[test]
    fn a_length_is_put_before_a_body_of_any_size() {
        for n in [0, 1, 127, 128, 300, 16_383, 16_384, 70_000] {
            let mut out = vec![9];
            with_length(&mut out, |o| o.extend((0..n).map(|i| i as u8)));
            let mut r = Reader::new(&out);
            assert_eq!(r.u8(), Ok(9));
            let want: Vec<u8> = (0..n).map(|i| i as u8).collect();
            assert_eq!(r.section(), Ok(&want[..]));
            assert!(r.is_empty());
        }
    }

    #[test]
    fn binary_of_more_than_two_bytes_of_length_is_cut() {
        let mut out = Vec::new();
        put_binary(&mut out, &vec![7; 70_000]);
        assert_eq!(out.len(), 2 + 65_535);
        assert_eq!(out[..2], [0xFF, 0xFF]);
    }
}
