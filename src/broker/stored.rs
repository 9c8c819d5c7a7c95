//! The core's state as plain values, one piece at a time: what a database holds of a session, of its messages, of its
//! subscriptions. [`Broker`](super::Broker) gives them out in `export` and `snapshot`, and takes them in `restore`. How
//! they look in a file is not known here.

use super::NEVER;
use super::message::Msg;
use super::subs::SubOptions;
use crate::timer::Now;
use crate::wire::QoS;

/// A session that outlives its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoredSession<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// The user name of its client.
    pub username: Option<&'a str>,
    /// The port of the listener its client last used; 0 for none or not known.
    pub listener_port: u16,
    /// Seconds it outlives its connection; [`NEVER`] for ever.
    pub expiry_s: u32,
    /// Unix seconds when it ends. `None` when that is never, and for a client that is connected: the time counts from when
    /// the state is restored.
    pub ends_wall_s: Option<u64>,
    /// The last packet identifier that was handed out; 0 for none.
    pub last_id: u16,
}

/// How far a message of a session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Place {
    /// For the client, never sent.
    #[default]
    Queued,
    /// Sent; waits for PUBACK or PUBREC.
    Sent,
    /// PUBREL was sent; waits for PUBCOMP. The message itself is not needed any more.
    Released,
    /// From the client with QoS 2, answered by PUBREC; waits for PUBREL.
    Received,
}

/// A message of a session; `M` is [`Msg`] or a reference to one. Their order is that of delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoredEntry<M> {
    /// How far it is.
    pub place: Place,
    /// The message; may be absent only where it was [`Place::Released`].
    pub msg: Option<M>,
    /// Its packet identifier; 0 with QoS 0. Those of queued messages say no more than that they are free.
    pub id: u16,
    /// The QoS of this delivery.
    pub qos: QoS,
    /// The retain flag of this delivery.
    pub retain: bool,
    /// The v5 subscription identifier; 0 for none.
    pub sub_id: u32,
}

impl StoredEntry<&Msg> {
    /// The same with a message of its own.
    #[must_use]
    pub fn cloned(&self) -> StoredEntry<Msg> {
        let StoredEntry { place, msg, id, qos, retain, sub_id } = *self;
        StoredEntry { place, msg: msg.cloned(), id, qos, retain, sub_id }
    }
}

impl StoredEntry<Msg> {
    /// The same, borrowed.
    #[must_use]
    pub fn by_ref(&self) -> StoredEntry<&Msg> {
        let StoredEntry { place, ref msg, id, qos, retain, sub_id } = *self;
        StoredEntry { place, msg: msg.as_ref(), id, qos, retain, sub_id }
    }
}

/// A subscription of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredSubscription<'a> {
    /// The filter with its `$share` part.
    pub filter: &'a str,
    /// QoS and options.
    pub options: SubOptions,
    /// The v5 subscription identifier; 0 for none.
    pub id: u32,
}

/// A piece of the core's state.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// A session, before its messages.
    Session(StoredSession<'a>),
    /// A message of the session with this client id.
    Entry(&'a str, StoredEntry<&'a Msg>),
    /// A subscription of the session with this client id.
    Subscription(&'a str, StoredSubscription<'a>),
    /// A retained message.
    Retained(&'a Msg),
}

/// True for topics whose retained messages the broker makes itself, which are not stored.
#[must_use]
pub fn is_own_topic(topic: &str) -> bool {
    topic.strip_prefix("$SYS").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// When a session of this expiry interval ends, by the clock of the loop; 0 for never. A stored time that is further away
/// than the interval comes from a clock that was wrong: the interval decides.
pub(super) fn ends_ms(now: Now, expiry_s: u32, ends_wall_s: Option<u64>) -> u64 {
    if expiry_s == NEVER {
        return 0;
    }
    let left_s = match ends_wall_s {
        Some(at) => at.saturating_sub(now.wall_s).min(u64::from(expiry_s)),
        None => u64::from(expiry_s),
    };
    now.mono_ms.saturating_add(left_s * 1000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_at_its_time_and_never_later_than_its_interval() {
        let now = Now { mono_ms: 5_000, wall_s: 1000 };
        assert_eq!(ends_ms(now, NEVER, Some(1)), 0);
        assert_eq!(ends_ms(now, 60, None), 65_000);
        assert_eq!(ends_ms(now, 60, Some(1010)), 15_000);
        assert_eq!(ends_ms(now, 60, Some(900)), 5_000, "at once");
        assert_eq!(ends_ms(now, 60, Some(9000)), 65_000, "the clock was wrong");
        assert_eq!(ends_ms(Now::default(), 0, None), 1, "0 would be never");
    }

    #[test]
    fn only_the_brokers_own_topics_are_left_out() {
        assert!(is_own_topic("$SYS/broker/uptime") && is_own_topic("$SYS"));
        assert!(!is_own_topic("$SYSTEM/x") && !is_own_topic("a/$SYS/b") && !is_own_topic("$CONTROL/x"));
    }
}
