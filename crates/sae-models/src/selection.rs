//! The rule of an architecture, from pre-activations to features: written once, for dense tensors,
//! lists of codes and the kernels of the CPU.

use sae_config::Kept;
use sae_kernels::{Count, Matrix, Rank, Selector, SparseCodes};
use tch::Tensor;
use tch_autograd::{read, view};

use crate::select::{above, top_at_most_mask};
use crate::sparse::sparse;
use crate::{
    Codes, Estimator, Parameters, Products, Result, Role, top_k_of_batch_mask, top_k_rows_mask,
};

/// Which features are active, and with what value.
#[derive(Debug, Clone, Copy)]
pub enum Selection {
    /// relu(z).
    Positive,
    /// relu(z) where it exceeds the scalar [`Role::Threshold`].
    Exceeding,
    /// z where it exceeds the [`Role::Threshold`] of its feature.
    Jump {
        /// Whether b_dec is subtracted from what the encoder reads.
        subtract_b_dec: bool,
    },
    /// relu(e^r·π + b) where π + b_gate > 0, of z without its bias, π.
    Gate,
    /// Those of largest rank in each row.
    TopK {
        /// How many.
        k: i64,
        /// What is compared.
        rank: Rank,
    },
    /// As many of the largest relu(z) of each row as are estimated for it.
    Estimated(Estimator),
}

/// The features of largest rank.
#[derive(Debug, Clone, Copy)]
pub enum Largest<'a> {
    /// `k` of each row.
    OfRows {
        /// How many.
        k: i64,
        /// What is compared: relu(z), or |z| of z.
        rank: Rank,
    },
    /// `k[b]` of row b, of relu(z).
    OfEachRow {
        /// How many, `[batch]`, of 64-bit integers.
        k: &'a Tensor,
        /// What no entry of k exceeds: on a GPU their maximum is not read.
        most: i64,
    },
    /// `k` of the whole batch, of relu(z).
    OfBatch {
        /// How many.
        k: i64,
    },
}

impl Selection {
    /// Whether it keeps the largest features of each row, or those above a threshold, so that of
    /// fewer features it would keep the first.
    #[must_use]
    pub const fn keeps_largest(&self) -> bool {
        match self {
            Self::TopK { rank, .. } => matches!(rank, Rank::Value),
            Self::Exceeding | Self::Estimated(_) => true,
            Self::Positive | Self::Jump { .. } | Self::Gate => false,
        }
    }

    /// Whether b_dec is subtracted from what the encoder reads, where that is rebuilt.
    pub(crate) const fn subtracts_b_dec(&self) -> bool {
        !matches!(self, Self::Jump { subtract_b_dec: false })
    }

    /// The pre-activations that the rule reads, of normalised rows.
    ///
    /// # Shapes
    /// x `[batch, d_model]`; returns `[batch, n_features]`.
    pub fn pre_activations(&self, all: &Parameters, x: &Tensor) -> Tensor {
        match self {
            Self::Gate => all.projections(x),
            Self::Jump { subtract_b_dec: false } => {
                all[Role::EncoderBias].addmm(x, &all[Role::EncoderWeight].tr())
            }
            Self::Jump { subtract_b_dec: true }
            | Self::Positive
            | Self::Exceeding
            | Self::TopK { .. }
            | Self::Estimated(_) => all.pre_activations(x),
        }
    }

    /// Features of normalised rows x with these pre-activations, and k̂ where it is estimated.
    ///
    /// # Shapes
    /// x `[batch, d_model]`, z `[batch, n_features]`; returns `[batch, n_features]` and `[batch]`.
    pub fn features(&self, all: &Parameters, x: &Tensor, z: &Tensor) -> (Tensor, Option<Tensor>) {
        let features = match self {
            Self::Positive => z.relu(),
            Self::Exceeding => above(&z.relu(), &all[Role::Threshold]),
            Self::Jump { .. } => above(z, &all[Role::Threshold]),
            Self::Gate => {
                let open = (z + &all[Role::EncoderBias]).gt(0.0).to_kind(z.kind());
                let scaled = all[Role::MagnitudeLogScale].exp() * z;
                open * (scaled + &all[Role::MagnitudeBias]).relu()
            }
            &Self::TopK { k, rank } => {
                let largest = Largest::OfRows { k, rank };
                largest.features(&largest.activations(z))
            }
            Self::Estimated(estimator) => {
                let z = z.relu();
                let k_hat = estimator.k_hat(all, x, &z);
                let k = estimator.whole(&k_hat);
                return (estimator.largest(&k).features(&z), Some(k_hat));
            }
        };
        (features, None)
    }

    /// Sparse codes of normalised rows by the kernels of the CPU, and k̂ where it is estimated.
    ///
    /// # Shapes
    /// x `[batch, d_model]`; `codes`, of the model's n_features, are overwritten.
    ///
    /// # Errors
    /// A model that is not on the CPU in f32.
    pub fn encode_sparse(
        &self,
        all: &Parameters,
        x: &Tensor,
        products: &mut Products,
        codes: &mut SparseCodes,
    ) -> Result<Option<Tensor>> {
        let centre = all.centre();
        let Self::Estimated(estimator) = self else {
            let (z, selector) = products.product(0, x, &all[Role::EncoderWeight], centre)?;
            self.select(all, z, selector, codes)?;
            return Ok(None);
        };
        if !estimator.has_hidden_layer() {
            let (features, k_hat) = self.features(all, x, &all.pre_activations(x));
            sparse(&features, codes)?;
            return Ok(k_hat);
        }
        let (hidden, _) = products.product(1, x, &all[Role::HiddenWeight], centre)?;
        let k_hat = estimator.k_hat_of_hidden(all, hidden)?;
        let k = estimator.whole(&k_hat);
        let (z, selector) = products.product(0, x, &all[Role::EncoderWeight], centre)?;
        let bias = view(&all[Role::EncoderBias])?;
        estimator.largest(&k).select(z, &bias, selector, codes)?;
        Ok(Some(k_hat))
    }

    /// The codes of products z of rows with the encoder, to which its bias is still to be added.
    ///
    /// # Errors
    /// Sizes that disagree, tensors that are not on the CPU in f32.
    ///
    /// # Panics
    /// If the number of features is estimated, which takes more than z.
    pub fn select(
        &self,
        all: &Parameters,
        z: Matrix<'_>,
        selector: &mut Selector,
        codes: &mut SparseCodes,
    ) -> Result<()> {
        let bias = view::<f32>(&all[Role::EncoderBias])?;
        match self {
            Self::Positive => selector.filter(z, &bias, |_, v| v > 0.0, codes)?,
            Self::Exceeding => {
                // z that is not positive is 0, whatever the threshold.
                let least = (read::number(&all[Role::Threshold]) as f32).max(0.0);
                selector.filter(z, &bias, |_, v| v > least, codes)?;
            }
            Self::Jump { .. } => {
                let threshold = view::<f32>(&all[Role::Threshold])?;
                let active = |f: usize, h: f32| h > threshold[f] && h != 0.0;
                selector.filter(z, &bias, active, codes)?;
            }
            Self::Gate => {
                let scale = all[Role::MagnitudeLogScale].exp();
                let (scale, shift) =
                    (view::<f32>(&scale)?, view::<f32>(&all[Role::MagnitudeBias])?);
                let magnitude = |f: usize, pi: f32| scale[f] * pi + shift[f];
                let open = |f: usize, pi: f32| pi + bias[f] > 0.0 && magnitude(f, pi) > 0.0;
                selector.filter(z, &vec![0.0; bias.len()], open, codes)?;
                codes.map(magnitude);
            }
            &Self::TopK { k, rank } => {
                Largest::OfRows { k, rank }.select(z, &bias, selector, codes)?;
            }
            Self::Estimated(_) => panic!("k̂ is estimated from more than z"),
        }
        Ok(())
    }
}

impl Largest<'_> {
    /// What training keeps of a batch of `n_rows` with `k` features a row: TopK (Gao et al. 2024,
    /// arXiv:2406.04093), AbsTopK (Zhu et al. 2025, arXiv:2510.00404), BatchTopK (Bussmann et al.
    /// 2024, arXiv:2412.06410).
    #[must_use]
    pub const fn new(kept: Kept, k: i64, n_rows: i64) -> Self {
        match kept {
            Kept::OfRows => Self::OfRows { k, rank: Rank::Value },
            Kept::MagnitudesOfRows => Self::OfRows { k, rank: Rank::Magnitude },
            Kept::OfBatch => Self::OfBatch { k: k * n_rows },
        }
    }

    /// What is compared.
    #[must_use]
    pub const fn rank(&self) -> Rank {
        match self {
            Self::OfRows { rank, .. } => *rank,
            Self::OfEachRow { .. } | Self::OfBatch { .. } => Rank::Value,
        }
    }

    /// What is selected from: relu(z), or z where magnitudes are compared.
    pub fn activations(&self, z: &Tensor) -> Tensor {
        match self.rank() {
            Rank::Value => z.relu(),
            Rank::Magnitude => z.shallow_clone(),
        }
    }

    /// Returns the dense features of activations.
    ///
    /// # Shapes
    /// z `[batch, n_features]`; returns the same.
    pub fn features(&self, z: &Tensor) -> Tensor {
        z * match *self {
            Self::OfRows { k, rank: Rank::Value } => top_k_rows_mask(z, k),
            Self::OfRows { k, rank: Rank::Magnitude } => top_k_rows_mask(&z.abs(), k),
            Self::OfEachRow { k, most } => top_at_most_mask(z, k, most),
            Self::OfBatch { k } => top_k_of_batch_mask(z, k),
        }
    }

    /// Returns the features as lists, through which the gradient goes.
    ///
    /// # Shapes
    /// z `[batch, n_features]`.
    pub fn codes(&self, z: &Tensor) -> Codes {
        match *self {
            Self::OfRows { k, rank: Rank::Value } => Codes::of_rows(z, k),
            Self::OfRows { k, rank: Rank::Magnitude } => Codes::of_magnitudes(z, k),
            Self::OfEachRow { k, most } => Codes::of_row_counts(z, k, most),
            Self::OfBatch { k } => Codes::of_batch(z, k),
        }
    }

    /// Selects by the kernels of the CPU from products z, to which the bias is still to be added.
    ///
    /// # Errors
    /// Sizes that disagree.
    pub fn select(
        &self,
        z: Matrix<'_>,
        bias: &[f32],
        selector: &mut Selector,
        codes: &mut SparseCodes,
    ) -> Result<()> {
        match *self {
            Self::OfRows { k, rank } => {
                selector.top_k(z, bias, Count::Same(k as usize), rank, codes)?;
            }
            Self::OfEachRow { k, .. } => {
                let k = read::vector::<i64>(k)?;
                let k: Vec<usize> = k.into_iter().map(|k| k as usize).collect();
                selector.top_k(z, bias, Count::PerRow(&k), Rank::Value, codes)?;
            }
            Self::OfBatch { k } => selector.batch_top_k(z, bias, k as usize, codes)?,
        }
        Ok(())
    }
}
