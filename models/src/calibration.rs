//! Calibration: from a classifier's score to the probability of what it scores. Monotone, so that it never turns two readings around.
//!
//! Two families. [`Isotonic`]: the non-decreasing function nearest to the labels in (weighted) mean square, found by pooling adjacent
//! violators (Ayer et al. 1955; Zadrozny and Elkan 2002). [`Platt`]: a sigmoid of the score with two parameters (Platt 1999), fitted by
//! the Newton method of Lin, Lin and Weng (2007) with their smoothed targets; for few rows. Scores to fit on must come from rows that
//! the classifier has not seen.

use serde::{Deserialize, Serialize};

/// Newton steps of the Platt fit at most, as in Lin, Lin and Weng.
const MAX_STEPS: usize = 100;
/// Added to the Hessian's diagonal, as there.
const RIDGE: f64 = 1e-12;
/// The shortest step of the line search, as there.
const MIN_STEP: f64 = 1e-10;
/// The gradient that counts as zero, a row.
const FLAT: f64 = 1e-12;

/// How a score becomes a probability.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Calibration {
    /// The score is the probability already.
    #[default]
    Identity,
    /// A step-free curve through pooled blocks.
    Isotonic(Isotonic),
    /// A sigmoid.
    Platt(Platt),
}

/// A non-decreasing curve: linear between its knots, flat outside of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Isotonic {
    /// Scores, strictly ascending.
    scores: Vec<f64>,
    /// Probability at each, not descending, from 0 to 1.
    risks: Vec<f64>,
}

/// 1 / (1 + exp(slope · score + offset)), slope at most 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Platt {
    slope: f64,
    offset: f64,
}

/// Why a calibration cannot be fitted or used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadCalibration {
    /// There is nothing to fit on.
    #[error("calibration: found no row of positive weight, expected at least one")]
    Empty,
    /// Scores, labels and weights do not pair.
    #[error("calibration: found {scores} scores, {labels} labels and {weights} weights, expected as many of each")]
    Lengths {
        /// Number of scores.
        scores: usize,
        /// Number of labels.
        labels: usize,
        /// Number of weights.
        weights: usize,
    },
    /// A score or a weight is no number to fit on.
    #[error("calibration: found {what} {value} in row {row}, expected a finite number{}", if *.what == "weight" { " of at least 0" } else { "" })]
    NotFinite {
        /// `score` or `weight`.
        what: &'static str,
        /// Where.
        row: usize,
        /// What was found.
        value: f64,
    },
    /// A written curve is none.
    #[error("calibration: found {0}")]
    Inconsistent(&'static str),
}

/// A calibration as the model file has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum WrittenCalibration {
    /// The score is the probability.
    Identity,
    /// Knots.
    Isotonic {
        /// Scores, strictly ascending.
        scores: Vec<f64>,
        /// Probabilities, not descending.
        risks: Vec<f64>,
    },
    /// 1 / (1 + exp(slope · score + offset)).
    Platt {
        /// At most 0.
        slope: f64,
        /// Any number.
        offset: f64,
    },
}

impl Calibration {
    /// The isotonic fit to `labels` at `scores`, each row with its weight (default 1). Rows of equal score are one.
    ///
    /// # Errors
    /// [`BadCalibration`]: nothing to fit on, unequal lengths, or a number that is none.
    pub fn fit_isotonic(scores: &[f64], labels: &[bool], weights: Option<&[f64]>) -> Result<Self, BadCalibration> {
        Self::fit_isotonic_rows(paired(scores, labels, weights)?)
    }

    /// As [`Calibration::fit_isotonic`] of rows (score, label, weight), of which nothing but sixteen bytes each is kept.
    ///
    /// # Errors
    /// [`BadCalibration`]: nothing to fit on, or a number that is none.
    pub fn fit_isotonic_rows(given: impl Iterator<Item = (f64, bool, f64)>) -> Result<Self, BadCalibration> {
        let mut rows = rows(given)?;
        rows.sort_by(|a, b| a.score.total_cmp(&b.score));
        Ok(Self::Isotonic(Isotonic::through(&pool(by_score(&rows)))))
    }

    /// The sigmoid fit. A fit that would descend (the scores rank the wrong way round) becomes the flat line at the smoothed share of positives.
    ///
    /// # Errors
    /// [`BadCalibration`]: nothing to fit on, unequal lengths, or a number that is none.
    pub fn fit_platt(scores: &[f64], labels: &[bool], weights: Option<&[f64]>) -> Result<Self, BadCalibration> {
        Self::fit_platt_rows(paired(scores, labels, weights)?)
    }

    /// As [`Calibration::fit_platt`] of rows (score, label, weight), of which nothing but sixteen bytes each is kept.
    ///
    /// # Errors
    /// [`BadCalibration`]: nothing to fit on, or a number that is none.
    pub fn fit_platt_rows(given: impl Iterator<Item = (f64, bool, f64)>) -> Result<Self, BadCalibration> {
        Ok(Self::Platt(Platt::fit(rows(given)?)))
    }

    /// The probability for `score`, from 0 to 1, not descending in it. NaN gives NaN.
    #[must_use]
    pub fn apply(&self, score: f64) -> f64 {
        match self {
            Self::Identity => score,
            Self::Isotonic(curve) => curve.apply(score),
            Self::Platt(sigmoid) => sigmoid.apply(score),
        }
    }

    /// How the model file has it.
    #[must_use]
    pub fn written(&self) -> WrittenCalibration {
        match self {
            Self::Identity => WrittenCalibration::Identity,
            Self::Isotonic(c) => WrittenCalibration::Isotonic { scores: c.scores.clone(), risks: c.risks.clone() },
            Self::Platt(p) => WrittenCalibration::Platt { slope: p.slope, offset: p.offset },
        }
    }

    /// Checks the written form: what it returns is monotone and gives probabilities.
    ///
    /// # Errors
    /// [`BadCalibration::Inconsistent`].
    pub fn check(written: WrittenCalibration) -> Result<Self, BadCalibration> {
        match written {
            WrittenCalibration::Identity => Ok(Self::Identity),
            WrittenCalibration::Isotonic { scores, risks } => {
                let curve = Isotonic { scores, risks };
                curve.fault().map_or(Ok(Self::Isotonic(curve)), |fault| Err(BadCalibration::Inconsistent(fault)))
            }
            WrittenCalibration::Platt { slope, offset } if slope <= 0.0 && slope.is_finite() && offset.is_finite() => {
                Ok(Self::Platt(Platt { slope, offset }))
            }
            WrittenCalibration::Platt { .. } => Err(BadCalibration::Inconsistent("a sigmoid that descends or is not finite")),
        }
    }
}

/// A row to fit on.
#[derive(Debug, Clone, Copy)]
struct Row {
    score: f64,
    /// Above 0 if it is positive, below if it is not: sixteen bytes a row are fewer than 24.
    signed: f64,
}

impl Row {
    fn weight(&self) -> f64 {
        self.signed.abs()
    }

    fn positive(&self) -> bool {
        self.signed > 0.0
    }
}

/// Rows of equally long lists, weighing 1 unless it is said.
fn paired<'a>(
    scores: &'a [f64],
    labels: &'a [bool],
    weights: Option<&'a [f64]>,
) -> Result<impl Iterator<Item = (f64, bool, f64)> + 'a, BadCalibration> {
    let found = weights.map_or(scores.len(), <[f64]>::len);
    if labels.len() != scores.len() || found != scores.len() {
        return Err(BadCalibration::Lengths { scores: scores.len(), labels: labels.len(), weights: found });
    }
    Ok((0..scores.len()).map(move |i| (scores[i], labels[i], weights.map_or(1.0, |w| w[i]))))
}

/// The rows of positive weight.
fn rows(given: impl Iterator<Item = (f64, bool, f64)>) -> Result<Vec<Row>, BadCalibration> {
    let row = |(row, (score, positive, weight)): (usize, (f64, bool, f64))| {
        if !score.is_finite() {
            return Err(BadCalibration::NotFinite { what: "score", row, value: score });
        }
        if !(weight.is_finite() && weight >= 0.0) {
            return Err(BadCalibration::NotFinite { what: "weight", row, value: weight });
        }
        Ok(Row { score, signed: if positive { weight } else { -weight } })
    };
    let rows = given.enumerate().map(row).filter(|r| r.as_ref().map_or(true, |r| r.signed != 0.0)).collect::<Result<Vec<_>, _>>()?;
    if rows.is_empty() { Err(BadCalibration::Empty) } else { Ok(rows) }
}

/// A stretch of scores with one rate.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Block {
    first: f64,
    last: f64,
    weight: f64,
    positive: f64,
}

impl Block {
    fn rate(&self) -> f64 {
        (self.positive / self.weight).min(1.0)
    }
}

/// One block a distinct score of sorted rows, ascending.
fn by_score(sorted: &[Row]) -> impl Iterator<Item = Block> + '_ {
    // Not by bits: -0 and 0 are one score.
    sorted.chunk_by(|a, b| a.score == b.score).map(|rows| {
        let mut block = Block { first: rows[0].score, last: rows[0].score, weight: rows[0].weight(), positive: 0.0 };
        rows[1..].iter().for_each(|row| block.weight += row.weight());
        rows.iter().filter(|row| row.positive()).for_each(|row| block.positive += row.weight());
        block
    })
}

/// Pools adjacent violators, and neighbours of equal rate.
fn pool(blocks: impl Iterator<Item = Block>) -> Vec<Block> {
    let mut pooled: Vec<Block> = Vec::new();
    for mut block in blocks {
        while let Some(before) = pooled.pop_if(|before| before.rate() >= block.rate()) {
            block = Block {
                first: before.first,
                last: block.last,
                weight: before.weight + block.weight,
                positive: before.positive + block.positive,
            };
        }
        pooled.push(block);
    }
    pooled
}

impl Isotonic {
    /// Flat over each block, linear between two.
    fn through(blocks: &[Block]) -> Self {
        let (mut scores, mut risks) = (Vec::new(), Vec::new());
        for block in blocks {
            scores.push(block.first);
            risks.push(block.rate());
            if block.last > block.first {
                scores.push(block.last);
                risks.push(block.rate());
            }
        }
        Self { scores, risks }
    }

    fn fault(&self) -> Option<&'static str> {
        let pairs = !self.scores.is_empty() && self.scores.len() == self.risks.len();
        let finite = self.scores.iter().chain(&self.risks).all(|v| v.is_finite());
        let within = self.risks.iter().all(|r| (0.0..=1.0).contains(r));
        match () {
            () if !pairs => Some("a curve whose scores and risks do not pair, or none"),
            () if !finite => Some("a curve through what is no number"),
            () if !within => Some("a curve that leaves 0 to 1"),
            () if !self.scores.is_sorted_by(|a, b| a < b) => Some("a curve whose scores do not ascend"),
            () if !self.risks.is_sorted() => Some("a curve that descends"),
            () => None,
        }
    }

    fn apply(&self, score: f64) -> f64 {
        if score.is_nan() {
            return f64::NAN;
        }
        let above = self.scores.partition_point(|s| *s <= score);
        let (Some(below), true) = (above.checked_sub(1), above < self.scores.len()) else {
            return self.risks[above.saturating_sub(1).min(self.risks.len() - 1)];
        };
        let (low, high) = (self.risks[below], self.risks[above]);
        // Halved, so that the distance of two finite scores is finite. Each step is monotone in `score`, rounding included.
        let share = (score / 2.0 - self.scores[below] / 2.0) / (self.scores[above] / 2.0 - self.scores[below] / 2.0);
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        (low + (high - low) * share).min(high)
    }
}

impl Platt {
    fn apply(&self, score: f64) -> f64 {
        // A flat sigmoid is flat at infinite scores too.
        let z = if self.slope == 0.0 { self.offset } else { self.slope * score + self.offset };
        // One form for all z: exp, 1 + x and 1 / x are each monotone, rounding included; e / (1 + e) is not. NaN stays NaN.
        1.0 / (1.0 + libm::exp(z))
    }

    /// Fits on standardised scores, which keeps the Newton steps well conditioned whatever the scale.
    fn fit(rows: Vec<Row>) -> Self {
        let total: f64 = rows.iter().map(Row::weight).sum();
        let positive: f64 = rows.iter().filter(|r| r.positive()).map(Row::weight).sum();
        let negative = total - positive;
        let flat = Self { slope: 0.0, offset: libm::log((negative + 1.0) / (positive + 1.0)) };
        let mean = rows.iter().map(|r| r.weight() * r.score).sum::<f64>() / total;
        let spread = (rows.iter().map(|r| r.weight() * (r.score - mean) * (r.score - mean)).sum::<f64>() / total).sqrt();
        if !(spread > 0.0 && spread.is_finite()) {
            return flat;
        }
        let points = Points {
            targets: [1.0 / (negative + 2.0), (positive + 1.0) / (positive + 2.0)],
            // In the place of the rows.
            rows: rows.into_iter().map(|r| Row { score: (r.score - mean) / spread, ..r }).collect(),
        };
        let (a, b) = newton(&points, flat.offset, total);
        let fitted = Self { slope: a / spread, offset: b - a * mean / spread };
        if fitted.slope < 0.0 && fitted.slope.is_finite() && fitted.offset.is_finite() { fitted } else { flat }
    }
}

/// Rows with standardised scores, and the probability that one should have which is not positive, and one which is.
struct Points {
    rows: Vec<Row>,
    targets: [f64; 2],
}

impl Points {
    /// Standardised score, probability it should have, weight.
    fn each(&self) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        self.rows.iter().map(|r| (r.score, self.targets[usize::from(r.positive())], r.weight()))
    }
}

/// Least log loss over slope and offset: Newton's method with a line search (Lin, Lin and Weng 2007, their appendix 3).
fn newton(points: &Points, offset: f64, total: f64) -> (f64, f64) {
    let (mut a, mut b) = (0.0, offset);
    let mut loss = log_loss(points, a, b);
    for _ in 0..MAX_STEPS {
        let (mut h11, mut h22, mut h21, mut g1, mut g2) = (RIDGE, RIDGE, 0.0, 0.0, 0.0);
        for (x, target, weight) in points.each() {
            let p = Platt { slope: a, offset: b }.apply(x);
            let d2 = weight * p * (1.0 - p);
            let d1 = weight * (target - p);
            h11 += x * x * d2;
            h22 += d2;
            h21 += x * d2;
            g1 += x * d1;
            g2 += d1;
        }
        if g1.abs() < FLAT * total && g2.abs() < FLAT * total {
            break;
        }
        let det = h11 * h22 - h21 * h21;
        let (da, db) = (-(h22 * g1 - h21 * g2) / det, -(h11 * g2 - h21 * g1) / det);
        let descent = g1 * da + g2 * db;
        let Some((step, found)) = search(points, (a, b), (da, db), (loss, descent)) else { break };
        a += step * da;
        b += step * db;
        loss = found;
    }
    (a, b)
}

/// Halves the step until the loss falls enough.
fn search(points: &Points, (a, b): (f64, f64), (da, db): (f64, f64), (loss, descent): (f64, f64)) -> Option<(f64, f64)> {
    let mut step = 1.0;
    while step >= MIN_STEP {
        let found = log_loss(points, a + step * da, b + step * db);
        if found < loss + 1e-4 * step * descent {
            return Some((step, found));
        }
        step /= 2.0;
    }
    None
}

fn log_loss(points: &Points, a: f64, b: f64) -> f64 {
    let one = |(x, target, weight): (f64, f64, f64)| {
        let z = a * x + b;
        let loss = if z >= 0.0 { target * z + libm::log1p(libm::exp(-z)) } else { (target - 1.0) * z + libm::log1p(libm::exp(z)) };
        weight * loss
    };
    points.each().map(one).sum()
}

#[cfg(test)]
mod tests;
