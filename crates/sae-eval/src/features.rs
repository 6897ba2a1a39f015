//! What single features of an SAE are active on: contexts, neighbours, effect on the host's logits.
//!
//! [`FeatureObserver`] sees a pass and keeps its codes in a file. [`FeatureDescriber`] goes
//! through them again, so many features at a time that their activations fit in memory: whatever it
//! says is exact but for co-activations of stores with very many codes, which are those of a sample of
//! rows.

mod block;
mod coactivation;
mod contexts;
mod decoder;
mod describe;
mod held_out;
mod largest;
mod live;
mod n_grams;
mod places;
mod ranks;
mod spool;

use std::path::Path;

use sae_data::{ActivationStore, RowMeta};
use sae_hosts::HostModel;
use sae_models::Sae;
use tch::{Device, Kind};

use crate::metrics::to_f64s;
use crate::moments::Moments;
use crate::{Error, EvalBatch, Features, Observer, Result};

pub use describe::FeatureDescriber;

use places::Places;
use spool::{Row, Spool};

/// Rows after which codes are saved, so that a pass that is killed goes on from there.
const ROWS_A_SAVE: u64 = 1 << 16;

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
/// Memory is a few numbers a feature and 4 bytes a row; the file takes 8 bytes a code and 32 a row.
#[derive(Debug)]
pub struct FeatureObserver {
    spool: Spool,
    norms: Vec<f32>,
    k_hat: Option<KHat>,
    /// Of rows that no store has.
    places: Option<Vec<RowMeta>>,
}

/// Moments of k̂, and of each feature the sum over the rows in which it is active.
#[derive(Debug)]
struct KHat {
    moments: Moments,
    sums: Vec<f64>,
}

impl KHat {
    fn new(n_features: usize) -> Self {
        Self { moments: Moments::new(1), sums: vec![0.0; n_features] }
    }

    fn add(&mut self, k_hat: f64, features: &[u32]) {
        self.moments.add(&[k_hat]);
        features.iter().for_each(|&feature| self.sums[feature as usize] += k_hat);
    }

    fn mean_and_sd(&self) -> [f64; 2] {
        [self.moments.mean(0), self.moments.standard_deviation(0)]
    }
}

impl FeatureObserver {
    /// To observe a pass of an SAE of `n_features` over a store, with files in the folder `scratch`.
    /// What an earlier process has saved there of the same pass is gone on with.
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub fn open(n_features: usize, scratch: &Path) -> Result<Self> {
        Self::with(n_features, scratch, None)
    }

    fn with(n_features: usize, scratch: &Path, places: Option<Vec<RowMeta>>) -> Result<Self> {
        let (mut norms, mut k_hat, mut places) = (Vec::new(), None, places);
        let spool = Spool::open(scratch, n_features, |row, features| {
            norms.push(row.norm);
            if !row.k_hat.is_nan() {
                k_hat.get_or_insert_with(|| KHat::new(n_features)).add(row.k_hat, features);
            }
            if let Some(places) = &mut places {
                places.push(row.meta());
            }
        })?;
        Ok(Self { spool, norms, k_hat, places })
    }

    /// Rows that are observed: the pass goes on with the next.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.spool.n_rows()
    }

    /// What there is to say of the features of `sae`, whose pass over `store` was observed; with the
    /// logits of `host`, where one is given.
    ///
    /// # Errors
    /// [`Error::Spool`], [`Error::Torch`], [`Error::Data`]; [`Error::Setting`] for a store of more
    /// than 2³² − 1 rows.
    pub fn finish<'a>(
        mut self,
        sae: &Sae,
        store: &dyn ActivationStore,
        host: Option<&'a HostModel>,
        options: DescribeOptions,
    ) -> Result<FeatureDescriber<'a>> {
        if self.n_rows() != store.n_rows() {
            let (expected, got) = (format!("{} of the store", store.n_rows()), self.n_rows());
            return Err(Error::Setting { name: "rows observed", expected, got: got.to_string() });
        }
        self.spool.save(None)?;
        FeatureDescriber::new(self, sae, Places::of_store(store)?, host, options)
    }

    fn append(
        &mut self,
        features: &[u32],
        values: &[f32],
        norm: f32,
        k_hat: Option<f64>,
        meta: RowMeta,
    ) -> Result<()> {
        let row = self.spool.n_rows();
        if let Some(&got) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::NotFinite { name: "features", row, got: got.into() });
        }
        if let Some(got) = k_hat.filter(|k_hat| !k_hat.is_finite()) {
            return Err(Error::NotFinite { name: "k_hat", row, got });
        }
        self.spool.append(Row::new(norm, k_hat, meta), features, values)?;
        self.norms.push(norm);
        if let Some(places) = &mut self.places {
            places.push(meta);
        }
        let Some(k_hat) = k_hat else { return Ok(()) };
        let n_features = self.spool.n_features();
        self.k_hat.get_or_insert_with(|| KHat::new(n_features)).add(k_hat, features);
        Ok(())
    }

    /// Takes in a batch, whose rows have these places, where no store has them.
    fn take(&mut self, batch: &EvalBatch<'_>, places: Option<&[RowMeta]>) -> Result<()> {
        let n_rows = self.spool.n_rows();
        if batch.first_row != n_rows {
            let (expected, got) = (n_rows.to_string(), batch.first_row.to_string());
            return Err(Error::Setting { name: "first row of a batch", expected, got });
        }
        let exact = batch.x.f_to_kind(Kind::Double)?;
        let norms = exact.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), false)?;
        let norms: Vec<f32> = to_f64s(&norms)?.into_iter().map(|norm| norm as f32).collect();
        let k_hat = batch.k_hat.map(to_f64s).transpose()?;
        for_each_row(batch.features, |row, features, values| {
            let k_hat = k_hat.as_ref().map(|k_hat| k_hat[row]);
            let meta = places.map_or_else(RowMeta::default, |places| places[row]);
            self.append(features, values, norms[row], k_hat, meta)
        })
    }
}

impl Observer for FeatureObserver {
    fn see(&mut self, batch: &EvalBatch<'_>) -> Result<()> {
        self.take(batch, None)?;
        if self.n_rows() < self.spool.saved().rows + ROWS_A_SAVE {
            return Ok(());
        }
        self.spool.save(None)
    }
}

/// Calls `found` with every row of a batch, its active features and their activations.
fn for_each_row(
    features: Features<'_>,
    mut found: impl FnMut(usize, &[u32], &[f32]) -> Result<()>,
) -> Result<()> {
    let all = match features {
        Features::Sparse(codes) => {
            let (mut features, mut values) = (Vec::new(), Vec::new());
            for row in 0..codes.n_rows() {
                let (all, with) = codes.row(row);
                let active = || all.iter().zip(with).filter(|(_, value)| **value != 0.0);
                features.clear();
                features.extend(active().map(|(feature, _)| feature));
                values.clear();
                values.extend(active().map(|(_, value)| value));
                found(row, &features, &values)?;
            }
            return Ok(());
        }
        Features::Dense(all) => all.f_to_kind(Kind::Float)?,
    };
    let is_active = all.f_ne(0.0)?;
    let counts = is_active.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?;
    let numbers = is_active.f_nonzero()?.f_select(1, 1)?.f_to_device(Device::Cpu)?;
    let numbers: Vec<i64> = numbers.f_contiguous()?.try_into()?;
    let numbers: Vec<u32> = numbers.into_iter().map(|number| number as u32).collect();
    let active = all.f_masked_select(&is_active)?.f_to_device(Device::Cpu)?;
    let active: Vec<f32> = active.try_into()?;
    let mut start = 0;
    for (row, n) in crate::metrics::to_counts::<usize>(&counts)?.into_iter().enumerate() {
        found(row, &numbers[start..start + n], &active[start..start + n])?;
        start += n;
    }
    Ok(())
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
