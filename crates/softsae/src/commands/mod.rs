//! One file a command.

pub(crate) mod convert;
pub(crate) mod encode;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod harvest;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod plant;
pub(crate) mod train;

use std::path::PathBuf;

use sae_data::{Error, OutputLock};
use sae_hosts::Text;

use crate::failure::{Blame as _, Failure};

/// The device of a name, if it is there.
fn device(name: &str) -> Result<tch::Device, Failure> {
    tch_autograd::device(name).map_err(|error| Failure::usage(anyhow::anyhow!("--device: {error}")))
}

/// The right to write a command's output: one that another process holds is the user's mistake.
fn locked(lock: sae_data::Result<OutputLock>) -> Result<OutputLock, Failure> {
    lock.map_err(|error| match error {
        Error::Locked { .. } => Failure::usage(error),
        other => Failure::run(other),
    })
}

/// Reads UTF-8 text files, each a document.
fn read_texts(paths: &[PathBuf]) -> Result<Vec<Text>, Failure> {
    paths.iter().map(|path| Text::read(path).or_usage()).collect()
}
