//! Against `openssl s_client`, over a socket.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::pair::joined;
use super::pki;
use crate::net::tls::names::rfc2253;
use crate::net::tls::x509::Certificate;
use crate::net::tls::{ServerTls, TlsOptions, TlsStream};

/// What a connection came to.
#[derive(Debug)]
struct Outcome {
    negotiated: Option<(&'static str, &'static str)>,
    identity: Option<String>,
    failure: Option<String>,
}

/// Serves one connection: says a line in capitals, until the client ends it.
fn serve(listener: &TcpListener, tls: &ServerTls) -> Outcome {
    let (mut socket, _) = listener.accept().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = tls.accept().unwrap();
    let failure = talk(&mut socket, &mut stream).err();
    Outcome { negotiated: stream.negotiated(), identity: stream.identity(), failure }
}

fn talk(socket: &mut TcpStream, stream: &mut TlsStream) -> Result<(), String> {
    let (mut buffer, mut plain, mut gather) = (vec![0; 4096], Vec::new(), Vec::new());
    while !stream.is_finished() {
        let n = match socket.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let result = stream.read(&mut buffer[..n], &mut plain);
        plain.make_ascii_uppercase();
        let said = stream.write(&[IoSlice::new(&plain)], &mut gather).unwrap();
        plain.drain(..said);
        if stream.is_finished() {
            stream.close();
        }
        let sent = socket.write_all(stream.pending());
        stream.advance(usize::MAX);
        if let Err(error) = result {
            // Closing with input unread could take the alert from the client.
            let _gone = socket.shutdown(Shutdown::Write);
            while socket.read(&mut buffer).is_ok_and(|n| n > 0) {}
            return Err(error.to_string());
        }
        sent.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Runs `openssl s_client` with these arguments, says `hello`, and waits for the answer.
fn client(options: &TlsOptions, arguments: &[&str]) -> (Outcome, String) {
    let tls = ServerTls::load(options, None).unwrap().tls;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || serve(&listener, &tls));
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-verify_return_error"])
        .args(arguments)
        // Ends with its input; `-quiet` alone would not.
        .arg("-no_ign_eof")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let _closed_already = stdin.write_all(b"hello\n");
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while !text.windows(5).any(|word| word == b"HELLO") {
        match stdout.read(&mut buffer) {
            Ok(n @ 1..) => text.extend_from_slice(&buffer[..n]),
            _ => break,
        }
    }
    drop(stdin);
    stdout.read_to_end(&mut text).unwrap();
    let rest = child.wait_with_output().unwrap();
    text.extend(rest.stderr);
    (server.join().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn openssl_speaks_both_versions_with_us_and_trusts_the_usual_certificates() {
    let Some(dir) = pki::directory() else { return };
    let file = |name: &str| dir.join(name).display().to_string();
    let ca = file("ca.crt");
    for (version, wanted) in
        [("-tls1_3", ("TLSv1.3", "TLS_AES_256_GCM_SHA384")), ("-tls1_2", ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"))]
    {
        let (outcome, text) = client(&pki::options(dir), &[version, "-CAfile", &ca, "-verify_hostname", "localhost"]);
        assert!(text.contains("HELLO"), "{text}");
        assert_eq!(outcome.negotiated, Some(wanted));
        assert_eq!(outcome.failure, None);
    }
    // A certificate of version 1, RSA, which names its host only as CN.
    let options =
        TlsOptions { certfile: Some(dir.join("rsa.crt")), keyfile: Some(dir.join("rsa.key")), ..TlsOptions::default() };
    for version in ["-tls1_3", "-tls1_2"] {
        let arguments = [version, "-CAfile", &ca, "-verify_hostname", "localhost"];
        let (outcome, text) = client(&options, &arguments);
        assert!(text.contains("HELLO"), "{text}");
        assert_eq!(outcome.failure, None);
    }
    // Only the root is known to the client, the certificate between comes from `cafile`.
    let options = TlsOptions {
        certfile: Some(dir.join("leaf.crt")),
        keyfile: Some(dir.join("leaf.key")),
        cafile: Some(dir.join("both.crt")),
        ..TlsOptions::default()
    };
    let (_, text) = client(&options, &["-CAfile", &ca]);
    assert!(text.contains("HELLO"), "{text}");
}

#[test]
fn openssl_shows_its_certificate_and_understands_our_alerts() {
    let Some(dir) = pki::directory() else { return };
    let file = |name: &str| dir.join(name).display().to_string();
    let mut options = pki::mutual(dir);
    options.cafile = Some(joined(dir, "ca+short", "crt"));
    options.crlfile = Some(joined(dir, "crl+middle", "pem"));
    for version in ["-tls1_3", "-tls1_2"] {
        let ca = file("ca.crt");
        for (certificate, alert) in [
            ("good", None),
            ("good-v1", None),
            ("below", Some("unknown ca")),
            ("revoked", Some("certificate revoked")),
            ("revoked-v1", Some("certificate revoked")),
            ("stranger", Some("decrypt error")),
            // No list of its authority.
            ("outlives", Some("unknown ca")),
            ("serveronly", Some("unsupported certificate")),
        ] {
            let (cert, key) = (file(&format!("{certificate}.crt")), file(&format!("{certificate}.key")));
            let (outcome, text) = client(&options, &[version, "-CAfile", &ca, "-cert", &cert, "-key", &key]);
            match alert {
                None => {
                    assert!(text.contains("HELLO"), "{certificate}: {text}");
                    assert_eq!(outcome.identity.as_deref(), Some(certificate));
                }
                Some(alert) => {
                    assert!(text.contains(&format!("alert {alert}")), "{certificate}: {text} {outcome:?}");
                    assert!(outcome.failure.is_some_and(|why| why.starts_with("client certificate refused: ")));
                }
            }
        }
    }
}

#[test]
fn what_openssl_thinks_of_us_is_put_in_words() {
    let Some(dir) = pki::directory() else { return };
    let other = dir.join("other.crt").display().to_string();
    let (outcome, _) = client(&pki::options(dir), &["-CAfile", &other]);
    let failure = outcome.failure.unwrap();
    assert!(failure.starts_with("the client ") && failure.contains("(alert "), "{failure}");
    let ca = dir.join("ca.crt").display().to_string();
    let arguments = ["-CAfile", &ca, "-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384"];
    let (outcome, text) = client(&pki::options(dir), &arguments);
    assert!(text.contains("handshake failure"), "{text}");
    assert_eq!(outcome.failure.as_deref(), Some("no cipher in common with the client"));
}

#[test]
fn every_name_that_openssl_lists_is_known() {
    let Some(_) = pki::directory() else { return };
    let listed = Command::new("openssl").args(["ciphers", "-tls1_2", "ALL:COMPLEMENTOFALL"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.split(':').count() > 50);
    for name in listed.trim().split(':').filter(|name| !name.starts_with("TLS_")) {
        assert!(super::ciphers::tls12(Some(&format!("{name}:HIGH"))).is_ok(), "{name}");
    }
}

/// The oracle for [`super::names::rfc2253`].
#[test]
fn subjects_are_written_as_openssl_writes_them() {
    let Some(dir) = pki::directory() else { return };
    let certificate = dir.join("subject.crt");
    for subject in [
        "/C=DE/ST=Baden/L=Freiburg/O=A, B\\+C; D/OU=<q> \"r\"/CN=Jörg",
        "/DC=org/DC=example/UID=jd/emailAddress=a@b.c/CN= x ",
        "/CN=#a#/serialNumber=12/title=Dr/GN=G/SN=S/initials=I/description=d/postalCode=1/street=s/dnQualifier=q",
        "/pseudonym=p/generationQualifier=III/name=N/CN=x=y",
        "/O=x/1.2.3.4.5000=odd/businessCategory=b/CN=back\\\\slash",
        "/O=a+OU=b/CN=c+UID=d",
        "/1.3.6.1.4.1.311.60.2.1.3=DE/unstructuredName=u/unstructuredAddress=a/organizationIdentifier=o/mail=m@n",
        "/CN=\u{7f}\t漢字",
    ] {
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-utf8",
                "-days",
                "1",
                "-key",
                "server.key",
                "-out",
                "subject.crt",
                "-subj",
                subject,
            ])
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let shown = Command::new("openssl")
            .args(["x509", "-noout", "-subject", "-nameopt", "RFC2253", "-in", "subject.crt"])
            .current_dir(dir)
            .output()
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let der = CertificateDer::from_pem_file(&certificate).unwrap();
        let name = Certificate::read(&der).unwrap();
        let ours = rfc2253(name.subject).unwrap();
        assert_eq!(ours, shown.trim_end().trim_start_matches("subject="), "{subject}");
    }
}
