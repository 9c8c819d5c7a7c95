//! JSON in and out.

use std::fmt::Write;

use serde_json::Value;

/// The value in `bytes`; `None` when they are not JSON, or nest deeper than 127 levels, where the parser stops.
pub(super) fn parse(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}

/// The member of an object. As in C Mosquitto the case of the name does not matter; when several differ in nothing else,
/// the exact name counts first, then the one that sorts first.
pub(super) fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let members = value.as_object()?;
    members.get(name).or_else(|| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

/// As [`member`], but takes it out.
pub(super) fn take_member(value: &mut Value, name: &str) -> Option<Value> {
    let members = value.as_object_mut()?;
    let exact = members.get_mut(name).map(Value::take);
    exact.or_else(|| members.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.take()))
}

/// A member that is a string.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    member(value, name)?.as_str()
}

/// A member that is true or false.
pub(super) fn flag(value: &Value, name: &str) -> Option<bool> {
    member(value, name)?.as_bool()
}

/// A member that is a number.
pub(super) fn number(value: &Value, name: &str) -> Option<f64> {
    member(value, name)?.as_f64()
}

/// Appends a string in quotes.
pub(super) fn put_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Writes one object.
pub(super) struct Object<'a> {
    out: &'a mut String,
    empty: bool,
}

impl Object<'_> {
    pub(super) fn new(out: &mut String) -> Object<'_> {
        out.push('{');
        Object { out, empty: true }
    }

    fn key(&mut self, key: &str) {
        if !self.empty {
            self.out.push(',');
        }
        self.empty = false;
        put_text(self.out, key);
        self.out.push(':');
    }

    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        put_text(self.out, text);
    }

    /// A number, `true`, `false`, or anything that is JSON as it stands.
    pub(super) fn raw(&mut self, key: &str, value: impl std::fmt::Display) {
        self.key(key);
        let _infallible = write!(self.out, "{value}");
    }

    pub(super) fn object(&mut self, key: &str) -> Object<'_> {
        self.key(key);
        Object::new(self.out)
    }

    /// An array of what `element` appends until it returns false.
    pub(super) fn array(&mut self, key: &str, mut element: impl FnMut(&mut String) -> bool) {
        self.key(key);
        self.out.push('[');
        let mut end = self.out.len();
        while element(self.out) {
            end = self.out.len();
            self.out.push(',');
        }
        self.out.truncate(end);
        self.out.push(']');
    }

    pub(super) fn end(self) {
        self.out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_nesting_is_refused() {
        for open in ["[", "{\"a\":", "[{\"a\":", "{\"a\":[\"\\\"]\","] {
            assert!(parse(open.repeat(100_000).as_bytes()).is_none(), "{open}");
        }
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(parse(nested(127).as_bytes()).is_some());
        assert!(parse(nested(128).as_bytes()).is_none());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in [&b""[..], b" ", b"{", b"{}}", b"{\"a\":}", b"{a:1}", b"nul", b"\"\xFF\"", b"[1,]", b"01", b"\"\n\""]
        {
            assert!(parse(bad).is_none(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn members_are_found_in_any_case() {
        let value = parse(br#"{"Bb":1,"bB":2,"BB":3,"x":true,"y":"t"}"#).unwrap();
        assert_eq!(number(&value, "bB"), Some(2.0), "the exact one first");
        assert_eq!(number(&value, "bb"), Some(3.0), "then the one that sorts first");
        assert_eq!((flag(&value, "X"), text(&value, "Y"), text(&value, "x")), (Some(true), Some("t"), None));
        assert!(member(&parse(b"[]").unwrap(), "a").is_none());
    }

    #[test]
    fn what_is_written_can_be_read() {
        let hard = "q\"b\\n\nr\rt\t\u{1}\u{1f}\u{7f}é\u{1F600}/";
        let mut out = String::new();
        let mut object = Object::new(&mut out);
        object.text(hard, hard);
        object.raw("n", 5);
        let mut left = 2;
        object.array("a", |out| {
            out.push('1');
            left -= 1;
            left >= 0
        });
        object.array("e", |_| false);
        object.end();
        assert!(out.ends_with("\"n\":5,\"a\":[1,1],\"e\":[]}"), "{out}");
        assert_eq!(text(&parse(out.as_bytes()).unwrap(), hard), Some(hard));
    }
}
