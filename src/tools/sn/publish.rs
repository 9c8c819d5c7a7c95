//! `mosquitto_sn_pub`: publishes one message, or one for each line it reads.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use super::link::{Link, Woken};
use super::options::{Asked, Common, Words, wrong};
use super::{Failure, TOO_EARLY, USAGE, Words as CodeWords, complain};
use crate::proto::sn::client::{Event, Outcome, Ticket, Topic};
use crate::wire::{QoS, topic};

const HELP: &str = "mosquitto_sn_pub publishes messages over MQTT-SN 1.2.

Usage: mosquitto_sn_pub {-t topic | --predefined id} {-m text | -f file | -l | -n | -s}
       [-h host] [-p port] [-q -1|0|1|2] [-r] [more of the options below]

 -h -p   host and UDP port of the gateway: localhost and 1884.
 --search   the host is a group or a broadcast address: take the gateway that answers there.
 -t      topic; one of two characters goes out as a short topic. --predefined id: a topic id
         that the gateway has in its configuration.
 -m -n   the message itself; an empty one. -f file, -s: all of a file or of standard input.
 -l      a message for each line of standard input.
 -q      QoS, 0 unless given. -1: without a connection, for short and predefined topics.
 -r      retain.      --repeat n, --repeat-delay seconds: the message n times.
 -i -I   client id; a prefix of it before the process id.  -c: keep the session (with -i).
 -k      keepalive in seconds: 60.     -A address: the local address to send from.
 --will-topic --will-payload --will-qos --will-retain   published if this client dies.
 --retry-interval seconds, --retries n: repeat what stays without an answer: 5, 3.
 -d --quiet --help --version   show what is sent and received; no errors; this text; version.

Example: mosquitto_sn_pub -t house/kitchen -m 21.5 -q 1
";

/// Messages of `-l` that may be under way or wait.
const MAX_WAITING: usize = 20;
/// Pause before a lost connection is set up again, as in `mosquitto_pub`.
const RECONNECT_MS: u64 = 1000;
/// What is read from standard input at a time.
const CHUNK: usize = 8192;

const VALUES: [(&str, &str); 4] = [("m", "message"), ("f", "file"), ("", "repeat"), ("", "repeat-delay")];
const FLAGS: [(&str, &str); 4] = [("l", "stdin-line"), ("n", "null-message"), ("r", "retain"), ("s", "stdin-file")];

/// Where messages come from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    Payload(Vec<u8>),
    File(String),
    Stdin,
    Lines,
}

/// A valid command line.
#[derive(Debug, PartialEq)]
struct Request {
    common: Common,
    topic: Topic,
    /// `None` is QoS −1.
    qos: Option<QoS>,
    retain: bool,
    source: Source,
    repeat: u32,
    repeat_delay_ms: u64,
}

/// The tool from start to end. Takes the arguments behind the program's name and returns the exit status.
#[must_use]
pub fn main(args: &[OsString]) -> i32 {
    match parse(args) {
        Ok(Some(request)) => match run(&request) {
            Ok(()) => 0,
            Err(failure) => failure.report(request.common.quiet),
        },
        Ok(None) => USAGE,
        Err(failure) => {
            complain(&format!("{}\n\nUse 'mosquitto_sn_pub --help' to see usage.", failure.text));
            failure.status
        }
    }
}

/// `None` when the question was answered already.
fn parse(args: &[OsString]) -> Result<Option<Request>, Failure> {
    let words = match Words::parse(args, &VALUES, &FLAGS)? {
        Asked::Help => {
            let _reader_gone = io::stdout().write_all(HELP.as_bytes());
            return Ok(None);
        }
        Asked::Version => {
            let _reader_gone = writeln!(io::stdout(), "mosquitto_sn_pub version {}", env!("CARGO_PKG_VERSION"));
            return Ok(None);
        }
        Asked::Words(words) => words,
    };
    let common = words.common()?;
    let qos = match words.number("qos", -1..=2, |word| format!("Invalid QoS given: {word}"))? {
        Some(-1) => None,
        number => QoS::from_bits(u8::try_from(number.unwrap_or(0)).unwrap_or(0)),
    };
    let topic = match (words.last("topic"), words.predefined()?.pop()) {
        (Some(_), Some(_)) => return Err(wrong("-t and --predefined argument cannot be used together.")),
        (Some(name), None) if topic::check_name(&name).is_err() => {
            return Err(wrong(format!("Invalid publish topic '{name}', does it contain '+' or '#'?")));
        }
        (Some(name), None) => Topic::new(&name),
        (None, Some(id)) => id,
        (None, None) => return Err(wrong("Both topic and message must be supplied.")),
    };
    if let (None, Topic::Name(name)) = (qos, &topic) {
        let text = format!("'{name}' cannot be used with QoS -1, only a topic of two characters or --predefined.");
        return Err(wrong(text));
    }
    let sources = [
        words.last("message").map(|text| Source::Payload(text.into_bytes())),
        words.last("file").map(Source::File),
        words.has("stdin-line").then_some(Source::Lines),
        words.has("null-message").then_some(Source::Payload(Vec::new())),
        words.has("stdin-file").then_some(Source::Stdin),
    ];
    let mut sources = sources.into_iter().flatten();
    let source = sources.next().ok_or_else(|| wrong("Both topic and message must be supplied."))?;
    if sources.next().is_some() {
        return Err(wrong("Only one type of message can be sent at once."));
    }
    let repeat = words.number("repeat", 1..=u32::MAX, |word| format!("Invalid repeat count \"{word}\"."))?;
    let delay = words.number("repeat-delay", 0.0..=86_400.0, |word| format!("Invalid repeat delay \"{word}\"."))?;
    Ok(Some(Request {
        common,
        topic,
        qos,
        retain: words.has("retain"),
        source,
        repeat: repeat.unwrap_or(1),
        // Within bounds, which were checked.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        repeat_delay_ms: (delay.unwrap_or(0.0_f64) * 1000.0) as u64,
    }))
}

/// The payload that stands fast before the connection; `None` for lines that come later.
fn load(source: &Source) -> Result<Option<Vec<u8>>, Failure> {
    match source {
        Source::Payload(payload) => Ok(Some(payload.clone())),
        Source::Lines => Ok(None),
        Source::File(path) => std::fs::read(path).map(Some).map_err(|error| {
            let cause = Failure::io(&format!("Unable to read file \"{path}\": "), &error).text;
            Failure::new(USAGE, format!("{cause}\nError loading input file \"{path}\"."))
        }),
        Source::Stdin => {
            let mut payload = Vec::new();
            match io::stdin().lock().read_to_end(&mut payload) {
                Ok(1..) => Ok(Some(payload)),
                Ok(0) => Err(Failure::new(USAGE, "Error: Zero length input.\nError loading input from stdin.")),
                Err(error) => Err(Failure::io("Error loading input from stdin: ", &error)),
            }
        }
    }
}

/// Cuts what comes into lines.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    ended: bool,
}

impl Lines {
    /// Reads once, which does not block when there is something.
    fn read(&mut self, mut from: impl Read) -> Result<(), Failure> {
        let start = self.rest.len();
        self.rest.resize(start + CHUNK, 0);
        let got = from.read(&mut self.rest[start..]);
        self.rest.truncate(start + got.as_ref().map_or(0, |len| *len));
        match got {
            Ok(0) => self.ended = true,
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(Failure::io("Unable to read standard input: ", &error));
            }
            _ => {}
        }
        Ok(())
    }

    /// The next whole line, or at the end what is left.
    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let mut line: Vec<u8> = self.rest.drain(..=end).collect();
            line.pop();
            return Some(line);
        }
        (self.ended && !self.rest.is_empty()).then(|| std::mem::take(&mut self.rest))
    }

    fn is_done(&self) -> bool {
        self.ended && self.rest.is_empty()
    }
}

fn run(request: &Request) -> Result<(), Failure> {
    let payload = load(&request.source)?;
    let mut link = Link::open(&request.common)?;
    match (request.qos, payload) {
        (None, payload) => without_connection(request, &mut link, payload),
        (Some(qos), Some(payload)) => repeatedly(request, &mut link, qos, &payload),
        (Some(qos), None) => each_line(request, &mut link, qos),
    }
}

/// QoS −1: nobody answers, not even whether there is somebody.
fn without_connection(request: &Request, link: &mut Link, payload: Option<Vec<u8>>) -> Result<(), Failure> {
    link.find()?;
    let mut send = |payload: &[u8]| {
        let now_ms = link.now_ms();
        let sent = link.client.publish_minus_one(now_ms, &request.topic, request.retain, payload);
        sent.map_err(|_| too_long(payload))?;
        link.flush()
    };
    let Some(payload) = payload else {
        let mut lines = Lines::default();
        while !lines.is_done() {
            lines.read(io::stdin().lock())?;
            while let Some(line) = lines.next() {
                send(&line)?;
            }
        }
        return Ok(());
    };
    for turn in 0..request.repeat {
        if turn != 0 {
            std::thread::sleep(std::time::Duration::from_millis(request.repeat_delay_ms));
        }
        send(&payload)?;
    }
    Ok(())
}

fn too_long(payload: &[u8]) -> Failure {
    Failure::new(9, format!("Error: A payload of {} bytes is too long for MQTT-SN.", payload.len()))
}

/// Connects; what comes before the answer ends the tool.
fn establish(link: &mut Link) -> Result<(), Failure> {
    link.connect()?;
    loop {
        match link.wait(None, None)? {
            Woken::Event(Event::Connected) => return Ok(()),
            Woken::Event(Event::Refused(code)) => return Err(Failure::refused(code)),
            Woken::Event(Event::Lost) => return Err(link.silence()),
            Woken::Signal => return Err(Failure::new(TOO_EARLY, "")),
            _ => {}
        }
    }
}

/// Says how a publish ended if it did not go well. As with `mosquitto_pub`, a refusal is a warning.
fn note(request: &Request, number: u32, outcome: Outcome) {
    if let (Outcome::Refused(code), false) = (outcome, request.common.quiet) {
        complain(&format!("Warning: Publish {number} failed: {}.", CodeWords(code)));
    }
}

/// One message, as often as wanted; each after the answer to the one before.
fn repeatedly(request: &Request, link: &mut Link, qos: QoS, payload: &[u8]) -> Result<(), Failure> {
    establish(link)?;
    for turn in 1..=request.repeat {
        let pause_ms = if turn == 1 { 0 } else { request.repeat_delay_ms };
        let until_ms = link.now_ms().saturating_add(pause_ms);
        loop {
            match link.wait(Some(until_ms), None)? {
                Woken::Time => break,
                Woken::Signal => return leave(link),
                Woken::Event(Event::Lost | Event::Dismissed) => return Err(Failure::lost()),
                _ => {}
            }
        }
        let now_ms = link.now_ms();
        let topic = request.topic.clone();
        let sent = link.client.publish(now_ms, topic, qos, request.retain, payload);
        let ticket = sent.map_err(|_| too_long(payload))?;
        loop {
            match link.wait(None, None)? {
                Woken::Event(Event::Finished(finished, outcome)) if finished == ticket => {
                    if outcome == Outcome::Abandoned {
                        return Err(Failure::lost());
                    }
                    note(request, turn, outcome);
                    break;
                }
                Woken::Event(Event::Lost | Event::Dismissed) => return Err(Failure::lost()),
                Woken::Signal => return leave(link),
                _ => {}
            }
        }
    }
    leave(link)
}

/// A message for each line. A lost connection is set up again, and what it took with it is sent anew.
fn each_line(request: &Request, link: &mut Link, qos: QoS) -> Result<(), Failure> {
    establish(link)?;
    let stdin = io::stdin();
    let mut lines = Lines::default();
    let mut under_way: BTreeMap<Ticket, (u32, Vec<u8>)> = BTreeMap::new();
    let mut again: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut number = 0;
    let mut reconnect_ms = None;
    loop {
        while under_way.len() < MAX_WAITING {
            let next = again.pop().or_else(|| {
                number += 1;
                lines.next().map(|line| (number, line))
            });
            let Some((number_of, line)) = next else {
                number -= 1;
                break;
            };
            let now_ms = link.now_ms();
            let sent = link.client.publish(now_ms, request.topic.clone(), qos, request.retain, &line);
            under_way.insert(sent.map_err(|_| too_long(&line))?, (number_of, line));
        }
        if under_way.is_empty() && lines.is_done() {
            return leave(link);
        }
        let hungry = !lines.ended && under_way.len() < MAX_WAITING;
        match link.wait(reconnect_ms, hungry.then(|| stdin.as_fd()))? {
            Woken::Input => lines.read(io::stdin().lock())?,
            Woken::Event(Event::Finished(ticket, outcome)) => {
                if let Some((number, line)) = under_way.remove(&ticket) {
                    match outcome {
                        Outcome::Abandoned => again.insert(0, (number, line)),
                        _ => note(request, number, outcome),
                    }
                }
            }
            Woken::Event(Event::Lost | Event::Dismissed | Event::Refused(_)) => {
                reconnect_ms = Some(link.now_ms() + RECONNECT_MS);
            }
            Woken::Time => {
                reconnect_ms = None;
                link.connect()?;
            }
            Woken::Signal => return leave(link),
            Woken::Event(_) => {}
        }
    }
}

/// DISCONNECT. Everything is delivered by now; without an answer only the will is in doubt.
fn leave(link: &mut Link) -> Result<(), Failure> {
    if link.client.is_disconnected() {
        return Ok(());
    }
    let now_ms = link.now_ms();
    link.client.disconnect(now_ms);
    loop {
        match link.wait(None, None)? {
            Woken::Event(Event::Disconnected | Event::Dismissed | Event::Lost) | Woken::Signal => return Ok(()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::sn::client::Will;

    fn parsed(args: &[&str]) -> Result<Request, String> {
        let args: Vec<OsString> = args.iter().map(Into::into).collect();
        parse(&args).map(|request| request.expect("a request")).map_err(|failure| failure.text)
    }

    #[test]
    fn the_last_of_an_option_counts() {
        let request = parsed(&[
            "-t",
            "a/b",
            "-t",
            "c/d",
            "-m",
            "-1",
            "-q",
            "1",
            "--qos",
            "2",
            "-h",
            "x",
            "-p",
            "7",
            "-i",
            "me",
            "-k",
            "9",
            "-r",
            "-r",
            "-c",
            "--will-topic",
            "w",
            "--will-payload",
            "p",
            "--will-qos",
            "1",
            "--will-retain",
            "-d",
            "--repeat",
            "3",
            "--repeat-delay",
            "0.25",
            "--retry-interval",
            "2",
            "--retries",
            "0",
            "--quiet",
            "-A",
            "127.0.0.9",
        ])
        .unwrap();
        assert_eq!(request.topic, Topic::Name("c/d".into()));
        assert_eq!((request.qos, request.retain), (Some(QoS::ExactlyOnce), true));
        assert_eq!((request.repeat, request.repeat_delay_ms), (3, 250));
        assert_eq!(request.source, Source::Payload(b"-1".to_vec()));
        let Common { host, port, bind, search, settings, debug, quiet } = request.common;
        assert_eq!((host.as_str(), port, bind.as_deref(), search), ("x", 7, Some("127.0.0.9"), false));
        assert!(debug && quiet && !settings.clean_session);
        assert_eq!((settings.client_id.as_str(), settings.keepalive_s), ("me", 9));
        assert_eq!((settings.retry_ms, settings.retries), (2000, 0));
        let will = Will { topic: "w".into(), payload: b"p".to_vec(), qos: QoS::AtLeastOnce, retain: true };
        assert_eq!(settings.will, Some(will));
    }

    #[test]
    fn topics_in_their_three_forms() {
        let topic = |args: &[&str]| parsed(&[args, &["-n", "-q", "-1"]].concat()).unwrap();
        assert_eq!(topic(&["-t", "ab"]).topic, Topic::Short(*b"ab"));
        assert_eq!(topic(&["--predefined", "7"]).topic, Topic::Predefined(7));
        assert_eq!(topic(&["--predefined", "7"]).qos, None);
        let request = parsed(&["-t", "abc", "-n"]).unwrap();
        assert_eq!((request.topic, request.qos), (Topic::Name("abc".into()), Some(QoS::AtMostOnce)));
        assert_eq!(request.common.port, 1884);
        assert_eq!(request.common.settings.client_id.len(), 21);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (args, error) in [
            (&["-t", "a"][..], "Both topic and message must be supplied."),
            (&["-m", "a"], "Both topic and message must be supplied."),
            (&["-t", "a", "-m", "x", "-n"], "Only one type of message can be sent at once."),
            (&["-t", "a/+", "-n"], "Invalid publish topic 'a/+', does it contain '+' or '#'?"),
            (&["-t", "a", "--predefined", "1", "-n"], "-t and --predefined argument cannot be used together."),
            (&["--predefined", "0", "-n"], "Invalid predefined topic id '0', it must be between 1 and 65534."),
            (
                &["-t", "abc", "-n", "-q", "-1"],
                "'abc' cannot be used with QoS -1, only a topic of two characters or --predefined.",
            ),
            (&["-t", "a", "-n", "-q", "3"], "Invalid QoS given: 3"),
            (&["-t", "a", "-n", "-p", "0"], "Invalid port given: 0"),
            (&["-t", "a", "-n", "-k", "4"], "Invalid keepalive given, it must be between 5 and 65535 inclusive."),
            (&["-t", "a", "-n", "-c"], "You must provide a client id if you are using the -c option."),
            (&["-t", "a", "-n", "-i", "x", "-I", "y"], "-i and -I argument cannot be used together."),
            (&["-t", "a", "-n", "-i", ""], "Invalid client id: it must not be empty."),
            (&["-t", "a", "-n", "--will-payload", "x"], "Will payload given, but no will topic given."),
            (&["-t", "a", "-n", "--will-retain"], "Will retain given, but no will topic given."),
            (&["-t", "a", "-n", "--will-topic", "#"], "Invalid will topic '#', does it contain '+' or '#'?"),
            (&["-t", "a", "-n", "--will-topic", "b", "--will-qos", "x"], "Invalid will QoS x."),
            (&["-t", "a", "-n", "--repeat", "0"], "Invalid repeat count \"0\"."),
            (&["-t", "a", "-n", "--repeat-delay", "-1"], "Invalid repeat delay \"-1\"."),
            (&["-t", "a", "-n", "--repeat-delay", "NaN"], "Invalid repeat delay \"NaN\"."),
            (
                &["-t", "a", "-n", "--retry-interval", "0"],
                "Invalid retry interval \"0\", it must be between 1 and 3600 seconds.",
            ),
            (&["-t", "a", "-n", "--sleep"], "Unknown option '--sleep'."),
            (&["-t", "a", "-n", "-C", "1"], "Unknown option '-C'."),
            (&["-t", "a", "-n", "word"], "Unknown option 'word'."),
            (&["-t"], "-t argument given but no value specified."),
        ] {
            assert_eq!(parsed(args).unwrap_err(), format!("Error: {error}"), "{args:?}");
        }
    }

    #[test]
    fn the_documents_are_complete() {
        let page = include_str!("../../../man/mosquitto_sn_pub.1");
        super::super::options::tests::check_documents(HELP, page, &VALUES, &FLAGS);
    }

    #[test]
    fn the_help_fits_a_screen() {
        assert!(HELP.lines().count() <= 24 && HELP.lines().all(|line| line.len() <= 100), "{HELP}");
    }

    #[test]
    fn lines_whole_empty_and_unfinished() {
        let mut lines = Lines::default();
        lines.read(&b"a\n\nb"[..]).unwrap();
        assert_eq!([lines.next(), lines.next(), lines.next()], [Some(b"a".to_vec()), Some(vec![]), None]);
        lines.read(&b"c"[..]).unwrap();
        assert_eq!(lines.next(), None);
        lines.read(&b""[..]).unwrap();
        assert_eq!((lines.next(), lines.is_done()), (Some(b"bc".to_vec()), true));
    }
}
