//! The PROXY protocol, versions 1 and 2: what a proxy says about the client before the client's own bytes.
//! `[conf: enable_proxy_protocol]`
//!
//! A header may arrive in pieces: the caller keeps them, at most [`MAX_HEADER`] bytes, and asks again.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::wire::reader;

/// The most bytes a header may have: 16 and what version 2 says is still to come.
pub const MAX_HEADER: usize = 16 + MAX_V2_BODY;
/// Addresses and further fields of version 2.
const MAX_V2_BODY: usize = 500;
/// Bytes of a version 1 line with its end.
const MAX_V1_LINE: usize = 107;
/// How a header of version 2 starts.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The version that a listener expects; the other is not understood there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// What the bytes so far mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The header is not complete.
    NeedMore,
    /// The header, and how many bytes it had; the client's own follow.
    Header(Box<ProxyHeader>, usize),
    /// The proxy asks for itself whether somebody is here: close without a word.
    HealthCheck,
    /// No such header.
    Corrupt,
}

/// What a proxy says about the client.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ProxyHeader {
    /// The client's address; `None` when the proxy does not know, or it has none.
    pub source: Option<SocketAddr>,
    /// Set when the client speaks TLS with the proxy.
    pub tls: Option<ProxyTls>,
}

/// What a proxy says about the client's TLS.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ProxyTls {
    /// The client showed a certificate, in this connection or the session that was resumed, and it was found valid.
    pub verified_certificate: bool,
    /// The protocol version, for the log.
    pub version: Option<String>,
    /// The cipher, for the log.
    pub cipher: Option<String>,
    /// The common name of the certificate.
    pub common_name: Option<String>,
}

/// Looks at what has arrived.
#[must_use]
pub fn parse(version: ProxyVersion, bytes: &[u8]) -> Parsed {
    match version {
        ProxyVersion::V1 => parse_v1(bytes),
        ProxyVersion::V2 => parse_v2(bytes),
    }
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    const START: &[u8] = b"PROXY ";
    let common = bytes.len().min(START.len());
    if bytes.get(..common) != START.get(..common) {
        return Parsed::Corrupt;
    }
    let head = bytes.get(..bytes.len().min(MAX_V1_LINE)).unwrap_or_default();
    let Some(end) = head.windows(2).position(|two| two == b"\r\n") else {
        return if bytes.len() < MAX_V1_LINE { Parsed::NeedMore } else { Parsed::Corrupt };
    };
    let line = head.get(START.len()..end).and_then(|line| std::str::from_utf8(line).ok());
    match line.and_then(v1_source) {
        Some(source) => Parsed::Header(Box::new(ProxyHeader { source, tls: None }), end.saturating_add(2)),
        None => Parsed::Corrupt,
    }
}

/// The source of a line behind `PROXY `; the inner `None` for a client that the proxy does not know. C Mosquitto refuses
/// a bare `UNKNOWN`, which is allowed.
fn v1_source(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.split(' ');
    let address: fn(&str) -> Option<IpAddr> = match words.next()? {
        "UNKNOWN" => return Some(None),
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0 && !text.starts_with(['0', '+']));
    let source = address(words.next()?)?;
    address(words.next()?)?;
    let source_port = port(words.next()?)?;
    port(words.next()?)?;
    words.next().is_none().then_some(Some(SocketAddr::new(source, source_port)))
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let common = bytes.len().min(SIGNATURE.len());
    if bytes.get(..common) != SIGNATURE.get(..common) {
        return Parsed::Corrupt;
    }
    let Some((&[command, family, high, low], rest)) = bytes.get(SIGNATURE.len()..).and_then(<[u8]>::split_first_chunk)
    else {
        return Parsed::NeedMore;
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_V2_BODY {
        return Parsed::Corrupt;
    }
    let Some(body) = rest.get(..len) else { return Parsed::NeedMore };
    match command {
        0x20 => Parsed::HealthCheck,
        0x21 => match v2_header(family, body) {
            Some(header) => Parsed::Header(Box::new(header), len.saturating_add(16)),
            None => Parsed::Corrupt,
        },
        _ => Parsed::Corrupt,
    }
}

fn v2_header(family: u8, body: &[u8]) -> Option<ProxyHeader> {
    let (source, fields) = match family {
        0x11 => {
            let (addresses, fields) = body.split_first_chunk::<12>()?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            let source = SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low]));
            (Some(source), fields)
        }
        0x21 => {
            let (source, rest) = body.split_first_chunk::<16>()?;
            let (_, rest) = rest.split_first_chunk::<16>()?;
            let (&[high, low, _, _], fields) = rest.split_first_chunk::<4>()?;
            (Some(SocketAddr::new(Ipv6Addr::from(*source).into(), u16::from_be_bytes([high, low]))), fields)
        }
        // A UNIX stream socket: two paths, which name no client.
        0x31 => (None, body.get(216..)?),
        _ => return None,
    };
    let mut tls = None;
    let mut fields = Fields(fields);
    while let Some((kind, value)) = fields.next()? {
        if kind == 0x20 {
            tls = v2_tls(value)?;
        }
    }
    Some(ProxyHeader { source, tls })
}

/// The TLS field: the outer `None` when it is corrupt, the inner one when the client does not speak TLS.
fn v2_tls(value: &[u8]) -> Option<Option<ProxyTls>> {
    const TLS: u8 = 1;
    const CERTIFICATE: u8 = 2 | 4;
    let (&[flags, verify @ ..], fields) = value.split_first_chunk::<5>()?;
    let mut tls =
        ProxyTls { verified_certificate: flags & CERTIFICATE != 0 && verify == [0; 4], ..ProxyTls::default() };
    let mut fields = Fields(fields);
    while let Some((kind, value)) = fields.next()? {
        // The log and user names take these: what could not stand in CONNECT is none.
        let text = || reader::utf8(value);
        match kind {
            0x21 => tls.version = text().map(Into::into),
            0x22 => tls.common_name = text().map(Into::into),
            0x23 => tls.cipher = text().map(Into::into),
            _ => {}
        }
    }
    Some((flags & TLS != 0).then_some(tls))
}

/// Fields of type, length and value.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field, `Some(None)` at the end, `None` for one that is longer than what there is.
    #[allow(clippy::option_option, clippy::type_complexity)]
    fn next(&mut self) -> Option<Option<(u8, &'a [u8])>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let (&[kind, high, low], rest) = self.0.split_first_chunk::<3>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        self.0 = rest;
        Some(Some((kind, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v1(text: &str) -> Parsed {
        parse(ProxyVersion::V1, text.as_bytes())
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, body].concat()
    }

    const IPV4: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8, 0x03, 0xE8, 0x07, 0x5B];

    fn field(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
    }

    #[test]
    fn lines_of_version_1() {
        for (line, source) in [
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1000 1883\r\n", Some("1.2.3.4:1000")),
            ("PROXY TCP6 ::1 2001:db8::2 1000 1883\r\n", Some("[::1]:1000")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN whatever it says\r\n", None),
        ] {
            let Parsed::Header(header, used) = v1(&format!("{line}\x10\x0c")) else { panic!("{line}") };
            assert_eq!(used, line.len());
            assert_eq!(header.source, source.map(|text| text.parse().unwrap()), "{line}");
        }
        for line in [
            "PROXY TCP4 1.2.3.4 5.6.7.8 1000\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 0 1883\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1000 65536\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 01000 1883\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1000 1883 \r\n",
            "PROXY TCP4 ::1 ::2 1000 1883\r\n",
            "PROXY TCP6 1.2.3.4 5.6.7.8 1000 1883\r\n",
            "PROXY  TCP4 1.2.3.4 5.6.7.8 1000 1883\r\n",
            "PROXY UDP4 1.2.3.4 5.6.7.8 1000 1883\r\n",
            "proxy UNKNOWN\r\n",
            "\x10\x0c\0\x04MQTT",
            "GET / HTTP/1.1\r\n",
        ] {
            assert_eq!(v1(line), Parsed::Corrupt, "{line:?}");
        }
        let long = |n: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(n - 16));
        assert!(matches!(v1(&long(107)), Parsed::Header(_, 107)));
        assert_eq!(v1(&long(108)), Parsed::Corrupt);
    }

    #[test]
    fn headers_of_version_2() {
        let tls =
            [&[7, 0, 0, 0, 0][..], &field(0x21, b"TLSv1.3"), &field(0x23, b"AES"), &field(0x22, b"alice")].concat();
        let bytes = v2(0x21, 0x11, &[IPV4, &field(0x03, b"crc!"), &field(0x20, &tls)].concat());
        let Parsed::Header(header, used) = parse(ProxyVersion::V2, &[&bytes[..], b"\x10"].concat()) else {
            panic!("a header")
        };
        assert_eq!((used, header.source), (bytes.len(), Some("1.2.3.4:1000".parse().unwrap())));
        let tls = header.tls.expect("TLS");
        assert!(tls.verified_certificate);
        assert_eq!(
            (tls.version.as_deref(), tls.cipher.as_deref(), tls.common_name.as_deref()),
            (Some("TLSv1.3"), Some("AES"), Some("alice"))
        );

        let mut ipv6 = [0; 36];
        (ipv6[15], ipv6[32], ipv6[33]) = (1, 3, 0xE8);
        let header = |bytes: &[u8]| match parse(ProxyVersion::V2, bytes) {
            Parsed::Header(header, _) => *header,
            other => panic!("{other:?}"),
        };
        assert_eq!(header(&v2(0x21, 0x21, &ipv6)).source, Some("[::1]:1000".parse().unwrap()));
        assert_eq!(header(&v2(0x21, 0x31, &[0; 216])), ProxyHeader::default());
        assert_eq!(parse(ProxyVersion::V2, &v2(0x20, 0, &[])), Parsed::HealthCheck);
        for (flags, verify, verified) in [(1, 0, false), (3, 0, true), (5, 0, true), (3, 1, false)] {
            let bytes = v2(0x21, 0x11, &[IPV4, &field(0x20, &[flags, 0, 0, 0, verify])].concat());
            assert_eq!(header(&bytes).tls.map(|tls| tls.verified_certificate), Some(verified), "{flags} {verify}");
        }
        assert_eq!(header(&v2(0x21, 0x11, &[IPV4, &field(0x20, &[6, 0, 0, 0, 0])].concat())).tls, None, "no TLS");
    }

    #[test]
    fn corrupt_headers_of_version_2() {
        for bytes in [
            v2(0x21, 0x12, IPV4),
            v2(0x21, 0x00, IPV4),
            v2(0x22, 0x11, IPV4),
            v2(0x11, 0x11, IPV4),
            v2(0x21, 0x11, &IPV4[..11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x11, &[IPV4, &[0x20]].concat()),
            v2(0x21, 0x11, &[IPV4, &[0x20, 0, 9, 1]].concat()),
            v2(0x21, 0x11, &[IPV4, &field(0x20, &[1, 0, 0])].concat()),
            v2(0x21, 0x11, &[IPV4, &field(0x20, &[1, 0, 0, 0, 0, 0x22, 0, 1])].concat()),
            v2(0x21, 0x11, &[0; 501]),
            b"PROXY UNKNOWN\r\n".to_vec(),
        ] {
            assert_eq!(parse(ProxyVersion::V2, &bytes), Parsed::Corrupt, "{bytes:02X?}");
        }
        let name = [&[3, 0, 0, 0, 0][..], &field(0x22, b"a\nb")].concat();
        let Parsed::Header(header, _) = parse(ProxyVersion::V2, &v2(0x21, 0x11, &[IPV4, &field(0x20, &name)].concat()))
        else {
            panic!("a header")
        };
        assert_eq!(header.tls.expect("TLS").common_name, None, "a name with a line break is none");
    }

    #[test]
    fn a_header_in_pieces_is_waited_for() {
        let v1 = b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 1883\r\n".to_vec();
        let v2 = v2(0x21, 0x11, &[IPV4, &field(0x20, &[1, 0, 0, 0, 0])].concat());
        for (version, bytes) in [(ProxyVersion::V1, v1), (ProxyVersion::V2, v2)] {
            for end in 0..bytes.len() {
                assert_eq!(parse(version, &bytes[..end]), Parsed::NeedMore, "{version:?} {end}");
            }
            assert!(matches!(parse(version, &bytes), Parsed::Header(_, used) if used == bytes.len()));
        }
    }
}
