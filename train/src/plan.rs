//! Who is judged on what: folds of devices, a hold-out that no choice has seen, and what is purged between.
//!
//! Where devices live several lives the hold-out is the last share of the failures, with a gap of horizon + longest window before it;
//! where each device has one life it is a share of the devices. With fewer than ten failures there is none, and each failing
//! device is a fold of its own.

use std::ops::Range;

use homeward_models::cost::End;
use homeward_models::label::{Life, Target};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::matrix::Matrix;
use crate::{LearnerChoice, Settings};

/// Fewer failures than this prove nothing.
pub(crate) const FEW: usize = 10;

/// What a stretch of rows is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Learnt from by all other folds, and judged by them.
    Fold(usize),
    /// Judged only.
    HoldOut,
}

/// A life, or what of it lies in one part: priced by itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stretch {
    pub(crate) device: usize,
    /// Rows of the matrix.
    pub(crate) rows: Range<usize>,
    pub(crate) end: End,
    pub(crate) part: Part,
}

/// The hold-out in time: rows before `until` are learnt from, those from `from` on judged, those between are purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) until: i64,
    pub(crate) from: i64,
}

/// Which rows are learnt from and which are judged by whom.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// Number of folds.
    pub(crate) folds: usize,
    /// The fold of each device; `None` if the device is held out.
    pub(crate) device: Vec<Option<usize>>,
    /// A hold-out in time.
    pub(crate) cut: Option<Cut>,
    /// Whether there are fewer than ten failures.
    pub(crate) few: bool,
    /// All that is priced.
    pub(crate) stretches: Vec<Stretch>,
}

impl Plan {
    /// The plan for `matrix`. `seen` is until when the champion in service has seen the fleet: where the hold-out lies in time it begins
    /// later than that if enough failures do.
    pub(crate) fn new(matrix: &Matrix, settings: &Settings, seen: Option<i64>) -> Self {
        let failing = (0..matrix.devices.len()).filter(|d| matrix.failing(*d)).count();
        let failures = failure_times(matrix, settings.target);
        let few = failures.len() < FEW;
        let mut plan = Self { folds: 0, device: Vec::new(), cut: None, few, stretches: Vec::new() };
        if few {
            // Without failing devices to leave out, healthy ones are: every row is judged by a form that does not know its device.
            let healthy = if settings.learner == LearnerChoice::Novelty { settings.folds.min(matrix.devices.len()) } else { 2 };
            plan.folds = failing.max(2).max(healthy);
            plan.device = deal(matrix, plan.folds, settings.seed).into_iter().map(Some).collect();
        } else {
            plan.cut = cut(matrix, &failures, settings, seen);
            plan.device = if plan.cut.is_none() { hold_devices_out(matrix, settings) } else { vec![Some(0); matrix.devices.len()] };
            plan.deal_the_rest(matrix, settings);
        }
        plan.stretches = plan.stretches(matrix, settings);
        plan
    }

    /// Folds of the devices that are not held out.
    fn deal_the_rest(&mut self, matrix: &Matrix, settings: &Settings) {
        let failing = (0..self.device.len()).filter(|d| self.device[*d].is_some() && self.fails_in_time(matrix, *d)).count();
        self.folds = settings.folds.min(failing.max(2));
        let mut place = 0;
        for device in order(matrix, settings.seed) {
            if let Some(fold) = &mut self.device[device] {
                *fold = place % self.folds;
                place += 1;
            }
        }
    }

    fn fails_in_time(&self, matrix: &Matrix, device: usize) -> bool {
        let until = self.cut.map_or(i64::MAX, |c| c.until);
        matrix.failing(device) && matrix.devices[device].lives.iter().filter_map(Life::trouble).any(|f| f < until)
    }

    /// The rows that a model may learn from which is judged on `part`; `None` for all of them.
    pub(crate) fn learnt_from(&self, matrix: &Matrix, part: Option<Part>) -> Vec<Range<usize>> {
        let Some(part) = part else { return matrix.devices.iter().map(|d| d.rows.clone()).collect() };
        let devices = matrix.devices.iter().enumerate().filter(|(d, _)| self.teaches(*d, part));
        devices.map(|(_, device)| self.before_cut(matrix, &device.rows)).collect()
    }

    /// Whether a model that is judged on `part` may learn from what a device did before the hold-out in time.
    pub(crate) fn teaches(&self, device: usize, part: Part) -> bool {
        self.device[device].is_some_and(|fold| part != Part::Fold(fold))
    }

    /// The rows that are judged as `part`.
    pub(crate) fn judged(&self, matrix: &Matrix, part: Part) -> Vec<Range<usize>> {
        let devices = matrix.devices.iter().zip(&self.device);
        let of = |(device, fold): (&crate::matrix::DeviceRows, &Option<usize>)| match (part, fold) {
            (Part::Fold(part), Some(fold)) if part == *fold => Some(self.before_cut(matrix, &device.rows)),
            (Part::HoldOut, None) => Some(device.rows.clone()),
            (Part::HoldOut, Some(_)) => self.cut.map(|cut| from(matrix, &device.rows, cut.from)),
            _ => None,
        };
        devices.filter_map(of).filter(|rows| !rows.is_empty()).collect()
    }

    /// All parts that are judged.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let held_out = self.cut.is_some() || self.device.contains(&None);
        (0..self.folds).map(Part::Fold).chain(held_out.then_some(Part::HoldOut))
    }

    fn before_cut(&self, matrix: &Matrix, rows: &Range<usize>) -> Range<usize> {
        self.cut.map_or(rows.clone(), |cut| before(matrix, rows, cut.until))
    }

    fn stretches(&self, matrix: &Matrix, settings: &Settings) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        for (d, device) in matrix.devices.iter().enumerate() {
            for life in &device.lives {
                let rows = device.rows.start + life.first..device.rows.start + life.end;
                let end = end_of(life, settings.target);
                let mut add = |rows: Range<usize>, end, part| {
                    if !rows.is_empty() {
                        stretches.push(Stretch { device: d, rows, end, part });
                    }
                };
                match (self.device[d], self.cut) {
                    (None, _) => add(rows, end, Part::HoldOut),
                    (Some(fold), None) => add(rows, end, Part::Fold(fold)),
                    (Some(fold), Some(cut)) => {
                        let (known, until) = as_known_at(end, cut.until, settings);
                        add(before(matrix, &rows, until), known, Part::Fold(fold));
                        add(from(matrix, &rows, cut.from), end, Part::HoldOut);
                    }
                }
            }
        }
        stretches
    }
}

/// How a life ended, as far as the target goes.
pub(crate) fn end_of(life: &Life, target: Target) -> End {
    match (target, life.failure, life.fault) {
        (Target::Failure, Some(at), _) => End::Failed(at),
        (Target::Failure, None, _) => life.found.map_or(End::Well, End::Found),
        (Target::Present, failure, Some(since)) => End::Faulty { since, failure },
        _ => End::Well,
    }
}

/// What was known of an end at `until`, and until when rows can be judged by it: an alarm in sight of a failure that comes later was not
/// false, and cannot be priced.
fn as_known_at(end: End, until: i64, settings: &Settings) -> (End, i64) {
    match end {
        End::Failed(at) | End::Found(at) if at >= until => (End::Well, until.min(at.saturating_sub(settings.costs.detectable))),
        End::Faulty { since, .. } if since >= until => (End::Well, until),
        End::Faulty { since, failure: Some(at) } if at >= until => (End::Faulty { since, failure: None }, until),
        known => (known, until),
    }
}

fn before(matrix: &Matrix, rows: &Range<usize>, ts: i64) -> Range<usize> {
    rows.start..rows.start + matrix.times[rows.clone()].partition_point(|t| *t < ts)
}

fn from(matrix: &Matrix, rows: &Range<usize>, ts: i64) -> Range<usize> {
    rows.start + matrix.times[rows.clone()].partition_point(|t| *t < ts)..rows.end
}

/// Times of the failures (faults) that a reading came before, ascending.
fn failure_times(matrix: &Matrix, target: Target) -> Vec<i64> {
    let lives = matrix.devices.iter().flat_map(|d| &d.lives);
    let mut times: Vec<i64> = lives.filter_map(|l| end_of(l, target).ts()).collect();
    times.sort_unstable();
    times
}

/// Where the hold-out begins in time, if most failures are of devices that go on to live another life.
fn cut(matrix: &Matrix, failures: &[i64], settings: &Settings, seen: Option<i64>) -> Option<Cut> {
    let again = matrix.devices.iter().filter(|d| d.lives.len() > 1);
    let of_those: usize = again.map(|d| d.lives.iter().filter(|l| end_of(l, settings.target).ts().is_some()).count()).sum();
    let kept = failures.len() - (failures.len() as f64 * settings.holdout).round() as usize;
    if settings.holdout == 0.0 || 2 * of_those <= failures.len() || kept < 2 || kept >= failures.len() {
        return None;
    }
    let gap = settings.horizon() + longest_window(matrix);
    let mut from = failures[kept - 1] + 1;
    if let Some(unseen) = seen.map(|s| s + gap).filter(|unseen| *unseen > from) {
        // Later than the champion has seen, if that leaves enough to compare on.
        from = if failures.len() - failures.partition_point(|f| *f < unseen) >= FEW { unseen } else { from };
    }
    let cut = Cut { until: from - gap, from };
    // A gap that swallows the past leaves nothing to learn from.
    (failures.partition_point(|f| *f < cut.until) >= FEW).then_some(cut)
}

/// The longest window, milliseconds.
pub(crate) fn longest_window(matrix: &Matrix) -> i64 {
    matrix.spec().fleet().windows.last().copied().unwrap_or_default()
}

/// A share of the failing and of the healthy devices is held out (`None`), the others are not.
fn hold_devices_out(matrix: &Matrix, settings: &Settings) -> Vec<Option<usize>> {
    let mut device = vec![Some(0); matrix.devices.len()];
    if settings.holdout > 0.0 {
        let every = (1.0 / settings.holdout).round().max(2.0) as usize;
        // Another order than that of the folds, so that a fold does not follow the hold-out around.
        let held_out = order(matrix, settings.seed ^ 0x4e1d).into_iter().step_by(every);
        held_out.for_each(|d| device[d] = None);
    }
    device
}

/// Failing devices first, each kind shuffled: dealt out in turn, every fold has something to miss. The same seed gives the same order,
/// whatever that of the archive's objects.
fn order(matrix: &Matrix, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..matrix.devices.len()).collect();
    order.sort_by_key(|d| (!matrix.failing(*d), xxh3_64_with_seed(matrix.devices[*d].name.as_bytes(), seed)));
    order
}

/// The fold of each device.
fn deal(matrix: &Matrix, folds: usize, seed: u64) -> Vec<usize> {
    let mut fold = vec![0; matrix.devices.len()];
    for (place, device) in order(matrix, seed).into_iter().enumerate() {
        fold[device] = place % folds;
    }
    fold
}

#[cfg(test)]
mod tests;
