//! The client's side of MQTT-SN 1.2, for the command-line clients and the simulation.
//!
//! [`Client`] owns one session with one gateway: what it still has to say, which topic ids it knows and which messages it
//! has got. It is sans-io: datagrams and time come in through [`Client::on_datagram`] and [`Client::on_timer`], datagrams
//! go out through [`Client::take_datagram`], and what happened through [`Client::take_event`]. Times are milliseconds of
//! one clock that never jumps.
//!
//! The states are those of the specification [SN 6.14], seen from the client:
//!
//! ```text
//! Disconnected ─ CONNECT ─▶ Connecting ─ CONNACK ─▶ Active ─ DISCONNECT ─▶ Leaving ─▶ Disconnected
//!                                                   │  ▲
//!                            DISCONNECT(duration) ──┘  └── CONNECT
//!                                    ▼                        │
//!                              FallingAsleep ──────────────▶ Asleep ◀─ PINGREQ(id) / PINGRESP ─▶ Awake
//! ```
//!
//! Requests are worked off one after the other, each until its answer came [SN 6.6: one exchange at a time]. One that stays
//! without an answer is repeated every [`Settings::retry_ms`], [`Settings::retries`] times; then the gateway is lost
//! [SN 6.13]. What was under way then is kept when the session is (CleanSession 0), and goes on after the next CONNACK.

mod exchange;
mod inbound;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::VecDeque;

use super::wire::{Connect, Message, PROTOCOL_ID, QosField, ReturnCode, TooLong, WillTopic};
use crate::wire::QoS;

use exchange::{Exchange, Request, Work};
use inbound::Inbound;
use topics::Topics;

/// A topic or topic filter, in the three forms of MQTT-SN [SN 5.3.11].
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Topic {
    /// A name or filter; on the wire a topic id stands for a name.
    Name(String),
    /// A name of two octets, sent as it is.
    Short([u8; 2]),
    /// An id that the gateway has in its configuration.
    Predefined(u16),
}

impl Topic {
    /// The form a name takes on the wire: a short name if it has two octets and is no filter.
    #[must_use]
    pub fn new(name: &str) -> Topic {
        match name.as_bytes() {
            [a, b] if !name.contains(['+', '#']) => Topic::Short([*a, *b]),
            _ => Topic::Name(name.into()),
        }
    }
}

/// What the gateway publishes when it loses the client [SN 6.3].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Will {
    /// A topic name.
    pub topic: String,
    /// The payload; may be empty.
    pub payload: Vec<u8>,
    /// The QoS it is published with.
    pub qos: QoS,
    /// It is retained.
    pub retain: bool,
}

/// What a client is and how patient it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The client id, 1 to 23 characters by the specification.
    pub client_id: String,
    /// The session begins anew with each CONNECT and ends with the connection.
    pub clean_session: bool,
    /// In seconds; 0 for none.
    pub keepalive_s: u16,
    /// The will. With CleanSession 0 and `None` the gateway keeps the one it has [SN 6.3].
    pub will: Option<Will>,
    /// T_RETRY: after so many milliseconds a request is repeated [SN 7.2].
    pub retry_ms: u64,
    /// N_RETRY: so often.
    pub retries: u32,
}

impl Settings {
    /// A clean session under this id, with the times that the specification recommends and a keepalive of 60 s.
    #[must_use]
    pub fn new(client_id: &str) -> Settings {
        Settings {
            client_id: client_id.into(),
            clean_session: true,
            keepalive_s: 60,
            will: None,
            retry_ms: 10_000,
            retries: 3,
        }
    }
}

/// A message from the gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Where it was published.
    pub topic: Topic,
    /// The QoS it was sent with.
    pub qos: QoS,
    /// It was retained when the client subscribed.
    pub retain: bool,
    /// It may have come before.
    pub dup: bool,
    /// 0 for QoS 0.
    pub msg_id: u16,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Names a request in the events about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Ticket(pub u32);

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is done: for QoS 0 sent, else acknowledged.
    Done,
    /// The gateway refused it.
    Refused(ReturnCode),
    /// The session ended before an answer came; whether the gateway got it is unknown.
    Abandoned,
}

/// What the owner of a client has to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// CONNACK: the client is active.
    Connected,
    /// CONNACK with another code: the client is disconnected.
    Refused(ReturnCode),
    /// A PUBLISH, UNSUBSCRIBE or change of the will has come to its end.
    Finished(Ticket, Outcome),
    /// A SUBSCRIBE has; with the QoS that was granted.
    Subscribed(Ticket, Outcome, QoS),
    /// A message arrived; with QoS 2 once only.
    Message(Received),
    /// The gateway knows that the client sleeps. After [`Client::wake`]: there is nothing more to fetch.
    Asleep,
    /// The gateway answered the client's DISCONNECT.
    Disconnected,
    /// The gateway sent DISCONNECT by itself: it does not know the client, or another took its place.
    Dismissed,
    /// The gateway does not answer [SN 6.13].
    Lost,
    /// GWINFO or ADVERTISE: here is a gateway. A client may have answered in its place, with the gateway's address.
    Gateway {
        /// Its id.
        gateway_id: u8,
        /// Its address if it is not the sender, in the form of the network.
        address: Vec<u8>,
    },
}

/// When to repeat a request, and how often yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Retry {
    deadline_ms: u64,
    left: u32,
}

/// Which step of the connection set-up waits for the gateway [SN 6.2].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SetUp {
    Connect,
    WillTopic,
    WillMsg,
}

/// Where the connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Disconnected,
    /// SEARCHGW was sent with this radius.
    Searching(u8, Retry),
    Connecting(SetUp, Retry),
    /// With a PINGREQ under way or not.
    Active(Option<Retry>),
    /// DISCONNECT with a duration was sent.
    FallingAsleep(u16, Retry),
    Asleep,
    /// PINGREQ with the client id was sent: the gateway sends what it kept, then PINGRESP.
    Awake(Retry),
    /// DISCONNECT was sent.
    Leaving(Retry),
}

/// What to do when all requests are done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Intent {
    Stay,
    Sleep(u16),
    Leave,
}

/// The client's side of one session. See the module.
pub struct Client {
    settings: Settings,
    state: State,
    intent: Intent,
    queue: VecDeque<Request>,
    exchange: Option<Exchange>,
    topics: Topics,
    inbound: Inbound,
    last_sent_ms: u64,
    last_msg_id: u16,
    last_ticket: u32,
    out: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

impl Client {
    /// A client that is not connected yet.
    #[must_use]
    pub fn new(settings: Settings) -> Client {
        Client {
            settings,
            state: State::Disconnected,
            intent: Intent::Stay,
            queue: VecDeque::new(),
            exchange: None,
            topics: Topics::default(),
            inbound: Inbound::default(),
            last_sent_ms: 0,
            last_msg_id: 0,
            last_ticket: 0,
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The settings it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// True between CONNACK and whatever ends the connection, sleep excepted.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.state, State::Active(_))
    }

    /// True while the gateway keeps messages and the client need not listen.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.state == State::Asleep
    }

    /// True when there is no connection and none is being set up.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        self.state == State::Disconnected
    }

    /// Requests that are not finished.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.queue.len().saturating_add(usize::from(self.exchange.is_some()))
    }

    /// A datagram for the gateway.
    pub fn take_datagram(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// What happened.
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Client::on_timer`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let connection = match self.state {
            State::Disconnected | State::Asleep => None,
            State::Searching(_, retry)
            | State::Connecting(_, retry)
            | State::Active(Some(retry))
            | State::FallingAsleep(_, retry)
            | State::Awake(retry)
            | State::Leaving(retry) => Some(retry.deadline_ms),
            State::Active(None) => self.ping_ms(),
        };
        let exchange = self.exchange.as_ref().filter(|_| self.is_active()).map(|exchange| exchange.retry.deadline_ms);
        [connection, exchange].into_iter().flatten().min()
    }

    /// Asks who is a gateway, within so many hops [SN 6.1]. The answer is [`Event::Gateway`]; without one,
    /// [`Event::Lost`]. Only while disconnected.
    pub fn search(&mut self, now_ms: u64, radius: u8) {
        if self.is_disconnected() {
            self.state = State::Searching(radius, self.retry(now_ms));
            self.send(now_ms, &Message::SearchGw { radius });
        }
    }

    /// Sends CONNECT: for a new connection, after a search, or to end the sleep [SN 6.2, 6.14].
    pub fn connect(&mut self, now_ms: u64) {
        if matches!(self.state, State::Disconnected | State::Searching(..) | State::Asleep | State::Awake(_)) {
            self.intent = Intent::Stay;
            self.set_up(now_ms, SetUp::Connect);
        }
    }

    /// Publishes with QoS 0, 1 or 2, when what was asked for before is done.
    ///
    /// # Errors
    /// [`TooLong`] when no message can hold it.
    pub fn publish(
        &mut self,
        now_ms: u64,
        topic: Topic,
        qos: QoS,
        retain: bool,
        payload: &[u8],
    ) -> Result<Ticket, TooLong> {
        self.request(now_ms, Work::Publish { topic, qos, retain, payload: payload.into() })
    }

    /// Publishes with QoS −1, connected or not; nobody answers [SN 6.8].
    ///
    /// # Errors
    /// [`TooLong`] when no message can hold it, or when the topic is a name, which has no id without a connection.
    pub fn publish_minus_one(
        &mut self,
        now_ms: u64,
        topic: &Topic,
        retain: bool,
        payload: &[u8],
    ) -> Result<(), TooLong> {
        let topic = topics::without_table(topic).ok_or(TooLong)?;
        let (dup, qos, msg_id) = (false, QosField::MinusOne, 0);
        let publish = super::wire::Publish { dup, qos, retain, topic, msg_id, data: payload };
        self.try_send(now_ms, &Message::Publish(publish))
    }

    /// Subscribes to a name, filter or id.
    ///
    /// # Errors
    /// [`TooLong`] when no message can hold it.
    pub fn subscribe(&mut self, now_ms: u64, topic: Topic, qos: QoS) -> Result<Ticket, TooLong> {
        self.request(now_ms, Work::Subscribe { topic, qos })
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// [`TooLong`] when no message can hold it.
    pub fn unsubscribe(&mut self, now_ms: u64, topic: Topic) -> Result<Ticket, TooLong> {
        self.request(now_ms, Work::Unsubscribe { topic })
    }

    /// Changes topic, QoS and retain flag of the will, or deletes the will as a whole [SN 6.4].
    ///
    /// # Errors
    /// [`TooLong`] when no message can hold it.
    pub fn update_will_topic(&mut self, now_ms: u64, will: Option<(String, QoS, bool)>) -> Result<Ticket, TooLong> {
        self.request(now_ms, Work::WillTopic(will))
    }

    /// Changes the payload of the will [SN 6.4].
    ///
    /// # Errors
    /// [`TooLong`] when no message can hold it.
    pub fn update_will_message(&mut self, now_ms: u64, payload: &[u8]) -> Result<Ticket, TooLong> {
        self.request(now_ms, Work::WillMsg(payload.into()))
    }

    /// Goes to sleep for so many seconds once everything that was asked for is done; [`Event::Asleep`] tells when
    /// [SN 6.14]. The gateway loses the client that does not call [`Client::wake`] in time. While asleep: a new time.
    pub fn sleep(&mut self, now_ms: u64, duration_s: u16) {
        if self.state == State::Asleep {
            self.say_goodbye(now_ms, Intent::Sleep(duration_s));
        } else {
            self.intent = Intent::Sleep(duration_s);
            self.proceed(now_ms);
        }
    }

    /// Fetches what the gateway kept; [`Event::Asleep`] tells when that was all [SN 6.14].
    pub fn wake(&mut self, now_ms: u64) {
        if self.state == State::Asleep {
            self.state = State::Awake(self.retry(now_ms));
            self.send_wake(now_ms);
        }
    }

    /// Disconnects once everything that was asked for is done; [`Event::Disconnected`] tells when [SN 6.12].
    pub fn disconnect(&mut self, now_ms: u64) {
        if matches!(self.state, State::Asleep | State::Awake(_)) {
            self.say_goodbye(now_ms, Intent::Leave);
        } else {
            self.intent = Intent::Leave;
            self.proceed(now_ms);
        }
    }

    /// Forgets every request that has no answer yet: those that wait, and the one that is under way.
    pub fn give_up_requests(&mut self) {
        self.abandon();
    }

    /// A datagram from the gateway. What is no message, or none that makes sense now, is ignored.
    pub fn on_datagram(&mut self, now_ms: u64, datagram: &[u8]) {
        let Ok(message) = Message::decode(datagram) else { return };
        if let State::Awake(_) = self.state {
            // As long as something comes, the gateway is there.
            self.state = State::Awake(self.retry(now_ms));
        }
        match (message, self.state) {
            (Message::GwInfo { gateway_id, address }, _) => {
                self.found(gateway_id, address);
            }
            (Message::Advertise { gateway_id, .. }, _) => self.found(gateway_id, &[]),
            (_, State::Disconnected | State::Searching(..) | State::Asleep) => {}
            (Message::Connack(code), State::Connecting(..)) => self.on_connack(now_ms, code),
            // A repeated CONNECT makes the gateway ask again after the set-up, too.
            (Message::WillTopicReq, State::Connecting(..) | State::Active(_)) if self.settings.will.is_some() => {
                self.on_will_request(now_ms, SetUp::WillTopic);
            }
            (Message::WillMsgReq, State::Connecting(..) | State::Active(_)) if self.settings.will.is_some() => {
                self.on_will_request(now_ms, SetUp::WillMsg);
            }
            (Message::Disconnect { .. }, state) => self.on_disconnect(state),
            // Whatever else comes belongs to an earlier connection.
            (_, State::Connecting(..)) => {}
            (Message::Pingreq { .. }, _) => self.send(now_ms, &Message::Pingresp),
            (Message::Pingresp, State::Active(_)) => self.state = State::Active(None),
            (Message::Pingresp, State::Awake(_)) => self.fall_asleep(),
            (Message::Publish(publish), _) => self.on_publish(now_ms, &publish),
            (Message::Pubrel { msg_id }, _) => self.on_pubrel(now_ms, msg_id),
            (Message::Register { topic_id, msg_id, name }, _) => self.on_register(now_ms, topic_id, msg_id, name),
            (answer, _) => self.on_answer(now_ms, &answer),
        }
        self.proceed(now_ms);
    }

    /// The time of [`Client::deadline`] has come: repeats what stayed without an answer, or gives up.
    pub fn on_timer(&mut self, now_ms: u64) {
        match self.state {
            State::Disconnected | State::Asleep => {}
            State::Active(None) => {
                if self.ping_ms().is_some_and(|due| due <= now_ms) {
                    self.state = State::Active(Some(self.retry(now_ms)));
                    self.send(now_ms, &Message::Pingreq { client_id: &[] });
                }
            }
            State::Searching(radius, retry) => {
                self.repeat(
                    now_ms,
                    retry,
                    |retry| State::Searching(radius, retry),
                    |client| {
                        client.send(now_ms, &Message::SearchGw { radius });
                    },
                );
            }
            State::Connecting(step, retry) => {
                self.repeat(
                    now_ms,
                    retry,
                    |retry| State::Connecting(step, retry),
                    |client| {
                        // From the beginning: the gateway may have given the set-up up.
                        client.state = match client.state {
                            State::Connecting(_, retry) => State::Connecting(SetUp::Connect, retry),
                            other => other,
                        };
                        client.send_set_up(now_ms, SetUp::Connect);
                    },
                );
            }
            State::Active(Some(retry)) => {
                self.repeat(
                    now_ms,
                    retry,
                    |retry| State::Active(Some(retry)),
                    |client| {
                        client.send(now_ms, &Message::Pingreq { client_id: &[] });
                    },
                );
            }
            State::FallingAsleep(duration, retry) => {
                self.repeat(
                    now_ms,
                    retry,
                    |retry| State::FallingAsleep(duration, retry),
                    |client| {
                        client.send(now_ms, &Message::Disconnect { duration_s: Some(duration) });
                    },
                );
            }
            State::Awake(retry) => {
                self.repeat(now_ms, retry, State::Awake, |client| client.send_wake(now_ms));
            }
            State::Leaving(retry) => {
                self.repeat(now_ms, retry, State::Leaving, |client| {
                    client.send(now_ms, &Message::Disconnect { duration_s: None });
                });
            }
        }
        self.repeat_exchange(now_ms);
    }

    /// Queues a request after a look at whether it can be said at all.
    fn request(&mut self, now_ms: u64, work: Work) -> Result<Ticket, TooLong> {
        work.check_size()?;
        self.last_ticket = self.last_ticket.wrapping_add(1);
        let ticket = Ticket(self.last_ticket);
        self.queue.push_back(Request { ticket, work });
        self.proceed(now_ms);
        Ok(ticket)
    }

    /// Starts whatever may start now: the next request, or what was to follow the last.
    fn proceed(&mut self, now_ms: u64) {
        while self.is_active() && self.exchange.is_none() {
            match self.queue.pop_front() {
                Some(request) => self.start(now_ms, request),
                None if self.intent == Intent::Stay => return,
                None => return self.say_goodbye(now_ms, self.intent),
            }
        }
    }

    fn say_goodbye(&mut self, now_ms: u64, intent: Intent) {
        let retry = self.retry(now_ms);
        let duration_s = match intent {
            Intent::Sleep(duration) => Some(duration),
            _ => None,
        };
        self.intent = Intent::Stay;
        self.state = duration_s.map_or(State::Leaving(retry), |duration| State::FallingAsleep(duration, retry));
        self.send(now_ms, &Message::Disconnect { duration_s });
    }

    fn found(&mut self, gateway_id: u8, address: &[u8]) {
        if matches!(self.state, State::Searching(..)) {
            self.state = State::Disconnected;
        }
        self.events.push_back(Event::Gateway { gateway_id, address: address.into() });
    }

    fn set_up(&mut self, now_ms: u64, step: SetUp) {
        self.state = State::Connecting(step, self.retry(now_ms));
        self.send_set_up(now_ms, step);
    }

    fn send_set_up(&mut self, now_ms: u64, step: SetUp) {
        let mut bytes = Vec::new();
        let settings = &self.settings;
        let will = settings.will.as_ref();
        let encoded = match step {
            SetUp::Connect => Message::Connect(Connect {
                will: will.is_some(),
                clean_session: settings.clean_session,
                protocol_id: PROTOCOL_ID,
                duration_s: settings.keepalive_s,
                client_id: settings.client_id.as_bytes(),
            })
            .encode(&mut bytes),
            SetUp::WillTopic => Message::WillTopic(will.map(|will| WillTopic {
                qos: will.qos.into(),
                retain: will.retain,
                topic: will.topic.as_bytes(),
            }))
            .encode(&mut bytes),
            SetUp::WillMsg => Message::WillMsg(will.map_or(&[], |will| will.payload.as_slice())).encode(&mut bytes),
        };
        if encoded.is_ok() {
            self.emit(now_ms, bytes);
        }
    }

    fn on_will_request(&mut self, now_ms: u64, step: SetUp) {
        if matches!(self.state, State::Connecting(..)) {
            self.state = State::Connecting(step, self.retry(now_ms));
        }
        self.send_set_up(now_ms, step);
    }

    fn on_connack(&mut self, now_ms: u64, code: ReturnCode) {
        if code.is_refusal() {
            self.end(Event::Refused(code));
            return;
        }
        self.state = State::Active(None);
        self.topics.on_connected(self.settings.clean_session);
        self.inbound.on_connected(self.settings.clean_session);
        self.events.push_back(Event::Connected);
        self.resume(now_ms);
    }

    fn on_disconnect(&mut self, state: State) {
        match state {
            State::FallingAsleep(..) => self.fall_asleep(),
            State::Leaving(_) => self.end(Event::Disconnected),
            // The echo of an earlier goodbye.
            State::Connecting(..) => {}
            _ => self.end(Event::Dismissed),
        }
    }

    fn fall_asleep(&mut self) {
        self.state = State::Asleep;
        self.events.push_back(Event::Asleep);
    }

    /// The connection is over. What was under way waits for the next one, if the session does.
    fn end(&mut self, event: Event) {
        self.state = State::Disconnected;
        self.intent = Intent::Stay;
        if self.settings.clean_session {
            self.abandon();
        }
        self.events.push_back(event);
    }

    /// When a PINGREQ is due: in time before the keepalive, which only counts what the client sends [SN 6.11].
    fn ping_ms(&self) -> Option<u64> {
        let keepalive_ms = u64::from(self.settings.keepalive_s).saturating_mul(750);
        (keepalive_ms != 0).then(|| self.last_sent_ms.saturating_add(keepalive_ms))
    }

    fn send_wake(&mut self, now_ms: u64) {
        let client_id = self.settings.client_id.clone();
        self.send(now_ms, &Message::Pingreq { client_id: client_id.as_bytes() });
    }

    fn retry(&self, now_ms: u64) -> Retry {
        Retry { deadline_ms: now_ms.saturating_add(self.settings.retry_ms), left: self.settings.retries }
    }

    /// One more try of what the state waits for, or the end.
    fn repeat(
        &mut self,
        now_ms: u64,
        retry: Retry,
        state: impl FnOnce(Retry) -> State,
        send: impl FnOnce(&mut Client),
    ) {
        if now_ms < retry.deadline_ms {
            return;
        }
        match self.next_try(now_ms, retry) {
            Some(retry) => {
                self.state = state(retry);
                send(self);
            }
            None => self.end(Event::Lost),
        }
    }

    fn next_try(&self, now_ms: u64, retry: Retry) -> Option<Retry> {
        let left = retry.left.checked_sub(1)?;
        Some(Retry { left, ..self.retry(now_ms) })
    }

    /// A message id that no request of this client has; they count up, so that a late copy of an old message is not taken
    /// for a new one.
    fn next_msg_id(&mut self) -> u16 {
        self.last_msg_id = self.last_msg_id.wrapping_add(1).max(1);
        self.last_msg_id
    }

    /// Sends a message whose size is known to fit.
    fn send(&mut self, now_ms: u64, message: &Message<'_>) {
        let _fits = self.try_send(now_ms, message);
    }

    fn try_send(&mut self, now_ms: u64, message: &Message<'_>) -> Result<(), TooLong> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes)?;
        self.emit(now_ms, bytes);
        Ok(())
    }

    fn emit(&mut self, now_ms: u64, bytes: Vec<u8>) {
        self.last_sent_ms = now_ms;
        self.out.push_back(bytes);
    }
}
