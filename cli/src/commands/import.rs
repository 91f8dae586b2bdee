//! `homeward import`: a data set straight into the archive. The same files give the same objects, so importing twice stores nothing twice.

use std::sync::Arc;

use homeward_broker::Recent;
use homeward_ingest::{Batcher, Incoming, Recipe, Stats, Uploader};
use homeward_models::time::{EARLIEST_MS, LATEST_MS};
use homeward_store::keys::WriterId;
use serde::Serialize;

use super::files::{Records, topic};
use crate::args::FilesArgs;
use crate::config::Config;
use crate::{edges, report};

#[derive(Serialize)]
struct Imported {
    readings: u64,
    events: u64,
    quarantined: u64,
    duplicates: u64,
    bad_lines: u64,
    objects: u64,
    bytes: u64,
}

pub(crate) async fn run(config: &Config, args: &FilesArgs, json: bool) -> anyhow::Result<()> {
    let mut records = Records::open(config, args)?;
    let store = edges::store(config)?;
    let stats = Arc::new(Stats::default());
    // An object of an import may be as large as memory allows: no broker waits for its acknowledgement.
    let settings =
        homeward_ingest::Settings { max_rows: 500_000, max_bytes: 512 << 20, max_message_bytes: 256 << 20, ..config.ingest.clone() };
    let recipe = Recipe::new(&config.written.fleet, &config.written.topics, &settings);
    let mut batcher = Batcher::new(Arc::new(recipe), &settings, stats.clone())?;
    let uploader = Uploader::new(store, writer(config, args)?, stats.clone());
    let mut recent = Recent::default();
    let mut seq = 0;
    while let Some(record) = records.next()? {
        let topic = topic(&config.topics, &record);
        // The arrival is the reading's own time, so that the same file gives the same bytes.
        batcher.take(Incoming {
            seq,
            topic: topic.as_bytes(),
            payload: &record.payload,
            received_at: record.ts.clamp(EARLIEST_MS, LATEST_MS - 1),
            latest_ts: i64::MAX,
            repeat: recent.note(topic.as_bytes(), &record.payload),
            duplicate: false,
        })?;
        seq += 1;
        if batcher.full()
            && let Some(sealed) = batcher.seal()
        {
            uploader.store(sealed).await?;
        }
    }
    if let Some(sealed) = batcher.seal() {
        uploader.store(sealed).await?;
    }
    let c = stats.counts();
    let done = Imported {
        readings: c.readings,
        events: c.events,
        quarantined: c.quarantined.iter().map(|q| q.1).sum(),
        duplicates: c.duplicates,
        bad_lines: records.bad,
        objects: c.objects,
        bytes: c.bytes,
    };
    report::outcome(json, &done, || {
        let quarantined = c.quarantined.iter().map(|(reason, n)| format!("{n} {reason}")).collect::<Vec<_>>().join(", ");
        let quarantined = if quarantined.is_empty() { "nothing".into() } else { quarantined };
        format!(
            "archived {} readings and {} events in {} objects ({} bytes); quarantined {quarantined}; {} bad lines skipped",
            c.readings, c.events, c.objects, c.bytes, done.bad_lines
        )
    })
}

/// A writer named by all that decides the objects: the files' contents and how they are read, the fleet and the partitions.
fn writer(config: &Config, args: &FilesArgs) -> anyhow::Result<WriterId> {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for file in &args.files {
        let bytes = std::fs::read(file)?;
        hash.update(&bytes.len().to_le_bytes());
        hash.update(&bytes);
    }
    let reading = format!("{:?} {} {:?} {:?} {:?}", args.format, args.no_events, config.source, config.written.fleet, config.ingest);
    hash.update(reading.as_bytes());
    Ok(WriterId::from_bytes(hash.digest().to_be_bytes()))
}
