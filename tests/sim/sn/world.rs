//! One run: who there is, what happens at random, and the reckoning at the end.

use mosquitto::broker::ConnId;
use mosquitto::config::Config;
use mosquitto::proto::sn::client::Topic;
use mosquitto::timer::Now;
use mosquitto::wire::QoS;

use super::air::{Air, Way};
use super::device::{Device, Kind};
use super::hub::Hub;
use super::ledger::Ledger;
use crate::client::QOS;
use crate::rng::Rng;

/// Publishers that are no devices have this number.
const WIRED: usize = usize::MAX;

pub(super) struct World {
    rng: Rng,
    air: Air,
    hub: Hub,
    ledger: Ledger,
    devices: Vec<Device>,
    publisher: ConnId,
    witness: ConnId,
    /// What the MQTT witness got.
    got: Vec<usize>,
    next_packet: u16,
    calm: bool,
    lossy: bool,
}

/// Runs one seed and returns the hash of everything that went through the air.
pub(super) fn run(seed: u64) -> u64 {
    let mut world = World::new(seed);
    world.set_up();
    world.calm = false;
    for _ in 0..world.rng.range(50, 400) {
        world.act();
        let ms = *world.rng.pick(&[0, 10, 300, 3000, 20_000]);
        let until_ms = world.hub.now.mono_ms + world.rng.range(0, ms);
        world.run_until(until_ms);
    }
    world.calm = true;
    world.air.calm_down();
    world.drain();
    world.check();
    world.air.hash
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed ^ 0x5E5E_0000);
        let air = Air::new(&mut rng);
        let mut config = Config::local_only(&[1883]);
        config.global.sn.max_inflight = *rng.pick(&[1, 1, 4]);
        config.global.sn.max_retries = *rng.pick(&[1, 3]);
        let now = Now { mono_ms: (1 << 32) + rng.below(5000), wall_s: 1_000_000 };
        let mut hub = Hub::new(config, [seed, !seed], now);
        hub.journal = rng.one_in(3);
        if hub.journal {
            hub.broker.changes().start_journal();
        }
        let publisher = hub.wire("mp");
        let witness = hub.wire("mw");
        let mut kinds = vec![Kind::Witness(QoS::ExactlyOnce), Kind::Witness(QoS::AtLeastOnce)];
        kinds.extend((0..rng.range(1, 3)).map(|_| Kind::Publisher));
        kinds.extend((0..rng.range(0, 2)).map(|_| Kind::Mortal));
        kinds.extend((0..rng.range(0, 2)).map(|_| Kind::Noise));
        // More than there and back again.
        let retry_ms = (2 * air.life_ms() + 1000).max(rng.range(5000, 15_000));
        let mut devices = Vec::new();
        for (number, kind) in (1..).zip(kinds) {
            let forwarded = rng.one_in(3);
            devices.push(Device::new(number, kind, &mut rng, retry_ms, forwarded));
        }
        let (ledger, got, lossy) = (Ledger::default(), Vec::new(), air.loss != 0);
        World { rng, air, hub, ledger, devices, publisher, witness, got, next_packet: 0, calm: true, lossy }
    }

    /// So long after an end nothing of it is in the air any more.
    fn quiet_ms(&self) -> u64 {
        2 * self.air.life_ms() + 1
    }

    /// Every witness gets its session and its subscriptions before anything else happens.
    fn set_up(&mut self) {
        for (packet, filter) in (1..).zip(["w/#", "wa", "will"]) {
            let mut bytes = vec![0x82, u8::try_from(5 + filter.len()).unwrap(), 0, packet, 0];
            bytes.push(u8::try_from(filter.len()).unwrap());
            bytes.extend(filter.as_bytes());
            bytes.push(2);
            self.hub.write(self.witness, &bytes);
            assert_eq!(self.hub.read(self.witness), [0x90, 3, 0, packet, 2]);
        }
        for at in 0..self.devices.len() {
            let Kind::Witness(qos) = self.devices[at].kind else { continue };
            while !self.devices[at].subscribed || self.devices[at].client.pending() != 0 {
                let now_ms = self.hub.now.mono_ms;
                let device = &mut self.devices[at];
                if device.client.is_disconnected() && device.quiet_until_ms <= now_ms {
                    device.connect(&mut self.rng, now_ms, &mut self.ledger);
                }
                if device.client.is_active() && device.client.pending() == 0 {
                    device.client.subscribe(now_ms, Topic::new("w/#"), qos).expect("short enough");
                    device.client.subscribe(now_ms, Topic::new("wa"), qos).expect("short enough");
                }
                self.run_until(now_ms + 100);
            }
        }
        // A late copy of a SUBSCRIBE would bring retained messages again.
        self.run_until(self.hub.now.mono_ms + self.quiet_ms());
    }

    fn run_until(&mut self, until_ms: u64) {
        loop {
            self.turn();
            let next = self.devices.iter().filter(|device| !device.dead).filter_map(|device| device.client.deadline());
            let next = next.chain(self.air.next_ms()).chain(self.hub.next_ms()).min();
            let at_ms = next.map_or(until_ms, |next| next.max(self.hub.now.mono_ms + 1));
            if at_ms > until_ms {
                self.hub.now.mono_ms = until_ms;
                return;
            }
            self.hub.now = Now { mono_ms: at_ms, wall_s: at_ms / 1000 };
        }
    }

    /// Everything that is due now.
    fn turn(&mut self) {
        let now_ms = self.hub.now.mono_ms;
        let quiet_ms = self.quiet_ms();
        while let Some((way, bytes)) = self.air.arrived(now_ms) {
            match way {
                Way::ToGateway(from) => self.hub.receive(from, &bytes),
                Way::ToDevice(to) => {
                    for device in self.devices.iter_mut().filter(|device| device.addr == to && device.listens()) {
                        if let Some(inner) = device.unwrap(&bytes) {
                            device.client.on_datagram(now_ms, inner);
                            device.on_events(now_ms, quiet_ms, &mut self.ledger);
                        }
                    }
                }
            }
            if self.rng.one_in(20) {
                self.hub.finish_turn();
            }
        }
        for device in self.devices.iter_mut().filter(|device| !device.dead) {
            if device.client.deadline().is_some_and(|due| due <= now_ms) {
                device.client.on_timer(now_ms);
                device.on_events(now_ms, quiet_ms, &mut self.ledger);
            }
            while let Some(datagram) = device.client.take_datagram() {
                let datagram = device.wrap(datagram);
                self.air.send(&mut self.rng, now_ms, Way::ToGateway(device.addr), &datagram);
            }
        }
        if self.calm || self.rng.one_in(3) {
            self.hub.sync();
        }
        self.hub.finish_turn();
        for (to, bytes) in std::mem::take(&mut self.hub.out) {
            self.air.send(&mut self.rng, now_ms, Way::ToDevice(to), &bytes);
        }
        self.read_wired();
    }

    /// The MQTT clients answer at once.
    fn read_wired(&mut self) {
        loop {
            let bytes = self.hub.read(self.witness);
            if bytes.is_empty() {
                break;
            }
            let mut rest = &bytes[..];
            while let [first, len, tail @ ..] = rest {
                let (body, next) = tail.split_at(usize::from(*len));
                rest = next;
                match first >> 4 {
                    3 => self.on_publish(*first, body),
                    6 => self.hub.write(self.witness, &[0x70, 2, body[0], body[1]]),
                    other => panic!("packet type {other}"),
                }
            }
        }
    }

    fn on_publish(&mut self, first: u8, body: &[u8]) {
        let name_len = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let (name, rest) = body[2..].split_at(name_len);
        let qos = (first >> 1) & 3;
        let payload = if qos == 0 { rest } else { &rest[2..] };
        let number = u32::from_be_bytes(payload.try_into().expect("four bytes"));
        let number = usize::try_from(number).unwrap();
        if name == b"will" {
            *self.ledger.wills_seen.entry(number).or_default() += 1;
        } else {
            self.got.push(number);
        }
        match qos {
            1 => self.hub.write(self.witness, &[0x40, 2, rest[0], rest[1]]),
            2 => self.hub.write(self.witness, &[0x50, 2, rest[0], rest[1]]),
            _ => {}
        }
    }

    /// Somebody does something.
    fn act(&mut self) {
        if self.rng.one_in(4) {
            return self.publish_wired();
        }
        let at = self.rng.size(0, self.devices.len() - 1);
        self.act_as(at);
    }

    fn publish_wired(&mut self) {
        let qos = *self.rng.pick(&QOS);
        let topic = *self.rng.pick(&["w/a", "w/m", "wa", "w/seven"]);
        let (number, payload) = self.ledger.publish(WIRED, qos);
        self.next_packet = self.next_packet.wrapping_add(1).max(1);
        let [high, low] = self.next_packet.to_be_bytes();
        let mut body = vec![0, u8::try_from(topic.len()).unwrap()];
        body.extend(topic.as_bytes());
        if qos != QoS::AtMostOnce {
            body.extend([high, low]);
        }
        body.extend(payload);
        let mut packet = vec![0x30 | (qos as u8) << 1, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        self.hub.write(self.publisher, &packet);
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => assert_eq!(self.hub.read(self.publisher), [0x40, 2, high, low]),
            QoS::ExactlyOnce => {
                assert_eq!(self.hub.read(self.publisher), [0x50, 2, high, low]);
                self.hub.write(self.publisher, &[0x62, 2, high, low]);
                assert_eq!(self.hub.read(self.publisher), [0x70, 2, high, low]);
            }
        }
        self.ledger.messages[number].acknowledged = true;
    }

    fn act_as(&mut self, at: usize) {
        let now_ms = self.hub.now.mono_ms;
        let device = &mut self.devices[at];
        if device.dead {
            return;
        }
        if device.client.is_disconnected() {
            if device.quiet_until_ms <= now_ms {
                device.connect(&mut self.rng, now_ms, &mut self.ledger);
            }
            return;
        }
        if device.client.is_asleep() {
            return self.act_asleep(at);
        }
        if !device.client.is_active() {
            return;
        }
        match device.kind {
            Kind::Publisher if self.rng.one_in(12) => device.client.disconnect(now_ms),
            Kind::Publisher => {
                for _ in 0..self.rng.range(1, 3) {
                    device.publish(&mut self.rng, now_ms, &mut self.ledger, at);
                }
            }
            Kind::Witness(_) if self.rng.one_in(3) => {
                let seconds = self.rng.range(10, 400);
                device.client.sleep(now_ms, u16::try_from(seconds).unwrap());
                // Now and then it oversleeps.
                let most_s = if self.rng.one_in(6) { 2 * seconds } else { seconds };
                device.wake_ms = now_ms + self.rng.range(0, most_s * 1000);
            }
            Kind::Witness(_) if self.rng.one_in(12) => device.client.disconnect(now_ms),
            Kind::Witness(_) => {}
            Kind::Mortal if self.rng.one_in(8) => device.client.disconnect(now_ms),
            Kind::Mortal if self.rng.one_in(8) => device.die(&mut self.ledger),
            Kind::Mortal => {}
            Kind::Noise if self.rng.one_in(6) => self.damage(at),
            Kind::Noise => device.make_noise(&mut self.rng, now_ms),
        }
    }

    fn act_asleep(&mut self, at: usize) {
        let now_ms = self.hub.now.mono_ms;
        let device = &mut self.devices[at];
        if now_ms < device.quiet_until_ms || now_ms < device.wake_ms {
            return;
        }
        if device.node.is_none() && self.rng.one_in(4) {
            // Its address was only lent.
            device.addr.set_port(device.addr.port() + 1);
        }
        match self.rng.below(6) {
            0 => device.client.connect(now_ms),
            1 => device.client.sleep(now_ms, 300),
            2 if self.rng.one_in(3) => device.client.disconnect(now_ms),
            _ => device.client.wake(now_ms),
        }
    }

    /// A datagram with something wrong, from a device's address.
    fn damage(&mut self, at: usize) {
        let now_ms = self.hub.now.mono_ms;
        let len = self.rng.size(0, 12);
        let mut bytes: Vec<u8> = (0..len).map(|_| self.rng.below(256).to_le_bytes()[0]).collect();
        if let (Some(first), true) = (bytes.first_mut(), self.rng.one_in(2)) {
            *first = u8::try_from(len).unwrap();
        }
        // What it says may be right by accident, and then it is this device that said it.
        let device = &self.devices[at];
        if matches!(bytes.get(1), Some(0x04 | 0x16 | 0x18 | 0xFE)) || (bytes.first() == Some(&1)) {
            return;
        }
        let bytes = device.wrap(bytes);
        self.air.send(&mut self.rng, now_ms, Way::ToGateway(device.addr), &bytes);
    }

    /// Until everybody has everything: devices come back and stay awake.
    fn drain(&mut self) {
        let end_ms = self.hub.now.mono_ms + 20_000_000;
        let mut idle_since_ms = self.hub.now.mono_ms;
        loop {
            let now_ms = self.hub.now.mono_ms;
            for device in &mut self.devices {
                let keeps = matches!(device.kind, Kind::Publisher | Kind::Witness(_));
                if !keeps || now_ms < device.quiet_until_ms {
                    continue;
                }
                if device.client.is_disconnected() || device.client.is_asleep() {
                    device.connect(&mut self.rng, now_ms, &mut self.ledger);
                }
            }
            let before = (self.got.len(), self.devices.iter().map(|device| device.got.len()).sum::<usize>());
            let busy = self.devices.iter().any(|device| {
                let keeps = matches!(device.kind, Kind::Publisher | Kind::Witness(_));
                keeps && (!device.client.is_active() || device.client.pending() != 0)
            });
            self.run_until(now_ms + 1000);
            let after = (self.got.len(), self.devices.iter().map(|device| device.got.len()).sum::<usize>());
            if busy || before != after {
                idle_since_ms = self.hub.now.mono_ms;
            }
            // Longer than any keepalive and any retry.
            if self.hub.now.mono_ms > idle_since_ms + 400_000 {
                return;
            }
            assert!(self.hub.now.mono_ms < end_ms, "it never comes to rest");
        }
    }

    fn check(&self) {
        self.ledger.check("mqtt", &self.got, QoS::ExactlyOnce);
        for device in &self.devices {
            match device.kind {
                Kind::Witness(qos) => self.ledger.check(&device.name, &device.got, qos),
                Kind::Publisher => assert_eq!(device.client.pending(), 0, "{}", device.name),
                Kind::Mortal | Kind::Noise => {}
            }
        }
        self.ledger.check_wills(self.lossy);
    }
}
