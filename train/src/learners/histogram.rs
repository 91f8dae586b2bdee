//! Histograms of packed gradients: a cell a code, eight features together.

use rayon::prelude::*;

use crate::binned::{Block, LANES};

/// Cells of one feature, by code.
pub(crate) type Cells = [u64; 256];
/// Cells of a block of features: 16 KiB, half of a first-level cache.
pub(crate) type BlockCells = [Cells; LANES];

/// Rows that a task adds up at once.
const CHUNK: usize = 1 << 13;
/// Rows whose codes are fetched ahead.
const FETCH: usize = 256;

/// Rows of a leaf with their gradients.
#[derive(Clone, Copy)]
pub(crate) struct Leaf<'a> {
    pub(crate) rows: &'a [u32],
    /// Of the i-th row.
    pub(crate) gradients: &'a [u64],
}

/// Codes of a group of blocks, row after row.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    pub(crate) codes: &'a [Block],
    /// Blocks a row.
    pub(crate) width: usize,
    /// Features of the group.
    pub(crate) features: usize,
}

/// Sets `cells` (a block each) to the sums of the leaf's gradients by code.
pub(crate) fn count(group: Group<'_>, leaf: Leaf<'_>, cells: &mut [BlockCells]) {
    cells.as_flattened_mut()[..group.features].iter_mut().for_each(|cells| cells.fill(0));
    if leaf.rows.len() <= 2 * CHUNK {
        return add(group, leaf, cells);
    }
    let chunks = leaf.rows.par_chunks(CHUNK).zip(leaf.gradients.par_chunks(CHUNK)).with_min_len(2);
    let parts = chunks.fold(
        || vec![[[0; 256]; LANES]; group.width],
        |mut part, (rows, gradients)| {
            add(group, Leaf { rows, gradients }, &mut part);
            part
        },
    );
    let sum = parts.reduce_with(|mut a, b| {
        combine(&mut a, &b, group.features, u64::wrapping_add);
        a
    });
    if let Some(sum) = sum {
        combine(cells, &sum, group.features, u64::wrapping_add);
    }
}

/// Sets `parent` to itself less `child`: the other child.
pub(crate) fn subtract(parent: &mut [BlockCells], child: &[BlockCells], features: usize) {
    combine(parent, child, features, u64::wrapping_sub);
}

fn combine(to: &mut [BlockCells], from: &[BlockCells], features: usize, with: impl Fn(u64, u64) -> u64) {
    let (to, from) = (&mut to.as_flattened_mut()[..features], &from.as_flattened()[..features]);
    for (to, from) in to.as_flattened_mut().iter_mut().zip(from.as_flattened()) {
        *to = with(*to, *from);
    }
}

fn add(group: Group<'_>, leaf: Leaf<'_>, cells: &mut [BlockCells]) {
    match group.width {
        1 => add_group::<1>(group, leaf, cells),
        2 => add_group::<2>(group, leaf, cells),
        3 => add_group::<3>(group, leaf, cells),
        4 => add_group::<4>(group, leaf, cells),
        5 => add_group::<5>(group, leaf, cells),
        6 => add_group::<6>(group, leaf, cells),
        7 => add_group::<7>(group, leaf, cells),
        _ => add_group::<LANES>(group, leaf, cells),
    }
}

/// Codes of some hundred rows are fetched ahead, so that many cache misses are under way at once, and laid out block by block.
fn add_group<const W: usize>(group: Group<'_>, leaf: Leaf<'_>, cells: &mut [BlockCells]) {
    let mut fetched = [[[0; LANES]; FETCH]; W];
    let (lines, _) = group.codes.as_chunks::<W>();
    for (rows, gradients) in leaf.rows.chunks(FETCH).zip(leaf.gradients.chunks(FETCH)) {
        for (i, row) in rows.iter().enumerate() {
            let line = &lines[*row as usize];
            (0..W).for_each(|block| fetched[block][i & (FETCH - 1)] = line[block]);
        }
        for (block, (codes, cells)) in fetched.iter().zip(cells.iter_mut()).enumerate() {
            add_block(group.features - block * LANES, codes, gradients, cells);
        }
    }
}

fn add_block(features: usize, codes: &[Block], gradients: &[u64], cells: &mut BlockCells) {
    match features {
        1 => add_lanes::<1>(codes, gradients, cells),
        2 => add_lanes::<2>(codes, gradients, cells),
        3 => add_lanes::<3>(codes, gradients, cells),
        4 => add_lanes::<4>(codes, gradients, cells),
        5 => add_lanes::<5>(codes, gradients, cells),
        6 => add_lanes::<6>(codes, gradients, cells),
        7 => add_lanes::<7>(codes, gradients, cells),
        _ => add_lanes::<LANES>(codes, gradients, cells),
    }
}

/// The innermost loop of all learning: no branch, no bounds check, no order that matters.
fn add_lanes<const L: usize>(codes: &[Block], gradients: &[u64], cells: &mut BlockCells) {
    for (codes, gradient) in codes.iter().zip(gradients) {
        for lane in 0..L {
            let cell = &mut cells[lane][usize::from(codes[lane])];
            *cell = cell.wrapping_add(*gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binned::Layout;

    /// Sums by code as one would write them down.
    fn naive(codes: &dyn Fn(usize, usize) -> u8, leaf: Leaf<'_>, features: usize) -> Vec<[u64; 256]> {
        let mut cells = vec![[0u64; 256]; features];
        for (row, gradient) in leaf.rows.iter().zip(leaf.gradients) {
            for (feature, cells) in cells.iter_mut().enumerate() {
                let cell = &mut cells[usize::from(codes(*row as usize, feature))];
                *cell = cell.wrapping_add(*gradient);
            }
        }
        cells
    }

    fn counted(group: Group<'_>, leaf: Leaf<'_>) -> Vec<BlockCells> {
        // Leftovers of another leaf must not show.
        let mut cells = vec![[[7; 256]; LANES]; group.width];
        count(group, leaf, &mut cells);
        cells
    }

    #[test]
    fn counting_is_right_for_any_number_of_features_and_subtracting_equals_counting() {
        for features in [1, 7, 8, 9, 16, 23, 29, 40, 48, 55, 64] {
            let all = if features == 9 { 5 * CHUNK + 3 } else { 700 };
            let (_, width) = Layout::new(features).groups[0];
            let code = |row: usize, feature: usize| (row * 31 + feature * 17 + row / 7) as u8;
            let block = |i: usize| std::array::from_fn(|lane| code(i / width, i % width * LANES + lane));
            let codes: Vec<Block> = (0..all * width).map(block).collect();
            let group = Group { codes: &codes, width, features };
            let gradient = |row: &u32| u64::from(*row).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let gradients = |rows: &[u32]| rows.iter().map(gradient).collect::<Vec<_>>();
            let (small, large): (Vec<u32>, Vec<u32>) = (0..all as u32).partition(|row| row % 3 == 0);
            let parent: Vec<u32> = (0..all as u32).collect();
            let [small, large, mut whole] = [small, large, parent].map(|rows| {
                let leaf = Leaf { rows: &rows, gradients: &gradients(&rows) };
                let cells = counted(group, leaf);
                assert_eq!(cells.as_flattened()[..features], naive(&code, leaf, features), "{features} features");
                cells
            });
            subtract(&mut whole, &small, features);
            assert_eq!(whole.as_flattened()[..features], large.as_flattened()[..features], "{features} features");
        }
    }
}
