//! What scores a row: trees, or the linear form of a fleet that has not failed yet. A model has exactly one of the two.

use crate::calibration::Calibration;
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
