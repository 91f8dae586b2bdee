//! The feature matrix, binned: every feature of every reading as one byte, through the one kernel of `homeward-models`.
//!
//! Two passes over the history: the first samples rows to place the bins, the second codes all rows. No f64 matrix of all rows is
//! ever held, and nothing is allocated per row.

use std::ops::Range;

use homeward_models::features::{DeviceState, FeatureSpec, Verdict};
use homeward_models::label::{self, Life, RowLabel};
use homeward_models::{Event, EventKind, Finding};

use crate::history::{DeviceHistory, History};
use crate::learn::positives_word;
use crate::{Settings, TrainError};

/// Code of a missing value; the others are 1 + the number of edges below the value.
pub(crate) const MISSING: u8 = 0;
/// Bins of present values at most, so that codes fit a byte.
const MAX_BINS: usize = 255;
/// Rows that the bins are placed by at most.
const SAMPLE: usize = 20_000;

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
    codes: Vec<u8>,
    pub(crate) times: Vec<i64>,
    pub(crate) labels: Vec<RowLabel>,
    pub(crate) devices: Vec<DeviceRows>,
    /// Upper edges of each feature's bins, ascending: code c ≥ 1 holds edge[c−2] < x ≤ edge[c−1].
    pub(crate) edges: Vec<Vec<f64>>,
    /// Median of each feature over the sample, NaN where always missing.
    pub(crate) typical: Vec<f64>,
    /// Sampled rows of features.
    pub(crate) sample: Vec<Vec<f64>>,
}

impl Matrix {
    /// Replays the history through the kernel and bins it.
    pub(crate) fn build(history: &History, spec: &FeatureSpec, settings: &Settings) -> Self {
        let sample = sample(history, spec);
        let (edges, typical) = (0..spec.len()).map(|f| place_bins(&sample, f)).unzip();
        let mut matrix = Self {
            spec: spec.clone(),
            features: spec.len(),
            codes: Vec::with_capacity(history.ts.len() * spec.len()),
            times: Vec::with_capacity(history.ts.len()),
            labels: Vec::new(),
            devices: Vec::new(),
            edges,
            typical,
            sample,
        };
        let mut row = vec![0.0; spec.len()];
        for device in &history.devices {
            matrix.add(history, device, spec, settings, &mut row);
        }
        matrix
    }

    fn add(&mut self, history: &History, device: &DeviceHistory, spec: &FeatureSpec, settings: &Settings, row: &mut [f64]) {
        let first = self.times.len();
        let (times, codes, edges) = (&mut self.times, &mut self.codes, &self.edges);
        replay(history, &history.columns(), device, spec, |ts, state| {
            state.features(spec, row);
            times.push(ts);
            codes.extend(row.iter().zip(edges).map(|(x, edges)| code(*x, edges)));
        });
        let times = &self.times[first..];
        let marks = label::marks(&device.events);
        self.labels.extend(label::label(times, &marks, settings.target));
        let lives = label::lives(times, &marks);
        let ends = |e: &&Event| matches!(label::Mark::of(e), Some(label::Mark::Failure | label::Mark::Fault));
        let components = device.events.iter().filter(ends).map(|e| (e.ts, e.component.clone())).collect();
        let failed = |at: i64| device.events.iter().any(|e| e.ts == at && e.kind == EventKind::Failure);
        let confirmed = device.events.iter().filter(|e| e.kind == EventKind::Inspection(Finding::Confirmed) && !failed(e.ts));
        let confirmed = confirmed.map(|e| e.ts).collect();
        self.devices.push(DeviceRows { name: device.name.clone(), rows: first..self.times.len(), lives, components, confirmed });
    }

    /// The code of one feature of one row.
    pub(crate) fn code(&self, row: usize, feature: usize) -> u8 {
        self.codes[row * self.features + feature]
    }

    /// Writes values that are coded as the row's: any tree over the bins treats them as it treats the row.
    pub(crate) fn values(&self, row: usize, values: &mut [f64]) {
        for (feature, value) in values.iter_mut().enumerate() {
            let edges = &self.edges[feature];
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
        if self.features == 0 || self.edges.iter().all(Vec::is_empty) {
            return little("no signal that ever changes".into(), "signals of the fleet with values in their ranges");
        }
        if self.devices.len() < 2 {
            return little(format!("{} device", self.devices.len()), "at least two devices: one is held out while the others teach");
        }
        if failing < 2 {
            return little(
                format!("{} with {failing} of {} devices", positives_word(settings.target), self.devices.len()),
                "such events of at least two devices",
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

/// Upper edges of at most 255 bins of about equal count, and the median.
fn place_bins(sample: &[Vec<f64>], feature: usize) -> (Vec<f64>, f64) {
    let mut values: Vec<f64> = sample.iter().map(|row| row[feature]).filter(|v| !v.is_nan()).collect();
    values.sort_unstable_by(f64::total_cmp);
    let Some(median) = values.get(values.len() / 2).copied() else { return (Vec::new(), f64::NAN) };
    let mut edges: Vec<f64> = Vec::new();
    for bin in 1..MAX_BINS {
        let at = bin * values.len() / MAX_BINS;
        let Some(below) = at.checked_sub(1).map(|i| values[i]) else { continue };
        let above = values[values.partition_point(|v| *v <= below)..].first().copied();
        let Some(above) = above else { break };
        let middle = below + (above - below) / 2.0;
        let edge = if middle < above { middle } else { below };
        if edges.last().is_none_or(|last| *last < edge) {
            edges.push(edge);
        }
    }
    (edges, median)
}

/// The code of a value: 0 for missing, else 1 + the number of edges below it.
pub(crate) fn code(x: f64, edges: &[f64]) -> u8 {
    if x.is_nan() {
        return MISSING;
    }
    // At most 254 edges.
    1 + edges.partition_point(|e| *e < x) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bins(values: &[f64]) -> Vec<f64> {
        place_bins(&values.iter().map(|v| vec![*v]).collect::<Vec<_>>(), 0).0
    }

    #[test]
    fn few_values_get_a_bin_each() {
        let values: Vec<f64> = [1.0, 2.0, 2.0, 3.0].repeat(100);
        let edges = bins(&values);
        assert_eq!(edges, [1.5, 2.5]);
        assert_eq!([1.0, 2.0, 3.0].map(|x| code(x, &edges)), [1, 2, 3]);
        assert_eq!(code(f64::NAN, &edges), MISSING);
        assert_eq!(code(1.5, &edges), 1, "an edge belongs to the bin below it");
    }

    #[test]
    fn many_values_fill_all_codes_in_order() {
        let values: Vec<f64> = (0..10_000).map(f64::from).collect();
        let edges = bins(&values);
        assert_eq!(edges.len(), 254);
        assert_eq!((code(-1.0, &edges), code(1e9, &edges)), (1, 255));
        assert!(values.windows(2).all(|w| code(w[0], &edges) <= code(w[1], &edges)));
    }

    #[test]
    fn neighbours_without_a_number_between_them_are_still_told_apart() {
        let (a, b) = (1.0f64, 1.0f64.next_up());
        let edges = bins(&[a, a, b, b]);
        assert_ne!(code(a, &edges), code(b, &edges));
    }
}
