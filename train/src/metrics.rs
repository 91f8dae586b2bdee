//! What a run measured, as `metrics.json` and for people.

use homeward_models::artifact::Model;
use homeward_models::cost::Tally;
use serde::Serialize;

use crate::evaluate::Evaluation;
use crate::history::History;

/// A policy's money and catches.
#[derive(Debug, Clone, Serialize)]
pub struct PolicyMetrics {
    /// Money per operating hour.
    pub cost_per_hour: f64,
    /// Failures called in time.
    pub called: u32,
    /// Failures called too late.
    pub late: u32,
    /// Failures.
    pub failures: u32,
    /// Alerts after which nothing was found.
    pub false_alarms: u32,
}

impl From<&Tally> for PolicyMetrics {
    fn from(t: &Tally) -> Self {
        Self { cost_per_hour: t.per_hour(), called: t.called, late: t.late, failures: t.failures, false_alarms: t.false_alarms }
    }
}

/// One failure on a held-out device.
#[derive(Debug, Clone, Serialize)]
pub struct FailureMetrics {
    /// Whose.
    pub device: String,
    /// When, milliseconds since 1970 UTC.
    pub ts: i64,
    /// `called`, `late` or `missed`.
    pub outcome: &'static str,
    /// From the alert to the failure, seconds.
    pub lead_s: f64,
}

/// What a run measured, all of it on devices that the classifier had not seen.
#[derive(Debug, Clone, Serialize)]
pub struct Metrics {
    /// Version of this file's schema.
    pub format: u32,
    /// Learner.
    pub learner: String,
    /// Archive objects read.
    pub objects: usize,
    /// Readings read.
    pub readings: usize,
    /// Devices.
    pub devices: usize,
    /// Features.
    pub features: usize,
    /// Rows with a known label.
    pub rows: usize,
    /// The positive ones of them.
    pub positives: usize,
    /// Average precision over those rows.
    pub average_precision: f64,
    /// Area under the ROC curve over those rows.
    pub auc: f64,
    /// Threshold of least cost; above 1 if never is cheapest.
    pub threshold: f64,
    /// Mean operating hours between failures.
    pub mean_life_h: f64,
    /// The classifier's policy.
    pub policy: PolicyMetrics,
    /// 5 % and 95 % quantile of its cost per hour over bootstrap samples of devices, the threshold chosen anew in each.
    pub cost_per_hour_interval: (f64, f64),
    /// Share of the bootstrap samples in which it costs less than never.
    pub better_than_never: f64,
    /// Nobody is ever called.
    pub never: PolicyMetrics,
    /// The alarm is always on.
    pub always: PolicyMetrics,
    /// Replaced at a fixed age.
    pub best_age: PolicyMetrics,
    /// That age in hours; none if never is cheaper than any.
    pub age_h: Option<f64>,
    /// A level of one signal.
    pub best_signal: PolicyMetrics,
    /// That signal.
    pub signal: String,
    /// Each failure.
    pub outcomes: Vec<FailureMetrics>,
    /// Wall-clock seconds from the archive to the verdict. Kept out of the stored file, so that the same input gives the same bytes.
    #[serde(skip)]
    pub seconds: f64,
}

impl Metrics {
    pub(crate) fn new(e: &Evaluation, history: &History, model: &Model, seconds: f64) -> Self {
        let outcome = |f: &crate::FailureOutcome| FailureMetrics {
            device: f.device.clone(),
            ts: f.ts,
            outcome: f.outcome,
            lead_s: f.lead_ms as f64 / 1000.0,
        };
        Self {
            format: 1,
            learner: model.learner.clone(),
            objects: history.objects.len(),
            readings: history.ts.len(),
            devices: e.devices,
            features: model.spec.len(),
            rows: e.rows,
            positives: e.positives,
            average_precision: e.average_precision,
            auc: e.auc,
            threshold: e.threshold,
            mean_life_h: e.mean_life_h,
            policy: (&e.policy).into(),
            cost_per_hour_interval: e.interval,
            better_than_never: e.verdict.share,
            never: (&e.baselines.never).into(),
            always: (&e.baselines.always).into(),
            best_age: (&e.baselines.best_age).into(),
            age_h: e.baselines.age_h.is_finite().then_some(e.baselines.age_h),
            best_signal: (&e.baselines.best_signal).into(),
            signal: e.baselines.signal.clone(),
            outcomes: e.failures.iter().map(outcome).collect(),
            seconds,
        }
    }
}
