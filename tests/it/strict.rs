//! x
use crate::broker::Broker;
use crate::packet_cases;

#[test]
fn packet_cases_by_the_letter() {
    let Some(groups) = packet_cases::load() else { return };
    let broker = Broker::start_with("strict_conformance true");
    let (_, failures) = packet_cases::run_all(broker.addr(), &groups, true);
    for (a, b) in failures { println!("D {a} :: {}", b.replace('\n', " ")); }
    panic!();
}
