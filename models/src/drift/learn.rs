//! What training says of drift: its distributions, and how far its own days lie apart.

use std::collections::BTreeMap;

use super::{BINS, DAY_MS, Quantity, Reference, count, psi};

/// The share of training days that a limit lets pass.
const QUANTILE: f64 = 0.99;
/// Fewer days than this say nothing of how days differ.
const MIN_DAYS: usize = 3;

/// Learns a [`Reference`] from training rows: bins from a sample, then all rows (or those that [`super::is_counted`] picks) with their times
/// and risks.
#[derive(Debug, Clone)]
pub struct Learner {
    reference: Reference,
    /// Cells and rows of each day.
    days: BTreeMap<i64, (Vec<u64>, u64)>,
}

impl Learner {
    /// Places the bins by a sample of rows, `features` values each (NaN is missing), and of risks.
    pub fn new(features: usize, sample: &[Vec<f64>], risks: &[f64]) -> Self {
        let quantity = |values: Vec<f64>| {
            let edges = edges(values);
            Quantity { counts: vec![0; edges.len() + 1], edges, missing: 0, psi_limit: None, missing_limit: None }
        };
        let features = (0..features).map(|f| quantity(sample.iter().map(|row| row[f]).collect())).collect();
        let risk = quantity(risks.to_vec());
        Self { reference: Reference { features, risk, features_limit: 0, min_rows: 0 }, days: BTreeMap::new() }
    }

    /// Adds a row of `ts` (milliseconds since 1970 UTC) with the risk that the model gives it at the last horizon.
    pub fn add(&mut self, ts: i64, row: &[f64], risk: f64) {
        let size = self.reference.quantities().map(Quantity::cells).sum();
        let (cells, rows) = self.days.entry(ts.div_euclid(DAY_MS)).or_insert_with(|| (vec![0; size], 0));
        *rows += 1;
        count(&self.reference, cells, row, risk);
    }

    /// The reference. Days with less than a quarter of the rows of the median day neither set limits nor will be judged.
    pub fn finish(self) -> Reference {
        let Self { mut reference, days } = self;
        let mut sizes: Vec<u64> = days.values().map(|d| d.1).collect();
        sizes.sort_unstable();
        reference.min_rows = sizes.get(sizes.len() / 2).map_or(0, |median| median.div_ceil(4));
        let whole: Vec<&[u64]> = days.values().filter(|d| d.1 >= reference.min_rows).map(|d| d.0.as_slice()).collect();
        let mut at = 0;
        let mut apart = Vec::new();
        for quantity in reference.features.iter_mut().chain([&mut reference.risk]) {
            let range = at..at + quantity.cells();
            at = range.end;
            let own: Vec<&[u64]> = whole.iter().map(|day| &day[range.clone()]).collect();
            apart.push(set(quantity, days.values().map(|d| &d.0[range.clone()]), &own));
        }
        apart.pop();
        reference.features_limit = limit_of_features(&apart, whole.len());
        reference
    }
}

/// How far each day lies from the others.
struct Apart {
    psi: Vec<f64>,
    missing: Vec<f64>,
}

/// Sets a quantity's counts to those of all days, and its limits to how far the `whole` days lie apart.
fn set<'a>(quantity: &mut Quantity, all: impl Iterator<Item = &'a [u64]>, whole: &[&[u64]]) -> Apart {
    let bins = quantity.counts.len();
    for day in all {
        quantity.counts.iter_mut().zip(day).for_each(|(sum, n)| *sum += n);
        quantity.missing += day[bins];
    }
    let total: Vec<u64> = (0..=bins).map(|cell| whole.iter().map(|day| day[cell]).sum()).collect();
    let others = |day: &[u64]| total.iter().zip(day).map(|(all, own)| all - own).collect::<Vec<u64>>();
    let share = |cells: &[u64]| cells[bins] as f64 / cells.iter().sum::<u64>().max(1) as f64;
    let apart = Apart {
        psi: whole.iter().map(|day| psi(&others(day)[..bins], &day[..bins])).collect(),
        missing: whole.iter().map(|day| (share(&others(day)) - share(day)).abs()).collect(),
    };
    if whole.len() >= MIN_DAYS {
        quantity.psi_limit = Some(quantile(apart.psi.iter().copied()));
        quantity.missing_limit = Some(quantile(apart.missing.iter().copied()));
    }
    apart
}

/// How many features lie beyond the limits that the other days set, on a bad day of training.
fn limit_of_features(apart: &[Apart], days: usize) -> usize {
    if days < MIN_DAYS {
        return 0;
    }
    let beyond = |values: &[f64], day: usize| {
        let others = values.iter().enumerate().filter(|(d, _)| *d != day).map(|(_, v)| *v);
        values[day] > quantile(others)
    };
    let on = |day: usize| apart.iter().filter(|a| beyond(&a.psi, day) || beyond(&a.missing, day)).count() as f64;
    quantile((0..days).map(on)) as usize
}

/// The value that the given share of `values` does not exceed.
fn quantile(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = (QUANTILE * values.len() as f64).ceil() as usize;
    values.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

/// Edges at the quantiles of the values present. A value that fills a bin gets one of its own, so that a move to either side is seen.
fn edges(mut values: Vec<f64>) -> Vec<f64> {
    values.retain(|v| v.is_finite());
    values.sort_unstable_by(f64::total_cmp);
    let at = |bin: usize| values.get(bin * values.len() / BINS).copied();
    let mut edges: Vec<f64> = Vec::new();
    for value in (0..BINS).filter_map(at) {
        match edges.last().copied() {
            Some(last) if last == value => {
                // The last edge again: its value fills a bin.
                let below = value.next_down();
                if edges.len() < 2 || edges[edges.len() - 2] < below {
                    edges.insert(edges.len() - 1, below);
                }
            }
            Some(last) if value < last => (),
            _ => edges.push(value),
        }
    }
    edges.retain(|e| e.is_finite());
    edges
}
