//! Clustered brokers from Debian's packages: RabbitMQ with its MQTT plugin, and three NATS servers with JetStream. Each has
//! its own ports and directories; nothing of an installed service is used, and what was started ends with the value.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::{free_port, note, wait_exit};
use crate::client::{Client, connect};
use crate::directory::Directory;

/// Where the package puts the program that starts the server as whoever calls it.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const NATS: &str = "/usr/sbin/nats-server";
/// RabbitMQ takes ten to thirty seconds, more on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A process that is asked to end when dropped, and made to when it does not.
struct Process(Child);

impl Process {
    fn start(command: &mut Command, log: &Path) -> Process {
        let log = File::options().create(true).append(true).open(log).expect("a log file");
        let errors = log.try_clone().expect("a descriptor");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        Process(child.unwrap_or_else(|e| panic!("cannot run {command:?}: {e}")))
    }

    fn terminate(&mut self) {
        let _ = Command::new("kill").arg("-TERM").arg(self.0.id().to_string()).status();
        if wait_exit(&mut self.0, Duration::from_secs(20)).is_none() {
            self.kill();
        }
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            self.terminate();
        }
    }
}

fn installed(test: &str, program: &str, package: &str) -> bool {
    let there = Path::new(program).exists();
    if !there {
        note(&format!("{test} skipped: no {program} (package {package})"));
    }
    there
}

/// Waits until the server answers a CONNECT of version 3.1.1 with success.
fn wait_for_answer(addr: SocketAddr, log: &Path) {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if let Ok(mut client) = Client::try_open(addr) {
            client.set_limit(Duration::from_secs(10));
            client.send(&connect(4, "is-it-there"));
            if client.recv(4).is_ok_and(|answer| answer == [0x20, 2, 0, 0]) {
                client.send(&[0xE0, 0]);
                return;
            }
        }
        let text = || fs::read_to_string(log).unwrap_or_default();
        assert!(Instant::now() < deadline, "{addr} does not answer; its log:\n{}", text());
        thread::park_timeout(Duration::from_millis(100));
    }
}

/// One RabbitMQ node with MQTT.
pub(crate) struct RabbitMq {
    server: Process,
    // After the server: it asks this one on its way down. Fields are dropped in this order.
    _names: Process,
    addr: SocketAddr,
    directory: Directory,
}

impl RabbitMq {
    /// Starts it; `None` and a note when the package is not there.
    pub(crate) fn start(test: &str) -> Option<RabbitMq> {
        if !installed(test, RABBITMQ, "rabbitmq-server") {
            return None;
        }
        let directory = Directory::new("rabbitmq");
        let (port, names_port, node_port) = (free_port(), free_port(), free_port());
        let path = |name: &str| directory.path().join(name);
        directory.file("plugins", "[rabbitmq_mqtt].\n");
        directory.file(
            "rabbitmq.conf",
            &format!(
                "listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\nmqtt.allow_anonymous = true\n\
                 log.file = false\nlog.console = true\nlog.console.level = info\n"
            ),
        );
        let log = path("log");
        // Its name service is a daemon that would outlive it, so it gets one of its own that does not.
        let prepare = |command: &mut Command| {
            command.env("ERL_EPMD_ADDRESS", "127.0.0.1").env("ERL_EPMD_PORT", names_port.to_string());
        };
        let mut names = Command::new("epmd");
        prepare(&mut names);
        let names = Process::start(&mut names, &log);
        let mut server = Command::new(RABBITMQ);
        prepare(&mut server);
        server
            .env("HOME", directory.path())
            .env("RABBITMQ_NODENAME", format!("links-{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", node_port.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", path("no-such-file"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", path("no-such-file.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_QUORUM_DIR", path("quorum"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", path("generated"))
            .env("RABBITMQ_LOG_BASE", path("logs"))
            .env("RABBITMQ_PID_FILE", path("pid"))
            // One scheduler that does not spin while it waits.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
            );
        let server = Process::start(&mut server, &log);
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let engine = RabbitMq { server, _names: names, addr, directory };
        wait_for_answer(addr, &log);
        Some(engine)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("RabbitMQ's log:\n{}", self.log());
        }
        self.server.terminate();
    }
}

/// A cluster of three NATS servers, each of which keeps a copy of all that is promised.
pub(crate) struct Nats {
    nodes: Vec<Node>,
    directory: Directory,
}

struct Node {
    process: Option<Process>,
    config: PathBuf,
    log: PathBuf,
    addr: SocketAddr,
}

impl Nats {
    /// Starts it; `None` and a note when the package is not there.
    pub(crate) fn start(test: &str) -> Option<Nats> {
        if !installed(test, NATS, "nats-server") {
            return None;
        }
        let directory = Directory::new("nats");
        let routes: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let urls: Vec<String> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let nodes = (0..3)
            .map(|n| {
                let port = free_port();
                let text = format!(
                    "server_name: node{n}\nlisten: \"127.0.0.1:{}\"\n\
                     jetstream {{ store_dir: \"{}\", max_mem: 64M, max_file: 256M }}\n\
                     cluster {{ name: links, listen: \"127.0.0.1:{}\", routes: [{}] }}\n\
                     mqtt {{ listen: \"127.0.0.1:{port}\", stream_replicas: 3 }}\n",
                    free_port(),
                    directory.path().join(format!("node{n}")).display(),
                    routes[n],
                    urls.join(", ")
                );
                let config = directory.file(&format!("node{n}.conf"), &text);
                let log = directory.path().join(format!("node{n}.log"));
                Node { process: None, config, log, addr: SocketAddr::from(([127, 0, 0, 1], port)) }
            })
            .collect();
        let mut cluster = Nats { nodes, directory };
        (0..3).for_each(|n| cluster.launch(n));
        (0..3).for_each(|n| cluster.wait_until_ready(n));
        Some(cluster)
    }

    fn launch(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.process = Some(Process::start(Command::new(NATS).arg("-c").arg(&node.config), &node.log));
    }

    /// Starts a node that was killed.
    pub(crate) fn restart(&mut self, n: usize) {
        self.launch(n);
        self.wait_until_ready(n);
    }

    fn wait_until_ready(&self, n: usize) {
        wait_for_answer(self.nodes[n].addr, &self.nodes[n].log);
    }

    /// Kills a node without a word.
    pub(crate) fn kill(&mut self, n: usize) {
        if let Some(mut process) = self.nodes[n].process.take() {
            process.kill();
        }
    }

    /// Where a node speaks MQTT.
    pub(crate) fn addr(&self, n: usize) -> SocketAddr {
        self.nodes[n].addr
    }

    /// The log of a node.
    pub(crate) fn log(&self, n: usize) -> String {
        fs::read_to_string(&self.nodes[n].log).unwrap_or_default()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if thread::panicking() {
            (0..3).for_each(|n| println!("log of NATS node {n}:\n{}", self.log(n)));
        }
        // All at once: a node alone would wait for the others.
        self.nodes.iter_mut().filter_map(|node| node.process.as_mut()).for_each(Process::kill);
        let _ = &self.directory;
    }
}
