//! Sparsity and fidelity by what is in a position of an image.

use std::collections::BTreeMap;

use sae_config::{ImagePart, PartScores};
use tch::{Kind, Tensor};

use crate::Result;
use crate::correlation::spearman;
use crate::metrics::to_f64s;

/// What is in a position of an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Position {
    pub(super) part: ImagePart,
    /// Standard deviation of a patch's pixels, the mean over colours.
    pub(super) contrast: Option<f64>,
}

/// What was seen of the positions of each part.
#[derive(Debug, Default)]
pub(super) struct PartSums(BTreeMap<ImagePart, Seen>);

#[derive(Debug, Default)]
struct Seen {
    l0: Vec<f64>,
    contrast: Vec<f64>,
    k_hat: Option<f64>,
    error: f64,
    variance: f64,
}

impl PartSums {
    /// Adds rows with their reconstructions and the number of their active features.
    ///
    /// # Shapes
    /// rows and reconstructions `[rows, d_model]`, the mean `[d_model]`.
    pub(super) fn add(
        &mut self,
        positions: &[Position],
        [x, x_hat, mean]: [&Tensor; 3],
        l0: &[f64],
        k_hat: Option<&[f64]>,
    ) -> Result<()> {
        let squares = |difference: Tensor| {
            let difference = difference.f_to_kind(Kind::Double)?.f_square()?;
            to_f64s(&difference.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double)?)
        };
        let mean = mean.f_to_device(x.device())?.f_to_kind(x.kind())?;
        let (errors, variances) = (squares(x.f_sub(x_hat)?)?, squares(x.f_sub(&mean)?)?);
        for (row, position) in positions.iter().enumerate() {
            let seen = self.0.entry(position.part).or_default();
            seen.l0.push(l0[row]);
            seen.contrast.extend(position.contrast);
            if let Some(k_hat) = k_hat {
                *seen.k_hat.get_or_insert(0.0) += k_hat[row];
            }
            seen.error += errors[row];
            seen.variance += variances[row];
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<PartScores> {
        let scores = |(part, seen): (ImagePart, Seen)| {
            let n = seen.l0.len() as f64;
            let l0_mean = seen.l0.iter().sum::<f64>() / n;
            let squares: f64 = seen.l0.iter().map(|l0| (l0 - l0_mean).powi(2)).sum();
            let is_patch = seen.contrast.len() == seen.l0.len();
            PartScores {
                part,
                n_rows: seen.l0.len() as u64,
                l0_mean,
                l0_sd: (squares / n).sqrt(),
                k_hat_mean: seen.k_hat.map(|sum| sum / n),
                r2: (seen.variance > 0.0).then(|| 1.0 - seen.error / seen.variance),
                spearman_l0_contrast: is_patch
                    .then(|| spearman(&seen.l0, &seen.contrast))
                    .flatten(),
            }
        };
        self.0.into_iter().map(scores).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_by_part_whatever_the_batches() {
        let at = |part, contrast| Position { part, contrast };
        let positions = [
            at(ImagePart::ClassToken, None),
            at(ImagePart::Object, Some(0.5)),
            at(ImagePart::Background, Some(0.0)),
            at(ImagePart::Object, Some(0.1)),
        ];
        let x = Tensor::from_slice(&[1.0f32, 0.0, 2.0, 2.0, 0.0, 1.0, 0.0, 3.0]).view([4, 2]);
        let x_hat = Tensor::from_slice(&[1.0f32, 1.0, 2.0, 1.0, 0.0, 1.0, 0.0, 1.0]).view([4, 2]);
        let mean = Tensor::from_slice(&[0.0f32, 1.0]);
        let (l0, k_hat) = ([3.0, 8.0, 1.0, 4.0], [3.2, 8.4, 1.0, 4.4]);
        let mut whole = PartSums::default();
        whole.add(&positions, [&x, &x_hat, &mean], &l0, Some(&k_hat)).unwrap();
        let mut cut = PartSums::default();
        for (first, n) in [(0, 1), (1, 3)] {
            let rows = |t: &Tensor| t.narrow(0, first, n);
            let range = first as usize..(first + n) as usize;
            let tensors = [&rows(&x), &rows(&x_hat), &mean];
            cut.add(&positions[range.clone()], tensors, &l0[range.clone()], Some(&k_hat[range]))
                .unwrap();
        }
        let (whole, cut) = (whole.finish(), cut.finish());
        assert_eq!(whole, cut);
        assert_eq!(whole.len(), 3);
        let object = &whole[1];
        assert_eq!((object.part, object.n_rows), (ImagePart::Object, 2));
        assert_eq!((object.l0_mean, object.l0_sd), (6.0, 2.0));
        assert!((object.k_hat_mean.unwrap() - 6.4).abs() < 1e-12);
        // Errors 1 and 4; distances from the mean 4 + 1 and 4.
        assert!((object.r2.unwrap() - (1.0 - 5.0 / 9.0)).abs() < 1e-12);
        // The one row of it is the mean.
        assert_eq!((whole[2].part, whole[2].r2), (ImagePart::Background, None));
        assert_eq!(object.spearman_l0_contrast, Some(1.0));
        assert_eq!((whole[0].part, whole[0].spearman_l0_contrast), (ImagePart::ClassToken, None));
    }
}
