//! Gated: a gate decides which features are active, a magnitude how much
//! (Rajamanoharan et al. 2024, arXiv:2404.16014).

use std::collections::BTreeMap;

use tch::Tensor;
use tch_autograd::view;

use crate::init::{tied, zeros};
use crate::{Base, InitRng, ModelConfig, Products, Result, Sae, SparseCodes, Tensors};

/// f = 1[π + b_gate > 0]·relu(e^r·π + b_mag), π = W_enc(x − b_dec); b_gate is `encoder.bias`.
#[derive(Debug)]
pub struct Gated {
    base: Base,
    /// `magnitude.log_scale` r, `[n_features]`.
    log_scale: Tensor,
    /// `magnitude.bias` b_mag, `[n_features]`.
    bias: Tensor,
}

impl Gated {
    pub(crate) fn new(base: Base, tensors: &mut Tensors) -> Result<Self> {
        let shape = [base.config.n_features as i64];
        let log_scale = tensors.take("magnitude.log_scale", &shape)?;
        let bias = tensors.take("magnitude.bias", &shape)?;
        Ok(Self { base, log_scale, bias })
    }

    pub(crate) fn initial(config: &ModelConfig, rng: &mut InitRng) -> BTreeMap<String, Tensor> {
        let mut map = tied(config, rng, 1.0);
        map.insert("magnitude.log_scale".into(), zeros(&[config.n_features]));
        map.insert("magnitude.bias".into(), zeros(&[config.n_features]));
        map
    }
}

impl Sae for Gated {
    fn base(&self) -> &Base {
        &self.base
    }

    fn base_mut(&mut self) -> &mut Base {
        &mut self.base
    }

    fn activate(&self, x: &Tensor) -> (Tensor, Option<Tensor>) {
        let weights = &self.base.weights;
        let pi = weights.projections(x);
        let open = (&pi + &weights.b_enc).gt(0.0).to_kind(pi.kind());
        (open * (self.log_scale.exp() * pi + &self.bias).relu(), None)
    }

    fn activate_sparse(
        &self,
        x: &Tensor,
        products: &mut Products,
        codes: &mut SparseCodes,
    ) -> Result<Option<Tensor>> {
        let (pi, selector) = products.of_encoder(x, &self.base.weights)?;
        let scale = self.log_scale.exp();
        let (scale, bias) = (view::<f32>(&scale)?, view::<f32>(&self.bias)?);
        let gate = view::<f32>(&self.base.weights.b_enc)?;
        let magnitude = |f: usize, pi: f32| scale[f] * pi + bias[f];
        let open = |f: usize, pi: f32| pi + gate[f] > 0.0 && magnitude(f, pi) > 0.0;
        selector.filter(pi, &vec![0.0; gate.len()], open, codes)?;
        codes.map(magnitude);
        Ok(None)
    }

    fn own_parameters(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("magnitude.log_scale", &self.log_scale), ("magnitude.bias", &self.bias)]
    }
}
