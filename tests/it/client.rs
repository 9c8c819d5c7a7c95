//! A raw test client: bytes over TCP with a limit on every read, and hand-written packets.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a broker may take to answer.
pub(crate) const LIMIT: Duration = Duration::from_secs(2);

/// Why the wanted bytes did not come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The broker closed or reset the connection after these bytes.
    Closed(Vec<u8>),
    /// The time was up after these bytes.
    TimedOut(Vec<u8>),
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connects to the broker without sending anything.
    pub(crate) fn open(addr: SocketAddr) -> Client {
        Client::try_open(addr).unwrap_or_else(|e| panic!("connect to {addr}: {e}"))
    }

    /// As [`Client::open`], with the error handed back.
    pub(crate) fn try_open(addr: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&addr, LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Client { stream })
    }

    /// Connects, sends a CONNECT with a clean start and expects success.
    pub(crate) fn connect(addr: SocketAddr, version: u8, client_id: &str) -> Client {
        let mut client = Client::open(addr);
        client.send(&connect(version, client_id));
        let ack = client.packet();
        assert!(ack.starts_with(&[0x20]) && ack.get(3) == Some(&0), "CONNACK {}", hex(&ack));
        client
    }

    /// The port it comes from, as the broker's log shows it.
    pub(crate) fn local_port(&self) -> u16 {
        self.stream.local_addr().expect("a local address").port()
    }

    /// Sets the limit for a read.
    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).expect("a read limit");
    }

    /// Writes the bytes. A peer that has closed already is no error here: the next read tells.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Reads exactly `n` bytes.
    pub(crate) fn recv(&mut self, n: usize) -> Result<Vec<u8>, Missing> {
        let mut bytes = vec![0; n];
        let mut have = 0;
        while have < n {
            match self.stream.read(&mut bytes[have..]) {
                Ok(0) => return Err(Missing::Closed(bytes[..have].to_vec())),
                Ok(more) => have += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(Missing::TimedOut(bytes[..have].to_vec()));
                }
                Err(_) => return Err(Missing::Closed(bytes[..have].to_vec())),
            }
        }
        Ok(bytes)
    }

    /// Reads exactly these bytes.
    pub(crate) fn expect(&mut self, wanted: &[u8]) {
        match self.recv(wanted.len()) {
            Ok(got) => assert!(got == wanted, "wanted {}\ngot    {}", hex(wanted), hex(&got)),
            Err(Missing::Closed(got)) => panic!("wanted {}\ngot    {} then closed", hex(wanted), hex(&got)),
            Err(Missing::TimedOut(got)) => panic!("wanted {}\ngot    {} then nothing", hex(wanted), hex(&got)),
        }
    }

    /// Reads one whole packet.
    pub(crate) fn packet(&mut self) -> Vec<u8> {
        let mut packet = self.recv(2).expect("a packet");
        let mut length = usize::from(packet[1] & 0x7f);
        let mut shift = 7;
        while packet.last().is_some_and(|byte| byte & 0x80 != 0) && shift <= 21 {
            let byte = self.recv(1).expect("a remaining length")[0];
            length |= usize::from(byte & 0x7f) << shift;
            packet.push(byte);
            shift += 7;
        }
        packet.extend(self.recv(length).expect("the rest of a packet"));
        packet
    }

    /// Expects the end of the connection, without a further byte.
    pub(crate) fn expect_closed(&mut self) {
        match self.recv(1) {
            Err(Missing::Closed(_)) => {}
            other => panic!("wanted the end of the connection, got {other:?}"),
        }
    }

    /// A PINGREQ and its answer: the connection lives and nothing else is on the way.
    pub(crate) fn ping(&mut self) {
        self.send(&[0xC0, 0]);
        self.expect(&[0xD0, 0]);
    }
}

/// CONNECT with a clean start and keepalive 60.
pub(crate) fn connect(version: u8, client_id: &str) -> Vec<u8> {
    let mut body = string(if version == 3 { "MQIsdp" } else { "MQTT" });
    body.extend([version, 0x02, 0, 60]);
    if version == 5 {
        body.push(0);
    }
    body.extend(string(client_id));
    packet(0x10, &body)
}

/// CONNECT with these flags, keepalive and, for version 5, encoded properties; `rest` is the payload in pieces.
pub(crate) fn connect_with(version: u8, flags: u8, keepalive: u16, props: &[u8], rest: &[&[u8]]) -> Vec<u8> {
    let mut body = string(if version == 3 { "MQIsdp" } else { "MQTT" });
    body.extend([version, flags]);
    body.extend(keepalive.to_be_bytes());
    if version == 5 {
        body.extend(crate::tokens::variable_int(props.len() as u64));
        body.extend(props);
    }
    body.extend(rest.concat());
    packet(0x10, &body)
}

/// SUBSCRIBE for one filter; `options` is the QoS and, for version 5, the other options.
pub(crate) fn subscribe(version: u8, id: u16, filter: &str, options: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == 5 {
        body.push(0);
    }
    body.extend(string(filter));
    body.push(options);
    packet(0x82, &body)
}

/// PUBLISH without properties; `id` is left out for QoS 0.
pub(crate) fn publish(version: u8, flags: u8, topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = string(topic);
    if flags & 0x06 != 0 {
        body.extend(id.to_be_bytes());
    }
    if version == 5 {
        body.push(0);
    }
    body.extend(payload);
    packet(0x30 | flags, &body)
}

/// A packet with its remaining length counted.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(crate::tokens::variable_int(body.len() as u64));
    bytes.extend(body);
    bytes
}

/// A string with its length.
pub(crate) fn string(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).expect("a short string").to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// Bytes for a message to a human, who does not want all of many.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let shown: Vec<_> = bytes.iter().take(200).map(|byte| format!("{byte:02X}")).collect();
    let rest =
        if bytes.len() > shown.len() { format!(" and {} more", bytes.len() - shown.len()) } else { String::new() };
    shown.join(" ") + &rest
}
