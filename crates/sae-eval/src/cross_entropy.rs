//! What the host loses when reconstructions take the place of its activations.

mod losses;

use sae_config::CrossEntropy;
use sae_hosts::{Bos, HookPoint, HostModel, SpecialTokens};
use sae_models::Sae;
use tch::Tensor;

use self::losses::Sums;
use crate::{Error, Result};

/// How text is read for [`cross_entropy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrossEntropyOptions {
    /// Tokens the host sees at once; a text is cut into contexts of so many.
    pub context_length: usize,
    /// First positions of each context that keep their activations and whose predictions are not
    /// counted: those that SAEs are not trained on.
    pub skip_positions: usize,
    /// Contexts computed at once; decides speed and memory, not the result.
    pub batch_size: usize,
    /// Upper bound of tokens read of each text; all if absent.
    pub max_tokens: Option<u64>,
    /// The token put at the front of each context; it counts as one of the context's tokens and is
    /// its first position.
    pub bos: Bos,
    /// Whether special tokens that stand in the texts are left out: their positions keep their
    /// activations, and predictions from them and of them are not counted.
    pub special_tokens: SpecialTokens,
}

impl Default for CrossEntropyOptions {
    fn default() -> Self {
        Self {
            context_length: 128,
            skip_positions: 1,
            batch_size: 4,
            max_tokens: None,
            bos: Bos::Auto,
            special_tokens: SpecialTokens::Dropped,
        }
    }
}

/// The host's loss on texts: untouched, with reconstructions, and with zeros at a hook point.
///
/// Replaced, by either, are the positions after the first `skip_positions` of each context, but
/// for those of special tokens, and the predictions made there are those counted. KL is from the clean prediction to the other.
/// `progress` is told the contexts done and the contexts in all.
///
/// # Errors
/// [`Error::Setting`]; [`Error::Dimension`] if the SAE is of another `d_model` than the host;
/// [`Error::Empty`] if there is no prediction to count; [`Error::NoEffect`] if zeros leave the
/// loss as it is; [`Error::NotFinite`] if a loss is NaN or infinite; [`Error::Host`] and
/// [`Error::Model`].
pub fn cross_entropy(
    sae: &Sae,
    host: &HostModel,
    hook: HookPoint,
    texts: &[&str],
    options: CrossEntropyOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CrossEntropy> {
    options.check()?;
    let tokenizer = host.tokenizer()?;
    let bos = options.bos.resolve(tokenizer)?;
    let own = options.context_length - usize::from(bos.is_some());
    let mut contexts = Vec::new();
    for text in texts {
        let mut ids = tokenizer.encode(text)?;
        if let Some(max_tokens) = options.max_tokens {
            ids.truncate(usize::try_from(max_tokens).unwrap_or(usize::MAX));
        }
        host.check_ids(&ids)?;
        contexts.extend(ids.chunks(own).map(|ids| bos.iter().chain(ids).copied().collect()));
    }
    measure(sae, host, hook, &contexts, bos.is_some(), options, progress)
}

/// As [`cross_entropy`], of contexts that are tokens already, whatever their lengths; nothing is
/// put in front of them. A host without a tokenizer has no special tokens.
///
/// # Errors
/// As [`cross_entropy`].
pub fn cross_entropy_of_tokens(
    sae: &Sae,
    host: &HostModel,
    hook: HookPoint,
    contexts: &[Vec<u32>],
    options: CrossEntropyOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CrossEntropy> {
    options.check()?;
    measure(sae, host, hook, contexts, false, options, progress)
}

/// Of contexts whose first token `is_led` says was put in front.
fn measure(
    sae: &Sae,
    host: &HostModel,
    hook: HookPoint,
    contexts: &[Vec<u32>],
    is_led: bool,
    options: CrossEntropyOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CrossEntropy> {
    if sae.config().is_transcoder() {
        let expected = "an autoencoder: what it rebuilds takes the place of what it reads";
        return Err(Error::Ports { expected });
    }
    let (expected, got) = (sae.config().d_model, host.info().d_model);
    if expected != got {
        return Err(Error::Dimension { expected, got, of: "the host" });
    }
    let skip = options.skip_positions;
    let special = match (options.special_tokens, host.tokenizer()) {
        (SpecialTokens::Dropped, Ok(tokenizer)) => tokenizer.special_ids(),
        _ => vec![],
    };
    // Positions that are replaced, from `skip` on.
    let replaced = |ids: &[u32]| -> Vec<bool> {
        let is_special = |at: usize| (at > 0 || !is_led) && special.contains(&ids[at]);
        (skip..ids.len()).map(|at| !is_special(at)).collect()
    };
    // A context counts if a prediction is left.
    let counts = |ids: &[u32]| replaced(ids).windows(2).any(|pair| pair == [true, true]);
    let contexts: Vec<&Vec<u32>> = contexts.iter().filter(|ids| counts(ids)).collect();
    let mut sums = Sums::default();
    let mut done = 0;
    while done < contexts.len() {
        let length = contexts[done].len();
        let batch: Vec<_> = contexts[done..]
            .iter()
            .take(options.batch_size)
            .take_while(|ids| ids.len() == length)
            .collect();
        let flat: Vec<i64> = batch.iter().flat_map(|ids| ids.iter().map(|&id| id.into())).collect();
        let ids = Tensor::f_from_slice(&flat)?
            .f_reshape([batch.len() as i64, length as i64])?
            .f_to_device(host.device())?;
        let replaced: Vec<_> = batch.iter().map(|ids| replaced(ids)).collect();
        sums.add(sae, host, hook, &ids, skip as i64, &replaced)?;
        done += batch.len();
        progress(done as u64, contexts.len() as u64);
    }
    sums.finish(hook)
}

impl CrossEntropyOptions {
    fn check(&self) -> Result<()> {
        let smallest_context = self.skip_positions + 2;
        for (name, got, least) in [
            ("context_length", self.context_length, smallest_context),
            ("batch_size", self.batch_size, 1),
        ] {
            if got < least {
                let expected = format!("at least {least}");
                return Err(Error::Setting { name, expected, got: got.to_string() });
            }
        }
        Ok(())
    }
}
