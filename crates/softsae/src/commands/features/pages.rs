//! The pages themselves: a pass over rows, then what there is to say of each feature.

use std::path::{Path, PathBuf};

use sae_config::{FeatureSet, HUB_PREFIX};
use sae_data::OutputLock;
use sae_eval::{DescribeOptions, FeatureDescriber};
use sae_models::{Sae, checkpoint_hash, load_checkpoint};
use sae_report::{FeaturePages, Vocabulary};

use super::super::{Differences, check_apart, device, locked};
use super::host::Host;
use super::pictures::Pictures;
use super::source::Source;
use crate::cli::{LiveArgs, PagesArgs};
use crate::failure::{Blame as _, Failure};
use crate::output::{note, say};
use crate::progress::Progress;

/// What a page is made of.
struct Inputs {
    sae: Sae,
    source: Source,
    host: Option<Host>,
    pictures: Option<Pictures>,
    /// What the page says of them.
    set: FeatureSet,
}

pub(super) fn run(args: &PagesArgs, live: &LiveArgs) -> Result<(), Failure> {
    let others = [&args.data, &args.host, &args.images].into_iter().flatten();
    let corpus = live.documents.corpus.iter().filter(|path| !path.starts_with(HUB_PREFIX));
    let inputs =
        others.map(PathBuf::as_path).chain([&*args.checkpoint]).chain(corpus.map(Path::new));
    check_apart(&args.out, &inputs.collect::<Vec<_>>())?;
    let mut inputs = Inputs::open(args, live)?;
    let vocabulary = inputs.host.as_ref().map(Host::vocabulary).transpose()?.unwrap_or_default();
    let _lock = locked(OutputLock::directory(&args.out))?;
    let mut pages = inputs.create(args, vocabulary)?;
    let options = DescribeOptions { window: args.window.into(), seed: args.seed };
    let host = inputs.host.as_ref();
    let head = host.filter(|host| host.attributes.is_ok()).map(|host| &host.model);
    let reader = host.map(|host| &host.model);
    let scratch = pages.scratch();
    let mut describer = inputs.source.pass(&inputs.sae, reader, head, &scratch, options)?;
    describe(&mut describer, &mut pages)?;
    let set = inputs.finish(&describer, &pages)?;
    let pool = describer.pool();
    // It gives its file back before the folder of the file is removed.
    drop(describer);
    let page = pages.finish(&set, &pool).or_run()?;
    say!("{}", page.display());
    Ok(())
}

impl Inputs {
    fn open(args: &PagesArgs, live: &LiveArgs) -> Result<Self, Failure> {
        let device = device(&args.device)?;
        let sae = load_checkpoint(&args.checkpoint, device).or_usage()?;
        if sae.config().is_transcoder() {
            let (checkpoint, got) = (args.checkpoint.display(), "a transcoder");
            return Err(Failure::usage(anyhow::anyhow!(
                "{checkpoint}: expected an SAE, got {got}"
            )));
        }
        let of_model = &sae.trained_on;
        let (source, host, name, differences) = match (&args.data, &args.host) {
            (Some(data), _) => of_store(args, data, &sae)?,
            (None, Some(path)) => of_host(args, live, path, &sae)?,
            // Not reached: clap asks for the one or the other.
            (None, None) => {
                return Err(Failure::usage(anyhow::anyhow!("--data: expected a store, got none")));
            }
        };
        let pictures = match (&args.images, &host, source.as_store()) {
            (Some(folder), Some(host), Some(store)) => {
                Some(Pictures::open(folder, &host.model, &name, store)?)
            }
            _ => None,
        };
        let place = source.origin()?;
        let set = FeatureSet {
            checkpoint: args.checkpoint.display().to_string(),
            checkpoint_hash: checkpoint_hash(&args.checkpoint).or_run()?,
            architecture: sae.config().code.name().to_owned(),
            store: name,
            store_hash: source.hash()?,
            host: place.host.or(of_model.host.clone()),
            hook_point: place.hook_point.or(of_model.hook_point.clone()),
            n_features: sae.config().n_features,
            window: args.window.into(),
            seed: args.seed,
            notes: differences.lines,
            ..FeatureSet::default()
        };
        Ok(Self { sae, source, host, pictures, set })
    }

    /// Begins the pages, or goes on with those of a process that was killed.
    fn create(&self, args: &PagesArgs, vocabulary: Vocabulary) -> Result<FeaturePages, Failure> {
        let FeatureSet { checkpoint_hash, store_hash, window, seed, .. } = &self.set;
        let host = self.host.as_ref().map(|host| &host.hash);
        let pictures = self.pictures.is_some();
        let version = env!("CARGO_PKG_VERSION");
        let key = format!(
            "{version} {checkpoint_hash} {store_hash} {host:?} {pictures} {window} {seed} {}\n",
            args.device
        );
        let pages = FeaturePages::create(&args.out, vocabulary, &key);
        pages.map_err(|error| match error {
            sae_report::Error::Occupied { .. } => Failure::usage(error),
            other => Failure::run(other),
        })
    }

    /// Writes the pictures; gives what the features have in common.
    fn finish(
        &self,
        describer: &FeatureDescriber<'_>,
        pages: &FeaturePages,
    ) -> Result<FeatureSet, Failure> {
        let grid = |pictures: &Pictures| pictures.set(describer.n_positions());
        let grid = self.pictures.as_ref().map(grid).transpose()?;
        if let Some(pictures) = &self.pictures {
            pictures.write(pages)?;
        }
        let mut set = FeatureSet {
            n_rows: describer.n_rows(),
            n_contexts: describer.n_contexts(),
            l0: describer.l0(),
            median_norm: describer.median_norm(),
            n_outlier_rows: describer.n_outlier_rows(),
            n_coactivation_rows: describer.n_coactivation_rows(),
            k_hat: describer.k_hat(),
            has_tokens: describer.has_tokens(),
            pictures: grid,
            ..self.set.clone()
        };
        set.notes.splice(0..0, self.missing(&set));
        set.notes.iter().for_each(|note| note!("note: {note}"));
        Ok(set)
    }

    /// What is missing or has to be known.
    fn missing(&self, set: &FeatureSet) -> Vec<String> {
        let mut notes = Vec::new();
        let are_images = self.source.is_of_images();
        match &self.host {
            None if are_images => notes.push("no --images: pictures are not shown".to_owned()),
            None => notes.push("no --host: tokens are numbers, and no logits are shown".to_owned()),
            Some(Host { attributes: Err(reason), .. }) => notes.push(reason.clone()),
            Some(_) => {}
        }
        if !set.has_tokens && !are_images {
            notes.push("the store has no token ids: contexts are row numbers".to_owned());
        }
        let n_skipped = self.source.n_skipped();
        if n_skipped > 0 {
            notes.push(format!("{n_skipped} damaged files and documents were left out"));
        }
        if set.n_coactivation_rows < set.n_rows {
            let (n, all) = (set.n_coactivation_rows, set.n_rows);
            notes.push(format!("co-activations are of a uniform sample of {n} of {all} rows"));
        }
        notes
    }
}

/// Rows, the host where there is one, the rows' name, and in what both differ from the model's.
type Opened = (Source, Option<Host>, String, Differences);

/// The rows of a store.
fn of_store(args: &PagesArgs, data: &Path, sae: &Sae) -> Result<Opened, Failure> {
    let (of_model, name) = (&sae.trained_on, data.display().to_string());
    let source = Source::store(data, sae)?;
    let place = source.origin()?;
    let against = format!("{name}: against the model");
    let mut differences = Differences::find(of_model, &place, &against, args.elsewhere)?;
    let Some(path) = &args.host else { return Ok((source, None, name, differences)) };
    let hook = place.hook_point.or(of_model.hook_point.clone());
    let host = Host::open(path, sae.device(), args.images.is_some(), hook.as_deref())?;
    differences.add(host.differences(path, &source, of_model, args.elsewhere)?);
    Ok((source, Some(host), name, differences))
}

/// The rows of a host that reads.
fn of_host(args: &PagesArgs, live: &LiveArgs, path: &Path, sae: &Sae) -> Result<Opened, Failure> {
    let of_model = &sae.trained_on;
    let hook = live.hook.as_ref().or(of_model.hook_point.as_ref());
    let host = Host::open(path, sae.device(), false, hook.map(String::as_str))?;
    let source = Source::live(live, &host.model, of_model)?;
    let against = format!("--host {}: against the model", path.display());
    let differences = Differences::find(of_model, &source.origin()?, &against, args.elsewhere)?;
    Ok((source, Some(host), live.documents.corpus.join(", "), differences))
}

/// Writes what there is to say of each feature, but for those that are there.
fn describe(describer: &mut FeatureDescriber<'_>, pages: &mut FeaturePages) -> Result<(), Failure> {
    let (n_done, n_features) = (pages.n_features(), describer.n_features());
    if n_done > 0 {
        note!("going on after {n_done} of {n_features} features");
    }
    describer.pass_over(n_done);
    let mut progress = Progress::new("describe", "features", n_features as u64);
    loop {
        let records = describer.next_features().or_run()?;
        let Some(last) = records.last().map(|record| record.feature) else { return Ok(()) };
        for record in records.into_iter().filter(|record| record.feature as usize >= n_done) {
            pages.add(record).or_run()?;
        }
        progress.at(u64::from(last) + 1, String::new);
    }
}
