//! `homeward ingest`: broker to object store, until told to stop.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use homeward_broker::{Inbox, Journal, JournalStats, MemoryInbox, MqttInbox, Shelf};
use homeward_ingest::{Ack, Recipe, Stats, Uploader};
use homeward_store::keys::WriterId;
use serde::Serialize;

use crate::args::IngestArgs;
use crate::config::Config;
use crate::edges::{self, Stop};
use crate::report;
use crate::serve::{self, Page, Watched};

/// How often what was done is logged.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// How long a stop waits for a store that is away; what is not stored then stays in the journal, or with the broker.
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

pub(crate) async fn run(config: &Config, args: &IngestArgs, json: bool) -> anyhow::Result<()> {
    let (_keep, stop) = Stop::on_signal();
    let stats = Arc::new(Stats::default());
    let reporting = tokio::spawn(log(stats.clone()));
    let outcome = service(config, args.skip_damaged, stats.clone(), &stop).await;
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

/// Runs the service until `stop`; what was received by then is stored, or kept where it is safe.
pub(crate) async fn service(config: &Config, skip_damaged: bool, stats: Arc<Stats>, stop: &Stop) -> anyhow::Result<()> {
    match config.ingest.ack {
        Ack::Journal => {
            let journal = edges::journal(config, "ingest", skip_damaged).await?;
            let writer = WriterId::from_bytes(journal.id());
            on_shelf(config, journal.clone(), Some(journal), writer, stats, stop).await
        }
        Ack::Object => {
            let shelf = Arc::new(MemoryInbox::with_max_ahead(config.ingest.max_clock_skew_ms));
            on_shelf(config, shelf, None, edges::new_writer()?, stats, stop).await
        }
    }
}

async fn on_shelf<S: Shelf>(
    config: &Config,
    shelf: Arc<S>,
    journal: Option<Arc<Journal>>,
    writer: WriterId,
    stats: Arc<Stats>,
    stop: &Stop,
) -> anyhow::Result<()> {
    let store = edges::store(config)?;
    let connection = Arc::new(OnceLock::new());
    let watched = Ingesting { stats: stats.clone(), journal, connection: connection.clone(), store_grace: config.serve.store_grace };
    let _server = match &config.serve.listen {
        Some(listen) => Some(serve::serve(listen, Arc::new(watched)).await?),
        None => None,
    };
    let filters = [&config.topics.telemetry, &config.topics.events].map(|topic| shared(config, topic.filter()));
    let (inbox, driver) = edges::inbox_on(config, "ingest", shelf, &filters, stop.wait()).await?;
    _ = connection.set(inbox.clone());
    let ran = match config.ingest.fits_window(inbox.granted()) {
        Ok(()) => archive(config, inbox.clone(), Uploader::new(store, writer, stats), stop).await,
        Err(stalls) => Err(stalls.into()),
    };
    inbox.finish();
    driver.await?;
    ran
}

async fn archive<I: Inbox>(config: &Config, inbox: Arc<I>, uploader: Uploader, stop: &Stop) -> anyhow::Result<()> {
    tracing::info!(broker = config.broker.url(), store = config.store, "ingest runs");
    let recipe = Recipe::new(&config.written.fleet, &config.written.topics, &config.ingest);
    // The inbox closes when told to stop, and the service ends when it has stored what the inbox still held.
    Ok(homeward_ingest::run(inbox, recipe, &config.ingest, uploader, stop.wait_and(GRACE)).await?)
}

/// The filter by which a group of ingesters shares what one would get alone.
fn shared(config: &Config, filter: String) -> String {
    config.share.as_ref().map_or(filter.clone(), |group| format!("$share/{group}/{filter}"))
}

/// Ingest as its operators see it.
struct Ingesting<S> {
    stats: Arc<Stats>,
    journal: Option<Arc<Journal>>,
    connection: Arc<OnceLock<Arc<MqttInbox<S>>>>,
    store_grace: Duration,
}

impl<S: Shelf> Watched for Ingesting<S> {
    fn metrics(&self, to: &mut Page<'_>) -> fmt::Result {
        to.inbox(&self.connection.get().map(|inbox| inbox.stats()).unwrap_or_default())?;
        if let Some(journal) = &self.journal {
            journal_metrics(&journal.stats(), to)?;
        }
        let c = self.stats.counts();
        to.counter("archived_readings", "Readings taken into batches", c.readings)?;
        to.counter("archived_events", "Events taken into batches", c.events)?;
        to.counter("archived", "Messages that are in the store, or in quarantine there, and released", c.released)?;
        to.counters("quarantined", "Messages or elements of arrays, by reason", "reason", c.quarantined.iter().copied())?;
        to.counter("duplicates", "Messages dropped because the same was taken before", c.duplicates)?;
        to.counter("objects", "Objects put", c.objects)?;
        to.counter("objects_bytes", "Bytes of these", c.bytes)?;
        to.counter("put_errors", "Attempts to put an object that failed and were made again", c.put_errors)?;
        to.latency("put", "How long a put took, failed attempts included", &self.stats.put.view())?;
        to.latency("encode", "How long the objects of a batch took to encode", &self.stats.encode.view())?;
        let seconds = |d: Option<Duration>| d.map_or(0.0, |d| d.as_secs_f64());
        to.seconds("store_waiting", "For how long the present batch has been on its way to the store", seconds(self.stats.storing_for()))?;
        let since = self.stats.since_stored().map_or(f64::NAN, |d| d.as_secs_f64());
        to.seconds("since_store_success", "Time since a batch was stored last; NaN before the first", since)
    }

    fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if !self.connection.get().is_some_and(|inbox| inbox.stats().connected) {
            troubles.push("broker: not connected".to_owned());
        }
        if let Some(journal) = &self.journal
            && journal.stats().full
        {
            troubles.push("journal: full or not writable; messages stay at the broker".to_owned());
        }
        if let Some(waited) = self.stats.storing_for().filter(|w| *w >= self.store_grace) {
            troubles.push(format!("store: a batch has been on its way for {} s", waited.as_secs()));
        }
        troubles
    }
}

/// A journal as its operators see it.
pub(crate) fn journal_metrics(j: &JournalStats, to: &mut Page<'_>) -> fmt::Result {
    to.counter("journaled", "Messages appended to the journal", j.appended)?;
    to.counter("journal_synced", "Messages that are safe on disk", j.synced)?;
    to.counter("repeats", "Messages whose content came before", j.repeats)?;
    to.gauge("journal_bytes", "Size of the journal on disk", j.bytes as f64)?;
    to.gauge("journal_segments", "Its segment files", j.segments as f64)?;
    to.gauge("journal_messages", "Messages in it that are not in the store yet", j.held as f64)?;
    to.gauge("journal_full", "1 while the journal takes nothing: full, or the disk fails", f64::from(u8::from(j.full)))?;
    let oldest = j.oldest_unreleased_ms.map_or(0.0, |at| (edges::now_ms() - at) as f64 / 1e3);
    to.seconds("oldest_unreleased", "Age of the oldest message that is not in the store yet; 0 for none", oldest)?;
    to.counter("journal_write_errors", "Writes or fsyncs that failed and were made again", j.write_errors)?;
    to.counter("journal_torn_bytes", "Bytes of unfinished records cut at the start", j.torn_bytes)?;
    to.counter("journal_damaged_bytes", "Bytes moved aside by --skip-damaged", j.damaged_bytes)?;
    to.latency("fsync", "How long an fsync of the journal took", &j.fsync)
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
