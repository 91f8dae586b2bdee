//! What compaction leaves behind: once undisturbed, and killed at every single operation of the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::stream::BoxStream;
use homeward_store::archive::{
    EventBatch, EventRow, QuarantineBatch, QuarantineRow, TelemetryBatch, TelemetryRow, TelemetryTable, describe, read_events,
    read_quarantine, read_telemetry,
};
use homeward_store::keys::{ArchiveKey, Key, Partition, Prefix, Table, WriterId};
use homeward_store::{Retry, Store};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};

use super::*;

/// 2026-11-22 00:00 UTC.
const DAY: i64 = 1_795_305_600_000;
const HOUR: i64 = 3_600_000;
/// Long after that day.
const LATER: i64 = DAY + 100 * 24 * HOUR;

fn settings(text: &str) -> CompactSettings {
    CompactSettings::check(&serde_json::from_str::<WrittenCompact>(text).unwrap()).unwrap()
}

fn over(inner: Arc<dyn ObjectStore>) -> Store {
    Store::from_object_store(inner, "").unwrap().with_retry(Retry { attempts: 1, ..Retry::default() })
}

/// One row of telemetry: device, ts, value, received_at, seq.
type Row = (&'static str, i64, f64, i64, i64);

fn telemetry(signal: &str, rows: &[Row]) -> Bytes {
    let mut batch = TelemetryBatch::new([signal.to_owned()].into()).unwrap();
    for &(device, ts, value, received_at, seq) in rows {
        batch.push(&TelemetryRow { device, ts, received_at, seq, values: &[value], ..TelemetryRow::default() }).unwrap();
    }
    batch.encode(&WriteOptions::default()).unwrap()
}

fn key(table: Table, ts: i64, writer: u8, n: u64) -> Key {
    ArchiveKey::new(Partition::day(table, ts).unwrap(), WriterId::from_bytes([writer; 8]), n, n).unwrap().into()
}

/// Six objects of one day by two writers with a duplicate across them, an event told twice, and two equal bad messages.
async fn fill(store: &Store) {
    let at = |ms: i64| DAY + ms;
    let objects = [
        (1, telemetry("v", &[("b", at(10), 1.0, at(11), 0), ("a", at(10), 2.0, at(11), 1)])),
        (1, telemetry("v", &[("a", at(5), 3.0, at(12), 2)])),
        (2, telemetry("v", &[("b", at(10), 1.0, at(9), 0), ("b", at(10), f64::NAN, at(9), 1)])),
        (2, telemetry("w", &[("a", at(20), 4.0, at(21), 2)])),
    ];
    for (n, (writer, bytes)) in (0..).zip(objects) {
        store.put_new(&key(Table::Telemetry, DAY, writer, n), bytes).await.unwrap();
    }
    for writer in [1, 2] {
        let mut batch = EventBatch::default();
        batch.push(&EventRow { device: "a", ts: at(7), received_at: at(8), seq: writer.into(), event: "failure", ..EventRow::default() });
        store.put_new(&key(Table::Events, DAY, writer, 0), batch.encode(&WriteOptions::default()).unwrap()).await.unwrap();
        let mut batch = QuarantineBatch::default();
        let row =
            QuarantineRow { received_at: at(8), seq: writer.into(), topic: "t", payload: b"junk", reason: "r", ..QuarantineRow::default() };
        batch.push(&row);
        store.put_new(&key(Table::Quarantine, DAY, writer, 0), batch.encode(&WriteOptions::default()).unwrap()).await.unwrap();
    }
}

/// Device, ts, bits of v and w.
type Seen = (String, i64, Option<u64>, Option<u64>);

fn seen(table: &TelemetryTable) -> Vec<Seen> {
    let value = |signal: &str, row: usize| table.signal(signal).map(|v| v[row]).filter(|v| !v.is_nan()).map(f64::to_bits);
    (0..table.len()).map(|row| (table.device.get(row).unwrap().to_owned(), table.ts[row], value("v", row), value("w", row))).collect()
}

/// All rows of telemetry that our readers see, and the count of events and quarantined messages.
async fn ours(store: &Store) -> (Vec<Seen>, usize, usize) {
    let mut all = (Vec::new(), 0, 0);
    for entry in store.archive(Table::Telemetry).await.unwrap() {
        all.0.extend(seen(&read_telemetry(store.get(&entry.key).await.unwrap()).unwrap()));
    }
    for entry in store.archive(Table::Events).await.unwrap() {
        all.1 += read_events(store.get(&entry.key).await.unwrap()).unwrap().len();
    }
    for entry in store.archive(Table::Quarantine).await.unwrap() {
        all.2 += read_quarantine(store.get(&entry.key).await.unwrap()).unwrap().len();
    }
    all.0.sort();
    all
}

/// All rows of telemetry in the bare objects, as a reader sees them that knows nothing of manifests.
async fn bare(store: &Store) -> Vec<Seen> {
    let mut all = Vec::new();
    for prefix in [Prefix::Table(Table::Telemetry), Prefix::Cold(Table::Telemetry)] {
        for entry in store.list(&prefix).await.unwrap().iter().filter(|e| matches!(e.key, Key::Archive(_))) {
            all.extend(seen(&read_telemetry(store.get(&entry.key).await.unwrap()).unwrap()));
        }
    }
    all.sort();
    all
}

async fn keys(store: &Store) -> Vec<String> {
    store.list(&Prefix::All).await.unwrap().iter().map(|e| e.key.to_string()).collect()
}

async fn run_at(store: &Store, settings: &CompactSettings, id: u8, now: i64) -> std::result::Result<Compacted, CompactError> {
    let run = CompactRun { id: [id; 8], clock: &|| now, stop: &|| false, tell: &|_| () };
    compact(store, settings, run).await
}

#[tokio::test]
async fn small_objects_become_one_sorted_without_duplicates() {
    let store = over(Arc::new(InMemory::new()));
    fill(&store).await;
    let done = run_at(&store, &settings("{}"), 7, LATER).await.unwrap();
    let day = "date=2026-11-22/compacted0707070707070707-0-0.parquet";
    assert_eq!(keys(&store).await, ["telemetry", "events", "quarantine"].map(|table| format!("{table}/{day}")));
    assert_eq!((done.partitions, done.objects_before, done.objects_after), (3, 8, 3));
    assert_eq!((done.rows, done.duplicates), (6 + 2 + 2, 2), "one reading, one event; equal bad messages stay");
    let bytes = store.get(&store.archive(Table::Telemetry).await.unwrap()[0].key).await.unwrap();
    assert_eq!(describe(bytes.clone()).unwrap().writer.as_deref(), Some("compacted0707070707070707"));
    let table = read_telemetry(bytes).unwrap();
    let row = |device: &str, ms, v: Option<f64>, w: Option<f64>| (device.to_owned(), DAY + ms, v.map(f64::to_bits), w.map(f64::to_bits));
    let wanted = [
        row("a", 5, Some(3.0), None),
        row("a", 10, Some(2.0), None),
        row("a", 20, None, Some(4.0)),
        row("b", 10, Some(1.0), None),
        row("b", 10, None, None),
    ];
    assert_eq!(seen(&table), wanted, "in order of device and time, over objects with other signals");
    assert_eq!(table.received_at[3], DAY + 9, "of equal rows the one that arrived first");
    let again = run_at(&store, &settings("{}"), 8, LATER).await.unwrap();
    assert_eq!(again, Compacted::default(), "there is nothing left to do");
}

#[tokio::test]
async fn open_days_and_single_objects_are_left_as_they_are() {
    let store = over(Arc::new(InMemory::new()));
    fill(&store).await;
    let before = keys(&store).await;
    let midnight = DAY + 24 * HOUR;
    assert_eq!(run_at(&store, &settings("{}"), 7, midnight + HOUR - 1).await.unwrap(), Compacted::default());
    assert_eq!(run_at(&store, &settings(r#"{"min_objects": 5}"#), 7, LATER).await.unwrap(), Compacted::default());
    assert_eq!(keys(&store).await, before);
    assert_eq!(run_at(&store, &settings("{}"), 7, midnight + HOUR).await.unwrap().partitions, 3);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_stays_and_the_others_are_not_written_again_and_again() {
    let store = over(Arc::new(InMemory::new()));
    fill(&store).await;
    let bad = key(Table::Telemetry, DAY, 9, 0);
    store.put_new(&bad, Bytes::from_static(b"no Parquet")).await.unwrap();
    // A column of another type, and one that differs in case only.
    store.put_new(&key(Table::Telemetry, DAY, 9, 1), telemetry("V", &[("a", DAY, 0.0, DAY, 0)])).await.unwrap();
    let done = run_at(&store, &settings("{}"), 7, LATER).await.unwrap();
    assert_eq!((done.partitions, done.left_alone), (3, 2));
    assert_eq!(store.get(&bad).await.unwrap(), "no Parquet");
    let again = run_at(&store, &settings("{}"), 8, LATER).await.unwrap();
    // The one with `V` is well by itself, but one object is no merge.
    assert_eq!((again.partitions, again.left_alone), (0, 1), "{again}");
}

#[tokio::test]
async fn late_objects_join_when_there_are_enough_of_them() {
    let store = over(Arc::new(InMemory::new()));
    fill(&store).await;
    run_at(&store, &settings("{}"), 7, LATER).await.unwrap();
    let rows = ours(&store).await;
    store.put_new(&key(Table::Telemetry, DAY, 3, 0), telemetry("v", &[("a", DAY + 5, 3.0, DAY + 99, 9)])).await.unwrap();
    assert_eq!(run_at(&store, &settings("{}"), 8, LATER).await.unwrap().partitions, 0);
    store.put_new(&key(Table::Telemetry, DAY, 3, 1), telemetry("v", &[("b", DAY + 10, 1.0, DAY + 99, 10)])).await.unwrap();
    let done = run_at(&store, &settings("{}"), 9, LATER).await.unwrap();
    assert_eq!((done.partitions, done.objects_before, done.duplicates), (1, 3, 2), "repetitions that came after the merge go as well");
    assert_eq!(ours(&store).await, rows);
}

#[tokio::test]
async fn cold_days_move_and_old_ones_go() {
    let store = over(Arc::new(InMemory::new()));
    fill(&store).await;
    let rows = ours(&store).await;
    let cold = settings(r#"{"cold": {"after": "9d", "separate": true}}"#);
    run_at(&store, &cold, 1, DAY + 3 * 24 * HOUR).await.unwrap();
    assert!(keys(&store).await.iter().all(|k| !k.starts_with("cold/")), "closed, and not cold yet");
    let done = run_at(&store, &cold, 2, LATER).await.unwrap();
    assert_eq!((done.objects_before, done.objects_after), (3, 3));
    let day = "date=2026-11-22/cold0202020202020202-0-0.parquet";
    assert_eq!(keys(&store).await, ["telemetry", "events", "quarantine"].map(|table| format!("cold/{table}/{day}")));
    let merged = ours(&store).await;
    assert_eq!((merged.0.len(), merged.1, merged.2), (rows.0.len() - 1, 1, 2), "our readers look there, too");
    assert_eq!(run_at(&store, &cold, 3, LATER).await.unwrap(), Compacted::default());
    let retain = settings(r#"{"cold": {"after": "9d", "separate": true}, "retain": {"telemetry": "99d", "quarantine": "100d"}}"#);
    let done = run_at(&store, &retain, 4, LATER).await.unwrap();
    assert_eq!(done.deleted, 1, "telemetry is 99 days past its end, quarantine not 100");
    assert_eq!(keys(&store).await, ["events", "quarantine"].map(|table| format!("cold/{table}/{day}")));
}

#[tokio::test]
async fn a_partition_that_another_holds_is_passed_over_until_that_one_is_dead() {
    let inner = Arc::new(InMemory::new());
    let store = over(inner.clone());
    fill(&store).await;
    let partition = Partition::day(Table::Telemetry, DAY).unwrap();
    let other = WriterId::compaction([9; 8], false);
    let held = Claim::take(&store, partition, &other, LATER).await.unwrap().unwrap();
    let left = ArchiveKey::new(partition, other, 0, 0).unwrap();
    store.put_new(&left.into(), telemetry("v", &[("a", DAY, 0.0, DAY, 0)])).await.unwrap();
    let before = ours(&store).await;
    assert_eq!(before.0.len(), 6, "what is not committed does not count");
    let done = run_at(&store, &settings("{}"), 7, LATER + claim::LEASE - 1).await.unwrap();
    assert_eq!((done.busy, done.partitions), (1, 2));
    let done = run_at(&store, &settings("{}"), 8, LATER + claim::LEASE).await.unwrap();
    assert_eq!((done.busy, done.partitions), (0, 1));
    assert_eq!(ours(&store).await.0.len(), 5);
    // The one taken for dead comes back, and finds that it has lost.
    let lost = held.commit(vec![], vec![]).await;
    assert!(matches!(lost, Err(StoreError::Conflict { .. })), "{lost:?}");
    assert_eq!(ours(&store).await.0.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_compactions_at_once_do_the_work_of_one() {
    let store = over(Arc::new(InMemory::new()));
    fill(&store).await;
    let settings = settings("{}");
    let runs = (1..9).map(|id| {
        let (store, settings) = (store.clone(), settings.clone());
        tokio::spawn(async move { run_at(&store, &settings, id, LATER).await })
    });
    for run in runs.collect::<Vec<_>>() {
        // One that lost a race says so; the archive is whole either way.
        _ = run.await.unwrap();
    }
    let (rows, events, quarantined) = ours(&store).await;
    assert_eq!((rows.len(), events, quarantined), (5, 1, 2));
    run_at(&store, &settings, 99, LATER + 2 * claim::LEASE).await.unwrap();
    assert_eq!((bare(&store).await, keys(&store).await.len()), (rows, 3), "nothing is left behind");
}

/// A store that is gone after so many operations that change it: for the one who is killed, a kill.
#[derive(Debug)]
struct Mortal {
    inner: Arc<InMemory>,
    left: AtomicI64,
    /// Whether the last operation takes place.
    last_counts: bool,
    used: AtomicUsize,
}

impl Mortal {
    fn spend(&self) -> Result<bool> {
        self.used.fetch_add(1, Ordering::SeqCst);
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            2.. => Ok(true),
            1 if self.last_counts => Ok(false),
            _ => Err(gone()),
        }
    }

    fn alive(&self) -> Result<()> {
        if self.left.load(Ordering::SeqCst) > 0 { Ok(()) } else { Err(gone()) }
    }
}

fn gone() -> Error {
    Error::Generic { store: "mortal", source: "killed".into() }
}

impl std::fmt::Display for Mortal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("mortal")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Mortal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let heard = self.spend()?;
        let put = self.inner.put_opts(location, payload, opts).await?;
        if heard { Ok(put) } else { Err(gone()) }
    }

    async fn put_multipart_opts(&self, path: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.alive()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.spend() {
            Ok(true) => self.inner.delete_stream(paths),
            Ok(false) => self.inner.delete_stream(paths).map(|_| Err(gone())).boxed(),
            Err(_) => stream::iter([Err(gone())]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Runs and kills a compaction at its `at`th change of the store; whether it came that far.
async fn killed_at(at: usize, last_counts: bool, inner: &Arc<InMemory>, settings: &CompactSettings, now: i64) -> bool {
    let left = AtomicI64::new(i64::try_from(at).unwrap());
    let mortal = Arc::new(Mortal { inner: inner.clone(), left, last_counts, used: AtomicUsize::new(0) });
    _ = run_at(&over(mortal.clone()), settings, u8::try_from(at % 251).unwrap(), now).await;
    mortal.used.load(Ordering::SeqCst) >= at
}

#[tokio::test]
async fn killed_at_any_operation_nobody_misses_a_row_and_the_next_run_ends_it() {
    let settings = settings(r#"{"cold": {"after": "9d", "separate": true}}"#);
    let mut kills = 0;
    for (at, last_counts) in (1..).flat_map(|at| [(at, false), (at, true)]) {
        let inner = Arc::new(InMemory::new());
        let store = over(inner.clone());
        fill(&store).await;
        let (before, unique) = (ours(&store).await, 5);
        if !killed_at(at, last_counts, &inner, &settings, LATER).await {
            break;
        }
        kills += 1;
        let (rows, events, quarantined) = ours(&store).await;
        let set = |rows: &[Seen]| rows.iter().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(set(&rows), set(&before.0), "killed at {at}");
        assert!(rows.len() == 6 || rows.len() == unique, "killed at {at}: our readers see {} rows", rows.len());
        assert!((1..=2).contains(&events) && quarantined == 2, "killed at {at}: {events} events, {quarantined} quarantined");
        assert_eq!(set(&bare(&store).await), set(&before.0), "killed at {at}: others miss nothing");
        // Killed again, somewhere else, and then left alone.
        let again = LATER + claim::LEASE;
        killed_at(at / 2 + 1, !last_counts, &inner, &settings, again).await;
        run_at(&store, &settings, 252, again + claim::LEASE).await.unwrap();
        assert_eq!(
            (ours(&store).await, bare(&store).await.len()),
            ((set(&before.0).into_iter().collect(), 1, 2), unique),
            "killed at {at}"
        );
        assert_eq!(keys(&store).await.len(), 3, "killed at {at}: {:?}", keys(&store).await);
    }
    assert!(kills > 30, "{kills} kills: claim, put, commit, deletes and release of three partitions were to be among them");
}

/// What a merge must come to: rows by content, the first to arrive.
fn naive(objects: &[Vec<Row>]) -> Vec<(Row, u64)> {
    let mut first: BTreeMap<(&str, i64, u64), Row> = BTreeMap::new();
    for row in objects.iter().flatten() {
        let kept = first.entry((row.0, row.1, row.2.to_bits())).or_insert(*row);
        if (row.3, row.4) < (kept.3, kept.4) {
            *kept = *row;
        }
    }
    let mut rows: Vec<_> = first.into_values().map(|row| (row, row.2.to_bits())).collect();
    rows.sort_by_key(|(row, _)| (row.0, row.1, row.4));
    rows
}

#[tokio::test]
async fn any_objects_merge_to_what_a_naive_merge_gives() {
    let mut dice = fastrand::Rng::with_seed(7);
    for round in 0..60 {
        let store = over(Arc::new(InMemory::new()));
        let mut seq = 0;
        let mut row = |dice: &mut fastrand::Rng| {
            seq += 1;
            let device = ["a", "b", "cc", "d-017"][dice.usize(0..4)];
            (device, DAY + dice.i64(0..6), f64::from(dice.u8(0..3)), DAY + dice.i64(0..50), seq)
        };
        let objects: Vec<Vec<Row>> = (0..dice.usize(2..9)).map(|_| (0..dice.usize(1..40)).map(|_| row(&mut dice)).collect()).collect();
        for (n, rows) in (0..).zip(&objects) {
            store.put_new(&key(Table::Telemetry, DAY, 1, n), telemetry("v", rows)).await.unwrap();
        }
        run_at(&store, &settings("{}"), 7, LATER).await.unwrap();
        let table = read_telemetry(store.get(&store.archive(Table::Telemetry).await.unwrap()[0].key).await.unwrap()).unwrap();
        let got = (0..table.len())
            .map(|r| (table.device.get(r).unwrap(), table.ts[r], table.signals[0].1[r].to_bits(), table.received_at[r], table.seq[r]));
        let wanted = naive(&objects);
        assert_eq!(
            got.collect::<Vec<_>>(),
            wanted.iter().map(|(r, bits)| (r.0, r.1, *bits, r.3, r.4)).collect::<Vec<_>>(),
            "round {round}"
        );
    }
}
