//! Many rows at once, without walking: every comparison of every tree, as bits of the leaves that it rules out.
//!
//! **Idea** (QuickScorer, Lucchese et al. 2015; by bytes as in RapidScorer, Ye et al. 2018): a row that goes right at a node can end in none of the leaves to its
//! left. With the leaves of a tree numbered from left to right, the row ends in the first one that no node rules out.
//!
//! **Layout.** A block of [`ROWS`] rows is turned into codes: of each feature, how many of the ensemble's thresholds lie below the value, one byte a row, the
//! block's rows side by side. "Goes right" is then `code > rank`, a comparison of 32 rows in one AVX2 register, and eight leaves are one byte (a plane).
//! Nothing depends on data but the bytes, so no branch is mispredicted and no load waits for another. There is no arithmetic on floating-point numbers but the sums in
//! the order of the trees, so the bits are those of every other layout. `pulp` asks the machine whether it has AVX2 and makes its instructions safe to call.
//!
//! Tried and left out: AVX-512, with masks in the place of bytes and thresholds searched as heaps in registers, took 8 to 12 % less on a Zen 4; plain loops, compiled by LLVM
//! for AVX2, took four times as long; values gathered one by one (LLVM makes `vgatherqpd` of it) took half of all time, hence the transposition.

use std::arch::x86_64::__m256d;
use std::ops::Range;

use pulp::x86::V3;
use pulp::{NullaryFnOnce, Simd};

use super::{Ensemble, Node, Precision, leaf};

/// Rows of a block.
pub(super) const ROWS: usize = 64;
/// Leaves of a tree at most: beyond it most comparisons are made in vain.
const LEAVES: usize = 64;
/// Thresholds of a feature at most: their count is a code, and 255 is a missing value that goes right.
const EDGES: usize = 254;
/// The code of a missing value that goes right everywhere.
const RIGHT: i8 = i8::MAX;
/// Rows whose codes are counted at once, in registers: few, as memory is read ahead for few streams only.
const COUNTED: usize = 16;
/// Features whose values are read at once: a cache line of a row.
const TILE: usize = 8;

/// One byte a row of a block.
type Lane = [i8; ROWS];

/// An [`Ensemble`] as planes.
#[derive(Debug, Clone)]
pub(super) struct Planes {
    simd: V3,
    /// The features in use.
    slots: Vec<Slot>,
    tiles: Vec<Tile>,
    /// Thresholds by slot, each once, ascending: a value goes right at those below it.
    edges: Vec<f64>,
    /// Comparisons, plane by plane.
    cuts: Vec<Cut>,
    /// Planes, tree by tree.
    planes: Vec<Range<usize>>,
    trees: Vec<Tree>,
    /// The ensemble's leaves, in the order of the bits.
    leaves: Vec<u32>,
    /// Their values, where they have one.
    values: Vec<f64>,
}

/// A feature in use.
#[derive(Debug, Clone)]
struct Slot {
    feature: usize,
    /// Its thresholds.
    edges: Range<usize>,
}

/// Features side by side, [`TILE`] of them from `first` on, and the slots among them.
#[derive(Debug, Clone)]
struct Tile {
    first: usize,
    slots: Range<usize>,
}

/// Rules out `bits` of its plane for codes above `rank`.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// The slot's lane; that of another half if a missing value goes left here.
    lane: u32,
    rank: i8,
    bits: u8,
}

/// Where a tree's planes and leaves stand.
#[derive(Debug, Clone)]
struct Tree {
    planes: Range<usize>,
    leaves: Range<usize>,
}

/// The greatest value that goes left at a node; both zeros are one.
fn edge(ensemble: &Ensemble, node: &Node) -> f64 {
    ensemble.arithmetic.at_most(node.threshold) + 0.0
}

impl Planes {
    /// Lays out `ensemble`, if its trees are small enough, its features of a number that fits, and the machine has AVX2.
    pub(super) fn of(ensemble: &Ensemble) -> Option<Self> {
        let (simd, last_tile) = (V3::try_new()?, ensemble.features.checked_sub(TILE)?);
        let mut edges: Vec<(u32, f64)> = ensemble.nodes.iter().map(|node| (node.feature, edge(ensemble, node))).collect();
        edges.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        edges.dedup();
        let mut slots: Vec<Slot> = Vec::new();
        for (at, (feature, _)) in edges.iter().enumerate() {
            match slots.last_mut() {
                Some(slot) if slot.feature == *feature as usize => slot.edges.end = at + 1,
                _ => slots.push(Slot { feature: *feature as usize, edges: at..at + 1 }),
            }
        }
        if slots.iter().any(|slot| slot.edges.len() > EDGES) {
            return None;
        }
        let mut tiles: Vec<Tile> = Vec::new();
        for (at, Slot { feature, .. }) in slots.iter().enumerate() {
            match tiles.last_mut() {
                Some(tile) if *feature < tile.first + TILE => tile.slots.end = at + 1,
                _ => tiles.push(Tile { first: last_tile.min(feature / TILE * TILE), slots: at..at + 1 }),
            }
        }
        let mut planes = Self {
            simd,
            slots,
            tiles,
            edges: edges.into_iter().map(|(_, edge)| edge).collect(),
            cuts: Vec::new(),
            planes: Vec::new(),
            trees: Vec::new(),
            leaves: Vec::new(),
            values: Vec::new(),
        };
        ensemble.roots.iter().try_for_each(|root| planes.add(ensemble, *root))?;
        if ensemble.horizons == 1 {
            planes.values = planes.leaves.iter().map(|leaf| ensemble.leaves[*leaf as usize]).collect();
        }
        Some(planes)
    }

    /// Adds a tree, if it is small enough.
    fn add(&mut self, ensemble: &Ensemble, root: i32) -> Option<()> {
        let first = self.leaves.len();
        // Nodes with the leaves to their left, which are numbered as they are met.
        let mut nodes: Vec<(usize, Range<usize>)> = Vec::new();
        let mut waiting = vec![Step::Down(root)];
        while let Some(step) = waiting.pop() {
            match step {
                Step::Down(at) if at < 0 => self.leaves.push(leaf(at) as u32),
                Step::Down(at) => {
                    let node = &ensemble.nodes[at as usize];
                    let left = self.leaves.len() - first;
                    waiting.extend([Step::Down(node.right), Step::Between(at as usize, left), Step::Down(node.left)]);
                }
                Step::Between(node, left) => nodes.push((node, left..self.leaves.len() - first)),
            }
            if self.leaves.len() - first > LEAVES {
                return None;
            }
        }
        let first_plane = self.planes.len();
        for plane in 0..(self.leaves.len() - first).div_ceil(8) {
            let first_cut = self.cuts.len();
            let bits = plane * 8..plane * 8 + 8;
            for (node, left) in &nodes {
                let ruled = left.start.max(bits.start)..left.end.min(bits.end);
                if !ruled.is_empty() {
                    let bits = ruled.fold(0u8, |all, bit| all | 1 << (bit % 8));
                    self.cuts.push(self.cut(ensemble, *node, bits)?);
                }
            }
            self.planes.push(first_cut..self.cuts.len());
        }
        self.trees.push(Tree { planes: first_plane..self.planes.len(), leaves: first..self.leaves.len() });
        Some(())
    }

    fn cut(&self, ensemble: &Ensemble, node: usize, bits: u8) -> Option<Cut> {
        let node = &ensemble.nodes[node];
        let slot = self.slots.binary_search_by_key(&(node.feature as usize), |slot| slot.feature).ok()?;
        let edge = edge(ensemble, node);
        let rank = self.edges[self.slots[slot].edges.clone()].binary_search_by(|e| e.total_cmp(&edge)).ok()?;
        let lane = if node.missing_left { slot + self.slots.len() } else { slot };
        Some(Cut { lane: u32::try_from(lane).ok()?, rank: (rank as i8).wrapping_add(i8::MIN), bits })
    }

    /// Adds the trees' leaves to the sums of `rows`, which are whole blocks; each sum is K values.
    pub(super) fn add_rows(&self, ensemble: &Ensemble, rows: &[f64], sums: &mut [f64]) {
        self.simd.vectorize(Blocks { planes: self, ensemble, rows, sums });
    }
}

/// Work on whole blocks, compiled for AVX2.
struct Blocks<'a> {
    planes: &'a Planes,
    ensemble: &'a Ensemble,
    rows: &'a [f64],
    sums: &'a mut [f64],
}

impl NullaryFnOnce for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { planes, ensemble, rows, sums } = self;
        let mut lanes = vec![[0; ROWS]; 2 * planes.slots.len()];
        let blocks = rows.chunks_exact(ensemble.features * ROWS).zip(sums.chunks_exact_mut(ensemble.horizons * ROWS));
        for (rows, sums) in blocks {
            planes.code(rows, ensemble.features, &mut lanes);
            for tree in &planes.trees {
                planes.exits(tree, &lanes).add(planes, ensemble, tree, sums);
            }
        }
    }
}

impl Planes {
    /// Writes the lanes of a block: first as if a missing value went right everywhere, then as if it went left.
    #[inline(always)]
    fn code(&self, rows: &[f64], features: usize, lanes: &mut [Lane]) {
        let (right, left) = lanes.split_at_mut(self.slots.len());
        for (at, rows) in rows.chunks_exact(features * COUNTED).enumerate() {
            for tile in &self.tiles {
                let columns = columns(self.simd, rows, features, tile.first);
                let lanes = right[tile.slots.clone()].iter_mut().zip(&mut left[tile.slots.clone()]);
                for (slot, (right, left)) in self.slots[tile.slots.clone()].iter().zip(lanes) {
                    let values = &columns[slot.feature - tile.first];
                    let below = count(self.simd, &self.edges[slot.edges.clone()], values);
                    left.as_chunks_mut().0[at] = below;
                    right.as_chunks_mut::<COUNTED>().0[at] = std::array::from_fn(|i| if values[i].is_nan() { RIGHT } else { below[i] });
                }
            }
        }
    }

    /// The leaves in which a block's rows end.
    #[inline(always)]
    fn exits(&self, tree: &Tree, lanes: &[Lane]) -> Exits {
        let simd = self.simd;
        let mut exits = [0; ROWS];
        // From the last plane to the first, whose leaves come before.
        for (plane, cuts) in self.planes[tree.planes.clone()].iter().enumerate().rev() {
            let before = simd.splat_u8s(plane as u8 * 8);
            for (part, exits) in V3::as_mut_simd_u8s(&mut exits).0.iter_mut().enumerate() {
                let mut ruled = simd.splat_u8s(0);
                for cut in &self.cuts[cuts.clone()] {
                    let code = V3::as_simd_i8s(&lanes[cut.lane as usize]).0[part];
                    let right = simd.transmute_u8s_m8s(simd.greater_than_i8s(code, simd.splat_i8s(cut.rank)));
                    ruled = simd.or_u8s(ruled, simd.and_u8s(right, simd.splat_u8s(cut.bits)));
                }
                // The lowest bit that is not ruled out, alone; then its number.
                let free = simd.and_u8s(simd.not_u8s(ruled), simd.add_u8s(ruled, simd.splat_u8s(1)));
                let none = |bits| simd.transmute_u8s_m8s(simd.equal_u8s(simd.and_u8s(free, simd.splat_u8s(bits)), simd.splat_u8s(0)));
                let mut exit = before;
                for (bits, weight) in [(0xaa, 1), (0xcc, 2), (0xf0, 4)] {
                    exit = simd.or_u8s(exit, simd.and_u8s(simd.not_u8s(none(bits)), simd.splat_u8s(weight)));
                }
                let full = none(0xff);
                *exits = simd.or_u8s(simd.and_u8s(full, *exits), simd.and_u8s(simd.not_u8s(full), exit));
            }
        }
        Exits(exits)
    }
}

/// The values of [`COUNTED`] rows, column by column, from column `first` on.
#[inline(always)]
fn columns(simd: V3, rows: &[f64], features: usize, first: usize) -> [[f64; COUNTED]; TILE] {
    let avx = simd.avx;
    let mut columns = [[0.0; COUNTED]; TILE];
    for (i, rows) in rows.chunks_exact(features * 4).enumerate() {
        for j in 0..TILE / 4 {
            let four = |row: usize| {
                rows[row * features + first + 4 * j..].first_chunk::<4>().map_or(pulp::cast([0.0f64; 4]), |four| pulp::cast(*four))
            };
            let (a, b, c, d): (__m256d, __m256d, __m256d, __m256d) = (four(0), four(1), four(2), four(3));
            let (ab, cd) = (avx._mm256_unpacklo_pd(a, b), avx._mm256_unpacklo_pd(c, d));
            let (ab_odd, cd_odd) = (avx._mm256_unpackhi_pd(a, b), avx._mm256_unpackhi_pd(c, d));
            let turned = [
                avx._mm256_permute2f128_pd::<0x20>(ab, cd),
                avx._mm256_permute2f128_pd::<0x20>(ab_odd, cd_odd),
                avx._mm256_permute2f128_pd::<0x31>(ab, cd),
                avx._mm256_permute2f128_pd::<0x31>(ab_odd, cd_odd),
            ];
            for (column, turned) in columns[4 * j..].iter_mut().zip(turned) {
                column.as_chunks_mut().0[i] = pulp::cast::<__m256d, [f64; 4]>(turned);
            }
        }
    }
    columns
}

/// How many of `edges` lie below each value, as codes from the least `i8` on.
#[inline(always)]
fn count(simd: V3, edges: &[f64], values: &[f64; COUNTED]) -> [i8; COUNTED] {
    let mut below = [0u64; COUNTED];
    if let ([a, b, c, d], [to_a, to_b, to_c, to_d]) = (V3::as_simd_f64s(values).0, V3::as_mut_simd_u64s(&mut below).0) {
        for edge in edges {
            let edge = simd.splat_f64s(*edge);
            for (to, value) in [(&mut *to_a, a), (to_b, b), (to_c, c), (to_d, d)] {
                // A comparison that holds is −1.
                *to = simd.sub_u64s(*to, simd.transmute_u64s_m64s(simd.less_than_f64s(edge, *value)));
            }
        }
    }
    below.map(|below| (below as i8).wrapping_add(i8::MIN))
}

/// By row of a block: the leaf of a tree, counted from the left.
struct Exits([u8; ROWS]);

impl Exits {
    #[inline(always)]
    fn add(&self, planes: &Planes, ensemble: &Ensemble, tree: &Tree, sums: &mut [f64]) {
        if ensemble.horizons > 1 {
            let leaves = &planes.leaves[tree.leaves.clone()];
            for (sums, exit) in sums.chunks_exact_mut(ensemble.horizons).zip(self.0) {
                ensemble.add(leaves[usize::from(exit)] as usize, sums);
            }
            return;
        }
        let values = &planes.values[tree.leaves.clone()];
        match ensemble.arithmetic.sum {
            Precision::F64 => {
                for (sum, exit) in sums.iter_mut().zip(self.0) {
                    *sum += values[usize::from(exit)];
                }
            }
            Precision::F32 => {
                for (sum, exit) in sums.iter_mut().zip(self.0) {
                    *sum = Precision::F32.round(*sum + values[usize::from(exit)]);
                }
            }
        }
    }
}

/// A step of the walk that numbers leaves from left to right.
enum Step {
    Down(i32),
    /// After the left child of a node, whose leaves began at that number.
    Between(usize, usize),
}
