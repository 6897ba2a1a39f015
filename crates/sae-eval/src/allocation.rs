//! How much it matters which row gets how many features: other rules on the same dictionary.

use sae_config::Allocation;
use sae_models::{Normalizer, Role, RowScale, Sae};
use tch::{Kind, Tensor};

use crate::metrics::to_f64s;
use crate::moments::Moments;
use crate::{EvalBatch, Observer, Result};

/// Rows that are looked at, the first of a store: they and all their errors are held in memory.
const MAX_ROWS: u64 = 20_000;

/// Most features a row may get, as a multiple of the mean.
const MAX_RATIO: f64 = 4.0;

/// Halvings of the interval in which the oracle's price of a feature is looked for.
const HALVINGS: usize = 60;

/// R² of the dictionary of an SAE with a given number of features a row on average, shared out by
/// three rules.
///
/// Features come in the order of their activations, as in all architectures that keep the largest
/// positive ones; others have none of this. Looks at the first 20,000 rows, which it keeps: how many
/// features of each matter is known only when all rows have been seen.
pub struct AllocationObserver<'a> {
    /// None for an architecture that does not keep the largest.
    sae: Option<&'a Sae>,
    n_rows: u64,
    /// What is encoded and what is to be rebuilt.
    rows: Vec<[Tensor; 2]>,
}

impl<'a> AllocationObserver<'a> {
    /// To observe a pass of `sae`.
    #[must_use]
    pub fn new(sae: &'a Sae) -> Self {
        Self { sae: sae.selection().keeps_largest().then_some(sae), n_rows: 0, rows: Vec::new() }
    }

    /// What the rules give with `l0` features a row on average, of the first 4·`l0` of each row;
    /// none for an architecture that does not keep the largest, or an `l0` below 1.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::Error::Torch).
    pub fn finish(self, l0: f64) -> Result<Option<Allocation>> {
        let Some(sae) = self.sae.filter(|_| l0 >= 1.0) else { return Ok(None) };
        let most = ((MAX_RATIO * l0).ceil() as usize).min(sae.config().n_features);
        let mut errors = Errors { most, activations: Vec::new(), errors: Vec::new(), unit: None };
        let d_out = sae.config().output_dimension();
        let mut moments = Moments::new(d_out);
        let _guard = tch::no_grad_guard();
        for [x, target] in self.rows {
            to_f64s(&target)?.chunks(d_out).for_each(|row| moments.add(row));
            errors.add(sae, &x, &target)?;
        }
        let unit = errors.unit.unwrap_or(1.0);
        let r2 = |error: f64| 1.0 - error * unit / moments.total_squared_deviation();
        let oracle = errors.oracle(l0);
        let (mean, sd) = mean_and_sd(&oracle);
        Ok(Some(Allocation {
            l0: mean,
            r2_uniform: r2(errors.uniform(mean)),
            r2_threshold: r2(errors.threshold(mean)),
            r2_oracle: r2(errors.total(&oracle)),
            l0_sd_oracle: sd,
        }))
    }
}

impl Observer for AllocationObserver<'_> {
    fn see(&mut self, batch: &EvalBatch<'_>) -> Result<()> {
        if self.sae.is_some() && self.n_rows < MAX_ROWS {
            self.n_rows += batch.x.size()[0] as u64;
            self.rows.push([batch.x, batch.target].map(Tensor::shallow_clone));
        }
        Ok(())
    }
}

/// Of each row, its largest activations in falling order and its squared error after each.
struct Errors {
    most: usize,
    /// `most` a row.
    activations: Vec<f32>,
    /// `most` + 1 a row, the first without any feature, in units of `unit`.
    errors: Vec<f32>,
    /// A squared error as large as any of the first rows, so that f32 holds those of all.
    unit: Option<f64>,
}

impl Errors {
    fn add(&mut self, sae: &Sae, x: &Tensor, target: &Tensor) -> Result<()> {
        let (normal, rows) = sae.normalizer.normalize(x);
        let parameters = &sae.parameters;
        let z = parameters.pre_activations(&normal).relu();
        let (values, indices) = z.f_topk(self.most as i64, 1, true, true)?;
        let scale = match (sae.output_normalizer(), &rows) {
            (_, Some(rows)) => {
                let scale = rows.scale.f_to_kind(Kind::Double)? * &rows.unit;
                scale.f_square()?.f_squeeze_dim(1)?
            }
            (Normalizer::Scale { scale } | Normalizer::ShiftScale { scale, .. }, None) => {
                Tensor::from(scale * scale)
            }
            (_, None) => Tensor::from(1.0),
        };
        // The scale of reconstructions; LayerNorm's ε is in that of inputs alone.
        let target = match &rows {
            Some(RowScale { shift: Some(shift), scale, unit }) => {
                let least = f64::from(f32::MIN_POSITIVE);
                (x / unit - shift) / scale.clamp_min(least)
            }
            None if sae.config().is_transcoder() => sae.output_normalizer().normalize(target).0,
            _ => normal,
        };
        let mut residual = target - &parameters[Role::DecoderBias];
        let mut columns = Vec::with_capacity(self.most + 1);
        for k in 0..=self.most as i64 {
            if k > 0 {
                let w_dec = &parameters[Role::DecoderWeight];
                let feature = w_dec.f_index_select(0, &indices.select(1, k - 1))?;
                let _ = residual.f_sub_(&(feature * values.narrow(1, k - 1, 1)))?;
            }
            let error = residual.f_square()?.f_sum_dim_intlist([1i64].as_slice(), false, None)?;
            columns.push(error.f_to_kind(Kind::Double)? * &scale);
        }
        let errors = Tensor::f_stack(&columns, 1)?;
        let errors = to_f64s(&errors)?;
        let largest = errors.iter().copied().fold(0.0, f64::max);
        let unit = *self.unit.get_or_insert(if largest > 0.0 { largest } else { 1.0 });
        self.errors.extend(errors.into_iter().map(|e| (e / unit) as f32));
        self.activations.extend(to_f64s(&values)?.into_iter().map(|z| z as f32));
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.errors.chunks(self.most + 1)
    }

    fn n_rows(&self) -> usize {
        self.activations.len() / self.most
    }

    fn total(&self, counts: &[usize]) -> f64 {
        self.rows().zip(counts).map(|(errors, &k)| f64::from(errors[k])).sum()
    }

    /// The same number in every row; between two whole numbers their mixture.
    fn uniform(&self, l0: f64) -> f64 {
        let low = (l0.floor() as usize).min(self.most - 1);
        let at = |k: usize| self.rows().map(|errors| f64::from(errors[k])).sum::<f64>();
        let part = (l0 - low as f64).min(1.0);
        (1.0 - part) * at(low) + part * at(low + 1)
    }

    /// The largest activations of all rows together.
    fn threshold(&self, l0: f64) -> f64 {
        let n = ((l0 * self.n_rows() as f64).round() as usize).clamp(1, self.activations.len());
        let mut all = self.activations.clone();
        let boundary = *all.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a)).1;
        let above = |row: &[f32]| row.partition_point(|z| *z >= boundary);
        let counts: Vec<usize> = self.activations.chunks(self.most).map(above).collect();
        self.total(&counts)
    }

    /// The numbers of features, `l0` on average, whose total error is least: those that are best at
    /// one price of a feature, the same in all rows.
    fn oracle(&self, l0: f64) -> Vec<usize> {
        let at = |price: f64| -> Vec<usize> {
            let cost = |(k, error): (usize, &f32)| f64::from(*error) + price * k as f64;
            let best = |errors: &[f32]| {
                let costs = errors.iter().enumerate().map(cost).enumerate();
                costs.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(k, _)| k)
            };
            self.rows().map(best).collect()
        };
        let largest = self.rows().map(|errors| f64::from(errors[0])).fold(0.0, f64::max);
        let (mut low, mut high) = (0.0, largest);
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            if mean_and_sd(&at(middle)).0 > l0 { low = middle } else { high = middle }
        }
        at(high)
    }
}

fn mean_and_sd(counts: &[usize]) -> (f64, f64) {
    let n = counts.len() as f64;
    let mean = counts.iter().map(|&k| k as f64).sum::<f64>() / n;
    let square = counts.iter().map(|&k| (k as f64 - mean).powi(2)).sum::<f64>();
    (mean, (square / (n - 1.0).max(1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Errors;

    /// Errors that fall by the square of each activation, as with orthogonal features.
    fn orthogonal(activations: &[Vec<f32>]) -> Errors {
        let most = activations[0].len();
        let mut errors = Errors { most, activations: Vec::new(), errors: Vec::new(), unit: None };
        for row in activations {
            let mut row = row.clone();
            row.sort_by(|a, b| b.total_cmp(a));
            let mut error: f32 = row.iter().map(|z| z * z).sum();
            errors.errors.push(error);
            for z in &row {
                error -= z * z;
                errors.errors.push(error);
            }
            errors.activations.extend(row);
        }
        errors
    }

    proptest! {
        #[test]
        fn no_rule_beats_the_oracle_and_a_threshold_is_one_for_orthogonal_features(
            rows in prop::collection::vec(prop::collection::vec(0.1_f32..2.0, 12), 2..30),
            l0 in 1.0_f64..8.0,
        ) {
            let errors = orthogonal(&rows);
            let oracle = errors.oracle(l0);
            let spent = oracle.iter().sum::<usize>() as f64 / rows.len() as f64;
            prop_assert!(spent <= l0 && spent > l0 - 1.0, "{} of {}", spent, l0);
            let best = errors.total(&oracle);
            let slack = 1e-4 * errors.uniform(0.0);
            prop_assert!(best <= errors.uniform(spent) + slack);
            prop_assert!((best - errors.threshold(spent)).abs() <= slack);
        }
    }

    #[test]
    fn the_uniform_rule_mixes_whole_numbers() {
        let errors = orthogonal(&[vec![1.0, 2.0], vec![3.0, 1.0]]);
        assert_eq!([0.0, 1.0, 1.5, 2.0].map(|k| errors.uniform(k)), [15.0, 2.0, 1.0, 0.0]);
    }
}
