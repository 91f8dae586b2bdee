//! The batch job: archive → labels → features → learners → threshold → registry.
//!
//! `train` reads top-down: history from the archive, a binned feature matrix through the one kernel, a plan of folds and hold-out, out-of-fold
//! risks, calibration, the threshold of least cost, a verdict by bootstrap, the recipe refitted on all, the registry.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod binned;
mod calibrate;
mod coded;
mod compare;
mod error;
mod evaluate;
mod export;
mod gate;
mod history;
mod labelling;
mod learn;
pub mod learners;
mod lock;
mod matrix;
mod metrics;
mod monitor;
mod plan;
mod readings;
mod recipe;
mod report;
mod residual;
mod room;
mod sample;
mod score;
mod settings;
#[cfg(test)]
mod testing;
mod usage;

use bytes::Bytes;
use homeward_models::artifact::Model;
use homeward_models::features::FeatureSpec;
use homeward_models::{Fleet, WrittenFleet};
use homeward_store::keys::{ModelName, ModelVersion};
use homeward_store::{Registry, Store};
use serde::Deserialize;

pub use compare::{Compared, Contestant};
pub use error::TrainError;
pub use metrics::{AgainstMetrics, ComponentMetrics, FailureMetrics, HoldOutMetrics, LabelMetrics, Metrics, PolicyMetrics};
pub use monitor::write_last_run;
pub use score::ScoredReading;
pub use settings::{LearnerChoice, Promote, Settings, WrittenTrain};

use learn::{Champion, Learnt, Watch};
use lock::Lock;
use room::Room;

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

/// What a run tells while it is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// What is begun, or was found, in words.
    Said(&'a str),
    /// So many of so many fits are done. There may be fewer of them than there seemed to be: recipes are given up for want of time.
    Fitted {
        /// Fits done.
        done: usize,
        /// Fits altogether.
        of: usize,
    },
}

/// Trains on the archive in `store` and, if it pays, moves the champion. `now_ms` dates the version; `progress` hears what is done. Of two runs
/// at once the second is refused; one that fails leaves the champion as it is.
pub async fn train(
    store: &Store,
    fleet: &Fleet,
    settings: &Settings,
    now_ms: i64,
    progress: &dyn Fn(Step<'_>),
) -> Result<Outcome, TrainError> {
    let registry = registry(store, fleet.written())?;
    let lock = Lock::take(store, registry.name(), now_ms).await?;
    let outcome = run(store, &registry, fleet, settings, now_ms, progress).await;
    lock.release().await;
    outcome
}

async fn run(
    store: &Store,
    registry: &Registry,
    fleet: &Fleet,
    settings: &Settings,
    now_ms: i64,
    progress: &dyn Fn(Step<'_>),
) -> Result<Outcome, TrainError> {
    let (say, fitted) = (|what: &str| progress(Step::Said(what)), |done, of| progress(Step::Fitted { done, of }));
    let watch = Watch { progress: &say, fitted: &fitted, started: std::time::Instant::now() };
    let champion = champion(registry).await?;
    let history = history::read(store, fleet, settings.room(), &say).await?;
    let mut learnt = busy(|| learn::learn(&history, fleet, settings, champion, &watch))?;
    drop(history);
    let seconds = watch.started.elapsed().as_secs_f64();
    let metrics = Metrics::new(&learnt.evaluation, &learnt.usage, &learnt.model, &learnt.tried, seconds);
    let (promoted, why) = gate::judge(settings.promote, &learnt.evaluation);
    if !promoted && settings.promote == Promote::Better {
        return Ok(Outcome { version: None, promoted, why, metrics });
    }
    learnt.model.metrics = summary(&metrics);
    let version = put(registry, &learnt, &metrics, (promoted, &why), now_ms).await?;
    if promoted {
        registry.promote(&version, &why, now_ms).await?;
    }
    Ok(Outcome { version: Some(version), promoted, why, metrics })
}

/// Runs what keeps a thread busy for long, without keeping other tasks (the lock's renewal) from running where the runtime allows.
fn busy<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// What of the metrics the model file itself carries.
fn summary(m: &Metrics) -> serde_json::Value {
    serde_json::json!({
        "average_precision": m.average_precision,
        "brier_skill": m.brier_skill,
        "cost_per_hour": m.policy.cost_per_hour,
        "never_cost_per_hour": m.never.cost_per_hour,
        "called": m.policy.called,
        "failures": m.policy.failures,
        "until_ms": m.until_ms,
    })
}

/// Writes the features and labels of all accepted readings to a Parquet file at `path`; with a `model` its features (residuals included)
/// and risks. Returns the number of rows.
pub async fn export_features(
    store: &Store,
    fleet: &Fleet,
    settings: &Settings,
    model: Option<&Model>,
    path: &std::path::Path,
    progress: &dyn Fn(&str),
) -> Result<usize, TrainError> {
    let history = history::read(store, fleet, settings.room(), progress).await?;
    let spec = model.map_or_else(|| FeatureSpec::new(fleet), |m| m.spec.clone());
    busy(|| export::features(&history, &spec, model, settings, path))
}

/// Every accepted reading of the archive in `store` with its label and the risk that `model` gives it, as predict would.
pub async fn score(store: &Store, model: &Model) -> Result<Vec<ScoredReading>, TrainError> {
    let history = history::read(store, model.spec.fleet(), Room::new(settings::MEMORY_BYTES / 2, None), &|_| ()).await?;
    score::all(&history, model)
}

/// Prices two models on what of the archive is later than both have seen.
pub async fn compare(
    store: &Store,
    fleet: &Fleet,
    settings: &Settings,
    first: Contestant<'_>,
    second: Contestant<'_>,
) -> Result<Compared, TrainError> {
    let history = history::read(store, fleet, settings.room(), &|_| ()).await?;
    busy(|| compare::compare(&history, first, second, settings))
}

fn registry(store: &Store, fleet: &WrittenFleet) -> Result<Registry, TrainError> {
    let name: ModelName = fleet.name.parse().map_err(TrainError::key)?;
    Ok(Registry::new(store.clone(), name))
}

/// The champion in service, if there is one that this code can read; one that it cannot read is not compared with.
async fn champion(registry: &Registry) -> Result<Option<Champion>, TrainError> {
    /// What of a version's metrics is needed.
    #[derive(Deserialize)]
    struct Seen {
        #[serde(default)]
        until_ms: Option<i64>,
    }
    let Some(champion) = registry.champion().await? else { return Ok(None) };
    let model = match Model::parse(&registry.get_model(&champion.version).await?) {
        Ok(model) => model,
        Err(error) => {
            tracing::warn!(version = %champion.version, %error, "the champion cannot be read, so it is not compared with");
            return Ok(None);
        }
    };
    let seen: Option<Seen> = serde_json::from_slice(&registry.get_metrics(&champion.version).await?).ok();
    // A version that does not say until when it has learnt may have seen everything.
    let until = seen.and_then(|s| s.until_ms).unwrap_or(i64::MAX);
    Ok(Some(Champion { version: champion.version.to_string(), model, until }))
}

async fn put(
    registry: &Registry,
    learnt: &Learnt,
    metrics: &Metrics,
    (promoted, why): (bool, &str),
    now_ms: i64,
) -> Result<ModelVersion, TrainError> {
    let bytes = learnt.model.to_bytes()?;
    let version = ModelVersion::new(now_ms, xxhash_rust::xxh3::xxh3_64(&bytes)).map_err(TrainError::key)?;
    let frame = report::Frame { name: registry.name().as_str(), version: version.as_str(), why, promoted };
    let report = report::html(&frame, learnt, metrics)?;
    let metrics = Bytes::from(serde_json::to_vec_pretty(metrics)?);
    registry.put_version(&version, Bytes::from(bytes), metrics, Some(Bytes::from(report))).await?;
    Ok(version)
}
