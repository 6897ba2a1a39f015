//! A vision host's embeddings of images with reconstructions spliced in.

use std::path::Path;

use sae_config::ImageScores;
use sae_data::{ActivationStore, Statistics};
use sae_eval::{Error, ImageSpliceOptions, splice_images};
use sae_hosts::{Background, HookPoint, HostModel, Image, ImagePositions};
use sae_models::Sae;

use crate::cli::EvalArgs;
use crate::failure::{Blame as _, Failure};
use crate::progress::Progress;

/// Images computed at once.
const BATCH_SIZE: usize = 8;

/// Images, and how the host reads them: as the store was harvested.
pub(super) struct SplicedImages {
    images: Vec<Image>,
    options: ImageSpliceOptions,
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
        Ok(Self {
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
        let scores = splice_images(sae, host, hook, &self.images, &self.options, &mut report);
        scores.map_err(|error| match error {
            // An image that cannot be read.
            Error::Host(_) => Failure::usage(error),
            other => Failure::run(other),
        })
    }
}
