//! `softsae harvest`: a host's activations on texts or images, into a store.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;

use sae_hosts::{
    Error, HarvestOptions, HarvestProgress, HookPoint, HostModel, Image, ImageOptions, harvest,
    harvest_images,
};

use super::{device, read_texts};
use crate::cli::HarvestArgs;
use crate::failure::{Blame as _, Failure};
use crate::interrupt;
use crate::output::say;
use crate::progress::Progress;

pub(crate) fn run(args: &HarvestArgs) -> Result<(), Failure> {
    let device = device(&args.device)?;
    let hook = args.hook.parse::<HookPoint>().or_usage()?;
    let texts = read_texts(&args.text)?;
    let images = args.images.as_deref().map(|dir| images(dir, args.max_images)).transpose()?;
    let host = HostModel::load(&args.host, device).or_usage()?;
    let images = images.map(|images| readable(args, &host, images)).transpose()?;
    let what = if images.is_some() { "images" } else { "tokens" };
    let mut progress = Progress::new("harvest", what, 0);
    let observer = &mut |now: &HarvestProgress| {
        progress.set_total(now.n_total.unwrap_or(0));
        progress.at(now.n_seen, || match now.n_total {
            Some(_) => format!("{} rows", now.n_rows),
            None => format!("{:.0} % of the texts, {} rows", 100.0 * now.fraction, now.n_rows),
        });
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let harvested = match &images {
        Some((images, skipped)) => {
            let options = ImageOptions {
                positions: args.positions.into(),
                background: args.background.into(),
                skipped: skipped.clone(),
                ..ImageOptions::default()
            };
            harvest_images(&host, images, hook, &options, &args.out, observer)
        }
        None => {
            let options = HarvestOptions {
                context_length: args.context_length.unwrap_or(host.info().context_length()),
                skip_positions: args.skip_positions,
                bos: args.bos.into(),
                special_tokens: args.special_tokens.into(),
                max_tokens: args.max_tokens,
                dtype: args.dtype.into(),
                ..HarvestOptions::default()
            };
            harvest(&host, &texts, hook, &options, &args.out, observer)
        }
    };
    drop(progress);
    let done = harvested.map_err(|error| match error {
        Error::Interrupted { .. } => Failure::Interrupted(error.to_string()),
        Error::Input { .. }
        | Error::Io { .. }
        | Error::File { .. }
        | Error::HookLayer { .. }
        | Error::HookName { .. } => Failure::usage(error),
        Error::Store(sae_data::Error::Locked { .. }) => Failure::usage(error),
        other => Failure::run(other),
    })?;
    say!("{}: {} rows from {} {what}", args.out.display(), done.n_rows, done.n_seen);
    Ok(())
}

/// The first images of a folder.
fn images(folder: &Path, most: Option<NonZeroUsize>) -> Result<Vec<Image>, Failure> {
    let mut images = Image::find(folder).or_usage()?;
    images.truncate(most.map_or(usize::MAX, NonZeroUsize::get));
    Ok(images)
}

/// The images that are harvested, and the names of those that are left out since they cannot be
/// decoded, which is said.
fn readable(
    args: &HarvestArgs,
    host: &HostModel,
    images: Vec<Image>,
) -> Result<(Vec<Image>, Vec<String>), Failure> {
    let processor = host.image_processor().or_usage()?;
    if !args.skip_broken {
        return Ok((images, Vec::new()));
    }
    let n_images = images.len();
    let mut progress = Progress::new("decode", "images", n_images as u64);
    let (mut kept, mut skipped) = (Vec::new(), Vec::new());
    for (image, done) in images.into_iter().zip(1..) {
        match processor.pixels(&image) {
            Ok(_) => kept.push(image),
            Err(error) => skipped.push((image.name, error)),
        }
        progress.at(done, String::new);
    }
    drop(progress);
    for (_, error) in &skipped {
        eprintln!("skipped: {error}");
    }
    if !skipped.is_empty() {
        eprintln!("skipped {} of {n_images} images", skipped.len());
    }
    if kept.is_empty() {
        let error = anyhow::anyhow!("--images: expected an image that can be decoded, got none");
        return Err(Failure::usage(error));
    }
    Ok((kept, skipped.into_iter().map(|(name, _)| name).collect()))
}
