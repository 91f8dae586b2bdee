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

use serde::{Deserialize, Serialize};

use crate::calibration::{BadCalibration, Calibration, WrittenCalibration};
use crate::cost::{Costs, WrittenCosts};
use crate::decision::{Rules, WrittenDecide};
use crate::drift::{BadReference, Reference};
use crate::ensemble::Ensemble;
use crate::features::{BadResiduals, FeatureSpec, Residuals, WrittenResiduals};
use crate::label::Target;
use crate::{ConfigError, Fleet, WrittenFleet};

/// The newest version of the file's schema that this code reads and writes.
pub const SCHEMA: u32 = 2;

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
    /// The classifier.
    pub ensemble: Ensemble,
    /// From each horizon's q, as the ensemble gives it, to its probability; none where the ensemble's own is taken as it is.
    pub calibration: Vec<Calibration>,
    /// Risk at the last horizon that raises; chosen by cost.
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
    /// Its residual trees do not fit its fleet.
    #[error("model file: {0}")]
    Residuals(#[from] BadResiduals),
    /// Its calibration is none.
    #[error("model file: {0}")]
    Calibration(#[from] BadCalibration),
    /// Its drift reference is none.
    #[error("model file: {0}")]
    Drift(#[from] BadReference),
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
    ensemble: Ensemble,
    #[serde(default)]
    calibration: Vec<WrittenCalibration>,
    threshold: f64,
    decide: WrittenDecide,
    costs: WrittenCosts,
    typical: Vec<Option<f64>>,
    #[serde(default)]
    drift: Option<Reference>,
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
        let fits = fleet.fingerprint() == file.fingerprint && file.ensemble.features == spec.len() && file.typical.len() == spec.len();
        if !fits || file.ensemble.horizons != file.horizons_ms.len() || !file.threshold.is_finite() {
            let found = format!("fingerprint {} with {} features", file.fingerprint, file.ensemble.features);
            return Err(ConfigError::new("fingerprint", found, format!("{} with {}", fleet.fingerprint(), spec.len())).into());
        }
        if !matches!(file.calibration.len(), 0) && file.calibration.len() != file.horizons_ms.len() {
            return Err(BadCalibration::Inconsistent("another number of curves than horizons").into());
        }
        let longest = file.horizons_ms.last().copied().unwrap_or_default();
        let model = Self {
            target: if file.target == "present" { Target::Present } else { Target::Failure },
            horizons: file.horizons_ms,
            learner: file.learner,
            ensemble: file.ensemble.check()?,
            calibration: file.calibration.into_iter().map(Calibration::check).collect::<Result<_, _>>()?,
            drift: file.drift.map(|d| d.check(spec.len())).transpose()?,
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
        serde_json::to_vec(&File {
            format: FORMAT.into(),
            version: SCHEMA,
            fleet: fleet.written().clone(),
            fingerprint: fleet.fingerprint(),
            residuals: self.spec.residuals().map(|r| r.written().clone()).unwrap_or_default(),
            target: if self.target == Target::Present { "present" } else { "failure" }.into(),
            horizons_ms: self.horizons.clone(),
            learner: self.learner.clone(),
            ensemble: self.ensemble.clone(),
            calibration: self.calibration.iter().map(Calibration::written).collect(),
            drift: self.drift.clone(),
            threshold: self.threshold,
            decide: self.decide.clone(),
            costs: self.money.clone(),
            typical: nullable(&self.typical),
            self_test: self.self_test.iter().map(|t| FileTest { row: nullable(&t.row), risks: t.risks.clone() }).collect(),
            lineage: self.lineage.clone(),
            metrics: self.metrics.clone(),
        })
    }

    /// Risks of `row`, one a horizon, never decreasing: the ensemble's q, each calibrated, accumulated to risk_k = 1 − Π(1 − q). The one
    /// way from features to risks, in training, live and in audit.
    pub fn score(&self, row: &[f64], risks: &mut [f64]) {
        self.ensemble.raw(row, risks);
        let mut safe = 1.0;
        for (k, risk) in risks.iter_mut().enumerate() {
            let q = self.ensemble.link.probability(*risk);
            safe *= 1.0 - self.calibration.get(k).map_or(q, |curve| curve.apply(q));
            *risk = 1.0 - safe;
        }
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
pub(crate) mod tests {
    use super::*;
    use crate::drift::Learner;
    use crate::ensemble::{Arithmetic, Link, Node};
    use crate::fleet::tests::small;

    pub(crate) fn model() -> Model {
        let spec = FeatureSpec::new(&Fleet::check(&small()).unwrap());
        let n = spec.len();
        let nodes = vec![Node { feature: 0, threshold: 0.1 + 0.2, missing_left: true, left: -1, right: -2 }];
        let ensemble = Ensemble {
            link: Link::Mean,
            arithmetic: Arithmetic::default(),
            features: n,
            horizons: 1,
            base: vec![0.0],
            roots: vec![0],
            nodes,
            leaves: vec![0.1, 0.9],
            cover: vec![9.0, 1.0],
        };
        let mut row = vec![f64::NAN; n];
        row[0] = 0.4;
        let calibration = vec![Calibration::fit_isotonic(&[0.1, 0.9], &[false, true], None).unwrap()];
        let mut learner = Learner::new(n, &[row.clone()], &[0.5]);
        learner.add(0, &row, 0.5);
        let (decide, money) = (WrittenDecide::default(), WrittenCosts::default());
        let mut model = Model {
            spec,
            target: Target::Failure,
            horizons: vec![600_000],
            learner: "tree".into(),
            ensemble,
            calibration,
            threshold: 0.5,
            rules: Rules::check(&decide).unwrap(),
            decide,
            costs: Costs::check(&money, 600_000).unwrap(),
            money,
            typical: vec![1.0; n],
            drift: Some(learner.finish()),
            self_test: vec![],
            lineage: Lineage { objects: vec![], settings: "0".into(), seed: 1, code: "test".into() },
            metrics: serde_json::json!({"z": [1, 0.1], "a": null}),
        };
        let mut risks = vec![0.0];
        model.score(&row, &mut risks);
        model.self_test = vec![SelfTest { row, risks }];
        model
    }

    fn changed(from: &str, to: &str) -> Result<Model, BadModel> {
        let text = String::from_utf8(model().to_bytes().unwrap()).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        Model::parse(text.replacen(from, to, 1).as_bytes())
    }

    #[test]
    fn a_model_comes_back_from_its_bytes_to_the_last_bit() {
        let bytes = model().to_bytes().unwrap();
        let back = Model::parse(&bytes).unwrap();
        assert_eq!(back.to_bytes().unwrap(), bytes);
        assert_eq!(
            (&back.ensemble, &back.calibration, &back.drift, &back.metrics),
            (&model().ensemble, &model().calibration, &model().drift, &model().metrics)
        );
    }

    #[test]
    fn scores_are_calibrated_before_they_accumulate() {
        let mut risks = [0.0];
        model().score(&model().self_test[0].row, &mut risks);
        assert_eq!(risks, [1.0], "0.9 is where the curve reaches 1");
    }

    #[test]
    fn a_file_of_version_1_is_read_and_of_the_same_version_with_more_in_it_too() {
        let more = changed(r#"{"format""#, r#"{"more":[1],"format""#).unwrap();
        assert_eq!(more.to_bytes().unwrap(), model().to_bytes().unwrap());
        let plain = Model { calibration: vec![], drift: None, metrics: serde_json::Value::Null, self_test: vec![], ..model() };
        let mut text = String::from_utf8(plain.to_bytes().unwrap()).unwrap();
        for (new, old) in
            [(r#""calibration":[],"#, ""), (r#""residuals":[],"#, ""), (r#""drift":null,"#, ""), (r#","metrics":null"#, ""), (r#""version":2"#, r#""version":1"#)]
        {
            assert!(text.contains(new), "{new} is not in {text}");
            text = text.replace(new, old);
        }
        assert_eq!(Model::parse(text.as_bytes()).unwrap().to_bytes().unwrap(), plain.to_bytes().unwrap());
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        assert!(changed("tree", "tree").is_ok());
        assert!(matches!(changed(r#""version":2"#, r#""version":3"#), Err(BadModel::Newer { version: 3, .. })));
        assert!(matches!(changed(r#""fingerprint":""#, r#""fingerprint":"0"#), Err(BadModel::Inconsistent(_))));
        assert!(matches!(changed(r#""leaves":[0.1,0.9]"#, r#""leaves":[0.1,0.8]"#), Err(BadModel::SelfTest { row: 0, .. })));
        assert!(matches!(changed(r#""scores":[0.1"#, r#""scores":[0.95"#), Err(BadModel::Calibration(_))));
        assert!(matches!(changed(r#""calibration":["#, r#""calibration":[{"kind":"identity"},"#), Err(BadModel::Calibration(_))));
        assert!(matches!(changed(r#""counts":[0,1,0]"#, r#""counts":[]"#), Err(BadModel::Drift(_))));
        assert!(matches!(changed(r#""left":-1"#, r#""left":0"#), Err(BadModel::Ensemble(_))));
        assert!(matches!(Model::parse(b"{}"), Err(BadModel::Unreadable(_))));
    }
}
