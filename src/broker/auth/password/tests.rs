//! Lines of real tools, and lines that are wrong.

use super::*;

/// User, password and line behind the user's name, made by the tools of C Mosquitto.
const LINES: &[(&str, &str)] = &[
    (
        "password123",
        "$7$101$smvq45qFHc0wW62S$nEPzvzVq5NZVXu0AaLU4GHeswxoQHdhzxjixN70vb7EV5ftR1JvCBwS0ucwr0YLfvNm9L0RS4jrb9EKepBhrTw==",
    ),
    (
        "pässwörd",
        "$7$101$eNK8KGjiTuAn/Yog$AlvcVqiaCB5cluhaRctYunFkxiUtHLbDd5+qsqwwxAXeXBO9o3zq6jWzAtugcML/n6d1oQrYT+fWyHPyYDStYA==",
    ),
    (
        "secret",
        "$6$2hid54vpOKjyXgV5$zW56LpM/1XJQaQWIQmcARulukD5lFFR5a0sD8pc6T5cNgAeXqSTX3gkpYRjY6+hi6YzSGaqAu2s7EBVN4ygsDw==",
    ),
    (
        "a b:c$d",
        "$7$5000$f5gsJCov5heUBvcO$iGc6iyMyYqidRjo2HB+WU6BR37CeiImvyda3MRJWT2KQczG5by2imDOLWmFHHtdgBKgu8PgopFOmBdx13AQDCg==",
    ),
    (
        "secret",
        "$6$xixRsNeTRyGJvgDg3H409MGcOCwB0t0ol9n2IgCj/j5sMCLL6eoogv3nKHoG3C0rO8RNeNdbeIMsYRosgVYW7w==$rn9oNp7BpELs+XUta1x1OYuNM9lM+qfOBn6xdFsZ+jcinGS28PI4dPuk8zZMBMmGk3wJjv9WitG6zejZVKP8gg==",
    ),
    (
        "x",
        "$7$1$dchCF459gNuklFUjv8Y1MsAHFVIVTtUpeSG2k+ZJ0c3bWW2CZtD5t0/cLzyXAKhTofug1YNZ0Jn2xYAXPgBuvg==$dUgQOjE6V+r7ZuTQ5f0Coxja7FpgR14BMSTPUQ64qyeSp4fOEHV3iFSHgUwnawLqawduY7prCvESloxomBLoGQ==",
    ),
    #[cfg(feature = "argon2")]
    (
        "password123",
        "$argon2id$v=19$m=47104,t=1,p=1$qwEZ98hfTTo3BnxrHr58Cch7LKbPKFx3DYGEd8pL0YzADUT7MKwMpyEt7tfwcjXQQhuLRAUNBM28iB5bIRE20w$Im8d2XngnQ9ussPD+25KRo8cWNkDvJhfn1M2j3GUZYRkrxyv5cxlB2Oe/XM4qo2GWCFyNGKNG+uUVV+ZAuLOGQ",
    ),
];

#[test]
fn hashes_of_real_tools_are_verified_and_written_again() {
    for (password, text) in LINES {
        let hash = Hash::parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert!(hash.verify(password.as_bytes()), "{text}");
        assert!(hash.verify(&[password.as_bytes(), b"\0tail"].concat()), "up to the first NUL");
        for wrong in ["", "Password123", "password1234", "\0"] {
            assert!(!hash.verify(wrong.as_bytes()), "{wrong:?} {text}");
        }
        assert_eq!(hash.to_string(), *text);
    }
}

#[test]
fn an_empty_password_never_opens() {
    let salt = [7u8; 12];
    let hash = Hash::Sha512 { salt: salt.into(), hash: digest::sha512(&[b"", &salt]) };
    assert!(!hash.verify(b"") && !hash.verify(b"\0x"));
}

#[test]
fn lines_are_read_as_c_mosquitto_2_1_reads_them() {
    let hash = LINES[2].1;
    let text = format!(
        "\u{feff}# comment\n  # indented\n\nno colon here\n  alice  :  {hash}  \r\nin side:{hash}:rest is ignored\nlast:{hash}"
    );
    let passwords = Passwords::parse(text.as_bytes()).expect("fine");
    assert_eq!(passwords.len(), 3);
    for user in ["alice", "in side", "last"] {
        assert!(passwords.find(user).is_some_and(|hash| hash.verify(b"secret")), "{user}");
    }
    assert!(passwords.find("Alice").is_none() && passwords.find("").is_none());
}

#[test]
fn bad_lines_are_named() {
    let good = LINES[2].1;
    let salt12 = "2hid54vpOKjyXgV5";
    let hash64 = good.rsplit('$').next().unwrap_or_default();
    let unable = "password-file: Error: Unable to decode line in password file 'f'.";
    for (line, error) in [
        (format!(":{good}"), "password-file: Error: Empty username in password file 'f'."),
        (format!("first:{good}"), "password-file: Error: Duplicate user 'first' in password file 'f'."),
        ("a:".into(), unable),
        ("a:plain".into(), unable),
        ("a:$5$x$y".into(), unable),
        (format!("a:$6${salt12}"), unable),
        (format!("a:$6$AAAA${hash64}"), unable),
        (format!("a:$6${salt12}$AAAA"), unable),
        (format!("a:$6${salt12}${}", hash64.trim_end_matches('=')), unable),
        (format!("a:$7$0${salt12}${hash64}"), unable),
        (format!("a:$7$-1${salt12}${hash64}"), unable),
        (format!("a:$7$x${salt12}${hash64}"), unable),
        (format!("a:$7$5000000000${salt12}${hash64}"), unable),
        (format!("{}:{good}", "u".repeat(65_536)), "password-file: Error: Username too long in password file 'f'."),
    ] {
        let error_found = Passwords::parse(format!("first:{good}\n{line}\n").as_bytes()).expect_err(&line);
        assert_eq!((error_found.line, error_found.text("f").as_str()), (2, error), "{line}");
    }
    assert!(Hash::parse(&format!("$7$101x${salt12}${hash64}")).is_ok(), "as C reads a number");
}

#[cfg(feature = "argon2")]
#[test]
fn argon2id_with_parameters_beyond_reason_is_refused() {
    let text = LINES[6].1;
    for (from, to) in [("m=47104", "m=99999999"), ("m=47104", "m=1"), ("t=1", "t=0"), ("v=19", "v=7"), ("p=1$", "p=0$")]
    {
        assert_eq!(Hash::parse(&text.replace(from, to)), Err(PasswordFileErrorKind::Hash), "{to}");
    }
    assert!(Hash::parse("$argon2id$v=19$m=47104,t=1,p=1$c2FsdHNhbHQ").is_err(), "no hash");
}
