//! `homeward models import` and `export`: models of other libraries into the registry, and ours out of it.

use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use homeward_models::ConfigError;
use homeward_models::artifact::{Lineage, Model, SelfTest, SourceObject};
use homeward_models::ensemble::Ensemble;
use homeward_models::features::FeatureSpec;
use homeward_models::form::Form;
use homeward_models::import::{self, Format, Imported};
use homeward_models::onnx::form_to_onnx;
use homeward_models::time::{duration_name, parse_duration};
use homeward_store::keys::ModelVersion;
use serde_json::json;

use super::models::{parse, version_or};
use crate::args::{ExportFormat, ExportModelArgs, ImportModelArgs, ModelFormat};
use crate::config::Config;
use crate::edges::{self, now_ms};
use crate::report;

/// Rows kept in the model file to check readers by.
const SELF_TESTS: usize = 16;

pub(crate) async fn import(config: &Config, args: &ImportModelArgs, json: bool) -> anyhow::Result<()> {
    let horizon = horizon(config, args)?;
    if !(args.threshold > 0.0 && args.threshold <= 1.0) {
        return Err(ConfigError::new("--threshold", args.threshold.to_string(), "a risk above 0 and at most 1").into());
    }
    let bytes = std::fs::read(&args.file).with_context(|| args.file.display().to_string())?;
    let imported = import::read(format(args.format), &bytes).with_context(|| args.file.display().to_string())?;
    let (library, named) = (imported.library.clone(), imported.names.is_some());
    let print = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes));
    let source = SourceObject { key: file_name(&args.file), size: bytes.len() as u64, etag: Some(print.clone()) };
    let model = model(config, args, imported, horizon, source)?;
    let columns = if named { "by name" } else { "by position" };
    let trees = model.form.ensemble().map_or(0, |e| e.roots.len());
    let metrics = json!({
        "imported": {"file": file_name(&args.file), "bytes": bytes.len(), "xxh3": print, "library": library, "trees": trees, "columns": columns},
        "evaluated": false,
        "threshold": args.threshold,
        "horizon_s": horizon as f64 / 1000.0,
    });
    let model = model.to_bytes()?;
    // What predict would refuse is refused here.
    Model::parse(&model)?;
    let version = ModelVersion::new(now_ms(), xxhash_rust::xxh3::xxh3_64(&model))?;
    let registry = edges::registry(config, &edges::store(config)?)?;
    registry.put_version(&version, Bytes::from(model), Bytes::from(serde_json::to_vec_pretty(&metrics)?), None).await?;
    let said = json!({"version": version.to_string(), "promoted": false, "metrics": metrics});
    report::outcome(json, &said, || {
        format!(
            "stored {version}: {trees} trees by {library}, columns {columns}; never evaluated here: homeward models promote {version} puts it into service"
        )
    })
}

pub(crate) async fn export(config: &Config, args: &ExportModelArgs, json: bool) -> anyhow::Result<()> {
    let asked = args.version.as_deref().map(parse).transpose()?;
    let registry = edges::registry(config, &edges::store(config)?)?;
    let champion = registry.champion().await?;
    let version = version_or(asked, champion.as_ref(), config)?;
    let model = Model::parse(&registry.get_model(&version).await?).with_context(|| version.to_string())?;
    let bytes = match args.format {
        ExportFormat::Onnx => form_to_onnx(&model.form, &names(&model.spec)).with_context(|| version.to_string())?,
    };
    std::fs::write(&args.out, &bytes).with_context(|| args.out.display().to_string())?;
    let said = json!({"version": version.to_string(), "file": args.out, "bytes": bytes.len()});
    report::outcome(json, &said, || format!("{version}: {} ({} bytes)", args.out.display(), bytes.len()))
}

fn format(format: ModelFormat) -> Format {
    match format {
        ModelFormat::Xgboost => Format::Xgboost,
        ModelFormat::Lightgbm => Format::Lightgbm,
        ModelFormat::Onnx => Format::Onnx,
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The horizon the model was trained for, in milliseconds.
fn horizon(config: &Config, args: &ImportModelArgs) -> Result<i64, ConfigError> {
    match (&args.horizon, &config.train.horizons[..]) {
        (Some(text), _) => match parse_duration("--horizon", text)? {
            0 => Err(ConfigError::new("--horizon", format!("{text:?}"), "more than 0s")),
            horizon => Ok(horizon),
        },
        (None, [only]) => Ok(*only),
        (None, several) => {
            let several = several.iter().map(|h| duration_name(*h)).collect::<Vec<_>>().join(", ");
            Err(ConfigError::new("--horizon", "none", format!("the horizon the model was trained for: [train] horizons has {several}")))
        }
    }
}

fn names(spec: &FeatureSpec) -> Vec<String> {
    (0..spec.len()).map(|f| spec.name(f)).collect()
}

/// The model file's content: the trees over this fleet's features, the rest from the configuration.
fn model(config: &Config, args: &ImportModelArgs, imported: Imported, horizon: i64, source: SourceObject) -> anyhow::Result<Model> {
    let spec = FeatureSpec::new(&config.fleet);
    let learner = imported.library.clone();
    let ensemble = imported.over(&names(&spec)).with_context(|| args.file.display().to_string())?;
    Ok(Model {
        target: config.train.target,
        horizons: vec![horizon],
        learner,
        // Risks are taken as the other library gives them.
        calibration: Vec::new(),
        threshold: args.threshold,
        decide: config.written.decide.clone(),
        rules: config.train.rules,
        money: config.written.costs.clone(),
        costs: homeward_models::cost::Costs::check(&config.written.costs, horizon)?,
        // The file does not say what is typical in training.
        typical: vec![f64::NAN; spec.len()],
        drift: None,
        signatures: None,
        metrics: serde_json::Value::Null,
        self_test: self_test(&ensemble),
        lineage: Lineage { objects: vec![source], settings: config.train.print(), seed: 0, code: env!("CARGO_PKG_VERSION").into() },
        form: Form::Ensemble(ensemble),
        spec,
    })
}

/// Rows at and next to the trees' own thresholds, some values missing, with their risks.
fn self_test(ensemble: &Ensemble) -> Vec<SelfTest> {
    let row = |test: usize| {
        let mut row = vec![0.0; ensemble.features];
        for (i, node) in ensemble.nodes.iter().enumerate() {
            row[node.feature as usize] = match (i + test) % 4 {
                0 => node.threshold.next_down(),
                1 => node.threshold,
                2 => node.threshold.next_up(),
                _ => f64::NAN,
            };
        }
        let mut risks = vec![0.0; ensemble.horizons];
        ensemble.score(&row, &mut risks);
        SelfTest { row, risks }
    };
    (0..SELF_TESTS).map(row).collect()
}
