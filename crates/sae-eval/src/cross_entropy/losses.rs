//! Losses of the host on its next tokens, untouched and with activations replaced.

use sae_config::{CrossEntropy, Spent};
use sae_hosts::{HookPoint, HostModel};
use sae_models::Sae;
use tch::{Kind, Tensor};

use crate::correlation::spearman;
use crate::metrics::to_f64s;
use crate::pass::Forward;
use crate::profile::tenths;
use crate::{Error, Result};

/// Sums over predictions.
#[derive(Debug, Default)]
pub(super) struct Sums {
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

    fn by_loss(&self) -> Vec<Spent> {
        let spent = |rows: Vec<u32>| {
            let loss = |at: usize| self.loss[rows[at] as usize];
            let total: f64 = rows.iter().map(|row| self.l0[*row as usize]).sum();
            let n = rows.len();
            let (from, to, l0) = (loss(0), loss(n - 1), total / n as f64);
            Spent { from, to, n: n as u64, l0, k_hat: None, error: None }
        };
        tenths(&self.loss).into_iter().map(spent).collect()
    }

    fn spearman(&self) -> Option<f64> {
        spearman(&self.l0, &self.loss)
    }
}

/// Logits of the host: untouched, with reconstructions, and with zeros.
struct Logits {
    clean: Tensor,
    spliced: Tensor,
    zero: Tensor,
}

impl Sums {
    /// Adds contexts of equal length, of whose positions from `skip` on those marked are replaced.
    ///
    /// # Shapes
    /// ids `[contexts, positions]`; marks `[contexts][positions - skip]`.
    pub(super) fn add(
        &mut self,
        sae: &Sae,
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
            let row = |logits: &Tensor| logits.f_get(context as i64);
            let logits = Logits { clean: row(&clean)?, spliced: row(&spliced)?, zero: row(&zero)? };
            let l0 = &l0[context * marks.len()..][..marks.len()];
            self.add_context(&row(ids)?, skip, marks, l0, &logits)?;
        }
        Ok(())
    }

    /// Adds the predictions of one context.
    ///
    /// # Shapes
    /// ids `[positions]`; marks and l0 `[positions - skip]`; logits `[positions, vocabulary]`.
    fn add_context(
        &mut self,
        ids: &Tensor,
        skip: i64,
        marks: &[bool],
        l0: &[f64],
        logits: &Logits,
    ) -> Result<()> {
        // Predictions between tokens that are not special.
        let counted: Vec<usize> =
            (0..marks.len() - 1).filter(|&at| marks[at] && marks[at + 1]).collect();
        let at: Vec<i64> = counted.iter().map(|&at| at as i64 + skip).collect();
        let at = Tensor::f_from_slice(&at)?.f_to_device(ids.device())?;
        let log_p = |logits: &Tensor| -> Result<Tensor> {
            let logits = logits.f_index_select(0, &at)?;
            Ok(logits.f_log_softmax(-1, Kind::Double)?)
        };
        let next = at.f_add_scalar(1)?;
        let targets = ids.f_index_select(0, &next)?.f_unsqueeze(-1)?;
        let losses = |log_p: &Tensor| -> Result<Tensor> {
            Ok(log_p.f_gather(-1, &targets, false)?.f_flatten(0, -1)?.f_neg()?)
        };
        let loss = |log_p: &Tensor| -> Result<f64> {
            self.finite(losses(log_p)?.f_sum(Kind::Double)?.f_double_value(&[])?)
        };
        let clean = log_p(&logits.clean)?;
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
        let ((spliced, kl_spliced), (zero, kl_zero)) =
            (judge(&logits.spliced)?, judge(&logits.zero)?);
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
        Ok(())
    }

    fn finite(&self, got: f64) -> Result<f64> {
        if !got.is_finite() {
            return Err(Error::NotFinite { name: "loss of the host", row: self.n_tokens, got });
        }
        Ok(got)
    }

    pub(super) fn finish(&self, hook: HookPoint) -> Result<CrossEntropy> {
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
            by_next_loss: self.next.by_loss(),
        })
    }
}

/// Activations `[contexts, positions, d_model]` as the SAE rebuilds them, and the number of active
/// features at each position.
fn rebuild(sae: &Sae, activations: &Tensor) -> Result<(Tensor, Vec<f64>)> {
    let rows = activations
        .f_reshape([-1, activations.size()[2]])?
        .f_to_device(sae.device())?
        .f_to_kind(sae.kind())?;
    let (x_hat, l0) = Forward::new(sae)
        .apply(sae, &rows, |x_hat, features, _| Ok((x_hat.shallow_clone(), features.l0()?)))?;
    let x_hat = x_hat.f_to_device(activations.device())?.f_to_kind(activations.kind())?;
    Ok((x_hat.f_view_as(activations)?, l0))
}
