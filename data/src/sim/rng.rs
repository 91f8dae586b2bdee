//! The simulator's dice: a seeded generator whose every draw is the same on every machine.
//!
//! Only IEEE basic operations and `libm` are used, never the platform's own transcendental functions.

use rand_core::Rng;
use rand_pcg::Pcg64Mcg;

/// A stream of random draws.
#[derive(Debug, Clone)]
pub(crate) struct Dice(Pcg64Mcg);

/// One step of SplitMix64: spreads neighbouring seeds far apart.
fn spread(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Dice {
    /// The stream number `stream` of `seed`; different streams do not meet in practice.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let high = spread(seed);
        let low = spread(high ^ spread(stream));
        Dice(Pcg64Mcg::new((u128::from(high ^ stream) << 64) | u128::from(low)))
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform in [low, high).
    pub(crate) fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A whole number of milliseconds in [low, high) seconds.
    pub(crate) fn seconds(&mut self, low: f64, high: f64) -> i64 {
        (self.range(low, high) * 1000.0) as i64
    }

    /// Uniform in 0..n.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Nearly Gaussian, mean 0, standard deviation 1: the sum of the four 16-bit quarters of one draw. It never
    /// exceeds 3.47, which suits a sensor's noise, and costs one multiplication.
    pub(crate) fn gauss(&mut self) -> f64 {
        const MEAN: i64 = 131_070;
        const SD: f64 = 37_837.227_249_3;
        let x = self.0.next_u64();
        let sum = (x & 0xFFFF) + ((x >> 16) & 0xFFFF) + ((x >> 32) & 0xFFFF) + (x >> 48);
        (sum as i64 - MEAN) as f64 * (1.0 / SD)
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.unit())
    }
}

/// Something that happens with a small probability on each occasion; counts down to its next time instead of drawing
/// on every occasion, so rare things cost nothing.
#[derive(Debug, Clone)]
pub(crate) struct Rare {
    p: f64,
    left: u64,
}

impl Rare {
    /// Happens with probability `p` in [0, 1].
    pub(crate) fn new(p: f64, dice: &mut Dice) -> Self {
        let mut rare = Rare { p, left: u64::MAX };
        rare.draw(dice);
        rare
    }

    /// Whether it happens on this occasion.
    pub(crate) fn hit(&mut self, dice: &mut Dice) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        self.draw(dice);
        true
    }

    fn draw(&mut self, dice: &mut Dice) {
        self.left = if self.p >= 1.0 {
            0
        } else if self.p <= 0.0 {
            u64::MAX
        } else {
            // Occasions without it are geometric; `as` saturates for tiny p.
            (-dice.exponential() / libm::log1p(-self.p)) as u64
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_their_moments() {
        let mut dice = Dice::new(1, 2);
        let n = 200_000;
        let (mut sum, mut squares, mut exp) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let g = dice.gauss();
            sum += g;
            squares += g * g;
            exp += dice.exponential();
        }
        let n = f64::from(n);
        assert!((sum / n).abs() < 0.01, "mean {}", sum / n);
        assert!((squares / n - 1.0).abs() < 0.02, "variance {}", squares / n);
        assert!((exp / n - 1.0).abs() < 0.02, "exponential {}", exp / n);
    }

    #[test]
    fn rare_things_come_as_often_as_said() {
        for p in [0.0, 0.003, 0.4, 1.0] {
            let mut dice = Dice::new(5, 6);
            let mut rare = Rare::new(p, &mut dice);
            let hits = (0..100_000).filter(|_| rare.hit(&mut dice)).count() as f64 / 100_000.0;
            assert!((hits - p).abs() <= 0.1 * p, "{hits} for {p}");
        }
    }

    #[test]
    fn streams_of_one_seed_differ() {
        let first: Vec<f64> = (0..50).map(|stream| Dice::new(9, stream).unit()).collect();
        let mut sorted = first.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.dedup();
        assert_eq!(sorted.len(), 50);
    }
}
