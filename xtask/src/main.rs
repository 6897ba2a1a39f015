//! `cargo xtask`: sets up libtorch, runs sweeps, tests, benches and checks. Here it only dispatches.

#![warn(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod exit;

mod assets;
mod bench;
mod browser;
mod bundle;
mod ci;
mod device_tests;
mod gpu_check;
mod labelled;
mod pictures;
mod pip;
mod process;
mod report;
mod setup;
mod sweep;
mod test;
mod tidy;
mod wheel;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sets up libtorch, runs sweeps, tests, benches and checks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put libtorch into target/libtorch; does nothing if it is there
    Setup(setup::SetupArgs),
    /// Fetch a model, pictures or labelled texts into target/assets and print their path
    Fetch(assets::FetchArgs),
    /// Train and evaluate every run of a sweep, and report
    Sweep(sweep::SweepArgs),
    /// Do one run of a prepared sweep (for job schedulers)
    #[command(hide = true)]
    SweepRun(sweep::OneRunArgs),
    /// Write the report of a sweep folder anew
    Report(report::ReportArgs),
    /// Run all tests, with what they need
    Test(test::TestArgs),
    /// Run the benches
    Bench(bench::BenchArgs),
    /// Run the tests that compute on a device, each in a process of its own
    DeviceTests(device_tests::DeviceTestsArgs),
    /// Tests, benches and runs on a GPU, in one command of a bundle
    GpuCheck(gpu_check::GpuCheckArgs),
    /// Build the programs into a folder that runs with the PyTorch of another machine
    Bundle(bundle::BundleArgs),
    /// Check layers and house rules
    Tidy,
    /// Everything that must pass: format, clippy, tidy, docs, tests
    Ci,
}

impl Command {
    /// Whether a command needs no sources.
    fn runs_in_a_bundle(&self) -> bool {
        match self {
            Self::Fetch(_) | Self::Sweep(_) | Self::SweepRun(_) | Self::Report(_) => true,
            Self::Bench(_) | Self::DeviceTests(_) | Self::GpuCheck(_) => true,
            Self::Setup(_) | Self::Test(_) | Self::Bundle(_) | Self::Tidy | Self::Ci => false,
        }
    }
}

fn main() -> ExitCode {
    let workspace = workspace::Workspace::find();
    let command = Cli::parse().command;
    if workspace.is_bundle() && !command.runs_in_a_bundle() {
        let error = exit::usage(
            "a bundle has no sources: it sweeps, reports, measures, and checks a device",
        );
        return exit::report(Err(error));
    }
    let done = match command {
        Command::Setup(args) => setup::run(&workspace, &args),
        Command::Fetch(args) => assets::run(&workspace, &args),
        Command::Sweep(args) => sweep::run(&workspace, &args),
        Command::SweepRun(args) => sweep::run_one(&args),
        Command::Report(args) => report::run(&workspace, &args),
        Command::Test(args) => test::run(&workspace, &args),
        Command::Bench(args) => bench::run(&workspace, &args),
        Command::DeviceTests(args) => device_tests::run(&workspace, &args),
        Command::GpuCheck(args) => gpu_check::run(&workspace, &args),
        Command::Bundle(args) => bundle::run(&workspace, &args),
        Command::Tidy => tidy::run(&workspace),
        Command::Ci => ci::run(&workspace),
    };
    exit::report(done)
}
