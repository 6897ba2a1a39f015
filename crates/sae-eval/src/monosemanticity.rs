//! Monosemanticity of features of images (Pach et al. 2025, arXiv:2504.02821).

use tch::{Kind, Tensor};

use crate::Result;
use crate::probing::rows;

/// How alike the images are that a feature is active on: Σ_{i<j} a_i a_j cos(e_i, e_j)/Σ_{i<j} a_i a_j
/// over pairs of images, with the feature's activations a scaled to lie between 0 and 1.
///
/// None for a feature whose activation is above its least on fewer than two images. One product, since
/// the sums are (‖Σ a ê‖² − Σ a²)/2 and ((Σ a)² − Σ a²)/2.
///
/// # Shapes
/// features `[images, n_features]`; embeddings `[images, size]`, of another model as a rule.
///
/// # Errors
/// Other numbers of rows; values that are not finite.
pub fn monosemanticity(features: &Tensor, embeddings: &Tensor) -> Result<Vec<Option<f64>>> {
    let n_rows = features.size().first().copied().unwrap_or(0) as usize;
    let (a, e) = (rows("features", features, n_rows)?, rows("embeddings", embeddings, n_rows)?);
    if n_rows == 0 {
        return Ok(vec![None; a.size()[1] as usize]);
    }
    let least = a.amin([0i64].as_slice(), true);
    let range = a.amax([0i64].as_slice(), true) - &least;
    let a = (a - least) / range.where_self(&range.gt(0.0), &range.ones_like());
    let norms = e.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
    let e = e / norms.where_self(&norms.gt(0.0), &norms.ones_like());
    let sum = |t: &Tensor, dim: i64| t.sum_dim_intlist(dim, false, Kind::Double);
    let squares = sum(&a.square(), 0);
    let alike = sum(&a.tr().mm(&e).square(), 1) - &squares;
    let pairs = sum(&a, 0).square() - &squares;
    let (alike, pairs) = (Vec::<f64>::try_from(alike)?, Vec::<f64>::try_from(pairs)?);
    // A single activation cancels to rounding.
    let squares = Vec::<f64>::try_from(squares)?;
    let score = |((alike, pairs), squares): ((f64, f64), f64)| {
        (pairs > 1e-12 * squares).then_some(alike / pairs)
    };
    Ok(alike.into_iter().zip(pairs).zip(squares).map(score).collect())
}
