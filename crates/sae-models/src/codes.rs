//! Codes of hard selections as lists: decoding them takes memory for the chosen entries alone.

use tch::{Kind, Tensor};
use tch_autograd::read;

use crate::{Parameters, Role};

/// Chosen entries of a batch, row by row; those that are 0 count as not chosen.
#[derive(Debug)]
pub struct Codes {
    /// Features of the entries, `[n]`.
    indices: Tensor,
    /// Their activations, `[n]`, through which the gradient goes.
    values: Tensor,
    /// Where each row begins, `[batch]`.
    offsets: Tensor,
    n_features: i64,
}

impl Codes {
    /// The `k` largest entries of each row.
    ///
    /// # Shapes
    /// z `[batch, n_features]`, not negative.
    pub(crate) fn of_rows(z: &Tensor, k: i64) -> Self {
        let (batch, n_features) = z.size2().expect("activations are a matrix");
        let (values, indices) = z.topk(k, -1, true, false);
        let offsets = Tensor::arange(batch, (Kind::Int64, z.device())) * k;
        Self { indices: indices.flatten(0, -1), values: values.flatten(0, -1), offsets, n_features }
    }

    /// The `k` entries of largest magnitude of each row, with their sign.
    ///
    /// # Shapes
    /// z `[batch, n_features]`.
    pub fn of_magnitudes(z: &Tensor, k: i64) -> Self {
        let (batch, n_features) = z.size2().expect("activations are a matrix");
        let (_, indices) = z.detach().abs().topk(k, -1, true, false);
        let values = z.gather(1, &indices, false).flatten(0, -1);
        let offsets = Tensor::arange(batch, (Kind::Int64, z.device())) * k;
        Self { indices: indices.flatten(0, -1), values, offsets, n_features }
    }

    /// The `k[b]` largest entries of row b.
    ///
    /// # Shapes
    /// z `[batch, n_features]`, not negative; k `[batch]`, whole numbers of at most n_features and
    /// `most`: on a GPU their maximum is not read.
    pub(crate) fn of_row_counts(z: &Tensor, k: &Tensor, most: i64) -> Self {
        let (batch, n_features) = z.size2().expect("activations are a matrix");
        let widest = match batch {
            0 => 1,
            _ if read::waits(k.device()) => most.min(n_features).max(1),
            _ => read::whole_number(&k.max()).max(1),
        };
        let (values, indices) = z.topk(widest, -1, true, true);
        let rank = Tensor::arange(widest, (k.kind(), z.device()));
        let chosen = rank.unsqueeze(0).less_tensor(&k.unsqueeze(1)).to_kind(z.kind());
        let values = (values * chosen).flatten(0, -1);
        let offsets = Tensor::arange(batch, (Kind::Int64, z.device())) * widest;
        Self { indices: indices.flatten(0, -1), values, offsets, n_features }
    }

    /// The `k` largest entries of the whole batch.
    ///
    /// # Shapes
    /// z `[batch, n_features]`, not negative.
    pub(crate) fn of_batch(z: &Tensor, k: i64) -> Self {
        let (batch, n_features) = z.size2().expect("activations are a matrix");
        let flat = z.flatten(0, -1);
        let (_, places) = flat.detach().topk(k, -1, true, false);
        let (places, _) = places.sort(0, false);
        let starts = Tensor::arange(batch, (Kind::Int64, z.device())) * n_features;
        let offsets = starts.searchsorted(&places, false, false, "left", None::<Tensor>);
        let values = flat.index_select(0, &places);
        Self { indices: places.remainder(n_features), values, offsets, n_features }
    }

    /// Returns the entries with those of other features than `start..end` at 0.
    pub fn of_group(&self, start: i64, end: i64) -> Self {
        let inside = self.indices.ge(start).logical_and(&self.indices.lt(end));
        Self {
            indices: self.indices.shallow_clone(),
            values: &self.values * inside.to_kind(self.values.kind()),
            offsets: self.offsets.shallow_clone(),
            n_features: self.n_features,
        }
    }

    /// Σ value·(row of w), `[batch, d_model]`.
    ///
    /// # Shapes
    /// w `[n_features, d_model]`.
    pub fn decode(&self, w: &Tensor) -> Tensor {
        const SUM: i64 = 0;
        let (values, offsets) = (Some(&self.values), &self.offsets);
        Tensor::embedding_bag(w, &self.indices, offsets, false, SUM, false, values, false).0
    }

    /// fW_dec + b_dec.
    pub fn reconstruct(&self, parameters: &Parameters) -> Tensor {
        self.decode(&parameters[Role::DecoderWeight]) + &parameters[Role::DecoderBias]
    }

    /// Which features are active anywhere in the batch, `[n_features]`.
    pub fn fired(&self) -> Tensor {
        let _guard = tch::no_grad_guard();
        let active = self.values.detach().ne(0.0).to_kind(Kind::Int64);
        let n_rows = Tensor::zeros([self.n_features], (Kind::Int64, self.values.device()));
        n_rows.scatter_add(0, &self.indices, &active).gt(0)
    }

    /// The activations as one matrix with a row for each of the batch, where all have as many.
    pub fn by_row(&self) -> Tensor {
        self.values.detach().reshape([self.n_rows(), -1])
    }

    /// Returns the entries as constants, of which no gradient is taken.
    pub fn detach(self) -> Self {
        Self { values: self.values.detach(), ..self }
    }

    /// The activations.
    pub fn values(&self) -> Tensor {
        self.values.detach()
    }

    /// The number of rows of the batch.
    pub fn n_rows(&self) -> i64 {
        self.offsets.size()[0]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Kind, Tensor};
    use tch_autograd::read;

    use crate::{Codes, InitRng, top_k_of_batch_mask, top_k_of_rows_mask, top_k_rows_mask};

    /// The decoded batch and its gradients to z and w, for a fixed gradient of the output.
    fn differentiate(
        z: &Tensor,
        w: &Tensor,
        decode: impl Fn(&Tensor, &Tensor) -> Tensor,
    ) -> [Tensor; 3] {
        let inputs = [z, w].map(|t| t.copy().set_requires_grad(true));
        let out = decode(&inputs[0], &inputs[1]);
        let along = Tensor::arange(out.numel() as i64, (Kind::Double, out.device())).sin();
        let sum = (&out * along.reshape(out.size())).sum(Kind::Double);
        let mut gradients = Tensor::run_backward(&[&sum], &inputs, false, false);
        let (of_w, of_z) = (gradients.remove(1), gradients.remove(0));
        // Which of the entries at 0 are chosen changes nothing else.
        [out.detach(), of_z * z.ne(0.0).to_kind(Kind::Double), of_w]
    }

    fn close(got: &[Tensor; 3], want: &[Tensor; 3]) -> bool {
        got.iter().zip(want).all(|(a, b)| (a - b).abs().max().double_value(&[]) < 1e-12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn values_and_gradients_are_those_of_the_dense_product(
            (batch, f, d, k, seed) in (1i64..9, 4i64..20, 1i64..8, 1i64..4, 0u64..1 << 40),
        ) {
            let mut rng = InitRng::new(seed);
            // Negative half the time: rows may have fewer than k active entries.
            let z = rng.uniform(&[batch, f], 1.0).relu();
            let w = rng.uniform(&[f, d], 1.0);
            let rows = differentiate(&z, &w, |z, w| Codes::of_rows(z, k).decode(w));
            let dense = differentiate(&z, &w, |z, w| (z * top_k_rows_mask(z, k)).mm(w));
            prop_assert!(close(&rows, &dense));
            let signed = rng.uniform(&[batch, f], 1.0);
            let rows = differentiate(&signed, &w, |z, w| Codes::of_magnitudes(z, k).decode(w));
            let dense = |z: &Tensor, w: &Tensor| (z * top_k_rows_mask(&z.abs(), k)).mm(w);
            prop_assert!(close(&rows, &differentiate(&signed, &w, dense)));
            let counts = Tensor::arange(batch, (Kind::Int64, z.device())).remainder(k + 1);
            let of_rows =
                |z: &Tensor, w: &Tensor| Codes::of_row_counts(z, &counts, k).decode(w);
            let unread = read::as_on_a_gpu(|| differentiate(&z, &w, of_rows));
            let of_rows = differentiate(&z, &w, of_rows);
            prop_assert!(close(&of_rows, &unread));
            let dense = |z: &Tensor, w: &Tensor| (z * top_k_of_rows_mask(z, &counts)).mm(w);
            prop_assert!(close(&of_rows, &differentiate(&z, &w, dense)));
            let n = k * batch;
            let of_batch = differentiate(&z, &w, |z, w| Codes::of_batch(z, n).decode(w));
            let dense = differentiate(&z, &w, |z, w| (z * top_k_of_batch_mask(z, n)).mm(w));
            prop_assert!(close(&of_batch, &dense));

            let codes = Codes::of_batch(&z, n);
            let fired = (&z * top_k_of_batch_mask(&z, n)).amax([0i64].as_slice(), false).gt(0.0);
            prop_assert_eq!(codes.fired(), fired);
            let (first, rest) = (codes.of_group(0, f / 2), codes.of_group(f / 2, f));
            let error = (codes.decode(&w) - first.decode(&w) - rest.decode(&w)).abs().max();
            prop_assert!(error.double_value(&[]) < 1e-12);
        }
    }
}
