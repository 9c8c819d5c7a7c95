//! DISCONNECT, AUTH and the pings.

use super::error::DecodeError;
use super::packet::{PacketType, Role};
use super::props::{self, Section};
use super::reader::Reader;
use super::writer::{put_packet, put_prop_binary, put_prop_u32, with_length};
use super::{ProtocolVersion, ReasonCode};

/// The whole PINGREQ.
pub const PINGREQ: [u8; 2] = [0xC0, 0];
/// The whole PINGRESP.
pub const PINGRESP: [u8; 2] = [0xD0, 0];

/// DISCONNECT. Reason String, User Property and Server Reference are checked and not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Disconnect {
    /// The reason code, any byte; 0 before version 5.
    pub reason: ReasonCode,
    /// Session Expiry Interval in seconds.
    pub session_expiry: Option<u32>,
}

impl Disconnect {
    /// Appends the packet. The v5 reason code is always written and properties only if there is one, as the original
    /// does.
    pub fn encode(&self, out: &mut Vec<u8>, version: ProtocolVersion) {
        put_packet(out, PacketType::Disconnect.first_byte(), |out| {
            if version == ProtocolVersion::V5 {
                out.push(self.reason.0);
                if let Some(seconds) = self.session_expiry {
                    with_length(out, |out| put_prop_u32(out, props::SESSION_EXPIRY, seconds));
                }
            }
        });
    }
}

/// Decodes the body of a DISCONNECT.
///
/// # Errors
/// The fault.
pub fn decode_disconnect(version: ProtocolVersion, body: &[u8]) -> Result<Disconnect, DecodeError> {
    const P: PacketType = PacketType::Disconnect;
    let mut found = Disconnect::default();
    if version != ProtocolVersion::V5 {
        return if body.is_empty() { Ok(found) } else { Err(DecodeError::Length(P)) };
    }
    let mut r = Reader::new(body);
    if !r.is_empty() {
        found.reason = ReasonCode(r.u8().map_err(|e| DecodeError::read(P, e))?);
    }
    if !r.is_empty() {
        let section = r.section().map_err(|e| DecodeError::read(P, e))?;
        props::walk(section, Section::Disconnect, |p| {
            if p.id == props::SESSION_EXPIRY {
                found.session_expiry = Some(p.value.number());
            }
        })
        .map_err(|e| DecodeError::Property(P, e))?;
    }
    r.finish(P, body)?;
    Ok(found)
}

/// AUTH. Reason String and User Property are checked and not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Auth<'a> {
    /// 0x18 or 0x19 from a client, 0x00 or 0x18 from a server.
    pub reason: ReasonCode,
    /// Authentication Method.
    pub method: Option<&'a str>,
    /// Authentication Data.
    pub data: Option<&'a [u8]>,
}

impl Auth<'_> {
    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_packet(out, PacketType::Auth.first_byte(), |out| {
            out.push(self.reason.0);
            with_length(out, |out| {
                if let Some(method) = self.method {
                    put_prop_binary(out, props::AUTH_METHOD, method.as_bytes());
                }
                if let Some(data) = self.data {
                    put_prop_binary(out, props::AUTH_DATA, data);
                }
            });
        });
    }
}

/// Decodes the body of an AUTH. An empty body is reason code 0 [MQTT 3.15.2.1].
///
/// # Errors
/// The fault.
pub fn decode_auth(role: Role, body: &[u8]) -> Result<Auth<'_>, DecodeError> {
    const P: PacketType = PacketType::Auth;
    let mut found = Auth::default();
    let mut r = Reader::new(body);
    if !r.is_empty() {
        found.reason = ReasonCode(r.u8().map_err(|e| DecodeError::read(P, e))?);
    }
    if !r.is_empty() {
        let section = r.section().map_err(|e| DecodeError::read(P, e))?;
        props::walk(section, Section::Auth, |p| match p.id {
            props::AUTH_METHOD => found.method = Some(p.value.str()),
            props::AUTH_DATA => found.data = Some(p.value.binary()),
            _ => {}
        })
        .map_err(|e| DecodeError::Property(P, e))?;
    }
    r.finish(P, body)?;
    let permitted = match role {
        Role::FromClient => matches!(found.reason, ReasonCode::CONTINUE_AUTHENTICATION | ReasonCode::REAUTHENTICATE),
        Role::FromServer => matches!(found.reason, ReasonCode::SUCCESS | ReasonCode::CONTINUE_AUTHENTICATION),
    };
    if permitted { Ok(found) } else { Err(DecodeError::Reason(P, found.reason.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProtocolVersion::{V5, V311};

    #[test]
    fn disconnect_bodies_and_their_reasons() {
        for (version, body, want) in [
            (V5, &[][..], Ok((0, None))),
            (V5, &[4], Ok((4, None))),
            (V5, &[0x01], Ok((1, None))),
            (V5, &[0, 0], Ok((0, None))),
            (V5, &[0, 5, 0x11, 0, 0, 0, 7], Ok((0, Some(7)))),
            (V5, &[0, 1, 0x11], Err(Some(0x81))),
            (V5, &[0, 2], Err(Some(0x81))),
            (V5, &[0, 2, 0x01, 0], Err(Some(0x82))),
            (V5, &[0, 1, 0x01], Err(Some(0x81))),
            (V5, &[0, 10, 0x11, 0, 0, 0, 0, 0x11, 0, 0, 0, 0], Err(Some(0x82))),
            (V5, &[0, 0, 0], Err(Some(0x82))),
            (V311, &[], Ok((0, None))),
            (V311, &[0], Err(None)),
        ] {
            let got = decode_disconnect(version, body).map(|d| (d.reason.0, d.session_expiry));
            assert_eq!(got.map_err(|e| e.reason().map(|r| r.0)), want, "{body:02X?}");
        }
    }

    #[test]
    fn all_faults_of_auth_are_protocol_errors() {
        for body in [&[][..], &[0], &[0x18, 1], &[0x18, 1, 0x15], &[0x18, 0, 0], &[0x18, 2, 1, 0]] {
            let error = decode_auth(Role::FromClient, body).unwrap_err();
            assert_eq!(error.reason(), Some(ReasonCode::PROTOCOL_ERROR), "{body:02X?}");
        }
        let body = [0x18, 8, 0x15, 0, 1, b'm', 0x16, 0, 1, 9];
        let auth = decode_auth(Role::FromClient, &body).unwrap();
        assert_eq!((auth.method, auth.data), (Some("m"), Some(&[9][..])));
        let mut out = Vec::new();
        auth.encode(&mut out);
        assert_eq!(out[..2], [0xF0, 10]);
        assert_eq!(out[2..], body);
    }

    #[test]
    fn disconnect_carries_its_reason_only_in_version_5() {
        for (version, session_expiry, want) in [
            (V5, None, &[0xE0, 1, 0x82][..]),
            (V5, Some(7), &[0xE0, 7, 0x82, 5, 0x11, 0, 0, 0, 7]),
            (V311, None, &[0xE0, 0]),
        ] {
            let mut out = Vec::new();
            Disconnect { reason: ReasonCode::PROTOCOL_ERROR, session_expiry }.encode(&mut out, version);
            assert_eq!(out, want);
        }
    }
}
