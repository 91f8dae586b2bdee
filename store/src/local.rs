//! Local files as an object store that survives a power cut: what `put` reports as stored is on the disk, name
//! included, and a file under its final name is never half written.
//!
//! object_store's own local side neither syncs nor knows conditional updates; this wraps it and replaces `put` only.
//! Staged files and locks carry names (`.{file}#{digits}`) that its listing, Spark, pyarrow and DuckDB all skip.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// How long a conditional update waits for another one on the same file; the holder needs milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Local files with fsync and conditional updates.
#[derive(Debug, Clone)]
pub(crate) struct DurableFiles {
    files: LocalFileSystem,
}

impl DurableFiles {
    /// The files below `root`, which is created if absent.
    pub(crate) fn open(root: &FsPath) -> Result<Self> {
        create_dirs(root).map_err(|e| io_error(root, e))?;
        Ok(Self { files: LocalFileSystem::new_with_prefix(root)? })
    }
}

impl std::fmt::Display for DurableFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.files.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for DurableFiles {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let path = self.files.path_to_filesystem(location)?;
        let name = location.to_string();
        let put = move || put_file(&path, &payload, &opts.mode).map_err(|e| put_error(&name, &path, e));
        let e_tag = tokio::task::spawn_blocking(put).await??;
        Ok(PutResult { e_tag: Some(e_tag), version: None })
    }

    async fn put_multipart_opts(&self, path: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.files.rename_opts(from, to, options).await
    }
}

/// Why a file was not put, before it becomes an object_store error.
enum PutError {
    Io(io::Error),
    Exists(io::Error),
    Changed(String),
}

impl From<io::Error> for PutError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Writes beside the target, syncs, moves into place, syncs the folder; returns the ETag.
fn put_file(path: &FsPath, payload: &PutPayload, mode: &PutMode) -> std::result::Result<String, PutError> {
    let folder = path.parent().ok_or_else(|| io::Error::other("an object needs a folder"))?;
    create_dirs(folder)?;
    let (mut file, staged) = stage(path)?;
    let moved = payload.iter().try_for_each(|chunk| file.write_all(chunk)).and_then(|()| file.sync_all());
    let moved = moved.map_err(PutError::from).and_then(|()| match mode {
        PutMode::Overwrite => Ok(fs::rename(&staged, path)?),
        PutMode::Create => link(&staged, path),
        PutMode::Update(version) => replace(&file, &staged, path, version.e_tag.as_deref()),
    });
    if moved.is_err() || matches!(mode, PutMode::Create) {
        let _ = fs::remove_file(&staged); // a left-over is hidden and harmless
    }
    if matches!(moved, Ok(()) | Err(PutError::Exists(_))) {
        // Also when it was there already: the one who put it may have died before this line.
        sync_dir(folder)?;
    }
    moved?;
    Ok(etag(&file.metadata()?))
}

/// Gives the staged file its final name if that is still free.
fn link(staged: &FsPath, path: &FsPath) -> std::result::Result<(), PutError> {
    fs::hard_link(staged, path).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => PutError::Exists(e),
        _ => PutError::Io(e),
    })
}

/// Replaces `path` if its ETag is still `expected`. The kernel holds the lock, so a killed process leaves none behind.
fn replace(file: &File, staged: &FsPath, path: &FsPath, expected: Option<&str>) -> std::result::Result<(), PutError> {
    let _lock = lock(path)?;
    let current = match fs::metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(PutError::Changed("the file is gone".into())),
        Err(e) => return Err(e.into()),
    };
    let found = etag(&current);
    if expected != Some(found.as_str()) {
        return Err(PutError::Changed(found));
    }
    // The kernel's clock is coarse and inodes are reused: a later time makes sure that no ETag comes back.
    let at_least = current.modified()? + Duration::from_micros(1);
    if file.metadata()?.modified()? < at_least {
        file.set_modified(at_least)?;
        file.sync_all()?;
    }
    Ok(fs::rename(staged, path)?)
}

/// Locks updates of `path` by an advisory lock on a hidden file beside it, which stays: removing it would be a race.
fn lock(path: &FsPath) -> io::Result<File> {
    let hidden = hidden_name(path, 0)?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&hidden)?;
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(e)) => return Err(e),
            Err(TryLockError::WouldBlock) if started.elapsed() > LOCK_PATIENCE => {
                let what = format_args!("another process holds {} for over {LOCK_PATIENCE:?}", hidden.display());
                return Err(io::Error::new(ErrorKind::TimedOut, what.to_string()));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Opens a new file beside `path` under a hidden name of its own.
fn stage(path: &FsPath) -> io::Result<(File, PathBuf)> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    loop {
        // Left-overs of a killed process only make this try the next number.
        let staged = hidden_name(path, NEXT.fetch_add(1, Ordering::Relaxed))?;
        match OpenOptions::new().write(true).create_new(true).open(&staged) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            result => return Ok((result?, staged)),
        }
    }
}

fn hidden_name(path: &FsPath, number: u64) -> io::Result<PathBuf> {
    let name = path.file_name().and_then(|n| n.to_str());
    let name = name.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "an object needs a UTF-8 name"))?;
    Ok(path.with_file_name([".", name, "#", &number.to_string()].concat()))
}

/// Creates `dir` and what is missing above it, each synced into its parent.
fn create_dirs(dir: &FsPath) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_dirs(parent)?;
    }
    match fs::create_dir(dir) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists || !dir.is_dir() => Err(e),
        _ => parent.map_or(Ok(()), sync_dir),
    }
}

/// Makes names in `dir` durable. Only Unix lets a folder be opened for that; elsewhere the file system sees to it.
fn sync_dir(dir: &FsPath) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// The same ETag as object_store gives on reading: inode, modification time in microseconds, size.
fn etag(meta: &fs::Metadata) -> String {
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(meta);
    #[cfg(not(unix))]
    let inode = 0u64;
    let since = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    format!("{inode:x}-{:x}-{:x}", since.unwrap_or_default().as_micros(), meta.len())
}

fn put_error(name: &str, path: &FsPath, error: PutError) -> Error {
    let location = name.to_owned();
    match error {
        PutError::Io(e) => io_error(path, e),
        PutError::Exists(e) => Error::AlreadyExists { path: location, source: Box::new(e) },
        PutError::Changed(found) => Error::Precondition { path: location, source: found.into() },
    }
}

fn io_error(path: &FsPath, error: io::Error) -> Error {
    let path = path.display().to_string();
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Error::PermissionDenied { path, source: Box::new(error) },
        _ => Error::Generic { store: "local files", source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::{ObjectStoreExt, UpdateVersion};

    fn update(e_tag: Option<String>) -> PutOptions {
        PutMode::Update(UpdateVersion { e_tag, version: None }).into()
    }

    #[tokio::test]
    async fn etags_of_put_and_head_agree_and_never_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = DurableFiles::open(dir.path()).unwrap();
        let at = Path::from("a/b.json");
        let mut tag = store.put(&at, "x".into()).await.unwrap().e_tag;
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..50 {
            assert_eq!(tag, store.head(&at).await.unwrap().e_tag);
            assert!(seen.insert(tag.clone()), "an ETag came back");
            let stale = tag.clone();
            tag = store.put_opts(&at, "y".into(), update(tag)).await.unwrap().e_tag;
            let refused = store.put_opts(&at, "z".into(), update(stale)).await;
            assert!(matches!(refused, Err(Error::Precondition { .. })));
        }
        assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), "y");
    }

    #[tokio::test]
    async fn nothing_is_left_behind_but_the_object_and_hidden_files_are_not_listed() {
        use futures::TryStreamExt;
        let dir = tempfile::tempdir().unwrap();
        let store = DurableFiles::open(&dir.path().join("new/root")).unwrap();
        let at = Path::from("a/b.json");
        store.put_opts(&at, "x".into(), PutMode::Create.into()).await.unwrap();
        let again = store.put_opts(&at, "x".into(), PutMode::Create.into()).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })));
        assert_eq!(fs::read_dir(dir.path().join("new/root/a")).unwrap().count(), 1);
        fs::write(dir.path().join("new/root/a/.b.json#77"), "left by a killed process").unwrap();
        let listed: Vec<_> = store.list(None).map_ok(|m| m.location).try_collect().await.unwrap();
        assert_eq!(listed, [at]);
    }

    #[tokio::test]
    async fn updating_what_is_not_there_is_a_failed_precondition() {
        let dir = tempfile::tempdir().unwrap();
        let store = DurableFiles::open(dir.path()).unwrap();
        let result = store.put_opts(&Path::from("a"), "x".into(), update(Some("1-2-3".into()))).await;
        assert!(matches!(result, Err(Error::Precondition { .. })));
    }

    #[tokio::test]
    async fn an_update_waits_for_one_that_is_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let store = DurableFiles::open(dir.path()).unwrap();
        let at = Path::from("a.json");
        let tag = store.put(&at, "x".into()).await.unwrap().e_tag;
        let under_way = lock(&dir.path().join("a.json")).unwrap();
        let waiting = tokio::spawn({
            let (store, at) = (store.clone(), at.clone());
            async move { store.put_opts(&at, "y".into(), update(tag)).await }
        });
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), "x");
        drop(under_way);
        waiting.await.unwrap().unwrap();
        assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), "y");
    }

    #[tokio::test]
    async fn an_update_is_later_than_what_it_replaces_whatever_the_clock_says() {
        let dir = tempfile::tempdir().unwrap();
        let store = DurableFiles::open(dir.path()).unwrap();
        let at = Path::from("a.json");
        store.put(&at, "x".into()).await.unwrap();
        let ahead = std::time::SystemTime::now() + Duration::from_secs(3600);
        File::options().write(true).open(dir.path().join("a.json")).unwrap().set_modified(ahead).unwrap();
        let before = store.head(&at).await.unwrap();
        store.put_opts(&at, "x".into(), update(before.e_tag)).await.unwrap();
        assert!(store.head(&at).await.unwrap().last_modified > before.last_modified);
    }
}
