//! From a sealed batch to objects in the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use homeward_store::archive::WriteOptions;
use homeward_store::keys::{ArchiveKey, Key, Partition, WriterId};
use homeward_store::{ArchiveError, KeyError, Store, StoreError};

use crate::stats::add;
use crate::{Sealed, Stats};

/// Longest pause between two attempts while the store is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Encodes and puts batches.
#[derive(Debug, Clone)]
pub struct Uploader {
    store: Store,
    writer: WriterId,
    zstd_level: i32,
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
    pub fn new(store: Store, writer: WriterId, zstd_level: i32, stats: Arc<Stats>) -> Self {
        Self { store, writer, zstd_level, stats }
    }

    /// Stores all of a batch. Returns once every object is in the store; waits as long as it takes for a store that is away.
    pub async fn store(&self, sealed: Sealed) -> Result<(), UploadError> {
        let (first, last) = (sealed.first, sealed.last);
        let options = WriteOptions {
            zstd_level: self.zstd_level,
            writer: Some(self.writer.clone()),
            seqs: Some((first, last)),
            ..WriteOptions::default()
        };
        let encoded = tokio::task::spawn_blocking(move || encode(&sealed, &options)).await?;
        for (partition, bytes) in encoded.map_err(|source| UploadError::Encode { first, last, source })? {
            let key = ArchiveKey::new(partition, self.writer.clone(), first, last)?;
            self.put(&key.into(), bytes).await?;
        }
        Ok(())
    }

    async fn put(&self, key: &Key, bytes: Bytes) -> Result<(), UploadError> {
        let mut pause = Duration::from_millis(200);
        loop {
            match self.store.put_new(key, bytes.clone()).await {
                Ok(_) => break,
                Err(error) if error.is_transient() => {
                    tracing::warn!(%key, %error, "the store is away, trying again; nothing is acknowledged meanwhile")
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
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
