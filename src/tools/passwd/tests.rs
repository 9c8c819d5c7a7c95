//! The command line, and what becomes of the lines of a file.

use super::*;

fn parsed(line: &str) -> Result<Request, Error> {
    parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
}

#[test]
fn command_lines() {
    let rounds = |n| Scheme::Pbkdf2(NonZeroU32::new(n).unwrap());
    for (line, command, scheme, password) in [
        ("file user", Command::Set, rounds(1000), None),
        ("-c file user", Command::Create, rounds(1000), None),
        ("-c file user surplus", Command::Create, rounds(1000), None),
        ("-D file user", Command::Delete, rounds(1000), None),
        ("-I 5 -b file user pw", Command::Set, rounds(5), Some("pw")),
        ("-c -b file user -D", Command::Create, rounds(1000), Some("-D")),
        ("-H sha512 file user", Command::Set, Scheme::Sha512, None),
        ("-H sha512-pbkdf2 -I 7 file user", Command::Set, rounds(7), None),
    ] {
        let request = parsed(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!((request.command, request.scheme), (command, scheme), "{line}");
        assert_eq!((request.file.as_path(), request.username.as_str()), (Path::new("file"), "user"));
        assert_eq!(request.password.as_deref(), password.map(str::as_bytes), "{line}");
    }
    assert_eq!(parsed("-U file").map(|request| request.command), Ok(Command::HashAll));
}

#[test]
fn bad_command_lines_are_named() {
    for (line, message) in [
        ("-H", "-H argument given but not enough other arguments."),
        ("-c -I", "-I argument given but not enough other arguments."),
        ("-H md5 file user", "Unknown hash type 'md5'"),
        ("-I 0 file user", "Number of iterations must be > 0."),
        ("-I x file user", "Number of iterations must be > 0."),
        ("-c -D file user", "-c and -D cannot be used together."),
        ("-c -U file", "-c and -U cannot be used together."),
        ("-D -U file", "-D and -U cannot be used together."),
        ("-b -D file user", "-b and -D cannot be used together."),
        ("-c -b file user", "-c argument given but password file, username, or password missing."),
        ("-c file", "-c argument given but password file or username missing."),
        ("-D file", "-D argument given but password file or username missing."),
        ("-U", "-U argument given but password file missing."),
        ("-U file user", "-U argument given but password file missing."),
        ("file a:b", "Username must not contain the ':' character."),
        ("file #a", "Username must not start with '#', which starts a comment."),
    ] {
        assert_eq!(parsed(line), Err(text(message)), "{line}");
    }
    for line in ["", "file", "file user surplus", "-b file user", "--bogus", "-x file user"] {
        assert_eq!(parsed(line), Err(Error::Usage), "{line}");
    }
    for user in ["a\nb", " a", "", "x".repeat(65_536).as_str()] {
        assert!(check_username(user).is_err());
    }
    assert!(USAGE.lines().count() <= 24 && USAGE.lines().all(|line| line.len() <= 80), "a screen");
}

const CHEAP: Scheme = Scheme::Sha512;

fn some_hash() -> Hash {
    hash(CHEAP, b"secret").unwrap()
}

#[test]
fn other_lines_stay_as_they_are() {
    let hash = some_hash();
    let old = "# a comment\r\n\nalice:x\n  indented : y \nbob:z:rest\nno colon\nlast:without end";
    let line = |user: &str| format!("{user}:{hash}\n");
    let (new, known) = with_user(old.as_bytes(), "bob", &hash);
    assert!(known);
    assert_eq!(String::from_utf8(new).unwrap(), old.replace("bob:z:rest\n", &line("bob")));
    let (new, known) = with_user(old.as_bytes(), "carol", &hash);
    assert!(!known);
    assert_eq!(String::from_utf8(new).unwrap(), format!("{old}\n{}", line("carol")), "the last line is ended first");
    let (new, _) = with_user(old.as_bytes(), "last", &hash);
    assert_eq!(String::from_utf8(new).unwrap(), old.replace("last:without end", &line("last")));
    let (new, _) = with_user(b"a:1\nb:2\na:3\n", "a", &hash);
    assert_eq!(String::from_utf8(new).unwrap(), format!("{}b:2\n", line("a")), "a user twice is no user");

    let gone = without_user(old.as_bytes(), "indented").map(String::from_utf8).unwrap().unwrap();
    assert_eq!(gone, old.replace("  indented : y \n", ""));
    assert_eq!(without_user(old.as_bytes(), "# a comment"), None);
    assert_eq!(without_user(old.as_bytes(), "nobody"), None);
}

#[test]
fn a_whole_file_is_hashed_once() {
    let plain = b"# users\nalice:secret\n\nbob : other : tail\n";
    let hashed = hash_all(plain, CHEAP).unwrap();
    let users = crate::broker::auth::password::Passwords::parse(&hashed).unwrap();
    assert!(users.find("alice").is_some_and(|hash| hash.verify(b"secret")));
    assert!(users.find("bob").is_some_and(|hash| hash.verify(b"other")));
    assert!(hashed.starts_with(b"# users\n"));
    assert_eq!(hash_all(&hashed, CHEAP).unwrap(), hashed, "what is hashed stays");
    assert_eq!(hash_all(b"ok:x\n:y\n", CHEAP), Err(text("Corrupt password file at line 2.")));
}

#[test]
fn a_file_that_the_broker_would_refuse_is_not_changed() {
    assert_eq!(check(b"# fine\na:x\n\nword\n"), Ok(()));
    assert_eq!(check(b"a:x\nb:\n"), Err(text("Corrupt password file at line 2.")));
}

#[test]
fn what_is_written_can_be_read() {
    let directory = std::env::temp_dir().join(format!("mosquitto-passwd-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("pwfile");
    let act = |line: &str| {
        let words: Vec<OsString> =
            line.replace("FILE", file.to_str().unwrap()).split(' ').map(OsString::from).collect();
        main(&words)
    };
    let opens = |user: &str, password: &str| {
        let users = crate::broker::auth::password::Passwords::parse(&std::fs::read(&file).unwrap()).unwrap();
        users.find(user).is_some_and(|hash| hash.verify(password.as_bytes()))
    };
    assert_eq!(act("-b FILE alice one"), 1, "only -c makes a file");
    assert_eq!(act("-c -b FILE alice one"), 0);
    assert_eq!(act("-b -H sha512 FILE bob two"), 0);
    assert!(opens("alice", "one") && opens("bob", "two"));
    assert_eq!(act("-b -I 3 FILE alice three"), 0);
    assert!(opens("alice", "three") && opens("bob", "two"));
    assert_eq!((act("-D FILE bob"), act("-D FILE bob")), (0, 1));
    assert!(!opens("bob", "two"));
    assert_eq!(act("-c -b FILE carol four"), 0);
    assert!(opens("carol", "four") && !opens("alice", "three"));
    #[cfg(feature = "argon2")]
    {
        assert_eq!(act("-b -H argon2id FILE dave five"), 0);
        assert!(opens("dave", "five"));
    }
    std::fs::remove_dir_all(&directory).unwrap();
}
