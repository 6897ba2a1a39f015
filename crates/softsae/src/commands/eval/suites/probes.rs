//! Labelled stores, and probes on them.

use std::path::Path;
use std::sync::Arc;

use sae_config::{LABELS_FILE, Labels, TaskProbes};
use sae_data::{ActivationStore, Port, open_store};
use sae_eval::{PoolingObserver, Probed, probe_tasks};
use sae_models::{Sae, TrainedOn};
use sae_train::origin;

use super::{check_dimension, observe_one};
use crate::cli::EvalArgs;
use crate::commands::Differences;
use crate::failure::{Blame as _, Failure};
use crate::progress::Progress;

/// A labelled store.
pub(super) struct Probes {
    store: Arc<dyn ActivationStore>,
    labels: Labels,
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
        Ok(Self { store, labels })
    }

    pub(super) fn n_rows(&self) -> u64 {
        self.store.n_rows()
    }

    pub(super) fn n_tasks(&self) -> usize {
        self.labels.tasks().len()
    }

    /// What tells this data from other.
    pub(super) fn identity(&self) -> String {
        format!("{} {}", self.labels.name, self.labels.store)
    }
}

/// Probes on all tasks; `dense` is what dense probes found in an earlier call.
pub(super) fn measure(
    sae: &Sae,
    probes: &[Probes],
    dense: Option<&[TaskProbes]>,
) -> Result<Probed, Failure> {
    let mut pooled = Vec::new();
    for of in probes {
        let mut observer = PoolingObserver::new(&*of.store, sae.config().n_features).or_usage()?;
        observe_one("labelled rows", sae, &*of.store, &mut observer)?;
        pooled.push(observer.finish().or_usage()?);
    }
    let of_task = probes.iter().zip(&pooled).flat_map(|(probes, pooled)| {
        let labels = &probes.labels;
        labels.tasks().into_iter().map(move |task| (pooled, task, &labels.of_documents[..]))
    });
    let data: Vec<_> = of_task.collect();
    let mut progress = Progress::new("probes", "tasks", data.len() as u64);
    probe_tasks(&data, dense, &mut |done| progress.at(done, String::new)).or_run()
}
