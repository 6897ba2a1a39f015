//! What single features of an SAE are active on: contexts, neighbours, effect on the host's logits.
//!
//! [`FeatureObserver`] sees a pass and keeps its codes in a temporary file. [`FeatureDescriber`] goes
//! through them again, so many features at a time that their activations fit in memory: whatever it
//! says is exact but for co-activations of stores with very many codes, which are those of a sample of
//! rows.

mod block;
mod coactivation;
mod contexts;
mod decoder;
mod describe;
mod largest;
mod ranks;
mod spool;

use std::path::Path;

use sae_data::ActivationStore;
use sae_hosts::HostModel;
use sae_models::Sae;
use tch::{Device, Kind};

use crate::metrics::to_f64s;
use crate::moments::Moments;
use crate::{Error, EvalBatch, Features, Observer, Result};

pub use describe::FeatureDescriber;

use spool::Spool;

/// What is shown of each feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescribeOptions {
    /// Tokens shown on each side of the largest one (10).
    pub window: usize,
    /// Seed of the samples (0).
    pub seed: u64,
}

impl Default for DescribeOptions {
    fn default() -> Self {
        Self { window: 10, seed: 0 }
    }
}

/// Keeps the codes of a pass.
///
/// Memory is a few numbers a feature and 4 bytes a row; the file takes 8 bytes a code.
#[derive(Debug)]
pub struct FeatureObserver {
    spool: Spool,
    norms: Vec<f32>,
    k_hat: Option<KHat>,
}

/// Moments of k̂, and of each feature the sum over the rows in which it is active.
#[derive(Debug)]
struct KHat {
    moments: Moments,
    sums: Vec<f64>,
}

impl KHat {
    fn mean_and_sd(&self) -> [f64; 2] {
        [self.moments.mean(0), self.moments.standard_deviation(0)]
    }
}

impl FeatureObserver {
    /// To observe a pass of an SAE of `n_features`, with a temporary file in the folder `scratch`.
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub fn new(n_features: usize, scratch: &Path) -> Result<Self> {
        Ok(Self { spool: Spool::new(scratch, n_features)?, norms: Vec::new(), k_hat: None })
    }

    /// What there is to say of the features of `sae`, whose pass over `store` was observed; with the
    /// logits of `host`, where one is given.
    ///
    /// # Errors
    /// [`Error::Spool`], [`Error::Torch`], [`Error::Data`]; [`Error::Setting`] for a store of more
    /// than 2³² − 1 rows.
    pub fn finish<'a>(
        self,
        sae: &Sae,
        store: &dyn ActivationStore,
        host: Option<&'a HostModel>,
        options: DescribeOptions,
    ) -> Result<FeatureDescriber<'a>> {
        FeatureDescriber::new(self, sae, store, host, options)
    }

    fn append(&mut self, features: &[u32], values: &[f32], k_hat: Option<f64>) -> Result<()> {
        let row = self.spool.n_rows();
        if let Some(&got) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::NotFinite { name: "features", row, got: got.into() });
        }
        self.spool.append(features, values)?;
        let Some(got) = k_hat else { return Ok(()) };
        if !got.is_finite() {
            return Err(Error::NotFinite { name: "k_hat", row, got });
        }
        let n_features = self.spool.n_features();
        let fresh = || KHat { moments: Moments::new(1), sums: vec![0.0; n_features] };
        let k_hat = self.k_hat.get_or_insert_with(fresh);
        k_hat.moments.add(&[got]);
        features.iter().for_each(|&feature| k_hat.sums[feature as usize] += got);
        Ok(())
    }
}

impl Observer for FeatureObserver {
    fn see(&mut self, batch: &EvalBatch<'_>) -> Result<()> {
        let exact = batch.x.f_to_kind(Kind::Double)?;
        let norms = exact.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), false)?;
        self.norms.extend(to_f64s(&norms)?.into_iter().map(|norm| norm as f32));
        let k_hat = batch.k_hat.map(to_f64s).transpose()?;
        let k_hat = |row: usize| k_hat.as_ref().map(|k_hat| k_hat[row]);
        let (mut features, mut values) = (Vec::new(), Vec::new());
        match batch.features {
            Features::Sparse(codes) => {
                for row in 0..codes.n_rows() {
                    let (all, with) = codes.row(row);
                    let active = || all.iter().zip(with).filter(|(_, value)| **value != 0.0);
                    features.clear();
                    features.extend(active().map(|(feature, _)| feature));
                    values.clear();
                    values.extend(active().map(|(_, value)| value));
                    self.append(&features, &values, k_hat(row))?;
                }
            }
            Features::Dense(all) => {
                let all = all.f_to_kind(Kind::Float)?;
                let is_active = all.f_ne(0.0)?;
                let counts = is_active.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?;
                let numbers = is_active.f_nonzero()?.f_select(1, 1)?.f_to_device(Device::Cpu)?;
                let numbers: Vec<i64> = numbers.f_contiguous()?.try_into()?;
                let active = all.f_masked_select(&is_active)?.f_to_device(Device::Cpu)?;
                let active: Vec<f32> = active.try_into()?;
                let mut start = 0;
                for (row, n) in crate::metrics::to_counts::<usize>(&counts)?.into_iter().enumerate()
                {
                    features.clear();
                    features.extend(numbers[start..start + n].iter().map(|&f| f as u32));
                    self.append(&features, &active[start..start + n], k_hat(row))?;
                    start += n;
                }
            }
        }
        Ok(())
    }
}

/// The median of the norms that are not zero; 0 where all are.
fn median(norms: &[f32]) -> f64 {
    let mut sorted: Vec<f32> = norms.iter().copied().filter(|norm| *norm > 0.0).collect();
    let n = sorted.len();
    if n == 0 {
        return 0.0;
    }
    sorted.sort_unstable_by(f32::total_cmp);
    0.5 * (f64::from(sorted[(n - 1) / 2]) + f64::from(sorted[n / 2]))
}
