//! `softsae features`: pages of what every feature is active on, and what is made of them.

mod chosen;
mod export;
mod host;
mod label;
mod pages;
mod pictures;
mod source;
mod tasks;

use crate::cli::{FeaturesArgs, FeaturesCommand};
use crate::failure::Failure;

pub(crate) fn run(args: &FeaturesArgs) -> Result<(), Failure> {
    match (&args.command, &args.pages) {
        (Some(FeaturesCommand::Label(args)), _) => label::run(args),
        (Some(FeaturesCommand::Tasks(args)), _) => tasks::run(args),
        (Some(FeaturesCommand::Export(args)), _) => export::run(args),
        (None, Some(pages)) => pages::run(pages, &args.live),
        // Not reached: without a subcommand clap asks for the checkpoint.
        (None, None) => Err(Failure::usage(anyhow::anyhow!("expected a checkpoint, got none"))),
    }
}
