//! The champion: loaded at start, and again whenever the registry's pointer moves. A model that does not fit is refused, and the one in
//! service goes on.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use homeward_models::Fleet;
use homeward_models::artifact::{BadModel, Model};
use homeward_models::decision::Rules;
use homeward_models::form::{Reasons, Scoring};
use homeward_store::keys::ModelVersion;
use homeward_store::{Champion, ChampionChange, Registry, StoreError};
use tokio::sync::watch;

use crate::Stats;
use crate::stats::add;

/// A model in service, with the name it speaks under.
#[derive(Debug)]
pub struct InService {
    /// The model.
    pub model: Model,
    /// The same laid out for scoring.
    pub scoring: Scoring,
    /// Its name in the registry.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Names of its features, made once.
    pub features: Vec<String>,
    /// How its alerts are raised and cleared.
    pub(crate) rules: Rules,
    /// What says why; tables as large as the trees, made at the first alert.
    reasons: OnceLock<Reasons>,
}

/// Why a champion was not taken into service.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file is none that this code can use.
    #[error("{version}: {source}")]
    Bad {
        /// Which version.
        version: ModelVersion,
        /// What is wrong.
        source: BadModel,
    },
    /// It was trained for another specification of the fleet.
    #[error("{version}: trained for features {found}, this fleet has {expected}: train again with this configuration")]
    OtherFleet {
        /// Which version.
        version: ModelVersion,
        /// Its fingerprint.
        found: String,
        /// Ours.
        expected: String,
    },
}

/// Loads one version and checks that it fits `fleet`.
pub async fn load(registry: &Registry, version: &ModelVersion, fleet: &Fleet) -> Result<InService, LoadError> {
    let bytes = registry.get_model(version).await?;
    let model = Model::parse(&bytes).map_err(|source| LoadError::Bad { version: version.clone(), source })?;
    let (found, expected) = (model.spec.fleet().fingerprint(), fleet.fingerprint());
    if found != expected {
        return Err(LoadError::OtherFleet { version: version.clone(), found, expected });
    }
    Ok(InService::new(model, registry.name().to_string(), version.to_string()))
}

impl InService {
    /// A model under its name and version.
    pub fn new(model: Model, name: String, version: String) -> Self {
        let features = (0..model.spec.len()).map(|f| model.spec.name(f)).collect();
        Self {
            rules: model.form.gate_rules(model.threshold, &model.rules),
            scoring: model.scoring(),
            model,
            name,
            version,
            features,
            reasons: OnceLock::new(),
        }
    }

    /// Why the model gives its scores.
    pub(crate) fn reasons(&self) -> &Reasons {
        self.reasons.get_or_init(|| self.model.form.reasons())
    }
}

/// Follows the registry's pointer until nobody listens.
pub(crate) async fn follow(
    registry: Registry,
    fleet: Fleet,
    every: Duration,
    stats: Arc<Stats>,
    service: watch::Sender<Option<Arc<InService>>>,
) {
    let mut seen: Option<Champion> = None;
    while !service.is_closed() {
        match look(&registry, seen.as_ref()).await {
            Ok(Some(champion)) => {
                match load(&registry, &champion.version, &fleet).await {
                    Ok(fresh) => {
                        tracing::info!(model = fresh.name, version = fresh.version, "champion in service");
                        add(&stats.models, 1);
                        service.send_replace(Some(Arc::new(fresh)));
                    }
                    Err(error @ LoadError::Store(_)) => {
                        tracing::warn!(%error, "the champion cannot be read; trying again");
                        tokio::time::sleep(every).await;
                        continue;
                    }
                    Err(error) => {
                        add(&stats.models_refused, 1);
                        tracing::error!(%error, "champion refused; the model in service goes on");
                    }
                }
                seen = Some(champion);
            }
            Ok(None) => (),
            Err(error) => tracing::warn!(%error, "the registry cannot be read; the model in service goes on"),
        }
        tokio::time::sleep(every).await;
    }
}

/// The champion if it is another than the one seen.
async fn look(registry: &Registry, seen: Option<&Champion>) -> Result<Option<Champion>, StoreError> {
    let Some(seen) = seen else { return registry.champion().await };
    Ok(match registry.champion_if_changed(&seen.revision).await? {
        ChampionChange::Moved(champion) => Some(champion),
        ChampionChange::Same | ChampionChange::Gone => None,
    })
}
