//! BatchTopK (Bussmann et al. 2024, arXiv:2412.06410) and Matryoshka BatchTopK (arXiv:2503.17547).
//!
//! In training the k·B largest features of a batch are kept; at inference those above a threshold
//! that training has averaged. Matryoshka differs in its loss alone.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::init::tied;
use crate::{Base, InitRng, Largest, ModelConfig, Result, Role, Sae, Selection, Tensors};

/// f = z·(z > threshold), z = relu(W_enc(x − b_dec) + b_enc).
#[derive(Debug)]
pub struct BatchTopK {
    base: Base,
}

impl BatchTopK {
    pub(crate) fn new(mut base: Base, tensors: &mut Tensors) -> Result<Self> {
        base.parameters.take_buffer(Role::Threshold, &[], tensors)?;
        Ok(Self { base })
    }

    /// A threshold of −1 means that none has been seen.
    pub(crate) fn initial(config: &ModelConfig, rng: &mut InitRng) -> BTreeMap<String, Tensor> {
        let mut map = tied(config, rng, 1.0);
        map.insert("threshold".into(), Tensor::from(-1.0));
        map
    }

    /// What training keeps of a batch of `n_rows` with `k` features a row.
    #[must_use]
    pub const fn largest(k: i64, n_rows: i64) -> Largest<'static> {
        Largest::OfBatch { k: k * n_rows }
    }
}

impl Sae for BatchTopK {
    fn base(&self) -> &Base {
        &self.base
    }

    fn base_mut(&mut self) -> &mut Base {
        &mut self.base
    }

    fn selection(&self) -> Selection {
        Selection::Exceeding
    }
}
