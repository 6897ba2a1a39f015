//! Whose failure an error of a training is.

use sae_data::Error as DataError;
use sae_train::Error;

use super::super::is_input;
use crate::failure::Failure;

/// The failure of a training; where runs start from checkpoints, what those say of themselves is a
/// mistake of usage.
pub(super) fn failure(error: Error, from_checkpoint: bool) -> Failure {
    match error {
        Error::Interrupted { .. } => Failure::Interrupted(error.to_string()),
        // What a run reads was read before it began.
        Error::Config(sae_config::Error::Io { .. }) => Failure::run(error),
        Error::Config(_) | Error::Exists { .. } | Error::OtherRun { .. } => Failure::usage(error),
        Error::OtherLength { .. }
        | Error::MixedStores { .. }
        | Error::NothingToScale { .. }
        | Error::Init { .. } => Failure::usage(error),
        Error::Model(sae_models::Error::Io { ref source, .. }) if has_no_space(source) => {
            Failure::run(error)
        }
        // The run's own model is made here.
        Error::Model(_) if from_checkpoint => Failure::usage(error),
        Error::Data(
            DataError::Locked { .. } | DataError::Value { .. } | DataError::NoMetadata { .. },
        ) => Failure::usage(error),
        Error::Data(DataError::Source(ref source))
            if source.downcast_ref::<sae_hosts::Error>().is_some_and(is_input) =>
        {
            Failure::usage(error)
        }
        other => Failure::run(other),
    }
}

/// Whether a file could not be written, whatever it is of.
fn has_no_space(source: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(source.kind(), FileTooLarge | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_is_no_mistake_of_usage() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let config = sae_config::Error::Io { path: "run.toml".into(), source: full() };
        let data = DataError::Io { path: "shard".into(), source: full() };
        let model = sae_models::Error::Io { path: "sae.safetensors".into(), source: full() };
        for error in [Error::Config(config), Error::Data(data), Error::Model(model)] {
            assert!(matches!(failure(error, true), Failure::Run(_)));
        }
        let wrong = sae_config::Error::value("training.steps", "at least 1", 0);
        assert!(matches!(failure(Error::Config(wrong), false), Failure::Usage(_)));
    }
}
