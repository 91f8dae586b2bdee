//! The matrix that all learners share: every value as one byte, features in blocks of eight.
//!
//! A feature has at most 255 bins. Distinct values get a bin each where they are few; else bins hold about equally many rows and a value
//! that is common has one to itself (the greedy rule of LightGBM's `GreedyFindBin`). An edge lies halfway between two neighbouring values, and
//! "code ≤ c" says exactly what `value <= edge` says in f64: an exported tree sends every row where training sent it.
//!
//! A block's eight histograms fit the first-level cache. Up to eight blocks form a group, whose codes lie row after row: a row that a
//! learner picks costs one cache line a group, however few rows it picks.

use std::sync::Arc;

use rayon::prelude::*;

/// Code of a missing value; the others are 1 + the number of edges below the value.
pub const MISSING: u8 = 0;
/// Bins of present values at most, so that codes fit a byte.
pub const MAX_BINS: usize = 255;
/// Features in a block.
pub(crate) const LANES: usize = 8;
/// Rows that a value's bin is worth at least when values are many, as in LightGBM.
const MIN_IN_BIN: usize = 3;
/// Rows that bins are placed by at most, as in LightGBM.
const SAMPLE: usize = 200_000;
/// Rows a task codes at once.
const CHUNK: usize = 1 << 12;

/// The codes of eight features of one row.
pub(crate) type Block = [u8; LANES];

/// How features are laid out: blocks of eight, groups of at most eight blocks; more than one group means an even number, for two threads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layout {
    /// First block and number of blocks of each group.
    pub(crate) groups: Vec<(usize, usize)>,
    /// Group of each block.
    group_of: Vec<usize>,
}

impl Layout {
    pub(crate) fn new(features: usize) -> Self {
        let blocks = features.div_ceil(LANES);
        let count = if blocks <= LANES { 1 } else { blocks.div_ceil(2 * LANES) * 2 };
        let groups: Vec<(usize, usize)> = (0..count).map(|g| (g * blocks / count, (g + 1) * blocks / count - g * blocks / count)).collect();
        let group_of = groups.iter().enumerate().flat_map(|(g, (_, width))| vec![g; *width]).collect();
        Self { groups, group_of }
    }

    /// Group of a feature, and the place of its block in the group's entries of `row`.
    #[inline]
    fn place(&self, row: usize, feature: usize) -> (usize, usize) {
        let block = feature / LANES;
        let group = self.group_of[block];
        let (first, width) = self.groups[group];
        (group, row * width + block - first)
    }
}

/// Where each feature's bins lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Bins {
    edges: Vec<Vec<f64>>,
}

impl Bins {
    /// Places at most `max_bins` (2 to 255) bins for each of so many features by its values in `column`, one feature after the other. Values are finite
    /// or NaN, which is missing.
    pub fn place(features: usize, column: impl Fn(usize) -> Vec<f64> + Sync, max_bins: usize) -> Self {
        Self { edges: (0..features).into_par_iter().map(|f| place(column(f), max_bins.clamp(2, MAX_BINS))).collect() }
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.edges.len()
    }

    /// Upper edges of a feature's bins but the last, ascending: code c ≥ 1 holds `edge[c−2] < x <= edge[c−1]`.
    pub fn edges(&self, feature: usize) -> &[f64] {
        &self.edges[feature]
    }

    /// The greatest code of a feature.
    pub(crate) fn last_code(&self, feature: usize) -> u8 {
        // At most 254 edges.
        self.edges[feature].len() as u8 + 1
    }
}

/// Upper edges of the bins of one feature.
fn place(mut values: Vec<f64>, max_bins: usize) -> Vec<f64> {
    values.retain(|v| v.is_finite());
    values.sort_unstable_by(f64::total_cmp);
    let mut distinct: Vec<(f64, usize)> = Vec::new();
    for value in values.iter().copied() {
        match distinct.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => distinct.push((value, 1)),
        }
    }
    let last_in_bin = if distinct.len() <= max_bins { (0..distinct.len()).collect() } else { greedy(&distinct, values.len(), max_bins) };
    let inner = last_in_bin.into_iter().filter(|i| i + 1 < distinct.len());
    inner.map(|i| between(distinct[i].0, distinct[i + 1].0)).collect()
}

/// A number x with below ≤ x < above, halfway where that can be told apart.
fn between(below: f64, above: f64) -> f64 {
    let middle = below / 2.0 + above / 2.0;
    if below <= middle && middle < above { middle } else { below }
}

/// Indices of the last distinct value of each bin.
fn greedy(distinct: &[(f64, usize)], total: usize, max_bins: usize) -> Vec<usize> {
    let max_bins = max_bins.min(total / MIN_IN_BIN).max(1);
    let fair = total as f64 / max_bins as f64;
    let big = |i: usize| distinct[i].1 as f64 >= fair;
    let bigs = (0..distinct.len()).filter(|i| big(*i));
    let (big_bins, big_rows) = bigs.fold((0, 0), |(bins, rows), i| (bins + 1, rows + distinct[i].1));
    let (mut rest_bins, mut rest_rows) = (max_bins.saturating_sub(big_bins), total - big_rows);
    let share = |rows: usize, bins: usize| if bins == 0 { f64::INFINITY } else { rows as f64 / bins as f64 };
    let mut size = share(rest_rows, rest_bins);
    let (mut ends, mut held) = (Vec::new(), 0usize);
    for (i, (_, rows)) in distinct.iter().enumerate().take(distinct.len() - 1) {
        if ends.len() + 1 >= max_bins {
            break;
        }
        held += rows;
        if !big(i) {
            rest_rows -= rows;
        }
        if big(i) || held as f64 >= size || (big(i + 1) && held as f64 >= (size * 0.5).max(1.0)) {
            ends.push(i);
            held = 0;
            if !big(i) {
                rest_bins = rest_bins.saturating_sub(1);
                size = share(rest_rows, rest_bins);
            }
        }
    }
    ends.push(distinct.len() - 1);
    ends
}

/// A feature's edges as a table of a fixed size: a search without branches.
struct Table([f64; 256]);

impl Table {
    fn new(edges: &[f64]) -> Self {
        let mut table = [f64::INFINITY; 256];
        table[..edges.len()].copy_from_slice(edges);
        Self(table)
    }

    /// 0 for missing, else 1 + the number of edges below `x`.
    #[inline]
    fn code(&self, x: f64) -> u8 {
        let mut below = 0;
        for step in [128, 64, 32, 16, 8, 4, 2, 1] {
            below += usize::from(self.0[(below + step - 1) & 255] < x) * step;
        }
        if x.is_nan() { MISSING } else { (below + 1) as u8 }
    }
}

fn tables(bins: &Bins) -> Vec<Table> {
    bins.edges.iter().map(|edges| Table::new(edges)).collect()
}

/// Codes of rows, with what they stand for.
#[derive(Debug, Clone)]
pub struct Binned {
    bins: Arc<Bins>,
    rows: usize,
    layout: Layout,
    /// Row after row the blocks of each group.
    groups: Vec<Vec<Block>>,
}

/// Codes rows one by one.
pub(crate) struct Coder(Vec<Table>);

impl Coder {
    /// By `bins`.
    pub(crate) fn new(bins: &Bins) -> Self {
        Self(tables(bins))
    }

    /// Puts a row's codes, block by block, behind `blocks`; values are finite or NaN, which is missing.
    pub(crate) fn push(&self, row: &[f64], blocks: &mut Vec<Block>) {
        blocks.extend(row.chunks(LANES).zip(self.0.chunks(LANES)).map(|(values, tables)| code_lanes(values, tables)));
    }
}

#[inline]
fn code_lanes(values: &[f64], tables: &[Table]) -> Block {
    let mut codes = [MISSING; LANES];
    for (code, (value, table)) in codes.iter_mut().zip(values.iter().zip(tables)) {
        *code = table.code(*value);
    }
    codes
}

impl Binned {
    /// Bins and codes a whole matrix of `features` columns, row after row; bins are placed by at most 200,000 rows spread over it.
    /// Values are finite or NaN, which is missing.
    pub fn from_rows(values: &[f64], features: usize, max_bins: usize) -> Self {
        let rows = values.len() / features.max(1);
        let blocks = 0..features.div_ceil(LANES);
        let placed = blocks.clone().into_par_iter().flat_map_iter(|b| {
            let columns = sample_columns(values, features, b * LANES..((b + 1) * LANES).min(features));
            columns.into_iter().map(|column| place(column, max_bins.clamp(2, MAX_BINS)))
        });
        let bins = Bins { edges: placed.collect() };
        let tables = tables(&bins);
        let mut binned = Self::empty(Arc::new(bins));
        binned.rows = rows;
        binned.groups.par_iter_mut().zip(&binned.layout.groups).for_each(|(group, (first, width))| {
            group.resize(rows * width, [MISSING; LANES]);
            group.par_chunks_mut(CHUNK * width).zip(values.par_chunks(CHUNK * features)).for_each(|(codes, values)| {
                for b in 0..*width {
                    let lanes = (first + b) * LANES..((first + b + 1) * LANES).min(features);
                    let tables = &tables[lanes.clone()];
                    for (codes, row) in codes.iter_mut().skip(b).step_by(*width).zip(values.chunks_exact(features)) {
                        *codes = code_lanes(&row[lanes.clone()], tables);
                    }
                }
            });
        });
        binned
    }

    fn empty(bins: Arc<Bins>) -> Self {
        let layout = Layout::new(bins.features());
        Self { bins, rows: 0, groups: vec![Vec::new(); layout.groups.len()], layout }
    }

    /// From rows that lie one behind the other, each with all its blocks.
    pub(crate) fn from_blocks(bins: Arc<Bins>, blocks: &[Block]) -> Self {
        let mut binned = Self::empty(bins);
        let width = binned.layout.group_of.len();
        binned.rows = blocks.len() / width.max(1);
        let layout = &binned.layout;
        binned.groups.par_iter_mut().zip(&layout.groups).for_each(|(group, (first, own))| {
            group.reserve_exact(binned.rows * own);
            blocks.chunks_exact(width).for_each(|row| group.extend_from_slice(&row[*first..first + own]));
        });
        binned
    }

    /// Where the bins lie.
    pub fn bins(&self) -> &Bins {
        &self.bins
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.bins.features()
    }

    /// The code of one value: 0 if missing, else 1 + the number of edges below it.
    #[inline]
    pub fn code(&self, row: usize, feature: usize) -> u8 {
        let (group, at) = self.layout.place(row, feature);
        self.groups[group][at][feature % LANES]
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Group by group, row after row, the codes of each block.
    pub(crate) fn groups(&self) -> &[Vec<Block>] {
        &self.groups
    }
}

/// Sampled values of the features `lanes`: one row out of each stretch of equal length, drawn by a hash, so that no period in the rows shows.
fn sample_columns(values: &[f64], features: usize, lanes: std::ops::Range<usize>) -> Vec<Vec<f64>> {
    let rows = values.len() / features;
    let step = rows.div_ceil(SAMPLE).max(1);
    let mut columns = vec![Vec::with_capacity(rows / step + 1); lanes.len()];
    for start in (0..rows).step_by(step) {
        let shift = (start as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let row = (start + shift as usize % step).min(rows - 1);
        for (column, value) in columns.iter_mut().zip(&values[row * features..][lanes.clone()]) {
            column.push(*value);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bins(values: &[f64]) -> Vec<f64> {
        place(values.to_vec(), MAX_BINS)
    }

    fn code(x: f64, edges: &[f64]) -> u8 {
        Table::new(edges).code(x)
    }

    #[test]
    fn few_values_get_a_bin_each() {
        let values: Vec<f64> = [1.0, 2.0, 2.0, 3.0].repeat(100);
        let edges = bins(&values);
        assert_eq!(edges, [1.5, 2.5]);
        assert_eq!([1.0, 2.0, 3.0].map(|x| code(x, &edges)), [1, 2, 3]);
        assert_eq!(code(f64::NAN, &edges), MISSING);
        assert_eq!(code(1.5, &edges), 1, "an edge belongs to the bin below it");
    }

    #[test]
    fn many_values_fill_all_codes_in_order() {
        let values: Vec<f64> = (0..10_000).map(f64::from).collect();
        let edges = bins(&values);
        assert_eq!(edges.len(), 254);
        assert_eq!((code(-1.0, &edges), code(1e9, &edges)), (1, 255));
        assert!(values.windows(2).all(|w| code(w[0], &edges) <= code(w[1], &edges)));
    }

    #[test]
    fn a_common_value_among_many_has_a_bin_to_itself() {
        let mut values: Vec<f64> = (0..5000).map(f64::from).collect();
        values.extend([2500.0; 5000]);
        let edges = bins(&values);
        let at = usize::from(code(2500.0, &edges));
        assert_eq!((edges[at - 2], edges[at - 1]), (2499.5, 2500.5));
        assert!(edges.len() > 200, "{} bins for the others", edges.len());
    }

    #[test]
    fn neighbours_without_a_number_between_them_are_still_told_apart() {
        let (a, b) = (1.0f64, 1.0f64.next_up());
        let edges = bins(&[a, a, b, b]);
        assert_ne!(code(a, &edges), code(b, &edges));
        assert_eq!(bins(&[f64::MIN, f64::MAX]), [0.0], "halfway does not overflow");
    }

    #[test]
    fn nothing_known_is_one_bin() {
        assert!(bins(&[f64::NAN; 4]).is_empty());
        assert!(bins(&[]).is_empty());
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![4 => -1e3..1e3, 2 => (-3i32..3).prop_map(f64::from), 1 => Just(f64::NAN), 1 => Just(0.1 + 0.2), 1 => Just(0.3)]
    }

    proptest! {
        #[test]
        fn codes_and_values_agree_at_every_edge(column in prop::collection::vec(value(), 1..600), others in prop::collection::vec(value(), 0..50)) {
            let edges = bins(&column);
            prop_assert!(edges.len() < MAX_BINS && edges.is_sorted_by(|a, b| a < b));
            for x in column.iter().chain(&others) {
                for (i, edge) in edges.iter().enumerate() {
                    prop_assert_eq!(!x.is_nan() && usize::from(code(*x, &edges)) <= i + 1, x <= edge);
                }
            }
        }

        #[test]
        fn a_matrix_is_the_same_in_one_piece_and_row_by_row(rows in 1usize..40, features in 1usize..90, seed in any::<u64>()) {
            let values: Vec<f64> = (0..rows * features).map(|i| ((i as u64).wrapping_mul(seed | 1) % 17) as f64).collect();
            let whole = Binned::from_rows(&values, features, MAX_BINS);
            let coder = Coder::new(whole.bins());
            let mut blocks = Vec::new();
            values.chunks(features).for_each(|row| coder.push(row, &mut blocks));
            let joined = Binned::from_blocks(Arc::new(whole.bins().clone()), &blocks);
            prop_assert_eq!(joined.rows(), rows);
            prop_assert_eq!(joined.groups(), whole.groups());
        }
    }
}
