//! What takes the place of a host's activations.

use sae_models::{Encoded, InitRng, Role, Sae};
use tch::{Kind, Tensor};

use crate::Result;
use crate::pass::Forward;

/// Seed of the directions of [`Replacement::Random`].
const SEED: u64 = 0x5eed;

/// What takes the place of each activation x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replacement {
    /// x̂.
    Rebuilt,
    /// Zeros.
    Zero,
    /// x + ‖x − x̂‖·u, with u drawn uniformly from the unit sphere: as far from x as x̂ is.
    Random,
    /// What the decoder makes of so many features, those of the greatest activation times norm of
    /// the decoder's row.
    Largest(usize),
}

impl Replacement {
    /// Its name in results.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Rebuilt => "rebuilt".to_owned(),
            Self::Zero => "zero".to_owned(),
            Self::Random => "random".to_owned(),
            Self::Largest(n) => format!("largest_{n}"),
        }
    }
}

/// Makes replacements of the activations that it has read.
pub(super) struct Replacer<'a> {
    sae: &'a Sae,
    forward: Forward,
    rng: InitRng,
    /// Rows that were read, in the SAE's kind and on its device, and their reconstructions.
    rows: Option<[Tensor; 2]>,
}

impl<'a> Replacer<'a> {
    pub(super) fn new(sae: &'a Sae) -> Self {
        Self { sae, forward: Forward::new(sae), rng: InitRng::new(SEED), rows: None }
    }

    /// Encodes activations `[contexts, positions, d_model]`; returns the number of active features at
    /// each position.
    pub(super) fn read(&mut self, own: &Tensor) -> Result<Vec<f64>> {
        let rows = own
            .f_reshape([-1, own.size()[2]])?
            .f_to_device(self.sae.device())?
            .f_to_kind(self.sae.kind())?;
        let (x_hat, l0) = self.forward.apply(self.sae, &rows, |x_hat, features, _| {
            Ok((x_hat.shallow_clone(), features.l0()?))
        })?;
        self.rows = Some([rows, x_hat]);
        Ok(l0)
    }

    /// What takes the place of the activations that were read last.
    ///
    /// # Panics
    /// Before any were read.
    pub(super) fn replace(&mut self, own: &Tensor, by: Replacement) -> Result<Tensor> {
        let [rows, x_hat] = self.rows.as_ref().expect("activations that were read");
        let replaced = match by {
            Replacement::Rebuilt => x_hat.shallow_clone(),
            Replacement::Zero => return Ok(own.f_zeros_like()?),
            Replacement::Random => {
                let error = rows.f_sub(x_hat)?.f_to_kind(Kind::Double)?;
                let distance = error.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true)?;
                let size = rows.size();
                let directions = self.rng.directions(size[0] as usize, size[1] as usize, 1.0);
                let moved = directions.f_to_device(rows.device())?.f_mul(&distance)?;
                rows.f_to_kind(Kind::Double)?.f_add(&moved)?
            }
            Replacement::Largest(n) => largest(self.sae, rows, n)?,
        };
        Ok(replaced.f_to_device(own.device())?.f_to_kind(own.kind())?.f_view_as(own)?)
    }
}

/// Rows as the SAE rebuilds them from the n features of the greatest contribution alone.
fn largest(sae: &Sae, rows: &Tensor, n: usize) -> Result<Tensor> {
    let Encoded { features, k_hat, rows: scale } = sae.encode(rows)?;
    let norms =
        sae.parameters[Role::DecoderWeight].f_norm_scalaropt_dim(2.0, [1i64].as_slice(), false)?;
    let contributions = features.f_abs()?.f_mul(&norms)?;
    let n = (n as i64).min(features.size()[1]);
    let (_, at) = contributions.f_topk(n, 1, true, false)?;
    let kept = features.f_zeros_like()?.f_scatter(1, &at, &features.f_gather(1, &at, false)?)?;
    Ok(sae.decode(&Encoded { features: kept, k_hat, rows: scale })?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sae_config::Normalization;

    use super::*;
    use crate::tied::{NORMALIZATIONS, tied};

    /// relu(x Wᵀ) W with random rows of different norms.
    fn sae(weights: &[f32], d: i64) -> Sae {
        tied(&Tensor::from_slice(weights).view([-1, d]), Normalization::None, 0.0)
    }

    #[test]
    fn all_features_give_the_reconstruction() {
        let mut rng = InitRng::new(4);
        let weights = rng.uniform(&[6, 4], 1.0);
        let rows = rng.uniform(&[5, 4], 2.0).to_kind(Kind::Float) + 1.0;
        for normalization in NORMALIZATIONS {
            let sae = tied(&weights, normalization, 0.25);
            let expected = sae.decode(&sae.encode(&rows).unwrap()).unwrap();
            let error = (largest(&sae, &rows, 6).unwrap() - expected).abs().max();
            assert!(error.double_value(&[]) < 1e-5, "{normalization:?}: {error:?}");
        }
    }

    proptest! {
        #[test]
        fn the_largest_are_those_that_a_sort_finds(
            weights in prop::collection::vec(-1.0..1.0f32, 24),
            x in prop::collection::vec(-2.0..2.0f32, 8),
            n in 0..8usize,
        ) {
            let (sae, rows) = (sae(&weights, 4), Tensor::from_slice(&x).view([2, 4]));
            let got = Vec::<f32>::try_from(largest(&sae, &rows, n).unwrap().view(-1)).unwrap();
            for row in 0..2 {
                let x = &x[4 * row..][..4];
                let dot = |f: usize| -> f32 { weights[4 * f..][..4].iter().zip(x).map(|(w, x)| w * x).sum() };
                let norm = |f: usize| weights[4 * f..][..4].iter().map(|w| w * w).sum::<f32>().sqrt();
                let mut order: Vec<usize> = (0..6).collect();
                let size = |f: usize| dot(f).max(0.0) * norm(f);
                order.sort_by(|a, b| size(*b).total_cmp(&size(*a)));
                for d in 0..4 {
                    let expected: f32 = order.iter().take(n).map(|&f| dot(f).max(0.0) * weights[4 * f + d]).sum();
                    prop_assert!((got[4 * row + d] - expected).abs() < 1e-4, "{} {expected}", got[4 * row + d]);
                }
            }
        }

        #[test]
        fn random_replacements_are_as_far_as_reconstructions(
            weights in prop::collection::vec(-1.0..1.0f32, 24),
            x in prop::collection::vec(-2.0..2.0f32, 12),
        ) {
            let sae = sae(&weights, 4);
            let own = Tensor::from_slice(&x).view([1, 3, 4]);
            let mut replacer = Replacer::new(&sae);
            replacer.read(&own).unwrap();
            let mut distances = |by| {
                let other = replacer.replace(&own, by).unwrap();
                let norms = (other - &own).view([3, 4]).norm_scalaropt_dim(2.0, [1i64].as_slice(), false);
                Vec::<f32>::try_from(norms).unwrap()
            };
            let [rebuilt, random] = [Replacement::Rebuilt, Replacement::Random].map(&mut distances);
            for (rebuilt, random) in rebuilt.iter().zip(&random) {
                prop_assert!((rebuilt - random).abs() < 1e-5 * rebuilt.max(1.0));
            }
        }
    }
}
