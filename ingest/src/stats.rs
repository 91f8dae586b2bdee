//! What ingest has done, in counters that others may read while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use homeward_models::Reason;
use homeward_models::quarantine;

/// Running counters.
#[derive(Debug)]
pub struct Stats {
    created: Instant,
    /// Microseconds from `created` to the first message and to the last release; 0 for neither yet.
    first: AtomicU64,
    last: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) readings: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) objects: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) released: AtomicU64,
    pub(crate) quarantined: [AtomicU64; quarantine::ALL.len()],
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages taken from the inbox.
    pub messages: u64,
    /// Readings taken into batches.
    pub readings: u64,
    /// Events taken into batches.
    pub events: u64,
    /// Messages dropped because the same was taken before.
    pub duplicates: u64,
    /// Objects put.
    pub objects: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Messages durable and released.
    pub released: u64,
    /// From the first message to the last release.
    pub busy: Duration,
    /// Messages or elements quarantined, by reason; only reasons that occurred.
    pub quarantined: Vec<(&'static str, u64)>,
}

pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

impl Default for Stats {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            created: Instant::now(),
            first: zero(),
            last: zero(),
            messages: zero(),
            readings: zero(),
            events: zero(),
            duplicates: zero(),
            objects: zero(),
            bytes: zero(),
            released: zero(),
            quarantined: Default::default(),
        }
    }
}

impl Stats {
    /// Messages have come: the first of them starts the clock of [`Counts::busy`].
    pub(crate) fn woke(&self) {
        _ = self.first.compare_exchange(0, self.micros(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// `messages` more are durable.
    pub(crate) fn released(&self, messages: usize) {
        add(&self.released, messages);
        self.last.store(self.micros(), Ordering::Relaxed);
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    pub(crate) fn quarantined(&self, reason: Reason) {
        if let Some(i) = quarantine::ALL.iter().position(|r| *r == reason) {
            add(&self.quarantined[i], 1);
        }
    }

    /// The counters now.
    pub fn counts(&self) -> Counts {
        let now = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let quarantined = quarantine::ALL.iter().zip(&self.quarantined).map(|(r, c)| (r.word(), now(c))).filter(|(_, n)| *n > 0);
        Counts {
            messages: now(&self.messages),
            readings: now(&self.readings),
            events: now(&self.events),
            duplicates: now(&self.duplicates),
            objects: now(&self.objects),
            bytes: now(&self.bytes),
            released: now(&self.released),
            busy: Duration::from_micros(now(&self.last).saturating_sub(now(&self.first))),
            quarantined: quarantined.collect(),
        }
    }
}
