//! Argon2id hashes as C Mosquitto 2.1 writes them: `$argon2id$v=19$m=47104,t=1,p=1$SALT$HASH`, base64 without padding.
//! The salts are longer than the crate's own reader of such lines takes, so the line is read here.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::digest;

/// Memory that a hash may ask for: 1 GiB. More is a mistake in the file, and would end the process.
const MAX_MEMORY_KIB: u32 = 1 << 20;

/// A hash with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argon2id {
    version: Version,
    params: Params,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

impl Argon2id {
    /// Reads the text of a line; `None` when it is no such hash or asks for more than 1 GiB of memory.
    pub(super) fn parse(text: &str) -> Option<Argon2id> {
        let mut fields = text.strip_prefix("$argon2id$")?.split('$').peekable();
        let version = match fields.next_if(|field| field.starts_with("v=")) {
            None | Some("v=16") => Version::V0x10,
            Some("v=19") => Version::V0x13,
            Some(_) => return None,
        };
        let mut numbers = [0; 3];
        let mut params = fields.next()?.split(',');
        for (number, name) in numbers.iter_mut().zip(["m=", "t=", "p="]) {
            *number = params.next()?.strip_prefix(name)?.parse().ok()?;
        }
        let [memory, time, lanes] = numbers;
        if params.next().is_some() || memory > MAX_MEMORY_KIB {
            return None;
        }
        let salt: Box<[u8]> = digest::from_unpadded_base64(fields.next()?)?.into();
        let hash: Box<[u8]> = digest::from_unpadded_base64(fields.next()?)?.into();
        if fields.next().is_some() || salt.len() < argon2::MIN_SALT_LEN {
            return None;
        }
        let params = Params::new(memory, time, lanes, Some(hash.len())).ok()?;
        Some(Argon2id { version, params, salt, hash })
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        let mut hash = vec![0; self.hash.len()];
        fill(self.version, &self.params, password, &self.salt, &mut hash).is_some() && digest::same(&hash, &self.hash)
    }

    /// Bytes of memory that [`Argon2id::verify`] takes meanwhile.
    pub(super) fn scratch(&self) -> usize {
        self.params.block_count().saturating_mul(Block::SIZE)
    }

    /// Hashes a password with the parameters that C Mosquitto's tool takes.
    pub(super) fn new(password: &[u8], salt: &[u8]) -> Option<Argon2id> {
        let params = Params::new(47_104, 1, 1, Some(digest::SHA512_LEN)).ok()?;
        let mut hash = vec![0; digest::SHA512_LEN];
        fill(Version::V0x13, &params, password, salt, &mut hash)?;
        Some(Argon2id { version: Version::V0x13, params, salt: salt.into(), hash: hash.into() })
    }
}

/// Hashes a password into `hash`; `None` when there is no memory for that, which the crate's own way would die of.
fn fill(version: Version, params: &Params, password: &[u8], salt: &[u8], hash: &mut [u8]) -> Option<()> {
    let argon2 = Argon2::new(Algorithm::Argon2id, version, params.clone());
    let mut blocks = Vec::new();
    blocks.try_reserve_exact(params.block_count()).ok()?;
    blocks.resize(params.block_count(), Block::default());
    argon2.hash_password_into_with_memory(password, salt, hash, &mut blocks).ok()
}

impl fmt::Display for Argon2id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (m, t, p) = (self.params.m_cost(), self.params.t_cost(), self.params.p_cost());
        let (salt, hash) = (digest::to_unpadded_base64(&self.salt), digest::to_unpadded_base64(&self.hash));
        write!(f, "$argon2id$v={}$m={m},t={t},p={p}${salt}${hash}", self.version as u32)
    }
}
