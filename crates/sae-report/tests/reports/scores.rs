//! The scores of suites as a browser shows them.

use sae_config::{Interval, IntervalKind, Score, SweepResults, Worthless};
use sae_report::Report;
use serde_json::{Value, json};

use super::{find, run};
use crate::browser::Browser;

const CELLS: &str = "[...document.querySelectorAll('#scores-core table.scores tbody tr')].map((row) => [...row.querySelectorAll('td')].map((cell) => [...cell.children].map((line) => line.textContent)))";

/// Two runs with scores and one without.
fn scored() -> SweepResults {
    let mut runs = ["topk", "soft", "batch_topk"].map(|name| run(name, 8, 0));
    let score = |value: f64| {
        let mut score = Score::new(value, 9).with_ceiling(0.9375);
        let (low, high) = (value - 0.25, value + 0.25);
        score.interval = Some(Interval { low, high, by: IntervalKind::Wilson });
        score.floors = [(Worthless::RandomRows, 0.25), (Worthless::Dimensions, 0.5)].into();
        score
    };
    for (run, value) in runs.iter_mut().zip([0.75, 0.5]) {
        let scores = &mut run.evaluation.as_mut().unwrap().scores;
        scores.insert("core.r2".into(), score(value));
        scores.insert("</script><script>hacked=3</script>".into(), Score::new(1.0, 1));
    }
    let dead = Score::new(0.125, 64);
    runs[0].evaluation.as_mut().unwrap().scores.insert("core.dead_fraction".into(), dead);
    SweepResults { runs: runs.into(), ..SweepResults::default() }
}

#[test]
fn scores_stand_beside_what_worthless_dictionaries_get() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = Report::new(scored()).write(folder.path()).unwrap();
    browser.open(&page);
    let floor = "floor 0.5, dimensions";
    let first = json!([["0.75 [0.5, 1]", floor, "ceiling 0.9375"], ["0.125"]]);
    let second =
        json!([["0.5 [0.25, 0.75]", floor, "not better than its floor", "ceiling 0.9375"], []]);
    assert_eq!(browser.value(CELLS), json!([first, second]));
    let heads =
        "[...document.querySelectorAll('#scores-core thead th')].map((head) => head.textContent)";
    let expected = json!(["run", "r2higher is better", "dead fractionlower is better"]);
    assert_eq!(browser.value(heads), expected);
    let others = browser.text("document.querySelector('#scores-other thead').textContent");
    assert!(others.contains("<script>hacked=3"), "{others}");
    assert_eq!(browser.value("typeof hacked"), "undefined");

    browser.value("document.querySelector('#scores-core details').open = true");
    browser.until("document.querySelectorAll('#scores-core table.plain tbody tr').length === 3");
    let data = "[...document.querySelector('#scores-core table.plain tbody tr').children].map((cell) => cell.textContent)";
    let expected: Value = json!([
        "topk-8-0",
        "TopK, k 8",
        "core.r2",
        "0.75",
        "0.5",
        "1",
        "9",
        "rows",
        "0.5",
        "dimensions",
        "0.9375"
    ]);
    assert_eq!(browser.value(data), expected);
    find(&mut browser, "soft");
    assert_eq!(browser.value(CELLS), json!([second]));
    assert_eq!(browser.value("document.querySelector('#scores-core details').open"), true);
    browser.screen(360, "light");
    assert_eq!(browser.value("document.documentElement.scrollWidth <= 360"), true);
    assert_eq!(browser.barriers(), Vec::<String>::new());
    browser.screen(1200, "dark");
    assert_eq!(browser.barriers(), Vec::<String>::new());
    browser.picture("report-scores");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_report_without_scores_has_no_such_section() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let results = SweepResults { runs: vec![run("topk", 8, 0)], ..SweepResults::default() };
    browser.open(&Report::new(results).write(folder.path()).unwrap());
    assert_eq!(browser.value("document.getElementById('scores-section').hidden"), true);
    assert_eq!(browser.errors(), Vec::<String>::new());
}
