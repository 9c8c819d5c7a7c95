//! Topic names and topic filters: what is valid, which filter matches which name, and shared subscriptions. The same
//! for all versions.

use super::reader::holds_either;

/// Most `/` that a name or a filter may hold: 201 levels.
pub const MAX_SLASHES: usize = 200;

/// What is wrong with a name, a filter or a shared subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TopicError {
    /// No characters [MQTT-4.7.3-1].
    Empty,
    /// A name holds `+` or `#` [MQTT-3.3.2-2].
    Wildcard,
    /// A wildcard shares its level, or levels follow a `#` [MQTT-4.7.1-1] [MQTT-4.7.1-2].
    Placement,
    /// More than [`MAX_SLASHES`] slashes.
    TooDeep,
    /// A `$share` filter without share name or without filter, or with a wildcard as share name [MQTT-4.8.2-1].
    Share,
}

/// Checks a topic name, as in PUBLISH, a will or Response Topic.
///
/// # Errors
/// [`TopicError::Empty`], [`TopicError::Wildcard`] or [`TopicError::TooDeep`].
pub fn check_name(name: &str) -> Result<(), TopicError> {
    let bytes = name.as_bytes();
    if bytes.is_empty() {
        Err(TopicError::Empty)
    } else if holds_either(bytes, b'+', b'#') {
        Err(TopicError::Wildcard)
    } else if bytes.len() > MAX_SLASHES && bytes.iter().filter(|&&b| b == b'/').count() > MAX_SLASHES {
        Err(TopicError::TooDeep)
    } else {
        Ok(())
    }
}

/// Checks a topic filter; of a shared subscription the whole text with `$share/`, before [`split_share`].
///
/// # Errors
/// [`TopicError::Empty`], [`TopicError::Placement`] or [`TopicError::TooDeep`].
pub fn check_filter(filter: &str) -> Result<(), TopicError> {
    if filter.is_empty() {
        return Err(TopicError::Empty);
    }
    let mut rest = levels(filter);
    let mut count = 0usize;
    while let Some(level) = rest.next() {
        count = count.saturating_add(1);
        if count > MAX_SLASHES.saturating_add(1) {
            return Err(TopicError::TooDeep);
        }
        let wild = holds_either(level.as_bytes(), b'+', b'#');
        if wild && (level.len() > 1 || (level == "#" && rest.clone().next().is_some())) {
            return Err(TopicError::Placement);
        }
    }
    Ok(())
}

/// The levels of a name or filter, empty ones included: `/a/` has three.
pub fn levels(topic: &str) -> core::str::Split<'_, char> {
    topic.split('/')
}

/// True if `filter` matches the name `topic`; both are valid. A wildcard at the start matches no name that starts
/// with `$` [MQTT-4.7.2-1], and `a/#` matches `a` [MQTT-4.7.1-2].
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if filter.starts_with('$') != topic.starts_with('$') {
        return false;
    }
    let (mut filter, mut topic) = (levels(filter), levels(topic));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) => return true,
            (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(f), Some(t)) if f == t => {}
            _ => return false,
        }
    }
}

/// Splits `$share/NAME/FILTER` into name and filter; `None` for an ordinary filter. An empty name is accepted when a
/// filter follows. The text has passed [`check_filter`].
///
/// # Errors
/// [`TopicError::Share`] when name or filter are missing or the name is a wildcard.
pub fn split_share(text: &str) -> Result<Option<(&str, &str)>, TopicError> {
    let Some(rest) = text.strip_prefix("$share") else { return Ok(None) };
    let rest = match rest.strip_prefix('/') {
        Some(rest) => rest,
        None if rest.is_empty() => return Err(TopicError::Share),
        None => return Ok(None),
    };
    match rest.split_once('/') {
        Some((name, filter)) if !filter.is_empty() && name != "+" && name != "#" => Ok(Some((name, filter))),
        _ => Err(TopicError::Share),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_wildcards_and_at_most_201_levels() {
        let deep = "/".repeat(200);
        let deeper = "/".repeat(201);
        for (name, want) in [
            ("a", Ok(())),
            ("/", Ok(())),
            ("$SYS/x", Ok(())),
            (deep.as_str(), Ok(())),
            (deeper.as_str(), Err(TopicError::TooDeep)),
            ("", Err(TopicError::Empty)),
            ("a/+", Err(TopicError::Wildcard)),
            ("#opic", Err(TopicError::Wildcard)),
            ("a+b", Err(TopicError::Wildcard)),
        ] {
            assert_eq!(check_name(name), want, "{name}");
        }
    }

    #[test]
    fn a_wildcard_fills_its_level_and_hash_is_last() {
        let deep = "/".repeat(200);
        let deeper = "/".repeat(201);
        for (filter, want) in [
            ("a", Ok(())),
            ("#", Ok(())),
            ("+", Ok(())),
            ("+/+/#", Ok(())),
            ("/", Ok(())),
            ("a//b", Ok(())),
            ("$share/#", Ok(())),
            (deep.as_str(), Ok(())),
            (deeper.as_str(), Err(TopicError::TooDeep)),
            ("", Err(TopicError::Empty)),
            ("a#", Err(TopicError::Placement)),
            ("#/", Err(TopicError::Placement)),
            ("#/a", Err(TopicError::Placement)),
            ("a/+b", Err(TopicError::Placement)),
            ("++", Err(TopicError::Placement)),
            ("$share/#/p", Err(TopicError::Placement)),
            ("$share/n+/f", Err(TopicError::Placement)),
        ] {
            assert_eq!(check_filter(filter), want, "{filter}");
        }
    }

    #[test]
    fn shared_subscriptions_need_a_filter_and_a_literal_name() {
        for (text, want) in [
            ("a/b", Ok(None)),
            ("$shared/n/f", Ok(None)),
            ("$SYS/#", Ok(None)),
            ("$share/n/f", Ok(Some(("n", "f")))),
            ("$share/n/f/#", Ok(Some(("n", "f/#")))),
            ("$share//f", Ok(Some(("", "f")))),
            ("$share/n//", Ok(Some(("n", "/")))),
            ("$share", Err(TopicError::Share)),
            ("$share/", Err(TopicError::Share)),
            ("$share/n", Err(TopicError::Share)),
            ("$share/n/", Err(TopicError::Share)),
            ("$share//", Err(TopicError::Share)),
            ("$share/+/f", Err(TopicError::Share)),
            ("$share/#", Err(TopicError::Share)),
        ] {
            assert_eq!(split_share(text), want, "{text}");
        }
    }

    #[test]
    fn matching_follows_the_examples_of_the_specification() {
        for (filter, topic, want) in [
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("+", "/x", false),
            ("+/x", "/x", true),
            ("/+", "/x", true),
            ("#", "a/b", true),
            ("#", "$SYS/a", false),
            ("+/a", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
            ("$foo/#", "$foo", true),
            ("$SYS/+", "$SYS/a", true),
            ("a/b", "a/b", true),
            ("a/b", "a/B", false),
            ("a", "a/b", false),
            ("a/b/#", "a", false),
            ("+/+", "a", false),
        ] {
            assert_eq!(matches(filter, topic), want, "{filter} {topic}");
        }
    }

    /// The same rule, written over level vectors and recursion.
    fn oracle(filter: &[&str], topic: &[&str]) -> bool {
        match (filter.first(), topic.first()) {
            (Some(&"#"), _) => true,
            (Some(&"+"), Some(_)) => oracle(&filter[1..], &topic[1..]),
            (Some(f), Some(t)) => f == t && oracle(&filter[1..], &topic[1..]),
            (None, None) => true,
            _ => false,
        }
    }

    #[test]
    fn matching_agrees_with_the_oracle_on_all_short_topics() {
        let names = ["", "a", "b", "$a"];
        let mut wild = names.to_vec();
        wild.extend(["+", "#"]);
        let paths = |words: &[&'static str]| {
            let mut all: Vec<Vec<&str>> = words.iter().map(|w| vec![*w]).collect();
            for _ in 0..2 {
                let longer: Vec<_> =
                    all.iter().flat_map(|p| words.iter().map(move |w| [&p[..], &[*w]].concat())).collect();
                all.extend(longer);
            }
            all
        };
        let mut hits = 0;
        for filter in paths(&wild) {
            let text = filter.join("/");
            if check_filter(&text).is_err() {
                continue;
            }
            for topic in paths(&names) {
                let name = topic.join("/");
                if check_name(&name).is_err() {
                    continue;
                }
                let dollar = text.starts_with('$') == name.starts_with('$');
                let want = dollar && oracle(&filter, &topic);
                hits += usize::from(want);
                assert_eq!(matches(&text, &name), want, "{text} {name}");
            }
        }
        assert!(hits > 1000);
    }
}
