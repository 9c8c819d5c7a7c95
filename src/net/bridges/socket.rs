//! Sockets towards other brokers.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::config::bridge::Bridge;
use crate::net::read::error_text;
use crate::net::stream::Stream;
use crate::net::tls::client::ClientTls;

/// Begins a connection; whether it succeeds is known when the socket becomes writable.
///
/// # Errors
/// Why not even that is possible, in words.
pub(super) fn connect(bridge: &Bridge, bind: Option<IpAddr>, addr: SocketAddr) -> Result<TcpStream, String> {
    let words = |error: io::Error| error_text(&error).to_string();
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP)).map_err(words)?;
    socket.set_nonblocking(true).map_err(words)?;
    // The loop sends what belongs together at once; nothing is gained by waiting for more.
    socket.set_tcp_nodelay(true).map_err(words)?;
    if let Some(keepalive) = bridge.tcp_keepalive {
        let settings = TcpKeepalive::new()
            .with_time(Duration::from_secs(u64::from(keepalive.idle)))
            .with_interval(Duration::from_secs(u64::from(keepalive.interval)))
            .with_retries(keepalive.count);
        socket.set_tcp_keepalive(&settings).map_err(|error| format!("bridge_tcp_keepalive: {}", words(error)))?;
    }
    if let Some(ms) = bridge.tcp_user_timeout {
        let timeout = Some(Duration::from_millis(u64::from(ms)));
        socket.set_tcp_user_timeout(timeout).map_err(|error| format!("bridge_tcp_user_timeout: {}", words(error)))?;
    }
    if let Some(ip) = bind {
        let from = SocketAddr::new(ip, 0);
        socket.bind(&from.into()).map_err(|error| format!("bridge_bind_address {ip}: {}", words(error)))?;
    }
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(words(error)),
        _ => {}
    }
    Ok(TcpStream::from_std(StdStream::from(socket)))
}

/// Whether a connection that was begun has come to be.
///
/// # Errors
/// Why it has not.
pub(super) fn is_connected(stream: &Stream) -> io::Result<bool> {
    let Stream::Tcp(stream) = stream else { return Ok(true) };
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        // A port that nobody listens on may be the one that this socket begins at: it meets itself.
        Ok(peer) if stream.local_addr().is_ok_and(|own| own == peer) => Err(io::ErrorKind::ConnectionRefused.into()),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads what a bridge needs for TLS. What is worth telling is logged.
///
/// # Errors
/// The lines for the log, joined to one.
pub(super) fn load_tls(bridge: &Bridge) -> Result<ClientTls, String> {
    let loaded = ClientTls::load(&bridge.tls).map_err(|error| error.to_string().replace('\n', " "))?;
    for line in loaded.notes.iter().flat_map(|note| note.lines()) {
        log::warn!("{line}");
    }
    Ok(loaded.tls)
}
