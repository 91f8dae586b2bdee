//! What the regime makes of a signal, learnt: a regression tree a residual channel, fitted on healthy readings only.
//!
//! Grown leaf by leaf like LightGBM's trees: the split of the greatest gain in squared error first, over at most 255 bins a given signal.

use homeward_models::Fleet;
use homeward_models::features::{FeatureSpec, ResidualNode, ResidualTree, Residuals, WrittenResiduals, regimes};
use homeward_models::label::RowLabel;
use rayon::prelude::*;

use crate::binned::{Binned, MISSING};
use crate::history::History;
use crate::matrix::{Matrix, replay_values};
use crate::plan::Plan;
use crate::{Settings, TrainError, plan::Part};

/// Leaves of a tree at most.
const LEAVES: usize = 32;
/// Readings that a leaf holds at least.
const MIN_LEAF: usize = 20;
/// Readings fitted on at most.
const ROWS: usize = 200_000;
/// A reading is healthy if the next failure is at least this many horizons away.
pub(crate) const FAR: i64 = 3;

/// The features of `fleet` with its residuals fitted on what a model judged on `part` may learn from (`None`: on all).
pub(crate) fn spec(
    history: &History,
    fleet: &Fleet,
    base: &Matrix,
    plan: &Plan,
    part: Option<Part>,
    settings: &Settings,
) -> Result<FeatureSpec, TrainError> {
    let channels: Vec<(&str, usize, &[usize])> = regimes(fleet).collect();
    if channels.is_empty() {
        return Ok(base.spec().clone());
    }
    let values = healthy(history, base, &plan.learnt_from(base, part), settings)?;
    let width = fleet.channels.len();
    let fit = |(name, signal, given): &(&str, usize, &[usize])| {
        let rows: Vec<&[f64]> = values.chunks_exact(width).filter(|row| !row[*signal].is_nan()).collect();
        tree(name, &rows, *signal, given)
    };
    let trees = channels.par_iter().map(fit).collect();
    let fitted = Residuals::check(fleet, WrittenResiduals(trees)).and_then(|r| FeatureSpec::with_residuals(fleet, r));
    fitted.map_err(|e| TrainError::Fit(e.to_string()))
}

/// Whether a reading is far from any failure or fault that is known.
pub(crate) fn is_healthy(label: RowLabel, settings: &Settings) -> bool {
    match label {
        RowLabel::Fails(ms) => ms > FAR * settings.horizon(),
        RowLabel::Survives(ms) => ms >= settings.horizon(),
        RowLabel::Present(present) => !present,
        RowLabel::FailsWithin(_) | RowLabel::LeftOut => false,
    }
}

/// Channel values of healthy readings among `ranges` of the matrix' rows, row after row.
fn healthy(history: &History, matrix: &Matrix, ranges: &[std::ops::Range<usize>], settings: &Settings) -> Result<Vec<f64>, TrainError> {
    let mut wanted = vec![false; matrix.rows()];
    ranges.iter().cloned().flatten().for_each(|row| wanted[row] = is_healthy(matrix.label(row), settings));
    let step = wanted.iter().filter(|w| **w).count().div_ceil(ROWS).max(1);
    let (mut values, mut row, mut n) = (Vec::new(), 0, 0usize);
    replay_values(history, matrix.spec(), |channels| {
        if wanted[row] {
            if n.is_multiple_of(step) {
                values.extend_from_slice(channels);
            }
            n += 1;
        }
        row += 1;
    })?;
    Ok(values)
}

/// A leaf that may be split.
struct Leaf {
    rows: Vec<u32>,
    sum: f64,
    /// Gain, given signal, greatest code that goes left.
    best: Option<(f64, usize, u8)>,
    /// Which child of which node it is.
    parent: Option<(usize, bool)>,
}

/// Fits the tree of one channel.
fn tree(name: &str, rows: &[&[f64]], signal: usize, given: &[usize]) -> ResidualTree {
    let mut tree = ResidualTree { channel: name.into(), nodes: Vec::new(), leaves: vec![0.0] };
    if rows.is_empty() {
        return tree;
    }
    // Less its mean, so that sums of squares keep their digits.
    let mean = rows.iter().map(|r| r[signal]).sum::<f64>() / rows.len() as f64;
    let target: Vec<f64> = rows.iter().map(|r| r[signal] - mean).collect();
    let flat: Vec<f64> = rows.iter().flat_map(|r| given.iter().map(|g| r[*g])).collect();
    let binned = Binned::from_rows(&flat, given.len(), 255);
    let mut leaves = vec![leaf((0..rows.len() as u32).collect(), &target, &binned, None)];
    while leaves.len() < LEAVES {
        let gain = |l: &Leaf| l.best.map_or(0.0, |b| b.0);
        let Some(at) = (0..leaves.len())
            .filter(|i| gain(&leaves[*i]) > 0.0)
            .max_by(|a, b| gain(&leaves[*a]).total_cmp(&gain(&leaves[*b])).then(b.cmp(a)))
        else {
            break;
        };
        let Some((_, feature, code)) = leaves[at].best else { break };
        let node = tree.nodes.len();
        let edges = binned.bins().edges(feature);
        let threshold = if code == MISSING { f64::MIN } else { edges[usize::from(code) - 1] };
        hang(&mut tree, leaves[at].parent, node as i32);
        tree.nodes.push(ResidualNode { feature: feature as u32, threshold, missing_left: true, left: -1, right: -1 });
        let (left, right): (Vec<u32>, Vec<u32>) = leaves[at].rows.iter().partition(|r| binned.code(**r as usize, feature) <= code);
        leaves[at] = leaf(left, &target, &binned, Some((node, true)));
        leaves.push(leaf(right, &target, &binned, Some((node, false))));
    }
    tree.leaves = leaves.iter().map(|l| mean + l.sum / l.rows.len() as f64).collect();
    for (i, leaf) in leaves.iter().enumerate() {
        hang(&mut tree, leaf.parent, -1 - i as i32);
    }
    tree
}

fn hang(tree: &mut ResidualTree, parent: Option<(usize, bool)>, child: i32) {
    match parent {
        Some((node, true)) => tree.nodes[node].left = child,
        Some((node, false)) => tree.nodes[node].right = child,
        None => (),
    }
}

/// A leaf with its best split: that which lowers the squared error most.
fn leaf(rows: Vec<u32>, target: &[f64], binned: &Binned, parent: Option<(usize, bool)>) -> Leaf {
    let sum: f64 = rows.iter().map(|r| target[*r as usize]).sum();
    let mut best: Option<(f64, usize, u8)> = None;
    for feature in 0..binned.features() {
        let mut cells = [(0.0f64, 0usize); 256];
        for row in &rows {
            let cell = &mut cells[usize::from(binned.code(*row as usize, feature))];
            cell.0 += target[*row as usize];
            cell.1 += 1;
        }
        let (mut left, mut count) = (0.0, 0);
        for (code, cell) in cells.iter().enumerate().take(255) {
            left += cell.0;
            count += cell.1;
            let (others, right) = (rows.len() - count, sum - left);
            if cell.1 == 0 || count < MIN_LEAF || others < MIN_LEAF {
                continue;
            }
            let gain = left * left / count as f64 + right * right / others as f64 - sum * sum / rows.len() as f64;
            if gain > best.map_or(0.0, |b| b.0) {
                best = Some((gain, feature, code as u8));
            }
        }
    }
    Leaf { rows, sum, best, parent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_learns_the_levels_of_a_regime_and_the_rest_is_residual() {
        let rows: Vec<Vec<f64>> = (0..600)
            .map(|i| {
                let regime = f64::from(i % 6);
                vec![regime * 100.0 + f64::from(i % 7) - 3.0, regime, f64::from(i % 5)]
            })
            .collect();
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let tree = tree("r", &rows, 0, &[1, 2]);
        for row in &rows {
            let mut at = 0i32;
            while at >= 0 {
                let node = &tree.nodes[at as usize];
                at = if row[1 + node.feature as usize] <= node.threshold { node.left } else { node.right };
            }
            let expected = tree.leaves[!at as usize];
            assert!((expected - row[1] * 100.0).abs() < 3.5, "{expected} for regime {}", row[1]);
        }
        assert!(tree.leaves.len() <= LEAVES);
    }

    #[test]
    fn one_level_is_one_leaf_and_nothing_to_fit_on_is_zero() {
        let rows = vec![vec![5.0, 1.0]; 100];
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let tree_of = |rows: &[&[f64]]| tree("r", rows, 0, &[1]);
        assert_eq!((tree_of(&rows).nodes.len(), tree_of(&rows).leaves), (0, vec![5.0]));
        assert_eq!(tree_of(&[]).leaves, [0.0]);
    }
}
