//! What an outgoing PUBLISH needs to fit the receiver, on either side of the protocol: its size, and topic aliases, which
//! are given first come, first served, and never change.

use std::collections::BTreeMap;

use crate::wire::publish::{PublishHead, publish_len};

/// The topic aliases that were set towards a receiver.
pub(super) struct AliasesOut<'a> {
    /// By topic as it goes out.
    pub(super) known: &'a mut BTreeMap<Box<str>, u16>,
    /// How many there may be.
    pub(super) max: u16,
    /// Whether one may be added.
    pub(super) grow: bool,
}

impl AliasesOut<'_> {
    /// The alias to use for a topic, and whether the receiver knows it already.
    fn of(&self, topic: &str) -> Option<(u16, bool)> {
        if let Some(alias) = self.known.get(topic) {
            return Some((*alias, true));
        }
        let next = u16::try_from(self.known.len().saturating_add(1)).ok()?;
        (self.grow && next <= self.max).then_some((next, false))
    }
}

/// Gives the head an alias where there is one, and compares the packet with `max_packet`, the most that the receiver takes
/// in bytes; 0 is unlimited. An alias that is set by this packet counts as known from here on.
///
/// # Errors
/// The size of a packet that is too large: the receiver must not see it [MQTT-3.1.2-25].
pub(super) fn fit(head: &mut PublishHead<'_>, max_packet: u32, aliases: Option<AliasesOut<'_>>) -> Result<(), usize> {
    let too_large = |len: usize| max_packet != 0 && len > max_packet as usize;
    let topic = head.topic;
    let alias = aliases.as_ref().and_then(|aliases| aliases.of(topic));
    head.topic_alias = alias.map(|(alias, _)| alias);
    if let Some((_, true)) = alias {
        head.topic = "";
    }
    let mut len = publish_len(head);
    if too_large(len) && !head.topic.is_empty() {
        // It may fit without an alias that the receiver does not know yet.
        head.topic_alias = None;
        len = publish_len(head);
    }
    if too_large(len) {
        return Err(len);
    }
    if let (Some((alias, false)), Some(_), Some(aliases)) = (alias, head.topic_alias, aliases) {
        aliases.known.insert(topic.into(), alias);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ProtocolVersion, QoS};

    #[test]
    fn an_alias_is_set_once_and_only_where_there_is_room() {
        let head = |topic| PublishHead {
            version: ProtocolVersion::V5,
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            packet_id: None,
            forwardable: &[],
            expiry: None,
            topic_alias: None,
            subscription_id: None,
            payload_len: 4,
        };
        let mut known = BTreeMap::new();
        let mut sent = |topic, max_packet, grow| {
            let mut head = head(topic);
            fit(&mut head, max_packet, Some(AliasesOut { known: &mut known, max: 2, grow }))
                .map(|()| (head.topic.to_owned(), head.topic_alias))
        };
        assert_eq!(sent("first", 0, false), Ok(("first".into(), None)), "no memory for one");
        // Type, length, topic of 2 + 5, properties, payload: 14 bytes, with an alias 17.
        assert_eq!(sent("first", 14, true), Ok(("first".into(), None)), "there is no room in the packet");
        assert_eq!(sent("first", 13, true), Err(14));
        assert_eq!(sent("first", 17, true), Ok(("first".into(), Some(1))));
        assert_eq!(sent("first", 12, true), Ok((String::new(), Some(1))));
        assert_eq!(sent("first", 11, true), Err(12));
        assert_eq!(sent("second", 0, true), Ok(("second".into(), Some(2))));
        assert_eq!(sent("third", 0, true), Ok(("third".into(), None)));
        assert_eq!(fit(&mut head("first"), 0, None), Ok(()));
    }
}
