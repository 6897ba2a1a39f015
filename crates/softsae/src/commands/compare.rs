//! `softsae compare`: how far two SAEs share their features.

use std::path::Path;

use sae_config::{Comparison, SharedFeatures};
use sae_data::{ActivationStore, Port, open_store};
use sae_eval::{ActiveFeatures, EvaluateOptions, observe};
use sae_models::{Role, Sae, load_checkpoint};
use sae_train::origin;
use tch::Device;

use super::{Differences, check_apart, check_dimension, locked_file};
use crate::cli::CompareArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::say;
use crate::progress::Progress;

pub(crate) fn run(args: &CompareArgs) -> Result<(), Failure> {
    let checkpoints = [args.first.as_path(), args.second.as_path()];
    if let Some(out) = &args.out {
        let inputs: Vec<&Path> = checkpoints.into_iter().chain(args.data.as_deref()).collect();
        check_apart(out, &inputs)?;
    }
    let mut saes = Vec::new();
    for path in checkpoints {
        saes.push(load_checkpoint(path, Device::Cpu).or_usage()?);
    }
    check_alike(args, &saes)?;
    let store = args.data.as_deref().map(open_store).transpose().or_usage()?;
    if let (Some(store), Some(data)) = (&store, &args.data) {
        let place = origin(&Port::of_store(store.as_ref())).or_usage()?;
        for (sae, checkpoint) in saes.iter().zip(checkpoints) {
            check_dimension(sae, store.as_ref(), data)?;
            let against = format!("{}: against {}", data.display(), checkpoint.display());
            Differences::find(&sae.trained_on, &place, &against, args.elsewhere)?;
        }
    }
    let _lock = args.out.as_deref().map(locked_file).transpose()?;
    let mut kept = Vec::new();
    for sae in &saes {
        kept.push(match &store {
            Some(store) => active(sae, store.as_ref())?,
            None => (0..sae.config().n_features).collect(),
        });
    }
    let decoders = [0, 1].map(|i| &saes[i].parameters[Role::DecoderWeight]);
    let comparison = sae_eval::compare(decoders, [&kept[0], &kept[1]]).or_run()?;
    describe(&comparison);
    if let Some(out) = &args.out {
        sae_config::write_json(out, &comparison).or_run()?;
    }
    Ok(())
}

/// Refuses models that are not of the same activations.
fn check_alike(args: &CompareArgs, saes: &[Sae]) -> Result<(), Failure> {
    let [first, second] = [0, 1].map(|i| saes[i].config());
    if first.output_dimension() != second.output_dimension() {
        return Err(Failure::usage(anyhow::anyhow!(
            "{}: expected features of dimension {} as those of {}, got {}",
            args.second.display(),
            first.output_dimension(),
            args.first.display(),
            second.output_dimension()
        )));
    }
    if args.data.is_some() && (first.is_transcoder() || second.is_transcoder()) {
        let message = "--data: expected two SAEs; of transcoders all features are compared";
        return Err(Failure::usage(anyhow::anyhow!(message)));
    }
    let between = format!("{} against {}", args.second.display(), args.first.display());
    Differences::find(&saes[0].trained_on, &saes[1].trained_on, &between, args.elsewhere).map(drop)
}

/// The features that are active on a row of the store.
fn active(sae: &Sae, store: &dyn ActivationStore) -> Result<Vec<usize>, Failure> {
    let mut observer = ActiveFeatures::new(sae.config().n_features);
    let mut progress = Progress::new("encode", "rows", store.n_rows());
    let report = &mut |done, _| progress.at(done, String::new);
    observe(sae, store, EvaluateOptions::default(), &mut [&mut observer], report).or_run()?;
    Ok(observer.finish())
}

fn describe(comparison: &Comparison) {
    let Comparison { n_features: [first, second], scores, floor, fates, .. } = comparison;
    say!("features                    {first} and {second}");
    say!("                            these two   random directions");
    let line = |name: &str, of: fn(&SharedFeatures) -> f64| {
        say!("{name:<27} {:<11.4} {:.4}", of(scores), of(floor));
    };
    line("PW-MCC", |s| s.pw_mcc);
    line("pairs with cosine ≥ 0.7", |s| s.shared);
    line("mean max cosine, first", |s| s.mean_max_cosine[0]);
    line("mean max cosine, second", |s| s.mean_max_cosine[1]);
    let which = if second < first { "second" } else { "first" };
    say!(
        "features of the {which}: {} kept, {} split, {} changed, {} lost",
        fates.kept,
        fates.split,
        fates.changed,
        fates.lost
    );
}
