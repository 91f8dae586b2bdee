//! One tree, grown leaf by leaf: the leaf with the greatest gain is split next.
//!
//! Of two new leaves only the smaller one's histogram is counted, the other's is the parent's less that. Counting runs in parallel over groups
//! of features and chunks of rows, searching over features.

use rayon::prelude::*;

use crate::binned::LANES;

use super::data::Codes;
use super::flat::Split;
use super::histogram::{self, BlockCells};
use super::packed::{Packed, Scale};
use super::partition::{Way, divide};
use super::scan::{self, Buffers, Candidate, NONE, Rules};

/// Rows above which gradients are gathered in parallel.
const PARALLEL: usize = 1 << 16;

/// How large and how fine a tree may become.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) max_leaves: usize,
    pub(crate) max_depth: usize,
    /// Gain that a split must exceed.
    pub(crate) min_gain: f64,
    pub(crate) rules: Rules,
    /// By feature of the codes, as in [`scan::Feature::monotone`]; empty: none.
    pub(crate) monotone: Vec<i8>,
}

/// A grown tree: its structure, and the rows of each leaf.
pub(crate) struct Grown {
    /// Children are references as in `Ensemble`; features are those of the codes.
    pub(crate) splits: Vec<Split>,
    pub(crate) leaves: Vec<GrownLeaf>,
}

/// Least and greatest value, a horizon.
type Bounds = Vec<(f64, f64)>;

/// A leaf of a grown tree.
pub(crate) struct GrownLeaf {
    /// Where its rows stand.
    start: usize,
    len: usize,
    /// Sum of packed gradients, one a horizon.
    totals: Vec<u64>,
    /// Empty without monotone constraints.
    bounds: Bounds,
}

/// A leaf that may still be split.
struct Open {
    leaf: GrownLeaf,
    depth: usize,
    /// Which child of which split it is.
    parent: Option<(usize, bool)>,
    cells: Vec<BlockCells>,
    candidates: Vec<Candidate>,
    /// Features whose candidate was found with exact numbers of rows.
    exact: Vec<bool>,
    best: usize,
}

/// Buffers that are kept from tree to tree.
#[derive(Default)]
pub(crate) struct Grower {
    /// Leaf by leaf once a tree is grown.
    rows: Vec<u32>,
    scratch: Vec<u32>,
    gathered: Vec<u64>,
    pool: Vec<Vec<BlockCells>>,
}

struct Job<'a> {
    codes: &'a Codes<'a>,
    gradients: &'a [Packed],
    scales: Vec<Scale>,
    shape: &'a Shape,
}

impl Grower {
    /// Grows a tree on `rows` by their `gradients`, one set a horizon.
    pub(crate) fn grow(&mut self, codes: &Codes<'_>, gradients: &[Packed], rows: impl Iterator<Item = u32>, shape: &Shape) -> Grown {
        let job = Job { codes, gradients, scales: gradients.iter().map(|g| g.scale).collect(), shape };
        self.rows.clear();
        self.rows.extend(rows);
        self.scratch.resize(self.rows.len(), 0);
        let mut open = vec![self.root(&job)];
        let mut splits = Vec::new();
        while open.len() < shape.max_leaves {
            let Some(at) = richest(&open, shape.min_gain) else { break };
            let last = open.len() + 1 == shape.max_leaves;
            let Some([left, right]) = self.split(&job, &mut open[at], splits.len(), last) else { continue };
            let next = splits.len() as i32;
            hang(&mut splits, open[at].parent, next);
            splits.push(split_of(&open[at]));
            self.pool.extend(Some(std::mem::take(&mut open[at].cells)).filter(|cells| !cells.is_empty()));
            open[at] = left;
            open.push(right);
        }
        self.finish(open, splits)
    }

    /// Rows of a leaf of the tree grown last.
    pub(crate) fn rows_of(&self, leaf: &GrownLeaf) -> &[u32] {
        &self.rows[leaf.start..leaf.start + leaf.len]
    }

    /// Hangs the leaves into the splits, and keeps the histograms for the next tree.
    fn finish(&mut self, open: Vec<Open>, mut splits: Vec<Split>) -> Grown {
        let mut leaves = Vec::with_capacity(open.len());
        let mut parents: Vec<Option<(usize, bool)>> = Vec::with_capacity(open.len());
        for mut leaf in open {
            if !leaf.cells.is_empty() {
                self.pool.push(std::mem::take(&mut leaf.cells));
            }
            parents.push(leaf.parent);
            leaves.push(leaf.leaf);
        }
        for (i, parent) in parents.into_iter().enumerate() {
            hang(&mut splits, parent, -1 - i as i32);
        }
        Grown { splits, leaves }
    }

    fn cells(&mut self, job: &Job<'_>) -> Vec<BlockCells> {
        let size = job.blocks() * job.gradients.len();
        loop {
            match self.pool.pop() {
                Some(cells) if cells.len() == size => return cells,
                Some(_) => {}
                None => return vec![[[0; 256]; LANES]; size],
            }
        }
    }

    fn root(&mut self, job: &Job<'_>) -> Open {
        let len = self.rows.len();
        self.gather(job, 0, len);
        let sum = |of: &[u64]| of.iter().fold(0u64, |sum, cell| sum.wrapping_add(*cell));
        let totals: Vec<u64> = self.gathered.chunks(len.max(1)).map(sum).collect();
        let any = (f64::NEG_INFINITY, f64::INFINITY);
        let bounds = if job.shape.monotone.is_empty() { Vec::new() } else { vec![any; totals.len()] };
        let mut root = Open::new(GrownLeaf { start: 0, len, totals, bounds }, 0, None);
        if !root.may_split(job) {
            return root;
        }
        let mut cells = self.cells(job);
        self.count(job, 0, len, &mut cells, None);
        root.candidates = search_all(job, &root.leaf, &cells);
        root.cells = cells;
        root.settle();
        root
    }

    /// Copies the gradients of a stretch of rows, so that they are read in order as often as there are blocks.
    fn gather(&mut self, job: &Job<'_>, start: usize, len: usize) {
        let rows = &self.rows[start..start + len];
        self.gathered.resize(len * job.gradients.len(), 0);
        for (gathered, gradients) in self.gathered.chunks_mut(len.max(1)).zip(job.gradients) {
            let copy = |(to, row): (&mut u64, &u32)| *to = gradients.cells[*row as usize];
            if len > PARALLEL {
                gathered.par_iter_mut().with_min_len(PARALLEL / 4).zip(rows).for_each(copy);
            } else {
                gathered.iter_mut().zip(rows).for_each(copy);
            }
        }
    }

    /// Counts cells over a stretch of rows whose gradients are gathered, and takes them off the parent's.
    fn count(&self, job: &Job<'_>, start: usize, len: usize, cells: &mut [BlockCells], parent: Option<&mut [BlockCells]>) {
        let rows = &self.rows[start..start + len];
        let groups = job.codes.layout.groups.len();
        let count = |at: usize, cells: &mut [BlockCells]| {
            let leaf = histogram::Leaf { rows, gradients: &self.gathered[at / groups * len..][..len] };
            histogram::count(job.codes.group(at % groups), leaf, cells);
        };
        let tasks = by_group(job, cells).into_par_iter().enumerate();
        match parent {
            None => tasks.for_each(|(at, cells)| count(at, cells)),
            Some(parent) => tasks.zip(by_group(job, parent)).for_each(|((at, cells), parent)| {
                count(at, cells);
                histogram::subtract(parent, cells, job.codes.group(at % groups).features);
            }),
        }
    }

    /// Splits a leaf by its best candidate; leaves of the `last` split need no histogram. `None` if that leaves too few rows on a side, in which case the next best is known.
    fn split(&mut self, job: &Job<'_>, open: &mut Open, split: usize, last: bool) -> Option<[Open; 2]> {
        let (start, len) = (open.leaf.start, open.leaf.len);
        let best = open.candidates[open.best];
        let way = Way { code: best.code, missing_left: best.missing_left };
        let codes = &job.codes.columns[open.best];
        let left = divide(&mut self.rows[start..start + len], &mut self.scratch[..len], codes, way);
        if left.min(len - left) < job.shape.rules.min_rows.max(1) {
            let mut counts = [0u32; 256];
            self.rows[start..start + len].iter().for_each(|row| counts[usize::from(codes[*row as usize])] += 1);
            open.retry(job, &counts);
            return None;
        }
        let [mut low, mut high] = open.children(job, split, left);
        let (low_may, high_may) = (low.may_split(job), high.may_split(job));
        if !last && (low_may || high_may) {
            let parent = std::mem::take(&mut open.cells);
            if left * 2 <= len { self.inherit(job, &mut low, &mut high, parent) } else { self.inherit(job, &mut high, &mut low, parent) }
        }
        Some([low, high])
    }

    /// Histograms and candidates of both children from the parent's.
    fn inherit(&mut self, job: &Job<'_>, small: &mut Open, large: &mut Open, mut parent: Vec<BlockCells>) {
        let mut cells = self.cells(job);
        let (start, len) = (small.leaf.start, small.leaf.len);
        self.gather(job, start, len);
        self.count(job, start, len, &mut cells, Some(&mut parent));
        for (open, cells) in [(&mut *small, &cells), (&mut *large, &parent)] {
            if open.may_split(job) {
                open.candidates = search_all(job, &open.leaf, cells);
                open.settle();
            }
        }
        (small.cells, large.cells) = (cells, parent);
    }
}

/// The leaf whose best candidate gains most; of equal ones the first.
fn richest(open: &[Open], min_gain: f64) -> Option<usize> {
    let gain = |i: &usize| open[*i].gain();
    let best = (0..open.len()).fold(None, |best: Option<usize>, i| best.filter(|b| gain(b) >= gain(&i)).or(Some(i)));
    best.filter(|i| gain(i) > min_gain.max(0.0))
}

fn split_of(open: &Open) -> Split {
    let best = open.candidates[open.best];
    Split { feature: open.best as u32, code: best.code, missing_left: best.missing_left, left: 0, right: 0 }
}

fn hang(splits: &mut [Split], parent: Option<(usize, bool)>, child: i32) {
    if let Some((at, is_left)) = parent {
        *(if is_left { &mut splits[at].left } else { &mut splits[at].right }) = child;
    }
}

/// A leaf's cells horizon by horizon, group by group.
fn by_group<'c>(job: &Job<'_>, cells: &'c mut [BlockCells]) -> Vec<&'c mut [BlockCells]> {
    let mut parts = Vec::new();
    for mut rest in cells.chunks_mut(job.blocks()) {
        for (_, width) in &job.codes.layout.groups {
            let part;
            (part, rest) = rest.split_at_mut(*width);
            parts.push(part);
        }
    }
    parts
}

/// The best split of a leaf by each feature.
fn search_all(job: &Job<'_>, leaf: &GrownLeaf, cells: &[BlockCells]) -> Vec<Candidate> {
    let search = |buffers: &mut Buffers, feature| {
        scan::scan(buffers, &leaf.seen(), &job.feature(feature, cells, None), &job.scales, &job.shape.rules)
    };
    (0..job.codes.features.len()).into_par_iter().with_min_len(LANES).map_init(Buffers::default, search).collect()
}

impl Job<'_> {
    /// Blocks of features.
    fn blocks(&self) -> usize {
        self.codes.features.len().div_ceil(LANES)
    }

    fn feature<'c>(&self, feature: usize, cells: &'c [BlockCells], rows: Option<&'c [u32; 256]>) -> scan::Feature<'c> {
        let monotone = self.shape.monotone.get(feature).copied().unwrap_or_default();
        scan::Feature { cells, blocks: self.blocks(), feature, last: self.codes.last[feature], monotone, rows }
    }
}

impl GrownLeaf {
    fn seen(&self) -> scan::Leaf<'_> {
        scan::Leaf { totals: &self.totals, rows: self.len, bounds: &self.bounds }
    }

    /// The value of least loss at horizon `k`.
    pub(crate) fn value(&self, k: usize, scale: Scale, l2: f64) -> f64 {
        match self.bounds.get(k) {
            Some(bounds) => scan::bounded(self.totals[k], scale, l2, *bounds).0,
            None => scan::value(self.totals[k], scale, l2),
        }
    }
}

impl Open {
    fn new(leaf: GrownLeaf, depth: usize, parent: Option<(usize, bool)>) -> Self {
        Self { leaf, depth, parent, cells: Vec::new(), candidates: Vec::new(), exact: Vec::new(), best: 0 }
    }

    fn may_split(&self, job: &Job<'_>) -> bool {
        self.depth < job.shape.max_depth && self.leaf.len >= 2 * job.shape.rules.min_rows.max(1)
    }

    fn gain(&self) -> f64 {
        self.candidates.get(self.best).map_or(0.0, |c| c.gain)
    }

    /// Finds the best candidate; of equal ones the first feature's.
    fn settle(&mut self) {
        let better = |best: usize, i: usize| if self.candidates[i].gain > self.candidates[best].gain { i } else { best };
        self.best = (0..self.candidates.len()).fold(0, better);
    }

    /// Searches the best feature again with exact numbers of rows, since the estimate let a split through that leaves too few.
    fn retry(&mut self, job: &Job<'_>, rows: &[u32; 256]) {
        let feature = self.best;
        self.exact.resize(self.candidates.len(), false);
        let found = if self.exact[feature] {
            NONE
        } else {
            let feature = job.feature(feature, &self.cells, Some(rows));
            scan::scan(&mut Buffers::default(), &self.leaf.seen(), &feature, &job.scales, &job.shape.rules)
        };
        self.candidates[feature] = found;
        self.exact[feature] = true;
        self.settle();
    }

    /// The two leaves that the best candidate makes, the first `left` rows in the lower one.
    fn children(&self, job: &Job<'_>, split: usize, left: usize) -> [Self; 2] {
        let (k, best) = (job.gradients.len(), self.candidates[self.best]);
        let feature = job.feature(self.best, &self.cells, None);
        let lows: Vec<u64> = (0..k).map(|k| feature.left_sum(k, best)).collect();
        let highs: Vec<u64> = self.leaf.totals.iter().zip(&lows).map(|(all, low)| all.wrapping_sub(*low)).collect();
        let (low_bounds, high_bounds) = self.child_bounds(job, feature.monotone, &lows, &highs);
        let low = GrownLeaf { start: self.leaf.start, len: left, totals: lows, bounds: low_bounds };
        let high = GrownLeaf { start: self.leaf.start + left, len: self.leaf.len - left, totals: highs, bounds: high_bounds };
        [Self::new(low, self.depth + 1, Some((split, true))), Self::new(high, self.depth + 1, Some((split, false)))]
    }

    /// Bounds of the children: below a monotone split everything on the lower side stays on its side of the middle of both values.
    fn child_bounds(&self, job: &Job<'_>, monotone: i8, lows: &[u64], highs: &[u64]) -> (Bounds, Bounds) {
        let (mut low, mut high) = (self.leaf.bounds.clone(), self.leaf.bounds.clone());
        if monotone != 0 {
            for (k, bounds) in self.leaf.bounds.iter().enumerate() {
                let at = |sum: u64| scan::bounded(sum, job.scales[k], job.shape.rules.l2, *bounds).0;
                let middle = (at(lows[k]) + at(highs[k])) / 2.0;
                let (falling, rising) = if monotone > 0 { (&mut low[k], &mut high[k]) } else { (&mut high[k], &mut low[k]) };
                falling.1 = middle;
                rising.0 = middle;
            }
        }
        (low, high)
    }
}
