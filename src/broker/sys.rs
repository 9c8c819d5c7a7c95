//! The `$SYS` tree: counters as retained messages, published when they changed, and load averages.
//! `[conf: sys_interval]`

use super::Broker;
use super::figures::Figures;
use super::message::{Msg, NewMessage};
use super::stats::Stats;
use crate::config::Global;
use crate::timer::Now;
use crate::wire::QoS;

/// The broker's name and version, as `$SYS/broker/version` shows it.
pub const VERSION: &str = concat!("mosquitto version ", env!("CARGO_PKG_VERSION"));

/// Reads one counter.
type Counter = fn(&Stats) -> u64;

/// The loads: the topic level, the counter, and its averages over 1, 5 and 15 minutes.
const LOADS: [(&str, Counter); 9] = [
    ("messages/received", |s| s.packets_in),
    ("messages/sent", |s| s.packets_out),
    ("publish/dropped", |s| s.dropped),
    ("publish/received", |s| s.publishes_in),
    ("publish/sent", |s| s.publishes_out),
    ("bytes/received", |s| s.bytes_in),
    ("bytes/sent", |s| s.bytes_out),
    ("sockets", |s| s.sockets),
    ("connections", |s| s.connects),
];
const WINDOWS: [(&str, f64); 3] = [("1min", 60.0), ("5min", 300.0), ("15min", 900.0)];

/// A topic below `$SYS/broker/` and its value.
type Metric = (&'static str, u64);

/// What was published last.
pub(crate) struct Sys {
    /// When the next update is due; 0 publishes the first at once.
    due_ms: u64,
    updated_ms: u64,
    first: bool,
    published: Vec<u64>,
    before: Stats,
    loads: [[f64; WINDOWS.len()]; LOADS.len()],
    most_clients: u64,
    /// Ports of listeners with TLS, and the days until their certificates end.
    certificates: Vec<(u16, i64)>,
}

impl Sys {
    pub(crate) fn new(now: Now) -> Sys {
        Sys {
            due_ms: 0,
            updated_ms: now.mono_ms,
            first: true,
            published: Vec::new(),
            before: Stats::default(),
            loads: Default::default(),
            most_clients: 0,
            certificates: Vec::new(),
        }
    }

    /// When the next update is due; `None` when `$SYS` is off.
    pub(crate) fn next_deadline(&self, settings: &Global) -> Option<u64> {
        (settings.sys_interval != 0).then_some(self.due_ms)
    }

    fn metrics(&mut self, figures: &Figures, persistence: bool) -> Vec<Metric> {
        let (stats, store, total) = (&figures.stats, figures.store, figures.sessions);
        self.most_clients = self.most_clients.max(total);
        // C Mosquitto prints the difference as a 32-bit number when it is negative; 0 is what it means.
        let connected = stats.open_sockets.saturating_add(stats.sn.active).saturating_add(stats.sn.asleep);
        let offline = total.saturating_sub(connected);
        let mut metrics = vec![
            ("clients/total", total),
            ("clients/maximum", self.most_clients),
            ("clients/connected", connected),
            ("clients/active", connected),
            ("clients/disconnected", offline),
            ("clients/inactive", offline),
            ("clients/expired", stats.expired_sessions),
            ("messages/received", stats.packets_in),
            ("messages/sent", stats.packets_out),
            ("messages/stored", store.messages),
            ("store/messages/count", store.messages),
            ("store/messages/bytes", store.bytes),
            ("publish/messages/received", stats.publishes_in),
            ("publish/messages/sent", stats.publishes_out),
            ("publish/messages/dropped", stats.dropped),
            ("publish/bytes/received", stats.publish_bytes_in),
            ("publish/bytes/sent", stats.publish_bytes_out),
            ("bytes/received", stats.bytes_in),
            ("bytes/sent", stats.bytes_out),
            ("subscriptions/count", figures.subscriptions),
            ("shared_subscriptions/count", figures.shared_subscriptions),
            ("retained messages/count", figures.retained),
            ("connections/socket/count", stats.sockets),
            ("packet/out/count", stats.waiting_packets),
            ("packet/out/bytes", stats.waiting_bytes),
        ];
        // Only where allocations are counted.
        if stats.heap != 0 {
            metrics.extend([("heap/current", stats.heap), ("heap/maximum", stats.heap_maximum)]);
        }
        if persistence {
            metrics.extend([
                ("persistence/saves", stats.saves),
                ("persistence/saves/failed", stats.saves_failed),
                ("persistence/bytes/written", stats.saved_bytes),
                ("persistence/journal/syncs", stats.journal_syncs),
                ("persistence/journal/bytes/written", stats.journal_bytes),
            ]);
        }
        metrics.extend(stats.sn.figures().map(|(topic, _, _, value)| (topic, value)));
        metrics
    }
}

fn days_topic(port: u16) -> String {
    format!("listener/{port}/tls/days")
}

impl Broker {
    /// Publishes what changed in `$SYS` and sets the next update, at a wall-clock second that is a multiple of
    /// `sys_interval`. Does nothing when `$SYS` is off.
    pub fn publish_sys(&mut self, now: Now) {
        let interval = u64::from(self.settings.sys_interval);
        if interval == 0 {
            return;
        }
        let until_next = interval - now.wall_s % interval;
        self.sys.due_ms = now.mono_ms.saturating_add(until_next * 1000);
        let first = std::mem::replace(&mut self.sys.first, false);
        if first {
            self.publish_own(now, "version", VERSION);
            for (port, days) in self.sys.certificates.clone() {
                self.publish_own(now, &days_topic(port), &days.to_string());
            }
        }
        let uptime = now.mono_ms.saturating_sub(self.started.mono_ms) / 1000;
        self.publish_own(now, "uptime", &format!("{uptime} seconds"));
        let figures = self.figures();
        let metrics = self.sys.metrics(&figures, self.settings.persistence);
        // A figure that a reload brought is new whatever it is.
        self.sys.published.resize(metrics.len(), u64::MAX);
        for (i, (topic, value)) in metrics.into_iter().enumerate() {
            let unchanged = self.sys.published.get(i) == Some(&value);
            if unchanged && !first {
                continue;
            }
            if let Some(published) = self.sys.published.get_mut(i) {
                *published = value;
            }
            // As C Mosquitto: an idle broker has not had a maximum yet.
            if topic != "clients/maximum" || value > 1 {
                self.publish_own(now, topic, &value.to_string());
            }
        }
        self.publish_loads(now, figures.stats, first);
    }

    /// Tells `$SYS/broker/listener/PORT/tls/days` how many days the certificate of each listener has left; negative once it
    /// has expired.
    pub fn set_certificate_days(&mut self, now: Now, days: Vec<(u16, i64)>) {
        let before = std::mem::replace(&mut self.sys.certificates, days);
        for (port, _) in &before {
            if self.sys.certificates.iter().all(|(own, _)| own != port) {
                self.retained.remove(&format!("$SYS/broker/{}", days_topic(*port)));
            }
        }
        if self.settings.sys_interval == 0 || self.sys.first {
            return;
        }
        for entry in self.sys.certificates.clone() {
            if !before.contains(&entry) {
                self.publish_own(now, &days_topic(entry.0), &entry.1.to_string());
            }
        }
    }

    /// `new = rate + exp(-dt / T) * (old - rate)` with the rate in events per minute.
    fn publish_loads(&mut self, now: Now, stats: Stats, first: bool) {
        let elapsed_s = now.mono_ms.saturating_sub(self.sys.updated_ms) as f64 / 1000.0;
        if !first && elapsed_s <= 0.0 {
            return;
        }
        let before = std::mem::replace(&mut self.sys.before, stats);
        self.sys.updated_ms = now.mono_ms;
        for (i, (name, counter)) in LOADS.iter().enumerate() {
            let increase = counter(&stats).saturating_sub(counter(&before)) as f64;
            let rate = if elapsed_s > 0.0 { increase * 60.0 / elapsed_s } else { 0.0 };
            for (j, (window, seconds)) in WINDOWS.iter().enumerate() {
                let Some(load) = self.sys.loads.get_mut(i).and_then(|loads| loads.get_mut(j)) else { continue };
                let old = *load;
                *load = rate + (-elapsed_s / seconds).exp() * (old - rate);
                let new = *load;
                if first || (new - old).abs() >= 0.01 {
                    self.publish_own(now, &format!("load/{name}/{window}"), &format!("{new:.2}"));
                }
            }
        }
    }

    /// Lets the tree follow new options: it goes, comes or is updated at once.
    pub(super) fn follow_sys(&mut self, old: &Global) {
        let (interval, was) = (self.settings.sys_interval, old.sys_interval);
        if interval == 0 && was != 0 {
            // Whoever looks must not find figures that nobody keeps up; bridges keep theirs.
            let own = |topic: &str| topic.starts_with("$SYS/broker/") && !topic.starts_with("$SYS/broker/connection/");
            let topics: Vec<Box<str>> =
                self.retained.iter().map(Msg::topic).filter(|topic| own(topic)).map(Into::into).collect();
            for topic in topics {
                self.retained.remove(&topic);
            }
        }
        // What was published with nobody to keep it is published again.
        self.sys.first |= was == 0 || (self.settings.retain_available && !old.retain_available);
        if interval != was || self.sys.first {
            self.sys.due_ms = 0;
        }
    }

    fn publish_own(&mut self, now: Now, topic: &str, payload: &str) {
        self.publish_broker(now, &format!("$SYS/broker/{topic}"), payload, true, None);
    }

    /// Publishes a line of the log to `$SYS/broker/log/SUFFIX` `[conf: log_dest topic]`.
    pub fn publish_log(&mut self, now: Now, suffix: &str, line: &str) {
        self.publish_broker(now, &format!("$SYS/broker/log/{suffix}"), line, false, Some(20));
    }

    fn publish_broker(&mut self, now: Now, topic: &str, payload: &str, retain: bool, expiry_s: Option<u32>) {
        let new = NewMessage {
            topic,
            payload: payload.as_bytes(),
            qos: QoS::ExactlyOnce,
            retain: retain && self.settings.retain_available,
            props: &[],
            expiry_s,
        };
        if let Some(msg) = Msg::new(now, &new) {
            self.publish(now, None, &msg);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Now {
        Now { mono_ms: s * 1000, wall_s: s }
    }

    fn value(broker: &Broker, topic: &str) -> Option<String> {
        let msg = broker.retained.get(&format!("$SYS/broker/{topic}"))?;
        Some(String::from_utf8_lossy(msg.payload()).into_owned())
    }

    #[test]
    fn the_first_update_holds_every_topic() {
        let mut broker = Broker::new(Global::default(), [1, 2], at(101));
        broker.publish_sys(at(101));
        assert_eq!(value(&broker, "version").as_deref(), Some(VERSION));
        assert_eq!(value(&broker, "uptime").as_deref(), Some("0 seconds"));
        assert_eq!(value(&broker, "bytes/sent").as_deref(), Some("0"));
        assert_eq!(value(&broker, "load/sockets/15min").as_deref(), Some("0.00"));
        assert_eq!(value(&broker, "clients/maximum"), None);
        assert_eq!(broker.sys.due_ms, 110_000, "updates come at multiples of the interval");
    }

    #[test]
    fn loads_follow_the_formula() {
        let mut broker = Broker::new(Global::default(), [1, 2], at(100));
        broker.publish_sys(at(100));
        broker.stats.packets_in = 20;
        broker.publish_sys(at(110));
        let expected = 120.0 + (-10.0f64 / 60.0).exp() * -120.0;
        assert_eq!(value(&broker, "load/messages/received/1min"), Some(format!("{expected:.2}")));
        assert_eq!(value(&broker, "messages/received").as_deref(), Some("20"));
    }

    #[test]
    fn with_interval_0_there_is_no_tree() {
        let mut broker = Broker::new(Global { sys_interval: 0, ..Global::default() }, [1, 2], at(1));
        broker.publish_sys(at(1));
        assert_eq!(broker.retained_count(), 0);
        assert_eq!(broker.next_deadline(), None);
    }
}
