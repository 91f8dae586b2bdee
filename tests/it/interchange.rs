//! Models of other libraries into the registry and out again.

use homeward_models::import;
use serde_json::Value;

use crate::harness::{Site, beside_others, workspace};

const FIXTURES: &str = "models/tests/fixtures";

/// A fleet whose signals give the features that the fixtures were learnt on, `signal_0.mean.60s` and so on, among others.
fn fleet(signals: usize, rest: &str) -> Site {
    let signal = |i: usize| format!("signal_{i} = {{ at = \"/s/{i}\", unit = \"1\", range = [-100, 100] }}\n");
    let signals: String = (0..signals).rev().map(signal).collect();
    Site::new(&format!("[fleet]\nname = \"pump\"\nwindows = [\"10s\", \"60s\"]\n[fleet.signals]\n{signals}{rest}"))
}

fn fixture(file: &str) -> String {
    workspace(&format!("{FIXTURES}/{file}")).to_str().unwrap().to_owned()
}

/// What the library said of its rows, against the exported model on the same rows, its columns found by name.
fn assert_scores(exported: &[u8], expected: &str) {
    let model = import::onnx(exported).unwrap();
    let names = model.names.unwrap();
    let expected: Value = serde_json::from_slice(&std::fs::read(fixture(expected)).unwrap()).unwrap();
    for (values, raw) in expected["rows"].as_array().unwrap().iter().zip(expected["raw"].as_array().unwrap()) {
        let value = |name: &String| {
            let i: usize = name.strip_prefix("signal_")?.strip_suffix(".mean.60s")?.parse().ok()?;
            values[i].as_f64()
        };
        let row: Vec<f64> = names.iter().map(|name| value(name).unwrap_or(f64::NAN)).collect();
        let mut found = [0.0];
        model.ensemble.raw(&row, &mut found);
        let raw = raw.as_f64().unwrap();
        assert!((found[0] - raw).abs() <= 1e-6 * raw.abs().max(1.0), "{} for {raw}", found[0]);
    }
}

#[test]
fn a_foreign_model_is_stored_promoted_on_request_and_written_as_onnx() {
    let _turn = beside_others();
    let site = fleet(8, "");
    for (file, format, expected, library) in [
        ("lightgbm.txt", "lightgbm", "lightgbm.expected.json", "lightgbm format v4"),
        ("xgboost.json", "xgboost", "xgboost.expected.json", "xgboost 3.2.0"),
    ] {
        let said = site.json(&["models", "import", &fixture(file), "--format", format, "--threshold", "0.4"]);
        let version = said["version"].as_str().unwrap();
        let metrics = &site.json(&["models", "show", version])["metrics"];
        assert_eq!((&metrics["evaluated"], &metrics["imported"]["library"]), (&false.into(), &library.into()), "{metrics}");
        let listed = site.json(&["models", "list"]);
        assert!(listed.as_array().unwrap().iter().any(|v| v["version"] == version && v["champion"] == false), "{listed}");
        site.ok(&["models", "promote", version]);
        let out = site.path("model.onnx");
        site.ok(&["models", "export", "--out", out.to_str().unwrap()]);
        assert_scores(&std::fs::read(out).unwrap(), expected);
    }
}

#[test]
fn what_does_not_fit_the_fleet_is_named() {
    let _turn = beside_others();
    let lightgbm = fixture("lightgbm.txt");
    let refused = |site: &Site, args: &[&str], exit: i32, names: &str| {
        let done = site.run(&[&["models", "import"][..], args].concat());
        assert!(done.code == Some(exit) && done.stderr.contains(names), "{args:?}: {:?} {}", done.code, done.stderr);
    };
    let base = [lightgbm.as_str(), "--format", "lightgbm", "--threshold"];
    refused(&fleet(7, ""), &[&base[..], &["0.4"]].concat(), 1, "\"signal_7.mean.60s\"");
    refused(&fleet(8, ""), &[&base[..], &["1.5"]].concat(), 2, "--threshold");
    refused(&fleet(8, "[train]\nhorizons = [\"5m\", \"10m\"]\n"), &[&base[..], &["0.4"]].concat(), 2, "--horizon");
    refused(&fleet(8, ""), &[&fixture("onnx_forest.onnx"), "--format", "onnx", "--threshold", "0.4"], 1, "8 columns without names");
    refused(&fleet(8, ""), &[&lightgbm, "--format", "xgboost", "--threshold", "0.4"], 1, "no JSON");
}
