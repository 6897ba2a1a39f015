//! An image as pixels, and what is in its patches.

use std::ops::Range;

use sae_config::ImagePart;
use sae_hosts::{Image, ImageProcessor};

use super::parts::Position;
use crate::{Error, Result};

/// An image as the host reads it.
#[derive(Debug)]
pub(super) struct Picture {
    /// `[3, height, width]`.
    pub(super) pixels: Vec<f32>,
    /// Height and width.
    pub(super) size: [usize; 2],
    /// `[height, width]`, where some pixel is transparent.
    opacity: Option<Vec<f32>>,
}

impl Picture {
    pub(super) fn read(processor: &ImageProcessor, image: &Image) -> Result<Self> {
        let (pixels, size) = processor.pixels(image)?;
        Ok(Self { pixels, size, opacity: processor.opacity(image)? })
    }

    /// What is in some of an image's positions, of which the first `first_patch` are no patches.
    pub(super) fn positions(
        &self,
        stored: Range<usize>,
        n_positions: usize,
        first_patch: usize,
    ) -> Result<Vec<Position>> {
        let [height, width] = self.size;
        let n_patches = n_positions - first_patch;
        let edge = (height * width / n_patches.max(1)).isqrt().max(1);
        let (rows, columns) = (height / edge, width / edge);
        if rows * columns != n_patches {
            return Err(Error::Setting {
                name: "patches of the host",
                expected: format!("squares that fill {height} × {width} pixels"),
                got: n_patches.to_string(),
            });
        }
        let position = |position: usize| match position.checked_sub(first_patch) {
            None => Position { part: ImagePart::ClassToken, contrast: None },
            Some(patch) => self.patch(patch / columns * edge, patch % columns * edge, edge),
        };
        Ok(stored.map(position).collect())
    }

    /// What is in the patch whose first pixel is this.
    fn patch(&self, top: usize, left: usize, edge: usize) -> Position {
        let [height, width] = self.size;
        let places =
            || (top..top + edge).flat_map(move |y| (left..left + edge).map(move |x| y * width + x));
        let n = (edge * edge) as f64;
        let colours = self.pixels.chunks_exact(height * width);
        let n_colours = colours.len() as f64;
        let deviation = |colour: &[f32]| {
            let values = || places().map(|at| f64::from(colour[at]));
            let mean = values().sum::<f64>() / n;
            (values().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt()
        };
        let contrast = colours.map(deviation).sum::<f64>() / n_colours;
        let share = self
            .opacity
            .as_ref()
            .map(|opacity| places().map(|at| f64::from(opacity[at])).sum::<f64>() / n);
        let part = match share {
            None => ImagePart::Patch,
            Some(share) if share >= 0.95 => ImagePart::Object,
            Some(share) if share <= 0.05 => ImagePart::Background,
            Some(_) => ImagePart::Edge,
        };
        Position { part, contrast: Some(contrast) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_told_by_how_opaque_they_are() {
        // Patches of 2 × 2: opaque, clear, half, and one pixel of four.
        let opacity =
            vec![1.0, 1.0, 0.0, 0.0, 0.9, 1.0, 0.1, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        let colour: Vec<f32> = (0..16).map(|i| if i < 8 { 0.5 } else { (i % 2) as f32 }).collect();
        let pixels = [colour.clone(), vec![3.0; 16], colour].concat();
        let picture = Picture { pixels, size: [4, 4], opacity: Some(opacity) };
        let all = picture.positions(0..5, 5, 1).unwrap();
        let parts: Vec<ImagePart> = all.iter().map(|position| position.part).collect();
        assert_eq!(
            parts,
            [
                ImagePart::ClassToken,
                ImagePart::Object,
                ImagePart::Background,
                ImagePart::Edge,
                ImagePart::Edge
            ]
        );
        let contrasts: Vec<Option<f64>> = all.iter().map(|position| position.contrast).collect();
        let third = Some((0.5 + 0.0 + 0.5) / 3.0);
        assert_eq!(contrasts, [None, Some(0.0), Some(0.0), third, third]);
        assert_eq!(picture.positions(2..4, 5, 1).unwrap(), all[2..4]);
        let opaque = Picture { opacity: None, ..picture };
        assert_eq!(opaque.positions(0..4, 4, 0).unwrap()[3].part, ImagePart::Patch);
        assert!(opaque.positions(0..3, 3, 0).is_err());
    }
}
