//! Why a row got its score: what each feature added, as exact path-dependent Shapley values.
//!
//! The values are those of TreeSHAP (Lundberg et al. 2020, *From local explanations to global understanding with explainable AI for trees*,
//! Algorithm 2): the game of a set S of features is the expectation of the tree's leaf when features of S go the row's way and the others go
//! both ways, weighted by training cover. The way they are computed is another. A leaf of value v under m distinct features adds
//! v · Π_j (o_j if j ∈ S else z_j) to the game, with o_j whether the row goes that feature's ways to the leaf and z_j the share of cover
//! that does. Its Shapley value is the integral of the multilinear extension's derivative along the diagonal (Owen 1972):
//!
//! φ_i = v ∫₀¹ (o_i − z_i) Π_{j≠i} (o_j t + z_j (1 − t)) dt
//!
//! The integrand is a polynomial of degree m − 1 in t, so Gauss–Legendre quadrature with ⌈m/2⌉ points is exact, to rounding. All points are taken at once,
//! one pass down a tree for the products and one up for the sums over leaves (as in Linear TreeSHAP, Yu et al. 2022), in time linear in nodes × points.

use super::{Ensemble, Link, leaf};

/// No edge above: of a root, or of a feature's first split on a path.
const NONE: u32 = u32::MAX;

/// Computes contributions for one ensemble, built once from it.
#[derive(Debug, Clone)]
pub struct Explainer {
    horizons: usize,
    /// What a tree's sum counts: one over the number of trees for [`Link::Mean`].
    share: f64,
    /// Expected raw score over the training rows, one a horizon.
    expected: Vec<f64>,
    leaves: Vec<f64>,
    trees: Vec<Tree>,
    splits: Vec<Split>,
}

/// Splits of one tree, a parent before its children, and the points and weights that its deepest path needs.
#[derive(Debug, Clone)]
struct Tree {
    splits: std::ops::Range<usize>,
    points: std::sync::Arc<Points>,
}

/// A quadrature on [0, 1].
#[derive(Debug)]
struct Points {
    t: Vec<f64>,
    weight: Vec<f64>,
}

#[derive(Debug, Clone)]
struct Split {
    feature: u32,
    at_most: f64,
    missing_left: bool,
    /// The edge that leads here, counted within the tree: edge 2i is the left of its i-th split, 2i + 1 the right.
    above: u32,
    edges: [Edge; 2],
}

/// A way down from a split.
#[derive(Debug, Clone, Copy)]
struct Edge {
    /// Share of the split's cover that goes here.
    ratio: f64,
    /// The same, times the ratios of the edges above that split by the same feature.
    z: f64,
    /// The nearest edge above that splits by the same feature.
    before: u32,
    /// `before`'s z.
    z_before: f64,
    /// The leaf that it leads to, if not a split.
    leaf: u32,
}

impl Explainer {
    /// Prepares `ensemble`, which must be checked.
    pub fn new(ensemble: &Ensemble) -> Self {
        let mut explainer = Self {
            horizons: ensemble.horizons,
            share: if ensemble.link == Link::Mean { 1.0 / ensemble.roots.len() as f64 } else { 1.0 },
            expected: ensemble.base.clone(),
            leaves: ensemble.leaves.clone(),
            trees: Vec::with_capacity(ensemble.roots.len()),
            splits: Vec::with_capacity(ensemble.nodes.len()),
        };
        let below = Below::of(ensemble);
        let mut quadratures: Vec<std::sync::Arc<Points>> = Vec::new();
        for root in &ensemble.roots {
            let splits = explainer.splits.len();
            let distinct = explainer.add(ensemble, &below, *root);
            let count = point_count(distinct);
            let points = match quadratures.iter().find(|q| q.t.len() == count) {
                Some(points) => points.clone(),
                None => {
                    quadratures.push(std::sync::Arc::new(Points::gauss_legendre(count)));
                    quadratures[quadratures.len() - 1].clone()
                }
            };
            explainer.trees.push(Tree { splits: splits..explainer.splits.len(), points });
            for (k, expected) in explainer.expected.iter_mut().enumerate() {
                *expected += below.value(ensemble, *root, k);
            }
        }
        explainer.expected.iter_mut().for_each(|e| *e *= explainer.share);
        explainer
    }

    /// Adds the splits of one tree; gives the most distinct features on a path of it.
    fn add(&mut self, ensemble: &Ensemble, below: &Below, root: i32) -> usize {
        let first = self.splits.len();
        let mut deepest = 0;
        let mut waiting = vec![(root, NONE, 0)];
        while let Some((at, above, distinct)) = waiting.pop() {
            deepest = deepest.max(distinct);
            if at < 0 {
                continue;
            }
            let node = &ensemble.nodes[at as usize];
            let here = (self.splits.len() - first) as u32;
            let before = self.before(first, above, node.feature);
            let z_before = if before == NONE { 1.0 } else { self.edge(first, before).z };
            let distinct = distinct + usize::from(before == NONE);
            let ratios = below.ratios(ensemble, node.left, node.right);
            let edge = |side: usize, child: i32| Edge {
                ratio: ratios[side],
                z: z_before * ratios[side],
                before,
                z_before,
                leaf: if child < 0 { leaf(child) as u32 } else { NONE },
            };
            let edges = [edge(0, node.left), edge(1, node.right)];
            let at_most = ensemble.arithmetic.at_most(node.threshold);
            self.splits.push(Split { feature: node.feature, at_most, missing_left: node.missing_left, above, edges });
            waiting.extend([(node.right, 2 * here + 1, distinct), (node.left, 2 * here, distinct)]);
        }
        deepest
    }

    fn edge(&self, first: usize, edge: u32) -> &Edge {
        &self.splits[first + edge as usize / 2].edges[edge as usize % 2]
    }

    /// The nearest edge from `above` upwards that splits by `feature`.
    fn before(&self, first: usize, mut above: u32, feature: u32) -> u32 {
        while above != NONE {
            let split = &self.splits[first + above as usize / 2];
            if split.feature == feature {
                return above;
            }
            above = split.above;
        }
        NONE
    }

    /// Expected raw score of output `k` over the training rows: what the contributions start from.
    pub fn expected(&self, k: usize) -> f64 {
        self.expected[k]
    }

    /// What each feature of `row` added to the raw score of output `k`, into `added`, one a feature (0 for those that no path asks for): with the
    /// expected value they add up to [`Ensemble::raw`]. For a log-odds link these are log-odds, else probability; with several horizons,
    /// of q_k alone.
    pub fn contributions(&self, row: &[f64], k: usize, added: &mut [f64]) {
        added.fill(0.0);
        let most = self.trees.iter().map(|tree| tree.splits.len()).max().unwrap_or_default();
        let (mut four, mut eight) = (Walk::<4>::new(most), Walk::<8>::new(most));
        for tree in &self.trees {
            let splits = &self.splits[tree.splits.clone()];
            let leaf = |leaf: u32| self.share * self.leaves[leaf as usize * self.horizons + k];
            if let [t, ..] = tree.points.t.as_chunks::<8>().0 {
                let _: &[f64; 8] = t;
                for (t, weight) in tree.points.t.as_chunks::<8>().0.iter().zip(tree.points.weight.as_chunks::<8>().0) {
                    eight.tree(splits, t, weight, row, leaf, added);
                }
            } else {
                for (t, weight) in tree.points.t.as_chunks::<4>().0.iter().zip(tree.points.weight.as_chunks::<4>().0) {
                    four.tree(splits, t, weight, row, leaf, added);
                }
            }
        }
    }
}

/// Points for a path of `distinct` features: half as many, in fours up to four and in eights beyond.
fn point_count(distinct: usize) -> usize {
    match distinct.div_ceil(2) {
        0..=4 => 4,
        more => more.next_multiple_of(8),
    }
}

impl Points {
    /// Points and weights of Gauss–Legendre quadrature on [0, 1], by Newton's method on the Legendre polynomial.
    fn gauss_legendre(count: usize) -> Self {
        let (mut t, mut weight) = (vec![0.0; count], vec![0.0; count]);
        for i in 0..count.div_ceil(2) {
            let mut x = libm::cos(std::f64::consts::PI * (i as f64 + 0.75) / (count as f64 + 0.5));
            let mut slope = 1.0;
            for _ in 0..100 {
                let (value, derivative) = legendre(count, x);
                slope = derivative;
                let step = value / derivative;
                x -= step;
                if step.abs() < 1e-15 {
                    break;
                }
            }
            let w = 1.0 / ((1.0 - x * x) * slope * slope);
            (t[i], t[count - 1 - i]) = ((1.0 - x) / 2.0, (1.0 + x) / 2.0);
            (weight[i], weight[count - 1 - i]) = (w, w);
        }
        Self { t, weight }
    }
}

/// The Legendre polynomial of that degree and its derivative, at x within (−1, 1).
fn legendre(degree: usize, x: f64) -> (f64, f64) {
    let (mut before, mut value) = (1.0, x);
    for n in 2..=degree {
        let n = n as f64;
        (before, value) = (value, ((2.0 * n - 1.0) * x * value - (n - 1.0) * before) / n);
    }
    (value, degree as f64 * (x * value - before) / (x * x - 1.0))
}

/// Products down and sums up one tree, at N points.
struct Walk<const N: usize> {
    /// Whether the row goes every edge of the same feature from the root to this one.
    goes: Vec<bool>,
    /// Down: the product over distinct features above. Up: the sum over the leaves below of that times their value.
    at: Vec<[f64; N]>,
}

impl<const N: usize> Walk<N> {
    fn new(splits: usize) -> Self {
        Self { goes: vec![false; 2 * splits], at: vec![[0.0; N]; 2 * splits] }
    }

    fn tree(&mut self, splits: &[Split], t: &[f64; N], weight: &[f64; N], row: &[f64], leaf: impl Fn(u32) -> f64, added: &mut [f64]) {
        for (i, split) in splits.iter().enumerate() {
            let value = row[split.feature as usize];
            let left = value <= split.at_most || (value.is_nan() && split.missing_left);
            let above = if split.above == NONE { [1.0; N] } else { self.at[split.above as usize] };
            for (side, edge) in split.edges.iter().enumerate() {
                let went = edge.before == NONE || self.goes[edge.before as usize];
                let goes = went && left == (side == 0);
                let mut product = edge.times(went, goes, t, &above);
                if edge.leaf != NONE {
                    let value = leaf(edge.leaf);
                    product.iter_mut().for_each(|p| *p *= value);
                }
                (self.goes[2 * i + side], self.at[2 * i + side]) = (goes, product);
            }
        }
        // Splits turn from products to sums from the end: those below a split come after it.
        for (i, split) in splits.iter().enumerate().rev() {
            let mut sum = 0.0;
            let (left, right) = (self.at[2 * i], self.at[2 * i + 1]);
            for (side, below) in [left, right].iter().enumerate() {
                let edge = &split.edges[side];
                if edge.before == NONE || self.goes[edge.before as usize] {
                    sum += edge.gain(self.goes[2 * i + side], t, weight, below);
                }
            }
            added[split.feature as usize] += sum;
            if split.above != NONE {
                self.at[split.above as usize] = std::array::from_fn(|p| left[p] + right[p]);
            }
        }
    }
}

impl Edge {
    /// The product above times this edge's factor o t + z (1 − t), in place of the same feature's factor so far.
    #[inline]
    fn times<const N: usize>(&self, went: bool, goes: bool, t: &[f64; N], above: &[f64; N]) -> [f64; N] {
        let o = f64::from(u8::from(goes));
        match (self.before == NONE, went) {
            (true, _) => std::array::from_fn(|p| above[p] * (o * t[p] + self.z * (1.0 - t[p]))),
            (false, true) => std::array::from_fn(|p| above[p] * (o * t[p] + self.z * (1.0 - t[p])) / (t[p] + self.z_before * (1.0 - t[p]))),
            (false, false) => above.map(|product| product * self.ratio),
        }
    }

    /// What the leaves below add for this edge's feature: their sum times (o − z) ÷ the factor, less the same of the edge before; `before` went.
    #[inline]
    fn gain<const N: usize>(&self, goes: bool, t: &[f64; N], weight: &[f64; N], below: &[f64; N]) -> f64 {
        let here: [f64; N] = if goes {
            std::array::from_fn(|p| (1.0 - self.z) / (t[p] + self.z * (1.0 - t[p])))
        } else {
            std::array::from_fn(|p| -1.0 / (1.0 - t[p]))
        };
        let before: [f64; N] = if self.before == NONE {
            [0.0; N]
        } else {
            std::array::from_fn(|p| (1.0 - self.z_before) / (t[p] + self.z_before * (1.0 - t[p])))
        };
        (0..N).map(|p| weight[p] * below[p] * (here[p] - before[p])).sum()
    }
}

/// Cover and cover-weighted mean leaf values below each node.
struct Below {
    cover: Vec<f64>,
    values: Vec<f64>,
}

impl Below {
    /// Children stand after their parents, so one pass from the end does.
    fn of(ensemble: &Ensemble) -> Self {
        let k = ensemble.horizons;
        let nodes = ensemble.nodes.len();
        let mut below = Self { cover: vec![0.0; nodes], values: vec![0.0; nodes * k] };
        for (i, node) in ensemble.nodes.iter().enumerate().rev() {
            below.cover[i] = below.cover(ensemble, node.left) + below.cover(ensemble, node.right);
            let [left, right] = below.ratios(ensemble, node.left, node.right);
            for k_ in 0..k {
                below.values[i * k + k_] = left * below.value(ensemble, node.left, k_) + right * below.value(ensemble, node.right, k_);
            }
        }
        below
    }

    fn cover(&self, ensemble: &Ensemble, at: i32) -> f64 {
        if at >= 0 { self.cover[at as usize] } else { ensemble.cover[leaf(at)] }
    }

    fn value(&self, ensemble: &Ensemble, at: i32, k: usize) -> f64 {
        if at >= 0 { self.values[at as usize * ensemble.horizons + k] } else { ensemble.leaves[leaf(at) * ensemble.horizons + k] }
    }

    /// Shares of two children; a half each where no training row came.
    fn ratios(&self, ensemble: &Ensemble, left: i32, right: i32) -> [f64; 2] {
        let (left, right) = (self.cover(ensemble, left), self.cover(ensemble, right));
        let cover = left + right;
        if cover > 0.0 { [left / cover, right / cover] } else { [0.5, 0.5] }
    }
}

/// Sums contributions by group, such as the component that a feature watches; those of no group are left out.
pub fn by_group(added: &[f64], groups: usize, group: impl Fn(usize) -> Option<usize>) -> Vec<f64> {
    let mut sums = vec![0.0; groups];
    for (feature, value) in added.iter().enumerate() {
        if let Some(sum) = group(feature).and_then(|g| sums.get_mut(g)) {
            *sum += value;
        }
    }
    sums
}

/// The group whose features speak loudest for a failure, of sums by [`by_group`]; `None` if none speaks for one.
pub fn loudest(sums: &[f64]) -> Option<usize> {
    sums.iter().enumerate().filter(|(_, sum)| **sum > 0.0).max_by(|a, b| a.1.total_cmp(b.1)).map(|(group, _)| group)
}

/// The features that added most in size, largest first, those that added nothing left out.
pub fn largest(added: &[f64]) -> Vec<(u32, f64)> {
    let mut all: Vec<(u32, f64)> = (0..).zip(added.iter().copied()).filter(|(_, value)| *value != 0.0).collect();
    all.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::grown::{Chance, Shape};
    use super::*;
    use crate::ensemble::{Arithmetic, Node};

    /// The game: expected leaf below `at` when the features of `known` go the row's way and the others go both ways, by cover.
    fn game(e: &Ensemble, below: &Below, at: i32, row: &[f64], known: usize) -> f64 {
        if at < 0 {
            return e.leaves[leaf(at) * e.horizons];
        }
        let node: &Node = &e.nodes[at as usize];
        if known >> node.feature & 1 == 1 {
            let next = if e.goes_left(node, row[node.feature as usize]) { node.left } else { node.right };
            return game(e, below, next, row, known);
        }
        let [left, right] = below.ratios(e, node.left, node.right);
        left * game(e, below, node.left, row, known) + right * game(e, below, node.right, row, known)
    }

    /// Shapley's formula over all subsets.
    fn by_definition(e: &Ensemble, row: &[f64]) -> Vec<f64> {
        let below = Below::of(e);
        let n = e.features;
        let value = |known: usize| e.roots.iter().map(|root| game(e, &below, *root, row, known)).sum::<f64>();
        let factorial = |n: usize| (1..=n).product::<usize>() as f64;
        let one = |i: usize| {
            let without = (0..1usize << n).filter(|s| s >> i & 1 == 0);
            let term = |s: usize| {
                let size = s.count_ones() as usize;
                factorial(size) * factorial(n - size - 1) / factorial(n) * (value(s | 1 << i) - value(s))
            };
            without.map(term).sum()
        };
        (0..n).map(one).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn contributions_are_shapley_values_by_definition(seed: u64, features in 1usize..8, leaves in 1usize..14, missing in 0.0..0.3) {
            let shape = Shape { trees: 2, leaves, features, horizons: 1, arithmetic: Arithmetic::default(), grid: 0 };
            let mut chance = Chance(seed);
            let e = shape.ensemble(&mut chance);
            let row = shape.rows(&mut chance, 1, missing);
            let mut added = vec![0.0; features];
            Explainer::new(&e).contributions(&row, 0, &mut added);
            for (found, expected) in added.iter().zip(by_definition(&e, &row)) {
                prop_assert!((found - expected).abs() < 1e-12, "{} for {}", found, expected);
            }
        }

        #[test]
        fn contributions_and_the_expected_value_add_up_to_the_raw_score(seed: u64, features in 1usize..60, leaves in 1usize..200, horizons in 1usize..4, mean: bool) {
            let shape = Shape { trees: 5, leaves, features, horizons, arithmetic: Arithmetic::default(), grid: 8 };
            let mut chance = Chance(seed);
            let mut e = shape.ensemble(&mut chance);
            e.link = if mean { Link::Mean } else { Link::Logistic };
            let row = shape.rows(&mut chance, 1, 0.1);
            let (mut added, mut raw) = (vec![0.0; features], vec![0.0; horizons]);
            e.raw(&row, &mut raw);
            let explainer = Explainer::new(&e);
            for (k, raw) in raw.iter().enumerate() {
                explainer.contributions(&row, k, &mut added);
                let sum = explainer.expected(k) + added.iter().sum::<f64>();
                prop_assert!((sum - raw).abs() < 1e-9, "{} for {}", sum, raw);
            }
        }
    }

    /// 600 levels, each of another feature: 300 points.
    #[test]
    fn a_very_deep_tree_adds_up() {
        let n = 600;
        let node =
            |i: i32| Node { feature: i as u32, threshold: 0.5, missing_left: true, left: !i, right: if i + 1 < n { i + 1 } else { !n } };
        let leaves = n as usize + 1;
        let e = Ensemble {
            link: Link::Identity,
            arithmetic: Arithmetic::default(),
            features: n as usize,
            horizons: 1,
            base: vec![0.0],
            roots: vec![0],
            nodes: (0..n).map(node).collect(),
            leaves: (0..leaves).map(|l| l as f64).collect(),
            cover: vec![1.0; leaves],
        }
        .check()
        .unwrap();
        let explainer = Explainer::new(&e);
        for goes_right_until in [0, 7, 599, 600] {
            let row: Vec<f64> = (0..600).map(|i| f64::from(u8::from(i < goes_right_until))).collect();
            let mut added = vec![0.0; 600];
            explainer.contributions(&row, 0, &mut added);
            let sum = explainer.expected(0) + added.iter().sum::<f64>();
            assert!((sum - goes_right_until as f64).abs() < 1e-9, "{sum} for {goes_right_until}");
        }
    }

    #[test]
    fn quadrature_integrates_powers() {
        for count in [4, 8, 32] {
            let points = Points::gauss_legendre(count);
            for power in 0..2 * count as i32 {
                let sum: f64 = points.t.iter().zip(&points.weight).map(|(t, w)| w * t.powi(power)).sum();
                assert!((sum - 1.0 / f64::from(power + 1)).abs() < 1e-15, "{count} points, power {power}: {sum}");
            }
        }
    }

    #[test]
    fn contributions_sum_by_component() {
        let added = [0.1, 0.0, -0.4, 0.2];
        assert_eq!(by_group(&added, 2, |f| [Some(0), Some(1), None, Some(0)][f]), [0.1 + 0.2, 0.0]);
        assert_eq!(largest(&added), [(2, -0.4), (3, 0.2), (0, 0.1)]);
    }
}
