//! The readable baseline: linfa-trees' decision tree on binned features, its leaves refilled with training rates.
//!
//! linfa-trees chooses the splits; its leaves hold labels only, it cannot sort NaN, and does not split values closer than 1e-5.
//! So it is given bin codes (missing is code 0, below every value), and classes of equal weight, so that pruning (which merges
//! leaves of one label) keeps the splits around the prior odds; the rates come from all rows of the devices fitted on.

use homeward_models::ensemble::{Arithmetic, Ensemble, Link, Node};
use homeward_models::label::Label;
use linfa::Dataset;
use linfa::traits::Fit;
use linfa_trees::{DecisionTree, TreeNode};
use ndarray::{Array1, Array2};

use crate::matrix::Matrix;
use crate::sample::FitRows;
use crate::{Settings, TrainError};

/// A split of codes: left if the code is at most `code`.
#[derive(Debug, Clone, Copy)]
struct Split {
    feature: u32,
    code: u8,
    left: i32,
    right: i32,
}

/// A fitted tree over codes.
pub(crate) struct Tree {
    root: i32,
    splits: Vec<Split>,
    /// q_k of each leaf, K a leaf.
    leaves: Vec<f64>,
    cover: Vec<f64>,
    horizons: usize,
}

/// Fits a tree on weighed rows.
pub(crate) fn fit(matrix: &Matrix, sample: &FitRows, settings: &Settings) -> Result<Tree, TrainError> {
    let horizon = settings.horizon();
    let known = |r: &usize| matrix.labels[*r].at(horizon) != Label::Unknown;
    let (rows, weights): (Vec<usize>, Vec<f32>) =
        sample.rows.iter().map(|r| *r as usize).zip(sample.weights.iter().copied()).filter(|(r, _)| known(r)).unzip();
    let positive: Vec<bool> = rows.iter().map(|r| matrix.labels[*r].at(horizon) == Label::Positive).collect();
    // A feature with one code only cannot split; leaving it out saves linfa the look at it.
    let columns: Vec<usize> =
        (0..matrix.features).filter(|f| rows.iter().any(|r| matrix.code(*r, *f) != matrix.code(rows[0], *f))).collect();
    let records = Array2::from_shape_fn((rows.len(), columns.len()), |(i, c)| f32::from(matrix.code(rows[i], columns[c])));
    let sum = |of: bool| positive.iter().zip(&weights).filter(|(p, _)| **p == of).map(|(_, w)| w).sum::<f32>();
    let half = positive.len() as f32 / 2.0;
    let (positives, negatives) = (sum(true), sum(false));
    let balanced = positive.iter().zip(&weights).map(|(p, w)| w * half / if *p { positives } else { negatives });
    let balanced = Array1::from_iter(balanced);
    let dataset = Dataset::new(records, Array1::from(positive)).with_weights(balanced);
    let params = DecisionTree::<f32, bool>::params().max_depth(Some(settings.depth)).min_weight_leaf(settings.min_leaf);
    let fitted = params.fit(&dataset).map_err(|e| TrainError::Fit(e.to_string()))?;
    let mut tree = Tree { root: 0, splits: Vec::new(), leaves: Vec::new(), cover: Vec::new(), horizons: settings.horizons.len() };
    tree.root = tree.take(fitted.root_node(), &columns);
    tree.refill(matrix, sample, settings);
    Ok(tree)
}

impl Tree {
    /// Takes over linfa's structure, parents before children; returns the reference to `node`.
    fn take(&mut self, node: &TreeNode<f32, bool>, columns: &[usize]) -> i32 {
        let children = node.children();
        let (Some(left), Some(right), false) = (children[0], children[1], node.is_leaf()) else {
            self.cover.push(0.0);
            return -(self.cover.len() as i32);
        };
        let (column, value, _) = node.split();
        let at = self.splits.len();
        // linfa's split value lies between two codes and sends the lower one left.
        self.splits.push(Split { feature: columns[column] as u32, code: value.floor() as u8, left: 0, right: 0 });
        let left = self.take(left, columns);
        let right = self.take(right, columns);
        (self.splits[at].left, self.splits[at].right) = (left, right);
        at as i32
    }

    /// q_k of each leaf: failures in (h_{k−1}, h_k] over the readings of which that is known, drawn towards the overall rate by one reading's weight.
    fn refill(&mut self, matrix: &Matrix, sample: &FitRows, settings: &Settings) {
        let k = settings.horizons.len();
        let leaves = self.cover.len();
        let (mut failed, mut at_risk) = (vec![0.0; leaves * k], vec![0.0; leaves * k]);
        for (row, weight) in sample.rows.iter().map(|r| *r as usize).zip(sample.weights.iter().map(|w| f64::from(*w))) {
            let leaf = self.leaf(|f| matrix.code(row, f));
            let label = matrix.labels[row];
            self.cover[leaf] += weight * f64::from(u8::from(label.at(settings.horizon()) != Label::Unknown));
            for (i, horizon) in settings.horizons.iter().enumerate() {
                match label.at(*horizon) {
                    Label::Unknown => break,
                    known => {
                        at_risk[leaf * k + i] += weight;
                        if known == Label::Positive {
                            failed[leaf * k + i] += weight;
                            break;
                        }
                    }
                }
            }
        }
        let rate = |i: usize| failed.iter().skip(i).step_by(k).sum::<f64>() / at_risk.iter().skip(i).step_by(k).sum::<f64>().max(1.0);
        let rates: Vec<f64> = (0..k).map(rate).collect();
        self.leaves = (0..leaves * k).map(|i| (failed[i] + rates[i % k]) / (at_risk[i] + 1.0)).collect();
    }

    fn leaf(&self, code: impl Fn(usize) -> u8) -> usize {
        let mut at = self.root;
        while at >= 0 {
            let split = self.splits[at as usize];
            at = if code(split.feature as usize) <= split.code { split.left } else { split.right };
        }
        (-1 - at) as usize
    }

    /// Risks of a row, one a horizon.
    pub(crate) fn risks(&self, matrix: &Matrix, row: usize, risks: &mut [f64]) {
        let leaf = self.leaf(|f| matrix.code(row, f)) * self.horizons;
        let mut safe = 1.0;
        for (risk, q) in risks.iter_mut().zip(&self.leaves[leaf..leaf + self.horizons]) {
            safe *= 1.0 - q;
            *risk = 1.0 - safe;
        }
    }

    /// The same tree over values.
    pub(crate) fn to_ensemble(&self, matrix: &Matrix) -> Ensemble {
        let node = |s: &Split| {
            // Left of "at most code c" are the values up to the c-th edge, and always the missing ones; c = 0 is those alone.
            let threshold = if s.code == 0 { f64::MIN } else { matrix.binned.bins().edges(s.feature as usize)[usize::from(s.code) - 1] };
            Node { feature: s.feature, threshold, missing_left: true, left: s.left, right: s.right }
        };
        Ensemble {
            link: Link::Mean,
            arithmetic: Arithmetic::default(),
            features: matrix.features,
            horizons: self.horizons,
            base: vec![0.0; self.horizons],
            roots: vec![self.root],
            nodes: self.splits.iter().map(node).collect(),
            leaves: self.leaves.clone(),
            cover: self.cover.clone(),
        }
    }
}
