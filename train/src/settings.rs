//! `[train]`, written and checked, with the decision rules and costs that the threshold is chosen by.

use std::path::PathBuf;
use std::time::Duration;

use homeward_models::ConfigError;
use homeward_models::cost::{Costs, WrittenCosts};
use homeward_models::decision::{Rules, WrittenDecide};
use homeward_models::label::Target;
use homeward_models::time::parse_duration;
use serde::{Deserialize, Serialize};

use crate::room::Room;

/// `[train]` as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenTrain {
    /// How far ahead a failure counts, ascending, default `["10m"]`; the last one decides.
    pub horizons: Vec<String>,
    /// `failure` (default): a failure within a horizon. `present`: a fault that is there, from its event `fault` to the failure or repair; for faults without a
    /// forerunner. Horizons then only name the risk.
    pub target: String,
    /// `auto` (default): those that fit the data are tried, and the one of least cost is kept; `tree`: one readable tree; `forest`: a random
    /// forest; `boost`: gradient boosting; `novelty`: the distance from healthy readings, for a fleet that has not failed yet. `auto` is
    /// `novelty` while fewer than two devices have failed, unless trees are in service.
    pub learner: String,
    /// `novelty` calls at the lowest score that gives at most so many false alarms in 1,000 operating hours, default 1.
    pub false_alarms_per_1000h: f64,
    /// Settings of a learner that are tried at most, default 3.
    pub trials: usize,
    /// Groups of devices that are held out in turn, default 5.
    pub folds: usize,
    /// Share held out of all choices: of the failures, the latest ones; where each device has one life, of the devices. Default 0.2, 0 for none.
    pub holdout: f64,
    /// Seed of all chance, default 1.
    pub seed: u64,
    /// `better` (default): only if in 90 % of the bootstrap samples it costs less than the champion, on data that neither has seen; the first must beat never. `always`;
    /// `never`.
    pub promote: String,
    /// Once this much time is spent no further recipe is begun, default 30 min.
    pub budget: String,
    /// File in Prometheus' text format that tells of the last run, for a monitor; default none.
    pub metrics_file: String,
    /// Depth of the one tree of learner `tree`, default 6.
    pub depth: usize,
    /// Balanced weight that its leaves hold at least, default 20.
    pub min_leaf: f32,
    /// About how many rows a model is fitted on, default 100,000: readings near a failure first; those far from any are thinned, and weigh as much as those
    /// they stand for.
    pub max_fit_rows: usize,
    /// Memory that a run takes, about, default 2 GiB. Half of it holds readings and coded features, which wait in temporary files when they do not fit; the rest is for
    /// what is fitted on and for about 80 bytes a reading, which it takes in any case. The model does not depend on it, as long as
    /// `budget` gives up no recipe for its slowness.
    pub memory_bytes: usize,
    /// Folder of these files, default the system's for temporary files (`TMPDIR`).
    pub scratch: String,
}

/// The default of `memory_bytes`.
pub(crate) const MEMORY_BYTES: usize = 2 << 30;

impl Default for WrittenTrain {
    fn default() -> Self {
        Self {
            horizons: vec!["10m".into()],
            target: "failure".into(),
            learner: "auto".into(),
            false_alarms_per_1000h: 1.0,
            trials: 3,
            folds: 5,
            seed: 1,
            holdout: 0.2,
            promote: "better".into(),
            budget: "30m".into(),
            metrics_file: String::new(),
            depth: 6,
            min_leaf: 20.0,
            max_fit_rows: 100_000,
            memory_bytes: MEMORY_BYTES,
            scratch: String::new(),
        }
    }
}

/// What learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LearnerChoice {
    /// Those that fit the data; the one of least cost is kept.
    Auto,
    /// One readable tree.
    Tree,
    /// A random forest.
    Forest,
    /// Gradient boosting.
    Boost,
    /// The distance from healthy readings.
    Novelty,
}

/// How a threshold is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    /// The one of least cost.
    Cheapest,
    /// The lowest one down to which all give at most so many false alarms in 1,000 operating hours.
    Within(f64),
}

/// When the champion moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promote {
    /// If the bootstrap says that it costs less than the champion (the first: than never).
    Better,
    /// In any case.
    Always,
    /// Never; the version is stored.
    Never,
}

/// All that training needs to know beside the fleet, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Horizons in milliseconds, ascending.
    pub horizons: Vec<i64>,
    /// What is learnt.
    pub target: Target,
    /// What learns.
    pub learner: LearnerChoice,
    /// False alarms of `novelty` in 1,000 operating hours at most.
    pub false_alarms_per_1000h: f64,
    /// Settings of a learner that are tried at most.
    pub trials: usize,
    /// Groups of devices.
    pub folds: usize,
    /// Share held out.
    pub holdout: f64,
    /// Seed of all chance.
    pub seed: u64,
    /// When the champion moves.
    pub promote: Promote,
    /// Time after which no further recipe is begun.
    pub budget: Duration,
    /// Where to tell of the last run.
    pub metrics_file: Option<PathBuf>,
    /// Depth of the tree.
    pub depth: usize,
    /// Balanced weight that a leaf holds at least.
    pub min_leaf: f32,
    /// Rows that a tree's structure is fitted on at most.
    pub max_fit_rows: usize,
    /// Memory that a run takes, about.
    pub memory_bytes: usize,
    /// Folder of the files that hold what does not fit; `None`: the system's for temporary files.
    pub scratch: Option<PathBuf>,
    /// How alerts are raised and cleared.
    pub rules: Rules,
    /// The same as written, for the model file.
    pub decide: WrittenDecide,
    /// What things cost.
    pub costs: Costs,
    /// The same as written, for the model file.
    pub money: WrittenCosts,
    /// Takes all that did not fail for healthy, what was called and repaired included. Wrong once calls are obeyed, and in no configuration: to be
    /// measured beside.
    pub naive_labels: bool,
}

impl Settings {
    /// Checks the written forms; errors name `train.…`, `decide.…` or `costs.…`.
    pub fn check(train: &WrittenTrain, decide: &WrittenDecide, money: &WrittenCosts) -> Result<Self, ConfigError> {
        let horizons = horizons(&train.horizons)?;
        let target = match train.target.as_str() {
            "failure" => Target::Failure,
            "present" => Target::Present,
            other => return Err(ConfigError::new("train.target", format!("{other:?}"), "\"failure\" or \"present\"")),
        };
        let promote = match train.promote.as_str() {
            "better" => Promote::Better,
            "always" => Promote::Always,
            "never" => Promote::Never,
            other => return Err(ConfigError::new("train.promote", format!("{other:?}"), "\"better\", \"always\" or \"never\"")),
        };
        let learner = match train.learner.as_str() {
            "auto" => LearnerChoice::Auto,
            "tree" => LearnerChoice::Tree,
            "forest" => LearnerChoice::Forest,
            "boost" => LearnerChoice::Boost,
            "novelty" => LearnerChoice::Novelty,
            other => {
                let expected = "\"auto\", \"tree\", \"forest\", \"boost\" or \"novelty\"";
                return Err(ConfigError::new("train.learner", format!("{other:?}"), expected));
            }
        };
        if !(train.false_alarms_per_1000h.is_finite() && train.false_alarms_per_1000h >= 0.0) {
            return Err(ConfigError::new("train.false_alarms_per_1000h", train.false_alarms_per_1000h, "a number of at least 0"));
        }
        within("train.trials", train.trials, 1, 3)?;
        within("train.folds", train.folds, 2, 100)?;
        within("train.depth", train.depth, 1, 12)?;
        within("train.max_fit_rows", train.max_fit_rows, 100, 10_000_000)?;
        if !(train.min_leaf >= 1.0 && train.min_leaf < 1e6) {
            return Err(ConfigError::new("train.min_leaf", train.min_leaf, "a weight from 1 to 1000000"));
        }
        if !(0.0..=0.5).contains(&train.holdout) {
            return Err(ConfigError::new("train.holdout", train.holdout, "a share from 0 to 0.5"));
        }
        if train.memory_bytes < 64 << 20 {
            return Err(ConfigError::new("train.memory_bytes", train.memory_bytes, "at least 67108864 bytes"));
        }
        let budget = Duration::from_millis(parse_duration("train.budget", &train.budget)?.unsigned_abs());
        let longest = horizons.last().copied().unwrap_or_default();
        Ok(Self {
            target,
            learner,
            false_alarms_per_1000h: train.false_alarms_per_1000h,
            trials: train.trials,
            folds: train.folds,
            holdout: train.holdout,
            seed: train.seed,
            promote,
            budget,
            metrics_file: (!train.metrics_file.is_empty()).then(|| PathBuf::from(&train.metrics_file)),
            depth: train.depth,
            min_leaf: train.min_leaf,
            max_fit_rows: train.max_fit_rows,
            memory_bytes: train.memory_bytes,
            scratch: (!train.scratch.is_empty()).then(|| PathBuf::from(&train.scratch)),
            rules: Rules::check(decide)?,
            decide: decide.clone(),
            costs: Costs::check(money, longest)?,
            money: money.clone(),
            horizons,
            naive_labels: false,
        })
    }

    /// Where a run keeps what grows with the archive.
    pub(crate) fn room(&self) -> Room {
        Room::new(self.memory_bytes / 2, self.scratch.as_deref())
    }

    /// The last horizon, which decides, in milliseconds.
    pub fn horizon(&self) -> i64 {
        self.horizons.last().copied().unwrap_or_default()
    }

    /// How the threshold is chosen: `novelty` knows no failures whose cost could tell.
    pub(crate) fn rule(&self) -> Rule {
        if self.learner == LearnerChoice::Novelty { Rule::Within(self.false_alarms_per_1000h) } else { Rule::Cheapest }
    }

    /// A 64-bit print of all settings that the model depends on, for the lineage.
    pub fn print(&self) -> String {
        // What the model does not depend on is as if it were not there.
        let settled = Self { metrics_file: None, promote: Promote::Better, memory_bytes: 0, scratch: None, ..self.clone() };
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(format!("{settled:?}").as_bytes()))
    }
}

fn horizons(written: &[String]) -> Result<Vec<i64>, ConfigError> {
    let horizons = written.iter().map(|h| parse_duration("train.horizons", h)).collect::<Result<Vec<_>, _>>()?;
    if horizons.is_empty() || horizons[0] == 0 || !horizons.is_sorted_by(|a, b| a < b) {
        return Err(ConfigError::new(
            "train.horizons",
            format!("{written:?}"),
            "at least one duration above 0, each longer than the one before",
        ));
    }
    Ok(horizons)
}

fn within(key: &str, value: usize, low: usize, high: usize) -> Result<(), ConfigError> {
    if (low..=high).contains(&value) { Ok(()) } else { Err(ConfigError::new(key, value, format!("a number from {low} to {high}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_name_their_key() {
        let key = |train: WrittenTrain| Settings::check(&train, &WrittenDecide::default(), &WrittenCosts::default()).unwrap_err().key;
        assert_eq!(key(WrittenTrain { horizons: vec![], ..Default::default() }), "train.horizons");
        assert_eq!(key(WrittenTrain { horizons: vec!["10m".into(), "5m".into()], ..Default::default() }), "train.horizons");
        assert_eq!(key(WrittenTrain { target: "x".into(), ..Default::default() }), "train.target");
        assert_eq!(key(WrittenTrain { learner: "x".into(), ..Default::default() }), "train.learner");
        assert_eq!(key(WrittenTrain { false_alarms_per_1000h: -1.0, ..Default::default() }), "train.false_alarms_per_1000h");
        assert_eq!(key(WrittenTrain { false_alarms_per_1000h: f64::NAN, ..Default::default() }), "train.false_alarms_per_1000h");
        assert_eq!(key(WrittenTrain { folds: 1, ..Default::default() }), "train.folds");
        assert_eq!(key(WrittenTrain { holdout: 0.7, ..Default::default() }), "train.holdout");
        assert_eq!(key(WrittenTrain { budget: "soon".into(), ..Default::default() }), "train.budget");
        assert_eq!(key(WrittenTrain { promote: "maybe".into(), ..Default::default() }), "train.promote");
        assert_eq!(key(WrittenTrain { memory_bytes: 1 << 20, ..Default::default() }), "train.memory_bytes");
        assert_eq!(key(WrittenTrain { min_leaf: 0.0, ..Default::default() }), "train.min_leaf");
    }
}
