//! What the client asks for, one request at a time, each until its answer came [SN 6.5 to 6.9].

use super::{Client, Event, Outcome, Retry, Ticket, Topic};
use crate::proto::sn::wire::{
    FilterRef, MAX_MESSAGE, Message, Publish, QosField, ReturnCode, TooLong, TopicAck, WillTopic,
};
use crate::wire::QoS;

/// The longest header of any request.
const MAX_HEADER: usize = 9;

/// What is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Work {
    Publish {
        topic: Topic,
        qos: QoS,
        retain: bool,
        payload: Vec<u8>,
    },
    Subscribe {
        topic: Topic,
        qos: QoS,
    },
    Unsubscribe {
        topic: Topic,
    },
    /// `None` deletes the will.
    WillTopic(Option<(String, QoS, bool)>),
    WillMsg(Vec<u8>),
}

impl Work {
    /// Whether each message it takes has room for it.
    pub(super) fn check_size(&self) -> Result<(), TooLong> {
        let topic_len = |topic: &Topic| match topic {
            Topic::Name(name) => name.len(),
            Topic::Short(_) | Topic::Predefined(_) => 2,
        };
        let longest = match self {
            Work::Publish { topic, payload, .. } => topic_len(topic).max(payload.len()),
            Work::Subscribe { topic, .. } | Work::Unsubscribe { topic } => topic_len(topic),
            Work::WillTopic(will) => will.as_ref().map_or(0, |(topic, ..)| topic.len()),
            Work::WillMsg(payload) => payload.len(),
        };
        if longest.saturating_add(MAX_HEADER) <= MAX_MESSAGE { Ok(()) } else { Err(TooLong) }
    }
}

/// One request of the owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) ticket: Ticket,
    pub(super) work: Work,
}

/// The answer an exchange waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Await {
    /// To the REGISTER of the topic of a PUBLISH, under this message id.
    Regack(u16),
    Puback,
    Pubrec,
    Pubcomp,
    Suback,
    Unsuback,
    WillTopicResp,
    WillMsgResp,
}

/// The request that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Exchange {
    request: Request,
    awaiting: Await,
    /// 0 for those without one.
    msg_id: u16,
    /// PUBLISH or SUBSCRIBE went out before under this message id.
    sent: bool,
    /// Topic ids the gateway did not know after it had given them out.
    forgotten: u32,
    pub(super) retry: Retry,
}

impl Client {
    /// Starts a request; the one before is finished.
    pub(super) fn start(&mut self, now_ms: u64, request: Request) {
        let awaiting = match &request.work {
            Work::Publish { qos: QoS::AtMostOnce | QoS::AtLeastOnce, .. } => Await::Puback,
            Work::Publish { qos: QoS::ExactlyOnce, .. } => Await::Pubrec,
            Work::Subscribe { .. } => Await::Suback,
            Work::Unsubscribe { .. } => Await::Unsuback,
            Work::WillTopic(_) => Await::WillTopicResp,
            Work::WillMsg(_) => Await::WillMsgResp,
        };
        let msg_id = match &request.work {
            Work::Publish { qos: QoS::AtMostOnce, .. } | Work::WillTopic(_) | Work::WillMsg(_) => 0,
            _ => self.next_msg_id(),
        };
        let (sent, forgotten, retry) = (false, 0, self.retry(now_ms));
        self.transmit(now_ms, Exchange { request, awaiting, msg_id, sent, forgotten, retry });
    }

    /// After CONNACK: what was under way before goes on, from REGISTER if its topic needs an id.
    pub(super) fn resume(&mut self, now_ms: u64) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.retry = self.retry(now_ms);
            self.transmit(now_ms, exchange);
        }
    }

    /// Sends what the exchange is at and waits for the answer, if there will be one.
    fn transmit(&mut self, now_ms: u64, mut exchange: Exchange) {
        let Exchange { request: Request { ticket, work }, awaiting, msg_id, sent, .. } = &mut exchange;
        let (msg_id, dup) = (*msg_id, *sent);
        match work {
            _ if *awaiting == Await::Pubcomp => self.send(now_ms, &Message::Pubrel { msg_id }),
            Work::Publish { topic, qos, retain, payload } => {
                let Some(topic) = self.topics.sendable(topic) else {
                    return self.register(now_ms, exchange);
                };
                *awaiting = if *qos == QoS::ExactlyOnce { Await::Pubrec } else { Await::Puback };
                let (retain, field) = (*retain, QosField::from(*qos));
                let publish = Publish { dup, qos: field, retain, topic, msg_id, data: payload };
                self.send(now_ms, &Message::Publish(publish));
                if *qos == QoS::AtMostOnce {
                    return self.events.push_back(Event::Finished(*ticket, Outcome::Done));
                }
                *sent = true;
            }
            Work::Subscribe { topic, qos } => {
                let (qos, filter) = ((*qos).into(), filter_of(topic));
                self.send(now_ms, &Message::Subscribe { dup, qos, msg_id, filter });
                *sent = true;
            }
            Work::Unsubscribe { topic } => {
                self.send(now_ms, &Message::Unsubscribe { msg_id, filter: filter_of(topic) });
            }
            Work::WillTopic(will) => {
                let will = will.as_ref().map(|(topic, qos, retain)| WillTopic {
                    qos: (*qos).into(),
                    retain: *retain,
                    topic: topic.as_bytes(),
                });
                self.send(now_ms, &Message::WillTopicUpd(will));
            }
            Work::WillMsg(payload) => self.send(now_ms, &Message::WillMsgUpd(payload)),
        }
        self.exchange = Some(exchange);
    }

    /// The topic of a PUBLISH has no id yet.
    fn register(&mut self, now_ms: u64, mut exchange: Exchange) {
        let msg_id = match exchange.awaiting {
            Await::Regack(msg_id) => msg_id,
            _ => self.next_msg_id(),
        };
        exchange.awaiting = Await::Regack(msg_id);
        if let Work::Publish { topic: Topic::Name(name), .. } = &exchange.request.work {
            self.send(now_ms, &Message::Register { topic_id: 0, msg_id, name: name.as_bytes() });
        }
        self.exchange = Some(exchange);
    }

    /// Repeats the request under way if its time has come.
    pub(super) fn repeat_exchange(&mut self, now_ms: u64) {
        let due = |exchange: &Exchange| exchange.retry.deadline_ms <= now_ms;
        if !self.is_active() || !self.exchange.as_ref().is_some_and(due) {
            return;
        }
        let Some(mut exchange) = self.exchange.take() else { return };
        match self.next_try(now_ms, exchange.retry) {
            Some(retry) => {
                exchange.retry = retry;
                self.transmit(now_ms, exchange);
            }
            None => {
                self.exchange = Some(exchange);
                self.end(Event::Lost);
            }
        }
    }

    /// An answer. One that fits nothing under way is the late copy of another.
    pub(super) fn on_answer(&mut self, now_ms: u64, answer: &Message<'_>) {
        let (awaiting, own_id) = match &self.exchange {
            Some(exchange) => (Some(exchange.awaiting), exchange.msg_id),
            None => (None, 0),
        };
        match (*answer, awaiting) {
            (Message::Regack(ack), Some(Await::Regack(id))) if ack.msg_id == id => self.on_regack(now_ms, ack),
            // A PUBLISH with QoS 0 whose id the gateway does not know: lost, but the next one need not be.
            (Message::Puback(TopicAck { topic_id, msg_id: 0, code: ReturnCode::INVALID_TOPIC_ID }), _) => {
                self.topics.forget(topic_id);
            }
            (Message::Puback(ack), Some(Await::Puback)) if ack.msg_id == own_id => self.on_puback(now_ms, ack),
            // Instead of a PUBREC only to refuse.
            (Message::Puback(ack), Some(Await::Pubrec)) if ack.msg_id == own_id && ack.code.is_refusal() => {
                self.on_puback(now_ms, ack);
            }
            (Message::Pubrec { msg_id }, Some(Await::Pubrec)) if msg_id == own_id => {
                if let Some(mut exchange) = self.exchange.take() {
                    exchange.awaiting = Await::Pubcomp;
                    exchange.retry = self.retry(now_ms);
                    self.transmit(now_ms, exchange);
                }
            }
            // Our PUBREL was lost. Never for another id: the network may have held back a copy of a message that is done, and
            // PUBREL would make it a second one.
            (Message::Pubrec { msg_id }, Some(Await::Pubcomp)) if msg_id == own_id => {
                self.send(now_ms, &Message::Pubrel { msg_id });
            }
            (Message::Pubcomp { msg_id }, Some(Await::Pubcomp)) if msg_id == own_id => {
                self.finish(ReturnCode::ACCEPTED)
            }
            (Message::Suback { qos, ack }, Some(Await::Suback)) if ack.msg_id == own_id => self.on_suback(qos, ack),
            (Message::Unsuback { msg_id }, Some(Await::Unsuback)) if msg_id == own_id => {
                self.finish(ReturnCode::ACCEPTED);
            }
            (Message::WillTopicResp(code), Some(Await::WillTopicResp))
            | (Message::WillMsgResp(code), Some(Await::WillMsgResp)) => self.finish(code),
            _ => {}
        }
    }

    fn on_regack(&mut self, now_ms: u64, ack: TopicAck) {
        let Some(mut exchange) = self.exchange.take() else { return };
        if let (false, Work::Publish { topic: Topic::Name(name), .. }) = (ack.code.is_refusal(), &exchange.request.work)
            && self.topics.learn(ack.topic_id, name)
        {
            exchange.retry = self.retry(now_ms);
            return self.transmit(now_ms, exchange);
        }
        self.exchange = Some(exchange);
        self.finish(if ack.code.is_refusal() { ack.code } else { ReturnCode::CONGESTION });
    }

    fn on_puback(&mut self, now_ms: u64, ack: TopicAck) {
        let known = |exchange: &Exchange| matches!(&exchange.request.work, Work::Publish { topic: Topic::Name(_), .. });
        if ack.code == ReturnCode::INVALID_TOPIC_ID
            && let Some(mut exchange) = self.exchange.take_if(|exchange| known(exchange))
        {
            // The gateway forgot the id: register again, but not for ever [SN 6.10].
            self.topics.forget(ack.topic_id);
            exchange.forgotten = exchange.forgotten.saturating_add(1);
            if exchange.forgotten <= self.settings.retries {
                exchange.retry = self.retry(now_ms);
                return self.transmit(now_ms, exchange);
            }
            self.exchange = Some(exchange);
        }
        self.finish(ack.code);
    }

    fn on_suback(&mut self, qos: QosField, ack: TopicAck) {
        let Some(exchange) = self.exchange.take() else { return };
        let Work::Subscribe { topic, .. } = &exchange.request.work else { return };
        if let (Topic::Name(name), false) = (topic, ack.code.is_refusal() || ack.topic_id == 0)
            && !name.contains(['+', '#'])
        {
            self.topics.learn(ack.topic_id, name);
        }
        let granted = qos.qos().unwrap_or_default();
        self.events.push_back(Event::Subscribed(exchange.request.ticket, outcome(ack.code), granted));
    }

    /// The request under way has its answer.
    fn finish(&mut self, code: ReturnCode) {
        if let Some(exchange) = self.exchange.take() {
            self.events.push_back(Event::Finished(exchange.request.ticket, outcome(code)));
        }
    }

    /// The session ends with everything that was asked for.
    pub(super) fn abandon(&mut self) {
        let under_way = self.exchange.take().map(|exchange| exchange.request);
        for Request { ticket, work } in under_way.into_iter().chain(std::mem::take(&mut self.queue)) {
            self.events.push_back(match work {
                Work::Subscribe { .. } => Event::Subscribed(ticket, Outcome::Abandoned, QoS::AtMostOnce),
                _ => Event::Finished(ticket, Outcome::Abandoned),
            });
        }
    }
}

fn outcome(code: ReturnCode) -> Outcome {
    if code.is_refusal() { Outcome::Refused(code) } else { Outcome::Done }
}

fn filter_of(topic: &Topic) -> FilterRef<'_> {
    match topic {
        Topic::Name(name) => FilterRef::Name(name.as_bytes()),
        Topic::Short(name) => FilterRef::Short(*name),
        Topic::Predefined(id) => FilterRef::Predefined(*id),
    }
}
