//! What a store says before anything is trained on it, in words.

use sae_config::CheckedRun;
use sae_data::{MeanOutlier, Signs};
use sae_train::{Stores, heeds};

use crate::output::{note, say};

/// Prints all signs, and what is advised.
pub(super) fn print(signs: &Signs) {
    let share = |n: u64| 100.0 * n as f64 / signs.n_rows.max(1) as f64;
    say!(
        "massive rows              {} ({:.3} %), {:.1} % of all squares, up to {:.1} times the median norm",
        signs.n_massive_rows,
        share(signs.n_massive_rows),
        100.0 * signs.massive_share,
        signs.largest_ratio
    );
    say!(
        "duplicate rows            {} ({:.3} %)",
        signs.n_duplicate_rows,
        share(signs.n_duplicate_rows)
    );
    say!(
        "gamma                     {} (length of the mean over that of the standard deviations; with massive rows {})",
        number(signs.gamma_without_massive),
        number(signs.gamma)
    );
    say!("dimensions far from zero  {}", signs.outlier_dimensions.len());
    for MeanOutlier { dimension, ratio, share } in &signs.outlier_dimensions {
        say!(
            "  {dimension:<23} mean {ratio:.1} standard deviations, {:.1} % of the mean's square",
            100.0 * share
        );
    }
    say!("dead random directions    {:.1} %", 100.0 * signs.dead_directions);
    let advice = signs.advice();
    say!(
        "advised                   {}",
        if advice.is_empty() { "nothing beside the defaults" } else { "" }
    );
    advice.iter().for_each(|advice| say!("  {advice}"));
}

/// Says on standard error what a run that begins will meet: γ in any case, and the advice that it
/// does not heed.
pub(super) fn warn(config: &CheckedRun, stores: &Stores) {
    let target = stores.target.as_ref().map(|store| ("data.target", store));
    for (key, store) in [("data", &stores.input)].into_iter().chain(target) {
        let signs = match Signs::cached(store.as_ref()) {
            Ok(signs) => signs,
            // The run says it again when it comes to the row.
            Err(error) => {
                note!("note: {key}: nothing is foretold: {error}");
                continue;
            }
        };
        note!(
            "{key}: gamma {}, {} massive rows with {:.1} % of all squares, {} duplicate rows",
            number(signs.gamma_without_massive),
            signs.n_massive_rows,
            100.0 * signs.massive_share,
            signs.n_duplicate_rows
        );
        for advice in signs.advice().iter().filter(|advice| !heeds(config, advice.remedy)) {
            note!("warning: {key}: {advice}");
        }
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or("none".to_owned(), |value| format!("{value:.3}"))
}
