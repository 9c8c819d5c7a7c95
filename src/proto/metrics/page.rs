//! The page in Prometheus' text format 0.0.4: for each metric its meaning, its type and its value.

use std::fmt::Write;

use crate::broker::Broker;
use crate::proto::endpoint::{BridgeFigures, LoopFigures};
use crate::timer::Now;

/// The page as it is now.
pub(super) fn text(broker: &Broker, now: Now, figures: &LoopFigures) -> String {
    let table = broker.figures();
    let (stats, sessions) = (&table.stats, table.sessions);
    let connected = broker.connected_count();
    let started = broker.started();
    let uptime_s = now.mono_ms.saturating_sub(started.mono_ms) / 1000;

    let mut page = Page(String::with_capacity(8 * 1024));
    page.family("info", GAUGE, "The broker's version; always 1.");
    page.labelled("info", "version", env!("CARGO_PKG_VERSION"), 1);
    page.metric("start_time_seconds", GAUGE, "When the broker started, in seconds since 1970.", started.wall_s);
    page.metric("uptime_seconds", GAUGE, "How long the broker has been running.", uptime_s);

    page.metric("sessions", GAUGE, "Sessions known by client id, connected and offline.", sessions);
    page.metric("sessions_connected", GAUGE, "Sessions whose client is connected.", connected);
    let offline = sessions.saturating_sub(connected);
    page.metric("sessions_offline", GAUGE, "Sessions whose client is not connected.", offline);
    page.metric("sessions_expired_total", COUNTER, "Sessions removed at their expiry.", stats.expired_sessions);

    page.metric("sockets_open", GAUGE, "Open sockets of clients, those before CONNECT included.", stats.open_sockets);
    page.metric("sockets_accepted_total", COUNTER, "Accepted sockets of clients.", stats.sockets);
    page.metric("connects_received_total", COUNTER, "CONNECT packets received.", stats.connects);
    page.metric("packets_received_total", COUNTER, "MQTT packets received, of any type.", stats.packets_in);
    page.metric("packets_sent_total", COUNTER, "MQTT packets sent, of any type.", stats.packets_out);
    page.metric("received_bytes_total", COUNTER, "Bytes received from clients.", stats.bytes_in);
    page.metric("sent_bytes_total", COUNTER, "Bytes sent to clients.", stats.bytes_out);
    page.metric("publishes_received_total", COUNTER, "PUBLISH packets received.", stats.publishes_in);
    page.metric("publishes_sent_total", COUNTER, "PUBLISH packets sent.", stats.publishes_out);
    page.metric("publishes_dropped_total", COUNTER, "Outgoing messages dropped at a limit.", stats.dropped);
    let help = "Payload bytes of received PUBLISH packets.";
    page.metric("publish_received_bytes_total", COUNTER, help, stats.publish_bytes_in);
    page.metric("publish_sent_bytes_total", COUNTER, "Payload bytes of sent PUBLISH packets.", stats.publish_bytes_out);

    page.metric("subscriptions", GAUGE, "Subscriptions that are not shared.", table.subscriptions);
    page.metric("shared_subscriptions", GAUGE, "Shared subscriptions.", table.shared_subscriptions);
    page.metric("retained_messages", GAUGE, "Retained messages, those of $SYS included.", table.retained);
    page.metric("stored_messages", GAUGE, "Messages retained, queued or in flight.", table.store.messages);
    page.metric("stored_bytes", GAUGE, "Payload bytes of the stored messages.", table.store.bytes);
    page.metric("waiting_packets", GAUGE, "Packets that wait for their sockets.", stats.waiting_packets);
    page.metric("waiting_bytes", GAUGE, "Bytes that wait for their sockets.", stats.waiting_bytes);
    page.metric("database_saves_total", COUNTER, "Saves of the database.", stats.saves);
    page.metric("database_saves_failed_total", COUNTER, "Saves of the database that failed.", stats.saves_failed);
    page.metric("database_written_bytes_total", COUNTER, "Bytes that saves of the database wrote.", stats.saved_bytes);
    let help = "When the database was last saved, in seconds since 1970; 0 for not since the start.";
    page.metric("database_saved_time_seconds", GAUGE, help, stats.saved_at_s);
    page.metric("journal_written_bytes_total", COUNTER, "Bytes written to the journal.", stats.journal_bytes);
    page.metric("journal_syncs_total", COUNTER, "Batches written to the journal and synced.", stats.journal_syncs);
    // Only where allocations are counted, as in $SYS.
    if stats.heap != 0 {
        page.metric("heap_bytes", GAUGE, "Heap bytes in use.", stats.heap);
        page.metric("heap_max_bytes", GAUGE, "The most heap bytes that were ever in use.", stats.heap_maximum);
    }

    for (topic, help, grows, value) in stats.sn.figures() {
        let name = topic.replace('/', "_");
        if grows {
            page.metric(&format!("{name}_total"), COUNTER, help, value);
        } else {
            page.metric(&name, GAUGE, help, value);
        }
    }

    page.family("listener_connections", GAUGE, "Open connections of a listener.");
    for (port, connections) in by_port(figures) {
        page.labelled("listener_connections", "listener", &port.to_string(), u64::from(connections));
    }
    bridges(&mut page, figures);
    page.0
}

/// The bridges, each family with one sample for each of them.
fn bridges(page: &mut Page, figures: &LoopFigures) {
    if figures.bridges.is_empty() {
        return;
    }
    page.family("bridge_state", GAUGE, "Where the link of a bridge stands; always 1.");
    for bridge in &figures.bridges {
        page.sample("bridge_state", &[("bridge", &bridge.name), ("state", bridge.state)], 1);
    }
    type Family = (&'static str, &'static str, &'static str, fn(&BridgeFigures) -> u64);
    let families: [Family; 6] = [
        ("bridge_connected", GAUGE, "Whether a bridge is connected.", |b| u64::from(b.state == "live")),
        ("bridge_queued_messages", GAUGE, "Messages that wait for the other broker, in flight included.", |b| b.queued),
        ("bridge_sent_total", COUNTER, "PUBLISH packets sent to the other broker.", |b| b.sent),
        ("bridge_received_total", COUNTER, "PUBLISH packets received from the other broker.", |b| b.received),
        ("bridge_reconnects_total", COUNTER, "Connections of a bridge after its first.", |b| b.reconnects),
        ("bridge_set_aside_total", COUNTER, "Messages that the other broker did not take.", |b| b.set_aside),
    ];
    for (name, kind, help, value) in families {
        page.family(name, kind, help);
        for bridge in &figures.bridges {
            page.labelled(name, "bridge", &bridge.name, value(bridge));
        }
    }
    page.family("bridge_last_error_info", GAUGE, "Why the last connection of a bridge failed or ended; always 1.");
    for bridge in figures.bridges.iter().filter(|bridge| !bridge.last_error.is_empty()) {
        page.sample("bridge_last_error_info", &[("bridge", &bridge.name), ("error", &bridge.last_error)], 1);
    }
}

/// Listeners on one port count as one: a sample must not come twice. Quadratic, but there are few, and only the operator
/// makes them more.
fn by_port(figures: &LoopFigures) -> Vec<(u16, u32)> {
    let mut sums: Vec<(u16, u32)> = Vec::new();
    for (port, connections) in &figures.listeners {
        match sums.iter_mut().find(|(known, _)| known == port) {
            Some((_, sum)) => *sum = sum.saturating_add(*connections),
            None => sums.push((*port, *connections)),
        }
    }
    sums
}

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";

struct Page(String);

impl Page {
    /// One metric without labels.
    fn metric(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.put(format_args!("mosquitto_{name} {value}\n"));
    }

    /// What the samples that follow mean.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.put(format_args!("# HELP mosquitto_{name} {help}\n# TYPE mosquitto_{name} {kind}\n"));
    }

    /// One sample with one label.
    fn labelled(&mut self, name: &str, label: &str, of: &str, value: u64) {
        self.sample(name, &[(label, of)], value);
    }

    /// One sample with labels.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.put(format_args!("mosquitto_{name}"));
        for (i, (label, of)) in labels.iter().enumerate() {
            self.put(format_args!("{}{label}=\"", if i == 0 { '{' } else { ',' }));
            for c in of.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        self.put(format_args!("}} {value}\n"));
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _never = self.0.write_fmt(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_comes_once() {
        let figures = LoopFigures {
            listeners: vec![(1883, 1), (9234, 4), (1883, 2), (1, u32::MAX), (1, 5)],
            ..LoopFigures::default()
        };
        assert_eq!(by_port(&figures), [(1883, 3), (9234, 4), (1, u32::MAX)]);
    }

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page(String::new());
        page.labelled("a", "b", "/run/\"x\"\\y\nz é", 7);
        assert_eq!(page.0, "mosquitto_a{b=\"/run/\\\"x\\\"\\\\y\\nz é\"} 7\n");
    }
}
