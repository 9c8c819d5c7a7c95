//! The names of topics on both sides of a bridge `[conf: topic]`.

use std::borrow::Cow;

use crate::config::bridge::{Direction, Topic};
use crate::wire::topic::{check_name, matches};

/// One line.
#[derive(Debug)]
struct Line {
    outward: bool,
    inward: bool,
    local_filter: String,
    remote_filter: String,
    local_prefix: String,
    remote_prefix: String,
}

impl Line {
    fn renames(&self) -> bool {
        !self.local_prefix.is_empty() || !self.remote_prefix.is_empty()
    }
}

/// The lines of one bridge, in order.
#[derive(Debug)]
pub struct Remap {
    lines: Vec<Line>,
}

impl Remap {
    /// The names as these lines have them.
    #[must_use]
    pub fn new(topics: &[Topic]) -> Remap {
        let line = |topic: &Topic| Line {
            outward: topic.direction != Direction::In,
            inward: topic.direction != Direction::Out,
            local_filter: topic.local_filter(),
            remote_filter: topic.remote_filter(),
            local_prefix: topic.local_prefix.clone(),
            remote_prefix: topic.remote_prefix.clone(),
        };
        Remap { lines: topics.iter().map(line).collect() }
    }

    /// The name at the other broker of a topic of this one: the first line that goes out, matches and has a prefix
    /// decides. `None` when that name would be too long or too deep.
    #[must_use]
    pub fn outward<'a>(&self, topic: &'a str) -> Option<Cow<'a, str>> {
        let line = self.lines.iter().find(|line| line.outward && line.renames() && matches(&line.local_filter, topic));
        line.map_or(Some(Cow::Borrowed(topic)), |line| renamed(topic, &line.local_prefix, &line.remote_prefix))
    }

    /// The name at this broker of a topic of the other one. `None` when that name would be too long or too deep, and for a
    /// topic that begins with `$` and that no line asks for: those belong to each broker itself.
    #[must_use]
    pub fn inward<'a>(&self, topic: &'a str) -> Option<Cow<'a, str>> {
        let asked = |line: &&Line| line.inward && matches(&line.remote_filter, topic);
        if let Some(line) = self.lines.iter().filter(asked).find(|line| line.renames()) {
            return renamed(topic, &line.remote_prefix, &line.local_prefix);
        }
        let own = topic.starts_with('$') && !self.lines.iter().any(|line| asked(&line));
        (!own && check_name(topic).is_ok()).then_some(Cow::Borrowed(topic))
    }
}

fn renamed<'a>(topic: &'a str, from: &str, to: &str) -> Option<Cow<'a, str>> {
    let rest = topic.strip_prefix(from).unwrap_or(topic);
    if to.is_empty() {
        return check_name(rest).is_ok().then_some(Cow::Borrowed(rest));
    }
    let name = format!("{to}{rest}");
    let fits = name.len() <= usize::from(u16::MAX) && check_name(&name).is_ok();
    fits.then_some(Cow::Owned(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::QoS;
    use Direction::{Both, In, Out};

    fn remap(lines: &[(&str, Direction, &str, &str)]) -> Remap {
        let topic = |&(pattern, direction, local, remote): &(&str, Direction, &str, &str)| Topic {
            pattern: pattern.into(),
            direction,
            qos: QoS::AtMostOnce,
            local_prefix: local.into(),
            remote_prefix: remote.into(),
        };
        Remap::new(&lines.iter().map(topic).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_line_with_a_prefix_that_matches_renames() {
        let lines: &[(&str, Direction, &str, &str)] = &[
            ("a/#", Both, "l/", "r/"),
            ("b/#", Out, "", ""),
            ("b/#", Out, "", "cloud/"),
            ("c/+/d", In, "from/", ""),
            ("", Both, "one/x", "two/y"),
            ("e/#", Out, "home/", ""),
            ("#", In, "all/", "there/"),
            ("#", Out, "p/", "q/"),
        ];
        for (local, remote) in [
            ("l/a/x", Some("r/a/x")),
            ("l/a", Some("r/a")),
            ("b/x", Some("cloud/b/x")),
            ("one/x", Some("two/y")),
            ("one/x/y", Some("one/x/y")),
            ("home/e/1", Some("e/1")),
            ("other", Some("other")),
            ("from/c/1/d", Some("from/c/1/d")),
            // `p/#` matches `p`, which does not begin with the prefix.
            ("p", Some("q/p")),
            ("p/", None),
        ] {
            let got = remap(lines).outward(local);
            let wanted = if local == "p/" { Some("q/") } else { remote };
            assert_eq!(got.as_deref(), wanted, "out {local}");
        }
        for (remote, local) in [
            ("r/a/x", Some("l/a/x")),
            ("c/1/d", Some("from/c/1/d")),
            ("c/1/e", Some("c/1/e")),
            ("two/y", Some("one/x")),
            ("e/1", Some("e/1")),
            ("there/x/y", Some("all/x/y")),
            ("cloud/b/x", Some("cloud/b/x")),
            ("$SYS/broker/uptime", None),
            ("$CONTROL/broker/v1", None),
        ] {
            assert_eq!(remap(lines).inward(remote).as_deref(), local, "in {remote}");
        }
    }

    #[test]
    fn names_that_no_broker_takes_are_none() {
        let deep = "x/".repeat(200) + "y";
        let long = "x".repeat(65_530);
        let lines = remap(&[("#", Both, "", "one/two/"), ("$SYS/#", In, "remote/", "")]);
        assert_eq!((lines.outward(&deep), lines.outward(&long)), (None, None));
        assert_eq!(remap(&[("#", In, "", "")]).inward(&format!("x/{deep}")), None, "deeper than any topic here");
        assert_eq!(lines.inward("one/two/"), None, "nothing is left of it");
        assert_eq!(lines.inward("$SYS/broker/uptime").as_deref(), Some("remote/$SYS/broker/uptime"));
        assert_eq!(lines.inward("$SYS").as_deref(), Some("remote/$SYS"));
        assert_eq!(lines.inward("$other"), None);
        let plain = remap(&[("$SYS/#", In, "", "")]);
        assert_eq!(plain.inward("$SYS/x").as_deref(), Some("$SYS/x"), "asked for by name");
    }
}
