//! `homeward models`: the registry.

use homeward_models::ConfigError;
use homeward_models::artifact::Model;
use homeward_models::time::rfc3339;
use homeward_store::keys::ModelVersion;
use homeward_store::{Champion, Registry};
use homeward_train::{Contestant, PolicyMetrics, Settings};
use serde_json::{Value, json};

use crate::config::Config;
use crate::edges::{self, now_ms};
use crate::{Failed, report};

pub(crate) async fn list(config: &Config, json: bool) -> anyhow::Result<()> {
    let registry = edges::registry(config, &edges::store(config)?)?;
    let versions = registry.versions().await?;
    let champion = registry.champion().await?;
    let is = |v: &ModelVersion| champion.as_ref().is_some_and(|c| c.version == *v);
    let value: Vec<Value> =
        versions.iter().map(|v| json!({"name": config.fleet.name, "version": v.to_string(), "champion": is(v)})).collect();
    report::outcome(json, &value, || {
        if versions.is_empty() {
            return format!("no model of {} in {}", config.fleet.name, config.store);
        }
        let rows = versions.iter().map(|v| vec![v.to_string(), if is(v) { "champion".into() } else { String::new() }]);
        report::table(&["version", ""], rows)
    })
}

pub(crate) async fn show(config: &Config, version: Option<&str>, json: bool) -> anyhow::Result<()> {
    let version = version.map(parse).transpose()?;
    let registry = edges::registry(config, &edges::store(config)?)?;
    let champion = registry.champion().await?;
    let version = version_or(version, champion.as_ref(), config)?;
    let metrics: Value = serde_json::from_slice(&registry.get_metrics(&version).await?)?;
    let champion = champion.filter(|c| c.version == version);
    let value = json!({"name": config.fleet.name, "version": version.to_string(), "champion": champion.as_ref().map(described), "metrics": metrics});
    report::outcome(json, &value, || {
        let standing =
            champion.as_ref().map_or("not the champion".into(), |c| format!("champion since {}: {}", rfc3339(c.promoted_at_ms), c.why));
        format!("{version}: {standing}\n{metrics:#}")
    })
}

pub(crate) async fn promote(config: &Config, version: &str, json: bool) -> anyhow::Result<()> {
    let version = parse(version)?;
    let registry = edges::registry(config, &edges::store(config)?)?;
    // A model that predict would refuse is refused here, before it is the champion.
    homeward_predict::load(&registry, &version, &config.fleet).await?;
    let champion = registry.promote(&version, "by hand", now_ms()).await?;
    report::outcome(json, &described(&champion), || format!("champion: {}", champion.version))
}

pub(crate) async fn rollback(config: &Config, json: bool) -> anyhow::Result<()> {
    let registry = edges::registry(config, &edges::store(config)?)?;
    let champion = registry.rollback(now_ms()).await?;
    report::outcome(json, &described(&champion), || format!("champion: {}", champion.version))
}

/// The version asked for, else the champion's.
pub(crate) fn version_or(asked: Option<ModelVersion>, champion: Option<&Champion>, config: &Config) -> Result<ModelVersion, Failed> {
    let none = || Failed(format!("no champion of {} yet: homeward train makes one", config.fleet.name));
    asked.or_else(|| champion.map(|c| c.version.clone())).ok_or_else(none)
}

pub(crate) async fn compare(config: &Config, first: &str, second: Option<&str>, json: bool) -> anyhow::Result<()> {
    let store = edges::store(config)?;
    let registry = edges::registry(config, &store)?;
    let settings = Settings::check(&config.written.train, &config.written.decide, &config.written.costs)?;
    let (first, second) = (version(config, &registry, first).await?, version(config, &registry, second.unwrap_or(CHAMPION)).await?);
    let (one, other) = (stored(&registry, &first).await?, stored(&registry, &second).await?);
    let contestants = (Contestant { model: &one.0, until_ms: one.1 }, Contestant { model: &other.0, until_ms: other.1 });
    let compared = homeward_train::compare(&store, &config.fleet, &settings, contestants.0, contestants.1).await?;
    let value = json!({"first": first.to_string(), "second": second.to_string(), "compared": compared});
    report::outcome(json, &value, || {
        let row = |name: &ModelVersion, p: &PolicyMetrics| {
            vec![
                name.to_string(),
                report::money(p.cost_per_hour),
                format!("{} of {}", p.called, p.failures),
                p.late.to_string(),
                p.false_alarms.to_string(),
            ]
        };
        let rows = [row(&first, &compared.first), row(&second, &compared.second)];
        let table = report::table(&["version, on data that neither has seen", "cost/h", "called", "late", "false"], rows);
        let few = if compared.few { "; fewer than ten failures prove nothing" } else { "" };
        let percent = compared.first_better * 100.0;
        format!("{table}\nthe first costs less in {percent:.0} % of the bootstrap samples of devices{few}")
    })
}

/// What the champion is called where a version is asked for.
const CHAMPION: &str = "champion";

/// A version as typed, or the champion's.
pub(crate) async fn version(config: &Config, registry: &Registry, text: &str) -> anyhow::Result<ModelVersion> {
    if text != CHAMPION {
        return Ok(parse(text)?);
    }
    let champion = registry.champion().await?;
    Ok(champion.ok_or_else(|| Failed(format!("no champion of {} yet: homeward train makes one", config.fleet.name)))?.version)
}

/// A stored model and until when it has learnt; one that does not say has seen everything.
async fn stored(registry: &Registry, version: &ModelVersion) -> anyhow::Result<(Model, i64)> {
    let model = Model::parse(&registry.get_model(version).await?)?;
    let metrics: Value = serde_json::from_slice(&registry.get_metrics(version).await?)?;
    Ok((model, metrics["until_ms"].as_i64().unwrap_or(i64::MAX)))
}

/// A version as typed.
pub(crate) fn parse(text: &str) -> Result<ModelVersion, ConfigError> {
    text.parse().map_err(|_| {
        ConfigError::new("version", format!("{text:?}"), "a version as homeward models list shows them, such as 20261122T131500Z-3fa9c1")
    })
}

fn described(champion: &Champion) -> Value {
    json!({"version": champion.version.to_string(), "previous": champion.previous.as_ref().map(ToString::to_string), "promoted_at": rfc3339(champion.promoted_at_ms), "why": champion.why})
}
