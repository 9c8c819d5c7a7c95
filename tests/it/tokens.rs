//! The byte language of packet cases: tokens with spaces between, nothing computed, so that lengths can be wrong on
//! purpose.
//!
//! Hex digits are those bytes; `iN` one byte; `HN`, `kN`, `mN`, `sN` two bytes big endian (general, keepalive, packet
//! identifier, string length); `LN` four bytes; `vN`, `rN` a variable byte integer (general, remaining length);
//! `'text'` the text without a length. For cases that are not about lengths there are `s'text'`, the text with its
//! length, and `r*`, the remaining length of all that follows. In expectations `?N` stands for any N bytes, for what a
//! broker makes up.

/// One byte of an expectation: `None` matches whatever comes.
pub(crate) type Pattern = Vec<Option<u8>>;

/// The bytes of a payload.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    pattern(text)?.into_iter().map(|byte| byte.ok_or_else(|| "`?` only in expectations".to_owned())).collect()
}

/// The bytes of an expectation.
pub(crate) fn pattern(text: &str) -> Result<Pattern, String> {
    let mut out = Pattern::new();
    let mut length_at = None;
    for token in text.split_ascii_whitespace() {
        if token == "r*" && length_at.is_none() {
            length_at = Some(out.len());
        } else {
            one(token, &mut out).ok_or_else(|| format!("bad token `{token}`"))?;
        }
    }
    if let Some(at) = length_at {
        let length = variable_int((out.len() - at) as u64);
        out.splice(at..at, length.into_iter().map(Some));
    }
    Ok(out)
}

fn one(token: &str, out: &mut Pattern) -> Option<()> {
    let (kind, rest) = token.split_at_checked(1)?;
    match kind {
        "'" => out.extend(rest.strip_suffix('\'')?.bytes().map(Some)),
        "?" => out.extend(std::iter::repeat_n(None, rest.parse().ok()?)),
        "i" => out.push(Some(rest.parse().ok()?)),
        "s" if rest.starts_with('\'') => {
            let text = rest.strip_prefix('\'')?.strip_suffix('\'')?;
            out.extend(u16::try_from(text.len()).ok()?.to_be_bytes().into_iter().chain(text.bytes()).map(Some));
        }
        "H" | "k" | "m" | "s" => out.extend(rest.parse::<u16>().ok()?.to_be_bytes().map(Some)),
        "L" => out.extend(rest.parse::<u32>().ok()?.to_be_bytes().map(Some)),
        "v" | "r" => out.extend(variable_int(rest.parse().ok()?).into_iter().map(Some)),
        _ => {
            if token.len() % 2 != 0 {
                return None;
            }
            for at in (0..token.len()).step_by(2) {
                out.push(Some(u8::from_str_radix(token.get(at..at + 2)?, 16).ok()?));
            }
        }
    }
    Some(())
}

/// A variable byte integer, longer than four bytes where the value asks for it.
pub(crate) fn variable_int(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[test]
fn tokens_become_bytes() {
    for (text, wanted) in [
        ("82 E000", vec![0x82, 0xE0, 0x00]),
        ("i255 H258 k60 m1 s4", vec![255, 1, 2, 0, 60, 0, 1, 0, 4]),
        ("L1 v0 v127 r128 r268435455", vec![0, 0, 0, 1, 0, 127, 0x80, 1, 0xFF, 0xFF, 0xFF, 0x7F]),
        ("r268435456", vec![0x80, 0x80, 0x80, 0x80, 1]),
        ("'a/b'", b"a/b".to_vec()),
        ("''", vec![]),
        ("30 r* s'a' 'xy'", vec![0x30, 5, 0, 1, b'a', b'x', b'y']),
        ("'\u{e9}'", vec![0xC3, 0xA9]),
    ] {
        assert_eq!(bytes(text), Ok(wanted), "{text}");
    }
    for text in ["8", "G0", "i256", "'open", "s", "s'", "?1", "é", "r* r*"] {
        assert!(bytes(text).is_err(), "{text}");
    }
    assert_eq!(pattern("20 ?2"), Ok(vec![Some(0x20), None, None]));
}
