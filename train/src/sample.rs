//! The rows a model is fitted on: all that is known near a failure, and of the many healthy readings as many as there is room for.
//!
//! Only fitting is thinned; every judged row is scored. A row that stands for many weighs as much as they do, so that rates stay true.

use std::ops::Range;

use homeward_models::label::{Label, RowLabel};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::Settings;
use crate::matrix::Matrix;

/// Rows to fit on, ascending, and what each weighs.
pub(crate) struct FitRows {
    pub(crate) rows: Vec<u32>,
    pub(crate) weights: Vec<f32>,
    /// Positive ones at the last horizon.
    pub(crate) positives: usize,
}

/// How far before a failure, in horizons, a negative counts as near: those teach where the line runs.
const NEAR: i64 = 3;

/// 0 positive, 1 near a failure, 2 far from any; `None` if nothing is known at any horizon.
fn stratum(label: RowLabel, settings: &Settings) -> Option<usize> {
    let horizon = settings.horizon();
    match (label.at(horizon), label) {
        (Label::Positive, _) => Some(0),
        (Label::Negative, RowLabel::Fails(ms)) if ms <= NEAR * horizon => Some(1),
        (Label::Negative, _) => Some(2),
        // Known for a shorter horizon at least.
        (Label::Unknown, _) => settings.horizons.iter().any(|h| label.at(*h) != Label::Unknown).then_some(2),
    }
}

/// The rows of `ranges` (ascending) to fit on, about `max_fit_rows` at most; each row is drawn on its own.
pub(crate) fn rows(matrix: &Matrix, ranges: &[Range<usize>], settings: &Settings, seed: u64) -> FitRows {
    let known = || ranges.iter().cloned().flatten().filter_map(|row| Some((row, stratum(matrix.label(row), settings)?)));
    let mut counts = [0usize; 3];
    known().for_each(|(_, stratum)| counts[stratum] += 1);
    let quotas = quotas(counts, settings.max_fit_rows);
    let mut chance = Pcg64Mcg::seed_from_u64(seed);
    let mut fitted = FitRows { rows: Vec::new(), weights: Vec::new(), positives: 0 };
    for (row, stratum) in known() {
        let (taken, of) = (quotas[stratum] as f64, counts[stratum] as f64);
        if taken == of || (chance.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * of < taken {
            // `Matrix::check` refuses more rows than 2³².
            fitted.rows.push(row as u32);
            fitted.weights.push((of / taken) as f32);
            fitted.positives += usize::from(stratum == 0);
        }
    }
    fitted
}

/// How many of each stratum there is room for: positives half of it at most, negatives near a failure half of the rest.
fn quotas([positive, near, far]: [usize; 3], room: usize) -> [usize; 3] {
    if positive + near + far <= room {
        return [positive, near, far];
    }
    let positive = positive.min(room - (near + far).min(room / 2));
    let near = near.min((room - positive) - far.min((room - positive) / 2));
    [positive, near, far.min(room - positive - near)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_taken_whole() {
        assert_eq!(quotas([10, 20, 30], 60), [10, 20, 30]);
    }

    #[test]
    fn far_negatives_give_way_first() {
        assert_eq!(quotas([10, 20, 1000], 100), [10, 20, 70]);
        assert_eq!(quotas([10, 500, 1000], 100), [10, 45, 45]);
        assert_eq!(quotas([900, 500, 1000], 100), [50, 25, 25]);
        assert_eq!(quotas([900, 0, 5], 100), [95, 0, 5]);
    }
}
