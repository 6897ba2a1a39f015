//! What interventions on the host show of an SAE.

mod absorption;
mod attributes;
mod first_letter;
mod losses;
mod scores;

pub use self::attributes::{AttributeOptions, AttributeTable, disentanglement};
pub use self::first_letter::{FirstLetterOptions, FirstLetters, first_letter};
pub use self::losses::{LossOptions, LossReport, rebuilt_scores, splice_losses};
pub use self::scores::{image_scores, intervention_scores};

use sae_hosts::{HostInput, HostModel};

use crate::{Error, Result};

/// Checks that a host reads a prompt of `n` tokens.
fn check_length(host: &HostModel, n: usize) -> Result<()> {
    match host.info().input {
        HostInput::Tokens { max_positions, .. } if max_positions < n => Err(Error::Setting {
            name: "positions of the host",
            expected: format!("{n} or more, for the prompts"),
            got: max_positions.to_string(),
        }),
        _ => Ok(()),
    }
}
