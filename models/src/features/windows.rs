//! Sliding windows in event time over all channels of a device, each cut into six panes aligned to the epoch: the current pane and the
//! five before it, whose merged moments are renewed only when a pane turns.
//!
//! Channels whose values came at the same times form a *class* and share the moments of those times. There is one class until a
//! reading lacks some channels; classes that have become the same again, because the difference left every window, are united.

use super::panes::{self, FIELDS, PANES, Whole, finite, pane, slot, start};
use super::times::{Join, Step, Times};

/// Six panes, then the merged five finished ones.
const SLOTS: usize = PANES as usize + 1;
const FINISHED: usize = PANES as usize;

/// Channels that came together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Class {
    /// Of each window, each slot.
    pub(super) times: Vec<Times>,
    /// `ts` of the newest reading that had them.
    pub(super) newest: i64,
    /// Whether this reading has values of it, and whether it lacks some.
    here: bool,
    gone: bool,
}

impl Class {
    pub(super) fn new(windows: usize) -> Self {
        Self { times: vec![Times::NONE; windows * SLOTS], newest: 0, here: false, gone: false }
    }

    fn times(&mut self, window: usize) -> &mut [Times] {
        &mut self.times[window * SLOTS..][..SLOTS]
    }

    pub(super) fn slot(&self, window: usize, slot: usize) -> &Times {
        &self.times[window * SLOTS + slot]
    }

    pub(super) fn slot_mut(&mut self, window: usize, slot: usize) -> &mut Times {
        &mut self.times[window * SLOTS + slot]
    }

    /// The finished and the current part of a window together.
    fn whole(&self, window: usize, at: At) -> (Times, Join) {
        let times = &self.times[window * SLOTS..][..SLOTS];
        times[FINISHED].joined(&times[slot(at.pane)], at.offset(PANES - 1))
    }

    /// Whether no window holds a value.
    fn is_empty(&self) -> bool {
        self.times.iter().all(|t| t.n == 0.0)
    }
}

/// Where a window stands.
#[derive(Debug, Clone, Copy)]
struct At {
    pane: i64,
    length: i64,
}

impl At {
    /// Milliseconds from the start of the pane `back` panes ago to the start of the current one.
    fn offset(self, back: i64) -> f64 {
        (start(self.pane, self.length) - start(self.pane - back, self.length)) as f64
    }

    /// Milliseconds from the start of the oldest pane to that of the pane `back` panes ago.
    fn since_oldest(self, back: i64) -> f64 {
        (start(self.pane - back, self.length) - start(self.pane - (PANES - 1), self.length)) as f64
    }
}

/// The windows of one device, and each channel's newest value and weighted mean, which its windows' memory bounds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Windows {
    channels: usize,
    /// Number of each window's current pane; `None` before the first reading.
    pub(super) current: Option<Vec<i64>>,
    /// Of each window, each slot, each field: one value a channel.
    pub(super) panes: Vec<f64>,
    pub(super) class_of: Vec<u32>,
    pub(super) classes: Vec<Class>,
    pub(super) last: Vec<f64>,
    pub(super) ewm: Vec<f64>,
}

impl Windows {
    pub(super) fn new(windows: usize, channels: usize) -> Self {
        let mut fresh = Self {
            channels,
            current: None,
            panes: vec![0.0; windows * SLOTS * FIELDS * channels],
            class_of: vec![0; channels],
            classes: vec![Class::new(windows)],
            last: vec![f64::NAN; channels],
            ewm: vec![f64::NAN; channels],
        };
        fresh.panes.chunks_exact_mut(FIELDS * channels).for_each(|pane| panes::clear(pane, channels));
        fresh
    }

    /// Forgets everything.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.windows(), self.channels);
    }

    /// Number of windows.
    pub(super) fn windows(&self) -> usize {
        self.panes.len() / (SLOTS * FIELDS * self.channels)
    }

    /// One pane of one window.
    pub(super) fn pane(&self, window: usize, slot: usize) -> &[f64] {
        &self.panes[(window * SLOTS + slot) * FIELDS * self.channels..][..FIELDS * self.channels]
    }

    pub(super) fn pane_mut(&mut self, window: usize, slot: usize) -> &mut [f64] {
        &mut self.panes[(window * SLOTS + slot) * FIELDS * self.channels..][..FIELDS * self.channels]
    }

    /// Moves on to the panes of `ts`.
    pub(super) fn turn(&mut self, lengths: &[i64], ts: i64) {
        let Some(mut current) = self.current.take() else {
            self.current = Some(lengths.iter().map(|length| pane(ts, *length)).collect());
            return;
        };
        for (window, (length, current)) in lengths.iter().zip(&mut current).enumerate() {
            let to = At { pane: pane(ts, *length), length: *length };
            let from = std::mem::replace(current, to.pane);
            if to.pane == from {
                continue;
            }
            for stale in (from + 1).max(to.pane - PANES + 1)..=to.pane {
                self.clear(window, slot(stale));
            }
            self.renew(window, to);
            if window + 1 == lengths.len() {
                self.unite();
            }
        }
        self.current = Some(current);
    }

    fn clear(&mut self, window: usize, slot: usize) {
        let channels = self.channels;
        panes::clear(self.pane_mut(window, slot), channels);
        self.classes.iter_mut().for_each(|class| class.times(window)[slot] = Times::NONE);
    }

    /// Merges the five finished panes of `window` anew, the oldest first.
    fn renew(&mut self, window: usize, at: At) {
        self.clear(window, FINISHED);
        for back in (1..PANES).rev() {
            let from = slot(at.pane - back);
            if self.classes.iter().all(|class| class.times[window * SLOTS + from].n == 0.0) {
                continue;
            }
            let join = |class: &mut Class| {
                let times = class.times(window);
                let (joined, join) = times[FINISHED].joined(&times[from], at.since_oldest(back));
                times[FINISHED] = joined;
                join
            };
            let size = FIELDS * self.channels;
            let (finished, rest) = self.panes[window * SLOTS * size..][..SLOTS * size].split_at_mut(FINISHED * size);
            let (pane, merged) = (&finished[from * size..][..size], rest);
            if let [class] = &mut self.classes[..] {
                let join = join(class);
                panes::merge(merged, pane, self.channels, |_| join);
            } else {
                let joins: Vec<Join> = self.classes.iter_mut().map(join).collect();
                panes::merge(merged, pane, self.channels, |c| joins[self.class_of[c] as usize]);
            }
        }
    }

    /// After a restore: renews what is not saved, the merged panes.
    pub(super) fn renew_all(&mut self, lengths: &[i64]) {
        for (window, length) in lengths.iter().enumerate() {
            if let Some(pane) = self.current.as_ref().map(|current| current[window]) {
                self.renew(window, At { pane, length: *length });
            }
        }
    }

    /// Adds a reading of time `ts`: one value a channel, NaN for none.
    pub(super) fn absorb(&mut self, lengths: &[i64], ts: i64, values: &[f64]) {
        self.split(values);
        self.weigh(lengths, ts, values);
        let Some(current) = self.current.take() else { return };
        for (window, (length, pane)) in lengths.iter().zip(&current).enumerate() {
            let (slot, t) = (slot(*pane), (ts - start(*pane, *length)) as f64);
            let step = |class: &mut Class| if class.here { class.times(window)[slot].add(t) } else { Step::default() };
            if let [class] = &mut self.classes[..] {
                let step = step(class);
                panes::add(self.pane_mut(window, slot), values, |_| step);
            } else {
                let steps: Vec<Step> = self.classes.iter_mut().map(step).collect();
                let class_of = std::mem::take(&mut self.class_of);
                panes::add(self.pane_mut(window, slot), values, |c| steps[class_of[c] as usize]);
                self.class_of = class_of;
            }
        }
        self.current = Some(current);
    }

    /// Splits the classes of which this reading has some channels and lacks others.
    fn split(&mut self, values: &[f64]) {
        let missing = values.iter().filter(|x| x.is_nan()).count();
        if let [class] = &mut self.classes[..]
            && (missing == 0 || missing == values.len())
        {
            class.here = missing == 0;
            return;
        }
        self.classes.iter_mut().for_each(|class| (class.here, class.gone) = (false, false));
        for (class, x) in self.class_of.iter().zip(values) {
            let class = &mut self.classes[*class as usize];
            if x.is_nan() { class.gone = true } else { class.here = true }
        }
        for old in 0..self.classes.len() {
            if self.classes[old].here && self.classes[old].gone {
                let fresh = self.classes.len() as u32;
                self.classes.push(Class { here: false, ..self.classes[old].clone() });
                let members = self.class_of.iter_mut().zip(values).filter(|(class, x)| **class as usize == old && x.is_nan());
                members.for_each(|(class, _)| *class = fresh);
            }
        }
    }

    /// Unites classes whose values came at the same times as far as the windows remember.
    fn unite(&mut self) {
        let mut at = 1;
        while at < self.classes.len() {
            let class = &self.classes[at];
            let same = |other: &Class| other.times == class.times && (other.newest == class.newest || class.is_empty());
            let Some(into) = self.classes[..at].iter().position(same) else {
                at += 1;
                continue;
            };
            self.classes.remove(at);
            for class in &mut self.class_of {
                *class = if *class as usize == at { into as u32 } else { *class - u32::from(*class as usize > at) };
            }
        }
    }

    /// Renews the newest values and weighted means (Eckner, "Algorithms for Unevenly Spaced Time Series", 2019, EMA_next): a mean
    /// that the longest window has forgotten begins anew.
    fn weigh(&mut self, lengths: &[i64], ts: i64, values: &[f64]) {
        let at = self.longest(lengths);
        let half_life = lengths.last().map_or(1.0, |ms| *ms as f64);
        let weight = |class: &mut Class| {
            if !class.here {
                return 0.0;
            }
            let age = (ts - std::mem::replace(&mut class.newest, ts)) as f64;
            let known = at.is_some_and(|(window, at)| class.whole(window, at).0.n > 0.0);
            if known { -libm::expm1(-std::f64::consts::LN_2 * age / half_life) } else { 1.0 }
        };
        let (last, ewm) = (&mut self.last, &mut self.ewm);
        if let [class] = &mut self.classes[..] {
            let weight = weight(class);
            newest(last, ewm, values, |_| weight);
        } else {
            let weights: Vec<f64> = self.classes.iter_mut().map(weight).collect();
            newest(last, ewm, values, |c| weights[self.class_of[c] as usize]);
        }
    }

    /// The longest window and where it stands.
    fn longest(&self, lengths: &[i64]) -> Option<(usize, At)> {
        let (pane, length) = self.current.as_ref()?.last().copied().zip(lengths.last().copied())?;
        Some((lengths.len() - 1, At { pane, length }))
    }

    /// Writes the statistics of one window into those of `out` that are asked for, each one value a channel.
    pub(super) fn statistics(&self, window: usize, length: i64, out: [Option<&mut [f64]>; FIELDS]) {
        let Some(pane) = self.current.as_ref().map(|current| current[window]) else { return };
        let at = At { pane, length };
        let whole = |class: &Class| {
            let (times, join) = class.whole(window, at);
            Whole { join, share: finite(1.0 / times.n), per_second: finite(1_000.0 / times.squares) }
        };
        let (a, b) = (self.pane(window, FINISHED), self.pane(window, slot(pane)));
        if let [class] = &self.classes[..] {
            let whole = whole(class);
            panes::statistics(a, b, self.channels, out, |_| whole);
        } else {
            let wholes: Vec<Whole> = self.classes.iter().map(whole).collect();
            panes::statistics(a, b, self.channels, out, |c| wholes[self.class_of[c] as usize]);
        }
    }

    /// Whether the longest window holds a value of each channel.
    pub(super) fn known(&self, lengths: &[i64]) -> impl Fn(usize) -> bool {
        let of_class: Vec<bool> = match self.longest(lengths) {
            Some((window, at)) => self.classes.iter().map(|class| class.whole(window, at).0.n > 0.0).collect(),
            None => vec![false; self.classes.len()],
        };
        move |c| of_class[self.class_of[c] as usize]
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        let times = self.classes.iter().map(|c| size_of_val(&c.times[..])).sum::<usize>();
        let values = self.panes.capacity() + self.last.capacity() + self.ewm.capacity() + self.current.as_ref().map_or(0, Vec::capacity);
        values * 8 + self.class_of.capacity() * 4 + self.classes.capacity() * size_of::<Class>() + times
    }
}

/// Renews newest values and weighted means by the values that are there.
#[inline(always)]
fn newest(last: &mut [f64], ewm: &mut [f64], values: &[f64], weight: impl Fn(usize) -> f64) {
    let n = values.len();
    let (last, ewm) = (&mut last[..n], &mut ewm[..n]);
    for c in 0..n {
        let (x, weight) = (values[c], weight(c));
        let mean = ewm[c] + weight * (x - ewm[c]);
        // Weight 1 is a new beginning; so is an overflow.
        let mean = if weight == 1.0 || !mean.is_finite() { x } else { mean };
        last[c] = if x.is_nan() { last[c] } else { x };
        ewm[c] = if x.is_nan() { ewm[c] } else { mean };
    }
}
