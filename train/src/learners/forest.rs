//! `forest`: trees on bootstrap samples, each split searched among a few features drawn anew (Breiman 2001), a linfa estimator.
//!
//! The gain of a split is that of the Gini impurity: with g = weight of the failed and h = weight of all it is the boosting gain without λ.
//! Leaves hold rates, drawn towards the overall rate by one row's weight.

use homeward_models::ensemble::Link;
use linfa::dataset::DatasetBase;
use linfa::traits::Fit;
use rayon::prelude::*;

use crate::binned::LANES;

use super::chance;
use super::data::{Codes, Sample, Targets};
use super::flat::{Split, Trees};
use super::histogram::BlockCells;
use super::packed::{Packed, Scale};
use super::params::{Checked, Hyper, within};
use super::partition::{Way, divide};
use super::scan::{self, Buffers, Candidate, NONE, Rules};
use super::{LearnError, enough};

/// Settings of a random forest, not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    /// Trees, default 100.
    pub trees: usize,
    /// Splits from a tree's root to a leaf at most, default 64.
    pub depth: usize,
    /// Rows of the bootstrap sample that a leaf holds at least, a row drawn twice counted once; default 5.
    pub min_rows: usize,
    /// Features that each split is searched among; default none: the square root of their number, rounded up.
    pub split_features: Option<usize>,
    /// Seed of all chance, default 1.
    pub seed: u64,
}

impl Default for Forest {
    fn default() -> Self {
        Self { trees: 100, depth: 64, min_rows: 5, split_features: None, seed: 1 }
    }
}

impl Hyper for Forest {
    fn check(&self) -> Result<(), LearnError> {
        within("forest.trees", self.trees as f64, 1.0, 100_000.0)?;
        within("forest.depth", self.depth as f64, 1.0, 4096.0)?;
        within("forest.min_rows", self.min_rows as f64, 1.0, 1e9)?;
        within("forest.split_features", self.split_features.unwrap_or(1) as f64, 1.0, 1e9)
    }
}

impl<'a> Fit<Sample<'a>, &'a Targets, LearnError> for Checked<Forest> {
    type Object = Trees;

    fn fit(&self, dataset: &DatasetBase<Sample<'a>, &'a Targets>) -> Result<Trees, LearnError> {
        let (settings, sample, targets) = (self.get(), &dataset.records, dataset.targets);
        enough(sample, targets)?;
        let codes = Codes::take(sample.binned, sample.rows);
        let varying = codes.varying();
        let codes = codes.only(&varying);
        let of =
            |k: usize| sample.rows.iter().map(move |row| (targets.failed(*row as usize, k), targets.weight_at(*row as usize, k))).collect();
        let known: Vec<Vec<(f32, f32)>> = (0..targets.horizons()).map(of).collect();
        let rates = (0..targets.horizons()).map(|k| targets.rate(sample.rows, k)).collect();
        let job = Job { settings, codes: &codes, known, rates, tried: tried(settings, codes.features.len()) };
        let grown: Vec<Tree> = (0..settings.trees as u64).into_par_iter().map(|tree| job.grow(tree)).collect();
        let mut trees = Trees::new(Link::Mean, sample.binned.features(), vec![0.0; targets.horizons()]);
        for tree in grown {
            let split = |s: Split| Split { feature: codes.features[s.feature as usize], ..s };
            trees.push(tree.splits.into_iter().map(split), &tree.leaves, &tree.cover);
        }
        Ok(trees)
    }
}

fn tried(settings: &Forest, features: usize) -> usize {
    settings.split_features.unwrap_or((features as f64).sqrt().ceil() as usize).min(features)
}

/// What all trees share.
struct Job<'a> {
    settings: &'a Forest,
    codes: &'a Codes<'a>,
    /// Whether each row failed, and its weight, a horizon.
    known: Vec<Vec<(f32, f32)>>,
    rates: Vec<f64>,
    tried: usize,
}

#[derive(Default)]
struct Tree {
    splits: Vec<Split>,
    leaves: Vec<f64>,
    cover: Vec<f64>,
}

/// A node that is to be split or to become a leaf.
struct Node {
    start: usize,
    len: usize,
    depth: usize,
    totals: Vec<u64>,
    parent: Option<(usize, bool)>,
}

/// A tree under way.
struct Growth<'a> {
    job: &'a Job<'a>,
    seed: u64,
    draws: u64,
    packed: Vec<Packed>,
    scales: Vec<Scale>,
    rows: Vec<u32>,
    scratch: Vec<u32>,
    /// All features in an order that every draw changes.
    order: Vec<usize>,
    cells: Vec<BlockCells>,
    buffers: Buffers,
    tree: Tree,
}

impl Job<'_> {
    fn grow(&self, tree: u64) -> Tree {
        let seed = chance::bits(self.settings.seed, 0x00f0_4e57, tree);
        let mut drawn = vec![0u8; self.codes.rows];
        for draw in 0..drawn.len() as u64 {
            let row = chance::bits(seed, 0, draw) % drawn.len() as u64;
            drawn[row as usize] = drawn[row as usize].saturating_add(1);
        }
        let packed: Vec<Packed> = self.known.iter().map(|known| pack(known, &drawn)).collect();
        let rows: Vec<u32> = (0..drawn.len() as u32).filter(|row| drawn[*row as usize] > 0).collect();
        let growth = Growth {
            job: self,
            seed,
            draws: 0,
            scales: packed.iter().map(|p| p.scale).collect(),
            scratch: vec![0; rows.len()],
            order: (0..self.codes.features.len()).collect(),
            cells: vec![[[0; 256]; LANES]; self.tried.div_ceil(LANES) * self.known.len()],
            buffers: Buffers::default(),
            tree: Tree::default(),
            packed,
            rows,
        };
        growth.run()
    }
}

/// Weights of the failed and of all, times how often each row was drawn.
fn pack(known: &[(f32, f32)], drawn: &[u8]) -> Packed {
    let weigh = |((failed, weight), drawn): (&(f32, f32), &u8)| (failed * weight * f32::from(*drawn), weight * f32::from(*drawn));
    let weighed: Vec<(f32, f32)> = known.iter().zip(drawn).map(weigh).collect();
    let sums = weighed.iter().fold((0.0, 0.0), |sum, (g, h)| (sum.0 + f64::from(*g), sum.1 + f64::from(*h)));
    let mut packed = Packed::new(known.len());
    packed.pack(&weighed, sums);
    packed
}

impl Growth<'_> {
    fn run(mut self) -> Tree {
        let total = |packed: &Packed| self.rows.iter().fold(0u64, |sum, row| sum.wrapping_add(packed.cells[*row as usize]));
        let totals = self.packed.iter().map(total).collect();
        let mut open = vec![Node { start: 0, len: self.rows.len(), depth: 0, totals, parent: None }];
        while let Some(node) = open.pop() {
            match self.split(&node) {
                Some([low, high]) => open.extend([high, low]),
                None => self.leaf(&node),
            }
        }
        self.tree
    }

    /// Divides a node by the best split among some features; `None` if there is none.
    fn split(&mut self, node: &Node) -> Option<[Node; 2]> {
        let least = self.job.settings.min_rows;
        if node.len < 2 * least || node.depth >= self.job.settings.depth {
            return None;
        }
        let tried = self.draw_features();
        let (feature, best, lows) = self.search(node, &tried)?;
        let way = Way { code: best.code, missing_left: best.missing_left };
        let rows = &mut self.rows[node.start..node.start + node.len];
        let left = divide(rows, &mut self.scratch[..node.len], &self.job.codes.columns[feature], way);
        let at = self.tree.splits.len();
        self.hang(node.parent, at as i32);
        self.tree.splits.push(Split { feature: feature as u32, code: best.code, missing_left: best.missing_left, left: 0, right: 0 });
        let highs = node.totals.iter().zip(&lows).map(|(all, low)| all.wrapping_sub(*low)).collect();
        let depth = node.depth + 1;
        Some([
            Node { start: node.start, len: left, depth, totals: lows, parent: Some((at, true)) },
            Node { start: node.start + left, len: node.len - left, depth, totals: highs, parent: Some((at, false)) },
        ])
    }

    /// Some features, each of them equally likely.
    fn draw_features(&mut self) -> Vec<usize> {
        for i in 0..self.job.tried {
            self.draws += 1;
            let other = i + (chance::bits(self.seed, 1, self.draws) % (self.order.len() - i) as u64) as usize;
            self.order.swap(i, other);
        }
        self.order[..self.job.tried].to_vec()
    }

    /// The best split by one of the features, with the sums of its left side.
    fn search(&mut self, node: &Node, tried: &[usize]) -> Option<(usize, Candidate, Vec<u64>)> {
        let rows = &self.rows[node.start..node.start + node.len];
        let rules = Rules { l2: 0.0, min_weight: 0.0, min_rows: self.job.settings.min_rows };
        let leaf = scan::Leaf { totals: &node.totals, rows: node.len, bounds: &[] };
        let blocks = tried.len().div_ceil(LANES);
        let mut best: Option<(usize, Candidate, Vec<u64>)> = None;
        for (i, feature) in tried.iter().enumerate() {
            let column = &self.job.codes.columns[*feature];
            let mut counts = [0u32; 256];
            rows.iter().for_each(|row| counts[usize::from(column[*row as usize])] += 1);
            for (k, packed) in self.packed.iter().enumerate() {
                let cells = &mut self.cells[k * blocks + i / LANES][i % LANES];
                cells.fill(0);
                for row in rows {
                    let cell = &mut cells[usize::from(column[*row as usize])];
                    *cell = cell.wrapping_add(packed.cells[*row as usize]);
                }
            }
            let last = self.job.codes.last[*feature];
            let seen = scan::Feature { cells: &self.cells, blocks, feature: i, last, monotone: 0, rows: Some(&counts) };
            let found = scan::scan(&mut self.buffers, &leaf, &seen, &self.scales, &rules);
            if found.gain > best.as_ref().map_or(NONE.gain, |b| b.1.gain) {
                best = Some((*feature, found, (0..self.packed.len()).map(|k| seen.left_sum(k, found)).collect()));
            }
        }
        best
    }

    fn leaf(&mut self, node: &Node) {
        self.hang(node.parent, -1 - self.tree.cover.len() as i32);
        let mut cover = 0.0;
        for (k, (sum, scale)) in node.totals.iter().zip(&self.scales).enumerate() {
            let (failed, known) = scale.unpack(*sum);
            self.tree.leaves.push(((failed + self.job.rates[k]) / (known + 1.0)).clamp(0.0, 1.0));
            cover = known;
        }
        self.tree.cover.push(cover);
    }

    fn hang(&mut self, parent: Option<(usize, bool)>, child: i32) {
        if let Some((at, left)) = parent {
            let split = &mut self.tree.splits[at];
            *(if left { &mut split.left } else { &mut split.right }) = child;
        }
    }
}
