//! `report`: writes the page of a sweep folder anew.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask report runs/quickstart")]
pub(crate) struct ReportArgs {
    /// A sweep folder
    dir: PathBuf,
}

pub(crate) fn run(args: &ReportArgs) -> Result<()> {
    let report = sae_report::Report::read(&args.dir)?;
    for note in &report.notes {
        eprintln!("{note}");
    }
    println!("{}", report.write(&args.dir)?.display());
    Ok(())
}
