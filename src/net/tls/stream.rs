//! One TLS connection without its socket: ciphertext in, plaintext out, and the other way round. The library's unbuffered
//! interface leaves the buffers to us, so an idle connection has none.
//!
//! The owner reads from the socket and calls [`TlsStream::read`], encrypts with [`TlsStream::write`], and after either
//! sends what [`TlsStream::pending`] shows. How long a handshake may take is the owner's business, see
//! [`TlsStream::is_handshaking`].

use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, Error, InvalidMessage, ServerConfig};

use super::error::{TlsError, TlsPeer};
use super::{ciphers, names};

/// Head of a record: type, version, length.
const HEAD: usize = 5;
/// The longest record: what TLS 1.2 allows for a payload of 16 KiB.
const MAX_RECORD: usize = HEAD + (16 << 10) + 2048;
/// The most that is kept of an unfinished handshake: one message of this size, or fewer with the record after it. Enough
/// for a dozen client certificates; the library alone would keep 64 KiB for everyone who says hello.
const MAX_HANDSHAKE: usize = 2 * MAX_RECORD;
/// Plaintext of one record.
const MAX_PLAIN: usize = 16 << 10;
/// What a record needs besides its plaintext, and a key update that may go before it.
const RECORD_ROOM: usize = 64;
/// Room for `close_notify`.
const CLOSE_ROOM: usize = 64;

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Open,
    /// `close_notify` came, or an error ended the connection: nothing is read any more.
    Ended,
}

/// What the library has for either end of a connection.
trait Process {
    type Data;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn has_output(&self) -> bool;
}

impl Process for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(input)
    }

    fn has_output(&self) -> bool {
        self.wants_write()
    }
}

impl Process for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(input)
    }

    fn has_output(&self) -> bool {
        self.wants_write()
    }
}

/// Which end of the connection is ours.
enum Connection {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl Connection {
    fn common(&self) -> &CommonState {
        match self {
            Connection::Server(connection) => connection,
            Connection::Client(connection) => connection,
        }
    }

    fn run(&mut self, buffer: &mut [u8], output: &mut Vec<u8>, plain: &mut Vec<u8>) -> Result<Ran, Error> {
        match self {
            Connection::Server(connection) => run(connection, buffer, output, plain),
            Connection::Client(connection) => run(connection, buffer, output, plain),
        }
    }

    /// Encrypts `plain`, or says `close_notify`.
    fn send(&mut self, kept: &mut [u8], output: &mut Vec<u8>, room: usize, plain: Option<&[u8]>) -> Result<(), Error> {
        match self {
            Connection::Server(connection) => send(connection, kept, output, room, plain),
            Connection::Client(connection) => send(connection, kept, output, room, plain),
        }
    }
}

/// A TLS connection, from a client or to a server.
pub struct TlsStream {
    connection: Connection,
    /// Ciphertext that waits for its rest: whole records of an unfinished handshake message, then an unfinished record.
    kept: Vec<u8>,
    /// Bytes of `kept` that are whole records.
    whole: usize,
    /// Ciphertext for the client.
    output: Vec<u8>,
    /// Bytes of `output` that were sent.
    sent: usize,
    reading: Side,
    writing: Side,
}

impl TlsStream {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<TlsStream, TlsError> {
        UnbufferedServerConnection::new(config)
            .map(|server| TlsStream::of(Connection::Server(server)))
            .map_err(|error| TlsError { error, peer: TlsPeer::Client })
    }

    /// A connection to a server, whose first message waits in the output.
    pub(super) fn to_server(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<TlsStream, TlsError> {
        let of_server = |error| TlsError { error, peer: TlsPeer::Server };
        let client = UnbufferedClientConnection::new(config, name).map_err(of_server)?;
        let mut this = TlsStream::of(Connection::Client(client));
        this.connection.run(&mut [], &mut this.output, &mut Vec::new()).map_err(of_server)?;
        Ok(this)
    }

    fn of(connection: Connection) -> TlsStream {
        TlsStream {
            connection,
            kept: Vec::new(),
            whole: 0,
            output: Vec::new(),
            sent: 0,
            reading: Side::Open,
            writing: Side::Open,
        }
    }

    fn error(&self, error: Error) -> TlsError {
        let peer = match self.connection {
            Connection::Server(_) => TlsPeer::Client,
            Connection::Client(_) => TlsPeer::Server,
        };
        TlsError { error, peer }
    }

    /// Takes what came from the socket, decrypting it in place, and appends the plaintext to `plain`: at most as many bytes,
    /// and one record that was kept. Answers of the handshake, and on an error the alert, go to the output.
    ///
    /// After an error, and after either side said `close_notify` ([`TlsStream::is_finished`]), input is thrown away.
    ///
    /// # Errors
    /// Whatever ends the connection. `plain` has what came before.
    pub fn read(&mut self, mut input: &mut [u8], plain: &mut Vec<u8>) -> Result<(), TlsError> {
        while !input.is_empty() && self.reading == Side::Open {
            if self.kept.is_empty() {
                // Counted before: the library moves parts of unfinished messages together, and heads get lost.
                let whole = whole_records(input);
                let used = self.process(Some(input), plain)?;
                self.kept.extend_from_slice(input.get(used..).unwrap_or_default());
                self.keep(whole.saturating_sub(used), 0);
                input = &mut [];
            } else {
                let take = self.missing().min(input.len());
                let (now, later) = input.split_at_mut(take);
                input = later;
                self.kept.extend_from_slice(now);
                let whole = self.whole + whole_records(self.kept.get(self.whole..).unwrap_or_default());
                let used = self.process(None, plain)?;
                self.keep(whole, used);
            }
            self.check_kept()?;
        }
        Ok(())
    }

    /// Bytes that the last record in `kept` lacks, or its head when that is not whole.
    fn missing(&self) -> usize {
        let record = self.kept.get(self.whole..).unwrap_or_default();
        record_len(record).unwrap_or(HEAD).saturating_sub(record.len()).max(1)
    }

    /// Drops the first `used` bytes of `kept`, and the memory with the last of them. `whole` counts from before that.
    fn keep(&mut self, whole: usize, used: usize) {
        if used >= self.kept.len() || self.reading == Side::Ended {
            self.kept = Vec::new();
            self.whole = 0;
        } else {
            self.kept.drain(..used);
            self.whole = whole.saturating_sub(used);
        }
    }

    /// Refuses to keep more than a connection may need.
    fn check_kept(&mut self) -> Result<(), TlsError> {
        let most = if self.is_handshaking() { MAX_HANDSHAKE } else { MAX_RECORD };
        if self.kept.len() <= most {
            return Ok(());
        }
        self.end();
        Err(self.error(Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge)))
    }

    fn end(&mut self) {
        self.reading = Side::Ended;
        self.writing = Side::Ended;
        self.kept = Vec::new();
        self.whole = 0;
    }

    /// Runs the library over `input`, or over what is kept, until it wants more. Returns how many bytes it is done with.
    fn process(&mut self, input: Option<&mut [u8]>, plain: &mut Vec<u8>) -> Result<usize, TlsError> {
        let buffer = input.unwrap_or(&mut self.kept);
        match self.connection.run(buffer, &mut self.output, plain) {
            Ok(ran) => {
                if ran.peer_closed {
                    self.reading = Side::Ended;
                }
                Ok(ran.used)
            }
            Err(error) => {
                self.end();
                Err(self.error(error))
            }
        }
    }

    /// Encrypts the first bytes of `parts`, at most one record of 16 KiB, and returns how many. None while the handshake
    /// lasts, while a record waits to be sent, and after the end. `gather` is scratch space.
    ///
    /// # Errors
    /// The keys are used up, after more than 2^24 records of TLS 1.2.
    pub fn write(&mut self, parts: &[IoSlice<'_>], gather: &mut Vec<u8>) -> Result<usize, TlsError> {
        if self.is_handshaking() || self.writing == Side::Ended || self.pending().len() >= MAX_PLAIN {
            return Ok(0);
        }
        let mut parts = parts.iter().map(|part| &part[..]).filter(|part| !part.is_empty()).peekable();
        let first = parts.next().unwrap_or_default();
        let mut plain = first.get(..MAX_PLAIN).unwrap_or(first);
        if plain.len() < MAX_PLAIN && parts.peek().is_some() {
            gather.clear();
            gather.extend_from_slice(plain);
            for part in parts {
                let room = MAX_PLAIN - gather.len();
                gather.extend_from_slice(part.get(..room).unwrap_or(part));
                if gather.len() == MAX_PLAIN {
                    break;
                }
            }
            plain = gather;
        }
        if plain.is_empty() {
            return Ok(0);
        }
        let room = plain.len() + RECORD_ROOM;
        self.connection.send(&mut self.kept, &mut self.output, room, Some(plain)).map_err(|error| {
            self.end();
            self.error(error)
        })?;
        Ok(plain.len())
    }

    /// Says `close_notify`: nothing is written or read any more. A connection that failed or is still in its handshake
    /// ends without.
    pub fn close(&mut self) {
        if self.writing == Side::Open && !self.is_handshaking() {
            let _only_politeness = self.connection.send(&mut self.kept, &mut self.output, CLOSE_ROOM, None);
        }
        // Reading on is of no use, and the library minds errors after the end.
        self.end();
    }

    /// Ciphertext that waits to be sent.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        self.output.get(self.sent..).unwrap_or_default()
    }

    /// Says that the first `n` bytes of [`TlsStream::pending`] were sent.
    pub fn advance(&mut self, n: usize) {
        self.sent = self.sent.saturating_add(n);
        if self.sent >= self.output.len() {
            self.output = Vec::new();
            self.sent = 0;
        }
    }

    /// True until both sides have proved who they are.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.connection.common().is_handshaking()
    }

    /// True when nothing is read any more: one side said `close_notify`, or the connection failed. The end of the stream
    /// before that is a truncation, which MQTT, with packets that know their length, can do without telling apart.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.reading == Side::Ended
    }

    /// Version and cipher as OpenSSL writes them, for `Client ID negotiated TLSv1.3 cipher …`; `None` during the
    /// handshake.
    #[must_use]
    pub fn negotiated(&self) -> Option<(&'static str, &'static str)> {
        let version = self.connection.common().protocol_version().map(ciphers::version)?;
        let cipher = self.connection.common().negotiated_cipher_suite().map(ciphers::name)?;
        (!self.is_handshaking()).then_some((version, cipher))
    }

    /// The peer's certificate in DER, if it had to show one.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        Some(self.connection.common().peer_certificates()?.first()?.as_ref())
    }

    /// The first common name of the client's certificate `[conf: use_identity_as_username]`. `None` without certificate or
    /// name, and for one that is no text or holds control characters.
    #[must_use]
    pub fn identity(&self) -> Option<String> {
        names::common_name(super::x509::Certificate::read(self.peer_certificate()?).ok()?.subject)
    }

    /// The subject of the client's certificate as RFC 2253 text, such as `CN=x,O=y` `[conf: use_subject_as_username]`.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        names::rfc2253(super::x509::Certificate::read(self.peer_certificate()?).ok()?.subject)
    }

    /// Heap bytes of the buffers, which are 0 for an idle connection.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.kept.capacity() + self.output.capacity()
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("negotiated", &self.negotiated())
            .field("kept", &self.kept.len())
            .field("pending", &self.pending().len())
            .field("reading", &self.reading)
            .field("writing", &self.writing)
            .finish_non_exhaustive()
    }
}

/// The length of the record that starts here, if its head is whole.
fn record_len(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [_, _, _, high, low, ..] => Some(HEAD + usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// Bytes of the whole records at the start.
fn whole_records(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(len) = bytes.get(at..).and_then(record_len).filter(|len| at + len <= bytes.len()) {
        at += len;
    }
    at
}

/// What the library made of its input.
struct Ran {
    used: usize,
    peer_closed: bool,
}

/// Runs the library until it has nothing more to do with `buffer`. After an error the buffer is still what the library
/// thinks it is, because the alert is asked for with the same call: it panics when they fall out of step.
fn run<C: Process>(
    connection: &mut C,
    buffer: &mut [u8],
    output: &mut Vec<u8>,
    plain: &mut Vec<u8>,
) -> Result<Ran, Error> {
    let mut ran = Ran { used: 0, peer_closed: false };
    loop {
        let rest = buffer.get_mut(ran.used..).unwrap_or_default();
        let UnbufferedStatus { discard, state } = connection.process(rest);
        ran.used += discard;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    ran.used += record.discard;
                    plain.extend_from_slice(record.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(message)) => encode(message, output)?,
            Ok(ConnectionState::TransmitTlsData(message)) => message.done(),
            Ok(ConnectionState::PeerClosed) => ran.peer_closed = true,
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => {
                return Ok(ran);
            }
            // Early data is not allowed, and there are no other states.
            Ok(_) => return Err(Error::HandshakeNotComplete),
            Err(error) => {
                alert(connection, buffer.get_mut(ran.used..).unwrap_or_default(), output);
                return Err(error);
            }
        }
    }
}

/// Takes what the library has to say, after an error or for the end. It is asked only while there is something: a further
/// call would go on with the input.
fn alert<C: Process>(connection: &mut C, buffer: &mut [u8], output: &mut Vec<u8>) {
    while connection.has_output() {
        let UnbufferedStatus { discard: _, state } = connection.process(buffer);
        let Ok(ConnectionState::EncodeTlsData(message)) = state else { return };
        if encode(message, output).is_err() {
            return;
        }
    }
}

/// Writes a record with `plain`, or without it `close_notify`. Nothing can come of what is kept, so there is nothing to
/// discard.
fn send<C: Process>(
    connection: &mut C,
    kept: &mut [u8],
    output: &mut Vec<u8>,
    room: usize,
    plain: Option<&[u8]>,
) -> Result<(), Error> {
    let fill = |traffic: &mut WriteTraffic<'_, C::Data>, room: &mut [u8]| match plain {
        Some(plain) => traffic.encrypt(plain, room),
        None => traffic.queue_close_notify(room),
    };
    loop {
        let UnbufferedStatus { discard: _, state } = connection.process(kept);
        match state? {
            ConnectionState::EncodeTlsData(message) => encode(message, output)?,
            ConnectionState::TransmitTlsData(message) => message.done(),
            ConnectionState::WriteTraffic(mut traffic) => {
                return append(output, room, |room| match fill(&mut traffic, room) {
                    Ok(n) => Ok(n),
                    Err(EncryptError::InsufficientSize(error)) => Err(Some(error)),
                    Err(EncryptError::EncryptExhausted) => Err(None),
                });
            }
            _ => return Err(Error::EncryptError),
        }
    }
}

fn encode<D>(mut message: EncodeTlsData<'_, D>, output: &mut Vec<u8>) -> Result<(), Error> {
    append(output, 0, |room| match message.encode(room) {
        Ok(n) => Ok(n),
        Err(EncodeError::InsufficientSize(error)) => Err(Some(error)),
        Err(EncodeError::AlreadyEncoded) => Err(None),
    })
}

/// Lets `fill` write behind the output, into `room` bytes or as many as it asks for.
fn append(
    output: &mut Vec<u8>,
    mut room: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Result<(), Error> {
    let end = output.len();
    // It asks once and then has what it asked for.
    for _ in 0..2 {
        output.reserve_exact(room);
        output.resize(end + room, 0);
        match fill(output.get_mut(end..).unwrap_or_default()) {
            Ok(n) => {
                output.truncate(end + n);
                return Ok(());
            }
            Err(Some(InsufficientSizeError { required_size })) => room = required_size,
            Err(None) => break,
        }
    }
    output.truncate(end);
    Err(Error::EncryptError)
}
