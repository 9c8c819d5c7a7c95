//! Which certificates are accepted, of clients `[conf: require_certificate]` and of other brokers `[conf: bridge_cafile]`. Chains, purposes and revocation are decided by
//! `webpki`; this adds what OpenSSL does and `webpki` does not: the dates of the authority itself, certificates that are
//! named in `cafile` themselves, leaf certificates of version 1, and `disable_client_cert_date_checks`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use webpki::{CertRevocationList, ExpirationPolicy, KeyUsage, RevocationCheckDepth, UnknownStatusPolicy};

use super::error::Refused;
use super::x509::{BadSignature, Certificate, Signed, verify_handshake};

/// A certificate that may have issued those of clients.
struct Authority {
    not_before: u64,
    not_after: u64,
    /// The public key with tag and length.
    key: Vec<u8>,
}

/// A revocation list.
struct Crl {
    list: CertRevocationList<'static>,
    this_update: u64,
    next_update: Option<u64>,
    /// The authorities whose signature it carries.
    by: Vec<usize>,
    /// It bears the name of an authority, but of none its signature.
    forged: bool,
}

/// The authorities of one listener or bridge, and what they vouch for.
pub(super) struct Verifier {
    /// What the certificates have to be meant for.
    usage: KeyUsage,
    /// In step with `authorities`.
    anchors: Vec<TrustAnchor<'static>>,
    authorities: Vec<Authority>,
    /// Certificates that are trusted as they are.
    pinned: Vec<CertificateDer<'static>>,
    hints: Vec<DistinguishedName>,
    /// The newest first, forged ones last.
    crls: Vec<Crl>,
    ignore_dates: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Nobody is trusted yet.
    pub(super) fn new(usage: KeyUsage, algorithms: WebPkiSupportedAlgorithms, ignore_dates: bool) -> Verifier {
        Verifier {
            usage,
            anchors: Vec::new(),
            authorities: Vec::new(),
            pinned: Vec::new(),
            hints: Vec::new(),
            crls: Vec::new(),
            ignore_dates,
            algorithms,
        }
    }

    /// Trusts a certificate of `cafile` or `capath`: authorities for others, and whoever issued their own certificate for
    /// themselves. False when it is neither, or cannot be read.
    pub(super) fn trust(&mut self, der: &CertificateDer<'static>) -> bool {
        let Ok(certificate) = Certificate::read(der) else { return false };
        let authority = certificate.is_authority().then(|| webpki::anchor_from_trusted_cert(der));
        let itself = certificate.is_self_issued();
        if itself {
            self.pinned.push(der.clone());
        }
        let Some(Ok(anchor)) = authority else { return itself };
        self.hints.push(DistinguishedName::in_sequence(certificate.subject));
        self.anchors.push(anchor.to_owned());
        self.authorities.push(Authority {
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            key: certificate.key.to_vec(),
        });
        true
    }

    /// Adds a revocation list. Authorities come first.
    pub(super) fn revoke(&mut self, der: &CertificateRevocationListDer<'_>) -> Result<(), webpki::Error> {
        let list = webpki::OwnedCertRevocationList::from_der(der)?.into();
        let (signed, dates) = Signed::revocation_list(der).map_err(|_| webpki::Error::BadDer)?;
        let issuer = CertRevocationList::issuer(&list);
        let named = (0..self.anchors.len()).filter(|at| self.anchors[*at].subject.as_ref() == issuer);
        let known = named.clone().next().is_some();
        let by: Vec<usize> = named.filter(|at| signed.is_by(&self.authorities[*at].key, &self.algorithms)).collect();
        let forged = known && by.is_empty();
        self.crls.push(Crl { list, this_update: dates.this_update, next_update: dates.next_update, by, forged });
        // The first that fits is asked. One that only bears an authority's name stays, so that certificates of that name
        // are refused, but behind the real one.
        self.crls.sort_by_key(|crl| (crl.forged, std::cmp::Reverse(crl.this_update)));
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn forget_lists(&mut self) {
        self.crls.clear();
    }

    fn check_dates(&self, not_before: u64, not_after: u64, now: u64) -> Result<(), CertificateError> {
        match now {
            _ if self.ignore_dates => Ok(()),
            _ if now < not_before => Err(CertificateError::NotValidYet),
            _ if now > not_after => Err(CertificateError::Expired),
            _ => Ok(()),
        }
    }

    /// Whether the owner of a certificate may be trusted, seen from `now` in seconds since 1970.
    pub(super) fn verify(
        &self,
        der: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: u64,
    ) -> Result<(), CertificateError> {
        let leaf = Certificate::read(der).map_err(|_| CertificateError::BadEncoding)?;
        if self.crl_of(&leaf).and_then(|crl| crl.next_update).is_some_and(|next| next < now) {
            return Err(CertificateError::ExpiredRevocationList);
        }
        if self.pinned.contains(der) {
            self.check_dates(leaf.not_before, leaf.not_after, now)?;
            let itself = |at: &usize| self.authorities[*at].key == leaf.key;
            return self.check_revoked(&leaf, (0..self.authorities.len()).find(itself));
        }
        if leaf.version == 1 { self.verify_version_1(&leaf, others, now) } else { self.verify_chain(der, others, now) }
    }

    fn crl_of(&self, leaf: &Certificate<'_>) -> Option<&Crl> {
        self.crls.iter().find(|crl| crl.list.issuer() == leaf.issuer)
    }

    /// A leaf without extensions has to come directly from an authority.
    fn verify_version_1(
        &self,
        leaf: &Certificate<'_>,
        others: &[CertificateDer<'_>],
        now: u64,
    ) -> Result<(), CertificateError> {
        // A leaf that says nothing of its names cannot be held to an authority's limits for names.
        let mut named = (0..self.anchors.len())
            .filter(|at| self.anchors[*at].subject.as_ref() == leaf.issuer)
            .filter(|at| self.anchors[*at].name_constraints.is_none())
            .peekable();
        if named.peek().is_none() {
            let sent = others.iter().filter_map(|der| Certificate::read(der).ok());
            return Err(match sent.into_iter().any(|other| other.subject == leaf.issuer) {
                true => other(Refused::VersionOneChain),
                false => CertificateError::UnknownIssuer,
            });
        }
        // Several may have the name: an old certificate of an authority and its successor.
        let mut verdict = Err(CertificateError::BadSignature);
        for at in named.filter(|at| leaf.signed.is_by(&self.authorities[*at].key, &self.algorithms)) {
            let authority = &self.authorities[at];
            verdict = self
                .check_dates(leaf.not_before, leaf.not_after, now)
                .and_then(|()| self.check_dates(authority.not_before, authority.not_after, now))
                .and_then(|()| self.check_revoked(leaf, Some(at)));
            if verdict.is_ok() {
                break;
            }
        }
        verdict
    }

    /// Where `webpki` does not look itself: with lists, one that `issuer` signed has to be there and not name the leaf.
    fn check_revoked(&self, leaf: &Certificate<'_>, issuer: Option<usize>) -> Result<(), CertificateError> {
        if self.crls.is_empty() {
            return Ok(());
        }
        let list = self
            .crl_of(leaf)
            .filter(|crl| issuer.is_some_and(|at| crl.by.contains(&at)))
            // A list for a part of the certificates says nothing about one that cannot tell which part it is in.
            .filter(|crl| crl.list.issuing_distribution_point().is_none());
        match list.map(|crl| crl.list.find_serial(leaf.serial)) {
            Some(Ok(None)) => Ok(()),
            Some(Ok(Some(_))) => Err(CertificateError::Revoked),
            Some(Err(_)) | None => Err(CertificateError::UnknownRevocationStatus),
        }
    }

    fn verify_chain(
        &self,
        der: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: u64,
    ) -> Result<(), CertificateError> {
        let leaf = webpki::EndEntityCert::try_from(der).map_err(reason)?;
        let lists: Vec<&CertRevocationList<'_>> = self.crls.iter().map(|crl| &crl.list).collect();
        let revocation = webpki::RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::EndEntity)
                .with_status_policy(UnknownStatusPolicy::Deny)
                // Looked at already, with the real time.
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        let then = if self.ignore_dates { within_dates(der, others, now) } else { now };
        // To `webpki` an authority is a name and a key; OpenSSL looks at its dates too.
        let dates_of_anchor = |path: &webpki::VerifiedPath<'_>| {
            let at = self.anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
            let Some(authority) = at.and_then(|at| self.authorities.get(at)) else { return Ok(()) };
            match self.check_dates(authority.not_before, authority.not_after, now) {
                Ok(()) => Ok(()),
                Err(CertificateError::NotValidYet) => {
                    Err(webpki::Error::CertNotValidYet { time: unix(now), not_before: unix(authority.not_before) })
                }
                Err(_) => Err(webpki::Error::CertExpired { time: unix(now), not_after: unix(authority.not_after) }),
            }
        };
        leaf.verify_for_usage(
            self.algorithms.all,
            &self.anchors,
            others,
            unix(then),
            self.usage,
            revocation,
            Some(&dates_of_anchor),
        )
        .map_err(reason)?;
        Ok(())
    }
}

/// The time nearest to `now` at which all these certificates are valid; `now` when there is none.
fn within_dates(der: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: u64) -> u64 {
    let all = std::iter::once(der).chain(others).filter_map(|der| Certificate::read(der).ok());
    let dates = all.map(|one| (one.not_before, one.not_after));
    let (from, to) = dates.fold((0, u64::MAX), |(from, to), (start, end)| (start.max(from), end.min(to)));
    if from <= to { now.clamp(from, to) } else { now }
}

fn unix(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn other(refused: Refused) -> CertificateError {
    CertificateError::Other(OtherError(Arc::new(refused)))
}

/// What `rustls` makes an alert of.
fn reason(error: webpki::Error) -> CertificateError {
    use CertificateError as C;
    use webpki::Error as W;
    match error {
        W::CertExpired { .. } | W::InvalidCertValidity => C::Expired,
        W::CertNotValidYet { .. } => C::NotValidYet,
        W::CertRevoked => C::Revoked,
        W::UnknownIssuer => C::UnknownIssuer,
        W::UnknownRevocationStatus
        | W::InvalidCrlSignatureForPublicKey
        | W::UnsupportedCrlSignatureAlgorithmContext(_)
        | W::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_)
        | W::IssuerNotCrlSigner => C::UnknownRevocationStatus,
        W::InvalidSignatureForPublicKey => C::BadSignature,
        W::UnsupportedSignatureAlgorithmContext(_) | W::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            unsupported()
        }
        W::RequiredEkuNotFoundContext(_) => C::InvalidPurpose,
        W::CaUsedAsEndEntity => other(Refused::Authority),
        W::UnsupportedCriticalExtension => C::UnhandledCriticalExtension,
        W::BadDer | W::BadDerTime | W::TrailingData(_) | W::UnsupportedCertVersion => C::BadEncoding,
        _ => other(Refused::Other),
    }
}

fn unsupported() -> CertificateError {
    CertificateError::UnsupportedSignatureAlgorithmContext {
        signature_algorithm_id: Vec::new(),
        supported_algorithms: Vec::new(),
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier of {} authorities and {} lists", self.authorities.len(), self.crls.len())
    }
}

/// The public key of a certificate of version 1; `None` for others, which the library reads itself.
fn key_of_version_1<'a>(der: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    Certificate::read(der).ok().filter(|certificate| certificate.version == 1).map(|certificate| certificate.key)
}

impl Verifier {
    /// As the trait of the library has it, also for certificates of version 1.
    pub(super) fn check_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(key) = key_of_version_1(cert) else {
            return verify_tls12_signature(message, cert, dss, &self.algorithms);
        };
        match verify_handshake(key, message, dss.signature(), dss.scheme, &self.algorithms) {
            Ok(()) => Ok(HandshakeSignatureValid::assertion()),
            Err(BadSignature::Wrong) => Err(Error::InvalidCertificate(CertificateError::BadSignature)),
            Err(BadSignature::Unsupported) => Err(Error::InvalidCertificate(unsupported())),
        }
    }

    /// As the trait of the library has it, also for certificates of version 1.
    pub(super) fn check_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match key_of_version_1(cert).map(SubjectPublicKeyInfoDer::from) {
            Some(key) => verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms),
            None => verify_tls13_signature(message, cert, dss, &self.algorithms),
        }
    }

    /// The kinds of signatures that can be checked.
    pub(super) fn schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now.as_secs()).map_err(Error::InvalidCertificate)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
