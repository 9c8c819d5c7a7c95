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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::OPTIONS;
    use crate::wire::QoS;

    fn config(text: &str) -> Config {
        Config::parse_str("a.conf", text).unwrap_or_else(|e| panic!("{e}")).config.finish(&[]).config
    }

    #[test]
    fn reloadable_options_are_taken_over() {
        let mut old = config("user a\nlistener 1\nlistener 2 ::1\nmax_qos 1");
        let new = config("user b\nmax_keepalive 9\nlistener 2 ::1\nsocket_domain ipv6\nmax_connections 3\nlistener 1");
        let reloaded = apply(&mut old, new);
        assert_eq!(
            reloaded.notes,
            ["user", "socket_domain"].map(|o| format!("The new value of '{o}' takes effect at the next start."))
        );
        assert_eq!((reloaded.added, reloaded.removed), (vec![], vec![]));
        assert_eq!((old.global.user.as_str(), old.global.max_keepalive), ("a", 9));
        let [one, two] = &old.listeners[..] else { panic!("two listeners") };
        assert_eq!((one.port, two.port), (1, 2), "listeners keep their order");
        assert_eq!((two.max_connections, two.max_qos), (Some(3), QoS::ExactlyOnce));
        assert_eq!(two.socket_domain, crate::config::SocketDomain::Any);
    }

    #[test]
    fn listeners_that_came_or_went_are_returned() {
        let mut old = config("listener 1\nlistener 2");
        let reloaded = apply(&mut old, config("listener 1\nlistener 1\nlistener 3"));
        let ports = |listeners: &[Listener]| listeners.iter().map(|l| l.port).collect::<Vec<_>>();
        assert_eq!(ports(&reloaded.added), [1, 3]);
        assert_eq!(ports(&reloaded.removed), [2]);
        assert_eq!(ports(&old.listeners), [1, 2]);
    }

    #[test]
    fn an_open_listener_does_not_become_anonymous_because_the_file_lost_it() {
        let mut old = config("listener 1883");
        apply(&mut old, config(""));
        assert!(!old.local_only && !old.anonymous_allowed(&old.listeners[0]));
        let mut old = config("");
        apply(&mut old, config("listener 1883 127.0.0.1\nlistener 1883 ::1"));
        assert!(!old.local_only && !old.anonymous_allowed(&old.listeners[0]), "the same listeners, now by name");
    }

    #[test]
    fn the_table_says_what_needs_a_restart() {
        for (name, value) in [("user", "x"), ("pid_file", "x"), ("bind_interface", "x"), ("socket_domain", "ipv4")] {
            let mut old = config("listener 1");
            let reloaded = apply(&mut old, config(&format!("listener 1\n{name} {value}")));
            assert_eq!(reloaded.notes.len(), 1, "{name}");
            assert_eq!(old, config("listener 1"), "{name}");
            assert!(OPTIONS.iter().any(|row| row.name == name && !row.reload), "{name}");
        }
    }
}
