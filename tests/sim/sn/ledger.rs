//! What has to come true: who published what, and who got it.

use std::collections::BTreeMap;

use mosquitto::wire::QoS;

/// A published message; its number stands in its payload.
pub(super) struct Message {
    pub(super) publisher: usize,
    pub(super) qos: QoS,
    /// The publisher has its acknowledgement.
    pub(super) acknowledged: bool,
}

/// Where a will stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Will {
    /// Its device is connected, or was never.
    Held,
    /// Its device said goodbye and got an answer.
    Void,
    /// Its device died.
    Due,
    /// Nobody can know.
    Either,
}

/// Books of a run.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) messages: Vec<Message>,
    pub(super) wills: Vec<Will>,
    pub(super) wills_seen: BTreeMap<usize, usize>,
}

impl Ledger {
    /// A new message, as its payload.
    pub(super) fn publish(&mut self, publisher: usize, qos: QoS) -> (usize, Vec<u8>) {
        self.messages.push(Message { publisher, qos, acknowledged: false });
        let number = self.messages.len() - 1;
        (number, u32::try_from(number).unwrap().to_be_bytes().into())
    }

    /// What somebody that kept its session and subscribed with `max` must have got, and how often.
    pub(super) fn check(&self, who: &str, got: &[usize], max: QoS) {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        got.iter().for_each(|number| *counts.entry(*number).or_default() += 1);
        for (number, message) in self.messages.iter().enumerate() {
            let count = counts.get(&number).copied().unwrap_or(0);
            let Message { publisher, qos, acknowledged } = message;
            let what = format!("{who}: message {number} from {publisher} with {qos:?} came {count} times");
            if *qos == QoS::ExactlyOnce && max == QoS::ExactlyOnce {
                assert!(count <= 1, "{what}");
            }
            if *acknowledged && *qos != QoS::AtMostOnce && max != QoS::AtMostOnce {
                assert!(count >= 1, "{what}");
            }
        }
    }

    /// What came of the wills. Where datagrams get lost, a device may have been given up before its goodbye, and its set-up may
    /// have been begun again with the same will.
    pub(super) fn check_wills(&self, lossy: bool) {
        for (number, will) in self.wills.iter().enumerate() {
            let count = self.wills_seen.get(&number).copied().unwrap_or(0);
            let fits = match will {
                Will::Held => count == 0,
                Will::Void => lossy || count == 0,
                Will::Due => count == 1 || (lossy && count > 1),
                Will::Either => lossy || count <= 1,
            };
            assert!(fits, "will {number} is {will:?} and came {count} times");
        }
    }
}
