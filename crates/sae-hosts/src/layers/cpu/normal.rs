//! The normal distribution.

use super::rows::exp;

/// Φ(x) = erfc(−x/√2)/2, with the coefficients of Cephes (Moshier 1989).
#[inline(always)]
pub(super) fn normal(x: f32) -> f32 {
    const NEAR: [f32; 7] = [
        7.853_861_4e-5,
        -8.010_194e-4,
        5.188_327_6e-3,
        -2.685_381_2e-2,
        1.128_358_5e-1,
        -3.761_262_5e-1,
        std::f32::consts::FRAC_2_SQRT_PI,
    ];
    const MIDDLE: [f32; 9] = [
        2.326_82e-2,
        -1.387_039_4e-1,
        3.687_424_7e-1,
        -5.824_733e-1,
        6.210_005e-1,
        -4.944_515e-1,
        3.404_88e-1,
        -2.741_127e-1,
        5.638_259_4e-1,
    ];
    const FAR: [f32; 8] = [
        -1.047_766_4e1,
        1.297_72e1,
        -7.495_519,
        2.921_019,
        -1.015_265_3,
        4.218_463_4e-1,
        -2.820_767_4e-1,
        5.641_895e-1,
    ];
    let polynomial = |coefficients: &[f32], x: f32| coefficients.iter().fold(0.0, |p, c| p * x + c);
    let t = x * std::f32::consts::FRAC_1_SQRT_2;
    let size = t.abs();
    let near = 0.5 + 0.5 * t * polynomial(&NEAR, t * t);
    let inverse = size.max(1.0).recip();
    let square = inverse * inverse;
    let of_square = if size < 2.0 { polynomial(&MIDDLE, square) } else { polynomial(&FAR, square) };
    let tail = 0.5 * exp(-t * t) * inverse * of_square;
    let outside = if x < 0.0 { tail } else { 1.0 - tail };
    if size < 1.0 { near } else { outside }
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::normal;

    #[test]
    fn the_normal_distribution_is_exact() {
        for i in -12_000..12_000 {
            let x = i as f32 * 1e-3;
            let exact = Tensor::from(-f64::from(x) * std::f64::consts::FRAC_1_SQRT_2);
            let expected = 0.5 * exact.special_erfc().double_value(&[]);
            let (got, allowed) = (f64::from(normal(x)), 1e-7 + 3e-6 * expected);
            assert!((got - expected).abs() <= allowed.min(2e-7), "Φ({x}): {got}, {expected}");
        }
        assert!(normal(f32::NAN).is_nan());
        assert_eq!([normal(f32::INFINITY), normal(f32::NEG_INFINITY)], [1.0, 0.0]);
    }
}
