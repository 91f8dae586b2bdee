//! Sliding windows in event time over all channels of a device, each cut into six panes aligned to the epoch: the current pane and the
//! five before it, whose merged moments are renewed only when a pane turns.

use std::ops::Range;

use super::panes::{self, CURRENT, FIELDS, KEPT, MERGED, PANES, SLOTS, pane, slot, start};
use super::times::{BLOCK, Joins, Steps, Times, WindowTimes};

/// The windows of one device, and each channel's newest value and weighted mean, which the longest window's memory bounds.
#[derive(Debug, Clone)]
pub(super) struct Windows {
    channels: usize,
    /// Number of each window's current pane; empty before the first reading.
    pub(super) current: Vec<i64>,
    /// One value a channel of each field of each pane: first the merged and the current panes of all windows, which every reading touches, then
    /// the finished ones of all windows.
    panes: Vec<f64>,
    pub(super) times: Vec<WindowTimes>,
    pub(super) last: Vec<f64>,
    pub(super) ewm: Vec<f64>,
    /// `ts` of each channel's newest value; `i64::MIN` for none.
    pub(super) newest: Vec<i64>,
}

/// Room to compute a block of channels in.
pub(super) struct Room(Joins, [[f64; BLOCK]; FIELDS]);

impl Room {
    pub(super) fn new() -> Self {
        Self(Joins::new(), [[0.0; BLOCK]; FIELDS])
    }
}

/// Where a window stands.
#[derive(Debug, Clone, Copy)]
struct At {
    pane: i64,
    length: i64,
}

impl At {
    /// Milliseconds from the start of the oldest pane to that of the pane `back` panes ago.
    fn since_oldest(self, back: i64) -> f64 {
        (start(self.pane - back, self.length) - start(self.pane - (PANES - 1), self.length)) as f64
    }

    /// The first millisecond of the window.
    fn first(self) -> i64 {
        let oldest = self.pane - (PANES - 1);
        -(-oldest * self.length).div_euclid(PANES)
    }
}

impl Windows {
    pub(super) fn new(windows: usize, channels: usize) -> Self {
        let mut fresh = Self {
            channels,
            current: Vec::new(),
            panes: vec![0.0; windows * SLOTS * FIELDS * channels],
            times: vec![WindowTimes::new(); windows],
            last: vec![f64::NAN; channels],
            ewm: vec![f64::NAN; channels],
            newest: vec![i64::MIN; channels],
        };
        fresh.panes.chunks_exact_mut(FIELDS * channels).for_each(|pane| panes::clear(pane, channels));
        fresh
    }

    /// Forgets everything.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.times.len(), self.channels);
    }

    fn place(&self, window: usize, slot: usize) -> Range<usize> {
        let size = FIELDS * self.channels;
        let at = if slot <= CURRENT { window * 2 + slot } else { self.times.len() * 2 + window * (SLOTS - 2) + slot - 2 };
        at * size..(at + 1) * size
    }

    /// One pane of one window.
    pub(super) fn pane(&self, window: usize, slot: usize) -> &[f64] {
        &self.panes[self.place(window, slot)]
    }

    pub(super) fn pane_mut(&mut self, window: usize, slot: usize) -> &mut [f64] {
        let place = self.place(window, slot);
        &mut self.panes[place]
    }

    /// Moves on to the panes of `ts`.
    pub(super) fn turn(&mut self, lengths: &[i64], ts: i64) {
        if self.current.is_empty() {
            self.current = lengths.iter().map(|length| pane(ts, *length)).collect();
            return;
        }
        for (window, length) in lengths.iter().enumerate() {
            let to = At { pane: pane(ts, *length), length: *length };
            let from = std::mem::replace(&mut self.current[window], to.pane);
            if to.pane == from {
                continue;
            }
            self.renew(window, from, to);
            self.finish(window, from);
            for skipped in (from + 1).max(to.pane - KEPT)..to.pane {
                self.clear(window, slot(skipped));
            }
        }
    }

    /// Keeps the current pane, number `pane`, as a finished one, and begins an empty one.
    fn finish(&mut self, window: usize, pane: i64) {
        let (from, to) = (self.place(window, CURRENT), self.place(window, slot(pane)));
        self.panes.copy_within(from, to.start);
        let times = &mut self.times[window];
        let odd = times.odd(CURRENT).to_vec();
        times.set(slot(pane), times.all[CURRENT], &odd);
        self.clear(window, CURRENT);
    }

    fn clear(&mut self, window: usize, slot: usize) {
        let channels = self.channels;
        panes::clear(self.pane_mut(window, slot), channels);
        self.times[window].set(slot, Times::NONE, &[]);
    }

    /// Merges the five panes before that of `to` anew, the oldest first; `from` is the number of the one that is current until now.
    fn renew(&mut self, window: usize, from: i64, to: At) {
        self.clear(window, MERGED);
        for pane in (to.pane - (PANES - 1)).max(from - KEPT)..=from {
            let slot = if pane == from { CURRENT } else { slot(pane) };
            if self.times[window].all[slot].n > 0.0 {
                self.merge(window, slot, to.since_oldest(to.pane - pane));
            }
        }
    }

    /// Adds a pane, which begins `offset` ms after the oldest one, to the merged ones.
    fn merge(&mut self, window: usize, slot: usize, offset: f64) {
        let (merged, pane) = (self.place(window, MERGED), self.place(window, slot));
        let (before, rest) = self.panes.split_at_mut(pane.start);
        let times = &mut self.times[window];
        let mut joins = Joins::new();
        for first in (0..self.channels).step_by(BLOCK) {
            let block = first..self.channels.min(first + BLOCK);
            times.joins(MERGED, slot, offset, block.clone(), &mut joins);
            panes::merge(&mut before[merged.clone()], &rest[..pane.len()], self.channels, block, &joins);
        }
        times.join(MERGED, slot, offset);
    }

    /// After a restore at `ts`: the pane numbers, which are not saved.
    pub(super) fn resume(&mut self, lengths: &[i64], ts: i64) {
        self.current = lengths.iter().map(|length| pane(ts, *length)).collect();
    }

    /// Reads a value of every cache line that a reading needs. The loads do not wait for each other, and the reading need not wait
    /// for each of them in turn: with many devices that is most of its time.
    #[inline]
    pub(super) fn touch(&self) {
        let hot = &self.panes[..2 * FIELDS * self.channels * self.times.len()];
        let line = |all: u64, x: &f64| all ^ x.to_bits();
        let mut all = self.times.iter().fold(0, |all, times| times.touch(all));
        all = [hot, &self.last, &self.ewm].into_iter().fold(all, |all, values| values.iter().step_by(8).fold(all, line));
        std::hint::black_box(self.newest.iter().step_by(8).fold(all, |all, ts| all ^ *ts as u64));
    }

    /// Adds a reading of time `ts` to the panes it turned to: one value a channel, NaN for none.
    pub(super) fn absorb(&mut self, lengths: &[i64], ts: i64, values: &[f64]) {
        let missing = values.iter().map(|x| u32::from(x.is_nan())).sum::<u32>() as usize;
        if missing == values.len() {
            return;
        }
        self.weigh(lengths, ts, values);
        let mut steps = Steps::new();
        for (window, length) in lengths.iter().enumerate() {
            let t = (ts - start(self.current[window], *length)) as f64;
            let place = self.place(window, CURRENT);
            let (times, pane) = (&mut self.times[window], &mut self.panes[place]);
            if missing > 0 {
                times.part(CURRENT, values);
            }
            let all = times.add(CURRENT, t);
            for first in (0..self.channels).step_by(BLOCK) {
                let block = first..self.channels.min(first + BLOCK);
                let values = &values[block.clone()];
                times.steps(CURRENT, t, all, first, values, &mut steps);
                panes::add(pane, self.channels, block, values, &steps);
            }
        }
    }

    /// Renews the newest values and weighted means (Eckner, "Algorithms for Unevenly Spaced Time Series", 2019, EMA_next): a mean
    /// that the longest window has forgotten begins anew.
    fn weigh(&mut self, lengths: &[i64], ts: i64, values: &[f64]) {
        let Some(longest) = self.longest(lengths) else { return };
        let (half_life, first) = (longest.length as f64, longest.first());
        // Nearly always all channels were last there together.
        let (mut before, mut weight) = (i64::MIN, 1.0);
        for (c, x) in values.iter().enumerate().filter(|(_, x)| !x.is_nan()) {
            let newest = std::mem::replace(&mut self.newest[c], ts);
            if newest != before {
                before = newest;
                weight = if newest < first { 1.0 } else { -libm::expm1(-std::f64::consts::LN_2 * (ts - newest) as f64 / half_life) };
            }
            self.last[c] = *x;
            let mean = self.ewm[c] + weight * (x - self.ewm[c]);
            // Weight 1 is a new beginning; so is an overflow.
            self.ewm[c] = if weight == 1.0 || !mean.is_finite() { *x } else { mean };
        }
    }

    fn longest(&self, lengths: &[i64]) -> Option<At> {
        let (pane, length) = self.current.last().copied().zip(lengths.last().copied())?;
        Some(At { pane, length })
    }

    /// The first millisecond of the longest window: values before it are forgotten.
    pub(super) fn memory(&self, lengths: &[i64]) -> i64 {
        self.longest(lengths).map_or(i64::MAX, At::first)
    }

    /// Writes the statistics of one window into those of `out` that are asked for, each one value a channel.
    pub(super) fn statistics(&self, window: usize, length: i64, mut out: [Option<&mut [f64]>; FIELDS], room: &mut Room) {
        let Some(pane) = self.current.get(window).copied() else { return };
        let offset = At { pane, length }.since_oldest(0);
        let (a, b) = (self.pane(window, MERGED), self.pane(window, CURRENT));
        let Room(joins, statistics) = room;
        for first in (0..self.channels).step_by(BLOCK) {
            let block = first..self.channels.min(first + BLOCK);
            self.times[window].joins(MERGED, CURRENT, offset, block.clone(), joins);
            panes::statistics(a, b, self.channels, block.clone(), joins, statistics);
            for (out, values) in out.iter_mut().zip(statistics.iter()) {
                if let Some(out) = out {
                    out[block.clone()].copy_from_slice(&values[..block.len()]);
                }
            }
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        let values = self.panes.capacity() + self.last.capacity() + self.ewm.capacity() + self.newest.capacity() + self.current.capacity();
        let odd = self.times.iter().map(WindowTimes::heap).sum::<usize>();
        values * 8 + self.times.capacity() * size_of::<WindowTimes>() + odd
    }
}
