//! The rigs themselves: each must do what a test relies on, whatever broker is tested with it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::directory::Directory;
use crate::dns::{Answer, NameServer};
use crate::namespace::Namespace;
use crate::proxy::{Event, Proxy, Towards};
use crate::relay::Relay;

const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn pair(proxy: &Proxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let near = TcpStream::connect(proxy.addr()).expect("the proxy listens");
    near.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (far, _) = listener.accept().expect("the proxy connects");
    far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (near, far)
}

fn read(stream: &mut TcpStream, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    stream.read_exact(&mut bytes).expect("the bytes");
    bytes
}

fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let silent = stream.read(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    silent
}

fn is_reset(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0; 100]).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
}

#[test]
fn the_proxy_hands_on_and_does_each_kind_of_harm() {
    let listener = TcpListener::bind(ANY).unwrap();
    let proxy = Proxy::start(ANY, listener.local_addr().unwrap());
    let (mut near, mut far) = pair(&proxy, &listener);
    near.write_all(b"hello").unwrap();
    assert_eq!(read(&mut far, 5), b"hello");
    far.write_all(&[7; 300_000]).unwrap();
    assert_eq!(read(&mut near, 300_000), [7; 300_000]);

    proxy.set_frozen(true);
    near.write_all(b"later").unwrap();
    assert!(is_silent(&mut far));
    proxy.set_frozen(false);
    assert_eq!(read(&mut far, 5), b"later");

    proxy.cut_after(Towards::Peer, 3);
    near.write_all(b"abcdef").unwrap();
    assert_eq!(read(&mut far, 3), b"abc");
    assert!(is_reset(&mut far) && is_reset(&mut near));
    assert_eq!(proxy.links(), 0);

    let (mut near, mut far) = pair(&proxy, &listener);
    proxy.forget();
    near.write_all(b"lost").unwrap();
    assert!(is_silent(&mut far) && is_silent(&mut near));
    proxy.reset();
    assert!(is_reset(&mut far) && is_reset(&mut near));

    proxy.set_mute(true);
    let mut near = TcpStream::connect(proxy.addr()).unwrap();
    near.write_all(b"anyone?").unwrap();
    assert!(is_silent(&mut near));
    proxy.set_mute(false);
    proxy.reset();

    proxy.refuse();
    assert!(TcpStream::connect(proxy.addr()).is_err());
    proxy.listen(proxy.addr());
    let (near, mut far) = pair(&proxy, &listener);
    drop(near);
    assert_eq!(far.read(&mut [0]).unwrap(), 0);
    let events: Vec<Event> = proxy.events().into_iter().map(|(_, event)| event).collect();
    let once = [Event::Accepted, Event::Answered, Event::Ended];
    assert_eq!(events[..3], once);
    assert_eq!(events.iter().filter(|event| **event == Event::Accepted).count(), 4, "{events:?}");
}

#[test]
fn the_relay_delays_and_loses() {
    let Some(left) = Namespace::new("the relay") else { return };
    let Some(right) = Namespace::new("the relay") else { return };
    let relay = Relay::join((&left, "10.77.0.1/24"), (&right, "10.77.0.2/24"), 1).expect("TAP devices");
    let listener = right.run(|| TcpListener::bind("10.77.0.2:0").unwrap());
    let addr = listener.local_addr().unwrap();
    let mut near = left.run(|| TcpStream::connect(addr).unwrap());
    let (mut far, _) = listener.accept().unwrap();
    for (delay, loss, rounds) in [(0, 0, 20), (100, 0, 3), (5, 100, 60)] {
        relay.set(delay, loss);
        let before = relay.frames();
        let start = Instant::now();
        for n in 0..rounds {
            near.write_all(&[n]).unwrap();
            assert_eq!(read(&mut far, 1), [n]);
            far.write_all(&[n]).unwrap();
            assert_eq!(read(&mut near, 1), [n]);
        }
        let least = Duration::from_millis(u64::from(2 * delay) * u64::from(rounds));
        assert!(start.elapsed() >= least, "{:?} for {rounds} rounds of twice {delay} ms", start.elapsed());
        let after = relay.frames();
        assert_eq!(after.1 > before.1, loss > 0, "frames lost: {before:?} {after:?}");
    }
    relay.set(0, 0);
    relay.set_dead(true);
    near.write_all(&[1]).unwrap();
    assert!(is_silent(&mut far));
    relay.set_dead(false);
    assert_eq!(read(&mut far, 1), [1]);
}

#[test]
fn the_name_server_answers_as_told() {
    let Some(inside) = Namespace::new("the name server") else { return };
    inside.run(|| {
        let server = NameServer::start();
        let directory = Directory::new("names");
        let ask = || {
            let start = Instant::now();
            let mut command = server.command("getent".as_ref(), directory.path(), "timeout:1 attempts:1");
            let output = command.args(["ahostsv4", "peer.test"]).stderr(Stdio::inherit()).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            (text.split(' ').next().unwrap_or_default().to_owned(), start.elapsed())
        };
        assert_eq!(ask().0, "");
        server.set("peer.test", Answer::Is(Ipv4Addr::new(127, 0, 0, 9)));
        assert_eq!(ask().0, "127.0.0.9");
        server.set("peer.test", Answer::Late(Ipv4Addr::new(127, 0, 0, 8), Duration::from_millis(500)));
        let (address, took) = ask();
        assert!(address == "127.0.0.8" && took >= Duration::from_millis(500), "{address} {took:?}");
        for answer in [Answer::No, Answer::Failure, Answer::Silence] {
            server.set("peer.test", answer);
            assert_eq!(ask().0, "", "{answer:?}");
        }
        assert!(server.asked() >= 6);
    });
}
