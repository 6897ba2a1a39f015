//! The host on text or images with reconstructions spliced in.

use std::path::Path;

use sae_config::{CrossEntropy, Evaluation, Scores, Suite};
use sae_data::ActivationStore;
use sae_eval::{CrossEntropyOptions, cross_entropy};
use sae_hosts::{
    Bos, HookPoint, HostInput, HostModel, HostTokenizer, SpecialTokens, Text, host_provenance,
};
use sae_models::{Sae, TrainedOn};
use sae_train::origin_of;

use super::images::SplicedImages;
use super::interventions::{self, Letters};
use crate::cli::EvalArgs;
use crate::commands::{Differences, read_texts};
use crate::failure::{Blame as _, Failure};
use crate::output::note;
use crate::progress::Progress;

/// A host, a hook point, and what the host reads.
pub(super) struct Spliced {
    host: HostModel,
    hook: HookPoint,
    reads: Reads,
}

/// What the host reads, and how.
enum Reads {
    Texts(Vec<Text>, CrossEntropyOptions, Letters),
    Images(Box<SplicedImages>),
}

impl Spliced {
    pub(super) fn open(
        args: &EvalArgs,
        host: &Path,
        store: &dyn ActivationStore,
        device: tch::Device,
    ) -> Result<Self, Failure> {
        let harvested_at = store.provenance().map(|p| p.hook_point.clone());
        let hook = args.hook.clone().or(harvested_at).ok_or_else(|| {
            Failure::usage(anyhow::anyhow!(
                "--hook: expected the hook point of the activations, which {} does not say",
                args.data.display()
            ))
        })?;
        let hook = hook.parse::<HookPoint>().or_usage()?;
        let host = HostModel::load(host, device).or_usage()?;
        let reads = match &args.images {
            Some(folder) => {
                Reads::Images(Box::new(SplicedImages::open(args, folder, &host, store)?))
            }
            None => {
                let reading = reading(args, &host, store)?;
                Reads::Texts(read_texts(&args.text)?, reading, Letters::default())
            }
        };
        Ok(Self { host, hook, reads })
    }

    /// In what host and hook point differ from those of the model, or where these are not known
    /// from those of the store.
    pub(super) fn differences(
        &self,
        args: &EvalArgs,
        host: &Path,
        of_model: &TrainedOn,
        of_store: &TrainedOn,
    ) -> Result<Differences, Failure> {
        let here = origin_of(&host_provenance(&self.host, self.hook).or_usage()?);
        let mut found = Differences::default();
        for (of, name) in [(of_model, "the model"), (of_store, "the store")] {
            let splice = format!("--host {}, --hook {}", host.display(), self.hook);
            let source = format!("{splice}: against {name}");
            found.add(Differences::find(of, &here, &source, args.elsewhere)?);
        }
        Ok(found)
    }

    /// The tokenizer of the host, where it reads texts.
    pub(super) fn tokenizer(&self) -> Result<Option<&HostTokenizer>, Failure> {
        match self.reads {
            Reads::Texts(..) => self.host.tokenizer().map(Some).or_usage(),
            Reads::Images(_) => Ok(None),
        }
    }

    /// Measures, and adds what was found to an evaluation, with the suites that are wanted.
    pub(super) fn measure(
        &self,
        sae: &Sae,
        wants: impl Fn(Suite) -> bool,
        evaluation: &mut Evaluation,
    ) -> Result<(), Failure> {
        match &self.reads {
            Reads::Texts(texts, options, letters) if wants(Suite::Interventions) => {
                let place = (&self.host, self.hook);
                interventions::measure(sae, place, texts, *options, letters, evaluation)?;
            }
            Reads::Texts(texts, options, _) => {
                evaluation.cross_entropy = Some(self.on_texts(sae, texts, *options)?);
            }
            Reads::Images(images) => {
                evaluation.images = Some(images.measure(sae, &self.host, self.hook)?);
                if wants(Suite::Vision) {
                    images.add_vision(sae, &self.host, self.hook, evaluation)?;
                }
            }
        }
        Ok(())
    }

    /// The scores of worthless dictionaries in the suite that the host reads for.
    pub(super) fn floors(&self, others: &[&Sae]) -> Result<Vec<Scores>, Failure> {
        let place = (&self.host, self.hook);
        match &self.reads {
            Reads::Texts(texts, options, letters) => {
                interventions::floors(others, place, texts, *options, letters)
            }
            Reads::Images(images) => images.floors(others, place),
        }
    }

    /// What tells the host and what it reads from others.
    pub(super) fn identity(&self) -> Result<String, Failure> {
        let of_host = host_provenance(&self.host, self.hook).or_usage()?;
        let read = match &self.reads {
            Reads::Texts(texts, options, _) => {
                let mut hasher = blake3::Hasher::new();
                for text in texts {
                    hasher.update(blake3::hash(text.content.as_bytes()).as_bytes());
                }
                format!("{} {options:?}", hasher.finalize())
            }
            Reads::Images(images) => images.identity(self.hook)?,
        };
        Ok(format!("{:?} {} {read}", of_host.host_hash, self.hook))
    }

    /// Whether the host reads what a suite needs.
    pub(super) fn can(&self, suite: Suite) -> bool {
        match &self.reads {
            Reads::Texts(..) => suite == Suite::Interventions,
            Reads::Images(_) => suite == Suite::Vision,
        }
    }

    fn on_texts(
        &self,
        sae: &Sae,
        texts: &[Text],
        options: CrossEntropyOptions,
    ) -> Result<CrossEntropy, Failure> {
        let texts: Vec<&str> = texts.iter().map(|text| text.content.as_str()).collect();
        let mut progress = None;
        let mut report = |done, total| {
            let progress =
                progress.get_or_insert_with(|| Progress::new("splice", "contexts", total));
            progress.at(done, String::new);
        };
        cross_entropy(sae, &self.host, self.hook, &texts, options, &mut report).or_run()
    }
}

/// How a store was harvested, as far as it says.
struct Harvested {
    context_length: Option<usize>,
    skip_positions: Option<usize>,
    bos: Option<Bos>,
    special_tokens: Option<SpecialTokens>,
}

impl Harvested {
    fn read(args: &EvalArgs, store: &dyn ActivationStore) -> Result<Self, Failure> {
        let provenance = store.provenance();
        // Stores of earlier versions had no leading token and kept special tokens.
        let is_earlier = provenance.is_some_and(|p| {
            p.settings.contains_key("context_length") && !p.settings.contains_key("bos")
        });
        let of_store = |key: &str| provenance.and_then(|p| p.settings.get(key)).map(String::as_str);
        let number = |key: &str| -> Result<Option<usize>, Failure> {
            let wrong = |e| anyhow::anyhow!("{}: {key} of the store: {e}", args.data.display());
            of_store(key).map(|text| text.parse::<usize>().map_err(wrong)).transpose().or_usage()
        };
        let context_length = number("context_length")?;
        let skip_positions = number("skip_positions")?;
        let bos = match of_store("bos") {
            Some("none") => Some(Bos::Never),
            Some(id) => {
                let wrong = |e| anyhow::anyhow!("{}: bos of the store: {e}", args.data.display());
                Some(Bos::Token(id.parse().map_err(wrong).or_usage()?))
            }
            None => is_earlier.then_some(Bos::Never),
        };
        let special_tokens = match of_store("special_tokens") {
            Some(text) => Some(text.parse::<SpecialTokens>().or_usage()?),
            None => is_earlier.then_some(SpecialTokens::Kept),
        };
        Ok(Self { context_length, skip_positions, bos, special_tokens })
    }
}

/// How the host reads: as the store was harvested, but for what the arguments say.
fn reading(
    args: &EvalArgs,
    host: &HostModel,
    store: &dyn ActivationStore,
) -> Result<CrossEntropyOptions, Failure> {
    let harvested = Harvested::read(args, store)?;
    let options = CrossEntropyOptions {
        context_length: args
            .context_length
            .or(harvested.context_length)
            .unwrap_or(host.info().context_length()),
        skip_positions: args.skip_positions.or(harvested.skip_positions).unwrap_or(1),
        bos: args.bos.map(Bos::from).or(harvested.bos).unwrap_or_default(),
        special_tokens: args
            .special_tokens
            .map(SpecialTokens::from)
            .or(harvested.special_tokens)
            .unwrap_or_default(),
        max_tokens: args.max_tokens,
        ..CrossEntropyOptions::default()
    };
    note_differences(&options, &harvested, host)?;
    if let HostInput::Tokens { max_positions, .. } = host.info().input
        && options.context_length > max_positions
    {
        let got = options.context_length;
        return Err(Failure::usage(anyhow::anyhow!(
            "--context-length: expected at most {max_positions}, the host's positions, got {got}"
        )));
    }
    Ok(options)
}

/// Says on standard error in what the host reads otherwise than the store was harvested.
fn note_differences(
    options: &CrossEntropyOptions,
    harvested: &Harvested,
    host: &HostModel,
) -> Result<(), Failure> {
    // What leads the contexts is compared as a token: `auto` may be what the store says.
    let tokenizer = host.tokenizer().or_usage()?;
    let lead = options.bos.resolve(tokenizer).or_usage()?;
    let text = |lead: Option<u32>| lead.map_or("none".to_owned(), |id| id.to_string());
    let bos = match harvested.bos {
        Some(Bos::Token(id)) => Some(text(Some(id))),
        Some(_) => Some(text(None)),
        None => None,
    };
    for (flag, used, harvested) in [
        (
            "--context-length",
            options.context_length.to_string(),
            harvested.context_length.map(|n| n.to_string()),
        ),
        (
            "--skip-positions",
            options.skip_positions.to_string(),
            harvested.skip_positions.map(|n| n.to_string()),
        ),
        ("--bos", text(lead), bos),
        (
            "--special-tokens",
            options.special_tokens.to_string(),
            harvested.special_tokens.map(|s| s.to_string()),
        ),
    ] {
        if let Some(harvested) = harvested.filter(|harvested| *harvested != used) {
            note!("note: {flag}: {used}, but the store was harvested with {harvested}");
        }
    }
    Ok(())
}
