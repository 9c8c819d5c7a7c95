//! What is configured about MQTT-SN. Each field is named after its option, without `mqttsn_`.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

/// Options of one listener with `protocol mqtt-sn`.
#[derive(Clone, Debug, PartialEq)]
pub struct SnListener {
    /// `[conf: mqttsn_gateway_id]`.
    pub gateway_id: u8,
    /// `[conf: mqttsn_multicast_group]`, in the order of the file.
    pub multicast_groups: Vec<Group>,
    /// `[conf: mqttsn_multicast_interface]`: the interface of groups that name none.
    pub multicast_interface: Option<String>,
    /// `[conf: mqttsn_multicast_ttl]`.
    pub multicast_ttl: u8,
    /// `[conf: mqttsn_multicast_loopback]`.
    pub multicast_loopback: bool,
    /// `[conf: mqttsn_advertise_interval]` in seconds; 0 is off.
    pub advertise_interval: u16,
    /// `[conf: mqttsn_search_reply]`.
    pub search_reply: SearchReply,
    /// `[conf: mqttsn_predefined_topics_file]` of this listener.
    pub predefined_topics_file: Option<PathBuf>,
    /// `[conf: mqttsn_predefined_topic]` of this listener.
    pub predefined_topics: Vec<(u16, String)>,
    /// `[conf: mqttsn_allow_qos_minus_one]`.
    pub allow_qos_minus_one: bool,
    /// `[conf: mqttsn_qos_minus_one_user]`.
    pub qos_minus_one_user: Option<String>,
    /// `[conf: mqttsn_qos_minus_one_long_names]`.
    pub qos_minus_one_long_names: bool,
    /// `[conf: mqttsn_allow_forwarder]`: networks of forwarders; empty is none.
    pub forwarders: Vec<Network>,
    /// `[conf: mqttsn_allow_from]`: networks of clients; empty is any.
    pub allow_from: Vec<Network>,
    /// `[conf: mqttsn_user]`.
    pub user: Option<String>,
    /// `[conf: mqttsn_use_clientid_as_username]`.
    pub use_clientid_as_username: bool,
    /// `[conf: mqttsn_clients_file]`.
    pub clients_file: Option<PathBuf>,
    /// `[conf: mqttsn_max_send_size]`: bytes of the largest datagram sent.
    pub max_send_size: u16,
    /// `[conf: mqttsn_allow_address_change]`.
    pub allow_address_change: bool,
    /// `[conf: mqttsn_rate_limit]`: datagrams a second of one address and port without a session; 0 is unlimited.
    pub rate_limit: u32,
}

impl Default for SnListener {
    fn default() -> Self {
        SnListener {
            gateway_id: 1,
            multicast_groups: Vec::new(),
            multicast_interface: None,
            multicast_ttl: 1,
            multicast_loopback: false,
            advertise_interval: 0,
            search_reply: SearchReply::Unicast,
            predefined_topics_file: None,
            predefined_topics: Vec::new(),
            allow_qos_minus_one: false,
            qos_minus_one_user: None,
            qos_minus_one_long_names: false,
            forwarders: Vec::new(),
            allow_from: Vec::new(),
            user: None,
            use_clientid_as_username: false,
            clients_file: None,
            max_send_size: 1400,
            allow_address_change: true,
            rate_limit: 200,
        }
    }
}

/// Options of MQTT-SN for the whole broker.
#[derive(Clone, Debug, PartialEq)]
pub struct SnGlobal {
    /// `[conf: mqttsn_predefined_topics_file]` of every listener.
    pub predefined_topics_file: Option<PathBuf>,
    /// `[conf: mqttsn_predefined_topic]` of every listener.
    pub predefined_topics: Vec<(u16, String)>,
    /// `[conf: mqttsn_retry_interval]` in seconds.
    pub retry_interval: u16,
    /// `[conf: mqttsn_max_retries]`.
    pub max_retries: u8,
    /// `[conf: mqttsn_max_inflight]`: QoS 1 and 2 messages under way to one client.
    pub max_inflight: u16,
    /// `[conf: mqttsn_max_topic_ids]` of one client.
    pub max_topic_ids: u16,
    /// `[conf: mqttsn_max_sleep_duration]` in seconds.
    pub max_sleep_duration: u16,
    /// `[conf: mqttsn_queue_qos0_asleep]`.
    pub queue_qos0_asleep: bool,
    /// `[conf: max_mqtts_packet_size]`: bytes of the largest message taken.
    pub max_packet_size: u16,
}

impl Default for SnGlobal {
    fn default() -> Self {
        SnGlobal {
            predefined_topics_file: None,
            predefined_topics: Vec::new(),
            retry_interval: 10,
            max_retries: 3,
            max_inflight: 1,
            max_topic_ids: 1000,
            max_sleep_duration: u16::MAX,
            queue_qos0_asleep: true,
            max_packet_size: u16::MAX,
        }
    }
}

/// `[conf: mqttsn_search_reply]`: where a GWINFO goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchReply {
    /// To whoever asked.
    Unicast,
    /// To the groups.
    Multicast,
    /// To both.
    Both,
    /// Nowhere: SEARCHGW is not answered.
    None,
}

/// A multicast group to join and to advertise in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its address.
    pub ip: IpAddr,
    /// The name of the interface, or an address of it.
    pub interface: Option<String>,
    /// The port that is listened on and advertised to; the listener's own unless given.
    pub port: Option<u16>,
}

impl Group {
    /// `GROUP[%IF][:PORT]`; IPv6 with a port stands in brackets.
    pub(super) fn parse(text: &str) -> Option<Group> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']')?;
                (host, if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) })
            }
            None if text.matches(':').count() == 1 => text.split_once(':').map(|(host, port)| (host, Some(port)))?,
            None => (text, None),
        };
        let (ip, interface) = match host.split_once('%') {
            Some((_, "")) => return None,
            Some((ip, interface)) => (ip, Some(interface.to_owned())),
            None => (host, None),
        };
        let ip: IpAddr = ip.parse().ok().filter(IpAddr::is_multicast)?;
        let port = port.map(|port| port.parse().ok().filter(|port| *port != 0).ok_or(())).transpose().ok()?;
        Some(Group { ip, interface, port })
    }
}

/// A network in CIDR form, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// IPv4 as mapped into IPv6.
    ip: u128,
    mask: u128,
}

impl Network {
    /// Everything.
    pub const ALL: Network = Network { ip: 0, mask: 0 };

    /// One address.
    #[must_use]
    pub fn host(ip: IpAddr) -> Network {
        Network { ip: bits(ip), mask: u128::MAX }
    }

    /// `ADDRESS/BITS`, or an address alone.
    #[must_use]
    pub fn parse(text: &str) -> Option<Network> {
        let Some((ip, len)) = text.split_once('/') else { return text.parse().ok().map(Network::host) };
        let ip: IpAddr = ip.parse().ok()?;
        let (len, most): (u32, u32) = (len.parse().ok()?, if ip.is_ipv4() { 32 } else { 128 });
        let host_bits = most.checked_sub(len)?;
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Some(Network { ip: bits(ip) & mask, mask })
    }

    /// Whether an address is within.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        bits(ip) & self.mask == self.ip
    }
}

fn bits(ip: IpAddr) -> u128 {
    let ip: Ipv6Addr = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    ip.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_they_say() {
        for (network, ip, want) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.1.2.3/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "1.2.3.4", true),
            ("fe80::/10", "fe80::1", true),
            ("fe80::/10", "fd00::1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7/32", "192.0.2.8", false),
            ("::1", "::1", true),
        ] {
            assert_eq!(Network::parse(network).unwrap().contains(ip.parse().unwrap()), want, "{network} {ip}");
        }
        for bad in ["", "x", "1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.4/-1", "1.2.3/8"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
        assert!(Network::ALL.contains("::1".parse().unwrap()));
    }

    #[test]
    fn groups_have_an_interface_and_a_port_if_they_say_so() {
        let group = |ip: &str, interface: Option<&str>, port| {
            Some(Group { ip: ip.parse().unwrap(), interface: interface.map(Into::into), port })
        };
        for (text, want) in [
            ("225.1.1.1", group("225.1.1.1", None, None)),
            ("225.1.1.1:1883", group("225.1.1.1", None, Some(1883))),
            ("225.1.1.1%eth0", group("225.1.1.1", Some("eth0"), None)),
            ("225.1.1.1%eth0:5", group("225.1.1.1", Some("eth0"), Some(5))),
            ("ff02::1", group("ff02::1", None, None)),
            ("ff02::1%wlan0", group("ff02::1", Some("wlan0"), None)),
            ("[ff02::1%wlan0]:7", group("ff02::1", Some("wlan0"), Some(7))),
            ("[ff02::1]", group("ff02::1", None, None)),
            ("10.0.0.1", None),
            ("::1", None),
            ("225.1.1.1%", None),
            ("225.1.1.1:0", None),
            ("225.1.1.1:x", None),
            ("[ff02::1]7", None),
            ("", None),
        ] {
            assert_eq!(Group::parse(text), want, "{text}");
        }
    }
}
