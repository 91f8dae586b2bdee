//! What the flat form promises: which leaf a row reaches, what a sum is, and which forms are refused.

use proptest::prelude::*;

use super::*;

fn node(feature: u32, threshold: f64, missing_left: bool, left: i32, right: i32) -> Node {
    Node { feature, threshold, missing_left, left, right }
}

/// x0 ≤ 1 → (0.1, 0.2); else x1 ≤ 5 → (0.3, 0.4), else (0.5, 0.5).
fn two_horizons() -> Ensemble {
    Ensemble {
        link: Link::Mean,
        arithmetic: Arithmetic::default(),
        features: 2,
        horizons: 2,
        base: vec![0.0; 2],
        roots: vec![0],
        nodes: vec![node(0, 1.0, false, -1, 1), node(1, 5.0, true, -2, -3)],
        leaves: vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.5],
        cover: vec![6.0, 3.0, 1.0],
    }
    .check()
    .unwrap()
}

/// One split of feature 0 at `threshold`: −1 to the left, +1 to the right, beginning with 0.5.
fn stump(arithmetic: Arithmetic, threshold: f64) -> Ensemble {
    Ensemble {
        link: Link::Identity,
        arithmetic,
        features: 1,
        horizons: 1,
        base: vec![0.5],
        roots: vec![0],
        nodes: vec![node(0, threshold, false, -1, -2)],
        leaves: vec![-1.0, 1.0],
        cover: vec![1.0, 1.0],
    }
}

fn raw(ensemble: &Ensemble, row: &[f64]) -> f64 {
    let mut sums = [0.0];
    ensemble.raw(row, &mut sums);
    sums[0]
}

fn score(row: &[f64]) -> [f64; 2] {
    let mut risks = [0.0; 2];
    two_horizons().score(row, &mut risks);
    risks
}

#[test]
fn rows_reach_their_leaf_and_risk_never_falls_with_the_horizon() {
    assert_eq!(score(&[1.0, 9.0]), [0.1 - 0.0, 1.0 - 0.9 * 0.8].map(|r: f64| 1.0 - (1.0 - r)));
    assert_eq!(score(&[1.5, 5.0])[0], 1.0 - 0.7);
    assert_eq!(score(&[1.5, 5.1])[0], 0.5);
    assert_eq!(score(&[f64::NAN, f64::NAN])[0], 1.0 - 0.7, "missing: right at the root, left below it");
    assert!(score(&[2.0, 9.0])[1] >= score(&[2.0, 9.0])[0]);
}

#[test]
fn values_meet_thresholds_as_the_arithmetic_says() {
    let f32s = Arithmetic { compare: Precision::F32, ..Arithmetic::default() };
    let below = Arithmetic { left: Left::Below, ..f32s };
    let just_above = 1.0 + 1e-12;
    assert_eq!(raw(&stump(Arithmetic::default(), 1.0), &[1.0]), -0.5);
    assert_eq!(raw(&stump(Arithmetic::default(), 1.0), &[just_above]), 1.5);
    assert_eq!(raw(&stump(f32s, 1.0), &[just_above]), -0.5, "the same number in 32 bits");
    assert_eq!(raw(&stump(below, 1.0), &[1.0]), 1.5);
    assert_eq!(raw(&stump(below, 1.0), &[1.0 - 1e-12]), 1.5);
    assert_eq!(raw(&stump(below, 1.0), &[0.9]), -0.5);
    assert_eq!(raw(&stump(below, 1.0), &[f64::NAN]), 1.5);
}

#[test]
fn sums_are_rounded_after_each_tree_as_the_arithmetic_says() {
    let tiny = f64::from(1e-9f32);
    let mut e = stump(Arithmetic::default(), 1.0);
    (e.roots, e.leaves) = (vec![0, -3], vec![-1.0, 1.0, tiny]);
    e.cover.push(1.0);
    assert_eq!(raw(&e.clone().check().unwrap(), &[0.0]), -0.5 + tiny);
    e.arithmetic.sum = Precision::F32;
    assert_eq!(raw(&e.check().unwrap(), &[0.0]), -0.5);
}

#[test]
fn what_a_file_without_arithmetic_says_is_the_default() {
    let text = serde_json::to_string(&two_horizons()).unwrap();
    assert!(!text.contains("arithmetic"));
    assert_eq!(serde_json::from_str::<Ensemble>(&text).unwrap(), two_horizons());
    let other = stump(Arithmetic { compare: Precision::F32, left: Left::Below, sum: Precision::F32 }, 1.0);
    let text = serde_json::to_string(&other).unwrap();
    assert!(text.contains(r#""arithmetic":{"compare":"f32","left":"below","sum":"f32"}"#), "{text}");
    assert_eq!(serde_json::from_str::<Ensemble>(&text).unwrap(), other);
}

#[test]
fn an_ensemble_that_could_loop_or_panic_is_refused() {
    let with = |change: &dyn Fn(&mut Ensemble)| {
        let mut e = two_horizons();
        change(&mut e);
        e.check()
    };
    assert!(with(&|_| ()).is_ok());
    assert!(with(&|e| e.nodes[1].left = 0).is_err(), "a loop");
    assert!(with(&|e| e.nodes[1].left = -1).is_err(), "a leaf that hangs twice");
    assert!(with(&|e| e.roots.push(0)).is_err(), "a tree twice");
    assert!(with(&|e| e.nodes.push(node(0, 0.0, true, -2, -3))).is_err(), "a node that hangs from nowhere");
    assert!(with(&|e| e.nodes[0].feature = 2).is_err());
    assert!(with(&|e| e.nodes[0].threshold = f64::NAN).is_err());
    assert!(with(&|e| e.nodes[0].threshold = f64::INFINITY).is_err(), "no number in JSON");
    assert!(with(&|e| e.nodes[0].left = -9).is_err());
    assert!(with(&|e| e.nodes[0].left = i32::MIN).is_err());
    assert!(with(&|e| e.roots[0] = 7).is_err());
    assert!(with(&|e| e.leaves[0] = f64::NAN).is_err());
    assert!(with(&|e| e.cover[0] = -1.0).is_err());
    assert!(with(&|e| e.leaves.truncate(5)).is_err());
    assert!(with(&|e| e.horizons = usize::MAX).is_err());
    let narrow = |e: &mut Ensemble| e.arithmetic = Arithmetic { compare: Precision::F32, sum: Precision::F64, left: Left::AtMost };
    assert!(with(&narrow).is_ok());
    assert!(with(&|e| e.arithmetic.sum = Precision::F32).is_err(), "0.1 has no 32 bits");
}

#[test]
fn a_tree_too_deep_is_refused() {
    let chain = |n: i32| Ensemble {
        nodes: (0..n).map(|i| node(0, 0.0, true, -1 - i, if i + 1 < n { i + 1 } else { -1 - n })).collect(),
        leaves: vec![0.0; n as usize + 1],
        cover: vec![1.0; n as usize + 1],
        ..stump(Arithmetic::default(), 0.0)
    };
    assert!(chain(1024).check().is_ok());
    assert!(chain(1025).check().unwrap_err().to_string().contains("more than 1024"));
}

proptest! {
    #[test]
    fn one_comparison_in_64_bits_says_what_the_arithmetic_says(at in 0usize..8, threshold in bound(), value in near()) {
        let arithmetic = grown::arithmetics()[at];
        let threshold = arithmetic.compare.round(threshold);
        let value = value(threshold);
        let e = stump(arithmetic, threshold);
        prop_assert_eq!(value <= arithmetic.at_most(threshold), e.goes_left(&e.nodes[0], value), "{} at {}", value, threshold);
    }
}

fn bound() -> impl Strategy<Value = f64> {
    let edges = [0.0, -0.0, 1.0, -1.0, f64::from(f32::MIN_POSITIVE), 1e-45, -1e-45, f64::from(f32::MAX), f64::from(f32::MIN), 1.5];
    prop_oneof![prop::sample::select(edges.to_vec()), -2.0..2.0, any::<f32>().prop_filter("finite", |x| x.is_finite()).prop_map(f64::from)]
}

/// A value at or next to a threshold, in either precision, or half-way to the next.
fn near() -> impl Strategy<Value = fn(f64) -> f64> {
    let all: [fn(f64) -> f64; 11] = [
        |t| t,
        f64::next_up,
        f64::next_down,
        |t| f64::from((t as f32).next_up()),
        |t| f64::from((t as f32).next_down()),
        |t| f64::midpoint(t, f64::from((t as f32).next_up())),
        |t| f64::midpoint(t, f64::from((t as f32).next_down())),
        |t| f64::midpoint(t, f64::from((t as f32).next_up())).next_up(),
        |t| f64::midpoint(t, f64::from((t as f32).next_up())).next_down(),
        |t| f64::midpoint(t, f64::from((t as f32).next_down())).next_up(),
        |t| f64::midpoint(t, f64::from((t as f32).next_down())).next_down(),
    ];
    prop::sample::select(all.to_vec())
}
