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
    pub(super) fn new() -> Self {
        let zeros = [0.0; BLOCK];
        Self { share: zeros, weight: zeros, skew: zeros, per_n: zeros, per_second: zeros }
    }

    #[inline]
    fn fill(&mut self, len: usize, times: Times, join: Join) {
        self.share[..len].fill(join.share);
        self.weight[..len].fill(join.weight);
        self.skew[..len].fill(join.skew);
        let (per_n, per_second) = times.divisors();
        self.per_n[..len].fill(per_n);
        self.per_second[..len].fill(per_second);
    }

    fn set(&mut self, i: usize, times: Times, join: Join) {
        (self.share[i], self.weight[i], self.skew[i]) = (join.share, join.weight, join.skew);
        (self.per_n[i], self.per_second[i]) = times.divisors();
    }
}

impl Steps {
    pub(super) fn new() -> Self {
        Self { dt: [0.0; BLOCK], share: [0.0; BLOCK] }
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
    pub(super) channel: u32,
    pub(super) times: Times,
}

/// The times of one window: of all readings with a value by slot of the pane, and of the channels that differ.
#[derive(Debug, Clone)]
pub(super) struct WindowTimes {
    pub(super) all: [Times; SLOTS],
    /// By slot, ascending by channel.
    odd: Vec<Odd>,
    /// Where each slot's begin in `odd`, and the end.
    starts: [u32; SLOTS + 1],
}

impl WindowTimes {
    pub(super) fn new() -> Self {
        Self { all: [Times::NONE; SLOTS], odd: Vec::new(), starts: [0; SLOTS + 1] }
    }

    /// The odd channels of a pane.
    #[inline]
    pub(super) fn odd(&self, slot: usize) -> &[Odd] {
        &self.odd[self.starts[slot] as usize..self.starts[slot + 1] as usize]
    }

    /// Those of them among a block of channels.
    #[inline]
    fn odd_of(&self, slot: usize, channels: &Range<usize>) -> Range<usize> {
        let (start, all) = (self.starts[slot] as usize, self.odd(slot));
        if all.is_empty() {
            return start..start;
        }
        let before = |channel: usize| start + all.partition_point(|odd| (odd.channel as usize) < channel);
        before(channels.start)..before(channels.end)
    }

    /// Replaces the times of a pane.
    pub(super) fn set(&mut self, slot: usize, all: Times, odd: &[Odd]) {
        self.all[slot] = all;
        let range = self.starts[slot] as usize..self.starts[slot + 1] as usize;
        if range.is_empty() && odd.is_empty() {
            return;
        }
        let (less, more) = (range.len() as u32, odd.len() as u32);
        self.make_room(odd.len().saturating_sub(range.len()));
        self.odd.splice(range, odd.iter().copied());
        self.starts[slot + 1..].iter_mut().for_each(|start| *start = *start + more - less);
    }

    /// Room for a few more: doubling would cost each device memory that it never uses.
    fn make_room(&mut self, more: usize) {
        if self.odd.len() + more > self.odd.capacity() {
            self.odd.reserve_exact(more.next_multiple_of(4));
        }
    }

    /// Gives the channels that this reading lacks times of their own, before it is added.
    pub(super) fn part(&mut self, slot: usize, values: &[f64]) {
        for channel in values.iter().enumerate().filter(|(_, x)| x.is_nan()).map(|(c, _)| c as u32) {
            if let Err(place) = self.odd(slot).binary_search_by_key(&channel, |odd| odd.channel) {
                self.make_room(1);
                self.odd.insert(self.starts[slot] as usize + place, Odd { channel, times: self.all[slot] });
                self.starts[slot + 1..].iter_mut().for_each(|start| *start += 1);
            }
        }
    }

    /// Adds a reading at `t` to the times of all; t less their mean before it, and 1/n.
    #[inline]
    pub(super) fn add(&mut self, slot: usize, t: f64) -> (f64, f64) {
        self.all[slot].add(t)
    }

    /// Adds the reading to the odd channels that it has among a block's, `first` the block's first; the steps of all channels of the block.
    #[inline]
    pub(super) fn steps(&mut self, slot: usize, t: f64, all: (f64, f64), first: usize, values: &[f64], steps: &mut Steps) {
        steps.dt[..values.len()].fill(all.0);
        steps.share[..values.len()].fill(all.1);
        let range = self.odd_of(slot, &(first..first + values.len()));
        for odd in &mut self.odd[range] {
            let i = odd.channel as usize - first;
            if !values[i].is_nan() {
                (steps.dt[i], steps.share[i]) = odd.times.add(t);
            }
        }
    }

    /// How to join pane `b` to the earlier `a` (`offset` ms before it), for a block of channels.
    #[inline]
    pub(super) fn joins(&self, a: usize, b: usize, offset: f64, channels: Range<usize>, joins: &mut Joins) {
        let (times, join) = self.all[a].joined(&self.all[b], offset);
        joins.fill(channels.len(), times, join);
        let (of_a, of_b) = (&self.odd[self.odd_of(a, &channels)], &self.odd[self.odd_of(b, &channels)]);
        self.each_odd((a, of_a), (b, of_b), |channel, earlier, later| {
            let (times, join) = earlier.joined(later, offset);
            joins.set(channel as usize - channels.start, times, join);
        });
    }

    /// Makes pane `a` the times of both panes together.
    pub(super) fn join(&mut self, a: usize, b: usize, offset: f64) {
        let mut odd = Vec::new();
        self.each_odd((a, self.odd(a)), (b, self.odd(b)), |channel, earlier, later| {
            odd.push(Odd { channel, times: earlier.joined(later, offset).0 });
        });
        let all = self.all[a].joined(&self.all[b], offset).0;
        self.set(a, all, &odd);
    }

    /// Hands out each channel that is odd in `a` or in `b`, ascending, with its times in both.
    #[inline]
    fn each_odd(&self, a: (usize, &[Odd]), b: (usize, &[Odd]), mut each: impl FnMut(u32, &Times, &Times)) {
        let (mut of_a, mut of_b) = (a.1, b.1);
        loop {
            let channel = match (of_a, of_b) {
                ([], []) => return,
                ([x, ..], []) | ([], [x, ..]) => x.channel,
                ([x, ..], [y, ..]) => x.channel.min(y.channel),
            };
            let earlier = next(&mut of_a, channel).unwrap_or(&self.all[a.0]);
            let later = next(&mut of_b, channel).unwrap_or(&self.all[b.0]);
            each(channel, earlier, later);
        }
    }

    /// Reads a value of each cache line that a reading needs; see [`super::windows::Windows::touch`].
    #[inline]
    pub(super) fn touch(&self, all: u64) -> u64 {
        let hot = &self.odd[..self.starts[2] as usize];
        hot.iter().step_by(2).fold(all ^ self.all[0].n.to_bits(), |all, odd| all ^ odd.times.n.to_bits())
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.odd.capacity() * size_of::<Odd>()
    }
}

/// Takes the first of `odd` if it is `channel`'s.
#[inline]
fn next<'o>(odd: &mut &'o [Odd], channel: u32) -> Option<&'o Times> {
    let (first, rest) = odd.split_first()?;
    if first.channel != channel {
        return None;
    }
    *odd = rest;
    Some(&first.times)
}
