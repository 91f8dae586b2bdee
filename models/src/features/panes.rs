//! Panes: the moments of all channels over one sixth of a window, side by side, so that each formula runs over all channels at once.
//!
//! A pane holds five values a channel: mean, Σ(t − t̄)(x − x̄), Σ(x − x̄)², min, max. The mean is kept less the pane's own smallest value, so that
//! nothing is ever computed on x itself but differences of neighbours: values around 1e6 with a spread of 1e-3 keep their digits. Updated
//! and merged as in Chan, Golub and LeVeque (1983), never Σx². No fused multiply-add, a fixed order: the same bits on every machine.

use super::times::{Join, Step};

/// Panes of a window: the current one and the five before it.
pub(super) const PANES: i64 = 6;
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

/// Where a pane is kept.
pub(super) fn slot(pane: i64) -> usize {
    pane.rem_euclid(PANES) as usize
}

/// Empties a pane of `channels` channels.
pub(super) fn clear(pane: &mut [f64], channels: usize) {
    for (field, empty) in pane.chunks_exact_mut(channels).zip(EMPTY) {
        field.fill(empty);
    }
}

/// The five fields of a pane, each of `n` channels.
#[inline(always)]
fn fields(pane: &[f64], n: usize) -> [&[f64]; FIELDS] {
    let (mean, rest) = pane.split_at(n);
    let (tx, rest) = rest.split_at(n);
    let (xx, rest) = rest.split_at(n);
    let (min, max) = rest.split_at(n);
    [mean, tx, xx, min, &max[..n]]
}

#[inline(always)]
fn fields_mut(pane: &mut [f64], n: usize) -> [&mut [f64]; FIELDS] {
    let (mean, rest) = pane.split_at_mut(n);
    let (tx, rest) = rest.split_at_mut(n);
    let (xx, rest) = rest.split_at_mut(n);
    let (min, max) = rest.split_at_mut(n);
    [mean, tx, xx, min, &mut max[..n]]
}

/// How far the smallest value moves from `old` to `new`; 0 for a pane that was empty.
#[inline(always)]
fn moved(old: f64, new: f64) -> f64 {
    if old < f64::INFINITY { old - new } else { 0.0 }
}

/// Adds a value a channel, NaN for none; `step` says for a channel what its time did.
#[inline(always)]
pub(super) fn add(pane: &mut [f64], values: &[f64], step: impl Fn(usize) -> Step) {
    let n = values.len();
    let [mean, tx, xx, min, max] = fields_mut(pane, n);
    for c in 0..n {
        let (x, step) = (values[c], step(c));
        let least = if x < min[c] { x } else { min[c] };
        let before = mean[c] + moved(min[c], least);
        let dx = x - least - before;
        let dx = if dx.is_nan() { 0.0 } else { dx };
        let part = dx * step.share;
        let after = dx - part;
        mean[c] = before + part;
        tx[c] += step.dt * after;
        xx[c] += dx * after;
        min[c] = least;
        max[c] = if x > max[c] { x } else { max[c] };
    }
}

/// One channel of two panes together, the earlier one first, by field.
#[inline(always)]
fn joined(a: [f64; FIELDS], b: [f64; FIELDS], join: Join) -> [f64; FIELDS] {
    let [a_mean, a_tx, a_xx, a_min, a_max] = a;
    let [b_mean, b_tx, b_xx, b_min, b_max] = b;
    let least = if b_min < a_min { b_min } else { a_min };
    let before = a_mean + moved(a_min, least);
    let dx = b_mean + moved(b_min, least) - before;
    let most = if b_max > a_max { b_max } else { a_max };
    [before + dx * join.share, a_tx + b_tx + dx * join.skew, a_xx + b_xx + dx * dx * join.weight, least, most]
}

/// Merges the later pane `b` into `a`.
#[inline(always)]
pub(super) fn merge(a: &mut [f64], b: &[f64], n: usize, join: impl Fn(usize) -> Join) {
    let [mean, tx, xx, min, max] = fields_mut(a, n);
    let b = fields(b, n);
    for c in 0..n {
        let both = joined([mean[c], tx[c], xx[c], min[c], max[c]], [b[0][c], b[1][c], b[2][c], b[3][c], b[4][c]], join(c));
        [mean[c], tx[c], xx[c], min[c], max[c]] = both;
    }
}

/// What features a window's two parts give, beside their values: how to join them, 1/n and, for slopes per second, 1000/Σ(t − t̄)², each NaN
/// where there is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole {
    pub(super) join: Join,
    pub(super) share: f64,
    pub(super) per_second: f64,
}

/// Channels computed at once by [`statistics`].
const BLOCK: usize = 32;

/// Writes mean, standard deviation, min, max and slope of the finished panes `a` and the current pane `b` together into those of
/// `out` that are asked for.
#[inline(always)]
pub(super) fn statistics(a: &[f64], b: &[f64], n: usize, out: [Option<&mut [f64]>; FIELDS], whole: impl Fn(usize) -> Whole) {
    let (a, b) = (fields(a, n), fields(b, n));
    let [mut means, mut stds, mut mins, mut maxs, mut slopes] = out;
    for from in (0..n).step_by(BLOCK) {
        let to = n.min(from + BLOCK);
        let mut block = [[0.0; BLOCK]; FIELDS];
        let [mean, std, min, max, slope] = &mut block;
        let (a, b) = (a.map(|f| &f[from..to]), b.map(|f| &f[from..to]));
        for c in 0..to - from {
            let whole = whole(from + c);
            let both = joined([a[0][c], a[1][c], a[2][c], a[3][c], a[4][c]], [b[0][c], b[1][c], b[2][c], b[3][c], b[4][c]], whole.join);
            // Without a value the smallest is infinite, and 1/n is NaN: all five end as missing.
            mean[c] = finite(both[3] + both[0]);
            std[c] = finite((both[2] * whole.share).sqrt());
            min[c] = finite(both[3]);
            max[c] = finite(both[4]);
            slope[c] = finite(both[1] * whole.per_second);
        }
        for (out, block) in [&mut means, &mut stds, &mut mins, &mut maxs, &mut slopes].into_iter().zip(&block) {
            if let Some(out) = out {
                out[from..to].copy_from_slice(&block[..to - from]);
            }
        }
    }
}

/// Overflow and division by zero count as missing: no infinity enters a window or leaves one, and there is one NaN.
#[inline(always)]
pub(super) fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::NAN }
}
