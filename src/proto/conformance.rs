//! The letter of the specifications `[conf: strict_conformance]`: every point where the broker does as Mosquitto does and
//! MQTT 3.1, 3.1.1 or 5.0 has another rule, in one table, and the decisions that differ by no more than a code.
//!
//! `man/mosquitto-conformance.7` has an entry for each row; a test compares both, and another that each row has a case for
//! either behaviour. What takes more than a code is decided where it happens, in `wire`, `broker` and `server`.

use super::close::{CloseReason, Refusal};
use crate::wire::connect::{ConnackForm, ConnectError};
use crate::wire::error::{ConnectFault, DecodeError};
use crate::wire::{ProtocolVersion, ReasonCode};

/// One point where the default is not the letter of a specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// Its name, by which the manual page and the tests call it.
    pub id: &'static str,
    /// The rule, as the specification numbers it; `MQTT311` and `MQTT31` are the older versions.
    pub rule: &'static str,
    /// What the broker does by default.
    pub default: &'static str,
    /// What it does with `strict_conformance true`.
    pub strict: &'static str,
}

const fn row(id: &'static str, rule: &'static str, default: &'static str, strict: &'static str) -> Deviation {
    Deviation { id, rule, default, strict }
}

/// Every deviation, in the order of the manual page.
#[rustfmt::skip]
pub const DEVIATIONS: &[Deviation] = &[
    row("bridge-bit", "MQTT311-3.1.2-2", "bit 7 of the protocol level marks a bridge", "such a level does not exist"),
    row("unknown-level", "MQTT311-3.1.2-2", "levels under 3 get a v5 CONNACK 0x84", "they get CONNACK 0x01"),
    row("silent-connect", "MQTT-4.13.1-1", "some faults of a v5 CONNECT end in silence", "each has its CONNACK"),
    row("client-id-utf8", "MQTT-3.1.3-4", "CONNACK 0x85", "CONNACK 0x81"),
    row("client-id-length", "MQTT31-3.1", "no limit", "3.1: 23 characters, else CONNACK 0x02"),
    row("client-id-empty", "MQTT-3.1.3-8", "v5: CONNACK 0x80 when forbidden", "CONNACK 0x85"),
    row("client-id-prefix", "MQTT-3.1.3-8", "CONNACK 0x87 or 0x05", "CONNACK 0x85 or 0x02"),
    row("credentials", "MQTT-3.2.2-8", "a refused user: CONNACK 0x87 or 0x05", "v5: 0x86, 3.1: 0x04"),
    row("v3-refusal", "MQTT311-3.2.2-6", "CONNACK codes that mean something else, or none", "the code that applies, or none"),
    row("session-expiry", "MQTT 3.2.2.3.2", "a shortened session expiry is not told", "it stands in CONNACK"),
    row("reply-size", "MQTT-3.1.2-24", "only PUBLISH keeps to the client's maximum packet size", "every packet does"),
    row("remaining-length", "MQTT-1.5.5-1", "the Remaining Length may be longer than needed", "malformed"),
    row("v31-dup", "MQTT31-2.1", "DUP in a 3.1 SUBSCRIBE or UNSUBSCRIBE ends the connection", "it may be sent again"),
    row("silent-malformed", "MQTT-4.13.1-1", "some malformed v5 packets end in silence", "DISCONNECT 0x81"),
    row("packet-size", "MQTT 3.2.2.3.6", "the length field does not count for max_packet_size", "it counts"),
    row("type-size", "MQTT 3.2.2.3.6", "v5 limits by packet type below max_packet_size", "max_packet_size alone"),
    row("property-place", "MQTT 2.2.2.2", "a property in the wrong packet: 0x82", "0x81"),
    row("subscribe-codes", "MQTT 3.8.3.1", "protocol errors in SUBSCRIBE and UNSUBSCRIBE: 0x81", "0x82"),
    row("subscribe-filter", "MQTT-3.8.4-6", "an invalid filter ends the connection", "it has its code in SUBACK or UNSUBACK"),
    row("subscribe-whole", "MQTT-4.13.1-1", "filters before a malformed one take effect", "none does"),
    row("share-name", "MQTT-4.8.2-1", "the share name may be empty", "it may not"),
    row("share-mount", "MQTT 3.2.2.3.13", "no shared subscriptions behind mount_point", "they work there too"),
    row("disconnect-length", "MQTT-4.13.1-1", "bytes behind a DISCONNECT: 0x82", "0x81"),
    row("disconnect-code", "MQTT-3.14.2-1", "a client may send any code in DISCONNECT", "only those of a client"),
    row("disconnect-will", "MQTT-3.14.4-3", "only DISCONNECT 0x04 leaves the will", "all but 0x00 do"),
    row("no-local-will", "MQTT-3.8.3-3", "a will comes back to its client", "not with No Local"),
    row("take-over-will", "MQTT 3.1.3.2.2", "mostly discarded", "discarded only if delayed and the session goes on"),
    row("will-delay", "MQTT-3.1.3-9", "goes on behind the end of the session", "ends with the session"),
    row("receive-maximum", "MQTT-3.3.4-7", "what exceeds it is refused", "DISCONNECT 0x93"),
    row("publish-empty-topic", "MQTT 3.3.2.1", "v5: DISCONNECT 0x81", "DISCONNECT 0x82"),
    row("topic-alias-zero", "MQTT 3.3.4", "DISCONNECT 0x82", "DISCONNECT 0x94"),
    row("topic-depth", "MQTT 4.7.3", "more than 201 levels are malformed", "not accepted: 0x90, or 0x8F for a filter"),
    row("publish-too-large", "MQTT-3.4.2-1", "PUBACK and PUBREC 0x95", "0x97, which those packets have"),
    row("qos2-repeat", "MQTT-4.3.3-10", "repeats are counted, and compared", "the identifier alone decides until PUBREL"),
    row("packet-id-unknown", "MQTT 3.6.2.1", "PUBREL and PUBCOMP with success", "v5: with 0x92"),
    row("message-expiry-zero", "MQTT-3.3.2-5", "an expiry of 0 is none", "it is no more than the moment"),
    row("overlapping", "MQTT311-3.3.5-1", "allow_duplicate_messages false: the first QoS found", "every copy is sent"),
    row("upgrade-qos", "MQTT-3.8.4-8", "upgrade_outgoing_qos raises the QoS", "it has no effect"),
    row("keepalive-progress", "MQTT-3.1.2-22", "a growing packet counts", "only whole packets count"),
];

/// The bit of the first byte that marks what is sent again.
const DUP: u8 = 8;

/// What `strict_conformance` leaves as it is, by name and rule: it would be unsafe, or cannot be told or known.
pub const LIMITS: &[(&str, &str)] = &[
    ("no-local-retained", "MQTT-3.8.3-3"),
    ("queue-limits", "MQTT-4.5.0-1"),
    ("depth-limit", "MQTT 4.7.3"),
    ("connect-size", "MQTT 3.1"),
    ("v31-suback", "MQTT31-3.9"),
    ("reload-will", "MQTT-3.1.2-8"),
    ("expiry-seconds", "MQTT-3.3.2-5"),
];

/// The first byte of a packet as it is decoded: in MQTT 3.1 DUP marks a SUBSCRIBE or UNSUBSCRIBE that is sent again.
pub(super) fn first_byte(strict: bool, version: ProtocolVersion, first: u8) -> u8 {
    match first & !DUP {
        plain @ (0x82 | 0xA2) if strict && version == ProtocolVersion::V31 => plain,
        _ => first,
    }
}

/// What a connected v5 client is told in DISCONNECT.
pub(super) fn disconnect_code(strict: bool, reason: &CloseReason) -> Option<ReasonCode> {
    match reason {
        CloseReason::Decode(error) if strict => Some(error.strict_reason()),
        _ => reason.code(),
    }
}

/// The end of the line `Client ID [ADDR:PORT] …`, with the cause that the code names.
pub(super) fn log_tail(strict: bool, reason: &CloseReason) -> String {
    match reason {
        CloseReason::Decode(error) if strict => format!("disconnected: {}", error.strict_ending()),
        _ => reason.to_string(),
    }
}

/// The CONNACK for a CONNECT that cannot be read.
pub(super) fn connack(strict: bool, failed: &ConnectError) -> Option<ConnackForm> {
    match failed.error {
        _ if !strict => failed.answer,
        // Below 3 nobody speaks version 5, and with the bridge bit it is an older Mosquitto, which then tries without.
        DecodeError::Connect(ConnectFault::Level(0..=2 | 0x83 | 0x84)) => Some(ConnackForm::V3(1)),
        error if failed.version == Some(ProtocolVersion::V5) => Some(ConnackForm::V5(error.strict_reason())),
        _ => failed.answer,
    }
}

/// The CONNACK for a CONNECT that is refused with `code`, in the form of the client's version.
pub(super) fn refusal(
    strict: bool,
    version: ProtocolVersion,
    refusal: Refusal,
    code: Option<ReasonCode>,
) -> Option<ConnackForm> {
    if version == ProtocolVersion::V5 {
        let empty = strict && refusal == Refusal::EmptyClientId;
        return if empty { Some(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID) } else { code }.map(ConnackForm::V5);
    }
    match refusal {
        // No code of MQTT 3 says this [MQTT311-3.2.2-6].
        Refusal::Keepalive | Refusal::WillPayload if strict => None,
        Refusal::TooManyClients if strict => ReasonCode::SERVER_UNAVAILABLE.v3_connack().map(ConnackForm::V3),
        _ => code?.v3_connack().map(ConnackForm::V3),
    }
}

/// The code for a client that may not connect, and whether it gave a user name.
pub(super) fn not_authorised(strict: bool, version: ProtocolVersion, user: bool) -> ReasonCode {
    // In 3.1.1 code 4 stands for a malformed user name, in 3.1 for a wrong one.
    if strict && user && version != ProtocolVersion::V311 {
        ReasonCode::BAD_USER_NAME_OR_PASSWORD
    } else {
        ReasonCode::NOT_AUTHORIZED
    }
}

/// Why a client id without the prefix that `clientid_prefixes` demands is refused.
pub(super) fn prefix_refused(strict: bool) -> (Option<ReasonCode>, Refusal) {
    if strict {
        (Some(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID), Refusal::ClientId)
    } else {
        (Some(ReasonCode::NOT_AUTHORIZED), Refusal::NotAuthorised)
    }
}

/// True when the client id is longer than MQTT 3.1 permits.
pub(super) fn client_id_too_long(strict: bool, version: ProtocolVersion, client_id: &str) -> bool {
    strict && version == ProtocolVersion::V31 && client_id.chars().nth(23).is_some()
}

/// True when a client may send `code` in DISCONNECT [MQTT-3.14.2-1].
pub(super) fn permits_disconnect(strict: bool, code: ReasonCode) -> bool {
    !strict || matches!(code.0, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99)
}

/// True when a DISCONNECT with `code` leaves the will to be published.
pub(super) fn leaves_will(strict: bool, code: ReasonCode) -> bool {
    if strict { code != ReasonCode::SUCCESS } else { code == ReasonCode::DISCONNECT_WITH_WILL }
}

/// The code of a PUBACK or PUBREC that refuses.
pub(super) fn publish_refusal(strict: bool, code: ReasonCode) -> ReasonCode {
    if strict && code == ReasonCode::PACKET_TOO_LARGE { ReasonCode::QUOTA_EXCEEDED } else { code }
}

/// The code of a PUBREL or PUBCOMP for a packet identifier that is not known.
pub(super) fn unknown_id(strict: bool) -> ReasonCode {
    if strict { ReasonCode::PACKET_IDENTIFIER_NOT_FOUND } else { ReasonCode::SUCCESS }
}

/// The code of a topic filter that is not valid; `None` ends the connection. MQTT 3.1 has no code for it.
pub(super) fn filter_refusal(strict: bool, version: ProtocolVersion) -> Option<ReasonCode> {
    match version {
        _ if !strict => None,
        ProtocolVersion::V5 => Some(ReasonCode::TOPIC_FILTER_INVALID),
        ProtocolVersion::V311 => Some(ReasonCode::UNSPECIFIED),
        ProtocolVersion::V31 => None,
    }
}
