//! The contents of recent messages, to recognise a redelivery by what it says and not by its DUP flag.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// A print is a hash already.
#[derive(Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u128(&mut self, print: u128) {
        self.0 = print as u64;
    }
}

type Prints = HashSet<u128, BuildHasherDefault<AsIs>>;

/// Two generations of prints; the older one is forgotten when the younger is full.
#[derive(Debug, Default)]
pub struct Recent {
    young: Prints,
    old: Prints,
}

impl Recent {
    /// How many messages are remembered at least: twice the largest in-flight window, so what a broker may send again is in here.
    pub const WINDOW: usize = 1 << 17;

    /// The print of a message.
    pub fn print(topic: &[u8], payload: &[u8]) -> u128 {
        xxhash_rust::xxh3::xxh3_128_with_seed(payload, xxhash_rust::xxh3::xxh3_64(topic))
    }

    /// Whether a message of this print was taken lately.
    pub fn contains(&self, print: u128) -> bool {
        self.young.contains(&print) || self.old.contains(&print)
    }

    /// Takes note of a message; whether the same was taken lately.
    pub fn note(&mut self, topic: &[u8], payload: &[u8]) -> bool {
        let print = Self::print(topic, payload);
        let known = self.contains(print);
        self.insert(print);
        known
    }

    /// Takes note of a print.
    pub fn insert(&mut self, print: u128) {
        if self.young.len() >= Self::WINDOW {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(print);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_topic_and_payload_for_at_least_a_window() {
        let mut recent = Recent::default();
        let print = |i: u32| Recent::print(b"t", &i.to_be_bytes());
        recent.insert(print(0));
        assert!(recent.contains(print(0)) && !recent.contains(print(1)));
        assert_ne!(Recent::print(b"t", b"x"), Recent::print(b"u", b"x"));
        (1..=65_535 * 2).for_each(|i| recent.insert(print(i)));
        assert!(recent.contains(print(0)), "forgotten within twice the largest window");
        (0..300_000).for_each(|i| recent.insert(print(1_000_000 + i)));
        assert!(!recent.contains(print(0)), "kept for ever");
    }
}
