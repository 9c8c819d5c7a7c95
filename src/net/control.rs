//! What an operator does to the running loop: listeners, signals, reload, the end.

use std::collections::BTreeSet;
use std::io::Write;

use mio::Token;

use super::conn::{Conn, Stage};
use super::listener::ListenSocket;
use super::slots::Changes;
use super::{EventLoop, FIRST_LISTENER, ListenError, MAX_LISTENERS};
use crate::broker::ConnId;
use crate::config::{self, Config, LOCAL_ONLY_LINES, Listener, Protocol};
use crate::logging;
use crate::proto::{CloseReason, control};
use crate::timer::Now;

/// Connections closed in one turn after a reload, so that those who stay do not wait for those who go.
const CLOSES_PER_TURN: usize = 256;

impl EventLoop {
    /// Opens every configured listener. In local-only mode one of the two loopback addresses is enough.
    pub(super) fn open_listeners(&mut self) -> Result<(), ListenError> {
        let mut last = None;
        for listener in self.config.listeners.clone() {
            match self.open_listener(&listener) {
                Ok(()) => self.describe(&listener),
                Err(error) if self.config.local_only => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        if self.listeners.is_empty() && self.udp.is_empty() {
            return Err(last.unwrap_or_else(ListenError::nothing_to_listen_on));
        }
        Ok(())
    }

    /// Opens every socket of a listener, or none.
    fn open_listener(&mut self, listener: &Listener) -> Result<(), ListenError> {
        if listener.protocol == Protocol::MqttSn {
            return self.open_gateway(listener);
        }
        let mut sockets = ListenSocket::open(listener)?;
        if self.listeners.len() + sockets.len() > MAX_LISTENERS {
            return Err(ListenError::too_many());
        }
        let index = self.slots.add(listener.clone()).ok_or_else(ListenError::too_many)?;
        let mut tokens = (FIRST_LISTENER..).map(Token).filter(|token| self.listeners.iter().all(|l| l.token != *token));
        for (socket, token) in sockets.iter_mut().zip(&mut tokens) {
            (socket.token, socket.listener) = (token, index);
            if let Err(error) = socket.register(self.poll.registry()) {
                self.slots.close(index);
                return Err(ListenError::system(&error));
            }
        }
        drop(tokens);
        let tls = self.config.listeners.iter().position(|known| known == listener).and_then(|at| self.tls.get(at));
        self.slots.set_tls(index, tls.cloned().flatten());
        self.listeners.extend(sockets);
        Ok(())
    }

    /// Warns when the API is open to everybody.
    pub(super) fn check_api(&self) {
        if let Some(warning) = control::warning(&self.config) {
            log::warn!("{warning}");
        }
    }

    /// Says what a listener means, and warns when it means too much.
    fn describe(&self, listener: &Listener) {
        log::info!("{}", self.config.describe(listener));
        if let Some(warning) = self.config.exposure(listener) {
            log::warn!("{warning}");
        }
    }

    /// Lets `$CONTROL/broker/v1` work for a while.
    pub(super) fn run_api(&mut self, now: Now) {
        let (conns, config, slots) = (&self.conns, &self.config, &self.slots);
        let udp = &self.udp;
        let connection = |id: ConnId| {
            if let Some(id) = id.sn() {
                return udp.connection(id);
            }
            let conn = conns.get(id.0)?;
            let port = slots.settings(conn.listener).port;
            conn.endpoint.connection(port, conn.outbox.as_ref().map_or(0, |out| out.len()))
        };
        self.api.run(&mut control::Context { now, broker: &mut self.broker, config, connection: &connection });
    }

    pub(super) fn take_signals(&mut self, now: Now) {
        let signals = self.signals.take();
        if signals.rotate_log() {
            logging::reopen();
        }
        if signals.reload() {
            if let Some(notifier) = &self.notifier {
                notifier.reloading();
            }
            self.reload(now);
            self.say_ready();
        }
        if signals.save() {
            self.store.request(&mut self.broker, now);
        }
        if signals.print_tree() {
            let mut tree = String::new();
            self.broker.write_tree(&mut tree);
            let mut stdout = std::io::stdout();
            let _reader_gone = stdout.write_all(tree.as_bytes()).and_then(|()| stdout.flush());
        }
        self.stop |= signals.terminate();
    }

    /// Reads the configuration files again. A bad file changes nothing.
    fn reload(&mut self, now: Now) {
        log::info!("Reloading config.");
        if self.sources.files.is_empty() {
            return logging::reopen();
        }
        let new = match self.sources.read(logging::tell) {
            Ok(new) => new,
            Err(error) => return not_reloaded(&error.to_string()),
        };
        let (mut config, notes) = config::take_over(&self.config, new);
        let access = match super::access::load(&mut config, self.broker.access()) {
            Ok(access) => access,
            Err(error) => return not_reloaded(&error.to_string()),
        };
        let tls = match super::certificates::load(&config, self.key_log.as_ref()) {
            Ok(tls) => tls,
            Err(error) => return not_reloaded(&error.on_reload()),
        };
        let doors = match super::Udp::load(&config) {
            Ok(doors) => doors,
            Err(error) => return not_reloaded(&error.to_string()),
        };
        let before = std::mem::replace(&mut self.config, config);
        // First what gives descriptors back, then what needs them.
        let changes = self.slots.take_over(&self.config.listeners);
        self.tls = tls;
        for (listener, tls) in self.config.listeners.iter().zip(&self.tls) {
            if let Some(slot) = self.slots.open_slot_of(listener) {
                self.slots.set_tls(slot, tls.clone());
            }
        }
        self.close_listeners(&changes);
        self.udp.set_doors(doors);
        logging::reconfigure(&self.config.global.log);
        if self.config.local_only && !before.local_only {
            for line in LOCAL_ONLY_LINES {
                log::warn!("{line}");
            }
        }
        for note in &notes {
            crate::notice!("{note}");
        }
        self.broker.set_settings(self.config.global.clone(), now);
        self.store.reconfigure(&self.config.global, &self.broker, now);
        self.broker.set_access(access);
        self.reload_bridges(now);
        self.follow_listeners(now, &changes);
        self.watch_certificates(now);
        self.check_api();
        self.open_added(&changes, &before);
        self.find_leaving(&changes);
        log::info!("Config reloaded.");
    }

    /// Closes the sockets of listeners that are gone, and hands those of others to the slots they belong to now.
    fn close_listeners(&mut self, changes: &Changes) {
        for socket in &mut self.listeners {
            if let Some((_, to)) = changes.moved.iter().find(|(from, _)| *from == socket.listener) {
                socket.listener = *to;
            }
        }
        let (poll, slots) = (&self.poll, &self.slots);
        self.listeners.retain_mut(|socket| {
            let stays = !slots.is_closed(socket.listener);
            if !stays {
                // The only failure is that it was not registered.
                let _ = socket.deregister(poll.registry());
            }
            stays
        });
    }

    /// Opens what is new. What cannot be opened is named, and tried again at the next reload.
    fn open_added(&mut self, changes: &Changes, before: &Config) {
        let mut failed = Vec::new();
        for listener in &changes.added {
            match self.open_listener(listener) {
                Ok(()) => self.describe(listener),
                Err(error) => failed.push(error.of(listener)),
            }
        }
        // As at start, one of the two loopback addresses is enough.
        if !self.config.local_only || (self.listeners.is_empty() && self.udp.is_empty()) {
            for line in failed.iter().flat_map(|text| text.lines()) {
                log::error!("{line}");
            }
        }
        if self.listeners.is_empty() && self.udp.is_empty() {
            log::error!("Error: No listener is open: nobody can connect until a reload opens one.");
        }
        // A change of a global option may change what a listener means.
        let meant: BTreeSet<String> = before.listeners.iter().map(|listener| before.describe(listener)).collect();
        for listener in self.config.listeners.iter().filter(|listener| !changes.added.contains(listener)) {
            if !meant.contains(&self.config.describe(listener)) {
                self.describe(listener);
            }
        }
    }

    /// Lists the connections that the new configuration leaves no place for: their listener is gone, they are anonymous
    /// and no longer welcome, or their password is gone or another. A connection to an address that another listener
    /// serves now goes over to that.
    fn find_leaving(&mut self, changes: &Changes) {
        self.leaving.clear();
        let mut stayed = vec![0; changes.closed.len()];
        for key in self.conns.keys() {
            let gone = |conn: &&mut Conn| self.slots.is_closed(conn.listener) && conn.stage != Stage::Closed;
            let Some(conn) = self.conns.get_mut(key).filter(gone) else { continue };
            let from = conn.listener;
            match conn.stream.local_addr().and_then(|addr| self.listeners.iter().find(|socket| socket.covers(addr))) {
                Some(socket) if self.slots.takes_from(socket.listener, from) => {
                    conn.listener = socket.listener;
                    self.slots.disconnected(from);
                    self.slots.connected(socket.listener);
                    if let Some(i) = changes.closed.iter().position(|closed| closed.slot == from) {
                        stayed[i] += 1;
                    }
                }
                _ if conn.stage == Stage::Open => self.leaving.push(ConnId(key)),
                _ => {}
            }
        }
        // A listener whose mount point was changed has a slot for each.
        let mut sums: Vec<(&str, u32, u32)> = Vec::new();
        for (closed, stayed) in changes.closed.iter().zip(stayed) {
            match sums.iter_mut().find(|(name, ..)| *name == closed.name) {
                Some(sum) => (sum.1, sum.2) = (sum.1 + closed.connections - stayed, sum.2 + stayed),
                None => sums.push((&closed.name, closed.connections - stayed, stayed)),
            }
        }
        for (name, gone, stayed) in sums {
            let others = if stayed == 0 { String::new() } else { format!("; gone over to another listener: {stayed}") };
            crate::notice!("Listener {name} was closed; connections closed with it: {gone}{others}.");
        }
        let gone = self.leaving.len();
        let refused = self.no_longer_allowed();
        self.leaving.extend(refused);
        if self.leaving.len() > gone {
            let count = self.leaving.len() - gone;
            crate::notice!("Disconnecting clients that are no longer allowed: {count}.");
        }
    }

    /// Closes some of those that have to leave.
    pub(super) fn close_leaving(&mut self, now: Now) {
        for _ in 0..CLOSES_PER_TURN {
            let Some(id) = self.leaving.pop() else { break };
            self.close(now, id, &CloseReason::NoLongerAllowed);
        }
    }

    /// Tells the service manager that the broker serves.
    pub(super) fn say_ready(&self) {
        if let Some(error) = self.notifier.as_ref().and_then(|notifier| notifier.ready().err()) {
            let error = crate::os::errors::describe(&error);
            log::warn!("Warning: The service manager cannot be told that the broker is ready: {error}");
        }
    }

    /// Publishes every will, tells every client that the broker stops, and closes.
    pub(super) fn shut_down(&mut self, now: Now) {
        if let Some(notifier) = &self.notifier {
            notifier.stopping();
        }
        log::info!("{} terminating", crate::cli::VERSION);
        self.broker.publish_all_wills(now);
        self.store.finish(&mut self.broker, now);
        for id in self.conns.keys() {
            self.close(now, ConnId(id), &CloseReason::Shutdown);
        }
        self.close_gateway(now);
        self.bury();
    }
}

/// Says why a reload changes nothing but the log file.
fn not_reloaded(why: &str) {
    for line in why.lines() {
        log::error!("{line}");
    }
    log::error!("Error: The configuration was not reloaded; the settings before stay in force.");
    logging::reopen();
}
