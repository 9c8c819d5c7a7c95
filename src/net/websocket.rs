//! The WebSocket stage of a connection: what the stage of `proto` decides, with the files, the log lines and the address of
//! the client behind a proxy.

use std::io;

use super::files::Download;
use super::transport::{Arrival, Learned};
use crate::config::Listener;
use crate::proto::http::MAX_HEAD;
use crate::proto::ws::frame::CloseCode;
use crate::proto::ws::handshake::Refusal;
use crate::proto::ws::{End, Options, Stage};
use crate::proto::{CloseReason, Peer};
use crate::timer::Now;
use crate::wire::DecodeError;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct WebSocket {
    stage: Stage,
    /// The file that was asked for instead of an upgrade.
    download: Option<Box<Download>>,
}

impl WebSocket {
    /// A stage for a new connection; `None` in a build without WebSockets.
    pub(super) fn new() -> Option<Box<WebSocket>> {
        Some(Box::new(WebSocket { stage: Stage::new(), download: None }))
    }

    /// Takes input, unmasks it in place and appends the endpoint's bytes to `plain`: never more than came. The answer to
    /// the request, pongs and the like go to the output, of which an unread part stays below a few KiB whatever comes in.
    /// Notes the client's address where a proxy told it.
    ///
    /// # Errors
    /// How the connection ends. `plain` has what came before, and nothing is taken any more.
    pub(super) fn on_bytes(
        &mut self,
        input: &mut [u8],
        arrival: Arrival<'_>,
        learned: &mut Learned,
        plain: &mut Vec<u8>,
    ) -> Result<(), CloseReason> {
        let Arrival { now, listener, config, peer, is_client: _ } = arrival;
        let max_head = match config.global.packet_buffer_size {
            0 => MAX_HEAD,
            size => size.into(),
        };
        let options = Options {
            max_head,
            origins: &listener.websockets_origin,
            files: listener.http_dir.is_some(),
            local: is_local(listener, peer),
        };
        let taken = self.stage.on_bytes(now, input, &options, plain);
        if let Some(upgraded) = taken.upgraded {
            crate::log_websockets!("Client {peer} has a WebSocket, sub-protocol {}.", upgraded.protocol);
            if let Some((ip, port)) = upgraded.forwarded {
                let client = Peer::new((ip, port.unwrap_or(peer.port())).into());
                crate::log_websockets!("Client {peer} speaks for {client}.");
                learned.forwarded = Some(client);
            }
        }
        let Some(end) = taken.end else { return Ok(()) };
        Err(match end {
            End::File(file) => {
                crate::log_websockets!("Client {peer} asks for the file \"{}\".", file.path.escape_debug());
                let root = listener.http_dir.as_deref();
                self.download = Some(Box::new(Download::new(now, root, &file, self.stage.answer())));
                return Ok(());
            }
            End::Refused(Refusal::ORIGIN) => CloseReason::WrongOrigin,
            End::Refused(refusal) => {
                crate::log_websockets!("Client {peer} gets no WebSocket: {}.", refusal.status);
                CloseReason::BadUpgrade
            }
            End::Closed(code) => {
                crate::log_websockets!("Client {peer} closes its WebSocket with {}.", code.0);
                CloseReason::ClosedByClient
            }
            End::BadFrame(code) => {
                crate::log_websockets!("Client {peer} sends bad frames, closing its WebSocket with {}.", code.0);
                CloseReason::BadFrame
            }
        })
    }

    /// True from the upgrade to the end.
    pub(super) fn is_open(&self) -> bool {
        self.stage.is_open()
    }

    /// As [`Stage::frame`].
    pub(super) fn frame(&mut self, waiting: usize) -> usize {
        self.stage.frame(waiting)
    }

    /// As [`Stage::output`].
    pub(super) fn output(&self) -> &[u8] {
        self.stage.output()
    }

    /// As [`Stage::advance`].
    pub(super) fn advance(&mut self, n: usize) -> usize {
        self.stage.advance(n)
    }

    /// Says goodbye, when everything else has gone out: by a close frame, or to somebody whose request took too long by an
    /// answer to that.
    pub(super) fn close(&mut self, now: Now, reason: &CloseReason) {
        if *reason == CloseReason::Timeout {
            self.stage.time_out(now);
        }
        self.stage.close(close_code(reason));
    }

    /// Until when a piece of a file must have been taken; `None` when no file is on its way.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.download.as_ref().map(|download| download.deadline())
    }

    /// Puts the next piece of a file into the output, which is empty. False when there is none.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn next_piece(&mut self, now: Now) -> io::Result<bool> {
        match &mut self.download {
            Some(download) => download.next_piece(now, self.stage.answer()),
            None => Ok(false),
        }
    }
}

/// Whether a connection comes from a program on this machine. Where the PROXY protocol is spoken, the proxy has said who
/// the client is, and the request is the client's own.
fn is_local(listener: &Listener, peer: Peer) -> bool {
    listener.proxy_protocol.is_none() && peer.ip().is_none_or(|ip| ip.to_canonical().is_loopback())
}

/// What a client is told of how its connection ends (RFC 6455, 7.4.1). C Mosquitto always says 1000.
fn close_code(reason: &CloseReason) -> CloseCode {
    use CloseReason as R;
    match reason {
        R::Shutdown => CloseCode::GOING_AWAY,
        R::Refused { .. } | R::Kicked | R::NoLongerAllowed => CloseCode::POLICY_VIOLATION,
        R::Decode(DecodeError::PacketTooLarge | DecodeError::TypeTooLarge(_)) => CloseCode::TOO_BIG,
        _ => CloseCode::NORMAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProxyProtocol;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_stage_is_at_most_128_bytes() {
        assert!(size_of::<WebSocket>() <= 128, "{}", size_of::<WebSocket>());
    }

    #[test]
    fn only_who_is_on_this_machine_can_speak_for_others() {
        let mut listener = Listener::new(1, None);
        let peer = |address: &str| Peer::new(address.parse().unwrap());
        for (address, local) in [
            ("127.0.0.1:1", true),
            ("127.8.8.8:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("[2001:db8::1]:1", false),
        ] {
            assert_eq!(is_local(&listener, peer(address)), local, "{address}");
        }
        assert!(is_local(&listener, Peer::unix(std::path::Path::new("/run/s"))));
        listener.proxy_protocol = Some(ProxyProtocol::V2);
        assert!(!is_local(&listener, peer("127.0.0.1:1")));
    }
}
