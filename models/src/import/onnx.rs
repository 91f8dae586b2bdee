//! ONNX models with one TreeEnsembleClassifier of two classes (operator set ai.onnx.ml 1 to 4), as skl2onnx and onnxmltools write them.
//!
//! Represented: splits by `BRANCH_LEQ`, `_LT`, `_GT`, `_GTE`; weights in 32 bits, or in 64 bits as tensors; `post_transform` `LOGISTIC`, `NONE` for weights that
//! are shares of the probability, `SOFTMAX` with weights for both classes. The class with the greater place is failure. Refused: other classes or transforms,
//! `BRANCH_EQ` and `_NEQ`, further operators but `Cast`, `Identity` and `ZipMap`. Cover is `nodes_hitrates` where they differ, else 1 a leaf: reasons are
//! then taken as if each leaf had been reached equally often.

mod attributes;
mod trees;

use prost::Message;

use crate::ensemble::{Arithmetic, Ensemble, Left, Link, Precision};
use crate::onnx::{ML, NAMES, proto};

use super::build::{Part, add_tree};
use super::{BadImport, Imported, bad};
use attributes::Attributes;
use trees::Trees;

/// Operators that change nothing about a probability.
const HARMLESS: [&str; 3] = ["Cast", "Identity", "ZipMap"];

/// Reads an ONNX model.
///
/// # Errors
/// [`BadImport`] names what is wrong or not represented.
pub fn onnx(bytes: &[u8]) -> Result<Imported, BadImport> {
    let model = match proto::Model::decode(bytes) {
        Ok(model) => model,
        Err(error) => return bad("file", format!("no protobuf ({error})"), "an ONNX model"),
    };
    let Some(graph) = &model.graph else { return bad("graph", "none", "an ONNX model with a graph") };
    let classifier = the_classifier(graph)?;
    let attributes = Attributes::of(classifier)?;
    let trees = Trees::read(&attributes)?;
    let (link, value) = outcome(&attributes, &trees)?;
    let double = input_is_double(graph, classifier)?;
    let numbers = if double { Precision::F64 } else { Precision::F32 };
    let mut ensemble = Ensemble {
        link,
        arithmetic: Arithmetic {
            compare: numbers,
            left: Left::AtMost,
            sum: if link_sums_twice(&value) { Precision::F64 } else { numbers },
        },
        features: columns(graph).unwrap_or_else(|| trees.columns()),
        horizons: 1,
        base: vec![0.0],
        roots: Vec::new(),
        nodes: Vec::new(),
        leaves: Vec::new(),
        cover: Vec::new(),
    };
    trees.add_to(&mut ensemble, &value)?;
    add_last(&mut ensemble, base(&attributes, &value)?)?;
    let library = format!("{} {}", model.producer_name, model.producer_version).trim().to_owned();
    Ok(Imported {
        names: names(&model, ensemble.features)?,
        ensemble: ensemble.check()?,
        library: if library.is_empty() { "onnx".into() } else { library },
    })
}

/// What a leaf's weights come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// The weight of this class.
    Of(i64),
    /// The second class's less the first's.
    Difference,
}

fn link_sums_twice(value: &Worth) -> bool {
    *value == Worth::Difference
}

/// The one classifier, if nothing else in the graph would change what it says.
fn the_classifier(graph: &proto::Graph) -> Result<&proto::Node, BadImport> {
    let mut found = None;
    for (i, node) in graph.node.iter().enumerate() {
        if node.domain == ML && node.op_type == "TreeEnsembleClassifier" {
            if found.replace(node).is_some() {
                return bad(format!("graph.node[{i}]"), "a second TreeEnsembleClassifier", "one");
            }
        } else if !HARMLESS.contains(&node.op_type.as_str()) {
            let expected = "one TreeEnsembleClassifier, with Cast, Identity and ZipMap around it";
            return bad(format!("graph.node[{i}]"), format!("operator {:?}", node.op_type), expected);
        }
    }
    found.map_or_else(|| bad("graph.node", "no TreeEnsembleClassifier", "one"), Ok)
}

/// Whether the classifier gets 64 bits, as ONNX Runtime then compares and adds in.
fn input_is_double(graph: &proto::Graph, classifier: &proto::Node) -> Result<bool, BadImport> {
    let Some(name) = classifier.input.first() else { return bad("graph.node.input", "none", "the rows") };
    if let Some(cast) = graph.node.iter().find(|node| node.op_type == "Cast" && node.output.first() == Some(name)) {
        let to = cast.attribute.iter().find(|a| a.name == "to").map_or(0, |a| a.i);
        return element("graph.node.Cast.to", i32::try_from(to).unwrap_or_default());
    }
    let kind = graph.input.iter().find(|input| input.name == *name).and_then(|input| input.kind.as_ref()?.tensor.as_ref());
    kind.map_or_else(
        || bad("graph.input", format!("no tensor {name:?}"), "the classifier's input"),
        |kind| element("graph.input", kind.element),
    )
}

fn element(place: &str, element: i32) -> Result<bool, BadImport> {
    match element {
        proto::element::FLOAT => Ok(false),
        proto::element::DOUBLE => Ok(true),
        other => bad(place, format!("elements of type {other}"), "1 (float) or 11 (double)"),
    }
}

/// The second dimension of the graph's input, if it is a number.
fn columns(graph: &proto::Graph) -> Option<usize> {
    let shape = graph.input.first()?.kind.as_ref()?.tensor.as_ref()?.shape.as_ref()?;
    shape.dim.get(1)?.value.and_then(|value| usize::try_from(value).ok()).filter(|columns| *columns > 0)
}

/// The names that our own export writes.
fn names(model: &proto::Model, features: usize) -> Result<Option<Vec<String>>, BadImport> {
    let Some(entry) = model.metadata_props.iter().find(|entry| entry.key == NAMES) else { return Ok(None) };
    match serde_json::from_str::<Vec<String>>(&entry.value) {
        Ok(names) if names.len() == features => Ok(Some(names)),
        Ok(names) => bad(format!("metadata_props.{NAMES}"), format!("{} names", names.len()), features),
        Err(error) => bad(format!("metadata_props.{NAMES}"), error, "a JSON array of names"),
    }
}

/// The link and what counts of the leaves' weights, after ONNX Runtime's TreeAggregatorClassifier.
fn outcome(attributes: &Attributes<'_>, trees: &Trees<'_>) -> Result<(Link, Worth), BadImport> {
    let labels = attributes.labels()?;
    if labels != 2 {
        return bad("classlabels", format!("{labels} classes"), "2: no failure and failure");
    }
    let classes = trees.classes()?;
    let worth = match classes[..] {
        [only] => Worth::Of(only),
        _ => Worth::Of(1),
    };
    match attributes.text("post_transform", "NONE")? {
        "LOGISTIC" => Ok((Link::Logistic, worth)),
        "NONE" if trees.least_weight() >= 0.0 => Ok((Link::Identity, worth)),
        "NONE" => bad("post_transform", "NONE with weights below 0", "LOGISTIC, or weights that are shares of the probability"),
        "SOFTMAX" if classes.len() == 2 => Ok((Link::Logistic, Worth::Difference)),
        other => bad(
            "post_transform",
            format!("{other:?} with weights for {} classes", classes.len()),
            "LOGISTIC, NONE, or SOFTMAX with weights for both",
        ),
    }
}

/// Adds `base` as ONNX Runtime does, after all trees: by a last one that is a leaf.
fn add_last(ensemble: &mut Ensemble, base: f64) -> Result<(), BadImport> {
    if base == 0.0 {
        return Ok(());
    }
    add_tree(ensemble, "base_values", 1, 0, |_| Ok(Part::Leaf { value: base, cover: 0.0 }))
}

/// What is added to the sum.
fn base(attributes: &Attributes<'_>, worth: &Worth) -> Result<f64, BadImport> {
    let values = attributes.numbers("base_values")?;
    match (&values[..], worth) {
        ([], _) => Ok(0.0),
        ([one], Worth::Of(_)) => Ok(*one),
        ([_, second], Worth::Of(_)) => Ok(*second),
        ([first, second], Worth::Difference) => Ok(second - first),
        _ => bad("base_values", format!("{} values", values.len()), "one a class"),
    }
}
