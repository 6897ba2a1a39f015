//! What the features of a vision SAE are of: images of one label, objects or background, images that
//! another encoder finds alike; and what is spent on which part.

use sae_config::{ImagePart, VisionScores};
use sae_hosts::{HookPoint, HostModel, Image, ImageProcessor};
use sae_models::Sae;
use tch::Tensor;

use super::seen::Seen;
use super::{ImageSpliceOptions, batches, prefix};
use crate::Result;
use crate::pass::Forward;

/// A model of images of its own, and how it wants them.
#[derive(Debug)]
pub struct ImageEncoder<'a> {
    /// The model.
    pub host: &'a HostModel,
    /// How images become its pixels.
    pub processor: ImageProcessor,
}

/// What the features of an SAE are of. An image's activation of a feature is the greatest over its
/// positions; the label of an image is the folder in its name.
///
/// The options' mean is not used. `progress` is told the images done and the images in all.
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting), [`Error::Dimension`](crate::Error::Dimension),
/// [`Error::Empty`](crate::Error::Empty), as [`splice_images`](crate::splice_images);
/// [`Error::Host`](crate::Error::Host) and [`Error::Model`](crate::Error::Model).
pub fn vision_scores(
    sae: &Sae,
    host: &HostModel,
    hook: HookPoint,
    images: &[Image],
    options: &ImageSpliceOptions,
    encoder: Option<&ImageEncoder<'_>>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<VisionScores> {
    let mut all = vision_scores_of(&[sae], host, hook, images, options, encoder, progress)?;
    Ok(all.remove(0))
}

/// [`vision_scores`] of several SAEs, from one pass of the host.
///
/// # Errors
/// As [`vision_scores`].
pub fn vision_scores_of(
    saes: &[&Sae],
    host: &HostModel,
    hook: HookPoint,
    images: &[Image],
    options: &ImageSpliceOptions,
    encoder: Option<&ImageEncoder<'_>>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<VisionScores>> {
    saes.iter().try_for_each(|sae| options.check(sae, host))?;
    let _guard = tch::no_grad_guard();
    let new = |sae: &&Sae| (Forward::new(sae), Seen::new(sae.config().n_features));
    let mut all: Vec<(Forward, Seen)> = saes.iter().map(new).collect();
    let mut done = 0;
    batches(images, &options.processor, options.batch_size, |pictures| {
        let (prefix, class_token) = prefix(host, hook, pictures)?;
        let n_positions = prefix.activations().size()[1] as usize;
        let stored = options.positions.range(n_positions, class_token);
        for (at, picture) in pictures.iter().enumerate() {
            let first_patch = usize::from(class_token);
            let parts = picture.positions(stored.clone(), n_positions, first_patch)?;
            let parts: Vec<ImagePart> = parts.into_iter().map(|position| position.part).collect();
            let rows = prefix.activations().f_get(at as i64)?;
            let rows = rows.f_narrow(0, stored.start as i64, stored.len() as i64)?;
            for (sae, (forward, seen)) in saes.iter().zip(&mut all) {
                let rows = rows.f_to_device(sae.device())?.f_to_kind(sae.kind())?;
                forward.apply(sae, &rows, |_, features, k_hat| {
                    seen.add(&rows, &parts, features, k_hat)
                })?;
            }
        }
        done += pictures.len();
        progress(done as u64, images.len() as u64);
        Ok(())
    })?;
    let embeddings = encoder.map(|of| of.embed(images, options.batch_size)).transpose()?;
    all.into_iter().map(|(_, seen)| seen.finish(images, embeddings.as_ref())).collect()
}

impl ImageEncoder<'_> {
    /// `[images, size]` on the CPU.
    fn embed(&self, images: &[Image], batch_size: usize) -> Result<Tensor> {
        let mut all = Vec::new();
        batches(images, &self.processor, batch_size, |pictures| {
            let pixels = super::pixels(self.host, pictures)?;
            all.push(self.host.image_embeddings(&pixels)?.f_to_device(tch::Device::Cpu)?);
            Ok(())
        })?;
        Ok(Tensor::f_cat(&all, 0)?)
    }
}
