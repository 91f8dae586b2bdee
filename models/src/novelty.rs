//! The linear form for a fleet that has not failed yet: how far a row is from healthy ones, as the mean squared standardised residual.
//!
//! It knows no failures, so its score is no probability: the threshold comes from the false alarms that one can bear.

use serde::{Deserialize, Serialize};

/// One column that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Column of the feature matrix.
    pub feature: u32,
    /// Mean over healthy rows.
    pub mean: f64,
    /// One over the standard deviation over healthy rows; above 0.
    pub inverse: f64,
}

/// A mean of squares over columns, each standardised by healthy rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Novelty {
    /// Columns of the feature matrix.
    pub features: usize,
    /// Columns that are compared, each once, ascending.
    pub terms: Vec<Term>,
}

/// Why a linear form cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("novelty.terms[{at}]: found {found}, expected {expected}")]
pub struct BadNovelty {
    at: usize,
    found: String,
    expected: String,
}

impl Novelty {
    /// Checks that every column exists and comes once, and that all numbers are finite, so that scoring cannot panic.
    pub fn check(self) -> Result<Self, BadNovelty> {
        let mut next = 0;
        for (at, term) in self.terms.iter().enumerate() {
            if (term.feature as usize) < next || term.feature as usize >= self.features {
                let expected = format!("a column from {next} to below {}", self.features);
                return Err(BadNovelty { at, found: format!("column {}", term.feature), expected });
            }
            next = term.feature as usize + 1;
            if !(term.mean.is_finite() && term.inverse.is_finite() && term.inverse > 0.0) {
                let found = format!("mean {} inverse {}", term.mean, term.inverse);
                return Err(BadNovelty { at, found, expected: "finite numbers, the inverse above 0".into() });
            }
        }
        if self.terms.is_empty() {
            return Err(BadNovelty { at: 0, found: "none".into(), expected: "at least one term".into() });
        }
        Ok(self)
    }

    /// Mean squared distance of `row` from healthy ones in standard deviations, over the columns that are not missing: about 1 where all is well;
    /// 0 where everything is missing.
    pub fn score(&self, row: &[f64]) -> f64 {
        let (sum, known) = self.squares(row).fold((0.0, 0u32), |(sum, known), (_, square)| (sum + square, known + 1));
        if known == 0 { 0.0 } else { sum / f64::from(known) }
    }

    /// The score as a number from 0 to below 1 that rises with it, s / (1 + s), for what compares risks with a threshold. It is no probability.
    pub fn risk(&self, row: &[f64]) -> f64 {
        let score = self.score(row).min(1e15);
        score / (1.0 + score)
    }

    /// What each column adds to the score beyond what it adds on average over healthy rows, (z² − 1) ÷ known columns: the Shapley values of a sum whose
    /// expectation is 1, so that a component of many signals is not louder than one of few. Columns that are missing or not compared add nothing.
    /// `added` has an entry a column.
    pub fn contributions(&self, row: &[f64], added: &mut [f64]) {
        added.fill(0.0);
        let known = self.squares(row).count() as f64;
        self.squares(row).for_each(|(feature, square)| added[feature] = (square - 1.0) / known);
    }

    fn squares<'a>(&'a self, row: &'a [f64]) -> impl Iterator<Item = (usize, f64)> + 'a {
        let of = |term: &Term| {
            let z = (row[term.feature as usize] - term.mean) * term.inverse;
            (!z.is_nan()).then_some((term.feature as usize, z * z))
        };
        self.terms.iter().filter_map(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn novelty() -> Novelty {
        let term = |feature, mean, inverse| Term { feature, mean, inverse };
        Novelty { features: 3, terms: vec![term(0, 10.0, 0.5), term(2, 0.0, 1.0)] }.check().unwrap()
    }

    #[test]
    fn the_score_is_the_mean_square_over_what_is_known() {
        let score = |row: [f64; 3]| novelty().score(&row);
        assert_eq!(score([14.0, 99.0, 1.0]), (4.0 + 1.0) / 2.0);
        assert_eq!(score([14.0, 99.0, f64::NAN]), 4.0);
        assert_eq!(score([f64::NAN; 3]), 0.0);
        assert_eq!(novelty().risk(&[14.0, 0.0, f64::NAN]), 0.8);
        assert!(novelty().risk(&[f64::MAX, 0.0, 0.0]) < 1.0);
    }

    #[test]
    fn contributions_add_up_to_the_score_less_that_of_healthy_rows() {
        let row = [14.0, 99.0, 1.0];
        let mut added = [7.0; 3];
        novelty().contributions(&row, &mut added);
        assert_eq!(added, [1.5, 0.0, 0.0]);
        assert_eq!(added.iter().sum::<f64>(), novelty().score(&row) - 1.0);
        novelty().contributions(&[f64::NAN; 3], &mut added);
        assert_eq!(added, [0.0; 3]);
    }

    #[test]
    fn a_form_that_could_panic_is_refused() {
        let with = |change: &dyn Fn(&mut Novelty)| {
            let mut n = novelty();
            change(&mut n);
            n.check()
        };
        assert!(with(&|_| ()).is_ok());
        assert!(with(&|n| n.terms[1].feature = 3).is_err());
        assert!(with(&|n| n.terms[1].feature = 0).is_err());
        assert!(with(&|n| n.terms[0].inverse = 0.0).is_err());
        assert!(with(&|n| n.terms[0].mean = f64::NAN).is_err());
        assert!(with(&|n| n.terms.clear()).is_err());
    }
}
