//! The layers of the source, checked by reading it: who may import whom, where clocks, sockets, TLS and `unsafe` may
//! stand. Comments, strings and test modules do not count.

use std::fs;
use std::path::{Path, PathBuf};

/// What one layer must keep to.
struct Layer {
    /// Module paths it consists of; the most specific path decides.
    modules: &'static [&'static str],
    /// What it may import from this crate beside itself; `None` for everything but `never`.
    imports: Option<&'static [&'static str]>,
    /// What it must not import, from this crate or elsewhere.
    never: &'static [&'static str],
}

/// Reading or changing the world outside; an address type is fine.
const SOCKETS: [&str; 5] =
    ["std::net::TcpStream", "std::net::TcpListener", "std::net::UdpSocket", "std::os", "std::fs"];

const LAYERS: &[Layer] = &[
    Layer {
        modules: &[
            "wire",
            "proto::ws",
            "proto::http",
            "proto::proxy",
            "proto::sn::wire",
            "timer",
            "slab",
            "thin",
            "digest",
        ],
        imports: Some(&["wire", "timer", "slab", "thin", "digest", "proto::http"]),
        never: &["std::io", "std::net", "std::time", "std::fs", "std::os", "log"],
    },
    Layer { modules: &["log_macros"], imports: Some(&[]), never: &["std::io", "std::net", "std::time", "std::fs"] },
    Layer {
        modules: &["broker"],
        imports: Some(&["wire", "config", "timer", "slab", "thin", "digest", "log_macros"]),
        never: &[
            "crate::wire::packet",
            "crate::wire::frame",
            "std::io",
            SOCKETS[0],
            SOCKETS[1],
            SOCKETS[2],
            SOCKETS[3],
            SOCKETS[4],
        ],
    },
    Layer {
        modules: &["proto"],
        imports: Some(&["wire", "broker", "config", "timer", "slab", "thin", "digest", "log_macros"]),
        never: &[
            "std::io::Read",
            "std::io::Write",
            "std::io::Error",
            SOCKETS[0],
            SOCKETS[1],
            SOCKETS[2],
            SOCKETS[3],
            SOCKETS[4],
        ],
    },
    Layer { modules: &["persist"], imports: None, never: &["crate::net", "crate::proto", "crate::tools"] },
    Layer {
        modules: &["config"],
        imports: None,
        never: &[
            "crate::broker",
            "crate::proto",
            "crate::net",
            "crate::persist",
            "crate::tools",
            SOCKETS[0],
            SOCKETS[1],
            SOCKETS[2],
        ],
    },
    Layer {
        modules: &["os", "logging"],
        imports: None,
        never: &["crate::net", "crate::proto", "crate::broker", "crate::persist", "crate::tools"],
    },
    Layer { modules: &["net"], imports: None, never: &["crate::tools"] },
    // Whoever starts the rest: the binaries and what they call.
    Layer { modules: &["", "main", "cli", "start", "bin", "tools"], imports: None, never: &[] },
];

/// Names that may stand only in some modules.
const PLACES: &[(&str, &[&str])] = &[
    ("mio", &["net"]),
    ("socket2", &["net"]),
    ("rustls", &["net::tls"]),
    ("unsafe", &["os", "thin"]),
    ("httparse", &["proto::http"]),
    ("webpki", &["net::tls"]),
    ("der", &["net::tls"]),
];

/// More conditional lines than this and features have leaked out of their modules.
const MOST_CFG_LINES: usize = 60;

/// Whether `path` is `module` or below it.
fn below(path: &str, module: &str) -> bool {
    path == module || (path.starts_with(module) && path[module.len()..].starts_with("::"))
}

/// The layer of a module: the one that names the longest part of its path.
fn layer_of(module: &str) -> Option<&'static Layer> {
    LAYERS
        .iter()
        .flat_map(|layer| layer.modules.iter().map(move |name| (layer, *name)))
        .filter(|(_, name)| below(module, name))
        .max_by_key(|(_, name)| name.len())
        .map(|(layer, _)| layer)
}

/// Everything in `source` that breaks the rules of `module`, a path such as `net::conn`.
fn violations(module: &str, source: &str) -> Vec<String> {
    let words = words(&without_tests(&code_of(source)));
    let mut found = Vec::new();
    let Some(layer) = layer_of(module) else {
        return vec![format!("`{module}` belongs to no layer: give it one in tests/it/layering.rs")];
    };
    for path in paths(&words, module) {
        if let Some(inner) = path.strip_prefix("crate::") {
            let own = layer.modules.iter().any(|own| below(module, own) && below(inner, own));
            if layer.imports.is_some_and(|list| !own && !list.iter().any(|allowed| below(inner, allowed))) {
                // Macros and re-exports at the root have lower-case names too; only known modules are judged.
                let top = inner.split("::").next().unwrap_or_default();
                if LAYERS.iter().any(|layer| layer.modules.iter().any(|known| below(known, top))) {
                    found.push(format!("`{path}` is above this layer"));
                }
            }
        }
        if layer.never.iter().any(|never| below(&path, never)) {
            found.push(format!("`{path}` has no place in this layer"));
        }
        for (name, places) in PLACES {
            if below(&path, name) && !places.iter().any(|place| below(module, place)) {
                found.push(format!("`{path}` belongs in {}", places.join(", ")));
            }
        }
        for clock in ["Instant::now", "SystemTime::now"] {
            if path.ends_with(clock) && module != "os::clock" {
                found.push(format!("`{clock}` belongs in os::clock"));
            }
        }
    }
    let (word, places) = PLACES[3];
    if words.iter().any(|w| w == word) && !places.iter().any(|place| below(module, place)) {
        found.push(format!("`{word}` belongs in {}", places.join(", ")));
    }
    found.dedup();
    found
}

/// The source without comments and without the contents of strings and characters.
fn code_of(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = String::new();
    let mut i = 0;
    while i < chars.len() {
        let c = at(i);
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && at(i) != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            let mut depth = 1;
            i += 2;
            while i < chars.len() && depth > 0 {
                match (at(i), at(i + 1)) {
                    ('/', '*') => depth += 1,
                    ('*', '/') => depth -= 1,
                    _ => {
                        i += 1;
                        continue;
                    }
                }
                i += 2;
            }
        } else if c == '"' {
            // Raw when an `r` and perhaps hashes stand before it.
            let hashes = out.chars().rev().take_while(|&c| c == '#').count();
            let raw = out[..out.len() - hashes].ends_with('r');
            i += 1;
            while i < chars.len() {
                if !raw && at(i) == '\\' {
                    i += 2;
                    continue;
                }
                if at(i) == '"' && (!raw || (1..=hashes).all(|n| at(i + n) == '#')) {
                    break;
                }
                i += 1;
            }
            i += 1;
            out.push_str("\"\"");
        } else if c == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            // A character; a lifetime has no second quote there.
            i += if at(i + 1) == '\\' { 3 } else { 2 };
            while i < chars.len() && at(i) != '\'' {
                i += 1;
            }
            i += 1;
            out.push_str("' '");
        } else {
            out.push(c);
            i += 1;
        }
    }
    out
}

/// The code without the items behind `#[cfg(test)]` and `#[test]`, up to the closing brace or semicolon.
fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(start) = ["#[cfg(test)]", "#[test]"].iter().filter_map(|mark| rest.find(mark)).min() {
        out.push_str(&rest[..start]);
        let item = &rest[start..];
        let mut depth = 0usize;
        let mut end = item.len();
        // Attributes hold brackets but neither braces nor semicolons.
        for (i, c) in item.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                ';' => {}
                _ => continue,
            }
            if depth == 0 {
                end = i + 1;
                break;
            }
        }
        rest = &item[end..];
    }
    out + rest
}

/// Words, `::`, and every other sign on its own.
fn words(code: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || c == '_' {
            let mut word = String::from(c);
            while let Some(&next) = chars.peek().filter(|c| c.is_alphanumeric() || **c == '_') {
                word.push(next);
                chars.next();
            }
            out.push(word);
        } else if c == ':' && chars.peek() == Some(&':') {
            chars.next();
            out.push("::".into());
        } else if !c.is_whitespace() {
            out.push(c.into());
        }
    }
    out
}

/// Every path in the code, `use` groups taken apart, `crate`, `self` and `super` resolved against `module`.
fn paths(words: &[String], module: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut i = 0;
    while i < words.len() {
        let first = words[i].chars().next().unwrap_or(' ');
        let starts = (first.is_alphabetic() || first == '_') && (i == 0 || words[i - 1] != "::");
        if starts && words.get(i + 1).is_some_and(|w| w == "::") {
            // `$crate::` in a macro is a path of the place that uses it.
            if i == 0 || words[i - 1] != "$" {
                i = tree(words, i, "", &mut found);
                continue;
            }
        } else if starts && i > 0 && words[i - 1] == "use" {
            found.push(words[i].clone());
        }
        i += 1;
    }
    found.iter().map(|path| resolve(path, module)).collect()
}

/// Reads one path or use tree from `i`; returns where it ends.
fn tree(words: &[String], mut i: usize, prefix: &str, found: &mut Vec<String>) -> usize {
    let mut path = prefix.to_owned();
    while let Some(word) = words.get(i) {
        match word.as_str() {
            "{" => {
                i += 1;
                while words.get(i).is_some_and(|w| w != "}") {
                    let next = tree(words, i, &path, found);
                    i = next.max(i + usize::from(next == i));
                    if words.get(i).is_some_and(|w| w == ",") {
                        i += 1;
                    }
                }
                return i + 1;
            }
            "as" => {
                i += 2;
                break;
            }
            "*" => {
                i += 1;
                break;
            }
            _ => {}
        }
        if !word.chars().all(|c| c.is_alphanumeric() || c == '_') {
            break;
        }
        if !path.is_empty() {
            path.push_str("::");
        }
        path.push_str(word);
        i += 1;
        if words.get(i).is_some_and(|w| w == "::") {
            i += 1;
        } else {
            if words.get(i).is_some_and(|w| w == "as") {
                i += 2;
            }
            break;
        }
    }
    found.push(path.strip_suffix("::self").unwrap_or(&path).to_owned());
    i
}

fn resolve(path: &str, module: &str) -> String {
    let mut rest: Vec<&str> = path.split("::").collect();
    let mut base: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    match rest[0] {
        "self" => {
            rest.remove(0);
        }
        "super" => {
            while rest.first() == Some(&"super") {
                rest.remove(0);
                base.pop();
            }
        }
        _ => return path.to_owned(),
    }
    [&["crate"][..], &base, &rest].concat().join("::")
}

/// Lines with a `cfg` attribute for a feature.
fn cfg_lines(source: &str) -> usize {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .filter(|line| line.contains("feature") && (line.contains("#[cfg") || line.contains("#![cfg")))
        .count()
}

/// The module path of a file below `src`.
fn module_of(path: &Path) -> String {
    let mut parts: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts.join("::")
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_source_keeps_its_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    files.sort();
    let (mut broken, mut conditional) = (Vec::new(), 0);
    for path in &files {
        let source = fs::read_to_string(path).expect("a readable file");
        let relative = path.strip_prefix(&root).expect("below src");
        conditional += cfg_lines(&source);
        // A file that is only compiled for tests.
        if relative.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        for violation in violations(&module_of(relative), &source) {
            broken.push(format!("src/{}: {violation}", relative.display()));
        }
    }
    assert!(files.len() > 5, "the source was not found");
    assert!(broken.is_empty(), "{} violations:\n{}", broken.len(), broken.join("\n"));
    assert!(conditional < MOST_CFG_LINES, "{conditional} lines with cfg(feature …), {MOST_CFG_LINES} are too many");
}

#[test]
fn violations_are_found() {
    for (module, source, wanted) in [
        ("wire::frame", "use crate::broker::Broker;", "`crate::broker::Broker` is above this layer"),
        ("wire", "fn f() { crate::net::poll() }", "`crate::net::poll` is above this layer"),
        ("wire", "use std::{fmt, io::{self}};", "`std::io` has no place in this layer"),
        ("timer", "use std::time::Instant;", "`std::time::Instant` has no place in this layer"),
        ("broker::subs", "use super::super::proto;", "`crate::proto` is above this layer"),
        (
            "broker",
            "use crate::{wire::{topic, packet as p}, slab};",
            "`crate::wire::packet` has no place in this layer",
        ),
        ("broker", "use std::net::{IpAddr, TcpStream};", "`std::net::TcpStream` has no place in this layer"),
        ("proto::server", "use crate::net::conn::Conn as C;", "`crate::net::conn::Conn` is above this layer"),
        ("proto::ws::frame", "use crate::broker;", "`crate::broker` is above this layer"),
        ("persist::save", "use crate::proto::Turn;", "`crate::proto::Turn` has no place in this layer"),
        ("config::parse", "use crate::broker;", "`crate::broker` has no place in this layer"),
        ("os", "use crate::net;", "`crate::net` has no place in this layer"),
        ("log_macros", "use crate::wire::QoS;", "`crate::wire::QoS` is above this layer"),
        ("proto", "use mio::Token;", "`mio::Token` belongs in net"),
        ("proto::metrics", "use httparse::Request;", "`httparse::Request` belongs in proto::http"),
        ("proto::http", "use crate::broker::Broker;", "`crate::broker::Broker` is above this layer"),
        ("os::clock", "use socket2;", "`socket2` belongs in net"),
        ("net::conn", "use rustls::ServerConfig;", "`rustls::ServerConfig` belongs in net::tls"),
        ("net", "let t = std::time::Instant::now();", "`Instant::now` belongs in os::clock"),
        ("tools", "let t = SystemTime::now();", "`SystemTime::now` belongs in os::clock"),
        ("net", "fn f() { unsafe { g() } }", "`unsafe` belongs in os, thin"),
        ("util", "fn f() {}", "`util` belongs to no layer: give it one in tests/it/layering.rs"),
        ("wire", "fn f<'a>(x: &'a u8) { let c = '\"'; crate::net::g() }", "`crate::net::g` is above this layer"),
    ] {
        assert_eq!(violations(module, source), [wanted], "{module}: {source}");
    }
}

#[test]
fn what_is_allowed_passes() {
    for (module, source) in [
        ("wire::publish", "use super::{Reader, props::Props}; use crate::wire::QoS; use std::fmt;"),
        (
            "broker::subs",
            "use super::SessionId; use crate::{slab::Key, config::Global, wire::topic}; use std::net::IpAddr;",
        ),
        ("proto::ws", "use crate::digest::sha1; use self::frame::Frame;"),
        ("proto", "use crate::{broker::Broker, wire::frame::Framer, notice};"),
        ("net::tls::server", "use rustls::ServerConfig;"),
        ("net", "use mio::{Poll, Token}; use crate::{proto, broker, config, os};"),
        ("os::clock", "let now = Instant::now();"),
        ("thin", "#![allow(unsafe_code)] unsafe { f() }"),
        ("main", "fn main() { mosquitto::run() }"),
        ("wire", "// use crate::net;\n/* unsafe /* mio::x */ std::io::y */ /// `crate::net`\nfn f() {}"),
        (
            "wire",
            "const A: &str = \"unsafe \\\" crate::net::x\"; const B: &str = r#\"mio::\"x\"#; const C: char = '\\'';",
        ),
        ("wire", "#[cfg(test)]\nmod tests { use crate::net; fn f() { unsafe { g() } } }\nfn after() {}"),
        ("wire", "#[cfg(test)]\nuse crate::net;\nfn after() {}"),
        ("log_macros", "macro_rules! n { () => { $crate::net::x() } }"),
    ] {
        assert_eq!(violations(module, source), Vec::<String>::new(), "{module}: {source}");
    }
    assert_eq!(
        violations("wire", "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::net;"),
        ["`crate::net` is above this layer"],
        "what follows a test module counts"
    );
    assert_eq!(cfg_lines("#[cfg(feature = \"tls\")]\n// #[cfg(feature = \"tls\")]\nif cfg!(feature = \"tls\") {}"), 1);
    assert_eq!(module_of(Path::new("net/tls/mod.rs")), "net::tls");
    assert_eq!(module_of(Path::new("lib.rs")), "");
}
