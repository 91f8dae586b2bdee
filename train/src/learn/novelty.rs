//! `novelty` from a history to a model: what healthy readings look like, how far held-out readings are from that, and the threshold that gives no
//! more false alarms than one can bear.
//!
//! Nothing but sums is held of the values: one pass adds up each device's healthy readings, from which every fold's form is merged; one more scores
//! each reading by the form that does not know its device. Where `residual` signals are fitted, by what may teach a part, each part has its own passes.

use std::ops::Range;

use homeward_models::cost::Tally;
use homeward_models::features::{Feature, FeatureSpec, Statistic, regimes};
use homeward_models::form::{Form, Reasons};
use homeward_models::label::Label;
use homeward_models::novelty::Novelty;
use linfa::dataset::DatasetBase;
use linfa::traits::Fit;
use rayon::prelude::*;

use super::{Added, Champion, EXPLAINED, Importance, Learnt, Scored, Watch, Work, model, signatures};
use crate::calibrate::Risks;
use crate::evaluate::{Evaluation, Incumbent, evaluate};
use crate::history::History;
use crate::learners::{Healthy, Moments, NoveltySettings, Unchecked};
use crate::matrix::{Matrix, replay};
use crate::plan::{Part, Plan};
use crate::residual::{self, FAR, is_healthy};
use crate::usage::DataUse;
use crate::{LearnerChoice, Settings, TrainError};

/// The settings with `auto` made `novelty` where fewer than two of several devices have failed: trees have nothing to learn from, and nothing that is so
/// learnt is promoted unless asked. A champion of trees is not put at risk: it knows failures that this archive does not hold.
pub(super) fn settle(matrix: &Matrix, settings: &Settings, champion: Option<&Champion>, watch: &Watch<'_>) -> Settings {
    let failing = (0..matrix.devices.len()).filter(|d| matrix.failing(*d)).count();
    let trees = champion.is_some_and(|c| c.model.form.is_probability());
    if settings.learner != LearnerChoice::Auto || failing >= 2 || matrix.devices.len() < 2 || trees {
        return settings.clone();
    }
    (watch.progress)(&format!("{failing} of {} devices failed, too few for trees to learn from: novelty it is", matrix.devices.len()));
    Settings { learner: LearnerChoice::Novelty, ..settings.clone() }
}

/// Fits, judges and prices.
pub(super) fn learn(work: &Work<'_>, incumbent: Option<&Incumbent>) -> Result<Learnt, TrainError> {
    let (base, plan, settings) = (work.base, work.plan, work.settings);
    let judged = Judged::new(work)?;
    (work.watch.progress)("pricing the policy and what it stands beside");
    let (forms, risks) = (judged.forms, Risks { deciding: judged.risks, calibrations: Vec::new() });
    let past = signatures::shared(work)?;
    let judge = |part| forms.iter().find(|f| f.0 == part).map(|(_, spec, form)| (spec, Reasons::Novelty(form.clone())));
    let naming = |asked: &[(Part, usize)]| signatures::names(work, past.as_ref(), asked, &judge);
    let evaluation = evaluate(base, plan, &risks, settings, &naming, incumbent)?;
    (work.watch.progress)("fitting novelty on all devices");
    // What it learns from are values: no row is coded.
    let own = work.matrix(None, Vec::new)?;
    let matrix = own.as_ref().unwrap_or(base);
    let (novelty, fitted) = Sums::new(work, matrix.spec())?.fit(plan, None)?;
    let form = Form::Novelty(novelty);
    let importance = importance(work, matrix.spec(), &form, &risks.deciding)?;
    let usage = DataUse::new(base, plan, settings, work.history, fitted);
    let tried = vec![("novelty".to_owned(), on_folds(&evaluation).per_hour())];
    let scored = Scored { form, learner: "novelty", calibration: Vec::new() };
    let mut model = model(matrix, scored, &evaluation, settings, work.history)?;
    model.signatures = signatures::of(work, past.as_ref(), matrix.spec(), None)?;
    Ok(Learnt { model, evaluation, usage, tried, importance })
}

/// The policy without the hold-out.
fn on_folds(e: &Evaluation) -> Tally {
    let held_out = e.hold_out.map(|h| h.policy).unwrap_or_default();
    Tally { cost: e.policy.cost - held_out.cost, hours: e.policy.hours - held_out.hours, ..e.policy }
}

/// The columns that are compared: each channel's mean over the middle window. A single reading, or the shortest window, is mostly noise, and the longest tells
/// late; the other statistics of a signal say the same over again, or vary little among healthy readings and much among healthy devices. Where means are
/// switched off, each channel's last value.
fn columns(spec: &FeatureSpec) -> Vec<usize> {
    let middle = spec.fleet().windows.len() / 2;
    let of = |wanted: &dyn Fn(&Feature) -> bool| (0..spec.len()).filter(|f| wanted(&spec.features()[*f])).collect::<Vec<usize>>();
    let means = of(&|f| matches!(f, Feature::Window { window, statistic: Statistic::Mean, .. } if *window == middle));
    if means.is_empty() { of(&|f| matches!(f, Feature::Last { .. })) } else { means }
}

/// Where values come from, shared by threads.
#[derive(Clone, Copy)]
struct Source<'a> {
    history: &'a History,
    base: &'a Matrix,
    spec: &'a FeatureSpec,
}

impl<'a> Source<'a> {
    fn new(work: &Work<'a>, spec: &'a FeatureSpec) -> Self {
        Self { history: work.history, base: work.base, spec }
    }

    /// Every accepted reading of a device: its row of the matrix, its time, its features.
    fn walk(self, device: usize, mut each: impl FnMut(usize, i64, &[f64])) -> Result<(), TrainError> {
        let mut row = self.base.devices[device].rows.start;
        let mut values = vec![f64::NAN; self.spec.len()];
        replay(self.history, &self.history.columns(), &self.history.devices[device], self.spec, |ts, state| {
            state.features(self.spec, &mut values);
            each(row, ts, &values);
            row += 1;
        })
    }
}

/// Moments of each device's healthy readings: those before the hold-out in time, and those from its begin on.
struct Sums {
    devices: Vec<[Moments; 2]>,
    empty: Moments,
}

impl Sums {
    fn new(work: &Work<'_>, spec: &FeatureSpec) -> Result<Self, TrainError> {
        let empty = Moments::new(spec.len(), columns(spec));
        let (source, settings, cut) = (Source::new(work, spec), work.settings, work.plan.cut);
        let of = |device: usize| {
            let mut sums = [empty.clone(), empty.clone()];
            let rows = &source.base.devices[device];
            // From three horizons before a fault or a failure to the repair, whatever the target is.
            let strange: Vec<(Range<usize>, i64)> = rows
                .lives
                .iter()
                .filter_map(|life| {
                    let first = life.fault.into_iter().chain(life.failure).chain(life.found).min()?;
                    Some((rows.rows.start + life.first..rows.rows.start + life.end, first - FAR * settings.horizon()))
                })
                .collect();
            let far = |row: usize, ts: i64| !strange.iter().any(|(rows, from)| rows.contains(&row) && ts >= *from);
            source.walk(device, |row, ts, values| {
                if is_healthy(source.base.label(row), settings) && far(row, ts) {
                    sums[usize::from(cut.is_some_and(|cut| ts >= cut.until))].add(values);
                }
            })?;
            Ok(sums)
        };
        let devices: Result<Vec<_>, TrainError> = (0..work.base.devices.len()).into_par_iter().map(of).collect();
        Ok(Self { devices: devices?, empty })
    }

    /// The form that may judge `part` (`None`: of all devices), and how many readings it is fitted on.
    fn fit(&self, plan: &Plan, part: Option<Part>) -> Result<(Novelty, usize), TrainError> {
        let mut all = self.empty.clone();
        for (device, [before, after]) in self.devices.iter().enumerate() {
            if part.is_none_or(|part| plan.teaches(device, part)) {
                all.merge(before);
            }
            if part.is_none() {
                all.merge(after);
            }
        }
        let fitted = Unchecked::new(NoveltySettings::default()).fit(&DatasetBase::new(Healthy(&all), ()));
        fitted.map(|novelty| (novelty, all.rows())).map_err(TrainError::fit)
    }
}

/// What each row was given by the form of the part that it lies in.
struct Judged {
    /// 0 where nobody judged.
    risks: Vec<f64>,
    /// The form of each part, with its features.
    forms: Vec<(Part, FeatureSpec, Novelty)>,
}

impl Judged {
    fn new(work: &Work<'_>) -> Result<Self, TrainError> {
        let rows = work.base.rows();
        let mut judged = Self { risks: vec![0.0; rows], forms: Vec::new() };
        let shared = regimes(work.fleet).next().is_none().then(|| Sums::new(work, work.base.spec())).transpose()?;
        for part in work.plan.parts() {
            let word = if let Part::Fold(fold) = part { format!("fold {} of {}", fold + 1, work.plan.folds) } else { "hold-out".into() };
            (work.watch.progress)(&format!("{word}: novelty"));
            let spec = residual::spec(work.history, work.fleet, work.base, work.plan, Some(part), work.settings)?;
            let own = shared.is_none().then(|| Sums::new(work, &spec)).transpose()?;
            let sums = shared.as_ref().or(own.as_ref()).ok_or_else(|| TrainError::Fit("no sums".into()))?;
            let (novelty, _) = sums.fit(work.plan, Some(part))?;
            judged.judge(work, &spec, &novelty, work.plan.judged(work.base, part))?;
            judged.forms.push((part, spec, novelty));
        }
        Ok(judged)
    }

    /// Scores the rows of `ranges`, each of one device.
    fn judge(&mut self, work: &Work<'_>, spec: &FeatureSpec, novelty: &Novelty, ranges: Vec<Range<usize>>) -> Result<(), TrainError> {
        let source = Source::new(work, spec);
        let of = |range: Range<usize>| {
            let device = source.base.devices.partition_point(|d| d.rows.end <= range.start);
            let mut found = Vec::with_capacity(range.len());
            source.walk(device, |row, _, values| {
                if range.contains(&row) {
                    found.push(novelty.risk(values));
                }
            })?;
            Ok((range.start, found))
        };
        for (start, found) in ranges.into_par_iter().map(of).collect::<Result<Vec<_>, TrainError>>()? {
            self.risks[start..start + found.len()].copy_from_slice(&found);
        }
        Ok(())
    }
}

/// What positive rows hang on; where there is none, the rows farthest from healthy ones.
fn importance(work: &Work<'_>, spec: &FeatureSpec, form: &Form, risks: &[f64]) -> Result<Importance, TrainError> {
    let rows = explained(work, risks);
    let (mut sums, reasons, mut added) = (Added::new(spec), form.reasons(), vec![0.0; spec.len()]);
    for (device, rows) in rows.chunk_by(|a, b| a.0 == b.0).map(|rows| (rows[0].0, rows)) {
        let mut rows = rows.iter().map(|r| r.1).peekable();
        Source::new(work, spec).walk(device, |row, _, values| {
            if rows.next_if_eq(&row).is_some() {
                reasons.contributions(values, &mut added);
                sums.add(spec, &added);
            }
        })?;
    }
    Ok(sums.share(spec))
}

/// Device and row of those that are explained, ascending.
fn explained(work: &Work<'_>, risks: &[f64]) -> Vec<(usize, usize)> {
    let horizon = work.settings.horizon();
    let mut rows: Vec<usize> = (0..risks.len()).filter(|row| work.base.label(*row).at(horizon) == Label::Positive).collect();
    if rows.is_empty() {
        let mut highest = risks.to_vec();
        let place = EXPLAINED.min(highest.len()).saturating_sub(1);
        let least = *highest.select_nth_unstable_by(place, |a, b| b.total_cmp(a)).1;
        rows = (0..risks.len()).filter(|row| risks[*row] >= least).collect();
    }
    let step = rows.len().div_ceil(EXPLAINED).max(1);
    let device = |row: usize| work.base.devices.partition_point(|d| d.rows.end <= row);
    rows.into_iter().step_by(step).map(|row| (device(row), row)).collect()
}

#[cfg(test)]
mod tests;
