//! What the demo came to: what failed or would have, who was called and how long before, and the money.

use homeward_data::sim::{Fleet, Outcome, Truth};
use homeward_models::cost::Costs;
use homeward_train::Metrics;

use super::clock_text;
use crate::config::Config;
use crate::report;

/// A call as the witness saw it, at simulated time `at`.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) device: String,
    pub(super) alert_id: String,
    pub(super) component: Option<String>,
    pub(super) at: i64,
}

/// One fault and the first call while it grew.
struct Fate {
    truth: Truth,
    call: Option<Seen>,
    in_time: bool,
}

/// The demo's outcome.
pub(super) struct Verdict {
    fates: Vec<Fate>,
    false_alarms: Vec<Seen>,
    hours: f64,
    cost: f64,
    never: f64,
    best_age: f64,
}

impl Verdict {
    pub(super) fn new(fleet: &Fleet, seen: &[Seen], config: &Config, metrics: &Metrics) -> Self {
        let costs = config.train.costs;
        let now = fleet.now_ms();
        // A fault that still grows and was not called tells nothing yet.
        let ended = |t: &Truth| t.outcome != Outcome::Pending || seen.iter().any(|s| belongs(s, t));
        let fates: Vec<Fate> = fleet.truth().into_iter().filter(|t| ended(t) && t.onset_ms <= now).map(|t| fate(t, seen, &costs)).collect();
        let false_alarms: Vec<Seen> = seen.iter().filter(|s| !fates.iter().any(|f| belongs(s, &f.truth))).cloned().collect();
        let hours = fleet.flown_h();
        let failed = fates.iter().filter(|f| f.truth.outcome != Outcome::Pending).count() as f64;
        let cost: f64 = fates.iter().map(|f| f.cost(&costs, metrics.mean_life_h)).sum::<f64>()
            + false_alarms.len() as f64 * (costs.trip + costs.inspect);
        Self { fates, false_alarms, hours, cost, never: failed * costs.failure, best_age: metrics.best_age.cost_per_hour }
    }

    fn announced(&self) -> impl Iterator<Item = &Fate> {
        self.fates.iter().filter(|f| !f.truth.sudden())
    }

    fn in_time(&self) -> usize {
        self.announced().filter(|f| f.in_time).count()
    }

    /// Why the demo fell short, if it did.
    pub(super) fn fault(&self) -> Option<String> {
        let (in_time, announced, false_alarms) = (self.in_time(), self.announced().count(), self.false_alarms.len());
        if announced == 0 {
            return Some("no failure was announced: nothing was shown".into());
        }
        if 2 * in_time < announced {
            return Some(format!("only {in_time} of {announced} announced failures were called in time, expected half at least"));
        }
        (false_alarms > in_time).then(|| format!("{false_alarms} false alarms against {in_time} calls in time"))
    }

    /// The tables.
    pub(super) fn table(&self) -> String {
        let fates = report::table(
            &["drone", "component", "fault", "fails or would have", "called", "ahead", "named", "outcome"],
            self.fates.iter().map(Fate::row),
        );
        let per_hour = |cost: f64| report::money(cost / self.hours);
        let rows = [
            vec!["Homeward".into(), per_hour(self.cost)],
            vec!["never calling".into(), per_hour(self.never)],
            vec!["best fixed age (on the past)".into(), report::money(self.best_age)],
        ];
        format!(
            "{fates}\n{} of {} announced failures called in time; {} false alarms; {:.0} flying hours\n{}",
            self.in_time(),
            self.announced().count(),
            self.false_alarms.len(),
            self.hours,
            report::table(&["policy", "cost per flying hour"], rows)
        )
    }
}

/// Whether a call falls into the time in which a fault grew.
fn belongs(seen: &Seen, truth: &Truth) -> bool {
    !truth.sudden() && seen.device == truth.device && (truth.onset_ms..=truth.failure_ms).contains(&seen.at)
}

fn fate(truth: Truth, seen: &[Seen], costs: &Costs) -> Fate {
    let call = seen.iter().find(|s| belongs(s, &truth)).cloned();
    let in_time = call.as_ref().is_some_and(|c| truth.failure_ms - c.at >= costs.min_lead);
    Fate { truth, call, in_time }
}

impl Fate {
    fn cost(&self, costs: &Costs, mean_life_h: f64) -> f64 {
        match self.truth.outcome {
            Outcome::Failed => costs.failure,
            Outcome::Pending => 0.0,
            Outcome::Saved => {
                let lead = self.call.as_ref().map_or(0, |c| self.truth.failure_ms - c.at);
                costs.trip + costs.repair + costs.part * (lead as f64 / 3_600_000.0 / mean_life_h).min(1.0)
            }
        }
    }

    fn row(&self) -> Vec<String> {
        let t = &self.truth;
        let minutes = |c: &Seen| format!("{:.1} min", (t.failure_ms - c.at) as f64 / 60_000.0);
        let component = t.component.as_str().to_string();
        let named = |c: &Seen| c.component.clone().unwrap_or("-".into());
        vec![
            t.device.clone(),
            component,
            t.kind.as_str().into(),
            clock_text(t.failure_ms),
            self.call.as_ref().map_or("-".into(), |c| clock_text(c.at)),
            self.call.as_ref().map_or("-".into(), minutes),
            self.call.as_ref().map_or("-".into(), named),
            if t.sudden() { "failed, unannounced".into() } else { t.outcome.as_str().into() },
        ]
    }
}
