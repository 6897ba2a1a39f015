//! `softsae eval`: fidelity and sparsity on a store, cross-entropy recovered on text, embeddings of
//! images, and what is found of planted features.

mod images;
mod interventions;
mod splice;
mod suites;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sae_config::{Evaluation, Suite};
use sae_data::{ActivationStore, PlantedTruth, Port, Ports, Selection, open_store, zip};
use sae_eval::{
    AllocationObserver, ComplexityObserver, CoreObserver, EvaluateOptions, Metrics, Observer,
    ProfileObserver, TruthObserver, observe,
};
use sae_models::{ModelConfig, Sae, load_checkpoint};
use sae_train::origin;

use self::splice::Spliced;
use self::suites::Suites;
use super::{Differences, check_dimension, check_output_apart, device, locked_file};
use crate::cli::EvalArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::note;
use crate::progress::Progress;

pub(crate) fn run(args: &EvalArgs) -> Result<(), Failure> {
    let device = device(&args.device)?;
    check_outputs(args)?;
    let sae = load_checkpoint(&args.checkpoint, device).or_usage()?;
    let store = open_store(&args.data).or_usage()?;
    check_dimension(&sae, store.as_ref(), &args.data)?;
    let target = open_target(args, sae.config())?;
    let place = origin(&Port::of_store(store.as_ref())).or_usage()?;
    let of_model = &sae.trained_on;
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
    let suites = Suites::open(args, &sae, &store, truth.as_ref(), spliced.as_ref(), &mut found)?;
    let whole = match target {
        Some(target) => zip(store, target).or_usage()?,
        None => store.into(),
    };
    let stores = kept_rows(&whole, args.max_norm_ratio)?;
    let _lock = args.out.as_deref().map(locked_file).transpose()?;
    let truth = truth.as_ref();
    let mut evaluation = measure(&sae, &stores, &whole, truth, spliced.as_ref(), suites.as_ref())?;
    if let Some(suites) = &suites {
        suites.measure(&sae, &stores, &mut evaluation)?;
    }
    if let Some(spliced) = &spliced {
        let wants = |suite| suites.as_ref().is_some_and(|suites| suites.wants(suite));
        spliced.measure(&sae, wants, &mut evaluation)?;
    }
    if let Some(suites) = &suites {
        suites.add_floors(&sae, &stores, &whole, truth, spliced.as_ref(), &mut evaluation)?;
    }
    note_zeros(&evaluation);
    (evaluation.elsewhere, evaluation.differences) = (found.elsewhere, found.lines);
    summary::print(&evaluation);
    if let Some(out) = &args.out {
        sae_config::write_json(out, &evaluation).or_run()?;
    }
    Ok(())
}

/// Says where zeros do not raise the loss, so that CE recovered is a ratio to nothing.
fn note_zeros(evaluation: &Evaluation) {
    if let Some(ce) = evaluation.cross_entropy.as_ref().filter(|ce| ce.zero <= ce.clean) {
        let (clean, zero) = (ce.clean, ce.zero);
        note!(
            "note: the loss with zeros is {zero:.4}, clean {clean:.4}: CE recovered tells nothing"
        );
    }
}

/// Refuses outputs that would lie in what is read.
fn check_outputs(args: &EvalArgs) -> Result<(), Failure> {
    for (key, out) in [("--out", &args.out), ("--floors", &args.floors)] {
        let Some(out) = out else { continue };
        let texts = args.text.iter().map(PathBuf::as_path);
        let inputs = [args.checkpoint.as_path(), &args.data].into_iter();
        let others = [&args.host, &args.target, &args.images, &args.train_data];
        let others = others.into_iter().filter_map(|path| path.as_deref());
        let others = others.chain(args.probes.iter().chain(&args.against).map(PathBuf::as_path));
        let inputs: Vec<&Path> = inputs.chain(others).chain(texts).collect();
        check_output_apart(key, out, &inputs)?;
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

/// The rows whose inputs have no norm above so many times the median; all of them if 0.
fn kept_rows(whole: &Stores, max_norm_ratio: f64) -> Result<Stores, Failure> {
    if max_norm_ratio == 0.0 {
        return Ok(whole.clone());
    }
    if !(max_norm_ratio.is_finite() && max_norm_ratio > 1.0) {
        let error =
            anyhow::anyhow!("--max-norm-ratio: expected 0 or more than 1, got {max_norm_ratio}");
        return Err(Failure::usage(error));
    }
    let kept = Selection::by_norm(Arc::clone(&whole.input), max_norm_ratio).or_usage()?;
    let of_target = |target| kept.of_same_rows(Arc::clone(target)).or_usage();
    let target = whole.target.as_ref().map(of_target).transpose()?;
    Ok(Ports { input: Arc::new(kept) as _, target: target.map(|target| Arc::new(target) as _) })
}

/// Fidelity, sparsity, allocation, complexity and profile on `stores`, and where there is a truth what
/// is found of it, in one pass.
///
/// The truth is of all rows, `whole`: a filter of `stores` takes it a pass of its own.
fn measure(
    sae: &Sae,
    stores: &Stores,
    whole: &Stores,
    truth: Option<&PlantedTruth>,
    spliced: Option<&Spliced>,
    suites: Option<&Suites>,
) -> Result<Evaluation, Failure> {
    let mut metrics = Metrics::new(sae.config().output_dimension(), sae.config().n_features);
    let mut allocation = AllocationObserver::new(sae);
    let mut complexity = ComplexityObserver::new(stores.input.n_rows());
    let mut profile = ProfileObserver::default();
    let wants = |suite| suites.is_some_and(|suites| suites.wants(suite));
    let mut core = wants(Suite::Core).then(|| CoreObserver::new(sae, stores.input.n_rows()));
    let mut found =
        truth.map(|truth| TruthObserver::new(sae, &*whole.input, truth)).transpose().or_usage()?;
    let is_whole = stores.input.n_rows() == whole.input.n_rows();
    let mut observers: Vec<&mut dyn Observer> =
        vec![&mut metrics, &mut allocation, &mut complexity, &mut profile];
    if let Some(found) = found.as_mut().filter(|_| is_whole) {
        observers.push(found);
    }
    if let Some(core) = &mut core {
        observers.push(core);
    }
    pass("eval", sae, stores, &mut observers)?;
    if let Some(found) = found.as_mut().filter(|_| !is_whole) {
        pass("ground truth", sae, whole, &mut [found])?;
    }
    let mut evaluation = metrics.finish().or_run()?;
    evaluation.allocation = allocation.finish(evaluation.sparsity.l0_mean).or_run()?;
    evaluation.complexity = complexity.finish().or_run()?;
    let tokenizer = spliced.map(Spliced::tokenizer).transpose()?.flatten();
    let piece = tokenizer.map(|tokenizer| |id| tokenizer.piece(id));
    let piece = piece.as_ref().map(|piece| piece as &dyn Fn(u32) -> Option<Vec<u8>>);
    evaluation.profile = Some(profile.finish(&*stores.input, piece).or_run()?);
    evaluation.ground_truth = found.as_ref().map(TruthObserver::finish).transpose().or_run()?;
    if let Some(core) = core {
        evaluation.scores.extend(core.finish().or_run()?);
    }
    if let Some(found) = found.filter(|_| wants(Suite::Truth)) {
        evaluation.scores.extend(found.scores().or_run()?);
    }
    Ok(evaluation)
}

fn pass(
    name: &'static str,
    sae: &Sae,
    stores: &Stores,
    observers: &mut [&mut dyn Observer],
) -> Result<(), Failure> {
    let mut progress = Progress::new(name, "rows", stores.input.n_rows());
    let stores = stores.as_ref().map(|store| &**store);
    let report = &mut |done, _| progress.at(done, String::new);
    observe(sae, stores, EvaluateOptions::default(), observers, report).or_run()
}
