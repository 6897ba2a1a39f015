//! The checkpoints of `--against`, and how far they have found the same features.

use std::path::Path;

use sae_config::Scores;
use sae_data::ActivationStore;
use sae_eval::{ActiveFeatures, compare, stability_scores};
use sae_models::{Role, Sae, load_checkpoint};

use super::{observe_one, twice};
use crate::cli::EvalArgs;
use crate::commands::Differences;
use crate::failure::{Blame as _, Failure};

/// Opens them; each has to be another than the SAE and the others.
pub(super) fn open(
    args: &EvalArgs,
    sae: &Sae,
    found: &mut Differences,
) -> Result<Vec<Sae>, Failure> {
    let mut all: Vec<Sae> = Vec::new();
    for path in &args.against {
        let other = open_one(path, sae, args, found)?;
        if all.iter().chain([sae]).any(|of| has_same_decoder(of, &other)) {
            return Err(twice("--against", path));
        }
        all.push(other);
    }
    Ok(all)
}

/// The comparisons with them, of the features that are active on the store.
pub(super) fn scores(
    sae: &Sae,
    against: &[Sae],
    store: &dyn ActivationStore,
) -> Result<Scores, Failure> {
    let kept = active(sae, store)?;
    let decoder = &sae.parameters[Role::DecoderWeight];
    let mut comparisons = Vec::new();
    for other in against {
        let of_other = active(other, store)?;
        let others = &other.parameters[Role::DecoderWeight];
        comparisons.push(compare([decoder, others], [&kept, &of_other]).or_run()?);
    }
    Ok(stability_scores(&comparisons))
}

fn has_same_decoder(a: &Sae, b: &Sae) -> bool {
    let [a, b] = [a, b].map(|sae| &sae.parameters[Role::DecoderWeight]);
    a.size() == b.size() && a.kind() == b.kind() && a.equal(b)
}

fn open_one(
    path: &Path,
    sae: &Sae,
    args: &EvalArgs,
    found: &mut Differences,
) -> Result<Sae, Failure> {
    let other = load_checkpoint(path, sae.device()).or_usage()?;
    if other.config().is_transcoder() || other.config().d_model != sae.config().d_model {
        let (expected, path) = (sae.config().d_model, path.display());
        return Err(Failure::usage(anyhow::anyhow!(
            "--against {path}: expected an SAE of activations of dimension {expected}"
        )));
    }
    let source = format!("--against {}: against the model", path.display());
    found.add(Differences::find(&sae.trained_on, &other.trained_on, &source, args.elsewhere)?);
    Ok(other)
}

/// The features that are active on a row of the store.
fn active(sae: &Sae, store: &dyn ActivationStore) -> Result<Vec<usize>, Failure> {
    let mut observer = ActiveFeatures::new(sae.config().n_features);
    observe_one("active features", sae, store, &mut observer)?;
    Ok(observer.finish())
}
