//! What learners learn from: rows of the binned matrix, and what is known of each.

use std::borrow::Cow;

use homeward_models::label::{Label, RowLabel};
use linfa::dataset::Records;
use rayon::prelude::*;

use crate::binned::{Binned, Block, LANES, Layout};

use super::histogram::Group;

/// What is known of a row for one horizon: whether it failed in (h_{k−1}, h_k], given that it did not before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody knows, or it failed before.
    Unknown,
    /// It did not.
    Survived,
    /// It did.
    Failed,
}

/// What is known of every row of a matrix, horizon by horizon, and how much each row weighs.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    outcomes: Vec<Vec<Outcome>>,
    weights: Option<Vec<f32>>,
}

/// What a label says of each horizon in turn, `horizons` ascending in milliseconds; it ends where nothing is known any more.
pub(crate) fn outcomes(label: RowLabel, horizons: &[i64]) -> impl Iterator<Item = Outcome> + '_ {
    let mut failed = false;
    horizons.iter().map_while(move |horizon| match label.at(*horizon) {
        // It is taken to survive the shorter horizons, of which nothing is known.
        Label::Unknown if matches!(label, RowLabel::FailsWithin(_)) => Some(Outcome::Unknown),
        Label::Negative => Some(Outcome::Survived),
        Label::Positive if !failed => {
            failed = true;
            Some(Outcome::Failed)
        }
        Label::Positive | Label::Unknown => None,
    })
}

impl Targets {
    /// One horizon, everything known.
    pub fn binary(failed: impl IntoIterator<Item = bool>) -> Self {
        let of = |failed| if failed { Outcome::Failed } else { Outcome::Survived };
        Self { outcomes: vec![failed.into_iter().map(of).collect()], weights: None }
    }

    /// One list of outcomes a horizon, each as long as the matrix.
    pub fn new(outcomes: Vec<Vec<Outcome>>) -> Self {
        Self { outcomes, weights: None }
    }

    /// From labels, `horizons` ascending in milliseconds: each horizon is censored on its own, and a row that failed is unknown beyond.
    pub fn of_labels(labels: &[RowLabel], horizons: &[i64]) -> Self {
        let mut all = vec![vec![Outcome::Unknown; labels.len()]; horizons.len()];
        for (row, label) in labels.iter().enumerate() {
            all.iter_mut().zip(outcomes(*label, horizons)).for_each(|(of_horizon, outcome)| of_horizon[row] = outcome);
        }
        Self { outcomes: all, weights: None }
    }

    /// Weighs rows, finite and at least 0; without this all weigh 1. Two rows of weight 1 count as one of weight 2.
    pub fn with_weights(self, weights: Vec<f32>) -> Self {
        Self { weights: Some(weights), ..self }
    }

    /// Number of horizons.
    pub fn horizons(&self) -> usize {
        self.outcomes.len()
    }

    /// What is known of `row` for horizon `k`.
    pub fn outcome(&self, row: usize, k: usize) -> Outcome {
        self.outcomes[k][row]
    }

    /// What `row` weighs.
    pub fn weight(&self, row: usize) -> f32 {
        self.weights.as_ref().map_or(1.0, |w| w[row])
    }

    /// What `row` weighs for horizon `k`: nothing if nothing is known.
    pub(crate) fn weight_at(&self, row: usize, k: usize) -> f32 {
        if self.outcome(row, k) == Outcome::Unknown { 0.0 } else { self.weight(row) }
    }

    /// 1 if `row` failed at horizon `k`, else 0.
    pub(crate) fn failed(&self, row: usize, k: usize) -> f32 {
        f32::from(u8::from(self.outcome(row, k) == Outcome::Failed))
    }

    /// Weight of the failed and of all known rows among `rows`, a horizon.
    pub(crate) fn weights_of(&self, rows: &[u32], k: usize) -> (f64, f64) {
        rows.iter().fold((0.0, 0.0), |(failed, known), row| {
            let weight = f64::from(self.weight_at(*row as usize, k));
            (failed + weight * f64::from(self.failed(*row as usize, k)), known + weight)
        })
    }

    /// The rate at horizon `k` over `rows`, drawn inside (0, 1) by half a row on either side; next to nothing where nothing is known, so that a horizon
    /// of which nobody knows anything adds no risk to those before it.
    pub(crate) fn rate(&self, rows: &[u32], k: usize) -> f64 {
        let (failed, known) = self.weights_of(rows, k);
        if known > 0.0 { (failed + 0.5) / (known + 1.0) } else { 1e-9 }
    }
}

/// The rows that a learner is fitted on, and those that tell it when to stop.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The matrix.
    pub binned: &'a Binned,
    /// Rows to fit on, ascending.
    pub rows: &'a [u32],
    /// Rows that early stopping watches; none if empty.
    pub valid: &'a [u32],
}

impl<'a> Sample<'a> {
    /// Rows to fit on, without early stopping.
    pub fn new(binned: &'a Binned, rows: &'a [u32]) -> Self {
        Self { binned, rows, valid: &[] }
    }
}

impl Records for Sample<'_> {
    type Elem = u8;

    fn nsamples(&self) -> usize {
        self.rows.len()
    }

    fn nfeatures(&self) -> usize {
        self.binned.features()
    }
}

/// Codes of some rows and features, dense: row i is the i-th of the rows taken.
pub(crate) struct Codes<'a> {
    pub(crate) rows: usize,
    /// The matrix's number of each feature here.
    pub(crate) features: Vec<u32>,
    /// Greatest code of each feature.
    pub(crate) last: Vec<u8>,
    pub(crate) layout: Layout,
    /// For histograms: group by group, row after row.
    pub(crate) groups: Vec<Cow<'a, [Block]>>,
    /// For walking and dividing: feature by feature.
    pub(crate) columns: Vec<Cow<'a, [u8]>>,
}

impl<'a> Codes<'a> {
    /// All features of `rows`; the groups are not copied if those are all rows.
    pub(crate) fn take(binned: &'a Binned, rows: &[u32]) -> Self {
        let whole = rows.len() == binned.rows() && rows.iter().enumerate().all(|(i, row)| i == *row as usize);
        let layout = binned.layout().clone();
        let group = |(group, (_, width)): (&'a Vec<Block>, &(usize, usize))| {
            let line = |row: &u32| &group[*row as usize * width..][..*width];
            if whole { Cow::Borrowed(group.as_slice()) } else { Cow::Owned(rows.iter().flat_map(line).copied().collect()) }
        };
        let groups: Vec<Cow<'a, [Block]>> = binned.groups().par_iter().zip(&layout.groups).map(group).collect();
        let columns = columns_of(&groups, &layout, rows.len(), binned.features());
        Self {
            rows: rows.len(),
            features: (0..binned.features() as u32).collect(),
            last: (0..binned.features()).map(|f| binned.bins().last_code(f)).collect(),
            layout,
            groups,
            columns,
        }
    }

    /// Some of the features, by their number here.
    pub(crate) fn select(&self, features: &[usize]) -> Codes<'_> {
        self.select_with(features, features.iter().map(|f| Cow::Borrowed(&*self.columns[*f])).collect())
    }

    /// Only some of the features.
    pub(crate) fn only(mut self, features: &[usize]) -> Self {
        if features.len() == self.features.len() {
            return self;
        }
        let kept = features.iter().map(|f| std::mem::take(&mut self.columns[*f])).collect();
        self.select_with(features, kept)
    }

    fn select_with<'b>(&self, features: &[usize], columns: Vec<Cow<'b, [u8]>>) -> Codes<'b> {
        let layout = Layout::new(features.len());
        let group = |(first, width): &(usize, usize)| {
            let mut group = vec![[0; LANES]; self.rows * width];
            for (i, column) in columns.iter().skip(first * LANES).take(width * LANES).enumerate() {
                let (block, lane) = (i / LANES, i % LANES);
                group.iter_mut().skip(block).step_by(*width).zip(column.iter()).for_each(|(to, code)| to[lane] = *code);
            }
            Cow::Owned(group)
        };
        Codes {
            rows: self.rows,
            features: features.iter().map(|f| self.features[*f]).collect(),
            last: features.iter().map(|f| self.last[*f]).collect(),
            groups: layout.groups.par_iter().map(group).collect(),
            layout,
            columns,
        }
    }

    /// Features with more than one code among the rows; the others cannot split anything.
    pub(crate) fn varying(&self) -> Vec<usize> {
        let varies = |column: &Cow<'_, [u8]>| column.iter().any(|code| *code != column[0]);
        let varies: Vec<bool> = self.columns.par_iter().map(varies).collect();
        (0..self.features.len()).filter(|f| varies[*f]).collect()
    }

    /// A group for counting.
    pub(crate) fn group(&self, group: usize) -> Group<'_> {
        let (first, width) = self.layout.groups[group];
        Group { codes: &self.groups[group], width, features: (self.features.len() - first * LANES).min(width * LANES) }
    }

    #[inline]
    pub(crate) fn code(&self, row: usize, feature: usize) -> u8 {
        self.columns[feature][row]
    }
}

/// Codes feature by feature.
fn columns_of<'a>(groups: &[Cow<'_, [Block]>], layout: &Layout, rows: usize, features: usize) -> Vec<Cow<'a, [u8]>> {
    let blocks = groups.par_iter().zip(&layout.groups).flat_map(|(group, (first, width))| {
        (0..*width).into_par_iter().map(move |block| {
            let mut columns = vec![vec![0; rows]; (features - (first + block) * LANES).min(LANES)];
            for (i, codes) in group.iter().skip(block).step_by(*width).enumerate() {
                columns.iter_mut().zip(codes).for_each(|(column, code)| column[i] = *code);
            }
            columns
        })
    });
    blocks.collect::<Vec<_>>().into_iter().flatten().map(Cow::Owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_horizon_is_censored_on_its_own() {
        let labels = [
            RowLabel::Fails(5),
            RowLabel::Fails(15),
            RowLabel::Survives(12),
            RowLabel::LeftOut,
            RowLabel::Fails(99),
            RowLabel::FailsWithin(20),
        ];
        let targets = Targets::of_labels(&labels, &[10, 20]);
        let of = |row| (targets.outcome(row, 0), targets.outcome(row, 1));
        use Outcome::{Failed, Survived, Unknown};
        assert_eq!(of(0), (Failed, Unknown), "failed before: not at risk beyond");
        assert_eq!(of(1), (Survived, Failed));
        assert_eq!(of(2), (Survived, Unknown), "known for the first horizon only");
        assert_eq!(of(3), (Unknown, Unknown));
        assert_eq!(of(4), (Survived, Survived));
        assert_eq!(of(5), (Unknown, Failed), "how soon is not known");
    }

    #[test]
    fn constant_columns_are_left_out() {
        let values: Vec<f64> = (0..10).flat_map(|i| [1.0, f64::from(i), if i == 3 { f64::NAN } else { 7.0 }]).collect();
        let binned = Binned::from_rows(&values, 3, 255);
        let rows: Vec<u32> = (0..10).collect();
        let codes = Codes::take(&binned, &rows);
        assert_eq!(codes.varying(), [1, 2], "missing or not is a difference");
        let fewer = Codes::take(&binned, &rows[..3]);
        assert_eq!(fewer.varying(), [1]);
        assert_eq!(codes.select(&[2]).code(3, 0), 0);
    }
}
