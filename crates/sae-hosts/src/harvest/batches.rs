//! Contexts in batches and the rows of each at some hook points: what stores and live runs are
//! made of.

use std::ops::RangeInclusive;

use sae_data::RowMeta;

use super::{HarvestOptions, values};
use crate::contexts::batch_ids;
use crate::corpus::Documents;
use crate::{
    Context, ContextPosition, ContextRows, Contexts, Cut, Error, HookPoint, HostModel, Result,
};

/// All contexts of documents in order, as many at a time as a host reads at once.
#[derive(Debug)]
pub(crate) struct ContextBatches<'a> {
    contexts: Contexts<'a>,
    rule: ContextRows,
    batch_size: usize,
    /// Positions whose rows count.
    wanted: RangeInclusive<usize>,
}

impl<'a> ContextBatches<'a> {
    pub(crate) fn new(
        host: &HostModel,
        documents: Box<dyn Documents + 'a>,
        cut: Cut,
        options: &HarvestOptions,
    ) -> Result<Self> {
        let HarvestOptions { skip_positions, special_tokens, batch_size, .. } = *options;
        Ok(Self {
            contexts: Contexts::new(documents, cut)?,
            rule: ContextRows::new(host, skip_positions, cut.prepend, special_tokens)?,
            batch_size,
            wanted: 0..=usize::MAX,
        })
    }

    /// Leaves out the rows of all other positions.
    pub(crate) fn only(self, wanted: RangeInclusive<usize>) -> Self {
        Self { wanted, ..self }
    }

    /// The next batch, or none at the end of the documents.
    pub(crate) fn next(&mut self, host: &HostModel) -> Result<Option<ContextBatch>> {
        let mut contexts = Vec::new();
        while contexts.len() < self.batch_size {
            match self.contexts.next(host)? {
                Some(context) => contexts.push(context),
                None => break,
            }
        }
        if contexts.is_empty() {
            return Ok(None);
        }
        let kept = |context: &Context| {
            let mut positions = self.rule.positions(context);
            positions.retain(|at| self.wanted.contains(at));
            positions
        };
        let positions = contexts.iter().map(kept).collect();
        Ok(Some(ContextBatch { contexts, positions }))
    }

    /// Where the next batch begins.
    pub(crate) fn position(&self) -> ContextPosition {
        self.contexts.position()
    }

    /// Goes to where a batch began.
    pub(crate) fn resume(&mut self, position: &ContextPosition, host: &HostModel) -> Result<()> {
        self.contexts.resume(position, host)
    }

    /// The contexts.
    pub(crate) fn contexts(&self) -> &Contexts<'a> {
        &self.contexts
    }
}

/// Contexts that a host reads at once.
#[derive(Debug)]
pub(crate) struct ContextBatch {
    contexts: Vec<Context>,
    /// The positions of each whose rows are kept.
    positions: Vec<Vec<usize>>,
}

impl ContextBatch {
    /// Rows that are kept.
    pub(crate) fn n_rows(&self) -> usize {
        self.positions.iter().map(Vec::len).sum()
    }

    /// Token, document and position of each.
    pub(crate) fn meta(&self) -> Vec<RowMeta> {
        let each = self.contexts.iter().zip(&self.positions);
        each.flat_map(|(context, positions)| ContextRows::meta(context, positions)).collect()
    }

    /// The rows at each hook point, from one pass.
    ///
    /// # Shapes
    /// `[n_rows, d_model]` each, row-major.
    ///
    /// # Errors
    /// Those of [`HostModel::activations_at`]; [`Error::Activation`] for a value that is not finite.
    pub(crate) fn rows(&self, host: &HostModel, hooks: &[HookPoint]) -> Result<Vec<Vec<f32>>> {
        let d_model = host.info().d_model;
        let all = host.activations_at(&batch_ids(host, &self.contexts), hooks)?;
        let mut found = Vec::with_capacity(hooks.len());
        for (x, hook) in all.iter().zip(hooks) {
            let values = values(x);
            let length = values.len() / (self.contexts.len() * d_model);
            let mut rows = Vec::with_capacity(self.n_rows() * d_model);
            for (of_context, positions) in
                values.chunks_exact(length * d_model).zip(&self.positions)
            {
                for at in positions {
                    rows.extend_from_slice(&of_context[at * d_model..][..d_model]);
                }
            }
            if let Some(at) = rows.iter().position(|value| !value.is_finite()) {
                let RowMeta { document, position, .. } = self.meta()[at / d_model];
                let (hook, column, got) = (*hook, at % d_model, rows[at]);
                return Err(Error::Activation { hook, document, position, column, got });
            }
            found.push(rows);
        }
        Ok(found)
    }
}
