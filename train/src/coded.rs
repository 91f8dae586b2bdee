//! The codes of a matrix' rows: one byte a feature, row after row, in memory or in a file.
//!
//! A model is fitted on few rows and judges the others in order, so all that is asked of it are some rows and stretches of rows.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::TrainError;
use crate::binned::{Binned, Bins, Block, Coder, LANES};
use crate::room::{Held, Room, Spill};

/// Bytes that are written at once.
const BUFFER: usize = 1 << 18;
/// Rows that are read at once to be judged.
const CHUNK: usize = 1 << 14;
/// Rows between two that are wanted which are read along with them: a seek would take longer.
const GAP: usize = 64;

/// The codes of some rows of a matrix.
pub(crate) struct Coded {
    bins: Arc<Bins>,
    /// Blocks of a row.
    width: usize,
    kept: Kept,
    place: Place,
}

enum Place {
    Memory(Vec<Block>, #[allow(dead_code, reason = "held for its end")] Held),
    File(Spill),
}

/// Which rows are coded: ascending stretches, and how many are kept before each.
struct Kept {
    rows: Vec<Range<usize>>,
    before: Vec<usize>,
}

impl Kept {
    fn new(rows: Vec<Range<usize>>) -> Self {
        let before = rows.iter().scan(0, |sum, r| Some(std::mem::replace(sum, *sum + r.len()))).collect();
        Self { rows, before }
    }

    /// Kept rows before `row`: its place, if it is kept itself.
    fn before(&self, row: usize) -> usize {
        let at = self.rows.partition_point(|r| r.start <= row);
        at.checked_sub(1).map_or(0, |at| self.before[at] + (row - self.rows[at].start).min(self.rows[at].len()))
    }

    /// What of `rows` is kept.
    fn within(&self, rows: Range<usize>) -> impl Iterator<Item = usize> + '_ {
        let first = self.rows.partition_point(|r| r.end <= rows.start);
        let cut = move |r: &Range<usize>| r.start.max(rows.start)..r.end.min(rows.end);
        self.rows[first..].iter().map(cut).take_while(|r| !r.is_empty()).flatten()
    }
}

/// Takes the codes of a device's kept rows, in order.
pub(crate) struct Sink<'a> {
    coder: &'a Coder,
    blocks: Vec<Block>,
    to: To<'a>,
    failed: Option<TrainError>,
}

enum To<'a> {
    Memory(&'a mut [Block]),
    File(&'a Spill, u64),
}

impl Sink<'_> {
    /// Codes a row.
    pub(crate) fn put(&mut self, row: &[f64]) {
        self.coder.push(row, &mut self.blocks);
        if self.blocks.len() * LANES >= BUFFER {
            self.flush();
        }
    }

    fn flush(&mut self) {
        match &mut self.to {
            To::Memory(rest) => {
                let (own, rest_of_it) = std::mem::take(rest).split_at_mut(self.blocks.len());
                own.copy_from_slice(&self.blocks);
                *rest = rest_of_it;
            }
            To::File(spill, offset) => {
                let bytes = self.blocks.as_flattened();
                if let Err(error) = spill.write_at(bytes, *offset) {
                    self.failed.get_or_insert(error);
                }
                *offset += bytes.len() as u64;
            }
        }
        self.blocks.clear();
    }

    fn end(mut self) -> Result<(), TrainError> {
        self.flush();
        self.failed.map_or(Ok(()), Err)
    }
}

impl Coded {
    /// Codes the rows `kept` (ascending, not touching each other). `each` is given the number of one of `devices`, the kept ones among its rows, and where they go in order;
    /// devices are coded in parallel.
    pub(crate) fn fill(
        bins: Arc<Bins>,
        kept: Vec<Range<usize>>,
        devices: &[Range<usize>],
        room: &Room,
        each: impl Fn(usize, &mut dyn Iterator<Item = usize>, &mut Sink<'_>) -> Result<(), TrainError> + Sync,
    ) -> Result<Self, TrainError> {
        let (width, kept, coder) = (bins.features().div_ceil(LANES), Kept::new(kept), Coder::new(&bins));
        let rows = kept.rows.last().map_or(0, |r| kept.before(r.end));
        let one = |device: usize, to: To<'_>| {
            let mut sink = Sink { coder: &coder, blocks: Vec::new(), to, failed: None };
            each(device, &mut kept.within(devices[device].clone()), &mut sink)?;
            sink.end()
        };
        let place = match room.take(rows * width * LANES) {
            Some(held) => {
                let mut all = vec![[0; LANES]; rows * width];
                let mut rest = all.as_mut_slice();
                let slices: Vec<&mut [Block]> = devices
                    .iter()
                    .map(|device| {
                        let own = (kept.before(device.end) - kept.before(device.start)) * width;
                        let (own, rest_of_it) = std::mem::take(&mut rest).split_at_mut(own);
                        rest = rest_of_it;
                        own
                    })
                    .collect();
                slices.into_par_iter().enumerate().try_for_each(|(device, own)| one(device, To::Memory(own)))?;
                Place::Memory(all, held)
            }
            None => {
                let spill = room.spill()?;
                let offset = |device: usize| (kept.before(devices[device].start) * width * LANES) as u64;
                (0..devices.len()).into_par_iter().try_for_each(|device| one(device, To::File(&spill, offset(device))))?;
                Place::File(spill)
            }
        };
        Ok(Self { bins, width, kept, place })
    }

    /// Where the bins lie.
    pub(crate) fn bins(&self) -> &Bins {
        &self.bins
    }

    /// Puts the blocks of the rows at `places` behind `blocks`.
    fn read(&self, places: Range<usize>, blocks: &mut Vec<Block>) -> Result<(), TrainError> {
        let (start, len) = (places.start * self.width, places.len() * self.width);
        match &self.place {
            Place::Memory(all, _) => blocks.extend_from_slice(&all[start..start + len]),
            Place::File(spill) => {
                let first = blocks.len();
                blocks.resize(first + len, [0; LANES]);
                spill.read_at(blocks[first..].as_flattened_mut(), (start * LANES) as u64)?;
            }
        }
        Ok(())
    }

    /// The codes of `rows`, ascending.
    pub(crate) fn take(&self, rows: &[u32]) -> Result<Binned, TrainError> {
        let mut blocks = Vec::with_capacity(rows.len() * self.width);
        let mut read = Vec::new();
        let places: Vec<usize> = rows.iter().map(|row| self.kept.before(*row as usize)).collect();
        if let Place::Memory(all, _) = &self.place {
            places.iter().for_each(|place| blocks.extend_from_slice(&all[place * self.width..][..self.width]));
            return Ok(Binned::from_blocks(self.bins.clone(), &blocks));
        }
        for near in places.chunk_by(|a, b| b - a <= GAP).flat_map(|near| near.chunks(CHUNK / GAP)) {
            let (first, last) = (near[0], near[near.len() - 1]);
            read.clear();
            self.read(first..last + 1, &mut read)?;
            near.iter().for_each(|place| blocks.extend_from_slice(&read[(place - first) * self.width..][..self.width]));
        }
        Ok(Binned::from_blocks(self.bins.clone(), &blocks))
    }

    /// The codes of `rows`, all of them kept, a stretch at a time, each with its first row.
    pub(crate) fn each(&self, rows: Range<usize>, mut each: impl FnMut(usize, Binned) -> Result<(), TrainError>) -> Result<(), TrainError> {
        let mut blocks = Vec::new();
        for first in rows.clone().step_by(CHUNK) {
            let place = self.kept.before(first);
            blocks.clear();
            self.read(place..place + (rows.end - first).min(CHUNK), &mut blocks)?;
            each(first, Binned::from_blocks(self.bins.clone(), &blocks))?;
        }
        Ok(())
    }

    /// The codes of `rows`, all of them kept, at some features: one column a feature.
    pub(crate) fn columns(&self, rows: Range<usize>, features: &[usize]) -> Result<Vec<Vec<u8>>, TrainError> {
        let mut columns = vec![Vec::with_capacity(rows.len()); features.len()];
        let mut blocks = Vec::new();
        for first in rows.clone().step_by(CHUNK) {
            let place = self.kept.before(first);
            blocks.clear();
            self.read(place..place + (rows.end - first).min(CHUNK), &mut blocks)?;
            for (column, feature) in columns.iter_mut().zip(features) {
                column.extend(blocks.chunks_exact(self.width).map(|row| row[feature / LANES][feature % LANES]));
            }
        }
        Ok(columns)
    }
}

/// `rows` (ascending) and the stretches of `ranges` (ascending) as stretches that do not touch.
pub(crate) fn joined(rows: &[u32], ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = rows.iter().map(|row| *row as usize..*row as usize + 1).chain(ranges.iter().cloned()).collect();
    all.retain(|r| !r.is_empty());
    all.sort_unstable_by_key(|r| r.start);
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in all {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten features of 3,000 rows of which some are kept; two devices.
    fn coded(limit: usize, kept: Vec<Range<usize>>) -> Coded {
        let value = |row: usize, feature: usize| ((row * 7 + feature * 13) % 50) as f64;
        let bins = Bins::place(10, |f| (0..200).map(|row| value(row, f)).collect(), 255);
        let row = |row: usize| (0..10).map(|f| value(row, f)).collect::<Vec<f64>>();
        let each = |_, rows: &mut dyn Iterator<Item = usize>, sink: &mut Sink<'_>| {
            rows.for_each(|at| sink.put(&row(at)));
            Ok(())
        };
        Coded::fill(Arc::new(bins), kept, &[0..1200, 1200..3000], &Room::new(limit, None), each).unwrap()
    }

    #[test]
    fn rows_come_back_the_same_from_memory_and_from_a_file() {
        let whole = || std::iter::once(0..3000).collect();
        let all = coded(1 << 20, whole());
        for (limit, kept) in [(0, whole()), (0, vec![5..9, 1100..1400, 2999..3000]), (1 << 20, vec![5..9, 1100..1400, 2999..3000])] {
            let some = coded(limit, kept);
            for rows in [vec![6, 8, 1199, 1200, 1399, 2999], vec![1100, 1101]] {
                assert_eq!(some.take(&rows).unwrap().groups(), all.take(&rows).unwrap().groups());
            }
            let mut seen = 0;
            some.each(1150..1350, |first, binned| {
                seen += binned.rows();
                for row in 0..binned.rows() {
                    assert_eq!(binned.code(row, 9), all.columns(first + row..first + row + 1, &[9]).unwrap()[0][0]);
                }
                Ok(())
            })
            .unwrap();
            assert_eq!(seen, 200);
            assert_eq!(some.columns(1150..1350, &[0, 9]).unwrap(), all.columns(1150..1350, &[0, 9]).unwrap());
        }
    }

    #[test]
    fn stretches_that_touch_become_one() {
        assert_eq!(joined(&[3, 4, 9], &[0..2, 5..5, 5..7]), [0..2, 3..7, 9..10]);
        assert_eq!(joined(&[], &[]), [] as [Range<usize>; 0]);
    }
}
