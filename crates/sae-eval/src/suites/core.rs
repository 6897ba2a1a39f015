//! Fidelity and sparsity with intervals over blocks of rows.

use sae_config::{Interval, IntervalKind, Score, Scores};
use sae_models::{Role, Sae};
use tch::{Device, Kind, Tensor};

use super::bootstrap::{N_DRAWS, Resampler, block_length, quantiles};
use super::l0::{decoder_cosine, decoder_projection};
use crate::metrics::to_f64s;
use crate::{Error, EvalBatch, Observer, Result};

#[cfg(test)]
mod tests;

/// Rows that projections on the decoder are computed of at most, evenly spread over the store.
const MAX_PROJECTED: u64 = 2048;

/// Projections that exceed the one that is shown are one in so many: far fewer than half, whose value
/// is near 0 in any dictionary, and more than are active.
const PROJECTED_SHARE: usize = 16;

/// Sums over blocks of neighbouring rows, of which fidelity and sparsity are made.
///
/// Memory is two vectors of `d_out` a block, and 2,048 rows.
pub struct CoreObserver<'a> {
    sae: &'a Sae,
    block_length: u64,
    blocks: Vec<Block>,
    /// What is subtracted from all rows before they are squared: one of them.
    origin: Option<Tensor>,
    fired: Vec<bool>,
    stride: u64,
    projected: Vec<Tensor>,
}

/// Sums over the rows of a block; x is what is to be rebuilt, less the origin.
struct Block {
    /// Rows, Σ‖x‖², Σ‖e‖², Σ cos(x, x̂), Σ L0, Σ‖x̂‖², Σ x·x̂: the last three and the cosine of what is
    /// to be rebuilt itself.
    sums: [f64; N_SUMS],
    /// Σ x and Σ e, `[2·d_out]`.
    vectors: Tensor,
}

const N_SUMS: usize = 7;

impl<'a> CoreObserver<'a> {
    /// To observe a pass of `sae` over a store of `n_rows`.
    #[must_use]
    pub fn new(sae: &'a Sae, n_rows: u64) -> Self {
        Self {
            sae,
            block_length: block_length(n_rows),
            blocks: Vec::new(),
            origin: None,
            fired: vec![false; sae.config().n_features],
            stride: n_rows.div_ceil(MAX_PROJECTED).max(1),
            projected: Vec::new(),
        }
    }

    /// The scores of all rows.
    ///
    /// # Errors
    /// [`Error::Empty`] of no rows, [`Error::NoVariance`] of equal ones; [`Error::Torch`].
    pub fn finish(self) -> Result<Scores> {
        if self.blocks.is_empty() {
            return Err(Error::Empty { what: "rows" });
        }
        let _guard = tch::no_grad_guard();
        let (all, n_blocks) = (self.totals()?, self.blocks.len());
        let ones = Tensor::f_ones([1, n_blocks as i64], (Kind::Double, Device::Cpu))?;
        let n_rows = self.blocks.iter().map(|block| block.sums[0]).sum::<f64>() as u64;
        let whole = all.scores(&ones)?;
        if !whole[0].1[0].is_finite() {
            return Err(Error::NoVariance { n_rows });
        }
        let mut resampler = Resampler::new();
        let draws: Vec<f64> = (0..N_DRAWS).flat_map(|_| resampler.counts(n_blocks)).collect();
        let draws = Tensor::f_from_slice(&draws)?.f_reshape([N_DRAWS as i64, n_blocks as i64])?;
        let mut scores = Scores::new();
        for ((name, value), (_, drawn)) in whole.into_iter().zip(all.scores(&draws)?) {
            // 0/0: the relative bias where every reconstruction is 0.
            if !value[0].is_finite() {
                continue;
            }
            let ends = quantiles(drawn).filter(|_| n_blocks > 1);
            let by = IntervalKind::BlockBootstrap;
            let interval = ends.map(|[low, high]| Interval { low, high, by });
            scores.insert(name.into(), Score { interval, ..Score::new(value[0], n_rows) });
        }
        self.add_dictionary(&mut scores)?;
        Ok(scores)
    }

    fn totals(&self) -> Result<Totals> {
        let sums: Vec<f64> = self.blocks.iter().flat_map(|block| block.sums).collect();
        let sums = Tensor::f_from_slice(&sums)?.f_reshape([-1, N_SUMS as i64])?;
        let vectors: Vec<&Tensor> = self.blocks.iter().map(|block| &block.vectors).collect();
        Ok(Totals { sums, vectors: Tensor::f_stack(&vectors, 0)? })
    }

    /// Adds what is of the dictionary.
    fn add_dictionary(&self, scores: &mut Scores) -> Result<()> {
        let n = self.fired.len() as u64;
        let n_dead = self.fired.iter().filter(|fired| !**fired).count() as u64;
        let dead = n_dead as f64 / n.max(1) as f64;
        scores.insert("core.dead_fraction".into(), Score::new(dead, n));
        let decoder = &self.sae.parameters[Role::DecoderWeight];
        if let Some(cosine) = decoder_cosine(decoder)? {
            scores.insert("core.decoder_cosine".into(), Score::new(cosine, n));
        }
        // Projections on the decoder of a transcoder are of another space than what it reads.
        if !self.sae.config().is_transcoder() {
            let rows = Tensor::f_cat(&self.projected, 0)?;
            let n_rows = rows.size()[0] as u64;
            let projection =
                decoder_projection(self.sae, &rows, self.fired.len() / PROJECTED_SHARE)?;
            scores.insert("core.decoder_projection".into(), Score::new(projection, n_rows));
        }
        Ok(())
    }
}

impl Observer for CoreObserver<'_> {
    fn see(&mut self, batch: &EvalBatch<'_>) -> Result<()> {
        let first = batch.first_row.next_multiple_of(self.stride) - batch.first_row;
        let n = batch.x.size()[0];
        if (first as i64) < n {
            let rows = batch.x.f_slice(0, first as i64, None, self.stride as i64)?;
            // A copy: a view would keep the whole batch.
            self.projected.push(rows.f_contiguous()?.copy());
        }
        let wide = |x: &Tensor| x.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double);
        let (x, x_hat) = (wide(batch.target)?, wide(batch.x_hat)?);
        let origin = match &self.origin {
            Some(origin) => origin,
            None => self.origin.insert(x.f_get(0)?.copy()),
        };
        let error = x.f_sub(&x_hat)?;
        let centred = x.f_sub(origin)?;
        let of_rows = |x: &Tensor| x.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
        let (xx, hh) = (of_rows(&x.f_square()?)?, of_rows(&x_hat.f_square()?)?);
        let xh = of_rows(&x.f_mul(&x_hat)?)?;
        let norms = xx.f_sqrt()?.f_mul(&hh.f_sqrt()?)?;
        // A row has cosine 0 where x or x̂ is zero.
        let cosine = xh.f_div(&norms.f_clamp_min(f64::MIN_POSITIVE)?)?;
        let l0 = Tensor::f_from_slice(&batch.features.l0()?)?;
        let columns = [
            xx.f_ones_like()?,
            of_rows(&centred.f_square()?)?,
            of_rows(&error.f_square()?)?,
            cosine,
            l0,
            hh,
            xh,
        ];
        let columns = Tensor::f_stack(&columns, 1)?;
        let vectors = Tensor::f_cat(&[&centred, &error], 1)?;
        self.add(batch.first_row, n, &columns, &vectors)?;
        let fired = &mut self.fired;
        batch.features.for_each_active(|_, feature| fired[feature] = true)
    }
}

impl CoreObserver<'_> {
    /// Adds rows, cut where blocks end.
    fn add(&mut self, first: u64, n: i64, columns: &Tensor, vectors: &Tensor) -> Result<()> {
        let mut at = 0;
        while at < n {
            let block = (first + at as u64) / self.block_length;
            let end = ((block + 1) * self.block_length - first).min(n as u64) as i64;
            let total = |x: &Tensor| -> Result<Tensor> {
                let rows = x.f_narrow(0, at, end - at)?;
                Ok(rows.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Double)?)
            };
            let (sums, vectors) = (to_f64s(&total(columns)?)?, total(vectors)?);
            if sums.iter().any(|sum| !sum.is_finite()) {
                return Err(not_finite(first, columns)?);
            }
            if self.blocks.len() as u64 == block {
                let zeros = vectors.f_zeros_like()?;
                self.blocks.push(Block { sums: [0.0; N_SUMS], vectors: zeros });
            }
            let into = &mut self.blocks[block as usize];
            into.sums.iter_mut().zip(sums).for_each(|(into, sum)| *into += sum);
            into.vectors = into.vectors.f_add(&vectors)?;
            at = end;
        }
        Ok(())
    }
}

/// The error of the first row with a value that is not finite.
fn not_finite(first: u64, columns: &Tensor) -> Result<Error> {
    let columns = to_f64s(columns)?;
    let mut rows = (first..).zip(columns.chunks(N_SUMS));
    let (row, sums) = rows
        .find(|(_, sums)| sums.iter().any(|sum| !sum.is_finite()))
        .unwrap_or((first, &columns[..N_SUMS]));
    // Σ‖x‖² and Σ‖e‖².
    let (name, got) = if sums[1].is_finite() { ("x_hat", sums[2]) } else { ("x", sums[1]) };
    Ok(Error::NotFinite { name, row, got })
}

/// The sums of all blocks.
struct Totals {
    /// `[n_blocks, N_SUMS]`.
    sums: Tensor,
    /// `[n_blocks, 2·d_out]`.
    vectors: Tensor,
}

impl Totals {
    /// The scores, each for every draw of blocks.
    ///
    /// # Shapes
    /// draws `[n_draws, n_blocks]`: how often each block is in each draw.
    fn scores(&self, draws: &Tensor) -> Result<Vec<(&'static str, Vec<f64>)>> {
        let sums = draws.f_matmul(&self.sums)?;
        let vectors =
            draws.f_matmul(&self.vectors)?.f_square()?.f_reshape([draws.size()[0], 2, -1])?;
        let squares = vectors.f_sum_dim_intlist([2i64].as_slice(), false, Kind::Double)?;
        let column = |i: i64| sums.f_select(1, i);
        let n = column(0)?;
        let of_mean = |i: i64| squares.f_select(1, i)?.f_div(&n);
        let variance = column(1)?.f_sub(&of_mean(0)?)?;
        let unexplained = column(2)?;
        let share = |part: &Tensor| part.f_div(&variance)?.f_neg()?.f_add_scalar(1.0);
        Ok(vec![
            ("core.r2", to_f64s(&share(&unexplained)?)?),
            ("core.fve", to_f64s(&share(&unexplained.f_sub(&of_mean(1)?)?)?)?),
            ("core.cosine", to_f64s(&column(3)?.f_div(&n)?)?),
            ("core.l0", to_f64s(&column(4)?.f_div(&n)?)?),
            ("core.relative_bias", to_f64s(&column(5)?.f_div(&column(6)?)?)?),
        ])
    }
}
