//! Models that others learnt: XGBoost's JSON, LightGBM's text, ONNX' tree classifiers, turned into an [`Ensemble`] that gives the
//! library's own raw scores. What the flat form cannot represent is refused by name, never approximated.
//!
//! | format | written by | compared | summed |
//! |---|---|---|---|
//! | XGBoost | `Booster.save_model("m.json")` | f32, below goes left | f32, base score first |
//! | LightGBM | `Booster.save_model("m.txt")` | f64, at most goes left | f64 |
//! | ONNX | skl2onnx, onnxmltools, [`crate::onnx`] | f32, or f64 with double tensors | the same; ONNX Runtime may add in another order |

mod build;
mod lightgbm;
mod onnx;
mod xgboost;

use crate::ensemble::{BadEnsemble, Ensemble};

pub use lightgbm::lightgbm;
pub use onnx::onnx;
pub use xgboost::xgboost;

/// A format that models are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// XGBoost's JSON.
    Xgboost,
    /// LightGBM's text.
    Lightgbm,
    /// ONNX with one TreeEnsembleClassifier.
    Onnx,
}

/// A model as its library wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// Its trees, over the model's own columns.
    pub ensemble: Ensemble,
    /// Its columns' names, if the file has such: as many as `ensemble.features`.
    pub names: Option<Vec<String>>,
    /// Who wrote it, with the version where the file says so: `xgboost 3.2.0`.
    pub library: String,
}

/// Why a model cannot be read: where, what was found there and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: found {found}, expected {expected}")]
pub struct BadImport {
    /// The place in the file.
    pub place: String,
    /// What stands there.
    pub found: String,
    /// What could be read.
    pub expected: String,
}

impl From<BadEnsemble> for BadImport {
    fn from(bad: BadEnsemble) -> Self {
        Self { place: bad.place, found: bad.found, expected: bad.expected }
    }
}

/// Reads a model of `format`.
///
/// # Errors
/// [`BadImport`] names the first thing that is wrong or has no place in an [`Ensemble`].
pub fn read(format: Format, bytes: &[u8]) -> Result<Imported, BadImport> {
    match format {
        Format::Xgboost => xgboost(bytes),
        Format::Lightgbm => lightgbm(bytes),
        Format::Onnx => onnx(bytes),
    }
}

impl Imported {
    /// The trees over the columns `features`: by name where the model has names, which may then stand in any order and be fewer; else
    /// by position, which needs equally many.
    ///
    /// # Errors
    /// A name that is none of `features` or stands twice, or another number of columns than theirs.
    pub fn over(self, features: &[String]) -> Result<Ensemble, BadImport> {
        let mut ensemble = self.ensemble;
        match &self.names {
            Some(names) => {
                let columns = columns(names, features)?;
                for node in &mut ensemble.nodes {
                    node.feature = columns[node.feature as usize];
                }
            }
            None if ensemble.features != features.len() => {
                let found = format!("{} columns without names", ensemble.features);
                return bad("features", found, format!("the fleet's {} features in their order", features.len()));
            }
            None => (),
        }
        ensemble.features = features.len();
        Ok(ensemble.check()?)
    }
}

/// Where each of `names` stands in `features`.
fn columns(names: &[String], features: &[String]) -> Result<Vec<u32>, BadImport> {
    let places: std::collections::HashMap<&str, u32> = features.iter().zip(0..).map(|(name, i)| (name.as_str(), i)).collect();
    let mut taken = std::collections::HashSet::new();
    let column = |(i, name): (usize, &String)| match places.get(name.as_str()) {
        Some(place) if taken.insert(*place) => Ok(*place),
        Some(_) => bad(format!("features[{i}]"), format!("{name:?} a second time"), "each feature once"),
        None => {
            let like = features.first().map_or(String::new(), |f| format!(", such as {f:?}"));
            bad(format!("features[{i}]"), format!("{name:?}"), format!("the name of one of the fleet's {} features{like}", features.len()))
        }
    };
    names.iter().enumerate().map(column).collect()
}

/// Names that a library made up for columns without one (`Column_0`, `f0`) say nothing.
fn real_names(names: Vec<String>, prefix: &str) -> Option<Vec<String>> {
    let made_up = names.iter().enumerate().all(|(i, name)| name.strip_prefix(prefix).is_some_and(|n| n == i.to_string()));
    (!made_up).then_some(names)
}

fn bad<T>(place: impl Into<String>, found: impl ToString, expected: impl ToString) -> Result<T, BadImport> {
    Err(BadImport { place: place.into(), found: found.to_string(), expected: expected.to_string() })
}
