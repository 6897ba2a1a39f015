//! `softsae plant`: rows made of known features, into a store.

use sae_data::{Dtype, Error, PlantedConfig};
use serde::Deserialize;

use super::of_store;
use crate::cli::PlantArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::say;

/// The file that tells what to plant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    planted: PlantedConfig,
}

pub(crate) fn run(args: &PlantArgs) -> Result<(), Failure> {
    let File { planted } = sae_config::read_toml(&args.config).or_usage()?;
    planted.check().map_err(|error| in_file(args, error))?;
    planted.write(&args.out, Dtype::F32).map_err(of_store)?;
    say!("{}: {} rows of {} features", args.out.display(), planted.n_rows, planted.n_features);
    Ok(())
}

fn in_file(args: &PlantArgs, error: Error) -> Failure {
    Failure::usage(anyhow::anyhow!("{}: planted.{error}", args.config.display()))
}
