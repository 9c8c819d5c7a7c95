//! Bridges over TLS, with certificates of either side, to this broker and to Debian's.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::cli::directory;

/// Made by the `openssl` command; `None` where there is none.
fn certificates(name: &str) -> Option<PathBuf> {
    let dir = directory(name);
    let script = r#"
set -e
openssl req -new -x509 -days 30 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -subj /CN=CA
leaf() {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $1.key -out $1.csr -subj "/CN=$2"
    openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out $1.crt $3
}
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >san
leaf server localhost "-extfile san"
leaf old localhost
leaf other elsewhere
printf 'extendedKeyUsage=clientAuth\n' >client
leaf client bridge "-extfile client"
openssl req -new -x509 -days 30 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca2.key -out stranger.crt -subj /CN=CA2
chmod 644 *.key; chmod 755 .
"#;
    let made = Command::new("sh").arg("-c").arg(script).current_dir(&dir).output();
    if made.is_ok_and(|output| output.status.success()) {
        return Some(dir);
    }
    note("the openssl command is not there: bridges over TLS are not tested");
    None
}

/// A listener with this certificate.
fn listener(program: Program, dir: &Path, certificate: &str, more: &str) -> (Broker, u16) {
    let port = crate::broker::free_port();
    let dir = dir.display();
    let lines =
        format!("listener {port} 127.0.0.1\ncertfile {dir}/{certificate}.crt\nkeyfile {dir}/{certificate}.key\n{more}");
    (program.start(&lines), port)
}

#[test]
fn with_certificates_on_both_sides() {
    let Some(dir) = certificates("bridge-tls") else { return };
    let programs = if has_debian() { &[Program::Ours, Program::Debian][..] } else { &[Program::Ours] };
    let d = dir.display();
    for far in programs {
        let more = format!("cafile {d}/ca.crt\nrequire_certificate true\nuse_identity_as_username true");
        let (far_broker, port) = listener(*far, &dir, "server", &more);
        for version in ["mqttv311", "mqttv50"] {
            let near = Broker::start_with(&format!(
                "connection link\naddress localhost:{port}\nremote_clientid link\nrestart_timeout 1\ntopic q/# both 1\n\
                 bridge_cafile {d}/ca.crt\nbridge_certfile {d}/client.crt\nbridge_keyfile {d}/client.key\n\
                 bridge_alpn mqtt\nbridge_protocol_version {version}\n"
            ));
            near.wait_for_log("Client local.link negotiated TLSv1.3 cipher ", LIMIT);
            far_broker.wait_for_log("u'bridge'", LIMIT);
            let mut reader = Reader::new(&far_broker, "reader", &["q/#"]);
            say(&near, "q/1", &"x".repeat(40_000), 1, false);
            assert_eq!(reader.next().payload.len(), 40_000, "{far:?}");
            let mut reader = Reader::new(&near, "reader", &["q/#"]);
            say(&far_broker, "q/2", "y", 1, false);
            assert_eq!(reader.next().payload, "y");
        }
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn who_is_not_trusted_or_has_another_name_is_refused() {
    let Some(dir) = certificates("bridge-trust") else { return };
    let d = dir.display();
    // The listener's certificate, lines of the bridge, and what the log says.
    for (certificate, lines, said) in [
        ("server", "bridge_cafile @/ca.crt", "Bridge link is connected to"),
        ("server", "bridge_capath @", "Bridge link is connected to"),
        ("server", "bridge_cafile @/server.crt", "Unable to load CA certificates, check bridge_cafile"),
        ("server", "bridge_cafile @/nothing", "Unable to load CA certificates, check bridge_cafile"),
        ("server", "bridge_cafile @/stranger.crt", "it comes from no authority in bridge_cafile"),
        ("server", "bridge_cafile @/stranger.crt\nbridge_insecure true", "it comes from no authority in bridge_cafile"),
        ("other", "bridge_cafile @/ca.crt", "it has not the name of the address"),
        ("other", "bridge_cafile @/ca.crt\nbridge_insecure true", "Bridge link is connected to"),
        ("old", "bridge_cafile @/ca.crt", "of the old kind, without subjectAltName"),
        ("old", "bridge_cafile @/ca.crt", "Bridge link is connected to"),
        ("server", "bridge_cafile @/ca.crt\nbridge_tls_version tlsv1.3", "negotiated TLSv1.3"),
        ("server", "bridge_cafile @/ca.crt\nbridge_ciphers nonsense", "check bridge_ciphers"),
        ("server", "bridge_tls_use_os_certs true", "it comes from no authority in bridge_cafile"),
    ] {
        let (far, port) = listener(Program::Ours, &dir, certificate, "");
        let near = Broker::start_with(&format!(
            "connection link\naddress localhost:{port}\nremote_clientid link\nrestart_timeout 1\ntopic q/# both 1\n{}\n",
            lines.replace('@', &d.to_string())
        ));
        if lines.contains("os_certs") && !Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
            note("there are no authorities of the system: bridge_tls_use_os_certs is not tested");
            continue;
        }
        near.wait_for_log(said, LIMIT);
        drop(far);
    }
    // A broker without TLS where TLS is expected.
    let plain = Broker::start();
    let near = Broker::start_with(&bridge(plain.port(), &format!("topic q/# out 1\nbridge_cafile {d}/ca.crt")));
    near.wait_for_log("TLS: the other broker closed the connection during the handshake", LIMIT);
    fs::remove_dir_all(dir).unwrap();
}
