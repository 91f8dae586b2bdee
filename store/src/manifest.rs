//! Which objects of a partition a compaction replaces, so that readers see every row once while it is under way.
//!
//! A compaction claims a partition by creating its [`Manifest`], puts the merged objects, commits by a conditional update that names what is
//! replaced by what, deletes what is replaced, and deletes the manifest. Until the commit readers pass over the new objects, from then on over
//! the old ones; [`Store::archive`] does both.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::keys::{ArchiveKey, Key, Partition, Prefix, Table, WriterId};
use crate::store::{Entry, Revision, Store};

/// The format written here and the newest that is read.
const FORMAT: u64 = 1;
/// A listing that objects come and go under is made again so often.
const LISTINGS: u32 = 20;

/// What is under way in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Who writes the new objects; each compaction has a name of its own.
    pub writer: WriterId,
    /// When it last said that it is at work: milliseconds since 1970 UTC, by its clock.
    pub renewed_at: i64,
    /// Compactions that died here; what is left of theirs does not count.
    pub abandoned: Vec<WriterId>,
    /// What replaces what, once all new objects are there.
    pub commit: Option<Commit>,
}

/// The new objects of a partition and those that they replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Objects that no longer count and are being deleted.
    pub replaced: Vec<ArchiveKey>,
    /// Objects that hold their rows.
    pub by: Vec<ArchiveKey>,
}

/// A manifest as its object has it.
#[derive(Serialize, Deserialize)]
struct File {
    format: u64,
    writer: String,
    renewed_at: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    abandoned: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaced: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Vec<String>>,
}

impl Manifest {
    /// Whether a reader must pass over this object of the partition.
    #[must_use]
    pub fn hides(&self, key: &ArchiveKey) -> bool {
        self.abandoned.contains(key.writer())
            || match &self.commit {
                Some(commit) => commit.replaced.contains(key),
                None => *key.writer() == self.writer,
            }
    }

    fn to_bytes(&self, key: &Key) -> Result<Bytes, StoreError> {
        let texts = |keys: &[ArchiveKey]| keys.iter().map(ToString::to_string).collect();
        let file = File {
            format: FORMAT,
            writer: self.writer.to_string(),
            renewed_at: self.renewed_at,
            abandoned: self.abandoned.iter().map(ToString::to_string).collect(),
            replaced: self.commit.as_ref().map(|c| texts(&c.replaced)),
            by: self.commit.as_ref().map(|c| texts(&c.by)),
        };
        serde_json::to_vec(&file).map(Bytes::from).map_err(|e| unreadable(key, &e))
    }

    fn parse(key: &Key, bytes: &[u8]) -> Result<Self, StoreError> {
        let format = serde_json::from_slice::<Format>(bytes).map_err(|e| unreadable(key, &e))?.format;
        if format > FORMAT {
            return Err(StoreError::Newer { key: key.to_string(), found: format, supported: FORMAT });
        }
        let file: File = serde_json::from_slice(bytes).map_err(|e| unreadable(key, &e))?;
        let keys = |texts: Vec<String>| texts.iter().map(|t| t.parse().map_err(|e| unreadable(key, &e))).collect::<Result<Vec<_>, _>>();
        let commit = match (file.replaced, file.by) {
            (Some(replaced), Some(by)) => Some(Commit { replaced: keys(replaced)?, by: keys(by)? }),
            _ => None,
        };
        let writer = |text: &str| text.parse::<WriterId>().map_err(|e| unreadable(key, &e));
        Ok(Self {
            writer: writer(&file.writer)?,
            renewed_at: file.renewed_at,
            abandoned: file.abandoned.iter().map(|text| writer(text)).collect::<Result<_, _>>()?,
            commit,
        })
    }
}

#[derive(Deserialize)]
struct Format {
    format: u64,
}

fn unreadable(key: &Key, error: &dyn std::fmt::Display) -> StoreError {
    let wanted = "the manifest of a compaction; delete it if no compaction of yours wrote it".into();
    StoreError::Invalid { what: key.to_string(), found: error.to_string(), wanted }
}

impl Store {
    /// The objects that hold the rows of `table`, each row once, sorted by key: what lies under `cold/` is among them, what a compaction has
    /// replaced or not yet committed is not. An object that is gone when it is read was replaced meanwhile: list again.
    ///
    /// # Errors
    /// [`StoreError::Newer`] or [`StoreError::Invalid`] for a manifest that this version cannot read, else as the store fails.
    pub async fn archive(&self, table: Table) -> Result<Vec<Entry>, StoreError> {
        for _ in 0..LISTINGS {
            if let Some(entries) = self.settled(table).await? {
                return Ok(entries);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Err(StoreError::Conflict { key: table.to_string(), found: format!("changed under each of {LISTINGS} listings") })
    }

    /// As [`Store::archive`]; `None` if a compaction went on meanwhile. A listing is no snapshot: the place that compactions go by is looked at
    /// before and after.
    async fn settled(&self, table: Table) -> Result<Option<Vec<Entry>>, StoreError> {
        let before = self.list(&Prefix::Table(table)).await?;
        let cold = self.list(&Prefix::Cold(table)).await?;
        let hot = self.list(&Prefix::Table(table)).await?;
        if !same_but_for_new(&before, &hot) {
            return Ok(None);
        }
        let mut entries: Vec<Entry> = hot.into_iter().chain(cold).collect();
        let partitions: Vec<Partition> =
            entries.iter().filter_map(|e| if let Key::Manifest(p) = &e.key { Some(*p) } else { None }).collect();
        entries.retain(|e| matches!(e.key, Key::Archive(_)));
        for partition in partitions {
            let Some((manifest, _)) = self.manifest(partition).await? else { return Ok(None) };
            let there: BTreeSet<&Key> = entries.iter().map(|e| &e.key).collect();
            let by = manifest.commit.iter().flat_map(|c| &c.by);
            if !by.into_iter().all(|key| there.contains(&Key::Archive(key.clone()))) {
                return Ok(None);
            }
            entries.retain(|e| !matches!(&e.key, Key::Archive(key) if manifest.hides(key)));
        }
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(Some(entries))
    }

    /// What is under way in a partition, if anything, and which state of it that is.
    ///
    /// # Errors
    /// As [`Store::archive`].
    pub async fn manifest(&self, partition: Partition) -> Result<Option<(Manifest, Revision)>, StoreError> {
        let key = Key::Manifest(partition.hot());
        match self.get_revision(&key).await {
            Ok((bytes, revision)) => Ok(Some((Manifest::parse(&key, &bytes)?, revision))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Creates (`was` is `None`) or changes the manifest of a partition, if nobody else did meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if somebody did, else as the store fails.
    pub async fn put_manifest(&self, partition: Partition, manifest: &Manifest, was: Option<&Revision>) -> Result<Revision, StoreError> {
        let key = Key::Manifest(partition.hot());
        let bytes = manifest.to_bytes(&key)?;
        let failed = match self.put_if(&key, bytes, was).await {
            Ok(revision) => return Ok(revision),
            Err(e) => e,
        };
        // An answer that was lost, or a conflict with ourselves after one: the manifest says whose it is.
        match self.manifest(partition).await? {
            Some((found, revision)) if found == *manifest => Ok(revision),
            _ => Err(failed),
        }
    }
}

/// Whether all that was there still is, and nothing came but objects of ingest.
fn same_but_for_new(before: &[Entry], after: &[Entry]) -> bool {
    let moves = |e: &&Entry| !matches!(&e.key, Key::Archive(key) if key.writer().compacted().is_none());
    let keys: BTreeSet<&Key> = after.iter().map(|e| &e.key).collect();
    before.iter().all(|e| keys.contains(&e.key)) && before.iter().filter(moves).eq(after.iter().filter(moves))
}
