//! Where predict keeps what it must not forget: its memory and the rows on their way to the store.
//!
//! ```text
//! {dir}/memory                     everything remembered, at a position of the inbox; see `memory`
//! {dir}/scores/{key with ~ for /}  objects of the scores archive that are not in the store yet
//! ```
//!
//! A checkpoint at position p is: the rows since the last one, encoded and synced; then the memory, synced and renamed into place, which is what
//! makes the checkpoint; then the inbox is released up to p. After a crash anything beyond the memory's position comes again from the inbox and
//! gives the same rows in objects of other ranges, so objects that no memory vouches for are deleted, and none is put before it is vouched for.

use std::fs;
use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use homeward_store::archive::WriteOptions;
use homeward_store::keys::{ArchiveKey, Key, WriterId};
use homeward_store::{Store, StoreError};
use tokio::sync::Notify;

use crate::Stats;
use crate::memory::{BadMemory, Memory};
use crate::scribe::Rows;
use crate::stats::add;

const MEMORY: &str = "memory";
const SCORES: &str = "scores";
/// A file in the making.
const PART: &str = ".part";
/// Shortest and longest pause between two attempts while the store is away, before jitter.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Why what was kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The disk says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The memory is none that this code can read.
    #[error("{}: {source}; restore the file, or delete it: then windows fill anew, and alerts that stood are raised again", path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BadMemory,
    },
}

/// All that a checkpoint is made of.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// Positions of the messages that the rows come from.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) rows: Rows,
    /// The position that the memory is of.
    pub(crate) position: u64,
    /// The memory.
    pub(crate) memory: Vec<u8>,
}

/// Keeps checkpoints in a folder, and puts rows into a store under a writer's name.
#[derive(Debug)]
pub struct Keeper {
    dir: PathBuf,
    writer: WriterId,
    store: Store,
    zstd_level: i32,
    stats: Arc<Stats>,
    /// Rows of positions below this are vouched for.
    vouched: AtomicU64,
    kept: Notify,
}

impl Keeper {
    /// A keeper in `dir`, made if it is not there, for the journal that names the writer.
    ///
    /// # Errors
    /// [`KeepError::Io`].
    pub fn open(dir: PathBuf, journal: [u8; 8], store: Store, zstd_level: i32, stats: Arc<Stats>) -> Result<Self, KeepError> {
        let scores = dir.join(SCORES);
        fs::create_dir_all(&scores).map_err(|source| KeepError::Io { path: scores, source })?;
        let writer = WriterId::from_bytes(journal);
        Ok(Self { dir, writer, store, zstd_level, stats, vouched: AtomicU64::new(0), kept: Notify::new() })
    }

    /// The journal that positions are of.
    pub(crate) fn journal(&self) -> &str {
        self.writer.as_str()
    }

    /// What was kept last, if anything. Objects of scores that it does not vouch for are deleted.
    pub(crate) fn load(&self) -> Result<Option<Memory>, KeepError> {
        let path = self.dir.join(MEMORY);
        let memory = match fs::read(&path) {
            Ok(bytes) => Some(Memory::parse(&bytes).map_err(|source| KeepError::Memory { path, source })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(KeepError::Io { path, source }),
        };
        let vouched = memory.as_ref().map_or(0, |m| m.position);
        for (path, key) in self.waiting()? {
            if key.is_none_or(|key| key.writer() == &self.writer && key.last_seq() >= vouched) {
                fs::remove_file(&path).map_err(|source| KeepError::Io { path, source })?;
            }
        }
        self.vouched.store(vouched, Ordering::Release);
        Ok(memory)
    }

    /// Objects that wait for the store: file and key; no key for what is none of ours or was in the making.
    fn waiting(&self) -> Result<Vec<(PathBuf, Option<ArchiveKey>)>, KeepError> {
        let folder = self.dir.join(SCORES);
        let list = || -> io::Result<Vec<_>> {
            let mut found = Vec::new();
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().replace('~', "/");
                let key = name.parse::<Key>().ok().and_then(|key| if let Key::Archive(key) = key { Some(key) } else { None });
                found.push((entry.path(), key));
            }
            found.sort();
            Ok(found)
        };
        list().map_err(|source| KeepError::Io { path: folder.clone(), source })
    }

    /// Makes a checkpoint durable, as long as it takes: until then nothing of it may be released.
    pub(crate) async fn keep(self: &Arc<Self>, checkpoint: Checkpoint) -> Result<(), tokio::task::JoinError> {
        let checkpoint = Arc::new(checkpoint);
        loop {
            let (keeper, checkpoint) = (self.clone(), checkpoint.clone());
            match tokio::task::spawn_blocking(move || keeper.write(&checkpoint)).await? {
                Ok(()) => break,
                Err(error) => {
                    add(&self.stats.keep_errors, 1);
                    tracing::warn!(%error, "what predict remembers cannot be kept; trying again, and nothing is released meanwhile");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        add(&self.stats.kept, 1);
        self.vouched.store(checkpoint.position, Ordering::Release);
        self.kept.notify_one();
        Ok(())
    }

    fn write(&self, checkpoint: &Checkpoint) -> Result<(), KeepError> {
        let folder = self.dir.join(SCORES);
        let options = WriteOptions {
            zstd_level: self.zstd_level,
            writer: Some(self.writer.clone()),
            seqs: Some((checkpoint.first, checkpoint.last)),
            ..WriteOptions::default()
        };
        for (partition, rows) in &checkpoint.rows {
            let encoded = ArchiveKey::new(*partition, self.writer.clone(), checkpoint.first, checkpoint.last)
                .map_err(io::Error::other)
                .and_then(|key| Ok((key, rows.encode(&options).map_err(io::Error::other)?)));
            let (key, bytes) = encoded.map_err(|source| KeepError::Io { path: folder.clone(), source })?;
            replace(&folder, &key.to_string().replace('/', "~"), &bytes)?;
        }
        replace(&self.dir, MEMORY, &checkpoint.memory)
    }

    /// Puts what is vouched for into the store until `stop`, as long as the store takes; a last look is taken after `stop`.
    pub(crate) async fn put_all(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut stopping = false;
        loop {
            if let Err(error) = self.put_waiting().await {
                tracing::error!(%error, "scores cannot be archived; they are kept in {}", self.dir.display());
            }
            if stopping {
                return;
            }
            tokio::select! {
                () = &mut stop => stopping = true,
                () = self.kept.notified() => (),
            }
        }
    }

    async fn put_waiting(&self) -> Result<(), PutError> {
        let vouched = self.vouched.load(Ordering::Acquire);
        for (path, key) in self.waiting()? {
            let Some(key) = key.filter(|key| key.writer() != &self.writer || key.last_seq() < vouched) else { continue };
            let bytes = fs::read(&path).map_err(|source| KeepError::Io { path: path.clone(), source })?;
            self.put(&key, bytes.into()).await?;
            fs::remove_file(&path).map_err(|source| KeepError::Io { path, source })?;
        }
        Ok(())
    }

    async fn put(&self, key: &ArchiveKey, bytes: Bytes) -> Result<(), StoreError> {
        let mut pause = PAUSE.0;
        loop {
            match self.store.put_archive(key, bytes.clone()).await {
                Ok(_) => break,
                Err(error) if error.is_transient() => {
                    add(&self.stats.put_errors, 1);
                    tracing::warn!(%key, %error, "the store is away; the scores wait on disk");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
        add(&self.stats.score_objects, 1);
        Ok(())
    }
}

/// Why waiting objects could not be put.
#[derive(Debug, thiserror::Error)]
enum PutError {
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes a file whole or not at all, synced with its folder.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), KeepError> {
    let path = folder.join(name);
    let part = folder.join([name, PART].concat());
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|source| KeepError::Io { path: path.clone(), source })
}
