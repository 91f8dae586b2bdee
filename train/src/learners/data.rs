//! What learners learn from: rows of the binned matrix, and what is known of each.

use std::borrow::Cow;

use homeward_models::label::{Label, RowLabel};
use linfa::dataset::Records;
use rayon::prelude::*;

use crate::binned::{Binned, LANES};

/// What is known of a row for one horizon: whether it failed in (h_{k−1}, h_k], given that it did not before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody knows, or it failed before.
    Unknown,
    /// It did not.
    Survived,
    /// It did.
    Failed,
}

/// What is known of every row of a matrix, horizon by horizon, and how much each row weighs.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    outcomes: Vec<Vec<Outcome>>,
    weights: Option<Vec<f32>>,
}

impl Targets {
    /// One horizon, everything known.
    pub fn binary(failed: impl IntoIterator<Item = bool>) -> Self {
        let of = |failed| if failed { Outcome::Failed } else { Outcome::Survived };
        Self { outcomes: vec![failed.into_iter().map(of).collect()], weights: None }
    }

    /// One list of outcomes a horizon, each as long as the matrix.
    pub fn new(outcomes: Vec<Vec<Outcome>>) -> Self {
        Self { outcomes, weights: None }
    }

    /// From labels, `horizons` ascending in milliseconds: each horizon is censored on its own, and a row that failed is unknown beyond.
    pub fn of_labels(labels: &[RowLabel], horizons: &[i64]) -> Self {
        let mut outcomes = vec![vec![Outcome::Unknown; labels.len()]; horizons.len()];
        for (row, label) in labels.iter().enumerate() {
            for (k, horizon) in horizons.iter().enumerate() {
                let outcome = match label.at(*horizon) {
                    Label::Unknown => break,
                    Label::Negative => Outcome::Survived,
                    Label::Positive => Outcome::Failed,
                };
                outcomes[k][row] = outcome;
                if outcome == Outcome::Failed {
                    break;
                }
            }
        }
        Self { outcomes, weights: None }
    }

    /// Weighs rows, finite and at least 0; without this all weigh 1. Two rows of weight 1 count as one of weight 2.
    pub fn with_weights(self, weights: Vec<f32>) -> Self {
        Self { weights: Some(weights), ..self }
    }

    /// Number of horizons.
    pub fn horizons(&self) -> usize {
        self.outcomes.len()
    }

    /// What is known of `row` for horizon `k`.
    pub fn outcome(&self, row: usize, k: usize) -> Outcome {
        self.outcomes[k][row]
    }

    /// What `row` weighs.
    pub fn weight(&self, row: usize) -> f32 {
        self.weights.as_ref().map_or(1.0, |w| w[row])
    }

    /// What `row` weighs for horizon `k`: nothing if nothing is known.
    pub(crate) fn weight_at(&self, row: usize, k: usize) -> f32 {
        if self.outcome(row, k) == Outcome::Unknown { 0.0 } else { self.weight(row) }
    }

    /// 1 if `row` failed at horizon `k`, else 0.
    pub(crate) fn failed(&self, row: usize, k: usize) -> f32 {
        f32::from(u8::from(self.outcome(row, k) == Outcome::Failed))
    }

    /// Weight of the failed and of all known rows among `rows`, a horizon.
    pub(crate) fn weights_of(&self, rows: &[u32], k: usize) -> (f64, f64) {
        rows.iter().fold((0.0, 0.0), |(failed, known), row| {
            let weight = f64::from(self.weight_at(*row as usize, k));
            (failed + weight * f64::from(self.failed(*row as usize, k)), known + weight)
        })
    }

    /// The rate at horizon `k` over `rows`, drawn inside (0, 1) by half a row on either side.
    pub(crate) fn rate(&self, rows: &[u32], k: usize) -> f64 {
        let (failed, known) = self.weights_of(rows, k);
        (failed + 0.5) / (known + 1.0)
    }
}

/// The rows that a learner is fitted on, and those that tell it when to stop.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The matrix.
    pub binned: &'a Binned,
    /// Rows to fit on, ascending.
    pub rows: &'a [u32],
    /// Rows that early stopping watches; none if empty.
    pub valid: &'a [u32],
}

impl<'a> Sample<'a> {
    /// Rows to fit on, without early stopping.
    pub fn new(binned: &'a Binned, rows: &'a [u32]) -> Self {
        Self { binned, rows, valid: &[] }
    }
}

impl Records for Sample<'_> {
    type Elem = u8;

    fn nsamples(&self) -> usize {
        self.rows.len()
    }

    fn nfeatures(&self) -> usize {
        self.binned.features()
    }
}

/// Codes of some rows and features, dense: row i is the i-th of the rows taken.
pub(crate) struct Codes<'a> {
    pub(crate) rows: usize,
    /// The matrix's number of each feature here.
    pub(crate) features: Vec<u32>,
    /// Greatest code of each feature.
    pub(crate) last: Vec<u8>,
    pub(crate) blocks: Vec<Cow<'a, [[u8; LANES]]>>,
}

impl<'a> Codes<'a> {
    /// All features of `rows`; nothing is copied if those are all rows.
    pub(crate) fn take(binned: &'a Binned, rows: &[u32]) -> Self {
        let whole = rows.len() == binned.rows() && rows.iter().enumerate().all(|(i, row)| i == *row as usize);
        let block = |block: &'a Vec<[u8; LANES]>| {
            if whole { Cow::Borrowed(block.as_slice()) } else { Cow::Owned(rows.iter().map(|row| block[*row as usize]).collect()) }
        };
        Self {
            rows: rows.len(),
            features: (0..binned.features() as u32).collect(),
            last: (0..binned.features()).map(|f| binned.bins().last_code(f)).collect(),
            blocks: binned.blocks().par_iter().map(block).collect(),
        }
    }

    /// Some of the features, by their number here.
    pub(crate) fn columns(&self, columns: &[usize]) -> Codes<'static> {
        let block = |columns: &[usize]| {
            let mut block = vec![[0; LANES]; self.rows];
            for (lane, column) in columns.iter().enumerate() {
                let (from, from_lane) = (&self.blocks[column / LANES], column % LANES);
                block.iter_mut().zip(from.iter()).for_each(|(to, from)| to[lane] = from[from_lane]);
            }
            Cow::Owned(block)
        };
        Codes {
            rows: self.rows,
            features: columns.iter().map(|c| self.features[*c]).collect(),
            last: columns.iter().map(|c| self.last[*c]).collect(),
            blocks: columns.par_chunks(LANES).map(block).collect(),
        }
    }

    /// Features with more than one code among the rows; the others cannot split anything.
    pub(crate) fn varying(&self) -> Vec<usize> {
        let differs = |block: &Cow<'_, [[u8; LANES]]>| {
            let bits = |codes: &[u8; LANES]| u64::from_le_bytes(*codes);
            let first = block.first().map_or(0, bits);
            block.iter().fold(0, |seen, codes| seen | (bits(codes) ^ first)).to_le_bytes()
        };
        let seen: Vec<[u8; LANES]> = self.blocks.par_iter().map(differs).collect();
        (0..self.features.len()).filter(|f| seen[f / LANES][f % LANES] != 0).collect()
    }

    /// Features that are used of a block.
    pub(crate) fn lanes(&self, block: usize) -> usize {
        (self.features.len() - block * LANES).min(LANES)
    }

    #[inline]
    pub(crate) fn code(&self, row: usize, feature: usize) -> u8 {
        self.blocks[feature / LANES][row][feature % LANES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_horizon_is_censored_on_its_own() {
        let labels = [RowLabel::Fails(5), RowLabel::Fails(15), RowLabel::Survives(12), RowLabel::LeftOut, RowLabel::Fails(99)];
        let targets = Targets::of_labels(&labels, &[10, 20]);
        let of = |row| (targets.outcome(row, 0), targets.outcome(row, 1));
        use Outcome::{Failed, Survived, Unknown};
        assert_eq!(of(0), (Failed, Unknown), "failed before: not at risk beyond");
        assert_eq!(of(1), (Survived, Failed));
        assert_eq!(of(2), (Survived, Unknown), "known for the first horizon only");
        assert_eq!(of(3), (Unknown, Unknown));
        assert_eq!(of(4), (Survived, Survived));
    }

    #[test]
    fn constant_columns_are_left_out() {
        let values: Vec<f64> = (0..10).flat_map(|i| [1.0, f64::from(i), if i == 3 { f64::NAN } else { 7.0 }]).collect();
        let binned = Binned::from_rows(&values, 3, 255);
        let rows: Vec<u32> = (0..10).collect();
        let codes = Codes::take(&binned, &rows);
        assert_eq!(codes.varying(), [1, 2], "missing or not is a difference");
        let fewer = Codes::take(&binned, &rows[..3]);
        assert_eq!(fewer.varying(), [1]);
        assert_eq!(codes.columns(&[2]).code(3, 0), 0);
    }
}
