//! The batch job: archive → labels → features → tree → threshold → registry.
//!
//! `train` reads top-down: history from the archive, a binned feature matrix through the one kernel, out-of-fold risks by folds of
//! devices, the threshold of least cost over them, a verdict by bootstrap, the recipe refitted on all, the registry.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod binned;
mod error;
mod evaluate;
mod folds;
mod history;
pub mod learners;
mod matrix;
mod metrics;
mod settings;
mod tree;

use bytes::Bytes;
use homeward_models::artifact::{Lineage, Model, SelfTest};
use homeward_models::features::FeatureSpec;
use homeward_models::label::Target;
use homeward_models::{Fleet, WrittenFleet};
use homeward_store::keys::{ModelName, ModelVersion};
use homeward_store::{Registry, Store};

pub use error::TrainError;
pub use evaluate::{Baselines, Evaluation, FailureOutcome, Verdict};
pub use metrics::{FailureMetrics, Metrics, PolicyMetrics};
pub use settings::{Promote, Settings, WrittenTrain};

use history::History;
use matrix::Matrix;

/// What a run ended with.
#[derive(Debug)]
pub struct Outcome {
    /// The version stored; `None` if nothing worth storing was found.
    pub version: Option<ModelVersion>,
    /// Whether it is the champion now.
    pub promoted: bool,
    /// Why it was or was not promoted, in one sentence.
    pub why: String,
    /// What was measured.
    pub metrics: Metrics,
}

/// Trains on the archive in `store` and, if it pays, moves the champion. `now_ms` dates the version; `progress` hears what is done.
pub async fn train(store: &Store, fleet: &Fleet, settings: &Settings, now_ms: i64, progress: &dyn Fn(&str)) -> Result<Outcome, TrainError> {
    let started = std::time::Instant::now();
    let history = history::read(store, fleet, progress).await?;
    let learnt = learn(&history, fleet, settings, progress)?;
    let seconds = started.elapsed().as_secs_f64();
    let metrics = Metrics::new(&learnt.evaluation, &history, &learnt.model, seconds);
    let (promote, why) = judge(settings.promote, &learnt.evaluation);
    if !promote && settings.promote == Promote::Better {
        return Ok(Outcome { version: None, promoted: false, why, metrics });
    }
    let version = put(store, fleet.written(), &learnt.model, &metrics, promote.then_some(why.as_str()), now_ms).await?;
    Ok(Outcome { version: Some(version), promoted: promote, why, metrics })
}

struct Learnt {
    model: Model,
    evaluation: Evaluation,
}

/// All between the archive and the registry: pure but for the progress, so that the same history gives the same bytes.
fn learn(history: &History, fleet: &Fleet, settings: &Settings, progress: &dyn Fn(&str)) -> Result<Learnt, TrainError> {
    let spec = FeatureSpec::new(fleet);
    let matrix = Matrix::build(history, &spec, settings);
    matrix.check(settings)?;
    progress(&format!(
        "{} rows × {} features, {} failures, {} folds",
        matrix.rows(),
        spec.len(),
        matrix.failures(),
        matrix.folds(settings)
    ));
    let folds = folds::assign(&matrix, matrix.folds(settings), settings.seed);
    let risks = out_of_fold(&matrix, &folds, settings, progress)?;
    progress("choosing the threshold that costs least");
    let evaluation = evaluate::evaluate(&matrix, &risks, settings);
    progress("refitting on all devices");
    let everyone: Vec<usize> = (0..matrix.devices.len()).collect();
    let tree = tree::fit(&matrix, &everyone, settings)?;
    let ensemble = tree.to_ensemble(&matrix);
    let self_test = self_test(&matrix, &ensemble, settings.horizons.len());
    let model = Model {
        target: settings.target,
        horizons: settings.horizons.clone(),
        learner: "tree".into(),
        threshold: evaluation.threshold,
        decide: settings.decide.clone(),
        rules: settings.rules,
        money: settings.money.clone(),
        costs: settings.costs,
        typical: matrix.typical.clone(),
        self_test,
        lineage: Lineage {
            objects: history.objects.clone(),
            settings: settings.print(),
            seed: settings.seed,
            code: env!("CARGO_PKG_VERSION").into(),
        },
        ensemble,
        spec,
    };
    Ok(Learnt { model, evaluation })
}

/// Risk at the last horizon of every row by a tree that has seen no row of its device.
fn out_of_fold(matrix: &Matrix, folds: &[usize], settings: &Settings, progress: &dyn Fn(&str)) -> Result<Vec<f64>, TrainError> {
    let mut risks = vec![0.0; matrix.rows()];
    let count = folds.iter().max().map_or(0, |f| f + 1);
    for fold in 0..count {
        progress(&format!("fold {} of {count}", fold + 1));
        let (held_out, fitted): (Vec<usize>, Vec<usize>) = (0..folds.len()).partition(|d| folds[*d] == fold);
        let tree = tree::fit(matrix, &fitted, settings)?;
        for device in held_out {
            for row in matrix.devices[device].rows.clone() {
                risks[row] = tree.risk(matrix.codes(row));
            }
        }
    }
    Ok(risks)
}

/// Rows whose risks a reader must reproduce bit for bit: sixteen, spread evenly over the sample.
fn self_test(matrix: &Matrix, ensemble: &homeward_models::ensemble::Ensemble, horizons: usize) -> Vec<SelfTest> {
    let step = (matrix.sample.len() / 16).max(1);
    let rows = matrix.sample.iter().step_by(step).take(16);
    rows.map(|row| {
        let mut risks = vec![0.0; horizons];
        ensemble.score(row, &mut risks);
        SelfTest { row: row.clone(), risks }
    })
    .collect()
}

/// Whether to promote, and why.
fn judge(promote: Promote, evaluation: &Evaluation) -> (bool, String) {
    let Verdict { better, share, few } = evaluation.verdict;
    let saved =
        format!("{:.2} per operating hour against {:.2} for never", evaluation.policy.per_hour(), evaluation.baselines.never.per_hour());
    match promote {
        Promote::Always => (true, format!("promoted as told: {saved}")),
        Promote::Never => (false, format!("not promoted as told: {saved}")),
        Promote::Better if few => (false, format!("fewer than ten failures prove nothing: {saved}; promote with promote = \"always\"")),
        Promote::Better if better => (true, format!("costs less than never in {:.0} % of the bootstrap samples: {saved}", share * 100.0)),
        Promote::Better => (
            false,
            format!(
                "nothing worth promoting: costs less than never in {:.0} % of the bootstrap samples, needed 90 %: {saved}",
                share * 100.0
            ),
        ),
    }
}

async fn put(
    store: &Store,
    fleet: &WrittenFleet,
    model: &Model,
    metrics: &Metrics,
    promote: Option<&str>,
    now_ms: i64,
) -> Result<ModelVersion, TrainError> {
    let name: ModelName = fleet.name.parse().map_err(TrainError::key)?;
    let registry = Registry::new(store.clone(), name);
    let bytes = model.to_bytes()?;
    let version = ModelVersion::new(now_ms, xxhash_rust::xxh3::xxh3_64(&bytes)).map_err(TrainError::key)?;
    registry.put_version(&version, Bytes::from(bytes), Bytes::from(serde_json::to_vec_pretty(metrics)?), None).await?;
    if let Some(why) = promote {
        registry.promote(&version, why, now_ms).await?;
    }
    Ok(version)
}

/// Whether `target` needs failures within horizons, or faults that are present.
fn positives_word(target: Target) -> &'static str {
    match target {
        Target::Failure => "failures (events failure, or inspection with finding confirmed)",
        Target::Present => "faults (event fault)",
    }
}
