//! Which runs of two sweeps stand for each other.

use std::collections::{BTreeMap, BTreeSet};

use sae_config::RunResult;
use sae_report::{Settings, differing};

/// Runs that stand for each other: first those with the same id, then those with the same
/// settings, then those that only have what varies within the sweeps in common.
pub(super) fn pairs(a: &[RunResult], b: &[RunResult]) -> Vec<(usize, usize)> {
    let settings = |runs: &[RunResult]| runs.iter().map(|run| Settings::of(&run.config)).collect();
    let (in_a, in_b): (Vec<Settings>, Vec<Settings>) = (settings(a), settings(b));
    let varying: BTreeSet<String> = differing(&in_a).into_iter().chain(differing(&in_b)).collect();
    let id = |run: &RunResult, _: &Settings| format!("{:?}", run.run_id);
    let all = |_: &RunResult, settings: &Settings| format!("{:?}", settings.all());
    let some = |run: &RunResult, settings: &Settings| {
        let values: Vec<_> = varying.iter().map(|key| settings.get(key)).collect();
        format!("{:?} {values:?}", run.variant)
    };
    let mut pairs = BTreeMap::new();
    let mut paired = BTreeSet::new();
    for key in [&id as &dyn Fn(&RunResult, &Settings) -> String, &all, &some] {
        // A key that two runs of a sweep share names neither.
        let unique =
            |runs: &[RunResult], settings: &[Settings], is_free: &dyn Fn(usize) -> bool| {
                let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
                for at in (0..runs.len()).filter(|&at| is_free(at)) {
                    found.entry(key(&runs[at], &settings[at])).or_default().push(at);
                }
                found.retain(|_, places| places.len() == 1);
                found
            };
        let of_b = unique(b, &in_b, &|at| !paired.contains(&at));
        let of_a = unique(a, &in_a, &|at| !pairs.contains_key(&at));
        for (key, places) in of_a {
            if let Some(other) = of_b.get(&key) {
                pairs.insert(places[0], other[0]);
                paired.insert(other[0]);
            }
        }
    }
    pairs.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::super::tests::{measured, with_lr};
    use super::*;

    #[test]
    fn runs_are_paired_by_id_then_settings_then_what_varies() {
        let of = |lr: f64| -> Vec<RunResult> {
            [4, 8, 16].map(|k| with_lr(measured(k, 0, 0.5), lr)).to_vec()
        };
        let (low, mut high) = (of(1e-4), of(1e-3));
        assert_eq!(pairs(&low, &high), [(0, 0), (1, 1), (2, 2)]);
        high.reverse();
        assert_eq!(pairs(&low, &high), [(0, 2), (1, 1), (2, 0)]);
        // The same settings on other data: the ids differ.
        let other: Vec<_> = low
            .iter()
            .map(|run| RunResult { run_id: format!("x{}", run.run_id), ..run.clone() })
            .collect();
        assert_eq!(pairs(&low, &other), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(pairs(&low, &[]), []);
        // What names two runs names none.
        let both = [low.clone(), high].concat();
        assert_eq!(pairs(&both, &low), [(0, 0), (1, 1), (2, 2)]);
    }
}
