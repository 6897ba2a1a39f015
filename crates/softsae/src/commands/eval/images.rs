//! A vision host's embeddings of images with reconstructions spliced in.

use std::path::Path;

use sae_config::{Evaluation, ImageScores, Scores};
use sae_data::{ActivationStore, Statistics};
use sae_eval::{
    Error, ImageEncoder, ImageSpliceOptions, image_scores, splice_images, splice_images_of,
    vision_scores, vision_scores_of,
};
use sae_hosts::{Background, HookPoint, HostModel, Image, ImagePositions, host_provenance};
use sae_models::Sae;

use crate::cli::EvalArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::note;
use crate::progress::Progress;

/// Images computed at once.
const BATCH_SIZE: usize = 8;

/// Images, and how the host reads them: as the store was harvested.
pub(super) struct SplicedImages {
    images: Vec<Image>,
    options: ImageSpliceOptions,
    /// What is seen through transparent pixels.
    background: Background,
    /// Another model of images, that says how alike they are.
    encoder: Option<HostModel>,
}

impl SplicedImages {
    pub(super) fn open(
        args: &EvalArgs,
        folder: &Path,
        host: &HostModel,
        store: &dyn ActivationStore,
    ) -> Result<Self, Failure> {
        let provenance = store.provenance();
        let setting = |key: &str| provenance.and_then(|p| p.settings.get(key)).map(String::as_str);
        let positions = setting("positions").ok_or_else(|| {
            Failure::usage(anyhow::anyhow!(
                "--images: expected a store that was harvested of images, got {}",
                args.data.display()
            ))
        })?;
        let background = match setting("background") {
            Some(background) => background.parse::<Background>().or_usage()?,
            None => Background::Stored,
        };
        let encoder = args.encoder.as_ref();
        let encoder =
            encoder.map(|path| HostModel::load(path, host.device())).transpose().or_usage()?;
        Ok(Self {
            encoder,
            background,
            images: Image::find(folder).or_usage()?,
            options: ImageSpliceOptions {
                processor: host.image_processor().or_usage()?.with_background(background),
                positions: positions.parse::<ImagePositions>().or_usage()?,
                mean: Statistics::cached(store).or_usage()?.mean,
                batch_size: BATCH_SIZE,
            },
        })
    }

    pub(super) fn measure(
        &self,
        sae: &Sae,
        host: &HostModel,
        hook: HookPoint,
    ) -> Result<ImageScores, Failure> {
        let mut progress = Progress::new("splice", "images", self.images.len() as u64);
        let mut report = |done, _| progress.at(done, String::new);
        splice_images(sae, host, hook, &self.images, &self.options, &mut report).map_err(blame)
    }

    /// The suite `vision`, beside what was measured of the images.
    pub(super) fn add_vision(
        &self,
        sae: &Sae,
        host: &HostModel,
        hook: HookPoint,
        evaluation: &mut Evaluation,
    ) -> Result<(), Failure> {
        let encoder = self.encoder()?;
        if encoder.is_none() {
            note!("note: suite vision: without --encoder no monosemanticity is measured");
        }
        let mut progress = Progress::new("vision", "images", self.images.len() as u64);
        let mut report = |done, _| progress.at(done, String::new);
        let (images, options) = (&self.images, &self.options);
        let found = vision_scores(sae, host, hook, images, options, encoder.as_ref(), &mut report);
        let found = found.map_err(blame)?;
        if let Some(spliced) = &evaluation.images {
            evaluation.scores.extend(image_scores(spliced, &found));
        }
        evaluation.vision = Some(found);
        Ok(())
    }
}

impl SplicedImages {
    fn encoder(&self) -> Result<Option<ImageEncoder<'_>>, Failure> {
        let Some(host) = &self.encoder else { return Ok(None) };
        let processor = host.image_processor().or_usage()?.with_background(self.background);
        Ok(Some(ImageEncoder { host, processor }))
    }

    /// The scores of worthless dictionaries in the suite `vision`.
    pub(super) fn floors(
        &self,
        others: &[&Sae],
        (host, hook): (&HostModel, HookPoint),
    ) -> Result<Vec<Scores>, Failure> {
        let encoder = self.encoder()?;
        let mut progress = Progress::new("worthless", "images", 2 * self.images.len() as u64);
        let (images, options) = (&self.images, &self.options);
        let mut report = |done, _| progress.at(done, String::new);
        let spliced = splice_images_of(others, host, hook, images, options, &mut report);
        let spliced = spliced.map_err(blame)?;
        let mut report = |done, total| progress.at(done + total, String::new);
        let encoder = encoder.as_ref();
        let found = vision_scores_of(others, host, hook, images, options, encoder, &mut report);
        let found = found.map_err(blame)?;
        Ok(spliced.iter().zip(&found).map(|(spliced, of)| image_scores(spliced, of)).collect())
    }

    /// What tells the images, and how they are read, from others.
    pub(super) fn identity(&self, hook: HookPoint) -> Result<String, Failure> {
        let mut hasher = blake3::Hasher::new();
        for image in &self.images {
            hasher.update(image.name.as_bytes());
            hasher.update(blake3::hash(&std::fs::read(&image.path).or_usage()?).as_bytes());
        }
        let ImageSpliceOptions { positions, mean, .. } = &self.options;
        let mean: Vec<u8> = mean.iter().flat_map(|value| value.to_le_bytes()).collect();
        hasher.update(&mean);
        let encoder = self.encoder.as_ref().map(|host| host_provenance(host, hook));
        let encoder = encoder.transpose().or_usage()?.map(|of| of.host_hash);
        Ok(format!("{} {positions:?} {:?} {encoder:?}", hasher.finalize(), self.background))
    }
}

/// An image that cannot be read is the user's mistake.
fn blame(error: Error) -> Failure {
    match error {
        Error::Host(_) => Failure::usage(error),
        other => Failure::run(other),
    }
}
