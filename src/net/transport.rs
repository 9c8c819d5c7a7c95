//! What a connection has between its socket and its endpoint, in this order:
//!
//! ```text
//! socket ── PROXY header ── TLS ── HTTP upgrade, WebSocket frames ── endpoint
//!
//! ProxyHeader ──▶ TlsHandshake ──▶ HttpUpgrade ──▶ Open
//! ```
//!
//! A connection has only the stages that its listener is configured for, and one without any has no [`Transport`]. A stage
//! keeps no more than a piece of a header, a record or a request head; buffers for bytes in transit belong to the loop.
//! Input runs through all stages at once: [`Transport::read`] turns what the socket gave into the endpoint's bytes.
//! Output is pulled from the outside: [`Transport::write`] takes from the outbox what one write of the socket can carry,
//! so what waits within the stages is at most one TLS record and the head of one frame.

use std::io::{self, IoSlice};

use super::flush::SLICES;
use super::stream::Stream;
use super::tls::{ServerTls, TlsStream};
use super::websocket::WebSocket;
use crate::broker::auth::Identity;
use crate::config::{Config, Listener, Protocol, ProxyProtocol};
use crate::proto::proxy::{self, Parsed, ProxyHeader, ProxyVersion};
use crate::proto::{CloseReason, Outbox, Peer};
use crate::timer::Now;

/// Output that may wait within the stages before no more input is taken: whoever does not read its answers gets no more.
pub(super) const MAX_PENDING: usize = 16 * 1024 + 2048;

/// How far a connection has come.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    /// The proxy's header is not complete; what there is of it.
    ProxyHeader(Vec<u8>),
    TlsHandshake,
    HttpUpgrade,
    /// The endpoint's bytes go both ways.
    Open,
}

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Transport {
    stage: Stage,
    tls: Option<Box<TlsStream>>,
    ws: Option<Box<WebSocket>>,
    /// The log has the line about version and cipher.
    is_noted: bool,
    /// What the peer sent ends the connection, as soon as the endpoint has had everything before.
    ended: Option<Box<CloseReason>>,
}

/// Buffers that all connections share.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// The endpoint's bytes.
    pub(crate) plain: Vec<u8>,
    /// Bytes between two stages.
    between: Vec<u8>,
}

impl Buffers {
    /// Gives back what an unusual connection needed.
    fn trim(&mut self) {
        self.between.clear();
        self.between.shrink_to(super::SCRATCH);
    }
}

/// Where and when input came.
#[derive(Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) now: Now,
    pub(crate) listener: &'a Listener,
    pub(crate) config: &'a Config,
    /// The address as it is known so far.
    pub(crate) peer: Peer,
    /// It came in through a listener.
    pub(crate) is_client: bool,
}

/// What the stages found out about the client.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    /// The proxy's header is complete: what comes now is the client's. With its address, if the proxy knows it.
    pub(crate) proxied: Option<Option<Peer>>,
    /// The address of the client that a proxy speaks for in HTTP.
    pub(crate) forwarded: Option<Peer>,
    /// Who the client is by its certificate, where its name counts.
    pub(crate) identity: Option<Identity>,
}

/// What one write did.
pub(crate) struct Sent {
    /// Bytes that the socket took.
    pub(crate) bytes: usize,
    /// The socket takes no more for now.
    pub(crate) is_full: bool,
}

impl Transport {
    /// The stages of a connection to this listener; `None` for one that has none.
    ///
    /// # Errors
    /// TLS cannot begin.
    pub(crate) fn new(listener: &Listener, tls: Option<&ServerTls>) -> Result<Option<Box<Transport>>, CloseReason> {
        let tls = tls.map(ServerTls::accept).transpose().map_err(|error| CloseReason::Tls(error.to_string().into()))?;
        let ws = if listener.protocol == Protocol::Websockets { WebSocket::new() } else { None };
        let mut this = Transport::begin(tls, ws);
        if listener.proxy_protocol.is_some() {
            this.stage = Stage::ProxyHeader(Vec::new());
        }
        Ok((this.stage != Stage::Open).then(|| Box::new(this)))
    }

    /// The stages that these make, from the first on.
    pub(crate) fn begin(tls: Option<TlsStream>, ws: Option<Box<WebSocket>>) -> Transport {
        let mut this = Transport { stage: Stage::Open, tls: tls.map(Box::new), ws, is_noted: false, ended: None };
        this.stage = this.after_header();
        this
    }

    fn after_header(&self) -> Stage {
        if self.tls.is_some() { Stage::TlsHandshake } else { self.after_handshake() }
    }

    fn after_handshake(&self) -> Stage {
        if self.ws.is_some() { Stage::HttpUpgrade } else { Stage::Open }
    }

    /// True when nothing is left to do between socket and endpoint.
    pub(crate) fn is_needless(&self) -> bool {
        self.stage == Stage::Open && self.tls.is_none() && self.ws.is_none() && self.ended.is_none()
    }

    /// True while input may cost a signature.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.stage == Stage::TlsHandshake
    }

    /// Why the connection ends, once the endpoint has used what came before.
    pub(crate) fn ended(&self) -> Option<&CloseReason> {
        self.ended.as_deref()
    }

    /// Takes what the socket gave and appends the endpoint's bytes to `plain`: never more than came.
    pub(crate) fn read(
        &mut self,
        mut input: &mut [u8],
        mut arrival: Arrival<'_>,
        plain: &mut Vec<u8>,
        buffers: &mut Buffers,
    ) -> Learned {
        let Arrival { listener, peer, .. } = arrival;
        let mut learned = Learned::default();
        if self.ended.is_some() {
            return learned;
        }
        if let Stage::ProxyHeader(header) = &mut self.stage {
            let Some(version) = listener.proxy_protocol else {
                // A reload took the option away while the header was on its way.
                self.end(CloseReason::BadProxyHeader);
                return learned;
            };
            match proxy_header(header, version, input) {
                Ok(None) => return learned,
                Ok(Some((found, used))) => {
                    let peer = found.source.map_or(peer, Peer::new);
                    arrival.peer = peer;
                    self.stage = self.after_header();
                    learned.proxied = Some(found.source.map(Peer::new));
                    if let Err(reason) = self.take_header(*found, listener, peer, &mut learned) {
                        self.end(reason);
                    }
                    input = input.get_mut(used..).unwrap_or_default();
                }
                Err(reason) => {
                    if reason == CloseReason::BadProxyHeader {
                        crate::notice!("Connection from {peer} rejected, corrupt PROXY header.");
                    }
                    self.end(reason);
                }
            }
        }
        if self.ended.is_some() || input.is_empty() {
            return learned;
        }
        let between = &mut buffers.between;
        let Some(tls) = &mut self.tls else {
            self.read_frames(input, arrival, &mut learned, plain);
            return learned;
        };
        between.clear();
        let read = tls.read(input, if self.ws.is_some() { &mut *between } else { &mut *plain });
        let is_finished = tls.is_finished();
        if self.stage == Stage::TlsHandshake && !tls.is_handshaking() && read.is_ok() {
            let names = &listener.tls;
            if names.use_identity_as_username {
                learned.identity = identity(tls.identity());
            } else if names.use_subject_as_username {
                learned.identity = identity(tls.subject());
            }
            self.stage = self.after_handshake();
        }
        if self.ws.is_some() {
            self.read_frames(between, arrival, &mut learned, plain);
        }
        match read {
            Err(error) => {
                // A bridge says itself that it could not connect.
                if arrival.is_client {
                    crate::notice!("Client connection from {peer} failed: {error}.");
                }
                self.end(CloseReason::Tls(error.to_string().into()));
            }
            Ok(()) if is_finished => self.end(CloseReason::ClosedByClient),
            Ok(()) => {}
        }
        buffers.trim();
        learned
    }

    /// What is left of the way when TLS is done.
    fn read_frames(&mut self, input: &mut [u8], arrival: Arrival<'_>, learned: &mut Learned, plain: &mut Vec<u8>) {
        let Some(ws) = &mut self.ws else { return plain.extend_from_slice(input) };
        if input.is_empty() || self.ended.is_some() {
            return;
        }
        let read = ws.on_bytes(input, arrival, learned, plain);
        if self.stage == Stage::HttpUpgrade && ws.is_open() {
            self.stage = Stage::Open;
        }
        if let Err(reason) = read {
            self.end(reason);
        }
    }

    /// Until when the peer must have taken what it is sent now instead of the endpoint's bytes; `None` when these are all.
    pub(crate) fn serving_until(&self) -> Option<u64> {
        self.ws.as_ref()?.deadline()
    }

    /// Goes on with what is sent instead of the endpoint's bytes, when nothing waits any more. False at its end.
    ///
    /// # Errors
    /// What the system says of the file.
    pub(crate) fn serve(&mut self, now: Now) -> io::Result<bool> {
        self.ws.as_mut().map_or(Ok(false), |ws| ws.next_piece(now))
    }

    /// Notes how the connection ends; the first reason counts.
    fn end(&mut self, reason: CloseReason) {
        self.ended.get_or_insert_with(|| Box::new(reason));
    }

    /// Checks what a header says against what the listener asks for.
    fn take_header(
        &mut self,
        header: ProxyHeader,
        listener: &Listener,
        peer: Peer,
        learned: &mut Learned,
    ) -> Result<(), CloseReason> {
        if listener.proxy_protocol != Some(ProxyProtocol::V2) {
            return Ok(());
        }
        let refused = |why: &str| {
            crate::notice!("Connection from {peer} rejected, client did not {why}.");
            Err(CloseReason::BadProxyHeader)
        };
        match &header.tls {
            None if listener.proxy_protocol_v2_require_tls => return refused("connect using TLS"),
            tls if listener.tls.require_certificate && !tls.as_ref().is_some_and(|tls| tls.verified_certificate) => {
                return refused("provide a certificate");
            }
            _ => {}
        }
        let tls = header.tls.unwrap_or_default();
        if let (Some(version), Some(cipher)) = (&tls.version, &tls.cipher) {
            crate::notice!("Connection from {peer} negotiated {version} cipher {cipher}");
        }
        if listener.tls.use_identity_as_username {
            // A name that the proxy did not verify is none.
            let name = tls.common_name.filter(|_| tls.verified_certificate);
            learned.identity = identity(name);
        }
        Ok(())
    }

    /// Version and cipher, once, for the log line about a client that has just come in.
    pub(crate) fn take_negotiated(&mut self) -> Option<(&'static str, &'static str)> {
        if std::mem::replace(&mut self.is_noted, true) {
            return None;
        }
        self.tls.as_ref()?.negotiated()
    }

    /// Bytes that wait within the stages.
    pub(crate) fn pending(&self) -> usize {
        let tls = self.tls.as_ref().map_or(0, |tls| tls.pending().len());
        let ws = self.ws.as_ref().map_or(0, |ws| ws.output().len());
        tls + ws
    }

    /// Sends what waits here, and then from the outbox what one write of the socket can carry.
    ///
    /// # Errors
    /// The socket's, or the keys of the connection are used up.
    pub(crate) fn write(&mut self, stream: &mut Stream, out: &mut Outbox, buffers: &mut Buffers) -> io::Result<Sent> {
        let Some(tls) = &mut self.tls else {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = next_slices(self.ws.as_deref_mut(), out, &mut slices);
            let slices = slices.get(..used).unwrap_or_default();
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            if offered == 0 {
                return Ok(Sent { bytes: 0, is_full: false });
            }
            let n = stream.write(slices)?;
            advance(self.ws.as_deref_mut(), out, n);
            return Ok(Sent { bytes: n, is_full: n < offered });
        };
        // As much as fits into one record; TLS takes nothing more while a whole one waits.
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = next_slices(self.ws.as_deref_mut(), out, &mut slices);
            let slices = slices.get(..used).unwrap_or_default();
            let n = tls.write(slices, &mut buffers.between).map_err(io::Error::other)?;
            if n == 0 {
                break;
            }
            advance(self.ws.as_deref_mut(), out, n);
        }
        buffers.trim();
        let offered = tls.pending().len();
        if offered == 0 {
            return Ok(Sent { bytes: 0, is_full: false });
        }
        let n = stream.write(&[IoSlice::new(tls.pending())])?;
        tls.advance(n);
        Ok(Sent { bytes: n, is_full: n < offered })
    }

    /// True when the peer is told about the end of the connection, by a close frame, an alert or an answer.
    pub(crate) fn says_goodbye(&self) -> bool {
        !matches!(self.stage, Stage::ProxyHeader(_)) && (self.tls.is_some() || self.ws.is_some())
    }

    /// Says goodbye in every stage, the innermost first; everything else has been sent.
    pub(crate) fn say_goodbye(&mut self, now: Now, reason: &CloseReason, buffers: &mut Buffers) {
        if let Some(ws) = &mut self.ws {
            ws.close(now, reason);
        }
        let Some(tls) = &mut self.tls else { return };
        if let Some(ws) = &mut self.ws {
            while let Ok(n @ 1..) = tls.write(&[IoSlice::new(ws.output())], &mut buffers.between) {
                ws.advance(n);
            }
            buffers.trim();
        }
        tls.close();
    }
}

fn identity(name: Option<String>) -> Option<Identity> {
    // An empty name would be no name in CONNECT either.
    name.filter(|name| !name.is_empty()).map(|name| Identity { username: name.into() })
}

/// Adds `input` to the piece of a header that came before. The header and how many bytes of `input` belong to it, once it
/// is complete.
fn proxy_header(
    held: &mut Vec<u8>,
    version: ProxyProtocol,
    input: &[u8],
) -> Result<Option<(Box<ProxyHeader>, usize)>, CloseReason> {
    let before = held.len();
    let room = proxy::MAX_HEADER.saturating_sub(before);
    held.extend_from_slice(input.get(..room).unwrap_or(input));
    let version = match version {
        ProxyProtocol::V1 => ProxyVersion::V1,
        ProxyProtocol::V2 => ProxyVersion::V2,
    };
    match proxy::parse(version, held) {
        Parsed::NeedMore if held.len() < proxy::MAX_HEADER => Ok(None),
        Parsed::NeedMore | Parsed::Corrupt => Err(CloseReason::BadProxyHeader),
        Parsed::HealthCheck => Err(CloseReason::HealthCheck),
        Parsed::Header(header, len) => Ok(Some((header, len.saturating_sub(before)))),
    }
}

/// What goes out next, framed where there are frames. Returns how many slices it used.
fn next_slices<'a>(ws: Option<&'a mut WebSocket>, out: &'a Outbox, slices: &mut [IoSlice<'a>]) -> usize {
    let Some(ws) = ws else { return out.slices(slices) };
    let body = ws.frame(out.len());
    let ws = &*ws;
    let Some((first, rest)) = slices.split_first_mut().filter(|_| !ws.output().is_empty()) else {
        return out.slices_within(body, slices);
    };
    *first = IoSlice::new(ws.output());
    1 + out.slices_within(body, rest)
}

/// Takes `n` bytes of what [`next_slices`] gave from where they came from.
fn advance(ws: Option<&mut WebSocket>, out: &mut Outbox, n: usize) {
    out.advance(ws.map_or(n, |ws| ws.advance(n)));
}
