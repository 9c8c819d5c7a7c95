//! `$CONTROL/broker/v1`: requests of operators as JSON, answered on `$CONTROL/broker/v1/response`.
//! `[conf: enable_control_api]`
//!
//! An endpoint hands a request to the core, whose list of actions brings it to the loop; the loop owns an [`Api`] and lets
//! it [`Api::run`] once a turn, with the connections at hand. Requests are answered one after the other, in slices, so that
//! a list of a million clients or a million retained messages to clear stops nobody. The envelope is here, the commands
//! are in `commands`.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

mod clients;
mod commands;
mod json;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::{mem, vec};

use serde_json::Value;

use super::Turn;
use super::peer::Connection;
use crate::broker::message::{Msg, NewMessage};
use crate::broker::{Broker, ConnId, SessionId};
use crate::config::{Config, Protocol};
use crate::timer::Now;
use crate::wire::QoS;
use commands::{Answer, Command, Job};

/// Where requests are published.
pub const TOPIC: &str = "$CONTROL/broker/v1";
/// Where answers are published.
const RESPONSE_TOPIC: &str = "$CONTROL/broker/v1/response";
/// The longest request in bytes; a tree of values takes many times as much while it is looked at.
const MAX_REQUEST: usize = 128 * 1024;
/// The most commands in one request.
const MAX_COMMANDS: usize = 100;
/// Requests that wait for their turn.
const MAX_WAITING: usize = 64;
/// No further command is run once the answer is as long as this, in bytes.
const MAX_RESPONSE: usize = 1024 * 1024;
/// Work in one turn: entries, look-ups and deliveries.
const SLICE: u32 = 2000;

/// What a request is answered with that is none, and what is said for a name that nobody knows yet.
const NO_COMMAND: &str = "Unknown command";

/// True when `topic` is that of the API and the API is on.
#[must_use]
pub fn is_on(config: &Config, topic: &str) -> bool {
    config.global.enable_control_api && topic == TOPIC
}

/// Takes a request from a client. The connection has done enough in this turn.
pub fn ask(turn: &mut Turn<'_>, from: SessionId, request: &[u8]) {
    if request.len() > MAX_REQUEST {
        refuse(turn.broker, turn.now, "Payload too large");
    } else {
        turn.broker.ask_control(from, request);
    }
    turn.charge(turn.budget);
}

/// What an operator has to be told when the API is on and anybody may use it.
#[must_use]
pub fn warning(config: &Config) -> Option<String> {
    let open = config
        .listeners
        .iter()
        .filter(|l| l.protocol != Protocol::Metrics && config.anonymous_allowed(l) && config.acl_file(l).is_none());
    let mut ports: Vec<u16> = open.map(|listener| listener.port).filter(|_| config.global.enable_control_api).collect();
    ports.dedup();
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    (!ports.is_empty()).then(|| {
        format!(
            "Warning: 'enable_control_api' is on and port {} is open to anonymous clients: without access control each of \
             them may list and disconnect clients and clear retained messages. Set 'allow_anonymous false' with a \
             'password_file', and an 'acl_file' that names '{TOPIC}' for those who may use it.",
            ports.join(", ")
        )
    })
}

/// What a command may look at and change.
pub struct Context<'a> {
    /// The time of this wake-up.
    pub now: Now,
    /// The core.
    pub broker: &'a mut Broker,
    /// The configuration.
    pub config: &'a Config,
    /// The table of connections.
    pub connection: &'a dyn Fn(ConnId) -> Option<Connection>,
}

/// A request as it came.
struct Request {
    /// `CLIENT-ID/USER-NAME`, for the log.
    who: String,
    payload: Box<[u8]>,
}

/// A client to be sent away: in the turn after its command, so that a client may send itself away and still be answered.
struct Kick {
    session: SessionId,
    conn: ConnId,
    end_session: bool,
}

/// The requests that wait and the one that is being answered.
#[derive(Default)]
pub struct Api {
    waiting: VecDeque<Request>,
    running: Option<Box<Run>>,
    kicks: Vec<Kick>,
}

impl Api {
    /// Takes a request out of [`crate::broker::Action::Control`].
    pub fn take(&mut self, now: Now, broker: &mut Broker, from: SessionId, payload: Box<[u8]>) {
        if self.waiting.len() >= MAX_WAITING {
            return refuse(broker, now, "Too many requests");
        }
        let username = broker.client(now, from).and_then(|client| client.username).unwrap_or("(null)");
        let who = format!("{}/{username}", broker.client_id(from));
        self.waiting.push_back(Request { who, payload });
    }

    /// True when [`Api::run`] has something to do: the loop must not sleep.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty() || !self.kicks.is_empty()
    }

    /// Does a slice of the work. May leave [`crate::broker::Action`]s to the loop.
    pub fn run(&mut self, context: &mut Context<'_>) {
        for kick in mem::take(&mut self.kicks) {
            context.broker.kick(context.now, kick.session, kick.conn, kick.end_session);
        }
        let mut budget = SLICE;
        while budget > 0 {
            let next = || self.waiting.pop_front().map(|request| Box::new(Run::new(&request, &mut budget)));
            let Some(mut run) = self.running.take().or_else(next) else { break };
            if !run.go_on(context, &mut budget, &mut self.kicks) {
                self.running = Some(run);
                break;
            }
            respond(context.broker, context.now, run.reply);
        }
    }
}

/// Publishes an answer to all who subscribed to it.
fn respond(broker: &mut Broker, now: Now, reply: Reply) {
    let payload = reply.finish();
    let new = NewMessage {
        topic: RESPONSE_TOPIC,
        payload: payload.as_bytes(),
        qos: QoS::AtMostOnce,
        retain: false,
        props: &[],
        expiry_s: None,
    };
    if let Some(msg) = Msg::new(now, &new) {
        broker.publish(now, None, &msg);
    }
}

/// Answers a request that is not looked at.
fn refuse(broker: &mut Broker, now: Now, error: &str) {
    let mut reply = Reply::new();
    reply.error(NO_COMMAND, None, error);
    respond(broker, now, reply);
}

/// A request that is being answered.
struct Run {
    who: String,
    commands: vec::IntoIter<Value>,
    job: Option<Working>,
    reply: Reply,
}

/// A command that takes more than one slice.
struct Working {
    job: Job,
    name: &'static str,
    correlation: Option<String>,
}

impl Run {
    fn new(request: &Request, budget: &mut u32) -> Run {
        let mut reply = Reply::new();
        *budget = budget.saturating_sub(u32::try_from(request.payload.len() / 64).unwrap_or(u32::MAX));
        let commands = commands_of(&request.payload).unwrap_or_else(|error| {
            reply.error(NO_COMMAND, None, error);
            Vec::new()
        });
        Run { who: request.who.clone(), commands: commands.into_iter(), job: None, reply }
    }

    /// Works until the budget is used up; true when the request is answered.
    fn go_on(&mut self, context: &mut Context<'_>, budget: &mut u32, kicks: &mut Vec<Kick>) -> bool {
        while *budget > 0 {
            if let Some(working) = &mut self.job {
                let Some(data) = working.job.go_on(context, budget) else { return false };
                self.reply.data(working.name, working.correlation.as_deref(), &data);
                self.job = None;
            }
            let Some(command) = self.commands.next() else { return true };
            *budget = budget.saturating_sub(10);
            if self.reply.text.len() > MAX_RESPONSE {
                self.reply.error(NO_COMMAND, None, "Response too large");
                return true;
            }
            if !self.command(&command, context, kicks) {
                return true;
            }
        }
        false
    }

    /// Runs one command; false when the rest of the request must not be looked at.
    fn command(&mut self, value: &Value, context: &mut Context<'_>, kicks: &mut Vec<Kick>) -> bool {
        let (as_written, correlation) = match envelope(value) {
            Ok(envelope) => envelope,
            Err((name, error)) => {
                self.reply.error(name, None, error);
                return false;
            }
        };
        let Some(command) = Command::named(as_written) else {
            self.reply.error(as_written, correlation, NO_COMMAND);
            return true;
        };
        match command.start(&self.who, value, context, kicks) {
            Err(error) => self.reply.error(as_written, correlation, error),
            Ok(Answer::Plain) => self.reply.plain(as_written, correlation),
            Ok(Answer::Data(data)) => self.reply.data(command.name(), correlation, &data),
            Ok(Answer::Later(job)) => {
                let correlation = correlation.map(Into::into);
                self.job = Some(Working { job, name: command.name(), correlation });
            }
        }
        true
    }
}

/// The commands in a request.
fn commands_of(payload: &[u8]) -> Result<Vec<Value>, &'static str> {
    let mut request = json::parse(payload).ok_or("Payload not valid JSON")?;
    match json::take_member(&mut request, "commands") {
        Some(Value::Array(commands)) if commands.len() > MAX_COMMANDS => Err("Too many commands"),
        Some(Value::Array(commands)) => Ok(commands),
        _ => Err("Invalid/missing commands"),
    }
}

/// Name and correlation data of a command, or the name and the error to answer with.
fn envelope(value: &Value) -> Result<(&str, Option<&str>), (&str, &'static str)> {
    if !matches!(value, Value::Object(_)) {
        return Err((NO_COMMAND, "Command not an object"));
    }
    let name = json::text(value, "command").ok_or((NO_COMMAND, "Missing command"))?;
    match json::member(value, "correlationData") {
        None => Ok((name, None)),
        Some(Value::String(data)) => Ok((name, Some(data))),
        Some(_) => Err((name, "Invalid correlationData data type.")),
    }
}

/// The answer to one request while it is written.
struct Reply {
    text: String,
    empty: bool,
}

impl Reply {
    fn new() -> Reply {
        Reply { text: r#"{"responses":["#.to_string(), empty: true }
    }

    fn entry(&mut self, name: &str, correlation: Option<&str>, inner: impl FnOnce(&mut json::Object<'_>)) {
        if !mem::take(&mut self.empty) {
            self.text.push(',');
        }
        let mut object = json::Object::new(&mut self.text);
        object.text("command", name);
        inner(&mut object);
        if let Some(data) = correlation {
            object.text("correlationData", data);
        }
        object.end();
    }

    fn plain(&mut self, name: &str, correlation: Option<&str>) {
        self.entry(name, correlation, |_| {});
    }

    fn error(&mut self, name: &str, correlation: Option<&str>, error: &str) {
        self.entry(name, correlation, |object| object.text("error", error));
    }

    fn data(&mut self, name: &str, correlation: Option<&str>, data: &str) {
        self.entry(name, correlation, |object| object.raw("data", data));
    }

    fn finish(mut self) -> String {
        self.text.push_str("]}");
        self.text
    }
}
