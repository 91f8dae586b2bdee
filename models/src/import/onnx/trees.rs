//! A TreeEnsembleClassifier's parallel arrays, put together to trees.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::ensemble::{Ensemble, Precision};

use super::super::build::{Part, add_tree};
use super::super::{BadImport, bad};
use super::Worth;
use super::attributes::Attributes;

/// The arrays, one entry a node, then one entry a weight.
pub(super) struct Trees<'a> {
    tree: &'a [i64],
    node: &'a [i64],
    feature: &'a [i64],
    value: Cow<'a, [f64]>,
    mode: &'a [Vec<u8>],
    yes: &'a [i64],
    no: &'a [i64],
    missing_yes: &'a [i64],
    hits: Cow<'a, [f64]>,
    weight_tree: &'a [i64],
    weight_node: &'a [i64],
    weight_class: &'a [i64],
    weight: Cow<'a, [f64]>,
}

/// Where the entries of nodes stand: by tree and node number.
type Places = HashMap<(i64, i64), usize>;

impl<'a> Trees<'a> {
    /// The arrays, each of the length it must have.
    pub(super) fn read(attributes: &Attributes<'a>) -> Result<Self, BadImport> {
        let trees = Self {
            tree: attributes.ints("nodes_treeids"),
            node: attributes.ints("nodes_nodeids"),
            feature: attributes.ints("nodes_featureids"),
            value: attributes.numbers("nodes_values")?,
            mode: attributes.strings("nodes_modes"),
            yes: attributes.ints("nodes_truenodeids"),
            no: attributes.ints("nodes_falsenodeids"),
            missing_yes: attributes.ints("nodes_missing_value_tracks_true"),
            hits: attributes.numbers("nodes_hitrates")?,
            weight_tree: attributes.ints("class_treeids"),
            weight_node: attributes.ints("class_nodeids"),
            weight_class: attributes.ints("class_ids"),
            weight: attributes.numbers("class_weights")?,
        };
        let (nodes, weights) = (trees.tree.len(), trees.weight_tree.len());
        let optional = |len: usize| if len == 0 { nodes } else { len };
        let lengths = [
            ("nodes_nodeids", trees.node.len(), nodes),
            ("nodes_featureids", trees.feature.len(), nodes),
            ("nodes_values", trees.value.len(), nodes),
            ("nodes_modes", trees.mode.len(), nodes),
            ("nodes_truenodeids", trees.yes.len(), nodes),
            ("nodes_falsenodeids", trees.no.len(), nodes),
            ("nodes_missing_value_tracks_true", optional(trees.missing_yes.len()), nodes),
            ("nodes_hitrates", optional(trees.hits.len()), nodes),
            ("class_nodeids", trees.weight_node.len(), weights),
            ("class_ids", trees.weight_class.len(), weights),
            ("class_weights", trees.weight.len(), weights),
        ];
        match lengths.into_iter().find(|(_, len, expected)| len != expected) {
            Some((name, len, expected)) => bad(name, format!("{len} values"), format!("{expected}")),
            None => Ok(trees),
        }
    }

    /// One more than the greatest column that is asked for.
    pub(super) fn columns(&self) -> usize {
        self.feature.iter().filter_map(|f| usize::try_from(*f).ok()).max().map_or(1, |f| f.saturating_add(1))
    }

    /// The classes that have weights, ascending: one or both of 0 and 1.
    pub(super) fn classes(&self) -> Result<Vec<i64>, BadImport> {
        if let Some(i) = self.weight_class.iter().position(|class| !(0..2).contains(class)) {
            return bad(format!("class_ids[{i}]"), self.weight_class[i], "0 or 1");
        }
        let classes: Vec<i64> = (0..2).filter(|class| self.weight_class.contains(class)).collect();
        if classes.is_empty() { bad("class_ids", "none", "weights of leaves") } else { Ok(classes) }
    }

    /// The least of the weights.
    pub(super) fn least_weight(&self) -> f64 {
        self.weight.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Adds all trees to `ensemble`, in the order in which they appear.
    pub(super) fn add_to(&self, ensemble: &mut Ensemble, worth: &Worth) -> Result<(), BadImport> {
        let mut places = Places::with_capacity(self.tree.len());
        for (i, key) in self.tree.iter().copied().zip(self.node.iter().copied()).enumerate() {
            if places.insert(key, i).is_some() {
                return bad(format!("nodes_nodeids[{i}]"), format!("node {} of tree {} a second time", key.1, key.0), "each node once");
            }
        }
        let weights = self.weights(&places, worth)?;
        // Where nobody counted, every leaf counts the same.
        let counted = self.hits.iter().any(|h| *h != 1.0);
        for root in self.roots(&places)? {
            let place = format!("tree {}", self.tree[root]);
            let compare = ensemble.arithmetic.compare;
            add_tree(ensemble, &place, self.tree.len(), root, |i| self.part(i, compare, &places, weights[i], counted))?;
        }
        Ok(())
    }

    /// Each node's weight, 0 where there is none.
    fn weights(&self, places: &Places, worth: &Worth) -> Result<Vec<f64>, BadImport> {
        let mut weights = vec![0.0; self.tree.len()];
        for (i, weight) in self.weight.iter().enumerate() {
            let Some(at) = places.get(&(self.weight_tree[i], self.weight_node[i])) else {
                return bad(
                    format!("class_nodeids[{i}]"),
                    format!("node {} of tree {}", self.weight_node[i], self.weight_tree[i]),
                    "a node",
                );
            };
            weights[*at] += match (worth, self.weight_class[i]) {
                (Worth::Difference, 0) => -weight,
                (Worth::Of(class), of) if *class != of => 0.0,
                _ => *weight,
            };
        }
        Ok(weights)
    }

    /// The nodes that are nobody's children, one a tree, in the order of the trees.
    fn roots(&self, places: &Places) -> Result<Vec<usize>, BadImport> {
        let mut is_child = vec![false; self.tree.len()];
        for i in (0..self.tree.len()).filter(|i| self.mode[*i] != b"LEAF") {
            for child in [self.yes[i], self.no[i]] {
                if let Some(at) = places.get(&(self.tree[i], child)) {
                    is_child[*at] = true;
                }
            }
        }
        let roots: Vec<usize> = (0..self.tree.len()).filter(|i| !is_child[*i]).collect();
        let (mut rooted, mut trees) = (std::collections::HashSet::new(), std::collections::HashSet::new());
        if let Some(second) = roots.iter().find(|root| !rooted.insert(self.tree[**root])) {
            return bad(format!("tree {}", self.tree[*second]), format!("a second root, node {}", self.node[*second]), "one root");
        }
        trees.extend(self.tree);
        match trees.into_iter().find(|tree| !rooted.contains(tree)) {
            Some(tree) => bad(format!("tree {tree}"), "no root", "a node that is nobody's child"),
            None => Ok(roots),
        }
    }

    fn part(&self, i: usize, compare: Precision, places: &Places, weight: f64, counted: bool) -> Result<Part, BadImport> {
        let hits = self.hits.get(i).copied().unwrap_or(1.0);
        let tracks_yes = self.missing_yes.get(i).is_some_and(|yes| *yes != 0);
        let child = |name: &str, number: i64| match places.get(&(self.tree[i], number)) {
            Some(at) => Ok(*at),
            None => bad(format!("{name}[{i}]"), format!("node {number} of tree {}", self.tree[i]), "a node of the same tree"),
        };
        let below = |value: f64| below(value, compare);
        // Values at most the threshold go left; `swap` where the operator's yes is the right.
        let (threshold, swap) = match &self.mode[i][..] {
            b"LEAF" => return Ok(Part::Leaf { value: weight, cover: if counted { hits } else { 1.0 } }),
            b"BRANCH_LEQ" => (self.value[i], false),
            b"BRANCH_LT" => (below(self.value[i]), false),
            b"BRANCH_GT" => (self.value[i], true),
            b"BRANCH_GTE" => (below(self.value[i]), true),
            other => {
                let found = String::from_utf8_lossy(other).into_owned();
                return bad(format!("nodes_modes[{i}]"), format!("{found:?}"), "LEAF, BRANCH_LEQ, BRANCH_LT, BRANCH_GT or BRANCH_GTE");
            }
        };
        let Ok(feature) = u32::try_from(self.feature[i]) else { return bad(format!("nodes_featureids[{i}]"), self.feature[i], "a column") };
        let (yes, no) = (child("nodes_truenodeids", self.yes[i])?, child("nodes_falsenodeids", self.no[i])?);
        let (left, right) = if swap { (no, yes) } else { (yes, no) };
        Ok(Part::Split { feature, threshold, missing_left: tracks_yes != swap, left, right })
    }
}

/// The greatest number of that precision below `value`.
fn below(value: f64, precision: Precision) -> f64 {
    match precision {
        Precision::F64 => value.next_down(),
        Precision::F32 => f64::from((value as f32).next_down()),
    }
}
