//! Model files come back whole, old ones are read, and what does not fit is refused by name.

use super::*;
use crate::drift::Learner;
use crate::ensemble::{Arithmetic, Link, Node};
use crate::fleet::tests::small;
use crate::novelty::Term;

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
        form: Form::Ensemble(ensemble),
        calibration,
        threshold: 0.5,
        rules: Rules::check(&decide).unwrap(),
        decide,
        costs: Costs::check(&money, 600_000).unwrap(),
        money,
        typical: vec![1.0; n],
        drift: Some(learner.finish()),
        signatures: None,
        self_test: vec![],
        lineage: Lineage { objects: vec![], settings: "0".into(), seed: 1, code: "test".into() },
        metrics: serde_json::json!({"z": [1, 0.1], "a": null}),
    };
    let mut risks = vec![0.0];
    model.score(&row, &mut risks);
    model.self_test = vec![SelfTest { row, risks }];
    model
}

/// The same fleet before its first failure.
pub(crate) fn novel() -> Model {
    let model = model();
    let n = model.spec.len();
    let form = Form::Novelty(Novelty { features: n, terms: vec![Term { feature: 0, mean: 0.1, inverse: 3.7 }] });
    let (calibration, row) = (vec![], model.self_test[0].row.clone());
    let mut risks = vec![0.0];
    form.risks(&row, &calibration, &mut risks);
    Model { form, calibration, learner: "novelty".into(), self_test: vec![SelfTest { row, risks }], ..model }
}

fn changed(from: &str, to: &str) -> Result<Model, BadModel> {
    changed_of(&model(), from, to)
}

fn changed_of(model: &Model, from: &str, to: &str) -> Result<Model, BadModel> {
    let text = String::from_utf8(model.to_bytes().unwrap()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    Model::parse(text.replacen(from, to, 1).as_bytes())
}

#[test]
fn a_model_comes_back_from_its_bytes_to_the_last_bit() {
    let bytes = model().to_bytes().unwrap();
    let back = Model::parse(&bytes).unwrap();
    assert_eq!(back.to_bytes().unwrap(), bytes);
    assert_eq!(
        (&back.form, &back.calibration, &back.drift, &back.metrics),
        (&model().form, &model().calibration, &model().drift, &model().metrics)
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
fn a_novelty_model_comes_back_from_its_bytes_to_the_last_bit() {
    let (novel, bytes) = (novel(), novel().to_bytes().unwrap());
    let back = Model::parse(&bytes).unwrap();
    assert_eq!((back.to_bytes().unwrap(), &back.form), (bytes, &novel.form));
    let Form::Novelty(form) = &novel.form else { panic!() };
    let (mut plain, mut laid_out, scoring) = ([0.0], [0.0], back.scoring());
    for far in 0..100 {
        let mut row = novel.self_test[0].row.clone();
        // From the very mean on: of a risk below a half 1 − (1 − risk) is another number.
        row[0] = 0.1 + f64::from(far) / 70.0;
        back.score(&row, &mut plain);
        scoring.score(&row, &mut laid_out);
        assert_eq!([plain[0].to_bits(), laid_out[0].to_bits()], [form.risk(&row).to_bits(); 2]);
    }
    assert!(plain[0] > 0.5, "farther than healthy rows: {plain:?}");
}

#[test]
fn signatures_come_back_and_a_file_without_them_is_read_as_it_was() {
    let spec = model().spec;
    let written = crate::naming::tests::written(&[("motor_1", [0.0, 0.1 + 0.2, 0.0, 1.0]), ("esc", [0.0, 1.0, 0.5, 0.0])]);
    for model in [model(), novel()] {
        let without = model.to_bytes().unwrap();
        assert!(!String::from_utf8_lossy(&without).contains("signatures") && Model::parse(&without).unwrap().signatures.is_none());
        let model = Model { signatures: Some(Signatures::check(written.clone(), &spec).unwrap()), ..model };
        let bytes = model.to_bytes().unwrap();
        let back = Model::parse(&bytes).unwrap();
        assert_eq!((back.to_bytes().unwrap() == bytes, &back.signatures), (true, &model.signatures));
        let refused = changed_of(&model, r#""direction":[0.0,1.0"#, r#""direction":[1.0"#).unwrap_err();
        assert_eq!(refused.to_string(), "model file: signatures.past[1].direction: found 3 values, expected 4");
        assert!(matches!(changed_of(&model, r#""direction":[0.0,1.0"#, r#""direction":[0.0,null"#), Err(BadModel::Unreadable(_))));
    }
}

#[test]
fn an_older_reader_takes_what_it_can_score_and_is_told_that_a_novelty_model_is_newer() {
    let version = |model: &Model| serde_json::from_slice::<Head>(&model.to_bytes().unwrap()).unwrap().version;
    assert_eq!((version(&model()), version(&novel())), (2, 3));
}

#[test]
fn a_model_has_exactly_one_form() {
    let both = changed(r#""ensemble":{"#, r#""novelty":{"features":1,"terms":[]},"ensemble":{"#);
    assert_eq!(both.unwrap_err().to_string(), "model file: found both, expected exactly one of ensemble and novelty");
    assert!(matches!(changed(r#""ensemble":{"#, r#""ensembles":{"#), Err(BadModel::Form("neither"))));
}

#[test]
fn a_novelty_model_that_does_not_fit_is_refused_by_name() {
    let changed = |from: &str, to: &str| changed_of(&novel(), from, to).unwrap_err();
    assert!(matches!(changed(r#""inverse":3.7"#, r#""inverse":-3.7"#), BadModel::Novelty(_)));
    assert!(matches!(changed(r#""inverse":3.7"#, r#""inverse":3.8"#), BadModel::SelfTest { row: 0, .. }));
    assert!(matches!(changed(r#""calibration":[]"#, r#""calibration":[{"kind":"identity"}]"#), BadModel::Calibration(_)));
    let several = changed(r#""horizons_ms":[600000]"#, r#""horizons_ms":[60000,600000]"#);
    assert_eq!(several.to_string(), "model file: horizons_ms: found 2, expected 1, as many as its form has");
    let features = format!(r#""novelty":{{"features":{}"#, novel().spec.len());
    assert!(matches!(changed(&features, r#""novelty":{"features":1"#), BadModel::Inconsistent(_)));
}

#[test]
fn a_novelty_model_has_no_trees_to_be_written_as_onnx() {
    let refused = crate::onnx::form_to_onnx(&novel().form, &[]).unwrap_err().to_string();
    assert!(refused.starts_with("a novelty model: it has no trees"), "{refused}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    assert!(changed("tree", "tree").is_ok());
    assert!(matches!(changed(r#""version":2"#, r#""version":4"#), Err(BadModel::Newer { version: 4, .. })));
    assert!(matches!(changed(r#""fingerprint":""#, r#""fingerprint":"0"#), Err(BadModel::Inconsistent(_))));
    assert!(matches!(changed(r#""leaves":[0.1,0.9]"#, r#""leaves":[0.1,0.8]"#), Err(BadModel::SelfTest { row: 0, .. })));
    assert!(matches!(changed(r#""scores":[0.1"#, r#""scores":[0.95"#), Err(BadModel::Calibration(_))));
    assert!(matches!(changed(r#""calibration":["#, r#""calibration":[{"kind":"identity"},"#), Err(BadModel::Calibration(_))));
    assert!(matches!(changed(r#""counts":[0,1,0]"#, r#""counts":[]"#), Err(BadModel::Drift(_))));
    assert!(matches!(changed(r#""left":-1"#, r#""left":0"#), Err(BadModel::Ensemble(_))));
    assert!(matches!(Model::parse(b"{}"), Err(BadModel::Unreadable(_))));
}
