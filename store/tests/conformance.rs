//! One suite that every kind of store passes: memory, local files, and S3 (SeaweedFS, where it is installed).
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::sync::Arc;

use bytes::Bytes;
use homeward_store::keys::{ArchiveKey, Key, ModelVersion, Partition, Prefix, Table, WriterId};
use homeward_store::testing::S3Server;
use homeward_store::{ChampionChange, Put, Registry, Store, StoreError};

fn key(table: Table, day: i64, first: u64) -> Key {
    let partition = Partition::day(table, day * 86_400_000).unwrap();
    ArchiveKey::new(partition, WriterId::from_bytes([9; 8]), first, first + 1).unwrap().into()
}

fn version(n: u64) -> ModelVersion {
    ModelVersion::new(i64::try_from(n).unwrap() * 1000, n).unwrap()
}

async fn all(store: &Store) {
    puts(store).await;
    lists(store).await;
    conditions(store).await;
    concurrent_puts(store).await;
    versions(store).await;
    champions(store).await;
    two_promoters(store).await;
    unreadable_champions(store).await;
}

async fn puts(store: &Store) {
    let at = key(Table::Telemetry, 1, 0);
    assert!(matches!(store.get(&at).await, Err(StoreError::NotFound { key }) if key == at.to_string()));
    assert!(matches!(store.head(&at).await, Err(StoreError::NotFound { .. })));
    let bytes = Bytes::from_static(b"some rows");
    assert_eq!(store.put_new(&at, bytes.clone()).await.unwrap(), Put::Stored);
    assert_eq!(store.put_new(&at, bytes.clone()).await.unwrap(), Put::AlreadyThere);
    for other in ["same size", "another size"] {
        let refused = store.put_new(&at, Bytes::from_static(other.as_bytes())).await;
        assert!(matches!(refused, Err(StoreError::Conflict { key, .. }) if key == at.to_string()), "{other}");
    }
    assert_eq!(store.get(&at).await.unwrap(), bytes);
    store.put_over(&at, Bytes::from_static(b"new")).await.unwrap();
    assert_eq!(store.get(&at).await.unwrap(), "new");
    let head = store.head(&at).await.unwrap();
    assert_eq!((head.key.clone(), head.size), (at.clone(), 3));
    assert!(head.etag.is_some());
    store.delete(&at).await.unwrap();
    store.delete(&at).await.unwrap();
    assert!(matches!(store.get(&at).await, Err(StoreError::NotFound { .. })));
    assert_eq!(store.put_new(&at, Bytes::new()).await.unwrap(), Put::Stored);
    assert_eq!(store.get(&at).await.unwrap(), Bytes::new());
    store.delete(&at).await.unwrap();
}

async fn lists(store: &Store) {
    assert!(store.list(&Prefix::Table(Table::Events)).await.unwrap().is_empty());
    let keys = [key(Table::Events, 1, 9), key(Table::Events, 1, 10), key(Table::Events, 2, 0)];
    for (size, key) in keys.iter().enumerate().rev() {
        store.put_new(key, vec![b'x'; size + 1].into()).await.unwrap();
    }
    store.put_new(&key(Table::Scores, 1, 0), Bytes::from_static(b"x")).await.unwrap();
    let list = async |prefix| store.list(&prefix).await.unwrap();
    let found = list(Prefix::Table(Table::Events)).await;
    assert_eq!(found.iter().map(|e| e.key.clone()).collect::<Vec<_>>(), keys);
    assert_eq!(found.iter().map(|e| e.size).collect::<Vec<_>>(), [1, 2, 3]);
    let day = Partition::day(Table::Events, 86_400_000).unwrap();
    assert_eq!(list(Prefix::Partition(day)).await, found[..2]);
    assert_eq!(list(Prefix::All).await.len(), 4);
    for entry in list(Prefix::All).await {
        store.delete(&entry.key).await.unwrap();
    }
}

async fn conditions(store: &Store) {
    let at = key(Table::Scores, 3, 0);
    let first = store.put_if(&at, Bytes::from_static(b"1"), None).await.unwrap();
    let taken = store.put_if(&at, Bytes::from_static(b"2"), None).await;
    assert!(matches!(taken, Err(StoreError::Conflict { .. })));
    assert_eq!(store.get_if_changed(&at, &first).await.unwrap(), None);
    let second = store.put_if(&at, Bytes::from_static(b"2"), Some(&first)).await.unwrap();
    assert_ne!(first, second);
    let stale = store.put_if(&at, Bytes::from_static(b"3"), Some(&first)).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })));
    let (bytes, read) = store.get_if_changed(&at, &first).await.unwrap().unwrap();
    assert_eq!((bytes, read.etag()), (Bytes::from_static(b"2"), second.etag()));
    store.delete(&at).await.unwrap();
    let gone = store.put_if(&at, Bytes::from_static(b"4"), Some(&second)).await;
    assert!(matches!(gone, Err(StoreError::Conflict { .. })), "{gone:?}");
}

async fn concurrent_puts(store: &Store) {
    let at = key(Table::Quarantine, 1, 0);
    let puts = (0..8u8).map(|n| {
        let (store, at) = (store.clone(), at.clone());
        tokio::spawn(async move { store.put_new(&at, vec![n; 1000].into()).await.is_ok() })
    });
    let mut stored = 0;
    for put in puts.collect::<Vec<_>>() {
        stored += usize::from(put.await.unwrap());
    }
    assert_eq!(stored, 1, "of eight different objects for one key exactly one is stored");
    let bytes = store.get(&at).await.unwrap();
    assert!(bytes.len() == 1000 && bytes.iter().all(|b| *b == bytes[0]));
    store.delete(&at).await.unwrap();
}

fn registry(store: &Store, name: &str) -> Registry {
    Registry::new(store.clone(), name.parse().unwrap())
}

async fn add(registry: &Registry, n: u64) -> ModelVersion {
    let model = Bytes::from(vec![b'm'; usize::try_from(n).unwrap()]);
    registry.put_version(&version(n), model, Bytes::from_static(b"{}"), None).await.unwrap();
    version(n)
}

async fn versions(store: &Store) {
    let registry = registry(store, "versions");
    assert!(registry.versions().await.unwrap().is_empty());
    let (model, metrics) = (Bytes::from_static(b"model"), Bytes::from_static(b"metrics"));
    let put = async |model: &Bytes, report| registry.put_version(&version(2), model.clone(), metrics.clone(), report).await;
    assert_eq!(put(&model, Some(Bytes::from_static(b"<p>"))).await.unwrap(), Put::Stored);
    assert_eq!(put(&model, None).await.unwrap(), Put::AlreadyThere);
    assert!(matches!(put(&metrics, None).await, Err(StoreError::Conflict { .. })));
    assert_eq!(registry.get_model(&version(2)).await.unwrap(), model);
    assert_eq!(registry.get_metrics(&version(2)).await.unwrap(), metrics);
    add(&registry, 1).await;
    // A version whose trainer died before the model was put is not there yet.
    let half = Key::Model { name: registry.name().clone(), version: version(3), file: homeward_store::keys::ModelFile::Metrics };
    store.put_new(&half, metrics.clone()).await.unwrap();
    assert_eq!(registry.versions().await.unwrap(), [version(1), version(2)]);
    assert!(matches!(registry.promote(&version(3), "half", 0).await, Err(StoreError::NotFound { .. })));
}

async fn champions(store: &Store) {
    let registry = registry(store, "champions");
    assert_eq!(registry.champion().await.unwrap(), None);
    assert!(matches!(registry.rollback(0).await, Err(StoreError::NotFound { .. })));
    let (v1, v2, v3) = (add(&registry, 1).await, add(&registry, 2).await, add(&registry, 3).await);
    let first = registry.promote(&v1, "first", 10).await.unwrap();
    assert_eq!(registry.champion().await.unwrap().as_ref(), Some(&first));
    assert_eq!((first.version.clone(), first.previous.clone(), first.promoted_at_ms), (v1.clone(), None, 10));
    assert_eq!(registry.champion_if_changed(&first.revision).await.unwrap(), ChampionChange::Same);
    assert_eq!(registry.promote(&v1, "again", 11).await.unwrap(), first);
    assert!(matches!(registry.rollback(11).await, Err(StoreError::Invalid { .. })));
    let second = registry.promote(&v2, "cheaper", 20).await.unwrap();
    assert_eq!((second.previous.as_ref(), second.why.as_str()), (Some(&v1), "cheaper"));
    let moved = registry.champion_if_changed(&first.revision).await.unwrap();
    assert_eq!(moved, ChampionChange::Moved(second));
    registry.promote(&v3, "cheaper still", 30).await.unwrap();
    let back = registry.rollback(40).await.unwrap();
    assert_eq!((&back.version, back.previous.as_ref(), back.promoted_at_ms), (&v2, Some(&v1), 40));
    assert!(back.why.contains(v3.as_str()));
    assert_eq!(registry.rollback(50).await.unwrap().version, v1);
    assert!(matches!(registry.rollback(60).await, Err(StoreError::Invalid { .. })));
}

/// Many at once: every promotion takes effect exactly once, and the history tells all of them.
async fn two_promoters(store: &Store) {
    let registry = registry(store, "races");
    for n in 1..=6 {
        add(&registry, n).await;
    }
    let promotions: Vec<_> = (1..=6)
        .map(|n| {
            let registry = registry.clone();
            tokio::spawn(async move { registry.promote(&version(n), "race", 0).await })
        })
        .collect();
    for promotion in promotions {
        promotion.await.unwrap().unwrap();
    }
    let mut seen = vec![registry.champion().await.unwrap().unwrap().version];
    while let Ok(champion) = registry.rollback(1).await {
        seen.push(champion.version);
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=6).map(version).collect::<Vec<_>>());
}

async fn unreadable_champions(store: &Store) {
    let registry = registry(store, "newer");
    let v1 = add(&registry, 1).await;
    let pointer = Key::Champion { name: registry.name().clone() };
    store.put_over(&pointer, Bytes::from_static(b"{\"format\":2,\"all\":\"new\"}")).await.unwrap();
    let refused = registry.promote(&v1, "", 0).await;
    assert!(matches!(refused, Err(StoreError::Newer { found: 2, supported: 1, ref key }) if *key == pointer.to_string()));
    store.put_over(&pointer, Bytes::from_static(b"{\"format\":1,\"version\":\"v1\"}")).await.unwrap();
    assert!(matches!(registry.champion().await, Err(StoreError::Invalid { .. })));
    assert!(store.get(&pointer).await.unwrap().starts_with(b"{\"format\":1"), "a pointer that is not understood stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    all(&Store::open("memory:///", std::iter::empty()).unwrap()).await;
    let shared = Arc::new(object_store::memory::InMemory::new());
    for prefix in ["a", "a/b c"] {
        // Stores below different prefixes of one bucket do not see each other's objects as their own.
        all(&Store::from_object_store(shared.clone(), prefix).unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_files() {
    let dir = tempfile::tempdir().unwrap();
    let url = url::Url::from_directory_path(dir.path().join("not there yet")).unwrap();
    all(&Store::open(url.as_str(), std::iter::empty()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3() {
    let server = match S3Server::start() {
        Ok(server) => server,
        Err(reason) if std::env::var_os("HOMEWARD_TEST_ALL").is_some() => panic!("HOMEWARD_TEST_ALL is set, but no S3 server: {reason}"),
        Err(reason) => return eprintln!("SKIPPED: the conformance suite over S3: {reason}"),
    };
    let options = server.options();
    all(&Store::open(&server.url("fleet/one"), options.clone().into_iter()).unwrap()).await;
    let nowhere = Store::open("s3://no-such-bucket/x", options.into_iter()).unwrap();
    let error = nowhere.put_new(&key(Table::Events, 1, 0), Bytes::from_static(b"x")).await;
    assert!(error.is_err(), "{error:?}");
}
