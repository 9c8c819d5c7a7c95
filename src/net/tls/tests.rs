//! Handshakes in memory with the library's client, and over a socket with OpenSSL's.

mod openssl;
mod pair;
mod pki;

use std::io::IoSlice;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::{AlertDescription, HandshakeKind};

use super::*;
use pair::{Clock, Pair, client};

const DAY: i64 = 86_400;

/// A message for each way that a listener's files can be wrong.
#[test]
fn what_cannot_be_loaded_is_named() {
    let Some(dir) = pki::directory() else { return };
    let path = |name: &str| Some(dir.join(name));
    type Change<'a> = Box<dyn Fn(&mut TlsOptions) + 'a>;
    let cases: Vec<(Change<'_>, &str, &str)> = vec![
        (Box::new(|o| o.certfile = path("none")), "Unable to load server certificate", "No such file"),
        (Box::new(|o| o.certfile = path("empty.pem")), "Check certfile.", "no certificate in PEM"),
        (Box::new(|o| o.certfile = path("broken.pem")), "Check certfile.", "no valid PEM"),
        (Box::new(|o| o.certfile = path("server.key")), "Check certfile.", "no certificate in PEM"),
        (Box::new(|o| o.keyfile = path("none")), "Unable to load server key file", "No such file"),
        (Box::new(|o| o.keyfile = path("server.crt")), "Check keyfile.", "no private key"),
        (Box::new(|o| o.keyfile = path("locked8.key")), "Check keyfile.", "openssl pkey -in"),
        (Box::new(|o| o.keyfile = path("locked1.key")), "Check keyfile.", "pass phrase"),
        (Box::new(|o| o.keyfile = path("p521.key")), "Check keyfile.", "P-256 or P-384"),
        (Box::new(|o| o.keyfile = path("rsa.key")), "Server certificate/key are inconsistent.", "is not the key"),
        (Box::new(|o| o.cafile = path("none")), "Unable to load CA certificates. Check cafile", "No such file"),
        (Box::new(|o| o.cafile = path("empty.pem")), "Check cafile", "no certificate in PEM"),
        (Box::new(|o| o.cafile = path("good.crt")), "Check cafile", "CA:TRUE"),
        (Box::new(|o| o.crlfile = path("none")), "Unable to load certificate revocation file", "No such file"),
        (Box::new(|o| o.crlfile = path("ca.crt")), "Check crlfile.", "no certificate revocation list"),
        (
            Box::new(|o| o.ciphers = Some("BOGUS".into())),
            "Unable to set TLS ciphers. Check cipher list \"BOGUS\".",
            "not known",
        ),
        (Box::new(|o| o.ciphers = Some("PSK".into())), "Check cipher list \"PSK\".", "ECDHE"),
        (
            Box::new(|o| o.ciphers_tls13 = Some("BOGUS".into())),
            "Unable to set TLS 1.3 ciphersuites. Check cipher_tls13 list \"BOGUS\".",
            "not known",
        ),
    ];
    for (change, first, second) in cases {
        let mut options = pki::mutual(dir);
        change(&mut options);
        let text = ServerTls::load(&options, None).unwrap_err().to_string();
        let (one, two) = text.split_once('\n').unwrap();
        assert!(one.starts_with("Error: ") && one.contains(first), "{text}");
        assert!(two.starts_with("TLS: ") && two.contains(second), "{text}");
    }
}

#[test]
fn what_works_for_some_only_is_worth_a_line() {
    let Some(dir) = pki::directory() else { return };
    let path = |name: &str| Some(dir.join(name));
    let mutual = pki::mutual(dir);
    for (options, wanted) in [
        (mutual.clone(), None),
        (TlsOptions { capath: path("hashed"), ..mutual.clone() }, None),
        (TlsOptions { capath: path("none"), ..mutual.clone() }, Some("Unable to read capath")),
        (TlsOptions { cafile: None, ..mutual.clone() }, Some("without cafile and capath")),
        (TlsOptions { cafile: path("old.crt"), ..mutual.clone() }, Some("does not count as an authority")),
        (TlsOptions { certfile: path("rsa.crt"), keyfile: path("rsa.key"), ..mutual }, Some("version 1, which many")),
    ] {
        let notes = ServerTls::load(&options, None).unwrap().notes;
        assert_eq!(notes.len(), usize::from(wanted.is_some()), "{notes:?}");
        assert!(
            notes.iter().all(|note| note.starts_with("Warning: ") && note.contains(wanted.unwrap_or("?"))),
            "{notes:?}"
        );
    }
}

/// No change to a certificate or list is fatal, and none is let in.
#[test]
fn changed_certificates_are_refused() {
    let Some(dir) = pki::directory() else { return };
    let read = |name: &str| CertificateDer::from_pem_file(dir.join(format!("{name}.crt"))).unwrap();
    let mut verifier = verify::Verifier::new(
        webpki::KeyUsage::client_auth(),
        ring::default_provider().signature_verification_algorithms,
        false,
    );
    for name in ["ca", "self"] {
        assert!(verifier.trust(&read(name)));
    }
    let list = CertificateRevocationListDer::from_pem_file(dir.join("crl.pem")).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(crate::os::clock::wall_s()));
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 40).unwrap() % n
    };
    for name in ["good", "good-v1", "self"] {
        let whole = read(name);
        assert!(verifier.verify_client_cert(&whole, &[], now).is_ok());
        for _ in 0..3000 {
            let mut der = whole.to_vec();
            let at = below(der.len());
            match below(4) {
                0 => der[at] ^= 1 << below(8),
                1 => der.truncate(at),
                2 => der.insert(at, u8::try_from(below(256)).unwrap()),
                _ => drop(der.remove(at)),
            }
            if der == *whole {
                continue;
            }
            let der = CertificateDer::from(der);
            assert!(verifier.verify_client_cert(&der, &[], now).is_err(), "{at}: {der:?}");
            if let Ok(certificate) = x509::Certificate::read(&der) {
                let _ = (names::common_name(certificate.subject), names::rfc2253(certificate.issuer));
            }
            let mut list = list.to_vec();
            let at = below(list.len());
            list[at] ^= 1 << below(8);
            let _ = verifier.revoke(&list.into());
            verifier.forget_lists();
        }
    }
}

#[test]
fn keys_of_every_form_fit_their_certificates() {
    let Some(dir) = pki::directory() else { return };
    for (certificate, key) in
        [("server", "server"), ("server", "server8"), ("rsa", "rsa"), ("rsa", "rsa1"), ("self", "self"), ("old", "old")]
    {
        let mut options = pki::options(dir);
        options.certfile = Some(dir.join(format!("{certificate}.crt")));
        options.keyfile = Some(dir.join(format!("{key}.key")));
        let loaded = ServerTls::load(&options, None).unwrap();
        assert_eq!(loaded.notes.len(), usize::from(matches!(certificate, "rsa" | "old")), "version 1 is worth a line");
        Pair::new(&loaded.tls, client(dir).build()).shake().unwrap();
    }
}

#[test]
fn both_versions_are_spoken_with_the_configured_suites() {
    let Some(dir) = pki::directory() else { return };
    type Case<'a> = (Option<&'a str>, Option<&'a str>, TlsVersion, bool, Option<(&'a str, &'a str)>);
    let cases: [Case<'_>; 6] = [
        (None, None, TlsVersion::Tls12, true, Some(("TLSv1.3", "TLS_AES_256_GCM_SHA384"))),
        (None, None, TlsVersion::Tls12, false, Some(("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"))),
        (None, None, TlsVersion::Tls13, false, None),
        (Some("CHACHA20"), None, TlsVersion::Tls12, false, Some(("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305"))),
        (
            Some("AES128"),
            Some("TLS_AES_128_GCM_SHA256"),
            TlsVersion::Tls13,
            true,
            Some(("TLSv1.3", "TLS_AES_128_GCM_SHA256")),
        ),
        (Some("HIGH"), Some("HIGH"), TlsVersion::Tls12, true, Some(("TLSv1.3", "TLS_AES_256_GCM_SHA384"))),
    ];
    for (ciphers, ciphers_tls13, tls_version, is_tls13, wanted) in cases {
        let options = TlsOptions {
            ciphers: ciphers.map(Into::into),
            ciphers_tls13: ciphers_tls13.map(Into::into),
            tls_version,
            ..pki::options(dir)
        };
        let tls = ServerTls::load(&options, None).unwrap().tls;
        let mut pair = Pair::new(&tls, client(dir).tls13(is_tls13).build());
        assert_eq!(pair.server.negotiated(), None);
        let result = pair.shake();
        assert_eq!(result.is_ok(), wanted.is_some(), "{result:?}");
        assert_eq!(pair.server.negotiated(), wanted);
        if let Err(failure) = result {
            assert_eq!(failure.words, "no TLS version in common with the client");
            assert_eq!(failure.alert, Some(AlertDescription::ProtocolVersion));
        }
    }
}

/// Who is let in, and for whoever is not, what the client is told and what the log says.
#[test]
fn client_certificates_are_checked_and_the_alert_says_what_is_wrong() {
    use AlertDescription as A;
    let Some(dir) = pki::directory() else { return };
    struct Case {
        certificate: &'static str,
        cafile: &'static str,
        crlfile: Option<&'static str>,
        days: i64,
        wanted: Result<(), (A, &'static str)>,
    }
    let case = |certificate, cafile, crlfile, days, wanted| Case { certificate, cafile, crlfile, days, wanted };
    let expired = Err((A::CertificateExpired, "has expired"));
    let early = Err((A::CertificateExpired, "not valid yet"));
    let revoked = Err((A::CertificateRevoked, "it is revoked"));
    let no_list = Err((A::UnknownCA, "no usable list"));
    let cases = [
        case("good", "ca", None, 0, Ok(())),
        case("good-v1", "ca", None, 0, Ok(())),
        case("below", "both", None, 0, Ok(())),
        case("below-v1", "both", None, 0, Ok(())),
        case("below+middle", "ca", None, 0, Ok(())),
        case("self", "self", None, 0, Ok(())),
        case("old", "old+ca", None, 0, Ok(())),
        case("good", "ca", Some("crl.pem"), 0, Ok(())),
        case("good-v1", "ca", Some("crl.pem"), 0, Ok(())),
        case("below+middle", "ca", Some("crl+middle"), 0, Ok(())),
        case("", "ca", None, 0, Err((A::CertificateRequired, "sent no certificate"))),
        case("below", "ca", None, 0, Err((A::UnknownCA, "comes from no authority"))),
        case("below-v1+middle", "ca", None, 0, Err((A::CertificateUnknown, "version 1"))),
        case("good-v1", "short", None, 0, Err((A::UnknownCA, "comes from no authority"))),
        // The authority's name is right, its key is not.
        case("stranger", "ca", None, 0, Err((A::DecryptError, "signature is wrong"))),
        case("stranger-v1", "ca", None, 0, Err((A::DecryptError, "signature is wrong"))),
        case("ofold", "old+ca", None, 0, Err((A::UnknownCA, "comes from no authority"))),
        case("serveronly", "ca", None, 0, Err((A::UnsupportedCertificate, "not meant for clients"))),
        case("authority", "ca", None, 0, Err((A::CertificateUnknown, "CA:TRUE"))),
        case("self", "ca", None, 0, Err((A::CertificateUnknown, "CA:TRUE"))),
        case("good", "ca", None, 31, expired),
        case("good-v1", "ca", None, 31, expired),
        case("good", "ca", None, -1, early),
        case("good-v1", "ca", None, -1, early),
        case("self", "self", None, 31, expired),
        case("outlives", "short", None, 0, Ok(())),
        case("outlives", "short", None, 6, expired),
        case("revoked", "ca", Some("crl.pem"), 0, revoked),
        case("revoked-v1", "ca", Some("crl.pem"), 0, revoked),
        case("revoked", "ca", Some("forged+crl"), 0, revoked),
        case("revoked", "ca", Some("crl.pem"), 11, Err((A::UnknownCA, "out of date"))),
        case("good-v1", "ca", Some("crl.pem"), 11, Err((A::UnknownCA, "out of date"))),
        case("good", "ca", Some("middle.pem"), 0, no_list),
        case("good-v1", "ca", Some("middle.pem"), 0, no_list),
        case("good", "ca", Some("forged.pem"), 0, no_list),
        case("good-v1", "ca", Some("forged.pem"), 0, no_list),
    ];
    for case in cases {
        for is_tls13 in [true, false] {
            let options = TlsOptions {
                cafile: Some(pair::joined(dir, case.cafile, "crt")),
                crlfile: case.crlfile.map(|name| pair::joined(dir, name.trim_end_matches(".pem"), "pem")),
                ..pki::mutual(dir)
            };
            let tls = ServerTls::load_at(&options, None, Clock::days_from_now(case.days)).unwrap().tls;
            let mut pair = Pair::new(&tls, client(dir).tls13(is_tls13).certificate(case.certificate).build());
            let result = pair.shake();
            let what =
                format!("{} with {} and {:?} in {} days", case.certificate, case.cafile, case.crlfile, case.days);
            match (case.wanted, result) {
                (Ok(()), Ok(())) => {}
                (Err((alert, words)), Err(failure)) => {
                    assert_eq!(failure.alert, Some(alert), "{what}: {}", failure.words);
                    assert!(failure.words.contains(words), "{what}: {}", failure.words);
                    assert!(pair.server.is_finished());
                }
                (wanted, result) => panic!("{what}, TLS 1.3 {is_tls13}: {result:?} instead of {wanted:?}"),
            }
        }
    }
}

#[test]
fn dates_of_client_certificates_can_be_left_unchecked() {
    let Some(dir) = pki::directory() else { return };
    for (certificate, days, crlfile, wanted) in [
        ("good", 31, None, true),
        ("good-v1", 31, None, true),
        ("good", -1, None, true),
        ("below+middle", 31, None, true),
        ("stranger", 31, None, false),
        ("good", 31, Some("crl.pem"), false),
        ("revoked", 9, Some("crl.pem"), false),
    ] {
        let options = TlsOptions {
            disable_client_cert_date_checks: true,
            crlfile: crlfile.map(|name| dir.join(name)),
            ..pki::mutual(dir)
        };
        let tls = ServerTls::load_at(&options, None, Clock::days_from_now(days)).unwrap().tls;
        let result = Pair::new(&tls, client(dir).certificate(certificate).build()).shake();
        assert_eq!(result.is_ok(), wanted, "{certificate} in {days} days: {result:?}");
    }
}

#[test]
fn a_client_certificate_gives_a_user_name() {
    let Some(dir) = pki::directory() else { return };
    let tls = ServerTls::load(&pki::mutual(dir), None).unwrap().tls;
    for (certificate, identity, subject) in
        [("good", "good", "CN=good,OU=Unit,O=Test"), ("good-v1", "good-v1", "CN=good-v1,O=Test")]
    {
        let mut pair = Pair::new(&tls, client(dir).certificate(certificate).build());
        assert_eq!(pair.server.identity(), None);
        pair.shake().unwrap();
        assert_eq!(pair.server.identity().as_deref(), Some(identity));
        assert_eq!(pair.server.subject().as_deref(), Some(subject));
    }
    let tls = ServerTls::load(&pki::options(dir), None).unwrap().tls;
    let mut pair = Pair::new(&tls, client(dir).certificate("good").build());
    pair.shake().unwrap();
    assert_eq!(pair.server.peer_certificate(), None, "nobody asked for it");
    assert_eq!(pair.server.identity(), None);
}

/// The intermediate comes from `certfile`, or else from `cafile` or `capath`; the root stays at home.
#[test]
fn the_chain_that_is_sent_is_completed() {
    let Some(dir) = pki::directory() else { return };
    let name = |name: &str| CertificateDer::from_pem_file(dir.join(format!("{name}.crt"))).unwrap();
    for (certfile, cafile, capath, wanted) in [
        ("chain.crt", None, None, vec!["leaf", "middle"]),
        ("leaf.crt", None, None, vec!["leaf"]),
        ("leaf.crt", Some("both.crt"), None, vec!["leaf", "middle"]),
        ("leaf.crt", None, Some("hashed"), vec!["leaf", "middle"]),
        ("leaf.crt", Some("ca.crt"), None, vec!["leaf"]),
        ("self.crt", Some("both.crt"), None, vec!["self"]),
    ] {
        let key = if certfile == "self.crt" { "self.key" } else { "leaf.key" };
        let options = TlsOptions {
            certfile: Some(dir.join(certfile)),
            keyfile: Some(dir.join(key)),
            cafile: cafile.map(|name| dir.join(name)),
            capath: capath.map(|name| dir.join(name)),
            ..TlsOptions::default()
        };
        let tls = ServerTls::load(&options, None).unwrap().tls;
        let mut pair = Pair::new(&tls, client(dir).build());
        pair.shake().unwrap();
        let wanted: Vec<_> = wanted.into_iter().map(name).collect();
        assert_eq!(pair.client.peer_certificates().unwrap(), wanted, "{certfile} with {cafile:?}, {capath:?}");
    }
}

#[test]
fn any_split_of_the_stream_gives_the_same_bytes() {
    let Some(dir) = pki::directory() else { return };
    let tls = ServerTls::load(&pki::mutual(dir), None).unwrap().tls;
    let sent: Vec<u8> = (0..70_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    for is_tls13 in [true, false] {
        for step in [1, 4, 5, 6, 100, 1000, 16_000, 20_000, 100_000] {
            let mut pair = Pair::new(&tls, client(dir).tls13(is_tls13).certificate("good").build());
            pair.step = step;
            pair.shake().unwrap();
            assert_eq!(pair.server.buffered(), 0, "after the handshake");
            for chunk in sent.chunks(10_000) {
                pair.client_says(chunk).unwrap();
            }
            assert!(pair.heard == sent, "in steps of {step}");
            assert_eq!(pair.server.buffered(), 0);
            let parts = sent.chunks(7000).map(IoSlice::new).collect::<Vec<_>>();
            assert!(pair.server_says(&parts) == sent);
            assert_eq!(pair.server.buffered(), 0, "an idle connection has no buffers");
        }
    }
}

#[test]
fn an_unfinished_record_is_kept_and_nothing_more() {
    let Some(dir) = pki::directory() else { return };
    let tls = ServerTls::load(&pki::options(dir), None).unwrap().tls;
    let mut pair = Pair::new(&tls, client(dir).build());
    pair.shake().unwrap();
    let mut record = pair.client_encrypts(&[7; 16_384]);
    let (first, rest) = record.split_at_mut(100);
    let mut plain = Vec::new();
    pair.server.read(first, &mut plain).unwrap();
    assert!((100..256).contains(&pair.server.buffered()), "{}", pair.server.buffered());
    // The other direction does not wait for it.
    assert_eq!(pair.server.write(&[IoSlice::new(b"x")], &mut Vec::new()).unwrap(), 1);
    pair.server.read(rest, &mut plain).unwrap();
    assert_eq!(plain, [7; 16_384]);
}

#[test]
fn a_record_that_waits_is_sent_before_more_is_encrypted() {
    let Some(dir) = pki::directory() else { return };
    let tls = ServerTls::load(&pki::options(dir), None).unwrap().tls;
    let mut pair = Pair::new(&tls, client(dir).build());
    let big = [1; 50_000];
    let mut gather = Vec::new();
    let parts = [IoSlice::new(&big)];
    assert_eq!(pair.server.write(&parts, &mut gather).unwrap(), 0, "in the handshake");
    pair.shake().unwrap();
    assert_eq!(pair.server.write(&[], &mut gather).unwrap(), 0);
    assert_eq!(pair.server.write(&parts, &mut gather).unwrap(), 16_384);
    assert_eq!(pair.server.write(&parts, &mut gather).unwrap(), 0);
    let waits = pair.server.pending().len();
    assert!((16_384..17_000).contains(&waits));
    pair.server.advance(1000);
    assert_eq!(pair.server.pending().len(), waits - 1000);
    assert_eq!(pair.server.write(&parts, &mut gather).unwrap(), 16_384, "less than a record waits");
    pair.server.advance(usize::MAX);
    assert_eq!(pair.server.buffered(), 0);
}

#[test]
fn both_sides_can_end_a_connection_with_close_notify() {
    let Some(dir) = pki::directory() else { return };
    let tls = ServerTls::load(&pki::options(dir), None).unwrap().tls;
    for is_tls13 in [true, false] {
        let mut pair = Pair::new(&tls, client(dir).tls13(is_tls13).build());
        pair.shake().unwrap();
        pair.client.send_close_notify();
        pair.client_says(b"").unwrap();
        assert!(pair.server.is_finished());
        assert!(pair.server_says(&[IoSlice::new(b"still")]) == b"still", "the other direction is open");
        pair.server.read(&mut [0; 100], &mut pair.heard).unwrap();
        pair.server.close();
        assert!(!pair.server.pending().is_empty());
        assert_eq!(pair.server.write(&[IoSlice::new(b"x")], &mut Vec::new()).unwrap(), 0);
        pair.send_to_client().unwrap();
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
    }
    // Before the end of the handshake there is nothing to say.
    let mut early = tls.accept().unwrap();
    early.close();
    assert!(early.pending().is_empty());
}

#[test]
fn whoever_does_not_speak_tls_is_told_apart_at_once() {
    let Some(dir) = pki::directory() else { return };
    let tls = ServerTls::load(&pki::options(dir), None).unwrap().tls;
    for (bytes, not_tls) in [
        (&b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"[..], true),
        (b"GET / HTTP/1.1\r\n\r\n", true),
        (b"\x00\x00\x00\x00\x00\x00", true),
        (b"\x16\x03\x01\xff\xff\x00", false),
        (b"\x16\x03\x01\x00\x02\x01\x00\x17\x03\x03\x00\x00", false),
        (b"\x15\x03\x01\x00\x02\x02\x46", false),
    ] {
        let mut server = tls.accept().unwrap();
        let error = server.read(&mut bytes.to_vec(), &mut Vec::new()).unwrap_err();
        assert_eq!(error.is_not_tls(), not_tls, "{error} after {bytes:?}");
        assert!(server.is_finished() && server.is_handshaking());
        let waits = server.pending().len();
        assert!(server.read(&mut bytes.to_vec(), &mut Vec::new()).is_ok(), "thrown away");
        assert_eq!(server.pending().len(), waits);
        server.close();
        assert_eq!(server.write(&[IoSlice::new(b"x")], &mut Vec::new()).unwrap(), 0);
    }
}

#[test]
fn a_hello_without_end_is_refused() {
    let Some(dir) = pki::directory() else { return };
    let tls = ServerTls::load(&pki::options(dir), None).unwrap().tls;
    let mut server = tls.accept().unwrap();
    // A handshake message of 60,000 bytes in records of 1000.
    let mut sent = 0;
    let error = loop {
        let mut record = [&[0x16, 3, 1, 3, 0xE8][..], &[0; 1000]].concat();
        if sent == 0 {
            record[5..9].copy_from_slice(&[1, 0, 0xEA, 0x60]);
        }
        sent += record.len();
        match server.read(&mut record, &mut Vec::new()) {
            Ok(()) => assert!(server.buffered() < 80_000),
            Err(error) => break error,
        }
    };
    assert!((30_000..40_000).contains(&sent), "{sent}: {error}");
    assert_eq!(server.buffered(), server.pending().len());
}

/// A reload makes everything anew: nobody comes in by a ticket of the old listener.
#[test]
fn tickets_live_as_long_as_what_they_were_made_with() {
    let Some(dir) = pki::directory() else { return };
    for is_tls13 in [true, false] {
        let tls = ServerTls::load(&pki::options(dir), None).unwrap().tls;
        let config = client(dir).tls13(is_tls13).config();
        let shake = |tls: &ServerTls| {
            let mut pair = Pair::new(tls, pair::connect(&config));
            pair.shake().unwrap();
            pair.client.handshake_kind().unwrap()
        };
        assert_eq!(shake(&tls), HandshakeKind::Full);
        assert_eq!(shake(&tls), HandshakeKind::Resumed);
        assert_eq!(shake(&tls.clone()), HandshakeKind::Resumed);
        let reloaded = ServerTls::load(&pki::options(dir), None).unwrap().tls;
        assert_eq!(shake(&reloaded), HandshakeKind::Full);
        assert_eq!(shake(&reloaded), HandshakeKind::Resumed);
        // Who needs a certificate shows it each time.
        let tls = ServerTls::load(&pki::mutual(dir), None).unwrap().tls;
        let config = client(dir).tls13(is_tls13).certificate("good").config();
        for _ in 0..2 {
            let mut pair = Pair::new(&tls, pair::connect(&config));
            pair.shake().unwrap();
            assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

/// What a reload does: load again, and exchange what is in use only for something good.
#[test]
fn bad_files_leave_the_old_listener_and_good_ones_make_a_new_one() {
    let Some(dir) = pki::directory() else { return };
    let (certificate, key) = (dir.join("reload.crt"), dir.join("reload.key"));
    let put = |name: &str| {
        std::fs::copy(dir.join(format!("{name}.crt")), &certificate).unwrap();
        std::fs::copy(dir.join(format!("{name}.key")), &key).unwrap();
    };
    let options =
        TlsOptions { certfile: Some(certificate.clone()), keyfile: Some(key.clone()), ..TlsOptions::default() };
    let shown = |tls: &ServerTls| {
        let mut pair = Pair::new(tls, client(dir).build());
        pair.shake().unwrap();
        pair.client.peer_certificates().unwrap()[0].clone()
    };
    put("server");
    let mut tls = ServerTls::load(&options, None).unwrap().tls;
    let mut connected = Pair::new(&tls, client(dir).build());
    connected.shake().unwrap();
    std::fs::write(&certificate, "half a fi").unwrap();
    assert!(ServerTls::load(&options, None).is_err());
    assert_eq!(shown(&tls), CertificateDer::from_pem_file(dir.join("server.crt")).unwrap());
    put("leaf");
    tls = ServerTls::load(&options, None).unwrap().tls;
    assert_eq!(shown(&tls), CertificateDer::from_pem_file(dir.join("leaf.crt")).unwrap());
    connected.client_says(b"still there").unwrap();
    assert_eq!(connected.heard, b"still there");
}

#[test]
fn secrets_are_logged_for_whoever_asked() {
    let Some(dir) = pki::directory() else { return };
    let path = dir.join("keys.log");
    let log = KeyLogFile::new(std::fs::File::create(&path).unwrap());
    let tls = ServerTls::load(&pki::options(dir), Some(&log)).unwrap().tls;
    for (is_tls13, label) in [(true, "SERVER_TRAFFIC_SECRET_0 "), (false, "CLIENT_RANDOM ")] {
        Pair::new(&tls, client(dir).tls13(is_tls13).build()).shake().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let line = text.lines().find(|line| line.starts_with(label)).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        assert!(words.len() == 3 && words[1].len() == 64 && words[2].len() >= 64, "{line}");
    }
}

#[test]
fn the_days_until_the_certificate_ends_are_counted_down() {
    let Some(dir) = pki::directory() else { return };
    let tls = ServerTls::load(&pki::options(dir), None).unwrap().tls;
    let now = crate::os::clock::wall_s();
    let after = |days: i64| now.saturating_add_signed(days * DAY);
    // Made a moment ago for 30 days.
    assert_eq!(tls.days_left(now), 29);
    assert_eq!(tls.days_left(after(29)), 0);
    assert_eq!(tls.days_left(after(30)), -1);
    assert_eq!(tls.days_left(after(40)), -11);
}
