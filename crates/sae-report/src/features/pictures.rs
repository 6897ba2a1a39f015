//! Pictures whose patches rows are of, small enough to lie in a script.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sae_config::FeatureRecord;

use super::{FeaturePages, io};
use crate::Result;

/// Pictures in a file.
pub(super) const PER_FILE: usize = 8;

/// A picture as the host reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its name.
    pub name: String,
    /// A JPEG of it.
    pub jpeg: Vec<u8>,
}

/// The pictures of a feature, by the number of their document.
pub(super) fn pictures(record: &FeatureRecord) -> impl Iterator<Item = u32> {
    let quantiles = record.quantiles.iter().flat_map(|quantile| &quantile.contexts);
    let contexts = record.top.iter().chain(quantiles);
    let shown = contexts.filter(|context| !context.patches.is_empty());
    shown.filter_map(|context| Some(context.place?[0]))
}

impl FeaturePages {
    /// Pictures in a file of data.
    pub const PICTURES_PER_FILE: usize = PER_FILE;

    /// The pictures that the features are shown on, by number.
    #[must_use]
    pub fn pictures(&self) -> Vec<u32> {
        self.pictures.iter().copied().collect()
    }

    /// Whether the file of these pictures is there, of an unfinished page.
    #[must_use]
    pub fn has_pictures(&self, file: usize) -> bool {
        let name = format!("pictures/{file}");
        let path = self.partial().join(format!("{name}.js"));
        super::saved::read::<Vec<Option<(String, String)>>>(&path, &name).is_ok()
    }

    /// Adds the pictures of a file, each by its number.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn add_pictures(&self, file: usize, pictures: &[(u32, Picture)]) -> Result<()> {
        let folder = self.partial().join("pictures");
        std::fs::create_dir_all(&folder).map_err(io(&folder))?;
        let mut places: Vec<Option<(&str, String)>> = vec![None; PER_FILE];
        for (number, picture) in pictures {
            let address = format!("data:image/jpeg;base64,{}", STANDARD.encode(&picture.jpeg));
            places[*number as usize % PER_FILE] = Some((&picture.name, address));
        }
        self.write(&format!("pictures/{file}"), &places)
    }
}
