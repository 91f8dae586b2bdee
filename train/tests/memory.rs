//! An archive several times larger than the memory that a training may take: it trains under a limit set from outside, and what comes out is the same to the byte.
//!
//! The child is this very program, so that nothing else has to be built. `ulimit -d` limits what it may allocate (reserved addresses and mapped files do not
//! count), and the peak of what it held is read from `/proc`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use homeward_models::cost::WrittenCosts;
use homeward_models::decision::WrittenDecide;
use homeward_models::{Fleet, WrittenFleet};
use homeward_store::archive::{EventBatch, EventRow, TelemetryBatch, TelemetryRow, WriteOptions};
use homeward_store::keys::{ArchiveKey, ModelName, Partition, Table, WriterId};
use homeward_store::{Registry, Store};
use homeward_train::{Settings, Step, WrittenTrain};

/// Names the store to the child, and how much memory it may take by its settings.
const CHILD: &str = "HOMEWARD_MEMORY_CHILD";
const SIGNALS: usize = 120;
const DEVICES: usize = 30;
/// Readings of each device.
const EACH: usize = 10_000;
/// What the readings take once they are numbers: eight bytes each, times included.
const RAW: usize = DEVICES * EACH * (SIGNALS + 1) * 8;
/// `[train] memory_bytes` of the child.
const MEMORY: usize = 64 << 20;
/// What the child may allocate, its program's own needs included: less than the readings alone take.
const LIMIT: usize = 160 << 20;
const SECOND: i64 = 1_000;
const START: i64 = 1_790_000_000_000;

/// Many signals of which only the last value is a feature, so that readings outweigh all else.
fn fleet() -> Fleet {
    let mut signals = String::new();
    for n in 0..SIGNALS {
        write!(signals, r#"{}"s{n}": {{"at": "/s{n}"}}"#, if n == 0 { "" } else { ", " }).unwrap();
    }
    let off = ["delta", "ewm", "mean", "std", "min", "max", "slope", "gap", "missing", "age", "usage", "count", "since", "attribute"];
    let off = off.map(|word| format!(r#""{word}": false"#)).join(", ");
    let written =
        format!(r#"{{"name": "wide", "windows": ["6s"], "commissioning": "6s", "signals": {{{signals}}}, "features": {{{off}}}}}"#);
    Fleet::check(&serde_json::from_str::<WrittenFleet>(&written).unwrap()).unwrap()
}

fn settings(memory_bytes: usize) -> Settings {
    let train = WrittenTrain {
        horizons: vec!["10m".into()],
        learner: "tree".into(),
        folds: 2,
        max_fit_rows: 5_000,
        promote: "never".into(),
        memory_bytes,
        ..WrittenTrain::default()
    };
    Settings::check(&train, &WrittenDecide::default(), &WrittenCosts::default()).unwrap()
}

fn store(folder: &Path) -> Store {
    Store::open(&format!("file://{}", folder.display()), std::iter::empty()).unwrap()
}

/// A number that looks like chance.
fn noise(n: usize) -> f64 {
    ((n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as f64
}

/// Devices that report by turns, an object a stretch of time, so that each device's readings lie in all of them; most fail at their end, when their first signal has risen.
async fn archive(store: &Store) {
    let partition = |table| Partition::day(table, START).unwrap();
    let writer = || WriterId::from_bytes(*b"homeward");
    let names: Arc<[String]> = (0..SIGNALS).map(|n| format!("s{n}")).collect();
    let (mut seq, mut values) = (0, vec![0.0; SIGNALS]);
    for first in (0..EACH).step_by(500) {
        let mut batch = TelemetryBatch::new(names.clone()).unwrap();
        let first_seq = seq;
        for at in first..first + 500 {
            for device in 0..DEVICES {
                values.iter_mut().enumerate().for_each(|(s, value)| *value = noise(seq as usize * SIGNALS + s));
                values[0] += if device % 3 > 0 { (at.saturating_sub(EACH - 600) * 10_000) as f64 } else { 0.0 };
                let ts = START + at as i64 * SECOND;
                let row = TelemetryRow { device: &name(device), ts, received_at: ts, seq, values: &values, ..TelemetryRow::default() };
                batch.push(&row).unwrap();
                seq += 1;
            }
        }
        let key = ArchiveKey::new(partition(Table::Telemetry), writer(), first_seq as u64, seq as u64 - 1).unwrap();
        store.put_archive(&key, batch.encode(&WriteOptions::default()).unwrap()).await.unwrap();
    }
    let mut events = EventBatch::default();
    for device in (0..DEVICES).filter(|d| d % 3 > 0) {
        let ts = START + EACH as i64 * SECOND;
        events.push(&EventRow { device: &name(device), ts, received_at: ts, seq, event: "failure", ..EventRow::default() });
    }
    let key = ArchiveKey::new(partition(Table::Events), writer(), seq as u64, seq as u64).unwrap();
    store.put_archive(&key, events.encode(&WriteOptions::default()).unwrap()).await.unwrap();
}

fn name(device: usize) -> String {
    // Not in the order of names.
    format!("d-{}", device * 7 % DEVICES)
}

/// Trains, if it is told to by its parent.
#[test]
fn child() {
    let Some(told) = std::env::var_os(CHILD) else { return };
    let told = told.into_string().unwrap();
    let (folder, memory) = told.split_once(' ').unwrap();
    let memory: usize = memory.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let now = START + 1_000_000_000 + memory as i64;
    let told = |step: Step<'_>| eprintln!("{step:?}");
    runtime.block_on(homeward_train::train(&store(Path::new(folder)), &fleet(), &settings(memory), now, &told)).unwrap();
}

/// A run of the child: whether it ended well, the most memory it held at a time, and what it said.
fn run(folder: &Path, memory: usize, limit: Option<usize>) -> (bool, usize, String) {
    let limit = limit.map_or("unlimited".to_owned(), |bytes| (bytes >> 10).to_string());
    let mut child = Command::new("sh")
        .args(["-c", r#"ulimit -d "$0" && exec "$1" --exact child --nocapture --test-threads 1"#, &limit])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, format!("{} {memory}", folder.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let held = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<usize>().ok());
        peak = held.map_or(peak, |kib| peak.max(kib << 10));
        std::thread::sleep(Duration::from_millis(5));
    }
    let done = child.wait_with_output().unwrap();
    (done.status.success(), peak, String::from_utf8_lossy(&done.stderr).into_owned())
}

#[test]
fn an_archive_larger_than_memory_trains_to_the_same_bytes() {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(archive(&store(folder.path())));
    const { assert!(RAW > 4 * MEMORY && RAW > LIMIT) };

    let (done, bounded, said) = run(folder.path(), MEMORY, Some(LIMIT));
    assert!(done && said.contains("which wait in a file"), "{said}");
    assert!(bounded < LIMIT, "{bounded} bytes held");
    let (done, free, said) = run(folder.path(), 8 << 30, None);
    assert!(done && !said.contains("which wait in a file"), "{said}");
    eprintln!("{} MiB of readings: {} MiB held under the limit, {} MiB without", RAW >> 20, bounded >> 20, free >> 20);

    let registry = Registry::new(store(folder.path()), "wide".parse::<ModelName>().unwrap());
    runtime.block_on(async {
        let versions = registry.versions().await.unwrap();
        assert_eq!(versions.len(), 2);
        let models = [registry.get_model(&versions[0]).await.unwrap(), registry.get_model(&versions[1]).await.unwrap()];
        assert!(models[0] == models[1] && models[0].len() > 10_000);
    });

    // The limit is one: a run that keeps all in memory does not live under it.
    let (done, held, said) = run(folder.path(), 8 << 30, Some(LIMIT));
    assert!(!done && held < free, "{held} bytes held: {said}");
}
