//! `mosquitto_passwd`: adds, changes and removes users in a password file.
//!
//! Unlike C Mosquitto's tool it keeps comments, blank lines and lines it does not understand, replaces the file in one
//! step, ends the last line before it adds another, loses nobody when several run at once, and leaves alone what is hashed
//! already when it hashes a whole file.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use getopts::{Fail, Options, ParsingStyle};

use crate::broker::auth::password::{Hash, MAX_USERNAME, Scheme, split_line};
use crate::os::{errors, random, replace_file, terminal};

const USAGE: &str = "mosquitto_passwd is a tool for managing password files for mosquitto.

Usage: mosquitto_passwd [-H hash] [-I rounds] [-c | -D] passwordfile user
       mosquitto_passwd [-H hash] [-I rounds] [-c] -b passwordfile user password
       mosquitto_passwd [-H hash] [-I rounds] -U passwordfile

 -b : take the password from the command line, where others can read it.
 -c : make a new file with only this user; what an existing file holds is lost.
      The file name - prints the line instead.
 -D : delete the user.
 -H : sha512-pbkdf2 (default), sha512, or argon2id for mosquitto 2.1 and later.
 -I : rounds of sha512-pbkdf2. The default is 1000.
 -U : hash the passwords of a file that holds them as plain text.

See https://mosquitto.org/ for more information.
";

/// Rounds unless given: what C Mosquitto 2.1 takes.
const DEFAULT_ITERATIONS: NonZeroU32 = NonZeroU32::new(1000).expect("not zero");
/// A salt that mosquitto 2.0 and 2.1 both read.
const SALT_LEN: usize = 12;
/// The salt of argon2id lines, which only 2.1 reads.
#[cfg(feature = "argon2")]
const ARGON2_SALT_LEN: usize = 64;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    /// Add the user or change the password.
    Set,
    /// Make a file with only this user.
    Create,
    Delete,
    /// Hash every plain password.
    HashAll,
}

/// A valid command line.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    command: Command,
    scheme: Scheme,
    file: PathBuf,
    username: String,
    /// From the command line.
    password: Option<Vec<u8>>,
}

/// Why nothing was done. `Display` is what to print.
#[derive(Debug, PartialEq, Eq)]
enum Error {
    Usage,
    Text(String),
    /// The two answers differ.
    Mismatch,
    /// The user to delete is not there.
    NotFound(String),
}

impl Error {
    fn exit_status(&self) -> i32 {
        match self {
            Error::Usage | Error::Text(_) | Error::NotFound(_) => 1,
            Error::Mismatch => 2,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage => f.write_str(USAGE.trim_end()),
            Error::Text(text) => write!(f, "Error: {text}"),
            Error::NotFound(user) => write!(f, "Warning: User {user} not found in password file."),
            Error::Mismatch => f.write_str("Error: Passwords do not match."),
        }
    }
}

fn text(text: impl Into<String>) -> Error {
    Error::Text(text.into())
}

/// The tool from start to end. Takes the arguments behind the program's name and returns the exit status.
#[must_use]
pub fn main(args: &[OsString]) -> i32 {
    if args.iter().any(|arg| arg == "--help") {
        let _reader_gone = io::stdout().write_all(USAGE.as_bytes());
        return 0;
    }
    match parse(args).and_then(|request| run(&request)) {
        Ok(()) => 0,
        Err(error) => {
            let _reader_gone = match error {
                Error::Usage => writeln!(io::stdout(), "{error}"),
                _ => writeln!(io::stderr(), "{error}"),
            };
            error.exit_status()
        }
    }
}

fn parse(args: &[OsString]) -> Result<Request, Error> {
    let mut options = Options::new();
    options
        .parsing_style(ParsingStyle::StopAtFirstFree)
        .optflagmulti("b", "", "")
        .optflagmulti("c", "", "")
        .optflagmulti("D", "", "")
        .optflagmulti("U", "", "")
        .optmulti("H", "", "", "")
        .optmulti("I", "", "", "");
    let matches = options.parse(args).map_err(|fail| match fail {
        Fail::ArgumentMissing(name) => text(format!("-{name} argument given but not enough other arguments.")),
        _ => Error::Usage,
    })?;
    let [batch, create, delete, hash_all] = ["b", "c", "D", "U"].map(|name| matches.opt_present(name));
    for (both, names) in [
        (create && delete, "-c and -D"),
        (create && hash_all, "-c and -U"),
        (delete && hash_all, "-D and -U"),
        (batch && delete, "-b and -D"),
    ] {
        if both {
            return Err(text(format!("{names} cannot be used together.")));
        }
    }
    let iterations = match matches.opt_strs("I").pop() {
        None => DEFAULT_ITERATIONS,
        Some(word) => word.parse().map_err(|_| text("Number of iterations must be > 0."))?,
    };
    let scheme = match matches.opt_strs("H").pop().as_deref() {
        None | Some("sha512-pbkdf2") => Scheme::Pbkdf2(iterations),
        Some("sha512") => Scheme::Sha512,
        #[cfg(feature = "argon2")]
        Some("argon2id") => Scheme::Argon2id,
        Some(other) => return Err(text(format!("Unknown hash type '{other}'"))),
    };
    let words = &matches.free;
    let needed = match (hash_all, batch) {
        (true, _) => 1,
        (false, true) => 3,
        (false, false) => 2,
    };
    let missing = match (create, delete, hash_all) {
        (true, ..) if batch => Some("-c argument given but password file, username, or password missing."),
        (true, ..) => Some("-c argument given but password file or username missing."),
        (_, true, _) => Some("-D argument given but password file or username missing."),
        (.., true) => Some("-U argument given but password file missing."),
        _ => None,
    };
    // Surplus words are ignored where C Mosquitto ignores them.
    if words.len() < needed || (words.len() > needed && !create && !delete) {
        return Err(missing.map_or(Error::Usage, text));
    }
    let mut words = words.iter();
    let mut word = || words.next().cloned().unwrap_or_default();
    let (file, username) = (PathBuf::from(word()), word());
    let password = batch.then(|| word().into_bytes());
    if !hash_all {
        check_username(&username)?;
    }
    if password.as_ref().is_some_and(|password| password.len() > MAX_USERNAME) {
        return Err(text("Password must be less than 65536 characters long."));
    }
    let command = match (create, delete, hash_all) {
        (true, ..) => Command::Create,
        (_, true, _) => Command::Delete,
        (.., true) => Command::HashAll,
        _ => Command::Set,
    };
    Ok(Request { command, scheme, file, username, password })
}

fn check_username(username: &str) -> Result<(), Error> {
    let wrong = if username.len() > MAX_USERNAME {
        "must be less than 65536 characters long"
    } else if username.chars().any(char::is_control) {
        "must not contain control characters"
    } else if username.contains(':') {
        "must not contain the ':' character"
    } else if username.trim_ascii().is_empty() {
        // The broker could not read such a line back.
        "must not be empty"
    } else if username.starts_with('#') {
        "must not start with '#', which starts a comment"
    } else if username != username.trim_ascii() {
        "must not start or end with a blank"
    } else {
        return Ok(());
    };
    Err(text(format!("Username {wrong}.")))
}

fn run(request: &Request) -> Result<(), Error> {
    let Request { command, scheme, file, username, password } = request;
    match command {
        Command::Create => {
            let line = format!("{username}:{}\n", hash(*scheme, &ask(password.as_deref())?)?);
            if file.as_os_str() == "-" {
                return io::stdout().write_all(line.as_bytes()).map_err(|error| text(words(&error)));
            }
            say(&format!("Adding password for user {username}"));
            replace_file::replace(file, line.as_bytes()).map_err(|error| {
                text(format!("Unable to open file {} for writing. {}.", file.display(), words(&error)))
            })
        }
        Command::Set => {
            // Better now than after the question.
            check(&read(file)?)?;
            let hash = hash(*scheme, &ask(password.as_deref())?)?;
            let _held = hold(file)?;
            let old = read(file)?;
            check(&old)?;
            let (new, known) = with_user(&old, username, &hash);
            say(&format!("{} password for user {username}", if known { "Updating" } else { "Adding" }));
            write(file, &new)
        }
        Command::Delete => {
            let _held = hold(file)?;
            let old = read(file)?;
            check(&old)?;
            match without_user(&old, username) {
                Some(new) => write(file, &new),
                None => Err(Error::NotFound(username.clone())),
            }
        }
        Command::HashAll => {
            let _held = hold(file)?;
            let old = read(file)?;
            write(file, &hash_all(&old, *scheme)?)
        }
    }
}

fn say(line: &str) {
    let _reader_gone = writeln!(io::stdout(), "{line}");
}

fn words(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), errors::text)
}

fn unreadable(file: &Path, error: &io::Error) -> Error {
    text(format!("Unable to open password file {}. {}.", file.display(), words(error)))
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| unreadable(file, &error))
}

/// Keeps other runs of this tool from changing the file between our reading and writing it.
fn hold(file: &Path) -> Result<impl Sized, Error> {
    replace_file::hold(file).map_err(|error| unreadable(file, &error))
}

fn write(file: &Path, content: &[u8]) -> Result<(), Error> {
    replace_file::replace(file, content)
        .map_err(|error| text(format!("The password file {} was not changed. {}.", file.display(), words(&error))))
}

/// The password from the command line, or asked for twice.
fn ask(given: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    let read = |prompt| terminal::read_secret(prompt).map_err(|_| text("Empty password."));
    let password = match given {
        Some(password) => password.to_vec(),
        None => {
            let first = read("Password: ")?;
            if first.is_empty() {
                return Err(text("Empty password."));
            }
            if read("Reenter password: ")? != first {
                return Err(Error::Mismatch);
            }
            first
        }
    };
    if password.len() > MAX_USERNAME {
        return Err(text("Password must be less than 65536 characters long."));
    }
    if password.is_empty() || password.contains(&0) {
        let _reader_gone = writeln!(
            io::stderr(),
            "Warning: The broker refuses an empty password, and ignores what follows a NUL byte."
        );
    }
    Ok(password)
}

fn hash(scheme: Scheme, password: &[u8]) -> Result<Hash, Error> {
    let len = match scheme {
        Scheme::Sha512 | Scheme::Pbkdf2(_) => SALT_LEN,
        #[cfg(feature = "argon2")]
        Scheme::Argon2id => ARGON2_SALT_LEN,
    };
    let mut salt = vec![0; len];
    random::fill(&mut salt);
    let password = password.split(|&b| b == 0).next().unwrap_or_default();
    Hash::new(scheme, &salt, password).ok_or_else(|| text("Unable to hash password."))
}

/// Refuses a file that the broker would refuse: better to say so now than to change it and find out at the next start.
fn check(content: &[u8]) -> Result<(), Error> {
    for (line, bytes) in (1..).zip(content.split(|&b| b == b'\n')) {
        if split_line(bytes).is_some_and(|(user, hash)| user.is_empty() || hash.is_empty()) {
            return Err(text(format!("Corrupt password file at line {line}.")));
        }
    }
    Ok(())
}

fn is_line_of(line: &[u8], username: &str) -> bool {
    split_line(line).is_some_and(|(user, _)| user == username.as_bytes())
}

/// The content with the user's line replaced or added, and whether the user was known. Further lines of the same user,
/// which the broker would not accept, are dropped.
fn with_user(content: &[u8], username: &str, hash: &Hash) -> (Vec<u8>, bool) {
    let entry = format!("{username}:{hash}\n");
    let mut new = Vec::with_capacity(content.len() + entry.len());
    let mut known = false;
    for line in content.split_inclusive(|&b| b == b'\n') {
        if !is_line_of(line, username) {
            new.extend_from_slice(line);
        } else if !std::mem::replace(&mut known, true) {
            new.extend_from_slice(entry.as_bytes());
        }
    }
    if !known {
        if new.last().is_some_and(|&last| last != b'\n') {
            new.push(b'\n');
        }
        new.extend_from_slice(entry.as_bytes());
    }
    (new, known)
}

/// The content without the user's lines; `None` when there is none.
fn without_user(content: &[u8], username: &str) -> Option<Vec<u8>> {
    let lines = || content.split_inclusive(|&b| b == b'\n');
    lines()
        .any(|line| is_line_of(line, username))
        .then(|| lines().filter(|line| !is_line_of(line, username)).flatten().copied().collect())
}

/// The content with every plain password hashed.
fn hash_all(content: &[u8], scheme: Scheme) -> Result<Vec<u8>, Error> {
    let mut new = Vec::new();
    for (number, line) in (1..).zip(content.split_inclusive(|&b| b == b'\n')) {
        let Some((user, password)) = split_line(line) else {
            new.extend_from_slice(line);
            continue;
        };
        if user.is_empty() || password.is_empty() {
            return Err(text(format!("Corrupt password file at line {number}.")));
        }
        if std::str::from_utf8(password).is_ok_and(|text| Hash::parse(text).is_ok()) {
            new.extend_from_slice(line);
            continue;
        }
        new.extend_from_slice(user);
        new.extend_from_slice(format!(":{}\n", hash(scheme, password)?).as_bytes());
    }
    Ok(new)
}

#[cfg(test)]
mod tests;
