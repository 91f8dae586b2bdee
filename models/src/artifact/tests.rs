//! Model files come back whole, old ones are read, and what does not fit is refused by name.

use super::*;
use crate::drift::Learner;
use crate::ensemble::{Arithmetic, Link, Node};
use crate::fleet::tests::small;

pub(crate) fn model() -> Model {
    let spec = FeatureSpec::new(&Fleet::check(&small()).unwrap());
    let n = spec.len();
    let nodes = vec![Node { feature: 0, threshold: 0.1 + 0.2, missing_left: true, left: -1, right: -2 }];
    let ensemble = Ensemble {
        link: Link::Mean,
        arithmetic: Arithmetic::default(),
        features: n,
        horizons: 1,
        base: vec![0.0],
        roots: vec![0],
        nodes,
        leaves: vec![0.1, 0.9],
        cover: vec![9.0, 1.0],
    };
    let mut row = vec![f64::NAN; n];
    row[0] = 0.4;
    let calibration = vec![Calibration::fit_isotonic(&[0.1, 0.9], &[false, true], None).unwrap()];
    let mut learner = Learner::new(n, &[row.clone()], &[0.5]);
    learner.add(0, &row, 0.5);
    let (decide, money) = (WrittenDecide::default(), WrittenCosts::default());
    let mut model = Model {
        spec,
        target: Target::Failure,
        horizons: vec![600_000],
        learner: "tree".into(),
        ensemble,
        calibration,
        threshold: 0.5,
        rules: Rules::check(&decide).unwrap(),
        decide,
        costs: Costs::check(&money, 600_000).unwrap(),
        money,
        typical: vec![1.0; n],
        drift: Some(learner.finish()),
        self_test: vec![],
        lineage: Lineage { objects: vec![], settings: "0".into(), seed: 1, code: "test".into() },
        metrics: serde_json::json!({"z": [1, 0.1], "a": null}),
    };
    let mut risks = vec![0.0];
    model.score(&row, &mut risks);
    model.self_test = vec![SelfTest { row, risks }];
    model
}

fn changed(from: &str, to: &str) -> Result<Model, BadModel> {
    let text = String::from_utf8(model().to_bytes().unwrap()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    Model::parse(text.replacen(from, to, 1).as_bytes())
}

#[test]
fn a_model_comes_back_from_its_bytes_to_the_last_bit() {
    let bytes = model().to_bytes().unwrap();
    let back = Model::parse(&bytes).unwrap();
    assert_eq!(back.to_bytes().unwrap(), bytes);
    assert_eq!(
        (&back.ensemble, &back.calibration, &back.drift, &back.metrics),
        (&model().ensemble, &model().calibration, &model().drift, &model().metrics)
    );
}

#[test]
fn scores_are_calibrated_before_they_accumulate() {
    let mut risks = [0.0];
    model().score(&model().self_test[0].row, &mut risks);
    assert_eq!(risks, [1.0], "0.9 is where the curve reaches 1");
    let mut laid_out = [0.0];
    model().scoring().score(&model().self_test[0].row, &mut laid_out);
    assert_eq!(laid_out[0].to_bits(), risks[0].to_bits());
}

#[test]
fn a_file_of_version_1_is_read_and_of_the_same_version_with_more_in_it_too() {
    let more = changed(r#"{"format""#, r#"{"more":[1],"format""#).unwrap();
    assert_eq!(more.to_bytes().unwrap(), model().to_bytes().unwrap());
    let plain = Model { calibration: vec![], drift: None, metrics: serde_json::Value::Null, self_test: vec![], ..model() };
    let mut text = String::from_utf8(plain.to_bytes().unwrap()).unwrap();
    for (new, old) in [
        (r#""calibration":[],"#, ""),
        (r#""residuals":[],"#, ""),
        (r#""drift":null,"#, ""),
        (r#","metrics":null"#, ""),
        (r#""version":2"#, r#""version":1"#),
    ] {
        assert!(text.contains(new), "{new} is not in {text}");
        text = text.replace(new, old);
    }
    assert_eq!(Model::parse(text.as_bytes()).unwrap().to_bytes().unwrap(), plain.to_bytes().unwrap());
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    assert!(changed("tree", "tree").is_ok());
    assert!(matches!(changed(r#""version":2"#, r#""version":3"#), Err(BadModel::Newer { version: 3, .. })));
    assert!(matches!(changed(r#""fingerprint":""#, r#""fingerprint":"0"#), Err(BadModel::Inconsistent(_))));
    assert!(matches!(changed(r#""leaves":[0.1,0.9]"#, r#""leaves":[0.1,0.8]"#), Err(BadModel::SelfTest { row: 0, .. })));
    assert!(matches!(changed(r#""scores":[0.1"#, r#""scores":[0.95"#), Err(BadModel::Calibration(_))));
    assert!(matches!(changed(r#""calibration":["#, r#""calibration":[{"kind":"identity"},"#), Err(BadModel::Calibration(_))));
    assert!(matches!(changed(r#""counts":[0,1,0]"#, r#""counts":[]"#), Err(BadModel::Drift(_))));
    assert!(matches!(changed(r#""left":-1"#, r#""left":0"#), Err(BadModel::Ensemble(_))));
    assert!(matches!(Model::parse(b"{}"), Err(BadModel::Unreadable(_))));
}
