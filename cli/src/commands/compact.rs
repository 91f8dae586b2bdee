//! `homeward compact`: merges the archive's small objects, drops duplicates, cools and deletes what is old.

use homeward_ingest::compact;

use crate::config::Config;
use crate::{edges, report};

pub(crate) async fn run(config: &Config, json: bool) -> anyhow::Result<()> {
    let store = edges::store(config)?;
    let tell = |step: &str| tracing::info!("{step}");
    let done = compact(&store, &config.compact, edges::now_ms(), edges::random()?, &tell).await?;
    report::outcome(json, &done, || done.to_string())
}
