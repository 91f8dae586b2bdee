//! An ensemble laid out for speed: the same bits as the plain walk, for one row without allocation or lock and for many rows at once.
//!
//! **Layout.** 16 bytes a node: threshold, feature and left child, whose sibling stands next to it; leaves are nodes that lead to themselves and hold their value in
//! the threshold's place. So a step is `at = left + (threshold < value)`, without a branch to mispredict, and ten trees (or eight rows of one tree) take their steps in turn,
//! so that their cache misses and latencies overlap, until none moves. Thresholds and values are compared as integers of the same order
//! ([`key`]): an integer comparison feeds the addition by its carry, and a missing value is simply the least or the greatest. Every
//! [`Arithmetic`](super::Arithmetic) becomes one comparison ([`at_most`](super::Arithmetic::at_most)). Sums are taken in the order of the trees, so bits depend on nothing
//! else.
//!
//! **Measured** on one busy core of an AMD EPYC (Zen 4), 100 trees × 31 leaves grown by random splits (mean leaf at level 6, deepest at 9.1), 400 features,
//! CPU time a row, 128 distinct rows in cache / 4,992 rows beyond it:
//!
//! | layout | one row | many rows |
//! |---|---|---|
//! | plain walk, branches (learnt by heart / not) | 1020 / 3670 ns | |
//! | 16-byte nodes, f64 comparison, 10 trees in turn, fixed depth | 1217 ns | 1029 ns (8 rows) |
//! | the same, until none moves | 968 ns | 851 ns |
//! | **the same, integer keys, leaves in place (this one)** | **736 / 1265 ns** | **712 / 1043 ns** |
//! | 4-byte nodes and 8-byte thresholds apart | 1200 ns | 737 ns |
//! | 8-byte nodes, upper halves of keys, ties settled exactly | 1120 / 1393 ns | 1013 / 1171 ns |
//! | all trees level by level, finished ones dropped | 914 ns | |
//! | bit vectors (after QuickScorer, Lucchese et al. 2015), 16 rows: SSE2 / AVX2 / AVX-512 | | 14 100 / 2 300 / 670 ns |
//! | comparisons first, eight thresholds a feature and byte outcomes, then walks of 4-byte nodes, as LLVM makes them | 2500 ns | |
//! | **bit vectors over codes** (how many thresholds lie below a value), as in RapidScorer (Ye et al. 2018), 64 rows, AVX2 (`planes`, many rows where they fit) | | **650 / 630 ns** |
//!
//! With nothing else running (criterion, medians): one row of 1,000 in turn 0.96 µs (1.21 with 2 % missing), 10,000 rows 0.63 µs a row (0.62; 1.13 by the table of nodes). In the same hour LightGBM's single-row
//! call took 7.2 µs and 6.8 a row of 10,000, ONNX Runtime 9.0 and 4.5 µs.
//!
//! **What the limit is** (callgrind with the machine's caches). One row: some 900 steps of nine instructions, 600 of which must be taken (mean level 6 × 100 trees), 8,500 in all; 3,300 for the keys. 320 node
//! reads miss the first-level cache, as 6,100 nodes and leaves of 16 bytes are 98 kB, and are answered by the second; the row's own 50 cache lines come from the third or from memory.
//! Many rows, by samples of `perf` over the bit vectors: a third of the time goes to reading 3.2 kB a row (110 ns from memory alone) and turning it, two fifths to 3,000 comparisons of
//! doubles, four at once, a fifth to the bits of 100 trees, the rest to the sums.

#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::planes::{self, Planes};
use super::{Ensemble, leaf};

/// Trees walked in turn for one row.
const TREES: usize = 10;
/// Rows walked in turn for one tree.
const ROWS: usize = 8;

/// A node or a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    /// Key of the greatest value that goes left. Of a leaf: the bits of its value, or its number if it has several.
    bound: u64,
    /// Where the feature's key stands in the row of keys; in the second half of two if a missing value goes left at some nodes and here.
    slot: u32,
    /// Left child; the right one stands behind it. Of a leaf: itself.
    left: u32,
}

/// An [`Ensemble`] ready to score, built once.
#[derive(Debug, Clone)]
pub struct Scorer {
    ensemble: Ensemble,
    layout: Layout,
    /// For many rows at once, laid out when they first come; none if the machine or the ensemble does not allow it.
    #[cfg(target_arch = "x86_64")]
    planes: OnceLock<Option<Planes>>,
}

/// Sizes are powers of two known to the compiler, so that a mask takes the place of every check of bounds.
#[derive(Debug, Clone)]
enum Layout {
    Small(Table<8192, 512, 1024>),
    Large(Table<131_072, 4096, 8192>),
    /// Beyond 131,000 nodes and leaves or 4,000 features: the plain walk.
    Plain,
}

/// Nodes of all trees, M at most, over at most SLOTS − 1 features.
#[derive(Debug, Clone)]
struct Table<const M: usize, const SLOTS: usize, const BOTH: usize> {
    steps: Box<[Step; M]>,
    /// The trees' first nodes, and an idle one to fill the last group up.
    roots: Vec<u32>,
    trees: usize,
    /// Values of a row.
    columns: usize,
    /// The features in use, by slot.
    features: Vec<u32>,
    /// The key of a missing value: the least if it goes left at all nodes, else the greatest.
    missing: u64,
    /// Whether it goes left at some nodes and right at others: then there are two keys of it.
    mixed: bool,
    /// Steps taken before it is worth asking whether any tree still moves.
    sure: u32,
}

impl Scorer {
    /// Lays out `ensemble`, which must be checked.
    pub fn new(ensemble: Ensemble) -> Self {
        let layout = Table::of(&ensemble).map(Layout::Small).or_else(|| Table::of(&ensemble).map(Layout::Large));
        Self {
            layout: layout.unwrap_or(Layout::Plain),
            #[cfg(target_arch = "x86_64")]
            planes: OnceLock::new(),
            ensemble,
        }
    }

    /// The ensemble.
    pub fn ensemble(&self) -> &Ensemble {
        &self.ensemble
    }

    /// As [`Ensemble::score`], to the last bit. Panics on a row shorter than the features or another number of risks than horizons.
    pub fn score(&self, row: &[f64], risks: &mut [f64]) {
        self.raw(row, risks);
        self.ensemble.finish(risks);
    }

    /// As [`Ensemble::raw`], to the last bit. Panics as [`Scorer::score`] does.
    pub fn raw(&self, row: &[f64], sums: &mut [f64]) {
        match &self.layout {
            Layout::Small(table) => table.raw(&self.ensemble, row, sums),
            Layout::Large(table) => table.raw(&self.ensemble, row, sums),
            Layout::Plain => self.ensemble.raw(row, sums),
        }
    }

    /// Risks of many rows, one after the other, `features` values each; `risks` gets as many times the horizons. Allocates once. Panics on parts of rows.
    pub fn score_rows(&self, rows: &[f64], risks: &mut [f64]) {
        self.raw_rows(rows, risks);
        risks.chunks_exact_mut(self.ensemble.horizons).for_each(|risks| self.ensemble.finish(risks));
    }

    /// Raw scores of many rows, as [`Scorer::score_rows`].
    pub fn raw_rows(&self, rows: &[f64], sums: &mut [f64]) {
        let (features, horizons) = (self.ensemble.features, self.ensemble.horizons);
        let count = sums.len() / horizons;
        assert!(
            count * features == rows.len() && count * horizons == sums.len(),
            "{} values are no {count} rows of {features}",
            rows.len()
        );
        let done = self.whole_blocks(rows, sums);
        let (rows, sums) = (&rows[done * features..], &mut sums[done * horizons..]);
        match &self.layout {
            Layout::Small(table) => table.raw_rows(&self.ensemble, rows, sums),
            Layout::Large(table) => table.raw_rows(&self.ensemble, rows, sums),
            Layout::Plain => {
                rows.chunks_exact(features).zip(sums.chunks_exact_mut(horizons)).for_each(|(row, sums)| self.ensemble.raw(row, sums));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Scorer {
    /// The raw scores of as many of the rows as planes take, and gives their number.
    fn whole_blocks(&self, rows: &[f64], sums: &mut [f64]) -> usize {
        let done = sums.len() / self.ensemble.horizons / planes::ROWS * planes::ROWS;
        if done == 0 {
            return 0;
        }
        let Some(planes) = self.planes.get_or_init(|| Planes::of(&self.ensemble)) else { return 0 };
        let sums = &mut sums[..done * self.ensemble.horizons];
        sums.chunks_exact_mut(self.ensemble.horizons).for_each(|sums| sums.copy_from_slice(&self.ensemble.base));
        planes.add_rows(&self.ensemble, &rows[..done * self.ensemble.features], sums);
        sums.chunks_exact_mut(self.ensemble.horizons).for_each(|sums| self.ensemble.share(sums));
        done
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Scorer {
    fn whole_blocks(&self, _: &[f64], _: &mut [f64]) -> usize {
        0
    }
}

/// A whole number that orders as the floating-point number does; both zeros are one. Missing values have their own: 0 or `u64::MAX`, below and above all others.
#[inline]
fn key(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    bits ^ ((bits.cast_signed() >> 63).cast_unsigned() | 1 << 63)
}

impl<const M: usize, const SLOTS: usize, const BOTH: usize> Table<M, SLOTS, BOTH> {
    /// The slot that leaves ask for. Its key is 0, so that no bound is below it.
    const IDLE: u32 = SLOTS as u32 - 1;

    /// Lays out all trees, if they fit.
    fn of(ensemble: &Ensemble) -> Option<Self> {
        let mut features: Vec<u32> = ensemble.nodes.iter().map(|node| node.feature).collect();
        features.sort_unstable();
        features.dedup();
        // One more for the idle leaf.
        if features.len() >= SLOTS || ensemble.nodes.len() + ensemble.cover.len() >= M {
            return None;
        }
        let lefts = ensemble.nodes.iter().filter(|node| node.missing_left).count();
        let mut table = Self {
            steps: vec![Step { bound: 0, slot: Self::IDLE, left: 0 }; M].into_boxed_slice().try_into().ok()?,
            roots: Vec::new(),
            trees: ensemble.roots.len(),
            columns: ensemble.features,
            features,
            missing: if lefts == ensemble.nodes.len() { 0 } else { u64::MAX },
            mixed: lefts != 0 && lefts != ensemble.nodes.len(),
            sure: 0,
        };
        let mut next = 1;
        for root in &ensemble.roots {
            table.roots.push(next);
            next = table.add(ensemble, *root, next)?;
        }
        table.roots.resize(table.trees.next_multiple_of(TREES), 0);
        // The mean leaf of a tree of n leaves is no higher than level log₂ n.
        table.sure = (ensemble.cover.len() / table.trees).max(2).ilog2();
        Some(table)
    }

    /// Adds a tree from `first` on, level by level; gives the next free place.
    fn add(&mut self, ensemble: &Ensemble, root: i32, first: u32) -> Option<u32> {
        let mut next = first + 1;
        let mut waiting = std::collections::VecDeque::from([(root, first)]);
        while let Some((at, place)) = waiting.pop_front() {
            self.steps[place as usize] = if at < 0 {
                let leaf = leaf(at);
                let bound = if ensemble.horizons == 1 { ensemble.leaves[leaf].to_bits() } else { leaf as u64 };
                Step { bound, slot: Self::IDLE, left: place }
            } else {
                let node = &ensemble.nodes[at as usize];
                let slot = self.features.binary_search(&node.feature).ok()? as u32;
                let left = next;
                next += 2;
                waiting.extend([(node.left, left), (node.right, left + 1)]);
                let bound = key(ensemble.arithmetic.at_most(node.threshold));
                Step { bound, slot: if self.mixed && node.missing_left { SLOTS as u32 + slot } else { slot }, left }
            };
        }
        Some(next)
    }

    fn raw(&self, ensemble: &Ensemble, row: &[f64], sums: &mut [f64]) {
        sums.copy_from_slice(&ensemble.base);
        let mut keys = [0; SLOTS];
        if self.keys(row, &mut keys) {
            let mut both = [0; BOTH];
            left_too(&keys, &mut both);
            self.sum(ensemble, &both, sums);
        } else {
            self.sum(ensemble, &keys, sums);
        }
        ensemble.share(sums);
    }

    fn raw_rows(&self, ensemble: &Ensemble, rows: &[f64], sums: &mut [f64]) {
        let (features, horizons) = (ensemble.features, ensemble.horizons);
        let mut keys = vec![[0; SLOTS]; ROWS];
        let mut both = Vec::new();
        let whole = sums.len() / horizons / ROWS * ROWS;
        let (blocks, rest) = rows.split_at(whole * features);
        let (block_sums, rest_sums) = sums.split_at_mut(whole * horizons);
        for (block, sums) in blocks.chunks_exact(features * ROWS).zip(block_sums.chunks_exact_mut(horizons * ROWS)) {
            sums.chunks_exact_mut(horizons).for_each(|sums| sums.copy_from_slice(&ensemble.base));
            let missing = block.chunks_exact(features).zip(&mut keys).fold(false, |missing, (row, keys)| self.keys(row, keys) | missing);
            if missing {
                both.resize(ROWS, [0; BOTH]);
                keys.iter().zip(&mut both).for_each(|(keys, both)| left_too(keys, both));
                self.sum_rows(ensemble, &both, sums);
            } else {
                self.sum_rows(ensemble, &keys, sums);
            }
            sums.chunks_exact_mut(horizons).for_each(|sums| ensemble.share(sums));
        }
        rest.chunks_exact(features).zip(rest_sums.chunks_exact_mut(horizons)).for_each(|(row, sums)| self.raw(ensemble, row, sums));
    }

    /// The row's keys by slot; whether there is a missing value that needs a second key.
    fn keys(&self, row: &[f64], keys: &mut [u64; SLOTS]) -> bool {
        let row = &row[..self.columns];
        let mut missing = false;
        let mut put = |to: &mut u64, value: f64| {
            *to = if value.is_nan() { self.missing } else { key(value) };
            missing |= value.is_nan();
        };
        if self.features.len() == row.len() {
            keys.iter_mut().zip(row).for_each(|(to, value)| put(to, *value));
        } else {
            keys.iter_mut().zip(&self.features).for_each(|(to, feature)| put(to, row[*feature as usize]));
        }
        keys[SLOTS - 1] = 0;
        missing && self.mixed
    }

    /// Adds the trees' leaves for the row of `keys` to `sums`. K is SLOTS where nothing is missing: the mask then makes one slot of both.
    fn sum<const K: usize>(&self, ensemble: &Ensemble, keys: &[u64; K], sums: &mut [f64]) {
        match sums {
            [only] => {
                let (mut sum, precision) = (*only, ensemble.arithmetic.sum);
                self.leaves(keys, |value| sum = precision.round(sum + f64::from_bits(value)));
                *only = sum;
            }
            sums => self.leaves(keys, |leaf| ensemble.add(leaf as usize, sums)),
        }
    }

    /// Gives the leaf of each tree in turn.
    #[inline(always)]
    fn leaves<const K: usize>(&self, keys: &[u64; K], mut give: impl FnMut(u64)) {
        let mut left = self.trees;
        for roots in self.roots.as_chunks::<TREES>().0 {
            let at = self.descend(*roots, |_| keys);
            at.iter().take(left).for_each(|at| give(self.steps[*at as usize & (M - 1)].bound));
            left = left.saturating_sub(TREES);
        }
    }

    /// Adds the trees' leaves for the rows of `keys` to their sums.
    fn sum_rows<const K: usize>(&self, ensemble: &Ensemble, keys: &[[u64; K]], sums: &mut [f64]) {
        let (Some(keys), precision) = (keys.as_array::<ROWS>(), ensemble.arithmetic.sum) else { return };
        for root in &self.roots[..self.trees] {
            let at = self.descend([*root; ROWS], |row| &keys[row]);
            let bounds = at.map(|at| self.steps[at as usize & (M - 1)].bound);
            if ensemble.horizons == 1 {
                sums.iter_mut().zip(bounds).for_each(|(sum, value)| *sum = precision.round(*sum + f64::from_bits(value)));
            } else {
                sums.chunks_exact_mut(ensemble.horizons).zip(bounds).for_each(|(sums, leaf)| ensemble.add(leaf as usize, sums));
            }
        }
    }

    /// Goes down from `at`, one step of each in turn, until none moves.
    #[inline(always)]
    fn descend<'a, const N: usize, const K: usize>(&self, mut at: [u32; N], keys: impl Fn(usize) -> &'a [u64; K]) -> [u32; N] {
        let next = |at: u32, keys: &[u64; K]| {
            let step = &self.steps[at as usize & (M - 1)];
            step.left + u32::from(step.bound < keys[step.slot as usize & (K - 1)])
        };
        for _ in 0..self.sure {
            for (i, at) in at.iter_mut().enumerate() {
                *at = next(*at, keys(i));
            }
        }
        loop {
            let mut moved = 0;
            for (i, at) in at.iter_mut().enumerate() {
                let to = next(*at, keys(i));
                moved |= to ^ *at;
                *at = to;
            }
            if moved == 0 {
                return at;
            }
        }
    }
}

/// A row's keys twice: with missing values as the greatest, then as the least.
fn left_too<const SLOTS: usize, const BOTH: usize>(keys: &[u64; SLOTS], both: &mut [u64; BOTH]) {
    let (right, left) = both.split_at_mut(SLOTS);
    right.copy_from_slice(keys);
    left.iter_mut().zip(keys).for_each(|(left, key)| *left = if *key == u64::MAX { 0 } else { *key });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::grown::{Chance, Shape, arithmetics};
    use super::*;
    use crate::ensemble::Link;

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    /// One at a time and all at once, against the plain walk.
    fn check(ensemble: Ensemble, rows: &[f64]) {
        let (features, horizons) = (ensemble.features, ensemble.horizons);
        let count = rows.len() / features;
        let scorer = Scorer::new(ensemble);
        let (mut plain, mut one, mut many) = (vec![0.0; count * horizons], vec![0.0; count * horizons], vec![0.0; count * horizons]);
        for (i, row) in rows.chunks_exact(features).enumerate() {
            let at = i * horizons..(i + 1) * horizons;
            scorer.ensemble().score(row, &mut plain[at.clone()]);
            scorer.score(row, &mut one[at]);
        }
        scorer.score_rows(rows, &mut many);
        assert_eq!(bits(&plain), bits(&one));
        assert_eq!(bits(&plain), bits(&many));
    }

    proptest! {
        #[test]
        fn one_row_and_many_rows_score_as_the_plain_walk_to_the_last_bit(
            seed: u64, trees in 1usize..25, leaves in 1usize..40, features in 1usize..30, horizons in 1usize..4, arithmetic in 0usize..8,
            count in prop_oneof![0usize..20, 60usize..200], missing in prop_oneof![Just(0.0), 0.0..0.5], grid in prop_oneof![Just(0), 2usize..9], link in 0usize..3,
            lefts in prop::option::of(any::<bool>()),
        ) {
            let shape = Shape { trees, leaves, features, horizons, arithmetic: arithmetics()[arithmetic], grid };
            let mut chance = Chance(seed);
            let mut ensemble = shape.ensemble(&mut chance);
            ensemble.link = [Link::Mean, Link::Logistic, Link::Identity][link];
            ensemble.nodes.iter_mut().for_each(|node| node.missing_left = lefts.unwrap_or(node.missing_left));
            let rows = shape.rows(&mut chance, count, missing);
            check(ensemble, &rows);
        }
    }

    #[test]
    fn zeros_infinities_and_missing_values_of_either_sign_go_the_same_way() {
        // Its leaves have 32 bits, so that every arithmetic can hold them.
        let shape = Shape { trees: 30, leaves: 9, features: 3, horizons: 1, arithmetic: arithmetics()[7], grid: 1 };
        let mut chance = Chance(5);
        let mut ensemble = shape.ensemble(&mut chance);
        for (i, node) in ensemble.nodes.iter_mut().enumerate() {
            node.threshold = [0.0, -0.0, f64::MAX, f64::MIN, -1.0, f64::MIN_POSITIVE][i % 6];
        }
        let values = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 5e-324, -5e-324];
        let rows: Vec<f64> = (0..1000).flat_map(|i| [values[i % 10], values[i / 10 % 10], values[i / 100]]).collect();
        for arithmetic in arithmetics() {
            let mut ensemble = Ensemble { arithmetic, ..ensemble.clone() };
            let fitting = |t: f64| {
                if arithmetic.compare.round(t).is_finite() { arithmetic.compare.round(t) } else { t.signum() * f64::from(f32::MAX) }
            };
            ensemble.nodes.iter_mut().for_each(|n| n.threshold = fitting(n.threshold));
            check(ensemble.check().unwrap(), &rows);
        }
    }

    #[test]
    fn larger_and_largest_models_score_the_same() {
        let shape = |trees, features| Shape { trees, leaves: 31, features, horizons: 1, arithmetic: arithmetics()[0], grid: 0 };
        for (shape, small, plain) in [(shape(10, 5), true, false), (shape(140, 3000), false, false), (shape(2200, 50), false, true)] {
            let mut chance = Chance(1);
            let ensemble = shape.ensemble(&mut chance);
            let layout = Scorer::new(ensemble.clone()).layout;
            assert_eq!((matches!(layout, Layout::Small(_)), matches!(layout, Layout::Plain)), (small, plain));
            let rows = shape.rows(&mut chance, 9, 0.01);
            check(ensemble, &rows);
        }
    }

    /// What [`planes`] can hold and what is just beyond it: leaves of a tree, thresholds of a feature, columns.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn ensembles_at_and_beyond_what_planes_hold_score_the_same() {
        // Trees of two leaves have a threshold each.
        let shape = |trees, leaves, features| Shape { trees, leaves, features, horizons: 1, arithmetic: arithmetics()[0], grid: 0 };
        for (shape, one_feature) in [
            (shape(3, 64, 8), false),
            (shape(3, 65, 8), false),
            (shape(254, 2, 8), true),
            (shape(255, 2, 8), true),
            (shape(300, 2, 8), true),
            (shape(3, 9, 7), false),
        ] {
            let mut chance = Chance(7);
            let mut ensemble = shape.ensemble(&mut chance);
            ensemble.nodes.iter_mut().filter(|_| one_feature).for_each(|node| node.feature = 3);
            let fits = shape.leaves <= 64 && shape.trees <= 254 && shape.features >= 8;
            assert_eq!(Planes::of(&ensemble).is_some(), fits && pulp::x86::V3::try_new().is_some(), "{shape:?}");
            let rows = shape.rows(&mut chance, 130, 0.05);
            check(ensemble, &rows);
        }
    }

    #[test]
    #[should_panic(expected = "are no")]
    fn parts_of_rows_are_refused() {
        let shape = Shape { trees: 1, leaves: 3, features: 2, horizons: 1, arithmetic: arithmetics()[0], grid: 0 };
        Scorer::new(shape.ensemble(&mut Chance(1))).score_rows(&[0.0; 3], &mut [0.0; 2]);
    }
}
