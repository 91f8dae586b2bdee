//! What the archive's readings were used for, and what was left out and why.

use homeward_models::label::{Label, RowLabel};

use crate::Settings;
use crate::history::History;
use crate::matrix::Matrix;
use crate::plan::{Part, Plan};

/// Readings and labels, counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct DataUse {
    /// Archive objects read.
    pub(crate) objects: usize,
    /// Readings in them.
    pub(crate) readings: usize,
    /// Refused by the kernel as late, duplicate or of a clock that stepped.
    pub(crate) refused: usize,
    /// Devices.
    pub(crate) devices: usize,
    /// First and last accepted reading, milliseconds since 1970 UTC.
    pub(crate) span: (i64, i64),
    /// Failures (target `present`: faults) that a reading came before.
    pub(crate) failures: usize,
    /// Of these, known by a confirmed inspection alone.
    pub(crate) confirmed: usize,
    /// Positive at the deciding horizon because a failure followed.
    pub(crate) positive_by_failure: usize,
    /// Positive because an inspection confirmed.
    pub(crate) positive_by_inspection: usize,
    /// Negative: known to have gone well for the horizon.
    pub(crate) negative: usize,
    /// Unknown: maintenance, retirement or the end of the data came within the horizon.
    pub(crate) censored: usize,
    /// After a failure and before its repair, or after retirement.
    pub(crate) left_out: usize,
    /// Between what is learnt from and the hold-out.
    pub(crate) purged: usize,
    /// Judged in the hold-out.
    pub(crate) held_out: usize,
    /// The final model's rows.
    pub(crate) fitted: usize,
    /// Signals that never had a value.
    pub(crate) always_missing: Vec<String>,
}

impl DataUse {
    pub(crate) fn new(matrix: &Matrix, plan: &Plan, settings: &Settings, history: &History, fitted: usize) -> Self {
        let mut usage = Self {
            objects: history.objects.len(),
            readings: history.readings.len(),
            refused: history.readings.len() - matrix.rows(),
            devices: matrix.devices.len(),
            span: (matrix.times.iter().min().copied().unwrap_or_default(), matrix.times.iter().max().copied().unwrap_or_default()),
            failures: matrix.failures(),
            confirmed: matrix.devices.iter().map(confirmed_failures).sum(),
            held_out: plan.judged(matrix, Part::HoldOut).iter().map(ExactSizeIterator::len).sum(),
            fitted,
            always_missing: always_missing(matrix),
            ..Self::default()
        };
        let judged: usize = plan.parts().flat_map(|p| plan.judged(matrix, p)).map(|r| r.len()).sum();
        usage.purged = matrix.rows() - judged;
        for device in matrix.devices.iter() {
            for row in device.rows.clone() {
                usage.count(matrix, device, row, settings.horizon());
            }
        }
        usage
    }

    fn count(&mut self, matrix: &Matrix, device: &crate::matrix::DeviceRows, row: usize, horizon: i64) {
        let label = matrix.label(row);
        match (label.at(horizon), label) {
            (Label::Positive, RowLabel::FailsWithin(_)) => self.positive_by_inspection += 1,
            (Label::Positive, RowLabel::Fails(ms)) if device.confirmed.contains(&(matrix.times[row] + ms)) => {
                self.positive_by_inspection += 1
            }
            (Label::Positive, _) => self.positive_by_failure += 1,
            (Label::Negative, _) => self.negative += 1,
            (Label::Unknown, RowLabel::LeftOut) => self.left_out += 1,
            (Label::Unknown, _) => self.censored += 1,
        }
    }
}

fn confirmed_failures(device: &crate::matrix::DeviceRows) -> usize {
    device.lives.iter().filter(|l| l.found.is_some() || l.failure.is_some_and(|f| device.confirmed.contains(&f))).count()
}

/// Channels whose features are missing in every sampled row.
fn always_missing(matrix: &Matrix) -> Vec<String> {
    let spec = matrix.spec();
    let last = |(column, feature): (usize, &homeward_models::features::Feature)| match feature {
        homeward_models::features::Feature::Last { channel } if matrix.typical[column].is_nan() => {
            Some(spec.fleet().channels[*channel].name.clone())
        }
        _ => None,
    };
    spec.features().iter().enumerate().filter_map(last).collect()
}
