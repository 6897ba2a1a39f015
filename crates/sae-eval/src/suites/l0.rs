//! Scores of a decoder that tell whether its L0 is right (Chanin and Garriga-Alonso 2025,
//! arXiv:2508.16560): an SAE with too few or too many active features mixes features that occur
//! together into one direction, so that its directions are more alike, and more of them lie along an
//! input, than at the right L0.

use sae_models::{Role, Sae};
use tch::{Kind, Tensor};

use crate::ground_truth::unit_rows;
use crate::metrics::to_f64s;
use crate::{Error, Result};

/// Directions whose cosines are computed at a time.
const BLOCK: i64 = 1024;

/// The `n`th decoder projection: of all projections of rows on decoder directions, (x − b_dec)·d/‖d‖
/// with x as the model normalises it, the value that `n` a row exceed on average: the one of rank
/// n·rows, counted from 0, in falling order.
///
/// # Shapes
/// x `[rows, d_model]`, of the kind and on the device of the model.
///
/// # Errors
/// [`Error::Ports`] of a transcoder, [`Error::Setting`] for an `n` that is not below the number of
/// features, [`Error::Empty`] of no rows, [`Error::NotFinite`].
pub fn decoder_projection(sae: &Sae, x: &Tensor, n: usize) -> Result<f64> {
    if sae.config().is_transcoder() {
        return Err(Error::Ports {
            expected: "an autoencoder: projections are of what is rebuilt",
        });
    }
    let n_features = sae.config().n_features;
    if n >= n_features {
        let expected = format!("below the {n_features} features");
        return Err(Error::Setting { name: "n", expected, got: n.to_string() });
    }
    let n_rows = x.size().first().copied().unwrap_or_default();
    if n_rows == 0 {
        return Err(Error::Empty { what: "rows" });
    }
    let _guard = tch::no_grad_guard();
    let parameters = &sae.parameters;
    let (x, _) = sae.normalizer.normalize(x);
    let directions = unit_rows("decoder", &parameters[Role::DecoderWeight])?;
    let directions = directions.f_to_kind(x.kind())?.f_to_device(x.device())?;
    let projections = (x - &parameters[Role::DecoderBias]).f_matmul(&directions.f_tr()?)?;
    let projections = projections.f_flatten(0, -1)?;
    // The rank in falling order, as one from 1 in rising order.
    let rank = n_rows * n_features as i64 - n as i64 * n_rows;
    let (value, _) = projections.f_kthvalue(rank, 0, false)?;
    let got = value.f_to_kind(Kind::Double)?.f_double_value(&[])?;
    if got.is_finite() { Ok(got) } else { Err(Error::NotFinite { name: "x", row: 0, got }) }
}

/// Mean absolute cosine of all pairs of decoder directions; none of fewer than two.
///
/// # Shapes
/// decoder `[n_features, d_out]`.
///
/// # Errors
/// [`Error::NotFinite`] for a direction with a NaN or an infinity.
pub fn decoder_cosine(decoder: &Tensor) -> Result<Option<f64>> {
    let _guard = tch::no_grad_guard();
    let unit = unit_rows("decoder", decoder)?.f_to_kind(Kind::Float)?;
    let n = unit.size()[0];
    if n < 2 {
        return Ok(None);
    }
    let mut sum = 0.0;
    for start in (0..n).step_by(BLOCK as usize) {
        let rows = unit.f_narrow(0, start, BLOCK.min(n - start))?;
        let cosines = rows.f_matmul(&unit.f_tr()?)?.f_abs()?;
        sum += cosines.f_sum(Kind::Double)?.f_double_value(&[])?;
    }
    // Each direction with itself, as it was summed: 1, or 0 of zeros.
    let squares = unit.f_square()?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double)?;
    let own: f64 = to_f64s(&squares)?.iter().sum();
    Ok(Some((sum - own) / (n * (n - 1)) as f64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use sae_config::{Code, Normalization};
    use sae_models::{InitRng, ModelConfig, Tensors, build};
    use tch::Device;

    use super::*;

    /// A TopK SAE with these directions, a bias, and a scale as its normalisation.
    fn sae(decoder: &Tensor, bias: f64, scale: f64) -> Sae {
        let (f, d) = (decoder.size()[0] as usize, decoder.size()[1] as usize);
        let float = (Kind::Float, Device::Cpu);
        let tensors = BTreeMap::from([
            ("encoder.weight".to_owned(), decoder.to_kind(Kind::Float)),
            ("encoder.bias".to_owned(), Tensor::zeros([f as i64], float)),
            ("decoder.weight".to_owned(), decoder.to_kind(Kind::Float)),
            ("decoder.bias".to_owned(), Tensor::full([d as i64], bias, float)),
            ("threshold".to_owned(), Tensor::full([0i64; 0], -1.0, float)),
            ("normalization.scale".to_owned(), Tensor::from(scale)),
        ]);
        let config = ModelConfig {
            d_model: d,
            d_out: None,
            n_features: f,
            normalization: Normalization::Scale,
            code: Code::TopK { k: 1 },
        };
        build(config, Tensors::new(tensors, Kind::Float, Device::Cpu)).unwrap()
    }

    #[test]
    fn orthogonal_directions_have_cosine_zero_and_equal_ones_one() {
        let eye = Tensor::eye(4, (Kind::Double, Device::Cpu));
        assert!(decoder_cosine(&eye).unwrap().unwrap().abs() < 1e-7);
        let same = Tensor::ones([3, 5], (Kind::Double, Device::Cpu));
        assert!((decoder_cosine(&same).unwrap().unwrap() - 1.0).abs() < 1e-6);
        assert_eq!(decoder_cosine(&eye.narrow(0, 0, 1)).unwrap(), None);
    }

    #[test]
    fn what_has_no_projection_is_named() {
        let mut rng = InitRng::new(1);
        let sae = sae(&rng.directions(6, 4, 1.0), 0.0, 1.0);
        let x = rng.uniform(&[3, 4], 1.0).to_kind(Kind::Float);
        let error = decoder_projection(&sae, &x, 6).unwrap_err().to_string();
        assert_eq!(error, "n: expected below the 6 features, got 6");
        let error = decoder_projection(&sae, &x.narrow(0, 0, 0), 2).unwrap_err().to_string();
        assert_eq!(error, "rows: expected at least one, got none");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Against the definition, entry by entry; permuting and rescaling features changes nothing,
        /// and rescaled rows with the scale in the normalisation neither.
        #[test]
        fn scores_are_their_definitions(
            seed in 0u64..1000, f in 2usize..9, d in 1usize..6, rows in 1usize..8, scale in 0.1f64..9.0,
        ) {
            let mut rng = InitRng::new(seed);
            let decoder = rng.directions(f, d, 1.0);
            let x = rng.uniform(&[rows as i64, d as i64], 3.0);
            let n = seed as usize % f;
            let got = decoder_projection(&sae(&decoder, 0.25, 1.0), &x.to_kind(Kind::Float), n).unwrap();

            let value = |t: &Tensor, i: usize, j: usize| t.double_value(&[i as i64, j as i64]);
            let dot = |i: usize, j: usize| -> f64 {
                (0..d).map(|c| (value(&x, i, c) - 0.25) * value(&decoder, j, c)).sum()
            };
            let mut all: Vec<f64> =
                (0..rows).flat_map(|i| (0..f).map(move |j| (i, j))).map(|(i, j)| dot(i, j)).collect();
            all.sort_by(|a, b| b.total_cmp(a));
            prop_assert!((got - all[n * rows]).abs() < 1e-5, "{} {}", got, all[n * rows]);

            let lengths = rng.uniform(&[f as i64, 1], 1.0).exp();
            let other = (&decoder * lengths).flip([0]);
            let scaled = (&x * scale).to_kind(Kind::Float);
            let same = decoder_projection(&sae(&other, 0.25, scale), &scaled, n).unwrap();
            prop_assert!((got - same).abs() < 1e-5, "{} {}", got, same);

            let mut sum = 0.0;
            for i in 0..f {
                for j in (0..f).filter(|j| *j != i) {
                    sum += (0..d).map(|c| value(&decoder, i, c) * value(&decoder, j, c)).sum::<f64>().abs();
                }
            }
            let cosine = decoder_cosine(&other).unwrap().unwrap();
            prop_assert!((cosine - sum / (f * (f - 1)) as f64).abs() < 1e-5);
        }
    }
}
