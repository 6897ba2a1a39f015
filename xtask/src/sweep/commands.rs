//! Commands on the folder of a sweep: they look at it, or take runs out of it.

mod diff;
mod logs;
mod opened;
mod remove;
mod status;

use anyhow::Result;
use clap::Subcommand;

use crate::exit;
use crate::workspace::Workspace;
pub(crate) use opened::Sweep;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// How far the runs of a sweep are
    Status(status::StatusArgs),
    /// The log of a run
    Logs(logs::LogsArgs),
    /// Remove runs, so that the next start does them again
    Rm(remove::RemoveArgs),
    /// In what two sweeps, or two runs, differ
    Diff(diff::DiffArgs),
}

pub(super) fn run(workspace: &Workspace, command: &Command) -> Result<()> {
    match command {
        Command::Status(args) => status::run(workspace, args),
        Command::Logs(args) => logs::run(workspace, args),
        Command::Rm(args) => remove::run(workspace, args),
        Command::Diff(args) => diff::run(workspace, args),
    }
}

/// Prints a text; who reads no further has seen enough.
fn show(text: &str) -> Result<()> {
    exit::print(format_args!("{text}"))
}
