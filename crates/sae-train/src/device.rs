//! The device of a run, and the precisions that it has.

use sae_config::{CheckedRun, CheckedTraining, Precision};
use tch::Device;
use tch_autograd::Version;

use crate::Result;

/// The compute capability from which on cards multiply bfloat16 and TF32.
const SHORT_FLOATS_FROM: Version = Version { major: 8, minor: 0 };

/// The device that a configuration names, which computes in the precision that it names.
///
/// # Errors
/// A device that cannot be used, with the reason, or that has not this precision.
pub fn run_device(config: &CheckedRun) -> Result<Device> {
    let training = &config.training;
    let device = tch_autograd::device(&training.device).map_err(|error| {
        let key = "training.device";
        sae_config::Error::value(key, "a device that is there", error)
    })?;
    check_precision(training, tch_autograd::capability(device))?;
    Ok(device)
}

/// Whether products on a device may round their factors to TF32; none on the CPU, which has none.
pub(crate) fn tf32(training: &CheckedTraining, device: Device) -> Option<bool> {
    matches!(device, Device::Cuda(_)).then_some(training.precision == Precision::Tf32)
}

/// Checks that a card of this compute capability, where it is known, has the precision.
fn check_precision(training: &CheckedTraining, capability: Option<Version>) -> Result<()> {
    let name = match training.precision {
        Precision::Bf16 => "bf16",
        Precision::Tf32 => "tf32",
        Precision::F32 => return Ok(()),
    };
    match capability.filter(|capability| *capability < SHORT_FLOATS_FROM) {
        Some(capability) => {
            let expected = format!(
                "`f32`, since {} has compute capability {capability}, and `{name}` needs \
                 {SHORT_FLOATS_FROM}",
                training.device
            );
            let got = format!("`{name}`");
            Err(sae_config::Error::value("training.precision", expected, got).into())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tch_autograd::Version;

    use super::check_precision;

    #[test]
    fn a_precision_that_the_card_has_not_is_refused() {
        let training = |precision: &str| {
            let text = format!(
                "data.store = ''\nsae.n_features = 8\narchitecture = {{ name = 'topk', k = 2 }}\n\
                 [training]\nsteps = 1\nbatch_size = 1\ndevice = 'cuda:0'\n{precision}"
            );
            toml::from_str::<sae_config::RunConfig>(&text).unwrap().check().unwrap().training
        };
        let (old, new) = (Version { major: 7, minor: 5 }, Version { major: 8, minor: 0 });
        for name in ["bf16", "tf32"] {
            let training = training(&format!("precision = '{name}'"));
            let message = check_precision(&training, Some(old)).unwrap_err().to_string();
            let expected = format!(
                "`training.precision`: expected `f32`, since cuda:0 has compute capability 7.5, \
                 and `{name}` needs 8.0, got `{name}`"
            );
            assert_eq!(message, expected);
            assert!(check_precision(&training, Some(new)).is_ok());
            assert!(check_precision(&training, None).is_ok());
        }
        for fine in ["", "precision = 'f32'"] {
            assert!(check_precision(&training(fine), Some(old)).is_ok());
        }
    }
}
