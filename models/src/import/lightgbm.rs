//! LightGBM's text (`Booster.save_model("m.txt")`, format v3 and v4).
//!
//! Represented: objectives `binary` and `cross_entropy`, numerical splits, missing values of each kind (`none`, `zero`, `nan`), also `zero` as long as the
//! default direction lets a threshold say it. Refused: several classes, random forests (`average_output`), categorical splits, linear
//! trees, a `sigmoid` other than 1. Cover is `leaf_count`, as in its `pred_contrib`.

use std::collections::HashMap;

use crate::ensemble::{Arithmetic, Ensemble, Link};

use super::build::{Part, add_tree};
use super::{BadImport, Imported, bad, real_names};

/// LightGBM's `kZeroThreshold`: what is at most this far from 0 is read as 0 before it is compared.
const ZERO: f64 = 1e-35f32 as f64;

/// Lines of `key=value` of one section.
struct Section<'a> {
    place: String,
    lines: HashMap<&'a str, &'a str>,
}

/// Reads a model that LightGBM wrote as text.
///
/// # Errors
/// [`BadImport`] names what is wrong or not represented.
pub fn lightgbm(bytes: &[u8]) -> Result<Imported, BadImport> {
    let Ok(text) = std::str::from_utf8(bytes) else { return bad("file", "bytes that are no text", "LightGBM's text") };
    let mut lines = text.lines().map(str::trim_end);
    if lines.next() != Some("tree") {
        return bad(
            "line 1",
            format!("{:?}", text.lines().next().unwrap_or_default()),
            "\"tree\": LightGBM's text as save_model writes it",
        );
    }
    let (header, trees) = sections(lines)?;
    let link = check_header(&header)?;
    let names = header.list::<String>("feature_names", None)?;
    let mut ensemble = Ensemble {
        link,
        arithmetic: Arithmetic::default(),
        features: header.one::<u32>("max_feature_idx")? as usize + 1,
        horizons: 1,
        base: vec![0.0],
        roots: Vec::new(),
        nodes: Vec::new(),
        leaves: Vec::new(),
        cover: Vec::new(),
    };
    if names.len() != ensemble.features {
        return bad("header.feature_names", format!("{} names", names.len()), ensemble.features);
    }
    for tree in &trees {
        Tree::read(tree)?.add(&mut ensemble, &tree.place)?;
    }
    let library = format!("lightgbm format {}", header.lines.get("version").unwrap_or(&"unknown"));
    Ok(Imported { ensemble: ensemble.check()?, names: real_names(names, "Column_"), library })
}

/// The header and the trees; what follows `end of trees` is of no interest.
fn sections<'a>(lines: impl Iterator<Item = &'a str>) -> Result<(Section<'a>, Vec<Section<'a>>), BadImport> {
    let mut header = Section { place: "header".into(), lines: HashMap::new() };
    let mut trees: Vec<Section<'a>> = Vec::new();
    let mut ended = false;
    for line in lines.take_while(|line| {
        *line != "end of trees" || {
            ended = true;
            false
        }
    }) {
        match line.split_once('=') {
            Some(("Tree", number)) if number == trees.len().to_string() => {
                trees.push(Section { place: format!("Tree={number}"), lines: HashMap::new() });
            }
            Some(("Tree", number)) => return bad(format!("Tree={number}"), number, format!("{}, the next tree", trees.len())),
            Some((key, value)) => _ = trees.last_mut().unwrap_or(&mut header).lines.insert(key, value),
            // A flag without a value, such as average_output.
            None if !line.is_empty() => _ = trees.last_mut().unwrap_or(&mut header).lines.insert(line, ""),
            None => (),
        }
    }
    if ended { Ok((header, trees)) } else { bad("end", "no line \"end of trees\"", "a whole file") }
}

fn check_header(header: &Section<'_>) -> Result<Link, BadImport> {
    for key in ["num_class", "num_tree_per_iteration"] {
        let count: u32 = header.one(key)?;
        if count != 1 {
            return bad(format!("header.{key}"), count, "1: a model of failure or none");
        }
    }
    if header.lines.contains_key("average_output") {
        return bad("header.average_output", "a random forest", "boosting: gbdt, goss or dart");
    }
    match header.text("objective")? {
        "binary sigmoid:1" | "cross_entropy" => Ok(Link::Logistic),
        other => bad("header.objective", format!("{other:?}"), "\"binary sigmoid:1\" or \"cross_entropy\""),
    }
}

impl<'a> Section<'a> {
    fn text(&self, key: &str) -> Result<&'a str, BadImport> {
        self.lines.get(key).copied().map_or_else(|| bad(&self.place, format!("no {key}"), format!("a line {key}=…")), Ok)
    }

    fn one<T: std::str::FromStr>(&self, key: &str) -> Result<T, BadImport> {
        let text = self.text(key)?;
        text.parse().or_else(|_| bad(format!("{}.{key}", self.place), format!("{text:?}"), "a number"))
    }

    /// The values of a line, `len` of them if that is known.
    fn list<T: std::str::FromStr>(&self, key: &str, len: Option<usize>) -> Result<Vec<T>, BadImport> {
        let place = || format!("{}.{key}", self.place);
        let value = |(i, text): (usize, &str)| text.parse().or_else(|_| bad(format!("{}[{i}]", place()), format!("{text:?}"), "a number"));
        let values: Vec<T> = self.text(key)?.split_ascii_whitespace().enumerate().map(value).collect::<Result<_, _>>()?;
        match len {
            Some(len) if values.len() != len => bad(place(), format!("{} values", values.len()), len),
            _ => Ok(values),
        }
    }
}

/// One tree as written: nodes are numbered from 0, leaves as `!leaf` from −1 down.
struct Tree {
    split_feature: Vec<u32>,
    threshold: Vec<f64>,
    decision_type: Vec<u8>,
    left_child: Vec<i64>,
    right_child: Vec<i64>,
    leaf_value: Vec<f64>,
    leaf_count: Vec<f64>,
}

impl Tree {
    fn read(section: &Section<'_>) -> Result<Self, BadImport> {
        let leaves: usize = section.one("num_leaves")?;
        if section.lines.contains_key("is_linear") && section.one::<u8>("is_linear")? != 0 {
            return bad(format!("{}.is_linear", section.place), "a linear tree", "0: constant leaves");
        }
        let leaf_value = section.list("leaf_value", Some(leaves))?;
        if leaves == 1 {
            // A tree that found no split; its count is not written by all versions.
            return Ok(Self {
                split_feature: vec![],
                threshold: vec![],
                decision_type: vec![],
                left_child: vec![],
                right_child: vec![],
                leaf_value,
                leaf_count: vec![0.0],
            });
        }
        let nodes = leaf_value.len().saturating_sub(1);
        Ok(Self {
            split_feature: section.list("split_feature", Some(nodes))?,
            threshold: section.list("threshold", Some(nodes))?,
            decision_type: section.list("decision_type", Some(nodes))?,
            left_child: section.list("left_child", Some(nodes))?,
            right_child: section.list("right_child", Some(nodes))?,
            leaf_count: section.list("leaf_count", Some(leaves))?,
            leaf_value,
        })
    }

    fn add(&self, ensemble: &mut Ensemble, place: &str) -> Result<(), BadImport> {
        let nodes = self.threshold.len();
        let root = if nodes == 0 { self.number(-1) } else { 0 };
        add_tree(ensemble, place, nodes + self.leaf_value.len(), root, |number| self.part(number, place))
    }

    /// Nodes first, then leaves.
    fn number(&self, child: i64) -> usize {
        match usize::try_from(child) {
            Ok(node) if node < self.threshold.len() => node,
            Ok(_) => usize::MAX,
            Err(_) => usize::try_from(!child).map_or(usize::MAX, |leaf| leaf.saturating_add(self.threshold.len())),
        }
    }

    fn part(&self, number: usize, place: &str) -> Result<Part, BadImport> {
        if let Some(leaf) = number.checked_sub(self.threshold.len()) {
            return Ok(Part::Leaf { value: self.leaf_value[leaf], cover: self.leaf_count[leaf] });
        }
        let (threshold, missing_left) = self.decision(number).or_else(|(found, expected)| {
            let name = if found.contains("categorical") { "decision_type" } else { "threshold" };
            bad(format!("{place}.{name}[{number}]"), found, expected)
        })?;
        Ok(Part::Split {
            feature: self.split_feature[number],
            threshold,
            missing_left,
            left: self.number(self.left_child[number]),
            right: self.number(self.right_child[number]),
        })
    }

    /// Threshold and direction of missing values of a node, after `Tree::NumericalDecision` of LightGBM's include/LightGBM/tree.h: bit 0 of the
    /// decision is a categorical split, bit 1 sends what counts as missing to the left, bits 2 and 3 say what that is.
    fn decision(&self, node: usize) -> Result<(f64, bool), (String, String)> {
        let (kind, threshold) = (self.decision_type[node], around_zero(self.threshold[node]));
        let default_left = kind & 2 != 0;
        if kind & 1 != 0 {
            return Err(("a categorical split".into(), "a numerical split".into()));
        }
        match (kind >> 2) & 3 {
            // Missing is read as 0.
            0 => Ok((threshold, 0.0 <= threshold)),
            // Missing and 0 go the default way, so that the values left of the threshold need a 0 on the same side.
            1 if default_left && threshold >= (-ZERO).next_down() => Ok((threshold.max(ZERO), true)),
            1 if !default_left && threshold <= ZERO => Ok((threshold.min((-ZERO).next_down()), false)),
            1 => {
                let found = format!("{threshold} with zero as missing sent {}", if default_left { "left" } else { "right" });
                Err((found, "zero on the side that its value says (zero_as_missing=false)".into()))
            }
            2 => Ok((threshold, default_left)),
            other => Err((format!("missing type {other}"), "0 none, 1 zero or 2 nan".into())),
        }
    }
}

/// The threshold that sends left what `threshold` does when values around 0 are 0.
fn around_zero(threshold: f64) -> f64 {
    match threshold {
        t if (-ZERO..0.0).contains(&t) => (-ZERO).next_down(),
        t if (0.0..ZERO).contains(&t) => ZERO,
        t => t,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// LightGBM's `Tree::NumericalDecision` on a value that its reader has taken in.
    fn goes_left(kind: u8, threshold: f64, value: f64) -> bool {
        let is_zero = |v: f64| (-ZERO..=ZERO).contains(&v);
        let mut value = if is_zero(value) { 0.0 } else { value };
        let missing = (kind >> 2) & 3;
        if value.is_nan() && missing != 2 {
            value = 0.0;
        }
        if (missing == 1 && is_zero(value)) || (missing == 2 && value.is_nan()) { kind & 2 != 0 } else { value <= threshold }
    }

    fn number() -> impl Strategy<Value = f64> {
        let near = [0.0, ZERO, -ZERO, 1.0, -1.0, f64::MIN_POSITIVE];
        let around = |v: f64| prop_oneof![Just(v), Just(v.next_up()), Just(v.next_down())];
        prop_oneof![4 => prop::sample::select(near.to_vec()).prop_flat_map(around), 1 => -2.0..2.0]
    }

    proptest! {
        #[test]
        fn a_split_decides_as_lightgbm_does_or_is_refused(kind in 0u8..12, threshold in number(), values in prop::collection::vec(prop_oneof![9 => number(), 1 => Just(f64::NAN)], 20)) {
            let kind = kind & !1;
            let tree = Tree { split_feature: vec![0], threshold: vec![threshold], decision_type: vec![kind], left_child: vec![-1], right_child: vec![-2], leaf_value: vec![0.0; 2], leaf_count: vec![0.0; 2] };
            match tree.decision(0) {
                Ok((t, missing_left)) => for value in values {
                    prop_assert_eq!(value <= t || (value.is_nan() && missing_left), goes_left(kind, threshold, value), "{} at {}", value, threshold);
                },
                Err((found, _)) => {
                    prop_assert!((kind >> 2) & 3 == 1 && found.contains("zero as missing"));
                    let across = if kind & 2 != 0 { threshold < -ZERO } else { threshold > ZERO };
                    prop_assert!(across, "{threshold} could be represented");
                }
            }
        }
    }
}
