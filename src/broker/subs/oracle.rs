//! What the tests of subscriptions and retained messages compare with.

/// A small generator of test input; the same seed gives the same run.
pub(in crate::broker) struct Random(pub(in crate::broker) u64);

impl Random {
    pub(in crate::broker) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % n
    }

    pub(in crate::broker) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    pub(in crate::broker) fn levels(&mut self, names: &[&str]) -> String {
        let count = 1 + self.below(4);
        let levels: Vec<&str> = (0..count).map(|_| self.pick(names)).collect();
        levels.join("/")
    }
}

/// Whether a topic matches a filter, in the plainest way.
pub(in crate::broker) fn matches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            ([f, filter @ ..], [t, topic @ ..]) => (*f == "+" || f == t) && levels(filter, topic),
            _ => false,
        }
    }
    let (filter, topic): (Vec<&str>, Vec<&str>) = (filter.split('/').collect(), topic.split('/').collect());
    !(topic[0].starts_with('$') && (filter[0] == "+" || filter[0] == "#")) && levels(&filter, &topic)
}
