//! Signals as a readable descriptor. The handler sets a bit and writes one byte to a socket pair; the loop watches
//! the other end and asks [`Signals::take`] what came.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

const TERMINATE: u8 = 1;
const RELOAD: u8 = 2;
const SAVE: u8 = 4;
const PRINT_TREE: u8 = 8;
const ROTATE_LOG: u8 = 16;

/// Signals that came since the last [`Signals::take`].
static PENDING: AtomicU8 = AtomicU8::new(0);
/// Write end of the socket pair, -1 until installed. Never closed, because a handler may use it at any time.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// The installed handlers; registered with the poll by its descriptor.
#[derive(Debug)]
pub struct Signals {
    reader: UnixStream,
}

/// A set of signals, possibly empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalSet(u8);

impl SignalSet {
    /// SIGINT or SIGTERM: stop.
    #[must_use]
    pub fn terminate(self) -> bool {
        self.0 & TERMINATE != 0
    }

    /// SIGHUP: read the configuration again.
    #[must_use]
    pub fn reload(self) -> bool {
        self.0 & RELOAD != 0
    }

    /// SIGUSR1: save the database.
    #[must_use]
    pub fn save(self) -> bool {
        self.0 & SAVE != 0
    }

    /// SIGUSR2: print the subscription tree.
    #[must_use]
    pub fn print_tree(self) -> bool {
        self.0 & PRINT_TREE != 0
    }

    /// SIGRTMIN: close and reopen the log.
    #[must_use]
    pub fn rotate_log(self) -> bool {
        self.0 & ROTATE_LOG != 0
    }
}

impl Signals {
    /// Installs the handlers for the rest of the process's life, and ignores SIGPIPE. Works once per process, and early:
    /// a signal during the start waits for the loop, where C Mosquitto would end. SIGINT and SIGTERM end the process as
    /// usual until [`handle_termination`].
    ///
    /// # Errors
    /// `AlreadyExists` the second time; else what the system says.
    pub fn install() -> io::Result<Signals> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        if WAKE.compare_exchange(-1, writer.as_raw_fd(), Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let _kept_open = writer.into_raw_fd();
        let handler: extern "C" fn(libc::c_int) = on_signal;
        for signal in [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGRTMIN()] {
            set_action(signal, handler as libc::sighandler_t)?;
        }
        set_action(libc::SIGPIPE, libc::SIG_IGN)?;
        // A shell that starts us in the background may have had SIGINT ignored.
        for signal in [libc::SIGINT, libc::SIGTERM] {
            set_action(signal, libc::SIG_DFL)?;
        }
        Ok(Signals { reader })
    }

    /// What came since the last call; empties the descriptor, so that an edge-triggered poll reports the next signal.
    #[must_use]
    pub fn take(&self) -> SignalSet {
        // First the bytes, then the bits: a signal between the two costs one idle wake-up and is never lost.
        let mut bytes = [0; 64];
        while matches!((&self.reader).read(&mut bytes), Ok(1..)) {}
        SignalSet(PENDING.swap(0, Ordering::AcqRel))
    }
}

/// From now on SIGINT and SIGTERM wait for the loop too. To be called when the loop is about to run: a start that hangs,
/// on a name server for example, can be ended before.
///
/// # Errors
/// What the system says.
pub fn handle_termination() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = on_signal;
    [libc::SIGINT, libc::SIGTERM].into_iter().try_for_each(|signal| set_action(signal, handler as libc::sighandler_t))
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

fn set_action(signal: libc::c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: a zeroed sigaction is a valid one, and `handler` is SIG_IGN, SIG_DFL or a function of the right signature that
    // only does what is allowed in a handler.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Async-signal-safe: atomics, `write` and nothing else; errno is left as it was.
extern "C" fn on_signal(signal: libc::c_int) {
    let bit = match signal {
        libc::SIGINT | libc::SIGTERM => TERMINATE,
        libc::SIGHUP => RELOAD,
        libc::SIGUSR1 => SAVE,
        libc::SIGUSR2 => PRINT_TREE,
        _ => ROTATE_LOG,
    };
    PENDING.fetch_or(bit, Ordering::AcqRel);
    // SAFETY: errno's address is valid for this thread; the descriptor is never closed. A full socket already wakes
    // the loop, so the result does not matter.
    unsafe {
        let errno = errno_location();
        let before = *errno;
        libc::write(WAKE.load(Ordering::Acquire), [1u8].as_ptr().cast(), 1);
        *errno = before;
    }
}

/// The address of this thread's errno.
unsafe fn errno_location() -> *mut libc::c_int {
    // SAFETY: has no preconditions.
    unsafe {
        #[cfg(any(target_os = "linux", target_os = "emscripten"))]
        return libc::__errno_location();
        #[cfg(any(target_os = "macos", target_os = "freebsd"))]
        return libc::__error();
        #[cfg(any(target_os = "netbsd", target_os = "openbsd", target_os = "android"))]
        return libc::__errno();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raise(signal: libc::c_int) {
        // SAFETY: sends a signal, whose handler is installed, to this thread; it has run when the call returns.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
    }

    #[test]
    fn signals_are_collected_wake_the_reader_and_are_taken_once() {
        let signals = Signals::install().unwrap();
        assert_eq!(Signals::install().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        handle_termination().unwrap();
        assert_eq!(signals.take(), SignalSet(0));
        type Asked = fn(SignalSet) -> bool;
        let cases: [(libc::c_int, Asked); 6] = [
            (libc::SIGINT, SignalSet::terminate),
            (libc::SIGTERM, SignalSet::terminate),
            (libc::SIGHUP, SignalSet::reload),
            (libc::SIGUSR1, SignalSet::save),
            (libc::SIGUSR2, SignalSet::print_tree),
            (libc::SIGRTMIN(), SignalSet::rotate_log),
        ];
        for (signal, asked) in cases {
            raise(signal);
            let mut byte = [0; 1];
            assert_eq!((&signals.reader).read(&mut byte).unwrap(), 1, "the descriptor is readable");
            let set = signals.take();
            assert!(asked(set), "signal {signal} gave {set:?}");
            assert_eq!(set.0.count_ones(), 1);
            assert_eq!(signals.take(), SignalSet(0));
        }
        for _ in 0..100_000 {
            raise(libc::SIGUSR1);
        }
        raise(libc::SIGHUP);
        assert_eq!(signals.take(), SignalSet(SAVE | RELOAD));
        assert_eq!((&signals.reader).read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        raise(libc::SIGPIPE);
    }
}
