//! The L0 that scores point to, for the screen.

use sae_config::SweepResults;
use sae_report::{Groups, PointedL0};

use super::table::align;

/// A row for each group with three sparsities or more; none where there is none.
pub(super) fn table(results: &SweepResults) -> Option<String> {
    let groups = Groups::of(&results.runs);
    let pointed = PointedL0::of(&results.runs, &groups)?;
    let head = pointed.scores.iter().map(|name| (*name).to_owned());
    let mut rows = vec![std::iter::once("best L0 by".to_owned()).chain(head).collect::<Vec<_>>()];
    for row in &pointed.rows {
        let cells = row.cells.iter().map(|cell| match cell {
            None => "–".to_owned(),
            Some(at) => format!("{:.1}{}", at.l0, if at.is_end { "*" } else { "" }),
        });
        rows.push(std::iter::once(groups.groups[row.group].name()).chain(cells).collect());
    }
    let note = "* the first or the last sparsity of the group: the best may lie beyond.";
    Some(format!("{}\n{note}", align(&rows)))
}

#[cfg(test)]
mod tests {
    use sae_config::{RunResult, Score};

    use super::super::tests::measured;
    use super::*;

    #[test]
    fn ends_are_marked_and_without_scores_there_is_no_table() {
        let with = |k, cosine, mcc| {
            let mut run: RunResult = measured(k, 0, 0.5);
            let scores = &mut run.evaluation.as_mut().unwrap().scores;
            scores.insert("core.decoder_cosine".into(), Score::new(cosine, 9));
            scores.insert("truth.mcc".into(), Score::new(mcc, 9));
            run
        };
        let runs = vec![with(4, 0.3, 0.5), with(8, 0.1, 0.6), with(16, 0.2, 0.7)];
        let table = table(&SweepResults { runs, ..SweepResults::default() }).unwrap();
        let line = table.lines().find(|line| line.starts_with("topk")).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells.len(), 3);
        assert!(!cells[1].ends_with('*') && cells[2].ends_with('*'), "{table}");
        let runs = vec![measured(4, 0, 0.5), measured(8, 0, 0.5), measured(16, 0, 0.5)];
        assert_eq!(super::table(&SweepResults { runs, ..SweepResults::default() }), None);
    }
}
