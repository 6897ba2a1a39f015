//! `softsae import`: a checkpoint of another tool's files.

use std::path::{Path, PathBuf};

use sae_data::OutputLock;
use sae_hosts::HookPoint;
use sae_hub::{Hub, Kind, Reference};
use sae_models::{Imported, TrainedOn};

use super::{check_apart, check_no_checkpoint, locked};
use crate::cli::ImportArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::say;

pub(crate) fn run(args: &ImportArgs) -> Result<(), Failure> {
    check_apart(&args.out, &[&args.dir])?;
    check_no_checkpoint(&args.out)?;
    let dir = local(&args.dir)?;
    let Imported { mut sae, origin, notes } =
        sae_models::import(&dir, args.format.into()).or_usage()?;
    // A name of the tool's own is none that stores have: nothing could be compared with it.
    let is_ours = |hook: &String| hook.parse::<HookPoint>().is_ok_and(|h| h.to_string() == *hook);
    sae.trained_on = TrainedOn {
        host: origin.host.clone(),
        hook_point: origin.hook_point.clone().filter(is_ours),
        ..TrainedOn::default()
    };
    let _lock = locked(OutputLock::directory(&args.out))?;
    sae_models::save_checkpoint(&sae, &args.out).or_run()?;
    let config = sae.config();
    let (name, d, f) = (config.code.name(), config.d_model, config.n_features);
    say!("{}: {name}, {d} dimensions, {f} features", args.out.display());
    if let Some(host) = origin.host {
        say!("host: {host}");
    }
    if let Some(hook_point) = origin.hook_point {
        say!("hook point: {hook_point}");
    }
    notes.iter().for_each(|note| say!("note: {note}"));
    Ok(())
}

/// A local folder as it is, one of the hub in its cache.
fn local(dir: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = dir.to_str().filter(|name| Reference::is_one(name)) else {
        return Ok(dir.to_path_buf());
    };
    let hub = Hub::from_env();
    let listing = hub.listing(&name.parse::<Reference>().or_usage()?, Kind::Model).or_usage()?;
    say!("{}", listing.reference);
    hub.fetch(&listing, &listing.files).or_usage()
}
