//! Ensembles written as ONNX models, run by onnxruntime and read back.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;
use std::process::Command;

use homeward_models::ensemble::{Arithmetic, Ensemble, Link, Precision};
use homeward_models::import;
use homeward_models::onnx::to_onnx;

#[path = "../src/ensemble/grown.rs"]
#[allow(dead_code, unreachable_pub)]
mod grown;
use grown::{Chance, Shape, arithmetics};

const FEATURES: usize = 6;

fn shape(arithmetic: Arithmetic) -> Shape {
    // A coarse grid: many values equal a threshold. Of an odd denominator, so that they have no short form in 32 bits.
    Shape { trees: 12, leaves: 15, features: FEATURES, horizons: 1, arithmetic, grid: 7 }
}

fn names() -> Vec<String> {
    (0..FEATURES).map(|i| format!("signal_{i}.mean.60s")).collect()
}

/// Every arithmetic and link.
fn ensembles() -> Vec<Ensemble> {
    let mut chance = Chance(3);
    let links = [Link::Logistic, Link::Mean, Link::Identity];
    let all = arithmetics().into_iter().flat_map(|arithmetic| links.map(|link| (arithmetic, link)));
    all.map(|(arithmetic, link)| {
        let mut ensemble = shape(arithmetic).ensemble(&mut chance);
        ensemble.link = link;
        if link != Link::Logistic {
            // Shares of a probability.
            let most = if link == Link::Identity { 16.0 } else { 1.0 };
            ensemble.leaves.iter_mut().chain(&mut ensemble.base).for_each(|v| *v = arithmetic.sum.round(v.abs() / most));
        }
        ensemble.check().unwrap()
    })
    .collect()
}

#[test]
fn what_is_written_reads_back_to_the_same_leaves_and_reasons() {
    for ensemble in ensembles() {
        let back = import::onnx(&to_onnx(&ensemble, &names()).unwrap()).unwrap();
        assert_eq!((back.names.unwrap(), back.library), (names(), format!("homeward {}", env!("CARGO_PKG_VERSION"))));
        let rows = shape(ensemble.arithmetic).rows(&mut Chance(9), 200, 0.1);
        for row in rows.chunks_exact(FEATURES) {
            let (mut was, mut is) = ([0.0], [0.0]);
            ensemble.raw(row, &mut was);
            back.ensemble.raw(row, &mut is);
            let exact = ensemble.arithmetic.sum == ensemble.arithmetic.compare && ensemble.base == [0.0];
            let near =
                if ensemble.arithmetic.compare == Precision::F64 && ensemble.arithmetic.sum == Precision::F64 { 1e-14 } else { 2e-6 };
            assert!(if exact { was == is } else { (was[0] - is[0]).abs() < near }, "{was:?} {is:?}");
            for (was, is) in ensemble.roots.iter().zip(&back.ensemble.roots) {
                let (was, is) = (ensemble.walk(*was, row), back.ensemble.walk(*is, row));
                assert!((ensemble.cover[was] - back.ensemble.cover[is]).abs() < 1e-4, "another leaf");
            }
        }
    }
}

#[test]
fn several_horizons_are_refused() {
    let ensemble = Shape { horizons: 2, ..shape(Arithmetic::default()) }.ensemble(&mut Chance(1));
    assert!(to_onnx(&ensemble, &names()).unwrap_err().to_string().starts_with("2 horizons"));
}

/// `python3 -c` this with a folder of `N.onnx` and `N.json` (rows and risks).
const RUN: &str = r#"
import sys, json, glob, numpy as np, onnxruntime as ort, onnx
one = ort.SessionOptions(); one.intra_op_num_threads = one.inter_op_num_threads = 1
for file in sorted(glob.glob(sys.argv[1] + '/*.onnx')):
    onnx.checker.check_model(file)
    case = json.load(open(file.replace('.onnx', '.json')))
    s = ort.InferenceSession(file, one, providers=['CPUExecutionProvider'])
    kind = np.float64 if 'double' in s.get_inputs()[0].type else np.float32
    rows = np.array([[np.nan if v is None else v for v in r] for r in case['rows']], dtype=kind)
    label, p = s.run(None, {'features': rows})
    worst = np.abs(p[:, 1] - np.array(case['risks'])).max()
    assert p.shape == (len(rows), 2) and worst < 5e-7, (file, worst)
    assert ((p[:, 1] > 0.5) == (label == 1))[np.abs(p[:, 1] - 0.5) > 1e-6].all(), file
print(len(glob.glob(sys.argv[1] + '/*.onnx')))
"#;

fn write(dir: &Path, number: usize, ensemble: &Ensemble) {
    let rows = shape(ensemble.arithmetic).rows(&mut Chance(number as u64), 300, 0.1);
    let rows: Vec<&[f64]> = rows.chunks_exact(FEATURES).collect();
    let risk = |row: &&[f64]| {
        let mut risk = [0.0];
        ensemble.score(row, &mut risk);
        risk[0]
    };
    let risks: Vec<f64> = rows.iter().map(risk).collect();
    std::fs::write(dir.join(format!("{number}.onnx")), to_onnx(ensemble, &names()).unwrap()).unwrap();
    std::fs::write(dir.join(format!("{number}.json")), serde_json::json!({"rows": rows, "risks": risks}).to_string()).unwrap();
}

#[test]
fn onnxruntime_gives_the_same_risks() {
    if !Command::new("python3").args(["-c", "import numpy, onnx, onnxruntime"]).output().is_ok_and(|o| o.status.success()) {
        assert!(std::env::var_os("HOMEWARD_TEST_ALL").is_none(), "HOMEWARD_TEST_ALL is set, and python3 cannot import onnxruntime");
        return eprintln!("SKIPPED: ONNX models run by onnxruntime: python3 cannot import numpy, onnx, onnxruntime");
    }
    let dir = tempfile::tempdir().unwrap();
    for (number, ensemble) in ensembles().iter().enumerate() {
        write(dir.path(), number, ensemble);
    }
    let output = Command::new("python3").args(["-c", RUN]).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "24");
}
