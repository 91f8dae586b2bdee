//! The one flat form of every tree learner: arrays of nodes and leaves, as in the model file, with the plain walk that defines what
//! a score is. `Scorer` gives the same bits faster, `Explainer` says what each feature added.

pub mod explain;
#[cfg(test)]
#[allow(unreachable_pub, dead_code)]
mod grown;
#[cfg(target_arch = "x86_64")]
mod planes;
mod scorer;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use explain::Explainer;
pub use scorer::Scorer;

/// Nodes between a root and its deepest leaf, at most.
const DEEPEST: u32 = 1024;

/// How a sum over trees becomes a probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// The mean over the trees is the probability (a tree, a forest).
    Mean,
    /// The sum over the trees is the log-odds (boosting).
    Logistic,
    /// The sum over the trees is the probability (leaves that hold their share of it); kept within 0 and 1.
    Identity,
}

/// A format of floating-point numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// IEEE 754 binary64.
    #[default]
    F64,
    /// IEEE 754 binary32, rounded to nearest even.
    F32,
}

impl Precision {
    /// `value`, rounded to this format.
    #[inline]
    pub fn round(self, value: f64) -> f64 {
        match self {
            Self::F64 => value,
            Self::F32 => f64::from(value as f32),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::F64 => "64 bits",
            Self::F32 => "32 bits",
        }
    }
}

/// Which values go left at a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// Those at most the threshold (LightGBM, scikit-learn, this project's own learners).
    #[default]
    AtMost,
    /// Those below it (XGBoost).
    Below,
}

/// How an ensemble's numbers are compared and added: as the library does that learnt it. The default, f64 throughout and at most
/// the threshold to the left, is what this project's learners write, and is left out of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Arithmetic {
    /// A value is rounded to this before it meets a threshold.
    pub compare: Precision,
    /// Which values go left.
    pub left: Left,
    /// Sums over the trees are rounded to this after each tree.
    pub sum: Precision,
}

impl Arithmetic {
    /// The number of 64 bits, t, for which `value <= t` says of every value that is not missing whether it goes left at `threshold`. There is one, as rounding
    /// never changes the order of two values, so what goes left has a greatest number.
    pub fn at_most(self, threshold: f64) -> f64 {
        match (self.compare, self.left) {
            (Precision::F64, Left::AtMost) => threshold,
            (Precision::F64, Left::Below) => threshold.next_down(),
            (Precision::F32, Left::AtMost) => rounds_to_at_most(threshold as f32),
            (Precision::F32, Left::Below) => rounds_to_at_most((threshold as f32).next_down()),
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// An inner node: a row goes left if its feature's value is at most (or below, see [`Arithmetic`]) the threshold; a missing one
/// goes where `missing_left` says. A child ≥ 0 is a node, a child < 0 is leaf `-1 - child`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Column of the feature matrix.
    pub feature: u32,
    /// Greatest value that goes left, or with [`Left::Below`] the least that goes right.
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
    /// How its numbers are compared and added.
    #[serde(default, skip_serializing_if = "Arithmetic::is_default")]
    pub arithmetic: Arithmetic,
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
    pub(crate) place: String,
    pub(crate) found: String,
    pub(crate) expected: String,
}

fn bad<T>(place: String, found: impl ToString, expected: impl ToString) -> Result<T, BadEnsemble> {
    Err(BadEnsemble { place, found: found.to_string(), expected: expected.to_string() })
}

impl Ensemble {
    /// Checks that every reference stays inside, every node and leaf hangs from one place and every walk ends, so that scoring cannot
    /// panic or loop; and that numbers fit the arithmetic.
    ///
    /// # Errors
    /// [`BadEnsemble`] names the first place that does not hold, what was found and what was expected.
    pub fn check(self) -> Result<Self, BadEnsemble> {
        self.check_sizes()?;
        self.check_numbers()?;
        let mut hung = Hung { nodes: vec![None; self.nodes.len()], leaves: vec![false; self.cover.len()] };
        for (i, root) in self.roots.iter().enumerate() {
            hung.hang(*root, 0)
                .or_else(|found| bad(format!("ensemble.roots[{i}]"), found, "a node or a leaf that hangs from nowhere else"))?;
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let place = || format!("ensemble.nodes[{i}]");
            let depth = match hung.nodes[i] {
                Some(depth) if depth < DEEPEST => depth,
                Some(_) => return bad(place(), format!("more than {DEEPEST} nodes above it"), "a tree less deep"),
                None => return bad(place(), "nothing it hangs from before it", "a parent or a root that stands before it"),
            };
            for child in [node.left, node.right] {
                if child >= 0 && child as usize <= i {
                    return bad(place(), format!("child {child}"), "a later node or a leaf");
                }
                let expected = "a later node or a leaf that hangs from nowhere else";
                hung.hang(child, depth + 1).or_else(|found| bad(place(), format!("child {found}"), expected))?;
            }
        }
        Ok(self)
    }

    fn check_sizes(&self) -> Result<(), BadEnsemble> {
        let leaves = self.cover.len();
        let values = leaves.checked_mul(self.horizons);
        if self.horizons == 0 || Some(self.leaves.len()) != values || self.base.len() != self.horizons {
            let found = format!("{} values, {} bases for {leaves} leaves", self.leaves.len(), self.base.len());
            return bad("ensemble.leaves".into(), found, format!("{} a leaf", self.horizons));
        }
        if self.roots.is_empty() {
            return bad("ensemble.roots".into(), "none", "at least one tree");
        }
        if leaves > i32::MAX as usize || self.nodes.len() > i32::MAX as usize {
            return bad("ensemble.nodes".into(), format!("{} nodes, {leaves} leaves", self.nodes.len()), format!("at most {}", i32::MAX));
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), BadEnsemble> {
        let sum = self.arithmetic.sum;
        for (name, values) in [("base", &self.base), ("leaves", &self.leaves)] {
            if let Some(i) = values.iter().position(|v| !v.is_finite() || sum.round(*v) != *v) {
                return bad(format!("ensemble.{name}[{i}]"), values[i], format!("a finite number of {}", sum.name()));
            }
        }
        if let Some(i) = self.cover.iter().position(|v| !v.is_finite() || *v < 0.0) {
            return bad(format!("ensemble.cover[{i}]"), self.cover[i], "a weight of 0 or more");
        }
        let compare = self.arithmetic.compare;
        for (i, node) in self.nodes.iter().enumerate() {
            if node.feature as usize >= self.features || !node.threshold.is_finite() || compare.round(node.threshold) != node.threshold {
                return bad(
                    format!("ensemble.nodes[{i}]"),
                    format!("feature {} threshold {}", node.feature, node.threshold),
                    format!("a feature below {} and a finite threshold of {}", self.features, compare.name()),
                );
            }
        }
        Ok(())
    }

    /// The leaf that `row` reaches in the tree that begins at `root`. Panics on a row shorter than `features`, or unless checked.
    #[inline]
    pub fn walk(&self, root: i32, row: &[f64]) -> usize {
        let mut at = root;
        while at >= 0 {
            let node = &self.nodes[at as usize];
            at = if self.goes_left(node, row[node.feature as usize]) { node.left } else { node.right };
        }
        leaf(at)
    }

    /// Whether `value` goes left at `node`.
    #[inline]
    pub fn goes_left(&self, node: &Node, value: f64) -> bool {
        let value = self.arithmetic.compare.round(value);
        let left = match self.arithmetic.left {
            Left::AtMost => value <= node.threshold,
            Left::Below => value < node.threshold,
        };
        left || (value.is_nan() && node.missing_left)
    }

    /// Risks of `row`, one a horizon, never decreasing: risk_k = 1 − Π_{j≤k}(1 − q_j). Each tree is walked alone: what
    /// faster ways must equal to the last bit.
    pub fn score(&self, row: &[f64], risks: &mut [f64]) {
        self.raw(row, risks);
        self.finish(risks);
    }

    /// Raw scores of `row`, one a horizon: before the link; with [`Link::Mean`] the mean over the trees. This is what a library calls
    /// the raw score or the margin, and what the contributions add up to.
    pub fn raw(&self, row: &[f64], sums: &mut [f64]) {
        sums.copy_from_slice(&self.base);
        for root in &self.roots {
            self.add(self.walk(*root, row), sums);
        }
        self.share(sums);
    }

    /// Adds the values of `leaf` to `sums`, as the arithmetic says.
    #[inline]
    fn add(&self, leaf: usize, sums: &mut [f64]) {
        let at = leaf * self.horizons;
        for (sum, value) in sums.iter_mut().zip(&self.leaves[at..at + self.horizons]) {
            *sum = self.arithmetic.sum.round(*sum + value);
        }
    }

    /// Sums over the trees to raw scores, in place.
    fn share(&self, sums: &mut [f64]) {
        if self.link == Link::Mean {
            let trees = self.roots.len() as f64;
            sums.iter_mut().for_each(|sum| *sum /= trees);
        }
    }

    /// Raw scores to risks, in place.
    fn finish(&self, raw: &mut [f64]) {
        let mut safe = 1.0;
        for q in raw {
            safe *= 1.0 - self.link.probability(*q);
            *q = 1.0 - safe;
        }
    }
}

impl Link {
    /// q of a raw score.
    #[inline]
    pub fn probability(self, raw: f64) -> f64 {
        match self {
            Self::Mean => raw,
            Self::Logistic => 1.0 / (1.0 + libm::exp(-raw)),
            Self::Identity => raw.clamp(0.0, 1.0),
        }
    }
}

/// The greatest number that rounds to at most `bound`: half-way to the next one of 32 bits, which itself rounds to the even one of the two.
fn rounds_to_at_most(bound: f32) -> f64 {
    // Beyond the greatest number of 32 bits rounding goes on as if 2^128 were the next.
    let wide = |x: f32| if x.is_infinite() { f64::from(x.signum()) * 2f64.powi(128) } else { f64::from(x) };
    let half_way = f64::midpoint(wide(bound), wide(bound.next_up()));
    if bound.to_bits().is_multiple_of(2) { half_way } else { half_way.next_down() }
}

/// What has a place in a tree so far: nodes with their depth, and leaves.
struct Hung {
    nodes: Vec<Option<u32>>,
    leaves: Vec<bool>,
}

impl Hung {
    /// Hangs a child; gives the child back if it is none, or hangs already.
    fn hang(&mut self, child: i32, depth: u32) -> Result<(), i32> {
        let free = match usize::try_from(child) {
            Ok(node) => self.nodes.get_mut(node).is_some_and(|at| at.replace(depth).is_none()),
            Err(_) => self.leaves.get_mut(leaf(child)).is_some_and(|hangs| !std::mem::replace(hangs, true)),
        };
        if free { Ok(()) } else { Err(child) }
    }
}

#[inline]
fn leaf(child: i32) -> usize {
    !child as usize
}
