//! Loading and saving the database beside C Mosquitto: time, processor time, peak memory, and how long a client waits for
//! an answer while a save is under way: `cargo bench --bench store`.
//!
//! Both brokers read the same files, which are written here, and save on SIGUSR1. The time of a load is that of a start
//! until the port is open, without that of a start without a database. Each figure is the median of five runs;
//! `BENCH_QUICK=1` takes one. `BENCH_C` names the other broker.
//!
//! How much of a save falls into one turn of our loop is measured in this process, with the core and the encoder alone: on
//! a busy machine the clock tells more of the others.

#[allow(dead_code)]
mod client;
#[allow(dead_code)]
mod process;

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mosquitto::broker::{Broker, SnapshotState};
use mosquitto::config::Global;
use mosquitto::persist::chunk::{Client, ClientMessage, Config, Message, NEVER, Retained, State, Subscription};
use mosquitto::persist::db::Db;
use mosquitto::persist::load::load;
use mosquitto::persist::save::Saver;
use mosquitto::persist::write::Writer;
use mosquitto::timer::Now;
use mosquitto::wire::QoS;
use mosquitto::wire::subscribe::SubscribeOptions;

use process::{Kind, Process};

/// How long one of them may take.
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--test" || arg == "--list") {
        return ExitCode::SUCCESS;
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

/// What is measured of one broker and one file.
const FIGURES: [&str; 7] = [
    "load, ms",
    "load, processor time, ms",
    "resident after the load, KiB",
    "peak while loading, KiB",
    "save, ms",
    "peak with the save, KiB",
    "longest wait of a client during the save, ms",
];

/// A folder for the databases, removed when dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn measure() -> io::Result<()> {
    let runs = if std::env::var_os("BENCH_QUICK").is_some() { 1 } else { 5 };
    let c = std::env::var("BENCH_C").unwrap_or_else(|_| "/usr/sbin/mosquitto".into());
    let folder = Folder(std::env::temp_dir().join(format!("mosquitto-bench-store-{}", std::process::id())));
    fs::create_dir_all(&folder.0)?;
    let config: &'static str = format!(
        "user root\npersistence true\npersistence_location {}/\nautosave_interval 0\nmax_queued_messages 0\n",
        folder.0.display()
    )
    .leak();
    let mut kinds = vec![Kind { name: "ours", program: env!("CARGO_BIN_EXE_mosquitto").to_owned(), config }];
    if Path::new(&c).exists() {
        kinds.push(Kind { name: "C", program: c, config });
    } else {
        println!("{c} is not there: nothing to compare with\n");
    }
    let file = folder.0.join("mosquitto.db");
    type Make = fn() -> Vec<u8>;
    let stores: [(&str, Make); 3] = [
        ("100,000 retained messages", retained),
        ("10,000 sessions, 100 messages queued for each, the same for all", || sessions(true)),
        ("10,000 sessions, 100 messages queued for each, all different", || sessions(false)),
    ];
    for (name, make) in stores {
        let content = make();
        print!("\n{:<66}", format!("{name} ({} KiB)", content.len() / 1024));
        kinds.iter().for_each(|kind| print!("{:>12}", kind.name));
        println!("{:>12}", if kinds.len() > 1 { "ours / C" } else { "" });
        let mut columns = Vec::new();
        for kind in &kinds {
            let mut all = Vec::new();
            for _ in 0..runs {
                all.push(run(kind, &file, &content)?);
            }
            let median = |i: usize| {
                let mut values: Vec<f64> = all.iter().map(|figures| figures[i]).collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            columns.push((0..FIGURES.len()).map(median).collect::<Vec<f64>>());
        }
        for (i, figure) in FIGURES.iter().enumerate() {
            print!("{figure:<66}");
            columns.iter().for_each(|column| print!("{:>12.1}", column[i]));
            match &columns[..] {
                [ours, c] => println!("{:>12.2}", ours[i] / c[i]),
                _ => println!(),
            }
        }
        let turns = (0..runs).map(|_| longest_turn(&content)).collect::<io::Result<Vec<f64>>>()?;
        println!(
            "{:<66}{:>12.3}",
            "longest turn of a save, processor time, ms",
            turns.iter().copied().fold(f64::MAX, f64::min)
        );
    }
    Ok(())
}

/// Loads and saves a file once.
fn run(kind: &Kind, file: &Path, content: &[u8]) -> io::Result<[f64; FIGURES.len()]> {
    let _none_yet = fs::remove_file(file);
    let start = |kind: &Kind| -> io::Result<(Process, f64, f64)> {
        let begun = Instant::now();
        let process = Process::start(kind)?;
        let wall = begun.elapsed().as_secs_f64() * 1e3;
        let cpu = process.cpu()? as f64 / 1e6;
        Ok((process, wall, cpu))
    };
    let (empty, empty_wall, empty_cpu) = start(kind)?;
    drop(empty);
    fs::write(file, content)?;
    let (process, wall, cpu) = start(kind)?;
    let rss = process.rss()?;
    let loaded_peak = process.peak()?;

    // Somebody who wants to be answered all the while.
    let mut stream = client::connect(process.addr, "waiting")?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut ping = || -> io::Result<f64> {
        let sent = Instant::now();
        stream.write_all(&[0xC0, 0])?;
        stream.read_exact(&mut [0; 2])?;
        Ok(sent.elapsed().as_secs_f64() * 1e3)
    };
    for _ in 0..100 {
        ping()?;
    }
    let before = fs::metadata(file)?.ino();
    let begun = Instant::now();
    process.signal("USR1")?;
    let mut longest: f64 = 0.0;
    while fs::metadata(file)?.ino() == before {
        longest = longest.max(ping()?);
        if begun.elapsed() > LIMIT {
            return Err(io::Error::other(format!("{} does not save", kind.name)));
        }
    }
    let saved = begun.elapsed().as_secs_f64() * 1e3;
    let written = fs::metadata(file)?.len();
    if written < content.len() as u64 * 9 / 10 {
        return Err(io::Error::other(format!("{} saved {written} of {} bytes", kind.name, content.len())));
    }
    let saved_peak = process.peak()?;
    let kib = |bytes: u64| bytes as f64 / 1024.0;
    Ok([
        (wall - empty_wall).max(0.1),
        (cpu - empty_cpu).max(0.1),
        kib(rss),
        kib(loaded_peak),
        saved,
        kib(saved_peak),
        longest,
    ])
}

/// Items and bytes of one turn, as `net/store.rs` has them.
const TURN: (usize, usize) = (2000, 256 * 1024);

/// Processor time of this thread in milliseconds.
#[allow(unsafe_code)]
fn own_cpu() -> io::Result<f64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6)
}

/// The most processor time that one turn spends on a save of this content, in milliseconds.
fn longest_turn(content: &[u8]) -> io::Result<f64> {
    let now = Now { mono_ms: 1_000_000, wall_s: 1_800_000_000 };
    let mut broker = Broker::new(Global { sys_interval: 0, persistence: true, ..Global::default() }, [1, 2], now);
    load(&mut broker, content, now, false)?;
    broker.restored(now);
    let mut saver = Saver::new(now, false, 0);
    let mut longest: f64 = 0.0;
    let begun = own_cpu()?;
    broker.begin_snapshot(now, false);
    longest = longest.max(own_cpu()? - begun);
    let mut state = SnapshotState::More;
    while state == SnapshotState::More {
        let begun = own_cpu()?;
        let mut left = TURN.0;
        while left > 0 && saver.out_len() < TURN.1 && state == SnapshotState::More {
            state = broker.snapshot_slice(64, &mut |item| saver.add(&item));
            left = left.saturating_sub(64);
        }
        longest = longest.max(own_cpu()? - begun);
        // What the disk worker takes.
        if let Some(mut bytes) = saver.take_out() {
            bytes.clear();
            saver.give_spare(bytes);
        }
    }
    Ok(longest)
}

fn written(db: &Db<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    db.write(Writer::NATIVE, &mut out).expect("a store that can be written");
    out
}

fn message<'a>(store_id: u64, topic: &'a str, payload: &'a [u8], qos: QoS, retain: bool) -> Message<'a> {
    let (source_id, source_port, props) = ("publisher", 1883, Cow::Borrowed(&[][..]));
    Message { store_id, topic, payload, qos, retain, source_id, source_port, props, ..Message::default() }
}

fn retained() -> Vec<u8> {
    let topics: Vec<String> = (0..100_000).map(|n| format!("house/area{}/device{n}/state", n % 100)).collect();
    let payload = [b'x'; 100];
    let ids = 1..=topics.len() as u64;
    written(&Db {
        config: Some(Config { last_db_id: topics.len() as u64, shutdown: true }),
        messages: ids.clone().zip(&topics).map(|(id, t)| message(id, t, &payload, QoS::AtLeastOnce, true)).collect(),
        retained: ids.map(|store_id| Retained { store_id }).collect(),
        ..Db::default()
    })
}

fn sessions(same: bool) -> Vec<u8> {
    let clients: Vec<String> = (0..10_000).map(|n| format!("client-{n:05}")).collect();
    let payload = [b'x'; 100];
    let messages = if same { 100 } else { 1_000_000 };
    let store_id = |client: u64, n: u64| 1 + n + if same { 0 } else { client * 100 };
    let queued = |client: u64, id: &'static str| {
        (0..100).map(move |n| ClientMessage {
            client_id: id,
            store_id: store_id(client, n),
            packet_id: u16::try_from(n + 1).unwrap_or(1),
            qos: QoS::AtLeastOnce,
            state: State::Queued,
            ..ClientMessage::default()
        })
    };
    let clients: Vec<&'static str> = clients.into_iter().map(|id| &*id.leak()).collect();
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    written(&Db {
        config: Some(Config { last_db_id: messages, shutdown: true }),
        messages: (1..=messages).map(|id| message(id, "house/events", &payload, QoS::AtLeastOnce, false)).collect(),
        clients: clients
            .iter()
            .map(|id| Client { id, session_expiry_interval: NEVER, last_packet_id: 100, ..Client::default() })
            .collect(),
        client_messages: (0..).zip(&clients).flat_map(|(n, id)| queued(n, id)).collect(),
        subscriptions: clients
            .iter()
            .map(|client_id| Subscription { client_id, filter: "house/events", options, identifier: 0 })
            .collect(),
        ..Db::default()
    })
}
