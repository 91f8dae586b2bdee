//! Moments of a stretch of values against time, in a form that merges.
//!
//! Shifted by an origin near the values, then updated and merged with the pairwise formulas of Chan, Golub and LeVeque
//! ("Algorithms for Computing the Sample Variance", 1983): never a sum of squares, so values around 1e6 with a spread of 1e-3
//! keep their digits. No fused multiply-add, sums in a fixed order: the same bits on every machine.

/// Count, means, co-moments and extremes of (t, x) pairs; t in seconds, x less its origin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moments {
    pub(super) n: f64,
    pub(super) mean_t: f64,
    pub(super) mean_x: f64,
    /// Σ(t − mean_t)².
    pub(super) tt: f64,
    /// Σ(t − mean_t)(x − mean_x).
    pub(super) tx: f64,
    /// Σ(x − mean_x)².
    pub(super) xx: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

/// No pair yet.
pub(super) const NONE: Moments =
    Moments { n: 0.0, mean_t: 0.0, mean_x: 0.0, tt: 0.0, tx: 0.0, xx: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

impl Moments {
    /// Adds one pair.
    #[inline]
    pub(super) fn add(&mut self, t: f64, x: f64) {
        self.n += 1.0;
        let (dt, dx) = (t - self.mean_t, x - self.mean_x);
        self.mean_t += dt / self.n;
        self.mean_x += dx / self.n;
        let dx_after = x - self.mean_x;
        self.tt += dt * (t - self.mean_t);
        self.tx += dt * dx_after;
        self.xx += dx * dx_after;
        self.min = if x < self.min { x } else { self.min };
        self.max = if x > self.max { x } else { self.max };
    }

    /// The moments of both stretches together, `self` the earlier one.
    #[inline]
    pub(super) fn merged(&self, later: &Self) -> Self {
        if self.n == 0.0 {
            return *later;
        }
        if later.n == 0.0 {
            return *self;
        }
        let n = self.n + later.n;
        let (dt, dx) = (later.mean_t - self.mean_t, later.mean_x - self.mean_x);
        let share = later.n / n;
        let weight = self.n * share;
        Self {
            n,
            mean_t: self.mean_t + dt * share,
            mean_x: self.mean_x + dx * share,
            tt: self.tt + later.tt + dt * dt * weight,
            tx: self.tx + later.tx + dt * dx * weight,
            xx: self.xx + later.xx + dx * dx * weight,
            min: if later.min < self.min { later.min } else { self.min },
            max: if later.max > self.max { later.max } else { self.max },
        }
    }

    /// Population standard deviation.
    #[inline]
    pub(super) fn std(&self) -> f64 {
        (self.xx.max(0.0) / self.n).sqrt()
    }

    /// Least-squares slope per second; NaN for fewer than two distinct times.
    #[inline]
    pub(super) fn slope(&self) -> f64 {
        if self.tt > 0.0 { self.tx / self.tt } else { f64::NAN }
    }
}
