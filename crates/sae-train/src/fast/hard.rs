//! TopK, AbsTopK, BatchTopK and Matryoshka BatchTopK: which codes are kept, and the threshold that
//! all but AbsTopK track.

use sae_kernels::{Matrix, Rank, Selector, SparseCodes};
use sae_models::{Largest, Parameters, Role};
use tch::Tensor;

use super::buffers::{Buffers, slice};
use super::{FastRule, Rows};
use crate::Result;
use crate::profile::Profile;
use crate::rules::{Detail, KEPT, TopKFamily};

/// A selection with a given number of features.
pub(super) struct HardRule {
    family: TopKFamily,
    selector: Selector,
    /// What activations of the next micro-batch have to exceed, over the batch.
    floor: f32,
}

impl HardRule {
    pub(super) fn new(family: TopKFamily) -> Self {
        Self { family, selector: Selector::new(), floor: 0.0 }
    }
}

impl FastRule for HardRule {
    /// The largest of a batch that comes in parts: those of each part that exceed the least one
    /// kept so far join the codes, and what is then too much is dropped.
    fn select(&mut self, at: Rows<'_>, buffers: &mut Buffers, _: &mut Profile) -> Result<()> {
        let Rows { step, rows, parameters } = at;
        let (f, largest) = (buffers.f, self.family.largest(step, buffers.batch));
        let (whole, bias) = (buffers.is_whole(), slice(&parameters[Role::EncoderBias])?);
        let z = slice(&buffers.z.values)?;
        let z = Matrix::new("z", &z[..rows.len() * f], f)?;
        let Largest::OfBatch { k } = largest else {
            largest.select(z, &bias, &mut self.selector, &mut buffers.part)?;
            return buffers.take_part(rows, false);
        };
        if whole {
            largest.select(z, &bias, &mut self.selector, &mut buffers.part)?;
            return buffers.take_part(rows, false);
        }
        if rows.start == 0 {
            self.floor = 0.0;
        }
        let floor = self.floor;
        self.selector.filter(z, &bias, |_, v| v > floor, &mut buffers.part)?;
        buffers.take_part(rows, false)?;
        self.floor = floor.max(buffers.codes.keep_largest(k as usize));
        Ok(())
    }

    fn observe(&mut self, step: u64, codes: &SparseCodes, parameters: &mut Parameters) -> Detail {
        if self.family.follows(step) {
            let largest = self.family.largest(step, codes.n_rows());
            see_least(&mut parameters[Role::Threshold], largest, codes);
        }
        self.family.detail(step)
    }

    fn rank(&self) -> Rank {
        self.family.largest(0, 1).rank()
    }
}

/// Lets the moving average of a threshold see the least activation that was kept: of the batch, or
/// the mean over rows.
fn see_least(threshold: &mut Tensor, largest: Largest<'_>, codes: &SparseCodes) {
    let least = match largest {
        Largest::OfBatch { .. } => codes.values().iter().copied().reduce(f32::min).map(f64::from),
        Largest::OfRows { .. } | Largest::OfEachRow { .. } => {
            let of_rows = (0..codes.n_rows())
                .filter_map(|b| codes.row(b).1.iter().copied().reduce(f32::min).map(f64::from));
            let (sum, n) = of_rows.fold((0.0, 0), |(sum, n), least| (sum + least, n + 1));
            (n > 0).then(|| sum / f64::from(n))
        }
    };
    if let Some(least) = least {
        let old = threshold.double_value(&[]);
        let new = if old < 0.0 { least } else { KEPT * old + (1.0 - KEPT) * least };
        let _ = threshold.fill_(new);
    }
}
