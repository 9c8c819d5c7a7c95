//! How often a broker wakes that has nothing to do, beside C Mosquitto: `make bench`.
//!
//! The kernel counts how often the process goes to sleep of its own accord; a wake-up ends with that. The clients are
//! connected and silent, with `sys_interval` as it is by default. Ours must stay below two a second.
//!
//! Measured for 40 seconds, in which the time to connect runs out that every connection is given; `BENCH_QUICK=1` measures
//! 5.
//! `BENCH_C` names the other broker.

#[allow(dead_code)]
mod client;
#[allow(dead_code)]
mod process;

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use process::{Kind, Process, raise_descriptor_limit};

/// Wake-ups a second that ours must stay below.
const MOST: f64 = 2.0;

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--test" || arg == "--list") {
        return ExitCode::SUCCESS;
    }
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("bench: {MOST} wake-ups a second and more");
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the table; false when ours wakes too often.
fn measure() -> io::Result<bool> {
    let span = Duration::from_secs(if std::env::var_os("BENCH_QUICK").is_some() { 5 } else { 40 });
    let c = std::env::var("BENCH_C").unwrap_or_else(|_| "/usr/sbin/mosquitto".into());
    let mut kinds = vec![Kind { name: "ours", program: env!("CARGO_BIN_EXE_mosquitto").to_owned(), config: "" }];
    if std::path::Path::new(&c).exists() {
        kinds.push(Kind { name: "C, default", program: c, config: "" });
    } else {
        println!("{c} is not there: nothing to compare with\n");
    }
    print!("{:<50}", "wake-ups of an idle broker, a second");
    for kind in &kinds {
        print!("{:>14}", kind.name);
    }
    println!();
    raise_descriptor_limit()?;
    let rows = [("no clients", 0, 0), ("1000 clients, keepalive 0", 1000, 0), ("1000 clients, keepalive 60", 1000, 60)];
    // All brokers at once: they do nothing but sleep.
    let mut running = Vec::new();
    for (_, clients, keepalive_s) in rows {
        for kind in &kinds {
            let broker = Process::start(kind)?;
            let mut held = Vec::new();
            for n in 0..clients {
                held.push(client::connect_for(broker.addr, &format!("idle-{n:04}"), keepalive_s)?);
            }
            running.push((broker, held));
        }
    }
    // The last answers have been written by now, but perhaps a broker has not gone to sleep after them.
    thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    let before = running.iter().map(|(broker, _)| broker.sleeps()).collect::<io::Result<Vec<u64>>>()?;
    thread::sleep(span);
    let after = running.iter().map(|(broker, _)| broker.sleeps()).collect::<io::Result<Vec<u64>>>()?;
    let seconds = begin.elapsed().as_secs_f64();
    let rates: Vec<f64> = after.iter().zip(&before).map(|(after, before)| (after - before) as f64 / seconds).collect();
    let mut good = true;
    for ((name, ..), rates) in rows.into_iter().zip(rates.chunks(kinds.len())) {
        print!("{name:<50}");
        for rate in rates {
            print!("{rate:>14.2}");
        }
        println!();
        good &= rates[0] < MOST;
    }
    Ok(good)
}
