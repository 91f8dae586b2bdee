//! The search for the best split of a leaf by one feature, over its histogram.
//!
//! The gain of a split is Σ_k G_l²/(H_l + λ) + G_r²/(H_r + λ) − G²/(H + λ) over the horizons k (Chen and Guestrin 2016, eq. 7, without the half).
//! All candidates of a feature are compared in f32, four at a time; the best one's gain is then computed in f64, by which features and leaves
//! are compared.

use crate::binned::{LANES, MISSING};

use super::histogram::{BlockCells, Cells};
use super::packed::{Scale, first, second};

/// What a split must keep to.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// λ.
    pub(crate) l2: f64,
    /// Σh of all horizons that either side holds at least.
    pub(crate) min_weight: f64,
    /// Rows that either side holds at least.
    pub(crate) min_rows: usize,
}

/// The best split of a leaf by one feature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// Not above 0: none.
    pub(crate) gain: f64,
    /// Greatest code that goes left; 0 only with `missing_left`.
    pub(crate) code: u8,
    pub(crate) missing_left: bool,
}

pub(crate) const NONE: Candidate = Candidate { gain: 0.0, code: 0, missing_left: false };

/// A leaf as the search sees it.
pub(crate) struct Leaf<'a> {
    /// Sum of packed gradients, one a horizon.
    pub(crate) totals: &'a [u64],
    pub(crate) rows: usize,
    /// Least and greatest value of each horizon that monotone constraints allow; empty: any.
    pub(crate) bounds: &'a [(f64, f64)],
}

/// One feature of a leaf.
pub(crate) struct Feature<'a> {
    /// The leaf's cells: horizon by horizon, all blocks.
    pub(crate) cells: &'a [BlockCells],
    pub(crate) blocks: usize,
    pub(crate) feature: usize,
    pub(crate) last: u8,
    /// 1: the value must not fall as the feature rises; −1: not rise; 0: any.
    pub(crate) monotone: i8,
    /// Exact numbers of rows by code, once the estimate has failed.
    pub(crate) rows: Option<&'a [u32; 256]>,
}

/// What is compared at once, by code − 1: sums and weight of the left side, gain. Kept from search to search.
pub(crate) struct Buffers {
    g: [i32; 256],
    h: [i32; 256],
    gain: [f32; 256],
    weight: [f32; 256],
}

impl Feature<'_> {
    fn cells(&self, k: usize) -> &Cells {
        &self.cells[k * self.blocks + self.feature / LANES][self.feature % LANES]
    }

    fn sum_of(&self, k: usize, code: u8) -> u64 {
        self.cells(k)[usize::from(code)]
    }

    /// Sums of the rows that a split sends left, a horizon.
    pub(crate) fn left_sum(&self, k: usize, split: Candidate) -> u64 {
        let missing = if split.missing_left { self.sum_of(k, MISSING) } else { 0 };
        (1..=split.code).fold(missing, |sum, code| sum.wrapping_add(self.sum_of(k, code)))
    }

    fn has_missing(&self) -> bool {
        match self.rows {
            Some(rows) => rows[usize::from(MISSING)] > 0,
            None => (0..self.cells.len() / self.blocks).any(|k| self.sum_of(k, MISSING) != 0),
        }
    }

    /// Greatest code that may stay left: beyond it nothing would go right.
    fn splits(&self, missing_left: bool, missing: bool) -> usize {
        usize::from(self.last) - usize::from(missing_left || !missing)
    }
}

/// −G/(H + λ), the leaf value of least loss.
pub(crate) fn value(sum: u64, scale: Scale, l2: f64) -> f64 {
    let (g, h) = scale.unpack(sum);
    if h + l2 > 0.0 { -g / (h + l2) } else { 0.0 }
}

/// G²/(H + λ) of a sum.
fn worth(sum: u64, scale: Scale, l2: f64) -> f64 {
    let (g, h) = scale.unpack(sum);
    if h + l2 > 0.0 { g * g / (h + l2) } else { 0.0 }
}

impl Default for Buffers {
    fn default() -> Self {
        Self { g: [0; 256], h: [0; 256], gain: [0.0; 256], weight: [0.0; 256] }
    }
}

/// The best split of `leaf` by `feature`.
pub(crate) fn scan(buffers: &mut Buffers, leaf: &Leaf<'_>, feature: &Feature<'_>, scales: &[Scale], rules: &Rules) -> Candidate {
    let missing = feature.has_missing();
    let mut best = NONE;
    for missing_left in [false, true] {
        if missing_left && !missing {
            break;
        }
        let count = feature.splits(missing_left, missing);
        let found = if leaf.bounds.is_empty() {
            buffers.fill(leaf, feature, scales, rules, missing_left, count);
            buffers.best(leaf, feature, scales, rules, missing_left, count)
        } else {
            constrained(leaf, feature, scales, rules, missing_left, count)
        };
        if found.gain > best.gain {
            best = found;
        }
    }
    if !missing && best.gain > 0.0 {
        // A value missing one day goes where most rows go.
        let weight = |k: usize| (scales[k].unpack(feature.left_sum(k, best)).1, scales[k].unpack(leaf.totals[k]).1);
        let (left, all) = (0..scales.len()).map(weight).fold((0.0, 0.0), |s, w| (s.0 + w.0, s.1 + w.1));
        best.missing_left = left * 2.0 >= all;
    }
    best
}

/// Σh of a leaf over all horizons.
fn weight_of(leaf: &Leaf<'_>, scales: &[Scale]) -> f64 {
    leaf.totals.iter().zip(scales).map(|(sum, scale)| scale.unpack(*sum).1).sum()
}

/// Σh that either side must hold: the least weight, or the share of it that so many rows hold about.
fn least_weight(leaf: &Leaf<'_>, feature: &Feature<'_>, scales: &[Scale], rules: &Rules) -> f64 {
    let by_rows = if feature.rows.is_some() { 0.0 } else { rules.min_rows as f64 / leaf.rows as f64 * weight_of(leaf, scales) };
    rules.min_weight.max(by_rows)
}

impl Buffers {
    /// Gains (less what all splits have in common) and left weights of all splits.
    fn fill(&mut self, leaf: &Leaf<'_>, feature: &Feature<'_>, scales: &[Scale], rules: &Rules, missing_left: bool, count: usize) {
        self.gain[..count].fill(0.0);
        self.weight[..count].fill(0.0);
        for (k, scale) in scales.iter().enumerate() {
            let cells = feature.cells(k);
            let mut sum = if missing_left { cells[usize::from(MISSING)] } else { 0 };
            for (i, cell) in cells[1..=count].iter().enumerate() {
                sum = sum.wrapping_add(*cell);
                (self.g[i], self.h[i]) = (first(sum), second(sum));
            }
            let (all_g, all_h) = (first(leaf.totals[k]), second(leaf.totals[k]));
            // In levels, so that no division is needed; 1 keeps an empty side from dividing by nothing.
            let l2 = (rules.l2 * scale.h).max(1.0) as f32;
            let (share, unit) = ((scale.h / (scale.g * scale.g)) as f32, (1.0 / scale.h) as f32);
            let left = self.g[..count].iter().zip(&self.h[..count]);
            for ((gain, weight), (g, h)) in self.gain[..count].iter_mut().zip(&mut self.weight[..count]).zip(left) {
                let (left_g, right_g) = (*g as f32, all_g.wrapping_sub(*g) as f32);
                let (left_h, right_h) = (*h as f32 + l2, all_h.wrapping_sub(*h) as f32 + l2);
                *gain += (left_g * left_g * right_h + right_g * right_g * left_h) / (left_h * right_h) * share;
                *weight += *h as f32 * unit;
            }
        }
    }

    /// The first of the best splits that keeps to the rules, with its gain in f64.
    fn best(
        &mut self,
        leaf: &Leaf<'_>,
        feature: &Feature<'_>,
        scales: &[Scale],
        rules: &Rules,
        missing_left: bool,
        count: usize,
    ) -> Candidate {
        let least = least_weight(leaf, feature, scales, rules) as f32;
        let most = weight_of(leaf, scales) as f32 - least;
        let gains = &mut self.gain[..count];
        for (gain, weight) in gains.iter_mut().zip(&self.weight[..count]) {
            *gain = if *weight >= least && *weight <= most { *gain } else { -1.0 };
        }
        if let Some(rows) = feature.rows {
            forbid_few(gains, rows, leaf.rows, rules.min_rows, missing_left);
        }
        let top = greatest(gains);
        let Some(at) = gains.iter().position(|g| *g == top).filter(|_| top > 0.0) else { return NONE };
        let mut split = Candidate { gain: 0.0, code: at as u8 + 1, missing_left };
        split.gain = gain(leaf, feature, scales, rules, split);
        split
    }
}

/// The greatest of `gains`, 0 at least; eight at a time.
fn greatest(gains: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (eights, rest) = gains.as_chunks::<8>();
    let mut tops = [0.0f32; 8];
    for eight in eights {
        tops.iter_mut().zip(eight).for_each(|(top, gain)| *top = larger(*top, *gain));
    }
    rest.iter().chain(&tops).fold(0.0, |top, gain| larger(top, *gain))
}

/// Marks splits that leave fewer than `min_rows` rows on a side.
fn forbid_few(gains: &mut [f32], rows: &[u32; 256], all: usize, min_rows: usize, missing_left: bool) {
    let mut left = if missing_left { rows[usize::from(MISSING)] as usize } else { 0 };
    for (gain, rows) in gains.iter_mut().zip(&rows[1..]) {
        left += *rows as usize;
        if left < min_rows || all - left < min_rows {
            *gain = -1.0;
        }
    }
}

/// The gain of a split; 0 where it drowns in rounding.
fn gain(leaf: &Leaf<'_>, feature: &Feature<'_>, scales: &[Scale], rules: &Rules, split: Candidate) -> f64 {
    let of = |k: usize| {
        let (all, left) = (leaf.totals[k], feature.left_sum(k, split));
        let whole = worth(all, scales[k], rules.l2);
        (worth(left, scales[k], rules.l2) + worth(all.wrapping_sub(left), scales[k], rules.l2) - whole, whole)
    };
    let (gain, whole) = (0..scales.len()).map(of).fold((0.0, 0.0), |s, g| (s.0 + g.0, s.1 + g.1));
    if gain > whole * 1e-9 { gain } else { 0.0 }
}

/// The best split under bounds and monotone constraints: what a side is worth at the value it may have, all in f64.
fn constrained(leaf: &Leaf<'_>, feature: &Feature<'_>, scales: &[Scale], rules: &Rules, missing_left: bool, count: usize) -> Candidate {
    let mut gains = [0.0f64; 256];
    let mut allowed = [0.0f32; 256];
    let mut weights = [0.0f64; 256];
    for (k, scale) in scales.iter().enumerate() {
        let bounds = leaf.bounds[k];
        let whole = bounded(leaf.totals[k], *scale, rules.l2, bounds).1;
        let mut left = if missing_left { feature.sum_of(k, MISSING) } else { 0 };
        for i in 0..count {
            left = left.wrapping_add(feature.sum_of(k, i as u8 + 1));
            let (low, left_worth) = bounded(left, *scale, rules.l2, bounds);
            let (high, right_worth) = bounded(leaf.totals[k].wrapping_sub(left), *scale, rules.l2, bounds);
            gains[i] += left_worth + right_worth - whole;
            weights[i] += scale.unpack(left).1;
            if f64::from(feature.monotone) * (high - low) < 0.0 {
                allowed[i] = -1.0;
            }
        }
    }
    if let Some(rows) = feature.rows {
        forbid_few(&mut allowed[..count], rows, leaf.rows, rules.min_rows, missing_left);
    }
    let least = least_weight(leaf, feature, scales, rules);
    let all = weight_of(leaf, scales);
    let fits = |i: &usize| allowed[*i] >= 0.0 && weights[*i] >= least && all - weights[*i] >= least && gains[*i] > 1e-9;
    let best = (0..count).filter(fits).fold(None, |best: Option<usize>, i| best.filter(|b| gains[*b] >= gains[i]).or(Some(i)));
    best.map_or(NONE, |i| Candidate { gain: gains[i], code: i as u8 + 1, missing_left })
}

/// The value of least loss within bounds, and by how much (twice) it lowers the loss.
pub(crate) fn bounded(sum: u64, scale: Scale, l2: f64, bounds: (f64, f64)) -> (f64, f64) {
    let (g, h) = scale.unpack(sum);
    let value = value(sum, scale, l2).clamp(bounds.0, bounds.1);
    (value, -(2.0 * g * value + (h + l2) * value * value))
}
