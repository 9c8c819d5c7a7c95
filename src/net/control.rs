//! What an operator does to the running loop: listeners, signals, reload, the end.

use std::io::Write;

use mio::{Interest, Token};

use super::listener::ListenSocket;
use super::{EventLoop, FIRST_LISTENER, ListenError, MAX_LISTENERS};
use crate::broker::ConnId;
use crate::config::{self, Config};
use crate::logging;
use crate::proto::CloseReason;
use crate::timer::Now;

impl EventLoop {
    /// Opens every configured listener. In local-only mode one of the two loopback addresses is enough.
    pub(super) fn open_listeners(&mut self) -> Result<(), ListenError> {
        let mut last = None;
        for (index, listener) in (0u16..).zip(&self.config.listeners) {
            self.connections.push(0);
            match ListenSocket::open(listener, index) {
                Ok(sockets) => self.listeners.extend(sockets),
                Err(error) if self.config.local_only => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        if self.listeners.is_empty() {
            return Err(last.unwrap_or_else(ListenError::nothing_to_listen_on));
        }
        if self.listeners.len() > MAX_LISTENERS {
            return Err(ListenError::too_many());
        }
        for (at, listener) in self.listeners.iter_mut().enumerate() {
            self.poll
                .registry()
                .register(&mut listener.socket, Token(FIRST_LISTENER + at), Interest::READABLE)
                .map_err(|error| ListenError::system(&error))?;
        }
        Ok(())
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
            log::warn!("Warning: There is no database to save: persistence is not part of this build.");
        }
        if signals.print_tree() {
            let mut tree = String::new();
            self.broker.write_tree(&mut tree);
            let mut stdout = std::io::stdout();
            let _reader_gone = stdout.write_all(tree.as_bytes()).and_then(|()| stdout.flush());
        }
        self.stop |= signals.terminate();
    }

    /// Reads the configuration file again. A bad file changes nothing.
    fn reload(&mut self, now: Now) {
        log::info!("Reloading config.");
        let Some(path) = self.config.file.clone() else { return logging::reopen() };
        let loaded = match Config::load(&path, None) {
            Ok(loaded) => loaded,
            Err(error) => {
                for line in error.to_string().lines() {
                    log::error!("{line}");
                }
                log::error!("Error: The configuration was not reloaded; the settings before stay in force.");
                return logging::reopen();
            }
        };
        let finished = loaded.config.finish(&self.ports);
        logging::tell(&loaded.lines);
        logging::tell(&finished.lines);
        let reloaded = config::apply(&mut self.config, finished.config);
        for note in &reloaded.notes {
            crate::notice!("{note}");
        }
        for listener in reloaded.added.iter().chain(&reloaded.removed) {
            log::warn!(
                "Warning: The listener on port {} was added or removed: this takes effect at the next start.",
                listener.port
            );
        }
        logging::reconfigure(&self.config.global.log);
        self.broker.set_settings(self.config.global.clone(), now);
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
        for id in self.conns.keys() {
            self.close(now, ConnId(id), &CloseReason::Shutdown);
        }
        self.bury();
    }
}
