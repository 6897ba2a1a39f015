//! Which features tell an attribute, and what moving them does to an activation.

use sae_models::{Encoded, Role, Sae};
use tch::{Kind, Tensor};

use super::prompts::{Prompt, Prompts};
use crate::Result;

/// The features that tell an attribute, the best first, `n` of them: those with the greatest
/// ‖d_i‖²·(V_a(i) − max_b V_b(i)), where V is the variance of the feature's activation between the groups
/// of an attribute, a degree of freedom, and b are the other attributes.
pub(super) fn order(
    sae: &Sae,
    prompts: &Prompts,
    attribute: usize,
    things: &[usize],
    n: usize,
) -> Result<Vec<i64>> {
    let rows: Vec<&Tensor> =
        things.iter().map(|&thing| &prompts.prompt(thing, attribute).features).collect();
    let features = Tensor::f_cat(&rows, 0)?.f_to_kind(Kind::Double)?;
    let between = |of: usize| {
        let groups: Vec<usize> = things.iter().map(|&thing| prompts.value(thing, of)).collect();
        variance_between(&features, &groups)
    };
    let mut score = between(attribute)?;
    let others: Vec<usize> = (0..prompts.n_attributes()).filter(|of| *of != attribute).collect();
    let others = others.into_iter().map(between).collect::<Result<Vec<_>>>()?;
    if let Some(most) = others.into_iter().reduce(|a, b| a.maximum(&b)) {
        score = score.f_sub(&most)?;
    }
    let norms =
        sae.parameters[Role::DecoderWeight].f_norm_scalaropt_dim(2.0, [1i64].as_slice(), false)?;
    let score = score.f_mul(&norms.f_to_kind(Kind::Double)?.f_square()?)?;
    let n = (n as i64).min(score.size()[0]);
    Ok(Vec::<i64>::try_from(score.f_topk(n, 0, true, true)?.1)?)
}

/// Σ_g n_g (mean of the group − mean)²/(groups − 1) of each column; 0 where there is one group.
fn variance_between(x: &Tensor, groups: &[usize]) -> Result<Tensor> {
    let n_groups = groups.iter().max().map_or(0, |most| most + 1);
    let n = groups.len();
    let mut is_of = vec![0.0; n_groups * n];
    for (i, group) in groups.iter().enumerate() {
        is_of[group * n + i] = 1.0;
    }
    let is_of = Tensor::f_from_slice(&is_of)?.f_view([n_groups as i64, n as i64])?;
    let is_of = is_of.f_to_device(x.device())?;
    let sizes = is_of.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Double)?;
    let centred = x.f_sub(&x.f_mean_dim([0i64].as_slice(), true, Kind::Double)?)?;
    // Σ of a group squared, over its size; a number that no thing has counts nothing.
    let squares = is_of.f_mm(&centred)?.f_square()?.f_div(&sizes.f_clamp_min(1.0)?)?;
    let n_used = sizes.f_gt(0.0)?.f_sum(Kind::Double)?.f_double_value(&[])?;
    let sum = squares.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Double)?;
    Ok(sum.f_div_scalar((n_used - 1.0).max(1.0))?)
}

/// The base's activation with features moved from the source's, `[1, d_model]`.
pub(super) fn moved(sae: &Sae, base: &Prompt, source: &Prompt, which: &[i64]) -> Result<Tensor> {
    let at = Tensor::f_from_slice(which)?.f_to_device(sae.device())?;
    let theirs = source.features.f_index_select(1, &at)?;
    let features = base.features.f_index_copy(1, &at, &theirs)?;
    let rows = base.x.f_to_device(sae.device())?.f_to_kind(sae.kind())?;
    // The row's own scale, where the SAE normalises by rows.
    let scale = || sae.normalizer.normalize(&rows).1;
    let decode = |features: &Tensor| -> Result<Tensor> {
        let features = features.shallow_clone();
        Ok(sae.decode(&Encoded { features, k_hat: None, rows: scale() })?)
    };
    Ok(rows.f_add(&decode(&features)?.f_sub(&decode(&base.features)?)?)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn variance_between_groups_is_that_of_the_definition(
            values in prop::collection::vec(-3.0..3.0f64, 12),
            groups in prop::collection::vec(0..4usize, 12),
        ) {
            let got = variance_between(&Tensor::from_slice(&values).view([12, 1]), &groups).unwrap();
            let mean = values.iter().sum::<f64>() / 12.0;
            let mut expected = 0.0;
            let mut n_groups = 0.0;
            for group in 0..4 {
                let own: Vec<f64> =
                    (0..12).filter(|i| groups[*i] == group).map(|i| values[i]).collect();
                if !own.is_empty() {
                    let of_group = own.iter().sum::<f64>() / own.len() as f64;
                    expected += own.len() as f64 * (of_group - mean).powi(2);
                    n_groups += 1.0;
                }
            }
            expected /= f64::max(n_groups - 1.0, 1.0);
            let got = got.double_value(&[0]);
            prop_assert!((got - expected).abs() < 1e-9 * expected.max(1.0), "{got} {expected}");
            // Names of groups mean nothing, and the scale counts squared.
            let renamed: Vec<usize> = groups.iter().map(|group| 5 - group).collect();
            let twice: Vec<f64> = values.iter().map(|value| 2.0 * value).collect();
            let other = variance_between(&Tensor::from_slice(&twice).view([12, 1]), &renamed).unwrap();
            prop_assert!((other.double_value(&[0]) - 4.0 * got).abs() < 1e-9 * expected.max(1.0));
        }
    }
}
