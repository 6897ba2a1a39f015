//! From a file to its colours, as Pillow's `open`, `exif_transpose` and `convert("RGB")` give them:
//! gamma and colour profiles are left out. Beside them how opaque each pixel is.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageFormat, ImageReader, Luma, Rgb, RgbImage};

use super::{Background, orientation};
use crate::{Error, Result};

/// The colours of an image, and its alpha channel where some pixel is not opaque.
#[derive(Debug)]
pub(super) struct Decoded {
    colours: RgbImage,
    pub(super) alpha: Option<GrayImage>,
}

impl Decoded {
    /// Width and height.
    pub(super) fn dimensions(&self) -> (u32, u32) {
        self.colours.dimensions()
    }

    /// The colours as they are seen in front of a background.
    pub(super) fn onto(self, background: Background) -> RgbImage {
        let Self { mut colours, alpha } = self;
        if let (Some(alpha), Some(behind)) = (alpha, background.colour()) {
            for (pixel, Luma([opaque])) in colours.pixels_mut().zip(alpha.pixels()) {
                let opaque = u32::from(*opaque);
                pixel.0 = std::array::from_fn(|i| {
                    let sum =
                        opaque * u32::from(pixel.0[i]) + (255 - opaque) * u32::from(behind[i]);
                    ((sum + 127) / 255) as u8
                });
            }
        }
        colours
    }
}

/// Decodes an image file.
pub(super) fn read(path: &Path) -> Result<Decoded> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    decode(&bytes)
        .map_err(|error| Error::file(path, "image", "one that can be decoded as it is", error))
}

fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    let text = |error: image::ImageError| error.to_string();
    let reader = ImageReader::new(Cursor::new(bytes));
    let reader = reader.with_guessed_format().map_err(|error| error.to_string())?;
    let orientation = match reader.format() {
        Some(ImageFormat::Jpeg) => orientation::of_jpeg(bytes)?,
        Some(ImageFormat::Png) => orientation::of_png(bytes)?,
        Some(ImageFormat::WebP) => orientation::of_webp(bytes)?,
        _ => None,
    };
    let mut image = reader.decode().map_err(text)?;
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    let alpha = alpha(&image);
    let colours = match image {
        // Pillow reads these as they are and cuts them off at 255.
        DynamicImage::ImageLuma16(_) => {
            return Err("grey of 16 bits; convert it to 8 bits".to_owned());
        }
        // Pillow keeps the upper byte of these.
        DynamicImage::ImageRgb16(pixels) => upper_bytes(&pixels),
        DynamicImage::ImageRgba16(_) | DynamicImage::ImageLumaA16(_) => {
            upper_bytes(&image.into_rgb16())
        }
        other => other.into_rgb8(),
    };
    Ok(Decoded { colours, alpha })
}

/// The alpha channel, where some pixel is not opaque.
fn alpha(image: &DynamicImage) -> Option<GrayImage> {
    if !image.color().has_alpha() {
        return None;
    }
    // The upper byte of 16 bits, as for colours.
    let pixels = image.to_rgba16();
    let alpha = GrayImage::from_fn(pixels.width(), pixels.height(), |x, y| {
        Luma([(pixels.get_pixel(x, y).0[3] >> 8) as u8])
    });
    alpha.iter().any(|opaque| *opaque < 255).then_some(alpha)
}

fn upper_bytes(pixels: &image::ImageBuffer<Rgb<u16>, Vec<u16>>) -> RgbImage {
    RgbImage::from_fn(pixels.width(), pixels.height(), |x, y| {
        Rgb(pixels.get_pixel(x, y).0.map(|value| (value >> 8) as u8))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An image that has no symmetry.
    fn picture() -> RgbImage {
        RgbImage::from_fn(24, 16, |x, y| Rgb([(x * 10) as u8, (y * 15) as u8, (x * y) as u8]))
    }

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_is_an_error() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp] {
            let whole = encoded(format);
            assert!(decode(&whole).is_ok(), "{format:?}");
            for length in 0..whole.len() {
                assert!(decode(&whole[..length]).is_err(), "{format:?}: {length} bytes");
            }
        }
    }

    #[test]
    fn sixteen_bits_are_their_upper_byte_and_grey_ones_refused() {
        let image = image::ImageBuffer::<Rgb<u16>, _>::from_fn(4, 4, |x, y| {
            Rgb([(x * 20_000) as u16, 255 + y as u16, 65_535])
        });
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        let got = decode(bytes.get_ref()).unwrap().colours;
        assert_eq!(got.get_pixel(3, 2).0, [(60_000_u32 >> 8) as u8, 1, 255]);
        assert_eq!(got.get_pixel(1, 0).0, [(20_000_u32 >> 8) as u8, 0, 255]);
        let grey = image::ImageBuffer::<Luma<u16>, _>::from_pixel(4, 4, Luma([300]));
        let mut bytes = Cursor::new(Vec::new());
        grey.write_to(&mut bytes, ImageFormat::Png).unwrap();
        assert!(decode(bytes.get_ref()).unwrap_err().contains("16 bits"));
    }

    proptest! {
        /// In f64: a·colour + (1 − a)·background, to the nearest byte.
        #[test]
        fn transparent_pixels_show_what_lies_behind_them(pixel in any::<[u8; 4]>()) {
            let [colour @ .., opaque] = pixel;
            let image = image::RgbaImage::from_pixel(3, 2, image::Rgba(pixel));
            let mut bytes = Cursor::new(Vec::new());
            image.write_to(&mut bytes, ImageFormat::Png).unwrap();
            for background in Background::ALL {
                let decoded = decode(bytes.get_ref()).unwrap();
                prop_assert_eq!(decoded.alpha.is_some(), opaque < 255);
                let share = f64::from(opaque) / 255.0;
                for (i, got) in decoded.onto(background).get_pixel(2, 1).0.into_iter().enumerate() {
                    let expected = background.colour().map_or(f64::from(colour[i]), |behind| {
                        share * f64::from(colour[i]) + (1.0 - share) * f64::from(behind[i])
                    });
                    prop_assert!((f64::from(got) - expected).abs() <= 0.5 + 1e-9);
                }
            }
        }
    }
}
