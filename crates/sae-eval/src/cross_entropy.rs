//! What the host loses when reconstructions take the place of its activations.

use sae_config::{CrossEntropy, Spent};
use sae_hosts::{Bos, HookPoint, HostModel, SpecialTokens};
use sae_models::Sae;

use crate::correlation::spearman;
use crate::profile::tenths;
use crate::splice::{Contexts, Loss, Prediction, Replacement, predictions};
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
    let contexts = Contexts::of_texts(host, texts, &options)?;
    measure(sae, host, hook, &contexts, options, progress)
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
    measure(sae, host, hook, &Contexts::of_tokens(contexts), options, progress)
}

fn measure(
    sae: &Sae,
    host: &HostModel,
    hook: HookPoint,
    contexts: &Contexts,
    options: CrossEntropyOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CrossEntropy> {
    let by = [(0, Replacement::Rebuilt), (0, Replacement::Zero)];
    summary(hook, &predictions(&[sae], host, hook, contexts, &options, &by, progress)?)
}

/// Of predictions with reconstructions first and with zeros second.
pub(crate) fn summary(hook: HookPoint, all: &[Prediction]) -> Result<CrossEntropy> {
    let mean = |of: &dyn Fn(&Prediction) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
    let replaced =
        |at: usize| Loss { ce: mean(&|of| of.replaced[at].ce), kl: mean(&|of| of.replaced[at].kl) };
    let (clean, spliced, zero) = (mean(&|of| of.clean), replaced(0), replaced(1));
    if zero.ce == clean || zero.kl <= 0.0 {
        return Err(Error::NoEffect { hook, clean, zero: zero.ce });
    }
    let losses: Vec<f64> = all.iter().map(|of| of.clean).collect();
    let l0 = |at: usize| -> Vec<f64> { all.iter().map(|of| of.l0[at]).collect() };
    let [next, own] = [0, 1].map(l0);
    Ok(CrossEntropy {
        n_tokens: all.len() as u64,
        clean,
        spliced: spliced.ce,
        zero: zero.ce,
        ce_recovered: (zero.ce - spliced.ce) / (zero.ce - clean),
        kl_spliced: spliced.kl,
        kl_zero: zero.kl,
        kl_recovered: 1.0 - spliced.kl / zero.kl,
        spearman_l0_next_loss: spearman(&next, &losses),
        spearman_l0_own_loss: spearman(&own, &losses),
        by_next_loss: by_loss(&next, &losses),
    })
}

/// Numbers of active features in ten groups of equal size, by the loss that belongs to them.
fn by_loss(l0: &[f64], losses: &[f64]) -> Vec<Spent> {
    let spent = |rows: Vec<u32>| {
        let n = rows.len();
        let loss = |at: usize| losses[rows[at] as usize];
        let total: f64 = rows.iter().map(|row| l0[*row as usize]).sum();
        let (from, to, l0) = (loss(0), loss(n - 1), total / n as f64);
        Spent { from, to, n: n as u64, l0, k_hat: None, error: None }
    };
    tenths(losses).into_iter().map(spent).collect()
}

impl CrossEntropyOptions {
    pub(crate) fn check(&self) -> Result<()> {
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
