//! Values as they stand in a configuration file.

use super::error::ErrorKind;

/// `true`, `false`, `1` or `0`, nothing else.
pub(super) fn boolean(word: &str) -> Result<bool, ErrorKind> {
    match word {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(ErrorKind::Invalid(word.into())),
    }
}

/// An integer as C writes them: decimal, `0x` and hexadecimal, or `0` and octal, with a sign; 32 bits.
pub(super) fn integer(word: &str) -> Result<i32, ErrorKind> {
    let wide = wide_integer(word)?;
    i32::try_from(wide).map_err(|_| ErrorKind::TooWide)
}

fn wide_integer(word: &str) -> Result<i64, ErrorKind> {
    let (negative, digits) = match word.as_bytes().first() {
        Some(b'-') => (true, &word[1..]),
        Some(b'+') => (false, &word[1..]),
        _ => (false, word),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (16, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(ErrorKind::NotANumber);
    }
    let n = i64::from_str_radix(digits, radix).map_err(|_| ErrorKind::TooWide)?;
    Ok(if negative { -n } else { n })
}

/// The digits that `word` starts with `[conf: memory_limit]`: whatever follows is ignored, no digits are 0.
pub(super) fn lenient_size(word: &str) -> Result<u64, ErrorKind> {
    if word.starts_with('-') {
        return Err(ErrorKind::Invalid(word.into()));
    }
    let word = word.strip_prefix('+').unwrap_or(word);
    let digits = word.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    if digits.is_empty() { Ok(0) } else { digits.parse().map_err(|_| ErrorKind::TooWide) }
}

/// A number and one of `s h d w m y` in seconds; a month has 30 days, a year 365. `None` for anything else and for 0.
pub(super) fn duration(text: &str) -> Option<u32> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'h' => 3600,
        b'd' => 86_400,
        b'w' => 7 * 86_400,
        b'm' => 30 * 86_400,
        b'y' => 365 * 86_400,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n = digits.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(unit);
    // Sessions expire after at most 2^32-1 seconds anyway, so a longer limit is that one.
    (n > 0).then(|| u32::try_from(n).unwrap_or(u32::MAX))
}

/// Checks the text of a string option: no control characters, no non-characters, at most 65535 bytes.
pub(super) fn check_text(text: &str) -> Result<(), ErrorKind> {
    if text.len() > 65_535 {
        return Err(ErrorKind::TooLong);
    }
    let bad = |c: char| {
        let n = u32::from(c);
        c.is_control() || (0xFDD0..=0xFDEF).contains(&n) || n & 0xFFFE == 0xFFFE
    };
    if text.chars().any(bad) { Err(ErrorKind::MalformedUtf8) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_c() {
        for (word, n) in [
            ("0", 0),
            ("10", 10),
            ("-1", -1),
            ("+7", 7),
            ("0x1F", 31),
            ("0Xff", 255),
            ("-0x10", -16),
            ("010", 8),
            ("00", 0),
            ("2147483647", i32::MAX),
            ("-2147483648", i32::MIN),
        ] {
            assert_eq!(integer(word), Ok(n), "{word}");
        }
        for word in ["", "-", "+", "x", "1x", "0x", "09", "1 ", "--1", "+-1", "1.5", "٣"] {
            assert_eq!(integer(word), Err(ErrorKind::NotANumber), "{word}");
        }
        for word in ["2147483648", "-2147483649", "0xffffffffffffffffffff"] {
            assert_eq!(integer(word), Err(ErrorKind::TooWide), "{word}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("1s", Some(1)),
            ("2h", Some(7200)),
            ("3d", Some(259_200)),
            ("1w", Some(604_800)),
            ("2m", Some(5_184_000)),
            ("1y", Some(31_536_000)),
            ("99999999999999999999y", Some(u32::MAX)),
            ("0d", None),
            ("-1d", None),
            ("d", None),
            ("", None),
            ("1", None),
            ("1D", None),
            ("1é", None),
            ("1 d", None),
        ] {
            assert_eq!(duration(text), seconds, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_leniently() {
        for (word, n) in [("0", 0), ("1000x", 1000), ("x", 0), ("+5", 5), ("8589934592", 8_589_934_592)] {
            assert_eq!(lenient_size(word), Ok(n), "{word}");
        }
        assert_eq!(lenient_size("-1"), Err(ErrorKind::Invalid("-1".into())));
        assert_eq!(lenient_size("99999999999999999999"), Err(ErrorKind::TooWide));
    }
}
