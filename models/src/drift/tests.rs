//! Drift that is there is found, drift that is not is not, and counting has no surprises.

use proptest::prelude::*;

use super::*;

/// A reproducible number from 0 to 1.
fn chance(seed: u64) -> f64 {
    (xxhash_rust::xxh3::xxh3_64(&seed.to_le_bytes()) >> 11) as f64 / (1u64 << 53) as f64
}

/// Training of `days` days with 400 rows of two features: one uniform whose mean wanders by day, one constant 5 that is missing in a tenth.
fn rows(day: i64, shift: f64, missing: f64) -> impl Iterator<Item = (i64, [f64; 2], f64)> {
    (0..400u64).map(move |i| {
        let seed = day as u64 * 1_000_000 + i;
        let wander = 0.1 * chance(day as u64);
        let constant = if chance(seed + 500_000) < missing { f64::NAN } else { 5.0 };
        (day * DAY_MS + i as i64 * 1_000, [chance(seed) + wander + shift, constant], chance(seed + 700_000) / 2.0)
    })
}

fn reference(days: i64) -> Reference {
    let sample: Vec<_> = (0..days).flat_map(|d| rows(d, 0.0, 0.1)).collect();
    let values: Vec<Vec<f64>> = sample.iter().map(|r| r.1.to_vec()).collect();
    let risks: Vec<f64> = sample.iter().map(|r| r.2).collect();
    let mut learner = Learner::new(2, &values, &risks);
    sample.iter().for_each(|(ts, row, risk)| learner.add(*ts, row, *risk));
    learner.finish().check(2).unwrap()
}

fn day(reference: &Reference, rows: impl Iterator<Item = (i64, [f64; 2], f64)>) -> DayReport {
    let mut monitor = Monitor::default();
    for (ts, row, risk) in rows {
        assert_eq!(monitor.add(reference, ts, &row, risk), None);
    }
    monitor.report(reference).unwrap()
}

#[test]
fn a_day_like_those_of_training_is_no_drift_and_one_unlike_them_is() {
    let reference = reference(40);
    assert_eq!((reference.min_rows, reference.features[1].counts.iter().sum::<u64>() + reference.features[1].missing), (100, 16_000));
    let calm = (100..140).filter(|d| day(&reference, rows(*d, 0.0, 0.1)).drifted).count();
    assert!(calm <= 4, "{calm} of 40 calm days are called drifted");
    let moved = day(&reference, rows(200, 0.3, 0.1));
    assert!(moved.judged && moved.features[0].beyond && !moved.features[1].beyond, "{moved:?}");
    assert_eq!(moved.beyond(), [0]);
    let silent = day(&reference, rows(200, 0.0, 0.9));
    assert!(silent.features[1].beyond && silent.features[1].missing > 0.8, "{silent:?}");
}

#[test]
fn a_risk_that_rises_is_drift_whatever_the_features_say() {
    let reference = reference(40);
    let high = day(&reference, rows(200, 0.0, 0.1).map(|(ts, row, risk)| (ts, row, risk + 0.4)));
    assert!(high.risk.beyond && high.drifted);
}

#[test]
fn a_constant_that_moves_to_either_side_is_seen() {
    let reference = reference(40);
    for by in [-1.0, 1.0] {
        let moved = day(&reference, rows(200, 0.0, 0.1).map(|(ts, [a, b], risk)| (ts, [a, b + by], risk)));
        assert!(moved.features[1].beyond, "moved by {by}: {moved:?}");
    }
}

#[test]
fn too_few_days_or_rows_are_not_judged() {
    let few = day(&reference(2), rows(200, 5.0, 0.9));
    assert!(few.judged && !few.drifted && few.features[0].psi > 1.0, "{few:?}");
    let short = day(&reference(40), rows(200, 5.0, 0.9).take(99));
    assert!(!short.judged && !short.drifted);
}

#[test]
fn a_new_day_reports_the_one_before_it_and_starts_at_nothing() {
    let reference = reference(5);
    let mut monitor = Monitor::default();
    for (ts, row, risk) in rows(7, 0.0, 0.1) {
        monitor.add(&reference, ts, &row, risk);
    }
    let before = monitor.report(&reference);
    let (ts, row, risk) = rows(8, 0.0, 0.1).next().unwrap();
    assert_eq!(monitor.add(&reference, ts, &row, risk), before);
    assert_eq!(monitor.report(&reference).map(|r| (r.day, r.rows)), Some((8, 1)));
}

#[test]
fn psi_is_the_formula() {
    assert_eq!(psi(&[5, 5], &[50, 50]).abs(), 0.0);
    let (p, q) = ((30.5, 70.5), (50.5, 50.5));
    let by_hand: f64 = [(p.0, q.0), (p.1, q.1)].iter().map(|(p, q)| (p / 101.0 - q / 101.0) * f64::ln(p / q)).sum();
    assert!((psi(&[50, 50], &[30, 70]) - by_hand).abs() < 1e-15);
    assert_eq!(psi(&[0, 0], &[3, 4]), 0.0, "nothing to compare with");
}

#[test]
fn a_reference_that_does_not_hold_together_is_refused_by_quantity() {
    let good = reference(3);
    let said = |r: Reference, features| r.check(features).unwrap_err().to_string();
    assert!(said(good.clone(), 3).contains("another number"));
    let mut bad = good.clone();
    bad.features[1].edges.reverse();
    bad.features[1].edges.push(f64::NAN);
    assert!(said(bad, 2).contains("feature 1"));
    let mut bad = good;
    bad.risk.counts.pop();
    assert!(said(bad, 2).contains("risk"));
}

proptest! {
    #[test]
    fn edges_ascend_and_every_value_is_counted_once(values in prop::collection::vec(prop_oneof![Just(f64::NAN), (-3i32..3).prop_map(f64::from), any::<f64>()], 1..80)) {
        let sample: Vec<Vec<f64>> = values.iter().map(|v| vec![*v]).collect();
        let mut learner = Learner::new(1, &sample, &values);
        values.iter().for_each(|v| learner.add(0, &[*v], *v));
        let reference = learner.finish().check(1).unwrap();
        let quantity = &reference.features[0];
        let missing = values.iter().filter(|v| v.is_nan()).count() as u64;
        prop_assert_eq!((quantity.missing, quantity.counts.iter().sum::<u64>()), (missing, values.len() as u64 - missing));
        let text = serde_json::to_string(&reference).unwrap();
        prop_assert_eq!(serde_json::from_str::<Reference>(&text).unwrap(), reference);
    }

    #[test]
    fn psi_is_never_negative_and_zero_for_the_same(a in prop::collection::vec(0u64..1000, 2..12), b in prop::collection::vec(0u64..1000, 12)) {
        prop_assert!(psi(&a, &b[..a.len()]) >= -1e-12);
        prop_assert!(psi(&a, &a).abs() < 1e-12);
    }
}
