//! From a file to its colours, as Pillow's `open`, `exif_transpose` and `convert("RGB")` give them:
//! transparency, gamma and colour profiles are left out.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat, ImageReader, RgbImage};

use super::orientation;
use crate::{Error, Result};

/// The colours of an image file.
pub(super) fn read(path: &Path) -> Result<RgbImage> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    decode(&bytes)
        .map_err(|error| Error::file(path, "image", "one that can be decoded as it is", error))
}

fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
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
    match image {
        // Pillow reads these as they are and cuts them off at 255.
        DynamicImage::ImageLuma16(_) => Err("grey of 16 bits; convert it to 8 bits".to_owned()),
        // Pillow keeps the upper byte of these.
        DynamicImage::ImageRgb16(pixels) => Ok(upper_bytes(&pixels)),
        DynamicImage::ImageRgba16(_) | DynamicImage::ImageLumaA16(_) => {
            Ok(upper_bytes(&image.into_rgb16()))
        }
        other => Ok(other.into_rgb8()),
    }
}

fn upper_bytes(pixels: &image::ImageBuffer<image::Rgb<u16>, Vec<u16>>) -> RgbImage {
    RgbImage::from_fn(pixels.width(), pixels.height(), |x, y| {
        image::Rgb(pixels.get_pixel(x, y).0.map(|value| (value >> 8) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image that has no symmetry.
    fn picture() -> RgbImage {
        RgbImage::from_fn(24, 16, |x, y| {
            image::Rgb([(x * 10) as u8, (y * 15) as u8, (x * y) as u8])
        })
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
            // A PNG has all its pixels before the last chunk of 12 bytes, and so does Pillow read it.
            let last = if format == ImageFormat::Png { whole.len() - 12 } else { whole.len() };
            for length in 0..last {
                assert!(decode(&whole[..length]).is_err(), "{format:?}: {length} bytes");
            }
        }
    }

    #[test]
    fn sixteen_bits_are_their_upper_byte_and_grey_ones_refused() {
        let image = image::ImageBuffer::<image::Rgb<u16>, _>::from_fn(4, 4, |x, y| {
            image::Rgb([(x * 20_000) as u16, 255 + y as u16, 65_535])
        });
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        let got = decode(bytes.get_ref()).unwrap();
        assert_eq!(got.get_pixel(3, 2).0, [(60_000_u32 >> 8) as u8, 1, 255]);
        assert_eq!(got.get_pixel(1, 0).0, [(20_000_u32 >> 8) as u8, 0, 255]);
        let grey = image::ImageBuffer::<image::Luma<u16>, _>::from_pixel(4, 4, image::Luma([300]));
        let mut bytes = Cursor::new(Vec::new());
        grey.write_to(&mut bytes, ImageFormat::Png).unwrap();
        assert!(decode(bytes.get_ref()).unwrap_err().contains("16 bits"));
    }
}
