//! `homeward models`: the registry.

use homeward_models::ConfigError;
use homeward_models::time::rfc3339;
use homeward_store::Champion;
use homeward_store::keys::ModelVersion;
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

/// A version as typed.
pub(crate) fn parse(text: &str) -> Result<ModelVersion, ConfigError> {
    text.parse().map_err(|_| {
        ConfigError::new("version", format!("{text:?}"), "a version as homeward models list shows them, such as 20261122T131500Z-3fa9c1")
    })
}

fn described(champion: &Champion) -> Value {
    json!({"version": champion.version.to_string(), "previous": champion.previous.as_ref().map(ToString::to_string), "promoted_at": rfc3339(champion.promoted_at_ms), "why": champion.why})
}
