//! What the policy would have cost on devices and times that no model had seen: threshold of least cost (of novelty: within its false alarms) over out-of-fold risks, other
//! policies priced by the same function, what became of each failure, and a verdict by bootstrap over devices.

mod champion;
mod price;
mod rows;
mod threshold;

use homeward_models::cost::{End, Outcome, Tally};
use homeward_models::label::{Label, Target};

use crate::calibrate::Risks;
use crate::matrix::Matrix;
use crate::plan::{Part, Plan};
use crate::settings::Rule;
use crate::{Settings, TrainError};

pub(crate) use champion::Against;
pub(crate) use champion::{Incumbent, against};
pub(crate) use price::Baselines;
pub(crate) use price::{Alarms, NEVER, Pricer, sum};
pub(crate) use rows::{Known, log_odds, precision_recall, reliability};
pub(crate) use rows::{RowMetrics, exact_interval};
use threshold::Table;
pub(crate) use threshold::{CONFIDENCE, paired};

/// How the bootstrap judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Verdict {
    /// Whether the policy costs less than never in enough of the samples.
    pub(crate) better: bool,
    /// The share in which it does.
    pub(crate) share: f64,
    /// Whether there are fewer than ten failures, too few to prove anything.
    pub(crate) few: bool,
}

/// What became of one failure (target `present`: of one fault).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FailureOutcome {
    /// Whose.
    pub(crate) device: String,
    /// When, milliseconds since 1970 UTC.
    pub(crate) ts: i64,
    /// `called`, `late` or `missed`.
    pub(crate) outcome: &'static str,
    /// From the alert to the failure (from the fault to the alert), milliseconds; 0 unless called.
    pub(crate) lead_ms: i64,
    /// What failed, if it was said.
    pub(crate) component: Option<String>,
    /// What the alert named; `None` unless called.
    pub(crate) named: Option<String>,
    /// Whether it lies in the hold-out.
    pub(crate) held_out: bool,
    /// Its risks, for the report.
    pub(crate) timeline: Timeline,
}

/// Risks before a failure, thinned, with the alarms.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Timeline {
    /// Milliseconds before the end, and the risk there.
    pub(crate) risks: Vec<(i64, f64)>,
    /// Milliseconds before the end of each alarm, and whether something was found.
    pub(crate) alarms: Vec<(i64, bool)>,
    /// Threshold of the part that it lies in.
    pub(crate) threshold: f64,
}

/// The policy on the hold-out, which had no say in threshold, calibration or learner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HoldOut {
    /// Its first moment where it lies in time; `None` where it is other devices.
    pub(crate) from: Option<i64>,
    /// The policy, at the threshold chosen on the folds.
    pub(crate) policy: Tally,
    /// Nobody is called.
    pub(crate) never: Tally,
    /// Called at the last moment that helps.
    pub(crate) oracle: Tally,
}

/// The evaluation of the policy on devices and times that the classifier had not seen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Evaluation {
    /// The threshold chosen over all folds, which goes into service; above 1 if that is never.
    pub(crate) threshold: f64,
    /// False alarms in 1,000 operating hours that it was chosen by, if not by cost.
    pub(crate) false_alarms_allowed: Option<f64>,
    /// What the policy cost: each fold under the threshold chosen on the others, the hold-out under that of all folds.
    pub(crate) policy: Tally,
    /// Cost per operating hour at thresholds chosen on one part of the devices and priced on the rest: 5 % and 95 % quantile.
    pub(crate) interval: (f64, f64),
    /// The others, over the same stretches.
    pub(crate) baselines: Baselines,
    /// The hold-out by itself, if there is one.
    pub(crate) hold_out: Option<HoldOut>,
    /// Beside the champion in service, if there are data that neither has seen.
    pub(crate) against: Option<Against>,
    /// Whether it is worth it.
    pub(crate) verdict: Verdict,
    /// Each failure.
    pub(crate) failures: Vec<FailureOutcome>,
    /// Row by row.
    pub(crate) rows: RowMetrics,
    /// Cost per hour at each threshold.
    pub(crate) cost_curve: Vec<(f64, f64)>,
    /// Recall and precision.
    pub(crate) precision_recall: Vec<(f64, f64)>,
    /// Mean risk, share that failed, rows.
    pub(crate) reliability: Vec<(f64, f64, usize)>,
    /// Devices.
    pub(crate) devices: usize,
    /// Mean operating hours between failures.
    pub(crate) mean_life_h: f64,
}

impl Evaluation {
    /// The share of the avoidable cost that is saved: 0 is never, 1 the oracle. NaN if nothing can be saved.
    pub(crate) fn saved(&self) -> f64 {
        saved(&self.policy, &self.baselines.never, &self.baselines.oracle)
    }
}

/// (never − policy) / (never − oracle), per operating hour.
pub(crate) fn saved(policy: &Tally, never: &Tally, oracle: &Tally) -> f64 {
    let avoidable = never.per_hour() - oracle.per_hour();
    if avoidable > 0.0 { (never.per_hour() - policy.per_hour()) / avoidable } else { f64::NAN }
}

/// What the policy costs: the threshold that goes into service, and each fold's own.
pub(crate) struct Choice {
    pub(crate) threshold: f64,
    folds: Vec<f64>,
    table: Table,
}

impl Choice {
    /// Chooses thresholds on out-of-fold `risks`.
    pub(crate) fn new(pricer: &Pricer<'_>, plan: &Plan, risks: &[f64]) -> Self {
        let table = Table::new(pricer, risks, plan.folds);
        Self { threshold: table.best(None), folds: (0..plan.folds).map(|f| table.best(Some(f))).collect(), table }
    }

    /// The threshold that a part is judged under: it had no say in it.
    fn of(&self, part: Part) -> f64 {
        match part {
            Part::Fold(fold) => self.folds[fold],
            Part::HoldOut => self.threshold,
        }
    }

    /// Cost per hour over the folds, each under the threshold chosen on the others.
    pub(crate) fn cost(&self, pricer: &Pricer<'_>, risks: &[f64]) -> f64 {
        sum(pricer.by_device(risks, |part| (part != Part::HoldOut).then(|| self.of(part))).iter()).per_hour()
    }
}

/// Names the components behind the risks of rows, by what may judge the part that each lies in; as many as rows.
pub(crate) type Naming<'a> = &'a dyn Fn(&[(Part, usize)]) -> Result<Vec<Option<String>>, TrainError>;

/// Evaluates the risks of a plan's parts.
pub(crate) fn evaluate(
    matrix: &Matrix,
    plan: &Plan,
    risks: &Risks,
    settings: &Settings,
    name: Naming<'_>,
    incumbent: Option<&Incumbent>,
) -> Result<Evaluation, TrainError> {
    let pricer = Pricer::new(matrix, settings, plan);
    let choice = Choice::new(&pricer, plan, &risks.deciding);
    let policy = sum(pricer.by_device(&risks.deciding, |part| Some(choice.of(part))).iter());
    let (share, interval) = choice.table.bootstrap(settings.seed);
    let mut known = known(matrix, plan, &risks.deciding, settings.horizon());
    let rows = RowMetrics::new(&mut known, choice.threshold);
    let better = share >= CONFIDENCE && choice.threshold < NEVER;
    Ok(Evaluation {
        threshold: choice.threshold,
        false_alarms_allowed: if let Rule::Within(most) = settings.rule() { Some(most) } else { None },
        policy,
        interval,
        baselines: pricer.baselines()?,
        hold_out: hold_out(&pricer, plan, &choice, &risks.deciding),
        against: incumbent.map(|i| against(&pricer, i, &risks.deciding, choice.threshold, settings.seed)),
        verdict: Verdict { better, share, few: plan.few },
        failures: failures(&pricer, &choice, &risks.deciding, name)?,
        rows,
        cost_curve: choice.table.curve(),
        precision_recall: precision_recall(&known, 200),
        reliability: reliability(&known, 24),
        devices: matrix.devices.len(),
        mean_life_h: pricer.mean_life_h,
    })
}

fn hold_out(pricer: &Pricer<'_>, plan: &Plan, choice: &Choice, risks: &[f64]) -> Option<HoldOut> {
    let of = |part| part == Part::HoldOut;
    plan.parts().any(of).then(|| HoldOut {
        from: plan.cut.map(|c| c.from),
        policy: pricer.total(risks, choice.threshold, of),
        never: pricer.total(risks, NEVER, of),
        oracle: pricer.oracle(of),
    })
}

/// Risk and truth of every judged row with a known label.
fn known(matrix: &Matrix, plan: &Plan, risks: &[f64], horizon: i64) -> Vec<Known> {
    let rows = plan.parts().flat_map(|part| plan.judged(matrix, part)).flatten();
    let known = rows.filter_map(|row| match matrix.label(row).at(horizon) {
        Label::Unknown => None,
        label => Some((risks[row], label == Label::Positive)),
    });
    known.collect()
}

fn failures(pricer: &Pricer<'_>, choice: &Choice, risks: &[f64], name: Naming<'_>) -> Result<Vec<FailureOutcome>, TrainError> {
    let ended: Vec<_> = pricer.stretches.iter().filter(|s| s.end != End::Well).collect();
    let priced: Vec<_> = ended.iter().map(|stretch| pricer.alarms(stretch, risks, choice.of(stretch.part))).collect();
    let called = |alarms: &[(usize, Outcome)]| alarms.iter().find(|(_, outcome)| *outcome == Outcome::Called).map(|(row, _)| *row);
    let asked: Vec<(Part, usize)> = ended.iter().zip(&priced).filter_map(|(s, (_, alarms))| Some((s.part, called(alarms)?))).collect();
    let mut names = name(&asked)?.into_iter();
    let outcome = |(stretch, (tally, alarms)): (&crate::plan::Stretch, (Tally, Alarms))| {
        let device = &pricer.matrix.devices[stretch.device];
        let ts = stretch.end.ts().unwrap_or_default();
        FailureOutcome {
            device: device.name.clone(),
            ts,
            outcome: if tally.called > 0 {
                "called"
            } else if tally.late > 0 {
                "late"
            } else {
                "missed"
            },
            lead_ms: tally.lead_ms,
            component: device.component(ts).map(String::from),
            named: called(&alarms).and_then(|_| names.next()).flatten(),
            held_out: stretch.part == Part::HoldOut,
            timeline: timeline(pricer, stretch, risks, &alarms, choice.of(stretch.part)),
        }
    };
    Ok(ended.into_iter().zip(priced).map(outcome).collect())
}

/// Risks shown of a timeline at most.
const SHOWN: usize = 160;

/// The last stretch before the end (target `present`: around the fault), thinned to the highest risk of each place.
fn timeline(pricer: &Pricer<'_>, stretch: &crate::plan::Stretch, risks: &[f64], alarms: &[(usize, Outcome)], threshold: f64) -> Timeline {
    let (times, end) = (&pricer.matrix.times, stretch.end.ts().unwrap_or_default());
    let before = if pricer.settings.target == Target::Present { i64::MAX } else { 4 * pricer.settings.horizon() };
    let shown = |row: &usize| end - times[*row] <= before;
    let rows: Vec<usize> = stretch.rows.clone().filter(shown).collect();
    let chunks = rows.chunks(rows.len().div_ceil(SHOWN).max(1));
    let highest = |chunk: &[usize]| chunk.iter().copied().max_by(|a, b| risks[*a].total_cmp(&risks[*b]));
    let at = |row: usize| end - times[row];
    Timeline {
        risks: chunks.filter_map(highest).map(|row| (at(row), risks[row])).collect(),
        alarms: alarms.iter().filter(|(row, _)| shown(row)).map(|(row, o)| (at(*row), *o != Outcome::False)).collect(),
        threshold,
    }
}
