//! The names of levels and shares, each stored once, and the keyed hash of the subscription table.

use std::collections::BTreeMap;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::pool::{Pool, Slot};
use crate::broker::index::Index;

/// The token of `+`, which is never released.
pub(super) const PLUS: u32 = 0;
/// The token of `#`, which is never released.
pub(super) const HASH: u32 = 1;

/// The two keys of the hash.
#[derive(Clone, Copy)]
pub(super) struct Keys(pub(super) [u64; 2]);

impl Keys {
    pub(super) fn text(self, text: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.0[0], self.0[1]);
        hasher.write(text.as_bytes());
        hasher.finish()
    }

    pub(super) fn pair(self, a: u32, b: u32) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.0[0], self.0[1]);
        hasher.write_u64(u64::from(a) << 32 | u64::from(b));
        hasher.finish()
    }
}

#[derive(Default)]
pub(super) struct Token {
    name: Box<str>,
    /// How many nodes and groups use it; the next free slot while unused.
    uses: u32,
}

impl Slot for Token {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.uses
    }
}

/// Every name in use.
pub(super) struct Tokens {
    keys: Keys,
    tokens: Pool<Token>,
    by_name: Index<u32>,
}

impl Tokens {
    /// The wildcards and nothing else.
    pub(super) fn new(keys: Keys) -> Tokens {
        let mut tokens = Tokens { keys, tokens: Pool::new(), by_name: Index::default() };
        let wildcards = [tokens.intern("+"), tokens.intern("#")];
        debug_assert_eq!(wildcards, [PLUS, HASH]);
        tokens
    }

    /// The token of a name, unless nobody uses it.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.find(self.keys.text(name), |&token| *self.tokens[token].name == *name)
    }

    /// The token of a name, used once more.
    pub(super) fn intern(&mut self, name: &str) -> u32 {
        if let Some(token) = self.find(name) {
            self.tokens[token].uses += 1;
            return token;
        }
        let token = self.tokens.insert(Token { name: name.into(), uses: 1 });
        let (keys, tokens) = (self.keys, &self.tokens);
        self.by_name.insert(keys.text(name), token, |&token| keys.text(&tokens[token].name));
        token
    }

    /// One use less; a name without uses is forgotten.
    pub(super) fn release(&mut self, token: u32) {
        self.tokens[token].uses -= 1;
        if self.tokens[token].uses > 0 {
            return;
        }
        let (keys, tokens) = (self.keys, &self.tokens);
        let hash_of = |&token: &u32| keys.text(&tokens[token].name);
        self.by_name.remove(hash_of(&token), |&other| other == token, hash_of);
        self.tokens.remove(token);
    }

    pub(super) fn name(&self, token: u32) -> &str {
        &self.tokens[token].name
    }

    /// Slots, used or not.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.tokens.capacity()
    }

    /// Panics unless these are the uses of every token.
    pub(super) fn check(&self, uses: &BTreeMap<u32, u32>) {
        for (&token, &count) in uses {
            assert_eq!((self.tokens[token].uses, self.find(self.name(token))), (count, Some(token)));
        }
        assert_eq!((self.tokens.len(), self.by_name.len()), (uses.len(), uses.len()));
    }
}
