//! Sliding windows in event time over all channels of a device, each cut into six panes aligned to the epoch: the current pane and the
//! five before it, whose merged moments are renewed only when a pane turns.

use std::ops::Range;

use super::panes::{self, FIELDS, FINISHED, PANES, SLOTS, pane, slot, start};
use super::times::{BLOCK, Odd, WindowTimes};

/// The windows of one device, and each channel's newest value and weighted mean, which the longest window's memory bounds.
#[derive(Debug, Clone)]
pub(super) struct Windows {
    channels: usize,
    /// Number of each window's current pane; empty before the first reading.
    pub(super) current: Vec<i64>,
    /// Of each window, each slot, each field: one value a channel.
    pub(super) panes: Vec<f64>,
    pub(super) times: Vec<WindowTimes>,
    pub(super) last: Vec<f64>,
    pub(super) ewm: Vec<f64>,
    /// `ts` of each channel's newest value; `i64::MIN` for none.
    pub(super) newest: Vec<i64>,
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
        let at = (window * SLOTS + slot) * size;
        at..at + size
    }

    /// One pane of one window.
    pub(super) fn pane(&self, window: usize, slot: usize) -> &[f64] {
        &self.panes[self.place(window, slot)]
    }

    pub(super) fn pane_mut(&mut self, window: usize, slot: usize) -> &mut [f64] {
        let place = self.place(window, slot);
        &mut self.panes[place]
    }

    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let channels = self.channels;
        (0..channels).step_by(BLOCK).map(move |from| from..channels.min(from + BLOCK))
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
            for stale in (from + 1).max(to.pane - PANES + 1)..=to.pane {
                self.clear(window, slot(stale));
            }
            self.renew(window, to);
        }
    }

    fn clear(&mut self, window: usize, slot: usize) {
        let channels = self.channels;
        panes::clear(self.pane_mut(window, slot), channels);
        self.times[window].clear(slot);
    }

    /// Merges the five finished panes of `window` anew, the oldest first.
    fn renew(&mut self, window: usize, at: At) {
        self.clear(window, FINISHED);
        let merged = self.place(window, FINISHED).start;
        for back in (1..PANES).rev() {
            let from = slot(at.pane - back);
            if self.times[window].all[from].n == 0.0 {
                continue;
            }
            let (pane, offset) = (self.place(window, from), at.since_oldest(back));
            let (finished, rest) = self.panes.split_at_mut(merged);
            let times = &mut self.times[window];
            for first in (0..self.channels).step_by(BLOCK) {
                let block = first..self.channels.min(first + BLOCK);
                let joins = times.joins(FINISHED, from, offset, block.clone());
                panes::merge(&mut rest[..FIELDS * self.channels], &finished[pane.clone()], self.channels, block, &joins);
            }
            times.join(FINISHED, from, offset);
        }
    }

    /// After a restore at `ts`: computes what is not saved, the pane numbers and the merged panes.
    pub(super) fn resume(&mut self, lengths: &[i64], ts: i64) {
        self.current = lengths.iter().map(|length| pane(ts, *length)).collect();
        for (window, length) in lengths.iter().enumerate() {
            self.renew(window, At { pane: self.current[window], length: *length });
        }
    }

    /// Adds a reading of time `ts` to the panes it turned to: one value a channel, NaN for none.
    pub(super) fn absorb(&mut self, lengths: &[i64], ts: i64, values: &[f64]) {
        let missing = values.iter().map(|x| u32::from(x.is_nan())).sum::<u32>() as usize;
        if missing == values.len() {
            return;
        }
        self.weigh(lengths, ts, values);
        for (window, length) in lengths.iter().enumerate() {
            let pane = self.current[window];
            let (slot, t) = (slot(pane), (ts - start(pane, *length)) as f64);
            let place = self.place(window, slot);
            let times = &mut self.times[window];
            if missing > 0 {
                times.part(slot, values);
            }
            let all = times.add(slot, t);
            for block in self.blocks() {
                let steps = self.times[window].steps(slot, t, all, block.start, &values[block.clone()]);
                panes::add(&mut self.panes[place.clone()], self.channels, block.clone(), &values[block], &steps);
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
    pub(super) fn statistics(&self, window: usize, length: i64, mut out: [Option<&mut [f64]>; FIELDS]) {
        let Some(pane) = self.current.get(window).copied() else { return };
        let offset = At { pane, length }.since_oldest(0);
        let (a, b) = (self.pane(window, FINISHED), self.pane(window, slot(pane)));
        for block in self.blocks() {
            let joins = self.times[window].joins(FINISHED, slot(pane), offset, block.clone());
            let statistics = panes::statistics(a, b, self.channels, block.clone(), &joins);
            for (out, values) in out.iter_mut().zip(&statistics) {
                if let Some(out) = out {
                    out[block.clone()].copy_from_slice(&values[..block.len()]);
                }
            }
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        let values = self.panes.capacity() + self.last.capacity() + self.ewm.capacity() + self.newest.capacity() + self.current.capacity();
        let odd = self.times.iter().map(|t| t.odd.capacity() * size_of::<Odd>()).sum::<usize>();
        values * 8 + self.times.capacity() * size_of::<WindowTimes>() + odd
    }
}
