//! The clocks. Nobody else reads one: the loop samples [`now`] once per wake-up and hands it on.

use crate::timer::Now;

/// Added to the monotonic clock, which may start at 0 with the machine or the container: about 50 days, so that
/// "deadline minus interval" never falls below 0.
const MONO_OFFSET_MS: u64 = 1 << 32;

/// Both clocks.
#[must_use]
pub fn now() -> Now {
    Now { mono_ms: mono_ms(), wall_s: wall_s() }
}

/// Milliseconds of the monotonic clock. It goes on while the machine sleeps where the system has such a clock, so that a
/// keepalive that ran out during the sleep is noticed.
#[must_use]
pub fn mono_ms() -> u64 {
    #[cfg(target_os = "linux")]
    let mono = read(libc::CLOCK_BOOTTIME).or_else(|| read(libc::CLOCK_MONOTONIC));
    #[cfg(not(target_os = "linux"))]
    let mono = read(libc::CLOCK_MONOTONIC);
    let mono_ms = mono.map_or(0, |(seconds, nanoseconds)| seconds.saturating_mul(1000) + nanoseconds / 1_000_000);
    mono_ms.saturating_add(MONO_OFFSET_MS)
}

/// Seconds since 1970; 0 for a clock set before that.
#[must_use]
pub fn wall_s() -> u64 {
    read(libc::CLOCK_REALTIME).map_or(0, |(seconds, _)| seconds)
}

/// Microseconds of the clock that the service manager measures reloads with; 0 when there is none.
#[must_use]
pub fn monotonic_us() -> u64 {
    read(libc::CLOCK_MONOTONIC)
        .map_or(0, |(seconds, nanoseconds)| seconds.saturating_mul(1_000_000) + nanoseconds / 1000)
}

/// Seconds and nanoseconds of one clock, `None` when it is missing or stands before its epoch.
fn read(clock: libc::clockid_t) -> Option<(u64, u64)> {
    // SAFETY: a zeroed timespec is a valid one; some systems have fields of padding that cannot be named.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is a valid timespec for the duration of the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return None;
    }
    Some((u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_nsec).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_starts_well_above_zero_and_never_goes_back() {
        let first = now();
        let second = now();
        assert!(first.mono_ms > MONO_OFFSET_MS);
        assert!(second.mono_ms >= first.mono_ms);
    }

    #[test]
    fn the_wall_clock_is_after_2020() {
        assert!(wall_s() > 1_577_836_800);
        assert!(now().wall_s >= 1_577_836_800);
    }

    #[test]
    fn a_missing_clock_is_not_an_error() {
        assert_eq!(read(9999), None);
    }
}
