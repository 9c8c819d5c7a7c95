//! Plain requests on a listener with a directory of files `[conf: http_dir]`: which path may be asked for, and the heads of
//! the answers. Whoever opens the file is elsewhere.

use super::handshake::Refusal;
use crate::proto::http::RequestHead;

/// What a file is called, and what it is. Everything else is bytes, which browsers offer to save.
const TYPES: [(&str, &str); 22] = [
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("gif", "image/gif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "application/xml"),
];

/// A request for a file below the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRequest {
    /// Where it is, seen from the directory: names separated by single slashes, none of them `.` or `..`, no NUL, no
    /// backslash. Empty for the directory itself.
    pub path: String,
    /// The path ended in a slash, so a directory is meant.
    pub slash: bool,
    /// The content is wanted, not only the head.
    pub body: bool,
}

impl FileRequest {
    /// What the request asks for.
    pub(super) fn of(head: &RequestHead<'_>) -> Result<FileRequest, Refusal> {
        if head.method != "GET" && head.method != "HEAD" {
            return Err(Refusal::method("Allow: GET, HEAD\r\n"));
        }
        if !head.has_valid_host() {
            return Err(Refusal::bad("The Host field is missing or wrong.\n"));
        }
        if head.announces_body() {
            return Err(Refusal::bad("A request with a body is not answered.\n"));
        }
        let path = head.path().ok_or(Refusal::NOT_FOUND)?;
        let mut names = Vec::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let name = decode(name).filter(|name| is_plain(name)).ok_or(Refusal::NOT_FOUND)?;
            names.push(name);
        }
        Ok(FileRequest { path: names.join("/"), slash: path.ends_with('/'), body: head.method == "GET" })
    }

    /// Appends the head of an answer with a file of this length, called `name`.
    pub fn put_head(&self, out: &mut Vec<u8>, date: &str, name: &str, len: u64) {
        let kind = content_type(name);
        let head = format!(
            "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        );
        out.extend_from_slice(head.as_bytes());
    }

    /// Appends the answer to a request for a directory without the slash, which the links of its page need.
    pub fn put_redirect(&self, out: &mut Vec<u8>, date: &str) {
        let mut location = String::from("/");
        for byte in self.path.bytes() {
            if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
                location.push(byte.into());
            } else {
                location.push_str(&format!("%{byte:02X}"));
            }
        }
        let head = format!(
            "HTTP/1.1 301 Moved Permanently\r\nDate: {date}\r\nLocation: {location}/\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
        out.extend_from_slice(head.as_bytes());
    }

    /// Appends the answer to a request for what is not there, or may not be read.
    pub fn put_not_found(&self, out: &mut Vec<u8>, date: &str) {
        Refusal::NOT_FOUND.put(out, date, self.body);
    }
}

/// One name of a path with its `%XX` decoded; `None` when that is no text.
fn decode(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high.checked_mul(16)?.checked_add(low)?).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Whether a name means a file and nothing else.
fn is_plain(name: &str) -> bool {
    name != "." && name != ".." && !name.contains(['/', '\\']) && !name.chars().any(char::is_control)
}

/// What a file of this name holds.
fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let found = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension));
    found.map_or("application/octet-stream", |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::MAX_HEAD;

    fn asked(line: &str) -> Result<FileRequest, &'static str> {
        let text = format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = RequestHead::parse(text.as_bytes(), MAX_HEAD).unwrap().unwrap();
        FileRequest::of(&head).map_err(|refusal| &refusal.status[..3])
    }

    #[test]
    fn no_path_leads_out_of_the_directory() {
        for (target, path) in [
            ("/", Some("")),
            ("/index.html", Some("index.html")),
            ("/a//b/?c=/../d", Some("a/b")),
            ("//etc/passwd", Some("etc/passwd")),
            ("/a%20b%C3%A9", Some("a bé")),
            ("/%252e%252e", Some("%2e%2e")),
            ("/...", Some("...")),
            ("http://h/a", Some("a")),
            ("/..", None),
            ("/../a", None),
            ("/a/./b", None),
            ("/a/%2e%2E/b", None),
            ("/a/.%2e", None),
            ("/a%2fb", None),
            ("/a%2F..%2Fb", None),
            ("/a\\..\\b", None),
            ("/a%5C..", None),
            ("/a%00", None),
            ("/a%0A", None),
            ("/a%7F", None),
            ("/a%", None),
            ("/a%4", None),
            ("/a%+4", None),
            ("/a%zz", None),
            ("/%FF", None),
            ("*", None),
        ] {
            let got = asked(&format!("GET {target}"));
            assert_eq!(got.as_ref().map(|file| &*file.path), path.ok_or(&"404"), "{target}");
        }
    }

    #[test]
    fn methods_and_slashes_are_told_apart() {
        let file = |path: &str, slash, body| Ok(FileRequest { path: path.into(), slash, body });
        assert_eq!(asked("GET /a/"), file("a", true, true));
        assert_eq!(asked("HEAD /a"), file("a", false, false));
        for method in ["POST", "PUT", "OPTIONS", "get", "CONNECT"] {
            assert_eq!(asked(&format!("{method} /a")), Err("405"));
        }
    }

    #[test]
    fn names_say_what_files_hold() {
        for (name, kind) in [
            ("index.html", "text/html; charset=utf-8"),
            ("A.JS", "text/javascript; charset=utf-8"),
            ("a.min.css", "text/css; charset=utf-8"),
            ("a.svg", "image/svg+xml"),
            ("a", "application/octet-stream"),
            ("html", "application/octet-stream"),
            ("a.exe", "application/octet-stream"),
        ] {
            assert_eq!(content_type(name), kind, "{name}");
        }
    }

    #[test]
    fn a_directory_is_found_again_with_its_slash() {
        let mut out = Vec::new();
        FileRequest { path: "a b/\u{e9}\"".into(), slash: false, body: true }.put_redirect(&mut out, "D");
        assert!(String::from_utf8(out).unwrap().contains("\r\nLocation: /a%20b/%C3%A9%22/\r\n"));
    }
}
