//! Policies priced over the stretches of a plan: by one function, device by device.

use std::collections::BTreeMap;

use homeward_models::climb::{Climb, Reach};
use homeward_models::cost::{Answer, Costs, End, LifeRows, Outcome, Tally, operating_hours, oracle, price, price_and_tell};
use homeward_models::decision::Rules;
use homeward_models::features::Feature;

use rayon::prelude::*;

use crate::binned::MISSING;
use crate::matrix::Matrix;
use crate::plan::{Part, Plan, Stretch};
use crate::{Settings, TrainError};

/// Above every risk: the policy that never calls.
pub(crate) const NEVER: f64 = 2.0;

/// Policies priced by the same function as the classifier.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Baselines {
    /// Nobody is ever called.
    pub(crate) never: Tally,
    /// The component is replaced at the age that costs least.
    pub(crate) best_age: Tally,
    /// That age in hours.
    pub(crate) age_h: f64,
    /// The alarm is always on.
    pub(crate) always: Tally,
    /// A threshold on the one signal that costs least.
    pub(crate) best_signal: Tally,
    /// That signal, with `high` or `low`.
    pub(crate) signal: String,
    /// Calls at the last moment that helps, and only then: no policy saves more. See [`homeward_models::cost::oracle`].
    pub(crate) oracle: Tally,
}

/// Alarms: the row of the matrix, and what came of it.
pub(crate) type Alarms = Vec<(usize, Outcome)>;

/// Prices policies over the stretches of a plan.
pub(crate) struct Pricer<'a> {
    pub(crate) matrix: &'a Matrix,
    pub(crate) settings: &'a Settings,
    pub(crate) stretches: &'a [Stretch],
    pub(crate) mean_life_h: f64,
}

impl<'a> Pricer<'a> {
    pub(crate) fn new(matrix: &'a Matrix, settings: &'a Settings, plan: &'a Plan) -> Self {
        let mean_life_h = mean_life(matrix, settings, &plan.stretches);
        Self { matrix, settings, stretches: &plan.stretches, mean_life_h }
    }

    fn life<'b>(&self, stretch: &Stretch, scores: &'b [f64]) -> LifeRows<'b>
    where
        'a: 'b,
    {
        let rows = stretch.rows.clone();
        LifeRows { times: &self.matrix.times[rows.clone()], scores: &scores[rows], end: stretch.end }
    }

    /// The policy that inspects where a score under the settings' rules is high.
    pub(crate) fn policy<'b>(&'b self, scores: &'b [f64]) -> Policy<'b> {
        self.under(scores, self.settings.rules, Answer::Inspect, self.stretches)
    }

    /// A policy by its scores, one a row, over `stretches`.
    pub(crate) fn under<'b>(&'b self, scores: &'b [f64], rules: Rules, answer: Answer, stretches: &[Stretch]) -> Policy<'b> {
        let mut reaches: BTreeMap<Part, Vec<Reach>> = BTreeMap::new();
        let mut policy = Policy { pricer: self, scores, rules, answer, climbs: BTreeMap::new() };
        for stretch in stretches {
            reaches.entry(stretch.part).or_default().extend(policy.reach(stretch));
        }
        let all: Vec<Reach> = reaches.values().flatten().copied().collect();
        // The latest lives hold few failures once calls are obeyed; the earlier ones may speak for them, since nothing is chosen by them.
        reaches.entry(Part::HoldOut).and_modify(|reaches| *reaches = all);
        policy.climbs = reaches.into_iter().map(|(part, reaches)| (part, Climb::new(reaches))).collect();
        policy
    }

    /// One stretch under "score ≥ threshold" (what an inspection ended counts as missed), and its alarms.
    pub(crate) fn alarms(&self, stretch: &Stretch, scores: &[f64], threshold: f64) -> (Tally, Alarms) {
        let mut alarms = Vec::new();
        let tell = |row, outcome| alarms.push((stretch.rows.start + row, outcome));
        let (rules, costs) = (&self.settings.rules, &self.settings.costs);
        let tally = price_and_tell(self.life(stretch, scores), threshold, rules, costs, Answer::Inspect, self.mean_life_h, tell);
        (tally, alarms)
    }

    /// Each device's tally over the stretches that `of` takes, each under its own threshold.
    pub(crate) fn by_device(&self, scores: &[f64], of: impl Fn(Part) -> Option<f64>) -> Vec<Tally> {
        let mut tallies = vec![Tally::default(); self.matrix.devices.len()];
        let policy = self.policy(scores);
        for stretch in self.stretches {
            if let Some(threshold) = of(stretch.part) {
                tallies[stretch.device].add(&policy.price(stretch, threshold));
            }
        }
        tallies
    }

    /// The sum over the stretches of the parts that `of` takes.
    pub(crate) fn total(&self, scores: &[f64], threshold: f64, of: impl Fn(Part) -> bool) -> Tally {
        sum(self.by_device(scores, |part| of(part).then_some(threshold)).iter())
    }

    fn all(&self, scores: &[f64], threshold: f64, rules: &Rules, answer: Answer) -> Tally {
        let policy = self.under(scores, *rules, answer, self.stretches);
        let tallies: Vec<Tally> = self.stretches.iter().map(|s| policy.price(s, threshold)).collect();
        sum(tallies.iter())
    }

    /// What one who knows each end would pay.
    pub(crate) fn oracle(&self, of: impl Fn(Part) -> bool) -> Tally {
        let mut scores = vec![0.0; self.matrix.rows()];
        for stretch in self.stretches {
            if let Some(row) = oracle(&self.matrix.times[stretch.rows.clone()], stretch.end, &self.settings.costs) {
                scores[stretch.rows.start + row] = 1.0;
            }
        }
        let policy = self.under(&scores, self.at_once(), Answer::Inspect, self.stretches);
        let tallies: Vec<Tally> = self.stretches.iter().filter(|s| of(s.part)).map(|s| policy.price(s, 0.5)).collect();
        sum(tallies.iter())
    }

    fn at_once(&self) -> Rules {
        Rules { raise_for: 0, raise_readings: 1, ..self.settings.rules }
    }

    pub(crate) fn baselines(&self) -> Result<Baselines, TrainError> {
        let rules = &self.settings.rules;
        let zeros = vec![0.0; self.matrix.rows()];
        let never = self.all(&zeros, NEVER, rules, Answer::Inspect);
        let always = self.all(&zeros, 0.0, rules, Answer::Inspect);
        let (best_age, age_h) = self.best_age(never);
        let (best_signal, signal) = self.best_signal(never)?;
        Ok(Baselines { never, best_age, age_h, always, best_signal, signal, oracle: self.oracle(|_| true) })
    }

    fn best_age(&self, never: Tally) -> (Tally, f64) {
        let ages = self.ages();
        let at_once = self.at_once();
        let mut sorted: Vec<f64> = ages.iter().copied().filter(|a| !a.is_nan()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let quantiles = (1..40).filter_map(|i| sorted.get(i * sorted.len() / 40).copied());
        least(never, f64::INFINITY, quantiles.map(|age| (self.all(&ages, age, &at_once, Answer::Replace), age)))
    }

    /// Hours since the first reading of the row's life; NaN outside of lives.
    fn ages(&self) -> Vec<f64> {
        let mut ages = vec![f64::NAN; self.matrix.rows()];
        for device in self.matrix.devices.iter() {
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

    /// The cheapest alarm on the last value of one channel, above or below a level. One look at each stretch prices them all.
    fn best_signal(&self, never: Tally) -> Result<(Tally, String), TrainError> {
        let spec = self.matrix.spec();
        let channel = |(column, feature): (usize, &Feature)| match feature {
            Feature::Last { channel } => Some((column, spec.fleet().channels[*channel].name.as_str())),
            _ => None,
        };
        let columns: Vec<(usize, &str)> = spec.features().iter().enumerate().filter_map(channel).collect();
        let signals = columns.iter().enumerate().flat_map(|(at, (column, name))| {
            let codes = self.matrix.coded.bins().edges(*column).len() + 1;
            [(true, "high"), (false, "low")].map(|(high, word)| Signal::new(at, high, codes, format!("{name} {word}")))
        });
        let mut signals: Vec<Signal> = signals.collect();
        let columns: Vec<usize> = columns.into_iter().map(|(column, _)| column).collect();
        for stretch in self.stretches {
            let codes = self.matrix.coded.columns(stretch.rows.clone(), &columns)?;
            let times = &self.matrix.times[stretch.rows.clone()];
            signals.par_iter_mut().for_each(|signal| {
                let scores: Vec<f64> = codes[signal.at].iter().map(|code| level(*code, signal.high, signal.codes)).collect();
                let life = LifeRows { times, scores: &scores, end: stretch.end };
                let (rules, costs) = (&self.settings.rules, &self.settings.costs);
                signal.reaches.extend(Reach::of(life, rules, costs, Answer::Inspect));
                for (level, (threshold, total)) in signal.levels.iter_mut().enumerate() {
                    let tally = price(life, *threshold, rules, costs, Answer::Inspect, self.mean_life_h);
                    total.add(&tally);
                    if tally.open > 0 {
                        signal.open.push((level, signal.reaches.len() - 1));
                    }
                }
            });
        }
        signals.par_iter_mut().for_each(|signal| signal.settle(&self.settings.costs));
        let tried = signals.into_iter().flat_map(|signal| {
            let name = signal.name;
            signal.levels.into_iter().map(move |(_, tally)| (tally, name.clone()))
        });
        Ok(least(never, "none".to_string(), tried))
    }
}

/// Alarms on one channel in one direction.
struct Signal {
    /// Which of the columns.
    at: usize,
    high: bool,
    codes: usize,
    name: String,
    /// Levels with what they cost.
    levels: Vec<(f64, Tally)>,
    /// How high it climbed in each life that failed or would have.
    reaches: Vec<Reach>,
    /// Levels at which it had not called when an inspection ended a life, with the place of its reach.
    open: Vec<(usize, usize)>,
}

impl Signal {
    fn new(at: usize, high: bool, codes: usize, name: String) -> Self {
        // The outermost bins are tried most closely: an alarm that is worth anything is rare.
        let levels = (1..16).map(|i| (codes as f64 - f64::from(i * i) / 256.0 * codes as f64).ceil()).filter(|l| *l > 1.0);
        let levels = levels.map(|level| (level, Tally::default())).collect();
        Self { at, high, codes, name, levels, reaches: Vec::new(), open: Vec::new() }
    }

    /// Prices what inspections ended by how high its scores climb.
    fn settle(&mut self, costs: &Costs) {
        let climb = Climb::new(self.reaches.iter().copied());
        for (level, life) in self.open.drain(..) {
            let (threshold, tally) = &mut self.levels[level];
            climb.settle(tally, self.reaches[life], *threshold, costs, Answer::Inspect);
        }
    }
}

/// A policy to price: scores, and what is done where they are high.
pub(crate) struct Policy<'a> {
    pricer: &'a Pricer<'a>,
    scores: &'a [f64],
    rules: Rules,
    answer: Answer,
    /// How high the scores climb, of each fold by itself: none has a say in the price of another.
    climbs: BTreeMap<Part, Climb>,
}

impl Policy<'_> {
    fn reach(&self, stretch: &Stretch) -> Option<Reach> {
        Reach::of(self.pricer.life(stretch, self.scores), &self.rules, &self.pricer.settings.costs, self.answer)
    }

    /// One stretch under "score ≥ threshold".
    pub(crate) fn price(&self, stretch: &Stretch, threshold: f64) -> Tally {
        let (life, costs) = (self.pricer.life(stretch, self.scores), &self.pricer.settings.costs);
        let mut tally = price(life, threshold, &self.rules, costs, self.answer, self.pricer.mean_life_h);
        if tally.open > 0
            && let (Some(reach), Some(climb)) = (self.reach(stretch), self.climbs.get(&stretch.part))
        {
            climb.settle(&mut tally, reach, threshold, costs, self.answer);
        }
        tally
    }
}

/// Mean operating hours between failures (faults).
fn mean_life(matrix: &Matrix, settings: &Settings, stretches: &[Stretch]) -> f64 {
    let hours: f64 = stretches.iter().map(|s| operating_hours(&matrix.times[s.rows.clone()], &settings.costs)).sum();
    hours / stretches.iter().filter(|s| s.end != End::Well).count().max(1) as f64
}

/// A bin code, 1 to `codes`, as a score of the same span: the higher the more alarming; missing alarms nobody.
fn level(code: u8, high: bool, codes: usize) -> f64 {
    match code {
        MISSING => 0.0,
        code if high => f64::from(code),
        code => codes as f64 + 1.0 - f64::from(code),
    }
}

pub(crate) fn sum<'t>(tallies: impl Iterator<Item = &'t Tally>) -> Tally {
    tallies.fold(Tally::default(), |mut total, tally| {
        total.add(tally);
        total
    })
}

fn least<T>(first: Tally, name: T, others: impl Iterator<Item = (Tally, T)>) -> (Tally, T) {
    others.fold((first, name), |best, other| if other.0.per_hour() < best.0.per_hour() { other } else { best })
}
