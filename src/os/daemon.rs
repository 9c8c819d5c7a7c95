//! Going to the background `[-d]`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Leaves a child in a new session whose standard streams are `/dev/null`; the parent exits with status 0 and never
/// returns. The working directory and the umask stay. Must be called while the process has one thread.
///
/// # Errors
/// What the system says about the fork, the session or `/dev/null`.
pub fn daemonise() -> io::Result<()> {
    // SAFETY: the caller has one thread, so the child may go on with everything.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        // SAFETY: ends the process without running anything of ours twice.
        _ => unsafe { libc::_exit(0) },
    }
    // SAFETY: has no preconditions.
    if unsafe { libc::setsid() } == -1 {
        return Err(io::Error::last_os_error());
    }
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for stream in 0..=2 {
        // SAFETY: both descriptors are open or may be, and std's handles of the standard streams stay valid.
        if unsafe { libc::dup2(null.as_raw_fd(), stream) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    if null.as_raw_fd() <= 2 {
        // A standard stream was closed and /dev/null took its place: it has to stay open.
        std::mem::forget(null);
    }
    Ok(())
}
