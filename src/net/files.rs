//! Files of a listener's directory, on their way to whoever asked for one `[conf: http_dir]`. Read piece by piece, as the
//! socket takes them: a file is never in memory as a whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::os::beneath::{self, Found};
use crate::proto::http;
use crate::proto::server::HIGH_WATER;
use crate::proto::ws::files::FileRequest;
use crate::timer::Now;

/// How long a peer may take for one piece.
const PIECE_MS: u64 = 30_000;

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Download {
    /// The file and how many bytes of it are still to be read; `None` when there are none.
    content: Option<(File, u64)>,
    deadline_ms: u64,
}

impl Download {
    /// Answers a request: appends the head to `out`, and opens the file if its content is wanted.
    pub(super) fn new(now: Now, root: Option<&Path>, request: &FileRequest, out: &mut Vec<u8>) -> Download {
        let date = http::date(now.wall_s);
        let mut content = None;
        match root.ok_or_else(|| io::ErrorKind::NotFound.into()).and_then(|root| find(root, request)) {
            Ok(Some((name, file, len))) => {
                request.put_head(out, &date, name, len);
                content = Some((file, len)).filter(|_| request.body && len > 0);
            }
            Ok(None) => request.put_redirect(out, &date),
            // Whatever the reason: a stranger learns no more than that.
            Err(_) => request.put_not_found(out, &date),
        }
        Download { content, deadline_ms: now.mono_ms + PIECE_MS }
    }

    /// When the peer must have taken the present piece, in milliseconds.
    pub(super) fn deadline(&self) -> u64 {
        self.deadline_ms
    }

    /// Puts the next piece into `out`, which is empty. False when there is none.
    ///
    /// # Errors
    /// What the system says, also when the file has become shorter: the length was promised.
    pub(super) fn next_piece(&mut self, now: Now, out: &mut Vec<u8>) -> io::Result<bool> {
        let Some((file, left)) = &mut self.content else { return Ok(false) };
        self.deadline_ms = now.mono_ms + PIECE_MS;
        let piece = (HIGH_WATER as u64).min(*left);
        let read = file.by_ref().take(piece).read_to_end(out)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= read as u64;
        if *left == 0 {
            self.content = None;
        }
        Ok(true)
    }
}

/// The name of the file that is meant, the file and its length; `None` when it is a directory's that was asked for without
/// the slash. Directories are not listed.
fn find<'a>(root: &Path, request: &'a FileRequest) -> io::Result<Option<(&'a str, File, u64)>> {
    const INDEX: &str = "index.html";
    let FileRequest { path, slash, .. } = request;
    match beneath::open(root, path)? {
        Found::File(..) if *slash => Err(io::ErrorKind::NotADirectory.into()),
        Found::File(file, len) => Ok(Some((path, file, len))),
        Found::Directory if !slash => Ok(None),
        Found::Directory => {
            let index = if path.is_empty() { INDEX.to_owned() } else { format!("{path}/{INDEX}") };
            match beneath::open(root, &index)? {
                Found::File(file, len) => Ok(Some((INDEX, file, len))),
                Found::Directory => Err(io::ErrorKind::IsADirectory.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const NOW: Now = Now { mono_ms: 5, wall_s: 0 };

    fn request(path: &str, body: bool) -> FileRequest {
        FileRequest { path: path.into(), slash: path.is_empty(), body }
    }

    #[test]
    fn a_file_comes_in_pieces_that_have_their_time_each() {
        let root = std::env::temp_dir().join(format!("mosquitto-pieces-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let root = fs::canonicalize(root).unwrap();
        let content: Vec<u8> = (0..HIGH_WATER * 2 + 1).map(|n| u8::try_from(n % 251).unwrap()).collect();
        fs::write(root.join("a"), &content).unwrap();
        fs::write(root.join("index.html"), "").unwrap();

        let mut head = Vec::new();
        let mut download = Download::new(NOW, Some(&root), &request("a", true), &mut head);
        assert!(head.ends_with(b"\r\n\r\n") && download.deadline() == 5 + PIECE_MS);
        let mut got = Vec::new();
        let mut time = NOW;
        loop {
            time.mono_ms += 1000;
            let mut piece = Vec::new();
            if !download.next_piece(time, &mut piece).unwrap() {
                break;
            }
            assert!(!piece.is_empty() && piece.len() <= HIGH_WATER);
            assert_eq!(download.deadline(), time.mono_ms + PIECE_MS);
            got.extend(piece);
        }
        assert!(got == content);

        let mut cut = Download::new(NOW, Some(&root), &request("a", true), &mut Vec::new());
        assert!(cut.next_piece(NOW, &mut Vec::new()).unwrap());
        fs::write(root.join("a"), "shorter").unwrap();
        assert!(cut.next_piece(NOW, &mut Vec::new()).is_err(), "the length was promised");

        for (root, path, body, status) in [
            (Some(&*root), "a", false, "200"),
            (Some(&root), "", true, "200"),
            (Some(&root), "b", true, "404"),
            (None, "a", true, "404"),
        ] {
            let mut head = Vec::new();
            let mut download = Download::new(NOW, root, &request(path, body), &mut head);
            assert!(head.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{path}");
            assert!(!download.next_piece(NOW, &mut Vec::new()).unwrap(), "{path}: only a head");
        }
        fs::remove_dir_all(&root).unwrap();
    }
}
