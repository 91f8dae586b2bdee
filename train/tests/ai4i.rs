//! The learners on AI4I 2020, ten thousand independent rows: average precision over five folds, beside LightGBM's on the same folds.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use homeward_train::binned::Binned;
use homeward_train::learners::{Boost, Forest, Learner, Sample, Targets, Tree};

const FOLDS: usize = 5;
/// Columns that define the target and must not be features.
const REASONS: [&str; 5] = ["TWF", "HDF", "PWF", "OSF", "RNF"];

/// A public data set where it is: `HOMEWARD_TEST_DATA`, or `shared/data` beside the clone; else a loud skip.
fn data(file: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let path = std::env::var_os("HOMEWARD_TEST_DATA").map_or_else(beside, PathBuf::from).join(file);
    if !path.exists() {
        assert!(std::env::var_os("HOMEWARD_TEST_ALL").is_none(), "HOMEWARD_TEST_ALL is set, and {} is not there", path.display());
        eprintln!("SKIPPED: ai4i: {} is not there; set HOMEWARD_TEST_DATA to the folder of public data sets", path.display());
        return None;
    }
    Some(path)
}

struct Rows {
    features: usize,
    values: Vec<f64>,
    failed: Vec<bool>,
}

/// Type (L, M, H as 0, 1, 2) and the five measured columns.
fn read(path: &Path) -> Rows {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let target = names.iter().position(|name| *name == "Machine failure").unwrap();
    let skipped = |name: &&str| REASONS.contains(name) || ["UDI", "Product ID", "Machine failure"].contains(name);
    let columns: Vec<usize> = (0..names.len()).filter(|c| !skipped(&names[*c])).collect();
    assert_eq!(columns.len(), 6, "{names:?}");
    let mut rows = Rows { features: columns.len(), values: Vec::new(), failed: Vec::new() };
    for line in lines {
        let number =
            |c: &usize| ["L", "M", "H"].iter().position(|t| *t == line[*c]).map_or_else(|| line[*c].parse().unwrap(), |t| t as f64);
        rows.values.extend(columns.iter().map(number));
        rows.failed.push(line[target] == "1");
    }
    assert_eq!((rows.failed.len(), rows.failed.iter().filter(|f| **f).count()), (10_000, 339));
    rows
}

/// The fold of a row: rows are independent, so any mixing does.
fn fold(row: usize) -> usize {
    ((row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % FOLDS
}

/// Mean average precision over the folds.
fn average_precision(rows: &Rows, risks: &[f64]) -> f64 {
    let of = |held_out: usize| {
        let mut ranked: Vec<(f64, bool)> = (0..risks.len()).filter(|r| fold(*r) == held_out).map(|r| (risks[r], rows.failed[r])).collect();
        ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let (mut hits, mut seen, mut sum) = (0.0, 0.0, 0.0);
        for tie in ranked.chunk_by(|a, b| a.0 == b.0) {
            let new = tie.iter().filter(|r| r.1).count() as f64;
            (hits, seen) = (hits + new, seen + tie.len() as f64);
            sum += new * hits / seen;
        }
        sum / hits
    };
    (0..FOLDS).map(of).sum::<f64>() / FOLDS as f64
}

/// Risk of every row by a learner that has not seen its fold; bins, too, are placed by the other folds.
fn out_of_fold(rows: &Rows, learner: &Learner) -> Vec<f64> {
    let mut risks = vec![0.0; rows.failed.len()];
    for held_out in 0..FOLDS {
        let (others, scored): (Vec<usize>, Vec<usize>) = (0..risks.len()).partition(|row| fold(*row) != held_out);
        let row = |row: &usize| &rows.values[row * rows.features..][..rows.features];
        let values: Vec<f64> = others.iter().flat_map(row).copied().collect();
        let binned = Binned::from_rows(&values, rows.features, 255);
        let targets = Targets::binary(others.iter().map(|row| rows.failed[*row]));
        let all: Vec<u32> = (0..others.len() as u32).collect();
        let ensemble = learner.fit(Sample::new(&binned, &all), &targets).unwrap().to_ensemble(&binned).check().unwrap();
        for at in scored {
            ensemble.score(row(&at), &mut risks[at..=at]);
        }
    }
    risks
}

/// LightGBM's out-of-fold risks on the same folds, or a loud skip without it.
fn lightgbm(rows: &Rows) -> Option<Vec<f64>> {
    let found = Command::new("python3").args(["-c", "import lightgbm, numpy"]).output().is_ok_and(|o| o.status.success());
    if !found {
        assert!(std::env::var_os("HOMEWARD_TEST_ALL").is_none(), "HOMEWARD_TEST_ALL is set, and python3 cannot import lightgbm");
        eprintln!("SKIPPED: ai4i beside LightGBM: python3 cannot import it here");
        return None;
    }
    let mut text = String::new();
    for (row, values) in rows.values.chunks(rows.features).enumerate() {
        let values: Vec<String> = values.iter().map(f64::to_string).collect();
        writeln!(text, "{},{},{}", fold(row), u8::from(rows.failed[row]), values.join(",")).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rows.csv");
    std::fs::write(&file, text).unwrap();
    let script = r#"
import sys, numpy as np, lightgbm as lgb
rows = np.loadtxt(sys.argv[1], delimiter=",")
fold, y, x, risk = rows[:, 0], rows[:, 1], rows[:, 2:], np.zeros(len(rows))
params = dict(objective="binary", num_leaves=31, learning_rate=0.1, max_bin=255, num_threads=2, verbose=-1, seed=1, deterministic=True)
for f in range(5):
    risk[fold == f] = lgb.train(params, lgb.Dataset(x[fold != f], y[fold != f]), 100).predict(x[fold == f])
print("\n".join(map(repr, map(float, risk))))
"#;
    let output = Command::new("python3").args(["-c", script]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect())
}

#[test]
fn boost_ranks_as_well_as_lightgbm_and_beats_forest_and_tree() {
    let Some(path) = data("ai4i2020/ai4i2020.csv") else { return };
    let rows = read(&path);
    let of = |learner: Learner| average_precision(&rows, &out_of_fold(&rows, &learner));
    // The same rounds, leaves, learning rate, rows a leaf and ridge as LightGBM's defaults.
    let boost = of(Learner::Boost(Boost { rounds: 100, learning_rate: 0.1, l2: 0.0, ..Boost::default() }));
    let (forest, tree) = (of(Learner::Forest(Forest::default())), of(Learner::Tree(Tree::default())));
    eprintln!("ai4i: average precision, mean of five folds: boost {boost:.4} forest {forest:.4} tree {tree:.4}");
    assert!(boost > 0.8 && forest > 0.75 && tree > 0.25, "boost {boost} forest {forest} tree {tree}");
    assert!(boost > tree);
    if let Some(risks) = lightgbm(&rows) {
        let lightgbm = average_precision(&rows, &risks);
        eprintln!("ai4i: LightGBM {lightgbm:.4}");
        assert!(boost >= lightgbm - 0.003, "boost {boost} LightGBM {lightgbm}");
    }
}
