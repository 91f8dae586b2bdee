//! `homeward predict`: score live, call devices home, until told to stop.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use homeward_broker::{Journal, MemoryInbox, MqttInbox, Shelf};
use homeward_predict::{Drift, Keeper, Stats};
use serde_json::json;

use super::ingest::journal_metrics;

use crate::args::PredictArgs;
use crate::config::Config;
use crate::edges::{self, Stop};
use crate::report;
use crate::serve::{self, Page, Watched};

/// How often what was done is logged.
const REPORT_EVERY: Duration = Duration::from_secs(10);

pub(crate) async fn run(config: &Config, args: PredictArgs, json: bool) -> anyhow::Result<()> {
    let (_keep, stop) = Stop::on_signal();
    let stats = Arc::new(Stats::default());
    let reporting = tokio::spawn(log(stats.clone()));
    let outcome = service(config, args, stats.clone(), &stop).await;
    reporting.abort();
    outcome?;
    let c = stats.counts();
    let value = json!({"messages": c.messages, "scored": c.scored, "unscored": c.unscored, "refused": c.refused, "skipped": c.skipped, "raised": c.raised,
        "cleared": c.cleared, "calls": c.calls, "failed": c.failed, "models": c.models, "models_refused": c.models_refused, "score_rows": c.score_rows, "score_objects": c.score_objects, "busy_s": c.busy_us as f64 / 1e6});
    report::outcome(json, &value, || line(&stats))
}

/// Runs the service until `stop`.
pub(crate) async fn service(config: &Config, args: PredictArgs, stats: Arc<Stats>, stop: &Stop) -> anyhow::Result<()> {
    if args.dry_run {
        // A session of its own, which must not take the real one's messages, and nothing that outlives it.
        let shelf = Arc::new(MemoryInbox::with_max_ahead(config.ingest.max_clock_skew_ms));
        return on_shelf(config, "predict-dry", shelf, None, None, stats, stop).await;
    }
    let journal = edges::journal(config, "predict", args.skip_damaged).await?;
    let dir = config.journal.dir.join("predict").join("kept");
    let keeper = Keeper::open(dir, journal.id(), edges::store(config)?, config.ingest.zstd_level, stats.clone())?;
    on_shelf(config, "predict", journal.clone(), Some(journal), Some(Arc::new(keeper)), stats, stop).await
}

async fn on_shelf<S: Shelf>(
    config: &Config,
    name: &str,
    shelf: Arc<S>,
    journal: Option<Arc<Journal>>,
    keeper: Option<Arc<Keeper>>,
    stats: Arc<Stats>,
    stop: &Stop,
) -> anyhow::Result<()> {
    let store = edges::store(config)?;
    let registry = edges::registry(config, &store)?;
    let filters = [config.topics.telemetry.filter(), config.topics.events.filter(), config.topics.ack.filter()];
    let dry_run = keeper.is_none();
    let settings = homeward_predict::Settings { dry_run, ..config.predict.clone() };
    let connection = Arc::new(OnceLock::new());
    let watched = Predicting { stats: stats.clone(), journal, connection: connection.clone() };
    let _server = match &config.serve.listen {
        Some(listen) => Some(serve::serve(listen, Arc::new(watched)).await?),
        None => None,
    };
    let (inbox, inbox_driver) = edges::inbox_on(config, name, shelf, &filters, stop.wait()).await?;
    _ = connection.set(inbox.clone());
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
        keeper,
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

/// Predict as its operators see it.
struct Predicting<S> {
    stats: Arc<Stats>,
    journal: Option<Arc<Journal>>,
    connection: Arc<OnceLock<Arc<MqttInbox<S>>>>,
}

impl<S: Shelf> Watched for Predicting<S> {
    fn metrics(&self, to: &mut Page<'_>) -> fmt::Result {
        to.inbox(&self.connection.get().map(|inbox| inbox.stats()).unwrap_or_default())?;
        if let Some(journal) = &self.journal {
            journal_metrics(&journal.stats(), to)?;
        }
        let c = self.stats.counts();
        to.counter("scored", "Readings scored", c.scored)?;
        to.counter("unscored", "Readings that came while no model was in service", c.unscored)?;
        to.counter("refused", "Readings not accepted: late, duplicate, frozen clock", c.refused)?;
        to.counter("skipped", "Messages that cannot be read, or came before", c.skipped)?;
        to.counter("alerts_raised", "Alerts raised", c.raised)?;
        to.counter("alerts_cleared", "Alerts cleared", c.cleared)?;
        to.counter("calls", "Calls confirmed by the broker", c.calls)?;
        to.counter("publishes_failed", "Publishes that the broker refused", c.failed)?;
        to.counter("models", "Models taken into service", c.models)?;
        to.counter("models_refused", "Models that did not fit", c.models_refused)?;
        to.counter("score_rows", "Rows written for the scores archive", c.score_rows)?;
        to.counter("score_objects", "Objects of scores put", c.score_objects)?;
        to.counter("put_errors", "Attempts to put one that failed and were made again", c.put_errors)?;
        to.counter("kept", "Times that all that is remembered was kept on disk", c.kept)?;
        to.counter("keep_errors", "Attempts to keep it that failed and were made again", c.keep_errors)?;
        to.counter("states_lost", "Devices whose kept windows could not be restored", c.states_lost)?;
        to.counter("drifted_days", "Days whose readings were unlike those of training", c.drifted_days)?;
        self.stats.drift().map_or(Ok(()), |drift| drift_metrics(&drift, to))
    }

    fn troubles(&self) -> Vec<String> {
        let connected = self.connection.get().is_some_and(|inbox| inbox.stats().connected);
        let full = self.journal.as_ref().is_some_and(|j| j.stats().full);
        let trouble = |is: bool, text: &str| is.then(|| text.to_owned());
        [
            trouble(!connected, "broker: not connected"),
            trouble(full, "journal: full or not writable; messages stay at the broker"),
            trouble(self.stats.counts().models == 0, "model: none in service yet"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// How the present day's readings compare with those of training.
fn drift_metrics(drift: &Drift, to: &mut Page<'_>) -> fmt::Result {
    let day = &drift.day;
    let named = || drift.features.iter().map(String::as_str).zip(&day.features);
    to.gauge("drift_rows", "Readings of the present day that were compared with training", day.rows as f64)?;
    to.gauge("drift_risk_psi", "Population stability index of the risk, the present day against training", day.risk.psi)?;
    to.gauge("drift_beyond", "Features beyond the limits that training sets", day.beyond().len() as f64)?;
    to.gauge("drifted", "1 while the present day is unlike the days of training", f64::from(u8::from(day.drifted)))?;
    to.gauges("drift_psi", "Population stability index by feature", "feature", named().map(|(name, d)| (name, d.psi)))?;
    to.gauges("drift_missing", "Share of readings without the feature", "feature", named().map(|(name, d)| (name, d.missing)))
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
