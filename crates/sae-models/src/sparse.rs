//! Encoding and decoding by sparse kernels, on the CPU in f32: one dense product a batch.

use sae_kernels::{DENSE_FROM, Matrix, Selector, SparseCodes, subtract_row};
use tch::{Device, Kind, Tensor};
use tch_autograd::{matmul_into, view, view_mut};

use crate::{Result, Role, RowScale, Sae};

/// Codes of a batch.
#[derive(Debug)]
pub struct SparseEncoded {
    /// Features that are not 0, row by row.
    pub codes: SparseCodes,
    /// `[batch]`: the number of features chosen for each input, before rounding, where the
    /// architecture chooses one.
    pub k_hat: Option<Tensor>,
    /// What decoding needs of the input, where rows are normalised by their own statistics.
    pub rows: Option<RowScale>,
}

/// Encodes and decodes batches; keeps the buffers between them.
///
/// What it gives is what [`Sae::encode`] and [`Sae::decode`] give, to rounding.
#[derive(Debug, Default)]
pub struct SparseCoder {
    products: Products,
}

impl SparseCoder {
    /// Whether the kernels apply to `sae`: on the CPU and in f32.
    #[must_use]
    pub fn applies(sae: &Sae) -> bool {
        sae.device() == Device::Cpu && sae.kind() == Kind::Float
    }

    /// Encodes raw activations by the architecture's rule of inference.
    ///
    /// # Shapes
    /// x `[batch, d_model]`.
    ///
    /// # Errors
    /// A shape, kind or device that is not the model's; a model the kernels do not apply to.
    pub fn encode(&mut self, sae: &Sae, x: &Tensor) -> Result<SparseEncoded> {
        sae.check_rows("x", x, sae.config.d_model)?;
        let _guard = tch::no_grad_guard();
        let (x, rows) = sae.normalizer.normalize(x);
        let mut codes = SparseCodes::new(sae.config.n_features);
        let selection = sae.selection();
        let k_hat = selection.encode_sparse(&sae.parameters, &x, &mut self.products, &mut codes)?;
        Ok(SparseEncoded { codes, k_hat, rows })
    }

    /// Decodes codes into raw activations `[batch, d_out]`.
    ///
    /// # Errors
    /// Codes of another dictionary; row statistics that are needed and absent; a model the kernels
    /// do not apply to.
    pub fn decode(&self, sae: &Sae, encoded: &SparseEncoded) -> Result<Tensor> {
        let (d, codes) = (sae.config.output_dimension(), &encoded.codes);
        let _guard = tch::no_grad_guard();
        let parameters = &sae.parameters;
        let (n, f) = (codes.n_rows(), sae.config.n_features);
        let x_hat = if codes.nnz() as f64 > DENSE_FROM * (n * f) as f64 {
            let mut features = empty(n, f);
            codes.write_dense(view_mut(&mut features)?)?;
            parameters.reconstruct(&features)
        } else {
            let mut x_hat = empty(n, d);
            let decoder = view(&parameters[Role::DecoderWeight])?;
            let decoder = Matrix::new("decoder", &decoder, d)?;
            let bias = view(&parameters[Role::DecoderBias])?;
            sae_kernels::decode(codes, decoder, &bias, view_mut(&mut x_hat)?)?;
            x_hat
        };
        sae.output_normalizer().denormalize(&x_hat, encoded.rows.as_ref())
    }
}

/// Dense products of a batch, whose memory is used again, and what selects from them.
#[derive(Debug, Default)]
pub struct Products {
    selector: Selector,
    buffers: Vec<Tensor>,
    centred: Option<Tensor>,
}

impl Products {
    /// W(x − centre), without a bias, in the buffer of number `slot`.
    ///
    /// # Shapes
    /// x `[batch, d]`, w `[n, d]`, centre `[d]`; the result is `[batch, n]`.
    ///
    /// # Errors
    /// Tensors that do not fit, or are not of f32 on the CPU.
    pub fn product(
        &mut self,
        slot: usize,
        x: &Tensor,
        w: &Tensor,
        centre: Option<&Tensor>,
    ) -> Result<(Matrix<'_>, &mut Selector)> {
        let (n_rows, n) = (x.size()[0], w.size()[0]);
        while self.buffers.len() <= slot {
            self.buffers.push(empty(0, 0));
        }
        let buffer = &mut self.buffers[slot];
        if buffer.size() != [n_rows, n] {
            *buffer = empty(n_rows as usize, n as usize);
        }
        let Some(centre) = centre else {
            matmul_into(x, &w.tr(), buffer, false)?;
            return Ok((
                Matrix::new("products", view_mut(buffer)?, n as usize)?,
                &mut self.selector,
            ));
        };
        let d = x.size()[1] as usize;
        let kept = self.centred.take().filter(|kept| kept.size() == x.size());
        let mut centred = kept.unwrap_or_else(|| empty(n_rows as usize, d));
        let rows = x.contiguous();
        subtract_row(Matrix::new("x", &view(&rows)?, d)?, &view(centre)?, view_mut(&mut centred)?)?;
        matmul_into(&centred, &w.tr(), buffer, false)?;
        self.centred = Some(centred);
        Ok((Matrix::new("products", view_mut(buffer)?, n as usize)?, &mut self.selector))
    }
}

/// The entries of dense features that are not 0.
pub(crate) fn sparse(features: &Tensor, codes: &mut SparseCodes) -> Result<()> {
    let n = features.size()[1] as usize;
    let features = view(features)?;
    let features = Matrix::new("features", &features, n)?;
    Ok(Selector::new().filter(features, &vec![0.0; n], |_, v| v != 0.0, codes)?)
}

fn empty(n_rows: usize, n: usize) -> Tensor {
    Tensor::empty([n_rows as i64, n as i64], (Kind::Float, Device::Cpu))
}
