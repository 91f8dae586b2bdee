//! ONNX: the part of its protobuf that tree classifiers are written in, and an [`Ensemble`] written as an ONNX model.

pub(crate) mod proto;

use prost::Message;

use crate::ensemble::{Ensemble, Left, Link, Precision};
use crate::form::Form;
use proto::{Attribute, Dim, Entry, Graph, Model, Node, Opset, Shape, Tensor, TensorType, Type, Value, element, kind};

/// The operator set of machine learning, where trees live.
pub(crate) const ML: &str = "ai.onnx.ml";
/// Key of the model's metadata that holds the columns' names as a JSON array of strings.
pub(crate) const NAMES: &str = "homeward.features";

/// Why a model cannot be written as an ONNX model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsaid {
    /// It has several horizons.
    #[error("{0} horizons: an ONNX tree classifier gives one probability, so that only a model of one horizon can be written")]
    Horizons(usize),
    /// It has no trees.
    #[error("a novelty model: it has no trees and no probability for an ONNX tree classifier; tree, forest and boost can be written")]
    Novelty,
}

/// A model's form as an ONNX model, see [`to_onnx`].
///
/// # Errors
/// [`Unsaid`] for several horizons, and for what has no trees.
pub fn form_to_onnx(form: &Form, names: &[String]) -> Result<Vec<u8>, Unsaid> {
    form.ensemble().map_or(Err(Unsaid::Novelty), |ensemble| to_onnx(ensemble, names))
}

/// The ensemble as an ONNX model (IR 8, ai.onnx.ml 3): one TreeEnsembleClassifier with input `features`, a tensor of rows, and outputs `label` and
/// `probabilities`, of which the second column is the risk. `names` are kept in the metadata, with which [`crate::import::onnx`] reads the model back.
///
/// A model that compares in 64 bits is written with double tensors and takes doubles, so that every row reaches the same leaves; ONNX Runtime then
/// adds in 64 bits and says the probability in 32. One that compares in 32 bits is written in 32 bits throughout; where it adds in 64, leaves are
/// rounded, 6e-8 of each. Cover is written as hit rates.
///
/// # Errors
/// [`Unsaid`] for several horizons.
pub fn to_onnx(ensemble: &Ensemble, names: &[String]) -> Result<Vec<u8>, Unsaid> {
    if ensemble.horizons != 1 {
        return Err(Unsaid::Horizons(ensemble.horizons));
    }
    let wide = ensemble.arithmetic.compare == Precision::F64;
    let model = Model {
        ir_version: 8,
        producer_name: "homeward".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(Graph {
            node: vec![classifier(ensemble, wide)],
            name: "homeward".into(),
            input: vec![tensor("features", if wide { element::DOUBLE } else { element::FLOAT }, Some(ensemble.features as i64))],
            output: vec![tensor("label", element::INT64, None), tensor("probabilities", element::FLOAT, Some(2))],
        }),
        opset_import: vec![Opset { domain: String::new(), version: 15 }, Opset { domain: ML.into(), version: 3 }],
        metadata_props: vec![Entry { key: NAMES.into(), value: serde_json::Value::from(names).to_string() }],
    };
    Ok(model.encode_to_vec())
}

/// A value of rows, with `columns` each or none.
fn tensor(name: &str, element: i32, columns: Option<i64>) -> Value {
    let rows = Dim { value: None, param: Some("rows".into()) };
    let dim = [Some(rows), columns.map(|value| Dim { value: Some(value), param: None })].into_iter().flatten().collect();
    Value { name: name.into(), kind: Some(Type { tensor: Some(TensorType { element, shape: Some(Shape { dim }) }) }) }
}

/// The arrays of a TreeEnsembleClassifier, one entry a node or leaf; a node's number is its place.
#[derive(Default)]
struct Arrays {
    tree: Vec<i64>,
    node: Vec<i64>,
    feature: Vec<i64>,
    value: Vec<f64>,
    mode: Vec<Vec<u8>>,
    yes: Vec<i64>,
    no: Vec<i64>,
    missing_yes: Vec<i64>,
    hits: Vec<f64>,
    weight_tree: Vec<i64>,
    weight_node: Vec<i64>,
    weight: Vec<f64>,
}

fn classifier(ensemble: &Ensemble, wide: bool) -> Node {
    let mut a = Arrays::default();
    for (tree, root) in (0..).zip(&ensemble.roots) {
        a.add(ensemble, tree, *root);
    }
    let zeros = vec![0; a.weight.len()];
    // With all weights in one class ONNX reads a probability or log-odds of the second label.
    let mut attribute = vec![
        ints("nodes_treeids", a.tree),
        ints("nodes_nodeids", a.node),
        ints("nodes_featureids", a.feature),
        Attribute { name: "nodes_modes".into(), strings: a.mode, kind: kind::STRINGS, ..Attribute::default() },
        ints("nodes_truenodeids", a.yes),
        ints("nodes_falsenodeids", a.no),
        ints("nodes_missing_value_tracks_true", a.missing_yes),
        numbers("nodes_values", a.value, wide),
        numbers("nodes_hitrates", a.hits, wide),
        ints("class_treeids", a.weight_tree),
        ints("class_nodeids", a.weight_node),
        ints("class_ids", zeros),
        numbers("class_weights", a.weight, wide),
        ints("classlabels_int64s", vec![0, 1]),
        numbers("base_values", vec![ensemble.base[0] / share(ensemble)], wide),
    ];
    let transform: &[u8] = if ensemble.link == Link::Logistic { b"LOGISTIC" } else { b"NONE" };
    attribute.push(Attribute { name: "post_transform".into(), s: transform.into(), kind: kind::STRING, ..Attribute::default() });
    Node {
        input: vec!["features".into()],
        output: vec!["label".into(), "probabilities".into()],
        name: "trees".into(),
        op_type: "TreeEnsembleClassifier".into(),
        attribute,
        domain: ML.into(),
    }
}

/// What a sum over the trees is divided by.
fn share(ensemble: &Ensemble) -> f64 {
    if ensemble.link == Link::Mean { ensemble.roots.len() as f64 } else { 1.0 }
}

fn ints(name: &str, ints: Vec<i64>) -> Attribute {
    Attribute { name: name.into(), ints, kind: kind::INTS, ..Attribute::default() }
}

/// Numbers of 32 bits, or a tensor of doubles under the name that means one.
fn numbers(name: &str, values: Vec<f64>, wide: bool) -> Attribute {
    if !wide {
        let floats = values.iter().map(|value| *value as f32).collect();
        return Attribute { name: name.into(), floats, kind: kind::FLOATS, ..Attribute::default() };
    }
    let t = Tensor { dims: vec![values.len() as i64], data_type: element::DOUBLE, double_data: values, ..Tensor::default() };
    Attribute { name: format!("{name}_as_tensor"), t: Some(t), kind: kind::TENSOR, ..Attribute::default() }
}

impl Arrays {
    /// Adds the tree that begins at `root`, a node before its children.
    fn add(&mut self, ensemble: &Ensemble, tree: i64, root: i32) {
        let mode: &[u8] = if ensemble.arithmetic.left == Left::AtMost { b"BRANCH_LEQ" } else { b"BRANCH_LT" };
        let mut waiting = vec![(root, None)];
        let first = self.tree.len();
        while let Some((at, hangs)) = waiting.pop() {
            let number = (self.tree.len() - first) as i64;
            match hangs {
                Some((parent, true)) => self.yes[parent] = number,
                Some((parent, false)) => self.no[parent] = number,
                None => (),
            }
            let here = self.tree.len();
            self.tree.push(tree);
            self.node.push(number);
            self.yes.push(0);
            self.no.push(0);
            match usize::try_from(at) {
                Ok(at) => {
                    let node = &ensemble.nodes[at];
                    self.fill(i64::from(node.feature), node.threshold, mode, node.missing_left, 0.0);
                    waiting.extend([(node.right, Some((here, false))), (node.left, Some((here, true)))]);
                }
                Err(_) => {
                    let leaf = !at as usize;
                    self.fill(0, 0.0, b"LEAF", false, ensemble.cover[leaf]);
                    self.weight_tree.push(tree);
                    self.weight_node.push(number);
                    self.weight.push(ensemble.leaves[leaf] / share(ensemble));
                }
            }
        }
    }

    fn fill(&mut self, feature: i64, value: f64, mode: &[u8], missing_yes: bool, hits: f64) {
        self.feature.push(feature);
        self.value.push(value);
        self.mode.push(mode.into());
        self.missing_yes.push(i64::from(missing_yes));
        self.hits.push(hits);
    }
}
