//! SIGHUP: takes over what may change while the broker runs, and tells what may not.

use super::{Config, Global, Listener};

/// What a reload left undone.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Reloaded {
    /// One line for each changed option that needs a restart.
    pub notes: Vec<String>,
    /// Listeners of the new configuration that are not open.
    pub added: Vec<Listener>,
    /// Open listeners that the new configuration does not name.
    pub removed: Vec<Listener>,
}

/// Copies every option from `new` (after [`Config::finish`]) to `old` that may change while the broker runs.
///
/// Listeners are the same when port and host are. `old` keeps its listeners and their order; those that came or went
/// are returned, and while there are any, `local_only` keeps its value: clients of an open listener must not become
/// welcome without a name because the file stopped naming it.
pub fn apply(old: &mut Config, new: Config) -> Reloaded {
    let mut reloaded = Reloaded::default();
    let Global { user, pid_file, .. } = &old.global;
    let (user, pid_file) = (user.clone(), pid_file.clone());
    let mut note = |option: &str, changed: bool| {
        if changed {
            reloaded.notes.push(format!("The new value of '{option}' takes effect at the next start."));
        }
    };
    note("user", new.global.user != user);
    note("pid_file", new.global.pid_file != pid_file);
    old.global = Global { user, pid_file, ..new.global };

    let mut left = new.listeners;
    for listener in &mut old.listeners {
        let same = |other: &Listener| other.port == listener.port && other.host == listener.host;
        let Some(i) = left.iter().position(same) else {
            reloaded.removed.push(listener.clone());
            continue;
        };
        let new = left.remove(i);
        let Listener { port, host, socket_domain, bind_interface, .. } = listener.clone();
        note("socket_domain", new.socket_domain != socket_domain);
        note("bind_interface", new.bind_interface != bind_interface);
        *listener = Listener { port, host, socket_domain, bind_interface, ..new };
    }
    reloaded.added = left;
    if reloaded.added.is_empty() && reloaded.removed.is_empty() {
        old.local_only = new.local_only;
    }
    old.file = new.file;
    reloaded
}
