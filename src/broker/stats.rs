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
