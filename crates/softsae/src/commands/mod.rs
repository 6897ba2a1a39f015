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

/// Reads `cpu` or `cuda:N`, and checks that the device is there.
fn device(name: &str) -> Result<tch::Device, Failure> {
    let parsed = match name.strip_prefix("cuda:").map(str::parse::<usize>) {
        _ if name == "cpu" => Ok(tch::Device::Cpu),
        Some(Ok(ordinal)) => {
            let n_devices = tch::Cuda::device_count();
            if (ordinal as i64) < n_devices {
                Ok(tch::Device::Cuda(ordinal))
            } else {
                Err(anyhow::anyhow!(
                    "--device: expected one of {n_devices} CUDA devices, got `{name}`"
                ))
            }
        }
        _ => Err(anyhow::anyhow!("--device: expected `cpu` or `cuda:N`, got `{name}`")),
    };
    parsed.or_usage()
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
