//! Images: which files there are, and how a vision host wants them.

mod decode;
mod orientation;
mod processor;
mod resize;
mod thumbnail;

use std::path::{Path, PathBuf};

pub use processor::ImageProcessor;
pub(crate) use processor::PROCESSOR_FILE;
pub use sae_config::ImageBackground as Background;

use crate::{Error, Result};

/// Extensions of the files that are images.
const EXTENSIONS: [&str; 9] = ["apng", "bmp", "dib", "jfif", "jpe", "jpeg", "jpg", "png", "webp"];

/// Extensions of images that cannot be read: they are refused, not left out.
const UNREADABLE: [&str; 21] = [
    "avif", "gif", "heic", "heif", "ico", "jp2", "jxl", "pbm", "pgm", "ppm", "psd", "svg", "tga",
    "tif", "tiff", "pjpeg", "pjp", "dng", "cr2", "hdr", "exr",
];

/// An image file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its path within the folder that was searched, with `/` between folders.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

impl Image {
    /// All images (PNG, JPEG, WebP, BMP) in a folder and the folders in it, by name.
    ///
    /// # Errors
    /// [`Error::Io`] for a folder that cannot be read; [`Error::File`] if there is no image, or one
    /// of another format.
    pub fn find(folder: &Path) -> Result<Vec<Self>> {
        let mut images = Vec::new();
        let mut folders = vec![(folder.to_path_buf(), String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(Error::io(&folder))? {
                let path = entry.map_err(Error::io(&folder))?.path();
                let own = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if own.starts_with('.') {
                    continue;
                }
                let name = format!("{prefix}{own}");
                let extension =
                    path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
                if path.is_dir() {
                    folders.push((path, format!("{name}/")));
                } else if EXTENSIONS.contains(&extension.as_str()) {
                    images.push(Self { name, path });
                } else if UNREADABLE.contains(&extension.as_str()) {
                    return Err(Error::file(&path, "image", "PNG, JPEG, WebP or BMP", extension));
                }
            }
        }
        if images.is_empty() {
            let expected = format!("files that end in {}", EXTENSIONS.join(", "));
            return Err(Error::file(folder, "folder", expected, "none"));
        }
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// The BLAKE3 hash of its file, as stores of images keep it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn hash(&self) -> Result<String> {
        crate::harvest::file_hash(std::slice::from_ref(&self.path))
    }
}
