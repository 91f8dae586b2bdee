//! Two stored models beside each other, on data later than both have seen.

use homeward_models::artifact::Model;
use homeward_models::cost::{Answer, End, LifeRows, Tally, operating_hours, price};
use homeward_models::label;

use crate::evaluate::{paired, sum};
use crate::history::History;
use crate::metrics::PolicyMetrics;
use crate::plan::{FEW, end_of};
use crate::score::{self, ScoredReading};
use crate::{Settings, TrainError};
use serde::Serialize;

/// A model and until when it has learnt, milliseconds since 1970 UTC.
#[derive(Debug, Clone, Copy)]
pub struct Contestant<'a> {
    /// The model.
    pub model: &'a Model,
    /// The last reading it has learnt from.
    pub until_ms: i64,
}

impl Contestant<'_> {
    /// Readings up to here are touched by what it has learnt from: its last reading, horizon and longest window.
    fn seen(&self) -> i64 {
        let window = self.model.spec.fleet().windows.last().copied().unwrap_or_default();
        self.until_ms.saturating_add(self.model.horizons.last().copied().unwrap_or_default()).saturating_add(window)
    }
}

/// What two models cost on the same lives.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// Data from here on, milliseconds since 1970 UTC, were seen by neither.
    pub from_ms: i64,
    /// The first model.
    pub first: PolicyMetrics,
    /// The second one.
    pub second: PolicyMetrics,
    /// Share of the bootstrap samples of devices in which the first costs less.
    pub first_better: f64,
    /// 5 % and 95 % quantile of first − second, money per operating hour.
    pub difference: (f64, f64),
    /// Whether fewer than ten failures were compared on, which proves nothing.
    pub few: bool,
}

/// Prices both over `history` under `settings`' costs, each at its own threshold and rules.
pub(crate) fn compare(
    history: &History,
    first: Contestant<'_>,
    second: Contestant<'_>,
    settings: &Settings,
) -> Result<Compared, TrainError> {
    let from_ms = first.seen().max(second.seen());
    let scored = [first, second].map(|c| score::all(history, c.model));
    let mut tallies = [Vec::new(), Vec::new()];
    let mean_life_h = mean_life(history, &scored[0], settings);
    for ((contestant, scored), tallies) in [first, second].iter().zip(&scored).zip(&mut tallies) {
        for readings in scored.chunk_by(|a, b| a.device == b.device) {
            tallies.push(tally(history, readings, contestant.model, settings, from_ms, mean_life_h));
        }
    }
    let [first, second] = tallies;
    let (of_first, of_second) = (sum(first.iter()), sum(second.iter()));
    if of_first.hours == 0.0 {
        let found = format!("no reading later than {}", homeward_models::time::rfc3339(from_ms.min(4_000_000_000_000)));
        return Err(TrainError::TooLittle { found, needed: "data that neither model has seen".into() });
    }
    let (first_better, difference) = paired(&first, &second, settings.seed);
    let few = (of_first.failures as usize) < FEW;
    Ok(Compared { from_ms, first: (&of_first).into(), second: (&of_second).into(), first_better, difference, few })
}

/// What `model` costs over one device's readings later than `from`.
fn tally(history: &History, readings: &[ScoredReading], model: &Model, settings: &Settings, from: i64, mean_life_h: f64) -> Tally {
    let times: Vec<i64> = readings.iter().map(|r| r.ts).collect();
    let scores: Vec<f64> = readings.iter().map(|r| r.risk).collect();
    let mut total = Tally::default();
    for (rows, end) in lives(history, readings, &times, settings) {
        let rows = rows.start + times[rows.clone()].partition_point(|t| *t <= from)..rows.end;
        if !rows.is_empty() {
            let life = LifeRows { times: &times[rows.clone()], scores: &scores[rows], end };
            total.add(&price(life, model.threshold, &model.rules, &settings.costs, Answer::Inspect, mean_life_h));
        }
    }
    total
}

fn lives(history: &History, readings: &[ScoredReading], times: &[i64], settings: &Settings) -> Vec<(std::ops::Range<usize>, End)> {
    let device = readings.first().and_then(|r| history.devices.iter().find(|d| d.name == r.device));
    let marks = device.map(|d| label::marks(&d.events)).unwrap_or_default();
    label::lives(times, &marks).iter().map(|l| (l.first..l.end, end_of(l, settings.target))).collect()
}

fn mean_life(history: &History, scored: &[ScoredReading], settings: &Settings) -> f64 {
    let (mut hours, mut failures) = (0.0, 0usize);
    for readings in scored.chunk_by(|a, b| a.device == b.device) {
        let times: Vec<i64> = readings.iter().map(|r| r.ts).collect();
        for (rows, end) in lives(history, readings, &times, settings) {
            hours += operating_hours(&times[rows], &settings.costs);
            failures += usize::from(end != End::Well);
        }
    }
    hours / failures.max(1) as f64
}
