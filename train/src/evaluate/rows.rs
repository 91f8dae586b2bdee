//! How well risks rank and how true they are, row by row.

/// Row metrics at the deciding horizon.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RowMetrics {
    /// Rows with a known label.
    pub(crate) rows: usize,
    /// The positive ones of them.
    pub(crate) positives: usize,
    /// Mean of the precision at each positive.
    pub(crate) average_precision: f64,
    /// Share of pairs ranked rightly, ties half.
    pub(crate) auc: f64,
    /// Mean squared error of the risk.
    pub(crate) brier: f64,
    /// 1 − Brier score over that of the constant prevalence: 0 is no better than knowing how many, 1 is knowing which.
    pub(crate) brier_skill: f64,
    /// Slope of the logistic regression of the label on the risk's log-odds, over rows whose odds are within a factor of eight of the
    /// threshold's: 1 is true, less is overconfident. NaN where the rows there are of one kind.
    pub(crate) slope: f64,
}

/// A row's risk and whether it failed within the horizon.
pub(crate) type Known = (f64, bool);

/// Rows within this of the threshold's log-odds are near it.
const NEAR: f64 = 2.079_441_541_679_835_7;

impl RowMetrics {
    pub(crate) fn new(known: &mut [Known], threshold: f64) -> Self {
        let (average_precision, auc) = ranking(known);
        let positives = known.iter().filter(|k| k.1).count();
        let share = positives as f64 / known.len() as f64;
        let squared = |risk: f64, failed: bool| (risk - f64::from(u8::from(failed))).powi(2);
        let brier = known.iter().map(|k| squared(k.0, k.1)).sum::<f64>() / known.len() as f64;
        let near = |risk: f64| threshold > 1.0 || (log_odds(risk) - log_odds(threshold)).abs() <= NEAR;
        let slope = slope(known.iter().copied().filter(|k| near(k.0)));
        Self { rows: known.len(), positives, average_precision, auc, brier, brier_skill: 1.0 - brier / (share * (1.0 - share)), slope }
    }
}

/// Average precision and area under the ROC curve. Sorts the rows, highest risk first.
pub(crate) fn ranking(rows: &mut [Known]) -> (f64, f64) {
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let positives = rows.iter().filter(|r| r.1).count() as f64;
    let negatives = rows.len() as f64 - positives;
    let (mut tp, mut fp, mut ap, mut pairs) = (0.0, 0.0, 0.0, 0.0);
    for tie in rows.chunk_by(|a, b| a.0 == b.0) {
        let hits = tie.iter().filter(|r| r.1).count() as f64;
        let misses = tie.len() as f64 - hits;
        pairs += misses * (tp + hits / 2.0);
        tp += hits;
        fp += misses;
        ap += hits * tp / (tp + fp);
    }
    (ap / positives, pairs / (positives * negatives))
}

/// Recall and precision at every distinct risk of sorted rows, thinned to about `points`.
pub(crate) fn precision_recall(sorted: &[Known], points: usize) -> Vec<(f64, f64)> {
    let positives = sorted.iter().filter(|r| r.1).count() as f64;
    let (mut tp, mut seen, mut last) = (0.0, 0.0, 0.0);
    let mut curve = Vec::new();
    for tie in sorted.chunk_by(|a, b| a.0 == b.0) {
        tp += tie.iter().filter(|r| r.1).count() as f64;
        seen += tie.len() as f64;
        let recall = tp / positives;
        if recall - last >= 1.0 / points as f64 || seen == sorted.len() as f64 || curve.is_empty() {
            curve.push((recall, tp / seen));
            last = recall;
        }
    }
    curve
}

/// Mean risk, share that failed and number of rows in `bins` stretches of about as many rows each that differ in risk; sorted rows.
pub(crate) fn reliability(sorted: &[Known], bins: usize) -> Vec<(f64, f64, usize)> {
    let mut points: Vec<(f64, f64, usize)> = Vec::new();
    // Equal counts would put all of the rare high risks into one bin: half by rank on a logarithmic scale.
    let n = sorted.len() as f64;
    let mut ends: Vec<usize> = (1..=bins).map(|i| n.powf(i as f64 / bins as f64).ceil() as usize).collect();
    ends.dedup();
    let mut start = 0;
    for end in ends {
        let end = end.min(sorted.len());
        if end < start + 20 && end < sorted.len() || start == end {
            continue;
        }
        let bin = &sorted[start..end];
        let count = bin.len() as f64;
        points.push((bin.iter().map(|k| k.0).sum::<f64>() / count, bin.iter().filter(|k| k.1).count() as f64 / count, bin.len()));
        start = end;
    }
    points
}

pub(crate) fn log_odds(risk: f64) -> f64 {
    let risk = risk.clamp(1e-6, 1.0 - 1e-6);
    (risk / (1.0 - risk)).ln()
}

/// Slope b of P(failed) = σ(a + b · log-odds), by Newton's method; NaN if it does not settle.
fn slope(rows: impl Iterator<Item = Known> + Clone) -> f64 {
    let (mut a, mut b) = (0.0f64, 1.0f64);
    for _ in 0..50 {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (risk, failed) in rows.clone() {
            let x = log_odds(risk);
            let p = 1.0 / (1.0 + (-(a + b * x)).exp());
            let (error, weight) = (f64::from(u8::from(failed)) - p, p * (1.0 - p));
            ga += error;
            gb += error * x;
            haa += weight;
            hab += weight * x;
            hbb += weight * x * x;
        }
        let det = haa * hbb - hab * hab;
        if det.is_nan() || det <= 1e-12 * haa * hbb {
            return f64::NAN;
        }
        let (da, db) = ((hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det);
        // Newton far from the optimum may overshoot.
        let damp = (4.0 / (da.abs() + db.abs())).min(1.0);
        a += damp * da;
        b += damp * db;
        if da.abs() + db.abs() < 1e-9 {
            return b;
        }
    }
    f64::NAN
}

/// The exact (Clopper–Pearson, 1934) 95 % interval for a probability of which `k` of `n` trials came true.
pub(crate) fn exact_interval(k: u32, n: u32) -> (f64, f64) {
    // P(X ≥ k) grows with p and P(X ≤ k) falls: each bound by bisection on its tail of 2.5 %.
    let bound = |above: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if above(middle) { high = middle } else { low = middle }
        }
        (low + high) / 2.0
    };
    let at_most = |k: u32, p: f64| (0..=k).map(|i| binomial(i, n, p)).sum::<f64>();
    let low = if k == 0 { 0.0 } else { bound(&|p| 1.0 - at_most(k - 1, p) > 0.025) };
    let high = if k >= n { 1.0 } else { bound(&|p| at_most(k, p) < 0.025) };
    (low, high)
}

/// P(X = k) of n trials.
fn binomial(k: u32, n: u32, p: f64) -> f64 {
    let ways: f64 = (0..k).map(|i| f64::from(n - i) / f64::from(i + 1)).product();
    ways * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_core::{Rng, SeedableRng};

    #[test]
    fn ranking_agrees_with_hand_counts() {
        let (ap, auc) = ranking(&mut [(0.9, true), (0.8, false), (0.7, true), (0.1, false)]);
        assert!((ap - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        assert!((auc - 0.75).abs() < 1e-12);
        assert_eq!(ranking(&mut [(0.5, true), (0.5, false)]), (0.5, 0.5));
    }

    #[test]
    fn the_exact_interval_agrees_with_published_values() {
        // R: binom.test(5, 5), binom.test(3, 7), binom.test(0, 4).
        for (k, n, low, high) in [(5, 5, 0.4782, 1.0), (3, 7, 0.0990, 0.8159), (0, 4, 0.0, 0.6024)] {
            let found = exact_interval(k, n);
            assert!((found.0 - low).abs() < 1e-4 && (found.1 - high).abs() < 1e-4, "{k} of {n}: {found:?}");
        }
    }

    /// Rows whose labels come true as often as their log-odds times `slope` say.
    fn drawn(slope: f64) -> Vec<Known> {
        let mut chance = rand_pcg::Pcg64Mcg::seed_from_u64(7);
        let mut unit = move || (chance.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let risks: Vec<f64> = (0..40_000).map(|_| unit()).collect();
        risks.into_iter().map(|r| (r, unit() < 1.0 / (1.0 + (-slope * log_odds(r)).exp()))).collect()
    }

    #[test]
    fn the_slope_tells_true_from_overconfident_risks() {
        for truth in [0.5, 1.0, 2.0] {
            let found = RowMetrics::new(&mut drawn(truth), 0.5).slope;
            assert!((found - truth).abs() < 0.06 * truth, "{found} for {truth}");
        }
        assert!(RowMetrics::new(&mut [(0.5, true), (0.4, true), (0.01, false)], 0.5).slope.is_nan(), "one kind near the threshold");
    }

    #[test]
    fn knowing_the_prevalence_alone_has_no_skill() {
        let mut constant: Vec<Known> = (0..100).map(|i| (0.1, i < 10)).collect();
        assert!(RowMetrics::new(&mut constant, 0.5).brier_skill.abs() < 1e-12);
        let mut perfect: Vec<Known> = (0..100).map(|i| (f64::from(u8::from(i < 10)), i < 10)).collect();
        assert!((RowMetrics::new(&mut perfect, 0.5).brier_skill - 1.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn curves_stay_within_bounds(rows in prop::collection::vec((0.0f64..1.0, any::<bool>()), 30..300)) {
            let mut rows = rows;
            rows.push((0.5, true));
            ranking(&mut rows);
            let pr = precision_recall(&rows, 50);
            prop_assert!(pr.windows(2).all(|w| w[0].0 <= w[1].0));
            prop_assert!((pr.last().unwrap().0 - 1.0).abs() < 1e-9);
            let bins = reliability(&rows, 12);
            prop_assert_eq!(bins.iter().map(|b| b.2).sum::<usize>(), rows.len());
        }

        #[test]
        fn an_exact_interval_holds_the_share(k in 0u32..40, more in 0u32..40) {
            let n = k + more + 1;
            let (low, high) = exact_interval(k, n);
            prop_assert!(low <= f64::from(k) / f64::from(n) && f64::from(k) / f64::from(n) <= high);
        }
    }
}
