//! PROXY headers: however a header is cut it means the same, what follows it belongs to the client, and nothing is waited
//! for beyond the bound.

use mosquitto::proto::proxy::{MAX_HEADER, Parsed, ProxyHeader, ProxyVersion, parse};

use super::byte;

/// First byte: the version that is expected. The rest is what the peer sends.
pub fn proxy(mut data: &[u8]) {
    let version = if byte(&mut data) & 1 == 0 { ProxyVersion::V1 } else { ProxyVersion::V2 };
    let whole = parse(version, data);
    // Where it was decided, and that nothing was before.
    let decided = (0..=data.len()).find(|len| parse(version, &data[..*len]) != Parsed::NeedMore);
    let Some(at) = decided else {
        assert!(data.len() < MAX_HEADER, "waits for more than a header can have");
        return;
    };
    assert!(at <= MAX_HEADER);
    let first = parse(version, &data[..at]);
    for len in at..data.len().min(at + 64) {
        assert_eq!(parse(version, &data[..len]), first, "more bytes change what it means");
    }
    assert_eq!(whole, first);
    if let Parsed::Header(header, len) = whole {
        assert_eq!(len, at, "a header is complete with its last byte");
        check(version, &header, &data[..len]);
    }
}

fn check(version: ProxyVersion, header: &ProxyHeader, bytes: &[u8]) {
    if let (ProxyVersion::V1, Some(source)) = (version, header.source) {
        let text = std::str::from_utf8(bytes).expect("a line of text");
        let (family, host, port) = (if source.is_ipv4() { "TCP4" } else { "TCP6" }, source.ip(), source.port());
        let again = format!("PROXY {family} {host} {host} {port} {port}\r\n");
        let Parsed::Header(same, _) = parse(version, again.as_bytes()) else { panic!("{again:?}") };
        assert_eq!(same.source, Some(source));
        assert!(text.ends_with("\r\n") && text.len() <= 107);
    }
    let Some(tls) = &header.tls else { return };
    assert_eq!(version, ProxyVersion::V2);
    for text in [&tls.version, &tls.cipher, &tls.common_name].into_iter().flatten() {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}
