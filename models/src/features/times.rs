//! When values came: count and moments of their times in each pane of a window.
//!
//! Nearly always all channels of a reading are there, so their times are kept once, and only a channel that a reading lacked has times
//! of its own in that pane. Updated and merged with the pairwise formulas of Chan, Golub and LeVeque ("Algorithms for Computing the Sample
//! Variance", 1983). Times are milliseconds since the start of their pane, so that a device that runs for years loses no digit.

use std::ops::Range;

use super::panes::SLOTS;

/// Channels computed at once.
pub(super) const BLOCK: usize = 32;

/// Count, mean and Σ(t − mean)² of times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Times {
    pub(super) n: f64,
    pub(super) mean: f64,
    pub(super) squares: f64,
}

/// What adding values takes beside them, by channel of a block: t less the mean time before, and 1/n after. Zeros add nothing.
pub(super) struct Steps {
    pub(super) dt: [f64; BLOCK],
    pub(super) share: [f64; BLOCK],
}

/// What joining two stretches takes beside their values: the later one's share of n, the weight n₁n₂/n of squared differences,
/// and that weight times the difference of mean times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Join {
    share: f64,
    weight: f64,
    skew: f64,
}

/// [`Join`] by channel of a block; with what features take from the joined times: 1/n, and 1000/Σ(t − t̄)² for slopes per second.
pub(super) struct Joins {
    pub(super) share: [f64; BLOCK],
    pub(super) weight: [f64; BLOCK],
    pub(super) skew: [f64; BLOCK],
    pub(super) per_n: [f64; BLOCK],
    pub(super) per_second: [f64; BLOCK],
}

impl Joins {
    fn all(times: Times, join: Join) -> Self {
        let (per_n, per_second) = times.divisors();
        Self {
            share: [join.share; BLOCK],
            weight: [join.weight; BLOCK],
            skew: [join.skew; BLOCK],
            per_n: [per_n; BLOCK],
            per_second: [per_second; BLOCK],
        }
    }

    fn set(&mut self, i: usize, times: Times, join: Join) {
        (self.share[i], self.weight[i], self.skew[i]) = (join.share, join.weight, join.skew);
        (self.per_n[i], self.per_second[i]) = times.divisors();
    }
}

impl Times {
    pub(super) const NONE: Self = Self { n: 0.0, mean: 0.0, squares: 0.0 };

    /// Adds one time; t less the mean before it, and 1/n.
    #[inline]
    fn add(&mut self, t: f64) -> (f64, f64) {
        self.n += 1.0;
        let share = 1.0 / self.n;
        let dt = t - self.mean;
        self.mean += dt * share;
        self.squares += dt * (t - self.mean);
        (dt, share)
    }

    /// Both stretches together, counted from the start of `self`, the earlier one; `later` starts `offset` ms after it.
    #[inline]
    fn joined(&self, later: &Self, offset: f64) -> (Self, Join) {
        let n = self.n + later.n;
        if n == 0.0 {
            return (Self::NONE, Join { share: 0.0, weight: 0.0, skew: 0.0 });
        }
        let share = later.n / n;
        let weight = self.n * share;
        let dt = later.mean + offset - self.mean;
        let skew = weight * dt;
        let joined = Self { n, mean: self.mean + dt * share, squares: self.squares + later.squares + dt * skew };
        (joined, Join { share, weight, skew })
    }

    /// 1/n and 1000/Σ(t − t̄)²; infinite where there is none.
    #[inline]
    fn divisors(&self) -> (f64, f64) {
        (1.0 / self.n, 1_000.0 / self.squares)
    }
}

/// The times of one channel in one pane, where they are not those of all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Odd {
    /// Slot of the pane, channel: entries are sorted by both.
    pub(super) at: (u32, u32),
    pub(super) times: Times,
}

/// The times of one window: of all readings with a value by slot of the pane, and of the channels that differ.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WindowTimes {
    pub(super) all: [Times; SLOTS],
    pub(super) odd: Vec<Odd>,
}

impl WindowTimes {
    pub(super) fn new() -> Self {
        Self { all: [Times::NONE; SLOTS], odd: Vec::new() }
    }

    /// Forgets a pane.
    pub(super) fn clear(&mut self, slot: usize) {
        self.all[slot] = Times::NONE;
        let range = self.range(slot, 0..u32::MAX as usize);
        if !range.is_empty() {
            self.odd.drain(range);
        }
    }

    /// Where the odd channels of a pane stand.
    fn range(&self, slot: usize, channels: Range<usize>) -> Range<usize> {
        if self.odd.is_empty() {
            return 0..0;
        }
        let before = |channel: usize| self.odd.partition_point(|odd| odd.at < (slot as u32, channel as u32));
        before(channels.start)..before(channels.end)
    }

    /// Gives the channels that this reading lacks times of their own, before it is added.
    pub(super) fn part(&mut self, slot: usize, values: &[f64]) {
        for channel in values.iter().enumerate().filter(|(_, x)| x.is_nan()).map(|(c, _)| c) {
            let at = (slot as u32, channel as u32);
            if let Err(place) = self.odd.binary_search_by_key(&at, |odd| odd.at) {
                // Few: doubling would cost each device memory that it never uses.
                self.odd.reserve_exact(usize::from(self.odd.len() == self.odd.capacity()) * 4);
                self.odd.insert(place, Odd { at, times: self.all[slot] });
            }
        }
    }

    /// Adds a reading at `t` to the times of all; t less their mean before it, and 1/n.
    pub(super) fn add(&mut self, slot: usize, t: f64) -> (f64, f64) {
        self.all[slot].add(t)
    }

    /// Adds the reading to the odd channels that it has among a block's, `first` the block's first; the steps of all channels of the block.
    #[inline]
    pub(super) fn steps(&mut self, slot: usize, t: f64, all: (f64, f64), first: usize, values: &[f64]) -> Steps {
        let mut steps = Steps { dt: [all.0; BLOCK], share: [all.1; BLOCK] };
        let range = self.range(slot, first..first + values.len());
        for odd in &mut self.odd[range] {
            let i = odd.at.1 as usize - first;
            if !values[i].is_nan() {
                (steps.dt[i], steps.share[i]) = odd.times.add(t);
            }
        }
        steps
    }

    /// How to join pane `b` to the earlier `a` (`offset` ms before it), for a block of channels.
    #[inline]
    pub(super) fn joins(&self, a: usize, b: usize, offset: f64, channels: Range<usize>) -> Joins {
        let (times, join) = self.all[a].joined(&self.all[b], offset);
        let mut joins = Joins::all(times, join);
        self.each_odd(a, b, channels.clone(), |channel, earlier, later| {
            let (times, join) = earlier.joined(later, offset);
            joins.set(channel - channels.start, times, join);
        });
        joins
    }

    /// Makes pane `a` the times of both panes together.
    pub(super) fn join(&mut self, a: usize, b: usize, offset: f64) {
        let mut odd = Vec::new();
        self.each_odd(a, b, 0..u32::MAX as usize, |channel, earlier, later| {
            odd.push(Odd { at: (a as u32, channel as u32), times: earlier.joined(later, offset).0 });
        });
        let all = self.all[a].joined(&self.all[b], offset).0;
        self.clear(a);
        self.all[a] = all;
        if odd.is_empty() {
            return;
        }
        self.odd.reserve_exact(odd.len());
        let place = self.range(a, 0..0).start;
        self.odd.splice(place..place, odd);
    }

    /// Hands out each channel that is odd in `a` or in `b`, ascending, with its times in both.
    #[inline]
    fn each_odd(&self, a: usize, b: usize, channels: Range<usize>, mut each: impl FnMut(usize, &Times, &Times)) {
        let mut of_a = self.odd[self.range(a, channels.clone())].iter().peekable();
        let mut of_b = self.odd[self.range(b, channels)].iter().peekable();
        loop {
            let channel = match (of_a.peek(), of_b.peek()) {
                (None, None) => return,
                (Some(x), None) | (None, Some(x)) => x.at.1,
                (Some(x), Some(y)) => x.at.1.min(y.at.1),
            };
            let earlier = of_a.next_if(|odd| odd.at.1 == channel).map_or(&self.all[a], |odd| &odd.times);
            let later = of_b.next_if(|odd| odd.at.1 == channel).map_or(&self.all[b], |odd| &odd.times);
            each(channel as usize, earlier, later);
        }
    }
}
