//! TLS in a build without it: no listener has any, because the configuration refuses it by name. What the real one offers
//! is the same.

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::IoSlice;

use crate::config::TlsOptions;

/// TLS of one listener.
#[derive(Clone, Debug)]
pub(super) enum ServerTls {}

/// A TLS connection from a client.
#[derive(Debug)]
pub(super) enum TlsStream {}

/// Why a listener's TLS could not be set up.
#[derive(Clone, Debug)]
pub(super) struct TlsLoadError;

/// What [`ServerTls::load`] gives.
#[derive(Debug)]
pub(super) struct LoadedTls {
    pub(super) tls: ServerTls,
    pub(super) notes: Vec<String>,
}

/// A file that takes key log lines.
#[derive(Clone, Debug)]
pub(super) enum KeyLogFile {}

impl KeyLogFile {
    /// The command line refuses the option.
    pub(super) fn new(_: File) -> KeyLogFile {
        unreachable!("the command line refuses the option")
    }
}

/// Why a connection failed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TlsError(Infallible);

impl fmt::Display for TlsError {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

impl std::error::Error for TlsError {}

impl fmt::Display for TlsLoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Error: TLS is not part of this build.")
    }
}

impl ServerTls {
    pub(super) fn load(_: &TlsOptions, _: Option<&KeyLogFile>) -> Result<LoadedTls, TlsLoadError> {
        Err(TlsLoadError)
    }

    pub(super) fn days_left(&self, _: u64) -> i64 {
        match *self {}
    }

    pub(super) fn accept(&self) -> Result<TlsStream, TlsError> {
        match *self {}
    }
}

impl TlsStream {
    pub(super) fn read(&mut self, _: &mut [u8], _: &mut Vec<u8>) -> Result<(), TlsError> {
        match *self {}
    }

    pub(super) fn write(&mut self, _: &[IoSlice<'_>], _: &mut Vec<u8>) -> Result<usize, TlsError> {
        match *self {}
    }

    pub(super) fn close(&mut self) {
        match *self {}
    }

    pub(super) fn pending(&self) -> &[u8] {
        match *self {}
    }

    pub(super) fn advance(&mut self, _: usize) {
        match *self {}
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub(super) fn is_finished(&self) -> bool {
        match *self {}
    }

    pub(super) fn negotiated(&self) -> Option<(&'static str, &'static str)> {
        match *self {}
    }

    pub(super) fn identity(&self) -> Option<String> {
        match *self {}
    }

    pub(super) fn subject(&self) -> Option<String> {
        match *self {}
    }
}

/// TLS towards other brokers, for builds with bridges.
#[allow(dead_code)]
pub(super) mod client {
    use super::{TlsError, TlsLoadError, TlsStream};
    use crate::config::bridge::Tls;

    /// TLS of one bridge.
    #[derive(Clone, Debug)]
    pub(crate) enum ClientTls {}

    /// What [`ClientTls::load`] gives.
    pub(crate) struct LoadedClientTls {
        pub(crate) tls: ClientTls,
        pub(crate) notes: Vec<String>,
    }

    impl ClientTls {
        pub(crate) fn load(_: &Tls) -> Result<LoadedClientTls, TlsLoadError> {
            Err(TlsLoadError)
        }

        pub(crate) fn connect(&self, _: &str) -> Result<TlsStream, TlsError> {
            match *self {}
        }
    }
}
