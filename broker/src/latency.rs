//! How long something takes, as a histogram that any thread may add to.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets, seconds: 0.5 ms doubling to 16.4 s; what is longer counts only in the total.
const BOUNDS: [f64; 16] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; BOUNDS.len()],
    beyond: AtomicU64,
    micros: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LatencyView {
    /// Observations in all.
    pub count: u64,
    /// Their sum, seconds.
    pub sum_s: f64,
    /// Upper bound of each bucket in seconds, the last infinite, and how many observations fell into it and into no smaller one.
    pub buckets: Vec<(f64, u64)>,
}

impl Latency {
    /// Adds an observation.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).map_or(&self.beyond, |at| &self.buckets[at]);
        bucket.fetch_add(1, Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The histogram now.
    pub fn view(&self) -> LatencyView {
        let bounded = BOUNDS.iter().zip(&self.buckets).map(|(bound, n)| (*bound, n.load(Relaxed)));
        let buckets: Vec<(f64, u64)> = bounded.chain([(f64::MAX, self.beyond.load(Relaxed))]).collect();
        LatencyView { count: buckets.iter().map(|b| b.1).sum(), sum_s: self.micros.load(Relaxed) as f64 / 1e6, buckets }
    }
}

impl LatencyView {
    /// The bound of the bucket that holds the `share` quantile (0 to 1), seconds; 0 without observations.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.count as f64 * share).ceil();
        let mut seen = 0.0;
        let mut within = self.buckets.iter().filter(|(_, n)| {
            seen += *n as f64;
            *n > 0 && seen >= wanted
        });
        within.next().map_or(0.0, |(bound, _)| *bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_falls_into_the_first_bucket_that_holds_it() {
        let latency = Latency::default();
        for ms in [0, 1, 3, 3, 60_000] {
            latency.observe(Duration::from_millis(ms));
        }
        let view = latency.view();
        let filled: Vec<_> = view.buckets.iter().filter(|(_, n)| *n > 0).copied().collect();
        assert_eq!(filled, [(0.0005, 1), (0.001, 1), (0.004, 2), (f64::MAX, 1)]);
        assert_eq!((view.count, view.sum_s), (5, 60.007));
        assert_eq!((view.quantile(0.5), Latency::default().view().quantile(0.5)), (0.004, 0.0));
    }
}
