//! How often a broker wakes whose clients do nothing.

use mosquitto::config::{Config, Listener};
use mosquitto::slab::Key;
use mosquitto::timer::Now;

use crate::net::Net;

/// CONNECT of a version 3.1.1 client with this keepalive.
fn connect(id: u32, keepalive_s: u16) -> Vec<u8> {
    let name = format!("client{id:04}");
    let mut packet = vec![0x10, u8::try_from(12 + name.len()).expect("short"), 0, 4];
    packet.extend(b"MQTT\x04\x02");
    packet.extend(keepalive_s.to_be_bytes());
    packet.extend(u16::try_from(name.len()).expect("short").to_be_bytes());
    packet.extend(name.as_bytes());
    packet
}

/// Lets time pass up to `until_ms` and returns the number of wake-ups.
fn wake_ups(net: &mut Net, until_ms: u64) -> u64 {
    let mut count = 0;
    while net.busy() {
        net.finish_turn();
    }
    while let Some(due) = net.next_deadline().filter(|due| *due <= until_ms) {
        net.set_time(due);
        net.finish_turn();
        count += 1;
        assert!(!net.busy(), "idle clients give work");
    }
    net.set_time(until_ms);
    count
}

#[test]
fn a_broker_with_a_thousand_idle_clients_wakes_less_than_twice_a_second() {
    for keepalive_s in [0, 60] {
        let mut config = Config::local_only(&[]);
        config.listeners = vec![Listener::new(1883, None)];
        config.global.allow_anonymous = Some(true);
        let start = Now { mono_ms: 1_000_000, wall_s: 1000 };
        let mut net = Net::new(config, [1, 2], start);
        // They come one after the other, at no two the same moment.
        let mut keys: Vec<Key> = Vec::new();
        for id in 0..1000 {
            net.set_time(net.now.mono_ms + 7);
            let key = net.open(usize::MAX);
            net.send(key, &connect(id, keepalive_s), None);
            net.read(key, usize::MAX);
            net.finish_turn();
            assert_eq!(net.receive(key, 100), [0x20, 2, 0, 0]);
            keys.push(key);
        }
        // Every minute as long as they live, in which the timer of each may look after it.
        for minute in 0..3 {
            let end = net.now.mono_ms + 60_000;
            let count = wake_ups(&mut net, end);
            assert!(count < 120, "keepalive {keepalive_s}, minute {minute}: {count} wake-ups");
            for some in keys.chunks(10) {
                for key in some {
                    assert!(!net.at_end(*key));
                    net.send(*key, &[0xC0, 0], None);
                    net.read(*key, usize::MAX);
                }
                net.finish_turn();
                for key in some {
                    assert_eq!(net.receive(*key, 100), [0xD0, 0]);
                }
                net.set_time(net.now.mono_ms + 37);
            }
        }
    }
}
