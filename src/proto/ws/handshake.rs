//! What an HTTP request on a WebSocket listener gets: the upgrade (RFC 6455, 4.2), a file, or a refusal.
//!
//! C Mosquitto closes the connection without a word where this refuses, and does not look at lists of sub-protocols.

use core::net::{IpAddr, SocketAddr};

use super::files::FileRequest;
use crate::digest;
use crate::proto::http::{BadHead, RequestHead};

/// What RFC 6455, 1.3 appends to the key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The sub-protocols that we speak [MQTT-6.0.0-4]; the second is that of MQTT 3.1.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// What the listener allows.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The most bytes of a request's head `[conf: packet_buffer_size]`.
    pub max_head: usize,
    /// Values allowed in `Origin`; empty is any `[conf: websockets_origin]`.
    pub origins: &'a [String],
    /// Requests without an upgrade get files `[conf: http_dir]`.
    pub files: bool,
    /// The connection comes from this machine: the proxy there is believed when it says for whom.
    pub local: bool,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The connection becomes a WebSocket.
    Upgrade(Upgrade),
    /// A file is asked for.
    File(FileRequest),
    /// Refused.
    Refuse(Refusal),
}

/// An upgrade that is agreed on.
#[derive(Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// `Sec-WebSocket-Accept`.
    pub accept: String,
    /// The sub-protocol.
    pub protocol: &'static str,
    /// The client that the proxy speaks for, and its port where it is told.
    pub forwarded: Option<(IpAddr, Option<u16>)>,
}

/// An answer to a request that cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Number and name of the status.
    pub status: &'static str,
    /// A further header field, with its end.
    field: &'static str,
    text: &'static str,
}

impl Refusal {
    const fn new(status: &'static str, text: &'static str) -> Refusal {
        Refusal { status, field: "", text }
    }

    /// `Origin` is none of those allowed.
    pub const ORIGIN: Refusal = Refusal::new("403 Forbidden", "Pages of this origin may not connect.\n");
    /// There is no such file.
    pub const NOT_FOUND: Refusal = Refusal::new("404 Not Found", "There is nothing here.\n");
    /// The head did not come in time.
    pub const TIMEOUT: Refusal = Refusal::new("408 Request Timeout", "The request took too long.\n");

    pub(super) const fn bad(text: &'static str) -> Refusal {
        Refusal::new("400 Bad Request", text)
    }

    pub(super) const fn method(allow: &'static str) -> Refusal {
        Refusal { status: "405 Method Not Allowed", field: allow, text: "Not with this method.\n" }
    }

    const VERSION: Refusal = Refusal {
        status: "426 Upgrade Required",
        field: "Sec-WebSocket-Version: 13\r\n",
        text: "Version 13 of WebSocket is spoken here.\n",
    };

    /// Appends the answer.
    pub(super) fn put(&self, out: &mut Vec<u8>, date: &str, body: bool) {
        let Refusal { status, field, text } = self;
        let head = format!(
            "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             {field}Connection: close\r\n\r\n",
            text.len()
        );
        out.extend_from_slice(head.as_bytes());
        if body {
            out.extend_from_slice(text.as_bytes());
        }
    }
}

impl From<BadHead> for Refusal {
    fn from(error: BadHead) -> Refusal {
        match error {
            BadHead::Malformed => Refusal::bad("This is not an HTTP request.\n"),
            BadHead::Version => Refusal::new("505 HTTP Version Not Supported", "HTTP/1.1 is spoken here.\n"),
            BadHead::TooLarge => Refusal::new("431 Request Header Fields Too Large", "The request is too large.\n"),
        }
    }
}

impl Upgrade {
    /// Appends the answer.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let Upgrade { accept, protocol, .. } = self;
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
        );
        out.extend_from_slice(head.as_bytes());
    }
}

/// Decides on a request.
#[must_use]
pub fn decide(head: &RequestHead<'_>, options: &Options<'_>) -> Decision {
    if tokens(head, "upgrade").any(|token| token.eq_ignore_ascii_case(b"websocket")) {
        upgrade(head, options).map_or_else(Decision::Refuse, Decision::Upgrade)
    } else if options.files {
        FileRequest::of(head).map_or_else(Decision::Refuse, Decision::File)
    } else {
        Decision::Refuse(Refusal::NOT_FOUND)
    }
}

/// Any path will do, and `Host` may be missing: clients of the original get by without.
fn upgrade(head: &RequestHead<'_>, options: &Options<'_>) -> Result<Upgrade, Refusal> {
    if head.method != "GET" {
        return Err(Refusal::method("Allow: GET\r\n"));
    }
    if !head.is_11 || head.announces_body() {
        return Err(Refusal::bad("An upgrade is a request of HTTP/1.1 without a body.\n"));
    }
    if !tokens(head, "connection").any(|token| token.eq_ignore_ascii_case(b"upgrade")) {
        return Err(Refusal::bad("The Connection field does not say Upgrade.\n"));
    }
    if single(head, "sec-websocket-version") != Some(b"13") {
        return Err(Refusal::VERSION);
    }
    let Some(key) = single(head, "sec-websocket-key").filter(|key| is_key(key)) else {
        return Err(Refusal::bad("The Sec-WebSocket-Key field is missing or wrong.\n"));
    };
    // A client without the field is no page, and could claim any origin.
    let allowed = |origin: &[u8]| options.origins.iter().any(|allowed| allowed.as_bytes() == origin);
    if !options.origins.is_empty() && !head.values("origin").all(allowed) {
        return Err(Refusal::ORIGIN);
    }
    let ours = |token: &[u8]| PROTOCOLS.into_iter().find(|name| name.as_bytes() == token);
    let Some(protocol) = tokens(head, "sec-websocket-protocol").find_map(ours) else {
        return Err(Refusal::bad("The Sec-WebSocket-Protocol field offers neither mqtt nor mqttv3.1.\n"));
    };
    let accept = digest::to_base64(&digest::sha1(&[key, GUID]));
    let forwarded = if options.local { forwarded(head) } else { None };
    Ok(Upgrade { accept, protocol, forwarded })
}

/// The elements of all fields with this name, which hold lists.
fn tokens<'a>(head: &'a RequestHead<'_>, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let elements = head.values(name).flat_map(|value| value.split(|b| *b == b','));
    elements.map(<[u8]>::trim_ascii)
}

/// The value of a field that has to be there once.
fn single<'a>(head: &'a RequestHead<'_>, name: &'a str) -> Option<&'a [u8]> {
    let mut values = head.values(name);
    values.next().filter(|_| values.next().is_none()).map(<[u8]>::trim_ascii)
}

/// Whether these are 16 bytes in base64. The four bits that are left over are not looked at: some clients draw letters
/// instead of bytes.
fn is_key(key: &[u8]) -> bool {
    let digits = key.strip_suffix(b"==").unwrap_or_default();
    digits.len() == 22 && digits.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

/// The last address of `X-Forwarded-For`, with its port where there is one: that one the proxy beside us wrote itself.
/// Those before it are what the client, or a proxy that nobody vouches for, has claimed.
fn forwarded(head: &RequestHead<'_>) -> Option<(IpAddr, Option<u16>)> {
    let last = tokens(head, "x-forwarded-for").last()?;
    let text = std::str::from_utf8(last).ok()?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip(), Some(address.port())));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(|ip| (ip, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::MAX_HEAD;

    const OPTIONS: Options<'_> = Options { max_head: MAX_HEAD, origins: &[], files: false, local: false };

    fn decided(text: &str, options: &Options<'_>) -> Decision {
        decide(&RequestHead::parse(text.as_bytes(), MAX_HEAD).unwrap().unwrap(), options)
    }

    /// A good request with some lines replaced or added; a line ending in `:` takes the field away.
    fn request(changes: &[&str]) -> String {
        let mut lines = vec![
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: mqtt",
        ];
        let name = |line: &str| line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        for change in changes {
            lines.retain(|line| name(line) != name(change));
        }
        lines.extend(changes.iter().filter(|line| !line.ends_with(':')));
        format!("GET /mqtt HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"))
    }

    /// The sub-protocol, or the number of the refusal.
    fn outcome(text: &str, options: &Options<'_>) -> String {
        match decided(text, options) {
            Decision::Upgrade(upgrade) => upgrade.protocol.into(),
            Decision::Refuse(refusal) => refusal.status[..3].into(),
            Decision::File(file) => format!("file {}", file.path),
        }
    }

    #[test]
    fn the_example_of_the_specification_is_answered_as_there() {
        let Decision::Upgrade(upgrade) = decided(&request(&[]), &OPTIONS) else { panic!("refused") };
        let mut out = Vec::new();
        upgrade.put(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
    }

    #[test]
    fn fields_are_read_as_lists_in_any_case() {
        for (changes, expected) in [
            (&["UPGRADE: WebSocket", "connection: keep-alive, UPGRADE"][..], "mqtt"),
            (&["Upgrade: h2c", "upgrade:  foo , websocket"], "mqtt"),
            (&["Upgrade: websockets"], "404"),
            (&["Upgrade:"], "404"),
            (&["Connection: keep-alive"], "400"),
            (&["Connection:"], "400"),
            (&["Connection: close", "Connection: upgrade"], "mqtt"),
            (&["Sec-WebSocket-Version:"], "426"),
            (&["Sec-WebSocket-Version: 8"], "426"),
            (&["Sec-WebSocket-Version: 13, 8"], "426"),
            (&["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"], "426"),
            (&["Sec-WebSocket-Key:"], "400"),
            (&["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"], "400"),
            (&["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ==="], "400"),
            (&["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEyMw=="], "400"),
            (&["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZx=="], "mqtt"),
            (&["Sec-WebSocket-Key: a", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], "400"),
            (&["Host:"], "mqtt"),
            (&["Content-Length: 5"], "400"),
            (&["Transfer-Encoding: chunked"], "400"),
            (&["Content-Length: 0"], "mqtt"),
        ] {
            assert_eq!(outcome(&request(changes), &OPTIONS), expected, "{changes:?}");
        }
        assert_eq!(outcome(&request(&[]).replace("GET", "POST"), &OPTIONS), "405");
        assert_eq!(outcome(&request(&[]).replace("GET", "get"), &OPTIONS), "405");
        assert_eq!(outcome(&request(&[]).replace("HTTP/1.1", "HTTP/1.0"), &OPTIONS), "400");
        assert_eq!(outcome(&request(&[]).replace("/mqtt", "http://a/b?c"), &OPTIONS), "mqtt");
    }

    #[test]
    fn the_first_sub_protocol_that_is_known_here_is_chosen() {
        for (lines, expected) in [
            (&["Sec-WebSocket-Protocol: mqttv3.1"][..], "mqttv3.1"),
            (&["Sec-WebSocket-Protocol: mqtt, mqttv3.1"], "mqtt"),
            (&["Sec-WebSocket-Protocol: mqttv3.1,mqtt"], "mqttv3.1"),
            (&["Sec-WebSocket-Protocol: chat,,  mqtt"], "mqtt"),
            (&["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: mqttv3.1"], "mqttv3.1"),
            (&["Sec-WebSocket-Protocol: m"], "400"),
            (&["Sec-WebSocket-Protocol: MQTT"], "400"),
            (&["Sec-WebSocket-Protocol: mqttv3.11"], "400"),
            (&["Sec-WebSocket-Protocol:"], "400"),
        ] {
            assert_eq!(outcome(&request(lines), &OPTIONS), expected, "{lines:?}");
        }
    }

    #[test]
    fn an_origin_has_to_be_one_of_those_allowed() {
        let origins = ["https://a".to_owned(), "https://b:1".to_owned()];
        let options = Options { origins: &origins, ..OPTIONS };
        for (lines, expected) in [
            (&["Origin: https://a"][..], "mqtt"),
            (&["Origin: https://b:1"], "mqtt"),
            (&[], "mqtt"),
            (&["Origin: https://"], "403"),
            (&["Origin: https://a.example"], "403"),
            (&["Origin: https://b"], "403"),
            (&["Origin: null"], "403"),
            (&["Origin: https://a", "Origin: https://c"], "403"),
        ] {
            assert_eq!(outcome(&request(lines), &options), expected, "{lines:?}");
            assert_eq!(outcome(&request(lines), &OPTIONS), "mqtt", "{lines:?}");
        }
    }

    #[test]
    fn only_a_proxy_on_this_machine_is_believed_and_only_what_it_wrote_itself() {
        for (lines, expected) in [
            (&["X-Forwarded-For: 203.0.113.7"][..], Some(("203.0.113.7", None))),
            (&["X-Forwarded-For: 1.1.1.1, 203.0.113.7"], Some(("203.0.113.7", None))),
            (&["X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 2001:db8::1"], Some(("2001:db8::1", None))),
            (&["X-Forwarded-For: [2001:db8::1]"], Some(("2001:db8::1", None))),
            (&["X-Forwarded-For: [2001:db8::1]:5"], Some(("2001:db8::1", Some(5)))),
            (&["X-Forwarded-For: 203.0.113.7:65535"], Some(("203.0.113.7", Some(65535)))),
            (&["X-Forwarded-For: unknown"], None),
            (&["X-Forwarded-For: 1.1.1.1, \u{1b}[2J"], None),
            (&["X-Forwarded-For: 1.1.1.1,"], None),
            (&[], None),
        ] {
            // Escapes are no text of a head; nothing more than that has to be refused here.
            let text = request(lines);
            let Ok(Some(head)) = RequestHead::parse(text.as_bytes(), MAX_HEAD) else { continue };
            for local in [true, false] {
                let Decision::Upgrade(upgrade) = decide(&head, &Options { local, ..OPTIONS }) else {
                    panic!("refused")
                };
                let got = upgrade.forwarded.map(|(ip, port)| (ip.to_string(), port));
                let expected = expected.filter(|_| local).map(|(ip, port)| (ip.to_owned(), port));
                assert_eq!(got, expected, "{lines:?}");
            }
        }
    }

    #[test]
    fn a_request_without_upgrade_gets_a_file_where_there_are_files() {
        let files = Options { files: true, ..OPTIONS };
        for (text, with, without) in [
            ("GET /a/b HTTP/1.1\r\nHost: h\r\n\r\n", "file a/b", "404"),
            ("GET /a/../b HTTP/1.1\r\nHost: h\r\n\r\n", "404", "404"),
            ("GET /a HTTP/1.1\r\n\r\n", "400", "404"),
            ("POST /a HTTP/1.1\r\nHost: h\r\n\r\n", "405", "404"),
        ] {
            assert_eq!((outcome(text, &files), outcome(text, &OPTIONS)), (with.into(), without.into()), "{text}");
        }
        assert_eq!(outcome(&request(&["Connection:"]), &files), "400");
    }
}
