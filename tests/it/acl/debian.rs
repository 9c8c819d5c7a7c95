//! The same random rules, users, client ids and topics for this broker and for Debian's. `ACL_CHECKS` says how many
//! answers are compared.
//!
//! Debian's is version 2.0.11, this one follows 2.1.2. Each answer is foretold by two small evaluations below, one for
//! each version; where brokers differ these must differ too, for one of the reasons in [`DIFFERENCES`].

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use super::*;
use crate::broker::note;

const DEBIAN: &str = "/usr/sbin/mosquitto";
const CHECKS: usize = 500;

/// Whether a rule can be the cause of a difference.
type IsCause = fn(&Rule, Who<'_>) -> bool;

/// Where 2.0.11 answers otherwise, and why it is right that we do not.
const DIFFERENCES: &[(&str, IsCause)] = &[
    // security.md 3.2: "replaced only when they form a whole level; [2.0]: replaced anywhere in the text"
    ("a placeholder that is only part of a level is text to 2.1", |rule, _| {
        rule.filter.split('/').any(|level| level.len() > 2 && (level.contains("%c") || level.contains("%u")))
    }),
    // security.md 3.2: "in 2.1 cannot match (value must equal one level); [2.0] textual substitution, spans levels"
    ("a value with a slash is no level to 2.1 and several to 2.0", |rule, who| {
        (rule.filter.contains("%c") && who.id.contains('/')) || (rule.filter.contains("%u") && who.user.contains('/'))
    }),
];

const USERS: [&str; 6] = ["", "ann", "bob", "a/b", "a+", "c d"];
const IDS: [&str; 6] = ["id", "me", "x/y", "i+", "ann", "%u"];
const LEVELS: [&str; 16] =
    ["a", "b", "x", "%c", "%u", "%c", "%u", "+", "+", "+", "", "$x", "p%u", "%c%u", "c d", "ann"];
const TOPICS: [&str; 24] = [
    "a",
    "b",
    "a/b",
    "a/b/x",
    "ann",
    "id",
    "me",
    "ann/id",
    "a/ann",
    "id/a",
    "me/ann",
    "x/y",
    "a/x/y",
    "x",
    "/",
    "/a",
    "a/",
    "pann",
    "pa/b",
    "idann",
    "c d",
    "$x",
    "$x/a",
    "$x/ann/id",
];
/// To these only the answer to a PUBLISH is compared.
const WRITTEN: [&str; 5] =
    ["$SYS/broker/x", "$SYS/broker/connection/a/state", "$SYS/broker/connection/a/b/state", "$share/a", "$CONTROL/x"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Grant {
    Read,
    Write,
    ReadWrite,
    Deny,
}

#[derive(Debug)]
struct Rule {
    user: &'static str,
    pattern: bool,
    grant: Grant,
    filter: String,
}

#[derive(Clone, Copy, Debug)]
struct Who<'a> {
    user: &'a str,
    id: &'a str,
}

/// Levels of a topic against those of a filter.
fn matches(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        ([f, filter @ ..], [t, topic @ ..]) => (*f == "+" || f == t) && matches(filter, topic),
        _ => false,
    }
}

/// Whether a rule is about a topic, by 2.0's reading or by 2.1's.
fn is_about(rule: &Rule, who: Who<'_>, topic: &str, textual: bool) -> bool {
    if topic.starts_with('$') && !rule.filter.starts_with('$') {
        return false;
    }
    let topic: Vec<&str> = topic.split('/').collect();
    if !rule.pattern {
        return matches(&rule.filter.split('/').collect::<Vec<_>>(), &topic);
    }
    if textual {
        if rule.filter.contains("%u") && who.user.is_empty() {
            return false;
        }
        // In one go, so that a value that looks like a placeholder is none.
        let (mut text, mut rest) = (String::new(), rule.filter.as_str());
        while let Some(next) = rest.chars().next() {
            let (value, len) = match rest.get(..2) {
                Some("%c") => (who.id.to_string(), 2),
                Some("%u") => (who.user.to_string(), 2),
                _ => (next.to_string(), next.len_utf8()),
            };
            text += &value;
            rest = &rest[len..];
        }
        return matches(&text.split('/').collect::<Vec<_>>(), &topic);
    }
    let mut filter = Vec::new();
    for level in rule.filter.split('/') {
        filter.push(match level {
            "%c" => who.id,
            "%u" if who.user.is_empty() => return false,
            "%u" => who.user,
            other => other,
        });
    }
    matches(&filter, &topic)
}

fn foretell(rules: &[Rule], who: Who<'_>, topic: &str, write: bool, textual: bool) -> bool {
    let states = topic.strip_prefix("$SYS/broker/connection/").and_then(|rest| rest.strip_suffix("/state"));
    if write && topic.starts_with("$SYS") && states.is_none_or(|name| name.contains('/')) {
        return false;
    }
    if topic.starts_with("$share") {
        return false;
    }
    let grants = |grant: Grant| match grant {
        Grant::Read => !write,
        Grant::Write => write,
        Grant::ReadWrite => true,
        Grant::Deny => false,
    };
    for pattern in [false, true] {
        let hits = || {
            let of = rules.iter().filter(|rule| rule.pattern == pattern && (pattern || rule.user == who.user));
            of.filter(|rule| is_about(rule, who, topic, textual))
        };
        if hits().any(|rule| rule.grant == Grant::Deny) {
            return false;
        }
        if hits().any(|rule| grants(rule.grant)) {
            return true;
        }
        if !pattern && (who.user.contains(['+', '#']) || who.id.contains(['+', '#'])) {
            return false;
        }
    }
    false
}

/// Debian's broker, killed when dropped.
struct Debian {
    child: Child,
    addr: SocketAddr,
    lines: Receiver<String>,
}

impl Debian {
    fn start(rules: &Rules) -> Debian {
        let port = free_port();
        let config = rules.dir.join("debian.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_type all\n{}",
            rules.line()
        );
        fs::write(&config, text).expect("a config file");
        let mut child = Command::new(DEBIAN)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Debian's broker");
        let (sender, lines) = channel();
        let stderr = child.stderr.take().expect("a pipe");
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if line.contains("Reloading config") && sender.send(line).is_err() {
                    break;
                }
            }
        });
        let debian = Debian { child, addr: ([127, 0, 0, 1], port).into(), lines };
        let deadline = Instant::now() + PATIENT;
        while TcpStream::connect(debian.addr).is_err() {
            assert!(Instant::now() < deadline, "Debian's broker does not start");
            thread::park_timeout(Duration::from_millis(5));
        }
        debian
    }

    /// Its one thread says that it reads the files, and reads them before it answers anybody.
    fn reload(&self) {
        let status = Command::new("kill").arg("-HUP").arg(self.child.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()));
        self.lines.recv_timeout(PATIENT).expect("it reloads");
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Random(Cell<u64>);

impl Random {
    fn below(&self, n: usize) -> usize {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        usize::try_from((x >> 11) % n as u64).expect("small")
    }

    fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

fn random_rules(random: &Random) -> (Vec<Rule>, String) {
    let (mut rules, mut text) = (Vec::new(), String::new());
    for user in USERS {
        if !user.is_empty() {
            text += &format!("user {user}\n");
        }
        for _ in 0..random.below(8) {
            let mut filter = (0..=random.below(3)).map(|_| random.pick(&LEVELS)).collect::<Vec<_>>().join("/");
            if filter.is_empty() || random.below(3) == 0 {
                filter += "/#";
            } else if random.below(8) == 0 {
                filter = random.pick(&["#", "$x/#"]).into();
            }
            let grants = [
                ("read", Grant::Read),
                ("write", Grant::Write),
                ("readwrite", Grant::ReadWrite),
                ("readwrite", Grant::ReadWrite),
                ("deny", Grant::Deny),
            ];
            let (word, grant) = random.pick(&grants);
            let pattern = random.below(3) == 0;
            text += &format!("{} {word} {filter}\n", if pattern { "pattern" } else { "topic" });
            rules.push(Rule { user, pattern, grant, filter });
        }
    }
    (rules, text + ADMIN)
}

/// What the client may write and read, asked over the wire.
fn ask(addr: SocketAddr, who: Who<'_>, admin: &mut Client) -> Vec<bool> {
    let mut client = enter(addr, 5, who.id, who.user, false);
    let mut answers: Vec<_> = TOPICS.iter().chain(&WRITTEN).map(|topic| code_of(&mut client, topic) != 0x87).collect();
    // Retained messages.
    let mut got = Vec::new();
    for filter in ["#", "$x/#"] {
        // With QoS 0 nothing waits for an acknowledgement.
        client.send(&subscribe(5, 9, filter, 0));
        client.expect(&[0x90, 4, 0, 9, 0, 0]);
        got.extend(topics(&mut client));
    }
    answers.extend(TOPICS.map(|topic| got.iter().any(|other| other == topic)));
    // Live messages.
    for topic in TOPICS {
        assert_ne!(code_of(admin, topic), 0x87);
    }
    let got = topics(&mut client);
    answers.extend(TOPICS.map(|topic| got.iter().any(|other| other == topic)));
    answers
}

/// What [`ask`] asks: topic, and whether it is about writing.
fn questions() -> Vec<(&'static str, bool)> {
    let writes = TOPICS.iter().chain(&WRITTEN).map(|topic| (*topic, true));
    let reads = TOPICS.iter().chain(&TOPICS).map(|topic| (*topic, false));
    writes.chain(reads).collect()
}

#[test]
fn debian_s_broker_gives_the_same_answers() {
    if !Path::new(DEBIAN).exists() {
        return note(&format!("{DEBIAN} is not there: no comparison of access control"));
    }
    let wanted = std::env::var("ACL_CHECKS").map_or(CHECKS, |text| text.parse().expect("a number"));
    let random = Random(Cell::new(0x9E37_79B9_7F4A_7C15));
    let (ours, rules) = start(ADMIN);
    let debian = Debian::start(&rules);
    let mut admins = [ours.addr(), debian.addr].map(|addr| enter(addr, 5, "admin", "admin", false));
    for admin in &mut admins {
        for topic in TOPICS {
            admin.send(&publish(5, 0x03, topic, 7, b"kept"));
            assert_eq!(admin.packet()[0], 0x40);
        }
    }
    let (mut checks, mut allowed) = (0, 0);
    let mut differences = vec![0; DIFFERENCES.len()];
    while checks < wanted {
        let (list, text) = random_rules(&random);
        reload(&ours, &rules, &text);
        debian.reload();
        for _ in 0..4 {
            let who = Who { user: random.pick(&USERS), id: random.pick(&IDS) };
            let mine = ask(ours.addr(), who, &mut admins[0]);
            let theirs = ask(debian.addr, who, &mut admins[1]);
            for ((mine, theirs), (topic, write)) in mine.into_iter().zip(theirs).zip(questions()) {
                checks += 1;
                allowed += usize::from(mine);
                let what = format!("{who:?} {topic:?}, write {write}, under\n{text}");
                let foretold = [false, true].map(|textual| foretell(&list, who, topic, write, textual));
                assert_eq!([mine, theirs], foretold, "ours and Debian's against what is foretold: {what}");
                if mine == theirs {
                    continue;
                }
                let about = list.iter().filter(|rule| rule.pattern);
                let about: Vec<_> = about
                    .filter(|rule| is_about(rule, who, topic, false) != is_about(rule, who, topic, true))
                    .collect();
                let reason = DIFFERENCES.iter().position(|(_, is)| about.iter().any(|rule| is(rule, who)));
                differences[reason.unwrap_or_else(|| panic!("an unknown difference: {what}"))] += 1;
            }
        }
    }
    let differences: Vec<_> =
        DIFFERENCES.iter().zip(differences).map(|((reason, _), n)| format!("{n} because {reason}")).collect();
    note(&format!(
        "{checks} answers about access ({allowed} times yes) compared with Debian's; {}",
        differences.join(", ")
    ));
}
