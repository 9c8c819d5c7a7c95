//! The file mode mask from the environment variable `UMASK_SET`.

use std::fmt;

/// Why the text of `UMASK_SET` cannot be used. `Display` is the line to log; the exit status is 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UmaskError {
    /// Not octal digits.
    NotOctal,
    /// Not within 000 to 0777.
    OutOfRange,
}

impl fmt::Display for UmaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UmaskError::NotOctal => "Error: UMASK_SET environment variable not a valid octal number.",
            UmaskError::OutOfRange => "Error: UMASK_SET environment variable out of range.",
        })
    }
}

/// Sets the mask of this process when `UMASK_SET` is in its environment.
///
/// # Errors
/// See [`UmaskError`].
pub fn set_from_environment() -> Result<(), UmaskError> {
    if let Some(text) = std::env::var_os("UMASK_SET") {
        let mask = parse(text.to_str().unwrap_or_default())?;
        // SAFETY: takes a number.
        unsafe { libc::umask(mask) };
    }
    Ok(())
}

/// Runs `act` with another mask. Files that other threads make meanwhile get it too.
pub fn with<R>(mask: u32, act: impl FnOnce() -> R) -> R {
    // SAFETY: takes a number.
    let before = unsafe { libc::umask(mask) };
    let result = act();
    // SAFETY: takes a number.
    unsafe { libc::umask(before) };
    result
}

fn parse(text: &str) -> Result<libc::mode_t, UmaskError> {
    let digits = text.trim_start().trim_start_matches(['-', '+']);
    if digits.is_empty() || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
        return Err(UmaskError::NotOctal);
    }
    match i64::from_str_radix(text.trim_start(), 8) {
        Ok(mask @ 0..=0o777) => libc::mode_t::try_from(mask).map_err(|_| UmaskError::OutOfRange),
        _ => Err(UmaskError::OutOfRange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_octal_and_at_most_0777() {
        let cases = [
            ("022", Ok(0o22)),
            ("0", Ok(0)),
            ("0777", Ok(0o777)),
            ("777", Ok(0o777)),
            ("1000", Err(UmaskError::OutOfRange)),
            ("-1", Err(UmaskError::OutOfRange)),
            ("7777777777777777777777777", Err(UmaskError::OutOfRange)),
            ("", Err(UmaskError::NotOctal)),
            ("-", Err(UmaskError::NotOctal)),
            ("089", Err(UmaskError::NotOctal)),
            ("0o22", Err(UmaskError::NotOctal)),
            ("22 ", Err(UmaskError::NotOctal)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
