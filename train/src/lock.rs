//! One training of a model at a time: a lock in the store, taken and given back by conditional puts, that runs out by itself.
//!
//! It spares work; what keeps the registry whole is that versions are immutable and the champion moves by a conditional put.

use std::time::Duration;

use bytes::Bytes;
use homeward_models::time::rfc3339;
use homeward_store::keys::{Key, ModelName};
use homeward_store::{Revision, Store, StoreError};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::TrainError;

/// A lock that is not renewed runs out after this long.
const LASTS: Duration = Duration::from_secs(30 * 60);

/// The lock's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    /// When the run began, milliseconds since 1970 UTC.
    since_ms: i64,
    /// When the lock runs out.
    until_ms: i64,
}

/// A lock that this run holds. Renewed in the background; given back by [`Lock::release`], or it runs out.
#[derive(Debug)]
pub(crate) struct Lock {
    store: Store,
    key: Key,
    renewing: JoinHandle<Revision>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Lock {
    /// Takes the lock of model `name`.
    ///
    /// # Errors
    /// [`TrainError::Busy`] if another run holds it, else as the store fails.
    pub(crate) async fn take(store: &Store, name: &ModelName, now_ms: i64) -> Result<Self, TrainError> {
        let key = Key::Training { name: name.clone() };
        let was = match store.get_revision(&key).await {
            Ok((bytes, revision)) => match serde_json::from_slice::<Held>(&bytes) {
                Ok(held) if held.until_ms > now_ms => return Err(busy(name, &held)),
                // Run out, or unreadable: nobody's.
                _ => Some(revision),
            },
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let held = Held { since_ms: now_ms, until_ms: now_ms + LASTS.as_millis() as i64 };
        let revision = match store.put_if(&key, bytes(&held)?, was.as_ref()).await {
            Ok(revision) => revision,
            Err(StoreError::Conflict { .. }) => return Err(busy(name, &held)),
            Err(error) => return Err(error.into()),
        };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let renewing = tokio::spawn(renew(store.clone(), key.clone(), held, revision, stopped));
        Ok(Self { store: store.clone(), key, renewing, stop })
    }

    /// Gives the lock back, unless another run has taken it over meanwhile.
    pub(crate) async fn release(self) {
        _ = self.stop.send(());
        let Ok(revision) = self.renewing.await else { return };
        let over = Held { since_ms: 0, until_ms: 0 };
        let given_back = match bytes(&over) {
            // An expired lock first: a delete has no condition, and must not take another's.
            Ok(bytes) => self.store.put_if(&self.key, bytes, Some(&revision)).await,
            Err(_) => return,
        };
        match given_back {
            Ok(_) => tracing::debug!(key = %self.key, "training lock given back"),
            Err(error) => tracing::warn!(key = %self.key, %error, "the training lock was not given back and runs out by itself"),
        }
    }
}

fn busy(name: &ModelName, held: &Held) -> TrainError {
    TrainError::Busy { name: name.to_string(), since: rfc3339(held.since_ms), until: rfc3339(held.until_ms) }
}

fn bytes(held: &Held) -> Result<Bytes, TrainError> {
    Ok(Bytes::from(serde_json::to_vec(held)?))
}

/// Renews the lock every third of its time until told to stop; returns its newest revision.
async fn renew(
    store: Store,
    key: Key,
    mut held: Held,
    mut revision: Revision,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) -> Revision {
    let every = LASTS / 3;
    loop {
        tokio::select! {
            _ = &mut stopped => return revision,
            () = tokio::time::sleep(every) => (),
        }
        held.until_ms += every.as_millis() as i64;
        let renewed = match bytes(&held) {
            Ok(bytes) => store.put_if(&key, bytes, Some(&revision)).await,
            Err(_) => return revision,
        };
        match renewed {
            Ok(newest) => revision = newest,
            Err(error) => tracing::warn!(%key, %error, "the training lock was not renewed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: i64 = 1_800_000_000_000;

    #[tokio::test]
    async fn one_run_at_a_time_and_the_next_after_it() {
        let store = Store::open("memory:///", std::iter::empty()).unwrap();
        let name: ModelName = "t".parse().unwrap();
        let lock = Lock::take(&store, &name, T).await.unwrap();
        let refused = Lock::take(&store, &name, T + 1000).await.unwrap_err().to_string();
        assert!(refused.starts_with("another training of t is under way since 2027-01-15T08:00:00"), "{refused}");
        lock.release().await;
        Lock::take(&store, &name, T + 2000).await.unwrap();
    }

    #[tokio::test]
    async fn a_lock_whose_run_died_runs_out_and_an_unreadable_one_is_nobodys() {
        let store = Store::open("memory:///", std::iter::empty()).unwrap();
        let name: ModelName = "t".parse().unwrap();
        let dead = Lock::take(&store, &name, T).await.unwrap();
        let later = T + LASTS.as_millis() as i64;
        assert!(Lock::take(&store, &name, later - 1).await.is_err());
        let taken = Lock::take(&store, &name, later).await.unwrap();
        dead.release().await;
        assert!(Lock::take(&store, &name, later + 1).await.is_err(), "the dead run has given back what was not its own");
        drop(taken);
        let key = Key::Training { name: name.clone() };
        store.put_over(&key, Bytes::from_static(b"?")).await.unwrap();
        Lock::take(&store, &name, later).await.unwrap();
    }

    #[tokio::test]
    async fn of_many_at_once_one_wins() {
        let store = Store::open("memory:///", std::iter::empty()).unwrap();
        let name: ModelName = "t".parse().unwrap();
        let mut tries = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (store, name) = (store.clone(), name.clone());
            tries.spawn(async move { Lock::take(&store, &name, T).await });
        }
        let taken = tries.join_all().await.into_iter().filter(Result::is_ok).count();
        assert_eq!(taken, 1);
    }
}
