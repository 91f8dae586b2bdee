//! `homeward export`: what has been archived, in other forms.

use homeward_models::artifact::Model;
use homeward_train::Settings;
use serde_json::json;

use crate::args::ExportFeaturesArgs;
use crate::config::Config;
use crate::{edges, report};

pub(crate) async fn features(config: &Config, args: &ExportFeaturesArgs, json: bool) -> anyhow::Result<()> {
    let settings = Settings::check(&config.written.train, &config.written.decide, &config.written.costs)?;
    let store = edges::store(config)?;
    let model = match &args.model {
        None => None,
        Some(text) => {
            let registry = edges::registry(config, &store)?;
            let version = super::models::version(config, &registry, text).await?;
            Some(Model::parse(&registry.get_model(&version).await?)?)
        }
    };
    let tell = |step: &str| report::say(&format!("export: {step}"));
    let rows = homeward_train::export_features(&store, &config.fleet, &settings, model.as_ref(), &args.out, &tell).await?;
    report::outcome(json, &json!({"rows": rows, "file": args.out}), || format!("{rows} rows in {}", args.out.display()))
}
