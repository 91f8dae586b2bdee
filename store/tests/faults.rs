//! A store that times out after having stored, that fails for a while, that says 409 without reason.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use homeward_store::keys::{ArchiveKey, Key, ModelVersion, Partition, Table, WriterId};
use homeward_store::testing::{Fault, FaultyStore};
use homeward_store::{Put, Registry, Retry, Store, StoreError};
use object_store::memory::InMemory;

const ROWS: Bytes = Bytes::from_static(b"rows");

fn key() -> Key {
    let partition = Partition::day(Table::Telemetry, 0).unwrap();
    ArchiveKey::new(partition, WriterId::from_bytes([1; 8]), 0, 1).unwrap().into()
}

fn faulty(puts: &[Fault], gets: &[Fault]) -> Store {
    let inner = FaultyStore::new(Arc::new(InMemory::new()), puts, gets);
    let retry = Retry { attempts: 3, pause: Duration::from_millis(1), ..Retry::default() };
    Store::from_object_store(Arc::new(inner), "").unwrap().with_retry(retry)
}

async fn check_put(puts: &[Fault], gets: &[Fault], expected: Put) {
    let store = faulty(puts, gets);
    assert_eq!(store.put_new(&key(), ROWS).await.unwrap(), expected, "{puts:?} {gets:?}");
    assert_eq!(store.get(&key()).await.unwrap(), ROWS);
}

#[tokio::test]
async fn an_answer_lost_after_storing_is_success() {
    check_put(&[Fault::After], &[], Put::AlreadyThere).await;
    check_put(&[Fault::Before, Fault::After], &[], Put::AlreadyThere).await;
    // Also on the last attempt, which no further put could tell.
    check_put(&[Fault::Before, Fault::Before, Fault::After], &[], Put::AlreadyThere).await;
    // And if looking takes two attempts.
    check_put(&[Fault::After], &[Fault::Before, Fault::None, Fault::Before], Put::AlreadyThere).await;
}

#[tokio::test]
async fn a_few_errors_are_outlasted() {
    check_put(&[Fault::Before, Fault::Before], &[], Put::Stored).await;
    check_put(&[], &[Fault::Before, Fault::Before], Put::Stored).await;
}

#[tokio::test]
async fn a_conflict_about_nothing_is_put_again() {
    check_put(&[Fault::Exists], &[], Put::Stored).await;
}

#[tokio::test]
async fn a_store_that_stays_down_is_unavailable_and_says_for_how_long_it_was_tried() {
    let store = faulty(&[Fault::Before; 3], &[Fault::Before; 9]);
    let error = store.put_new(&key(), ROWS).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { attempts: 3, .. }), "{error}");
    assert!(error.is_transient() && error.to_string().starts_with(&key().to_string()));
}

#[tokio::test]
async fn a_lost_answer_to_other_rows_is_a_conflict_not_success() {
    let memory = Arc::new(InMemory::new());
    let plain = Store::from_object_store(memory.clone(), "").unwrap();
    plain.put_new(&key(), ROWS).await.unwrap();
    let failing = FaultyStore::new(memory, &[Fault::Before; 3], &[]);
    let retry = Retry { attempts: 3, pause: Duration::ZERO, ..Retry::default() };
    let store = Store::from_object_store(Arc::new(failing), "").unwrap().with_retry(retry);
    let error = store.put_new(&key(), Bytes::from_static(b"else")).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
}

#[tokio::test]
async fn a_promotion_or_rollback_whose_answer_is_lost_happens_once() {
    let faults = [Fault::None, Fault::None, Fault::After, Fault::None, Fault::None, Fault::After, Fault::After];
    let registry = Registry::new(faulty(&faults, &[]), "m".parse().unwrap());
    for n in 1..=2 {
        let version = ModelVersion::new(n * 1000, 0).unwrap();
        registry.put_version(&version, ROWS, ROWS, None).await.unwrap();
        assert_eq!(registry.promote(&version, "better", n).await.unwrap().version, version);
    }
    let back = registry.rollback(3).await.unwrap();
    assert_eq!((back.version, back.previous), (ModelVersion::new(1000, 0).unwrap(), None));
}
