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
    /// p in f64, `[counted, 1, vocabulary]`.
    p: Tensor,
    /// Σ p ln p, `[counted]`.
    of_itself: Tensor,
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
        let read = Read::of(logits, &at)?;
        let p = read.z.f_sub(&read.total.f_unsqueeze(-1)?)?.f_exp()?.f_unsqueeze(1)?;
        let of_itself = read.expected_log(&p)?;
        let losses = finite(read.losses(&targets)?, before)?;
        Ok(Self { counted, at, targets, p, of_itself, losses, before })
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
    let read = Read::of(logits, &clean.at)?;
    // Σ p ln p − Σ p ln q
    let kl = to_f64s(&clean.of_itself.f_sub(&read.expected_log(&clean.p)?)?)?;
    let kl = finite(kl, clean.before)?;
    let ce = finite(read.losses(&clean.targets)?, clean.before)?;
    Ok(ce.into_iter().zip(kl).map(|(ce, kl)| Loss { ce, kl }).collect())
}

/// Logits where predictions count, in f64.
struct Read {
    /// `[counted, vocabulary]`.
    z: Tensor,
    /// ln Σ e^z, `[counted]`.
    total: Tensor,
}

impl Read {
    fn of(logits: &Tensor, at: &Tensor) -> Result<Self> {
        let z = logits.f_index_select(0, at)?.f_to_kind(Kind::Double)?;
        let total = z.f_logsumexp([-1i64].as_slice(), false)?;
        Ok(Self { z, total })
    }

    /// −ln q of the targets.
    fn losses(&self, targets: &Tensor) -> Result<Vec<f64>> {
        let of_targets = self.z.f_gather(-1, targets, false)?.f_squeeze_dim(-1)?;
        to_f64s(&self.total.f_sub(&of_targets)?)
    }

    /// Σ p ln q of each row.
    fn expected_log(&self, p: &Tensor) -> Result<Tensor> {
        let of_z = p.f_bmm(&self.z.f_unsqueeze(2)?)?.f_flatten(0, -1)?;
        Ok(of_z.f_sub(&self.total)?)
    }
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
