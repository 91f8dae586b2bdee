//! The part of ONNX' protobuf that tree classifiers are written in (onnx.proto, IR version 8), and an [`Ensemble`](crate::ensemble::Ensemble) as an ONNX model.
//! Field numbers are those of onnx.proto3; unknown fields are skipped.


pub(crate) mod proto;

/// The operator set of machine learning, where trees live.
pub(crate) const ML: &str = "ai.onnx.ml";
/// Key of the model's metadata that holds the columns' names as a JSON array of strings.
pub(crate) const NAMES: &str = "homeward.features";
