//! A partition held by one compaction at a time, from its claim to its commit.

use homeward_store::keys::{ArchiveKey, Key, Partition, Prefix, WriterId};
use homeward_store::manifest::{Commit, Manifest};
use homeward_store::{Entry, Revision, Store, StoreError};

/// A compaction that has not been heard of for this long is dead: its claim may be taken over. Milliseconds.
pub(super) const LEASE: i64 = 15 * 60_000;
/// How often a compaction says that it is alive. Milliseconds.
const RENEW: i64 = 60_000;

/// A partition that is ours until another takes it over.
pub(super) struct Claim<'a> {
    store: &'a Store,
    partition: Partition,
    manifest: Manifest,
    revision: Revision,
}

impl<'a> Claim<'a> {
    /// Claims a partition; `None` if another compaction is at work there. What an earlier one had committed is ended first, and what a dead one
    /// left behind is deleted.
    pub(super) async fn take(store: &'a Store, partition: Partition, writer: &WriterId, now: i64) -> Result<Option<Self>, StoreError> {
        let fresh = Manifest { writer: writer.clone(), renewed_at: now, abandoned: Vec::new(), commit: None };
        let found = match store.manifest(partition).await? {
            Some((found, _)) if found.commit.is_some() => {
                finish(store, partition, &found).await?;
                None
            }
            found => found,
        };
        let (manifest, was) = match found {
            None => (fresh, None),
            Some((found, _)) if now - found.renewed_at < LEASE => return Ok(None),
            Some((found, was)) => {
                let abandoned = found.abandoned.into_iter().chain([found.writer]).collect();
                (Manifest { abandoned, ..fresh }, Some(was))
            }
        };
        let revision = match store.put_manifest(partition, &manifest, was.as_ref()).await {
            Ok(revision) => revision,
            Err(StoreError::Conflict { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        let claim = Self { store, partition, manifest, revision };
        if !claim.manifest.abandoned.is_empty() {
            claim.delete_objects_of(&claim.manifest.abandoned).await?;
        }
        Ok(Some(claim))
    }

    /// Says that we are alive, where it is time to.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another took over.
    pub(super) async fn renew(&mut self, now: i64) -> Result<(), StoreError> {
        if now - self.manifest.renewed_at < RENEW {
            return Ok(());
        }
        let renewed = Manifest { renewed_at: now, ..self.manifest.clone() };
        self.revision = self.store.put_manifest(self.partition, &renewed, Some(&self.revision)).await?;
        self.manifest = renewed;
        Ok(())
    }

    /// From here on `by` counts and `replaced` does not; deletes the latter.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another took over: nothing counts of ours then. After others the commit may have taken place.
    pub(super) async fn commit(self, replaced: Vec<ArchiveKey>, by: Vec<ArchiveKey>) -> Result<(), StoreError> {
        let committed = Manifest { commit: Some(Commit { replaced, by }), ..self.manifest.clone() };
        match self.store.put_manifest(self.partition, &committed, Some(&self.revision)).await {
            Ok(_) => finish(self.store, self.partition, &committed).await,
            Err(lost @ StoreError::Conflict { .. }) => {
                self.delete_objects_of(std::slice::from_ref(&self.manifest.writer)).await?;
                Err(lost)
            }
            Err(e) => Err(e),
        }
    }

    /// Takes back all that was put, and then the claim.
    pub(super) async fn give_up(self) -> Result<(), StoreError> {
        self.delete_objects_of(std::slice::from_ref(&self.manifest.writer)).await?;
        release(self.store, self.partition, &self.manifest).await
    }

    /// Deletes every archive object of the partition, and then the claim.
    pub(super) async fn delete_all(self) -> Result<usize, StoreError> {
        let entries = objects(self.store, self.partition).await?;
        for entry in &entries {
            self.store.delete(&entry.key).await?;
        }
        release(self.store, self.partition, &self.manifest).await?;
        Ok(entries.len())
    }

    async fn delete_objects_of(&self, writers: &[WriterId]) -> Result<(), StoreError> {
        for entry in objects(self.store, self.partition).await? {
            if matches!(&entry.key, Key::Archive(key) if writers.contains(key.writer())) {
                self.store.delete(&entry.key).await?;
            }
        }
        Ok(())
    }
}

/// The archive objects of a partition, cold ones included.
pub(super) async fn objects(store: &Store, partition: Partition) -> Result<Vec<Entry>, StoreError> {
    let mut all = store.list(&Prefix::Partition(partition.hot())).await?;
    all.extend(store.list(&Prefix::Partition(partition.cold())).await?);
    // A day's listing has the hours below it, too.
    all.retain(|e| matches!(&e.key, Key::Archive(key) if key.partition().hot() == partition.hot()));
    Ok(all)
}

/// Ends what was committed, whoever committed it. Each step may be done twice.
async fn finish(store: &Store, partition: Partition, manifest: &Manifest) -> Result<(), StoreError> {
    for key in manifest.commit.iter().flat_map(|c| &c.replaced) {
        store.delete(&Key::Archive(key.clone())).await?;
    }
    release(store, partition, manifest).await
}

/// Deletes a manifest if it is still the same compaction's.
async fn release(store: &Store, partition: Partition, manifest: &Manifest) -> Result<(), StoreError> {
    match store.manifest(partition).await? {
        Some((found, _)) if found.writer == manifest.writer => store.delete(&Key::Manifest(partition.hot())).await,
        _ => Ok(()),
    }
}
