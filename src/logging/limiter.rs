//! Bounds what a stranger can make the broker log `[conf: log_rate_limit]`.
//!
//! Every place in the source that logs has a bucket of bytes: full, it holds 2,000 usual lines, enough for the restart of
//! a broker with a thousand clients, and it fills with the configured rate. A place whose bucket is empty is silent. What
//! it would have said is counted, and charged too, so that one who goes on flooding gets nothing more than one summary a
//! minute, and an end of the flood is noticed within a minute. Two larger buckets hold the total down, however many
//! places are noisy: one for errors and warnings, which must not drown in connection lines, one for the rest.
//!
//! Knows neither clocks nor destinations. Its table is bounded: places beyond it share one bucket.

use super::sink::cut;
use crate::config::LogTypes;

/// A usual line in bytes: the rate is given in lines of this size.
const LINE: i64 = 128;
/// What a full bucket of one place holds, in bytes.
const BURST: i64 = 2000 * LINE;
/// How many places at once a bucket of totals has room for.
const NOISY_PLACES: i64 = 4;
/// How far behind a flood can leave a bucket, in seconds of its rate.
const DEBT_S: i64 = 60;
/// The most places that are told apart.
const MAX_PLACES: usize = 64;
/// The most bytes of an example.
const MAX_EXAMPLE: usize = 160;
/// A flood is first summed up after this long.
const FIRST_SUMMARY_MS: u64 = 5_000;
/// The least time between two summaries of one place.
const SUMMARY_MS: u64 = 60_000;

/// A place in the source that logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: &'static str,
    pub(super) line: u32,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write it, and [`Limiter::charge`] its length.
    Write,
    /// Leave it; it is counted.
    Count,
    /// Leave it, but give its text to [`Limiter::keep_example`].
    CountWithExample,
}

/// What was left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) kind: LogTypes,
    pub(super) lines: u64,
    pub(super) seconds: u64,
    /// The beginning of the first of them.
    pub(super) example: String,
}

/// Bytes that may be written, in thousandths, so that every millisecond counts.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: i64,
    filled_ms: u64,
}

impl Bucket {
    const fn full(burst: i64) -> Bucket {
        Bucket { level: burst * 1000, filled_ms: 0 }
    }

    /// `rate` is in bytes a second.
    fn fill(&mut self, rate: i64, burst: i64, now_ms: u64) {
        let passed = i64::try_from(now_ms.saturating_sub(self.filled_ms)).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(passed.saturating_mul(rate)).min(burst * 1000);
        self.filled_ms = now_ms;
    }

    fn take(&mut self, bytes: i64) {
        self.level = self.level.saturating_sub(bytes * 1000);
    }
}

#[derive(Debug)]
struct Entry {
    place: Place,
    kind: LogTypes,
    bucket: Bucket,
    /// Lines left out since `since_ms`.
    left_out: u64,
    since_ms: u64,
    /// When the next summary may come at the earliest.
    quiet_until_ms: u64,
    example: String,
}

impl Entry {
    fn due_ms(&self) -> Option<u64> {
        (self.left_out > 0).then(|| self.quiet_until_ms.max(self.since_ms + FIRST_SUMMARY_MS))
    }
}

/// The buckets.
#[derive(Debug)]
pub(super) struct Limiter {
    /// Bytes a second for each place; 0 lets everything through.
    rate: i64,
    entries: Vec<Entry>,
    grave: Bucket,
    rest: Bucket,
    /// The entry that the last verdict was about.
    last: usize,
}

impl Limiter {
    /// Lets everything through.
    pub(super) const fn new() -> Limiter {
        Limiter {
            rate: 0,
            entries: Vec::new(),
            grave: Bucket::full(NOISY_PLACES * BURST),
            rest: Bucket::full(NOISY_PLACES * BURST),
            last: 0,
        }
    }

    /// Sets the rate in usual lines a second for each place; 0 lets everything through.
    pub(super) fn set_rate(&mut self, lines: u32) {
        self.rate = i64::from(lines) * LINE;
    }

    /// Decides about one line, before it is formatted.
    pub(super) fn admit(&mut self, place: Place, kind: LogTypes, now_ms: u64) -> Verdict {
        if self.rate == 0 {
            return Verdict::Write;
        }
        self.last = self.find(place, kind, now_ms);
        let Some(entry) = self.entries.get_mut(self.last) else { return Verdict::Write };
        entry.bucket.fill(self.rate, BURST, now_ms);
        if entry.bucket.level <= 0 {
            entry.bucket.take(LINE);
            entry.bucket.level = entry.bucket.level.max(-DEBT_S * self.rate * 1000);
        } else {
            let total = if is_grave(kind) { &mut self.grave } else { &mut self.rest };
            total.fill(NOISY_PLACES * self.rate, NOISY_PLACES * BURST, now_ms);
            if total.level > 0 {
                return Verdict::Write;
            }
        }
        entry.left_out += 1;
        if entry.left_out > 1 {
            return Verdict::Count;
        }
        entry.since_ms = now_ms;
        Verdict::CountWithExample
    }

    /// Pays for the line that was just written.
    pub(super) fn charge(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX / 1000);
        if let (true, Some(entry)) = (self.rate > 0, self.entries.get_mut(self.last)) {
            entry.bucket.take(bytes);
            if is_grave(entry.kind) { &mut self.grave } else { &mut self.rest }.take(bytes);
        }
    }

    /// Keeps the beginning of the line that was just left out.
    pub(super) fn keep_example(&mut self, text: &str) {
        if let Some(entry) = self.entries.get_mut(self.last) {
            entry.example.clear();
            let start = cut(text, MAX_EXAMPLE);
            entry.example.push_str(start);
            if start.len() < text.len() {
                entry.example.push_str("...");
            }
        }
    }

    /// When the next summary is due, `None` while nothing is left out.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.entries.iter().filter_map(Entry::due_ms).min()
    }

    /// A summary that is due by `now_ms`, or any when `all`.
    pub(super) fn take_summary(&mut self, now_ms: u64, all: bool) -> Option<Summary> {
        let is_due = |entry: &&mut Entry| entry.due_ms().is_some_and(|due| all || due <= now_ms);
        let entry = self.entries.iter_mut().find(is_due)?;
        entry.quiet_until_ms = now_ms + SUMMARY_MS;
        Some(Summary {
            kind: entry.kind,
            lines: std::mem::take(&mut entry.left_out),
            seconds: now_ms.saturating_sub(entry.since_ms).div_ceil(1000).max(1),
            example: std::mem::take(&mut entry.example),
        })
    }

    fn find(&mut self, place: Place, kind: LogTypes, now_ms: u64) -> usize {
        // The line tells most places apart, so that few names are compared.
        let same = |entry: &Entry| entry.place.line == place.line && entry.place.file == place.file;
        match self.entries.iter().position(same) {
            Some(at) => at,
            None if self.entries.len() == MAX_PLACES => MAX_PLACES - 1,
            None => {
                self.entries.push(Entry {
                    place,
                    kind,
                    bucket: Bucket { filled_ms: now_ms, ..Bucket::full(BURST) },
                    left_out: 0,
                    since_ms: 0,
                    quiet_until_ms: 0,
                    example: String::new(),
                });
                self.entries.len() - 1
            }
        }
    }
}

fn is_grave(kind: LogTypes) -> bool {
    kind == LogTypes::ERROR || kind == LogTypes::WARNING
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: u64 = 1 << 32;

    fn limiter(lines: u32) -> Limiter {
        let mut limiter = Limiter::new();
        limiter.set_rate(lines);
        limiter
    }

    fn place(line: u32) -> Place {
        Place { file: "a.rs", line }
    }

    /// Logs `count` lines of `bytes` bytes; returns how many were written.
    fn log(limiter: &mut Limiter, line: u32, count: u32, bytes: usize, now_ms: u64) -> u32 {
        let mut written = 0;
        for _ in 0..count {
            match limiter.admit(place(line), LogTypes::NOTICE, now_ms) {
                Verdict::Write => {
                    limiter.charge(bytes);
                    written += 1;
                }
                Verdict::Count => {}
                Verdict::CountWithExample => limiter.keep_example(&format!("line {line}")),
            }
        }
        written
    }

    #[test]
    fn nothing_is_limited_at_rate_0() {
        assert_eq!(log(&mut limiter(0), 1, 100_000, 999, START_MS), 100_000);
        assert_eq!(limiter(0).due_ms(), None);
    }

    #[test]
    fn a_thousand_clients_may_come_back_at_once() {
        let mut limiter = limiter(50);
        for line in 1..=3 {
            assert_eq!(log(&mut limiter, line, 1000, 110, START_MS), 1000);
        }
        assert_eq!(limiter.due_ms(), None);
    }

    #[test]
    fn a_steady_rate_below_the_limit_is_written_for_ever() {
        let mut limiter = limiter(50);
        for second in 0..10_000 {
            assert_eq!(log(&mut limiter, 1, 50, 128, START_MS + second * 1000), 50);
        }
    }

    #[test]
    fn a_flood_is_written_once_and_then_silent_until_a_minute_after_its_end() {
        let mut limiter = limiter(50);
        let mut written = 0;
        for second in 0..3600 {
            written += log(&mut limiter, 1, 5000, 128, START_MS + second * 1000);
            while limiter.take_summary(START_MS + second * 1000, false).is_some() {}
        }
        assert_eq!(written, 2000, "an hour of flood");
        let end_ms = START_MS + 3_599_000;
        assert_eq!(log(&mut limiter, 1, 1, 128, end_ms + 59_000), 0);
        assert_eq!(log(&mut limiter, 1, 1, 128, end_ms + 62_000), 1);
        assert_eq!(log(&mut limiter, 2, 2000, 128, end_ms), 2000, "another place has its own bucket");
    }

    #[test]
    fn long_lines_cost_more() {
        assert_eq!(log(&mut limiter(50), 1, 5000, 999, START_MS), 2000 * 128 / 999 + 1);
    }

    #[test]
    fn the_total_is_bounded_and_errors_have_their_own() {
        let mut limiter = limiter(50);
        let written: u32 = (0..50).map(|line| log(&mut limiter, line, 2000, 128, START_MS)).sum();
        assert_eq!(written, 4 * 2000);
        assert_eq!(limiter.admit(place(99), LogTypes::ERROR, START_MS), Verdict::Write);
        assert_eq!(limiter.admit(place(98), LogTypes::NOTICE, START_MS), Verdict::CountWithExample);
        assert_eq!(limiter.admit(place(98), LogTypes::NOTICE, START_MS + 100), Verdict::Write, "no debt for others");
    }

    #[test]
    fn what_was_left_out_is_summed_up_soon_and_then_once_a_minute() {
        let mut limiter = limiter(50);
        log(&mut limiter, 7, 5000, 128, START_MS);
        assert_eq!(limiter.due_ms(), Some(START_MS + 5000));
        assert_eq!(limiter.take_summary(START_MS + 4999, false), None);
        let summary = limiter.take_summary(START_MS + 5001, false).unwrap();
        assert_eq!((summary.lines, summary.seconds, summary.example.as_str()), (3000, 6, "line 7"));
        assert_eq!(summary.kind, LogTypes::NOTICE);
        assert_eq!((limiter.take_summary(START_MS + 5001, true), limiter.due_ms()), (None, None));
        log(&mut limiter, 7, 1, 128, START_MS + 6000);
        assert_eq!(limiter.due_ms(), Some(START_MS + 65_001));
        assert_eq!(limiter.take_summary(START_MS + 7000, true).unwrap().lines, 1, "the end waits for nothing");
    }

    #[test]
    fn the_table_is_bounded_and_so_are_examples() {
        let mut limiter = limiter(1);
        for line in 0..10_000 {
            log(&mut limiter, line, 1, 1, START_MS);
        }
        assert_eq!(limiter.entries.len(), MAX_PLACES);
        log(&mut limiter, 1, 5000, 128, START_MS);
        log(&mut limiter, 2, 3000, 999, START_MS);
        limiter.keep_example(&"\u{20ac}".repeat(500));
        assert!(limiter.entries[2].example.len() <= MAX_EXAMPLE + 3);
    }
}
