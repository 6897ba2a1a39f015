//! The report of a sweep as a browser shows it from a disk.

use std::path::{Path, PathBuf};

use sae_config::{RunConfig, RunResult, RunStatus, SweepResults};
use sae_report::Report;
use serde_json::{Value, json};

use crate::browser::Browser;

const KS: [usize; 3] = [4, 8, 16];
const SEEDS: u64 = 2;

fn config(architecture: &str, k: usize, seed: u64) -> RunConfig {
    let text = format!(
        "data.store = 's'\nsae.n_features = 64\n[architecture]\nname = '{architecture}'\nk = {k}\n\
         [training]\nsteps = 100\nbatch_size = 8\nseed = {seed}"
    );
    let config: RunConfig = toml::from_str(&text).unwrap();
    config.check().unwrap().settings().clone()
}

/// What a run comes to: L0 and R².
fn measured(architecture: &str, k: usize, seed: u64) -> (f64, f64) {
    let (l0, gain) = match architecture {
        "soft" => (1.125 * k as f64, 0.03125),
        _ => (k as f64, 0.0),
    };
    (l0, 0.5 + 0.01 * k as f64 + gain + 0.002 * seed as f64)
}

fn spent(n: usize, l0: f64) -> Value {
    let group = |at: usize| json!({"from": at, "to": at + 1, "n": 10, "l0": l0 + at as f64, "k_hat": l0, "error": 0.25});
    (0..n).map(group).collect()
}

fn text(mean: f64) -> Value {
    let tokens = json!([" a", "<script>hacked=1</script>", [226, 128], null, "\u{202e}x"]);
    let values = [mean - 2.0, mean, mean, mean + 1.0, mean + 1.0];
    json!({"document": 1, "position": 7, "mean": mean, "tokens": tokens, "values": values})
}

fn run(architecture: &str, k: usize, seed: u64) -> RunResult {
    let (l0, r2) = measured(architecture, k, seed);
    let is_soft = architecture == "soft";
    let texts = |mean: f64| if is_soft { json!([text(mean)]) } else { json!([]) };
    let evaluation = json!({
        "n_rows": 100,
        "reconstruction": {"r2": r2, "frac_variance_explained": r2, "mse_per_row": 1.0, "cosine": 0.9, "norm_ratio": 0.9, "relative_bias": 1.0},
        "sparsity": {
            "l0_mean": l0, "l0_sd": if is_soft { 2.0 } else { 0.0 }, "l0_p5": l0 - 1.0, "l0_p50": l0, "l0_p95": l0 + 1.0, "l1": 3.0,
            "dead_fraction": 0.125, "dense_fraction_1e2": 0.5, "dense_fraction_1e1": 0.0, "density_histogram": [0, 3, 5]
        },
        "k_hat": is_soft.then(|| json!({"mean": l0, "sd": 2.0, "min": 1.0, "max": 30.0})),
        "profile": {
            "by_position": spent(5, l0), "by_document": spent(2, l0), "by_frequency": spent(4, l0), "by_error": spent(10, l0),
            "fewest": texts(3.0), "most": texts(20.0)
        },
        "cross_entropy": null
    });
    RunResult {
        run_id: format!("{architecture}-{k}-{seed}"),
        variant: None,
        status: RunStatus::Done,
        config: config(architecture, k, seed),
        train_seconds: 60.0,
        evaluation: serde_json::from_value(evaluation).unwrap(),
        failure: None,
        provenance: None,
    }
}

/// A report of twelve runs, and of one that has failed and one that was stopped.
fn write(folder: &Path) -> PathBuf {
    let mut runs = Vec::new();
    for architecture in ["topk", "soft"] {
        for k in KS {
            runs.extend((0..SEEDS).map(|seed| run(architecture, k, seed)));
        }
    }
    for (id, status) in [("bad", RunStatus::Failed), ("half", RunStatus::Stopped)] {
        let failure = (id == "bad").then(|| "training: <b>out of memory</b>".to_owned());
        let config = config("topk", 8, if id == "bad" { 8 } else { 9 });
        runs.push(RunResult {
            run_id: id.into(),
            status,
            failure,
            evaluation: None,
            config,
            ..runs[0].clone()
        });
    }
    let steps_done = [("half".to_owned(), 40)].into();
    let results =
        SweepResults { name: "</title><script>hacked=2</script>".into(), runs, steps_done };
    sae_config::write_json(&folder.join("results.json"), &results).unwrap();
    let pages = folder.join("runs/soft-8-0/features");
    std::fs::create_dir_all(&pages).unwrap();
    std::fs::write(pages.join("features.html"), "").unwrap();
    let log = "$ softsae train runs/x/run.toml\nfine\n";
    std::fs::write(folder.join("runs/soft-8-0/log.txt"), log).unwrap();
    let curve = "{\"step\": 1, \"loss\": 2.0}\n{\"step\": 2, \"loss\": 1.0}\n";
    std::fs::write(folder.join("runs/soft-8-0/metrics.jsonl"), curve).unwrap();
    Report::read(folder).unwrap().write(folder).unwrap()
}

const N_ROWS: &str = "document.querySelectorAll('#runs tbody tr').length";
const FIRSTS: &str = "[...document.querySelectorAll('#runs tbody tr')].map((row) => row.querySelector('button').dataset.key)";

fn find(browser: &mut Browser, words: &str) {
    browser.value(&format!(
        "(() => {{ const it = document.getElementById('find'); it.value = {}; it.dispatchEvent(new Event('input')); }})()",
        json!(words)
    ));
}

/// Presses a button by its key.
fn press(browser: &mut Browser, key: &str) {
    browser.value(&format!("document.querySelector('[data-key=\"{key}\"]').click()"));
}

#[test]
fn runs_are_found_sorted_and_told() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = write(folder.path());
    browser.open(&page);
    assert_eq!(browser.value(N_ROWS), 14);
    press(&mut browser, "sort R²");
    let focused = "document.activeElement.dataset.key";
    browser.value("document.querySelector('[data-key=\"sort R²\"]').focus()");
    press(&mut browser, "sort R²");
    assert_eq!(browser.value(focused), "sort R²", "the focus stays");
    press(&mut browser, "sort R²");
    let mut expected: Vec<(f64, String)> = Vec::new();
    for architecture in ["topk", "soft"] {
        for (k, seed) in KS.iter().flat_map(|k| (0..SEEDS).map(move |seed| (*k, seed))) {
            let id = format!("run {architecture}-{k}-{seed}");
            expected.push((measured(architecture, k, seed).1, id));
        }
    }
    expected.sort_by(|a, b| b.0.total_cmp(&a.0));
    let found: Vec<String> = serde_json::from_value(browser.value(FIRSTS)).unwrap();
    assert_eq!(found[..12], expected.iter().map(|of| of.1.clone()).collect::<Vec<_>>()[..]);

    find(&mut browser, "SOFT k=8");
    assert_eq!(browser.value(N_ROWS), 2);
    let said = browser.text("document.getElementById('n-runs').textContent");
    assert_eq!(said, "2 of 14 runs are shown.");
    find(&mut browser, "failed");
    assert_eq!(browser.value(FIRSTS), json!(["run bad"]));
    find(&mut browser, "no such run");
    assert_eq!(browser.value(N_ROWS), 0);
    find(&mut browser, "");
    press(&mut browser, "k 16");
    assert_eq!(browser.value(N_ROWS), 4);
    press(&mut browser, "hue 0");
    assert_eq!(browser.value(N_ROWS), 2);
    press(&mut browser, "hue 0");
    press(&mut browser, "all k");

    press(&mut browser, "run soft-8-0");
    let told = browser.text("document.getElementById('run-config').textContent");
    for words in ["commands:\nsoftsae train runs/x/run.toml", "\"n_features\": 64"] {
        assert!(told.contains(words), "{told}");
    }
    let link = browser.text("document.querySelector('#run-links a').getAttribute('href')");
    assert_eq!(link, "runs/soft-8-0/features/features.html");
    assert!(folder.path().join(link).exists());
    let unfinished = browser.text("document.getElementById('unfinished').innerText");
    assert!(unfinished.contains("failed: training: <b>out of memory</b>"), "{unfinished}");
    assert!(unfinished.contains("stopped, step 40 of 100"), "{unfinished}");
    assert_eq!(browser.value("typeof hacked"), "undefined");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

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

#[test]
fn texts_are_shown_as_they_are_and_the_page_fits_every_reader() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = write(folder.path());
    browser.screen(360, "light");
    browser.open(&page);
    let shown = browser
        .value("[...document.querySelectorAll('#texts .words')].map((one) => one.textContent)");
    let expected = " a<script>hacked=1</script>\\xe2\\x80?U+202Ex";
    assert_eq!(shown, json!([expected, expected]));
    let strengths = browser.value("[...document.querySelectorAll('#texts .words')[1].children].map((one) => one.style.background !== '')");
    assert_eq!(strengths, json!([true, true, true, true, true]));
    assert_eq!(browser.value("typeof hacked"), "undefined");
    let ground = "getComputedStyle(document.body).backgroundColor";
    let light = browser.text(ground);
    browser.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })");
    press(&mut browser, "run soft-8-0");
    let wide = "[...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > 360 && !one.parentElement.closest('.scroll, pre, svg')).map((one) => one.outerHTML.slice(0, 80))";
    assert_eq!(browser.value(wide), json!([]));
    assert_eq!(browser.value("document.documentElement.scrollWidth <= 360"), true);
    assert_eq!(browser.barriers(), Vec::<String>::new());
    browser.screen(1200, "dark");
    assert_ne!(browser.text(ground), light);
    assert_eq!(browser.barriers(), Vec::<String>::new());
    browser.picture("report-dark");
    browser.screen(1200, "light");
    browser.picture("report-light");
    assert!(
        browser.requests().iter().all(|url| url.starts_with("file:") || url.starts_with("data:"))
    );
    assert_eq!(browser.errors(), Vec::<String>::new());
}
