//! CONNECT with user name and password against a core without sockets: what is answered when, and what waits.

use super::super::tests::World;
use super::*;
use crate::broker::auth::access::{RuleFiles, Rules};
use crate::broker::auth::guard;
use crate::broker::auth::password::{Hash, Passwords, Scheme};
use crate::broker::{Action, ConnId};
use crate::slab::Key;

/// `fast` and `slow` have the password "right", behind hashes of either kind.
fn world() -> World {
    let mut world = World::new();
    world.listener.allow_anonymous = Some(false);
    let line = |user: &str, scheme| format!("{user}:{}\n", Hash::new(scheme, &[1; 12], b"right").unwrap());
    let text = line("fast", Scheme::Sha512) + &line("slow", Scheme::Pbkdf2(1.try_into().unwrap()));
    let passwords = Some(Passwords::parse(text.as_bytes()).unwrap().into());
    let mut access = world.broker.access().clone();
    access.set_global(RuleFiles::default(), Rules { passwords, acl: None });
    world.broker.set_access(access);
    world
}

fn connect(version: ProtocolVersion, login: Option<(&str, &str)>) -> Vec<u8> {
    let (username, password) = (login.map(|l| l.0), login.map(|l| l.1.as_bytes()));
    let mut bytes = Vec::new();
    Connect { username, password, ..Connect::new(version, "c", 60) }.encode(&mut bytes);
    bytes
}

impl World {
    /// Answers what was asked for, in its order.
    fn answer(&mut self) -> Vec<Flow> {
        let mut flows = Vec::new();
        while let Some(action) = self.broker.take_action() {
            let Action::Login { conn, check } = action else { continue };
            let verdict = if check.is_right() { Verdict::Right } else { Verdict::Wrong };
            self.broker.logins.answered(self.now, check.ip, verdict);
            let at = usize::try_from(conn.0.to_bits()).unwrap();
            flows.push(self.with(at, |server, turn| server.on_login(turn, verdict)));
        }
        flows
    }

    /// The end of a connection as the loop makes it, and what its client reads until then.
    fn close(&mut self, at: usize, flow: Flow) -> (Vec<u8>, String) {
        let Flow::Close(reason) = flow else { panic!("{flow:?}") };
        let mut read = self.received(at);
        self.with(at, |server, turn| server.close(turn, &reason));
        read.extend(self.received(at));
        assert_eq!(self.broker.logins.waiting(), (0, 0), "the room is given back");
        (read, reason.to_string())
    }
}

const V5: ProtocolVersion = ProtocolVersion::V5;
const V311: ProtocolVersion = ProtocolVersion::V311;

#[test]
fn right_and_wrong_passwords_of_either_kind() {
    for (version, code) in [(ProtocolVersion::V31, 5), (V311, 5), (V5, 0x87)] {
        for user in ["fast", "slow"] {
            for (login, right) in [
                (Some((user, "right")), true),
                (Some((user, "wrong")), false),
                (Some((user, "")), false),
                (Some(("nobody", "right")), false),
                (Some(("", "right")), false),
                (None, false),
            ] {
                let mut world = world();
                let at = world.open_from("192.0.2.1:5");
                let mut flow = world.send(at, &connect(version, login));
                if matches!(flow, Flow::Waiting) {
                    assert!(world.received(at).is_empty(), "nothing before the answer");
                    flow = world.answer().pop().unwrap();
                }
                assert_eq!(world.servers[at].0.session().is_some(), right, "{version:?} {login:?} {flow:?}");
                if right {
                    assert_eq!(world.received(at)[..1], [0x20]);
                    assert_eq!(world.broker.logins.waiting(), (0, 0));
                } else {
                    let (read, text) = world.close(at, flow);
                    assert_eq!((read[0], read[3], &*text), (0x20, code, "disconnected: not authorised."), "{login:?}");
                }
            }
        }
    }
}

#[test]
fn what_follows_connect_waits_and_is_handled_in_its_order() {
    let mut world = world();
    let at = world.open_from("192.0.2.1:5");
    let slow = connect(V311, Some(("slow", "right")));
    assert!(matches!(world.send(at, &[&slow[..], &[0xC0, 0, 0xC0]].concat()), Flow::Waiting));
    assert!(matches!(world.send(at, b""), Flow::Waiting));
    assert!(world.received(at).is_empty());
    assert!(matches!(world.answer()[..], [Flow::Again]));
    assert!(matches!(world.send(at, b""), Flow::Continue));
    world.send(at, &[0]);
    assert_eq!(world.received(at), [0x20, 2, 0, 0, 0xD0, 0, 0xD0, 0]);
}

#[test]
fn an_answer_that_comes_too_late_is_nothing() {
    let mut world = world();
    let at = world.open_from("192.0.2.1:5");
    world.send(at, &connect(V5, Some(("slow", "right"))));
    world.close(at, Flow::Close(CloseReason::ClosedByClient));
    assert!(matches!(world.answer()[..], [Flow::Continue]));
    assert!(world.servers[at].0.session().is_none() && world.broker.session_count() == 0);
    assert!(world.received(at).is_empty());
}

#[test]
fn who_waits_for_thirty_seconds_is_told_that_it_is_too_much() {
    for (version, code) in [(V311, 3), (V5, 0x89)] {
        let mut world = world();
        let at = world.open_from("192.0.2.1:5");
        world.now.mono_ms += 10_000;
        world.send(at, &connect(version, Some(("slow", "right"))));
        let due = world.servers[at].0.deadline().unwrap();
        assert_eq!(due, 1_000_000 + 30_000, "30 s in all");
        world.now.mono_ms = due;
        let flow = world.with(at, |server, turn| server.on_timer(turn));
        let (read, text) = world.close(at, flow);
        assert_eq!((read[0], read[3], &*text), (0x20, code, "disconnected: server busy."));
        assert!(matches!(world.answer()[..], [Flow::Continue]));
    }
}

#[test]
fn no_worker_to_ask_is_told_too() {
    let mut world = world();
    let at = world.open_from("192.0.2.1:5");
    world.send(at, &connect(V5, Some(("slow", "right"))));
    let flow = world.with(at, |server, turn| server.on_login(turn, Verdict::Busy));
    assert_eq!(world.close(at, flow).0[3], 0x89);
}

#[test]
fn whoever_guesses_waits_and_the_rest_do_not() {
    for user in ["fast", "slow"] {
        let mut world = world();
        let guess = |world: &mut World, password| {
            let at = world.open_from("192.0.2.1:5");
            let flow = world.send(at, &connect(V311, Some((user, password))));
            (at, if matches!(flow, Flow::Waiting) { world.answer().pop().unwrap_or(flow) } else { flow })
        };
        for _ in 0..=guard::BURST {
            let (at, flow) = guess(&mut world, "wrong");
            world.close(at, flow);
        }
        let (waits, flow) = guess(&mut world, "right");
        assert!(matches!(flow, Flow::Waiting), "{flow:?}");
        let other = world.open_from("192.0.2.2:5");
        world.send(other, &connect(V311, Some(("fast", "right"))));
        assert!(world.servers[other].0.session().is_some());

        // Its turn comes; somebody of the same address was faster.
        let due = world.servers[waits].0.deadline().unwrap();
        assert_eq!(due, world.now.mono_ms + guard::INTERVAL_MS);
        world.now.mono_ms = due;
        let (fast, flow) = guess(&mut world, "wrong");
        world.with(fast, |server, turn| {
            let Flow::Close(reason) = flow else { panic!() };
            server.close(turn, &reason);
        });
        assert!(matches!(world.with(waits, |server, turn| server.on_timer(turn)), Flow::Waiting));
        let due = world.servers[waits].0.deadline().unwrap();
        assert_eq!(due, world.now.mono_ms + guard::INTERVAL_MS);
        world.now.mono_ms = due;
        let flow = world.with(waits, |server, turn| server.on_timer(turn));
        if user == "slow" {
            assert!(matches!(flow, Flow::Waiting));
            world.answer();
        }
        assert_eq!(world.received(waits), [0x20, 2, 0, 0]);
        assert!(world.servers[waits].0.deadline().is_some_and(|deadline| deadline > due));
    }
}

#[test]
fn a_wait_beyond_the_time_for_connect_is_refused_at_once() {
    let mut world = world();
    for _ in 0..100 {
        world.broker.logins.answered(world.now, Some("192.0.2.1".parse().unwrap()), Verdict::Wrong);
    }
    let at = world.open_from("192.0.2.1:5");
    let flow = world.send(at, &connect(V5, Some(("fast", "right"))));
    assert_eq!(world.close(at, flow).0[3], 0x89);
}

#[test]
fn a_full_waiting_room_is_answered() {
    let mut world = world();
    while world.broker.logins.hold(10, false) {}
    let at = world.open_from("192.0.2.1:5");
    let flow = world.send(at, &connect(V311, Some(("slow", "right"))));
    assert!(matches!(flow, Flow::Close(_)));
    assert_eq!(world.received(at), [0x20, 2, 0, 3]);
    assert!(world.broker.take_action().is_none(), "nothing is compared for it");
}

#[test]
fn the_later_of_two_with_one_client_id_takes_the_session_over() {
    let mut world = world();
    let (first, second) = (world.open_from("192.0.2.1:5"), world.open_from("192.0.2.1:6"));
    for at in [first, second] {
        world.send(at, &connect(V5, Some(("slow", "right"))));
    }
    world.answer();
    let session = world.broker.find_client("c").unwrap();
    assert_eq!(world.broker.conn_of(session), Some(ConnId(Key::from_bits(u32::try_from(second).unwrap()))));
    assert!(world.broker.logins.waiting() == (0, 0));
}

#[test]
fn a_name_from_the_transport_takes_the_place_of_user_name_and_password() {
    for use_it in [true, false] {
        let mut world = world();
        world.listener.tls.use_identity_as_username = true;
        world.listener.use_username_as_clientid = true;
        let at = world.open_from("192.0.2.1:5");
        let identity = use_it.then(|| Identity { username: "from a certificate".into() });
        world.servers[at].0.set_identity(identity);
        let flow = world.send(at, &connect(V5, Some(("fast", "wrong"))));
        if use_it {
            let session = world.broker.find_client("from a certificate").unwrap();
            let client = world.broker.client(world.now, session).unwrap();
            assert_eq!(client.username, Some("from a certificate"));
        } else {
            let (read, text) = world.close(at, flow);
            assert_eq!((read[3], &*text), (0x86, "disconnected: bad username or password."));
        }
    }
}
