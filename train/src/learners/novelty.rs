//! `novelty`: what healthy rows look like, for a fleet that has not failed yet; a linfa estimator over sums of values.
//!
//! Values, not codes: what matters most lies beyond all that was seen, where codes end. Sums, not rows: an archive of any size is fitted on in
//! one pass, device by device, and the folds' fits are merged from those of their devices.

use homeward_models::novelty::{Novelty, Term};
use linfa::dataset::{DatasetBase, Records};
use linfa::traits::Fit;

use super::LearnError;
use super::params::{Checked, Hyper, within};

/// Settings of the novelty score, not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub struct NoveltySettings {
    /// Known values that a column must have among the healthy rows, at least 2; default 30.
    pub min_rows: usize,
}

impl Default for NoveltySettings {
    fn default() -> Self {
        Self { min_rows: 30 }
    }
}

impl Hyper for NoveltySettings {
    fn check(&self) -> Result<(), LearnError> {
        within("novelty.min_rows", self.min_rows as f64, 2.0, 1e9)
    }
}

/// Number, mean and squared deviations of the known values of some columns. Rows are added by Welford's update (1962), so that a large mean takes no
/// digits from a small deviation; moments are merged as in Chan, Golub and LeVeque (1983). Equal rows, merged in equal order, give equal bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    features: usize,
    rows: usize,
    columns: Vec<Column>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Column {
    feature: usize,
    known: u64,
    mean: f64,
    /// Sum of squared deviations from the mean.
    squares: f64,
}

impl Moments {
    /// Of no rows yet. A row has so many `features`, of which those of `columns` (ascending) are compared.
    pub fn new(features: usize, columns: impl IntoIterator<Item = usize>) -> Self {
        let column = |feature| Column { feature, known: 0, mean: 0.0, squares: 0.0 };
        Self { features, rows: 0, columns: columns.into_iter().map(column).collect() }
    }

    /// Rows added.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a row of all features; what is not finite is missing.
    pub fn add(&mut self, row: &[f64]) {
        self.rows += 1;
        for column in &mut self.columns {
            let value = row[column.feature];
            if value.is_finite() {
                column.known += 1;
                let off = value - column.mean;
                column.mean += off / column.known as f64;
                column.squares += off * (value - column.mean);
            }
        }
    }

    /// Adds the rows of `other`, which has the same columns.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        for (column, more) in self.columns.iter_mut().zip(&other.columns) {
            if column.known == 0 {
                *column = *more;
            } else if more.known > 0 {
                let (known, theirs) = ((column.known + more.known) as f64, more.known as f64);
                let off = more.mean - column.mean;
                column.squares += more.squares + off * off * (column.known as f64 * theirs / known);
                column.mean += off * (theirs / known);
                column.known += more.known;
            }
        }
    }
}

/// Healthy rows, as far as they are fitted on.
#[derive(Debug, Clone, Copy)]
pub struct Healthy<'a>(pub &'a Moments);

impl Records for Healthy<'_> {
    type Elem = f64;

    fn nsamples(&self) -> usize {
        self.0.rows
    }

    fn nfeatures(&self) -> usize {
        self.0.features
    }
}

impl Fit<Healthy<'_>, (), LearnError> for Checked<NoveltySettings> {
    type Object = Novelty;

    /// Columns that do not vary, or are known too rarely, are left out.
    fn fit(&self, dataset: &DatasetBase<Healthy<'_>, ()>) -> Result<Novelty, LearnError> {
        let (min_rows, healthy) = (self.get().min_rows, dataset.records.0);
        let terms = healthy.columns.iter().filter(|c| c.known >= min_rows as u64).filter_map(term).collect();
        Novelty { features: healthy.features, terms }.check().map_err(|_| LearnError::TooLittle {
            found: format!("no column that varies among {} healthy readings", healthy.rows),
            needed: format!("one with at least {min_rows} known values"),
        })
    }
}

/// A column as it is compared; `None` if it does not vary.
fn term(column: &Column) -> Option<Term> {
    let deviation = (column.squares / (column.known - 1) as f64).sqrt();
    let inverse = 1.0 / deviation;
    // What is left of a constant is rounding; of a value near the greatest number (a sentinel), squares beyond all numbers.
    let varies = deviation > column.mean.abs() * 1e-12 && inverse.is_finite() && inverse > 0.0 && column.mean.is_finite();
    varies.then_some(Term { feature: column.feature as u32, mean: column.mean, inverse })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learners::Unchecked;
    use proptest::prelude::*;

    fn moments(rows: &[Vec<f64>], columns: &[usize]) -> Moments {
        let mut moments = Moments::new(rows[0].len(), columns.iter().copied());
        rows.iter().for_each(|row| moments.add(row));
        moments
    }

    fn fit(rows: &[Vec<f64>], columns: &[usize], min_rows: usize) -> Result<Novelty, LearnError> {
        Unchecked::new(NoveltySettings { min_rows }).fit(&DatasetBase::new(Healthy(&moments(rows, columns)), ()))
    }

    fn rows() -> Vec<Vec<f64>> {
        (0..100)
            .map(|i| vec![1e6 + f64::from(i % 2) * 2e-3, 0.1 + 0.2, if i < 10 { f64::from(i) } else { f64::NAN }, f64::from(i % 5)])
            .collect()
    }

    #[test]
    fn only_columns_that_vary_and_are_known_are_compared() {
        let novelty = fit(&rows(), &[0, 1, 2, 3], 30).unwrap();
        let features: Vec<u32> = novelty.terms.iter().map(|t| t.feature).collect();
        assert_eq!(features, [0, 3]);
        assert!((novelty.terms[0].inverse - 1.0 / 1.005e-3).abs() < 1.0, "{:?}", novelty.terms[0]);
        let chosen = fit(&rows(), &[2, 3], 5).unwrap();
        assert_eq!(chosen.terms.iter().map(|t| t.feature).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_column_with_one_value_beyond_all_sense_is_left_out_alone() {
        let mut rows = rows();
        rows[7][3] = f64::MAX;
        let novelty = fit(&rows, &[0, 1, 2, 3], 30).unwrap();
        assert_eq!(novelty.terms.iter().map(|t| t.feature).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn healthy_rows_score_about_one_and_strange_ones_more() {
        let novelty = fit(&rows(), &[0, 1, 2, 3], 30).unwrap();
        let mean = rows().iter().map(|row| novelty.score(row)).sum::<f64>() / 100.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!(novelty.score(&[1e6 + 1.0, 0.0, 0.0, 2.0]) > 1e5, "far beyond all that was seen");
    }

    #[test]
    fn nothing_to_compare_is_said() {
        assert!(matches!(fit(&rows()[..5], &[0, 1, 2, 3], 30), Err(LearnError::TooLittle { .. })));
        assert!(matches!(fit(&rows(), &[1], 30), Err(LearnError::TooLittle { .. })));
        assert!(matches!(fit(&rows(), &[0], 1), Err(LearnError::Setting { .. })));
    }

    proptest! {
        /// Against two passes over all rows; a mean of a million leaves ten digits of the deviation.
        #[test]
        fn merged_moments_are_those_of_all_rows(values in prop::collection::vec(prop::option::weighted(0.9, -3.0f64..3.0), 2..200), cut in 0usize..200, far in 0.0f64..1e6) {
            let rows: Vec<Vec<f64>> = values.iter().map(|v| vec![v.map_or(f64::NAN, |v| far + v)]).collect();
            let known: Vec<f64> = values.iter().flatten().map(|v| far + v).collect();
            let (first, second) = rows.split_at(cut.min(rows.len()));
            let mut merged = Moments::new(1, [0]);
            for part in [first, second] {
                let mut own = Moments::new(1, [0]);
                part.iter().for_each(|row| own.add(row));
                merged.merge(&own);
            }
            prop_assert_eq!((merged.rows(), merged.columns[0].known), (rows.len(), known.len() as u64));
            if known.len() > 1 {
                let mean = known.iter().sum::<f64>() / known.len() as f64;
                let squares = known.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
                prop_assert!((merged.columns[0].mean - mean).abs() < 1e-9 * (1.0 + far));
                prop_assert!((merged.columns[0].squares - squares).abs() < 1e-6 * (1.0 + squares), "{} {}", merged.columns[0].squares, squares);
            }
        }
    }
}
