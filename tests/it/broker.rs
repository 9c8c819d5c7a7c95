//! A broker process for one test: its own port, its own configuration file, its log kept for assertions.
//!
//! `MOSQUITTO_UNDER_TEST` names another broker to run the same tests against, for example Debian's, and
//! `MOSQUITTO_UNDER_TEST_CONFIG` further lines for its configuration.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a broker may take to start or to stop.
const START_LIMIT: Duration = Duration::from_secs(10);

/// What every test here starts from: whoever connects is let in.
const OPEN: &str = "allow_anonymous true\n";

/// Lines the broker wrote, filled by a thread that reads its standard error.
#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a line behind the first `from` contains `text`. False when the time is up or the broker has closed its
    /// log.
    fn wait_for(&self, from: usize, text: &str, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if state.lines.iter().skip(from).any(|line| line.contains(text)) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A running broker, killed when dropped.
pub(crate) struct Broker {
    child: Child,
    port: u16,
    log: Arc<Log>,
    dir: PathBuf,
}

impl Broker {
    /// A broker with one listener that lets everyone in.
    pub(crate) fn start() -> Broker {
        Broker::start_with("")
    }

    /// A broker with one listener, `allow_anonymous true` and these further lines of configuration.
    pub(crate) fn start_with(lines: &str) -> Broker {
        Broker::start_command(lines, || Command::new(program()))
    }

    /// As [`Broker::start_with`], with room for so many descriptors and no way to more.
    pub(crate) fn start_with_descriptors(lines: &str, descriptors: u32) -> Broker {
        Broker::start_command(lines, || {
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")).arg(program());
            command
        })
    }

    /// As [`Broker::start_with`], with `-p` for a port that counts when no listener is configured.
    pub(crate) fn start_with_local_port(lines: &str, port: u16) -> Broker {
        Broker::start_command(lines, || {
            let mut command = Command::new(program());
            command.args(["-p", &port.to_string()]);
            command
        })
    }

    /// As [`Broker::start_with`], with its standard output in a file.
    pub(crate) fn start_with_stdout(lines: &str, file: &std::path::Path) -> Broker {
        Broker::start_command(lines, || {
            let mut command = Command::new("sh");
            let script = format!("exec \"$0\" \"$@\" >'{}'", file.display());
            command.arg("-c").arg(script).arg(program());
            command
        })
    }

    /// As [`Broker::start_with`], by a command of one's own; it is made anew when the port was taken.
    pub(crate) fn start_command(lines: &str, command: impl Fn() -> Command) -> Broker {
        // Another process may take the port between our look and the broker's bind.
        let mut last = String::new();
        for _ in 0..5 {
            match Broker::try_start(lines, command()) {
                Ok(broker) => return broker,
                Err(log) => last = log,
            }
            if !last.contains("in use") {
                break;
            }
        }
        panic!("the broker did not start; its log:\n{last}");
    }

    fn try_start(lines: &str, mut command: Command) -> Result<Broker, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let port = free_port();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mosquitto-it-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a temporary directory");
        let config = dir.join("mosquitto.conf");
        let extra = std::env::var("MOSQUITTO_UNDER_TEST_CONFIG").unwrap_or_default();
        fs::write(&config, format!("listener {port} 127.0.0.1\nlog_type all\n{OPEN}{extra}\n{lines}\n"))
            .expect("a config file");

        let mut child = command
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run {}: {e}", program().display()));
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("a pipe");
        let sink = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n') {
                let Ok(line) = line else { break };
                sink.lock().lines.push(String::from_utf8_lossy(&line).into_owned());
                sink.changed.notify_all();
            }
            sink.lock().ended = true;
            sink.changed.notify_all();
        });

        let mut broker = Broker { child, port, log, dir };
        let deadline = Instant::now() + START_LIMIT;
        loop {
            // The log line is the signal; a connection is the proof for a broker that words it differently.
            if broker.log.wait_for(0, " running", Duration::from_millis(100))
                && TcpStream::connect(broker.addr()).is_ok()
            {
                return Ok(broker);
            }
            if broker.log.lock().ended || broker.child.try_wait().is_ok_and(|status| status.is_some()) {
                return Err(broker.log_text());
            }
            if TcpStream::connect(broker.addr()).is_ok() {
                return Ok(broker);
            }
            if Instant::now() > deadline {
                return Err(format!("{}\n(not ready in time)", broker.log_text()));
            }
        }
    }

    /// Resident memory of the process in bytes; 0 where `/proc` does not say.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
    }

    /// Writes the configuration file anew with other further lines; SIGHUP makes the broker read it.
    pub(crate) fn write_config(&self, lines: &str) {
        let text = format!("listener {} 127.0.0.1\nlog_type all\n{OPEN}{lines}\n", self.port);
        fs::write(self.dir.join("mosquitto.conf"), text).expect("a config file");
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its listener is.
    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The port of its listener.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Waits until a line of the log contains `text`, and fails the test with the whole log when it does not come.
    pub(crate) fn wait_for_log(&self, text: &str, limit: Duration) {
        assert!(self.log.wait_for(0, text, limit), "no {text:?} in the log:\n{}", self.log_text());
    }

    /// How many lines the log has, to wait for those that follow.
    pub(crate) fn log_mark(&self) -> usize {
        self.log.lock().lines.len()
    }

    /// As [`Broker::wait_for_log`], for lines behind the first `mark`.
    pub(crate) fn wait_for_log_after(&self, mark: usize, text: &str, limit: Duration) {
        assert!(self.log.wait_for(mark, text, limit), "no {text:?} in the log:\n{}", self.log_text());
    }

    /// The lines behind the first `mark`.
    pub(crate) fn log_after(&self, mark: usize) -> String {
        self.log.lock().lines[mark..].join("\n")
    }

    /// Its directory: the configuration file `mosquitto.conf` is there.
    pub(crate) fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// The number of descriptors below `limit` that the process has open. It may have inherited some above.
    pub(crate) fn descriptors(&self, limit: usize) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id())).into_iter().flatten();
        let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<usize>().ok());
        numbers.filter(|number| *number < limit).count()
    }

    /// The log so far.
    pub(crate) fn log_text(&self) -> String {
        self.log.lock().lines.join("\n")
    }

    /// Sends a signal by name, such as `TERM`, to this broker alone.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name} failed");
    }

    /// Waits for the end of the process.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        wait_exit(&mut self.child, START_LIMIT).unwrap_or_else(|| panic!("still running:\n{}", self.log_text()))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
        if thread::panicking() {
            println!("broker log:\n{}", self.log_text());
        }
    }
}

/// Waits for the end of `child`; `None` when it does not come in time.
pub(crate) fn wait_exit(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// The broker to test.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("MOSQUITTO_UNDER_TEST").map_or_else(|| env!("CARGO_BIN_EXE_mosquitto").into(), PathBuf::from)
}

/// A port that nobody listens on, taken from below the range that outgoing connections use, so that a client of
/// another test cannot hold it by accident.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..2000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(37)) % 12_000;
        let port = u16::try_from(20_000 + step).expect("below 32000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// Says something past the test harness, which would swallow it when the test passes.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "note: {text}");
}
