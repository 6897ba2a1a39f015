//! The pictures of a store of images, small, as the host reads them.

use std::path::Path;

use rayon::prelude::*;
use sae_config::PictureSet;
use sae_data::ActivationStore;
use sae_hosts::{Background, HostInput, HostModel, Image, ImageProcessor};
use sae_report::{FeaturePages, Picture};

use crate::failure::{Blame as _, Failure};
use crate::progress::Progress;

/// Pixels of the longest edge.
const LONGEST: u32 = 160;

/// The images that a store was harvested of.
pub(super) struct Pictures {
    images: Vec<Image>,
    processor: ImageProcessor,
    has_class_token: bool,
}

impl Pictures {
    /// Finds the images of a store in a folder; each must have the hash that the store knows.
    pub(super) fn open(
        folder: &Path,
        host: &HostModel,
        data: &str,
        store: &dyn ActivationStore,
    ) -> Result<Self, Failure> {
        let provenance = store.provenance().filter(|of| !of.image_names.is_empty());
        let provenance = provenance.ok_or_else(|| {
            Failure::usage(anyhow::anyhow!(
                "--images: expected a store that was harvested of images, got {data}"
            ))
        })?;
        let background = match provenance.settings.get("background") {
            Some(background) => background.parse::<Background>().or_usage()?,
            None => Background::Stored,
        };
        let named = provenance.image_names.iter().zip(&provenance.image_hashes);
        let found = named.map(|(name, expected)| {
            let image = Image { name: name.clone(), path: folder.join(name) };
            let got = image.hash().or_usage()?;
            if got == *expected {
                return Ok(image);
            }
            Err(Failure::usage(anyhow::anyhow!(
                "--images: {}: expected the image that was harvested, of hash {expected}, got one of {got}",
                image.path.display()
            )))
        });
        let images = found.collect::<Result<Vec<Image>, Failure>>()?;
        let processor = host.image_processor().or_usage()?.with_background(background);
        let has_class_token =
            matches!(host.info().input, HostInput::Images { class_token: true, .. });
        Ok(Self { images, processor, has_class_token })
    }

    /// How the patches of pictures of so many positions lie.
    pub(super) fn set(&self, n_positions: usize) -> Result<PictureSet, Failure> {
        let first_patch = usize::from(self.has_class_token);
        let per_file = FeaturePages::PICTURES_PER_FILE;
        let n_patches = n_positions.saturating_sub(first_patch);
        if n_patches == 0 {
            return Ok(PictureSet { rows: 1, columns: 1, first_patch, per_file });
        }
        let (_, [height, width]) = self.processor.thumbnail(&self.images[0], LONGEST).or_usage()?;
        let edge = (height * width / n_patches).isqrt().max(1);
        let (rows, columns) = (height / edge, width / edge);
        if rows * columns == n_patches {
            return Ok(PictureSet { rows, columns, first_patch, per_file });
        }
        let expected = format!("patches that fill {height} × {width} pixels");
        Err(Failure::usage(anyhow::anyhow!("--images: expected {expected}, got {n_patches}")))
    }

    /// Writes those that features are shown on, unless they are there.
    pub(super) fn write(&self, pages: &FeaturePages) -> Result<(), Failure> {
        let numbers = pages.pictures();
        let mut progress = Progress::new("pictures", "pictures", numbers.len() as u64);
        let mut done = 0;
        let file = |number: &u32| *number as usize / FeaturePages::PICTURES_PER_FILE;
        for numbers in numbers.chunk_by(|a, b| file(a) == file(b)) {
            let at = file(&numbers[0]);
            if !pages.has_pictures(at) {
                let pictures = numbers.par_iter().map(|number| {
                    let image = self.images.get(*number as usize).ok_or_else(|| {
                        let expected = format!("pictures below {}", self.images.len());
                        let error = anyhow::anyhow!("--data: expected {expected}, got {number}");
                        Failure::usage(error)
                    })?;
                    let (jpeg, _) = self.processor.thumbnail(image, LONGEST).or_usage()?;
                    Ok((*number, Picture { name: image.name.clone(), jpeg }))
                });
                let pictures = pictures.collect::<Result<Vec<_>, Failure>>()?;
                pages.add_pictures(at, &pictures).or_run()?;
            }
            done += numbers.len() as u64;
            progress.at(done, String::new);
        }
        Ok(())
    }
}
