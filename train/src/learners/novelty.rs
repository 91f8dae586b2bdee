//! `novelty`: what healthy rows look like, for a fleet that has not failed yet; a linfa estimator over values.
//!
//! Values, not codes: what matters most lies beyond all that was seen, where codes end.

use homeward_models::novelty::{Novelty, Term};
use linfa::dataset::{DatasetBase, Records};
use linfa::traits::Fit;

use super::LearnError;
use super::params::{Checked, Hyper, within};

/// Settings of the novelty score, not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub struct NoveltySettings {
    /// Columns that are compared, such as each signal's mean over one window; empty (default): all.
    pub columns: Vec<usize>,
    /// Known values that a column must have among the healthy rows, at least 2; default 30.
    pub min_rows: usize,
}

impl Default for NoveltySettings {
    fn default() -> Self {
        Self { columns: Vec::new(), min_rows: 30 }
    }
}

impl Hyper for NoveltySettings {
    fn check(&self) -> Result<(), LearnError> {
        within("novelty.min_rows", self.min_rows as f64, 2.0, 1e9)
    }
}

/// Rows of values, all of one length; missing is NaN.
#[derive(Debug, Clone, Copy)]
pub struct Healthy<'a>(pub &'a [Vec<f64>]);

impl Records for Healthy<'_> {
    type Elem = f64;

    fn nsamples(&self) -> usize {
        self.0.len()
    }

    fn nfeatures(&self) -> usize {
        self.0.first().map_or(0, Vec::len)
    }
}

impl Fit<Healthy<'_>, (), LearnError> for Checked<NoveltySettings> {
    type Object = Novelty;

    /// Columns that do not vary, or are known too rarely, are left out.
    fn fit(&self, dataset: &DatasetBase<Healthy<'_>, ()>) -> Result<Novelty, LearnError> {
        let (settings, healthy) = (self.get(), dataset.records);
        let features = healthy.nfeatures();
        let compared = |feature: &usize| settings.columns.is_empty() || settings.columns.contains(feature);
        let terms = (0..features).filter(compared).filter_map(|feature| term(healthy.0, feature, settings.min_rows));
        Novelty { features, terms: terms.collect() }.check().map_err(|_| LearnError::TooLittle {
            found: format!("no column that varies among {} healthy readings", healthy.nsamples()),
            needed: format!("one with at least {} known values", settings.min_rows),
        })
    }
}

/// Mean and deviation of a column in two passes, so that a large mean takes no digits from a small deviation.
fn term(rows: &[Vec<f64>], feature: usize, min_rows: usize) -> Option<Term> {
    let known = || rows.iter().map(|row| row[feature]).filter(|value| value.is_finite());
    let count = known().count();
    if count < min_rows {
        return None;
    }
    let mean = known().sum::<f64>() / count as f64;
    let square = known().map(|value| (value - mean) * (value - mean)).sum::<f64>() / (count - 1) as f64;
    // What is left of a constant is rounding.
    let inverse = 1.0 / square.sqrt();
    (square.sqrt() > mean.abs() * 1e-12 && inverse.is_finite()).then_some(Term { feature: feature as u32, mean, inverse })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learners::Unchecked;

    fn fit(rows: &[Vec<f64>], settings: NoveltySettings) -> Result<Novelty, LearnError> {
        Unchecked::new(settings).fit(&DatasetBase::new(Healthy(rows), ()))
    }

    fn rows() -> Vec<Vec<f64>> {
        (0..100)
            .map(|i| vec![1e6 + f64::from(i % 2) * 2e-3, 0.1 + 0.2, if i < 10 { f64::from(i) } else { f64::NAN }, f64::from(i % 5)])
            .collect()
    }

    #[test]
    fn only_columns_that_vary_and_are_known_are_compared() {
        let novelty = fit(&rows(), NoveltySettings::default()).unwrap();
        let features: Vec<u32> = novelty.terms.iter().map(|t| t.feature).collect();
        assert_eq!(features, [0, 3]);
        assert!((novelty.terms[0].inverse - 1.0 / 1.005e-3).abs() < 1.0, "{:?}", novelty.terms[0]);
        let chosen = fit(&rows(), NoveltySettings { columns: vec![2, 3], min_rows: 5 }).unwrap();
        assert_eq!(chosen.terms.iter().map(|t| t.feature).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn healthy_rows_score_about_one_and_strange_ones_more() {
        let novelty = fit(&rows(), NoveltySettings::default()).unwrap();
        let mean = rows().iter().map(|row| novelty.score(row)).sum::<f64>() / 100.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!(novelty.score(&[1e6 + 1.0, 0.0, 0.0, 2.0]) > 1e5, "far beyond all that was seen");
    }

    #[test]
    fn nothing_to_compare_is_said() {
        assert!(matches!(fit(&rows()[..5], NoveltySettings::default()), Err(LearnError::TooLittle { .. })));
        assert!(matches!(fit(&rows(), NoveltySettings { min_rows: 1, ..Default::default() }), Err(LearnError::Setting { .. })));
    }
}
