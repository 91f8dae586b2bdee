//! Calibrations against scikit-learn's, against brute force, and as properties.

use proptest::prelude::*;

use super::*;

const X: [f64; 10] = [0.1, 0.2, 0.2, 0.3, 0.45, 0.5, 0.6, 0.7, 0.8, 0.95];
const Y: [bool; 10] = [false, false, true, false, true, false, true, true, false, true];
const W: [f64; 10] = [1.0, 2.0, 1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 2.0];
const AT: [f64; 10] = [0.0, 0.1, 0.15, 0.2, 0.25, 0.4, 0.55, 0.65, 0.9, 2.0];

fn check(calibration: &Calibration, expected: [f64; 10]) {
    for (at, expected) in AT.iter().zip(expected) {
        let found = calibration.apply(*at);
        assert!((found - expected).abs() < 1e-12, "at {at}: {found}, expected {expected}");
    }
}

/// Expected values: scikit-learn 1.7, `IsotonicRegression(out_of_bounds="clip")`.
#[test]
fn the_isotonic_fit_is_scikit_learns() {
    let third = 1.0 / 3.0;
    let plain = Calibration::fit_isotonic(&X, &Y, None).unwrap();
    check(&plain, [0.0, 0.0, third / 2.0, third, third, 4.0 / 9.0, 7.0 / 12.0, 2.0 * third, 8.0 / 9.0, 1.0]);
    let weighted = Calibration::fit_isotonic(&X, &Y, Some(&W)).unwrap();
    check(&weighted, [0.0, 0.0, 0.125, 0.25, 0.25, 0.25, 0.458_333_333_333_333_54, 2.0 * third, 8.0 / 9.0, 1.0]);
}

/// Expected values: scikit-learn 1.7, `_SigmoidCalibration`, which stops at a coarser gradient.
#[test]
fn the_sigmoid_fit_is_scikit_learns() {
    let Calibration::Platt(plain) = Calibration::fit_platt(&X, &Y, None).unwrap() else { panic!("no sigmoid") };
    assert!((plain.slope + 2.074_003).abs() < 2e-4 && (plain.offset - 0.992_445).abs() < 2e-4, "{plain:?}");
    let Calibration::Platt(weighted) = Calibration::fit_platt(&X, &Y, Some(&W)).unwrap() else { panic!("no sigmoid") };
    assert!((weighted.slope + 2.931_283).abs() < 2e-4 && (weighted.offset - 1.759_161).abs() < 2e-4, "{weighted:?}");
}

#[test]
fn one_class_and_one_score_give_what_they_say() {
    let never = Calibration::fit_isotonic(&[0.1, 0.9], &[false, false], None).unwrap();
    assert_eq!((never.apply(0.0), never.apply(0.5), never.apply(5.0)), (0.0, 0.0, 0.0));
    let one = Calibration::fit_isotonic(&[0.3; 4], &[true, false, false, false], None).unwrap();
    assert_eq!((one.apply(-1.0), one.apply(1.0)), (0.25, 0.25));
    let flat = Calibration::fit_platt(&[0.3; 4], &[true, false, false, false], None).unwrap();
    assert!((flat.apply(7.0) - 2.0 / 6.0).abs() < 1e-12, "the smoothed share of positives");
}

#[test]
fn a_score_that_ranks_the_wrong_way_round_becomes_a_flat_line() {
    let (x, y) = ([1.0, 2.0, 3.0, 4.0], [true, true, false, false]);
    for fitted in [Calibration::fit_isotonic(&x, &y, None).unwrap(), Calibration::fit_platt(&x, &y, None).unwrap()] {
        assert_eq!(fitted.apply(1.0), 0.5, "{fitted:?}");
        assert_eq!(fitted.apply(4.0), 0.5, "{fitted:?}");
    }
}

#[test]
fn what_cannot_be_fitted_is_refused_by_row() {
    assert_eq!(Calibration::fit_isotonic(&[], &[], None), Err(BadCalibration::Empty));
    assert_eq!(Calibration::fit_platt(&[1.0], &[true], Some(&[0.0])), Err(BadCalibration::Empty));
    assert!(matches!(Calibration::fit_platt(&[1.0], &[], None), Err(BadCalibration::Lengths { scores: 1, labels: 0, weights: 1 })));
    let nan = Calibration::fit_isotonic(&[1.0, f64::NAN], &[true, true], None);
    assert!(matches!(nan, Err(BadCalibration::NotFinite { what: "score", row: 1, .. })), "{nan:?}");
    let minus = Calibration::fit_isotonic(&[1.0, 2.0], &[true, true], Some(&[1.0, -1.0]));
    assert!(minus.unwrap_err().to_string().contains("weight -1 in row 1"));
}

#[test]
fn a_written_curve_that_is_none_is_refused() {
    let curve =
        |scores: &[f64], risks: &[f64]| Calibration::check(WrittenCalibration::Isotonic { scores: scores.to_vec(), risks: risks.to_vec() });
    assert!(curve(&[0.0, 1.0], &[0.0, 1.0]).is_ok());
    for (scores, risks) in [
        (&[][..], &[][..]),
        (&[0.0, 1.0], &[0.5]),
        (&[1.0, 1.0], &[0.0, 1.0]),
        (&[0.0, 1.0], &[0.6, 0.5]),
        (&[0.0, 1.0], &[0.0, 1.1]),
        (&[0.0, f64::NAN], &[0.0, 1.0]),
    ] {
        assert!(matches!(curve(scores, risks), Err(BadCalibration::Inconsistent(_))), "{scores:?} {risks:?}");
    }
    assert!(Calibration::check(WrittenCalibration::Platt { slope: 0.1, offset: 0.0 }).is_err());
    assert!(Calibration::check(WrittenCalibration::Platt { slope: -0.1, offset: f64::INFINITY }).is_err());
}

/// The largest over the beginnings of the least over the ends of the means between: the isotonic fit by its min-max formula.
fn by_min_max(scores: &[f64], labels: &[bool], at: usize) -> f64 {
    let mean = |from: f64, to: f64| {
        let within = || scores.iter().zip(labels).filter(|(s, _)| (from..=to).contains(*s));
        within().filter(|(_, l)| **l).count() as f64 / within().count() as f64
    };
    let least = |from: f64| scores.iter().filter(|to| **to >= scores[at]).map(|to| mean(from, *to)).fold(f64::INFINITY, f64::min);
    scores.iter().filter(|from| **from <= scores[at]).map(|from| least(*from)).fold(f64::NEG_INFINITY, f64::max)
}

fn labelled(size: usize) -> impl Strategy<Value = (Vec<f64>, Vec<bool>)> {
    let score = prop_oneof![(-8i32..8).prop_map(f64::from), -1e3..1e3f64, any::<f64>().prop_filter("finite", |s| s.is_finite())];
    prop::collection::vec((score, any::<bool>()), 1..size).prop_map(|rows| rows.into_iter().unzip())
}

proptest! {
    #[test]
    fn every_fit_is_monotone_gives_probabilities_and_comes_back(
        (scores, labels) in labelled(60),
        mut at in prop::collection::vec(any::<f64>().prop_filter("a number", |s| !s.is_nan()), 1..60),
    ) {
        at.extend(scores.iter().flat_map(|s| [*s, s.next_up(), s.next_down()]));
        at.sort_by(f64::total_cmp);
        for fitted in [Calibration::fit_isotonic(&scores, &labels, None).unwrap(), Calibration::fit_platt(&scores, &labels, None).unwrap()] {
            let risks: Vec<f64> = at.iter().map(|s| fitted.apply(*s)).collect();
            prop_assert!(risks.iter().all(|r| (0.0..=1.0).contains(r)), "{:?}", fitted);
            prop_assert!(risks.is_sorted(), "{:?}: {:?} at {:?}", fitted, risks, at);
            let text = serde_json::to_string(&fitted.written()).unwrap();
            prop_assert_eq!(&Calibration::check(serde_json::from_str(&text).unwrap()).unwrap(), &fitted);
        }
    }

    #[test]
    fn the_isotonic_fit_is_the_min_max_formula_and_keeps_the_mean((scores, labels) in labelled(25)) {
        let fitted = Calibration::fit_isotonic(&scores, &labels, None).unwrap();
        let (mut sum, mut positives) = (0.0, 0.0);
        for (i, score) in scores.iter().enumerate() {
            let expected = by_min_max(&scores, &labels, i);
            prop_assert!((fitted.apply(*score) - expected).abs() < 1e-12, "at {score}: {} not {expected}", fitted.apply(*score));
            sum += fitted.apply(*score);
            positives += f64::from(u8::from(labels[i]));
        }
        prop_assert!((sum - positives).abs() < 1e-9);
    }

    #[test]
    fn the_order_of_rows_and_their_splitting_change_nothing((scores, labels) in labelled(40), turn in 0usize..40) {
        let rotate = |k: usize| {
            let n = scores.len();
            let turned: Vec<usize> = (0..n).map(|i| (i + k) % n).collect();
            (turned.iter().map(|i| scores[*i]).collect::<Vec<_>>(), turned.iter().map(|i| labels[*i]).collect::<Vec<_>>())
        };
        let (s, l) = rotate(turn);
        prop_assert_eq!(Calibration::fit_isotonic(&s, &l, None).unwrap(), Calibration::fit_isotonic(&scores, &labels, None).unwrap());
        let twice = (scores.repeat(2), labels.repeat(2));
        let weights = vec![2.0; scores.len()];
        prop_assert_eq!(
            Calibration::fit_isotonic(&twice.0, &twice.1, None).unwrap(),
            Calibration::fit_isotonic(&scores, &labels, Some(&weights)).unwrap()
        );
    }

    #[test]
    fn no_sigmoid_beside_the_fitted_one_has_less_loss(labels in prop::collection::vec(any::<bool>(), 4..40), da in -0.3..0.3f64, db in -0.3..0.3f64) {
        let scores: Vec<f64> = (0..labels.len()).map(|i| i as f64 / 10.0).collect();
        let Calibration::Platt(fitted) = Calibration::fit_platt(&scores, &labels, None).unwrap() else { unreachable!() };
        prop_assume!(fitted.slope < 0.0);
        let positives = labels.iter().filter(|l| **l).count() as f64;
        let targets = [1.0 / (labels.len() as f64 - positives + 2.0), (positives + 1.0) / (positives + 2.0)];
        let points = Points { targets, rows: rows(paired(&scores, &labels, None).unwrap()).unwrap() };
        prop_assert!(log_loss(&points, fitted.slope, fitted.offset) <= log_loss(&points, fitted.slope + da, fitted.offset + db) + 1e-12);
    }
}
