//! `softsae harvest`: a host's activations on texts or images, into a store.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;

use sae_hosts::{
    Error, HarvestOptions, HarvestProgress, HookPoint, HostModel, Image, ImageOptions,
    ImagePositions, harvest, harvest_images,
};

use super::{device, read_texts};
use crate::cli::{HarvestArgs, Positions};
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
        Some(images) => {
            host.image_processor().or_usage()?;
            let positions = match args.positions {
                Positions::All => ImagePositions::All,
                Positions::Class => ImagePositions::Class,
                Positions::Patches => ImagePositions::Patches,
            };
            let (dtype, compression) = (args.dtype.into(), args.compress);
            let options = ImageOptions { positions, dtype, compression, ..ImageOptions::default() };
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
                compression: args.compress,
                ..HarvestOptions::default()
            };
            harvest(&host, &texts, hook, &options, &args.out, observer)
        }
    };
    drop(progress);
    let done = harvested.map_err(|error| match error {
        Error::Interrupted { .. } => Failure::Interrupted(error.to_string()),
        Error::Input { .. }
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
