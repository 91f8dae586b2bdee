//! Signatures: how past failures looked beside healthy readings, for [`homeward_models::naming`].
//!
//! One pass of the kernel takes some healthy readings and each failure's last horizon; what may judge a part, and the model in service, are made of what
//! their devices gave. All sums are in the order of devices and rows: the same bits on any number of threads.

use std::collections::BTreeMap;

use homeward_models::cost::End;
use homeward_models::features::{Feature, FeatureSpec, Statistic, regimes};
use homeward_models::form::Reasons;
use homeward_models::naming::{self, Exchange, Signatures, WrittenSignature, WrittenSignatures, exchanges};
use rayon::prelude::*;

use super::Work;
use crate::TrainError;
use crate::matrix::{Matrix, some};
use crate::plan::{Part, end_of};
use crate::residual::is_healthy;

/// Healthy readings that correlations are taken from at most.
const HEALTHY: usize = 20_000;
/// … and at least, as with `novelty`.
const FEWEST: usize = 30;
/// Columns at most: correlations grow with their square.
const COLUMNS: usize = 256;
/// Past failures kept of one component at most, spread evenly.
const KEPT: usize = 64;
/// How far correlations are drawn towards none: what healthy readings hardly ever do must not count without measure.
const SHRINK: f64 = 0.01;

/// What devices gave.
pub(super) struct Past<'a> {
    work: &'a Work<'a>,
    spec: &'a FeatureSpec,
    columns: Vec<usize>,
    exchanges: Vec<Exchange>,
    devices: Vec<Device>,
}

/// Healthy readings with their times, and failures.
#[derive(Default)]
struct Device {
    times: Vec<i64>,
    /// A row of columns a time.
    healthy: Vec<f64>,
    failures: Vec<Failure>,
}

/// The last horizon before a failure (of a fault, the first after it).
struct Failure {
    ts: i64,
    component: String,
    rows: usize,
    /// Known values of each column, and their sum.
    sums: Vec<(usize, f64)>,
}

impl<'a> Past<'a> {
    /// Walks the history under `spec`. `None` if nobody said what failed, or if there are too many columns to compare.
    pub(super) fn new(work: &'a Work<'a>, spec: &'a FeatureSpec) -> Result<Option<Self>, TrainError> {
        let columns = columns(spec);
        let said = work.base.devices.iter().any(|d| d.components.iter().any(|(_, component)| component.is_some()));
        if columns.is_empty() || columns.len() > COLUMNS || !said {
            return Ok(None);
        }
        let rows = 0..work.base.rows();
        let step = rows.filter(|row| is_healthy(work.base.label(*row), work.settings)).count().div_ceil(HEALTHY).max(1);
        let source = Source { history: work.history, base: work.base, settings: work.settings, spec, columns: &columns, step };
        let devices: Result<Vec<Device>, TrainError> = (0..work.base.devices.len()).into_par_iter().map(|d| source.device(d)).collect();
        Ok(Some(Self { work, spec, exchanges: exchanges(spec, &columns), devices: devices?, columns }))
    }

    /// The signatures that may name in `part` (`None`: of all devices); `None` if there is no failure to learn from.
    pub(super) fn signatures(&self, part: Option<Part>) -> Result<Option<Signatures>, TrainError> {
        let plan = self.work.plan;
        let teaches = |(d, _): &(usize, &Device)| part.is_none_or(|part| plan.teaches(*d, part));
        let until = part.and(plan.cut).map_or(i64::MAX, |cut| cut.until);
        let devices: Vec<&Device> = self.devices.iter().enumerate().filter(teaches).map(|(_, device)| device).collect();
        let rows: Vec<&[f64]> = devices.iter().flat_map(|device| device.healthy_until(until, self.columns.len())).collect();
        let failures: Vec<&Failure> = devices.iter().flat_map(|device| &device.failures).filter(|f| f.ts < until).collect();
        if failures.is_empty() || rows.len() < FEWEST {
            return Ok(None);
        }
        let scale = Scale::new(&rows, self.columns.len());
        let Some(lower) = cholesky(correlations(&rows, &scale, &self.exchanges), self.columns.len()) else { return Ok(None) };
        let signature = |f: &&Failure| {
            let direction = scale.direction(f);
            let tells = direction.iter().all(|x| x.is_finite()) && direction.iter().any(|x| *x != 0.0);
            tells.then(|| WrittenSignature { component: f.component.clone(), direction })
        };
        let past = spread(failures.iter().filter_map(signature).collect());
        let columns = self.columns.iter().map(|c| *c as u32).collect();
        let written = WrittenSignatures { columns, mean: scale.mean, inverse: scale.inverse, lower, past };
        let signatures = Signatures::check(written, self.spec).map_err(|e| TrainError::Fit(e.to_string()))?;
        Ok(Some(signatures).filter(|s| !s.written().past.is_empty()))
    }
}

/// The signatures that may name in `part`, of rows under `spec`: from what is `shared`, or where residuals were fitted for the part from a pass of its own.
pub(super) fn of(
    work: &Work<'_>,
    shared: Option<&Past<'_>>,
    spec: &FeatureSpec,
    part: Option<Part>,
) -> Result<Option<Signatures>, TrainError> {
    if regimes(work.fleet).next().is_none() {
        return Ok(shared.map(|past| past.signatures(part)).transpose()?.flatten());
    }
    Ok(Past::new(work, spec)?.map(|past| past.signatures(part)).transpose()?.flatten())
}

/// What all parts share, if no residuals are fitted for each of them.
pub(super) fn shared<'a>(work: &'a Work<'a>) -> Result<Option<Past<'a>>, TrainError> {
    if regimes(work.fleet).next().is_some() { Ok(None) } else { Past::new(work, work.base.spec()) }
}

/// Names the components behind the risks of rows as predict does, by what may judge their part: `judge` gives its features and its reasons.
pub(super) fn names<'s>(
    work: &Work<'_>,
    shared: Option<&Past<'_>>,
    asked: &[(Part, usize)],
    judge: &dyn Fn(Part) -> Option<(&'s FeatureSpec, Reasons)>,
) -> Result<Vec<Option<String>>, TrainError> {
    let mut names = vec![None; asked.len()];
    for part in work.plan.parts() {
        // Place in `asked` and row, in order of rows.
        let mut own: Vec<(usize, usize)> = asked.iter().enumerate().filter(|(_, a)| a.0 == part).map(|(place, a)| (place, a.1)).collect();
        own.sort_unstable_by_key(|(_, row)| *row);
        let Some((spec, reasons)) = judge(part).filter(|_| !own.is_empty()) else { continue };
        let signatures = of(work, shared, spec, Some(part))?;
        let device = |row: usize| work.base.devices.partition_point(|d| d.rows.end <= row);
        let (history, devices) = (work.history, &work.base.devices);
        let named = |rows: &[(usize, usize)]| {
            let (d, mut places) = (device(rows[0].1), rows.iter().map(|(place, _)| *place));
            let (mut values, mut found) = (vec![0.0; spec.len()], Vec::with_capacity(rows.len()));
            let mut wanted = rows.iter().map(|(_, row)| *row);
            some(history, &history.devices[d], spec, devices[d].rows.start, &mut wanted, |state| {
                state.features(spec, &mut values);
                let name = naming::component(spec, signatures.as_ref(), &values, |added| reasons.contributions(&values, added));
                found.extend(places.next().map(|place| (place, name.map(String::from))));
            })?;
            Ok(found)
        };
        let by_device: Vec<&[(usize, usize)]> = own.chunk_by(|a, b| device(a.1) == device(b.1)).collect();
        let found: Result<Vec<Vec<_>>, TrainError> = by_device.into_par_iter().map(named).collect();
        found?.into_iter().flatten().for_each(|(place, name)| names[place] = name);
    }
    Ok(names)
}

/// The columns that are compared: mean and standard deviation of each channel over the middle window. A bearing shows in the one, a speed controller in the other.
fn columns(spec: &FeatureSpec) -> Vec<usize> {
    let middle = spec.fleet().windows.len() / 2;
    let of = |wanted: &dyn Fn(&Feature) -> bool| (0..spec.len()).filter(|f| wanted(&spec.features()[*f])).collect::<Vec<usize>>();
    let compared =
        |f: &Feature| matches!(f, Feature::Window { window, statistic: Statistic::Mean | Statistic::Std, .. } if *window == middle);
    let columns = of(&compared);
    if columns.is_empty() { of(&|f| matches!(f, Feature::Last { .. })) } else { columns }
}

/// Where values come from, shared by threads.
#[derive(Clone, Copy)]
struct Source<'a> {
    history: &'a crate::history::History,
    base: &'a Matrix,
    settings: &'a crate::Settings,
    spec: &'a FeatureSpec,
    columns: &'a [usize],
    step: usize,
}

impl Source<'_> {
    fn device(self, d: usize) -> Result<Device, TrainError> {
        let (rows, horizon) = (&self.base.devices[d], self.settings.horizon());
        let mut found = Device::default();
        // Which failure a row comes before; none for a healthy one.
        let mut wanted: Vec<(usize, Option<usize>)> = Vec::new();
        for life in &rows.lives {
            let (from, until) = match end_of(life, self.settings.target) {
                End::Failed(at) | End::Found(at) => (at - horizon, at),
                End::Faulty { since, failure } => (since, failure.unwrap_or(i64::MAX).min(since + horizon)),
                End::Well => continue,
            };
            let Some(ts) = end_of(life, self.settings.target).ts() else { continue };
            let Some(component) = rows.component(ts).map(String::from) else { continue };
            let near = |row: &usize| self.base.times[*row] >= from && self.base.times[*row] <= until;
            let before = (rows.rows.start + life.first..rows.rows.start + life.end).filter(near);
            wanted.extend(before.map(|row| (row, Some(found.failures.len()))));
            found.failures.push(Failure { ts, component, rows: 0, sums: vec![(0, 0.0); self.columns.len()] });
        }
        let healthy = rows.rows.clone().filter(|row| is_healthy(self.base.label(*row), self.settings));
        wanted.extend(healthy.step_by(self.step).map(|row| (row, None)));
        wanted.sort_unstable_by_key(|(row, _)| *row);
        let (mut values, mut next) = (vec![0.0; self.spec.len()], 0);
        let mut asked = wanted.iter().map(|(row, _)| *row);
        some(self.history, &self.history.devices[d], self.spec, rows.rows.start, &mut asked, |state| {
            state.features(self.spec, &mut values);
            let compared = self.columns.iter().map(|c| values[*c]);
            match wanted[next] {
                (_, Some(failure)) => found.failures[failure].add(compared),
                (row, None) => {
                    found.times.push(self.base.times[row]);
                    found.healthy.extend(compared);
                }
            }
            next += 1;
        })?;
        found.failures.retain(|f| f.rows > 0);
        Ok(found)
    }
}

impl Device {
    fn healthy_until(&self, until: i64, columns: usize) -> impl Iterator<Item = &[f64]> {
        let rows = self.times.iter().zip(self.healthy.chunks_exact(columns));
        rows.take_while(move |(ts, _)| **ts < until).map(|(_, row)| row)
    }
}

impl Failure {
    fn add(&mut self, row: impl Iterator<Item = f64>) {
        self.rows += 1;
        for ((known, sum), value) in self.sums.iter_mut().zip(row).filter(|(_, value)| value.is_finite()) {
            *known += 1;
            *sum += value;
        }
    }
}

/// Mean of each column over healthy rows, and one over its standard deviation, 0 where it never varied.
struct Scale {
    mean: Vec<f64>,
    inverse: Vec<f64>,
}

impl Scale {
    fn new(rows: &[&[f64]], columns: usize) -> Self {
        let known = |column: usize| rows.iter().map(move |row| row[column]).filter(|x| x.is_finite());
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            let (sum, n) = values.fold((0.0, 0u32), |(sum, n), x| (sum + x, n + 1));
            if n == 0 { 0.0 } else { sum / f64::from(n) }
        };
        let mut scale = Self { mean: Vec::with_capacity(columns), inverse: Vec::with_capacity(columns) };
        for column in 0..columns {
            let centre = mean(&mut known(column));
            let inverse = 1.0 / mean(&mut known(column).map(|x| (x - centre) * (x - centre))).sqrt();
            scale.mean.push(centre);
            scale.inverse.push(if inverse.is_finite() { inverse } else { 0.0 });
        }
        scale
    }

    /// A healthy row in standard deviations; what is missing is as healthy as can be.
    fn standard(&self, row: &[f64], out: &mut [f64]) {
        for (((out, x), mean), inverse) in out.iter_mut().zip(row).zip(&self.mean).zip(&self.inverse) {
            *out = if x.is_finite() { (x - mean) * inverse } else { 0.0 };
        }
    }

    /// The mean over a failure's rows in standard deviations.
    fn direction(&self, failure: &Failure) -> Vec<f64> {
        let columns = failure.sums.iter().zip(self.mean.iter().zip(&self.inverse));
        columns.map(|((known, sum), (mean, inverse))| (sum - *known as f64 * mean) * inverse / failure.rows as f64).collect()
    }
}

/// Correlations of healthy rows, drawn a little towards none. Entries that change places when siblings do are made equal: of healthy siblings what is seen of one is true of all,
/// and a signature that stands in for a sibling is compared as its own is.
fn correlations(rows: &[&[f64]], scale: &Scale, exchanges: &[Exchange]) -> Vec<f64> {
    let n = scale.mean.len();
    let (mut sums, mut z) = (vec![0.0; n * n], vec![0.0; n]);
    for row in rows {
        scale.standard(row, &mut z);
        for (i, a) in z.iter().enumerate() {
            sums[i * n..=i * n + i].iter_mut().zip(&z).for_each(|(sum, b)| *sum += a * b);
        }
    }
    let mut all = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            (all[i * n + j], all[j * n + i]) = (sums[i * n + j], sums[i * n + j]);
        }
    }
    let orbits = orbits(n, exchanges);
    let mut means = vec![(0.0, 0u32); n * n];
    for (value, orbit) in all.iter().zip(&orbits) {
        means[*orbit] = (means[*orbit].0 + value, means[*orbit].1 + 1);
    }
    let entry = |(at, orbit): (usize, &usize)| {
        let (sum, entries) = means[*orbit];
        let same = at / n == at % n;
        (1.0 - SHRINK) * (sum / f64::from(entries) / rows.len() as f64) + if same { SHRINK } else { 0.0 }
    };
    orbits.iter().enumerate().map(entry).collect()
}

/// Of each entry of an n × n matrix, the first of all those that it can change places with.
fn orbits(n: usize, exchanges: &[Exchange]) -> Vec<usize> {
    let mut first: Vec<usize> = (0..n * n).collect();
    fn root(first: &mut [usize], mut at: usize) -> usize {
        while first[at] != at {
            first[at] = first[first[at]];
            at = first[at];
        }
        at
    }
    for exchange in exchanges {
        for at in 0..n * n {
            let comes = exchange.columns[at / n] * n + exchange.columns[at % n];
            let (a, b) = (root(&mut first, at), root(&mut first, comes));
            first[a.max(b)] = a.min(b);
        }
    }
    (0..n * n).map(|at| root(&mut first, at)).collect()
}

/// The lower triangle L of L·Lᵀ, row by row; `None` if there is none (numbers that overflow).
fn cholesky(matrix: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    let mut lower: Vec<f64> = Vec::with_capacity(n * (n + 1) / 2);
    let row = |i: usize| i * (i + 1) / 2;
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| lower[row(i) + k] * lower[row(j) + k]).sum();
            let rest = matrix[i * n + j] - known;
            lower.push(if i == j { rest.sqrt() } else { rest / lower[row(j) + j] });
        }
        lower.last().filter(|x| **x > 0.0)?;
    }
    lower.iter().all(|x| x.is_finite()).then_some(lower)
}

/// At most [`KEPT`] of each component, spread evenly over its failures.
fn spread(past: Vec<WrittenSignature>) -> Vec<WrittenSignature> {
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    past.iter().for_each(|p| *all.entry(p.component.clone()).or_default() += 1);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut kept = |p: &WrittenSignature| {
        let place = seen.entry(p.component.clone()).or_default();
        *place += 1;
        (*place - 1).is_multiple_of(all[&p.component].div_ceil(KEPT))
    };
    past.into_iter().filter(|p| kept(p)).collect()
}

#[cfg(test)]
mod tests;
