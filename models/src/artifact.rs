//! The model file: all that scoring needs, and where it came from. Bytes in, a checked model out, and back.
//!
//! It holds no time of its making: the same input gives the same bytes. Its version, minted when it is stored, does.
//!
//! The schema's version is that of its meaning: a newer one is refused by name, an older one is read. Within a version fields may be added;
//! a reader passes over those that it does not know.
//!
//! | version | what came |
//! |---|---|
//! | 1 | specification, ensemble, threshold, policy, self-test, lineage |
//! | 2 | residual trees, calibration, drift reference, metrics |
//! | 3 | `novelty` in the place of `ensemble` |
//!
//! A file is written as the lowest version that says all of it: one with trees as 2, which an older reader takes. `signatures` came within 2 and 3: an older reader
//! scores the same and names components by the loudest contribution, as this one does where a file has none.

use serde::{Deserialize, Serialize};

use crate::calibration::{BadCalibration, Calibration, WrittenCalibration};
use crate::cost::{Costs, WrittenCosts};
use crate::decision::{Rules, WrittenDecide};
use crate::drift::{BadReference, Reference};
use crate::ensemble::Ensemble;
use crate::features::{BadResiduals, FeatureSpec, Residuals, WrittenResiduals};
use crate::form::{Form, Scoring};
use crate::label::Target;
use crate::naming::{BadSignatures, Signatures, WrittenSignatures};
use crate::novelty::{BadNovelty, Novelty};
use crate::{ConfigError, Fleet, WrittenFleet};

/// The newest version of the file's schema that this code reads and writes.
pub const SCHEMA: u32 = 3;

const FORMAT: &str = "homeward.model";

/// An archive object that a model learnt from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceObject {
    /// Its key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// The store's entity tag, if it has such.
    pub etag: Option<String>,
}

/// Where a model came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// The archive objects read.
    pub objects: Vec<SourceObject>,
    /// Print of the training settings, 16 hexadecimal digits.
    pub settings: String,
    /// Seed of all chance.
    pub seed: u64,
    /// Version of the code.
    pub code: String,
}

/// A row of features with the risks that the trainer got for it: a reader that gets others must not score.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfTest {
    /// Features, NaN for missing.
    pub row: Vec<f64>,
    /// Risks, one a horizon.
    pub risks: Vec<f64>,
}

/// A classifier with its policy and lineage, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The features it scores.
    pub spec: FeatureSpec,
    /// What it learnt.
    pub target: Target,
    /// Horizons in milliseconds, ascending; the last one decides.
    pub horizons: Vec<i64>,
    /// The learner's name: `tree`.
    pub learner: String,
    /// What scores.
    pub form: Form,
    /// From each horizon's q, as trees give it, to its probability; none where their own is taken as it is, and for novelty.
    pub calibration: Vec<Calibration>,
    /// Risk at the last horizon that raises; chosen by cost, for novelty by false alarms.
    pub threshold: f64,
    /// How alerts are raised and cleared, as written.
    pub decide: WrittenDecide,
    /// The same, checked.
    pub rules: Rules,
    /// The costs the threshold was chosen by, as written.
    pub money: WrittenCosts,
    /// The same, checked.
    pub costs: Costs,
    /// Median of each feature in training, NaN where it was always missing.
    pub typical: Vec<f64>,
    /// How everything was distributed in training; none in files of version 1.
    pub drift: Option<Reference>,
    /// How past failures looked, to name components by; none where nobody said what failed, and in older files.
    pub signatures: Option<Signatures>,
    /// Rows to check a reader by.
    pub self_test: Vec<SelfTest>,
    /// Where it came from.
    pub lineage: Lineage,
    /// What was measured when it was trained: kept as it is, understood by nobody here.
    pub metrics: serde_json::Value,
}

/// Why a model file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadModel {
    /// Not a model file, or a damaged one.
    #[error("no model file: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Another format, or a newer schema than this code knows.
    #[error("model file of format {format:?} version {version}, expected {FORMAT:?} up to version {SCHEMA}: a newer homeward wrote it")]
    Newer {
        /// What the file says it is.
        format: String,
        /// Its schema version.
        version: u32,
    },
    /// Its fleet, rules or costs do not hold together.
    #[error("model file: {0}")]
    Inconsistent(#[from] ConfigError),
    /// Its ensemble cannot be scored.
    #[error("model file: {0}")]
    Ensemble(#[from] crate::ensemble::BadEnsemble),
    /// Its linear form cannot be scored.
    #[error("model file: {0}")]
    Novelty(#[from] BadNovelty),
    /// It has other than one form.
    #[error("model file: found {0}, expected exactly one of ensemble and novelty")]
    Form(&'static str),
    /// Its residual trees do not fit its fleet.
    #[error("model file: {0}")]
    Residuals(#[from] BadResiduals),
    /// Its calibration is none.
    #[error("model file: {0}")]
    Calibration(#[from] BadCalibration),
    /// Its drift reference is none.
    #[error("model file: {0}")]
    Drift(#[from] BadReference),
    /// Its signatures do not fit its features.
    #[error("model file: {0}")]
    Signatures(#[from] BadSignatures),
    /// It scores its own rows otherwise than its trainer did.
    #[error("model file: self-test row {row} gives risks {found:?}, expected {expected:?}: this build scores otherwise than the trainer")]
    SelfTest {
        /// Which row.
        row: usize,
        /// This code's risks.
        found: Vec<f64>,
        /// The trainer's.
        expected: Vec<f64>,
    },
}

#[derive(Serialize, Deserialize)]
struct File {
    format: String,
    version: u32,
    fleet: WrittenFleet,
    fingerprint: String,
    #[serde(default)]
    residuals: WrittenResiduals,
    target: String,
    horizons_ms: Vec<i64>,
    learner: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ensemble: Option<Ensemble>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    novelty: Option<Novelty>,
    #[serde(default)]
    calibration: Vec<WrittenCalibration>,
    threshold: f64,
    decide: WrittenDecide,
    costs: WrittenCosts,
    typical: Vec<Option<f64>>,
    #[serde(default)]
    drift: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signatures: Option<WrittenSignatures>,
    self_test: Vec<FileTest>,
    lineage: Lineage,
    #[serde(default)]
    metrics: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTest {
    row: Vec<Option<f64>>,
    risks: Vec<f64>,
}

#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

impl Model {
    /// Reads and checks a model file, self-test included.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadModel> {
        let head: Head = serde_json::from_slice(bytes)?;
        if head.format != FORMAT || head.version > SCHEMA {
            return Err(BadModel::Newer { format: head.format, version: head.version });
        }
        let file: File = serde_json::from_slice(bytes)?;
        let fleet = Fleet::check(&file.fleet)?;
        let spec = specification(&fleet, file.residuals)?;
        let form = form(file.ensemble, file.novelty)?;
        let fits = fleet.fingerprint() == file.fingerprint && form.features() == spec.len() && file.typical.len() == spec.len();
        if !fits || !file.threshold.is_finite() {
            let found = format!("fingerprint {} with {} features", file.fingerprint, form.features());
            return Err(ConfigError::new("fingerprint", found, format!("{} with {}", fleet.fingerprint(), spec.len())).into());
        }
        if form.horizons() != file.horizons_ms.len() {
            let expected = format!("{}, as many as its form has", form.horizons());
            return Err(ConfigError::new("horizons_ms", file.horizons_ms.len(), expected).into());
        }
        let curves = file.calibration.len();
        if curves != 0 && !(form.is_probability() && curves == file.horizons_ms.len()) {
            return Err(BadCalibration::Inconsistent("another number of curves than horizons, or one of what is no probability").into());
        }
        let longest = file.horizons_ms.last().copied().unwrap_or_default();
        let model = Self {
            target: if file.target == "present" { Target::Present } else { Target::Failure },
            horizons: file.horizons_ms,
            learner: file.learner,
            form,
            calibration: file.calibration.into_iter().map(Calibration::check).collect::<Result<_, _>>()?,
            drift: file.drift.map(|d| d.check(spec.len())).transpose()?,
            signatures: file.signatures.map(|s| Signatures::check(s, &spec)).transpose()?,
            threshold: file.threshold,
            rules: Rules::check(&file.decide)?,
            decide: file.decide,
            costs: Costs::check(&file.costs, longest)?,
            money: file.costs,
            typical: known(&file.typical),
            self_test: file.self_test.iter().map(|t| SelfTest { row: known(&t.row), risks: t.risks.clone() }).collect(),
            lineage: file.lineage,
            metrics: file.metrics,
            spec,
        };
        model.test()?;
        Ok(model)
    }

    /// The model file. The same model gives the same bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let fleet = self.spec.fleet();
        let (version, ensemble, novelty) = match &self.form {
            Form::Ensemble(ensemble) => (2, Some(ensemble.clone()), None),
            Form::Novelty(novelty) => (3, None, Some(novelty.clone())),
        };
        serde_json::to_vec(&File {
            format: FORMAT.into(),
            version,
            fleet: fleet.written().clone(),
            fingerprint: fleet.fingerprint(),
            residuals: self.spec.residuals().map(|r| r.written().clone()).unwrap_or_default(),
            target: if self.target == Target::Present { "present" } else { "failure" }.into(),
            horizons_ms: self.horizons.clone(),
            learner: self.learner.clone(),
            ensemble,
            novelty,
            calibration: self.calibration.iter().map(Calibration::written).collect(),
            drift: self.drift.clone(),
            signatures: self.signatures.as_ref().map(|s| s.written().clone()),
            threshold: self.threshold,
            decide: self.decide.clone(),
            costs: self.money.clone(),
            typical: nullable(&self.typical),
            self_test: self.self_test.iter().map(|t| FileTest { row: nullable(&t.row), risks: t.risks.clone() }).collect(),
            lineage: self.lineage.clone(),
            metrics: self.metrics.clone(),
        })
    }

    /// Risks of `row`, one a horizon, never decreasing. What a risk is, by [`Form::risks`]; [`Scoring`] gives the same bits faster.
    pub fn score(&self, row: &[f64], risks: &mut [f64]) {
        self.form.risks(row, &self.calibration, risks);
    }

    /// The model laid out for scoring many rows.
    pub fn scoring(&self) -> Scoring {
        self.form.scoring(&self.calibration)
    }

    /// Scores the self-test rows and compares bit for bit.
    fn test(&self) -> Result<(), BadModel> {
        for (i, test) in self.self_test.iter().enumerate() {
            let mut found = vec![0.0; self.horizons.len()];
            let scorable = test.row.len() == self.spec.len();
            if scorable {
                self.score(&test.row, &mut found);
            }
            if !scorable || found.iter().map(|r| r.to_bits()).ne(test.risks.iter().map(|r| r.to_bits())) {
                return Err(BadModel::SelfTest { row: i, found, expected: test.risks.clone() });
            }
        }
        Ok(())
    }
}

/// The one form that a file has, checked.
fn form(ensemble: Option<Ensemble>, novelty: Option<Novelty>) -> Result<Form, BadModel> {
    match (ensemble, novelty) {
        (Some(ensemble), None) => Ok(Form::Ensemble(ensemble.check()?)),
        (None, Some(novelty)) => Ok(Form::Novelty(novelty.check()?)),
        (None, None) => Err(BadModel::Form("neither")),
        (Some(_), Some(_)) => Err(BadModel::Form("both")),
    }
}

/// The features of `fleet`; without fitted residuals its residual channels are missing.
fn specification(fleet: &Fleet, residuals: WrittenResiduals) -> Result<FeatureSpec, BadResiduals> {
    if residuals.0.is_empty() {
        return Ok(FeatureSpec::new(fleet));
    }
    FeatureSpec::with_residuals(fleet, Residuals::check(fleet, residuals)?)
}

fn nullable(values: &[f64]) -> Vec<Option<f64>> {
    values.iter().map(|v| v.is_finite().then_some(*v)).collect()
}

fn known(values: &[Option<f64>]) -> Vec<f64> {
    values.iter().map(|v| v.unwrap_or(f64::NAN)).collect()
}

#[cfg(test)]
pub(crate) mod tests;
