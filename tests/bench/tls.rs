//! What TLS costs beside C Mosquitto: memory of idle connections, and processor time of handshakes. `make bench`.
//!
//! Both brokers have the same certificate, with a P-256 key, and the same clients, which show none. C is as Debian builds
//! it, with OpenSSL. Only what the broker process itself uses is measured, so a handshake is there with the CONNECT behind
//! it and with the end of the connection. `BENCH_QUICK=1` runs a tenth. `BENCH_C` names the other broker.

#[allow(dead_code)]
mod client;
#[allow(dead_code)]
mod process;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use process::{Kind, Process, raise_descriptor_limit};

const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/tls/cert.pem");
const CONFIG: &str = concat!(
    "certfile ",
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fuzz/tls/cert.pem\nkeyfile ",
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fuzz/tls/key.pem\n"
);

type Tls = StreamOwned<ClientConnection, TcpStream>;

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
    let quick = std::env::var_os("BENCH_QUICK").is_some();
    let c = std::env::var("BENCH_C").unwrap_or_else(|_| "/usr/sbin/mosquitto".into());
    let mut kinds = vec![Kind { name: "ours", program: env!("CARGO_BIN_EXE_mosquitto").to_owned(), config: CONFIG }];
    if std::path::Path::new(&c).exists() {
        kinds.push(Kind { name: "C", program: c, config: CONFIG });
    } else {
        println!("{c} is not there: nothing to compare with\n");
    }
    raise_descriptor_limit()?;
    print!("{:<50}", "TLS");
    for kind in &kinds {
        print!("{:>14}", kind.name);
    }
    println!("{:>14}", if kinds.len() > 1 { "ours / C" } else { "" });
    memory(&kinds, if quick { 200 } else { 2000 })?;
    handshakes(&kinds, if quick { (1, 50) } else { (5, 400) })
}

fn row(name: &str, values: &[u64], unit: &str) {
    print!("{:<50}", format!("{name}, {unit}"));
    for value in values {
        print!("{value:>14}");
    }
    if let [ours, c] = values {
        print!("{:>14.2}", *ours as f64 / (*c).max(1) as f64);
    }
    println!();
}

/// A client that trusts the certificate.
fn config(is_tls13: bool, resumes: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(CERTIFICATE).expect("a certificate")).expect("an authority");
    let mut config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_protocol_versions(&[if is_tls13 { &TLS13 } else { &TLS12 }])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    config.into()
}

/// A client whose CONNECT was accepted.
fn connect(addr: SocketAddr, config: &Arc<ClientConfig>, id: &str) -> io::Result<Tls> {
    let socket = TcpStream::connect(addr)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?, socket);
    tls.write_all(&client::hello(id, 0))?;
    let mut answer = [0; 4];
    tls.read_exact(&mut answer)?;
    if answer == [0x20, 2, 0, 0] { Ok(tls) } else { Err(io::Error::other(format!("{answer:?} instead of CONNACK"))) }
}

/// Resident memory of idle connections.
fn memory(kinds: &[Kind], count: usize) -> io::Result<()> {
    for (is_tls13, name) in [(true, "TLS 1.3"), (false, "TLS 1.2")] {
        let config = config(is_tls13, false);
        let mut table = [Vec::new(), Vec::new()];
        for kind in kinds {
            let broker = Process::start(kind)?;
            // What is made once is not counted.
            drop(connect(broker.addr, &config, "first")?);
            let empty = broker.rss()?;
            let mut held = Vec::new();
            for n in 0..count {
                held.push(connect(broker.addr, &config, &format!("idle-client-{n:05}"))?);
            }
            let rss = broker.rss()?;
            table[0].push(rss / 1024);
            table[1].push(rss.saturating_sub(empty) / count as u64);
        }
        row(&format!("resident, {count} idle clients, {name}"), &table[0], "KiB");
        row("  per client", &table[1], "bytes");
    }
    Ok(())
}

/// How many clients may come and go for each second of processor time.
fn handshakes(kinds: &[Kind], (rounds, count): (usize, usize)) -> io::Result<()> {
    for (is_tls13, resumes, name) in [
        (true, false, "handshakes, TLS 1.3"),
        (true, true, "resumptions, TLS 1.3"),
        (false, false, "handshakes, TLS 1.2"),
        (false, true, "resumptions, TLS 1.2"),
    ] {
        let wanted = if resumes { HandshakeKind::Resumed } else { HandshakeKind::Full };
        let mut all = vec![Vec::new(); kinds.len()];
        // Brokers take turns, so that a busy moment of the machine does not hit one of them alone; the median counts.
        for _ in 0..rounds {
            for (kind, all) in kinds.iter().zip(&mut all) {
                let broker = Process::start(kind)?;
                let config = config(is_tls13, resumes);
                drop(connect(broker.addr, &config, "first")?);
                let before = broker.cpu()?;
                for _ in 0..count {
                    let tls = connect(broker.addr, &config, "passing")?;
                    if tls.conn.handshake_kind() != Some(wanted) {
                        return Err(io::Error::other(format!("{}: {name} do not happen", kind.name)));
                    }
                }
                let used = broker.cpu()?.saturating_sub(before);
                all.push(count as u64 * 1_000_000_000 / used.max(1));
            }
        }
        let median = |mut values: Vec<u64>| {
            values.sort_unstable();
            values[values.len() / 2]
        };
        row(name, &all.into_iter().map(median).collect::<Vec<_>>(), "a second of processor time");
    }
    Ok(())
}
