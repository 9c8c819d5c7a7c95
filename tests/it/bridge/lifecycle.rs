//! When bridges connect, and what happens while they do not.

use std::net::TcpListener;

use super::peer::Peer;
use super::*;
use crate::broker::free_port;

#[test]
fn messages_wait_for_the_other_broker_and_the_state_tells_the_truth() {
    let port = free_port();
    let near = Broker::start_with(&bridge(port, "topic q/# out 2"));
    let mut state = Reader::new(&near, "state", &[STATE]);
    assert_eq!(state.next(), message(STATE, "0", 1, true));
    for n in 0..50 {
        say(&near, "q/x", &format!("{n:02}"), 2, false);
    }
    let far = far_at(port, "");
    assert_eq!(state.next().payload, "1");
    let mut all = Reader::new(&far, "all", &["q/#", STATE]);
    // What waited has gone before, or comes now.
    all.until(STATE, "1");
    drop(far);
    assert_eq!(state.next().payload, "0");
}

/// A broker of ours at a certain port.
fn far_at(port: u16, lines: &str) -> Broker {
    // The configuration may name a second listener.
    let broker = Broker::start_with(&format!("{lines}\nlistener {port} 127.0.0.1\n"));
    broker.wait_for_log("mosquitto version", LIMIT);
    broker.wait_for_log(&format!("Listener {port} on 127.0.0.1"), LIMIT);
    broker
}

#[test]
fn what_waited_arrives_in_order_and_once() {
    let port = free_port();
    let near = Broker::start_with(&bridge(port, "topic q/# out 2"));
    for n in 0..200 {
        say(&near, "q/x", &format!("{n:03}"), 2, false);
    }
    // A persistent reader is there before the bridge.
    let far = Broker::start_with("");
    let mut reader = Reader::new(&far, "reader", &["q/#"]);
    near.write_config(&bridge(far.port(), "topic q/# out 2\nbridge_reload_type immediate"));
    near.signal("HUP");
    let got: Vec<String> = (0..200).map(|_| reader.next().payload).collect();
    let wanted: Vec<String> = (0..200).map(|n| format!("{n:03}")).collect();
    assert_eq!(got, wanted);
    reader.silence(Duration::from_millis(200));
}

#[test]
fn the_queue_is_bounded_by_the_usual_options() {
    let near = Broker::start_with(
        &bridge(free_port(), "topic q/# out 1\nlisten_never x")
            .replace("listen_never x", "")
            .replace("connection", "max_queued_messages 20\nconnection"),
    );
    for n in 0..30 {
        say(&near, "q/x", &format!("{n:02}"), 1, false);
    }
    near.wait_for_log("Outgoing messages are being dropped for client local.link.", LIMIT);
    let far = Broker::start();
    let mut reader = Reader::new(&far, "reader", &["q/#"]);
    near.write_config(&format!(
        "max_queued_messages 20\n{}",
        bridge(far.port(), "topic q/# out 1\nbridge_reload_type immediate")
    ));
    near.signal("HUP");
    let got: Vec<String> = (0..20).map(|_| reader.next().payload).collect();
    assert_eq!(got, (0..20).map(|n| format!("{n:02}")).collect::<Vec<_>>());
    reader.silence(Duration::from_millis(200));
}

#[test]
fn with_local_cleansession_nothing_waits() {
    let near = Broker::start_with(&bridge(free_port(), "topic q/# out 1\nlocal_cleansession true"));
    near.wait_for_log("next backoff", LIMIT);
    say(&near, "q/x", "lost", 1, false);
    let far = Broker::start();
    let mut reader = Reader::new(&far, "reader", &["q/#"]);
    let lines = "topic q/# out 1\nlocal_cleansession true\nbridge_reload_type immediate";
    near.write_config(&bridge(far.port(), lines));
    near.signal("HUP");
    wait_for_state(&far, STATE, "1");
    say(&near, "q/x", "found", 1, false);
    assert_eq!(reader.next().payload, "found");
}

#[test]
fn once_is_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let near = Broker::start_with(&bridge(port, "topic q/# out 1\nstart_type once"));
    let mut peer = Peer::accept(&listener);
    peer.connack();
    near.wait_for_log("is connected to", LIMIT);
    drop(peer);
    near.wait_for_log("Client local.link [", LIMIT);
    listener.set_nonblocking(true).unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    assert!(listener.accept().is_err(), "it came back");
}

#[test]
fn a_lazy_bridge_goes_when_idle_and_comes_when_enough_waits() {
    let far = Broker::start();
    let lines = "topic q/# out 1\nstart_type lazy\nidle_timeout 1\nthreshold 3";
    let near = Broker::start_with(&bridge(far.port(), lines));
    near.wait_for_log("is connected to", LIMIT);
    near.wait_for_log("Bridge connection local.link has exceeded idle timeout, disconnecting.", LIMIT);
    wait_for_state(&near, STATE, "0");
    wait_for_state(&far, STATE, "0");
    let mut reader = Reader::new(&far, "reader", &["q/#"]);
    let mark = near.log_mark();
    say(&near, "q/1", "x", 0, false);
    say(&near, "q/2", "x", 1, false);
    assert!(!near.log_after(mark).contains("Connecting bridge"), "not enough");
    say(&near, "q/3", "x", 0, false);
    // QoS 0 waits as well.
    let got: Vec<String> = (0..3).map(|_| reader.next().topic).collect();
    assert_eq!(got, ["q/1", "q/2", "q/3"]);
    near.wait_for_log_after(mark, "has exceeded idle timeout", LIMIT);
}

#[test]
fn addresses_take_turns_and_the_first_is_returned_to() {
    let (first, second) = (free_port(), Broker::start());
    let lines = format!(
        "connection link\naddress 127.0.0.1:{first} 127.0.0.1:{}\nrestart_timeout 1\nremote_clientid link\n\
         topic q/# out 1\n",
        second.port()
    );
    let near = Broker::start_with(&lines);
    wait_for_state(&second, STATE, "1");
    let far = far_at(first, "");
    near.wait_for_log("the first address can be reached again", LIMIT);
    wait_for_state(&far, STATE, "1");
    wait_for_state(&second, STATE, "0");
    // Without a preference it stays.
    let (near, lines) =
        (Broker::start_with(&format!("{}round_robin true\n", lines.replace("clientid link", "clientid rr"))), ());
    let () = lines;
    wait_for_state(&far, "$SYS/broker/connection/rr/state", "1");
    drop(far);
    wait_for_state(&second, "$SYS/broker/connection/rr/state", "1");
    let far = far_at(first, "");
    std::thread::sleep(Duration::from_secs(7));
    assert!(!near.log_text().contains("can be reached again"));
    drop(far);
}

#[test]
fn a_name_that_does_not_resolve_is_tried_again_and_the_next_address_meanwhile() {
    let far = Broker::start();
    let lines = format!(
        "connection link\naddress name.invalid:1 localhost:{}\nrestart_timeout 1\nremote_clientid link\n\
         topic q/# out 1\nround_robin true\n",
        far.port()
    );
    let near = Broker::start_with(&lines);
    near.wait_for_log("Warning: Error resolving bridge address: ", LIMIT);
    near.wait_for_log("Warning: Unable to connect bridge link.", LIMIT);
    near.wait_for_log("Bridge link next backoff will be 1000 ms", LIMIT);
    wait_for_state(&far, STATE, "1");
}

#[test]
fn bridges_come_change_and_go_on_reload() {
    let far = Broker::start();
    let near = Broker::start_with("");
    near.write_config(&bridge(far.port(), "topic q/# out 1"));
    near.signal("HUP");
    wait_for_state(&far, STATE, "1");
    let mark = near.log_mark();
    near.signal("HUP");
    near.wait_for_log_after(mark, "Config reloaded.", LIMIT);
    // A change with `lazy` waits for the next connection, with `immediate` it does not.
    near.write_config(&bridge(far.port(), "topic r/# out 1"));
    near.signal("HUP");
    let mut reader = Reader::new(&far, "reader", &["q/#", "r/#"]);
    say(&near, "r/1", "not yet", 1, false);
    say(&near, "q/1", "still", 1, false);
    assert_eq!(reader.next().payload, "still");
    assert!(!near.log_after(mark).contains("Client local.link ["), "it was left alone");
    near.write_config(&bridge(far.port(), "topic r/# out 1\nbridge_reload_type immediate"));
    near.signal("HUP");
    near.wait_for_log_after(mark, "its configuration has changed", LIMIT);
    near.wait_for_log_after(mark, "Bridge link is connected to", LIMIT);
    wait_for_state(&near, STATE, "1");
    say(&near, "q/2", "no more", 1, false);
    say(&near, "r/2", "now", 1, false);
    assert_eq!(reader.next().payload, "now");
    near.write_config("");
    near.signal("HUP");
    near.wait_for_log_after(mark, "Bridge link was removed; messages that waited for it: 0.", LIMIT);
    wait_for_state(&far, STATE, "0");
}

#[test]
fn nobody_takes_the_session_of_a_bridge() {
    let near = Broker::start_with(&bridge(free_port(), "topic secret/# out 1"));
    say(&near, "secret/x", "for the bridge", 1, false);
    for (version, refusal) in [(4, &[0x20, 2, 0, 2][..]), (5, &[0x20])] {
        let mut thief = Client::open(near.addr());
        let mut connect = crate::client::connect(version, "local.link");
        // Without clean start.
        connect[9] = 0;
        thief.send(&connect);
        let answer = thief.packet();
        assert!(answer.starts_with(refusal), "{answer:02X?}");
        assert!(version == 4 || answer[3] == 0x85, "{answer:02X?}");
        thief.expect_closed();
    }
}

#[test]
fn notifications_stay_here_or_go_nowhere_or_elsewhere() {
    let far = Broker::start();
    let lines = |name: &str, more: &str| bridge(far.port(), &format!("topic q/# out 1\n{more}")).replace("link", name);
    let near = Broker::start_with(&format!(
        "{}{}{}",
        lines("here", "notifications_local_only true"),
        lines("nowhere", "notifications false"),
        lines("elsewhere", "notification_topic bridges/x"),
    ));
    for name in ["here", "nowhere", "elsewhere"] {
        near.wait_for_log(&format!("Bridge {name} is connected to"), LIMIT);
    }
    wait_for_state(&near, "$SYS/broker/connection/here/state", "1");
    wait_for_state(&near, "bridges/x", "1");
    wait_for_state(&far, "bridges/x", "1");
    for (broker, name) in [(&far, "here"), (&far, "nowhere"), (&near, "nowhere"), (&far, "elsewhere")] {
        let topic = format!("$SYS/broker/connection/{name}/state");
        Reader::new(broker, "none", &[&topic]).silence(Duration::from_millis(100));
    }
}

#[cfg(feature = "metrics")]
#[test]
fn the_metrics_page_tells_of_each_bridge() {
    use std::io::{Read, Write};
    let (far, port) = (Broker::start(), free_port());
    let near = Broker::start_with(&format!(
        "listener {port} 127.0.0.1\nprotocol metrics\n{}{}",
        bridge(far.port(), "topic q/# both 1"),
        bridge(free_port(), "topic q/# out 1").replace("link", "dead")
    ));
    wait_for_state(&near, STATE, "1");
    near.wait_for_log("Bridge dead next backoff", LIMIT);
    let mut reader = Reader::new(&far, "reader", &["q/#"]);
    say(&near, "q/1", "x", 1, false);
    say(&near, "q/2", "x", 1, false);
    assert_eq!(reader.all(2).len(), 2);
    let mut reader = Reader::new(&near, "reader", &["q/back"]);
    say(&far, "q/back", "x", 1, false);
    reader.next();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    for line in [
        "mosquitto_bridge_state{bridge=\"link\",state=\"live\"} 1",
        "mosquitto_bridge_connected{bridge=\"link\"} 1",
        "mosquitto_bridge_connected{bridge=\"dead\"} 0",
        "mosquitto_bridge_queued_messages{bridge=\"dead\"} 3",
        "mosquitto_bridge_sent_total{bridge=\"link\"} 2",
        "mosquitto_bridge_received_total{bridge=\"link\"} 1",
        "mosquitto_bridge_reconnects_total{bridge=\"link\"} 0",
        "mosquitto_bridge_set_aside_total{bridge=\"link\"} 0",
        "mosquitto_bridge_last_error_info{bridge=\"dead\",error=\"disconnected: Connection refused.\"} 1",
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }
}

#[cfg(feature = "persistence")]
#[test]
fn what_waits_for_a_bridge_outlives_a_restart() {
    let location = crate::cli::directory("bridge-database");
    let lines = |port| {
        let place = location.display();
        format!("persistence true\npersistence_location {place}\n{}", bridge(port, "topic q/# out 2"))
    };
    let _open = std::fs::set_permissions(&location, std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let mut near = Broker::start_with(&lines(free_port()));
    for n in 0..30 {
        say(&near, "q/x", &format!("{n:02}"), 2, false);
    }
    near.signal("TERM");
    assert!(near.wait_exit().success());
    let far = Broker::start();
    let mut reader = Reader::new(&far, "reader", &["q/#"]);
    let near = Broker::start_with(&lines(far.port()));
    let got: Vec<String> = (0..30).map(|_| reader.next().payload).collect();
    assert_eq!(got, (0..30).map(|n| format!("{n:02}")).collect::<Vec<_>>());
    // Its subscriptions are there too, and only its own.
    wait_for_state(&near, STATE, "1");
    say(&near, "q/x", "later", 1, false);
    assert_eq!(reader.next().payload, "later");
    reader.silence(Duration::from_millis(200));
    std::fs::remove_dir_all(&location).unwrap();
}

#[test]
fn another_local_client_id_is_another_queue() {
    let near = Broker::start_with(&bridge(free_port(), "topic q/# out 1"));
    say(&near, "q/1", "old", 1, false);
    let far = Broker::start();
    let mut reader = Reader::new(&far, "reader", &["q/#"]);
    near.write_config(&bridge(far.port(), "topic q/# out 1\nlocal_clientid other"));
    near.signal("HUP");
    near.wait_for_log("what waited for it under its former local client id local.link is gone.", LIMIT);
    wait_for_state(&far, STATE, "1");
    say(&near, "q/2", "new", 1, false);
    assert_eq!(reader.next().payload, "new");
    // While it is connected a lazy change waits, and nothing is sent twice.
    near.write_config(&bridge(far.port(), "topic q/# out 1\nlocal_clientid third"));
    let mark = near.log_mark();
    near.signal("HUP");
    near.wait_for_log_after(mark, "Config reloaded.", LIMIT);
    say(&near, "q/3", "once", 1, false);
    assert_eq!(reader.next().payload, "once");
    reader.silence(Duration::from_millis(200));
}
