//! Whether a run heeds what its data advise.

use sae_config::{CheckedRun, Normalization};
use sae_data::Remedy;

use crate::rules::starts_at_median;

/// Whether a run does what a remedy is for: whether it subtracts a mean from its rows or starts b_dec
/// in their middle, and whether single rows can decide its scale.
#[must_use]
pub fn heeds(config: &CheckedRun, remedy: Remedy) -> bool {
    let normalization = config.sae.normalization;
    match remedy {
        Remedy::Centre => {
            normalization == Normalization::ShiftScale || starts_at_median(&config.recipe)
        }
        Remedy::LimitNorms => {
            matches!(normalization, Normalization::UnitNorm | Normalization::LayerNorm)
        }
        Remedy::DropZeros | Remedy::DropDuplicates => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(architecture: &str, normalization: &str) -> CheckedRun {
        let text = format!(
            "data.store = 's'\nsae = {{ n_features = 8, normalization = '{normalization}' }}\n\
             architecture = {{ {architecture} }}\ntraining = {{ steps = 10, batch_size = 4 }}"
        );
        toml::from_str::<sae_config::RunConfig>(&text).unwrap().check().unwrap()
    }

    #[test]
    fn a_shift_or_a_start_in_the_middle_centres_and_rows_of_one_length_have_no_outliers() {
        let (topk, gated) = ("name = 'topk', k = 2", "name = 'gated', l1_penalty = 0.1");
        for (architecture, normalization, centres, limits) in [
            (gated, "none", false, false),
            (gated, "scale", false, false),
            (gated, "shift_scale", true, false),
            (gated, "unit_norm", false, true),
            (gated, "layer_norm", false, true),
            (topk, "none", true, false),
        ] {
            let run = run(architecture, normalization);
            assert_eq!(heeds(&run, Remedy::Centre), centres, "{architecture} {normalization}");
            assert_eq!(heeds(&run, Remedy::LimitNorms), limits, "{architecture} {normalization}");
            assert!(!heeds(&run, Remedy::DropZeros) && !heeds(&run, Remedy::DropDuplicates));
        }
    }
}
