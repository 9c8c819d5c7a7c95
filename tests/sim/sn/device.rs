//! One device: the client under test's other half, and what it does at random.

use std::net::SocketAddr;

use mosquitto::proto::sn::client::{Client, Event, Outcome, Settings, Ticket, Topic, Will as WillSettings};
use mosquitto::proto::sn::wire::{Encapsulation, encapsulate, frame};
use mosquitto::wire::QoS;

use super::ledger::{Ledger, Will};
use crate::rng::Rng;

/// What a device is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Publishes, and keeps its session.
    Publisher,
    /// Subscribes with this QoS, and keeps its session; sleeps now and then.
    Witness(QoS),
    /// Connects with a will, and leaves or dies.
    Mortal,
    /// Does anything, in clean sessions.
    Noise,
}

pub(super) struct Device {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) client: Client,
    pub(super) addr: SocketAddr,
    /// Behind a forwarder, whose address it has then.
    pub(super) node: Option<Vec<u8>>,
    pub(super) subscribed: bool,
    /// Messages that came, by their numbers.
    pub(super) got: Vec<usize>,
    /// Which message a request publishes.
    under_way: Vec<(Ticket, usize)>,
    /// Nothing new before this: what is in the air has to die first.
    pub(super) quiet_until_ms: u64,
    /// When a sleeper wakes; it may be too late.
    pub(super) wake_ms: u64,
    /// The will of this connection.
    will: Option<usize>,
    pub(super) dead: bool,
}

/// `mqttsn_retry_interval`, and the granularity of its clock.
const GATEWAY_RETRY_MS: u64 = 11_000;
const TOPICS: [&str; 4] = ["w/a", "w/b", "w/", "wa"];
const NOISE: [&str; 6] = ["n/a", "n/b/c", "nn", "n/+", "n/#", "#"];

fn pick(rng: &mut Rng, from: &[&'static str]) -> &'static str {
    rng.pick::<&'static str>(from)
}

impl Device {
    pub(super) fn new(number: u8, kind: Kind, rng: &mut Rng, retry_ms: u64, forwarded: bool) -> Device {
        let name = format!("d{number}");
        let mut settings = Settings::new(&name);
        settings.clean_session = matches!(kind, Kind::Mortal | Kind::Noise);
        settings.keepalive_s = *rng.pick(&[30, 60, 120]);
        settings.retry_ms = retry_ms;
        let addr = if forwarded { [10, 0, 0, 200] } else { [10, 0, 0, number] };
        Device {
            name,
            kind,
            client: Client::new(settings),
            addr: (addr, 1000).into(),
            node: forwarded.then(|| vec![number; usize::from(number) + 1]),
            subscribed: false,
            got: Vec::new(),
            under_way: Vec::new(),
            quiet_until_ms: 0,
            wake_ms: 0,
            will: None,
            dead: false,
        }
    }

    /// A datagram as it goes on the air.
    pub(super) fn wrap(&self, datagram: Vec<u8>) -> Vec<u8> {
        let Some(node_id) = &self.node else { return datagram };
        let mut bytes = Vec::new();
        encapsulate(&mut bytes, Encapsulation { radius: 0, node_id });
        bytes.extend(datagram);
        bytes
    }

    /// Whether a datagram for its address is for it; its content then.
    pub(super) fn unwrap<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (by, inner) = frame::split(bytes).ok()?;
        (by.map(|by| by.node_id) == self.node.as_deref()).then_some(inner)
    }

    /// A sleeper's radio is off, and the dead do not listen.
    pub(super) fn listens(&self) -> bool {
        !self.dead && !self.client.is_asleep()
    }

    pub(super) fn connect(&mut self, rng: &mut Rng, now_ms: u64, ledger: &mut Ledger) {
        if self.kind == Kind::Mortal {
            ledger.wills.push(Will::Held);
            let number = ledger.wills.len() - 1;
            self.will = Some(number);
            let mut settings = self.client.settings().clone();
            settings.will = Some(WillSettings {
                topic: "will".into(),
                payload: u32::try_from(number).unwrap().to_be_bytes().into(),
                qos: QoS::AtLeastOnce,
                retain: false,
            });
            self.client = Client::new(settings);
        } else if self.kind == Kind::Noise && rng.one_in(3) {
            self.client = Client::new(self.client.settings().clone());
        }
        self.client.connect(now_ms);
    }

    /// What happened to it.
    pub(super) fn on_events(&mut self, now_ms: u64, quiet_ms: u64, ledger: &mut Ledger) {
        while let Some(event) = self.client.take_event() {
            let rest = now_ms + quiet_ms;
            match event {
                Event::Connected => self.judge(ledger, Will::Due),
                Event::Refused(code) => panic!("{} was refused: {code:?}", self.name),
                Event::Finished(ticket, outcome) => {
                    let Some(at) = self.under_way.iter().position(|(own, _)| *own == ticket) else { continue };
                    let (_, number) = self.under_way.swap_remove(at);
                    assert_eq!(outcome, Outcome::Done, "{}: message {number}", self.name);
                    ledger.messages[number].acknowledged = true;
                }
                Event::Subscribed(_, outcome, _) if self.kind != Kind::Noise => {
                    assert_eq!(outcome, Outcome::Done, "{}", self.name);
                    self.subscribed = true;
                }
                Event::Message(message) if matches!(self.kind, Kind::Witness(_)) => {
                    let name = match &message.topic {
                        Topic::Name(name) => name.clone(),
                        Topic::Short(name) => String::from_utf8_lossy(name).into_owned(),
                        Topic::Predefined(id) => panic!("nobody subscribed to {id}"),
                    };
                    assert!(name.starts_with('w'), "{}: a message on {name}", self.name);
                    let number = message.payload.try_into().map(u32::from_be_bytes).expect("four bytes");
                    self.got.push(usize::try_from(number).unwrap());
                }
                Event::Asleep => self.quiet_until_ms = rest,
                Event::Disconnected => {
                    self.judge(ledger, Will::Void);
                    self.quiet_until_ms = rest;
                }
                Event::Dismissed | Event::Lost => {
                    self.judge(ledger, Will::Either);
                    self.quiet_until_ms = rest;
                    if self.kind == Kind::Mortal {
                        // The same CONNECT within a retry interval is the same connection, with the same will.
                        self.quiet_until_ms = rest.max(now_ms + GATEWAY_RETRY_MS);
                    }
                }
                Event::Subscribed(..) | Event::Message(_) | Event::Gateway { .. } => {}
            }
        }
    }

    /// From now on this is what has to become of its will.
    fn judge(&mut self, ledger: &mut Ledger, verdict: Will) {
        let Some(number) = self.will else { return };
        ledger.wills[number] = match (ledger.wills[number], verdict) {
            // While it is connected it may die at any time.
            (Will::Held, Will::Due) => Will::Either,
            (_, verdict) => verdict,
        };
    }

    /// Dies without a word.
    pub(super) fn die(&mut self, ledger: &mut Ledger) {
        if self.client.is_active() && self.client.pending() == 0 {
            self.judge(ledger, Will::Due);
            self.dead = true;
        }
    }

    pub(super) fn publish(&mut self, rng: &mut Rng, now_ms: u64, ledger: &mut Ledger, own: usize) {
        let qos = *rng.pick(&crate::client::QOS);
        let topic = match rng.below(5) {
            0 => Topic::Predefined(7),
            _ => Topic::new(pick(rng, &TOPICS)),
        };
        let (number, payload) = ledger.publish(own, qos);
        let ticket = self.client.publish(now_ms, topic, qos, rng.one_in(8), &payload).expect("short enough");
        self.under_way.push((ticket, number));
        self.on_events(now_ms, 0, ledger);
    }

    pub(super) fn make_noise(&mut self, rng: &mut Rng, now_ms: u64) {
        let topic = Topic::new(pick(rng, &NOISE));
        let qos = *rng.pick(&crate::client::QOS);
        let _fits = match rng.below(8) {
            0 => self.client.subscribe(now_ms, topic, qos),
            1 => self.client.unsubscribe(now_ms, topic),
            2 => self.client.update_will_topic(now_ms, Some(("n/will".into(), qos, false))),
            3 => self.client.update_will_message(now_ms, b"will"),
            4 => self.client.publish(now_ms, Topic::Predefined(9), qos, false, b"nowhere"),
            _ => self.client.publish(now_ms, Topic::new(pick(rng, &NOISE[..3])), qos, rng.one_in(3), b"noise"),
        };
    }
}
