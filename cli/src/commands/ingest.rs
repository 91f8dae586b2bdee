//! `homeward ingest`: broker to object store, until told to stop.

use std::sync::Arc;
use std::time::Duration;

use homeward_ingest::{Batcher, Stats, Uploader};
use serde::Serialize;

use crate::config::Config;
use crate::edges::{self, Stop};
use crate::report;

/// How often what was done is logged.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// How long a stop waits for a store that is away; what is not stored then stays with the broker.
const GRACE: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Ingested {
    messages: u64,
    readings: u64,
    events: u64,
    duplicates: u64,
    quarantined: std::collections::BTreeMap<&'static str, u64>,
    objects: u64,
    bytes: u64,
    released: u64,
    /// From the first message to the last release.
    busy_s: f64,
}

pub(crate) async fn run(config: &Config, json: bool) -> anyhow::Result<()> {
    let (_keep, stop) = Stop::on_signal();
    let stats = Arc::new(Stats::default());
    let reporting = tokio::spawn(log(stats.clone()));
    let outcome = service(config, stats.clone(), &stop).await;
    reporting.abort();
    outcome?;
    let c = stats.counts();
    let done = Ingested {
        messages: c.messages,
        readings: c.readings,
        events: c.events,
        duplicates: c.duplicates,
        quarantined: c.quarantined.iter().copied().collect(),
        objects: c.objects,
        bytes: c.bytes,
        released: c.released,
        busy_s: c.busy.as_secs_f64(),
    };
    report::outcome(json, &done, || line(&stats))
}

/// Runs the service until `stop`; what was received by then is stored and acknowledged.
pub(crate) async fn service(config: &Config, stats: Arc<Stats>, stop: &Stop) -> anyhow::Result<()> {
    let store = edges::store(config)?;
    let filters = [config.topics.telemetry.filter(), config.topics.events.filter()];
    let (inbox, driver) = edges::inbox(config, "ingest", &filters, stop.wait()).await?;
    tracing::info!(broker = config.broker.url(), store = %store, "ingest runs");
    let batcher = Batcher::new(&config.fleet, &config.topics, &config.ingest, stats.clone())?;
    let uploader = Uploader::new(store, edges::new_writer()?, config.ingest.zstd_level, stats.clone());
    // The inbox closes when told to stop, and the service ends when it has stored what the inbox still held.
    let ran = homeward_ingest::run(inbox.clone(), batcher, uploader, config.ingest.max_age, stats, stop.wait_and(GRACE)).await;
    inbox.finish();
    driver.await?;
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
    let quarantined = c.quarantined.iter().map(|(reason, n)| format!("{n} {reason}")).collect::<Vec<_>>().join(", ");
    let quarantined = if quarantined.is_empty() { "nothing".into() } else { quarantined };
    format!(
        "archived {} readings and {} events in {} objects ({} bytes); quarantined {quarantined}; {} duplicates; {} of {} messages released",
        c.readings, c.events, c.objects, c.bytes, c.duplicates, c.released, c.messages
    )
}
