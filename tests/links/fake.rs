//! A broker that misbehaves as told, and in the end serves as it should.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What it does with one connection.
pub(crate) enum Manner {
    /// Sends these bytes once CONNECT has come, and then nothing, for as long as the bridge likes.
    Say(Vec<u8>),
    /// Sends these bytes once CONNECT has come, and closes.
    SayAndClose(Vec<u8>),
    /// Serves, but the answer to each packet is made by this; `None` is the right answer.
    Answer(fn(&[u8]) -> Option<Vec<u8>>),
    /// Serves, and closes without an answer whenever a PUBLISH to a topic with this in it comes.
    CloseOn(&'static str),
    /// Sends CONNACK, then reads nothing any more.
    Deaf,
    /// Serves.
    Serve,
}

/// What it has seen.
#[derive(Default)]
struct Seen {
    connections: usize,
    /// Topics of messages that were acknowledged or need not be.
    topics: Vec<String>,
}

struct Shared {
    manners: Vec<Manner>,
    v5: bool,
    stop: AtomicBool,
    seen: Mutex<Seen>,
    changed: Condvar,
}

/// The broker; it ends when dropped.
pub(crate) struct Fake {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Each connection has the next manner; when there are none left it serves.
    pub(crate) fn start(v5: bool, manners: Vec<Manner>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            manners,
            v5,
            stop: AtomicBool::new(false),
            seen: Mutex::default(),
            changed: Condvar::new(),
        });
        let server = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let mut links = Vec::new();
            for (n, stream) in listener.incoming().enumerate() {
                if server.stop.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&server);
                shared.note(|seen| seen.connections += 1);
                links.push(thread::spawn(move || shared.serve(n, stream)));
            }
            for link in links {
                let _ = link.join();
            }
        });
        Fake { addr, shared, thread: Some(thread) }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections came.
    pub(crate) fn connections(&self) -> usize {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).connections
    }

    /// Waits until so many connections came; false when the time is up.
    pub(crate) fn wait_for_connections(&self, count: usize, limit: Duration) -> bool {
        self.wait(limit, |seen| seen.connections >= count)
    }

    /// Waits until a message to this topic was taken; false when the time is up.
    pub(crate) fn wait_for(&self, topic: &str, limit: Duration) -> bool {
        self.wait(limit, |seen| seen.topics.iter().any(|seen| seen == topic))
    }

    fn wait(&self, limit: Duration, is: impl Fn(&Seen) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        while !is(&seen) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            seen = self.shared.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // One more connection wakes the listener.
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn serve(&self, n: usize, mut stream: TcpStream) {
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit");
        stream.set_write_timeout(Some(Duration::from_secs(10))).expect("a limit");
        if self.packet(&mut stream).is_none() {
            return; // CONNECT never came
        }
        let manner = self.manners.get(n).unwrap_or(&Manner::Serve);
        match manner {
            Manner::Say(bytes) => {
                // Whoever has had enough of it closes before all is written.
                let _ = stream.write_all(bytes);
                while self.packet(&mut stream).is_some() {}
                return;
            }
            Manner::SayAndClose(bytes) => {
                let _ = stream.write_all(bytes);
                return;
            }
            _ => {}
        }
        let accepted: &[u8] = if self.v5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
        if stream.write_all(accepted).is_err() {
            return;
        }
        while matches!(manner, Manner::Deaf) && !self.stop.load(Ordering::SeqCst) {
            // The end of the connection is not noticed by who does not read: the system tells by an error of the socket.
            if stream.take_error().is_ok_and(|error| error.is_some()) {
                return;
            }
            thread::park_timeout(Duration::from_millis(50));
        }
        while let Some(packet) = self.packet(&mut stream) {
            let topic = topic_of(&packet);
            if let (Manner::CloseOn(text), Some(topic)) = (manner, &topic)
                && topic.contains(text)
            {
                return;
            }
            let made = match manner {
                Manner::Answer(answer) => answer(&packet),
                _ => None,
            };
            let answer = made.unwrap_or_else(|| self.answer(&packet));
            if stream.write_all(&answer).is_err() {
                return;
            }
            if let Some(topic) = topic {
                self.note(|seen| seen.topics.push(topic));
            }
        }
    }

    /// The next packet; `None` at the end of the connection or of everything.
    fn packet(&self, stream: &mut TcpStream) -> Option<Vec<u8>> {
        let mut packet = self.bytes(stream, 2)?;
        let (mut length, mut shift) = (usize::from(packet[1] & 0x7f), 7);
        while packet.last().is_some_and(|byte| byte & 0x80 != 0) {
            let byte = self.bytes(stream, 1)?[0];
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            packet.push(byte);
        }
        packet.extend(self.bytes(stream, length)?);
        Some(packet)
    }

    fn bytes(&self, stream: &mut TcpStream, n: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; n];
        let mut have = 0;
        while have < n {
            match stream.read(&mut bytes[have..]) {
                Ok(0) => return None,
                Ok(more) => have += more,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                    if self.stop.load(Ordering::SeqCst) {
                        return None;
                    }
                }
                Err(_) => return None,
            }
        }
        Some(bytes)
    }

    /// What a broker answers.
    fn answer(&self, packet: &[u8]) -> Vec<u8> {
        let body = body_of(packet);
        match packet[0] & 0xF0 {
            0x30 if packet[0] & 6 != 0 => {
                let topic = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                vec![if packet[0] & 2 != 0 { 0x40 } else { 0x50 }, 2, body[topic], body[topic + 1]]
            }
            0x50 => vec![0x62, 2, body[0], body[1]],
            0x60 => vec![0x70, 2, body[0], body[1]],
            // One filter in each packet is all that a bridge asks for.
            0x80 if self.v5 => vec![0x90, 4, body[0], body[1], 0, 0],
            0x80 => vec![0x90, 3, body[0], body[1], 0],
            0xA0 if self.v5 => vec![0xB0, 4, body[0], body[1], 0, 0],
            0xA0 => vec![0xB0, 2, body[0], body[1]],
            0xC0 => vec![0xD0, 0],
            _ => Vec::new(),
        }
    }
}

/// What comes behind the remaining length.
pub(crate) fn body_of(packet: &[u8]) -> &[u8] {
    let length = packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    &packet[1 + length..]
}

/// The topic of a PUBLISH.
fn topic_of(packet: &[u8]) -> Option<String> {
    let body = body_of(packet);
    let end = 2 + usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    (packet[0] & 0xF0 == 0x30).then(|| String::from_utf8_lossy(&body[2..end]).into_owned())
}
