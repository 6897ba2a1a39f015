//! The charts of a report.

use sae_config::SweepResults;
use sae_report::Report;
use serde_json::json;

use super::{KS, measured, press, run, write};
use crate::browser::Browser;

/// The mean over seeds at an L0, between the two runs around it.
fn at_l0(architecture: &str, l0: f64) -> Option<f64> {
    let point = |k: usize| measured(architecture, k, 0);
    let pair = KS.windows(2).find(|pair| (point(pair[0]).0..=point(pair[1]).0).contains(&l0))?;
    let ((x0, y0), (x1, y1)) = (point(pair[0]), point(pair[1]));
    let share = (l0 / x0).ln() / (x1 / x0).ln();
    Some(y0 + share * (y1 - y0) + 0.001)
}

#[test]
fn charts_draw_every_run_and_give_their_data() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = write(folder.path());
    browser.screen(1200, "light");
    browser.open(&page);
    let count = |browser: &mut Browser, selector: &str| {
        browser.value(&format!("document.querySelectorAll({}).length", json!(selector)))
    };
    assert_eq!(count(&mut browser, "#frontier-r2 g > path[transform]"), 12, "a mark a run");
    assert_eq!(count(&mut browser, "#frontier-r2 path.line"), 2, "a line a group");
    assert_eq!(count(&mut browser, "#frontier-r2 line.spread"), 6, "a bar for each k");
    assert_eq!(count(&mut browser, "#l0 svg g"), 12);
    assert_eq!(count(&mut browser, "#curves path.line"), 1);
    assert_eq!(count(&mut browser, "#by_position g > path[transform]"), 30);
    assert_eq!(browser.value("document.getElementById('by_loss').hidden"), true, "not measured");

    // The data of a chart.
    browser.value("document.querySelector('#frontier-r2 summary').click()");
    browser.until("document.querySelectorAll('#frontier-r2 tbody tr').length === 12");
    let cells = browser.value("[...document.querySelectorAll('#frontier-r2 tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))");
    assert_eq!(cells[0], json!(["TopK", "4", "0.54"]));
    let files = browser.value(
        "(async () => { const root = document.querySelector('#frontier-r2 svg'); const png = await picture(root); \
         return [csv([['a,b', 'x\"y'], [1, null]]), standalone(root).slice(0, 4), png.type, png.size > 2000]; })()",
    );
    assert_eq!(files, json!(["\"a,b\",\"x\"\"y\"\r\n1,\r\n", "<svg", "image/png", true]));

    // At equal L0, between the runs of each group.
    let rows = browser.value("[...document.querySelectorAll('#equal tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))");
    let heads = browser
        .value("[...document.querySelectorAll('#equal thead th')].map((cell) => cell.textContent)");
    for (row, architecture) in ["topk", "soft"].iter().enumerate() {
        for (column, head) in heads.as_array().unwrap().iter().enumerate().skip(1) {
            let l0: f64 = head.as_str().unwrap().strip_prefix("L0 ").unwrap().parse().unwrap();
            let shown = rows[row][column].as_str().unwrap();
            match at_l0(architecture, l0) {
                Some(expected) => {
                    let mean: f64 = shown.split(' ').next().unwrap().parse().unwrap();
                    assert!((mean - expected).abs() < 1e-3, "{head}: {shown}, not {expected}");
                }
                None => assert_eq!(shown, "–", "{head}"),
            }
        }
    }

    // Colours by another setting.
    browser.value("(() => { const by = document.getElementById('by'); by.value = [...by.options].find((one) => one.text === 'seed').value; by.dispatchEvent(new Event('change')); })()");
    let names = browser.value(
        "[...document.querySelectorAll('#switches [data-key^=hue]')].map((one) => one.textContent)",
    );
    assert_eq!(names, json!(["seed 0", "seed 1", "seed 8", "seed 9"]));
    assert_eq!(count(&mut browser, "#frontier-r2 path.line"), 4);
    press(&mut browser, "hue 1");
    assert_eq!(count(&mut browser, "#frontier-r2 g > path[transform]"), 6);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

/// Where a mark of the first chart is on the screen.
fn place(browser: &mut Browser, number: usize) -> [f64; 2] {
    let at = browser.value(&format!(
        "(() => {{ const box = document.querySelectorAll('#frontier-r2 g > path[transform]')[{number}].getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
    ));
    serde_json::from_value(at).unwrap()
}

#[test]
fn the_pointer_tells_and_zooms() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = write(folder.path());
    browser.screen(1200, "light");
    browser.open(&page);
    browser.value("document.getElementById('frontier-r2').scrollIntoView()");
    let [x, y] = place(&mut browser, 3);
    browser.pointer("mouseMoved", [x + 1.0, y], 0);
    browser.until("!document.getElementById('tip').hidden");
    let tip = browser.text("document.getElementById('tip').textContent");
    assert_eq!(tip, "TopK, k 8, seed 1\nL0 8, R² 0.582");
    browser.pointer("mouseMoved", [2.0, 2.0], 0);
    browser.until("document.getElementById('tip').hidden");

    // The part around a mark, and the whole again.
    let ticks = "[...document.querySelectorAll('#frontier-r2 svg text')].map((one) => one.textContent).join(' ')";
    let whole = browser.text(ticks);
    browser.pointer("mousePressed", [x - 60.0, y - 40.0], 1);
    browser.pointer("mouseMoved", [x, y], 1);
    browser.pointer("mouseMoved", [x + 60.0, y + 40.0], 1);
    browser.pointer("mouseReleased", [x + 60.0, y + 40.0], 0);
    browser.until(&format!("{ticks} !== {}", json!(whole)));
    let zoomed = place(&mut browser, 3);
    let area = browser.value("(() => { const box = document.querySelector('#frontier-r2 svg').getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2, box.width]; })()");
    let area: [f64; 3] = serde_json::from_value(area).unwrap();
    assert!((zoomed[0] - area[0]).abs() < 0.1 * area[2], "{zoomed:?} in {area:?}");
    browser.value(
        "document.querySelector('#frontier-r2 svg').dispatchEvent(new MouseEvent('dblclick'))",
    );
    assert_eq!(browser.text(ticks), whole);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

/// Where the marks of a chart are, from left to right in the units of the chart, in the order of runs.
fn places_of(browser: &mut Browser, figure: &str) -> Vec<f64> {
    let all = browser.value(&format!(
        "[...document.querySelectorAll('#{figure} g > path[transform]')].map((one) => one.transform.baseVal[0].matrix.e)"
    ));
    serde_json::from_value(all).unwrap()
}

/// What stands below the x axis of a chart.
fn x_labels(browser: &mut Browser, figure: &str) -> serde_json::Value {
    browser.value(&format!(
        "[...document.querySelectorAll('#{figure} svg text[text-anchor=middle]:not(.name)')].map((one) => one.textContent).filter(Boolean)"
    ))
}

#[test]
fn runs_with_other_bins_are_drawn_at_their_own() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut runs = vec![run("soft", 8, 0), run("soft", 16, 0)];
    let profile = runs[1].evaluation.as_mut().unwrap().profile.as_mut().unwrap();
    profile.by_position.remove(0);
    for of in &mut profile.by_error {
        (of.from, of.to) = (10.0 * of.from, 10.0 * of.to);
    }
    let results = SweepResults { runs, ..SweepResults::default() };
    browser.open(&Report::new(results).write(folder.path()).unwrap());
    let places = places_of(&mut browser, "by_position");
    assert_eq!((places.len(), &places[1..5]), (9, &places[5..]), "of equal bounds");
    assert_eq!(x_labels(&mut browser, "by_position"), json!(["0", "1", "2", "3", "4"]));
    // Tenths are ranks; the bounds of each run are in its data.
    let places = places_of(&mut browser, "by_error");
    assert_eq!((places.len(), &places[..10]), (20, &places[10..]));
    let tenths = ["1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th", "10th"];
    assert_eq!(x_labels(&mut browser, "by_error"), json!(tenths));
    browser.value("document.querySelector('#by_error details').open = true");
    browser.until("document.querySelectorAll('#by_error tbody tr').length === 20");
    let bounds = "[1, 11].map((at) => [...document.querySelectorAll('#by_error tbody tr')[at].cells].slice(0, 3).map((cell) => cell.textContent))";
    let expected = json!([["SoftSAE, k 8", "2", "1 to 2"], ["SoftSAE, k 16", "2", "10 to 20"]]);
    assert_eq!(browser.value(bounds), expected);
    assert_eq!(browser.errors(), Vec::<String>::new());
}
