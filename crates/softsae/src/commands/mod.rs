//! One file a command.

pub(crate) mod compare;
pub(crate) mod convert;
pub(crate) mod encode;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod features;
pub(crate) mod harvest;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod plant;
pub(crate) mod probe_data;
mod signs;
pub(crate) mod steer;
pub(crate) mod train;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sae_data::{ActivationStore, Error, OutputLock};
use sae_hosts::Text;
use sae_models::{Sae, TrainedOn};

use crate::failure::{Blame as _, Failure};
use crate::output::note;

/// The device of `--device`, if it is there.
fn device(name: &str) -> Result<tch::Device, Failure> {
    tch_autograd::device(name).map_err(|error| Failure::usage(anyhow::anyhow!("--device: {error}")))
}

/// Whether a host or a corpus says that it was given what it cannot read.
fn is_input(error: &sae_hosts::Error) -> bool {
    use sae_hosts::Error as E;
    matches!(
        error,
        E::Input { .. }
            | E::Io { .. }
            | E::File { .. }
            | E::NotUtf8 { .. }
            | E::HookLayer { .. }
            | E::HookName { .. }
            | E::Corpus { .. }
    )
}

/// Whose failure an error of a store is that is read or written: the system's alone are the run's.
fn of_store(error: Error) -> Failure {
    match error {
        Error::Io { .. } | Error::Stopped | Error::Source(_) => Failure::run(error),
        other => Failure::usage(other),
    }
}

/// Refuses a store of another dimension than the model's.
fn check_dimension(sae: &Sae, store: &dyn ActivationStore, data: &Path) -> Result<(), Failure> {
    let (expected, got) = (sae.config().d_model, store.d_model());
    if expected == got {
        return Ok(());
    }
    Err(Failure::usage(anyhow::anyhow!(
        "{}: expected rows of dimension {expected} as the checkpoint has, got {got}",
        data.display()
    )))
}

/// Refuses an output that would replace an input: one of them itself, or a file in one.
fn check_apart(out: &Path, inputs: &[&Path]) -> Result<(), Failure> {
    check_output_apart("--out", out, inputs)
}

/// The same of an output that is given by another argument.
fn check_output_apart(key: &str, out: &Path, inputs: &[&Path]) -> Result<(), Failure> {
    // What is written takes the place of what was there: of a device or a pipe nothing would be left.
    if std::fs::metadata(out).is_ok_and(|of| !of.is_file() && !of.is_dir()) {
        return Err(Failure::usage(anyhow::anyhow!(
            "{key}: expected a file or a folder, or none yet, got the device or pipe {}",
            out.display()
        )));
    }
    // Of a place that is not there yet, the folder that it will lie in.
    let absolute = std::path::absolute(out).or_run()?;
    let Some(place) = absolute.ancestors().find_map(|at| at.canonicalize().ok()) else {
        return Ok(());
    };
    let replaced = |input: &&&Path| input.canonicalize().is_ok_and(|of| place.starts_with(of));
    match inputs.iter().find(replaced) {
        None => Ok(()),
        Some(input) => Err(Failure::usage(anyhow::anyhow!(
            "{key}: expected a place that is no part of the input {}, got {}",
            input.display(),
            out.display()
        ))),
    }
}

/// Refuses a folder that holds a checkpoint, which would be lost.
fn check_no_checkpoint(out: &Path) -> Result<(), Failure> {
    let config = out.join(sae_models::CONFIG_FILE);
    if !config.exists() {
        return Ok(());
    }
    let error =
        anyhow::anyhow!("--out: expected a folder without a checkpoint, got {}", out.display());
    Err(Failure::usage(error))
}

/// The right to write a command's output: one that another process holds is the user's mistake.
fn locked(lock: sae_data::Result<OutputLock>) -> Result<OutputLock, Failure> {
    lock.map_err(of_store)
}

/// The right to write a file, which takes the place of no folder.
fn locked_file(out: &Path) -> Result<OutputLock, Failure> {
    if out.is_dir() {
        let error = anyhow::anyhow!("--out: expected a file, got the folder {}", out.display());
        return Err(Failure::usage(error));
    }
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string()).or_run()?;
    }
    locked(OutputLock::file(out))
}

/// In what the activations that a model is applied to differ from those it was trained on.
#[derive(Debug, Default)]
struct Differences {
    /// Whether they are of another host or hook point.
    elsewhere: bool,
    /// All of them, in words.
    lines: Vec<String>,
}

impl Differences {
    /// Compares a model with activations, which `source` names; prints what differs.
    ///
    /// Another host or hook point is a mistake of usage unless `elsewhere` lets it pass.
    fn find(
        model: &TrainedOn,
        activations: &TrainedOn,
        source: &str,
        elsewhere: bool,
    ) -> Result<Self, Failure> {
        let other = model.elsewhere(activations);
        if let Some(first) = other.first().filter(|_| !elsewhere) {
            let error = anyhow::anyhow!("{source}: {first}; `--elsewhere` lets it pass");
            return Err(Failure::usage(error));
        }
        let otherwise = model.made_otherwise(activations);
        let lines: Vec<_> = other.iter().chain(&otherwise).map(ToString::to_string).collect();
        lines.iter().for_each(|line| note!("warning: {source}: {line}"));
        Ok(Self { elsewhere: !other.is_empty(), lines })
    }

    /// Adds what was found of other activations.
    fn add(&mut self, other: Self) {
        self.elsewhere |= other.elsewhere;
        for line in other.lines {
            if !self.lines.contains(&line) {
                self.lines.push(line);
            }
        }
    }
}

/// Reads UTF-8 text files, each a document.
fn read_texts(paths: &[PathBuf]) -> Result<Vec<Text>, Failure> {
    paths.iter().map(|path| Text::read(path).or_usage()).collect()
}
