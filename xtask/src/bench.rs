//! `bench`: the criterion benches, each of which prints its own table, and PyTorch beside them.

mod pytorch;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

pub(crate) use pytorch::SCRIPTS;

use crate::bundle::archive;
use crate::exit::usage;
use crate::workspace::Workspace;
use crate::{process, setup};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask bench
  cargo xtask bench soft-topk
  cargo xtask bench train-step --device cuda:0 -- topk/2048x768x16384x64")]
pub(crate) struct BenchArgs {
    /// Name of one bench; default: all that run on the device
    name: Option<String>,
    /// The device to measure: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Folder of the results in a bundle; default: softsae-bench in the current folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Arguments for criterion, such as part of an id
    #[arg(last = true)]
    filter: Vec<String>,
}

/// All benches, and whether each measures on a GPU too.
const BENCHES: [(&str, bool); 5] = [
    ("soft-topk", true),
    ("train-step", true),
    ("harvest", true),
    ("loader", false),
    ("encode", false),
];

pub(crate) fn run(workspace: &Workspace, args: &BenchArgs) -> Result<()> {
    setup::ensure(workspace)?;
    let out = match &args.out {
        Some(_) if !workspace.is_bundle() => {
            bail!(usage("--out: expected in a bundle only; here results are in target/bench"));
        }
        Some(out) => std::path::absolute(out)?,
        None if workspace.is_bundle() => std::path::absolute("softsae-bench")?,
        None => workspace.target(),
    };
    let selected = selected(args)?;
    let unpacked = workspace
        .is_bundle()
        .then(|| archive::unpack(&workspace.root().join("bench.zip")))
        .transpose()?;
    for name in selected {
        let mut command = match &unpacked {
            Some(folder) => unpacked_bench(folder.path(), name, &out)?,
            None => cargo_bench(workspace, name),
        };
        command.env("SOFTSAE_BENCH_DEVICE", &args.device).args(&args.filter);
        let status = command.status().with_context(|| format!("the bench {name}"))?;
        match status.code() {
            Some(0) => {}
            Some(2) => bail!(usage(format!("--device {} cannot be used", args.device))),
            _ => bail!("the bench {name} failed ({status})"),
        }
        if let Some(script) = SCRIPTS.iter().find(|script| script.bench == name) {
            let sources = workspace.root().join("benches/pytorch");
            let sources = unpacked.as_ref().map_or(sources, |folder| folder.path().to_owned());
            pytorch::compare(script, &sources, &args.device, &out.join("bench"))?;
        }
    }
    Ok(())
}

/// The benches to run.
fn selected(args: &BenchArgs) -> Result<Vec<&'static str>> {
    let on_cpu = args.device == "cpu";
    let able = BENCHES.iter().filter(|(_, on_gpu)| on_cpu || *on_gpu).map(|(name, _)| *name);
    let chosen = |name: &&str| args.name.as_deref().is_none_or(|wanted| wanted == *name);
    let selected: Vec<_> = able.clone().filter(chosen).collect();
    if selected.is_empty() {
        let (able, got) = (able.collect::<Vec<_>>().join(", "), args.name.as_deref());
        let got = got.unwrap_or_default();
        bail!(usage(format!("expected a bench on {}: {able}; got `{got}`", args.device)));
    }
    Ok(selected)
}

/// Builds and starts a bench.
fn cargo_bench(workspace: &Workspace, name: &str) -> Command {
    let mut command = process::cargo(workspace);
    command.args(["bench", "--package", "benches", "--bench", name, "--"]);
    command
}

/// Starts a bench of a bundle; results go below `out`.
fn unpacked_bench(folder: &Path, name: &str, out: &Path) -> Result<Command> {
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let mut command = Command::new(folder.join(name));
    command.arg("--bench").env("CARGO_TARGET_DIR", out);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: Option<&str>, device: &str) -> BenchArgs {
        let (name, device) = (name.map(String::from), device.to_owned());
        BenchArgs { name, device, out: None, filter: Vec::new() }
    }

    #[test]
    fn benches_are_those_that_the_device_runs() {
        assert_eq!(selected(&args(None, "cpu")).unwrap().len(), BENCHES.len());
        assert_eq!(
            selected(&args(None, "cuda:1")).unwrap(),
            ["soft-topk", "train-step", "harvest"]
        );
        assert_eq!(selected(&args(Some("encode"), "cpu")).unwrap(), ["encode"]);
        for (name, device) in [("encode", "cuda"), ("nothing", "cpu")] {
            let error = selected(&args(Some(name), device)).unwrap_err().to_string();
            assert!(error.contains("train-step") && error.contains(name), "{error}");
        }
    }

    #[test]
    fn every_bench_is_in_the_table() {
        let manifest = Workspace::find().root().join("benches/Cargo.toml");
        let manifest: toml::Table = sae_config::read_toml(&manifest).unwrap();
        let names = manifest["bench"].as_array().unwrap().iter();
        let mut names: Vec<_> = names.map(|bench| bench["name"].as_str().unwrap()).collect();
        let mut known = BENCHES.map(|(name, _)| name);
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
    }
}
