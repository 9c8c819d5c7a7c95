//! The one table of options: what each is called, where it may stand, what it takes and who stores it.

mod bridge;
mod global;
mod listener;
mod mqttsn;

use super::error::Feature;
use super::parse::Parser;
use super::store::{Done, done};
use super::value;

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct OptionRow {
    /// The name; one ending in `*` stands for every name that starts so.
    pub name: &'static str,
    /// Older names.
    pub aliases: &'static [&'static str],
    /// Where it may stand.
    pub scope: Scope,
    /// What it takes.
    pub kind: Kind,
    /// The value that changes nothing, as text; `none` if no value says so.
    pub default: &'static str,
    /// True when SIGHUP applies a new value.
    pub reload: bool,
    /// True when a second line is an error.
    pub once: bool,
    /// Set when the option is outdated: what to use instead.
    pub deprecated: Option<&'static str>,
    /// Set when the option needs something that this build does not have.
    pub lack: Option<Lack>,
}

/// Where an option may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Anywhere; it holds for the whole broker.
    Global,
    /// As global, but after a listener and for it alone under `per_listener_settings`.
    GlobalOrListener,
    /// After a listener.
    Listener,
    /// After a listener; without one it creates the default listener.
    ListenerOrDefault,
    /// After `connection`.
    Bridge,
    /// After an option that loads a plugin.
    Plugin,
}

/// What an option takes, and the function that stores it.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool(fn(&mut Parser, bool) -> Done),
    /// An integer.
    Int {
        /// The least value allowed.
        min: i32,
        /// The greatest value allowed.
        max: i32,
        /// What it counts.
        unit: &'static str,
        /// Stores it.
        store: fn(&mut Parser, i32) -> Done,
    },
    /// One of these words.
    Choice(&'static [&'static str], fn(&mut Parser, &str) -> Done),
    /// The rest of the line as text; first what it means.
    Text(&'static str, fn(&mut Parser, &str) -> Done),
    /// The rest of the line in a form of its own; first that form.
    Words(&'static str, fn(&mut Parser, &str) -> Done),
    /// Whatever stands there is ignored with this warning.
    Gone(&'static str),
}

/// What happens to an option whose feature is missing, unless its value is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The configuration is refused: going on would be less secure, lose data or leave a listener out.
    Error(Feature),
    /// The option is ignored with a warning.
    Warning(Feature),
}

impl OptionRow {
    /// True when `word`, a value the row accepted, only says what holds anyway. A file called `none` does not.
    pub(super) fn is_default(&self, word: &str) -> bool {
        match self.kind {
            Kind::Bool(_) => value::boolean(word) == value::boolean(self.default),
            Kind::Int { .. } => value::integer(word) == value::integer(self.default),
            Kind::Choice(..) => word == self.default,
            Kind::Text(..) | Kind::Words(..) | Kind::Gone(_) => false,
        }
    }

    const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn fixed(mut self) -> Self {
        self.reload = false;
        self
    }

    const fn once(mut self) -> Self {
        self.once = true;
        self
    }

    const fn deprecated(mut self, hint: &'static str) -> Self {
        self.deprecated = Some(hint);
        self
    }

    const fn needs(mut self, feature: Feature) -> Self {
        if !feature.is_built() {
            self.lack = Some(Lack::Error(feature));
        }
        self
    }

    const fn wants(mut self, feature: Feature) -> Self {
        if !feature.is_built() {
            self.lack = Some(Lack::Warning(feature));
        }
        self
    }
}

const fn row(name: &'static str, scope: Scope, kind: Kind, default: &'static str) -> OptionRow {
    OptionRow { name, aliases: &[], scope, kind, default, reload: true, once: false, deprecated: None, lack: None }
}

const fn int(min: i32, max: i32, unit: &'static str, store: fn(&mut Parser, i32) -> Done) -> Kind {
    Kind::Int { min, max, unit, store }
}

/// A switch, number, word or text whose value nobody uses: its feature will never come, or it means nothing here.
const ANY_BOOL: Kind = Kind::Bool(|_, _| done());
const ANY_TEXT: Kind = Kind::Text("text", |_, _| done());

const fn any_int(min: i32, max: i32, unit: &'static str) -> Kind {
    int(min, max, unit, |_, _| done())
}

const fn any_of(choices: &'static [&'static str]) -> Kind {
    Kind::Choice(choices, |_, _| done())
}

const fn file(store: fn(&mut Parser, &str) -> Done) -> Kind {
    Kind::Text("file", store)
}

const fn directory(store: fn(&mut Parser, &str) -> Done) -> Kind {
    Kind::Text("directory", store)
}

const fn text(store: fn(&mut Parser, &str) -> Done) -> Kind {
    Kind::Text("text", store)
}

/// The row of the option called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static OptionRow> {
    if let Ok(i) = OPTIONS.binary_search_by_key(&name, |row| row.name) {
        return Some(&OPTIONS[i]);
    }
    let is = |known: &str| match known.strip_suffix('*') {
        // The key of a plugin's option has at least three characters.
        Some(start) => name.strip_prefix(start).is_some_and(|key| key.len() >= 3),
        None => known == name,
    };
    OPTIONS.iter().find(|row| is(row.name) || row.aliases.iter().any(|alias| is(alias)))
}

/// The known name that someone who wrote `name` most likely meant.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > 64 {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let names = OPTIONS.iter().flat_map(|row| std::iter::once(&row.name).chain(row.aliases));
    let (distance, best) =
        names.map(|&known| (distance(&lower, known), known)).min_by_key(|&(distance, _)| distance)?;
    (distance <= (name.len() / 4).clamp(1, 3) && distance < name.len()).then_some(best)
}

/// The number of bytes to insert, remove or replace to get from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

const COUNT: usize = global::ROWS.len() + listener::ROWS.len() + bridge::ROWS.len() + mqttsn::ROWS.len();

/// Every option, sorted by name.
pub static OPTIONS: &[OptionRow] = &merged([global::ROWS, listener::ROWS, bridge::ROWS, mqttsn::ROWS]);

/// One table of several, each sorted by name.
const fn merged(mut tables: [&[OptionRow]; 4]) -> [OptionRow; COUNT] {
    let mut all = [global::ROWS[0]; COUNT];
    let mut filled = 0;
    while filled < COUNT {
        let mut least = 0;
        let mut i = 1;
        while i < tables.len() {
            if is_before(tables[i], tables[least]) {
                least = i;
            }
            i += 1;
        }
        if let [first, rest @ ..] = tables[least] {
            all[filled] = *first;
            tables[least] = rest;
        }
        filled += 1;
    }
    all
}

/// True when the first row of `a` comes before that of `b`.
const fn is_before(a: &[OptionRow], b: &[OptionRow]) -> bool {
    let (a, b) = match (a, b) {
        ([], _) => return false,
        (_, []) => return true,
        ([a, ..], [b, ..]) => (a.name.as_bytes(), b.name.as_bytes()),
    };
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i < b.len() && (i == a.len() || a[i] < b[i])
}
