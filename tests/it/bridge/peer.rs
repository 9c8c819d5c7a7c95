//! The other side of a bridge played by the test, for everything that a real broker does not do.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use super::LIMIT;

/// One connection of a bridge.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    /// The CONNECT that began it.
    pub(super) connect: Vec<u8>,
}

impl Peer {
    /// Waits for a bridge and reads its CONNECT.
    pub(super) fn accept(listener: &TcpListener) -> Peer {
        listener.set_nonblocking(true).unwrap();
        let deadline = Instant::now() + LIMIT;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                Err(error) => panic!("no bridge came: {error}"),
            }
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut peer = Peer { stream, connect: Vec::new() };
        peer.connect = peer.packet().expect("CONNECT");
        assert_eq!(peer.connect[0], 0x10);
        peer
    }

    /// The protocol level of the CONNECT.
    pub(super) fn level(&self) -> u8 {
        self.connect[2 + 2 + usize::from(self.connect[3])]
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        let _gone = self.stream.write_all(bytes);
    }

    /// Says that all is well.
    pub(super) fn connack(&mut self) {
        let v5 = self.level() == 5;
        self.send(if v5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] });
    }

    /// The next packet; `None` at the end.
    pub(super) fn packet(&mut self) -> Option<Vec<u8>> {
        let mut packet = vec![0; 2];
        self.stream.read_exact(&mut packet).ok()?;
        let mut length = usize::from(packet[1] & 0x7f);
        let mut shift = 7;
        while packet.last().is_some_and(|byte| byte & 0x80 != 0) {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            packet.push(byte[0]);
            shift += 7;
        }
        let at = packet.len();
        packet.resize(at + length, 0);
        self.stream.read_exact(&mut packet[at..]).ok()?;
        Some(packet)
    }

    /// Reads on to the next packet of this type, and acknowledges nothing on the way; `None` at the end.
    pub(super) fn until(&mut self, kind: u8) -> Option<Vec<u8>> {
        loop {
            let packet = self.packet()?;
            if packet[0] >> 4 == kind {
                return Some(packet);
            }
        }
    }

    /// Reads to the end of the connection.
    pub(super) fn expect_closed(&mut self) {
        while self.packet().is_some() {}
    }
}
