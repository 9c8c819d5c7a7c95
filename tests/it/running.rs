//! The broker as a process of its system: signals, the service manager, users, files and the log.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::broker::{Broker, note};
use super::cli::{
    DEADLINE, Running, VERSION, broker, directory, free_port, log, started_as_root, wait_until, without_timestamp,
};
use super::client::{self, Client};

/// A configuration file in `directory`.
fn config(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("mosquitto.conf");
    fs::write(&path, text).unwrap();
    path
}

fn running() -> String {
    format!("{VERSION} running")
}

/// A value of `/proc/PID/status`.
fn status_of(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
}

/// A program run by a shell after `script`; exec keeps the process.
fn shell(script: &str) -> Command {
    let inner = broker();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{script}; exec \"$0\" \"$@\"")).arg(inner.get_program());
    for (name, _) in inner.get_envs() {
        command.env_remove(name);
    }
    command
}

/// A configuration that has more to say than a pipe holds, so that its broker stands still until somebody reads.
fn talkative() -> String {
    "dhparamfile x\n".repeat(4000)
}

#[test]
fn a_signal_during_the_start_is_not_lost() {
    let directory = directory("early");
    let path = config(&directory, &format!("listener {} 127.0.0.1\n{}", free_port(), talkative()));
    let mut child =
        broker().arg("-c").arg(&path).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a broker");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(|line| without_timestamp(&line.unwrap()));
    // The first line shows that the start is on its way; the pipe keeps it from its end.
    lines.next().unwrap();
    let pid = child.id().to_string();
    for signal in ["HUP", "USR1", "USR2", "RTMIN", "PIPE"] {
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }
    assert!(lines.any(|line| line == running()), "it goes on");
    assert!(lines.any(|line| line == "Reloading config."), "and reloads then");
    drop(lines);
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_start_that_hangs_can_be_ended() {
    let directory = directory("hanging");
    let path = config(&directory, &format!("listener {} 127.0.0.1\n{}", free_port(), talkative()));
    for (name, number) in [("TERM", 15), ("INT", 2)] {
        let mut child =
            broker().arg("-c").arg(&path).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a broker");
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut String::new()).unwrap();
        assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().signal(), Some(number), "nobody read, and still it ended");
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn signals_do_what_the_manual_says() {
    let directory = directory("signals");
    let path = config(&directory, &format!("listener {} 127.0.0.1\ndhparamfile x\n", free_port()));
    let mut broker = Running::start(broker().arg("-c").arg(&path));
    broker.wait_for(&running());
    broker.signal("PIPE");
    broker.signal("USR1");
    broker.wait_for("There is no database to save");
    broker.signal("USR2");
    broker.signal("HUP");
    broker.wait_for("Reloading config.");
    // The file was read.
    broker.wait_for("dhparamfile is no longer required.");
    fs::write(&path, "no_such_option 1\n").unwrap();
    broker.signal("HUP");
    broker.wait_for("The configuration was not reloaded");
    broker.signal("TERM");
    let lines = broker.wait_for("terminating");
    assert!(lines.iter().all(|line| line == &format!("{VERSION} terminating")), "{lines:?}");
    assert_eq!(broker.end(), Some(0));
    fs::remove_dir_all(directory).unwrap();
}

/// A service manager's socket at `name`, which begins with `@` for an abstract one.
fn manager(name: &str) -> UnixDatagram {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let socket = match name.strip_prefix('@') {
        Some(name) => UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap(),
        None => {
            let socket = UnixDatagram::bind(name).unwrap();
            fs::set_permissions(name, fs::Permissions::from_mode(0o777)).unwrap();
            socket
        }
    };
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn message(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 128];
    let len = loop {
        match manager.recv(&mut buffer) {
            // A socket with a time limit is also woken when the machine stops and goes on.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => break result.expect("a message to the service manager"),
        }
    };
    String::from_utf8(buffer[..len].to_vec()).unwrap()
}

#[test]
fn the_service_manager_hears_of_start_reload_and_stop() {
    let directory = directory("notify");
    let path = config(&directory, &format!("listener {} 127.0.0.1\n", free_port()));
    let names = [directory.join("socket").display().to_string(), format!("@mosquitto-it-{}", std::process::id())];
    for name in names {
        let manager = manager(&name);
        let mut broker = Running::start(broker().arg("-c").arg(&path).env("NOTIFY_SOCKET", &name));
        assert_eq!(message(&manager), "READY=1");
        let lines = broker.wait_for(&running());
        assert!(lines.iter().any(|line| line.starts_with("Opening ipv4 listen socket")), "ready means open");
        broker.signal("HUP");
        assert!(message(&manager).starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(message(&manager), "READY=1");
        broker.signal("TERM");
        assert_eq!(message(&manager), "STOPPING=1");
        assert_eq!(broker.end(), Some(0));
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn the_watchdog_hears_at_half_of_its_time() {
    let name = format!("@mosquitto-it-watchdog-{}", std::process::id());
    let manager = manager(&name);
    let _broker =
        Running::start(broker().args(["-p", &free_port()]).env("NOTIFY_SOCKET", &name).env("WATCHDOG_USEC", "600000"));
    assert_eq!(message(&manager), "READY=1");
    let start = Instant::now();
    for _ in 0..3 {
        assert_eq!(message(&manager), "WATCHDOG=1");
    }
    // Three times 300 ms, the first counted from before READY.
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
}

#[test]
fn an_idle_broker_sleeps() {
    let directory = directory("idle");
    let path = config(&directory, &format!("listener {} 127.0.0.1\nsys_interval 0\n", free_port()));
    let broker = Running::start(broker().arg("-c").arg(&path));
    broker.wait_for(&running());
    let wakes = || status_of(broker.child.id(), "voluntary_ctxt_switches:").parse::<u64>().unwrap();
    // It may still be on its way into the first sleep.
    wait_until("it sleeps", || status_of(broker.child.id(), "State:").starts_with('S'));
    let before = wakes();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(wakes() - before <= 1, "{} wake-ups", wakes() - before);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn the_soft_limit_of_descriptors_becomes_the_hard_one() {
    let port = free_port();
    let broker = Running::start(shell("ulimit -S -n 64").args(["-p", &port]));
    broker.wait_for(&running());
    let limits = fs::read_to_string(format!("/proc/{}/limits", broker.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().filter(|word| word.bytes().all(|b| b.is_ascii_digit())).collect();
    assert_eq!(numbers[0], numbers[1]);
    assert_ne!(numbers[0], "64");
}

#[test]
fn exit_statuses_are_the_original_ones() {
    let directory = directory("statuses");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let pid = directory.join("pid");
    let mut cases = vec![
        (format!("listener {port} 127.0.0.1\npid_file {}", pid.display()), 1, "Error: Address already in use"),
        ("listener 1 no-such-host.invalid".into(), 1, "Error creating listener: "),
        ("no_such_option 1".into(), 3, "no_such_option"),
        ("listener 0x".into(), 3, "Error: "),
        (format!("pid_file {}/none/pid", directory.display()), 14, "/none/pid: No such file or directory"),
    ];
    if started_as_root() {
        cases.push(("user no-such-user-here".into(), 3, "Error: Unable to drop privileges to 'no-such-user-here'"));
    }
    for (text, status, line) in cases {
        let output = broker().arg("-c").arg(config(&directory, &format!("{text}\n"))).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{text}");
        let lines = log(&output);
        assert!(lines.iter().any(|logged| logged.contains(line)), "{text}: {lines:#?}");
        assert!(!lines.iter().any(|logged| logged.contains("terminating")), "{text}: it never ran");
        assert!(!pid.exists(), "{text}: the pid file goes with a start that fails");
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_test_of_the_configuration_leaves_everything_as_it_is() {
    let directory = directory("test-only");
    let at = directory.display();
    let path = config(
        &directory,
        &format!(
            "listener 1 127.0.0.1\npid_file {at}/pid\nlog_dest file {at}/log\npersistence_location {at}/\nuser x\n"
        ),
    );
    fs::write(directory.join("mosquitto.db"), "precious").unwrap();
    let names = || {
        let mut names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let output = broker().arg("--test-config").arg("-c").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{:?}", log(&output));
    assert!(log(&output).contains(&"Configuration file is OK.".to_owned()));
    assert_eq!(names(), before);
    assert_eq!(fs::read_to_string(directory.join("mosquitto.db")).unwrap(), "precious");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn files_are_made_by_the_mask() {
    let directory = directory("umask");
    let at = directory.display();
    let path = config(
        &directory,
        &format!("listener {} 127.0.0.1\npid_file {at}/pid\nlog_dest file {at}/log\nlog_dest stderr\n", free_port()),
    );
    for (mask, mode) in [("077", 0o600), ("0027", 0o640), ("0", 0o666)] {
        let _ = fs::remove_file(directory.join("log"));
        let mut broker = Running::start(broker().arg("-c").arg(&path).env("UMASK_SET", mask));
        broker.wait_for(&running());
        let mode_of = |name: &str| fs::metadata(directory.join(name)).unwrap().mode() & 0o777;
        assert_eq!((mode_of("pid"), mode_of("log")), (mode, 0o600), "UMASK_SET={mask}");
        broker.signal("TERM");
        assert_eq!(broker.end(), Some(0));
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_daemon_leads_a_session_and_holds_no_terminal() {
    let directory = directory("session");
    let at = directory.display();
    let path =
        config(&directory, &format!("listener {} 127.0.0.1\npid_file {at}/pid\nlog_dest file {at}/log\n", free_port()));
    let mut parent = broker().arg("-d").arg("-c").arg(&path).current_dir("/").stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(parent.wait().unwrap().code(), Some(0), "the parent ends");
    let logged = directory.join("log");
    wait_until("the daemon runs", || fs::read_to_string(&logged).is_ok_and(|log| log.contains(&running())));
    let pid = fs::read_to_string(directory.join("pid")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!(fields[3], pid, "a session of its own");
    for stream in 0..=2 {
        let target = fs::read_link(format!("/proc/{pid}/fd/{stream}")).unwrap();
        assert_eq!(target, Path::new("/dev/null"));
    }
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    wait_until("the daemon ends", || !directory.join("pid").exists());
    fs::remove_dir_all(directory).unwrap();
}

/// True when the tests may give up root; says why they do not otherwise.
fn root_or_note(test: &str) -> bool {
    let root = started_as_root();
    if !root {
        note(&format!("{test} needs root: skipped"));
    }
    root
}

fn ids(broker: &Running) -> [String; 3] {
    ["Uid:", "Gid:", "Groups:"].map(|name| {
        let all = status_of(broker.child.id(), name);
        // Real, effective, saved and of the file system.
        let mut words: Vec<&str> = all.split_whitespace().collect();
        if name != "Groups:" {
            assert!(words.iter().all(|id| *id == words[0]), "{name} {all}");
            words.truncate(1);
        }
        words.join(" ")
    })
}

#[test]
fn who_the_broker_becomes_follows_the_table() {
    if !root_or_note("giving up root") {
        return;
    }
    let directory = directory("become");
    let warning = "Warning: Mosquitto should not be run as root/administrator.";
    // Configured user, PUID, PGID, SNAP_NAME; then user, group, line.
    type Case = (&'static str, [Option<&'static str>; 3], &'static str, &'static str, &'static str);
    let cases: [Case; 8] = [
        ("nobody", [None, None, None], "65534", "65534", "Info: running mosquitto as user: nobody."),
        ("root", [None, None, None], "0", "0", warning),
        ("nobody", [Some("4321"), None, None], "4321", "0", "Info: running mosquitto as user id: 4321."),
        ("nobody", [Some("4321"), Some("1234"), None], "4321", "1234", "Info: running mosquitto as user id: 4321."),
        ("nobody", [Some("0"), Some("1234"), None], "0", "1234", warning),
        ("nobody", [Some("4321"), Some("0"), None], "4321", "0", "Info: running mosquitto as user id: 4321."),
        ("nobody", [None, Some("1234"), None], "65534", "1234", "Info: running mosquitto as user: nobody."),
        ("nobody", [None, None, Some("mosquitto")], "0", "0", "starting"),
    ];
    for (user, variables, uid, gid, line) in cases {
        let path = config(&directory, &format!("user {user}\nlistener {} 127.0.0.1\n", free_port()));
        let mut command = broker();
        for (name, value) in ["PUID", "PGID", "SNAP_NAME"].iter().zip(variables) {
            value.map(|value| command.env(name, value));
        }
        let broker = Running::start(command.arg("-c").arg(&path));
        let lines = broker.wait_for(&running());
        assert!(lines.iter().any(|logged| logged.contains(line)), "{user} {variables:?}: {lines:#?}");
        let [is_uid, is_gid, groups] = ids(&broker);
        assert_eq!((is_uid.as_str(), is_gid.as_str()), (uid, gid), "{user} {variables:?}");
        if uid != "0" {
            assert!(groups.is_empty() || groups == gid, "root's groups are gone: {groups}");
        }
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn without_the_default_user_the_broker_becomes_nobody() {
    if !root_or_note("another list of users") {
        return;
    }
    let directory = directory("fallback");
    let users = directory.join("passwd");
    // A mount of its own namespace: nobody else sees another list of users.
    let script = "mount --bind \"$0\" /etc/passwd && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(&users).arg(broker().get_program()).args(["-p", &free_port()]);
    let probe = Command::new("unshare").args(["-m", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        note("no mount namespace to be had: skipped");
        return;
    }
    fs::write(&users, "nobody:x:65533:65533::/:/bin/false\n").unwrap();
    let fallen = Running::start(&mut command);
    let lines = fallen.wait_for(&running());
    let expected = "Error: Unable to drop privileges to 'mosquitto' because this user does not exist. Trying 'nobody' \
                    instead.";
    assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
    assert!(lines.iter().any(|line| line == "Info: running mosquitto as user: nobody."));
    assert_eq!(ids(&fallen)[0], "65533");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_broker_that_was_not_started_as_root_ignores_the_user() {
    if !root_or_note("starting as somebody else") {
        return;
    }
    let directory = directory("unprivileged");
    let path = config(&directory, &format!("user no-such-user\nlistener {} 127.0.0.1\n", free_port()));
    let mut command = broker();
    command.uid(65534).gid(65534).env("PUID", "x");
    let Ok(true) = command.arg("--version").stdout(Stdio::null()).status().map(|status| status.success()) else {
        note("the built broker cannot be run by others: skipped");
        return;
    };
    let mut command = broker();
    command.uid(65534).gid(65534).env("PUID", "x");
    let broker = Running::start(command.arg("-c").arg(&path));
    let lines = broker.wait_for(&running());
    assert!(!lines.iter().any(|line| line.contains("as user") || line.contains("as root")), "{lines:#?}");
    assert_eq!(ids(&broker)[0], "65534");
    fs::remove_dir_all(directory).unwrap();
}

/// What a broker with `log_dest file PATH` says on standard error and in the file while it starts and stops.
fn with_log_file(directory: &Path, logged: &Path, environment: &[(&str, &str)]) -> (Vec<String>, String) {
    let user = if started_as_root() { "user nobody\n" } else { "" };
    let port = free_port();
    let path = config(directory, &format!("{user}listener {port} 127.0.0.1\nlog_dest file {}\n", logged.display()));
    // The log may be nowhere to be seen.
    let name = format!("@mosquitto-it-log-{}-{port}", std::process::id());
    let manager = manager(&name);
    let mut broker =
        Running::start(broker().arg("-c").arg(&path).env("NOTIFY_SOCKET", &name).envs(environment.iter().copied()));
    assert_eq!(message(&manager), "READY=1");
    broker.signal("TERM");
    assert_eq!(broker.end(), Some(0));
    let stderr = broker.lines.iter().collect();
    let file = fs::metadata(logged).is_ok_and(|found| found.is_file());
    let text = if file { fs::read_to_string(logged).unwrap() } else { String::new() };
    (stderr, text.lines().map(|l| without_timestamp(l) + "\n").collect())
}

#[test]
fn a_log_file_that_others_may_read_or_own_is_remarked() {
    let directory = directory("remarks");
    let logged = directory.join("log");
    fs::write(&logged, "").unwrap();
    fs::set_permissions(&logged, fs::Permissions::from_mode(0o666)).unwrap();
    let (_, text) = with_log_file(&directory, &logged, &[]);
    let path = logged.display();
    let later = "Future versions will refuse to load this file.";
    assert!(text.contains(&format!("Warning: File {path} has world readable permissions. {later}\n")), "{text}");
    if started_as_root() {
        assert!(text.contains(&format!("Warning: File {path} owner is not nobody. {later}\n")), "{text}");
        assert!(text.contains(&format!("Warning: File {path} group is not nogroup. {later}\n")), "{text}");
    }
    fs::remove_file(&logged).unwrap();
    let (_, text) = with_log_file(&directory, &logged, &[]);
    assert!(text.contains("starting") && !text.contains("Warning: File"), "its own file: {text}");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_log_that_is_no_plain_file_is_refused_and_holds_nobody_up() {
    let directory = directory("no-file");
    let (link, fifo) = (directory.join("link"), directory.join("fifo"));
    symlink(directory.join("target"), &link).unwrap();
    assert!(Command::new("mkfifo").arg("-m").arg("666").arg(&fifo).status().unwrap().success());
    for logged in [&link, &fifo, &directory, Path::new("/dev/stdout")] {
        let (stderr, _) = with_log_file(&directory, logged, &[]);
        let error = format!("Error: Unable to open log file {} for writing.", logged.display());
        assert!(stderr.contains(&error), "{stderr:#?}");
        let after = stderr.iter().skip_while(|line| **line != error).count();
        assert_eq!(after, 1, "only errors follow: {stderr:#?}");
    }
    let (_, text) = with_log_file(&directory, &link, &[("MOSQUITTO_UNSAFE_ALLOW_SYMLINKS", "1")]);
    assert!(text.contains("MOSQUITTO_UNSAFE_ALLOW_SYMLINKS is set"), "{text}");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn the_log_is_reopened_by_both_signals() {
    let directory = directory("reopen");
    let logged = directory.join("log");
    let path = config(&directory, &format!("listener {} 127.0.0.1\nlog_dest file {}\n", free_port(), logged.display()));
    let broker = Running::start(broker().arg("-c").arg(&path));
    wait_until("it runs", || fs::read_to_string(&logged).is_ok_and(|log| log.contains(&running())));
    for signal in ["HUP", "RTMIN"] {
        fs::rename(&logged, directory.join("log.1")).unwrap();
        broker.signal(signal);
        wait_until("the log is made again", || logged.exists());
        broker.signal("USR1");
        wait_until("it is used", || fs::read_to_string(&logged).is_ok_and(|log| log.contains("no database")));
        assert_eq!(fs::metadata(&logged).unwrap().mode() & 0o777, 0o600);
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn timestamps_are_in_the_local_zone() {
    let directory = directory("zone");
    let path = config(&directory, &format!("listener {} 127.0.0.1\nlog_timestamp_format %z<%Y>\n", free_port()));
    let broker = Running::start(broker().arg("-c").arg(&path).env("TZ", "XYZ-05:30"));
    assert!(broker.wait_for(&running()).iter().any(|line| line.starts_with("+0530<20")));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn quiet_keeps_what_was_said_before_the_log() {
    let directory = directory("quiet-start");
    let path = config(&directory, &format!("listener {} 127.0.0.1\ndhparamfile x\n", free_port()));
    let mut broker = Running::start(broker().arg("-v").arg("-c").arg(&path).arg("-q"));
    broker.wait_for("dhparamfile is no longer required.");
    broker.signal("HUP");
    wait_until("it sleeps", || status_of(broker.child.id(), "State:").starts_with('S'));
    broker.signal("TERM");
    let _ = broker.end();
    assert!(!broker.lines.iter().any(|line| line.contains("Reloading") || line.contains("starting")));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_flood_of_connections_leaves_a_bounded_log_and_hides_no_other_line() {
    let directory = directory("flood");
    let port = free_port();
    let path = config(&directory, &format!("listener {port} 127.0.0.1\nlog_rate_limit 1\n"));
    let mut broker = Running::start(broker().arg("-c").arg(&path));
    broker.wait_for(&running());
    let addr: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    const FLOOD: usize = 6000;
    for _ in 0..FLOOD {
        drop(TcpStream::connect(addr).unwrap());
    }
    // Another kind of line still comes: nobody may connect without a name here.
    let mut guesser = Client::open(addr);
    guesser.send(&client::connect(4, "guesser"));
    let mut lines = broker.wait_for("not authorised");
    broker.signal("TERM");
    assert_eq!(broker.end(), Some(0));
    lines.extend(broker.lines.iter());
    let of = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    let (new, gone) = (of("New connection from 127.0.0.1:"), of("Client 127.0.0.1 ["));
    assert!((2000..4600).contains(&new) && (2000..4600).contains(&gone), "{new} and {gone} lines");
    let summary = |what: &str| {
        let text = format!(" more lines like \"{what}");
        let counts = lines.iter().filter(|line| line.contains(&text) && line.contains(" were not logged in the last "));
        counts.map(|line| line.split(' ').next().unwrap().parse::<usize>().unwrap()).sum::<usize>()
    };
    assert_eq!(new + summary("New connection from 127.0.0.1:"), FLOOD + 1, "every line is written or counted");
    assert_eq!(gone + summary("Client 127.0.0.1 ["), FLOOD);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_client_cannot_forge_a_line_of_the_log() {
    let broker = Broker::start_with("listener_allow_anonymous true");
    let forged = "x\n1718000000: forged\r\u{1b}[2Jforged";
    let string = |text: &str| {
        let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    let packet = |kind: u8, body: &[&[u8]]| {
        let body = body.concat();
        let mut bytes = vec![kind, u8::try_from(body.len()).unwrap()];
        bytes.extend_from_slice(&body);
        bytes
    };
    let connect = |protocol: &str, flags: u8, rest: &[u8]| packet(0x10, &[&string(protocol), &[4, flags, 0, 60], rest]);
    let texts = [
        connect("MQ\nTT", 2, &string("id")),
        connect("MQTT", 2, &string(forged)),
        connect("MQTT", 0x82, &[string("name"), string(forged)].concat()),
        connect("MQTT", 6, &[string("will"), string(forged), string("")].concat()),
        b"GET /\n1718000000: forged HTTP/1.1\r\n\r\n".to_vec(),
    ];
    for bytes in texts {
        let mut client = Client::open(broker.addr());
        client.send(&bytes);
        let _ = client.recv(4);
    }
    for body in [
        packet(0x82, &[&[0, 1], &string(forged), &[0]]),
        packet(0x30, &[&string(forged), b"payload"]),
        packet(0xa2, &[&[0, 1], &string(forged)]),
    ] {
        let mut client = Client::connect(broker.addr(), 4, "honest");
        client.send(&body);
        let _ = client.recv(5);
    }
    let mut last = Client::connect(broker.addr(), 4, "the-last");
    last.send(&[0xe0, 0]);
    broker.wait_for_log("Client the-last [", DEADLINE);
    for line in broker.log_text().lines() {
        let time = line.split_once(": ").map(|(time, _)| time);
        assert!(time.is_some_and(|time| time.len() == 10 && time.bytes().all(|b| b.is_ascii_digit())), "{line:?}");
        assert!(!line.starts_with("1718000000"), "{line:?}");
        assert!(!line.contains(|c: char| c.is_control() && c != '\t'), "{line:?}");
    }
    let _ = std::io::stderr().flush();
}

#[test]
fn the_manual_is_well_formed() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/man");
    let pages: Vec<_> = fs::read_dir(directory).unwrap().map(|page| page.unwrap().path()).collect();
    assert!(pages.len() >= 5, "{pages:?}");
    match Command::new("mandoc").args(["-Tlint", "-W", "warning"]).args(&pages).output() {
        Ok(output) => assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(_) => match Command::new("man").args(["--warnings", "-l"]).args(&pages).stdin(Stdio::null()).output() {
            Ok(output) => assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(_) => note("neither mandoc nor man here: skipped"),
        },
    }
}

#[test]
fn tls_on_a_plain_port_is_named() {
    let broker = Broker::start();
    let mut hello = Client::open(broker.addr());
    // A record of type handshake, TLS 1.0 as every ClientHello says, 512 bytes of which the first come.
    hello.send(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
    let line = format!(
        "Client from 127.0.0.1:{} appears to be using TLS to connect to a non-TLS listener.",
        hello.local_port()
    );
    broker.wait_for_log(&line, DEADLINE);
}

#[test]
fn without_connection_messages_only_faults_are_logged() {
    let broker = Broker::start_with("connection_messages false");
    let mut foreign = Client::open(broker.addr());
    foreign.send(b"\x10\x0d\x00\x04MQXX\x04\x02\x00\x3c\x00\x01a");
    let _ = foreign.recv(1);
    let mut first = Client::connect(broker.addr(), 5, "visitor");
    first.send(&[0x62, 2, 0, 0]);
    broker.wait_for_log("Protocol error from visitor: PUBREL with mid = 0.", DEADLINE);
    let log = broker.log_text();
    for text in ["New connection", "New client", "disconnected", "invalid protocol"] {
        assert!(!log.contains(text), "{text}: {log}");
    }
}

#[test]
fn a_line_goes_to_every_destination() {
    let directory = directory("destinations");
    let (stdout, file) = (directory.join("stdout"), directory.join("file"));
    let lines = format!(
        "log_dest stdout\nlog_dest stderr\nlog_dest topic\nlog_dest syslog\nlog_dest file {}\nlog_timestamp false\n",
        file.display()
    );
    let broker = Broker::start_with_stdout(&lines, &stdout);
    let mut reader = Client::connect(broker.addr(), 4, "reader");
    reader.send(b"\x82\x16\x00\x01\x00\x11$SYS/broker/log/N\x00");
    assert_eq!(reader.recv(5).unwrap(), b"\x90\x03\x00\x01\x00");
    let visitor = Client::connect(broker.addr(), 4, "visitor");
    let line = format!("New client connected from 127.0.0.1:{} as visitor (p4, c1, k60).", visitor.local_port());
    broker.wait_for_log(&line, DEADLINE);
    for path in [&stdout, &file] {
        let has = || fs::read_to_string(path).is_ok_and(|text| text.lines().any(|logged| logged == line));
        wait_until("the line is there", has);
    }
    let start = Instant::now();
    while cfg!(feature = "sys-tree") {
        let packet = reader.packet();
        assert_eq!(packet[0], 0x30, "QoS 0 as subscribed, not retained");
        if packet.ends_with(line.as_bytes()) {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "never published");
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
#[cfg(feature = "sys-tree")]
fn a_line_about_what_is_sent_is_published_without_another_event() {
    let broker = Broker::start_with("log_dest topic\nlog_dest stderr\nsys_interval 60000\n");
    let mut reader = Client::connect(broker.addr(), 4, "reader");
    reader.send(&client::subscribe(4, 1, "$SYS/broker/log/N", 0));
    reader.recv(5).unwrap();
    let mut small = Client::open(broker.addr());
    small.send(&client::connect_with(5, 2, 0, b"\x27\x00\x00\x00\x40", &[&client::string("small")]));
    small.packet();
    small.send(&client::subscribe(5, 1, "t", 0));
    small.packet();
    reader.send(&client::publish(4, 0, "t", 0, &[b'x'; 100]));
    let start = Instant::now();
    loop {
        let packet = reader.packet();
        if String::from_utf8_lossy(&packet).contains("Dropping too large outgoing PUBLISH for small") {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "never published");
    }
}
