//! `softsae steer`: what a host writes when a feature is added to its activations.

use sae_config::{Continuation, Steering};
use sae_eval::{Error, SteerOptions, steer};
use sae_hosts::{Bos, HookPoint, HostModel, host_provenance};
use sae_models::load_checkpoint;
use sae_train::origin_of;

use super::{Differences, check_apart, device, locked_file};
use crate::cli::SteerArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::say;
use crate::progress::Progress;

pub(crate) fn run(args: &SteerArgs) -> Result<(), Failure> {
    let device = device(&args.device)?;
    if let Some(out) = &args.out {
        check_apart(out, &[&args.checkpoint, &args.host])?;
    }
    let sae = load_checkpoint(&args.checkpoint, device).or_usage()?;
    let hook = args.hook.clone().or(sae.trained_on.hook_point.clone()).ok_or_else(|| {
        Failure::usage(anyhow::anyhow!(
            "--hook: expected the hook point of the checkpoint, which {} does not say",
            args.checkpoint.display()
        ))
    })?;
    let hook = hook.parse::<HookPoint>().or_usage()?;
    let host = HostModel::load(&args.host, device).or_usage()?;
    let here = origin_of(&host_provenance(&host, hook).or_usage()?);
    let source = format!("--host {}, --hook {hook}: against the model", args.host.display());
    Differences::find(&sae.trained_on, &here, &source, args.elsewhere)?;
    let prompt = prompt(args, &host)?;
    let options = SteerOptions {
        strengths: args.strength.clone(),
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        seed: args.seed,
        skip_positions: args.skip_positions,
    };
    let _lock = args.out.as_deref().map(locked_file).transpose()?;
    let mut progress = None;
    let mut report = |done, most| {
        let progress = progress.get_or_insert_with(|| Progress::new("steer", "tokens", most));
        progress.at(done, String::new);
    };
    let continuations = steer(&sae, &host, hook, args.feature, &prompt, &options, &mut report);
    drop(progress);
    let continuations = continuations.map_err(|error| match error {
        Error::Setting { .. } | Error::Ports { .. } | Error::Dimension { .. } => {
            Failure::usage(anyhow::anyhow!("{}: {error}", args.checkpoint.display()))
        }
        other => Failure::run(other),
    })?;
    continuations.iter().for_each(print);
    if let Some(out) = &args.out {
        let steering = Steering {
            feature: args.feature,
            hook_point: hook.to_string(),
            prompt: args.prompt.clone(),
            temperature: args.temperature,
            seed: args.seed,
            continuations,
        };
        sae_config::write_json(out, &steering).or_run()?;
    }
    Ok(())
}

/// The tokens of the prompt, after the one that leads it.
fn prompt(args: &SteerArgs, host: &HostModel) -> Result<Vec<u32>, Failure> {
    let tokenizer = host.tokenizer().or_usage()?;
    let lead = Bos::from(args.bos).resolve(tokenizer).or_usage()?;
    let ids = tokenizer.encode(&args.prompt).or_usage()?;
    Ok(lead.into_iter().chain(ids).collect())
}

fn print(of: &Continuation) {
    say!(
        "strength {:<9.4} {:.3} of the norm   perplexity {:<9.2} activation {:<9.4} {} tokens{}",
        of.strength,
        of.relative_norm,
        of.perplexity,
        of.activation,
        of.tokens.len(),
        if of.ended { ", ended" } else { "" }
    );
    say!("  {:?}", of.text.as_deref().unwrap_or_default());
}
