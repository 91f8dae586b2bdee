//! `tree`: the readable baseline, linfa-trees' decision tree on bin codes, its leaves refilled with training rates; a linfa estimator.
//!
//! linfa-trees chooses the splits; its leaves hold labels only, it cannot sort NaN, and does not split values closer than 1e-5.
//! So it is given bin codes (missing is code 0, below every value), and classes of equal weight, so that pruning (which merges
//! leaves of one label) keeps the splits around the prior odds; the rates come from all rows fitted on.

use homeward_models::ensemble::Link;
use linfa::Dataset;
use linfa::dataset::DatasetBase;
use linfa::traits::Fit;
use linfa_trees::{DecisionTree, TreeNode};
use ndarray::{Array1, Array2};

use super::data::{Codes, Outcome, Sample, Targets};
use super::flat::{Split, Trees, leaf_of};
use super::params::{Checked, Hyper, within};
use super::{LearnError, enough};

/// Settings of the decision tree, not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// Splits from the root to a leaf at most, default 6.
    pub depth: usize,
    /// Rows that a leaf holds at least, both classes weighed alike; default 20.
    pub min_leaf: f32,
}

impl Default for Tree {
    fn default() -> Self {
        Self { depth: 6, min_leaf: 20.0 }
    }
}

impl Hyper for Tree {
    fn check(&self) -> Result<(), LearnError> {
        within("tree.depth", self.depth as f64, 1.0, 64.0)?;
        within("tree.min_leaf", f64::from(self.min_leaf), 1.0, 1e9)
    }
}

impl<'a> Fit<Sample<'a>, &'a Targets, LearnError> for Checked<Tree> {
    type Object = Trees;

    fn fit(&self, dataset: &DatasetBase<Sample<'a>, &'a Targets>) -> Result<Trees, LearnError> {
        let (sample, targets) = (&dataset.records, dataset.targets);
        enough(sample, targets)?;
        let (rows, failed): (Vec<u32>, Vec<bool>) =
            sample.rows.iter().filter_map(|row| Some((*row, fails(targets, *row as usize)?))).unzip();
        let codes = Codes::take(sample.binned, &rows);
        // A feature with one code only cannot split; leaving it out saves linfa the look at it.
        let columns = codes.varying();
        let records = Array2::from_shape_fn((rows.len(), columns.len()), |(row, c)| f32::from(codes.code(row, columns[c])));
        let weights = balanced(targets, &rows, &failed)?;
        let structure = Dataset::new(records, Array1::from(failed)).with_weights(weights);
        let params = DecisionTree::<f32, bool>::params().max_depth(Some(self.get().depth)).min_weight_leaf(self.get().min_leaf);
        let fitted = params.fit(&structure)?;
        let mut grown = Grown::default();
        grown.take(fitted.root_node(), &columns);
        Ok(grown.refill(sample, targets))
    }
}

/// Whether a row fails within the last horizon; `None` if nobody knows.
fn fails(targets: &Targets, row: usize) -> Option<bool> {
    let failed = (0..targets.horizons()).any(|k| targets.outcome(row, k) == Outcome::Failed);
    let survived = targets.outcome(row, targets.horizons() - 1) == Outcome::Survived;
    (failed || survived).then_some(failed)
}

/// Weights that sum up to about the number of rows, half of it a class. Each is a multiple of a power of two so large that any sum of them is exact
/// in f32: linfa-trees subtracts such sums, and panics if rounding leaves nothing where there is a row.
fn balanced(targets: &Targets, rows: &[u32], failed: &[bool]) -> Result<Array1<f32>, LearnError> {
    let weight = |row: &u32| targets.weight(*row as usize);
    let sum = |class: bool| rows.iter().zip(failed).filter(|(_, f)| **f == class).map(|(row, _)| f64::from(weight(row))).sum::<f64>();
    let (positives, negatives) = (sum(true), sum(false));
    if positives <= 0.0 || negatives <= 0.0 {
        return Err(LearnError::TooLittle {
            found: format!("weight {positives} of positive and {negatives} of negative readings known for the last horizon"),
            needed: "both: more failures, or a shorter horizon".into(),
        });
    }
    let half = rows.len() as f64 / 2.0;
    let unit = 2f32.powi((rows.len() as f32).log2().ceil() as i32 + 1 - 24);
    let share = |(row, failed): (&u32, &bool)| {
        let exact = weight(row) * (half / if *failed { positives } else { negatives }) as f32;
        (exact / unit).round().max(1.0) * unit
    };
    Ok(rows.iter().zip(failed).map(share).collect())
}

#[derive(Default)]
struct Grown {
    splits: Vec<Split>,
    leaves: usize,
}

impl Grown {
    /// Takes over linfa's structure, parents before children; returns the reference to `node`.
    fn take(&mut self, node: &TreeNode<f32, bool>, columns: &[usize]) -> i32 {
        let children = node.children();
        let (Some(left), Some(right), false) = (children[0], children[1], node.is_leaf()) else {
            self.leaves += 1;
            return -(self.leaves as i32);
        };
        let (column, value, _) = node.split();
        let at = self.splits.len();
        // linfa's split value lies between two codes and sends the lower one left, and with it what is missing.
        self.splits.push(Split { feature: columns[column] as u32, code: value.floor() as u8, missing_left: true, left: 0, right: 0 });
        let left = self.take(left, columns);
        let right = self.take(right, columns);
        (self.splits[at].left, self.splits[at].right) = (left, right);
        at as i32
    }

    /// q_k of each leaf: failures in (h_{k−1}, h_k] over the rows of which that is known, drawn towards the overall rate by one row's weight.
    fn refill(self, sample: &Sample<'_>, targets: &Targets) -> Trees {
        let k = targets.horizons();
        let mut sums = vec![(0.0, 0.0); self.leaves * k];
        let root = if self.splits.is_empty() { -1 } else { 0 };
        for row in sample.rows.iter().map(|row| *row as usize) {
            let leaf = leaf_of(&self.splits, root, |feature| sample.binned.code(row, feature));
            for (k, (failed, known)) in sums[leaf * k..][..k].iter_mut().enumerate() {
                let weight = f64::from(targets.weight_at(row, k));
                *failed += weight * f64::from(targets.failed(row, k));
                *known += weight;
            }
        }
        let rates: Vec<f64> = (0..k).map(|k| targets.rate(sample.rows, k)).collect();
        let leaves: Vec<f64> = sums.iter().enumerate().map(|(i, (failed, known))| (failed + rates[i % k]) / (known + 1.0)).collect();
        let cover: Vec<f64> = sums.iter().skip(k - 1).step_by(k).map(|(_, known)| *known).collect();
        let mut trees = Trees::new(Link::Mean, sample.binned.features(), vec![0.0; k]);
        trees.push(self.splits.into_iter(), &leaves, &cover);
        trees
    }
}
