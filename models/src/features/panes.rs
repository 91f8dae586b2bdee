//! Panes: the moments of all channels over one sixth of a window, side by side, so that each formula runs over all channels at once.
//!
//! A pane holds five values a channel: mean, Σ(t − t̄)(x − x̄), Σ(x − x̄)², min, max. The mean is kept less the pane's own smallest value, so that
//! nothing is ever computed on x itself but differences of neighbours: values around 1e6 with a spread of 1e-3 keep their digits. Updated
//! and merged as in Chan, Golub and LeVeque (1983), never Σx². No fused multiply-add, a fixed order: the same bits on every machine.

use std::ops::Range;

use super::times::{BLOCK, Joins, Steps};

/// Panes of a window: the current one and the five before it.
pub(super) const PANES: i64 = 6;
/// Where panes are kept: the merged five finished ones, the current one, then the newest four finished ones in turn. The fifth is in the
/// merged ones and is not needed alone: when the next pane finishes, it leaves.
pub(super) const SLOTS: usize = 2 + KEPT as usize;
/// The slot of the merged five finished panes.
pub(super) const MERGED: usize = 0;
/// The slot of the current pane.
pub(super) const CURRENT: usize = 1;
/// Finished panes that are kept alone.
pub(super) const KEPT: i64 = PANES - 2;
/// Values a channel in a pane.
pub(super) const FIELDS: usize = 5;
/// What an empty pane holds of a channel.
pub(super) const EMPTY: [f64; FIELDS] = [0.0, 0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY];

/// Number of the pane of `ts` since the epoch. A sixth of the window, without rounding: 10 s is no multiple of 6 ms, and a pane need
/// not be whole milliseconds.
pub(super) fn pane(ts: i64, length_ms: i64) -> i64 {
    (ts * PANES).div_euclid(length_ms)
}

/// The last whole millisecond not after the start of a pane.
pub(super) fn start(pane: i64, length_ms: i64) -> i64 {
    (pane * length_ms).div_euclid(PANES)
}

/// The slot of a finished pane.
pub(super) fn slot(pane: i64) -> usize {
    2 + pane.rem_euclid(KEPT) as usize
}

/// Empties a pane of `channels` channels.
pub(super) fn clear(pane: &mut [f64], channels: usize) {
    for (field, empty) in pane.chunks_exact_mut(channels).zip(EMPTY) {
        field.fill(empty);
    }
}

/// The five fields of some channels of a pane of `n` channels.
#[inline(always)]
fn fields<'a>(pane: &'a [f64], n: usize, channels: &Range<usize>) -> [&'a [f64]; FIELDS] {
    let (from, to) = (channels.start, channels.end.min(channels.start + BLOCK));
    let field = |f: usize| &pane[f * n + from..f * n + to];
    [field(0), field(1), field(2), field(3), field(4)]
}

#[inline(always)]
fn fields_mut<'a>(pane: &'a mut [f64], n: usize, channels: &Range<usize>) -> [&'a mut [f64]; FIELDS] {
    let (from, to) = (channels.start, channels.end.min(channels.start + BLOCK));
    let (mean, rest) = pane.split_at_mut(n);
    let (tx, rest) = rest.split_at_mut(n);
    let (xx, rest) = rest.split_at_mut(n);
    let (min, max) = rest.split_at_mut(n);
    [&mut mean[from..to], &mut tx[from..to], &mut xx[from..to], &mut min[from..to], &mut max[from..to]]
}

/// How far the smallest value moves from `old` to `new`; 0 for a pane that was empty.
#[inline(always)]
fn moved(old: f64, new: f64) -> f64 {
    if old < f64::INFINITY { old - new } else { 0.0 }
}

/// Adds a value each, NaN for none, to a block of channels.
#[inline]
pub(super) fn add(pane: &mut [f64], n: usize, channels: Range<usize>, values: &[f64], steps: &Steps) {
    let [mean, tx, xx, min, max] = fields_mut(pane, n, &channels);
    let len = channels.len().min(BLOCK);
    let (values, dt, share) = (&values[..len], &steps.dt[..len], &steps.share[..len]);
    let (mean, tx, xx, min, max) = (&mut mean[..len], &mut tx[..len], &mut xx[..len], &mut min[..len], &mut max[..len]);
    for c in 0..len {
        let x = values[c];
        let least = if x < min[c] { x } else { min[c] };
        let before = mean[c] + moved(min[c], least);
        let dx = x - least - before;
        let dx = if dx.is_nan() { 0.0 } else { dx };
        let part = dx * share[c];
        let after = dx - part;
        mean[c] = before + part;
        tx[c] += dt[c] * after;
        xx[c] += dx * after;
        min[c] = least;
        max[c] = if x > max[c] { x } else { max[c] };
    }
}

/// Channel `c` of a block of two panes together, the earlier one first, by field.
#[inline(always)]
fn joined(a: [f64; FIELDS], b: [f64; FIELDS], joins: &Joins, c: usize) -> [f64; FIELDS] {
    let [a_mean, a_tx, a_xx, a_min, a_max] = a;
    let [b_mean, b_tx, b_xx, b_min, b_max] = b;
    let least = if b_min < a_min { b_min } else { a_min };
    let before = a_mean + moved(a_min, least);
    let dx = b_mean + moved(b_min, least) - before;
    let most = if b_max > a_max { b_max } else { a_max };
    [before + dx * joins.share[c], a_tx + b_tx + dx * joins.skew[c], a_xx + b_xx + dx * dx * joins.weight[c], least, most]
}

/// Merges a block of channels of the later pane `b` into `a`.
#[inline]
pub(super) fn merge(a: &mut [f64], b: &[f64], n: usize, channels: Range<usize>, joins: &Joins) {
    let [mean, tx, xx, min, max] = fields_mut(a, n, &channels);
    let b = fields(b, n, &channels);
    let len = channels.len().min(BLOCK);
    let (mean, tx, xx, min, max) = (&mut mean[..len], &mut tx[..len], &mut xx[..len], &mut min[..len], &mut max[..len]);
    let b = [&b[0][..len], &b[1][..len], &b[2][..len], &b[3][..len], &b[4][..len]];
    for c in 0..len {
        let later = [b[0][c], b[1][c], b[2][c], b[3][c], b[4][c]];
        [mean[c], tx[c], xx[c], min[c], max[c]] = joined([mean[c], tx[c], xx[c], min[c], max[c]], later, joins, c);
    }
}

/// Mean, standard deviation, min, max and slope of a block of channels over the finished panes `a` and the current pane `b` together.
#[inline]
pub(super) fn statistics(a: &[f64], b: &[f64], n: usize, channels: Range<usize>, joins: &Joins, out: &mut [[f64; BLOCK]; FIELDS]) {
    let len = channels.len().min(BLOCK);
    let (a, b) = (fields(a, n, &channels), fields(b, n, &channels));
    let a = [&a[0][..len], &a[1][..len], &a[2][..len], &a[3][..len], &a[4][..len]];
    let b = [&b[0][..len], &b[1][..len], &b[2][..len], &b[3][..len], &b[4][..len]];
    let [means, stds, mins, maxs, slopes] = out;
    for c in 0..len {
        let (earlier, later) = ([a[0][c], a[1][c], a[2][c], a[3][c], a[4][c]], [b[0][c], b[1][c], b[2][c], b[3][c], b[4][c]]);
        let [mean, tx, xx, min, max] = joined(earlier, later, joins, c);
        // Without a value the smallest is infinite and 1/n, too; 0 times infinity is NaN: all five end as missing.
        means[c] = finite(min + mean);
        stds[c] = finite((xx * joins.per_n[c]).sqrt());
        mins[c] = finite(min);
        maxs[c] = finite(max);
        slopes[c] = finite(tx * joins.per_second[c]);
    }
}

/// Overflow and division by zero count as missing: no infinity enters a window or leaves one, and there is one NaN.
#[inline(always)]
pub(super) fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::NAN }
}
