//! Sliding windows in event time, each cut into six panes aligned to the epoch: the current pane and the five before it.

use super::moments::{Moments, NONE};

const PANES: usize = 6;
/// Per channel: six panes, then the merged five finished ones, renewed only when a pane turns.
const STRIDE: usize = PANES + 1;

/// One window length over all channels of a device.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window {
    length_ms: i64,
    /// Number of the current pane since the epoch; `None` before the first reading.
    current: Option<i64>,
    moments: Vec<Moments>,
}

impl Window {
    pub(super) fn new(length_ms: i64, channels: usize) -> Self {
        Self { length_ms, current: None, moments: vec![NONE; channels * STRIDE] }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.current = None;
        self.moments.fill(NONE);
    }

    /// Moves on to the pane of `ts`; whether all that was in the window is now out of it.
    pub(super) fn turn(&mut self, ts: i64) -> bool {
        // A sixth of the window, without rounding: 10 s is no multiple of 6 ms, and a pane need not be whole milliseconds.
        let pane = (ts * PANES as i64).div_euclid(self.length_ms);
        let Some(current) = self.current.replace(pane) else { return true };
        if pane == current {
            return false;
        }
        let all_out = pane - current >= PANES as i64;
        let stale = if all_out { 0..PANES as i64 } else { current + 1..pane + 1 };
        for channel in self.moments.chunks_exact_mut(STRIDE) {
            stale.clone().for_each(|p| channel[slot(p)] = NONE);
            let oldest_first = (pane + 1 - PANES as i64)..pane;
            channel[PANES] = oldest_first.fold(NONE, |all, p| all.merged(&channel[slot(p)]));
        }
        all_out
    }

    /// Adds a value of `channel` to the current pane.
    #[inline]
    pub(super) fn add(&mut self, channel: usize, t: f64, x: f64) {
        if let Some(pane) = self.current {
            self.moments[channel * STRIDE + slot(pane)].add(t, x);
        }
    }

    /// The moments of `channel` over the whole window.
    #[inline]
    pub(super) fn over(&self, channel: usize) -> Moments {
        let Some(pane) = self.current else { return NONE };
        let channel = &self.moments[channel * STRIDE..][..STRIDE];
        channel[PANES].merged(&channel[slot(pane)])
    }
}

#[inline]
fn slot(pane: i64) -> usize {
    pane.rem_euclid(PANES as i64) as usize
}
