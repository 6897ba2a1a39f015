//! Which positions of a context are kept as rows, and their activations.

use sae_data::RowMeta;
use tch::Tensor;

use super::Context;
use crate::{HostModel, Result, SpecialTokens};

/// The rule by which contexts become rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextRows {
    /// First positions of each context that are left out.
    skip_positions: usize,
    /// Whether position 0 is a token that was put in front of the text.
    has_lead: bool,
    /// Tokens whose rows are left out, sorted.
    special: Vec<u32>,
}

impl ContextRows {
    /// Rows of all positions from `skip_positions` on but those of special tokens that are
    /// dropped; `prepend` is the token at the front of each context.
    ///
    /// # Errors
    /// [`crate::Error::File`] if the host has no tokenizer.
    pub fn new(
        host: &HostModel,
        skip_positions: usize,
        prepend: Option<u32>,
        special_tokens: SpecialTokens,
    ) -> Result<Self> {
        let special = match special_tokens {
            SpecialTokens::Dropped => host.tokenizer()?.special_ids(),
            SpecialTokens::Kept => vec![],
        };
        Ok(Self { skip_positions, has_lead: prepend.is_some(), special })
    }

    /// The positions of a context whose rows are kept. What is put in front is not of the text.
    pub fn positions(&self, context: &Context) -> Vec<usize> {
        let is_text = |at: usize| at > 0 || !self.has_lead;
        let is_special =
            |at: usize| is_text(at) && self.special.binary_search(&context.ids[at]).is_ok();
        (self.skip_positions..context.ids.len())
            .filter(|at| context.counted[*at] && !is_special(*at))
            .collect()
    }

    /// Token, document and position of rows of a context.
    pub fn meta(context: &Context, positions: &[usize]) -> Vec<RowMeta> {
        positions
            .iter()
            .map(|&position| RowMeta {
                token_id: context.ids[position],
                document: context.documents[position],
                position: position as u32,
            })
            .collect()
    }
}

/// The ids of a batch, `[contexts, longest]`, on the host's device: shorter contexts are padded at
/// the end, which the positions before do not see.
pub(crate) fn batch_ids(host: &HostModel, batch: &[Context]) -> Tensor {
    let longest = batch.iter().map(|context| context.ids.len()).max().unwrap_or(0);
    let ids: Vec<i64> = batch
        .iter()
        .flat_map(|context| {
            let padding = std::iter::repeat_n(&0, longest - context.ids.len());
            context.ids.iter().chain(padding).map(|id| i64::from(*id))
        })
        .collect();
    let ids = Tensor::from_slice(&ids).view([batch.len() as i64, longest as i64]);
    ids.to_device(host.device())
}
