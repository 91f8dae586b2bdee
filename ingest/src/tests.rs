//! What ingest does with messages, good and bad, and with a store that fails.

use std::sync::Arc;
use std::time::Duration;

use homeward_broker::{Inbox, Incoming as Arrived, MemoryInbox};
use homeward_models::WrittenFleet;
use homeward_models::topic::WrittenTopics;
use homeward_store::Store;
use homeward_store::archive::{read_events, read_quarantine, read_telemetry};
use homeward_store::keys::{Prefix, Table, WriterId};

use crate::{Cut, Recipe, Settings, Stats, Uploader, WrittenIngest, run};

const NOW: i64 = 1_764_000_000_500;

fn fleet(signals: &str) -> WrittenFleet {
    serde_json::from_str(&format!(r#"{{"name": "t", "signals": {signals}}}"#)).unwrap()
}

const SIGNALS: &str = r#"{"v": {"at": "/v"}, "w": {"at": "/w"}}"#;

fn settings() -> Settings {
    Settings::check(&WrittenIngest { max_rows: Some(3), max_age: "20ms".into(), ..Default::default() }, 65_535).unwrap()
}

fn memory() -> Store {
    Store::open("memory:///", std::iter::empty()).unwrap()
}

struct Rig {
    inbox: Arc<MemoryInbox>,
    store: Store,
    stats: Arc<Stats>,
}

impl Rig {
    fn new() -> Self {
        Self { inbox: Arc::new(MemoryInbox::new()), store: memory(), stats: Arc::new(Stats::default()) }
    }

    fn send(&self, topic: &str, payload: impl AsRef<[u8]>) {
        self.inbox.append(Arrived::new(topic.to_owned(), payload.as_ref().to_vec(), NOW));
    }

    async fn run(&self) {
        self.run_until(std::future::pending()).await;
    }

    async fn run_until(&self, give_up: impl Future<Output = ()> + Send) {
        self.inbox.close();
        self.run_with(&settings(), SIGNALS, give_up).await;
    }

    async fn run_with(&self, settings: &Settings, signals: &str, give_up: impl Future<Output = ()> + Send) {
        let recipe = Recipe::new(&fleet(signals), &WrittenTopics::default(), settings);
        let uploader = Uploader::new(self.store.clone(), WriterId::from_bytes([7; 8]), self.stats.clone());
        run(self.inbox.clone(), recipe, settings, uploader, give_up).await.unwrap();
    }

    async fn keys(&self) -> Vec<String> {
        self.store.list(&Prefix::Table(Table::Telemetry)).await.unwrap().iter().map(|e| e.key.to_string()).collect()
    }

    async fn objects(&self, table: Table) -> Vec<bytes::Bytes> {
        let mut all = Vec::new();
        for entry in self.store.list(&Prefix::Table(table)).await.unwrap() {
            all.push(self.store.get(&entry.key).await.unwrap());
        }
        all
    }

    async fn readings(&self) -> Vec<(i64, i32, f64)> {
        let tables = self.objects(Table::Telemetry).await.into_iter().map(|b| read_telemetry(b).unwrap());
        let mut rows: Vec<_> =
            tables.flat_map(|t| (0..t.len()).map(|i| (t.seq[i], t.idx[i], t.signal("v").unwrap()[i])).collect::<Vec<_>>()).collect();
        rows.sort_by_key(|r| (r.0, r.1));
        rows
    }

    async fn reasons(&self) -> Vec<(i64, i32, String)> {
        let tables = self.objects(Table::Quarantine).await.into_iter().map(|b| read_quarantine(b).unwrap());
        let mut rows: Vec<_> = tables
            .flat_map(|t| (0..t.len()).map(|i| (t.seq[i], t.idx[i], t.reason.get(i).unwrap().to_owned())).collect::<Vec<_>>())
            .collect();
        rows.sort();
        rows
    }
}

#[tokio::test]
async fn every_message_is_archived_or_quarantined_and_then_released() {
    let rig = Rig::new();
    rig.send("fleet/a/telemetry", r#"{"ts": 1764000000000, "v": 1}"#);
    rig.send("fleet/a/telemetry", "junk");
    rig.send("fleet/a/telemetry", r#"[{"ts": 1764000000001, "v": 2}, {"ts": 1764000000002, "v": "x"}, {"ts": 1764000000003, "v": 4}]"#);
    rig.send("fleet/a b/telemetry", r#"{"ts": 1764000000000, "v": 1}"#);
    rig.send("somewhere/else", r#"{"ts": 1764000000000, "v": 1}"#);
    rig.send("fleet/a/events", r#"{"ts": 1764000000000, "event": "failure", "component": "motor_1"}"#);
    rig.send("fleet/a/telemetry", vec![b' '; 300_000]);
    rig.run().await;
    assert_eq!(rig.readings().await, [(0, 0, 1.0), (2, 0, 2.0), (2, 2, 4.0)]);
    let expected = [(1, 0, "not_json"), (2, 1, "not_a_number"), (3, 0, "bad_device"), (4, 0, "unknown_topic"), (6, 0, "too_large")];
    assert_eq!(rig.reasons().await, expected.map(|(s, i, r)| (s, i, r.to_owned())));
    assert_eq!(read_events(rig.objects(Table::Events).await.remove(0)).unwrap().row(0).unwrap().component, Some("motor_1"));
    assert_eq!(rig.inbox.released(), 7);
    assert_eq!(rig.stats.counts().released, 7);
}

#[tokio::test]
async fn the_same_message_again_is_dropped_and_released() {
    let rig = Rig::new();
    for _ in 0..3 {
        rig.send("fleet/a/telemetry", r#"{"ts": 1764000000000, "v": 1}"#);
    }
    rig.send("fleet/b/telemetry", r#"{"ts": 1764000000000, "v": 1}"#);
    rig.run().await;
    assert_eq!(rig.readings().await.len(), 2, "one of a, one of b");
    assert_eq!((rig.inbox.released(), rig.stats.counts().duplicates), (4, 2));
}

#[tokio::test]
async fn readings_go_to_the_partition_of_their_own_time() {
    let rig = Rig::new();
    rig.send("fleet/a/telemetry", r#"{"ts": "2025-11-23T23:59:59.999Z", "v": 1}"#);
    rig.send("fleet/a/telemetry", r#"{"ts": "2025-11-24T00:00:00Z", "v": 1}"#);
    rig.run().await;
    let keys = rig.keys().await;
    assert_eq!(keys.len(), 2);
    assert!(keys[0].starts_with("telemetry/date=2025-11-23/0707") && keys[1].starts_with("telemetry/date=2025-11-24/"), "{keys:?}");
}

#[tokio::test]
async fn nothing_is_released_while_the_store_fails() {
    use homeward_store::testing::{Fault, FaultyStore};
    let inner = Arc::new(object_store::memory::InMemory::new());
    let faulty = FaultyStore::new(inner, &[Fault::Before; 40], &[]);
    let mut rig = Rig::new();
    rig.store = Store::from_object_store(Arc::new(faulty), "").unwrap();
    rig.send("fleet/a/telemetry", r#"{"ts": 1764000000000, "v": 1}"#);
    let gave_up = tokio::time::timeout(Duration::from_millis(300), rig.run()).await;
    assert!(gave_up.is_err(), "ingest must keep trying");
    assert_eq!(rig.inbox.released(), 0);
    // Told to give up it ends, and still releases nothing.
    let told = tokio::time::timeout(Duration::from_secs(10), rig.run_until(tokio::time::sleep(Duration::from_millis(100)))).await;
    assert!(told.is_ok(), "a stop must end while the store is away");
    assert_eq!(rig.inbox.released(), 0);
}

#[tokio::test]
async fn a_noted_cut_is_stored_as_it_was_noted_though_settings_and_signals_have_changed() {
    let rig = Rig::new();
    for n in 0..7 {
        rig.send("fleet/a/telemetry", format!(r#"{{"ts": {}, "v": {n}, "x": 1}}"#, 1_764_000_000_000_i64 + n));
    }
    // An earlier run noted 0..=4, put some of it or all, and was killed.
    let earlier = Recipe::new(&fleet(SIGNALS), &WrittenTopics::default(), &settings());
    rig.inbox.attach("ingest").unwrap();
    rig.inbox.keep_note("ingest", Cut::new(0, 4, earlier).to_note().into()).await.unwrap();
    rig.inbox.close();
    rig.run_with(&settings(), r#"{"v": {"at": "/v"}, "x": {"at": "/x"}}"#, std::future::pending()).await;
    let ranges: Vec<String> = rig.keys().await.iter().map(|k| k.rsplit_once("07-").unwrap().1.to_owned()).collect();
    assert_eq!(ranges, ["0-4.parquet", "5-6.parquet"]);
    let tables: Vec<_> = rig.objects(Table::Telemetry).await.into_iter().map(|b| read_telemetry(b).unwrap()).collect();
    assert_eq!(tables[0].extra.get(0), Some(r#"{"x":1}"#), "x was no signal when the cut was noted");
    assert!(tables[0].signal("w").is_some() && tables[1].signal("w").is_none());
    assert_eq!((tables[1].signal("x").unwrap(), tables[1].extra.get(0)), (&[1.0, 1.0][..], None));
    assert_eq!(rig.readings().await.len(), 7);
    assert_eq!(rig.inbox.released(), 7);
}

#[tokio::test]
async fn a_cut_is_noted_before_its_first_put() {
    use homeward_store::testing::{Fault, FaultyStore};
    let faulty = FaultyStore::new(Arc::new(object_store::memory::InMemory::new()), &[Fault::Before; 40], &[]);
    let mut rig = Rig::new();
    rig.store = Store::from_object_store(Arc::new(faulty), "").unwrap();
    rig.send("fleet/a/telemetry", r#"{"ts": 1764000000000, "v": 1}"#);
    rig.run_until(tokio::time::sleep(Duration::from_millis(200))).await;
    let cut = Cut::from_note(&rig.inbox.note("ingest").unwrap()).unwrap().unwrap();
    assert_eq!((cut.first, cut.last), (0, 0));
}

#[test]
fn a_note_of_a_newer_version_is_refused_by_name() {
    let error = Cut::from_note(br#"{"format": 2, "first": 0, "last": 1, "shape": "new"}"#).unwrap_err();
    assert!(error.to_string().contains("form 2, this version reads up to 1"), "{error}");
    assert!(Cut::from_note(b"{").is_err() && Cut::from_note(b"").unwrap().is_none());
}

#[tokio::test]
async fn clocks_all_over_the_calendar_open_a_bounded_number_of_partitions_at_once() {
    let rig = Rig::new();
    for day in 0..200_i64 {
        rig.send("fleet/a/telemetry", format!(r#"{{"ts": {}, "v": {day}}}"#, 1_700_000_000_000 + day * 86_400_000));
    }
    let many = WrittenIngest { max_partitions: 10, max_age: "10m".into(), ..Default::default() };
    rig.inbox.close();
    rig.run_with(&Settings::check(&many, 65_535).unwrap(), SIGNALS, std::future::pending()).await;
    assert_eq!(rig.readings().await.len(), 200);
    let mut by_cut = std::collections::BTreeMap::<String, usize>::new();
    rig.keys().await.iter().for_each(|k| *by_cut.entry(k.rsplit_once('/').unwrap().1.to_owned()).or_default() += 1);
    assert_eq!(by_cut.len(), 20);
    assert!(by_cut.values().all(|partitions| *partitions <= 10), "{by_cut:?}");
}

#[tokio::test]
async fn a_clock_ahead_is_quarantined_by_the_verdict_of_its_arrival() {
    let rig = Rig { inbox: Arc::new(MemoryInbox::with_max_ahead(1_000)), ..Rig::new() };
    rig.send("fleet/a/telemetry", format!(r#"{{"ts": {}, "v": 1}}"#, NOW + 1_000));
    rig.send("fleet/a/telemetry", format!(r#"{{"ts": {}, "v": 2}}"#, NOW + 1_001));
    rig.run().await;
    assert_eq!(rig.readings().await, [(0, 0, 1.0)]);
    assert_eq!(rig.reasons().await, [(1, 0, "ts_in_future".to_owned())]);
}

#[tokio::test]
async fn junk_that_comes_twice_is_dropped_only_if_the_broker_says_it_sent_it_before() {
    let rig = Rig::new();
    for duplicate in [false, true, false] {
        rig.inbox.append(Arrived { duplicate, ..Arrived::new("fleet/a/telemetry", "junk", NOW) });
    }
    rig.run().await;
    assert_eq!(rig.reasons().await.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 2]);
}
