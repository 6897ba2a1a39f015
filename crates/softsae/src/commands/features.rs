//! `softsae features`: pages of what every feature is active on.

mod export;

use std::path::Path;

use sae_config::FeatureSet;
use sae_data::{ActivationStore, OutputLock, Port, open_store};
use sae_eval::{DescribeOptions, EvaluateOptions, FeatureDescriber, FeatureObserver, observe};
use sae_hosts::{HookKind, HookPoint, HostInput, HostModel, host_provenance};
use sae_models::{Sae, TrainedOn, checkpoint_hash, load_checkpoint};
use sae_report::{FeaturePages, Vocabulary};
use sae_train::{origin, origin_of};

use super::{Differences, check_apart, check_dimension, device, locked};
use crate::cli::{FeaturesArgs, FeaturesCommand, PagesArgs};
use crate::failure::{Blame as _, Failure};
use crate::output::{note, say};
use crate::progress::Progress;

pub(crate) fn run(args: &FeaturesArgs) -> Result<(), Failure> {
    match (&args.command, &args.pages) {
        (Some(FeaturesCommand::Export(args)), _) => export::run(args),
        (None, Some(args)) => pages(args),
        // Not reached: without a subcommand clap asks for the checkpoint.
        (None, None) => Err(Failure::usage(anyhow::anyhow!("expected a checkpoint, got none"))),
    }
}

fn pages(args: &PagesArgs) -> Result<(), Failure> {
    let device = device(&args.device)?;
    let inputs = [args.checkpoint.as_path(), &args.data].into_iter().chain(args.host.as_deref());
    check_apart(&args.out, &inputs.collect::<Vec<_>>())?;
    let sae = load_checkpoint(&args.checkpoint, device).or_usage()?;
    if sae.config().is_transcoder() {
        let (checkpoint, got) = (args.checkpoint.display(), "a transcoder");
        return Err(Failure::usage(anyhow::anyhow!("{checkpoint}: expected an SAE, got {got}")));
    }
    let store = open_store(&args.data).or_usage()?;
    check_dimension(&sae, store.as_ref(), &args.data)?;
    let place = origin(&Port::of_store(store.as_ref())).or_usage()?;
    let of_model = &sae.trained_on;
    let data = format!("{}: against the model", args.data.display());
    let mut found = Differences::find(of_model, &place, &data, args.elsewhere)?;
    let host = match &args.host {
        Some(path) => {
            let host = Host::open(path, device, of_model, &place)?;
            found.add(host.differences(args, path, store.as_ref(), of_model, &place)?);
            Some(host)
        }
        None => None,
    };
    let vocabulary = host.as_ref().map(Host::vocabulary).transpose()?.unwrap_or_default();
    let _lock = locked(OutputLock::directory(&args.out))?;
    let mut pages = FeaturePages::create(&args.out, vocabulary).map_err(|error| match error {
        sae_report::Error::Occupied { .. } => Failure::usage(error),
        other => Failure::run(other),
    })?;
    let describer = pass(args, &sae, store.as_ref(), host.as_ref())?;
    let mut set = describe(&sae, describer, &mut pages)?;
    set.notes.extend(notes(&set, host.as_ref()));
    set.notes.extend(found.lines);
    set.checkpoint = args.checkpoint.display().to_string();
    set.checkpoint_hash = checkpoint_hash(&args.checkpoint).or_run()?;
    set.store = args.data.display().to_string();
    set.store_hash = store.content_hash().or_run()?;
    set.host = place.host.or(of_model.host.clone());
    set.hook_point = place.hook_point.or(of_model.hook_point.clone());
    (set.window, set.seed) = (args.window.into(), args.seed);
    set.notes.iter().for_each(|note| note!("note: {note}"));
    let page = pages.finish(&set).or_run()?;
    say!("{}", page.display());
    Ok(())
}

/// Encodes the store.
fn pass<'a>(
    args: &PagesArgs,
    sae: &Sae,
    store: &dyn ActivationStore,
    host: Option<&'a Host>,
) -> Result<FeatureDescriber<'a>, Failure> {
    let mut observer = FeatureObserver::new(sae.config().n_features, &args.out).or_run()?;
    let mut progress = Progress::new("encode", "rows", store.n_rows());
    let report = &mut |done, _| progress.at(done, String::new);
    observe(sae, store, EvaluateOptions::default(), &mut [&mut observer], report).or_run()?;
    let options = DescribeOptions { window: args.window.into(), seed: args.seed };
    let head = host.filter(|host| host.attributes.is_ok()).map(|host| &host.model);
    observer.finish(sae, store, head, options).or_run()
}

/// Writes what there is to say of each feature; gives what they have in common.
fn describe(
    sae: &Sae,
    mut describer: FeatureDescriber<'_>,
    pages: &mut FeaturePages,
) -> Result<FeatureSet, Failure> {
    let n_features = sae.config().n_features;
    let mut progress = Progress::new("describe", "features", n_features as u64);
    loop {
        let records = describer.next_features().or_run()?;
        let Some(last) = records.last().map(|record| record.feature) else { break };
        for record in records {
            pages.add(record).or_run()?;
        }
        progress.at(u64::from(last) + 1, String::new);
    }
    Ok(FeatureSet {
        architecture: sae.config().code.name().to_owned(),
        n_rows: describer.n_rows(),
        n_contexts: describer.n_contexts(),
        n_features,
        l0: describer.l0(),
        median_norm: describer.median_norm(),
        n_outlier_rows: describer.n_outlier_rows(),
        n_coactivation_rows: describer.n_coactivation_rows(),
        k_hat: describer.k_hat(),
        has_tokens: describer.has_tokens(),
        ..FeatureSet::default()
    })
}

/// What is missing or has to be known.
fn notes(set: &FeatureSet, host: Option<&Host>) -> Vec<String> {
    let mut notes = Vec::new();
    match host {
        None => notes.push("no --host: tokens are numbers, and no logits are shown".to_owned()),
        Some(Host { attributes: Err(reason), .. }) => notes.push(reason.clone()),
        Some(_) => {}
    }
    if !set.has_tokens {
        notes.push("the store has no token ids: contexts are row numbers".to_owned());
    }
    if set.n_coactivation_rows < set.n_rows {
        let (n, all) = (set.n_coactivation_rows, set.n_rows);
        notes.push(format!("co-activations are of a uniform sample of {n} of {all} rows"));
    }
    notes
}

/// The model whose activations are in the store.
struct Host {
    model: HostModel,
    hook: Option<HookPoint>,
    /// Whether decoder rows can be given to its head; else why not.
    attributes: Result<(), String>,
}

impl Host {
    fn open(
        path: &Path,
        device: tch::Device,
        of_model: &TrainedOn,
        of_store: &TrainedOn,
    ) -> Result<Self, Failure> {
        let model = HostModel::load(path, device).or_usage()?;
        if let HostInput::Images { .. } = model.info().input {
            return Err(Failure::usage(anyhow::anyhow!(
                "--host {}: expected a language model, got {}",
                path.display(),
                model.info().family
            )));
        }
        let name = of_store.hook_point.as_ref().or(of_model.hook_point.as_ref());
        let hook = name.and_then(|name| name.parse::<HookPoint>().ok());
        let attributes = match (hook, name) {
            (Some(hook), _) if model.is_of_residual_stream(hook) => Ok(()),
            (Some(hook), _) => Err(format!(
                "no logits are shown: the host changes what {hook} gives before it adds it"
            )),
            (None, Some(name)) => Err(format!("no logits are shown: unknown hook point `{name}`")),
            (None, None) => Err("no logits are shown: the hook point is not known".to_owned()),
        };
        Ok(Self { model, hook, attributes })
    }

    /// In what it differs from the host of the model and of the store.
    fn differences(
        &self,
        args: &PagesArgs,
        path: &Path,
        store: &dyn ActivationStore,
        of_model: &TrainedOn,
        of_store: &TrainedOn,
    ) -> Result<Differences, Failure> {
        let hook = self.hook.unwrap_or(HookPoint::new(HookKind::ResidPost, 0));
        // The hook point is that of the store; here only hosts are compared.
        let here = TrainedOn {
            hook_point: None,
            ..origin_of(&host_provenance(&self.model, hook).or_usage()?)
        };
        let mut found = Differences::default();
        for (of, name) in [(of_model, "the model"), (of_store, "the store")] {
            let source = format!("--host {}: against {name}", path.display());
            found.add(Differences::find(of, &here, &source, args.elsewhere)?);
        }
        let hash = self.model.tokenizer().or_usage()?.hash().or_usage()?;
        let known = store.provenances().into_iter().filter_map(|of| of.tokenizer_hash.as_ref());
        for expected in known.filter(|expected| **expected != hash) {
            let what = format!("tokenizer: expected the one of hash {expected}, got {hash}");
            if !args.elsewhere {
                return Err(Failure::usage(anyhow::anyhow!(
                    "--host {}: against the store: {what}; `--elsewhere` lets it pass",
                    path.display()
                )));
            }
            note!("warning: --host {}: against the store: {what}", path.display());
            found.add(Differences { elsewhere: true, lines: vec![what] });
        }
        Ok(found)
    }

    fn vocabulary(&self) -> Result<Vocabulary, Failure> {
        let tokenizer = self.model.tokenizer().or_usage()?;
        let HostInput::Tokens { vocabulary, .. } = self.model.info().input else {
            return Ok(Vocabulary::default());
        };
        let pieces = (0..vocabulary as u32).filter_map(|id| Some((id, tokenizer.piece(id)?)));
        let known = Vocabulary::new(pieces, tokenizer.special_ids());
        Ok(known.with_spelling(|id| tokenizer.token(id)))
    }
}
