//! `softsae eval`: fidelity and sparsity on a store, cross-entropy recovered on text, and what is
//! found of planted features.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sae_config::{CrossEntropy, Evaluation, GroundTruth};
use sae_data::{
    ActivationStore, OutputLock, PlantedTruth, Port, Ports, Selection, open_store, zip,
};
use sae_eval::{
    AllocationObserver, ComplexityObserver, CrossEntropyOptions, EvaluateOptions, Metrics,
    Observer, TruthObserver, cross_entropy, observe,
};
use sae_hosts::{Bos, HookPoint, HostInput, HostModel, SpecialTokens, Text, host_provenance};
use sae_models::{ModelConfig, Sae, TrainedOn, load_checkpoint};
use sae_train::{origin, origin_of};

use super::{Differences, check_apart, check_dimension, device, locked, read_texts};
use crate::cli::EvalArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::say;
use crate::progress::Progress;

pub(crate) fn run(args: &EvalArgs) -> Result<(), Failure> {
    let device = device(&args.device)?;
    if let Some(out) = &args.out {
        let texts = args.text.iter().map(PathBuf::as_path);
        let inputs = [args.checkpoint.as_path(), &args.data].into_iter();
        let others = args.host.as_deref().into_iter().chain(args.target.as_deref());
        let inputs: Vec<&Path> = inputs.chain(others).chain(texts).collect();
        check_apart(out, &inputs)?;
    }
    let sae = load_checkpoint(&args.checkpoint, device).or_usage()?;
    let store = open_store(&args.data).or_usage()?;
    check_dimension(sae.as_ref(), store.as_ref(), &args.data)?;
    let target = open_target(args, sae.config())?;
    let place = origin(&Port::of_store(store.as_ref())).or_usage()?;
    let of_model = &sae.base().trained_on;
    let data = format!("{}: against the model", args.data.display());
    let mut found = Differences::find(of_model, &place, &data, args.elsewhere)?;
    if let (Some(target), Some(path), Some(of_model)) = (&target, &args.target, &of_model.target) {
        let place = origin(&Port::of_store(target.as_ref())).or_usage()?;
        let source = format!("--target {}: against the model", path.display());
        found.add(Differences::find(of_model, &place, &source, args.elsewhere)?);
    }
    let spliced = match &args.host {
        Some(host) => {
            let spliced = Spliced::open(args, host, store.as_ref(), device)?;
            found.add(spliced.differences(args, host, of_model, &place)?);
            Some(spliced)
        }
        None => None,
    };
    let truth = match target.is_some() {
        // It is of what is encoded, not of what is rebuilt.
        true => None,
        false => PlantedTruth::find(&args.data).or_usage()?,
    };
    let whole = match target {
        Some(target) => zip(store, target).or_usage()?,
        None => store.into(),
    };
    let stores = if args.max_norm_ratio != 0.0 {
        if !(args.max_norm_ratio.is_finite() && args.max_norm_ratio > 1.0) {
            let got = args.max_norm_ratio;
            let error = anyhow::anyhow!("--max-norm-ratio: expected 0 or more than 1, got {got}");
            return Err(Failure::usage(error));
        }
        let kept = Selection::by_norm(Arc::clone(&whole.input), args.max_norm_ratio).or_usage()?;
        let of_target = |target| kept.of_same_rows(Arc::clone(target)).or_usage();
        let target = whole.target.as_ref().map(of_target).transpose()?;
        Ports { input: Arc::new(kept) as _, target: target.map(|target| Arc::new(target) as _) }
    } else {
        whole.clone()
    };
    let _lock = args.out.as_deref().map(|out| locked(OutputLock::file(out))).transpose()?;
    let mut evaluation = measure(sae.as_ref(), &stores, &whole, truth.as_ref())?;
    if let Some(spliced) = spliced {
        evaluation.cross_entropy = Some(spliced.measure(sae.as_ref())?);
    }
    (evaluation.elsewhere, evaluation.differences) = (found.elsewhere, found.lines);
    print(&evaluation);
    if let Some(out) = &args.out {
        sae_config::write_json(out, &evaluation).or_run()?;
    }
    Ok(())
}

/// The store that is encoded, and that of what a transcoder is to rebuild.
type Stores = Ports<Arc<dyn ActivationStore>>;

/// The store of `--target`, which a transcoder needs, and an SAE has not.
fn open_target(
    args: &EvalArgs,
    model: &ModelConfig,
) -> Result<Option<Arc<dyn ActivationStore>>, Failure> {
    let checkpoint = args.checkpoint.display();
    match (model.d_out, &args.target) {
        (None, None) => Ok(None),
        (Some(expected), Some(path)) => {
            let target = open_store(path).or_usage()?;
            let got = target.d_model();
            if got == expected {
                return Ok(Some(target));
            }
            Err(Failure::usage(anyhow::anyhow!(
                "--target {}: expected rows of dimension {expected} as the checkpoint has, got {got}",
                path.display()
            )))
        }
        (Some(_), None) if args.host.is_some() => Err(Failure::usage(anyhow::anyhow!(
            "--host: expected an SAE, whose output takes the place of its input: {checkpoint} is a \
             transcoder"
        ))),
        (Some(_), None) => Err(Failure::usage(anyhow::anyhow!(
            "--target: expected the store of what the transcoder {checkpoint} is to rebuild, got none"
        ))),
        (None, Some(path)) => Err(Failure::usage(anyhow::anyhow!(
            "--target: expected none: {checkpoint} rebuilds its input, got {}",
            path.display()
        ))),
    }
}

/// Fidelity, sparsity, allocation and complexity on `stores`, and where there is a truth what is found
/// of it, in one pass.
///
/// The truth is of all rows, `whole`: a filter of `stores` takes it a pass of its own.
fn measure(
    sae: &dyn Sae,
    stores: &Stores,
    whole: &Stores,
    truth: Option<&PlantedTruth>,
) -> Result<Evaluation, Failure> {
    let mut metrics = Metrics::new(sae.config().output_dimension(), sae.config().n_features);
    let mut allocation = AllocationObserver::new(sae);
    let mut complexity = ComplexityObserver::new(stores.input.n_rows());
    let mut found =
        truth.map(|truth| TruthObserver::new(sae, &*whole.input, truth)).transpose().or_run()?;
    let is_whole = stores.input.n_rows() == whole.input.n_rows();
    let mut observers: Vec<&mut dyn Observer> =
        vec![&mut metrics, &mut allocation, &mut complexity];
    if let Some(found) = found.as_mut().filter(|_| is_whole) {
        observers.push(found);
    }
    pass("eval", sae, stores, &mut observers)?;
    if let Some(found) = found.as_mut().filter(|_| !is_whole) {
        pass("ground truth", sae, whole, &mut [found])?;
    }
    let mut evaluation = metrics.finish().or_run()?;
    evaluation.allocation = allocation.finish(evaluation.sparsity.l0_mean).or_run()?;
    evaluation.complexity = complexity.finish().or_run()?;
    evaluation.ground_truth = found.map(|found| found.finish()).transpose().or_run()?;
    Ok(evaluation)
}

fn pass(
    name: &'static str,
    sae: &dyn Sae,
    stores: &Stores,
    observers: &mut [&mut dyn Observer],
) -> Result<(), Failure> {
    let mut progress = Progress::new(name, "rows", stores.input.n_rows());
    let stores = stores.as_ref().map(|store| &**store);
    let report = &mut |done, _| progress.at(done, String::new);
    observe(sae, stores, EvaluateOptions::default(), observers, report).or_run()
}

/// The host, hook and text of a measurement of cross-entropy.
struct Spliced {
    host: HostModel,
    hook: HookPoint,
    texts: Vec<Text>,
    options: CrossEntropyOptions,
}

impl Spliced {
    fn open(
        args: &EvalArgs,
        host: &std::path::Path,
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
        let host = HostModel::load(host, device).or_usage()?;
        let options = reading(args, &host, store)?;
        Ok(Self {
            host,
            hook: hook.parse::<HookPoint>().or_usage()?,
            texts: read_texts(&args.text)?,
            options,
        })
    }

    /// In what host and hook point differ from those of the model, or where these are not known
    /// from those of the store.
    fn differences(
        &self,
        args: &EvalArgs,
        host: &std::path::Path,
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

    fn measure(&self, sae: &dyn Sae) -> Result<CrossEntropy, Failure> {
        let texts: Vec<&str> = self.texts.iter().map(|text| text.content.as_str()).collect();
        let mut progress = None;
        let mut report = |done, total| {
            let progress =
                progress.get_or_insert_with(|| Progress::new("splice", "contexts", total));
            progress.at(done, String::new);
        };
        cross_entropy(sae, &self.host, self.hook, &texts, self.options, &mut report).or_run()
    }
}

/// How the host reads: as the store was harvested, but for what the arguments say.
fn reading(
    args: &EvalArgs,
    host: &HostModel,
    store: &dyn ActivationStore,
) -> Result<CrossEntropyOptions, Failure> {
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
    let length = number("context_length")?;
    let skip = number("skip_positions")?;
    let bos = match of_store("bos") {
        Some("none") => Some(Bos::Never),
        Some(id) => {
            let wrong = |e| anyhow::anyhow!("{}: bos of the store: {e}", args.data.display());
            Some(Bos::Token(id.parse().map_err(wrong).or_usage()?))
        }
        None => is_earlier.then_some(Bos::Never),
    };
    let special = match of_store("special_tokens") {
        Some(text) => Some(text.parse::<SpecialTokens>().or_usage()?),
        None => is_earlier.then_some(SpecialTokens::Kept),
    };
    let options = CrossEntropyOptions {
        context_length: args.context_length.or(length).unwrap_or(host.info().context_length()),
        skip_positions: args.skip_positions.or(skip).unwrap_or(1),
        bos: args.bos.map(Bos::from).or(bos).unwrap_or_default(),
        special_tokens: args
            .special_tokens
            .map(SpecialTokens::from)
            .or(special)
            .unwrap_or_default(),
        max_tokens: args.max_tokens,
        ..CrossEntropyOptions::default()
    };
    // What leads the contexts is compared as a token: `auto` may be what the store says.
    let tokenizer = host.tokenizer().or_usage()?;
    let lead = options.bos.resolve(tokenizer).or_usage()?;
    let text = |lead: Option<u32>| lead.map_or("none".to_owned(), |id| id.to_string());
    let harvested = match bos {
        Some(Bos::Token(id)) => Some(text(Some(id))),
        Some(_) => Some(text(None)),
        None => None,
    };
    for (flag, used, harvested) in [
        ("--context-length", options.context_length.to_string(), length.map(|n| n.to_string())),
        ("--skip-positions", options.skip_positions.to_string(), skip.map(|n| n.to_string())),
        ("--bos", text(lead), harvested),
        ("--special-tokens", options.special_tokens.to_string(), special.map(|s| s.to_string())),
    ] {
        if let Some(harvested) = harvested.filter(|harvested| *harvested != used) {
            eprintln!("note: {flag}: {used}, but the store was harvested with {harvested}");
        }
    }
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

fn print(evaluation: &Evaluation) {
    let (fidelity, sparsity) = (&evaluation.reconstruction, &evaluation.sparsity);
    if evaluation.elsewhere {
        say!("elsewhere       {}", evaluation.differences.join("; "));
    }
    say!("rows            {}", evaluation.n_rows);
    say!("R²              {:.4}", fidelity.r2);
    say!("FVE (official)  {:.4}", fidelity.frac_variance_explained);
    say!("cosine          {:.4}", fidelity.cosine);
    say!("norm ratio      {:.4}", fidelity.norm_ratio);
    say!("relative bias   {:.4}", fidelity.relative_bias);
    say!(
        "L0              {:.2} (sd {:.2}; 5/50/95 %: {:.0}/{:.0}/{:.0})",
        sparsity.l0_mean,
        sparsity.l0_sd,
        sparsity.l0_p5,
        sparsity.l0_p50,
        sparsity.l0_p95
    );
    say!("L1              {:.4}", sparsity.l1);
    say!("dead            {:.2} %", 100.0 * sparsity.dead_fraction);
    say!(
        "dense           {:.2} % above 1 %, {:.2} % above 10 %",
        100.0 * sparsity.dense_fraction_1e2,
        100.0 * sparsity.dense_fraction_1e1
    );
    if let Some(k_hat) = &evaluation.k_hat {
        say!(
            "k̂               {:.2} (sd {:.2}; {:.2} to {:.2})",
            k_hat.mean,
            k_hat.sd,
            k_hat.min,
            k_hat.max
        );
    }
    if let Some(of) = &evaluation.allocation {
        say!(
            "R² if shared out uniformly {:.4}, by a threshold {:.4}, at best {:.4} (sd {:.2})",
            of.r2_uniform,
            of.r2_threshold,
            of.r2_oracle,
            of.l0_sd_oracle
        );
    }
    if let Some(of) = &evaluation.complexity {
        say!(
            "dimension       {:.2} (TwoNN); Spearman of L0 and that of a row's neighbourhood {}",
            of.dimension,
            number(of.spearman_l0_dimension)
        );
    }
    if let Some(ce) = &evaluation.cross_entropy {
        say!(
            "cross-entropy   clean {:.4}, spliced {:.4}, zero {:.4} nats over {} tokens",
            ce.clean,
            ce.spliced,
            ce.zero,
            ce.n_tokens
        );
        say!("CE recovered    {:.4}", ce.ce_recovered);
        say!("KL recovered    {:.4}", ce.kl_recovered);
        say!(
            "L0 on the loss  Spearman {} of the next token, {} of the token itself",
            number(ce.spearman_l0_next_loss),
            number(ce.spearman_l0_own_loss)
        );
    }
    if let Some(truth) = &evaluation.ground_truth {
        print_truth(truth);
    }
}

fn print_truth(truth: &GroundTruth) {
    say!(
        "dictionary      {:.4} mean cosine, {:.2} % of {} features above 0.9",
        truth.mean_matched_cosine,
        100.0 * truth.recovered_above_0_9,
        truth.n_true_features
    );
    say!(
        "support         precision {:.4}, recall {:.4}",
        truth.support_precision,
        truth.support_recall
    );
    if let Some(latents) = &truth.latents {
        say!(
            "detectors       F1 {:.4}, precision {:.4}, recall {:.4}, MCC {:.4}, uniqueness {:.4}",
            latents.f1,
            latents.precision,
            latents.recall,
            latents.mcc,
            latents.uniqueness
        );
    }
    say!(
        "L0 on true k    Spearman {}, slope {}",
        number(truth.spearman_l0_true_l0),
        number(truth.slope_l0)
    );
    if truth.spearman_k_hat.or(truth.slope_k_hat).is_some() {
        say!(
            "k̂ on true k     Spearman {}, slope {}",
            number(truth.spearman_k_hat),
            number(truth.slope_k_hat)
        );
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or("none".to_owned(), |value| format!("{value:.4}"))
}
