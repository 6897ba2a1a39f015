//! `softsae import`: a checkpoint of another tool's files.

use sae_data::OutputLock;

use super::locked;
use crate::cli::ImportArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::say;

pub(crate) fn run(args: &ImportArgs) -> Result<(), Failure> {
    let sae = sae_models::import(&args.dir, args.format.into()).or_usage()?;
    let _lock = locked(OutputLock::directory(&args.out))?;
    sae_models::save_checkpoint(sae.as_ref(), &args.out).or_run()?;
    let config = sae.config();
    let (name, d, f) = (config.architecture.name(), config.d_model, config.n_features);
    say!("{}: {name}, {d} dimensions, {f} features", args.out.display());
    Ok(())
}
