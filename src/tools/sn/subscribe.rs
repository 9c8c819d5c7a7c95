//! `mosquitto_sn_sub`: subscribes and prints what comes.

use std::ffi::OsString;
use std::io::{self, Write};

use super::link::{Link, Woken};
use super::options::{Asked, Common, Words, wrong};
use super::{Failure, TIMED_OUT, TOO_EARLY, USAGE, complain};
use crate::proto::sn::client::{Event, Outcome, Received, Topic};
use crate::wire::{QoS, topic};

const HELP: &str = "mosquitto_sn_sub subscribes over MQTT-SN 1.2 and prints the messages that come.

Usage: mosquitto_sn_sub {-t filter | --predefined id} ...
       [-h host] [-p port] [-q 0|1|2] [-v] [more of the options below]

 -h -p   host and UDP port of the gateway: localhost and 1884.
 --search   the host is a group or a broadcast address: take the gateway that answers there.
 -t      topic filter; one of two characters goes out as a short topic. --predefined id: a topic
         id that the gateway has in its configuration. Both may be repeated.
 -q      QoS, 0 unless given.          -U filter: end a subscription of a kept session.
 -v      print the topic before the message; #id is a predefined one.  -N: no end of line.
 -C n    stop after n messages.        -W seconds: stop after so long.  -E: once subscribed.
 -R      no retained messages.         --retained-only: nothing else, and stop at the first other.
 -T filter   do not print messages on these topics.
 --sleep seconds   sleep that long between two looks for messages.
 -i -I   client id; a prefix of it before the process id.  -c: keep the session (with -i).
 -k      keepalive in seconds: 60.     -A address: the local address to send from.
 --will-topic --will-payload --will-qos --will-retain   published if this client dies.
 --retry-interval seconds, --retries n: repeat what stays without an answer: 5, 3.
 -d --quiet --help --version   show what is sent and received; no errors; this text; version.

Example: mosquitto_sn_sub -t 'house/#' -v
";

/// Pause before a lost connection is set up again, as in `mosquitto_sub`.
const RECONNECT_MS: u64 = 1000;

const VALUES: [(&str, &str); 5] = [("C", ""), ("T", "filter-out"), ("U", "unsubscribe"), ("W", ""), ("", "sleep")];
const FLAGS: [(&str, &str); 5] = [("E", ""), ("N", ""), ("R", ""), ("v", "verbose"), ("", "retained-only")];

/// Which retained messages count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Retained {
    Too,
    Not,
    Only,
}

/// A valid command line.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    common: Common,
    topics: Vec<Topic>,
    unsubscribe: Vec<Topic>,
    filter_out: Vec<String>,
    qos: QoS,
    count: Option<u32>,
    limit_s: Option<u32>,
    exit_when_subscribed: bool,
    retained: Retained,
    verbose: bool,
    no_newline: bool,
    sleep_s: Option<u16>,
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
            complain(&format!("{}\n\nUse 'mosquitto_sn_sub --help' to see usage.", failure.text));
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
            let _reader_gone = writeln!(io::stdout(), "mosquitto_sn_sub version {}", env!("CARGO_PKG_VERSION"));
            return Ok(None);
        }
        Asked::Words(words) => words,
    };
    let common = words.common()?;
    let filters = |name: &str, kind: &str| {
        let check = |filter: String| match topic::check_filter(&filter) {
            Ok(()) => Ok(filter),
            Err(_) => Err(wrong(format!("Invalid {kind} topic '{filter}', are all '+' and '#' wildcards correct?"))),
        };
        words.all(name).into_iter().map(check).collect::<Result<Vec<_>, _>>()
    };
    let names = filters("topic", "subscription")?;
    let topics: Vec<Topic> = names.iter().map(|name| Topic::new(name)).chain(words.predefined()?).collect();
    let unsubscribe: Vec<Topic> = filters("unsubscribe", "unsubscribe")?.iter().map(|name| Topic::new(name)).collect();
    if topics.is_empty() && unsubscribe.is_empty() {
        return Err(wrong("You must specify a topic to subscribe to (-t or --predefined) or unsubscribe from (-U)."));
    }
    let retained = match (words.has("R"), words.has("retained-only")) {
        (true, true) => return Err(wrong("Combining '-R' and '--retained-only' makes no sense.")),
        (true, false) => Retained::Not,
        (false, true) => Retained::Only,
        (false, false) => Retained::Too,
    };
    Ok(Some(Request {
        topics,
        unsubscribe,
        filter_out: filters("filter-out", "filter")?,
        qos: words.qos("qos", "Invalid QoS given: ")?,
        count: words.number("C", 1..=u32::MAX, |word| format!("Invalid message count \"{word}\"."))?,
        limit_s: words.number("W", 1..=u32::MAX, |word| format!("Invalid timeout \"{word}\"."))?,
        exit_when_subscribed: words.has("E"),
        retained,
        verbose: words.has("verbose"),
        no_newline: words.has("N"),
        sleep_s: words.number("sleep", 1..=u16::MAX, |word| {
            format!("Invalid sleep \"{word}\", it must be between 1 and 65535 seconds.")
        })?,
        common,
    }))
}

/// Where the tool stands with its subscriptions.
struct Progress {
    /// SUBSCRIBE and UNSUBSCRIBE without an answer.
    open: usize,
    granted: usize,
    /// Messages that counted.
    messages: u32,
    /// When to connect again.
    reconnect_ms: Option<u64>,
    /// When to look for messages again.
    wake_ms: Option<u64>,
    /// How the tool will end, once that is decided.
    ending: Option<Result<(), Failure>>,
}

fn run(request: &Request) -> Result<(), Failure> {
    let mut link = Link::open(&request.common)?;
    let limit_ms = request.limit_s.map(|seconds| link.now_ms().saturating_add(u64::from(seconds) * 1000));
    let mut now = Progress { open: 0, granted: 0, messages: 0, reconnect_ms: None, wake_ms: None, ending: None };
    let mut connected = false;
    link.connect()?;
    loop {
        let limit_ms = limit_ms.filter(|_| now.ending.is_none());
        let until_ms = [limit_ms, now.reconnect_ms, now.wake_ms].into_iter().flatten().min();
        match link.wait(until_ms, None)? {
            Woken::Signal if !connected => return Err(Failure::new(TOO_EARLY, "")),
            Woken::Signal if now.ending.is_some() => break,
            Woken::Signal => leave(&mut link, &mut now, Ok(())),
            Woken::Time if limit_ms.is_some() && limit_ms <= Some(link.now_ms()) => {
                if !connected {
                    return Err(Failure::new(TOO_EARLY, ""));
                }
                leave(&mut link, &mut now, Err(Failure::new(TIMED_OUT, "Timed out")));
            }
            Woken::Time => {
                let now_ms = link.now_ms();
                if now.reconnect_ms.take_if(|due| *due <= now_ms).is_some() {
                    link.connect()?;
                }
                if now.wake_ms.take_if(|due| *due <= now_ms).is_some() {
                    link.client.wake(now_ms);
                }
            }
            Woken::Event(Event::Refused(code)) if !connected => return Err(Failure::refused(code)),
            Woken::Event(Event::Lost) if !connected => return Err(link.silence()),
            Woken::Event(event) => {
                connected |= event == Event::Connected;
                on_event(request, &mut link, &mut now, event)?;
            }
            Woken::Input => {}
        }
        if now.ending.is_some() && link.client.is_disconnected() {
            break;
        }
    }
    now.ending.unwrap_or(Ok(()))
}

fn on_event(request: &Request, link: &mut Link, now: &mut Progress, event: Event) -> Result<(), Failure> {
    match event {
        Event::Connected if now.ending.is_none() => subscribe(request, link, now)?,
        Event::Lost | Event::Dismissed | Event::Refused(_) if now.ending.is_none() => {
            (now.open, now.wake_ms) = (0, None);
            now.reconnect_ms = Some(link.now_ms().saturating_add(RECONNECT_MS));
        }
        Event::Subscribed(_, outcome, _) if outcome != Outcome::Abandoned => {
            now.granted += usize::from(outcome == Outcome::Done);
            answered(request, link, now);
        }
        Event::Finished(_, outcome) if outcome != Outcome::Abandoned => answered(request, link, now),
        Event::Asleep => {
            let seconds = u64::from(request.sleep_s.unwrap_or(1));
            now.wake_ms = Some(link.now_ms().saturating_add(seconds * 1000));
        }
        Event::Message(message) if now.ending.is_none() && !on_message(request, now, &message)? => {
            leave(link, now, Ok(()));
        }
        _ => {}
    }
    Ok(())
}

fn subscribe(request: &Request, link: &mut Link, now: &mut Progress) -> Result<(), Failure> {
    let now_ms = link.now_ms();
    let too_long = |_| Failure::new(USAGE, "Error: A topic is too long for MQTT-SN.");
    (now.open, now.granted) = (request.topics.len() + request.unsubscribe.len(), 0);
    for topic in &request.topics {
        link.client.subscribe(now_ms, topic.clone(), request.qos).map_err(too_long)?;
    }
    for topic in &request.unsubscribe {
        link.client.unsubscribe(now_ms, topic.clone()).map_err(too_long)?;
    }
    Ok(())
}

/// One more answer to what was asked for after the connection.
fn answered(request: &Request, link: &mut Link, now: &mut Progress) {
    now.open = now.open.saturating_sub(1);
    if now.open != 0 || now.ending.is_some() {
        return;
    }
    if now.granted == 0 && !request.topics.is_empty() {
        if !request.common.quiet {
            complain("All subscription requests were denied.");
        }
        leave(link, now, Ok(()));
    } else if request.exit_when_subscribed {
        leave(link, now, Ok(()));
    } else if let Some(seconds) = request.sleep_s {
        // The gateway is told the time for a few tries more, so that a lost datagram does not cost the session.
        let settings = link.client.settings();
        let tries_s = settings.retry_ms.saturating_mul(u64::from(settings.retries)) / 1000;
        let duration = u64::from(seconds).saturating_add(tries_s);
        let now_ms = link.now_ms();
        link.client.sleep(now_ms, u16::try_from(duration).unwrap_or(u16::MAX));
    }
}

/// Prints a message, if it is one to be printed. Returns false when it was the last.
fn on_message(request: &Request, now: &mut Progress, message: &Received) -> Result<bool, Failure> {
    match request.retained {
        Retained::Only if !message.retain => return Ok(false),
        Retained::Not if message.retain => return Ok(true),
        _ => {}
    }
    let name = match &message.topic {
        Topic::Name(name) => name.clone(),
        Topic::Short(name) => String::from_utf8_lossy(name).into_owned(),
        Topic::Predefined(id) => format!("#{id}"),
    };
    if request.filter_out.iter().any(|filter| topic::matches(filter, &name)) {
        return Ok(true);
    }
    let line = line(request, &name, &message.payload);
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(&line).and_then(|()| stdout.flush());
    printed.map_err(|error| Failure::io("Unable to print: ", &error))?;
    now.messages += 1;
    Ok(request.count.is_none_or(|count| now.messages < count))
}

/// A message as it is printed.
fn line(request: &Request, name: &str, payload: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    match (request.verbose, payload.is_empty()) {
        (true, false) => line.extend([name.as_bytes(), b" ", payload].concat()),
        (true, true) if request.no_newline => return line,
        (true, true) => line.extend([name.as_bytes(), b" (null)"].concat()),
        (false, true) => return line,
        (false, false) => line.extend(payload),
    }
    if !request.no_newline {
        line.push(b'\n');
    }
    line
}

/// Says goodbye; the tool ends so when that is answered.
fn leave(link: &mut Link, now: &mut Progress, ending: Result<(), Failure>) {
    let now_ms = link.now_ms();
    (now.ending, now.reconnect_ms, now.wake_ms) = (Some(ending), None, None);
    link.client.give_up_requests();
    link.client.disconnect(now_ms);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Request, String> {
        let args: Vec<OsString> = args.iter().map(Into::into).collect();
        parse(&args).map(|request| request.expect("a request")).map_err(|failure| failure.text)
    }

    #[test]
    fn topics_add_up_and_other_options_do_not() {
        let request = parsed(&[
            "-t",
            "a/#",
            "--topic",
            "ab",
            "--predefined",
            "7",
            "--predefined",
            "8",
            "-U",
            "x/y",
            "-T",
            "a/b",
            "-q",
            "0",
            "-q",
            "2",
            "-C",
            "3",
            "-W",
            "4",
            "-v",
            "-N",
            "-R",
            "-E",
            "--sleep",
            "30",
        ])
        .unwrap();
        let name = |text: &str| Topic::Name(text.into());
        assert_eq!(request.topics, [name("a/#"), Topic::Short(*b"ab"), Topic::Predefined(7), Topic::Predefined(8)]);
        assert_eq!((request.unsubscribe, request.filter_out), (vec![name("x/y")], vec!["a/b".to_string()]));
        assert_eq!((request.qos, request.count, request.limit_s), (QoS::ExactlyOnce, Some(3), Some(4)));
        assert_eq!((request.sleep_s, request.retained), (Some(30), Retained::Not));
        assert!(request.verbose && request.no_newline && request.exit_when_subscribed);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (args, error) in [
            (&[][..], "You must specify a topic to subscribe to (-t or --predefined) or unsubscribe from (-U)."),
            (&["-t", "a+"], "Invalid subscription topic 'a+', are all '+' and '#' wildcards correct?"),
            (&["-U", "#/a"], "Invalid unsubscribe topic '#/a', are all '+' and '#' wildcards correct?"),
            (&["-t", "a", "-q", "-1"], "Invalid QoS given: -1."),
            (&["-t", "a", "-C", "0"], "Invalid message count \"0\"."),
            (&["-t", "a", "-W", "x"], "Invalid timeout \"x\"."),
            (&["-t", "a", "--sleep", "0"], "Invalid sleep \"0\", it must be between 1 and 65535 seconds."),
            (&["-t", "a", "-R", "--retained-only"], "Combining '-R' and '--retained-only' makes no sense."),
            (&["-t", "a", "-m", "x"], "Unknown option '-m'."),
        ] {
            assert_eq!(parsed(args).unwrap_err(), format!("Error: {error}"), "{args:?}");
        }
    }

    #[test]
    fn the_documents_are_complete() {
        let page = include_str!("../../../man/mosquitto_sn_sub.1");
        super::super::options::tests::check_documents(HELP, page, &VALUES, &FLAGS);
    }

    #[test]
    fn the_help_fits_a_screen() {
        assert!(HELP.lines().count() <= 25 && HELP.lines().all(|line| line.len() <= 100), "{HELP}");
    }

    #[test]
    fn messages_as_they_are_printed() {
        let print = |args: &[&str], payload: &[u8]| {
            let request = parsed(&[&["-t", "a"], args].concat()).unwrap();
            String::from_utf8(line(&request, "a/b", payload)).unwrap()
        };
        assert_eq!(print(&[], b"x"), "x\n");
        assert_eq!(print(&[], b""), "");
        assert_eq!(print(&["-v"], b"x"), "a/b x\n");
        assert_eq!(print(&["-v"], b""), "a/b (null)\n");
        assert_eq!(print(&["-v", "-N"], b""), "");
        assert_eq!(print(&["-N"], b"x"), "x");
    }
}
