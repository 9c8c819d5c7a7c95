//! Waits until one of a few descriptors can be read: for the command-line tools, which have no event loop.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Waits until one of the descriptors can be read or is at its end, or for so long; for ever without a limit. Bit n of the
/// answer stands for descriptor n; 0 when the time is up or a signal came. At most 32 descriptors.
///
/// # Errors
/// What `poll` says.
pub fn wait(fds: &[BorrowedFd<'_>], limit_ms: Option<u64>) -> io::Result<u32> {
    let mut polled: Vec<libc::pollfd> =
        fds.iter().take(32).map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }).collect();
    let limit = limit_ms.map_or(-1, |ms| libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX));
    let len = libc::nfds_t::try_from(polled.len()).unwrap_or(0);
    // SAFETY: `polled` holds `len` valid entries for the duration of the call.
    if unsafe { libc::poll(polled.as_mut_ptr(), len, limit) } < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) };
    }
    Ok(polled.iter().enumerate().fold(0, |bits, (n, entry)| bits | u32::from(entry.revents != 0) << n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn tells_which() {
        let pairs = [(); 2].map(|()| UnixStream::pair().unwrap());
        let fds = [pairs[0].0.as_fd(), pairs[1].0.as_fd()];
        assert_eq!(wait(&fds, Some(0)).unwrap(), 0);
        (&pairs[1].1).write_all(b"x").unwrap();
        assert_eq!(wait(&fds, None).unwrap(), 2);
        pairs[0].1.shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(wait(&fds, None).unwrap(), 3);
    }
}
