//! Gradients as whole numbers, first and second order in one word: a histogram cell is one addition.
//!
//! Each round scales |g| and h so that their sums over all rows just fit 31 bits, which leaves the mean row a thousand levels even at a million
//! rows. Sums of whole numbers do not depend on their order: any number of threads gives the same bits, and a histogram got by
//! subtraction equals one that was counted. The high half of a word is Σg, signed, the low half Σh, never negative and below 2³¹.

use rayon::prelude::*;

/// Rows that are summed in one go; fixed, so that sums of f64 do not depend on the number of threads.
pub(crate) const CHUNK: usize = 8192;

/// Levels per unit of the first and second order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    pub(crate) g: f64,
    pub(crate) h: f64,
}

/// Gradients of all rows for one horizon.
pub(crate) struct Packed {
    pub(crate) cells: Vec<u64>,
    pub(crate) scale: Scale,
}

/// First order of a sum, in levels.
#[inline]
pub(crate) fn first(sum: u64) -> i32 {
    (sum as i64 >> 32) as i32
}

/// Second order of a sum, in levels.
#[inline]
pub(crate) fn second(sum: u64) -> i32 {
    sum as u32 as i32
}

impl Scale {
    /// Σg and Σh of a sum.
    pub(crate) fn unpack(&self, sum: u64) -> (f64, f64) {
        (f64::from(first(sum)) / self.g, f64::from(second(sum)) / self.h)
    }

    /// The scale for `rows` rows whose |g| and h sum up to so much. A power of two, so that weights that are whole numbers stay exact.
    fn fitting(rows: usize, sum_g: f64, sum_h: f64) -> Self {
        // Rounding adds half a level a row at most; f32 products a little more.
        let room = (f64::from(i32::MAX) - rows as f64) * 0.999;
        let of = |sum: f64| if sum > 0.0 { power_of_two((room / sum).min(1e30)) } else { 1.0 };
        Self { g: of(sum_g), h: of(sum_h) }
    }
}

/// The greatest power of two that is at most `x`, for a normal x above 0.
fn power_of_two(x: f64) -> f64 {
    f64::from_bits(x.to_bits() & !((1 << 52) - 1))
}

impl Packed {
    pub(crate) fn new(rows: usize) -> Self {
        Self { cells: vec![0; rows], scale: Scale { g: 1.0, h: 1.0 } }
    }

    /// Packs `gradients`, whose |g| and h sum up to `sums`.
    pub(crate) fn pack(&mut self, gradients: &[(f32, f32)], sums: (f64, f64)) {
        self.scale = Scale::fitting(gradients.len(), sums.0, sums.1);
        let (by_g, by_h) = (self.scale.g as f32, self.scale.h as f32);
        self.cells.par_chunks_mut(CHUNK).zip(gradients.par_chunks(CHUNK)).for_each(|(cells, gradients)| {
            for (cell, (g, h)) in cells.iter_mut().zip(gradients) {
                let g = (g * by_g + 0.5f32.copysign(*g)) as i32;
                let h = (h * by_h + 0.5) as i32;
                *cell = ((i64::from(g) << 32) as u64).wrapping_add(h as u64);
            }
        });
    }
}

/// Sums of chunks, added up in order.
pub(crate) fn in_order(parts: Vec<(f64, f64)>) -> (f64, f64) {
    parts.into_iter().fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_come_back_and_never_overflow() {
        let gradients: Vec<(f32, f32)> = (0..100_000).map(|i| ((i % 7) as f32 - 3.0, (i % 5) as f32 * 0.1)).collect();
        let sums = gradients.iter().fold((0.0, 0.0), |s, (g, h)| (s.0 + f64::from(g.abs()), s.1 + f64::from(*h)));
        let mut packed = Packed::new(gradients.len());
        packed.pack(&gradients, sums);
        let of = |positive: bool| {
            let some = packed.cells.iter().zip(&gradients).filter(|(_, (g, _))| (*g > 0.0) == positive);
            some.fold((0u64, 0.0), |s, (c, (g, _))| (s.0.wrapping_add(*c), s.1 + f64::from(*g)))
        };
        for positive in [true, false] {
            let (cell, g) = of(positive);
            assert!((packed.scale.unpack(cell).0 - g).abs() < 1e-3 * g.abs(), "{:?} {g}", packed.scale.unpack(cell));
        }
        let all = packed.cells.iter().fold(0u64, |s, c| s.wrapping_add(*c));
        assert!((packed.scale.unpack(all).1 - sums.1).abs() < 1e-3 * sums.1);
        // The extremes: all of one sign reach at least half of 2³¹ and stay below it.
        packed.pack(&vec![(-1.0, 1.0); 100_000], (1e5, 1e5));
        let all = packed.cells.iter().fold(0u64, |s, c| s.wrapping_add(*c));
        assert!(first(all) < -(1 << 30) && second(all) > 1 << 30, "{} {}", first(all), second(all));
    }
}
