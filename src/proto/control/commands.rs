//! The commands: what each takes, does and answers.

use serde_json::Value;

use super::clients::{put_client, put_client_id};
use super::json::{self, Object};
use super::{Context, Kick};
use crate::broker::SessionId;
use crate::broker::retain::Cursor;
use crate::config::Protocol;
use crate::wire::topic;

/// Clients in one page of `listClients` unless `count` says otherwise.
const PAGE: u32 = 100;
/// The most clients in one page.
const MAX_PAGE: u32 = 1000;
/// No further client is listed once a page takes so many bytes.
const MAX_PAGE_BYTES: usize = 256 * 1024;

/// A command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
    ListListeners,
    ListPlugins,
    ListClients,
    GetClient,
    DisconnectClient,
    ClearRetained,
}

/// Every command under its name.
pub(super) const COMMANDS: [(&str, Command); 6] = [
    ("listListeners", Command::ListListeners),
    ("listPlugins", Command::ListPlugins),
    ("listClients", Command::ListClients),
    ("getClient", Command::GetClient),
    ("disconnectClient", Command::DisconnectClient),
    ("clearRetained", Command::ClearRetained),
];

/// What a command is answered with.
pub(super) enum Answer {
    /// It was done.
    Plain,
    /// It was done, and this is what it found: an object.
    Data(String),
    /// It takes time.
    Later(Job),
}

/// A command that is done in slices.
pub(super) enum Job {
    List(List),
    Clear { filter: Box<str>, cursor: Cursor, removed: u64 },
}

impl Command {
    /// The command of this name, in any case.
    pub(super) fn named(name: &str) -> Option<Command> {
        COMMANDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, command)| *command)
    }

    /// Its name as it is answered.
    pub(super) fn name(self) -> &'static str {
        COMMANDS.iter().find(|(_, command)| *command == self).map_or("", |(name, _)| name)
    }

    /// Checks the arguments and begins; `who` is for the log.
    pub(super) fn start(
        self,
        who: &str,
        args: &Value,
        context: &mut Context<'_>,
        kicks: &mut Vec<Kick>,
    ) -> Result<Answer, &'static str> {
        let name = self.name();
        match self {
            Command::ListListeners => {
                log::info!("Broker: {who} | {name}");
                Ok(Answer::Data(listeners(context)))
            }
            Command::ListPlugins => {
                log::info!("Broker: {who} | {name}");
                // There are none: what C Mosquitto needs plugins for is built in.
                Ok(Answer::Data(r#"{"plugins":[]}"#.into()))
            }
            Command::ListClients => {
                let list = List::new(args, context);
                let (count, offset) = (list.left, list.skip);
                log::info!("Broker: {who} | {name} | verbose={} | count={count} | offset={offset}", list.verbose);
                Ok(Answer::Later(Job::List(list)))
            }
            Command::GetClient => {
                let (client_id, id) = client(args, context)?;
                log::info!("Broker: {who} | {name} | clientid={client_id}");
                let mut data = String::from(r#"{"client":"#);
                put_client(&mut data, context, id, true);
                data.push('}');
                Ok(Answer::Data(data))
            }
            Command::DisconnectClient => {
                let (client_id, session) = client(args, context)?;
                let end_session = json::flag(args, "endSession").unwrap_or(false);
                // Its will is published, since it does not leave of its own accord [MQTT-3.1.2-8]; clients that C
                // Mosquitto's dynamic security sends away leave none.
                match context.broker.conn_of(session) {
                    Some(conn) => kicks.push(Kick { session, conn, end_session }),
                    None if !end_session => return Err("Client not connected"),
                    None => {}
                }
                log::info!("Broker: {who} | {name} | clientid={client_id} | endSession={end_session}");
                if end_session {
                    // One that is connected ends with its connection.
                    context.broker.end_absent(context.now, session);
                }
                Ok(Answer::Plain)
            }
            Command::ClearRetained => {
                let filter = json::text(args, "filter").ok_or("Invalid/missing filter")?;
                // A topic cannot hold control characters, and the log must not.
                if topic::check_filter(filter).is_err() || filter.contains(char::is_control) || filter.len() > 65535 {
                    return Err("Invalid filter");
                }
                if filter.starts_with("$SYS") {
                    return Err("Topics of $SYS belong to the broker");
                }
                log::info!("Broker: {who} | {name} | filter={filter}");
                let (filter, cursor) = (filter.into(), Cursor::default());
                Ok(Answer::Later(Job::Clear { filter, cursor, removed: 0 }))
            }
        }
    }
}

/// The client that a command names.
fn client<'a>(args: &'a Value, context: &Context<'_>) -> Result<(&'a str, SessionId), &'static str> {
    let client_id = json::text(args, "clientid").ok_or("Invalid/missing client id")?;
    let id = context.broker.find_client(client_id).ok_or("Client not found")?;
    Ok((client_id, id))
}

fn listeners(context: &Context<'_>) -> String {
    let mut data = String::new();
    let mut object = Object::new(&mut data);
    let mut left = context.config.listeners.iter();
    object.array("listeners", |out| {
        let Some(listener) = left.next() else { return false };
        let mut entry = Object::new(out);
        entry.raw("port", listener.port);
        entry.text(
            "protocol",
            match listener.protocol {
                Protocol::Mqtt => "mqtt",
                Protocol::Websockets => "mqtt+websockets",
                Protocol::Metrics => "metrics",
                Protocol::MqttSn => "mqtt-sn",
            },
        );
        if let Some(host) = &listener.host {
            entry.text("bind-address", host);
        }
        if let Some(path) = &listener.unix_path {
            entry.text("socket-path", &path.display().to_string());
        }
        entry.raw("tls", listener.tls.certfile.is_some());
        entry.end();
        true
    });
    object.end();
    data
}

/// `listClients` on its way: clients in the order of the table, which stays the same while they do.
pub(super) struct List {
    verbose: bool,
    /// Clients to pass over.
    skip: u64,
    /// Clients to list.
    left: u32,
    /// The part of the table that is next.
    part: usize,
    data: String,
    empty: bool,
}

impl List {
    fn new(args: &Value, context: &Context<'_>) -> List {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let whole = |name: &str| json::number(args, name).map(|n| (n < 0.0, n as u64));
        let left = match whole("count") {
            None => PAGE,
            Some((true, _)) => MAX_PAGE,
            Some((false, count)) => u32::try_from(count.max(1)).map_or(MAX_PAGE, |count| count.min(MAX_PAGE)),
        };
        let skip = whole("offset").map_or(0, |(_, offset)| offset);
        let total = context.broker.session_count();
        List {
            verbose: json::flag(args, "verbose").unwrap_or(false),
            skip,
            left,
            // Beyond the end there is nothing to look for.
            part: if skip >= total as u64 { usize::MAX } else { 0 },
            data: format!(r#"{{"totalCount":{total},"clients":["#),
            empty: true,
        }
    }

    /// True when the page is full or there is nobody left. A part costs 16, a client in it 4 when it is shown in full.
    fn go_on(&mut self, context: &Context<'_>, budget: &mut u32) -> bool {
        while self.left > 0 && self.part < context.broker.client_parts() {
            if *budget == 0 {
                return false;
            }
            *budget = budget.saturating_sub(16);
            for id in context.broker.clients_in(self.part) {
                if self.skip > 0 {
                    self.skip = self.skip.saturating_sub(1);
                    continue;
                }
                if self.left == 0 || self.data.len() > MAX_PAGE_BYTES {
                    self.left = 0;
                    break;
                }
                self.left = self.left.saturating_sub(1);
                if !std::mem::take(&mut self.empty) {
                    self.data.push(',');
                }
                if self.verbose {
                    put_client(&mut self.data, context, id, false);
                    *budget = budget.saturating_sub(4);
                } else {
                    put_client_id(&mut self.data, context, id);
                }
            }
            self.part = self.part.saturating_add(1);
        }
        true
    }
}

impl Job {
    /// Goes on until the budget is used up. The data of the answer when it is done.
    pub(super) fn go_on(&mut self, context: &mut Context<'_>, budget: &mut u32) -> Option<String> {
        match self {
            Job::List(list) => {
                if !list.go_on(context, budget) {
                    return None;
                }
                let mut data = std::mem::take(&mut list.data);
                data.push_str("]}");
                Some(data)
            }
            Job::Clear { filter, cursor, removed } => {
                let cleared = context.broker.clear_retained(context.now, filter, cursor, budget);
                *removed = removed.saturating_add(cleared.removed);
                cleared.done.then(|| format!(r#"{{"cleared":{removed}}}"#))
            }
        }
    }
}
