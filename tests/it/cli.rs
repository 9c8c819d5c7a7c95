//! The broker's process: arguments, exit statuses, start, signals, end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub(crate) const VERSION: &str = concat!("mosquitto version ", env!("CARGO_PKG_VERSION"));
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The broker, without what the environment of the tests may hold for it.
pub(crate) fn broker() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mosquitto"));
    for name in
        ["PUID", "PGID", "SNAP_NAME", "UMASK_SET", "NOTIFY_SOCKET", "WATCHDOG_USEC", "MOSQUITTO_UNSAFE_ALLOW_SYMLINKS"]
    {
        command.env_remove(name);
    }
    command
}

fn output(args: &[&str]) -> Output {
    broker().args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The lines of standard error without their timestamps.
pub(crate) fn log(output: &Output) -> Vec<String> {
    String::from_utf8(output.stderr.clone()).unwrap().lines().map(without_timestamp).collect()
}

pub(crate) fn without_timestamp(line: &str) -> String {
    match line.split_once(": ") {
        Some((time, text)) if time.bytes().all(|byte| byte.is_ascii_digit()) => text.to_owned(),
        _ => line.to_owned(),
    }
}

/// A directory of this test alone, which any user may write to, because the broker gives up root.
pub(crate) fn directory(name: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("mosquitto-cli-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    path
}

pub(crate) fn free_port() -> String {
    crate::broker::free_port().to_string()
}

/// True when the tests run as root, which the broker then gives up.
pub(crate) fn started_as_root() -> bool {
    String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap().trim() == "0"
}

/// A running broker whose log is read line by line; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) lines: Receiver<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Running {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(without_timestamp(&line));
            }
        });
        Running { child, lines }
    }

    /// Waits for a line; returns all lines up to it.
    pub(crate) fn wait_for(&self, text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => seen.push(line),
                Err(error) => panic!("no line {text:?}: {error}, only {seen:#?}"),
            }
            if seen.last().is_some_and(|line| line.contains(text)) {
                return seen;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub(crate) fn end(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn help_and_version_print_to_stdout_only() {
    for option in ["-h", "--help"] {
        let output = output(&[option]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).starts_with(&format!("{VERSION}\n\n")));
        assert!(stdout(&output).contains("\nUsage: mosquitto [-c config_file]"));
        assert!(output.stderr.is_empty());
    }
    let output = output(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).starts_with(&format!("{VERSION}\n")));
    assert!(output.stderr.is_empty());
}

#[test]
fn an_unknown_option_shows_the_usage() {
    for option in ["--bogus", "-x", "word"] {
        let output = output(&[option]);
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("Error: Unknown option '{option}'.\n"));
        assert!(stdout(&output).contains("\nUsage: mosquitto"));
    }
}

#[test]
fn bad_command_lines_end_with_status_3() {
    let eleven = ["-p", "1884"].repeat(11);
    let cases: [(&[&str], &str); 7] = [
        (&["-c"], "Error: -c argument given, but no config file specified."),
        (&["--port"], "Error: -p argument given, but no port specified."),
        (&["--tls-keylog"], "Error: --tls-keylog argument given, but no file specified."),
        (&["-p", "0"], "Error: Invalid port specified (0)."),
        (&["-p", "65536"], "Error: Invalid port specified (65536)."),
        (&eleven, "Error: Only 10 ports can be specified on the command line."),
        (&["--test-config"], "Please provide a configuration file to test."),
    ];
    for (args, expected) in cases {
        let output = output(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        assert_eq!(log(&output), [expected], "{args:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_configuration_is_tested_without_a_trace() {
    let directory = directory("test-config");
    let (good, bad, pid) = (directory.join("good"), directory.join("bad"), directory.join("pid"));
    fs::write(&good, format!("pid_file {}\n", pid.display())).unwrap();
    fs::write(&bad, "no_such_option 1\n").unwrap();
    let output = |path: &PathBuf| broker().arg("--test-config").arg("-c").arg(path).output().unwrap();
    assert_eq!(output(&good).status.code(), Some(0));
    assert!(log(&output(&good)).contains(&"Configuration file is OK.".to_owned()));
    assert!(!pid.exists());
    assert_eq!(output(&bad).status.code(), Some(3));
    assert_eq!(output(&directory.join("missing")).status.code(), Some(3));
    // What a start would end with is found before.
    let (passwords, rules) = (directory.join("passwords"), directory.join("rules"));
    for (option, path, text, line) in [
        ("password_file", &passwords, "user:plain\n", "Error: Unable to decode line in password file"),
        ("acl_file", &rules, "topik a\n", "Error: Invalid line in acl_file"),
    ] {
        fs::write(&good, format!("listener 1\n{option} {}\n", path.display())).unwrap();
        let missing = output(&good);
        assert_eq!(missing.status.code(), Some(13), "{:?}", log(&missing));
        fs::write(path, text).unwrap();
        let wrong = output(&good);
        assert_eq!(wrong.status.code(), Some(3), "{:?}", log(&wrong));
        assert!(log(&wrong).iter().any(|logged| logged.contains(line)), "{:?}", log(&wrong));
        fs::write(path, "").unwrap();
        assert_eq!(output(&good).status.code(), Some(0));
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_broker_says_what_it_starts_and_ends_with_status_0() {
    for signal in ["TERM", "INT"] {
        let mut broker = Running::start(broker().args(["-p", &free_port()]));
        let mut expected = vec![
            format!("{VERSION} starting"),
            "Using default config.".into(),
            "Bridge support available.".into(),
            "Starting in local only mode. Connections will only be possible from clients running on this machine."
                .into(),
            format!("{VERSION} running"),
        ];
        let lines = broker.wait_for(&expected[4]);
        expected.reverse();
        for line in &lines {
            if expected.last() == Some(line) {
                expected.pop();
            }
        }
        assert!(expected.is_empty(), "missing {expected:?} in {lines:#?}");
        broker.signal(signal);
        broker.wait_for(&format!("{VERSION} terminating"));
        assert_eq!(broker.end(), Some(0));
    }
}

#[test]
fn the_pid_file_exists_while_the_broker_runs() {
    let directory = directory("pid");
    let (config, pid) = (directory.join("conf"), directory.join("pid"));
    fs::write(&config, format!("pid_file {}\n", pid.display())).unwrap();
    let mut broker = Running::start(broker().arg("-c").arg(&config).args(["-p", &free_port()]));
    let lines = broker.wait_for(&format!("{VERSION} running"));
    assert!(lines.contains(&format!("Config loaded from {}.", config.display())));
    assert_eq!(fs::read_to_string(&pid).unwrap(), broker.child.id().to_string());
    broker.signal("TERM");
    assert_eq!(broker.end(), Some(0));
    assert!(!pid.exists());
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_pid_file_that_cannot_be_written_ends_the_start_with_status_14() {
    let directory = directory("bad-pid");
    let config = directory.join("conf");
    fs::write(&config, format!("pid_file {}/missing/pid\n", directory.display())).unwrap();
    let output = broker().arg("-c").arg(&config).output().unwrap();
    assert_eq!(output.status.code(), Some(14));
    assert!(log(&output).iter().any(|line| line.starts_with("Error: Unable to write pid file")));
    assert!(!log(&output).iter().any(|line| line.contains("terminating")));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_daemon_goes_to_the_background_with_its_own_pid_file() {
    let directory = directory("daemon");
    let (config, pid, logged) = (directory.join("conf"), directory.join("pid"), directory.join("log"));
    fs::write(&config, format!("pid_file {}\nlog_dest file {}\n", pid.display(), logged.display())).unwrap();
    let status =
        broker().arg("-d").arg("-c").arg(&config).args(["-p", &free_port()]).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    let has = |text: &str| fs::read_to_string(&logged).is_ok_and(|log| log.contains(text));
    wait_until("the daemon runs", || has(&format!("{VERSION} running")));
    let daemon = fs::read_to_string(&pid).unwrap();
    assert!(Command::new("kill").args(["-s", "TERM", &daemon]).status().unwrap().success());
    wait_until("the daemon ends", || !pid.exists());
    assert!(has(&format!("{VERSION} terminating")));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn the_log_can_be_rotated() {
    let directory = directory("rotate");
    let (config, logged, rotated) = (directory.join("conf"), directory.join("log"), directory.join("log.1"));
    fs::write(&config, format!("log_dest file {}\n", logged.display())).unwrap();
    let mut broker = Running::start(broker().arg("-c").arg(&config).args(["-p", &free_port()]));
    let has = |path: &PathBuf, text: &str| fs::read_to_string(path).is_ok_and(|log| log.contains(text));
    wait_until("the broker runs", || has(&logged, &format!("{VERSION} running")));
    fs::rename(&logged, &rotated).unwrap();
    broker.signal("RTMIN");
    wait_until("the log is back", || logged.exists());
    broker.signal("TERM");
    assert_eq!(broker.end(), Some(0));
    assert!(has(&logged, &format!("{VERSION} terminating")));
    assert!(!has(&rotated, "terminating"));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn bad_environment_ends_the_start_with_status_3() {
    let mut cases = vec![
        ("UMASK_SET", "8", "Error: UMASK_SET environment variable not a valid octal number."),
        ("UMASK_SET", "1000", "Error: UMASK_SET environment variable out of range."),
    ];
    if started_as_root() {
        cases.push(("PUID", "x", "Error: PUID not a valid ID 'x'"));
        cases.push(("PGID", "-1", "Error: PGID must not be negative"));
    }
    for (name, value, expected) in cases {
        let output = broker().env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{name}={value}");
        assert_eq!(log(&output).last().unwrap(), expected);
    }
}

#[test]
fn root_is_given_up_for_the_configured_user_or_ids() {
    if !started_as_root() {
        return;
    }
    let directory = directory("user");
    let config = directory.join("conf");
    let ids = |broker: &Running| {
        let status = fs::read_to_string(format!("/proc/{}/status", broker.child.id())).unwrap();
        let ids = |name| status.lines().find_map(|line: &str| line.strip_prefix(name)).unwrap().trim().to_owned();
        (ids("Uid:"), ids("Gid:"), ids("Groups:"))
    };
    let four = |id: &str| [id; 4].join("\t");
    let running = format!("{VERSION} running");

    fs::write(&config, "user nobody\n").unwrap();
    let named = Running::start(broker().arg("-c").arg(&config).args(["-p", &free_port()]));
    assert!(named.wait_for(&running).contains(&"Info: running mosquitto as user: nobody.".to_owned()));
    assert_eq!(ids(&named).0, four("65534"));

    let numbered = Running::start(broker().env("PUID", "4321").env("PGID", "1234").args(["-p", &free_port()]));
    assert!(numbered.wait_for(&running).contains(&"Info: running mosquitto as user id: 4321.".to_owned()));
    assert_eq!(ids(&numbered), (four("4321"), four("1234"), "1234".to_owned()));

    let alone = Running::start(broker().env("PUID", "0").args(["-p", &free_port()]));
    let warning = "Warning: Mosquitto should not be run as root/administrator.".to_owned();
    assert!(alone.wait_for(&running).contains(&warning));

    fs::write(&config, "user no-such-user-here\n").unwrap();
    let output = broker().arg("-c").arg(&config).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn quiet_logs_nothing_and_the_service_manager_hears_when_the_broker_is_ready() {
    let manager = notify_socket("quiet");
    let mut quiet =
        Running::start(broker().args(["-q", "-v", "-p", &free_port()]).env("NOTIFY_SOCKET", notify_name("quiet")));
    let mut message = [0; 32];
    let length = manager.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"READY=1");
    quiet.signal("TERM");
    assert_eq!(quiet.end(), Some(0));
    assert!(!quiet.lines.iter().any(|line| line.contains(VERSION)));
    fs::remove_file(notify_name("quiet")).unwrap();
}

fn notify_name(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("mosquitto-cli-notify-{name}-{}", std::process::id()))
}

fn notify_socket(name: &str) -> UnixDatagram {
    use std::os::unix::fs::PermissionsExt;
    let path = notify_name(name);
    let _ = fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}
