//! Images: which files there are, and how a vision host wants them.

use std::path::{Path, PathBuf};

use fast_image_resize::images::Image as Pixels;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{ImageReader, RgbImage};

use crate::config::HostConfig;
use crate::{Error, Result};

/// The file that says how a host wants its images.
pub(crate) const PROCESSOR_FILE: &str = "preprocessor_config.json";

/// Extensions of the files that are images.
const EXTENSIONS: [&str; 5] = ["bmp", "jpeg", "jpg", "png", "webp"];

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
    /// [`Error::Io`] for a folder that cannot be read; [`Error::File`] if there is no image.
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

    /// Its colours; transparency is left out, as Pillow's conversion to RGB does.
    fn decode(&self) -> Result<RgbImage> {
        let wrong = |error| Error::file(&self.path, "image", "one that can be decoded", error);
        let reader = ImageReader::open(&self.path).map_err(Error::io(&self.path))?;
        let reader = reader.with_guessed_format().map_err(Error::io(&self.path))?;
        Ok(reader.decode().map_err(|error| wrong(error.to_string()))?.into_rgb8())
    }
}

/// What is done to images before a host reads them: its `preprocessor_config.json`.
#[derive(Debug, Clone)]
pub struct ImageProcessor {
    resize: Option<(Size, ResizeAlg)>,
    /// Height and width.
    crop: Option<(u32, u32)>,
    /// From bytes to the values that mean and deviation are of.
    factor: f32,
    mean: [f32; 3],
    deviation: [f32; 3],
}

#[derive(Debug, Clone, Copy)]
enum Size {
    Exact { height: u32, width: u32 },
    ShortestEdge(u32),
}

impl ImageProcessor {
    /// Reads a `preprocessor_config.json`, as the transformers library writes it.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::File`] for a key that is absent or not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let config = HostConfig::read(path)?;
        let resize = if config.bool_or("do_resize", true)? {
            Some((size(&config)?, algorithm(&config)?))
        } else {
            None
        };
        let crop = if config.bool_or("do_center_crop", false)? {
            let [height, width] = config.pair("crop_size", "height", "width")?;
            Some((height, width))
        } else {
            None
        };
        let factor = if config.bool_or("do_rescale", true)? {
            config.float_or("rescale_factor", 1.0 / 255.0)? as f32
        } else {
            1.0
        };
        let (mean, deviation) = if config.bool_or("do_normalize", true)? {
            (config.colours("image_mean")?, config.colours("image_std")?)
        } else {
            ([0.0; 3], [1.0; 3])
        };
        Ok(Self { resize, crop, factor, mean, deviation })
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
        let mut rgb = image.decode()?;
        if let Some((size, algorithm)) = self.resize {
            rgb = resized(&rgb, size, algorithm).map_err(|error| {
                Error::file(&image.path, "image", "one that can be resized", error)
            })?;
        }
        let (width, height) = rgb.dimensions();
        let (crop_height, crop_width) = self.crop.unwrap_or((height, width));
        if crop_height > height || crop_width > width {
            let expected = format!("at least {crop_height} × {crop_width} pixels after resizing");
            return Err(Error::file(&image.path, "image", expected, format!("{height} × {width}")));
        }
        let (top, left) = ((height - crop_height) / 2, (width - crop_width) / 2);
        let mut pixels = Vec::with_capacity(3 * (crop_height * crop_width) as usize);
        for colour in 0..3 {
            let (mean, deviation) = (self.mean[colour], self.deviation[colour]);
            for y in top..top + crop_height {
                pixels.extend((left..left + crop_width).map(|x| {
                    (f32::from(rgb.get_pixel(x, y).0[colour]) * self.factor - mean) / deviation
                }));
            }
        }
        Ok((pixels, [crop_height as usize, crop_width as usize]))
    }
}

/// The size that images are resized to; a single number is that of both edges in the processors of
/// ViT and SigLIP, and that of the shortest in others.
fn size(config: &HostConfig) -> Result<Size> {
    if config.has("size", "shortest_edge") {
        return Ok(Size::ShortestEdge(config.part("size", "shortest_edge")?));
    }
    if config.has("size", "height") {
        let [height, width] = config.pair("size", "height", "width")?;
        return Ok(Size::Exact { height, width });
    }
    let edge = config.count("size")? as u32;
    let by =
        config.string("image_processor_type").or_else(|_| config.string("feature_extractor_type"));
    let square = by.is_ok_and(|name| name.starts_with("ViT") || name.starts_with("Siglip"));
    Ok(if square { Size::Exact { height: edge, width: edge } } else { Size::ShortestEdge(edge) })
}

/// The resampling filter, by Pillow's number.
fn algorithm(config: &HostConfig) -> Result<ResizeAlg> {
    Ok(match config.whole_or("resample", 2)? {
        0 => ResizeAlg::Nearest,
        1 => ResizeAlg::Convolution(FilterType::Lanczos3),
        2 => ResizeAlg::Convolution(FilterType::Bilinear),
        3 => ResizeAlg::Convolution(FilterType::CatmullRom),
        other => {
            let expected = "0 (nearest), 1 (Lanczos), 2 (bilinear) or 3 (bicubic)";
            return Err(config.wrong("resample", expected, other));
        }
    })
}

fn resized(rgb: &RgbImage, size: Size, algorithm: ResizeAlg) -> Result<RgbImage, String> {
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
    // Columns first, then rows, with bytes between them: as Pillow does.
    for (width, height) in [(new_width, height), (new_width, new_height)] {
        let mut target = Pixels::new(width, height, PixelType::U8x3);
        Resizer::new().resize(&pixels, &mut target, &options).map_err(|error| error.to_string())?;
        pixels = target;
    }
    RgbImage::from_raw(new_width, new_height, pixels.into_vec())
        .ok_or_else(|| format!("{new_height} × {new_width} pixels"))
}
