//! Fidelity at equal L0, for the screen and as `equal-l0.csv`.

use anyhow::{Context as _, Result};
use sae_config::{RunStatus, SweepResults};
use sae_report::{EqualL0, Group, Groups, Summary};

use super::table::{align, written};

/// A table of each measure; none where nothing can be compared.
pub(super) fn table(results: &SweepResults) -> Option<String> {
    let groups = Groups::of(&results.runs);
    let equal = EqualL0::of(&results.runs, &groups)?;
    // Two runs of one group are the least that a comparison adds anything to.
    if results.runs.iter().filter(|run| run.evaluation.is_some()).count() < 2 {
        return None;
    }
    let mut parts = Vec::new();
    let with_n = groups.groups.iter().any(|group| has_seeds(group, results));
    for measure in &equal.measures {
        let head = equal.l0.iter().map(|l0| format!("L0 {}", short(*l0)));
        let mut rows = vec![std::iter::once(format!("{} at", measure.name)).chain(head).collect()];
        for (group, cells) in groups.groups.iter().zip(&measure.cells) {
            if has_results(group, results) {
                let cells = cells.iter().map(|cell| written(cell.as_ref(), 4, with_n));
                rows.push(std::iter::once(group.name()).chain(cells).collect());
            }
        }
        parts.push(align(&rows));
    }
    parts.push(
        "At equal L0: interpolated in ln L0 between the runs of each seed, never beyond them (–). \
         ± is the standard deviation over seeds, (n) their number."
            .into(),
    );
    Some(parts.join("\n\n"))
}

fn has_results(group: &Group, results: &SweepResults) -> bool {
    let mut runs = group.runs.iter().map(|&run| &results.runs[run]);
    runs.any(|run| run.evaluation.is_some() && run.status != RunStatus::Dropped)
}

/// Whether a group has runs of several seeds.
fn has_seeds(group: &Group, results: &SweepResults) -> bool {
    let seed = |run: usize| results.runs[run].config.training.seed;
    group.runs.iter().any(|&run| seed(run) != seed(group.runs[0]))
}

/// Up to four significant digits.
fn short(value: f64) -> String {
    let digits = 3 - value.abs().log10().floor().clamp(-3.0, 3.0) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// A line for each group and L0: the settings of the group, and mean, sd and n of each measure.
pub(super) fn csv(results: &SweepResults) -> Result<String> {
    let groups = Groups::of(&results.runs);
    let is_shared = |key: &&String| {
        let of = |run: usize| results.runs[run].config.architecture.sparsity().0;
        *key != "training.seed" && !(0..results.runs.len()).any(|run| of(run) == key.as_str())
    };
    let keys: Vec<usize> =
        (0..groups.keys.len()).filter(|&k| is_shared(&&groups.keys[k])).collect();
    let equal = EqualL0::of(&results.runs, &groups);
    let equal = equal.unwrap_or(EqualL0 { l0: Vec::new(), measures: Vec::new() });
    let mut header: Vec<String> = vec!["group".into()];
    header.extend(keys.iter().map(|&k| groups.keys[k].clone()));
    header.push("l0".into());
    for measure in &equal.measures {
        let key = measure.key;
        header.extend(["mean", "sd_seeds", "n_seeds"].map(|part| format!("{key}_{part}")));
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&header)?;
    for (at, group) in groups.groups.iter().enumerate() {
        for (column, l0) in equal.l0.iter().enumerate() {
            let cells: Vec<Option<Summary>> =
                equal.measures.iter().map(|measure| measure.cells[at][column]).collect();
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let mut line = vec![group.name()];
            line.extend(keys.iter().map(|&k| shared(&groups, group, k)));
            line.push(l0.to_string());
            line.extend(cells.iter().flat_map(|cell| match cell {
                Some(Summary { mean, sd, n }) => [
                    mean.to_string(),
                    sd.map_or_else(String::new, |sd| sd.to_string()),
                    n.to_string(),
                ],
                None => [String::new(), String::new(), "0".into()],
            }));
            writer.write_record(&line)?;
        }
    }
    String::from_utf8(writer.into_inner()?).context("equal-l0.csv")
}

/// The value of a setting in all runs of a group; nothing where they differ or have none.
fn shared(groups: &Groups, group: &Group, key: usize) -> String {
    let value = |run: usize| groups.values[run][key].as_deref();
    let first = value(group.runs[0]);
    let is_shared = group.runs.iter().all(|&run| value(run) == first);
    first.filter(|_| is_shared).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use sae_config::RunResult;

    use super::super::tests::measured;
    use super::*;

    fn results() -> SweepResults {
        let mut runs = Vec::new();
        for (lr, gain) in [(1e-3, 0.0), (1e-2, 0.1)] {
            for seed in 0..2 {
                for (k, r2) in [(4, 0.5), (8, 0.7)] {
                    let mut run = measured(k, seed, r2 + gain + 0.02 * seed as f64);
                    run.config.training.lr = Some(lr);
                    runs.push(RunResult { run_id: runs.len().to_string(), ..run });
                }
            }
        }
        SweepResults { name: "x".into(), runs, ..SweepResults::default() }
    }

    #[test]
    fn rows_have_names_and_cells_have_mean_deviation_and_number() {
        let table = table(&results()).unwrap();
        // The sample deviation of x and x + 0.02 is 0.02/√2.
        assert!(
            table.contains("topk lr=1e-3  0.5100 ± 0.0141 (2)  0.7100 ± 0.0141 (2)"),
            "{table}"
        );
        assert!(table.contains("topk lr=0.01  0.6100 ± 0.0141 (2)"), "{table}");
        assert!(table.contains("R² at") && !table.contains("CE recovered"), "{table}");
        assert!(table.contains("± is the standard deviation over seeds"), "{table}");
        let mut one = results();
        one.runs.truncate(2);
        let table = super::table(&one).unwrap();
        assert!(table.lines().any(|line| line == "topk   0.5000  0.7000"), "{table}");
        one.runs.clear();
        assert_eq!(super::table(&one), None);
    }

    #[test]
    fn an_l0_that_a_group_does_not_reach_is_a_dash() {
        let mut results = results();
        results.runs.remove(1);
        results.runs.remove(2);
        let table = table(&results).unwrap();
        let line = table.lines().find(|line| line.starts_with("topk lr=1e-3")).unwrap();
        assert!(line.trim_end().ends_with('–'), "{table}");
    }

    #[test]
    fn the_csv_has_the_settings_and_reads_back() {
        let text = csv(&results()).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("group,training.lr,l0,r2_mean,r2_sd_seeds,r2_n_seeds"));
        let first: Vec<_> = lines.next().unwrap().split(',').collect();
        assert_eq!(&first[..3], ["topk lr=1e-3", "1e-3", "4"]);
        assert!((first[3].parse::<f64>().unwrap() - 0.51).abs() < 1e-12 && first[5] == "2");
        assert_eq!(text.lines().count(), 5);
        assert_eq!(csv(&SweepResults::default()).unwrap().lines().count(), 1);
    }

    #[test]
    fn l0_are_written_with_four_digits() {
        for (value, expected) in [
            (4.0, "4"),
            (7.9683, "7.968"),
            (31.996, "32"),
            (128.0, "128"),
            (4096.4, "4096"),
            (0.25, "0.25"),
        ] {
            assert_eq!(short(value), expected);
        }
    }
}
