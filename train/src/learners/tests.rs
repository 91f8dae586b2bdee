//! What a fitted learner does, on data small enough to know the answer.

use linfa::ParamGuard;
use linfa::traits::PredictInplace;
use proptest::prelude::*;

use super::*;
use crate::binned::{Binned, MAX_BINS};

/// A matrix of `features` columns by a rule, with all its rows.
fn matrix(rows: usize, features: usize, value: impl Fn(usize, usize) -> f64) -> (Binned, Vec<u32>, Vec<f64>) {
    let values: Vec<f64> = (0..rows * features).map(|i| value(i / features, i % features)).collect();
    (Binned::from_rows(&values, features, MAX_BINS), (0..rows as u32).collect(), values)
}

/// A number in 0..1 that looks like chance.
fn noise(row: usize, feature: usize) -> f64 {
    (chance::bits(11, feature as u64, row as u64) >> 11) as f64 / (1u64 << 53) as f64
}

fn fit(settings: Boost, binned: &Binned, rows: &[u32], targets: &Targets) -> Fitted {
    Learner::Boost(settings).fit(Sample::new(binned, rows), targets).unwrap()
}

fn small() -> Boost {
    Boost { rounds: 20, learning_rate: 0.3, leaves: 8, min_rows: 5, min_weight: 1e-3, ..Boost::default() }
}

#[test]
fn one_split_has_the_value_and_gain_of_the_textbook() {
    // Ten rows, the upper four failed: base = log-odds of (4 + ½) / (10 + 1); then −G/(H + λ) a side.
    let (binned, rows, _) = matrix(10, 1, |row, _| row as f64);
    let targets = Targets::binary((0..10).map(|row| row >= 6));
    let settings = Boost { rounds: 1, learning_rate: 1.0, leaves: 2, min_rows: 1, min_weight: 0.0, ..Boost::default() };
    let fitted = fit(settings, &binned, &rows, &targets);
    let trees = &fitted;
    assert_eq!(trees.splits, [flat::Split { feature: 0, code: 6, missing_left: true, left: -1, right: -2 }]);
    assert_eq!(fitted.to_ensemble(&binned).nodes[0].threshold, 5.5);
    let p: f64 = 4.5 / 11.0;
    let want = [-(6.0 * p) / (6.0 * p * (1.0 - p) + 1.0), (4.0 * (1.0 - p)) / (4.0 * p * (1.0 - p) + 1.0)];
    for (leaf, want) in trees.leaves.iter().zip(want) {
        assert!((leaf - want).abs() < 1e-6, "{leaf} {want}");
    }
    assert_eq!(trees.cover, [6.0, 4.0]);
}

#[test]
fn an_interaction_is_learnt() {
    let (binned, rows, _) = matrix(2000, 3, noise);
    let truth = |row: usize| (noise(row, 0) > 0.4) != (noise(row, 1) > 0.6);
    let fitted = fit(small(), &binned, &rows, &Targets::binary((0..2000).map(truth)));
    let risks = fitted.risks(&binned, &rows);
    let right = (0..2000).filter(|row| (risks[*row] > 0.5) == truth(*row)).count();
    assert!(right > 1960, "{right} of 2000");
}

#[test]
fn missing_values_go_where_they_lower_the_loss() {
    // Missing means failing in one half of the columns, surviving in the other.
    for fails in [true, false] {
        let gone = |row: usize| row.is_multiple_of(4);
        let (binned, rows, _) = matrix(400, 2, |row, feature| if feature == 0 && gone(row) { f64::NAN } else { noise(row, feature) });
        let truth = |row: usize| if gone(row) { fails } else { noise(row, 0) > 0.5 };
        let fitted = fit(small(), &binned, &rows, &Targets::binary((0..400).map(truth)));
        let risks = fitted.risks(&binned, &rows);
        assert!((0..400).all(|row| (risks[row] > 0.5) == truth(row)), "missing fails: {fails}");
    }
    // A value missing is all that tells.
    let (binned, rows, _) = matrix(400, 1, |row, _| if row.is_multiple_of(4) { f64::NAN } else { 1.0 });
    let fitted = fit(small(), &binned, &rows, &Targets::binary((0..400).map(|row: usize| row.is_multiple_of(4))));
    let mut risk = [0.0];
    fitted.to_ensemble(&binned).check().unwrap().score(&[f64::NAN], &mut risk);
    assert!(risk[0] > 0.9, "{risk:?}");
}

#[test]
fn monotone_constraints_hold_and_cost_something() {
    let (binned, rows, _) = matrix(3000, 3, noise);
    // Rises in the first column but for a dip, falls in the second but for a bump.
    let chance = |row: usize| {
        let (x, y) = (noise(row, 0), noise(row, 1));
        let dip = if (0.4..0.6).contains(&x) { -0.4 } else { 0.0 };
        let bump = if (0.7..0.8).contains(&y) { 0.4 } else { 0.0 };
        (x - y + dip + bump) / 2.0 + 0.4
    };
    let targets = Targets::binary((0..3000).map(|row| noise(row, 7) < chance(row)));
    let violations = |monotone: Vec<i8>| {
        let ensemble = fit(Boost { monotone, leaves: 16, ..small() }, &binned, &rows, &targets).to_ensemble(&binned);
        let risk = |row: [f64; 3]| {
            let mut risk = [0.0];
            ensemble.score(&row, &mut risk);
            risk[0]
        };
        let steps = (0..99).flat_map(|i| (0..20).map(move |j| (f64::from(i) / 100.0, f64::from(j) / 20.0)));
        let wrong = |(a, b): (f64, f64)| {
            usize::from(risk([a, b, b]) > risk([a + 0.01, b, b])) + usize::from(risk([b, a, b]) < risk([b, a + 0.01, b]))
        };
        steps.map(wrong).sum::<usize>()
    };
    assert_eq!(violations(vec![1, -1, 0]), 0);
    assert!(violations(vec![]) > 0, "the data tempt");
    assert!(violations(vec![-1, 1, 0]) > 0, "the other way round is another matter");
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let (binned, rows, _) =
        matrix(40_000, 21, |row, feature| if (row * 7 + feature).is_multiple_of(50) { f64::NAN } else { noise(row, feature) });
    let truth = |row: usize| noise(row, 0) + noise(row, 1) * noise(row, 2) > 1.0;
    let outcomes = |k: usize| (0..40_000).map(move |row| if truth(row + k) { Outcome::Failed } else { Outcome::Survived }).collect();
    let targets = Targets::new(vec![outcomes(0), outcomes(1)]);
    let settings = Boost { rounds: 5, row_sample: 0.7, column_sample: 0.6, patience: Some(3), ..small() };
    let (rows, valid) = rows.split_at(30_000);
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Learner::Boost(settings.clone()).fit(Sample { binned: &binned, rows, valid }, &targets).unwrap())
    };
    let one = on(1);
    assert_eq!(one, on(2));
    assert_eq!(one, on(5));
    assert_ne!(one, Learner::Boost(Boost { seed: 2, ..settings.clone() }).fit(Sample { binned: &binned, rows, valid }, &targets).unwrap());
}

#[test]
fn early_stopping_keeps_the_best_round_of_the_watched_rows() {
    // Labels are chance beyond a weak signal, so many rounds learn the noise.
    let (binned, all, _) = matrix(2000, 5, noise);
    let targets = Targets::binary((0..2000).map(|row| noise(row, 9) < 0.3 + 0.4 * noise(row, 0)));
    let (rows, valid) = all.split_at(1000);
    let settings = Boost { rounds: 200, patience: Some(10), ..small() };
    let stopped = Learner::Boost(settings.clone()).fit(Sample { binned: &binned, rows, valid }, &targets).unwrap();
    let kept = stopped.len();
    assert!((1..100).contains(&kept), "{kept} rounds kept");
    let loss = |rounds| {
        let fitted = fit(Boost { rounds, patience: None, ..settings.clone() }, &binned, rows, &targets);
        let of =
            |(risk, row): (f64, &u32)| if targets.outcome(*row as usize, 0) == Outcome::Failed { -risk.ln() } else { -(1.0 - risk).ln() };
        fitted.risks(&binned, valid).into_iter().zip(valid).map(of).sum::<f64>()
    };
    assert!(loss(kept) <= loss(kept + 1) && loss(kept) <= loss(kept.max(2) - 1) && loss(kept) < loss(200), "{kept}");
    assert_eq!(stopped, fit(Boost { rounds: kept, patience: None, ..settings }, &binned, rows, &targets), "as if it had been told");
}

#[test]
fn a_weight_of_two_is_the_row_twice() {
    let twice = |row: usize| row.is_multiple_of(3);
    let (binned, rows, _) = matrix(600, 3, noise);
    let truth = |row: usize| noise(row, 0) + 0.3 * noise(row, 5) > 0.6;
    let targets = Targets::binary((0..600).map(truth));
    // Rows differ in number, so what counts rows may not bind; scales differ, so values agree up to a few levels.
    let settings = Boost { min_rows: 1, min_weight: 2.0, rounds: 5, ..small() };
    let weights = (0..600).map(|row| if twice(row) { 2.0 } else { 1.0 }).collect();
    let weighed = fit(settings.clone(), &binned, &rows, &targets.clone().with_weights(weights));
    let repeated: Vec<u32> = rows.iter().flat_map(|row| std::iter::repeat_n(*row, 1 + usize::from(twice(*row as usize)))).collect();
    let repeated = fit(settings, &binned, &repeated, &targets);
    for (a, b) in weighed.risks(&binned, &rows).into_iter().zip(repeated.risks(&binned, &rows)) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
    assert_ne!(weighed, fit(small(), &binned, &rows, &targets));
}

#[test]
fn no_leaf_holds_fewer_rows_or_less_weight_than_asked_for() {
    let (binned, rows, _) = matrix(3000, 4, noise);
    // Rare failures: weights differ between rows, so numbers of rows cannot be told from weights.
    let targets = Targets::binary((0..3000).map(|row| noise(row, 0) > 0.97 || (noise(row, 1) > 0.9 && noise(row, 8) > 0.7)));
    for min_rows in [1, 37, 400] {
        let fitted = fit(Boost { min_rows, leaves: 31, ..small() }, &binned, &rows, &targets);
        let least = fitted.cover.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(least >= min_rows as f64, "{least} rows for {min_rows}");
        assert!(fitted.splits.len() > 20, "and still splits");
    }
    let heavy = fit(Boost { min_rows: 1, min_weight: 40.0, rounds: 1, leaves: 31, ..small() }, &binned, &rows, &targets);
    let rate = targets.rate(&rows, 0);
    assert!(heavy.cover.iter().all(|rows| rows * rate * (1.0 - rate) >= 39.9));
}

#[test]
fn horizons_are_learnt_each_from_what_is_known() {
    // The first horizon by one column, the second by another; half of the rows know nothing of the second.
    let (binned, rows, _) = matrix(4000, 2, noise);
    let outcome = |failed| if failed { Outcome::Failed } else { Outcome::Survived };
    let first = |row: usize| noise(row, 0) > 0.8;
    let second = |row: usize| noise(row, 1) > 0.7;
    let known = |row: usize| !first(row) && row.is_multiple_of(2);
    let outcomes = vec![
        (0..4000).map(|row| outcome(first(row))).collect(),
        (0..4000).map(|row| if known(row) { outcome(second(row)) } else { Outcome::Unknown }).collect(),
    ];
    let fitted = fit(small(), &binned, &rows, &Targets::new(outcomes));
    let risks = fitted.risks(&binned, &rows);
    let right = |row: &usize| {
        let (near, far) = (risks[row * 2], risks[row * 2 + 1]);
        (near > 0.5) == first(*row) && far >= near && (far > 0.5) == (first(*row) || second(*row))
    };
    assert!((0..4000).filter(right).count() > 3900);
}

#[test]
fn a_horizon_of_which_nothing_is_known_adds_no_risk() {
    let (binned, rows, _) = matrix(500, 2, noise);
    let first = |row: usize| if noise(row, 0) > 0.7 { Outcome::Failed } else { Outcome::Survived };
    let targets = Targets::new(vec![(0..500).map(first).collect(), vec![Outcome::Unknown; 500]]);
    for learner in [Learner::Boost(small()), Learner::Forest(Forest { trees: 5, ..Forest::default() })] {
        for risks in learner.fit(Sample::new(&binned, &rows), &targets).unwrap().risks(&binned, &rows).chunks(2) {
            assert!((risks[1] - risks[0]).abs() < 1e-6, "{} {risks:?}", learner.name());
        }
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let refused = |settings: Boost| match Unchecked::new(settings).check_ref() {
        Err(LearnError::Setting { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(Boost { rounds: 0, ..small() }), "boost.rounds");
    assert_eq!(refused(Boost { learning_rate: f64::NAN, ..small() }), "boost.learning_rate");
    assert_eq!(refused(Boost { leaves: 1, ..small() }), "boost.leaves");
    assert_eq!(refused(Boost { row_sample: 0.0, ..small() }), "boost.row_sample");
    assert_eq!(refused(Boost { monotone: vec![2], ..small() }), "boost.monotone");
    let (binned, rows, _) = matrix(50, 2, noise);
    let fit = |settings, targets: &Targets| Learner::Boost(settings).fit(Sample::new(&binned, &rows), targets);
    let both = Targets::binary((0..50).map(|row: usize| row.is_multiple_of(2)));
    assert!(matches!(fit(Boost { monotone: vec![1], ..small() }, &both), Err(LearnError::Setting { name: "boost.monotone", .. })));
    assert!(matches!(fit(small(), &Targets::binary([false; 50])), Err(LearnError::TooLittle { .. })));
}

#[test]
fn linfa_predicts_what_risks_says() {
    let (binned, rows, _) = matrix(200, 2, noise);
    let fitted = fit(small(), &binned, &rows, &Targets::binary((0..200).map(|row| noise(row, 0) > 0.5)));
    let sample = Sample::new(&binned, &rows[50..70]);
    let mut predicted = fitted.default_target(&sample);
    fitted.predict_inplace(&sample, &mut predicted);
    assert_eq!(predicted.as_slice().unwrap(), fitted.risks(&binned, &rows[50..70]));
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![6 => -1e3..1e3, 3 => (-3i32..3).prop_map(f64::from), 1 => Just(f64::NAN)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_exported_trees_score_values_as_training_scored_codes(
        values in prop::collection::vec((value(), value(), value()), 20..300),
        seed in any::<u64>(),
        share in 0.5..1.0f64,
    ) {
        let (binned, rows, values) = matrix(values.len(), 3, |row, f| [values[row].0, values[row].1, values[row].2][f]);
        let failed = |row: usize| chance::drawn(seed, 1, row as u64, if values[row * 3] > 0.0 { 0.8 } else { 0.3 });
        let targets = Targets::binary((0..rows.len()).map(|row| row == 0 || (row > 1 && failed(row))));
        let settings = Boost { min_rows: 2, row_sample: share, column_sample: share, seed, ..small() };
        let fitted = fit(settings, &binned, &rows, &targets);
        let ensemble = fitted.to_ensemble(&binned).check().unwrap();
        for (row, risk) in fitted.risks(&binned, &rows).into_iter().enumerate() {
            let mut scored = [0.0];
            ensemble.score(&values[row * 3..][..3], &mut scored);
            prop_assert_eq!(scored[0].to_bits(), risk.to_bits());
        }
    }
}

#[test]
fn a_forest_learns_ranks_and_repeats_itself() {
    let (binned, all, _) = matrix(4000, 6, |row, f| if f == 3 && row.is_multiple_of(3) { f64::NAN } else { noise(row, f) });
    let truth = |row: usize| (noise(row, 0) > 0.4) != (noise(row, 1) > 0.6);
    let targets = Targets::binary((0..4000).map(truth));
    let (rows, others) = all.split_at(3000);
    let forest = Learner::Forest(Forest { trees: 30, ..Forest::default() });
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| forest.fit(Sample::new(&binned, rows), &targets).unwrap())
    };
    let fitted = on(2);
    assert_eq!(fitted, on(1));
    let risks = fitted.risks(&binned, others);
    let right = others.iter().zip(&risks).filter(|(row, risk)| (**risk > 0.5) == truth(**row as usize)).count();
    assert!(right > 950, "{right} of 1000 rows it has not seen");
    assert!(fitted.cover.iter().all(|rows| *rows >= 5.0));
    let ensemble = fitted.to_ensemble(&binned).check().unwrap();
    assert_eq!((ensemble.roots.len(), ensemble.horizons), (30, 1));
    let other = Learner::Forest(Forest { trees: 30, seed: 2, ..Forest::default() }).fit(Sample::new(&binned, rows), &targets).unwrap();
    assert_ne!(fitted, other);
}

#[test]
fn leaves_of_forest_and_tree_hold_rates_of_each_horizon() {
    // Nothing to split by: the rates are all there is.
    let (binned, rows, _) = matrix(1000, 1, |_, _| 1.0);
    let failed = |failed| if failed { Outcome::Failed } else { Outcome::Survived };
    let second = |row: usize| if row.is_multiple_of(10) { Outcome::Unknown } else { failed(row % 10 < 4) };
    let targets = Targets::new(vec![(0..1000).map(|row: usize| failed(row.is_multiple_of(10))).collect(), (0..1000).map(second).collect()]);
    let forest = Learner::Forest(Forest::default()).fit(Sample::new(&binned, &rows), &targets).unwrap();
    let tree = Learner::Tree(Tree::default()).fit(Sample::new(&binned, &rows), &targets).unwrap();
    let want = [0.1, 1.0 - 0.9 * (1.0 - 3.0 / 9.0)];
    for (fitted, off) in [(forest, 0.02), (tree, 0.002)] {
        let risks = fitted.risks(&binned, &[0]);
        assert!(risks.iter().zip(want).all(|(risk, want)| (risk - want).abs() < off), "{risks:?}");
    }
}

#[test]
fn the_tree_is_as_deep_as_told_and_treats_missing_as_lowest() {
    let value = |row: usize, f| if f == 0 && row.is_multiple_of(4) { f64::NAN } else { (noise(row, f) * 100.0).floor() / 100.0 };
    let (binned, rows, values) = matrix(2000, 2, value);
    let truth = |row: usize| values[row * 2].is_nan() || values[row * 2] < 0.3;
    let targets = Targets::binary((0..2000).map(truth));
    let fitted = Learner::Tree(Tree { depth: 1, ..Tree::default() }).fit(Sample::new(&binned, &rows), &targets).unwrap();
    assert_eq!((fitted.splits.len(), fitted.splits[0].feature, fitted.splits[0].missing_left), (1, 0, true));
    let ensemble = fitted.to_ensemble(&binned).check().unwrap();
    let mut risk = [0.0];
    for row in 0..2000 {
        ensemble.score(&values[row * 2..][..2], &mut risk);
        assert_eq!(risk[0] > 0.5, truth(row), "row {row}");
    }
}
