//! Where the rows of feature pages come from: a store, or a host that reads documents.

use std::path::Path;
use std::sync::Arc;

use sae_config::CorpusConfig;
use sae_data::{ActivationStore, Port, open_store};
use sae_eval::{DescribeOptions, EvaluateOptions, FeatureDescriber, FeatureObserver, observe_from};
use sae_hosts::corpus;
use sae_hosts::{Bos, Cut, HarvestOptions, HookPoint, HostModel, HostRows};
use sae_models::{Sae, TrainedOn};
use sae_train::{origin, origin_of};

use super::super::check_dimension;
use crate::cli::LiveArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::note;
use crate::progress::Progress;

/// Rows to encode.
pub(super) enum Source {
    /// Those of a store.
    Store(Arc<dyn ActivationStore>),
    /// Those of a host, kept nowhere.
    Live(Box<HostRows<'static>>),
}

impl Source {
    /// The rows of a store for a model.
    pub(super) fn store(path: &Path, sae: &Sae) -> Result<Self, Failure> {
        let store = open_store(path).or_usage()?;
        check_dimension(sae, store.as_ref(), path)?;
        Ok(Self::Store(store))
    }

    /// The rows of a host, cut as those that the model was trained on.
    pub(super) fn live(
        args: &LiveArgs,
        host: &HostModel,
        of_model: &TrainedOn,
    ) -> Result<Self, Failure> {
        let hook = args.hook.as_ref().or(of_model.hook_point.as_ref()).ok_or_else(|| {
            let expected = "a hook point, as the checkpoint names none";
            Failure::usage(anyhow::anyhow!("--hook: expected {expected}, got none"))
        })?;
        let hook: HookPoint = hook.parse().or_usage()?;
        let options = options(args, host, of_model)?;
        let tokenizer = host.tokenizer().or_usage()?;
        let prepend = options.bos.resolve(tokenizer).or_usage()?;
        let length = options.context_length;
        let corpus = corpus_of(args);
        let cut = Cut::of_corpus(length, prepend, &corpus, tokenizer).or_usage()?;
        let documents = corpus::open(&corpus, tokenizer).or_usage()?;
        let rows = HostRows::new(host, documents, cut, hook, &options).or_usage()?;
        Ok(Self::Live(Box::new(rows)))
    }

    /// Where the rows are of.
    pub(super) fn origin(&self) -> Result<TrainedOn, Failure> {
        match self {
            Self::Store(store) => origin(&Port::of_store(store.as_ref())).or_usage(),
            Self::Live(rows) => Ok(origin_of(rows.provenance())),
        }
    }

    /// A hash of all that decides the rows.
    pub(super) fn hash(&self) -> Result<String, Failure> {
        match self {
            Self::Store(store) => store.content_hash().or_run(),
            Self::Live(rows) => Ok(rows.identity()),
        }
    }

    /// The store, if it is one.
    pub(super) fn as_store(&self) -> Option<&dyn ActivationStore> {
        match self {
            Self::Store(store) => Some(&**store),
            Self::Live(_) => None,
        }
    }

    /// Whether rows are of images.
    pub(super) fn is_of_images(&self) -> bool {
        let provenance = self.as_store().and_then(|store| store.provenance());
        provenance.is_some_and(|of| !of.image_names.is_empty())
    }

    /// Encodes the rows, from where a process that was killed has saved its codes; `host` is the one
    /// that reads, `head` the one that gives logits.
    pub(super) fn pass<'a>(
        &mut self,
        sae: &Sae,
        host: Option<&HostModel>,
        head: Option<&'a HostModel>,
        scratch: &Path,
        options: DescribeOptions,
    ) -> Result<FeatureDescriber<'a>, Failure> {
        let n_features = sae.config().n_features;
        let resumed = |observer: &FeatureObserver| {
            if observer.n_rows() > 0 {
                note!("going on after {} rows", observer.n_rows());
            }
        };
        match (self, host) {
            (Self::Live(rows), Some(host)) => {
                let mut observer = FeatureObserver::open_live(n_features, scratch).or_run()?;
                resumed(&observer);
                let mut progress = Progress::new("encode", "rows", 0);
                let report = &mut |rows: &HostRows<'_>, n_done| {
                    let (share, skipped) = rows.progress();
                    let skipped = match skipped.count {
                        0 => String::new(),
                        n => format!(", {n} damaged left out"),
                    };
                    progress
                        .at(n_done, || format!("{:.0} % of the documents{skipped}", 100.0 * share));
                };
                let all = EvaluateOptions::default();
                observer.observe_host(sae, host, rows, all, report).or_run()?;
                observer.finish_live(sae, head, options).or_run()
            }
            (Self::Live(_), None) => {
                Err(Failure::usage(anyhow::anyhow!("--host: expected a host that reads, got none")))
            }
            (Self::Store(store), _) => {
                let mut observer = FeatureObserver::open(n_features, scratch).or_run()?;
                resumed(&observer);
                let mut progress = Progress::new("encode", "rows", store.n_rows());
                let report = &mut |done, _| progress.at(done, String::new);
                let (first, all) = (observer.n_rows(), EvaluateOptions::default());
                observe_from(first, sae, &**store, all, &mut [&mut observer], report).or_run()?;
                observer.finish(sae, &**store, head, options).or_run()
            }
        }
    }
}

/// As the model was trained, as far as it says so; else as a harvest does by default.
fn options(
    args: &LiveArgs,
    host: &HostModel,
    of_model: &TrainedOn,
) -> Result<HarvestOptions, Failure> {
    let trained = of_model.context_length.as_ref().and_then(|length| length.parse().ok());
    let length = args.context_length.or(trained).unwrap_or(host.info().context_length());
    let bos = of_model.bos.as_deref().map_or(Ok(Bos::Auto), |bos| match bos {
        "none" => Ok(Bos::Never),
        id => id.parse().map(Bos::Token),
    });
    let bos = bos.unwrap_or(Bos::Auto);
    let special_tokens = of_model.special_tokens.as_ref().and_then(|what| what.parse().ok());
    Ok(HarvestOptions {
        context_length: length,
        skip_positions: args.skip_positions,
        bos,
        special_tokens: special_tokens.unwrap_or_default(),
        ..HarvestOptions::default()
    })
}

fn corpus_of(args: &LiveArgs) -> CorpusConfig {
    CorpusConfig {
        path: args.corpus.clone(),
        files: args.files.clone(),
        format: args.format.map(Into::into),
        field: args.field.clone(),
        split: args.split.map(Into::into),
        max_tokens: args.total_tokens,
        ..CorpusConfig::default()
    }
}
