//! PUBACK, PUBREC, PUBREL and PUBCOMP.

use super::error::DecodeError;
use super::packet::PacketType;
use super::props::{self, Section};
use super::reader::Reader;
use super::writer::{put_packet, put_u16};
use super::{PacketId, ProtocolVersion, ReasonCode};

/// The content of the four acknowledgements. Their properties are checked and not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack {
    /// The packet identifier.
    pub id: PacketId,
    /// The reason code; success before version 5.
    pub reason: ReasonCode,
}

impl Ack {
    /// An acknowledgement of success.
    #[must_use]
    pub const fn success(id: PacketId) -> Ack {
        Ack { id, reason: ReasonCode::SUCCESS }
    }

    /// Appends the packet. The reason code is left out before version 5 and when it is 0; properties are never sent.
    pub fn encode(&self, out: &mut Vec<u8>, version: ProtocolVersion, packet: PacketType) {
        put_packet(out, packet.first_byte(), |out| {
            put_u16(out, self.id.get());
            if version == ProtocolVersion::V5 && self.reason != ReasonCode::SUCCESS {
                out.push(self.reason.0);
            }
        });
    }
}

/// True if `packet` may carry `reason` [MQTT 3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1].
#[must_use]
pub const fn permits(packet: PacketType, reason: ReasonCode) -> bool {
    match packet {
        PacketType::Puback | PacketType::Pubrec => {
            matches!(reason.0, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
        }
        _ => matches!(reason.0, 0x00 | 0x92),
    }
}

/// Decodes the body of the acknowledgement `packet`.
///
/// # Errors
/// The fault.
pub fn decode(version: ProtocolVersion, packet: PacketType, body: &[u8]) -> Result<Ack, DecodeError> {
    let read = |e| DecodeError::read(packet, e);
    let mut r = Reader::new(body);
    let id = PacketId::new(r.u16().map_err(read)?).ok_or(DecodeError::PacketIdZero(packet))?;
    let mut reason = ReasonCode::SUCCESS;
    if version == ProtocolVersion::V5 && !r.is_empty() {
        reason = ReasonCode(r.u8().map_err(read)?);
        if !r.is_empty() {
            let section = r.section().map_err(read)?;
            props::walk(section, Section::Ack, |_| ()).map_err(|e| DecodeError::Property(packet, e))?;
        }
        if !permits(packet, reason) {
            return Err(DecodeError::Reason(packet, reason.0));
        }
    }
    r.finish(packet, body)?;
    Ok(Ack { id, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProtocolVersion::{V5, V311};

    #[test]
    fn bodies_and_their_faults() {
        use DecodeError as E;
        use PacketType::{Puback, Pubcomp, Pubrec, Pubrel};
        let ack = |n, rc| Ok(Ack { id: PacketId::new(n).unwrap(), reason: ReasonCode(rc) });
        let codes: &[(_, _, &[u8], _, Option<u8>)] = &[
            (V5, Puback, &[0, 1], ack(1, 0), None),
            (V5, Puback, &[0, 1, 0x80], ack(1, 0x80), None),
            (V5, Puback, &[0, 1, 0x10, 0], ack(1, 0x10), None),
            (V5, Pubcomp, &[0, 1, 0x92], ack(1, 0x92), None),
            (V5, Pubrel, &[0, 1, 0, 4, 0x1F, 0, 1, b'p'], ack(1, 0), None),
            (V311, Puback, &[1, 0], ack(256, 0), None),
            (V5, Puback, &[], Err(E::Truncated(Puback)), Some(0x81)),
            (V5, Puback, &[1], Err(E::Truncated(Puback)), Some(0x81)),
            (V5, Pubrec, &[0, 0, 0], Err(E::PacketIdZero(Pubrec)), Some(0x82)),
            (V5, Puback, &[0, 1, 0xFF, 0], Err(E::Reason(Puback, 0xFF)), Some(0x82)),
            (V5, Pubrel, &[0, 1, 0x80], Err(E::Reason(Pubrel, 0x80)), Some(0x82)),
            (V5, Puback, &[0, 1, 0, 1], Err(E::Truncated(Puback)), Some(0x81)),
            (V5, Puback, &[0, 1, 0, 0, 0], Err(E::Trailing { packet: Puback, used: 4, len: 5 }), Some(0x81)),
            (V311, Puback, &[0, 1, 0], Err(E::Trailing { packet: Puback, used: 2, len: 3 }), Some(0x81)),
        ];
        for (version, packet, body, want, reason) in codes {
            let got = decode(*version, *packet, body);
            assert_eq!(got, *want, "{packet} {body:02X?}");
            assert_eq!(got.err().and_then(|e| e.reason()).map(|r| r.0), *reason, "{packet} {body:02X?}");
        }
    }

    #[test]
    fn success_takes_four_bytes_and_other_codes_five_in_version_5() {
        let id = PacketId::new(0x1234).unwrap();
        for (version, packet, rc, want) in [
            (V5, PacketType::Puback, 0, &[0x40, 2, 0x12, 0x34][..]),
            (V5, PacketType::Pubrec, 0x97, &[0x50, 3, 0x12, 0x34, 0x97]),
            (V311, PacketType::Pubrec, 0x97, &[0x50, 2, 0x12, 0x34]),
            (V5, PacketType::Pubrel, 0, &[0x62, 2, 0x12, 0x34]),
            (V5, PacketType::Pubcomp, 0, &[0x70, 2, 0x12, 0x34]),
        ] {
            let mut out = Vec::new();
            Ack { id, reason: ReasonCode(rc) }.encode(&mut out, version, packet);
            assert_eq!(out, want);
        }
    }
}
