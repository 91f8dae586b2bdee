//! Log loss of scores, its gradients, and a sigmoid of plain f32 arithmetic.
//!
//! The exponential is a polynomial after range reduction (Cephes' `expf`): additions and multiplications alone, so the compiler may take several
//! at once, and every machine gives the same bits.

/// e^x for x ≤ 0, relative error about 1e-7; 0 far below −87.
#[inline]
#[allow(clippy::excessive_precision)]
fn exp_negative(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to a whole number, which then stands in the low bits.
    let x = x.max(-87.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * 0.693_359_375 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5.000_000_1e-1;
    let p = p * r * r + r + 1.0;
    let exponent = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32).wrapping_add(127);
    p * f32::from_bits((exponent as u32) << 23)
}

/// First and second derivative of the log loss of `score` for an outcome of 0 or 1, times `weight`.
#[inline]
pub(crate) fn gradient(score: f32, failed: f32, weight: f32) -> (f32, f32) {
    let e = exp_negative(-score.abs());
    let far = 1.0 / (1.0 + e);
    let near = e * far;
    // P(failed) and P(survived), each exact where it is small.
    let (p, q) = if score > 0.0 { (far, near) } else { (near, far) };
    let g = if failed > 0.5 { -q } else { p };
    (g * weight, p * q * weight)
}

/// Log loss of `score` for an outcome of 0 or 1.
pub(crate) fn log_loss(score: f64, failed: f64) -> f64 {
    // log(1 + e^s) − failed · s, without overflow.
    score.max(0.0) + libm::log1p(libm::exp(-score.abs())) - failed * score
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_agree_with_f64() {
        for i in -3000..3000 {
            let score = i as f32 / 100.0;
            let p = 1.0 / (1.0 + (-f64::from(score)).exp());
            for (failed, want) in [(0.0, p), (1.0, -1.0 / (1.0 + f64::from(score).exp()))] {
                let (g, h) = gradient(score, failed, 2.0);
                assert!((f64::from(g) - 2.0 * want).abs() <= 1e-6 * want.abs(), "{score} {g} {want}");
                let want = 2.0 / (1.0 + (-f64::from(score)).exp()) / (1.0 + f64::from(score).exp());
                assert!((f64::from(h) - want).abs() <= 1e-6 * want, "{score} {h} {want}");
            }
        }
        assert_eq!(gradient(-500.0, 0.0, 1.0).0.round(), 0.0);
    }

    #[test]
    fn log_loss_is_that_of_the_probability() {
        for score in [-30.0, -1.0, 0.0, 2.0, 40.0f64] {
            let p = 1.0 / (1.0 + (-score).exp());
            assert!((log_loss(score, 1.0) + p.ln()).abs() < 1e-12);
        }
    }
}
