//! The service with its keeper: nothing is kept or released before the broker has confirmed what it led to, and nothing is lost with a journal's end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use homeward_broker::{Inbox, MemoryInbox, MemoryOutbox};
use homeward_store::archive::read_scores;
use homeward_store::keys::{ModelVersion, Table};
use homeward_store::{Registry, Store};
use serde_json::json;

use super::{BASE, fleet, model, settings, told, topics};
use crate::{Keeper, Stats, run};

/// Predict at work with a keeper, on an inbox that outlives it.
struct Rig {
    dir: tempfile::TempDir,
    store: Store,
    inbox: Arc<MemoryInbox>,
    outbox: Arc<MemoryOutbox>,
    stats: Arc<Stats>,
}

impl Rig {
    async fn new() -> Self {
        let store = Store::open("memory:///", std::iter::empty()).unwrap();
        let registry = Registry::new(store.clone(), "t".parse().unwrap());
        let version = ModelVersion::new(BASE, 1).unwrap();
        registry.put_version(&version, Bytes::from(model(None).to_bytes().unwrap()), Bytes::from_static(b"{}"), None).await.unwrap();
        registry.promote(&version, "test", BASE).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { dir, store, inbox: Arc::default(), outbox: Arc::default(), stats: Arc::default() }
    }

    fn start(&self) -> tokio::task::JoinHandle<()> {
        let keeper = Keeper::open(self.dir.path().to_owned(), [7; 8], self.store.clone(), 1, self.stats.clone()).unwrap();
        let (inbox, outbox, stats, registry) =
            (self.inbox.clone(), self.outbox.clone(), self.stats.clone(), Registry::new(self.store.clone(), "t".parse().unwrap()));
        tokio::spawn(async move {
            run(inbox, outbox, registry, &fleet(), &topics(), &settings(), Some(Arc::new(keeper)), stats, std::future::pending())
                .await
                .unwrap();
        })
    }

    fn hot(&self, second: i64) {
        let body = json!({"ts": BASE + second * 1_000, "temp": 90.0, "lat": 37.001, "lon": 127.0}).to_string();
        self.inbox.append(homeward_broker::Incoming::new("fleet/a/telemetry", body, BASE + 3_600_000));
    }

    async fn until(&self, what: &str, done: impl Fn() -> bool) {
        for _ in 0..1_000 {
            if done() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("waited in vain: {what}");
    }

    fn alerts(&self) -> Vec<String> {
        let calls = self.outbox.published().into_iter().filter(|o| o.topic.ends_with("return-to-base"));
        calls.map(|o| serde_json::from_slice::<serde_json::Value>(&o.payload).unwrap()["alert_id"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn nothing_is_kept_or_released_before_the_broker_has_confirmed_what_it_led_to() {
    let rig = Rig::new().await;
    let first = rig.start();
    rig.until("the model is kept", || rig.stats.counts().kept == 1).await;
    rig.outbox.hang();
    (0..3).for_each(|second| rig.hot(second));
    rig.until("all is scored", || rig.stats.counts().scored == 3).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((rig.inbox.released(), rig.alerts().len()), (0, 0));
    // Killed: what was never confirmed is said again, under the same name.
    first.abort();
    rig.outbox.resume();
    let unconfirmed = rig.alerts();
    rig.outbox.take_published();
    let second = rig.start();
    rig.until("all is released", || rig.inbox.released() == 3).await;
    assert_eq!(unconfirmed.len(), 1);
    assert_eq!(rig.alerts(), unconfirmed);
    // Killed again, after it was kept: it stands, and is not raised a second time.
    second.abort();
    rig.outbox.take_published();
    let third = rig.start();
    (3..6).for_each(|second| rig.hot(second));
    rig.until("the rest is released", || rig.inbox.released() == 6).await;
    assert_eq!(rig.stats.counts().raised, 2, "once by the first, once by the second for the first");
    assert!(rig.alerts().iter().all(|a| *a == unconfirmed[0]), "{:?}", rig.alerts());
    rig.inbox.close();
    third.await.unwrap();
    let mut rows = Vec::new();
    for entry in rig.store.archive(Table::Scores).await.unwrap() {
        rows.extend(told(&read_scores(rig.store.get(&entry.key).await.unwrap()).unwrap()));
    }
    assert_eq!(rows.iter().filter(|r| r.contains("\"scored\"")).count(), 6, "each reading once: {rows:#?}");
}

/// The disk took back the journal's end, but not what was remembered of it: new messages come under positions that were scored before.
#[tokio::test]
async fn messages_behind_a_journal_that_lost_its_end_are_scored() {
    let mut rig = Rig::new().await;
    let first = rig.start();
    (0..3).for_each(|second| rig.hot(second));
    rig.until("all is kept and released", || rig.inbox.released() == 3).await;
    first.abort();
    rig.inbox = Arc::default();
    let second = rig.start();
    (3..5).for_each(|second| rig.hot(second));
    rig.until("what came since is scored", || rig.stats.counts().scored == 5).await;
    rig.until("and released", || rig.inbox.released() == 2).await;
    rig.inbox.close();
    second.await.unwrap();
    assert_eq!(rig.stats.counts().raised, 1, "the alert stands on");
}
