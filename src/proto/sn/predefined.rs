//! Predefined topic ids [SN 6.6]: numbers that both sides have in their configuration. Some belong to one client, the others
//! to all.
//!
//! The file has a line for each: client id or `*`, topic name, id, separated by commas; blanks around them and lines that
//! start with `#` do not count. It is the format of the Paho gateway.

use std::collections::BTreeMap;

use crate::wire::reader::utf8;
use crate::wire::topic::check_name;

/// What stands for every client.
const ALL: &str = "*";

/// A line of a file that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// The ids of one listener.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Predefined {
    /// By client id, empty for all, and id.
    topics: BTreeMap<(Box<str>, u16), Box<str>>,
}

impl Predefined {
    /// Adds the lines of a file.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn read(&mut self, text: &[u8]) -> Result<(), FileError> {
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let wrong = |what: String| FileError { line: at.saturating_add(1), what };
            let line = utf8(line.trim_ascii()).ok_or_else(|| wrong("the line is not UTF-8 text".into()))?;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // A topic name may hold commas, a client id and a number do not.
            let split = line.split_once(',').and_then(|(client, rest)| Some((client, rest.rsplit_once(',')?)));
            let Some((client, (topic, id))) = split else {
                return Err(wrong("a client id or *, a topic name and an id are expected, separated by commas".into()));
            };
            let id = parse_id(id.trim()).ok_or_else(|| wrong(format!("'{}' is no id from 1 to 65534", id.trim())))?;
            self.add(client.trim(), id, topic.trim()).map_err(wrong)?;
        }
        Ok(())
    }

    /// Adds an id for `client`, or for every client when that is `*`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&mut self, client: &str, id: u16, topic: &str) -> Result<(), String> {
        if !(1..=0xFFFE).contains(&id) {
            return Err(format!("{id} is no id from 1 to 65534"));
        }
        if check_name(topic).is_err() || topic.len() > usize::from(u16::MAX) {
            return Err(format!("'{topic}' is no topic name"));
        }
        let client = if client == ALL { "" } else { client };
        match self.topics.insert((client.into(), id), topic.into()) {
            Some(other) if *other != *topic => Err(format!("id {id} is '{other}' already")),
            _ => Ok(()),
        }
    }

    /// The topic name that an id stands for, as this client sees it. `None` for the client id of somebody who has not said it
    /// asks for those of all.
    #[must_use]
    pub fn name(&self, client_id: Option<&str>, id: u16) -> Option<&str> {
        let of = |client: &str| self.topics.get(&(client.into(), id)).map(|name| &**name);
        client_id.filter(|client| !client.is_empty()).and_then(of).or_else(|| of(""))
    }
}

/// A decimal number from 1 to 65534.
pub(super) fn parse_id(text: &str) -> Option<u16> {
    text.parse().ok().filter(|id| (1..=0xFFFE).contains(id) && !text.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Predefined, FileError> {
        let mut topics = Predefined::default();
        topics.read(text.as_bytes()).map(|()| topics)
    }

    /// [SN 6.6]
    #[test]
    fn ids_of_a_client_come_before_those_of_all() {
        let text = "# two\n\n *, all/one , 1\r\n*,all/two,2\nc1,its/one,1\nc1, with, comma,3\n";
        let topics = read(text).unwrap();
        for (client, id, name) in [
            (Some("c1"), 1, Some("its/one")),
            (Some("c1"), 2, Some("all/two")),
            (Some("c1"), 3, Some("with, comma")),
            (Some("c2"), 1, Some("all/one")),
            (Some("c2"), 3, None),
            (None, 1, Some("all/one")),
            (Some(""), 2, Some("all/two")),
        ] {
            assert_eq!(topics.name(client, id), name, "{client:?} {id}");
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, line, what) in [
            ("*,a,1\n*,b", 2, "a client id or *, a topic name and an id are expected, separated by commas"),
            ("x", 1, "a client id or *, a topic name and an id are expected, separated by commas"),
            ("*,a,0", 1, "'0' is no id from 1 to 65534"),
            ("*,a,65535", 1, "'65535' is no id from 1 to 65534"),
            ("*,a,+1", 1, "'+1' is no id from 1 to 65534"),
            ("*,a,x", 1, "'x' is no id from 1 to 65534"),
            ("*,a/#,1", 1, "'a/#' is no topic name"),
            ("*,,1", 1, "'' is no topic name"),
            ("*,a,1\n\n*,b,1", 3, "id 1 is 'a' already"),
        ] {
            assert_eq!(read(text), Err(FileError { line, what: what.into() }), "{text}");
        }
        assert!(Predefined::default().read(b"*,\xFF,1").is_err());
        assert!(read("*,a,1\n*,a,1").is_ok(), "the same again says nothing new");
    }
}
