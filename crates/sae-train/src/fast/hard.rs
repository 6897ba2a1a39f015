//! TopK, AbsTopK, BatchTopK and Matryoshka BatchTopK: which codes are kept, and the threshold that
//! all but AbsTopK track.

use std::ops::Range;

use sae_config::{AbsTopKConfig, MatryoshkaBatchTopKConfig, TopKConfig};
use sae_kernels::{Count, Matrix, Rank, Selector, SparseCodes};
use sae_models::Sae;
use tch::Tensor;

use super::buffers::{Buffers, slice};
use super::threshold_buffer;
use crate::Result;
use crate::rules::{Detail, KEPT, annealed_k};
use crate::schedule::Anneal;

/// Where the features of largest rank are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Among {
    /// In each row.
    Row(Rank),
    /// In the whole batch.
    Batch,
}

/// A selection with a given number of features.
pub(super) struct HardRule {
    among: Among,
    k: Anneal,
    selector: Selector,
    /// What activations of the next micro-batch have to exceed, over the batch.
    floor: f32,
    threshold: Option<Tensor>,
    threshold_start_step: u64,
}

impl HardRule {
    /// The k largest of each row.
    pub(super) fn rows(config: &TopKConfig, official: bool, sae: &dyn Sae) -> Result<Self> {
        let k = annealed_k(config.k, config.k_anneal_steps, official, sae);
        Self::new(Among::Row(Rank::Value), k, config.threshold_start_step, sae)
    }

    /// The k of largest magnitude of each row.
    pub(super) fn magnitudes(config: &AbsTopKConfig, official: bool, sae: &dyn Sae) -> Self {
        Self {
            among: Among::Row(Rank::Magnitude),
            k: annealed_k(config.k, config.k_anneal_steps, official, sae),
            selector: Selector::new(),
            floor: 0.0,
            threshold: None,
            threshold_start_step: 0,
        }
    }

    /// The k·B largest of the batch.
    pub(super) fn batch(config: &TopKConfig, official: bool, sae: &dyn Sae) -> Result<Self> {
        let k = annealed_k(config.k, config.k_anneal_steps, official, sae);
        Self::new(Among::Batch, k, config.threshold_start_step, sae)
    }

    /// The same, for a dictionary of prefixes.
    pub(super) fn matryoshka(
        config: &MatryoshkaBatchTopKConfig,
        official: bool,
        sae: &dyn Sae,
    ) -> Result<Self> {
        let k = annealed_k(config.k, config.k_anneal_steps, official, sae);
        Self::new(Among::Batch, k, config.threshold_start_step, sae)
    }

    fn new(among: Among, k: Anneal, start: Option<u64>, sae: &dyn Sae) -> Result<Self> {
        Ok(Self {
            among,
            k,
            selector: Selector::new(),
            floor: 0.0,
            threshold: Some(threshold_buffer(sae)?),
            threshold_start_step: start.unwrap_or(0),
        })
    }

    /// Selects the codes of some rows of a step, whose pre-activations are in z.
    ///
    /// The largest of a batch that comes in parts: those of each part that exceed the least one
    /// kept so far join the codes, and what is then too much is dropped.
    pub(super) fn select(
        &mut self,
        step: u64,
        rows: &Range<usize>,
        bias: &[f32],
        buffers: &mut Buffers,
    ) -> Result<()> {
        let k = self.k.at(step).trunc() as usize;
        let (f, batch, whole) = (buffers.f, buffers.batch, buffers.is_whole());
        let z = slice(&buffers.z)?;
        let z = Matrix::new("z", &z[..rows.len() * f], f)?;
        let part = &mut buffers.part;
        if let Among::Row(rank) = self.among {
            self.selector.top_k(z, bias, Count::Same(k), rank, part)?;
            return buffers.take_part(rows, false);
        }
        if whole {
            self.selector.batch_top_k(z, bias, k * batch, part)?;
            return buffers.take_part(rows, false);
        }
        if rows.start == 0 {
            self.floor = 0.0;
        }
        let floor = self.floor;
        self.selector.filter(z, bias, |_, v| v > floor, part)?;
        buffers.take_part(rows, false)?;
        self.floor = floor.max(buffers.codes.keep_largest(k * batch));
        Ok(())
    }

    /// What is known of a step whose codes are selected; the threshold sees them.
    pub(super) fn finish(&mut self, step: u64, codes: &SparseCodes) -> Detail {
        if let Some(threshold) = &mut self.threshold
            && step > self.threshold_start_step
        {
            see_least(threshold, self.among, codes);
        }
        let k = self.k.at(step).trunc();
        Detail { k_target: Some(k), ..Detail::default() }
    }

    /// By what features are compared.
    pub(super) fn rank(&self) -> Rank {
        match self.among {
            Among::Row(rank) => rank,
            Among::Batch => Rank::Value,
        }
    }
}

/// Lets the moving average of a threshold see the least activation that was kept: of the batch, or
/// the mean over rows.
fn see_least(threshold: &mut Tensor, among: Among, codes: &SparseCodes) {
    let least = match among {
        Among::Batch => codes.values().iter().copied().reduce(f32::min).map(f64::from),
        Among::Row(_) => {
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
