//! What predict has done, in counters that others may read while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use homeward_models::drift::DayReport;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Running counters.
        #[derive(Debug, Default)]
        pub struct Stats { $(pub(crate) $name: AtomicU64,)+ pub(crate) drift: Mutex<Option<Drift>> }

        /// The counters at one moment.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[$doc])* pub $name: u64),+ }

        impl Stats {
            /// The counters now.
            pub fn counts(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed)),+ }
            }
        }
    };
}

counters! {
    /// Messages taken from the inbox.
    messages,
    /// Readings that a model scored.
    scored,
    /// Readings that no model was there to score.
    unscored,
    /// Readings refused as late or duplicate.
    refused,
    /// Messages that were taken before, and messages or elements that ingest quarantines.
    skipped,
    /// Alerts raised.
    raised,
    /// Alerts cleared.
    cleared,
    /// Calls confirmed by the broker.
    calls,
    /// Publishes that the broker refused.
    failed,
    /// Models taken into service.
    models,
    /// Models refused.
    models_refused,
    /// Rows written for the scores archive.
    score_rows,
    /// Objects of scores put into the store.
    score_objects,
    /// Attempts to put one that failed and were made again.
    put_errors,
    /// Times that everything remembered was kept on disk.
    kept,
    /// Attempts to keep it that failed and were made again.
    keep_errors,
    /// Devices whose kept state could not be restored.
    states_lost,
    /// Days whose readings were unlike those of training.
    drifted_days,
    /// Microseconds from the first message to the last release.
    busy_us,
}

/// How the present day's readings compare with those of training, so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drift {
    /// Names of the features.
    pub features: std::sync::Arc<[String]>,
    /// The comparison.
    pub day: DayReport,
}

impl Stats {
    /// How the present day compares so far; `None` before its first counted reading, or with a model that knows nothing of drift.
    pub fn drift(&self) -> Option<Drift> {
        self.drift.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_drift(&self, drift: Option<Drift>) {
        *self.drift.lock().unwrap_or_else(PoisonError::into_inner) = drift;
    }
}

pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}
