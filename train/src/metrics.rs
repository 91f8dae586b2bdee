//! What a run measured, as `metrics.json` and for people.

use homeward_models::artifact::Model;
use homeward_models::cost::Tally;
use serde::{Deserialize, Serialize};

use crate::evaluate::{Against, Evaluation, FailureOutcome, HoldOut, exact_interval, saved};
use crate::usage::DataUse;

/// A policy's money and catches.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// The same in 1,000 operating hours.
    pub false_per_1000h: f64,
    /// Operating hours.
    pub hours: f64,
}

impl From<&Tally> for PolicyMetrics {
    fn from(t: &Tally) -> Self {
        Self {
            cost_per_hour: t.per_hour(),
            called: t.called,
            late: t.late,
            failures: t.failures,
            false_alarms: t.false_alarms,
            false_per_1000h: f64::from(t.false_alarms) / t.hours * 1000.0,
            hours: t.hours,
        }
    }
}

/// One failure (target `present`: one fault) that no model had seen.
#[derive(Debug, Clone, Serialize)]
pub struct FailureMetrics {
    /// Whose.
    pub device: String,
    /// When, milliseconds since 1970 UTC.
    pub ts: i64,
    /// `called`, `late` or `missed`.
    pub outcome: &'static str,
    /// From the alert to the failure, seconds; target `present`: from the fault to the alert.
    pub lead_s: f64,
    /// What failed, if it was said.
    pub component: Option<String>,
    /// What the call named.
    pub named: Option<String>,
    /// Whether it lies in the hold-out.
    pub held_out: bool,
}

/// How often the component named was the one that failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComponentMetrics {
    /// What failed.
    pub component: String,
    /// How often it did.
    pub failures: usize,
    /// Of these, called in time.
    pub called: usize,
    /// Of these, named right.
    pub named: usize,
}

/// The hold-out by itself.
#[derive(Debug, Clone, Serialize)]
pub struct HoldOutMetrics {
    /// Its first moment, milliseconds since 1970 UTC; none where it is other devices.
    pub from_ms: Option<i64>,
    /// The classifier's policy.
    pub policy: PolicyMetrics,
    /// Nobody is called.
    pub never: PolicyMetrics,
    /// Called at the last moment that helps.
    pub oracle: PolicyMetrics,
    /// Share of the avoidable cost that is saved.
    pub saved: Option<f64>,
}

/// Beside the champion in service.
#[derive(Debug, Clone, Serialize)]
pub struct AgainstMetrics {
    /// The champion.
    pub version: String,
    /// Data from here on, milliseconds since 1970 UTC, were seen by neither.
    pub from_ms: i64,
    /// What it costs.
    pub champion: PolicyMetrics,
    /// What the challenger costs.
    pub challenger: PolicyMetrics,
    /// Share of the bootstrap samples in which the challenger costs less.
    pub better: f64,
    /// 5 % and 95 % quantile of challenger − champion, money per operating hour.
    pub difference: (f64, f64),
}

/// What came of the labels.
#[derive(Debug, Clone, Serialize)]
pub struct LabelMetrics {
    /// Failures that a reading came before; the next counts are of readings.
    pub failures: usize,
    /// Of these, known by a confirmed inspection alone.
    pub confirmed: usize,
    /// Positive because a failure followed within the horizon.
    pub positive_by_failure: usize,
    /// Positive because an inspection confirmed.
    pub positive_by_inspection: usize,
    /// Known to have gone well.
    pub negative: usize,
    /// Maintenance, retirement or the end of the data came within the horizon.
    pub censored: usize,
    /// After a failure and before its repair, or after retirement.
    pub left_out: usize,
    /// Between what is learnt from and the hold-out.
    pub purged: usize,
    /// In the hold-out.
    pub held_out: usize,
    /// Fitted on by the final model.
    pub fitted: usize,
    /// Refused as late, duplicate or of a clock that stepped.
    pub refused: usize,
}

/// What a run measured, all of it on devices and times that the classifier had not seen.
#[derive(Debug, Clone, Serialize)]
pub struct Metrics {
    /// Version of this file's schema.
    pub format: u32,
    /// Learner.
    pub learner: String,
    /// `failure` or `present`.
    pub target: &'static str,
    /// Deciding horizon, seconds.
    pub horizon_s: f64,
    /// The newest reading learnt from, milliseconds since 1970 UTC: what is later, this model has not seen.
    pub until_ms: i64,
    /// Archive objects read.
    pub objects: usize,
    /// Readings read.
    pub readings: usize,
    /// Devices.
    pub devices: usize,
    /// Features.
    pub features: usize,
    /// What came of the readings.
    pub labels: LabelMetrics,
    /// Signals that never had a value.
    pub always_missing: Vec<String>,
    /// Rows with a known label.
    pub rows: usize,
    /// The positive ones of them.
    pub positives: usize,
    /// Average precision over those rows; none without both kinds, as are the next two.
    pub average_precision: Option<f64>,
    /// Area under the ROC curve over those rows.
    pub auc: Option<f64>,
    /// Brier score over those rows; none where risks are no probabilities, as are the next two.
    pub brier: Option<f64>,
    /// 1 − Brier score over that of the prevalence.
    pub brier_skill: Option<f64>,
    /// Calibration slope near the threshold; none where there is too little.
    pub calibration_slope: Option<f64>,
    /// Threshold of least cost, of `novelty` the lowest within its false alarms; above 1 if it never calls.
    pub threshold: f64,
    /// False alarms in 1,000 operating hours that `novelty` chose its threshold by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub false_alarms_allowed: Option<f64>,
    /// Mean operating hours between failures.
    pub mean_life_h: f64,
    /// The classifier's policy.
    pub policy: PolicyMetrics,
    /// 5 % and 95 % quantile of its cost per hour over bootstrap samples of devices, the threshold chosen anew in each.
    pub cost_per_hour_interval: (f64, f64),
    /// Share of the bootstrap samples in which it costs less than never.
    pub better_than_never: f64,
    /// Exact 95 % interval of the share of failures called in time.
    pub called_interval: (f64, f64),
    /// Share of the avoidable cost that is saved: 0 never, 1 the oracle; none if nothing can be saved.
    pub saved: Option<f64>,
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
    /// Called at the last moment that helps, by one who knows.
    pub oracle: PolicyMetrics,
    /// The hold-out by itself, if there is one.
    pub hold_out: Option<HoldOutMetrics>,
    /// Beside the champion in service, if there was one.
    pub champion: Option<AgainstMetrics>,
    /// By component.
    pub components: Vec<ComponentMetrics>,
    /// Target `present`: share of the faults found within 5 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found_within_5s: Option<f64>,
    /// Target `present`: median seconds from the fault to its alarm, of those found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detection_delay_s: Option<f64>,
    /// What was tried, with its cost per hour over the folds.
    pub tried: Vec<(String, f64)>,
    /// Each failure.
    pub outcomes: Vec<FailureMetrics>,
    /// Wall-clock seconds from the archive to the verdict. Kept out of the stored file, so that the same input gives the same bytes.
    #[serde(skip)]
    pub seconds: f64,
}

impl Metrics {
    pub(crate) fn new(e: &Evaluation, usage: &DataUse, model: &Model, tried: &[(String, f64)], seconds: f64) -> Self {
        let present = model.target == homeward_models::label::Target::Present;
        let probable = |value: f64| known(value).filter(|_| model.form.is_probability());
        Self {
            format: 2,
            learner: model.learner.clone(),
            target: if present { "present" } else { "failure" },
            horizon_s: model.horizons.last().map_or(0.0, |h| *h as f64 / 1000.0),
            until_ms: usage.span.1,
            objects: usage.objects,
            readings: usage.readings,
            devices: e.devices,
            features: model.spec.len(),
            labels: labels(usage),
            always_missing: usage.always_missing.clone(),
            rows: e.rows.rows,
            positives: e.rows.positives,
            average_precision: known(e.rows.average_precision),
            auc: known(e.rows.auc),
            brier: probable(e.rows.brier),
            brier_skill: probable(e.rows.brier_skill),
            calibration_slope: probable(e.rows.slope),
            threshold: e.threshold,
            false_alarms_allowed: e.false_alarms_allowed,
            mean_life_h: e.mean_life_h,
            policy: (&e.policy).into(),
            cost_per_hour_interval: e.interval,
            better_than_never: e.verdict.share,
            called_interval: exact_interval(e.policy.called, e.policy.failures),
            saved: known(e.saved()),
            never: (&e.baselines.never).into(),
            always: (&e.baselines.always).into(),
            best_age: (&e.baselines.best_age).into(),
            age_h: known(e.baselines.age_h),
            best_signal: (&e.baselines.best_signal).into(),
            signal: e.baselines.signal.clone(),
            oracle: (&e.baselines.oracle).into(),
            hold_out: e.hold_out.as_ref().map(hold_out),
            champion: e.against.as_ref().map(against),
            components: components(&e.failures),
            found_within_5s: (present && !e.failures.is_empty()).then(|| found_within(&e.failures, 5_000)),
            detection_delay_s: present.then(|| median_delay(&e.failures)).flatten(),
            tried: tried.to_vec(),
            outcomes: e.failures.iter().map(outcome).collect(),
            seconds,
        }
    }
}

fn known(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn labels(u: &DataUse) -> LabelMetrics {
    LabelMetrics {
        failures: u.failures,
        confirmed: u.confirmed,
        positive_by_failure: u.positive_by_failure,
        positive_by_inspection: u.positive_by_inspection,
        negative: u.negative,
        censored: u.censored,
        left_out: u.left_out,
        purged: u.purged,
        held_out: u.held_out,
        fitted: u.fitted,
        refused: u.refused,
    }
}

fn hold_out(h: &HoldOut) -> HoldOutMetrics {
    HoldOutMetrics {
        from_ms: h.from,
        policy: (&h.policy).into(),
        never: (&h.never).into(),
        oracle: (&h.oracle).into(),
        saved: known(saved(&h.policy, &h.never, &h.oracle)),
    }
}

fn against(a: &Against) -> AgainstMetrics {
    AgainstMetrics {
        version: a.version.clone(),
        from_ms: a.from,
        champion: (&a.champion).into(),
        challenger: (&a.challenger).into(),
        better: a.share,
        difference: a.difference,
    }
}

fn outcome(f: &FailureOutcome) -> FailureMetrics {
    FailureMetrics {
        device: f.device.clone(),
        ts: f.ts,
        outcome: f.outcome,
        lead_s: f.lead_ms as f64 / 1000.0,
        component: f.component.clone(),
        named: f.named.clone(),
        held_out: f.held_out,
    }
}

/// By component, in order of name; failures whose component nobody said are left out.
fn components(failures: &[FailureOutcome]) -> Vec<ComponentMetrics> {
    let mut found: Vec<ComponentMetrics> = Vec::new();
    for f in failures {
        let Some(component) = &f.component else { continue };
        let at = match found.iter().position(|c| c.component == *component) {
            Some(at) => at,
            None => {
                found.push(ComponentMetrics { component: component.clone(), failures: 0, called: 0, named: 0 });
                found.len() - 1
            }
        };
        found[at].failures += 1;
        found[at].called += usize::from(f.outcome == "called");
        found[at].named += usize::from(f.named.as_ref() == Some(component));
    }
    found.sort_by(|a, b| a.component.cmp(&b.component));
    found
}

fn found_within(failures: &[FailureOutcome], ms: i64) -> f64 {
    failures.iter().filter(|f| f.outcome == "called" && f.lead_ms <= ms).count() as f64 / failures.len() as f64
}

fn median_delay(failures: &[FailureOutcome]) -> Option<f64> {
    let mut delays: Vec<i64> = failures.iter().filter(|f| f.outcome == "called").map(|f| f.lead_ms).collect();
    delays.sort_unstable();
    delays.get(delays.len() / 2).map(|ms| *ms as f64 / 1000.0)
}
