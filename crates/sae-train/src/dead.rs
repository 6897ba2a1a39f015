//! Dead features: how long each has been silent, and the auxiliary loss that revives them.

use sae_config::AuxKConfig;
use sae_models::Codes;
use tch::{Device, Kind, Tensor};
use tch_autograd::read;

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

    /// The counters after a batch of `n_rows` in which these features `[n_features]` fired.
    pub(crate) fn after(&self, fired: &Tensor, n_rows: i64) -> Self {
        let _guard = tch::no_grad_guard();
        let silent = fired.logical_not().to_kind(Kind::Int64);
        let rows_since_fired = (&self.rows_since_fired + n_rows) * silent;
        Self { rows_since_fired, rows_seen: self.rows_seen + n_rows as u64 }
    }

    /// Which features have been silent for `rows` rows or more, if any can have been.
    pub(crate) fn silent_for(&self, rows: u64) -> Option<Tensor> {
        (self.rows_seen >= rows).then(|| self.rows_since_fired.ge(rows as i64))
    }

    /// How many features have been silent for `rows` rows or more.
    pub(crate) fn n_silent_for(&self, rows: u64) -> Tensor {
        self.silent_for(rows).map_or_else(|| Tensor::from(0i64), |dead| dead.sum(Kind::Int64))
    }

    /// Whether any feature has been silent for `rows` rows or more; read from the device.
    pub(crate) fn some_silent_for(&self, rows: u64) -> bool {
        self.silent_for(rows).is_some_and(|silent| read::whole_number(&silent.any()) != 0)
    }

    /// The auxiliary loss: the min(D/2, #dead) dead features of largest |z| of each row rebuild the
    /// detached residual r without bias; weight·‖r − r̂‖² over mean ‖r − r̄‖². Absent where no
    /// feature is dead; on a GPU, from which it is not read how many there are, 0 with gradients of
    /// 0 once there can be any.
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
        let dead = self.silent_for(config.dead_after_rows)?;
        let residual = residual.detach();
        let most = (residual.size()[1] / 2).max(1);
        let (rebuilt, any) = if read::waits(z.device()) {
            // Features that are alive count as inactive: they may be chosen, and add nothing.
            let z = z.masked_fill(&dead.logical_not(), 0.0);
            let codes = Codes::of_magnitudes(&z, most.min(z.size()[1]));
            (codes.decode(w_dec), Some(dead.any()))
        } else {
            let dead = read::places(&dead);
            let k = dead.size()[0].min(most);
            if k == 0 {
                return None;
            }
            let codes = Codes::of_magnitudes(&z.index_select(1, &dead), k);
            (codes.decode(&w_dec.index_select(0, &dead)), None)
        };
        let rest = &residual - rebuilt;
        let spread = mean_square(&(&residual - residual.mean_dim([0i64].as_slice(), true, None)));
        let known = spread.gt(0.0);
        let known = any.map_or_else(|| known.shallow_clone(), |any| known.logical_and(&any));
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
    use tch::{Device, Kind, Tensor};

    use super::DeadFeatures;

    #[test]
    fn counters_rise_by_the_batch_and_fall_to_zero_when_a_feature_fires() {
        let fired = |feature: i64| Tensor::arange(3, (Kind::Int64, Device::Cpu)).eq(feature);
        let dead = DeadFeatures::new(3, Device::Cpu).after(&fired(1), 2).after(&fired(2), 2);
        let counts: Vec<i64> = (&dead.rows_since_fired).try_into().unwrap();
        assert_eq!(counts, [4, 2, 0]);
        assert_eq!([2, 3, 4, 5].map(|rows| dead.n_silent_for(rows).int64_value(&[])), [2, 1, 1, 0]);
    }
}
