//! What the tests share: the binary, a folder and a configuration each, the archive read back, and what may be missing.

pub(crate) mod archive;
mod binary;
pub(crate) mod mqtt;
pub(crate) mod proxy;
mod site;

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use homeward_broker::testing::{Mosquitto, find_mosquitto};
use homeward_store::testing::S3Server;

pub(crate) use site::{Service, Site, files};

/// How long anything may take before a test gives it up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

static TURNS: RwLock<()> = RwLock::new(());

/// A test that runs beside others.
pub(crate) fn beside_others() -> RwLockReadGuard<'static, ()> {
    TURNS.read().unwrap_or_else(PoisonError::into_inner)
}

/// A test that simulates time at a multiple of real speed and needs the machine for itself.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    TURNS.write().unwrap_or_else(PoisonError::into_inner)
}

/// The part that `test` needs, or `None`, said aloud; a panic where all parts must be there.
#[allow(clippy::print_stderr)]
fn need<T>(test: &str, part: Result<T, String>) -> Option<T> {
    match part {
        Ok(part) => Some(part),
        Err(missing) if std::env::var("HOMEWARD_TEST_ALL").is_ok_and(|all| all == "1") => {
            panic!("{test}: HOMEWARD_TEST_ALL=1, but {missing}")
        }
        Err(missing) => {
            eprintln!("SKIPPED: {test}: {missing}");
            None
        }
    }
}

/// A Mosquitto of the test's own.
pub(crate) fn mosquitto(test: &str) -> Option<Mosquitto> {
    let found = find_mosquitto().and_then(|_| Mosquitto::start()).ok_or_else(|| "Mosquitto is not installed".to_owned());
    need(test, found).map(|started| started.expect("Mosquitto starts"))
}

/// An S3 server of the test's own.
pub(crate) fn s3(test: &str) -> Option<S3Server> {
    need(test, S3Server::start())
}

/// A file of the public data sets.
pub(crate) fn data(test: &str, file: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let path = std::env::var_os("HOMEWARD_TEST_DATA").map_or_else(beside, PathBuf::from).join(file);
    let missing = || format!("{} is not there (HOMEWARD_TEST_DATA names the folder of public data sets)", path.display());
    need(test, path.is_file().then_some(&path).ok_or_else(missing)).cloned()
}

/// Python with pyarrow: a reader of the archive that shares no code with us.
pub(crate) fn pyarrow(test: &str) -> Option<()> {
    let answer = std::process::Command::new("python3").args(["-c", "import pyarrow"]).output();
    need(test, answer.is_ok_and(|a| a.status.success()).then_some(()).ok_or_else(|| "python3 has no pyarrow".to_owned()))
}

/// Python with DuckDB, likewise.
pub(crate) fn duckdb(test: &str) -> Option<()> {
    let answer = std::process::Command::new("python3").args(["-c", "import duckdb"]).output();
    need(test, answer.is_ok_and(|a| a.status.success()).then_some(()).ok_or_else(|| "python3 has no duckdb".to_owned()))
}

/// The standard library of another target. rustup fetches it where it can; where it cannot, the test is skipped whatever `HOMEWARD_TEST_ALL` says.
#[allow(clippy::print_stderr)]
pub(crate) fn target(test: &str, target: &str) -> Option<()> {
    let answer = std::process::Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    let there = answer.is_ok_and(|a| Path::new(String::from_utf8_lossy(&a.stdout).trim()).is_dir());
    if !there {
        eprintln!("SKIPPED: {test}: no standard library for it; rustup target add {target}");
    }
    there.then_some(())
}

/// A small disk of its own at `folder`, unmounted when dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// A tmpfs of `size` (as mount says it); needs the rights to mount.
    pub(crate) fn at(test: &str, folder: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let mounted =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder).output();
        let done = mounted.is_ok_and(|m| m.status.success());
        need(test, done.then(|| Self(folder.to_owned())).ok_or_else(|| "a tmpfs cannot be mounted: no full disks".to_owned()))
    }

    /// Fills it to the last byte until the ballast is dropped.
    pub(crate) fn fill(&self) -> Ballast {
        use std::io::Write;
        let file = self.0.join("ballast");
        let mut ballast = std::fs::File::create(&file).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
        Ballast(file)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What fills a disk, gone when dropped.
pub(crate) struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

/// A file of the workspace.
pub(crate) fn workspace(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

/// Waits until `done`; a test that would hang fails with `what` instead.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "waited {} s in vain: {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}
