//! When values came: count and moments of their times, shared by all channels whose values came together.
//!
//! Updated and merged with the pairwise formulas of Chan, Golub and LeVeque ("Algorithms for Computing the Sample Variance", 1983).
//! Times are milliseconds since the start of their pane, so that a device that runs for years loses no digit.

/// Count, mean and Σ(t − mean)² of times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Times {
    pub(super) n: f64,
    pub(super) mean: f64,
    pub(super) squares: f64,
}

/// What adding a value at one more time takes, beside the value: t less the mean before it, and 1/n after it. Zeros add nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    pub(super) dt: f64,
    pub(super) share: f64,
}

/// What joining two stretches takes, beside their values: the later one's share of n, the weight n₁n₂/n of squared differences,
/// and that weight times the difference of mean times.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Join {
    pub(super) share: f64,
    pub(super) weight: f64,
    pub(super) skew: f64,
}

impl Times {
    pub(super) const NONE: Self = Self { n: 0.0, mean: 0.0, squares: 0.0 };

    /// Adds one time.
    pub(super) fn add(&mut self, t: f64) -> Step {
        self.n += 1.0;
        let share = 1.0 / self.n;
        let dt = t - self.mean;
        self.mean += dt * share;
        self.squares += dt * (t - self.mean);
        Step { dt, share }
    }

    /// Both stretches together, counted from the start of `self`, the earlier one; `later` starts `offset` ms after it.
    pub(super) fn joined(&self, later: &Self, offset: f64) -> (Self, Join) {
        let n = self.n + later.n;
        if n == 0.0 {
            return (Self::NONE, Join::default());
        }
        let share = later.n / n;
        let weight = self.n * share;
        let dt = later.mean + offset - self.mean;
        let skew = weight * dt;
        let joined = Self { n, mean: self.mean + dt * share, squares: self.squares + later.squares + dt * skew };
        (joined, Join { share, weight, skew })
    }
}
