//! Small pictures of images as a host reads them.

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};

use super::{Image, ImageProcessor};
use crate::{Error, Result};

/// Of JPEG, from 1 to 100.
const QUALITY: u8 = 85;

impl ImageProcessor {
    /// An image as the host reads it, with edges of at most `longest` pixels, as a JPEG; and the
    /// height and width that the host reads.
    ///
    /// # Errors
    /// As [`ImageProcessor::pixels`].
    pub fn thumbnail(&self, image: &Image, longest: u32) -> Result<(Vec<u8>, [usize; 2])> {
        let mut colours = self.colours(image)?;
        let (width, height) = colours.dimensions();
        let edge = width.max(height);
        if edge > longest {
            let shrunk = |length: u32| (length * longest).div_ceil(edge).max(1);
            colours = resize(&colours, shrunk(width), shrunk(height), FilterType::Triangle);
        }
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, QUALITY)
            .encode_image(&colours)
            .map_err(|error| Error::file(&image.path, "image", "one that can be shown", error))?;
        Ok((bytes, [height as usize, width as usize]))
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    #[test]
    fn thumbnails_show_what_the_host_reads() {
        let folder = tempfile::tempdir().unwrap();
        let image = Image { name: "a.png".into(), path: folder.path().join("a.png") };
        // Red above, blue below, in the middle of a square of black.
        let colour = |_, y| if y < 20 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) };
        RgbImage::from_fn(20, 40, colour).save(&image.path).unwrap();
        let processor = ImageProcessor::fitting(80, [0.5; 3], [0.5; 3]);
        for (longest, edge) in [(40, 40), (200, 80)] {
            let (bytes, size) = processor.thumbnail(&image, longest).unwrap();
            assert_eq!(size, [80, 80]);
            let shown = image::load_from_memory(&bytes).unwrap().into_rgb8();
            assert_eq!(shown.dimensions(), (edge, edge));
            let at = |x: u32, y: u32| shown.get_pixel(x * edge / 8, y * edge / 8).0;
            let is_near = |got: [u8; 3], expected: [u8; 3]| {
                got.iter().zip(expected).all(|(got, expected)| got.abs_diff(expected) < 24)
            };
            assert!(is_near(at(0, 4), [0, 0, 0]) && is_near(at(7, 4), [0, 0, 0]));
            assert!(is_near(at(4, 1), [255, 0, 0]) && is_near(at(4, 6), [0, 0, 255]));
        }
        assert_eq!(
            processor.thumbnail(&image, 40).unwrap(),
            processor.thumbnail(&image, 40).unwrap()
        );
    }
}
