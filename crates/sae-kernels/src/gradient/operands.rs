//! What gradients of the weights are formed from, and where they go.

use crate::error::check_len;
use crate::{FeatureMajor, Groups, Matrix, Result};

/// One reconstruction that contributes to the gradients.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its codes by feature, with the gradients of their pre-activations.
    pub codes: &'a FeatureMajor,
    /// The gradient of its outputs, batch × (n_groups·d_model), as [`crate::reconstruct`] leaves it.
    pub output_gradient: Matrix<'a>,
    /// Its groups.
    pub groups: &'a Groups,
}

/// What the gradient of the decoder is freed of: its component along each row.
#[derive(Debug, Clone, Copy)]
pub struct Projection<'a> {
    /// The decoder, n_features × d_model.
    pub decoder: Matrix<'a>,
    /// What is added to the norm of a row before it is divided by it.
    pub eps: f32,
}

/// The encoder's side of the gradients.
#[derive(Debug)]
pub struct EncoderGradient<'a> {
    /// What the encoder reads, batch × d_in.
    pub input: Matrix<'a>,
    /// The encoder, n_features × d_in; with it Σ_b ∂/∂input_b is summed into `input_sum`.
    pub encoder: Matrix<'a>,
    /// Receives the gradient of the encoder; rows without an entry are left as they are.
    pub weights: &'a mut [f32],
    /// Receives the gradient of its bias, n_features.
    pub bias: &'a mut [f32],
    /// Receives Σ_f bias_f·encoder_f, d_in: the summed gradient of the input.
    pub input_sum: &'a mut [f32],
}

impl EncoderGradient<'_> {
    pub(super) fn check(&self, n_features: usize) -> Result<()> {
        let d_in = self.input.n_cols();
        check_len("encoder", n_features * d_in, self.encoder.data().len())?;
        check_len("encoder (its columns)", d_in, self.encoder.n_cols())?;
        check_len("encoder gradient", n_features * d_in, self.weights.len())?;
        check_len("encoder bias gradient", n_features, self.bias.len())?;
        check_len("input_sum", d_in, self.input_sum.len())
    }
}

/// Squared norms of the gradients, for clipping.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SquaredNorms {
    /// Of the decoder's, after projection.
    pub decoder: f64,
    /// Of the encoder's weights.
    pub encoder: f64,
    /// Of the encoder's bias.
    pub bias: f64,
}

/// Checks that what contributes to the gradients fits the dictionary.
pub(super) fn check_sources(
    sources: &[Source<'_>],
    projection: Option<Projection<'_>>,
    decoder_len: usize,
    n_features: usize,
    d: usize,
) -> Result<()> {
    check_len("decoder", n_features * d, decoder_len)?;
    for source in sources {
        check_len("codes (their number of features)", n_features, source.codes.n_features())?;
        let width = source.groups.len() * d;
        check_len("output_gradient (its columns)", width, source.output_gradient.n_cols())?;
        source.groups.check(n_features)?;
    }
    if let Some(projection) = projection {
        check_len("projection.decoder", decoder_len, projection.decoder.data().len())?;
    }
    Ok(())
}
