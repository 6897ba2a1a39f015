//! The buffers of a step, allocated once.

use std::ops::Range;

use sae_kernels::{DENSE_FROM, FeatureMajor, SparseCodes, add_bias_relu};
use tch::{Device, Kind, Tensor};
use tch_autograd::{Element, View, matmul_into, view, view_mut};

use crate::Result;
use crate::dead::DeadFeatures;

/// The elements of a CPU tensor of f32.
pub(super) fn slice(tensor: &Tensor) -> Result<View<f32>> {
    Ok(view(tensor)?)
}

/// The elements of a CPU tensor, to be written.
pub(super) fn slice_mut<T: Element>(tensor: &mut Tensor) -> Result<&mut [T]> {
    Ok(view_mut(tensor)?)
}

/// What the encoder gives for some rows of a step.
#[derive(Debug)]
pub(super) struct PreActivations {
    /// `[micro, f]`.
    pub(super) values: Tensor,
    /// Whether they have become activations, relu(z + b_enc).
    activated: bool,
}

impl PreActivations {
    fn new(values: Tensor) -> Self {
        Self { values, activated: false }
    }

    /// Becomes the products of rows with W_enc, to which the bias is still to be added.
    pub(super) fn multiply(&mut self, rows: &Tensor, w_enc: &Tensor) -> Result<()> {
        let mut z = rows_of(&self.values, &(0..rows.size()[0] as usize));
        self.activated = false;
        Ok(matmul_into(rows, &w_enc.tr(), &mut z, false)?)
    }

    /// Becomes activations, as far as its first `n` elements go.
    pub(super) fn activate(&mut self, n: usize, bias: &[f32]) -> Result<()> {
        self.activated = true;
        Ok(add_bias_relu(&mut slice_mut(&mut self.values)?[..n], bias)?)
    }

    /// What is still to be added: the bias or `zeros`.
    pub(super) fn bias<'a>(&self, b_enc: &'a [f32], zeros: &'a [f32]) -> &'a [f32] {
        if self.activated { zeros } else { b_enc }
    }

    /// Gives away its memory as a matrix of another shape, with what is to be put back; nothing
    /// where it is too small.
    pub(super) fn lend(&mut self, shape: &[i64; 2]) -> Option<(Tensor, Tensor)> {
        let n = shape[0] * shape[1];
        if n > self.values.numel() as i64 {
            return None;
        }
        let all = std::mem::replace(&mut self.values, empty(&[0]));
        Some((all.view(-1).narrow(0, 0, n).view(*shape), all))
    }

    /// Takes back what was lent.
    pub(super) fn put_back(&mut self, values: Tensor) {
        self.values = values;
    }
}

/// What a step writes and the next one overwrites.
#[derive(Debug)]
pub(super) struct Buffers {
    pub(super) batch: usize,
    /// Dimension of what is encoded, and of what is rebuilt.
    pub(super) d_in: usize,
    pub(super) d: usize,
    pub(super) f: usize,
    /// Rows that the buffers of width f hold: the batch, or a micro-batch.
    pub(super) micro: usize,
    /// What the encoder reads, `[batch, d_in]`.
    pub(super) centred: Tensor,
    /// What is rebuilt without b_dec, `[batch, d]`, where that is not `centred`: of a transcoder.
    pub(super) centred_target: Option<Tensor>,
    /// Of the rows at hand.
    pub(super) z: PreActivations,
    /// As many as there are features.
    pub(super) zeros: Vec<f32>,
    /// Gradient of the reconstructions, `[batch, groups·d]`.
    pub(super) output: Tensor,
    /// target − x̂, `[batch, d]`, where dead features have to rebuild it.
    pub(super) residual: Vec<f32>,
    pub(super) codes: SparseCodes,
    /// Rows of the batch that `codes` holds: in the end all of them, but where the step streams.
    pub(super) held: Range<usize>,
    /// Whether this step uses up the codes of a micro-batch before it selects the next ones.
    pub(super) streams: bool,
    /// Codes of the step so far that are not 0.
    n_active: usize,
    /// Codes of the rows that z holds, on their way to `codes`.
    pub(super) part: SparseCodes,
    /// Gradients of the codes, then of their pre-activations.
    pub(super) code_gradients: Vec<f32>,
    pub(super) by_feature: FeatureMajor,
    /// Whether the sparse weight gradients wrote a feature's rows.
    pub(super) active: Vec<bool>,
    /// Scratch of the weight gradients' kernel.
    pub(super) strips: Vec<f32>,
    /// Gradients of W_dec, `[f, d]`, and W_enc, `[f, d_in]`.
    pub(super) d_w_dec: Tensor,
    pub(super) d_w_enc: Tensor,
    pub(super) d_b_enc: Vec<f32>,
    pub(super) d_b_dec: Vec<f32>,
    /// Column sums of `output`, of which b_dec's gradient is the first part.
    pub(super) sums: Vec<f32>,
    /// The encoder's part of b_dec's gradient.
    pub(super) input_sum: Vec<f32>,
    /// Dense codes or gradients, `[micro, f]`, where dense products are used.
    pub(super) dense: Option<Tensor>,
    /// Whether this step uses them.
    pub(super) is_dense: bool,
}

impl Default for Buffers {
    fn default() -> Self {
        let none = || empty(&[0]);
        Self {
            batch: 0,
            d_in: 0,
            d: 0,
            f: 0,
            micro: 0,
            centred: none(),
            centred_target: None,
            z: PreActivations::new(none()),
            zeros: Vec::new(),
            output: none(),
            residual: Vec::new(),
            codes: SparseCodes::new(0),
            held: 0..0,
            streams: false,
            n_active: 0,
            part: SparseCodes::new(0),
            code_gradients: Vec::new(),
            by_feature: FeatureMajor::new(0),
            active: Vec::new(),
            strips: Vec::new(),
            d_w_dec: none(),
            d_w_enc: none(),
            d_b_enc: Vec::new(),
            d_b_dec: Vec::new(),
            sums: Vec::new(),
            input_sum: Vec::new(),
            dense: None,
            is_dense: false,
        }
    }
}

/// Whether dense products are faster than sparse ones for codes of at most `n` entries.
pub(super) fn is_dense(codes: &SparseCodes, n: usize) -> bool {
    codes.nnz() as f64 > DENSE_FROM * n as f64
}

/// A tensor of f32 on the CPU, not yet written.
pub(super) fn empty(shape: &[i64]) -> Tensor {
    Tensor::empty(shape, (Kind::Float, Device::Cpu))
}

/// Some consecutive rows of a matrix, as a view.
pub(super) fn rows_of(matrix: &Tensor, rows: &Range<usize>) -> Tensor {
    matrix.narrow(0, rows.start as i64, rows.len() as i64)
}

impl Buffers {
    /// Gives every buffer its size, if it has another.
    pub(super) fn fit(
        &mut self,
        (batch, micro): (usize, usize),
        (d_in, d): (usize, usize),
        f: usize,
        n_groups: usize,
    ) {
        if (self.d_in, self.d, self.f) != (d_in, d, f) {
            let matrix = |width: usize| empty(&[f as i64, width as i64]);
            (self.d_w_dec, self.d_w_enc) = (matrix(d), matrix(d_in));
            self.codes = SparseCodes::new(f);
            self.part = SparseCodes::new(f);
            self.by_feature = FeatureMajor::new(f);
            self.zeros = vec![0.0; f];
            self.active = vec![false; f];
            self.d_b_enc = vec![0.0; f];
            self.d_b_dec = vec![0.0; d];
            self.sums = vec![0.0; d * n_groups];
            self.input_sum = vec![0.0; d_in];
        }
        let sizes = (self.batch, self.d_in, self.d, self.f, self.micro);
        if sizes != (batch, d_in, d, f, micro) {
            let rows = |width: usize| empty(&[batch as i64, width as i64]);
            self.centred = rows(d_in);
            self.centred_target = None;
            self.output = rows(d * n_groups);
            self.dense = None;
        }
        let shape = [micro as i64, f as i64];
        if self.z.values.size() != shape {
            self.z = PreActivations::new(empty(&shape));
        }
        (self.batch, self.d_in, self.d, self.f, self.micro) = (batch, d_in, d, f, micro);
    }

    /// The rows of the batch, as many at a time as the buffers hold.
    pub(super) fn micro_batches(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (batch, micro) = (self.batch, self.micro);
        (0..batch).step_by(micro.max(1)).map(move |start| start..(start + micro).min(batch))
    }

    /// Whether z holds the whole batch.
    pub(super) fn is_whole(&self) -> bool {
        self.micro == self.batch
    }

    /// The rows that `codes` holds, as many at a time as the buffers hold: rows of the batch, and of
    /// the codes.
    pub(super) fn held_micro_batches(
        &self,
    ) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<> {
        let Range { start, end } = self.held;
        self.micro_batches()
            .filter(move |rows| (start..end).contains(&rows.start))
            .map(move |rows| (rows.clone(), rows.start - start..rows.end - start))
    }

    /// Takes the codes of `rows` from `part`, as the only ones in a step that streams.
    ///
    /// The first of several micro-batches decides whether it does, where it may: many codes take more
    /// memory than a dense buffer.
    pub(super) fn take_part(&mut self, rows: &Range<usize>, may_stream: bool) -> Result<()> {
        if rows.start == 0 {
            let many = is_dense(&self.part, rows.len() * self.f);
            self.streams = may_stream && many && !self.is_whole();
        }
        if self.streams || self.is_whole() {
            std::mem::swap(&mut self.codes, &mut self.part);
            self.held = rows.clone();
            return Ok(());
        }
        if rows.start == 0 {
            self.codes.clear();
        }
        self.held = 0..rows.end;
        Ok(self.codes.extend(&self.part)?)
    }

    /// A buffer for dense codes, which is to be put back.
    pub(super) fn take_dense(&mut self) -> Tensor {
        self.dense.take().unwrap_or_else(|| empty(&[self.micro as i64, self.f as i64]))
    }

    /// Mean number of active features a row.
    pub(super) fn l0(&self) -> f64 {
        self.n_active as f64 / self.batch as f64
    }

    /// Counts the batch for the features that fire in the rows that `codes` holds.
    pub(super) fn count_fired(&mut self, dead: &mut DeadFeatures) -> Result<()> {
        let counters: &mut [i64] = slice_mut(&mut dead.rows_since_fired)?;
        if self.held.start == 0 {
            self.n_active = 0;
            counters.iter_mut().for_each(|c| *c += self.batch as i64);
            dead.rows_seen += self.batch as u64;
        }
        for (&f, &v) in self.codes.indices().iter().zip(self.codes.values()) {
            if v != 0.0 {
                counters[f as usize] = 0;
                self.n_active += 1;
            }
        }
        Ok(())
    }
}
