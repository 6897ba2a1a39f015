//! Embeddings of images compared by their cosines: with themselves, and with those of their label.

use std::collections::BTreeMap;

use sae_config::LabelScores;
use sae_hosts::Image;
use tch::{Kind, Tensor};

use crate::metrics::to_f64s;
use crate::{Error, Result};

/// The label of an image: the folder in its name.
pub(super) fn label_of(image: &Image) -> Option<&str> {
    image.name.rsplit_once('/').map(|(folder, _)| folder)
}

/// Rows of length 1.
pub(super) fn unit(rows: &Tensor) -> Result<Tensor> {
    let norms = rows.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true)?;
    let bad = |norm: &f64| !norm.is_finite() || *norm <= 0.0;
    let lengths = to_f64s(&norms)?;
    if let Some(row) = lengths.iter().position(bad) {
        return Err(Error::NotFinite {
            name: "norm of an embedding",
            row: row as u64,
            got: lengths[row],
        });
    }
    Ok(rows.f_div(&norms)?)
}

/// The products of the rows of two matrices, row by row.
pub(super) fn cosines(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    to_f64s(&a.f_mul(b)?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double)?)
}

/// The mean of values.
pub(super) fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// What reconstructions recover of the embedding, by the mean cosines with them and with the mean
/// activation: (with − mean)/(1 − mean).
pub(super) fn recovered(with_sae: &[f64], with_mean: &[f64]) -> f64 {
    let (with_sae, with_mean) = (average(with_sae), average(with_mean));
    (with_sae - with_mean) / (1.0 - with_mean)
}

/// Its standard error, by a jackknife that leaves out one image after another; none of a single image.
pub(super) fn error_of_recovered(with_sae: &[f64], with_mean: &[f64]) -> Option<f64> {
    let n = with_sae.len() as f64;
    let sum = |values: &[f64]| values.iter().sum::<f64>();
    let (sae, mean) = (sum(with_sae), sum(with_mean));
    let without = |(a, b): (&f64, &f64)| (sae - a - (mean - b)) / (n - 1.0 - (mean - b));
    let without: Vec<f64> = with_sae.iter().zip(with_mean).map(without).collect();
    let centre = average(&without);
    let squares: f64 = without.iter().map(|value| (value - centre).powi(2)).sum();
    let error = ((n - 1.0) / n * squares).sqrt();
    (with_sae.len() > 1 && error.is_finite()).then_some(error)
}

/// Whether the images nearest to embeddings have their labels; none where no two share one.
///
/// # Shapes
/// `[images, size]`: untouched, with reconstructions, with the mean, each row of length 1.
pub(super) fn label_scores(
    images: &[Image],
    [clean, spliced, mean]: [&Tensor; 3],
) -> Result<Option<LabelScores>> {
    let mut of_label: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, image) in images.iter().enumerate() {
        if let Some(label) = label_of(image) {
            of_label.entry(label).or_default().push(i);
        }
    }
    of_label.retain(|_, images| images.len() > 1);
    let mut labelled: Vec<(usize, usize)> = of_label
        .values()
        .enumerate()
        .flat_map(|(label, images)| images.iter().map(move |i| (*i, label)))
        .collect();
    if labelled.is_empty() {
        return Ok(None);
    }
    labelled.sort_unstable();
    let (rows, labels): (Vec<usize>, Vec<usize>) = labelled.into_iter().unzip();
    let rows: Vec<i64> = rows.into_iter().map(|row| row as i64).collect();
    let rows = Tensor::f_from_slice(&rows)?;
    let references = clean.f_index_select(0, &rows)?;
    let share = |queries: &Tensor| -> Result<f64> {
        let cosines = queries.f_index_select(0, &rows)?.f_mm(&references.f_tr()?)?;
        // Not the image itself.
        let cosines = cosines.f_sub(
            &Tensor::f_eye(labels.len() as i64, (Kind::Double, tch::Device::Cpu))?
                .f_mul_scalar(4.0)?,
        )?;
        let nearest = Vec::<i64>::try_from(cosines.f_argmax(1, false)?)?;
        let right =
            nearest.iter().zip(&labels).filter(|(i, label)| labels[**i as usize] == **label);
        Ok(right.count() as f64 / labels.len() as f64)
    };
    Ok(Some(LabelScores {
        n_images: labels.len() as u64,
        n_labels: of_label.len() as u64,
        clean: share(clean)?,
        spliced: share(spliced)?,
        mean: share(mean)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_other_image_tells_the_label() {
        let images: Vec<Image> = ["a/1", "a/2", "b/c/1", "b/c/2", "b/1", "0"]
            .map(|name| Image { name: name.to_owned(), path: name.into() })
            .into();
        // Angles in degrees: a image of no label, or of one that no other has, is nobody's neighbour.
        let rows = |angles: [f64; 6]| {
            let values: Vec<f64> =
                angles.iter().map(|a| a.to_radians()).flat_map(|a| [a.cos(), a.sin()]).collect();
            Tensor::from_slice(&values).view([6, 2])
        };
        let clean = rows([0.0, 10.0, 80.0, 95.0, 3.0, 82.0]);
        // The first is drawn to the others' label, the second stays; the mean makes all one.
        let spliced = rows([70.0, 12.0, 85.0, 90.0, 0.0, 0.0]);
        let mean = rows([20.0; 6]);
        let scores = label_scores(&images, [&clean, &spliced, &mean]).unwrap().unwrap();
        assert_eq!((scores.n_images, scores.n_labels), (4, 2));
        assert_eq!((scores.clean, scores.spliced, scores.mean), (1.0, 0.75, 0.5));
        let (clean_cosine, expected) =
            (average(&cosines(&clean, &spliced).unwrap()), [70.0, 2.0, 5.0, 5.0, 3.0, 82.0]);
        let expected = expected.map(|a: f64| a.to_radians().cos()).iter().sum::<f64>() / 6.0;
        assert!((clean_cosine - expected).abs() < 1e-12);
        let alone = label_scores(&images[4..], [&clean, &spliced, &mean]).unwrap();
        assert_eq!(alone, None);
    }

    #[test]
    fn the_error_of_what_is_recovered_is_that_of_leaving_out() {
        let (sae, mean) = ([0.9, 0.7, 0.95, 0.6], [0.5, 0.2, 0.6, 0.4]);
        let without: Vec<f64> = (0..4)
            .map(|left_out| {
                let kept = |all: &[f64]| -> Vec<f64> {
                    (0..4).filter(|i| *i != left_out).map(|i| all[i]).collect()
                };
                recovered(&kept(&sae), &kept(&mean))
            })
            .collect();
        let variance: f64 = without.iter().map(|v| (v - average(&without)).powi(2)).sum();
        let error = error_of_recovered(&sae, &mean).unwrap();
        assert!((error - (variance * 3.0 / 4.0).sqrt()).abs() < 1e-12);
        assert_eq!(error_of_recovered(&[0.5], &[0.1]), None);
    }

    #[test]
    fn rows_without_a_direction_are_refused() {
        let rows = Tensor::from_slice(&[3.0, 4.0, 0.0, 0.0]).view([2, 2]);
        assert_eq!(
            Vec::<f64>::try_from(unit(&rows.narrow(0, 0, 1)).unwrap().view(-1)).unwrap(),
            [0.6, 0.8]
        );
        assert!(matches!(unit(&rows), Err(Error::NotFinite { row: 1, .. })));
        let infinite = Tensor::from_slice(&[f64::NAN, 1.0]).view([1, 2]);
        assert!(matches!(unit(&infinite), Err(Error::NotFinite { row: 0, .. })));
    }
}
