//! Bridges to clustered brokers: RabbitMQ and NATS.

use std::net::SocketAddr;
use std::time::Duration;

use crate::broker::Broker;
use crate::engines::{Nats, RabbitMq};
use crate::namespace::Namespace;
use crate::session::Place;
use crate::settings::{full, side_by_side};
use crate::traffic::{Arrival, Collector, Publisher, wait_for_way};

const LIMIT: Duration = Duration::from_secs(60);

/// Runs the test where it has the machine's names to itself: RabbitMQ waits for answers about the host's name. Without
/// namespaces it runs all the same.
fn apart(test: impl FnOnce() + Send) {
    match Namespace::quietly() {
        Some(inside) => inside.run(test),
        None => test(),
    }
}

fn bridge(version: &str, addresses: &[SocketAddr], qos: u8, more: &str) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!(
        "max_queued_messages 100000\nconnection link\naddress {}\nbridge_protocol_version {version}\n\
         topic out/# out {qos}\ntopic in/# in {qos}\nrestart_timeout 1\nkeepalive_interval 5\ncleansession false\n\
         remote_clientid edge\nnotification_topic link/state\n{more}\n",
        addresses.join(" ")
    )
}

/// Waits until the bridge says that it is connected.
fn wait_until_up(state: &Collector) {
    let up = state.wait_for("link/state", LIMIT, |seen| seen.last().is_some_and(|last| last.payload == b"1"));
    assert!(up, "the state topic says {:?}", state.arrivals("link/state"));
}

/// Both directions at once; every message of QoS 1 and above must come, and those of QoS 0 while nothing is cut.
fn both_ways(local: &Broker, remote: SocketAddr, qos: u8, round: &str) {
    let (near, far) = (Place::new(local.addr()), Place::new(remote));
    let name = |direction: &str| format!("{direction}/{round}");
    let arrived_far = Collector::start(&far, &format!("far-{round}"), "out/#", qos);
    let arrived_near = Collector::start(&near, &format!("near-{round}"), "in/#", qos);
    wait_for_way(&far, &format!("in/probe-{round}"), &arrived_near);
    wait_for_way(&near, &format!("out/probe-{round}"), &arrived_far);
    let pace = Duration::from_millis(2);
    let outward = Publisher::start(&near, &name("out"), qos, pace, 0);
    let inward = Publisher::start(&far, &name("in"), qos, pace, 0);
    let count = if full() { 5000 } else { 300 };
    while outward.acknowledged() < count || inward.acknowledged() < count {
        std::thread::park_timeout(Duration::from_millis(10));
    }
    for (collector, publisher, topic) in [(&arrived_far, &outward, "out"), (&arrived_near, &inward, "in")] {
        let sent = publisher.finish(LIMIT);
        let counts = collector.counts(&name(topic), sent, LIMIT);
        let lost = counts.iter().filter(|count| **count == 0).count();
        let twice = counts.iter().filter(|count| **count > 1).count();
        assert!(lost == 0 && twice == 0, "{topic}, QoS {qos}, {round}: {lost} lost, {twice} twice of {sent}");
    }
}

fn rabbitmq_both_ways() {
    apart(|| {
        let Some(engine) = RabbitMq::start("the bridge to RabbitMQ") else { return };
        // Debian's RabbitMQ knows 3.1 and 3.1.1. It closes without a word on 5, so that one has to fall back, and answers QoS 2
        // as if it were QoS 1.
        for (version, qos) in [("mqttv311", 0), ("mqttv311", 1), ("mqttv311", 2), ("mqttv50", 1), ("mqttv31", 1)] {
            let local = Broker::start_with(&bridge(version, &[engine.addr()], qos, ""));
            wait_until_up(&Collector::start(&Place::new(local.addr()), "state", "link/state", 1));
            both_ways(&local, engine.addr(), qos, &format!("{version}-{qos}"));
        }
    });
}

/// Which of the nodes our broker says it is connected to: a busy cluster sends clients away now and then.
fn connected_to(local: &Broker, nodes: &[SocketAddr; 3]) -> Option<usize> {
    let log = local.log_text();
    let line = log.lines().rev().find(|line| line.contains("Bridge link is connected to"))?;
    nodes.iter().position(|node| line.contains(&format!(" {node} ")))
}

fn nats_loses_a_node_and_no_message() {
    apart(|| {
        let Some(mut cluster) = Nats::start("the bridge to NATS") else { return };
        let nodes = [cluster.addr(0), cluster.addr(1), cluster.addr(2)];
        let local = Broker::start_with(&bridge("mqttv311", &nodes, 1, "round_robin true"));
        let near = Place::new(local.addr());
        let state = Collector::start(&near, "state", "link/state", 1);
        wait_until_up(&state);
        let far = Place::new(nodes[2]);
        let arrived = Collector::start(&far, "arrived", "out/#", 1);
        let publisher = Publisher::start(&near, "out/load", 1, Duration::from_millis(2), 0);
        let wait = |count: u32| {
            while publisher.acknowledged() < count {
                std::thread::park_timeout(Duration::from_millis(10));
            }
        };
        let more = if full() { 10_000 } else { 500 };
        wait(more);
        // Always the one that the bridge is connected to; it goes on with the next, and so do those who listen there.
        for round in 0..if full() { 9 } else { 2 } {
            let node = connected_to(&local, &nodes).unwrap_or(round % 3);
            let ups = |seen: &[Arrival]| seen.iter().filter(|state| state.payload == b"1").count();
            let before = ups(&state.arrivals("link/state"));
            far.set(nodes[(node + 2) % 3]);
            cluster.kill(node);
            let mark = publisher.acknowledged();
            wait(mark + more);
            let back = state.wait_for("link/state", LIMIT, |seen| ups(seen) > before);
            assert!(back, "no node after round {round}: {:?}", state.arrivals("link/state"));
            cluster.restart(node);
        }
        let sent = publisher.finish(LIMIT);
        let counts = arrived.counts("out/load", sent, LIMIT);
        let lost = counts.iter().filter(|count| **count == 0).count();
        assert_eq!(lost, 0, "lost of {sent}");
        println!("{sent} messages, {} more than once", counts.iter().filter(|count| **count > 1).count());
    });
}

fn nats_both_ways() {
    apart(|| {
        let Some(cluster) = Nats::start("the bridge to NATS") else { return };
        let nodes = [cluster.addr(0), cluster.addr(1), cluster.addr(2)];
        // Version 5 is answered with 0x84: fall back.
        for (version, qos) in [("mqttv311", 0), ("mqttv311", 1), ("mqttv50", 1)] {
            let local = Broker::start_with(&bridge(version, &nodes, qos, "round_robin true"));
            wait_until_up(&Collector::start(&Place::new(local.addr()), "state", "link/state", 1));
            both_ways(&local, nodes[1], qos, &format!("{version}-{qos}"));
        }
    });
}

fn nats_is_not_blocked_by_a_message_it_refuses() {
    apart(|| {
        let Some(cluster) = Nats::start("the bridge to NATS") else { return };
        let nodes = [cluster.addr(0), cluster.addr(1), cluster.addr(2)];
        let local = Broker::start_with(&bridge("mqttv311", &nodes, 2, ""));
        let near = Place::new(local.addr());
        wait_until_up(&Collector::start(&near, "state", "link/state", 1));
        let arrived = Collector::start(&Place::new(nodes[2]), "arrived", "out/#", 1);
        // It closes on each of these for ever: a dot, a space, and QoS 2.
        for (topic, qos) in [("out/a.b", 1), ("out/a b", 1), ("out/two", 2)] {
            let publisher = Publisher::start(&near, topic, qos, Duration::from_millis(1), 0);
            while publisher.acknowledged() < 1 {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            publisher.finish(LIMIT);
            let publisher = Publisher::start(&near, &format!("out/behind-{qos}"), 1, Duration::from_millis(1), 0);
            while publisher.acknowledged() < 1 {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            publisher.finish(LIMIT);
            let behind = format!("out/behind-{qos}");
            assert!(arrived.wait_for(&behind, LIMIT, |seen| !seen.is_empty()), "{topic} at QoS {qos} blocks the link");
        }
    });
}

#[test]
fn clustered_brokers() {
    side_by_side(&[
        ("rabbitmq_both_ways", rabbitmq_both_ways),
        ("nats_loses_a_node_and_no_message", nats_loses_a_node_and_no_message),
        ("nats_both_ways", nats_both_ways),
        ("nats_is_not_blocked_by_a_message_it_refuses", nats_is_not_blocked_by_a_message_it_refuses),
    ]);
}
