//! From a sealed batch to objects in the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use homeward_store::archive::WriteOptions;
use homeward_store::keys::{ArchiveKey, Partition, WriterId};
use homeward_store::{ArchiveError, KeyError, Store, StoreError};

use crate::stats::add;
use crate::{Sealed, Stats};

/// Shortest and longest pause between two attempts while the store is away, before jitter.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Objects of one batch that are put at once.
const AT_ONCE: usize = 8;

/// Encodes and puts batches.
#[derive(Debug, Clone)]
pub struct Uploader {
    store: Store,
    writer: WriterId,
    stats: Arc<Stats>,
}

/// A batch that cannot be stored and never will be: no retry helps.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The codec failed.
    #[error("batch {first}-{last} cannot be encoded: {source}")]
    Encode {
        /// First position.
        first: u64,
        /// Last position.
        last: u64,
        /// Why.
        source: ArchiveError,
    },
    /// The range has no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store says no, and will say no again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The encoder was stopped or panicked.
    #[error("the encoder stopped: {0}")]
    Stopped(#[from] tokio::task::JoinError),
}

impl Uploader {
    /// Puts under `writer`'s name.
    pub fn new(store: Store, writer: WriterId, stats: Arc<Stats>) -> Self {
        Self { store, writer, stats }
    }

    /// What it counts into.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Stores all of a batch. Returns once every object is in the store; waits as long as it takes for a store that is away.
    ///
    /// # Errors
    /// [`UploadError`], after which no retry helps.
    pub async fn store(&self, sealed: Sealed) -> Result<(), UploadError> {
        let (first, last) = (sealed.first, sealed.last);
        let options = WriteOptions {
            zstd_level: sealed.recipe.zstd_level(),
            writer: Some(self.writer.clone()),
            seqs: Some((first, last)),
            ..WriteOptions::default()
        };
        self.stats.storing();
        let started = Instant::now();
        let encoded = tokio::task::spawn_blocking(move || encode(&sealed, &options)).await?;
        let encoded = encoded.map_err(|source| UploadError::Encode { first, last, source })?;
        self.stats.encode.observe(started.elapsed());
        let puts = encoded.into_iter().map(|(partition, bytes)| async move {
            let key = ArchiveKey::new(partition, self.writer.clone(), first, last)?;
            self.put(&key, bytes).await
        });
        stream::iter(puts).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        self.stats.stored();
        Ok(())
    }

    async fn put(&self, key: &ArchiveKey, bytes: Bytes) -> Result<(), UploadError> {
        let mut pause = PAUSE.0;
        let started = Instant::now();
        loop {
            match self.store.put_archive(key, bytes.clone()).await {
                Ok(_) => break,
                Err(error) if error.is_transient() => {
                    add(&self.stats.put_errors, 1);
                    tracing::warn!(%key, %error, "the store is away, trying again; nothing is released meanwhile");
                }
                Err(error) => return Err(error.into()),
            }
            // Many ingesters that lost one store must not come back to it in step.
            tokio::time::sleep(pause.mul_f64(fastrand::f64() / 2.0 + 0.5)).await;
            pause = (pause * 2).min(PAUSE.1);
        }
        self.stats.put.observe(started.elapsed());
        add(&self.stats.objects, 1);
        add(&self.stats.bytes, bytes.len());
        Ok(())
    }
}

fn encode(sealed: &Sealed, options: &WriteOptions) -> Result<Vec<(Partition, Bytes)>, ArchiveError> {
    let mut objects = Vec::new();
    for (partition, batch) in &sealed.quarantine {
        objects.push((*partition, batch.encode(options)?));
    }
    for (partition, batch) in &sealed.events {
        objects.push((*partition, batch.encode(options)?));
    }
    for (partition, batch) in &sealed.telemetry {
        objects.push((*partition, batch.encode(options)?));
    }
    Ok(objects)
}
