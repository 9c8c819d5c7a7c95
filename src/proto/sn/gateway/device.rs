//! What the gateway knows of one client, beside its session.

use std::collections::VecDeque;

use super::super::addr::{Addr, Source};
use super::super::registry::Registry;
use super::super::wire::TopicRef;
use super::echo::Echoes;
use crate::broker::SessionId;
use crate::broker::changes::ChangeSeq;
use crate::broker::message::Msg;
use crate::wire::{PacketId, QoS};

/// What a client is to the gateway [SN 6.14]. Only the first three have a place in its table; of a lost or disconnected
/// client nothing is left but its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    /// Connected; its keepalive is watched.
    Active,
    /// Sleeps for so many seconds: what comes for it waits in its session.
    Asleep {
        /// What it asked for in DISCONNECT.
        duration_s: u16,
    },
    /// Fetches what came while it slept, and sleeps again afterwards.
    Awake {
        /// As before.
        duration_s: u16,
    },
    /// Nothing came from it in time, or it did not acknowledge: its will was published.
    Lost,
    /// It said goodbye, or was told to go.
    Disconnected,
}

/// One client. Idle, it is little more than its address.
pub(super) struct Device {
    addr: Addr,
    node: Option<Box<Box<[u8]>>>,
    pub(super) session: SessionId,
    /// The socket it talks to.
    pub(super) socket: u16,
    /// The listener it came in on.
    pub(super) door: u16,
    pub(super) state: Client,
    pub(super) keepalive_s: u16,
    pub(super) arrival: Arrival,
    /// The last message identifier of a REGISTER.
    pub(super) last_register: u16,
    /// When it connected, in seconds of the same clock.
    pub(super) connected_s: u32,
    /// When it was last heard.
    pub(super) last_in_ms: u64,
    /// The deadline of the armed timer, 0 for none.
    pub(super) timer_ms: u64,
    pub(super) registry: Registry,
    pub(super) busy: Option<Box<Busy>>,
}

/// How it connected: what tells a repeated CONNECT from a new one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arrival {
    pub(super) clean: bool,
    pub(super) will: bool,
    /// The broker made its client id.
    pub(super) assigned: bool,
    /// Nothing but its CONNECT has come yet.
    pub(super) fresh: bool,
}

/// What only a client has that something is under way to.
#[derive(Default)]
pub(super) struct Busy {
    /// QoS 1 and 2 messages that it has not acknowledged, oldest first.
    pub(super) sent: Vec<Sent>,
    /// A REGISTER that it has not acknowledged, and the message that waits for that.
    pub(super) registering: Option<Registering>,
    /// Answers that wait until what they promise is on disk.
    pub(super) deferred: VecDeque<Deferred>,
    /// QoS 2 messages from it that were released lately.
    pub(super) echoes: Echoes,
}

impl Busy {
    pub(super) fn is_idle(&self) -> bool {
        self.sent.is_empty() && self.registering.is_none() && self.deferred.is_empty() && self.echoes.is_empty()
    }
}

/// A message on its way to a client.
#[derive(Clone)]
pub(super) struct Parcel {
    pub(super) msg: Msg,
    pub(super) id: Option<PacketId>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) dup: bool,
    /// How often the client said that it does not know the topic id.
    pub(super) refusals: u8,
}

/// What the client has to answer next.
#[derive(Clone)]
pub(super) enum Await {
    Puback { parcel: Parcel, topic: TopicRef },
    Pubrec { parcel: Parcel, topic: TopicRef },
    Pubcomp,
}

/// A QoS 1 or 2 message that was sent.
pub(super) struct Sent {
    pub(super) id: PacketId,
    pub(super) awaits: Await,
    pub(super) retry: Retry,
}

/// When to send something again [SN 6.13].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Retry {
    /// [`Retry::NEVER`] while the client sleeps.
    pub(super) due_ms: u64,
    /// How often it was sent again.
    pub(super) tries: u8,
}

impl Retry {
    pub(super) const NEVER: u64 = u64::MAX;
}

/// A REGISTER that was sent.
pub(super) struct Registering {
    pub(super) topic_id: u16,
    pub(super) msg_id: u16,
    pub(super) retry: Retry,
    pub(super) parcel: Parcel,
}

/// An answer and the change it waits for.
pub(super) struct Deferred {
    pub(super) seq: ChangeSeq,
    pub(super) bytes: Box<[u8]>,
}

impl Device {
    pub(super) fn new(source: &Source<'_>, door: u16, session: SessionId, arrival: Arrival) -> Device {
        Device {
            addr: source.addr,
            node: (!source.node.is_empty()).then(|| Box::new(source.node.into())),
            session,
            socket: source.socket,
            door,
            state: Client::Active,
            keepalive_s: 0,
            arrival,
            last_register: 0,
            connected_s: 0,
            last_in_ms: 0,
            timer_ms: 0,
            registry: Registry::default(),
            busy: None,
        }
    }

    pub(super) fn source(&self) -> Source<'_> {
        Source { socket: self.socket, addr: self.addr, node: self.node.as_ref().map_or(&[], |node| node) }
    }

    pub(super) fn addr(&self) -> Addr {
        self.addr
    }

    /// Another address of the same client.
    pub(super) fn move_to(&mut self, source: &Source<'_>) {
        self.addr = source.addr;
        self.socket = source.socket;
        self.node = (!source.node.is_empty()).then(|| Box::new(source.node.into()));
    }

    pub(super) fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    /// Gives back what is not needed while nothing is under way.
    pub(super) fn trim(&mut self) {
        if self.busy.as_ref().is_some_and(|busy| busy.is_idle()) {
            self.busy = None;
        }
    }

    /// True while the client owes an answer to a message or a REGISTER.
    pub(super) fn owes(&self) -> bool {
        self.busy.as_ref().is_some_and(|busy| !busy.sent.is_empty() || busy.registering.is_some())
    }

    /// Until when something has to come from it; `None` for ever.
    pub(super) fn life_deadline(&self) -> Option<u64> {
        let ms = match self.state {
            Client::Active => u64::from(self.keepalive_s).saturating_mul(1500),
            Client::Asleep { duration_s } | Client::Awake { duration_s } => sleep_ms(duration_s),
            Client::Lost | Client::Disconnected => 0,
        };
        (ms != 0).then(|| self.last_in_ms.saturating_add(ms))
    }

    /// When it has to be looked at.
    pub(super) fn deadline(&self) -> Option<u64> {
        let retry = self.busy.as_ref().and_then(|busy| {
            let sent = busy.sent.iter().map(|sent| sent.retry.due_ms);
            sent.chain(busy.registering.as_ref().map(|r| r.retry.due_ms)).min().filter(|due| *due != Retry::NEVER)
        });
        // While awake its acknowledgements are supervised, not its sleep.
        [self.life_deadline(), retry].into_iter().flatten().min()
    }
}

/// How long a sleep may last: half as long again, or a tenth when it is longer than a minute [SN 7.2].
fn sleep_ms(duration_s: u16) -> u64 {
    let ms = u64::from(duration_s).saturating_mul(1000);
    ms.saturating_add(if duration_s > 60 { ms / 10 } else { ms / 2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_client_is_at_most_96_bytes() {
        assert!(size_of::<Device>() <= 96, "{}", size_of::<Device>());
    }

    /// [SN 7.2]
    #[test]
    fn tolerances_of_a_sleep() {
        assert_eq!([1, 60, 61, 65_535].map(sleep_ms), [1500, 90_000, 67_100, 72_088_500]);
    }
}
