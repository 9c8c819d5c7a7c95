//! MQTT-SN over real sockets, with MQTT clients on the other side.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use mosquitto::proto::sn::wire::{Connect, FilterRef, Message, Publish, QosField, ReturnCode, TopicAck, TopicRef};

use crate::broker::{Broker, free_port};
use crate::client::{self, Client};

const LIMIT: Duration = Duration::from_secs(5);
const ACCEPTED: Message<'static> = Message::Connack(ReturnCode::ACCEPTED);
const GOODBYE: Message<'static> = Message::Disconnect { duration_s: None };
/// An MQTT PUBLISH with QoS 0 on "xy".
fn publish(payload: &[u8]) -> Vec<u8> {
    client::publish(4, 0, "xy", 0, payload)
}

const XY: TopicRef = TopicRef::Short(*b"xy");

/// A device: a socket and where its gateway is.
struct Device {
    socket: UdpSocket,
    gateway: SocketAddr,
}

impl Device {
    fn new(gateway: SocketAddr) -> Device {
        let any = if gateway.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Device { socket, gateway }
    }

    fn send(&self, message: &Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        self.socket.send_to(&bytes, self.gateway).unwrap();
    }

    #[track_caller]
    fn expect(&self, wanted: &Message<'_>) {
        let mut buffer = [0; 2048];
        let (len, from) = self.socket.recv_from(&mut buffer).unwrap_or_else(|e| panic!("no {wanted:?}: {e}"));
        assert_eq!(Message::decode(&buffer[..len]).as_ref(), Ok(wanted));
        assert_eq!(from, self.gateway, "answers leave from the port of the listener");
    }

    #[track_caller]
    fn ask(&self, message: &Message<'_>, answer: &Message<'_>) {
        self.send(message);
        self.expect(answer);
    }

    #[track_caller]
    fn join(&self, client_id: &str, clean_session: bool) {
        let client_id = client_id.as_bytes();
        let connect = Connect { will: false, clean_session, protocol_id: 1, duration_s: 60, client_id };
        self.ask(&Message::Connect(connect), &ACCEPTED);
    }

    #[track_caller]
    fn subscribe_short(&self) {
        let ack = TopicAck { topic_id: 0, msg_id: 3, code: ReturnCode::ACCEPTED };
        let qos = QosField::AtLeastOnce;
        let filter = FilterRef::Short(*b"xy");
        self.ask(&Message::Subscribe { dup: false, qos, msg_id: 3, filter }, &Message::Suback { qos, ack });
    }
}

fn message(qos: QosField, msg_id: u16, data: &[u8]) -> Message<'_> {
    Message::Publish(Publish { dup: false, qos, retain: false, topic: XY, msg_id, data })
}

/// A broker with a listener for MQTT-SN beside the one for MQTT.
fn start(options: &str) -> (Broker, SocketAddr) {
    let port = free_port();
    (broker_with(&lines(port, options)), SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A broker whose sockets are all open, not only the first one.
fn broker_with(lines: &str) -> Broker {
    let broker = Broker::start_with(lines);
    broker.wait_for_log(concat!("version ", env!("CARGO_PKG_VERSION"), " running"), LIMIT);
    broker
}

fn lines(port: u16, options: &str) -> String {
    format!("listener {port} 127.0.0.1\nprotocol mqtt-sn\n{options}")
}

#[test]
fn a_device_and_an_mqtt_client_talk_to_each_other() {
    let (broker, gateway) = start("");
    let mut client = Client::connect(broker.addr(), 4, "client");
    client.send(&client::subscribe(4, 1, "xy", 0));
    client.expect(&[0x90, 3, 0, 1, 0]);
    let device = Device::new(gateway);
    device.join("device", true);
    device.ask(&message(QosField::AtLeastOnce, 7, b"up"), &{
        let topic_id = u16::from_be_bytes(*b"xy");
        Message::Puback(TopicAck { topic_id, msg_id: 7, code: ReturnCode::ACCEPTED })
    });
    client.expect(b"\x30\x06\x00\x02xyup");
    device.subscribe_short();
    client.send(&publish(b"down"));
    device.expect(&message(QosField::AtMostOnce, 0, b"down"));
    client.expect(b"\x30\x08\x00\x02xydown");
    let port = device.socket.local_addr().unwrap().port();
    broker.wait_for_log(&format!("New client connected from 127.0.0.1:{port} as device (mqtt-sn, c1, k60)."), LIMIT);
    device.ask(&GOODBYE, &GOODBYE);
    broker.wait_for_log(&format!("Client device [127.0.0.1:{port}] disconnected."), LIMIT);
}

#[test]
fn an_mqtt_client_takes_a_device_over_and_back() {
    let (broker, gateway) = start("");
    let device = Device::new(gateway);
    device.join("same", false);
    device.subscribe_short();
    let mut client = Client::open(broker.addr());
    // Clean session off: the subscription is there.
    client.send(b"\x10\x10\x00\x04MQTT\x04\x00\x00\x3c\x00\x04same");
    client.expect(&[0x20, 2, 1, 0]);
    device.expect(&GOODBYE);
    client.send(&publish(b"1"));
    client.expect(b"\x30\x05\x00\x02xy1");
    device.join("same", false);
    client.expect_closed();
    let mut other = Client::connect(broker.addr(), 4, "other");
    other.send(&publish(b"2"));
    device.expect(&message(QosField::AtMostOnce, 0, b"2"));
    broker.wait_for_log("disconnected: session taken over.", LIMIT);
}

#[test]
fn what_comes_while_a_device_sleeps_waits_for_it() {
    let (broker, gateway) = start("");
    let device = Device::new(gateway);
    device.join("device", true);
    device.subscribe_short();
    device.ask(&Message::Disconnect { duration_s: Some(60) }, &GOODBYE);
    let mut client = Client::connect(broker.addr(), 4, "client");
    for n in *b"012" {
        client.send(&publish(&[n]));
    }
    client.ping();
    device.send(&Message::Pingreq { client_id: b"device" });
    for n in *b"012" {
        device.expect(&message(QosField::AtMostOnce, 0, &[n]));
    }
    device.expect(&Message::Pingresp);
}

/// The kernel reports a port that nobody has any more on the next call; nothing must come of it.
#[test]
fn a_device_that_vanished_harms_nobody() {
    let (broker, gateway) = start("");
    let gone = Device::new(gateway);
    gone.join("gone", true);
    gone.subscribe_short();
    drop(gone);
    let device = Device::new(gateway);
    device.join("device", true);
    device.subscribe_short();
    let mut client = Client::connect(broker.addr(), 4, "client");
    for n in *b"0123456789" {
        client.send(&publish(&[n]));
        device.expect(&message(QosField::AtMostOnce, 0, &[n]));
    }
}

#[test]
fn ipv6_is_served_too() {
    let port = free_port();
    let broker = broker_with(&format!("listener {port} ::1\nprotocol mqtt-sn\n"));
    let device = Device::new(SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port)));
    device.join("device", true);
    device.ask(&Message::Pingreq { client_id: b"" }, &Message::Pingresp);
    broker.wait_for_log("New client connected from ::1:", LIMIT);
}

/// A flood of datagrams from one socket keeps an MQTT client waiting only for moments.
#[test]
fn a_flood_does_not_keep_mqtt_clients_waiting() {
    let (broker, gateway) = start("");
    let flood = Device::new(gateway);
    let mut client = Client::connect(broker.addr(), 4, "client");
    for round in 0..20 {
        for _ in 0..500 {
            flood.send(&Message::Pingreq { client_id: b"" });
        }
        client.ping();
        assert!(round < 20);
    }
    // Answers to strangers are few.
    flood.socket.set_nonblocking(true).unwrap();
    let answers = std::iter::from_fn(|| flood.socket.recv(&mut [0; 16]).ok()).count();
    assert!(answers <= 5 * 20, "{answers}");
}

#[test]
fn a_reload_opens_and_closes_the_sockets() {
    let (broker, gateway) = start("");
    let device = Device::new(gateway);
    device.join("device", true);
    let second = free_port();
    let both = format!("{}\n{}", lines(gateway.port(), "mqttsn_gateway_id 9"), lines(second, ""));
    broker.write_config(&both);
    let mark = broker.log_mark();
    broker.signal("HUP");
    broker.wait_for_log_after(mark, "Config reloaded.", LIMIT);
    // The client stays, the options are new, and the other socket is open.
    device.ask(&Message::Pingreq { client_id: b"" }, &Message::Pingresp);
    device.ask(&Message::SearchGw { radius: 0 }, &Message::GwInfo { gateway_id: 9, address: &[] });
    let other = Device::new(SocketAddr::from(([127, 0, 0, 1], second)));
    other.join("other", true);
    broker.write_config(&lines(second, ""));
    broker.signal("HUP");
    device.expect(&GOODBYE);
    other.ask(&Message::Pingreq { client_id: b"" }, &Message::Pingresp);
    // A bad file changes nothing.
    let topics = broker.dir().join("topics");
    std::fs::write(&topics, "*,a,0\n").unwrap();
    broker.write_config(&lines(second, &format!("mqttsn_predefined_topics_file {}", topics.display())));
    let mark = broker.log_mark();
    broker.signal("HUP");
    broker.wait_for_log_after(
        mark,
        "Invalid line in mqttsn_predefined_topics_file: '0' is no id from 1 to 65534.",
        LIMIT,
    );
    broker.wait_for_log_after(mark, "The configuration was not reloaded", LIMIT);
    std::fs::write(&topics, "*,pre/defined,7\n").unwrap();
    let mark = broker.log_mark();
    broker.signal("HUP");
    broker.wait_for_log_after(mark, "Config reloaded.", LIMIT);
    let ack = TopicAck { topic_id: 7, msg_id: 5, code: ReturnCode::ACCEPTED };
    let qos = QosField::AtMostOnce;
    let subscribe = Message::Subscribe { dup: false, qos, msg_id: 5, filter: FilterRef::Predefined(7) };
    other.ask(&subscribe, &Message::Suback { qos, ack });
}

/// [SN 6.1] over IPv4 multicast on the loopback interface.
#[test]
fn a_gateway_is_found_by_multicast() {
    let port = free_port();
    let group = Ipv4Addr::new(239, 18, 84, 1);
    let options = format!(
        "mqttsn_multicast_group {group}\nmqttsn_multicast_interface 127.0.0.1\nmqttsn_multicast_loopback true\n\
         mqttsn_advertise_interval 1\nmqttsn_search_reply both\nmqttsn_gateway_id 3"
    );
    let broker = broker_with(&lines(port, &options));
    let gateway = SocketAddr::from(([127, 0, 0, 1], port));
    let device = Device::new(gateway);
    // Its own membership, on a port of the group that it can share.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    listener.set_reuse_address(true).unwrap();
    listener.bind(&SocketAddr::from((group, port)).into()).unwrap();
    listener.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
    let listener: UdpSocket = listener.into();
    listener.set_read_timeout(Some(LIMIT)).unwrap();
    let mut buffer = [0; 64];
    let mut heard = |wanted: Message<'_>| {
        for _ in 0..50 {
            let (len, from) = listener.recv_from(&mut buffer).expect("something in the group");
            if Message::decode(&buffer[..len]) == Ok(wanted) {
                return assert_eq!(from, gateway, "the address of the gateway is that of the sender");
            }
        }
        panic!("no {wanted:?}");
    };
    heard(Message::Advertise { gateway_id: 3, duration_s: 1 });
    // A search in the group is answered to its sender and to the group.
    let here = Message::GwInfo { gateway_id: 3, address: &[] };
    socket2::SockRef::from(&device.socket).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    let mut search = Vec::new();
    Message::SearchGw { radius: 1 }.encode(&mut search).unwrap();
    device.socket.send_to(&search, (group, port)).unwrap();
    device.expect(&here);
    heard(here);
    // Unknown senders in the group are not told so; the unicast answer that follows is the first to come.
    device.socket.send_to(&[2, 0x16], (group, port)).unwrap();
    device.ask(&Message::SearchGw { radius: 0 }, &here);
    drop(broker);
}

/// What the log and `$SYS` say.
#[test]
#[cfg(feature = "sys-tree")]
fn sys_counts_devices() {
    let (broker, gateway) = start("sys_interval 1");
    let device = Device::new(gateway);
    device.join("device", true);
    device.socket.send_to(&[9, 9, 9], gateway).unwrap();
    device.ask(&Message::Disconnect { duration_s: Some(60) }, &GOODBYE);
    let mut client = Client::connect(broker.addr(), 4, "client");
    client.set_limit(Duration::from_secs(10));
    for (id, topic, value) in [
        (1, "$SYS/broker/mqttsn/clients/asleep", "1"),
        (2, "$SYS/broker/mqttsn/dropped/malformed", "1"),
        (3, "$SYS/broker/clients/connected", "2"),
    ] {
        client.send(&client::subscribe(4, id, topic, 0));
        loop {
            let packet = client.packet();
            if packet[0] & 0xF0 == 0x30
                && packet.ends_with(value.as_bytes())
                && packet[2..].windows(topic.len()).any(|w| w == topic.as_bytes())
            {
                break;
            }
        }
    }
}

/// Heap bytes of the broker, from its metrics page.
#[cfg(feature = "metrics")]
fn heap(port: u16) -> u64 {
    let mut client = Client::open(SocketAddr::from(([127, 0, 0, 1], port)));
    client.send(b"GET /metrics HTTP/1.0\r\n\r\n");
    let mut page = Vec::new();
    while let Ok(byte) = client.recv(1) {
        page.extend(byte);
    }
    let page = String::from_utf8(page).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix("mosquitto_heap_bytes "));
    line.unwrap_or_else(|| panic!("no heap in {page}")).parse().unwrap()
}

/// Heap bytes that each of many idle clients takes in a new broker; `open` makes one of them.
#[cfg(feature = "metrics")]
fn bytes_for_each<T>(open: impl Fn(&Broker, SocketAddr, u64) -> T) -> u64 {
    const CLIENTS: u64 = 1500;
    let metrics = free_port();
    let (broker, gateway) = start(&format!("listener {metrics} 127.0.0.1\nprotocol metrics"));
    // What the first one brings along for all is not its own.
    let first = open(&broker, gateway, CLIENTS);
    let before = heap(metrics);
    let clients: Vec<T> = (0..CLIENTS).map(|n| open(&broker, gateway, n)).collect();
    let each = (heap(metrics) - before) / CLIENTS;
    drop((first, clients));
    each
}

/// An idle device takes no more memory than an idle MQTT client, each with one subscription of the same length.
#[test]
#[cfg(feature = "metrics")]
fn an_idle_device_takes_no_more_than_an_idle_mqtt_client() {
    let client_id = |n: u64| format!("client-{n:06}");
    let topic = |n: u64| format!("sensors/{n:06}/set");
    let mqtt = bytes_for_each(|broker, _, n| {
        let mut client = Client::connect(broker.addr(), 4, &client_id(n));
        client.send(&client::subscribe(4, 1, &topic(n), 0));
        client.expect(&[0x90, 3, 0, 1, 0]);
        client
    });
    let sn = bytes_for_each(|_, gateway, n| {
        let device = Device::new(gateway);
        device.join(&client_id(n), true);
        let qos = QosField::AtMostOnce;
        let ack = TopicAck { topic_id: 1, msg_id: 3, code: ReturnCode::ACCEPTED };
        let name = topic(n);
        let filter = FilterRef::Name(name.as_bytes());
        device.ask(&Message::Subscribe { dup: false, qos, msg_id: 3, filter }, &Message::Suback { qos, ack });
        device
    });
    crate::broker::note(&format!("heap bytes of an idle client with a subscription: MQTT {mqtt}, MQTT-SN {sn}"));
    assert!(sn <= mqtt, "MQTT {mqtt}, MQTT-SN {sn}");
}

/// One world: a session of a device is in `mosquitto.db` as any other. Its topic ids are not, and its client learns them anew.
#[test]
#[cfg(all(feature = "persistence", feature = "tools"))]
fn a_session_of_a_device_survives_a_restart() {
    let folder = crate::folder::Folder::new();
    let options = format!("user root\npersistence true\npersistence_location {}/", folder.0.display());
    let (mut broker, gateway) = start(&options);
    let (asleep, gone) = (Device::new(gateway), Device::new(gateway));
    let qos = QosField::AtLeastOnce;
    let ack = TopicAck { topic_id: 1, msg_id: 3, code: ReturnCode::ACCEPTED };
    for (device, client_id) in [(&asleep, "asleep"), (&gone, "gone")] {
        device.join(client_id, false);
        let filter = FilterRef::Name(b"a/b");
        device.ask(&Message::Subscribe { dup: false, qos, msg_id: 3, filter }, &Message::Suback { qos, ack });
    }
    asleep.ask(&Message::Disconnect { duration_s: Some(600) }, &GOODBYE);
    gone.ask(&GOODBYE, &GOODBYE);
    let mut client = Client::connect(broker.addr(), 4, "client");
    client.send(&client::publish(4, 0x32, "a/b", 7, b"kept"));
    client.expect(&[0x40, 2, 0, 7]);
    broker.signal("TERM");
    assert_eq!(broker.wait_exit().code(), Some(0));
    let (broker, gateway) = start(&options);
    for client_id in ["asleep", "gone"] {
        let device = Device::new(gateway);
        device.join(client_id, false);
        device.expect(&Message::Register { topic_id: 1, msg_id: 1, name: b"a/b" });
        let data = b"kept";
        let topic = TopicRef::Normal(1);
        let kept = Message::Publish(Publish { dup: false, qos, retain: false, topic, msg_id: 1, data });
        device.ask(&Message::Regack(TopicAck { topic_id: 1, msg_id: 1, code: ReturnCode::ACCEPTED }), &kept);
    }
    drop(broker);
}

/// `$CONTROL/broker/v1`: an operator sees devices among the clients, and sends one away.
#[test]
#[cfg(feature = "control")]
fn an_operator_sees_devices_and_sends_them_away() {
    let (broker, gateway) = start("enable_control_api true");
    let device = Device::new(gateway);
    device.join("device", true);
    let mut client = Client::connect(broker.addr(), 4, "client");
    client.send(&client::subscribe(4, 1, "$CONTROL/broker/v1/response", 0));
    client.expect(&[0x90, 3, 0, 1, 0]);
    let mut ask = |command: &str| {
        client.send(&client::publish(
            4,
            0,
            "$CONTROL/broker/v1",
            0,
            format!("{{\"commands\":[{command}]}}").as_bytes(),
        ));
        String::from_utf8_lossy(&client.packet()).into_owned()
    };
    let answer = ask(r#"{"command":"getClient","clientid":"device"}"#);
    let port = device.socket.local_addr().unwrap().port();
    for wanted in [
        r#""address":"127.0.0.1""#.to_string(),
        format!(r#""remotePort":{port}"#),
        r#""protocolVersion":"MQTT-SN 1.2""#.into(),
        r#""keepalive":60"#.into(),
    ] {
        assert!(answer.contains(&wanted), "no {wanted} in {answer}");
    }
    ask(r#"{"command":"disconnectClient","clientid":"device"}"#);
    device.expect(&GOODBYE);
    broker.wait_for_log("disconnected: administrative action.", LIMIT);
}
