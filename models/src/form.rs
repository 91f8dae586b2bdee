//! What scores a row: trees, or the linear form of a fleet that has not failed yet. A model has exactly one of the two.

use crate::calibration::Calibration;
use crate::decision::Rules;
use crate::ensemble::{Ensemble, Explainer, Link, Scorer};
use crate::novelty::Novelty;

/// What a model scores with.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// Trees: their risks are probabilities.
    Ensemble(Ensemble),
    /// The distance from healthy rows, for one horizon: its risk is a score, not a probability.
    Novelty(Novelty),
}

impl Form {
    /// Columns of the feature matrix that it reads.
    pub fn features(&self) -> usize {
        match self {
            Self::Ensemble(ensemble) => ensemble.features,
            Self::Novelty(novelty) => novelty.features,
        }
    }

    /// Risks that it gives.
    pub fn horizons(&self) -> usize {
        match self {
            Self::Ensemble(ensemble) => ensemble.horizons,
            Self::Novelty(_) => 1,
        }
    }

    /// Whether its risks are probabilities, so that money can be weighed by them.
    pub fn is_probability(&self) -> bool {
        matches!(self, Self::Ensemble(_))
    }

    /// The trees, if it is such.
    pub fn ensemble(&self) -> Option<&Ensemble> {
        match self {
            Self::Ensemble(ensemble) => Some(ensemble),
            Self::Novelty(_) => None,
        }
    }

    /// Risks of `row`, one a horizon, never decreasing. Trees: each q, calibrated by the curve of its horizon (without one as it is), accumulated to
    /// risk_k = 1 − Π(1 − q). Novelty: [`Novelty::risk`]. By the plain walk, which defines a risk.
    pub fn risks(&self, row: &[f64], calibration: &[Calibration], risks: &mut [f64]) {
        match self {
            Self::Ensemble(ensemble) => {
                ensemble.raw(row, risks);
                finish(ensemble.link, calibration, risks);
            }
            Self::Novelty(novelty) => risks.fill(novelty.risk(row)),
        }
    }

    /// The same laid out for scoring many rows.
    pub fn scoring(&self, calibration: &[Calibration]) -> Scoring {
        let laid = match self {
            Self::Ensemble(ensemble) => Laid::Trees(Box::new(Scorer::new(ensemble.clone()))),
            Self::Novelty(novelty) => Laid::Novelty(novelty.clone()),
        };
        Scoring { laid, calibration: calibration.to_vec() }
    }

    /// The rules under which alerts are raised and cleared at `threshold`: `rules`, but with novelty the clear ratio is one of scores. Its risk, s / (1 + s), lies near 1 for all
    /// that is strange: four fifths of a threshold of 0.98 (a score of 50) would be a score of 3.6, and an alert would stand on.
    pub fn gate_rules(&self, threshold: f64, rules: &Rules) -> Rules {
        match self {
            Self::Novelty(_) if threshold > 0.0 && threshold < 1.0 => {
                let score = rules.clear_ratio * threshold / (1.0 - threshold);
                Rules { clear_ratio: score / (1.0 + score) / threshold, ..*rules }
            }
            _ => *rules,
        }
    }

    /// Prepares saying why a row got its score.
    pub fn reasons(&self) -> Reasons {
        match self {
            Self::Ensemble(ensemble) => Reasons::Trees { explainer: Explainer::new(ensemble), last: ensemble.horizons - 1 },
            Self::Novelty(novelty) => Reasons::Novelty(novelty.clone()),
        }
    }
}

/// A form laid out for speed, made once: to the bits of [`Form::risks`].
#[derive(Debug, Clone)]
pub struct Scoring {
    laid: Laid,
    calibration: Vec<Calibration>,
}

#[derive(Debug, Clone)]
enum Laid {
    Trees(Box<Scorer>),
    Novelty(Novelty),
}

impl Scoring {
    /// As [`Form::risks`], to the last bit.
    pub fn score(&self, row: &[f64], risks: &mut [f64]) {
        match &self.laid {
            Laid::Trees(scorer) => {
                scorer.raw(row, risks);
                finish(scorer.ensemble().link, &self.calibration, risks);
            }
            Laid::Novelty(novelty) => risks.fill(novelty.risk(row)),
        }
    }

    /// As [`Scoring::score`] of many rows, one after the other: `features` values each in `rows`, as many risks as horizons each in `risks`. The same bits, in less time. Panics on
    /// parts of rows.
    pub fn score_rows(&self, rows: &[f64], risks: &mut [f64]) {
        match &self.laid {
            Laid::Trees(scorer) => {
                scorer.raw_rows(rows, risks);
                let Ensemble { link, horizons, .. } = *scorer.ensemble();
                risks.chunks_exact_mut(horizons).for_each(|risks| finish(link, &self.calibration, risks));
            }
            Laid::Novelty(novelty) => {
                assert!(rows.len() == risks.len() * novelty.features, "{} values are no {} rows", rows.len(), risks.len());
                risks.iter_mut().zip(rows.chunks_exact(novelty.features)).for_each(|(risk, row)| *risk = novelty.risk(row));
            }
        }
    }
}

/// Why rows get their scores.
#[derive(Debug, Clone)]
pub enum Reasons {
    /// Exact Shapley values of the trees.
    Trees {
        /// Prepared for all trees.
        explainer: Explainer,
        /// The horizon that is explained.
        last: usize,
    },
    /// The terms of a sum, which are its Shapley values.
    Novelty(Novelty),
}

impl Reasons {
    /// What each column of `row` added to the last horizon's raw score, beyond what is expected. `added` has an entry a column.
    pub fn contributions(&self, row: &[f64], added: &mut [f64]) {
        match self {
            Self::Trees { explainer, last } => explainer.contributions(row, *last, added),
            Self::Novelty(novelty) => novelty.contributions(row, added),
        }
    }
}

/// Raw scores to risks, in place.
fn finish(link: Link, calibration: &[Calibration], raw: &mut [f64]) {
    let mut safe = 1.0;
    for (k, risk) in raw.iter_mut().enumerate() {
        let q = link.probability(*risk);
        safe *= 1.0 - calibration.get(k).map_or(q, |curve| curve.apply(q));
        *risk = 1.0 - safe;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::{Change, Gate, WrittenDecide};
    use crate::novelty::Term;

    #[test]
    fn an_alert_of_novelty_clears_at_the_ratio_of_scores_whatever_the_threshold() {
        let form = Form::Novelty(Novelty { features: 1, terms: vec![Term { feature: 0, mean: 0.0, inverse: 1.0 }] });
        let written = WrittenDecide {
            raise_for: "0s".into(),
            raise_readings: 1,
            clear_for: "0s".into(),
            clear_ratio: 0.8,
            ..WrittenDecide::default()
        };
        let rules = Rules::check(&written).unwrap();
        let risk = |score: f64| score / (1.0 + score);
        for score in [1.2, 5.0, 50.0, 5000.0] {
            let threshold = risk(score);
            let rules = form.gate_rules(threshold, &rules);
            let mut gate = Gate::default();
            assert_eq!(gate.step(0, risk(score * 1.01), threshold, &rules), Change::Raised);
            assert_eq!(gate.step(1000, risk(score * 0.81), threshold, &rules), Change::None, "{score}");
            assert_eq!(gate.step(2000, risk(score * 0.79), threshold, &rules), Change::Cleared, "{score}");
        }
        // One that never raises has nothing to clear.
        assert_eq!(form.gate_rules(f64::INFINITY, &rules), rules);
    }
}
