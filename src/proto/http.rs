//! The head of an HTTP/1.x request [RFC 9112], for whatever begins with one: the metrics page and upgrades of a
//! connection. Sans-io, and the only user of `httparse`. Bodies are not read here.

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

use httparse::{EMPTY_HEADER, Header, Status};

/// Bytes of a head that are taken, unless configured.
pub const MAX_HEAD: usize = 4096;
/// Header fields of a head that are taken.
pub const MAX_FIELDS: usize = 64;

/// A complete request line with its header fields, borrowed from the input.
#[derive(Debug)]
pub struct RequestHead<'a> {
    /// The method; methods are case-sensitive.
    pub method: &'a str,
    /// The request target as it came.
    pub target: &'a str,
    /// HTTP/1.1, else HTTP/1.0.
    pub is_11: bool,
    /// Bytes of the head with the empty line behind it: what follows is a body or the next request.
    pub len: usize,
    fields: [Header<'a>; MAX_FIELDS],
}

/// Why a head is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadHead {
    /// These bytes are not the start of a request.
    Malformed,
    /// Another version of HTTP than 1.0 and 1.1.
    Version,
    /// More bytes or more header fields than are taken.
    TooLarge,
}

impl RequestHead<'_> {
    /// Reads a head of at most `max_len` bytes from the start of `input`; `None` while it is incomplete.
    ///
    /// # Errors
    /// What is wrong with it, as soon as that is certain.
    pub fn parse(input: &[u8], max_len: usize) -> Result<Option<RequestHead<'_>>, BadHead> {
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let len = match request.parse(input) {
            Ok(Status::Complete(len)) if len <= max_len => len,
            Ok(Status::Partial) if input.len() < max_len => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooLarge),
            Err(httparse::Error::Version) => return Err(BadHead::Version),
            Err(_) => return Err(BadHead::Malformed),
        };
        let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
            return Err(BadHead::Malformed);
        };
        Ok(Some(RequestHead { method, target, is_11: minor == 1, len, fields }))
    }

    /// The values of every header field with this name, in whatever case.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        // Unused places of the table have no name.
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Whether the head announces a body: `Transfer-Encoding`, or a `Content-Length` that is not plainly 0.
    #[must_use]
    pub fn announces_body(&self) -> bool {
        self.values("transfer-encoding").next().is_some() || self.values("content-length").any(|len| len != b"0")
    }

    /// Whether `Host` is as it has to be: exactly one in HTTP/1.1, at most one in 1.0, and nothing in it that is no host
    /// and port [RFC 9112 3.2].
    #[must_use]
    pub fn has_valid_host(&self) -> bool {
        let mut hosts = self.values("host");
        match (hosts.next(), hosts.next()) {
            (None, _) => !self.is_11,
            (Some(host), None) => host.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(b)),
            (Some(_), Some(_)) => false,
        }
    }

    /// The path of the target without the query, also when the target is a whole `http` address, as proxies send it.
    /// `None` for forms that name no path.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        let mut rest = self.target;
        if !rest.starts_with('/') {
            let after = ["http://", "https://"].iter().find_map(|scheme| {
                let (own, after) = rest.split_at_checked(scheme.len())?;
                own.eq_ignore_ascii_case(scheme).then_some(after)
            })?;
            let host = after.bytes().position(|b| matches!(b, b'/' | b'?')).unwrap_or(after.len());
            rest = after.get(host..).unwrap_or_default();
        }
        let end = rest.bytes().position(|b| b == b'?').unwrap_or(rest.len());
        let path = rest.get(..end).unwrap_or_default();
        Some(if path.is_empty() { "/" } else { path })
    }
}

/// The time as the `Date` field wants it, such as `Sun, 06 Nov 1994 08:49:37 GMT` [RFC 9110 5.6.7].
#[must_use]
#[allow(clippy::arithmetic_side_effects, reason = "the clock is no stranger's input, and it is cut to the year 9999")]
pub fn date(wall_s: u64) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [(&str, u64); 12] = [
        ("Jan", 31),
        ("Feb", 28),
        ("Mar", 31),
        ("Apr", 30),
        ("May", 31),
        ("Jun", 30),
        ("Jul", 31),
        ("Aug", 31),
        ("Sep", 30),
        ("Oct", 31),
        ("Nov", 30),
        ("Dec", 31),
    ];
    let wall_s = wall_s.min(253_402_300_799);
    let weekday = WEEKDAYS.iter().cycle().nth((wall_s / 86_400 % 7) as usize).unwrap_or(&"");
    let (mut day, mut year) = (wall_s / 86_400, 1970);
    let leap = |year: u64| u64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    while day >= 365 + leap(year) {
        day -= 365 + leap(year);
        year += 1;
    }
    let mut month = "";
    for (name, days) in MONTHS {
        month = name;
        let days = days + if name == "Feb" { leap(year) } else { 0 };
        if day < days {
            break;
        }
        day -= days;
    }
    let (hour, minute, second) = (wall_s / 3600 % 24, wall_s / 60 % 60, wall_s % 60);
    format!("{weekday}, {:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<RequestHead<'_>>, BadHead> {
        RequestHead::parse(text.as_bytes(), MAX_HEAD)
    }

    fn whole(text: &str) -> RequestHead<'_> {
        parse(text).unwrap().unwrap()
    }

    #[test]
    fn a_head_is_taken_apart_and_what_follows_is_left() {
        let head = whole("\r\nGET /a?b HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a:  two \r\n\r\nGET /next");
        assert_eq!((head.method, head.target, head.is_11), ("GET", "/a?b", true));
        assert_eq!(head.values("X-a").collect::<Vec<_>>(), [&b"1"[..], b"two"]);
        assert_eq!(head.values("y").count(), 0);
        assert_eq!(head.len, "\r\nGET /a?b HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a:  two \r\n\r\n".len());
        assert!(!whole("GET / HTTP/1.0\n\n").is_11);
    }

    #[test]
    fn a_part_of_a_head_waits_for_the_rest() {
        let text = "GET /metrics HTTP/1.1\r\nHost: localhost:9234\r\nAccept: */*\r\n\r\n";
        for end in 0..text.len() {
            assert!(parse(&text[..end]).unwrap().is_none(), "{end}");
        }
        assert!(parse(text).unwrap().is_some());
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(MAX_HEAD));
        for (text, why) in [
            ("\x10\x0c\0\x04MQTT", BadHead::Malformed),
            ("\x16\x03\x01\x02\0", BadHead::Malformed),
            (" GET / HTTP/1.1\r\n\r\n", BadHead::Malformed),
            ("GET /\r\n\r\n", BadHead::Malformed),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n", BadHead::Malformed),
            ("GET / HTTP/1.1\r\nA : b\r\n\r\n", BadHead::Malformed),
            ("GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", BadHead::Malformed),
            ("GET /\0 HTTP/1.1\r\n\r\n", BadHead::Malformed),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BadHead::Version),
            ("GET / HTTP/1.2\r\n\r\n", BadHead::Version),
            (&many, BadHead::TooLarge),
            (&long, BadHead::TooLarge),
            (&long[..MAX_HEAD], BadHead::TooLarge),
            (&"\r\n".repeat(MAX_HEAD), BadHead::TooLarge),
        ] {
            assert_eq!(parse(text).err(), Some(why), "{text:?}");
        }
        assert!(parse(&long[..MAX_HEAD - 1]).unwrap().is_none());
    }

    #[test]
    fn the_path_is_found_in_every_form_of_target() {
        for (target, path) in [
            ("/metrics", Some("/metrics")),
            ("/metrics?a=/b", Some("/metrics")),
            ("/", Some("/")),
            ("//metrics", Some("//metrics")),
            ("http://h:1/metrics?x", Some("/metrics")),
            ("HTTPS://h", Some("/")),
            ("http://h?/metrics", Some("/")),
            ("ftp://h/metrics", None),
            ("*", None),
            ("host:80", None),
            ("metrics", None),
        ] {
            assert_eq!(whole(&format!("GET {target} HTTP/1.0\r\n\r\n")).path(), path, "{target}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (wall_s, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(date(wall_s), text);
        }
    }

    #[test]
    fn host_is_there_once() {
        for (lines, v10, v11) in [
            ("", true, false),
            ("Host: a\r\n", true, true),
            ("Host:\r\n", true, true),
            ("Host: [::1]:9234\r\n", true, true),
            ("Host: a\r\nhost: a\r\n", false, false),
            ("Host: a b\r\n", false, false),
            ("Host: a/b\r\n", false, false),
        ] {
            for (version, valid) in [("1.0", v10), ("1.1", v11)] {
                let text = format!("GET / HTTP/{version}\r\n{lines}\r\n");
                assert_eq!(whole(&text).has_valid_host(), valid, "{text:?}");
            }
        }
    }

    #[test]
    fn a_body_is_announced_by_length_or_coding() {
        for (lines, body) in [
            ("", false),
            ("Content-Length: 0\r\n", false),
            ("Content-Length: 1\r\n", true),
            ("Content-Length: -0\r\n", true),
            ("Content-Length: 0\r\ncontent-length: 7\r\n", true),
            ("Transfer-Encoding: chunked\r\n", true),
        ] {
            assert_eq!(whole(&format!("GET / HTTP/1.0\r\n{lines}\r\n")).announces_body(), body, "{lines:?}");
        }
    }
}
