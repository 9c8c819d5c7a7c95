//! The system log.

use std::ffi::CStr;

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// `err`.
    Error,
    /// `warning`.
    Warning,
    /// `notice`.
    Notice,
    /// `info`.
    Information,
    /// `debug`.
    Debug,
}

/// Opens the log as `mosquitto` with the process id. `facility` is 0 to 7 for local0 to local7, `None` for daemon
/// `[conf: log_facility]`.
pub fn open(facility: Option<u8>) {
    let facility = match facility {
        Some(0) => libc::LOG_LOCAL0,
        Some(1) => libc::LOG_LOCAL1,
        Some(2) => libc::LOG_LOCAL2,
        Some(3) => libc::LOG_LOCAL3,
        Some(4) => libc::LOG_LOCAL4,
        Some(5) => libc::LOG_LOCAL5,
        Some(6) => libc::LOG_LOCAL6,
        Some(7) => libc::LOG_LOCAL7,
        _ => libc::LOG_DAEMON,
    };
    // SAFETY: the name is static, as the call demands.
    unsafe { libc::openlog(c"mosquitto".as_ptr(), libc::LOG_PID, facility) };
}

/// Writes one line.
pub fn write(priority: Priority, line: &CStr) {
    let priority = match priority {
        Priority::Error => libc::LOG_ERR,
        Priority::Warning => libc::LOG_WARNING,
        Priority::Notice => libc::LOG_NOTICE,
        Priority::Information => libc::LOG_INFO,
        Priority::Debug => libc::LOG_DEBUG,
    };
    // SAFETY: the format takes exactly one string, and both end with NUL.
    unsafe { libc::syslog(priority, c"%s".as_ptr(), line.as_ptr()) };
}

/// Closes the log.
pub fn close() {
    // SAFETY: has no preconditions.
    unsafe { libc::closelog() };
}
