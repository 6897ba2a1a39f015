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
        Error::Config(_) | Error::Exists { .. } | Error::OtherRun { .. } => Failure::usage(error),
        Error::OtherLength { .. }
        | Error::MixedStores { .. }
        | Error::NothingToScale { .. }
        | Error::Init { .. } => Failure::usage(error),
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
