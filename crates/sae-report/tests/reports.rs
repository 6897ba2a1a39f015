//! The report of a sweep as a browser shows it from a disk.

mod charts;
mod scores;

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
    let title = "document.querySelector('[data-key=\"hue 0\"]').title";
    assert_eq!(browser.text(title), "Shows TopK");
    press(&mut browser, "hue 0");
    assert_eq!(browser.text(title), "Hides TopK");
    press(&mut browser, "all k");
    let second = "document.querySelectorAll('#runs thead th')[1].textContent";
    assert_eq!(browser.text(second), "features", "the links are seen without scrolling");

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
