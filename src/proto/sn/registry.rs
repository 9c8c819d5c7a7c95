//! The topic ids of one client [SN 6.5]: which names it and the gateway have numbers for.
//!
//! One byte string holds the entries back to back, oldest first, because most clients have one or two and there may be very
//! many clients: flags, id and length, five octets, then the name as the client writes it. A table is searched from its
//! start; it is short, and a bound keeps it so.

/// The client knows the id on this connection, so a PUBLISH may use it.
const KNOWN: u8 = 1;
/// The client refused the name; nothing of this topic is sent to it any more on this connection.
const REFUSED: u8 = 2;
/// Only we needed it: it may give way to another name.
const OURS: u8 = 4;
/// A predefined id that the client subscribed to, so messages with this name carry that id.
const PREDEFINED: u8 = 8;

const HEAD: usize = 5;
/// The largest id; 0xFFFF is reserved [SN 5.3.11].
const LAST_ID: u16 = 0xFFFE;

/// What is known of a name or an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry<'a> {
    pub(super) id: u16,
    pub(super) name: &'a str,
    flags: u8,
}

impl Entry<'_> {
    pub(super) fn is_known(&self) -> bool {
        self.flags & KNOWN != 0
    }

    pub(super) fn is_refused(&self) -> bool {
        self.flags & REFUSED != 0
    }
}

/// Why a name gets an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    /// The client asked, by REGISTER or SUBSCRIBE: it learns the id with the answer.
    Client,
    /// A message is to be delivered: the client learns it by a REGISTER of ours.
    Delivery,
}

/// See the module documentation. Empty, it allocates nothing.
#[derive(Default, Debug)]
pub(super) struct Registry {
    table: Box<[u8]>,
}

impl Registry {
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Every entry with its place in the table.
    fn iter(&self) -> impl Iterator<Item = (usize, Entry<'_>)> {
        let mut at = 0usize;
        std::iter::from_fn(move || {
            let [flags, high, low, len_high, len_low, rest @ ..] = self.table.get(at..)? else { return None };
            let len = usize::from(u16::from_be_bytes([*len_high, *len_low]));
            let name = core::str::from_utf8(rest.get(..len)?).unwrap_or_default();
            let here = at;
            at = at.saturating_add(HEAD).saturating_add(len);
            Some((here, Entry { id: u16::from_be_bytes([*high, *low]), name, flags: *flags }))
        })
    }

    fn normal(&self) -> impl Iterator<Item = (usize, Entry<'_>)> {
        self.iter().filter(|(_, entry)| entry.flags & PREDEFINED == 0)
    }

    /// Normal ids in the table.
    pub(super) fn len(&self) -> usize {
        self.normal().count()
    }

    /// The entry of a normal id.
    pub(super) fn by_id(&self, id: u16) -> Option<Entry<'_>> {
        self.normal().map(|(_, entry)| entry).find(|entry| entry.id == id)
    }

    /// The entry of a name.
    pub(super) fn by_name(&self, name: &str) -> Option<Entry<'_>> {
        self.normal().map(|(_, entry)| entry).find(|entry| entry.name == name)
    }

    /// The predefined ids with this name that the client subscribed to.
    pub(super) fn predefined(&self, name: &str) -> impl Iterator<Item = u16> {
        self.iter().filter(move |(_, e)| e.flags & PREDEFINED != 0 && e.name == name).map(|(_, e)| e.id)
    }

    /// The id of a name, the same as before or a new one. `None` when the table has `max` names already and none of them may
    /// give way.
    pub(super) fn assign(&mut self, name: &str, wish: Wish, max: usize) -> Option<u16> {
        let found = self.normal().find(|(_, entry)| entry.name == name).map(|(at, entry)| (at, entry.id));
        if let Some((at, id)) = found {
            if wish == Wish::Client {
                self.change(at, |flags| (flags | KNOWN) & !(OURS | REFUSED));
            }
            return Some(id);
        }
        if self.len() >= max {
            // The oldest that only deliveries needed: the client is told of a new id before it is used.
            let (at, len) = self.normal().find(|(_, e)| e.flags & OURS != 0).map(|(at, e)| (at, e.name.len()))?;
            self.drop_entry(at, len);
        }
        let id = self.free_id()?;
        let flags = if wish == Wish::Client { KNOWN } else { OURS };
        self.append(flags, id, name)?;
        Some(id)
    }

    /// The next id that is not in use: one that was given up is not used again soon.
    fn free_id(&self) -> Option<u16> {
        // The newest stands last.
        let mut id = self.normal().last().map_or(0, |(_, entry)| entry.id);
        for _ in 0..LAST_ID {
            id = if id >= LAST_ID { 1 } else { id.saturating_add(1) };
            if self.by_id(id).is_none() {
                return Some(id);
            }
        }
        None
    }

    fn append(&mut self, flags: u8, id: u16, name: &str) -> Option<()> {
        let len = u16::try_from(name.len()).ok()?;
        let mut table = std::mem::take(&mut self.table).into_vec();
        // No more than needed: one name is what most clients have.
        table.reserve_exact(HEAD.saturating_add(name.len()));
        table.push(flags);
        table.extend_from_slice(&id.to_be_bytes());
        table.extend_from_slice(&len.to_be_bytes());
        table.extend_from_slice(name.as_bytes());
        self.table = table.into();
        Some(())
    }

    /// Removes the entry at this place, whose name has so many bytes.
    fn drop_entry(&mut self, at: usize, len: usize) {
        let mut table = std::mem::take(&mut self.table).into_vec();
        table.drain(at..at.saturating_add(HEAD).saturating_add(len));
        self.table = table.into();
    }

    /// Notes that the client subscribed to a predefined id; false when the table is full.
    pub(super) fn use_predefined(&mut self, id: u16, name: &str, max: usize) -> bool {
        let is_this = |e: &Entry<'_>| e.flags & PREDEFINED != 0 && e.id == id;
        if self.iter().any(|(_, e)| is_this(&e) && e.name == name) {
            return true;
        }
        self.forget_predefined(id);
        if self.iter().count() >= max {
            return false;
        }
        self.append(PREDEFINED, id, name).is_some()
    }

    /// The opposite.
    pub(super) fn forget_predefined(&mut self, id: u16) {
        let found = self.iter().find(|(_, e)| e.flags & PREDEFINED != 0 && e.id == id);
        if let Some((at, len)) = found.map(|(at, e)| (at, e.name.len())) {
            self.drop_entry(at, len);
        }
    }

    fn change(&mut self, at: usize, what: impl FnOnce(u8) -> u8) {
        if let Some(flags) = self.table.get_mut(at) {
            *flags = what(*flags);
        }
    }

    fn change_id(&mut self, id: u16, what: impl FnOnce(u8) -> u8) {
        let found = self.normal().find(|(_, entry)| entry.id == id).map(|(at, _)| at);
        if let Some(at) = found {
            self.change(at, what);
        }
    }

    /// The client has taken our REGISTER.
    pub(super) fn set_known(&mut self, id: u16) {
        self.change_id(id, |flags| flags | KNOWN);
    }

    /// The client does not know the id any more; it has to be registered again.
    pub(super) fn set_unknown(&mut self, id: u16) {
        self.change_id(id, |flags| flags & !KNOWN);
    }

    /// The client does not want the name.
    pub(super) fn set_refused(&mut self, id: u16) {
        self.change_id(id, |flags| (flags | REFUSED) & !KNOWN);
    }

    /// A new connection of the same session: the client may have lost its table, so each name is registered again before it
    /// is used, under the same id. Which predefined ids it subscribed to stays.
    pub(super) fn reconnect(&mut self) {
        let places: Vec<usize> = self.normal().map(|(at, _)| at).collect();
        places.into_iter().for_each(|at| self.change(at, |flags| flags & !(KNOWN | REFUSED)));
    }

    /// Bytes it has allocated.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [SN 6.5]
    #[test]
    fn a_name_has_one_id_and_an_id_one_name() {
        let mut registry = Registry::default();
        assert_eq!(registry.assign("a/b", Wish::Client, 10), Some(1));
        assert_eq!(registry.assign("c", Wish::Delivery, 10), Some(2));
        assert_eq!(registry.assign("a/b", Wish::Client, 10), Some(1));
        assert_eq!(registry.assign("c", Wish::Delivery, 10), Some(2));
        assert!(registry.by_id(1).unwrap().is_known());
        assert!(!registry.by_name("c").unwrap().is_known());
        assert_eq!((registry.by_id(2).unwrap().name, registry.by_id(3), registry.len()), ("c", None, 2));
        registry.set_known(2);
        assert!(registry.by_id(2).unwrap().is_known());
        registry.set_unknown(1);
        assert!(!registry.by_id(1).unwrap().is_known());
        registry.set_refused(2);
        let refused = registry.by_id(2).unwrap();
        assert!(refused.is_refused() && !refused.is_known());
        // The client asks for it itself: it wants it after all.
        registry.assign("c", Wish::Client, 10);
        assert!(!registry.by_id(2).unwrap().is_refused() && registry.by_id(2).unwrap().is_known());
    }

    /// [SN 6.5], section 3.4 of the reference: pairs stay, but each has to be registered again.
    #[test]
    fn a_new_connection_keeps_the_pairs() {
        let mut registry = Registry::default();
        for name in ["a", "b"] {
            registry.assign(name, Wish::Client, 10);
        }
        registry.set_refused(2);
        assert!(registry.use_predefined(7, "p", 10));
        registry.reconnect();
        assert_eq!(registry.by_id(1).map(|e| (e.name, e.is_known())), Some(("a", false)));
        assert!(!registry.by_id(2).unwrap().is_refused());
        assert_eq!(registry.predefined("p").collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn a_full_table_keeps_what_the_client_asked_for() {
        let mut registry = Registry::default();
        registry.assign("mine", Wish::Client, 3);
        registry.assign("one", Wish::Delivery, 3);
        registry.assign("two", Wish::Delivery, 3);
        assert_eq!(registry.assign("three", Wish::Delivery, 3), Some(4), "in place of the oldest");
        assert_eq!((registry.by_name("one"), registry.by_name("mine").map(|e| e.id)), (None, Some(1)));
        assert_eq!(registry.assign("four", Wish::Client, 3), Some(5));
        assert_eq!(registry.assign("five", Wish::Client, 3), Some(6));
        assert_eq!(registry.assign("six", Wish::Client, 3), None);
        assert_eq!(registry.assign("six", Wish::Delivery, 3), None);
        assert_eq!(registry.len(), 3);
    }

    #[test]
    fn ids_go_round_without_0_and_0xffff() {
        let mut registry = Registry::default();
        registry.append(KNOWN, 1, "first");
        registry.append(KNOWN, 0xFFFD, "late");
        assert_eq!(registry.assign("a", Wish::Client, 10), Some(0xFFFE));
        assert_eq!(registry.assign("b", Wish::Client, 10), Some(2), "1 is in use");
    }

    /// [SN 5.3.11]: two name spaces.
    #[test]
    fn predefined_ids_are_apart_from_normal_ones() {
        let mut registry = Registry::default();
        assert!(registry.use_predefined(1, "p", 2));
        assert!(registry.use_predefined(1, "p", 2));
        assert_eq!(registry.assign("p", Wish::Client, 2), Some(1));
        assert_eq!(registry.len(), 1);
        assert!(!registry.use_predefined(2, "q", 2), "full");
        assert!(registry.use_predefined(1, "other", 2), "the file says something else now");
        assert_eq!((registry.predefined("p").count(), registry.predefined("other").count()), (0, 1));
        registry.forget_predefined(1);
        assert_eq!(registry.predefined("other").count(), 0);
        assert_eq!(registry.by_id(1).map(|e| e.name), Some("p"));
    }

    #[test]
    fn one_name_takes_little() {
        let mut registry = Registry::default();
        registry.assign("sensors/kitchen", Wish::Client, 10);
        assert_eq!(registry.capacity(), HEAD + 15);
    }

    #[test]
    fn random_use_agrees_with_a_map() {
        let mut state = 9u32;
        let mut below = |n: u32| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state % n
        };
        let (mut registry, mut model) = (Registry::default(), std::collections::BTreeMap::new());
        for _ in 0..5000 {
            let name = format!("n{}", below(40));
            let id = registry.assign(&name, Wish::Client, 30);
            match (model.get(&name), id) {
                (Some(known), Some(id)) => assert_eq!(*known, id),
                (None, Some(id)) => {
                    assert!(model.values().all(|other| *other != id));
                    model.insert(name, id);
                }
                (known, None) => assert!(known.is_none() && model.len() == 30),
            }
        }
        for (name, id) in &model {
            assert_eq!(registry.by_id(*id).map(|e| e.name), Some(&name[..]));
        }
        assert_eq!(registry.len(), 30);
    }
}
