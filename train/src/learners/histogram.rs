//! Histograms of packed gradients: a cell a code, eight features together.

use rayon::prelude::*;

use crate::binned::LANES;

/// Cells of one feature, by code.
pub(crate) type Cells = [u64; 256];
/// Cells of a block of features: 16 KiB, half of a first-level cache.
pub(crate) type BlockCells = [Cells; LANES];

/// Rows that a task adds up at once.
const CHUNK: usize = 1 << 16;

/// Sets `cells` to the sums of `gradients` by code, over the first `lanes` features of a block; the i-th gradient is that of row `rows[i]`.
pub(crate) fn count(codes: &[[u8; LANES]], rows: &[u32], gradients: &[u64], lanes: usize, cells: &mut BlockCells) {
    cells[..lanes].iter_mut().for_each(|cells| cells.fill(0));
    if rows.len() <= CHUNK {
        return add(codes, rows, gradients, lanes, cells);
    }
    let parts = rows.par_chunks(CHUNK).zip(gradients.par_chunks(CHUNK)).fold(
        || Box::new([[0; 256]; LANES]),
        |mut part, (rows, gradients)| {
            add(codes, rows, gradients, lanes, &mut part);
            part
        },
    );
    let sum = parts.reduce_with(|mut a, b| {
        add_cells(&mut a, &b);
        a
    });
    if let Some(sum) = sum {
        add_cells(cells, &sum);
    }
}

fn add_cells(to: &mut BlockCells, from: &BlockCells) {
    for (to, from) in to.as_flattened_mut().iter_mut().zip(from.as_flattened()) {
        *to = to.wrapping_add(*from);
    }
}

/// Sets `parent` to itself less `child`: the other child.
pub(crate) fn subtract(parent: &mut BlockCells, child: &BlockCells, lanes: usize) {
    for (parent, child) in parent[..lanes].as_flattened_mut().iter_mut().zip(child[..lanes].as_flattened()) {
        *parent = parent.wrapping_sub(*child);
    }
}

fn add(codes: &[[u8; LANES]], rows: &[u32], gradients: &[u64], lanes: usize, cells: &mut BlockCells) {
    match lanes {
        1 => add_lanes::<1>(codes, rows, gradients, cells),
        2 => add_lanes::<2>(codes, rows, gradients, cells),
        3 => add_lanes::<3>(codes, rows, gradients, cells),
        4 => add_lanes::<4>(codes, rows, gradients, cells),
        5 => add_lanes::<5>(codes, rows, gradients, cells),
        6 => add_lanes::<6>(codes, rows, gradients, cells),
        7 => add_lanes::<7>(codes, rows, gradients, cells),
        _ => add_lanes::<LANES>(codes, rows, gradients, cells),
    }
}

/// The innermost loop of all learning: no branch, no bounds check but one a row, no order that matters.
fn add_lanes<const L: usize>(codes: &[[u8; LANES]], rows: &[u32], gradients: &[u64], cells: &mut BlockCells) {
    for (row, gradient) in rows.iter().zip(gradients) {
        let codes = &codes[*row as usize];
        for lane in 0..L {
            let cell = &mut cells[lane][usize::from(codes[lane])];
            *cell = cell.wrapping_add(*gradient);
        }
    }
}
