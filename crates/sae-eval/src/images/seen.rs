//! What was seen of the features of an SAE on images, and the scores that it comes to.

use std::collections::BTreeMap;

use sae_config::{AgainstChance, ImagePart, SpentOnParts, VisionScores};
use sae_hosts::Image;
use sae_models::InitRng;
use tch::{Kind, Tensor};

use super::label_probes::label_probing;
use super::labels::label_of;
use super::purity::{LEAST_IMAGES, against_chance, dealt, purity};
use crate::metrics::to_f64s;
use crate::{Error, Features, Result, monosemanticity};

/// What was seen of images.
pub(super) struct Seen {
    n_features: usize,
    /// Greatest activation of each feature, image by image.
    greatest: Vec<f32>,
    /// The position of it, where it is above 0.
    places: Vec<Option<usize>>,
    /// What is in each position, image by image.
    parts: Vec<Vec<ImagePart>>,
    /// Mean activations of the host, `[d_model]` an image.
    means: Vec<Tensor>,
    /// Mean number spent on objects and on the background of an image that has both.
    spent: Vec<[f64; 2]>,
    has_parts: bool,
}

impl Seen {
    pub(super) fn new(n_features: usize) -> Self {
        let (greatest, places, parts, means, spent) = Default::default();
        Self { n_features, greatest, places, parts, means, spent, has_parts: false }
    }

    /// Adds an image with the rows of its positions.
    pub(super) fn add(
        &mut self,
        rows: &Tensor,
        parts: &[ImagePart],
        features: Features<'_>,
        k_hat: Option<&Tensor>,
    ) -> Result<()> {
        let start = self.greatest.len();
        self.greatest.resize(start + self.n_features, 0.0);
        self.places.resize(start + self.n_features, None);
        self.parts.push(parts.to_vec());
        let (greatest, places) = (&mut self.greatest[start..], &mut self.places[start..]);
        features.for_each_value(|row, feature, value| {
            if value > greatest[feature] {
                (greatest[feature], places[feature]) = (value, Some(row));
            }
        })?;
        let mean =
            rows.f_to_kind(Kind::Double)?.f_mean_dim([0i64].as_slice(), false, Kind::Double)?;
        self.means.push(mean.f_to_device(tch::Device::Cpu)?);
        let spent = match k_hat {
            Some(k_hat) => to_f64s(k_hat)?,
            None => features.l0()?,
        };
        let mean_of = |part: ImagePart| {
            let own: Vec<f64> =
                spent.iter().zip(parts).filter(|(_, of)| **of == part).map(|(n, _)| *n).collect();
            (!own.is_empty()).then(|| own.iter().sum::<f64>() / own.len() as f64)
        };
        let [object, background] = [ImagePart::Object, ImagePart::Background].map(mean_of);
        self.spent.extend(object.zip(background).map(|(object, background)| [object, background]));
        self.has_parts |= object.is_some() || background.is_some();
        Ok(())
    }

    pub(super) fn finish(
        self,
        images: &[Image],
        embeddings: Option<&Tensor>,
    ) -> Result<VisionScores> {
        let n = images.len();
        if n == 0 {
            return Err(Error::Empty { what: "images" });
        }
        let by_feature: Vec<Vec<f32>> = (0..self.n_features)
            .map(|feature| {
                self.greatest.iter().skip(feature).step_by(self.n_features).copied().collect()
            })
            .collect();
        let counts = |of: &Vec<f32>| of.iter().filter(|a| **a > 0.0).count() >= LEAST_IMAGES;
        let counted: Vec<usize> =
            (0..self.n_features).filter(|f| counts(&by_feature[*f])).collect();
        let labels = labels(images);
        let n_labels = labels.iter().flatten().max().map_or(0, |most| most + 1);
        let label_purity = match n_labels {
            0 | 1 => None,
            _ => against_chance(|deal| {
                let order = order(n, deal);
                let dealt: Vec<Option<usize>> = order.iter().map(|&i| labels[i]).collect();
                Ok(counted.iter().map(|&f| purity(&by_feature[f], &dealt)).collect())
            })?,
        };
        Ok(VisionScores {
            n_images: n as u64,
            n_features: counted.len() as u64,
            monosemanticity: embeddings
                .map(|embeddings| self.alike(n, &counted, embeddings))
                .transpose()?
                .flatten(),
            label_purity,
            part_purity: if self.has_parts {
                self.part_purity(n, &counted, &by_feature)?
            } else {
                None
            },
            label_probing: label_probing(
                &self.features(n)?,
                &Tensor::f_stack(&self.means, 0)?,
                &labels,
                n_labels,
            )?,
            spent: spent_on_parts(&self.spent),
        })
    }

    /// `[images, n_features]`.
    fn features(&self, n_images: usize) -> Result<Tensor> {
        let shape = [n_images as i64, self.n_features as i64];
        Ok(Tensor::f_from_slice(&self.greatest)?.f_reshape(shape)?)
    }

    fn alike(
        &self,
        n_images: usize,
        counted: &[usize],
        embeddings: &Tensor,
    ) -> Result<Option<AgainstChance>> {
        let columns: Vec<i64> = counted.iter().map(|&f| f as i64).collect();
        let features =
            self.features(n_images)?.f_index_select(1, &Tensor::f_from_slice(&columns)?)?;
        against_chance(|deal| {
            let order: Vec<i64> = order(n_images, deal).iter().map(|&i| i as i64).collect();
            let dealt = embeddings.f_index_select(0, &Tensor::f_from_slice(&order)?)?;
            monosemanticity(&features, &dealt)
        })
    }

    fn part_purity(
        &self,
        n_images: usize,
        counted: &[usize],
        by_feature: &[Vec<f32>],
    ) -> Result<Option<AgainstChance>> {
        let kind = |part: ImagePart| match part {
            ImagePart::Object => Some(0),
            ImagePart::Background => Some(1),
            ImagePart::ClassToken | ImagePart::Edge | ImagePart::Patch => None,
        };
        let own = |feature: usize| -> Vec<Option<usize>> {
            let places = self.places.iter().skip(feature).step_by(self.n_features);
            places.zip(&self.parts).map(|(place, parts)| kind(parts[(*place)?])).collect()
        };
        // By chance a place of each image, whatever is in it.
        let drawn = |seed: u64| -> Vec<Option<usize>> {
            let draw = InitRng::new(seed).uniform(&[n_images as i64], 0.5) + 0.5;
            let place = |(image, parts): (usize, &Vec<ImagePart>)| {
                kind(parts[(draw.double_value(&[image as i64]) * parts.len() as f64) as usize])
            };
            self.parts.iter().enumerate().map(place).collect()
        };
        against_chance(|deal| {
            let dealt = deal.map(drawn);
            let kinds = |feature: usize| dealt.clone().unwrap_or_else(|| own(feature));
            Ok(counted.iter().map(|&f| purity(&by_feature[f], &kinds(f))).collect())
        })
    }
}

/// The numbers of images, in their own order or in that of a deal.
fn order(n: usize, deal: Option<u64>) -> Vec<usize> {
    deal.map_or_else(|| (0..n).collect(), |seed| dealt(n, seed))
}

/// The number of each image's label, where it has one.
fn labels(images: &[Image]) -> Vec<Option<usize>> {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let of = |image| {
        let label = label_of(image)?;
        let next = numbers.len();
        Some(*numbers.entry(label).or_insert(next))
    };
    images.iter().map(of).collect()
}

fn spent_on_parts(of_images: &[[f64; 2]]) -> Option<SpentOnParts> {
    let n = of_images.len() as f64;
    let mean = |at: usize| of_images.iter().map(|of| of[at]).sum::<f64>() / n;
    let (object, background) = (mean(0), mean(1));
    let deviation = |of: &[f64; 2]| (of[0] - of[1] - (object - background)).powi(2);
    let squares: f64 = of_images.iter().map(deviation).sum();
    let standard_error = (squares / (n - 1.0).max(1.0) / n).sqrt();
    (!of_images.is_empty()).then_some(SpentOnParts { object, background, standard_error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_compared_image_by_image() {
        assert_eq!(spent_on_parts(&[]), None);
        let of = spent_on_parts(&[[10.0, 4.0], [20.0, 10.0], [30.0, 28.0]]).unwrap();
        assert_eq!((of.object, of.background), (20.0, 14.0));
        // Differences 6, 10 and 2: a standard deviation of 4.
        assert!((of.standard_error - 4.0 / 3f64.sqrt()).abs() < 1e-12);
    }

    /// Places of an image, their activations of two features, and what is spent on each.
    #[test]
    fn the_greatest_activation_of_an_image_has_its_place() {
        let mut seen = Seen::new(2);
        let features = Tensor::from_slice(&[0.0f32, 1.0, 3.0, 0.0, 2.0, 0.5]).view([3, 2]);
        let rows = Tensor::from_slice(&[1.0f32, 2.0, 6.0]).view([3, 1]);
        let parts = [ImagePart::Background, ImagePart::Object, ImagePart::Object];
        seen.add(&rows, &parts, Features::Dense(&features), None).unwrap();
        assert_eq!(
            (&seen.greatest[..], &seen.places[..]),
            (&[3.0, 1.0][..], &[Some(1), Some(0)][..])
        );
        assert_eq!(seen.means[0].double_value(&[0]), 3.0);
        assert_eq!(seen.spent, [[1.5, 1.0]]);
        let k_hat = Tensor::from_slice(&[5.0f32, 7.0, 8.0]);
        seen.add(&rows, &parts, Features::Dense(&features), Some(&k_hat)).unwrap();
        assert_eq!(seen.spent[1], [7.5, 5.0]);
    }
}
