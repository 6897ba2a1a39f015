//! What people call the runs of a sweep: numbers, ids and the settings that tell them apart.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use sae_config::RunResult;
use sae_report::{Groups, short};

use super::Sweep;
use crate::exit::usage;

/// Characters of an id that at least name a run; a shorter number is an index.
const MIN_PREFIX: usize = 4;

impl Sweep {
    /// Whether its runs have numbers: these follow the order of the sweep, which `results.json` has.
    pub(in crate::sweep::commands) fn has_numbers(&self) -> bool {
        self.written.is_some()
    }

    /// The id of a run by its number from 1, its id, or the first characters of it.
    pub(in crate::sweep::commands) fn find(&self, text: &str) -> Result<String> {
        let ids = || self.results.runs.iter().map(|run| &run.run_id).chain(&self.others);
        if let Some(id) = ids().find(|id| *id == text) {
            return Ok(id.clone());
        }
        let mut found = BTreeSet::new();
        let number = text.parse::<usize>().ok();
        if let Some(number) = number.filter(|_| self.has_numbers()) {
            found.extend(
                number.checked_sub(1).and_then(|at| self.results.runs.get(at)).map(|r| &r.run_id),
            );
        }
        if text.len() >= MIN_PREFIX {
            found.extend(ids().filter(|id| id.starts_with(text)));
        }
        let found: Vec<&String> = found.into_iter().collect();
        match found[..] {
            [id] => Ok(id.clone()),
            [] if number.is_some() && !self.has_numbers() => bail!(usage(format!(
                "RUN: expected the id of a run or at least its first {MIN_PREFIX} characters, got \
                 `{text}`: the runs have no numbers, since {} cannot be read",
                self.out.join("results.json").display()
            ))),
            [] => bail!(usage(format!(
                "RUN: expected a number from 1 to {}, or the id of a run or at least its first \
                 {MIN_PREFIX} characters, got `{text}`; `sweep status` lists the runs",
                self.results.runs.len()
            ))),
            _ => bail!(usage(format!(
                "RUN: expected what names one run, got `{text}` for {found:?}"
            ))),
        }
    }

    /// What tells each run from the others of the sweep.
    pub(in crate::sweep::commands) fn labels(&self) -> Vec<String> {
        labels(&self.results.runs)
    }
}

/// What tells each run from the others.
pub(in crate::sweep::commands) fn labels(runs: &[RunResult]) -> Vec<String> {
    let groups = Groups::of(runs);
    let differs = |key: &str| groups.keys.iter().any(|k| k == key);
    let label = |(run, &group): (&RunResult, &usize)| {
        let mut label = groups.groups[group].name();
        let (key, value) = run.config.architecture.sparsity();
        label += &format!(" {}={value}", short(key));
        if differs("training.seed") {
            label += &format!(" seed={}", run.config.training.seed);
        }
        label
    };
    runs.iter().zip(&groups.of_run).map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::super::tests::measured;
    use super::super::tests::sweep;
    use super::*;

    #[test]
    fn runs_are_found_by_number_id_and_prefix() {
        let (out, workspace) = sweep(&["1234abcd", "1234ef00", "99990000"]);
        let sweep = Sweep::open(&workspace, out.path()).unwrap();
        for (text, id) in [
            ("1", "1234abcd"),
            ("3", "99990000"),
            ("1234e", "1234ef00"),
            ("9999", "99990000"),
            ("1234abcd", "1234abcd"),
        ] {
            assert_eq!(sweep.find(text).unwrap(), id);
        }
        for (text, message) in [
            ("1234", "1234ef00"),
            ("0", "a number from 1 to 3"),
            ("4", "a number from 1 to 3"),
            ("999", "4 characters"),
            ("", "got ``"),
            ("../..", "got `../..`"),
        ] {
            let error = sweep.find(text).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn labels_tell_runs_apart() {
        let runs = [measured(4, 0, 0.5), measured(8, 0, 0.5), measured(4, 1, 0.5)];
        assert_eq!(labels(&runs), ["topk k=4 seed=0", "topk k=8 seed=0", "topk k=4 seed=1"]);
        assert_eq!(labels(&runs[..2]), ["topk k=4", "topk k=8"]);
    }
}
