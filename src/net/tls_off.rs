//! TLS in a build without it: no listener has any, because the configuration refuses it by name. What the real one offers
//! is the same.

use std::convert::Infallible;
use std::fmt;
use std::io::IoSlice;

/// TLS of one listener.
#[derive(Clone, Debug)]
pub(super) enum ServerTls {}

/// A TLS connection from a client.
#[derive(Debug)]
pub(super) enum TlsStream {}

/// Why a connection failed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TlsError(Infallible);

impl fmt::Display for TlsError {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

impl std::error::Error for TlsError {}

impl ServerTls {
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
