//! JumpReLU: codes above learned thresholds, straight-through gradients near them.

use sae_config::JumpReluConfig;
use sae_kernels::{Matrix, Selector, SparseCodes, code_gradients, squared_norm};
use sae_models::{Parameters, Role, Sae, Selection};

use super::buffers::{Buffers, slice};
use super::update::Update;
use super::{FastRule, Rows};
use crate::Result;
use crate::profile::Profile;
use crate::rules::Detail;
use crate::schedule::sparsity_scale;

/// The rule of JumpReLU.
pub(super) struct JumpReluFast {
    config: JumpReluConfig,
    selection: Selection,
    selector: Selector,
    /// Entries within half a bandwidth of their threshold, active or not.
    near: SparseCodes,
    /// Those of the rows that z holds.
    near_part: SparseCodes,
    near_gradients: Vec<f32>,
    /// Active entries of each feature, and those of them near the threshold.
    n_active: Vec<u32>,
    n_near: Vec<u32>,
    d_threshold: Vec<f32>,
}

impl JumpReluFast {
    pub(super) fn new(config: &JumpReluConfig, sae: &Sae) -> Self {
        let n_features = sae.config().n_features;
        Self {
            config: config.clone(),
            selection: sae.selection(),
            selector: Selector::new(),
            near: SparseCodes::new(n_features),
            near_part: SparseCodes::new(n_features),
            near_gradients: Vec::new(),
            n_active: vec![0; n_features],
            n_near: vec![0; n_features],
            d_threshold: vec![0.0; n_features],
        }
    }

    /// λ·(L0/target − 1)², weighted, and its slope in L0.
    fn penalty(&self, l0: f64, step: u64) -> (f64, f64) {
        let scale = sparsity_scale(self.config.sparsity_warmup_steps, step);
        let weight = self.config.sparsity_weight * scale;
        let excess = l0 / self.config.target_l0 - 1.0;
        (weight * excess * excess, 2.0 * weight * excess / self.config.target_l0)
    }
}

impl FastRule for JumpReluFast {
    /// f = h·(h > θ), of some rows, and the entries near their thresholds.
    fn select(&mut self, at: Rows<'_>, buffers: &mut Buffers, _: &mut Profile) -> Result<()> {
        let Rows { rows, parameters, .. } = at;
        let threshold = slice(&parameters[Role::Threshold])?;
        let bias = slice(&parameters[Role::EncoderBias])?;
        let f = buffers.f;
        let z = slice(&buffers.z.values)?;
        let z = Matrix::new("z", &z[..rows.len() * f], f)?;
        self.selection.select(parameters, z, &mut self.selector, &mut buffers.part)?;
        let half = (self.config.bandwidth / 2.0) as f32;
        let is_near = |f: usize, h: f32| (h - threshold[f]).abs() < half;
        self.selector.filter(z, &bias, is_near, &mut self.near_part)?;
        buffers.take_part(rows, true)?;
        if buffers.held == *rows {
            self.near.clear();
        }
        Ok(self.near.extend(&self.near_part)?)
    }

    fn observe(&mut self, _: u64, _: &SparseCodes, _: &mut Parameters) -> Detail {
        Detail { k_target: Some(self.config.target_l0), ..Detail::default() }
    }

    /// The part of θ's gradient that comes from the codes at hand: −(θ/ε)·Σ ∂f over entries near θ.
    fn code_backward(
        &mut self,
        _step: u64,
        parameters: &Parameters,
        buffers: &mut Buffers,
    ) -> Result<()> {
        let threshold = slice(&parameters[Role::Threshold])?;
        let decoder = slice(&parameters[Role::DecoderWeight])?;
        let decoder = Matrix::new("decoder", &decoder, buffers.d)?;
        let rows = buffers.held.start * buffers.d..buffers.held.end * buffers.d;
        let output = slice(&buffers.output)?;
        let output = Matrix::new("output", &output[rows], buffers.d)?;
        code_gradients(&self.near, output, decoder, &mut self.near_gradients)?;
        if buffers.held.start == 0 {
            self.n_active.fill(0);
            self.n_near.fill(0);
            self.d_threshold.fill(0.0);
        }
        for &f in buffers.codes.indices() {
            self.n_active[f as usize] += 1;
        }
        let inverse = (1.0 / self.config.bandwidth) as f32;
        let near = self.near.indices().iter().zip(self.near.values()).zip(&self.near_gradients);
        for ((&f, &h), gradient) in near {
            let f = f as usize;
            self.n_near[f] += u32::from(h > threshold[f] && h != 0.0);
            self.d_threshold[f] -= threshold[f] * inverse * gradient;
        }
        Ok(())
    }

    /// The penalty, and its part of θ's gradient: −(1/ε)·∂L0 for each feature value near θ.
    fn backward(
        &mut self,
        step: u64,
        parameters: &Parameters,
        buffers: &mut Buffers,
        _profile: &mut Profile,
    ) -> Result<Option<(&'static str, f64)>> {
        let threshold = slice(&parameters[Role::Threshold])?;
        // An inactive feature has the value 0, which exceeds a negative threshold.
        let batch = buffers.batch as f64;
        let above = self.n_active.iter().zip(threshold.iter());
        let above = above.map(|(n, t)| if *t < 0.0 { batch } else { f64::from(*n) });
        let (penalty, slope) = self.penalty(above.sum::<f64>() / batch, step);

        let per_value = -(slope / self.config.bandwidth / batch) as f32;
        let half = (self.config.bandwidth / 2.0) as f32;
        let counts = self.n_active.iter().zip(&self.n_near);
        for ((d, t), (n_active, n_near)) in
            self.d_threshold.iter_mut().zip(threshold.iter()).zip(counts)
        {
            let n_zero = if t.abs() < half { buffers.batch as u32 - n_active } else { 0 };
            *d += per_value * (n_near + n_zero) as f32;
        }
        Ok(Some(("sparsity", penalty)))
    }

    fn squared_norm(&self, _: &Parameters, _: &mut [f32]) -> Result<f64> {
        Ok(squared_norm(&self.d_threshold))
    }

    fn update(&self, update: &mut Update<'_>) -> Result<()> {
        update.vector(Role::Threshold, &self.d_threshold)
    }
}
