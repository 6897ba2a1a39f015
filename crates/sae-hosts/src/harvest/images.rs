//! A vision model over images.

use std::ops::{ControlFlow, Range};
use std::path::Path;

use sae_config::ImagePositions;
use sae_data::{Compression, Dtype, Provenance, RowMeta, StoreSpec};
use tch::Tensor;

use super::stores::Stores;
use super::{HarvestProgress, file_hash, of_host, values};
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
    harvest_images_at(host, images, &[(hook, out)], options, progress)
}

/// Harvests several hook points in one pass, each into a store of its own: the stores have the same
/// rows in the same order.
///
/// An interrupted harvest goes on where all stores have what comes before, also where some of them
/// are finished.
///
/// # Errors
/// As [`harvest_images`]; [`Error::Input`] for a hook point or a store that comes twice.
pub fn harvest_images_at(
    host: &HostModel,
    images: &[Image],
    stores: &[(HookPoint, &Path)],
    options: &ImageOptions,
    progress: &mut dyn FnMut(&HarvestProgress) -> ControlFlow<()>,
) -> Result<HarvestProgress> {
    let class_token = check_options(host, options)?;
    let hooks: Vec<HookPoint> = stores.iter().map(|(hook, _)| *hook).collect();
    hooks.iter().try_for_each(|hook| hook.check(host.info()))?;
    let processor = host.image_processor()?.with_background(options.background);
    let d_model = host.info().d_model;
    let Some(first) = hooks.first() else {
        return Err(Error::input("hook points", "at least one", "none"));
    };
    let common = image_provenance(host, images, *first, options)?;
    let mut stores = Stores::resume(stores, |hook| {
        let mut spec = StoreSpec::new(d_model, options.dtype);
        spec.compression = options.compression;
        spec.rows_per_shard = options.rows_per_shard.unwrap_or(spec.rows_per_shard);
        spec.provenance = Provenance { hook_point: hook.to_string(), ..common.clone() };
        Ok(spec)
    })?;

    let mut n_seen = 0_u64;
    // How many rows an image has is known once one was computed; until then batches are computed
    // whose rows may all be there.
    let (mut n_stored, mut size) = (None, None);
    for batch in images.chunks(options.batch_size) {
        let first = n_seen as usize;
        n_seen += batch.len() as u64;
        if n_stored.is_some_and(|n: usize| stores.pass_over((n * batch.len()) as u64)) {
            continue;
        }
        let rows = image_rows(host, &processor, batch, &hooks, &mut size)?;
        let n_positions = rows[0].len() / (batch.len() * d_model);
        let stored = options.positions.range(n_positions, class_token);
        n_stored = Some(stored.len());
        let documents = first..first + batch.len();
        let meta: Vec<RowMeta> = documents.flat_map(|n| image_meta(n, stored.clone())).collect();
        let kept = |rows: &Vec<f32>| kept_rows(rows, n_positions, &stored, d_model);
        stores.append(&rows.iter().map(kept).collect::<Vec<_>>(), &meta)?;
        let fraction = n_seen as f64 / images.len() as f64;
        let (n_rows, n_total) = (stores.n_rows(), Some(images.len() as u64));
        let skipped = Skipped::default();
        if progress(&HarvestProgress { n_seen, n_rows, n_total, fraction, skipped }).is_break() {
            return Err(Error::Interrupted { path: stores.first().to_path_buf() });
        }
    }
    let n_rows = stores.n_rows();
    stores.finish()?;
    let (n_total, skipped) = (Some(n_seen), Skipped::default());
    Ok(HarvestProgress { n_seen, n_rows, n_total, fraction: 1.0, skipped })
}

/// Checks options against a host; returns whether it has a class token.
fn check_options(host: &HostModel, options: &ImageOptions) -> Result<bool> {
    let HostInput::Images { class_token, .. } = host.info().input else {
        return Err(Error::input("host", "a vision model", &host.info().family));
    };
    if options.batch_size == 0 {
        return Err(Error::input("batch_size", "at least 1", 0));
    }
    if options.positions == ImagePositions::Class && !class_token {
        return Err(Error::input("positions", "a host with a class token", &host.info().family));
    }
    Ok(class_token)
}

/// The rows of some positions of each image.
fn kept_rows(rows: &[f32], n_positions: usize, kept: &Range<usize>, d_model: usize) -> Vec<f32> {
    let images = rows.chunks_exact(n_positions * d_model);
    images.flat_map(|rows| &rows[kept.start * d_model..kept.end * d_model]).copied().collect()
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

/// The activations of a batch of images at each hook point, `[images, positions, d_model]`.
fn image_rows(
    host: &HostModel,
    processor: &ImageProcessor,
    batch: &[Image],
    hooks: &[HookPoint],
    size: &mut Option<[usize; 2]>,
) -> Result<Vec<Vec<f32>>> {
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
    Ok(host.activations_at(&pixels, hooks)?.iter().map(values).collect())
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
