//! Thin wrappers over the crates that hash and encode. No cryptography of our own.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::{digest, pbkdf2};
use subtle::ConstantTimeEq;

/// Bytes of a SHA-512 hash.
pub const SHA512_LEN: usize = 64;

/// SHA-512 over the parts, one after the other.
#[must_use]
pub fn sha512(parts: &[&[u8]]) -> [u8; SHA512_LEN] {
    let mut context = digest::Context::new(&digest::SHA512);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; SHA512_LEN];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// SHA-1, which RFC 6455 asks for where nothing depends on its strength.
#[must_use]
pub fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 20];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// PBKDF2 with HMAC-SHA-512.
#[must_use]
pub fn pbkdf2_sha512(iterations: NonZeroU32, salt: &[u8], password: &[u8]) -> [u8; SHA512_LEN] {
    let mut hash = [0; SHA512_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, salt, password, &mut hash);
    hash
}

/// True when both are equal; takes the same time wherever they differ.
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Decodes base64 of the standard alphabet with padding.
#[must_use]
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Encodes as base64 of the standard alphabet with padding.
#[must_use]
pub fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes base64 of the standard alphabet without padding.
#[must_use]
pub fn from_unpadded_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text).ok()
}

/// Encodes as base64 of the standard alphabet without padding.
#[must_use]
pub fn to_unpadded_base64(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}
