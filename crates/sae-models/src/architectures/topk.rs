//! TopK: the k largest features of each input (Gao et al. 2024, arXiv:2406.04093).

use sae_config::TopKConfig;
use sae_kernels::Rank;

use crate::{Base, Largest, Result, Role, Sae, Selection, Tensors};

/// What is compared.
const RANK: Rank = Rank::Value;

/// f = z on its k largest entries, z = relu(W_enc(x − b_dec) + b_enc).
#[derive(Debug)]
pub struct TopK {
    base: Base,
    k: i64,
}

impl TopK {
    pub(crate) fn new(mut base: Base, config: &TopKConfig, tensors: &mut Tensors) -> Result<Self> {
        base.parameters.take_buffer(Role::Threshold, &[], tensors)?;
        Ok(Self { base, k: config.k as i64 })
    }

    /// What is kept with `k` features a row.
    #[must_use]
    pub const fn largest(k: i64) -> Largest<'static> {
        Largest::OfRows { k, rank: RANK }
    }
}

impl Sae for TopK {
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
