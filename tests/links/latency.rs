//! How long a message takes from one local client to another while a bridge has its troubles.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::{connect, publish, subscribe};

/// When a message was sent and how long it took.
pub(crate) type Sample = (Instant, Duration);

/// A client that publishes to itself, QoS 0, every few milliseconds.
pub(crate) struct Latency {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Sample>>>,
}

impl Latency {
    pub(crate) fn start(addr: SocketAddr) -> Latency {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = thread::spawn(move || measure(addr, &flag));
        Latency { stop, thread: Some(thread) }
    }

    /// Ends it and returns all samples.
    pub(crate) fn finish(mut self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("once").join().expect("a client that is served")
    }
}

impl Drop for Latency {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn measure(addr: SocketAddr, stop: &AtomicBool) -> Vec<Sample> {
    let mut stream = TcpStream::connect(addr).expect("a broker");
    stream.set_nodelay(true).expect("an option");
    // Longer than any stall a test wants to see as a sample.
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    stream.write_all(&[connect(4, "latency"), subscribe(4, 1, "latency", 0)].concat()).expect("a broker that reads");
    stream.read_exact(&mut [0; 9]).expect("CONNACK and SUBACK");
    let message = publish(4, 0, "latency", 0, b"tick");
    let mut samples = Vec::new();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        due += Duration::from_millis(4);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let sent = Instant::now();
        stream.write_all(&message).expect("a broker that reads");
        let mut answer = vec![0; message.len()];
        stream.read_exact(&mut answer).expect("the message");
        assert_eq!(answer, message);
        samples.push((sent, sent.elapsed()));
        // After a stall it does not catch up.
        due = due.max(Instant::now() - Duration::from_millis(4));
    }
    samples
}

/// The value that 99 of 100 stay below.
pub(crate) fn p99(samples: impl Iterator<Item = Duration>) -> Duration {
    let mut all: Vec<Duration> = samples.collect();
    all.sort_unstable();
    all.get(all.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
}
