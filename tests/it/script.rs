//! `.case` files: what is sent and what must come back, one rule a case. Parsing and running know no socket, so that
//! the same cases can drive a broker in memory.
//!
//! ```text
//! # comment
//! case NAME [RULE] [RULE]    starts a case
//! version 3 4 5              the case runs once for each protocol version; default 4
//! config LINE                a line for the broker's configuration
//! ignore REASON              not run, but reported
//! on NAME                    the steps that follow are those of connection NAME; the first is `main`
//! connect                    CONNECT with a clean start and client id "CASE NAME", CONNACK with success
//! > TOKENS                   send
//! < TOKENS                   receive exactly this
//! alive                      PINGREQ, PINGRESP: nothing else was waiting
//! close                      the broker closes, without a further byte
//! drop                       this side closes, without DISCONNECT
//! ```
//! A connection opens with its first step. The tokens are those of [`crate::tokens`].

use std::collections::BTreeMap;

use crate::client::{Missing, hex};
use crate::tokens::{self, Pattern};

/// One connection to a broker, over a socket or in memory.
pub(crate) trait Link {
    /// Sends; a peer that is gone shows at the next `recv`.
    fn send(&mut self, bytes: &[u8]);
    /// Receives exactly `n` bytes.
    fn recv(&mut self, n: usize) -> Result<Vec<u8>, Missing>;
}

/// Where connections come from.
pub(crate) trait Transport {
    /// A new connection.
    fn open(&mut self) -> Result<Box<dyn Link>, String>;
}

/// One case.
#[derive(Debug, Default)]
pub(crate) struct Case {
    /// Its name with its rules.
    pub(crate) name: String,
    /// Protocol versions to run it with.
    pub(crate) versions: Vec<u8>,
    /// Lines for the configuration.
    pub(crate) config: Vec<String>,
    /// Why it is not run.
    pub(crate) ignore: Option<String>,
    steps: Vec<(usize, Step)>,
}

#[derive(Debug)]
enum Step {
    On(String),
    Connect,
    Send(Vec<u8>),
    Recv(Pattern),
    Alive,
    Close,
    Drop,
}

/// The cases of one file; an error names its line.
pub(crate) fn parse(text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(' ').map_or((line, ""), |(word, rest)| (word, rest.trim()));
        if word == "case" {
            if !rest.contains('[') || !rest.ends_with(']') {
                return Err(format!("line {number}: a case cites its rule in brackets"));
            }
            cases.push(Case { name: rest.to_owned(), versions: vec![4], ..Case::default() });
            continue;
        }
        let case = cases.last_mut().ok_or_else(|| format!("line {number}: no case yet"))?;
        let at_line = |why: String| format!("line {number}: {why}");
        let step = match word {
            "version" => {
                case.versions = rest
                    .split_ascii_whitespace()
                    .map(|v| {
                        v.parse().ok().filter(|v| (3..=5).contains(v)).ok_or(format!("line {number}: version {v}"))
                    })
                    .collect::<Result<_, _>>()?;
                continue;
            }
            "config" => {
                case.config.push(rest.to_owned());
                continue;
            }
            "ignore" => {
                case.ignore = Some(rest.to_owned());
                continue;
            }
            "on" => Step::On(rest.to_owned()),
            ">" => Step::Send(tokens::bytes(rest).map_err(at_line)?),
            "<" => Step::Recv(tokens::pattern(rest).map_err(at_line)?),
            "connect" | "alive" | "close" | "drop" if !rest.is_empty() => {
                return Err(format!("line {number}: `{word}` takes nothing"));
            }
            "connect" => Step::Connect,
            "alive" => Step::Alive,
            "close" => Step::Close,
            "drop" => Step::Drop,
            _ => return Err(format!("line {number}: unknown word `{word}`")),
        };
        case.steps.push((number, step));
    }
    Ok(cases)
}

/// Runs a case; the error says which line failed and how.
pub(crate) fn run(case: &Case, version: u8, transport: &mut dyn Transport) -> Result<(), String> {
    let mut links: BTreeMap<String, Box<dyn Link>> = BTreeMap::new();
    let mut current = "main".to_owned();
    for (number, step) in &case.steps {
        let at_line = |why: String| format!("line {number}: {why}");
        match step {
            Step::On(name) => {
                current.clone_from(name);
                continue;
            }
            Step::Drop => {
                links.remove(&current);
                continue;
            }
            _ => {}
        }
        if !links.contains_key(&current) {
            links.insert(current.clone(), transport.open().map_err(at_line)?);
        }
        let link = links.get_mut(&current).expect("just put there");
        match step {
            Step::On(_) | Step::Drop => {}
            Step::Send(bytes) => link.send(bytes),
            Step::Recv(wanted) => recv(link.as_mut(), wanted).map_err(at_line)?,
            Step::Alive => {
                link.send(&[0xC0, 0]);
                recv(link.as_mut(), &[Some(0xD0), Some(0)]).map_err(at_line)?;
            }
            Step::Connect => {
                let id = format!("{} {current}", case.name.split(" [").next().unwrap_or_default());
                link.send(&crate::client::connect(version, &id));
                recv(link.as_mut(), &[Some(0x20), None, Some(0), Some(0)]).map_err(at_line)?;
                if version == 5 {
                    let length = link.recv(1).map_err(|e| at_line(format!("{e:?}")))?;
                    link.recv(usize::from(length[0])).map_err(|e| at_line(format!("{e:?}")))?;
                }
            }
            Step::Close => match link.recv(1) {
                Err(Missing::Closed(_)) => {}
                Err(Missing::TimedOut(_)) => return Err(at_line("still open".into())),
                Ok(byte) => return Err(at_line(format!("wanted the end of the connection, got {}", hex(&byte)))),
            },
        }
    }
    Ok(())
}

fn recv(link: &mut dyn Link, wanted: &[Option<u8>]) -> Result<(), String> {
    let (got, how) = match link.recv(wanted.len()) {
        Ok(got) if wanted.iter().zip(&got).all(|(wanted, got)| wanted.is_none_or(|wanted| wanted == *got)) => {
            return Ok(());
        }
        Ok(got) => (got, ""),
        Err(Missing::Closed(got)) => (got, " then closed"),
        Err(Missing::TimedOut(got)) => (got, " then nothing"),
    };
    let wanted: Vec<_> = wanted.iter().map(|byte| byte.map_or("??".to_owned(), |byte| format!("{byte:02X}"))).collect();
    Err(format!("wanted {}\n        got    {}{how}", wanted.join(" "), hex(&got)))
}

/// Answers every send with the same bytes: enough to try the runner without a broker.
#[cfg(test)]
struct Parrot(Vec<u8>, Vec<u8>);

#[cfg(test)]
impl Link for Parrot {
    fn send(&mut self, _: &[u8]) {
        self.1.extend(&self.0);
    }

    fn recv(&mut self, n: usize) -> Result<Vec<u8>, Missing> {
        if self.1.len() < n {
            return Err(Missing::Closed(std::mem::take(&mut self.1)));
        }
        Ok(self.1.drain(..n).collect())
    }
}

#[cfg(test)]
struct Cage(&'static [u8]);

#[cfg(test)]
impl Transport for Cage {
    fn open(&mut self) -> Result<Box<dyn Link>, String> {
        Ok(Box::new(Parrot(self.0.to_vec(), Vec::new())))
    }
}

#[test]
fn a_case_passes_and_fails_where_it_should() {
    let run_all = |text: &str, answer: &'static [u8]| {
        parse(text).and_then(|cases| cases.iter().try_for_each(|case| run(case, case.versions[0], &mut Cage(answer))))
    };
    assert_eq!(run_all("case a [X]\n> 01\n< 02 ?1\nclose\n", &[2, 9]), Ok(()));
    assert_eq!(run_all("case a [X]\nalive\non b\n> 00\n< D0 00\non main\nclose\n", &[0xD0, 0]), Ok(()));
    for (text, answer, why) in [
        ("case a [X]\n> 01\n< 02\n", &[3][..], "line 3: wanted 02\n        got    03"),
        ("case a [X]\n> 01\n< 02 ?1\n", &[2], "line 3: wanted 02 ??\n        got    02 then closed"),
        ("case a [X]\n> 01\nclose\n", &[2], "line 3: wanted the end of the connection, got 02"),
        ("case a\n", &[], "line 1: a case cites its rule in brackets"),
        ("> 01\n", &[], "line 1: no case yet"),
        ("case a [X]\n> 0\n", &[], "line 2: bad token `0`"),
        ("case a [X]\nversion 6\n", &[], "line 2: version 6"),
        ("case a [X]\nsleep 5\n", &[], "line 2: unknown word `sleep`"),
    ] {
        assert_eq!(run_all(text, answer), Err(why.to_owned()), "{text}");
    }
}
