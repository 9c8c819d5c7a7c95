//! The broker's side without sockets: the core, the gateway, and MQTT clients that nothing happens to.

use std::io::IoSlice;
use std::net::SocketAddr;

use mosquitto::broker::{Action, Attached, Broker, ConnId};
use mosquitto::config::{Config, Listener, Network, Protocol};
use mosquitto::proto::sn::gateway::{Arrival, To, Turn as SnTurn};
use mosquitto::proto::sn::{Addr, Door, Gateway, Predefined};
use mosquitto::proto::{CloseReason, Flow, Outbox, Peer, Server, Turn};
use mosquitto::slab::Slab;
use mosquitto::timer::Now;

/// The topic behind predefined id 7.
pub(super) const SEVEN: &str = "w/seven";

/// One MQTT client, whose every packet arrives at once.
struct Wired {
    server: Server,
    outbox: Outbox,
    to_client: Vec<u8>,
}

/// Everything on the broker's side of the air.
pub(super) struct Hub {
    pub(super) broker: Broker,
    pub(super) gateway: Gateway,
    pub(super) config: Config,
    pub(super) now: Now,
    pub(super) journal: bool,
    wired: Slab<Wired>,
    /// What the gateway sent in this turn.
    pub(super) out: Vec<(SocketAddr, Vec<u8>)>,
}

impl Hub {
    pub(super) fn new(mut config: Config, keys: [u64; 2], now: Now) -> Hub {
        config.global.connection_messages = false;
        config.global.allow_anonymous = Some(true);
        config.global.max_queued_messages = 0;
        config.listeners = vec![Listener::new(1883, None), Listener::new(1884, None)];
        config.listeners[1].protocol = Protocol::MqttSn;
        config.listeners[1].sn.forwarders = vec![Network::ALL];
        let mut predefined = Predefined::default();
        predefined.add("*", 7, SEVEN).expect("a topic");
        let door = Door { listener: config.listeners[1].clone(), anonymous: true, predefined, clients: None };
        let mut gateway = Gateway::new(keys);
        gateway.set_door(1, door);
        let broker = Broker::new(config.global.clone(), keys, now);
        let (wired, out) = (Slab::new(), Vec::new());
        let mut hub = Hub { broker, gateway, config, now, journal: false, wired, out };
        hub.with_gateway(|gateway, turn| gateway.set_sockets(turn, &[(0, 1)]));
        hub
    }

    /// Runs `act` with the gateway, and takes what it sends.
    fn with_gateway(&mut self, act: impl FnOnce(&mut Gateway, &mut SnTurn<'_>)) {
        let mut turn = SnTurn { now: self.now, broker: &mut self.broker, config: &self.config };
        act(&mut self.gateway, &mut turn);
        self.gateway.take_moves().for_each(drop);
        for datagram in self.gateway.out.iter() {
            if let To::Addr(addr) = datagram.to {
                self.out.push((addr.socket_addr(), datagram.bytes.into()));
            }
        }
        self.gateway.out.clear();
    }

    /// A datagram arrived.
    pub(super) fn receive(&mut self, from: SocketAddr, bytes: &[u8]) {
        let arrival = Arrival { socket: 0, door: 1, from: Addr::new(from), multicast: false };
        self.with_gateway(|gateway, turn| {
            gateway.on_datagram(turn, arrival, bytes);
        });
        self.run_actions();
    }

    /// When there is something to do without any input.
    pub(super) fn next_ms(&self) -> Option<u64> {
        [self.gateway.next_deadline(), self.broker.next_deadline()].into_iter().flatten().min()
    }

    /// What has happened so far is on disk.
    pub(super) fn sync(&mut self) {
        if self.journal {
            let (_, seq) = self.broker.changes().take(Vec::new());
            self.broker.set_synced(seq);
        }
    }

    /// The rest of a turn: timers and queues.
    pub(super) fn finish_turn(&mut self) {
        if self.gateway.next_deadline().is_some_and(|due| due <= self.now.mono_ms) {
            self.with_gateway(Gateway::on_timers);
        }
        self.broker.on_timers(self.now);
        self.run_actions();
        let mut list = Vec::new();
        for round in 0.. {
            self.broker.take_dirty(&mut list);
            if list.is_empty() {
                break;
            }
            assert!(round < 10_000, "somebody is dirty again and again");
            for id in list.drain(..) {
                match id.attached() {
                    Attached::Stream(id) => self.flush(id),
                    Attached::Sn(id) => self.with_gateway(|gateway, turn| gateway.flush(turn, id)),
                }
            }
        }
        self.broker.check_invariants();
        #[cfg(debug_assertions)]
        self.gateway.check_invariants(&self.broker);
    }

    fn run_actions(&mut self) {
        while let Some(action) = self.broker.take_action() {
            match action {
                Action::TakeOver { conn, by } => match conn.attached() {
                    Attached::Sn(id) => {
                        self.with_gateway(|gateway, turn| gateway.close(turn, id, &CloseReason::TakenOver { by }));
                    }
                    Attached::Stream(_) => unreachable!("nobody takes an MQTT client's place"),
                },
                _ => unreachable!("nobody asks for that"),
            }
        }
    }

    /// Connects an MQTT client.
    pub(super) fn wire(&mut self, name: &str) -> ConnId {
        let server = Server::new(self.now, Peer::new(([127, 0, 0, 1], 1000).into()));
        let wired = Wired { server, outbox: Outbox::default(), to_client: Vec::new() };
        let id = ConnId(self.wired.insert(wired).unwrap_or_else(|_| panic!("the slab is full")));
        let mut connect = vec![0x10, u8::try_from(12 + name.len()).unwrap(), 0, 4];
        connect.extend(b"MQTT\x04\x02\0\0\0");
        connect.push(u8::try_from(name.len()).unwrap());
        connect.extend(name.as_bytes());
        self.write(id, &connect);
        assert_eq!(self.read(id), [0x20, 2, 0, 0]);
        id
    }

    /// An MQTT client writes something.
    pub(super) fn write(&mut self, id: ConnId, mut bytes: &[u8]) {
        loop {
            match self.with_server(id, |server, turn| server.on_bytes(turn, bytes)) {
                Flow::Continue => break,
                Flow::Again => bytes = &[],
                flow => panic!("{flow:?}"),
            }
        }
        self.run_actions();
        self.flush(id);
        self.sync();
        self.flush(id);
    }

    /// What an MQTT client got.
    pub(super) fn read(&mut self, id: ConnId) -> Vec<u8> {
        std::mem::take(&mut self.wired.get_mut(id.0).expect("connected").to_client)
    }

    fn with_server<R>(&mut self, id: ConnId, act: impl FnOnce(&mut Server, &mut Turn<'_>) -> R) -> R {
        let wired = self.wired.get_mut(id.0).expect("connected");
        let mut turn = Turn {
            now: self.now,
            broker: &mut self.broker,
            out: &mut wired.outbox,
            conn: id,
            config: &self.config,
            listener: &self.config.listeners[0],
            budget: u32::MAX,
        };
        act(&mut wired.server, &mut turn)
    }

    fn flush(&mut self, id: ConnId) {
        while self.with_server(id, |server, turn| server.flush(turn)) || self.drain(id) {}
    }

    /// Moves what was encoded to the client; true if there was anything.
    fn drain(&mut self, id: ConnId) -> bool {
        let wired = self.wired.get_mut(id.0).expect("connected");
        let mut slices = [IoSlice::new(&[]); 64];
        let used = wired.outbox.slices(&mut slices);
        let mut len = 0;
        for slice in &slices[..used] {
            wired.to_client.extend(&**slice);
            len += slice.len();
        }
        wired.outbox.advance(len);
        len != 0
    }
}
