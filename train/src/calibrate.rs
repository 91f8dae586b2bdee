//! Out-of-fold risks made true: which calibration, fitted on which folds.
//!
//! Every fold is calibrated by a curve fitted on the others, the hold-out by one fitted on all folds, and that one goes into service.
//! None, a sigmoid and a monotone curve compete by the Brier score of the folds so calibrated.

use homeward_models::calibration::Calibration;

use crate::Settings;
use crate::TrainError;
use crate::learners::{Outcome, outcomes};
use crate::matrix::Matrix;
use crate::plan::{Part, Plan};
use crate::room::Column;

/// What the judged rows were given.
pub(crate) struct Risks {
    /// Calibrated risk at the last horizon, one a row; 0 where nobody judged.
    pub(crate) deciding: Vec<f64>,
    /// The curves that go into service, one a horizon: from q to its probability.
    pub(crate) calibrations: Vec<Calibration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Identity,
    Platt,
    Isotonic,
}

/// Rows to fit on: score, label, and the fold they lie in.
struct Rows {
    scores: Vec<f64>,
    labels: Vec<bool>,
    folds: Vec<u32>,
}

/// Calibrates `raw`: q_k by horizon and row, the probability of a failure in (h_{k−1}, h_k] given none before; one horizon is held at a time.
pub(crate) fn calibrate(matrix: &Matrix, plan: &Plan, raw: Vec<Column>, settings: &Settings) -> Result<Risks, TrainError> {
    let mut deciding = vec![0.0f64; matrix.rows()];
    let mut calibrations = Vec::with_capacity(raw.len());
    for (k, raw) in raw.into_iter().enumerate() {
        let raw = raw.whole()?;
        let known = Rows::known(matrix, plan, &raw, &settings.horizons, k);
        let kind = known.best(plan.folds).0;
        let service = known.fit(kind, None);
        for part in plan.parts() {
            let curve = match part {
                Part::Fold(fold) => &known.fit(kind, Some(fold)),
                Part::HoldOut => &service,
            };
            for row in plan.judged(matrix, part).into_iter().flatten() {
                // As `Model::score` accumulates.
                deciding[row] = 1.0 - (1.0 - deciding[row]) * (1.0 - curve.apply(raw[row]));
            }
        }
        calibrations.push(service);
    }
    Ok(Risks { deciding, calibrations })
}

impl Rows {
    fn known(matrix: &Matrix, plan: &Plan, raw: &[f64], horizons: &[i64], k: usize) -> Self {
        let mut rows = Self { scores: Vec::new(), labels: Vec::new(), folds: Vec::new() };
        for fold in 0..plan.folds {
            for row in plan.judged(matrix, Part::Fold(fold)).into_iter().flatten() {
                let outcome = outcomes(matrix.label(row), horizons).nth(k).unwrap_or(Outcome::Unknown);
                if outcome != Outcome::Unknown {
                    rows.scores.push(raw[row]);
                    rows.labels.push(outcome == Outcome::Failed);
                    rows.folds.push(fold as u32);
                }
            }
        }
        rows
    }

    /// The curve fitted on all folds but one.
    fn fit(&self, kind: Kind, but: Option<usize>) -> Calibration {
        let others = self.folds.iter().enumerate().filter(|(_, fold)| Some(**fold as usize) != but);
        let rows = others.map(|(row, _)| (self.scores[row], self.labels[row], 1.0));
        let fitted = match kind {
            Kind::Identity => return Calibration::Identity,
            Kind::Platt => Calibration::fit_platt_rows(rows),
            Kind::Isotonic => Calibration::fit_isotonic_rows(rows),
        };
        // Without a row to fit on the score is all there is.
        fitted.unwrap_or_default()
    }

    /// The kind of least Brier score, each fold calibrated by the others.
    fn best(&self, folds: usize) -> (Kind, f64) {
        let kinds = [Kind::Identity, Kind::Platt, Kind::Isotonic].map(|kind| (kind, self.brier(kind, folds)));
        kinds.into_iter().fold(kinds[0], |best, kind| if kind.1 < best.1 { kind } else { best })
    }

    fn brier(&self, kind: Kind, folds: usize) -> f64 {
        let curves: Vec<Calibration> = (0..folds).map(|fold| self.fit(kind, Some(fold))).collect();
        let rows = self.scores.iter().zip(&self.labels).zip(&self.folds);
        let squared =
            |((score, label), fold): ((&f64, &bool), &u32)| (curves[*fold as usize].apply(*score) - f64::from(u8::from(*label))).powi(2);
        rows.map(squared).sum::<f64>() / self.scores.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{Rng, SeedableRng};

    /// Rows in five folds whose labels come true as often as `truth` of their score says.
    fn rows(truth: impl Fn(f64) -> f64) -> Rows {
        let mut chance = rand_pcg::Pcg64Mcg::seed_from_u64(3);
        let mut unit = move || (chance.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let scores: Vec<f64> = (0..20_000).map(|_| unit()).collect();
        let labels = scores.iter().map(|s| unit() < truth(*s)).collect();
        Rows { folds: (0..scores.len()).map(|i| (i % 5) as u32).collect(), scores, labels }
    }

    #[test]
    fn scores_that_are_true_are_left_alone_or_as_good() {
        let rows = rows(|s| s);
        let (_, brier) = rows.best(5);
        assert!((brier - rows.brier(Kind::Identity, 5)).abs() < 2e-4);
    }

    #[test]
    fn overconfident_scores_are_put_right_by_a_curve() {
        let rows = rows(|s| if s > 0.5 { 0.6 } else { 0.1 });
        let (kind, brier) = rows.best(5);
        assert_ne!(kind, Kind::Identity);
        assert!(brier < rows.brier(Kind::Identity, 5) - 0.01);
        assert!((rows.fit(kind, None).apply(0.9) - 0.6).abs() < 0.03);
    }

    #[test]
    fn a_fold_has_no_say_in_its_own_curve() {
        let mut rows = rows(|s| s);
        let before = rows.fit(Kind::Isotonic, Some(2));
        rows.labels.iter_mut().zip(&rows.folds).filter(|(_, f)| **f == 2).for_each(|(l, _)| *l = !*l);
        assert_eq!(rows.fit(Kind::Isotonic, Some(2)), before);
        assert_ne!(rows.fit(Kind::Isotonic, Some(1)), before);
    }
}
