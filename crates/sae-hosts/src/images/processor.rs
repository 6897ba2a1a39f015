//! How a vision host wants its images: its `preprocessor_config.json`.

mod settings;

use std::path::Path;

use fast_image_resize::{FilterType, ResizeAlg};
use image::{Rgb, RgbImage};

use self::settings::{Kind, algorithm, exact, size};
use super::resize::{Size, resized};
use super::{Background, Image, decode};
use crate::config::HostConfig;
use crate::{Error, Result};

/// The file that says how a host wants its images.
pub(crate) const PROCESSOR_FILE: &str = "preprocessor_config.json";

/// Keys that cannot change the pixels: who saved the file, that images become RGB (all do), how the
/// same numbers are computed.
const IGNORED: [&str; 11] = [
    "_processor_class",
    "_valid_processor_keys",
    "data_format",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "input_data_format",
    "processor_class",
    "return_tensors",
    "tokenizer_class",
    "transformers_version",
];

/// What is done to images before a host reads them: its `preprocessor_config.json`.
#[derive(Debug, Clone)]
pub struct ImageProcessor {
    resize: Option<(Size, ResizeAlg)>,
    /// Whether what is resized is put into the middle of a square of its longest edge.
    pads: bool,
    /// Height and width.
    crop: Option<(u32, u32)>,
    /// From bytes to the values that mean and deviation are of.
    factor: f32,
    mean: [f32; 3],
    deviation: [f32; 3],
    background: Background,
}

impl ImageProcessor {
    /// Reads a `preprocessor_config.json`, as the transformers library writes it. Where it does not
    /// name its processor, `config.json` beside it names the model, as transformers has it.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::File`] for a key that is not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let config = HostConfig::read(path)?;
        // transformers 5 takes the settings of another file, if it has them.
        let other = path.with_file_name("processor_config.json");
        if other.exists()
            && let Some(nested) = HostConfig::read(&other)?.section("image_processor")?
            && !nested.same_values(&config)
        {
            let expected = format!("the settings of {}", path.display());
            return Err(Error::file(&other, "`image_processor`", expected, "others"));
        }
        let kind = Kind::read(&config, path)?;
        let config = config.with_defaults(kind.defaults());
        for key in ["do_pad", "do_flip_channel_order", "rescale_offset", "use_square_size"] {
            config.only(key, false)?;
        }
        let resize = size(&config, kind)?;
        let algorithm = algorithm(&config)?;
        let crop = exact(&config, "crop_size")?;
        let factor = config.float("rescale_factor")? as f32;
        let (mean, deviation) = (config.colours("image_mean")?, config.colours("image_std")?);
        let (neutral_mean, neutral_deviation) = ([0.0; 3], [1.0; 3]);
        let resizes = config.bool_or("do_resize", true)?;
        let crops = config.bool_or("do_center_crop", false)?;
        let normalizes = config.bool_or("do_normalize", true)?;
        let rescales = config.bool_or("do_rescale", true)?;
        for key in Kind::KEYS {
            config.has(key);
        }
        config.finish(&IGNORED)?;
        Ok(Self {
            resize: resizes.then_some((resize, algorithm)),
            pads: false,
            crop: if crops { Some(crop) } else { None },
            factor: if rescales { factor } else { 1.0 },
            mean: if normalizes { mean } else { neutral_mean },
            deviation: if normalizes { deviation } else { neutral_deviation },
            background: Background::Stored,
        })
    }

    /// Fits images into a square, the rest of which is background (black, where images are seen as
    /// they are stored), and scales their colours from 0 to 1 by mean and deviation.
    pub(crate) fn fitting(edge: u32, mean: [f32; 3], deviation: [f32; 3]) -> Self {
        Self {
            resize: Some((Size::LongestEdge(edge), ResizeAlg::Convolution(FilterType::Bilinear))),
            pads: true,
            crop: None,
            factor: 1.0 / 255.0,
            mean,
            deviation,
            background: Background::Stored,
        }
    }

    /// The same for images that are seen in front of a background.
    #[must_use]
    pub fn with_background(self, background: Background) -> Self {
        Self { background, ..self }
    }

    /// The pixels of an image as the host reads them.
    ///
    /// # Shapes
    /// `[3, height, width]`, row-major, and height and width.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] for an image that cannot be read or is smaller than what is
    /// cut out of it, by name.
    pub fn pixels(&self, image: &Image) -> Result<(Vec<f32>, [usize; 2])> {
        let rgb = self.colours(image)?;
        let (width, height) = rgb.dimensions();
        let mut pixels = Vec::with_capacity(3 * (width * height) as usize);
        for colour in 0..3 {
            let (mean, deviation) = (self.mean[colour], self.deviation[colour]);
            let value =
                |Rgb(pixel): &Rgb<u8>| (f32::from(pixel[colour]) * self.factor - mean) / deviation;
            pixels.extend(rgb.pixels().map(value));
        }
        Ok((pixels, [height as usize, width as usize]))
    }

    /// The colours of an image as the host sees them.
    pub(super) fn colours(&self, image: &Image) -> Result<RgbImage> {
        let behind = Rgb(self.background.colour().unwrap_or_default());
        let rgb = decode::read(&image.path)?.onto(self.background);
        self.fitted(image, rgb, behind)
    }

    /// How opaque each pixel of an image is, from 0 to 1, resized and cut out as
    /// [`ImageProcessor::pixels`] are; none where all are. What an image is fitted into is not.
    ///
    /// # Shapes
    /// `[height, width]`, row-major.
    ///
    /// # Errors
    /// As [`ImageProcessor::pixels`].
    pub fn opacity(&self, image: &Image) -> Result<Option<Vec<f32>>> {
        let decoded = decode::read(&image.path)?;
        let (width, height) = decoded.dimensions();
        let grey = match &decoded.alpha {
            Some(alpha) => {
                RgbImage::from_fn(width, height, |x, y| Rgb([alpha.get_pixel(x, y).0[0]; 3]))
            }
            None => RgbImage::from_pixel(width, height, Rgb([255; 3])),
        };
        let fitted = self.fitted(image, grey, Rgb([0; 3]))?;
        let is_opaque = fitted.iter().all(|value| *value == 255);
        let opacity = fitted.pixels().map(|pixel| f32::from(pixel.0[0]) / 255.0);
        Ok((!is_opaque).then(|| opacity.collect()))
    }

    /// Resizes, pads and cuts out.
    fn fitted(&self, image: &Image, mut rgb: RgbImage, behind: Rgb<u8>) -> Result<RgbImage> {
        if let Some((size, algorithm)) = self.resize {
            rgb = resized(&rgb, size, algorithm).map_err(|error| {
                Error::file(&image.path, "image", "one that can be resized", error)
            })?;
        }
        if self.pads {
            let (width, height) = rgb.dimensions();
            let edge = width.max(height);
            let mut square = RgbImage::from_pixel(edge, edge, behind);
            let (left, top) = ((edge - width) / 2, (edge - height) / 2);
            image::imageops::replace(&mut square, &rgb, left.into(), top.into());
            rgb = square;
        }
        let (width, height) = rgb.dimensions();
        let (crop_height, crop_width) = self.crop.unwrap_or((height, width));
        if crop_height > height || crop_width > width {
            let expected = format!("at least {crop_height} × {crop_width} pixels after resizing");
            return Err(Error::file(&image.path, "image", expected, format!("{height} × {width}")));
        }
        let (top, left) = ((height - crop_height) / 2, (width - crop_width) / 2);
        Ok(image::imageops::crop_imm(&rgb, left, top, crop_width, crop_height).to_image())
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage};

    use super::*;

    /// 20 × 10 pixels of red whose right half is clear, in a square of 8.
    #[test]
    fn images_are_fitted_into_the_middle_of_a_square() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| Image { name: name.into(), path: folder.path().join(name) };
        let (clear, opaque) = (place("clear.png"), place("square.png"));
        let red = |x, _| Rgba([255, 0, 0, if x < 10 { 255 } else { 0 }]);
        RgbaImage::from_fn(20, 10, red).save(&clear.path).unwrap();
        RgbaImage::from_pixel(10, 10, Rgba([255, 0, 0, 255])).save(&opaque.path).unwrap();
        let processor = ImageProcessor::fitting(8, [0.5; 3], [0.5; 3]);
        for (background, behind) in [(Background::White, 1.0), (Background::Black, -1.0)] {
            let processor = processor.clone().with_background(background);
            let (pixels, size) = processor.pixels(&clear).unwrap();
            assert_eq!((size, pixels.len()), ([8, 8], 3 * 64));
            let at = |colour: usize, y: usize, x: usize| pixels[64 * colour + 8 * y + x];
            for colour in 0..3 {
                // Above and below, and where the image is clear.
                for (y, x) in [(0, 0), (1, 5), (6, 2), (7, 7), (3, 6), (5, 7)] {
                    assert_eq!(at(colour, y, x), behind, "{background} {colour} {y} {x}");
                }
                let red = if colour == 0 { 1.0 } else { -1.0 };
                assert_eq!((at(colour, 2, 0), at(colour, 5, 1)), (red, red));
            }
        }
        let opacity = processor.opacity(&clear).unwrap().unwrap();
        assert_eq!(
            (opacity[0], opacity[8 * 2], opacity[8 * 5 + 1], opacity[8 * 4 + 7]),
            (0.0, 1.0, 1.0, 0.0)
        );
        assert_eq!(processor.opacity(&opaque).unwrap(), None);
        assert_eq!(processor.pixels(&opaque).unwrap().1, [8, 8]);
    }
}
