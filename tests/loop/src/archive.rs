//! The archive, filled as `homeward import` fills it: by the batcher and the uploader of ingest, without a broker.

use std::sync::Arc;

use homeward_data::{Kind, Record};
use homeward_ingest::{Batcher, Incoming, Recipe, Stats, Uploader, WrittenIngest};
use homeward_models::topic::{Topics, WrittenTopics};
use homeward_store::Store;
use homeward_store::keys::WriterId;

use crate::Config;

/// An archive that takes records.
pub(crate) struct Archive {
    batcher: Batcher,
    uploader: Uploader,
    topics: Topics,
    seq: u64,
}

/// The topic of a record.
pub(crate) fn topic(topics: &Topics, record: &Record) -> String {
    match record.kind {
        Kind::Telemetry => topics.telemetry.of(&record.device),
        Kind::Event => topics.events.of(&record.device),
    }
}

impl Archive {
    pub(crate) fn new(store: Store, config: &Config) -> anyhow::Result<Self> {
        let settings = homeward_ingest::Settings::check(&WrittenIngest::default(), u16::MAX)?;
        let settings = homeward_ingest::Settings { max_rows: 500_000, max_bytes: 512 << 20, ..settings };
        let stats = Arc::<Stats>::default();
        let recipe = Recipe::new(&config.written, &WrittenTopics::default(), &settings);
        let batcher = Batcher::new(Arc::new(recipe), &settings, stats.clone())?;
        let uploader = Uploader::new(store, WriterId::from_bytes([1; 8]), stats);
        Ok(Self { batcher, uploader, topics: Topics::check(&WrittenTopics::default())?, seq: 0 })
    }

    pub(crate) async fn take(&mut self, record: &Record) -> anyhow::Result<()> {
        let topic = topic(&self.topics, record);
        self.batcher.take(Incoming {
            seq: self.seq,
            topic: topic.as_bytes(),
            payload: &record.payload,
            received_at: record.ts,
            latest_ts: i64::MAX,
            repeat: false,
            duplicate: false,
        })?;
        self.seq += 1;
        if self.batcher.full() { self.seal().await } else { Ok(()) }
    }

    pub(crate) async fn seal(&mut self) -> anyhow::Result<()> {
        if let Some(sealed) = self.batcher.seal() {
            self.uploader.store(sealed).await?;
        }
        Ok(())
    }
}
