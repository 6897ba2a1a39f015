//! `softsae features label`: what a language model says that features are active on, and how well it can
//! be told from that.

use std::sync::Mutex;
use std::time::Duration;

use sae_config::{Confusion, FeatureLabels, Judged};
use sae_data::OutputLock;
use sae_judge::{Budget, Endpoint, Error, Judge, Patience, Settings};
use sae_report::{SavedFeatures, Tasks};

use super::super::locked;
use super::chosen::chosen;
use super::tasks::told;
use crate::cli::FeaturesLabelArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::{note, say};
use crate::progress::Progress;

/// The answers, in the folder of the pages.
const ANSWERS: &str = "judge-answers.jsonl";

/// The variable of the key, where none is named.
const KEY: &str = "OPENAI_API_KEY";

pub(super) fn run(args: &FeaturesLabelArgs) -> Result<(), Failure> {
    let endpoint = endpoint(args)?;
    // What is no folder of pages gets no lock.
    SavedFeatures::open(&args.pages).or_usage()?;
    let _lock = locked(OutputLock::directory(&args.pages))?;
    // Not before it is held: another call may have changed them until now.
    let pages = SavedFeatures::open(&args.pages).or_usage()?;
    let numbers = chosen(&args.chosen, &pages)?;
    let mut tasks = Tasks::open(&pages).or_usage()?;
    let mut labels = pages.labels().or_usage()?;
    let budget = Budget {
        requests: args.max_requests.map(Into::into),
        tokens: args.max_tokens.map(Into::into),
    };
    let judge = Judge::open(endpoint, &args.pages.join(ANSWERS), budget).map_err(blamed)?;
    let mut n_without = 0;
    let some = numbers.iter().filter_map(|feature| {
        let task = tasks.of(*feature).transpose();
        n_without += usize::from(task.is_none());
        task
    });
    let progress = Mutex::new(Progress::new("label", "features", numbers.len() as u64));
    let done = |n: usize| {
        let [requests, tokens] = judge.spent();
        let message = || format!("{requests} requests, {tokens} tokens");
        progress.lock().expect("no holder panics").at(n as u64, message);
    };
    let outcome = judge.run(&Mutex::new(some), args.parallel.into(), &done);
    drop(progress);
    let n_judged = outcome.labels.len();
    let said = summary(&outcome.labels);
    add(&mut labels, outcome.labels);
    pages.write_labels(&labels).or_run()?;
    said.iter().for_each(|line| say!("{line}"));
    let [requests, tokens] = judge.spent();
    say!("{requests} requests and {tokens} tokens, those of earlier calls included");
    match outcome.stopped {
        None => {
            say!("{}: {}", args.pages.display(), told(n_judged, n_judged + n_without));
            Ok(())
        }
        Some(error @ Error::Budget { .. }) => {
            let left = numbers.len() - n_judged - n_without;
            note!("note: {error}; a call with a larger one goes on");
            say!(
                "{}: {n_judged} features, {left} of those asked for are left",
                args.pages.display()
            );
            Ok(())
        }
        Some(error) => {
            note!("note: the answers to {n_judged} features are kept; the same command goes on");
            Err(blamed(error))
        }
    }
}

/// Puts what was said now in the place of what was said before; no label takes the place of one.
fn add(labels: &mut FeatureLabels, new: FeatureLabels) {
    for (feature, one) in new {
        let has_label = labels.get(&feature).is_some_and(|before| before.label.is_some());
        if one.label.is_some() || !has_label {
            labels.insert(feature, one);
        }
    }
}

fn endpoint(args: &FeaturesLabelArgs) -> Result<Endpoint, Failure> {
    let variable = args.api_key_env.as_deref().unwrap_or(KEY);
    let key = std::env::var(variable).ok().filter(|key| !key.is_empty());
    if key.is_none() && args.api_key_env.is_some() {
        let expected = "a variable of the environment that has a key";
        let error = anyhow::anyhow!(
            "--api-key-env: expected {expected}, got `{variable}`, which is not set"
        );
        return Err(Failure::usage(error));
    }
    if args.model.trim().is_empty() {
        let error = anyhow::anyhow!("--model: expected a name, got {:?}", args.model);
        return Err(Failure::usage(error));
    }
    let patience = Patience {
        attempts: args.attempts.get(),
        silence: Duration::from_secs(args.timeout.get().into()),
        ..Patience::default()
    };
    let endpoint = Endpoint::new(Settings {
        url: args.endpoint.clone(),
        model: args.model.clone(),
        key,
        answer_tokens: args.answer_tokens.get(),
        patience,
    });
    endpoint.map_err(blamed)
}

/// Whose fault an error is.
fn blamed(error: Error) -> Failure {
    match error {
        Error::Address { .. } | Error::Refused { .. } | Error::Journal { .. } | Error::Tasks(_) => {
            Failure::usage(error)
        }
        other => Failure::run(other),
    }
}

/// What the scores are on average, over the features that have them.
fn summary(labels: &FeatureLabels) -> Vec<String> {
    let mean = |name: &str, of: fn(&Judged) -> &Option<Confusion>| {
        let found = labels.values().filter_map(|one| of(one).as_ref()?.balanced_accuracy());
        let found: Vec<f64> = found.collect();
        let (n, sum) = (found.len(), found.iter().sum::<f64>());
        (n > 0).then(|| {
            format!("{name}: balanced accuracy {:.3}, the mean of {n} features", sum / n as f64)
        })
    };
    let scores = [mean("detection", |one| &one.detection), mean("fuzzing", |one| &one.fuzzing)];
    let n_without = labels.values().filter(|one| one.label.is_none()).count();
    let without = (n_without > 0)
        .then(|| format!("{n_without} features without a label, as no answer could be read"));
    scores.into_iter().flatten().chain(without).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_stays_until_another_takes_its_place() {
        let judged = |model: &str, label: Option<&str>| Judged {
            model: model.into(),
            label: label.map(str::to_owned),
            detection: None,
            fuzzing: None,
        };
        let mut labels: FeatureLabels =
            [(1, judged("a", Some("x"))), (2, judged("a", Some("y"))), (3, judged("a", None))]
                .into();
        let new = [
            (1, judged("b", None)),
            (2, judged("b", Some("z"))),
            (3, judged("b", None)),
            (4, judged("b", None)),
        ];
        add(&mut labels, new.into());
        let found =
            labels.iter().map(|(feature, one)| (*feature, &*one.model, one.label.as_deref()));
        let expected = [(1, "a", Some("x")), (2, "b", Some("z")), (3, "b", None), (4, "b", None)];
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}
