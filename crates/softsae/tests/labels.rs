//! `features tasks` and `features label`: what a judge is asked, and one behind a real socket.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use self::server::{Faults, Server};
use crate::features::{data, encoded, files, made_of};
use crate::{fail, softsae_program, str, succeed, text};

#[path = "../../sae-judge/tests/server.rs"]
#[expect(dead_code, reason = "the tests of the judge itself use more of it")]
mod server;

/// Pages with windows of three tokens, of which many fit the store.
fn pages(folder: &Path) -> std::path::PathBuf {
    let at = |name: &str| folder.join(name);
    // Few windows have the same words.
    let word = |i: u32| i.wrapping_mul(2_654_435_761) >> 16;
    let words: Vec<String> = (0..9000).map(|i| format!("w{}", word(i) % 89 + 4)).collect();
    made_of(&at, "name = \"topk\"\nk = 4", &words);
    let (checkpoint, store, host) = (at("run/checkpoint"), at("store"), at("host"));
    let features = ["features", str(&checkpoint), "--data", str(&store), "--host", str(&host)];
    succeed(features.into_iter().chain(["--window", "1", "--out", str(&at("pages"))]));
    at("pages")
}

/// Runs `features label` against a server.
fn label(pages: &Path, url: &str, more: &[&str]) -> Command {
    let mut command = Command::new(softsae_program());
    command.args(["features", "label", str(pages), "--endpoint", url, "--model", "by-rule"]);
    command.args(more).env_remove("OPENAI_API_KEY");
    command
}

fn ran(mut command: Command) -> Output {
    command.output().expect("softsae starts")
}

#[test]
fn tasks_are_labelled_as_the_codes_are() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pages = pages(folder.path());
    let at = |name: &str| folder.path().join(name);
    let (before, out) = (files(&pages), at("tasks.jsonl"));
    let tasks = ["features", "tasks", str(&pages), "--features", "0-255", "--out", str(&out)];
    let said = succeed(tasks);
    let lines = fs::read_to_string(&out).expect("reads");
    let n_lines = lines.lines().count();
    assert!(said.starts_with(&format!("{}: {n_lines} features; ", out.display())), "{said}");
    assert_eq!(files(&pages), before, "what is read stays as it is");

    let codes = encoded(&at("run/checkpoint"), &at("store"), &at("codes"));
    let n_rows = codes.len();
    // Contexts have 15 rows.
    let window = |row: usize| {
        let first = row / 15 * 15;
        row.saturating_sub(1).max(first)..(row + 2).min(first + 15).min(n_rows)
    };
    let mut n_items = [0, 0];
    for line in lines.lines() {
        let task: Value = serde_json::from_str(line).expect("JSON");
        let feature = task["feature"].as_u64().expect("a number") as usize;
        for item in task["detection"].as_array().expect("items") {
            let row = item["row"].as_u64().expect("a row") as usize;
            let is_active = window(row).any(|row| codes[row][feature] != 0.0);
            assert_eq!(item["active"], is_active, "feature {feature}, row {row}");
            let words = item["text"].as_str().expect("a text").matches('w').count();
            assert_eq!(words, window(row).len());
            n_items[usize::from(is_active)] += 1;
        }
        for item in task["fuzzing"].as_array().expect("items") {
            let text = item["text"].as_str().expect("a text");
            assert!(text.contains("<<") && text.contains(">>"), "{text}");
        }
    }
    assert!(n_lines > 50 && n_items.iter().all(|n| *n > 500), "{n_lines} {n_items:?}");
    // The same features give the same lines, and are found by number.
    let again = at("again.jsonl");
    succeed(["features", "tasks", str(&pages), "--features", "9,7-8", "--out", str(&again)]);
    let again = fs::read_to_string(again).expect("reads");
    assert!(again.lines().all(|line| lines.contains(line)) && again.lines().count() <= 3);
}

#[test]
fn labels_come_out_the_same_whenever_the_command_is_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pages = pages(folder.path());
    let server = Server::start(Faults::default());
    let args = ["--sample", "12"];
    let (shown, none) = (pages.join("features-data/labels.js"), data(&pages, "labels"));
    let unlabelled = fs::read(&shown).expect("reads");
    let output = ran(label(&pages, &server.address, &args));
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said} {}", text(&output.stderr));
    let n_all = server.n_seen();
    assert!(said.contains("detection: balanced accuracy") && said.contains("fuzzing"), "{said}");
    assert!(said.contains(&format!("{n_all} requests and {} tokens", 100 * n_all)), "{said}");
    let expected = data(&pages, "labels");
    let n_labels = expected["features"].as_object().expect("features").len();
    assert!((1..=12).contains(&n_labels), "{expected}");
    assert_eq!(expected["judges"], serde_json::json!(["by-rule"]));

    // Killed while answers come in, again and again.
    fs::remove_file(pages.join("judge-answers.jsonl")).expect("removed");
    fs::write(&shown, unlabelled).expect("writes");
    server.faults.lock().expect("no holder panics").delay = Duration::from_millis(3);
    let start = server.n_seen();
    for n_killed in 1..4 {
        let mut command = label(&pages, &server.address, &args);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        while server.n_seen() < start + n_killed * n_all / 4 {
            if child.try_wait().expect("a child").is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("killed");
        child.wait().expect("a child");
        assert_eq!(data(&pages, "labels"), none);
    }
    let output = ran(label(&pages, &server.address, &args));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(data(&pages, "labels"), expected);
    // Four features are asked of at a time: so many answers are lost with each kill.
    let n_again = server.n_seen() - start;
    assert!((n_all..=n_all + 3 * 4).contains(&n_again), "{n_again} for {n_all}");

    // A larger sample asks of the others alone, and keeps the labels.
    let n_seen = server.n_seen();
    let output = ran(label(&pages, &server.address, &["--sample", "14", "--parallel", "1"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let grown = data(&pages, "labels");
    for (feature, judged) in expected["features"].as_object().expect("features") {
        assert_eq!(grown["features"][feature], *judged);
    }
    let n_more = grown["features"].as_object().expect("features").len() - n_labels;
    assert!(n_more <= 2 && server.n_seen() - n_seen <= 17 * n_more, "{n_more}");
}

#[test]
fn a_budget_ends_it_and_a_larger_one_goes_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pages = pages(folder.path());
    let server = Server::start(Faults::default());
    for (bound, n_seen) in [("20", 20), ("20", 20), ("30", 30)] {
        let args = ["--sample", "12", "--max-requests", bound, "--parallel", "1"];
        let output = ran(label(&pages, &server.address, &args));
        let (said, noted) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && noted.contains("requests is spent"), "{said}{noted}");
        assert!(said.contains("of those asked for are left"), "{said}");
        assert_eq!(server.n_seen(), n_seen);
    }
    assert!(!data(&pages, "labels")["features"].as_object().expect("features").is_empty());
}

#[test]
fn endpoints_and_pages_that_cannot_answer_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pages = pages(folder.path());
    let server = Server::start(Faults::default());
    let failed = |url: &str, more: &[&str], code: i32, words: &[&str]| {
        let output = ran(label(&pages, url, more));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "expected {word} in {said}"));
    };
    let down = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr();
    let down = format!("http://{}/v1", down.expect("an address"));
    failed(&down, &["--attempts", "1"], 1, &[&down, "the same command goes on"]);
    failed("localhost:80", &[], 2, &["localhost:80", "http://"]);
    failed(&server.address, &["--features", "256"], 2, &["--features", "0 to 255", "256"]);
    failed(&server.address, &["--api-key-env", "NO_SUCH_KEY"], 2, &["NO_SUCH_KEY"]);
    let unknown = vec![(404, "", "{\"error\": {\"message\": \"no such model\"}}")];
    server.faults.lock().expect("no holder panics").statuses = unknown;
    failed(&server.address, &["--parallel", "1"], 2, &["404", "no such model"]);
    server.faults.lock().expect("no holder panics").nonsense = Some("I cannot do that");
    failed(&server.address, &["--parallel", "1"], 1, &["by-rule", "10 in a row", "cannot do that"]);
    fs::write(pages.join("judge-answers.jsonl"), "{}\n").expect("writes");
    failed(&server.address, &[], 2, &["judge-answers.jsonl, line 1"]);

    let at = |name: &str| folder.path().join(name);
    let (checkpoint, store, plain) = (at("run/checkpoint"), at("store"), at("plain"));
    succeed(["features", str(&checkpoint), "--data", str(&store), "--out", str(&plain)]);
    let output = ran(label(&plain, &server.address, &[]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("made with --host"), "{}", text(&output.stderr));
    let out = at("tasks.jsonl");
    fail(["features", "tasks", str(&plain), "--out", str(&out)], 2, &["made with --host"]);
    fail(["features", "tasks", str(&at("run")), "--out", str(&out)], 2, &["index.js"]);
    let inside = pages.join("tasks.jsonl");
    fail(["features", "tasks", str(&pages), "--out", str(&inside)], 2, &["--out"]);
    assert!(!out.exists());
}
