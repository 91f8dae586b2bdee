//! Two stored models beside each other, on data later than both have seen.

use homeward_models::artifact::Model;
use homeward_models::climb::{Climb, Reach};
use homeward_models::cost::{Answer, End, LifeRows, Tally, operating_hours, price};
use homeward_models::label::{self, Labelling};

use crate::evaluate::{paired, sum};
use crate::history::{DeviceHistory, History};
use crate::labelling::labelling;
use crate::matrix::{accepted, replay};
use crate::metrics::PolicyMetrics;
use crate::plan::{FEW, end_of};
use crate::score::{Bulk, columns};
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

/// Prices both over `history` under `settings`' costs, each at its own threshold and rules. One device's readings are held at a time.
pub(crate) fn compare(
    history: &History,
    first: Contestant<'_>,
    second: Contestant<'_>,
    settings: &Settings,
) -> Result<Compared, TrainError> {
    let from_ms = first.seen().max(second.seen());
    let labelling = labelling(history, settings);
    let mean_life_h = mean_life(history, settings, &labelling)?;
    let terms = Terms { settings, labelling, from_ms, mean_life_h };
    let mut priced = [Vec::new(), Vec::new()];
    let mut bulks = [first, second].map(|contestant| Bulk::new(contestant.model));
    for device in history.devices.iter().filter(|d| !d.rows.is_empty()) {
        for ((contestant, bulk), priced) in [first, second].iter().zip(&mut bulks).zip(&mut priced) {
            priced.push(tally(history, device, contestant.model, bulk, &terms)?);
        }
    }
    let [of_first, of_second] = priced;
    let (first, second) = (settled(of_first, first.model.threshold, settings), settled(of_second, second.model.threshold, settings));
    let (of_first, of_second) = (sum(first.iter()), sum(second.iter()));
    if of_first.hours == 0.0 {
        let found = format!("no reading later than {}", homeward_models::time::rfc3339(from_ms.min(4_000_000_000_000)));
        return Err(TrainError::TooLittle { found, needed: "data that neither model has seen".into() });
    }
    let (first_better, difference) = paired(&first, &second, settings.seed);
    let few = (of_first.failures as usize) < FEW;
    Ok(Compared { from_ms, first: (&of_first).into(), second: (&of_second).into(), first_better, difference, few })
}

/// What both are priced under.
struct Terms<'a> {
    settings: &'a Settings,
    labelling: Labelling,
    /// What came before is not priced.
    from_ms: i64,
    mean_life_h: f64,
}

/// What a model costs over one device, and how high its risks climbed in the lives that failed or would have.
#[derive(Default)]
struct Priced {
    tally: Tally,
    reaches: Vec<Reach>,
    /// Places of those that an inspection ended before it called.
    open: Vec<usize>,
}

/// Prices what inspections ended by how high risks climb.
fn settled(priced: Vec<Priced>, threshold: f64, settings: &Settings) -> Vec<Tally> {
    let climb = Climb::new(priced.iter().flat_map(|p| &p.reaches).copied());
    let settle = |mut p: Priced| {
        p.open.iter().for_each(|life| climb.settle(&mut p.tally, p.reaches[*life], threshold, &settings.costs, Answer::Inspect));
        p.tally
    };
    priced.into_iter().map(settle).collect()
}

/// What `model` costs over one device.
fn tally(history: &History, device: &DeviceHistory, model: &Model, bulk: &mut Bulk, terms: &Terms<'_>) -> Result<Priced, TrainError> {
    let mut times = Vec::new();
    replay(history, &columns(history, &model.spec), device, &model.spec, |ts, state| {
        times.push(ts);
        if ts > terms.from_ms {
            bulk.push(|row| state.features(&model.spec, row));
        }
    })?;
    let scores: Vec<f64> = bulk.take_deciding().collect();
    let known = times.len() - scores.len();
    let costs = &terms.settings.costs;
    let mut priced = Priced::default();
    for (rows, end) in lives(device, &times, &terms.labelling) {
        let rows = rows.start + times[rows.clone()].partition_point(|t| *t <= terms.from_ms)..rows.end;
        if !rows.is_empty() {
            let life = LifeRows { times: &times[rows.clone()], scores: &scores[rows.start - known..rows.end - known], end };
            let tally = price(life, model.threshold, &model.rules, costs, Answer::Inspect, terms.mean_life_h);
            priced.reaches.extend(Reach::of(life, &model.rules, costs, Answer::Inspect));
            priced.open.extend((tally.open > 0).then(|| priced.reaches.len() - 1));
            priced.tally.add(&tally);
        }
    }
    Ok(priced)
}

fn lives(device: &DeviceHistory, times: &[i64], labelling: &Labelling) -> Vec<(std::ops::Range<usize>, End)> {
    label::lives(times, &labelling.marks(&device.events)).iter().map(|l| (l.first..l.end, end_of(l, labelling.target))).collect()
}

fn mean_life(history: &History, settings: &Settings, labelling: &Labelling) -> Result<f64, TrainError> {
    let (mut hours, mut failures) = (0.0, 0usize);
    for device in &history.devices {
        let times = accepted(history, device)?;
        for (rows, end) in lives(device, &times, labelling) {
            hours += operating_hours(&times[rows], &settings.costs);
            failures += usize::from(end != End::Well);
        }
    }
    Ok(hours / failures.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::tests::{engines, learnt};
    use crate::testing::{self, M};

    #[test]
    fn only_what_neither_has_seen_is_priced_and_each_reading_by_its_own_risk() {
        let (devices, settings) = (engines(12, 4), testing::settings(|_| ()));
        let model = learnt(&devices, |_| ()).unwrap().model;
        let deaf = Model { threshold: 2.0, ..model.clone() };
        let drawn: Vec<testing::Drawn<'_>> = devices.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        let history = testing::history(&drawn);
        let priced = |until_ms| {
            let contestant = |model| Contestant { model, until_ms };
            compare(&history, contestant(&model), contestant(&deaf), &settings).unwrap()
        };
        // Engines get hot after their thirtieth minute. A horizon of three minutes and a window of one have to pass.
        let (all, late) = (priced(-60 * M), priced(16 * M));
        assert_eq!((all.from_ms, late.from_ms), (-56 * M, 20 * M));
        for compared in [&all, &late] {
            assert_eq!((compared.first.failures, compared.first.called, compared.first.false_alarms), (12, 12, 0));
            assert_eq!((compared.second.called, compared.second.cost_per_hour > compared.first.cost_per_hour), (0, true));
        }
        assert!(late.first.hours < all.first.hours - 16.0 * 20.0 / 60.0 && late.first.hours > 0.0, "{late:?}");
    }
}
