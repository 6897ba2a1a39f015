//! The threshold of each row by ATen operations, as its place between two entries.

use tch::{Kind, Tensor};

use crate::error::Result;

/// Entries further from the pivot, in units of alpha, are as good as so far; sums of so large numbers
/// still tell how many they are.
const FAR: f64 = 1_099_511_627_776.0;

/// The engine's `Gap` for each row, whether wide or not; all `[rows, 1]`, in `f64`.
pub(super) struct Gap {
    first: Tensor,
    last: Tensor,
    above: Tensor,
    below: Tensor,
    /// How far the nearest entry lies from the threshold, in units of alpha.
    pub(super) nearest: Tensor,
}

impl Gap {
    /// The gap in which the threshold of each row of x `[rows, n]` lies.
    pub(super) fn find(x: &Tensor, k: &Tensor, alpha: &Tensor) -> Result<Self> {
        let rows = x.size()[0];
        let k = k.f_unsqueeze(-1)?;
        let (sorted, _) = x.f_sort(-1, true)?;
        let j = count_above(&sorted, &k, alpha)?;
        let end = |end: f64| Tensor::f_full([rows, 1], end, (Kind::Double, x.device()));
        let first = Tensor::f_cat(&[&end(f64::INFINITY)?, &sorted], -1)?.f_gather(-1, &j, false)?;
        let last =
            Tensor::f_cat(&[&sorted, &end(f64::NEG_INFINITY)?], -1)?.f_gather(-1, &j, false)?;
        let up = x.f_greater_equal_tensor(&first)?;
        let sum = |u: Tensor, counts: &Tensor| {
            let tails = u.f_neg()?.f_exp()?;
            tails.f_where_self(counts, &tails.f_zeros_like()?)?.f_sum_dim_intlist(
                -1,
                true,
                Kind::Double,
            )
        };
        let upper = sum((x - &first) / alpha, &up)?;
        let lower = sum((&last - x) / alpha, &up.f_logical_not()?)?;
        let width = (&first - &last) / alpha;
        let excess = j.f_to_kind(Kind::Double)? - &k;
        let root = excess.f_hypot(&((&upper * &lower).f_sqrt()? * (&width * -0.5).f_exp()?))?;
        let high = ((&excess + &root) / &upper).f_log()?;
        let low = ((&root - &excess) / &lower).f_log()?;
        let (positive, negative) = (excess.f_greater(0.0)?, excess.f_less(0.0)?);
        let choose = |more: &Tensor, less: &Tensor, equal: &Tensor| {
            more.f_where_self(&positive, &less.f_where_self(&negative, equal)?)
        };
        // Both of them relative to the nearest entry, which in the middle needs no width.
        let half = (&lower / &upper).f_log()? * 0.5;
        let most = half.f_abs()?;
        let (other_low, other_high) = (-&width - &high, -&width - &low);
        let nearest = choose(
            &high.f_maximum(&other_low)?.f_neg()?,
            &low.f_maximum(&other_high)?.f_neg()?,
            &(&width * 0.5 - &most),
        )?;
        let above = choose(&(&high + &nearest), &(&other_high + &nearest), &(&half - &most))?;
        let below = choose(&(&other_low + &nearest), &(&low + &nearest), &(-&half - &most))?;
        Ok(Self { first, last, above, below, nearest })
    }

    /// Makes the rows that `outside` `[rows, 1]` marks such that no number follows from them.
    pub(super) fn forget(&mut self, outside: &Tensor) -> Result<()> {
        for place in [&mut self.above, &mut self.below, &mut self.nearest] {
            *place = place.f_masked_fill(outside, f64::NAN)?;
        }
        Ok(())
    }

    /// What backward needs of it.
    pub(super) fn tensors(&self) -> [&Tensor; 5] {
        [&self.first, &self.last, &self.above, &self.below, &self.nearest]
    }

    /// The gap of these tensors.
    pub(super) fn from_tensors(tensors: &[Tensor]) -> Option<Self> {
        let [first, last, above, below, nearest] = tensors else { return None };
        let [first, last, above, below, nearest] =
            [first, last, above, below, nearest].map(Tensor::shallow_clone);
        Some(Self { first, last, above, below, nearest })
    }

    /// Whether each entry lies above the threshold, and how much further from it than the nearest
    /// one, in units of alpha.
    pub(super) fn place(&self, x: &Tensor, alpha: &Tensor) -> Result<(Tensor, Tensor)> {
        let x = x.f_to_kind(Kind::Double)?;
        let above = x.f_greater_equal_tensor(&self.first)?;
        let up = (&x - &self.first) / alpha - &self.above;
        let down = (&self.last - &x) / alpha - &self.below;
        let further = up.f_where_self(&above, &down)?;
        Ok((above, further))
    }
}

/// How many entries of each row lie at or above its threshold: Σp at each of them is at most k.
fn count_above(sorted: &Tensor, k: &Tensor, alpha: &Tensor) -> Result<Tensor> {
    let (rows, n) = sorted.size2()?;
    let place = (k.f_ceil()? - 1.0).f_clamp(0.0, (n - 1) as f64)?.f_to_kind(Kind::Int64)?;
    let pivot = sorted.f_gather(-1, &place, false)?;
    let u = ((sorted - &pivot) / alpha).f_clamp(-FAR, FAR)?;
    let end = Tensor::f_full([rows, 1], f64::NEG_INFINITY, (Kind::Double, sorted.device()))?;
    // ln of the sum of e^−u over the entries up to each one, and of that of e^u over those after it.
    let above = u.f_neg()?.f_logcumsumexp(-1)?;
    let below = u.f_flip([-1])?.f_logcumsumexp(-1)?.f_flip([-1])?;
    let below = Tensor::f_cat(&[&below.f_narrow(-1, 1, n - 1)?, &end], -1)?;
    let count = Tensor::f_arange_start(1, n + 1, (Kind::Double, sorted.device()))?;
    let sums = count - (above + &u).f_exp()? * 0.5 + (below - &u).f_exp()? * 0.5;
    Ok(k.f_searchsorted(&sums, false, true, "right", None::<&Tensor>)?)
}
