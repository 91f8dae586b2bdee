//! `homeward predict`: score live, call devices home, until told to stop.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use homeward_broker::MqttInbox;
use homeward_predict::Stats;
use serde_json::json;

use crate::config::Config;
use crate::edges::{self, Stop};
use crate::report;
use crate::serve::{self, Page, Watched};

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
    let connection = Arc::new(OnceLock::new());
    let watched = Predicting { stats: stats.clone(), connection: connection.clone() };
    let _server = match &config.serve.listen {
        Some(listen) => Some(serve::serve(listen, Arc::new(watched)).await?),
        None => None,
    };
    let (inbox, inbox_driver) = edges::inbox(config, name, &filters, stop.wait()).await?;
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
struct Predicting {
    stats: Arc<Stats>,
    connection: Arc<OnceLock<Arc<MqttInbox>>>,
}

impl Watched for Predicting {
    fn metrics(&self, to: &mut Page<'_>) -> fmt::Result {
        to.inbox(&self.connection.get().map(|inbox| inbox.stats()).unwrap_or_default())?;
        let c = self.stats.counts();
        to.counter("scored", "Readings scored", c.scored)?;
        to.counter("unscored", "Readings that came while no model was in service", c.unscored)?;
        to.counter("refused", "Readings not accepted: late, duplicate", c.refused)?;
        to.counter("skipped", "Messages that cannot be read, or came before", c.skipped)?;
        to.counter("alerts_raised", "Alerts raised", c.raised)?;
        to.counter("alerts_cleared", "Alerts cleared", c.cleared)?;
        to.counter("calls", "Calls confirmed by the broker", c.calls)?;
        to.counter("publishes_failed", "Publishes that the broker refused", c.failed)?;
        to.counter("models", "Models taken into service", c.models)?;
        to.counter("models_refused", "Models that did not fit", c.models_refused)
    }

    fn troubles(&self) -> Vec<String> {
        let connected = self.connection.get().is_some_and(|inbox| inbox.stats().connected);
        let trouble = |is: bool, text: &str| is.then(|| text.to_owned());
        [trouble(!connected, "broker: not connected"), trouble(self.stats.counts().models == 0, "model: none in service yet")]
            .into_iter()
            .flatten()
            .collect()
    }
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
