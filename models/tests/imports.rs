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
    let modules = "import lightgbm, numpy, onnx, onnxruntime, xgboost, onnxmltools, skl2onnx, sklearn";
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
