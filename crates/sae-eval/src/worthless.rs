//! Dictionaries that know little of the data, or nothing: what scores are worth.

use sae_config::{Code, Worthless};
use sae_models::{InitRng, ModelConfig, Role, Sae, init};
use tch::{Kind, Tensor};

use crate::ground_truth::unit_rows;
use crate::{Error, Result};

mod frozen;

/// Seed of all that is drawn: one that no model starts from.
const SEED: u64 = 0x0bad_d1c7_0000_0000;

/// Rows that the scale of activations is found on at most, and how many of them at a time.
const MAX_SCALED: i64 = 4096;
const SCALED_AT_ONCE: i64 = 512;

/// Makes a worthless dictionary of the width and normalisation of `sae`, that keeps the `k` largest
/// features of each row; some kinds have fewer features than `sae`, since there are no more of them.
///
/// Encoder and decoder have the same directions, but for [`Worthless::FrozenDecoder`], and b_dec is
/// the mean. Activations have one scale, by least squares: reconstructions are as good as they can
/// be with these features and one factor.
///
/// # Shapes
/// rows `[n, d_model]`: some that the SAE could be trained on, of its kind and on its device.
///
/// # Errors
/// [`Error::Ports`] of a transcoder; [`Error::Setting`] for a `k` of 0; [`Error::Empty`] of no rows;
/// [`Error::NotFinite`] for rows that are not finite.
pub fn worthless(kind: Worthless, sae: &Sae, rows: &Tensor, k: usize) -> Result<Sae> {
    let of = sae.config();
    if of.is_transcoder() {
        let expected = "an autoencoder: worthless dictionaries are of one port";
        return Err(Error::Ports { expected });
    }
    if k == 0 {
        return Err(Error::Setting { name: "k", expected: "at least 1".into(), got: "0".into() });
    }
    if rows.size().first().copied().unwrap_or_default() == 0 {
        return Err(Error::Empty { what: "rows" });
    }
    let _guard = tch::no_grad_guard();
    let (normal, _) = sae.normalizer.normalize(rows);
    let normal = normal.f_to_kind(Kind::Double)?.f_to_device(tch::Device::Cpu)?;
    let mean = normal.f_mean_dim([0i64].as_slice(), false, Kind::Double)?;
    let centred = normal.f_sub(&mean)?;
    let directions = unit_rows("rows", &directions(kind, &centred, of.n_features)?)?;
    let n_features = directions.size()[0] as usize;
    let config =
        ModelConfig { n_features, code: Code::TopK { k: k.min(n_features) }, ..of.clone() };
    let mut rng = InitRng::new(SEED);
    let mut made = init(config, &sae.normalizer, &mut rng, sae.kind(), sae.device())?;
    let set = |made: &mut Sae, role: Role, value: &Tensor| -> Result<()> {
        let value = value.f_to_kind(sae.kind())?.f_to_device(sae.device())?;
        made.parameters[role] = value.f_contiguous()?.copy();
        Ok(())
    };
    set(&mut made, Role::DecoderWeight, &directions)?;
    set(&mut made, Role::EncoderWeight, &directions)?;
    set(&mut made, Role::DecoderBias, &mean)?;
    let scale = scale(&made, &centred.f_narrow(0, 0, centred.size()[0].min(MAX_SCALED))?, k)?;
    set(&mut made, Role::EncoderWeight, &directions.f_mul_scalar(scale)?)?;
    if kind == Worthless::FrozenDecoder {
        let encoder = frozen::train(&directions.f_mul_scalar(scale)?, &directions, &centred, k)?;
        set(&mut made, Role::EncoderWeight, &encoder.weight)?;
        set(&mut made, Role::EncoderBias, &encoder.bias)?;
    }
    Ok(made)
}

/// The directions of a dictionary of at most `n` features, not yet of norm 1.
fn directions(kind: Worthless, centred: &Tensor, n: usize) -> Result<Tensor> {
    let (n_rows, d) = (centred.size()[0] as usize, centred.size()[1] as usize);
    let mut rng = InitRng::new(SEED);
    Ok(match kind {
        Worthless::RandomDirections | Worthless::FrozenDecoder => rng.directions(n, d, 1.0),
        Worthless::RandomRows => {
            let drawn = order(&mut rng, n_rows)?.f_narrow(0, 0, n.min(n_rows) as i64)?;
            centred.f_index_select(0, &drawn)?
        }
        Worthless::ShuffledRows => {
            let n = n.min(n_rows) as i64;
            let column = |i: usize| -> Result<Tensor> {
                let drawn = order(&mut rng, n_rows)?.f_narrow(0, 0, n)?;
                Ok(centred.f_select(1, i as i64)?.f_index_select(0, &drawn)?)
            };
            let columns = (0..d).map(column).collect::<Result<Vec<_>>>()?;
            Tensor::f_stack(&columns, 1)?
        }
        Worthless::PrincipalComponents => {
            let covariance = centred.f_tr()?.f_matmul(centred)?;
            // In rising order of their eigenvalues.
            let (_, vectors) = covariance.f_linalg_eigh("L")?;
            both_signs(&vectors.f_tr()?.f_flip([0])?, n)?
        }
        Worthless::Dimensions => {
            let variance = centred.f_square()?.f_sum_dim_intlist([0i64].as_slice(), false, None)?;
            let largest = variance.f_argsort(0, true)?;
            let axes = Tensor::f_eye(d as i64, (Kind::Double, centred.device()))?;
            both_signs(&axes.f_index_select(0, &largest)?, n)?
        }
    })
}

/// Numbers below `n` in an order drawn at random.
fn order(rng: &mut InitRng, n: usize) -> Result<Tensor> {
    Ok(rng.uniform(&[n as i64], 1.0).f_argsort(0, false)?)
}

/// The first axes, each followed by its opposite, `n` directions in all or as many as there are.
fn both_signs(axes: &Tensor, n: usize) -> Result<Tensor> {
    let both = Tensor::f_stack(&[axes, &axes.f_neg()?], 1)?.f_flatten(0, 1)?;
    Ok(both.f_narrow(0, 0, (n as i64).min(both.size()[0]))?)
}

/// The factor of activations with which reconstructions are nearest to the rows.
fn scale(made: &Sae, centred: &Tensor, k: usize) -> Result<f64> {
    let decoder = &made.parameters[Role::DecoderWeight].f_to_kind(Kind::Float)?;
    let decoder = decoder.f_to_device(centred.device())?;
    let k = (k as i64).min(decoder.size()[0]);
    let sum = |x: Tensor| -> Result<f64> { Ok(x.f_sum(Kind::Double)?.f_double_value(&[])?) };
    let (mut along, mut squared) = (0.0, 0.0);
    for x in centred.f_to_kind(Kind::Float)?.f_split(SCALED_AT_ONCE, 0)? {
        let z = x.f_matmul(&decoder.f_tr()?)?.f_relu()?;
        let (values, indices) = z.f_topk(k, 1, true, false)?;
        let kept = z.f_zeros_like()?.f_scatter(1, &indices, &values)?;
        let rebuilt = kept.f_matmul(&decoder)?;
        along += sum(rebuilt.f_mul(&x)?)?;
        squared += sum(rebuilt.f_square()?)?;
    }
    Ok(if squared > 0.0 && along > 0.0 { along / squared } else { 1.0 })
}
