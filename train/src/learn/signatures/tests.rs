//! Signatures are learnt of the failures that may teach a part and of no others, and their algebra holds.

use std::time::Instant;

use super::*;
use crate::learn::Watch;
use crate::learn::tests::engines;
use crate::plan::Plan;
use crate::testing::{Drawn, fleet, history, settings};

/// The signatures of each part, and of all devices, with whether a device teaches the part; `change` redraws devices.
fn learnt(change: impl Fn(&mut Vec<(String, String, String)>)) -> Vec<(Vec<bool>, Option<WrittenSignatures>)> {
    let mut devices = engines(20, 10);
    change(&mut devices);
    let drawn: Vec<Drawn<'_>> = devices.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    let (history, fleet, settings) = (history(&drawn), fleet(), settings(|_| ()));
    let base = Matrix::build(&history, &FeatureSpec::new(&fleet), &settings).unwrap();
    let plan = Plan::new(&base, &settings, None);
    let watch = Watch { progress: &|_| (), fitted: &|_, _| (), started: Instant::now() };
    let work = Work { history: &history, fleet: &fleet, settings: &settings, base: &base, plan: &plan, watch: &watch };
    let past = shared(&work).unwrap();
    let parts: Vec<Option<Part>> = plan.parts().map(Some).chain([None]).collect();
    let of = |part: Option<Part>| {
        let teaches = (0..base.devices.len()).map(|d| part.is_none_or(|part| plan.teaches(d, part))).collect();
        let signatures = of(&work, past.as_ref(), base.spec(), part).unwrap();
        (teaches, signatures.map(|s| s.written().clone()))
    };
    parts.into_iter().map(of).collect()
}

#[test]
fn a_part_is_named_by_the_failures_of_its_teachers_alone() {
    let (before, after) = (learnt(|_| ()), learnt(|devices| devices[3].1 = devices[3].1.replace('9', "4").replace('1', "2")));
    let mut untouched = 0;
    for ((teaches, before), (_, after)) in before.iter().zip(&after) {
        let past = &before.as_ref().unwrap().past;
        assert_eq!(past.len(), teaches[..20].iter().filter(|teaches| **teaches).count());
        assert!(past.iter().all(|p| p.component == "engine" && p.direction[0] > 2.0), "hotter than healthy: {past:?}");
        assert_eq!(before == after, !teaches[3]);
        untouched += usize::from(!teaches[3]);
    }
    assert!(untouched >= 1 && untouched < before.len());
}

#[test]
fn where_nobody_said_what_failed_there_are_none() {
    assert!(learnt(|devices| devices.iter_mut().for_each(|d| d.2.clear())).iter().all(|(_, signatures)| signatures.is_none()));
}

#[test]
fn a_triangle_times_itself_turned_is_the_matrix() {
    let lower = cholesky(vec![4.0, 2.0, 2.0, 2.0, 5.0, 3.0, 2.0, 3.0, 6.0], 3).unwrap();
    assert_eq!(lower, [2.0, 1.0, 2.0, 1.0, 1.0, 2.0]);
    assert_eq!(cholesky(vec![1.0, 2.0, 2.0, 1.0], 2), None, "no matrix of correlations");
}

#[test]
fn what_siblings_do_is_true_of_each_of_them() {
    // Columns 1, 2 and 3 are siblings; 0 goes with 1 in what was seen.
    let swap = |siblings, columns: [usize; 4]| Exchange { siblings, columns: columns.into() };
    let exchanges = [swap([0, 1], [0, 2, 1, 3]), swap([1, 2], [0, 1, 3, 2])];
    let rows: [&[f64]; 4] = [&[1.0, 1.0, 1.0, -1.0], &[-1.0, -1.0, 1.0, 1.0], &[1.0, 1.0, -1.0, 1.0], &[-1.0, -1.0, -1.0, -1.0]];
    let found = correlations(&rows, &Scale::new(&rows, 4), &exchanges);
    let near = |at: usize, expected: f64| assert!((found[at] - expected).abs() < 1e-12, "{at}: {} for {expected}", found[at]);
    for i in 1..4 {
        near(i, 0.99 / 3.0);
        near(i * 4, 0.99 / 3.0);
        near(i * 5, 1.0);
    }
    assert!([found[6], found[7], found[11]].iter().all(|x| *x == found[6]), "every pair of siblings alike");
}

#[test]
fn many_failures_of_one_component_are_thinned_evenly_and_few_are_kept() {
    let of = |component: &str, n: usize| {
        (0..n).map(|i| WrittenSignature { component: component.into(), direction: vec![i as f64] }).collect::<Vec<_>>()
    };
    let kept = spread([of("a", 130), of("b", 3)].concat());
    let firsts: Vec<f64> = kept.iter().filter(|p| p.component == "a").map(|p| p.direction[0]).collect();
    assert_eq!((firsts.len(), firsts[0], firsts[43]), (44, 0.0, 129.0));
    assert_eq!(kept.len(), 47);
}
