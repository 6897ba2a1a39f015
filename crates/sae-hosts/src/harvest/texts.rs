//! A language model over texts.

use std::ops::ControlFlow;
use std::path::Path;

use sae_config::{CorpusConfig, Packing};
use sae_data::{Compression, Dtype, Provenance, StoreSpec};

use super::batches::ContextBatches;
use super::stores::Stores;
use super::{HarvestProgress, of_host};
use crate::contexts::Cut;
use crate::corpus::{Documents, Texts};
use crate::{Bos, Error, HookPoint, HostInput, HostModel, Result, SpecialTokens, Text};

/// What is harvested; [`HarvestOptions::default`] suits most hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HarvestOptions {
    /// Tokens of a context (128; [`crate::HostInfo::context_length`] suits hosts with fewer).
    pub context_length: usize,
    /// Positions at the front of each context that are computed but not stored (1: the first
    /// token's activations can be hundreds of times larger than all others).
    pub skip_positions: usize,
    /// The token put at the front of each context, as its position 0; the one that the host's
    /// own tokenizer puts before a text by default.
    pub bos: Bos,
    /// Whether rows of special tokens that stand in the texts are stored; not by default.
    pub special_tokens: SpecialTokens,
    /// Tokens of each text to take at most; all by default.
    pub max_tokens: Option<u64>,
    /// Contexts computed at once (16).
    pub batch_size: usize,
    /// Element type of the store (f32).
    pub dtype: Dtype,
    /// How the store is compressed (not at all).
    pub compression: Option<Compression>,
    /// Rows of a shard; what the store takes by default (about 256 MiB) if `None`.
    pub rows_per_shard: Option<u64>,
}

impl Default for HarvestOptions {
    fn default() -> Self {
        Self {
            context_length: 128,
            skip_positions: 1,
            bos: Bos::Auto,
            special_tokens: SpecialTokens::Dropped,
            max_tokens: None,
            batch_size: 16,
            dtype: Dtype::F32,
            compression: None,
            rows_per_shard: None,
        }
    }
}

/// Harvests activations into a new store in `out`.
///
/// Each text is one document; contexts do not reach across documents, and the last context of a
/// document may be short. The rows of a context are stored in order, with token id, document and
/// position. A harvest that was interrupted, by `progress` breaking off or by a crash, goes on
/// after the last whole shard when it is called again with the same arguments, and ends in the
/// same bytes on the same machine with the same number of threads.
///
/// `progress` is called after each batch.
///
/// # Errors
/// [`Error::Input`] for options out of range, or if no row is left to store; [`Error::HookLayer`];
/// [`Error::Tokenizer`];
/// [`Error::Store`] if the store cannot be written, is finished, or was begun with other arguments;
/// [`Error::Interrupted`] if `progress` broke off.
pub fn harvest(
    host: &HostModel,
    texts: &[Text],
    hook: HookPoint,
    options: &HarvestOptions,
    out: &Path,
    progress: &mut dyn FnMut(&HarvestProgress) -> ControlFlow<()>,
) -> Result<HarvestProgress> {
    let prepend = options.bos.resolve(host.tokenizer()?)?;
    let cut = Cut::new(options.context_length, prepend);
    harvest_at(host, Box::new(Texts::new(texts)), cut, &[(hook, out)], options, progress)
}

/// Harvests the documents of a corpus as [`harvest`] does those of texts; `corpus` says how
/// contexts are cut of them.
///
/// # Errors
/// As [`harvest`] and [`Documents::next`].
pub fn harvest_corpus(
    host: &HostModel,
    documents: Box<dyn Documents + '_>,
    corpus: &CorpusConfig,
    hook: HookPoint,
    options: &HarvestOptions,
    out: &Path,
    progress: &mut dyn FnMut(&HarvestProgress) -> ControlFlow<()>,
) -> Result<HarvestProgress> {
    let tokenizer = host.tokenizer()?;
    let prepend = options.bos.resolve(tokenizer)?;
    let cut = Cut::of_corpus(options.context_length, prepend, corpus, tokenizer)?;
    harvest_at(host, documents, cut, &[(hook, out)], options, progress)
}

/// Harvests several hook points in one pass, each into a store of its own: the stores have the same
/// rows in the same order. `cut` says how contexts are cut of the documents.
///
/// An interrupted harvest goes on where all stores have what comes before, also where some of them
/// are finished.
///
/// # Errors
/// As [`harvest`] and [`Documents::next`]; [`Error::Input`] for a hook point or a store that comes
/// twice.
pub fn harvest_at(
    host: &HostModel,
    documents: Box<dyn Documents + '_>,
    mut cut: Cut,
    stores: &[(HookPoint, &Path)],
    options: &HarvestOptions,
    progress: &mut dyn FnMut(&HarvestProgress) -> ControlFlow<()>,
) -> Result<HarvestProgress> {
    check_options(host, options, cut.prepend)?;
    let hooks: Vec<HookPoint> = stores.iter().map(|(hook, _)| *hook).collect();
    hooks.iter().try_for_each(|hook| hook.check(host.info()))?;
    cut.max_document_tokens = cut.max_document_tokens.min(options.max_tokens.unwrap_or(u64::MAX));
    let mut stores = Stores::resume(stores, |hook| {
        let mut spec = StoreSpec::new(host.info().d_model, options.dtype);
        spec.compression = options.compression;
        spec.rows_per_shard = options.rows_per_shard.unwrap_or(spec.rows_per_shard);
        spec.provenance = provenance(host, &*documents, &cut, hook, options)?;
        Ok(spec)
    })?;
    let mut batches = ContextBatches::new(host, documents, cut, options)?;
    // Batches are the same as in an earlier harvest, so that one which is there in part is computed
    // again as a whole.
    while let Some(batch) = batches.next(host)? {
        if !stores.pass_over(batch.n_rows() as u64) {
            stores.append(&batch.rows(host, &hooks)?, &batch.meta())?;
        }
        let contexts = batches.contexts();
        let now = HarvestProgress {
            n_seen: contexts.tokens_seen(),
            n_rows: stores.n_rows(),
            n_total: contexts.n_tokens(),
            fraction: contexts.fraction(),
            skipped: contexts.documents().skipped(),
        };
        if progress(&now).is_break() {
            return Err(Error::Interrupted { path: stores.first().to_path_buf() });
        }
    }
    let (n_seen, n_rows) = (batches.contexts().tokens_seen(), stores.n_rows());
    if n_rows == 0 {
        let expected = format!(
            "tokens after the first {} positions of a context, special ones {}",
            options.skip_positions, options.special_tokens
        );
        let skipped = batches.contexts().documents().skipped();
        let got = match skipped.examples.first() {
            None => format!("none in {n_seen} tokens"),
            Some(first) => format!(
                "none in {n_seen} tokens, {} damaged files and documents left out, such as {first}",
                skipped.count
            ),
        };
        return Err(Error::input("texts", expected, got));
    }
    stores.finish()?;
    let skipped = batches.contexts().documents().skipped();
    Ok(HarvestProgress { n_seen, n_rows, n_total: Some(n_seen), fraction: 1.0, skipped })
}

/// Checks options against a host; `prepend` is the token at the front of each context.
pub(crate) fn check_options(
    host: &HostModel,
    options: &HarvestOptions,
    prepend: Option<u32>,
) -> Result<()> {
    let HostInput::Tokens { max_positions, .. } = host.info().input else {
        return Err(Error::input("host", "a language model", &host.info().family));
    };
    let range = |name, low: u64, high: u64, got: u64| {
        if (low..=high).contains(&got) {
            return Ok(());
        }
        let expected =
            if high == u64::MAX { format!("at least {low}") } else { format!("{low} to {high}") };
        Err(Error::input(name, expected, got))
    };
    let length = options.context_length as u64;
    let shortest = 1 + u64::from(prepend.is_some());
    range("context_length", shortest, max_positions as u64, length)?;
    range("skip_positions", 0, length - 1, options.skip_positions as u64)?;
    range("batch_size", 1, u64::MAX, options.batch_size as u64)?;
    range("max_tokens", 1, u64::MAX, options.max_tokens.unwrap_or(1))
}

/// Everything that decides the rows: a harvest begun with another is never gone on with.
pub(crate) fn provenance(
    host: &HostModel,
    documents: &dyn Documents,
    cut: &Cut,
    hook: HookPoint,
    options: &HarvestOptions,
) -> Result<Provenance> {
    let mut provenance =
        Provenance { tokenizer_hash: Some(host.tokenizer()?.hash()?), ..of_host(host, hook)? };
    documents.describe(&mut provenance);
    let mut set = |key: &str, value: String| provenance.settings.insert(key.to_owned(), value);
    let token = |id: Option<u32>| id.map_or("none".to_owned(), |id| id.to_string());
    set("context_length", options.context_length.to_string());
    set("skip_positions", options.skip_positions.to_string());
    set("batch_size", options.batch_size.to_string());
    set("host_kind", format!("{:?}", host.kind()));
    set("bos", token(cut.prepend));
    set("special_tokens", options.special_tokens.to_string());
    for (key, limit) in
        [("max_tokens_per_text", cut.max_document_tokens), ("max_tokens", cut.max_tokens)]
    {
        if limit != u64::MAX {
            set(key, limit.to_string());
        }
    }
    if cut.packing == Packing::Packed {
        set("packing", "packed".to_owned());
        set("token_before_documents", token(cut.before));
        set("token_after_documents", token(cut.after));
    }
    Ok(provenance)
}
