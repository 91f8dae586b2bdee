//! A stored model over an archive's readings, as predict would score them.

use homeward_models::artifact::Model;
use homeward_models::features::{DeviceState, FeatureSpec};
use homeward_models::label::{self, RowLabel, Target};

use crate::TrainError;
use crate::history::History;
use crate::matrix::replay;

/// One reading with its risk and its label.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredReading {
    /// Whose.
    pub device: String,
    /// Milliseconds since 1970 UTC.
    pub ts: i64,
    /// Risk at the last horizon.
    pub risk: f64,
    /// What it knew of the future.
    pub label: RowLabel,
}

/// The columns of the history that the signals of `spec` stand in; `None` where the history has no such signal.
pub(crate) fn columns(history: &History, spec: &FeatureSpec) -> Vec<Option<usize>> {
    spec.fleet().signals().iter().map(|s| history.names.iter().position(|n| *n == s.name)).collect()
}

/// Deciding risk of every accepted reading later than `after`, in the order of the matrix; NaN of the others.
pub(crate) fn deciding(history: &History, model: &Model, rows: usize, after: i64) -> Result<Vec<f64>, TrainError> {
    let mut risks = Vec::with_capacity(rows);
    each(history, model, |_, ts, row, state| {
        if ts > after {
            risks.push(risk(model, state, row));
        } else {
            risks.push(f64::NAN);
        }
    })?;
    Ok(risks)
}

/// Every accepted reading, scored.
pub(crate) fn all(history: &History, model: &Model) -> Result<Vec<ScoredReading>, TrainError> {
    let mut scored = Vec::new();
    each(history, model, |device, ts, row, state| {
        scored.push(ScoredReading {
            device: history.devices[device].name.clone(),
            ts,
            risk: risk(model, state, row),
            label: RowLabel::LeftOut,
        });
    })?;
    label_all(history, model.target, &mut scored);
    Ok(scored)
}

fn label_all(history: &History, target: Target, scored: &mut [ScoredReading]) {
    for readings in scored.chunk_by_mut(|a, b| a.device == b.device) {
        let Some(device) = history.devices.iter().find(|d| d.name == readings[0].device) else { continue };
        let times: Vec<i64> = readings.iter().map(|r| r.ts).collect();
        for (reading, label) in readings.iter_mut().zip(label::label(&times, &label::marks(&device.events), target)) {
            reading.label = label;
        }
    }
}

pub(crate) fn risk(model: &Model, state: &DeviceState, row: &mut [f64]) -> f64 {
    state.features(&model.spec, row);
    let mut risks = vec![0.0; model.horizons.len()];
    model.score(row, &mut risks);
    risks.last().copied().unwrap_or_default()
}

fn each(history: &History, model: &Model, mut each: impl FnMut(usize, i64, &mut [f64], &DeviceState)) -> Result<(), TrainError> {
    let columns = columns(history, &model.spec);
    let mut row = vec![0.0; model.spec.len()];
    for (d, device) in history.devices.iter().enumerate() {
        replay(history, &columns, device, &model.spec, |ts, state| each(d, ts, &mut row, state))?;
    }
    Ok(())
}
