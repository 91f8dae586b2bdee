//! `[predict]`, written and checked.

use std::time::Duration;

use homeward_models::decision::{Homing, Rules, WrittenDecide};
use homeward_models::time::parse_duration;
use homeward_models::{ConfigError, Fleet};
use serde::{Deserialize, Serialize};

/// `[predict]` as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenPredict {
    /// How often the registry is asked for a new champion, default 5 s.
    pub reload_every: String,
    /// A device's health is published when its alert changes, and at least this often while it is heard, default 30 s.
    pub health_every: String,
    /// Of scored readings that change nothing this share is archived in `scores`, default 0.01; refusals, events, changes and starts all are.
    pub score_share: f64,
    /// Of the archived rows of scored readings this share has all features with it, so that audit can name one that differs, default 0.01; those that
    /// raise or clear all do. A row with features is some kilobytes.
    pub feature_share: f64,
    /// Everything remembered is kept on disk this often, default 10 s; after a crash the messages since then are scored again.
    pub keep_every: String,
}

impl Default for WrittenPredict {
    fn default() -> Self {
        Self { reload_every: "5s".into(), health_every: "30s".into(), score_share: 0.01, feature_share: 0.01, keep_every: "10s".into() }
    }
}

/// `[predict]`, checked, and the rules that the operator sets: how calls repeat and expire. How alerts are raised and cleared comes with the model,
/// whose threshold was chosen under those rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Time between two looks at the registry.
    pub reload_every: Duration,
    /// Most time between two health messages of a device, milliseconds.
    pub health_every: i64,
    /// The operator's rules.
    pub rules: Rules,
    /// Larger payloads are not decoded, as in ingest.
    pub max_message_bytes: usize,
    /// How a device comes home.
    pub homing: Homing,
    /// Share of the scored readings that is archived.
    pub score_share: f64,
    /// Share of the archived rows that have all features with them.
    pub feature_share: f64,
    /// Whether partitions are hours, as in ingest.
    pub hourly: bool,
    /// How often everything is kept on disk.
    pub keep_every: Duration,
    /// Say nothing to devices; log what would be said.
    pub dry_run: bool,
}

impl Settings {
    /// Checks the written forms; errors name `predict.…` or `decide.…`. The largest message and the partitions are those of ingest, so that both
    /// take the same readings and put them into the same places.
    pub fn check(
        w: &WrittenPredict,
        decide: &WrittenDecide,
        fleet: &Fleet,
        max_message_bytes: usize,
        hourly: bool,
    ) -> Result<Self, ConfigError> {
        let positive = |key: &str, text: &str| match parse_duration(key, text)? {
            0 => Err(ConfigError::new(key, format!("{text:?}"), "more than \"0s\"")),
            ms => Ok(ms),
        };
        for (key, share) in [("predict.score_share", w.score_share), ("predict.feature_share", w.feature_share)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(ConfigError::new(key, share, "a share from 0 to 1"));
            }
        }
        Ok(Self {
            reload_every: Duration::from_millis(positive("predict.reload_every", &w.reload_every)?.unsigned_abs()),
            health_every: positive("predict.health_every", &w.health_every)?,
            rules: Rules::check(decide)?,
            homing: Homing::check(decide, fleet)?,
            score_share: w.score_share,
            feature_share: w.feature_share,
            hourly,
            keep_every: Duration::from_millis(positive("predict.keep_every", &w.keep_every)?.unsigned_abs()),
            max_message_bytes,
            dry_run: false,
        })
    }
}
