//! Rows of a leaf divided between its children, in order.

use rayon::prelude::*;

use crate::binned::MISSING;

/// Rows that a task divides at once.
const CHUNK: usize = 1 << 16;

/// Which way codes of one feature go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) code: u8,
    pub(crate) missing_left: bool,
}

impl Way {
    /// Whether `code` goes left.
    #[inline]
    pub(crate) fn left(self, code: u8) -> bool {
        if code == MISSING { self.missing_left } else { code <= self.code }
    }
}

/// Puts the rows that go left first, each side in the order it was in; returns how many they are. `scratch` is as long as `rows`.
pub(crate) fn divide(rows: &mut [u32], scratch: &mut [u32], codes: &[u8], way: Way) -> usize {
    if rows.len() <= CHUNK {
        let left = divide_chunk(rows, scratch, codes, way);
        let right = rows.len() - left;
        rows[left..].copy_from_slice(&scratch[..right]);
        return left;
    }
    let parts = rows.par_chunks_mut(CHUNK).zip(scratch.par_chunks_mut(CHUNK));
    let lefts: Vec<usize> = parts.map(|(rows, scratch)| divide_chunk(rows, scratch, codes, way)).collect();
    let mut at = 0;
    for (i, left) in lefts.iter().enumerate() {
        rows.copy_within(i * CHUNK..i * CHUNK + left, at);
        at += left;
    }
    let total = at;
    for (chunk, left) in scratch.chunks(CHUNK).zip(lefts) {
        let right = chunk.len() - left;
        rows[at..at + right].copy_from_slice(&chunk[..right]);
        at += right;
    }
    total
}

/// Rows that go left to the front of `rows`, the others to the front of `scratch`; without branches.
fn divide_chunk(rows: &mut [u32], scratch: &mut [u32], codes: &[u8], way: Way) -> usize {
    let table: [bool; 256] = std::array::from_fn(|code| way.left(code as u8));
    let scratch = &mut scratch[..rows.len()];
    let (mut left, mut right) = (0, 0);
    for i in 0..rows.len() {
        let row = rows[i];
        let goes_left = usize::from(table[usize::from(codes[row as usize])]);
        rows[left] = row;
        scratch[right] = row;
        left += goes_left;
        right += 1 - goes_left;
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_small_leaves_are_divided_alike() {
        let all = 3 * CHUNK + 17;
        let codes: Vec<u8> = (0..all).map(|i| (i * 7919 % 251) as u8).collect();
        for rows in [100, all] {
            for missing_left in [true, false] {
                let way = Way { code: 99, missing_left };
                let mut divided: Vec<u32> = (0..rows as u32).collect();
                let left = divide(&mut divided, &mut vec![0; rows], &codes, way);
                let (want_left, want_right): (Vec<u32>, Vec<u32>) = (0..rows as u32).partition(|r| way.left(codes[*r as usize]));
                assert_eq!((&divided[..left], &divided[left..]), (&want_left[..], &want_right[..]));
            }
        }
    }
}
