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
