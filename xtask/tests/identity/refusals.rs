//! Data and settings that no run can use are refused before any run is begun.

use std::fs;

use super::{bench, write};
use crate::bench::Bench;
use crate::npy;

/// Refuses the sweep, dry or not, before anything is begun.
fn refused(bench: &Bench, words: &[&str]) {
    let file = bench.at("sweep.toml");
    for args in [&["--dry-run"][..], &[]] {
        bench.ends(&file, args, 2, words);
    }
    assert!(!bench.at("out").exists(), "nothing was begun");
}

#[test]
fn data_that_no_run_can_use_is_refused_before_any() {
    let bench = bench();
    let refused = |words: &[&str]| refused(&bench, words);
    let held_out = bench.at("held-out/acts.npy");
    write(&bench, "train", "");
    npy::write_with(&held_out, 200, 16, 2, Some((150, 3, f32::NAN)));
    let place =
        format!("{}: row 150, column 3: expected a finite value, got NaN", held_out.display());
    refused(&["stores.held_out", &place]);
    npy::write(&held_out, 200, 8, 2);
    refused(&["stores.held_out", "held-out", "expected d_model 16, as in", "got 8"]);
    npy::write(&held_out, 200, 16, 2);

    npy::write_with(&bench.at("train/acts.npy"), 500, 16, 1, Some((499, 15, f32::INFINITY)));
    refused(&["stores.train", "acts.npy: row 499, column 15: expected a finite value, got inf"]);
    // Runs that leave such rows out may do without them.
    let list: String = (0..400).map(|row| format!("{row}\n")).collect();
    fs::write(bench.at("rows.txt"), list).expect("writes");
    let file = write(&bench, "train", "[base.data]\nrows = 'rows.txt'");
    bench.ends(&file, &["--dry-run"], 0, &["1 runs"]);
    fs::write(bench.at("rows.txt"), "3\n500\n").expect("writes");
    refused(&["data.rows", "rows.txt: line 2: expected a row number, from 0, of at most 500 rows"]);
    write(&bench, "train", "[base.data]\nmin_position = 1");
    refused(&["data.min_position", "token, document and position"]);

    // The same rows under another name, and in another format.
    fs::copy(&held_out, bench.at("train/acts.npy")).expect("copied");
    write(&bench, "train", "");
    refused(&["stores.held_out", "expected activations that are not trained on, got those of"]);
    npy::write_f64(&bench.at("train/acts.npy"), 200, 16, 2);
    refused(&["stores.held_out", "expected activations that are not trained on, got those of"]);

    // A file of the held-out ones among those to train on.
    npy::write(&bench.at("train/acts.npy"), 500, 16, 1);
    fs::copy(&held_out, bench.at("train/more.npy")).expect("copied");
    refused(&["stores.held_out", "got 1 of its 1 files or stores in", "train as well"]);

    fs::remove_file(bench.at("train/more.npy")).expect("removed");

    fs::write(bench.at("train.txt"), "a text").expect("writes");
    write(&bench, "train.txt", "");
    refused(&["stores.train", "train.txt: expected a .npy file"]);
    write(&bench, "nowhere", "");
    refused(&["stores.train", "nowhere"]);
}

#[test]
fn rows_that_no_scale_can_be_taken_of_are_refused() {
    let bench = bench();
    let refused = |words: &[&str]| refused(&bench, words);
    let held_out = bench.at("held-out/acts.npy");
    npy::write_constant(&bench.at("train/acts.npy"), 500, 16, 0.0);
    let scaled =
        |names: &str| write(&bench, "train", &format!("[axes]\nnormalization = [{names}]"));
    scaled("'none', 'scale'");
    refused(&["stores.train", "expected rows that are not all zeros", "`sae.normalization`"]);
    npy::write_constant(&bench.at("train/acts.npy"), 500, 16, 0.5);
    bench.ends(&scaled("'none', 'scale'"), &["--dry-run"], 0, &["2 runs"]);
    scaled("'none', 'shift_scale'");
    refused(&["stores.train", "expected rows that differ, got a mean squared norm of 0"]);
    npy::write(&bench.at("train/acts.npy"), 500, 16, 1);
    npy::write_constant(&held_out, 200, 16, 0.5);
    write(&bench, "train", "");
    refused(&["stores.held_out", "expected rows that differ"]);
}

#[test]
fn settings_that_no_run_can_have_are_refused_before_any() {
    let bench = bench();
    for (more, words) in [
        ("[base.sae]\nn_features = 0", ["`sae.n_features`: expected at least 1", "got 0"]),
        ("[axes]\nk = [32]", ["`architecture.k`: expected more than 0 and less than", "got 32"]),
        ("[axes]\nk = [0]", ["`architecture.k`: expected more than 0", "got 0"]),
        (
            "[axes]\narchitecture = ['soft']\ngroup_fractions = [[0.01, 0.99]]",
            ["`architecture.group_fractions`: expected groups of at least one", "[0.01, 0.99]"],
        ),
    ] {
        let file = write(&bench, "train", more);
        let text = fs::read_to_string(&file).expect("reads");
        if more.contains("[base.sae]") {
            fs::write(&file, text.replace("sae.n_features = 32\n", "")).expect("writes");
        }
        for args in [&["--dry-run"][..], &[]] {
            bench.ends(&file, args, 2, &words);
        }
    }
    let text = "[planted]\ntrain_rows = 90\nheld_out_rows = 9\ndata = { k_max = 500 }\n\
                [base]\narchitecture = { name = 'topk', k = 2 }\nsae.n_features = 32\n\
                training = { steps = 9, batch_size = 8 }\n";
    let file = bench.at("planted.toml");
    fs::write(&file, text).expect("writes");
    let words = ["planted.data: k_max: expected at most n_features 256, got 500"];
    bench.ends(&file, &["--dry-run"], 2, &words);
    let text = text.replace("k_max = 500", "d_model = 8, model = 'of SAELens'");
    fs::write(&file, text).expect("writes");
    let words = ["planted.data.model: expected nothing", "softsae plant", "of SAELens"];
    bench.ends(&file, &["--dry-run"], 2, &words);
    assert!(!bench.at("out").exists(), "nothing was begun");
}

#[test]
fn a_sweep_without_an_architecture_says_so() {
    let bench = bench();
    let file = write(&bench, "train", "");
    let text = fs::read_to_string(&file).expect("reads");
    for other in ["", "architecture = { k = 2 }"] {
        let text = text.replace("architecture = { name = 'topk', k = 2 }", other);
        fs::write(&file, text).expect("writes");
        bench.ends(&file, &["--dry-run"], 2, &["`architecture`: expected the name of one", "none"]);
    }
}
