//! Imported models against what their own libraries said of the same rows: missing values and values equal to a threshold among them.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;
use std::process::Command;

use homeward_models::ensemble::{Ensemble, Explainer};
use homeward_models::import::{self, Imported};
use serde::Deserialize;

/// What a library said.
#[derive(Deserialize)]
struct Expected {
    file: String,
    rows: Vec<Vec<Option<f64>>>,
    raw: Vec<f64>,
    /// What each feature added, then the expected value.
    contributions: Option<Vec<Vec<f64>>>,
}

fn read(dir: &Path, file: &str) -> Imported {
    let format = match file.rsplit_once('.').unwrap().1 {
        "json" => import::Format::Xgboost,
        "txt" => import::Format::Lightgbm,
        _ => import::Format::Onnx,
    };
    import::read(format, &std::fs::read(dir.join(file)).unwrap()).unwrap()
}

fn row(written: &[Option<f64>]) -> Vec<f64> {
    written.iter().map(|v| v.unwrap_or(f64::NAN)).collect()
}

/// LightGBM computes contributions in 64 bits, XGBoost in 32.
fn check_contributions(expected: &Expected, ensemble: &Ensemble, contributions: &[Vec<f64>]) {
    let near = if expected.file.starts_with("lightgbm") { 1e-6 } else { 1e-5 };
    let explainer = Explainer::new(ensemble);
    let mut added = vec![0.0; ensemble.features];
    for (i, (values, contributions)) in expected.rows.iter().zip(contributions).enumerate() {
        explainer.contributions(&row(values), 0, &mut added);
        for (found, expected) in added.iter().chain(&[explainer.expected(0)]).zip(contributions) {
            assert!((found - expected).abs() < near, "row {i}: {found} for {expected}");
        }
        assert_eq!(contributions.len(), added.len() + 1);
    }
}

/// Compares every case of a folder; says how many.
fn check(dir: &Path) -> usize {
    let files = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path());
    let cases: Vec<_> = files.filter(|f| f.to_string_lossy().ends_with(".expected.json")).collect();
    for case in &cases {
        let expected: Expected = serde_json::from_slice(&std::fs::read(case).unwrap()).unwrap();
        let model = read(dir, &expected.file);
        let (mut missing, mut equal) = (0, 0);
        for (i, (values, raw)) in expected.rows.iter().zip(&expected.raw).enumerate() {
            let (values, mut found) = (row(values), [0.0]);
            model.ensemble.raw(&values, &mut found);
            assert_eq!(found[0].to_bits(), raw.to_bits(), "{} row {i}: {} for {raw}", expected.file, found[0]);
            missing += values.iter().filter(|v| v.is_nan()).count();
            equal += model.ensemble.nodes.iter().filter(|n| values[n.feature as usize] == n.threshold).count();
        }
        if let Some(contributions) = &expected.contributions {
            check_contributions(&expected, &model.ensemble, contributions);
        }
        assert!(missing > 0 || expected.file.starts_with("onnx_forest") || expected.file.starts_with("onnx_boosted"));
        assert!(equal > 0, "{}: no value equals a threshold", expected.file);
    }
    cases.len()
}

#[test]
fn raw_scores_are_the_libraries_own_to_the_last_bit() {
    assert_eq!(check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")), 9);
}

#[test]
fn raw_scores_of_models_written_now_are_the_libraries_own() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/make.py");
    let modules = "import lightgbm, numpy, pandas, onnx, onnxruntime, xgboost, onnxmltools, skl2onnx, sklearn";
    if !Command::new("python3").args(["-c", modules]).output().is_ok_and(|o| o.status.success()) {
        assert!(std::env::var_os("HOMEWARD_TEST_ALL").is_none(), "HOMEWARD_TEST_ALL is set, and python3 cannot: {modules}");
        return eprintln!("SKIPPED: models written now: python3 cannot {modules}");
    }
    let dir = tempfile::tempdir().unwrap();
    let seed = std::process::id().to_string();
    let output = Command::new("python3").arg(script).arg(dir.path()).arg(&seed).output().unwrap();
    assert!(output.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(check(dir.path()), 9, "seed {seed}");
}

fn fixture(file: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file)).unwrap()
}

/// What is said of a fixture in which the first `from` is `to`.
fn refused(file: &str, from: &str, to: &str) -> String {
    let text = String::from_utf8(fixture(file)).unwrap();
    assert!(text.contains(from), "{from} is not in {file}");
    let format = if file.ends_with("json") { import::Format::Xgboost } else { import::Format::Lightgbm };
    import::read(format, text.replacen(from, to, 1).as_bytes()).unwrap_err().to_string()
}

#[test]
fn what_has_no_place_in_an_ensemble_is_refused_by_name() {
    let model = "learner.gradient_booster.model";
    for (file, from, to, says) in [
        ("xgboost.json", "\"binary:logistic\"", "\"multi:softprob\"", "learner.objective.name: found \"multi:softprob\""),
        ("xgboost.json", "\"num_class\":\"0\"", "\"num_class\":\"3\"", "learner.learner_model_param.num_class: found 3"),
        ("xgboost.json", "\"name\":\"gbtree\"", "\"name\":\"dart\"", "learner.gradient_booster.name: found \"dart\""),
        ("xgboost.json", "\"tree_info\":[0", "\"tree_info\":[1", &format!("{model}.tree_info[0]: found 1")),
        ("xgboost.json", "\"split_type\":[0", "\"split_type\":[1", &format!("{model}.trees[0].split_type[0]: found a categorical split")),
        ("xgboost.json", "\"left_children\":[1", "\"left_children\":[999", &format!("{model}.trees[0]: found child 999")),
        ("xgboost.json", "\"left_children\":[1", "\"left_children\":[0", &format!("{model}.trees[0]: found node 0 below two nodes")),
        ("xgboost.json", "\"default_left\":[", "\"default_left\":[1,", &format!("{model}.trees[0].default_left: found")),
        ("xgboost.json", "\"base_score\":\"", "\"base_score\":\"x", "learner.learner_model_param.base_score: found"),
        ("xgboost.json", "{\"learner\"", "\"learner\"", "file: found no JSON"),
        ("lightgbm.txt", "objective=binary sigmoid:1", "objective=multiclass", "header.objective: found \"multiclass\""),
        ("lightgbm.txt", "objective=binary sigmoid:1", "objective=binary sigmoid:2", "header.objective"),
        ("lightgbm.txt", "objective=", "average_output\nobjective=", "header.average_output: found a random forest"),
        ("lightgbm.txt", "num_class=1", "num_class=2", "header.num_class: found 2"),
        ("lightgbm.txt", "is_linear=0", "is_linear=1", "Tree=0.is_linear: found a linear tree"),
        ("lightgbm.txt", "decision_type=", "decision_type=1 ", "Tree=0.decision_type: found 15 values"),
        ("lightgbm.txt", "threshold=", "threshold=nan ", "Tree=0.threshold: found 15 values"),
        ("lightgbm.txt", "left_child=1", "left_child=99", "Tree=1.left_child[0]: found 99"),
        ("lightgbm.txt", "Tree=1", "Tree=7", "Tree=7: found 7, expected 1"),
        ("lightgbm.txt", "end of trees", "end", "end: found no line"),
        ("lightgbm.txt", "tree\n", "forest\n", "line 1: found \"forest\""),
    ] {
        let said = refused(file, from, to);
        assert!(said.starts_with(says) && said.contains(", expected "), "{from} → {to}: {said}");
    }
    let categorical = refused("lightgbm.txt", "decision_type=10", "decision_type=9");
    assert!(categorical.starts_with("Tree=0.decision_type[0]: found a categorical split"), "{categorical}");
    assert!(import::onnx(b"tree").unwrap_err().to_string().starts_with("file: found no protobuf"));
}

#[test]
fn columns_are_found_by_name_in_any_order_or_by_position_if_there_are_as_many() {
    let model = import::lightgbm(&fixture("lightgbm.txt")).unwrap();
    let mut names = model.names.clone().unwrap();
    names.reverse();
    names.insert(0, "other".into());
    let over = model.clone().over(&names).unwrap();
    let row: Vec<f64> = (0..9).map(f64::from).collect();
    let own: Vec<f64> = (0..8).rev().map(|i| f64::from(i + 1)).collect();
    let (mut is, mut was) = ([0.0], [0.0]);
    over.raw(&row, &mut is);
    model.ensemble.raw(&own, &mut was);
    assert_eq!(is, was);
    let missing = model.over(&names[..8]).unwrap_err().to_string();
    assert!(missing.contains("\"signal_0.mean.60s\"") && missing.contains("one of the fleet's 8 features"), "{missing}");
    let nameless = import::onnx(&fixture("onnx_forest.onnx")).unwrap();
    assert!(nameless.clone().over(&names[1..]).is_ok());
    assert!(nameless.over(&names).unwrap_err().to_string().contains("8 columns without names"));
}
