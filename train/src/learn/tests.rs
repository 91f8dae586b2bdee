//! A whole learning over drawn histories, one column a minute: heat rises to 9 before an engine fails.

use super::*;
use crate::testing::{Drawn, fleet, history, settings};

/// What is drawn, kept.
type Owned = (String, String, String);

/// Engines that run cool for a while, get hot and fail, beside some that stay cool.
pub(crate) fn engines(failing: usize, healthy: usize) -> Vec<Owned> {
    let hot = |i: usize| {
        let cool = 30 + i % 7;
        let readings: String = (0..cool).map(|m| char::from(b'0' + (m % 3) as u8)).chain("6789".chars()).collect();
        let events = " ".repeat(cool + 3) + "F";
        (format!("hot-{i:02}"), readings, events)
    };
    let cool = |i: usize| (format!("cool-{i:02}"), (0..40).map(|m| char::from(b'0' + ((m + i) % 3) as u8)).collect(), String::new());
    (0..failing).map(hot).chain((0..healthy).map(cool)).collect()
}

pub(crate) fn learnt(devices: &[Owned], change: impl FnOnce(&mut crate::WrittenTrain)) -> Result<Learnt, TrainError> {
    let drawn: Vec<Drawn<'_>> = devices.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    let watch = Watch { progress: &|_| (), fitted: &|_, _| (), started: Instant::now() };
    let settings = settings(|t| {
        t.learner = "tree".into();
        change(t);
    });
    learn(&history(&drawn), &fleet(), &settings, None, &watch)
}

#[test]
fn what_announces_itself_is_called_and_the_oracle_costs_no_more() {
    let learnt = learnt(&engines(20, 10), |_| ()).unwrap();
    let e = &learnt.evaluation;
    assert_eq!((e.policy.called, e.policy.failures, e.policy.false_alarms), (20, 20, 0));
    assert!(e.verdict.better && !e.verdict.few);
    assert!(e.baselines.oracle.cost <= e.policy.cost && e.policy.cost < e.baselines.never.cost);
    assert!(e.baselines.always.cost > e.baselines.never.cost, "an alarm that is always on costs more than none");
    assert!(e.failures.iter().all(|f| f.outcome == "called" && f.named.as_deref() == Some("engine")), "{:?}", e.failures[0]);
    assert_eq!(e.failures.iter().filter(|f| f.held_out).count(), 4, "a fifth is held out");
    assert!(learnt.usage.positive_by_failure == 80 && learnt.usage.confirmed == 0, "{:?}", learnt.usage);
}

#[test]
fn the_same_history_gives_the_same_bytes() {
    let bytes = || learnt(&engines(12, 4), |_| ()).unwrap().model.to_bytes().unwrap();
    assert_eq!(bytes(), bytes());
}

#[test]
fn a_model_file_reads_back_with_its_calibration_and_self_test() {
    let model = learnt(&engines(12, 4), |_| ()).unwrap().model;
    let back = Model::parse(&model.to_bytes().unwrap()).unwrap();
    assert_eq!((back.threshold, back.calibration.len(), back.self_test.len() > 4), (model.threshold, 1, true));
}

#[test]
fn fewer_than_ten_failures_are_judged_one_left_out_each_and_never_promoted_by_themselves() {
    let learnt = learnt(&engines(5, 5), |_| ()).unwrap();
    assert!(learnt.evaluation.verdict.few && learnt.evaluation.hold_out.is_none());
    let (promote, why) = crate::gate::judge(crate::Promote::Better, &learnt.evaluation);
    assert!(!promote && why.contains(" of 5 called in time (95 % interval "), "{why}");
    assert!(crate::gate::judge(crate::Promote::Always, &learnt.evaluation).0);
}

#[test]
fn too_little_says_what_is_there_and_what_is_needed() {
    let said = |devices: &[Owned]| learnt(devices, |_| ()).err().map(|e| e.to_string()).unwrap_or_default();
    assert_eq!(
        said(&engines(1, 0)),
        "too little data: found 1 device, needed at least two devices: one is held out while the others teach"
    );
    assert!(
        said(&engines(1, 3)).ends_with(
            "with 1 of 4 devices, needed such events of at least two devices, or learner = \"novelty\", which learns from healthy ones"
        ),
        "{}",
        said(&engines(1, 3))
    );
    let flat: Vec<Owned> = engines(12, 4).into_iter().map(|(n, r, e)| (n, ".".repeat(r.len()), e)).collect();
    assert!(said(&flat).contains("found no signal that ever changes"), "{}", said(&flat));
}

#[test]
fn a_confirmed_inspection_teaches_by_its_last_readings_and_is_counted_apart() {
    let mut devices = engines(12, 4);
    devices[0].2 = devices[0].2.replace('F', "C");
    let usage = learnt(&devices, |_| ()).unwrap().usage;
    assert_eq!((usage.failures, usage.confirmed, usage.positive_by_inspection, usage.positive_by_failure), (12, 1, 2, 44));
}

#[test]
fn success_does_not_poison_repaired_engines_teach_nothing_wrong() {
    // Half of the engines were called home while hot, and repaired: none of their hot readings may count as healthy.
    let mut devices = engines(24, 4);
    for device in devices.iter_mut().take(12) {
        device.2 = device.2.replace('F', "M");
    }
    let learnt = learnt(&devices, |_| ()).unwrap();
    assert_eq!(learnt.usage.censored, 12 * 4 - 12 + 4 * 3, "the last horizon before a repair and before the end of the data");
    let policy = learnt.evaluation.policy;
    assert!(policy.failures == 12 && policy.called >= 11, "{} of {}", policy.called, policy.failures);
}

#[test]
fn faults_that_are_present_are_found_and_priced() {
    let devices: Vec<Owned> = engines(12, 4)
        .into_iter()
        .map(|(name, readings, events)| {
            let fault = events.find('F').map(|at| format!("{}f", " ".repeat(at - 3))).unwrap_or_default();
            (name, readings, fault)
        })
        .collect();
    let learnt = learnt(&devices, |t| t.target = "present".into()).unwrap();
    let e = &learnt.evaluation;
    assert_eq!((e.policy.failures, e.policy.called, e.policy.false_alarms), (12, 12, 0));
    assert!(e.failures.iter().all(|f| f.lead_ms <= 2 * crate::testing::M), "found within two minutes of its begin");
    assert!(e.baselines.always.cost > e.baselines.never.cost);
}

#[test]
fn fits_are_counted_up_to_one_short_of_all_of_them() {
    let devices = engines(20, 10);
    let drawn: Vec<Drawn<'_>> = devices.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    let told = std::cell::RefCell::new(Vec::new());
    let fitted = |done, of| told.borrow_mut().push((done, of));
    let watch = Watch { progress: &|_| (), fitted: &fitted, started: Instant::now() };
    let settings = settings(|t| t.trials = 1);
    learn(&history(&drawn), &fleet(), &settings, None, &watch).unwrap();
    // One boost, tree and forest over five folds and the hold-out, and the model in service.
    let expected: Vec<(usize, usize)> = (1..=18).map(|done| (done, 19)).collect();
    assert_eq!(told.into_inner(), expected);
}
