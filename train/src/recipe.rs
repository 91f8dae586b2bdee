//! Recipes: a learner with its settings, the ones that are tried, and how each is fitted.

use homeward_models::ensemble::Ensemble;

use crate::binned::Binned;
use crate::learners::{Boost, Fitted, Forest, Learner, Sample, Targets, Tree};
use crate::matrix::Matrix;
use crate::sample::FitRows;
use crate::settings::LearnerChoice;
use crate::{Settings, TrainError};

/// Rounds without a lower log loss on the inner fold after which boosting stops.
const PATIENCE: usize = 50;
/// One device in so many is the inner fold that says when to stop.
const INNER: u64 = 5;

/// A learner with its settings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recipe {
    learner: Learner,
    /// What is special about the settings.
    note: &'static str,
}

/// A fitted recipe.
pub(crate) struct Fit {
    fitted: Fitted,
    pub(crate) ensemble: Ensemble,
}

/// What is tried, in this order: the first is always tried, the others while there is time.
pub(crate) fn candidates(settings: &Settings) -> Vec<Recipe> {
    let boost = |note, change: &dyn Fn(&mut Boost)| {
        let mut boost = Boost {
            rounds: 500,
            min_rows: 20,
            row_sample: 0.7,
            column_sample: 0.3,
            patience: Some(PATIENCE),
            seed: settings.seed,
            ..Boost::default()
        };
        change(&mut boost);
        Recipe { learner: Learner::Boost(boost), note }
    };
    let boosts = [
        // The first one is the best compromise over the sets of docs/learners.md.
        boost("15 leaves", &|b| {
            b.leaves = 15;
            b.l2 = 5.0;
        }),
        boost("7 leaves", &|b| b.leaves = 7),
        boost("31 leaves", &|_| ()),
    ];
    let boosts = boosts.into_iter().take(settings.trials);
    let forest = Learner::Forest(Forest { seed: settings.seed, ..Forest::default() });
    let tree = Learner::Tree(Tree { depth: settings.depth, min_leaf: settings.min_leaf });
    let [forest, tree] = [forest, tree].map(|learner| Recipe { learner, note: "" });
    match settings.learner {
        LearnerChoice::Tree => vec![tree],
        LearnerChoice::Forest => vec![forest],
        LearnerChoice::Boost => boosts.collect(),
        LearnerChoice::Auto => boosts.chain([tree, forest]).collect(),
        // Learns from values, not from codes: see `learn::novelty`.
        LearnerChoice::Novelty => Vec::new(),
    }
}

impl Recipe {
    /// The learner's name in the model file.
    pub(crate) fn name(&self) -> &'static str {
        self.learner.name()
    }

    /// The learner and what is special about it.
    pub(crate) fn describe(&self) -> String {
        if self.note.is_empty() { self.name().into() } else { format!("{} ({})", self.name(), self.note) }
    }

    /// Fits on weighed rows. A learner that can stop early first finds out when on devices of an inner fold, then learns from all rows.
    pub(crate) fn fit(&self, material: &Material) -> Result<Fit, TrainError> {
        let learner = stopped(&self.learner, material);
        let sample = Sample::new(&material.binned, &material.rows);
        let fitted = learner.fit(sample, &material.targets).map_err(TrainError::fit)?;
        Ok(Fit { ensemble: fitted.to_ensemble(&material.binned), fitted })
    }

    /// For the final fit on all rows, takes over when the folds' fits stopped: the median, so that no fold decides.
    pub(crate) fn settle(&mut self, fits: &[usize]) {
        let Learner::Boost(boost) = &mut self.learner else { return };
        let mut rounds = fits.to_vec();
        rounds.sort_unstable();
        if let (Some(median), Some(_)) = (rounds.get(rounds.len() / 2), boost.patience) {
            (boost.rounds, boost.patience) = ((*median).max(1), None);
        }
    }
}

/// What recipes are fitted on: the rows' codes, numbered anew, and what is known of them.
pub(crate) struct Material {
    binned: Binned,
    targets: Targets,
    /// All of them.
    rows: Vec<u32>,
    /// Those of the inner fold, and the others.
    inner: (Vec<u32>, Vec<u32>),
}

impl Material {
    /// The rows of `sample`.
    pub(crate) fn new(matrix: &Matrix, sample: &FitRows, settings: &Settings) -> Result<Self, TrainError> {
        let labels: Vec<_> = sample.rows.iter().map(|row| matrix.label(*row as usize)).collect();
        Ok(Self {
            binned: matrix.codes(&sample.rows)?,
            targets: Targets::of_labels(&labels, &settings.horizons).with_weights(sample.weights.clone()),
            rows: (0..sample.rows.len() as u32).collect(),
            inner: inner(matrix, sample, settings.seed),
        })
    }
}

/// The learner with as many rounds as do best on the inner fold.
fn stopped(learner: &Learner, material: &Material) -> Learner {
    let Learner::Boost(boost) = learner else { return learner.clone() };
    if boost.patience.is_none() {
        return learner.clone();
    }
    let (valid, rows) = &material.inner;
    let watched = learner.fit(Sample { binned: &material.binned, rows, valid }, &material.targets);
    // An inner fold without a failure, or a rest without one, cannot say when to stop.
    // The inner fold's rows come back to the others: a quarter more of them bears a quarter more rounds.
    let rounds = watched.map_or(boost.rounds / 2, |fitted| fitted.len() * (INNER as usize) / (INNER as usize - 1));
    Learner::Boost(Boost { rounds: rounds.max(1), patience: None, ..boost.clone() })
}

/// The places in `sample` of the rows of one device in five, drawn by name, failing and healthy ones alike, and of the others.
fn inner(matrix: &Matrix, sample: &FitRows, seed: u64) -> (Vec<u32>, Vec<u32>) {
    let mut place = [0u64; 2];
    let mut watched = vec![false; matrix.devices.len()];
    let mut order: Vec<usize> = (0..matrix.devices.len()).collect();
    order.sort_by_key(|d| xxhash_rust::xxh3::xxh3_64_with_seed(matrix.devices[*d].name.as_bytes(), seed ^ 0x1e4e));
    let used = |d: &usize| {
        let rows = &matrix.devices[*d].rows;
        let first = sample.rows.partition_point(|r| (*r as usize) < rows.start);
        sample.rows.get(first).is_some_and(|r| (*r as usize) < rows.end)
    };
    for device in order.into_iter().filter(used) {
        let kind = &mut place[usize::from(matrix.failing(device))];
        watched[device] = kind.is_multiple_of(INNER);
        *kind += 1;
    }
    let mut device = 0;
    (0..sample.rows.len() as u32).partition(|place| {
        while matrix.devices[device].rows.end <= sample.rows[*place as usize] as usize {
            device += 1;
        }
        watched[device]
    })
}

impl Fit {
    /// Trees of it.
    pub(crate) fn rounds(&self) -> usize {
        self.fitted.len()
    }

    /// q by horizon and row of `binned`.
    pub(crate) fn score(&self, binned: &Binned, horizons: usize) -> Vec<Vec<f64>> {
        let rows: Vec<u32> = (0..binned.rows() as u32).collect();
        let mut q = vec![vec![0.0; rows.len()]; horizons];
        for (row, risks) in self.fitted.risks(binned, &rows).chunks_exact(horizons).enumerate() {
            let mut before = 0.0;
            for (q, risk) in q.iter_mut().zip(risks) {
                q[row] = if before < 1.0 { (risk - before) / (1.0 - before) } else { 1.0 };
                before = *risk;
            }
        }
        q
    }
}
