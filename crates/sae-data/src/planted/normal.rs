//! The normal distribution: its upper tail, the tail's inverse, and events of its probability.

/// Steps of the table to one standard deviation.
const STEPS: f64 = 64.0;

/// The table spans −`LIMIT` to `LIMIT`; beyond it 32 random bits cannot tell the tail from 0 or 1.
const LIMIT: f64 = 7.0;

/// P(Z > z) of a standard normal Z.
pub(super) fn tail(z: f64) -> f64 {
    0.5 * libm::erfc(z * std::f64::consts::FRAC_1_SQRT_2)
}

/// The z with P(Z > z) = `p`, by bisection; infinite for 0 and 1.
pub(super) fn upper_quantile(p: f64) -> f64 {
    if p <= 0.0 {
        return f64::INFINITY;
    }
    if p >= 1.0 {
        return f64::NEG_INFINITY;
    }
    let (mut low, mut high) = (-40.0, 40.0);
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if tail(middle) > p {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// Decides from 32 random bits whether a standard normal exceeds a threshold.
///
/// The tail is computed only where the table's two neighbours do not decide, so that the answer is
/// the one of the exact tail.
#[derive(Debug)]
pub(super) struct Exceedance {
    /// The tail at the table's points, times 2³².
    tails: Vec<f64>,
}

impl Exceedance {
    pub(super) fn new() -> Self {
        let n = (2.0 * LIMIT * STEPS) as usize + 1;
        let point = |i: usize| i as f64 / STEPS - LIMIT;
        Self { tails: (0..n).map(|i| scaled(tail(point(i)))).collect() }
    }

    /// True with probability P(Z > z) where `bits` are uniform.
    pub(super) fn happens(&self, z: f32, bits: u32) -> bool {
        let (z, x) = (f64::from(z), f64::from(bits) + 0.5);
        // Saturates at 0 below the table.
        let place = ((z + LIMIT) * STEPS) as usize;
        let last = self.tails.len() - 1;
        if z <= -LIMIT || place >= last {
            return z < 0.0;
        }
        if x >= self.tails[place] {
            return false;
        }
        x < self.tails[place + 1] || x < scaled(tail(z))
    }
}

fn scaled(probability: f64) -> f64 {
    probability * 2f64.powi(32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tails_of_tables_of_the_normal_distribution() {
        for (z, p) in [
            (0.0, 0.5),
            (1.0, 0.158_655_253_931_457_06),
            (1.959_963_984_540_054, 0.025),
            (-1.0, 0.841_344_746_068_543),
            (6.0, 9.865_876_450_376_98e-10),
        ] {
            assert!((tail(z) / p - 1.0).abs() < 1e-12, "{z}: expected {p}, got {}", tail(z));
            assert!((upper_quantile(p) - z).abs() < 1e-9, "{p}: got {}", upper_quantile(p));
        }
        assert_eq!((upper_quantile(0.0), upper_quantile(1.0)), (f64::INFINITY, f64::NEG_INFINITY));
    }

    proptest! {
        #[test]
        fn the_table_decides_as_the_tail_does(z in -9.0..9.0f32, bits: u32, near in -2..3i64) {
            let exceedance = Exceedance::new();
            // Bits at random, and those next to the probability itself.
            let close = (scaled(tail(f64::from(z))) as i64 + near).clamp(0, u32::MAX.into()) as u32;
            for bits in [bits, close] {
                let expected = f64::from(bits) + 0.5 < scaled(tail(f64::from(z)));
                prop_assert_eq!(exceedance.happens(z, bits), expected, "{} {}", z, bits);
            }
        }
    }

    #[test]
    fn certain_and_impossible_thresholds() {
        let exceedance = Exceedance::new();
        for bits in [0, 1, u32::MAX] {
            assert!(exceedance.happens(f32::NEG_INFINITY, bits));
            assert!(!exceedance.happens(f32::INFINITY, bits));
        }
    }
}
