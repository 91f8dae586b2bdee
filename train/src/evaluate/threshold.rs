//! The threshold of least cost (of novelty: within the false alarms that one can bear), and how sure it is that it costs less: by resampling devices, the threshold chosen anew in each sample.

use homeward_models::cost::Tally;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::price::{NEVER, Pricer, sum};
use super::rows::log_odds;
use crate::plan::Part;
use crate::settings::Rule;

/// Risks that are priced as thresholds at most, beside as many between them.
const CANDIDATES: usize = 64;
/// Bootstrap samples.
pub(crate) const SAMPLES: usize = 400;
/// Share of the bootstrap samples in which a policy must cost less.
pub(crate) const CONFIDENCE: f64 = 0.9;

/// What each candidate costs on each device, once for the folds and once for all that is judged.
pub(crate) struct Table {
    /// Descending; the last one is never.
    pub(crate) thresholds: Vec<f64>,
    /// By threshold, fold and device.
    folds: Vec<Vec<Vec<Tally>>>,
    /// By threshold and device: all parts.
    pub(crate) all: Vec<Vec<Tally>>,
    /// How one of them is chosen.
    rule: Rule,
}

impl Table {
    /// Prices all candidates on `risks`, one a row, of rows that no model has learnt from.
    pub(crate) fn new(pricer: &Pricer<'_>, risks: &[f64], folds: usize) -> Self {
        let devices = pricer.matrix.devices.len();
        let judged: Vec<f64> = pricer.stretches.iter().flat_map(|s| risks[s.rows.clone()].iter().copied()).collect();
        let rule = pricer.settings.rule();
        let mut thresholds = candidates(judged);
        if let (Rule::Within(_), Some(highest)) = (rule, thresholds.first().filter(|t| **t < NEVER)) {
            // What lies beyond all that was seen may always call.
            thresholds.insert(0, highest.next_up());
        }
        let mut table = Self { folds: Vec::new(), all: Vec::new(), thresholds, rule };
        let policy = pricer.policy(risks);
        for threshold in &table.thresholds {
            let mut by_fold = vec![vec![Tally::default(); devices]; folds];
            let mut all = vec![Tally::default(); devices];
            for stretch in pricer.stretches {
                let tally = policy.price(stretch, *threshold);
                all[stretch.device].add(&tally);
                if let Part::Fold(fold) = stretch.part {
                    by_fold[fold][stretch.device].add(&tally);
                }
            }
            table.folds.push(by_fold);
            table.all.push(all);
        }
        table
    }

    /// The threshold that the rule chooses over all folds but one (`None`: over all of them).
    pub(crate) fn best(&self, but: Option<usize>) -> f64 {
        let total = |by_fold: &Vec<Vec<Tally>>| sum(by_fold.iter().enumerate().filter(|(f, _)| Some(*f) != but).flat_map(|(_, d)| d));
        self.thresholds[choose(self.rule, self.folds.iter().map(total))]
    }

    /// Cost per hour at each threshold, over all that is judged.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        self.thresholds.iter().zip(&self.all).map(|(t, by_device)| (*t, sum(by_device.iter()).per_hour())).collect()
    }

    /// Chooses the threshold anew on each sample of devices and prices it on the devices left out of the sample: the share of samples in which
    /// that costs less than never, and the cost's 5 % and 95 % quantile.
    pub(crate) fn bootstrap(&self, seed: u64) -> (f64, (f64, f64)) {
        let devices = self.all[0].len();
        let never = self.all.len() - 1;
        let (mut better, mut judged, mut costs) = (0usize, 0usize, Vec::new());
        for drawn in samples(devices, seed) {
            let left_out: Vec<usize> = (0..devices).filter(|d| !drawn.contains(d)).collect();
            let total = |c: usize, of: &[usize]| sum(of.iter().map(|d| &self.all[c][*d]));
            if left_out.is_empty() {
                continue;
            }
            judged += 1;
            let chosen = total(choose(self.rule, (0..never + 1).map(|c| total(c, &drawn))), &left_out).per_hour();
            better += usize::from(chosen < total(never, &left_out).per_hour());
            costs.push(chosen);
        }
        (better as f64 / judged.max(1) as f64, quantiles(costs))
    }
}

/// The share of samples of devices in which the first policy costs less than the second, and the 5 % and 95 % quantile of the difference.
pub(crate) fn paired(first: &[Tally], second: &[Tally], seed: u64) -> (f64, (f64, f64)) {
    let mut differences = Vec::with_capacity(SAMPLES);
    for drawn in samples(first.len(), seed) {
        let cost = |by_device: &[Tally]| sum(drawn.iter().map(|d| &by_device[*d])).per_hour();
        differences.push(cost(first) - cost(second));
    }
    let better = differences.iter().filter(|d| **d < 0.0).count();
    (better as f64 / SAMPLES as f64, quantiles(differences))
}

/// Devices drawn with replacement, as many as there are.
fn samples(devices: usize, seed: u64) -> impl Iterator<Item = Vec<usize>> {
    let mut chance = Pcg64Mcg::seed_from_u64(seed ^ 0xb007);
    (0..SAMPLES).map(move |_| (0..devices).map(|_| (chance.next_u64() % devices as u64) as usize).collect())
}

fn quantiles(mut costs: Vec<f64>) -> (f64, f64) {
    costs.retain(|c| c.is_finite());
    costs.sort_unstable_by(f64::total_cmp);
    let quantile = |q: f64| costs.get((q * costs.len() as f64) as usize).copied().unwrap_or(f64::NAN);
    (quantile(0.05), quantile(0.95))
}

/// The place of the threshold that the rule chooses; the last is never.
fn choose(rule: Rule, totals: impl ExactSizeIterator<Item = Tally>) -> usize {
    match rule {
        Rule::Cheapest => least(totals.map(|t| t.per_hour())),
        Rule::Within(most) => within(totals, most),
    }
}

/// The place of the lowest threshold down to which all give at most so many false alarms in 1,000 operating hours. The gate's rules may let a lower one
/// give fewer again, which is luck.
fn within(totals: impl ExactSizeIterator<Item = Tally>, most: f64) -> usize {
    let never = totals.len() - 1;
    let kept = totals.take(never).take_while(|t| f64::from(t.false_alarms) * 1000.0 <= most * t.hours).count();
    kept.checked_sub(1).unwrap_or(never)
}

/// The place of the least cost: the middle of neighbours that cost the same, so that a risk a little lower than those seen still calls. Never,
/// the last, comes before all that cost as much.
fn least(costs: impl Iterator<Item = f64>) -> usize {
    let costs: Vec<f64> = costs.collect();
    let never = costs.len() - 1;
    let first = costs[..never].iter().enumerate().fold(never, |best, (c, cost)| if *cost < costs[best] { c } else { best });
    if first == never {
        return never;
    }
    let equal = costs[first..never].iter().take_while(|cost| **cost == costs[first]).count();
    first + equal / 2
}

/// Distinct risks, the highest most closely, the middles between them (by log-odds), and never.
fn candidates(mut risks: Vec<f64>) -> Vec<f64> {
    risks.retain(|r| *r > 0.0);
    risks.sort_unstable_by(|a, b| b.total_cmp(a));
    let rows = risks.len();
    // Half of the candidates by rank on a logarithmic scale, since alarms worth anything are rare; half evenly among the distinct risks.
    let by_rank = (0..CANDIDATES / 2).map(|i| (rows as f64).powf(i as f64 / (CANDIDATES / 2 - 1) as f64) as usize);
    let mut chosen: Vec<f64> = by_rank.filter_map(|rank| risks.get(rank.saturating_sub(1)).copied()).collect();
    risks.dedup();
    let step = risks.len().div_ceil(CANDIDATES / 2).max(1);
    chosen.extend(risks.into_iter().step_by(step));
    chosen.sort_unstable_by(|a, b| b.total_cmp(a));
    chosen.dedup();
    let between = |w: &[f64]| 1.0 / (1.0 + (-(log_odds(w[0]) + log_odds(w[1])) / 2.0).exp());
    let inside: Vec<f64> = chosen.windows(2).map(|w| between(w).clamp(w[1], w[0])).collect();
    chosen.extend(inside);
    chosen.sort_unstable_by(|a, b| b.total_cmp(a));
    chosen.dedup();
    chosen.push(NEVER);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(cost: f64) -> Tally {
        Tally { cost, hours: 1.0, failures: 1, ..Tally::default() }
    }

    fn table(policy: &dyn Fn(usize) -> f64) -> Table {
        let all = vec![(0..40).map(|d| tally(policy(d))).collect::<Vec<_>>(), (0..40).map(|_| tally(10.0)).collect()];
        Table { thresholds: vec![0.5, NEVER], folds: all.iter().map(|c| vec![c.clone()]).collect(), all, rule: Rule::Cheapest }
    }

    #[test]
    fn the_cheapest_threshold_wins_and_never_wins_a_tie() {
        assert_eq!(least([4.0, 3.0, 4.0].into_iter()), 1);
        assert_eq!(least([4.0, 4.0].into_iter()), 1);
        assert_eq!(least([3.0, 3.0, 3.0, 4.0].into_iter()), 1, "the middle of equal ones");
        assert_eq!(least([3.0, 3.0, 4.0].into_iter()), 1, "of two the lower one");
    }

    #[test]
    fn the_lowest_threshold_within_the_false_alarms_wins() {
        // In 500 hours each: 1 in 1,000 hours allows none, 2 one.
        let place = |alarms: &[u32], most: f64| {
            let total = |n: &u32| Tally { false_alarms: *n, hours: 500.0, ..Tally::default() };
            within(alarms.iter().map(total), most)
        };
        assert_eq!(place(&[0, 0, 1, 3, 0], 1.0), 1);
        assert_eq!(place(&[0, 0, 1, 3, 0], 2.0), 2, "exactly as many are borne");
        assert_eq!(place(&[0, 0, 1, 0, 9, 0], 1.0), 1, "fewer again below is luck");
        assert_eq!(place(&[0, 1, 0, 0], 100.0), 2, "always on, if it is borne; never is not chosen for it");
        assert_eq!(place(&[1, 2, 0], 1.0), 2, "never if nothing is within");
    }

    #[test]
    fn a_fold_has_no_say_in_its_own_threshold() {
        let folds = vec![vec![vec![tally(1.0)], vec![tally(9.0)]], vec![vec![tally(5.0)], vec![tally(5.0)]]];
        let table = Table { thresholds: vec![0.5, NEVER], folds, all: vec![vec![tally(5.0)]; 2], rule: Rule::Cheapest };
        assert_eq!((table.best(Some(0)), table.best(Some(1))), (NEVER, 0.5));
    }

    #[test]
    fn a_saving_on_every_device_convinces_and_one_by_luck_does_not() {
        assert!(table(&|_| 6.0).bootstrap(1).0 >= CONFIDENCE);
        assert!(table(&|d| if d == 0 { 0.0 } else { 10.05 }).bootstrap(1).0 < CONFIDENCE);
    }

    #[test]
    fn policies_are_compared_on_the_same_devices() {
        let costs = |base: f64| (0..40).map(|d| tally(base + 100.0 * f64::from(d % 7))).collect::<Vec<_>>();
        assert_eq!(paired(&costs(1.0), &costs(2.0), 1).0, 1.0, "devices differ by far more than the policies, which cancels");
        assert_eq!(paired(&costs(1.0), &costs(1.0), 1).0, 0.0);
    }

    #[test]
    fn candidates_hold_the_rarest_risks() {
        let risks: Vec<f64> = (1..=100_000).map(|i| f64::from(i) / 1e5).collect();
        let found = candidates(risks);
        assert!(found.len() <= 2 * CANDIDATES && found.is_sorted_by(|a, b| a > b || *b == NEVER), "{found:?}");
        assert!([1.0, 0.99999, 0.99998, 0.99997].iter().all(|r| found.contains(r)), "{:?}", &found[..8]);
        assert_eq!(found.last(), Some(&NEVER));
    }
}
