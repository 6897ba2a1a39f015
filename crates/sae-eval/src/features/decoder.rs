//! What decoder rows alone say of features: norms, cosines, and what they do to the host's logits.

use std::ops::Range;

use rayon::prelude::*;
use sae_config::{Attribution, Component, Neighbor, TokenLogit};
use sae_hosts::HostModel;
use sae_models::{Normalizer, Role, Sae};
use tch::{Device, Kind, Tensor};
use tch_autograd::{matmul_into, view};

use super::largest::Largest;
use super::ranks::histogram;
use crate::Result;

/// Tokens listed at each end.
const N_TOKENS: usize = 10;

/// Components listed.
const N_COMPONENTS: usize = 3;

/// Decoder rows on the CPU.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Rows of norm 1, or of zeros.
    units: Tensor,
    norms: Vec<f32>,
}

impl Decoder {
    /// The decoder of an SAE, in the units of the activations where its rows share a scale.
    pub(super) fn new(sae: &Sae) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let rows = sae.parameters[Role::DecoderWeight].f_to_device(Device::Cpu)?;
        let exact = rows.f_to_kind(Kind::Double)?;
        let norms = exact.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true)?;
        let units = (exact / norms.f_clamp_min(f64::MIN_POSITIVE)?).f_to_kind(Kind::Float)?;
        let scale = match &sae.normalizer {
            Normalizer::Scale { scale } | Normalizer::ShiftScale { scale, .. } => *scale,
            _ => 1.0,
        };
        let norms = crate::metrics::to_f64s(&norms)?;
        let norms = norms.into_iter().map(|norm| (norm * scale) as f32).collect();
        Ok(Self { units: units.contiguous(), norms })
    }

    pub(super) fn norm(&self, feature: u32) -> f32 {
        self.norms[feature as usize]
    }

    /// The largest components of each of `features`; none for a row of zeros.
    pub(super) fn components(&self, features: Range<u32>) -> Result<Vec<Vec<Component>>> {
        let rows = self.rows(&features)?;
        let d_model = self.units.size()[1] as usize;
        let is_zero = self.is_zero();
        let of = |(feature, row): (u32, &[f32])| {
            let total: f64 = row.iter().map(|value| f64::from(value.abs())).sum();
            let mut largest = Largest::new(if is_zero(feature) { 0 } else { N_COMPONENTS });
            (0..).zip(row).for_each(|(dimension, &value)| largest.add(dimension, value));
            let component = |(dimension, unit): (u32, f32)| Component {
                dimension,
                value: unit * self.norm(feature),
                share: (f64::from(unit.abs()) / total) as f32,
            };
            largest.finish().into_iter().map(component).collect()
        };
        let rows = view::<f32>(&rows)?;
        Ok(features.zip(rows.chunks(d_model)).map(of).collect())
    }

    /// Of each of `features`, the `most` others of highest cosine; none for a row of zeros.
    pub(super) fn nearest(&self, features: Range<u32>, most: usize) -> Result<Vec<Vec<Neighbor>>> {
        let n_features = self.norms.len();
        let rows = self.rows(&features)?;
        let shape = [features.len() as i64, n_features as i64];
        let mut cosines = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?;
        matmul_into(&rows, &self.units.tr(), &mut cosines, false)?;
        let cosines = view::<f32>(&cosines)?;
        let is_zero = self.is_zero();
        let of = |(feature, row): (u32, &[f32])| {
            let mut largest = Largest::new(if is_zero(feature) { 0 } else { most });
            for (other, &cosine) in (0..).zip(row) {
                if other != feature && !is_zero(other) {
                    largest.add(other, cosine);
                }
            }
            let found = largest.finish().into_iter();
            found.map(|(feature, value)| Neighbor { feature, value }).collect()
        };
        let all = features.into_par_iter().zip(cosines.par_chunks(n_features));
        Ok(all.map(of).collect())
    }

    /// Of each of `features`, what its row does to the logits of `host`; none for a row of zeros.
    pub(super) fn attribution(
        &self,
        features: Range<u32>,
        host: &HostModel,
    ) -> Result<Vec<Option<Attribution>>> {
        let _guard = tch::no_grad_guard();
        let d_model = self.units.size()[1] as f64;
        let directions = self.rows(&features)? * d_model.sqrt();
        let logits = host.direct_logits(&directions)?;
        let vocabulary = logits.size()[1] as usize;
        let logits = logits.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.contiguous();
        let logits = view::<f32>(&logits)?;
        let all = features.into_par_iter().zip(logits.par_chunks(vocabulary));
        let is_zero = self.is_zero();
        let of = |(feature, row): (u32, &[f32])| (!is_zero(feature)).then(|| attribution(row));
        Ok(all.map(of).collect())
    }

    /// Says which rows are zeros; threads may share it.
    fn is_zero(&self) -> impl Fn(u32) -> bool + Sync + '_ {
        let norms = &self.norms;
        |feature| norms[feature as usize] == 0.0
    }

    fn rows(&self, features: &Range<u32>) -> Result<Tensor> {
        Ok(self.units.f_narrow(0, i64::from(features.start), features.len() as i64)?)
    }
}

fn attribution(logits: &[f32]) -> Attribution {
    let (mut promoted, mut suppressed) = (Largest::new(N_TOKENS), Largest::new(N_TOKENS));
    for (id, &logit) in (0..).zip(logits) {
        promoted.add(id, logit);
        suppressed.add(id, -logit);
    }
    let list = |found: Largest, sign: f32| {
        let found = found.finish().into_iter();
        found.map(|(id, value)| TokenLogit { id, value: sign * value }).collect()
    };
    Attribution {
        promoted: list(promoted, 1.0),
        suppressed: list(suppressed, -1.0),
        histogram: histogram(logits),
    }
}
