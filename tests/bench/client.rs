//! The load: plain sockets, each with its own parser, driven by one `poll` loop.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// A packet with its remaining length counted.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    loop {
        let low = length.to_le_bytes()[0] & 0x7f;
        length >>= 7;
        out.push(if length == 0 { low } else { low | 0x80 });
        if length == 0 {
            break;
        }
    }
    out.extend(body);
    out
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// CONNECT of a 3.1.1 client with a clean session.
pub(crate) fn hello(id: &str, keepalive_s: u16) -> Vec<u8> {
    packet(0x10, &[string("MQTT"), vec![4, 2], keepalive_s.to_be_bytes().into(), string(id)].concat())
}

/// A connected 3.1.1 client, blocking until [`Driven::new`] takes it.
pub(crate) fn connect(addr: SocketAddr, id: &str) -> io::Result<TcpStream> {
    connect_for(addr, id, 0)
}

/// As [`connect`], with this keepalive.
pub(crate) fn connect_for(addr: SocketAddr, id: &str, keepalive_s: u16) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&hello(id, keepalive_s))?;
    answer(&mut stream, &[0x20, 2, 0, 0])?;
    Ok(stream)
}

/// Subscribes and waits for the answer.
pub(crate) fn subscribe(stream: &mut TcpStream, filter: &str, qos: u8) -> io::Result<()> {
    stream.write_all(&packet(0x82, &[vec![0, 1], string(filter), vec![qos]].concat()))?;
    answer(stream, &[0x90, 3, 0, 1, qos])
}

fn answer(stream: &mut TcpStream, wanted: &[u8]) -> io::Result<()> {
    let mut got = vec![0; wanted.len()];
    stream.read_exact(&mut got)?;
    if got != wanted {
        return Err(io::Error::other(format!("{got:?} instead of {wanted:?}")));
    }
    Ok(())
}

/// One scenario: who sends how many messages to whom.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) publishers: usize,
    pub(crate) subscribers: usize,
    pub(crate) qos: u8,
    /// Messages published in all.
    pub(crate) messages: usize,
    /// Messages under way at once, in all.
    pub(crate) window: usize,
}

impl Load {
    /// Messages that arrive at subscribers.
    pub(crate) fn deliveries(&self) -> usize {
        self.messages * self.subscribers
    }
}

/// A connection of a running load.
struct Driven {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    next_id: u16,
}

impl Driven {
    fn new(stream: TcpStream) -> io::Result<Driven> {
        stream.set_nonblocking(true)?;
        Ok(Driven { stream, input: Vec::new(), output: Vec::new(), next_id: 0 })
    }

    /// Reads what is there and hands on whole packets: first byte and body.
    fn read(&mut self, mut each: impl FnMut(u8, &[u8], &mut Vec<u8>)) -> io::Result<()> {
        let mut chunk = [0; 65536];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => self.input.extend(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
        let mut at = 0;
        'packets: while at < self.input.len() {
            let (mut length, mut shift, mut header) = (0, 0, 1);
            loop {
                let Some(&byte) = self.input.get(at + header) else { break 'packets };
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                header += 1;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let Some(body) = self.input.get(at + header..at + header + length) else { break };
            each(self.input[at], body, &mut self.output);
            at += header + length;
        }
        self.input.drain(..at);
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(n) => drop(self.output.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Connects everybody, calls `start`, sends all messages and returns when all have arrived and are acknowledged.
pub(crate) fn run(addr: SocketAddr, load: Load, limit: Duration, start: impl FnOnce()) -> io::Result<Duration> {
    const PAYLOAD: [u8; 64] = [b'x'; 64];
    const TOPIC: &str = "bench/some/topic";
    const STALL: Duration = Duration::from_secs(5);
    let mut links = Vec::new();
    for n in 0..load.subscribers {
        let mut stream = connect(addr, &format!("sub{n}"))?;
        subscribe(&mut stream, TOPIC, load.qos)?;
        links.push(Driven::new(stream)?);
    }
    for n in 0..load.publishers {
        links.push(Driven::new(connect(addr, &format!("pub{n}"))?)?);
    }

    start();
    let begin = Instant::now();
    let (mut sent, mut arrived, mut acknowledged) = (0, 0, 0);
    let mut progress = ((0, 0), begin);
    let mut next = 0;
    loop {
        let finished =
            if load.qos == 0 { arrived / load.subscribers } else { acknowledged.min(arrived / load.subscribers) };
        if finished == load.messages {
            return Ok(begin.elapsed());
        }
        let idle = progress.0 == (arrived, acknowledged) && progress.1.elapsed() > STALL;
        if begin.elapsed() > limit || idle {
            return Err(io::Error::other(format!(
                "{sent} sent, {acknowledged} acknowledged, {arrived} of {} arrived, then no more",
                load.deliveries()
            )));
        }
        if progress.0 != (arrived, acknowledged) {
            progress = ((arrived, acknowledged), Instant::now());
        }
        while sent < load.messages && sent - finished < load.window {
            let link = &mut links[load.subscribers + next];
            next = (next + 1) % load.publishers;
            let mut body = string(TOPIC);
            if load.qos > 0 {
                link.next_id = link.next_id.checked_add(1).unwrap_or(1);
                body.extend(link.next_id.to_be_bytes());
            }
            body.extend(PAYLOAD);
            link.output.extend(packet(0x30 | load.qos << 1, &body));
            sent += 1;
        }
        for link in &mut links {
            link.write()?;
        }
        wait(&links)?;
        for link in &mut links {
            link.read(|first, body, output| match first >> 4 {
                3 => {
                    arrived += 1;
                    if load.qos > 0 {
                        let at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                        let answer = if load.qos == 1 { 0x40 } else { 0x50 };
                        output.extend([answer, 2, body[at], body[at + 1]]);
                    }
                }
                5 => output.extend([0x62, 2, body[0], body[1]]),
                6 => output.extend([0x70, 2, body[0], body[1]]),
                4 | 7 => acknowledged += 1,
                _ => {}
            })?;
        }
    }
}

/// Waits until something can be read, or written where something waits for it.
#[allow(unsafe_code)]
fn wait(links: &[Driven]) -> io::Result<()> {
    let mut polled: Vec<libc::pollfd> = links
        .iter()
        .map(|link| {
            let events = if link.output.is_empty() { libc::POLLIN } else { libc::POLLIN | libc::POLLOUT };
            libc::pollfd { fd: link.stream.as_raw_fd(), events, revents: 0 }
        })
        .collect();
    // SAFETY: the pointer and the count describe `polled`, which lives until the call returns.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, 200) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
