//! Losses and divergences of the predictions of one context.

use tch::{Kind, Tensor};

use super::Loss;
use crate::metrics::to_f64s;
use crate::{Error, Result};

/// The untouched host's predictions of a context.
#[derive(Debug)]
pub(super) struct Clean {
    /// Positions whose predictions count.
    counted: Vec<usize>,
    /// The same, and the tokens after them `[counted, 1]`, on the host's device.
    at: Tensor,
    targets: Tensor,
    /// ln p in f64, `[counted, vocabulary]`.
    log_p: Tensor,
    losses: Vec<f64>,
    /// Predictions of earlier contexts.
    before: u64,
}

impl Clean {
    /// Of logits `[positions, vocabulary]`. What counts are predictions between positions that are
    /// both marked; marks begin at position `skip`. `before` are the predictions of earlier contexts.
    pub(super) fn of(
        ids: &[u32],
        skip: usize,
        marks: &[bool],
        logits: &Tensor,
        before: u64,
    ) -> Result<Self> {
        let both = |at: &usize| marks[*at] && marks[*at + 1];
        let counted: Vec<usize> = (0..marks.len() - 1).filter(both).map(|at| at + skip).collect();
        let at: Vec<i64> = counted.iter().map(|&at| at as i64).collect();
        let targets: Vec<i64> = counted.iter().map(|&at| ids[at + 1].into()).collect();
        let at = Tensor::f_from_slice(&at)?.f_to_device(logits.device())?;
        let targets =
            Tensor::f_from_slice(&targets)?.f_to_device(logits.device())?.f_unsqueeze(-1)?;
        let log_p = log_softmax(logits, &at)?;
        let losses = losses(&log_p, &targets, before)?;
        Ok(Self { counted, at, targets, log_p, losses, before })
    }

    pub(super) fn counted(&self) -> &[usize] {
        &self.counted
    }

    pub(super) fn losses(&self) -> &[f64] {
        &self.losses
    }
}

/// What other logits `[positions, vocabulary]` of the context come to, where predictions count.
pub(super) fn judge(clean: &Clean, logits: &Tensor) -> Result<Vec<Loss>> {
    let log_q = log_softmax(logits, &clean.at)?;
    // Σ p (ln p − ln q)
    let terms = clean.log_p.f_sub(&log_q)?.f_mul(&clean.log_p.f_exp()?)?;
    let kl = terms.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Double)?;
    let kl = finite(to_f64s(&kl)?, clean.before)?;
    let ce = losses(&log_q, &clean.targets, clean.before)?;
    Ok(ce.into_iter().zip(kl).map(|(ce, kl)| Loss { ce, kl }).collect())
}

fn log_softmax(logits: &Tensor, at: &Tensor) -> Result<Tensor> {
    Ok(logits.f_index_select(0, at)?.f_log_softmax(-1, Kind::Double)?)
}

fn losses(log_p: &Tensor, targets: &Tensor, before: u64) -> Result<Vec<f64>> {
    let of_targets = log_p.f_gather(-1, targets, false)?.f_flatten(0, -1)?;
    finite(to_f64s(&of_targets.f_neg()?)?, before)
}

fn finite(values: Vec<f64>, before: u64) -> Result<Vec<f64>> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => {
            let (name, row, got) = ("loss of the host", before + at as u64, values[at]);
            Err(Error::NotFinite { name, row, got })
        }
        None => Ok(values),
    }
}
