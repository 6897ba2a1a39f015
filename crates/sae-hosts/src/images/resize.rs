//! Resizing as Pillow does it: columns first, then rows, with bytes between them.

use fast_image_resize::images::Image as Pixels;
use fast_image_resize::{PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

/// To which size images are resized.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    Exact {
        height: u32,
        width: u32,
    },
    ShortestEdge(u32),
    /// The other one is rounded, and at least 1.
    LongestEdge(u32),
}

pub(super) fn resized(
    rgb: &RgbImage,
    size: Size,
    algorithm: ResizeAlg,
) -> Result<RgbImage, String> {
    let (width, height) = rgb.dimensions();
    let (new_height, new_width) = match size {
        Size::Exact { height, width } => (height, width),
        Size::LongestEdge(edge) => {
            let longest = u64::from(width.max(height).max(1));
            let of = |side: u32| {
                let rounded = (u64::from(edge) * u64::from(side) + longest / 2) / longest;
                // No more than the longest edge.
                rounded.max(1) as u32
            };
            (of(height), of(width))
        }
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
    if matches!(algorithm, ResizeAlg::Nearest) {
        let (columns, rows) = (nearest(width, new_width), nearest(height, new_height));
        return Ok(RgbImage::from_fn(new_width, new_height, |x, y| {
            *rgb.get_pixel(columns[x as usize], rows[y as usize])
        }));
    }
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

/// Which of `old` pixels each of `new` takes. The place is added up in f64, as Pillow does, which
/// decides where it lies between two.
fn nearest(old: u32, new: u32) -> Vec<u32> {
    let step = f64::from(old) / f64::from(new);
    let mut place = 0.5 * step;
    let mut next = || {
        let pixel = (place as u32).min(old - 1);
        place += step;
        pixel
    };
    (0..new).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    // `numpy.asarray(Image.fromarray(numpy.arange(old, dtype="u1")[None]).resize((new, 1), 0))`,
    // Pillow 13; 32 to 40 has ties.
    const PILLOW_4_6: [u32; 6] = [0, 1, 1, 2, 2, 3];
    const PILLOW_32_40: [u32; 40] = [
        0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 10, 11, 12, 13, 14, 14, 15, 16, 17, 18, 18, 19, 20,
        21, 22, 22, 23, 24, 25, 26, 26, 27, 28, 29, 30, 30, 31,
    ];
    const PILLOW_48_24: [u32; 24] =
        [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43, 45, 47];
    const PILLOW_7_3: [u32; 3] = [1, 3, 5];

    #[test]
    fn nearest_pixels_are_those_of_pillow() {
        assert_eq!(nearest(4, 6), PILLOW_4_6);
        assert_eq!(nearest(32, 40), PILLOW_32_40);
        assert_eq!(nearest(48, 24), PILLOW_48_24);
        assert_eq!(nearest(7, 3), PILLOW_7_3);
    }
}
