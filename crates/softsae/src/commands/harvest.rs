//! `softsae harvest`: a host's activations on texts, into a store.

use std::ops::ControlFlow;
use std::time::Instant;

use sae_hosts::{Error, HarvestOptions, HookPoint, HostModel, harvest};

use super::{device, read_texts};
use crate::cli::HarvestArgs;
use crate::failure::{Blame as _, Failure};
use crate::interrupt;
use crate::progress::Progress;

/// Steps into which the progress of a harvest is divided: its total of tokens is not known
/// before the texts are tokenised.
const PARTS: f64 = 1000.0;

pub(crate) fn run(args: &HarvestArgs) -> Result<(), Failure> {
    let device = device(&args.device)?;
    let hook = args.hook.parse::<HookPoint>().or_usage()?;
    let texts = read_texts(&args.text)?;
    let host = HostModel::load(&args.host, device).or_usage()?;
    let options = HarvestOptions {
        context_length: args.context_length,
        skip_positions: args.skip_positions,
        max_tokens: args.max_tokens,
        ..HarvestOptions::default()
    };
    let mut progress = Progress::new("harvest", "‰", PARTS as u64);
    let mut first = None;
    let observer = &mut |now: &sae_hosts::HarvestProgress| {
        // Those that an earlier harvest has seen are passed over before the first report.
        let (start, seen_before) = *first.get_or_insert((Instant::now(), now.tokens_seen));
        progress.at((now.fraction * PARTS) as u64, || {
            let rate = (now.tokens_seen - seen_before) as f64 / start.elapsed().as_secs_f64();
            let rate = if rate.is_finite() { rate } else { 0.0 };
            format!("{} tokens, {rate:.0} tokens/s, {} rows", now.tokens_seen, now.n_rows)
        });
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let harvested = harvest(&host, &texts, hook, &options, &args.out, observer);
    drop(progress);
    let done = harvested.map_err(|error| match error {
        Error::Interrupted { .. } => Failure::Interrupted(error.to_string()),
        Error::Input { .. } | Error::HookLayer { .. } => Failure::usage(error),
        Error::Store(sae_data::Error::Locked { .. }) => Failure::usage(error),
        other => Failure::run(other),
    })?;
    println!("{}: {} rows from {} tokens", args.out.display(), done.n_rows, done.tokens_seen);
    Ok(())
}
