//! All readings in order of device, `ts`, `seq` and `idx`, in memory or in a file, and the sort that brings them there.
//!
//! Objects come in any order. Their rows fill a buffer; if all of them fit it is sorted in place, and that is all. Else each full buffer is
//! sorted and written as a *run*, and the runs are merged into one file. Rows that are equal in all four stay in the order in which they came, either way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::ops::Range;

use rayon::prelude::*;

use crate::TrainError;
use crate::room::{Held, Room, Spill, numbers};

/// Bytes that are read or written at once.
const BUFFER: usize = 1 << 18;
/// Rows of a run at least, however little room there is.
const LEAST: usize = 1 << 10;

/// Readings, row after row: a time and one value a signal; NaN is missing.
#[derive(Debug)]
pub(crate) struct Readings {
    width: usize,
    rows: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory {
        ts: Vec<i64>,
        values: Vec<f64>,
        #[allow(dead_code, reason = "held for its end")]
        held: Option<Held>,
    },
    File(Spill),
}

impl Readings {
    /// Readings in memory: times, and `width` values each.
    #[cfg(test)]
    pub(crate) fn new(ts: Vec<i64>, values: Vec<f64>, width: usize) -> Self {
        Self { width, rows: ts.len(), place: Place::Memory { ts, values, held: None } }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Whether they wait in a file.
    pub(crate) fn spilled(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    /// Time (milliseconds since 1970 UTC) and values of each of `rows`, in order.
    pub(crate) fn each(&self, rows: Range<usize>, mut each: impl FnMut(i64, &[f64])) -> Result<(), TrainError> {
        match &self.place {
            Place::Memory { ts, values, .. } => {
                for row in rows {
                    each(ts[row], &values[row * self.width..][..self.width]);
                }
            }
            Place::File(spill) => {
                let size = 8 * (1 + self.width);
                let (at_once, mut values) = ((BUFFER / size).max(1), vec![0.0; self.width]);
                let mut bytes = vec![0; size * at_once.min(rows.len())];
                for first in rows.clone().step_by(at_once) {
                    let part = &mut bytes[..size * (rows.end - first).min(at_once)];
                    spill.read_at(part, (first * size) as u64)?;
                    for row in part.chunks_exact(size) {
                        let (ts, rest) = row.split_at(8);
                        values.iter_mut().zip(numbers(rest)).for_each(|(to, value)| *to = value);
                        each(i64::from_le_bytes(ts.try_into().unwrap_or_default()), &values);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What a row is sorted by, and where its values lie in the buffer.
#[derive(Debug, Clone, Copy)]
struct Key {
    ts: i64,
    seq: i64,
    /// In order of arrival while the buffer fills, then in order of names.
    device: u32,
    idx: i32,
    at: u32,
}

impl Key {
    fn order(&self) -> (u32, i64, i64, i32, u32) {
        (self.device, self.ts, self.seq, self.idx, self.at)
    }
}

/// One reading as it comes.
pub(crate) struct Arrival<'a> {
    pub(crate) device: &'a str,
    pub(crate) ts: i64,
    pub(crate) seq: i64,
    pub(crate) idx: i32,
}

/// Takes readings in any order and sorts them.
pub(crate) struct Gather {
    room: Room,
    width: usize,
    /// Rows that the buffer holds.
    capacity: usize,
    numbers: HashMap<Box<str>, u32>,
    names: Vec<Box<str>>,
    last: u32,
    keys: Vec<Key>,
    values: Vec<f64>,
    runs: Option<Runs>,
}

/// Sorted runs in a file, one behind the other.
struct Runs {
    spill: Spill,
    /// Rows of each.
    rows: Vec<Range<usize>>,
}

/// The readings and, in order of names, the rows of each device.
pub(crate) type Gathered = (Readings, Vec<(Box<str>, Range<usize>)>);

impl Gather {
    /// Gathers readings of `width` signals each, in the whole of `room`.
    pub(crate) fn new(room: &Room, width: usize) -> Self {
        let capacity = (room.limit() / (size_of::<Key>() + 8 * width)).clamp(LEAST, u32::MAX as usize);
        Self {
            room: room.clone(),
            width,
            capacity,
            numbers: HashMap::new(),
            names: Vec::new(),
            last: 0,
            keys: Vec::new(),
            values: Vec::new(),
            runs: None,
        }
    }

    /// Adds a reading; its values are set in what is returned, NaN until then.
    pub(crate) fn push(&mut self, arrival: &Arrival<'_>) -> Result<&mut [f64], TrainError> {
        if self.keys.len() == self.capacity {
            self.run()?;
        }
        if self.keys.len() == self.keys.capacity() {
            // By half, and no further than what is allowed: doubling would overshoot.
            let more = (self.keys.len() / 2).max(LEAST).min(self.capacity - self.keys.len());
            self.keys.reserve_exact(more);
            self.values.reserve_exact(more * self.width);
        }
        let device = self.number(arrival.device);
        self.keys.push(Key { ts: arrival.ts, seq: arrival.seq, device, idx: arrival.idx, at: self.keys.len() as u32 });
        let first = self.values.len();
        self.values.resize(first + self.width, f64::NAN);
        Ok(&mut self.values[first..])
    }

    /// The number of a device, in order of arrival.
    fn number(&mut self, name: &str) -> u32 {
        // Neighbours are of one device nearly always.
        if self.names.get(self.last as usize).is_some_and(|last| **last == *name) {
            return self.last;
        }
        self.last = match self.numbers.get(name) {
            Some(number) => *number,
            None => {
                let number = self.names.len() as u32;
                self.numbers.insert(name.into(), number);
                self.names.push(name.into());
                number
            }
        };
        self.last
    }

    /// Each device's place in the order of names.
    fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.names.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.names[*a as usize].cmp(&self.names[*b as usize]));
        let mut ranks = vec![0; order.len()];
        order.iter().zip(0..).for_each(|(device, rank)| ranks[*device as usize] = rank);
        ranks
    }

    /// Sorts what the buffer holds; keys have ranks for devices from here on.
    fn sort(&mut self) -> Vec<u32> {
        let ranks = self.ranks();
        self.keys.par_iter_mut().for_each(|key| key.device = ranks[key.device as usize]);
        self.keys.par_sort_unstable_by_key(Key::order);
        ranks
    }

    /// Writes the buffer as a run and empties it.
    fn run(&mut self) -> Result<(), TrainError> {
        let ranks = self.sort();
        let mut number = vec![0u32; ranks.len()];
        ranks.iter().zip(0..).for_each(|(rank, device)| number[*rank as usize] = device);
        let runs = match &mut self.runs {
            Some(runs) => runs,
            none => none.insert(Runs { spill: self.room.spill()?, rows: Vec::new() }),
        };
        let first = runs.rows.last().map_or(0, |r| r.end);
        let mut out = Out::new(&runs.spill, (first * entry(self.width)) as u64);
        for key in &self.keys {
            out.put(&number[key.device as usize].to_le_bytes())?;
            out.put(&key.idx.to_le_bytes())?;
            out.put(&key.seq.to_le_bytes())?;
            out.put(&key.ts.to_le_bytes())?;
            for value in &self.values[key.at as usize * self.width..][..self.width] {
                out.put(&value.to_le_bytes())?;
            }
        }
        out.flush()?;
        runs.rows.push(first..first + self.keys.len());
        self.keys.clear();
        self.values.clear();
        Ok(())
    }

    /// All readings in order.
    pub(crate) fn finish(mut self) -> Result<Gathered, TrainError> {
        if self.runs.is_some() {
            self.run()?;
            (self.keys, self.values) = (Vec::new(), Vec::new());
        }
        match self.runs.take() {
            Some(runs) => self.merge(&runs),
            None => Ok(self.in_place()),
        }
    }

    fn in_place(mut self) -> Gathered {
        self.sort();
        self.names.sort_unstable();
        let mut devices = Devices::new(self.names);
        self.keys.iter().for_each(|key| devices.add(key.device));
        let mut from: Vec<u32> = self.keys.iter().map(|key| key.at).collect();
        permute(&mut self.values, self.width, &mut from);
        self.values.shrink_to_fit();
        let ts: Vec<i64> = self.keys.iter().map(|key| key.ts).collect();
        let held = self.room.take(8 * (ts.len() + self.values.len()));
        (Readings { width: self.width, rows: ts.len(), place: Place::Memory { ts, values: self.values, held } }, devices.rows)
    }

    fn merge(mut self, runs: &Runs) -> Result<Gathered, TrainError> {
        let ranks = self.ranks();
        self.names.sort_unstable();
        let size = entry(self.width);
        let share = (self.room.limit() / (runs.rows.len() + 1)).clamp(1 << 16, BUFFER * 4);
        let mut cursors = Vec::with_capacity(runs.rows.len());
        let mut heap = BinaryHeap::with_capacity(runs.rows.len());
        for (run, rows) in runs.rows.iter().enumerate() {
            let mut cursor = Cursor::new(&runs.spill, rows.start * size..rows.end * size, size, share);
            if cursor.step()? {
                heap.push(Reverse(cursor.order(&ranks, run)));
            }
            cursors.push(cursor);
        }
        let merged = self.room.spill()?;
        let (mut out, mut devices) = (Out::new(&merged, 0), Devices::new(self.names));
        while let Some(mut least) = heap.peek_mut() {
            let (rank, .., run) = least.0;
            let cursor = &mut cursors[run];
            devices.add(rank);
            out.put(&cursor.entry()[HEAD..])?;
            if cursor.step()? {
                *least = Reverse(cursor.order(&ranks, run));
            } else {
                std::collections::binary_heap::PeekMut::pop(least);
            }
        }
        out.flush()?;
        drop(out);
        let rows = runs.rows.last().map_or(0, |r| r.end);
        Ok((Readings { width: self.width, rows, place: Place::File(merged) }, devices.rows))
    }
}

/// Bytes before the time in a run's entry: device, idx and seq.
const HEAD: usize = 16;

/// Bytes of a run's entry.
fn entry(width: usize) -> usize {
    HEAD + 8 + 8 * width
}

/// Moves rows of `width` values so that row i is what row `from[i]` was, without a second copy of all.
fn permute(values: &mut [f64], width: usize, from: &mut [u32]) {
    let mut kept = vec![0.0; width];
    for start in 0..from.len() {
        if from[start] as usize == start {
            continue;
        }
        kept.copy_from_slice(&values[start * width..][..width]);
        let mut to = start;
        loop {
            let source = from[to] as usize;
            from[to] = to as u32;
            if source == start {
                values[to * width..][..width].copy_from_slice(&kept);
                break;
            }
            values.copy_within(source * width..(source + 1) * width, to * width);
            to = source;
        }
    }
}

/// Rows of each device, as they come in order of names.
struct Devices {
    names: std::vec::IntoIter<Box<str>>,
    last: Option<u32>,
    rows: Vec<(Box<str>, Range<usize>)>,
}

impl Devices {
    fn new(names: Vec<Box<str>>) -> Self {
        Self { rows: Vec::with_capacity(names.len()), names: names.into_iter(), last: None }
    }

    /// Every device has a row, so its rank is one more than that of the one before.
    fn add(&mut self, rank: u32) {
        let end = self.rows.last().map_or(0, |(_, rows)| rows.end);
        if self.last == Some(rank) {
            if let Some((_, rows)) = self.rows.last_mut() {
                rows.end += 1;
            }
            return;
        }
        self.last = Some(rank);
        self.rows.extend(self.names.next().map(|name| (name, end..end + 1)));
    }
}

/// Writes one after the other, in large pieces.
struct Out<'a> {
    spill: &'a Spill,
    at: u64,
    bytes: Vec<u8>,
}

impl<'a> Out<'a> {
    fn new(spill: &'a Spill, at: u64) -> Self {
        Self { spill, at, bytes: Vec::with_capacity(BUFFER * 4) }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TrainError> {
        if self.bytes.len() + bytes.len() > self.bytes.capacity() {
            self.flush()?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TrainError> {
        self.spill.write_at(&self.bytes, self.at)?;
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// Reads a run entry by entry.
struct Cursor<'a> {
    spill: &'a Spill,
    /// What of the run is not in `bytes` yet.
    rest: Range<usize>,
    size: usize,
    bytes: Vec<u8>,
    /// The present entry's place in `bytes`; before the first step, its end.
    at: usize,
    at_once: usize,
}

impl<'a> Cursor<'a> {
    fn new(spill: &'a Spill, rest: Range<usize>, size: usize, share: usize) -> Self {
        Self { spill, rest, size, bytes: Vec::new(), at: 0, at_once: (share / size).max(1) * size }
    }

    /// Goes to the next entry; false if there is none.
    fn step(&mut self) -> Result<bool, TrainError> {
        if !self.bytes.is_empty() {
            self.at += self.size;
        }
        if self.at >= self.bytes.len() {
            if self.rest.is_empty() {
                return Ok(false);
            }
            self.bytes.resize(self.rest.len().min(self.at_once), 0);
            self.spill.read_at(&mut self.bytes, self.rest.start as u64)?;
            self.rest.start += self.bytes.len();
            self.at = 0;
        }
        Ok(true)
    }

    fn entry(&self) -> &[u8] {
        &self.bytes[self.at..self.at + self.size]
    }

    /// What the present entry is merged by: rank of its device, ts, seq, idx; of equal ones the earlier run first.
    fn order(&self, ranks: &[u32], run: usize) -> (u32, i64, i64, i32, usize) {
        let entry = self.entry();
        let four = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap_or_default());
        let eight = |at: usize| i64::from_le_bytes(entry[at..at + 8].try_into().unwrap_or_default());
        (ranks[four(0) as usize], eight(HEAD), eight(8), four(4) as i32, run)
    }
}

#[cfg(test)]
mod tests;
