//! A stored model over an archive's readings, as predict would score them.

use homeward_models::artifact::Model;
use homeward_models::features::{DeviceState, FeatureSpec};
use homeward_models::form::Scoring;
use homeward_models::label::{self, Labelling, RowLabel};

use crate::TrainError;
use crate::history::History;
use crate::labelling::labelling_for;
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

/// Rows that are scored at once: whole blocks of the scorer, and few enough to stay in the cache.
const AT_ONCE: usize = 256;

/// Scores rows many at a time: the same bits as one by one.
pub(crate) struct Bulk {
    scoring: Scoring,
    features: usize,
    horizons: usize,
    /// Not scored yet, row after row.
    rows: Vec<f64>,
    /// Of the rows before, K a row.
    risks: Vec<f64>,
}

impl Bulk {
    /// For rows of `model`'s features.
    pub(crate) fn new(model: &Model) -> Self {
        Self {
            scoring: model.scoring(),
            features: model.spec.len(),
            horizons: model.horizons.len(),
            rows: Vec::with_capacity(AT_ONCE * model.spec.len()),
            risks: Vec::new(),
        }
    }

    /// Takes a row, which `fill` writes.
    pub(crate) fn push(&mut self, fill: impl FnOnce(&mut [f64])) {
        let first = self.rows.len();
        self.rows.resize(first + self.features, 0.0);
        fill(&mut self.rows[first..]);
        if self.rows.len() == AT_ONCE * self.features {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let first = self.risks.len();
        self.risks.resize(first + self.rows.len() / self.features * self.horizons, 0.0);
        self.scoring.score_rows(&self.rows, &mut self.risks[first..]);
        self.rows.clear();
    }

    /// The risks of all rows since the last time, K a row, in their order.
    pub(crate) fn take(&mut self) -> Vec<f64> {
        self.flush();
        std::mem::take(&mut self.risks)
    }

    /// The same at the last horizon only.
    pub(crate) fn take_deciding(&mut self) -> impl Iterator<Item = f64> {
        let last = self.horizons - 1;
        self.take().into_iter().skip(last).step_by(self.horizons)
    }
}

/// Deciding risk of every accepted reading later than `after`, in the order of the matrix; NaN of the others.
pub(crate) fn deciding(history: &History, model: &Model, rows: usize, after: i64) -> Result<Vec<f64>, TrainError> {
    let (mut bulk, mut later) = (Bulk::new(model), Vec::with_capacity(rows));
    each(history, &model.spec, |_, ts, state| {
        later.push(ts > after);
        if ts > after {
            bulk.push(|row| state.features(&model.spec, row));
        }
    })?;
    let mut risks = bulk.take_deciding();
    Ok(later.into_iter().map(|later| if later { risks.next().unwrap_or(f64::NAN) } else { f64::NAN }).collect())
}

/// Every accepted reading, scored.
pub(crate) fn all(history: &History, model: &Model) -> Result<Vec<ScoredReading>, TrainError> {
    let (mut bulk, mut scored) = (Bulk::new(model), Vec::new());
    each(history, &model.spec, |device, ts, state| {
        bulk.push(|row| state.features(&model.spec, row));
        scored.push(ScoredReading { device: history.devices[device].name.clone(), ts, risk: f64::NAN, label: RowLabel::LeftOut });
    })?;
    scored.iter_mut().zip(bulk.take_deciding()).for_each(|(reading, risk)| reading.risk = risk);
    label_all(
        history,
        &labelling_for(history, model.target, &model.costs, model.horizons.last().copied().unwrap_or_default()),
        &mut scored,
    );
    Ok(scored)
}

fn label_all(history: &History, labelling: &Labelling, scored: &mut [ScoredReading]) {
    for readings in scored.chunk_by_mut(|a, b| a.device == b.device) {
        let Some(device) = history.devices.iter().find(|d| d.name == readings[0].device) else { continue };
        let times: Vec<i64> = readings.iter().map(|r| r.ts).collect();
        for (reading, label) in readings.iter_mut().zip(label::label(&times, &labelling.marks(&device.events), labelling)) {
            reading.label = label;
        }
    }
}

fn each(history: &History, spec: &FeatureSpec, mut each: impl FnMut(usize, i64, &DeviceState)) -> Result<(), TrainError> {
    let columns = columns(history, spec);
    for (d, device) in history.devices.iter().enumerate() {
        replay(history, &columns, device, spec, |ts, state| each(d, ts, state))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::tests::{engines, learnt};
    use homeward_models::form::Form;
    use homeward_models::novelty::{Novelty, Term};

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn many_rows_score_as_one_by_one_however_many_there_are() {
        let trees = learnt(&engines(12, 4), |train| train.horizons = vec!["2m".into(), "3m".into()]).unwrap().model;
        let terms = vec![Term { feature: 0, mean: 3.0, inverse: 0.5 }];
        let novelty = Form::Novelty(Novelty { features: trees.spec.len(), terms });
        let novelty = Model { form: novelty, horizons: vec![180_000], calibration: vec![], ..trees.clone() };
        for model in [trees, novelty] {
            let (features, horizons) = (model.spec.len(), model.horizons.len());
            let mut bulk = Bulk::new(&model);
            for count in [0, 1, AT_ONCE - 1, AT_ONCE, 2 * AT_ONCE + 67] {
                let rows: Vec<f64> =
                    (0..count * features).map(|i| if i % 11 == 0 { f64::NAN } else { (i * 7919 % 1000) as f64 / 100.0 }).collect();
                let mut plain = vec![0.0; count * horizons];
                rows.chunks_exact(features).zip(plain.chunks_exact_mut(horizons)).for_each(|(row, risks)| model.score(row, risks));
                rows.chunks_exact(features).for_each(|row| bulk.push(|to| to.copy_from_slice(row)));
                assert_eq!(bits(&bulk.take()), bits(&plain), "{count} rows");
            }
        }
    }
}
