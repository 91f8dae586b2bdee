//! The feature matrix: every feature of every reading as one byte, through the one kernel of `homeward-models`.
//!
//! Two passes over the history: the first samples rows to place the bins, the second codes all rows. No f64 matrix of all rows is
//! ever held, and nothing is allocated per row.

use std::ops::Range;
use std::sync::Arc;

use homeward_models::features::{Acceptance, DeviceState, FeatureSpec, Verdict, regimes};
use homeward_models::label::{self, Life, RowLabel};
use homeward_models::{Event, EventKind, Finding};

use rayon::prelude::*;

use crate::binned::{Binned, Bins, Coder, MAX_BINS, MISSING};
use crate::history::{DeviceHistory, History};
use crate::learn::positives_word;
use crate::{LearnerChoice, Settings, TrainError};

/// Rows that the bins are placed by at most.
const SAMPLE: usize = 40_000;
/// Devices that are coded at once, in parallel.
const WAVE: usize = 32;

/// One device's rows in the matrix.
pub(crate) struct DeviceRows {
    pub(crate) name: String,
    pub(crate) rows: Range<usize>,
    /// Its lives; row numbers count from its own first row.
    pub(crate) lives: Vec<Life>,
    /// What failed (or was found faulty) when, by the events' word.
    pub(crate) components: Vec<(i64, Option<String>)>,
    /// Times of confirmed inspections that no failure was reported for: they count as failures.
    pub(crate) confirmed: Vec<i64>,
}

/// Codes and labels of all accepted readings, device by device in order of `ts`.
pub(crate) struct Matrix {
    spec: FeatureSpec,
    pub(crate) features: usize,
    pub(crate) binned: Binned,
    pub(crate) times: Vec<i64>,
    pub(crate) labels: Vec<RowLabel>,
    pub(crate) devices: Vec<DeviceRows>,
    /// Median of each feature over the sample, NaN where always missing.
    pub(crate) typical: Vec<f64>,
    /// Sampled rows of features.
    pub(crate) sample: Vec<Vec<f64>>,
}

impl Matrix {
    /// Replays the history through the kernel and bins it. The same on any number of threads.
    pub(crate) fn build(history: &History, spec: &FeatureSpec, settings: &Settings) -> Self {
        let sample = sample(history, spec);
        let column = |f: usize| sample.iter().map(|row| row[f]).collect::<Vec<f64>>();
        let typical = (0..spec.len()).into_par_iter().map(|f| median(column(f))).collect();
        let bins = Arc::new(Bins::place((0..spec.len()).map(column).collect(), MAX_BINS));
        let empty = Coder::new(bins);
        let mut matrix = Self {
            spec: spec.clone(),
            features: spec.len(),
            binned: empty.sibling().finish(),
            times: Vec::with_capacity(history.ts.len()),
            labels: Vec::with_capacity(history.ts.len()),
            devices: Vec::with_capacity(history.devices.len()),
            typical,
            sample,
        };
        for wave in history.devices.chunks(WAVE) {
            let coded: Vec<_> = wave.par_iter().map(|device| code(history, device, spec, empty.sibling())).collect();
            for (device, (times, codes)) in wave.iter().zip(coded) {
                matrix.add(device, times, codes, settings);
            }
        }
        matrix
    }

    fn add(&mut self, device: &DeviceHistory, times: Vec<i64>, codes: Binned, settings: &Settings) {
        let first = self.times.len();
        let marks = label::marks(&device.events);
        self.labels.extend(label::label(&times, &marks, settings.target));
        let lives = label::lives(&times, &marks);
        self.times.extend(times);
        self.binned.append(codes);
        let ends = |e: &&Event| matches!(label::Mark::of(e), Some(label::Mark::Failure | label::Mark::Fault));
        let components = device.events.iter().filter(ends).map(|e| (e.ts, e.component.clone())).collect();
        let failed = |at: i64| device.events.iter().any(|e| e.ts == at && e.kind == EventKind::Failure);
        let confirmed = device.events.iter().filter(|e| e.kind == EventKind::Inspection(Finding::Confirmed) && !failed(e.ts));
        let confirmed = confirmed.map(|e| e.ts).collect();
        self.devices.push(DeviceRows { name: device.name.clone(), rows: first..self.times.len(), lives, components, confirmed });
    }

    /// The code of one feature of one row.
    pub(crate) fn code(&self, row: usize, feature: usize) -> u8 {
        self.binned.code(row, feature)
    }

    /// Writes values that are coded as the row's: any tree over the bins treats them as it treats the row.
    pub(crate) fn values(&self, row: usize, values: &mut [f64]) {
        for (feature, value) in values.iter_mut().enumerate() {
            let edges = self.binned.bins().edges(feature);
            *value = match self.code(row, feature) {
                MISSING => f64::NAN,
                code => edges.get(usize::from(code) - 1).copied().unwrap_or(f64::MAX),
            };
        }
    }

    /// What the columns are.
    pub(crate) fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.times.len()
    }

    /// Failures that a reading came before.
    pub(crate) fn failures(&self) -> usize {
        self.devices.iter().flat_map(|d| &d.lives).filter(|l| l.failure.is_some()).count()
    }

    /// Devices with a failure.
    pub(crate) fn failing(&self, device: usize) -> bool {
        let d = &self.devices[device];
        d.lives.iter().any(|l| l.failure.is_some()) || self.labels[d.rows.clone()].contains(&RowLabel::Present(true))
    }

    /// Whether there is enough to learn from.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), TrainError> {
        let little = |found: String, needed: &str| Err(TrainError::TooLittle { found, needed: needed.into() });
        let failing = (0..self.devices.len()).filter(|d| self.failing(*d)).count();
        // Residual signals have no value before they are fitted.
        let residual = regimes(self.spec.fleet()).next().is_some();
        if !residual && (0..self.features).all(|f| self.binned.bins().edges(f).is_empty()) {
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

/// Walks a device's readings and events in order of time through the kernel; `each` sees every accepted reading. `columns`: where each measured
/// signal of `spec` stands in the history.
pub(crate) fn replay(
    history: &History,
    columns: &[Option<usize>],
    device: &DeviceHistory,
    spec: &FeatureSpec,
    mut each: impl FnMut(i64, &DeviceState),
) {
    let mut state = DeviceState::new(spec);
    let mut measured = vec![f64::NAN; columns.len()];
    let mut events = device.events.iter().peekable();
    for row in device.rows.clone() {
        let ts = history.ts[row];
        while let Some(event) = events.next_if(|e| e.ts <= ts) {
            state.event(spec, event);
        }
        for (value, column) in measured.iter_mut().zip(columns) {
            *value = column.map_or(f64::NAN, |c| history.signals[c][row]);
        }
        if !matches!(state.reading(spec, ts, &measured), Verdict::Refused(_)) {
            each(ts, &state);
        }
    }
}

/// One value a channel (residual ones as `spec` has them) of every accepted reading, in the order of the matrix' rows.
pub(crate) fn replay_values(history: &History, spec: &FeatureSpec, mut each: impl FnMut(&[f64])) {
    let mut values = vec![f64::NAN; spec.fleet().channels.len()];
    let mut acceptance = Acceptance::default();
    for device in &history.devices {
        acceptance.clone_from(&Acceptance::default());
        for row in device.rows.clone() {
            if matches!(acceptance.judge(history.ts[row]), Verdict::Refused(_)) {
                continue;
            }
            let measured: Vec<f64> = history.signals.iter().map(|s| s[row]).collect();
            spec.values(&measured, &mut values);
            each(&values);
        }
    }
}

/// Every n-th row of features, evenly over all devices.
fn sample(history: &History, spec: &FeatureSpec) -> Vec<Vec<f64>> {
    let step = history.ts.len().div_ceil(SAMPLE).max(1);
    let mut sample = Vec::with_capacity(history.ts.len() / step + 1);
    let mut at = 0usize;
    for device in &history.devices {
        replay(history, &history.columns(), device, spec, |_, state| {
            if at.is_multiple_of(step) {
                let mut row = vec![0.0; spec.len()];
                state.features(spec, &mut row);
                sample.push(row);
            }
            at += 1;
        });
    }
    sample
}

/// Times and codes of a device's accepted readings.
fn code(history: &History, device: &DeviceHistory, spec: &FeatureSpec, mut coder: Coder) -> (Vec<i64>, Binned) {
    let (mut times, mut row) = (Vec::with_capacity(device.rows.len()), vec![0.0; spec.len()]);
    replay(history, &history.columns(), device, spec, |ts, state| {
        state.features(spec, &mut row);
        times.push(ts);
        coder.push(&row);
    });
    (times, coder.finish())
}

/// NaN if all are missing.
fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|v| !v.is_nan());
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
