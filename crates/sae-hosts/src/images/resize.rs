//! Resizing as Pillow does it: columns first, then rows, with bytes between them.

use fast_image_resize::images::Image as Pixels;
use fast_image_resize::{PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

/// To which size images are resized.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    Exact { height: u32, width: u32 },
    ShortestEdge(u32),
}

pub(super) fn resized(
    rgb: &RgbImage,
    size: Size,
    algorithm: ResizeAlg,
) -> Result<RgbImage, String> {
    let (width, height) = rgb.dimensions();
    let (new_height, new_width) = match size {
        Size::Exact { height, width } => (height, width),
        Size::ShortestEdge(edge) => {
            let long = |long: u32, short: u32| {
                u32::try_from(u64::from(edge) * u64::from(long) / u64::from(short.max(1)))
                    .map_err(|_| format!("{height} × {width} pixels"))
            };
            if width <= height {
                (long(height, width)?, edge)
            } else {
                (edge, long(width, height)?)
            }
        }
    };
    let options = ResizeOptions::new().resize_alg(algorithm);
    let mut pixels = Pixels::from_vec_u8(width, height, rgb.as_raw().clone(), PixelType::U8x3)
        .map_err(|error| error.to_string())?;
    for (width, height) in [(new_width, height), (new_width, new_height)] {
        let mut target = Pixels::new(width, height, PixelType::U8x3);
        Resizer::new().resize(&pixels, &mut target, &options).map_err(|error| error.to_string())?;
        pixels = target;
    }
    RgbImage::from_raw(new_width, new_height, pixels.into_vec())
        .ok_or_else(|| format!("{new_height} × {new_width} pixels"))
}
