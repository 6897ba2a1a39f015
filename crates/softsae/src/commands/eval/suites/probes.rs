//! Labelled stores, and probes on them.

use std::path::Path;
use std::sync::Arc;

use sae_config::{LABELS_FILE, LabelTask, Labels, ProbeResult};
use sae_data::{ActivationStore, Port, RowMeta, open_store};
use sae_eval::{LEAST_DOCUMENTS, PoolingObserver, Probed, probe_tasks};
use sae_models::{Sae, TrainedOn};
use sae_train::origin;

use super::kept::Kept;
use super::{check_dimension, observe_one};
use crate::cli::EvalArgs;
use crate::commands::Differences;
use crate::failure::{Blame as _, Failure};
use crate::output::note;
use crate::progress::Progress;

/// Under which name what dense probes find is kept, and the version of it: another where they are
/// fitted otherwise.
const DENSE: &str = "dense-probes";
const DENSE_VERSION: u32 = 1;

/// A labelled store.
pub(super) struct Probes {
    store: Arc<dyn ActivationStore>,
    labels: Labels,
    /// The labels that are asked for, by number.
    asked: Vec<u32>,
}

impl Probes {
    pub(super) fn open(
        path: &Path,
        sae: &Sae,
        args: &EvalArgs,
        found: &mut Differences,
    ) -> Result<Self, Failure> {
        let store = open_store(path).or_usage()?;
        check_dimension(sae, store.as_ref(), path)?;
        let labels = Labels::read(path).or_usage()?;
        let hash = store.content_hash().or_usage()?;
        if hash != labels.store {
            return Err(Failure::usage(anyhow::anyhow!(
                "{}: `store`: expected the hash of the store beside it, {hash}, got {}",
                path.join(LABELS_FILE).display(),
                labels.store
            )));
        }
        // Labelled texts are single contexts of their own length.
        let context_length = sae.trained_on.context_length.clone();
        let place = origin(&Port::of_store(store.as_ref())).or_usage()?;
        let place = TrainedOn { context_length, ..place };
        let source = format!("--probes {}: against the model", path.display());
        found.add(Differences::find(&sae.trained_on, &place, &source, args.elsewhere)?);
        let asked = asked(&*store, &labels, path)?;
        Ok(Self { store, labels, asked })
    }

    pub(super) fn n_rows(&self) -> u64 {
        self.store.n_rows()
    }

    pub(super) fn n_tasks(&self) -> usize {
        self.asked.len()
    }

    fn tasks(&self) -> impl Iterator<Item = LabelTask<'_>> {
        self.labels.tasks().into_iter().filter(|task| self.asked.contains(&task.number))
    }

    /// Whether these are the labels of the same rows.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.labels == other.labels
    }

    /// What tells this data from other.
    pub(super) fn identity(&self) -> Result<String, Failure> {
        let labels = serde_json::to_vec(&self.labels).or_run()?;
        Ok(format!("{} {}", self.labels.name, blake3::hash(&labels)))
    }
}

/// The labels whose tasks have enough documents with rows; the others are left out with a word, and data
/// without any is refused.
fn asked(store: &dyn ActivationStore, labels: &Labels, path: &Path) -> Result<Vec<u32>, Failure> {
    let mut meta = vec![RowMeta::default(); store.n_rows() as usize];
    store.read_meta(0, &mut meta).or_usage()?;
    let mut documents: Vec<u32> = meta.iter().map(|meta| meta.document).collect();
    documents.dedup();
    let mut counts = vec![0; labels.labels.len()];
    for of in &documents {
        let label = labels.of_documents.get(*of as usize).ok_or_else(|| {
            Failure::usage(anyhow::anyhow!(
                "{}: `of_documents`: expected a label for each document, got none for document {of}",
                path.join(LABELS_FILE).display()
            ))
        })?;
        counts[*label as usize] += 1;
    }
    let n: usize = counts.iter().sum();
    let (mut asked, mut few) = (Vec::new(), Vec::new());
    for task in labels.tasks() {
        let own = counts[task.number as usize];
        match own.min(n - own) >= LEAST_DOCUMENTS {
            true => asked.push(task.number),
            false => few.push(format!("{} ({own} and {})", task.label, n - own)),
        }
    }
    let (place, few) = (path.display(), few.join(", "));
    if asked.is_empty() {
        return Err(Failure::usage(anyhow::anyhow!(
            "--probes {place}: expected {LEAST_DOCUMENTS} documents or more with and without a label, got \
             {few}"
        )));
    }
    if !few.is_empty() {
        note!("{place}: too few documents to probe for {few}");
    }
    Ok(asked)
}

/// What tells these probes from others.
pub(super) fn identities(probes: &[Probes]) -> Result<Vec<String>, Failure> {
    probes.iter().map(Probes::identity).collect()
}

/// Probes on all tasks. What dense probes find is the same for every SAE, and kept.
pub(super) fn measure_and_keep(
    sae: &Sae,
    probes: &[Probes],
    kept: &Kept,
) -> Result<Probed, Failure> {
    let key = (DENSE_VERSION, identities(probes)?);
    let dense: Option<Vec<ProbeResult>> = kept.read(DENSE, &key)?;
    let probed = measure(sae, probes, dense.as_deref())?;
    if dense.is_none() {
        let dense: Vec<_> = probed.tasks.iter().map(|task| &task.dense).collect();
        kept.write(DENSE, key, dense)?;
    }
    Ok(probed)
}

/// Probes on all tasks; `dense` is what dense probes found in an earlier call.
pub(super) fn measure(
    sae: &Sae,
    probes: &[Probes],
    dense: Option<&[ProbeResult]>,
) -> Result<Probed, Failure> {
    let mut pooled = Vec::new();
    for of in probes {
        let mut observer = PoolingObserver::new(&*of.store, sae.config().n_features).or_usage()?;
        observe_one("labelled rows", sae, &*of.store, &mut observer)?;
        pooled.push(observer.finish().or_usage()?);
    }
    let of_task = probes.iter().zip(&pooled).flat_map(|(probes, pooled)| {
        let labels = &probes.labels;
        probes.tasks().map(move |task| (pooled, task, &labels.of_documents[..]))
    });
    let data: Vec<_> = of_task.collect();
    let mut progress = Progress::new("probes", "tasks", data.len() as u64);
    probe_tasks(&data, dense, &mut |done| progress.at(done, String::new)).or_run()
}
