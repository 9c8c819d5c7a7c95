//! Requests and answers, with connections and a clock of our own.

use super::*;
use crate::broker::changes::{self, record::Change};
use crate::broker::subs::SubOptions;
use crate::broker::will::Will;
use crate::broker::{Action, ConnectRequest, Ending, NEVER, Outgoing, Pulled, SubscribeRequest};
use crate::config::Listener;
use crate::proto::Peer;
use crate::slab::{Key, Slab};
use crate::wire::ProtocolVersion;

struct World {
    broker: Broker,
    config: Config,
    conns: Slab<()>,
    api: Api,
    now: Now,
    admin: SessionId,
}

impl World {
    fn new() -> World {
        let now = Now { mono_ms: 1_000_000, wall_s: 1_700_000_000 };
        let mut config = Config::local_only(&[1883]);
        config.global.enable_control_api = true;
        config.global.sys_interval = 0;
        config.global.max_queued_messages = 0;
        let broker = Broker::new(config.global.clone(), [1, 2], now);
        let api = Api::default();
        let admin = SessionId(Key::from_bits(0));
        let mut world = World { broker, config, conns: Slab::new(), api, now, admin };
        world.admin = world.connect("admin", 0, None).0;
        world.subscribe(world.admin, RESPONSE_TOPIC, None);
        world
    }

    fn connect(&mut self, client_id: &str, expiry_s: u32, will: Option<Will>) -> (SessionId, ConnId) {
        let conn = ConnId(self.conns.insert(()).unwrap());
        let request = ConnectRequest {
            conn,
            client_id,
            username: Some("ann").filter(|_| client_id != "admin"),
            clean_start: false,
            expiry_s,
            version: ProtocolVersion::V5,
            bridge: false,
            rules: crate::broker::auth::access::RulesId::GLOBAL,
            listener_port: 1883,
            receive_maximum: Some(20),
            will,
        };
        (self.broker.connect(self.now, request).unwrap().session, conn)
    }

    fn subscribe(&mut self, session: SessionId, filter: &str, share: Option<&str>) {
        let options = SubOptions { qos: QoS::AtLeastOnce, ..SubOptions::default() };
        self.broker.subscribe(session, SubscribeRequest { filter, share, options, id: 0 }).unwrap();
    }

    fn publish(&mut self, topic: &str, retain: bool) {
        let qos = QoS::AtLeastOnce;
        let new = NewMessage { topic, payload: b"four", qos, retain, props: &[], expiry_s: None };
        let msg = Msg::new(self.now, &new).unwrap();
        self.broker.publish(self.now, None, &msg);
    }

    /// One turn of the loop: what the core wants, a slice, and again; the connections closed by it.
    fn turn(&mut self) -> Vec<ConnId> {
        let mut kicked = Vec::new();
        for slice in [true, false] {
            while let Some(action) = self.broker.take_action() {
                match action {
                    Action::Control { from, request } => self.api.take(self.now, &mut self.broker, from, request),
                    Action::Kick { conn } => kicked.push(conn),
                    Action::TakeOver { .. } | Action::Login { .. } => {}
                }
            }
            if slice {
                let connection = |conn: ConnId| {
                    let peer = Peer::new(([10, 0, 0, 1], 1000).into());
                    let waiting_bytes = conn.0.index() as usize;
                    Some(Connection { peer, listener_port: 1883, keepalive_s: 60, waiting_bytes })
                };
                let (now, broker, config) = (self.now, &mut self.broker, &self.config);
                self.api.run(&mut Context { now, broker, config, connection: &connection });
            }
        }
        self.broker.take_dirty(&mut Vec::new());
        kicked
    }

    /// What a client gets, without the response topic.
    fn received(&mut self, session: SessionId) -> Vec<(String, String)> {
        let mut got = Vec::new();
        while let Pulled::Item(item) = self.broker.pull(self.now, session, &mut 1000) {
            if let Outgoing::Publish { msg, id, .. } = item {
                got.push((msg.topic().to_string(), String::from_utf8_lossy(msg.payload()).into_owned()));
                id.map(|id| self.broker.puback(session, id));
            }
        }
        self.broker.set_clean(session);
        got
    }

    /// The answers that the administrator got.
    fn answers(&mut self) -> Vec<String> {
        let received = self.received(self.admin);
        assert!(received.iter().all(|(topic, _)| topic == RESPONSE_TOPIC), "{received:?}");
        received.into_iter().map(|(_, payload)| payload).collect()
    }

    /// Asks and works until the answer is there.
    fn ask(&mut self, request: &str) -> String {
        self.broker.ask_control(self.admin, request.as_bytes());
        for _ in 0..10_000 {
            self.turn();
            if let Some(answer) = self.answers().pop() {
                return answer;
            }
        }
        panic!("no answer to {request}");
    }

    /// Asks for one command; the answer without the envelope.
    fn command(&mut self, command: &str) -> String {
        let answer = self.ask(&format!(r#"{{"commands":[{{"command":{command}}}]}}"#));
        answer.strip_prefix(r#"{"responses":[{"command":"#).and_then(|a| a.strip_suffix("}]}")).unwrap().to_string()
    }
}

fn will(delay_s: u32) -> Will {
    Will {
        topic: "gone".into(),
        payload: b"bye".as_slice().into(),
        props: [].into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_s,
        expiry_s: None,
    }
}

#[test]
fn the_envelope_is_that_of_c_mosquitto() {
    let mut world = World::new();
    let unknown = |error: &str| format!(r#"{{"command":"Unknown command","error":"{error}"}}"#);
    let plugins = r#"{"command":"listPlugins","data":{"plugins":[]}}"#.to_string();
    for (request, wanted) in [
        ("", unknown("Payload not valid JSON")),
        ("{\"commands\":[]", unknown("Payload not valid JSON")),
        ("\u{0}", unknown("Payload not valid JSON")),
        (&"[".repeat(100_000), unknown("Payload not valid JSON")),
        ("{}", unknown("Invalid/missing commands")),
        ("[]", unknown("Invalid/missing commands")),
        ("7", unknown("Invalid/missing commands")),
        (r#"{"commands":{}}"#, unknown("Invalid/missing commands")),
        (r#"{"commands":[]}"#, String::new()),
        (r#"{"COMMANDS":[{"Command":"LISTPLUGINS"}]}"#, plugins.clone()),
        // Errors of the envelope end the request.
        (r#"{"commands":[{"command":"listPlugins"},7,{"command":"listPlugins"}]}"#,
            format!("{plugins},{}", unknown("Command not an object"))),
        (r#"{"commands":[{},{"command":"listPlugins"}]}"#, unknown("Missing command")),
        (r#"{"commands":[{"command":5,"correlationData":"c"}]}"#, unknown("Missing command")),
        (r#"{"commands":[{"command":"listPlugins","correlationData":5},{"command":"listPlugins"}]}"#,
            r#"{"command":"listPlugins","error":"Invalid correlationData data type."}"#.into()),
        (r#"{"commands":[{"command":"x","correlationData":null}]}"#,
            r#"{"command":"x","error":"Invalid correlationData data type."}"#.into()),
        // Others do not.
        (r#"{"commands":[{"command":"no\"pe","correlationData":"a\nb"},{"command":"listplugins","correlationData":""}]}"#,
            r#"{"command":"no\"pe","error":"Unknown command","correlationData":"a\nb"},{"command":"listPlugins","data":{"plugins":[]},"correlationData":""}"#.into()),
    ] {
        let shown: String = request.chars().take(80).collect();
        assert_eq!(world.ask(request), format!(r#"{{"responses":[{wanted}]}}"#), "{shown}");
    }
}

#[test]
fn every_command_answers_its_errors() {
    let mut world = World::new();
    world.connect("away", 100, None);
    let (away, conn) = world.connect("away", 100, None);
    world.broker.disconnect(world.now, away, conn, Ending { will: true, expiry_s: None });
    world.turn();
    let too_long = format!(r#""clearRetained","filter":"{}""#, "a".repeat(65536));
    for (command, error) in [
        (r#""getClient""#, "Invalid/missing client id"),
        (r#""getClient","clientid":7"#, "Invalid/missing client id"),
        (r#""getClient","clientid":"nobody""#, "Client not found"),
        (r#""GETCLIENT","clientid":"nobody\u0000""#, "Client not found"),
        (r#""disconnectClient""#, "Invalid/missing client id"),
        (r#""disconnectClient","clientid":"nobody""#, "Client not found"),
        (r#""disconnectClient","clientid":"away""#, "Client not connected"),
        (r#""disconnectClient","clientid":"away","endSession":1"#, "Client not connected"),
        (r#""clearRetained""#, "Invalid/missing filter"),
        (r#""clearRetained","filter":["a"]"#, "Invalid/missing filter"),
        (r#""clearRetained","filter":"""#, "Invalid filter"),
        (r#""clearRetained","filter":"a/#/b""#, "Invalid filter"),
        (r#""clearRetained","filter":"a\u0000""#, "Invalid filter"),
        (r#""clearRetained","filter":"a\nBroker: x""#, "Invalid filter"),
        (&too_long, "Invalid filter"),
        (r#""clearRetained","filter":"$SYS/#""#, "Topics of $SYS belong to the broker"),
        (r#""listGroups""#, "Unknown command"),
    ] {
        let name = command.split(',').next().unwrap();
        assert_eq!(world.command(command), format!(r#"{name},"error":"{error}""#), "the name as it was written");
    }
}

#[test]
fn listeners_are_listed_as_they_were_configured() {
    let mut world = World::new();
    world.config.listeners.truncate(1);
    world.config.listeners.push(Listener::new(1884, None));
    world.config.listeners.push(Listener { protocol: Protocol::Metrics, ..Listener::new(9100, Some("::1".into())) });
    let wanted = concat!(
        r#""listListeners","data":{"listeners":["#,
        r#"{"port":1883,"protocol":"mqtt","bind-address":"127.0.0.1","tls":false},"#,
        r#"{"port":1884,"protocol":"mqtt","tls":false},"#,
        r#"{"port":9100,"protocol":"metrics","bind-address":"::1","tls":false}]}"#
    );
    assert_eq!(world.command(r#""listlisteners""#), wanted);
}

#[test]
fn one_client_is_shown_with_its_queues_and_subscriptions() {
    let mut world = World::new();
    let (here, conn) = world.connect("he\"re", NEVER, Some(will(9)));
    world.subscribe(here, "a/+", None);
    world.subscribe(here, "a/1", Some("g"));
    world.broker.take_dirty(&mut Vec::new());
    for topic in ["a/1", "a/2", "a/3"] {
        world.publish(topic, false);
    }
    world.broker.pull(world.now, here, &mut 100);
    let rest = concat!(
        r#""sessionExpiryInterval":4294967295,"subscriptionCount":2,"queuedMessages":3,"queuedBytes":12,"#,
        r#""inflightMessages":1,"inflightBytes":4,"incomingMessages":0,"incomingBytes":0,"#
    );
    let subscriptions = r#","subscriptions":[{"filter":"$share/g/a/1","qos":1},{"filter":"a/+","qos":1}]"#;
    let wanted = [
        r#""getClient","data":{"client":{"clientid":"he\"re","username":"ann","connected":true,"#,
        r#""connectedSince":1700000000,"address":"10.0.0.1","remotePort":1000,"port":1883,"keepalive":60,"#,
        r#""protocolVersion":"5.0","#,
        rest,
        r#""socketBytes":1,"will":{"topic":"gone","qos":1,"retain":false,"delayInterval":9}"#,
        subscriptions,
        "}}",
    ];
    assert_eq!(world.command(r#""getClient","clientID":"he\"re""#), wanted.concat());

    world.now.wall_s += 5;
    world.broker.disconnect(world.now, here, conn, Ending { will: false, expiry_s: Some(30) });
    world.now.mono_ms += 10_000;
    let wanted = [
        r#""getClient","data":{"client":{"clientid":"he\"re","username":"ann","connected":false,"#,
        r#""disconnectedSince":1700000005,"protocolVersion":"5.0","#,
        &rest.replace("4294967295", r#"30,"expiresIn":20"#),
        &subscriptions[1..],
        "}}",
    ];
    assert_eq!(world.command(r#""getClient","clientid":"he\"re""#), wanted.concat());
}

#[test]
fn of_many_subscriptions_the_first_are_shown() {
    let mut world = World::new();
    let (many, _) = world.connect("many", 0, None);
    let (long, _) = world.connect("long", 0, None);
    for i in 0..150 {
        world.subscribe(many, &format!("s/{i}"), None);
        world.subscribe(long, &format!("{i}/{}", "x".repeat(60_000)), None);
    }
    let answer = world.command(r#""getClient","clientid":"many""#);
    assert_eq!(answer.matches("\"filter\"").count(), 100);
    assert!(answer.contains(r#""subscriptionCount":150,"#), "{answer}");
    assert_eq!(world.command(r#""getClient","clientid":"long""#).matches("\"filter\"").count(), 2);
}

#[test]
fn clients_are_listed_page_by_page() {
    let mut world = World::new();
    for i in 0..249 {
        let (session, conn) = world.connect(&format!("c{i}"), if i % 2 == 0 { 100 } else { 0 }, None);
        if i % 2 == 0 {
            world.broker.disconnect(world.now, session, conn, Ending { will: true, expiry_s: None });
        }
    }
    let ids = |answer: &str| {
        let (_, list) = answer.split_once(r#""listClients","data":{"totalCount":250,"clients":["#).unwrap();
        let list = list.strip_suffix("]}").unwrap();
        list.split(',').filter(|id| !id.is_empty()).map(|id| id.trim_matches('"').to_string()).collect::<Vec<_>>()
    };
    let mut all = Vec::new();
    while all.len() < 250 {
        let answer = world.command(&format!(r#""listClients","offset":{}"#, all.len()));
        let page = ids(&answer);
        assert_eq!(page.len(), (250 - all.len()).min(100));
        all.extend(page);
    }
    let mut sorted = all.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!((sorted.len(), all[0].as_str(), all[249].as_str()), (250, "admin", "c248"));
    for (args, first, len) in [
        (r#","count":10,"offset":5"#, "c4", 10),
        (r#","count":0,"offset":249"#, "c248", 1),
        (r#","count":-1"#, "admin", 250),
        (r#","count":1e300"#, "admin", 250),
        (r#","count":"5","offset":"5""#, "admin", 100),
        (r#","offset":-3,"count":2.9"#, "admin", 2),
        (r#","offset":240"#, "c239", 10),
        (r#","offset":250"#, "", 0),
        (r#","offset":1e300"#, "", 0),
    ] {
        let page = ids(&world.command(&format!(r#""listClients"{args}"#)));
        assert_eq!((page.first().map_or("", String::as_str), page.len()), (first, len), "{args}");
    }
    let verbose = world.command(r#""listClients","verbose":true,"count":3"#);
    assert_eq!(verbose.matches(r#""connected":true"#).count(), 2);
    assert_eq!(verbose.matches(r#""expiresIn":100"#).count(), 1);
    assert!(!verbose.contains("subscriptions\""), "only with getClient");
}

#[test]
fn a_long_walk_to_a_page_is_done_in_slices() {
    let mut world = World::new();
    for i in 0..20_000 {
        world.connect(&format!("c{i}"), 0, None);
    }
    world.broker.ask_control(world.admin, br#"{"commands":[{"command":"listClients","offset":19999}]}"#);
    let mut turns = 0;
    let answer = loop {
        world.turn();
        turns += 1;
        if let Some(answer) = world.answers().pop() {
            break answer;
        }
    };
    assert!((2..10).contains(&turns), "{turns} turns");
    assert!(answer.contains(r#""totalCount":20001,"clients":["c19998","c19999"]"#), "{answer}");
}

#[test]
fn a_client_is_sent_away_after_its_answer() {
    let mut world = World::new();
    let (_, conn) = world.connect("c", 0, None);
    world.broker.ask_control(world.admin, br#"{"commands":[{"command":"disconnectclient","clientid":"c"}]}"#);
    assert_eq!(world.turn(), []);
    assert_eq!(world.answers(), [r#"{"responses":[{"command":"disconnectclient"}]}"#]);
    assert!(world.api.is_busy(), "the loop must not sleep");
    assert_eq!(world.turn(), [conn]);
    assert!(!world.api.is_busy());

    // Who came back meanwhile is another connection.
    let (_, old) = world.connect("d", 100, None);
    world.command(r#""disconnectClient","clientid":"d""#);
    let (session, new) = world.connect("d", 100, None);
    assert_eq!(world.turn(), []);
    assert_eq!(world.broker.conn_of(session), Some(new));
    assert_ne!(old, new);
}

#[test]
fn a_session_ends_with_the_client_when_that_is_wanted() {
    for (end, left) in [("", true), (r#","endSession":false"#, true), (r#","endSession":true"#, false)] {
        let mut world = World::new();
        world.broker.changes().start_journal();
        let (session, conn) = world.connect("c", NEVER, None);
        world.command(&format!(r#""disconnectClient","clientid":"c"{end}"#));
        assert_eq!(world.turn(), [conn]);
        world.broker.disconnect(world.now, session, conn, Ending { will: true, expiry_s: None });
        assert_eq!(world.broker.find_client("c").is_some(), left, "{end}");
        let bytes = world.broker.changes().take(Vec::new()).0;
        let changes = changes::groups(&bytes).flat_map(Change::decode_group);
        let ended = changes.filter(|c| matches!(c, Ok(Change::SessionEnded { .. }))).count();
        assert_eq!(ended, usize::from(!left), "storage learns of it");
    }
}

#[test]
fn the_session_of_an_absent_client_ends_with_its_will() {
    let mut world = World::new();
    let (watch, _) = world.connect("watch", 0, None);
    world.subscribe(watch, "gone", None);
    for expiry_s in [0, 100] {
        // With expiry 0 only the will is left of the session.
        let (session, conn) = world.connect("c", expiry_s, Some(will(50)));
        world.broker.disconnect(world.now, session, conn, Ending { will: true, expiry_s: None });
        assert_eq!(world.received(watch), []);
        assert_eq!(world.command(r#""disconnectClient","clientid":"c","endSession":true"#), r#""disconnectClient""#);
        assert_eq!(world.received(watch), [("gone".to_string(), "bye".to_string())]);
        assert!(world.broker.find_client("c").is_none());
        world.broker.check_invariants();
    }
}

#[test]
fn retained_messages_are_cleared_in_slices() {
    let mut world = World::new();
    world.broker.changes().start_journal();
    let (watch, _) = world.connect("watch", 0, None);
    for i in 0..5000 {
        world.publish(&format!("a/{i}"), true);
    }
    for topic in ["b", "$x/a", "$SYS/broker/x"] {
        world.publish(topic, true);
    }
    world.subscribe(watch, "a/7", None);
    world.broker.changes().take(Vec::new());
    world.broker.ask_control(world.admin, br#"{"commands":[{"command":"clearRetained","filter":"a/#"}]}"#);
    world.turn();
    assert!((3001..4900).contains(&world.broker.retained_count()), "{}", world.broker.retained_count());
    let recorded = |world: &mut World| changes::groups(&world.broker.changes().take(Vec::new()).0).count();
    let mut cleared = recorded(&mut world);
    let answer = loop {
        world.turn();
        cleared += recorded(&mut world);
        if let Some(answer) = world.answers().pop() {
            break answer;
        }
    };
    assert_eq!(answer, r#"{"responses":[{"command":"clearRetained","data":{"cleared":5000}}]}"#);
    assert_eq!(cleared, 5000, "storage learns of each");
    assert_eq!(world.received(watch), [("a/7".to_string(), String::new())], "as if a client had done it");
    assert_eq!(world.broker.retained_count(), 3);
    assert_eq!(world.command(r#""clearRetained","filter":"b""#), r#""clearRetained","data":{"cleared":1}"#);
    assert_eq!(world.command(r#""clearRetained","filter":"b""#), r#""clearRetained","data":{"cleared":0}"#);
    assert_eq!(world.command(r##""clearRetained","filter":"#""##), r#""clearRetained","data":{"cleared":0}"#);
    assert_eq!(world.command(r##""clearRetained","filter":"$x/#""##), r#""clearRetained","data":{"cleared":1}"#);
    assert_eq!(world.broker.retained_count(), 1, "what is in $SYS stays");
}

#[test]
fn requests_and_answers_are_bounded() {
    let mut world = World::new();
    let many = |n: usize| format!(r#"{{"commands":[{}]}}"#, vec![r#"{"command":"listPlugins"}"#; n].join(","));
    assert_eq!(world.ask(&many(100)).matches("plugins\":[]").count(), 100);
    let refused = |error: &str| format!(r#"{{"responses":[{{"command":"Unknown command","error":"{error}"}}]}}"#);
    assert_eq!(world.ask(&many(101)), refused("Too many commands"));

    for _ in 0..MAX_WAITING + 2 {
        world.broker.ask_control(world.admin, many(1).as_bytes());
    }
    world.turn();
    let answers = world.answers();
    assert_eq!(answers.len(), MAX_WAITING + 2);
    assert_eq!(answers.iter().filter(|answer| **answer == refused("Too many requests")).count(), 2);

    world.config.listeners = vec![Listener::new(1, Some("h".repeat(100))); 1000];
    let list = r#"{"command":"listListeners"}"#;
    let answer = world.ask(&format!(r#"{{"commands":[{}]}}"#, vec![list; 100].join(",")));
    assert!(answer.len() < MAX_RESPONSE + 300_000, "{}", answer.len());
    assert!(answer.ends_with(r#",{"command":"Unknown command","error":"Response too large"}]}"#));

    // Long names fill a page before its count does.
    for i in 0..20 {
        world.connect(&format!("{i}{}", "n".repeat(60_000)), 0, None);
    }
    let page = world.command(r#""listClients","offset":1"#);
    assert_eq!(page.matches("nnn\"").count(), 5);
}

#[test]
fn the_log_names_who_asked() {
    let mut world = World::new();
    let (ann, _) = world.connect("c", 0, None);
    for (from, who) in [(world.admin, "admin/(null)"), (ann, "c/ann")] {
        world.api.take(world.now, &mut world.broker, from, Box::default());
        assert_eq!(world.api.waiting.pop_back().unwrap().who, who);
    }
}

#[test]
fn an_api_open_to_everybody_is_warned_of() {
    let mut config = Config::local_only(&[1883, 1884]);
    assert_eq!(warning(&config), None, "off");
    config.global.enable_control_api = true;
    let text = warning(&config).unwrap();
    assert!(text.contains("port 1883, 1884 is open") && text.contains("acl_file"), "{text}");
    let mut closed = config.clone();
    closed.global.acl_file = Some("acl".into());
    assert_eq!(warning(&closed), None, "the rules decide");
    closed.global.per_listener_settings = true;
    closed.listeners.iter_mut().for_each(|listener| listener.allow_anonymous = Some(true));
    closed.listeners.iter_mut().filter(|l| l.port == 1883).for_each(|l| l.acl_file = Some("acl".into()));
    assert!(warning(&closed).is_some_and(|text| text.contains("port 1884 is open")));
    config.listeners.iter_mut().for_each(|listener| listener.protocol = Protocol::Websockets);
    assert_eq!(warning(&config), Some(text), "MQTT is MQTT");
    config.listeners[0].allow_anonymous = Some(false);
    config.listeners[1].protocol = Protocol::Metrics;
    config.listeners.truncate(2);
    assert_eq!(warning(&config), None);
}
