//! Times and scores a learner on a matrix that others read too: `benches/peers/learners.py` runs it beside LightGBM on the same bytes.
//!
//!     learners MATRIX [threads] [key=value…]
//!
//! A matrix file holds, little-endian: rows, rows to fit on, features (u64 each); values (f64, row after row); outcomes (one byte a row).
//! Prints one line of JSON: wall-clock and processor seconds to bin and fit, average precision over the rows not fitted on.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use homeward_train::binned::Binned;
use homeward_train::learners::{Boost, Forest, Healthy, LearnError, Learner, Moments, NoveltySettings, Sample, Targets, Tree, Unchecked};
use linfa::dataset::DatasetBase;
use linfa::traits::Fit;

struct Matrix {
    fit_rows: usize,
    features: usize,
    values: Vec<f64>,
    failed: Vec<bool>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let matrix = read(&args.next().ok_or("which matrix?")?)?;
    let threads = args.next().map_or(Ok(2), |n| n.parse())?;
    let learner = learner(args)?;
    let line = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?.install(|| run(&matrix, learner.as_ref()))?;
    println!("{line}");
    Ok(())
}

fn read(path: &str) -> Result<Matrix, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let word = |i: usize| -> Result<[u8; 8], Box<dyn Error>> { Ok(bytes.get(i * 8..i * 8 + 8).ok_or("too short")?.try_into()?) };
    let size = |i: usize| word(i).map(|w| u64::from_le_bytes(w) as usize);
    let (rows, fit_rows, features) = (size(0)?, size(1)?, size(2)?);
    let values = (0..rows * features).map(|i| word(i + 3).map(f64::from_le_bytes)).collect::<Result<_, _>>()?;
    let failed = bytes.get((rows * features + 3) * 8..).ok_or("too short")?.iter().map(|b| *b == 1).collect();
    Ok(Matrix { fit_rows, features, values, failed })
}

/// Settings as the peers have them, unless told otherwise; none for `learner=novelty`.
fn learner(args: impl Iterator<Item = String>) -> Result<Option<Learner>, Box<dyn Error>> {
    let mut boost = Boost { rounds: 100, learning_rate: 0.1, l2: 0.0, ..Boost::default() };
    let (mut forest, mut tree) = (Forest::default(), Tree::default());
    let mut name = "boost".to_string();
    for arg in args {
        let (key, value) = arg.split_once('=').ok_or("key=value")?;
        match key {
            "learner" => name = value.into(),
            "rounds" => boost.rounds = value.parse()?,
            "learning_rate" => boost.learning_rate = value.parse()?,
            "leaves" => boost.leaves = value.parse()?,
            "min_rows" => (boost.min_rows, forest.min_rows) = (value.parse()?, value.parse()?),
            "min_weight" => boost.min_weight = value.parse()?,
            "l2" => boost.l2 = value.parse()?,
            "row_sample" => boost.row_sample = value.parse()?,
            "column_sample" => boost.column_sample = value.parse()?,
            "seed" => (boost.seed, forest.seed) = (value.parse()?, value.parse()?),
            "trees" => forest.trees = value.parse()?,
            "split_features" => forest.split_features = Some(value.parse()?),
            "depth" => tree.depth = value.parse()?,
            other => return Err(format!("no setting {other}").into()),
        }
    }
    match name.as_str() {
        "boost" => Ok(Some(Learner::Boost(boost))),
        "forest" => Ok(Some(Learner::Forest(forest))),
        "tree" => Ok(Some(Learner::Tree(tree))),
        "novelty" => Ok(None),
        other => Err(format!("no learner {other}").into()),
    }
}

/// Higher is more alarming.
type Score = dyn Fn(&[f64]) -> f64;

/// A fitted learner, whichever.
struct Scorer {
    score: Box<Score>,
    /// Seconds that binning took.
    binning: f64,
    /// Leaves or terms.
    size: usize,
}

/// Fits and scores `learner`; none is `novelty`.
fn run(matrix: &Matrix, learner: Option<&Learner>) -> Result<String, LearnError> {
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let Scorer { score, binning, size } = learner.map_or_else(|| novelty(matrix), |learner| fit(matrix, learner))?;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let held_out = matrix.values.chunks(matrix.features).zip(&matrix.failed).skip(matrix.fit_rows);
    let ap = average_precision(held_out.map(|(row, failed)| (score(row), *failed)).collect());
    let name = learner.map_or("novelty", Learner::name);
    Ok(format!(
        "{{\"learner\": \"{name}\", \"seconds\": {seconds:.4}, \"cpu_seconds\": {cpu:.2}, \"binning\": {binning:.4}, \"average_precision\": {ap:.5}, \"size\": {size}}}"
    ))
}

fn fit(matrix: &Matrix, learner: &Learner) -> Result<Scorer, LearnError> {
    let started = Instant::now();
    let binned = Binned::from_rows(&matrix.values[..matrix.fit_rows * matrix.features], matrix.features, 255);
    let binning = started.elapsed().as_secs_f64();
    let rows: Vec<u32> = (0..matrix.fit_rows as u32).collect();
    let targets = Targets::binary(matrix.failed[..matrix.fit_rows].iter().copied());
    let ensemble = learner.fit(Sample::new(&binned, &rows), &targets)?.to_ensemble(&binned);
    let size = ensemble.cover.len();
    let score = move |row: &[f64]| {
        let mut risk = [0.0];
        ensemble.score(row, &mut risk);
        risk[0]
    };
    Ok(Scorer { score: Box::new(score), binning, size })
}

/// Fits on the rows that did not fail alone.
fn novelty(matrix: &Matrix) -> Result<Scorer, LearnError> {
    let fitted = matrix.values.chunks(matrix.features).zip(&matrix.failed).take(matrix.fit_rows);
    let mut healthy = Moments::new(matrix.features, 0..matrix.features);
    fitted.filter(|(_, failed)| !**failed).for_each(|(row, _)| healthy.add(row));
    let novelty = Unchecked::new(NoveltySettings::default()).fit(&DatasetBase::new(Healthy(&healthy), ()))?;
    let size = novelty.terms.len();
    Ok(Scorer { score: Box::new(move |row: &[f64]| novelty.score(row)), binning: 0.0, size })
}

/// Processor time of this process so far, to a hundredth; NaN where there is no /proc.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    // User and system time are the 14th and 15th field, in hundredths of a second.
    fields.get(11..13).map_or(f64::NAN, |times| (times[0] + times[1]) / 100.0)
}

/// Mean of the precision at each positive; rows of one risk count together, as in scikit-learn.
fn average_precision(mut rows: Vec<(f64, bool)>) -> f64 {
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let positives = rows.iter().filter(|r| r.1).count() as f64;
    let (mut hits, mut seen, mut sum) = (0.0, 0.0, 0.0);
    for tie in rows.chunk_by(|a, b| a.0 == b.0) {
        let new = tie.iter().filter(|r| r.1).count() as f64;
        (hits, seen) = (hits + new, seen + tie.len() as f64);
        sum += new * hits / seen;
    }
    sum / positives
}
