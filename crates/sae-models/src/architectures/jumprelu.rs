//! JumpReLU: a learned threshold per feature (Rajamanoharan et al. 2024, arXiv:2407.14435).

use std::collections::BTreeMap;

use sae_config::JumpReluConfig;
use tch::Tensor;
use tch_autograd::view;

use crate::init::tied;
use crate::select::above;
use crate::{Base, InitRng, ModelConfig, Products, Result, Sae, SparseCodes, Tensors};

/// Thresholds at the start.
const INITIAL_THRESHOLD: f64 = 0.001;

/// f = h·(h > θ), h = W_enc x + b_enc, b_dec subtracted from x if configured.
#[derive(Debug)]
pub struct JumpRelu {
    base: Base,
    subtract_b_dec: bool,
    /// `threshold` θ, `[n_features]`.
    threshold: Tensor,
}

impl JumpRelu {
    pub(crate) fn new(base: Base, config: &JumpReluConfig, tensors: &mut Tensors) -> Result<Self> {
        let threshold = tensors.take("threshold", &[base.config.n_features as i64])?;
        Ok(Self { base, subtract_b_dec: config.subtract_b_dec, threshold })
    }

    pub(crate) fn initial(config: &ModelConfig, rng: &mut InitRng) -> BTreeMap<String, Tensor> {
        let mut map = tied(config, rng, 1.0);
        let thresholds = vec![INITIAL_THRESHOLD; config.n_features];
        map.insert("threshold".into(), Tensor::from_slice(&thresholds));
        map
    }
}

impl Sae for JumpRelu {
    fn base(&self) -> &Base {
        &self.base
    }

    fn base_mut(&mut self) -> &mut Base {
        &mut self.base
    }

    fn activate(&self, x: &Tensor) -> (Tensor, Option<Tensor>) {
        let weights = &self.base.weights;
        let h = if self.subtract_b_dec {
            weights.pre_activations(x)
        } else {
            weights.b_enc.addmm(x, &weights.w_enc.tr())
        };
        (above(&h, &self.threshold), None)
    }

    fn activate_sparse(
        &self,
        x: &Tensor,
        products: &mut Products,
        codes: &mut SparseCodes,
    ) -> Result<Option<Tensor>> {
        let weights = &self.base.weights;
        let centre = self.subtract_b_dec.then_some(&weights.b_dec);
        let (h, selector) = products.product(0, x, &weights.w_enc, centre)?;
        let threshold = view::<f32>(&self.threshold)?;
        let active = |f: usize, h: f32| h > threshold[f] && h != 0.0;
        selector.filter(h, &view(&weights.b_enc)?, active, codes)?;
        Ok(None)
    }

    fn own_parameters(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("threshold", &self.threshold)]
    }

    fn subtracts_b_dec(&self) -> bool {
        self.subtract_b_dec
    }
}
