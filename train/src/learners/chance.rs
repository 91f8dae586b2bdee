//! Chance that does not depend on order: a number for each (seed, round, thing), by SplitMix64's finaliser.

/// A uniform number of 64 bits.
#[inline]
pub(crate) fn bits(seed: u64, round: u64, thing: u64) -> u64 {
    let mut x = seed.wrapping_add(round.wrapping_mul(0xd1b5_4a32_d192_ed03)).wrapping_add(thing.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for _ in 0..2 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
    }
    x
}

/// Whether a thing is drawn with probability `share`.
#[inline]
pub(crate) fn drawn(seed: u64, round: u64, thing: u64, share: f64) -> bool {
    ((bits(seed, round, thing) >> 11) as f64) < share * (1u64 << 53) as f64
}

/// `count` of the numbers below `of`, ascending.
pub(crate) fn choose(seed: u64, round: u64, of: usize, count: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..of).collect();
    if count < of {
        all.sort_by_key(|i| (bits(seed, round, *i as u64), *i));
        all.truncate(count);
        all.sort_unstable();
    }
    all
}
