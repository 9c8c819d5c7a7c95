//! What a message costs that waits for another broker, beside C Mosquitto: `make bench`.
//!
//! A bridge whose peer is away, messages of QoS 1 that it has to keep, and the resident memory before and after them. All
//! that the operating system says about both programs in the same way, so also what their allocators keep for themselves.
//!
//! `BENCH_QUICK=1` queues fewer. `BENCH_C` names the other broker.

#[allow(dead_code)]
mod client;
#[allow(dead_code)]
mod process;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;

use process::{Kind, Process};

/// Nobody listens on port 1. The queue has no end, so that all of it is measured.
const ONE_BRIDGE: &str = "max_queued_messages 0\nconnection away\naddress 127.0.0.1:1\ntopic q/# out 1\n\
                          cleansession false\nrestart_timeout 3600\n";
const TWO_BRIDGES: &str = "max_queued_messages 0\nconnection away\naddress 127.0.0.1:1\ntopic q/# out 1\n\
                           cleansession false\nrestart_timeout 3600\nconnection gone\naddress 127.0.0.1:1\n\
                           topic q/# out 1\ncleansession false\nrestart_timeout 3600\n";
/// Messages sent before the first look, so that what is made once is there.
const WARM_UP: usize = 1000;
/// Messages sent before their acknowledgements are read.
const BATCH: usize = 200;

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

fn measure() -> io::Result<()> {
    let messages = if std::env::var_os("BENCH_QUICK").is_some() { 10_000 } else { 100_000 };
    let c = std::env::var("BENCH_C").unwrap_or_else(|_| "/usr/sbin/mosquitto".into());
    let mut programs = vec![("ours", env!("CARGO_BIN_EXE_mosquitto").to_owned())];
    if std::path::Path::new(&c).exists() {
        programs.push(("C", c));
    } else {
        println!("{c} is not there: nothing to compare with\n");
    }
    print!("{:<64}", format!("bytes of resident memory a queued message, {messages} of them"));
    for (name, _) in &programs {
        print!("{name:>10}");
    }
    println!("{:>10}", if programs.len() > 1 { "ours / C" } else { "" });
    for (what, config) in [("one bridge", ONE_BRIDGE), ("two bridges, the same messages", TWO_BRIDGES)] {
        for payload in [10, 100, 1000] {
            print!("{:<64}", format!("{what}, topic of 20 bytes, payload of {payload}"));
            let mut costs = Vec::new();
            for (name, program) in &programs {
                let broker = Process::start(&Kind { name, program: program.clone(), config })?;
                let mut stream = client::connect(broker.addr, "queued")?;
                publish(&mut stream, WARM_UP, payload)?;
                let before = broker.rss()?;
                publish(&mut stream, messages, payload)?;
                costs.push(broker.rss()?.saturating_sub(before) as f64 / messages as f64);
                print!("{:>10.0}", costs[costs.len() - 1]);
            }
            match costs[..] {
                [ours, c] => println!("{:>10.2}", ours / c),
                _ => println!(),
            }
        }
    }
    Ok(())
}

/// Publishes so many at QoS 1 and waits until the broker has them.
fn publish(stream: &mut TcpStream, messages: usize, payload: usize) -> io::Result<()> {
    let topic = "q/building/3/room/17";
    let mut left = messages;
    while left > 0 {
        let batch = left.min(BATCH);
        let mut bytes = Vec::new();
        for id in (1..=u16::MAX).take(batch) {
            let body = [&client::string(topic)[..], &id.to_be_bytes(), &vec![b'x'; payload]].concat();
            bytes.extend(client::packet(0x32, &body));
        }
        stream.write_all(&bytes)?;
        let mut answers = vec![0; 4 * batch];
        stream.read_exact(&mut answers)?;
        if answers.chunks(4).any(|answer| answer[..2] != [0x40, 2]) {
            return Err(io::Error::other("something else than PUBACK"));
        }
        left -= batch;
    }
    Ok(())
}
