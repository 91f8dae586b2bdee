//! `homeward compact`: the small objects of closed partitions become few and large, duplicates are dropped, old partitions are packed harder or
//! moved, and what is older than it is to be kept is deleted.
//!
//! One partition after the other: claim (a manifest, created only if there is none) → fetch and merge → put → commit (the manifest, changed only
//! if it is still ours) → delete what is replaced → delete the manifest. It can be killed between any two of these and at any of them: before
//! the commit the old objects count, after it the new ones, and the next run ends or undoes what was begun.

mod claim;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use futures::{StreamExt, stream};
use homeward_store::archive::{Merge, Merged, WriteOptions, describe};
use homeward_store::keys::{ArchiveKey, Compacted as Temperature, Key, Partition, Prefix, Table, WriterId};
use homeward_store::{ArchiveError, Entry, Store, StoreError};
use serde::Serialize;

use claim::Claim;
pub use settings::{Cold, CompactSettings, WrittenCold, WrittenCompact, WrittenRetain};

/// Objects fetched at once.
const FETCHES: usize = 8;
/// Rows of a row group: what is decoded at once when an object is merged again.
const GROUP_ROWS: usize = 1 << 17;

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Partitions merged.
    pub partitions: u64,
    /// Objects that were replaced, and their bytes.
    pub objects_before: u64,
    /// Their bytes.
    pub bytes_before: u64,
    /// Objects that replace them.
    pub objects_after: u64,
    /// Their bytes.
    pub bytes_after: u64,
    /// Rows read.
    pub rows: u64,
    /// Rows left out because they were there already.
    pub duplicates: u64,
    /// Objects deleted because of their age.
    pub deleted: u64,
    /// Objects that cannot be merged and are left as they are.
    pub left_alone: u64,
    /// Partitions that another compaction is at work in.
    pub busy: u64,
}

impl fmt::Display for Compacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let Self { partitions, objects_before, objects_after, rows, duplicates, deleted, left_alone, busy, .. } = self;
        write!(f, "{partitions} partitions: {objects_before} objects ({:.1} MiB) became {objects_after} ", mib(self.bytes_before))?;
        write!(f, "({:.1} MiB), {rows} rows, {duplicates} duplicates dropped; {deleted} objects deleted by age", mib(self.bytes_after))?;
        let others = [(*left_alone, "objects cannot be merged and stay as they are"), (*busy, "partitions are held by another compaction")];
        others.into_iter().filter(|(n, _)| *n > 0).try_for_each(|(n, what)| write!(f, "; {n} {what}"))
    }
}

/// Why a run ended early; the archive is whole, and the next run goes on.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rows of a partition could not be written.
    #[error("{partition}: {source}")]
    Merge {
        /// The partition.
        partition: Partition,
        /// What was in the way.
        source: ArchiveError,
    },
    /// The merged objects do not hold what was read: a fault of ours. Nothing was replaced.
    #[error("{partition}: {found} rows in the merged objects, {wanted} were to be; nothing was replaced")]
    Rows {
        /// The partition.
        partition: Partition,
        /// Rows written.
        found: u64,
        /// Rows read, without duplicates.
        wanted: u64,
    },
    /// The thread that merges ended.
    #[error("{partition}: merging broke off: {why}")]
    Broken {
        /// The partition.
        partition: Partition,
        /// What it said.
        why: String,
    },
}

/// What is to be done with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Nothing,
    Delete,
    Merge(Temperature),
}

/// A run, and what it has of the world.
#[derive(Clone, Copy)]
pub struct CompactRun<'a> {
    /// 8 random bytes that name what is written.
    pub id: [u8; 8],
    /// Milliseconds since 1970 UTC.
    pub clock: &'a (dyn Fn() -> i64 + Sync),
    /// Whether no further partition is to be begun.
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Hears what is going on, a line each.
    pub tell: &'a (dyn Fn(&str) + Sync),
}

/// Compacts every partition of `store` that is closed.
///
/// # Errors
/// [`CompactError`]: what was begun counts only if it was committed.
pub async fn compact(store: &Store, settings: &CompactSettings, run: CompactRun<'_>) -> Result<Compacted, CompactError> {
    let job = Job { store, settings, run };
    let mut done = Compacted::default();
    for table in Table::ALL {
        for (partition, entries) in partitions(store, table).await? {
            if (run.stop)() {
                return Ok(done);
            }
            job.partition(partition, &entries, &mut done).await?;
        }
    }
    Ok(done)
}

/// The objects of a table by partition; one that only has a manifest is there as well.
async fn partitions(store: &Store, table: Table) -> Result<BTreeMap<Partition, Vec<Entry>>, StoreError> {
    let mut all: BTreeMap<Partition, Vec<Entry>> = BTreeMap::new();
    for prefix in [Prefix::Table(table), Prefix::Cold(table)] {
        for entry in store.list(&prefix).await? {
            match &entry.key {
                Key::Archive(key) => all.entry(key.partition().hot()).or_default().push(entry),
                Key::Manifest(partition) => _ = all.entry(partition.hot()).or_default(),
                _ => {}
            }
        }
    }
    Ok(all)
}

fn temperature(entry: &Entry) -> Option<Temperature> {
    if let Key::Archive(key) = &entry.key { key.writer().compacted() } else { None }
}

impl CompactSettings {
    fn plan(&self, partition: Partition, entries: &[Entry], now: i64) -> Plan {
        let age = now.saturating_sub(partition.range_ms().1);
        let kept = self.retain_ms.iter().find(|(table, _)| *table == partition.table());
        if kept.is_some_and(|(_, keep)| age >= *keep) {
            return Plan::Delete;
        }
        // Scores are few, and audit tells predict's journals apart by the writers of the objects: they stay as they are.
        if age < self.after_ms || partition.table() == Table::Scores {
            return Plan::Nothing;
        }
        if self.cold.as_ref().is_some_and(|cold| age >= cold.after_ms) {
            let (cold, loose): (Vec<_>, Vec<_>) = entries.iter().partition(|e| temperature(e) == Some(Temperature::Cold));
            let due = loose.len() >= self.min_objects || !loose.is_empty() && cold.is_empty() || several_writers(&cold);
            return if due { Plan::Merge(Temperature::Cold) } else { Plan::Nothing };
        }
        let (warm, loose): (Vec<_>, Vec<_>) =
            entries.iter().filter(|e| temperature(e) != Some(Temperature::Cold)).partition(|e| temperature(e) == Some(Temperature::Warm));
        let due = loose.len() >= self.min_objects || several_writers(&warm);
        if due { Plan::Merge(Temperature::Warm) } else { Plan::Nothing }
    }

    /// Whether it is worth it with the `loose` objects that can be read; else one that cannot would have the others written anew every time.
    fn still_due(&self, to: Temperature, loose: usize, others: &[&Entry]) -> bool {
        loose >= self.min_objects || several_writers(others) || to == Temperature::Cold && loose > 0 && others.is_empty()
    }
}

/// Whether more than one compaction wrote these, as when one was taken for dead and was not.
fn several_writers(entries: &[&Entry]) -> bool {
    let writers = entries.iter().filter_map(|e| if let Key::Archive(key) = &e.key { Some(key.writer()) } else { None });
    writers.collect::<BTreeSet<_>>().len() > 1
}

/// What all partitions of a run share.
struct Job<'a> {
    store: &'a Store,
    settings: &'a CompactSettings,
    run: CompactRun<'a>,
}

impl Job<'_> {
    async fn partition(&self, partition: Partition, entries: &[Entry], done: &mut Compacted) -> Result<(), CompactError> {
        let now = (self.run.clock)();
        let left_over = entries.is_empty() || self.store.manifest(partition).await?.is_some();
        let plan = self.settings.plan(partition, entries, now);
        if plan == Plan::Nothing && !left_over {
            return Ok(());
        }
        let writer = WriterId::compaction(self.run.id, plan == Plan::Merge(Temperature::Cold));
        let Some(claim) = Claim::take(self.store, partition, &writer, now).await? else {
            (self.run.tell)(&format!(
                "{partition}: another compaction is at work there, or died less than {} min ago",
                claim::LEASE / 60_000
            ));
            done.busy += 1;
            return Ok(());
        };
        match plan {
            Plan::Nothing => Ok(claim.give_up().await?),
            Plan::Delete => {
                let deleted = claim.delete_all().await?;
                (self.run.tell)(&format!("{partition}: {deleted} objects deleted by age"));
                done.deleted += deleted as u64;
                Ok(())
            }
            Plan::Merge(to) => self.merge(claim, partition, to, &writer, done).await,
        }
    }

    async fn merge(
        &self,
        mut claim: Claim<'_>,
        partition: Partition,
        to: Temperature,
        writer: &WriterId,
        done: &mut Compacted,
    ) -> Result<(), CompactError> {
        let put = match self.put_merged(&mut claim, partition, to, writer, done).await {
            Ok(Some(put)) => put,
            Ok(None) => return Ok(claim.give_up().await?),
            Err(e) => {
                // What is left behind does not count, and the next run deletes it.
                _ = claim.give_up().await;
                return Err(e);
            }
        };
        claim.commit(put.replaced.iter().map(|(key, _)| key.clone()).collect(), put.keys.clone()).await?;
        let before: u64 = put.replaced.iter().map(|(_, size)| size).sum();
        (self.run.tell)(&format!(
            "{partition}: {} objects became {}, {} duplicates",
            put.replaced.len(),
            put.keys.len(),
            put.merged.duplicates
        ));
        done.partitions += 1;
        done.objects_before += put.replaced.len() as u64;
        done.bytes_before += before;
        done.objects_after += put.keys.len() as u64;
        done.bytes_after += put.bytes;
        done.rows += put.merged.rows;
        done.duplicates += put.merged.duplicates;
        Ok(())
    }

    /// Fetches, merges and puts; `None` if there is nothing to merge after all.
    async fn put_merged(
        &self,
        claim: &mut Claim<'_>,
        partition: Partition,
        to: Temperature,
        writer: &WriterId,
        done: &mut Compacted,
    ) -> Result<Option<Put>, CompactError> {
        // Listed again: the claim may have ended or undone what another had begun.
        let entries = claim::objects(self.store, partition).await?;
        let (others, loose): (Vec<&Entry>, Vec<&Entry>) = match to {
            Temperature::Warm => {
                entries.iter().filter(|e| temperature(e) != Some(Temperature::Cold)).partition(|e| temperature(e).is_some())
            }
            Temperature::Cold => entries.iter().partition(|e| temperature(e) == Some(Temperature::Cold)),
        };
        let merge =
            Merge::new(partition.table(), self.settings.memory_bytes).map_err(|source| CompactError::Merge { partition, source })?;
        let (merge, mut replaced) = self.fetch(claim, merge, &loose, done).await?;
        if !self.settings.still_due(to, replaced.len(), &others) {
            return Ok(None);
        }
        let (merge, more) = self.fetch(claim, merge, &others, done).await?;
        replaced.extend(more);
        self.put_all(claim, partition, to, writer, merge, replaced).await.map(Some)
    }

    /// Adds those of `entries` that can be merged.
    async fn fetch(
        &self,
        claim: &mut Claim<'_>,
        mut merge: Merge,
        entries: &[&Entry],
        done: &mut Compacted,
    ) -> Result<(Merge, Vec<(ArchiveKey, u64)>), CompactError> {
        let fetch = |entry: Entry| async move { (self.store.get(&entry.key).await, entry) };
        let wanted: Vec<Entry> = entries.iter().map(|e| (*e).clone()).collect();
        let mut fetched = stream::iter(wanted).map(fetch).buffered(FETCHES);
        let mut added = Vec::with_capacity(entries.len());
        while let Some((bytes, entry)) = fetched.next().await {
            claim.renew((self.run.clock)()).await?;
            let Key::Archive(key) = entry.key else { continue };
            let bytes = match bytes {
                Err(StoreError::NotFound { .. }) => continue,
                bytes => bytes?,
            };
            let partition = key.partition();
            let (back, result) = apart(partition, move || {
                let result = merge.add(&bytes);
                (merge, result)
            })
            .await?;
            merge = back;
            match result {
                Ok(()) => added.push((key, entry.size)),
                Err(source @ ArchiveError::Spill { .. }) => return Err(CompactError::Merge { partition, source }),
                Err(why) => {
                    (self.run.tell)(&format!("{key} cannot be merged and stays as it is: {why}"));
                    done.left_alone += 1;
                }
            }
        }
        Ok((merge, added))
    }

    async fn put_all(
        &self,
        claim: &mut Claim<'_>,
        partition: Partition,
        to: Temperature,
        writer: &WriterId,
        merge: Merge,
        replaced: Vec<(ArchiveKey, u64)>,
    ) -> Result<Put, CompactError> {
        let cold = self.settings.cold.as_ref().filter(|_| to == Temperature::Cold);
        let place = if cold.is_some_and(|c| c.separate) { partition.cold() } else { partition.hot() };
        let zstd_level = cold.map_or(self.settings.zstd_level, |c| c.zstd_level);
        let options = WriteOptions { zstd_level, max_row_group_rows: GROUP_ROWS, writer: Some(writer.clone()), seqs: None };
        let target = self.settings.target_bytes;
        let (send, mut objects) = tokio::sync::mpsc::channel::<Bytes>(1);
        let merging = tokio::task::spawn_blocking(move || merge.write(target, &options, |object| send.blocking_send(object).is_ok()));
        let (mut keys, mut rows, mut bytes) = (Vec::new(), 0, 0);
        while let Some(object) = objects.recv().await {
            claim.renew((self.run.clock)()).await?;
            let number = keys.len() as u64;
            let key = ArchiveKey::new(place, writer.clone(), number, number).map_err(|e| broken(partition, &e))?;
            rows += describe(object.clone()).map_err(|source| CompactError::Merge { partition, source })?.rows;
            bytes += object.len() as u64;
            let class = cold.and_then(|c| c.storage_class.as_deref());
            self.store.put_new_in(&Key::Archive(key.clone()), object, class).await?;
            keys.push(key);
        }
        let merged = merging.await.map_err(|e| broken(partition, &e))?;
        let merged = merged.map_err(|source| CompactError::Merge { partition, source })?;
        let wanted = merged.rows - merged.duplicates;
        if rows != wanted {
            return Err(CompactError::Rows { partition, found: rows, wanted });
        }
        Ok(Put { replaced, keys, bytes, merged })
    }
}

/// Merged objects that are in the store and do not count yet.
struct Put {
    replaced: Vec<(ArchiveKey, u64)>,
    keys: Vec<ArchiveKey>,
    bytes: u64,
    merged: Merged,
}

/// Runs what takes the processor for long where it holds up nobody.
async fn apart<T: Send + 'static>(partition: Partition, work: impl FnOnce() -> T + Send + 'static) -> Result<T, CompactError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| broken(partition, &e))
}

fn broken(partition: Partition, why: &dyn fmt::Display) -> CompactError {
    CompactError::Broken { partition, why: why.to_string() }
}
