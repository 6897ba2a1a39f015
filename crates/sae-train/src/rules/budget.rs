//! The budget of SoftSAE: what holds mean k̂ at k.

use sae_config::{Budget, SoftRecipe};
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tch_autograd::read;

use crate::Result;

/// Gain of the multiplier of [`Budget::Dual`]: what it rises by where mean k̂ is twice k.
const DUAL_GAIN: f64 = 0.01;

/// The loss term of the budget, and the state of its multiplier.
#[derive(Debug)]
pub(crate) struct BudgetLoss {
    budget: Budget,
    weight: f64,
    beta: f64,
    /// μ of [`Budget::Dual`]: what a mean k̂ that is higher by its k-th part must save in loss; in
    /// f64, on the device, so that a step reads nothing from there.
    multiplier: Tensor,
}

impl BudgetLoss {
    pub(crate) fn new(recipe: &SoftRecipe, device: Device) -> Self {
        let &SoftRecipe { budget, k_loss_weight: weight, k_loss_beta: beta, .. } = recipe;
        let multiplier = Tensor::zeros([0i64; 0], (Kind::Double, device));
        Self { budget, weight, beta, multiplier }
    }

    /// The term for k̂ `[batch]`, with its gradient.
    pub(crate) fn loss(&self, k_hat: &Tensor, k: f64) -> Tensor {
        let mean = k_hat.mean(k_hat.kind());
        match self.budget {
            Budget::OneSided => self.over(&mean, k),
            Budget::TwoSided => self.over(&mean, k) + self.over(&-mean, -k),
            Budget::Dual => {
                let excess = mean / k - 1.0;
                &excess * self.multiplier.to_kind(excess.kind())
                    + excess.square() * (0.5 * self.weight)
            }
        }
    }

    /// λ·softplus_β(mean − k).
    fn over(&self, mean: &Tensor, k: f64) -> Tensor {
        ((mean - k) * self.beta).softplus() * (self.weight / self.beta)
    }

    /// The same term and its slope in mean k̂, as numbers.
    pub(crate) fn value_and_slope(&self, mean: f64, k: f64) -> (f64, f64) {
        let (weight, beta) = (self.weight, self.beta);
        let softplus = |u: f64| u.max(0.0) + (-u.abs()).exp().ln_1p();
        let sigmoid = |u: f64| 1.0 / (1.0 + (-u).exp());
        let excess = beta * (mean - k);
        let (over, slope) = (weight * softplus(excess) / beta, weight * sigmoid(excess));
        match self.budget {
            Budget::OneSided => (over, slope),
            Budget::TwoSided => {
                (over + weight * softplus(-excess) / beta, slope - weight * sigmoid(-excess))
            }
            Budget::Dual => {
                let excess = mean / k - 1.0;
                let multiplier = read::number(&self.multiplier);
                let value = multiplier * excess + 0.5 * weight * excess * excess;
                (value, (multiplier + weight * excess) / k)
            }
        }
    }

    /// Moves the multiplier after a step that saw this mean of k̂, in f64.
    pub(crate) fn after_step(&mut self, mean: &Tensor, k: f64) {
        if self.budget == Budget::Dual {
            let _guard = tch::no_grad_guard();
            let risen = &self.multiplier + (mean / k - 1.0) * DUAL_GAIN;
            self.multiplier = risen.clamp_min(0.0);
        }
    }

    pub(crate) fn save(&self) -> Value {
        match self.budget {
            Budget::Dual => Value::from(read::number(&self.multiplier)),
            Budget::OneSided | Budget::TwoSided => Value::Null,
        }
    }

    pub(crate) fn restore(&mut self, saved: &Value) -> Result<()> {
        if self.budget == Budget::Dual {
            let multiplier = saved.as_f64().filter(|m| m.is_finite() && *m >= 0.0);
            let multiplier = multiplier.ok_or_else(|| {
                sae_config::Error::value("rule", "the multiplier of a budget", saved)
            })?;
            let _ = self.multiplier.fill_(multiplier);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sae_config::{Recipe, RunConfig};
    use tch::{Device, Kind, Tensor};

    use super::BudgetLoss;

    fn budget(name: &str) -> BudgetLoss {
        let text = format!(
            "data.store = ''\nsae.n_features = 64\ntraining = {{ steps = 9, batch_size = 4 }}\n\
             [architecture]\nname = 'soft'\nk = 6\nk_loss_weight = 0.7\nbudget = '{name}'"
        );
        let run = toml::from_str::<RunConfig>(&text).unwrap().check().unwrap();
        let Recipe::Soft(recipe) = run.recipe else { panic!("{run:?}") };
        let mut budget = BudgetLoss::new(&recipe, Device::Cpu);
        let _ = budget.multiplier.fill_(0.3);
        budget
    }

    #[test]
    fn values_and_slopes_are_those_of_the_differentiable_term() {
        for name in ["one_sided", "two_sided", "dual"] {
            // From βu = 20 on, softplus is linear in libtorch.
            for mean in [2.1, 5.9, 6.0, 6.2, 9.9] {
                let budget = budget(name);
                let k_hat = Tensor::full([4], mean, (Kind::Double, Device::Cpu));
                let k_hat = k_hat.set_requires_grad(true);
                let loss = budget.loss(&k_hat, 6.0);
                let (value, slope) = budget.value_and_slope(mean, 6.0);
                assert!((loss.double_value(&[]) - value).abs() < 1e-12, "{name} at {mean}");
                let gradient = Tensor::run_backward(&[&loss], &[&k_hat], false, false);
                let total = gradient[0].sum(Kind::Double).double_value(&[]);
                assert!((total - slope).abs() < 1e-12, "{name} at {mean}: {total}, {slope}");
            }
        }
    }

    #[test]
    fn the_multiplier_rises_where_k_is_overspent_and_never_below_zero() {
        let mut dual = budget("dual");
        dual.after_step(&Tensor::from(12.0), 6.0);
        let multiplier = |budget: &BudgetLoss| budget.multiplier.double_value(&[]);
        assert!((multiplier(&dual) - 0.31).abs() < 1e-12);
        let mut other = budget("dual");
        other.restore(&dual.save()).unwrap();
        assert_eq!(multiplier(&other), multiplier(&dual));
        (0..100).for_each(|_| dual.after_step(&Tensor::from(0.0), 6.0));
        assert_eq!(multiplier(&dual), 0.0);
        assert!(dual.restore(&serde_json::Value::Null).is_err());
    }
}
