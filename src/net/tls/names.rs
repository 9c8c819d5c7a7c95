//! User names from the subject of a client certificate `[conf: use_identity_as_username]`
//! `[conf: use_subject_as_username]`.

use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader, Tag};

use crate::wire::reader;

/// OpenSSL's short names of `2.5.4.N`, by the last number.
const X520: &[(u8, &str)] = &[
    (3, "CN"),
    (4, "SN"),
    (5, "serialNumber"),
    (6, "C"),
    (7, "L"),
    (8, "ST"),
    (9, "street"),
    (10, "O"),
    (11, "OU"),
    (12, "title"),
    (13, "description"),
    (15, "businessCategory"),
    (16, "postalAddress"),
    (17, "postalCode"),
    (18, "postOfficeBox"),
    (19, "physicalDeliveryOfficeName"),
    (20, "telephoneNumber"),
    (23, "facsimileTelephoneNumber"),
    (41, "name"),
    (42, "GN"),
    (43, "initials"),
    (44, "generationQualifier"),
    (45, "x500UniqueIdentifier"),
    (46, "dnQualifier"),
    (51, "houseIdentifier"),
    (54, "dmdName"),
    (65, "pseudonym"),
    (72, "role"),
    (97, "organizationIdentifier"),
];

/// OpenSSL's short names of others, by the contents of the object identifier. What is missing is written as numbers.
const OTHERS: &[(&[u8], &str)] = &[
    (&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 1], "emailAddress"),
    (&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 2], "unstructuredName"),
    (&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 8], "unstructuredAddress"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 3], "mail"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 25], "DC"),
    (&[0x2B, 6, 1, 4, 1, 0x82, 0x37, 60, 2, 1, 1], "jurisdictionL"),
    (&[0x2B, 6, 1, 4, 1, 0x82, 0x37, 60, 2, 1, 2], "jurisdictionST"),
    (&[0x2B, 6, 1, 4, 1, 0x82, 0x37, 60, 2, 1, 3], "jurisdictionC"),
];

/// One `type=value` of a name.
struct Attribute<'a> {
    oid: &'a [u8],
    tag: Tag,
    /// With tag and length.
    whole: &'a [u8],
    contents: &'a [u8],
    /// It belongs to the same part of the name as the one before.
    joined: bool,
}

/// The parts of a name, given without tag and length, in its order.
fn attributes(name: &[u8]) -> der::Result<Vec<Attribute<'_>>> {
    let mut found = Vec::new();
    let mut name = SliceReader::new(name)?;
    while !name.is_finished() {
        let set = AnyRef::from_der(name.tlv_bytes()?)?;
        der::Tagged::tag(&set).assert_eq(Tag::Set)?;
        let mut set = SliceReader::new(set.value())?;
        let mut joined = false;
        while !set.is_finished() {
            let pair = AnyRef::from_der(set.tlv_bytes()?)?;
            let mut pair = SliceReader::new(pair.value())?;
            let oid = AnyRef::from_der(pair.tlv_bytes()?)?;
            der::Tagged::tag(&oid).assert_eq(Tag::ObjectIdentifier)?;
            let whole = pair.tlv_bytes()?;
            pair.finish()?;
            let value = AnyRef::from_der(whole)?;
            let (tag, contents) = (der::Tagged::tag(&value), value.value());
            found.push(Attribute { oid: oid.value(), tag, whole, contents, joined });
            joined = true;
        }
    }
    Ok(found)
}

impl Attribute<'_> {
    fn name(&self) -> Option<&'static str> {
        if let [0x55, 4, number] = self.oid {
            return X520.iter().find(|(last, _)| last == number).map(|(_, name)| *name);
        }
        OTHERS.iter().find(|(oid, _)| *oid == self.oid).map(|(_, name)| *name)
    }

    /// The value as text; `None` when it is none.
    fn text(&self) -> Option<String> {
        let bytes = self.contents;
        match self.tag {
            Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::VisibleString | Tag::NumericString => {
                std::str::from_utf8(bytes).ok().map(str::to_owned)
            }
            // Latin 1, as everyone uses it.
            Tag::TeletexString => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
            Tag::BmpString if bytes.len() % 2 == 0 => {
                let units =
                    bytes.chunks_exact(2).map(|pair| pair.iter().fold(0, |unit, byte| unit << 8 | u16::from(*byte)));
                char::decode_utf16(units).collect::<Result<_, _>>().ok()
            }
            _ => None,
        }
    }
}

/// The first common name of a subject. `None` without one, and for one that could not stand in CONNECT either:
/// `admin\0.example` must not pass for `admin`, and a line feed not reach rules or the log.
pub(super) fn common_name(subject: &[u8]) -> Option<String> {
    let all = attributes(subject).ok()?;
    let first = all.iter().find(|attribute| attribute.oid == [0x55, 4, 3])?;
    first.text().filter(|text| !text.is_empty() && reader::utf8(text.as_bytes()).is_some())
}

/// A subject as RFC 2253 text, byte for byte what OpenSSL gives: the last part first, everything beyond ASCII escaped.
/// `None` for an empty or broken one.
pub(super) fn rfc2253(subject: &[u8]) -> Option<String> {
    let all = attributes(subject).ok()?;
    let mut out = String::new();
    for (i, attribute) in all.iter().enumerate().rev() {
        if !out.is_empty() {
            let joins = all.get(i + 1).is_some_and(|next| next.joined);
            out.push(if joins { '+' } else { ',' });
        }
        match attribute.name() {
            Some(name) => {
                out.push_str(name);
                out.push('=');
                match attribute.text() {
                    Some(text) => escape(&text, &mut out),
                    None => hex(attribute.whole, &mut out),
                }
            }
            None => {
                dotted(attribute.oid, &mut out);
                out.push('=');
                hex(attribute.whole, &mut out);
            }
        }
    }
    (!out.is_empty()).then_some(out)
}

fn escape(text: &str, out: &mut String) {
    let last = text.len().saturating_sub(1);
    for (i, byte) in text.bytes().enumerate() {
        let special = match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => true,
            b'#' => i == 0,
            b' ' => i == 0 || i == last,
            _ => false,
        };
        match byte {
            _ if special => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                out.push('\\');
                hex_digits(byte, out);
            }
        }
    }
}

fn hex(bytes: &[u8], out: &mut String) {
    out.push('#');
    bytes.iter().for_each(|byte| hex_digits(*byte, out));
}

fn hex_digits(byte: u8, out: &mut String) {
    for digit in [byte >> 4, byte & 15] {
        out.extend(char::from_digit(digit.into(), 16).map(|digit| digit.to_ascii_uppercase()));
    }
}

/// An object identifier as numbers.
fn dotted(oid: &[u8], out: &mut String) {
    use std::fmt::Write;
    let mut number = 0u64;
    let mut first = true;
    for byte in oid {
        number = number << 7 | u64::from(byte & 0x7F);
        if byte & 0x80 != 0 {
            continue;
        }
        let _never_fails = if std::mem::take(&mut first) {
            let root = (number / 40).min(2);
            write!(out, "{root}.{}", number - root * 40)
        } else {
            write!(out, ".{number}")
        };
        number = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name of these parts, each in a set of its own unless joined.
    fn name(parts: &[(&[u8], u8, &[u8], bool)]) -> Vec<u8> {
        let tlv = |tag: u8, contents: &[u8]| [&[tag, u8::try_from(contents.len()).unwrap()], contents].concat();
        let mut sets: Vec<Vec<u8>> = Vec::new();
        for (oid, tag, text, joined) in parts {
            let pair = tlv(0x30, &[tlv(6, oid), tlv(*tag, text)].concat());
            if *joined { sets.last_mut().unwrap().extend(pair) } else { sets.push(pair) }
        }
        sets.iter().flat_map(|set| tlv(0x31, set)).collect()
    }

    const CN: &[u8] = &[0x55, 4, 3];
    const O: &[u8] = &[0x55, 4, 10];

    #[test]
    fn the_identity_is_the_first_common_name_and_must_be_text_that_mqtt_permits() {
        for (parts, wanted) in [
            (vec![(O, 12, &b"o"[..], false), (CN, 12, b"x", false), (CN, 12, b"y", false)], Some("x")),
            (vec![(CN, 12, "ü".as_bytes(), false)], Some("ü")),
            (vec![(CN, 19, b"p", false)], Some("p")),
            (vec![(CN, 30, &[0, b'b', 1, 0], false)], Some("bĀ")),
            (vec![(CN, 20, &[0xFC], false)], Some("ü")),
            (vec![(O, 12, b"o", false)], None),
            (vec![(CN, 12, b"a\0b", false)], None),
            (vec![(CN, 12, b"a\nb", false)], None),
            (vec![(CN, 12, "a\u{85}b".as_bytes(), false)], None),
            (vec![(CN, 20, &[b'a', 0x1B], false)], None),
            (vec![(CN, 12, &[0xFF], false)], None),
            (vec![(CN, 12, b"", false)], None),
            (vec![(CN, 4, b"octets", false)], None),
        ] {
            assert_eq!(common_name(&name(&parts)).as_deref(), wanted, "{parts:?}");
        }
        assert_eq!(common_name(b"\x31\x05x"), None, "broken");
    }

    #[test]
    fn a_subject_is_written_as_openssl_writes_rfc_2253() {
        for (parts, wanted) in [
            (vec![(O, 12, &b"y"[..], false), (CN, 12, b"x", false)], "CN=x,O=y"),
            (vec![(O, 12, b"y", false), (CN, 12, b"x", true)], "CN=x+O=y"),
            (vec![(CN, 12, b" a,b+c\"d\\e<f>g;h ", false)], "CN=\\ a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h\\ "),
            (vec![(CN, 12, b"#1#", false)], "CN=\\#1#"),
            (vec![(CN, 12, "ü\n".as_bytes(), false)], "CN=\\C3\\BC\\0A"),
            (vec![(&[0x2A, 3, 0x81, 1], 12, b"x", false)], "1.2.3.129=#0C0178"),
            (vec![(CN, 4, b"x", false)], "CN=#040178"),
        ] {
            assert_eq!(rfc2253(&name(&parts)).as_deref(), Some(wanted), "{parts:?}");
        }
        assert_eq!(rfc2253(b""), None);
        assert_eq!(rfc2253(b"\x31"), None);
    }
}
