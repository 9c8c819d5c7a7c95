//! A client of version 3.1.1 that keeps its session and comes back whenever it is sent away.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{connect_with, string};

/// Where a broker is; it may move while clients use it.
#[derive(Clone)]
pub(crate) struct Place(Arc<Mutex<SocketAddr>>);

impl Place {
    pub(crate) fn new(addr: SocketAddr) -> Place {
        Place(Arc::new(Mutex::new(addr)))
    }

    pub(crate) fn set(&self, addr: SocketAddr) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addr;
    }

    pub(crate) fn get(&self) -> SocketAddr {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Session::next`] found.
pub(crate) enum Next {
    /// A whole packet.
    Packet(Vec<u8>),
    /// The session was connected, for the first time or again.
    Connected,
    /// Nothing until the time given.
    Nothing,
}

/// The session. Everything in it happens in the calls of its owner.
pub(crate) struct Session {
    place: Place,
    id: String,
    stream: Option<TcpStream>,
    bytes: Vec<u8>,
}

impl Session {
    pub(crate) fn new(place: &Place, id: &str) -> Session {
        Session { place: place.clone(), id: id.to_owned(), stream: None, bytes: Vec::new() }
    }

    /// Writes the bytes; what cannot be sent is noticed by [`Session::next`].
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if let Some(stream) = &mut self.stream
            && stream.write_all(bytes).is_err()
        {
            self.stream = None;
        }
    }

    /// Waits until `until` for the next thing to happen. What came with the same read is returned even later.
    pub(crate) fn next(&mut self, until: Instant) -> Next {
        loop {
            if let Some(length) = whole(&self.bytes) {
                return Next::Packet(self.bytes.drain(..length).collect());
            }
            let Some(stream) = &mut self.stream else {
                if self.connect(until) {
                    return Next::Connected;
                }
                return Next::Nothing;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Nothing;
            }
            stream.set_read_timeout(Some(left.max(Duration::from_micros(100)))).expect("a time limit");
            let mut buffer = [0; 16 * 1024];
            match stream.read(&mut buffer) {
                Ok(n) if n > 0 => self.bytes.extend(&buffer[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                _ => self.stream = None,
            }
        }
    }

    fn connect(&mut self, until: Instant) -> bool {
        self.bytes.clear();
        while Instant::now() < until {
            if let Ok(mut stream) = TcpStream::connect_timeout(&self.place.get(), Duration::from_secs(1)) {
                let mut answer = [0; 4];
                let ready = stream.set_nodelay(true).is_ok()
                    && stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
                    && stream.set_write_timeout(Some(Duration::from_secs(5))).is_ok()
                    && stream.write_all(&connect_with(4, 0, 0, &[], &[&string(&self.id)])).is_ok()
                    && stream.read_exact(&mut answer).is_ok();
                if ready && answer[0] == 0x20 && answer[3] == 0 {
                    self.stream = Some(stream);
                    return true;
                }
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        false
    }
}

/// The length of the first packet, when it is there as a whole.
fn whole(bytes: &[u8]) -> Option<usize> {
    let (mut length, mut shift) = (0, 0);
    for (at, byte) in bytes.iter().enumerate().skip(1).take(4) {
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            let total = at + 1 + length;
            return (bytes.len() >= total).then_some(total);
        }
    }
    None
}
