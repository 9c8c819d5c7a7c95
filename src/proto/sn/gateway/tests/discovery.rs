//! ADVERTISE, SEARCHGW and GWINFO [SN 6.1].

use super::*;

const SEARCH: Message<'static> = Message::SearchGw { radius: 1 };
const HERE: Message<'static> = Message::GwInfo { gateway_id: 7, address: &[] };
const GROUP: &str = "allow_anonymous true\nmqttsn_gateway_id 7\nmqttsn_multicast_group 225.1.1.1\n";

/// [SN 6.1]
#[test]
fn a_search_is_answered_where_the_options_say() {
    for (reply, unicast, multicast) in
        [("unicast", true, false), ("multicast", false, true), ("both", true, true), ("none", false, false)]
    {
        let mut world = World::with(&format!("{GROUP}mqttsn_search_reply {reply}"));
        world.ask(1, SEARCH, if unicast { &[HERE] } else { &[] });
        let groups = std::mem::take(&mut world.groups);
        assert_eq!(groups, if multicast { vec![bytes(&HERE)] } else { vec![] }, "{reply}");
    }
    // No larger than the question, and not without end.
    assert!(bytes(&HERE).len() <= bytes(&SEARCH).len());
    let mut world = World::with(GROUP);
    for _ in 0..100 {
        world.send(1, SEARCH);
    }
    assert_eq!(world.take(1).len(), 5);
    // From a client too.
    world.join(2, "dev");
    world.ask(2, SEARCH, &[HERE]);
}

/// [SN 6.1]
#[test]
fn the_gateway_advertises_itself_every_interval() {
    let mut world = World::with(&format!("{GROUP}mqttsn_advertise_interval 900\nmax_connections 1"));
    world.settle();
    let advert = bytes(&Message::Advertise { gateway_id: 7, duration_s: 900 });
    assert_eq!(std::mem::take(&mut world.groups), std::slice::from_ref(&advert));
    world.wait(899_000);
    assert!(world.groups.is_empty());
    world.wait(1_000);
    assert_eq!(std::mem::take(&mut world.groups), std::slice::from_ref(&advert));
    // Only while somebody could come in.
    world.ask(1, connect("dev", true, 0), &[ACCEPTED]);
    world.wait(900_000);
    assert!(world.groups.is_empty());
    world.ask(1, GOODBYE, &[GOODBYE]);
    world.wait(900_000);
    assert_eq!(std::mem::take(&mut world.groups), [advert]);
}

/// [SN 6.1]
#[test]
fn other_gateways_are_none_of_our_business() {
    let mut world = World::with(GROUP);
    for gateway_id in [7, 8] {
        world.ask(1, Message::Advertise { gateway_id, duration_s: 9 }, &[]);
        world.ask(1, Message::GwInfo { gateway_id, address: &[] }, &[]);
    }
}

/// Section 3.10 of the reference: a group is never told that its sender is unknown.
#[test]
fn what_came_by_multicast_gets_no_disconnect() {
    let mut world = World::with(GROUP);
    let arrival = Arrival { socket: 0, door: 0, from: World::at(1), multicast: true };
    let ping = bytes(&Message::Pingreq { client_id: b"" });
    world.turn(|gateway, turn| gateway.on_datagram(turn, arrival, &ping));
    world.expect(1, &[]);
    let search = bytes(&SEARCH);
    world.turn(|gateway, turn| gateway.on_datagram(turn, arrival, &search));
    world.expect(1, &[HERE]);
}
