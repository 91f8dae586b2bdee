//! `homeward predict`: score live, call devices home, until told to stop.

use std::sync::Arc;
use std::time::Duration;

use homeward_predict::Stats;
use serde_json::json;

use crate::config::Config;
use crate::edges::{self, Stop};
use crate::report;

/// How often what was done is logged.
const REPORT_EVERY: Duration = Duration::from_secs(10);

pub(crate) async fn run(config: &Config, dry_run: bool, json: bool) -> anyhow::Result<()> {
    let (_keep, stop) = Stop::on_signal();
    let stats = Arc::new(Stats::default());
    let reporting = tokio::spawn(log(stats.clone()));
    let outcome = service(config, dry_run, stats.clone(), &stop).await;
    reporting.abort();
    outcome?;
    let c = stats.counts();
    let value = json!({"messages": c.messages, "scored": c.scored, "unscored": c.unscored, "refused": c.refused, "skipped": c.skipped, "raised": c.raised,
        "cleared": c.cleared, "calls": c.calls, "failed": c.failed, "models": c.models, "models_refused": c.models_refused, "busy_s": c.busy_us as f64 / 1e6});
    report::outcome(json, &value, || line(&stats))
}

/// Runs the service until `stop`.
pub(crate) async fn service(config: &Config, dry_run: bool, stats: Arc<Stats>, stop: &Stop) -> anyhow::Result<()> {
    let store = edges::store(config)?;
    let registry = edges::registry(config, &store)?;
    let filters = [config.topics.telemetry.filter(), config.topics.events.filter(), config.topics.ack.filter()];
    let settings = homeward_predict::Settings { dry_run, ..config.predict.clone() };
    // A dry run has a session of its own: it must not take the real one's messages.
    let name = if dry_run { "predict-dry" } else { "predict" };
    let (inbox, inbox_driver) = edges::inbox(config, name, &filters, stop.wait()).await?;
    // The outbox outlives the inbox, so that what the last readings caused is still confirmed.
    let (closing, closed) = tokio::sync::oneshot::channel::<()>();
    let (outbox, outbox_driver) = edges::outbox(config, &format!("{name}-out"), async move { _ = closed.await }).await?;
    tracing::info!(broker = config.broker.url(), store = %store, dry_run, "predict runs");
    let ran = homeward_predict::run(
        inbox.clone(),
        outbox,
        registry,
        &config.fleet,
        &config.topics,
        &settings,
        stats,
        stop.wait_and(Duration::from_secs(30)),
    )
    .await;
    inbox.finish();
    inbox_driver.await?;
    _ = closing.send(());
    outbox_driver.await?;
    Ok(ran?)
}

async fn log(stats: Arc<Stats>) {
    let mut before = 0;
    loop {
        tokio::time::sleep(REPORT_EVERY).await;
        let now = stats.counts().messages;
        if now != before {
            tracing::info!("{}", line(&stats));
            before = now;
        }
    }
}

fn line(stats: &Stats) -> String {
    let c = stats.counts();
    format!(
        "scored {} readings ({} without a model, {} refused, {} skipped); {} alerts raised, {} cleared, {} calls confirmed, {} publishes refused",
        c.scored, c.unscored, c.refused, c.skipped, c.raised, c.cleared, c.calls, c.failed
    )
}
