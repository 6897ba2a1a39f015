//! Where the rows of feature pages come from: a store, or a host that reads documents.

use std::path::Path;
use std::sync::Arc;

use sae_data::{ActivationStore, Port, open_store};
use sae_eval::{
    DescribeOptions, Error, EvaluateOptions, FeatureDescriber, FeatureObserver, Observer,
    observe_from,
};
use sae_hosts::corpus;
use sae_hosts::{Bos, Cut, HarvestOptions, HookPoint, HostModel, HostRows, SpecialTokens};
use sae_models::{Sae, TrainedOn};
use sae_train::{origin, origin_of};

use super::super::{check_dimension, is_input, of_store};
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
        let corpus = args.documents.config().ok_or_else(|| {
            Failure::usage(anyhow::anyhow!("--corpus: expected documents, got none"))
        })?;
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

    /// Damaged files and documents that were left out.
    pub(super) fn n_skipped(&self) -> u64 {
        match self {
            Self::Store(_) => 0,
            Self::Live(rows) => rows.progress().1.count,
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
                observer.observe_host(sae, host, rows, all, report).map_err(failure)?;
                let (_, skipped) = rows.progress();
                skipped.examples.iter().for_each(|one| note!("left out: {one}"));
                observer.finish_live(sae, head, options).map_err(failure)
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
                let observers: &mut [&mut dyn Observer] = &mut [&mut observer];
                observe_from(first, sae, &**store, all, observers, report).map_err(failure)?;
                observer.finish(sae, &**store, head, options).map_err(failure)
            }
        }
    }
}

/// As the arguments say, else as the model was trained; of one that does not say, as a harvest does by
/// default.
fn options(
    args: &LiveArgs,
    host: &HostModel,
    of_model: &TrainedOn,
) -> Result<HarvestOptions, Failure> {
    let TrainedOn { context_length, bos, special_tokens, .. } = of_model;
    // Harvests of earlier versions had no leading token and kept special tokens.
    let is_earlier = context_length.is_some() && bos.is_none();
    let length =
        given(args.context_length, "--context-length", context_length, |text| text.parse().ok())?;
    let bos = given(args.bos.map(Bos::from), "--bos", bos, |text| match text {
        "none" => Some(Bos::Never),
        id => id.parse().ok().map(Bos::Token),
    })?;
    let special_tokens = given(
        args.special_tokens.map(SpecialTokens::from),
        "--special-tokens",
        special_tokens,
        |text| text.parse().ok(),
    )?;
    Ok(HarvestOptions {
        context_length: length.unwrap_or(host.info().context_length()),
        skip_positions: args.skip_positions,
        bos: bos.unwrap_or(if is_earlier { Bos::Never } else { Bos::Auto }),
        special_tokens: special_tokens.unwrap_or(match is_earlier {
            true => SpecialTokens::Kept,
            false => SpecialTokens::default(),
        }),
        ..HarvestOptions::default()
    })
}

/// What an argument says, else what the model was trained with; of a model of several stores that may
/// be several things, of which one has to be chosen.
fn given<T>(
    argument: Option<T>,
    name: &str,
    trained: &Option<String>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Failure> {
    match (argument, trained) {
        (None, Some(text)) => match parse(text) {
            Some(value) => Ok(Some(value)),
            None => {
                let expected = "it to be given, as the checkpoint was not trained with one value";
                let error = anyhow::anyhow!("{name}: expected {expected}, got `{text}`");
                Err(Failure::usage(error))
            }
        },
        (argument, _) => Ok(argument),
    }
}

/// Whose failure an error of a pass is: documents and stores that cannot be read are bad input.
fn failure(error: Error) -> Failure {
    match error {
        Error::Host(error) if is_input(&error) => Failure::usage(error),
        Error::Data(error) => of_store(error),
        Error::Dimension { .. } | Error::Empty { .. } => Failure::usage(error),
        other => Failure::run(other),
    }
}
