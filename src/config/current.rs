//! What the options of the next line go to: the current listener, bridge and plugin, and where each option was seen.

use super::Listener;
use super::bridge::Bridge;
use super::error::{ConfigError, ErrorKind, Severity};
use super::options::{self, Scope};
use super::parse::Parser;

/// The listener that options go to.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Cursor {
    None,
    Default,
    Listener(usize),
}

/// What an option was seen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Global,
    Default,
    Listener(usize),
    Bridge(usize),
}

impl Parser {
    /// What an option of this scope is for.
    pub(super) fn place(&self, scope: Scope) -> Place {
        let listener = match scope {
            Scope::Bridge => return self.bridge.map_or(Place::Global, Place::Bridge),
            Scope::Listener | Scope::ListenerOrDefault => true,
            Scope::GlobalOrListener => self.config.global.per_listener_settings,
            Scope::Global | Scope::Plugin => false,
        };
        match self.cursor {
            Cursor::Listener(i) if listener => Place::Listener(i),
            Cursor::Default if listener => Place::Default,
            _ => Place::Global,
        }
    }

    /// Checks that the option may stand here and finds its listener.
    pub(super) fn enter(&mut self, scope: Scope) -> Result<(), ErrorKind> {
        match scope {
            Scope::Global => Ok(()),
            Scope::GlobalOrListener => {
                self.security_seen = true;
                if self.config.global.per_listener_settings && self.cursor == Cursor::None {
                    return Err(ErrorKind::NeedsListener);
                }
                Ok(())
            }
            Scope::Listener if self.cursor == Cursor::None => Err(ErrorKind::NeedsListener),
            Scope::Listener => Ok(()),
            Scope::ListenerOrDefault => {
                if self.cursor == Cursor::None {
                    self.use_default_listener();
                }
                Ok(())
            }
            Scope::Bridge if self.bridge.is_none() => Err(ErrorKind::NeedsBridge),
            Scope::Bridge => Ok(()),
            Scope::Plugin if self.plugin => Ok(()),
            Scope::Plugin => Err(ErrorKind::NeedsPlugin),
        }
    }

    /// The current listener. Rows call it only after `enter` made sure of one.
    pub(super) fn listener(&mut self) -> &mut Listener {
        match self.cursor {
            Cursor::Listener(i) if i < self.config.listeners.len() => &mut self.config.listeners[i],
            _ => self.default.get_or_insert_with(|| Listener::new(1883, None)),
        }
    }

    /// The listener that an option of [`Scope::GlobalOrListener`] goes to; `None` for the whole broker.
    pub(super) fn own_listener(&mut self) -> Option<&mut Listener> {
        if self.config.global.per_listener_settings { Some(self.listener()) } else { None }
    }

    /// Opens a listener and makes it the current one.
    pub(super) fn open_listener(&mut self, listener: Listener) {
        self.cursor = Cursor::Listener(self.config.listeners.len());
        self.config.listeners.push(listener);
    }

    /// The current bridge. Rows call it only after `enter` made sure of one.
    pub(super) fn bridge(&mut self) -> &mut Bridge {
        &mut self.config.bridges[self.bridge.unwrap_or_default()]
    }

    /// Opens a bridge and makes it the current one.
    pub(super) fn open_bridge(&mut self, bridge: Bridge) {
        let i = self.config.bridges.len();
        self.bridge = Some(i);
        self.config.bridges.push(bridge);
        let here = self.places.iter().rev().cloned().collect();
        self.marks.insert((Place::Bridge(i), "connection"), here);
    }

    /// Lets options of a plugin follow.
    pub(super) fn open_plugin(&mut self) {
        self.plugin = true;
    }

    pub(super) fn use_default_listener(&mut self) -> &mut Listener {
        self.cursor = Cursor::Default;
        if self.default.is_none() {
            let option = &self.option;
            let lines = [
                format!("Creating default listener due to '{option}' option."),
                format!(
                    "It is better to start with a 'listener' line: '{option}' without one will be an error one day."
                ),
            ];
            self.lines.extend(lines.map(|line| (Severity::Information, line)));
        }
        self.listener()
    }

    /// `port` of the default listener.
    pub(super) fn default_port(&mut self, port: u16) {
        // C Mosquitto says this for a single line too.
        if self.default_port_given {
            let line = "Warning: Default listener port specified multiple times. Only the latest will be used.";
            self.say(Severity::Warning, line.into());
        }
        self.use_default_listener().port = port;
        self.default_port_given = true;
        self.default_opens = true;
    }

    /// `bind_address` of the default listener.
    pub(super) fn default_host(&mut self, host: &str) {
        self.use_default_listener().host = Some(host.into());
        self.default_opens = true;
    }

    /// `per_listener_settings`: the first `true` stays, and it must come before any option that it governs.
    pub(super) fn per_listener_settings(&mut self, on: bool) -> Result<(), ErrorKind> {
        if self.security_seen {
            return Err(ErrorKind::PerListenerTooLate);
        }
        self.config.global.per_listener_settings |= on;
        Ok(())
    }

    /// The listeners of this file with the place that their options have.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (Place, &Listener)> {
        let own = self.config.listeners.iter().enumerate().map(|(i, listener)| (Place::Listener(i), listener));
        own.chain(self.default.iter().map(|listener| (Place::Default, listener)))
    }

    /// An error about the whole, to blame on the first of `options` that stands there.
    pub(super) fn whole_error(&self, place: Place, options: &[&'static str], text: String) -> ConfigError {
        let found = options.iter().find_map(|&name| Some((name, self.marks.get(&(place, name))?)));
        let (option, locations) = found.map_or((String::new(), Vec::new()), |(name, at)| (name.into(), at.clone()));
        ConfigError { option, kind: ErrorKind::Other(text), locations }
    }

    /// True when an option of this name stands at this place.
    pub(super) fn is_marked(&self, place: Place, name: &'static str) -> bool {
        self.marks.contains_key(&(place, name))
    }

    /// True when one of these options stands above for the current bridge, the current listener or the whole broker,
    /// whichever this option goes to.
    pub(super) fn marked(&self, names: &[&'static str]) -> bool {
        names.iter().any(|name| {
            options::find(name).is_some_and(|row| self.marks.contains_key(&(self.place(row.scope), row.name)))
        })
    }
}
