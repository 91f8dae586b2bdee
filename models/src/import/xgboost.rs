//! XGBoost's JSON (`Booster.save_model("m.json")`, format of 1.0 to 3.x).
//!
//! Represented: booster `gbtree` with `binary:logistic` or `reg:logistic`, numerical splits, all trees of the file (`Booster.predict` uses all, too;
//! slice `bst[:best_iteration + 1]` before saving otherwise). `base_score` is a probability; its log-odds is what a sum begins with. Refused: other
//! boosters and objectives, several classes or targets, categorical splits. Cover is `sum_hessian`, as in its `pred_contribs`.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::ensemble::{Arithmetic, Ensemble, Left, Link, Precision};

use super::build::{Part, add_tree};
use super::{BadImport, Imported, bad, real_names};

#[derive(Deserialize)]
struct File {
    learner: Learner,
    #[serde(default)]
    version: Vec<u32>,
}

#[derive(Deserialize)]
struct Learner {
    #[serde(default)]
    feature_names: Vec<String>,
    gradient_booster: Booster,
    learner_model_param: Param,
    objective: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Booster {
    name: String,
    model: Option<Model>,
}

#[derive(Deserialize)]
struct Param {
    base_score: String,
    #[serde(default)]
    num_class: String,
    num_feature: String,
    #[serde(default)]
    num_target: String,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    tree_info: Vec<i64>,
    trees: Vec<Tree>,
}

#[derive(Deserialize)]
struct Tree {
    left_children: Vec<i64>,
    right_children: Vec<i64>,
    split_indices: Vec<u32>,
    split_conditions: Vec<f32>,
    default_left: Vec<Flag>,
    #[serde(default)]
    split_type: Vec<i64>,
    sum_hessian: Vec<f32>,
    #[serde(default)]
    tree_param: TreeParam,
}

#[derive(Deserialize, Default)]
struct TreeParam {
    #[serde(default)]
    size_leaf_vector: String,
}

/// Booleans are written as such or as 0 and 1, by version.
#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Number(i64),
}

impl Flag {
    fn is_set(self) -> bool {
        matches!(self, Self::Bool(true) | Self::Number(1..))
    }
}

/// Reads a model that XGBoost wrote as JSON.
///
/// # Errors
/// [`BadImport`] names what is wrong or not represented.
pub fn xgboost(bytes: &[u8]) -> Result<Imported, BadImport> {
    let file: File = match serde_json::from_slice(bytes) {
        Ok(file) => file,
        Err(error) => {
            let json = serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
            let found = if json { error.to_string() } else { format!("no JSON ({error})") };
            return bad("file", found, "XGBoost's JSON as save_model(\"model.json\") writes it (not .ubj)");
        }
    };
    let Learner { feature_names, gradient_booster, learner_model_param: param, objective } = file.learner;
    let link = check_learner(&gradient_booster.name, &objective.name, &param)?;
    let Some(model) = gradient_booster.model else { return bad("learner.gradient_booster", "no model", "a model with trees") };
    if let Some(i) = model.tree_info.iter().position(|class| *class != 0) {
        return bad(format!("learner.gradient_booster.model.tree_info[{i}]"), model.tree_info[i], "0: one class");
    }
    let mut ensemble = Ensemble {
        link,
        arithmetic: Arithmetic { compare: Precision::F32, left: Left::Below, sum: Precision::F32 },
        features: number("learner.learner_model_param.num_feature", &param.num_feature)?,
        horizons: 1,
        base: vec![base(&param.base_score)?],
        roots: Vec::new(),
        nodes: Vec::new(),
        leaves: Vec::new(),
        cover: Vec::new(),
    };
    for (i, tree) in model.trees.iter().enumerate() {
        tree.add(&mut ensemble, &format!("learner.gradient_booster.model.trees[{i}]"))?;
    }
    let names = real_names(feature_names, "f");
    if let Some(names) = names.as_ref().filter(|names| names.len() != ensemble.features) {
        return bad("learner.feature_names", format!("{} names", names.len()), format!("{}", ensemble.features));
    }
    let version = file.version.iter().map(ToString::to_string).collect::<Vec<_>>().join(".");
    Ok(Imported { ensemble: ensemble.check()?, names, library: format!("xgboost {version}").trim_end().to_owned() })
}

fn check_learner(booster: &str, objective: &str, param: &Param) -> Result<Link, BadImport> {
    if booster != "gbtree" {
        return bad("learner.gradient_booster.name", format!("{booster:?}"), "\"gbtree\"");
    }
    for (name, count) in [("num_class", &param.num_class), ("num_target", &param.num_target)] {
        if !["", "0", "1"].contains(&count.as_str()) {
            return bad(format!("learner.learner_model_param.{name}"), count, "one class: a model of failure or none");
        }
    }
    match objective {
        "binary:logistic" | "reg:logistic" => Ok(Link::Logistic),
        other => bad("learner.objective.name", format!("{other:?}"), "\"binary:logistic\" or \"reg:logistic\""),
    }
}

/// The log-odds of the base score, `5E-1` or `[5E-1]`, as XGBoost has it: in 32 bits but for the logarithm's own rounding.
fn base(text: &str) -> Result<f64, BadImport> {
    let score = text.trim_matches(['[', ']']).parse::<f32>().ok().filter(|score| *score > 0.0 && *score < 1.0);
    match score {
        Some(score) => Ok(Precision::F32.round(-libm::log(f64::from(1.0 / score - 1.0)))),
        None => bad("learner.learner_model_param.base_score", format!("{text:?}"), "one probability between 0 and 1"),
    }
}

fn number(place: &str, text: &str) -> Result<usize, BadImport> {
    text.parse().or_else(|_| bad(place, format!("{text:?}"), "a number of 0 or more"))
}

impl Tree {
    fn add(&self, ensemble: &mut Ensemble, place: &str) -> Result<(), BadImport> {
        if !["", "0", "1"].contains(&self.tree_param.size_leaf_vector.as_str()) {
            return bad(format!("{place}.tree_param.size_leaf_vector"), &self.tree_param.size_leaf_vector, "1: one value a leaf");
        }
        let nodes = self.left_children.len();
        let lengths = [
            ("right_children", self.right_children.len()),
            ("split_indices", self.split_indices.len()),
            ("split_conditions", self.split_conditions.len()),
            ("default_left", self.default_left.len()),
            ("sum_hessian", self.sum_hessian.len()),
            ("split_type", if self.split_type.is_empty() { nodes } else { self.split_type.len() }),
        ];
        if let Some((name, len)) = lengths.into_iter().find(|(_, len)| *len != nodes) {
            return bad(format!("{place}.{name}"), format!("{len} values"), format!("{nodes}, one a node"));
        }
        add_tree(ensemble, place, nodes, 0, |i| self.part(i, place))
    }

    fn part(&self, i: usize, place: &str) -> Result<Part, BadImport> {
        let (value, cover) = (f64::from(self.split_conditions[i]), f64::from(self.sum_hessian[i]));
        if self.left_children[i] == -1 {
            return Ok(Part::Leaf { value, cover });
        }
        if self.split_type.get(i).is_some_and(|kind| *kind != 0) {
            return bad(format!("{place}.split_type[{i}]"), "a categorical split", "0: a numerical split");
        }
        let child = |name: &str, number: i64| match usize::try_from(number) {
            Ok(number) => Ok(number),
            Err(_) => bad(format!("{place}.{name}[{i}]"), number, "a node"),
        };
        Ok(Part::Split {
            feature: self.split_indices[i],
            threshold: value,
            missing_left: self.default_left[i].is_set(),
            left: child("left_children", self.left_children[i])?,
            right: child("right_children", self.right_children[i])?,
        })
    }
}
