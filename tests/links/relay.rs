//! A bad line between two namespaces: every frame comes late, and some never.
//!
//! The kernels of CI machines have no netem, so the line is a thread between two TAP devices. The same seed loses the same
//! frames of the same sequence.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::namespace::Namespace;
use crate::rng::Rng;

/// Frames that a direction holds at most; what comes beyond is lost, as in a router.
const LONGEST_QUEUE: usize = 10_000;

/// What the line does to a frame, from now on.
#[derive(Default)]
struct Knobs {
    delay_ms: AtomicU32,
    /// Frames lost of a thousand.
    loss: AtomicU32,
    /// Nothing gets through.
    dead: AtomicBool,
    stop: AtomicBool,
    passed: AtomicU64,
    lost: AtomicU64,
}

/// The line; it ends when dropped.
pub(crate) struct Relay {
    knobs: Arc<Knobs>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Joins the namespaces, which get these addresses, by a line without delay and loss.
    pub(crate) fn join(left: (&Namespace, &str), right: (&Namespace, &str), seed: u64) -> io::Result<Relay> {
        let ends = [left.0.tap(left.1)?, right.0.tap(right.1)?];
        let poll = Poll::new()?;
        for (n, end) in ends.iter().enumerate() {
            poll.registry().register(&mut SourceFd(&end.as_raw_fd()), Token(n), Interest::READABLE)?;
        }
        let waker = Waker::new(poll.registry(), Token(ends.len()))?;
        let knobs = Arc::new(Knobs::default());
        let shared = Arc::clone(&knobs);
        let thread = thread::spawn(move || Line { ends, poll, rng: Rng::new(seed), knobs: shared }.run());
        Ok(Relay { knobs, waker, thread: Some(thread) })
    }

    /// From now on every frame takes `delay_ms` in each direction, and `loss` of a thousand do not arrive.
    pub(crate) fn set(&self, delay_ms: u32, loss: u32) {
        self.knobs.delay_ms.store(delay_ms, Ordering::Relaxed);
        self.knobs.loss.store(loss, Ordering::Relaxed);
    }

    /// Nothing gets through while `dead`.
    pub(crate) fn set_dead(&self, dead: bool) {
        self.knobs.dead.store(dead, Ordering::Relaxed);
    }

    /// Frames that got through and frames that did not.
    pub(crate) fn frames(&self) -> (u64, u64) {
        (self.knobs.passed.load(Ordering::Relaxed), self.knobs.lost.load(Ordering::Relaxed))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.knobs.stop.store(true, Ordering::Relaxed);
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Line {
    ends: [File; 2],
    poll: Poll,
    rng: Rng,
    knobs: Arc<Knobs>,
}

impl Line {
    fn run(mut self) {
        let mut under_way: [VecDeque<(Instant, Vec<u8>)>; 2] = Default::default();
        let mut events = Events::with_capacity(4);
        let mut buffer = vec![0; 65_536];
        while !self.knobs.stop.load(Ordering::Relaxed) {
            let next = under_way.iter().filter_map(|queue| queue.front()).map(|(due, _)| *due).min();
            let timeout = next.map(|due| due.saturating_duration_since(Instant::now()));
            // Whole milliseconds, rounded up, else it would spin before a frame is due.
            let timeout = timeout.map(|left| left + Duration::from_micros(999));
            if self.poll.poll(&mut events, timeout).is_err_and(|e| e.kind() != io::ErrorKind::Interrupted) {
                return;
            }
            for (from, queue) in under_way.iter_mut().enumerate() {
                while let Ok(length) = self.ends[from].read(&mut buffer) {
                    self.take(&buffer[..length], queue);
                }
            }
            let now = Instant::now();
            for (from, queue) in under_way.iter_mut().enumerate() {
                while queue.front().is_some_and(|(due, _)| *due <= now) {
                    let (_, frame) = queue.pop_front().expect("a first one");
                    // A device that takes no more loses the frame, as it would from a wire.
                    let _ = self.ends[1 - from].write(&frame);
                }
            }
        }
    }

    /// A frame enters the line, or is lost.
    fn take(&mut self, frame: &[u8], queue: &mut VecDeque<(Instant, Vec<u8>)>) {
        // Losing an address look-up of the Ethernet would stop everything for a second, which no real line does.
        let arp = frame.get(12..14) == Some(&[0x08, 0x06]);
        let unlucky = !arp && self.rng.below(1000) < u64::from(self.knobs.loss.load(Ordering::Relaxed));
        if unlucky || self.knobs.dead.load(Ordering::Relaxed) || queue.len() >= LONGEST_QUEUE {
            self.knobs.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.knobs.passed.fetch_add(1, Ordering::Relaxed);
        let delay = Duration::from_millis(self.knobs.delay_ms.load(Ordering::Relaxed).into());
        queue.push_back((Instant::now() + delay, frame.to_vec()));
    }
}
