//! CONNECT and CONNACK.

use super::error::{ConnectFault, DecodeError, PropFault};
use super::packet::PacketType;
use super::props::{self, Section};
use super::publish::{PublishProps, Travelling};
use super::reader::{ReadError, Reader};
use super::writer::{
    put_binary, put_packet, put_prop_binary, put_prop_u8, put_prop_u16, put_prop_u32, put_str, put_u16, with_length,
};
use super::{ProtocolVersion, QoS, ReasonCode};

/// CONNECT. What the server permits (versions, identifiers, keepalive, the will's topic, QoS and retain) is for the
/// caller to check; the will topic is not empty, but [`super::topic::check_name`] was not applied to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connect<'a> {
    /// The protocol version.
    pub version: ProtocolVersion,
    /// Bit 7 of the protocol level of a v3 client: it is a bridge.
    pub bridge: bool,
    /// Clean session, clean start.
    pub clean_start: bool,
    /// Keepalive in seconds; 0 is none.
    pub keepalive: u16,
    /// The client id, possibly empty.
    pub client_id: &'a str,
    /// The will.
    pub will: Option<Will<'a>>,
    /// The user name; an empty one counts as none.
    pub username: Option<&'a str>,
    /// The password.
    pub password: Option<&'a [u8]>,
    /// Session Expiry Interval in seconds.
    pub session_expiry: Option<u32>,
    /// Receive Maximum, not 0.
    pub receive_maximum: Option<u16>,
    /// Maximum Packet Size, not 0.
    pub max_packet_size: Option<u32>,
    /// Topic Alias Maximum; 0 if absent.
    pub topic_alias_maximum: u16,
    /// Request Problem Information; true if absent.
    pub request_problem_info: bool,
    /// Request Response Information; false if absent.
    pub request_response_info: bool,
    /// Authentication Method.
    pub auth_method: Option<&'a str>,
    /// Authentication Data; only with a method.
    pub auth_data: Option<&'a [u8]>,
}

/// The will in a CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Will<'a> {
    /// The topic, not empty.
    pub topic: &'a str,
    /// The message.
    pub payload: &'a [u8],
    /// The QoS.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// Will Delay Interval in seconds; 0 if absent.
    pub delay_s: u32,
    /// Message Expiry Interval in seconds.
    pub expiry: Option<u32>,
    /// The properties that travel to subscribers.
    pub props: PublishProps<'a>,
}

impl<'a> Connect<'a> {
    /// A CONNECT with clean start and without anything optional.
    #[must_use]
    pub const fn new(version: ProtocolVersion, client_id: &'a str, keepalive: u16) -> Connect<'a> {
        Connect {
            version,
            bridge: false,
            clean_start: true,
            keepalive,
            client_id,
            will: None,
            username: None,
            password: None,
            session_expiry: None,
            receive_maximum: None,
            max_packet_size: None,
            topic_alias_maximum: 0,
            request_problem_info: true,
            request_response_info: false,
            auth_method: None,
            auth_data: None,
        }
    }

    /// Appends the packet. Before version 5 a password goes only with a user name, and properties are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let v5 = self.version == ProtocolVersion::V5;
        let password = self.password.filter(|_| v5 || self.username.is_some());
        put_packet(out, PacketType::Connect.first_byte(), |out| {
            put_str(out, if self.version == ProtocolVersion::V31 { "MQIsdp" } else { "MQTT" });
            out.push(self.version as u8 | if self.bridge && !v5 { BRIDGE } else { 0 });
            let bit = |set: bool, n: u32| u8::from(set).wrapping_shl(n);
            let mut flags = bit(self.clean_start, 1) | bit(password.is_some(), 6) | bit(self.username.is_some(), 7);
            if let Some(will) = &self.will {
                flags |= 4 | (will.qos as u8).wrapping_shl(3) | bit(will.retain, 5);
            }
            out.push(flags);
            put_u16(out, self.keepalive);
            if v5 {
                with_length(out, |out| self.put_props(out));
            }
            put_str(out, self.client_id);
            if let Some(will) = &self.will {
                if v5 {
                    with_length(out, |out| will.put_props(out));
                }
                put_str(out, will.topic);
                put_binary(out, will.payload);
            }
            if let Some(username) = self.username {
                put_str(out, username);
            }
            if let Some(password) = password {
                put_binary(out, password);
            }
        });
    }

    fn put_props(&self, out: &mut Vec<u8>) {
        if let Some(n) = self.session_expiry {
            put_prop_u32(out, props::SESSION_EXPIRY, n);
        }
        if let Some(n) = self.receive_maximum {
            put_prop_u16(out, props::RECEIVE_MAXIMUM, n);
        }
        if let Some(n) = self.max_packet_size {
            put_prop_u32(out, props::MAXIMUM_PACKET_SIZE, n);
        }
        if self.topic_alias_maximum > 0 {
            put_prop_u16(out, props::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
        }
        if !self.request_problem_info {
            put_prop_u8(out, props::REQUEST_PROBLEM_INFO, 0);
        }
        if self.request_response_info {
            put_prop_u8(out, props::REQUEST_RESPONSE_INFO, 1);
        }
        put_auth(out, self.auth_method, self.auth_data);
    }
}

impl Will<'_> {
    fn put_props(&self, out: &mut Vec<u8>) {
        if self.delay_s > 0 {
            put_prop_u32(out, props::WILL_DELAY, self.delay_s);
        }
        if let Some(n) = self.expiry {
            put_prop_u32(out, props::MESSAGE_EXPIRY, n);
        }
        out.extend_from_slice(&self.props.forwardable());
    }
}

fn put_auth(out: &mut Vec<u8>, method: Option<&str>, data: Option<&[u8]>) {
    if let Some(method) = method {
        put_prop_binary(out, props::AUTH_METHOD, method.as_bytes());
    }
    if let Some(data) = data {
        put_prop_binary(out, props::AUTH_DATA, data);
    }
}

/// The bit of the protocol level that marks a bridge.
const BRIDGE: u8 = 0x80;

/// The code of a CONNACK in the form of the client's version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnackForm {
    /// MQTT 3: a return code, 0 to 5.
    V3(u8),
    /// MQTT 5: a reason code, followed by properties.
    V5(ReasonCode),
}

/// A CONNECT that is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectError {
    /// The fault, for the log.
    pub error: DecodeError,
    /// The CONNACK to send before the close; `None` closes in silence.
    pub answer: Option<ConnackForm>,
    /// The version, if the client got that far.
    pub version: Option<ProtocolVersion>,
}

/// Decodes the first packet of a connection.
///
/// # Errors
/// The fault and what to answer. A v5 client gets a CONNACK for faults in properties, an unreadable client id and will,
/// and bytes behind the payload; the packets that break the fixed fields, user name or password end in silence.
pub fn decode(first: u8, body: &[u8]) -> Result<Connect<'_>, ConnectError> {
    decode_with(first, body, false)
}

/// As [`decode`]; `strict` takes the protocol level as it stands, without a bridge bit [conf: strict_conformance].
///
/// # Errors
/// As [`decode`].
pub fn decode_with(first: u8, body: &[u8], strict: bool) -> Result<Connect<'_>, ConnectError> {
    let mut version = None;
    let failed = match PacketType::of(first) {
        Some(PacketType::Connect) => match decode_body(first, body, strict, &mut version) {
            Ok(connect) => return Ok(connect),
            Err(fault) => fault,
        },
        _ => return Err(ConnectError { error: DecodeError::FirstNotConnect(first), answer: None, version }),
    };
    let error = DecodeError::Connect(failed);
    let answer = match failed {
        ConnectFault::Level(_) => Some(ConnackForm::V5(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION)),
        ConnectFault::LevelMismatch(_) => Some(ConnackForm::V3(1)),
        _ if version == Some(ProtocolVersion::V5) => error.reason().map(ConnackForm::V5),
        _ => None,
    };
    Err(ConnectError { error, answer, version })
}

fn decode_body<'a>(
    first: u8,
    body: &'a [u8],
    plain_level: bool,
    decided: &mut Option<ProtocolVersion>,
) -> Result<Connect<'a>, ConnectFault> {
    let mut r = Reader::new(body);
    let (version, bridge) = decode_version(&mut r, plain_level)?;
    *decided = Some(version);
    // MQTT 3.1 gave the flags of every packet a meaning, and the original reads over what it does not know.
    let strict = version != ProtocolVersion::V31;
    let v5 = version == ProtocolVersion::V5;
    if strict && first & 0x0F != 0 {
        return Err(ConnectFault::HeaderFlags(first));
    }
    let flags = r.u8().map_err(|_| ConnectFault::NoFlags)?;
    if strict && flags & 1 != 0 {
        return Err(ConnectFault::ReservedFlag(flags));
    }
    let (has_will, will_retain) = (flags & 4 != 0, flags & 0x20 != 0);
    let will_qos = flags >> 3 & 3;
    let will_qos = QoS::from_bits(will_qos).ok_or(ConnectFault::WillQos(will_qos))?;
    if strict && !has_will && (will_retain || will_qos != QoS::AtMostOnce) {
        return Err(ConnectFault::NoWill { qos: will_qos as u8, retain: will_retain });
    }
    let keepalive = r.u16().map_err(|_| ConnectFault::NoKeepalive)?;
    let mut found = Connect { bridge, clean_start: flags & 2 != 0, ..Connect::new(version, "", keepalive) };
    if v5 {
        decode_props(&mut r, &mut found)?;
    }
    found.client_id = r.string().map_err(|e| match e {
        ReadError::Truncated => ConnectFault::NoClientId,
        ReadError::Utf8 => ConnectFault::ClientIdUtf8,
    })?;
    if has_will {
        found.will = Some(decode_will(&mut r, v5, will_qos, will_retain)?);
    }
    let (has_username, has_password) = (flags & 0x80 != 0, flags & 0x40 != 0);
    if has_password && !has_username && !v5 {
        return Err(ConnectFault::PasswordWithoutUsername);
    }
    if has_username {
        found.username = match r.string() {
            Ok(name) => Some(name).filter(|name| !name.is_empty()),
            Err(ReadError::Truncated) if !strict => None,
            Err(ReadError::Truncated) => return Err(ConnectFault::NoUsername),
            Err(ReadError::Utf8) => return Err(ConnectFault::UsernameUtf8),
        };
    }
    if has_password {
        found.password = match r.binary() {
            Ok(password) => Some(password),
            Err(_) if !strict => None,
            Err(_) => return Err(ConnectFault::NoPassword),
        };
    }
    let (used, len) = (body.len().saturating_sub(r.rest().len()), body.len());
    if used != len {
        let size = |n| u32::try_from(n).unwrap_or(u32::MAX);
        return Err(ConnectFault::Trailing { used: size(used), len: size(len) });
    }
    Ok(found)
}

/// Protocol name and level: the version and the bridge bit.
fn decode_version(r: &mut Reader<'_>, plain_level: bool) -> Result<(ProtocolVersion, bool), ConnectFault> {
    let len = r.u16().map_err(|_| ConnectFault::NoNameLength)?;
    if len != 4 && len != 6 {
        return Err(ConnectFault::NameLength(len));
    }
    let name = r.take(usize::from(len)).map_err(|_| ConnectFault::NoName)?;
    if name != b"MQTT" && name != b"MQIsdp" {
        let mut shown = [0; 6];
        shown.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
        return Err(ConnectFault::Name(shown));
    }
    let byte = r.u8().map_err(|_| ConnectFault::NoLevel)?;
    let mask = if plain_level { 0 } else { BRIDGE };
    let level = byte & !mask;
    let bridge = byte & mask != 0;
    match (level, name == b"MQTT") {
        (3, false) => Ok((ProtocolVersion::V31, bridge)),
        (4, true) => Ok((ProtocolVersion::V311, bridge)),
        // Bit 7 has no meaning in version 5. The original then misses the properties and closes; we read on.
        (5, true) => Ok((ProtocolVersion::V5, false)),
        (3..=5, _) => Err(ConnectFault::LevelMismatch(level)),
        _ => Err(ConnectFault::Level(level)),
    }
}

fn decode_props<'a>(r: &mut Reader<'a>, found: &mut Connect<'a>) -> Result<(), ConnectFault> {
    let section = r.section().map_err(|_| ConnectFault::Property(PropFault::Truncated))?;
    props::walk(section, Section::Connect, |p| match p.id {
        props::SESSION_EXPIRY => found.session_expiry = Some(p.value.number()),
        props::RECEIVE_MAXIMUM => found.receive_maximum = Some(p.value.u16()),
        props::MAXIMUM_PACKET_SIZE => found.max_packet_size = Some(p.value.number()),
        props::TOPIC_ALIAS_MAXIMUM => found.topic_alias_maximum = p.value.u16(),
        props::REQUEST_PROBLEM_INFO => found.request_problem_info = p.value.number() != 0,
        props::REQUEST_RESPONSE_INFO => found.request_response_info = p.value.number() != 0,
        props::AUTH_METHOD => found.auth_method = Some(p.value.str()),
        props::AUTH_DATA => found.auth_data = Some(p.value.binary()),
        _ => {}
    })
    .map_err(ConnectFault::Property)?;
    if found.auth_data.is_some() && found.auth_method.is_none() {
        return Err(ConnectFault::AuthDataWithoutMethod);
    }
    Ok(())
}

fn decode_will<'a>(r: &mut Reader<'a>, v5: bool, qos: QoS, retain: bool) -> Result<Will<'a>, ConnectFault> {
    let (mut delay_s, mut expiry, mut props_found) = (0, None, PublishProps::default());
    if v5 {
        let section = r.section().map_err(|_| ConnectFault::WillProperty(PropFault::Truncated))?;
        let mut travelling = Travelling::default();
        props::walk(section, Section::Will, |p| {
            travelling.see(&p);
            match p.id {
                props::WILL_DELAY => delay_s = p.value.number(),
                props::MESSAGE_EXPIRY => expiry = Some(p.value.number()),
                _ => {}
            }
        })
        .map_err(ConnectFault::WillProperty)?;
        props_found = travelling.of(section);
    }
    let topic = r.string().map_err(|e| match e {
        ReadError::Truncated => ConnectFault::NoWillFields,
        ReadError::Utf8 => ConnectFault::WillTopicUtf8,
    })?;
    if topic.is_empty() {
        return Err(ConnectFault::WillTopicEmpty);
    }
    let payload = r.binary().map_err(|_| ConnectFault::NoWillFields)?;
    Ok(Will { topic, payload, qos, retain, delay_s, expiry, props: props_found })
}

/// The properties of CONNACK that either side of this code uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnackProps<'a> {
    /// Server Keep Alive in seconds.
    pub server_keep_alive: Option<u16>,
    /// Topic Alias Maximum; 0 is not written.
    pub topic_alias_maximum: u16,
    /// Assigned Client Identifier.
    pub assigned_client_id: Option<&'a str>,
    /// Authentication Method.
    pub auth_method: Option<&'a str>,
    /// Authentication Data.
    pub auth_data: Option<&'a [u8]>,
    /// Retain Available.
    pub retain_available: Option<bool>,
    /// Maximum Packet Size.
    pub max_packet_size: Option<u32>,
    /// Receive Maximum.
    pub receive_maximum: Option<u16>,
    /// Maximum QoS, 0 or 1; absent is 2.
    pub maximum_qos: Option<u8>,
    /// Session Expiry Interval in seconds, where it is another than the client asked for.
    pub session_expiry: Option<u32>,
}

/// CONNACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connack<'a> {
    /// The server continues a session.
    pub session_present: bool,
    /// The return code of MQTT 3 or the reason code of MQTT 5.
    pub code: ConnackForm,
    /// The properties; none before version 5.
    pub props: ConnackProps<'a>,
}

/// Appends a CONNACK; the properties only in the v5 form, in the order of the original.
pub fn encode_connack(out: &mut Vec<u8>, code: ConnackForm, session_present: bool, found: &ConnackProps<'_>) {
    put_packet(out, PacketType::Connack.first_byte(), |out| {
        out.push(u8::from(session_present));
        match code {
            ConnackForm::V3(code) => out.push(code),
            ConnackForm::V5(reason) => {
                out.push(reason.0);
                with_length(out, |out| found.put(out));
            }
        }
    });
}

impl ConnackProps<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        if let Some(n) = self.session_expiry {
            put_prop_u32(out, props::SESSION_EXPIRY, n);
        }
        if let Some(n) = self.server_keep_alive {
            put_prop_u16(out, props::SERVER_KEEP_ALIVE, n);
        }
        if self.topic_alias_maximum > 0 {
            put_prop_u16(out, props::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
        }
        if let Some(id) = self.assigned_client_id {
            put_prop_binary(out, props::ASSIGNED_CLIENT_ID, id.as_bytes());
        }
        put_auth(out, self.auth_method, self.auth_data);
        if let Some(yes) = self.retain_available {
            put_prop_u8(out, props::RETAIN_AVAILABLE, u8::from(yes));
        }
        if let Some(n) = self.max_packet_size {
            put_prop_u32(out, props::MAXIMUM_PACKET_SIZE, n);
        }
        if let Some(n) = self.receive_maximum {
            put_prop_u16(out, props::RECEIVE_MAXIMUM, n);
        }
        if let Some(n) = self.maximum_qos {
            put_prop_u8(out, props::MAXIMUM_QOS, n);
        }
    }
}

/// Decodes the body of a CONNACK from a server of our own version.
///
/// # Errors
/// The fault.
pub fn decode_connack(version: ProtocolVersion, body: &[u8]) -> Result<Connack<'_>, DecodeError> {
    const P: PacketType = PacketType::Connack;
    let read = |e| DecodeError::read(P, e);
    let mut r = Reader::new(body);
    let session_present = r.u8().map_err(read)? & 1 != 0;
    let code = r.u8().map_err(read)?;
    let mut found = ConnackProps::default();
    // An old server answers version 5 in the form of version 3.
    if version != ProtocolVersion::V5 || r.is_empty() {
        r.finish(P, body)?;
        return Ok(Connack { session_present, code: ConnackForm::V3(code), props: found });
    }
    props::walk(r.section().map_err(read)?, Section::Connack, |p| match p.id {
        props::SERVER_KEEP_ALIVE => found.server_keep_alive = Some(p.value.u16()),
        props::TOPIC_ALIAS_MAXIMUM => found.topic_alias_maximum = p.value.u16(),
        props::ASSIGNED_CLIENT_ID => found.assigned_client_id = Some(p.value.str()),
        props::AUTH_METHOD => found.auth_method = Some(p.value.str()),
        props::AUTH_DATA => found.auth_data = Some(p.value.binary()),
        props::RETAIN_AVAILABLE => found.retain_available = Some(p.value.number() != 0),
        props::MAXIMUM_PACKET_SIZE => found.max_packet_size = Some(p.value.number()),
        props::RECEIVE_MAXIMUM => found.receive_maximum = Some(p.value.u16()),
        props::MAXIMUM_QOS => found.maximum_qos = u8::try_from(p.value.number()).ok(),
        props::SESSION_EXPIRY => found.session_expiry = Some(p.value.number()),
        _ => {}
    })
    .map_err(|e| DecodeError::Property(P, e))?;
    r.finish(P, body)?;
    Ok(Connack { session_present, code: ConnackForm::V5(ReasonCode(code)), props: found })
}

#[cfg(test)]
mod tests {
    use super::super::topic;
    use super::*;
    use ProtocolVersion::{V5, V31, V311};

    /// A body from protocol name, level, flags and the rest behind keepalive 10.
    fn body(name: &str, level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_str(&mut out, name);
        out.extend([level, flags, 0, 10]);
        out.extend_from_slice(rest);
        out
    }

    #[test]
    fn refusals_get_the_answer_of_their_version() {
        use ConnackForm::{V3, V5 as F5};
        let code = |n| Some(F5(ReasonCode(n)));
        let id = &[0, 1, b'p'][..];
        let id5 = &[0, 0, 1, b'p'][..];
        for (name, level, flags, rest, want) in [
            ("MQTT", 3, 2, id, Some(V3(1))),
            ("MQIsdp", 4, 2, id, Some(V3(1))),
            ("MQIsdp", 5, 2, id, Some(V3(1))),
            ("MQTT", 6, 2, id, code(0x84)),
            ("MQTT", 0, 2, id, code(0x84)),
            ("MQTT", 2, 2, id, code(0x84)),
            ("MQTX", 4, 2, id, None),
            ("MQT", 4, 2, id, None),
            ("MQTT", 4, 3, id, None),
            ("MQTT", 5, 3, id5, None),
            ("MQTT", 5, 0x1E, id5, None),
            ("MQIsdp", 3, 0x1E, id, None),
            ("MQTT", 5, 0x12, id5, None),
            ("MQTT", 4, 0x42, &[0, 1, b'p', 0, 0], None),
            ("MQTT", 4, 0x82, id, None),
            ("MQTT", 4, 2, &[0, 1, 1], None),
            ("MQTT", 4, 2, &[0, 1, b'p', 0], None),
            ("MQTT", 5, 2, &[0, 0, 1, 1], code(0x85)),
            ("MQTT", 5, 2, &[0, 0, 2, b'p'], code(0x81)),
            ("MQTT", 5, 2, &[0, 0, 1, b'p', 9], code(0x81)),
            ("MQTT", 5, 2, &[9, 0, 1, b'p'], code(0x81)),
            ("MQTT", 5, 2, &[2, 0x24, 1, 0, 1, b'p'], code(0x82)),
            ("MQTT", 5, 2, &[2, 0x7F, 1, 0, 1, b'p'], code(0x81)),
            ("MQTT", 5, 2, &[4, 0x16, 0, 1, 1, 0, 1, b'p'], code(0x82)),
            ("MQTT", 5, 6, &[0, 0, 1, b'p', 0, 0, 0, 0, 0], code(0x82)),
            ("MQTT", 5, 6, &[0, 0, 1, b'p', 1, 0x18, 0, 1, b't', 0, 0], code(0x81)),
            ("MQTT", 5, 6, &[0, 0, 1, b'p', 2, 0x17, 1, 0, 1, b't', 0, 0], code(0x82)),
            ("MQTT", 5, 6, &[0, 0, 1, b'p', 0, 0, 1, 1, 0, 0], None),
            ("MQTT", 5, 0x82, &[0, 0, 1, b'p', 0, 1, 1], None),
            ("MQTT", 5, 0x42, id5, None),
        ] {
            let bytes = body(name, level, flags, rest);
            let got = decode(0x10, &bytes).unwrap_err();
            assert_eq!(got.answer, want, "{name} {level} {flags:02X} {rest:02X?}: {}", got.error);
        }
        assert_eq!(decode(0x14, &body("MQTT", 4, 2, id)).unwrap_err().answer, None);
        assert_eq!(decode(0x14, &body("MQTT", 5, 2, id5)).unwrap_err().answer, None);
    }

    #[test]
    fn a_cut_connect_ends_in_silence_before_version_5() {
        let whole = body("MQTT", 4, 0xC6, &[0, 1, b'p', 0, 1, b't', 0, 0, 0, 1, b'u', 0, 1, b'w']);
        assert!(decode(0x10, &whole).is_ok());
        for n in 0..whole.len() {
            assert_eq!(decode(0x10, &whole[..n]).unwrap_err().answer, None, "{n}");
        }
    }

    #[test]
    fn version_31_reads_over_what_311_refuses() {
        for (first, flags, rest) in [
            (0x14, 2, &[0, 1, b'p'][..]),
            (0x10, 3, &[0, 1, b'p']),
            (0x10, 0x2A, &[0, 1, b'p']),
            (0x10, 0xC2, &[0, 1, b'p']),
            (0x10, 0xC2, &[0, 1, b'p', 0, 1, b'u']),
        ] {
            let bytes = body("MQIsdp", 3, flags, rest);
            let got = decode(first, &bytes).unwrap();
            assert_eq!((got.version, got.will, got.password), (V31, None, None), "{flags:02X}");
        }
    }

    #[test]
    fn the_bridge_bit_counts_before_version_5() {
        for (name, level, rest, version, bridge) in [
            ("MQIsdp", 0x83, &[0, 0][..], V31, true),
            ("MQTT", 0x84, &[0, 0], V311, true),
            ("MQTT", 0x85, &[0, 0, 0], V5, false),
            ("MQTT", 4, &[0, 0], V311, false),
        ] {
            let bytes = body(name, level, 2, rest);
            let got = decode(0x10, &bytes).unwrap();
            assert_eq!((got.version, got.bridge, got.client_id), (version, bridge, ""));
        }
    }

    #[test]
    fn an_empty_user_name_is_none_and_version_5_takes_a_lone_password() {
        let bytes = body("MQTT", 4, 0x82, &[0, 1, b'p', 0, 0]);
        assert_eq!(decode(0x10, &bytes).unwrap().username, None);
        let bytes = body("MQTT", 5, 0x42, &[0, 0, 1, b'p', 0, 1, 0xFF]);
        let got = decode(0x10, &bytes).unwrap();
        assert_eq!((got.username, got.password), (None, Some(&[0xFF][..])));
    }

    #[test]
    fn a_will_with_a_bad_topic_is_left_to_the_caller() {
        let bytes = body("MQTT", 4, 6, &[0, 1, b'p', 0, 1, b'#', 0, 0]);
        let will = decode(0x10, &bytes).unwrap().will.unwrap();
        assert!(topic::check_name(will.topic).is_err());
    }

    #[test]
    fn the_default_connack_has_the_bytes_of_the_original() {
        let props = ConnackProps {
            topic_alias_maximum: 10,
            max_packet_size: Some(2_000_000),
            receive_maximum: Some(20),
            ..ConnackProps::default()
        };
        let mut out = Vec::new();
        encode_connack(&mut out, ConnackForm::V5(ReasonCode::SUCCESS), false, &props);
        let want = [0x20, 0x0E, 0, 0, 0x0B, 0x22, 0, 0x0A, 0x27, 0, 0x1E, 0x84, 0x80, 0x21, 0, 0x14];
        assert_eq!(out, want);
        let full = ConnackProps {
            server_keep_alive: Some(60),
            assigned_client_id: Some("a"),
            auth_method: Some("m"),
            auth_data: Some(&[1]),
            retain_available: Some(false),
            maximum_qos: Some(1),
            ..props
        };
        let mut out = Vec::new();
        encode_connack(&mut out, ConnackForm::V5(ReasonCode::SUCCESS), true, &full);
        let mut order = Vec::new();
        props::walk(&out[5..], Section::Connack, |p| order.push(p.id)).unwrap();
        assert_eq!(order, [0x13, 0x22, 0x12, 0x15, 0x16, 0x25, 0x27, 0x21, 0x24]);
        let got = decode_connack(V5, &out[2..]).unwrap();
        assert_eq!(got, Connack { session_present: true, code: ConnackForm::V5(ReasonCode::SUCCESS), props: full });
        let mut out = Vec::new();
        encode_connack(&mut out, ConnackForm::V3(5), false, &full);
        assert_eq!(out, [0x20, 2, 0, 5]);
    }
}
