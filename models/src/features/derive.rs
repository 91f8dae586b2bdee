//! Derived signals: formulas over the channels of one reading.

use super::panes::finite;
use super::residual::Residuals;
use crate::Fleet;
use crate::fleet::{Formula, Source};

/// Inputs of a formula up to which nothing is allocated.
const FEW: usize = 16;

/// Fills `values[fleet.measured..]` from the measured values before them; every value may be NaN for missing. Without fitted
/// residuals those are missing.
pub(super) fn derive(fleet: &Fleet, residuals: Option<&Residuals>, values: &mut [f64]) {
    let mut residual = 0;
    for (i, channel) in fleet.channels.iter().enumerate().skip(fleet.measured) {
        let Source::Derived(formula) = &channel.source else { continue };
        values[i] = finite(match formula {
            Formula::Residual { signal, given } => {
                let expected = residuals.map_or(f64::NAN, |r| r.expected(residual, |g| values[given[g]]));
                residual += 1;
                values[*signal] - expected
            }
            other => evaluate(other, values),
        });
    }
}

fn evaluate(formula: &Formula, values: &[f64]) -> f64 {
    match formula {
        Formula::Sum(inputs) => inputs.iter().fold(0.0, |s, i| s + values[*i]),
        Formula::Product(inputs) => inputs.iter().fold(1.0, |p, i| p * values[*i]),
        Formula::Ratio(a, b) => values[*a] / values[*b],
        Formula::Spread(inputs) | Formula::Mean(inputs) | Formula::Min(inputs) | Formula::Max(inputs) | Formula::Deviation(inputs) => {
            let (mut few, mut many) = ([0.0; FEW], Vec::new());
            let present: &mut [f64] = if inputs.len() <= FEW {
                &mut few[..inputs.len()]
            } else {
                many.resize(inputs.len(), 0.0);
                &mut many
            };
            let mut n = 0;
            for x in inputs.iter().map(|i| values[*i]).filter(|x| !x.is_nan()) {
                present[n] = x;
                n += 1;
            }
            of_present(formula, values[inputs[0]], &mut present[..n])
        }
        // Residuals need the fitted trees: see `derive`.
        Formula::Residual { .. } => f64::NAN,
    }
}

fn of_present(formula: &Formula, first: f64, present: &mut [f64]) -> f64 {
    let (Some(least), Some(most)) = (present.iter().copied().reduce(f64::min), present.iter().copied().reduce(f64::max)) else {
        return f64::NAN;
    };
    match formula {
        Formula::Min(_) => least,
        Formula::Max(_) => most,
        Formula::Mean(_) => present.iter().fold(0.0, |s, v| s + v) / present.len() as f64,
        Formula::Spread(_) if present.len() > 1 => most - least,
        Formula::Deviation(_) if present.len() > 1 => first - median(present),
        _ => f64::NAN,
    }
}

/// The middle value, or the mean of the two middle ones.
fn median(values: &mut [f64]) -> f64 {
    if values.len() > FEW {
        values.sort_unstable_by(f64::total_cmp)
    } else {
        insertion_sort(values)
    }
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
}

/// Siblings are few: insertion beats a general sort.
fn insertion_sort(values: &mut [f64]) {
    for i in 1..values.len() {
        let (x, mut at) = (values[i], i);
        while at > 0 && values[at - 1] > x {
            values[at] = values[at - 1];
            at -= 1;
        }
        values[at] = x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_with_their_edges() {
        let v = [1.0, 4.0, f64::NAN, 10.0, 0.0];
        let eval = |f: Formula| finite(evaluate(&f, &v));
        assert_eq!(eval(Formula::Spread(vec![0, 1, 2, 3])), 9.0);
        assert!(eval(Formula::Spread(vec![0, 2])).is_nan(), "one value has no spread");
        assert_eq!(eval(Formula::Mean(vec![0, 1, 2, 3])), 5.0);
        assert_eq!((eval(Formula::Min(vec![1, 3])), eval(Formula::Max(vec![1, 3]))), (4.0, 10.0));
        assert!(eval(Formula::Max(vec![2])).is_nan());
        assert!(eval(Formula::Sum(vec![0, 2])).is_nan(), "a sum needs all");
        assert_eq!((eval(Formula::Sum(vec![0, 1])), eval(Formula::Product(vec![1, 3]))), (5.0, 40.0));
        assert_eq!(eval(Formula::Ratio(1, 0)), 4.0);
        assert!(eval(Formula::Ratio(1, 4)).is_nan(), "division by zero is missing");
        assert!(finite(evaluate(&Formula::Product(vec![0, 1]), &[1e200, 1e200])).is_nan(), "overflow is missing");
        assert_eq!(eval(Formula::Deviation(vec![3, 0, 1])), 6.0);
        assert_eq!(eval(Formula::Deviation(vec![1, 0, 2, 3, 4])), 1.5);
        assert!(eval(Formula::Deviation(vec![2, 0, 1])).is_nan());
    }
}
