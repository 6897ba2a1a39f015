//! Revival: dead features rebuild the residual, and get their gradients from that alone.

use sae_config::AuxKConfig;
use sae_kernels::{
    Count, FeatureMajor, Groups, Matrix, Rank, Reconstruction, Selector, Source, SparseCodes,
    column_sums, reconstruct, squared_norm, subtract_row,
};
use sae_models::{Parameters, Role};
use tch::Tensor;
use tch_autograd::matmul_into;

use super::buffers::{Buffers, empty, rows_of, slice};
use crate::Result;
use crate::dead::DeadFeatures;

/// The features that have been silent for long enough, ascending.
pub(super) fn dead_features(config: &AuxKConfig, dead: &DeadFeatures) -> Result<Vec<u32>> {
    if config.weight == 0.0 || dead.rows_seen < config.dead_after_rows {
        return Ok(Vec::new());
    }
    let counters = tch_autograd::view(&dead.rows_since_fired)?;
    let silent = |c: &i64| u64::try_from(*c).is_ok_and(|rows| rows >= config.dead_after_rows);
    Ok((0..).zip(counters.iter()).filter(|(_, c)| silent(c)).map(|(f, _)| f).collect())
}

/// The second reconstruction of a step with dead features.
#[derive(Debug, Default)]
pub(super) struct Revival {
    selector: Selector,
    parts: Option<Parts>,
}

#[derive(Debug)]
struct Parts {
    codes: SparseCodes,
    by_feature: FeatureMajor,
    code_gradients: Vec<f32>,
    output: Vec<f32>,
    mean: Vec<f32>,
    groups: Groups,
    d: usize,
}

impl Revival {
    /// Computes the auxiliary loss, weighted, and its gradients; `dead` features, ascending, are
    /// compared by `rank`.
    pub(super) fn add(
        &mut self,
        config: &AuxKConfig,
        (dead, rank): (&[u32], Rank),
        parameters: &Parameters,
        buffers: &Buffers,
    ) -> Result<f64> {
        let Buffers { batch, d, f, .. } = *buffers;
        let parts = self.parts.get_or_insert_with(|| Parts {
            codes: SparseCodes::new(f),
            by_feature: FeatureMajor::new(f),
            code_gradients: Vec::new(),
            output: Vec::new(),
            mean: vec![0.0; d],
            groups: Groups::one(f, 0.0),
            d,
        });
        parts.output.resize(batch * d, 0.0);
        let k = dead.len().min((d / 2).max(1));
        let b_enc = slice(&parameters[Role::EncoderBias])?;
        if buffers.is_whole() {
            let z = slice(&buffers.z.values)?;
            let z = Matrix::new("z", &z, f)?;
            let bias = buffers.z.bias(&b_enc, &buffers.zeros);
            self.selector.top_k_among(z, bias, dead, k, rank, &mut parts.codes)?;
        } else {
            let w_enc = &parameters[Role::EncoderWeight];
            select_anew(
                &mut self.selector,
                (dead, rank),
                k,
                w_enc,
                &b_enc,
                buffers,
                &mut parts.codes,
            )?;
        }
        let w_dec = &parameters[Role::DecoderWeight];

        let residual = Matrix::new("residual", &buffers.residual, d)?;
        column_sums(residual, &mut parts.mean)?;
        parts.mean.iter_mut().for_each(|m| *m /= batch as f32);
        subtract_row(residual, &parts.mean, &mut parts.output)?;
        let spread = squared_norm(&parts.output) / batch as f64;
        let scale = if spread > 0.0 { config.weight / (spread * batch as f64) } else { 0.0 };
        parts.groups = Groups::one(f, (2.0 * scale) as f32);
        let decoder = slice(w_dec)?;
        let what = Reconstruction {
            codes: &parts.codes,
            decoder: Matrix::new("decoder", &decoder, d)?,
            bias: None,
            target: residual,
            groups: &parts.groups,
        };
        let error = reconstruct(what, &mut parts.output, &mut parts.code_gradients, None)?;
        parts.by_feature.rebuild(&parts.codes, &parts.code_gradients)?;
        Ok(scale * error[0])
    }

    /// What the weights get from it.
    pub(super) fn source(&self) -> Option<Source<'_>> {
        let parts = self.parts.as_ref()?;
        let output_gradient = Matrix::new("auxk output", &parts.output, parts.d).ok()?;
        Some(Source { codes: &parts.by_feature, output_gradient, groups: &parts.groups })
    }
}

/// The codes of dead features where z holds a micro-batch only: their pre-activations, by
/// products with their rows of the encoder.
fn select_anew(
    selector: &mut Selector,
    (dead, rank): (&[u32], Rank),
    k: usize,
    w_enc: &Tensor,
    b_enc: &[f32],
    buffers: &Buffers,
    codes: &mut SparseCodes,
) -> Result<()> {
    let of_dead: Vec<i64> = dead.iter().map(|f| i64::from(*f)).collect();
    let w_enc = w_enc.f_index_select(0, &Tensor::from_slice(&of_dead))?.tr();
    let bias: Vec<f32> = dead.iter().map(|f| b_enc[*f as usize]).collect();
    let z = empty(&[buffers.micro as i64, dead.len() as i64]);
    let (mut among, mut part) = (SparseCodes::new(dead.len()), SparseCodes::new(buffers.f));
    codes.clear();
    for rows in buffers.micro_batches() {
        let of_rows = 0..rows.len();
        matmul_into(&rows_of(&buffers.centred, &rows), &w_enc, &mut rows_of(&z, &of_rows), false)?;
        let z = slice(&z)?;
        let z = Matrix::new("z", &z[..rows.len() * dead.len()], dead.len())?;
        selector.top_k(z, &bias, Count::Same(k), rank, &mut among)?;
        let indices: Vec<u32> = among.indices().iter().map(|i| dead[*i as usize]).collect();
        part.assign(among.indptr(), &indices, among.values())?;
        codes.extend(&part)?;
    }
    Ok(())
}
