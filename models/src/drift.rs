//! Drift: whether the readings of a day are distributed as those that the model learnt from.
//!
//! Per feature, and for the risk, the model file holds quantile bins with the counts of training. A live day is counted into the same
//! bins, in constant memory, and compared by the population stability index, PSI = Σ (p − q) · ln(p ÷ q) over the bins (Siddiqi 2006), each
//! count smoothed by a half, and by the share that is missing. How much is too much is told by the training data: each of its days
//! against the others ([`Learner`]). A rule of thumb such as 0.2 alarms without end on a small fleet.

mod learn;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use learn::Learner;

/// Quantile bins of a quantity.
const BINS: usize = 10;
/// Of a device's accepted readings one in so many is counted: neighbours say the same thing, and counting all features costs as much as making them.
const STRIDE: u64 = 16;
const DAY_MS: i64 = 86_400_000;

/// Whether a device's `n`th accepted reading is counted.
pub fn is_counted(n: u64) -> bool {
    n.is_multiple_of(STRIDE)
}

/// How one quantity was distributed in training. The form of the model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantity {
    /// Upper edges of the bins but the last, strictly ascending: bin i holds edge\[i−1\] < x ≤ edge\[i\].
    pub edges: Vec<f64>,
    /// Training rows in each bin, one more than edges.
    pub counts: Vec<u64>,
    /// Training rows without a value.
    pub missing: u64,
    /// A day's PSI beyond this is unlike the days of training; none if there were too few of them to tell.
    pub psi_limit: Option<f64>,
    /// A day's share missing that differs from training's by more than this is unlike them.
    pub missing_limit: Option<f64>,
}

/// How everything was distributed in training. The form of the model file, checked by [`Reference::check`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// One a feature.
    pub features: Vec<Quantity>,
    /// Risk at the last horizon.
    pub risk: Quantity,
    /// A day on which more features than this are beyond their limits is unlike the days of training.
    pub features_limit: usize,
    /// A day of fewer counted rows is not judged.
    pub min_rows: u64,
}

/// A reference that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("drift: {quantity}: found {found}")]
pub struct BadReference {
    quantity: String,
    found: &'static str,
}

impl Quantity {
    /// The place of a value among bins and, last, missing.
    fn cell(&self, x: f64) -> usize {
        if x.is_nan() { self.counts.len() } else { self.edges.partition_point(|e| *e < x) }
    }

    fn cells(&self) -> usize {
        self.counts.len() + 1
    }

    fn fault(&self) -> Option<&'static str> {
        let bad_limit = |l: Option<f64>| l.is_some_and(|l| !(l.is_finite() && l >= 0.0));
        match () {
            () if self.counts.len() != self.edges.len() + 1 => Some("other than one bin more than edges"),
            () if !self.edges.iter().all(|e| e.is_finite()) || !self.edges.is_sorted_by(|a, b| a < b) => Some("edges that do not ascend"),
            () if bad_limit(self.psi_limit) || bad_limit(self.missing_limit) => Some("a limit that is none"),
            () => None,
        }
    }

    /// Compares a day's cells (bins, then missing) with training.
    fn compare(&self, day: &[u64]) -> Drifted {
        let (bins, missing) = day.split_at(self.counts.len());
        let psi = psi(&self.counts, bins);
        let share = |missing: u64, present: u64| missing as f64 / (missing + present).max(1) as f64;
        let live = share(missing[0], bins.iter().sum());
        let off = (live - share(self.missing, self.counts.iter().sum())).abs();
        let over = |value: f64, limit: Option<f64>| limit.is_some_and(|l| value > l);
        Drifted { psi, missing: live, beyond: over(psi, self.psi_limit) || over(off, self.missing_limit) }
    }
}

/// Population stability index of two counts over the same bins. 0 if one of them is empty: there is nothing to compare.
pub fn psi(expected: &[u64], found: &[u64]) -> f64 {
    let total = |counts: &[u64]| counts.iter().sum::<u64>();
    let (e, f) = (total(expected), total(found));
    if e == 0 || f == 0 {
        return 0.0;
    }
    let share = |count: u64, total: u64| (count as f64 + 0.5) / (total as f64 + 0.5 * expected.len() as f64);
    let one = |(a, b): (&u64, &u64)| {
        let (q, p) = (share(*a, e), share(*b, f));
        (p - q) * libm::log(p / q)
    };
    expected.iter().zip(found).map(one).sum()
}

impl Reference {
    /// Checks that counting into it cannot panic, and that it is for so many features.
    ///
    /// # Errors
    /// [`BadReference`] names the quantity.
    pub fn check(self, features: usize) -> Result<Self, BadReference> {
        if self.features.len() != features {
            return Err(BadReference { quantity: format!("{} features", self.features.len()), found: "another number than the model has" });
        }
        for (i, quantity) in self.quantities().enumerate() {
            if let Some(found) = quantity.fault() {
                let quantity = if i < features { format!("feature {i}") } else { "risk".into() };
                return Err(BadReference { quantity, found });
            }
        }
        Ok(self)
    }

    /// The features, then the risk.
    fn quantities(&self) -> impl Iterator<Item = &Quantity> {
        self.features.iter().chain([&self.risk])
    }
}

/// How a quantity of one day compares with training.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Drifted {
    /// Population stability index over the values present.
    pub psi: f64,
    /// Share of rows without a value, 0 to 1.
    pub missing: f64,
    /// Whether one of them is beyond the limits of training.
    pub beyond: bool,
}

/// How a day compares with training.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DayReport {
    /// The day, counted from 1970-01-01 UTC.
    pub day: i64,
    /// Rows counted.
    pub rows: u64,
    /// Whether there are enough of them for a judgement.
    pub judged: bool,
    /// One a feature.
    pub features: Vec<Drifted>,
    /// The risk.
    pub risk: Drifted,
    /// Whether the day is unlike the days of training: by its risk, or by more features than any of them.
    pub drifted: bool,
}

impl DayReport {
    /// Columns of the features beyond their limits, the farthest first.
    pub fn beyond(&self) -> Vec<usize> {
        let mut beyond: Vec<usize> = (0..self.features.len()).filter(|f| self.features[*f].beyond).collect();
        beyond.sort_by(|a, b| self.features[*b].psi.total_cmp(&self.features[*a].psi));
        beyond
    }
}

/// Counts the present day. Its memory is that of the bins, however many readings come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    day: Option<i64>,
    rows: u64,
    /// Bins and missing of each quantity, one after the other.
    cells: Vec<u64>,
}

impl Monitor {
    /// Counts a row that arrived at `now` (milliseconds since 1970 UTC) with its risk at the last horizon. The first row of another day
    /// returns the report of the day before it.
    pub fn add(&mut self, reference: &Reference, now: i64, row: &[f64], risk: f64) -> Option<DayReport> {
        let day = now.div_euclid(DAY_MS);
        let over = if self.day.is_some_and(|d| d != day) { self.report(reference) } else { None };
        let size = reference.quantities().map(Quantity::cells).sum();
        if self.day != Some(day) || self.cells.len() != size {
            *self = Self { day: Some(day), rows: 0, cells: vec![0; size] };
        }
        self.rows += 1;
        count(reference, &mut self.cells, row, risk);
        over
    }

    /// How the present day compares so far; `None` before its first row.
    pub fn report(&self, reference: &Reference) -> Option<DayReport> {
        let day = self.day?;
        let judged = self.rows >= reference.min_rows;
        let mut cells = self.cells.as_slice();
        let mut each = Vec::with_capacity(reference.features.len() + 1);
        for quantity in reference.quantities() {
            let (own, rest) = cells.split_at_checked(quantity.cells())?;
            let found = quantity.compare(own);
            each.push(Drifted { beyond: judged && found.beyond, ..found });
            cells = rest;
        }
        let risk = each.pop()?;
        let beyond = each.iter().filter(|d| d.beyond).count();
        Some(DayReport { day, rows: self.rows, judged, features: each, risk, drifted: risk.beyond || beyond > reference.features_limit })
    }
}

/// Counts one row.
fn count(reference: &Reference, cells: &mut [u64], row: &[f64], risk: f64) {
    let mut at = 0;
    for (quantity, value) in reference.quantities().zip(row.iter().chain([&risk])) {
        cells[at + quantity.cell(*value)] += 1;
        at += quantity.cells();
    }
}
