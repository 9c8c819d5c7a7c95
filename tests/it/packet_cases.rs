//! The packet cases of the conformance set, one running broker for all of them. They are read from beside the project
//! and are not part of it; without them this test skips.
//!
//! `CASES=TEXT` runs only those whose file, group or name contains the text.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use serde_json::Value;

use crate::broker::{Broker, note};
use crate::client::{Client, Missing, hex, packet, publish, string};
use crate::tokens;

/// Where the set lies.
const SET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/conformance/mqtt-packets");

/// With so many cases waiting in vain, the rest need not wait as long.
const PATIENCE: usize = 10;

#[test]
fn packet_cases() {
    let Some(groups) = load() else { return };
    let broker = Broker::start();
    let (run, failures) = run_all(broker.addr(), &groups, false);
    note(&format!("packet cases: {run} run, {} failed", failures.len()));
    assert!(run > 0, "nothing matches CASES");
    let failures: Vec<_> = failures.into_iter().map(|(name, why)| format!("{name}\n        {why}")).collect();
    assert!(failures.is_empty(), "{} of {run} packet cases failed:\n{}", failures.len(), failures.join("\n"));
}

/// The groups of each file, in the order of the names of the files; `None` where the set is absent.
pub(crate) fn load() -> Option<Vec<(String, Value)>> {
    let Ok(dir) = fs::read_dir(Path::new(SET)) else {
        note(&format!("packet cases skipped: {SET} is not there"));
        return None;
    };
    let mut files: Vec<_> =
        dir.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    let parsed = files.iter().map(|path| {
        let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).expect("a readable file");
        let groups = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
        (file, groups)
    });
    Some(parsed.collect())
}

/// Runs every test: how many ran, and the name of each that failed with the reason. With `short_ids` the client ids are
/// not those of the set but ones that MQTT 3.1 permits.
pub(crate) fn run_all(addr: SocketAddr, groups: &[(String, Value)], short_ids: bool) -> (usize, Vec<(String, String)>) {
    let only = env::var("CASES").unwrap_or_default();
    let (mut run, mut timeouts, mut failures) = (0, 0, Vec::new());
    for (file, groups) in groups {
        for group in groups.as_array().expect("an array of groups") {
            for test in group["tests"].as_array().expect("an array of tests") {
                let id = format!("{} {}", text_of(group, "group"), text_of(test, "name"));
                let name = format!("{file}: {id}");
                if !name.contains(&only) {
                    continue;
                }
                run += 1;
                let limit = Duration::from_millis(if timeouts < PATIENCE { 2000 } else { 250 });
                let id = if short_ids { format!("packet-case-{run}") } else { id };
                match case(addr, &id, group, test, limit) {
                    Ok(()) => println!("ok      {name}"),
                    Err(why) => {
                        println!("FAILED  {name}\n        {why}");
                        timeouts += usize::from(why.contains("TimedOut"));
                        failures.push((name, why));
                    }
                }
            }
        }
    }
    (run, failures)
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Runs one test of a group as the client `id`.
fn case(addr: SocketAddr, id: &str, group: &Value, test: &Value, limit: Duration) -> Result<(), String> {
    // A test may override what its group says.
    let setting = |key: &str| test.get(key).or_else(|| group.get(key));
    let flag = |key: &str| setting(key).and_then(Value::as_bool).unwrap_or(true);
    let version = setting("ver").and_then(Value::as_u64).unwrap_or(4);

    let mut client = Client::try_open(addr).map_err(|e| format!("cannot connect: {e}"))?;
    client.set_limit(limit);
    if flag("connect") {
        client.send(&connect(version, id));
        let ack = if version == 5 { "20 0E 00 00 0B 22 00 0A 27 00 1E 84 80 21 00 14" } else { "20 02 00 00" };
        recv(&mut client, "CONNACK", &tokens::bytes(ack)?)?;
    }
    let messages = test["msgs"].as_array().map_or(&[][..], Vec::as_slice);
    for (at, message) in messages.iter().enumerate() {
        let step = format!("message {}", at + 1);
        match text_of(message, "type") {
            "send" => client.send(&tokens::bytes(text_of(message, "payload"))?),
            "recv" => recv(&mut client, &step, &tokens::bytes(text_of(message, "payload"))?)?,
            "publish" => helper(addr, limit, message)?,
            other => return Err(format!("{step}: unknown type {other:?}")),
        }
    }
    if flag("expect_disconnect") {
        match client.recv(1) {
            Err(Missing::Closed(_)) => Ok(()),
            Err(Missing::TimedOut(_)) => Err("end: wanted the end of the connection: TimedOut".into()),
            Ok(byte) => {
                // More for the reader's understanding of what came instead.
                client.set_limit(Duration::from_millis(20));
                let rest = match client.recv(64) {
                    Ok(rest) | Err(Missing::Closed(rest) | Missing::TimedOut(rest)) => rest,
                };
                Err(format!("end: wanted the end of the connection, got {} {}", hex(&byte), hex(&rest)))
            }
        }
    } else {
        client.send(&[0xC0, 0]);
        recv(&mut client, "PINGRESP", &[0xD0, 0])
    }
}

fn recv(client: &mut Client, step: &str, wanted: &[u8]) -> Result<(), String> {
    match client.recv(wanted.len()) {
        Ok(got) if got == wanted => Ok(()),
        Ok(got) => Err(format!("{step}: wanted {}\n        {step}: got    {}", hex(wanted), hex(&got))),
        Err(missing) => {
            let (Missing::Closed(got) | Missing::TimedOut(got)) = &missing;
            let how = if matches!(missing, Missing::Closed(_)) { "then closed" } else { "then TimedOut" };
            Err(format!("{step}: wanted {}\n        {step}: got    {} {how}", hex(wanted), hex(got)))
        }
    }
}

/// The CONNECT that the set prescribes: clean session, keepalive 60, and for version 5 receive maximum 20.
fn connect(version: u64, client_id: &str) -> Vec<u8> {
    let mut body = string(if version == 3 { "MQIsdp" } else { "MQTT" });
    body.extend([version.to_le_bytes()[0], 0x02, 0, 60]);
    if version == 5 {
        body.extend([3, 0x21, 0, 20]);
    }
    body.extend(string(client_id));
    packet(0x10, &body)
}

/// Publishes on a second connection and finishes the handshake of the QoS.
fn helper(addr: SocketAddr, limit: Duration, message: &Value) -> Result<(), String> {
    let mut client = Client::try_open(addr).map_err(|e| format!("helper: {e}"))?;
    client.set_limit(limit);
    client.send(&connect(4, "helper"));
    recv(&mut client, "helper CONNACK", &[0x20, 2, 0, 0])?;
    let qos = message["qos"].as_u64().unwrap_or(0).to_le_bytes()[0];
    client.send(&publish(4, qos << 1, text_of(message, "topic"), 1, text_of(message, "payload").as_bytes()));
    match qos {
        0 => Ok(()),
        1 => recv(&mut client, "helper PUBACK", &[0x40, 2, 0, 1]),
        _ => {
            recv(&mut client, "helper PUBREC", &[0x50, 2, 0, 1])?;
            client.send(&[0x62, 2, 0, 1]);
            recv(&mut client, "helper PUBCOMP", &[0x70, 2, 0, 1])
        }
    }
}
