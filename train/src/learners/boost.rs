//! `boost`: gradient boosting on log loss over histograms (Friedman 2001; Ke et al. 2017), a linfa estimator.

use homeward_models::ensemble::Link;
use linfa::dataset::DatasetBase;
use linfa::traits::Fit;
use rayon::prelude::*;

use super::chance;
use super::data::{Codes, Sample, Targets};
use super::flat::{Split, Trees, leaf_of};
use super::grow::{Grower, Grown, Shape};
use super::loss;
use super::packed::{CHUNK, Packed, in_order};
use super::params::{Checked, Hyper, within};
use super::scan::Rules;
use super::{LearnError, enough};

/// Settings of gradient boosting, not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Boost {
    /// Trees at most, default 200.
    pub rounds: usize,
    /// By how much each tree's values shrink, default 0.05.
    pub learning_rate: f64,
    /// Leaves a tree at most, default 31.
    pub leaves: usize,
    /// Splits from a tree's root to a leaf at most, default 64.
    pub depth: usize,
    /// Rows a leaf at least, default 20.
    pub min_rows: usize,
    /// Second derivatives that a leaf sums up to at least, default 1, as in XGBoost: with less, rare outcomes make leaves of wild values.
    pub min_weight: f64,
    /// λ: what is added to a leaf's second derivatives, default 1.
    pub l2: f64,
    /// Gain that a split must exceed, default 0.
    pub min_gain: f64,
    /// Share of the rows that each tree sees, default 1.
    pub row_sample: f64,
    /// Share of the features that each tree sees, default 1.
    pub column_sample: f64,
    /// Rounds without a lower log loss on the watched rows after which it stops, keeping the best round; default none: all rounds.
    pub patience: Option<usize>,
    /// By feature: 1 if the risk must not fall as the feature rises, −1 if it must not rise, 0 for any. Empty (default): any.
    pub monotone: Vec<i8>,
    /// Seed of all chance, default 1.
    pub seed: u64,
}

impl Default for Boost {
    fn default() -> Self {
        Self {
            rounds: 200,
            learning_rate: 0.05,
            leaves: 31,
            depth: 64,
            min_rows: 20,
            min_weight: 1.0,
            l2: 1.0,
            min_gain: 0.0,
            row_sample: 1.0,
            column_sample: 1.0,
            patience: None,
            monotone: Vec::new(),
            seed: 1,
        }
    }
}

impl Hyper for Boost {
    fn check(&self) -> Result<(), LearnError> {
        within("boost.rounds", self.rounds as f64, 1.0, 100_000.0)?;
        within("boost.learning_rate", self.learning_rate, 1e-6, 1.0)?;
        within("boost.leaves", self.leaves as f64, 2.0, 4096.0)?;
        within("boost.depth", self.depth as f64, 1.0, 4096.0)?;
        within("boost.min_rows", self.min_rows as f64, 1.0, 1e9)?;
        within("boost.min_weight", self.min_weight, 0.0, 1e12)?;
        within("boost.l2", self.l2, 0.0, 1e12)?;
        within("boost.min_gain", self.min_gain, 0.0, 1e12)?;
        within("boost.row_sample", self.row_sample, 0.01, 1.0)?;
        within("boost.column_sample", self.column_sample, 0.001, 1.0)?;
        within("boost.patience", self.patience.map_or(1.0, |p| p as f64), 1.0, 100_000.0)?;
        self.monotone.iter().try_for_each(|m| within("boost.monotone", f64::from(*m), -1.0, 1.0))
    }
}

impl<'a> Fit<Sample<'a>, &'a Targets, LearnError> for Checked<Boost> {
    type Object = Trees;

    fn fit(&self, dataset: &DatasetBase<Sample<'a>, &'a Targets>) -> Result<Trees, LearnError> {
        let (settings, sample, targets) = (self.get(), &dataset.records, dataset.targets);
        let features = sample.binned.features();
        if !settings.monotone.is_empty() && settings.monotone.len() != features {
            let found = format!("{} entries", settings.monotone.len());
            return Err(LearnError::Setting { name: "boost.monotone", found, expected: format!("none or {features}, one a feature") });
        }
        enough(sample, targets)?;
        Ok(Fitting::new(settings, sample, targets).run())
    }
}

/// The scores of some rows at one horizon, and what is known of them.
struct Scores {
    failed: Vec<f32>,
    weight: Vec<f32>,
    score: Vec<f32>,
}

impl Scores {
    fn new(targets: &Targets, rows: &[u32], k: usize, base: f64) -> Self {
        let of = |f: &dyn Fn(usize) -> f32| rows.iter().map(|row| f(*row as usize)).collect();
        Self {
            failed: of(&|row| targets.failed(row, k)),
            weight: of(&|row| targets.weight_at(row, k)),
            score: vec![base as f32; rows.len()],
        }
    }

    /// Moves each score by its leaf's value; returns the sum of the losses after that, and of the weights.
    fn watch(&mut self, leaves: &[u16], values: &[f32]) -> (f64, f64) {
        let rows = self
            .score
            .par_chunks_mut(CHUNK)
            .zip(leaves.par_chunks(CHUNK))
            .zip(self.failed.par_chunks(CHUNK).zip(self.weight.par_chunks(CHUNK)));
        let parts = rows.map(|((scores, leaves), (failed, weight))| {
            let each = scores.iter_mut().zip(leaves).zip(failed.iter().zip(weight));
            each.fold((0.0, 0.0), |sum, ((score, leaf), (failed, weight))| {
                *score += values[usize::from(*leaf)];
                let weight = f64::from(*weight);
                (sum.0 + weight * loss::log_loss(f64::from(*score), f64::from(*failed)), sum.1 + weight)
            })
        });
        in_order(parts.collect())
    }

    /// Moves each score by its leaf's value and packs the gradients at the new scores.
    fn advance(&mut self, leaves: &[u16], values: &[f32], gradients: &mut [(f32, f32)], packed: &mut Packed) {
        let rows = self
            .score
            .par_chunks_mut(CHUNK)
            .zip(leaves.par_chunks(CHUNK))
            .zip(self.failed.par_chunks(CHUNK).zip(self.weight.par_chunks(CHUNK)));
        let parts = rows.zip(gradients.par_chunks_mut(CHUNK)).map(|(((scores, leaves), (failed, weight)), gradients)| {
            scores.iter_mut().zip(leaves).for_each(|(score, leaf)| *score += values[usize::from(*leaf)]);
            let each = gradients.iter_mut().zip(scores.iter()).zip(failed.iter().zip(weight));
            each.for_each(|((gradient, score), (failed, weight))| *gradient = loss::gradient(*score, *failed, *weight));
            gradients.iter().fold((0.0, 0.0), |sum, (g, h)| (sum.0 + f64::from(g.abs()), sum.1 + f64::from(*h)))
        });
        let sums = in_order(parts.collect());
        packed.pack(gradients, sums);
    }
}

/// A fit under way. Rows are numbered within the sample here, and features within those that vary.
struct Fitting<'a> {
    settings: &'a Boost,
    codes: Codes<'a>,
    watched: Codes<'a>,
    base: Vec<f64>,
    scores: Vec<Scores>,
    watched_scores: Vec<Scores>,
    gradients: Vec<(f32, f32)>,
    packed: Vec<Packed>,
    grower: Grower,
    trees: Trees,
}

impl<'a> Fitting<'a> {
    fn new(settings: &'a Boost, sample: &Sample<'a>, targets: &Targets) -> Self {
        let (codes, watched) = varying(sample);
        let rate = |k: usize| targets.rate(sample.rows, k);
        let base: Vec<f64> = (0..targets.horizons()).map(rate).map(|rate| libm::log(rate / (1.0 - rate))).collect();
        let scores = |rows: &[u32]| base.iter().enumerate().map(|(k, base)| Scores::new(targets, rows, k, *base)).collect();
        let rows = sample.rows.len();
        Self {
            settings,
            scores: scores(sample.rows),
            watched_scores: scores(sample.valid),
            gradients: vec![(0.0, 0.0); rows],
            packed: base.iter().map(|_| Packed::new(rows)).collect(),
            grower: Grower::default(),
            trees: Trees::new(Link::Logistic, sample.binned.features(), base.clone()),
            codes,
            watched,
            base,
        }
    }

    fn run(mut self) -> Trees {
        let shape = self.shape();
        let mut leaves = vec![0u16; self.codes.rows];
        let mut values = vec![vec![0.0f32]; self.base.len()];
        let (mut best, mut best_loss) = (0, f64::INFINITY);
        for round in 0..self.settings.rounds {
            for (k, scores) in self.scores.iter_mut().enumerate() {
                scores.advance(&leaves, &values[k], &mut self.gradients, &mut self.packed[k]);
            }
            let grown = self.grow(round as u64, &shape);
            values = self.add(&grown, &mut leaves);
            if self.watched.rows > 0 {
                let loss = self.watch(&grown, &values);
                if loss < best_loss {
                    (best, best_loss) = (round + 1, loss);
                } else if self.settings.patience.is_some_and(|patience| round + 1 >= best + patience) {
                    break;
                }
            }
            if grown.splits.is_empty() && self.settings.row_sample == 1.0 && self.settings.column_sample == 1.0 {
                break;
            }
        }
        if self.settings.patience.is_some() && best > 0 {
            self.trees.truncate(best);
        }
        self.trees
    }

    fn shape(&self) -> Shape {
        let s = self.settings;
        let rules = Rules { l2: s.l2, min_weight: s.min_weight, min_rows: s.min_rows };
        let of = |feature: &u32| s.monotone.get(*feature as usize).copied().unwrap_or_default();
        let monotone: Vec<i8> = self.codes.features.iter().map(of).collect();
        let monotone = if monotone.iter().any(|m| *m != 0) { monotone } else { Vec::new() };
        Shape { max_leaves: s.leaves, max_depth: s.depth, min_gain: s.min_gain, rules, monotone }
    }

    /// Grows a tree on the round's share of rows and features; its features are numbered as in `codes`.
    fn grow(&mut self, round: u64, shape: &Shape) -> Grown {
        let (s, all) = (self.settings, self.codes.features.len());
        let rows = 0..self.codes.rows as u32;
        let (seed, share) = (s.seed ^ 0x0b00_57a0, s.row_sample);
        let rows = rows.filter(|row| share == 1.0 || chance::drawn(seed, round, u64::from(*row), share));
        let count = ((all as f64 * s.column_sample).ceil() as usize).min(all);
        if count == all {
            return self.grower.grow(&self.codes, &self.packed, rows, shape);
        }
        let columns = chance::choose(s.seed ^ 0x0b00_57c0, round, all, count);
        let codes = self.codes.select(&columns);
        let monotone = if shape.monotone.is_empty() { Vec::new() } else { columns.iter().map(|c| shape.monotone[*c]).collect() };
        let mut grown = self.grower.grow(&codes, &self.packed, rows, &Shape { monotone, ..shape.clone() });
        grown.splits.iter_mut().for_each(|split| split.feature = columns[split.feature as usize] as u32);
        grown
    }

    /// Adds a grown tree to the model; returns its leaf values, and in `leaves` each row's leaf.
    fn add(&mut self, grown: &Grown, leaves: &mut [u16]) -> Vec<Vec<f32>> {
        let s = self.settings;
        let k = self.base.len();
        let value = |leaf: usize, k: usize| grown.leaves[leaf].value(k, self.packed[k].scale, s.l2) * s.learning_rate;
        let flat: Vec<f64> = (0..grown.leaves.len() * k).map(|i| value(i / k, i % k)).collect();
        let weight = |leaf: usize| {
            self.grower.rows_of(&grown.leaves[leaf]).iter().map(|row| f64::from(self.scores[k - 1].weight[*row as usize])).sum()
        };
        let cover: Vec<f64> = (0..grown.leaves.len()).map(weight).collect();
        let features = &self.codes.features;
        self.trees.push(grown.splits.iter().map(|s| Split { feature: features[s.feature as usize], ..*s }), &flat, &cover);
        if s.row_sample < 1.0 {
            place(&self.codes, &grown.splits, leaves);
        } else {
            for (i, leaf) in grown.leaves.iter().enumerate() {
                self.grower.rows_of(leaf).iter().for_each(|row| leaves[*row as usize] = i as u16);
            }
        }
        (0..k).map(|k| flat.iter().skip(k).step_by(self.base.len()).map(|v| *v as f32).collect()).collect()
    }

    /// Mean log loss of the watched rows after one more tree, summed over the horizons.
    fn watch(&mut self, grown: &Grown, values: &[Vec<f32>]) -> f64 {
        let mut leaves = vec![0u16; self.watched.rows];
        place(&self.watched, &grown.splits, &mut leaves);
        let losses = self.watched_scores.iter_mut().zip(values).map(|(scores, values)| scores.watch(&leaves, values));
        let (loss, weight) = losses.fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        loss / weight
    }
}

/// The leaf of every row.
fn place(codes: &Codes<'_>, splits: &[Split], leaves: &mut [u16]) {
    let root = if splits.is_empty() { -1 } else { 0 };
    leaves.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, leaves)| {
        for (i, leaf) in leaves.iter_mut().enumerate() {
            *leaf = leaf_of(splits, root, |feature| codes.code(chunk * CHUNK + i, feature)) as u16;
        }
    });
}

/// Codes of the rows to fit on and of those to watch, with the features that vary among the former.
fn varying<'a>(sample: &Sample<'a>) -> (Codes<'a>, Codes<'a>) {
    let (codes, watched) = (Codes::take(sample.binned, sample.rows), Codes::take(sample.binned, sample.valid));
    let columns = codes.varying();
    (codes.only(&columns), watched.only(&columns))
}
