//! What predict has done, in counters that others may read while it runs.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Running counters.
        #[derive(Debug, Default)]
        pub struct Stats { $(pub(crate) $name: AtomicU64),+ }

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
    /// Microseconds from the first message to the last release.
    busy_us,
}

pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}
