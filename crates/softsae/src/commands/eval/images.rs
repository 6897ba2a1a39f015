//! A vision host's embeddings of images with reconstructions spliced in.

use std::path::Path;

use sae_config::{Evaluation, ImageScores};
use sae_data::{ActivationStore, Statistics};
use sae_eval::{
    Error, ImageEncoder, ImageSpliceOptions, image_scores, splice_images, vision_scores,
};
use sae_hosts::{Background, HookPoint, HostModel, Image, ImagePositions};
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
        let processor = |of: &HostModel| {
            Ok::<_, Failure>(of.image_processor().or_usage()?.with_background(self.background))
        };
        let encoder = match &self.encoder {
            Some(host) => Some(ImageEncoder { host, processor: processor(host)? }),
            None => {
                note!("note: suite vision: without --encoder no monosemanticity is measured");
                None
            }
        };
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

/// An image that cannot be read is the user's mistake.
fn blame(error: Error) -> Failure {
    match error {
        Error::Host(_) => Failure::usage(error),
        other => Failure::run(other),
    }
}
