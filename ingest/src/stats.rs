//! What ingest has done, in counters that others may read while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use homeward_broker::Latency;
use homeward_models::Reason;
use homeward_models::quarantine;

/// Running counters.
#[derive(Debug)]
pub struct Stats {
    created: Instant,
    /// Microseconds from `created` to the first message and to the last release; 0 for neither yet.
    first: AtomicU64,
    last: AtomicU64,
    /// Microseconds from `created`: since when a batch has been on its way to the store, and when the last one arrived; 0 for neither.
    storing: AtomicU64,
    stored: AtomicU64,
    /// How long a put took, attempts that failed included.
    pub put: Latency,
    /// How long the objects of a batch took to encode.
    pub encode: Latency,
    pub(crate) put_errors: AtomicU64,
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
    /// Attempts to put an object that failed and were made again.
    pub put_errors: u64,
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
            storing: zero(),
            stored: zero(),
            put: Latency::default(),
            encode: Latency::default(),
            put_errors: zero(),
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

    /// A batch is on its way to the store.
    pub(crate) fn storing(&self) {
        _ = self.storing.compare_exchange(0, self.micros(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// It arrived.
    pub(crate) fn stored(&self) {
        self.storing.store(0, Ordering::Relaxed);
        self.stored.store(self.micros(), Ordering::Relaxed);
    }

    /// For how long the batch that is being stored has been on its way; `None` if none is.
    pub fn storing_for(&self) -> Option<Duration> {
        self.since(&self.storing)
    }

    /// How long ago a batch was stored last; `None` if none was.
    pub fn since_stored(&self) -> Option<Duration> {
        self.since(&self.stored)
    }

    fn since(&self, moment: &AtomicU64) -> Option<Duration> {
        let at = moment.load(Ordering::Relaxed);
        (at > 0).then(|| Duration::from_micros(self.micros().saturating_sub(at)))
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
            put_errors: now(&self.put_errors),
            released: now(&self.released),
            busy: Duration::from_micros(now(&self.last).saturating_sub(now(&self.first))),
            quarantined: quarantined.collect(),
        }
    }
}
