//! `$CONTROL/broker/v1` from the outside: a broker with clients, and an operator among them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::broker::Broker;
use crate::client::{Client, LIMIT, connect_with, publish, string, subscribe};

const ON: &str = "enable_control_api true\nsys_interval 0";
const TOPIC: &str = "$CONTROL/broker/v1";
const RESPONSE: &str = "$CONTROL/broker/v1/response";

/// A client that asks and listens.
struct Operator(Client);

impl Operator {
    fn connect(broker: &Broker) -> Operator {
        let mut client = Client::connect(broker.addr(), 4, "operator");
        client.send(&subscribe(4, 1, RESPONSE, 0));
        client.expect(&[0x90, 3, 0, 1, 0]);
        Operator(client)
    }

    fn send(&mut self, request: &[u8]) {
        self.0.send(&publish(4, 0x02, TOPIC, 7, request));
    }

    /// The next answer; the acknowledgement of the request comes before it.
    fn answer(&mut self) -> Value {
        self.0.expect(&[0x40, 2, 0, 7]);
        self.response()
    }

    fn response(&mut self) -> Value {
        let packet = self.0.packet();
        let at = packet.iter().skip(1).position(|byte| byte & 0x80 == 0).expect("a length") + 2;
        let payload = packet[at..].strip_prefix(&string(RESPONSE)[..]).expect("the response topic");
        serde_json::from_slice(payload).expect("JSON")
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.send(request.to_string().as_bytes());
        self.answer()
    }

    /// One command and its entry in the answer.
    fn command(&mut self, command: Value) -> Value {
        self.ask(&json!({ "commands": [command] }))["responses"][0].clone()
    }
}

fn error(text: &str) -> Value {
    json!({ "responses": [{ "command": "Unknown command", "error": text }] })
}

#[test]
fn clients_are_listed_page_by_page_and_shown_one_by_one() {
    let broker = Broker::start_with(ON);
    let mut operator = Operator::connect(&broker);
    let clients: Vec<Client> =
        (0..249).map(|i| Client::connect(broker.addr(), if i % 2 == 0 { 4 } else { 5 }, &format!("c{i}"))).collect();
    let mut ids = Vec::new();
    while ids.len() < 250 {
        let answer = operator.command(json!({ "command": "listclients", "offset": ids.len(), "count": 60 }));
        assert_eq!((&answer["command"], &answer["data"]["totalCount"]), (&json!("listClients"), &json!(250)));
        let page = answer["data"]["clients"].as_array().expect("a list").clone();
        assert_eq!(page.len(), (250 - ids.len()).min(60));
        ids.extend(page);
    }
    for i in 0..249 {
        assert!(ids.contains(&json!(format!("c{i}"))), "c{i}");
    }
    let verbose = operator.command(json!({ "command": "listClients", "verbose": true, "count": -1 }));
    let shown = verbose["data"]["clients"].as_array().expect("a list");
    assert!(shown.len() == 250 && shown.iter().all(|client| client["port"] == broker.port()), "{verbose}");

    let answer = operator.command(json!({ "command": "getClient", "clientid": "c7", "correlationData": "seven" }));
    assert_eq!(answer["correlationData"], "seven");
    let client = &answer["data"]["client"];
    assert!(client["connectedSince"].as_u64().is_some_and(|since| since > 1_600_000_000), "{client}");
    for (name, wanted) in [
        ("clientid", json!("c7")),
        ("connected", json!(true)),
        ("address", json!("127.0.0.1")),
        ("remotePort", json!(clients[7].local_port())),
        ("protocolVersion", json!("5.0")),
        ("keepalive", json!(60)),
        ("sessionExpiryInterval", json!(0)),
        ("subscriptionCount", json!(0)),
        ("queuedMessages", json!(0)),
        ("subscriptions", json!([])),
    ] {
        assert_eq!(client[name], wanted, "{name} of {client}");
    }
    broker.wait_for_log("Broker: operator/(null) | listClients | verbose=true | count=1000 | offset=0", LIMIT);
    broker.wait_for_log("Broker: operator/(null) | getClient | clientid=c7", LIMIT);
}

#[test]
fn an_absent_client_is_shown_with_what_waits_for_it() {
    let broker = Broker::start_with(ON);
    let mut operator = Operator::connect(&broker);
    let mut client = Client::open(broker.addr());
    client.send(&connect_with(4, 0x80, 60, &[], &[&string("away"), &string("ann")]));
    client.expect(&[0x20, 2, 0, 0]);
    client.send(&subscribe(4, 1, "q/#", 1));
    client.expect(&[0x90, 3, 0, 1, 1]);
    client.send(&[0xE0, 0]);
    client.expect_closed();
    for id in 1..=3 {
        operator.0.send(&publish(4, 2, "q/x", id, b"12345"));
        operator.0.expect(&[0x40, 2, 0, u8::try_from(id).expect("small")]);
    }
    let client = operator.command(json!({ "command": "getClient", "clientid": "away" }))["data"]["client"].clone();
    for (name, wanted) in [
        ("connected", json!(false)),
        ("username", json!("ann")),
        ("protocolVersion", json!("3.1.1")),
        ("queuedMessages", json!(3)),
        ("queuedBytes", json!(15)),
        ("sessionExpiryInterval", json!(u32::MAX)),
        ("subscriptions", json!([{ "filter": "q/#", "qos": 1 }])),
        ("address", Value::Null),
    ] {
        assert_eq!(client[name], wanted, "{name} of {client}");
    }
    let command = |end: bool| json!({ "command": "disconnectClient", "clientid": "away", "endSession": end });
    assert_eq!(operator.command(command(false))["error"], "Client not connected");
    assert_eq!(operator.command(command(true)), json!({ "command": "disconnectClient" }));
    assert_eq!(operator.command(command(true))["error"], "Client not found");
}

#[test]
fn a_client_is_sent_away_with_its_will() {
    let broker = Broker::start_with(ON);
    let mut operator = Operator::connect(&broker);
    let mut watch = Client::connect(broker.addr(), 4, "watch");
    watch.send(&subscribe(4, 1, "will/+", 0));
    watch.expect(&[0x90, 3, 0, 1, 0]);
    for (version, told) in [(4, &[][..]), (5, &[0xE0, 1, 0x98])] {
        let mut client = Client::open(broker.addr());
        let topic = format!("will/{version}");
        let props: &[u8] = if version == 5 { &[0] } else { &[] };
        client.send(&connect_with(version, 6, 60, &[], &[&string("victim"), props, &string(&topic), &string("w")]));
        assert_eq!(client.packet()[0], 0x20);
        let command = json!({ "command": "disconnectClient", "clientid": "victim", "correlationData": "x" });
        assert_eq!(operator.command(command), json!({ "command": "disconnectClient", "correlationData": "x" }));
        client.expect(told);
        client.expect_closed();
        watch.expect(&publish(4, 0, &topic, 0, b"w"));
        let line = format!("Client victim [127.0.0.1:{}] disconnected: administrative action.", client.local_port());
        broker.wait_for_log(&line, LIMIT);
    }
    watch.ping();
}

#[test]
fn who_sends_itself_away_is_answered_first() {
    let broker = Broker::start_with(ON);
    let mut operator = Operator::connect(&broker);
    let answer = operator.command(json!({ "command": "disconnectClient", "clientid": "operator" }));
    assert_eq!(answer, json!({ "command": "disconnectClient" }));
    operator.0.expect_closed();
}

#[test]
fn a_session_ends_with_its_client_when_that_is_wanted() {
    let broker = Broker::start_with(ON);
    let mut operator = Operator::connect(&broker);
    for (end, present) in [(false, 1), (true, 0)] {
        let mut client = Client::open(broker.addr());
        client.send(&connect_with(4, 0, 60, &[], &[&string("kept")]));
        assert_eq!(client.packet()[0], 0x20);
        operator.command(json!({ "command": "disconnectClient", "clientid": "kept", "endSession": end }));
        client.expect_closed();
        let mut again = Client::open(broker.addr());
        again.send(&connect_with(4, 0, 60, &[], &[&string("kept")]));
        again.expect(&[0x20, 2, present, 0]);
    }
}

#[test]
fn ten_thousand_retained_messages_are_cleared_while_others_are_served() {
    const COUNT: usize = 10_000;
    let broker = Broker::start_with(ON);
    let mut operator = Operator::connect(&broker);
    let mut other = Client::connect(broker.addr(), 4, "other");
    let mut publisher = Client::connect(broker.addr(), 4, "publisher");
    for i in 0..COUNT {
        publisher.send(&publish(4, 1, &format!("r/{i}"), 0, b"retained"));
    }
    publisher.send(&publish(4, 1, "kept", 0, b"x"));
    publisher.ping();

    // Its own ping overtakes the answer, as long as the messages are not all cleared in one go.
    let request = br#"{"commands":[{"command":"clearRetained","filter":"r/#"}]}"#;
    operator.0.send(&[&publish(4, 0x02, TOPIC, 7, request)[..], &[0xC0, 0]].concat());
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let start = Instant::now();
        other.ping();
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "a ping took {slowest:?}");
    operator.0.expect(&[0x40, 2, 0, 7, 0xD0, 0]);
    let answer = operator.response();
    assert_eq!(answer["responses"][0]["data"]["cleared"], COUNT, "{answer}");
    let again = operator.command(json!({ "command": "clearRetained", "filter": "#" }));
    assert_eq!(again["data"]["cleared"], 1, "only `kept` was left");
    other.send(&subscribe(4, 1, "#", 0));
    other.expect(&[0x90, 3, 0, 1, 0]);
    other.ping();
}

#[test]
fn hostile_requests_are_answered_and_harm_nobody() {
    let broker = Broker::start_with(ON);
    let mut operator = Operator::connect(&broker);
    let deep = |open: &str, len: usize| open.repeat(len / open.len()).into_bytes();
    let small = r#"{"command":"x"},"#.repeat(200);
    for (request, wanted) in [
        (deep("[", 1_999_000), "Payload too large"),
        (deep("[", 120_000), "Payload not valid JSON"),
        (deep("{\"commands\":[", 120_000), "Payload not valid JSON"),
        (deep("\u{0}", 100), "Payload not valid JSON"),
        (vec![0xFF; 1000], "Payload not valid JSON"),
        (b"{\"commands\":[\"".to_vec(), "Payload not valid JSON"),
        (format!("{{\"commands\":[{}1]}}", "0,".repeat(60_000)).into_bytes(), "Too many commands"),
        (format!("{{\"commands\":[{small}1]}}").into_bytes(), "Too many commands"),
        (format!("[{}1]", "0,".repeat(60_000)).into_bytes(), "Invalid/missing commands"),
    ] {
        operator.send(&request);
        let shown = String::from_utf8_lossy(&request[..request.len().min(40)]).into_owned();
        let mut answers = [operator.0.packet(), operator.0.packet()];
        // One that is refused unread is answered before it is acknowledged.
        answers.sort();
        assert_eq!(answers[1], [0x40, 2, 0, 7], "{shown}");
        let json = answers[0].iter().position(|byte| *byte == b'{').expect("an object");
        let answer: Value = serde_json::from_slice(&answers[0][json..]).expect("JSON");
        assert_eq!(answer, error(wanted), "{shown}");
    }
    // Many in one piece, each answered.
    let request = publish(4, 0, TOPIC, 0, b"{\"commands\":[]}");
    operator.0.send(&request.repeat(500));
    for _ in 0..500 {
        assert_eq!(operator.response(), json!({ "responses": [] }));
    }
    operator.0.ping();
}

#[test]
fn it_is_switched_by_a_reload() {
    let broker = Broker::start();
    let mut operator = Operator::connect(&broker);
    let off = |operator: &mut Operator| {
        operator.send(b"{\"commands\":[]}");
        operator.0.expect(&publish(4, 0, RESPONSE, 0, br#"{"error": "endpoint not available"}"#));
        operator.0.expect(&[0x40, 2, 0, 7]);
    };
    off(&mut operator);
    broker.write_config(ON);
    broker.signal("HUP");
    broker.wait_for_log("Warning: 'enable_control_api' is on and port", LIMIT);
    assert_eq!(operator.ask(&json!({ "commands": [] })), json!({ "responses": [] }));
    broker.write_config("max_keepalive 100");
    broker.signal("HUP");
    // The signal has been handled when what it changed is.
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut other = Client::open(broker.addr());
        other.send(&connect_with(4, 2, 200, &[], &[&string("slow")]));
        if other.packet()[3] == 2 {
            break;
        }
        assert!(Instant::now() < deadline, "not reloaded");
    }
    off(&mut operator);
}

#[test]
fn listeners_are_listed_and_an_open_one_is_warned_of() {
    let broker = Broker::start_with(ON);
    broker.wait_for_log("is open to anonymous clients", LIMIT);
    let mut operator = Operator::connect(&broker);
    let answer = operator.ask(&json!({ "commands": [{ "command": "listListeners" }, { "command": "LISTPLUGINS" }] }));
    let listener = json!({ "port": broker.port(), "protocol": "mqtt", "bind-address": "127.0.0.1", "tls": false });
    let wanted = json!({ "responses": [
        { "command": "listListeners", "data": { "listeners": [listener] } },
        { "command": "listPlugins", "data": { "plugins": [] } },
    ] });
    assert_eq!(answer, wanted);
    broker.wait_for_log("Broker: operator/(null) | listListeners", LIMIT);
}
