//! The tensors of each class of the library.

use tch::{Kind, Tensor};

use crate::interop::{moved_bias, tensor};
use crate::{Result, Sae};

type Named = Vec<(&'static str, Tensor)>;

/// Weights and biases of both layers.
pub(super) struct Layers {
    w_enc: Tensor,
    b_enc: Tensor,
    w_dec: Tensor,
    b_dec: Tensor,
}

impl Layers {
    pub(super) fn of(sae: &Sae) -> Result<Self> {
        Ok(Self {
            w_enc: tensor(sae, "encoder.weight")?,
            b_enc: tensor(sae, "encoder.bias")?,
            w_dec: tensor(sae, "decoder.weight")?,
            b_dec: tensor(sae, "decoder.bias")?,
        })
    }

    pub(super) fn top_k(self, k: usize, threshold: Tensor) -> Named {
        vec![
            ("encoder.weight", self.w_enc),
            ("encoder.bias", self.b_enc),
            ("decoder.weight", self.w_dec.tr()),
            ("b_dec", self.b_dec),
            ("k", whole(k)),
            ("threshold", threshold),
        ]
    }

    pub(super) fn matryoshka(self, k: usize, group_sizes: &[i64], threshold: Tensor) -> Named {
        vec![
            ("W_enc", self.w_enc.tr()),
            ("b_enc", self.b_enc),
            ("W_dec", self.w_dec),
            ("b_dec", self.b_dec),
            ("k", whole(k)),
            ("threshold", threshold),
            ("group_sizes", Tensor::from_slice(group_sizes)),
        ]
    }

    /// There b_dec is not subtracted from the input.
    pub(super) fn jumprelu(self, subtract_b_dec: bool, threshold: Tensor) -> Named {
        let b_enc = if subtract_b_dec { self.without_input_bias() } else { self.b_enc };
        vec![
            ("W_enc", self.w_enc.tr()),
            ("b_enc", b_enc),
            ("W_dec", self.w_dec),
            ("b_dec", self.b_dec),
            ("threshold", threshold),
        ]
    }

    pub(super) fn gated(self, sae: &Sae) -> Result<Named> {
        Ok(vec![
            ("decoder_bias", self.b_dec),
            ("encoder.weight", self.w_enc),
            ("r_mag", tensor(sae, "magnitude.log_scale")?),
            ("gate_bias", self.b_enc),
            ("mag_bias", tensor(sae, "magnitude.bias")?),
            ("decoder.weight", self.w_dec.tr()),
        ])
    }

    pub(super) fn relu(self) -> Named {
        let b_enc = self.without_input_bias();
        vec![
            ("encoder.weight", self.w_enc),
            ("encoder.bias", b_enc),
            ("decoder.weight", self.w_dec.tr()),
            ("decoder.bias", self.b_dec),
        ]
    }

    /// The encoder's bias where b_dec is no longer subtracted from the input.
    fn without_input_bias(&self) -> Tensor {
        moved_bias(&self.b_enc, &self.w_enc, &self.b_dec, 1.0)
    }
}

fn whole(k: usize) -> Tensor {
    Tensor::from(k as i64).to_kind(Kind::Int)
}
