//! Network namespaces for one test: loopback addresses, ports and names of its own, and TAP devices to join two of them.
//!
//! They have no name, so nothing is left behind when the test ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::thread;

use crate::broker::note;

/// A network namespace, which ends with the last process and descriptor in it.
pub(crate) struct Namespace {
    handle: OwnedFd,
}

impl Namespace {
    /// A new one whose loopback device is up. Says why a test is skipped when there can be none.
    pub(crate) fn new(test: &str) -> Option<Namespace> {
        match Namespace::try_new() {
            Ok(namespace) => Some(namespace),
            Err(e) => {
                note(&format!("{test} skipped: no network namespace ({e})"));
                None
            }
        }
    }

    /// As [`Namespace::new`], for those who can do without.
    pub(crate) fn quietly() -> Option<Namespace> {
        Namespace::try_new().ok()
    }

    fn try_new() -> io::Result<Namespace> {
        // A thread has a namespace of its own; what it starts inherits it.
        let made = thread::spawn(|| {
            enter_new()?;
            ip(&["link", "set", "lo", "up"])?;
            // Some programs look up no IPv4 addresses on a machine that has none beside 127.0.0.1.
            ip(&["addr", "add", "10.53.0.1/32", "dev", "lo"])?;
            Ok(Namespace { handle: File::open("/proc/thread-self/ns/net")?.into() })
        });
        made.join().unwrap_or_else(|_| Err(io::Error::other("a panic")))
    }

    /// Runs `work` on a thread inside; sockets, threads and processes it makes are inside too. A panic goes on outside.
    pub(crate) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        // Named as the test, so that a panic names it.
        let name = thread::current().name().unwrap_or("inside").to_owned();
        thread::scope(|scope| {
            let inside = thread::Builder::new().name(name).spawn_scoped(scope, || {
                enter(&self.handle).expect("a namespace that exists");
                work()
            });
            match inside.expect("a thread").join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A TAP device inside with this address (`10.1.2.3/24`), up; frames are read from and written to the file.
    pub(crate) fn tap(&self, address: &str) -> io::Result<File> {
        self.run(|| {
            let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
            attach(&file, "tap0")?;
            ip(&["addr", "add", address, "dev", "tap0"])?;
            ip(&["link", "set", "tap0", "up"])?;
            Ok(file)
        })
    }
}

/// Runs `ip` in the namespace of this thread.
pub(crate) fn ip(args: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(args).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())))
}

#[allow(unsafe_code)]
fn enter_new() -> io::Result<()> {
    // SAFETY: no pointers; it concerns the calling thread alone.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

#[allow(unsafe_code)]
fn enter(handle: &OwnedFd) -> io::Result<()> {
    // SAFETY: an open descriptor; it concerns the calling thread alone.
    check(unsafe { libc::setns(handle.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Makes `file`, an open `/dev/net/tun`, the other end of a new TAP device in the namespace of this thread.
#[allow(unsafe_code)]
fn attach(file: &File, name: &str) -> io::Result<()> {
    // SAFETY: plain numbers and bytes, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI;
    request.ifr_ifru.ifru_flags = flags.try_into().expect("small flags");
    // SAFETY: the request outlives the call and is what TUNSETIFF reads and writes.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
