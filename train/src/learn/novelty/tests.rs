//! A fleet before its first failure, learnt from whole: drawn histories, one column a minute.

use homeward_models::artifact::Model;
use homeward_models::form::Form;

use super::*;
use crate::testing::{Drawn, fleet, history, settings};
use crate::{Promote, WrittenTrain, gate, report};

type Owned = (String, String, String);

/// Engines that run cool, each a little otherwise, and never fail.
fn cool(count: usize, minutes: usize) -> Vec<Owned> {
    let heat = |engine: usize, minute: usize| char::from(b'0' + ((minute * (engine + 3) + engine * engine) % 4) as u8);
    (0..count).map(|e| (format!("cool-{e:02}"), (0..minutes).map(|m| heat(e, m)).collect(), String::new())).collect()
}

fn learnt_by(
    devices: &[Owned],
    champion: Option<Champion>,
    change: impl FnOnce(&mut WrittenTrain),
) -> (Result<Learnt, TrainError>, Vec<String>) {
    let drawn: Vec<Drawn<'_>> = devices.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    let said = std::cell::RefCell::new(Vec::new());
    let tell = |word: &str| said.borrow_mut().push(word.to_owned());
    let watch = Watch { progress: &tell, fitted: &|_, _| (), started: std::time::Instant::now() };
    let learnt = super::super::learn(&history(&drawn), &fleet(), &settings(change), champion, &watch);
    (learnt, said.into_inner())
}

fn learnt(devices: &[Owned], change: impl FnOnce(&mut WrittenTrain)) -> Learnt {
    learnt_by(devices, None, change).0.unwrap()
}

fn novelty(train: &mut WrittenTrain) {
    train.learner = "novelty".into();
}

fn terms(model: &Model) -> &Novelty {
    let Form::Novelty(novelty) = &model.form else { panic!("{:?}", model.form) };
    novelty
}

#[test]
fn a_fleet_that_has_not_failed_gets_a_model_that_calls_what_is_strange() {
    let learnt = learnt(&cool(8, 60), novelty);
    let (model, e) = (&learnt.model, &learnt.evaluation);
    assert_eq!((model.learner.as_str(), e.policy.failures, e.policy.false_alarms), ("novelty", 0, 0));
    assert!(model.threshold < 1.0, "it can call: {}", model.threshold);
    let means: Vec<String> = terms(model).terms.iter().map(|t| model.spec.name(t.feature as usize)).collect();
    assert_eq!(means, ["heat.mean.60s"]);
    let risk = |heat: f64| {
        let mut row = vec![f64::NAN; model.spec.len()];
        row[terms(model).terms[0].feature as usize] = heat;
        let mut risks = [0.0];
        model.score(&row, &mut risks);
        risks[0]
    };
    assert!(risk(1.5) < model.threshold && risk(9.0) >= model.threshold);
    let back = Model::parse(&model.to_bytes().unwrap()).unwrap();
    assert!(back.self_test.len() > 4 && back.drift.is_some());
    assert_eq!(back.to_bytes().unwrap(), model.to_bytes().unwrap());
}

#[test]
fn the_threshold_keeps_to_the_false_alarms_that_are_borne_out_of_fold_and_no_lower_one_does() {
    // One engine has a hot minute in each of its six flights, and nothing came of it.
    let mut devices = cool(20, 120);
    for flight in 0..6 {
        devices[3].1.replace_range(flight * 20 + 5..flight * 20 + 6, "9");
    }
    let flights = |minutes: &str| minutes.chars().enumerate().map(|(m, c)| if m % 20 < 9 { c } else { ' ' }).collect::<String>();
    devices.iter_mut().for_each(|d| d.1 = flights(&d.1));
    let mut before = 0.0;
    for borne in [0.0, 100.0, 200.0, 3000.0] {
        let e = learnt(&devices, |t| {
            novelty(t);
            t.false_alarms_per_1000h = borne;
        })
        .evaluation;
        // Without failures money is that of false alarms, 100 each: over all lives, each judged by a form that does not know its device.
        let given = |threshold: f64| e.cost_curve.iter().find(|c| c.0 == threshold).unwrap().1 * 10.0;
        assert!(given(e.threshold) <= borne, "{} at {} of {borne}", given(e.threshold), e.threshold);
        let lower = e.cost_curve.iter().map(|c| c.0).filter(|t| *t < e.threshold).fold(f64::NAN, f64::max);
        assert!(lower.is_nan() || given(lower) > borne, "{} at {lower} is borne as well", given(lower));
        assert!(given(e.threshold) >= before && e.threshold < 1.0);
        before = given(e.threshold);
    }
    assert!(before > 200.0);
}

#[test]
fn a_device_is_judged_by_a_form_that_does_not_know_it() {
    // One engine runs where no other does: known, it would widen what counts as healthy.
    let mut devices = cool(10, 60);
    devices[4].1 = "9".repeat(60);
    let strange = learnt(&devices, novelty).evaluation;
    let curve: Vec<f64> = strange.cost_curve.iter().map(|c| c.0).filter(|t| *t <= 1.0).collect();
    let highest = curve.iter().copied().fold(0.0, f64::max);
    let z2 = highest / (1.0 - highest);
    // Heat 9 among heats of 0 to 3 with a deviation of about 0.6 of their means; were it known, a tenth of all rows would hold 9, and none be 3 deviations off.
    assert!(z2 > 30.0, "{z2}");
    assert!(strange.threshold > 0.9);
}

#[test]
fn auto_is_novelty_until_two_have_failed_and_says_so() {
    let mut devices = cool(8, 60);
    devices[2].2 = " ".repeat(59) + "F";
    let (found, said) = learnt_by(&devices, None, |_| ());
    let found = found.unwrap();
    assert_eq!((found.model.learner.as_str(), found.evaluation.policy.failures), ("novelty", 1));
    assert!(said.iter().any(|s| s == "1 of 8 devices failed, too few for trees to learn from: novelty it is"), "{said:?}");
    devices[3].2 = " ".repeat(59) + "F";
    assert_ne!(learnt(&devices, |t| t.trials = 1).model.learner, "novelty");
    // Asked for, it takes any number.
    let two = learnt(&devices, novelty);
    assert_eq!((two.model.learner.as_str(), two.evaluation.policy.failures), ("novelty", 2));
}

#[test]
fn a_champion_of_trees_is_not_given_up_for_want_of_failures() {
    let mut devices = cool(8, 60);
    for d in [1, 2, 3, 4] {
        devices[d].1.replace_range(50..60, "6789678967");
        devices[d].2 = " ".repeat(59) + "F";
    }
    let champion = |model: Model| Some(Champion { version: "v".into(), model, until: 0 });
    let trees = learnt(&devices, |t| t.learner = "tree".into()).model;
    let (found, _) = learnt_by(&cool(8, 60), champion(trees), |_| ());
    assert!(found.err().unwrap().to_string().ends_with("or learner = \"novelty\", which learns from healthy ones"));
    let (found, _) = learnt_by(&cool(8, 60), champion(learnt(&cool(8, 60), novelty).model), |_| ());
    assert_eq!(found.unwrap().model.learner, "novelty");
}

#[test]
fn without_failures_it_is_promoted_on_request_alone_and_the_report_says_that_there_were_none() {
    let learnt = learnt(&cool(8, 60), novelty);
    let (promoted, why) = gate::judge(Promote::Better, &learnt.evaluation);
    assert!(!promoted);
    assert_eq!(
        why,
        "no failure that could prove anything: 0 false alarms in 7.9 operating hours, fewer than the 1000 hours in which one is allowed; promote with promote = \"always\""
    );
    assert!(gate::judge(Promote::Always, &learnt.evaluation).0);
    let metrics = crate::Metrics::new(&learnt.evaluation, &learnt.usage, &learnt.model, &learnt.tried, 0.0);
    assert_eq!((metrics.average_precision, metrics.brier, metrics.saved), (None, None, None));
    let text = serde_json::to_string(&metrics).unwrap();
    assert!(text.contains("\"false_alarms_allowed\":1.0") && !text.contains("NaN"), "{text}");
    let frame = report::Frame { name: "t", version: "v", why: &why, promoted };
    let page = report::html(&frame, &learnt, &metrics).unwrap();
    for (word, stands) in [
        ("There was no failure", true),
        ("its risk a score and no probability", true),
        ("NaN", false),
        (">inf", false),
        ("How true its risks", false),
    ] {
        let around = page.find(word).map(|at| &page[at.saturating_sub(200)..at + 20]);
        assert_eq!(around.is_some(), stands, "{word}: {around:?}");
    }
}

#[test]
fn failures_are_priced_as_for_the_others_where_there_are_some() {
    let mut devices = cool(24, 60);
    for (d, device) in devices.iter_mut().enumerate().take(12) {
        device.1.replace_range(30 + d..34 + d, "6789");
        device.1.truncate(34 + d);
        device.2 = " ".repeat(33 + d) + "F";
    }
    let learnt = learnt(&devices, novelty);
    let e = &learnt.evaluation;
    // The threshold lies just above the healthy readings of the other folds: an engine a little farther off is called for nothing.
    let p = e.policy;
    assert!(p.failures == 12 && p.called >= 11 && p.false_alarms <= 3, "{p:?}");
    assert!(e.verdict.better && !e.verdict.few && e.baselines.oracle.cost <= e.policy.cost && e.policy.cost < e.baselines.never.cost);
    assert!(e.rows.average_precision > 0.95, "{}", e.rows.average_precision);
    assert!(e.failures.iter().all(|f| f.named.as_deref() == (f.outcome == "called").then_some("engine")), "{:?}", e.failures);
    assert!(e.hold_out.is_some_and(|h| h.policy.called > 0));
    // What comes before a failure is not healthy: had it been learnt as such, 9 would be usual.
    let mean = terms(&learnt.model).terms[0].mean;
    assert!((mean - 1.5).abs() < 0.1, "{mean}");
    assert_eq!(learnt.importance.components[0].0, "engine");
}

/// Runs hot with a fault that is reported and then repaired: no failure, and yet nothing to learn health from.
#[test]
fn what_a_reported_fault_looks_like_is_not_healthy_whatever_the_target() {
    for target in ["failure", "present"] {
        let mut devices = cool(8, 60);
        devices[0].1.replace_range(30..46, &"9".repeat(16));
        devices[0].2 = format!("{}f{}M", " ".repeat(33), " ".repeat(12));
        let learnt = learnt(&devices, |t| {
            novelty(t);
            t.target = target.into();
        });
        let mean = terms(&learnt.model).terms[0].mean;
        assert!((mean - 1.5).abs() < 0.05, "{target}: {mean}");
    }
}

#[test]
fn of_several_horizons_it_knows_the_last() {
    let learnt = learnt(&cool(8, 60), |t| {
        novelty(t);
        t.horizons = vec!["2m".into(), "3m".into()];
    });
    assert_eq!(learnt.model.horizons, [3 * crate::testing::M]);
    assert!(Model::parse(&learnt.model.to_bytes().unwrap()).is_ok());
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let bytes = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| learnt(&cool(20, 60), novelty).model.to_bytes().unwrap())
    };
    assert_eq!(bytes(1), bytes(3));
}
