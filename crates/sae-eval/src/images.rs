//! What a vision host makes of images when reconstructions take the place of its activations.

mod content;
mod label_probes;
mod labels;
mod parts;
mod picture;
mod purity;
mod seen;

use sae_config::ImageScores;
use sae_hosts::{HookPoint, HostInput, HostModel, Image, ImagePositions, ImageProcessor, Prefix};
use sae_models::Sae;
use tch::{Kind, Tensor};

pub use self::content::{ImageEncoder, vision_scores, vision_scores_of};
use self::labels::{average, cosines, error_of_recovered, label_scores, recovered};
use self::parts::{PartSums, Position};
use self::picture::Picture;
use crate::metrics::to_f64s;
use crate::pass::Forward;
use crate::{Error, Result};

/// How far below 1 the cosine of embeddings that differ in rounding alone may lie.
const SAME: f64 = 1e-9;

/// How images are read for [`splice_images`].
#[derive(Debug, Clone)]
pub struct ImageSpliceOptions {
    /// How images become pixels.
    pub processor: ImageProcessor,
    /// The positions that are replaced: those that the SAE was trained on. The others keep their
    /// activations.
    pub positions: ImagePositions,
    /// What takes the place of each activation for comparison: their mean, of `d_model` values.
    pub mean: Vec<f64>,
    /// Images computed at once; decides speed and memory, not the result.
    pub batch_size: usize,
}

/// The host's embeddings of images: untouched, with reconstructions, and with the mean activation at
/// a hook point; and sparsity and fidelity by what is in a patch.
///
/// The label of an image is the folder in its name. `progress` is told the images done and the
/// images in all.
///
/// # Errors
/// [`Error::Setting`]; [`Error::Dimension`] if the SAE is of another `d_model` than the host or the
/// mean; [`Error::Empty`] without images; [`Error::SameEmbedding`] if the mean leaves every embedding as it
/// is; [`Error::NotFinite`] for an embedding that is NaN, infinite or 0; [`Error::Host`] and
/// [`Error::Model`].
pub fn splice_images(
    sae: &Sae,
    host: &HostModel,
    hook: HookPoint,
    images: &[Image],
    options: &ImageSpliceOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ImageScores> {
    let mut all = splice_images_of(&[sae], host, hook, images, options, progress)?;
    Ok(all.remove(0))
}

/// [`splice_images`] of several SAEs, from one pass of the host to the hook point.
///
/// # Errors
/// As [`splice_images`].
pub fn splice_images_of(
    saes: &[&Sae],
    host: &HostModel,
    hook: HookPoint,
    images: &[Image],
    options: &ImageSpliceOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<ImageScores>> {
    saes.iter().try_for_each(|sae| options.check(sae, host))?;
    let mut splice = Splice::new(saes, host, hook, options)?;
    let mut done = 0;
    batches(images, &options.processor, options.batch_size, |batch| {
        splice.add(batch)?;
        done += batch.len();
        progress(done as u64, images.len() as u64);
        Ok(())
    })?;
    splice.finish(images)
}

/// Reads images and gives them on in batches, each of one size, in their order.
fn batches(
    images: &[Image],
    processor: &ImageProcessor,
    batch_size: usize,
    mut give: impl FnMut(&[Picture]) -> Result<()>,
) -> Result<()> {
    let mut batch: Vec<Picture> = Vec::new();
    for image in images {
        let picture = Picture::read(processor, image)?;
        if batch.len() == batch_size || batch.first().is_some_and(|of| of.size != picture.size) {
            give(&batch)?;
            batch.clear();
        }
        batch.push(picture);
    }
    if batch.is_empty() { Ok(()) } else { give(&batch) }
}

/// The pixels of images of one size, as a host reads them.
fn pixels(host: &HostModel, pictures: &[Picture]) -> Result<Tensor> {
    let [height, width] = pictures[0].size.map(|edge| edge as i64);
    let pixels: Vec<f32> = pictures.iter().flat_map(|p| &p.pixels).copied().collect();
    Ok(Tensor::f_from_slice(&pixels)?
        .f_reshape([pictures.len() as i64, -1, height, width])?
        .f_to_device(host.device())?
        .f_to_kind(host.kind())?)
}

/// A host's state at a hook point with images of one size, and whether its first position is a class
/// token.
fn prefix(host: &HostModel, hook: HookPoint, pictures: &[Picture]) -> Result<(Prefix, bool)> {
    let HostInput::Images { class_token, .. } = host.info().input else {
        return Err(Error::Setting {
            name: "host",
            expected: "a vision model".to_owned(),
            got: host.info().family.clone(),
        });
    };
    Ok((host.prefix(&pixels(host, pictures)?, hook)?, class_token))
}

impl ImageSpliceOptions {
    fn check(&self, sae: &Sae, host: &HostModel) -> Result<()> {
        if sae.config().is_transcoder() {
            let expected = "an autoencoder: what it rebuilds takes the place of what it reads";
            return Err(Error::Ports { expected });
        }
        let expected = sae.config().d_model;
        for (got, of) in [(host.info().d_model, "the host"), (self.mean.len(), "the mean")] {
            if expected != got {
                return Err(Error::Dimension { expected, got, of });
            }
        }
        if self.batch_size == 0 {
            let expected = "at least 1".to_owned();
            return Err(Error::Setting { name: "batch_size", expected, got: "0".to_owned() });
        }
        Ok(())
    }
}

/// Embeddings of images, and sums over their positions.
struct Splice<'a> {
    host: &'a HostModel,
    hook: HookPoint,
    options: &'a ImageSpliceOptions,
    /// The mean activation, `[d_model]`.
    mean: Tensor,
    clean: Vec<Tensor>,
    mean_ablated: Vec<Tensor>,
    saes: Vec<Spliced<'a>>,
}

/// An SAE, embeddings with its reconstructions, and sums over positions.
struct Spliced<'a> {
    sae: &'a Sae,
    forward: Forward,
    embeddings: Vec<Tensor>,
    parts: PartSums,
}

impl<'a> Splice<'a> {
    fn new(
        saes: &[&'a Sae],
        host: &'a HostModel,
        hook: HookPoint,
        options: &'a ImageSpliceOptions,
    ) -> Result<Self> {
        let mean = Tensor::f_from_slice(&options.mean)?;
        let mean = mean.f_to_kind(host.kind())?.f_to_device(host.device())?;
        let (clean, mean_ablated) = Default::default();
        let spliced = |&sae: &&'a Sae| Spliced {
            sae,
            forward: Forward::new(sae),
            embeddings: Vec::new(),
            parts: PartSums::default(),
        };
        let saes = saes.iter().map(spliced).collect();
        Ok(Self { host, hook, options, mean, clean, mean_ablated, saes })
    }

    /// Adds images of one size.
    fn add(&mut self, pictures: &[Picture]) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let (prefix, class_token) = prefix(self.host, self.hook, pictures)?;
        let n_positions = prefix.activations().size()[1] as usize;
        let stored = self.options.positions.range(n_positions, class_token);
        let (first, length) = (stored.start as i64, stored.len() as i64);
        let replaced = prefix.activations().f_narrow(1, first, length)?;
        let host = self.host;
        let embed = |replacement: &Tensor| -> Result<Tensor> {
            let kept = |from: i64, to: i64| prefix.activations().f_narrow(1, from, to - from);
            let before = kept(0, first)?;
            let after = kept(first + length, n_positions as i64)?;
            let activations = Tensor::f_cat(&[&before, replacement, &after], 1)?;
            Ok(host.image_embeddings_from(&prefix, &activations)?)
        };
        let whole = host.image_embeddings_from(&prefix, prefix.activations())?;
        let ablated = embed(&self.mean.f_expand_as(&replaced)?)?;
        let mut positions = Vec::new();
        for picture in pictures {
            let first_patch = usize::from(class_token);
            positions.extend(picture.positions(stored.clone(), n_positions, first_patch)?);
        }
        let wide = |x: Tensor| x.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Double);
        for of in &mut self.saes {
            let rebuilt = of.rebuild(&replaced, &positions, &self.mean)?;
            of.embeddings.push(wide(embed(&rebuilt)?)?);
        }
        self.clean.push(wide(whole)?);
        self.mean_ablated.push(wide(ablated)?);
        Ok(())
    }

    fn finish(self, images: &[Image]) -> Result<Vec<ImageScores>> {
        if images.is_empty() {
            return Err(Error::Empty { what: "images" });
        }
        let unit = |embeddings: &[Tensor]| labels::unit(&Tensor::f_cat(embeddings, 0)?);
        let (clean, mean) = (unit(&self.clean)?, unit(&self.mean_ablated)?);
        let with_mean = cosines(&clean, &mean)?;
        if average(&with_mean) >= 1.0 - SAME {
            return Err(Error::SameEmbedding { hook: self.hook });
        }
        let of_sae = |of: Spliced<'_>| -> Result<ImageScores> {
            let spliced = unit(&of.embeddings)?;
            let with_sae = cosines(&clean, &spliced)?;
            Ok(ImageScores {
                n_images: images.len() as u64,
                cosine: average(&with_sae),
                cosine_mean: average(&with_mean),
                embedding_recovered: recovered(&with_sae, &with_mean),
                standard_error: error_of_recovered(&with_sae, &with_mean),
                labels: label_scores(images, [&clean, &spliced, &mean])?,
                parts: of.parts.finish(),
            })
        };
        self.saes.into_iter().map(of_sae).collect()
    }
}

impl Spliced<'_> {
    /// Activations `[images, positions, d_model]` as the SAE rebuilds them, which are added to the
    /// sums.
    fn rebuild(
        &mut self,
        activations: &Tensor,
        positions: &[Position],
        mean: &Tensor,
    ) -> Result<Tensor> {
        let rows = activations.f_reshape([-1, activations.size()[2]])?;
        let rows = rows.f_to_device(self.sae.device())?.f_to_kind(self.sae.kind())?;
        let parts = &mut self.parts;
        let x_hat = self.forward.apply(self.sae, &rows, |x_hat, features, k_hat| {
            let k_hat = k_hat.map(to_f64s).transpose()?;
            parts.add(positions, [&rows, x_hat, mean], &features.l0()?, k_hat.as_deref())?;
            Ok(x_hat.shallow_clone())
        })?;
        let x_hat = x_hat.f_to_device(activations.device())?.f_to_kind(activations.kind())?;
        Ok(x_hat.f_view_as(activations)?)
    }
}
