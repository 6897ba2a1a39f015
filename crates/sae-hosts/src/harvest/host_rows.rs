//! The rows of a host that reads documents, kept nowhere.

use sae_data::{Provenance, RowMeta};

use super::batches::ContextBatches;
use super::texts::{HarvestOptions, check_options, provenance};
use crate::corpus::{Documents, Skipped};
use crate::{ContextPosition, Cut, HookPoint, HostModel, Result};

/// The rows that a harvest of documents stores, in the same order, a few contexts at a time.
#[derive(Debug)]
pub struct HostRows<'a> {
    batches: ContextBatches<'a>,
    hook: HookPoint,
    provenance: Provenance,
}

impl<'a> HostRows<'a> {
    /// The rows of `host` at a hook point; `cut` says how contexts are cut of the documents.
    ///
    /// # Errors
    /// As [`harvest_at`](crate::harvest_at()) for options and hook point.
    pub fn new(
        host: &HostModel,
        documents: Box<dyn Documents + 'a>,
        cut: Cut,
        hook: HookPoint,
        options: &HarvestOptions,
    ) -> Result<Self> {
        check_options(host, options, cut.prepend)?;
        hook.check(host.info())?;
        let provenance = provenance(host, &*documents, &cut, hook, options)?;
        let batches = ContextBatches::new(host, documents, cut, options)?;
        Ok(Self { batches, hook, provenance })
    }

    /// What a store of them says of where it came from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// A hash of all that decides them; not of the names of host and corpus, which are those of
    /// their places.
    pub fn identity(&self) -> String {
        let mut nameless = Provenance { host: String::new(), ..self.provenance.clone() };
        nameless.settings.remove("corpus");
        let json = serde_json::to_vec(&nameless).expect("a provenance is always valid JSON");
        blake3::hash(&json).to_string()
    }

    /// The next rows, `[n, d_model]`, and token, document and position of each; none at the end of
    /// the documents. A few contexts may have no row.
    ///
    /// # Errors
    /// As [`Documents::next`] and [`HostModel::activations_at`]; [`Error::Activation`](crate::Error)
    /// for a value that is not finite.
    pub fn next(&mut self, host: &HostModel) -> Result<Option<(Vec<f32>, Vec<RowMeta>)>> {
        let Some(batch) = self.batches.next(host)? else { return Ok(None) };
        if batch.n_rows() == 0 {
            return Ok(Some((Vec::new(), Vec::new())));
        }
        let rows = batch.rows(host, &[self.hook])?.pop().expect("one hook point");
        Ok(Some((rows, batch.meta())))
    }

    /// Where the next rows begin.
    pub fn position(&self) -> ContextPosition {
        self.batches.position()
    }

    /// Goes to where rows began.
    ///
    /// # Errors
    /// As [`Contexts::resume`](crate::Contexts::resume).
    pub fn resume(&mut self, position: &ContextPosition, host: &HostModel) -> Result<()> {
        self.batches.resume(position, host)
    }

    /// The share of the documents that is tokenised, and what was left out of them.
    pub fn progress(&self) -> (f64, Skipped) {
        let contexts = self.batches.contexts();
        (contexts.fraction(), contexts.documents().skipped())
    }
}
