//! A language model over texts.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use sae_data::{Compression, Dtype, Provenance, RowMeta, StoreSpec, StoreWriter};
use tch::Tensor;

use super::{HarvestProgress, append, of_host, values};
use crate::contexts::{Context, Contexts, Cut};
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
    let tokenizer = host.tokenizer()?;
    let prepend = options.bos.resolve(tokenizer)?;
    check(host, options, prepend)?;
    hook.check(host.info())?;
    let d_model = host.info().d_model;
    let mut spec = StoreSpec::new(d_model, options.dtype);
    spec.compression = options.compression;
    spec.rows_per_shard = options.rows_per_shard.unwrap_or(spec.rows_per_shard);
    spec.provenance = provenance(host, texts, hook, options, prepend)?;
    let mut writer = StoreWriter::resume(out, spec)?;

    let cut = Cut {
        length: options.context_length,
        prepend,
        max_tokens: options.max_tokens.unwrap_or(u64::MAX),
    };
    let mut contexts = Contexts::new(host, texts, cut)?;
    let special = match options.special_tokens {
        SpecialTokens::Dropped => tokenizer.special_ids(),
        SpecialTokens::Kept => vec![],
    };
    // The positions of a context whose rows are stored; what is put in front is not of the text.
    let stored = |context: &Context| -> Vec<usize> {
        let is_text = |at: usize| at > 0 || prepend.is_none();
        let is_special = |at: &usize| is_text(*at) && special.contains(&context.ids[*at]);
        (options.skip_positions..context.ids.len()).filter(|at| !is_special(at)).collect()
    };
    // Rows that an earlier harvest has left: batches are the same as then, so that a batch which
    // is there in part is computed again as a whole.
    let mut present = writer.n_rows();
    loop {
        let batch = next_batch(&mut contexts, options.batch_size)?;
        if batch.is_empty() {
            break;
        }
        let positions: Vec<Vec<usize>> = batch.iter().map(stored).collect();
        let total: u64 = positions.iter().map(|positions| positions.len() as u64).sum();
        if present >= total {
            present -= total;
        } else {
            let rows = rows(host, &batch, hook)?;
            let length = rows.len() / (batch.len() * d_model);
            let contexts = batch.iter().zip(&positions);
            for ((context, positions), rows) in contexts.zip(rows.chunks_exact(length * d_model)) {
                let row = |at: &usize| &rows[at * d_model..][..d_model];
                let rows: Vec<f32> = positions.iter().flat_map(row).copied().collect();
                append(&mut writer, &mut present, &rows, &meta(context, positions))?;
            }
        }
        let now = HarvestProgress {
            n_seen: contexts.tokens_seen(),
            n_rows: writer.n_rows(),
            n_total: contexts.n_tokens(),
            fraction: contexts.fraction(),
        };
        if progress(&now).is_break() {
            return Err(Error::Interrupted { path: out.to_path_buf() });
        }
    }
    let (n_seen, n_rows) = (contexts.tokens_seen(), writer.n_rows());
    if n_rows == 0 {
        let expected = format!(
            "tokens after the first {} positions of a context, special ones {}",
            options.skip_positions, options.special_tokens
        );
        return Err(Error::input("texts", expected, format!("none in {n_seen} tokens")));
    }
    writer.finish()?;
    Ok(HarvestProgress { n_seen, n_rows, n_total: Some(n_seen), fraction: 1.0 })
}

fn next_batch(contexts: &mut Contexts<'_>, batch_size: usize) -> Result<Vec<Context>> {
    let mut batch = Vec::new();
    while batch.len() < batch_size {
        match contexts.next()? {
            Some(context) => batch.push(context),
            None => break,
        }
    }
    Ok(batch)
}

/// The activations of a batch, `[contexts, longest, d_model]`: shorter contexts are padded at the
/// end, which the positions before do not see.
fn rows(host: &HostModel, batch: &[Context], hook: HookPoint) -> Result<Vec<f32>> {
    let longest = batch.iter().map(|context| context.ids.len()).max().unwrap_or(0);
    let ids: Vec<i64> = batch
        .iter()
        .flat_map(|context| {
            let padding = std::iter::repeat_n(&0, longest - context.ids.len());
            context.ids.iter().chain(padding).map(|id| i64::from(*id))
        })
        .collect();
    let ids = Tensor::from_slice(&ids).view([batch.len() as i64, longest as i64]);
    Ok(values(&host.activations(&ids.to_device(host.device()), hook)?))
}

fn meta(context: &Context, positions: &[usize]) -> Vec<RowMeta> {
    positions
        .iter()
        .map(|&position| RowMeta {
            token_id: context.ids[position],
            document: context.document,
            position: position as u32,
        })
        .collect()
}

fn check(host: &HostModel, options: &HarvestOptions, prepend: Option<u32>) -> Result<()> {
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
fn provenance(
    host: &HostModel,
    texts: &[Text],
    hook: HookPoint,
    options: &HarvestOptions,
    prepend: Option<u32>,
) -> Result<Provenance> {
    let mut settings = BTreeMap::new();
    let mut set = |key: &str, value: String| settings.insert(key.to_owned(), value);
    set("context_length", options.context_length.to_string());
    set("skip_positions", options.skip_positions.to_string());
    set("batch_size", options.batch_size.to_string());
    set("host_kind", format!("{:?}", host.kind()));
    set("bos", prepend.map_or("none".to_owned(), |token| token.to_string()));
    set("special_tokens", options.special_tokens.to_string());
    if let Some(max_tokens) = options.max_tokens {
        set("max_tokens_per_text", max_tokens.to_string());
    }
    let hash = |bytes: &[u8]| blake3::hash(bytes).to_string();
    Ok(Provenance {
        tokenizer_hash: Some(host.tokenizer()?.hash()?),
        text_hashes: texts.iter().map(|text| hash(text.content.as_bytes())).collect(),
        settings,
        ..of_host(host, hook)?
    })
}
