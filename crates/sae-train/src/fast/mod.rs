//! The fast engine: the gradient in closed form, sparse wherever the codes are (CPU, f32).
//!
//! One step: z = W_enc(x − b_dec) by one dense product; the rule's selection; x̂, residual and
//! code gradients row by row; codes sorted by feature; gradients of both weight matrices feature
//! by feature; one pass over each parameter. The kernels are those of `sae-kernels`; where many
//! codes are active, dense products take their place ([`products`]).

mod auxk;
mod buffers;
mod estimator;
mod hard;
mod jumprelu;
mod plan;
mod products;
mod rule;
mod soft;
mod update;
mod window;

use sae_config::{AuxKConfig, CheckedRun};
use sae_kernels::{Groups, Matrix, SquaredNorms, subtract_row};
use sae_models::{Parameters, Role, Sae};
use serde_json::Value;
use tch::Tensor;

use self::auxk::Revival;
use self::buffers::{Buffers, empty, rows_of, slice, slice_mut};
pub(crate) use self::plan::FAST;
use self::rule::{FastRule, Rows, Training};
use crate::engine::{Batch, Engine};
use crate::optimizer::OptimizerRule;
use crate::profile::Profile;
use crate::rules::{Facts, Pair};
use crate::state::History;
use crate::{Error, Result};

/// Dense products of the batch with the encoder and the estimator, in a [`Profile`].
const GEMM: &str = "gemm";

/// Gradients of the estimator or the thresholds, without dense products.
const ESTIMATOR: &str = "estimator and threshold";

/// Computes steps on the CPU in f32, for the architectures whose codes are sparse.
pub(crate) struct FastEngine {
    rule: Box<dyn FastRule>,
    is_transcoder: bool,
    /// Where each prefix of the dictionary ends that is a dictionary too, and its weight.
    groups: Vec<(usize, f64)>,
    auxk: Option<AuxKConfig>,
    optimizer: OptimizerRule,
    /// Rows that the buffers of width n_features hold at most.
    micro_batch: usize,
    buffers: Buffers,
    revival: Revival,
    profile: Profile,
}

/// A step's rows, and what is summed over them.
struct StepSums<'a> {
    batch: &'a Batch<'a>,
    groups: Groups,
    /// Σ‖target − x̂‖² of each group.
    errors: Vec<f64>,
}

/// How far the gradients of a step go.
#[derive(Debug, Clone, Copy)]
struct Reach {
    /// Whether the encoder has a gradient.
    encoder: bool,
    /// Whether b_dec is subtracted from what the encoder reads.
    centred: bool,
}

impl FastEngine {
    /// The engine of a run; none where it does not compute the architecture.
    pub(crate) fn new(config: &CheckedRun, sae: &Sae) -> Option<Self> {
        let Training { rule, auxk, optimizer } = rule::training(config, sae)?;
        Some(Self {
            rule,
            is_transcoder: sae.config().is_transcoder(),
            groups: config.recipe.prefixes(config.sae.n_features),
            auxk,
            optimizer,
            micro_batch: config.training.micro_batch,
            buffers: Buffers::default(),
            revival: Revival::default(),
            profile: Profile::default(),
        })
    }

    /// Factors of the groups' residuals in the gradient, and the groups.
    fn kernel_groups(&self, batch: usize) -> Result<Groups> {
        let n_groups = self.groups.len() as f64;
        let scale = |weight: &f64| (2.0 * weight / (n_groups * batch as f64)) as f32;
        let factors = self.groups.iter().map(|(_, weight)| scale(weight)).collect();
        Ok(Groups::new(self.groups.iter().map(|(end, _)| *end).collect(), factors)?)
    }

    /// What the encoder reads of the rows; of a transcoder also what is rebuilt, without b_dec.
    fn centre(&mut self, parameters: &Parameters, rows: Pair<'_>) -> Result<()> {
        let b_dec = &parameters[Role::DecoderBias];
        if parameters.centre().is_some() {
            subtract(rows.x, b_dec, &mut self.buffers.centred)?;
        } else {
            self.buffers.centred.copy_(rows.x);
        }
        if self.is_transcoder {
            let of_target = &mut self.buffers.centred_target;
            let of_target = of_target.get_or_insert_with(|| empty(&rows.target.size()));
            subtract(rows.target, b_dec, of_target)?;
        }
        self.profile.lap("centre");
        Ok(())
    }

    /// z and the rule's codes of the batch, as many rows at a time as the buffers hold; in a step
    /// that streams, their use too.
    fn encode(
        &mut self,
        parameters: &Parameters,
        history: &mut History,
        sums: &mut StepSums<'_>,
    ) -> Result<()> {
        for rows in self.buffers.micro_batches() {
            let buffers = &mut self.buffers;
            let centred = rows_of(&buffers.centred, &rows);
            buffers.z.multiply(&centred, &parameters[Role::EncoderWeight])?;
            self.profile.lap(GEMM);
            let at = Rows { step: sums.batch.step, rows: &rows, parameters };
            self.rule.select(at, buffers, &mut self.profile)?;
            self.profile.lap("selection");
            if self.buffers.streams {
                self.buffers.count_fired(&mut history.dead)?;
                self.use_codes(parameters, sums, self.auxk.is_some())?;
            }
        }
        Ok(())
    }

    /// Rebuilds the rows that there are codes of, and takes the gradient back to pre-activations;
    /// where the codes are dense, to the weights too.
    fn use_codes(
        &mut self,
        parameters: &Parameters,
        sums: &mut StepSums<'_>,
        wants_residual: bool,
    ) -> Result<()> {
        let (buffers, target) = (&mut self.buffers, sums.batch.rows.target);
        let errors =
            products::reconstruct(target, parameters, &sums.groups, wants_residual, buffers)?;
        sums.errors.resize(errors.len(), 0.0);
        sums.errors.iter_mut().zip(errors).for_each(|(sum, error)| *sum += error);
        self.profile.lap("reconstruction");
        self.rule.code_backward(sums.batch.step, parameters, buffers)?;
        self.profile.lap(ESTIMATOR);
        if buffers.is_dense {
            products::add_dense_gradients(buffers)?;
        }
        self.profile.lap("weight gradients");
        Ok(())
    }

    /// The auxiliary loss, where there are dead features.
    fn revive(&mut self, dead: &[u32], parameters: &Parameters) -> Result<Option<f64>> {
        let loss = match &self.auxk {
            Some(config) if !dead.is_empty() => {
                let chosen = (dead, self.rule.rank());
                Some(self.revival.add(config, chosen, parameters, &self.buffers)?)
            }
            _ => None,
        };
        self.profile.lap("auxk");
        Ok(loss)
    }

    /// The gradients of the weights, once the codes' are known.
    fn weight_gradients(
        &mut self,
        parameters: &Parameters,
        groups: &Groups,
        revives: bool,
        reach: Reach,
    ) -> Result<SquaredNorms> {
        let revival = if revives { self.revival.source() } else { None };
        let buffers = &mut self.buffers;
        let norms = products::weight_gradients(parameters, groups, revival, reach, buffers)?;
        self.profile.lap("weight gradients");
        Ok(norms)
    }
}

impl Engine for FastEngine {
    fn step(
        &mut self,
        parameters: &mut Parameters,
        history: &mut History,
        batch: &Batch<'_>,
    ) -> Result<Facts> {
        let _guard = tch::no_grad_guard();
        self.profile.begin();
        make_unique(parameters);
        let &Batch { rows, step, lr } = batch;
        let (x, target) = (rows.x.contiguous(), rows.target.contiguous());
        let rows = Pair { x: &x, target: &target };
        let batch = &Batch { rows, step, lr };
        let (n_rows, d_in) = (x.size()[0] as usize, x.size()[1] as usize);
        let d = target.size()[1] as usize;
        let f = parameters[Role::EncoderBias].numel();
        let micro = self.micro_batch.min(n_rows);
        self.buffers.fit((n_rows, micro), (d_in, d), f, self.groups.len());
        self.centre(parameters, rows)?;
        let mut sums = StepSums { batch, groups: self.kernel_groups(n_rows)?, errors: Vec::new() };
        self.encode(parameters, history, &mut sums)?;
        let detail = self.rule.observe(step, &self.buffers.codes, parameters);
        if !self.buffers.streams {
            self.buffers.count_fired(&mut history.dead)?;
        }
        let dead = match &self.auxk {
            Some(config) => auxk::dead_features(config, &history.dead)?,
            None => Vec::new(),
        };
        if !self.buffers.streams {
            self.use_codes(parameters, &mut sums, !dead.is_empty())?;
        }
        let StepSums { groups, errors, .. } = sums;
        let n_groups = self.groups.len() as f64;
        let weighted = errors.iter().zip(&self.groups).map(|(error, (_, weight))| error * weight);
        let mse = weighted.sum::<f64>() / (n_groups * n_rows as f64);

        let mut parts = vec![("mse", mse)];
        parts.extend(self.revive(&dead, parameters)?.map(|loss| ("auxk", loss)));
        let (buffers, profile) = (&mut self.buffers, &mut self.profile);
        parts.extend(self.rule.backward(step, parameters, buffers, profile)?);
        self.profile.lap(ESTIMATOR);
        let encoder = self.rule.reaches_encoder() || !dead.is_empty();
        let reach = Reach { encoder, centred: parameters.centre().is_some() };
        let norms = self.weight_gradients(parameters, &groups, !dead.is_empty(), reach)?;
        let total: f64 = parts.iter().map(|(_, part)| part).sum();
        if !total.is_finite() {
            return Err(Error::LossNotFinite { step, loss: total });
        }
        self.update(parameters, &mut history.adam, norms, encoder, lr)?;
        self.rule.release(&mut self.buffers);
        self.profile.lap("optimiser");
        Ok(Facts::known(total, &parts, self.buffers.l0(), detail))
    }

    fn save(&self) -> Value {
        self.rule.save()
    }

    fn restore(&mut self, saved: &Value) -> Result<()> {
        self.rule.restore(saved)
    }

    fn profile(&self) -> Option<&Profile> {
        Some(&self.profile)
    }
}

/// out = rows − row.
fn subtract(rows: &Tensor, row: &Tensor, out: &mut Tensor) -> Result<()> {
    let (rows, row) = (slice(rows)?, slice(row)?);
    Ok(subtract_row(Matrix::new("rows", &rows, row.len())?, &row, slice_mut(out)?)?)
}

/// Kernels write to parameters in place, so no other handle may reach them; where one does all the
/// same, a copy takes its place.
fn make_unique(parameters: &mut Parameters) {
    for (_, value) in parameters.trained_mut() {
        if slice_mut::<f32>(value).is_err() {
            *value = value.detach().contiguous().copy();
        }
    }
}
