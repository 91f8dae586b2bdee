//! The one flat form of every tree learner: arrays of nodes and leaves, scored without allocation or lock.

use serde::{Deserialize, Serialize};

/// How a sum over trees becomes a probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// The mean over the trees is the probability (a tree, a forest).
    Mean,
    /// The sum over the trees is the log-odds (boosting).
    Logistic,
}

/// An inner node: a row goes left if its feature's value is at most the threshold, compared in f64; a missing one goes where
/// `missing_left` says. A child ≥ 0 is a node, a child < 0 is leaf `-1 - child`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Column of the feature matrix.
    pub feature: u32,
    /// Greatest value that goes left.
    pub threshold: f64,
    /// Where a missing value goes.
    pub missing_left: bool,
    /// Left child.
    pub left: i32,
    /// Right child.
    pub right: i32,
}

/// Trees that score one row for K horizons at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ensemble {
    /// How sums become probabilities.
    pub link: Link,
    /// Columns of the feature matrix.
    pub features: usize,
    /// Horizons K: values a leaf holds.
    pub horizons: usize,
    /// What the sum starts with, one a horizon.
    pub base: Vec<f64>,
    /// Each tree's first child reference (a node, or a leaf for a stump).
    pub roots: Vec<i32>,
    /// Inner nodes of all trees; a child stands after its parent.
    pub nodes: Vec<Node>,
    /// K values a leaf: q_k, the probability of a failure in (h_{k−1}, h_k] given none before, or its log-odds.
    pub leaves: Vec<f64>,
    /// Training weight that reached each leaf.
    pub cover: Vec<f64>,
}

/// Why an ensemble cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: found {found}, expected {expected}")]
pub struct BadEnsemble {
    place: String,
    found: String,
    expected: String,
}

fn bad<T>(place: String, found: impl ToString, expected: impl ToString) -> Result<T, BadEnsemble> {
    Err(BadEnsemble { place, found: found.to_string(), expected: expected.to_string() })
}

impl Ensemble {
    /// Checks that every reference stays inside and every walk ends, so that scoring cannot panic or loop.
    pub fn check(self) -> Result<Self, BadEnsemble> {
        let leaves = self.cover.len();
        if self.horizons == 0 || self.leaves.len() != leaves * self.horizons || self.base.len() != self.horizons {
            let found = format!("{} values, {} bases for {leaves} leaves", self.leaves.len(), self.base.len());
            return bad("ensemble.leaves".into(), found, format!("{} a leaf", self.horizons));
        }
        if self.roots.is_empty() {
            return bad("ensemble.roots".into(), "none", "at least one tree");
        }
        if let Some(i) = self.leaves.iter().chain(&self.base).chain(&self.cover).position(|v| !v.is_finite()) {
            return bad(format!("ensemble.leaves[{i}]"), "no finite number", "a finite number");
        }
        for (i, node) in self.nodes.iter().enumerate() {
            if node.feature as usize >= self.features || node.threshold.is_nan() {
                return bad(
                    format!("ensemble.nodes[{i}]"),
                    format!("feature {} threshold {}", node.feature, node.threshold),
                    format!("a feature below {}", self.features),
                );
            }
            for child in [node.left, node.right] {
                let inside = if child >= 0 { child as usize > i && (child as usize) < self.nodes.len() } else { leaf(child) < leaves };
                if !inside {
                    return bad(format!("ensemble.nodes[{i}]"), format!("child {child}"), "a later node or a leaf");
                }
            }
        }
        for (i, root) in self.roots.iter().enumerate() {
            if if *root >= 0 { *root as usize >= self.nodes.len() } else { leaf(*root) >= leaves } {
                return bad(format!("ensemble.roots[{i}]"), root, "a node or a leaf");
            }
        }
        Ok(self)
    }

    /// The leaf that `row` reaches in the tree that begins at `root`.
    #[inline]
    pub fn walk(&self, root: i32, row: &[f64]) -> usize {
        let mut at = root;
        while at >= 0 {
            let node = &self.nodes[at as usize];
            at = if node.goes_left(row[node.feature as usize]) { node.left } else { node.right };
        }
        leaf(at)
    }

    /// Risks of `row`, one a horizon, never decreasing: risk_k = 1 − Π_{j≤k}(1 − q_j).
    pub fn score(&self, row: &[f64], risks: &mut [f64]) {
        self.hazards(row, risks);
        accumulate(risks);
    }

    /// q_k of `row`, one a horizon, before any calibration.
    pub fn hazards(&self, row: &[f64], q: &mut [f64]) {
        q.copy_from_slice(&self.base);
        for root in &self.roots {
            let at = self.walk(*root, row) * self.horizons;
            for (sum, value) in q.iter_mut().zip(&self.leaves[at..at + self.horizons]) {
                *sum += value;
            }
        }
        let trees = self.roots.len() as f64;
        for q in q {
            *q = match self.link {
                Link::Mean => *q / trees,
                Link::Logistic => 1.0 / (1.0 + libm::exp(-*q)),
            };
        }
    }

    /// What each feature on the row's paths adds to q_k (with one horizon, to the risk; before the link), by the change of the expected value at each split
    /// (Saabas 2014); the contributions and the base add up to the score. Largest size first.
    pub fn path_contributions(&self, row: &[f64], k: usize) -> Vec<(u32, f64)> {
        let expected = self.expected(k);
        let mut by_feature: Vec<(u32, f64)> = Vec::new();
        let share = if self.link == Link::Mean { 1.0 / self.roots.len() as f64 } else { 1.0 };
        for root in &self.roots {
            let mut at = *root;
            while at >= 0 {
                let node = &self.nodes[at as usize];
                let next = if node.goes_left(row[node.feature as usize]) { node.left } else { node.right };
                let change = (self.value(next, k, &expected) - self.value(at, k, &expected)) * share;
                match by_feature.iter_mut().find(|(f, _)| *f == node.feature) {
                    Some((_, sum)) => *sum += change,
                    None => by_feature.push((node.feature, change)),
                }
                at = next;
            }
        }
        by_feature.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
        by_feature
    }

    fn value(&self, at: i32, k: usize, expected: &[(f64, f64)]) -> f64 {
        if at >= 0 { expected[at as usize].1 } else { self.leaves[leaf(at) * self.horizons + k] }
    }

    /// Cover and cover-weighted mean leaf value below each node. Children stand after their parents, so one pass from the end does.
    fn expected(&self, k: usize) -> Vec<(f64, f64)> {
        let mut expected = vec![(0.0, 0.0); self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate().rev() {
            let of =
                |at: i32| if at >= 0 { expected[at as usize] } else { (self.cover[leaf(at)], self.leaves[leaf(at) * self.horizons + k]) };
            let ((left_cover, left), (right_cover, right)) = (of(node.left), of(node.right));
            let cover = left_cover + right_cover;
            expected[i] = (cover, if cover > 0.0 { (left_cover * left + right_cover * right) / cover } else { (left + right) / 2.0 });
        }
        expected
    }
}

impl Node {
    /// Whether `value` goes left.
    #[inline]
    fn goes_left(&self, value: f64) -> bool {
        value <= self.threshold || (value.is_nan() && self.missing_left)
    }
}

#[inline]
fn leaf(child: i32) -> usize {
    (-1 - child) as usize
}

/// q to risk, in place.
pub(crate) fn accumulate(q: &mut [f64]) {
    let mut safe = 1.0;
    for q in q {
        safe *= 1.0 - *q;
        *q = 1.0 - safe;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(feature: u32, threshold: f64, missing_left: bool, left: i32, right: i32) -> Node {
        Node { feature, threshold, missing_left, left, right }
    }

    /// x0 ≤ 1 → (0.1, 0.2); else x1 ≤ 5 → (0.3, 0.4), else (0.5, 0.5).
    fn two_horizons() -> Ensemble {
        let nodes = vec![node(0, 1.0, false, -1, 1), node(1, 5.0, true, -2, -3)];
        let leaves = vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.5];
        Ensemble {
            link: Link::Mean,
            features: 2,
            horizons: 2,
            base: vec![0.0; 2],
            roots: vec![0],
            nodes,
            leaves,
            cover: vec![6.0, 3.0, 1.0],
        }
        .check()
        .unwrap()
    }

    fn score(row: &[f64]) -> [f64; 2] {
        let mut risks = [0.0; 2];
        two_horizons().score(row, &mut risks);
        risks
    }

    #[test]
    fn rows_reach_their_leaf_and_risk_never_falls_with_the_horizon() {
        assert_eq!(score(&[1.0, 9.0]), [0.1 - 0.0, 1.0 - 0.9 * 0.8].map(|r: f64| 1.0 - (1.0 - r)));
        assert_eq!(score(&[1.5, 5.0])[0], 1.0 - 0.7);
        assert_eq!(score(&[1.5, 5.1])[0], 0.5);
        assert_eq!(score(&[f64::NAN, f64::NAN])[0], 1.0 - 0.7, "missing: right at the root, left below it");
        assert!(score(&[2.0, 9.0])[1] >= score(&[2.0, 9.0])[0]);
    }

    #[test]
    fn contributions_add_up_to_the_score() {
        let ensemble = two_horizons();
        let row = [2.0, 9.0];
        let base = (6.0 * 0.1 + 3.0 * 0.3 + 0.5) / 10.0;
        let sum: f64 = ensemble.path_contributions(&row, 0).iter().map(|c| c.1).sum();
        assert!((base + sum - 0.5).abs() < 1e-12);
    }

    #[test]
    fn an_ensemble_that_could_loop_or_panic_is_refused() {
        let with = |change: &dyn Fn(&mut Ensemble)| {
            let mut e = two_horizons();
            change(&mut e);
            e.check()
        };
        assert!(with(&|_| ()).is_ok());
        assert!(with(&|e| e.nodes[1].left = 0).is_err(), "a loop");
        assert!(with(&|e| e.nodes[0].feature = 2).is_err());
        assert!(with(&|e| e.nodes[0].left = -9).is_err());
        assert!(with(&|e| e.roots[0] = 7).is_err());
        assert!(with(&|e| e.leaves[0] = f64::NAN).is_err());
        assert!(with(&|e| e.leaves.truncate(5)).is_err());
    }
}
