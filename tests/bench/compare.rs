//! Memory and processor time beside C Mosquitto: `make bench`.
//!
//! Both brokers get the same clients, messages and options from this program; only what the broker process itself
//! uses is measured. C Mosquitto runs twice: with its defaults, and with the options that make it comparable
//! (`set_tcp_nodelay true`, `max_inflight_messages 1000`; and `max_queued_messages 0`, without which 2.0.11 drops some of
//! these messages), which ours gets as well.
//!
//! `BENCH_QUICK=1` runs a tenth of everything, once, to see that it works. `BENCH_C` names the other broker.

mod client;
// What only the other benchmark asks for.
#[allow(dead_code)]
mod process;

use std::io;
use std::net::UdpSocket;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::Load;
use process::{Kind, Process, raise_descriptor_limit};

/// The longest one measurement may take.
const LIMIT: Duration = Duration::from_secs(30);
const TUNED: &str = "set_tcp_nodelay true\nmax_inflight_messages 1000\nmax_queued_messages 0\n";

fn main() -> ExitCode {
    // `cargo test --benches` and `cargo bench` pass options of their harness.
    if std::env::args().any(|arg| arg == "--test" || arg == "--list") {
        return ExitCode::SUCCESS;
    }
    match compare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> io::Result<()> {
    let quick = std::env::var_os("BENCH_QUICK").is_some();
    let c = std::env::var("BENCH_C").unwrap_or_else(|_| "/usr/sbin/mosquitto".into());
    let ours = env!("CARGO_BIN_EXE_mosquitto").to_owned();
    raise_descriptor_limit()?;

    let mut kinds = vec![Kind { name: "ours", program: ours, config: TUNED }];
    if std::path::Path::new(&c).exists() {
        kinds.push(Kind { name: "C, tuned", program: c.clone(), config: TUNED });
        kinds.push(Kind { name: "C, default", program: c, config: "" });
    } else {
        println!("{c} is not there: nothing to compare with\n");
    }
    print!("{:<50}", "");
    for kind in &kinds {
        print!("{:>14}", kind.name);
    }
    println!("{:>14}", if kinds.len() > 1 { "ours / tuned" } else { "" });
    memory(&kinds, quick)?;
    if cfg!(feature = "mqttsn") {
        memory_of_devices(&kinds[0], quick)?;
    }
    processor(&kinds, quick)
}

fn row(name: &str, values: &[Option<u64>], unit: &str) {
    print!("{:<50}", format!("{name}, {unit}"));
    for value in values {
        print!("{:>14}", value.map_or("-".to_owned(), |value| value.to_string()));
    }
    if let [Some(ours), Some(c), ..] = values {
        print!("{:>14.2}", *ours as f64 / (*c).max(1) as f64);
    }
    println!();
}

/// Resident memory with idle clients.
fn memory(kinds: &[Kind], quick: bool) -> io::Result<()> {
    let counts: [usize; 2] = if quick { [100, 1000] } else { [1000, 10_000] };
    for subscribed in [false, true] {
        let with = if subscribed { "1 subscription each" } else { "no subscriptions" };
        let mut table = vec![Vec::new(); 6];
        for kind in kinds {
            let broker = Process::start(kind)?;
            let empty = broker.rss()?;
            table[0].push(Some(empty / 1024));
            table[1].push(Some(broker.pss()? / 1024));
            let mut clients = Vec::new();
            for (at, count) in counts.into_iter().enumerate() {
                for n in clients.len()..count {
                    let mut stream = client::connect(broker.addr, &format!("idle-client-{n:05}"))?;
                    if subscribed {
                        client::subscribe(&mut stream, &format!("idle/room/{n:05}/temperature"), 0)?;
                    }
                    clients.push(stream);
                }
                let rss = broker.rss()?;
                table[2 + 2 * at].push(Some(rss / 1024));
                table[3 + 2 * at].push(Some(rss.saturating_sub(empty) / count as u64));
            }
        }
        if !subscribed {
            row("resident, no clients", &table[0], "KiB");
            row("proportional (Pss), no clients", &table[1], "KiB");
        }
        for (at, count) in counts.into_iter().enumerate() {
            row(&format!("resident, {count} clients, {with}"), &table[2 + 2 * at], "KiB");
            row("  per client", &table[3 + 2 * at], "bytes");
        }
    }
    Ok(())
}

/// Resident memory with idle MQTT-SN devices, which only ours serves.
fn memory_of_devices(ours: &Kind, quick: bool) -> io::Result<()> {
    let port = UdpSocket::bind(("127.0.0.1", 0))?.local_addr()?.port();
    // The listener is one more line of the configuration, for as long as this program runs.
    let config = Box::leak(format!("listener {port} 127.0.0.1\nprotocol mqtt-sn\n").into_boxed_str());
    let broker = Process::start(&Kind { name: ours.name, program: ours.program.clone(), config })?;
    let deadline = Instant::now() + LIMIT;
    let connect = |n: usize| -> io::Result<UdpSocket> {
        let device = UdpSocket::bind(("127.0.0.1", 0))?;
        device.connect(("127.0.0.1", port))?;
        device.set_read_timeout(Some(LIMIT))?;
        let mut datagram = vec![0, 0x04, 0x04, 1, 0xFF, 0xFF];
        datagram.extend(format!("idle-client-{n:05}").bytes());
        datagram[0] = u8::try_from(datagram.len()).unwrap_or(u8::MAX);
        let mut answer = [0; 8];
        loop {
            // The port opens a moment after that for TCP.
            match device.send(&datagram).and_then(|_| device.recv(&mut answer)) {
                Ok(3) if answer[..3] == [3, 0x05, 0] => return Ok(device),
                Ok(_) => return Err(io::Error::other("no CONNACK from the MQTT-SN listener")),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
        }
    };
    let (mut devices, mut empty) = (vec![connect(0)?], None);
    for count in if quick { [100, 1000] } else { [1000, 10_000] } {
        let empty = *empty.get_or_insert(broker.rss()?);
        for n in devices.len()..count {
            devices.push(connect(n)?);
        }
        let rss = broker.rss()?;
        row(&format!("resident, {count} MQTT-SN devices"), &[Some(rss / 1024)], "KiB");
        row("  per device", &[Some(rss.saturating_sub(empty) / count as u64)], "bytes");
    }
    Ok(())
}

/// Processor time of the broker per delivered message.
fn processor(kinds: &[Kind], quick: bool) -> io::Result<()> {
    let one = |qos, messages| Load { publishers: 1, subscribers: 1, qos, messages, window: 100 };
    let loads = [
        ("QoS 0, 1 to 1, 100 under way", one(0, 100_000)),
        ("QoS 1, 1 to 1, 100 under way", one(1, 50_000)),
        ("QoS 2, 1 to 1, 100 under way", one(2, 30_000)),
        ("QoS 0, 1 to 100, 10 under way", Load { publishers: 1, subscribers: 100, qos: 0, messages: 2000, window: 10 }),
        ("QoS 1, 1 to 100, 10 under way", Load { publishers: 1, subscribers: 100, qos: 1, messages: 1000, window: 10 }),
        (
            "QoS 0, 100 to 1, 100 under way",
            Load { publishers: 100, subscribers: 1, qos: 0, messages: 50_000, window: 100 },
        ),
        (
            "QoS 1, 100 to 1, 100 under way",
            Load { publishers: 100, subscribers: 1, qos: 1, messages: 50_000, window: 100 },
        ),
    ];
    let rounds = if quick { 1 } else { 5 };
    for (name, mut load) in loads {
        if quick {
            load.messages /= 10;
        }
        // Brokers take turns, so that a busy moment of the machine does not hit one of them alone; the median counts.
        let mut all = vec![Vec::new(); kinds.len()];
        let mut rates = vec![Vec::new(); kinds.len()];
        let mut failed = vec![None; kinds.len()];
        for _ in 0..rounds {
            for (at, kind) in kinds.iter().enumerate() {
                if failed[at].is_some() {
                    continue;
                }
                let broker = Process::start(kind)?;
                let before = AtomicU64::new(0);
                let start = || before.store(broker.cpu().unwrap_or(0), Ordering::Relaxed);
                match client::run(broker.addr, load, LIMIT, start) {
                    Ok(took) => {
                        let used = broker.cpu()?.saturating_sub(before.into_inner());
                        let count = load.deliveries() as u64;
                        all[at].push(used / count);
                        rates[at].push(count * 1000 / u64::try_from(took.as_millis()).unwrap_or(1).max(1));
                    }
                    Err(e) => failed[at] = Some(e.to_string()),
                }
            }
        }
        let median = |mut values: Vec<u64>| {
            values.sort_unstable();
            values.get(values.len() / 2).copied()
        };
        row(name, &all.into_iter().map(median).collect::<Vec<_>>(), "ns/message");
        row("  delivered", &rates.into_iter().map(median).collect::<Vec<_>>(), "messages/s");
        for (kind, why) in kinds.iter().zip(failed) {
            if let Some(why) = why {
                println!("  ({}: {why})", kind.name);
            }
        }
    }
    Ok(())
}
