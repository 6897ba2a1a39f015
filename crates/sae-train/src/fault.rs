//! What a fault of a device or of memory becomes: an error that names the settings to change.

use sae_config::CheckedRun;
use tch::Kind;
use tch_autograd::Fault;

use crate::engine::choose;
use crate::{Error, Result};

/// Does a part of the training of `config`, after `steps_done`, and names its faults.
pub(crate) fn named<T>(
    config: &CheckedRun,
    steps_done: u64,
    part: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let fault = match tch_autograd::catch(part) {
        // What a part of this part has named already.
        Ok(Err(error @ (Error::OutOfMemory { .. } | Error::DeviceFailed { .. }))) => {
            return Err(error);
        }
        Ok(Err(error)) => match Fault::of_text(&error.to_string()) {
            Some(fault) => fault,
            None => return Err(error),
        },
        Ok(done) => return done,
        Err(fault) => fault,
    };
    Err(error(fault, config, steps_done))
}

fn error(fault: Fault, config: &CheckedRun, steps_done: u64) -> Error {
    let device = config.training.device.clone();
    match fault {
        Fault::Memory { message } => {
            let settings = if may_cut(config) {
                "`training.micro_batch`, `training.batch_size` or `sae.n_features`"
            } else {
                "`training.batch_size` or `sae.n_features`"
            };
            Error::OutOfMemory { steps_done, device, message, settings }
        }
        Fault::Device { message } => Error::DeviceFailed { steps_done, device, message },
    }
}

fn may_cut(config: &CheckedRun) -> bool {
    let engine = choose(config, Kind::Float);
    engine.is_ok_and(|engine| (engine.cuts)(&config.recipe))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(architecture: &str) -> CheckedRun {
        let text = format!(
            "data.store = 's'\nsae.n_features = 64\narchitecture = {{ {architecture} }}\n\
             training = {{ steps = 9, batch_size = 8, device = 'cuda:1' }}"
        );
        toml::from_str::<sae_config::RunConfig>(&text).unwrap().check().unwrap()
    }

    /// The message of a part that panics with, or returns, an error of libtorch after three steps.
    fn message(architecture: &str, text: &str, panics: bool) -> String {
        let work = || -> Result<()> {
            let operator = || Err::<(), _>(tch::TchError::Torch(text.to_owned()));
            if panics {
                operator().unwrap();
            }
            operator().map_err(|source| Error::Torch { step: 3, source })
        };
        let config = config(architecture);
        // Within another part, which leaves the name as it is.
        let error = named(&config, 0, || named(&config, 3, work)).unwrap_err();
        error.to_string()
    }

    #[test]
    fn faults_are_named_however_they_come() {
        let text = "CUDA out of memory. Tried to allocate 2.00 GiB.\nmore";
        for panics in [false, true] {
            assert_eq!(
                message("name = 'topk', k = 4", text, panics),
                "after 3 steps: out of memory on cuda:1: CUDA out of memory. Tried to allocate 2.00 \
                 GiB.; less is needed with a smaller `training.batch_size` or `sae.n_features`. \
                 Checkpoints written before stand"
            );
            let cut = message("name = 'standard', l1_penalty = 0.1", text, panics);
            assert!(cut.contains("smaller `training.micro_batch`, `training.batch_size`"), "{cut}");
            let failed = message(
                "name = 'topk', k = 4",
                "CUDA error: unspecified launch failure\nCUDA kernel errors",
                panics,
            );
            assert!(failed.starts_with("after 3 steps: cuda:1 failed: CUDA error: unspecified"));
            assert!(failed.ends_with("resume goes on from the newest"), "{failed}");
        }
        let other = message("name = 'topk', k = 4", "shapes cannot be multiplied", false);
        assert!(other.ends_with("shapes cannot be multiplied"), "{other}");
        assert!(other.starts_with("step 3: libtorch: "), "{other}");
    }
}
