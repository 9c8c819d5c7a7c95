//! `strftime` in local time, which std does not have.

use std::ffi::CStr;
use std::mem::MaybeUninit;

/// More than any log line can hold; a format that needs more counts as giving nothing.
const MAX: usize = 1024;

unsafe extern "C" {
    fn tzset();
}

/// Reads the time zone again, from `TZ` or the system's file: a broker runs for years.
pub fn read_zone() {
    // SAFETY: takes nothing; the environment is not changed while the process runs.
    unsafe { tzset() };
}

/// Appends `wall_s` (seconds since 1970) in the local time zone to `out`, formatted as `[conf: log_timestamp_format]`
/// says, or `Time error` when that gives nothing. Allocates only while `out` has not grown to its working size.
pub fn append(out: &mut Vec<u8>, format: &CStr, wall_s: u64) {
    if append_or_nothing(out, format, wall_s).is_none() {
        out.extend_from_slice(b"Time error");
    }
}

fn append_or_nothing(out: &mut Vec<u8>, format: &CStr, wall_s: u64) -> Option<()> {
    let seconds = libc::time_t::try_from(wall_s).ok()?;
    let mut local = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are valid for the call, which fills `local` unless it returns null.
    if unsafe { libc::localtime_r(&raw const seconds, local.as_mut_ptr()) }.is_null() {
        return None;
    }
    let mut size = 64;
    loop {
        out.reserve(size);
        let spare = out.spare_capacity_mut();
        let capacity = spare.len().min(MAX);
        // SAFETY: `local` was filled above, `format` ends with NUL, and `spare` has room for `capacity` bytes.
        let written = unsafe { libc::strftime(spare.as_mut_ptr().cast(), capacity, format.as_ptr(), local.as_ptr()) };
        if written > 0 {
            // SAFETY: strftime initialised `written` bytes of the spare capacity.
            unsafe { out.set_len(out.len() + written) };
            return Some(());
        }
        if capacity == MAX {
            return None;
        }
        size = (capacity * 2).min(MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(format: &CStr, wall_s: u64) -> String {
        let mut out = b"<".to_vec();
        append(&mut out, format, wall_s);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_format_is_filled_in() {
        // The middle of a year is the same year in every time zone.
        assert_eq!(formatted(c"%Y and %%", 1_718_000_000), "<2024 and %");
    }

    #[test]
    fn the_buffer_grows_for_long_formats() {
        let format = std::ffi::CString::new("%Y-".repeat(100)).unwrap();
        assert_eq!(formatted(&format, 1_718_000_000), format!("<{}", "2024-".repeat(100)));
    }

    #[test]
    fn nothing_is_a_time_error() {
        assert_eq!(formatted(c"", 1_718_000_000), "<Time error");
        let endless = std::ffi::CString::new("x".repeat(2000)).unwrap();
        assert_eq!(formatted(&endless, 1_718_000_000), "<Time error");
        assert_eq!(formatted(c"%Y", u64::MAX), "<Time error");
    }
}
