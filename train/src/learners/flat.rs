//! Fitted trees over codes, whichever learner grew them, and their exported form.

use homeward_models::ensemble::{Arithmetic, Ensemble, Link, Node};
use linfa::traits::PredictInplace;
use ndarray::Array2;
use rayon::prelude::*;

use crate::binned::{Binned, MISSING};

use super::data::Sample;

/// Rows that a task scores at once.
const CHUNK: usize = 1 << 12;

/// A split of codes: left if the code is at most `code`, or missing and `missing_left`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Split {
    pub(crate) feature: u32,
    pub(crate) code: u8,
    pub(crate) missing_left: bool,
    /// A split if at least 0, else leaf `-1 - left`.
    pub(crate) left: i32,
    pub(crate) right: i32,
}

impl Split {
    #[inline]
    fn next(&self, code: u8) -> i32 {
        let left = if code == MISSING { self.missing_left } else { code <= self.code };
        if left { self.left } else { self.right }
    }
}

/// Fitted trees over the codes of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Trees {
    pub(crate) link: Link,
    pub(crate) features: usize,
    pub(crate) horizons: usize,
    pub(crate) base: Vec<f64>,
    pub(crate) roots: Vec<i32>,
    /// Splits and leaves before each tree.
    starts: Vec<(usize, usize)>,
    pub(crate) splits: Vec<Split>,
    /// K values a leaf.
    pub(crate) leaves: Vec<f64>,
    /// Training weight that reached each leaf.
    pub(crate) cover: Vec<f64>,
}

/// The leaf that a row reaches below `at`, its codes given by feature.
#[inline]
pub(crate) fn leaf_of(splits: &[Split], root: i32, code: impl Fn(usize) -> u8) -> usize {
    let mut at = root;
    while at >= 0 {
        let split = &splits[at as usize];
        at = split.next(code(split.feature as usize));
    }
    (-1 - at) as usize
}

impl Trees {
    pub(crate) fn new(link: Link, features: usize, base: Vec<f64>) -> Self {
        let horizons = base.len();
        Self {
            link,
            features,
            horizons,
            base,
            roots: Vec::new(),
            starts: Vec::new(),
            splits: Vec::new(),
            leaves: Vec::new(),
            cover: Vec::new(),
        }
    }

    /// Adds a tree: its own splits (the first one is the root; none for a single leaf), K values and the cover of each leaf.
    pub(crate) fn push(&mut self, splits: impl ExactSizeIterator<Item = Split>, leaves: &[f64], cover: &[f64]) {
        let (splits_before, leaves_before) = (self.splits.len() as i32, self.cover.len() as i32);
        let moved = |child: i32| if child >= 0 { child + splits_before } else { child - leaves_before };
        self.starts.push((self.splits.len(), self.cover.len()));
        self.roots.push(moved(if splits.len() == 0 { -1 } else { 0 }));
        self.splits.extend(splits.map(|s| Split { left: moved(s.left), right: moved(s.right), ..s }));
        self.leaves.extend_from_slice(leaves);
        self.cover.extend_from_slice(cover);
    }

    /// Keeps the first `trees` trees.
    pub(crate) fn truncate(&mut self, trees: usize) {
        let Some(next) = self.starts.get(trees).copied() else { return };
        self.roots.truncate(trees);
        self.starts.truncate(trees);
        self.splits.truncate(next.0);
        self.cover.truncate(next.1);
        self.leaves.truncate(next.1 * self.horizons);
    }

    /// Number of trees.
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// Whether there is no tree, which no fit ends with.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Risks of a row, one a horizon, never decreasing; the same bits as the exported form gives.
    pub fn risk_into(&self, binned: &Binned, row: usize, risks: &mut [f64]) {
        risks.copy_from_slice(&self.base);
        for root in &self.roots {
            let leaf = leaf_of(&self.splits, *root, |feature| binned.code(row, feature)) * self.horizons;
            risks.iter_mut().zip(&self.leaves[leaf..]).for_each(|(sum, value)| *sum += value);
        }
        let mut safe = 1.0;
        for risk in risks {
            let q = match self.link {
                Link::Mean => *risk / self.roots.len() as f64,
                link => link.probability(*risk),
            };
            safe *= 1.0 - q;
            *risk = 1.0 - safe;
        }
    }

    /// Risks of `rows`, K a row, in parallel.
    pub fn risks(&self, binned: &Binned, rows: &[u32]) -> Vec<f64> {
        let mut risks = vec![0.0; rows.len() * self.horizons];
        risks.par_chunks_mut(self.horizons * CHUNK).zip(rows.par_chunks(CHUNK)).for_each(|(risks, rows)| {
            risks.chunks_mut(self.horizons).zip(rows).for_each(|(risks, row)| self.risk_into(binned, *row as usize, risks));
        });
        risks
    }

    /// The same trees over values.
    pub fn to_ensemble(&self, binned: &Binned) -> Ensemble {
        let bins = binned.bins();
        let node = |s: &Split| {
            // Left of "at most code c" are the values up to the c-th edge: none for 0, all for the last code. No value is infinite.
            let threshold = match usize::from(s.code).checked_sub(1) {
                None => f64::MIN,
                Some(at) => bins.edges(s.feature as usize).get(at).copied().unwrap_or(f64::MAX),
            };
            Node { feature: s.feature, threshold, missing_left: s.missing_left, left: s.left, right: s.right }
        };
        Ensemble {
            link: self.link,
            arithmetic: Arithmetic::default(),
            features: self.features,
            horizons: self.horizons,
            base: self.base.clone(),
            roots: self.roots.clone(),
            nodes: self.splits.iter().map(node).collect(),
            leaves: self.leaves.clone(),
            cover: self.cover.clone(),
        }
    }
}

impl PredictInplace<Sample<'_>, Array2<f64>> for Trees {
    fn predict_inplace<'a>(&'a self, sample: &'a Sample<'_>, risks: &mut Array2<f64>) {
        for (risk, value) in risks.iter_mut().zip(self.risks(sample.binned, sample.rows)) {
            *risk = value;
        }
    }

    fn default_target(&self, sample: &Sample<'_>) -> Array2<f64> {
        Array2::zeros((sample.rows.len(), self.horizons))
    }
}
