//! The feature matrix with its labels as Parquet, for other tools.
//!
//! A row an accepted reading, sorted by device and `ts`: `device`, `ts`, every feature by its name (null is missing), `label.{horizon}` (true, false, or null
//! where nobody knows), and with a model `risk.{horizon}` as predict would give it.

use std::fs::File;
use std::path::Path;

use homeward_models::artifact::Model;
use homeward_models::features::{DeviceState, FeatureSpec};
use homeward_models::label::{self, Label, Labelling, RowLabel};
use homeward_models::time::duration_name;
use polars::prelude::*;

use crate::history::{DeviceHistory, History};
use crate::labelling::labelling;
use crate::matrix::replay;
use crate::score::{Bulk, columns};
use crate::{Settings, TrainError};

/// Rows of a row group at most, about.
const GROUP: usize = 100_000;

/// Writes the features of all readings to `path`; with a model its features (residuals included) and risks. Returns the number of rows.
pub(crate) fn features(
    history: &History,
    spec: &FeatureSpec,
    model: Option<&Model>,
    settings: &Settings,
    path: &Path,
) -> Result<usize, TrainError> {
    let failed = |source: PolarsError| TrainError::Object { key: path.display().to_string(), source };
    let file = File::create(path).map_err(|source| TrainError::File { path: path.display().to_string(), source })?;
    let mut table = Columns::new(spec, model, settings, labelling(history, settings));
    let schema = table.take().map_err(failed)?.schema().as_ref().clone();
    let mut writer = ParquetWriter::new(file).with_compression(ParquetCompression::Zstd(None)).batched(&schema).map_err(failed)?;
    let mut rows = 0;
    for device in &history.devices {
        table.add(history, device, spec)?;
        if table.ts.len() >= GROUP {
            rows += table.ts.len();
            writer.write_batch(&table.take().map_err(failed)?).map_err(failed)?;
        }
    }
    rows += table.ts.len();
    writer.write_batch(&table.take().map_err(failed)?).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(rows)
}

/// Columns as they fill.
struct Columns {
    names: Vec<String>,
    horizons: Vec<i64>,
    labelling: Labelling,
    bulk: Option<Bulk>,
    device: Vec<String>,
    ts: Vec<i64>,
    features: Vec<Vec<f64>>,
    labels: Vec<RowLabel>,
    risks: Vec<Vec<f64>>,
}

impl Columns {
    fn new(spec: &FeatureSpec, model: Option<&Model>, settings: &Settings, labelling: Labelling) -> Self {
        let horizons = model.map_or_else(|| settings.horizons.clone(), |m| m.horizons.clone());
        Self {
            names: (0..spec.len()).map(|f| spec.name(f)).collect(),
            labelling,
            bulk: model.map(Bulk::new),
            device: Vec::new(),
            ts: Vec::new(),
            features: vec![Vec::new(); spec.len()],
            labels: Vec::new(),
            risks: vec![Vec::new(); if model.is_some() { horizons.len() } else { 0 }],
            horizons,
        }
    }

    fn add(&mut self, history: &History, device: &DeviceHistory, spec: &FeatureSpec) -> Result<(), TrainError> {
        let first = self.ts.len();
        let mut row = vec![0.0; spec.len()];
        replay(history, &columns(history, spec), device, spec, |ts, state: &DeviceState| {
            state.features(spec, &mut row);
            self.ts.push(ts);
            self.features.iter_mut().zip(&row).for_each(|(column, value)| column.push(*value));
            if let Some(bulk) = &mut self.bulk {
                bulk.push(|to| to.copy_from_slice(&row));
            }
        })?;
        let risks = self.bulk.as_mut().map(Bulk::take).unwrap_or_default();
        for (k, column) in self.risks.iter_mut().enumerate() {
            column.extend(risks.iter().skip(k).step_by(self.horizons.len()));
        }
        let marks = self.labelling.marks(&device.events);
        self.labels.extend(label::label(&self.ts[first..], &marks, &self.labelling));
        self.device.extend(std::iter::repeat_n(device.name.clone(), self.ts.len() - first));
        Ok(())
    }

    /// What has filled so far, as a frame; the columns are empty after that.
    fn take(&mut self) -> PolarsResult<DataFrame> {
        let rows = self.ts.len();
        let ts = Column::new("ts".into(), std::mem::take(&mut self.ts))
            .cast(&DataType::Datetime(TimeUnit::Milliseconds, Some(TimeZone::UTC)))?;
        let mut frame = vec![Column::new("device".into(), std::mem::take(&mut self.device)), ts];
        for (name, values) in self.names.iter().zip(&mut self.features) {
            let values: Vec<Option<f64>> = std::mem::take(values).into_iter().map(|v| v.is_finite().then_some(v)).collect();
            frame.push(Column::new(name.as_str().into(), values));
        }
        let labels = std::mem::take(&mut self.labels);
        for horizon in &self.horizons {
            let known = |label: &RowLabel| match label.at(*horizon) {
                Label::Unknown => None,
                label => Some(label == Label::Positive),
            };
            frame.push(Column::new(format!("label.{}", duration_name(*horizon)).into(), labels.iter().map(known).collect::<Vec<_>>()));
        }
        for (horizon, risks) in self.horizons.iter().zip(&mut self.risks) {
            frame.push(Column::new(format!("risk.{}", duration_name(*horizon)).into(), std::mem::take(risks)));
        }
        DataFrame::new(rows, frame)
    }
}
