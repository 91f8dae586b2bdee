//! The running hash of what a state has absorbed: two states with one chain have seen the same readings and events in the same order.

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use crate::{Event, EventKind};

/// Values up to which a reading is hashed in one piece.
const FEW: usize = 63;

/// The chain after a reading of `ts` with these values as they came; every NaN counts as one and the same.
pub fn reading(before: u64, ts: i64, measured: &[f64]) -> u64 {
    let bits = |x: &f64| if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() }.to_le_bytes();
    if measured.len() <= FEW {
        let mut bytes = [0u8; 8 * (FEW + 1)];
        bytes[..8].copy_from_slice(&ts.to_le_bytes());
        for (place, x) in bytes[8..].chunks_exact_mut(8).zip(measured) {
            place.copy_from_slice(&bits(x));
        }
        return xxh3_64_with_seed(&bytes[..8 * (measured.len() + 1)], before);
    }
    let mut hash = Xxh3::with_seed(before);
    hash.update(&ts.to_le_bytes());
    measured.iter().for_each(|x| hash.update(&bits(x)));
    hash.digest()
}

/// The chain after an event. Its parts are told apart by their lengths, and it is told from a reading by the byte before them.
pub fn event(before: u64, event: &Event) -> u64 {
    let finding = match event.kind {
        EventKind::Inspection(finding) => Some(finding.word()),
        _ => None,
    };
    let texts = [Some(event.kind.code()), finding, event.component.as_deref(), event.alert_id.as_deref(), event.extra.as_deref()];
    let mut hash = Xxh3::with_seed(before);
    hash.update(b"e");
    hash.update(&event.ts.to_le_bytes());
    for text in texts {
        hash.update(&text.map_or(u64::MAX, |t| t.len() as u64).to_le_bytes());
        hash.update(text.unwrap_or_default().as_bytes());
    }
    hash.digest()
}
