//! AbsTopK: the k features of largest magnitude of each input, with their sign (Zhu et al. 2025,
//! arXiv:2510.00404).

use std::collections::BTreeMap;

use sae_config::AbsTopKConfig;
use sae_kernels::Rank;
use tch::Tensor;

use crate::init::tied;
use crate::{Base, InitRng, Largest, ModelConfig, Sae, Selection};

/// What is compared.
const RANK: Rank = Rank::Magnitude;

/// f = z on its k entries of largest |z|, z = W_enc(x − b_dec) + b_enc.
#[derive(Debug)]
pub struct AbsTopK {
    base: Base,
    k: i64,
}

impl AbsTopK {
    pub(crate) fn new(base: Base, config: &AbsTopKConfig) -> Self {
        Self { base, k: config.k as i64 }
    }

    pub(crate) fn initial(config: &ModelConfig, rng: &mut InitRng) -> BTreeMap<String, Tensor> {
        tied(config, rng, 1.0)
    }

    /// What is kept with `k` features a row.
    #[must_use]
    pub const fn largest(k: i64) -> Largest<'static> {
        Largest::OfRows { k, rank: RANK }
    }
}

impl Sae for AbsTopK {
    fn base(&self) -> &Base {
        &self.base
    }

    fn base_mut(&mut self) -> &mut Base {
        &mut self.base
    }

    fn selection(&self) -> Selection {
        Selection::TopK { k: self.k, rank: RANK }
    }
}
