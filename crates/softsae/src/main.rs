//! The `softsae` command: one process, one job.

mod cli;
mod commands;
mod failure;
mod interrupt;
mod output;
mod progress;
mod threads;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};
use failure::Failure;
use output::note;
use tch_autograd::Fault;

fn main() -> ExitCode {
    let cli = Cli::parse();
    threads::wait_asleep();
    interrupt::install(matches!(
        cli.command,
        Command::Harvest(_) | Command::ProbeData(_) | Command::Train(_)
    ));
    if cli.offline {
        sae_hub::go_offline();
    }
    if let Some(n_threads) = cli.threads {
        tch::set_num_threads(n_threads.into());
        rayon::ThreadPoolBuilder::new().num_threads(n_threads.into()).build_global().ok();
    }
    let outcome = tch_autograd::catch(|| run(&cli.command)).unwrap_or_else(|fault| {
        Err(Failure::run(match fault {
            Fault::Memory { .. } => anyhow::anyhow!(
                "{fault}; use another device, or wait until other processes have ended"
            ),
            Fault::Device { .. } => fault.into(),
        }))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            note!("error: {failure}");
            failure.exit_code()
        }
    }
}

fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Harvest(args) => commands::harvest::run(args),
        Command::ProbeData(args) => commands::probe_data::run(args),
        Command::Plant(args) => commands::plant::run(args),
        Command::Convert(args) => commands::convert::run(args),
        Command::Train(args) => commands::train::run(args),
        Command::Eval(args) => commands::eval::run(args),
        Command::Compare(args) => commands::compare::run(args),
        Command::Encode(args) => commands::encode::run(args),
        Command::Features(args) => commands::features::run(args),
        Command::Steer(args) => commands::steer::run(args),
        Command::Inspect(args) => commands::inspect::run(args),
        Command::Export(args) => commands::export::run(args),
        Command::Import(args) => commands::import::run(args),
    }
}
