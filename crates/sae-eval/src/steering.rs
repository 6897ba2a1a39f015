//! What a host writes when a feature's direction is added to its activations.

mod pick;

use sae_config::Continuation;
use sae_hosts::{HookPoint, HostInput, HostModel, Past};
use sae_models::{InitRng, Role, Sae};
use tch::{Kind, Tensor};

use self::pick::pick;
use crate::metrics::to_f64s;
use crate::{Error, Result};

/// Sizes of what is added, over those of the activations, where no strengths are asked for.
const RELATIVE_NORMS: [f64; 5] = [0.0, 0.25, 0.5, 1.0, 2.0];

/// Beyond it nothing of the activations themselves is left in f32, and their squares overflow.
const MOST_RELATIVE_NORM: f64 = 1e6;

/// How a host is steered.
#[derive(Debug, Clone, PartialEq)]
pub struct SteerOptions {
    /// The activations that are added to the feature's, each in a continuation of its own; if there is
    /// none, those that add 0, ¼, ½, 1 and 2 times the norm of the prompt's activations.
    pub strengths: Vec<f64>,
    /// New tokens at most.
    pub max_tokens: usize,
    /// 0 for the likeliest token each time; else tokens are drawn from softmax(logits/temperature).
    pub temperature: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// First positions that are left as they are.
    pub skip_positions: usize,
}

impl Default for SteerOptions {
    fn default() -> Self {
        Self { strengths: vec![], max_tokens: 40, temperature: 0.0, seed: 0, skip_positions: 1 }
    }
}

/// Goes on with a prompt while the direction of a feature is added to the host's activations at a
/// hook point, at each position after the first `skip_positions`, once for each strength.
///
/// What is added is what the decoder makes of the strength, in the scale of the host's activations.
/// `progress` is told the tokens done and the most that there may be.
///
/// # Errors
/// [`Error::Ports`] for a transcoder; [`Error::Dimension`] if the SAE is of another `d_model` than the
/// host; [`Error::Setting`]; [`Error::NotFinite`] if the host's logits are; [`Error::Host`] and
/// [`Error::Model`].
pub fn steer(
    sae: &Sae,
    host: &HostModel,
    hook: HookPoint,
    feature: usize,
    prompt: &[u32],
    options: &SteerOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<Continuation>> {
    options.check(sae, host, feature, prompt)?;
    let _guard = tch::no_grad_guard();
    let eos = host.tokenizer().ok().and_then(|tokenizer| tokenizer.eos());
    let steered = Steered { sae, host, hook, feature, skip: options.skip_positions as i64 };
    let of_one = steered.relative_norm(prompt)?;
    if of_one <= 0.0 {
        let (expected, got) = ("one with a direction".to_owned(), format!("{feature}, all zeros"));
        return Err(Error::Setting { name: "feature", expected, got });
    }
    let strengths = match options.strengths.is_empty() {
        true => RELATIVE_NORMS.map(|relative| relative / of_one).to_vec(),
        false => options.strengths.clone(),
    };
    if let Some(strength) = strengths.iter().find(|s| of_one * s.abs() > MOST_RELATIVE_NORM) {
        let most = MOST_RELATIVE_NORM / of_one;
        let expected = format!("at most {most:.4e}, {MOST_RELATIVE_NORM:e} of the norm");
        return Err(Error::Setting { name: "strength", expected, got: strength.to_string() });
    }
    let most = (strengths.len() * options.max_tokens) as u64;
    let mut continuations = Vec::new();
    for (i, strength) in strengths.into_iter().enumerate() {
        let before = (i * options.max_tokens) as u64;
        let mut told = |n: usize| progress(before + n as u64, most);
        let ids = steered.go_on(prompt, strength, eos, options, &mut told)?;
        told(options.max_tokens);
        let (loss, activation) = steered.judge(&ids, prompt.len())?;
        let tokens = ids[prompt.len()..].to_vec();
        continuations.push(Continuation {
            strength,
            relative_norm: of_one * strength.abs(),
            text: host.tokenizer().ok().map(|of| of.decode(&tokens)).transpose()?,
            ended: tokens.last().copied() == eos && eos.is_some(),
            tokens,
            loss,
            perplexity: loss.exp(),
            activation,
        });
    }
    Ok(continuations)
}

impl SteerOptions {
    fn check(&self, sae: &Sae, host: &HostModel, feature: usize, prompt: &[u32]) -> Result<()> {
        if sae.config().is_transcoder() {
            let expected = "an autoencoder: its features are added to what it reads";
            return Err(Error::Ports { expected });
        }
        let (expected, got) = (sae.config().d_model, host.info().d_model);
        if expected != got {
            return Err(Error::Dimension { expected, got, of: "the host" });
        }
        let wrong =
            |name, expected: String, got: String| Err(Error::Setting { name, expected, got });
        let n_features = sae.config().n_features;
        if feature >= n_features {
            return wrong("feature", format!("0 to {}", n_features - 1), feature.to_string());
        }
        if let Some(strength) = self.strengths.iter().find(|strength| !strength.is_finite()) {
            return wrong("strength", "a finite number".to_owned(), strength.to_string());
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return wrong("temperature", "0 or more".to_owned(), self.temperature.to_string());
        }
        if prompt.len() <= self.skip_positions {
            let expected =
                format!("more tokens than the {} first left as they are", self.skip_positions);
            return wrong("prompt", expected, prompt.len().to_string());
        }
        let HostInput::Tokens { max_positions, .. } = host.info().input else {
            let got = host.info().family.clone();
            return wrong("host", "a language model".to_owned(), got);
        };
        let room = max_positions.saturating_sub(prompt.len());
        if self.max_tokens == 0 || self.max_tokens > room {
            let expected = format!("1 to {room}, the host's positions after the prompt");
            return wrong("max_tokens", expected, self.max_tokens.to_string());
        }
        host.check_ids(prompt)?;
        Ok(())
    }
}

/// A host and the feature that is added.
struct Steered<'a> {
    sae: &'a Sae,
    host: &'a HostModel,
    hook: HookPoint,
    feature: usize,
    skip: i64,
}

impl Steered<'_> {
    /// The prompt and what the host writes after it.
    fn go_on(
        &self,
        prompt: &[u32],
        strength: f64,
        eos: Option<u32>,
        options: &SteerOptions,
        told: &mut dyn FnMut(usize),
    ) -> Result<Vec<u32>> {
        let mut ids = prompt.to_vec();
        let mut past = Past::new();
        let mut rng = InitRng::new(options.seed);
        for n in 1..=options.max_tokens {
            let new = self.tensor(&ids[past.length()..])?;
            let prefix = self.host.prefix_after(&mut past, &new, self.hook)?;
            let x = prefix.activations();
            let x = match strength {
                0.0 => x.shallow_clone(),
                _ => self.add(x, past.length() as i64, strength)?,
            };
            let logits = self.host.next_logits_after(&mut past, &prefix, &x)?;
            past.keep(ids.len());
            let draw = rng.uniform(&[1], 0.5).double_value(&[0]) + 0.5;
            let token = pick(&to_f64s(&logits)?, options.temperature, draw)?;
            ids.push(token);
            told(n);
            if Some(token) == eos {
                break;
            }
        }
        Ok(ids)
    }

    fn tensor(&self, ids: &[u32]) -> Result<Tensor> {
        let ids: Vec<i64> = ids.iter().map(|&id| id.into()).collect();
        Ok(Tensor::f_from_slice(&ids)?.f_unsqueeze(0)?.f_to_device(self.host.device())?)
    }

    /// Activations `[1, positions, d_model]` of positions from `first` on, with the direction added from
    /// `skip` on.
    fn add(&self, x: &Tensor, first: i64, strength: f64) -> Result<Tensor> {
        let kept = (self.skip - first).clamp(0, x.size()[1]);
        let rest = x.f_narrow(1, kept, x.size()[1] - kept)?.f_squeeze_dim(0)?;
        let steered = rest.f_add(&self.direction(&rest, strength)?.f_to_kind(x.kind())?)?;
        Ok(Tensor::f_cat(&[&x.f_narrow(1, 0, kept)?, &steered.f_unsqueeze(0)?], 1)?)
    }

    /// What a strength adds to rows `[n, d_model]` of the host, in f64.
    fn direction(&self, rows: &Tensor, strength: f64) -> Result<Tensor> {
        let rows = rows.f_to_device(self.sae.device())?.f_to_kind(Kind::Double)?;
        let (_, scale) = self.sae.normalizer.normalize(&rows);
        let row = self.sae.parameters[Role::DecoderWeight].f_get(self.feature as i64)?;
        let row = row.f_to_kind(Kind::Double)?.f_mul_scalar(strength)?.f_expand_as(&rows)?;
        let raw = |x: &Tensor| self.sae.output_normalizer().denormalize(x, scale.as_ref());
        let added = raw(&row)?.f_sub(&raw(&row.f_zeros_like()?)?)?;
        Ok(added.f_to_device(self.host.device())?)
    }

    /// Norm of what a strength of 1 adds over that of the activations, the mean over those of a
    /// prompt that are not zero.
    fn relative_norm(&self, prompt: &[u32]) -> Result<f64> {
        let x = self.host.activations(&self.tensor(prompt)?, self.hook)?;
        let rows = x.f_narrow(1, self.skip, x.size()[1] - self.skip)?.f_squeeze_dim(0)?;
        let norms = |x: &Tensor| {
            to_f64s(&x.f_to_kind(Kind::Double)?.f_norm_scalaropt_dim(
                2.0,
                [1i64].as_slice(),
                false,
            )?)
        };
        let (of_rows, of_added) = (norms(&rows)?, norms(&self.direction(&rows, 1.0)?)?);
        let pairs = of_rows.iter().zip(of_added).filter(|(row, _)| **row > 0.0);
        let ratios: Vec<f64> = pairs.map(|(row, added)| added / row).collect();
        Ok(ratios.iter().sum::<f64>() / ratios.len().max(1) as f64)
    }

    /// Mean loss of the tokens from `first` on under the untouched host, and the mean activation of
    /// the feature on them.
    fn judge(&self, ids: &[u32], first: usize) -> Result<(f64, f64)> {
        let input = self.tensor(ids)?;
        let prefix = self.host.prefix(&input, self.hook)?;
        let (first, n) = (first as i64, (ids.len() - first) as i64);
        let logits = self.host.logits_from(&prefix, prefix.activations())?;
        let log_p = logits.f_get(0)?.f_narrow(0, first - 1, n)?.f_log_softmax(-1, Kind::Double)?;
        let targets = input.f_get(0)?.f_narrow(0, first, n)?.f_unsqueeze(-1)?;
        let loss =
            -log_p.f_gather(-1, &targets, false)?.f_mean(Kind::Double)?.f_double_value(&[])?;
        if !loss.is_finite() {
            return Err(Error::NotFinite { name: "loss of the host", row: 0, got: loss });
        }
        let rows = prefix.activations().f_get(0)?.f_narrow(0, first, n)?;
        let rows = rows.f_to_device(self.sae.device())?.f_to_kind(self.sae.kind())?;
        let features = self.sae.encode(&rows)?.features.f_select(1, self.feature as i64)?;
        Ok((loss, features.f_mean(Kind::Double)?.f_double_value(&[])?))
    }
}
