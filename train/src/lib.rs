//! The batch job: archive → labels → features → learners → threshold → registry.
//!
//! `train` reads top-down: history from the archive, a binned feature matrix through the one kernel, a plan of folds and hold-out, out-of-fold
//! risks, calibration, the threshold of least cost, a verdict by bootstrap, the recipe refitted on all, the registry.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod binned;
mod calibrate;
mod error;
mod evaluate;
mod gate;
mod history;
mod learn;
pub mod learners;
mod matrix;
mod metrics;
mod plan;
mod recipe;
mod residual;
mod sample;
mod score;
mod settings;
#[cfg(test)]
mod testing;
mod usage;

use bytes::Bytes;
use homeward_models::artifact::Model;
use homeward_models::{Fleet, WrittenFleet};
use homeward_store::keys::{ModelName, ModelVersion};
use homeward_store::{Registry, Store};
use serde::Deserialize;

pub use error::TrainError;
pub use metrics::{AgainstMetrics, ComponentMetrics, FailureMetrics, HoldOutMetrics, LabelMetrics, Metrics, PolicyMetrics};
pub use score::ScoredReading;
pub use settings::{LearnerChoice, Promote, Settings, WrittenTrain};

use learn::{Champion, Learnt, Watch};

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
    let watch = Watch { progress, started: std::time::Instant::now() };
    let registry = registry(store, fleet.written())?;
    let champion = champion(&registry).await?;
    let history = history::read(store, fleet, progress).await?;
    let learnt = learn::learn(&history, fleet, settings, champion, &watch)?;
    let seconds = watch.started.elapsed().as_secs_f64();
    let metrics = Metrics::new(&learnt.evaluation, &learnt.usage, &learnt.model, &learnt.tried, seconds);
    let (promote, why) = gate::judge(settings.promote, &learnt.evaluation);
    if !promote && settings.promote == Promote::Better {
        return Ok(Outcome { version: None, promoted: false, why, metrics });
    }
    let version = put(&registry, &learnt, &metrics, now_ms).await?;
    if promote {
        registry.promote(&version, &why, now_ms).await?;
    }
    Ok(Outcome { version: Some(version), promoted: promote, why, metrics })
}

/// Every accepted reading of the archive in `store` with its label and the risk that `model` gives it, as predict would.
pub async fn score(store: &Store, model: &Model) -> Result<Vec<ScoredReading>, TrainError> {
    let history = history::read(store, model.spec.fleet(), &|_| ()).await?;
    Ok(score::all(&history, model))
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

async fn put(registry: &Registry, learnt: &Learnt, metrics: &Metrics, now_ms: i64) -> Result<ModelVersion, TrainError> {
    let bytes = learnt.model.to_bytes()?;
    let version = ModelVersion::new(now_ms, xxhash_rust::xxh3::xxh3_64(&bytes)).map_err(TrainError::key)?;
    registry.put_version(&version, Bytes::from(bytes), Bytes::from(serde_json::to_vec_pretty(metrics)?), None).await?;
    Ok(version)
}
