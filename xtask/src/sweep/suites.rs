//! Suites of scores that the runs of a sweep are judged by (`--suite`, `evaluation.suites`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use sae_config::{LABELS_FILE, RunConfig, RunResult, Suite, SweepConfig};
use serde::{Deserialize, Serialize};

use super::child::{self, Log};
use super::content::short_hash;
use super::plan::Plan;
use super::progress::Spinner;
use super::source;
use super::stores::Activations;
use crate::exit::{note, usage};
use crate::labelled;
use crate::workspace::Workspace;

/// The name that stands for all suites.
pub(super) const ALL: &str = "all";

/// The version of labelled stores: another where `probe-data` keeps other texts.
const VERSION: u32 = 2;

/// Texts of each label that probes see at most.
const PER_LABEL: usize = 300;

/// Tokens of each of these texts at most.
const MAX_TOKENS: usize = 64;

/// The suites of a sweep, and the labelled stores of the host's activations.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Suites {
    pub(super) wanted: Vec<Suite>,
    /// By hook point.
    pub(super) probes: BTreeMap<String, Vec<PathBuf>>,
}

/// The suites that the command line names, or where it names none the sweep file.
///
/// Of `all` those that the sweep has what they need for; a suite that is named and lacks it is
/// refused.
pub(super) fn resolve(names: &[String], config: &SweepConfig) -> Result<Vec<Suite>> {
    let is_all = names.iter().any(|name| name == ALL);
    let mut wanted = Vec::new();
    for suite in Suite::ALL {
        let is_named = match names.is_empty() {
            true => config.evaluation.suites.contains(&suite),
            false => names.iter().any(|name| name == suite.name()),
        };
        if !is_all && !is_named {
            continue;
        }
        let (has_what_it_needs, needs) = match suite {
            Suite::Core => (true, ""),
            Suite::Truth => (config.planted.is_some(), "`planted` activations"),
            Suite::Probing => (config.texts.is_some(), "a host that reads texts"),
            // Of one seed there are no pairs, and nothing is measured.
            Suite::Stability => (true, ""),
            Suite::Interventions => (config.texts.is_some(), "a host that reads texts"),
            Suite::Vision => (config.images.is_some(), "a host that reads images"),
        };
        match has_what_it_needs {
            true => wanted.push(suite),
            false if is_named => {
                bail!(usage(format!("--suite {}: expected {needs}, got none", suite.name())));
            }
            false => note(&format!("suite {}: left out, it needs {needs}", suite.name())),
        }
    }
    Ok(wanted)
}

impl Suites {
    /// Fetches labelled texts and harvests the host's activations on them, where probes need them.
    pub(super) fn prepare(
        workspace: &Workspace,
        plan: &Plan,
        activations: &Activations,
        program: &Path,
    ) -> Result<Self> {
        let wanted = plan.suites.clone();
        let mut probes = BTreeMap::new();
        if let (true, Some(texts)) = (wanted.contains(&Suite::Probing), &activations.texts) {
            let files = labelled::fetch(workspace)?;
            for hook in activations.stores.keys() {
                let of_hook = files
                    .iter()
                    .map(|file| probe_store(workspace, plan, (&texts.host, hook), file, program));
                probes.insert(hook.clone(), of_hook.collect::<Result<_>>()?);
            }
        }
        Ok(Self { wanted, probes })
    }

    /// Whether a result has what was asked for. Pairs of seeds are no part of a run's own result.
    pub(super) fn are_measured(&self, result: &RunResult) -> bool {
        let Some(evaluation) = &result.evaluation else { return false };
        self.of_runs().all(|suite| evaluation.is_of(suite))
    }

    /// The suites that the evaluation of a run measures.
    fn of_runs(&self) -> impl Iterator<Item = Suite> {
        self.wanted.iter().copied().filter(|suite| *suite != Suite::Stability)
    }

    /// Adds to the evaluation of a run what it needs for them.
    pub(super) fn add_arguments(
        &self,
        command: &mut Command,
        config: &RunConfig,
        train: Option<&Path>,
        floors: &Path,
    ) {
        let names: Vec<&str> = self.of_runs().map(Suite::name).collect();
        if names.is_empty() {
            return;
        }
        command.args(["--suite", &names.join(",")]).arg("--floors").arg(floors);
        if let Some(train) = train {
            command.arg("--train-data").arg(train);
        }
        let probes = match config.data.hook() {
            Some(hook) => self.probes.get(hook),
            None => self.probes.values().next(),
        };
        for probes in probes.into_iter().flatten() {
            command.arg("--probes").arg(probes);
        }
    }
}

/// The labelled store of a host's activations at a hook point, made where it is not there yet.
fn probe_store(
    workspace: &Workspace,
    plan: &Plan,
    (host, hook): (&Path, &str),
    file: &Path,
    program: &Path,
) -> Result<PathBuf> {
    let hash = plan.contents.tree("host", host)?;
    let data = plan.contents.file("labelled texts", file)?;
    let id = short_hash(&format!("{hash} {hook} {data} {PER_LABEL} {MAX_TOKENS} {VERSION}"));
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let place = source::stores_folder(workspace).join(format!("probes-{name}-{id}"));
    if !place.join(LABELS_FILE).exists() {
        let mut command = Command::new(program);
        command.args(["probe-data", "--device", &plan.devices[0], "--host"]);
        command.arg(host).args(["--hook", hook, "--texts"]).arg(file);
        command.args(["--max-per-label", &PER_LABEL.to_string()]);
        command.args(["--max-tokens", &MAX_TOKENS.to_string()]);
        command.arg("--out").arg(&place);
        make(&mut command, &format!("harvesting {name} for probes"), &place)?;
    }
    Ok(place)
}

/// Makes a labelled store; what an earlier start has left is gone on with.
fn make(command: &mut Command, what: &str, place: &Path) -> Result<()> {
    let log_path = place.with_extension("log");
    let mut spinner = Spinner::new(what.to_owned());
    let log = Log::open(&log_path, || spinner.tick("waiting for another sweep"))?;
    if place.join(LABELS_FILE).exists() {
        return Ok(());
    }
    let status = log.run(command, || spinner.tick(&child::tail(&log_path, 1)))?;
    if !status.success() {
        let end = child::tail(&log_path, 10);
        bail!("{what} failed ({status}):\n{end}\n({})", log_path.display());
    }
    spinner.done();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::result;
    use super::*;

    fn config(text: &str) -> SweepConfig {
        toml::from_str(&format!("{text}\n[base]")).unwrap()
    }

    #[test]
    fn all_is_what_a_sweep_has_data_for_and_what_is_named_is_refused_without() {
        let planted = config("planted = { train_rows = 9, held_out_rows = 9 }");
        let texts = config("texts = { train = ['a'], held_out = ['b'] }");
        let all = [ALL.to_owned()];
        assert_eq!(resolve(&all, &planted).unwrap(), [Suite::Core, Suite::Truth, Suite::Stability]);
        let of_texts = [Suite::Core, Suite::Probing, Suite::Stability, Suite::Interventions];
        assert_eq!(resolve(&all, &texts).unwrap(), of_texts);
        let error = resolve(&["probing".into()], &planted).unwrap_err();
        assert!(crate::exit::is_usage(&error) && error.to_string().contains("--suite probing"));
        assert!(resolve(&[], &planted).unwrap().is_empty());
        let of_file = config("evaluation.suites = ['core']");
        assert_eq!(resolve(&[], &of_file).unwrap(), [Suite::Core]);
        assert_eq!(resolve(&["stability".into()], &of_file).unwrap(), [Suite::Stability]);
    }

    #[test]
    fn a_result_is_measured_when_it_has_a_score_of_each_suite_of_runs() {
        let mut run = result("a");
        let of = |wanted: &[Suite]| Suites { wanted: wanted.to_vec(), probes: BTreeMap::new() };
        assert!(of(&[]).are_measured(&run) && of(&[Suite::Stability]).are_measured(&run));
        assert!(!of(&[Suite::Core]).are_measured(&run));
        let scores = &mut run.evaluation.as_mut().unwrap().scores;
        scores.insert("core.r2".into(), sae_config::Score::new(0.5, 9));
        assert!(of(&[Suite::Core]).are_measured(&run));
        assert!(!of(&[Suite::Core, Suite::Truth]).are_measured(&run));
        // Scores of another version of a suite are measured anew.
        for (suite, name) in
            [(Suite::Core, "core.r2"), (Suite::Interventions, "interventions.absorption")]
        {
            let evaluation = run.evaluation.as_mut().unwrap();
            evaluation.scores.insert(name.into(), sae_config::Score::new(0.5, 9));
            evaluation.suites.insert(suite, suite.version());
            assert!(of(&[suite]).are_measured(&run));
        }
        run.evaluation.as_mut().unwrap().suites.remove(&Suite::Interventions);
        assert!(
            !of(&[Suite::Interventions]).are_measured(&run),
            "one without a version is of the first"
        );
        run.evaluation.as_mut().unwrap().suites.insert(Suite::Core, Suite::Core.version() + 1);
        assert!(!of(&[Suite::Core]).are_measured(&run));
        run.evaluation = None;
        assert!(!of(&[]).are_measured(&run));
    }
}
