//! `softsae harvest`: a host's activations on texts or images, into a store.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

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

/// Steps into which the progress of a harvest is divided: its total of tokens is not known
/// before the texts are tokenised.
const PARTS: f64 = 1000.0;

pub(crate) fn run(args: &HarvestArgs) -> Result<(), Failure> {
    let device = device(&args.device)?;
    let hook = args.hook.parse::<HookPoint>().or_usage()?;
    let texts = read_texts(&args.text)?;
    let images = args.images.as_deref().map(|dir| images(dir, args.max_images)).transpose()?;
    let host = HostModel::load(&args.host, device).or_usage()?;
    let what = if images.is_some() { "images" } else { "tokens" };
    let mut progress = Progress::new("harvest", "‰", PARTS as u64);
    let mut first = None;
    let observer = &mut |now: &HarvestProgress| {
        // Those that an earlier harvest has seen are passed over before the first report.
        let (start, seen_before) = *first.get_or_insert((Instant::now(), now.n_seen));
        progress.at((now.fraction * PARTS) as u64, || {
            let rate = (now.n_seen - seen_before) as f64 / start.elapsed().as_secs_f64();
            let rate = if rate.is_finite() { rate } else { 0.0 };
            format!("{} {what}, {rate:.0} {what}/s, {} rows", now.n_seen, now.n_rows)
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
            let options = ImageOptions { positions, ..ImageOptions::default() };
            harvest_images(&host, images, hook, &options, &args.out, observer)
        }
        None => {
            let options = HarvestOptions {
                context_length: args.context_length,
                skip_positions: args.skip_positions,
                max_tokens: args.max_tokens,
                ..HarvestOptions::default()
            };
            harvest(&host, &texts, hook, &options, &args.out, observer)
        }
    };
    drop(progress);
    let done = harvested.map_err(|error| match error {
        Error::Interrupted { .. } => Failure::Interrupted(error.to_string()),
        Error::Input { .. } | Error::HookLayer { .. } => Failure::usage(error),
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
