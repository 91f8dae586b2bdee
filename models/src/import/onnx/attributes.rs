//! An operator's attributes by name.

use std::borrow::Cow;

use crate::onnx::proto::{Attribute, Node, Tensor, element};

use super::super::{BadImport, bad};

/// The attributes of one operator.
pub(super) struct Attributes<'a> {
    all: &'a [Attribute],
}

impl<'a> Attributes<'a> {
    pub(super) fn of(node: &'a Node) -> Result<Self, BadImport> {
        let known = |a: &&Attribute| a.name.ends_with("_as_tensor") || !a.name.ends_with("_tensor");
        match node.attribute.iter().find(|a| !known(a)) {
            Some(other) => bad(&other.name, "an attribute of this name", "TreeEnsembleClassifier's attributes"),
            None => Ok(Self { all: &node.attribute }),
        }
    }

    fn get(&self, name: &str) -> Option<&'a Attribute> {
        self.all.iter().find(|a| a.name == name)
    }

    /// Whole numbers; none if the attribute is not there.
    pub(super) fn ints(&self, name: &str) -> &'a [i64] {
        self.get(name).map_or(&[], |a| &a.ints)
    }

    /// Strings; none if the attribute is not there.
    pub(super) fn strings(&self, name: &str) -> &'a [Vec<u8>] {
        self.get(name).map_or(&[], |a| &a.strings)
    }

    /// Numbers of 32 bits, or of either width in the tensor `{name}_as_tensor`.
    pub(super) fn numbers(&self, name: &str) -> Result<Cow<'a, [f64]>, BadImport> {
        let tensor = format!("{name}_as_tensor");
        match (self.get(&tensor).and_then(|a| a.t.as_ref()), self.get(name)) {
            (Some(tensor_value), None) => values(&tensor, tensor_value),
            (None, Some(attribute)) => Ok(attribute.floats.iter().map(|v| f64::from(*v)).collect()),
            (None, None) => Ok(Cow::Borrowed(&[])),
            (Some(_), Some(_)) => bad(tensor, format!("{name} as well"), "one of them"),
        }
    }

    /// A string, or `default` if the attribute is not there.
    pub(super) fn text(&self, name: &str, default: &'static str) -> Result<&'a str, BadImport> {
        let Some(attribute) = self.get(name) else { return Ok(default) };
        std::str::from_utf8(&attribute.s).or_else(|_| bad(name, "bytes that are no text", "a word"))
    }

    /// How many classes there are.
    pub(super) fn labels(&self) -> Result<usize, BadImport> {
        match (self.ints("classlabels_int64s").len(), self.strings("classlabels_strings").len()) {
            (labels, 0) | (0, labels) => Ok(labels),
            _ => bad("classlabels", "numbers and strings", "one of them"),
        }
    }
}

fn values<'a>(name: &str, tensor: &'a Tensor) -> Result<Cow<'a, [f64]>, BadImport> {
    let wide = |bytes: &[u8; 8]| f64::from_le_bytes(*bytes);
    let narrow = |bytes: &[u8; 4]| f64::from(f32::from_le_bytes(*bytes));
    let (wides, narrows) = (tensor.raw_data.as_chunks::<8>(), tensor.raw_data.as_chunks::<4>());
    match tensor.data_type {
        element::DOUBLE if tensor.raw_data.is_empty() => Ok(Cow::Borrowed(&tensor.double_data)),
        element::DOUBLE if wides.1.is_empty() => Ok(wides.0.iter().map(wide).collect()),
        element::FLOAT if tensor.raw_data.is_empty() => Ok(tensor.float_data.iter().map(|v| f64::from(*v)).collect()),
        element::FLOAT if narrows.1.is_empty() => Ok(narrows.0.iter().map(narrow).collect()),
        other => bad(name, format!("a tensor of type {other} with {} raw bytes", tensor.raw_data.len()), "whole floats or doubles"),
    }
}
