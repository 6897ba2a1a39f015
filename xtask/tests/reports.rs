//! The report of a sweep whose folder was damaged, or that is called by hostile names.

use std::fs;

use sae_config::RunStatus;

use crate::bench::{Bench, json};

/// What `report.html` holds as data.
fn data(bench: &Bench) -> serde_json::Value {
    let page = fs::read_to_string(bench.at("out/report.html")).expect("reads");
    let start = "type=\"application/json\">";
    let data = page.split_once(start).expect("data").1.split_once("</script>").expect("an end").0;
    serde_json::from_str(data).expect("JSON")
}

/// The statuses of the runs, in their order.
fn statuses(report: &serde_json::Value) -> Vec<&str> {
    let runs = report["results"]["runs"].as_array().expect("runs");
    runs.iter().map(|run| run["status"].as_str().expect("a status")).collect()
}

#[test]
fn what_is_missing_or_broken_is_named_and_costs_no_other_run_its_place() {
    let bench = Bench::new();
    let file = bench.write("mine.toml", 20, "k = [1, 2]\nseed = [0, 1, 2]");
    bench.ends(&file, &[], 0, &[]);
    let before = data(&bench);
    let ids: Vec<String> = bench
        .results()
        .iter()
        .map(|run| run["run_id"].as_str().expect("an id").to_owned())
        .collect();
    let at = |run: usize, name: &str| bench.at("out/runs").join(&ids[run]).join(name);
    let change = |run: usize, act: &dyn Fn(&mut serde_json::Value)| {
        let mut result = json(&at(run, "result.json"));
        act(&mut result);
        fs::write(at(run, "result.json"), result.to_string()).expect("writes");
    };
    // One is gone, one half written, one of an older version, one of a later one, one not measured.
    fs::remove_dir_all(at(0, "")).expect("removed");
    let whole = fs::read(at(1, "result.json")).expect("reads");
    fs::write(at(1, "result.json"), &whole[..whole.len() / 2]).expect("writes");
    change(2, &|result| {
        drop(result["config"]["sae"].as_object_mut().expect("keys").remove("n_features"))
    });
    change(3, &|result| result["evaluation"]["flux"] = 3.into());
    fs::remove_file(at(4, "result.json")).expect("removed");
    let results = fs::read(bench.at("out/results.json")).expect("reads");
    let names = |said: &str| {
        assert!(said.contains("`evaluation.flux`: not known to this version"), "{said}");
    };
    let (code, said) = bench.asks(&["report", "out"]);
    assert_eq!(code, Some(0), "{said}");
    names(&said);
    let report = data(&bench);
    // Of a run whose folder is gone results.json still knows.
    let [done, stale, stopped] =
        [RunStatus::Done, RunStatus::Stale, RunStatus::Stopped].map(RunStatus::name);
    assert_eq!(statuses(&report), [done, stale, stale, done, stopped, done]);
    for run in [0, 3, 5] {
        let runs = |of: &serde_json::Value| of["results"]["runs"][run]["evaluation"].clone();
        assert_eq!(runs(&report)["reconstruction"], runs(&before)["reconstruction"]);
    }
    let failure = |run: usize| report["results"]["runs"][run]["failure"].to_string();
    for run in [1, 2] {
        assert!(failure(run).contains("result.json"), "{}", failure(run));
    }
    assert_eq!(fs::read(bench.at("out/results.json")).expect("reads"), results, "as it was");

    // The file of results is half written too: the folders of the runs say what there is.
    fs::write(bench.at("out/results.json"), &results[..results.len() / 2]).expect("writes");
    let (code, said) = bench.asks(&["report", "out"]);
    assert!(code == Some(0) && said.contains("results.json"), "{said}");
    assert_eq!(data(&bench)["results"]["runs"].as_array().expect("runs").len(), 5);
    fs::write(bench.at("out/results.json"), &results).expect("writes");
    // Started again, the sweep does what is missing and has all it had.
    bench.ends(&file, &[], 0, &["4 of 6 runs to do"]);
    let after = data(&bench);
    assert_eq!(statuses(&after), [done; 6]);
    assert_eq!(after["equal"], before["equal"]);
}

#[test]
fn hostile_names_are_shown_as_they_are() {
    let bench = Bench::new();
    let file = bench.write("mine.toml", 20, "seed = [0]");
    let variant = "</script><script>hacked=1</script>,\u{202e}\"x";
    let plain = fs::read_to_string(&file).expect("reads");
    let text = format!("{plain}[variants.{variant:?}]\nlr = 2e-3\n");
    let hostile = bench.at("<b>mine&.toml");
    fs::write(&hostile, text.replace("\\u{202e}", "\\u202e")).expect("writes");
    bench.ends(&hostile, &[], 0, &[]);
    let report = data(&bench);
    assert_eq!(report["results"]["runs"][0]["variant"], variant);
    assert_eq!(report["results"]["name"], "<b>mine&");
    let page = fs::read_to_string(bench.at("out/report.html")).expect("reads");
    assert!(page.contains("<title>&lt;b&gt;mine&amp;"), "the title");
    assert_eq!(page.matches("hacked=1").count(), page.matches("script>hacked=1\\u003c").count());
    let table = fs::read_to_string(bench.at("out/results.csv")).expect("reads");
    let quoted = format!("\"{}\"", variant.replace('"', "\"\""));
    assert!(table.contains(&quoted), "{table}");
}
