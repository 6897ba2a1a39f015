//! Whether inputs that are more complex get more features.

use sae_config::Complexity;
use sae_data::ActivationStore;
use sae_models::{Sae, SparseCoder, SparseCodes};
use tch::{Kind, Tensor};

use crate::Result;
use crate::correlation::spearman;
use crate::evaluate::{EvaluateOptions, for_each_batch};
use crate::intrinsic_dimension::intrinsic_dimension;
use crate::metrics::to_f64s;

/// Rows that are looked at, evenly spread: each is compared with all.
const MAX_ROWS: u64 = 16_384;

/// Intrinsic dimension of the rows of a store, and its rank correlation with numbers of features.
///
/// At most 16,384 rows, evenly spread over the store, are looked at. None where every row has the
/// same number of active features, or where rows are fewer than three or none differs from its
/// nearest.
///
/// # Errors
/// As [`evaluate`](crate::evaluate).
pub fn complexity(
    sae: &dyn Sae,
    store: &dyn ActivationStore,
    options: EvaluateOptions,
) -> Result<Option<Complexity>> {
    let stride = store.n_rows().div_ceil(MAX_ROWS).max(1);
    let (mut rows, mut counts) = (Vec::new(), Vec::new());
    for_each_batch(sae, store, options, &mut |start, x| {
        let first = (start.next_multiple_of(stride) - start) as i64;
        if first < x.size()[0] {
            let x = x.f_slice(0, first, None, stride as i64)?;
            counts.extend(if SparseCoder::applies(sae) {
                active_codes(&SparseCoder::default().encode(sae, &x)?.codes)
            } else {
                active_features(&sae.encode(&x)?.features)?
            });
            rows.push(x.f_to_kind(Kind::Float)?);
        }
        Ok(())
    })?;
    if counts.iter().all(|count| *count == counts[0]) {
        return Ok(None);
    }
    let dimension = intrinsic_dimension(&Tensor::f_cat(&rows, 0)?)?;
    let Some(dimension) = dimension.filter(|dimension| dimension.of_all.is_finite()) else {
        return Ok(None);
    };
    let known = counts.iter().zip(&dimension.of_rows).filter(|(_, d)| d.is_finite());
    let (counts, dimensions): (Vec<f64>, Vec<f64>) = known.unzip();
    Ok(Some(Complexity {
        n_rows: dimension.of_rows.len() as u64,
        dimension: dimension.of_all,
        spearman_l0_dimension: spearman(&counts, &dimensions),
    }))
}

/// The number of active features of each row.
pub(crate) fn active_codes(codes: &SparseCodes) -> Vec<f64> {
    let active = |row| codes.row(row).1.iter().filter(|value| **value > 0.0).count() as f64;
    (0..codes.n_rows()).map(active).collect()
}

/// The same of features `[batch, n_features]`.
pub(crate) fn active_features(features: &Tensor) -> Result<Vec<f64>> {
    let active = features.f_gt(0.0)?;
    to_f64s(&active.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double)?)
}
