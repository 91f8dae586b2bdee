//! [`Store`]: objects by typed key, with retries, and with puts that can be repeated after a time-out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Attribute, Error as Backend, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};

use crate::archive;
use crate::error::StoreError;
use crate::keys::{ArchiveKey, Key, Prefix, key_at, path_under};
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
    /// Pause after the first failed attempt, doubled after each further one; half of it is left to chance. Default 100 ms.
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
        let pause = self.pause.saturating_mul(2u32.saturating_pow(attempt - 1)).min(self.max_pause);
        // Many clients that lost one store must not come back to it in step.
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

/// A place for objects: a bucket, a folder or memory, below a prefix. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    root: Path,
    url: String,
    retry: Retry,
    timeout: Duration,
}

/// How long a request may take where nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What a request may take longer for each byte it carries: a MiB a second is a poor connection.
const PER_BYTE: Duration = Duration::from_nanos(1_000);
/// Bytes of an object's end that are read to know what it says of itself; more only if they do not hold its footer.
const END: u64 = 32 << 10;

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
        Ok(Self { inner, root, url: open::redacted(url), retry: Retry::default(), timeout: TIMEOUT })
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
        Ok(Self { inner, root, url, retry: Retry::default(), timeout: TIMEOUT })
    }

    /// The same store with other retries.
    #[must_use]
    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry: Retry { attempts: retry.attempts.max(1), ..retry }, ..self }
    }

    /// The same store with another time that a request may take before it counts as failed; puts have a second more for each MiB. Default 30 s.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// As [`Store::put_new`], for an object of the archive: one that is there and says of itself that it covers the same positions with the
    /// same rows counts as success, too. Another version may have encoded the same rows otherwise.
    ///
    /// # Errors
    /// As [`Store::put_new`].
    pub async fn put_archive(&self, key: &ArchiveKey, bytes: Bytes) -> Result<Put, StoreError> {
        let key = Key::from(key.clone());
        self.put_unless(&key, &bytes, Same::Rows, None).await
    }

    /// Creates an object and never replaces one. A time-out leaves open whether the object landed, so the put is
    /// repeated, and an object with the very same bytes counts as success.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if other bytes are there, else as the store fails.
    pub async fn put_new(&self, key: &Key, bytes: Bytes) -> Result<Put, StoreError> {
        self.put_unless(key, &bytes, Same::Bytes, None).await
    }

    /// As [`Store::put_new`], in a storage class of the store, as `GLACIER_IR` of S3.
    ///
    /// # Errors
    /// As [`Store::put_new`], and [`StoreError::Invalid`] if the store knows no classes.
    pub async fn put_new_in(&self, key: &Key, bytes: Bytes, class: Option<&str>) -> Result<Put, StoreError> {
        self.put_unless(key, &bytes, Same::Bytes, class).await
    }

    async fn put_unless(&self, key: &Key, bytes: &Bytes, same: Same, class: Option<&str>) -> Result<Put, StoreError> {
        let mut attempt = 1;
        loop {
            let error = match self.put(key, bytes.clone(), PutMode::Create, class).await {
                Ok(_) => return Ok(Put::Stored),
                Err(e) => e,
            };
            let exists = matches!(error, Backend::AlreadyExists { .. });
            let failed = classify_put(key, attempt, error);
            if !exists && !failed.is_transient() {
                return Err(failed);
            }
            let last = attempt >= self.retry.attempts;
            if (exists || last) && self.holds(key, bytes, same, failed.is_transient()).await? {
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

    /// Whether the same is there: `false` if nothing is there (S3 answers 409 also for puts that came to
    /// nothing), an error if something else is. A store that was already `failing` may fail at this too.
    async fn holds(&self, key: &Key, bytes: &Bytes, same: Same, failing: bool) -> Result<bool, StoreError> {
        let found = match self.head(key).await {
            Err(StoreError::NotFound { .. }) => return Ok(false),
            Err(StoreError::Unavailable { .. }) if failing => return Ok(false),
            head => head?,
        };
        let holds = match same {
            Same::Bytes => found.size == bytes.len() as u64 && self.get(key).await? == bytes,
            Same::Rows => self.says_the_same(key, found.size, bytes).await?,
        };
        if holds {
            return Ok(true);
        }
        let found = format!("an object with other content is there ({} bytes, not the {} to be put)", found.size, bytes.len());
        Err(StoreError::Conflict { key: key.to_string(), found })
    }

    /// Whether an object says of itself what `bytes` say of themselves.
    async fn says_the_same(&self, key: &Key, size: u64, bytes: &Bytes) -> Result<bool, StoreError> {
        let Ok(ours) = archive::describe(bytes.clone()) else { return Ok(self.get(key).await? == bytes) };
        let mut end = self.end_of(key, size, END.min(size)).await?;
        if let Some(footer) = archive::footer_len(&end).map(|len| len as u64).filter(|len| *len > end.len() as u64 && *len <= size) {
            end = self.end_of(key, size, footer).await?;
        }
        Ok(ours.rows_hash.is_some() && archive::describe_footer(&end).is_ok_and(|theirs| theirs == ours))
    }

    /// The last `len` bytes of an object of `size` bytes.
    async fn end_of(&self, key: &Key, size: u64, len: u64) -> Result<Bytes, StoreError> {
        let path = path_under(&self.root, key);
        self.retrying(key, || self.inner.get_range(&path, size - len..size)).await
    }

    /// Puts an object in place of whatever is there.
    ///
    /// # Errors
    /// As the store fails.
    pub async fn put_over(&self, key: &Key, bytes: Bytes) -> Result<Revision, StoreError> {
        self.retrying(key, || self.put(key, bytes.clone(), PutMode::Overwrite, None)).await
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
        self.put(key, bytes, mode, None).await.map_err(|e| classify_put(key, 1, e))
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

    async fn put(&self, key: &Key, bytes: Bytes, mode: PutMode, class: Option<&str>) -> object_store::Result<Revision> {
        let path = path_under(&self.root, key);
        let mut options = PutOptions::from(mode);
        if let Some(class) = class {
            options.attributes.insert(Attribute::StorageClass, class.to_owned().into());
        }
        let time = self.timeout + PER_BYTE.saturating_mul(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        let put = within(time, self.inner.put_opts(&path, bytes.into(), options)).await?;
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
            let failed = match within(self.timeout * 4, call()).await {
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

/// When an object that is there counts as the one to be put.
#[derive(Debug, Clone, Copy)]
enum Same {
    Bytes,
    Rows,
}

/// A call that hangs has failed.
async fn within<T>(time: Duration, call: impl Future<Output = object_store::Result<T>>) -> object_store::Result<T> {
    let late = |_| Backend::Generic { store: "store", source: format!("no answer within {time:?}").into() };
    tokio::time::timeout(time, call).await.map_err(late)?
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
