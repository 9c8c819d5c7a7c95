//! The fields of a certificate or a revocation list, taken from its DER. `webpki` decides whether a certificate is to be
//! trusted; this is for what it keeps to itself (dates, basic constraints) and for certificates of version 1, which it
//! refuses to read.

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, TagNumber};
use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};

/// `2.5.29.19`, the basic constraints, as in DER.
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x13];
/// `2.5.29.17`, the subject's alternative names.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1D, 0x11];

/// What was signed, how, and the signature: the frame of certificates and revocation lists.
#[derive(Clone, Copy)]
pub(super) struct Signed<'a> {
    /// All of it, tag and length included.
    pub(super) data: &'a [u8],
    /// The algorithm identifier without tag and length.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// A certificate of version 1 or 3.
pub(super) struct Certificate<'a> {
    pub(super) signed: Signed<'a>,
    pub(super) version: u8,
    /// The digits of the number, as `webpki` counts them.
    pub(super) serial: &'a [u8],
    /// A name without tag and length.
    pub(super) issuer: &'a [u8],
    /// A name without tag and length.
    pub(super) subject: &'a [u8],
    /// In seconds since 1970.
    pub(super) not_before: u64,
    /// In seconds since 1970.
    pub(super) not_after: u64,
    /// The public key with tag and length.
    pub(super) key: &'a [u8],
    /// The basic constraints say whether it is an authority; `None` without them.
    basic_ca: Option<bool>,
    /// It says what its owner is called beside the subject.
    pub(super) has_alternative_names: bool,
}

/// What a revocation list says of itself.
pub(super) struct CrlDates {
    /// In seconds since 1970.
    pub(super) this_update: u64,
    /// In seconds since 1970; a list without this never becomes old.
    pub(super) next_update: Option<u64>,
}

/// The next value: its tag, all of it, and its contents.
fn value<'a>(reader: &mut SliceReader<'a>) -> der::Result<(Tag, &'a [u8], &'a [u8])> {
    let whole = reader.tlv_bytes()?;
    let any = AnyRef::from_der(whole)?;
    Ok((der::Tagged::tag(&any), whole, any.value()))
}

/// The contents of the next value, which has to have this tag.
fn expect<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> der::Result<&'a [u8]> {
    let (found, _, contents) = value(reader)?;
    found.assert_eq(tag)?;
    Ok(contents)
}

fn time(reader: &mut SliceReader<'_>) -> der::Result<u64> {
    let (tag, whole, _) = value(reader)?;
    let since_1970 = match tag {
        Tag::UtcTime => UtcTime::from_der(whole)?.to_unix_duration(),
        _ => GeneralizedTime::from_der(whole)?.to_unix_duration(),
    };
    Ok(since_1970.as_secs())
}

/// The contents of a bit string of whole bytes.
fn whole_bytes<'a>(reader: &mut SliceReader<'a>) -> der::Result<&'a [u8]> {
    match expect(reader, Tag::BitString)?.split_first() {
        Some((0, bytes)) => Ok(bytes),
        _ => Err(Tag::BitString.value_error().into()),
    }
}

impl<'a> Signed<'a> {
    /// Reads the frame. The algorithm inside has to be the one outside; that is checked where the inside is read.
    fn read(bytes: &'a [u8]) -> der::Result<(Signed<'a>, SliceReader<'a>)> {
        let mut outer = SliceReader::new(bytes)?;
        let contents = expect(&mut outer, Tag::Sequence)?;
        outer.finish()?;
        let mut reader = SliceReader::new(contents)?;
        let (tag, data, inside) = value(&mut reader)?;
        tag.assert_eq(Tag::Sequence)?;
        let algorithm = expect(&mut reader, Tag::Sequence)?;
        let signature = whole_bytes(&mut reader)?;
        reader.finish()?;
        Ok((Signed { data, algorithm, signature }, SliceReader::new(inside)?))
    }

    /// Reads a revocation list.
    pub(super) fn revocation_list(bytes: &'a [u8]) -> der::Result<(Signed<'a>, CrlDates)> {
        let (signed, mut reader) = Signed::read(bytes)?;
        if Tag::peek(&reader)? == Tag::Integer {
            value(&mut reader)?;
        }
        signed.same_algorithm(&mut reader)?;
        expect(&mut reader, Tag::Sequence)?;
        let this_update = time(&mut reader)?;
        let dated = !reader.is_finished() && matches!(Tag::peek(&reader)?, Tag::UtcTime | Tag::GeneralizedTime);
        let next_update = if dated { Some(time(&mut reader)?) } else { None };
        Ok((signed, CrlDates { this_update, next_update }))
    }

    fn same_algorithm(&self, reader: &mut SliceReader<'_>) -> der::Result<()> {
        if expect(reader, Tag::Sequence)? == self.algorithm { Ok(()) } else { Err(Tag::Sequence.value_error().into()) }
    }

    /// Whether the owner of `key`, a public key with tag and length, signed this.
    pub(super) fn is_by(&self, key: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let candidates = algorithms.all.iter().filter(|one| one.signature_alg_id().as_ref() == self.algorithm);
        verify(key, self.data, self.signature, candidates).is_ok()
    }
}

impl<'a> Certificate<'a> {
    /// Reads a certificate. What is not needed here is not looked at.
    pub(super) fn read(bytes: &'a [u8]) -> der::Result<Certificate<'a>> {
        let (signed, mut reader) = Signed::read(bytes)?;
        let context = |number| Tag::ContextSpecific { constructed: true, number: TagNumber(number) };
        let mut version = 1;
        if Tag::peek(&reader)? == context(0) {
            let (_, _, inside) = value(&mut reader)?;
            let number = u8::from_der(inside)?;
            version = number.saturating_add(1);
            // A default that is written out is no DER.
            if version == 1 {
                return Err(Tag::Integer.value_error().into());
            }
        }
        let serial = expect(&mut reader, Tag::Integer)?;
        signed.same_algorithm(&mut reader)?;
        let issuer = expect(&mut reader, Tag::Sequence)?;
        let mut validity = SliceReader::new(expect(&mut reader, Tag::Sequence)?)?;
        let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
        validity.finish()?;
        let subject = expect(&mut reader, Tag::Sequence)?;
        let (tag, key, _) = value(&mut reader)?;
        tag.assert_eq(Tag::Sequence)?;
        let (mut basic_ca, mut has_alternative_names) = (None, false);
        while version > 1 && !reader.is_finished() {
            let (tag, _, inside) = value(&mut reader)?;
            if tag == context(3) {
                basic_ca = basic_constraints(inside)?;
                has_alternative_names = extension(inside, ALTERNATIVE_NAMES)?.is_some();
            }
        }
        // Version 1 ends with the key.
        reader.finish()?;
        Ok(Certificate {
            signed,
            version,
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            key,
            basic_ca,
            has_alternative_names,
        })
    }

    /// Whether it may have issued others. A certificate of version 1 cannot say so, hence never.
    pub(super) fn is_authority(&self) -> bool {
        self.version > 1 && self.basic_ca == Some(true)
    }

    /// Whether it names itself as its issuer.
    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }
}

/// Whether the extensions, a sequence with tag and length, name an authority.
fn basic_constraints(extensions: &[u8]) -> der::Result<Option<bool>> {
    let Some(contents) = extension(extensions, BASIC_CONSTRAINTS)? else { return Ok(None) };
    let mut constraints = SliceReader::new(contents)?;
    let mut fields = SliceReader::new(expect(&mut constraints, Tag::Sequence)?)?;
    Ok(Some(!fields.is_finished() && value(&mut fields)?.2 == [0xFF]))
}

/// The contents of one of the extensions, a sequence with tag and length.
fn extension<'a>(extensions: &'a [u8], wanted: &[u8]) -> der::Result<Option<&'a [u8]>> {
    let mut outer = SliceReader::new(extensions)?;
    let mut reader = SliceReader::new(expect(&mut outer, Tag::Sequence)?)?;
    while !reader.is_finished() {
        let mut extension = SliceReader::new(expect(&mut reader, Tag::Sequence)?)?;
        if expect(&mut extension, Tag::ObjectIdentifier)? != wanted {
            continue;
        }
        let (mut tag, _, mut contents) = value(&mut extension)?;
        if tag == Tag::Boolean {
            (tag, _, contents) = value(&mut extension)?;
        }
        tag.assert_eq(Tag::OctetString)?;
        return Ok(Some(contents));
    }
    Ok(None)
}

/// Why a signature is not good.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadSignature {
    /// Nothing we have fits the key, or the key cannot be read.
    Unsupported,
    /// It was made with another key or for something else.
    Wrong,
}

/// Checks a signature with the first of the algorithms that fits the key.
fn verify<'b>(
    key: &[u8],
    message: &[u8],
    signature: &[u8],
    algorithms: impl Iterator<Item = &'b &'static dyn SignatureVerificationAlgorithm>,
) -> Result<(), BadSignature> {
    let key = SubjectPublicKeyInfoDer::from(key);
    let key = webpki::RawPublicKeyEntity::try_from(&key).map_err(|_| BadSignature::Unsupported)?;
    for algorithm in algorithms {
        match key.verify_signature(*algorithm, message, signature) {
            Ok(()) => return Ok(()),
            Err(webpki::Error::InvalidSignatureForPublicKey) => return Err(BadSignature::Wrong),
            Err(_) => {}
        }
    }
    Err(BadSignature::Unsupported)
}

/// Checks the signature of a TLS 1.2 handshake by the owner of `key`, a public key with tag and length. That version
/// leaves open which curve a scheme is for, so a scheme may mean several algorithms.
pub(super) fn verify_handshake(
    key: &[u8],
    message: &[u8],
    signature: &[u8],
    scheme: SignatureScheme,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), BadSignature> {
    let fitting = algorithms.mapping.iter().find(|(known, _)| *known == scheme).map_or(&[][..], |(_, all)| all);
    verify(key, message, signature, fitting.iter())
}
