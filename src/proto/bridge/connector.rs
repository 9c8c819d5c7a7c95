//! What outlives the connections of a bridge: when and where to connect, and what was learned about the other broker.
//!
//! ```text
//! Idle ──▶ Resolving ──▶ Connecting ──▶ TlsHandshake ──▶ AwaitConnack ──▶ Live
//!   ▲          │              │               │                │           │
//!   │          └──────────────┴───────────────┴────────────────┴───────────┤
//!   └── `once` after its end, `lazy` after its idle time ── Backoff ◀──────┘
//! ```
//!
//! Sans-io: whoever has sockets asks [`Connector::on_timer`] what to do, and tells what became of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use super::suspects::{Ended, Suspect, Suspects, Verdict};
use super::{Backoff, Profile};
use crate::broker::Backlog;
use crate::config::bridge::{Address, StartType};
use crate::proto::endpoint::BridgeFigures as Figures;
use crate::timer::Now;
use crate::wire::connect::ConnackForm;
use crate::wire::{ProtocolVersion, QoS, ReasonCode};

/// How long a name may take to be looked up, in milliseconds; then the next address has its turn.
const RESOLVE_MS: u64 = 10_000;
/// Addresses that are tried of one name.
const MOST_CANDIDATES: usize = 8;
/// How often the first address is tried while another one serves, in milliseconds.
const PRIMARY_MS: u64 = 5_000;
/// Closes without CONNACK in a row after which another version is tried.
const SILENT_CLOSES: u32 = 2;

/// Where the link stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Nothing is to be done: it was to be connected once, or there is too little to say.
    Idle,
    /// The name is looked up; patience ends at this time.
    Resolving(u64),
    /// The socket is not connected yet.
    Connecting,
    /// TLS is not agreed on yet.
    TlsHandshake,
    /// CONNECT was sent.
    AwaitConnack,
    /// Connected.
    Live,
    /// Waits until this time to connect again.
    Backoff(u64),
}

impl Link {
    /// The state for operators.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Link::Idle => "idle",
            Link::Resolving(_) => "resolving",
            Link::Connecting => "connecting",
            Link::TlsHandshake => "tls_handshake",
            Link::AwaitConnack => "await_connack",
            Link::Live => "live",
            Link::Backoff(_) => "backoff",
        }
    }
}

/// What the other broker is offered in CONNECT: what it refuses is not offered again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The protocol version.
    pub version: ProtocolVersion,
    /// The bit that says that this is a bridge `[conf: try_private]`; only before version 5.
    pub private: bool,
    /// Whether anything is sent with the retain flag.
    pub retain: bool,
    /// The highest QoS of what is sent.
    pub max_qos: QoS,
    /// Whether it is told the state, by a message and a will.
    pub notify: bool,
}

/// What became of a connection.
pub struct Lost {
    /// CONNACK had come.
    pub was_live: bool,
    /// Why it ended, in words.
    pub error: String,
    /// What CONNACK refused it with.
    pub refusal: Option<ConnackForm>,
    /// The peer closed it without CONNACK.
    pub before_connack: bool,
    /// The highest QoS that was found to be possible.
    pub max_qos: QoS,
    /// Publishes that were sent.
    pub sent: u64,
    /// Publishes that came.
    pub received: u64,
    /// Messages that were not sent because of their topic or size, or that were refused.
    pub refused: u64,
    /// The peer ended it.
    pub by_peer: Option<Ended>,
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing before the deadline.
    Nothing,
    /// Look up this name.
    Resolve(Address),
    /// Connect to this address.
    Connect(SocketAddr),
}

/// See the module documentation.
pub struct Connector {
    profile: Rc<Profile>,
    /// Takes over at the next connection `[conf: bridge_reload_type]`.
    next: Option<Rc<Profile>>,
    link: Link,
    backoff: Backoff,
    /// The address whose turn it is.
    address: usize,
    /// What its name stands for, as far as it was not tried.
    candidates: VecDeque<SocketAddr>,
    offer: Offer,
    /// Closes without CONNACK in a row.
    silent_closes: u32,
    /// The offer is lower than it has to be, for want of an answer: the full one is tried again after a while.
    guessed: bool,
    suspects: Suspects,
    /// When the present connection was live.
    live_ms: Option<u64>,
    /// The first address is due for a try.
    primary_ms: Option<u64>,
    connections: u64,
    figures: Figures,
}

impl Connector {
    /// A bridge that begins to connect at once.
    #[must_use]
    pub fn new(profile: Rc<Profile>, now: Now) -> Connector {
        Connector {
            backoff: Backoff::new(profile.config.restart),
            offer: full_offer(&profile),
            figures: Figures { name: profile.config.name.clone(), ..Figures::default() },
            profile,
            next: None,
            link: Link::Backoff(now.mono_ms),
            address: 0,
            candidates: VecDeque::new(),
            silent_closes: 0,
            guessed: false,
            suspects: Suspects::default(),
            live_ms: None,
            primary_ms: None,
            connections: 0,
        }
    }

    /// What is configured now.
    #[must_use]
    pub fn profile(&self) -> &Rc<Profile> {
        &self.profile
    }

    /// What is configured now, or will be with the next connection.
    #[must_use]
    pub fn newest(&self) -> &Rc<Profile> {
        self.next.as_ref().unwrap_or(&self.profile)
    }

    /// What is offered to the other broker.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Messages that the other broker cannot stand.
    #[must_use]
    pub fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// Where the link stands.
    #[must_use]
    pub fn link(&self) -> Link {
        self.link
    }

    /// The address whose turn it is.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        self.profile.config.addresses.get(self.address)
    }

    /// The configuration from the next connection on; at once when there is none now.
    pub fn reconfigure(&mut self, now: Now, profile: Rc<Profile>) {
        self.next = Some(profile);
        if matches!(self.link, Link::Idle | Link::Backoff(_)) {
            self.link = Link::Backoff(now.mono_ms);
        }
    }

    /// When [`Connector::on_timer`] is to be called, in milliseconds.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        match self.link {
            Link::Resolving(until) | Link::Backoff(until) => Some(until),
            Link::Idle | Link::Connecting | Link::TlsHandshake | Link::AwaitConnack | Link::Live => None,
        }
    }

    /// When the first address is to be tried, while another one serves.
    #[must_use]
    pub fn primary_due(&self) -> Option<u64> {
        self.primary_ms
    }

    /// The first address is being tried, or was: once more in a while.
    pub fn primary_tried(&mut self, now: Now) {
        self.primary_ms = self.primary_ms.map(|_| now.mono_ms.saturating_add(PRIMARY_MS));
    }

    /// The first address can be reached again: the next connection goes there.
    pub fn return_to_primary(&mut self) {
        self.address = 0;
        self.primary_ms = None;
    }

    /// Whether a lazy bridge waits for something to say.
    #[must_use]
    pub fn is_lazy_and_idle(&self) -> bool {
        self.link == Link::Idle && self.profile.config.start_type == StartType::Lazy
    }

    /// Whether a lazy bridge that is idle has enough to say.
    #[must_use]
    pub fn is_woken_by(&self, backlog: Backlog) -> bool {
        let config = &self.profile.config;
        let waiting = backlog.queued.saturating_add(backlog.inflight);
        let enough = usize::try_from(config.threshold).unwrap_or(usize::MAX);
        self.is_lazy_and_idle() && waiting >= enough
    }

    /// Connects now.
    pub fn wake(&mut self, now: Now) -> Step {
        self.begin(now)
    }

    /// The deadline has passed. `random` is any number.
    pub fn on_timer(&mut self, now: Now, random: u64) -> Step {
        match self.link {
            Link::Backoff(until) if until <= now.mono_ms => self.begin(now),
            Link::Resolving(until) if until <= now.mono_ms => {
                self.failed(now, "the name server does not answer", random)
            }
            _ => Step::Nothing,
        }
    }

    fn begin(&mut self, now: Now) -> Step {
        if let Some(profile) = self.next.take() {
            self.backoff = Backoff::new(profile.config.restart);
            self.offer = full_offer(&profile);
            self.suspects = Suspects::default();
            (self.silent_closes, self.guessed, self.address) = (0, false, 0);
            self.profile = profile;
        }
        self.candidates.clear();
        let Some(address) = self.profile.config.addresses.get(self.address).cloned() else {
            self.link = Link::Idle;
            return Step::Nothing;
        };
        crate::notice!("Connecting bridge {} ({}:{})", self.profile.config.name, address.host, address.port);
        self.link = Link::Resolving(now.mono_ms.saturating_add(RESOLVE_MS));
        Step::Resolve(address)
    }

    /// Whether the name of this address is waited for.
    #[must_use]
    pub fn awaits(&self, address: &Address) -> bool {
        matches!(self.link, Link::Resolving(_)) && self.address() == Some(address)
    }

    /// What the name of an address stands for, if it is the one that is waited for.
    pub fn resolved(
        &mut self,
        now: Now,
        address: &Address,
        answer: Result<Vec<SocketAddr>, String>,
        random: u64,
    ) -> Step {
        if !self.awaits(address) {
            return Step::Nothing;
        }
        match answer {
            Ok(all) => {
                self.candidates = all.into_iter().take(MOST_CANDIDATES).collect();
                match self.candidates.pop_front() {
                    Some(candidate) => {
                        self.link = Link::Connecting;
                        Step::Connect(candidate)
                    }
                    None => self.failed(now, "the name stands for no address", random),
                }
            }
            Err(why) => {
                log::warn!("Warning: Error resolving bridge address: {why}.");
                self.failed(now, &why, random)
            }
        }
    }

    /// How far the connection has come.
    pub fn reached(&mut self, now: Now, link: Link) {
        if link == Link::Live && self.link != Link::Live {
            self.live_ms = Some(now.mono_ms);
            self.connections = self.connections.saturating_add(1);
            self.silent_closes = 0;
            let first = self.address == 0 || self.profile.config.round_robin;
            self.primary_ms = (!first).then(|| now.mono_ms.saturating_add(PRIMARY_MS));
        }
        self.link = link;
    }

    /// The attempt failed before anything was sent: another address of the same name is next, if there is one.
    pub fn failed(&mut self, now: Now, why: &str, random: u64) -> Step {
        self.figures.last_error = why.into();
        if let Some(candidate) = self.candidates.pop_front() {
            self.link = Link::Connecting;
            return Step::Connect(candidate);
        }
        log::warn!("Warning: Unable to connect bridge {}.", self.profile.config.name);
        self.wait(now, random);
        Step::Nothing
    }

    /// The connection has ended. Also what is to be done about a message, if anything is.
    pub fn ended(&mut self, now: Now, lost: Lost, random: u64) -> (Step, Option<Suspect>) {
        let lasted = self.account(now, &lost);
        let Lost { was_live, refusal, before_connack, max_qos, by_peer, .. } = lost;
        let mut aside = None;
        if was_live {
            self.candidates.clear();
            if max_qos < self.offer.max_qos && max_qos > QoS::AtMostOnce {
                self.offer.max_qos = max_qos;
            }
            if let Some(ended) = by_peer {
                aside = self.judge(now, ended);
            }
            if std::mem::replace(&mut self.guessed, false) {
                // Once more what it did not answer; one close is enough this time.
                let full = full_offer(&self.profile);
                (self.offer.version, self.offer.private, self.offer.notify) = (full.version, full.private, full.notify);
                self.silent_closes = SILENT_CLOSES.saturating_sub(1);
            }
        } else if self.lower_offer(refusal, before_connack) {
            // It said what it does not like: that is not tried again, so this cannot go on for ever.
            self.link = Link::Backoff(now.mono_ms);
            return (Step::Nothing, aside);
        } else if let Some(candidate) = self.candidates.pop_front().filter(|_| refusal.is_none()) {
            self.link = Link::Connecting;
            return (Step::Connect(candidate), aside);
        }
        if lasted.is_some_and(|lasted| self.backoff.ended(lasted)) {
            log::info!("Bridge {} connection was stable enough, resetting backoff", self.profile.config.name);
        }
        self.wait(now, random);
        (Step::Nothing, aside)
    }

    /// Adds up what a connection did. How long it was live.
    fn account(&mut self, now: Now, lost: &Lost) -> Option<u64> {
        let figures = &mut self.figures;
        figures.sent = figures.sent.saturating_add(lost.sent);
        figures.received = figures.received.saturating_add(lost.received);
        figures.set_aside = figures.set_aside.saturating_add(lost.refused);
        figures.last_error.clone_from(&lost.error);
        self.primary_ms = None;
        self.live_ms.take().map(|since| now.mono_ms.saturating_sub(since))
    }

    /// We have ended the connection ourselves: the next begins at once, or waits until there is enough to say.
    pub fn restarted(&mut self, now: Now, lost: &Lost, again: bool) {
        let error = self.figures.last_error.clone();
        self.account(now, lost);
        self.figures.last_error = error;
        self.candidates.clear();
        self.link = if again { Link::Backoff(now.mono_ms) } else { Link::Idle };
    }

    fn judge(&mut self, now: Now, ended: Ended) -> Option<Suspect> {
        let (verdict, suspect) = self.suspects.ended_by_peer(ended);
        let name = &self.profile.config.name;
        if verdict == Verdict::NoNotification {
            if std::mem::replace(&mut self.offer.notify, false) {
                log::warn!(
                    "Warning: Bridge {name}: the other broker closes the connection when it is told the state in '{}'; it \
                     is not told any more. 'notification_topic' names another topic.",
                    self.profile.state_topic
                );
            }
            return None;
        }
        let suspect = suspect?;
        match verdict {
            Verdict::Open | Verdict::NoNotification => None,
            Verdict::LowerQos => {
                log::warn!(
                    "Warning: Bridge {name}: the other broker closes the connection whenever it gets QoS 2; it gets QoS 1 \
                     from now on."
                );
                self.offer.max_qos = QoS::AtLeastOnce;
                None
            }
            Verdict::SetAside => {
                log::warn!(
                    "Warning: Bridge {name}: the other broker closes the connection whenever it gets the message to '{}'; \
                     it is set aside.",
                    suspect.topic()
                );
                self.figures.set_aside = self.figures.set_aside.saturating_add(1);
                self.suspects.set_aside(now, suspect.topic());
                Some(suspect)
            }
        }
    }

    /// Offers less than before, if that may help. True when the next attempt can follow at once.
    fn lower_offer(&mut self, refusal: Option<ConnackForm>, before_connack: bool) -> bool {
        let (name, v5) = (&self.profile.config.name, self.offer.version == ProtocolVersion::V5);
        match refusal {
            Some(ConnackForm::V3(1) | ConnackForm::V5(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION)) => {
                self.guessed = false;
                if v5 {
                    crate::notice!(
                        "Warning: Remote bridge {name} does not support MQTT v5.0, reconnecting using MQTT v3.1.1."
                    );
                    self.offer.version = ProtocolVersion::V311;
                    self.offer.private = self.profile.config.try_private;
                    return true;
                }
                return std::mem::replace(&mut self.offer.private, false);
            }
            Some(ConnackForm::V5(ReasonCode::RETAIN_NOT_SUPPORTED)) => {
                return std::mem::replace(&mut self.offer.retain, false);
            }
            Some(ConnackForm::V5(ReasonCode::QOS_NOT_SUPPORTED)) => {
                let lower = match self.offer.max_qos {
                    QoS::ExactlyOnce => QoS::AtLeastOnce,
                    QoS::AtLeastOnce => QoS::AtMostOnce,
                    QoS::AtMostOnce => return false,
                };
                self.offer.max_qos = lower;
                return true;
            }
            Some(_) => {
                self.silent_closes = 0;
                return false;
            }
            None => {}
        }
        if !before_connack {
            return false;
        }
        self.silent_closes = self.silent_closes.saturating_add(1);
        if self.silent_closes < SILENT_CLOSES {
            return false;
        }
        // Some brokers just close on what they do not know. It may also be one that restarts: so what is left out now is
        // offered again next time, and so on.
        self.silent_closes = 0;
        let full = full_offer(&self.profile);
        // From the most likely to the least: a will is refused by few.
        if self.offer.private {
            self.offer.private = false;
        } else if v5 {
            self.offer.version = ProtocolVersion::V311;
            self.offer.private = false;
        } else if self.offer.notify {
            self.offer.notify = false;
        } else {
            (self.offer.version, self.offer.private, self.offer.notify) = (full.version, full.private, full.notify);
        }
        let now = &self.offer;
        self.guessed = (now.version, now.private, now.notify) != (full.version, full.private, full.notify);
        if self.guessed {
            log::info!(
                "Bridge {name}: the other broker closed the connection without a CONNACK; trying MQTT v{}{}{}.",
                if now.version == ProtocolVersion::V31 { "3.1" } else { "3.1.1" },
                if now.private { "" } else { ", not as a bridge" },
                if now.notify || !full.notify { "" } else { ", without a will" }
            );
        }
        false
    }

    /// Waits before the next attempt, at the next address.
    fn wait(&mut self, now: Now, random: u64) {
        let config = &self.profile.config;
        let count = config.addresses.len().max(1);
        self.address = self.address.saturating_add(1).checked_rem(count).unwrap_or_default();
        if config.start_type == StartType::Once {
            self.link = Link::Idle;
            return;
        }
        let delay_ms = self.backoff.next(random);
        log::info!("Bridge {} next backoff will be {delay_ms} ms", config.name);
        self.link = Link::Backoff(now.mono_ms.saturating_add(delay_ms));
    }

    /// What an operator sees; `counts` are the publishes of the present connection, sent and received.
    #[must_use]
    pub fn figures(&self, backlog: Backlog, counts: (u64, u64)) -> Figures {
        let figures = self.figures.clone();
        Figures {
            state: self.link.name(),
            queued: u64::try_from(backlog.queued.saturating_add(backlog.inflight)).unwrap_or(u64::MAX),
            sent: figures.sent.saturating_add(counts.0),
            received: figures.received.saturating_add(counts.1),
            reconnects: self.connections.saturating_sub(1),
            ..figures
        }
    }
}

fn full_offer(profile: &Profile) -> Offer {
    let version = profile.config.version;
    let private = profile.config.try_private && version != ProtocolVersion::V5;
    Offer { version, private, retain: true, max_qos: QoS::ExactlyOnce, notify: profile.notifies_remote() }
}

#[cfg(test)]
mod tests;
