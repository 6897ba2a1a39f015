//! `softsae plant`: rows made of known features, into a store.

use sae_data::{Dtype, Error, PlantStage, PlantedConfig};
use serde::Deserialize;

use super::of_store;
use crate::cli::PlantArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::say;
use crate::progress::Progress;

/// The file that tells what to plant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    planted: PlantedConfig,
}

pub(crate) fn run(args: &PlantArgs) -> Result<(), Failure> {
    let File { planted } = sae_config::read_toml(&args.config).or_usage()?;
    planted.check().map_err(|error| in_file(args, error))?;
    let steps = planted.synth.as_ref().map_or(0, |synth| synth.orthogonal_steps as u64);
    let mut dictionary = Progress::new("dictionary", "steps", steps);
    let mut rows = Progress::new("plant", "rows", planted.n_rows);
    let progress = &mut |stage, done| match stage {
        PlantStage::Dictionary => dictionary.at(done, String::new),
        PlantStage::Rows => rows.at(done, String::new),
    };
    planted.write_with(&args.out, Dtype::F32, progress).map_err(of_store)?;
    say!("{}: {} rows of {} features", args.out.display(), planted.n_rows, planted.n_features);
    Ok(())
}

fn in_file(args: &PlantArgs, error: Error) -> Failure {
    Failure::usage(anyhow::anyhow!("{}: planted.{error}", args.config.display()))
}
