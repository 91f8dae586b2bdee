//! What the journal remembers of contents, to know a redelivery from news, and the file that keeps it beyond the segments.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64;

use crate::recent::Recent;

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

/// The first position of each content.
type Prints = HashMap<u128, u64, BuildHasherDefault<AsIs>>;

const MAGIC: &[u8; 8] = b"HWPRNT01";
const ENTRY: usize = 24;

/// Two generations of prints with positions; the older one is forgotten when the younger is full.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    young: Prints,
    old: Prints,
}

impl Memory {
    /// Takes note of a message; whether the same content came before. Its first position stays: that copy is the one known to be safe.
    pub(crate) fn note(&mut self, print: u128, position: u64) -> bool {
        if let Some(first) = self.young.get(&print) {
            debug_assert!(*first <= position);
            return true;
        }
        let known = self.old.get(&print).copied();
        if self.young.len() >= Recent::WINDOW {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(print, known.unwrap_or(position));
        known.is_some()
    }

    /// What is known of positions below `end`, as a file. Nothing else may be in it: a print of a message that never reached the disk would make
    /// its redelivery look like a repeat, and lose it.
    pub(crate) fn to_file(&self, end: u64) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&end.to_le_bytes());
        for generation in [&self.old, &self.young] {
            for (print, position) in generation.iter().filter(|(_, position)| **position < end) {
                bytes.extend_from_slice(&print.to_le_bytes());
                bytes.extend_from_slice(&position.to_le_bytes());
            }
        }
        let sum = xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// A memory from a file, and the position up to which it knows; `None` for a damaged file.
    pub(crate) fn from_file(bytes: &[u8]) -> Option<(Self, u64)> {
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
        let entries = body.strip_prefix(MAGIC)?;
        if xxh3_64(body).to_le_bytes() != sum {
            return None;
        }
        let (end, entries) = entries.split_at_checked(8)?;
        let mut memory = Self::default();
        for entry in entries.chunks_exact(ENTRY) {
            let print = u128::from_le_bytes(entry[..16].try_into().ok()?);
            memory.old.insert(print, u64::from_le_bytes(entry[16..].try_into().ok()?));
        }
        Some((memory, u64::from_le_bytes(end.try_into().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_print_is_known_for_at_least_a_window_also_over_a_file() {
        let mut memory = Memory::default();
        assert!(!memory.note(7, 0) && memory.note(7, 1));
        (0..Recent::WINDOW as u64 - 1).for_each(|i| _ = memory.note(1_000 + u128::from(i), i));
        let (mut back, end) = Memory::from_file(&memory.to_file(5)).unwrap();
        assert_eq!(end, 5);
        assert!(back.note(7, 9) && back.note(1_004, 9) && !back.note(1_005, 9), "only positions below 5 are in the file");
        assert!(memory.note(7, 9), "forgotten within a window");
        (0..3 * Recent::WINDOW as u64).for_each(|i| _ = memory.note(1 << 40 | u128::from(i), i));
        assert!(!memory.note(7, 9), "kept for ever");
    }

    #[test]
    fn a_damaged_file_is_no_memory() {
        let mut memory = Memory::default();
        memory.note(7, 0);
        let good = memory.to_file(1);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert!(Memory::from_file(&bad).is_none() && Memory::from_file(&good[..at]).is_none());
        }
    }
}
