//! Telling systemd that the broker is ready, alive, reloading or stopping: datagrams to the socket named in
//! `NOTIFY_SOCKET`. C Mosquitto 2.1 knows only the first two.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use super::clock;

/// A service manager that wants to hear from us.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog_ms: Option<u64>,
}

impl Notifier {
    /// The manager named by `NOTIFY_SOCKET` and `WATCHDOG_USEC`; `None` when there is none.
    ///
    /// # Errors
    /// The name is not one of a socket, or no socket is to be had.
    pub fn from_environment() -> io::Result<Option<Notifier>> {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(None) };
        let watchdog = std::env::var("WATCHDOG_USEC").ok();
        Notifier::new(&name, watchdog.as_deref()).map(Some)
    }

    fn new(name: &OsStr, watchdog_usec: Option<&str>) -> io::Result<Notifier> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(Duration::from_secs(1)))?;
        Ok(Notifier { socket, address: address(name)?, watchdog_ms: watchdog_usec.and_then(period_ms) })
    }

    /// Says that listeners are open and bridges started, or that a reload is done. The first time it waits up to a second
    /// for a busy manager.
    ///
    /// # Errors
    /// What the system says; the manager will think that the start failed.
    pub fn ready(&self) -> io::Result<()> {
        self.socket.send_to_addr(b"READY=1", &self.address)?;
        // From here on the loop runs, which never waits.
        self.socket.set_nonblocking(true)
    }

    /// Says that the configuration is read again; [`Notifier::ready`] has to follow. Without it a unit of
    /// `Type=notify-reload` would wait in vain.
    pub fn reloading(&self) {
        let message = format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_us());
        let _ = self.socket.send_to_addr(message.as_bytes(), &self.address);
    }

    /// Says that the broker ends.
    pub fn stopping(&self) {
        let _ = self.socket.send_to_addr(b"STOPPING=1", &self.address);
    }

    /// Says that the loop is alive. A lost message does no harm: the next one comes before the watchdog bites.
    pub fn watchdog(&self) {
        let _ = self.socket.send_to_addr(b"WATCHDOG=1", &self.address);
    }

    /// How often to call [`Notifier::watchdog`], in milliseconds: half of what the manager allows. `None` when it has
    /// no watchdog for us.
    #[must_use]
    pub fn watchdog_ms(&self) -> Option<u64> {
        self.watchdog_ms
    }
}

/// A path, or a name in the abstract namespace behind `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name)
        }
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Half of `WATCHDOG_USEC`, rounded down to whole seconds when it is at least one.
fn period_ms(watchdog_usec: &str) -> Option<u64> {
    let half = watchdog_usec.parse::<u64>().ok()? / 2000;
    match half {
        0 => None,
        1..1000 => Some(half),
        _ => Some(half / 1000 * 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_period_is_half_in_whole_seconds() {
        let cases = [
            ("180000000", Some(90_000)),
            ("5000000", Some(2000)),
            ("1000000", Some(500)),
            ("0", None),
            ("", None),
            ("soon", None),
            ("-1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(period_ms(text), expected, "{text:?}");
        }
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    #[test]
    fn messages_reach_a_path_and_an_abstract_name() {
        let path = std::env::temp_dir().join(format!("mosquitto-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let abstract_name = format!("@mosquitto-notify-{}", std::process::id());
        for name in [path.as_os_str(), OsStr::new(&abstract_name)] {
            let manager = UnixDatagram::bind_addr(&address(name).unwrap()).unwrap();
            let notifier = Notifier::new(name, Some("4000000")).unwrap();
            notifier.ready().unwrap();
            notifier.watchdog();
            notifier.reloading();
            notifier.ready().unwrap();
            notifier.stopping();
            assert_eq!(received(&manager), "READY=1");
            assert_eq!(received(&manager), "WATCHDOG=1");
            let reloading = received(&manager);
            let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse::<u64>().unwrap();
            assert!(since > 0 && since <= clock::monotonic_us());
            assert_eq!(received(&manager), "READY=1");
            assert_eq!(received(&manager), "STOPPING=1");
            assert_eq!(notifier.watchdog_ms(), Some(2000));
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn other_names_are_refused() {
        assert!(Notifier::new(OsStr::new("relative/path"), None).is_err());
        assert!(Notifier::new(OsStr::new("vsock:2:1234"), None).is_err());
    }
}
