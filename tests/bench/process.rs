//! A broker process to measure, and what the kernel says about it.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A broker and the configuration it runs with.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) program: String,
    pub(crate) config: &'static str,
}

/// A running broker, killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) addr: SocketAddr,
    config: PathBuf,
}

impl Process {
    pub(crate) fn start(kind: &Kind) -> io::Result<Process> {
        let port = (21_000..32_000u16)
            .step_by(7)
            .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
            .ok_or_else(|| io::Error::other("no free port"))?;
        let config = std::env::temp_dir().join(format!("mosquitto-bench-{}-{port}.conf", std::process::id()));
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\n{}", kind.config);
        fs::write(&config, text)?;
        let child = Command::new(&kind.program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| io::Error::other(format!("{}: {e}", kind.program)))?;
        let mut process = Process { child, addr: SocketAddr::from(([127, 0, 0, 1], port)), config };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(process.addr).is_err() {
            if Instant::now() > deadline || process.child.try_wait()?.is_some() {
                return Err(io::Error::other(format!("{} does not start", kind.name)));
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        Ok(process)
    }

    /// How often its threads went to sleep, which is how often they were woken.
    pub(crate) fn sleeps(&self) -> io::Result<u64> {
        let mut total = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("status"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            total += line.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(total)
    }

    fn proc_file(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id()))
    }

    /// A size from a file of `name: SIZE kB` lines, in bytes.
    fn size(&self, file: &str, name: &str) -> io::Result<u64> {
        let text = self.proc_file(file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("no {name} in {file}")))
    }

    /// Resident memory in bytes.
    pub(crate) fn rss(&self) -> io::Result<u64> {
        self.size("status", "VmRSS")
    }

    /// The most that was ever resident, in bytes.
    pub(crate) fn peak(&self) -> io::Result<u64> {
        self.size("status", "VmHWM")
    }

    /// Sends a signal by name, such as `USR1`.
    pub(crate) fn signal(&self, name: &str) -> io::Result<()> {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("kill failed")) }
    }

    /// Resident memory with shared pages divided among their users, in bytes.
    pub(crate) fn pss(&self) -> io::Result<u64> {
        self.size("smaps_rollup", "Pss")
    }

    /// Processor time of all its threads in nanoseconds.
    pub(crate) fn cpu(&self) -> io::Result<u64> {
        let mut total = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            total += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(total)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
    }
}

/// Thousands of clients need as many descriptors here and in the broker, which inherits the limit.
#[allow(unsafe_code)]
pub(crate) fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer, and a valid value afterwards.
    let result = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
