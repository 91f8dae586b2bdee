//! Residuals: one small regression tree a residual channel, which says what the regime makes of a signal.
//!
//! Training fits them on healthy readings; the model file holds them. What their leaves hold is subtracted, nothing else is computed.

use serde::{Deserialize, Serialize};

use crate::Fleet;
use crate::fleet::{Formula, Source};

/// An inner node: a reading goes left if its value is at most the threshold, compared in f64; a missing one goes where `missing_left`
/// says. A child ≥ 0 is a later node, a child < 0 is leaf `-1 - child`, as in [`crate::ensemble`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualNode {
    /// Which signal of the channel's `given`, by its place there.
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

/// What the regime explains of one signal. Without nodes it is the one leaf.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualTree {
    /// Name of the residual channel.
    pub channel: String,
    /// Inner nodes, the root first; a child stands after its parent.
    pub nodes: Vec<ResidualNode>,
    /// Expected values of the signal, in its unit.
    pub leaves: Vec<f64>,
}

/// Fitted residuals as the model file holds them, in the order of the fleet's residual channels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WrittenResiduals(pub Vec<ResidualTree>);

/// Why residuals do not fit a fleet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("residuals{place}: found {found}, expected {expected}")]
pub struct BadResiduals {
    place: String,
    found: String,
    expected: String,
}

fn bad<T>(place: String, found: impl ToString, expected: impl ToString) -> Result<T, BadResiduals> {
    Err(BadResiduals { place, found: found.to_string(), expected: expected.to_string() })
}

/// Fitted residuals, checked: every walk ends in a leaf.
#[derive(Debug, Clone, PartialEq)]
pub struct Residuals {
    written: WrittenResiduals,
}

impl Residuals {
    /// Checks the trees against the residual channels of `fleet`: one each, in their order.
    pub fn check(fleet: &Fleet, written: WrittenResiduals) -> Result<Self, BadResiduals> {
        let wanted: Vec<_> = regimes(fleet).collect();
        let names = |names: Vec<&str>| format!("[{}]", names.join(", "));
        let (found, expected): (Vec<_>, Vec<_>) =
            (written.0.iter().map(|t| t.channel.as_str()).collect(), wanted.iter().map(|(name, ..)| *name).collect());
        if found != expected {
            return bad(String::new(), names(found), names(expected));
        }
        for (tree, (name, _, given)) in written.0.iter().zip(wanted) {
            tree.check(name, given.len())?;
        }
        Ok(Self { written })
    }

    /// The form that the model file holds.
    pub fn written(&self) -> &WrittenResiduals {
        &self.written
    }

    /// What the regime explains of the `n`-th residual channel's signal; `given` hands out a value by its place.
    pub(super) fn expected(&self, n: usize, given: impl Fn(usize) -> f64) -> f64 {
        self.written.0[n].expected(given)
    }

    /// A print of every node and leaf, on top of `seed`.
    pub(super) fn print(&self, seed: u64) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3::with_seed(seed);
        for tree in &self.written.0 {
            hash.update(&(tree.nodes.len() as u64).to_le_bytes());
            for n in &tree.nodes {
                hash.update(&n.feature.to_le_bytes());
                hash.update(&n.threshold.to_bits().to_le_bytes());
                hash.update(&[u8::from(n.missing_left)]);
                hash.update(&n.left.to_le_bytes());
                hash.update(&n.right.to_le_bytes());
            }
            tree.leaves.iter().for_each(|leaf| hash.update(&leaf.to_bits().to_le_bytes()));
        }
        hash.digest()
    }
}

/// The residual channels of a fleet in order: name, signal, and what tells the regime (indices into the fleet's channels).
pub fn regimes(fleet: &Fleet) -> impl Iterator<Item = (&str, usize, &[usize])> {
    fleet.channels.iter().filter_map(|channel| match &channel.source {
        Source::Derived(Formula::Residual { signal, given }) => Some((channel.name.as_str(), *signal, given.as_slice())),
        _ => None,
    })
}

impl ResidualTree {
    fn check(&self, name: &str, given: usize) -> Result<(), BadResiduals> {
        let place = |what: String| format!(".{name}.{what}");
        if self.leaves.len() != self.nodes.len() + 1 {
            return bad(place("leaves".into()), self.leaves.len(), format!("{}, one more than nodes", self.nodes.len() + 1));
        }
        if let Some(i) = self.leaves.iter().position(|v| !v.is_finite()) {
            return bad(place(format!("leaves[{i}]")), self.leaves[i], "a finite number");
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let place = place(format!("nodes[{i}]"));
            if node.feature as usize >= given || node.threshold.is_nan() {
                return bad(place, format!("feature {} threshold {}", node.feature, node.threshold), format!("a feature below {given}"));
            }
            let inside = |child: i32| {
                if child < 0 { leaf(child) < self.leaves.len() } else { child as usize > i && (child as usize) < self.nodes.len() }
            };
            if !inside(node.left) || !inside(node.right) {
                return bad(place, format!("children {} and {}", node.left, node.right), "later nodes or leaves");
            }
        }
        Ok(())
    }

    fn expected(&self, given: impl Fn(usize) -> f64) -> f64 {
        let mut at = if self.nodes.is_empty() { -1 } else { 0 };
        while at >= 0 {
            let node = &self.nodes[at as usize];
            let x = given(node.feature as usize);
            let left = if x.is_nan() { node.missing_left } else { x <= node.threshold };
            at = if left { node.left } else { node.right };
        }
        self.leaves[leaf(at)]
    }
}

/// The leaf that a negative child names: −1 is leaf 0.
fn leaf(child: i32) -> usize {
    !child as usize
}
