//! A vision model over images.

use std::ops::{ControlFlow, Range};
use std::path::Path;

use sae_config::ImagePositions;
use sae_data::{Compression, Dtype, Provenance, RowMeta, StoreSpec, StoreWriter};
use tch::Tensor;

use super::{HarvestProgress, append, file_hash, of_host, values};
use crate::corpus::Skipped;
use crate::images::{Background, Image, ImageProcessor};
use crate::{Error, HookPoint, HostInput, HostModel, Result};

/// What is harvested of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageOptions {
    /// Which positions are stored (the patches).
    pub positions: ImagePositions,
    /// What is seen through transparent pixels (the colours stored in them).
    pub background: Background,
    /// Names of images that were left out, for the provenance (none).
    pub skipped: Vec<String>,
    /// Images computed at once (16).
    pub batch_size: usize,
    /// Element type of the store (f32).
    pub dtype: Dtype,
    /// How the store is compressed (not at all).
    pub compression: Option<Compression>,
    /// Rows of a shard; what the store takes by default (about 256 MiB) if `None`.
    pub rows_per_shard: Option<u64>,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            positions: ImagePositions::default(),
            background: Background::default(),
            skipped: Vec::new(),
            batch_size: 16,
            dtype: Dtype::F32,
            compression: None,
            rows_per_shard: None,
        }
    }
}

/// Harvests the activations of a vision host on images into a new store in `out`.
///
/// Images are prepared as the host's `preprocessor_config.json` says. Each is a document, in the
/// order given; its rows have its number and their position (0 is the class token, if the host has
/// one). The provenance keeps the images' names and hashes. An interrupted harvest goes on as that
/// of texts does ([`harvest()`](crate::harvest())).
///
/// # Errors
/// As [`harvest()`](crate::harvest()); [`Error::Io`] or [`Error::File`] for an image or a
/// `preprocessor_config.json` that cannot be read, or gives images of another size than the host's.
pub fn harvest_images(
    host: &HostModel,
    images: &[Image],
    hook: HookPoint,
    options: &ImageOptions,
    out: &Path,
    progress: &mut dyn FnMut(&HarvestProgress) -> ControlFlow<()>,
) -> Result<HarvestProgress> {
    let HostInput::Images { class_token, .. } = host.info().input else {
        return Err(Error::input("host", "a vision model", &host.info().family));
    };
    if options.batch_size == 0 {
        return Err(Error::input("batch_size", "at least 1", 0));
    }
    if options.positions == ImagePositions::Class && !class_token {
        return Err(Error::input("positions", "a host with a class token", &host.info().family));
    }
    hook.check(host.info())?;
    let processor = host.image_processor()?.with_background(options.background);
    let d_model = host.info().d_model;
    let mut spec = StoreSpec::new(d_model, options.dtype);
    spec.compression = options.compression;
    spec.rows_per_shard = options.rows_per_shard.unwrap_or(spec.rows_per_shard);
    spec.provenance = image_provenance(host, images, hook, options)?;
    let mut writer = StoreWriter::resume(out, spec)?;

    let (mut present, mut n_seen) = (writer.n_rows(), 0_u64);
    // How many rows an image has is known once one was computed; until then batches are computed
    // whose rows may all be there.
    let (mut n_stored, mut size) = (None, None);
    for batch in images.chunks(options.batch_size) {
        n_seen += batch.len() as u64;
        if let Some(n_rows) = n_stored.map(|n: usize| (n * batch.len()) as u64)
            && present >= n_rows
        {
            present -= n_rows;
            continue;
        }
        let rows = image_rows(host, &processor, batch, hook, &mut size)?;
        let n_positions = rows.len() / (batch.len() * d_model);
        let stored = options.positions.range(n_positions, class_token);
        n_stored = Some(stored.len());
        let first = n_seen as usize - batch.len();
        for (document, rows) in (first..).zip(rows.chunks_exact(n_positions * d_model)) {
            let rows = &rows[stored.start * d_model..stored.end * d_model];
            append(&mut writer, &mut present, rows, &image_meta(document, stored.clone()))?;
        }
        let fraction = n_seen as f64 / images.len() as f64;
        let (n_rows, n_total) = (writer.n_rows(), Some(images.len() as u64));
        let skipped = Skipped::default();
        if progress(&HarvestProgress { n_seen, n_rows, n_total, fraction, skipped }).is_break() {
            return Err(Error::Interrupted { path: out.to_path_buf() });
        }
    }
    let n_rows = writer.n_rows();
    writer.finish()?;
    let (n_total, skipped) = (Some(n_seen), Skipped::default());
    Ok(HarvestProgress { n_seen, n_rows, n_total, fraction: 1.0, skipped })
}

/// What the rows of an image are of.
fn image_meta(document: usize, positions: Range<usize>) -> Vec<RowMeta> {
    let of_position =
        |position| RowMeta { token_id: 0, document: document as u32, position: position as u32 };
    positions.map(of_position).collect()
}

/// The size of an image, if the host reads it and it is that of the images before it.
fn check_size(
    host: &HostModel,
    image: &Image,
    got: [usize; 2],
    before: &mut Option<[usize; 2]>,
) -> Result<[usize; 2]> {
    let (own, part) = match host.info().input {
        HostInput::Images { size, multiple_of, .. } => (size, multiple_of),
        HostInput::Tokens { .. } => (0, None),
    };
    let text = |[height, width]: [usize; 2]| format!("{height} × {width}");
    let expected = match (part, *before) {
        (_, Some(before)) if before != got => format!("{} as before", text(before)),
        (Some(part), _) if got.iter().any(|edge| edge % part != 0) => {
            format!("multiples of {part}")
        }
        (None, _) if got != [own; 2] => text([own; 2]),
        _ => return Ok(*before.insert(got)),
    };
    let path = host.processor_file().unwrap_or_else(|| host.path().to_owned());
    Err(Error::file(&path, format!("size of {}", image.name), expected, text(got)))
}

/// The activations of a batch of images, `[images, positions, d_model]`.
fn image_rows(
    host: &HostModel,
    processor: &ImageProcessor,
    batch: &[Image],
    hook: HookPoint,
    size: &mut Option<[usize; 2]>,
) -> Result<Vec<f32>> {
    let mut pixels = Vec::new();
    let mut shape = [batch.len() as i64, 3, 0, 0];
    for image in batch {
        let (of_image, got) = processor.pixels(image)?;
        let [height, width] = check_size(host, image, got, size)?;
        (shape[2], shape[3]) = (height as i64, width as i64);
        pixels.extend(of_image);
    }
    let pixels = Tensor::from_slice(&pixels).view(shape);
    let pixels = pixels.to_device(host.device()).to_kind(host.kind());
    Ok(values(&host.activations(&pixels, hook)?))
}

fn image_provenance(
    host: &HostModel,
    images: &[Image],
    hook: HookPoint,
    options: &ImageOptions,
) -> Result<Provenance> {
    let preprocessor = match host.processor_file() {
        Some(file) => file_hash(&[file])?,
        None => "of the host".to_owned(),
    };
    let mut settings = vec![
        ("positions", options.positions.name().to_owned()),
        ("batch_size", options.batch_size.to_string()),
        ("host_kind", format!("{:?}", host.kind())),
        ("preprocessor_hash", preprocessor),
    ];
    if !options.skipped.is_empty() {
        settings.push(("skipped_images", options.skipped.join(", ")));
    }
    // Stores of earlier versions do not say it.
    if options.background != Background::Stored {
        settings.push(("background", options.background.name().to_owned()));
    }
    let hashes = images.iter().map(Image::hash);
    Ok(Provenance {
        image_hashes: hashes.collect::<Result<_>>()?,
        image_names: images.iter().map(|image| image.name.clone()).collect(),
        settings: settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        ..of_host(host, hook)?
    })
}
