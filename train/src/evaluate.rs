//! What the policy would have cost: threshold of least cost over out-of-fold risks, baselines priced by the same function, and a
//! verdict by bootstrap over devices.

use homeward_models::cost::{Answer, LifeRows, Tally, operating_hours, price};
use homeward_models::decision::Rules;
use homeward_models::features::Feature;
use homeward_models::label::Label;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::Settings;
use crate::matrix::{MISSING, Matrix};

/// Above every risk: the policy that never calls.
const NEVER: f64 = 2.0;
/// Thresholds that are priced at most.
const CANDIDATES: usize = 96;
/// Bootstrap samples.
const SAMPLES: usize = 300;
/// Share of the bootstrap samples in which a policy must cost less.
const CONFIDENCE: f64 = 0.9;

/// Policies priced by the same function as the classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Baselines {
    /// Nobody is ever called.
    pub never: Tally,
    /// The component is replaced at the age that costs least.
    pub best_age: Tally,
    /// That age in hours.
    pub age_h: f64,
    /// The alarm is always on.
    pub always: Tally,
    /// A threshold on the one signal that costs least.
    pub best_signal: Tally,
    /// That signal, with `high` or `low`.
    pub signal: String,
}

/// How the bootstrap judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Whether the policy costs less than never in enough of the samples.
    pub better: bool,
    /// The share in which it does.
    pub share: f64,
    /// Whether there are fewer than ten failures, too few to prove anything.
    pub few: bool,
}

/// What became of one failure.
#[derive(Debug, Clone, PartialEq)]
pub struct FailureOutcome {
    /// Whose.
    pub device: String,
    /// When, milliseconds since 1970 UTC.
    pub ts: i64,
    /// `called`, `late` or `missed`.
    pub outcome: &'static str,
    /// From the alert to the failure, milliseconds; 0 unless called.
    pub lead_ms: i64,
}

/// The evaluation of the policy on devices that the classifier had not seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The threshold of least cost; above 1 if never is cheapest.
    pub threshold: f64,
    /// What the policy cost at that threshold.
    pub policy: Tally,
    /// Cost per operating hour at thresholds chosen on one part of the devices and priced on the rest: 5 % and 95 % quantile.
    pub interval: (f64, f64),
    /// The others.
    pub baselines: Baselines,
    /// Whether it is worth it.
    pub verdict: Verdict,
    /// Each failure.
    pub failures: Vec<FailureOutcome>,
    /// Average precision over rows with a known label.
    pub average_precision: f64,
    /// Area under the ROC curve over the same rows.
    pub auc: f64,
    /// Rows with a known label.
    pub rows: usize,
    /// The positive ones of them.
    pub positives: usize,
    /// Devices.
    pub devices: usize,
    /// Mean operating hours between failures.
    pub mean_life_h: f64,
}

struct Pricer<'a> {
    matrix: &'a Matrix,
    settings: &'a Settings,
    mean_life_h: f64,
}

/// Evaluates out-of-fold `risks`, one a row of the matrix.
pub(crate) fn evaluate(matrix: &Matrix, risks: &[f64], settings: &Settings) -> Evaluation {
    let pricer = Pricer { matrix, settings, mean_life_h: mean_life(matrix, settings) };
    let thresholds = candidates(risks);
    let table: Vec<Vec<Tally>> = thresholds.iter().map(|t| pricer.by_device(risks, *t, &settings.rules, Answer::Inspect)).collect();
    let everyone: Vec<usize> = (0..matrix.devices.len()).collect();
    let best = cheapest(&table, &everyone);
    let policy = sum(&table[best], &everyone);
    let baselines = pricer.baselines(risks);
    let (verdict, interval) = bootstrap(&table, policy.failures, settings.seed);
    let known: Vec<(f64, bool)> = rows_known(matrix, risks, settings.horizon());
    let positives = known.iter().filter(|k| k.1).count();
    let (average_precision, auc) = ranking(known.clone());
    Evaluation {
        threshold: thresholds[best],
        policy,
        interval,
        verdict: Verdict { better: verdict.better && thresholds[best] < NEVER, ..verdict },
        failures: pricer.failures(risks, thresholds[best]),
        average_precision,
        auc,
        rows: known.len(),
        positives,
        devices: matrix.devices.len(),
        mean_life_h: pricer.mean_life_h,
        baselines,
    }
}

fn mean_life(matrix: &Matrix, settings: &Settings) -> f64 {
    let lives = || matrix.devices.iter().flat_map(|d| d.lives.iter().map(|l| (d.rows.start + l.first..d.rows.start + l.end, l.failure)));
    let hours: f64 = lives().map(|(rows, _)| operating_hours(&matrix.times[rows], &settings.costs)).sum();
    hours / lives().filter(|l| l.1.is_some()).count().max(1) as f64
}

/// Distinct risks, evenly thinned, and never.
fn candidates(risks: &[f64]) -> Vec<f64> {
    let mut distinct = risks.to_vec();
    distinct.sort_unstable_by(f64::total_cmp);
    distinct.dedup();
    let step = distinct.len().div_ceil(CANDIDATES).max(1);
    distinct.into_iter().rev().step_by(step).filter(|t| *t > 0.0).chain([NEVER]).collect()
}

/// The candidate of least cost per hour over `devices`; of equal ones the highest threshold, never first.
fn cheapest(table: &[Vec<Tally>], devices: &[usize]) -> usize {
    let never = table.len() - 1;
    let mut best = (never, sum(&table[never], devices).per_hour());
    for (c, by_device) in table.iter().enumerate().take(never) {
        let cost = sum(by_device, devices).per_hour();
        if cost < best.1 {
            best = (c, cost);
        }
    }
    best.0
}

fn sum(by_device: &[Tally], devices: &[usize]) -> Tally {
    let mut total = Tally::default();
    devices.iter().for_each(|d| total.add(&by_device[*d]));
    total
}

/// Chooses the threshold anew on each sample of devices and prices it on the devices left out of the sample.
fn bootstrap(table: &[Vec<Tally>], failures: u32, seed: u64) -> (Verdict, (f64, f64)) {
    let devices = table[0].len();
    let never = table.len() - 1;
    let mut chance = Pcg64Mcg::seed_from_u64(seed ^ 0xb007);
    let (mut better, mut costs) = (0usize, Vec::new());
    for _ in 0..SAMPLES {
        let drawn: Vec<usize> = (0..devices).map(|_| (chance.next_u64() % devices as u64) as usize).collect();
        let left_out: Vec<usize> = (0..devices).filter(|d| !drawn.contains(d)).collect();
        if left_out.is_empty() {
            continue;
        }
        let cost = sum(&table[cheapest(table, &drawn)], &left_out).per_hour();
        better += usize::from(cost < sum(&table[never], &left_out).per_hour());
        costs.push(cost);
    }
    costs.retain(|c| c.is_finite());
    costs.sort_unstable_by(f64::total_cmp);
    let quantile = |q: f64| costs.get((q * costs.len() as f64) as usize).copied().unwrap_or(f64::NAN);
    let share = better as f64 / SAMPLES as f64;
    (Verdict { better: share >= CONFIDENCE, share, few: failures < 10 }, (quantile(0.05), quantile(0.95)))
}

impl Pricer<'_> {
    /// Each device's tally under "score ≥ threshold".
    fn by_device(&self, scores: &[f64], threshold: f64, rules: &Rules, answer: Answer) -> Vec<Tally> {
        let mut tallies = Vec::with_capacity(self.matrix.devices.len());
        for device in &self.matrix.devices {
            let mut total = Tally::default();
            for life in &device.lives {
                let rows = device.rows.start + life.first..device.rows.start + life.end;
                let life = LifeRows { times: &self.matrix.times[rows.clone()], scores: &scores[rows], failure: life.failure };
                total.add(&price(life, threshold, rules, &self.settings.costs, answer, self.mean_life_h));
            }
            tallies.push(total);
        }
        tallies
    }

    fn total(&self, scores: &[f64], threshold: f64, rules: &Rules, answer: Answer) -> Tally {
        let mut total = Tally::default();
        self.by_device(scores, threshold, rules, answer).iter().for_each(|t| total.add(t));
        total
    }

    fn baselines(&self, risks: &[f64]) -> Baselines {
        let rules = &self.settings.rules;
        let never = self.total(risks, NEVER, rules, Answer::Inspect);
        let always = self.total(risks, 0.0, rules, Answer::Inspect);
        let (best_age, age_h) = self.best_age(never);
        let (best_signal, signal) = self.best_signal(never);
        Baselines { never, best_age, age_h, always, best_signal, signal }
    }

    fn best_age(&self, never: Tally) -> (Tally, f64) {
        let ages = self.ages();
        let at_once = Rules { raise_for: 0, raise_readings: 1, ..self.settings.rules };
        let mut sorted: Vec<f64> = ages.iter().copied().filter(|a| !a.is_nan()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let quantiles = (1..40).filter_map(|i| sorted.get(i * sorted.len() / 40).copied());
        least(never, f64::INFINITY, quantiles.map(|age| (self.total(&ages, age, &at_once, Answer::Replace), age)))
    }

    /// Hours since the first reading of the row's life; NaN outside of lives.
    fn ages(&self) -> Vec<f64> {
        let mut ages = vec![f64::NAN; self.matrix.rows()];
        for device in &self.matrix.devices {
            for life in &device.lives {
                let rows = device.rows.start + life.first..device.rows.start + life.end;
                let times = &self.matrix.times[rows.clone()];
                let start = times.first().copied().unwrap_or_default();
                for (age, time) in ages[rows].iter_mut().zip(times) {
                    *age = (time - start) as f64 / 3_600_000.0;
                }
            }
        }
        ages
    }

    /// The cheapest alarm on the last value of one channel, above or below a level.
    fn best_signal(&self, never: Tally) -> (Tally, String) {
        let spec = self.matrix.spec();
        let mut best = (never, "none".to_string());
        for (column, feature) in spec.features().iter().enumerate() {
            let Feature::Last { channel } = feature else { continue };
            let codes = self.matrix.edges[column].len() + 1;
            for (word, high) in [("high", true), ("low", false)] {
                let scores: Vec<f64> = (0..self.matrix.rows()).map(|r| level(self.matrix.codes(r)[column], high, codes)).collect();
                // The outermost bins are tried most closely: an alarm that is worth anything is rare.
                let levels = (1..16).map(|i| (codes as f64 - f64::from(i * i) / 256.0 * codes as f64).ceil()).filter(|l| *l > 1.0);
                let named = levels.map(|l| {
                    (
                        self.total(&scores, l, &self.settings.rules, Answer::Inspect),
                        format!("{} {word}", spec.fleet().channels[*channel].name),
                    )
                });
                best = least(best.0, best.1, named);
            }
        }
        best
    }

    fn failures(&self, risks: &[f64], threshold: f64) -> Vec<FailureOutcome> {
        let mut outcomes = Vec::new();
        for device in &self.matrix.devices {
            for life in &device.lives {
                let Some(ts) = life.failure else { continue };
                let rows = device.rows.start + life.first..device.rows.start + life.end;
                let rows = LifeRows { times: &self.matrix.times[rows.clone()], scores: &risks[rows], failure: life.failure };
                let t = price(rows, threshold, &self.settings.rules, &self.settings.costs, Answer::Inspect, self.mean_life_h);
                let outcome = if t.called > 0 {
                    "called"
                } else if t.late > 0 {
                    "late"
                } else {
                    "missed"
                };
                outcomes.push(FailureOutcome { device: device.name.clone(), ts, outcome, lead_ms: t.lead_ms });
            }
        }
        outcomes
    }
}

/// A bin code, 1 to `codes`, as a score of the same span: the higher the more alarming; missing alarms nobody.
fn level(code: u8, high: bool, codes: usize) -> f64 {
    match code {
        MISSING => 0.0,
        code if high => f64::from(code),
        code => codes as f64 + 1.0 - f64::from(code),
    }
}

fn least<T>(first: Tally, name: T, others: impl Iterator<Item = (Tally, T)>) -> (Tally, T) {
    others.fold((first, name), |best, other| if other.0.per_hour() < best.0.per_hour() { other } else { best })
}

fn rows_known(matrix: &Matrix, risks: &[f64], horizon: i64) -> Vec<(f64, bool)> {
    let known = matrix.labels.iter().zip(risks).filter_map(|(label, risk)| match label.at(horizon) {
        Label::Unknown => None,
        label => Some((*risk, label == Label::Positive)),
    });
    known.collect()
}

/// Average precision (the mean of the precision at each positive) and area under the ROC curve (share of pairs ranked rightly, ties half).
fn ranking(mut rows: Vec<(f64, bool)>) -> (f64, f64) {
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let positives = rows.iter().filter(|r| r.1).count() as f64;
    let negatives = rows.len() as f64 - positives;
    let (mut tp, mut fp, mut ap, mut pairs) = (0.0, 0.0, 0.0, 0.0);
    for tie in rows.chunk_by(|a, b| a.0 == b.0) {
        let hits = tie.iter().filter(|r| r.1).count() as f64;
        let misses = tie.len() as f64 - hits;
        pairs += misses * (tp + hits / 2.0);
        tp += hits;
        fp += misses;
        ap += hits * tp / (tp + fp);
    }
    (ap / positives, pairs / (positives * negatives))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranking_agrees_with_hand_counts() {
        let (ap, auc) = ranking(vec![(0.9, true), (0.8, false), (0.7, true), (0.1, false)]);
        assert!((ap - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        assert!((auc - 0.75).abs() < 1e-12);
        let (ap, auc) = ranking(vec![(0.5, true), (0.5, false)]);
        assert_eq!((ap, auc), (0.5, 0.5));
    }

    fn tally(cost: f64) -> Tally {
        Tally { cost, hours: 1.0, failures: 1, ..Tally::default() }
    }

    #[test]
    fn the_cheapest_threshold_wins_and_never_wins_a_tie() {
        let everyone = [0, 1];
        assert_eq!(cheapest(&[vec![tally(1.0), tally(3.0)], vec![tally(1.0), tally(2.0)], vec![tally(2.0), tally(2.0)]], &everyone), 1);
        assert_eq!(cheapest(&[vec![tally(2.0), tally(2.0)], vec![tally(2.0), tally(2.0)]], &everyone), 1);
    }

    #[test]
    fn a_saving_on_every_device_convinces_and_one_by_luck_does_not() {
        let table = |policy: &dyn Fn(usize) -> f64| {
            vec![(0..40).map(|d| tally(policy(d))).collect::<Vec<_>>(), (0..40).map(|_| tally(10.0)).collect()]
        };
        assert!(bootstrap(&table(&|_| 6.0), 40, 1).0.better);
        assert!(!bootstrap(&table(&|d| if d == 0 { 0.0 } else { 10.05 }), 40, 1).0.better);
    }
}
