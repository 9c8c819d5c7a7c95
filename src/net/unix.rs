//! Listening sockets in the file system `[conf: listener 0 PATH]`: what may stand at the path before, what is left there
//! afterwards.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mio::net::UnixListener;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::os::umask;

/// Owner and group may connect.
const MASK: u32 = 0o007;

/// Why there is no socket at a path.
#[derive(Debug)]
pub(super) enum PathError {
    /// Something else has the name. C Mosquitto removes whatever it is.
    NotASocket,
    /// Somebody listens there. C Mosquitto takes the path away from it.
    InUse,
    System(io::Error),
}

/// A listening socket and its name, which goes with it.
#[derive(Debug)]
pub(super) struct UnixSocket {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    /// Device and inode of what we made.
    made: Option<(u64, u64)>,
}

impl UnixSocket {
    /// Opens a socket at `path`; one that nobody listens on any more is replaced.
    pub(super) fn open(path: &Path, backlog: i32) -> Result<UnixSocket, PathError> {
        remove_stale(path)?;
        let system = PathError::System;
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::UNIX, kind, None).map_err(system)?;
        let address = SockAddr::unix(path).map_err(system)?;
        umask::with(MASK, || socket.bind(&address)).map_err(system)?;
        let made = identity(path).ok();
        let listener = UnixListener::from_std(socket.into());
        let this = UnixSocket { listener, path: path.into(), made };
        socket2::SockRef::from(&this.listener).listen(backlog).map_err(system)?;
        Ok(this)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Whoever put something else there keeps it.
        if self.made.is_some() && identity(&self.path).ok() == self.made {
            let _gone_already = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|data| (data.dev(), data.ino()))
}

/// Makes room for a new socket.
fn remove_stale(path: &Path) -> Result<(), PathError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(PathError::System(error)),
        Ok(data) if !data.file_type().is_socket() => return Err(PathError::NotASocket),
        Ok(_) => {}
    }
    // Somebody who listens but is busy gives EAGAIN, another kind of socket EPROTOTYPE: neither is stale.
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None).map_err(PathError::System)?;
    match probe.connect(&SockAddr::unix(path).map_err(PathError::System)?) {
        Err(error) => match error.kind() {
            // One that another user left cannot be asked; whether it may be removed is up to the directory.
            io::ErrorKind::ConnectionRefused | io::ErrorKind::PermissionDenied => {
                fs::remove_file(path).map_err(PathError::System)
            }
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(PathError::InUse),
        },
        Ok(()) => Err(PathError::InUse),
    }
}
