//! What the broker counts about itself; `$SYS` and the metrics page show it.

/// Counters since the start, unless they say gauge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Accepted sockets.
    pub sockets: u64,
    /// CONNECT packets.
    pub connects: u64,
    /// MQTT packets received, any type.
    pub packets_in: u64,
    /// MQTT packets sent, any type.
    pub packets_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// PUBLISH packets received.
    pub publishes_in: u64,
    /// PUBLISH packets sent.
    pub publishes_out: u64,
    /// Payload bytes of received PUBLISH.
    pub publish_bytes_in: u64,
    /// Payload bytes of sent PUBLISH.
    pub publish_bytes_out: u64,
    /// Outgoing messages dropped at a limit.
    pub dropped: u64,
    /// Sessions removed because their expiry passed.
    pub expired_sessions: u64,
    /// Bytes written to the journal.
    pub journal_bytes: u64,
    /// Batches written to the journal and synced.
    pub journal_syncs: u64,
    /// MQTT-SN.
    pub sn: SnStats,
    /// Saves of the database.
    pub saves: u64,
    /// Saves that failed.
    pub saves_failed: u64,
    /// Bytes written to the database by saves that succeeded.
    pub saved_bytes: u64,
    /// Gauge: when the last save was complete, in seconds since 1970; 0 for never.
    pub saved_at_s: u64,
    /// Gauge: open sockets, those before CONNECT included.
    pub open_sockets: u64,
    /// Gauge: packets that wait for their sockets.
    pub waiting_packets: u64,
    /// Gauge: bytes that wait for their sockets.
    pub waiting_bytes: u64,
    /// Gauge: heap bytes in use, where allocations are counted.
    pub heap: u64,
    /// Gauge: the most heap bytes ever in use.
    pub heap_maximum: u64,
}

/// What happens at the MQTT-SN gateway. Its messages count in the general figures too, but for sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnStats {
    /// Gauge: open sockets; without any the rest is not shown.
    pub sockets: u64,
    /// Gauge: clients that are connected and not asleep.
    pub active: u64,
    /// Gauge: clients that sleep.
    pub asleep: u64,
    /// Clients that went silent.
    pub lost: u64,
    /// Messages received.
    pub packets_in: u64,
    /// Messages sent.
    pub packets_out: u64,
    /// Datagrams dropped because they are no messages.
    pub malformed: u64,
    /// Messages of somebody without a session.
    pub unknown_client: u64,
    /// Datagrams dropped because an address sent too many.
    pub rate_limited: u64,
    /// Datagrams from networks or forwarders that are not allowed.
    pub unwelcome: u64,
    /// Messages received that are too large.
    pub oversize: u64,
    /// Messages that could not be given to a client.
    pub undeliverable: u64,
    /// Messages sent again.
    pub retransmissions: u64,
    /// PUBLISH with QoS -1.
    pub qos_minus_one: u64,
}

/// One figure of MQTT-SN: its topic below `$SYS/broker`, what it means, and whether it only grows.
pub type SnFigure = (&'static str, &'static str, bool, u64);

impl SnStats {
    /// Every figure, for `$SYS` and the metrics page; none while no listener speaks MQTT-SN.
    pub fn figures(&self) -> impl Iterator<Item = SnFigure> {
        let all = [
            ("mqttsn/clients/active", "MQTT-SN clients that are connected and not asleep.", false, self.active),
            ("mqttsn/clients/asleep", "MQTT-SN clients that sleep.", false, self.asleep),
            ("mqttsn/clients/lost", "MQTT-SN clients that went silent.", true, self.lost),
            ("mqttsn/packets/received", "MQTT-SN messages received.", true, self.packets_in),
            ("mqttsn/packets/sent", "MQTT-SN messages sent.", true, self.packets_out),
            ("mqttsn/dropped/malformed", "Datagrams that are no MQTT-SN message.", true, self.malformed),
            ("mqttsn/dropped/unknown_client", "MQTT-SN messages without a session.", true, self.unknown_client),
            ("mqttsn/dropped/rate_limited", "Datagrams above mqttsn_rate_limit.", true, self.rate_limited),
            ("mqttsn/dropped/not_allowed", "Datagrams from where none are allowed.", true, self.unwelcome),
            ("mqttsn/dropped/oversize", "MQTT-SN messages that are too large.", true, self.oversize),
            ("mqttsn/dropped/undeliverable", "Messages an MQTT-SN client could not get.", true, self.undeliverable),
            ("mqttsn/retransmissions", "MQTT-SN messages sent again.", true, self.retransmissions),
            ("mqttsn/qos_minus_one/received", "PUBLISH messages with QoS -1.", true, self.qos_minus_one),
        ];
        let shown = if self.sockets == 0 { 0 } else { all.len() };
        all.into_iter().take(shown)
    }
}
