//! Rows of MQTT-SN that do more than put a value into their field.

use super::{Done, blank, done, set, words};
use crate::config::current::Cursor;
use crate::config::error::ErrorKind;
use crate::config::parse::Parser;
use crate::config::{Group, Network, SearchReply, SocketDomain, value};

/// Adverts more often than this cost the devices more than they are worth [SN 7.2].
const SELDOM_S: u16 = 900;

pub(in crate::config) fn gateway_id(p: &mut Parser, n: i32) -> Done {
    set(&mut p.listener().sn.gateway_id, u8::try_from(n).map_err(|_| ErrorKind::Range(n.into()))?)
}

pub(in crate::config) fn multicast_ttl(p: &mut Parser, n: i32) -> Done {
    set(&mut p.listener().sn.multicast_ttl, u8::try_from(n).map_err(|_| ErrorKind::Range(n.into()))?)
}

pub(in crate::config) fn max_retries(p: &mut Parser, n: i32) -> Done {
    set(&mut p.config.global.sn.max_retries, u8::try_from(n).map_err(|_| ErrorKind::Range(n.into()))?)
}

pub(in crate::config) fn rate_limit(p: &mut Parser, n: i32) -> Done {
    set(&mut p.listener().sn.rate_limit, super::size(n))
}

pub(in crate::config) fn advertise_interval(p: &mut Parser, n: i32) -> Done {
    let interval = u16::try_from(n).map_err(|_| ErrorKind::Range(n.into()))?;
    if (1..SELDOM_S).contains(&interval) {
        p.warn("An ADVERTISE more often than every 900 seconds is against the advice of MQTT-SN.");
    }
    set(&mut p.listener().sn.advertise_interval, interval)
}

pub(in crate::config) fn search_reply(p: &mut Parser, word: &str) -> Done {
    let reply = match word {
        "multicast" => SearchReply::Multicast,
        "both" => SearchReply::Both,
        "none" => SearchReply::None,
        _ => SearchReply::Unicast,
    };
    set(&mut p.listener().sn.search_reply, reply)
}

/// `mqttsn_multicast_group`: one or more groups.
pub(in crate::config) fn multicast_group(p: &mut Parser, rest: &str) -> Done {
    for word in words(rest) {
        let group = Group::parse(word).ok_or_else(|| ErrorKind::Invalid(word.into()))?;
        p.listener().sn.multicast_groups.push(group);
    }
    done()
}

/// RSMB's `advertise GROUP:PORT INTERVAL GWID`.
pub(in crate::config) fn advertise(p: &mut Parser, rest: &str) -> Done {
    let all: Vec<&str> = words(rest).collect();
    let [group, interval, id] = all[..] else { return Err(ErrorKind::Invalid(rest.into())) };
    let group = Group::parse(group).ok_or_else(|| ErrorKind::Invalid(group.into()))?;
    let (interval, id) = (value::integer(interval)?, value::integer(id)?);
    advertise_interval(p, interval)?;
    gateway_id(p, id)?;
    let groups = &mut p.listener().sn.multicast_groups;
    if !groups.contains(&group) {
        groups.push(group);
    }
    done()
}

/// RSMB's `ipv6`.
pub(in crate::config) fn ipv6(p: &mut Parser, on: bool) -> Done {
    if on { set(&mut p.listener().socket_domain, SocketDomain::Ipv6) } else { done() }
}

fn networks(rest: &str) -> Result<Vec<Network>, ErrorKind> {
    let network = |word: &str| Network::parse(word).ok_or_else(|| ErrorKind::Invalid(word.into()));
    words(rest).flat_map(|word| word.split(',')).filter(|word| !word.is_empty()).map(network).collect()
}

pub(in crate::config) fn allow_from(p: &mut Parser, rest: &str) -> Done {
    let networks = networks(rest)?;
    p.listener().sn.allow_from.extend(networks);
    done()
}

/// `mqttsn_allow_forwarder`: a switch or networks.
pub(in crate::config) fn allow_forwarder(p: &mut Parser, rest: &str) -> Done {
    let networks = match value::boolean(rest.split(blank).next().unwrap_or_default()) {
        Ok(true) => vec![Network::ALL],
        Ok(false) => Vec::new(),
        Err(_) => networks(rest)?,
    };
    set(&mut p.listener().sn.forwarders, networks)
}

/// `mqttsn_predefined_topic ID TOPIC`: after a listener for it, before the first for all.
pub(in crate::config) fn predefined_topic(p: &mut Parser, rest: &str) -> Done {
    let (id, topic) = rest.split_once(blank).ok_or_else(|| ErrorKind::Invalid(rest.into()))?;
    let topic = topic.trim_ascii();
    let number = value::integer(id)?;
    let id =
        u16::try_from(number).ok().filter(|id| (1..=0xFFFE).contains(id)).ok_or(ErrorKind::Range(number.into()))?;
    value::check_text(topic)?;
    crate::wire::topic::check_name(topic).map_err(|_| ErrorKind::Invalid(topic.into()))?;
    let topics = match p.cursor {
        Cursor::Listener(_) => &mut p.listener().sn.predefined_topics,
        Cursor::None | Cursor::Default => &mut p.config.global.sn.predefined_topics,
    };
    if topics.iter().any(|(other, name)| *other == id && name != topic) {
        return Err(ErrorKind::Other(format!("The predefined topic id {id} has another name already.")));
    }
    topics.push((id, topic.into()));
    done()
}

/// `mqttsn_predefined_topics_file`, likewise.
pub(in crate::config) fn predefined_topics_file(p: &mut Parser, path: &str) -> Done {
    match p.cursor {
        Cursor::Listener(_) => p.listener().sn.predefined_topics_file = Some(path.into()),
        Cursor::None | Cursor::Default => p.config.global.sn.predefined_topics_file = Some(path.into()),
    }
    done()
}
