//! Password files: `[conf: password_file]`.
//!
//! Reading a file is cheap, checking a password may not be: [`Passwords::find`] gives the [`Hash`], and whoever has the
//! time calls [`Hash::verify`].

use std::collections::HashMap;
use std::hash::Hasher;
use std::num::NonZeroU32;

use crate::digest::{self, SHA512_LEN};

/// Longest user name in bytes, as MQTT can carry it.
pub const MAX_USERNAME: usize = 65_535;
/// Bytes that a salt may have: 2.0 writes 12, 2.1 writes 64.
const SALT_LENS: [usize; 2] = [12, 64];

/// The users of one file.
#[derive(Debug, Default, Clone)]
pub struct Passwords {
    /// Where in `hashes` each user's is.
    users: HashMap<Box<str>, usize>,
    hashes: Vec<Hash>,
}

/// A stored password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hash {
    /// `$6$`: one pass of SHA-512 over password and salt.
    Sha512 {
        /// The salt.
        salt: Box<[u8]>,
        /// The hash.
        hash: [u8; SHA512_LEN],
    },
    /// `$7$`: PBKDF2 with HMAC-SHA-512.
    Pbkdf2 {
        /// Rounds.
        iterations: NonZeroU32,
        /// The salt.
        salt: Box<[u8]>,
        /// The hash.
        hash: [u8; SHA512_LEN],
    },
    /// `$argon2id$`.
    #[cfg(feature = "argon2")]
    Argon2id(super::argon2id::Argon2id),
}

/// How to hash a new password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `$6$`.
    Sha512,
    /// `$7$` with so many rounds.
    Pbkdf2(NonZeroU32),
    /// `$argon2id$`.
    #[cfg(feature = "argon2")]
    Argon2id,
}

/// What is wrong with a line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordFileError {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub kind: PasswordFileErrorKind,
}

/// The kinds of [`PasswordFileError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordFileErrorKind {
    /// Nothing stands before the `:`.
    EmptyUsername,
    /// More bytes than MQTT can carry.
    LongUsername,
    /// The user stands there twice.
    Duplicate(String),
    /// No hash, plain text, an unknown scheme, wrong lengths.
    Hash,
    /// An argon2id hash, which this build cannot check.
    NoArgon2,
    /// The user name is not UTF-8.
    NotUtf8,
}

impl PasswordFileError {
    /// The line for the log about `file`.
    #[must_use]
    pub fn text(&self, file: &str) -> String {
        use PasswordFileErrorKind as K;
        let text = match &self.kind {
            K::EmptyUsername => format!("Empty username in password file '{file}'."),
            K::LongUsername => format!("Username too long in password file '{file}'."),
            K::Duplicate(user) => format!("Duplicate user '{user}' in password file '{file}'."),
            K::Hash => format!("Unable to decode line in password file '{file}'."),
            K::NoArgon2 => {
                format!("Password file '{file}' has an argon2id hash, which needs the feature argon2 of this program.")
            }
            K::NotUtf8 => format!("Malformed UTF-8 in password file '{file}'."),
        };
        format!("password-file: Error: {text}")
    }
}

impl Passwords {
    /// Reads a file's content, with the rules of C Mosquitto 2.1. A comment may stand behind blanks, and a byte order mark
    /// is passed over.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &[u8]) -> Result<Passwords, PasswordFileError> {
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        let mut found = Passwords::default();
        for (line, text) in (1u32..).zip(text.split(|&b| b == b'\n')) {
            let error = |kind| PasswordFileError { line, kind };
            let Some((user, hash)) = split_line(text) else { continue };
            let user = std::str::from_utf8(user).map_err(|_| error(PasswordFileErrorKind::NotUtf8))?;
            if user.is_empty() {
                return Err(error(PasswordFileErrorKind::EmptyUsername));
            }
            if user.len() > MAX_USERNAME {
                return Err(error(PasswordFileErrorKind::LongUsername));
            }
            let hash = std::str::from_utf8(hash).ok().map_or(Err(PasswordFileErrorKind::Hash), Hash::parse);
            let hash = hash.map_err(error)?;
            if found.users.insert(user.into(), found.hashes.len()).is_some() {
                return Err(error(PasswordFileErrorKind::Duplicate(user.into())));
            }
            found.hashes.push(hash);
        }
        Ok(found)
    }

    /// The stored password of a user.
    #[must_use]
    pub fn find(&self, username: &str) -> Option<&Hash> {
        self.hashes.get(*self.users.get(username)?)
    }

    /// Some stored password, to spend as much time on an unknown user as on a known one. The same `choice`, which comes
    /// from the user name, gives the same one: a name that is not there always takes as long as some that is.
    #[must_use]
    pub fn decoy(&self, choice: u64) -> Option<&Hash> {
        let at = choice.checked_rem(self.hashes.len() as u64)?;
        self.hashes.get(usize::try_from(at).ok()?)
    }

    /// How many users there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// True when nobody is in the file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

/// User and hash of a line; `None` for one that says nothing. What stands behind a second `:` does not count.
#[must_use]
pub fn split_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return None;
    }
    let mut fields = line.splitn(3, |&b| b == b':');
    let user = fields.next()?;
    Some((user.trim_ascii(), fields.next()?.trim_ascii()))
}

impl Hash {
    /// Reads a hash as it stands in the file.
    ///
    /// # Errors
    /// [`PasswordFileErrorKind::Hash`] or [`PasswordFileErrorKind::NoArgon2`].
    pub fn parse(text: &str) -> Result<Hash, PasswordFileErrorKind> {
        Hash::decode(text).ok_or(if !cfg!(feature = "argon2") && text.starts_with("$argon2id$") {
            PasswordFileErrorKind::NoArgon2
        } else {
            PasswordFileErrorKind::Hash
        })
    }

    fn decode(text: &str) -> Option<Hash> {
        #[cfg(feature = "argon2")]
        if text.starts_with("$argon2id$") {
            return super::argon2id::Argon2id::parse(text).map(Hash::Argon2id);
        }
        let mut fields = text.strip_prefix('$')?.split('$');
        let scheme = fields.next()?;
        let iterations = match scheme {
            "6" => None,
            "7" => Some(leading_number(fields.next()?)?),
            _ => return None,
        };
        let salt = digest::from_base64(fields.next()?).filter(|salt| SALT_LENS.contains(&salt.len()))?.into();
        let hash = digest::from_base64(fields.next()?)?.try_into().ok()?;
        if fields.next().is_some() {
            return None;
        }
        Some(match iterations {
            None => Hash::Sha512 { salt, hash },
            Some(iterations) => Hash::Pbkdf2 { iterations, salt, hash },
        })
    }

    /// True when `password` is the one that was stored. An empty password never is, and none when there is no memory to
    /// compare it. What a NUL byte follows does not
    /// count, as in C Mosquitto.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        let password = password.split(|&b| b == 0).next().unwrap_or_default();
        if password.is_empty() {
            return false;
        }
        match self {
            Hash::Sha512 { salt, hash } => digest::same(&digest::sha512(&[password, salt]), hash),
            Hash::Pbkdf2 { iterations, salt, hash } => {
                digest::same(&digest::pbkdf2_sha512(*iterations, salt, password), hash)
            }
            #[cfg(feature = "argon2")]
            Hash::Argon2id(hash) => hash.verify(password),
        }
    }

    /// Hashes a password; `None` when there is no memory for that. A salt of 12 bytes is read by every version, one of 64
    /// by 2.1.
    #[must_use]
    pub fn new(scheme: Scheme, salt: &[u8], password: &[u8]) -> Option<Hash> {
        Some(match scheme {
            Scheme::Sha512 => Hash::Sha512 { salt: salt.into(), hash: digest::sha512(&[password, salt]) },
            Scheme::Pbkdf2(iterations) => {
                let hash = digest::pbkdf2_sha512(iterations, salt, password);
                Hash::Pbkdf2 { iterations, salt: salt.into(), hash }
            }
            #[cfg(feature = "argon2")]
            Scheme::Argon2id => Hash::Argon2id(super::argon2id::Argon2id::new(password, salt)?),
        })
    }

    /// Puts everything that makes this hash what it is into `hasher`.
    pub fn feed(&self, hasher: &mut impl Hasher) {
        match self {
            Hash::Sha512 { salt, hash } => {
                hasher.write_u32(0);
                hasher.write(salt);
                hasher.write(hash);
            }
            Hash::Pbkdf2 { iterations, salt, hash } => {
                hasher.write_u32(iterations.get());
                hasher.write(salt);
                hasher.write(hash);
            }
            #[cfg(feature = "argon2")]
            Hash::Argon2id(hash) => hasher.write(hash.to_string().as_bytes()),
        }
    }

    /// Bytes of memory that [`Hash::verify`] takes meanwhile; 0 for next to none.
    #[must_use]
    pub fn scratch(&self) -> usize {
        match self {
            Hash::Sha512 { .. } | Hash::Pbkdf2 { .. } => 0,
            #[cfg(feature = "argon2")]
            Hash::Argon2id(hash) => hash.scratch(),
        }
    }

    /// True when [`Hash::verify`] takes so long that it would keep others waiting.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        !matches!(self, Hash::Sha512 { .. })
    }
}

/// The number at the start of the text, as C reads it; at least 1.
fn leading_number(text: &str) -> Option<NonZeroU32> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.get(..digits)?.parse().ok()
}

impl std::fmt::Display for Hash {
    /// As it stands in the file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Hash::Sha512 { salt, hash } => write!(f, "$6${}${}", digest::to_base64(salt), digest::to_base64(hash)),
            Hash::Pbkdf2 { iterations, salt, hash } => {
                write!(f, "$7${iterations}${}${}", digest::to_base64(salt), digest::to_base64(hash))
            }
            #[cfg(feature = "argon2")]
            Hash::Argon2id(hash) => hash.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
