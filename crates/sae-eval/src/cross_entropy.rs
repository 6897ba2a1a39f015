//! What the host loses when reconstructions take the place of its activations.

use sae_config::CrossEntropy;
use sae_hosts::{Bos, HookPoint, HostModel, SpecialTokens};
use sae_models::Sae;
use tch::{Kind, Tensor};

use crate::correlation::spearman;
use crate::metrics::to_f64s;
use crate::pass::Forward;
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
    sae: &dyn Sae,
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
    sae: &dyn Sae,
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
    sae: &dyn Sae,
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

/// Sums over predictions.
#[derive(Debug, Default)]
struct Sums {
    n_tokens: u64,
    clean: f64,
    spliced: f64,
    zero: f64,
    kl_spliced: f64,
    kl_zero: f64,
    next: Pairs,
    own: Pairs,
}

/// Numbers of active features and losses that belong together.
#[derive(Debug, Default)]
struct Pairs {
    l0: Vec<f64>,
    loss: Vec<f64>,
}

impl Pairs {
    fn add(&mut self, l0: &[f64], loss: &[f64]) {
        self.l0.extend(l0);
        self.loss.extend(loss);
    }

    fn spearman(&self) -> Option<f64> {
        spearman(&self.l0, &self.loss)
    }
}

impl Sums {
    /// Adds contexts of equal length, of whose positions from `skip` on those marked are replaced.
    ///
    /// # Shapes
    /// ids `[contexts, positions]`; marks `[contexts][positions - skip]`.
    fn add(
        &mut self,
        sae: &dyn Sae,
        host: &HostModel,
        hook: HookPoint,
        ids: &Tensor,
        skip: i64,
        marks: &[Vec<bool>],
    ) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let prefix = host.prefix(ids, hook)?;
        let kept = prefix.activations().f_narrow(1, 0, skip)?;
        let replaced = prefix.activations().f_narrow(1, skip, ids.size()[1] - skip)?;
        let flat: Vec<bool> = marks.iter().flatten().copied().collect();
        let is_replaced = Tensor::f_from_slice(&flat)?
            .f_reshape([ids.size()[0], ids.size()[1] - skip, 1])?
            .f_to_device(ids.device())?;
        let logits = |replacement: &Tensor| -> Result<Tensor> {
            let replacement = replacement.f_where_self(&is_replaced, &replaced)?;
            let activations = Tensor::f_cat(&[&kept, &replacement], 1)?;
            Ok(host.logits_from(&prefix, &activations)?)
        };
        let clean = host.logits_from(&prefix, prefix.activations())?;
        let (rebuilt, l0) = rebuild(sae, &replaced)?;
        let spliced = logits(&rebuilt)?;
        let zero = logits(&replaced.f_zeros_like()?)?;

        // One context at a time, for f64 logits take room.
        for (context, marks) in marks.iter().enumerate() {
            // Predictions between tokens that are not special.
            let counted: Vec<usize> =
                (0..marks.len() - 1).filter(|&at| marks[at] && marks[at + 1]).collect();
            let at: Vec<i64> = counted.iter().map(|&at| at as i64 + skip).collect();
            let at = Tensor::f_from_slice(&at)?.f_to_device(ids.device())?;
            let log_p = |logits: &Tensor| -> Result<Tensor> {
                let logits = logits.f_get(context as i64)?.f_index_select(0, &at)?;
                Ok(logits.f_log_softmax(-1, Kind::Double)?)
            };
            let next = at.f_add_scalar(1)?;
            let targets = ids.f_get(context as i64)?.f_index_select(0, &next)?.f_unsqueeze(-1)?;
            let losses = |log_p: &Tensor| -> Result<Tensor> {
                Ok(log_p.f_gather(-1, &targets, false)?.f_flatten(0, -1)?.f_neg()?)
            };
            let loss = |log_p: &Tensor| -> Result<f64> {
                self.finite(losses(log_p)?.f_sum(Kind::Double)?.f_double_value(&[])?)
            };
            let clean = log_p(&clean)?;
            let p = clean.f_exp()?;
            let kl = |log_q: &Tensor| -> Result<f64> {
                // Σ p (ln p − ln q)
                let terms = clean.f_sub(log_q)?.f_mul(&p)?;
                self.finite(terms.f_sum(Kind::Double)?.f_double_value(&[])?)
            };
            let clean_loss = loss(&clean)?;
            let judge = |logits: &Tensor| -> Result<(f64, f64)> {
                let log_q = log_p(logits)?;
                Ok((loss(&log_q)?, kl(&log_q)?))
            };
            let ((spliced, kl_spliced), (zero, kl_zero)) = (judge(&spliced)?, judge(&zero)?);
            let l0 = &l0[context * marks.len()..][..marks.len()];
            let each = to_f64s(&losses(&clean)?)?;
            let at_input: Vec<f64> = counted.iter().map(|&at| l0[at]).collect();
            let at_target: Vec<f64> = counted.iter().map(|&at| l0[at + 1]).collect();
            self.next.add(&at_input, &each);
            self.own.add(&at_target, &each);
            self.n_tokens += counted.len() as u64;
            self.clean += clean_loss;
            self.spliced += spliced;
            self.zero += zero;
            self.kl_spliced += kl_spliced;
            self.kl_zero += kl_zero;
        }
        Ok(())
    }

    fn finite(&self, got: f64) -> Result<f64> {
        if !got.is_finite() {
            return Err(Error::NotFinite { name: "loss of the host", row: self.n_tokens, got });
        }
        Ok(got)
    }

    fn finish(&self, hook: HookPoint) -> Result<CrossEntropy> {
        if self.n_tokens == 0 {
            return Err(Error::Empty { what: "predictions to count" });
        }
        let mean = |sum: f64| sum / self.n_tokens as f64;
        let (clean, spliced, zero) = (mean(self.clean), mean(self.spliced), mean(self.zero));
        if zero == clean || self.kl_zero <= 0.0 {
            return Err(Error::NoEffect { hook, clean, zero });
        }
        Ok(CrossEntropy {
            n_tokens: self.n_tokens,
            clean,
            spliced,
            zero,
            ce_recovered: (zero - spliced) / (zero - clean),
            kl_spliced: mean(self.kl_spliced),
            kl_zero: mean(self.kl_zero),
            kl_recovered: 1.0 - self.kl_spliced / self.kl_zero,
            spearman_l0_next_loss: self.next.spearman(),
            spearman_l0_own_loss: self.own.spearman(),
        })
    }
}

/// Activations `[contexts, positions, d_model]` as the SAE rebuilds them, and the number of active
/// features at each position.
fn rebuild(sae: &dyn Sae, activations: &Tensor) -> Result<(Tensor, Vec<f64>)> {
    let rows = activations
        .f_reshape([-1, activations.size()[2]])?
        .f_to_device(sae.base().device())?
        .f_to_kind(sae.base().kind())?;
    let (x_hat, l0) = Forward::new(sae)
        .apply(sae, &rows, |x_hat, features, _| Ok((x_hat.shallow_clone(), features.l0()?)))?;
    let x_hat = x_hat.f_to_device(activations.device())?.f_to_kind(activations.kind())?;
    Ok((x_hat.f_view_as(activations)?, l0))
}
