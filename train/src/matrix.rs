//! The feature matrix: every feature of every reading as one byte, through the one kernel of `homeward-models`.
//!
//! Three passes over the history: one for times and labels, one that samples rows to place the bins, one that codes. No f64 matrix of all rows is ever
//! held, and nothing is allocated per row. What stays in memory is a time and a label a row; codes go where there is room ([`Coded`]).

use std::ops::Range;
use std::sync::Arc;

use homeward_models::features::{Acceptance, DeviceState, FeatureSpec, Verdict, regimes};
use homeward_models::label::{self, Labelling, Life, Mark, RowLabel};
use homeward_models::{Event, EventKind, Finding};

use rayon::prelude::*;

use crate::binned::{Binned, Bins, MAX_BINS, MISSING};
use crate::coded::Coded;
use crate::history::{DeviceHistory, History};
use crate::labelling::labelling;
use crate::learn::positives_word;
use crate::{LearnerChoice, Settings, TrainError};

/// Rows that the bins are placed by at most.
const SAMPLE: usize = 40_000;

/// One device's rows in the matrix.
pub(crate) struct DeviceRows {
    pub(crate) name: String,
    pub(crate) rows: Range<usize>,
    /// Its lives; row numbers count from its own first row.
    pub(crate) lives: Vec<Life>,
    /// What failed (or was found faulty) when, by the events' word.
    pub(crate) components: Vec<(i64, Option<String>)>,
    /// Times of confirmed inspections that no failure was reported for.
    pub(crate) confirmed: Vec<i64>,
}

/// Codes and labels of all accepted readings, device by device in order of `ts`.
pub(crate) struct Matrix {
    spec: FeatureSpec,
    pub(crate) features: usize,
    pub(crate) coded: Coded,
    pub(crate) times: Arc<Vec<i64>>,
    labels: Arc<Vec<Packed>>,
    pub(crate) devices: Arc<Vec<DeviceRows>>,
    /// Median of each feature over the sample, NaN where always missing.
    pub(crate) typical: Vec<f64>,
    /// Sampled rows of features.
    pub(crate) sample: Vec<Vec<f64>>,
}

/// A label in eight bytes: two bits for its kind, the others for its milliseconds.
#[derive(Debug, Clone, Copy)]
struct Packed(i64);

impl Packed {
    fn new(label: RowLabel) -> Self {
        match label {
            RowLabel::Fails(ms) => Self(ms << 2),
            // Longer than any life, if it says so.
            RowLabel::Survives(ms) => Self(ms.min(i64::MAX >> 2) << 2 | 1),
            RowLabel::Present(present) => Self(i64::from(present) << 2 | 2),
            RowLabel::LeftOut => Self(3),
            // Never 0.
            RowLabel::FailsWithin(ms) => Self(ms << 2 | 3),
        }
    }

    fn label(self) -> RowLabel {
        match self.0 & 3 {
            0 => RowLabel::Fails(self.0 >> 2),
            1 => RowLabel::Survives(self.0 >> 2),
            2 => RowLabel::Present(self.0 >> 2 == 1),
            _ if self.0 == 3 => RowLabel::LeftOut,
            _ => RowLabel::FailsWithin(self.0 >> 2),
        }
    }
}

impl DeviceRows {
    /// What failed at `ts`, or was found soon after it.
    pub(crate) fn component(&self, ts: i64) -> Option<&str> {
        self.components.iter().find(|(at, _)| *at >= ts).and_then(|(_, component)| component.as_deref())
    }
}

impl Matrix {
    /// Replays the history through the kernel and bins it. The same on any number of threads, wherever things are kept.
    pub(crate) fn build(history: &History, spec: &FeatureSpec, settings: &Settings) -> Result<Self, TrainError> {
        let labelling = labelling(history, settings);
        let labelled: Result<Vec<_>, TrainError> = history.devices.par_iter().map(|d| labelled(history, d, &labelling)).collect();
        let (mut times, mut labels, mut devices) = (Vec::new(), Vec::new(), Vec::with_capacity(history.devices.len()));
        for (device, (own, marked)) in history.devices.iter().zip(labelled?) {
            let rows = times.len()..times.len() + own.len();
            devices.push(device_rows(device, &own, rows, &labelling));
            times.extend(own);
            labels.extend(marked);
        }
        let whole = std::iter::once(0..times.len()).collect();
        Self::code(history, spec, Arc::new(times), Arc::new(labels), Arc::new(devices), whole)
    }

    /// The same rows with the features of another `spec`, of which only `kept` (ascending stretches) are coded.
    pub(crate) fn sibling(&self, history: &History, spec: &FeatureSpec, kept: Vec<Range<usize>>) -> Result<Self, TrainError> {
        Self::code(history, spec, self.times.clone(), self.labels.clone(), self.devices.clone(), kept)
    }

    fn code(
        history: &History,
        spec: &FeatureSpec,
        times: Arc<Vec<i64>>,
        labels: Arc<Vec<Packed>>,
        devices: Arc<Vec<DeviceRows>>,
        kept: Vec<Range<usize>>,
    ) -> Result<Self, TrainError> {
        let sample = sample(history, spec, &devices)?;
        let column = |f: usize| sample.iter().map(|row| row[f]).collect::<Vec<f64>>();
        let typical = (0..spec.len()).into_par_iter().map(|f| median(column(f))).collect();
        let bins = Arc::new(Bins::place(spec.len(), column, MAX_BINS));
        let ranges: Vec<Range<usize>> = devices.iter().map(|d| d.rows.clone()).collect();
        let coded = Coded::fill(bins, kept, &ranges, &history.room, |d, kept, sink| {
            let mut row = vec![0.0; spec.len()];
            some(history, &history.devices[d], spec, ranges[d].start, kept, |state| {
                state.features(spec, &mut row);
                sink.put(&row);
            })
        })?;
        Ok(Self { spec: spec.clone(), features: spec.len(), coded, times, labels, devices, typical, sample })
    }

    /// Forgets the sample, of which only the model in service has use.
    pub(crate) fn without_sample(self) -> Self {
        Self { sample: Vec::new(), ..self }
    }

    /// What is known of a row.
    pub(crate) fn label(&self, row: usize) -> RowLabel {
        self.labels[row].label()
    }

    /// The codes of `rows`, ascending.
    pub(crate) fn codes(&self, rows: &[u32]) -> Result<Binned, TrainError> {
        self.coded.take(rows)
    }

    /// Writes values that are coded as the row's: any tree over the bins treats them as it treats the row.
    pub(crate) fn values(&self, row: usize, values: &mut [f64]) -> Result<(), TrainError> {
        let codes = self.codes(&[row as u32])?;
        for (feature, value) in values.iter_mut().enumerate() {
            let edges = self.coded.bins().edges(feature);
            *value = match codes.code(0, feature) {
                MISSING => f64::NAN,
                code => edges.get(usize::from(code) - 1).copied().unwrap_or(f64::MAX),
            };
        }
        Ok(())
    }

    /// What the columns are.
    pub(crate) fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.times.len()
    }

    /// Failures that a reading came before, those that an inspection forestalled among them.
    pub(crate) fn failures(&self) -> usize {
        self.devices.iter().flat_map(|d| &d.lives).filter(|l| l.failed()).count()
    }

    /// Devices with a failure.
    pub(crate) fn failing(&self, device: usize) -> bool {
        let d = &self.devices[device];
        // Labels of the other target say at once that there is nothing to look for.
        let known = d.rows.clone().map(|row| self.label(row)).filter(|l| *l != RowLabel::LeftOut);
        let mut present = known.take_while(|l| matches!(l, RowLabel::Present(_)));
        d.lives.iter().any(Life::failed) || present.any(|l| l == RowLabel::Present(true))
    }

    /// Whether there is enough to learn from.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), TrainError> {
        let little = |found: String, needed: &str| Err(TrainError::TooLittle { found, needed: needed.into() });
        let failing = (0..self.devices.len()).filter(|d| self.failing(*d)).count();
        if u32::try_from(self.rows()).is_err() {
            return Err(TrainError::Fit(format!("found {} readings, expected fewer than 2^32", self.rows())));
        }
        // Residual signals have no value before they are fitted.
        let residual = regimes(self.spec.fleet()).next().is_some();
        if !residual && (0..self.features).all(|f| self.coded.bins().edges(f).is_empty()) {
            return little("no signal that ever changes".into(), "signals of the fleet with values in their ranges");
        }
        if self.devices.len() < 2 {
            return little(format!("{} device", self.devices.len()), "at least two devices: one is held out while the others teach");
        }
        if failing < 2 && settings.learner != LearnerChoice::Novelty {
            return little(
                format!("{} with {failing} of {} devices", positives_word(settings.target), self.devices.len()),
                "such events of at least two devices, or learner = \"novelty\", which learns from healthy ones",
            );
        }
        Ok(())
    }
}

/// Times and labels of a device's accepted readings.
fn labelled(history: &History, device: &DeviceHistory, labelling: &Labelling) -> Result<(Vec<i64>, Vec<Packed>), TrainError> {
    let times = accepted(history, device)?;
    let labels = label::label(&times, &labelling.marks(&device.events), labelling);
    Ok((times, labels.into_iter().map(Packed::new).collect()))
}

/// Times of a device's accepted readings.
pub(crate) fn accepted(history: &History, device: &DeviceHistory) -> Result<Vec<i64>, TrainError> {
    let (mut acceptance, mut times) = (Acceptance::default(), Vec::with_capacity(device.rows.len()));
    history.readings.each(device.rows.clone(), |ts, _| {
        if !matches!(acceptance.judge(ts), Verdict::Refused(_)) {
            times.push(ts);
        }
    })?;
    Ok(times)
}

fn device_rows(device: &DeviceHistory, times: &[i64], rows: Range<usize>, labelling: &Labelling) -> DeviceRows {
    let ends = |e: &&Event| matches!(Mark::of(e), Some(Mark::Failure | Mark::Found | Mark::Fault));
    let components = device.events.iter().filter(ends).map(|e| (e.ts, e.component.clone())).collect();
    let failed = |at: i64| device.events.iter().any(|e| e.ts == at && e.kind == EventKind::Failure);
    let confirmed = device.events.iter().filter(|e| e.kind == EventKind::Inspection(Finding::Confirmed) && !failed(e.ts));
    let confirmed = confirmed.map(|e| e.ts).collect();
    let lives = label::lives(times, &labelling.marks(&device.events));
    DeviceRows { name: device.name.clone(), rows, lives, components, confirmed }
}

/// Walks a device's readings and events in order of time through the kernel; `each` sees every accepted reading. `columns`: where each measured
/// signal of `spec` stands in the history.
pub(crate) fn replay(
    history: &History,
    columns: &[Option<usize>],
    device: &DeviceHistory,
    spec: &FeatureSpec,
    mut each: impl FnMut(i64, &DeviceState),
) -> Result<(), TrainError> {
    let mut state = DeviceState::new(spec);
    let mut measured = vec![f64::NAN; columns.len()];
    let mut events = device.events.iter().peekable();
    history.readings.each(device.rows.clone(), |ts, values| {
        while let Some(event) = events.next_if(|e| e.ts <= ts) {
            state.event(spec, event);
        }
        for (value, column) in measured.iter_mut().zip(columns) {
            *value = column.map_or(f64::NAN, |c| values[c]);
        }
        if !matches!(state.reading(spec, ts, &measured), Verdict::Refused(_)) {
            each(ts, &state);
        }
    })
}

/// As [`replay`] with the columns of the history; `each` sees only the accepted readings whose rows (the device's first is `first`) are `wanted`, ascending.
pub(crate) fn some(
    history: &History,
    device: &DeviceHistory,
    spec: &FeatureSpec,
    first: usize,
    wanted: &mut dyn Iterator<Item = usize>,
    mut each: impl FnMut(&DeviceState),
) -> Result<(), TrainError> {
    let Some(mut next) = wanted.next() else { return Ok(()) };
    let mut row = first;
    replay(history, &history.columns(), device, spec, |_, state| {
        if row == next {
            each(state);
            next = wanted.next().unwrap_or(usize::MAX);
        }
        row += 1;
    })
}

/// One value a channel (residual ones as `spec` has them) of every accepted reading, in the order of the matrix' rows.
pub(crate) fn replay_values(history: &History, spec: &FeatureSpec, mut each: impl FnMut(&[f64])) -> Result<(), TrainError> {
    let mut values = vec![f64::NAN; spec.fleet().channels.len()];
    let mut acceptance = Acceptance::default();
    for device in &history.devices {
        acceptance.clone_from(&Acceptance::default());
        history.readings.each(device.rows.clone(), |ts, measured| {
            if !matches!(acceptance.judge(ts), Verdict::Refused(_)) {
                spec.values(measured, &mut values);
                each(&values);
            }
        })?;
    }
    Ok(())
}

/// Every n-th row of features, evenly over all devices.
fn sample(history: &History, spec: &FeatureSpec, devices: &[DeviceRows]) -> Result<Vec<Vec<f64>>, TrainError> {
    let step = history.readings.len().div_ceil(SAMPLE).max(1);
    let of = |(device, rows): (&DeviceHistory, &DeviceRows)| {
        let mut sample = Vec::new();
        let first = rows.rows.start.next_multiple_of(step);
        let mut wanted = (first..rows.rows.end).step_by(step);
        some(history, device, spec, rows.rows.start, &mut wanted, |state| {
            let mut row = vec![0.0; spec.len()];
            state.features(spec, &mut row);
            sample.push(row);
        })?;
        Ok(sample)
    };
    let each: Result<Vec<_>, TrainError> = history.devices.par_iter().zip(devices).map(of).collect();
    Ok(each?.into_iter().flatten().collect())
}

/// NaN if all are missing.
fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|v| !v.is_nan());
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_label_is_the_label() {
        for label in [
            RowLabel::Fails(0),
            RowLabel::Fails(1 << 60),
            RowLabel::Survives(0),
            RowLabel::FailsWithin(1),
            RowLabel::Survives(86_400_000),
            RowLabel::Present(true),
            RowLabel::Present(false),
            RowLabel::LeftOut,
        ] {
            assert_eq!(Packed::new(label).label(), label);
        }
    }
}
