//! Dead features: how long each has been silent, and the auxiliary loss that revives them.

use sae_config::AuxKConfig;
use tch::{Device, Kind, Tensor};

use crate::rules::Codes;

/// Rows since each feature last fired.
#[derive(Debug)]
pub(crate) struct DeadFeatures {
    pub(crate) rows_since_fired: Tensor,
    /// Rows seen in all: no feature can have been silent for longer.
    pub(crate) rows_seen: u64,
}

impl DeadFeatures {
    pub(crate) fn new(n_features: usize, device: Device) -> Self {
        let rows_since_fired = Tensor::zeros([n_features as i64], (Kind::Int64, device));
        Self { rows_since_fired, rows_seen: 0 }
    }

    /// Counts a batch whose features are `[batch, n_features]`.
    pub(crate) fn count(&mut self, features: &Tensor) {
        let _guard = tch::no_grad_guard();
        let silent = features.detach().amax([0i64].as_slice(), false).le(0.0);
        self.count_silent(&silent, features.size()[0]);
    }

    /// Counts a batch of codes.
    pub(crate) fn count_codes(&mut self, codes: &Codes) {
        let _guard = tch::no_grad_guard();
        self.count_silent(&codes.fired().logical_not(), codes.n_rows());
    }

    fn count_silent(&mut self, silent: &Tensor, batch: i64) {
        self.rows_since_fired += batch;
        self.rows_since_fired *= silent.to_kind(Kind::Int64);
        self.rows_seen += batch as u64;
    }

    /// Counts a batch of `batch` rows that came in parts as one that came at once: a feature that
    /// fired in any part starts anew.
    pub(crate) fn fired_in_parts(&mut self, before: &Tensor, batch: i64) {
        let silent = self.rows_since_fired.eq_tensor(&(before + batch));
        self.rows_since_fired *= silent.to_kind(Kind::Int64);
    }

    /// Which features have been silent for `rows` rows or more, if any can have been.
    pub(crate) fn silent_for(&self, rows: u64) -> Option<Tensor> {
        (self.rows_seen >= rows).then(|| self.rows_since_fired.ge(rows as i64))
    }

    /// How many features have been silent for `rows` rows or more.
    pub(crate) fn n_silent_for(&self, rows: u64) -> Tensor {
        self.silent_for(rows).map_or_else(|| Tensor::from(0i64), |dead| dead.sum(Kind::Int64))
    }

    /// The auxiliary loss: the min(D/2, #dead) dead features of largest |z| of each row rebuild the
    /// detached residual r without bias; weight·‖r − r̂‖² over mean ‖r − r̄‖². Absent where no
    /// feature is dead.
    ///
    /// # Shapes
    /// residual `[batch, d_model]`, z `[batch, n_features]`, w_dec `[n_features, d_model]`.
    pub(crate) fn auxk_loss(
        &self,
        config: &AuxKConfig,
        residual: &Tensor,
        z: &Tensor,
        w_dec: &Tensor,
    ) -> Option<Tensor> {
        if config.weight == 0.0 {
            return None;
        }
        let dead = self.silent_for(config.dead_after_rows)?.nonzero().squeeze_dim(1);
        let n_dead = dead.size()[0];
        if n_dead == 0 {
            return None;
        }
        let k = n_dead.min(residual.size()[1] / 2).max(1);
        let residual = residual.detach();
        let codes = Codes::of_magnitudes(&z.index_select(1, &dead), k);
        let rest = &residual - codes.decode(&w_dec.index_select(0, &dead));
        let spread = mean_square(&(&residual - residual.mean_dim([0i64].as_slice(), true, None)));
        let known = spread.gt(0.0);
        let loss = mean_square(&rest) / spread.where_self(&known, &spread.ones_like());
        let loss = loss * config.weight;
        Some(loss.where_self(&known, &loss.zeros_like()))
    }
}

/// Mean over rows of the squared norm.
pub(crate) fn mean_square(rows: &Tensor) -> Tensor {
    rows.square().sum(rows.kind()) / rows.size()[0] as f64
}

#[cfg(test)]
mod tests {
    use tch::{Device, Tensor};

    use super::DeadFeatures;

    #[test]
    fn counters_rise_by_the_batch_and_fall_to_zero_when_a_feature_fires() {
        let mut dead = DeadFeatures::new(3, Device::Cpu);
        let features = Tensor::from_slice(&[0.0f32, 1.0, 0.0, 0.0, 0.0, 0.0]).reshape([2, 3]);
        dead.count(&features);
        dead.count(&features.flip([1i64]).roll([1i64], [1i64]));
        let counts: Vec<i64> = (&dead.rows_since_fired).try_into().unwrap();
        assert_eq!(counts, [4, 2, 0]);
        assert_eq!([2, 3, 4, 5].map(|rows| dead.n_silent_for(rows).int64_value(&[])), [2, 1, 1, 0]);
    }
}
