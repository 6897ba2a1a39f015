//! `softsae steer` with the real host, and what it refuses.

use std::fs;

use sae_config::Steering;

use crate::{fail, run_toml, smollm2, str, succeed};

#[test]
fn a_feature_is_added_and_its_text_judged() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let host = smollm2();
    let text: String = (0..40).map(|i| format!("It was day {i}, and the sea was calm. ")).collect();
    fs::write(at("text.txt"), text).expect("writes");
    let store = at("store");
    let text = at("text.txt");
    succeed([
        "harvest",
        "--host",
        str(&host),
        "--text",
        str(&text),
        "--hook",
        "resid_post.4",
        "--out",
        str(&store),
    ]);
    fs::write(at("run.toml"), run_toml(&store, "name = 'topk'\nk = 8", 5)).expect("writes");
    let (config, run) = (at("run.toml"), at("run"));
    succeed(["train", str(&config), "--out", str(&run)]);
    let (checkpoint, out) = (run.join("checkpoint"), at("steering.json"));
    let base =
        ["steer", str(&checkpoint), "--host", str(&host), "--feature", "3", "--prompt", "It was"];
    let with =
        |more: &[&'static str]| base.into_iter().chain(more.iter().copied()).collect::<Vec<_>>();
    let mut arguments = with(&["--strength", "-2.5,0,40", "--max-tokens", "6", "--out"]);
    arguments.push(str(&out));
    let told = succeed(arguments);
    assert!(told.contains("strength 0.0000") && told.contains("perplexity"), "{told}");
    let steering: Steering = sae_config::read_json(&out).expect("what was written");
    assert_eq!((steering.feature, steering.hook_point.as_str()), (3, "resid_post.4"));
    let strengths: Vec<f64> = steering.continuations.iter().map(|of| of.strength).collect();
    assert_eq!(strengths, [-2.5, 0.0, 40.0]);
    for of in &steering.continuations {
        assert!(of.tokens.len() <= 6 && of.text.is_some() && of.perplexity >= 1.0, "{of:?}");
    }
    // What the host writes by itself is what it finds likely.
    assert!(steering.continuations[1].perplexity < 20.0, "{:?}", steering.continuations[1]);

    fail(with(&["--strength", "1,x"]), 2, &["--strength", "x"]);
    fail(with(&["--temperature", "-1"]), 2, &["temperature", "0 or more"]);
    fail(with(&["--max-tokens", "9000"]), 2, &["max_tokens", "the host's positions"]);
    fail(with(&["--skip-positions", "2"]), 2, &["prompt", "more tokens"]);
    fail(with(&["--hook", "resid_post.5"]), 2, &["resid_post.5", "--elsewhere"]);
    fail(with(&["--out", "/"]), 2, &["/"]);
    let mut other = with(&[]);
    other[5] = "256";
    fail(other, 2, &["feature", "0 to 255", "256"]);
}
