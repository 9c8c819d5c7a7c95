//! The two length forms [SN 5.2.1] and the forwarder encapsulation [SN 5.5].

use super::{Fault, MAX_MESSAGE, TooLong};
use crate::wire::writer::put_u16;

/// The first octet of the long form.
const LONG: u8 = 1;
/// The message type of an encapsulation.
const ENCAPSULATED: u8 = 0xFE;
/// The longest node id that fits before the message.
pub const MAX_NODE_ID: usize = 252;

/// What a forwarder says about the node it speaks for [SN 5.5].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Encapsulation<'a> {
    /// Broadcast radius, 0 to 3; only counts on the way to the nodes.
    pub radius: u8,
    /// The address of the node, 1 to 252 octets without a meaning to us.
    pub node_id: &'a [u8],
}

/// The encapsulation, if there is one, and the message in a datagram; its length is checked, its content is not.
///
/// # Errors
/// [`Fault::Short`], [`Fault::Length`] or [`Fault::Encapsulation`].
pub fn split(datagram: &[u8]) -> Result<(Option<Encapsulation<'_>>, &[u8]), Fault> {
    let [length, ENCAPSULATED, radius, rest @ ..] = datagram else { return Ok((None, datagram)) };
    let node = usize::from(*length).checked_sub(3).ok_or(Fault::Encapsulation)?;
    let (node_id, message) = rest.split_at_checked(node).ok_or(Fault::Encapsulation)?;
    if node_id.is_empty() || message.is_empty() || matches!(message, [_, ENCAPSULATED, ..]) {
        return Err(Fault::Encapsulation);
    }
    Ok((Some(Encapsulation { radius: radius & 3, node_id }), message))
}

/// The type octet and the variable part of a message in either length form.
pub(super) fn open(message: &[u8]) -> Result<(u8, &[u8]), Fault> {
    let (length, message_type, body) = match message {
        [LONG, high, low, message_type, body @ ..] => {
            (usize::from(u16::from_be_bytes([*high, *low])), *message_type, body)
        }
        [LONG, ..] | [] | [_] => return Err(Fault::Short),
        [length, message_type, body @ ..] => (usize::from(*length), *message_type, body),
    };
    if length != message.len() {
        return Err(Fault::Length);
    }
    Ok((message_type, body))
}

/// Appends a message: the header in its shortest form and what `body` appends. `out` is unchanged on an error.
pub(super) fn put(out: &mut Vec<u8>, message_type: u8, body: impl FnOnce(&mut Vec<u8>)) -> Result<(), TooLong> {
    let start = out.len();
    out.extend_from_slice(&[0, message_type]);
    body(out);
    let short = out.len().saturating_sub(start);
    if let Ok(length) = u8::try_from(short) {
        if let Some(first) = out.get_mut(start) {
            *first = length;
        }
        return Ok(());
    }
    match u16::try_from(short.saturating_add(2)) {
        Ok(length) if usize::from(length) <= MAX_MESSAGE => {
            let [high, low] = length.to_be_bytes();
            out.splice(start..start.saturating_add(1), [LONG, high, low]);
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(TooLong)
        }
    }
}

/// Appends the head of an encapsulation; the message has to follow at once. The node id is cut to [`MAX_NODE_ID`].
pub fn encapsulate(out: &mut Vec<u8>, by: Encapsulation<'_>) {
    let node_id = by.node_id.get(..MAX_NODE_ID).unwrap_or(by.node_id);
    let length = u8::try_from(node_id.len().saturating_add(3)).unwrap_or(u8::MAX);
    out.extend_from_slice(&[length, ENCAPSULATED, by.radius & 3]);
    out.extend_from_slice(node_id);
}

/// Appends a topic name or a payload behind ids; shared by the encoders.
pub(super) fn put_ids(out: &mut Vec<u8>, ids: &[u16]) {
    ids.iter().for_each(|id| put_u16(out, *id));
}
