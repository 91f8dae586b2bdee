//! What must hold for every ensemble that was read and checked, whoever wrote it.

use homeward_models::ensemble::{Ensemble, Explainer, Scorer};
use homeward_models::import::{BadImport, Imported};
use homeward_models::onnx::to_onnx;

/// Wider rows are not made: a file may say any number of columns.
const WIDEST: usize = 1 << 16;

/// Narrower rows are made in dozens.
const NARROW: usize = 64;

/// Rows at, below and above the ensemble's own thresholds, and without any value.
fn rows(ensemble: &Ensemble) -> Vec<f64> {
    let mut rows = vec![f64::NAN; 4 * ensemble.features];
    for (i, row) in rows.chunks_exact_mut(ensemble.features).take(3).enumerate() {
        for node in &ensemble.nodes {
            row[node.feature as usize] = [node.threshold, node.threshold.next_down(), node.threshold.next_up()][i];
        }
    }
    rows
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The scorer gives the bits of the plain walk, and contributions add up to the raw score.
pub fn check(ensemble: &Ensemble) {
    if ensemble.features == 0 || ensemble.features > WIDEST {
        return;
    }
    let (rows, horizons) = (rows(ensemble), ensemble.horizons);
    let (scorer, explainer) = (Scorer::new(ensemble.clone()), Explainer::new(ensemble));
    // Often enough that they fill a block that is scored at once, unless they are wide.
    let copies = if ensemble.features <= NARROW { 17 } else { 1 };
    let mut all = vec![0.0; 4 * copies * horizons];
    scorer.raw_rows(&rows.repeat(copies), &mut all);
    assert!(all.chunks_exact(4 * horizons).all(|copy| bits(copy) == bits(&all[..4 * horizons])));
    let largest = ensemble.leaves.iter().chain(&ensemble.base).fold(1.0, |most: f64, v| most.max(v.abs()));
    let mut added = vec![0.0; ensemble.features];
    for (row, all) in rows.chunks_exact(ensemble.features).zip(all.chunks_exact(horizons)) {
        let (mut plain, mut one) = (vec![0.0; horizons], vec![0.0; horizons]);
        ensemble.raw(row, &mut plain);
        scorer.raw(row, &mut one);
        assert_eq!((bits(&plain), bits(&one)), (bits(all), bits(all)));
        explainer.contributions(row, horizons - 1, &mut added);
        // Sums of 32 bits are rounded as contributions are not.
        let near = largest * ensemble.roots.len() as f64 * if ensemble.arithmetic.sum == Default::default() { 1e-9 } else { 1e-5 };
        let sum = explainer.expected(horizons - 1) + added.iter().sum::<f64>();
        assert!((sum - plain[horizons - 1]).abs() <= near || !near.is_finite() || !plain[horizons - 1].is_finite(), "{sum} for {plain:?}");
    }
}

/// An imported model is a checked one, an error says something, and what is written as ONNX reads back.
pub fn imported(outcome: Result<Imported, BadImport>) {
    match outcome {
        Err(bad) => assert!(!bad.place.is_empty() && !bad.expected.is_empty(), "{bad:?}"),
        Ok(imported) => {
            let ensemble = imported.ensemble.clone().check().unwrap();
            assert!(imported.names.as_ref().is_none_or(|names| names.len() == ensemble.features));
            check(&ensemble);
            if ensemble.features <= WIDEST {
                let names: Vec<String> = (0..ensemble.features).map(|f| f.to_string()).collect();
                let written = to_onnx(&ensemble, &names).unwrap();
                // Leaves that 32 bits cannot hold, or weights below 0 that are no probability, are refused on the way back.
                if let Ok(back) = homeward_models::import::onnx(&written) {
                    assert_eq!((back.ensemble.nodes.len(), back.names), (ensemble.nodes.len(), Some(names)));
                }
            }
        }
    }
}
