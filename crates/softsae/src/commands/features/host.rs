//! The model whose activations feature pages are of.

use std::path::Path;

use sae_hosts::{HookKind, HookPoint, HostInput, HostModel, host_provenance};
use sae_models::TrainedOn;
use sae_report::Vocabulary;
use sae_train::origin_of;

use super::super::Differences;
use super::source::Source;
use crate::failure::{Blame as _, Failure};
use crate::output::note;

/// The model whose activations are in the store.
pub(super) struct Host {
    pub(super) model: HostModel,
    /// Of its weights.
    pub(super) hash: Option<String>,
    /// What it is, whatever the hook point.
    origin: TrainedOn,
    /// Whether decoder rows can be given to its head; else why not.
    pub(super) attributes: Result<(), String>,
}

impl Host {
    /// Opens a host that reads images or texts; `hook` is where the rows are of.
    pub(super) fn open(
        path: &Path,
        device: tch::Device,
        reads_images: bool,
        hook: Option<&str>,
    ) -> Result<Self, Failure> {
        let model = HostModel::load(path, device).or_usage()?;
        let is_vision = matches!(model.info().input, HostInput::Images { .. });
        if is_vision != reads_images {
            let expected = match reads_images {
                true => "a vision model, as --images has it",
                false => "a language model, or --images with a vision model",
            };
            let (path, got) = (path.display(), &model.info().family);
            return Err(Failure::usage(anyhow::anyhow!(
                "--host {path}: expected {expected}, got {got}"
            )));
        }
        let attributes = match (hook.and_then(|name| name.parse::<HookPoint>().ok()), hook) {
            _ if is_vision => Err("no logits are shown: the host reads images".to_owned()),
            (Some(hook), _) if model.is_of_residual_stream(hook) => Ok(()),
            (Some(hook), _) => Err(format!(
                "no logits are shown: the host changes what {hook} gives before it adds it"
            )),
            (None, Some(name)) => Err(format!("no logits are shown: unknown hook point `{name}`")),
            (None, None) => Err("no logits are shown: the hook point is not known".to_owned()),
        };
        // Its hook point is that of the store: of it nothing is asked here.
        let known = host_provenance(&model, HookPoint::new(HookKind::ResidPost, 0)).or_usage()?;
        let origin = TrainedOn { hook_point: None, ..origin_of(&known) };
        Ok(Self { model, hash: known.host_hash, origin, attributes })
    }

    /// In what it differs from the host of the model and of a store.
    pub(super) fn differences(
        &self,
        path: &Path,
        source: &Source,
        of_model: &TrainedOn,
        elsewhere: bool,
    ) -> Result<Differences, Failure> {
        let of_store = source.origin()?;
        let mut found = Differences::default();
        for (of, name) in [(of_model, "the model"), (&of_store, "the store")] {
            let against = format!("--host {}: against {name}", path.display());
            found.add(Differences::find(of, &self.origin, &against, elsewhere)?);
        }
        if let HostInput::Images { .. } = self.model.info().input {
            return Ok(found);
        }
        let hash = self.model.tokenizer().or_usage()?.hash().or_usage()?;
        let known = source.as_store().map(|store| store.provenances()).unwrap_or_default();
        let known = known.into_iter().filter_map(|of| of.tokenizer_hash.as_ref());
        for expected in known.filter(|expected| **expected != hash) {
            let what = format!("tokenizer: expected the one of hash {expected}, got {hash}");
            if !elsewhere {
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

    pub(super) fn vocabulary(&self) -> Result<Vocabulary, Failure> {
        let HostInput::Tokens { vocabulary, .. } = self.model.info().input else {
            return Ok(Vocabulary::default());
        };
        let tokenizer = self.model.tokenizer().or_usage()?;
        let pieces = (0..vocabulary as u32).filter_map(|id| Some((id, tokenizer.piece(id)?)));
        let known = Vocabulary::new(pieces, tokenizer.special_ids());
        Ok(known.with_spelling(|id| tokenizer.token(id)))
    }
}
