//! The model registry: immutable versions, and a champion pointer that moves atomically and can move back.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::keys::{Key, ModelFile, ModelName, ModelVersion, Prefix};
use crate::store::{Put, Revision, Store};

/// The format of `champion.json` that this version writes, and the newest it reads.
const FORMAT: u64 = 1;
/// Earlier champions kept for rolling back; older ones are forgotten (their versions stay).
const HISTORY: usize = 50;
/// How often a promoter that lost a race tries again; each loss is another one's success.
const RACES: u32 = 32;

/// The version in service, and how it came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Champion {
    /// The version in service.
    pub version: ModelVersion,
    /// The champion before it, which a rollback would bring back.
    pub previous: Option<ModelVersion>,
    /// When it was promoted, milliseconds since 1970 UTC, by the promoter's clock.
    pub promoted_at_ms: i64,
    /// Why: by whom or by which rule.
    pub why: String,
    /// Which state of the pointer this is, for [`Registry::champion_if_changed`].
    pub revision: Revision,
}

/// What became of the champion since it was last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChampionChange {
    /// The pointer is as it was.
    Same,
    /// There is no champion (any more).
    Gone,
    /// The pointer was written.
    Moved(Champion),
}

/// The versions and the champion of one model.
#[derive(Debug, Clone)]
pub struct Registry {
    store: Store,
    name: ModelName,
}

impl Registry {
    /// The registry of model `name` in `store`.
    #[must_use]
    pub fn new(store: Store, name: ModelName) -> Self {
        Self { store, name }
    }

    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &ModelName {
        &self.name
    }

    /// Adds a version: `metrics.json` and `report.html` first and `model.json` last, so a version that has its model
    /// is complete. Adding the same bytes again is success.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the version exists with other content, else as the store fails.
    pub async fn put_version(
        &self,
        version: &ModelVersion,
        model: Bytes,
        metrics: Bytes,
        report: Option<Bytes>,
    ) -> Result<Put, StoreError> {
        if let Some(report) = report {
            self.store.put_new(&self.file(version, ModelFile::Report), report).await?;
        }
        self.store.put_new(&self.file(version, ModelFile::Metrics), metrics).await?;
        self.store.put_new(&self.file(version, ModelFile::Model), model).await
    }

    /// All complete versions, oldest first.
    ///
    /// # Errors
    /// As the store fails.
    pub async fn versions(&self) -> Result<Vec<ModelVersion>, StoreError> {
        let entries = self.store.list(&Prefix::Model(self.name.clone())).await?;
        let complete = entries.into_iter().filter_map(|entry| match entry.key {
            Key::Model { version, file: ModelFile::Model, .. } => Some(version),
            _ => None,
        });
        Ok(complete.collect())
    }

    /// The model of a version.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such complete version, else as the store fails.
    pub async fn get_model(&self, version: &ModelVersion) -> Result<Bytes, StoreError> {
        self.store.get(&self.file(version, ModelFile::Model)).await
    }

    /// The metrics of a version.
    ///
    /// # Errors
    /// As [`Registry::get_model`].
    pub async fn get_metrics(&self, version: &ModelVersion) -> Result<Bytes, StoreError> {
        self.store.get(&self.file(version, ModelFile::Metrics)).await
    }

    /// The version in service, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Newer`] or [`StoreError::Invalid`] for a pointer that this version cannot read, else as the
    /// store fails.
    pub async fn champion(&self) -> Result<Option<Champion>, StoreError> {
        Ok(self.read().await?.map(|(pointer, revision)| pointer.champion(revision)))
    }

    /// What became of the champion since `was` was read; while it stays, one request without a body.
    ///
    /// # Errors
    /// As [`Registry::champion`].
    pub async fn champion_if_changed(&self, was: &Revision) -> Result<ChampionChange, StoreError> {
        let key = self.pointer();
        match self.store.get_if_changed(&key, was).await {
            Ok(None) => Ok(ChampionChange::Same),
            Ok(Some((bytes, revision))) => Ok(ChampionChange::Moved(Pointer::parse(&key, &bytes)?.champion(revision))),
            Err(StoreError::NotFound { .. }) => Ok(ChampionChange::Gone),
            Err(e) => Err(e),
        }
    }

    /// Puts `version` into service. Of several promoters at once each takes effect, one after the other. Promoting the
    /// champion again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a version without its model, else as the store fails.
    pub async fn promote(&self, version: &ModelVersion, why: &str, now_ms: i64) -> Result<Champion, StoreError> {
        self.store.head(&self.file(version, ModelFile::Model)).await?;
        self.swap(|current| {
            let Some(current) = current else {
                return Ok(Some(Pointer::first(version, why, now_ms)));
            };
            Ok((current.version != *version).then(|| current.promote(version, why, now_ms)))
        })
        .await
    }

    /// Brings the previous champion back. Repeated, it goes back further, as far as the history reaches.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without a champion or if the previous version was deleted, [`StoreError::Invalid`] if
    /// there was none before.
    pub async fn rollback(&self, now_ms: i64) -> Result<Champion, StoreError> {
        let Some(champion) = self.champion().await? else {
            return Err(StoreError::NotFound { key: self.pointer().to_string() });
        };
        // Which step back is meant is fixed here: two who roll back the same bad champion undo one promotion, not two.
        let bad = champion.version;
        if let Some(previous) = &champion.previous {
            self.store.head(&self.file(previous, ModelFile::Model)).await?;
        }
        self.swap(|current| match current {
            Some(current) if current.version == bad => match current.rollback(now_ms) {
                Some(pointer) => Ok(Some(pointer)),
                None => Err(self.nothing_before(&bad)),
            },
            Some(_) => Ok(None),
            None => Err(StoreError::NotFound { key: self.pointer().to_string() }),
        })
        .await
    }

    /// Reads the pointer, lets `next` decide on the new one (`None`: leave it), and puts it if the old one still
    /// stands; else again. After an unclear put the next round sees whether it landed.
    async fn swap(&self, next: impl Fn(Option<&Pointer>) -> Result<Option<Pointer>, StoreError>) -> Result<Champion, StoreError> {
        let key = self.pointer();
        let mut outcome = None;
        for round in 1..=RACES {
            let current = self.read().await?;
            let pointer = match (next(current.as_ref().map(|(pointer, _)| pointer))?, &current) {
                (Some(pointer), _) => pointer,
                (None, Some((pointer, revision))) => return Ok(pointer.champion(revision.clone())),
                (None, None) => return Err(StoreError::NotFound { key: key.to_string() }),
            };
            let was = current.as_ref().map(|(_, revision)| revision);
            match self.store.put_if(&key, pointer.bytes(&key)?, was).await {
                Ok(revision) => return Ok(pointer.champion(revision)),
                Err(e @ StoreError::Conflict { .. }) => outcome = Some(e),
                Err(e) if e.is_transient() && round < 4 => outcome = Some(e),
                Err(e) => return Err(e),
            }
            tracing::debug!(%key, round, "the champion moved meanwhile or the store failed; once more");
            tokio::time::sleep(std::time::Duration::from_millis(u64::from(round.min(20)) * 5)).await;
        }
        let lost = || StoreError::Conflict { key: key.to_string(), found: "others keep moving the champion".into() };
        Err(outcome.unwrap_or_else(lost))
    }

    async fn read(&self) -> Result<Option<(Pointer, Revision)>, StoreError> {
        let key = self.pointer();
        match self.store.get_revision(&key).await {
            Ok((bytes, revision)) => Ok(Some((Pointer::parse(&key, &bytes)?, revision))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn nothing_before(&self, version: &ModelVersion) -> StoreError {
        StoreError::Invalid {
            what: self.pointer().to_string(),
            found: format!("{version} had no champion before it"),
            wanted: "promote another version instead".into(),
        }
    }

    fn pointer(&self) -> Key {
        Key::Champion { name: self.name.clone() }
    }

    fn file(&self, version: &ModelVersion, file: ModelFile) -> Key {
        Key::Model { name: self.name.clone(), version: version.clone(), file }
    }
}

/// `champion.json` as written; unknown fields of later minor additions are passed over.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pointer {
    format: u64,
    #[serde(with = "as_text")]
    version: ModelVersion,
    promoted_at_ms: i64,
    why: String,
    /// Earlier champions, oldest first.
    #[serde(default)]
    history: Vec<Past>,
}

/// An earlier champion.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Past {
    #[serde(with = "as_text")]
    version: ModelVersion,
    promoted_at_ms: i64,
    why: String,
}

impl Pointer {
    fn first(version: &ModelVersion, why: &str, now_ms: i64) -> Self {
        let (version, why) = (version.clone(), why.to_owned());
        Self { format: FORMAT, version, promoted_at_ms: now_ms, why, history: Vec::new() }
    }

    fn promote(&self, version: &ModelVersion, why: &str, now_ms: i64) -> Self {
        let forgotten = (self.history.len() + 1).saturating_sub(HISTORY);
        let mut history = self.history[forgotten..].to_vec();
        let Self { version: past, promoted_at_ms, why: past_why, .. } = self.clone();
        history.push(Past { version: past, promoted_at_ms, why: past_why });
        Self { history, ..Self::first(version, why, now_ms) }
    }

    fn rollback(&self, now_ms: i64) -> Option<Self> {
        let mut history = self.history.clone();
        let back = history.pop()?;
        let why = format!("rollback from {}", self.version);
        Some(Self { format: FORMAT, version: back.version, promoted_at_ms: now_ms, why, history })
    }

    fn parse(key: &Key, bytes: &[u8]) -> Result<Self, StoreError> {
        #[derive(Deserialize)]
        struct Head {
            format: u64,
        }
        // The number alone first: a newer format may look different in all else.
        let head: Head = serde_json::from_slice(bytes).map_err(|e| unreadable(key, &e))?;
        if head.format > FORMAT {
            return Err(StoreError::Newer { key: key.to_string(), found: head.format, supported: FORMAT });
        }
        serde_json::from_slice(bytes).map_err(|e| unreadable(key, &e))
    }

    fn bytes(&self, key: &Key) -> Result<Bytes, StoreError> {
        serde_json::to_vec_pretty(self).map(Bytes::from).map_err(|e| unreadable(key, &e))
    }

    fn champion(&self, revision: Revision) -> Champion {
        Champion {
            version: self.version.clone(),
            previous: self.history.last().map(|past| past.version.clone()),
            promoted_at_ms: self.promoted_at_ms,
            why: self.why.clone(),
            revision,
        }
    }
}

/// Versions in JSON are text; the type itself stays free of serde.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::keys::ModelVersion;

    pub(super) fn serialize<S: Serializer>(version: &ModelVersion, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(version.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ModelVersion, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

fn unreadable(key: &Key, error: &dyn fmt::Display) -> StoreError {
    StoreError::Invalid {
        what: key.to_string(),
        found: error.to_string(),
        wanted: "expected JSON with format, version, promoted_at_ms, why and history; promote anew after removing it".into(),
    }
}
