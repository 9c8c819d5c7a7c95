//! Who waits, who is let in, and who stays after a reload.

use super::super::access::RuleFiles;
use super::super::password::{Passwords, Scheme};
use super::super::{Failure, guard};
use super::*;
use crate::broker::ConnectRequest;
use crate::config::Config;
use crate::slab::Key;
use crate::wire::ProtocolVersion;

const NOW: Now = Now { mono_ms: 1_000_000, wall_s: 1_700_000_000 };

fn hash(scheme: Scheme, salt: u8, password: &str) -> String {
    Hash::new(scheme, &[salt; 12], password.as_bytes()).unwrap().to_string()
}

/// `fast` and `slow` have the password "right", behind hashes of either kind.
fn file() -> String {
    let (fast, slow) = (Scheme::Sha512, Scheme::Pbkdf2(1.try_into().unwrap()));
    format!("fast:{}\nslow:{}\n", hash(fast, 1, "right"), hash(slow, 1, "right"))
}

fn set_passwords(broker: &mut Broker, file: Option<&str>) {
    let passwords = file.map(|file| Passwords::parse(file.as_bytes()).unwrap().into());
    let mut access = broker.access().clone();
    access.set_global(RuleFiles::default(), Rules { passwords, acl: None });
    broker.set_access(access);
}

fn broker(file: Option<&str>) -> Broker {
    let mut broker = Broker::new(Config::local_only(&[]).global, [3, 4], NOW);
    set_passwords(&mut broker, file);
    broker
}

fn request<'a>(ip: &str, username: &'a str, password: &'a str) -> LoginRequest<'a> {
    LoginRequest {
        rules: RulesId::GLOBAL,
        username: Some(username),
        password: Some(password.as_bytes()),
        anonymous_allowed: false,
        ip: Some(ip.parse().unwrap()),
        checked: None,
    }
}

#[test]
fn a_slow_hash_is_compared_elsewhere_and_counts_when_it_comes_back() {
    let mut broker = broker(Some(&file()));
    let ip = "192.0.2.1";
    for (password, right) in [("right", true), ("wrong", false)] {
        let Login::Check(check, fingerprint) = broker.login(NOW, &request(ip, "slow", password)) else { panic!() };
        assert!(!format!("{check:?}").contains(password) && !format!("{check:?}").contains("1, 1"), "{check:?}");
        assert_eq!(check.is_right(), right);
        broker.logins.answered(NOW, check.ip, if right { Verdict::Right } else { Verdict::Wrong });
        let again = LoginRequest { checked: Some(fingerprint), ..request(ip, "slow", password) };
        assert!(matches!(broker.login(NOW, &again), Login::Welcome(f) if f == fingerprint));
        let other = LoginRequest { checked: Some(fingerprint ^ 1), ..again };
        assert!(matches!(broker.login(NOW, &other), Login::Check(..)), "the file was read anew meanwhile");
        broker.logins.answered(NOW, check.ip, Verdict::Busy);
    }
    assert!(broker.logins.looking.is_empty());
    assert!(matches!(broker.login(NOW, &request(ip, "fast", "right")), Login::Welcome(f) if f != 0));
    assert!(matches!(broker.login(NOW, &request(ip, "fast", "x")), Login::Refused(Failure::WrongPassword)));
}

#[test]
fn an_unknown_user_takes_the_time_of_some_known_one_and_never_gets_in() {
    let mut broker = broker(Some(&file()));
    let (mut slow, mut fast) = (0, 0);
    for i in 0..100 {
        let name = format!("nobody{i}");
        for _ in 0..2 {
            match broker.login(NOW, &request("127.0.0.1", &name, "right")) {
                Login::Check(check, fingerprint) => {
                    assert!(!check.is_right(), "though the password is that of somebody else");
                    let checked = LoginRequest { checked: Some(fingerprint), ..request("127.0.0.1", &name, "right") };
                    assert!(!matches!(broker.login(NOW, &checked), Login::Welcome(_)));
                    slow += 1;
                }
                Login::Refused(Failure::UnknownUser) => fast += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    // The same name always the same way.
    assert!(slow > 20 && fast > 20 && slow % 2 == 0 && fast % 2 == 0, "{slow} {fast}");
}

#[test]
fn whoever_guesses_waits_and_neighbours_on_this_machine_do_not() {
    let mut broker = broker(Some(&file()));
    let mut guesses = |ip: &str, user: &str, password: &str| {
        let tries = (0..1000).take_while(|_| match broker.login(NOW, &request(ip, user, password)) {
            Login::Refused(_) => true,
            Login::Check(check, _) => {
                broker.logins.answered(NOW, check.ip, Verdict::Wrong);
                true
            }
            Login::Wait(ms) => {
                assert!((1..=guard::INTERVAL_MS).contains(&ms), "{ms}");
                false
            }
            Login::Welcome(_) => panic!(),
        });
        tries.count()
    };
    let burst = usize::try_from(guard::BURST).unwrap() + 1;
    assert_eq!(guesses("192.0.2.1", "fast", "wrong"), burst);
    assert_eq!(guesses("192.0.2.1", "fast", "right"), 0, "a right password would be a hint");
    assert_eq!(guesses("192.0.2.2", "slow", "wrong"), burst);
    assert_eq!(guesses("192.0.2.3", "fast", ""), burst);
    assert_eq!(guesses("192.0.2.4", "nobody", "x"), burst);
    for here in ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(guesses(here, "fast", "wrong"), 1000, "{here}");
    }
    let later = Now { mono_ms: NOW.mono_ms + guard::INTERVAL_MS, ..NOW };
    assert!(matches!(broker.login(later, &request("192.0.2.1", "fast", "right")), Login::Welcome(_)));
    let open = LoginRequest { username: None, password: None, ..request("192.0.2.1", "", "") };
    assert!(matches!(broker.login(NOW, &open), Login::Refused(Failure::Anonymous)), "that is no guess");
}

#[test]
fn one_address_does_not_fill_the_queue() {
    let mut broker = broker(Some(&file()));
    for _ in 0..LOOKS_PER_ADDRESS {
        assert!(matches!(broker.login(NOW, &request("192.0.2.1", "slow", "right")), Login::Check(..)));
    }
    assert!(matches!(broker.login(NOW, &request("192.0.2.1", "slow", "right")), Login::Wait(ASK_AGAIN_MS)));
    assert!(matches!(broker.login(NOW, &request("192.0.2.2", "slow", "right")), Login::Check(..)));
    broker.logins.answered(NOW, Some("192.0.2.1".parse().unwrap()), Verdict::Right);
    assert!(matches!(broker.login(NOW, &request("192.0.2.1", "slow", "right")), Login::Check(..)));
}

#[test]
fn the_room_for_packets_that_wait_is_bounded() {
    let mut logins = Logins::new([1, 2]);
    let mut large = 0;
    while logins.hold(100_000, false) {
        large += 1;
    }
    assert_eq!(large, MAX_HELD / 2 / 100_000);
    let mut small = 0;
    while logins.hold(100, false) {
        small += 1;
    }
    assert_eq!(small, MAX_PENDING - large, "the large ones leave room");
    (0..small).for_each(|_| logins.release(100));
    (0..large).for_each(|_| logins.release(100_000));
    assert_eq!(logins.waiting(), (0, 0));
    assert_eq!((0..).take_while(|_| logins.hold(100, true)).count(), MAX_PENDING / 2);
    assert!(logins.hold(100, false));
}

/// Who has to leave; `named` tells whose listener takes the names of certificates.
fn leave(broker: &mut Broker, anonymous_allowed: bool, named: impl Fn(u32) -> bool) -> Vec<u32> {
    let bits = |conn: ConnId| conn.0.to_bits();
    let terms = |conn| Terms { rules: RulesId::GLOBAL, anonymous_allowed, named_by_certificate: named(bits(conn)) };
    let mut leaving: Vec<u32> = broker.recheck(|conn| Some(terms(conn))).into_iter().map(bits).collect();
    leaving.sort_unstable();
    leaving
}

#[test]
fn after_a_reload_only_those_stay_whose_password_is_the_same() {
    let before = file();
    let mut broker = broker(Some(&before));
    let here = [
        ("fast", Some("fast"), None),
        ("slow", Some("slow"), None),
        ("nobody", None, None),
        ("named", Some("by a certificate"), Some(Proof::Certificate)),
        ("exchanged", Some("by packets"), Some(Proof::Exchange)),
    ];
    for (at, (client_id, username, proof)) in here.into_iter().enumerate() {
        let conn = ConnId(Key::from_bits(u32::try_from(at).unwrap()));
        let connect = ConnectRequest {
            conn,
            client_id,
            username,
            clean_start: true,
            expiry_s: 0,
            version: ProtocolVersion::V5,
            bridge: false,
            rules: RulesId::GLOBAL,
            listener_port: 1883,
            receive_maximum: None,
            will: None,
        };
        let session = broker.connect(NOW, connect).unwrap().session;
        let proof = proof.unwrap_or_else(|| match username {
            Some(name) => match broker.login(NOW, &request("127.0.0.1", name, "right")) {
                Login::Welcome(fingerprint) | Login::Check(_, fingerprint) => Proof::Hash(fingerprint),
                other => panic!("{other:?}"),
            },
            None => Proof::Hash(0),
        });
        broker.set_proof(session, proof);
    }
    let rehashed = format!("fast:{}\n{}", hash(Scheme::Sha512, 2, "right"), before.lines().nth(1).unwrap());
    for (file, anonymous, leaving) in [
        (Some(&*before), true, &[][..]),
        (Some(&*before), false, &[2]),
        (Some(before.lines().nth(1).unwrap()), true, &[0]),
        (Some(&rehashed), true, &[0]),
        (Some("# nobody"), true, &[0, 1]),
        (None, true, &[]),
        (None, false, &[0, 1, 2]),
    ] {
        set_passwords(&mut broker, file);
        assert_eq!(leave(&mut broker, anonymous, |conn| conn == 3), leaving, "{file:?} {anonymous}");
    }
    set_passwords(&mut broker, Some(&before));
    assert_eq!(leave(&mut broker, true, |_| false), [3], "names come from elsewhere now");
    assert_eq!(leave(&mut broker, true, |_| true), [0, 1, 2], "and now from certificates");
    assert!(broker.recheck(|_| None).is_empty(), "whose listener is gone is closed with it");
}
