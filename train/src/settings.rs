//! `[train]`, written and checked, with the decision rules and costs that the threshold is chosen by.

use homeward_models::ConfigError;
use homeward_models::cost::{Costs, WrittenCosts};
use homeward_models::decision::{Rules, WrittenDecide};
use homeward_models::label::Target;
use homeward_models::time::parse_duration;
use serde::{Deserialize, Serialize};

/// `[train]` as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenTrain {
    /// How far ahead a failure counts, ascending, default `["10m"]`; the last one decides.
    pub horizons: Vec<String>,
    /// `failure` (default and so far the only one): a failure within a horizon.
    pub target: String,
    /// Groups of devices that are held out in turn, default 5.
    pub folds: usize,
    /// Seed of all chance, default 1.
    pub seed: u64,
    /// `better` (default): only if it costs less than never in 90 % of the bootstrap samples; `always`; `never`.
    pub promote: String,
    /// Depth of the tree, default 6.
    pub depth: usize,
    /// Balanced weight that a leaf holds at least, default 20.
    pub min_leaf: f32,
    /// About how many rows a tree's structure is fitted on, default 20,000; all positives that fit half of it, and negatives drawn at random. Leaf rates come from all rows.
    pub max_fit_rows: usize,
}

impl Default for WrittenTrain {
    fn default() -> Self {
        Self {
            horizons: vec!["10m".into()],
            target: "failure".into(),
            folds: 5,
            seed: 1,
            promote: "better".into(),
            depth: 6,
            min_leaf: 20.0,
            max_fit_rows: 20_000,
        }
    }
}

/// When the champion moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promote {
    /// If the bootstrap says that it costs less than never.
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
    /// Groups of devices.
    pub folds: usize,
    /// Seed of all chance.
    pub seed: u64,
    /// When the champion moves.
    pub promote: Promote,
    /// Depth of the tree.
    pub depth: usize,
    /// Balanced weight that a leaf holds at least.
    pub min_leaf: f32,
    /// Rows that a tree's structure is fitted on at most.
    pub max_fit_rows: usize,
    /// How alerts are raised and cleared.
    pub rules: Rules,
    /// The same as written, for the model file.
    pub decide: WrittenDecide,
    /// What things cost.
    pub costs: Costs,
    /// The same as written, for the model file.
    pub money: WrittenCosts,
}

impl Settings {
    /// Checks the written forms; errors name `train.…`, `decide.…` or `costs.…`.
    pub fn check(train: &WrittenTrain, decide: &WrittenDecide, money: &WrittenCosts) -> Result<Self, ConfigError> {
        let horizons = horizons(&train.horizons)?;
        let target = match train.target.as_str() {
            "failure" => Target::Failure,
            // Labels know "present"; what its alerts cost is not priced yet.
            other => {
                return Err(ConfigError::new("train.target", format!("{other:?}"), "\"failure\", the one target that this version prices"));
            }
        };
        let promote = match train.promote.as_str() {
            "better" => Promote::Better,
            "always" => Promote::Always,
            "never" => Promote::Never,
            other => return Err(ConfigError::new("train.promote", format!("{other:?}"), "\"better\", \"always\" or \"never\"")),
        };
        within("train.folds", train.folds, 2, 100)?;
        within("train.depth", train.depth, 1, 12)?;
        within("train.max_fit_rows", train.max_fit_rows, 100, 10_000_000)?;
        if !(train.min_leaf >= 1.0 && train.min_leaf < 1e6) {
            return Err(ConfigError::new("train.min_leaf", train.min_leaf, "a weight from 1 to 1000000"));
        }
        let longest = horizons.last().copied().unwrap_or_default();
        Ok(Self {
            target,
            folds: train.folds,
            seed: train.seed,
            promote,
            depth: train.depth,
            min_leaf: train.min_leaf,
            max_fit_rows: train.max_fit_rows,
            rules: Rules::check(decide)?,
            decide: decide.clone(),
            costs: Costs::check(money, longest)?,
            money: money.clone(),
            horizons,
        })
    }

    /// The last horizon, which decides, in milliseconds.
    pub fn horizon(&self) -> i64 {
        self.horizons.last().copied().unwrap_or_default()
    }

    /// A 64-bit print of all settings, for the lineage.
    pub fn print(&self) -> String {
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(format!("{self:?}").as_bytes()))
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
        assert_eq!(key(WrittenTrain { folds: 1, ..Default::default() }), "train.folds");
        assert_eq!(key(WrittenTrain { promote: "maybe".into(), ..Default::default() }), "train.promote");
        assert_eq!(key(WrittenTrain { min_leaf: 0.0, ..Default::default() }), "train.min_leaf");
    }
}
