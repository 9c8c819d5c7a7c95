//! The `rumqttc` client, in its 3.1.1 and its 5.0 form, against the broker. Both forms have the same shape under
//! different types, hence the macro.

use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

/// A message as it arrived.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    topic: String,
    qos: u8,
    retain: bool,
    payload: Vec<u8>,
}

fn message(topic: &str, qos: u8, retain: bool, payload: &[u8]) -> Message {
    Message { topic: topic.into(), qos, retain, payload: payload.to_vec() }
}

/// A broker with a TLS listener, and a client's side of it.
#[cfg(feature = "tls")]
fn tls_broker() -> (crate::broker::Broker, u16, rumqttc::Transport) {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let port = crate::broker::free_port();
    let broker = crate::broker::Broker::start_with(&crate::tls::fixed_listener(port));
    broker.wait_for_log(&format!("Listener {port} on "), LIMIT);
    let mut roots = rustls::RootCertStore::empty();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/tls/cert.pem");
    roots.add(CertificateDer::from_pem_file(file).expect("a certificate")).expect("an authority");
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (broker, port, rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(config.into())))
}

macro_rules! suite {
    ($name:ident, $level:literal, $api:path, $packets:path, $qos:path, $will:expr, $session:expr, $size:expr) => {
        mod $name {
            use $api as api;
            use $packets as packets;
            use $qos as levels;

            use api::{Client, Connection, Event, MqttOptions};
            use packets::{LastWill, Packet};

            use super::{LIMIT, Message, message};
            use crate::broker::Broker;

            /// A client and its connection, driven by the test itself.
            struct Peer {
                client: Client,
                connection: Connection,
                messages: Vec<Message>,
            }

            impl Peer {
                fn open(options: MqttOptions) -> (Peer, bool) {
                    let (client, connection) = Client::new(options, 64);
                    let mut peer = Peer { client, connection, messages: Vec::new() };
                    let present = peer.connected();
                    (peer, present)
                }

                /// Handles events until `done` says so; messages are put aside.
                fn until(&mut self, done: impl Fn(&Event) -> bool) -> Event {
                    loop {
                        let event = self.connection.recv_timeout(LIMIT).expect("an event in time").expect("a connection");
                        if let Event::Incoming(Packet::Publish(publish)) = &event {
                            self.messages.push(Message {
                                topic: String::from_utf8_lossy(publish.topic.as_ref()).into_owned(),
                                qos: publish.qos as u8,
                                retain: publish.retain,
                                payload: publish.payload.to_vec(),
                            });
                        }
                        if done(&event) {
                            return event;
                        }
                    }
                }

                /// Waits for CONNACK and returns its session present flag.
                fn connected(&mut self) -> bool {
                    let event = self.until(|event| matches!(event, Event::Incoming(Packet::ConnAck(_))));
                    matches!(event, Event::Incoming(Packet::ConnAck(ack)) if ack.session_present)
                }

                fn subscribe(&mut self, filter: &str, qos: u8) {
                    self.client.subscribe(filter, level(qos)).expect("a queued SUBSCRIBE");
                    self.until(|event| matches!(event, Event::Incoming(Packet::SubAck(_))));
                }

                /// Publishes and waits until the handshake is through.
                fn publish(&mut self, topic: &str, qos: u8, retain: bool, payload: &[u8]) {
                    self.client.publish(topic, level(qos), retain, payload.to_vec()).expect("a queued PUBLISH");
                    self.until(|event| match qos {
                        0 => matches!(event, Event::Outgoing(rumqttc::Outgoing::Publish(_))),
                        1 => matches!(event, Event::Incoming(Packet::PubAck(_))),
                        _ => matches!(event, Event::Incoming(Packet::PubComp(_))),
                    });
                }

                /// The next message.
                fn message(&mut self) -> Message {
                    if self.messages.is_empty() {
                        self.until(|event| matches!(event, Event::Incoming(Packet::Publish(_))));
                    }
                    self.messages.remove(0)
                }

                /// DISCONNECT, and the end of the connection.
                fn disconnect(mut self) {
                    self.client.disconnect().expect("a queued DISCONNECT");
                    self.until(|event| matches!(event, Event::Outgoing(rumqttc::Outgoing::Disconnect)));
                }
            }

            fn level(qos: u8) -> levels::QoS {
                levels::qos(qos).expect("0 to 2")
            }

            fn options(broker: &Broker, id: &str) -> MqttOptions {
                let mut options = MqttOptions::new(format!("{id}-{}", $level), "127.0.0.1", broker.port());
                $size(&mut options);
                options
            }

            #[test]
            fn every_qos() {
                let broker = Broker::start();
                let (mut sub, _) = Peer::open(options(&broker, "sub"));
                let (mut publisher, _) = Peer::open(options(&broker, "pub"));
                for granted in 0..=2 {
                    let filter = format!("r/qos/{granted}/+");
                    sub.subscribe(&filter, granted);
                    for qos in 0..=2 {
                        let topic = format!("r/qos/{granted}/{qos}");
                        publisher.publish(&topic, qos, false, b"payload");
                        assert_eq!(sub.message(), message(&topic, qos.min(granted), false, b"payload"));
                    }
                }
            }

            #[test]
            fn a_hundred_in_order() {
                let broker = Broker::start();
                let (mut sub, _) = Peer::open(options(&broker, "sub"));
                let (mut publisher, _) = Peer::open(options(&broker, "pub"));
                sub.subscribe("r/order", 2);
                for n in 0..100u8 {
                    publisher.publish("r/order", 2, false, &[n]);
                }
                for n in 0..100u8 {
                    assert_eq!(sub.message(), message("r/order", 2, false, &[n]));
                }
            }

            #[test]
            fn retained() {
                let broker = Broker::start();
                let (mut publisher, _) = Peer::open(options(&broker, "pub"));
                publisher.publish("r/ret/a", 1, true, b"kept");
                publisher.publish("r/ret/b", 1, true, b"removed");
                publisher.publish("r/ret/b", 1, true, b"");
                let (mut sub, _) = Peer::open(options(&broker, "sub"));
                sub.subscribe("r/ret/+", 1);
                assert_eq!(sub.message(), message("r/ret/a", 1, true, b"kept"));
                publisher.publish("r/ret/end", 1, false, b"end");
                assert_eq!(sub.message(), message("r/ret/end", 1, false, b"end"));
            }

            #[test]
            fn a_will() {
                let broker = Broker::start();
                let (mut watch, _) = Peer::open(options(&broker, "watch"));
                watch.subscribe("r/will/+", 1);
                let will: fn(&str) -> LastWill = $will;
                let mut polite = options(&broker, "polite");
                polite.set_last_will(will("r/will/polite"));
                Peer::open(polite).0.disconnect();
                let mut lost = options(&broker, "lost");
                lost.set_last_will(will("r/will/lost"));
                drop(Peer::open(lost));
                assert_eq!(watch.message(), message("r/will/lost", 1, false, b"gone"));
            }

            #[test]
            fn a_large_payload() {
                let broker = Broker::start();
                let (mut sub, _) = Peer::open(options(&broker, "sub"));
                let (mut publisher, _) = Peer::open(options(&broker, "pub"));
                sub.subscribe("r/large", 1);
                let payload: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
                publisher.publish("r/large", 1, false, &payload);
                assert!(sub.message() == message("r/large", 1, false, &payload), "the payload changed");
            }

            #[cfg(feature = "tls")]
            #[test]
            fn over_tls() {
                let (_broker, port, transport) = super::tls_broker();
                let open = |id: &str| {
                    let mut options = MqttOptions::new(format!("{id}-{}", $level), "localhost", port);
                    $size(&mut options);
                    options.set_transport(transport.clone());
                    Peer::open(options).0
                };
                let (mut sub, mut publisher) = (open("sub"), open("pub"));
                sub.subscribe("r/tls", 2);
                let payload: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
                for qos in 0..=2 {
                    publisher.publish("r/tls", qos, false, &payload);
                    assert!(sub.message() == message("r/tls", qos, false, &payload), "the payload changed");
                }
                // Somebody who comes back resumes the session of before.
                publisher.disconnect();
                open("pub").publish("r/tls", 1, false, b"again");
                assert_eq!(sub.message(), message("r/tls", 1, false, b"again"));
            }

            #[test]
            fn a_session_over_a_reconnect() {
                let broker = Broker::start();
                let lasting = || {
                    let mut lasting = options(&broker, "lasting");
                    $session(&mut lasting);
                    lasting
                };
                let (mut sub, present) = Peer::open(lasting());
                assert!(!present);
                sub.subscribe("r/session", 1);
                let (mut publisher, _) = Peer::open(options(&broker, "pub"));
                publisher.publish("r/session", 1, false, b"live");
                assert_eq!(sub.message(), message("r/session", 1, false, b"live"));
                drop(sub);
                publisher.publish("r/session", 1, false, b"queued");
                let (mut sub, present) = Peer::open(lasting());
                assert!(present);
                assert_eq!(sub.message(), message("r/session", 1, false, b"queued"));

                // A take-over ends the first connection; its client comes back on its own and takes over in turn.
                drop(Peer::open(lasting()));
                while sub.connection.recv_timeout(LIMIT).expect("an event in time").is_ok() {}
                assert!(sub.connected());
                publisher.publish("r/session", 1, false, b"again");
                assert_eq!(sub.message(), message("r/session", 1, false, b"again"));
            }
        }
    };
}

suite!(
    v4,
    4,
    rumqttc,
    rumqttc,
    rumqttc,
    |topic| LastWill::new(topic, "gone", levels::QoS::AtLeastOnce, false),
    |options: &mut MqttOptions| {
        options.set_clean_session(false);
    },
    |options: &mut MqttOptions| {
        options.set_max_packet_size(2_000_000, 2_000_000);
    }
);

suite!(
    v5,
    5,
    rumqttc::v5,
    rumqttc::v5::mqttbytes::v5,
    rumqttc::v5::mqttbytes,
    |topic| LastWill::new(topic, "gone", levels::QoS::AtLeastOnce, false, None),
    |options: &mut MqttOptions| {
        options.set_clean_start(false);
        options.set_session_expiry_interval(Some(60));
    },
    |options: &mut MqttOptions| {
        options.set_max_packet_size(Some(2_000_000));
    }
);
