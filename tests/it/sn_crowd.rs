//! Many devices at one broker: what an idle one costs beside an MQTT client, and a tenth of them asleep with twenty messages
//! each. `SN_CROWD=10000` says how many there are.

use std::time::Instant;

use crate::broker::{Broker, note};
use crate::client::{Client, connect_with, string};
use crate::sn_procedures::{
    CLEAN, DISCONNECT, Device, Gateway, LIMIT, OK, PINGRESP, QOS1, connack, connect, pingreq, publish_from, sleep_for,
};

const CROWD: usize = 300;
/// From so many on, the memory of one can be told from the noise.
const MEASURABLE: usize = 5000;
/// Messages for each sleeper.
const KEPT: usize = 20;
const KEEPALIVE_S: u16 = u16::MAX;

fn crowd() -> usize {
    std::env::var("SN_CROWD").map_or(CROWD, |text| text.parse().expect("SN_CROWD is a number"))
}

/// What this many idle MQTT clients add to the memory of a broker, in bytes.
fn memory_of_mqtt(count: usize) -> u64 {
    let broker = Broker::start();
    let before = broker.memory();
    let clients: Vec<Client> = (0..count)
        .map(|n| {
            let mut client = Client::open(broker.addr());
            client.set_limit(LIMIT);
            client.send(&connect_with(4, 2, KEEPALIVE_S, &[], &[&string(&name(n))]));
            client.expect(&[0x20, 2, 0, 0]);
            client
        })
        .collect();
    let after = broker.memory();
    drop(clients);
    after.saturating_sub(before)
}

fn name(n: usize) -> String {
    format!("crowd-{n:05}")
}

#[test]
fn many_devices_and_a_tenth_of_them_asleep() {
    let count = crowd();
    let gateway = Gateway::start("max_queued_messages 100\n");
    let empty = gateway.broker.memory();
    let mut publisher = Client::connect(gateway.broker.addr(), 4, "publisher");
    publisher.set_limit(LIMIT);
    let start = Instant::now();
    let devices: Vec<Device> = (0..count)
        .map(|n| {
            let device = gateway.device();
            device.ask(&connect(CLEAN, KEEPALIVE_S, &name(n)), &connack(OK));
            device
        })
        .collect();
    let idle = gateway.broker.memory();
    let connected = start.elapsed();
    let sleepers = &devices[..count / 10];
    for (n, device) in sleepers.iter().enumerate() {
        device.subscribe(QOS1, 1, &format!("crowd/{n}"));
        device.ask(&sleep_for(u16::MAX), DISCONNECT);
    }
    for round in 0..KEPT {
        for n in 0..sleepers.len() {
            publish_from(&mut publisher, &format!("crowd/{n}"), &format!("{n} {round}"));
        }
    }
    let asleep = gateway.broker.memory();
    gateway.expect_silence(&sleepers.iter().collect::<Vec<_>>());
    let start = Instant::now();
    let mut delivered = 0;
    for (n, device) in sleepers.iter().enumerate() {
        device.send(&pingreq(&name(n)));
        for round in 0..KEPT {
            device.take_any(&format!("{n} {round}"));
            delivered += 1;
        }
        device.expect(PINGRESP);
    }
    assert_eq!(delivered, sleepers.len() * KEPT);
    // Everybody else is still there.
    for device in &devices[count / 10..] {
        device.ask(&pingreq(""), PINGRESP);
    }
    let delivered_in = start.elapsed();
    // Their descriptors are needed for the others.
    let sleeping = sleepers.len();
    drop(devices);
    let mqtt = memory_of_mqtt(count);
    let sn = idle.saturating_sub(empty);
    let each = |bytes: u64| bytes / count as u64;
    note(&format!(
        "MQTT-SN: {count} clients connected in {connected:.1?}; {} bytes for each idle one (MQTT: {}); {} KiB resident with \
         {} of them asleep and {delivered} messages kept; all of these delivered in {:.1?}",
        each(sn),
        each(mqtt),
        asleep / 1024,
        sleeping,
        delivered_in,
    ));
    if count >= MEASURABLE {
        assert!(sn <= mqtt, "an idle device costs {} bytes, an MQTT client {}", each(sn), each(mqtt));
    }
}
