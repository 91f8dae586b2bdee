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
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::matrix::Matrix;
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

/// Fits a tree on the rows of `devices`.
pub(crate) fn fit(matrix: &Matrix, devices: &[usize], settings: &Settings) -> Result<Tree, TrainError> {
    let rows = fit_rows(matrix, devices, settings);
    let horizon = settings.horizon();
    let positive: Vec<bool> = rows.iter().map(|r| matrix.labels[*r].at(horizon) == Label::Positive).collect();
    let positives = positive.iter().filter(|p| **p).count();
    if positives == 0 || positives == rows.len() {
        let found = format!("{positives} positive of {} readings with a known label", rows.len());
        return Err(TrainError::TooLittle {
            found,
            needed: "both positive and negative readings in every fold: more failures, or a shorter horizon".into(),
        });
    }
    // A feature with one code only cannot split; leaving it out saves linfa the look at it.
    let columns: Vec<usize> =
        (0..matrix.features).filter(|f| rows.iter().any(|r| matrix.codes(*r)[*f] != matrix.codes(rows[0])[*f])).collect();
    let records = Array2::from_shape_fn((rows.len(), columns.len()), |(i, c)| f32::from(matrix.codes(rows[i])[columns[c]]));
    let share = positives as f32 / rows.len() as f32;
    let weights = Array1::from_iter(positive.iter().map(|p| if *p { 0.5 / share } else { 0.5 / (1.0 - share) }));
    let dataset = Dataset::new(records, Array1::from(positive)).with_weights(weights);
    let params = DecisionTree::<f32, bool>::params().max_depth(Some(settings.depth)).min_weight_leaf(settings.min_leaf);
    let fitted = params.fit(&dataset).map_err(|e| TrainError::Fit(e.to_string()))?;
    let mut tree = Tree { root: 0, splits: Vec::new(), leaves: Vec::new(), cover: Vec::new(), horizons: settings.horizons.len() };
    tree.root = tree.take(fitted.root_node(), &columns);
    tree.refill(matrix, devices, settings);
    Ok(tree)
}

/// Rows with a known label: all positives (half of the limit at most) and as many negatives, drawn at random, as the limit leaves room for, about: each row is drawn on its own.
fn fit_rows(matrix: &Matrix, devices: &[usize], settings: &Settings) -> Vec<usize> {
    let horizon = settings.horizon();
    let rows = || devices.iter().flat_map(|d| matrix.devices[*d].rows.clone());
    let count = |label| rows().filter(|r| matrix.labels[*r].at(horizon) == label).count();
    let (positives, negatives) = (count(Label::Positive), count(Label::Negative));
    let room = settings.max_fit_rows;
    let take_positives = positives.min(room - negatives.min(room / 2));
    let take_negatives = negatives.min(room - take_positives);
    let mut chance = Pcg64Mcg::seed_from_u64(settings.seed);
    let mut draw = |taken: usize, of: usize| (chance.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * (of as f64) < taken as f64;
    rows()
        .filter(|r| match matrix.labels[*r].at(horizon) {
            Label::Positive => draw(take_positives, positives),
            Label::Negative => draw(take_negatives, negatives),
            Label::Unknown => false,
        })
        .collect()
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
    fn refill(&mut self, matrix: &Matrix, devices: &[usize], settings: &Settings) {
        let k = settings.horizons.len();
        let leaves = self.cover.len();
        let (mut failed, mut at_risk) = (vec![0.0; leaves * k], vec![0.0; leaves * k]);
        for row in devices.iter().flat_map(|d| matrix.devices[*d].rows.clone()) {
            let leaf = self.leaf(matrix.codes(row));
            let label = matrix.labels[row];
            self.cover[leaf] += f64::from(u8::from(label.at(settings.horizon()) != Label::Unknown));
            for (i, horizon) in settings.horizons.iter().enumerate() {
                match label.at(*horizon) {
                    Label::Unknown => break,
                    known => {
                        at_risk[leaf * k + i] += 1.0;
                        if known == Label::Positive {
                            failed[leaf * k + i] += 1.0;
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

    fn leaf(&self, codes: &[u8]) -> usize {
        let mut at = self.root;
        while at >= 0 {
            let split = self.splits[at as usize];
            at = if codes[split.feature as usize] <= split.code { split.left } else { split.right };
        }
        (-1 - at) as usize
    }

    /// Risk at the last horizon.
    pub(crate) fn risk(&self, codes: &[u8]) -> f64 {
        let leaf = self.leaf(codes) * self.horizons;
        1.0 - self.leaves[leaf..leaf + self.horizons].iter().fold(1.0, |safe, q| safe * (1.0 - q))
    }

    /// The same tree over values.
    pub(crate) fn to_ensemble(&self, matrix: &Matrix) -> Ensemble {
        let node = |s: &Split| {
            // Left of "at most code c" are the values up to the c-th edge, and always the missing ones; c = 0 is those alone.
            let threshold = if s.code == 0 { f64::MIN } else { matrix.edges[s.feature as usize][usize::from(s.code) - 1] };
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
