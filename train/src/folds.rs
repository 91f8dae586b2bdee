//! Folds by device: failing and healthy devices dealt evenly, so that every fold has something to miss.

use crate::matrix::Matrix;

/// The fold of each device. The same seed gives the same folds, whatever the order of the archive's objects.
pub(crate) fn assign(matrix: &Matrix, folds: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..matrix.devices.len()).collect();
    order.sort_by_key(|d| (!matrix.failing(*d), xxhash_rust::xxh3::xxh3_64_with_seed(matrix.devices[*d].name.as_bytes(), seed)));
    let mut fold = vec![0; order.len()];
    for (place, device) in order.into_iter().enumerate() {
        fold[device] = place % folds;
    }
    fold
}
