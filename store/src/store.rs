//! [`Store`]: objects by typed key, with retries, and with puts that can be repeated after a time-out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as Backend, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};

use crate::error::StoreError;
use crate::keys::{Key, Prefix, key_at, path_under};
use crate::open;

/// How a put ended that was to create an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is new.
    Stored,
    /// An object with the same bytes was there already, put by an earlier attempt or run.
    AlreadyThere,
}

/// What a listing says about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The object.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
    /// Its ETag, where the store has one.
    pub etag: Option<String>,
    /// When it was last written, by the store's clock.
    pub last_modified: DateTime<Utc>,
}

/// Which state of an object was read; a conditional put or get hands it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    etag: Option<String>,
    version: Option<String>,
}

impl Revision {
    /// The ETag, where the store has one.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }
}

/// How often and how patiently a call is repeated while the store is unavailable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, at least 1. Default 4.
    pub attempts: u32,
    /// Pause after the first failed attempt, doubled after each further one. Default 100 ms.
    pub pause: Duration,
    /// The longest pause. Default 5 s.
    pub max_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 4, pause: Duration::from_millis(100), max_pause: Duration::from_secs(5) }
    }
}

impl Retry {
    async fn wait(&self, attempt: u32) {
        let pause = self.pause.saturating_mul(2u32.saturating_pow(attempt - 1));
        tokio::time::sleep(pause.min(self.max_pause)).await;
    }
}

/// A place for objects: a bucket, a folder or memory, below a prefix. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    root: Path,
    url: String,
    retry: Retry,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl Store {
    /// Opens the store at `url`:
    ///
    /// - `file:///path`, or `file://./path` relative to the working directory; created if absent, every put is synced
    ///   to disk;
    /// - `memory:///`, empty and private to this `Store` and its clones;
    /// - `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, configured by `options`: pairs like
    ///   `AWS_ENDPOINT`, `AWS_ALLOW_HTTP`, `AWS_ACCESS_KEY_ID`, `GOOGLE_…`, `AZURE_…` in either case. The whole
    ///   environment may be handed in; names without these beginnings are passed over.
    ///
    /// Opening a bucket does not connect.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a URL or option that cannot work, [`StoreError::Denied`] or
    /// [`StoreError::Unavailable`] if a local folder cannot be made.
    pub fn open(url: &str, options: impl Iterator<Item = (String, String)>) -> Result<Self, StoreError> {
        let (inner, root) = open::backend(url, options)?;
        Ok(Self { inner, root, url: open::redacted(url), retry: Retry::default() })
    }

    /// Checks a URL and its options as [`Store::open`] does, but creates no folder.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a URL or option that cannot work.
    pub fn check(url: &str, options: impl Iterator<Item = (String, String)>) -> Result<(), StoreError> {
        open::check(url, options)
    }

    /// Any object store as a `Store` below `prefix` (`""` for none).
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a prefix that is no path.
    pub fn from_object_store(inner: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self, StoreError> {
        let root = Path::parse(prefix).map_err(|e| StoreError::classify(prefix, 1, e.into()))?;
        let url = inner.to_string();
        Ok(Self { inner, root, url, retry: Retry::default() })
    }

    /// The same store with other retries.
    #[must_use]
    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry: Retry { attempts: retry.attempts.max(1), ..retry }, ..self }
    }

    /// Creates an object and never replaces one. A time-out leaves open whether the object landed, so the put is
    /// repeated, and an object with the very same bytes counts as success.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if other bytes are there, else as the store fails.
    pub async fn put_new(&self, key: &Key, bytes: Bytes) -> Result<Put, StoreError> {
        let mut attempt = 1;
        loop {
            let error = match self.put(key, bytes.clone(), PutMode::Create).await {
                Ok(_) => return Ok(Put::Stored),
                Err(e) => e,
            };
            let exists = matches!(error, Backend::AlreadyExists { .. });
            let failed = classify_put(key, attempt, error);
            if !exists && !failed.is_transient() {
                return Err(failed);
            }
            let last = attempt >= self.retry.attempts;
            if (exists || last) && self.holds(key, &bytes, failed.is_transient()).await? {
                return Ok(Put::AlreadyThere);
            }
            if last {
                return Err(failed);
            }
            tracing::debug!(%key, attempt, error = %failed, "put will be repeated");
            self.retry.wait(attempt).await;
            attempt += 1;
        }
    }

    /// Whether exactly these bytes are there: `false` if nothing is there (S3 answers 409 also for puts that came to
    /// nothing), an error if other bytes are. A store that was already `failing` may fail at this too.
    async fn holds(&self, key: &Key, bytes: &Bytes, failing: bool) -> Result<bool, StoreError> {
        let found = match self.head(key).await {
            Err(StoreError::NotFound { .. }) => return Ok(false),
            Err(StoreError::Unavailable { .. }) if failing => return Ok(false),
            head => head?,
        };
        let same_size = found.size == bytes.len() as u64;
        if same_size && self.get(key).await? == bytes {
            return Ok(true);
        }
        let found = format!("an object with other content is there ({} bytes, not the {} to be put)", found.size, bytes.len());
        Err(StoreError::Conflict { key: key.to_string(), found })
    }

    /// Puts an object in place of whatever is there.
    ///
    /// # Errors
    /// As the store fails.
    pub async fn put_over(&self, key: &Key, bytes: Bytes) -> Result<Revision, StoreError> {
        self.retrying(key, || self.put(key, bytes.clone(), PutMode::Overwrite)).await
    }

    /// Puts an object only if it is still as it was read (`Some`), or still absent (`None`). Atomic. Not repeated
    /// here: after [`StoreError::Unavailable`] the put may have landed, so read again.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it is not, else as the store fails.
    pub async fn put_if(&self, key: &Key, bytes: Bytes, was: Option<&Revision>) -> Result<Revision, StoreError> {
        let mode = match was {
            None => PutMode::Create,
            Some(Revision { etag, version }) => PutMode::Update(UpdateVersion { e_tag: etag.clone(), version: version.clone() }),
        };
        self.put(key, bytes, mode).await.map_err(|e| classify_put(key, 1, e))
    }

    /// The content of an object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], else as the store fails.
    pub async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        Ok(self.get_revision(key).await?.0)
    }

    /// The content of an object, and which state of it that is.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn get_revision(&self, key: &Key) -> Result<(Bytes, Revision), StoreError> {
        let path = path_under(&self.root, key);
        self.retrying(key, || self.read(&path, GetOptions::default())).await
    }

    /// As [`Store::get_revision`], but `None` if the object is still as it `was`. Costs one small request then.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn get_if_changed(&self, key: &Key, was: &Revision) -> Result<Option<(Bytes, Revision)>, StoreError> {
        let path = path_under(&self.root, key);
        let options = GetOptions { if_none_match: was.etag.clone(), ..GetOptions::default() };
        let read = || async {
            match self.read(&path, options.clone()).await {
                Err(Backend::NotModified { .. }) => Ok(None),
                result => result.map(Some),
            }
        };
        self.retrying(key, read).await
    }

    /// What a listing would say about one object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], else as the store fails.
    pub async fn head(&self, key: &Key) -> Result<Entry, StoreError> {
        let path = path_under(&self.root, key);
        let meta = self.retrying(key, || self.inner.head(&path)).await?;
        Ok(entry(key.clone(), meta))
    }

    /// All of Homeward's objects below `prefix`, sorted by key. Objects that are not ours are passed over.
    ///
    /// # Errors
    /// As the store fails.
    pub async fn list(&self, prefix: &Prefix) -> Result<Vec<Entry>, StoreError> {
        let path = path_under(&self.root, prefix);
        let metas: Vec<ObjectMeta> = self.retrying(prefix, || self.inner.list(Some(&path)).try_collect::<Vec<_>>()).await?;
        let mut entries = Vec::with_capacity(metas.len());
        for meta in metas {
            match key_at(&self.root, &meta.location) {
                Some(key) => entries.push(entry(key, meta)),
                None => tracing::debug!(object = %meta.location, "not one of Homeward's objects, passed over"),
            }
        }
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    /// Deletes an object; one that is gone already is success.
    ///
    /// # Errors
    /// As the store fails.
    pub async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let path = path_under(&self.root, key);
        match self.retrying(key, || self.inner.delete(&path)).await {
            Err(StoreError::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    async fn put(&self, key: &Key, bytes: Bytes, mode: PutMode) -> object_store::Result<Revision> {
        let path = path_under(&self.root, key);
        let put = self.inner.put_opts(&path, bytes.into(), PutOptions::from(mode)).await?;
        Ok(Revision { etag: put.e_tag, version: put.version })
    }

    async fn read(&self, path: &Path, options: GetOptions) -> object_store::Result<(Bytes, Revision)> {
        let result = self.inner.get_opts(path, options).await?;
        let revision = Revision { etag: result.meta.e_tag.clone(), version: result.meta.version.clone() };
        Ok((result.bytes().await?, revision))
    }

    /// Repeats a call that changes nothing when repeated, while the store is unavailable.
    async fn retrying<T, F>(&self, key: &impl fmt::Display, mut call: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut attempt = 1;
        loop {
            let failed = match call().await {
                Ok(value) => return Ok(value),
                Err(e) => StoreError::classify(&key.to_string(), attempt, e),
            };
            if !failed.is_transient() || attempt >= self.retry.attempts {
                return Err(failed);
            }
            tracing::debug!(%key, attempt, error = %failed, "call will be repeated");
            self.retry.wait(attempt).await;
            attempt += 1;
        }
    }
}

/// A put cannot miss its object; what a store then does not find is the bucket.
fn classify_put(key: &Key, attempt: u32, error: Backend) -> StoreError {
    match StoreError::classify(&key.to_string(), attempt, error) {
        StoreError::NotFound { key } => StoreError::Invalid {
            what: key,
            found: "the bucket or container does not exist".into(),
            wanted: "create it, or correct the store's URL".into(),
        },
        other => other,
    }
}

fn entry(key: Key, meta: ObjectMeta) -> Entry {
    Entry { key, size: meta.size, etag: meta.e_tag, last_modified: meta.last_modified }
}
