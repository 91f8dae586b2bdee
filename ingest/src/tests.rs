//! What ingest does with messages, good and bad, and with a store that fails.

use std::sync::Arc;
use std::time::Duration;

use homeward_broker::{Inbox, Incoming as Arrived, MemoryInbox};
use homeward_models::topic::{Topics, WrittenTopics};
use homeward_models::{Fleet, WrittenFleet};
use homeward_store::Store;
use homeward_store::archive::{read_events, read_quarantine, read_telemetry};
use homeward_store::keys::{Prefix, Table, WriterId};

use crate::{Batcher, Settings, Stats, Uploader, WrittenIngest, run};

const NOW: i64 = 1_764_000_000_500;

fn fleet() -> Fleet {
    let written: WrittenFleet = serde_json::from_str(r#"{"name": "t", "signals": {"v": {"at": "/v"}, "w": {"at": "/w"}}}"#).unwrap();
    Fleet::check(&written).unwrap()
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
        let settings = Settings::check(&WrittenIngest { max_rows: 3, max_age: "20ms".into(), ..Default::default() }, 65_535).unwrap();
        let topics = Topics::check(&WrittenTopics::default()).unwrap();
        self.inbox.close();
        let writer = WriterId::from_bytes([7; 8]);
        let batcher = Batcher::new(&fleet(), &topics, &settings, self.stats.clone()).unwrap();
        let uploader = Uploader::new(self.store.clone(), writer, settings.zstd_level, self.stats.clone());
        run(self.inbox.clone(), batcher, uploader, settings.max_age, self.stats.clone(), give_up).await.unwrap();
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
    let keys: Vec<String> = rig.store.list(&Prefix::Table(Table::Telemetry)).await.unwrap().iter().map(|e| e.key.to_string()).collect();
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
