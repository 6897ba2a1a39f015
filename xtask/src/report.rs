//! `report`: writes the page of a sweep folder anew.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use sae_report::Report;

use crate::exit::note;
use crate::sweep::Sweep;
use crate::workspace::Workspace;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask report runs/quickstart")]
pub(crate) struct ReportArgs {
    /// The folder of a sweep, or the name of one in runs/
    dir: PathBuf,
}

/// Also the page of a sweep that was killed has all that its runs have come to.
pub(crate) fn run(workspace: &Workspace, args: &ReportArgs) -> Result<()> {
    let sweep = Sweep::open(workspace, &args.dir)?;
    let mut report = Report::with_files(sweep.known(), &sweep.out)?;
    report.notes.splice(0..0, sweep.notes);
    report.notes.iter().for_each(|line| note(line));
    say!("{}", report.write(&sweep.out)?.display());
    Ok(())
}
