//! A name server for one namespace, whose answers a test can change at any time.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What is said about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// This address.
    Is(Ipv4Addr),
    /// This address, after this time.
    Late(Ipv4Addr, Duration),
    /// There is no such name.
    No,
    /// The server has failed.
    Failure,
    /// Nothing is said at all.
    Silence,
}

struct Shared {
    names: Mutex<HashMap<String, Answer>>,
    asked: AtomicU32,
    stop: AtomicBool,
}

/// The server on port 53 of the namespace it was started in; it ends when dropped.
pub(crate) struct NameServer {
    shared: Arc<Shared>,
    addr: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Starts it on 127.0.0.1 of the namespace of this thread.
    pub(crate) fn start() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:53").expect("port 53 of a namespace of its own");
        let addr = socket.local_addr().expect("an address");
        let shared =
            Arc::new(Shared { names: Mutex::default(), asked: AtomicU32::new(0), stop: AtomicBool::new(false) });
        let server = Arc::clone(&shared);
        let thread = thread::spawn(move || serve(&socket, &server));
        NameServer { shared, addr, thread: Some(thread) }
    }

    /// What is said about this name from now on.
    pub(crate) fn set(&self, name: &str, answer: Answer) {
        self.shared.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), answer);
    }

    /// How many questions came.
    pub(crate) fn asked(&self) -> u32 {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// A command that runs `program` with this server as the only one it knows; `options` are those of `resolv.conf`.
    /// The file goes into `dir`.
    pub(crate) fn command(&self, program: &Path, dir: &Path, options: &str) -> Command {
        let file = dir.join("resolv.conf");
        let text = format!("nameserver {}\noptions {options}\n", self.addr.ip());
        std::fs::write(&file, text).expect("a file in the test's directory");
        // A mount namespace of its own, in which the file of the system is another.
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        command.args(["-m", "sh", "-c", script]).arg(file).arg(program);
        command
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    // The end is noticed with the next question or after this time; no packet can wake it from another namespace.
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time limit");
    let mut buffer = [0; 512];
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let Some((name, kind, end)) = question(&buffer[..length]) else { continue };
        shared.asked.fetch_add(1, Ordering::Relaxed);
        let answer = shared.names.lock().unwrap_or_else(PoisonError::into_inner).get(&name).copied();
        let question = &buffer[..end];
        match answer.unwrap_or(Answer::No) {
            Answer::Is(address) => drop(socket.send_to(&found(question, kind, address), from)),
            Answer::Late(address, delay) => {
                let bytes = found(question, kind, address);
                let socket = socket.try_clone().expect("one more descriptor");
                thread::spawn(move || {
                    thread::sleep(delay);
                    let _ = socket.send_to(&bytes, from);
                });
            }
            Answer::No => drop(socket.send_to(&reply(question, 3, 0), from)),
            Answer::Failure => drop(socket.send_to(&reply(question, 2, 0), from)),
            Answer::Silence => {}
        }
    }
}

/// Name and type of the first question, and where it ends.
fn question(packet: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]);
    packet.get(at + 3)?;
    Some((labels.join("."), kind, at + 4))
}

/// The head of an answer with the question repeated.
fn reply(question: &[u8], code: u8, answers: u8) -> Vec<u8> {
    let mut bytes = question.to_vec();
    bytes[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
    bytes
}

/// The address for a question of type A; for another there is nothing to be said.
fn found(question: &[u8], kind: u16, address: Ipv4Addr) -> Vec<u8> {
    if kind != 1 {
        return reply(question, 0, 0);
    }
    let mut bytes = reply(question, 0, 1);
    bytes.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
    bytes.extend(address.octets());
    bytes
}
