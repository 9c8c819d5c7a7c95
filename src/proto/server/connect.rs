//! CONNECT: who may come in, and with what.

use super::login::{Gate, Known};
use super::strict::Announcement;
use super::{Handled, Phase, Server};
use crate::broker::auth::access::RulesId;
use crate::broker::auth::login::Proof;
use crate::broker::will::Will;
use crate::broker::{ConnectRefused, ConnectRequest, NEVER};
use crate::proto::close::Refusal;
use crate::proto::{CloseReason, Turn, conformance};
use crate::wire::connect::{self, ConnackForm, ConnackProps, Connect, encode_connack};
use crate::wire::{ProtocolVersion, QoS, ReasonCode, topic};

/// What CONNECT is refused with: what the client is told, if anything, and why.
pub(super) type Refused = (Option<ReasonCode>, Refusal);

impl Server {
    pub(super) fn on_connect(&mut self, turn: &mut Turn<'_>, first: u8, body: &[u8]) -> Handled {
        let connect = match connect::decode_with(first, body, turn.strict()) {
            Ok(connect) => connect,
            Err(failed) => {
                if let Some(form) = conformance::connack(turn.strict(), &failed) {
                    self.send_refusal(turn, &self.peer.host().to_string(), form);
                }
                return Err(failed.error.into());
            }
        };
        turn.broker.stats.connects += 1;
        self.version = connect.version;
        self.decide(turn, (first, body), &connect, &Known::Nothing)
    }

    /// Answers a CONNECT that is refused.
    pub(super) fn turn_away(&mut self, turn: &mut Turn<'_>, connect: &Connect<'_>, refused: Refused) -> Handled {
        let (code, refusal) = refused;
        let name =
            if connect.client_id.is_empty() { self.peer.host().to_string() } else { connect.client_id.to_string() };
        self.max_packet_out = connect.max_packet_size.unwrap_or(0);
        if let Some(form) = conformance::refusal(turn.strict(), self.version, refusal, code) {
            self.send_refusal(turn, &name, form);
        }
        Err(CloseReason::Refused { refusal, client_id: connect.client_id.into() })
    }

    fn send_refusal(&mut self, turn: &mut Turn<'_>, name: &str, form: ConnackForm) {
        let code = match form {
            ConnackForm::V3(code) => code,
            ConnackForm::V5(code) => code.0,
        };
        log::debug!("Sending CONNACK to {name} (0, {code})");
        let props = ConnackProps { maximum_qos: maximum_qos(turn), ..ConnackProps::default() };
        self.write(turn, |out, _| encode_connack(out, form, false, &props));
    }

    /// Checks a well-formed CONNECT against the configuration, in the order of C Mosquitto, and connects its session, or
    /// says what has to happen before. May be called again with what is known by then.
    pub(super) fn accept(
        &mut self,
        turn: &mut Turn<'_>,
        connect: &Connect<'_>,
        known: &Known,
    ) -> Result<Gate, Refused> {
        self.check_form(turn, connect)?;
        let (global, listener) = (&turn.config.global, turn.listener);

        let mut generated = None;
        if connect.client_id.is_empty() && !listener.use_username_as_clientid {
            check_empty_client_id(turn, connect)?;
            let prefix = listener.auto_id_prefix.as_deref().unwrap_or(&global.auto_id_prefix);
            generated = Some(turn.broker.generate_client_id(prefix));
        }
        let mut client_id = generated.as_deref().unwrap_or(connect.client_id);
        if let Some(prefix) = &global.clientid_prefixes
            && !client_id.starts_with(prefix.as_str())
        {
            return Err(conformance::prefix_refused(turn.strict()));
        }
        if conformance::client_id_too_long(turn.strict(), connect.version, client_id) {
            return Err((Some(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID), Refusal::ClientId));
        }
        if let (Some(method), Known::Nothing | Known::Checked(_)) = (connect.auth_method, known) {
            return self.begin_exchange(turn, method);
        }
        let identity = self.identity_of(turn, known)?;
        let username = identity.as_ref().map(|identity| &*identity.username).or(connect.username);
        let username = username.filter(|name| !name.is_empty());
        if listener.use_username_as_clientid {
            client_id = username.ok_or((Some(ReasonCode::NOT_AUTHORIZED), Refusal::NotAuthorised))?;
        }
        let proof = match identity {
            Some(_) if matches!(known, Known::Exchanged { identity: Some(_), .. }) => Proof::Exchange,
            Some(_) => Proof::Certificate,
            None => match self.log_in(turn, connect, username, known)? {
                Gate::Open(proof) => proof,
                shut => return Ok(shut),
            },
        };
        let server_keepalive = keepalive(turn, connect)?;

        let v5 = connect.version == ProtocolVersion::V5;
        let assigned = connect.client_id.is_empty().then_some(client_id);
        let props = ConnackProps {
            session_expiry: capped_expiry(turn, connect),
            server_keep_alive: server_keepalive,
            topic_alias_maximum: listener.max_topic_alias,
            assigned_client_id: assigned,
            retain_available: (!global.retain_available).then_some(false),
            max_packet_size: (global.max_packet_size != 0).then_some(global.max_packet_size),
            receive_maximum: (global.max_inflight_messages != 0).then_some(global.max_inflight_messages),
            maximum_qos: maximum_qos(turn),
            auth_method: connect.auth_method,
            auth_data: known.last_data(),
        };
        let form = if v5 { ConnackForm::V5(ReasonCode::SUCCESS) } else { ConnackForm::V3(0) };
        let mut connack = Vec::new();
        encode_connack(&mut connack, form, false, &props);
        if connect.max_packet_size.is_some_and(|max| connack.len() > max as usize) {
            return Err((None, Refusal::MaximumPacketSize));
        }

        let expiry_s = match (v5, connect.clean_start) {
            (true, _) => connect.session_expiry.unwrap_or(0),
            (false, true) => 0,
            (false, false) => NEVER,
        };
        let request = ConnectRequest {
            conn: turn.conn,
            client_id,
            username,
            clean_start: connect.clean_start,
            expiry_s,
            version: connect.version,
            bridge: connect.bridge,
            rules: RulesId(listener.rules),
            listener_port: listener.port,
            receive_maximum: connect.receive_maximum,
            will: connect.will.as_ref().map(|will| own_will(turn, will)),
        };
        let connected = turn.broker.connect(turn.now, request).map_err(|refused| match refused {
            ConnectRefused::TooManyClients => (Some(ReasonCode::SERVER_BUSY), Refusal::TooManyClients),
            ConnectRefused::OfBridge => (Some(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID), Refusal::ClientId),
            ConnectRefused::OutOfMemory if v5 => (Some(ReasonCode::QUOTA_EXCEEDED), Refusal::OutOfMemory),
            ConnectRefused::OutOfMemory => (Some(ReasonCode::SERVER_UNAVAILABLE), Refusal::OutOfMemory),
            ConnectRefused::StorageFull if v5 => (Some(ReasonCode::QUOTA_EXCEEDED), Refusal::StorageFull),
            ConnectRefused::StorageFull => (Some(ReasonCode::SERVER_UNAVAILABLE), Refusal::StorageFull),
        })?;

        turn.broker.set_proof(connected.session, proof);
        self.phase = Phase::Live(connected.session);
        // Who needs nothing else out of the ordinary needs no room for it.
        if self.extra.as_ref().is_some_and(|extra| extra.identity.is_some()) {
            self.extra = None;
        }
        self.last_in_ms = turn.now.mono_ms;
        if let Some(method) = connect.auth_method {
            self.extra().method = Some(method.into());
        }
        self.keepalive_s = server_keepalive.unwrap_or(connect.keepalive);
        self.max_packet_out = connect.max_packet_size.unwrap_or(0);
        self.aliases_in = listener.max_topic_alias;
        self.aliases_out = connect.topic_alias_maximum.min(listener.max_topic_alias_broker);
        let present = connected.present && connect.version != ProtocolVersion::V31;
        let announcement = self.announcement(turn, connect, client_id, username, present);
        self.announce_after_close(turn, announcement);
        self.acknowledge(turn, |out, _| encode_connack(out, form, present, &props));
        Ok(Gate::Open(proof))
    }

    /// What can be told without knowing the client: version, authentication method, will.
    fn check_form(&self, turn: &Turn<'_>, connect: &Connect<'_>) -> Result<(), Refused> {
        let (global, listener) = (&turn.config.global, turn.listener);
        if listener.accept_protocol_versions & version_bit(connect.version) == 0 {
            return Err((Some(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION), Refusal::DisallowedFeature));
        }
        let begin = turn.broker.logins.begin;
        if connect.auth_method.is_some_and(|method| begin.is_none_or(|begin| begin(method).is_none())) {
            return Err((Some(ReasonCode::BAD_AUTHENTICATION_METHOD), Refusal::DisallowedFeature));
        }
        let Some(will) = &connect.will else { return Ok(()) };
        // These codes have no v3 form, so a v3 client is closed in silence.
        if topic::check_name(will.topic).is_err() {
            return Err((Some(ReasonCode::TOPIC_NAME_INVALID), Refusal::WillTopic));
        }
        if will.topic.starts_with("$CONTROL/") {
            return Err((Some(ReasonCode::TOPIC_NAME_INVALID), Refusal::WillAccess));
        }
        if will.qos > listener.max_qos {
            return Err((Some(ReasonCode::QOS_NOT_SUPPORTED), Refusal::DisallowedFeature));
        }
        if will.retain && !global.retain_available {
            return Err((Some(ReasonCode::RETAIN_NOT_SUPPORTED), Refusal::DisallowedFeature));
        }
        if global.message_size_limit != 0 && will.payload.len() > global.message_size_limit as usize {
            return Err((Some(ReasonCode::PACKET_TOO_LARGE), Refusal::WillPayload));
        }
        Ok(())
    }

    fn announcement(
        &self,
        turn: &Turn<'_>,
        connect: &Connect<'_>,
        client_id: &str,
        username: Option<&str>,
        present: bool,
    ) -> Announcement {
        let kind = if connect.bridge { "bridge" } else { "client" };
        let user = username.map(|name| format!(", u'{name}'")).unwrap_or_default();
        let (peer, version, clean) = (self.peer, connect.version as u8, u8::from(connect.clean_start));
        let connected = turn.config.global.connection_messages.then(|| {
            let keepalive = connect.keepalive;
            format!("New {kind} connected from {peer} as {client_id} (p{version}, c{clean}, k{keepalive}{user}).")
        });
        let will = connect.will.as_ref().map(|will| {
            let (bytes, retain, qos) = (will.payload.len(), u8::from(will.retain), will.qos as u8);
            (format!("Will message specified ({bytes} bytes) (r{retain}, q{qos})."), will.topic.to_owned())
        });
        let connack = format!("Sending CONNACK to {client_id} ({}, 0)", u8::from(present));
        Announcement { connected, will, connack }
    }
}

/// An empty client id is for clients that do not want to be known again, if the configuration lets them
/// [MQTT311-3.1.3-8].
fn check_empty_client_id(turn: &Turn<'_>, connect: &Connect<'_>) -> Result<(), Refused> {
    let allowed = turn.listener.allow_zero_length_clientid.unwrap_or(turn.config.global.allow_zero_length_clientid);
    let code = match connect.version {
        ProtocolVersion::V5 if allowed => return Ok(()),
        ProtocolVersion::V311 if allowed && connect.clean_start => return Ok(()),
        ProtocolVersion::V5 => ReasonCode::UNSPECIFIED,
        ProtocolVersion::V31 | ProtocolVersion::V311 => ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
    };
    Err((Some(code), Refusal::EmptyClientId))
}

/// The keepalive the broker imposes on a v5 client [MQTT-3.2.2-21]; a v3 client that asks for more is refused.
fn keepalive(turn: &Turn<'_>, connect: &Connect<'_>) -> Result<Option<u16>, Refused> {
    let max = turn.config.global.max_keepalive;
    if max == 0 || (1..=max).contains(&connect.keepalive) {
        return Ok(None);
    }
    match connect.version {
        ProtocolVersion::V5 => Ok(Some(max)),
        _ => Err((Some(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID), Refusal::Keepalive)),
    }
}

/// The session expiry that `[conf: persistent_client_expiration]` leaves of a longer one. C Mosquitto does not tell it.
fn capped_expiry(turn: &Turn<'_>, connect: &Connect<'_>) -> Option<u32> {
    let cap = turn.config.global.persistent_client_expiration.filter(|_| turn.strict())?;
    (connect.session_expiry? > cap).then_some(cap)
}

fn maximum_qos(turn: &Turn<'_>) -> Option<u8> {
    (turn.listener.max_qos != QoS::ExactlyOnce).then_some(turn.listener.max_qos as u8)
}

fn version_bit(version: ProtocolVersion) -> u8 {
    match version {
        ProtocolVersion::V31 => 1,
        ProtocolVersion::V311 => 2,
        ProtocolVersion::V5 => 4,
    }
}

fn own_will(turn: &Turn<'_>, will: &connect::Will<'_>) -> Will {
    let mount = turn.listener.mount_point.as_deref().unwrap_or_default();
    Will {
        topic: format!("{mount}{}", will.topic).into(),
        payload: will.payload.into(),
        props: will.props.forwardable().into(),
        qos: will.qos,
        retain: will.retain,
        delay_s: will.delay_s,
        expiry_s: will.expiry,
    }
}
