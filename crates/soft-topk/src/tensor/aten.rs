//! The operator by ATen operations, for tensors on any device.
//!
//! Rows are sorted; LapSum's two prefix sums are running log-sum-exps from both ends; Σp at each
//! entry tells between which two the threshold lies, and there it has a closed form, relative to these
//! two as in the engine's `gap`. All of it is computed in `f64`.

use tch::{Kind, Tensor};
use tch_autograd::{BackwardContext, BoxError, ForwardContext, Function};

use super::form::Form;
use super::gap::Gap;
use crate::check::{check_alpha, least_budget};
use crate::engine::Real;
use crate::error::{Error, Result};

/// Weights, or their logarithms, of rows x `[rows, n]`, given k `[rows]` and alpha `[]`.
#[derive(Debug)]
pub(crate) struct Aten {
    pub(crate) form: Form,
    pub(crate) domain: Domain,
}

/// What becomes of values outside the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Domain {
    /// An error, for which flags are read from the device.
    Checked,
    /// Rows of NaN; alpha is inside.
    OrNan,
}

impl Function for Aten {
    const NAME: &'static str = "SoftTopK";

    fn forward(
        &mut self,
        ctx: &mut ForwardContext,
        inputs: &[Tensor],
    ) -> std::result::Result<Vec<Tensor>, BoxError> {
        let (x, kind) = (&inputs[0], inputs[1].kind());
        let (k, alpha) = (inputs[1].f_to_kind(Kind::Double)?, inputs[2].f_to_kind(Kind::Double)?);
        check_length(x)?;
        let outside = match self.domain {
            Domain::Checked => {
                check(x, &inputs[1], &inputs[2])?;
                None
            }
            Domain::OrNan => Some(outside(x, &inputs[1])?),
        };
        // A place for k must be found in every row.
        let k = match &outside {
            Some(outside) => k.f_masked_fill(&outside.f_squeeze_dim(-1)?, 1.0)?,
            None => k,
        };
        let mut gap = Gap::find(&x.f_to_kind(Kind::Double)?, &k, &alpha)?;
        if let Some(outside) = &outside {
            gap.forget(outside)?;
        }
        let (above, further) = gap.place(x, &alpha)?;
        let size = &gap.nearest + further;
        let tail = size.f_neg()?.f_exp()? * 0.5;
        let out = match self.form {
            Form::Weights => {
                let tail = tail.f_masked_fill(&size.f_gt(cut(kind))?, 0.0)?;
                (tail.f_neg()? + 1.0).f_where_self(&above, &tail)?
            }
            Form::Logarithms => {
                let below = size.f_neg()? - std::f64::consts::LN_2;
                tail.f_neg()?.f_log1p()?.f_where_self(&above, &below)?
            }
        };
        ctx.save_for_backward(&[x, &alpha]);
        ctx.save_for_backward(&gap.tensors());
        Ok(vec![out.f_to_kind(kind)?])
    }

    /// The closed form of the engine's `gradient` and `log`.
    fn backward(
        &self,
        ctx: &BackwardContext,
        grad_outputs: &[Option<Tensor>],
    ) -> std::result::Result<Vec<Option<Tensor>>, BoxError> {
        let Some(v) = &grad_outputs[0] else {
            return Ok(vec![None, None, None]);
        };
        let [x, alpha, ends @ ..] = ctx.saved() else {
            return Err("x and alpha were saved".into());
        };
        let gap = Gap::from_tensors(ends).ok_or("the gap was saved")?;
        let (kind, v) = (v.kind(), v.f_to_kind(Kind::Double)?);
        let (above, further) = gap.place(x, alpha)?;
        let size = (&gap.nearest + &further).f_clamp_max(FARTHEST)?;
        let z = size.f_where_self(&above, &size.f_neg()?)?;
        // Tails relative to that of the nearest entry, so that their sum does not vanish.
        let tail = further.f_neg()?.f_exp()? * 0.5;
        let damping = gap.nearest.f_neg()?.f_exp()?;
        let sum = |t: &Tensor| t.f_sum_dim_intlist(-1, true, Kind::Double);
        let total = sum(&tail)?;
        let mean = sum(&(&tail * &z))? / &total;
        // d(output)/dz·v, what of it each tail takes back through the threshold, and dp/dk·v.
        let (direct, share, q) = match self.form {
            Form::Weights => {
                let q = sum(&(&tail * &v))? / &total;
                (&tail * &damping * &v, &q * &damping, q)
            }
            Form::Logarithms => {
                let t = &tail * &damping;
                let ratio = (&t / (t.f_neg()? + 1.0)).f_where_self(&above, &t.f_ones_like()?)?;
                let direct = ratio * &v;
                let share = sum(&direct)? / &total;
                // In a gap so wide that its tails underflow, ln p is infinitely steep in k.
                let none = share.f_eq(0.0)?;
                let q = share.f_zeros_like()?.f_where_self(&none, &(&share / &damping))?;
                (direct, share, q)
            }
        };
        let grad_x = (&direct - &tail * &share) / alpha;
        let grad_k = q.f_squeeze_dim(-1)?;
        let grad_alpha = (&direct * (mean - &z)).f_sum(Kind::Double)? / alpha;
        Ok(vec![
            Some(grad_x.f_to_kind(x.kind())?),
            Some(grad_k.f_to_kind(kind)?),
            Some(grad_alpha.f_to_kind(kind)?),
        ])
    }
}

/// Entries further from the threshold, in units of alpha, are so far for the gradient of alpha.
const FARTHEST: f64 = 1e300;

/// Where tails end, as in the engine, up to the few alpha that its last pass is from the threshold.
fn cut(kind: Kind) -> f64 {
    if kind == Kind::Double { f64::CUT } else { f32::CUT.into() }
}

fn check_length(x: &Tensor) -> Result<()> {
    let n = x.size()[1];
    if n < 2 || u32::try_from(n).is_err() {
        return Err(Error::RowLength { n: n as usize });
    }
    Ok(())
}

/// Whether a temperature lies inside the domain of a computation in `kind`.
pub(crate) fn check_temperature(alpha: f64, kind: Kind) -> Result<()> {
    if kind == Kind::Double { check_alpha::<f64>(alpha) } else { check_alpha::<f32>(alpha) }
}

fn least(kind: Kind, n: usize) -> f64 {
    if kind == Kind::Double { least_budget::<f64>(n) } else { least_budget::<f32>(n) }
}

/// Whether each budget lies between 0 and n.
fn inside(k: &Tensor, n: i64) -> Result<Tensor> {
    Ok(k.f_greater(0.0)?.f_logical_and(&k.f_less(n as f64)?)?)
}

/// Which rows `[rows, 1]` have a budget or an entry outside the domain.
fn outside(x: &Tensor, k: &Tensor) -> Result<Tensor> {
    let n = x.size()[1];
    let least = least(k.kind(), n as usize);
    let enough = k.f_to_kind(Kind::Double)?.f_greater_equal(least)?;
    let finite = x.f_isfinite()?.f_all_dim(-1, false)?;
    let inside = inside(k, n)?.f_logical_and(&enough)?.f_logical_and(&finite)?;
    Ok(inside.f_logical_not()?.f_unsqueeze(-1)?)
}

/// The domain, checked on the device.
fn check(x: &Tensor, k: &Tensor, alpha: &Tensor) -> Result<()> {
    let n = x.size()[1];
    check_temperature(alpha.f_double_value(&[])?, alpha.kind())?;
    if let Some(row) = super::hard::first_true(&inside(k, n)?.f_logical_not()?)? {
        let k = k.f_double_value(&[row])?;
        return Err(Error::Budget { row: row as usize, k, n: n as usize });
    }
    let least = least(alpha.kind(), n as usize);
    if let Some(row) = super::hard::first_true(&k.f_to_kind(Kind::Double)?.f_less(least)?)? {
        let k = k.f_double_value(&[row])?;
        return Err(Error::SmallBudget { row: row as usize, k, least });
    }
    super::hard::refuse_infinite(x)
}

#[cfg(test)]
mod tests;
