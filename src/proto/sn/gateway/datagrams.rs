//! Datagrams that wait to be sent at the end of a call.

use super::super::addr::{Addr, Source};
use super::super::wire::{Encapsulation, Message, TooLong, encapsulate};

/// Where a datagram goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// To this address.
    Addr(Addr),
    /// To every multicast group of the socket's listener.
    Groups,
}

/// One datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// The socket it leaves from.
    pub socket: u16,
    /// Where it goes.
    pub to: To,
    /// What it is.
    pub bytes: &'a [u8],
}

/// Those of one call, back to back.
#[derive(Default)]
pub struct Datagrams {
    bytes: Vec<u8>,
    list: Vec<(u16, To, usize)>,
}

impl Datagrams {
    /// Bytes that are kept for the next call.
    const KEPT: usize = 64 * 1024;

    /// Every datagram in its order.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        let mut start = 0;
        self.list.iter().map(move |&(socket, to, end)| {
            let bytes = self.bytes.get(start..end).unwrap_or_default();
            start = end;
            Datagram { socket, to, bytes }
        })
    }

    /// True when there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// All of them were sent, or lost.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
        self.bytes.shrink_to(Datagrams::KEPT);
    }

    /// Adds a message for whoever is there, wrapped for a forwarder if it is behind one; returns its length.
    pub(super) fn put(&mut self, to: &Source<'_>, message: &Message<'_>, max: usize) -> Result<usize, TooLong> {
        self.add(to, max, |out| message.encode(out))
    }

    /// The same for a message that was encoded before.
    pub(super) fn put_bytes(&mut self, to: &Source<'_>, message: &[u8]) -> Result<usize, TooLong> {
        self.add(to, usize::MAX, |out| {
            out.extend_from_slice(message);
            Ok(())
        })
    }

    fn add(
        &mut self,
        to: &Source<'_>,
        max: usize,
        message: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
    ) -> Result<usize, TooLong> {
        let start = self.bytes.len();
        if !to.node.is_empty() {
            encapsulate(&mut self.bytes, Encapsulation { radius: 0, node_id: to.node });
        }
        let encoded = message(&mut self.bytes);
        let len = self.bytes.len().saturating_sub(start);
        if encoded.is_err() || len > max {
            self.bytes.truncate(start);
            return Err(TooLong);
        }
        self.list.push((to.socket, To::Addr(to.addr), self.bytes.len()));
        Ok(len)
    }

    /// Adds a message for the groups of a socket's listener.
    pub(super) fn put_groups(&mut self, socket: u16, message: &Message<'_>) -> usize {
        let start = self.bytes.len();
        if message.encode(&mut self.bytes).is_err() {
            return 0;
        }
        self.list.push((socket, To::Groups, self.bytes.len()));
        self.bytes.len().saturating_sub(start)
    }
}
