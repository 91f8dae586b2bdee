//! `homeward compact`: merges the archive's small objects, drops duplicates, cools and deletes what is old.

use homeward_ingest::{CompactRun, compact};

use crate::config::Config;
use crate::edges::{self, Stop};
use crate::report;

pub(crate) async fn run(config: &Config, json: bool) -> anyhow::Result<()> {
    let store = edges::store(config)?;
    // A partition takes seconds to minutes: what is in flight is ended, not the run.
    let (_keep, stop) = Stop::on_signal();
    let run =
        CompactRun { id: edges::random()?, clock: &edges::now_ms, stop: &|| stop.given(), tell: &|step: &str| tracing::info!("{step}") };
    let done = compact(&store, &config.compact, run).await?;
    report::outcome(json, &done, || done.to_string())
}
